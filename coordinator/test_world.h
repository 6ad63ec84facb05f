/* test_world: a run with a coordinator as a process of its own, over real sockets, and workers and a learner
 * played by the test program. Tokens are a function of the trajectory id and weights a function of the
 * batches, so that the final hash says whether the run was the same one. */
#ifndef RT_COORDINATOR_TEST_WORLD_H
#define RT_COORDINATOR_TEST_WORLD_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <sqlite3.h>

#include "coordinator/coordinator.h"
#include "proto/proto.h"

enum { BLOB_BYTES = 3000, WORKERS_MAX = 4, SETS_MAX = 12, HELD_MAX = 256 };

struct world;
typedef struct player { /* a worker, or the learner */
    struct world *world;
    char name[16];
    uint64_t incarnation;
    rt_socket *socket, *blob;
    bool welcome, stopped, stop_save, mute, keep; /* mute: says nothing; keep: answers no lease */
    char refused[256];
    char *version_text;
    int64_t version, heard_ns;
    uint8_t data[BLOB_BYTES], incoming[BLOB_BYTES];
    int leases, batches;
    const char *lost_grader; /* judges nothing */
    const char *fails_kind; /* can't be sampled; of continuations only those with a prefix */
    bool lazy;              /* answers only now and then, the newest lease first */
    uint32_t spare; /* slots it says are free whatever it holds, as one that has not read its leases yet */
    int held_most, held_as_debates_begin; /* most leases held; when it got one of a first round */
    int lies;               /* so many leases are answered with another trajectory's id */
    rt_fetch *fetch;
    Retake__Lease *held[HELD_MAX];
    int held_count;
    /* learner */
    uint8_t past[8][BLOB_BYTES]; /* what each version was */
    bool hold_batch, fail_step, silent_step; /* silent_step: its StepDone is lost */
    int64_t sequences;
    int trained_of[RT_TASKS_MAX]; /* of them, by task */
    int64_t staleness_seen;
} player;

typedef struct world {
    char dir[64];
    uv_loop_t loop;
    uv_timer_t tick;
    void *zmq;
    rt_config config;
    const char *sets[SETS_MAX + 8];
    char dir_set[128], model_set[128];
    int sets_count;
    pid_t coordinator;
    player workers[WORKERS_MAX], learner;
    uint64_t next_incarnation;
    bool thinks; /* rollouts have up to three thoughts */
    const char *(*speaks)(uint64_t trajectory, char *text); /* what is said in debates; NULL: none are */
    int agents; /* of debates */
    uint64_t broken; /* trajectory that can't be sampled; 0: none */
    rt_socket *stats;
    json_t *answer;
} world;

static const char config_text[] = "task: chain\nalgorithm: grpo\n";

/* ---- the run folder -------------------------------------------------------------------------- */

static void write_tokenizer(const char *dir)
{
    rt_buf json = {0};
    rt_buf_addf(&json, "{\"model\": {\"type\": \"BPE\", \"merges\": [], \"vocab\": {");
    int other = 256;
    for (int byte = 0; byte < 256; byte++) {
        bool self = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
        rt_buf_addf(&json, "%s\"\\u%04x\": %d", byte ? ", " : "", self ? byte : other, byte);
        other += !self;
    }
    rt_buf_addf(&json, "}}, \"added_tokens\": [], \"pre_tokenizer\": {\"type\": \"ByteLevel\", "
                       "\"add_prefix_space\": false, \"use_regex\": false}, "
                       "\"decoder\": {\"type\": \"ByteLevel\"}}");
    rt_error err = {0};
    char path[128];
    snprintf(path, sizeof path, "%s/model", dir);
    assert_int_equal(rt_mkdirs(path, &err), 0);
    snprintf(path, sizeof path, "%s/model/tokenizer.json", dir);
    assert_int_equal(rt_file_write(path, json.data, json.bytes, &err), 0);
    rt_buf_free(&json);
}

static const char *const common_sets[] = {
    "model.context=512", "run.steps=3",
    "algorithm.problems=4", "algorithm.samples=4",
    "eval.problems=6", "eval.samples=2",
    "coordinator.heartbeat_ms=60", "coordinator.chunk_bytes=1024",
};

