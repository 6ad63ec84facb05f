/*
 * sampler: one token from one row of logits. Plain arithmetic in one fixed order, so that the
 * token is a function of (logits, settings, u). Private to model/.
 */
#ifndef RT_SAMPLER_H
#define RT_SAMPLER_H

#include "base/base.h"

/* Memory for rows of v logits; one thread at a time. */
typedef struct rt_sampler {
    int v;
    float *weights;  // (v) exp((logit − max) / temperature), zeros up to a whole block
    double *sums;    // one a block of weights
    struct rt_candidate *candidates; // (v) of a truncated distribution
    /* chosen for the processor; all give the same bits */
    int (*weigh)(struct rt_sampler *sampler, const float *logits, double temperature, float *max,
                 double *total);
} rt_sampler;

void rt_sampler_init(rt_sampler *sampler, int v);
void rt_sampler_drop(rt_sampler *sampler);
/* Greedy at temperature 0 (lowest id wins a tie), else the first token, in vocabulary order, whose
 * running sum passes u·total among the top_k (0 = all) likeliest and, of those, the fewest that
 * hold top_p of their mass (1 = all). u in [0, 1). Negative: RT_ERR_MATH, no finite logit. */
int rt_sample(rt_sampler *sampler, const float *logits, double temperature, int top_k,
              double top_p, double u);

#endif
