/*
 * localization: who says which thought of a failed rollout is the first wrong one: a draw, the
 * model, or the task. Every way of not knowing ends at thought 1 and is counted.
 */
#include <inttypes.h>
#include <string.h>

#include "coordinator/resets.h"

/* Texts of a rollout's thoughts; the last may be what stands behind the last delimiter. */
static int thought_texts(rt_coordinator *co, rt_arena *arena, const rt_sample *sample,
                         const char ***texts)
{
    *texts = rt_arena_alloc(arena, (sample->thoughts + 1) * sizeof **texts);
    const char *delimiter = co->config->thoughts.delimiter;
    size_t delimiter_bytes = delimiter ? strlen(delimiter) : 0;
    int32_t from = 0;
    rt_buf text = {0};
    for (uint32_t i = 0; i < sample->thoughts; i++) {
        rt_buf_clear(&text);
        rt_buf_add(&text, "", 0);
        rt_tokenizer_decode(co->tokenizer, sample->ids + from, (size_t)(sample->ends[i] - from),
                            &text);
        char *end = delimiter_bytes > 0 ? strstr(text.data, delimiter) : NULL;
        size_t bytes = end ? (size_t)(end - text.data) : text.bytes;
        char *copy = rt_arena_alloc(arena, bytes + 1);
        memcpy(copy, text.data, bytes);
        (*texts)[i] = copy;
        from = sample->ends[i];
    }
    rt_buf_free(&text);
    return (int)sample->thoughts;
}

int rt_reset_oracle(rt_coordinator *co, const rt_reset_problem *problem, const rt_sample *sample)
{
    rt_arena *arena = rt_arena_new(1 << 12);
    const char **texts = NULL;
    int count = thought_texts(co, arena, sample, &texts);
    int first = rt_oracle_first_wrong(problem->problem.task_name, problem->problem.problem, texts,
                                      count);
    rt_arena_free(&arena);
    return first;
}

static void settle(rt_coordinator *co, rt_plan *plan, rt_reset_state *state, int named,
                   int fallback)
{
    state->fallback = fallback;
    int thought = rt_localize_clamp(named, state->thoughts);
    thought = (int)RT_MAX((int64_t)thought - co->config->algorithm.resets.offset, 1);
    rt_resets_continue(co, plan, state, thought);
}

/* The model reads the problem and its own thoughts. False: the text is longer than its context. */
static bool ask_model(rt_coordinator *co, rt_plan *plan, rt_reset_state *state)
{
    const rt_reset_problem *problem = &plan->resets->problems[state->index];
    const char **texts = NULL;
    int count = thought_texts(co, plan->arena, state->seed, &texts);
    const char *prompt = rt_localize_prompt(co->tasks, &problem->problem, texts, count, NULL,
                                            plan->arena);
    int32_t *ids = NULL;
    size_t ids_count = 0, capacity = 0;
    rt_error err = {0};
    int rc = rt_tokenizer_encode(co->tokenizer, prompt, strlen(prompt), &ids, &ids_count,
                                 &capacity, &err);
    if (rc || ids_count == 0 || (int64_t)ids_count + 1 > co->context) {
        rt_free(ids);
        return false;
    }
    int number = (int)(state - problem->states);
    rt_job *job = rt_plan_more(co, plan, problem->first, RT_KIND_LOCALIZE,
                               rt_reset_trajectory(plan, state->index, RT_LOCALIZE_FIRST + number),
                               1);
    rt_free(job->prompt_ids);
    job->prompt_ids = ids;
    job->prompt_count = ids_count;
    job->state = state;
    /* Where the seed was sampled its continuations will be too: that balances both alike. Choosing by
     * what is free now sends most to one worker, as its peer's results are still being read. */
    snprintf(job->prefers, sizeof job->prefers, "%s", state->seed_job->worker);
    state->localization = job->first;
    return true;
}

void rt_localize(rt_coordinator *co, rt_plan *plan, rt_reset_state *state)
{
    const rt_config *config = co->config;
    const rt_reset_problem *problem = &plan->resets->problems[state->index];
    state->chosen_by = config->algorithm.resets.chosen_by;
    state->oracle = rt_reset_oracle(co, problem, state->seed);
    if (state->chosen_by == RT_CHOSEN_RANDOM) {
        uint32_t drawn = rt_below((uint64_t)config->run.seed, state->parent, RT_RESET_DRAW,
                                  (uint32_t)state->thoughts);
        settle(co, plan, state, (int)drawn + 1, RT_FALL_NONE);
    } else if (state->chosen_by == RT_CHOSEN_ORACLE) {
        int fallback = state->oracle > 0   ? RT_FALL_NONE
                       : state->oracle < 0 ? RT_FALL_NO_ORACLE
                                           : RT_FALL_NONE_WRONG;
        settle(co, plan, state, state->oracle, fallback);
    } else if (!ask_model(co, plan, state)) {
        settle(co, plan, state, 1, RT_FALL_LOCALIZE);
    }
}

void rt_localize_done(rt_coordinator *co, rt_job *job)
{
    rt_reset_state *state = job->state;
    if (job->failed) {
        settle(co, job->plan, state, 1, RT_FALL_LOCALIZE);
        return;
    }
    rt_buf text = {0};
    rt_buf_add(&text, "", 0);
    rt_tokenizer_decode(co->tokenizer, job->samples[0].ids, job->samples[0].tokens, &text);
    bool failed = false;
    state->parsed = rt_localize_parse(text.data, text.bytes, state->thoughts, &failed);
    size_t bytes = rt_utf8_valid(text.data, text.bytes);
    state->output = rt_arena_alloc(job->plan->arena, bytes + 1);
    memcpy(state->output, text.data, bytes);
    rt_buf_free(&text);
    int fallback = failed ? RT_FALL_PARSE : state->parsed == 0 ? RT_FALL_NONE_WRONG : RT_FALL_NONE;
    settle(co, job->plan, state, state->parsed, fallback);
}

void rt_localize_record(rt_coordinator *co, const rt_reset_state *state)
{
    if (!state->output) {
        return;
    }
    rt_store_row *row = rt_store_row_new(RT_TABLE_LOCALIZATIONS);
    rt_store_row_int(row, (int64_t)state->localization);
    rt_store_row_int(row, (int64_t)state->parent);
    rt_store_row_text(row, state->output);
    rt_store_row_int(row, state->parsed);
    if (state->oracle >= 0) {
        rt_store_row_int(row, state->oracle);
    } else {
        rt_store_row_null(row);
    }
    rt_store_put(co->store, row);
}