static void configure(world *w)
{
    rt_error err = {0};
    rt_config_free(&w->config);
    int rc = rt_config_parse(&w->config, config_text, sizeof config_text - 1, "test", w->sets,
                             w->sets_count, &err);
    if (rc) {
        fail_msg("%s", err.message);
    }
}

static void set(world *w, const char *text)
{
    assert_true(w->sets_count < SETS_MAX + 8);
    w->sets[w->sets_count++] = text;
    configure(w);
}

/* This program again, as the coordinator. */
static void start_coordinator(world *w)
{
    const char *argv[SETS_MAX + 12] = {"/proc/self/exe", "--coordinator"};
    for (int i = 0; i < w->sets_count; i++) {
        argv[2 + i] = w->sets[i];
    }
    w->coordinator = fork();
    assert_true(w->coordinator >= 0);
    if (w->coordinator == 0) {
        execv(argv[0], (char *const *)argv);
        _exit(99);
    }
}

static int be_coordinator(int argc, char **argv)
{
    rt_config config = {0};
    rt_error err = {0};
    rt_log log;
    rt_log_init(&log, "coordinator", getenv("RT_TEST_LOG") ? RT_DEBUG : RT_ERROR);
    int rc = rt_config_parse(&config, config_text, sizeof config_text - 1, "test",
                             (const char *const *)argv + 2, argc - 2, &err);
    rc = rc ? rc : rt_coordinator_run(&config, &log, &err);
    if (rc) {
        fprintf(stderr, "%s\n", err.message);
    }
    rt_config_free(&config);
    return rt_exit_code(rc);
}

/* ---- players --------------------------------------------------------------------------------- */

static void say(rt_socket *socket, Retake__Envelope *envelope, const rt_frame *frames, int count)
{
    rt_socket_send(socket, NULL, 0, envelope, frames, count, NULL);
}

static void hello(player *p)
{
    Retake__Hello message = RETAKE__HELLO__INIT;
    message.role = p == &p->world->learner ? "learner" : "actor";
    message.host = "here";
    message.version = p->version_text ? p->version_text : RT_VERSION;
    message.config = rt_config_fingerprint(&p->world->config);
    message.weights_version = p->version;
    message.isa = "test";
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_HELLO;
    envelope.hello = &message;
    say(p->socket, &envelope, NULL, 0);
}

static void say_ping(player *p)
{
    Retake__Ping message = RETAKE__PING__INIT;
    message.state = p->keep || p->hold_batch ? "training" : "waiting for batch";
    message.weights_version = p->version;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_PING;
    envelope.ping = &message;
    say(p->socket, &envelope, NULL, 0);
}

static void say_credit(player *p, uint32_t slots)
{
    Retake__Credit message = RETAKE__CREDIT__INIT;
    message.slots = slots;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_CREDIT;
    envelope.credit = &message;
    say(p->socket, &envelope, NULL, 0);
}

static rt_hash128 hash_of(const player *p)
{
    return rt_hash(p->data, BLOB_BYTES);
}

/* ---- a worker -------------------------------------------------------------------------------- */

enum { TOKENS_MAX = 32, THOUGHTS_MAX = 4 };

typedef struct made { /* trajectories that a worker answers with */
    Retake__Trajectory items[16], *list[16];
    int32_t ids[16 * TOKENS_MAX], ends[16 * THOUGHTS_MAX];
    float logp[16 * TOKENS_MAX];
    size_t tokens, thoughts;
} made;

static void make_tokens(made *m, Retake__Trajectory *item, const char *text)
{
    for (uint32_t t = 0; t < item->tokens; t++) {
        m->ids[m->tokens] = text ? text[t] : 'a' + (int32_t)rt_below(3, item->id, t, 26);
        m->logp[m->tokens++] = -(float)rt_uniform(4, item->id, t);
    }
}

/* A judgement of every kind that a model may come up with. */
static void make_judgement(made *m, Retake__Trajectory *item)
{
    static const char *const texts[] = {"\\boxed{2}",  "\\boxed{0}", "Step 2 it is", "\\boxed{77}",
                                        "no idea at all", "",        "\\boxed{1}"};
    const char *text = texts[rt_below(5, item->id, 0, RT_COUNT(texts))];
    item->tokens = (uint32_t)strlen(text);
    item->end = "eos";
    item->grade = 0;
    make_tokens(m, item, text);
}

