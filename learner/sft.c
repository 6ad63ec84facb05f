/*
 * Supervised fine-tuning: examples are a function of (config, cursor), so a run that stops and
 * continues ends with the same bits. Phase two (sft.phase_steps) has its own batch and rate.
 */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "learner/internal.h"
#include "tasks/tasks.h"

#define RECORD_BYTES_MAX (1 << 20)

typedef struct records { /* sft.data: prompt/completion pairs */
    char **prompt, **completion;
    int64_t count, capacity;
} records;

typedef struct sft {
    const rt_config *config;
    const rt_log *log;
    rt_taskset *tasks;
    records records;
    rt_tokenizer *tokenizer;
    rt_learner *learner;
    rt_arena *arena;
    int64_t started_ns, steps_here, tokens;
    char *checkpoints;
} sft;

static int add_record(records *r, const char *line, size_t bytes, const char *path, int64_t number,
                      rt_error *err)
{
    json_error_t why;
    json_t *root = json_loadb(line, bytes, JSON_REJECT_DUPLICATES, &why);
    if (!root)
        return rt_fail(err, RT_ERR_INPUT, "%s:%lld: not JSON: %s", path, (long long)number,
                       why.text);
    const char *prompt = json_string_value(json_object_get(root, "prompt"));
    const char *completion = json_string_value(json_object_get(root, "completion"));
    int rc = 0;
    if (!prompt || !completion || !*completion) {
        rc = rt_fail(err, RT_ERR_INPUT,
                     "%s:%lld: needs the texts \"prompt\" and \"completion\" (not empty)", path,
                     (long long)number);
    } else {
        if (r->count == r->capacity) {
            size_t old = (size_t)r->capacity * sizeof(char *);
            r->capacity = r->capacity ? 2 * r->capacity : 256;
            r->prompt = rt_realloc(r->prompt, old, (size_t)r->capacity * sizeof(char *));
            r->completion = rt_realloc(r->completion, old, (size_t)r->capacity * sizeof(char *));
        }
        r->prompt[r->count] = rt_strdup(prompt);
        r->completion[r->count++] = rt_strdup(completion);
    }
    json_decref(root);
    return rc;
}

static int load_records(records *r, const char *path, rt_error *err)
{
    rt_map map;
    int rc = rt_map_open(&map, path, err);
    if (rc != 0)
        return rc;
    const char *at = (const char *)map.data, *end = at + map.bytes;
    for (int64_t number = 1; at < end && rc == 0; number++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline ? newline : end;
        size_t bytes = (size_t)(stop - at);
        if (bytes > RECORD_BYTES_MAX)
            rc = rt_fail(err, RT_ERR_LIMIT, "%s:%lld: a line of %zu bytes, at most %d are read",
                         path, (long long)number, bytes, RECORD_BYTES_MAX);
        else if (bytes > 0)
            rc = add_record(r, at, bytes, path, number, err);
        at = newline ? newline + 1 : end;
    }
    rt_map_close(&map);
    if (rc == 0 && r->count == 0)
        rc = rt_fail(err, RT_ERR_INPUT,
                     "%s: no records; each line needs {\"prompt\", \"completion\"}", path);
    return rc;
}

static void free_records(records *r)
{
    for (int64_t i = 0; i < r->count; i++)
        rt_free(r->prompt[i]), rt_free(r->completion[i]);
    rt_free(r->prompt), rt_free(r->completion);
}

/* ---- examples to sequences --------------------------------------------------------------------
 */

static int encode(const sft *s, const char *text, int32_t **ids, size_t *count, size_t *capacity,
                  rt_error *err)
{
    return rt_tokenizer_encode(s->tokenizer, text, strlen(text), ids, count, capacity, err);
}

/* Weight of each completion token: that of the span its first byte lies in. */
static float *token_weights(const sft *s, const rt_example *example, const int32_t *ids, int count)
{
    float *weights = rt_arena_alloc(s->arena, (size_t)RT_MAX(count, 1) * sizeof *weights);
    int byte = 0;
    for (int t = 0; t < count; t++) {
        size_t bytes = 0;
        rt_tokenizer_bytes(s->tokenizer, ids[t], &bytes);
        weights[t] = 1;
        for (int i = 0; i < example->spans_count; i++)
            if (byte >= example->spans[i].begin && byte < example->spans[i].end)
                weights[t] = (float)example->spans[i].weight;
        byte += (int)bytes;
    }
    return weights;
}

