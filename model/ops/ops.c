/*
 * Opening a host backend: names, the choice of an instruction set, memory. Closing any.
 */
#include "model/ops/host.h"

#include <sched.h>
#include <string.h>

static void *host_alloc(rt_ops *ops, size_t bytes)
{
    (void)ops;
    return rt_alloc(bytes);
}

static void host_free(rt_ops *ops, void *memory)
{
    (void)ops;
    rt_free(memory);
}

static void host_copy(rt_ops *ops, void *to, const void *from, size_t bytes)
{
    (void)ops;
    if (bytes > 0)
        memcpy(to, from, bytes);
}

static void host_zero(rt_ops *ops, void *memory, size_t bytes)
{
    (void)ops;
    if (bytes > 0)
        memset(memory, 0, bytes);
}

static void host_close(rt_ops *ops)
{
    rt_host *host = (rt_host *)ops;
    rt_free(host->scratch);
    rt_free(host->rope.frequencies);
    rt_free(host->rope.data);
    rt_free(host);
}

void rt_host_fill(rt_ops *ops)
{
    ops->host = true;
    ops->alloc = host_alloc;
    ops->free = host_free;
    ops->upload = host_copy;
    ops->download = host_copy;
    ops->zero = host_zero;
    ops->close = host_close;
}

void *rt_host_scratch(rt_ops *ops, size_t bytes)
{
    rt_host *host = (rt_host *)ops;
    if (host->scratch_bytes < bytes) {
        rt_free(host->scratch);
        host->scratch_bytes = bytes + bytes / 2;
        host->scratch = rt_alloc(host->scratch_bytes);
    }
    return host->scratch;
}

typedef struct isa {
    const char *device;
    bool (*present)(void);
    void (*alone)(rt_ops *ops); /* one thread */
    void (*team)(rt_ops *ops);
} isa;

static bool has_scalar(void)
{
    return true;
}

#if defined(__x86_64__)
static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif

/* Without OpenMP there is no team and no kernels for one. */
#if defined(_OPENMP)
#define KERNELS(isa) rt_cpu_fill_##isa##_alone, rt_cpu_fill_##isa##_team
#else
#define KERNELS(isa) rt_cpu_fill_##isa##_alone, rt_cpu_fill_##isa##_alone
#endif

static const isa isas[] = { /* best first */
#if defined(__x86_64__)
    {"cpu:avx512", has_avx512, KERNELS(avx512)},
    {"cpu:avx2", has_avx2, KERNELS(avx2)},
#endif
    {"cpu:scalar", has_scalar, KERNELS(scalar)},
};

static int choose(rt_host *host, const char *device, int threads, rt_error *err)
{
    if (strcmp(device, "ref") == 0) {
        rt_ref_fill(&host->ops);
        return RT_OK;
    }
    for (size_t i = 0; i < RT_COUNT(isas); i++) {
        bool named = strcmp(device, isas[i].device) == 0;
        if (!named && strcmp(device, "cpu") != 0)
            continue;
        if (isas[i].present()) {
            (threads == 1 ? isas[i].alone : isas[i].team)(&host->ops);
            isas[i].alone(&host->alone);
            return RT_OK;
        }
        if (named)
            return rt_fail(err, RT_ERR_USAGE,
                           "device \"%s\": this processor has no such instructions; use \"cpu\"",
                           device);
    }
    return rt_fail(err, RT_ERR_USAGE,
                   "unknown device \"%s\"; known here: cpu, cpu:scalar, cpu:avx2, cpu:avx512, ref, cuda",
                   device);
}

static int usable_cores(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    int count = CPU_COUNT(&set);
    return count > 0 ? count : 1;
}

int rt_ops_open(rt_ops **ops, const char *device, int threads, rt_error *err)
{
    *ops = NULL;
    if (threads < 0 || threads > 4096)
        return rt_fail(err, RT_ERR_USAGE, "threads is %d; it must be 0 (all cores) to 4096",
                       threads);
    if (strcmp(device, "cuda") == 0)
        return rt_cuda_load(ops, err);
    threads = threads > 0 ? threads : usable_cores();
    rt_host *host = rt_alloc(sizeof *host);
    int code = choose(host, device, threads, err);
    if (code != RT_OK) {
        rt_free(host);
        return code;
    }
    host->ops.threads = threads;
    rt_host_fill(&host->ops);
#if !defined(_OPENMP)
    host->ops.threads = 1;
#endif
    *ops = &host->ops;
    return RT_OK;
}

void rt_ops_free(rt_ops **ops)
{
    if (!*ops)
        return;
    (*ops)->close(*ops);
    *ops = NULL;
}