/* Up to three thoughts, sometimes none, where the world plays resets; else one. */
static void make_rollout(const world *w, made *m, Retake__Trajectory *item)
{
    item->tokens = 2 + rt_below(1, item->id, 0, 6);
    bool right = rt_below(2, item->id, 0, 2);
    item->reward = right;
    item->grade = right ? 2 : 1;
    item->end = "eos";
    item->thoughts = w->thinks ? RT_MIN(rt_below(6, item->id, 0, 4), item->tokens) : 1;
    for (uint32_t i = 0; i < item->thoughts; i++) {
        m->ends[m->thoughts++] = (int32_t)(i + 1 == item->thoughts ? item->tokens : i + 1);
    }
    make_tokens(m, item, NULL);
}

/* Some text of less than TOKENS_MAX bytes. */
static void make_turn(const world *w, made *m, Retake__Trajectory *item)
{
    char text[TOKENS_MAX] = {0};
    const char *said = w->speaks(item->id, text);
    item->tokens = (uint32_t)strlen(said);
    assert_true(item->tokens < TOKENS_MAX);
    item->end = "eos";
    item->grade = 1;
    make_tokens(m, item, said);
}

static void answer_error(player *p, const Retake__Lease *lease, const char *error)
{
    Retake__Result result = RETAKE__RESULT__INIT;
    result.lease = lease->id;
    result.attempt = lease->attempt;
    result.credit = p->spare ? p->spare : 8;
    result.error = (char *)error;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_RESULT;
    envelope.result = &result;
    say(p->socket, &envelope, NULL, 0);
}

static void answer_lease(player *p, const Retake__Lease *lease, bool known)
{
    Retake__Result result = RETAKE__RESULT__INIT;
    made m = {.tokens = 0};
    assert_true(lease->n_trajectories <= 16);
    if (p->fails_kind && strcmp(lease->kind, p->fails_kind) == 0 &&
        (strcmp(lease->kind, "reset") != 0 || lease->thoughts_before > 0)) {
        answer_error(p, lease, "the model's logits are not finite");
        return;
    }
    if (p->world->broken != 0 && lease->trajectories[0] == p->world->broken) {
        answer_error(p, lease, "the model's logits are not finite");
        return;
    }
    bool lies = p->lies > 0;
    p->lies -= lies;
    for (size_t i = 0; i < lease->n_trajectories; i++) {
        Retake__Trajectory *item = m.list[i] = &m.items[i];
        retake__trajectory__init(item);
        item->id = lease->trajectories[i] + lies;
        item->extracted = "";
        if (p->world->speaks && strcmp(lease->kind, "eval") != 0) {
            make_turn(p->world, &m, item);
        } else if (strcmp(lease->kind, "localize") == 0) {
            make_judgement(&m, item);
        } else {
            make_rollout(p->world, &m, item);
        }
        if (p->lost_grader && strcmp(lease->grader, p->lost_grader) == 0) {
            item->grade = 0;
            item->reward = 0;
        }
    }
    rt_hash128 hash = hash_of(p);
    hash.low ^= known ? 0 : 1;
    result.lease = lease->id;
    result.attempt = lease->attempt;
    result.credit = p->spare ? p->spare : 8;
    result.weights_version = lease->weights_version;
    result.weights_hash = (ProtobufCBinaryData){sizeof hash, (uint8_t *)&hash};
    result.trajectories = m.list;
    result.n_trajectories = lease->n_trajectories;
    result.tokens_generated = m.tokens;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_RESULT;
    envelope.result = &result;
    rt_frame frames[3] = {{m.ids, m.tokens * 4}, {m.logp, m.tokens * 4}, {m.ends, m.thoughts * 4}};
    say(p->socket, &envelope, frames, 3);
}

static void drop_held(player *p)
{
    for (int i = 0; i < p->held_count; i++) {
        retake__lease__free_unpacked(p->held[i], NULL);
    }
    p->held_count = 0;
}

