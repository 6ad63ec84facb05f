/*
 * First phase of a preference loss: R of every sequence of the optimizer batch, forward only, so
 * that the loss is known before any gradient and does not depend on the cut into micro-batches.
 *
 * The library form of kto wants the divergence from the reference on responses that do not belong
 * to their prompts. They are made here: the prompt of sequence i with the response of the one half
 * the batch further on, cyclically. Half the batch and not one place, because neighbours answer the
 * same question; a batch of one has nothing to put together, and its estimate is 0.
 */
#include <math.h>
#include <string.h>

#include "learner/internal.h"

/* What does not fit a micro-batch or the model's context is cut off at the end. */
static rt_sequence mismatched(rt_arena *arena, const rt_sequence *prompt, const rt_sequence *response,
                              int longest)
{
    int tokens = RT_MAX(RT_MIN(response->response_tokens, longest - prompt->prompt_tokens), 0);
    size_t before = (size_t)prompt->prompt_tokens;
    int32_t *ids = rt_arena_alloc(arena, (before + (size_t)tokens) * sizeof *ids);
    memcpy(ids, prompt->ids, before * sizeof *ids);
    memcpy(ids + before, response->ids + response->prompt_tokens, (size_t)tokens * sizeof *ids);
    return (rt_sequence){.trajectory = prompt->trajectory, .ids = ids,
                         .prompt_tokens = prompt->prompt_tokens, .response_tokens = tokens,
                         .suffix_start = RT_MIN(response->suffix_start, tokens), .stale = true,
                         .adapter = prompt->adapter, .task = prompt->task,
                         .problem = prompt->problem};
}

/* A log-prob of −∞ can cancel in a loss that saturates: it is looked for in R. */
static int check_ratios(const rt_learner *learner, const rt_sequence *const *list,
                        const double *ratio, int count, rt_error *err)
{
    for (int i = 0; i < count; i++)
        if (!isfinite(ratio[i]))
            return rt_fail(err, RT_ERR_MATH,
                           "the log-prob of trajectory %llu against the reference is not a number in update "
                           "%lld; nothing was applied, the last checkpoint is untouched",
                           (unsigned long long)list[i]->trajectory,
                           (long long)learner->optimizer.updates + 1);
    return 0;
}

/* Sequences of the batch, each followed by its mismatched one when there are any: they share a
 * prompt, which is computed once. Returns how many stand for one sequence: 1 or 2. */
static int list_phase(const rt_learner *learner, const rt_sequence *sequences, int count,
                      rt_arena *arena, const rt_sequence **list)
{
    const rt_objective *objective = &learner->config->algorithm.objective;
    bool pairs = objective->loss == RT_LOSS_KTO && objective->kto_form == RT_KTO_LIBRARY && count > 1;
    int longest = (int)RT_MIN(learner->trainer_tokens, learner->master->arch.context);
    rt_sequence *others = rt_arena_alloc(arena, (size_t)count * sizeof *others);
    for (int i = 0; i < count; i++) {
        if (!pairs) {
            list[i] = &sequences[i];
            continue;
        }
        others[i] = mismatched(arena, &sequences[i], &sequences[(i + count / 2) % count], longest);
        list[2 * i] = &sequences[i];
        list[2 * i + 1] = &others[i];
    }
    return pairs ? 2 : 1;
}

int rt_preference_phase(rt_learner *learner, const rt_sequence *all, int begin, int end,
                        const atomic_bool *stop, double *coefficient, rt_update_stats *update_stats,
                        rt_preference_stats *stats, rt_error *err)
{
    int count = end - begin;
    size_t n = (size_t)count;
    rt_arena *arena = rt_arena_new(1 << 16);
    const rt_sequence **list = rt_arena_alloc(arena, 2 * n * sizeof *list);
    double *ratio = rt_arena_alloc(arena, 2 * n * sizeof *ratio);
    int each = list_phase(learner, all + begin, count, arena, list);
    rt_pass p = {.ratio = ratio, .stop = stop};
    rt_term_stats unused = {0};
    int rc = rt_pass_run(learner, &p, list, each * count, update_stats, &unused, err);
    if (rc == 0)
        rc = check_ratios(learner, list, ratio, each * count, err);
    if (rc == 0) {
        double *advantage = rt_arena_alloc(arena, n * sizeof *advantage);
        double *other = rt_arena_alloc(arena, n * sizeof *other);
        int *rejected = rt_arena_alloc(arena, n * sizeof *rejected);
        for (int i = 0; i < count; i++) {
            const rt_sequence *q = &all[begin + i];
            other[i] = ratio[each * i + each - 1];
            ratio[i] = ratio[each * i]; /* each ≥ 1: nothing is overwritten before it is read */
            advantage[i] = q->advantage;
            rejected[i] = q->rejected == 0 ? 0 : q->rejected - begin;
        }
        rt_preference preference = {count, ratio, advantage, rejected,
                                    each == 2 ? rt_kto_divergence(other, count) : 0};
        rt_preference_terms(&learner->config->algorithm.objective, &preference, coefficient, stats);
    }
    rt_arena_free(&arena);
    return rc;
}

static double share(double sum, int64_t count)
{
    return count > 0 ? sum / (double)count : (double)NAN;
}

void rt_preference_finish(const rt_preference_stats *stats, double beta, rt_update_stats *out)
{
    out->preference.chosen = share(stats->chosen, stats->chosen_count);
    out->preference.rejected = share(stats->rejected, stats->rejected_count);
    out->preference.margin = beta * (out->preference.chosen - out->preference.rejected);
    out->preference.accuracy = share(stats->right, stats->judged);
    out->preference.divergence = share(stats->divergence, stats->updates);
}
