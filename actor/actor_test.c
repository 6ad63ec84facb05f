/* The worker against a coordinator written here, on real sockets, with a tiny random model: what it
 * answers must equal, bit for bit, what an engine gives that was set up by hand. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "actor/actor.h"
#include "model/model.h"
#include "proto/proto.h"
#include "tasks/tasks.h"

enum { VERSIONS = 3, SLOTS = 6, RESULTS_MAX = 40, CHUNK = 1024, TRIES_S = 30 };

typedef struct answer {
    uint64_t lease;
    int64_t version;
    rt_hash128 hash;
    uint32_t attempt;
    char error[200];
    int count;
    uint64_t ids[8];
    uint32_t tokens[8], thoughts[8], grade[8];
    double reward[8];
    char end[8][16];
    rt_buf frames[3];
} answer;

typedef struct fake { /* the coordinator */
    uv_loop_t loop;
    uv_timer_t timer;
    void *zmq;
    rt_socket *work, *blob;
    char dir[64];
    rt_config config;
    rt_tokenizer *tokenizer;
    rt_weights *weights[VERSIONS];
    int current;              /* version announced on Hello */
    const char *refuse;
    bool mute, break_chunks, foreign_model;
    rt_hash128 *base;         /* that the adapters announced are of; NULL: whole models are */
    uint64_t incarnation;
    char hello_role[16];
    uint64_t hellos, readies, pings, byes, pongs, last_credit, results_count;
    uint64_t chunks_spoiled, chunks_asked;
    int64_t ready_version;
    answer results[RESULTS_MAX];
    /* the worker's thread */
    uv_thread_t thread;
    rt_log log;
    rt_error error;
    int64_t unreachable_ms;
    atomic_int code; /* 1: still running */
} fake;

/* ---- a tiny model -------------------------------------------------------------------------- */

static void make_model(fake *f)
{
    static const char corpus[] = "the answer is one and the answer is two, so the sum is \\boxed{3}. "
                                 "then the answer to the next one is \\boxed{12} and the end.";
    static const char *const specials[] = {"<|end|>", "<|start|>"};
    rt_buf json = {0};
    rt_error error = {0};
    assert_int_equal(rt_tokenizer_train(corpus, sizeof(corpus) - 1, 264, specials, 2, NULL, 0, &json,
                                        &error), RT_OK);
    char path[128];
    snprintf(path, sizeof(path), "%s/model/tokenizer.json", f->dir);
    rt_arch arch = {.family = "llama", .layers = 2, .d = 32, .f = 48, .heads = 4, .kv_heads = 2,
                    .head_size = 8, .context = 128, .norm_eps = 1e-5f, .tied = true,
                    .rope_theta = 10000, .bos = 1, .eos = {0}, .eos_count = 1};
    assert_int_equal(rt_tokenizer_parse(&f->tokenizer, json.data, json.bytes, &error), RT_OK);
    arch.vocab = rt_tokenizer_vocab(f->tokenizer);
    for (int v = 0; v < VERSIONS; v++) {
        rt_weights *full;
        assert_int_equal(rt_weights_new(&full, &arch, RT_F32, &error), RT_OK);
        rt_weights_randomize(full, (uint64_t)v + 1);
        for (size_t i = 0; i < full->count; i++) /* far from uniform, so that a slip is seen */
            ((float *)full->data)[i] *= 8;
        assert_int_equal(rt_weights_new(&f->weights[v], &arch, RT_BF16, &error), RT_OK);
        rt_weights_convert(f->weights[v], full);
        rt_weights_free(&full);
    }
    char model[128];
    snprintf(model, sizeof(model), "%s/model", f->dir);
    assert_int_equal(rt_model_save(f->weights[2], model, NULL, &error), RT_OK);
    assert_int_equal(rt_file_write(path, json.data, json.bytes, &error), RT_OK);
    rt_buf_free(&json);
}

