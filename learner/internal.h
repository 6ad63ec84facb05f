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
    /* Over a frozen base, which only the net holds: master and working are the adapters' vector. */
    rt_adapters *adapters;     /* NULL: all weights are trained */
    rt_hash128 base_hash;
    int64_t *updates;          /* (adapters) done by each */
    int adapter;               /* at work: its share of the vector is what moves */
    /* The model the run began with, NULL unless the objective has a penalty or a preference: a
     * frozen copy, or, with adapters, the net itself with them off. */
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
        int *adapter;
        rt_entry *entries;
        float *logp, *old_logp, *ref_logp, *g;
        double *advantage;
        int sequences_max, entries_max, tokens_max;
    } scratch;
};

/* What a run over micro-batches does with each of them. Arrays lie beside the list it runs over. */
typedef struct rt_pass {
    bool train;             /* forward and backward; else forward only */
    bool compare;
    bool observe;
    int update;
    int64_t batch_sequences, batch_tokens;
    double *ratio;          /* not NULL: receives R, the sum of logp − ref_logp, of each sequence */
    const double *coefficient; /* not NULL: d loss / d R of each, in place of the token terms */
    const atomic_bool *stop;
} rt_pass;

/* Cuts the list by token budget and works through it in order. */
int rt_pass_run(rt_learner *learner, const rt_pass *pass, const rt_sequence *const *list, int count,
                rt_update_stats *stats, rt_term_stats *terms, rt_error *err);
/* Preference losses need whole sequences before any gradient: R of the optimizer batch
 * [begin, end) of all sequences under the weights as they are, and from it coefficient (end − begin)
 * for the pass that trains. Adds to *stats, the loss too. */
int rt_preference_phase(rt_learner *learner, const rt_sequence *all, int begin, int end,
                        const atomic_bool *stop, double *coefficient, rt_update_stats *update_stats,
                        rt_preference_stats *stats, rt_error *err);
void rt_preference_finish(const rt_preference_stats *stats, double beta, rt_update_stats *out);

/* After the optimizer has changed the master: rounds to the working copy and packs it. */
void rt_learner_publish(rt_learner *learner);
/* Applies the gathered gradient; grad_norm is before clipping. Clears the gradient. */
int rt_learner_apply(rt_learner *learner, double lr, double *grad_norm, rt_error *err);
/* Temperature that a sequence's log-probs are taken at: that of its task's rollouts, 1 for greedy
 * ones. */
float rt_learner_temperature(const rt_learner *learner, const rt_sequence *sequence);

/* Everything after the choice of sequences: one batch of one adapter, or of all weights. */
int rt_learner_step_one(rt_learner *learner, const rt_sequence *sequences, int count, int updates,
                        const atomic_bool *stop, int *updates_done, rt_update_stats *stats,
                        rt_error *err);
/* Gradient of the planned micro-batch for scratch.g; the forward before it kept its activations
 * unless rt_learner_drops, where this makes a forward of its own. */
int rt_learner_backward(rt_learner *learner, int entries, float temperature, rt_error *err);
bool rt_learner_drops(const rt_learner *learner);

/* adapters.c: opening, and what a checkpoint says of them beside the moments. */
int rt_learner_open_adapters(rt_learner *learner, int dtype, const char *from, rt_error *err);
void rt_learner_close_adapters(rt_learner *learner);
void rt_learner_choose(rt_learner *learner, int adapter); /* the next updates are its */
int rt_learner_save_adapters(const rt_learner *learner, const char *dir, rt_error *err);
void rt_learner_describe_adapters(const rt_learner *learner, char base[33], rt_buf *updates);
int rt_learner_recall_adapters(rt_learner *learner, const rt_safetensors *file, const char *path,
                               rt_error *err);

#endif
