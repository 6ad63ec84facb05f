/*
 * emulator_test: does the emulator do what CUDA does, and does it notice what CUDA leaves undefined? Kernels
 * that are wrong on purpose run in a process of their own, whose last words are read.
 */
#include "cuda_runtime.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include <cmocka.h>
}

constexpr unsigned THREADS = 64;

#define START(kernel, grid, threads, ...) RT_CUDA_START(kernel, grid, threads, __VA_ARGS__)

static int *device_ints(size_t count)
{
    void *memory = NULL;
    assert_int_equal(cudaMalloc(&memory, count * sizeof(int)), cudaSuccess);
    return (int *)memory;
}

static void download(int *to, const int *from, size_t count)
{
    assert_int_equal(cudaMemcpy(to, from, count * sizeof(int), cudaMemcpyDeviceToHost), cudaSuccess);
}

/* ---- what kernels may do -------------------------------------------------------------------------- */

__global__ void where(int *to)
{
    unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    to[block * blockDim.x * blockDim.y * blockDim.z + thread] = (int)(100 * block + thread);
}

static void everyone_runs_once(void **)
{
    int got[2 * 3 * 2 * 12];
    int *to = device_ints(144);
    START(where, dim3(2, 3, 2), dim3(3, 2, 2), to);
    download(got, to, 144);
    for (int block = 0; block < 12; block++)
        for (int thread = 0; thread < 12; thread++)
            assert_int_equal(got[block * 12 + thread], 100 * block + thread);
    assert_int_equal(cudaFree(to), cudaSuccess);
}

/* Neighbours swap through shared memory; three barriers, the last one with a vote. */
__global__ void swap(int *to, int wanted)
{
    __shared__ int left[THREADS];
    left[threadIdx.x] = (int)threadIdx.x;
    __syncthreads();
    int other = left[threadIdx.x ^ 1];
    __syncthreads();
    left[threadIdx.x] = -1;
    int any = __syncthreads_or((int)threadIdx.x == wanted);
    to[blockIdx.x * THREADS + threadIdx.x] = other + (any ? 1000 : 0);
}

static void threads_meet(void **)
{
    int got[3 * THREADS];
    int *to = device_ints(3 * THREADS);
    for (int wanted = 5; wanted <= 105; wanted += 100) {
        START(swap, 3, THREADS, to, wanted);
        download(got, to, 3 * THREADS);
        for (unsigned i = 0; i < 3 * THREADS; i++)
            assert_int_equal(got[i], (int)(i % THREADS ^ 1) + (wanted == 5 ? 1000 : 0));
    }
    assert_int_equal(cudaFree(to), cudaSuccess);
}

/* Halves of warps by themselves: lane 3 of the half, the lane two further down, and who is odd. */
__global__ void lanes(int *to)
{
    int lane = (int)threadIdx.x % 32, value = 10 * (int)threadIdx.x;
    unsigned half = 0xffffu << (lane & 16);
    double wide = __shfl_sync(half, 0.5 + value, 3, 16);
    to[threadIdx.x] = (int)(2 * wide);
    to[THREADS + threadIdx.x] = __shfl_down_sync(half, value, 2, 16);
    to[2 * THREADS + threadIdx.x] = (int)__ballot_sync(0xffffffffu, lane % 2);
}

static void lanes_exchange(void **)
{
    int got[3 * THREADS];
    int *to = device_ints(3 * THREADS);
    START(lanes, 1, THREADS, to);
    download(got, to, 3 * THREADS);
    for (int i = 0; i < (int)THREADS; i++) {
        assert_int_equal(got[i], 2 * 10 * (i / 16 * 16 + 3) + 1);
        assert_int_equal(got[THREADS + (unsigned)i], 10 * (i % 16 < 14 ? i + 2 : i));
        assert_int_equal(got[2 * THREADS + (unsigned)i], (int)0xaaaaaaaau);
    }
    assert_int_equal(cudaFree(to), cudaSuccess);
}

/* ---- memory and limits ---------------------------------------------------------------------------- */

