/* results: what a worker sends back is checked in full before anything of it is believed. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "coordinator/internal.h"

static int count_tokens(const rt_job *job, const Retake__Result *result, size_t *tokens,
                        size_t *thoughts, rt_error *err)
{
    if (result->n_trajectories != (size_t)job->count) {
        return rt_fail(err, RT_ERR_INPUT, "it holds %zu trajectories where %d were asked for",
                       result->n_trajectories, job->count);
    }
    *tokens = *thoughts = 0;
    for (int i = 0; i < job->count; i++) {
        const Retake__Trajectory *trajectory = result->trajectories[i];
        if (trajectory->id != job->first + (uint64_t)i) {
            return rt_fail(err, RT_ERR_INPUT, "trajectory %" PRIu64 " was not asked for",
                           trajectory->id);
        }
        if (trajectory->grade > RT_CORRECT ||
            !(trajectory->reward >= 0 && trajectory->reward <= 1)) {
            return rt_fail(err, RT_ERR_INPUT, "trajectory %" PRIu64 " has no proper grade",
                           trajectory->id);
        }
        *tokens += trajectory->tokens;
        *thoughts += trajectory->thoughts;
    }
    return RT_OK;
}

static int check_values(const rt_sample *sample, int vocab, rt_error *err)
{
    for (uint32_t i = 0; i < sample->tokens; i++) {
        if (sample->ids[i] < 0 || sample->ids[i] >= vocab) {
            return rt_fail(err, RT_ERR_INPUT,
                           "token %u of trajectory %" PRIu64 " is %d, outside the "
                           "vocabulary of %d",
                           i, sample->id, sample->ids[i], vocab);
        }
        if (!isfinite(sample->logp[i])) {
            return rt_fail(err, RT_ERR_INPUT,
                           "token %u of trajectory %" PRIu64 " has log-probability "
                           "%g",
                           i, sample->id, (double)sample->logp[i]);
        }
    }
    int32_t before = 0;
    for (uint32_t i = 0; i < sample->thoughts; i++) {
        if (sample->ends[i] <= before || (uint32_t)sample->ends[i] > sample->tokens) {
            return rt_fail(err, RT_ERR_INPUT,
                           "thought %u of trajectory %" PRIu64 " ends at token %d", i, sample->id,
                           sample->ends[i]);
        }
        before = sample->ends[i];
    }
    return RT_OK;
}

static int check_frames(const rt_frame *frames, int count, size_t tokens, size_t thoughts,
                        rt_error *err)
{
    if (count < 3 || frames[0].bytes != tokens * 4 || frames[1].bytes != tokens * 4 ||
        frames[2].bytes != thoughts * 4) {
        return rt_fail(err, RT_ERR_INPUT, "its frames do not hold the %zu tokens it names", tokens);
    }
    return RT_OK;
}

/* The prefix, and behind it the next `own` words of a frame. */
static void join(void *to, const void *prefix, size_t prefix_count, const uint8_t **from,
                 size_t own)
{
    if (prefix_count > 0) {
        memcpy(to, prefix, prefix_count * 4);
    }
    if (own > 0) {
        memcpy((uint8_t *)to + prefix_count * 4, *from, own * 4);
        *from += own * 4;
    }
}

int rt_job_fill(rt_job *job, const Retake__Result *result, const rt_frame *frames, int frames_count,
                int vocab, rt_error *err)
{
    size_t tokens = 0, thoughts = 0;
    int rc = count_tokens(job, result, &tokens, &thoughts, err);
    if (!rc) {
        rc = check_frames(frames, frames_count, tokens, thoughts, err);
    }
    if (rc) {
        return rc;
    }
    const rt_prefix *prefix = &job->prefix;
    size_t whole = tokens + (size_t)job->count * prefix->count;
    size_t marks = thoughts + (size_t)job->count * prefix->thoughts;
    uint8_t *block = rt_alloc(whole * 8 + marks * 4 + 1);
    int32_t *ids = (int32_t *)block, *ends = (int32_t *)(block + whole * 8);
    float *logp = (float *)(block + whole * 4);
    const uint8_t *parts[3] = {frames[0].data, frames[1].data, frames[2].data};
    rt_sample *samples = rt_alloc((size_t)job->count * sizeof *samples);
    for (int i = 0; i < job->count && !rc; i++) {
        const Retake__Trajectory *trajectory = result->trajectories[i];
        uint32_t own = trajectory->tokens, own_thoughts = trajectory->thoughts;
        join(ids, prefix->ids, prefix->count, &parts[0], own);
        join(logp, prefix->logp, prefix->count, &parts[1], own);
        join(ends, prefix->ends, prefix->thoughts, &parts[2], own_thoughts);
        for (uint32_t k = 0; k < own_thoughts; k++) {
            ends[prefix->thoughts + k] =
                (int32_t)((uint32_t)ends[prefix->thoughts + k] + prefix->count);
        }
        samples[i] = (rt_sample){.id = trajectory->id,
                                 .kind = job->kind,
                                 .group = -1,
                                 .parent = -1,
                                 .reset = -1,
                                 .ids = ids,
                                 .logp = logp,
                                 .ends = ends,
                                 .tokens = own + prefix->count,
                                 .thoughts = own_thoughts + prefix->thoughts,
                                 .grade = (int)trajectory->grade,
                                 .reward = trajectory->reward};
        snprintf(samples[i].end, sizeof samples[i].end, "%s", trajectory->end);
        ids += samples[i].tokens;
        logp += samples[i].tokens;
        ends += samples[i].thoughts;
        rc = check_values(&samples[i], vocab, err);
    }
    if (rc) {
        rt_free(block);
        rt_free(samples);
        return rc;
    }
    job->block = block;
    job->samples = samples;
    return RT_OK;
}

