/* reset_metrics: what a step with resets counts, and how good the choice of thoughts was. */
#include <string.h>

#include "coordinator/resets.h"

typedef struct quality { /* states whose first wrong thought the task knows */
    int known, exact, clean, deviation[9], passed_clean, passed_erroneous;
} quality;

typedef struct sums {
    int problems, fresh, no_seed, zero, discarded, first_thought, fallback[RT_FALLS];
    int states, visits, successes, groups[2], degenerate[2]; /* base, reset */
    double thought, position;
    quality by[4]; /* enum rt_chosen */
} sums;

static void count_fresh(const rt_reset_problem *problem, sums *to)
{
    to->problems++;
    to->no_seed += problem->rule.fallback;
    for (int i = 0; i < RT_FRESH_SAMPLES; i++) {
        const rt_sample *sample = problem->fresh[i];
        if (!sample) {
            continue;
        }
        to->fresh++;
        to->zero += sample->thoughts == 0;
        if (sample->group < 0 && sample->kind != RT_KIND_SEED) {
            to->discarded += (int)sample->tokens;
        }
    }
}

static void count_group(const rt_sample *sample, int kind, bool flat, sums *to)
{
    if (sample) {
        to->groups[kind]++;
        to->degenerate[kind] += flat;
    }
}

static void count_base_group(const rt_reset_problem *problem, sums *to)
{
    bool flat = true;
    const rt_sample *any = NULL;
    for (int i = 0; i < RT_FRESH_SAMPLES; i++) {
        const rt_sample *sample = problem->fresh[i];
        if (sample && sample->group >= 0) {
            any = sample;
            flat = flat && sample->advantage == 0;
        }
    }
    count_group(any, 0, flat, to);
}

static void count_quality(const rt_reset_state *state, int successes, quality *to)
{
    int deviation = state->thought - state->oracle;
    bool clean = deviation <= 0;
    to->known++;
    to->exact += deviation == 0;
    to->clean += clean;
    to->deviation[RT_MIN(RT_MAX(deviation, -4), 4) + 4]++;
    to->passed_clean += clean && successes > 0;
    to->passed_erroneous += !clean && successes > 0;
}

static void count_state(const rt_reset_state *state, sums *to)
{
    int visits = 0, successes = rt_reset_successes(state, &visits);
    to->states++;
    to->visits += visits;
    to->successes += successes;
    to->fallback[state->fallback]++;
    to->first_thought += state->thought <= 1;
    if (state->seed) {
        to->thought += state->thought;
        to->position += (double)state->thought / state->thoughts;
    }
    if (state->seed && state->oracle > 0) {
        count_quality(state, successes, &to->by[state->chosen_by]);
    }
    const rt_job *job = state->job;
    bool flat = true;
    for (int i = 0; job->samples && i < job->count; i++) {
        flat = flat && job->samples[i].advantage == 0;
    }
    if (!state->joins) {
        count_group(job->samples, 1, flat, to);
    }
}

static void put(rt_coordinator *co, int64_t step, const char *name, const char *more, double value)
{
    char whole[128];
    snprintf(whole, sizeof whole, "%s%s", name, more);
    rt_step_metric(co, step, whole, value);
}

static void put_quality(rt_coordinator *co, int64_t step, int chosen_by, const quality *from)
{
    char name[64];
    if (from->known == 0) {
        return;
    }
    snprintf(name, sizeof name, "localize.%s.", rt_chosen_name(chosen_by));
    int erroneous = from->known - from->clean;
    put(co, step, name, "known", from->known);
    put(co, step, name, "exact", (double)from->exact / from->known);
    put(co, step, name, "clean", (double)from->clean / from->known);
    if (from->clean > 0) {
        put(co, step, name, "pass_clean", (double)from->passed_clean / from->clean);
    }
    if (erroneous > 0) {
        put(co, step, name, "pass_erroneous", (double)from->passed_erroneous / erroneous);
    }
    for (int i = 0; i < 9; i++) {
        char deviation[24];
        snprintf(deviation, sizeof deviation, "deviation.%+d", i - 4);
        put(co, step, name, i == 4 ? "deviation.0" : deviation, from->deviation[i]);
    }
}

static void put_all(rt_coordinator *co, int64_t step, const sums *from)
{
    rt_step_metric(co, step, "fresh", (double)from->fresh / RT_MAX(from->problems, 1));
    rt_step_metric(co, step, "zero_thoughts", from->zero);
    rt_step_metric(co, step, "discarded_tokens", from->discarded);
    rt_step_metric(co, step, "fallback.no_failure", from->no_seed);
    rt_step_metric(co, step, "fallback.first_thought", from->first_thought);
    for (int i = RT_FALL_NONE + 1; i < RT_FALLS; i++) {
        put(co, step, "fallback.", rt_fallback_name(i), from->fallback[i]);
    }
    rt_step_metric(co, step, "reset.states", from->states);
    if (from->states > 0) {
        rt_step_metric(co, step, "reset.thought", from->thought / from->states);
        rt_step_metric(co, step, "reset.position", from->position / from->states);
    }
    if (from->visits > 0) {
        rt_step_metric(co, step, "reset.success", (double)from->successes / from->visits);
    }
    int groups = from->groups[0] + from->groups[1];
    rt_step_metric(co, step, "degenerate",
                   (double)(from->degenerate[0] + from->degenerate[1]) / RT_MAX(groups, 1));
    for (int i = 0; i < 2; i++) {
        if (from->groups[i] > 0) {
            put(co, step, "degenerate.", i ? "reset" : "base",
                (double)from->degenerate[i] / from->groups[i]);
        }
    }
    for (int i = 0; i < 4; i++) {
        put_quality(co, step, i, &from->by[i]);
    }
}

void rt_resets_metrics(rt_coordinator *co, const rt_plan *plan)
{
    sums all = {0};
    for (int i = 0; i < plan->resets->count; i++) {
        const rt_reset_problem *problem = &plan->resets->problems[i];
        if (problem->failed) {
            continue;
        }
        count_fresh(problem, &all);
        count_base_group(problem, &all);
        for (int j = 0; j < problem->states_count; j++) {
            count_state(&problem->states[j], &all);
        }
    }
    put_all(co, plan->step, &all);
}
