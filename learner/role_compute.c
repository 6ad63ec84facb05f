/* The learner's compute thread, and batches from messages: every count is checked first. */
#include <math.h>
#include <string.h>

#include "learner/role.h"

void rt_job_free(rt_job *job)
{
    if (!job)
        return;
    rt_free(job->sequences), rt_free(job->ids), rt_free(job->old_logp);
    for (int i = 0; job->metrics && i < job->stats.metrics_count; i++)
        rt_free(job->metrics[i].name);
    rt_free(job->metrics);
    rt_buf_free(&job->path);
    rt_free(job);
}

static void do_step(rt_role *role, rt_job *job)
{
    rt_learner *learner = role->learner;
    if (job->step != rt_learner_version(learner)) {
        job->rc = rt_fail(&job->error, RT_ERR_STATE, "got the batch of step %lld while holding version %lld",
                          (long long)job->step, (long long)rt_learner_version(learner));
        return;
    }
    for (int i = 0; i < job->count; i++) {
        const rt_sequence *q = &job->sequences[i];
        if (q->task < 0 || q->task >= role->config->tasks_count) {
            job->rc = rt_fail(&job->error, RT_ERR_INPUT, "the batch of step %lld has trajectory %llu of "
                              "task %d, and the config lists %d tasks", (long long)job->step,
                              (unsigned long long)q->trajectory, q->task, role->config->tasks_count);
            return;
        }
    }
    job->rc = rt_learner_step(learner, job->sequences, job->count,
                              (int)role->config->algorithm.updates, &role->stop,
                              &job->updates_done, &job->stats, &job->error);
    job->metrics = rt_alloc((size_t)(job->stats.metrics_count + 1) * sizeof *job->metrics);
    for (int i = 0; i < job->stats.metrics_count; i++)
        job->metrics[i] = (rt_metric){rt_format("%s", job->stats.metrics[i].name),
                                      job->stats.metrics[i].value};
    if (job->rc == 0)
        rt_learner_set_version(learner, job->step + 1);
    job->version = rt_learner_version(learner);
    job->hash = rt_learner_hash(learner);
}

static void do_save(rt_role *role, rt_job *job)
{
    job->version = rt_learner_version(role->learner);
    job->rc = rt_checkpoint_save(role->learner, role->checkpoints,
                                 (int)role->config->learner.checkpoints_kept, &job->path,
                                 &job->error);
}

void *rt_role_compute(void *context)
{
    rt_role *role = context;
    for (;;) {
        rt_job *job = rt_mailbox_from_loop(role->mailbox, 1000);
        if (!job)
            continue;
        if (job->kind == JOB_QUIT) {
            rt_job_free(job);
            return NULL;
        }
        if (job->kind == JOB_STEP)
            do_step(role, job);
        else
            do_save(role, job);
        while (!rt_mailbox_to_loop(role->mailbox, job))
            continue; /* one job at a time: the ring can't stay full */
    }
}

/* Numbers of other things: adapters of the run, sequences of the batch. */
static int check_links(const rt_config *config, const Retake__Batch *batch, const Retake__Sequence *q,
                       rt_error *err)
{
    int adapters = rt_config_adapters(config);
    if (q->adapter > (uint32_t)adapters)
        return rt_fail(err, RT_ERR_INPUT, "batch of step %lld: trajectory %llu is for adapter %u of %d; "
                       "learner.lora and algorithm.debate must be the coordinator's",
                       (long long)batch->step, (unsigned long long)q->trajectory, q->adapter, adapters);
    if (q->rejected > batch->n_sequences)
        return rt_fail(err, RT_ERR_INPUT, "batch of step %lld: trajectory %llu is preferred to number %u of "
                       "%zu sequences", (long long)batch->step, (unsigned long long)q->trajectory,
                       q->rejected, batch->n_sequences);
    return 0;
}

