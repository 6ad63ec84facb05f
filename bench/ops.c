/*
 * bench_ops: how fast the operations of the cpu backend are, as CSV: operation, sizes,
 * microseconds, GFLOP/s and its share of the roof, GB/s of packed weights and its share.
 * Both roofs are measured in the same run: a loop of fused multiply-adds that stay in registers,
 * and a sum over an array far larger than a cache; each by one thread, times the thread count.
 *
 * usage: bench_ops [DEVICE [THREADS]]      default: cpu 1
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/config.h"
#include "model/ops/ops.h"

#define ROOF_CHAINS 12 /* independent chains hide the latency of the multiply-add */

#if defined(__x86_64__)
#include <immintrin.h>

#define LANES 8
__attribute__((target("avx2,fma"))) static float roof_loop(int64_t steps)
{
    __m256 chain[ROOF_CHAINS], factor = _mm256_set1_ps(0.999f), sum = _mm256_setzero_ps();
    for (int i = 0; i < ROOF_CHAINS; i++)
        chain[i] = _mm256_set1_ps((float)i);
    for (int64_t s = 0; s < steps; s++)
#pragma GCC unroll 12
        for (int i = 0; i < ROOF_CHAINS; i++)
            chain[i] = _mm256_fmadd_ps(chain[i], factor, factor);
    for (int i = 0; i < ROOF_CHAINS; i++)
        sum = _mm256_add_ps(sum, chain[i]);
    return _mm256_cvtss_f32(sum);
}

__attribute__((target("avx2"))) static float read_loop(const float *data, size_t count)
{
    __m256 a = _mm256_setzero_ps(), b = a, c = a, d = a;
    for (size_t i = 0; i + 32 <= count; i += 32) {
        a = _mm256_add_ps(a, _mm256_load_ps(data + i));
        b = _mm256_add_ps(b, _mm256_load_ps(data + i + 8));
        c = _mm256_add_ps(c, _mm256_load_ps(data + i + 16));
        d = _mm256_add_ps(d, _mm256_load_ps(data + i + 24));
    }
    return _mm256_cvtss_f32(_mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d)));
}
#else
#define LANES 1
static float roof_loop(int64_t steps)
{
    float chain[ROOF_CHAINS] = {0}, sum = 0;
    for (int64_t s = 0; s < steps; s++)
        for (int i = 0; i < ROOF_CHAINS; i++)
            chain[i] = chain[i] * 0.999f + 0.999f;
    for (int i = 0; i < ROOF_CHAINS; i++)
        sum += chain[i];
    return sum;
}

static float read_loop(const float *data, size_t count)
{
    float lanes[32] = {0};
    for (size_t i = 0; i + 32 <= count; i += 32)
        for (int j = 0; j < 32; j++)
            lanes[j] += data[i + (size_t)j];
    return lanes[0];
}
#endif

typedef struct bench {
    rt_ops *ops;
    double flops, bytes; /* roofs a second */
    volatile float sink;
} bench;

static void measure_roofs(bench *b)
{
    size_t count = (size_t)32 << 20;
    float *data = b->ops->alloc(b->ops, count * sizeof(float));
    memset(data, 1, count * sizeof(float));
    /* Short bursts, best of many: other work on the machine must not lower a roof. */
    for (int i = 0; i < 200; i++) {
        int64_t steps = 50000, start = rt_now_ns();
        b->sink = roof_loop(steps);
        double ns = (double)(rt_now_ns() - start);
        b->flops = RT_MAX(b->flops, 2e9 * ROOF_CHAINS * LANES * (double)steps / ns);
    }
    for (int i = 0; i < 20; i++) {
        int64_t start = rt_now_ns();
        b->sink = read_loop(data, count);
        double ns = (double)(rt_now_ns() - start);
        b->bytes = RT_MAX(b->bytes, 1e9 * (double)count * sizeof(float) / ns);
    }
    b->flops *= b->ops->threads;
    b->bytes *= b->ops->threads;
    b->ops->free(b->ops, data);
}

typedef void work_function(rt_ops *ops, void *context);

/* Best time of a call in seconds: repeats until 60 ms have passed, at least 5 times. */
static double best_time(rt_ops *ops, work_function *work, void *context)
{
    int64_t best = INT64_MAX, end = rt_now_ns() + 60000000;
    for (int i = 0; i < 5 || rt_now_ns() < end; i++) {
        int64_t start = rt_now_ns();
        work(ops, context);
        best = RT_MIN(best, rt_now_ns() - start);
    }
    return (double)best * 1e-9;
}

static void report(const bench *b, const char *name, const char *sizes, double seconds,
                   double flops, double bytes)
{
    printf("%s,%s,%.1f,%.1f,%.0f%%,%.1f,%.0f%%\n", name, sizes, seconds * 1e6,
           flops / seconds * 1e-9, 100 * flops / seconds / b->flops, bytes / seconds * 1e-9,
           100 * bytes / seconds / b->bytes);
    fflush(stdout);
}

