/* Operations that treat each row by itself: lookups, norms, the gated unit, log-probabilities. */
#include "model/ops/cuda/cuda.h"

/* ---- lookups ----------------------------------------------------------------------------------- */

template <typename W>
__global__ void embed_rows(float *y, const int32_t *ids, const W *table, int rows, int d)
{
    size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at < (size_t)rows * d)
        y[at] = weight_at(table, (size_t)ids[at / d] * d + at % d);
}

static void embed(rt_ops *, float *y, const int32_t *ids, const rt_packed *table, int rows)
{
    unsigned blocks = cuda_blocks((size_t)rows * table->k, 256);
    if (blocks == 0)
        return;
    if (table->bf16)
        CUDA_LAUNCH(embed_rows<unsigned short>, blocks, 256, y, ids, (const unsigned short *)table->data,
                    rows, table->k);
    else
        CUDA_LAUNCH(embed_rows<float>, blocks, 256, y, ids, (const float *)table->data, rows, table->k);
}

/* A block of threads a row. The first row of an id adds all rows of that id, in ascending order. */
__global__ void embed_back(float *__restrict__ dtable, const int32_t *__restrict__ ids,
                           const float *__restrict__ dy, int rows, int d)
{
    int first = (int)blockIdx.x, id = ids[first], before = 0;
    for (int r = (int)threadIdx.x; r < first; r += (int)blockDim.x)
        before |= ids[r] == id;
    if (__syncthreads_or(before))
        return;
    for (int i = (int)threadIdx.x; i < d; i += (int)blockDim.x) {
        float sum = dtable[(size_t)id * d + i];
#pragma unroll 8
        for (int r = first; r < rows; r++)
            if (ids[r] == id)
                sum += dy[(size_t)r * d + i];
        dtable[(size_t)id * d + i] = sum;
    }
}

static void embed_backward(rt_ops *, float *dtable, const int32_t *ids, const float *dy, int rows, int d)
{
    if (rows <= 0)
        return;
    CUDA_LAUNCH(embed_back, (unsigned)rows, 128, dtable, ids, dy, rows, d);
}

/* A block of threads a row; index says where it is taken from, or where it goes. */
__global__ void rows_gather(float *y, const float *x, const int32_t *index, int d)
{
    for (int i = (int)threadIdx.x; i < d; i += (int)blockDim.x)
        y[(size_t)blockIdx.x * d + i] = x[(size_t)index[blockIdx.x] * d + i];
}

__global__ void rows_scatter(float *y, const float *x, const int32_t *index, int d)
{
    for (int i = (int)threadIdx.x; i < d; i += (int)blockDim.x)
        y[(size_t)index[blockIdx.x] * d + i] = x[(size_t)blockIdx.x * d + i];
}

static void gather(rt_ops *, float *y, const float *x, const int32_t *index, int rows, int d)
{
    if (rows > 0)
        CUDA_LAUNCH(rows_gather, (unsigned)rows, 128, y, x, index, d);
}

static void scatter(rt_ops *, float *y, const float *x, const int32_t *index, int rows, int d)
{
    if (rows > 0)
        CUDA_LAUNCH(rows_scatter, (unsigned)rows, 128, y, x, index, d);
}

/* ---- norms: half a warp a row ------------------------------------------------------------------ */

constexpr int ROW_THREADS = 128, ROWS_AT_ONCE = ROW_THREADS / LANES;
constexpr int WEIGHT_THREADS = 512, WEIGHT_ROWS = 128;

__device__ inline int row_of_lanes()
{
    return (int)(blockIdx.x * ROWS_AT_ONCE + threadIdx.x / LANES);
}

__global__ void rmsnorm_rows(float *y, float *rstd, const float *x, const float *w, int rows, int d,
                             float eps)
{
    int r = row_of_lanes(), lane = (int)threadIdx.x % LANES;
    if (r >= rows)
        return;
    const float *from = x + (size_t)r * d;
    float sum = 0;
    for (int i = lane; i < d; i += LANES)
        sum = fmaf(from[i], from[i], sum);
    float scale = 1.0f / sqrtf(lanes_sum(sum) / (float)d + eps);
    for (int i = lane; i < d; i += LANES) {
        float a = from[i] * scale;
        y[(size_t)r * d + i] = w ? a * w[i] : a;
    }
    if (rstd && lane == 0)
        rstd[r] = scale;
}

