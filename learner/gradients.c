/*
 * The gradient of an update on its way to the optimizer: what token lookups add comes in, prompts are
 * looked at one after another, by task and, on request, once more by another facet, and a correction
 * may put the tasks' parts together in another way than by adding them up.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "learner/internal.h"

enum { METRICS_MAX = 1024 };

struct rt_gradients {
    rt_accounts *tasks, *others; /* others: NULL unless gradients.by names a facet */
    int facet;                   /* of others */
    float *shadow, *shadow_lookups; /* gradient of the second pass */
    bool due;                    /* in this step */
    bool corrects;
    double gram[RT_CLASSES_MAX * RT_CLASSES_MAX];
    rt_running_norm running[RT_TASKS_MAX];
    rt_metric metrics[METRICS_MAX];
    int metrics_count;
};

/* ---- prompts and classes ---------------------------------------------------------------------- */

bool rt_same_unit(const rt_sequence *a, const rt_sequence *b)
{
    return a->problem == b->problem && a->task == b->task && a->adapter == b->adapter;
}

/* With advantage 0 and no penalty a sequence has no gradient: it only counts in denominators. */
bool rt_has_gradient(const rt_learner *learner, const rt_sequence *sequence)
{
    const rt_objective *objective = &learner->config->algorithm.objective;
    return sequence->advantage != 0 || objective->kl != RT_KL_OFF || objective->loss != RT_LOSS_POLICY;
}

/* Upper ends of the buckets of depths (thoughts) and lengths (trained tokens). */
static const int depth_ends[] = {0, 1, 2, 4, 8, 16}, length_ends[] = {16, 32, 64, 128, 256, 512};
static const char *const kind_names[RT_SEQUENCE_KINDS] = {"base", "reset", "debate"};
static const char *const facet_names[] = {"task", "kind", "depth", "agent", "length"};

static int bucket_of(const int *ends, int value)
{
    int k = 0;
    while (k < 6 && value > ends[k])
        k++;
    return k;
}

static void bucket_name(const int *ends, int bucket, char *name, size_t bytes)
{
    int from = bucket > 0 ? ends[bucket - 1] + 1 : 0;
    if (bucket == 6)
        snprintf(name, bytes, "%d+", from);
    else if (from == ends[bucket])
        snprintf(name, bytes, "%d", from);
    else
        snprintf(name, bytes, "%d-%d", from, ends[bucket]);
}

static int class_of(int facet, const rt_sequence *sequence)
{
    switch (facet) {
    case FACET_KIND: return RT_MIN(sequence->kind, RT_SEQUENCE_KINDS - 1);
    case FACET_DEPTH: return bucket_of(depth_ends, sequence->depth);
    case FACET_AGENT: return RT_MIN(sequence->agent, RT_CLASSES_MAX - 1);
    case FACET_LENGTH:
        return bucket_of(length_ends, sequence->response_tokens - sequence->suffix_start);
    default: return RT_MIN(sequence->task, RT_CLASSES_MAX - 1);
    }
}

bool rt_same_cell(const rt_cells *cells, const rt_sequence *a, const rt_sequence *b)
{
    return class_of(cells->facet, a) == class_of(cells->facet, b);
}

static void class_name(const rt_learner *learner, int facet, int class, char *name, size_t bytes)
{
    switch (facet) {
    case FACET_KIND:
        snprintf(name, bytes, "by/%s", kind_names[RT_MIN(class, RT_SEQUENCE_KINDS - 1)]);
        break;
    case FACET_AGENT: snprintf(name, bytes, "by/%d", class); break;
    case FACET_DEPTH:
    case FACET_LENGTH:
        snprintf(name, bytes, "by/");
        bucket_name(facet == FACET_DEPTH ? depth_ends : length_ends, class, name + 3, bytes - 3);
        break;
    default:
        if (class < learner->config->tasks_count)
            snprintf(name, bytes, "%s", learner->config->tasks[class].name);
        else
            snprintf(name, bytes, "%d", class);
    }
}

