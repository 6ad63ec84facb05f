/* record: what is written down of problems, leases, trajectories, steps and workers. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "coordinator/debates.h"

static double now_s(void)
{
    return (double)rt_wall_ms() / 1000;
}

void rt_record_problem(rt_coordinator *co, const rt_job *job)
{
    rt_store_row *row = rt_store_row_new(RT_TABLE_PROBLEMS);
    rt_store_row_int(row, (int64_t)job->problem);
    rt_store_row_text(row, job->task_name);
    rt_store_row_text(row, job->prompt);
    rt_store_row_text(row, job->gold);
    rt_store_put(co->store, row);
}

void rt_record_lease(rt_coordinator *co, const rt_lease *lease, int fate)
{
    const rt_job *job = lease->job;
    const rt_worker *holder = lease->state == RT_LEASE_ISSUED ? lease->list->owner : NULL;
    const char *worker = holder ? holder->name : job->worker[0] ? job->worker : NULL;
    rt_store_row *row = rt_store_row_new(RT_TABLE_LEASES);
    rt_store_row_int(row, (int64_t)lease->id);
    rt_store_row_text(row, rt_kind_name(job->kind));
    rt_store_row_text(row, worker);
    rt_store_row_int(row, lease->attempt);
    rt_store_row_real(row, lease->issued_ms ? (double)lease->issued_ms / 1000 : NAN);
    rt_store_row_real(row, fate >= 0 ? now_s() : NAN);
    rt_store_row_text(row, fate >= 0 ? rt_fate_name(fate) : NULL);
    rt_store_put(co->store, row);
}

static void row_id(rt_store_row *row, int64_t id)
{
    if (id >= 0) {
        rt_store_row_int(row, id);
    } else {
        rt_store_row_null(row);
    }
}

int rt_job_fate(const rt_job *job)
{
    for (int i = 0; job->samples && i < job->count; i++) {
        if (job->samples[i].trained) {
            return RT_FATE_TRAINED;
        }
    }
    return RT_FATE_FILTERED;
}

/* What is trained has no fate before it is: rt_record_step gives it. */
static void record_sample(rt_coordinator *co, const rt_job *job, const rt_sample *sample)
{
    rt_store_row *row = rt_store_row_new(RT_TABLE_TRAJECTORIES);
    rt_store_row_int(row, (int64_t)sample->id);
    rt_store_row_int(row, (int64_t)job->problem);
    rt_store_row_int(row, job->plan->step);
    row_id(row, sample->group);
    row_id(row, sample->parent);
    row_id(row, sample->reset);
    rt_store_row_text(row, rt_kind_name(sample->kind));
    rt_store_row_text(row, job->worker);
    rt_store_row_int(row, job->version);
    rt_store_row_blob(row, job->prompt_ids, job->prompt_count * sizeof(int32_t));
    rt_store_row_blob(row, sample->ids, sample->tokens * sizeof(int32_t));
    rt_store_row_blob(row, sample->logp, sample->tokens * sizeof(float));
    rt_store_row_blob(row, sample->ends, sample->thoughts * sizeof(int32_t));
    rt_store_row_int(row, sample->suffix_start);
    rt_store_row_real(row, sample->reward);
    rt_store_row_text(row, rt_grade_name(sample->grade));
    rt_store_row_real(row, sample->group >= 0 ? sample->advantage : NAN);
    rt_store_row_text(row, sample->end);
    rt_store_row_text(row, sample->trained ? NULL : rt_fate_name(RT_FATE_FILTERED));
    rt_store_put(co->store, row);
}

void rt_record_job(rt_coordinator *co, const rt_job *job)
{
    for (int i = 0; job->samples && i < job->count; i++) {
        record_sample(co, job, &job->samples[i]);
    }
    if (job->plan->evaluation || job->plan->resets || job->plan->debates) {
        return;
    }
    rt_store_row *row = rt_store_row_new(RT_TABLE_GROUPS);
    rt_store_row_int(row, (int64_t)job->first);
    rt_store_row_int(row, (int64_t)job->problem);
    rt_store_row_int(row, job->plan->step);
    rt_store_row_text(row, "base");
    rt_store_row_text(row, co->config->algorithm.plan);
    rt_store_put(co->store, row);
}

void rt_record_worker(rt_coordinator *co, const char *name, uint64_t incarnation, const char *role,
                      const char *host, int64_t joined_ms, const char *why)
{
    rt_store_row *row = rt_store_row_new(RT_TABLE_WORKERS);
    rt_store_row_text(row, name);
    rt_store_row_int(row, (int64_t)incarnation);
    rt_store_row_text(row, role);
    rt_store_row_text(row, host);
    rt_store_row_real(row, (double)joined_ms / 1000);
    rt_store_row_real(row, why ? now_s() : NAN);
    rt_store_row_text(row, why);
    rt_store_put(co->store, row);
}

