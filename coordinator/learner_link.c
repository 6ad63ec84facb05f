/*
 * learner_link: the one learner: where it stands, its weights, its batches. The learner's version
 * decides where a run goes on: its checkpoint is the truth about what has been learned.
 */
#include <inttypes.h>
#include <string.h>

#include "coordinator/internal.h"

int rt_link_send(rt_coordinator *co, Retake__Envelope *envelope, const rt_frame *frames,
                 int frames_count, rt_error *err)
{
    return rt_socket_send(co->learner_socket, co->link.peer, co->link.peer_bytes, envelope, frames,
                          frames_count, err);
}

static void send_simple(rt_coordinator *co, int kind)
{
    Retake__Ping ping = RETAKE__PING__INIT;
    Retake__Pong pong = RETAKE__PONG__INIT;
    Retake__Ready ready = RETAKE__READY__INIT;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = (Retake__Envelope__KindCase)kind;
    if (kind == RETAKE__ENVELOPE__KIND_PING) {
        envelope.ping = &ping;
    } else if (kind == RETAKE__ENVELOPE__KIND_PONG) {
        envelope.pong = &pong;
    } else {
        ready.version = co->version;
        envelope.ready = &ready;
    }
    rt_link_send(co, &envelope, NULL, 0, NULL);
}

void rt_link_stop(rt_coordinator *co, const char *reason, bool save)
{
    if (!co->link.present) {
        return;
    }
    Retake__Stop stop = RETAKE__STOP__INIT;
    stop.reason = (char *)reason;
    stop.save = save;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_STOP;
    envelope.stop = &stop;
    rt_link_send(co, &envelope, NULL, 0, NULL);
    rt_record_worker(co, co->link.name, co->link.incarnation, "learner", co->link.status.host,
                     co->link.joined_ms, reason);
}

/* ---- joining and leaving --------------------------------------------------------------------- */

static void lose(rt_coordinator *co, const char *why)
{
    if (!co->link.present) {
        return;
    }
    rt_record_worker(co, co->link.name, co->link.incarnation, "learner", co->link.status.host,
                     co->link.joined_ms, why);
    rt_events_add(co, RT_WARN, co->link.name, "left: %s; the step waits for a learner", why);
    rt_depot_abort(co);
    /* training stays: whether the batch was applied shows when the learner is back */
    co->link.present = co->link.announced = false;
}

static void refuse(rt_coordinator *co, const rt_message *message, char *reason)
{
    Retake__Refuse refusal = RETAKE__REFUSE__INIT;
    refusal.reason = reason;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_REFUSE;
    envelope.refuse = &refusal;
    rt_socket_send(co->learner_socket, message->peer, message->peer_bytes, &envelope, NULL, 0,
                   NULL);
    rt_events_add(co, RT_WARN, message->envelope->sender, "refused: %s", reason);
}

static void join(rt_coordinator *co, const rt_message *message)
{
    rt_learner_link *link = &co->link;
    const Retake__Hello *hello = message->envelope->hello;
    link->present = true;
    link->announced = link->trained = false;
    link->saved_version = -1;
    link->incarnation = message->envelope->incarnation;
    link->joined_ms = rt_wall_ms();
    snprintf(link->name, sizeof link->name, "%s", message->envelope->sender);
    rt_liveness_init(&link->life, (uint32_t)co->config->coordinator.heartbeat_ms,
                     (uint32_t)co->config->coordinator.liveness, rt_now_ns());
    rt_hello_take(&link->status, hello);
    rt_record_worker(co, link->name, link->incarnation, "learner", hello->host, link->joined_ms,
                     NULL);
    rt_coordinator_seen(co, link->name, link->incarnation);
    rt_events_add(co, RT_INFO, link->name, "joined from %s (%s) with version %" PRId64, hello->host,
                  hello->isa, hello->weights_version);
}

static void hello(rt_coordinator *co, const rt_message *message)
{
    char reason[256];
    rt_learner_link *link = &co->link;
    const Retake__Envelope *envelope = message->envelope;
    bool refused = rt_hello_refused(co, envelope->hello, reason, sizeof reason);
    if (!refused && (strlen(envelope->sender) >= RT_NAME_BYTES ||
                     strcmp(envelope->hello->role, "learner") != 0)) {
        snprintf(reason, sizeof reason, "only a learner belongs on this socket");
        refused = true;
    }
    if (!refused && link->present && strcmp(link->name, envelope->sender) != 0) {
        snprintf(reason, sizeof reason, "this run has a learner already, %s", link->name);
        refused = true;
    }
    if (refused) {
        refuse(co, message, reason);
        return;
    }
    if (link->present && link->incarnation != envelope->incarnation) {
        lose(co, "started again");
    }
    if (!link->present) {
        join(co, message);
    }
    memcpy(link->peer, message->peer, message->peer_bytes);
    link->peer_bytes = message->peer_bytes;
    rt_liveness_heard(&link->life, rt_now_ns());
    Retake__Welcome welcome = RETAKE__WELCOME__INIT;
    welcome.run = co->run;
    welcome.heartbeat_ms = (uint32_t)co->config->coordinator.heartbeat_ms;
    welcome.liveness = (uint32_t)co->config->coordinator.liveness;
    Retake__Envelope answer = RETAKE__ENVELOPE__INIT;
    answer.kind_case = RETAKE__ENVELOPE__KIND_WELCOME;
    answer.welcome = &welcome;
    rt_link_send(co, &answer, NULL, 0, NULL);
}

