/*
 * One small world on which every operation can run, for the tests of ops: random inputs, two paths
 * of tokens that share pages, and a record with the result of each operation. World and record are in
 * memory of the process, whatever the backend. Inputs are uniform
 * in [−1, 1], which the bounds in `world_bounds` use.
 */
#ifndef RT_OPS_WORLD_H
#define RT_OPS_WORLD_H

#include <math.h>
#include <string.h>

#include "base/base.h"
#include "base/config.h"
#include "model/ops/ops.h"

#define WORLD_ROWS 200
#define WORLD_FORK 40 /* rows 130… continue row 39 of the first path */
#define WORLD_FIRST 130
#define WORLD_PAGES 24

typedef struct world {
    int d, f, heads, kv_heads, s, v, dtype;
    float *x, *dy, *wide, *dwide, *norm, *q, *k, *logits, *frequencies, *g; // rows × …
    void *w, *table;   // (F, D), (V, D) words of dtype
    int32_t ids[WORLD_ROWS], shuffled[WORLD_ROWS], target[WORLD_ROWS], first[WORLD_ROWS + 1];
    int32_t targets[2 * WORLD_ROWS];
    int32_t pages[2][WORLD_PAGES];
    rt_row at[WORLD_ROWS];
} world;

enum result {
    R_MATMUL, R_MATMUL_ADD, R_DX, R_DW, R_EMBED, R_DTABLE, R_GATHER, R_SCATTER,
    R_NORM, R_RSTD, R_NORM_DX, R_NORM_DW,
    R_ROPE, R_ATTENTION, R_STATS, R_DQ, R_DKV, R_GATHER_K, R_GATHER_V, R_SWIGLU, R_SWIGLU_DX,
    R_SWIGLU_Y, R_ADD, R_AXPY, R_MULTIPLY, R_LOGPROB, R_LSE, R_DLOGITS, R_ADAM_W, R_ADAM_M,
    R_ADAM_V, R_DOT, R_GRAM, R_CHANGE, R_CHANGE_SUM, R_CHANGE_SEEN, R_COUNT
};

static const char *const world_names[R_COUNT] = {
    "matmul", "matmul accumulate", "matmul_dx", "matmul_dw", "embed", "embed_backward",
    "gather", "scatter", "rmsnorm",
    "rstd", "rmsnorm_backward dx", "rmsnorm_backward dw", "rope", "attention", "attention stats",
    "attention_backward dq", "attention_backward dkv", "kv_gather k", "kv_gather v", "swiglu",
    "swiglu_backward", "swiglu_backward y", "add", "axpy", "multiply", "logprob", "lse", "logprob_backward",
    "adamw w", "adamw m", "adamw v", "dot", "gram", "change", "change sum",
    "change seen"};

typedef struct record {
    float *data[R_COUNT];
    size_t count[R_COUNT];
} record;

static inline float world_uniform(uint64_t stream, uint64_t index)
{
    return (float)(2 * rt_uniform(7, stream, index) - 1);
}

static inline float *world_random(uint64_t stream, size_t count)
{
    float *data = rt_alloc(count * sizeof(float));
    for (size_t i = 0; i < count; i++)
        data[i] = world_uniform(stream, i);
    return data;
}

static inline void *world_words(uint64_t stream, size_t count, int dtype)
{
    float *data = world_random(stream, count);
    if (dtype == RT_F32)
        return data;
    uint16_t *words = rt_alloc(count * sizeof *words);
    for (size_t i = 0; i < count; i++)
        words[i] = rt_to_bf16(data[i]);
    rt_free(data);
    return words;
}

/* Floats a row of wide and dwide. */
static inline size_t world_wide(const world *w)
{
    return (size_t)RT_MAX(2 * w->f, w->heads * w->s);
}

