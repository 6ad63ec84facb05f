/*
 * tasks: problems with checkable answers: data files, built-in generated tasks with exact
 * step-by-step solutions, prompts, thoughts on text level, graders. Knows no model, no messages.
 *
 * Threading: an rt_taskset is read-only after loading and may be shared. Graders are re-entrant,
 * bounded in time and memory on any input, and never fail: what they can't decide is RT_UNDECIDED.
 * The grader `code` starts a child process for each test and waits for it (tasks/sandbox.h).
 */
#ifndef RT_TASKS_H
#define RT_TASKS_H

#include "base/base.h"
#include "base/config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- problems ---------------------------------------------------------------------------------- */

enum rt_split { RT_TRAIN, RT_EVAL };

/* One problem. Strings live as long as the arena given to rt_problem_get. */
typedef struct rt_problem {
    uint64_t id;          /* task index << 48 | split << 47 | index within the split */
    int task;             /* index into the set */
    const char *task_name;
    const char *problem;  /* the bare problem text */
    const char *prompt;   /* what the model sees: template applied */
    const char *gold;     /* the answer to check against */
    const char *solution; /* worked solution in thoughts (each ends in the delimiter), or NULL */
    const char *grader;
    int64_t line;         /* of its record in the data file; 0: generated */
} rt_problem;

/* The task in a problem's id. */
static inline int rt_problem_task(uint64_t id)
{
    return (int)(id >> 48);
}

typedef struct rt_taskset rt_taskset;
/* Loads every entry of config->tasks. Errors name file and line. Split train/eval by (seed, record
 * index), copies of a problem as the first of them; generated tasks draw disjoint problem texts for the
 * two splits (by hash of the text). */
int rt_taskset_load(rt_taskset **set, const rt_config *config, rt_error *err);
void rt_taskset_free(rt_taskset **set);
int rt_taskset_tasks(const rt_taskset *set);
const char *rt_taskset_name(const rt_taskset *set, int task);
/* Number of problems of a split; generated tasks: a large constant. */
int64_t rt_taskset_count(const rt_taskset *set, int task, int split);
/* Problem `index` of a split; a function of (set, seed, task, split, index) only. */
int rt_problem_get(const rt_taskset *set, int task, int split, int64_t index, rt_arena *arena,
                   rt_problem *problem, rt_error *err);
/* Problem number `cursor` of training at the shares with which the mixture begins (mixing.strategy,
 * without windows and `once`; gradient: by weight), records in seeded epochs; a function of (seed,
 * cursor). A run takes its problems from tasks/mix.h. */
int rt_problem_next(const rt_taskset *set, int64_t cursor, rt_arena *arena, rt_problem *problem,
                    rt_error *err);

/* Are the problems of a task made, not read from a file? */
bool rt_taskset_generated(const rt_taskset *set, int task);

/* ---- prompt templates --------------------------------------------------------------------------- */

/* A built-in text by the name of its file in prompts/; asking for another is a programmer error. */
const char *rt_prompt_text_find(const char *name);
/* What an answer is to be, for a template: "a single number without units". */
const char *rt_answer_form(const char *grader);
/* Reads a template file; it must hold `place` ("{problem}"). rt_free *template. */
int rt_prompt_load(char **template, const char *path, const char *place, rt_error *err);
/* Replaces every place in one pass: what is filled in is not looked at again. */
typedef struct rt_fill {
    const char *place, *value;
} rt_fill;
void rt_prompt_fill(rt_buf *out, const char *template, const rt_fill *fills, int count);

/* ---- contamination: held-out problems that are trained on ---------------------------------------- */

/* Adds the normal form of a problem's text: case folded, white space between words as one space. Two
 * problems with the same form count as one. */
void rt_problem_normal(const char *text, rt_buf *out);

typedef struct rt_overlap {
    int64_t held_out;  /* problems of data files that were looked at */
    int64_t count;     /* of them, trained on as well */
    char example[512]; /* "test.jsonl:3 is train.jsonl:17"; "" = none */
} rt_overlap;
/* Held-out problems of one config's data files among the training problems of another's (or the same
 * one's). Generated tasks keep their splits apart by themselves and are not looked at. */
int rt_overlap_count(const rt_config *held_config, const rt_taskset *held,
                     const rt_config *trained_config, const rt_taskset *trained,
                     rt_overlap *overlap, rt_error *err);
/* The rule eval.contamination of a run: RT_ERR_USAGE where it says refuse and there is an overlap;
 * off, or no evaluation: nothing is counted. */
int rt_contamination_check(const rt_config *config, const rt_taskset *set, rt_overlap *overlap,
                           rt_error *err);
bool rt_contamination_is(const rt_config *config, const char *what); /* refuse, warn or off */

/* ---- careless teachers and localization examples of generated tasks (warm start) -------------------- */

/* A supervised example: prompt, completion and, per completion byte span, a loss weight. */
typedef struct rt_example {
    const char *prompt, *completion;
    /* spans of the completion (bytes) with weight ≠ 1; spans_count of them, ascending */
    struct rt_span { int begin, end; double weight; } spans[64];
    int spans_count;
} rt_example;
/* Example number `cursor` of supervised training: the tasks' own solutions. For `chain`:
 * sft.wrong_facts of the 210 facts (seeded) have one fixed wrong result which the solutions state with
 * probability sft.wrong_share; with probability `localize` the example is a localization one (problem and
 * numbered lines in, each line copied with y or n up to the first n, then \boxed{k}), and of the rest
 * sft.debate_share are a debate's later rounds in compact form (debate/debate.h), whose completions are
 * right more often than the answers quoted. `fork`: the
 * errors are those its own knobs slip and hard describe, and a judged line holds the right result and the
 * stated one, "7+5=2,3n". The other generated
 * tasks: with the errors of slip and hard, too. */