static void make_config(fake *f)
{
    char yaml[1024];
    const int bytes = snprintf(yaml, sizeof(yaml),
                               "model:\n  path: %s/model\n  dtype: bf16\n"
                               "task: chain\nalgorithm: grpo\n"
                               "run:\n  dir: %s/run\nactors:\n  slots: %d\n"
                               "sampling:\n  max_tokens: 64\n"
                               "coordinator:\n  heartbeat_ms: 50\n  liveness: 4\n  chunk_bytes: %d\n",
                               f->dir, f->dir, SLOTS, CHUNK);
    rt_error error = {0};
    if (rt_config_parse(&f->config, yaml, (size_t)bytes, "test", NULL, 0, &error) != RT_OK)
        fail_msg("%s", error.message);
}

/* ---- the coordinator's side ---------------------------------------------------------------- */

static rt_hash128 blob_hash(const fake *f, int version)
{
    return rt_hash(f->weights[version]->data, rt_weights_bytes(f->weights[version]));
}

static void reply(rt_socket *socket, Retake__Envelope *envelope, const rt_frame *frames, int count)
{
    rt_socket_send(socket, "actor-0", 7, envelope, frames, count, NULL);
}

static void announce(fake *f, int version)
{
    f->current = version;
    const rt_weights *w = f->weights[version];
    Retake__WeightsAnnounce message = RETAKE__WEIGHTS_ANNOUNCE__INIT;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_ANNOUNCE;
    envelope.announce = &message;
    Retake__Tensor rows[64], *list[64];
    assert_true(w->tensors_count <= 64);
    for (int i = 0; i < w->tensors_count; i++) {
        retake__tensor__init(&rows[i]);
        rows[i].name = w->tensors[i].name;
        rows[i].rows = (uint32_t)w->tensors[i].rows;
        rows[i].cols = (uint32_t)w->tensors[i].cols;
        rows[i].offset = w->tensors[i].offset;
        rows[i].count = w->tensors[i].count + (f->foreign_model && i == 3);
        list[i] = &rows[i];
    }
    rt_hash128 hash = blob_hash(f, version);
    message.version = version;
    message.bytes = rt_weights_bytes(w);
    message.dtype = (uint32_t)w->dtype;
    message.hash = (ProtobufCBinaryData){sizeof(hash), (uint8_t *)&hash};
    if (f->base)
        message.base_hash = (ProtobufCBinaryData){sizeof(*f->base), (uint8_t *)f->base};
    message.chunk_bytes = CHUNK;
    message.n_tensors = (size_t)w->tensors_count;
    message.tensors = list;
    reply(f->work, &envelope, NULL, 0);
}

static void welcome(fake *f)
{
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    if (f->refuse) {
        Retake__Refuse refuse = RETAKE__REFUSE__INIT;
        refuse.reason = (char *)(uintptr_t)f->refuse;
        envelope.kind_case = RETAKE__ENVELOPE__KIND_REFUSE;
        envelope.refuse = &refuse;
        reply(f->work, &envelope, NULL, 0);
        return;
    }
    Retake__Welcome message = RETAKE__WELCOME__INIT;
    message.run = 99;
    message.heartbeat_ms = 50;
    message.liveness = 4;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_WELCOME;
    envelope.welcome = &message;
    reply(f->work, &envelope, NULL, 0);
    announce(f, f->current);
}

static void keep_result(fake *f, const rt_message *message)
{
    const Retake__Result *r = message->envelope->result;
    assert_true(f->results_count < RESULTS_MAX && r->n_trajectories <= 8);
    answer *a = &f->results[f->results_count++];
    a->lease = r->lease;
    a->attempt = r->attempt;
    a->version = r->weights_version;
    memcpy(&a->hash, r->weights_hash.data, sizeof(a->hash));
    snprintf(a->error, sizeof(a->error), "%s", r->error);
    a->count = (int)r->n_trajectories;
    for (int i = 0; i < a->count; i++) {
        a->ids[i] = r->trajectories[i]->id;
        a->tokens[i] = r->trajectories[i]->tokens;
        a->thoughts[i] = r->trajectories[i]->thoughts;
        a->grade[i] = r->trajectories[i]->grade;
        a->reward[i] = r->trajectories[i]->reward;
        snprintf(a->end[i], sizeof(a->end[i]), "%s", r->trajectories[i]->end);
    }
    for (int i = 0; i < 3; i++)
        rt_buf_clear(&a->frames[i]);
    for (int i = 0; i < message->frames_count && i < 3; i++)
        rt_buf_add(&a->frames[i], message->frames[i].data, message->frames[i].bytes);
}

