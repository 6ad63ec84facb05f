/* Rotary positions and the paged K/V store. */
#include "model/ops/cuda/cuda.h"

/* A block a row; a thread turns one pair of every head. */
__global__ void rope_rows(float *x, int x_ld, int heads, int half, const float *frequencies, const rt_row *at,
                          float sign)
{
    float *row = x + (size_t)blockIdx.x * x_ld;
    int position = at[blockIdx.x].position;
    for (int i = (int)threadIdx.x; i < half; i += (int)blockDim.x) {
        double c, s;
        cos_sin((double)position * (double)frequencies[i], &c, &s);
        float cosine = (float)c, sine = (float)s * sign;
        float *low = row + i;
        for (int h = 0; h < heads; h++, low += 2 * half) {
            float a = low[0], b = low[half];
            low[0] = fmaf(a, cosine, 0.0f - b * sine);
            low[half] = fmaf(b, cosine, a * sine);
        }
    }
}

static void rope(rt_ops *, float *x, int x_ld, int heads, const rt_rope *rope, const rt_row *at, int rows,
                 int sign)
{
    if (rows <= 0)
        return;
    CUDA_LAUNCH(rope_rows, (unsigned)rows, 32, x, x_ld, heads, rope->head_size / 2, rope->frequencies, at,
                (float)sign);
}

/* Offsets of element i of a position in its page: K, and V behind it. */
__device__ inline size_t key_at(int i, int slot)
{
    return (size_t)i * RT_PAGE + slot;
}

__device__ inline size_t value_at(int i, int slot, int s)
{
    return (size_t)RT_PAGE * s + (size_t)slot * s + i;
}

__global__ void store_rows(rt_kv_view kv, const float *k, const float *v, int ld, const rt_row *at)
{
    rt_row row = at[blockIdx.x];
    float *page = page_at(kv, (int)blockIdx.y, row.page_table[row.position / RT_PAGE]);
    size_t from = (size_t)blockIdx.x * ld + (size_t)blockIdx.y * kv.head_size;
    for (int i = (int)threadIdx.x; i < kv.head_size; i += (int)blockDim.x) {
        page[key_at(i, row.position % RT_PAGE)] = k[from + i];
        page[value_at(i, row.position % RT_PAGE, kv.head_size)] = v[from + i];
    }
}

static void kv_store(rt_ops *, const rt_kv_view *kv, const float *k, const float *v, int ld, const rt_row *at,
                     int rows)
{
    if (rows <= 0)
        return;
    CUDA_LAUNCH(store_rows, dim3((unsigned)rows, (unsigned)kv->kv_heads), 64, *kv, k, v, ld, at);
}

__global__ void gather_rows(rt_kv_view dkv, float *dk, float *dv, int ld, const rt_row *at)
{
    rt_row row = at[blockIdx.x];
    const float *page = page_at(dkv, (int)blockIdx.y, row.page_table[row.position / RT_PAGE]);
    size_t to = (size_t)blockIdx.x * ld + (size_t)blockIdx.y * dkv.head_size;
    for (int i = (int)threadIdx.x; i < dkv.head_size; i += (int)blockDim.x) {
        dk[to + i] = page[key_at(i, row.position % RT_PAGE)];
        dv[to + i] = page[value_at(i, row.position % RT_PAGE, dkv.head_size)];
    }
}

static void kv_gather(rt_ops *, const rt_kv_view *dkv, float *dk, float *dv, int ld, const rt_row *at,
                      int rows)
{
    if (rows <= 0)
        return;
    CUDA_LAUNCH(gather_rows, dim3((unsigned)rows, (unsigned)dkv->kv_heads), 64, *dkv, dk, dv, ld, at);
}

/* The first slots of a page, copied or added; a block a head (x) and a layer (y). */
__global__ void page_move(rt_kv_view kv, int to, int from, int slots, bool add)
{
    kv.layer = add ? kv.layer : (int)blockIdx.y;
    float *a = page_at(kv, (int)blockIdx.x, to);
    const float *b = page_at(kv, (int)blockIdx.x, from);
    for (int e = (int)threadIdx.x; e < kv.head_size * slots; e += (int)blockDim.x) {
        int i = e / slots, slot = e % slots;
        size_t key = key_at(i, slot), value = value_at(i, slot, kv.head_size);
        a[key] = add ? a[key] + b[key] : b[key];
        a[value] = add ? a[value] + b[value] : b[value];
    }
}

static void kv_copy(rt_ops *, const rt_kv_view *kv, int to, int from, int slots, int layers)
{
    if (slots <= 0 || layers <= 0)
        return;
    CUDA_LAUNCH(page_move, dim3((unsigned)kv->kv_heads, (unsigned)layers), 128, *kv, to, from, slots, false);
}

static void kv_copy_backward(rt_ops *, const rt_kv_view *dkv, int to, int from, int slots)
{
    if (slots <= 0)
        return;
    CUDA_LAUNCH(page_move, (unsigned)dkv->kv_heads, 128, *dkv, to, from, slots, true);
}

void rt_cuda_fill_pages(rt_ops *ops)
{
    ops->rope = rope;
    ops->kv_store = kv_store;
    ops->kv_gather = kv_gather;
    ops->kv_copy = kv_copy;
    ops->kv_copy_backward = kv_copy_backward;
}
