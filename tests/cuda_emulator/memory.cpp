/* Memory of the emulated device: one stretch of addresses that is closed while host code runs. */
#include "emulator.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sanitizer/asan_interface.h>

constexpr size_t DEVICE_BYTES = (size_t)1 << 32, ALIGN = 256, GAP = 256; /* GAP: lies behind each piece */
constexpr size_t HUGE_BYTES = 2 << 20; /* opening and closing takes a while for every page: large ones */
constexpr int UNWRITTEN = 0xff;        /* floats of it are NaN */

struct piece { /* ascending by address */
    char *from;
    size_t bytes;
    piece *next;
};

static char *device_memory;
static size_t device_used; /* up to here pieces have been */
static piece *pieces;
static cudaError_t last_error;

static cudaError_t failed(cudaError_t code)
{
    last_error = code;
    return code;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t code = last_error;
    last_error = cudaSuccess;
    return code;
}

void emulated_refuse_launch(void)
{
    last_error = cudaErrorInvalidConfiguration;
}

const char *cudaGetErrorString(cudaError_t code)
{
    switch (code) {
    case cudaSuccess:
        return "no error";
    case cudaErrorInvalidValue:
        return "invalid argument";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    default:
        return "invalid configuration argument";
    }
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *device, int)
{
    memset(device, 0, sizeof *device);
    snprintf(device->name, sizeof device->name, "emulated on a CPU");
    device->multiProcessorCount = 1;
    return cudaSuccess;
}

void emulated_memory(bool open)
{
    int access = open ? PROT_READ | PROT_WRITE : PROT_NONE;
    if (device_used > 0 && mprotect(device_memory, device_used, access) != 0)
        emulated_fail("memory of the device can't be %s", open ? "opened" : "closed");
}

/* The piece that these bytes lie in, or NULL. */
static piece *piece_of(const void *memory, size_t bytes)
{
    const char *at = (const char *)memory;
    piece *p = pieces;
    while (p && !(at >= p->from && at < p->from + p->bytes))
        p = p->next;
    return p && bytes <= p->bytes - (size_t)(at - p->from) ? p : NULL;
}

void emulated_argument(const char *kernel, const void *pointer)
{
    if (pointer && !piece_of(pointer, 0))
        emulated_fail("%s gets a pointer that is not to memory of the device", kernel);
}

static bool memory_begin(void)
{
    void *all = mmap(NULL, DEVICE_BYTES + HUGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                     -1, 0);
    if (all == MAP_FAILED)
        return false;
    device_memory = (char *)(((uintptr_t)all + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES);
    madvise(device_memory, DEVICE_BYTES, MADV_HUGEPAGE);
    return true;
}

/* The first gap that is wide enough. */
cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    if (!device_memory && !memory_begin())
        return failed(cudaErrorMemoryAllocation);
    size_t room = (bytes + ALIGN - 1) / ALIGN * ALIGN + GAP;
    piece **link = &pieces;
    char *from = device_memory;
    while (*link && (size_t)((*link)->from - from) < room) {
        from = (*link)->from + ((*link)->bytes + ALIGN - 1) / ALIGN * ALIGN + GAP;
        link = &(*link)->next;
    }
    if (bytes == 0 || bytes > DEVICE_BYTES || (size_t)(from - device_memory) > DEVICE_BYTES - room)
        return failed(bytes == 0 ? cudaErrorInvalidValue : cudaErrorMemoryAllocation);
    piece *fresh = (piece *)malloc(sizeof *fresh);
    *fresh = {from, bytes, *link};
    *link = fresh;
    size_t used = ((size_t)(from - device_memory) + room + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
    device_used = used > device_used ? used : device_used;
    emulated_memory(true);
    ASAN_POISON_MEMORY_REGION(from, room);
    ASAN_UNPOISON_MEMORY_REGION(from, bytes);
    memset(from, UNWRITTEN, bytes);
    emulated_memory(false);
    *memory = from;
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory)
{
    if (!memory)
        return cudaSuccess;
    piece **link = &pieces;
    while (*link && (*link)->from != memory)
        link = &(*link)->next;
    piece *gone = *link;
    if (!gone)
        return failed(cudaErrorInvalidValue);
    ASAN_POISON_MEMORY_REGION(gone->from, gone->bytes);
    *link = gone->next;
    free(gone);
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    bool down = kind == cudaMemcpyDeviceToHost;
    if (bytes > 0 && (!piece_of(down ? from : to, bytes) || piece_of(down ? to : from, 0)))
        return failed(cudaErrorInvalidValue);
    emulated_memory(true);
    memcpy(to, from, bytes);
    emulated_memory(false);
    return cudaSuccess;
}

cudaError_t cudaMemset(void *memory, int byte, size_t bytes)
{
    if (bytes > 0 && !piece_of(memory, bytes))
        return failed(cudaErrorInvalidValue);
    emulated_memory(true);
    memset(memory, byte, bytes);
    emulated_memory(false);
    return cudaSuccess;
}