static void on_work(void *context, rt_socket *socket, const rt_message *message)
{
    fake *f = context;
    const Retake__Envelope *e = message->envelope;
    (void)socket;
    if (f->mute)
        return;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    Retake__Pong pong = RETAKE__PONG__INIT;
    switch (e->kind_case) {
    case RETAKE__ENVELOPE__KIND_HELLO:
        f->hellos++;
        snprintf(f->hello_role, sizeof(f->hello_role), "%s", e->hello->role);
        assert_true(e->hello->config == rt_config_fingerprint(&f->config));
        welcome(f);
        break;
    case RETAKE__ENVELOPE__KIND_PING:
        f->pings++;
        envelope.kind_case = RETAKE__ENVELOPE__KIND_PONG;
        envelope.pong = &pong;
        reply(f->work, &envelope, NULL, 0);
        break;
    case RETAKE__ENVELOPE__KIND_PONG:
        f->pongs++;
        break;
    case RETAKE__ENVELOPE__KIND_READY:
        f->readies++;
        f->ready_version = e->ready->version;
        break;
    case RETAKE__ENVELOPE__KIND_CREDIT:
        f->last_credit = e->credit->slots;
        break;
    case RETAKE__ENVELOPE__KIND_RESULT:
        f->last_credit = e->result->credit;
        keep_result(f, message);
        break;
    case RETAKE__ENVELOPE__KIND_BYE:
        f->byes++;
        break;
    default:
        break;
    }
}

static void on_blob(void *context, rt_socket *socket, const rt_message *message)
{
    fake *f = context;
    const Retake__ChunkRequest *request = message->envelope->chunk_request;
    assert_int_equal(message->envelope->kind_case, RETAKE__ENVELOPE__KIND_CHUNK_REQUEST);
    const rt_weights *w = f->weights[request->version];
    for (uint32_t i = request->first; i < request->first + request->count; i++) {
        Retake__Chunk chunk = RETAKE__CHUNK__INIT;
        Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
        envelope.kind_case = RETAKE__ENVELOPE__KIND_CHUNK;
        envelope.chunk = &chunk;
        rt_frame frame;
        assert_true(rt_chunk_of(w->data, rt_weights_bytes(w), CHUNK, i, &frame, &chunk.hash));
        chunk.version = request->version;
        chunk.index = i;
        f->chunks_asked++;
        if (f->break_chunks && f->chunks_asked % 7 == 3) { /* lost */
            f->chunks_spoiled++;
            continue;
        }
        if (f->break_chunks && f->chunks_asked % 7 == 5) { /* corrupted */
            f->chunks_spoiled++;
            chunk.hash ^= 1;
        }
        reply(socket, &envelope, &frame, 1);
    }
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer; /* makes every turn of the loop end */
}

static void bind_socket(fake *f, const char *which, rt_message_cb *on_message, rt_socket **socket)
{
    rt_buf endpoint = {0};
    rt_error error = {0};
    assert_int_equal(rt_endpoint(&f->config, which, true, &endpoint, &error), RT_OK);
    const rt_socket_options options = {.type = ZMQ_ROUTER, .endpoint = endpoint.data, .bind = true,
        .sender = "coordinator", .incarnation = f->incarnation, .on_message = on_message,
        .context = f};
    int code = RT_ERR_IO; /* the name of a socket just closed is free soon after */
    for (int i = 0; i < 5000 && code != RT_OK; i++) {
        uv_run(&f->loop, UV_RUN_ONCE);
        code = rt_socket_open(socket, &f->loop, f->zmq, &options, &error);
    }
    if (code != RT_OK)
        fail_msg("%s", error.message);
    rt_buf_free(&endpoint);
}

static void coordinator_start(fake *f)
{
    f->incarnation++;
    bind_socket(f, "work", on_work, &f->work);
    bind_socket(f, "blob", on_blob, &f->blob);
}

