/*
 * countdown: make a target of given numbers, each used exactly once, with + - and *: "3,5,7>22". A
 * thought joins two of the numbers there are ("3*5=15"); the answer is an expression, and any right
 * one counts. The teacher errs on results, and in the last thought on the operation.
 */
#include "tasks/countdown.h"
#include "tasks/puzzle.h"

#include <ctype.h>
#include <string.h>

enum { TARGET_DIGITS_MAX = 7, DIGITS_MAX = 17 };

/* What there still is at some point of a solution. */
typedef struct pool {
    int count;
    int64_t values[RT_COUNTDOWN_NUMBERS_MAX];
    char texts[RT_COUNTDOWN_NUMBERS_MAX][RT_PUZZLE_LINE_MAX]; /* as an expression */
    char ops[RT_COUNTDOWN_NUMBERS_MAX];                       /* its last operation, 0: a number */
} pool;

bool rt_countdown_parse(const char *text, rt_countdown *problem)
{
    *problem = (rt_countdown){0};
    problem->count = rt_read_list(&text, problem->numbers, RT_COUNTDOWN_NUMBERS_MAX);
    for (int i = 0; i < problem->count; i++) {
        if (problem->numbers[i] < 1 || problem->numbers[i] > RT_COUNTDOWN_NUMBER_MAX) {
            return false;
        }
    }
    return problem->count >= 2 && *text++ == '>' && rt_read_number(&text, &problem->target) &&
           !*text && problem->target > 0;
}

static void fill(pool *left, const rt_countdown *problem)
{
    *left = (pool){.count = problem->count};
    for (int i = 0; i < problem->count; i++) {
        left->values[i] = problem->numbers[i];
        snprintf(left->texts[i], sizeof left->texts[i], "%d", problem->numbers[i]);
    }
}

/* Place of a value other than `but`, −1: it is not there. */
static int place(const pool *left, int64_t value, int but)
{
    int at = left->count - 1;
    while (at >= 0 && (left->values[at] != value || at == but)) {
        at--;
    }
    return at;
}

static void drop(pool *left, int at)
{
    int last = --left->count;
    left->values[at] = left->values[last];
    left->ops[at] = left->ops[last];
    memmove(left->texts[at], left->texts[last], sizeof left->texts[at]);
}

/* Two values become one. */
static void join(pool *left, int a, int b, char op, int64_t result)
{
    bool open_a = op == '*' && left->ops[a] && left->ops[a] != '*';
    bool open_b = op != '+' && left->ops[b] && left->ops[b] != '*';
    char text[RT_PUZZLE_LINE_MAX];
    int bytes = snprintf(text, sizeof text, "%s%s%s%c%s%s%s", open_a ? "(" : "", left->texts[a],
                         open_a ? ")" : "", op, open_b ? "(" : "", left->texts[b],
                         open_b ? ")" : "");
    RT_ASSERT(bytes < (int)sizeof text); /* 7 numbers of 3 digits, 6 signs, 12 brackets */
    drop(left, RT_MAX(a, b));
    drop(left, RT_MIN(a, b));
    left->values[left->count] = result;
    left->ops[left->count] = op;
    memcpy(left->texts[left->count++], text, sizeof text);
}

/* ---- drawing ----------------------------------------------------------------------------- */

/* Targets and what comes on the way: two digits where the numbers have one. */
static int64_t most_of(int modulus)
{
    return (int64_t)modulus * modulus - 1;
}

static int64_t draw_result(rt_dice *dice, int64_t a, int64_t b, int64_t most, char *op)
{
    *op = "+-*"[rt_dice_below(dice, 3)];
    if (*op == '*' && (a * b > most || a <= 1 || b <= 1)) {
        *op = '+';
    }
    if (*op == '+' && a + b > most) {
        *op = '-';
    }
    return *op == '-' ? RT_MAX(a, b) - RT_MIN(a, b) : rt_countdown_apply(*op, a, b);
}

static bool draw(const rt_puzzle *puzzle, int thoughts, rt_dice *dice, rt_buf *text)
{
    rt_countdown problem = {.count = thoughts + 1};
    pool left;
    for (int i = 0; i < problem.count; i++) {
        problem.numbers[i] = 1 + rt_dice_below(dice, puzzle->modulus - 1);
        rt_buf_addf(text, i ? ",%d" : "%d", problem.numbers[i]);
    }
    fill(&left, &problem);
    while (left.count > 1) {
        char op;
        int a = rt_dice_below(dice, left.count), b = rt_dice_below(dice, left.count - 1);
        b += b >= a;
        int64_t result = draw_result(dice, left.values[a], left.values[b], most_of(puzzle->modulus),
                                     &op);
        join(&left, a, b, op, result);
    }
    rt_buf_addf(text, ">%d", (int)left.values[0]);
    return left.values[0] > 0;
}