static void answer_newest_first(player *p)
{
    for (int i = p->held_count - 1; i >= 0; i--) {
        if (p->held[i]->weights_version == p->version) {
            answer_lease(p, p->held[i], true);
            retake__lease__free_unpacked(p->held[i], NULL);
            p->held[i] = p->held[--p->held_count];
        }
    }
    say_credit(p, p->spare ? p->spare : p->held_count ? 0 : 8);
}

static void answer_held(player *p)
{
    for (int i = 0; i < p->held_count && !p->keep && !p->mute && !p->lazy; i++) {
        if (p->held[i]->weights_version != p->version) {
            continue;
        }
        answer_lease(p, p->held[i], true);
        retake__lease__free_unpacked(p->held[i], NULL);
        p->held[i--] = p->held[--p->held_count];
    }
    say_credit(p, p->spare ? p->spare : p->held_count ? 0 : 8);
}

/* As a real worker does: what names neither the weights here nor those on their way comes back. */
static void return_outdated(player *p, int64_t coming)
{
    for (int i = 0; i < p->held_count && !p->keep; i++) {
        if (p->held[i]->weights_version == p->version || p->held[i]->weights_version == coming) {
            continue;
        }
        answer_error(p, p->held[i], "overtaken by newer weights");
        retake__lease__free_unpacked(p->held[i], NULL);
        p->held[i--] = p->held[--p->held_count];
    }
}

static void ask_chunks(player *p)
{
    Retake__ChunkRequest request = RETAKE__CHUNK_REQUEST__INIT;
    while (p->fetch && rt_fetch_next(p->fetch, &request.first, &request.count)) {
        request.version = rt_fetch_version(p->fetch);
        Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
        envelope.kind_case = RETAKE__ENVELOPE__KIND_CHUNK_REQUEST;
        envelope.chunk_request = &request;
        say(p->blob, &envelope, NULL, 0);
    }
}

static void on_announce(player *p, const Retake__WeightsAnnounce *announce)
{
    rt_hash128 hash;
    assert_int_equal(announce->bytes, BLOB_BYTES);
    assert_int_equal(announce->hash.len, sizeof hash);
    memcpy(&hash, announce->hash.data, sizeof hash);
    rt_fetch_free(&p->fetch);
    p->fetch =
        rt_fetch_new(announce->version, BLOB_BYTES, announce->chunk_bytes, hash, 2, p->incoming);
    ask_chunks(p);
    return_outdated(p, announce->version);
}

static void on_blob(void *context, rt_socket *socket, const rt_message *message)
{
    (void)socket;
    player *p = context;
    const Retake__Chunk *chunk = message->envelope->chunk;
    if (!p->fetch || message->envelope->kind_case != RETAKE__ENVELOPE__KIND_CHUNK || chunk->gone ||
        chunk->version != rt_fetch_version(p->fetch)) {
        return;
    }
    rt_error err = {0};
    int rc = rt_fetch_chunk(p->fetch, chunk->index, chunk->hash, message->frames[0].data,
                            message->frames[0].bytes, &err);
    assert_true(rc >= 0);
    if (rc == 0) {
        ask_chunks(p);
        return;
    }
    p->version = rt_fetch_version(p->fetch);
    memcpy(p->data, p->incoming, BLOB_BYTES);
    rt_fetch_free(&p->fetch);
    Retake__Ready ready = RETAKE__READY__INIT;
    ready.version = p->version;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_READY;
    envelope.ready = &ready;
    say(p->socket, &envelope, NULL, 0);
    answer_held(p);
}

static void on_lease(player *p, const Retake__Lease *lease)
{
    size_t bytes = retake__lease__get_packed_size(lease);
    uint8_t *packed = rt_alloc(bytes + 1);
    retake__lease__pack(lease, packed);
    assert_true(p->held_count < HELD_MAX);
    p->held[p->held_count++] = retake__lease__unpack(NULL, bytes, packed);
    rt_free(packed);
    p->leases++;
    p->held_most = RT_MAX(p->held_most, p->held_count);
    if ((int)(lease->trajectories[0] & 0xff) < p->world->agents && strcmp(lease->kind, "debate") == 0) {
        p->held_as_debates_begin = RT_MAX(p->held_as_debates_begin, p->held_count);
    }
    answer_held(p);
}

/* ---- the learner ----------------------------------------------------------------------------- */

