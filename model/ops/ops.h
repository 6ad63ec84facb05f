/*
 * ops: the only door to a backend. One table of functions, three implementations:
 *   ref   plain loops with double accumulation: the specification;
 *   cpu   packed matmul and SIMD, chosen at run time (AVX-512, AVX2, plain C), OpenMP;
 *   cuda  one GPU (a shared object of its own, opened at run time).
 *
 * The rule every implementation but `ref` keeps (design §4.2): a row's result depends only on
 * that row's inputs and the weights, never on the number of rows, the thread count, or how a batch
 * is cut. In `cpu` every output element of a matmul is ONE chain of fused multiply-adds in ascending
 * order of the reduced index (continued through memory where a loop is blocked), every other
 * reduction uses 16 lanes (lane = index mod 16, ascending) folded by one fixed tree. So scalar,
 * AVX2, AVX-512 and a GPU give the same bits too. No -ffast-math, no float atomics, denormals kept.
 *
 * Letters: R rows, D model, F feed-forward, H query heads, K key-value heads, S head size, V vocabulary.
 * Threading: calls on one rt_ops come from one thread; inside, OpenMP with `threads` threads.
 * Memory: pointers are to memory of the backend (alloc/upload/download below), those inside of rt_row,
 * rt_rope and rt_kv_view too; the structs rt_rope and rt_kv_view themselves are the host's. Callers own it.
 */
#ifndef RT_OPS_H
#define RT_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct rt_error;

#define RT_PAGE 16 /* positions in a K/V page; page p holds absolute positions 16p … 16p+15 */
#define RT_GRAM_MAX 32 /* vectors of one call of gram */

/* A weight matrix W (N, K) (Hugging Face order: outputs × inputs) made ready for matmul. */
typedef struct rt_packed rt_packed;

/* A K/V page of one layer and key-value head: K transposed (S, 16) then V (16, S), floats.
 * Page index i of layer l, head k begins at pool + ((l·K + k)·pages + i)·32·S. */
typedef struct rt_kv_view {
    float *pool;              /* (L, K, pages, 2·16·S) */
    int pages, layer, kv_heads, head_size;
} rt_kv_view;

/* One row of attention or of a K/V store: where the token stands and on whose path. */
typedef struct rt_row {
    int32_t position;         /* absolute, from 0 */
    const int32_t *page_table; /* page_table[p] = page index that holds positions 16p… of this path */
} rt_row;

typedef struct rt_rope {
    int head_size;
    const float *frequencies; /* (S/2): radians a position, computed in double from theta and scaling */
} rt_rope;