/* Sums of the counts must be exactly what the frames hold. */
static int check_frames(const rt_config *config, const Retake__Batch *batch, const rt_frame *frames,
                        int frames_count, rt_error *err)
{
    uint64_t ids = 0, logps = 0;
    for (size_t i = 0; i < batch->n_sequences; i++) {
        const Retake__Sequence *q = batch->sequences[i];
        ids += (uint64_t)q->prompt_tokens + q->response_tokens;
        logps += q->response_tokens;
        if (q->signal_case != RETAKE__SEQUENCE__SIGNAL_ADVANTAGE ||
            q->start_case != RETAKE__SEQUENCE__START_SUFFIX_START || !isfinite(q->advantage))
            return rt_fail(err, RT_ERR_INPUT, "batch of step %lld: trajectory %llu comes without an "
                           "advantage or without a suffix start; nothing is trained on a guess",
                           (long long)batch->step, (unsigned long long)q->trajectory);
        if (q->prompt_tokens == 0 || q->suffix_start > q->response_tokens)
            return rt_fail(err, RT_ERR_INPUT, "batch of step %lld: trajectory %llu has no prompt or a "
                           "suffix start past its end", (long long)batch->step,
                           (unsigned long long)q->trajectory);
        int rc = check_links(config, batch, q, err);
        if (rc != 0)
            return rc;
    }
    if (batch->n_sequences == 0)
        return 0;
    if (frames_count != 2 || frames[0].bytes != ids * sizeof(int32_t) ||
        frames[1].bytes != logps * sizeof(float))
        return rt_fail(err, RT_ERR_INPUT, "batch of step %lld: its frames don't hold the %llu ids and "
                       "%llu log-probs it names", (long long)batch->step, (unsigned long long)ids,
                       (unsigned long long)logps);
    return 0;
}

static int sequence_kind(const char *name)
{
    return strcmp(name, "reset") == 0    ? RT_SEQUENCE_RESET
           : strcmp(name, "debate") == 0 ? RT_SEQUENCE_DEBATE
                                         : RT_SEQUENCE_BASE;
}

rt_job *rt_job_step(const rt_config *config, const Retake__Batch *batch, const rt_frame *frames,
                    int frames_count, rt_error *err)
{
    if (check_frames(config, batch, frames, frames_count, err) != 0)
        return NULL;
    rt_job *job = rt_alloc(sizeof *job);
    job->kind = JOB_STEP;
    job->step = batch->step;
    job->count = (int)batch->n_sequences;
    if (job->count == 0)
        return job;
    job->sequences = rt_alloc((size_t)job->count * sizeof *job->sequences);
    job->ids = rt_alloc(frames[0].bytes);
    memcpy(job->ids, frames[0].data, frames[0].bytes);
    job->old_logp = rt_alloc(RT_MAX(frames[1].bytes, sizeof(float)));
    memcpy(job->old_logp, frames[1].data, frames[1].bytes);
    const int32_t *ids = job->ids;
    const float *logp = job->old_logp;
    for (int i = 0; i < job->count; i++) {
        const Retake__Sequence *q = batch->sequences[i];
        job->sequences[i] = (rt_sequence){
            .trajectory = q->trajectory, .ids = ids, .old_logp = q->unsampled ? NULL : logp,
            .prompt_tokens = (int)q->prompt_tokens, .response_tokens = (int)q->response_tokens,
            .suffix_start = (int)q->suffix_start, .task = (int)q->task,
            .advantage = rt_correction_advantage(config, (int)q->task, q->advantage),
            .stale = q->unsampled || q->weights_version != batch->weights_version,
            .adapter = (int)RT_MIN(q->adapter, (uint32_t)RT_ADAPTERS_MAX + 1),
            .rejected = (int)q->rejected, .problem = q->problem,
            .kind = sequence_kind(q->kind), .depth = (int)RT_MIN(q->depth, 1u << 20),
            .agent = (int)RT_MIN(q->agent, 1u << 20),
        };
        ids += q->prompt_tokens + q->response_tokens;
        logp += q->response_tokens;
    }
    return job;
}
