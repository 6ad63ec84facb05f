/*
 * audit: one batch trained once more on the same weights, with everything that went into the loss
 * and came out of it written to a file that any other program can recompute.
 */
#include <math.h>
#include <string.h>

#include "learner/internal.h"

typedef struct audit {
    rt_arena *arena;
    const rt_learner *learner;
    const rt_sequence *sequences; // (count)
    int count, updates, adapters; /* updates: of each adapter; adapters: 1 where all weights are trained */
    float **mask, **logp, **g; // (count) of (prompt + response) each; g: d loss / d logp
    int32_t *update_of;        // (count)
    float **grad;              // (adapters × updates) of the parameters; 0 but for the adapter trained
    float *loss, *norm;        // (adapters × updates)
} audit;

/* Updates are numbered on from adapter to adapter. */
static int number_of(const audit *a, int update)
{
    return a->learner->adapter * a->updates + update;
}

/* What the learner works on may be a copy, of the same ids. */
static size_t index_of(const audit *a, const rt_sequence *sequence)
{
    size_t index = 0;
    while (a->sequences[index].ids != sequence->ids) {
        index++;
        RT_ASSERT(index < (size_t)a->count);
    }
    return index;
}

static void on_micro_batch(void *context, int update, const rt_sequence *const *sequences,
                           int count, const int32_t *first, const float *logp, const float *g)
{
    audit *a = context;
    if (update >= a->updates) /* later epochs train the same sequences again */
        return;
    for (int i = 0; i < count; i++) {
        size_t index = index_of(a, sequences[i]);
        a->update_of[index] = number_of(a, update);
        int t = sequences[i]->prompt_tokens + sequences[i]->suffix_start;
        for (int e = first[i]; e < first[i + 1]; e++, t++) {
            a->mask[index][t] = 1;
            a->logp[index][t] = logp[e];
            a->g[index][t] = g ? g[e] : 0;
        }
    }
}

static void on_gradient(void *context, int update, const float *grad, size_t count, double loss)
{
    audit *a = context;
    if (update >= a->updates)
        return;
    int number = number_of(a, update);
    rt_ops *ops = a->learner->ops;
    a->grad[number] = rt_arena_alloc(a->arena, count * sizeof(float));
    ops->download(ops, a->grad[number], grad, count * sizeof(float));
    a->loss[number] = (float)loss;
    a->norm[number] = (float)sqrt(ops->dot(ops, grad, grad, count));
}

static void prepare(audit *a)
{
    size_t n = (size_t)a->count, numbers = (size_t)(a->adapters * a->updates);
    float ***lists[] = {&a->mask, &a->logp, &a->g};
    for (size_t k = 0; k < RT_COUNT(lists); k++) {
        *lists[k] = rt_arena_alloc(a->arena, n * sizeof(float *));
        for (size_t i = 0; i < n; i++) {
            const rt_sequence *q = &a->sequences[i];
            (*lists[k])[i] = rt_arena_alloc(
                a->arena, (size_t)(q->prompt_tokens + q->response_tokens) * sizeof(float));
        }
    }
    a->update_of = rt_arena_alloc(a->arena, n * sizeof(int32_t));
    a->grad = rt_arena_alloc(a->arena, numbers * sizeof(float *));
    a->loss = rt_arena_alloc(a->arena, numbers * sizeof(float));
    a->norm = rt_arena_alloc(a->arena, numbers * sizeof(float));
}

/* ---- the file -------------------------------------------------------------------------------- */

typedef struct tensor_list {
    rt_arena *arena;
    rt_st_tensor *items;
    int count;
} tensor_list;

static void add(tensor_list *list, const char *kind, int number, int dtype, int64_t rows,
                int64_t cols, const void *data)
{
    char name[128];
    snprintf(name, sizeof name, number < 0 ? "%s" : "%s.%d", kind, number);
    char *own = rt_arena_alloc(list->arena, strlen(name) + 1);
    memcpy(own, name, strlen(name));
    list->items[list->count++] =
        (rt_st_tensor){.name = own, .dtype = dtype, .dims = cols > 1 ? 2 : 1, .shape = {rows, cols},
                       .data = data, .bytes = (size_t)(rows * cols) * 4};
}

