/*
 * plan_reset: a step whose problems are sampled by the sequential rule: fresh rollouts, who failed
 * first, where it is reset, continuations. Leases go out as soon as the rule is known to need them.
 */
#include <inttypes.h>
#include <string.h>

#include "coordinator/resets.h"

/* Jobs of a problem: growing fresh leases, and twice (for what has to be repeated) its states'. */
#define JOBS_PER_PROBLEM 24

uint64_t rt_reset_trajectory(const rt_plan *plan, int problem, int sample)
{
    return (uint64_t)plan->step << 24 | (uint64_t)problem << 8 | (uint64_t)sample;
}

static int fresh_at_first(const rt_config *config, bool caro)
{
    const rt_reset_settings *resets = &config->algorithm.resets;
    return (int)(caro ? resets->base : resets->base + resets->seeds);
}

int rt_resets_plan(rt_coordinator *co, int64_t step, rt_plan **out, rt_error *err)
{
    int problems = (int)co->config->algorithm.problems;
    bool caro = strcmp(co->config->algorithm.plan, "caro") == 0;
    rt_plan *plan = rt_plan_new(false, step, problems * JOBS_PER_PROBLEM);
    rt_reset_plan *resets = plan->resets = rt_arena_alloc(plan->arena, sizeof *resets);
    resets->caro = caro;
    resets->count = problems;
    resets->continuations = (int)co->config->algorithm.resets.continuations;
    resets->problems = rt_arena_alloc(plan->arena, (size_t)problems * sizeof *resets->problems);
    rt_problem *list = rt_arena_alloc(plan->arena, (size_t)problems * sizeof *list);
    int rc = rt_mixing_step(co, plan, list, err);
    for (int i = 0; i < problems && !rc; i++) {
        rt_reset_problem *problem = &resets->problems[i];
        problem->problem = list[i];
        rt_job *job = problem->first = &plan->jobs[i];
        job->kind = RT_KIND_BASE;
        job->index = i;
        job->count = problem->issued = fresh_at_first(co->config, caro);
        job->first = rt_reset_trajectory(plan, i, 0);
        rc = rt_plan_job(co, plan, job, &problem->problem, err);
        problem->failed = job->failed;
    }
    if (rc) {
        rt_plan_cancel(co, plan);
        rt_plan_free(&plan);
        return rc;
    }
    *out = plan;
    return RT_OK;
}

/* ---- continuations --------------------------------------------------------------------------- */

static void keep_prefix(rt_plan *plan, rt_reset_state *state, uint32_t cut)
{
    const rt_sample *seed = state->seed;
    uint32_t thoughts = (uint32_t)state->thought - 1;
    int32_t *ids = rt_arena_alloc(plan->arena, cut * sizeof *ids);
    float *logp = rt_arena_alloc(plan->arena, cut * sizeof *logp);
    int32_t *ends = rt_arena_alloc(plan->arena, thoughts * sizeof *ends);
    memcpy(ids, seed->ids, cut * sizeof *ids);
    memcpy(logp, seed->logp, cut * sizeof *logp);
    memcpy(ends, seed->ends, thoughts * sizeof *ends);
    state->prefix = (rt_prefix){.ids = ids,
                                .logp = logp,
                                .ends = ends,
                                .count = cut,
                                .thoughts = thoughts,
                                .version = state->seed_job->version};
}

static bool has_room(const rt_coordinator *co, const rt_job *seed_job, uint32_t cut, int thought)
{
    rt_limits limits = rt_config_limits(co->config, seed_job->task);
    return (int64_t)cut < limits.max_tokens &&
           (int64_t)seed_job->prompt_count + cut + 1 <= co->context &&
           thought <= limits.thoughts_max;
}

static void lease_continuations(rt_coordinator *co, rt_plan *plan, rt_reset_state *state)
{
    const rt_reset_problem *problem = &plan->resets->problems[state->index];
    rt_job *job = rt_plan_more(co, plan, problem->first, RT_KIND_RESET, state->id,
                               (int)co->config->algorithm.resets.continuations);
    job->prefix = state->prefix;
    job->state = state;
    if (state->seed_job) {
        snprintf(job->prefers, sizeof job->prefers, "%s", state->seed_job->worker);
    }
    state->job = job;
}

