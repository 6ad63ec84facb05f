/*
 * The learner process: says hello with the version it holds, serves that version's chunks, takes
 * one batch at a time, answers with StepDone and the next version. See docs/protocol.md.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "learner/role.h"

static int deliver(rt_role *role, Retake__Envelope *envelope, const rt_frame *frames,
                   int frames_count)
{
    rt_error err = {0};
    int rc = rt_socket_send(role->socket, NULL, 0, envelope, frames, frames_count, &err);
    if (rc != 0)
        rt_log_line(role->log, RT_DEBUG, "message not sent: %s", err.message);
    return rc;
}

static ProtobufCBinaryData hash_bytes(const rt_hash128 *hash)
{
    return (ProtobufCBinaryData){sizeof *hash, (uint8_t *)(uintptr_t)hash};
}

static void say_hello(rt_role *role)
{
    struct utsname name;
    uname(&name);
    Retake__Hello hello = RETAKE__HELLO__INIT;
    hello.role = "learner";
    hello.host = name.nodename;
    hello.process = (uint64_t)getpid();
    hello.version = RT_VERSION;
    hello.config = rt_config_fingerprint(role->config);
    hello.weights_version = role->version;
    hello.weights_hash = hash_bytes(&role->hash);
    hello.isa = (char *)(uintptr_t)role->learner->ops->isa;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_HELLO;
    envelope.hello = &hello;
    role->hello_ns = rt_now_ns();
    deliver(role, &envelope, NULL, 0);
}

static void forget_metrics(rt_role *role)
{
    for (int i = 0; i < role->metrics_count; i++)
        rt_free(role->metrics[i].name);
    rt_free(role->metrics), rt_free(role->metrics_list);
    role->metrics = NULL;
    role->metrics_list = NULL;
    role->metrics_count = 0;
}

static void keep_metrics(rt_role *role, const rt_metric *metrics, int count)
{
    forget_metrics(role);
    role->metrics = rt_alloc((size_t)(count + 1) * sizeof *role->metrics);
    role->metrics_list = rt_alloc((size_t)(count + 1) * sizeof *role->metrics_list);
    role->metrics_count = count;
    for (int i = 0; i < count; i++) {
        retake__metric__init(&role->metrics[i]);
        role->metrics[i].name = rt_format("%s", metrics[i].name);
        role->metrics[i].value = metrics[i].value;
        role->metrics_list[i] = &role->metrics[i];
    }
}

static void announce(rt_role *role)
{
    const rt_weights *weights = rt_learner_weights(role->learner);
    Retake__WeightsAnnounce message = RETAKE__WEIGHTS_ANNOUNCE__INIT;
    Retake__Tensor *tensors = rt_alloc((size_t)weights->tensors_count * sizeof *tensors);
    Retake__Tensor **list = rt_alloc((size_t)weights->tensors_count * sizeof *list);
    for (int i = 0; i < weights->tensors_count; i++) {
        const rt_tensor *t = &weights->tensors[i];
        retake__tensor__init(&tensors[i]);
        tensors[i].name = (char *)(uintptr_t)t->name;
        tensors[i].rows = (uint32_t)t->rows;
        tensors[i].cols = (uint32_t)t->cols;
        tensors[i].offset = t->offset;
        tensors[i].count = t->count;
        list[i] = &tensors[i];
    }
    message.version = role->version;
    if (role->learner->adapters)
        message.base_hash = hash_bytes(&role->learner->base_hash);
    message.bytes = rt_weights_bytes(weights);
    message.dtype = (uint32_t)weights->dtype;
    message.hash = hash_bytes(&role->hash);
    message.chunk_bytes = (uint32_t)role->config->coordinator.chunk_bytes;
    message.n_tensors = (size_t)weights->tensors_count;
    message.tensors = list;
    message.n_metrics = (size_t)role->metrics_count;
    message.metrics = role->metrics_list;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_ANNOUNCE;
    envelope.announce = &message;
    deliver(role, &envelope, NULL, 0);
    rt_free(list), rt_free(tensors);
}

static void send_chunks(rt_role *role, const Retake__ChunkRequest *request)
{
    const rt_weights *weights = rt_learner_weights(role->learner);
    uint32_t chunk_bytes = (uint32_t)role->config->coordinator.chunk_bytes;
    for (uint32_t i = 0; i < request->count; i++) {
        Retake__Chunk chunk = RETAKE__CHUNK__INIT;
        Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
        envelope.kind_case = RETAKE__ENVELOPE__KIND_CHUNK;
        envelope.chunk = &chunk;
        chunk.version = request->version;
        chunk.index = request->first + i;
        rt_frame frame = {0};
        /* The weights move while a step is computed: what is asked for then is gone. */
        chunk.gone = role->training || request->version != role->version ||
                     !rt_chunk_of(weights->data, rt_weights_bytes(weights), chunk_bytes,
                                  chunk.index, &frame, &chunk.hash);
        deliver(role, &envelope, &frame, chunk.gone ? 0 : 1);
        if (chunk.gone)
            return;
    }
}

