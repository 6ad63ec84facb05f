/* Grids, blocks and threads of the emulated device: fibers that run until they wait for each other. */
#include "emulator.h"

#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#ifdef RT_CUDA_RACES
#include <sanitizer/tsan_interface.h>
#endif

constexpr unsigned THREADS_MAX = 1024, WARP = 32, GRID_MAX_YZ = 65535;
constexpr size_t STACK_BYTES = 64 << 10, PAGE_BYTES = 4096;

/* ---- races: who may rely on whom, for the thread sanitizer ----------------------------------------- */

/* What a thread did before a meeting has happened for whoever comes out of it; nothing else orders threads
 * of a block. Meetings alternate between two places: who is still on its way out of one must not see what
 * others did since. Blocks follow each other in order: races between blocks stay unseen here. */
struct race_fiber {
    void *thread;
    char meetings[2];
    unsigned met, which; /* which: the places of the others' meeting, a bit a lane */
};

static char race_launch, race_barriers[2];

#ifdef RT_CUDA_RACES
static void *race_scheduler;

static void race_begin(race_fiber *f)
{
    race_scheduler = race_scheduler ? race_scheduler : __tsan_get_current_fiber();
    f->thread = __tsan_create_fiber(0);
}

static void race_switch(race_fiber *to)
{
    __tsan_switch_to_fiber(to ? to->thread : race_scheduler, __tsan_switch_to_fiber_no_sync);
}

static void race_before(char *meeting)
{
    __tsan_release(meeting);
}

static void race_after(char *meeting)
{
    __tsan_acquire(meeting);
}
#else
static void race_begin(race_fiber *) {}
static void race_switch(race_fiber *) {}
static void race_before(char *) {}
static void race_after(char *) {}
#endif

/* ---- threads -------------------------------------------------------------------------------------- */

enum waiting { RUNS, AT_BARRIER, AT_WARP, ENDED };

struct fiber {
    emulated_place place;
    void *stack_top; /* where it goes on */
    char *stack;
    waiting state;
    emulated_site where; /* it waits there */
    int operation;       /* of its warp */
    unsigned mask, number, width;
    uint64_t value; /* what it brings to the meeting, and then what it takes from there */
    race_fiber race;
};

struct block {
    const char *kernel;
    void (*body)(void *context);
    void *context, *scheduler_top;
    unsigned threads, ended, barriers;
    fiber *now;
};

emulated_place *emulated_here;
static fiber fibers[THREADS_MAX];
static block running;

/* ---- fibers --------------------------------------------------------------------------------------- */

/* Keeps what a call keeps on the stack, leaves the stack's top in *from and goes on where `to` was left. */
extern "C" void emulated_switch(void **from, void *to);
asm(R"(
.text
.type emulated_switch, @function
emulated_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulated_switch, . - emulated_switch
)");

static void pause_fiber(void)
{
    race_switch(NULL);
    emulated_switch(&running.now->stack_top, running.scheduler_top);
}

static void fiber_main(void)
{
    race_after(&race_launch);
    running.body(running.context);
    race_before(&race_launch);
    running.now->state = ENDED;
    running.ended++;
    pause_fiber();
    abort(); /* nobody goes on with it */
}

static void fiber_begin(fiber *f)
{
    if (!f->stack) {
        void *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (stack == MAP_FAILED || mprotect(stack, PAGE_BYTES, PROT_NONE) != 0)
            emulated_fail("there is no memory for the stack of a thread");
        f->stack = (char *)stack;
        race_begin(&f->race);
    }
    /* Tops lie apart by a cache line, lest all of them share the same sets of the cache. */
    size_t stagger = (size_t)(f - fibers) % 32 * 64;
    void **top = (void **)(f->stack + STACK_BYTES - 64 - stagger);
    *--top = NULL; /* where fiber_main would return to: a call finds the stack so */
    *--top = (void *)fiber_main;
    for (int kept = 0; kept < 6; kept++)
        *--top = NULL;
    f->stack_top = top;
    f->state = RUNS;
}

/* ---- order: what a GPU is free to choose ---------------------------------------------------------- */

enum { FORWARD, REVERSE, RANDOM };

static struct {
    bool known;
    int kind;
    uint64_t state;
} order;

