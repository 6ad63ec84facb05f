/*
 * fork_teacher: the careless teacher of `fork`. Its errors fall on every decisive choice alike, or all
 * of them on some hard facts: the same number of errors, in places that do or do not repeat.
 */
#include "tasks/internal.h"

#include <string.h>

static int fact_of(const rt_fork *fork, int value, rt_chain_step step)
{
    for (int k = 0; k < fork->kinds_count; k++) {
        if (fork->kinds[k].op == step.op && fork->kinds[k].operand == step.operand) {
            return value * fork->kinds_count + k;
        }
    }
    RT_ASSERT(!"a step of a drawn problem is one of the task's kinds");
    return 0;
}

static int other_than(const rt_fork *fork, int right, uint64_t stream, uint64_t index)
{
    uint32_t others = (uint32_t)fork->modulus - 1;
    return (right + 1 + (int)rt_below(fork->seed, stream, index, others)) % fork->modulus;
}

double rt_fork_slip(const rt_fork *fork, int value, rt_chain_step step, int *wrong)
{
    *wrong = -1;
    if (fork->hard_facts == 0) {
        return fork->slip;
    }
    int fact = fact_of(fork, value, step);
    if (fork->fact_rank[fact] >= fork->hard_facts) {
        return 0;
    }
    *wrong = other_than(fork, rt_fork_apply(fork->modulus, value, step),
                        fork->stream + RT_STREAM_FACTS, (1ull << 32) + (uint64_t)fact);
    return fork->slip * fork->facts_count / (double)fork->hard_facts;
}

int rt_fork_teach(const rt_fork *fork, const rt_chain_problem *problem, uint64_t cursor,
                  int *results)
{
    uint64_t stream = fork->stream + RT_STREAM_TEACHER;
    int value = problem->start, first = 0;
    for (int i = 0; i < problem->count; i++) {
        rt_chain_step step = problem->steps[i];
        int right = rt_fork_apply(problem->modulus, value, step), wrong;
        uint64_t place = 2 * (cursor * RT_CHAIN_THOUGHTS_MAX + (uint64_t)i);
        results[i] = right;
        if (step.op != '?' &&
            rt_uniform(fork->seed, stream, place) < rt_fork_slip(fork, value, step, &wrong)) {
            results[i] = wrong >= 0 ? wrong : other_than(fork, right, stream, place + 1);
            first = first ? first : i + 1;
        }
        value = results[i];
    }
    return first;
}

/* A chain without a mistake gets one at a drawn decisive thought; from there it is right again. */
static int spoil(const rt_fork *fork, const rt_chain_problem *problem, uint64_t cursor,
                 int *results)
{
    uint64_t stream = fork->stream + RT_STREAM_LOCALIZE;
    int decisive = 0, at = 0;
    for (int i = 0; i < problem->count; i++) {
        decisive += problem->steps[i].op != '?';
    }
    int skip = (int)rt_below(fork->seed, stream, 2 * cursor, (uint32_t)decisive);
    while (problem->steps[at].op == '?' || skip-- > 0) {
        at++;
    }
    results[at] = other_than(fork, results[at], stream, 2 * cursor + 1);
    for (int i = at + 1; i < problem->count; i++) {
        results[i] = rt_fork_apply(problem->modulus, results[i - 1], problem->steps[i]);
    }
    return at + 1;
}

/* Each line once more with the right result, the stated one and a verdict. A line merely copied would
 * not do: a model that knows the facts then puts the right result into the wrong line. */
void rt_fork_localize(const rt_fork *fork, const rt_config *config,
                      const rt_chain_problem *problem, uint64_t cursor, rt_arena *arena,
                      rt_example *example)
{
    int results[RT_CHAIN_THOUGHTS_MAX];
    int first = rt_fork_teach(fork, problem, cursor, results);
    if (!first) {
        first = spoil(fork, problem, cursor, results);
    }
    rt_buf prompt = {0}, completion = {0}, line = {0};
    rt_buf_addf(&prompt, "Q:%s\n", rt_fork_text(problem, arena));
    example->spans_count = 0;
    int value = problem->start;
    for (int i = 0; i < problem->count; i++) {
        rt_buf_clear(&line);
        rt_buf_addf(&line, "%d:", i + 1);
        rt_fork_line(fork, problem, i, value, results[i], cursor, &line);
        rt_buf_addf(&prompt, "%s\n", line.data);
        if (i < first) {
            rt_chain_step step = problem->steps[i];
            rt_buf_addf(&completion, "%d:%d", i + 1, value);
            rt_fork_step_print(step, &completion);
            rt_buf_addf(&completion, "=%d,%d", rt_fork_apply(problem->modulus, value, step),
                        results[i]);
            int at = (int)completion.bytes;
            example->spans[example->spans_count++] =
                (struct rt_span){at, at + 1, config->sft.verdict_weight};
            rt_buf_addf(&completion, "%c\n", i == first - 1 ? 'n' : 'y');
        }
        value = results[i];
    }
    rt_buf_free(&line);
    rt_buf_addf(&prompt, "L:");
    rt_buf_addf(&completion, "\\boxed{%d}", first);
    example->prompt = rt_arena_keep(&prompt, arena);
    example->completion = rt_arena_keep(&completion, arena);
}
