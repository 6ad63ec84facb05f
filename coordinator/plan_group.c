/*
 * plan_group: the plan of GRPO and its kin: every problem of a step is one lease of `samples`
 * rollouts and one group. What a step asks for is a function of the config and the step number.
 */
#include <inttypes.h>
#include <string.h>

#include "coordinator/debates.h"

rt_plan *rt_plan_new(bool evaluation, int64_t step, int count)
{
    rt_plan *plan = rt_alloc(sizeof *plan);
    plan->evaluation = evaluation;
    plan->step = step;
    plan->arena = rt_arena_new(1 << 16);
    plan->jobs = rt_alloc((size_t)RT_MAX(count, 1) * sizeof(rt_job));
    plan->capacity = count;
    return plan;
}

static void drop_result(rt_job *job)
{
    rt_free(job->block);
    rt_free(job->samples);
    job->block = NULL;
    job->samples = NULL;
}

void rt_plan_free(rt_plan **pointer)
{
    rt_plan *plan = *pointer;
    if (!plan) {
        return;
    }
    for (int i = 0; i < plan->count; i++) {
        drop_result(&plan->jobs[i]);
        rt_free(plan->jobs[i].prompt_ids);
    }
    rt_free(plan->jobs);
    rt_arena_free(&plan->arena);
    rt_free(plan);
    *pointer = NULL;
}

rt_plan *rt_plan_of(rt_plan *list, int64_t step)
{
    while (list && list->step != step) {
        list = list->next;
    }
    return list;
}

/* Who debates reads the question as a conversation, evaluations too. */
static int encode_prompt(rt_coordinator *co, rt_plan *plan, rt_job *job, const rt_problem *problem,
                         rt_error *err)
{
    size_t capacity = 0;
    if (!co->debate_rules) {
        return rt_tokenizer_encode(co->tokenizer, problem->prompt, strlen(problem->prompt),
                                   &job->prompt_ids, &job->prompt_count, &capacity, err);
    }
    rt_ids ids = {0};
    rt_prompt_report report = {0};
    const rt_debate *alone =
        rt_debate_new(&co->config->algorithm.debate, job->first, problem, plan->arena);
    int rc = rt_debate_prompt(co->debate_rules, alone, 0, 0, &ids, &report, err);
    job->prompt_ids = ids.items;
    job->prompt_count = rc ? 0 : ids.count;
    return rc == RT_ERR_LIMIT ? RT_OK : rc; /* too long: left out like any that does not fit */
}

int rt_plan_job(rt_coordinator *co, rt_plan *plan, rt_job *job, const rt_problem *problem,
                rt_error *err)
{
    job->plan = plan;
    job->problem = problem->id;
    job->task = problem->task;
    job->task_name = problem->task_name;
    job->prompt = problem->prompt;
    job->gold = problem->gold;
    job->grader = problem->grader;
    job->version = -1;
    job->adapter = rt_agent_adapter(co->config, 0);
    int rc = encode_prompt(co, plan, job, problem, err);
    RT_ASSERT(plan->count < plan->capacity);
    plan->count++;
    plan->problems += job->kind == RT_KIND_BASE;
    if (rc) {
        return rt_error_prefix(err, "problem %" PRIu64 " of %s", problem->id, problem->task_name);
    }
    job->lease = rt_leases_add(&co->leases, job);
    rt_record_problem(co, job);
    if (job->prompt_count > 0 && (int64_t)job->prompt_count + 1 <= co->context) {
        plan->pending++;
        return RT_OK;
    }
    rt_events_add(co, RT_WARN, "coordinator",
                  "problem %" PRIu64 " of %s is left out: its prompt has "
                  "%zu tokens and the context is %lld",
                  problem->id, problem->task_name, job->prompt_count, (long long)co->context);
    rt_plan_end_lease(co, job, RT_FATE_FAILED);
    job->failed = true;
    plan->failed++;
    return RT_OK;
}

rt_job *rt_plan_more(rt_coordinator *co, rt_plan *plan, const rt_job *like, int kind,
                     uint64_t first, int count)
{
    RT_ASSERT(plan->count < plan->capacity);
    rt_job *job = &plan->jobs[plan->count++];
    *job = (rt_job){.plan = plan,
                    .kind = kind,
                    .index = like->index,
                    .problem = like->problem,
                    .first = first,
                    .task = like->task,
                    .count = count,
                    .task_name = like->task_name,
                    .prompt = like->prompt,
                    .gold = like->gold,
                    .grader = like->grader,
                    .prompt_count = like->prompt_count,
                    .adapter = like->adapter,
                    .version = -1};
    job->prompt_ids = rt_alloc(like->prompt_count * sizeof(int32_t));
    memcpy(job->prompt_ids, like->prompt_ids, like->prompt_count * sizeof(int32_t));
    job->lease = rt_leases_add(&co->leases, job);
    plan->pending++;
    return job;
}

