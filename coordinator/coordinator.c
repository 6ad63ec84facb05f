/*
 * coordinator: the role. Opens the run, turns the loop, and decides after every message what can be
 * done now; nothing polls, the tick only serves what depends on time passing.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "coordinator/internal.h"

#define TICKS_PER_HEARTBEAT 4
#define LINGER_MS 500

/* ---- what can be done now -------------------------------------------------------------------- */

static const char *last_complaint(const rt_coordinator *co)
{
    uint64_t count = RT_MIN(co->events_count, RT_EVENTS_KEPT);
    for (uint64_t i = 1; i <= count; i++) {
        const rt_event *event = &co->kept[(co->events_count - i) % RT_EVENTS_KEPT];
        if (strstr(event->text, "is left out: ")) {
            return event->text;
        }
    }
    return "retake show RUN events says why";
}

static int plan_is_hopeless(const rt_coordinator *co, const rt_plan *plan, rt_error *err)
{
    if (plan->problems > 0 && plan->failed == plan->problems) {
        return rt_fail(err, RT_ERR_INPUT,
                       "none of the %d problems of step %" PRId64 " could be worked on; the last: %s",
                       plan->problems, plan->step, last_complaint(co));
    }
    return RT_OK;
}

/* Leases of step s may go out as soon as s <= newest version + staleness. */
static int plan_work(rt_coordinator *co, rt_error *err)
{
    const rt_config *config = co->config;
    int rc = RT_OK;
    if (rt_evaluation_due(co, co->version) && !rt_plan_of(co->evaluations, co->version) &&
        !co->link.step_done) {
        rc = rt_evaluation_plan(co, co->version, err);
    }
    int64_t first = co->version + co->link.step_done;
    int64_t last = RT_MIN(co->version + config->run.staleness, config->run.steps - 1);
    for (int64_t step = first; step <= last && !rc; step++) {
        rt_plan *plan = rt_plan_of(co->steps, step);
        if (plan) {
            continue;
        }
        rc = rt_plan_step(co, step, &plan, err);
        if (!rc) {
            plan->next = co->steps;
            co->steps = plan;
            rc = plan_is_hopeless(co, plan, err);
        }
    }
    return rc;
}

/* Too old for the step: ended as stale and leased again. False where there was any. */
static bool all_fresh(rt_coordinator *co, rt_plan *plan)
{
    bool fresh = true;
    if (plan->resets || plan->debates) { /* hangs together: too old is only what arrives too late */
        return true;
    }
    for (int i = 0; i < plan->count; i++) {
        rt_job *job = &plan->jobs[i];
        if (job->samples && job->lease && rt_job_stale(job, co->config->run.staleness)) {
            rt_plan_again(co, job);
            plan->pending++;
            fresh = false;
        }
    }
    return fresh;
}

static int ship(rt_coordinator *co, const rt_plan *plan, rt_error *err)
{
    rt_batch batch;
    rt_batch_build(&batch, plan, co->version, plan->step == co->config->run.steps - 1);
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_BATCH;
    envelope.batch = &batch.message;
    rt_frame frames[2] = {{batch.ids, batch.ids_count * sizeof(int32_t)},
                          {batch.logp, batch.logp_count * sizeof(float)}};
    int rc = RT_OK;
    if (frames[0].bytes > RT_FRAME_BYTES_MAX ||
        retake__batch__get_packed_size(&batch.message) > RT_ENVELOPE_BYTES_MAX - 256) {
        rc = rt_fail(err, RT_ERR_LIMIT,
                     "the batch of step %" PRId64 " has %zu sequences and %zu tokens, "
                     "more than one message holds; lower algorithm.problems or algorithm.samples",
                     plan->step, batch.message.n_sequences, batch.ids_count);
    } else if (rt_link_send(co, &envelope, frames, 2, NULL) == RT_OK) {
        co->link.training = true;
        co->link.batch_incarnation = co->link.incarnation;
        co->link.batch_ns = rt_now_ns();
        rt_coordinator_progress(co);
    } /* else: the learner is just going; sent again when it is back, or at the next tick */
    rt_batch_free(&batch);
    return rc;
}

static int send_batch(rt_coordinator *co, rt_error *err)
{
    const rt_learner_link *link = &co->link;
    rt_plan *plan = rt_plan_of(co->steps, co->version);
    /* Versions do not move on while one is being evaluated: no worker needs an older one then. */
    if (!plan || plan->pending > 0 || !link->announced || link->training || link->step_done ||
        co->evaluations || !all_fresh(co, plan)) {
        return RT_OK;
    }
    int rc = plan_is_hopeless(co, plan, err);
    if (rc) {
        return rc;
    }
    if (!plan->recorded) {
        rt_plan_advantages(co->config, plan);
        rt_record_batch(co, plan);
        for (int i = 0; i < plan->count; i++) {
            if (plan->jobs[i].dropped && plan->jobs[i].lease) {
                rt_plan_end_lease(co, &plan->jobs[i], RT_FATE_FILTERED);
            }
        }
    }
    rc = rt_store_flush(co->store, err);
    return rc ? rc : ship(co, plan, err);
}

