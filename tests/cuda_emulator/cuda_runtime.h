/*
 * cuda_emulator: the part of CUDA that model/ops/cuda uses, on one CPU thread. Compiled against this header
 * as C++, the kernels run where there is no GPU, under ASan and UBSan, and must give the bits of the cpu
 * backend.
 *
 * Blocks run one after another; the threads of a block are fibers that run until they wait for each other
 * (barriers, shuffles, votes). Who runs first is a choice: in a kernel that lacks a barrier some order shows
 * it, so tests run several (RT_CUDA_ORDER: "forward", "reverse" or a number that seeds random ones), and
 * barriers.sh leaves out each barrier to see whether they do.
 *
 * What CUDA leaves undefined ends the program with a sentence: threads that wait at different barriers or
 * for one that has ended, a shuffle from a lane outside its mask, an argument that points to memory of the
 * host. Memory of the device is closed while host code runs, so that a host that touches it crashes as it
 * should, and holds NaN where nothing was written; shared memory holds what the block before left there.
 *
 * What it can't show: threads that race and happen to be harmless in every order tried, what anything costs,
 * and what nvcc makes of the source. tests/gpu.sh is for that.
 */
#ifndef RT_CUDA_EMULATOR_H
#define RT_CUDA_EMULATOR_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define __CUDACC__ 1
#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)
#define RT_CUDA_START(kernel, grid, threads, ...) emulated_launch(kernel, #kernel, grid, threads, __VA_ARGS__)

/* ---- where a thread is --------------------------------------------------------------------------- */

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_of = 1, unsigned y_of = 1, unsigned z_of = 1) : x(x_of), y(y_of), z(z_of) {}
};

struct emulated_place {
    dim3 thread, block, block_dim, grid_dim;
};

/* Of the fiber that runs; one thread of the program at a time uses the device. */
extern emulated_place *emulated_here __attribute__((visibility("hidden")));
#define threadIdx (emulated_here->thread)
#define blockIdx (emulated_here->block)
#define blockDim (emulated_here->block_dim)
#define gridDim (emulated_here->grid_dim)

/* ---- meeting: where is the line of the source, so that copies which the compiler makes stay one ----- */

struct emulated_site {
    const char *file;
    int line;
};
#define EMULATED_SITE emulated_site where = {__builtin_FILE(), __builtin_LINE()}

enum { EMULATED_SHUFFLE, EMULATED_SHUFFLE_DOWN, EMULATED_BALLOT };

bool emulated_barrier(bool vote, emulated_site where);
uint64_t emulated_warp(int operation, unsigned mask, uint64_t value, unsigned number, unsigned width,
                       emulated_site where);

static inline void __syncthreads(EMULATED_SITE)
{
    emulated_barrier(false, where);
}

static inline int __syncthreads_or(int vote, EMULATED_SITE)
{
    return emulated_barrier(vote != 0, where);
}

static inline unsigned __ballot_sync(unsigned mask, int vote, EMULATED_SITE)
{
    return (unsigned)emulated_warp(EMULATED_BALLOT, mask, vote != 0, 0, 32, where);
}

template <typename T>
static inline T emulated_shuffle(int operation, unsigned mask, T value, unsigned number, int width,
                                 emulated_site where)
{
    uint64_t word = 0;
    memcpy(&word, &value, sizeof value);
    word = emulated_warp(operation, mask, word, number, (unsigned)width, where);
    memcpy(&value, &word, sizeof value);
    return value;
}

template <typename T>
static inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32, EMULATED_SITE)
{
    return emulated_shuffle(EMULATED_SHUFFLE, mask, value, (unsigned)lane, width, where);
}

template <typename T>
static inline T __shfl_down_sync(unsigned mask, T value, int step, int width = 32, EMULATED_SITE)
{
    return emulated_shuffle(EMULATED_SHUFFLE_DOWN, mask, value, (unsigned)step, width, where);
}

/* ---- arithmetic ---------------------------------------------------------------------------------- */

static inline int __popc(unsigned bits)
{
    return __builtin_popcount(bits);
}

static inline int __float_as_int(float a)
{
    int bits;
    memcpy(&bits, &a, sizeof bits);
    return bits;
}

static inline float __int_as_float(int bits)
{
    float a;
    memcpy(&a, &bits, sizeof a);
    return a;
}

static inline int min(int a, int b)
{
    return a < b ? a : b;
}

/* ---- the runtime --------------------------------------------------------------------------------- */

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };

struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount;
};

cudaError_t cudaMalloc(void **memory, size_t bytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemset(void *memory, int byte, size_t bytes);
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *device, int index);
cudaError_t cudaGetLastError(void);
const char *cudaGetErrorString(cudaError_t code);

/* ---- launches ------------------------------------------------------------------------------------ */

/* Runs body(context) once for each thread. */
void emulated_grid(const char *kernel, dim3 grid, dim3 threads, void (*body)(void *context), void *context);
/* Ends the program unless the pointer, an argument of a kernel, is NULL or in memory of the device. */
void emulated_argument(const char *kernel, const void *pointer);

template <typename T> static inline void emulated_check(const char *kernel, T *pointer)
{
    emulated_argument(kernel, pointer);
}

template <typename T> static inline void emulated_check(const char *, const T &)
{
}

template <typename... P, typename... A>
static inline void emulated_launch(void (*kernel)(P...), const char *name, dim3 grid, dim3 threads, A... args)
{
    (emulated_check(name, args), ...);
    auto thread = [&] { kernel(args...); };
    emulated_grid(
        name, grid, threads, [](void *context) { (*static_cast<decltype(thread) *>(context))(); }, &thread);
}

#endif
