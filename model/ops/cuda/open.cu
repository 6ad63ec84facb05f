/* Opening a CUDA device: its memory, its name, the table. */
#include "model/ops/cuda/cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void rt_cuda_check(cudaError_t code, const char *call, const char *file, int line)
{
    if (code == cudaSuccess)
        return;
    fprintf(stderr, "retake: the CUDA device failed: %s: %s (%s:%d)\n", call, cudaGetErrorString(code), file,
            line);
    abort();
}

void *rt_cuda_scratch(rt_ops *ops, size_t bytes)
{
    rt_cuda *cuda = (rt_cuda *)ops;
    if (cuda->scratch_bytes < bytes) {
        CUDA_CHECK(cudaFree(cuda->scratch)); /* waits for kernels that use it */
        cuda->scratch_bytes = bytes + bytes / 2;
        CUDA_CHECK(cudaMalloc(&cuda->scratch, cuda->scratch_bytes));
    }
    return cuda->scratch;
}

static void *device_alloc(rt_ops *, size_t bytes)
{
    void *memory = NULL;
    if (cudaMalloc(&memory, bytes > 0 ? bytes : 1) != cudaSuccess) {
        cudaGetLastError();
        return NULL;
    }
    CUDA_CHECK(cudaMemset(memory, 0, bytes));
    return memory;
}

static void device_free(rt_ops *, void *memory)
{
    CUDA_CHECK(cudaFree(memory));
}

static void upload(rt_ops *, void *to, const void *from, size_t bytes)
{
    CUDA_CHECK(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
}

static void download(rt_ops *, void *to, const void *from, size_t bytes)
{
    CUDA_CHECK(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost));
}

static void zero(rt_ops *, void *memory, size_t bytes)
{
    CUDA_CHECK(cudaMemset(memory, 0, bytes));
}

static void close_device(rt_ops *ops)
{
    rt_cuda *cuda = (rt_cuda *)ops;
    cudaFree(cuda->scratch);
    free(cuda);
}

static rt_packed *pack(rt_ops *, rt_packed *into, const void *w, int dtype, int rows0, int n, int n_total,
                       int k)
{
    if (!into) {
        into = (rt_packed *)calloc(1, sizeof *into);
        into->n = n_total;
        into->k = k;
        into->bf16 = dtype == RT_CUDA_BF16;
        into->bytes = (size_t)n_total * k * (into->bf16 ? 2 : 4);
        CUDA_CHECK(cudaMalloc(&into->data, into->bytes));
    }
    size_t row = (size_t)k * (into->bf16 ? 2 : 4);
    CUDA_CHECK(cudaMemcpy((char *)into->data + (size_t)rows0 * row, w, (size_t)n * row,
                          cudaMemcpyHostToDevice));
    return into;
}

static void packed_free(rt_ops *, rt_packed *w)
{
    if (!w)
        return;
    CUDA_CHECK(cudaFree(w->data));
    free(w);
}

static size_t packed_bytes(const rt_packed *w)
{
    return w->bytes;
}

extern "C" rt_ops *rt_cuda_open(char *reason, size_t room)
{
    int count = 0;
    cudaError_t code = cudaGetDeviceCount(&count);
    cudaDeviceProp device;
    if (code == cudaSuccess && count > 0)
        code = cudaGetDeviceProperties(&device, 0);
    if (code != cudaSuccess || count == 0) {
        snprintf(reason, room, "%s", code != cudaSuccess ? cudaGetErrorString(code) : "there is none");
        return NULL;
    }
    rt_cuda *cuda = (rt_cuda *)calloc(1, sizeof *cuda);
    snprintf(cuda->isa, sizeof cuda->isa, "sm_%d%d, %.80s", device.major, device.minor, device.name);
    rt_ops *ops = &cuda->ops;
    ops->name = "cuda";
    ops->isa = cuda->isa;
    ops->threads = device.multiProcessorCount;
    ops->alloc = device_alloc;
    ops->free = device_free;
    ops->upload = upload;
    ops->download = download;
    ops->zero = zero;
    ops->close = close_device;
    ops->pack = pack;
    ops->packed_free = packed_free;
    ops->packed_bytes = packed_bytes;
    rt_cuda_fill_matmul(ops);
    rt_cuda_fill_rows(ops);
    rt_cuda_fill_pages(ops);
    rt_cuda_fill_attention(ops);
    rt_cuda_fill_vectors(ops);
    return ops;
}
