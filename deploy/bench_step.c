/* A whole training step in one process: 16 problems × 8 answers sampled, trained on, weights
 * renewed. */
#include <string.h>

#include "deploy/bench.h"

enum { UPDATES = 2, SEQUENCES = BENCH_PROBLEMS * BENCH_GROUP };

typedef struct stepper {
    const bench *b;
    rt_engine *engine;
    rt_trainer *trainer;
    rt_weights *master;       /* f32 */
    rt_weights *working;      /* what the net gets; the master itself in f32 */
    float *flat, *m, *v, *grad; // (count) backend memory; flat: the master's own where that is the host's
    int32_t *ids;             // (SEQUENCES, prompt + response)
    int lengths[SEQUENCES];
    float *behaviour;         // (SEQUENCES, response)
    int32_t *rows;            // like ids
    rt_entry *entries;        // (SEQUENCES × response)
    float *logp, *g;
    int updates;
    bench_step account;
    double roof;              /* seconds this step's matmuls need at the roof */
} stepper;

/* Answers of a problem share a length; the lengths of problems spread as those of real tasks do. */
static int response_of(const bench *b, int problem)
{
    return RT_MAX(b->response / 2 + problem * (b->response / 2) / (BENCH_PROBLEMS - 1), 1);
}

static int width(const bench *b)
{
    return b->prompt + b->response;
}

static int sample(stepper *s, int round, rt_error *err)
{
    const bench *b = s->b;
    int rc = 0;
    for (int p = 0; p < BENCH_PROBLEMS && rc == 0; p++) {
        uint64_t ids[BENCH_GROUP];
        rt_sampling sampling = bench_sampling(b, response_of(b, p));
        for (int i = 0; i < BENCH_GROUP; i++) {
            int at = p * BENCH_GROUP + i;
            ids[i] = (uint64_t)round << 24 | (uint64_t)at;
            bench_prompt(b, round * BENCH_PROBLEMS + p, b->prompt,
                         s->ids + (size_t)at * (size_t)width(b));
        }
        rc = rt_engine_submit(s->engine, (uint64_t)p,
                              s->ids + (size_t)p * BENCH_GROUP * (size_t)width(b), b->prompt, ids,
                              BENCH_GROUP, 0, -1, &sampling, err);
    }
    s->account.sampled = 0;
    for (int left = 1; rc == 0 && left > 0;) {
        left = rt_engine_step(s->engine, err);
        if (left < 0)
            return left;
        for (rt_completion c; rt_engine_collect(s->engine, &c); rt_completion_free(&c)) {
            size_t at = (size_t)(c.trajectory & 0xFFFFFF), count = (size_t)c.ids_count;
            memcpy(s->ids + at * (size_t)width(b) + b->prompt, c.ids, count * sizeof(int32_t));
            memcpy(s->behaviour + at * (size_t)b->response, c.logprobs, count * sizeof(float));
            s->lengths[at] = b->prompt + c.ids_count;
            s->account.sampled += c.ids_count;
        }
    }
    return rc;
}

/* Trains on whole groups [from, to) as one micro-batch; compares log-probs while the weights are
 * still those that sampled. */