typedef struct matmul {
    float *x, *y, *dw;
    rt_packed *w;
    int rows, n, k;
} matmul;

static void run_matmul(rt_ops *ops, void *context)
{
    matmul *m = context;
    ops->matmul(ops, m->y, m->n, m->x, m->k, m->w, m->rows, false);
}

static void run_dx(rt_ops *ops, void *context)
{
    matmul *m = context;
    ops->matmul_dx(ops, m->x, m->k, m->y, m->n, m->w, m->rows, false);
}

static void run_dw(rt_ops *ops, void *context)
{
    matmul *m = context;
    ops->matmul_dw(ops, m->dw, m->y, m->n, m->x, m->k, m->rows, m->n, m->k);
}

static float *random_floats(rt_ops *ops, uint64_t stream, size_t count)
{
    float *data = ops->alloc(ops, count * sizeof(float));
    for (size_t i = 0; i < count; i++)
        data[i] = (float)(2 * rt_uniform(1, stream, i) - 1);
    return data;
}

static void bench_matmul(const bench *b, int n, int k, int dtype, bool training)
{
    static const int rows[] = {1, 2, 3, 8, 13, 32, 64, 128, 512, 2048};
    rt_ops *ops = b->ops;
    matmul m = {.n = n, .k = k};
    float *w = random_floats(ops, 1, (size_t)n * (size_t)k);
    uint16_t *words = rt_alloc((size_t)n * (size_t)k * sizeof *words);
    for (size_t i = 0; i < (size_t)n * (size_t)k; i++)
        words[i] = rt_to_bf16(w[i]);
    m.w = ops->pack(ops, NULL, dtype == RT_F32 ? (void *)w : (void *)words, dtype, 0, n, n, k);
    m.x = random_floats(ops, 2, (size_t)2048 * (size_t)k);
    m.y = random_floats(ops, 3, (size_t)2048 * (size_t)n);
    m.dw = ops->alloc(ops, (size_t)n * (size_t)k * sizeof(float));
    for (size_t i = 0; i < RT_COUNT(rows); i++) {
        char sizes[64];
        m.rows = rows[i];
        double flops = 2.0 * m.rows * n * k, bytes = (double)ops->packed_bytes(m.w);
        snprintf(sizes, sizeof sizes, "%d x %d x %d %s", m.rows, n, k,
                 dtype == RT_F32 ? "f32" : "bf16");
        report(b, "matmul", sizes, best_time(ops, run_matmul, &m), flops, bytes);
        if (!training || m.rows < 64)
            continue;
        report(b, "matmul_dx", sizes, best_time(ops, run_dx, &m), flops, bytes);
        report(b, "matmul_dw", sizes, best_time(ops, run_dw, &m), flops, bytes);
    }
    ops->packed_free(ops, m.w);
    rt_free(words);
    ops->free(ops, w);
    ops->free(ops, m.x);
    ops->free(ops, m.y);
    ops->free(ops, m.dw);
}

enum { S = 24, H = 4, KH = 2, ROWS_MAX = 512, PAGES = 2048 };

typedef struct attention {
    float *q, *out, *dq, *stats;
    rt_kv_view kv, dkv;
    rt_row at[ROWS_MAX];
    int rows;
} attention;

static void run_attention(rt_ops *ops, void *context)
{
    attention *a = context;
    ops->attention(ops, a->out, H * S, a->stats, a->q, H * S, H, &a->kv, a->at, a->rows);
}

static void run_attention_backward(rt_ops *ops, void *context)
{
    attention *a = context;
    ops->attention_backward(ops, a->dq, H * S, &a->dkv, a->out, H * S, a->out, H * S, a->stats,
                            a->q, H * S, H, &a->kv, a->at, a->rows);
}

/* decode: 128 rows on paths of their own at position 255; else one path of 512 rows. */
static void bench_attention(const bench *b, bool decode)
{
    rt_ops *ops = b->ops;
    size_t floats = (size_t)KH * PAGES * 32 * S;
    attention a = {.rows = decode ? 128 : ROWS_MAX};
    a.q = random_floats(ops, 1, ROWS_MAX * H * S);
    a.out = random_floats(ops, 2, ROWS_MAX * H * S);
    a.dq = random_floats(ops, 3, ROWS_MAX * H * S);
    a.stats = random_floats(ops, 4, ROWS_MAX * H * 2);
    a.kv = (rt_kv_view){random_floats(ops, 5, floats), PAGES, 0, KH, S};
    a.dkv = (rt_kv_view){ops->alloc(ops, floats * sizeof(float)), PAGES, 0, KH, S};
    int32_t *pages = rt_alloc(PAGES * sizeof *pages);
    double positions = 0;
    for (int i = 0; i < PAGES; i++)
        pages[i] = i;
    for (int r = 0; r < a.rows; r++) {
        a.at[r] = decode ? (rt_row){255, pages + r * 16} : (rt_row){r, pages};
        positions += a.at[r].position + 1;
    }
    const char *sizes = decode ? "128 paths x 256 positions" : "1 path x 512 positions";
    double flops = 4.0 * positions * H * S;
    report(b, "attention", sizes, best_time(ops, run_attention, &a), flops,
           positions * KH * S * 8);
    if (!decode)
        report(b, "attention_backward", sizes, best_time(ops, run_attention_backward, &a),
               flops * 2.5, 0);
    void *all[] = {a.q, a.out, a.dq, a.stats, a.kv.pool, a.dkv.pool};
    for (size_t i = 0; i < RT_COUNT(all); i++)
        ops->free(ops, all[i]);
    rt_free(pages);
}

