/* Shared by the learner's own files. */
#ifndef RT_LEARNER_INTERNAL_H
#define RT_LEARNER_INTERNAL_H

#include "learner/accounting.h"

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
    float *flat;               /* (count) what the optimizer moves: the master's data, or its copy on a
                                * backend whose memory is not the host's */
    float *grad;               /* (count) */
    /* (V, D), NULL unless embedding and head are one trained matrix: what token lookups add to the
     * gradient of an update, so that no cut into micro-batches changes a bit. */
    float *lookups;
    size_t lookups_at, lookups_count;
    struct rt_gradients *gradients; /* NULL: nothing is measured or corrected */
    const rt_observer *observer; /* NULL: none; borrows */
    int64_t version, updates_total;
    int trainer_tokens;
    atomic_uint_fast64_t tokens; /* rows computed, for heartbeats */
    /* scratch of one micro-batch, grown as needed */
    struct scratch {
        const int32_t **ids;
        int32_t *lengths, *first, *rows, **row_of;
        int *adapter, *trees;
        rt_entry *entries;
        float *logp, *old_logp, *ref_logp, *g;
        double *advantage;
        int sequences_max, entries_max, tokens_max;
    } scratch;
};

/* Prompts to be told apart: an optimizer batch's sequences [begin, end), by class of a facet. */
enum facet { FACET_TASK, FACET_KIND, FACET_DEPTH, FACET_AGENT, FACET_LENGTH };
typedef struct rt_cells {
    rt_accounts *accounts;
    int facet;
    const rt_sequence *begin, *end;
} rt_cells;

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
    const rt_cells *cells;  /* not NULL: no micro-batch holds more than one cell, each is looked at */
} rt_pass;

/* Cuts the list by token budget and works through it in order. Problems are not cut unless they are
 * larger than that; the gradient of those is the same bits however the list is cut. */
int rt_pass_run(rt_learner *learner, const rt_pass *pass, const rt_sequence *const *list, int count,
                rt_update_stats *stats, rt_term_stats *terms, rt_error *err);
/* Preference losses need whole sequences before any gradient: R of the optimizer batch
 * [begin, end) of all sequences under the weights as they are, and from it coefficient (end − begin)
 * for the pass that trains. Adds to *stats, the loss too. */
int rt_preference_phase(rt_learner *learner, const rt_sequence *all, int begin, int end,
                        const atomic_bool *stop, double *coefficient, rt_update_stats *update_stats,
                        rt_preference_stats *stats, rt_error *err);
void rt_preference_finish(const rt_preference_stats *stats, double beta, rt_update_stats *out);

/* gradients.c: the gradient of an update on its way to the optimizer. */
int rt_gradients_open(rt_learner *learner, rt_error *err);
void rt_gradients_close(rt_learner *learner);
bool rt_same_unit(const rt_sequence *a, const rt_sequence *b); /* one prompt of the estimators */
bool rt_same_cell(const rt_cells *cells, const rt_sequence *a, const rt_sequence *b); /* of one unit */
bool rt_has_gradient(const rt_learner *learner, const rt_sequence *sequence);
/* A step begins, an optimizer step of it begins. */
void rt_gradients_step(rt_learner *learner);
const rt_cells *rt_gradients_begin(rt_learner *learner, rt_cells *cells, const rt_sequence *begin,
                                   const rt_sequence *end);
/* The micro-batch that ends with *last and before *next (NULL: nothing follows) has been added. */
void rt_gradients_look(const rt_learner *learner, const rt_cells *cells, const rt_sequence *last,
                       const rt_sequence *next);
/* All micro-batches of `pass` over [begin, end) are in: lookups come in, accounts are closed, the
 * correction is made. list: scratch of as many. */
int rt_gradients_end(rt_learner *learner, const rt_pass *pass, const rt_sequence *begin,
                     const rt_sequence *end, const rt_sequence **list, rt_error *err);
void rt_gradients_drop(rt_learner *learner); /* what was gathered of an update */
/* For checkpoints: what must outlive the process, as text, and back. */
void rt_gradients_write(const rt_learner *learner, rt_buf *out);
void rt_gradients_read(rt_learner *learner, const char *text);
void rt_gradients_report(rt_learner *learner, rt_update_stats *stats);

/* After the optimizer has changed the master: rounds to the working copy and packs it. */
void rt_learner_publish(rt_learner *learner);
/* Applies the gathered gradient; grad_norm is before clipping. Clears the gradient. */
int rt_learner_apply(rt_learner *learner, double lr, double *grad_norm, rt_error *err);
double rt_clip_factor(const rt_config *config, double norm);
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
