/* Leases in, results out: the loop thread's side. */
#include <inttypes.h>
#include <limits.h>
#include <string.h>

#include "actor/internal.h"

#define TRAJECTORIES_MAX 2048 /* of one lease: its result stays well below the envelope's limit */
#define LEASES_MAX 2048       /* at once: fits the mailbox with room for cancels */

/* ---- rt_work ------------------------------------------------------------------------------- */

static int check_lease(const rt_message *message, rt_error *err)
{
    const Retake__Lease *lease = message->envelope->lease;
    static const char *const kinds[] = {"base", "eval", "reset", "localize", "debate", "summary"};
    bool known = false;
    for (size_t i = 0; i < RT_COUNT(kinds); i++)
        known |= strcmp(lease->kind, kinds[i]) == 0;
    if (!known)
        return rt_fail(err, RT_ERR_INPUT, "this worker knows no leases of kind '%s'", lease->kind);
    if (!lease->sampling)
        return rt_fail(err, RT_ERR_INPUT, "the lease names no sampling settings");
    if (lease->n_trajectories < 1 || lease->n_trajectories > TRAJECTORIES_MAX)
        return rt_fail(err, RT_ERR_LIMIT, "the lease asks for %zu trajectories, 1 to %d can be",
                       lease->n_trajectories, TRAJECTORIES_MAX);
    for (int i = 0; i < message->frames_count; i++)
        if (message->frames[i].bytes % sizeof(int32_t) != 0 ||
            message->frames[i].bytes / sizeof(int32_t) > INT_MAX / 4)
            return rt_fail(err, RT_ERR_INPUT, "frame %d of the lease is no list of ids", i + 1);
    if (message->frames_count < 1 || message->frames[0].bytes == 0)
        return rt_fail(err, RT_ERR_INPUT, "the lease has no prompt");
    return RT_OK;
}

static int at_most_int(uint32_t value)
{
    return value > INT_MAX ? INT_MAX : (int)value;
}

static void read_sampling(rt_work *work, const Retake__Sampling *sampling)
{
    work->delimiter = rt_strdup(sampling->delimiter);
    work->terminal = rt_strdup(sampling->terminal);
    work->sampling = (rt_sampling){
        .temperature = sampling->temperature,
        .top_p = sampling->top_p,
        .top_k = at_most_int(sampling->top_k),
        .max_tokens = at_most_int(sampling->max_tokens),
        .seed = sampling->seed,
        .delimiter = *work->delimiter ? work->delimiter : NULL,
        .terminal = *work->terminal ? work->terminal : NULL,
        .thoughts_max = at_most_int(sampling->thoughts_max),
        .thought_tokens_max = at_most_int(sampling->thought_tokens_max),
    };
}

rt_work *rt_work_new(const rt_message *message, uint64_t request, rt_error *err)
{
    if (check_lease(message, err) != RT_OK)
        return NULL;
    const Retake__Lease *lease = message->envelope->lease;
    rt_work *work = rt_alloc(sizeof(*work));
    work->lease = lease->id;
    work->request = request;
    work->version.set = true;
    work->version.number = lease->weights_version;
    memcpy(&work->version.hash, lease->weights_hash.data, sizeof(rt_hash128));
    work->grader = rt_strdup(lease->grader);
    work->gold = rt_strdup(lease->gold);
    work->thoughts_before = at_most_int(lease->thoughts_before);
    work->adapter = at_most_int(lease->adapter) - 1;
    work->graded = strcmp(lease->kind, "localize") != 0 && strcmp(lease->kind, "summary") != 0;
    read_sampling(work, lease->sampling);
    work->sampling.lookahead = work->graded ? 0 : RT_LOOKAHEAD_MAX; /* judgements and summaries quote */
    const size_t prompt_bytes = message->frames[0].bytes;
    const size_t more_bytes = message->frames_count > 1 ? message->frames[1].bytes : 0;
    work->prefix = rt_alloc(prompt_bytes + more_bytes);
    memcpy(work->prefix, message->frames[0].data, prompt_bytes);
    if (more_bytes > 0)
        memcpy((char *)work->prefix + prompt_bytes, message->frames[1].data, more_bytes);
    work->prompt_count = (int)(prompt_bytes / sizeof(int32_t));
    work->prefix_count = (int)((prompt_bytes + more_bytes) / sizeof(int32_t));
    work->count = (int)lease->n_trajectories;
    const size_t count = lease->n_trajectories;
    work->trajectories = rt_alloc(count * sizeof(*work->trajectories));
    memcpy(work->trajectories, lease->trajectories, count * sizeof(*work->trajectories));
    work->completions = rt_alloc(count * sizeof(*work->completions));
    work->verdicts = rt_alloc(count * sizeof(*work->verdicts));
    work->have = rt_alloc(count * sizeof(*work->have));
    return work;
}