static void ping(rt_role *role)
{
    int64_t now = rt_now_ns();
    uint64_t tokens = rt_learner_tokens(role->learner);
    double seconds = (double)(now - role->tokens_ns) * 1e-9;
    if (seconds > 0.5) {
        role->tokens_per_second = (double)(tokens - role->tokens_before) / seconds;
        role->tokens_before = tokens;
        role->tokens_ns = now;
    }
    Retake__Ping message = RETAKE__PING__INIT;
    message.state = role->training ? "training" : role->saving ? "saving" : "waiting for batch";
    message.waits_for = role->training || role->saving ? "" : "coordinator";
    message.waits_since_ms = (uint64_t)((now - role->state_since_ns) / 1000000);
    message.tokens_per_second = role->tokens_per_second;
    message.tokens = tokens;
    message.weights_version = role->version;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_PING;
    envelope.ping = &message;
    deliver(role, &envelope, NULL, 0);
}

static void post(rt_role *role, rt_job *job)
{
    if (!rt_mailbox_to_compute(role->mailbox, job))
        RT_ASSERT(!"the compute thread takes one job at a time");
    role->state_since_ns = rt_now_ns();
}

static void start_save(rt_role *role)
{
    rt_job *job = rt_alloc(sizeof *job);
    job->kind = JOB_SAVE;
    role->saving = true;
    post(role, job);
}

static void leave(rt_role *role, int result)
{
    if (role->leaving)
        return;
    role->leaving = true;
    if (role->result == 0)
        role->result = result;
    Retake__Bye bye = RETAKE__BYE__INIT;
    bye.reason = role->result == 0                ? "done"
                 : role->result == RT_ERR_STOPPED ? "stopped"
                                                  : role->err->message;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_BYE;
    envelope.bye = &bye;
    deliver(role, &envelope, NULL, 0);
    uv_stop(&role->loop);
}

/* Called whenever the compute thread has become idle: goes on with what was asked meanwhile. */
static void proceed(rt_role *role)
{
    if (role->training || role->saving)
        return;
    if (role->save_wanted && role->saved_version != role->version && role->version > 0) {
        role->save_wanted = false;
        start_save(role);
    } else if (role->stopping) {
        leave(role, role->result);
    }
}

static void on_batch(rt_role *role, const rt_message *message)
{
    const Retake__Batch *batch = message->envelope->batch;
    rt_error err = {0};
    if (role->training || role->stopping) {
        rt_log_line(role->log, RT_WARN, "ignored a batch of step %lld: %s", (long long)batch->step,
                    role->stopping ? "stopping" : "another one is in work");
        return;
    }
    rt_job *job = rt_job_step(role->config, batch, message->frames, message->frames_count, &err);
    if (!job) {
        rt_log_line(role->log, RT_ERROR, "refused: %s", err.message);
        return;
    }
    role->save_wanted |= batch->last;
    role->training = true;
    post(role, job);
}

static void begin_stop(rt_role *role, bool save, int result)
{
    role->stopping = true;
    role->save_wanted |= save;
    if (role->result == 0)
        role->result = result;
    atomic_store(&role->stop, true);
    proceed(role);
}

static void on_message(void *context, rt_socket *socket, const rt_message *message)
{
    rt_role *role = context;
    role->heard_ns = rt_now_ns();
    rt_liveness_heard(&role->coordinator, role->heard_ns);
    switch (message->envelope->kind_case) {
    case RETAKE__ENVELOPE__KIND_WELCOME:
        role->welcomed = true;
        rt_socket_set_run(socket, message->envelope->welcome->run);
        rt_liveness_init(&role->coordinator, message->envelope->welcome->heartbeat_ms,
                         message->envelope->welcome->liveness, role->heard_ns);
        if (!role->training)
            announce(role);
        break;
    case RETAKE__ENVELOPE__KIND_REFUSE:
        role->result = rt_fail(role->err, RT_ERR_PEER, "the coordinator refused this learner: %s",
                               message->envelope->refuse->reason);
        leave(role, RT_ERR_PEER);
        break;
    case RETAKE__ENVELOPE__KIND_CHUNK_REQUEST:
        send_chunks(role, message->envelope->chunk_request);
        break;
    case RETAKE__ENVELOPE__KIND_BATCH: on_batch(role, message); break;
    case RETAKE__ENVELOPE__KIND_PING: {
        Retake__Pong pong = RETAKE__PONG__INIT;
        Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
        envelope.kind_case = RETAKE__ENVELOPE__KIND_PONG;
        envelope.pong = &pong;
        deliver(role, &envelope, NULL, 0);
        break;
    }
    case RETAKE__ENVELOPE__KIND_STOP: begin_stop(role, message->envelope->stop->save, 0); break;
    default: break; /* pong, ready: a sign of life */
    }
}