typedef struct rowwise {
    float *a, *b, *c;
    int32_t ids[2048];
    int rows, d;
} rowwise;

static void run_rmsnorm(rt_ops *ops, void *context)
{
    rowwise *w = context;
    ops->rmsnorm(ops, w->a, w->c, w->b, NULL, w->rows, w->d, 1e-5f);
}

static void run_swiglu(rt_ops *ops, void *context)
{
    rowwise *w = context;
    ops->swiglu(ops, w->a, w->b, w->rows, w->d / 2);
}

static void run_logprob(rt_ops *ops, void *context)
{
    rowwise *w = context;
    ops->logprob(ops, w->a, w->c, w->b, w->ids, w->rows, w->d, 1);
}

static void run_rope(rt_ops *ops, void *context)
{
    rowwise *w = context;
    static const float frequencies[S / 2] = {1, 0.5f, 0.25f, 0.125f};
    static rt_row at[2048];
    rt_rope rope = {S, frequencies};
    ops->rope(ops, w->a, H * S, H, &rope, at, w->rows, 1);
}

static void run_adamw(rt_ops *ops, void *context)
{
    rowwise *w = context;
    size_t count = (size_t)w->rows * (size_t)w->d / 2;
    ops->adamw(ops, w->a, w->a + count, w->b, w->b + count, count, 1, 1e-3f, 0.9f, 0.99f, 1e-8f,
               0, 1, 1);
}

static void run_dot(rt_ops *ops, void *context)
{
    rowwise *w = context;
    ops->dot(ops, w->b, w->b, (size_t)w->rows * (size_t)w->d);
}

static void bench_rowwise(const bench *b)
{
    rt_ops *ops = b->ops;
    rowwise w = {.rows = 2048, .d = 384};
    double elements = 2048 * 384;
    w.a = ops->alloc(ops, (size_t)elements * 4);
    w.b = random_floats(ops, 1, (size_t)elements);
    w.c = ops->alloc(ops, 2048 * 4);
    report(b, "rmsnorm", "2048 x 384", best_time(ops, run_rmsnorm, &w), 4 * elements, 8 * elements);
    report(b, "swiglu", "2048 x 192", best_time(ops, run_swiglu, &w), 10 * elements, 6 * elements);
    report(b, "logprob", "2048 x 384", best_time(ops, run_logprob, &w), 10 * elements,
           4 * elements);
    report(b, "rope", "2048 x 4 x 24", best_time(ops, run_rope, &w), 2048 * H * S * 3,
           2048 * H * S * 8);
    report(b, "dot", "786432", best_time(ops, run_dot, &w), 2 * elements, 4 * elements);
    memset(w.a, 0, (size_t)elements * 4);
    memset(w.b, 0, (size_t)elements * 4);
    report(b, "adamw", "393216", best_time(ops, run_adamw, &w), 8 * elements, 14 * elements);
    ops->free(ops, w.a);
    ops->free(ops, w.b);
    ops->free(ops, w.c);
}

int main(int argc, char **argv)
{
    rt_error err;
    bench b = {0};
    int code = rt_ops_open(&b.ops, argc > 1 ? argv[1] : "cpu", argc > 2 ? atoi(argv[2]) : 1, &err);
    if (code != RT_OK) {
        fprintf(stderr, "bench_ops: %s\n", err.message);
        return rt_exit_code(code);
    }
    if (!b.ops->host) {
        fprintf(stderr, "bench_ops: device %s: this measures host backends; use retake bench\n", b.ops->name);
        rt_ops_free(&b.ops);
        return rt_exit_code(RT_ERR_USAGE);
    }
    measure_roofs(&b);
    printf("# %s %s, %d thread(s); roofs: %.1f GFLOP/s, %.1f GB/s\n", b.ops->name, b.ops->isa,
           b.ops->threads, b.flops * 1e-9, b.bytes * 1e-9);
    printf("operation,sizes,microseconds,gflops,gflops_share,gbytes,gbytes_share\n");
    bench_matmul(&b, 192, 96, RT_F32, true);
    bench_matmul(&b, 96, 192, RT_F32, true);
    bench_matmul(&b, 300, 96, RT_F32, true);
    bench_matmul(&b, 1536, 576, RT_F32, true);
    bench_matmul(&b, 1536, 1536, RT_BF16, false);
    bench_matmul(&b, 8192, 1536, RT_F32, false);
    bench_attention(&b, true);
    bench_attention(&b, false);
    bench_rowwise(&b);
    rt_ops_free(&b.ops);
    return 0;
}
