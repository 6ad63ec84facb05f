/* The rollout worker's loop thread: joining, heartbeats, messages, the end. */
#include <signal.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "actor/internal.h"

#define HELLO_WAIT_MS_MAX 5000
#define BYE_MS 500 /* how long a last message may take to leave */

/* ---- sending ------------------------------------------------------------------------------- */

int rt_actor_send(rt_actor *actor, rt_socket *socket, Retake__Envelope *envelope,
                  const rt_frame *frames, int frames_count)
{
    rt_error error = {0};
    const int code = rt_socket_send(socket, NULL, 0, envelope, frames, frames_count, &error);
    if (code != RT_OK && code != RT_ERR_LIMIT)
        rt_log_line(actor->log, RT_WARN, "%s", error.message);
    return code;
}

void rt_actor_end(rt_actor *actor, int code)
{
    if (actor->ending)
        return;
    actor->ending = true;
    actor->code = code;
    uv_stop(&actor->loop);
}

void rt_actor_post(rt_actor *actor, const rt_note *note)
{
    rt_note *copy = rt_alloc(sizeof(*copy));
    *copy = *note;
    /* Open leases are bounded below the mailbox's size; a full one drains within a step. */
    while (!rt_mailbox_to_compute(actor->mailbox, copy))
        uv_sleep(1);
}

/* Twice the slots: what is in work and one batch ahead, so that no round trip is waited for. */
uint32_t rt_actor_free(const rt_actor *actor, int gone)
{
    int64_t busy = -gone;
    if (!actor->posted.set) /* nothing to sample from yet */
        return 0;
    for (int i = 0; i < actor->open_count; i++)
        busy += actor->open[i].count;
    return (uint32_t)RT_MAX(2 * (int64_t)actor->compute.slots - busy, (int64_t)0);
}

void rt_actor_credit(rt_actor *actor)
{
    actor->credit_due = false; /* who joins or has weights again tells its credit then */
    if (!actor->joined || !actor->posted.set)
        return;
    Retake__Credit credit = RETAKE__CREDIT__INIT;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_CREDIT;
    envelope.credit = &credit;
    credit.slots = rt_actor_free(actor, 0);
    rt_actor_send(actor, actor->work, &envelope, NULL, 0);
}

static void send_hello(rt_actor *actor, int64_t now_ns)
{
    struct utsname host = {0};
    uname(&host);
    Retake__Hello hello = RETAKE__HELLO__INIT;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_HELLO;
    envelope.hello = &hello;
    hello.role = (char *)(uintptr_t)actor->role;
    hello.host = host.nodename;
    hello.process = (uint64_t)getpid();
    hello.version = RT_VERSION;
    hello.config = rt_config_fingerprint(actor->config);
    hello.weights_version = actor->posted.set ? actor->posted.number : -1;
    hello.isa = (char *)(uintptr_t)actor->compute.ops->isa;
    rt_actor_send(actor, actor->work, &envelope, NULL, 0);
    actor->hello_ns = now_ns + (int64_t)actor->hello_wait_ms * 1000000;
    actor->hello_wait_ms = RT_MIN(actor->hello_wait_ms * 2, HELLO_WAIT_MS_MAX);
}

static void send_bye(rt_actor *actor, const char *reason)
{
    Retake__Bye bye = RETAKE__BYE__INIT;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_BYE;
    envelope.bye = &bye;
    bye.reason = (char *)(uintptr_t)reason;
    rt_actor_send(actor, actor->work, &envelope, NULL, 0);
}

/* ---- status -------------------------------------------------------------------------------- */

static const char *state_of(const rt_actor *actor)
{
    if (atomic_load(&actor->compute.sequences) > 0)
        return "generating";
    if (actor->fetch)
        return "fetching weights";
    if (!actor->posted.set)
        return "waiting for weights";
    return actor->open_count > 0 ? "loading weights" : "waiting for lease";
}

