/*
 * One batch: optimizer steps, micro-batches by token budget, the check that every behaviour
 * log-prob is ours bit for bit. Groups of equal prompts stay together, so that a shared prompt is
 * computed once; denominators are those of the whole optimizer batch, so the cut changes no loss.
 */
#include <math.h>
#include <string.h>

#include "learner/internal.h"

static int sequence_tokens(const rt_sequence *sequence)
{
    return sequence->prompt_tokens + sequence->response_tokens;
}

static bool same_prompt(const rt_sequence *a, const rt_sequence *b)
{
    return a->prompt_tokens == b->prompt_tokens &&
           memcmp(a->ids, b->ids, (size_t)a->prompt_tokens * sizeof(int32_t)) == 0;
}

/* Upper bound of distinct rows that `next` adds behind `previous` (NULL: nothing before). */
static int rows_added(const rt_sequence *previous, const rt_sequence *next)
{
    if (previous && same_prompt(previous, next))
        return next->response_tokens;
    return sequence_tokens(next);
}

static void reserve(struct scratch *s, int sequences, int entries, int tokens)
{
    if (tokens > s->tokens_max) {
        rt_free(s->rows);
        s->rows = rt_alloc((size_t)tokens * 2 * sizeof *s->rows);
        s->tokens_max = tokens * 2;
    }
    if (sequences > s->sequences_max) {
        int n = sequences * 2;
        rt_free(s->ids), rt_free(s->lengths), rt_free(s->first), rt_free(s->advantage);
        rt_free(s->row_of), rt_free(s->adapter), rt_free(s->trees);
        s->trees = rt_alloc((size_t)n * sizeof *s->trees);
        s->adapter = rt_alloc((size_t)n * sizeof *s->adapter);
        s->row_of = rt_alloc((size_t)n * sizeof *s->row_of);
        s->ids = rt_alloc((size_t)n * sizeof *s->ids);
        s->lengths = rt_alloc((size_t)n * sizeof *s->lengths);
        s->first = rt_alloc((size_t)(n + 1) * sizeof *s->first);
        s->advantage = rt_alloc((size_t)n * sizeof *s->advantage);
        s->sequences_max = n;
    }
    if (entries > s->entries_max) {
        int n = entries * 2;
        rt_free(s->entries), rt_free(s->logp), rt_free(s->old_logp), rt_free(s->ref_logp);
        rt_free(s->g);
        s->ref_logp = rt_alloc((size_t)n * sizeof *s->ref_logp);
        s->entries = rt_alloc((size_t)n * sizeof *s->entries);
        s->logp = rt_alloc((size_t)n * sizeof *s->logp);
        s->old_logp = rt_alloc((size_t)n * sizeof *s->old_logp);
        s->g = rt_alloc((size_t)n * sizeof *s->g);
        s->entries_max = n;
    }
}

/* Plans the rows of a micro-batch and lists its entries, the tokens that are trained: what comes
 * before a reset is context, its log-probs are not even computed. Returns the number of entries. */
static int gather(rt_learner *learner, const rt_sequence *const *sequences, int count, int *rows,
                  rt_error *err)
{
    struct scratch *s = &learner->scratch;
    int entries = 0, tokens = 0;
    for (int i = 0; i < count; i++) {
        entries += sequences[i]->response_tokens - sequences[i]->suffix_start;
        tokens += sequence_tokens(sequences[i]);
    }
    reserve(s, count, entries, tokens);
    int32_t *next = s->rows;
    for (int i = 0; i < count; i++) {
        s->ids[i] = sequences[i]->ids;
        s->lengths[i] = sequence_tokens(sequences[i]);
        s->adapter[i] = sequences[i]->adapter - 1;
        s->trees[i] = i == 0 ? 0 : s->trees[i - 1] + !rt_same_unit(sequences[i - 1], sequences[i]);
        s->row_of[i] = next;
        next += s->lengths[i];
    }
    int planned = rt_trainer_plan(learner->trainer, s->ids, s->lengths, s->adapter, s->trees, count,
                                  s->row_of, err);
    if (planned < 0)
        return planned;
    *rows = planned;
    int e = 0;
    for (int i = 0; i < count; i++) {
        const rt_sequence *q = sequences[i];
        s->first[i] = e;
        s->advantage[i] = q->advantage;
        for (int t = q->suffix_start; t < q->response_tokens; t++, e++) {
            int at = q->prompt_tokens + t;
            s->entries[e] = (rt_entry){s->row_of[i][at - 1], q->ids[at]};
            s->old_logp[e] = q->old_logp ? q->old_logp[t] : 0;
        }
    }
    s->first[count] = e;
    return e;
}

