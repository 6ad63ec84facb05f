/*
 * fork: a generated task to measure credit assignment on. Like `chain` a row of operations, of which
 * only some thoughts decide: the others add a letter, which is worth nothing, and every thought may end
 * in freely chosen letters without meaning. With dead ends a wrong value stays wrong; without them half
 * of the decisive steps raise to at least (^) or lower to at most (_) a number, which makes wrong and
 * right values meet again.
 */
#include "tasks/internal.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

/* As for chain: 0.9^2000 that a split which is not empty is missed so often. */
enum { DRAWS_MAX = 2000, HELD_OUT_OF = 10, PLACES = 256 };

bool rt_fork_is(const char *task_name)
{
    return task_name && (!strcmp(task_name, "fork") || !strncmp(task_name, "fork_", 5));
}

static bool is_unit(int factor, int modulus)
{
    int a = factor, b = modulus;
    while (b) {
        int rest = a % b;
        a = b;
        b = rest;
    }
    return a == 1;
}

static void add_kinds(rt_fork *fork, const char *operations)
{
    for (const char *op = operations; *op; op++) {
        for (int operand = *op == '*' ? 2 : 1; operand <= 9; operand++) {
            if (*op != '*' || is_unit(operand, fork->modulus)) {
                fork->kinds[fork->kinds_count++] = (rt_chain_step){*op, operand};
            }
        }
    }
    fork->exact_kinds = fork->kinds_count;
    for (int operand = 1; !fork->dead_ends && operand <= RT_MIN(9, fork->modulus - 1); operand++) {
        fork->kinds[fork->kinds_count++] = (rt_chain_step){'^', operand};
        fork->kinds[fork->kinds_count++] = (rt_chain_step){'_', operand};
    }
}

/* Each sign at most once: that bounds the kinds. */
static bool signs_once(const char *operations)
{
    for (const char *op = operations; *op; op++) {
        if (!strchr("+-*", *op) || strchr(op + 1, *op)) {
            return false;
        }
    }
    return true;
}

static int check(const rt_task_config *task, const char *operations, rt_error *err)
{
    const char *name = task->name;
    if (task->modulus < 2 || task->modulus > RT_CHAIN_MODULUS_MAX) {
        return rt_fail(err, RT_ERR_USAGE, "task %s: modulus %lld is outside 2 to %d", name,
                       (long long)task->modulus, RT_CHAIN_MODULUS_MAX);
    }
    if (task->thoughts_min < 1 || task->thoughts_max > RT_CHAIN_THOUGHTS_MAX ||
        task->thoughts_min > task->thoughts_max) {
        return rt_fail(err, RT_ERR_USAGE,
                       "task %s: thoughts %lld to %lld is no range within 1 to %d", name,
                       (long long)task->thoughts_min, (long long)task->thoughts_max,
                       RT_CHAIN_THOUGHTS_MAX);
    }
    if (task->decisive < 0 || task->decisive > task->thoughts_min) {
        return rt_fail(err, RT_ERR_USAGE, "task %s: %lld decisive thoughts do not fit into a problem "
                       "of %lld; raise thoughts_min", name, (long long)task->decisive,
                       (long long)task->thoughts_min);
    }
    if (task->filler < 0 || task->filler > RT_FORK_FILLER_MAX) {
        return rt_fail(err, RT_ERR_USAGE, "task %s: filler %lld is outside 0 to %d", name,
                       (long long)task->filler, RT_FORK_FILLER_MAX);
    }
    if (!(task->slip >= 0 && task->slip <= 1) || !(task->hard >= 0 && task->hard <= 1) ||
        (task->hard > 0 && task->slip > task->hard)) {
        return rt_fail(err, RT_ERR_USAGE, "task %s: a share of %g hard facts can't bring errors to %g "
                       "of all choices; slip may be at most hard", name, task->hard, task->slip);
    }
    if (!signs_once(operations)) {
        return rt_fail(err, RT_ERR_USAGE,
                       "task %s: operations \"%s\" must name each of + - * at most once", name,
                       operations);
    }
    return RT_OK;
}

