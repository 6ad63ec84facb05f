/*
 * internal: what the files of tasks/ share and nobody outside sees: records of data files, the
 * chain task, prompt templates.
 */
#ifndef RT_TASKS_INTERNAL_H
#define RT_TASKS_INTERNAL_H

#include "tasks/tasks.h"

/* Streams of the counter-based generator; a task adds the hash of its name. */
enum {
    RT_STREAM_SPLIT = 0x5450,
    RT_STREAM_EPOCH,
    RT_STREAM_MIX,
    RT_STREAM_CHAIN,
    RT_STREAM_FACTS,
    RT_STREAM_TEACHER,
    RT_STREAM_LOCALIZE,
    RT_STREAM_FORK,
    RT_STREAM_LETTERS,
    RT_STREAM_PUZZLE,
    RT_STREAM_DEBATE,
    RT_STREAM_BATCH,
    RT_STREAM_WINDOW,
};

/* NULL and "" both mean: not set. */
static inline bool rt_text_set(const char *text)
{
    return text && text[0];
}

/* ---- order of training ------------------------------------------------------------------- */

#define RT_NOTHING_TO_TRAIN \
    "no task has problems left for training; lower eval_share, or give a task a weight above 0"

/* Shares by mixing.strategy (of gradient: by weight), in no unit; factor: what part of its weight or
 * quota a task has now, 0: it is out. */
void rt_mix_shares(const rt_config *config, const int64_t *sizes, const double *factor,
                   double *shares);
/* Task at a place of the cycles and how many of its problems came before it. */
int rt_taskset_place(const rt_taskset *set, uint64_t cursor, uint64_t *before);
/* How many problems of each task stand before a place. */
void rt_taskset_drawn(const rt_taskset *set, uint64_t cursor, int64_t drawn[RT_TASKS_MAX]);
/* Index of problem `number` of a task's seeded epochs. */
int64_t rt_taskset_pick(const rt_taskset *set, int task, int64_t number);
/* Problem `number` of a step, out of `width` problems from `first` on; within a step no problem comes
 * again before all have come. */
int64_t rt_taskset_pick_of(const rt_taskset *set, int task, int64_t step, int64_t number,
                           int64_t first, int64_t width);
/* order = a permutation of 0..count−1, of the step. */
void rt_taskset_shuffle(const rt_taskset *set, int64_t step, uint32_t *order, uint32_t count);

/* ---- records of a data file -------------------------------------------------------------- */

typedef struct rt_record {
    char *problem, *gold;
    char *solution; /* in thoughts, or NULL */
    int64_t line;   /* where the record begins, from 1 */
} rt_record;

typedef struct rt_records {
    rt_record *items;
    int64_t count, capacity;
    const char *form;   /* gsm8k | svamp | plain */
    const char *grader; /* the configured one, else the form's own */
} rt_records;

int rt_records_load(rt_records *records, const rt_task_config *task, const char *delimiter,
                    rt_error *err);
/* The same on text in memory; `from` names it in errors. */
int rt_records_parse(rt_records *records, const char *text, size_t bytes, const char *from,
                     const rt_task_config *task, const char *delimiter, rt_error *err);
void rt_records_free(rt_records *records);
/* first[i]: the first record with the same problem as record i, which may be itself. */
void rt_records_first(const rt_records *records, uint32_t *first);

/* ---- prompts ----------------------------------------------------------------------------- */

bool rt_grader_known(const char *grader);
#define RT_GRADER_NAMES "exact, number, choice, yesno, math, steps, countdown, code"
/* Is this a list of tests that the grader code can read? The sentence says what is wrong. */
int rt_code_gold_check(const char *gold, rt_error *err);
/* Built-in template of a data task: closed steps and a boxed answer of the grader's kind. */
char *rt_prompt_builtin(const char *grader, const char *delimiter);
typedef struct rt_prompt_text {
    const char *name, *text;
} rt_prompt_text;
extern const rt_prompt_text rt_prompt_texts[];
extern const int rt_prompt_texts_count;
/* The buffer's text, moved into the arena. */
const char *rt_arena_keep(rt_buf *buf, rt_arena *arena);
/* For a judge's prompt: is the task generated, the delimiter, the template. */
bool rt_taskset_judging(const rt_taskset *set, int task, int kind, const char **delimiter,
                        const char **template);

const char *rt_prompt_apply(const char *template, const char *problem, rt_arena *arena);

/* Lines of a worked solution as thoughts: calculator marks removed, every line closed by the
 * delimiter, the last one holding \boxed{gold} unless a box is there already. rt_free it. */
char *rt_solution_thoughts(const char *solution, size_t bytes, const char *gold,
                           const char *delimiter);

/* A worked solution that is a program: one thought, in a fence unless it has one. rt_free it. */
char *rt_solution_program(const char *solution, const char *delimiter);

/* ---- chain ------------------------------------------------------------------------------- */

enum { RT_CHAIN_THOUGHTS_MAX = 64, RT_CHAIN_MODULUS_MAX = 1000, RT_CHAIN_KINDS_MAX = 26 };

/* op: + - * of chain; fork also has ^ (at least), _ (at most) and ? (an easy step, operand its letter). */
typedef struct rt_chain_step {
    char op;
    int operand;
} rt_chain_step;

/* One problem: start, then steps, evaluated from left to right modulo `modulus`. */
typedef struct rt_chain_problem {
    int modulus, start, count;
    rt_chain_step steps[RT_CHAIN_THOUGHTS_MAX];
} rt_chain_problem;

