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
        rt_free(s->row_of);
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
        s->row_of[i] = next;
        next += s->lengths[i];
    }
    int planned = rt_trainer_plan(learner->trainer, s->ids, s->lengths, count, s->row_of, err);
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

/* What a run over micro-batches does with each of them. */
typedef struct pass {
    bool train;             /* forward and backward; else forward only, to compare */
    bool compare;
    bool observe;
    int update;
    int64_t batch_sequences, batch_tokens;
    const atomic_bool *stop;
} pass;

void rt_learner_observe(rt_learner *learner, const rt_observer *observer)
{
    learner->observer = observer;
}

static void observe(const rt_learner *learner, const pass *p, const rt_sequence *const *sequences,
                    int count)
{
    const struct scratch *s = &learner->scratch;
    if (learner->observer && p->observe)
        learner->observer->micro_batch(learner->observer->context, p->update, sequences, count,
                                       s->first, s->logp, p->train ? s->g : NULL);
}

/* The same rows under the frozen weights: equal sequences make an equal plan. */
static int reference_logp(rt_learner *learner, int count, int entries, float temperature,
                          rt_error *err)
{
    struct scratch *s = &learner->scratch;
    if (!learner->reference)
        return 0;
    int rows = rt_trainer_plan(learner->reference, s->ids, s->lengths, count, s->row_of, err);
    if (rows < 0)
        return rows;
    return rt_trainer_forward(learner->reference, s->entries, entries, temperature, false, s->ref_logp,
                              err);
}

static int micro_batch(rt_learner *learner, const pass *p, const rt_sequence *const *sequences,
                       int count, rt_update_stats *stats, rt_term_stats *terms_stats, rt_error *err)
{
    struct scratch *s = &learner->scratch;
    int rows = 0;
    int entries = gather(learner, sequences, count, &rows, err);
    if (entries <= 0) /* continuations that ended at once have nothing to learn from */
        return entries;
    float temperature = rt_learner_temperature(learner, sequences[0]); /* run_pass: of all */
    int rc = rt_trainer_forward(learner->trainer, s->entries, entries, temperature, p->train,
                                s->logp, err);
    if (rc != 0)
        return rc;
    atomic_fetch_add_explicit(&learner->tokens, (uint64_t)rows, memory_order_relaxed);
    stats->rows += rows;
    if (p->compare)
        compare(s, sequences, count, stats);
    if (!p->train) {
        observe(learner, p, sequences, count);
        return 0;
    }
    rc = reference_logp(learner, count, entries, temperature, err);
    if (rc != 0)
        return rc;
    rt_terms terms = {count, s->first, s->logp, s->old_logp, learner->reference ? s->ref_logp : NULL,
                      NULL, s->advantage, p->batch_sequences, p->batch_tokens};
    double loss_before = terms_stats->loss;
    rt_objective_terms(&learner->config->algorithm.objective, &terms, s->g, terms_stats);
    if (!isfinite(terms_stats->loss - loss_before))
        return rt_fail(err, RT_ERR_MATH,
                       "the loss of update %lld is not a number (trajectory %llu to %llu); nothing was "
                       "applied, the last checkpoint is untouched",
                       (long long)learner->optimizer.updates + 1,
                       (unsigned long long)sequences[0]->trajectory,
                       (unsigned long long)sequences[count - 1]->trajectory);
    observe(learner, p, sequences, count);
    return rt_trainer_backward(learner->trainer, s->entries, s->g, entries, temperature,
                               learner->grad, err);
}

static bool same_temperature(const rt_learner *learner, const rt_sequence *a, const rt_sequence *b)
{
    return rt_learner_temperature(learner, a) == rt_learner_temperature(learner, b);
}

