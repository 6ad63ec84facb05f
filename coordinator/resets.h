/*
 * resets: plans that go back into a failed rollout and sample its rest again. The outcome of a step
 * is that of the sequential rule of Samanta et al. 2026 in the order of trajectory ids, whatever
 * the order in which results arrive.
 *
 * Sample numbers of a problem: fresh rollouts from 0, continuations from 32, localizations from 64.
 * A reset state has the id of its first continuation.
 */
#ifndef RT_COORDINATOR_RESETS_H
#define RT_COORDINATOR_RESETS_H

#include "coordinator/internal.h"

#define RT_FRESH_SAMPLES 32
#define RT_CONTINUATIONS_FIRST 32
#define RT_CONTINUATIONS 32
#define RT_LOCALIZE_FIRST 64
#define RT_STATES_MAX 4 /* reset states of one problem in one step */
#define RT_RESET_DRAW (UINT64_C(1) << 40) /* index of a random reset: beyond any token's */

/* ---- the rule (reset_rule.c): pure ----------------------------------------------------------- */

typedef struct rt_fresh { /* a fresh rollout as the rule sees it */
    bool known, zero, ok; /* zero: without any thought */
} rt_fresh;

enum rt_fresh_role { RT_FRESH_OPEN, RT_FRESH_BASE, RT_FRESH_SEED, RT_FRESH_DISCARDED };

typedef struct rt_rule {
    int role[RT_FRESH_SAMPLES];
    int seed[2], seeds; /* numbers of the failed rollouts, in order */
    int base;           /* how many are trained */
    int walked;         /* fresh rollouts that the sequential rule would have sampled */
    int wanted;         /* fresh rollouts that should be out by now */
    bool done, fallback; /* fallback: too few failures, one plain group */
} rt_rule;
void rt_rule_apply(const rt_reset_settings *settings, const rt_fresh fresh[RT_FRESH_SAMPLES],
                   int issued, rt_rule *rule);
/* Index into the response where thought `thought` (from 1) begins. */
uint32_t rt_reset_cut(const int32_t *ends, uint32_t thoughts, int thought);

/* ---- states and plans ------------------------------------------------------------------------ */

enum rt_fallback {
    RT_FALL_NONE,
    RT_FALL_PARSE,        /* the localization can't be read */
    RT_FALL_NONE_WRONG,   /* it, or the oracle, finds no wrong thought */
    RT_FALL_LOCALIZE,     /* it could not be sampled */
    RT_FALL_NO_ORACLE,    /* the task has none */
    RT_FALL_NO_ROOM,      /* the prefix leaves no room */
    RT_FALL_CONTINUATION, /* its continuations could not be sampled */
    RT_FALLS
};
const char *rt_fallback_name(int fallback);

typedef struct rt_reset_state {
    uint64_t id, parent; /* trajectory it lies on */
    uint64_t problem;
    int64_t step;
    int index;                 /* of the problem in the step */
    int thought, thoughts;     /* continues in place of this one (from 1), of so many */
    int oracle;                /* first wrong thought; 0: none, −1: unknown */
    int chosen_by, fallback;
    bool known, parent_ok;     /* `thought` is decided */
    bool joins;                /* nothing is kept: continuations belong to the base group */
    int parsed;                /* the localization's answer before the clamp */
    uint64_t localization;     /* trajectory; 0: none */
    char *output;              /* its text, in the plan's arena */
    const rt_sample *seed;     /* NULL: the prompt itself */
    const rt_job *seed_job;
    rt_prefix prefix;
    rt_job *job; /* continuations; NULL: not yet */
    double gain;
    char why[160];
} rt_reset_state;

typedef struct rt_reset_problem {
    rt_problem problem;
    rt_job *first; /* the first fresh job: prompt and answer */
    rt_job *fresh_job[RT_FRESH_SAMPLES];
    rt_sample *fresh[RT_FRESH_SAMPLES];
    int issued, states_count, zero_thoughts;
    bool failed;
    rt_rule rule;
    rt_reset_state states[RT_STATES_MAX];
} rt_reset_problem;

typedef struct rt_reset_plan {
    bool caro, chosen; /* caro: the step's states are chosen */
    int count, continuations;
    rt_reset_problem *problems; // (count)
} rt_reset_plan;

/* plan_reset.c */
uint64_t rt_reset_trajectory(const rt_plan *plan, int problem, int sample);
void rt_resets_continue(rt_coordinator *co, rt_plan *plan, rt_reset_state *state, int thought);
void rt_resets_give_up(rt_plan *plan, rt_reset_problem *problem);

/* resets.c */
rt_reset_state *rt_reset_state_new(const rt_plan *plan, int problem, const rt_job *job,
                                   const rt_sample *seed);
int rt_reset_successes(const rt_reset_state *state, int *visits);
const char *rt_chosen_name(int chosen_by);

/* localization.c */
/* Who names the thought; continues at once where that is known. */
void rt_localize(rt_coordinator *co, rt_plan *plan, rt_reset_state *state);
void rt_localize_done(rt_coordinator *co, rt_job *job);
void rt_localize_record(rt_coordinator *co, const rt_reset_state *state);
int rt_reset_oracle(rt_coordinator *co, const rt_reset_problem *problem, const rt_sample *sample);

/* ---- plan_caro.c ----------------------------------------------------------------------------- */

void rt_caro_choose(rt_coordinator *co, rt_plan *plan);
/* Expected gain of `count` continuations where the chance of success is Beta(a, b). */
double rt_caro_gain(double a, double b, int count);

#endif