static void order_read(void)
{
    const char *name = getenv("RT_CUDA_ORDER");
    order.known = true;
    if (!name || strcmp(name, "forward") == 0)
        order.kind = FORWARD;
    else if (strcmp(name, "reverse") == 0)
        order.kind = REVERSE;
    else
        order.kind = RANDOM;
    order.state = order.kind == RANDOM ? strtoull(name, NULL, 10) * 2 + 1 : 0;
}

static uint64_t order_random(void) /* xorshift64* */
{
    order.state ^= order.state >> 12;
    order.state ^= order.state << 25;
    order.state ^= order.state >> 27;
    return (order.state * UINT64_C(2685821657736338717)) >> 32;
}

static void order_fill(unsigned *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        list[i] = (unsigned)(order.kind == REVERSE ? count - 1 - i : i);
    for (size_t i = count; order.kind == RANDOM && i > 1; i--) {
        size_t other = order_random() * i >> 32;
        unsigned kept = list[i - 1];
        list[i - 1] = list[other];
        list[other] = kept;
    }
}

/* ---- meetings ------------------------------------------------------------------------------------- */

void emulated_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "cuda_emulator: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    abort();
}

static bool same(emulated_site a, emulated_site b)
{
    return a.line == b.line && (a.file == b.file || strcmp(a.file, b.file) == 0);
}

/* "folder/rows.cu:33" is a site in RT_CUDA_SKIP, a barrier that is left out: tests show that it is missed. */
static bool left_out(emulated_site where)
{
    static const char *skip;
    static bool read;
    if (!read)
        skip = getenv("RT_CUDA_SKIP");
    read = true;
    if (!skip)
        return false;
    char site[512];
    snprintf(site, sizeof site, "%s:%d", where.file, where.line);
    size_t bytes = strlen(site), wanted = strlen(skip);
    return wanted <= bytes && strcmp(site + bytes - wanted, skip) == 0;
}

bool emulated_barrier(bool vote, emulated_site where)
{
    fiber *f = running.now;
    if (left_out(where))
        return vote;
    f->state = AT_BARRIER;
    f->where = where;
    f->value = vote;
    char *meeting = &race_barriers[running.barriers % 2];
    race_before(meeting);
    pause_fiber();
    race_after(meeting);
    return f->value != 0;
}

/* All threads wait: at one barrier they go on, else they would wait for ever (or worse, on a GPU). */
static void barrier_open(void)
{
    const fiber *first = NULL;
    uint64_t any = 0;
    for (unsigned i = 0; i < running.threads; i++) {
        const fiber *f = &fibers[i];
        if (f->state == ENDED)
            continue;
        first = first ? first : f;
        any |= f->value;
        if (f->state == AT_WARP)
            emulated_fail("%s: thread %u waits at %s:%d for lanes of its mask %08x that don't come",
                          running.kernel, f->place.thread.x, f->where.file, f->where.line, f->mask);
        if (!same(f->where, first->where))
            emulated_fail("%s: thread %u waits at %s:%d while thread %u waits at %s:%d", running.kernel,
                          first->place.thread.x, first->where.file, first->where.line, f->place.thread.x,
                          f->where.file, f->where.line);
    }
    running.barriers++;
    for (unsigned i = 0; i < running.threads; i++)
        if (fibers[i].state == AT_BARRIER) {
            fibers[i].state = RUNS;
            fibers[i].value = any;
        }
}

/* What lane `lane` of a warp takes, of those that all members of its mask brought. */
static uint64_t warp_result(const fiber *warp, unsigned lane, const uint64_t *brought)
{
    const fiber *f = &warp[lane];
    uint64_t ballot = 0;
    unsigned base = lane / f->width * f->width, from = base + f->number % f->width;
    if (f->operation == EMULATED_SHUFFLE_DOWN) {
        from = lane + f->number;
        from = from < base + f->width ? from : lane;
    }
    for (unsigned l = 0; l < WARP; l++)
        ballot |= brought[l] << l;
    if (f->operation == EMULATED_BALLOT)
        return ballot;
    if (!(f->mask >> from & 1))
        emulated_fail("%s: lane %u takes from lane %u, which its mask %08x at %s:%d leaves out",
                      running.kernel, lane, from, f->mask, f->where.file, f->where.line);
    return brought[from];
}