static int train(stepper *s, int from, int to, bool compare, rt_error *err)
{
    const bench *b = s->b;
    const int32_t *list[SEQUENCES];
    int32_t *row_of[SEQUENCES];
    int count = to - from, entries = 0, head_rows = 0;
    for (int i = 0; i < count; i++) {
        list[i] = s->ids + (size_t)(from + i) * (size_t)width(b);
        row_of[i] = s->rows + (size_t)(from + i) * (size_t)width(b);
    }
    int rows = rt_trainer_plan(s->trainer, list, s->lengths + from, NULL, NULL, count, row_of, err);
    if (rows < 0)
        return rows;
    for (int i = 0; i < count; i++) {
        head_rows += s->lengths[from + i] - b->prompt - (i % BENCH_GROUP != 0);
        for (int t = b->prompt; t < s->lengths[from + i]; t++, entries++) {
            s->entries[entries] = (rt_entry){row_of[i][t - 1], list[i][t]};
            s->g[entries] = (i % 2 ? 1.0f : -1.0f) / (float)s->account.sampled;
        }
    }
    int rc = rt_trainer_forward(s->trainer, s->entries, entries, 1, true, s->logp, err);
    for (int i = 0, e = 0; rc == 0 && compare && i < count; i++)
        for (int t = 0; t < s->lengths[from + i] - b->prompt; t++, e++) {
            s->account.compared++;
            s->account.mismatched +=
                memcmp(&s->logp[e],
                       &s->behaviour[(size_t)(from + i) * (size_t)b->response + (size_t)t],
                       sizeof(float)) != 0;
        }
    if (rc == 0)
        rc = rt_trainer_backward(s->trainer, s->entries, s->g, entries, 1, s->grad, err);
    /* row counts differ from step to step: the rate of a full micro-batch stands for all */
    s->roof += 3 * (bench_roof_layers(b->roof, BENCH_MICRO_TOKENS) * rows +
                    bench_roof_head(b->roof, BENCH_MICRO_TOKENS) * head_rows) / BENCH_MICRO_TOKENS;
    return rc;
}

static void update(stepper *s)
{
    rt_ops *ops = s->b->ops;
    size_t count = s->master->count;
    s->updates++;
    ops->dot(ops, s->grad, s->grad, count);
    /* so small a rate that thousands of updates leave the model what it is */
    ops->adamw(ops, s->flat, s->m, s->v, s->grad, count, 1, 1e-9f, 0.9f, 0.999f, 1e-8f, 0, 0.1f, 0.001f);
    if (!ops->host)
        ops->download(ops, s->master->data, s->flat, count * sizeof(float));
    ops->zero(ops, s->grad, count * sizeof(float));
    if (s->working != s->master)
        rt_weights_convert(s->working, s->master);
    rt_net_set(s->b->net, s->working);
}

/* Seconds of training (measured inside) and of renewing the weights. */
static int train_all(stepper *s, bool compare, double *training, double *renewal, rt_error *err)
{
    const bench *b = s->b;
    int rc = 0;
    for (int u = 0; u < UPDATES && rc == 0; u++) {
        int from = SEQUENCES / UPDATES * u, end = SEQUENCES / UPDATES * (u + 1);
        int64_t began = rt_now_ns();
        while (from < end && rc == 0) {
            int to = from, tokens = 0;
            while (to < end) {
                int more = b->prompt + BENCH_GROUP * response_of(b, to / BENCH_GROUP);
                if (to > from && tokens + more > BENCH_MICRO_TOKENS)
                    break;
                tokens += more;
                to += BENCH_GROUP;
            }
            rc = train(s, from, to, compare && u == 0, err);
            from = to;
        }
        int64_t trained = rt_now_ns();
        update(s);
        *training += (double)(trained - began) * 1e-9;
        *renewal += (double)(rt_now_ns() - trained) * 1e-9;
    }
    rt_engine_weights_changed(s->engine);
    return rc;
}

static void flat_open(stepper *s)
{
    rt_ops *ops = s->b->ops;
    size_t bytes = s->master->count * sizeof(float);
    s->flat = ops->host ? s->master->data : ops->alloc(ops, bytes);
    if (!ops->host)
        ops->upload(ops, s->flat, s->master->data, bytes);
}

