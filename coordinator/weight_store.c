/*
 * weight_store: the weights that workers get. Two buffers: the newest version, and the previous
 * one for who is still fetching it, until the next pull needs the room.
 */
#include <string.h>

#include "coordinator/internal.h"

#define CHUNKS_PER_REQUEST_MAX 64

void rt_depot_init(rt_depot *store)
{
    *store = (rt_depot){0};
    store->held[0].version = store->held[1].version = -1;
}

static void empty(rt_held *held)
{
    if (held->announce) {
        retake__weights_announce__free_unpacked(held->announce, NULL);
        held->announce = NULL;
    }
    held->version = -1;
}

void rt_depot_close(rt_depot *store)
{
    rt_fetch_free(&store->fetch);
    for (int i = 0; i < 2; i++) {
        empty(&store->held[i]);
        rt_free(store->held[i].data);
        store->held[i] = (rt_held){.version = -1};
    }
}

const rt_held *rt_depot_newest(const rt_depot *store)
{
    const rt_held *held = &store->held[store->newest];
    return held->version >= 0 ? held : NULL;
}

const rt_held *rt_depot_of(const rt_depot *store, int64_t version)
{
    for (int i = 0; i < 2; i++) {
        /* The buffer that is being filled is not there yet. */
        bool filling = store->fetch && i != store->newest;
        if (!filling && store->held[i].version == version && version >= 0) {
            return &store->held[i];
        }
    }
    return NULL;
}

bool rt_depot_hash(const ProtobufCBinaryData *bytes, rt_hash128 *hash)
{
    if (bytes->len != sizeof *hash) {
        return false;
    }
    memcpy(hash, bytes->data, sizeof *hash);
    return true;
}

void rt_depot_note(rt_depot *store, int64_t version, rt_hash128 hash)
{
    int place = store->announced_count++ % (int)RT_COUNT(store->announced);
    store->announced[place] = (rt_version_hash){version, hash};
}

bool rt_depot_known(const rt_depot *store, int64_t version, rt_hash128 hash)
{
    int count = RT_MIN(store->announced_count, (int)RT_COUNT(store->announced));
    for (int i = 0; i < count; i++) {
        if (store->announced[i].version == version &&
            rt_hash_equal(store->announced[i].hash, hash)) {
            return true;
        }
    }
    return false;
}

/* ---- pulling from the learner ---------------------------------------------------------------- */

static Retake__WeightsAnnounce *copy_announce(const Retake__WeightsAnnounce *announce)
{
    size_t bytes = retake__weights_announce__get_packed_size(announce);
    uint8_t *packed = rt_alloc(bytes + 1);
    retake__weights_announce__pack(announce, packed);
    Retake__WeightsAnnounce *copy = retake__weights_announce__unpack(NULL, bytes, packed);
    rt_free(packed);
    RT_ASSERT(copy != NULL);
    return copy;
}

static void ask(rt_coordinator *co)
{
    uint32_t first = 0, count = 0;
    while (co->weights.fetch && rt_fetch_next(co->weights.fetch, &first, &count)) {
        Retake__ChunkRequest request = RETAKE__CHUNK_REQUEST__INIT;
        request.version = rt_fetch_version(co->weights.fetch);
        request.first = first;
        request.count = count;
        Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
        envelope.kind_case = RETAKE__ENVELOPE__KIND_CHUNK_REQUEST;
        envelope.chunk_request = &request;
        if (rt_link_send(co, &envelope, NULL, 0, NULL)) {
            return; /* asked again after the time-out, or by the learner's next Hello */
        }
    }
}

int rt_depot_pull(rt_coordinator *co, const Retake__WeightsAnnounce *announce, rt_error *err)
{
    rt_depot *store = &co->weights;
    rt_hash128 hash;
    if (!rt_depot_hash(&announce->hash, &hash) || announce->bytes == 0 ||
        announce->chunk_bytes == 0 || announce->chunk_bytes > RT_FRAME_BYTES_MAX ||
        announce->bytes / announce->chunk_bytes >= UINT32_MAX || announce->version < 0) {
        return rt_fail(err, RT_ERR_INPUT,
                       "the learner announced weights of %llu bytes in chunks of "
                       "%u, which can't be: is it of another build?",
                       (unsigned long long)announce->bytes, announce->chunk_bytes);
    }
    rt_depot_abort(co);
    rt_held *into = &store->held[1 - store->newest];
    int64_t gone = into->version;
    empty(into);
    if (into->room < announce->bytes) {
        rt_free(into->data);
        into->data = rt_alloc(announce->bytes);
        into->room = announce->bytes;
    }
    into->version = announce->version;
    into->hash = hash;
    into->bytes = announce->bytes;
    into->dtype = announce->dtype;
    into->chunk_bytes = announce->chunk_bytes;
    into->announce = copy_announce(announce);
    store->fetch = rt_fetch_new(announce->version, announce->bytes, announce->chunk_bytes, hash,
                                (int)co->config->coordinator.window, into->data);
    store->fetch_heard_ns = rt_now_ns();
    if (gone >= 0) {
        rt_workers_version_gone(co, gone);
    }
    ask(co);
    return RT_OK;
}