/* Only what was sampled with the very weights held here must have the same log-probs. */
static void compare(const struct scratch *s, const rt_sequence *const *sequences, int count,
                    rt_update_stats *stats)
{
    for (int i = 0; i < count; i++) {
        for (int e = s->first[i]; e < s->first[i + 1] && !sequences[i]->stale; e++) {
            stats->compared++;
            stats->mismatched += memcmp(&s->logp[e], &s->old_logp[e], sizeof(float)) != 0;
        }
    }
}

void rt_learner_observe(rt_learner *learner, const rt_observer *observer)
{
    learner->observer = observer;
}

static void observe(const rt_learner *learner, const rt_pass *p, const rt_sequence *const *sequences,
                    int count)
{
    const struct scratch *s = &learner->scratch;
    if (learner->observer && p->observe)
        learner->observer->micro_batch(learner->observer->context, p->update, sequences, count,
                                       s->first, s->logp, p->train ? s->g : NULL);
}

/* The same rows under the frozen weights, adapters off: equal sequences make an equal plan. */
static int reference_logp(rt_learner *learner, int count, int entries, float temperature,
                          rt_error *err)
{
    struct scratch *s = &learner->scratch;
    if (!learner->reference)
        return 0;
    int rows = rt_trainer_plan(learner->reference, s->ids, s->lengths, NULL, s->trees, count,
                               s->row_of, err);
    if (rows < 0)
        return rows;
    return rt_trainer_forward(learner->reference, s->entries, entries, temperature, false, s->ref_logp,
                              err);
}

/* R of each sequence, in the order of its tokens. */
static int add_up(rt_learner *learner, int count, int entries, float temperature, double *ratio,
                  rt_error *err)
{
    const struct scratch *s = &learner->scratch;
    int rc = reference_logp(learner, count, entries, temperature, err);
    for (int i = 0; rc == 0 && i < count; i++)
        for (int e = s->first[i]; e < s->first[i + 1]; e++)
            ratio[i] += (double)s->logp[e] - (double)s->ref_logp[e];
    return rc;
}

/* What was not sampled has drifted from nothing: it adds nothing to the difference of old and new. */
static void no_drift(struct scratch *s, const rt_sequence *const *sequences, int count)
{
    for (int i = 0; i < count; i++)
        for (int e = s->first[i]; e < s->first[i + 1] && !sequences[i]->old_logp; e++)
            s->old_logp[e] = s->logp[e];
}

/* d loss / d logp of a whole-sequence loss: the same for all tokens of a sequence. */
static void spread(const struct scratch *s, int count, const double *coefficient,
                   rt_term_stats *stats)
{
    for (int i = 0; i < count; i++) {
        for (int e = s->first[i]; e < s->first[i + 1]; e++) {
            s->g[e] = (float)coefficient[i];
            stats->logp_sum += (double)s->logp[e];
            stats->kl += (double)s->old_logp[e] - (double)s->logp[e];
            stats->live++;
        }
    }
}

static int token_terms(rt_learner *learner, const rt_pass *p, const rt_sequence *const *sequences,
                       int count, int entries, float temperature, rt_term_stats *stats, rt_error *err)
{
    struct scratch *s = &learner->scratch;
    int rc = reference_logp(learner, count, entries, temperature, err);
    if (rc != 0)
        return rc;
    rt_terms terms = {count, s->first, s->logp, s->old_logp, learner->reference ? s->ref_logp : NULL,
                      NULL, s->advantage, p->batch_sequences, p->batch_tokens};
    double loss_before = stats->loss;
    rt_objective_terms(&learner->config->algorithm.objective, &terms, s->g, stats);
    if (!isfinite(stats->loss - loss_before))
        return rt_fail(err, RT_ERR_MATH,
                       "the loss of update %lld is not a number (trajectory %llu to %llu); nothing was "
                       "applied, the last checkpoint is untouched",
                       (long long)learner->optimizer.updates + 1,
                       (unsigned long long)sequences[0]->trajectory,
                       (unsigned long long)sequences[count - 1]->trajectory);
    return 0;
}