static int to_sequence(const sft *s, const rt_example *example, rt_sequence *sequence,
                       rt_error *err)
{
    int32_t *ids = NULL;
    size_t count = 0, capacity = 0;
    const rt_arch *arch = &rt_learner_weights(s->learner)->arch;
    int rc = encode(s, example->prompt, &ids, &count, &capacity, err);
    int prompt = (int)count;
    if (rc == 0)
        rc = encode(s, example->completion, &ids, &count, &capacity, err);
    if (rc == 0 && prompt == 0)
        rc = rt_fail(err, RT_ERR_INPUT, "an example has an empty prompt");
    if (rc != 0) {
        rt_free(ids);
        return rc;
    }
    int total = (int)count + (arch->eos_count > 0);
    int32_t *all = rt_arena_alloc(s->arena, (size_t)total * sizeof *all);
    memcpy(all, ids, count * sizeof *all);
    rt_free(ids);
    if (arch->eos_count > 0)
        all[total - 1] = arch->eos[0];
    /* What does not fit the context is cut at its end: the model never sees it later either. */
    int room = RT_MIN(arch->context, s->learner->trainer_tokens);
    if (prompt >= room)
        return rt_fail(err, RT_ERR_LIMIT,
                       "a prompt of %d tokens leaves no room in the context of %d", prompt, room);
    total = RT_MIN(total, room);
    *sequence = (rt_sequence){
        .ids = all, .prompt_tokens = prompt, .response_tokens = total - prompt,
        .adapter = s->learner->adapters ? 1 : 0};
    sequence->weight = token_weights(s, example, all + prompt, total - prompt);
    return 0;
}

static int example_at(const sft *s, int64_t cursor, double localize, rt_example *example,
                      rt_error *err)
{
    const records *r = &s->records;
    if (r->count == 0)
        return rt_example_next(s->tasks, s->config, cursor, localize, s->arena, example, err);
    int64_t epoch = cursor / r->count;
    uint32_t *order = rt_alloc((size_t)r->count * sizeof *order);
    rt_permutation((uint64_t)s->config->run.seed, (uint64_t)epoch, order, (uint32_t)r->count);
    uint32_t index = order[cursor % r->count];
    rt_free(order);
    *example = (rt_example){.prompt = r->prompt[index], .completion = r->completion[index]};
    return 0;
}

/* ---- the schedule ------------------------------------------------------------------------------
 */

typedef struct plan {
    int64_t batch, cursor;
    double lr, localize;
} plan;

static plan plan_of(const rt_config *config, int64_t step)
{
    int64_t phase = config->sft.phase_steps, steps = config->sft.steps;
    bool second = phase > 0 && step >= phase;
    plan p = {.batch = config->sft.batch, .localize = config->sft.localize_share};
    if (!second) {
        int64_t total = phase > 0 ? phase : steps;
        p.lr = rt_learning_rate(config, step, total);
        p.cursor = step * config->sft.batch;
        if (phase > 0) /* the first phase keeps its rate after warm-up: the second one decays */
            p.lr = config->learner.lr *
                   fmin(1, (double)(step + 1) / (double)RT_MAX(config->learner.warmup_steps, 1));
        return p;
    }
    p.batch = config->sft.phase_batch > 0 ? config->sft.phase_batch : config->sft.batch;
    p.cursor = phase * config->sft.batch + (step - phase) * p.batch;
    double lr = config->sft.phase_lr > 0 ? config->sft.phase_lr : config->learner.lr;
    p.lr = lr * (1 - (double)(step - phase) / (double)RT_MAX(steps - phase, 1));
    p.localize = config->sft.localize_share_end;
    return p;
}

static int one_step(sft *s, int64_t step, rt_update_stats *stats, rt_error *err)
{
    plan p = plan_of(s->config, step);
    rt_arena_reset(s->arena);
    rt_sequence *batch = rt_arena_alloc(s->arena, (size_t)p.batch * sizeof *batch);
    for (int64_t i = 0; i < p.batch; i++) {
        rt_example example = {0};
        int rc = example_at(s, p.cursor + i, p.localize, &example, err);
        if (rc == 0)
            rc = to_sequence(s, &example, &batch[i], err);
        if (rc != 0)
            return rc;
    }
    stats->learning_rate = p.lr;
    return rt_learner_sft(s->learner, batch, (int)p.batch, stats, err);
}

static void progress(const sft *s, int64_t step, double loss)
{
    double seconds = (double)(rt_now_ns() - s->started_ns) * 1e-9;
    double left = seconds / (double)RT_MAX(s->steps_here, 1) *
                  (double)(s->config->sft.steps - step);
    rt_log_line(s->log, RT_INFO, "step %lld of %lld, loss %.4f, %.0f tokens/s, %.0f s left",
                (long long)step, (long long)s->config->sft.steps, loss,
                (double)s->tokens / RT_MAX(seconds, 1e-9), left);
}