/* sizes: D, F, H, K, S, V, dtype */
static inline world *world_new(int d, int f, int heads, int kv_heads, int s, int v, int dtype)
{
    world *w = rt_alloc(sizeof *w);
    size_t rows = WORLD_ROWS;
    *w = (world){.d = d, .f = f, .heads = heads, .kv_heads = kv_heads, .s = s, .v = v,
                 .dtype = dtype};
    w->x = world_random(1, rows * (size_t)d);
    w->dy = world_random(2, rows * (size_t)d);
    w->wide = world_random(3, rows * world_wide(w));
    w->dwide = world_random(4, rows * world_wide(w));
    w->norm = world_random(5, (size_t)d);
    w->q = world_random(6, rows * (size_t)(heads * s));
    w->k = world_random(7, rows * (size_t)(kv_heads * s) * 2);
    w->logits = world_random(8, rows * (size_t)v);
    w->frequencies = rt_alloc((size_t)s / 2 * sizeof(float));
    w->g = world_random(9, 2 * rows);
    w->w = world_words(10, (size_t)f * (size_t)d, dtype);
    w->table = world_words(11, (size_t)v * (size_t)d, dtype);
    for (int i = 0; i < s / 2; i++)
        w->frequencies[i] = (float)pow(10000, -2.0 * i / s);
    for (int r = 0; r < WORLD_ROWS; r++) {
        bool second = r >= WORLD_FIRST;
        w->ids[r] = (int32_t)rt_below(7, 12, (uint64_t)r, (uint32_t)v);
        w->shuffled[r] = (r * 77 + 5) % WORLD_ROWS; /* each row once: 77 and their number share no factor */
        w->target[r] = r % 5 ? (int32_t)rt_below(7, 13, (uint64_t)r, (uint32_t)v) : -1;
        w->first[r + 1] = w->first[r] + r % 3;
        w->at[r] = (rt_row){second ? r - WORLD_FIRST + WORLD_FORK : r, w->pages[second]};
    }
    for (int e = 0; e < 2 * WORLD_ROWS; e++)
        w->targets[e] = (int32_t)rt_below(7, 14, (uint64_t)e, (uint32_t)v);
    for (int p = 0; p < WORLD_PAGES / 2; p++) { /* scattered, the first two shared */
        w->pages[0][p] = (5 * p + 3) % WORLD_PAGES;
        w->pages[1][p] = p < WORLD_FORK / RT_PAGE ? w->pages[0][p]
                                                  : (5 * (p + 12) + 3) % WORLD_PAGES;
    }
    return w;
}

/* Worlds for tests of equal bits: the first WORLDS_ANY for every device, all of them for one whose
 * kernels differ by head size. */
enum { WORLDS_ANY = 5, WORLDS = 8 };

static inline world *world_of(int kind)
{
    switch (kind) {
    case 0: return world_new(96, 192, 4, 2, 24, 301, RT_F32);
    case 1: return world_new(40, 83, 3, 1, 10, 61, RT_BF16);
    case 2: return world_new(64, 330, 4, 4, 32, 130, RT_BF16);
    /* many small heads, of which several are attended to at once */
    case 3: return world_new(32, 48, 7, 7, 16, 40, RT_F32);
    case 4: return world_new(32, 48, 6, 3, 16, 40, RT_F32);
    /* the head sizes of large models */
    case 5: return world_new(32, 48, 3, 1, 64, 40, RT_F32);
    case 6: return world_new(32, 48, 4, 2, 128, 1100, RT_F32);
    default: return world_new(32, 48, 2, 1, 256, 40, RT_F32);
    }
}

static inline void world_free(world *w)
{
    void *all[] = {w->x, w->dy, w->wide, w->dwide, w->norm, w->q, w->k, w->logits,
                   w->frequencies, w->g, w->w, w->table, w};
    for (size_t i = 0; i < RT_COUNT(all); i++)
        rt_free(all[i]);
}

static inline rt_kv_view world_pool(const world *w, float *pool)
{
    return (rt_kv_view){pool, WORLD_PAGES, 1, w->kv_heads, w->s};
}

static inline size_t world_pool_floats(const world *w)
{
    return (size_t)(2 * w->kv_heads * WORLD_PAGES * 32 * w->s);
}

static inline record *record_new(const world *w)
{
    record *to = rt_alloc(sizeof *to);
    size_t rows = WORLD_ROWS, d = (size_t)w->d, f = (size_t)w->f, v = (size_t)w->v;
    size_t q = (size_t)(w->heads * w->s), k = (size_t)(w->kv_heads * w->s);
    size_t counts[R_COUNT] = {
        [R_MATMUL] = rows * f, [R_MATMUL_ADD] = rows * f, [R_DX] = rows * d, [R_DW] = f * d,
        [R_EMBED] = rows * d, [R_DTABLE] = v * d, [R_GATHER] = rows * d, [R_SCATTER] = rows * d,
        [R_NORM] = rows * d, [R_RSTD] = rows,
        [R_NORM_DX] = rows * d, [R_NORM_DW] = d, [R_ROPE] = rows * q, [R_ATTENTION] = rows * q,
        [R_STATS] = rows * (size_t)w->heads * 2, [R_DQ] = rows * q,
        [R_DKV] = world_pool_floats(w), [R_GATHER_K] = rows * k, [R_GATHER_V] = rows * k,
        [R_SWIGLU] = rows * f, [R_SWIGLU_DX] = rows * f * 2, [R_SWIGLU_Y] = rows * f,
        [R_ADD] = rows * d, [R_AXPY] = rows * d, [R_MULTIPLY] = rows * d, [R_LOGPROB] = rows,
        [R_LSE] = rows, [R_DLOGITS] = rows * v,
        [R_ADAM_W] = rows * d, [R_ADAM_M] = rows * d, [R_ADAM_V] = rows * d, [R_DOT] = 2, [R_GRAM] = 2 * 9,
        [R_CHANGE] = 2, [R_CHANGE_SUM] = rows * d, [R_CHANGE_SEEN] = rows * d};
    for (int i = 0; i < R_COUNT; i++) {
        to->count[i] = counts[i];
        to->data[i] = rt_alloc(counts[i] * sizeof(float));
    }
    return to;
}

