/*
 * Attention over the pages of a row's path, and its gradient. A block of threads has one row and one query
 * head and walks over the positions in chunks; the gradient of keys and values has blocks of one page
 * and key-value head, which meet the rows that saw the page in ascending order. Scores are computed
 * again where they are needed: nothing is kept whose size depends on the context.
 */
#include "model/ops/cuda/cuda.h"

#include <stdio.h>
#include <stdlib.h>

constexpr int THREADS = 128;
constexpr int CHUNK = 1024;   /* positions whose weights lie in shared memory */
constexpr int HEAD_MAX = 256; /* floats of a head: what accumulators have registers for */
constexpr int WIDE = HEAD_MAX / THREADS;
constexpr int ITEMS = 8;      /* of the gradient of a page: rows times heads handled together, a warp each */
constexpr int PAGE_THREADS = 32 * ITEMS;

struct attend_args {
    const float *q, *out, *dout;
    float *to, *stats; /* to: out, or dq */
    const float *delta;
    int q_ld, out_ld, dout_ld, to_ld, heads;
    rt_kv_view kv;
    const rt_row *at;
};

/* What a block of threads works on. */
struct place {
    int row, head, kv_head, position, s;
    const int32_t *table;
    float scale;
};

__device__ inline place place_of(const attend_args &t)
{
    place p;
    p.row = (int)blockIdx.x;
    p.head = (int)blockIdx.y;
    p.kv_head = p.head / (t.heads / t.kv.kv_heads);
    p.position = t.at[p.row].position;
    p.table = t.at[p.row].page_table;
    p.s = t.kv.head_size;
    p.scale = 1.0f / sqrtf((float)p.s);
    return p;
}

/* A head's row of a matrix into shared memory. */
__device__ inline void head_load(float *to, const float *from, int ld, const place &p)
{
    for (int i = (int)threadIdx.x; i < p.s; i += THREADS)
        to[i] = from[(size_t)p.row * ld + (size_t)p.head * p.s + i];
}

/* q · K of one slot of a page. */
__device__ inline float key_dot(const float *q, const float *page, int slot, int s)
{
    float sum = 0;
    for (int i = 0; i < s; i++)
        sum = fmaf(q[i], page[(size_t)i * RT_PAGE + slot], sum);
    return sum;
}

/* grad · V of one slot. */
__device__ inline float value_dot(const float *grad, const float *page, int slot, int s)
{
    const float *v = page + (size_t)RT_PAGE * s + (size_t)slot * s;
    float sum = 0;
    for (int i = 0; i < s; i++)
        sum = fmaf(grad[i], v[i], sum);
    return sum;
}

__device__ inline const float *page_of(const attend_args &t, const place &p, int position)
{
    return page_at(t.kv, p.kv_head, p.table[position / RT_PAGE]);
}

/* ---- forward ------------------------------------------------------------------------------------ */

__device__ float score_max(const attend_args &t, const place &p, const float *q)
{
    __shared__ float tops[THREADS];
    float top = -__int_as_float(0x7f800000);
    for (int at = (int)threadIdx.x; at <= p.position; at += THREADS)
        top = max_of(top, key_dot(q, page_of(t, p, at), at % RT_PAGE, p.s) * p.scale);
    tops[threadIdx.x] = top;
    __syncthreads();
    for (int step = THREADS / 2; step > 0; step /= 2) {
        if ((int)threadIdx.x < step)
            tops[threadIdx.x] = max_of(tops[threadIdx.x], tops[threadIdx.x + step]);
        __syncthreads();
    }
    return tops[0];
}

