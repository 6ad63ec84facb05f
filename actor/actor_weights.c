/* Weights of the coordinator: fetched into the one blob, verified, lent to the compute thread. */
#include <string.h>

#include "actor/internal.h"

/* The blob is the flat parameter vector: what is announced must be cut as ours is. */
static int check_shape(const rt_weights *ours, const Retake__WeightsAnnounce *announce,
                       rt_error *err)
{
    if (announce->bytes != rt_weights_bytes(ours) || (int)announce->dtype != ours->dtype ||
        announce->n_tensors != (size_t)ours->tensors_count)
        return rt_fail(err, RT_ERR_INPUT,
                       "the coordinator's model has %llu bytes in %zu tensors, ours %zu in %d; "
                       "model.path and model.dtype must name the same model on every machine",
                       (unsigned long long)announce->bytes, announce->n_tensors,
                       rt_weights_bytes(ours), ours->tensors_count);
    for (int i = 0; i < ours->tensors_count; i++) {
        const rt_tensor *own = &ours->tensors[i];
        const Retake__Tensor *theirs = announce->tensors[i];
        if (strcmp(theirs->name, own->name) != 0 || theirs->offset != own->offset ||
            theirs->count != own->count || (int)theirs->rows != own->rows)
            return rt_fail(err, RT_ERR_INPUT,
                           "the coordinator's tensor %d is %.80s of %llu numbers, ours %s of %zu; "
                           "model.path must name the same model on every machine",
                           i, theirs->name, (unsigned long long)theirs->count, own->name,
                           own->count);
    }
    return RT_OK;
}

/* Adapters say nothing over another base than the one they are trained with. */
static int check_base(const rt_actor *actor, const Retake__WeightsAnnounce *announce, rt_error *err)
{
    rt_hash128 theirs;
    if (rt_net_adapters(actor->compute.net) == 0)
        return RT_OK;
    if (announce->base_hash.len == sizeof theirs) {
        memcpy(&theirs, announce->base_hash.data, sizeof theirs);
        if (rt_hash_equal(theirs, actor->compute.base))
            return RT_OK;
    }
    char ours[33];
    rt_hash_hex(actor->compute.base, ours);
    return rt_fail(err, RT_ERR_INPUT, "the learner's adapters are of another base model than %s here, "
                   "whose weights hash to %s; model.path must name the same bytes on every machine",
                   actor->config->model.path, ours);
}

static void send_ready(rt_actor *actor)
{
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    Retake__Ready ready = RETAKE__READY__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_READY;
    envelope.ready = &ready;
    ready.version = actor->posted.number;
    rt_actor_send(actor, actor->work, &envelope, NULL, 0);
}

static void ask(rt_actor *actor)
{
    uint32_t first, count;
    while (actor->fetch && rt_fetch_next(actor->fetch, &first, &count)) {
        Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
        Retake__ChunkRequest request = RETAKE__CHUNK_REQUEST__INIT;
        envelope.kind_case = RETAKE__ENVELOPE__KIND_CHUNK_REQUEST;
        envelope.chunk_request = &request;
        request.version = actor->fetching.number;
        request.first = first;
        request.count = count;
        if (rt_actor_send(actor, actor->blob, &envelope, NULL, 0) != RT_OK)
            return; /* asked for again after a while without chunks */
    }
}

static void abandon(rt_actor *actor)
{
    rt_fetch_free(&actor->fetch);
    actor->fetching.set = false;
}

/* There is one blob: a version announced while it is lent waits until it is back. */
static void fetch_begin(rt_actor *actor)
{
    if (actor->lent || !actor->wanted.set)
        return;
    abandon(actor);
    actor->fetching = actor->wanted;
    actor->wanted.set = false;
    actor->fetch = rt_fetch_new(actor->fetching.number, rt_weights_bytes(actor->weights),
                                actor->fetching.chunk_bytes, actor->fetching.hash,
                                (int)actor->config->coordinator.window, actor->weights->data);
    if (!actor->fetch) {
        actor->fetching.set = false;
        rt_log_line(actor->log, RT_WARN, "weights version %lld is announced in chunks of %u bytes: "
                    "not possible", (long long)actor->fetching.number, actor->fetching.chunk_bytes);
        return;
    }
    actor->chunk_ns = rt_now_ns();
    ask(actor);
}

void rt_weights_announced(rt_actor *actor, const Retake__WeightsAnnounce *announce)
{
    rt_error error = {0};
    int code = check_shape(actor->weights, announce, &error);
    if (code == RT_OK)
        code = check_base(actor, announce, &error);
    if (code != RT_OK) {
        *actor->err = error;
        rt_actor_end(actor, code);
        return;
    }
    rt_version version = {.set = true, .number = announce->version,
                          .chunk_bytes = announce->chunk_bytes};
    memcpy(&version.hash, announce->hash.data, sizeof(version.hash));
    if (rt_version_same(&version, &actor->posted)) {
        abandon(actor);
        actor->wanted.set = false;
        send_ready(actor);
        rt_actor_credit(actor);
    } else if (rt_version_same(&version, &actor->fetching)) {
        actor->wanted.set = false;
        rt_fetch_timeout(actor->fetch);
        ask(actor);
    } else {
        actor->wanted = version;
        fetch_begin(actor);
    }
    rt_leases_flush(actor);
}

static void complete(rt_actor *actor)
{
    actor->posted = actor->fetching;
    abandon(actor);
    actor->lent = true;
    rt_actor_post(actor, &(rt_note){.kind = RT_NOTE_WEIGHTS, .version = actor->posted,
                                    .blob = actor->weights});
    rt_log_line(actor->log, RT_DEBUG, "weights version %lld is here",
                (long long)actor->posted.number);
    send_ready(actor);
    rt_leases_flush(actor);
    rt_actor_credit(actor);
}

void rt_weights_chunk(rt_actor *actor, const rt_message *message)
{
    const Retake__Chunk *chunk = message->envelope->chunk;
    if (!actor->fetch || chunk->version != actor->fetching.number)
        return;
    if (chunk->gone) { /* a newer one is or will be announced */
        abandon(actor);
        fetch_begin(actor);
        rt_leases_flush(actor);
        return;
    }
    if (message->frames_count != 1)
        return;
    rt_error error = {0};
    actor->chunk_ns = rt_now_ns();
    const int code = rt_fetch_chunk(actor->fetch, chunk->index, chunk->hash,
                                    message->frames[0].data, message->frames[0].bytes, &error);
    if (code == 1) {
        complete(actor);
        return;
    }
    if (code < 0)
        rt_log_line(actor->log, RT_WARN, "%s", error.message);
    ask(actor);
}

void rt_weights_tick(rt_actor *actor, int64_t now_ns)
{
    const int64_t patience_ns = 2000000 * actor->config->coordinator.heartbeat_ms;
    if (!actor->fetch || now_ns - actor->chunk_ns < patience_ns)
        return;
    actor->chunk_ns = now_ns;
    rt_fetch_timeout(actor->fetch);
    ask(actor);
}

void rt_weights_back(rt_actor *actor, const rt_version *loaded)
{
    actor->lent = false;
    actor->loaded = *loaded;
    fetch_begin(actor);
}