static int current_bucket(const rt_coordinator *co)
{
    bool work = co->leases.queue.count > 0;
    for (const rt_worker *worker = co->workers; worker && !work; worker = worker->next) {
        work = worker->leases.count > 0;
    }
    if (!co->link.present) {
        return RT_IN_WAITING;
    } else if (co->weights.fetch || co->link.step_done || co->version < 0) {
        return RT_IN_WEIGHTS;
    } else if (work && !co->workers) {
        return RT_IN_WAITING;
    } else if (co->evaluations) {
        return RT_IN_EVALUATION;
    } else if (work) {
        return RT_IN_SAMPLING;
    }
    return co->link.training ? RT_IN_TRAINING : RT_IN_WAITING;
}

void rt_coordinator_advance(rt_coordinator *co)
{
    rt_error err = {0};
    if (co->ending) {
        return;
    }
    if (co->version >= 0) {
        int rc = plan_work(co, &err);
        if (!rc) {
            rt_evaluation_finish(co);
            rc = send_batch(co, &err);
        }
        if (rc) {
            rt_events_add(co, RT_ERROR, "coordinator", "%s", err.message);
            rt_coordinator_end(co, rc, &err);
            return;
        }
        rt_workers_lease_out(co);
        if (co->version >= co->config->run.steps && !co->evaluations && !co->weights.fetch &&
            !rt_evaluation_due(co, co->version)) {
            rt_coordinator_end(co, RT_OK, NULL);
            return;
        }
    }
    int bucket = current_bucket(co);
    if (bucket != co->bucket) {
        rt_tally_bucket(co);
        co->bucket = bucket;
    }
}

/* ---- what a person is told ------------------------------------------------------------------- */

const char *rt_coordinator_phase(const rt_coordinator *co)
{
    if (co->ending) {
        return "done";
    }
    if (!co->link.present) {
        return "waiting for learner";
    }
    switch (current_bucket(co)) {
    case RT_IN_WEIGHTS:
        return "sending weights";
    case RT_IN_TRAINING:
        return "training";
    case RT_IN_EVALUATION:
        return "evaluating";
    case RT_IN_SAMPLING:
        return "sampling";
    default: /* work without workers, or a batch that the learner can't take yet */
        return co->leases.queue.count > 0 ? "sampling" : "waiting for learner";
    }
}

static void add_wait(rt_buf *out, const char *who, const rt_peer_status *status, size_t leases)
{
    rt_buf_addf(out, "%s%s (%s", out->bytes ? ", " : "", who,
                status->state[0] ? status->state : "no word yet");
    if (status->waits_for[0]) {
        rt_buf_addf(out, ", waits for %s since %.1f s", status->waits_for,
                    (double)status->waits_ms / 1000);
    }
    rt_buf_addf(out, leases ? ", %zu leases)" : ")", leases);
}

void rt_coordinator_waits(const rt_coordinator *co, rt_buf *out)
{
    if (co->ending) {
        return;
    }
    if (!co->link.present) {
        rt_buf_addf(out, "learner (not here)");
    } else if (co->version < 0 || co->weights.fetch || co->link.step_done || co->link.training) {
        add_wait(out, co->link.name, &co->link.status, 0);
    }
    for (const rt_worker *worker = co->workers; worker; worker = worker->next) {
        if (worker->leases.count > 0) {
            add_wait(out, worker->name, &worker->status, worker->leases.count);
        }
    }
    if (co->leases.queue.count > 0) {
        rt_buf_addf(out, "%s%s", out->bytes ? ", " : "",
                    co->workers ? "a worker with free slots" : "workers (none is here)");
    }
}

void rt_coordinator_progress(rt_coordinator *co)
{
    co->progress_ns = rt_now_ns();
    co->stall_told = false;
}

static void tell_stall(rt_coordinator *co, int64_t now_ns)
{
    int64_t limit = co->config->coordinator.step_timeout_ms * 1000000;
    if (limit <= 0 || co->stall_told || now_ns - co->progress_ns < limit) {
        return;
    }
    co->stall_told = true;
    rt_buf waits = {0};
    rt_coordinator_waits(co, &waits);
    rt_events_add(co, RT_WARN, "coordinator",
                  "nothing has moved for %.1f s at step %" PRId64 " (%s); it "
                  "waits for %s",
                  (double)(now_ns - co->progress_ns) * 1e-9, RT_MAX(co->version, 0),
                  rt_coordinator_phase(co), waits.data ? waits.data : "nobody");
    rt_buf_free(&waits);
}

