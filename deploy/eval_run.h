/* The driver of an evaluation: problems through the engine, answers graded. */
#ifndef RT_EVAL_RUN_H
#define RT_EVAL_RUN_H

#include "deploy/cli.h"
#include "deploy/eval.h"
#include "tasks/tasks.h"

/* One held-out problem and its answers. */
typedef struct eval_item {
    rt_problem problem;
    int32_t *ids;             /* (ids_count) prompt */
    size_t ids_count;
    bool left_out;            /* its prompt does not fit the context */
    eval_sample *samples;     // (K)
    uint8_t *grades;          // (K) enum rt_grade
    int64_t tokens, thoughts; /* of all answers */
    int cut;                  /* answers that ran out of tokens, thoughts or context */
} eval_item;

typedef struct eval_run {
    const rt_config *config;
    const rt_taskset *tasks;
    const cli_model *model;
    const atomic_bool *stop;
    int k;
    double temperature;
    uint64_t seed;
    int slots;
    bool plain;               /* without thoughts: no caps on them, ends at the end token */
    /* results */
    rt_arena *arena;
    eval_item *items;         // (count)
    int count, left_out;
    double seconds;
    int64_t tokens;           /* generated */
} eval_run;

/* Lists the problems: `limit` of each task, 0 = all of a data file and eval.problems of a generated
 * task. */
int eval_problems(eval_run *run, int64_t limit, rt_error *err);
/* Generates and grades all; progress on stderr. RT_ERR_STOPPED after a signal. */
int eval_answers(eval_run *run, rt_error *err);
void eval_run_free(eval_run *run);

/* An engine for run->slots sequences of up to `each` tokens (the context bounds them). Its cache has
 * at most 2 GiB, more only where one sequence needs it; sequences wait for room then. */
int eval_engine_new(rt_engine **engine, const eval_run *run, int64_t each, rt_error *err);
/* How answers are sampled: run->temperature, the config's caps. */
rt_sampling eval_sampling(const eval_run *run, int task);
/* Tokens of the answer without its end token. */
int eval_ids_count(const rt_arch *arch, const rt_completion *completion);

/* Progress on stderr: a live line on a terminal, else a line every few seconds. */
typedef struct eval_progress {
    int64_t started_ns, shown_ns;
    bool live;
} eval_progress;
void eval_progress_begin(eval_progress *progress);
/* begun: of what is not done, how much is, in units of what is counted; for the time left. */
void eval_progress_show(eval_progress *progress, int64_t done, int64_t wanted, const char *what,
                        double begun, int64_t correct, int64_t tokens, bool last);
/* Seconds it took; ends the line when the work was not done to its end. */
double eval_progress_end(const eval_progress *progress, bool whole);

#endif