/* ---- weights --------------------------------------------------------------------------------- */

static void cancel_list(rt_coordinator *co, rt_plan **list)
{
    while (*list) {
        rt_plan *plan = *list;
        *list = plan->next;
        rt_plan_cancel(co, plan);
        rt_plan_free(&plan);
    }
}

/* Nothing of what was under way belongs to the version the learner is at. */
static void start_over(rt_coordinator *co, int64_t version)
{
    if (co->version >= 0) {
        rt_events_add(co, RT_WARN, co->link.name,
                      "is at version %" PRId64 ", the run was at %" PRId64
                      ": goes on from step %" PRId64,
                      version, co->version, version);
    }
    cancel_list(co, &co->steps);
    cancel_list(co, &co->evaluations);
    rt_resets_forget(co, version);
    co->link.training = co->link.step_done = false;
    co->version = -1;
}

/* The batch of step co->version was applied: its leases end, its rows are written. */
static void step_is_trained(rt_coordinator *co, const Retake__StepDone *done,
                            Retake__Metric *const *metrics, size_t count)
{
    rt_plan *plan = rt_plan_of(co->steps, co->version);
    RT_ASSERT(plan != NULL && plan->recorded);
    rt_mixing_measured(co, co->version, metrics, count);
    rt_record_step(co, plan, done);
    for (int i = 0; i < plan->count; i++) {
        rt_job *job = &plan->jobs[i];
        if (job->lease) {
            rt_plan_end_lease(co, job, rt_job_fate(job));
        }
    }
    if (plan->resets) {
        rt_resets_remember(co, plan);
    }
    rt_plan **link = &co->steps;
    while (*link != plan) {
        link = &(*link)->next;
    }
    *link = plan->next;
    rt_plan_free(&plan);
    co->link.step_done = true;
}

static void announced(rt_coordinator *co, const Retake__WeightsAnnounce *announce)
{
    rt_learner_link *link = &co->link;
    rt_hash128 hash;
    if (!rt_depot_hash(&announce->hash, &hash)) {
        rt_events_add(co, RT_WARN, link->name, "announced weights without a hash");
        return;
    }
    const rt_held *newest = rt_depot_newest(&co->weights);
    if (newest && co->version >= 0 && !link->step_done && announce->version == co->version &&
        rt_hash_equal(newest->hash, hash)) {
        /* A new start with what is held here: the batch its predecessor had is sent again. The same
         * start may still be at it; notice_lost_batch knows. */
        if (link->batch_incarnation != link->incarnation) {
            link->training = false;
        }
        link->announced = true;
        send_simple(co, RETAKE__ENVELOPE__KIND_READY);
        return;
    }
    if (co->weights.fetch && rt_fetch_version(co->weights.fetch) == announce->version &&
        rt_hash_equal(co->weights.held[1 - co->weights.newest].hash, hash)) {
        return; /* under way */
    }
    bool next = co->version >= 0 && announce->version == co->version + 1;
    if (next && link->training && !link->step_done) {
        rt_events_add(co, RT_WARN, link->name,
                      "has done step %" PRId64 ", its account of it is lost", co->version);
        step_is_trained(co, NULL, announce->metrics, announce->n_metrics);
    } else if (!next || !link->step_done) {
        if (co->version < 0 && co->past.open_step >= 0 &&
            announce->version == co->past.open_step + 1) {
            rt_mixing_measured(co, co->past.open_step, announce->metrics, announce->n_metrics);
            rt_record_lost_step(co, co->past.open_step, hash);
        }
        co->past.open_step = -1;
        start_over(co, announce->version);
    } else if (!rt_hash_equal(hash, link->step_hash)) {
        rt_events_add(co, RT_ERROR, link->name,
                      "announced version %" PRId64 " with another hash than "
                      "it said when the step was done",
                      announce->version);
    }
    rt_error err = {0};
    if (rt_depot_pull(co, announce, &err)) {
        rt_events_add(co, RT_ERROR, link->name, "%s", err.message);
    }
}