void rt_depot_abort(rt_coordinator *co)
{
    if (co->weights.fetch) {
        rt_fetch_free(&co->weights.fetch);
        empty(&co->weights.held[1 - co->weights.newest]);
    }
}

void rt_depot_chunk(rt_coordinator *co, const rt_message *message)
{
    rt_depot *store = &co->weights;
    const Retake__Chunk *chunk = message->envelope->chunk;
    if (!store->fetch || chunk->version != rt_fetch_version(store->fetch)) {
        return;
    }
    store->fetch_heard_ns = rt_now_ns();
    if (chunk->gone || message->frames_count < 1) {
        rt_depot_abort(co);
        rt_events_add(co, RT_WARN, "learner", "version %lld was dropped while it was being fetched",
                      (long long)chunk->version);
        return;
    }
    rt_error err = {0};
    int rc = rt_fetch_chunk(store->fetch, chunk->index, chunk->hash, message->frames[0].data,
                            message->frames[0].bytes, &err);
    if (rc == 1) {
        rt_fetch_free(&store->fetch);
        store->newest = 1 - store->newest;
        rt_link_arrived(co);
    } else if (rc < 0) {
        rt_events_add(co, RT_ERROR, "learner", "%s", err.message);
        Retake__WeightsAnnounce *again = copy_announce(store->held[1 - store->newest].announce);
        rc = rt_depot_pull(co, again, &err);
        retake__weights_announce__free_unpacked(again, NULL);
    } else {
        ask(co);
    }
}

void rt_depot_tick(rt_coordinator *co, int64_t now_ns)
{
    rt_depot *store = &co->weights;
    int64_t silence = co->config->coordinator.heartbeat_ms * 2000000;
    if (store->fetch && co->link.present && now_ns - store->fetch_heard_ns > silence) {
        store->fetch_heard_ns = now_ns;
        rt_fetch_timeout(store->fetch);
        ask(co);
    }
}

/* ---- serving workers ------------------------------------------------------------------------- */

static void serve_chunk(rt_coordinator *co, const rt_message *to, const rt_held *held,
                        int64_t version, uint32_t index)
{
    Retake__Chunk chunk = RETAKE__CHUNK__INIT;
    chunk.version = version;
    chunk.index = index;
    rt_frame frame = {0};
    chunk.gone = !held;
    if (held &&
        !rt_chunk_of(held->data, held->bytes, held->chunk_bytes, index, &frame, &chunk.hash)) {
        return; /* beyond the end: nothing to say */
    }
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_CHUNK;
    envelope.chunk = &chunk;
    /* A full queue or a peer just gone: the worker asks again after its time-out. */
    rt_socket_send(co->blob, to->peer, to->peer_bytes, &envelope, &frame, held ? 1 : 0, NULL);
}

void rt_depot_serve(void *context, rt_socket *socket, const rt_message *message)
{
    (void)socket;
    rt_coordinator *co = context;
    rt_worker *worker = rt_workers_find(co, message->envelope->sender);
    if (worker && worker->incarnation == message->envelope->incarnation) {
        rt_liveness_heard(&worker->life, rt_now_ns());
    }
    if (message->envelope->kind_case != RETAKE__ENVELOPE__KIND_CHUNK_REQUEST) {
        return;
    }
    const Retake__ChunkRequest *request = message->envelope->chunk_request;
    const rt_held *held = rt_depot_of(&co->weights, request->version);
    uint32_t count = held ? RT_MIN(request->count, CHUNKS_PER_REQUEST_MAX) : 1;
    for (uint32_t i = 0; i < count && request->first <= UINT32_MAX - i; i++) {
        serve_chunk(co, message, held, request->version, request->first + i);
    }
}