void rt_resets_continue(rt_coordinator *co, rt_plan *plan, rt_reset_state *state, int thought)
{
    uint32_t cut =
        state->seed ? rt_reset_cut(state->seed->ends, state->seed->thoughts, thought) : 0;
    if (cut > 0 && !has_room(co, state->seed_job, cut, thought)) {
        state->fallback = RT_FALL_NO_ROOM;
        thought = 1;
        cut = 0;
    }
    state->thought = thought;
    state->known = true;
    if (cut > 0) {
        keep_prefix(plan, state, cut);
    }
    lease_continuations(co, plan, state);
}

/* ---- a result is here ------------------------------------------------------------------------ */

void rt_resets_give_up(rt_plan *plan, rt_reset_problem *problem)
{
    if (!problem->failed) {
        problem->failed = true;
        plan->failed++;
    }
}

static void take_fresh(rt_reset_problem *problem, rt_job *job)
{
    int first = (int)(job->first & 0xff);
    for (int i = 0; i < job->count; i++) {
        rt_sample *sample = &job->samples[i];
        problem->fresh[first + i] = sample;
        problem->fresh_job[first + i] = job;
        if (sample->thoughts == 0) { /* it counts as failed and can't be reset */
            sample->reward = 0;
        }
    }
}

static void more_fresh(rt_coordinator *co, rt_plan *plan, rt_reset_problem *problem)
{
    int more = problem->rule.wanted - problem->issued;
    if (more > 0) {
        rt_plan_more(co, plan, problem->first, RT_KIND_BASE,
                     rt_reset_trajectory(plan, problem->first->index, problem->issued), more);
        problem->issued += more;
    }
}

static void go_on(rt_coordinator *co, rt_plan *plan, rt_reset_problem *problem)
{
    const rt_reset_settings *settings = &co->config->algorithm.resets;
    rt_fresh fresh[RT_FRESH_SAMPLES] = {0};
    for (int i = 0; i < RT_FRESH_SAMPLES; i++) {
        const rt_sample *sample = problem->fresh[i];
        if (sample) {
            fresh[i] = (rt_fresh){true, sample->thoughts == 0, sample->grade == RT_CORRECT};
        }
    }
    rt_rule_apply(settings, fresh, problem->issued, &problem->rule);
    more_fresh(co, plan, problem);
    const rt_rule *rule = &problem->rule;
    /* With all failures found the rule can't fall back any more. */
    if (!rule->fallback && rule->seeds == settings->seeds) {
        for (int k = problem->states_count; k < rule->seeds; k++) {
            int number = rule->seed[k];
            rt_localize(co, plan,
                        rt_reset_state_new(plan, problem->first->index, problem->fresh_job[number],
                                           problem->fresh[number]));
        }
    }
}

/* A continuation that can't be sampled starts over; when that fails too, the problem is left out. */
static void continuation_failed(rt_coordinator *co, rt_job *job, rt_reset_problem *problem)
{
    rt_reset_state *state = job->state;
    if (job->prefix.count == 0) {
        rt_resets_give_up(job->plan, problem);
        return;
    }
    state->fallback = RT_FALL_CONTINUATION;
    state->thought = 1;
    state->prefix = (rt_prefix){0};
    lease_continuations(co, job->plan, state);
}

void rt_resets_done(rt_coordinator *co, rt_job *job)
{
    rt_plan *plan = job->plan;
    rt_reset_problem *problem = &plan->resets->problems[job->index];
    if (job->kind == RT_KIND_LOCALIZE) {
        rt_localize_done(co, job);
    } else if (job->kind == RT_KIND_RESET) {
        if (job->failed) {
            continuation_failed(co, job, problem);
        }
    } else if (job->failed) {
        rt_resets_give_up(plan, problem);
    } else {
        take_fresh(problem, job);
        if (!plan->resets->caro) {
            go_on(co, plan, problem);
        }
    }
    if (plan->resets->caro && !plan->resets->chosen && plan->pending == 0) {
        plan->resets->chosen = true;
        rt_caro_choose(co, plan);
    }
}