int rt_fork_init(rt_fork *fork, const rt_task_config *task, uint64_t seed, rt_error *err)
{
    const char *operations = rt_text_set(task->operations) ? task->operations : "+-*";
    int code = check(task, operations, err);
    if (code) {
        return code;
    }
    *fork = (rt_fork){
        .modulus = (int)task->modulus, .thoughts_min = (int)task->thoughts_min,
        .thoughts_max = (int)task->thoughts_max, .decisive = (int)task->decisive,
        .filler = (int)task->filler, .dead_ends = task->dead_ends, .slip = task->slip,
        .hard = task->hard, .seed = seed,
        .every_step = rt_text_set(task->grader) && !strcmp(task->grader, "steps"),
        .stream = rt_hash64(task->name, strlen(task->name), 0)};
    add_kinds(fork, operations);
    if (!fork->exact_kinds) {
        return rt_fail(err, RT_ERR_USAGE,
                       "task %s: no multiplier from 2 to 9 is a unit modulo %d; add + or - to its "
                       "operations", task->name, fork->modulus);
    }
    fork->facts_count = fork->modulus * fork->kinds_count;
    fork->hard_facts = (int64_t)ceil(fork->hard * fork->facts_count);
    uint32_t *order = rt_alloc((size_t)fork->facts_count * sizeof *order);
    fork->fact_rank = rt_alloc((size_t)fork->facts_count * sizeof *fork->fact_rank);
    rt_permutation(seed, fork->stream + RT_STREAM_FACTS, order, (uint32_t)fork->facts_count);
    for (int i = 0; i < fork->facts_count; i++) {
        fork->fact_rank[order[i]] = (uint32_t)i;
    }
    rt_free(order);
    return RT_OK;
}

void rt_fork_free(rt_fork *fork)
{
    rt_free(fork->fact_rank);
    *fork = (rt_fork){0};
}

int rt_fork_apply(int modulus, int value, rt_chain_step step)
{
    switch (step.op) {
    case '?':
        return value;
    case '^':
        return RT_MAX(value, step.operand % modulus);
    case '_':
        return RT_MIN(value, step.operand % modulus);
    default:
        return rt_chain_apply(modulus, value, step);
    }
}

void rt_fork_results(const rt_chain_problem *problem, int *results)
{
    int value = problem->start;
    for (int i = 0; i < problem->count; i++) {
        value = results[i] = rt_fork_apply(problem->modulus, value, problem->steps[i]);
    }
}

/* ---- drawing ----------------------------------------------------------------------------- */

/* An easy step adds a letter, which is worth nothing: it only tells one place from another. */
void rt_fork_step_print(rt_chain_step step, rt_buf *out)
{
    if (step.op == '?') {
        rt_buf_addf(out, "+%c", 'a' + step.operand);
    } else {
        rt_buf_addf(out, "%c%d", step.op, step.operand);
    }
}

void rt_fork_steps(const rt_chain_problem *problem, const int *results, rt_buf *out)
{
    int value = problem->start;
    for (int i = 0; i < problem->count; value = results[i++]) {
        rt_buf_addf(out, i ? " %d" : "%d", value);
        rt_fork_step_print(problem->steps[i], out);
        rt_buf_addf(out, "=%d", results[i]);
    }
}

static void print(const rt_chain_problem *problem, rt_buf *out)
{
    rt_buf_addf(out, "%d", problem->start);
    for (int i = 0; i < problem->count; i++) {
        rt_fork_step_print(problem->steps[i], out);
    }
    if (problem->modulus != 10) {
        rt_buf_addf(out, "%%%d", problem->modulus);
    }
}

const char *rt_fork_text(const rt_chain_problem *problem, rt_arena *arena)
{
    rt_buf text = {0};
    print(problem, &text);
    return rt_arena_keep(&text, arena);
}

static rt_chain_step draw_decisive(const rt_fork *fork, uint64_t stream, uint64_t place)
{
    int merging = fork->kinds_count - fork->exact_kinds;
    bool merge = merging > 0 && rt_uniform(fork->seed, stream, place) < 0.5;
    uint32_t kinds = (uint32_t)(merge ? merging : fork->exact_kinds);
    int first = merge ? fork->exact_kinds : 0;
    return fork->kinds[first + (int)rt_below(fork->seed, stream, place + 1, kinds)];
}

static void draw_once(const rt_fork *fork, uint64_t stream, uint64_t at, rt_chain_problem *problem)
{
    uint32_t range = (uint32_t)(fork->thoughts_max - fork->thoughts_min + 1);
    problem->modulus = fork->modulus;
    problem->count = fork->thoughts_min + (int)rt_below(fork->seed, stream, at, range);
    problem->start = (int)rt_below(fork->seed, stream, at + 1, (uint32_t)fork->modulus);
    int wanted = fork->decisive ? fork->decisive : problem->count;
    for (int i = 0; i < problem->count; i++) {
        uint64_t place = at + 2 + 3 * (uint64_t)i;
        /* Every set of places is as likely as any other. */
        bool decides = (int)rt_below(fork->seed, stream, place,
                                     (uint32_t)(problem->count - i)) < wanted;
        wanted -= decides;
        problem->steps[i] = decides ? draw_decisive(fork, stream, place + 1)
                                    : (rt_chain_step){'?', (int)rt_below(fork->seed, stream,
                                                                         place + 1, 26)};
    }
}