/* at: place of the micro-batch in the list of the pass. */
static int micro_batch(rt_learner *learner, const rt_pass *p, const rt_sequence *const *sequences,
                       int count, int at, rt_update_stats *stats, rt_term_stats *terms, rt_error *err)
{
    struct scratch *s = &learner->scratch;
    int rows = 0;
    int entries = gather(learner, sequences, count, &rows, err);
    if (entries <= 0) /* continuations that ended at once have nothing to learn from */
        return entries;
    float temperature = rt_learner_temperature(learner, sequences[0]); /* rt_pass_run: of all */
    int rc = rt_trainer_forward(learner->trainer, s->entries, entries, temperature,
                                p->train && !rt_learner_drops(learner), s->logp, err);
    if (rc != 0)
        return rc;
    atomic_fetch_add_explicit(&learner->tokens, (uint64_t)rows, memory_order_relaxed);
    stats->rows += rows;
    if (p->compare)
        compare(s, sequences, count, stats);
    if (p->ratio)
        return add_up(learner, count, entries, temperature, p->ratio + at, err);
    if (!p->train) {
        observe(learner, p, sequences, count);
        return 0;
    }
    no_drift(s, sequences, count);
    if (p->coefficient)
        spread(s, count, p->coefficient + at, terms);
    else
        rc = token_terms(learner, p, sequences, count, entries, temperature, terms, err);
    if (rc != 0)
        return rc;
    observe(learner, p, sequences, count);
    return rt_learner_backward(learner, entries, temperature, err);
}

static bool same_temperature(const rt_learner *learner, const rt_sequence *a, const rt_sequence *b)
{
    return rt_learner_temperature(learner, a) == rt_learner_temperature(learner, b);
}

/* End of the problem (with cells: of the part of it) that list[begin] is of; *rows: at most so many. */
static int unit_end(const rt_pass *p, const rt_sequence *const *list, int count, int begin, int *rows)
{
    int end = begin + 1;
    *rows = sequence_tokens(list[begin]);
    for (; end < count && rt_same_unit(list[begin], list[end]); end++) {
        if (p->cells && !rt_same_cell(p->cells, list[begin], list[end]))
            break;
        *rows += rows_added(list[end - 1], list[end]);
    }
    return end;
}

/* A problem that is larger than a micro-batch begins one and is cut where that is full. */
static int cut_unit(const rt_sequence *const *list, int begin, int unit, int wanted)
{
    int tokens = sequence_tokens(list[begin]), end = begin + 1;
    while (end < unit && tokens + rows_added(list[end - 1], list[end]) <= wanted) {
        tokens += rows_added(list[end - 1], list[end]);
        end++;
    }
    return end;
}

static int micro_end(const rt_learner *learner, const rt_pass *p, const rt_sequence *const *list,
                     int count, int begin, int wanted)
{
    int rows, tokens = 0, end = begin;
    do {
        int unit = unit_end(p, list, count, end, &rows);
        if (end == begin && rows > wanted)
            return cut_unit(list, begin, unit, wanted);
        if (tokens + rows > wanted)
            break;
        tokens += rows;
        end = unit;
    } while (end < count && !p->cells && same_temperature(learner, list[begin], list[end]));
    return end;
}

