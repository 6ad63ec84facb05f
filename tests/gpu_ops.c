/*
 * gpu_ops: every operation on a device against the cpu backend, bit for bit.
 *
 * usage: gpu_ops [DEVICE [quick|speed]]   default: cuda; exit code 77: the device cannot be opened here
 * quick: the same operations, rows cut in fewer ways. speed: how fast its products are instead.
 */
#include <stdio.h>

#include "model/ops/ops_world.h"

enum { SKIPPED = 77 };

typedef struct tally {
    int passed, failed;
} tally;

/* Results in double stand in a record as pairs of words. */
static double value_at(const float *data, size_t index, bool wide)
{
    double value;
    if (!wide)
        return (double)data[index];
    memcpy(&value, data + index - index % 2, sizeof value);
    return value;
}

/* what: of which run, for the one line that is printed where bits differ. */
static void compare(tally *score, const char *name, const char *what, const float *cpu, const float *device,
                    size_t count, bool wide)
{
    size_t differ = 0, first = 0;
    for (size_t i = count; i-- > 0;)
        if (memcmp(cpu + i, device + i, sizeof(float)) != 0) {
            differ++;
            first = i;
        }
    score->passed += differ == 0;
    score->failed += differ > 0;
    if (differ > 0)
        printf("%s, %s: %zu of %zu words differ, the first is %zu: %.17g, on cpu %.17g\n", name, what, differ,
               count, first, value_at(device, first, wide), value_at(cpu, first, wide));
}

static void compare_world(tally *score, rt_ops *cpu, rt_ops *device, int kind, int piece)
{
    world *w = world_of(kind);
    record *a = world_run(cpu, w, piece), *b = world_run(device, w, piece);
    char what[64];
    snprintf(what, sizeof what, "world %d, %d rows a call", kind, piece);
    for (int i = 0; i < R_COUNT; i++)
        compare(score, world_names[i], what, a->data[i], b->data[i], a->count[i],
                i == R_DOT || i == R_GRAM || i == R_CHANGE);
    record_free(a);
    record_free(b);
    world_free(w);
}

/* y (R, N), dx (R, K) and dw (N, K) of one matrix, in memory of the process. */
typedef struct products {
    float *y, *dx, *dw;
} products;

static float *download(rt_ops *ops, float *from, size_t count)
{
    float *to = rt_alloc(count * sizeof(float));
    ops->download(ops, to, from, count * sizeof(float));
    ops->free(ops, from);
    return to;
}

static products multiply(rt_ops *ops, int n, int k, int rows)
{
    size_t nk = (size_t)n * (size_t)k, rk = (size_t)rows * (size_t)k, rn = (size_t)rows * (size_t)n;
    size_t one = sizeof(float);
    float *w = world_random(1, nk), *x_host = world_random(2, rk), *dy_host = world_random(3, rn);
    float *x = world_upload(ops, x_host, rk * one), *dy = world_upload(ops, dy_host, rn * one);
    float *y = ops->alloc(ops, rn * one), *dx = ops->alloc(ops, rk * one), *dw = ops->alloc(ops, nk * one);
    rt_packed *packed = ops->pack(ops, NULL, w, RT_F32, 0, n, n, k);
    ops->matmul(ops, y, n, x, k, packed, rows, false);
    ops->matmul_dx(ops, dx, k, dy, n, packed, rows, false);
    ops->matmul_dw(ops, dw, dy, n, x, k, rows, n, k);
    products result = {download(ops, y, rn), download(ops, dx, rk), download(ops, dw, nk)};
    ops->packed_free(ops, packed);
    ops->free(ops, x);
    ops->free(ops, dy);
    rt_free(w), rt_free(x_host), rt_free(dy_host);
    return result;
}

static void products_free(products *p)
{
    rt_free(p->y), rt_free(p->dx), rt_free(p->dw);
}

/* Chains beyond one block of a cache, several blocks of rows. */
static void compare_long(tally *score, rt_ops *cpu, rt_ops *device, int n, int k, int rows)
{
    products a = multiply(cpu, n, k, rows), b = multiply(device, n, k, rows);
    char what[64];
    snprintf(what, sizeof what, "%d rows, %d to %d", rows, k, n);
    compare(score, "matmul", what, a.y, b.y, (size_t)rows * (size_t)n, false);
    compare(score, "matmul_dx", what, a.dx, b.dx, (size_t)rows * (size_t)k, false);
    compare(score, "matmul_dw", what, a.dw, b.dw, (size_t)n * (size_t)k, false);
    products_free(&a);
    products_free(&b);
}

/* ---- what is too long for a world ---------------------------------------------------------------- */

enum { LONG_PATH = 1200, LONG_ROWS = 300, LONG_PAGES = (LONG_PATH + RT_PAGE - 1) / RT_PAGE,
       LONG_HEADS = 2, LONG_SIZE = 16, LONG_Q = LONG_HEADS * LONG_SIZE,
       LONG_POOL = LONG_PAGES * 2 * RT_PAGE * LONG_SIZE };