void rt_record_metric(rt_coordinator *co, int64_t step, const char *name, double value)
{
    if (!isfinite(value)) {
        return;
    }
    rt_store_row *row = rt_store_row_new(RT_TABLE_METRICS);
    rt_store_row_int(row, step);
    rt_store_row_text(row, name);
    rt_store_row_real(row, value);
    rt_store_put(co->store, row);
}

/* ---- a step ---------------------------------------------------------------------------------- */

void rt_step_metric(rt_coordinator *co, int64_t step, const char *name, double value)
{
    rt_record_metric(co, step, name, value);
    if (isfinite(value)) {
        json_object_set_new(co->next_metrics, name, json_real(value));
    }
}

typedef struct plan_sums {
    double count, reward, reward_squared, tokens, thoughts, lag, grades[3];
    double groups, degenerate;
} plan_sums;

static plan_sums sum_up(const rt_plan *plan)
{
    plan_sums sums = {0};
    for (int i = 0; i < plan->count; i++) {
        const rt_job *job = &plan->jobs[i];
        bool degenerate = true;
        if (job->kind != RT_KIND_BASE && job->kind != RT_KIND_DEBATE) { /* they have their own */
            continue;
        }
        for (int j = 0; job->samples && j < job->count; j++) {
            const rt_sample *sample = &job->samples[j];
            sums.count++;
            sums.reward += sample->reward;
            sums.reward_squared += sample->reward * sample->reward;
            sums.tokens += sample->tokens;
            sums.thoughts += sample->thoughts;
            sums.lag += (double)(plan->step - job->version);
            sums.grades[sample->grade]++;
            degenerate = degenerate && sample->advantage == 0;
        }
        sums.groups += job->samples != NULL;
        sums.degenerate += job->samples && degenerate;
    }
    return sums;
}

static void record_samples(rt_coordinator *co, const rt_plan *plan)
{
    plan_sums sums = sum_up(plan);
    int64_t step = plan->step;
    double mean = sums.reward / sums.count;
    double variance = sums.reward_squared / sums.count - mean * mean;
    rt_step_metric(co, step, "reward.mean", mean);
    rt_step_metric(co, step, "reward.std", sqrt(RT_MAX(variance, 0)));
    rt_step_metric(co, step, "accuracy", sums.grades[RT_CORRECT] / sums.count);
    if (!plan->resets && !plan->debates) {
        rt_step_metric(co, step, "degenerate", sums.degenerate / sums.groups);
    }
    rt_step_metric(co, step, "response.tokens", sums.tokens / sums.count);
    rt_step_metric(co, step, "response.thoughts", sums.thoughts / sums.count);
    rt_step_metric(co, step, "staleness", sums.lag / sums.count);
    rt_step_metric(co, step, "failed", plan->failed);
    for (int grade = 0; grade < 3; grade++) {
        char name[40];
        snprintf(name, sizeof name, "grades.%s", rt_grade_name(grade));
        rt_step_metric(co, step, name, sums.grades[grade]);
        co->step_tally.grades[grade] = (uint64_t)sums.grades[grade];
    }
}

static void record_learning(rt_coordinator *co, int64_t step, const Retake__StepDone *done)
{
    rt_step_metric(co, step, "loss", done->loss);
    rt_step_metric(co, step, "grad_norm", done->grad_norm);
    rt_step_metric(co, step, "learning_rate", done->learning_rate);
    rt_step_metric(co, step, "kl", done->kl);
    rt_step_metric(co, step, "entropy", done->entropy);
    rt_step_metric(co, step, "clipped", done->clipped);
    if (co->config->algorithm.objective.loss != RT_LOSS_POLICY) {
        rt_step_metric(co, step, "preference.margin", done->margin);
        rt_step_metric(co, step, "preference.accuracy", done->accuracy);
        rt_step_metric(co, step, "preference.chosen", done->chosen);
        rt_step_metric(co, step, "preference.rejected", done->rejected);
        rt_step_metric(co, step, "preference.divergence", done->divergence);
    }
    rt_step_metric(co, step, "logprob.compared", (double)done->compared);
    rt_step_metric(co, step, "logprob.mismatched", (double)done->mismatched);
    rt_step_metric(co, step, "tokens.rows", (double)done->tokens);
    rt_step_metric(co, step, "tokens.trained", (double)done->tokens_trained);
    rt_step_metric(co, step, "seconds.learner", done->seconds);
    co->run_tally.tokens_trained += done->tokens_trained;
    co->run_tally.compared += done->compared;
    co->run_tally.mismatched += done->mismatched;
}

