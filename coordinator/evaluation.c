/*
 * evaluation: held-out problems at a version: one greedy sample and/or several drawn ones of
 * each. A version is evaluated once in the life of a run; what is known is read from the store.
 */
#include <math.h>
#include <string.h>

#include "coordinator/debates.h"

static bool evaluated(const rt_coordinator *co, int64_t version)
{
    for (int i = 0; i < co->evaluated_count; i++) {
        if (co->evaluated[i] == version) {
            return true;
        }
    }
    return false;
}

static void mark_evaluated(rt_coordinator *co, int64_t version)
{
    size_t bytes = (size_t)co->evaluated_count * sizeof(int64_t);
    co->evaluated = rt_realloc(co->evaluated, bytes, bytes + sizeof(int64_t));
    co->evaluated[co->evaluated_count++] = version;
}

bool rt_evaluation_due(const rt_coordinator *co, int64_t version)
{
    const rt_config *config = co->config;
    if (config->eval.problems <= 0 || (!config->eval.greedy && config->eval.samples <= 0)) {
        return false;
    }
    bool wanted = version == 0 || version >= config->run.steps ||
                  (config->eval.every > 0 && version % config->eval.every == 0);
    return wanted && !evaluated(co, version);
}

/* Held-out problem number i: tasks take turns, a task with few problems drops out. */
static bool next_problem(const rt_coordinator *co, int *task, int64_t *index, int64_t *taken)
{
    int tasks = rt_taskset_tasks(co->tasks);
    for (int tries = 0; tries < tasks; tries++) {
        *task = (*task + 1) % tasks;
        if (taken[*task] < rt_taskset_count(co->tasks, *task, RT_EVAL)) {
            *index = taken[*task]++;
            return true;
        }
    }
    return false;
}

static int add_job(rt_coordinator *co, rt_plan *plan, int index, bool sampled,
                   const rt_problem *problem, rt_error *err)
{
    rt_job *job = &plan->jobs[plan->count];
    *job = (rt_job){0};
    job->kind = RT_KIND_EVAL;
    job->index = index;
    job->sampled = sampled;
    job->count = sampled ? (int)co->config->eval.samples : 1;
    job->first = UINT64_C(1) << 62 | (uint64_t)plan->step << 32 |
                 (sampled ? UINT64_C(1) << 31 : 0) | (uint64_t)index << 4;
    return rt_plan_job(co, plan, job, problem, err);
}

int rt_evaluation_plan(rt_coordinator *co, int64_t version, rt_error *err)
{
    int problems = (int)co->config->eval.problems;
    bool debate = co->debate_rules != NULL;
    rt_plan *plan = rt_plan_new(
        true, version, problems * (2 + (debate ? rt_debate_jobs(co->config, true) : 0)));
    int64_t taken[RT_TASKS_MAX] = {0}, index = 0;
    int task = -1, rc = RT_OK;
    for (int i = 0; i < problems && !rc && next_problem(co, &task, &index, taken); i++) {
        rt_problem problem;
        rc = rt_problem_get(co->tasks, task, RT_EVAL, index, plan->arena, &problem, err);
        if (!rc && co->config->eval.greedy) {
            rc = add_job(co, plan, i, false, &problem, err);
        }
        if (!rc && co->config->eval.samples > 0) {
            rc = add_job(co, plan, i, true, &problem, err);
        }
        if (!rc && debate) {
            rc = rt_debates_evaluate(co, plan, i, &problem, err);
        }
    }
    if (rc) {
        rt_plan_cancel(co, plan);
        rt_plan_free(&plan);
        return rc;
    }
    if (plan->count == 0) {
        rt_events_add(co, RT_WARN, "coordinator",
                      "no task holds out problems, so there is no "
                      "evaluation; give one an eval_share");
        mark_evaluated(co, version);
        rt_plan_free(&plan);
        return RT_OK;
    }
    plan->next = co->evaluations;
    co->evaluations = plan;
    return RT_OK;
}

enum { SCORE_PARTS = 4 };
typedef struct score_part {
    const char *name;
    double value;
} score_part;

static void list_parts(const rt_score *score, score_part parts[SCORE_PARTS])
{
    parts[0] = (score_part){"accuracy", score->accuracy};
    parts[1] = (score_part){"low", score->low};
    parts[2] = (score_part){"high", score->high};
    parts[3] = (score_part){"count", (double)score->count};
}

static void record_score(rt_coordinator *co, int64_t version, const char *kind,
                         const rt_score *score)
{
    char name[64];
    score_part parts[SCORE_PARTS];
    list_parts(score, parts);
    for (size_t i = 0; score->known && i < SCORE_PARTS; i++) {
        snprintf(name, sizeof name, "eval.%s.%s", kind, parts[i].name);
        rt_record_metric(co, version, name, parts[i].value);
    }
}

/* task −1: all. The interval counts problems: answers to one problem hang together. */
static rt_score score_of(const rt_plan *plan, bool sampled, int task)
{
    int64_t correct = 0, count = 0, problems = 0;
    for (int i = 0; i < plan->count; i++) {
        const rt_job *job = &plan->jobs[i];
        bool taken = job->samples && !job->debate && job->sampled == sampled &&
                     (task < 0 || job->task == task);
        problems += taken;
        for (int j = 0; taken && j < job->count; j++) {
            correct += job->samples[j].grade == RT_CORRECT;
            count++;
        }
    }
    rt_score score = {.known = count > 0, .count = count};
    if (count > 0) {
        score.accuracy = (double)correct / (double)count;
        rt_wilson_share(score.accuracy, problems, &score.low, &score.high);
    }
    return score;
}

