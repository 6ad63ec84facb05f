/*
 * The three products of a layer. All are C (I, J) = Σ_l A(i, l)·B(l, j) with A and B found by strides, and
 * each element is one chain over l in ascending order: blocks of threads divide C, never l, so the tile
 * never shows in the result.
 */
#include "model/ops/cuda/cuda.h"

/* Element (i, l) of A at a[i·i_step + l·l_step]; (l, j) of B at b[l·l_step + j·j_step]. */
template <typename W> struct product {
    float *c;
    const float *a;
    const W *b;
    size_t c_ld, a_i, a_l, b_l, b_j;
    int rows, columns, depth;
    bool resume; /* chains begin at the values in C */
};

/* A part of A, (TL, TI) of it, on its way to the shared tile: a thread's share waits in registers while the
 * part before is multiplied. What lies outside becomes 0 and is never used. */
template <int TI, int TL, int THREADS> struct part {
    static constexpr int EACH = TI * TL / THREADS;
    static_assert(TI * TL % THREADS == 0, "threads have equal shares");
    float value[EACH];

    /* Neighbouring threads read neighbouring words. */
    __device__ static int row(int e, bool along) { return along ? e / TL : e % TI; }
    __device__ static int depth(int e, bool along) { return along ? e % TL : e / TI; }

    template <typename T>
    __device__ void fetch(const T *from, size_t i_step, size_t l_step, int i0, int l0, int i_end, int l_end)
    {
#pragma unroll
        for (int n = 0; n < EACH; n++) {
            int e = (int)threadIdx.x + n * THREADS;
            int i = i0 + row(e, l_step == 1), l = l0 + depth(e, l_step == 1);
            value[n] = i < i_end && l < l_end ? weight_at(from, (size_t)i * i_step + (size_t)l * l_step) : 0;
        }
    }

    __device__ void store(float (*tile)[TI + 4], bool along) const
    {
#pragma unroll
        for (int n = 0; n < EACH; n++) {
            int e = (int)threadIdx.x + n * THREADS;
            tile[depth(e, along)][row(e, along)] = value[n];
        }
    }
};

/* Threads (TI/MI) × (TJ/MJ), each with MI × MJ elements: rows ti + m·(TI/MI), columns tj + m·(TJ/MJ). */
template <int TI, int TJ, int TL, int MI, int MJ, typename W>
__global__ void __launch_bounds__((TI / MI) * (TJ / MJ)) product_tile(product<W> p)
{
    constexpr int ACROSS = TJ / MJ, DOWN = TI / MI, THREADS = ACROSS * DOWN;
    __shared__ float a_tile[TL][TI + 4], b_tile[TL][TJ + 4];
    int i0 = (int)blockIdx.y * TI, j0 = (int)blockIdx.x * TJ;
    int tj = (int)threadIdx.x % ACROSS, ti = (int)threadIdx.x / ACROSS;
    part<TI, TL, THREADS> a_part;
    part<TJ, TL, THREADS> b_part;
    a_part.fetch(p.a, p.a_i, p.a_l, i0, 0, p.rows, p.depth);
    b_part.fetch(p.b, p.b_j, p.b_l, j0, 0, p.columns, p.depth);
    float acc[MI][MJ];
#pragma unroll
    for (int m = 0; m < MI; m++)
#pragma unroll
        for (int n = 0; n < MJ; n++) {
            int i = i0 + ti + m * DOWN, j = j0 + tj + n * ACROSS;
            acc[m][n] = p.resume && i < p.rows && j < p.columns ? p.c[(size_t)i * p.c_ld + j] : 0;
        }
    for (int l0 = 0; l0 < p.depth; l0 += TL) {
        a_part.store(a_tile, p.a_l == 1);
        b_part.store(b_tile, p.b_l == 1);
        __syncthreads();
        a_part.fetch(p.a, p.a_i, p.a_l, i0, l0 + TL, p.rows, p.depth);
        b_part.fetch(p.b, p.b_j, p.b_l, j0, l0 + TL, p.columns, p.depth);
        int steps = min(TL, p.depth - l0);
#pragma unroll 8
        for (int l = 0; l < steps; l++) {
            float a[MI], b[MJ];
#pragma unroll
            for (int m = 0; m < MI; m++)
                a[m] = a_tile[l][ti + m * DOWN];
#pragma unroll
            for (int n = 0; n < MJ; n++)
                b[n] = b_tile[l][tj + n * ACROSS];
#pragma unroll
            for (int m = 0; m < MI; m++)
#pragma unroll
                for (int n = 0; n < MJ; n++)
                    acc[m][n] = fmaf(a[m], b[n], acc[m][n]);
        }
        __syncthreads();
    }
#pragma unroll
    for (int m = 0; m < MI; m++)
#pragma unroll
        for (int n = 0; n < MJ; n++) {
            int i = i0 + ti + m * DOWN, j = j0 + tj + n * ACROSS;
            if (i < p.rows && j < p.columns)
                p.c[(size_t)i * p.c_ld + j] = acc[m][n];
        }
}

