/*
 * batch: the training batch of one step. Sequences in the order of their trajectory ids, whatever
 * the order of arrival; ids and log-probs as raw frames.
 */
#include <string.h>

#include "coordinator/internal.h"

static bool trained(const rt_job *job)
{
    return job->samples && !job->dropped && !job->failed;
}

static size_t measure(rt_batch *batch, const rt_plan *plan)
{
    size_t sequences = 0;
    for (int i = 0; i < plan->count; i++) {
        const rt_job *job = &plan->jobs[i];
        for (int j = 0; trained(job) && j < job->count; j++) {
            batch->ids_count += job->prompt_count + job->samples[j].tokens;
            batch->logp_count += job->samples[j].tokens;
            sequences++;
        }
    }
    return sequences;
}

static void put(int32_t **ids, float **logp, const rt_job *job, const rt_sample *sample)
{
    memcpy(*ids, job->prompt_ids, job->prompt_count * sizeof(int32_t));
    *ids += job->prompt_count;
    if (sample->tokens > 0) {
        memcpy(*ids, sample->ids, sample->tokens * sizeof(int32_t));
        memcpy(*logp, sample->logp, sample->tokens * sizeof(float));
    }
    *ids += sample->tokens;
    *logp += sample->tokens;
}

void rt_batch_build(rt_batch *batch, const rt_plan *plan, int64_t version, bool last)
{
    *batch = (rt_batch){0};
    size_t sequences = measure(batch, plan);
    batch->ids = rt_alloc(batch->ids_count * sizeof(int32_t) + 1);
    batch->logp = rt_alloc(batch->logp_count * sizeof(float) + 1);
    batch->sequences = rt_alloc((sequences + 1) * sizeof(Retake__Sequence));
    batch->pointers = rt_alloc((sequences + 1) * sizeof(Retake__Sequence *));
    int32_t *ids = batch->ids;
    float *logp = batch->logp;
    size_t n = 0;
    uint32_t group = 0;
    uint64_t before = 0;
    for (int i = 0; i < plan->count; i++) {
        const rt_job *job = &plan->jobs[i];
        for (int j = 0; trained(job) && j < job->count; j++) {
            const rt_sample *sample = &job->samples[j];
            RT_ASSERT(n == 0 || sample->id > before);
            before = sample->id;
            Retake__Sequence *sequence = &batch->sequences[n];
            retake__sequence__init(sequence);
            sequence->trajectory = sample->id;
            sequence->problem = job->problem;
            sequence->task = (uint32_t)job->task;
            sequence->group = group;
            sequence->kind = "base";
            sequence->prompt_tokens = (uint32_t)job->prompt_count;
            sequence->response_tokens = sample->tokens;
            sequence->signal_case = RETAKE__SEQUENCE__SIGNAL_ADVANTAGE;
            sequence->start_case = RETAKE__SEQUENCE__START_SUFFIX_START;
            sequence->advantage = sample->advantage;
            sequence->weights_version = job->version;
            batch->pointers[n++] = sequence;
            put(&ids, &logp, job, sample);
        }
        group += trained(job);
    }
    retake__batch__init(&batch->message);
    batch->message.step = plan->step;
    batch->message.weights_version = version;
    batch->message.sequences = batch->pointers;
    batch->message.n_sequences = n;
    batch->message.last = last;
}

void rt_batch_free(rt_batch *batch)
{
    rt_free(batch->ids);
    rt_free(batch->logp);
    rt_free(batch->sequences);
    rt_free(batch->pointers);
    *batch = (rt_batch){0};
}
