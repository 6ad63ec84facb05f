/*
 * mix: which problems a step trains on. By mixing.strategy each task has a share of every batch; by
 * its window it comes, grows, fades and goes; a task without problems left or with nothing but
 * undecided answers is out, and its share goes to the others.
 *
 * A step's problems are a function of the seed, the config and what was noted of the steps that are
 * at least run.staleness + 1 before it: told the same again, a new rt_mix gives the same problems.
 *
 * Threading: an rt_mix belongs to one thread. It borrows the set and the config.
 */
#ifndef RT_TASKS_MIX_H
#define RT_TASKS_MIX_H

#include "tasks/tasks.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rt_mix rt_mix;

typedef struct rt_mix_place {
    int task;
    int64_t index; /* of the training split */
} rt_mix_place;

enum rt_mix_state {
    RT_MIX_IN,
    RT_MIX_OFF,       /* weight 0 */
    RT_MIX_EARLY,     /* before window.from */
    RT_MIX_OVER,      /* from window.to on */
    RT_MIX_DRY,       /* no problems: none at all, or `once` and all were given */
    RT_MIX_UNDECIDED, /* its grader judged no answer of mixing.undecided_steps steps */
    RT_MIX_STATES
};

int rt_mix_new(rt_mix **mix, const rt_taskset *set, const rt_config *config, rt_error *err);
void rt_mix_free(rt_mix **mix);

/* What came of a step, by task: graded answers, and those that were undecided. */
void rt_mix_note_grades(rt_mix *mix, int64_t step, const int64_t *answers, const int64_t *undecided);
/* Strategy gradient: estimates of the squared gradient norm by task, below 0 where noise makes them
 * so; NaN: not measured. */
void rt_mix_note_norms(rt_mix *mix, int64_t step, const double *squared);

/* places[i] = problem i of the step, algorithm.problems of them. Steps may be asked for in any order;
 * in ascending order each costs the same. RT_ERR_INPUT: the tasks that are in can't fill the step. */
int rt_mix_step(rt_mix *mix, int64_t step, rt_mix_place *places, rt_error *err);
/* Can every step below `steps` be filled, as far as windows and `once` say? Looks at the first
 * million. RT_ERR_USAGE: no. */
int rt_mix_check(rt_mix *mix, int64_t steps, rt_error *err);

/* Of a task in the step asked for last. */
int rt_mix_state_of(const rt_mix *mix, int task);    /* enum rt_mix_state */
int64_t rt_mix_undecided(const rt_mix *mix, int task); /* how many of its steps were only that, in a row */

#ifdef __cplusplus
}
#endif
#endif
