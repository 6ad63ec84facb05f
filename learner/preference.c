/*
 * Losses of whole sequences. With R = Σ over a sequence's trained tokens of (logp − ref_logp):
 *   dpo            mean over pairs of −log σ(β(R_c − R_r))             (Rafailov et al. 2023)
 *   kto, library   mean over sequences of w·(1 − σ(β(R − z0))) where desirable, else
 *                  w·(1 − σ(β(z0 − R)))                                (Ethayarajh et al. 2024)
 *   kto, paper     −w·log σ(βR) where desirable, else −w·log σ(−βR)    (Samanta et al. 2025)
 */
#include <math.h>
#include <string.h>

#include "learner/learner.h"

static double sigmoid(double x)
{
    return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

/* −log σ(x), without overflow on either side. */
static double minus_log_sigmoid(double x)
{
    return x >= 0 ? log1p(exp(-x)) : log1p(exp(x)) - x;
}

double rt_kto_divergence(const double *ratio, int count)
{
    double sum = 0;
    for (int i = 0; i < count; i++)
        sum += ratio[i];
    return count > 0 ? fmax(0, sum / count) : 0;
}

static void dpo_terms(const rt_objective *o, const rt_preference *p, double *coefficient,
                      rt_preference_stats *stats)
{
    int pairs = 0;
    for (int i = 0; i < p->count; i++)
        pairs += p->rejected[i] != 0;
    for (int i = 0; i < p->count; i++) {
        if (p->rejected[i] == 0)
            continue;
        int j = p->rejected[i] - 1;
        double x = o->beta * (p->ratio[i] - p->ratio[j]);
        double d = -o->beta * sigmoid(-x) / pairs;
        coefficient[i] += d;
        coefficient[j] -= d;
        stats->loss += minus_log_sigmoid(x) / pairs;
        stats->right += p->ratio[i] > p->ratio[j];
        stats->chosen += p->ratio[i];
        stats->rejected += p->ratio[j];
    }
    stats->chosen_count += pairs;
    stats->rejected_count += pairs;
    stats->judged += pairs;
}

static void kto_terms(const rt_objective *o, const rt_preference *p, double *coefficient,
                      rt_preference_stats *stats)
{
    bool paper = o->kto_form == RT_KTO_PAPER;
    double z0 = paper ? 0 : p->z0;
    for (int i = 0; i < p->count; i++) {
        bool desirable = p->advantage[i] > 0;
        double sign = desirable ? 1 : -1, w = fabs(p->advantage[i]) / p->count;
        double x = sign * o->beta * (p->ratio[i] - z0);
        if (paper) {
            stats->loss += w * minus_log_sigmoid(x);
            coefficient[i] = -sign * w * o->beta * sigmoid(-x);
        } else {
            stats->loss += w * sigmoid(-x);
            coefficient[i] = -sign * w * o->beta * sigmoid(x) * sigmoid(-x);
        }
        stats->right += x > 0;
        *(desirable ? &stats->chosen : &stats->rejected) += p->ratio[i];
        *(desirable ? &stats->chosen_count : &stats->rejected_count) += 1;
    }
    stats->judged += p->count;
    stats->divergence += z0;
}

void rt_preference_terms(const rt_objective *objective, const rt_preference *preference,
                         double *coefficient, rt_preference_stats *stats)
{
    memset(coefficient, 0, (size_t)preference->count * sizeof *coefficient);
    if (objective->loss == RT_LOSS_DPO)
        dpo_terms(objective, preference, coefficient, stats);
    else
        kto_terms(objective, preference, coefficient, stats);
    stats->updates++;
}

/* ---- what a batch must be like ----------------------------------------------------------------- */

static bool same_prompt(const rt_sequence *a, const rt_sequence *b)
{
    return a->prompt_tokens == b->prompt_tokens &&
           memcmp(a->ids, b->ids, (size_t)a->prompt_tokens * sizeof(int32_t)) == 0;
}

static int check_pair(const rt_sequence *all, int count, int i, int begin, int end, rt_error *err)
{
    int64_t j = (int64_t)all[i].rejected - 1;
    unsigned long long id = (unsigned long long)all[i].trajectory;
    if (j < 0 || j >= count || j == i)
        return rt_fail(err, RT_ERR_INPUT, "trajectory %llu is preferred to number %lld of a batch of %d; a "
                       "pair needs another sequence of the batch", id, (long long)j + 1, count);
    if (all[i].adapter != all[j].adapter)
        return rt_fail(err, RT_ERR_INPUT, "trajectories %llu and %llu are a pair for adapters %d and %d; "
                       "send copies of both for each adapter that learns from them", id,
                       (unsigned long long)all[j].trajectory, all[i].adapter, all[j].adapter);
    if (!same_prompt(&all[i], &all[j]))
        return rt_fail(err, RT_ERR_INPUT, "trajectories %llu and %llu are a pair with different prompts; "
                       "only answers to one prompt can be preferred to each other", id,
                       (unsigned long long)all[j].trajectory);
    if (j < begin || j >= end)
        return rt_fail(err, RT_ERR_INPUT, "trajectories %llu and %llu are a pair that would be split between "
                       "optimizer steps; send sequences of one prompt one after another", id,
                       (unsigned long long)all[j].trajectory);
    return 0;
}

static int check_one(const rt_objective *o, const rt_sequence *q, rt_error *err)
{
    unsigned long long id = (unsigned long long)q->trajectory;
    bool policy = o->loss == RT_LOSS_POLICY;
    if (policy && !q->old_logp && (o->ratio != RT_RATIO_NONE || o->ratio_max > 0))
        return rt_fail(err, RT_ERR_INPUT, "trajectory %llu was not sampled behind its prompt, so that there "
                       "is no ratio of probabilities; set algorithm.ratio to none and "
                       "algorithm.ratio_max to 0", id);
    if (o->loss != RT_LOSS_DPO && q->rejected != 0)
        return rt_fail(err, RT_ERR_INPUT, "trajectory %llu is one of a pair, which this loss does not learn "
                       "from; set algorithm.loss to dpo", id);
    if (o->loss == RT_LOSS_KTO && (q->advantage == 0 || !isfinite(q->advantage)))
        return rt_fail(err, RT_ERR_INPUT, "trajectory %llu has the weight %g, which says neither desirable "
                       "(above 0) nor undesirable (below); kto needs one of them", id, q->advantage);
    return 0;
}

int rt_preference_check(const rt_objective *objective, const rt_sequence *sequences, int count,
                        int begin, int end, rt_error *err)
{
    int rc = 0, pairs = 0;
    for (int i = begin; i < end && rc == 0; i++) {
        rc = check_one(objective, &sequences[i], err);
        if (rc == 0 && sequences[i].rejected != 0)
            rc = check_pair(sequences, count, i, begin, end, err);
        pairs += sequences[i].rejected != 0;
    }
    if (rc == 0 && objective->loss == RT_LOSS_DPO && pairs == 0 && begin < end)
        rc = rt_fail(err, RT_ERR_INPUT,
                     "trajectories %llu to %llu hold no pair; dpo learns from nothing else",
                     (unsigned long long)sequences[begin].trajectory,
                     (unsigned long long)sequences[end - 1].trajectory);
    return rc;
}