/* Cuts the list by token budget, and where the temperature changes, and works through it in order. */
static int run_pass(rt_learner *learner, const pass *p, const rt_sequence *const *list, int count,
                    rt_update_stats *stats, rt_term_stats *terms, rt_error *err)
{
    int budget = learner->trainer_tokens, rc = 0;
    int wanted = (int)RT_MIN(learner->config->learner.micro_tokens, budget);
    for (int begin = 0; begin < count && rc == 0;) {
        if (p->stop && atomic_load(p->stop))
            return rt_fail(err, RT_ERR_STOPPED, "stopped between micro-batches");
        int tokens = sequence_tokens(list[begin]), end = begin + 1;
        if (tokens > budget)
            return rt_fail(err, RT_ERR_LIMIT,
                           "trajectory %llu has %d tokens, more than the %d a micro-batch can hold; raise "
                           "learner.micro_tokens or lower sampling.max_tokens",
                           (unsigned long long)list[begin]->trajectory, tokens, budget);
        while (end < count) {
            int more = rows_added(list[end - 1], list[end]);
            if (tokens + more > wanted || !same_temperature(learner, list[begin], list[end]))
                break;
            tokens += more;
            end++;
        }
        rc = micro_batch(learner, p, list + begin, end - begin, stats, terms, err);
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

/* With advantage 0 and no penalty a sequence has no gradient: it only counts in denominators. */
static bool has_gradient(const rt_learner *learner, const rt_sequence *sequence)
{
    return sequence->advantage != 0 || learner->config->algorithm.objective.kl != RT_KL_OFF;
}

/* Forward only, before any weight has moved, over every sequence that training will not compare. */
static int check_rest(rt_learner *learner, const rt_sequence *sequences, int count, int first_cut,
                      const rt_sequence **list, const atomic_bool *stop, rt_update_stats *stats,
                      rt_error *err)
{
    int listed = 0;
    for (int i = 0; i < count; i++)
        if (i >= first_cut || !has_gradient(learner, &sequences[i]))
            list[listed++] = &sequences[i];
    pass p = {.train = false, .compare = true, .stop = stop};
    rt_term_stats none = {0};
    return run_pass(learner, &p, list, listed, stats, &none, err);
}

/* What adds no gradient is not even computed, unless somebody looks on. */
static int observe_flat(rt_learner *learner, const rt_sequence *sequences, int count, int update,
                        const rt_sequence **list, rt_error *err)
{
    int listed = 0;
    for (int i = 0; learner->observer && i < count; i++)
        if (!has_gradient(learner, &sequences[i]))
            list[listed++] = &sequences[i];
    pass p = {.observe = true, .update = update};
    rt_update_stats unused = {0};
    rt_term_stats none = {0};
    return run_pass(learner, &p, list, listed, &unused, &none, err);
}

static int one_update(rt_learner *learner, const rt_sequence *sequences, int count, int update,
                      bool compare_now, const rt_sequence **list, const atomic_bool *stop,
                      rt_update_stats *stats, rt_term_stats *terms, rt_error *err)
{
    int rc = observe_flat(learner, sequences, count, update, list, err);
    if (rc != 0)
        return rc;
    pass p = {.train = true, .compare = compare_now, .observe = true, .update = update,
              .batch_sequences = count, .stop = stop};
    int listed = 0;
    double loss_before = terms->loss;
    for (int i = 0; i < count; i++) {
        p.batch_tokens += sequences[i].response_tokens - sequences[i].suffix_start;
        if (has_gradient(learner, &sequences[i]))
            list[listed++] = &sequences[i];
    }
    stats->trained += p.batch_tokens;
    rc = run_pass(learner, &p, list, listed, stats, terms, err);
    if (rc != 0) {
        memset(learner->grad, 0, learner->optimizer.count * sizeof(float));
        return rc;
    }
    if (learner->observer)
        learner->observer->gradient(learner->observer->context, update, learner->grad,
                                    learner->optimizer.count, terms->loss - loss_before);
    double norm = 0;
    stats->learning_rate = rt_learning_rate(learner->config, learner->optimizer.updates,
                                            learner->updates_total);
    rc = rt_learner_apply(learner, stats->learning_rate, &norm, err);
    stats->grad_norm += norm;
    return rc;
}

/* Weights that overflow are found here, before a checkpoint of them takes the place of a good one. */
static int check_finite(rt_learner *learner, const rt_sequence *sequence, rt_error *err)
{
    pass p = {.train = false};
    rt_update_stats unused = {0};
    rt_term_stats none = {0};
    int rc = run_pass(learner, &p, &sequence, 1, &unused, &none, err);
    for (int e = 0; rc == 0 && e < learner->scratch.first[1]; e++)
        if (!isfinite(learner->scratch.logp[e]))
            rc = rt_fail(err, RT_ERR_MATH,
                         "update %lld made weights whose log-probs are not finite; they are not saved, the "
                         "last checkpoint is untouched; lower learner.lr",
                         (long long)learner->optimizer.updates);
    return rc;
}

int rt_learner_step(rt_learner *learner, const rt_sequence *sequences, int count, int updates,
                    const atomic_bool *stop, int *updates_done, rt_update_stats *stats,
                    rt_error *err)
{
    int64_t started = rt_now_ns();
    *stats = (rt_update_stats){0};
    *updates_done = 0;
    if (count == 0)
        return 0;
    const rt_sequence **list = rt_alloc((size_t)count * sizeof *list);
    const char *check = learner->config->learner.check_logprobs;
    int first_cut = cut_at(sequences, count, 1, updates), rc = 0;
    rt_term_stats terms = {0};
    if (strcmp(check, "all") == 0)
        rc = check_rest(learner, sequences, count, first_cut, list, stop, stats, err);
    for (int u = 0; u < updates && rc == 0; u++) {
        int begin = cut_at(sequences, count, u, updates);
        int end = u + 1 == updates ? count : cut_at(sequences, count, u + 1, updates);
        if (begin == end)
            continue;
        /* Once a weight has moved there is no way back: from then on the step is finished. */
        rc = one_update(learner, sequences + begin, end - begin, u,
                        u == 0 && strcmp(check, "none") != 0, list,
                        *updates_done == 0 ? stop : NULL, stats, &terms, err);
        *updates_done += rc == 0;
    }
    if (rc == 0)
        rc = check_finite(learner, &sequences[0], err);
    rt_free(list);
    int done = RT_MAX(*updates_done, 1);
    stats->loss = terms.loss / done;
    stats->grad_norm /= done;
    stats->clipped = terms.live ? terms.clipped / (double)terms.live : 0;
    stats->kl = terms.live ? terms.kl / (double)terms.live : 0;
    stats->entropy = terms.live ? -terms.logp_sum / (double)terms.live : 0;
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
    int rc = rt_trainer_forward(learner->trainer, s->entries, entries, 1.0f, true, s->logp, err);
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
    return rt_trainer_backward(learner->trainer, s->entries, s->g, entries, 1.0f, learner->grad, err);
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
        memset(learner->grad, 0, learner->optimizer.count * sizeof(float));
    stats->seconds = (double)(rt_now_ns() - started) * 1e-9;
    return rc;
}
