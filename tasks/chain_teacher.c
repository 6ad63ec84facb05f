/*
 * chain_teacher: the careless teacher of `chain`, who believes some wrong facts and states them now
 * and then, and localization examples made from its chains. A model trained on both knows the right
 * result and the wrong one, which is what finding one's own errors needs.
 */
#include "tasks/internal.h"

#include <math.h>
#include <string.h>

static int fact_of(const rt_chain *chain, int value, rt_chain_step step)
{
    for (int k = 0; k < chain->kinds_count; k++) {
        if (chain->kinds[k].op == step.op && chain->kinds[k].operand == step.operand) {
            return value * chain->kinds_count + k;
        }
    }
    RT_ASSERT(!"a step of a drawn problem is one of the task's kinds");
    return 0;
}

static int wrong_result(const rt_chain *chain, int right, uint64_t stream, uint64_t index)
{
    uint32_t others = (uint32_t)chain->modulus - 1;
    return (right + 1 + (int)rt_below(chain->seed, stream, index, others)) % chain->modulus;
}

int rt_chain_teach(const rt_chain *chain, const rt_config *config, const rt_chain_problem *problem,
                   uint64_t cursor, int *results)
{
    uint64_t stream = chain->stream + RT_STREAM_TEACHER;
    int64_t wrong_facts = llround(config->sft.wrong_facts * chain->facts_count);
    int value = problem->start, first = 0;
    for (int i = 0; i < problem->count; i++) {
        int fact = fact_of(chain, value, problem->steps[i]);
        int result = rt_chain_apply(chain->modulus, value, problem->steps[i]);
        uint64_t place = cursor * RT_CHAIN_THOUGHTS_MAX + (uint64_t)i;
        if (chain->fact_rank[fact] < wrong_facts &&
            rt_uniform(chain->seed, stream, place) < config->sft.wrong_share) {
            result = wrong_result(chain, result, chain->stream + RT_STREAM_FACTS,
                                  (1ull << 32) + (uint64_t)fact);
            first = first ? first : i + 1;
        }
        value = results[i] = result;
    }
    return first;
}

/* A chain without a mistake gets one at a drawn place; what follows is right again from there. */
static int spoil(const rt_chain *chain, const rt_chain_problem *problem, uint64_t cursor,
                 int *results)
{
    uint64_t stream = chain->stream + RT_STREAM_LOCALIZE;
    int at = (int)rt_below(chain->seed, stream, 2 * cursor, (uint32_t)problem->count);
    results[at] = wrong_result(chain, results[at], stream, 2 * cursor + 1);
    for (int i = at + 1; i < problem->count; i++) {
        results[i] = rt_chain_apply(chain->modulus, results[i - 1], problem->steps[i]);
    }
    return at + 1;
}

void rt_chain_localize(const rt_chain *chain, const rt_config *config,
                       const rt_chain_problem *problem, uint64_t cursor, rt_arena *arena,
                       rt_example *example)
{
    int results[RT_CHAIN_THOUGHTS_MAX];
    int first = rt_chain_teach(chain, config, problem, cursor, results);
    if (!first) {
        first = spoil(chain, problem, cursor, results);
    }
    rt_buf prompt = {0}, completion = {0};
    rt_buf_addf(&prompt, "Q:%s\n", rt_chain_text(problem, arena));
    example->spans_count = 0;
    int value = problem->start;
    for (int i = 0; i < problem->count; i++) {
        char line[64];
        snprintf(line, sizeof line, "%d:%d%c%d=%d", i + 1, value, problem->steps[i].op,
                 problem->steps[i].operand, results[i]);
        rt_buf_addf(&prompt, "%s\n", line);
        if (i < first) {
            rt_buf_addf(&completion, "%s", line);
            int at = (int)completion.bytes;
            example->spans[example->spans_count++] =
                (struct rt_span){at, at + 1, config->sft.verdict_weight};
            rt_buf_addf(&completion, "%c\n", i == first - 1 ? 'n' : 'y');
        }
        value = results[i];
    }
    rt_buf_addf(&prompt, "L:");
    rt_buf_addf(&completion, "\\boxed{%d}", first);
    example->prompt = rt_arena_keep(&prompt, arena);
    example->completion = rt_arena_keep(&completion, arena);
}

/* ---- debate ----------------------------------------------------------------------------------- */

enum { DEBATE_PEERS_MAX = 3 };

/* The careless teacher again, independent of what it says elsewhere: who = 0, 1, … */
static int say(const rt_chain *chain, const rt_config *config, const rt_chain_problem *problem,
               uint64_t cursor, uint64_t who, int *results)
{
    rt_chain_teach(chain, config, problem, (1ull << 48) + cursor * 8 + who, results);
    return results[problem->count - 1];
}

void rt_chain_debate(const rt_chain *chain, const rt_config *config, const rt_chain_problem *problem,
                     uint64_t cursor, const char *delimiter, rt_arena *arena, rt_example *example)
{
    int results[RT_CHAIN_THOUGHTS_MAX], right[RT_CHAIN_THOUGHTS_MAX];
    uint64_t stream = chain->stream + RT_STREAM_DEBATE;
    rt_chain_results(problem, right);
    int answer = right[problem->count - 1];
    bool known = false;
    rt_buf prompt = {0};
    rt_buf_addf(&prompt, "Q:%s\n", rt_chain_text(problem, arena));
    if (rt_below(chain->seed, stream, 4 * cursor, 2)) {
        known = say(chain, config, problem, cursor, 0, results) == answer;
        rt_buf_addf(&prompt, "%s\n", rt_chain_solution(problem, results, delimiter, arena));
    }
    /* Two peers most often; none of them in one of sixteen, as when nobody answers. */
    uint32_t drawn = rt_below(chain->seed, stream, 4 * cursor + 1, 16);
    int peers = drawn == 0 ? 0 : drawn < 4 ? 1 : drawn < 12 ? 2 : DEBATE_PEERS_MAX;
    rt_buf_addf(&prompt, peers ? "P:" : "P:-");
    for (int i = 0; i < peers; i++) {
        int said = say(chain, config, problem, cursor, 1 + (uint64_t)i, results);
        rt_buf_addf(&prompt, "%s%d", i ? "," : "", said);
        known = known || said == answer;
    }
    rt_buf_addf(&prompt, "\n");
    say(chain, config, problem, cursor, 1 + DEBATE_PEERS_MAX, results);
    bool careful = known && rt_below(chain->seed, stream, 4 * cursor + 2, 4) > 0;
    example->spans_count = 0;
    example->prompt = rt_arena_keep(&prompt, arena);
    example->completion = rt_chain_solution(problem, careful ? right : results, delimiter, arena);
}
