/* What `retake bench` measures: the machine's roofs and the model's rates on it. */
#ifndef RT_BENCH_H
#define RT_BENCH_H

#include "deploy/cli.h"

enum { BENCH_GROUP = 8, BENCH_PROBLEMS = 16, BENCH_SLOTS = 64, BENCH_MICRO_TOKENS = 4096 };

/* Times of passes; the median is what counts, since other programs only ever add to a time. */
typedef struct bench_times {
    double *seconds;
    int count, capacity;
} bench_times;
void bench_times_add(bench_times *times, double seconds);
double bench_times_median(bench_times *times); /* sorts; 0 when there are none */
void bench_times_free(bench_times *times);

/* ---- roofs ----------------------------------------------------------------------------------- */

/* The model's matrices, packed once more and multiplied with nothing in between. */
typedef struct bench_roof bench_roof;
bench_roof *bench_roof_new(rt_ops *ops, const rt_weights *weights, int rows_max, double seconds);
void bench_roof_free(bench_roof **roof);
/* Seconds of all layers' matmuls, and of the head's, at so many rows; measured once and kept. */
double bench_roof_layers(bench_roof *roof, int rows);
double bench_roof_head(bench_roof *roof, int rows);
/* Adds times of passes over the layers and the head, of at least so many seconds. Taken between
 * rounds of what is held against them, so that a slow spell of the machine slows both. */
void bench_roof_time(const bench_roof *roof, int rows, int head_rows, double seconds,
                     bench_times *times);
double bench_roof_layers_flops(const bench_roof *roof); /* of one row */
double bench_roof_head_flops(const bench_roof *roof);
size_t bench_roof_bytes(const bench_roof *roof);        /* of all matrices, packed */
double bench_roof_gflops(bench_roof *roof, int rows);   /* layers and head */

/* Memory far larger than the caches, read from end to end by `threads` threads. cache: bytes of the
 * last level. */
typedef struct bench_memory bench_memory;
bench_memory *bench_memory_new(int threads, size_t cache);
void bench_memory_free(bench_memory **memory);
/* Adds the times of reading `bytes`, by passes of at least so many seconds in all. */
void bench_memory_time(bench_memory *memory, size_t bytes, double seconds, bench_times *times);
size_t bench_cache_bytes(void);                         /* last level; 0: unknown */

/* ---- rates ----------------------------------------------------------------------------------- */

typedef struct bench {
    rt_ops *ops;
    rt_net *net;
    rt_weights *weights;      /* what the net holds */
    rt_tokenizer *tokenizer;  /* NULL: none */
    bench_roof *roof;
    bench_memory *memory;     /* NULL: the weights stay in the cache, only matmuls are a roof */
    double seconds;           /* of each figure */
    int prompt, response;     /* tokens */
} bench;

/* One line of the result. share = seconds at the roof / seconds taken. */
typedef struct bench_figure {
    char name[32];
    double tokens_per_second, share, aim; /* aim 0: none */
    const char *roof;
} bench_figure;

int bench_decode(const bench *b, int batch, bench_figure *figure, rt_error *err);
int bench_prefill(const bench *b, bench_figure *figure, rt_error *err);
int bench_training(const bench *b, bench_figure *figure, rt_error *err);

typedef struct bench_step {
    double sampling, training, update; /* seconds of the median step */
    int64_t sampled;                   /* tokens of a step */
    int64_t compared, mismatched;      /* log-probs of the first step, sampling against training */
} bench_step;
int bench_whole_step(const bench *b, bench_figure *figure, bench_step *step, rt_error *err);

/* Token ids of a prompt, a function of its number; count ids into ids. */
void bench_prompt(const bench *b, int number, int count, int32_t *ids);
rt_sampling bench_sampling(const bench *b, int tokens);

#endif