/* Half of the prompts that a problem belongs to, by its number alone. */
static int half_of(const rt_sequence *sequence)
{
    return (int)(rt_hash64(&sequence->problem, sizeof sequence->problem, 0) & 1);
}

/* Mean |A| of the sequences of one unit and class around `at`. */
static double mean_advantage(const rt_cells *cells, const rt_sequence *at)
{
    const rt_sequence *first = at;
    while (first > cells->begin && rt_same_unit(first - 1, at))
        first--;
    double sum = 0;
    int count = 0, class = class_of(cells->facet, at);
    for (; first < cells->end && rt_same_unit(first, at); first++)
        if (class_of(cells->facet, first) == class)
            sum += fabs(first->advantage), count++;
    return count > 0 ? sum / count : 0;
}

/* ---- opening ---------------------------------------------------------------------------------- */

static rt_account_span span_of(const rt_learner *learner, bool block_alone)
{
    const rt_weights *weights = learner->master;
    size_t count = learner->adapters ? rt_adapters_stride(learner->adapters) : weights->count;
    rt_account_span span = {.count = count, .more = learner->lookups, .more_at = learner->lookups_at,
                            .more_count = learner->lookups_count};
    char layer[32];
    snprintf(layer, sizeof layer, "layers.%d.", weights->arch.layers - 1);
    size_t from = count, to = 0;
    for (int i = 0; i < weights->tensors_count; i++) {
        const rt_tensor *t = &weights->tensors[i];
        if (t->offset + t->count > count || !strstr(t->name, layer))
            continue;
        from = RT_MIN(from, t->offset);
        to = RT_MAX(to, t->offset + t->count);
    }
    if (block_alone && to > from) {
        span.at = from, span.count = to - from;
    } else if (to > from) {
        span.block = from, span.block_count = to - from;
    }
    return span;
}

static int open_accounts(rt_learner *learner, rt_error *err)
{
    const rt_config *config = learner->config;
    struct rt_gradients *g = learner->gradients = rt_alloc(sizeof *g);
    g->corrects = strcmp(config->gradients.correction, "none") != 0;
    bool full = g->corrects || strcmp(config->gradients.account, "full") == 0;
    rt_account_span span = span_of(learner, !full);
    g->tasks = rt_accounts_new(learner->ops, &span, config->gradients.halves);
    for (g->facet = 4; g->facet > 0 && strcmp(facet_names[g->facet], config->gradients.by) != 0;)
        g->facet--;
    if (g->facet == 0)
        return RT_OK;
    if (config->algorithm.objective.loss != RT_LOSS_POLICY)
        return rt_fail(err, RT_ERR_USAGE, "gradients.by takes the gradients of single texts apart, which "
                       "losses of pairs and of whole batches (dpo, kto) don't have; set it to none");
    g->shadow = learner->ops->alloc(learner->ops, learner->master->count * sizeof(float));
    if (learner->lookups) {
        g->shadow_lookups = learner->ops->alloc(learner->ops, learner->lookups_count * sizeof(float));
        span.more = g->shadow_lookups;
    }
    g->others = rt_accounts_new(learner->ops, &span, config->gradients.halves);
    return RT_OK;
}

int rt_gradients_open(rt_learner *learner, rt_error *err)
{
    const rt_weights *weights = learner->master;
    if (!learner->adapters && weights->arch.tied) {
        const rt_tensor *embedding = rt_weights_find(weights, "model.embed_tokens.weight");
        RT_ASSERT(embedding != NULL);
        learner->lookups_at = embedding->offset;
        learner->lookups_count = embedding->count;
        learner->lookups = learner->ops->alloc(learner->ops, embedding->count * sizeof(float));
    }
    bool on = strcmp(learner->config->gradients.account, "off") != 0 ||
              strcmp(learner->config->gradients.correction, "none") != 0;
    return on ? open_accounts(learner, err) : RT_OK;
}