static void rmsnorm(rt_ops *, float *y, float *rstd, const float *x, const float *w, int rows, int d,
                    float eps)
{
    if (rows <= 0)
        return;
    CUDA_LAUNCH(rmsnorm_rows, cuda_blocks((size_t)rows, ROWS_AT_ONCE), ROW_THREADS, y, rstd, x, w, rows, d,
                eps);
}

__global__ void rmsnorm_back(float *dx, const float *dy, const float *x, const float *rstd, const float *w,
                             int rows, int d)
{
    int r = row_of_lanes(), lane = (int)threadIdx.x % LANES;
    if (r >= rows)
        return;
    size_t at = (size_t)r * d;
    float dot = 0, scale = rstd[r];
    for (int i = lane; i < d; i += LANES)
        dot = fmaf(dy[at + i] * (w ? w[i] : 1.0f), x[at + i], dot);
    float pull = -(lanes_sum(dot) / (float)d * scale * scale * scale);
    for (int i = lane; i < d; i += LANES) {
        float g = dy[at + i] * (w ? w[i] : 1.0f);
        dx[at + i] += fmaf(x[at + i], pull, g * scale);
    }
}

/* 32 columns a block: all warps bring factors of some rows, the first one runs the chains over them. */
__global__ void rmsnorm_back_weight(float *dw, const float *dy, const float *x, const float *rstd, int rows,
                                    int d)
{
    __shared__ float left[WEIGHT_ROWS][32], right[WEIGHT_ROWS][32];
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, i = (int)blockIdx.x * 32 + lane;
    float sum = i < d ? dw[i] : 0;
    for (int first = 0; first < rows; first += WEIGHT_ROWS) {
        int count = min(WEIGHT_ROWS, rows - first);
#pragma unroll 4
        for (int r = warp; r < count; r += WEIGHT_THREADS / 32) {
            size_t at = (size_t)(first + r) * d + i;
            left[r][lane] = i < d ? dy[at] : 0;
            right[r][lane] = i < d ? x[at] * rstd[first + r] : 0;
        }
        __syncthreads();
        if (warp == 0)
#pragma unroll 16
            for (int r = 0; r < count; r++)
                sum = fmaf(left[r][lane], right[r][lane], sum);
        __syncthreads();
    }
    if (warp == 0 && i < d)
        dw[i] = sum;
}

static void rmsnorm_backward(rt_ops *, float *dx, float *dw, const float *dy, const float *x,
                             const float *rstd, const float *w, int rows, int d)
{
    if (rows <= 0)
        return;
    CUDA_LAUNCH(rmsnorm_back, cuda_blocks((size_t)rows, ROWS_AT_ONCE), ROW_THREADS, dx, dy, x, rstd, w, rows,
                d);
    if (!dw)
        return;
    CUDA_LAUNCH(rmsnorm_back_weight, cuda_blocks((size_t)d, 32), WEIGHT_THREADS, dw, dy, x, rstd, rows, d);
}

/* ---- gated unit -------------------------------------------------------------------------------- */

__device__ inline float sigmoid(float g)
{
    return 1.0f / (1.0f + exp_of(0.0f - g));
}

__global__ void swiglu_all(float *y, const float *gate_up, size_t count, int f)
{
    size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count)
        return;
    const float *gate = gate_up + at / f * 2 * f + at % f;
    float g = gate[0];
    y[at] = g * sigmoid(g) * gate[f];
}

static void swiglu(rt_ops *, float *y, const float *gate_up, int rows, int f)
{
    size_t count = (size_t)rows * f;
    if (count == 0)
        return;
    CUDA_LAUNCH(swiglu_all, cuda_blocks(count, 256), 256, y, gate_up, count, f);
}

__global__ void swiglu_back(float *dgate_up, float *y, const float *dy, const float *gate_up, size_t count,
                            int f)
{
    size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count)
        return;
    size_t pair = at / f * 2 * f + at % f;
    float g = gate_up[pair], u = gate_up[pair + f], s = sigmoid(g), silu = g * s, grad = dy[at];
    float slope = s * fmaf(g, 1.0f - s, 1.0f);
    if (y)
        y[at] = silu * u;
    dgate_up[pair] = grad * u * slope;
    dgate_up[pair + f] = grad * silu;
}

static void swiglu_backward(rt_ops *, float *dgate_up, float *y, const float *dy, const float *gate_up,
                            int rows, int f)
{
    size_t count = (size_t)rows * f;
    if (count == 0)
        return;
    CUDA_LAUNCH(swiglu_back, cuda_blocks(count, 256), 256, dgate_up, y, dy, gate_up, count, f);
}

