/* lease_message: a lease as the worker gets it. */
#include "coordinator/internal.h"

void rt_lease_sampling(const rt_config *config, const rt_job *job, Retake__Sampling *sampling)
{
    rt_limits limits = rt_config_limits(config, job->task);
    double temperature = limits.temperature;
    if (job->plan->evaluation && !job->debate) { /* debates are held as in training */
        temperature = job->sampled ? config->eval.temperature : 0;
    }
    sampling->temperature = temperature;
    sampling->top_p = limits.top_p;
    sampling->top_k = (uint32_t)config->sampling.top_k;
    sampling->max_tokens = (uint32_t)limits.max_tokens;
    sampling->seed = (uint64_t)config->run.seed;
    sampling->delimiter = config->thoughts.delimiter ? config->thoughts.delimiter : "";
    sampling->terminal = config->thoughts.terminal ? config->thoughts.terminal : "";
    sampling->thoughts_max = (uint32_t)limits.thoughts_max;
    sampling->thought_tokens_max = (uint32_t)limits.thought_tokens_max;
    if (job->kind == RT_KIND_LOCALIZE) { /* a judgement is one piece of text */
        sampling->temperature = config->algorithm.resets.localize_temperature;
        sampling->max_tokens = (uint32_t)config->algorithm.resets.localize_tokens;
        sampling->delimiter = sampling->terminal = "";
    } else if (job->kind == RT_KIND_SUMMARY) {
        sampling->delimiter = sampling->terminal = "";
    } else if (job->kind == RT_KIND_RESET) { /* the response begins with the prefix */
        sampling->max_tokens -= job->prefix.count;
    }
}

int rt_lease_send(rt_coordinator *co, rt_worker *worker, const rt_lease *lease, rt_error *err)
{
    const rt_job *job = lease->job;
    const rt_held *held = rt_depot_of(&co->weights, lease->version);
    RT_ASSERT(held != NULL);
    Retake__Sampling sampling = RETAKE__SAMPLING__INIT;
    rt_lease_sampling(co->config, job, &sampling);
    Retake__Lease message = RETAKE__LEASE__INIT;
    message.id = lease->id;
    message.attempt = lease->attempt;
    message.kind = (char *)rt_kind_name(job->kind);
    message.thoughts_before = job->prefix.thoughts;
    message.weights_version = lease->version;
    rt_hash128 hash = held->hash;
    message.weights_hash.data = (uint8_t *)&hash;
    message.weights_hash.len = sizeof hash;
    message.problem = job->problem;
    message.grader = (char *)job->grader;
    message.gold = (char *)job->gold;
    uint64_t ids[256];
    RT_ASSERT(job->count <= (int)RT_COUNT(ids));
    for (int i = 0; i < job->count; i++) {
        ids[i] = job->first + (uint64_t)i;
    }
    message.trajectories = ids;
    message.n_trajectories = (size_t)job->count;
    message.sampling = &sampling;
    message.adapter = job->adapter;
    message.deadline_ms = (uint32_t)co->config->coordinator.lease_timeout_ms;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_LEASE;
    envelope.lease = &message;
    rt_frame frames[2] = {{job->prompt_ids, job->prompt_count * sizeof(int32_t)},
                          {job->prefix.count > 0 ? (const void *)job->prefix.ids : "",
                           job->prefix.count * sizeof(int32_t)}};
    return rt_socket_send(co->work, worker->peer, worker->peer_bytes, &envelope, frames, 2, err);
}