/* ---- the end --------------------------------------------------------------------------------- */

static void cancel_all(rt_coordinator *co, rt_plan **list)
{
    while (*list) {
        rt_plan *plan = *list;
        *list = plan->next;
        rt_plan_cancel(co, plan);
        rt_plan_free(&plan);
    }
}

static void on_deadline(uv_timer_t *timer)
{
    rt_coordinator_saved(timer->data);
}

void rt_coordinator_end(rt_coordinator *co, int code, const rt_error *why)
{
    if (co->ending) {
        rt_coordinator_saved(co); /* asked twice: at once */
        return;
    }
    cancel_all(co, &co->steps);
    cancel_all(co, &co->evaluations);
    rt_record_rest(co);
    co->ending = true;
    co->end_code = code;
    if (why) {
        co->end_error = *why;
    }
    const rt_learner_link *link = &co->link;
    /* A step that failed has changed nothing worth keeping; the last checkpoint stands. */
    bool unsaved = code != RT_ERR_MATH && link->present &&
                   ((link->trained && link->saved_version != co->version) || link->training);
    rt_link_stop(co, code ? "the run is stopped" : "the run is done",
                 unsaved || code == RT_ERR_STOPPED);
    if (unsaved) {
        uv_timer_start(&co->deadline, on_deadline, code ? RT_STOP_SAVE_MS : RT_FINAL_SAVE_MS, 0);
    } else {
        rt_coordinator_saved(co);
    }
}

void rt_coordinator_saved(rt_coordinator *co)
{
    if (co->ended) {
        return;
    }
    co->ended = true;
    const char *why = co->end_code ? "the run is stopped" : "the run is done";
    rt_workers_stop(co, why);
    const rt_learner_link *link = &co->link;
    if (link->present) {
        rt_record_worker(co, link->name, link->incarnation, "learner", link->status.host,
                         link->joined_ms, why);
    }
    rt_coordinator_row(co, why);
    uv_stop(&co->loop);
}

/* ---- handles --------------------------------------------------------------------------------- */

static void on_tick(uv_timer_t *timer)
{
    rt_coordinator *co = timer->data;
    int64_t now = rt_now_ns();
    rt_link_tick(co, now);
    if (co->ending) {
        if (!co->link.present) {
            rt_coordinator_saved(co);
        }
        return;
    }
    rt_workers_tick(co, now);
    rt_depot_tick(co, now);
    rt_coordinator_advance(co);
    if (!co->ending) {
        tell_stall(co, now);
    }
}

static void on_signal(uv_signal_t *handle, int number)
{
    rt_coordinator *co = handle->data;
    rt_events_add(co, RT_INFO, "coordinator", "stopped by %s",
                  number == SIGINT ? "Ctrl-C" : "SIGTERM");
    rt_coordinator_end(co, RT_ERR_STOPPED, NULL);
}

static void on_store_failed(void *context)
{
    uv_async_send(context); /* on the writer thread */
}

static void on_store(uv_async_t *async)
{
    rt_coordinator *co = async->data;
    rt_error err = {0};
    if (rt_store_failure(co->store, &err)) {
        rt_events_add(co, RT_ERROR, "coordinator", "%s", err.message);
        if (!co->ending) {
            rt_coordinator_end(co, err.code, &err);
        }
    }
}

static void on_nothing(void *context, rt_socket *socket, const rt_message *message)
{
    (void)context; /* a publisher hears nothing */
    (void)socket;
    (void)message;
}

static int open_socket(rt_coordinator *co, rt_socket **socket, const char *which, int type,
                       bool raw, rt_message_cb *on_message, rt_turn_cb *on_turn, rt_error *err)
{
    rt_buf endpoint = {0};
    int rc = rt_endpoint(co->config, which, true, &endpoint, err);
    if (!rc) {
        rt_socket_options options = {.type = type,
                                     .endpoint = endpoint.data,
                                     .bind = true,
                                     .sender = "coordinator",
                                     .incarnation = co->incarnation,
                                     .raw = raw,
                                     .on_message = on_message,
                                     .on_reject = rt_workers_reject,
                                     .on_turn = on_turn,
                                     .context = co};
        rc = rt_socket_open(socket, &co->loop, co->zmq, &options, err);
    }
    rt_buf_free(&endpoint);
    if (!rc) {
        rt_socket_set_run(*socket, co->run);
    }
    return rc;
}

