/*
 * One small world on which every operation can run, for the tests of ops: random inputs, two paths
 * of tokens that share pages, and a record with the result of each operation. Inputs are uniform
 * in [−1, 1], which the bounds in `world_bounds` use.
 */
#ifndef RT_OPS_WORLD_H
#define RT_OPS_WORLD_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

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
    int32_t ids[WORLD_ROWS], target[WORLD_ROWS], first[WORLD_ROWS + 1], targets[2 * WORLD_ROWS];
    int32_t pages[2][WORLD_PAGES];
    rt_row at[WORLD_ROWS];
} world;

enum result {
    R_MATMUL, R_MATMUL_ADD, R_DX, R_DW, R_EMBED, R_DTABLE, R_NORM, R_RSTD, R_NORM_DX, R_NORM_DW,
    R_ROPE, R_ATTENTION, R_STATS, R_DQ, R_DKV, R_GATHER_K, R_GATHER_V, R_SWIGLU, R_SWIGLU_DX,
    R_SWIGLU_Y, R_ADD, R_AXPY, R_MULTIPLY, R_LOGPROB, R_LSE, R_DLOGITS, R_ADAM_W, R_ADAM_M,
    R_ADAM_V, R_DOT, R_GRAM, R_CHANGE, R_CHANGE_SUM, R_CHANGE_SEEN, R_COUNT
};

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