static void on_reject(void *context, rt_socket *socket, const rt_error *error)
{
    (void)socket;
    rt_role *role = context;
    rt_log_line(role->log, RT_WARN, "dropped a message: %s", error->message);
}

static void send_step_done(rt_role *role, const rt_job *job)
{
    Retake__StepDone done = RETAKE__STEP_DONE__INIT;
    done.step = job->step;
    done.version = job->version;
    done.hash = hash_bytes(&job->hash);
    done.loss = job->stats.loss;
    done.grad_norm = job->stats.grad_norm;
    done.tokens = (uint64_t)job->stats.rows;
    done.tokens_trained = (uint64_t)job->stats.trained;
    done.mismatched = (uint64_t)job->stats.mismatched;
    done.compared = (uint64_t)job->stats.compared;
    done.seconds = job->stats.seconds;
    done.clipped = job->stats.clipped;
    done.learning_rate = job->stats.learning_rate;
    done.kl = job->stats.kl;
    done.entropy = job->stats.entropy;
    done.margin = job->stats.preference.margin;
    done.accuracy = job->stats.preference.accuracy;
    done.chosen = job->stats.preference.chosen;
    done.rejected = job->stats.preference.rejected;
    done.divergence = job->stats.preference.divergence;
    done.n_metrics = (size_t)role->metrics_count;
    done.metrics = role->metrics_list;
    done.error = job->rc == 0 ? "" : (char *)(uintptr_t)job->error.message;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_STEP_DONE;
    envelope.step_done = &done;
    deliver(role, &envelope, NULL, 0);
}

static void step_finished(rt_role *role, rt_job *job)
{
    role->training = false;
    role->state_since_ns = rt_now_ns();
    if (job->rc == RT_ERR_STOPPED)
        return;
    if (job->rc != 0) {
        rt_error_prefix(&job->error, "step %lld", (long long)job->step);
        rt_log_line(role->log, RT_ERROR, "%s", job->error.message);
        send_step_done(role, job);
        *role->err = job->error;
        role->result = job->rc;
        role->stopping = true; /* nothing is saved: the last good checkpoint stays the newest */
        role->save_wanted = false;
        return;
    }
    role->version = job->version;
    role->hash = job->hash;
    keep_metrics(role, job->metrics, job->stats.metrics_count);
    send_step_done(role, job);
    announce(role);
    int64_t every = role->config->learner.checkpoint_every; /* 0: only at the end */
    if (every > 0 && role->version % every == 0)
        role->save_wanted = true;
}

static void save_finished(rt_role *role, rt_job *job)
{
    role->saving = false;
    role->state_since_ns = rt_now_ns();
    if (job->rc != 0) {
        rt_log_line(role->log, RT_ERROR, "%s", job->error.message);
        *role->err = job->error;
        role->result = job->rc;
        role->stopping = true;
        Retake__StepDone done = RETAKE__STEP_DONE__INIT;
        done.step = done.version = job->version;
        done.hash = hash_bytes(&role->hash);
        done.error = role->err->message;
        Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
        envelope.kind_case = RETAKE__ENVELOPE__KIND_STEP_DONE;
        envelope.step_done = &done;
        deliver(role, &envelope, NULL, 0);
        return;
    }
    role->saved_version = job->version;
    Retake__Saved saved = RETAKE__SAVED__INIT;
    saved.version = job->version;
    saved.path = job->path.data;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_SAVED;
    envelope.saved = &saved;
    deliver(role, &envelope, NULL, 0);
}

static void on_answer(void *context)
{
    rt_role *role = context;
    for (rt_job *job; (job = rt_mailbox_from_compute(role->mailbox));) {
        if (job->kind == JOB_STEP)
            step_finished(role, job);
        else
            save_finished(role, job);
        rt_job_free(job);
    }
    proceed(role);
}

static void on_tick(uv_timer_t *timer)
{
    rt_role *role = timer->data;
    int64_t now = rt_now_ns();
    if (now - role->heard_ns > role->unreachable_ms * 1000000 && !role->training) {
        role->result = rt_fail(
            role->err, RT_ERR_PEER,
            "no coordinator has answered at %s for %lld s; start `retake coordinator` with "
            "this config, or correct coordinator.address",
            rt_socket_endpoint(role->socket), (long long)(role->unreachable_ms / 1000));
        leave(role, RT_ERR_PEER);
        return;
    }
    if (role->welcomed && rt_liveness_gone(&role->coordinator, now)) {
        rt_log_line(role->log, RT_WARN, "the coordinator is silent; saying hello until it answers");
        role->welcomed = false;
    }
    /* A hello names the version that stands, so it waits until a running step has ended. */
    if (!role->welcomed && !role->training)
        say_hello(role);
    else
        ping(role);
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)number;
    begin_stop(handle->data, true, RT_ERR_STOPPED);
}