static void send_ping(rt_actor *actor, int64_t now_ns)
{
    const uint64_t tokens = atomic_load(&actor->compute.tokens);
    const double seconds = (double)(now_ns - actor->rate_ns) * 1e-9;
    if (seconds > 0)
        actor->tokens_per_second = (double)(tokens - actor->rate_tokens) / seconds;
    actor->rate_ns = now_ns;
    actor->rate_tokens = tokens;
    const char *state = state_of(actor);
    if (strcmp(state, actor->state) != 0) {
        snprintf(actor->state, sizeof(actor->state), "%s", state);
        actor->state_ns = now_ns;
    }
    const bool own_work = strcmp(state, "generating") == 0 || strcmp(state, "loading weights") == 0;
    Retake__Ping ping = RETAKE__PING__INIT;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_PING;
    envelope.ping = &ping;
    ping.state = actor->state;
    ping.waits_for = own_work ? "" : "coordinator";
    ping.waits_since_ms = own_work ? 0 : (uint64_t)((now_ns - actor->state_ns) / 1000000);
    ping.tokens_per_second = actor->tokens_per_second;
    ping.tokens = tokens;
    ping.prefill_tokens = atomic_load(&actor->compute.prefill);
    ping.active = atomic_load(&actor->compute.sequences);
    ping.weights_version = actor->posted.set ? actor->posted.number : -1;
    rt_actor_send(actor, actor->work, &envelope, NULL, 0);
}

/* ---- receiving ----------------------------------------------------------------------------- */

static void on_welcome(rt_actor *actor, const Retake__Envelope *envelope)
{
    const Retake__Welcome *welcome = envelope->welcome;
    if (actor->coordinator != envelope->incarnation && actor->coordinator != 0) {
        rt_log_line(actor->log, RT_INFO, "the coordinator was started again; its leases are gone");
        rt_leases_drop(actor);
    }
    if (!actor->joined)
        rt_log_line(actor->log, RT_INFO, "joined the run at %s", rt_socket_endpoint(actor->work));
    actor->coordinator = envelope->incarnation;
    actor->joined = true;
    actor->hello_wait_ms = (uint32_t)actor->config->coordinator.heartbeat_ms;
    rt_socket_set_run(actor->work, welcome->run);
    rt_socket_set_run(actor->blob, welcome->run);
    const int64_t now_ns = rt_now_ns();
    const uint32_t heartbeat_ms = welcome->heartbeat_ms
                                      ? welcome->heartbeat_ms
                                      : (uint32_t)actor->config->coordinator.heartbeat_ms;
    const uint32_t liveness = welcome->liveness ? welcome->liveness
                                                : (uint32_t)actor->config->coordinator.liveness;
    rt_liveness_init(&actor->peer, heartbeat_ms, liveness, now_ns);
    rt_leases_resend(actor);
    send_ping(actor, now_ns);
}

static void send_pong(rt_actor *actor)
{
    Retake__Pong pong = RETAKE__PONG__INIT;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_PONG;
    envelope.pong = &pong;
    rt_actor_send(actor, actor->work, &envelope, NULL, 0);
}

static void on_known(rt_actor *actor, const rt_message *message)
{
    switch (message->envelope->kind_case) {
    case RETAKE__ENVELOPE__KIND_PING:
        send_pong(actor);
        break;
    case RETAKE__ENVELOPE__KIND_LEASE:
        rt_leases_take(actor, message);
        break;
    case RETAKE__ENVELOPE__KIND_CANCEL:
        rt_leases_cancel(actor, message->envelope->cancel->lease);
        break;
    case RETAKE__ENVELOPE__KIND_ANNOUNCE:
        rt_weights_announced(actor, message->envelope->announce);
        break;
    case RETAKE__ENVELOPE__KIND_CHUNK:
        rt_weights_chunk(actor, message);
        break;
    default:
        break;
    }
}

static void on_message(void *context, rt_socket *socket, const rt_message *message)
{
    (void)socket;
    rt_actor *actor = context;
    if (actor->ending)
        return;
    const Retake__Envelope *envelope = message->envelope;
    actor->heard_ns = rt_now_ns();
    rt_liveness_heard(&actor->peer, actor->heard_ns);
    switch (envelope->kind_case) {
    case RETAKE__ENVELOPE__KIND_WELCOME:
        on_welcome(actor, envelope);
        break;
    case RETAKE__ENVELOPE__KIND_REFUSE:
        rt_actor_end(actor, rt_fail(actor->err, RT_ERR_PEER, "the coordinator refuses us: %s",
                                    envelope->refuse->reason));
        break;
    case RETAKE__ENVELOPE__KIND_STOP:
        rt_log_line(actor->log, RT_INFO, "the run ends: %s", envelope->stop->reason);
        rt_actor_end(actor, RT_OK);
        break;
    default:
        if (envelope->incarnation == actor->coordinator) {
            on_known(actor, message);
        } else if (actor->joined) { /* started again while we did not look: it does not know us */
            actor->joined = false;
            actor->hello_ns = actor->heard_ns;
        }
        break;
    }
}

static void on_reject(void *context, rt_socket *socket, const rt_error *error)
{
    (void)socket;
    rt_log_line(((rt_actor *)context)->log, RT_WARN, "dropped: %s", error->message);
}