int rt_pass_run(rt_learner *learner, const rt_pass *p, const rt_sequence *const *list, int count,
                rt_update_stats *stats, rt_term_stats *terms, rt_error *err)
{
    int budget = learner->trainer_tokens, rc = 0;
    int wanted = (int)RT_MIN(learner->config->learner.micro_tokens, budget);
    for (int begin = 0; begin < count && rc == 0;) {
        if (p->stop && atomic_load(p->stop))
            return rt_fail(err, RT_ERR_STOPPED, "stopped between micro-batches");
        int tokens = sequence_tokens(list[begin]);
        if (tokens > budget)
            return rt_fail(err, RT_ERR_LIMIT,
                           "trajectory %llu has %d tokens, more than the %d a micro-batch can hold; raise "
                           "learner.micro_tokens or lower sampling.max_tokens",
                           (unsigned long long)list[begin]->trajectory, tokens, budget);
        int end = micro_end(learner, p, list, count, begin, wanted);
        rc = micro_batch(learner, p, list + begin, end - begin, begin, stats, terms, err);
        if (rc == 0 && p->cells)
            rt_gradients_look(learner, p->cells, list[end - 1], end < count ? list[end] : NULL);
        begin = end;
    }
    return rc;
}

/* First sequence of optimizer step u of `updates`: whole groups of equal prompts, as even as can be. */
static int cut_at(const rt_sequence *sequences, int count, int u, int updates)
{
    int groups = 0;
    for (int i = 0; i < count; i++)
        groups += i == 0 || !same_prompt(&sequences[i - 1], &sequences[i]);
    int wanted = (int)((int64_t)groups * u / updates), group = -1;
    for (int i = 0; i < count; i++) {
        group += i == 0 || !same_prompt(&sequences[i - 1], &sequences[i]);
        if (group == wanted)
            return i;
    }
    return count;
}

/* Forward only, before any weight has moved, over every sequence that training will not compare. */
static int check_rest(rt_learner *learner, const rt_sequence *sequences, int count, int first_cut,
                      const rt_sequence **list, const atomic_bool *stop, rt_update_stats *stats,
                      rt_error *err)
{
    int listed = 0;
    for (int i = 0; i < count; i++)
        if (i >= first_cut || !rt_has_gradient(learner, &sequences[i]))
            list[listed++] = &sequences[i];
    rt_pass p = {.train = false, .compare = true, .stop = stop};
    rt_term_stats none = {0};
    return rt_pass_run(learner, &p, list, listed, stats, &none, err);
}

/* What adds no gradient is not even computed, unless somebody looks on. */
static int observe_flat(rt_learner *learner, const rt_sequence *sequences, int count, int update,
                        const rt_sequence **list, rt_error *err)
{
    int listed = 0;
    for (int i = 0; learner->observer && i < count; i++)
        if (!rt_has_gradient(learner, &sequences[i]))
            list[listed++] = &sequences[i];
    rt_pass p = {.observe = true, .update = update};
    rt_update_stats unused = {0};
    rt_term_stats none = {0};
    return rt_pass_run(learner, &p, list, listed, &unused, &none, err);
}

/* One batch at work. */
typedef struct step {
    rt_learner *learner;
    const rt_sequence *sequences;
    int count, updates;
    const rt_sequence **list; /* (count) scratch */
    double *coefficient;      /* (count) scratch */
    rt_term_stats terms;
    rt_preference_stats preference;
} step;

/* Optimizer step u of `updates`: [*begin, *end) of the sequences. */
static void cut(const step *s, int u, int *begin, int *end)
{
    *begin = cut_at(s->sequences, s->count, u, s->updates);
    *end = u + 1 == s->updates ? s->count : cut_at(s->sequences, s->count, u + 1, s->updates);
}

static int gradient(step *s, int begin, int end, rt_pass *p, rt_update_stats *stats, rt_error *err)
{
    rt_learner *learner = s->learner;
    int listed = 0, rc = 0;
    for (int i = begin; i < end; i++) {
        p->batch_tokens += s->sequences[i].response_tokens - s->sequences[i].suffix_start;
        if (rt_has_gradient(learner, &s->sequences[i]))
            s->list[listed++] = &s->sequences[i];
    }
    stats->trained += p->batch_tokens;
    if (learner->config->algorithm.objective.loss != RT_LOSS_POLICY) {
        double loss_before = s->preference.loss;
        rc = rt_preference_phase(learner, s->sequences, begin, end, p->stop, s->coefficient, stats,
                                 &s->preference, err);
        s->terms.loss += s->preference.loss - loss_before;
        p->coefficient = s->coefficient;
    }
    return rc != 0 ? rc : rt_pass_run(learner, p, s->list, listed, stats, &s->terms, err);
}

