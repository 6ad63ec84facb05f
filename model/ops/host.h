/*
 * What the host backends (ref, cpu) share and callers of ops.h do not see.
 */
#ifndef RT_OPS_HOST_H
#define RT_OPS_HOST_H

#include "base/base.h"
#include "base/config.h"
#include "model/ops/ops.h"

#define RT_LANES 16

/* ref: (N, K) floats. cpu: panels [ceil(N/16)][K][16] of floats or bf16 words; the output rows
 * that pad the last panel are zero, so that kernels need no edge case for them. */
struct rt_packed {
    int n, k, dtype;
    size_t bytes;
    void *data;
};

/* cos and sin of every position so far, for the frequencies of the last call; grown by the calling
 * thread as the scratch below. Each row: wide floats of cos, then of sin, zero from `half` on. */
typedef struct rt_rope_table {
    int half, positions;
    size_t wide;        /* half, rounded up to 16 */
    float *frequencies; // (half): whose table it is
    float *data;        // (positions, 2, wide)
} rt_rope_table;

/* An open backend with the working memory of its kernels: one block, grown on demand by the
 * calling thread before it starts others. */
typedef struct rt_host {
    rt_ops ops;
    rt_ops alone; /* cpu: the same kernels for one thread */
    void *scratch;
    size_t scratch_bytes;
    rt_rope_table rope;
} rt_host;

/* The scratch block, at least `bytes` long; contents are not kept and not cleared. */
void *rt_host_scratch(rt_ops *ops, size_t bytes);

/* Memory functions and close are the same for every host backend. */
void rt_host_fill(rt_ops *ops);

/* Opens libretake_cuda.so, which lies beside the program, and the first GPU (cuda_load.c). */
int rt_cuda_load(rt_ops **ops, rt_error *err);

/* Each fills the compute part of the table. */
void rt_ref_fill(rt_ops *ops);
void rt_cpu_fill_scalar_team(rt_ops *ops);
void rt_cpu_fill_scalar_alone(rt_ops *ops);
void rt_cpu_fill_avx2_team(rt_ops *ops);
void rt_cpu_fill_avx2_alone(rt_ops *ops);
void rt_cpu_fill_avx512_team(rt_ops *ops);
void rt_cpu_fill_avx512_alone(rt_ops *ops);

/* Start of a K/V page: K transposed (S, 16), then V (16, S). */
static inline float *kv_page(const rt_kv_view *kv, int head, int page)
{
    size_t index = ((size_t)kv->layer * (size_t)kv->kv_heads + (size_t)head) *
                       (size_t)kv->pages + (size_t)page;
    return kv->pool + index * 2 * RT_PAGE * (size_t)kv->head_size;
}

#endif
