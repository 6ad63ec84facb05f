/*
 * bench_lora: what adapters cost and save, as CSV: decode steps with the adapter off, on, and eight
 * adapters in one batch; training passes (forward and backward) of all weights against adapters
 * alone. Kinds take turns, so that a change of the machine's pace meets all of them; printed are
 * medians of processor time.
 *
 * usage: bench_lora MODEL [RANK [THREADS [ROUNDS]]]      default: rank 8, 1 thread, 15 rounds
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "model/model.h"

enum { SLOTS = 32, PROMPT = 24, RESPONSE = 64, ADAPTERS = 8, ROUNDS_MAX = 1000, KINDS = 5 };

typedef struct bench {
    rt_ops *ops;
    rt_weights *weights;
    rt_net *base, *net; /* without and with adapters */
    rt_adapters *adapters;
    int32_t ids[SLOTS][PROMPT + RESPONSE];
    float *grad;
    rt_error err;
} bench;

/* Of all threads: other programs on the machine change it little. */
static double processor_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int fail(const bench *b)
{
    fprintf(stderr, "bench_lora: %s\n", b->err.message);
    return 1;
}

static int nets_open(bench *b, const char *model, int rank, int threads)
{
    const rt_lora lora = {rank, 2.0 * rank, RT_LORA_ATTENTION | RT_LORA_MLP};
    int rc = rt_ops_open(&b->ops, "cpu", threads, &b->err);
    if (rc == 0)
        rc = rt_model_load(&b->weights, model, RT_F32, &b->err);
    if (rc == 0)
        rc = rt_adapters_new(&b->adapters, &b->weights->arch, &lora, ADAPTERS, &b->err);
    if (rc == 0)
        rc = rt_net_new(&b->base, &b->weights->arch, RT_F32, b->ops, &b->err);
    if (rc == 0)
        rc = rt_net_new(&b->net, &b->weights->arch, RT_F32, b->ops, &b->err);
    if (rc == 0)
        rc = rt_net_open_adapters(b->net, &lora, ADAPTERS, &b->err);
    if (rc != 0)
        return rc;
    rt_adapters_randomize(b->adapters, 1);
    rt_net_set(b->base, b->weights);
    rt_net_set(b->net, b->weights);
    rt_net_set_adapters(b->net, b->adapters->weights);
    size_t count = RT_MAX(b->weights->count, b->adapters->weights->count);
    b->grad = b->ops->alloc(b->ops, count * sizeof(float));
    for (int i = 0; i < SLOTS; i++)
        for (int t = 0; t < PROMPT + RESPONSE; t++)
            b->ids[i][t] = (int32_t)rt_below(1, t < PROMPT ? (uint64_t)(i / 8) : 8 + (uint64_t)i,
                                             (uint64_t)t, (uint32_t)b->weights->arch.vocab);
    return 0;
}

/* Seconds of decoding SLOTS sequences; adapters: −1 off, 1 the first, 8 in turn. */
static double decode(bench *b, int adapters)
{
    rt_engine *engine;
    const rt_sampling s = {
        .temperature = 1, .top_p = 1, .max_tokens = RESPONSE, .seed = 1, .ignore_eos = true};
    double seconds = -1;
    if (rt_engine_new(&engine, adapters < 0 ? b->base : b->net, NULL, SLOTS,
                      SLOTS * (PROMPT + RESPONSE + 32), &b->err) != 0)
        return -1;
    int rc = 0;
    for (uint64_t i = 0; i < SLOTS && rc == 0; i++)
        rc = rt_engine_submit(engine, i, b->ids[i], PROMPT, &i, 1, 0,
                              adapters < 0 ? -1 : (int)i % adapters, &s, &b->err);
    if (rc == 0)
        rc = rt_engine_step(engine, &b->err); /* the prompts */
    double began = processor_seconds();
    while (rc > 0)
        rc = rt_engine_step(engine, &b->err);
    if (rc == 0)
        seconds = processor_seconds() - began;
    rt_engine_free(&engine);
    return seconds;
}