static void coordinator_kill(fake *f)
{
    rt_socket_close(&f->work, 0);
    rt_socket_close(&f->blob, 0);
    uv_run(&f->loop, UV_RUN_NOWAIT);
}

static void turn_until(fake *f, const uint64_t *count, uint64_t wanted)
{
    const int64_t until = rt_now_ns() + (int64_t)TRIES_S * 1000000000;
    while (*count < wanted && atomic_load(&f->code) == 1 && rt_now_ns() < until)
        uv_run(&f->loop, UV_RUN_ONCE);
    if (*count < wanted)
        fail_msg("waited in vain for %llu; the worker says: %s", (unsigned long long)wanted,
                 f->error.message);
}

static void turn_for(fake *f, int ms)
{
    const int64_t until = rt_now_ns() + (int64_t)ms * 1000000;
    while (rt_now_ns() < until)
        uv_run(&f->loop, UV_RUN_ONCE);
}

static void turn_until_end(fake *f)
{
    const int64_t until = rt_now_ns() + (int64_t)TRIES_S * 1000000000;
    while (atomic_load(&f->code) == 1 && rt_now_ns() < until)
        uv_run(&f->loop, UV_RUN_ONCE);
    assert_int_not_equal(atomic_load(&f->code), 1);
}

/* ---- the worker's side --------------------------------------------------------------------- */

static void run_worker(void *context)
{
    fake *f = context;
    atomic_store(&f->code, rt_actor_run(&f->config, "actor", "actor-0", &f->log, f->unreachable_ms,
                                        &f->error));
}

static void worker_start(fake *f)
{
    atomic_store(&f->code, 1);
    assert_int_equal(uv_thread_create(&f->thread, run_worker, f), 0);
}

static void stop_worker(fake *f)
{
    Retake__Stop stop = RETAKE__STOP__INIT;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_STOP;
    envelope.stop = &stop;
    stop.reason = "done";
    reply(f->work, &envelope, NULL, 0);
}

/* ---- leases and what they must give -------------------------------------------------------- */

typedef struct order {
    uint64_t lease, first_id;
    int version, count;
    const char *prompt, *kind;
    double temperature;
    int max_tokens;
    bool thoughts;
} order;

static rt_sampling sampling_of(const order *o)
{
    rt_sampling s = {.temperature = o->temperature, .top_p = 1, .max_tokens = o->max_tokens,
                     .seed = 5};
    if (o->thoughts) {
        s.delimiter = "e";
        s.terminal = "\\boxed{";
        s.thoughts_max = 4;
        s.thought_tokens_max = 9;
    }
    return s;
}

static void prompt_of(const fake *f, const order *o, int32_t **ids, size_t *count)
{
    size_t capacity = 0;
    *ids = NULL;
    *count = 0;
    assert_int_equal(rt_tokenizer_encode(f->tokenizer, o->prompt, strlen(o->prompt), ids, count,
                                         &capacity, NULL), RT_OK);
}

static void send_lease(fake *f, const order *o)
{
    int32_t *ids;
    size_t count;
    prompt_of(f, o, &ids, &count);
    const rt_sampling s = sampling_of(o);
    Retake__Sampling sampling = RETAKE__SAMPLING__INIT;
    Retake__Lease lease = RETAKE__LEASE__INIT;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_LEASE;
    envelope.lease = &lease;
    sampling.temperature = s.temperature;
    sampling.top_p = s.top_p;
    sampling.max_tokens = (uint32_t)s.max_tokens;
    sampling.seed = s.seed;
    sampling.delimiter = (char *)(uintptr_t)(s.delimiter ? s.delimiter : "");
    sampling.terminal = (char *)(uintptr_t)(s.terminal ? s.terminal : "");
    sampling.thoughts_max = (uint32_t)s.thoughts_max;
    sampling.thought_tokens_max = (uint32_t)s.thought_tokens_max;
    rt_hash128 hash = blob_hash(f, o->version);
    uint64_t trajectories[8];
    for (int i = 0; i < o->count; i++)
        trajectories[i] = o->first_id + (uint64_t)i;
    lease.id = o->lease;
    lease.attempt = 1;
    lease.kind = (char *)(uintptr_t)(o->kind ? o->kind : "base");
    lease.weights_version = o->version;
    lease.weights_hash = (ProtobufCBinaryData){sizeof(hash), (uint8_t *)&hash};
    lease.grader = "number";
    lease.gold = "3";
    lease.n_trajectories = (size_t)o->count;
    lease.trajectories = trajectories;
    lease.sampling = &sampling;
    const rt_frame frames[2] = {{ids, count * sizeof(int32_t)}, {"", 0}};
    reply(f->work, &envelope, frames, 2);
    rt_free(ids);
}

