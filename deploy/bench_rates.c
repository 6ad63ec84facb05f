/* The rates: decode, prefill, training, each beside its roof. */
#include <string.h>

#include "deploy/bench.h"

void bench_prompt(const bench *b, int number, int count, int32_t *ids)
{
    for (int i = 0; i < count; i++)
        ids[i] =
            (int32_t)rt_below(1, (uint64_t)number, (uint64_t)i, (uint32_t)b->weights->arch.vocab);
}

/* As a rollout samples, except that nothing ends early: a batch keeps its size. */
rt_sampling bench_sampling(const bench *b, int tokens)
{
    return (rt_sampling){
        .temperature = 1, .top_p = 1, .max_tokens = tokens, .seed = 1, .ignore_eos = true,
        .delimiter = b->tokenizer ? "</thought>" : NULL,
        .thoughts_max = 1 << 20, .thought_tokens_max = 256,
    };
}

static double seconds_since(int64_t began)
{
    return (double)(rt_now_ns() - began) * 1e-9;
}

static int drain(rt_engine *engine, rt_error *err)
{
    int left;
    rt_completion c;
    while ((left = rt_engine_step(engine, err)) > 0)
        ;
    while (rt_engine_collect(engine, &c))
        rt_completion_free(&c);
    return left;
}

/* ---- decode ---------------------------------------------------------------------------------- */

static int decode_round(const bench *b, rt_engine *engine, int batch, int round, bench_times *times,
                        rt_error *err)
{
    int32_t *prompt = rt_alloc((size_t)b->prompt * sizeof *prompt);
    rt_sampling sampling = bench_sampling(b, b->response);
    int rc = 0;
    for (int at = 0; at < batch && rc == 0; at += BENCH_GROUP) {
        uint64_t ids[BENCH_GROUP];
        int count = RT_MIN(BENCH_GROUP, batch - at);
        for (int i = 0; i < count; i++)
            ids[i] = (uint64_t)round << 32 | (uint64_t)(at + i);
        bench_prompt(b, round * 4096 + at, b->prompt, prompt);
        rc = rt_engine_submit(engine, (uint64_t)at, prompt, b->prompt, ids, count, 0, -1, &sampling,
                              err);
    }
    rt_free(prompt);
    for (int left = rc == 0 ? 1 : rc; left > 0;) {
        rt_engine_stats before = rt_engine_get_stats(engine);
        int64_t began = rt_now_ns();
        left = rc = rt_engine_step(engine, err);
        double seconds = seconds_since(began);
        rt_engine_stats after = rt_engine_get_stats(engine);
        /* full steps only: no prefill, the whole batch at work */
        if (after.tokens_prefill == before.tokens_prefill && before.active == batch && left > 0)
            bench_times_add(times, seconds);
    }
    return rc < 0 ? rc : drain(engine, err);
}

/* One sequence at a time reads every weight for one token: memory sets the pace, or, where the
 * weights stay in the cache, the same matmuls with nothing else. */
static void decode_roof(const bench *b, int batch, double seconds, bench_times *roof)
{
    if (batch == 1 && b->memory)
        bench_memory_time(b->memory, bench_roof_bytes(b->roof), seconds, roof);
    else
        bench_roof_time(b->roof, batch, batch, seconds, roof);
}

int bench_decode(const bench *b, int batch, bench_figure *figure, rt_error *err)
{
    rt_engine *engine;
    int64_t tokens = (int64_t)batch * (b->prompt + b->response + 64);
    int rc = rt_engine_new(&engine, b->net, b->tokenizer, batch, tokens, err);
    if (rc != 0)
        return rc;
    bench_times times = {0}, roof = {0};
    int64_t end = rt_now_ns() + (int64_t)(b->seconds * 1e9);
    for (int round = 0; rc == 0 && (round < 1 || rt_now_ns() < end); round++) {
        int64_t began = rt_now_ns();
        rc = decode_round(b, engine, batch, round, &times, err);
        decode_roof(b, batch, seconds_since(began), &roof);
    }
    rt_engine_free(&engine);
    double median = bench_times_median(&times);
    if (rc == 0 && median > 0) {
        const char *name = batch > 1 ? "matmul" : b->memory ? "memory" : "matmul in cache";
        *figure = (bench_figure){.tokens_per_second = batch / median, .roof = name,
                                 .share = bench_times_median(&roof) / median};
        snprintf(figure->name, sizeof figure->name, "decode batch %d", batch);
    }
    bench_times_free(&times);
    bench_times_free(&roof);
    return rc;
}

/* ---- prefill --------------------------------------------------------------------------------- */

enum { PREFILL_ROWS = 512 }; /* what an engine takes of prompts in a step */