static void drop_metrics(struct rt_gradients *g)
{
    for (int i = 0; i < g->metrics_count; i++)
        rt_free(g->metrics[i].name);
    g->metrics_count = 0;
}

void rt_gradients_close(rt_learner *learner)
{
    struct rt_gradients *g = learner->gradients;
    rt_ops *ops = learner->ops;
    if (learner->lookups)
        ops->free(ops, learner->lookups);
    if (!g)
        return;
    rt_accounts_free(&g->tasks);
    rt_accounts_free(&g->others);
    if (g->shadow)
        ops->free(ops, g->shadow);
    if (g->shadow_lookups)
        ops->free(ops, g->shadow_lookups);
    drop_metrics(g);
    rt_free(g);
    learner->gradients = NULL;
}

/* ---- an update -------------------------------------------------------------------------------- */

static void zero(const rt_learner *learner, float *floats, size_t count)
{
    learner->ops->zero(learner->ops, floats, count * sizeof(float));
}

void rt_gradients_step(rt_learner *learner)
{
    struct rt_gradients *g = learner->gradients;
    if (!g)
        return;
    g->due = learner->version % learner->config->gradients.every == 0;
    rt_accounts_clear(g->tasks);
    if (g->others)
        rt_accounts_clear(g->others);
    drop_metrics(g);
}

static size_t skipped(const rt_learner *learner)
{
    return learner->adapters ? rt_adapters_stride(learner->adapters) * (size_t)learner->adapter : 0;
}

const rt_cells *rt_gradients_begin(rt_learner *learner, rt_cells *cells, const rt_sequence *begin,
                                   const rt_sequence *end)
{
    struct rt_gradients *g = learner->gradients;
    rt_trainer_set_lookups(learner->trainer, learner->lookups);
    if (!g || !(g->due || g->corrects))
        return NULL;
    *cells = (rt_cells){g->tasks, FACET_TASK, begin, end};
    rt_accounts_begin(g->tasks, skipped(learner));
    return cells;
}

void rt_gradients_look(const rt_learner *learner, const rt_cells *cells, const rt_sequence *last,
                       const rt_sequence *next)
{
    if (next && rt_same_unit(last, next) && rt_same_cell(cells, last, next))
        return; /* the rest of a large prompt follows */
    rt_accounts_look(cells->accounts, class_of(cells->facet, last), half_of(last),
                     mean_advantage(cells, last), learner->grad);
}

/* Prompts, or their parts of one class, that have no gradient at all. Returns the number of prompts. */
static int note_flat(const rt_learner *learner, const rt_cells *cells)
{
    int units = 0;
    for (const rt_sequence *first = cells->begin, *next; first < cells->end; first = next, units++) {
        bool there[RT_CLASSES_MAX] = {false}, live[RT_CLASSES_MAX] = {false};
        const rt_sequence *of[RT_CLASSES_MAX] = {NULL};
        for (next = first; next < cells->end && rt_same_unit(first, next); next++) {
            int class = class_of(cells->facet, next);
            there[class] = true;
            of[class] = next;
            live[class] = live[class] || rt_has_gradient(learner, next);
        }
        for (int k = 0; k < RT_CLASSES_MAX; k++)
            if (there[k] && !live[k])
                rt_accounts_flat(cells->accounts, k, half_of(first), mean_advantage(cells, of[k]));
    }
    return units;
}

/* Sequences with a gradient, those of one class of a prompt side by side. */
static int list_by_class(const rt_learner *learner, const rt_cells *cells, const rt_sequence **list)
{
    int listed = 0;
    for (const rt_sequence *first = cells->begin, *next; first < cells->end; first = next) {
        for (next = first; next < cells->end && rt_same_unit(first, next);)
            next++;
        for (int k = 0; k < RT_CLASSES_MAX; k++)
            for (const rt_sequence *q = first; q < next; q++)
                if (class_of(cells->facet, q) == k && rt_has_gradient(learner, q))
                    list[listed++] = q;
    }
    return listed;
}