static inline void record_free(record *r)
{
    for (int i = 0; i < R_COUNT; i++)
        rt_free(r->data[i]);
    rt_free(r);
}

/* ---- a run on a backend ----------------------------------------------------------------------- */

/* Inputs of the operations, and what they are at work on, in backend memory. Names as in world. */
typedef struct stage {
    rt_ops *ops;
    const world *w;
    float *x, *dy, *wide, *dwide, *norm, *q, *k, *logits, *frequencies, *g;
    int32_t *ids, *shuffled, *target, *first, *targets, *pages;
    rt_row *at;
    rt_packed *matrix, *table;
    rt_kv_view kv;
    float *to[R_COUNT];
} stage;

static inline void *world_upload(rt_ops *ops, const void *from, size_t bytes)
{
    void *to = ops->alloc(ops, bytes);
    RT_ASSERT(to != NULL);
    ops->upload(ops, to, from, bytes);
    return to;
}

/* Between memory of the backend. */
static inline void world_copy(rt_ops *ops, float *to, const float *from, size_t count)
{
    if (ops->host) {
        memcpy(to, from, count * sizeof(float));
        return;
    }
    float *between = rt_alloc(count * sizeof(float));
    ops->download(ops, between, from, count * sizeof(float));
    ops->upload(ops, to, between, count * sizeof(float));
    rt_free(between);
}

/* The rows, with page tables that the backend can read. */
static inline rt_row *stage_rows(rt_ops *ops, const world *w, const int32_t *pages)
{
    rt_row at[WORLD_ROWS];
    for (int r = 0; r < WORLD_ROWS; r++)
        at[r] = (rt_row){w->at[r].position, pages + (w->at[r].page_table - w->pages[0])};
    return world_upload(ops, at, sizeof at);
}

static inline rt_kv_view stage_pool(rt_ops *ops, const world *w)
{
    float *pool = rt_alloc(world_pool_floats(w) * sizeof(float));
    for (size_t i = 0; i < world_pool_floats(w); i++)
        pool[i] = NAN; /* what was never stored must never be used */
    rt_kv_view kv = world_pool(w, world_upload(ops, pool, world_pool_floats(w) * sizeof(float)));
    rt_free(pool);
    return kv;
}

static inline void stage_open(stage *s, rt_ops *ops, const world *w, const record *sizes)
{
    size_t one = sizeof(float), rows = WORLD_ROWS * one, d = (size_t)w->d;
    *s = (stage){
        .ops = ops, .w = w,
        .x = world_upload(ops, w->x, rows * d),
        .dy = world_upload(ops, w->dy, rows * d),
        .wide = world_upload(ops, w->wide, rows * world_wide(w)),
        .dwide = world_upload(ops, w->dwide, rows * world_wide(w)),
        .norm = world_upload(ops, w->norm, d * one),
        .q = world_upload(ops, w->q, rows * (size_t)(w->heads * w->s)),
        .k = world_upload(ops, w->k, rows * (size_t)(w->kv_heads * w->s) * 2),
        .logits = world_upload(ops, w->logits, rows * (size_t)w->v),
        .frequencies = world_upload(ops, w->frequencies, (size_t)w->s / 2 * one),
        .g = world_upload(ops, w->g, 2 * rows),
        .ids = world_upload(ops, w->ids, sizeof w->ids),
        .shuffled = world_upload(ops, w->shuffled, sizeof w->shuffled),
        .target = world_upload(ops, w->target, sizeof w->target),
        .first = world_upload(ops, w->first, sizeof w->first),
        .targets = world_upload(ops, w->targets, sizeof w->targets),
        .pages = world_upload(ops, w->pages, sizeof w->pages),
        .matrix = ops->pack(ops, NULL, w->w, w->dtype, 0, w->f, w->f, w->d),
        .table = ops->pack(ops, NULL, w->table, w->dtype, 0, w->v, w->v, w->d),
        .kv = stage_pool(ops, w)};
    s->at = stage_rows(ops, w, s->pages);
    for (int i = 0; i < R_COUNT; i++)
        s->to[i] = ops->alloc(ops, sizes->count[i] * one);
}