/* What the step that made this version measured; the second is none of its business. */
static void measure(const player *p, Retake__Metric metrics[2])
{
    metrics[0] = metrics[1] = (Retake__Metric)RETAKE__METRIC__INIT;
    metrics[0].name = "grad/chain/norm2", metrics[1].name = "task.chain.reward";
    metrics[0].value = metrics[1].value = 100 + (double)p->version;
}

static void announce(player *p)
{
    Retake__Metric metrics[2], *list[] = {metrics, metrics + 1};
    measure(p, metrics);
    Retake__WeightsAnnounce message = RETAKE__WEIGHTS_ANNOUNCE__INIT;
    rt_hash128 hash = hash_of(p);
    message.version = p->version;
    message.bytes = BLOB_BYTES;
    message.chunk_bytes = 1024;
    message.hash = (ProtobufCBinaryData){sizeof hash, (uint8_t *)&hash};
    message.metrics = list;
    message.n_metrics = p->version > 0 ? 2 : 0;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_ANNOUNCE;
    envelope.announce = &message;
    say(p->socket, &envelope, NULL, 0);
}

static void serve(player *p, const Retake__ChunkRequest *request)
{
    for (uint32_t i = 0; i < request->count; i++) {
        Retake__Chunk chunk = RETAKE__CHUNK__INIT;
        rt_frame frame = {0};
        chunk.version = request->version;
        chunk.index = request->first + i;
        assert_int_equal(request->version, p->version);
        assert_true(rt_chunk_of(p->data, BLOB_BYTES, 1024, chunk.index, &frame, &chunk.hash));
        Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
        envelope.kind_case = RETAKE__ENVELOPE__KIND_CHUNK;
        envelope.chunk = &chunk;
        say(p->socket, &envelope, &frame, 1);
    }
}

/* The next weights: the old ones and everything the batch holds, hashed. */
static void learn(player *p, const rt_message *message)
{
    const Retake__Batch *batch = message->envelope->batch;
    uint64_t seed = rt_hash64(message->frames[0].data, message->frames[0].bytes, 1);
    seed = rt_hash64(message->frames[1].data, message->frames[1].bytes, seed);
    uint64_t before = 0;
    for (size_t i = 0; i < batch->n_sequences; i++) {
        const Retake__Sequence *sequence = batch->sequences[i];
        assert_true(i == 0 || p->world->speaks || sequence->trajectory > before);
        assert_int_equal(sequence->trajectory >> 24, batch->step);
        assert_int_equal(sequence->task, sequence->problem >> 48);
        p->trained_of[sequence->task]++;
        before = sequence->trajectory;
        seed = rt_hash64(&sequence->advantage, sizeof(double), seed ^ sequence->trajectory);
        assert_true(sequence->rejected <= batch->n_sequences);
        seed += sequence->rejected;
    }
    p->sequences += (int64_t)batch->n_sequences;
    memcpy(p->past[p->version], p->data, BLOB_BYTES);
    for (size_t i = 0; i < BLOB_BYTES; i++) {
        p->data[i] ^= (uint8_t)rt_below(seed, 0, i, 256);
    }
    p->version++;
}

static void on_batch(player *p, const rt_message *message)
{
    const Retake__Batch *batch = message->envelope->batch;
    assert_int_equal(batch->weights_version, p->version);
    assert_int_equal(batch->step, p->version);
    assert_int_equal(batch->last, batch->step == p->world->config.run.steps - 1);
    p->batches++;
    if (p->hold_batch) {
        return;
    }
    Retake__StepDone done = RETAKE__STEP_DONE__INIT;
    done.step = batch->step;
    if (!p->fail_step) {
        learn(p, message);
    }
    rt_hash128 hash = hash_of(p);
    done.version = p->version;
    done.hash = (ProtobufCBinaryData){sizeof hash, (uint8_t *)&hash};
    done.loss = 0.5;
    done.tokens = done.tokens_trained = done.compared = 10;
    done.margin = 2, done.accuracy = 1, done.chosen = 3, done.rejected = -4;
    done.divergence = (double)NAN;
    Retake__Metric metrics[2], *list[] = {metrics, metrics + 1};
    measure(p, metrics);
    done.metrics = list, done.n_metrics = 2;
    done.error = p->fail_step ? "loss is not a number" : "";
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_STEP_DONE;
    envelope.step_done = &done;
    if (!p->silent_step) {
        say(p->socket, &envelope, NULL, 0);
    }
    if (!p->fail_step) {
        announce(p);
    }
}