/* The same gradient once more, apart from the one that trains. */
static int second_pass(rt_learner *learner, const rt_pass *pass, const rt_sequence *begin,
                       const rt_sequence *end, const rt_sequence **list, rt_error *err)
{
    struct rt_gradients *g = learner->gradients;
    const rt_cells cells = {g->others, g->facet, begin, end};
    float *grad = learner->grad;
    zero(learner, g->shadow, learner->master->count);
    if (g->shadow_lookups)
        zero(learner, g->shadow_lookups, learner->lookups_count);
    learner->grad = g->shadow;
    rt_trainer_set_lookups(learner->trainer, g->shadow_lookups);
    rt_accounts_begin(g->others, skipped(learner));
    rt_pass again = {.train = true, .batch_sequences = pass->batch_sequences,
                     .batch_tokens = pass->batch_tokens, .cells = &cells};
    rt_update_stats unused = {0};
    rt_term_stats none = {0};
    int listed = list_by_class(learner, &cells, list);
    int rc = rt_pass_run(learner, &again, list, listed, &unused, &none, err);
    if (rc == 0) {
        double gram[RT_CLASSES_MAX * RT_CLASSES_MAX];
        rt_accounts_end(g->others, note_flat(learner, &cells), gram);
    }
    learner->grad = grad;
    return rc;
}

static void bring_lookups(rt_learner *learner)
{
    rt_trainer_set_lookups(learner->trainer, NULL);
    if (!learner->lookups)
        return;
    learner->ops->add(learner->ops, learner->grad + learner->lookups_at, learner->lookups,
                      learner->lookups_count);
    zero(learner, learner->lookups, learner->lookups_count);
}

void rt_gradients_drop(rt_learner *learner)
{
    rt_trainer_set_lookups(learner->trainer, NULL);
    zero(learner, learner->grad, learner->optimizer.count);
    if (learner->lookups)
        zero(learner, learner->lookups, learner->lookups_count);
}

/* The tasks' parts put together anew in place of their sum. */
static int correct(rt_learner *learner, rt_error *err)
{
    const rt_config *config = learner->config;
    struct rt_gradients *g = learner->gradients;
    int tasks = config->tasks_count;
    double gram[RT_TASKS_MAX * RT_TASKS_MAX], norms[RT_TASKS_MAX], weight[RT_CLASSES_MAX] = {0};
    for (int i = 0; i < tasks; i++) {
        for (int j = 0; j < tasks; j++)
            gram[i * tasks + j] = g->gram[i * RT_CLASSES_MAX + j];
        norms[i] = rt_correction_note(&g->running[i], config->gradients.decay,
                                      sqrt(gram[i * tasks + i]));
    }
    uint32_t key[4];
    rt_philox((uint64_t)config->run.seed, UINT64_C(3) << 62 | (uint64_t)learner->adapter,
              (uint64_t)learner->optimizer.updates, key);
    int rc = rt_correction_weights(config, gram, norms, tasks, (uint64_t)key[0] << 32 | key[1], weight,
                                   err);
    if (rc != 0)
        return rc;
    zero(learner, learner->grad, learner->master->count);
    if (learner->lookups) /* the tasks' parts have them */
        zero(learner, learner->lookups, learner->lookups_count);
    rt_accounts_combine(g->tasks, weight, learner->grad + skipped(learner));
    return RT_OK;
}

int rt_gradients_end(rt_learner *learner, const rt_pass *pass, const rt_sequence *begin,
                     const rt_sequence *end, const rt_sequence **list, rt_error *err)
{
    struct rt_gradients *g = learner->gradients;
    int rc = 0;
    if (pass->cells)
        rt_accounts_end(g->tasks, note_flat(learner, pass->cells), g->gram);
    if (pass->cells && g->others && g->due)
        rc = second_pass(learner, pass, begin, end, list, err);
    if (pass->cells && g->corrects && rc == 0)
        rc = correct(learner, err);
    bring_lookups(learner);
    return rc;
}

/* ---- what was found --------------------------------------------------------------------------- */