int rt_plan_step(rt_coordinator *co, int64_t step, rt_plan **out, rt_error *err)
{
    if (strcmp(co->config->algorithm.plan, "debate") == 0) {
        return rt_debates_plan(co, step, out, err);
    }
    if (strcmp(co->config->algorithm.plan, "group") != 0) {
        return rt_resets_plan(co, step, out, err);
    }
    int problems = (int)co->config->algorithm.problems;
    rt_plan *plan = rt_plan_new(false, step, problems);
    rt_problem *list = rt_arena_alloc(plan->arena, (size_t)problems * sizeof *list);
    int rc = rt_mixing_step(co, plan, list, err);
    for (int i = 0; i < problems && !rc; i++) {
        rt_job *job = &plan->jobs[i];
        job->index = i;
        job->count = (int)co->config->algorithm.samples;
        job->first = (uint64_t)step << 24 | (uint64_t)i << 8;
        rc = rt_plan_job(co, plan, job, &list[i], err);
    }
    if (rc) {
        rt_plan_cancel(co, plan);
        rt_plan_free(&plan);
        return rc;
    }
    *out = plan;
    return RT_OK;
}

void rt_plan_end_lease(rt_coordinator *co, rt_job *job, int fate)
{
    RT_ASSERT(job->lease != NULL);
    rt_record_lease(co, job->lease, fate);
    rt_leases_end(&co->leases, job->lease, fate);
    job->lease = NULL;
}

void rt_plan_cancel(rt_coordinator *co, rt_plan *plan)
{
    for (int i = 0; i < plan->count; i++) {
        rt_job *job = &plan->jobs[i];
        if (job->lease) {
            if (job->lease->state == RT_LEASE_ISSUED) {
                rt_workers_cancel(co, job->lease);
            }
            rt_plan_end_lease(co, job, RT_FATE_CANCELLED);
        }
    }
}

void rt_plan_again(rt_coordinator *co, rt_job *job)
{
    RT_ASSERT(job->samples && job->lease && job->lease->state == RT_LEASE_HELD);
    rt_plan_end_lease(co, job, RT_FATE_STALE);
    drop_result(job);
    job->lease = rt_leases_add(&co->leases, job);
}

bool rt_job_stale(const rt_job *job, int64_t staleness)
{
    if (job->plan->evaluation) {
        return job->version != job->plan->step;
    }
    return job->version < job->plan->step - staleness;
}

/* ---- advantages ------------------------------------------------------------------------------ */

static void group_advantages(const rt_config *config, rt_job *job)
{
    double reward[256], advantage[256];
    RT_ASSERT(job->count <= (int)RT_COUNT(reward));
    for (int i = 0; i < job->count; i++) {
        reward[i] = job->samples[i].reward;
    }
    rt_advantages(&config->algorithm.advantage, reward, job->count, advantage);
    for (int i = 0; i < job->count; i++) {
        job->samples[i].advantage = advantage[i];
    }
}

static void batch_advantages(const rt_config *config, rt_plan *plan)
{
    int count = 0;
    for (int i = 0; i < plan->count; i++) {
        count += plan->jobs[i].samples ? plan->jobs[i].count : 0;
    }
    double *reward = rt_alloc((size_t)(count + 1) * sizeof *reward);
    double *advantage = rt_alloc((size_t)(count + 1) * sizeof *advantage);
    int n = 0;
    for (int i = 0; i < plan->count; i++) {
        for (int j = 0; plan->jobs[i].samples && j < plan->jobs[i].count; j++) {
            reward[n++] = plan->jobs[i].samples[j].reward;
        }
    }
    rt_advantages_batch(&config->algorithm.advantage, reward, count, advantage);
    n = 0;
    for (int i = 0; i < plan->count; i++) {
        for (int j = 0; plan->jobs[i].samples && j < plan->jobs[i].count; j++) {
            plan->jobs[i].samples[j].advantage = advantage[n++];
        }
    }
    rt_free(reward);
    rt_free(advantage);
}

/* A group is one job: all or nothing of it is trained. */
static void mark_trained(rt_job *job)
{
    for (int i = 0; i < job->count; i++) {
        job->samples[i].group = (int64_t)job->first;
        job->samples[i].trained = !job->dropped;
    }
}

void rt_plan_advantages(const rt_config *config, rt_plan *plan)
{
    if (plan->debates) {
        rt_lessons_make(config, plan);
        return;
    }
    if (plan->resets) {
        rt_resets_settle(config, plan);
        return;
    }
    if (config->algorithm.advantage.baseline == RT_BASELINE_BATCH_MEAN) {
        batch_advantages(config, plan);
    }
    for (int i = 0; i < plan->count; i++) {
        rt_job *job = &plan->jobs[i];
        if (!job->samples) {
            continue;
        }
        if (config->algorithm.advantage.baseline != RT_BASELINE_BATCH_MEAN) {
            group_advantages(config, job);
        }
        bool degenerate = true;
        for (int j = 0; j < job->count; j++) {
            degenerate = degenerate && job->samples[j].advantage == 0;
        }
        job->dropped = degenerate && config->algorithm.skip_degenerate;
        mark_trained(job);
    }
}