__global__ void __launch_bounds__(THREADS) attend(attend_args t)
{
    __shared__ float q[HEAD_MAX], weights[CHUNK], lanes[LANES];
    place p = place_of(t);
    head_load(q, t.q, t.q_ld, p);
    __syncthreads();
    float max = score_max(t, p, q), sum = 0, acc[WIDE] = {};
    for (int first = 0; first <= p.position; first += CHUNK) {
        int count = min(CHUNK, p.position + 1 - first);
        for (int j = (int)threadIdx.x; j < count; j += THREADS) {
            float score = key_dot(q, page_of(t, p, first + j), j % RT_PAGE, p.s);
            weights[j] = exp_below(score * p.scale - max);
        }
        __syncthreads();
        if (threadIdx.x < LANES)
            for (int j = (int)threadIdx.x; j < count; j += LANES)
                sum += weights[j];
        for (int j = 0; j < count; j++) {
            const float *v = page_of(t, p, first + j) + (size_t)(RT_PAGE + j % RT_PAGE) * p.s;
#pragma unroll
            for (int w = 0; w < WIDE; w++) {
                int i = (int)threadIdx.x + w * THREADS;
                if (i < p.s)
                    acc[w] = fmaf(weights[j], v[i], acc[w]);
            }
        }
        __syncthreads();
    }
    if (threadIdx.x < LANES)
        lanes[threadIdx.x] = sum;
    __syncthreads();
    float total = lanes_fold(lanes), inverse = 1.0f / total;
#pragma unroll
    for (int w = 0; w < WIDE; w++) {
        int i = (int)threadIdx.x + w * THREADS;
        if (i < p.s)
            t.to[(size_t)p.row * t.to_ld + (size_t)p.head * p.s + i] = acc[w] * inverse;
    }
    if (t.stats && threadIdx.x == 0) {
        float *stats = t.stats + ((size_t)p.row * t.heads + p.head) * 2;
        stats[0] = max;
        stats[1] = total;
    }
}

static void head_check(int s)
{
    if (s <= HEAD_MAX)
        return;
    fprintf(stderr, "retake: heads of %d floats are beyond the CUDA backend's %d; use device cpu\n", s,
            HEAD_MAX);
    abort();
}

static void attention(rt_ops *, float *out, int out_ld, float *stats, const float *q, int q_ld, int heads,
                      const rt_kv_view *kv, const rt_row *at, int rows)
{
    head_check(kv->head_size);
    if (rows <= 0)
        return;
    attend_args t = {};
    t.q = q, t.q_ld = q_ld, t.to = out, t.to_ld = out_ld, t.stats = stats;
    t.heads = heads, t.kv = *kv, t.at = at;
    CUDA_LAUNCH(attend, dim3((unsigned)rows, (unsigned)heads), THREADS, t);
}

/* ---- backward: queries -------------------------------------------------------------------------- */

/* delta (R, H) = grad · out, in lanes. */
__global__ void deltas(float *delta, attend_args t)
{
    place p = place_of(t);
    size_t column = (size_t)p.head * p.s;
    const float *grad = t.dout + (size_t)p.row * t.dout_ld + column;
    const float *out = t.out + (size_t)p.row * t.out_ld + column;
    float dot = 0;
    for (int i = (int)threadIdx.x; i < (p.s + LANES - 1) / LANES * LANES; i += LANES)
        dot = i < p.s ? fmaf(grad[i], out[i], dot) : fmaf(0.0f, 0.0f, dot);
    dot = lanes_sum(dot);
    if (threadIdx.x == 0)
        delta[(size_t)p.row * t.heads + p.head] = dot;
}

/* exp(score) over its sum, and what it hands back to the score. */
__device__ inline void weight_of(float score, float value, float scale, const float *stats, float delta,
                                 float *weight, float *ds)
{
    float a = exp_below(score * scale - stats[0]) * (1.0f / stats[1]);
    *weight = a;
    *ds = a * (value - delta) * scale;
}

