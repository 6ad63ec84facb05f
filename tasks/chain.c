/*
 * chain: the built-in generated task. A problem is a row of operations, worked from left to right
 * modulo a small number, one operation a thought. Every operation can be undone modulo m
 * (multipliers are units), so a wrong value stays wrong until another mistake hits it: the first
 * error decides.
 */
#include "tasks/internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Draws that may miss the wanted split before the set is called too small; each hits the held-out
 * tenth with probability about 0.1, so 2000 misses in a row (0.9^2000) mean that it is empty. */
enum { DRAWS_MAX = 2000, HELD_OUT_OF = 10 };

bool rt_chain_is(const char *task_name)
{
    return task_name && (!strcmp(task_name, "chain") || !strncmp(task_name, "chain_", 6));
}

static int divisor(int a, int b)
{
    while (b) {
        int rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static int add_kinds(rt_chain *chain, const char *name, rt_error *err)
{
    for (const char *op = chain->operations; *op; op++) {
        for (int operand = *op == '*' ? 2 : 1; operand <= 9; operand++) {
            if (*op == '*' && divisor(operand, chain->modulus) != 1) {
                continue;
            }
            chain->kinds[chain->kinds_count++] = (rt_chain_step){*op, operand};
        }
    }
    if (!chain->kinds_count) {
        return rt_fail(err, RT_ERR_USAGE,
                       "task %s: no multiplier from 2 to 9 is a unit modulo %d; add + or - to its "
                       "operations", name, chain->modulus);
    }
    return RT_OK;
}

int rt_chain_init(rt_chain *chain, const rt_task_config *task, uint64_t seed, rt_error *err)
{
    *chain = (rt_chain){.seed = seed, .stream = rt_hash64(task->name, strlen(task->name), 0)};
    if (task->modulus < 2 || task->modulus > RT_CHAIN_MODULUS_MAX) {
        return rt_fail(err, RT_ERR_USAGE, "task %s: modulus %lld is outside 2 to %d", task->name,
                       (long long)task->modulus, RT_CHAIN_MODULUS_MAX);
    }
    if (task->thoughts_min < 1 || task->thoughts_max > RT_CHAIN_THOUGHTS_MAX ||
        task->thoughts_min > task->thoughts_max) {
        return rt_fail(err, RT_ERR_USAGE,
                       "task %s: thoughts %lld to %lld is no range within 1 to %d", task->name,
                       (long long)task->thoughts_min, (long long)task->thoughts_max,
                       RT_CHAIN_THOUGHTS_MAX);
    }
    const char *operations = rt_text_set(task->operations) ? task->operations : "+-*";
    int count = 0;
    for (const char *op = operations; *op; op++) {
        if (!strchr("+-*", *op) || strchr(chain->operations, *op)) {
            return rt_fail(err, RT_ERR_USAGE,
                           "task %s: operations \"%s\" must name each of + - * at most once",
                           task->name, operations);
        }
        chain->operations[count++] = *op;
    }
    chain->modulus = (int)task->modulus;
    chain->thoughts_min = (int)task->thoughts_min;
    chain->thoughts_max = (int)task->thoughts_max;
    int code = add_kinds(chain, task->name, err);
    if (code) {
        return code;
    }
    chain->facts_count = chain->modulus * chain->kinds_count;
    uint32_t *order = rt_alloc((size_t)chain->facts_count * sizeof *order);
    chain->fact_rank = rt_alloc((size_t)chain->facts_count * sizeof *chain->fact_rank);
    rt_permutation(seed, chain->stream + RT_STREAM_FACTS, order, (uint32_t)chain->facts_count);
    for (int i = 0; i < chain->facts_count; i++) {
        chain->fact_rank[order[i]] = (uint32_t)i;
    }
    rt_free(order);
    return RT_OK;
}

void rt_chain_free(rt_chain *chain)
{
    rt_free(chain->fact_rank);
    *chain = (rt_chain){0};
}

int rt_chain_apply(int modulus, int value, rt_chain_step step)
{
    int64_t result = step.op == '+'   ? (int64_t)value + step.operand
                     : step.op == '-' ? (int64_t)value - step.operand
                                      : (int64_t)value * step.operand;
    result %= modulus;
    return (int)(result < 0 ? result + modulus : result);
}

static void print(const rt_chain_problem *problem, rt_buf *out)
{
    rt_buf_addf(out, "%d", problem->start);
    for (int i = 0; i < problem->count; i++) {
        rt_buf_addf(out, "%c%d", problem->steps[i].op, problem->steps[i].operand);
    }
    if (problem->modulus != 10) {
        rt_buf_addf(out, "%%%d", problem->modulus);
    }
}

const char *rt_chain_text(const rt_chain_problem *problem, rt_arena *arena)
{
    rt_buf text = {0};
    print(problem, &text);
    return rt_arena_keep(&text, arena);
}

static void draw_once(const rt_chain *chain, uint64_t stream, uint64_t at,
                      rt_chain_problem *problem)
{
    uint32_t range = (uint32_t)(chain->thoughts_max - chain->thoughts_min + 1);
    uint32_t operations = (uint32_t)strlen(chain->operations);
    problem->modulus = chain->modulus;
    problem->count = chain->thoughts_min + (int)rt_below(chain->seed, stream, at, range);
    problem->start = (int)rt_below(chain->seed, stream, at + 1, (uint32_t)chain->modulus);
    for (int i = 0; i < problem->count; i++) {
        uint64_t place = at + 2 + 2 * (uint64_t)i;
        char op = chain->operations[rt_below(chain->seed, stream, place, operations)];
        int first = 0, of_op = 0;
        for (int k = 0; k < chain->kinds_count; k++) {
            if (chain->kinds[k].op == op) {
                first = of_op++ ? first : k;
            }
        }
        /* Without any unit the multiplication falls back to the operations there are. */
        problem->steps[i] =
            of_op ? chain->kinds[first + (int)rt_below(chain->seed, stream, place + 1,
                                                       (uint32_t)of_op)]
                  : chain->kinds[rt_below(chain->seed, stream, place + 1,
                                          (uint32_t)chain->kinds_count)];
    }
}

/* The split belongs to the text alone, not to the run's seed: a text that was ever trained on is
 * never evaluated on, in any run. */
static int split_of(const rt_chain_problem *problem)
{
    rt_buf text = {0};
    print(problem, &text);
    uint64_t hash = rt_hash64(text.data, text.bytes, 0);
    rt_buf_free(&text);
    return hash % HELD_OUT_OF == 0 ? RT_EVAL : RT_TRAIN;
}

int rt_chain_draw(const rt_chain *chain, int split, uint64_t index, rt_chain_problem *problem,
                  rt_error *err)
{
    for (uint64_t attempt = 0; attempt < DRAWS_MAX; attempt++) {
        uint64_t stream = chain->stream + RT_STREAM_CHAIN + attempt * 0x9E3779B97F4A7C15u;
        uint64_t at = (2 * index + (uint64_t)split) * 256;
        draw_once(chain, stream, at, problem);
        if (split_of(problem) == split) {
            return RT_OK;
        }
    }
    return rt_fail(err, RT_ERR_USAGE,
                   "task chain: so few problems of %d to %d thoughts modulo %d exist that none is "
                   "%s; allow more thoughts or operations",
                   chain->thoughts_min, chain->thoughts_max, chain->modulus,
                   split == RT_EVAL ? "held out" : "left for training");
}

void rt_chain_results(const rt_chain_problem *problem, int *results)
{
    int value = problem->start;
    for (int i = 0; i < problem->count; i++) {
        value = results[i] = rt_chain_apply(problem->modulus, value, problem->steps[i]);
    }
}

const char *rt_chain_solution(const rt_chain_problem *problem, const int *results,
                              const char *delimiter, rt_arena *arena)
{
    rt_buf text = {0};
    int value = problem->start;
    for (int i = 0; i < problem->count; i++) {
        rt_buf_addf(&text, "%d%c%d=%d", value, problem->steps[i].op, problem->steps[i].operand,
                    results[i]);
        if (i == problem->count - 1) {
            rt_buf_addf(&text, "\\boxed{%d}", results[i]);
        }
        rt_buf_addf(&text, "%s", delimiter);
        value = results[i];
    }
    return rt_arena_keep(&text, arena);
}

/* ---- reading text back ------------------------------------------------------------------- */

bool rt_read_number(const char **text, int *value)
{
    int digits = 0;
    *value = 0;
    while (isdigit((unsigned char)**text) && digits < 7) {
        *value = *value * 10 + (*(*text)++ - '0');
        digits++;
    }
    return digits > 0 && !isdigit((unsigned char)**text);
}

void rt_skip_space(const char **text)
{
    *text += strspn(*text, " \t\r\n");
}

bool rt_chain_parse(const char *text, rt_chain_problem *problem)
{
    *problem = (rt_chain_problem){.modulus = 10};
    rt_skip_space(&text);
    if (!strncmp(text, "Q:", 2)) {
        text += 2;
    }
    if (!rt_read_number(&text, &problem->start)) {
        return false;
    }
    while (*text && strchr("+-*", *text)) {
        if (problem->count == RT_CHAIN_THOUGHTS_MAX) {
            return false;
        }
        rt_chain_step *step = &problem->steps[problem->count++];
        step->op = *text++;
        if (!rt_read_number(&text, &step->operand)) {
            return false;
        }
    }
    if (*text == '%') {
        text++;
        if (!rt_read_number(&text, &problem->modulus) || problem->modulus < 2) {
            return false;
        }
    }
    rt_skip_space(&text);
    return !*text && problem->count > 0;
}

/* One thought: "value op operand=result", the last one also \boxed{result}. */
static bool thought_right(const char *text, const rt_chain_problem *problem, int i, int value,
                          int *result)
{
    int left, operand, boxed;
    rt_skip_space(&text);
    if (!rt_read_number(&text, &left) || *text++ != problem->steps[i].op ||
        !rt_read_number(&text, &operand) || *text++ != '=' || !rt_read_number(&text, result)) {
        return false;
    }
    if (left != value || operand != problem->steps[i].operand ||
        *result != rt_chain_apply(problem->modulus, value, problem->steps[i])) {
        return false;
    }
    rt_skip_space(&text);
    if (!strncmp(text, "\\boxed{", 7)) {
        text += 7;
        if (i != problem->count - 1 || !rt_read_number(&text, &boxed) || *text++ != '}' ||
            boxed != *result) {
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

int rt_chain_first_wrong(const rt_chain_problem *problem, const char *const *thoughts, int count)
{
    /* What stands behind the last delimiter is often nothing. */
    while (count > 0 && !thoughts[count - 1][strspn(thoughts[count - 1], " \t\r\n")]) {
        count--;
    }
    int value = problem->start;
    for (int i = 0; i < count; i++) {
        if (i >= problem->count || !thought_right(thoughts[i], problem, i, value, &value)) {
            return i + 1;
        }
    }
    return 0;
}