/* Moves the counters since the last step into the rows of `step`. Returns the seconds. */
static double record_tally(rt_coordinator *co, int64_t step)
{
    rt_tally_bucket(co);
    double seconds = 0;
    for (int i = 0; i < RT_BUCKETS; i++) {
        char name[40];
        snprintf(name, sizeof name, "seconds.%s", rt_bucket_name(i));
        rt_step_metric(co, step, name, co->step_tally.seconds[i]);
        co->run_tally.seconds[i] += co->step_tally.seconds[i];
        seconds += co->step_tally.seconds[i];
    }
    rt_step_metric(co, step, "tokens.sampled", (double)co->step_tally.tokens_sampled);
    rt_step_metric(co, step, "tokens.prefill", (double)co->step_tally.tokens_prefill);
    co->run_tally.tokens_sampled += co->step_tally.tokens_sampled;
    co->run_tally.tokens_prefill += co->step_tally.tokens_prefill;
    for (int i = 0; i < 3; i++) {
        co->run_tally.grades[i] += co->step_tally.grades[i];
    }
    if (co->step_tally.affinity_wanted > 0) {
        rt_step_metric(co, step, "affinity.wanted", (double)co->step_tally.affinity_wanted);
        rt_step_metric(co, step, "affinity.hits", (double)co->step_tally.affinity_hits);
        rt_step_metric(co, step, "affinity.prefill_tokens",
                       (double)co->step_tally.continuation_prefill);
        rt_step_metric(co, step, "affinity.prefill_tokens.hit",
                       (double)co->step_tally.hit_prefill);
    }
    if (co->step_tally.turns_wanted > 0) {
        uint64_t computed = co->step_tally.turn_prefill, all = co->step_tally.turn_prompt;
        rt_step_metric(co, step, "debate.affinity.wanted", (double)co->step_tally.turns_wanted);
        rt_step_metric(co, step, "debate.affinity.hits", (double)co->step_tally.turns_hits);
        rt_step_metric(co, step, "debate.prompt.tokens.computed", (double)computed);
        rt_step_metric(co, step, "debate.prompt.tokens.reused", (double)(all - RT_MIN(computed, all)));
    }
    co->step_tally = (rt_tally){0};
    return seconds;
}

void rt_record_batch(rt_coordinator *co, rt_plan *plan)
{
    json_object_clear(co->next_metrics);
    record_samples(co, plan);
    rt_mixing_record(co, plan);
    for (int i = 0; i < plan->count; i++) {
        if (plan->jobs[i].lease) {
            rt_record_job(co, &plan->jobs[i]);
        }
    }
    if (plan->resets) {
        rt_resets_record(co, plan);
        rt_resets_metrics(co, plan);
    }
    if (plan->debates) {
        rt_debates_record(co, plan);
        rt_debates_metrics(co, plan);
    }
    plan->recorded = true;
}

static void step_row(rt_coordinator *co, int64_t step, const rt_hash128 *hash,
                     const Retake__StepDone *done, double seconds)
{
    char hex[33];
    if (hash) {
        rt_hash_hex(*hash, hex);
    }
    rt_store_row *fates = rt_store_row_new(RT_TABLE_FATES);
    rt_store_row_int(fates, step);
    rt_store_row_text(fates, rt_fate_name(RT_FATE_TRAINED));
    rt_store_put(co->store, fates);
    rt_store_row *row = rt_store_row_new(RT_TABLE_STEPS);
    rt_store_row_int(row, step);
    rt_store_row_int(row, step + 1);
    rt_store_row_text(row, hash ? hex : NULL);
    rt_store_row_real(row, done ? done->loss : NAN);
    rt_store_row_real(row, done ? done->grad_norm : NAN);
    rt_store_row_int(row, done ? (int64_t)done->tokens : 0);
    rt_store_row_real(row, seconds);
    rt_store_put(co->store, row);
}

void rt_record_step(rt_coordinator *co, const rt_plan *plan, const Retake__StepDone *done)
{
    int64_t step = plan->step;
    if (done) {
        record_learning(co, step, done);
    }
    double seconds = record_tally(co, step);
    rt_step_metric(co, step, "seconds", seconds);
    json_object_clear(co->step_metrics);
    json_object_update(co->step_metrics, co->next_metrics);
    rt_tasks_remember(co);
    /* About the last ten steps count. */
    co->step_seconds_mean +=
        (co->step_seconds_mean > 0 ? 0.1 : 1) * (seconds - co->step_seconds_mean);
    rt_hash128 hash;
    step_row(co, step, done && rt_depot_hash(&done->hash, &hash) ? &hash : NULL, done, seconds);
}

void rt_record_lost_step(rt_coordinator *co, int64_t step, rt_hash128 hash)
{
    rt_events_add(co, RT_INFO, "coordinator",
                  "step %" PRId64 " was trained while no coordinator was there; what was sampled "
                  "for it is kept, the learner's account of it is lost", step);
    for (int i = 0; i < 3; i++) {
        co->run_tally.grades[i] += (uint64_t)co->past.open_grades[i];
    }
    step_row(co, step, &hash, NULL, NAN);
}

void rt_record_rest(rt_coordinator *co)
{
    if (co->version >= 0) {
        record_tally(co, co->version + co->link.step_done);
    }
}
