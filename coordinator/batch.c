/*
 * batch: the training batch of one step. Sequences in the order of their trajectory ids, or of a
 * debate's lessons, whatever the order of arrival; ids and log-probs as raw frames.
 */
#include <stdlib.h>
#include <string.h>

#include "coordinator/debates.h"

/* One text of the batch, from whatever plan. */
typedef struct item {
    uint64_t id, problem;
    int64_t group, version;
    int task, kind;
    const int32_t *prompt, *ids;
    const float *logp; /* of ids; NULL: unknown */
    size_t prompt_count, tokens;
    /* This many ids at the end of the prompt are sent as if they were its response. */
    size_t trained_prompt;
    uint32_t suffix_start, adapter, rejected, depth, agent;
    double advantage;
    bool unsampled;
} item;

static int by_id(const void *a, const void *b)
{
    uint64_t x = ((const item *)a)->id, y = ((const item *)b)->id;
    return (x > y) - (x < y);
}

/* A prefix sampled with older weights has log-probs that are not this version's. */
static int64_t version_of(const rt_job *job)
{
    return job->prefix.count > 0 ? RT_MIN(job->version, job->prefix.version) : job->version;
}

static item item_of(const rt_job *job, const rt_sample *sample)
{
    return (item){.id = sample->id,
                  .problem = job->problem,
                  .group = sample->group,
                  .version = version_of(job),
                  .task = job->task,
                  .kind = sample->kind,
                  .prompt = job->prompt_ids,
                  .prompt_count = job->prompt_count,
                  .ids = sample->ids,
                  .logp = sample->logp,
                  .tokens = sample->tokens,
                  .suffix_start = sample->suffix_start,
                  .adapter = job->adapter,
                  .depth = job->prefix.thoughts,
                  .advantage = sample->advantage};
}

/* Jobs of a plan with resets stand in the order their need became known; the batch goes by id. */
static item *list_jobs(const rt_plan *plan, size_t *count)
{
    size_t room = 0;
    for (int i = 0; i < plan->count; i++) {
        room += (size_t)plan->jobs[i].count;
    }
    item *items = rt_alloc((room + 1) * sizeof *items);
    *count = 0;
    for (int i = 0; i < plan->count; i++) {
        const rt_job *job = &plan->jobs[i];
        for (int j = 0; job->samples && j < job->count; j++) {
            if (job->samples[j].trained) {
                items[(*count)++] = item_of(job, &job->samples[j]);
            }
        }
    }
    qsort(items, *count, sizeof *items, by_id);
    for (size_t i = 1; i < *count; i++) {
        RT_ASSERT(items[i].id > items[i - 1].id);
    }
    return items;
}

static item *list_lessons(const rt_debate_plan *debates, size_t *count)
{
    *count = (size_t)debates->lessons_count;
    item *items = rt_alloc((*count + 1) * sizeof *items);
    for (size_t i = 0; i < *count; i++) {
        const rt_lesson *lesson = &debates->lessons[i];
        item *to = &items[i];
        *to = item_of(lesson->job, lesson->sample);
        to->prompt = lesson->prompt;
        to->prompt_count = (size_t)lesson->prompt_count;
        to->adapter = lesson->adapter;
        to->rejected = lesson->rejected;
        to->agent = (uint32_t)lesson->record->agent;
        to->advantage = lesson->advantage;
        to->unsampled = lesson->unsampled;
        to->group = (int64_t)(lesson->record - lesson->entry->records.items) +
                    (int64_t)lesson->entry->debate->id;
        if (lesson->sample->group >= 0) {
            to->group = lesson->sample->group;
        }
        if (lesson->all_tokens) { /* nothing stands before the first token: it can't be trained */
            to->trained_prompt = to->prompt_count - 1;
        }
    }
    return items;
}

static void put(int32_t **ids, float **logp, const item *from)
{
    memcpy(*ids, from->prompt, from->prompt_count * sizeof(int32_t));
    *ids += from->prompt_count;
    *logp += from->trained_prompt; /* zero: nobody compares them */
    if (from->tokens > 0) {
        memcpy(*ids, from->ids, from->tokens * sizeof(int32_t));
        memcpy(*logp, from->logp, from->tokens * sizeof(float));
    }
    *ids += from->tokens;
    *logp += from->tokens;
}

static void fill(Retake__Sequence *sequence, const item *from, uint32_t group)
{
    retake__sequence__init(sequence);
    sequence->trajectory = from->id;
    sequence->problem = from->problem;
    sequence->task = (uint32_t)from->task;
    sequence->group = group;
    sequence->kind = (char *)rt_kind_name(from->kind);
    sequence->prompt_tokens = (uint32_t)(from->prompt_count - from->trained_prompt);
    sequence->response_tokens = (uint32_t)(from->tokens + from->trained_prompt);
    sequence->start_case = RETAKE__SEQUENCE__START_SUFFIX_START;
    sequence->suffix_start = from->suffix_start;
    sequence->signal_case = RETAKE__SEQUENCE__SIGNAL_ADVANTAGE;
    sequence->advantage = from->advantage;
    sequence->weights_version = from->version;
    sequence->adapter = from->adapter;
    sequence->rejected = from->rejected;
    sequence->unsampled = from->unsampled;
    sequence->depth = from->depth;
    sequence->agent = from->agent;
}

void rt_batch_build(rt_batch *batch, const rt_plan *plan, int64_t version, bool last)
{
    *batch = (rt_batch){0};
    size_t count = 0;
    item *items = plan->debates ? list_lessons(plan->debates, &count) : list_jobs(plan, &count);
    for (size_t i = 0; i < count; i++) {
        batch->ids_count += items[i].prompt_count + items[i].tokens;
        batch->logp_count += items[i].trained_prompt + items[i].tokens;
    }
    batch->ids = rt_alloc(batch->ids_count * sizeof(int32_t) + 1);
    batch->logp = rt_alloc(batch->logp_count * sizeof(float) + 1);
    batch->sequences = rt_alloc((count + 1) * sizeof(Retake__Sequence));
    batch->pointers = rt_alloc((count + 1) * sizeof(Retake__Sequence *));
    int32_t *ids = batch->ids;
    float *logp = batch->logp;
    uint32_t group = 0;
    for (size_t i = 0; i < count; i++) {
        group += i > 0 && items[i].group != items[i - 1].group;
        fill(&batch->sequences[i], &items[i], group);
        batch->pointers[i] = &batch->sequences[i];
        put(&ids, &logp, &items[i]);
    }
    rt_free(items);
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