void rt_link_arrived(rt_coordinator *co)
{
    const rt_held *held = rt_depot_newest(&co->weights);
    co->version = held->version;
    co->link.announced = true;
    co->link.trained = co->link.trained || co->link.step_done;
    co->link.training = co->link.step_done = false;
    rt_depot_note(&co->weights, held->version, held->hash);
    send_simple(co, RETAKE__ENVELOPE__KIND_READY);
    rt_workers_announce(co);
    rt_coordinator_progress(co);
}

/* ---- messages -------------------------------------------------------------------------------- */

static void step_done(rt_coordinator *co, const Retake__StepDone *done)
{
    rt_learner_link *link = &co->link;
    rt_coordinator_progress(co);
    bool under_way = done->step == co->version && link->training && !link->step_done;
    if (done->error && done->error[0]) {
        rt_error why = {0};
        /* Outside a step it is the checkpoint that could not be written. */
        int code = rt_fail(&why, under_way ? RT_ERR_MATH : RT_ERR_IO, "the learner failed: %s",
                           done->error);
        rt_events_add(co, RT_ERROR, link->name, "%s", why.message);
        rt_coordinator_end(co, code, &why);
        return;
    }
    if (!under_way) {
        rt_events_add(co, RT_WARN, link->name, "reported step %" PRId64 ", which is not under way",
                      done->step);
        return;
    }
    if (!rt_depot_hash(&done->hash, &link->step_hash)) {
        rt_events_add(co, RT_WARN, link->name, "reported a step without the hash of its weights");
        return;
    }
    step_is_trained(co, done, done->metrics, done->n_metrics);
}

static void saved(rt_coordinator *co, const Retake__Saved *message)
{
    co->link.saved_version = message->version;
    rt_events_add(co, RT_DEBUG, co->link.name, "saved version %" PRId64 " to %s", message->version,
                  message->path);
    if (co->ending) {
        rt_coordinator_saved(co);
    }
}

/* The learner is idle at the version of a batch that was sent a while ago: it never got it. */
static void notice_lost_batch(rt_coordinator *co)
{
    rt_learner_link *link = &co->link;
    int64_t patience = co->config->coordinator.heartbeat_ms * 3000000;
    if (link->training && !link->step_done && link->announced &&
        link->status.version == co->version && strncmp(link->status.state, "waiting", 7) == 0 &&
        rt_now_ns() - link->batch_ns > patience) {
        rt_events_add(co, RT_WARN, link->name,
                      "waits for the batch of step %" PRId64 ": sent again", co->version);
        link->training = false;
    }
}

static void from_learner(rt_coordinator *co, const rt_message *message)
{
    const Retake__Envelope *envelope = message->envelope;
    rt_liveness_heard(&co->link.life, rt_now_ns());
    if (envelope->kind_case == RETAKE__ENVELOPE__KIND_SAVED) {
        saved(co, envelope->saved);
        return;
    }
    if (envelope->kind_case == RETAKE__ENVELOPE__KIND_BYE) {
        lose(co, envelope->bye->reason[0] ? envelope->bye->reason : "said bye");
        if (co->ending) {
            rt_coordinator_saved(co);
        }
        return;
    }
    if (co->ending) {
        return;
    }
    switch (envelope->kind_case) {
    case RETAKE__ENVELOPE__KIND_PING:
        rt_status_take(&co->link.status, envelope->ping);
        send_simple(co, RETAKE__ENVELOPE__KIND_PONG);
        notice_lost_batch(co);
        break;
    case RETAKE__ENVELOPE__KIND_ANNOUNCE:
        announced(co, envelope->announce);
        break;
    case RETAKE__ENVELOPE__KIND_CHUNK:
        rt_depot_chunk(co, message);
        break;
    case RETAKE__ENVELOPE__KIND_STEP_DONE:
        step_done(co, envelope->step_done);
        break;
    default:
        break;
    }
}

void rt_link_message(void *context, rt_socket *socket, const rt_message *message)
{
    (void)socket;
    rt_coordinator *co = context;
    const Retake__Envelope *envelope = message->envelope;
    if (envelope->kind_case == RETAKE__ENVELOPE__KIND_HELLO) {
        if (!co->ending) {
            hello(co, message);
        }
    } else if (co->link.present && co->link.incarnation == envelope->incarnation &&
               strcmp(co->link.name, envelope->sender) == 0) {
        from_learner(co, message);
    }
    if (!co->ending) {
        rt_coordinator_advance(co);
    }
}

void rt_link_tick(rt_coordinator *co, int64_t now_ns)
{
    if (!co->link.present) {
        return;
    }
    if (rt_liveness_gone(&co->link.life, now_ns)) {
        lose(co, "silent");
    } else if (rt_liveness_ping_due(&co->link.life, now_ns)) {
        send_simple(co, RETAKE__ENVELOPE__KIND_PING);
    }
}