int bench_prefill(const bench *b, bench_figure *figure, rt_error *err)
{
    int length = RT_MIN(128, b->weights->arch.context / 2),
        prompts = RT_MAX(PREFILL_ROWS / length, 1);
    rt_engine *engine;
    int rc = rt_engine_new(&engine, b->net, b->tokenizer, BENCH_SLOTS,
                           (int64_t)(prompts + 1) * (length + 64), err);
    if (rc != 0)
        return rc;
    rt_sampling sampling = bench_sampling(b, 1);
    int32_t *prompt = rt_alloc((size_t)length * sizeof *prompt);
    bench_times times = {0}, roof = {0};
    int64_t end = rt_now_ns() + (int64_t)(b->seconds * 1e9);
    for (int round = 0; rc == 0 && (round < 3 || rt_now_ns() < end); round++) {
        for (int i = 0; i < prompts && rc == 0; i++) {
            uint64_t id = (uint64_t)i;
            bench_prompt(b, round * prompts + i, length, prompt);
            rc = rt_engine_submit(engine, id, prompt, length, &id, 1, 0, -1, &sampling, err);
        }
        int64_t began = rt_now_ns();
        rc = rc == 0 ? drain(engine, err) : rc;
        bench_times_add(&times, seconds_since(began));
        bench_roof_time(b->roof, prompts * length, prompts, seconds_since(began), &roof);
    }
    double median = bench_times_median(&times);
    *figure = (bench_figure){.name = "prefill", .tokens_per_second = prompts * length / median,
                             .share = bench_times_median(&roof) / median, .roof = "matmul"};
    bench_times_free(&times);
    bench_times_free(&roof);
    rt_free(prompt);
    rt_engine_free(&engine);
    return rc;
}

/* ---- training -------------------------------------------------------------------------------- */

/* A micro-batch of groups with a prompt in common, as the learner cuts them. */
typedef struct micro {
    int groups, sequences, length, entries_count, rows;
    int32_t *ids;       // (sequences, length)
    const int32_t **list;
    int32_t *lengths, **row_of, *rows_of;
    rt_entry *entries;
    float *logp, *g;
} micro;

static micro micro_new(const bench *b)
{
    micro m = {.length = b->prompt + b->response};
    m.groups = RT_MAX(BENCH_MICRO_TOKENS / (b->prompt + BENCH_GROUP * b->response), 1);
    m.sequences = m.groups * BENCH_GROUP;
    m.entries_count = m.sequences * b->response;
    size_t n = (size_t)m.sequences, tokens = n * (size_t)m.length, e = (size_t)m.entries_count;
    m.ids = rt_alloc(tokens * sizeof *m.ids);
    m.rows_of = rt_alloc(tokens * sizeof *m.rows_of);
    m.list = rt_alloc(n * sizeof *m.list);
    m.lengths = rt_alloc(n * sizeof *m.lengths);
    m.row_of = rt_alloc(n * sizeof *m.row_of);
    m.entries = rt_alloc(e * sizeof *m.entries);
    m.logp = rt_alloc(e * sizeof *m.logp);
    m.g = rt_alloc(e * sizeof *m.g);
    for (int s = 0; s < m.sequences; s++) {
        int32_t *ids = m.ids + (size_t)s * (size_t)m.length;
        bench_prompt(b, s, m.length, ids);
        bench_prompt(b, 1 << 20 | s / BENCH_GROUP, b->prompt, ids);
        m.list[s] = ids;
        m.lengths[s] = m.length;
        m.row_of[s] = m.rows_of + (size_t)s * (size_t)m.length;
    }
    for (int i = 0; i < m.entries_count; i++)
        m.g[i] = (i / b->response % 2 ? 1.0f : -1.0f) / (float)m.entries_count;
    return m;
}

static void micro_free(micro *m)
{
    rt_free(m->ids), rt_free(m->rows_of), rt_free(m->list), rt_free(m->lengths);
    rt_free(m->row_of), rt_free(m->entries), rt_free(m->logp), rt_free(m->g);
}

static int micro_pass(const bench *b, rt_trainer *trainer, micro *m, float *grad, rt_error *err)
{
    m->rows = rt_trainer_plan(trainer, m->list, m->lengths, NULL, NULL, m->sequences, m->row_of, err);
    if (m->rows < 0)
        return m->rows;
    for (int s = 0, e = 0; s < m->sequences; s++)
        for (int t = b->prompt; t < m->length; t++, e++)
            m->entries[e] = (rt_entry){m->row_of[s][t - 1], m->list[s][t]};
    int rc = rt_trainer_forward(trainer, m->entries, m->entries_count, 1, true, m->logp, err);
    return rc == 0 ? rt_trainer_backward(trainer, m->entries, m->g, m->entries_count, 1, grad, err)
                   : rc;
}

int bench_training(const bench *b, bench_figure *figure, rt_error *err)
{
    micro m = micro_new(b);
    rt_trainer *trainer = NULL;
    int rc = rt_trainer_new(&trainer, b->net, RT_MAX(BENCH_MICRO_TOKENS, m.sequences * m.length),
                            false, err);
    float *grad = b->ops->alloc(b->ops, b->weights->count * sizeof(float));
    bench_times times = {0}, roof = {0};
    /* the first response tokens of a group hang on one row */
    int head_rows = m.groups * (BENCH_GROUP * (b->response - 1) + 1);
    int64_t end = rt_now_ns() + (int64_t)(b->seconds * 1e9);
    for (int round = 0; rc == 0 && (round < 4 || rt_now_ns() < end); round++) {
        int64_t began = rt_now_ns();
        rc = micro_pass(b, trainer, &m, grad, err);
        if (rc != 0 || round == 0) /* the first one touches fresh memory */
            continue;
        bench_times_add(&times, seconds_since(began));
        bench_roof_time(b->roof, m.rows, head_rows, seconds_since(began), &roof);
    }
    if (rc == 0) {
        double median = bench_times_median(&times);
        *figure = (bench_figure){.name = "training", .tokens_per_second = m.rows / median,
                                 .share = 3 * bench_times_median(&roof) / median,
                                 .roof = "matmul"};
    }
    bench_times_free(&times);
    bench_times_free(&roof);
    if (trainer)
        rt_trainer_free(&trainer);
    b->ops->free(b->ops, grad);
    micro_free(&m);
    return rc;
}
