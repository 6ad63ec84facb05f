/* Operations on long vectors: the optimizer's, and the sums of the gradient accounts. */
#include "model/ops/cuda/cuda.h"

#include <stdlib.h>
#include <string.h>

constexpr int THREADS = 256, RUN = 16384, GRAM_PIECE = 256;

__device__ inline size_t element()
{
    return (size_t)blockIdx.x * blockDim.x + threadIdx.x;
}

__global__ void add_all(float *y, const float *x, size_t count)
{
    size_t i = element();
    if (i < count)
        y[i] += x[i];
}

static void add(rt_ops *, float *y, const float *x, size_t count)
{
    if (count == 0)
        return;
    CUDA_LAUNCH(add_all, cuda_blocks(count, THREADS), THREADS, y, x, count);
}

__global__ void axpy_all(float *y, float a, const float *x, size_t count)
{
    size_t i = element();
    if (i < count)
        y[i] = fmaf(a, x[i], y[i]);
}

static void axpy(rt_ops *, float *y, float a, const float *x, size_t count)
{
    if (count == 0)
        return;
    CUDA_LAUNCH(axpy_all, cuda_blocks(count, THREADS), THREADS, y, a, x, count);
}

__global__ void multiply_all(float *y, const float *x, const float *m, size_t count)
{
    size_t i = element();
    if (i < count)
        y[i] = x[i] * m[i];
}

static void multiply(rt_ops *, float *y, const float *x, const float *m, size_t count)
{
    if (count == 0)
        return;
    CUDA_LAUNCH(multiply_all, cuda_blocks(count, THREADS), THREADS, y, x, m, count);
}

struct adamw_numbers {
    float grad_scale, lr, beta1, beta2, eps, weight_decay, correction1, correction2;
};

__global__ void adamw_all(float *w, float *m, float *v, const float *g, size_t count, adamw_numbers n)
{
    size_t i = element();
    if (i >= count)
        return;
    float grad = g[i] * n.grad_scale;
    float m1 = fmaf(n.beta1, m[i], (1 - n.beta1) * grad);
    float v1 = fmaf(n.beta2, v[i], (1 - n.beta2) * (grad * grad));
    float root = sqrtf(v1 / n.correction2) + n.eps;
    float step = fmaf(n.weight_decay, w[i], m1 / n.correction1 / root);
    m[i] = m1;
    v[i] = v1;
    w[i] = fmaf(-n.lr, step, w[i]);
}

static void adamw(rt_ops *, float *w, float *m, float *v, const float *g, size_t count, float grad_scale,
                  float lr, float beta1, float beta2, float eps, float weight_decay, float correction1,
                  float correction2)
{
    if (count == 0)
        return;
    adamw_numbers n = {grad_scale, lr, beta1, beta2, eps, weight_decay, correction1, correction2};
    CUDA_LAUNCH(adamw_all, cuda_blocks(count, THREADS), THREADS, w, m, v, g, count, n);
}

/* ---- sums in double: 16 lanes a run of 16384, lanes and then runs in order ---------------------- */

/* Lane j of 16 threads, added up in order; every lane gets the sum. */
__device__ inline double lanes_in_order(double lane)
{
    unsigned mask = lanes_mask();
    double sum = 0;
    for (int j = 0; j < LANES; j++)
        sum += __shfl_sync(mask, lane, j, LANES);
    return sum;
}

__device__ inline size_t run_end(size_t run, size_t count)
{
    size_t end = (run + 1) * RUN;
    return end < count ? end : count;
}

/* Blocks of 16 threads, one a run. */
__global__ void dot_runs(double *sums, const float *a, const float *b, size_t count)
{
    double lane = 0;
    for (size_t i = (size_t)blockIdx.x * RUN + threadIdx.x; i < run_end(blockIdx.x, count); i += LANES)
        lane += (double)a[i] * (double)b[i];
    double sum = lanes_in_order(lane);
    if (threadIdx.x == 0)
        sums[blockIdx.x] = sum;
}

static double runs_sum(const double *device, size_t runs)
{
    double *sums = (double *)malloc((runs + 1) * sizeof *sums), sum = 0;
    CUDA_CHECK(cudaMemcpy(sums, device, runs * sizeof *sums, cudaMemcpyDeviceToHost));
    for (size_t run = 0; run < runs; run++)
        sum += sums[run];
    free(sums);
    return sum;
}