static int open_handles(rt_coordinator *co, rt_error *err)
{
    co->zmq = zmq_ctx_new();
    if (!co->zmq) {
        return rt_fail(err, RT_ERR_NOMEM, "cannot start the messaging library: %s",
                       zmq_strerror(errno));
    }
    uv_timer_init(&co->loop, &co->tick);
    uv_timer_init(&co->loop, &co->deadline);
    uv_signal_init(&co->loop, &co->on_int);
    uv_signal_init(&co->loop, &co->on_term);
    uv_async_init(&co->loop, &co->on_store, on_store);
    co->tick.data = co->deadline.data = co->on_int.data = co->on_term.data = co->on_store.data = co;
    co->handles_open = true;
    uint64_t period =
        (uint64_t)RT_MAX(co->config->coordinator.heartbeat_ms / TICKS_PER_HEARTBEAT, 5);
    uv_timer_start(&co->tick, on_tick, period, period);
    uv_signal_start(&co->on_int, on_signal, SIGINT);
    uv_signal_start(&co->on_term, on_signal, SIGTERM);
    int rc = open_socket(co, &co->stats, "stats", ZMQ_REP, true, rt_stats_message, NULL, err);
    rc = rc ? rc : open_socket(co, &co->events, "events", ZMQ_PUB, true, on_nothing, NULL, err);
    rc = rc ? rc
            : open_socket(co, &co->work, "work", ZMQ_ROUTER, false, rt_workers_message,
                          rt_workers_turn, err);
    rc = rc ? rc : open_socket(co, &co->blob, "blob", ZMQ_ROUTER, false, rt_depot_serve, NULL, err);
    return rc ? rc
              : open_socket(co, &co->learner_socket, "learner", ZMQ_ROUTER, false, rt_link_message,
                            NULL, err);
}

static void close_handles(rt_coordinator *co)
{
    rt_socket **sockets[] = {&co->work, &co->blob, &co->learner_socket, &co->stats, &co->events};
    for (size_t i = 0; i < RT_COUNT(sockets); i++) {
        if (*sockets[i]) {
            rt_socket_close(sockets[i], LINGER_MS);
        }
    }
    if (co->handles_open) {
        uv_close((uv_handle_t *)&co->tick, NULL);
        uv_close((uv_handle_t *)&co->deadline, NULL);
        uv_close((uv_handle_t *)&co->on_int, NULL);
        uv_close((uv_handle_t *)&co->on_term, NULL);
        uv_close((uv_handle_t *)&co->on_store, NULL);
        co->handles_open = false;
    }
    uv_run(&co->loop, UV_RUN_DEFAULT);
    int busy = uv_loop_close(&co->loop);
    RT_ASSERT(busy == 0);
    if (co->zmq) {
        zmq_ctx_term(co->zmq);
        co->zmq = NULL;
    }
}

/* ---- the role -------------------------------------------------------------------------------- */

static int finish(rt_coordinator *co, int rc, rt_error *err)
{
    if (!rc) {
        if (co->end_code && co->end_code != RT_ERR_STOPPED) {
            *err = co->end_error;
        } else if (co->end_code) {
            rt_fail(err, RT_ERR_STOPPED,
                    "stopped on request at step %" PRId64 "; run it again on the "
                    "same folder to go on",
                    RT_MAX(co->version, 0));
        }
        rc = co->end_code;
    }
    rt_error store_err = {0};
    int store_rc = rt_store_close(&co->store, &store_err);
    if (store_rc && (rc == RT_OK || rc == RT_ERR_STOPPED)) {
        *err = store_err;
        rc = store_rc;
    }
    return rc ? rc : rt_summary_write(co, err);
}

int rt_coordinator_run(const rt_config *config, const rt_log *log, rt_error *err)
{
    rt_error local = {0};
    rt_coordinator *co = rt_alloc(sizeof *co);
    co->config = config;
    co->log = log;
    uv_loop_init(&co->loop);
    int rc = rt_coordinator_open(co, &local);
    if (!rc) {
        rc = open_handles(co, &local);
    }
    if (!rc) {
        rc = rt_store_start(co->store, on_store_failed, &co->on_store, &local);
    }
    if (!rc) {
        co->bucket = RT_IN_WAITING;
        co->bucket_ns = co->progress_ns = co->started_ns = rt_now_ns();
        uv_run(&co->loop, UV_RUN_DEFAULT);
    }
    /* The writer ends before the handles close: it may still wake one of them. */
    rc = finish(co, rc, &local);
    close_handles(co);
    rt_coordinator_close(co);
    rt_free(co);
    if (rc && err) {
        *err = local;
    }
    return rc;
}