/* By the text alone, as for chain: held out in every run. */
static int split_of(const rt_chain_problem *problem)
{
    rt_buf text = {0};
    print(problem, &text);
    uint64_t hash = rt_hash64(text.data, text.bytes, 0);
    rt_buf_free(&text);
    return hash % HELD_OUT_OF == 0 ? RT_EVAL : RT_TRAIN;
}

int rt_fork_draw(const rt_fork *fork, int split, uint64_t index, rt_chain_problem *problem,
                 rt_error *err)
{
    for (uint64_t attempt = 0; attempt < DRAWS_MAX; attempt++) {
        uint64_t stream = fork->stream + RT_STREAM_FORK + attempt * 0x9E3779B97F4A7C15u;
        draw_once(fork, stream, (2 * index + (uint64_t)split) * PLACES, problem);
        if (split_of(problem) == split) {
            return RT_OK;
        }
    }
    return rt_fail(err, RT_ERR_USAGE,
                   "task fork: so few problems of %d to %d thoughts modulo %d exist that none is "
                   "%s; allow more thoughts or more decisive ones",
                   fork->thoughts_min, fork->thoughts_max, fork->modulus,
                   split == RT_EVAL ? "held out" : "left for training");
}

/* ---- writing ----------------------------------------------------------------------------- */

void rt_fork_line(const rt_fork *fork, const rt_chain_problem *problem, int i, int value, int result,
                  uint64_t cursor, rt_buf *out)
{
    uint64_t stream = fork->stream + RT_STREAM_LETTERS;
    uint64_t place = (cursor * RT_CHAIN_THOUGHTS_MAX + (uint64_t)i) * RT_FORK_FILLER_MAX;
    rt_buf_addf(out, "%d", value);
    rt_fork_step_print(problem->steps[i], out);
    rt_buf_addf(out, "=%d", result);
    for (int k = 0; k < fork->filler; k++) {
        char letter = (char)('a' + rt_below(fork->seed, stream, place + (uint64_t)k, 26));
        rt_buf_addf(out, k ? "%c" : ";%c", letter);
    }
}

const char *rt_fork_solution(const rt_fork *fork, const rt_chain_problem *problem,
                             const int *results, uint64_t cursor, const char *delimiter,
                             rt_arena *arena)
{
    rt_buf text = {0};
    int value = problem->start;
    for (int i = 0; i < problem->count; i++) {
        rt_fork_line(fork, problem, i, value, results[i], cursor, &text);
        if (i == problem->count - 1) {
            rt_buf_addf(&text, "\\boxed{%d}", results[i]);
        }
        rt_buf_addf(&text, "%s", delimiter);
        value = results[i];
    }
    return rt_arena_keep(&text, arena);
}

/* ---- reading ----------------------------------------------------------------------------- */

static bool read_step(const char **text, rt_chain_step *step)
{
    if (!**text || !strchr("+-*^_", **text)) {
        return false;
    }
    *step = (rt_chain_step){.op = *(*text)++};
    if (step->op == '+' && islower((unsigned char)**text)) {
        *step = (rt_chain_step){'?', *(*text)++ - 'a'};
        return true;
    }
    return rt_read_number(text, &step->operand);
}

bool rt_fork_parse(const char *text, rt_chain_problem *problem)
{
    *problem = (rt_chain_problem){.modulus = 10};
    rt_skip_space(&text);
    if (!strncmp(text, "Q:", 2)) {
        text += 2;
    }
    if (!rt_read_number(&text, &problem->start)) {
        return false;
    }
    while (*text && strchr("+-*^_", *text)) {
        if (problem->count == RT_CHAIN_THOUGHTS_MAX ||
            !read_step(&text, &problem->steps[problem->count++])) {
            return false;
        }
    }
    if (*text == '%') {
        text++;
        if (!rt_read_number(&text, &problem->modulus)) {
            return false;
        }
    }
    rt_skip_space(&text);
    return !*text && problem->count > 0 && problem->modulus >= 2 &&
           problem->modulus <= RT_CHAIN_MODULUS_MAX && problem->start < problem->modulus;
}

