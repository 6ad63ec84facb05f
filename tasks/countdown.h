/* countdown: a target from numbers, each used once, with + - and *. Problem, solver, rule of
 * answers. */
#ifndef RT_TASKS_COUNTDOWN_H
#define RT_TASKS_COUNTDOWN_H

#include "tasks/grade.h"

/* 256^7 is 2^56: nothing that can be made of the numbers leaves an int64. */
enum { RT_COUNTDOWN_NUMBERS_MAX = 7, RT_COUNTDOWN_NUMBER_MAX = 255 };

/* "3,5,7>22" */
typedef struct rt_countdown {
    int count, numbers[RT_COUNTDOWN_NUMBERS_MAX], target;
} rt_countdown;
bool rt_countdown_parse(const char *text, rt_countdown *problem);

/* Grade of an expression over + - * and brackets: RT_CORRECT if it has the target's value and every
 * number once; RT_UNDECIDED if other signs are in it. It may be followed by "= target". */
int rt_countdown_compare(const rt_countdown *problem, rt_text expression);

typedef struct rt_countdown_step {
    int64_t left, right, result;
    char op;
} rt_countdown_step;
int64_t rt_countdown_apply(char op, int64_t left, int64_t right);

/* Can the target be made of all the numbers? Exact with least and most at ±INT64_MAX; else every
 * value on the way lies between them. steps: count - 1 of them, which make it; NULL: not asked for.
 */
bool rt_countdown_solve(const int64_t *numbers, int count, int64_t target, int64_t least,
                        int64_t most, rt_countdown_step *steps);

#endif
