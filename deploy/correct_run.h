/*
 * The driver of iterative correction: many problems in flight, each at its own place in the loop.
 *
 * Threading: one thread drives. What a problem gets is a function of the seed and its number alone,
 * not of slots, threads or what else is in flight.
 */
#ifndef RT_CORRECT_RUN_H
#define RT_CORRECT_RUN_H

#include "deploy/correct.h"
#include "deploy/eval_run.h"

/* Calls of the model and tokens it wrote, by what they were for. */
typedef struct correct_cost {
    int64_t sample_calls, verify_calls, localize_calls;
    int64_t first_tokens, resample_tokens, judge_tokens;
    int64_t unfit; /* judgements whose prompt does not fit the context; they count as unparseable */
} correct_cost;

typedef struct correct_outcome {
    correct_state state; /* as it ended */
    correct_cost cost;
    json_t *attempts; /* with run->traced: every chain and what was said of it */
} correct_outcome;

typedef struct correct_run {
    eval_run eval; /* problems; its temperature is that of the first chains */
    correct_settings settings;
    double resample_temperature, judge_temperature;
    int judge_tokens; /* a judgement may have so many */
    bool traced;
    /* results */
    correct_outcome *outcomes; // (eval.count) those of problems left out stay empty
    double seconds;
} correct_run;

/* Runs the loop for every problem that eval_problems listed. RT_ERR_STOPPED after a signal. */
int correct_answers(correct_run *run, rt_error *err);
void correct_run_free(correct_run *run); /* the results alone; also after a failure */

#endif