static const answer *find_answer(const fake *f, uint64_t lease)
{
    for (uint64_t i = 0; i < f->results_count; i++)
        if (f->results[i].lease == lease)
            return &f->results[i];
    return NULL;
}

static const answer *answer_of(const fake *f, uint64_t lease)
{
    assert_non_null(find_answer(f, lease));
    return find_answer(f, lease);
}

static void turn_until_answer(fake *f, uint64_t lease)
{
    while (!find_answer(f, lease))
        turn_until(f, &f->results_count, f->results_count + 1);
}

static void same_completion(const fake *f, const answer *a, int index, const rt_completion *c,
                            size_t at, size_t thoughts_at)
{
    assert_int_equal(a->tokens[index], c->ids_count);
    assert_int_equal(a->thoughts[index], c->thoughts_count);
    assert_string_equal(a->end[index], rt_end_name(c->end));
    assert_memory_equal((int32_t *)a->frames[0].data + at, c->ids, 4 * (size_t)c->ids_count);
    assert_memory_equal((float *)a->frames[1].data + at, c->logprobs, 4 * (size_t)c->ids_count);
    if (c->thoughts_count > 0)
        assert_memory_equal((int32_t *)a->frames[2].data + thoughts_at, c->thought_ends,
                            4 * (size_t)c->thoughts_count);
    rt_buf text = {0};
    rt_buf_add(&text, "", 0);
    const bool ended = c->end == RT_END_EOS && c->ids_count > 0 && c->ids[c->ids_count - 1] == 0;
    rt_tokenizer_decode(f->tokenizer, c->ids, (size_t)c->ids_count - ended, &text);
    rt_verdict verdict;
    assert_int_equal(rt_grade_response("number", text.data, text.bytes, "3", &verdict, NULL), RT_OK);
    assert_int_equal(a->grade[index], verdict.grade);
    assert_true(a->reward[index] >= verdict.reward && a->reward[index] <= verdict.reward);
    rt_buf_free(&text);
}

/* One engine for one lease: another batch, another order, the same bits. */
static void check_answer(const fake *f, const order *o)
{
    const answer *a = answer_of(f, o->lease);
    assert_string_equal(a->error, "");
    assert_int_equal(a->version, o->version);
    assert_int_equal(a->attempt, 1);
    assert_true(rt_hash_equal(a->hash, blob_hash(f, o->version)));
    assert_int_equal(a->count, o->count);
    rt_ops *ops;
    rt_net *net;
    rt_engine *engine;
    rt_error error = {0};
    assert_int_equal(rt_ops_open(&ops, "cpu", 1, &error), RT_OK);
    assert_int_equal(rt_net_new(&net, &f->weights[0]->arch, RT_BF16, ops, &error), RT_OK);
    rt_net_set(net, f->weights[o->version]);
    assert_int_equal(rt_engine_new(&engine, net, f->tokenizer, 8, 0, &error), RT_OK);
    int32_t *prompt;
    size_t prompt_count;
    prompt_of(f, o, &prompt, &prompt_count);
    const rt_sampling sampling = sampling_of(o);
    uint64_t trajectories[8];
    for (int i = 0; i < o->count; i++)
        trajectories[i] = o->first_id + (uint64_t)i;
    assert_int_equal(rt_engine_submit(engine, 1, prompt, (int)prompt_count, trajectories, o->count, 0, -1,
                                      &sampling, &error), RT_OK);
    int left;
    while ((left = rt_engine_step(engine, &error)) > 0)
        ;
    assert_int_equal(left, 0);
    rt_completion completions[8] = {{0}}, c;
    while (rt_engine_collect(engine, &c))
        completions[c.trajectory - o->first_id] = c;
    size_t at = 0, thoughts_at = 0;
    for (int i = 0; i < o->count; i++) {
        assert_true(a->ids[i] == o->first_id + (uint64_t)i && completions[i].ids_count > 0);
        same_completion(f, a, i, &completions[i], at, thoughts_at);
        at += (size_t)completions[i].ids_count;
        thoughts_at += (size_t)completions[i].thoughts_count;
        rt_completion_free(&completions[i]);
    }
    assert_int_equal(a->frames[0].bytes, at * 4);
    assert_int_equal(a->frames[1].bytes, at * 4);
    assert_int_equal(a->frames[2].bytes, thoughts_at * 4);
    rt_free(prompt);
    rt_engine_free(&engine);
    rt_net_free(&net);
    rt_ops_free(&ops);
}

