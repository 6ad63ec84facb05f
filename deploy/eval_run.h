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

#endif