static void put(struct rt_gradients *g, const char *class, const char *what, double value)
{
    if (!isfinite(value) || g->metrics_count == METRICS_MAX)
        return;
    g->metrics[g->metrics_count++] = (rt_metric){rt_format("grad/%s%s%s", class, *class ? "/" : "", what),
                                                 value};
}

static void put_class(const rt_learner *learner, const rt_accounts *accounts, int facet, int class)
{
    struct rt_gradients *g = learner->gradients;
    rt_class_account of;
    char name[160], other[160];
    if (!rt_accounts_class(accounts, class, &of))
        return;
    class_name(learner, facet, class, name, sizeof name);
    const struct { const char *name; double value; } all[] = {
        {"prompts", (double)of.prompts}, {"live", (double)of.live}, {"norm2", of.norm2},
        {"norm2_live", of.norm2_live}, {"naive", of.naive}, {"halves", of.halves},
        {"norm2_block", of.norm2_block}, {"share", of.share}, {"cosine", of.cosine},
        {"advantage", of.advantage}, {"correlation", of.correlation},
    };
    for (size_t i = 0; i < RT_COUNT(all); i++)
        put(g, name, all[i].name, all[i].value);
    for (int j = 0; j < RT_CLASSES_MAX; j++) {
        rt_class_account unused;
        if (j == class || !rt_accounts_class(accounts, j, &unused))
            continue;
        class_name(learner, facet, j, other, sizeof other);
        char *what = rt_format("cosine/%s", facet == FACET_TASK ? other : other + 3);
        put(g, name, what, of.cosines[j]);
        rt_free(what);
    }
}

void rt_gradients_report(rt_learner *learner, rt_update_stats *stats)
{
    struct rt_gradients *g = learner->gradients;
    if (!g || !g->due)
        return;
    for (int k = 0; k < RT_CLASSES_MAX; k++)
        put_class(learner, g->tasks, FACET_TASK, k);
    for (int k = 0; g->others && k < RT_CLASSES_MAX; k++)
        put_class(learner, g->others, g->facet, k);
    put(g, "", "clip_factor", stats->clip_factor);
    put(g, "", "correlation", rt_accounts_correlation(g->tasks));
    put(g, "", "block_correlation", rt_accounts_block_correlation(g->tasks));
    stats->metrics = g->metrics;
    stats->metrics_count = g->metrics_count;
}

const rt_metric *rt_learner_metrics(const rt_learner *learner, int *count)
{
    *count = learner->gradients ? learner->gradients->metrics_count : 0;
    return learner->gradients ? learner->gradients->metrics : NULL;
}

void rt_gradients_write(const rt_learner *learner, rt_buf *out)
{
    const struct rt_gradients *g = learner->gradients;
    for (int i = 0; g && i < g->metrics_count; i++)
        rt_buf_addf(out, "%.17g %s\n", g->metrics[i].value, g->metrics[i].name);
    for (int i = 0; g && g->corrects && i < learner->config->tasks_count; i++)
        rt_buf_addf(out, "%.17g running %d %.17g\n", g->running[i].sum, i, g->running[i].weight);
}

/* A line that is none is left out: it would only be missing from the account of one step. */
void rt_gradients_read(rt_learner *learner, const char *text)
{
    struct rt_gradients *g = learner->gradients;
    while (g && *text && g->metrics_count < METRICS_MAX) {
        char *end;
        double value = strtod(text, &end);
        size_t bytes = strcspn(end, "\n");
        int task;
        double weight;
        if (end > text && sscanf(end, " running %d %lf", &task, &weight) == 2) {
            if (task >= 0 && task < RT_TASKS_MAX)
                g->running[task] = (rt_running_norm){value, weight};
        } else if (end > text && bytes > 1 && *end == ' ') {
            g->metrics[g->metrics_count++] = (rt_metric){rt_strndup(end + 1, bytes - 1), value};
        }
        text = end + bytes + (end[bytes] != 0);
    }
}
