/*
 * cpi: what resets buy, checked where everything can be known. Two experiments:
 *
 * rates    conservative policy iteration in a small Markov decision process, with random resets
 *          (CPI-RR) and with resets from an oracle of improvable states (CPI-CARO);
 * tabular  policy gradients on a chain of decisions, with and without resets.
 *
 * Values are exact (dynamic programming); only what a learner would have to sample is sampled.
 */
#ifndef RT_BENCH_CPI_H
#define RT_BENCH_CPI_H

#include "base/base.h"

/* ---- random numbers: a reader of one Philox stream ---------------------------------------- */

typedef struct rt_cpi_rng {
    uint64_t seed, stream, index;
    uint32_t words[4];
    int left;
} rt_cpi_rng;

rt_cpi_rng rt_cpi_rng_new(uint64_t seed, uint64_t stream);
double rt_cpi_unit(rt_cpi_rng *rng); /* [0, 1), 53 bits */
int64_t rt_cpi_binomial(rt_cpi_rng *rng, int64_t count, double probability);
/* How often each of `kinds` outcomes came up in `count` draws; what is left of 1 is not kept. */
void rt_cpi_multinomial(rt_cpi_rng *rng, int64_t count, const double *probability, int kinds,
                        int64_t *out);
double rt_cpi_beta(rt_cpi_rng *rng, double a, double b); /* a, b at least 1 */

/* One 32-bit word; inline, for the chain takes one for each decision. */
static inline uint32_t rt_cpi_word(rt_cpi_rng *rng)
{
    if (rng->left == 0) {
        rt_philox(rng->seed, rng->stream, rng->index++, rng->words);
        rng->left = 4;
    }
    return rng->words[--rng->left];
}

/* ---- statistics ---------------------------------------------------------------------------- */

typedef struct rt_cpi_mean {
    double mean, error; /* error: standard error of the mean */
} rt_cpi_mean;
rt_cpi_mean rt_cpi_mean_of(const double *values, int count); /* count at least 2 */
double rt_cpi_slope(const double *x, const double *y, int count); /* least squares */
/* Two-sided 95 % point of Student's t with `freedom` degrees of freedom. */
double rt_cpi_t95(int freedom);

/* ---- a finite Markov decision process, solved exactly --------------------------------------- */

#define RT_CPI_STATES_MAX 64
#define RT_CPI_ACTIONS_MAX 8

/*
 * States are numbered in the order of their layers. Only the last layer pays: 1 with probability
 * reward[s][y], else 0; so the return after (s, y) is 1 with probability Q(s, y), else 0.
 */
typedef struct rt_cpi_mdp {
    int states, actions, horizon;
    int layer[RT_CPI_STATES_MAX];
    double next[RT_CPI_STATES_MAX][RT_CPI_ACTIONS_MAX][RT_CPI_STATES_MAX];
    double reward[RT_CPI_STATES_MAX][RT_CPI_ACTIONS_MAX];
} rt_cpi_mdp; /* starts in state 0 */

typedef struct rt_cpi_policy {
    double of[RT_CPI_STATES_MAX][RT_CPI_ACTIONS_MAX];
} rt_cpi_policy;

typedef struct rt_cpi_values {
    double v[RT_CPI_STATES_MAX];
    double q[RT_CPI_STATES_MAX][RT_CPI_ACTIONS_MAX];
    double d[RT_CPI_STATES_MAX]; /* law of a uniformly random step of a rollout; sums to 1 */
} rt_cpi_values;

/*
 * The chain: a rollout runs in a plain lane where no action matters; with probability p it stands
 * in the one improvable state when it comes to the middle layer. There, action 0 succeeds with
 * 1/2 + tau and every other so often that the uniform policy succeeds with 1/2; the outcome then
 * waits for the end. The plain lane pays with 1/2 (noisy) or never (quiet).
 */