/* sizes: D, F, H, K, S, V, dtype */
static inline world *world_new(int d, int f, int heads, int kv_heads, int s, int v, int dtype)
{
    world *w = rt_alloc(sizeof *w);
    size_t rows = WORLD_ROWS, big = rows * (size_t)RT_MAX(2 * f, heads * s);
    *w = (world){.d = d, .f = f, .heads = heads, .kv_heads = kv_heads, .s = s, .v = v,
                 .dtype = dtype};
    w->x = world_random(1, rows * (size_t)d);
    w->dy = world_random(2, rows * (size_t)d);
    w->wide = world_random(3, big);
    w->dwide = world_random(4, big);
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
        [R_EMBED] = rows * d, [R_DTABLE] = v * d, [R_NORM] = rows * d, [R_RSTD] = rows,
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

/* Matmul and the operations on rows of the residual stream, rows first … first+n−1. */
static inline void run_linear(rt_ops *ops, const world *w, record *to, const rt_packed *matrix,
                              const rt_packed *table, int first, int n)
{
    size_t d = (size_t)w->d, f = (size_t)w->f, at = (size_t)first * d, wide = (size_t)first * f;
    const float *x = w->x + at, *dy = w->dy + at;
    ops->matmul(ops, to->data[R_MATMUL] + wide, w->f, x, w->d, matrix, n, false);
    memcpy(to->data[R_MATMUL_ADD] + wide, w->dwide + wide, (size_t)n * f * sizeof(float));
    ops->matmul(ops, to->data[R_MATMUL_ADD] + wide, w->f, x, w->d, matrix, n, true);
    ops->matmul_dx(ops, to->data[R_DX] + at, w->d, w->wide + wide, w->f, matrix, n, false);
    ops->matmul_dw(ops, to->data[R_DW], w->wide + wide, w->f, x, w->d, n, w->f, w->d);
    ops->embed(ops, to->data[R_EMBED] + at, w->ids + first, table, n);
    ops->embed_backward(ops, to->data[R_DTABLE], w->ids + first, dy, n, w->d);
    ops->rmsnorm(ops, to->data[R_NORM] + at, to->data[R_RSTD] + first, x, w->norm, n, w->d, 1e-5f);
    ops->rmsnorm_backward(ops, to->data[R_NORM_DX] + at, to->data[R_NORM_DW], dy, x,
                          to->data[R_RSTD] + first, w->norm, n, w->d);
    memcpy(to->data[R_ADD] + at, x, (size_t)n * d * sizeof(float));
    ops->add(ops, to->data[R_ADD] + at, dy, (size_t)n * d);
    memcpy(to->data[R_AXPY] + at, x, (size_t)n * d * sizeof(float));
    ops->axpy(ops, to->data[R_AXPY] + at, 0.7f, dy, (size_t)n * d);
    ops->multiply(ops, to->data[R_MULTIPLY] + at, x, dy, (size_t)n * d);
    memcpy(to->data[R_ADAM_W] + at, x, (size_t)n * d * sizeof(float));
    ops->adamw(ops, to->data[R_ADAM_W] + at, to->data[R_ADAM_M] + at, to->data[R_ADAM_V] + at, dy,
               (size_t)n * d, 0.5f, 0.01f, 0.9f, 0.99f, 1e-8f, 0.1f, 0.1f, 0.01f);
}

static inline void run_attention(rt_ops *ops, const world *w, record *to, const rt_kv_view *kv,
                                 int first, int n)
{
    int q = w->heads * w->s, k = w->kv_heads * w->s;
    size_t at = (size_t)first * (size_t)q, stats = (size_t)(first * w->heads * 2);
    rt_kv_view dkv = world_pool(w, to->data[R_DKV]);
    rt_rope rope = {w->s, w->frequencies};
    memcpy(to->data[R_ROPE] + at, w->q + at, (size_t)n * (size_t)q * sizeof(float));
    ops->rope(ops, to->data[R_ROPE] + at, q, w->heads, &rope, w->at + first, n, 1);
    ops->attention(ops, to->data[R_ATTENTION] + at, q, to->data[R_STATS] + stats, w->q + at, q,
                   w->heads, kv, w->at + first, n);
    ops->attention_backward(ops, to->data[R_DQ] + at, q, &dkv, w->wide + at, q,
                            to->data[R_ATTENTION] + at, q, to->data[R_STATS] + stats, w->q + at,
                            q, w->heads, kv, w->at + first, n);
    (void)k;
}

static inline void run_wide(rt_ops *ops, const world *w, record *to, int first, int n)
{
    size_t f = (size_t)first * (size_t)w->f, v = (size_t)first * (size_t)w->v;
    ops->swiglu(ops, to->data[R_SWIGLU] + f, w->wide + 2 * f, n, w->f);
    ops->swiglu_backward(ops, to->data[R_SWIGLU_DX] + 2 * f, to->data[R_SWIGLU_Y] + f,
                         w->dwide + f, w->wide + 2 * f, n, w->f);
    ops->logprob(ops, to->data[R_LOGPROB] + first, to->data[R_LSE] + first, w->logits + v,
                 w->target + first, n, w->v, 0.25f);
    memcpy(to->data[R_DLOGITS] + v, w->logits + v, (size_t)n * (size_t)w->v * sizeof(float));
    ops->logprob_backward(ops, to->data[R_DLOGITS] + v, to->data[R_LSE] + first, w->first + first,
                          w->targets, w->g, n, w->v, 0.25f);
}

/* Runs every operation, `piece` rows a call. */
static inline record *world_run(rt_ops *ops, const world *w, int piece)
{
    record *to = record_new(w);
    int k = w->kv_heads * w->s;
    rt_packed *matrix = ops->pack(ops, NULL, w->w, w->dtype, 0, w->f, w->f, w->d);
    rt_packed *table = ops->pack(ops, NULL, w->table, w->dtype, 0, w->v, w->v, w->d);
    float *pool = rt_alloc(world_pool_floats(w) * sizeof(float));
    for (size_t i = 0; i < world_pool_floats(w); i++)
        pool[i] = NAN; /* what was never stored must never be used */
    rt_kv_view kv = world_pool(w, pool);
    const float *v = w->k + (size_t)(WORLD_ROWS * k);
    ops->kv_store(ops, &kv, w->k, v, k, w->at, WORLD_FIRST);
    int page = WORLD_FORK / RT_PAGE;
    ops->kv_copy(ops, &kv, w->pages[1][page], w->pages[0][page], WORLD_FORK % RT_PAGE, 2);
    ops->kv_store(ops, &kv, w->k + (size_t)(WORLD_FIRST * k), v + (size_t)(WORLD_FIRST * k), k,
                  w->at + WORLD_FIRST, WORLD_ROWS - WORLD_FIRST);
    for (int first = 0; first < WORLD_ROWS; first += piece) {
        int n = RT_MIN(piece, WORLD_ROWS - first);
        run_linear(ops, w, to, matrix, table, first, n);
        run_attention(ops, w, to, &kv, first, n);
        run_wide(ops, w, to, first, n);
    }
    rt_kv_view dkv = world_pool(w, to->data[R_DKV]);
    ops->kv_copy_backward(ops, &dkv, w->pages[0][page], w->pages[1][page], WORLD_FORK % RT_PAGE);
    ops->kv_gather(ops, &dkv, to->data[R_GATHER_K], to->data[R_GATHER_V], k, w->at, WORLD_ROWS);
    size_t all = (size_t)(WORLD_ROWS * w->d);
    double dot = ops->dot(ops, w->x, w->dy, all), change = 0;
    memcpy(to->data[R_DOT], &dot, sizeof dot);
    const float *vectors[3] = {w->x, w->dy, w->x};
    double gram[9];
    ops->gram(ops, gram, vectors, 3, all);
    memcpy(to->data[R_GRAM], gram, sizeof gram);
    for (int look = 0; look < 3; look++)
        change += ops->change(ops, to->data[R_CHANGE_SUM], look == 1, to->data[R_CHANGE_SEEN],
                              look == 2 ? w->dy : w->x, look ? w->dy : NULL, all);
    memcpy(to->data[R_CHANGE], &change, sizeof change);
    ops->packed_free(ops, matrix);
    ops->packed_free(ops, table);
    rt_free(pool);
    return to;
}

static inline rt_ops *ops_or_null(const char *device, int threads)
{
    rt_ops *ops = NULL;
    rt_error err;
    return rt_ops_open(&ops, device, threads, &err) == RT_OK ? ops : NULL;
}

#endif