/* Attention and its gradient at the end of a long path: each result in memory of the process. */
typedef struct long_path {
    float *out, *dq, *dkv;
} long_path;

static float *uploaded_random(rt_ops *ops, uint64_t stream, size_t count)
{
    float *host = world_random(stream, count), *device = world_upload(ops, host, count * sizeof(float));
    rt_free(host);
    return device;
}

static rt_row *long_rows(rt_ops *ops, int32_t **pages)
{
    int32_t table[LONG_PAGES];
    rt_row rows[LONG_PATH];
    for (int p = 0; p < LONG_PAGES; p++)
        table[p] = p * 7 % LONG_PAGES; /* scattered: 7 and their number have no common factor */
    *pages = world_upload(ops, table, sizeof table);
    for (int r = 0; r < LONG_PATH; r++)
        rows[r] = (rt_row){r, *pages};
    return world_upload(ops, rows, sizeof rows);
}

static long_path attend_long(rt_ops *ops)
{
    size_t one = sizeof(float), queries = (size_t)LONG_ROWS * LONG_Q;
    int32_t *pages = NULL;
    rt_row *at = long_rows(ops, &pages), *last = at + LONG_PATH - LONG_ROWS;
    float *kv_rows = uploaded_random(ops, 1, (size_t)LONG_PATH * LONG_SIZE * 2);
    float *q = uploaded_random(ops, 2, queries), *dout = uploaded_random(ops, 3, queries);
    float *out = ops->alloc(ops, queries * one), *dq = ops->alloc(ops, queries * one);
    float *stats = ops->alloc(ops, (size_t)LONG_ROWS * LONG_HEADS * 2 * one);
    rt_kv_view kv = {ops->alloc(ops, LONG_POOL * one), LONG_PAGES, 0, 1, LONG_SIZE}, dkv = kv;
    dkv.pool = ops->alloc(ops, LONG_POOL * one);
    ops->kv_store(ops, &kv, kv_rows, kv_rows + LONG_SIZE, 2 * LONG_SIZE, at, LONG_PATH);
    ops->attention(ops, out, LONG_Q, stats, q, LONG_Q, LONG_HEADS, &kv, last, LONG_ROWS);
    ops->attention_backward(ops, dq, LONG_Q, &dkv, dout, LONG_Q, out, LONG_Q, stats, q, LONG_Q, LONG_HEADS,
                            &kv, last, LONG_ROWS);
    long_path result = {download(ops, out, queries), download(ops, dq, queries),
                        download(ops, dkv.pool, LONG_POOL)};
    void *all[] = {pages, at, kv_rows, q, dout, stats, kv.pool};
    for (size_t i = 0; i < RT_COUNT(all); i++)
        ops->free(ops, all[i]);
    return result;
}

static void compare_path(tally *score, rt_ops *cpu, rt_ops *device)
{
    long_path a = attend_long(cpu), b = attend_long(device);
    size_t queries = (size_t)LONG_ROWS * LONG_Q;
    compare(score, "attention", "a long path", a.out, b.out, queries, false);
    compare(score, "attention_backward dq", "a long path", a.dq, b.dq, queries, false);
    compare(score, "attention_backward dkv", "a long path", a.dkv, b.dkv, LONG_POOL, false);
    rt_free(a.out), rt_free(a.dq), rt_free(a.dkv);
    rt_free(b.out), rt_free(b.dq), rt_free(b.dkv);
}

enum { WORDS = 20000, WORD_ROWS = 3 }; /* a vocabulary as large models have */

/* Log-probabilities, then their sums, of rows of logits; the gradient goes into the logits. */
static float *logprobs_of(rt_ops *ops, float **dlogits)
{
    static const int32_t targets[WORD_ROWS] = {17, -1, WORDS - 1}, first[WORD_ROWS + 1] = {0, 1, 1, 2};
    float *logits = uploaded_random(ops, 4, (size_t)WORD_ROWS * WORDS), *g = uploaded_random(ops, 5, 2);
    int32_t *target = world_upload(ops, targets, sizeof targets), wanted[2] = {17, WORDS - 1};
    int32_t *begin = world_upload(ops, first, sizeof first), *list = world_upload(ops, wanted, sizeof wanted);
    float *both = ops->alloc(ops, 2 * WORD_ROWS * sizeof(float)), *lse = both + WORD_ROWS;
    ops->logprob(ops, both, lse, logits, target, WORD_ROWS, WORDS, 0.7f);
    ops->logprob_backward(ops, logits, lse, begin, list, g, WORD_ROWS, WORDS, 0.7f);
    *dlogits = download(ops, logits, (size_t)WORD_ROWS * WORDS);
    ops->free(ops, g), ops->free(ops, target), ops->free(ops, begin), ops->free(ops, list);
    return download(ops, both, (size_t)2 * WORD_ROWS);
}