typedef struct rt_chain {
    int modulus, thoughts_min, thoughts_max;
    char operations[4];                     /* each of + - * at most once */
    rt_chain_step kinds[RT_CHAIN_KINDS_MAX]; /* every (operation, operand) there is */
    int kinds_count;
    int facts_count;                        /* modulus × kinds_count */
    uint32_t *fact_rank;                    /* seeded order: the first facts are the wrong ones */
    uint64_t seed, stream;                  /* stream: hash of the task's name */
} rt_chain;

bool rt_chain_is(const char *task_name);
int rt_chain_init(rt_chain *chain, const rt_task_config *task, uint64_t seed, rt_error *err);
void rt_chain_free(rt_chain *chain);
int rt_chain_draw(const rt_chain *chain, int split, uint64_t index, rt_chain_problem *problem,
                  rt_error *err);
int rt_chain_apply(int modulus, int value, rt_chain_step step);
/* "7+5*3", with "%m" behind it where the modulus is not 10, so that the text says it all. */
const char *rt_chain_text(const rt_chain_problem *problem, rt_arena *arena);
bool rt_chain_parse(const char *text, rt_chain_problem *problem);
/* results[i] = what thought i states; the last thought also holds the boxed answer. */
const char *rt_chain_solution(const rt_chain_problem *problem, const int *results,
                              const char *delimiter, rt_arena *arena);
int rt_chain_first_wrong(const rt_chain_problem *problem, const char *const *thoughts, int count);
void rt_chain_results(const rt_chain_problem *problem, int *results);

/* Digits at *text, at most seven; moves behind them. */
bool rt_read_number(const char **text, int *value);
void rt_skip_space(const char **text);

/* Careless teacher: fills results, returns the first wrong thought (from 1) or 0. */
int rt_chain_teach(const rt_chain *chain, const rt_config *config, const rt_chain_problem *problem,
                   uint64_t cursor, int *results);
void rt_chain_localize(const rt_chain *chain, const rt_config *config,
                       const rt_chain_problem *problem, uint64_t cursor, rt_arena *arena,
                       rt_example *example);
/* Example of a debate's later round in the compact form of debate/debate.h: question, in half of them an
 * own solution, answers of up to three peers, all by the careless teacher; then a solution. Where the right
 * answer was among those said, three in four times the right one, else again the careless teacher's. */
void rt_chain_debate(const rt_chain *chain, const rt_config *config, const rt_chain_problem *problem,
                     uint64_t cursor, const char *delimiter, rt_arena *arena, rt_example *example);

/* ---- fork -------------------------------------------------------------------------------- */

enum { RT_FORK_KINDS_MAX = 45, RT_FORK_FILLER_MAX = 64 };

typedef struct rt_fork {
    int modulus, thoughts_min, thoughts_max, decisive, filler;
    bool dead_ends;
    bool every_step; /* grader steps: right are only chains without any error */
    double slip, hard;
    rt_chain_step kinds[RT_FORK_KINDS_MAX]; /* every decisive (operation, operand) there is */
    int exact_kinds, kinds_count;           /* the first ones can be undone, the rest merge values */
    int facts_count;                        /* modulus × kinds_count */
    int64_t hard_facts;
    uint32_t *fact_rank;                    /* seeded order: the first facts are the hard ones */
    uint64_t seed, stream;
} rt_fork;

bool rt_fork_is(const char *task_name);
int rt_fork_init(rt_fork *fork, const rt_task_config *task, uint64_t seed, rt_error *err);
void rt_fork_free(rt_fork *fork);
int rt_fork_draw(const rt_fork *fork, int split, uint64_t index, rt_chain_problem *problem,
                 rt_error *err);
int rt_fork_apply(int modulus, int value, rt_chain_step step);
void rt_fork_step_print(rt_chain_step step, rt_buf *out);
/* Every step with its result, "7+5=2 2+k=2", also of chain: what the grader steps wants. */
void rt_fork_steps(const rt_chain_problem *problem, const int *results, rt_buf *out);
const char *rt_fork_text(const rt_chain_problem *problem, rt_arena *arena);
bool rt_fork_parse(const char *text, rt_chain_problem *problem);
/* Thought i as a line without box and delimiter; its letters are those of `cursor`. */
void rt_fork_line(const rt_fork *fork, const rt_chain_problem *problem, int i, int value, int result,
                  uint64_t cursor, rt_buf *out);
const char *rt_fork_solution(const rt_fork *fork, const rt_chain_problem *problem,
                             const int *results, uint64_t cursor, const char *delimiter,
                             rt_arena *arena);
void rt_fork_results(const rt_chain_problem *problem, int *results);
int rt_fork_first_wrong(const rt_chain_problem *problem, const char *const *thoughts, int count);

/* How the teacher decides at a value: it errs with this probability; *wrong is the one result it
 * then states, or -1: any of the others alike. */
double rt_fork_slip(const rt_fork *fork, int value, rt_chain_step step, int *wrong);
int rt_fork_teach(const rt_fork *fork, const rt_chain_problem *problem, uint64_t cursor,
                  int *results);
void rt_fork_localize(const rt_fork *fork, const rt_config *config,
                      const rt_chain_problem *problem, uint64_t cursor, rt_arena *arena,
                      rt_example *example);
/* Probability that the teacher, going on from these thoughts, ends at the right answer. */
double rt_fork_value(const rt_fork *fork, const rt_chain_problem *problem,
                     const char *const *thoughts, int count);

#endif
