/*
 * learner: from batches to weights: objectives, micro-batches, optimizer, checkpoints, and the
 * learner role that talks to the coordinator. Knows no algorithm names: it gets sequences with
 * advantages and masks, and objective settings.
 *
 * Threading: an rt_learner belongs to one thread; the role has a loop thread and a compute thread.
 * Letters: N sequences, T response tokens of one sequence, E entries (trained tokens).
 */
#ifndef RT_LEARNER_H
#define RT_LEARNER_H

#include "base/base.h"
#include "base/config.h"
#include "model/model.h"

/* ---- objective: per-token terms, pure functions -------------------------------------------------
 */

/* Sequence i owns the entries [first[i], first[i+1]) of the token arrays. mask 0 = not trained. */
typedef struct rt_terms {
    int sequences;
    const int32_t *first;    // (N + 1)
    const float *logp;       // (E) now
    const float *old_logp;   // (E) behaviour
    const float *ref_logp;   // (E) or NULL
    const uint8_t *mask;     // (E) or NULL: all are trained
    const double *advantage; // (N)
    /* Denominators of the WHOLE optimizer batch, so that a loss never depends on how it is cut. */
    int64_t batch_sequences, batch_tokens;
} rt_terms;

typedef struct rt_term_stats {
    double loss, clipped, kl, logp_sum; /* sums over live tokens of these terms */
    int64_t live;
} rt_term_stats;

/* Adds to *stats and writes g (E) = d loss / d logp. Equations: x = −A·r (or clipped, dual-clipped,
 * stop-gradient-weighted), r per token (Schulman 2017) or per sequence (GSPO), + kl_coef·k{1,2,3}.
 */
void rt_objective_terms(const rt_objective *objective, const rt_terms *terms, float *g,
                        rt_term_stats *stats);

/* ---- preference: losses of whole sequences, pure functions ---------------------------------------
 */

typedef struct rt_preference {
    int count;
    const double *ratio;     // (N) R, sum over trained tokens of logp − ref_logp
    const double *advantage; // (N) kto: above 0 desirable, below undesirable; its size is the weight
    const int *rejected;     // (N) dpo: 1 + index of the one that this is preferred to; 0: none
    double z0;               // kto, library form: estimate of the divergence, a constant
} rt_preference;

/* Sums; loss and divergence over `updates` calls, right over `judged` pairs (dpo) or sequences
 * (kto), chosen and rejected (R of them; kto: desirable and undesirable) over their counts. */
typedef struct rt_preference_stats {
    double loss, divergence, right, chosen, rejected;
    int64_t updates, judged, chosen_count, rejected_count;
} rt_preference_stats;

/* Adds to *stats and writes coefficient (N) = d loss / d R, which is d loss / d logp of each trained
 * token, for one whole optimizer batch: preference.c has the equations. */
void rt_preference_terms(const rt_objective *objective, const rt_preference *preference,
                         double *coefficient, rt_preference_stats *stats);
/* z0 = max(0, mean of R) of prompts with responses to other prompts; 0 for none. */
double rt_kto_divergence(const double *ratio, int count);

/* ---- corrections: one gradient from those of the tasks, pure functions ---------------------------
 */

/* A running norm, bias-corrected: sum / weight. Zeroed at the start; belongs into checkpoints. */
typedef struct rt_running_norm {
    double sum, weight;
} rt_running_norm;
/* Takes in the norm of a task's gradient in this update; 0 (the task had none) changes nothing.
 * Returns the running norm, 0 before the first. */
double rt_correction_note(rt_running_norm *running, double decay, double norm);
/* Factors of gradients.correction: the corrected gradient is Σ weight[k] g_k, the uncorrected one the
 * plain sum. gram (K, K): scalar products of the tasks' gradients; running (K): running norms, only
 * running_norms reads them; seed: of this update, orders pcgrad's projections. A task without gradient
 * keeps weight 1. Numbers that are not finite: RT_ERR_MATH. Same numbers, same bits. */