/* Leases that came together start together. Results tell what is free; cancelled leases have none. */
static void on_turn(void *context)
{
    rt_actor *actor = context;
    if (actor->ending)
        return;
    if (actor->waiting)
        rt_leases_flush(actor);
    if (actor->credit_due)
        rt_actor_credit(actor);
}

static void on_note(void *context)
{
    rt_actor *actor = context;
    for (rt_note *note; (note = rt_mailbox_from_compute(actor->mailbox));) {
        if (note->kind == RT_NOTE_WEIGHTS) {
            rt_weights_back(actor, &note->version);
        } else {
            rt_leases_done(actor, note->work);
        }
        rt_free(note);
    }
}

/* ---- time and signals ---------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer)
{
    rt_actor *actor = timer->data;
    const int64_t now_ns = rt_now_ns();
    if (actor->unreachable_ms > 0 && now_ns - actor->heard_ns > actor->unreachable_ms * 1000000) {
        rt_actor_end(actor, rt_fail(actor->err, RT_ERR_PEER,
                                    "no word from a coordinator at %s for %lld s; start `retake "
                                    "coordinator` with the same config, or check "
                                    "coordinator.address",
                                    rt_socket_endpoint(actor->work),
                                    (long long)(actor->unreachable_ms + 500) / 1000));
        return;
    }
    if (actor->joined && rt_liveness_gone(&actor->peer, now_ns)) {
        rt_log_line(actor->log, RT_WARN, "the coordinator at %s is silent; trying again",
                    rt_socket_endpoint(actor->work));
        actor->joined = false;
        actor->hello_ns = now_ns;
    }
    if (!actor->joined) {
        if (now_ns >= actor->hello_ns)
            send_hello(actor, now_ns);
        return;
    }
    if (rt_liveness_ping_due(&actor->peer, now_ns))
        send_ping(actor, now_ns);
    if (actor->unsent)
        rt_leases_resend(actor);
    rt_weights_tick(actor, now_ns);
}

static void on_signal(uv_signal_t *handle, int number)
{
    rt_actor *actor = handle->data;
    const char *name = number == SIGINT ? "SIGINT" : "SIGTERM";
    send_bye(actor, name);
    rt_actor_end(actor, rt_fail(actor->err, RT_ERR_STOPPED, "%s stops on %s", actor->name, name));
}

/* ---- start and end ------------------------------------------------------------------------- */

static int open_socket(rt_actor *actor, const char *which, rt_socket **socket)
{
    rt_buf endpoint = {0};
    int code = rt_endpoint(actor->config, which, false, &endpoint, actor->err);
    if (code == RT_OK) {
        const rt_socket_options options = {.type = ZMQ_DEALER, .endpoint = endpoint.data,
            .sender = actor->name, .incarnation = actor->incarnation, .on_message = on_message,
            .on_reject = on_reject, .on_turn = on_turn, .context = actor};
        code = rt_socket_open(socket, &actor->loop, actor->zmq, &options, actor->err);
    }
    rt_buf_free(&endpoint);
    return code;
}

static int open_loop(rt_actor *actor)
{
    if (uv_loop_init(&actor->loop) != 0)
        return rt_fail(actor->err, RT_ERR_IO, "cannot make an event loop; is the limit of open "
                       "files (ulimit -n) too low?");
    actor->loop_open = true;
    uv_timer_init(&actor->loop, &actor->timer);
    uv_signal_init(&actor->loop, &actor->interrupt);
    uv_signal_init(&actor->loop, &actor->terminate);
    actor->timer_open = true;
    actor->timer.data = actor->interrupt.data = actor->terminate.data = actor;
    actor->zmq = zmq_ctx_new();
    if (!actor->zmq)
        return rt_fail(actor->err, RT_ERR_IO, "cannot start libzmq: %s", zmq_strerror(zmq_errno()));
    int code = rt_mailbox_new(&actor->mailbox, &actor->loop, on_note, actor, actor->err);
    if (code == RT_OK)
        code = open_socket(actor, "work", &actor->work);
    if (code == RT_OK)
        code = open_socket(actor, "blob", &actor->blob);
    return code;
}

/* Room for what the learner announces: a model, or adapters of the one that is here. */
static int open_blob(rt_actor *actor)
{
    const rt_config *config = actor->config;
    rt_lora lora;
    if (!rt_lora_of(config, &lora))
        return rt_weights_new(&actor->weights, &actor->compute.arch,
                              strcmp(config->model.dtype, "bf16") == 0 ? RT_BF16 : RT_F32, actor->err);
    rt_adapters *adapters;
    const int code = rt_adapters_new(&adapters, &actor->compute.arch, &lora, rt_config_adapters(config),
                                     actor->err);
    if (code == RT_OK) {
        actor->weights = adapters->weights;
        adapters->weights = NULL;
        rt_adapters_free(&adapters);
    }
    return code;
}