/* A value for each target token: the response's, 0 in the prompt. */
static float *over_tokens(rt_arena *arena, const rt_sequence *q, const float *values, float same)
{
    float *all =
        rt_arena_alloc(arena, (size_t)(q->prompt_tokens + q->response_tokens) * sizeof(float));
    for (int t = 0; t < q->response_tokens; t++) {
        all[q->prompt_tokens + t] = values ? values[t] : same;
    }
    return all;
}

static void add_sequence(const audit *a, int i, tensor_list *list)
{
    const rt_sequence *q = &a->sequences[i];
    int64_t n = q->prompt_tokens + q->response_tokens;
    add(list, "ids", i, RT_I32, n, 1, q->ids);
    add(list, "advantage", i, RT_F32, n, 1,
        over_tokens(a->arena, q, NULL, (float)q->advantage));
    add(list, "mask", i, RT_F32, n, 1, a->mask[i]);
    add(list, "old_logprob", i, RT_F32, n, 1, over_tokens(a->arena, q, q->old_logp, 0));
    add(list, "new_logprob", i, RT_F32, n, 1, a->logp[i]);
    add(list, "dloss_dlogprob", i, RT_F32, n, 1, a->g[i]);
}

/* An update moves the parameters of one adapter: one of `adapters` equal parts of all. */
static void add_gradient(const audit *a, int number, tensor_list *list)
{
    const rt_weights *weights = a->learner->master;
    size_t part = weights->count / (size_t)a->adapters, first = part * (size_t)(number / a->updates);
    for (int i = 0; a->grad[number] && i < weights->tensors_count; i++) {
        const rt_tensor *tensor = &weights->tensors[i];
        char name[128];
        if (tensor->offset < first || tensor->offset >= first + part) {
            continue;
        }
        if (number == 0) {
            snprintf(name, sizeof name, "grad.%s", tensor->name);
        } else {
            snprintf(name, sizeof name, "grad.%d.%s", number, tensor->name);
        }
        add(list, name, -1, RT_F32, tensor->rows, tensor->cols, a->grad[number] + tensor->offset);
    }
}

static int write_file(const audit *a, const char *path, const char *const *metadata, rt_error *err)
{
    int numbers = a->adapters * a->updates;
    size_t room = (size_t)a->count * 6 + 5 + (size_t)(a->updates * a->learner->master->tensors_count);
    tensor_list list = {.arena = a->arena,
                        .items = rt_arena_alloc(a->arena, room * sizeof *list.items)};
    for (int i = 0; i < a->count; i++) {
        add_sequence(a, i, &list);
    }
    int64_t *trajectory = rt_arena_alloc(a->arena, (size_t)a->count * sizeof *trajectory);
    float *temperature = rt_arena_alloc(a->arena, (size_t)a->count * sizeof *temperature);
    for (int i = 0; i < a->count; i++) {
        trajectory[i] = (int64_t)a->sequences[i].trajectory;
        temperature[i] = rt_learner_temperature(a->learner, &a->sequences[i]);
    }
    add(&list, "trajectory", -1, RT_I32, a->count, 2, trajectory); /* low and high words */
    add(&list, "temperature", -1, RT_F32, a->count, 1, temperature);
    add(&list, "update", -1, RT_I32, a->count, 1, a->update_of);
    add(&list, "loss", -1, RT_F32, numbers, 1, a->loss);
    add(&list, "grad_norm", -1, RT_F32, numbers, 1, a->norm);
    for (int number = 0; number < numbers; number++) {
        add_gradient(a, number, &list);
    }
    return rt_safetensors_write(path, list.items, list.count, metadata, err);
}

int rt_audit(rt_learner *learner, const rt_sequence *sequences, int count, int updates,
             const char *path, const char *const *metadata, rt_update_stats *stats, rt_error *err)
{
    audit a = {.arena = rt_arena_new(1 << 20), .learner = learner, .sequences = sequences,
               .count = count, .updates = updates,
               .adapters = learner->adapters ? learner->adapters->count : 1};
    prepare(&a);
    const rt_observer observer = {&a, on_micro_batch, on_gradient};
    int done = 0;
    rt_learner_observe(learner, &observer);
    int rc = rt_learner_step(learner, sequences, count, updates, NULL, &done, stats, err);
    rt_learner_observe(learner, NULL);
    if (rc == 0)
        rc = write_file(&a, path, metadata, err);
    rt_arena_free(&a.arena);
    return rc;
}