/* ---- set up -------------------------------------------------------------------------------- */

static int setup(void **state)
{
    fake *f = calloc(1, sizeof(*f));
    snprintf(f->dir, sizeof(f->dir), "/tmp/rt-actor-test-XXXXXX");
    if (!mkdtemp(f->dir) || uv_loop_init(&f->loop) != 0)
        return -1;
    f->zmq = zmq_ctx_new();
    uv_timer_init(&f->loop, &f->timer);
    uv_timer_start(&f->timer, on_tick, 1, 1);
    make_model(f);
    make_config(f);
    rt_log_init(&f->log, "actor-0", RT_ERROR);
    f->unreachable_ms = 60000;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fake *f = *state;
    if (f->thread) {
        if (atomic_load(&f->code) == 1)
            kill(getpid(), SIGTERM); /* a test that failed half way */
        uv_thread_join(&f->thread);
    }
    coordinator_kill(f);
    uv_close((uv_handle_t *)&f->timer, NULL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    const int left = uv_loop_close(&f->loop);
    zmq_ctx_term(f->zmq);
    for (int i = 0; i < RESULTS_MAX; i++)
        for (int k = 0; k < 3; k++)
            rt_buf_free(&f->results[i].frames[k]);
    for (int v = 0; v < VERSIONS; v++)
        rt_weights_free(&f->weights[v]);
    rt_tokenizer_free(&f->tokenizer);
    rt_config_free(&f->config);
    rt_remove_tree(f->dir, NULL);
    free(f);
    return left;
}

/* ---- tests --------------------------------------------------------------------------------- */

static void test_results_are_the_engines(void **state)
{
    fake *f = *state;
    f->break_chunks = true;
    coordinator_start(f);
    worker_start(f);
    turn_until(f, &f->readies, 1);
    assert_string_equal(f->hello_role, "actor");
    assert_int_equal(f->ready_version, 0);
    assert_true(f->chunks_spoiled > 2);
    turn_until(f, &f->last_credit, 2 * SLOTS);
    /* more sequences than slots at once */
    const order orders[] = {
        {.lease = 1, .first_id = 100, .count = 4, .prompt = "the answer", .temperature = 1,
         .max_tokens = 30},
        {.lease = 2, .first_id = 200, .count = 1, .prompt = "one and two", .max_tokens = 25,
         .kind = "eval"},
        {.lease = 3, .first_id = 300, .count = 5, .prompt = "so the sum is", .temperature = 0.7,
         .max_tokens = 40, .thoughts = true},
    };
    for (size_t i = 0; i < RT_COUNT(orders); i++)
        send_lease(f, &orders[i]);
    turn_until(f, &f->results_count, RT_COUNT(orders));
    for (size_t i = 0; i < RT_COUNT(orders); i++)
        check_answer(f, &orders[i]);
    turn_until(f, &f->last_credit, 2 * SLOTS);
    const uint64_t pings = f->pings;
    turn_until(f, &f->pings, pings + 3); /* status comes every heartbeat */
    stop_worker(f);
    turn_until_end(f);
    assert_int_equal(atomic_load(&f->code), RT_OK);
}

static void test_swap_and_cancel(void **state)
{
    fake *f = *state;
    coordinator_start(f);
    worker_start(f);
    turn_until(f, &f->readies, 1);
    /* An old lease at work, then the new version and a lease of it before the worker is ready. */
    const order old = {.lease = 1, .first_id = 1, .count = 4, .prompt = "the", .temperature = 1,
                       .max_tokens = 60};
    const order fresh = {.lease = 2, .first_id = 50, .count = 3, .version = 1, .prompt = "then",
                         .temperature = 1, .max_tokens = 20};
    send_lease(f, &old);
    announce(f, 1);
    send_lease(f, &fresh);
    turn_until(f, &f->results_count, 2);
    assert_int_equal(f->ready_version, 1);
    check_answer(f, &old);
    check_answer(f, &fresh);

    /* Two in one go: only the later one is needed. A lease of a version gone by is given back. */
    announce(f, 2);
    announce(f, 0);
    const order late = {.lease = 3, .first_id = 9, .count = 1, .version = 1, .prompt = "one",
                        .temperature = 1, .max_tokens = 5};
    const order back = {.lease = 4, .first_id = 70, .count = 2, .version = 0, .prompt = "two",
                        .temperature = 1, .max_tokens = 12};
    send_lease(f, &back);
    turn_until(f, &f->results_count, 3);
    check_answer(f, &back);
    send_lease(f, &late);
    turn_until(f, &f->results_count, 4);
    assert_non_null(strstr(answer_of(f, 3)->error, "version 1"));

    /* Bad leases are answered, too. */
    const order odd = {.lease = 5, .count = 1, .prompt = "x", .kind = "brew", .max_tokens = 4};
    const order empty = {.lease = 6, .count = 1, .prompt = "", .max_tokens = 4};
    send_lease(f, &odd);
    send_lease(f, &empty);
    turn_until(f, &f->results_count, 6);
    assert_non_null(strstr(answer_of(f, 5)->error, "brew"));
    assert_non_null(strstr(answer_of(f, 6)->error, "prompt"));

    /* Cancelled at work and waiting: no result, all credit back, the next lease is done. */
    Retake__Cancel cancel = RETAKE__CANCEL__INIT;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_CANCEL;
    envelope.cancel = &cancel;
    order long_one = {.lease = 7, .first_id = 500, .count = 8, .prompt = "the end",
                      .temperature = 1, .max_tokens = 100};
    order last = {.lease = 8, .first_id = 600, .count = 2, .prompt = "sum", .temperature = 1,
                  .max_tokens = 10};
    bool cancelled = false; /* it may be done before the cancel is read */
    for (int tries = 0; tries < 12 && !cancelled; tries++) {
        send_lease(f, &long_one);
        cancel.lease = long_one.lease;
        reply(f->work, &envelope, NULL, 0);
        send_lease(f, &last);
        turn_until_answer(f, last.lease);
        check_answer(f, &last);
        cancelled = !find_answer(f, long_one.lease);
        long_one.lease += 2, last.lease += 2;
    }
    assert_true(cancelled);
    turn_until(f, &f->last_credit, 2 * SLOTS);
    stop_worker(f);
    turn_until_end(f);
    assert_int_equal(atomic_load(&f->code), RT_OK);
}

static void test_reconnect(void **state)
{
    fake *f = *state;
    coordinator_start(f);
    worker_start(f);
    turn_until(f, &f->readies, 1);
    const order lost = {.lease = 1, .first_id = 1, .count = 4, .prompt = "the", .temperature = 1,
                        .max_tokens = 60};
    send_lease(f, &lost);
    uv_run(&f->loop, UV_RUN_ONCE);
    coordinator_kill(f);
    f->readies = f->hellos = f->chunks_asked = 0;
    coordinator_start(f); /* another incarnation: what the first gave out means nothing to it */
    turn_until(f, &f->readies, 1);
    assert_true(f->hellos >= 1);
    assert_int_equal(f->chunks_asked, 0); /* it still holds the version */
    f->results_count = 0;
    const order o = {.lease = 1, .first_id = 40, .count = 3, .prompt = "answer", .temperature = 1,
                     .max_tokens = 20};
    send_lease(f, &o);
    turn_until(f, &f->results_count, 1);
    check_answer(f, &o);

    /* The same coordinator, deaf for a while: what is finished then comes once it is back. */
    f->mute = true;
    turn_for(f, 600);
    const order kept = {.lease = 2, .first_id = 80, .count = 2, .prompt = "sum", .temperature = 1,
                        .max_tokens = 20};
    send_lease(f, &kept);
    turn_for(f, 200);
    f->mute = false;
    turn_until(f, &f->results_count, 2);
    check_answer(f, &kept);
    stop_worker(f);
    turn_until_end(f);
    assert_int_equal(atomic_load(&f->code), RT_OK);
}

static void test_refused(void **state)
{
    fake *f = *state;
    f->refuse = "it runs version 9, you run 0.1.0";
    coordinator_start(f);
    worker_start(f);
    turn_until_end(f);
    assert_int_equal(atomic_load(&f->code), RT_ERR_PEER);
    assert_non_null(strstr(f->error.message, "it runs version 9"));
}

static void test_foreign_model(void **state)
{
    fake *f = *state;
    f->foreign_model = true;
    coordinator_start(f);
    worker_start(f);
    turn_until_end(f);
    assert_int_equal(atomic_load(&f->code), RT_ERR_INPUT);
    assert_non_null(strstr(f->error.message, "model.path"));
}

/* Adapters of the right shape, over a base whose bytes are others (or, first, over ours). */
static void test_foreign_base(void **state)
{
    fake *f = *state;
    rt_lora lora;
    rt_adapters *adapters;
    rt_hash128 base = rt_hash(f->weights[2]->data, rt_weights_bytes(f->weights[2]));
    f->config.learner.lora.rank = 2;
    assert_true(rt_lora_of(&f->config, &lora));
    for (int v = 0; v < 2; v++) {
        assert_int_equal(rt_adapters_new(&adapters, &f->weights[2]->arch, &lora, 1, NULL), RT_OK);
        rt_adapters_randomize(adapters, (uint64_t)v);
        rt_weights_free(&f->weights[v]);
        f->weights[v] = adapters->weights;
        adapters->weights = NULL;
        rt_adapters_free(&adapters);
    }
    f->base = &base;
    coordinator_start(f);
    worker_start(f);
    turn_until(f, &f->readies, 1);
    assert_int_equal(atomic_load(&f->code), 1); /* goes on */
    base.low ^= 1;
    announce(f, 1);
    turn_until_end(f);
    assert_int_equal(atomic_load(&f->code), RT_ERR_INPUT);
    assert_non_null(strstr(f->error.message, "another base"));
}

static void test_unreachable(void **state)
{
    fake *f = *state;
    f->unreachable_ms = 400;
    worker_start(f);
    turn_until_end(f);
    assert_int_equal(atomic_load(&f->code), RT_ERR_PEER);
    assert_non_null(strstr(f->error.message, "ipc://"));
    assert_non_null(strstr(f->error.message, "retake coordinator"));
}

static void test_signal(void **state)
{
    fake *f = *state;
    coordinator_start(f);
    worker_start(f);
    turn_until(f, &f->readies, 1);
    kill(getpid(), SIGTERM);
    turn_until_end(f);
    assert_int_equal(atomic_load(&f->code), RT_ERR_STOPPED);
    /* its last word may arrive after its end */
    const int64_t until = rt_now_ns() + (int64_t)TRIES_S * 1000000000;
    while (f->byes == 0 && rt_now_ns() < until)
        uv_run(&f->loop, UV_RUN_ONCE);
    assert_int_equal(f->byes, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_results_are_the_engines, setup, teardown),
        cmocka_unit_test_setup_teardown(test_swap_and_cancel, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reconnect, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_foreign_model, setup, teardown),
        cmocka_unit_test_setup_teardown(test_foreign_base, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unreachable, setup, teardown),
        cmocka_unit_test_setup_teardown(test_signal, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