static void memory_is_checked(void **)
{
    int host[8] = {0};
    int *a = device_ints(8), *b = device_ints(1000), *kept = a;
    float fresh;
    assert_int_equal(cudaMemcpy(&fresh, a, sizeof fresh, cudaMemcpyDeviceToHost), cudaSuccess);
    assert_true(isnan(fresh));
    assert_int_equal(cudaMemcpy(a, host, sizeof host, cudaMemcpyHostToDevice), cudaSuccess);
    assert_int_equal(cudaMemcpy(a + 1, host, sizeof host, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpy(host, a, sizeof host, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpy(host, host + 1, 4, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
    assert_int_equal(cudaMemset(b + 999, 0, 8), cudaErrorInvalidValue);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    assert_int_equal(cudaFree(b + 1), cudaErrorInvalidValue);
    assert_int_equal(cudaFree(a), cudaSuccess);
    assert_int_equal(cudaFree(a), cudaErrorInvalidValue);
    assert_ptr_equal(device_ints(8), kept); /* a gap that is wide enough is used again */
    assert_int_equal(cudaFree(kept), cudaSuccess);
    assert_int_equal(cudaFree(b), cudaSuccess);
    void *all = NULL;
    assert_int_equal(cudaMalloc(&all, (size_t)1 << 40), cudaErrorMemoryAllocation);
    cudaGetLastError();
}

static void impossible_launches_are_errors(void **)
{
    int *to = device_ints(1);
    const struct {
        dim3 grid, threads;
    } wrong[] = {{1, 1025}, {1, 0}, {0, 1}, {dim3(1, 65536), 1}, {1, dim3(32, 33)}};
    for (const auto &w : wrong) {
        START(where, w.grid, w.threads, to);
        assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    }
    assert_int_equal(cudaFree(to), cudaSuccess);
}

/* ---- what is wrong on purpose --------------------------------------------------------------------- */

/* Runs it in a child, with an order of threads, and keeps what it writes; true: it ended well. */
static bool survives(void (*run)(void), const char *order, char *words, size_t room)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], 2);
        setenv("RT_CUDA_ORDER", order, 1);
        signal(SIGABRT, SIG_DFL); /* cmocka takes signals for failures of the test and goes on */
        signal(SIGSEGV, SIG_DFL);
        run();
        _exit(0);
    }
    close(ends[1]);
    size_t bytes = 0;
    for (ssize_t got; (got = read(ends[0], words + bytes, room - 1 - bytes)) > 0;)
        bytes += (size_t)got;
    words[bytes] = 0;
    close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void ends_with(void (*run)(void), const char *sentence)
{
    static char words[1 << 16];
    assert_false(survives(run, "forward", words, sizeof words));
    if (!strstr(words, sentence))
        fail_msg("expected \"%s\", got: %s", sentence, words);
}

__global__ void parted(int *to)
{
    if (threadIdx.x < 7)
        __syncthreads();
    else
        __syncthreads();
    to[0] = 1;
}

__global__ void alone(int *to)
{
    if (threadIdx.x != 9)
        to[0] = __shfl_sync(0xffffffffu, 1, 0);
}

__global__ void stranger(int *to)
{
    to[0] = __shfl_sync(0xffffu, 1, 0); /* from lane 16 on nobody is in the mask */
}

__global__ void outside(int *to)
{
    to[0] = __shfl_sync(0xffffu << (threadIdx.x & 16), 1, 20);
}

static void run_parted() { START(parted, 1, 32, device_ints(1)); }
static void run_alone() { START(alone, 1, 32, device_ints(1)); }
static void run_stranger() { START(stranger, 1, 32, device_ints(1)); }
static void run_outside() { START(outside, 1, 32, device_ints(1)); }

static void run_with_host_memory()
{
    int host[12];
    START(where, 1, 12, host);
}

static void undefined_behaviour_has_a_sentence(void **)
{
    ends_with(run_parted, "emulator_test.cpp:");
    ends_with(run_parted, "while thread 7 waits at");
    ends_with(run_alone, "for lanes of its mask ffffffff that don't come");
    ends_with(run_stranger, "isn't in its own mask 0000ffff");
    ends_with(run_outside, "takes from lane 20");
    ends_with(run_with_host_memory, "where gets a pointer that is not to memory of the device");
}

static void run_touch()
{
    volatile int *memory = device_ints(1);
    memory[0] = 1;
}

static void run_beyond() { START(where, 1, 12, device_ints(11)); }

static void crashes_are_crashes(void **)
{
    static char words[1 << 16];
    assert_false(survives(run_touch, "forward", words, sizeof words));
#if __has_feature(address_sanitizer)
    ends_with(run_beyond, "AddressSanitizer");
#else
    assert_true(survives(run_beyond, "forward", words, sizeof words)); /* only a sanitizer sees it */
#endif
}

/* Without the barrier each thread sees only those that ran before it. */
__global__ void hasty(int *to)
{
    __shared__ int all[THREADS];
    all[threadIdx.x] = (int)blockIdx.x + 1;
    to[blockIdx.x * THREADS + threadIdx.x] = all[(threadIdx.x + 1) % THREADS];
}

/* Exits with 1 where not all threads of the second block saw its own numbers. */
static void run_hasty()
{
    int got[2 * THREADS];
    int *to = device_ints(2 * THREADS);
    START(hasty, 2, THREADS, to);
    download(got, to, 2 * THREADS);
    for (unsigned i = THREADS; i < 2 * THREADS; i++)
        if (got[i] != 2)
            _exit(1);
}

static void a_missing_barrier_shows(void **)
{
    static const char *const orders[] = {"forward", "reverse", "1", "2"};
    static char words[1 << 16];
    int noticed = 0;
    for (const char *order : orders)
        noticed += !survives(run_hasty, order, words, sizeof words);
    assert_true(noticed >= 3);
#if __has_feature(thread_sanitizer)
    assert_non_null(strstr(words, "data race"));
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everyone_runs_once),
        cmocka_unit_test(threads_meet),
        cmocka_unit_test(lanes_exchange),
        cmocka_unit_test(memory_is_checked),
        cmocka_unit_test(impossible_launches_are_errors),
        cmocka_unit_test(undefined_behaviour_has_a_sentence),
        cmocka_unit_test(crashes_are_crashes),
        cmocka_unit_test(a_missing_barrier_shows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
