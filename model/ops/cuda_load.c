/*
 * The door to the CUDA backend: a shared object of its own beside the program, so that a build and a machine
 * without CUDA miss nothing but device "cuda". Once opened it stays: its code runs until the process ends.
 */
#include "model/ops/host.h"

#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

#define LIBRARY "libretake_cuda.so"

_Static_assert(RT_F32 == 0 && RT_BF16 == 1, "as model/ops/cuda/cuda.h has them");

/* From the program's folder up: tests and benchmarks lie one below retake. */
static void *open_beside(const char *above)
{
    char path[4096];
    ssize_t bytes = readlink("/proc/self/exe", path, sizeof path);
    if (bytes <= 0 || (size_t)bytes == sizeof path)
        return NULL;
    path[bytes] = 0;
    char *slash = strrchr(path, '/');
    if (!slash)
        return NULL;
    *slash = 0;
    char *file = rt_format("%s/%s" LIBRARY, path, above);
    void *library = access(file, F_OK) == 0 ? dlopen(file, RTLD_NOW | RTLD_LOCAL) : NULL;
    rt_free(file);
    return library;
}

int rt_cuda_load(rt_ops **ops, rt_error *err)
{
    void *library = open_beside("");
    if (!library)
        library = open_beside("../");
    if (!library)
        library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return rt_fail(err, RT_ERR_USAGE,
                       "device \"cuda\": " LIBRARY " can't be opened (%s); build on a machine with nvcc, or "
                       "use device cpu", dlerror());
    rt_ops *(*open_device)(char *reason, size_t room);
    void *symbol = dlsym(library, "rt_cuda_open");
    if (!symbol)
        return rt_fail(err, RT_ERR_STATE,
                       "device \"cuda\": " LIBRARY " is of another version; build again");
    memcpy(&open_device, &symbol, sizeof open_device); /* C has no cast from an object to a function */
    char reason[200] = "";
    *ops = open_device(reason, sizeof reason);
    if (!*ops)
        return rt_fail(err, RT_ERR_USAGE, "device \"cuda\": no GPU can be used (%s); use device cpu", reason);
    return RT_OK;
}