void rt_cpi_chain(rt_cpi_mdp *mdp, double p, int horizon, int actions, double tau, bool noisy);
int rt_cpi_chain_state(const rt_cpi_mdp *mdp); /* the improvable one */
void rt_cpi_uniform(const rt_cpi_mdp *mdp, rt_cpi_policy *policy);
/* Returns the expected return J; values may be NULL. */
double rt_cpi_evaluate(const rt_cpi_mdp *mdp, const rt_cpi_policy *policy, rt_cpi_values *values);
/* in[s] = whether some action of s has an advantage of tau or more; returns their share of d. */
double rt_cpi_improvable(const rt_cpi_mdp *mdp, const rt_cpi_values *values, double tau, bool *in);
/* out = (1 − step)·policy + step·(always action[s]) where only[s] (NULL: everywhere). */
void rt_cpi_mix(const rt_cpi_mdp *mdp, const rt_cpi_policy *policy, const int *action,
                const bool *only, double step, rt_cpi_policy *out);

/* ---- estimates of the policy advantage ------------------------------------------------------- */

/*
 * Where reset states come from, with weights w(s) that sum to 1. A sample is a state s ~ w, an
 * action y uniform over all, and the return r of the rest under the policy; it enters the
 * estimate for a policy π' with |Y|·(π'(y|s) − π(y|s))·r.
 */
typedef struct rt_cpi_law {
    const rt_cpi_mdp *mdp;
    const rt_cpi_policy *policy;
    double win[RT_CPI_STATES_MAX * RT_CPI_ACTIONS_MAX]; /* P(s, y, r = 1), by state then action */
    double advantage[RT_CPI_STATES_MAX][RT_CPI_ACTIONS_MAX]; /* w(s)·(Q(s, y) − V(s)), exact */
} rt_cpi_law;
/* in NULL: w = d (random resets); else w = d given `in` (the oracle). */
void rt_cpi_law_init(rt_cpi_law *law, const rt_cpi_mdp *mdp, const rt_cpi_policy *policy,
                     const rt_cpi_values *values, const bool *in);

typedef struct rt_cpi_estimate {
    double error;     /* largest |estimate − truth| over all deterministic policies */
    double advantage; /* estimate for the policy that maximises it */
    int action[RT_CPI_STATES_MAX]; /* that policy */
} rt_cpi_estimate;
void rt_cpi_estimate_draw(const rt_cpi_law *law, int64_t samples, rt_cpi_rng *rng,
                          rt_cpi_estimate *out);

/* ---- policy gradients on a chain of decisions ------------------------------------------------ */

enum rt_cpi_method { RT_CPI_GRPO, RT_CPI_GRPO_4_4, RT_CPI_RRPO, RT_CPI_SRPO, RT_CPI_CARO,
                     RT_CPI_METHODS };
const char *rt_cpi_method_name(enum rt_cpi_method method);

typedef struct rt_cpi_task {
    int decisions, actions;
    int problems;    /* groups of 8 trained sequences in a step */
    double base;     /* share of right trajectories before training */
    enum rt_cpi_method method;
    double rate;     /* learning rate */
} rt_cpi_task;

typedef struct rt_cpi_training rt_cpi_training;
rt_cpi_training *rt_cpi_training_new(const rt_cpi_task *task, uint64_t seed);
void rt_cpi_training_step(rt_cpi_training *training);
double rt_cpi_training_accuracy(const rt_cpi_training *training); /* exact */
/* Probability that the decision is right, now. */
double rt_cpi_training_right(const rt_cpi_training *training, int decision);
int64_t rt_cpi_training_sampled(const rt_cpi_training *training); /* decisions sampled so far */
int64_t rt_cpi_training_trained(const rt_cpi_training *training); /* sequences trained so far */
void rt_cpi_training_free(rt_cpi_training **training);
/* out[i] = (reward[i] − mean)/deviation of the group (ddof 0); 0 where all are equal. */
void rt_cpi_advantages(const double *reward, int count, double *out);

/* ---- the two experiments ------------------------------------------------------------------ */

typedef struct rt_cpi_options {
    uint64_t seed;
    int actions, horizon; /* actions 0: the experiment's own default */
    bool quick;
    rt_buf *csv, *svg;
} rt_cpi_options;
int rt_cpi_rates(const rt_cpi_options *options, rt_error *err);
int rt_cpi_tabular(const rt_cpi_options *options, rt_error *err);

#endif