int rt_example_next(const rt_taskset *set, const rt_config *config, int64_t cursor, double localize,
                    rt_arena *arena, rt_example *example, rt_error *err);

/* ---- graders -------------------------------------------------------------------------------------- */

enum rt_grade { RT_UNDECIDED = 0, RT_WRONG = 1, RT_CORRECT = 2 };
const char *rt_grade_name(int grade);

typedef struct rt_verdict {
    int grade;            /* enum rt_grade */
    double reward;        /* [0, 1]; undecided: 0 */
    char extracted[256];  /* what was taken as the answer, cut; "" = nothing found */
    char detail[256];     /* what failed, where the grader says it (code); else "" */
} rt_verdict;

/* grader: exact | number | choice | yesno | math | steps | countdown | code. Unknown name: RT_ERR_USAGE.
 * `code` runs the response as a program and takes up to a minute; the others take no time. */
int rt_grade_response(const char *grader, const char *response, size_t response_bytes,
                      const char *gold, rt_verdict *verdict, rt_error *err);
/* The same, undecided within a tenth of a second once *stop is true. */
int rt_grade_until(const char *grader, const char *response, size_t response_bytes,
                   const char *gold, const atomic_bool *stop, rt_verdict *verdict, rt_error *err);
/* Can this grader judge on this machine? RT_ERR_STATE and a sentence where `code` finds no Python or
 * the kernel refuses the sandbox (its grades are undecided then); the others always can. */
int rt_grader_ready(const char *grader, rt_error *err);
/* The same for the graders of all tasks of a config; RT_ERR_USAGE. */
int rt_graders_ready(const rt_config *config, rt_error *err);
/* Content of the last (or first) \boxed{…}, braces balanced; false: none that is complete. */
bool rt_boxed_last(const char *text, size_t bytes, const char **begin, size_t *content_bytes);
bool rt_boxed_first(const char *text, size_t bytes, const char **begin, size_t *content_bytes);

/* ---- judgements of a chain ---------------------------------------------------------------------- */

/* The first wrong thought a localization names, unclamped, 0 = "no error found". SRPO's order: the
 * last complete \boxed{integer} of 0..thoughts, else the last "Step <int>" if within 1..thoughts, else
 * 1 and *failed. Never fails on any bytes; `failed` is worth counting: such a reset starts over. */
int rt_localize_parse(const char *text, size_t bytes, int thoughts, bool *failed);
/* Thought-ICS's order: the same box, else the first integer of the text if within 1..thoughts, else
 * max(1, thoughts / 2) and *failed. */
int rt_ics_localize_parse(const char *text, size_t bytes, int thoughts, bool *failed);
/* Into 1..thoughts: what a reset can use. */
int rt_localize_clamp(int value, int thoughts);

enum rt_verify { RT_VERIFY_UNDECIDED = -1, RT_VERIFY_NO = 0, RT_VERIFY_YES = 1 };
/* YES or NO in the last complete box, else a lone yes or a lone no in the text, else undecided.
 * as_released: as the Thought-ICS release runs: no box at all is NO, and so is what is undecided. */
int rt_verify_parse(const char *text, size_t bytes, bool as_released);

/* What a judge reads, as raw text; no chat template is put around it. Generated tasks: the compact
 * form of their warm-start data, "Q:…\n1:…\n…\nL:" (verification ends in "V:", which nothing teaches
 * yet), `answer` unused. Other tasks: a template, those of prompts.localize and prompts.verify if set.
 * thoughts: with or without delimiter and space at their ends. */
enum rt_judge {
    RT_JUDGE_LOCALIZE_L1, /* answer = the gold one, shown */
    RT_JUDGE_LOCALIZE_L2, /* told that the chain is wrong */
    RT_JUDGE_LOCALIZE_L3, /* told nothing; may say 0 */
    RT_JUDGE_VERIFY,      /* answer NULL: the chain's own, from its last box */
    RT_JUDGE_VERIFY_STEP, /* the last of the thoughts, given those before it */
    RT_JUDGE_QUOTE,       /* copies the first wrong words; thoughts unnumbered, also of generated tasks */
    RT_JUDGE_KINDS
};
const char *rt_judge_prompt(const rt_taskset *set, int kind, const rt_problem *problem,
                            const char *const *thoughts, int count, const char *answer,
                            rt_arena *arena);
/* L1 with a gold answer, else L2. */
const char *rt_localize_prompt(const rt_taskset *set, const rt_problem *problem,
                               const char *const *thoughts, int count, const char *gold_or_null,
                               rt_arena *arena);
const char *rt_verify_prompt(const rt_taskset *set, const rt_problem *problem,
                             const char *const *thoughts, int count, rt_arena *arena);

/* Exact probability that the careless teacher of a `fork` task, going on from these thoughts, ends at
 * the right answer (0 or 1 behind a box); −1: the task is no fork. */
double rt_oracle_value(const rt_taskset *set, const rt_problem *problem, const char *const *thoughts,
                       int count);
/* Exact first wrong thought (from 1) of a response to a problem of the built-in task of this name; 0:
 * none is wrong; −1: the task has no oracle. thoughts: text split at the delimiter. */
int rt_oracle_first_wrong(const char *name, const char *problem, const char *const *thoughts, int count);

#ifdef __cplusplus
}
#endif
#endif