/* Seconds of one forward and backward over all sequences, in groups that share a prompt. */
static double train(bench *b, bool adapters)
{
    rt_trainer *trainer;
    int32_t rows[SLOTS][PROMPT + RESPONSE], lengths[SLOTS], *row_of[SLOTS];
    const int32_t *list[SLOTS];
    int which[SLOTS];
    static rt_entry entries[SLOTS * RESPONSE];
    static float logp[SLOTS * RESPONSE], g[SLOTS * RESPONSE];
    for (int i = 0; i < SLOTS; i++)
        list[i] = b->ids[i], lengths[i] = PROMPT + RESPONSE, row_of[i] = rows[i], which[i] = 0;
    if (rt_trainer_new(&trainer, adapters ? b->net : b->base, SLOTS * (PROMPT + RESPONSE), false,
                       &b->err) != 0)
        return -1;
    double seconds = -1;
    for (int pass = 0; pass < 2; pass++) { /* the first touches fresh memory */
        double began = processor_seconds();
        int rc = rt_trainer_plan(trainer, list, lengths, adapters ? which : NULL, NULL, SLOTS, row_of,
                                 &b->err);
        for (int e = 0; e < SLOTS * RESPONSE; e++) {
            int i = e / RESPONSE, t = PROMPT + e % RESPONSE;
            entries[e] = (rt_entry){rows[i][t - 1], b->ids[i][t]};
            g[e] = i % 2 ? 1e-3f : -1e-3f;
        }
        if (rc >= 0)
            rc = rt_trainer_forward(trainer, entries, SLOTS * RESPONSE, 1, true, logp, &b->err);
        if (rc >= 0)
            rc = rt_trainer_backward(trainer, entries, g, SLOTS * RESPONSE, 1, b->grad, &b->err);
        seconds = rc < 0 ? -1 : processor_seconds() - began;
    }
    rt_trainer_free(&trainer);
    return seconds;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static const char *const names[KINDS] = {"decode base", "decode adapter", "decode 8 adapters",
                                             "train all", "train adapter"};
    static double times[KINDS][ROUNDS_MAX];
    static bench b;
    int rank = argc > 2 ? atoi(argv[2]) : 8, threads = argc > 3 ? atoi(argv[3]) : 1;
    int rounds = argc > 4 ? RT_MIN(RT_MAX(atoi(argv[4]), 1), ROUNDS_MAX) : 15;
    if (argc < 2) {
        fprintf(stderr, "usage: bench_lora MODEL [RANK [THREADS [ROUNDS]]]\n");
        return 2;
    }
    if (nets_open(&b, argv[1], rank, threads) != 0)
        return fail(&b);
    for (int r = 0; r < rounds; r++)
        for (int k = 0; k < KINDS; k++) {
            times[k][r] = k == 0   ? decode(&b, -1)
                          : k == 1 ? decode(&b, 1)
                          : k == 2 ? decode(&b, ADAPTERS)
                                   : train(&b, k == 4);
            if (times[k][r] < 0)
                return fail(&b);
        }
    printf("kind,rank,threads,rounds,milliseconds,ratio\n");
    for (int k = 0; k < KINDS; k++)
        qsort(times[k], (size_t)rounds, sizeof(double), compare);
    for (int k = 0; k < KINDS; k++)
        printf("%s,%d,%d,%d,%.3f,%.3f\n", names[k], rank, threads, rounds,
               1e3 * times[k][rounds / 2], times[k][rounds / 2] / times[k < 3 ? 0 : 3][rounds / 2]);
    b.ops->free(b.ops, b.grad);
    rt_net_free(&b.net);
    rt_net_free(&b.base);
    rt_adapters_free(&b.adapters);
    rt_weights_free(&b.weights);
    rt_ops_free(&b.ops);
    return 0;
}