static void on_stop(player *p, const Retake__Stop *stop)
{
    p->stopped = true;
    p->stop_save = stop->save;
    if (p == &p->world->learner && stop->save) {
        Retake__Saved saved = RETAKE__SAVED__INIT;
        saved.version = p->version;
        saved.path = "somewhere";
        Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
        envelope.kind_case = RETAKE__ENVELOPE__KIND_SAVED;
        envelope.saved = &saved;
        say(p->socket, &envelope, NULL, 0);
    }
}

/* ---- both ------------------------------------------------------------------------------------ */

static void on_message(void *context, rt_socket *socket, const rt_message *message)
{
    player *p = context;
    const Retake__Envelope *envelope = message->envelope;
    if (p->mute) {
        return;
    }
    p->heard_ns = rt_now_ns();
    switch (envelope->kind_case) {
    case RETAKE__ENVELOPE__KIND_WELCOME:
        p->welcome = true;
        rt_socket_set_run(socket, envelope->welcome->run);
        if (p == &p->world->learner) {
            announce(p);
        }
        break;
    case RETAKE__ENVELOPE__KIND_REFUSE:
        snprintf(p->refused, sizeof p->refused, "%s", envelope->refuse->reason);
        break;
    case RETAKE__ENVELOPE__KIND_ANNOUNCE:
        on_announce(p, envelope->announce);
        break;
    case RETAKE__ENVELOPE__KIND_LEASE:
        on_lease(p, envelope->lease);
        break;
    case RETAKE__ENVELOPE__KIND_CHUNK_REQUEST:
        serve(p, envelope->chunk_request);
        break;
    case RETAKE__ENVELOPE__KIND_BATCH:
        on_batch(p, message);
        break;
    case RETAKE__ENVELOPE__KIND_STOP:
        on_stop(p, envelope->stop);
        break;
    default:
        break;
    }
}

static rt_socket *connect_to(world *w, player *p, const char *which, rt_message_cb *on)
{
    rt_buf endpoint = {0};
    rt_error err = {0};
    rt_socket *socket = NULL;
    assert_int_equal(rt_endpoint(&w->config, which, false, &endpoint, &err), 0);
    rt_socket_options options = {.type = ZMQ_DEALER, .endpoint = endpoint.data, .sender = p->name,
                                 .incarnation = p->incarnation, .on_message = on, .context = p};
    if (rt_socket_open(&socket, &w->loop, w->zmq, &options, &err)) {
        fail_msg("%s", err.message);
    }
    rt_buf_free(&endpoint);
    return socket;
}

static void leave(player *p)
{
    if (p->socket) {
        rt_socket_close(&p->socket, 0);
    }
    if (p->blob) {
        rt_socket_close(&p->blob, 0);
    }
    rt_fetch_free(&p->fetch);
    drop_held(p);
    p->welcome = p->stopped = p->mute = p->keep = false;
}

static void join(world *w, player *p, const char *name)
{
    bool learner = p == &w->learner;
    p->world = w;
    snprintf(p->name, sizeof p->name, "%s", name);
    p->incarnation = ++w->next_incarnation;
    if (!learner) {
        p->version = -1;
        p->blob = connect_to(w, p, "blob", on_blob);
    }
    p->socket = connect_to(w, p, learner ? "learner" : "work", on_message);
    hello(p);
}

static void on_tick(uv_timer_t *timer)
{
    world *w = timer->data;
    for (int i = 0; i <= WORKERS_MAX; i++) {
        player *p = i < WORKERS_MAX ? &w->workers[i] : &w->learner;
        if (p->socket && !p->mute) {
            if (p->welcome && rt_now_ns() - p->heard_ns > 1000000000) { /* dropped: a busy machine */
                drop_held(p);
                p->welcome = false;
            }
            p->welcome ? say_ping(p) : hello(p);
            if (p->lazy && p->welcome) {
                answer_newest_first(p);
            }
        }
    }
}