static double dot(rt_ops *ops, const float *a, const float *b, size_t count)
{
    unsigned runs = cuda_blocks(count, RUN);
    double *sums = (double *)rt_cuda_scratch(ops, (runs + 1) * sizeof(double));
    if (runs == 0)
        return 0;
    CUDA_LAUNCH(dot_runs, runs, LANES, sums, a, b, count);
    return runs_sum(sums, runs);
}

__global__ void change_runs(double *sums, float *sum, bool fresh, float *seen, const float *now,
                            const float *more, size_t count)
{
    double lane = 0;
    for (size_t i = (size_t)blockIdx.x * RUN + threadIdx.x; i < run_end(blockIdx.x, count); i += LANES) {
        float value = more ? now[i] + more[i] : now[i], change = value - seen[i];
        seen[i] = value;
        sum[i] = fresh ? change : sum[i] + change;
        lane += (double)change * (double)change;
    }
    double squares = lanes_in_order(lane);
    if (threadIdx.x == 0)
        sums[blockIdx.x] = squares;
}

static double change(rt_ops *ops, float *sum, bool fresh, float *seen, const float *now, const float *more,
                     size_t count)
{
    unsigned runs = cuda_blocks(count, RUN);
    double *sums = (double *)rt_cuda_scratch(ops, (runs + 1) * sizeof(double));
    if (runs == 0)
        return 0;
    CUDA_LAUNCH(change_runs, runs, LANES, sums, sum, fresh, seen, now, more, count);
    return runs_sum(sums, runs);
}

struct gram_vectors {
    const float *at[RT_GRAM_MAX];
};

/* A pair of vectors (blockIdx.y) over one run, piece by piece as the cpu backend has it. */
__global__ void gram_runs(double *sums, gram_vectors vectors, int count, size_t elements)
{
    int pair = (int)blockIdx.y, i = 0;
    while (pair >= i + 1)
        pair -= ++i;
    const float *a = vectors.at[i], *b = vectors.at[pair];
    double sum = 0;
    size_t end = run_end(blockIdx.x, elements);
    for (size_t piece = (size_t)blockIdx.x * RUN; piece < end; piece += GRAM_PIECE) {
        size_t piece_end = piece + GRAM_PIECE < end ? piece + GRAM_PIECE : end;
        double lane = 0;
        for (size_t e = piece + threadIdx.x; e < piece_end; e += LANES)
            lane += (double)a[e] * (double)b[e];
        sum += lanes_in_order(lane);
    }
    if (threadIdx.x == 0)
        sums[(size_t)blockIdx.x * count * count + i * count + pair] = sum;
}

static void gram(rt_ops *ops, double *gram, const float *const *vectors, int count, size_t elements)
{
    size_t square = (size_t)count * count, runs = cuda_blocks(elements, RUN);
    memset(gram, 0, square * sizeof *gram);
    if (runs == 0)
        return;
    gram_vectors all = {};
    memcpy(all.at, vectors, (size_t)count * sizeof *vectors);
    double *sums = (double *)rt_cuda_scratch(ops, runs * square * sizeof(double));
    dim3 grid((unsigned)runs, (unsigned)(count * (count + 1) / 2)); /* runs, pairs */
    CUDA_LAUNCH(gram_runs, grid, LANES, sums, all, count, elements);
    double *host = (double *)malloc(runs * square * sizeof *host);
    CUDA_CHECK(cudaMemcpy(host, sums, runs * square * sizeof *host, cudaMemcpyDeviceToHost));
    for (size_t run = 0; run < runs; run++)
        for (int i = 0; i < count; i++)
            for (int j = 0; j <= i; j++)
                gram[i * count + j] += host[run * square + (size_t)(i * count + j)];
    for (int i = 0; i < count; i++)
        for (int j = i + 1; j < count; j++)
            gram[i * count + j] = gram[j * count + i];
    free(host);
}

void rt_cuda_fill_vectors(rt_ops *ops)
{
    ops->add = add;
    ops->axpy = axpy;
    ops->multiply = multiply;
    ops->adamw = adamw;
    ops->dot = dot;
    ops->change = change;
    ops->gram = gram;
}
