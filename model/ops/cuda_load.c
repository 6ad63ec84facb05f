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

/* In the program's folder or, for tests and benchmarks, which lie one below retake, in the one above; else
 * where the loader looks. */
static char *library_path(void)
{
    char program[4096];
    ssize_t bytes = readlink("/proc/self/exe", program, sizeof program - 1);
    char *slash = bytes > 0 ? memrchr(program, '/', (size_t)bytes) : NULL;
    static const char *const above[] = {"", "../"};
    for (size_t i = 0; slash && i < RT_COUNT(above); i++) {
        char *file = rt_format("%.*s/%s" LIBRARY, (int)(slash - program), program, above[i]);
        if (access(file, F_OK) == 0)
            return file;
        rt_free(file);
    }
    return rt_strdup(LIBRARY);
}

int rt_cuda_load(rt_ops **ops, rt_error *err)
{
    char *path = library_path();
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    rt_free(path);
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