static int open_role(rt_role *role, rt_error *err)
{
    const rt_config *config = role->config;
    role->zmq = zmq_ctx_new();
    uv_loop_init(&role->loop);
    int rc = rt_mailbox_new(&role->mailbox, &role->loop, on_answer, role, err);
    if (rc != 0)
        return rc;
    rt_buf endpoint = {0};
    rc = rt_endpoint(config, "learner", false, &endpoint, err);
    rt_socket_options options = {.type = ZMQ_DEALER,
                                 .endpoint = endpoint.data,
                                 .sender = "learner",
                                 .incarnation = role->incarnation,
                                 .on_message = on_message,
                                 .on_reject = on_reject,
                                 .context = role};
    if (rc == 0)
        rc = rt_socket_open(&role->socket, &role->loop, role->zmq, &options, err);
    rt_buf_free(&endpoint);
    if (rc != 0)
        return rc;
    uv_timer_init(&role->loop, &role->tick);
    role->tick.data = role;
    uv_timer_start(&role->tick, on_tick, 0, (uint64_t)config->coordinator.heartbeat_ms);
    for (int i = 0; i < 2; i++) {
        uv_signal_init(&role->loop, &role->signals[i]);
        role->signals[i].data = role;
        uv_signal_start(&role->signals[i], on_signal, i == 0 ? SIGINT : SIGTERM);
    }
    return 0;
}

static void close_role(rt_role *role)
{
    if (role->socket) {
        for (int i = 0; i < 2; i++)
            uv_close((uv_handle_t *)&role->signals[i], NULL);
        uv_close((uv_handle_t *)&role->tick, NULL);
        rt_socket_close(&role->socket, 500);
    }
    if (role->mailbox)
        rt_mailbox_close(&role->mailbox);
    uv_run(&role->loop, UV_RUN_DEFAULT);
    uv_loop_close(&role->loop);
    zmq_ctx_term(role->zmq);
}

/* Loads the newest checkpoint of the run, or the model it begins with. */
static int load(rt_role *role, rt_error *err)
{
    rt_buf newest = {0};
    int64_t version;
    int rc = rt_checkpoint_newest(role->checkpoints, &newest, &version, err);
    bool resume = rc == 0 && newest.bytes > 0;
    if (rc == 0)
        rc = rt_learner_new(&role->learner, role->config, resume ? newest.data : NULL, err);
    if (rc == 0) {
        role->version = rt_learner_version(role->learner);
        role->saved_version = resume ? role->version : -1;
        role->hash = rt_learner_hash(role->learner);
        int count;
        const rt_metric *metrics = rt_learner_metrics(role->learner, &count);
        keep_metrics(role, metrics, count);
        rt_log_line(role->log, RT_INFO, "%s %s, version %lld, %zu parameters, %s %s, %d threads",
                    resume ? "continues" : "starts from",
                    resume ? newest.data : role->config->model.path, (long long)role->version,
                    rt_learner_weights(role->learner)->count, role->learner->ops->name,
                    role->learner->ops->isa, role->learner->ops->threads);
    }
    rt_buf_free(&newest);
    return rc;
}

int rt_learner_run(const rt_config *config, const rt_log *log, int64_t unreachable_ms,
                   rt_error *err)
{
    rt_role role = {.config = config, .log = log, .unreachable_ms = unreachable_ms, .err = err};
    role.checkpoints = rt_format("%s/checkpoints", config->run.dir);
    role.incarnation = (uint64_t)rt_wall_ms() << 20 | ((uint64_t)getpid() & 0xfffff);
    int rc = load(&role, err);
    role.heard_ns = role.tokens_ns = role.state_since_ns = rt_now_ns();
    if (rc == 0) {
        rc = open_role(&role, err);
        if (rc == 0 && pthread_create(&role.thread, NULL, rt_role_compute, &role) != 0)
            rc = rt_fail(err, RT_ERR_LIMIT, "cannot start the compute thread: %s", strerror(errno));
        if (rc == 0) {
            uv_run(&role.loop, UV_RUN_DEFAULT);
            rt_job *quit = rt_alloc(sizeof *quit);
            quit->kind = JOB_QUIT;
            atomic_store(&role.stop, true);
            rt_mailbox_to_compute(role.mailbox, quit);
            pthread_join(role.thread, NULL);
            for (rt_job *left; (left = rt_mailbox_from_compute(role.mailbox));)
                rt_job_free(left);
            rc = role.result;
        }
        close_role(&role);
    }
    if (role.learner)
        rt_learner_free(&role.learner);
    forget_metrics(&role);
    rt_free(role.checkpoints);
    return rc;
}
