/*
 * coordinator: the one place with state: plans, leases, weight store, run store, stats. Continues from
 * the run store and the learner's checkpoint after being killed.
 *
 * Threading: one loop thread owns sockets, plans and leases; one writer thread owns the run
 * store's database, fed through a ring, so that a slow disk never delays a heartbeat or a stats answer.
 */
#ifndef RT_COORDINATOR_H
#define RT_COORDINATOR_H

#include "base/base.h"
#include "base/config.h"

/* Runs the whole run. 0: all steps done, summary.json written; RT_ERR_STOPPED: asked to stop, state saved. */
int rt_coordinator_run(const rt_config *config, const rt_log *log, rt_error *err);

/* ---- advantages ------------------------------------------------------------------------------------ */

/* One group: advantage[i] from reward[i] (papers: GRPO, Dr. GRPO, RLOO). Batch-mean baselines
 * (REINFORCE++) are done over the whole batch by rt_advantages_batch. */
void rt_advantages(const rt_advantage_settings *settings, const double *reward, int count,
                   double *advantage);
void rt_advantages_batch(const rt_advantage_settings *settings, const double *reward, int count,
                         double *advantage);

/* ---- run store: reading (retake show, audit) --------------------------------------------------------- */

/* Text views of DIR/run.db; what: "", "steps", "tasks", "problem ID", "trajectory ID", "workers", "events",
 * "step N", "report svg|html".
 * decode: turns token ids into text (the caller has the tokenizer). */
typedef void rt_decode_fn(void *context, const int32_t *ids, size_t count, rt_buf *out);
typedef struct rt_stored_sequence {
    uint64_t id;
    int64_t version;      /* weights it was sampled with */
    const int32_t *ids;   // (prompt + response)
    const float *logprobs; // (response); NULL: not sampled behind this prompt by this adapter
    int prompt_tokens, response_tokens, suffix_start;
    int task;             /* place in the config's tasks */
    uint64_t problem;
    double advantage;
    int adapter;          /* 1 + number of the one that learns from it; 0: all weights */
    int rejected;         /* dpo: 1 + index of the sequence this one is preferred to; 0: none */
} rt_stored_sequence;
typedef struct rt_stored_step {
    rt_stored_sequence *sequences; // (count), in the order of the learner
    int count;
    char weights_hash[33];  /* of the version the step made; "": not known */
    double loss, grad_norm; /* NaN: not known */
} rt_stored_step;
/* What the learner got for one step, from DIR/run.db; config: the run's. All memory is the arena's. */
int rt_store_step(const char *dir, const rt_config *config, int64_t step, rt_arena *arena,
                  rt_stored_step *out, rt_error *err);
#define RT_SHOW_RUNS_MAX 64
/* Last and best value of metrics of several runs side by side. names: "loss,eval*", patterns with * and
 * ?, NULL: the usual ones. */
int rt_store_metrics(const char *const *dirs, int count, const char *names, bool json, rt_buf *out,
                     rt_error *err);
int rt_store_show(const char *dir, const char *const *what, int what_count, bool json,
                  rt_decode_fn *decode, void *context, rt_buf *out, rt_error *err);

#endif
