/*
 * What the CUDA kernels share: checks, and the arithmetic of vec.h for one of its 16 lanes.
 *
 * The rule is that of ops.h and one step more: every result has the very bits of the cpu backend. Each
 * element of a product is one chain of fused multiply-adds in ascending order, every other sum runs over
 * 16 lanes that the one tree folds, exponential and logarithm are the polynomials of vec.h. So no
 * tensor cores and no library products here; nvcc may contract nothing (--fmad=false) and a fused
 * multiply-add stands where the source says fmaf.
 *
 * Only these files know CUDA. They are a shared object of their own (libretake_cuda.so) that ops.c opens
 * when a config asks for device "cuda"; nothing else is linked with it.
 */
#ifndef RT_OPS_CUDA_H
#define RT_OPS_CUDA_H

#include <cuda_runtime.h>

#include "model/ops/ops.h"

enum { RT_CUDA_F32 = 0, RT_CUDA_BF16 = 1 }; /* of rt_dtype; ops.c asserts that they agree */

struct rt_packed { /* W (N, K) as it came, row by row */
    int n, k;
    bool bf16;
    size_t bytes;
    void *data;
};

/* An open device: the table, and working memory of kernels that grows on demand. */
typedef struct rt_cuda {
    rt_ops ops;
    char isa[96];
    void *scratch;
    size_t scratch_bytes;
} rt_cuda;

/* A failing call is a broken device or a bug: one line says which, then the program ends. */
#define CUDA_CHECK(call) rt_cuda_check((call), #call, __FILE__, __LINE__)
void rt_cuda_check(cudaError_t code, const char *call, const char *file, int line);

/* Starts kernel(…) on a grid of blocks of threads and checks that it could start. A macro, since <<<…>>> is
 * read by nvcc alone and tests/cuda_emulator puts something else there. */
#ifndef RT_CUDA_START
#define RT_CUDA_START(kernel, grid, threads, ...) kernel<<<grid, threads>>>(__VA_ARGS__)
#endif
#define CUDA_LAUNCH(kernel, grid, threads, ...) \
    (RT_CUDA_START(kernel, grid, threads, __VA_ARGS__), CUDA_CHECK(cudaGetLastError()))

/* Memory of the device; contents are not kept and not cleared. */
void *rt_cuda_scratch(rt_ops *ops, size_t bytes);

/* Each fills its part of the table. */
void rt_cuda_fill_matmul(rt_ops *ops);
void rt_cuda_fill_rows(rt_ops *ops);
void rt_cuda_fill_pages(rt_ops *ops);
void rt_cuda_fill_attention(rt_ops *ops);
void rt_cuda_fill_vectors(rt_ops *ops);

static inline unsigned cuda_blocks(size_t count, unsigned threads)
{
    return (unsigned)((count + threads - 1) / threads);
}

#ifdef __CUDACC__

#define RT_EXACT __device__ inline
#include "model/ops/exact.h"

/* ---- 16 lanes: half a warp -------------------------------------------------------------------- */

constexpr int LANES = 16;

__device__ inline unsigned lanes_mask() /* the half warp this thread belongs to */
{
    return 0xffffu << (threadIdx.x & 16);
}

/* As vsum: lane i meets i + 8, then i + 4, i + 2, i + 1. Every lane gets the sum. */
__device__ inline float lanes_sum(float a)
{
    unsigned mask = lanes_mask();
    for (int step = LANES / 2; step > 0; step /= 2)
        a += __shfl_down_sync(mask, a, step, LANES);
    return __shfl_sync(mask, a, 0, LANES);
}

/* The same of 16 floats in memory, by one thread. */
__device__ inline float lanes_fold(const float *lanes)
{
    float a[LANES];
    for (int i = 0; i < LANES; i++)
        a[i] = lanes[i];
    for (int step = LANES / 2; step > 0; step /= 2)
        for (int i = 0; i < step; i++)
            a[i] += a[i + step];
    return a[0];
}

/* ---- functions of vec.h ------------------------------------------------------------------------ */

__device__ inline float max_of(float a, float b)
{
    return a > b ? a : b;
}

__device__ inline float exp_part(float x, float *t)
{
    const float magic = 12582912.0f;
    *t = fmaf(x, 1.44269504f, magic);
    float n = *t - magic;
    float r = fmaf(n, -0.693145752f, x);
    r = fmaf(n, -1.42860677e-06f, r);
    float q = 0.00139262504f;
    q = fmaf(q, r, 0.00836323295f);
    q = fmaf(q, r, 0.0416665524f);
    q = fmaf(q, r, 0.166665763f);
    q = fmaf(q, r, 0.5f);
    return fmaf(r * r, q, r) + 1.0f;
}

__device__ inline float exp_of(float x)
{
    float above = max_of(-104.0f, x), t;
    float p = exp_part(89.0f < above ? 89.0f : above, &t);
    int n = __float_as_int(t) - 0x4b400000, low = n >> 1, high = n - low;
    return p * __int_as_float((low + 127) << 23) * __int_as_float((high + 127) << 23);
}

__device__ inline float exp_below(float x)
{
    float t, p = exp_part(max_of(-104.0f, x), &t);
    unsigned bits = ((unsigned)__float_as_int(t) << 23) + (159u << 23);
    return p * __int_as_float((int)bits) * 0x1p-32f;
}

__device__ inline float weight_at(const float *w, size_t at)
{
    return w[at];
}

__device__ inline float weight_at(const unsigned short *w, size_t at) /* bf16 */
{
    return __int_as_float((int)w[at] << 16);
}

/* Start of a K/V page of the view's layer: K transposed (S, 16), then V (16, S). */
__device__ inline float *page_at(const rt_kv_view &kv, int head, int page)
{
    size_t index = ((size_t)kv.layer * kv.kv_heads + head) * kv.pages + page;
    return kv.pool + index * 2 * RT_PAGE * kv.head_size;
}

#endif
#endif