static int one_update(step *s, int begin, int end, int update, bool compare_now,
                      const atomic_bool *stop, rt_update_stats *stats, rt_error *err)
{
    rt_learner *learner = s->learner;
    int rc = observe_flat(learner, s->sequences + begin, end - begin, update, s->list, err);
    if (rc != 0)
        return rc;
    rt_pass p = {.train = true, .compare = compare_now, .observe = true, .update = update,
                 .batch_sequences = end - begin, .stop = stop};
    rt_cells cells;
    p.cells = rt_gradients_begin(learner, &cells, s->sequences + begin, s->sequences + end);
    double loss_before = s->terms.loss;
    rc = gradient(s, begin, end, &p, stats, err);
    if (rc == 0)
        rc = rt_gradients_end(learner, &p, s->sequences + begin, s->sequences + end, s->list, err);
    if (rc != 0) {
        rt_gradients_drop(learner);
        return rc;
    }
    if (learner->observer)
        learner->observer->gradient(learner->observer->context, update, learner->grad,
                                    learner->optimizer.count, s->terms.loss - loss_before);
    double norm = 0;
    stats->learning_rate = rt_learning_rate(learner->config, learner->optimizer.updates,
                                            learner->updates_total);
    rc = rt_learner_apply(learner, stats->learning_rate, &norm, err);
    stats->grad_norm += norm;
    stats->clip_factor += rt_clip_factor(learner->config, norm);
    return rc;
}

/* Weights that overflow are found here, before a checkpoint of them takes the place of a good one. */
static int check_finite(rt_learner *learner, const rt_sequence *sequence, rt_error *err)
{
    rt_pass p = {.train = false};
    rt_update_stats unused = {0};
    rt_term_stats none = {0};
    int rc = rt_pass_run(learner, &p, &sequence, 1, &unused, &none, err);
    for (int e = 0; rc == 0 && e < learner->scratch.first[1]; e++)
        if (!isfinite(learner->scratch.logp[e]))
            rc = rt_fail(err, RT_ERR_MATH,
                         "update %lld made weights whose log-probs are not finite; they are not saved, the "
                         "last checkpoint is untouched; lower learner.lr",
                         (long long)learner->optimizer.updates);
    return rc;
}

/* All that can be wrong with a batch is found before any weight moves. */
static int check_batch(const step *s, rt_error *err)
{
    int rc = 0;
    for (int u = 0, begin, end; u < s->updates && rc == 0; u++) {
        cut(s, u, &begin, &end);
        rc = rt_preference_check(&s->learner->config->algorithm.objective, s->sequences, s->count,
                                 begin, end, err);
    }
    return rc;
}

static int all_updates(step *s, const atomic_bool *stop, int *updates_done, rt_update_stats *stats,
                       rt_error *err)
{
    const rt_config *config = s->learner->config;
    const char *check = config->learner.check_logprobs;
    int rc = 0, all = s->updates * (int)config->algorithm.epochs;
    if (strcmp(check, "all") == 0)
        rc = check_rest(s->learner, s->sequences, s->count,
                        cut_at(s->sequences, s->count, 1, s->updates), s->list, stop, stats, err);
    for (int u = 0, begin, end; u < all && rc == 0; u++) {
        cut(s, u % s->updates, &begin, &end);
        if (begin == end)
            continue;
        /* Once a weight has moved there is no way back: from then on the step is finished. */
        rc = one_update(s, begin, end, u, u == 0 && strcmp(check, "none") != 0,
                        *updates_done == 0 ? stop : NULL, stats, err);
        *updates_done += rc == 0;
    }
    return rc;
}