int rt_correction_weights(const rt_config *config, const double *gram, const double *running, int tasks,
                          uint64_t seed, double *weight, rt_error *err);

/* The advantage of a task's sequence in training: what the coordinator sent and the run store holds,
 * times tasks.N.advantage_scale. A number that is no task of the config: unchanged. */
double rt_correction_advantage(const rt_config *config, int task, double advantage);

/* ---- optimizer ----------------------------------------------------------------------------------
 */

typedef struct rt_optimizer {
    float *m, *v; /* (count) moments, backend memory */
    size_t count;
    int64_t updates; /* done so far: bias correction, schedule */
} rt_optimizer;
double rt_learning_rate(const rt_config *config, int64_t update, int64_t updates_total);

/* ---- learner: one model in training ----------------------------------------------------------- */

typedef struct rt_learner rt_learner;

enum rt_sequence_kind { RT_SEQUENCE_BASE, RT_SEQUENCE_RESET, RT_SEQUENCE_DEBATE, RT_SEQUENCE_KINDS };

typedef struct rt_sequence {
    uint64_t trajectory;
    const int32_t *ids;    // (prompt_tokens + response_tokens)
    const float *old_logp; // (response_tokens); NULL: not sampled behind this prompt
    const float *weight;   // (response_tokens) supervised weights; NULL: 1
    int prompt_tokens, response_tokens, suffix_start;
    double advantage; /* kto: label and weight, see rt_preference */
    int task;   /* place in the config's tasks */
    /* Sequences of one task and problem stand together: they share rows, with nobody else. */
    uint64_t problem;
    int kind, depth, agent; /* for accounting: enum rt_sequence_kind, thoughts before the suffix, … */
    bool stale; /* sampled with older weights or behind another prompt: log-probs differ by nature */
    int adapter;  /* 1 + number of the one that learns from it; 0: all weights are trained */
    int rejected; /* dpo: 1 + index of the sequence this one is preferred to; 0: none */
} rt_sequence;

/* Whether the optimizer batch [begin, end) of a step's sequences (count) fits the objective: pairs
 * are within it and share prompt and adapter, ratios have a denominator. Else RT_ERR_INPUT. */
int rt_preference_check(const rt_objective *objective, const rt_sequence *sequences, int count,
                        int begin, int end, rt_error *err);

typedef struct rt_metric {
    char *name;
    double value;
} rt_metric;

typedef struct rt_update_stats {
    double loss, grad_norm, clipped, kl, entropy, learning_rate;
    int64_t rows, trained, compared, mismatched;
    double seconds;
    /* dpo and kto, over all optimizer steps: R of chosen and rejected (kto: desirable and
     * undesirable), margin beta·(difference), share on the right side, z0. NAN: of nothing. */
    struct { double margin, accuracy, chosen, rejected, divergence; } preference;
    double clip_factor; /* mean: what clipping left of the gradient */
    /* What accounting found, grad/… (docs/run-store.md); borrowed until the next step. */
    const rt_metric *metrics;
    int metrics_count;
} rt_update_stats;

/* Loads config->model.path (or random weights) and optimizer state; from: a checkpoint folder to
 * continue, or NULL. */
int rt_learner_new(rt_learner **learner, const rt_config *config, const char *from, rt_error *err);
void rt_learner_free(rt_learner **learner);
/* Trains on one batch: cut into `updates` optimizer steps in sequence order (whole groups of equal
 * prompt stay together), each cut into micro-batches by token budget; algorithm.epochs passes over
 * them. With adapters the sequences of each, adapters ascending, are a batch of their own, with own
 * denominators, clipping and schedule. stop (may be NULL) is looked at between micro-batches: set =
 * RT_ERR_STOPPED and the weights are those before the call only if no optimizer step was done;
 * *updates_done says how many were. A batch that does not fit the objective (rt_preference_check):
 * RT_ERR_INPUT; NaN: RT_ERR_MATH; nothing applied. */