static int start(rt_actor *actor)
{
    const rt_config *config = actor->config;
    int code = rt_graders_ready(config, actor->err);
    if (code == RT_OK)
        code = rt_compute_open(&actor->compute, config, actor->err);
    if (code == RT_OK)
        code = open_blob(actor);
    if (code == RT_OK)
        code = open_loop(actor);
    if (code != RT_OK)
        return code;
    actor->compute.mailbox = actor->mailbox;
    if (uv_thread_create(&actor->thread, rt_compute_run, &actor->compute) != 0)
        return rt_fail(actor->err, RT_ERR_NOMEM, "cannot start the compute thread");
    actor->thread_open = true;
    const uint32_t heartbeat_ms = (uint32_t)RT_MAX(config->coordinator.heartbeat_ms, 1);
    const int64_t now_ns = rt_now_ns();
    rt_liveness_init(&actor->peer, heartbeat_ms, (uint32_t)config->coordinator.liveness, now_ns);
    actor->heard_ns = actor->hello_ns = actor->state_ns = actor->rate_ns = now_ns;
    actor->hello_wait_ms = heartbeat_ms;
    uv_timer_start(&actor->timer, on_timer, 0, RT_MAX(heartbeat_ms / 4, 5u));
    uv_signal_start(&actor->interrupt, on_signal, SIGINT);
    uv_signal_start(&actor->terminate, on_signal, SIGTERM);
    return RT_OK;
}

static void stop_thread(rt_actor *actor)
{
    if (!actor->thread_open)
        return;
    rt_note *last = rt_alloc(sizeof(*last));
    last->kind = RT_NOTE_STOP;
    atomic_store(&actor->compute.stop, true);
    if (!rt_mailbox_to_compute(actor->mailbox, last))
        rt_free(last);
    uv_thread_join(&actor->thread);
    actor->thread_open = false;
}

static void drain(rt_actor *actor)
{
    rt_note *note;
    while ((note = rt_mailbox_from_compute(actor->mailbox)) ||
           (note = rt_mailbox_from_loop(actor->mailbox, 0))) {
        rt_work_free(&note->work);
        rt_free(note);
    }
}

static void list_free(rt_work **list)
{
    while (*list) {
        rt_work *work = *list;
        *list = work->next;
        rt_work_free(&work);
    }
}

static void finish(rt_actor *actor)
{
    stop_thread(actor);
    if (actor->mailbox)
        drain(actor);
    rt_mailbox_close(&actor->mailbox);
    rt_socket_close(&actor->work, BYE_MS);
    rt_socket_close(&actor->blob, 0);
    if (actor->timer_open) {
        uv_close((uv_handle_t *)&actor->timer, NULL);
        uv_close((uv_handle_t *)&actor->interrupt, NULL);
        uv_close((uv_handle_t *)&actor->terminate, NULL);
    }
    if (actor->loop_open) {
        uv_run(&actor->loop, UV_RUN_DEFAULT);
        RT_ASSERT(uv_loop_close(&actor->loop) == 0);
    }
    if (actor->zmq)
        zmq_ctx_term(actor->zmq);
    rt_fetch_free(&actor->fetch);
    rt_compute_close(&actor->compute);
    if (actor->weights)
        rt_weights_free(&actor->weights);
    list_free(&actor->waiting);
    list_free(&actor->unsent);
    rt_free(actor->open);
}

int rt_actor_run(const rt_config *config, const char *role, const char *name, const rt_log *log,
                 int64_t unreachable_ms, rt_error *err)
{
    rt_error unheard = {0};
    rt_actor *actor = rt_alloc(sizeof(*actor));
    actor->config = config;
    actor->role = role;
    actor->name = name;
    actor->log = log;
    actor->err = err ? err : &unheard;
    actor->unreachable_ms = unreachable_ms;
    /* New at every start, also when two starts fall into one millisecond on two machines. */
    actor->incarnation = (uint64_t)rt_wall_ms() << 20 ^ (uint64_t)rt_now_ns() ^
                         (uint64_t)getpid() << 8;
    int code = start(actor);
    if (code == RT_OK) {
        uv_run(&actor->loop, UV_RUN_DEFAULT);
        code = actor->code;
    }
    finish(actor);
    rt_free(actor);
    return code;
}