void rt_work_free(rt_work **work)
{
    rt_work *gone = *work;
    if (!gone)
        return;
    *work = NULL;
    for (int i = 0; i < gone->count; i++)
        rt_completion_free(&gone->completions[i]);
    void *parts[] = {gone->grader, gone->gold, gone->delimiter, gone->terminal, gone->prefix,
                     gone->trajectories, gone->completions, gone->verdicts, gone->have, gone};
    for (size_t i = 0; i < RT_COUNT(parts); i++)
        rt_free(parts[i]);
}

void rt_work_append(rt_work **list, rt_work *work)
{
    while (*list)
        list = &(*list)->next;
    work->next = NULL;
    *list = work;
}

/* ---- open leases --------------------------------------------------------------------------- */

static rt_open *open_find(rt_actor *actor, uint64_t lease)
{
    for (int i = 0; i < actor->open_count; i++)
        if (actor->open[i].lease == lease)
            return &actor->open[i];
    return NULL;
}

static void open_add(rt_actor *actor, const rt_work *work, uint32_t attempt)
{
    if (actor->open_count == actor->open_capacity) {
        const int capacity = RT_MAX(16, actor->open_capacity * 2);
        actor->open = rt_realloc(actor->open, sizeof(rt_open) * (size_t)actor->open_count,
                                 sizeof(rt_open) * (size_t)capacity);
        actor->open_capacity = capacity;
    }
    actor->open[actor->open_count++] = (rt_open){work->lease, work->request, attempt, work->count};
}

static void open_remove(rt_actor *actor, rt_open *open)
{
    *open = actor->open[--actor->open_count];
}

/* ---- results ------------------------------------------------------------------------------- */

/* Three frames: ids, log-probs, thought ends of all trajectories in order. */
static void result_frames(const rt_work *work, Retake__Trajectory *rows, rt_buf frames[3])
{
    for (int i = 0; i < 3; i++)
        rt_buf_add(&frames[i], "", 0);
    for (int i = 0; i < work->count; i++) {
        const rt_completion *c = &work->completions[i];
        retake__trajectory__init(&rows[i]);
        rows[i].id = work->trajectories[i];
        rows[i].tokens = (uint32_t)c->ids_count;
        rows[i].thoughts = (uint32_t)c->thoughts_count;
        rows[i].reward = work->verdicts[i].reward;
        rows[i].grade = (uint32_t)work->verdicts[i].grade;
        rows[i].end = (char *)(uintptr_t)rt_end_name(c->end);
        rows[i].extracted = work->verdicts[i].extracted;
        rt_buf_add(&frames[0], c->ids, sizeof(int32_t) * (size_t)c->ids_count);
        rt_buf_add(&frames[1], c->logprobs, sizeof(float) * (size_t)c->ids_count);
        rt_buf_add(&frames[2], c->thought_ends, sizeof(int32_t) * (size_t)c->thoughts_count);
    }
}

/* open: of the lease; NULL: it was not taken. */
static int send_result(rt_actor *actor, const rt_work *work, const rt_open *open, uint32_t attempt,
                       const char *error)
{
    Retake__Result result = RETAKE__RESULT__INIT;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_RESULT;
    envelope.result = &result;
    rt_hash128 hash = work->version.hash;
    result.lease = work->lease;
    result.attempt = attempt;
    result.weights_version = work->version.number;
    result.weights_hash = (ProtobufCBinaryData){sizeof(hash), (uint8_t *)&hash};
    result.seconds = work->seconds;
    result.error = (char *)(uintptr_t)error;
    result.credit = rt_actor_free(actor, open ? open->count : 0);
    if (*error)
        return rt_actor_send(actor, actor->work, &envelope, NULL, 0);
    Retake__Trajectory *rows = rt_alloc(sizeof(*rows) * (size_t)work->count);
    Retake__Trajectory **list = rt_alloc(sizeof(*list) * (size_t)work->count);
    rt_buf bufs[3] = {{0}};
    result_frames(work, rows, bufs);
    for (int i = 0; i < work->count; i++)
        list[i] = &rows[i];
    result.n_trajectories = (size_t)work->count;
    result.trajectories = list;
    result.tokens_generated = bufs[0].bytes / sizeof(int32_t);
    result.tokens_prefill = (uint64_t)work->completions[0].prefill;
    const rt_frame frames[3] = {{bufs[0].data, bufs[0].bytes}, {bufs[1].data, bufs[1].bytes},
                                {bufs[2].data, bufs[2].bytes}};
    const int code = rt_actor_send(actor, actor->work, &envelope, frames, 3);
    for (int i = 0; i < 3; i++)
        rt_buf_free(&bufs[i]);
    rt_free(list);
    rt_free(rows);
    return code;
}

