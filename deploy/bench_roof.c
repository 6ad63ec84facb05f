/* The roofs: matmul of the model's own shapes, and reading memory. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "deploy/bench.h"

/* ---- medians --------------------------------------------------------------------------------- */

void bench_times_add(bench_times *times, double seconds)
{
    if (times->count == times->capacity) {
        int capacity = RT_MAX(times->capacity * 2, 64);
        times->seconds = rt_realloc(times->seconds, (size_t)times->capacity * sizeof(double),
                                    (size_t)capacity * sizeof(double));
        times->capacity = capacity;
    }
    times->seconds[times->count++] = seconds;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_times_median(bench_times *times)
{
    if (times->count == 0)
        return 0;
    qsort(times->seconds, (size_t)times->count, sizeof(double), ascending);
    return times->seconds[times->count / 2];
}

void bench_times_free(bench_times *times)
{
    rt_free(times->seconds);
    *times = (bench_times){0};
}

/* ---- matmul ---------------------------------------------------------------------------------- */

enum { SHAPES = 4, MEASURED_MAX = 32 };

typedef struct shape {
    int n, k;
} shape;

struct bench_roof {
    rt_ops *ops;
    int layers;
    shape shapes[SHAPES], head_shape; /* qkv, o, gate and up, down */
    rt_packed **matrices;             /* (layers × SHAPES) */
    rt_packed *head;
    float *x, *y;                     // (rows_max, K), (rows_max, N): the largest of each
    int rows_max;
    double seconds;
    struct { int rows; bool head; double time; } measured[MEASURED_MAX];
    int measured_count;
};

/* Values do not matter for speed as long as they are ordinary numbers. */
static rt_packed *pack(bench_roof *roof, shape s, int dtype, const rt_weights *weights)
{
    size_t room = weights->count, needed = (size_t)s.n * (size_t)s.k;
    RT_ASSERT(needed <= room);
    return roof->ops->pack(roof->ops, NULL, weights->data, dtype, 0, s.n, s.n, s.k);
}

bench_roof *bench_roof_new(rt_ops *ops, const rt_weights *weights, int rows_max, double seconds)
{
    const rt_arch *a = &weights->arch;
    bench_roof *roof = rt_alloc(sizeof *roof);
    int q = a->heads * a->head_size, kv = a->kv_heads * a->head_size;
    *roof = (bench_roof){
        .ops = ops, .layers = a->layers, .rows_max = rows_max, .seconds = seconds,
        .shapes = {{q + 2 * kv, a->d}, {a->d, q}, {2 * a->f, a->d}, {a->d, a->f}},
        .head_shape = {a->vocab, a->d},
    };
    roof->matrices = rt_alloc((size_t)a->layers * SHAPES * sizeof *roof->matrices);
    int n = a->vocab, k = a->d;
    for (int s = 0; s < SHAPES; s++) {
        n = RT_MAX(n, roof->shapes[s].n);
        k = RT_MAX(k, roof->shapes[s].k);
    }
    for (int i = 0; i < a->layers * SHAPES; i++)
        roof->matrices[i] = pack(roof, roof->shapes[i % SHAPES], weights->dtype, weights);
    roof->head = pack(roof, roof->head_shape, weights->dtype, weights);
    roof->x = ops->alloc(ops, (size_t)rows_max * (size_t)k * sizeof(float));
    roof->y = ops->alloc(ops, (size_t)rows_max * (size_t)n * sizeof(float));
    float *host = rt_alloc((size_t)rows_max * (size_t)k * sizeof(float));
    for (size_t i = 0; i < (size_t)rows_max * (size_t)k; i++)
        host[i] = (float)(i % 17) * 0.125f - 1;
    ops->upload(ops, roof->x, host, (size_t)rows_max * (size_t)k * sizeof(float));
    rt_free(host);
    return roof;
}

void bench_roof_free(bench_roof **pointer)
{
    bench_roof *roof = *pointer;
    if (!roof)
        return;
    for (int i = 0; i < roof->layers * SHAPES; i++)
        roof->ops->packed_free(roof->ops, roof->matrices[i]);
    roof->ops->packed_free(roof->ops, roof->head);
    roof->ops->free(roof->ops, roof->x);
    roof->ops->free(roof->ops, roof->y);
    rt_free(roof->matrices);
    rt_free(roof);
    *pointer = NULL;
}

static void multiply(const bench_roof *roof, const rt_packed *w, shape s, int rows)
{
    roof->ops->matmul(roof->ops, roof->y, s.n, roof->x, s.k, w, rows, false);
}

static void pass(const bench_roof *roof, int rows, bool head)
{
    if (head) {
        multiply(roof, roof->head, roof->head_shape, rows);
        return;
    }
    for (int i = 0; i < roof->layers * SHAPES; i++)
        multiply(roof, roof->matrices[i], roof->shapes[i % SHAPES], rows);
}

static double measure(const bench_roof *roof, int rows, bool head)
{
    bench_times times = {0};
    pass(roof, rows, head);
    int64_t end = rt_now_ns() + (int64_t)(roof->seconds * 0.5e9);
    do {
        int64_t began = rt_now_ns();
        pass(roof, rows, head);
        bench_times_add(&times, (double)(rt_now_ns() - began) * 1e-9);
    } while (times.count < 3 || rt_now_ns() < end);
    double median = bench_times_median(&times);
    bench_times_free(&times);
    return median;
}

static double measured(bench_roof *roof, int rows, bool head)
{
    RT_ASSERT(rows >= 1);
    if (rows > roof->rows_max) /* further rows cost the same each */
        return measured(roof, roof->rows_max, head) * rows / roof->rows_max;
    for (int i = 0; i < roof->measured_count; i++)
        if (roof->measured[i].rows == rows && roof->measured[i].head == head)
            return roof->measured[i].time;
    double time = measure(roof, rows, head);
    if (roof->measured_count < MEASURED_MAX) {
        roof->measured[roof->measured_count].rows = rows;
        roof->measured[roof->measured_count].head = head;
        roof->measured[roof->measured_count++].time = time;
    }
    return time;
}

void bench_roof_time(const bench_roof *roof, int rows, int head_rows, double seconds,
                     bench_times *times)
{
    int64_t end = rt_now_ns() + (int64_t)(seconds * 1e9);
    RT_ASSERT(rows <= roof->rows_max && head_rows <= roof->rows_max);
    for (int i = 0; i < 4 || rt_now_ns() < end; i++) {
        int64_t began = rt_now_ns();
        pass(roof, rows, false);
        pass(roof, head_rows, true);
        if (i > 0) /* the first one fetches what the round before it drove out of the cache */
            bench_times_add(times, (double)(rt_now_ns() - began) * 1e-9);
    }
}

double bench_roof_layers(bench_roof *roof, int rows)
{
    return measured(roof, rows, false);
}

double bench_roof_head(bench_roof *roof, int rows)
{
    return measured(roof, rows, true);
}

double bench_roof_layers_flops(const bench_roof *roof)
{
    double flops = 0;
    for (int s = 0; s < SHAPES; s++)
        flops += 2.0 * roof->shapes[s].n * roof->shapes[s].k;
    return flops * roof->layers;
}

double bench_roof_head_flops(const bench_roof *roof)
{
    return 2.0 * roof->head_shape.n * roof->head_shape.k;
}

double bench_roof_gflops(bench_roof *roof, int rows)
{
    double flops = (bench_roof_layers_flops(roof) + bench_roof_head_flops(roof)) * rows;
    return flops / (bench_roof_layers(roof, rows) + bench_roof_head(roof, rows)) * 1e-9;
}

size_t bench_roof_bytes(const bench_roof *roof)
{
    size_t bytes = roof->ops->packed_bytes(roof->head);
    for (int i = 0; i < roof->layers * SHAPES; i++)
        bytes += roof->ops->packed_bytes(roof->matrices[i]);
    return bytes;
}

/* ---- memory ---------------------------------------------------------------------------------- */

typedef uint64_t wide __attribute__((vector_size(16))); /* a register everywhere */

enum { STREAMS = 4, STREAM_WORDS = 36 << 10 >> 4 }; /* 36 KiB each: no power of two, as panels */

typedef struct reader {
    const wide *from;
    size_t count;
    uint64_t sum;
} reader;

/* Four places at once, as a matmul of one row reads its panels: a processor fetches ahead for each,
 * and one alone gets less. Two sums a place, in registers, so that loads set the pace. */
static void *read_all(void *context)
{
    reader *r = context;
    wide sums[2 * STREAMS] = {{0}};
    const wide *end = r->from + r->count / (STREAMS * STREAM_WORDS) * (STREAMS * STREAM_WORDS);
    for (const wide *from = r->from; from < end; from += (STREAMS - 1) * STREAM_WORDS) {
        for (const wide *stop = from + STREAM_WORDS; from < stop; from += 4) {
#pragma GCC unroll 4
            for (size_t s = 0; s < STREAMS; s++) {
                const wide *line = from + s * STREAM_WORDS; /* 64 bytes */
                sums[2 * s] += line[0] + line[1];
                sums[2 * s + 1] += line[2] + line[3];
            }
        }
    }
    r->sum = 0;
#pragma GCC unroll 8
    for (int j = 0; j < 2 * STREAMS; j++)
        r->sum += sums[j][0] + sums[j][1];
    return NULL;
}

/* The sum of all words: used by the caller, so that no read can be left out. */
static uint64_t read_once(const wide *memory, size_t count, int threads)
{
    pthread_t ids[64];
    reader readers[64];
    size_t each = count / (size_t)threads;
    int started = 0;
    for (int t = 0; t < threads; t++)
        readers[t] = (reader){memory + (size_t)t * each, each, 0};
    for (int t = 1; t < threads; t++, started++)
        if (pthread_create(&ids[t], NULL, read_all, &readers[t]) != 0)
            break;
    read_all(&readers[0]);
    for (int t = 1; t <= started; t++)
        pthread_join(ids[t], NULL);
    for (int t = started + 1; t < threads; t++)
        read_all(&readers[t]);
    uint64_t sum = 0;
    for (int t = 0; t < threads; t++)
        sum += readers[t].sum;
    return sum;
}

struct bench_memory {
    wide *words;
    size_t bytes;
    int threads;
    volatile uint64_t sum;
};

bench_memory *bench_memory_new(int threads, size_t cache)
{
    bench_memory *m = rt_alloc(sizeof *m);
    /* beyond the cache, but no burden on a small machine: some report a cache shared by many guests
     */
    m->bytes = RT_MIN(RT_MAX((size_t)128 << 20, 2 * cache), (size_t)512 << 20);
    m->words = rt_alloc(m->bytes);
    m->threads = RT_MIN(RT_MAX(threads, 1), 64);
    memset(m->words, 1, m->bytes);
    return m;
}

void bench_memory_free(bench_memory **memory)
{
    if (*memory)
        rt_free((*memory)->words);
    rt_free(*memory);
    *memory = NULL;
}

void bench_memory_time(bench_memory *m, size_t bytes, double seconds, bench_times *times)
{
    int64_t end = rt_now_ns() + (int64_t)(seconds * 1e9);
    for (int i = 0; i < 2 || rt_now_ns() < end; i++) {
        m->words[0][0]++; /* no two passes have the same sum */
        int64_t began = rt_now_ns();
        m->sum += read_once(m->words, m->bytes / sizeof(wide), m->threads);
        bench_times_add(times, (double)(rt_now_ns() - began) * 1e-9 * (double)bytes /
                                   (double)m->bytes);
    }
}

size_t bench_cache_bytes(void)
{
    long last = sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (last <= 0)
        last = sysconf(_SC_LEVEL2_CACHE_SIZE);
    return last > 0 ? (size_t)last : 0;
}