static bool warp_complete(const fiber *warp, const fiber *f)
{
    for (unsigned l = 0; l < WARP; l++) {
        const fiber *other = &warp[l];
        if ((f->mask >> l & 1) &&
            (other >= fibers + running.threads || other->state != AT_WARP || other->mask != f->mask ||
             other->operation != f->operation || !same(other->where, f->where)))
            return false;
    }
    return true;
}

static void warp_meet(fiber *warp, unsigned mask)
{
    uint64_t brought[WARP] = {0}, taken[WARP];
    unsigned which = 0;
    for (unsigned l = 0; l < WARP; l++)
        if (mask >> l & 1) {
            brought[l] = warp[l].value;
            which |= warp[l].race.met % 2 << l;
        }
    for (unsigned l = 0; l < WARP; l++)
        if (mask >> l & 1)
            taken[l] = warp_result(warp, l, brought);
    for (unsigned l = 0; l < WARP; l++)
        if (mask >> l & 1) {
            warp[l].state = RUNS;
            warp[l].value = taken[l];
            warp[l].race.which = which;
        }
}

uint64_t emulated_warp(int operation, unsigned mask, uint64_t value, unsigned number, unsigned width,
                       emulated_site where)
{
    fiber *f = running.now, *warp = fibers + (size_t)(f - fibers) / WARP * WARP;
    if (!(mask >> (f - warp) & 1))
        emulated_fail("%s: thread %u isn't in its own mask %08x at %s:%d", running.kernel,
                      f->place.thread.x, mask, where.file, where.line);
    f->state = AT_WARP;
    f->where = where;
    f->operation = operation, f->mask = mask, f->number = number, f->width = width, f->value = value;
    race_before(&f->race.meetings[f->race.met % 2]);
    if (warp_complete(warp, f))
        warp_meet(warp, mask);
    else
        pause_fiber();
    for (unsigned l = 0; l < WARP; l++)
        if (mask >> l & 1)
            race_after(&warp[l].race.meetings[f->race.which >> l & 1]);
    f->race.met++;
    return f->value;
}

/* ---- launches ------------------------------------------------------------------------------------- */

static void block_run(dim3 at, dim3 grid, dim3 threads)
{
    unsigned list[THREADS_MAX];
    running.threads = threads.x * threads.y * threads.z;
    running.ended = 0;
    race_before(&race_launch);
    for (unsigned i = 0; i < running.threads; i++) {
        dim3 thread(i % threads.x, i / threads.x % threads.y, i / (threads.x * threads.y));
        fibers[i].place = {thread, at, threads, grid};
        fiber_begin(&fibers[i]);
    }
    while (running.ended < running.threads) {
        bool moved = false;
        order_fill(list, running.threads);
        for (unsigned i = 0; i < running.threads; i++) {
            fiber *f = &fibers[list[i]];
            if (f->state != RUNS)
                continue;
            running.now = f;
            emulated_here = &f->place;
            race_switch(&f->race);
            emulated_switch(&running.scheduler_top, f->stack_top);
            moved = true;
        }
        if (!moved)
            barrier_open();
    }
    race_after(&race_launch);
}

void emulated_grid(const char *kernel, dim3 grid, dim3 threads, void (*body)(void *context), void *context)
{
    uint64_t all = (uint64_t)threads.x * threads.y * threads.z, blocks = (uint64_t)grid.x * grid.y * grid.z;
    if (all == 0 || all > THREADS_MAX || blocks == 0 || grid.x > INT32_MAX || grid.y > GRID_MAX_YZ ||
        grid.z > GRID_MAX_YZ) {
        emulated_refuse_launch();
        return;
    }
    if (!order.known)
        order_read();
    running.kernel = kernel;
    running.body = body;
    running.context = context;
    unsigned *list = (unsigned *)malloc(blocks * sizeof *list);
    order_fill(list, blocks);
    emulated_memory(true);
    for (uint64_t i = 0; i < blocks; i++) {
        unsigned b = list[i];
        block_run(dim3(b % grid.x, b / grid.x % grid.y, b / (grid.x * grid.y)), grid, threads);
    }
    emulated_memory(false);
    free(list);
}