static void record_task(rt_coordinator *co, int64_t version, int task, const char *kind,
                        const rt_score *score)
{
    score_part parts[SCORE_PARTS];
    list_parts(score, parts);
    for (size_t i = 0; score->known && i < SCORE_PARTS; i++) {
        char *name =
            rt_format("eval/%s/%s%s", rt_taskset_name(co->tasks, task), kind, parts[i].name);
        rt_record_metric(co, version, name, parts[i].value);
        rt_tasks_note(co->tasks_known, version, name, parts[i].value);
        rt_free(name);
    }
}

/* The greedy answers are a task's accuracy where there are any. */
static void record_task_scores(rt_coordinator *co, const rt_plan *plan)
{
    for (int t = 0; t < rt_taskset_tasks(co->tasks); t++) {
        rt_score greedy = score_of(plan, false, t), sampled = score_of(plan, true, t);
        record_task(co, plan->step, t, "", greedy.known ? &greedy : &sampled);
        record_task(co, plan->step, t, "sampled.", &sampled);
    }
}

static void close_plan(rt_coordinator *co, rt_plan *plan)
{
    rt_evaluation now = {
        .version = plan->step, .greedy = score_of(plan, false, -1), .sampled = score_of(plan, true, -1)};
    if (plan->debates) {
        rt_debates_score(co, plan, &now);
    }
    record_score(co, plan->step, "greedy", &now.greedy);
    record_score(co, plan->step, "sampled", &now.sampled);
    record_score(co, plan->step, "debate", &now.debate);
    record_score(co, plan->step, "consistency", &now.consistency);
    record_task_scores(co, plan);
    rt_record_metric(co, plan->step, "eval.complete", 1);
    for (int i = 0; i < plan->count; i++) {
        if (plan->jobs[i].lease) {
            rt_record_job(co, &plan->jobs[i]);
            rt_plan_end_lease(co, &plan->jobs[i], RT_FATE_FILTERED);
        }
    }
    mark_evaluated(co, plan->step);
    if (plan->step == 0) {
        co->before = now;
    }
    co->last = now;
    const rt_score *main_score = now.greedy.known ? &now.greedy : &now.sampled;
    if (main_score->known) {
        rt_events_add(co, RT_INFO, "coordinator",
                      "version %lld: accuracy %.3f [%.3f, %.3f] on %lld "
                      "held-out answers",
                      (long long)plan->step, main_score->accuracy, main_score->low,
                      main_score->high, (long long)main_score->count);
    }
}

void rt_evaluation_finish(rt_coordinator *co)
{
    rt_plan **link = &co->evaluations;
    while (*link) {
        rt_plan *plan = *link;
        if (plan->pending > 0) {
            link = &plan->next;
            continue;
        }
        *link = plan->next;
        close_plan(co, plan);
        rt_plan_free(&plan);
    }
}

/* ---- what an earlier life measured ----------------------------------------------------------- */

static rt_score load_score(rt_coordinator *co, int64_t version, const char *kind)
{
    double parts[4];
    static const char *const names[4] = {"accuracy", "low", "high", "count"};
    for (int i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof name, "eval.%s.%s", kind, names[i]);
        parts[i] = rt_store_metric(co->store, version, name);
    }
    bool known = !isnan(parts[0]) && !isnan(parts[3]);
    return (rt_score){known, parts[0], parts[1], parts[2], known ? (int64_t)parts[3] : 0};
}

static rt_evaluation load_evaluation(rt_coordinator *co, int64_t version)
{
    return (rt_evaluation){version, load_score(co, version, "greedy"),
                           load_score(co, version, "sampled"), load_score(co, version, "debate"),
                           load_score(co, version, "consistency")};
}

void rt_evaluation_load(rt_coordinator *co)
{
    int64_t newest = -1;
    for (int i = 0; i < co->past.evaluated_count; i++) {
        mark_evaluated(co, co->past.evaluated[i]);
        newest = RT_MAX(newest, co->past.evaluated[i]);
    }
    co->before.version = co->last.version = -1;
    if (evaluated(co, 0)) {
        co->before = load_evaluation(co, 0);
    }
    if (newest >= 0) {
        co->last = load_evaluation(co, newest);
    }
}

json_t *rt_score_json(const rt_score *score)
{
    if (!score->known) {
        return json_null();
    }
    return json_pack("{s:f, s:f, s:f, s:I}", "accuracy", score->accuracy, "low", score->low, "high",
                     score->high, "count", (json_int_t)score->count);
}

json_t *rt_evaluation_json(const rt_evaluation *evaluation)
{
    if (!evaluation->greedy.known && !evaluation->sampled.known) {
        return json_null();
    }
    return json_pack("{s:I, s:o, s:o, s:o, s:o}", "version", (json_int_t)evaluation->version, "greedy",
                     rt_score_json(&evaluation->greedy), "sampled",
                     rt_score_json(&evaluation->sampled), "debate",
                     rt_score_json(&evaluation->debate), "consistency",
                     rt_score_json(&evaluation->consistency));
}