int rt_learner_step_one(rt_learner *learner, const rt_sequence *sequences, int count, int updates,
                        const atomic_bool *stop, int *updates_done, rt_update_stats *stats,
                        rt_error *err)
{
    int64_t started = rt_now_ns();
    *stats = (rt_update_stats){0};
    *updates_done = 0;
    if (count == 0)
        return 0;
    step s = {.learner = learner, .sequences = sequences, .count = count, .updates = updates,
              .list = rt_alloc((size_t)count * sizeof *s.list),
              .coefficient = rt_alloc((size_t)count * sizeof *s.coefficient)};
    int rc = check_batch(&s, err);
    if (rc == 0)
        rc = all_updates(&s, stop, updates_done, stats, err);
    if (rc == 0)
        rc = check_finite(learner, &sequences[0], err);
    rt_free(s.list), rt_free(s.coefficient);
    int done = RT_MAX(*updates_done, 1);
    const rt_term_stats *terms = &s.terms;
    stats->loss = terms->loss / done;
    stats->grad_norm /= done;
    stats->clip_factor /= done;
    stats->clipped = terms->live ? terms->clipped / (double)terms->live : 0;
    stats->kl = terms->live ? terms->kl / (double)terms->live : 0;
    stats->entropy = terms->live ? -terms->logp_sum / (double)terms->live : 0;
    rt_preference_finish(&s.preference, learner->config->algorithm.objective.beta, stats);
    stats->seconds = (double)(rt_now_ns() - started) * 1e-9;
    return rc;
}

/* ---- supervised ------------------------------------------------------------------------------- */

static double weight_at(const rt_sequence *sequence, int t)
{
    return sequence->weight ? (double)sequence->weight[t] : 1.0;
}

static int sft_micro(rt_learner *learner, const rt_sequence *const *list, int count, double total,
                     rt_update_stats *stats, rt_error *err)
{
    struct scratch *s = &learner->scratch;
    int rows = 0;
    int entries = gather(learner, list, count, &rows, err);
    if (entries < 0)
        return entries;
    int rc = rt_trainer_forward(learner->trainer, s->entries, entries, 1.0f,
                                !rt_learner_drops(learner), s->logp, err);
    if (rc != 0)
        return rc;
    for (int i = 0, e = 0; i < count; i++)
        for (int t = 0; t < list[i]->response_tokens; t++, e++) {
            double weight = weight_at(list[i], t) / total;
            s->g[e] = (float)-weight;
            stats->loss -= weight * (double)s->logp[e];
        }
    stats->rows += rows;
    stats->trained += entries;
    atomic_fetch_add_explicit(&learner->tokens, (uint64_t)rows, memory_order_relaxed);
    return rt_learner_backward(learner, entries, 1.0f, err);
}

int rt_learner_sft(rt_learner *learner, const rt_sequence *sequences, int count,
                   rt_update_stats *stats, rt_error *err)
{
    int64_t started = rt_now_ns();
    double lr = stats->learning_rate, total = 0;
    *stats = (rt_update_stats){.learning_rate = lr};
    for (int i = 0; i < count; i++)
        for (int t = 0; t < sequences[i].response_tokens; t++)
            total += weight_at(&sequences[i], t);
    const rt_sequence **list = rt_alloc((size_t)RT_MAX(count, 1) * sizeof *list);
    for (int i = 0; i < count; i++)
        list[i] = &sequences[i];
    if (learner->adapters)
        rt_learner_choose(learner, 0);
    int rc = 0, budget = (int)RT_MIN(learner->config->learner.micro_tokens, learner->trainer_tokens);
    for (int begin = 0; begin < count && rc == 0;) {
        int tokens = sequence_tokens(list[begin]), end = begin + 1;
        while (end < count && tokens + sequence_tokens(list[end]) <= budget)
            tokens += sequence_tokens(list[end++]);
        rc = sft_micro(learner, list + begin, end - begin, RT_MAX(total, 1e-30), stats, err);
        begin = end;
    }
    rt_free(list);
    if (rc == 0 && !isfinite(stats->loss))
        rc = rt_fail(err, RT_ERR_MATH, "the loss is not a number; lower learner.lr");
    if (rc == 0)
        rc = rt_learner_apply(learner, lr, &stats->grad_norm, err);
    else
        rt_gradients_drop(learner);
    if (learner->adapters)
        learner->updates[0] = learner->optimizer.updates;
    stats->seconds = (double)(rt_now_ns() - started) * 1e-9;
    return rc;
}