/* The lease goes out again, or its problem is given up after too many failures. */
static void failed_result(rt_coordinator *co, rt_lease *lease, const char *who, const char *why)
{
    rt_job *job = lease->job;
    /* A worker that has moved on to newer weights is not at fault, and neither is the problem. */
    bool outdated = !job->plan->evaluation && lease->version < co->version;
    lease->errors += !outdated;
    if (lease->errors < RT_LEASE_ERRORS_MAX) {
        rt_events_add(co, RT_WARN, who, "lease %" PRIu64 " failed and goes out again: %s",
                      lease->id, why);
        if (lease->state == RT_LEASE_ISSUED) {
            rt_leases_requeue(&co->leases, lease);
        }
        return;
    }
    rt_events_add(co, RT_ERROR, who,
                  "lease %" PRIu64 " (%s) of problem %" PRIu64 " of %s failed %u times and is "
                  "given up: %s",
                  lease->id, rt_kind_name(job->kind), job->problem, job->task_name, lease->errors,
                  why);
    rt_plan_end_lease(co, job, RT_FATE_FAILED);
    job->failed = true;
    job->plan->pending--;
    if (job->debate) {
        rt_debates_done(co, job);
    } else if (job->plan->resets) {
        rt_resets_done(co, job);
    } else {
        job->plan->failed++;
    }
}

static void take_in(rt_coordinator *co, rt_worker *worker, rt_lease *lease,
                    const rt_message *message, bool current)
{
    const Retake__Result *result = message->envelope->result;
    rt_job *job = lease->job;
    rt_error err = {0};
    int rc = rt_job_fill(job, result, message->frames, message->frames_count,
                         rt_tokenizer_vocab(co->tokenizer), &err);
    if (rc) {
        if (current) {
            failed_result(co, lease, worker->name, err.message);
        }
        return;
    }
    job->version = result->weights_version;
    snprintf(job->worker, sizeof job->worker, "%s", worker->name);
    if (!current && lease->state == RT_LEASE_ISSUED) {
        rt_workers_cancel(co, lease); /* the answer of an earlier attempt was faster */
    }
    rt_leases_hold(&co->leases, lease);
    if (rt_job_stale(job, co->config->run.staleness)) {
        rt_events_add(co, RT_WARN, worker->name,
                      "lease %" PRIu64 " is of version %lld, too old for "
                      "step %lld",
                      lease->id, (long long)job->version, (long long)job->plan->step);
        rt_plan_again(co, job);
        return;
    }
    co->step_tally.tokens_sampled += result->tokens_generated;
    co->step_tally.tokens_prefill += result->tokens_prefill;
    if (job->prefix.count > 0) {
        co->step_tally.affinity_wanted++;
        co->step_tally.affinity_hits += job->hit;
        co->step_tally.continuation_prefill += result->tokens_prefill;
        co->step_tally.hit_prefill += job->hit ? result->tokens_prefill : 0;
    }
    if (job->debate && job->prefers[0]) {
        co->step_tally.turns_wanted++;
        co->step_tally.turns_hits += job->hit;
        co->step_tally.turn_prompt += job->prompt_count;
        co->step_tally.turn_prefill += result->tokens_prefill;
    }
    job->plan->pending--;
    if (job->debate) {
        rt_debates_done(co, job);
    } else if (job->plan->resets) {
        rt_resets_done(co, job);
    }
}

void rt_results_take(rt_coordinator *co, rt_worker *worker, const rt_message *message)
{
    const Retake__Result *result = message->envelope->result;
    rt_lease *lease = rt_leases_find(&co->leases, result->lease);
    rt_coordinator_progress(co);
    worker->results++;
    if (!lease && result->lease >= co->leases.next_id) {
        rt_events_add(co, RT_WARN, worker->name,
                      "a result for lease %" PRIu64 ", which was never given "
                      "out, is refused",
                      result->lease);
        return;
    }
    if (!lease || lease->state == RT_LEASE_HELD) {
        co->leases.duplicate++;
        return;
    }
    bool current = lease->state == RT_LEASE_ISSUED && lease->list == &worker->leases &&
                   lease->attempt == result->attempt;
    if (result->error && result->error[0]) {
        if (current) { /* else: whoever has it now may still do it */
            failed_result(co, lease, worker->name, result->error);
        }
        return;
    }
    rt_hash128 hash;
    if (!rt_depot_hash(&result->weights_hash, &hash) ||
        !rt_depot_known(&co->weights, result->weights_version, hash)) {
        rt_events_add(co, RT_WARN, worker->name,
                      "a result of weights version %lld, which was never "
                      "announced with that hash, is refused",
                      (long long)result->weights_version);
        if (current) {
            failed_result(co, lease, worker->name, "unknown weights");
        }
        return;
    }
    if (result->weights_version != lease->version) {
        if (current) {
            failed_result(co, lease, worker->name, "sampled at another version than asked for");
        } else {
            co->leases.duplicate++;
        }
        return;
    }
    take_in(co, worker, lease, message, current);
}