static void compare_words(tally *score, rt_ops *cpu, rt_ops *device)
{
    float *dlogits[2], *a = logprobs_of(cpu, &dlogits[0]), *b = logprobs_of(device, &dlogits[1]);
    compare(score, "logprob and lse", "many words", a, b, (size_t)2 * WORD_ROWS, false);
    compare(score, "logprob_backward", "many words", dlogits[0], dlogits[1], (size_t)WORD_ROWS * WORDS,
            false);
    rt_free(a), rt_free(b), rt_free(dlogits[0]), rt_free(dlogits[1]);
}

/* ---- speed --------------------------------------------------------------------------------------- */

typedef struct shape {
    const char *what;
    int n, k, rows;
} shape;

/* Seconds of one product of many; a download waits for all of them. */
static double timed(rt_ops *ops, const shape *s, int which)
{
    enum { TIMES = 20 };
    size_t one = sizeof(float), n = (size_t)s->n, k = (size_t)s->k, rows = (size_t)s->rows;
    float *host = rt_alloc(n * k * one), got = 0;
    float *x = ops->alloc(ops, rows * k * one), *y = ops->alloc(ops, rows * n * one);
    float *dw = ops->alloc(ops, n * k * one);
    rt_packed *w = ops->pack(ops, NULL, host, RT_F32, 0, s->n, s->n, s->k);
    int64_t begun = 0;
    for (int i = -3; i < TIMES; i++) {
        if (i == 0) {
            ops->download(ops, &got, y, one);
            begun = rt_now_ns();
        }
        if (which == 0)
            ops->matmul(ops, y, s->n, x, s->k, w, s->rows, false);
        else if (which == 1)
            ops->matmul_dx(ops, x, s->k, y, s->n, w, s->rows, false);
        else
            ops->matmul_dw(ops, dw, y, s->n, x, s->k, s->rows, s->n, s->k);
    }
    ops->download(ops, &got, y, one);
    double seconds = (double)(rt_now_ns() - begun) * 1e-9 / TIMES;
    ops->packed_free(ops, w);
    ops->free(ops, x), ops->free(ops, y), ops->free(ops, dw);
    rt_free(host);
    return seconds;
}

static void speed(rt_ops *ops)
{
    static const shape shapes[] = {{"4096 × 4096, 4096 rows", 4096, 4096, 4096},
                                   {"SmolLM2's gate and up, 4096 rows", 3072, 576, 4096},
                                   {"SmolLM2's head, 1024 rows", 49152, 576, 1024},
                                   {"SmolLM2's gate and up, 64 rows", 3072, 576, 64},
                                   {"SmolLM2's gate and up, 1 row", 3072, 576, 1}};
    static const char *const names[] = {"forward", "dx", "dw"};
    printf("%s %s, TFLOP/s of products\n", ops->name, ops->isa);
    for (size_t i = 0; i < RT_COUNT(shapes); i++) {
        const shape *s = &shapes[i];
        printf("%-34s", s->what);
        for (int which = 0; which < 3; which++)
            printf("  %s %.3f", names[which],
                   2e-12 * s->n * s->k * s->rows / timed(ops, s, which));
        printf("\n");
    }
}

int main(int argc, char **argv)
{
    static const int pieces[] = {WORLD_ROWS, 7, 1, 16, 33};
    setvbuf(stdout, NULL, _IOLBF, 0); /* what it got to is seen where it is stopped */
    rt_ops *cpu = NULL, *device = NULL;
    rt_error err;
    int code = rt_ops_open(&device, argc > 1 ? argv[1] : "cuda", 2, &err);
    if (code != RT_OK) {
        printf("skipped: %s\n", err.message);
        return SKIPPED;
    }
    if (argc > 2 && strcmp(argv[2], "speed") == 0) {
        speed(device);
        rt_ops_free(&device);
        return 0;
    }
    code = rt_ops_open(&cpu, "cpu", 1, &err);
    if (code != RT_OK) {
        fprintf(stderr, "gpu_ops: %s\n", err.message);
        return rt_exit_code(code);
    }
    printf("%s %s against %s %s\n", device->name, device->isa, cpu->name, cpu->isa);
    tally score = {0};
    size_t cuts = argc > 2 && strcmp(argv[2], "quick") == 0 ? 2 : RT_COUNT(pieces);
    for (int kind = 0; kind < WORLDS; kind++) {
        for (size_t i = 0; i < cuts; i++)
            compare_world(&score, cpu, device, kind, pieces[i]);
        printf("world %d of %d: %d passed, %d failed so far\n", kind + 1, WORLDS, score.passed, score.failed);
    }
    compare_long(&score, cpu, device, 35, 1001, 410);
    compare_long(&score, cpu, device, 700, 512, 300);
    compare_long(&score, cpu, device, 640, 30, 640); /* tiles of 64, and of 128 */
    compare_long(&score, cpu, device, 1280, 20, 1280);
    compare_path(&score, cpu, device);
    compare_words(&score, cpu, device);
    printf("%d passed, %d failed\n", score.passed, score.failed);
    rt_ops_free(&cpu);
    rt_ops_free(&device);
    return score.failed > 0;
}
