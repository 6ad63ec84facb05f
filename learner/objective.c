/*
 * Per-token terms of the policy objectives. With A the advantage, r the ratio and x the term:
 *   none      x = −A·logp                                (REINFORCE, Williams 1992)
 *   token     x = max(−A·r, −A·clip(r)), r = exp(logp − old)        (PPO, Schulman 2017)
 *   sequence  the same with one r = exp(mean(logp − old)) a sequence (GSPO, Zheng 2025)
 *   ratio_max x = −stop(min(r, ratio_max))·A·logp        (CISPO, MiniMax 2025)
 * plus a dual clip for A < 0 and a k1/k2/k3 penalty against the reference.
 */
#include <math.h>

#include "learner/learner.h"

/* Value of a term and its derivative by log r (token) or by the mean log r (sequence). */
typedef struct term {
    double x, dx;
    bool clipped;
} term;

static term surrogate(const rt_objective *o, double a, double r)
{
    term t = {-a * r, -a * r, false};
    if (o->clip_low > 0 || o->clip_high > 0) {
        double bounded = fmin(fmax(r, 1 - o->clip_low), 1 + o->clip_high);
        if (-a * bounded > t.x)
            t = (term){-a * bounded, 0, true};
    }
    if (o->clip_dual > 0 && a < 0 && t.x > -a * o->clip_dual)
        t = (term){-a * o->clip_dual, 0, true};
    return t;
}

static term penalty(const rt_objective *o, double d)
{
    switch (o->kl) {
    case RT_KL_K1: return (term){d, 1, false};
    case RT_KL_K2: return (term){d * d / 2, d, false};
    case RT_KL_K3: return (term){exp(-d) + d - 1, 1 - exp(-d), false};
    default: return (term){0, 0, false};
    }
}

/* What one live token of a sequence with `live` tokens weighs in the whole optimizer batch. */
static double token_weight(const rt_objective *o, const rt_terms *terms, int64_t live)
{
    switch (o->aggregation) {
    case RT_AGG_TOKEN_MEAN: return 1.0 / (double)RT_MAX(terms->batch_tokens, 1);
    case RT_AGG_SEQUENCE_MEAN:
        return 1.0 / ((double)terms->batch_sequences * (double)RT_MAX(live, 1));
    default: return 1.0 / ((double)terms->batch_sequences * o->constant);
    }
}

static void sequence_terms(const rt_objective *o, const rt_terms *terms, int i, float *g,
                           rt_term_stats *stats)
{
    int32_t begin = terms->first[i], end = terms->first[i + 1];
    double a = terms->advantage[i], drift = 0;
    int64_t live = 0;
    for (int32_t e = begin; e < end; e++) {
        g[e] = 0;
        if (terms->mask && !terms->mask[e])
            continue;
        live++;
        if (o->ratio != RT_RATIO_NONE || o->ratio_max > 0)
            drift += (double)terms->logp[e] - (double)terms->old_logp[e];
    }
    if (live == 0)
        return;
    double weight = token_weight(o, terms, live);
    term whole = {0, 0, false};
    if (o->ratio == RT_RATIO_SEQUENCE)
        whole = surrogate(o, a, exp(drift / (double)live));
    for (int32_t e = begin; e < end; e++) {
        if (terms->mask && !terms->mask[e])
            continue;
        double logp = terms->logp[e];
        term t = {-a * logp, -a, false};
        if (o->ratio_max > 0) {
            double r = exp(logp - (double)terms->old_logp[e]);
            double held = fmin(r, o->ratio_max);
            t = (term){-held * a * logp, -held * a, r > o->ratio_max};
        } else if (o->ratio == RT_RATIO_TOKEN) {
            t = surrogate(o, a, exp(logp - (double)terms->old_logp[e]));
        } else if (o->ratio == RT_RATIO_SEQUENCE) {
            /* Σ over the sequence's tokens of weight·dx/live = weight·dx for each of them. */
            t = whole;
        }
        if (o->kl != RT_KL_OFF && terms->ref_logp) {
            term k = penalty(o, logp - (double)terms->ref_logp[e]);
            t.x += o->kl_coef * k.x;
            t.dx += o->kl_coef * k.dx;
        }
        g[e] = (float)(weight * t.dx);
        stats->loss += weight * t.x;
        stats->clipped += t.clipped;
        stats->logp_sum += logp;
        if (terms->old_logp)
            stats->kl += (double)terms->old_logp[e] - logp;
    }
    stats->live += live;
}

void rt_objective_terms(const rt_objective *objective, const rt_terms *terms, float *g,
                        rt_term_stats *stats)
{
    RT_ASSERT(terms->batch_sequences >= terms->sequences);
    for (int i = 0; i < terms->sequences; i++)
        sequence_terms(objective, terms, i, g, stats);
}

double rt_learning_rate(const rt_config *config, int64_t update, int64_t updates_total)
{
    double lr = config->learner.lr;
    int64_t warmup = config->learner.warmup_steps;
    if (update < warmup)
        return lr * (double)(update + 1) / (double)warmup;
    if (config->learner.schedule_steps > 0)
        updates_total = config->learner.schedule_steps;
    double span = (double)RT_MAX(updates_total - warmup, 1);
    double done = fmin((double)(update - warmup) / span, 1);
    switch (config->learner.schedule[0]) {
    case 'l': return lr * (1 - done);                             /* linear */
    case 'c':
        if (config->learner.schedule[2] == 's')                   /* cosine */
            return lr * 0.5 * (1 + cos(3.14159265358979323846 * done));
        return lr;                                                /* constant */
    default: return lr;
    }
}
