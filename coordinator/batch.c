/*
 * batch: the training batch of one step. Sequences in the order of their trajectory ids, whatever
 * the order of arrival; ids and log-probs as raw frames.
 */
#include <stdlib.h>
#include <string.h>

#include "coordinator/internal.h"

/* A trajectory of the batch and the work it came from. */
typedef struct entry {
    const rt_job *job;
    const rt_sample *sample;
} entry;

static int by_id(const void *a, const void *b)
{
    uint64_t x = ((const entry *)a)->sample->id, y = ((const entry *)b)->sample->id;
    return (x > y) - (x < y);
}

static entry *list(rt_batch *batch, const rt_plan *plan, size_t *count)
{
    size_t room = 0;
    for (int i = 0; i < plan->count; i++) {
        room += (size_t)plan->jobs[i].count;
    }
    entry *entries = rt_alloc((room + 1) * sizeof *entries);
    *count = 0;
    for (int i = 0; i < plan->count; i++) {
        const rt_job *job = &plan->jobs[i];
        for (int j = 0; job->samples && j < job->count; j++) {
            if (job->samples[j].trained) {
                batch->ids_count += job->prompt_count + job->samples[j].tokens;
                batch->logp_count += job->samples[j].tokens;
                entries[(*count)++] = (entry){job, &job->samples[j]};
            }
        }
    }
    /* Jobs of a plan with resets stand in the order their need became known. */
    qsort(entries, *count, sizeof *entries, by_id);
    return entries;
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

/* A prefix sampled with older weights has log-probs that are not this version's. */
static int64_t version_of(const rt_job *job)
{
    return job->prefix.count > 0 ? RT_MIN(job->version, job->prefix.version) : job->version;
}

static void fill(Retake__Sequence *sequence, const entry *from, uint32_t group)
{
    const rt_job *job = from->job;
    const rt_sample *sample = from->sample;
    retake__sequence__init(sequence);
    sequence->trajectory = sample->id;
    sequence->problem = job->problem;
    sequence->task = (uint32_t)job->task;
    sequence->group = group;
    sequence->kind = (char *)rt_kind_name(sample->kind);
    sequence->prompt_tokens = (uint32_t)job->prompt_count;
    sequence->response_tokens = sample->tokens;
    sequence->start_case = RETAKE__SEQUENCE__START_SUFFIX_START;
    sequence->suffix_start = sample->suffix_start;
    sequence->signal_case = RETAKE__SEQUENCE__SIGNAL_ADVANTAGE;
    sequence->advantage = sample->advantage;
    sequence->weights_version = version_of(job);
}

void rt_batch_build(rt_batch *batch, const rt_plan *plan, int64_t version, bool last)
{
    *batch = (rt_batch){0};
    size_t count = 0;
    entry *entries = list(batch, plan, &count);
    batch->ids = rt_alloc(batch->ids_count * sizeof(int32_t) + 1);
    batch->logp = rt_alloc(batch->logp_count * sizeof(float) + 1);
    batch->sequences = rt_alloc((count + 1) * sizeof(Retake__Sequence));
    batch->pointers = rt_alloc((count + 1) * sizeof(Retake__Sequence *));
    int32_t *ids = batch->ids;
    float *logp = batch->logp;
    uint32_t group = 0;
    for (size_t i = 0; i < count; i++) {
        RT_ASSERT(i == 0 || entries[i].sample->id > entries[i - 1].sample->id);
        group += i > 0 && entries[i].sample->group != entries[i - 1].sample->group;
        fill(&batch->sequences[i], &entries[i], group);
        batch->pointers[i] = &batch->sequences[i];
        put(&ids, &logp, entries[i].job, entries[i].sample);
    }
    rt_free(entries);
    retake__batch__init(&batch->message);
    batch->message.step = plan->step;
    batch->message.weights_version = version;
    batch->message.sequences = batch->pointers;
    batch->message.n_sequences = count;
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