__global__ void __launch_bounds__(THREADS) attend_dq(attend_args t)
{
    __shared__ float q[HEAD_MAX], grad[HEAD_MAX], ds[CHUNK];
    place p = place_of(t);
    head_load(q, t.q, t.q_ld, p);
    head_load(grad, t.dout, t.dout_ld, p);
    __syncthreads();
    size_t item = (size_t)p.row * t.heads + p.head;
    const float *stats = t.stats + item * 2;
    float delta = t.delta[item], acc[WIDE] = {};
    for (int first = 0; first <= p.position; first += CHUNK) {
        int count = min(CHUNK, p.position + 1 - first);
        for (int j = (int)threadIdx.x; j < count; j += THREADS) {
            const float *page = page_of(t, p, first + j);
            float weight;
            weight_of(key_dot(q, page, j % RT_PAGE, p.s), value_dot(grad, page, j % RT_PAGE, p.s), p.scale,
                      stats, delta, &weight, &ds[j]);
        }
        __syncthreads();
        for (int j = 0; j < count; j++) {
            const float *k = page_of(t, p, first + j) + j % RT_PAGE;
#pragma unroll
            for (int w = 0; w < WIDE; w++) {
                int i = (int)threadIdx.x + w * THREADS;
                if (i < p.s)
                    acc[w] = fmaf(ds[j], k[(size_t)i * RT_PAGE], acc[w]);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int w = 0; w < WIDE; w++) {
        int i = (int)threadIdx.x + w * THREADS;
        if (i < p.s)
            t.to[(size_t)p.row * t.to_ld + (size_t)p.head * p.s + i] = acc[w];
    }
}

/* ---- backward: keys and values ------------------------------------------------------------------ */

/* number[page] = where on its paths the page stands: the same on all of them. */
__global__ void pages_number(int *number, const rt_row *at)
{
    rt_row row = at[blockIdx.x];
    for (int i = (int)threadIdx.x; i <= row.position / RT_PAGE; i += (int)blockDim.x)
        number[row.page_table[i]] = i;
}

/* Rows first … first + PAGE_THREADS − 1 that saw the page, in ascending order; returns how many. */
__device__ int rows_that_saw(int *list, const rt_row *at, int rows, int first, int page, int number)
{
    __shared__ int before[PAGE_THREADS / 32 + 1];
    int r = first + (int)threadIdx.x, warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    bool saw = r < rows && at[r].position / RT_PAGE >= number && at[r].page_table[number] == page;
    unsigned all = __ballot_sync(0xffffffffu, saw);
    if (lane == 0)
        before[warp + 1] = __popc(all);
    __syncthreads();
    if (threadIdx.x == 0) {
        before[0] = 0;
        for (int w = 0; w < PAGE_THREADS / 32; w++)
            before[w + 1] += before[w];
    }
    __syncthreads();
    if (saw)
        list[before[warp] + __popc(all & ((1u << lane) - 1))] = r;
    int count = before[PAGE_THREADS / 32];
    __syncthreads();
    return count;
}

/* What a block of threads of the page's gradient holds of up to ITEMS items: rows times heads. */
template <int SIZE> struct page_items {
    float q[ITEMS][SIZE], grad[ITEMS][SIZE], weight[ITEMS][RT_PAGE], ds[ITEMS][RT_PAGE];
};

struct page_place {
    const float *kv; /* the page */
    int page, number, kv_head, group, s;
    const int *list; /* rows that saw it */
};

__device__ inline int head_of(const page_place &p, int item)
{
    return p.kv_head * p.group + item % p.group;
}

template <int SIZE>
__device__ void items_load(page_items<SIZE> &to, const attend_args &t, const page_place &p, int begin,
                           int count)
{
    for (int e = (int)threadIdx.x; e < count * p.s; e += PAGE_THREADS) {
        int item = begin + e / p.s, row = p.list[item / p.group];
        size_t column = (size_t)head_of(p, item) * p.s + e % p.s;
        to.q[e / p.s][e % p.s] = t.q[(size_t)row * t.q_ld + column];
        to.grad[e / p.s][e % p.s] = t.dout[(size_t)row * t.dout_ld + column];
    }
}

/* A warp an item: half of it has scores of the 16 slots, the other half what values hand back. */
template <int SIZE>
__device__ void items_weigh(page_items<SIZE> &to, const attend_args &t, const page_place &p, int begin,
                            int count)
{
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, slot = lane % RT_PAGE;
    if (warp >= count)
        return;
    int item = begin + warp, row = p.list[item / p.group];
    bool key = lane < RT_PAGE;
    float own = key ? key_dot(to.q[warp], p.kv, slot, p.s) : value_dot(to.grad[warp], p.kv, slot, p.s);
    float value = __shfl_down_sync(0xffffffffu, own, RT_PAGE);
    size_t at = (size_t)row * t.heads + head_of(p, item);
    float weight, ds;
    weight_of(own, value, 1.0f / sqrtf((float)p.s), t.stats + at * 2, t.delta[at], &weight, &ds);
    if (!key)
        return;
    /* slots behind the row's position hold nothing of it */
    bool seen = p.number * RT_PAGE + slot <= t.at[row].position;
    to.weight[warp][slot] = seen ? weight : 0;
    to.ds[warp][slot] = seen ? ds : 0;
}

/* PER: elements of the page's gradient a thread owns, at least 32·S / PAGE_THREADS. */
template <int PER>
__global__ void __launch_bounds__(PAGE_THREADS)
    attend_dkv(attend_args t, float *dkv_pool, const int *number, int rows)
{
    __shared__ page_items<PER * 8> items;
    __shared__ int list[PAGE_THREADS];
    int page = (int)blockIdx.x, kv_head = (int)blockIdx.y, s = t.kv.head_size, half = RT_PAGE * s;
    if (number[page] < 0)
        return;
    int group = t.heads / t.kv.kv_heads;
    page_place p = {page_at(t.kv, kv_head, page), page, number[page], kv_head, group, s, list};
    float *to = dkv_pool + (p.kv - t.kv.pool), acc[PER];
#pragma unroll
    for (int m = 0; m < PER; m++) {
        int e = (int)threadIdx.x + m * PAGE_THREADS;
        acc[m] = e < 2 * half ? to[e] : 0;
    }
    for (int first = 0; first < rows; first += PAGE_THREADS) {
        int all = rows_that_saw(list, t.at, rows, first, page, p.number) * p.group;
        for (int begin = 0; begin < all; begin += ITEMS) {
            int count = min(ITEMS, all - begin);
            items_load(items, t, p, begin, count);
            __syncthreads();
            items_weigh(items, t, p, begin, count);
            __syncthreads();
            for (int i = 0; i < count; i++) {
#pragma unroll
                for (int m = 0; m < PER; m++) {
                    int e = (int)threadIdx.x + m * PAGE_THREADS, v = e - half;
                    if (e < half)
                        acc[m] = fmaf(items.q[i][e / RT_PAGE], items.ds[i][e % RT_PAGE], acc[m]);
                    else if (e < 2 * half)
                        acc[m] = fmaf(items.weight[i][v / s], items.grad[i][v % s], acc[m]);
                }
            }
            __syncthreads();
        }
    }
#pragma unroll
    for (int m = 0; m < PER; m++) {
        int e = (int)threadIdx.x + m * PAGE_THREADS;
        if (e < 2 * half)
            to[e] = acc[m];
    }
}

static void attention_backward(rt_ops *ops, float *dq, int dq_ld, const rt_kv_view *dkv, const float *dout,
                               int dout_ld, const float *out, int out_ld, const float *stats, const float *q,
                               int q_ld, int heads, const rt_kv_view *kv, const rt_row *at, int rows)
{
    head_check(kv->head_size);
    if (rows <= 0)
        return;
    size_t items = (size_t)rows * heads;
    float *delta = (float *)rt_cuda_scratch(ops, items * sizeof(float) + (size_t)kv->pages * sizeof(int));
    int *number = (int *)(delta + items);
    attend_args t = {};
    t.q = q, t.q_ld = q_ld, t.out = out, t.out_ld = out_ld, t.dout = dout, t.dout_ld = dout_ld;
    t.to = dq, t.to_ld = dq_ld, t.stats = (float *)stats, t.delta = delta;
    t.heads = heads, t.kv = *kv, t.at = at;
    dim3 grid((unsigned)rows, (unsigned)heads), pages((unsigned)kv->pages, (unsigned)kv->kv_heads);
    CUDA_LAUNCH(deltas, grid, LANES, delta, t);
    CUDA_LAUNCH(attend_dq, grid, THREADS, t);
    CUDA_CHECK(cudaMemset(number, 0xff, (size_t)kv->pages * sizeof(int)));
    CUDA_LAUNCH(pages_number, (unsigned)rows, 32, number, at);
    /* both pools have one form; the views may stand at different layers */
    ptrdiff_t layer = (ptrdiff_t)kv->kv_heads * kv->pages * 2 * RT_PAGE * kv->head_size;
    float *to = dkv->pool + (dkv->layer - kv->layer) * layer;
    if (kv->head_size <= 64)
        CUDA_LAUNCH(attend_dkv<8>, pages, PAGE_THREADS, t, to, number, rows);
    else if (kv->head_size <= 128)
        CUDA_LAUNCH(attend_dkv<16>, pages, PAGE_THREADS, t, to, number, rows);
    else
        CUDA_LAUNCH(attend_dkv<32>, pages, PAGE_THREADS, t, to, number, rows);
}

void rt_cuda_fill_attention(rt_ops *ops)
{
    ops->attention = attention;
    ops->attention_backward = attention_backward;
}