static inline void stage_close(stage *s)
{
    rt_ops *ops = s->ops;
    void *all[] = {s->x, s->dy, s->wide, s->dwide, s->norm, s->q, s->k, s->logits, s->frequencies,
                   s->g, s->ids, s->shuffled, s->target, s->first, s->targets, s->pages, s->at, s->kv.pool};
    for (size_t i = 0; i < RT_COUNT(all); i++)
        ops->free(ops, all[i]);
    for (int i = 0; i < R_COUNT; i++)
        ops->free(ops, s->to[i]);
    ops->packed_free(ops, s->matrix);
    ops->packed_free(ops, s->table);
}

/* Matmul and the operations on rows of the residual stream, rows first … first+n−1. */
static inline void run_linear(const stage *s, int first, int n)
{
    rt_ops *ops = s->ops;
    int d = s->w->d, f = s->w->f;
    size_t at = (size_t)first * (size_t)d, wide = (size_t)first * (size_t)f;
    size_t count = (size_t)n * (size_t)d;
    float *const *to = s->to;
    const float *x = s->x + at, *dy = s->dy + at;
    ops->matmul(ops, to[R_MATMUL] + wide, f, x, d, s->matrix, n, false);
    world_copy(ops, to[R_MATMUL_ADD] + wide, s->dwide + wide, (size_t)n * (size_t)f);
    ops->matmul(ops, to[R_MATMUL_ADD] + wide, f, x, d, s->matrix, n, true);
    ops->matmul_dx(ops, to[R_DX] + at, d, s->wide + wide, f, s->matrix, n, false);
    ops->matmul_dw(ops, to[R_DW], s->wide + wide, f, x, d, n, f, d);
    ops->embed(ops, to[R_EMBED] + at, s->ids + first, s->table, n);
    ops->embed_backward(ops, to[R_DTABLE], s->ids + first, dy, n, d);
    ops->gather(ops, to[R_GATHER] + at, s->x, s->shuffled + first, n, d);
    ops->scatter(ops, to[R_SCATTER], x, s->shuffled + first, n, d);
    ops->rmsnorm(ops, to[R_NORM] + at, to[R_RSTD] + first, x, s->norm, n, d, 1e-5f);
    ops->rmsnorm_backward(ops, to[R_NORM_DX] + at, to[R_NORM_DW], dy, x, to[R_RSTD] + first, s->norm, n, d);
    world_copy(ops, to[R_ADD] + at, x, count);
    ops->add(ops, to[R_ADD] + at, dy, count);
    world_copy(ops, to[R_AXPY] + at, x, count);
    ops->axpy(ops, to[R_AXPY] + at, 0.7f, dy, count);
    ops->multiply(ops, to[R_MULTIPLY] + at, x, dy, count);
    world_copy(ops, to[R_ADAM_W] + at, x, count);
    ops->adamw(ops, to[R_ADAM_W] + at, to[R_ADAM_M] + at, to[R_ADAM_V] + at, dy, count, 0.5f, 0.01f, 0.9f,
               0.99f, 1e-8f, 0.1f, 0.1f, 0.01f);
}

static inline void run_attention(const stage *s, int first, int n)
{
    rt_ops *ops = s->ops;
    const world *w = s->w;
    float *const *to = s->to;
    int q = w->heads * w->s;
    size_t at = (size_t)first * (size_t)q, stats = (size_t)(first * w->heads * 2);
    rt_kv_view dkv = world_pool(w, to[R_DKV]);
    rt_rope rope = {w->s, s->frequencies};
    world_copy(ops, to[R_ROPE] + at, s->q + at, (size_t)n * (size_t)q);
    ops->rope(ops, to[R_ROPE] + at, q, w->heads, &rope, s->at + first, n, 1);
    ops->attention(ops, to[R_ATTENTION] + at, q, to[R_STATS] + stats, s->q + at, q, w->heads, &s->kv,
                   s->at + first, n);
    ops->attention_backward(ops, to[R_DQ] + at, q, &dkv, s->wide + at, q, to[R_ATTENTION] + at, q,
                            to[R_STATS] + stats, s->q + at, q, w->heads, &s->kv, s->at + first, n);
}