/* What a thought states; boxed -1: no box. False: not of the form "value op operand=result". */
static bool read_thought(const char *text, rt_chain_step step, int *value, int *result, int *boxed)
{
    rt_chain_step said;
    *boxed = -1;
    rt_skip_space(&text);
    if (!rt_read_number(&text, value) || !read_step(&text, &said) || said.op != step.op ||
        said.operand != step.operand || *text++ != '=' || !rt_read_number(&text, result)) {
        return false;
    }
    if (*text == ';') {
        text++;
        while (islower((unsigned char)*text)) {
            text++;
        }
    }
    rt_skip_space(&text);
    if (!strncmp(text, "\\boxed{", 7)) {
        text += 7;
        if (!rt_read_number(&text, boxed) || *text++ != '}') {
            return false;
        }
        rt_skip_space(&text);
    }
    if (!strncmp(text, "</thought>", 10)) {
        text += 10;
        rt_skip_space(&text);
    }
    return !*text;
}

/* What stands behind the last delimiter is often nothing. */
static int trim(const char *const *thoughts, int count)
{
    while (count > 0 && !thoughts[count - 1][strspn(thoughts[count - 1], " \t\r\n")]) {
        count--;
    }
    return count;
}

int rt_fork_first_wrong(const rt_chain_problem *problem, const char *const *thoughts, int count)
{
    int value = problem->start;
    count = trim(thoughts, count);
    for (int i = 0; i < count; i++) {
        int left, result, boxed;
        if (i >= problem->count ||
            !read_thought(thoughts[i], problem->steps[i], &left, &result, &boxed) ||
            left != value ||
            result != rt_fork_apply(problem->modulus, value, problem->steps[i]) ||
            (boxed >= 0 && (boxed != result || i != problem->count - 1))) {
            return i + 1;
        }
        value = result;
    }
    return 0;
}

/* values[v] = probability of the right end from v before step i, made from that before step i + 1. */
static void step_back(const rt_fork *fork, const rt_chain_problem *problem, int i, double *values,
                      double *before)
{
    rt_chain_step step = problem->steps[i];
    double sum = 0;
    for (int v = 0; v < problem->modulus; v++) {
        sum += values[v];
    }
    for (int v = 0; v < problem->modulus; v++) {
        int right = rt_fork_apply(problem->modulus, v, step), wrong;
        double slip = step.op == '?' ? 0 : rt_fork_slip(fork, v, step, &wrong);
        before[v] = (1 - slip) * values[right];
        if (slip > 0) {
            before[v] += slip * (wrong >= 0 ? values[wrong]
                                            : (sum - values[right]) / (problem->modulus - 1));
        }
    }
    memcpy(values, before, (size_t)problem->modulus * sizeof *values);
}

/* Under the grader steps: every choice that is left has to be right. */
static double strict_value(const rt_fork *fork, const rt_chain_problem *problem,
                           const char *const *thoughts, int count)
{
    int results[RT_CHAIN_THOUGHTS_MAX], wrong;
    double value = rt_fork_first_wrong(problem, thoughts, count) == 0;
    rt_fork_results(problem, results);
    for (int i = trim(thoughts, count); i < problem->count; i++) {
        rt_chain_step step = problem->steps[i];
        int before = i ? results[i - 1] : problem->start;
        value *= step.op == '?' ? 1 : 1 - rt_fork_slip(fork, before, step, &wrong);
    }
    return value;
}

double rt_fork_value(const rt_fork *fork, const rt_chain_problem *problem,
                     const char *const *thoughts, int count)
{
    if (fork->every_step) {
        return strict_value(fork, problem, thoughts, count);
    }
    int results[RT_CHAIN_THOUGHTS_MAX], value = problem->start, left, boxed = -1;
    rt_fork_results(problem, results);
    int gold = results[problem->count - 1];
    count = trim(thoughts, count);
    /* Only the last thought says where the chain stands; one beyond repair has no good end. */
    if (count > problem->count ||
        (count > 0 && !read_thought(thoughts[count - 1], problem->steps[count - 1], &left, &value,
                                    &boxed)) ||
        value >= problem->modulus) {
        return 0;
    }
    if (boxed >= 0) {
        return boxed == gold;
    }
    double values[RT_CHAIN_MODULUS_MAX] = {0}, before[RT_CHAIN_MODULUS_MAX];
    values[gold] = 1;
    for (int i = problem->count; i-- > count;) {
        step_back(fork, problem, i, values, before);
    }
    return values[value];
}