/* ---- teacher ----------------------------------------------------------------------------- */

/* The next step to the target from what the teacher believes to have. Where no way leads there any
 * more it adds, and is honest about what comes out. */
static rt_countdown_step next_step(const pool *left, int64_t target, int64_t usual)
{
    rt_countdown_step steps[RT_COUNTDOWN_NUMBERS_MAX];
    if (rt_countdown_solve(left->values, left->count, target, 0, usual, steps) ||
        rt_countdown_solve(left->values, left->count, target, 0, INT64_MAX, steps)) {
        return steps[0];
    }
    int64_t a = left->values[0], b = left->values[1];
    return (rt_countdown_step){a, b, a + b, '+'};
}

static void slip(rt_countdown_step *step, bool last, uint32_t which)
{
    /* The last result is known beforehand: to err is to take an operation that does not give it. */
    for (int i = 0; last && i < 3; i++) {
        char op = "+-*"[(which + (uint32_t)i) % 3];
        if (rt_countdown_apply(op, step->left, step->right) != step->result) {
            step->op = op;
            return;
        }
    }
    step->result = rt_wrong_number(step->result, which);
}

static bool teach(const char *text, rt_slips *slips, rt_puzzle_lines *lines)
{
    rt_countdown problem;
    pool left;
    if (!rt_countdown_parse(text, &problem)) {
        return false;
    }
    int64_t usual = problem.target;
    for (int i = 0; i < problem.count; i++) {
        usual = RT_MAX(usual, most_of(problem.numbers[i] + 1));
    }
    fill(&left, &problem);
    lines->count = 0;
    while (left.count > 1) {
        rt_countdown_step step = next_step(&left, problem.target, usual);
        int a = place(&left, step.left, -1), b = place(&left, step.right, a);
        char fact[RT_PUZZLE_LINE_MAX];
        uint32_t which;
        snprintf(fact, sizeof fact, "%lld%c%lld", (long long)step.left, step.op,
                 (long long)step.right);
        if (rt_slips_now(slips, lines->count, fact, &which)) {
            slip(&step, left.count == 2, which);
        }
        snprintf(lines->text[lines->count++], RT_PUZZLE_LINE_MAX, "%lld%c%lld=%lld",
                 (long long)step.left, step.op, (long long)step.right, (long long)step.result);
        join(&left, a, b, step.op, step.result);
    }
    snprintf(lines->answer, sizeof lines->answer, "%s", left.texts[0]);
    return left.values[0] == problem.target || slips->puzzle;
}

/* ---- oracle ------------------------------------------------------------------------------ */

static bool read_whole(const char **text, int64_t *value)
{
    bool negative = **text == '-';
    int digits = 0;
    *text += negative;
    for (*value = 0; isdigit((unsigned char)**text) && digits < DIGITS_MAX; digits++) {
        *value = *value * 10 + (*(*text)++ - '0');
    }
    *value = negative ? -*value : *value;
    return digits > 0 && !isdigit((unsigned char)**text);
}

static bool read_step(const char *text, rt_countdown_step *step)
{
    if (!read_whole(&text, &step->left) || !*text || !strchr("+-*", *text)) {
        return false;
    }
    step->op = *text++;
    return read_whole(&text, &step->right) && *text++ == '=' && read_whole(&text, &step->result) &&
           !*text;
}

/* Wrong is what is false, what uses a number that is not there, and what leaves no way to the
 * target. */
static int first_wrong(const char *text, const rt_puzzle_said *said, int count)
{
    rt_countdown problem;
    pool left;
    if (!rt_countdown_parse(text, &problem)) {
        return -1;
    }
    fill(&left, &problem);
    for (int i = 0; i < count; i++) {
        rt_countdown_step step;
        if (left.count < 2 || !read_step(said[i].line, &step)) {
            return i + 1;
        }
        int a = place(&left, step.left, -1), b = a < 0 ? -1 : place(&left, step.right, a);
        if (b < 0 || step.result != rt_countdown_apply(step.op, step.left, step.right)) {
            return i + 1;
        }
        join(&left, a, b, step.op, step.result);
        rt_text box = {said[i].box, strlen(said[i].box)};
        if (!rt_countdown_solve(left.values, left.count, problem.target, -INT64_MAX, INT64_MAX,
                                NULL) ||
            (said[i].boxed &&
             (left.count > 1 || rt_countdown_compare(&problem, box) != RT_CORRECT))) {
            return i + 1;
        }
    }
    return 0;
}

const rt_puzzle_kind rt_puzzle_countdown = {
    .name = "countdown",
    .grader = "countdown",
    .open = true,
    .thoughts_most = RT_COUNTDOWN_NUMBERS_MAX - 1,
    .modulus_most = RT_COUNTDOWN_NUMBER_MAX + 1,
    .draw = draw,
    .teach = teach,
    .first_wrong = first_wrong,
};