static void on_answer(void *context, rt_socket *socket, const rt_message *message)
{
    (void)socket;
    world *w = context;
    json_decref(w->answer);
    w->answer = json_loadb(message->frames[0].data, message->frames[0].bytes, 0, NULL);
    assert_non_null(w->answer);
}

/* ---- waiting --------------------------------------------------------------------------------- */

/* Turns the loop until the condition holds; 20 s is far beyond what any step here takes. */
#define TURN_UNTIL(w, condition) \
    do { \
        int64_t limit_ns = rt_now_ns() + 20 * INT64_C(1000000000); \
        while (!(condition)) { \
            uv_run(&(w)->loop, UV_RUN_ONCE); \
            if (rt_now_ns() > limit_ns) { \
                fail_msg("waited in vain for: %s", #condition); \
            } \
        } \
    } while (0)

static bool ended(world *w, int *code)
{
    int status = 0;
    pid_t pid = waitpid(w->coordinator, &status, WNOHANG);
    if (pid != w->coordinator) {
        return false;
    }
    w->coordinator = 0;
    *code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    return true;
}

static int wait_end(world *w)
{
    int code = -1;
    TURN_UNTIL(w, ended(w, &code));
    return code;
}

static json_t *ask_stats(world *w, const char *text)
{
    if (!w->stats) {
        rt_buf endpoint = {0};
        rt_error err = {0};
        assert_int_equal(rt_endpoint(&w->config, "stats", false, &endpoint, &err), 0);
        rt_socket_options options = {.type = ZMQ_REQ, .endpoint = endpoint.data, .sender = "test",
                                     .raw = true, .on_message = on_answer, .context = w};
        assert_int_equal(rt_socket_open(&w->stats, &w->loop, w->zmq, &options, &err), 0);
        rt_buf_free(&endpoint);
    }
    json_decref(w->answer);
    w->answer = NULL;
    rt_frame frame = {text, strlen(text)};
    assert_int_equal(rt_socket_send_raw(w->stats, &frame, 1, NULL), 0);
    TURN_UNTIL(w, w->answer != NULL);
    return w->answer;
}

/* ---- set up ---------------------------------------------------------------------------------- */

static int setup(void **state)
{
    world *w = calloc(1, sizeof *w);
    snprintf(w->dir, sizeof w->dir, "/tmp/rt-coordinator-test-XXXXXX");
    if (!mkdtemp(w->dir)) {
        return -1;
    }
    write_tokenizer(w->dir);
    snprintf(w->dir_set, sizeof w->dir_set, "run.dir=%s/run", w->dir);
    snprintf(w->model_set, sizeof w->model_set, "model.path=%s/model", w->dir);
    w->sets[w->sets_count++] = w->dir_set;
    w->sets[w->sets_count++] = w->model_set;
    for (size_t i = 0; i < RT_COUNT(common_sets); i++) {
        w->sets[w->sets_count++] = common_sets[i];
    }
    configure(w);
    /* The names of the config decide the hash: the folder must not. */
    for (size_t i = 0; i < BLOB_BYTES; i++) {
        w->learner.data[i] = (uint8_t)(i * 7);
    }
    uv_loop_init(&w->loop);
    uv_timer_init(&w->loop, &w->tick);
    w->tick.data = w;
    uv_timer_start(&w->tick, on_tick, 50, 50);
    w->zmq = zmq_ctx_new();
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world *w = *state;
    if (w->coordinator > 0) {
        kill(w->coordinator, SIGKILL);
        waitpid(w->coordinator, NULL, 0);
    }
    for (int i = 0; i < WORKERS_MAX; i++) {
        leave(&w->workers[i]);
    }
    leave(&w->learner);
    if (w->stats) {
        rt_socket_close(&w->stats, 0);
    }
    uv_close((uv_handle_t *)&w->tick, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    uv_loop_close(&w->loop);
    zmq_ctx_term(w->zmq);
    json_decref(w->answer);
    rt_config_free(&w->config);
    rt_remove_tree(w->dir, NULL);
    free(w);
    return 0;
}

/* ---- what a finished run left ---------------------------------------------------------------- */

static int64_t query(const world *w, const char *sql)
{
    char path[128];
    snprintf(path, sizeof path, "%s/run/run.db", w->dir);
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK) {
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    }
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int64_t number = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return number;
}

#endif
