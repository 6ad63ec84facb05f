/*
 * The compute part of the cpu backend. This source is compiled once an instruction set with
 * RT_ISA = scalar, avx2 or avx512, for a team of OpenMP threads and for one thread alone (RT_TEAM);
 * each object exports one function that fills the table.
 */
#include "model/ops/host.h"
#include "model/ops/vec.h"

#define GLUE2(a, b) a##b
#define GLUE(a, b) GLUE2(a, b)
#define TEXT2(a) #a
#define TEXT(a) TEXT2(a)
#define PRAGMA(x) _Pragma(#x)

#if defined(_OPENMP)
#include <omp.h>
/* The next `for` is cut into equal runs of iterations, one a thread. */
#define PARALLEL_FOR(count) \
    PRAGMA(omp parallel for num_threads(count) if (count > 1) schedule(static))
/* The next `for` hands out iterations one by one: for iterations of unequal length. */
#define PARALLEL_FOR_UNEQUAL(count) \
    PRAGMA(omp parallel for num_threads(count) if (count > 1) schedule(dynamic))
/* Even a region of one thread costs two system calls and an allocation, so what one thread does is
 * left to the kernels that were compiled without regions. */
#define ONE_THREAD(threads, call)                 \
    do {                                          \
        if ((threads) == 1) {                     \
            ((rt_host *)(void *)ops)->alone.call; \
            return;                               \
        }                                         \
    } while (0)
static inline int thread_index(void)
{
    return omp_get_thread_num();
}
#else
#define ONE_THREAD(threads, call) (void)(threads)
#define PARALLEL_FOR(count) (void)(count);
#define PARALLEL_FOR_UNEQUAL(count) (void)(count);
static inline int thread_index(void)
{
    return 0;
}
#endif

/* Waking a thread costs about ten microseconds: work is counted in vector operations (about one
 * a nanosecond), and below this many one thread does it all. */
#define WORK_FOR_THREADS 25000.0

static inline int threads_for(const rt_ops *ops, double vector_operations)
{
    return vector_operations < WORK_FOR_THREADS ? 1 : ops->threads;
}

/* First item of part `part` when `count` items are cut into `parts` nearly equal runs. */
static inline int cut(int count, int parts, int part)
{
    return (int)((int64_t)count * part / parts);
}

#include "model/ops/cpu_gemm.inc.h"
#include "model/ops/cpu_matmul.inc.h"
#include "model/ops/cpu_attention.inc.h"
#include "model/ops/cpu_rowwise.inc.h"

void GLUE(GLUE(GLUE(rt_cpu_fill_, RT_ISA), _), RT_TEAM)(rt_ops *ops)
{
    ops->name = "cpu";
    ops->isa = TEXT(RT_ISA);
    ops->pack = cpu_pack;
    ops->packed_free = cpu_packed_free;
    ops->packed_bytes = cpu_packed_bytes;
    ops->matmul = cpu_matmul;
    ops->matmul_dx = cpu_matmul_dx;
    ops->matmul_dw = cpu_matmul_dw;
    ops->embed = cpu_embed;
    ops->embed_backward = cpu_embed_backward;
    ops->gather = cpu_gather;
    ops->scatter = cpu_scatter;
    ops->rmsnorm = cpu_rmsnorm;
    ops->rmsnorm_backward = cpu_rmsnorm_backward;
    ops->rope = cpu_rope;
    ops->kv_store = cpu_kv_store;
    ops->kv_copy = cpu_kv_copy;
    ops->attention = cpu_attention;
    ops->attention_backward = cpu_attention_backward;
    ops->kv_copy_backward = cpu_kv_copy_backward;
    ops->kv_gather = cpu_kv_gather;
    ops->swiglu = cpu_swiglu;
    ops->swiglu_backward = cpu_swiglu_backward;
    ops->add = cpu_add;
    ops->multiply = cpu_multiply;
    ops->logprob = cpu_logprob;
    ops->logprob_backward = cpu_logprob_backward;
    ops->axpy = cpu_axpy;
    ops->dot = cpu_dot;
    ops->gram = cpu_gram;
    ops->change = cpu_change;
    ops->adamw = cpu_adamw;
}