int rt_learner_step(rt_learner *learner, const rt_sequence *sequences, int count, int updates,
                    const atomic_bool *stop, int *updates_done, rt_update_stats *stats,
                    rt_error *err);
/* Looks on while rt_learner_step works (audit). Called on its thread; what it gets is borrowed for
 * the call and must not change. */
typedef struct rt_observer {
    void *context;
    /* A micro-batch of update `update` (counted on over epochs, from 0 for each adapter; sequences may be
     * copies with the same ids): entries [first[i], first[i+1]) are the trained tokens of sequences[i],
     * from its suffix_start on; g NULL: advantage 0, which adds no gradient. */
    void (*micro_batch)(void *context, int update, const rt_sequence *const *sequences, int count,
                        const int32_t *first, const float *logp, const float *g);
    /* The update's whole gradient, before clipping: memory of the learner's backend. */
    void (*gradient)(void *context, int update, const float *grad, size_t count, double loss);
} rt_observer;
void rt_learner_observe(rt_learner *learner, const rt_observer *observer); /* borrows; NULL: none */
/* rt_learner_step, and a safetensors file of all that its first epoch consumed and produced (audit.c
 * says what; docs/run-store.md). metadata: key, value, …, NULL. */
int rt_audit(rt_learner *learner, const rt_sequence *sequences, int count, int updates,
             const char *path, const char *const *metadata, rt_update_stats *stats, rt_error *err);
/* One supervised update: loss = −Σ weight·logp / Σ weight over the batch. */
int rt_learner_sft(rt_learner *learner, const rt_sequence *sequences, int count,
                   rt_update_stats *stats, rt_error *err);
/* Working weights (dtype of the run; adapters alone where these are trained): what actors get.
 * Borrowed; changes with the next step. */
const rt_weights *rt_learner_weights(const rt_learner *learner);
/* XXH3-128 of those bytes: the weights hash that every role names. */
rt_hash128 rt_learner_hash(const rt_learner *learner);
int64_t rt_learner_version(const rt_learner *learner);
/* What was measured in the step that made this version; kept in checkpoints, too. Borrowed until the
 * next step. */
const rt_metric *rt_learner_metrics(const rt_learner *learner, int *count);
void rt_learner_set_version(rt_learner *learner, int64_t version);
/* Progress counters for heartbeats; any thread. */
uint64_t rt_learner_tokens(const rt_learner *learner);

/* ---- checkpoints ------------------------------------------------------------------------------ */

/* DIR/step-NNNNNN: config.json, model.safetensors (working weights) or adapter-0 and on (PEFT),
 * optimizer.safetensors (master, m, v), state.json (version, updates,
 * fingerprint, hashes), tokenizer files. Written beside,
 * fsynced, renamed; older ones beyond `kept` are removed only after. Full disk or no permission: a
 * sentence, the last good one stays. */
int rt_checkpoint_save(const rt_learner *learner, const char *dir, int kept, rt_buf *path,
                       rt_error *err);
/* Newest complete checkpoint below DIR; "" in path when there is none. Checks state.json's hashes.
 */
int rt_checkpoint_newest(const char *dir, rt_buf *path, int64_t *version, rt_error *err);

/* ---- roles ------------------------------------------------------------------------------------ */

/* The learner process: until the coordinator says stop (0), SIGINT/SIGTERM (RT_ERR_STOPPED, state
 * saved), an error, or no coordinator has been heard for unreachable_ms (RT_ERR_PEER). */
int rt_learner_run(const rt_config *config, const rt_log *log, int64_t unreachable_ms,
                   rt_error *err);
/* `retake sft`: examples of the tasks or of sft.data; writes DIR/{config.yaml,export,checkpoints}
 * and prints progress. stop: set by a signal handler. summary receives one JSON object. */
int rt_sft_run(const rt_config *config, const rt_log *log, const atomic_bool *stop, rt_buf *summary,
               rt_error *err);

#endif
