/* Shared by the learner's own files. */
#ifndef RT_LEARNER_INTERNAL_H
#define RT_LEARNER_INTERNAL_H

#include "learner/learner.h"

struct rt_learner {
    const rt_config *config;   /* borrows */
    rt_ops *ops;
    rt_net *net;
    rt_weights *master;        /* f32 */
    rt_weights *working;       /* what the net holds; the master itself when dtype is f32 */
    rt_trainer *trainer;
    /* frozen copy of the model the run began with; NULL unless the objective has a penalty */
    rt_net *reference_net;
    rt_trainer *reference;
    rt_optimizer optimizer;
    float *grad;               /* (count) */
    const rt_observer *observer; /* NULL: none; borrows */
    int64_t version, updates_total;
    int trainer_tokens;
    atomic_uint_fast64_t tokens; /* rows computed, for heartbeats */
    /* scratch of one micro-batch, grown as needed */
    struct scratch {
        const int32_t **ids;
        int32_t *lengths, *first, *rows, **row_of;
        rt_entry *entries;
        float *logp, *old_logp, *ref_logp, *g;
        double *advantage;
        int sequences_max, entries_max, tokens_max;
    } scratch;
};

/* After the optimizer has changed the master: rounds to the working copy and packs it. */
void rt_learner_publish(rt_learner *learner);
/* Applies the gathered gradient; grad_norm is before clipping. Clears the gradient. */
int rt_learner_apply(rt_learner *learner, double lr, double *grad_norm, rt_error *err);
/* Temperature that a sequence's log-probs are taken at: that of its task's rollouts, 1 for greedy
 * ones. */
float rt_learner_temperature(const rt_learner *learner, const rt_sequence *sequence);

#endif