template <int TI, int TJ, int TL, int MI, int MJ, typename W> static void product_start(const product<W> &p)
{
    dim3 grid(cuda_blocks((size_t)p.columns, TJ), cuda_blocks((size_t)p.rows, TI));
    auto kernel = product_tile<TI, TJ, TL, MI, MJ, W>;
    CUDA_LAUNCH(kernel, grid, (TI / MI) * (TJ / MJ), p);
}

static size_t tiles(int rows, int columns, unsigned side)
{
    return (size_t)cuda_blocks((size_t)columns, side) * cuda_blocks((size_t)rows, side);
}

/* The largest tile that still gives most multiprocessors one. */
template <typename W> static void product_run(const product<W> &p)
{
    constexpr size_t ENOUGH = 96;
    if (p.rows <= 0 || p.columns <= 0)
        return;
    if (p.rows <= 16)
        product_start<8, 32, 64, 2, 1>(p);
    else if (tiles(p.rows, p.columns, 128) >= ENOUGH)
        product_start<128, 128, 8, 8, 8>(p);
    else if (tiles(p.rows, p.columns, 64) >= ENOUGH)
        product_start<64, 64, 32, 4, 4>(p);
    else
        product_start<32, 32, 128, 2, 2>(p);
}

template <typename W>
static void forward(float *y, int y_ld, const float *x, int x_ld, const rt_packed *w, int rows, bool add)
{
    product_run(product<W>{y, x, (const W *)w->data, (size_t)y_ld, (size_t)x_ld, 1, 1, (size_t)w->k, rows,
                           w->n, w->k, add});
}

template <typename W>
static void backward(float *dx, int dx_ld, const float *dy, int dy_ld, const rt_packed *w, int rows, bool add)
{
    product_run(product<W>{dx, dy, (const W *)w->data, (size_t)dx_ld, (size_t)dy_ld, 1, (size_t)w->k, 1, rows,
                           w->k, w->n, add});
}

static void matmul(rt_ops *, float *y, int y_ld, const float *x, int x_ld, const rt_packed *w, int rows,
                   bool accumulate)
{
    if (w->bf16)
        forward<unsigned short>(y, y_ld, x, x_ld, w, rows, accumulate);
    else
        forward<float>(y, y_ld, x, x_ld, w, rows, accumulate);
}

static void matmul_dx(rt_ops *, float *dx, int dx_ld, const float *dy, int dy_ld, const rt_packed *w,
                      int rows, bool accumulate)
{
    if (w->bf16)
        backward<unsigned short>(dx, dx_ld, dy, dy_ld, w, rows, accumulate);
    else
        backward<float>(dx, dx_ld, dy, dy_ld, w, rows, accumulate);
}

static void matmul_dw(rt_ops *, float *dw, const float *dy, int dy_ld, const float *x, int x_ld, int rows,
                      int n, int k)
{
    product_run(product<float>{dw, dy, x, (size_t)k, 1, (size_t)dy_ld, (size_t)x_ld, 1, n, k, rows, true});
}

void rt_cuda_fill_matmul(rt_ops *ops)
{
    ops->matmul = matmul;
    ops->matmul_dx = matmul_dx;
    ops->matmul_dw = matmul_dw;
}