static int stepper_open(stepper *s, rt_error *err)
{
    const bench *b = s->b;
    size_t tokens = (size_t)SEQUENCES * (size_t)width(b), count = b->weights->count;
    int micro = RT_MAX(BENCH_MICRO_TOKENS, BENCH_GROUP * width(b));
    int rc = rt_engine_new(&s->engine, b->net, b->tokenizer, BENCH_SLOTS,
                           (int64_t)BENCH_SLOTS * (width(b) + 64), err);
    if (rc == 0)
        rc = rt_trainer_new(&s->trainer, b->net, micro, false, err);
    if (rc == 0)
        rc = rt_weights_new(&s->master, &b->weights->arch, RT_F32, err);
    if (rc == 0) {
        rt_weights_convert(s->master, b->weights);
        flat_open(s);
    }
    s->working = s->master;
    if (rc == 0 && b->weights->dtype != RT_F32)
        rc = rt_weights_new(&s->working, &b->weights->arch, b->weights->dtype, err);
    s->m = b->ops->alloc(b->ops, count * sizeof(float));
    s->v = b->ops->alloc(b->ops, count * sizeof(float));
    s->grad = b->ops->alloc(b->ops, count * sizeof(float));
    s->ids = rt_alloc(tokens * sizeof *s->ids);
    s->rows = rt_alloc(tokens * sizeof *s->rows);
    s->behaviour = rt_alloc(tokens * sizeof *s->behaviour);
    s->entries = rt_alloc(tokens * sizeof *s->entries);
    s->logp = rt_alloc(tokens * sizeof *s->logp);
    s->g = rt_alloc(tokens * sizeof *s->g);
    return rc;
}

static void stepper_close(stepper *s)
{
    rt_ops *ops = s->b->ops;
    if (s->engine)
        rt_engine_free(&s->engine);
    if (s->trainer)
        rt_trainer_free(&s->trainer);
    if (s->flat && !ops->host)
        ops->free(ops, s->flat);
    if (s->working && s->working != s->master)
        rt_weights_free(&s->working);
    if (s->master)
        rt_weights_free(&s->master);
    ops->free(ops, s->m), ops->free(ops, s->v), ops->free(ops, s->grad);
    rt_free(s->ids), rt_free(s->rows), rt_free(s->behaviour);
    rt_free(s->entries), rt_free(s->logp), rt_free(s->g);
}

/* Roof of the sampling: each prompt once, each further token in a batch of all slots. */
static double sampling_roof(const stepper *s)
{
    const bench *b = s->b;
    int prompt_rows = BENCH_PROBLEMS * b->prompt;
    double decoded =
        (double)s->account.sampled - SEQUENCES; /* first tokens come from the prompts' rows */
    double batch = bench_roof_layers(b->roof, BENCH_SLOTS) + bench_roof_head(b->roof, BENCH_SLOTS);
    return bench_roof_layers(b->roof, prompt_rows) + bench_roof_head(b->roof, BENCH_PROBLEMS) +
           decoded / BENCH_SLOTS * batch;
}

int bench_whole_step(const bench *b, bench_figure *figure, bench_step *step, rt_error *err)
{
    stepper s = {.b = b};
    int rc = stepper_open(&s, err);
    bench_times whole = {0}, sampling = {0}, training = {0}, renewal = {0};
    bench_roof_gflops(b->roof, BENCH_MICRO_TOKENS); /* measured here, not between the passes */
    int64_t end = rt_now_ns() + (int64_t)(b->seconds * 2e9);
    for (int round = 0; rc == 0 && (round < 4 || rt_now_ns() < end); round++) {
        double trained = 0, renewed = 0;
        s.roof = 0;
        int64_t began = rt_now_ns();
        rc = sample(&s, round, err);
        double sampled = (double)(rt_now_ns() - began) * 1e-9;
        if (rc == 0)
            rc = train_all(&s, round == 0, &trained, &renewed, err);
        if (round == 0 || rc != 0)
            continue; /* the first one touches fresh memory */
        bench_times_add(&sampling, sampled);
        bench_times_add(&training, trained);
        bench_times_add(&renewal, renewed);
        bench_times_add(&whole, sampled + trained + renewed);
    }
    if (rc == 0) {
        double median = bench_times_median(&whole);
        s.account.sampling = bench_times_median(&sampling);
        s.account.training = bench_times_median(&training);
        s.account.update = bench_times_median(&renewal);
        *step = s.account;
        *figure = (bench_figure){.name = "whole step 16 x 8", .roof = "matmul",
                                 .tokens_per_second = (double)s.account.sampled / median,
                                 .share = (s.roof + sampling_roof(&s)) / median};
    }
    bench_times_free(&whole), bench_times_free(&sampling);
    bench_times_free(&training), bench_times_free(&renewal);
    stepper_close(&s);
    return rc;
}