typedef struct rt_ops {
    const char *name;         /* "ref", "cpu", "cuda" */
    const char *isa;          /* "double", "avx512", "avx2", "scalar", "sm_90, NVIDIA …" */
    int threads;              /* cuda: multiprocessors */
    bool host;                /* backend memory is the process's own: its pointers may be read and written */

    void *(*alloc)(struct rt_ops *ops, size_t bytes);  /* zeroed; NULL: no room */
    void (*free)(struct rt_ops *ops, void *memory);
    void (*upload)(struct rt_ops *ops, void *to, const void *from, size_t bytes);
    void (*download)(struct rt_ops *ops, void *to, const void *from, size_t bytes);
    void (*zero)(struct rt_ops *ops, void *memory, size_t bytes);
    void (*close)(struct rt_ops *ops); /* rt_ops_free: what the backend holds, the table with it */

    /* Packs W (N, K) given as host words of dtype (RT_F32 or RT_BF16 of rt_dtype); bf16 stays
     * bf16 in memory and is widened exactly when read. `into` NULL makes a new object, else the
     * same shape is overwritten. Several matrices of equal K may be stacked: rows0 is the first
     * output row to fill, N_total the size of the whole. */
    rt_packed *(*pack)(struct rt_ops *ops, rt_packed *into, const void *w, int dtype, int rows0,
                       int n, int n_total, int k);
    void (*packed_free)(struct rt_ops *ops, rt_packed *w);
    size_t (*packed_bytes)(const rt_packed *w);

    /* y (R, N) = x (R, K) · Wᵀ (+ y if accumulate). ld: floats from row to row. */
    void (*matmul)(struct rt_ops *ops, float *y, int y_ld, const float *x, int x_ld,
                   const rt_packed *w, int rows, bool accumulate);
    /* dx (R, K) = dy (R, N) · W (+ dx if accumulate). */
    void (*matmul_dx)(struct rt_ops *ops, float *dx, int dx_ld, const float *dy, int dy_ld,
                      const rt_packed *w, int rows, bool accumulate);
    /* dw (N, K) += dyᵀ (N, R) · x (R, K), rows ascending: cutting rows changes no bit. */
    void (*matmul_dw)(struct rt_ops *ops, float *dw, const float *dy, int dy_ld, const float *x,
                      int x_ld, int rows, int n, int k);

    /* Row r = row ids[r] of the packed embedding table (V, D). */
    void (*embed)(struct rt_ops *ops, float *y, const int32_t *ids, const rt_packed *table, int rows);
    /* dtable (V, D) += rows of dy at ids, rows ascending. */
    void (*embed_backward)(struct rt_ops *ops, float *dtable, const int32_t *ids, const float *dy,
                           int rows, int d);

    /* Row r of y (R, D) = row index[r] of x, and back: row index[r] of y = row r of x, no index twice.
     * Rows that lie apart go through one product so. */
    void (*gather)(struct rt_ops *ops, float *y, const float *x, const int32_t *index, int rows, int d);
    void (*scatter)(struct rt_ops *ops, float *y, const float *x, const int32_t *index, int rows, int d);

    /* y = x · rsqrt(mean(x²) + eps) · w; w NULL = ones. rstd (R) is saved for backward. */
    void (*rmsnorm)(struct rt_ops *ops, float *y, float *rstd, const float *x, const float *w,
                    int rows, int d, float eps);
    /* dx += …; dw (D) += … in ascending row order. */
    void (*rmsnorm_backward)(struct rt_ops *ops, float *dx, float *dw, const float *dy,
                             const float *x, const float *rstd, const float *w, int rows, int d);

    /* Rotates q (R, heads, S) in place, halves convention (element i pairs with i + S/2);
     * sign +1 forward, −1 backward. x_ld: floats from row to row. */
    void (*rope)(struct rt_ops *ops, float *x, int x_ld, int heads, const rt_rope *rope,
                 const rt_row *at, int rows, int sign);

    /* Writes k, v (R, K, S) of each row into its page slot. */
    void (*kv_store)(struct rt_ops *ops, const rt_kv_view *kv, const float *k, const float *v,
                     int ld, const rt_row *at, int rows);
    /* Copies the first `slots` positions of page `from` to page `to`, all layers and heads. */
    void (*kv_copy)(struct rt_ops *ops, const rt_kv_view *kv, int to, int from, int slots, int layers);

    /* out (R, H, S) = causal attention of each row over positions 0…position of its path,
     * scale 1/sqrt(S); scores and sums in blocks of 16 absolute positions, ascending.
     * stats (R, H, 2) = (max, sum of exp) saved for backward; may be NULL. */
    void (*attention)(struct rt_ops *ops, float *out, int out_ld, float *stats, const float *q,
                      int q_ld, int heads, const rt_kv_view *kv, const rt_row *at, int rows);
    /* dq (R, H, S) =; dkv (same layout as kv, one layer's slice used) += in ascending row order. */
    void (*attention_backward)(struct rt_ops *ops, float *dq, int dq_ld, const rt_kv_view *dkv,
                               const float *dout, int dout_ld, const float *out, int out_ld,
                               const float *stats, const float *q, int q_ld, int heads,
                               const rt_kv_view *kv, const rt_row *at, int rows);
    /* Backward of kv_copy for one layer: adds the first slots of dkv page `from` into page `to`. */
    void (*kv_copy_backward)(struct rt_ops *ops, const rt_kv_view *dkv, int to, int from, int slots);
    /* Backward of kv_store: gathers dk, dv (R, K, S) from each row's page slot. */
    void (*kv_gather)(struct rt_ops *ops, const rt_kv_view *dkv, float *dk, float *dv, int ld,
                      const rt_row *at, int rows);

    /* y (R, F) = silu(gate) · up; gate_up (R, 2F): gate first. */
    void (*swiglu)(struct rt_ops *ops, float *y, const float *gate_up, int rows, int f);
    /* dgate_up (R, 2F) from dy (R, F); y is recomputed into y when not NULL. */
    void (*swiglu_backward)(struct rt_ops *ops, float *dgate_up, float *y, const float *dy,
                            const float *gate_up, int rows, int f);
    void (*add)(struct rt_ops *ops, float *y, const float *x, size_t count); /* y += x */
    /* y += a·x, one rounding. */
    void (*axpy)(struct rt_ops *ops, float *y, float a, const float *x, size_t count);
    /* y = x·m, element by element; y may be x. */
    void (*multiply)(struct rt_ops *ops, float *y, const float *x, const float *m, size_t count);

    /* Per row of logits (R, V): lse[r] = log Σ exp(logits/temperature), and, where target[r] ≥ 0,
     * logprob[r] = logits[target]/temperature − lse. logits are not changed. */
    void (*logprob)(struct rt_ops *ops, float *logprob, float *lse, const float *logits,
                    const int32_t *target, int rows, int v, float temperature);
    /* In place: logits (R, V) becomes d loss/d logits, given g_of_row pairs: for the entries e in
     * [first[r], first[r+1]) of row r with targets target[e] and weights g[e] = d loss/d logprob,
     * dlogits = Σ_e g[e]·(onehot(target[e]) − softmax(logits/temperature)) / temperature. */
    void (*logprob_backward)(struct rt_ops *ops, float *logits, const float *lse,
                             const int32_t *first, const int32_t *target, const float *g,
                             int rows, int v, float temperature);

    /* Σ a·b in double, one fixed order whatever the thread count. */
    double (*dot)(struct rt_ops *ops, const float *a, const float *b, size_t count);
    /* gram (vectors, vectors) = their products with each other, as of dot up to the order of sums;
     * at most RT_GRAM_MAX vectors. gram and the list `vectors` are the host's, what it points to is not. */
    void (*gram)(struct rt_ops *ops, double *gram, const float *const *vectors, int count,
                 size_t elements);
    /* What was added to a running vector since the last look: with v = now + more (more NULL: now),
     * sum += v − seen (fresh: sum = v − seen), seen = v. Returns Σ (v − seen)², in the order of dot. */
    double (*change)(struct rt_ops *ops, float *sum, bool fresh, float *seen, const float *now,
                     const float *more, size_t count);
    /* AdamW (Loshchilov & Hutter 2019): g·grad_scale, decoupled decay; bias corrections given. */
    void (*adamw)(struct rt_ops *ops, float *w, float *m, float *v, const float *g, size_t count,
                  float grad_scale, float lr, float beta1, float beta2, float eps,
                  float weight_decay, float correction1, float correction2);
} rt_ops;

/* device: "ref", "cpu" or "cuda" (the first GPU; threads mean nothing there). threads 0 = all cores the
 * process may use. Lives until rt_ops_free. */
int rt_ops_open(rt_ops **ops, const char *device, int threads, struct rt_error *err);
void rt_ops_free(rt_ops **ops);

#ifdef __cplusplus
}
#endif
#endif