static int train(sft *s, const atomic_bool *stop, double *loss, rt_error *err)
{
    const rt_config *config = s->config;
    int64_t said_ns = rt_now_ns(), every = RT_MAX(config->learner.checkpoint_every, 100);
    double smooth = 0;
    int64_t step = rt_learner_version(s->learner);
    for (; step < config->sft.steps; step++) {
        rt_update_stats stats = {0};
        int rc = one_step(s, step, &stats, err);
        if (rc != 0)
            return rt_error_prefix(err, "step %lld", (long long)step), rc;
        rt_learner_set_version(s->learner, step + 1);
        s->steps_here++;
        s->tokens += stats.rows;
        smooth = s->steps_here == 1 ? stats.loss : 0.95 * smooth + 0.05 * stats.loss;
        *loss = smooth;
        bool stopped = stop && atomic_load(stop), last = step + 1 == config->sft.steps;
        if (stopped || last || (step + 1) % every == 0) {
            rc = rt_checkpoint_save(s->learner, s->checkpoints,
                                    (int)config->learner.checkpoints_kept, NULL, err);
            if (rc != 0)
                return rc;
        }
        if (last || rt_now_ns() - said_ns > 3000000000) {
            progress(s, step + 1, smooth);
            said_ns = rt_now_ns();
        }
        if (stopped && !last)
            return rt_fail(err, RT_ERR_STOPPED,
                           "stopped at step %lld, state saved in %s; the same "
                           "command continues",
                           (long long)step + 1, s->checkpoints);
    }
    return 0;
}

static int open_sft(sft *s, rt_error *err)
{
    const rt_config *config = s->config;
    s->arena = rt_arena_new(1 << 20);
    if (rt_config_adapters(config) > 1)
        return rt_fail(err, RT_ERR_USAGE, "retake sft trains one adapter, this config has one for each of "
                       "%d agents; set algorithm.debate.adapters: shared", rt_config_adapters(config));
    s->checkpoints = rt_format("%s/checkpoints", config->run.dir);
    int rc = rt_mkdirs(s->checkpoints, err);
    if (rc == 0)
        rc = *config->sft.data ? load_records(&s->records, config->sft.data, err)
                               : rt_taskset_load(&s->tasks, config, err);
    if (rc == 0)
        rc = rt_tokenizer_load(&s->tokenizer, config->model.path, err);
    rt_buf newest = {0};
    int64_t version;
    if (rc == 0)
        rc = rt_checkpoint_newest(s->checkpoints, &newest, &version, err);
    if (rc == 0)
        rc = rt_learner_new(&s->learner, config, newest.bytes > 0 ? newest.data : NULL, err);
    if (rc == 0 && newest.bytes > 0)
        rt_log_line(s->log, RT_INFO, "continues from %s", newest.data);
    rt_buf_free(&newest);
    if (rc == 0 && rt_tokenizer_vocab(s->tokenizer) > rt_learner_weights(s->learner)->arch.vocab)
        rc = rt_fail(err, RT_ERR_INPUT,
                     "the tokenizer of %s has %d tokens, the model only %d: wrong tokenizer",
                     config->model.path, rt_tokenizer_vocab(s->tokenizer),
                     rt_learner_weights(s->learner)->arch.vocab);
    return rc;
}

/* A model, or the adapter beside its base. */
static int save_export(const sft *s, const char *dir, rt_error *err)
{
    const rt_config *config = s->config;
    if (!s->learner->adapters)
        return rt_model_save(rt_learner_weights(s->learner), dir, config->model.path, err);
    char *base = realpath(config->model.path, NULL);
    int rc = rt_peft_save(s->learner->adapters, 0, config->learner.lora.dropout,
                          base ? base : config->model.path, dir, err);
    free(base);
    return rc;
}

int rt_sft_run(const rt_config *config, const rt_log *log, const atomic_bool *stop, rt_buf *summary,
               rt_error *err)
{
    sft s = {.config = config, .log = log, .started_ns = rt_now_ns()};
    double loss = 0;
    int rc = open_sft(&s, err);
    if (rc == 0)
        rc = train(&s, stop, &loss, err);
    char *export = rt_format("%s/export", config->run.dir);
    if (rc == 0)
        rc = save_export(&s, export, err);
    if (rc == 0) {
        char hash[33];
        rt_hash_hex(rt_learner_hash(s.learner), hash);
        rt_buf_addf(summary,
                    "{\"steps\": %lld, \"loss\": %.6g, \"tokens\": %lld, \"seconds\": %.3f, "
                    "\"weights_hash\": \"%s\", \"model\": \"%s\"}\n",
                    (long long)config->sft.steps, loss, (long long)s.tokens,
                    (double)(rt_now_ns() - s.started_ns) * 1e-9, hash, export);
    }
    rt_free(export);
    if (s.learner)
        rt_learner_free(&s.learner);
    if (s.tokenizer)
        rt_tokenizer_free(&s.tokenizer);
    if (s.tasks)
        rt_taskset_free(&s.tasks);
    free_records(&s.records);
    if (s.arena)
        rt_arena_free(&s.arena);
    rt_free(s.checkpoints);
    return rc;
}