/* ---- log-probabilities: a block of threads a row ------------------------------------------------ */

constexpr int LOGIT_THREADS = 256, LOGIT_GROUPS = LOGIT_THREADS / LANES, LOGIT_RUN = 1024;

__device__ inline float tempered(float x, float temperature)
{
    return temperature == 1 ? x : x / temperature;
}

__device__ float row_max(const float *row, int v, float temperature)
{
    __shared__ float tops[LOGIT_THREADS];
    float top = -__int_as_float(0x7f800000);
    for (int i = (int)threadIdx.x; i < v; i += LOGIT_THREADS)
        top = max_of(top, tempered(row[i], temperature));
    tops[threadIdx.x] = top;
    __syncthreads();
    for (int step = LOGIT_THREADS / 2; step > 0; step /= 2) {
        if ((int)threadIdx.x < step)
            tops[threadIdx.x] = max_of(tops[threadIdx.x], tops[threadIdx.x + step]);
        __syncthreads();
    }
    return tops[0];
}

/* Lanes are summed in runs of 1024 logits, then the runs in order: groups take a run each. */
__global__ void logprob_rows(float *logprob, float *lse, const float *logits, const int32_t *target, int v,
                             float temperature)
{
    __shared__ float parts[LOGIT_GROUPS][LANES], sums[LANES];
    const float *row = logits + (size_t)blockIdx.x * v;
    int lane = (int)threadIdx.x % LANES, group = (int)threadIdx.x / LANES;
    float max = row_max(row, v, temperature), sum = 0;
    for (int first = 0; first < v; first += LOGIT_GROUPS * LOGIT_RUN) {
        int run = first + group * LOGIT_RUN, end = min(v, run + LOGIT_RUN);
        float part = 0;
        for (int i = run + lane; i < end; i += LANES)
            part += exp_below(tempered(row[i], temperature) - max);
        parts[group][lane] = part;
        __syncthreads();
        for (int g = 0; g < LOGIT_GROUPS && first + g * LOGIT_RUN < v; g++)
            sum += parts[g][lane];
        __syncthreads();
    }
    if (group == 0)
        sums[lane] = sum;
    __syncthreads();
    if (threadIdx.x != 0)
        return;
    float total = max + flog(lanes_fold(sums));
    int r = (int)blockIdx.x;
    if (lse)
        lse[r] = total;
    if (target && target[r] >= 0)
        logprob[r] = row[target[r]] / temperature - total;
}

static void logprob(rt_ops *, float *logprob, float *lse, const float *logits, const int32_t *target,
                    int rows, int v, float temperature)
{
    if (rows <= 0)
        return;
    CUDA_LAUNCH(logprob_rows, (unsigned)rows, LOGIT_THREADS, logprob, lse, logits, target, v, temperature);
}

__global__ void logprob_back(float *logits, const float *lse, const int32_t *first, const int32_t *target,
                             const float *g, int v, float temperature)
{
    int r = (int)blockIdx.x, begin = first[r], end = first[r + 1];
    float *row = logits + (size_t)r * v, total = 0;
    for (int e = begin; e < end; e++)
        total += g[e];
    float scale = -(total / temperature), shift = lse[r];
    for (int i = (int)threadIdx.x; i < v; i += LOGIT_THREADS)
        row[i] = exp_below(tempered(row[i], temperature) - shift) * scale;
    __syncthreads();
    if (threadIdx.x == 0)
        for (int e = begin; e < end; e++)
            row[target[e]] += g[e] / temperature;
}

static void logprob_backward(rt_ops *, float *logits, const float *lse, const int32_t *first,
                             const int32_t *target, const float *g, int rows, int v, float temperature)
{
    if (rows <= 0)
        return;
    CUDA_LAUNCH(logprob_back, (unsigned)rows, LOGIT_THREADS, logits, lse, first, target, g, v, temperature);
}

void rt_cuda_fill_rows(rt_ops *ops)
{
    ops->embed = embed;
    ops->embed_backward = embed_backward;
    ops->gather = gather;
    ops->scatter = scatter;
    ops->rmsnorm = rmsnorm;
    ops->rmsnorm_backward = rmsnorm_backward;
    ops->swiglu = swiglu;
    ops->swiglu_backward = swiglu_backward;
    ops->logprob = logprob;
    ops->logprob_backward = logprob_backward;
}