static inline void run_wide(const stage *s, int first, int n)
{
    rt_ops *ops = s->ops;
    float *const *to = s->to;
    int width = s->w->f, vocab = s->w->v;
    size_t f = (size_t)first * (size_t)width, v = (size_t)first * (size_t)vocab;
    ops->swiglu(ops, to[R_SWIGLU] + f, s->wide + 2 * f, n, width);
    ops->swiglu_backward(ops, to[R_SWIGLU_DX] + 2 * f, to[R_SWIGLU_Y] + f, s->dwide + f, s->wide + 2 * f, n,
                         width);
    ops->logprob(ops, to[R_LOGPROB] + first, to[R_LSE] + first, s->logits + v, s->target + first, n, vocab,
                 0.25f);
    world_copy(ops, to[R_DLOGITS] + v, s->logits + v, (size_t)n * (size_t)vocab);
    ops->logprob_backward(ops, to[R_DLOGITS] + v, to[R_LSE] + first, s->first + first, s->targets, s->g, n,
                          vocab, 0.25f);
}

/* Fills the pages of both paths, then runs `piece` rows a call. */
static inline void run_rows(const stage *s, int piece)
{
    rt_ops *ops = s->ops;
    const world *w = s->w;
    int k = w->kv_heads * w->s, page = WORLD_FORK / RT_PAGE;
    size_t fork = (size_t)(WORLD_FIRST * k);
    const float *v = s->k + (size_t)(WORLD_ROWS * k);
    ops->kv_store(ops, &s->kv, s->k, v, k, s->at, WORLD_FIRST);
    ops->kv_copy(ops, &s->kv, w->pages[1][page], w->pages[0][page], WORLD_FORK % RT_PAGE, 2);
    ops->kv_store(ops, &s->kv, s->k + fork, v + fork, k, s->at + WORLD_FIRST, WORLD_ROWS - WORLD_FIRST);
    for (int first = 0; first < WORLD_ROWS; first += piece) {
        int n = RT_MIN(piece, WORLD_ROWS - first);
        run_linear(s, first, n);
        run_attention(s, first, n);
        run_wide(s, first, n);
    }
    rt_kv_view dkv = world_pool(w, s->to[R_DKV]);
    ops->kv_copy_backward(ops, &dkv, w->pages[0][page], w->pages[1][page], WORLD_FORK % RT_PAGE);
    ops->kv_gather(ops, &dkv, s->to[R_GATHER_K], s->to[R_GATHER_V], k, s->at, WORLD_ROWS);
}

/* Operations with results in double, which the host gets at once. */
static inline void run_sums(const stage *s, double dot[1], double gram[9], double change[1])
{
    rt_ops *ops = s->ops;
    size_t all = (size_t)(WORLD_ROWS * s->w->d);
    const float *vectors[3] = {s->x, s->dy, s->x};
    *dot = ops->dot(ops, s->x, s->dy, all);
    ops->gram(ops, gram, vectors, 3, all);
    *change = 0;
    for (int look = 0; look < 3; look++)
        *change += ops->change(ops, s->to[R_CHANGE_SUM], look == 1, s->to[R_CHANGE_SEEN],
                               look == 2 ? s->dy : s->x, look ? s->dy : NULL, all);
}

/* Runs every operation, `piece` rows a call; the inputs go to the backend and the results come back. */
static inline record *world_run(rt_ops *ops, const world *w, int piece)
{
    record *result = record_new(w);
    double dot[1], gram[9], change[1];
    stage s;
    stage_open(&s, ops, w, result);
    run_rows(&s, piece);
    run_sums(&s, dot, gram, change);
    for (int i = 0; i < R_COUNT; i++)
        ops->download(ops, result->data[i], s.to[i], result->count[i] * sizeof(float));
    memcpy(result->data[R_DOT], dot, sizeof dot);
    memcpy(result->data[R_GRAM], gram, sizeof gram);
    memcpy(result->data[R_CHANGE], change, sizeof change);
    stage_close(&s);
    return result;
}

static inline rt_ops *ops_or_null(const char *device, int threads)
{
    rt_ops *ops = NULL;
    rt_error err;
    return rt_ops_open(&ops, device, threads, &err) == RT_OK ? ops : NULL;
}

#endif