/* ---- the step is complete -------------------------------------------------------------------- */

typedef struct member_list {
    rt_sample *samples[RT_FRESH_SAMPLES + RT_CONTINUATIONS];
    int count;
} member_list;

static void normalise(const rt_config *config, member_list *group, uint64_t id)
{
    double reward[RT_FRESH_SAMPLES + RT_CONTINUATIONS], advantage[RT_COUNT(reward)];
    bool signal = false;
    for (int i = 0; i < group->count; i++) {
        reward[i] = group->samples[i]->reward;
    }
    rt_advantages(&config->algorithm.advantage, reward, group->count, advantage);
    for (int i = 0; i < group->count; i++) {
        signal = signal || advantage[i] != 0;
    }
    for (int i = 0; i < group->count; i++) {
        group->samples[i]->advantage = advantage[i];
        group->samples[i]->group = (int64_t)id;
        group->samples[i]->trained = signal || !config->algorithm.skip_degenerate;
    }
}

/* Fresh rollouts by their role; those of the base group into `base`. */
static void sort_fresh(rt_reset_problem *problem, bool caro, member_list *base)
{
    for (int i = 0; i < RT_FRESH_SAMPLES; i++) {
        rt_sample *sample = problem->fresh[i];
        int role = caro ? RT_FRESH_BASE : problem->rule.role[i];
        if (!sample) {
            continue;
        }
        sample->kind = role == RT_FRESH_SEED ? RT_KIND_SEED : RT_KIND_BASE;
        if (role == RT_FRESH_BASE) {
            base->samples[base->count++] = sample;
        }
    }
    if (caro) {
        problem->rule.base = base->count;
    }
}

static void settle_problem(const rt_config *config, const rt_plan *plan, int index)
{
    rt_reset_problem *problem = &plan->resets->problems[index];
    member_list base = {0};
    sort_fresh(problem, plan->resets->caro, &base);
    for (int k = 0; k < problem->states_count; k++) {
        const rt_reset_state *state = &problem->states[k];
        member_list own = {0}, *group = state->joins ? &base : &own;
        for (int i = 0; i < state->job->count; i++) {
            rt_sample *sample = &state->job->samples[i];
            sample->parent = state->seed ? (int64_t)state->parent : -1;
            sample->reset = (int64_t)state->id;
            sample->suffix_start = config->algorithm.resets.mask ? state->prefix.count : 0;
            group->samples[group->count++] = sample;
        }
        if (!state->joins) {
            normalise(config, &own, state->id);
        }
    }
    normalise(config, &base, rt_reset_trajectory(plan, index, 0));
}

/* REINFORCE++'s baseline: the whole batch, after the groups gave ids and masks. */
static void settle_batch(const rt_config *config, rt_plan *plan)
{
    size_t room = 1;
    for (int i = 0; i < plan->count; i++) {
        room += (size_t)plan->jobs[i].count;
    }
    double *reward = rt_alloc(room * sizeof *reward), *advantage = rt_alloc(room * sizeof *advantage);
    for (int pass = 0; pass < 2; pass++) {
        int n = 0;
        for (int i = 0; i < plan->count; i++) {
            rt_job *job = &plan->jobs[i];
            for (int j = 0; job->samples && j < job->count; j++) {
                rt_sample *sample = &job->samples[j];
                if (sample->group >= 0 && pass == 0) {
                    reward[n++] = sample->reward;
                } else if (sample->group >= 0) {
                    sample->advantage = advantage[n++];
                    sample->trained = true;
                }
            }
        }
        if (pass == 0) {
            rt_advantages_batch(&config->algorithm.advantage, reward, n, advantage);
        }
    }
    rt_free(reward);
    rt_free(advantage);
}

void rt_resets_settle(const rt_config *config, rt_plan *plan)
{
    for (int i = 0; i < plan->resets->count; i++) {
        if (!plan->resets->problems[i].failed) {
            settle_problem(config, plan, i);
        }
    }
    if (config->algorithm.advantage.baseline == RT_BASELINE_BATCH_MEAN) {
        settle_batch(config, plan);
    }
}