void rt_leases_done(rt_actor *actor, rt_work *work)
{
    rt_open *open = open_find(actor, work->lease);
    if (!open || open->request != work->request) { /* cancelled meanwhile */
        rt_work_free(&work);
        return;
    }
    const char *error = work->error.code ? work->error.message : "";
    if (!actor->joined || send_result(actor, work, open, open->attempt, error) != RT_OK) {
        rt_work_append(&actor->unsent, work);
        return;
    }
    open_remove(actor, open);
    rt_work_free(&work);
}

void rt_leases_resend(rt_actor *actor)
{
    rt_work *list = actor->unsent;
    actor->unsent = NULL;
    while (list) {
        rt_work *work = list;
        list = work->next;
        rt_leases_done(actor, work);
    }
}

/* ---- taking and giving back ---------------------------------------------------------------- */

static void refuse(rt_actor *actor, rt_work *work)
{
    rt_log_line(actor->log, RT_WARN, "lease %" PRIu64 ": %s", work->lease, work->error.message);
    rt_leases_done(actor, work);
}

void rt_leases_flush(rt_actor *actor)
{
    rt_work *list = actor->waiting;
    actor->waiting = NULL;
    while (list) {
        rt_work *work = list;
        list = work->next;
        const rt_version *version = &work->version;
        if (rt_version_same(version, &actor->posted) || rt_version_same(version, &actor->loaded)) {
            rt_actor_post(actor, &(rt_note){.kind = RT_NOTE_WORK, .work = work});
        } else if (rt_version_same(version, &actor->fetching) ||
                   rt_version_same(version, &actor->wanted)) {
            rt_work_append(&actor->waiting, work);
        } else {
            rt_fail(&work->error, RT_ERR_STATE,
                    "the lease names weights version %lld, which was not announced to this worker",
                    (long long)version->number);
            refuse(actor, work);
        }
    }
}

/* A lease that can't even be read is answered too: a lease ends exactly once. */
static void refuse_unread(rt_actor *actor, const Retake__Lease *lease, const rt_error *error)
{
    rt_work work = {.lease = lease->id};
    work.version.number = lease->weights_version;
    memcpy(&work.version.hash, lease->weights_hash.data, sizeof(rt_hash128));
    rt_log_line(actor->log, RT_WARN, "lease %" PRIu64 ": %s", lease->id, error->message);
    send_result(actor, &work, NULL, lease->attempt, error->message);
}

void rt_leases_take(rt_actor *actor, const rt_message *message)
{
    const Retake__Lease *lease = message->envelope->lease;
    rt_open *open = open_find(actor, lease->id);
    if (open) { /* given out again while we are still at it: same ids, same bits */
        open->attempt = lease->attempt;
        return;
    }
    rt_error error = {0};
    rt_work *work = NULL;
    if (actor->open_count >= LEASES_MAX)
        rt_fail(&error, RT_ERR_LIMIT, "this worker holds %d leases and takes no more", LEASES_MAX);
    else
        work = rt_work_new(message, ++actor->requests, &error);
    if (!work) {
        refuse_unread(actor, lease, &error);
        return;
    }
    open_add(actor, work, lease->attempt);
    rt_work_append(&actor->waiting, work);
}

static bool drop_from(rt_work **list, uint64_t request)
{
    for (; *list; list = &(*list)->next)
        if ((*list)->request == request) {
            rt_work *work = *list;
            *list = work->next;
            rt_work_free(&work);
            return true;
        }
    return false;
}

void rt_leases_cancel(rt_actor *actor, uint64_t lease)
{
    rt_open *open = open_find(actor, lease);
    if (!open)
        return;
    const uint64_t request = open->request;
    open_remove(actor, open);
    if (!drop_from(&actor->waiting, request) && !drop_from(&actor->unsent, request))
        rt_actor_post(actor, &(rt_note){.kind = RT_NOTE_CANCEL, .request = request});
    actor->credit_due = true;
}

void rt_leases_drop(rt_actor *actor)
{
    while (actor->open_count > 0)
        rt_leases_cancel(actor, actor->open[0].lease);
}
