/*
 * puzzle: what the generated tasks countdown, sort, path and table share. A kind draws problems as
 * text, writes the thoughts of a teacher and checks thoughts; this part does the rest: splits,
 * filler, delimiters, slips, localization examples, taking thoughts apart.
 *
 * A problem is its text: solver and oracle read it back and know nothing else.
 */
#ifndef RT_TASKS_PUZZLE_H
#define RT_TASKS_PUZZLE_H

#include "tasks/internal.h"

enum {
    RT_PUZZLE_THOUGHTS_MAX = 16,
    RT_PUZZLE_LINE_MAX = 96,
    RT_PUZZLE_TEXT_MAX = 512,
};

struct rt_puzzle_kind;

typedef struct rt_puzzle {
    const struct rt_puzzle_kind *kind; /* NULL: the task is another one */
    int thoughts_min, thoughts_max, modulus, size, filler;
    double slip, hard;
    uint64_t seed, stream;
} rt_puzzle;

/* Random numbers of one draw, one after another. */
typedef struct rt_dice {
    uint64_t seed, stream, at;
} rt_dice;

static inline int rt_dice_below(rt_dice *dice, int bound)
{
    return (int)rt_below(dice->seed, dice->stream, dice->at++, (uint32_t)bound);
}

/* When the teacher errs. Without a puzzle it never does and is the solver. */
typedef struct rt_slips {
    const rt_puzzle *puzzle;
    uint64_t cursor;
    int only;  /* at this thought (from 0) and no other; −1: as the settings say */
    int first; /* first thought with a slip, from 1; 0: none */
} rt_slips;

/* Does the teacher err at this thought? `fact` is what it has to know there ("7+5"). *which tells
 * apart its errors; for a hard fact it is always the same. The caller must then state an error. */
bool rt_slips_now(rt_slips *slips, int thought, const char *fact, uint32_t *which);
/* Another number than the right one, not below 0, near to it. */
int64_t rt_wrong_number(int64_t right, uint32_t which);

/* Thoughts as a teacher writes them, without filler, box and delimiter; the last is boxed. */
typedef struct rt_puzzle_lines {
    int count;
    char text[RT_PUZZLE_THOUGHTS_MAX][RT_PUZZLE_LINE_MAX];
    char answer[RT_PUZZLE_LINE_MAX];
} rt_puzzle_lines;

/* A thought taken apart. */
typedef struct rt_puzzle_said {
    char line[RT_PUZZLE_LINE_MAX], box[RT_PUZZLE_LINE_MAX];
    bool boxed;
} rt_puzzle_said;

typedef struct rt_puzzle_kind {
    const char *name, *grader;
    bool open; /* many answers are right: gold is the problem, the grader checks */
    int thoughts_most, modulus_most, size_most;
    /* What is wrong with settings that are each in range, for an error; NULL: nothing. */
    const char *(*refuses)(const rt_puzzle *puzzle);
    /* The text of a problem whose solution has this many thoughts; false: this draw is none. */
    bool (*draw)(const rt_puzzle *puzzle, int thoughts, rt_dice *dice, rt_buf *text);
    /* False: the text is no problem of this kind, or it has no solution. */
    bool (*teach)(const char *text, rt_slips *slips, rt_puzzle_lines *lines);
    /* First wrong thought from 1, 0: none; −1: the text is no problem of this kind. */
    int (*first_wrong)(const char *text, const rt_puzzle_said *said, int count);
} rt_puzzle_kind;

extern const rt_puzzle_kind rt_puzzle_countdown, rt_puzzle_sort, rt_puzzle_path, rt_puzzle_table;

/* The kind of a task of this name ("sort", "sort_2"), or NULL. */
const rt_puzzle_kind *rt_puzzle_kind_of(const char *task_name);
int rt_puzzle_init(rt_puzzle *puzzle, const rt_puzzle_kind *kind, const rt_task_config *task,
                   uint64_t seed, rt_error *err);
/* Fills problem, gold and solution. */
int rt_puzzle_get(const rt_puzzle *puzzle, int split, uint64_t index, const char *delimiter,
                  rt_arena *arena, rt_problem *problem, rt_error *err);
/* The careless teacher's solution, and a localization example made from one with an error. */
const char *rt_puzzle_taught(const rt_puzzle *puzzle, const char *text, uint64_t cursor,
                             const char *delimiter, rt_arena *arena);
void rt_puzzle_localize(const rt_puzzle *puzzle, const rt_config *config, const char *text,
                        uint64_t cursor, rt_arena *arena, rt_example *example);
int rt_puzzle_first_wrong(const rt_puzzle_kind *kind, const char *problem,
                          const char *const *thoughts, int count);

/* Is the box the number as it is written in a solution, which the grader asks for? */
bool rt_box_holds(const rt_puzzle_said *said, int number);
/* "a+b=c" up to the end of the text. */
bool rt_read_sum(const char *text, int *a, int *b, int *c);
/* Numbers with a comma between two of them; how many, −1: not of that form, or more than most. */
int rt_read_list(const char **text, int *numbers, int most);

#endif
