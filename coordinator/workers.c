/* workers: who is here, what each holds, and which lease goes to whom. */
#include <inttypes.h>
#include <string.h>

#include "coordinator/internal.h"

rt_worker *rt_workers_find(const rt_coordinator *co, const char *name)
{
    rt_worker *worker = co->workers;
    while (worker && strcmp(worker->name, name) != 0) {
        worker = worker->next;
    }
    return worker;
}

void rt_status_take(rt_peer_status *status, const Retake__Ping *ping)
{
    snprintf(status->state, sizeof status->state, "%s", ping->state);
    snprintf(status->waits_for, sizeof status->waits_for, "%s", ping->waits_for);
    status->waits_ms = ping->waits_since_ms;
    status->tokens_per_second = ping->tokens_per_second;
    status->tokens = ping->tokens;
    status->prefill = ping->prefill_tokens;
    status->active = ping->active;
    status->version = ping->weights_version;
    status->heard_ns = rt_now_ns();
}

void rt_hello_take(rt_peer_status *status, const Retake__Hello *hello)
{
    snprintf(status->host, sizeof status->host, "%s", hello->host);
    snprintf(status->isa, sizeof status->isa, "%s", hello->isa);
    status->version = hello->weights_version;
    status->heard_ns = rt_now_ns();
}

bool rt_hello_refused(const rt_coordinator *co, const Retake__Hello *hello, char *reason,
                      size_t room)
{
    if (strcmp(hello->version, RT_VERSION) != 0) {
        snprintf(reason, room, "it is retake %s and the coordinator is %s; use the same build",
                 hello->version, RT_VERSION);
        return true;
    }
    if (hello->config != co->fingerprint) {
        snprintf(reason, room,
                 "its config differs from the coordinator's in a key that determines "
                 "the weights; start it with the same config file and --set");
        return true;
    }
    return false;
}

static int send_to(rt_coordinator *co, const rt_worker *worker, Retake__Envelope *envelope)
{
    return rt_socket_send(co->work, worker->peer, worker->peer_bytes, envelope, NULL, 0, NULL);
}

/* ---- joining and leaving --------------------------------------------------------------------- */

static void refuse(rt_coordinator *co, const rt_message *message, char *reason)
{
    Retake__Refuse refusal = RETAKE__REFUSE__INIT;
    refusal.reason = reason;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_REFUSE;
    envelope.refuse = &refusal;
    rt_socket_send(co->work, message->peer, message->peer_bytes, &envelope, NULL, 0, NULL);
    rt_events_add(co, RT_WARN, message->envelope->sender, "refused: %s", reason);
}

static void announce_to(rt_coordinator *co, const rt_worker *worker)
{
    const rt_held *held = rt_depot_of(&co->weights, co->version);
    if (held) {
        Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
        envelope.kind_case = RETAKE__ENVELOPE__KIND_ANNOUNCE;
        envelope.announce = held->announce;
        send_to(co, worker, &envelope);
    }
}

void rt_workers_announce(rt_coordinator *co)
{
    for (rt_worker *worker = co->workers; worker; worker = worker->next) {
        announce_to(co, worker);
    }
}

static void welcome(rt_coordinator *co, const rt_worker *worker)
{
    Retake__Welcome message = RETAKE__WELCOME__INIT;
    message.run = co->run;
    message.heartbeat_ms = (uint32_t)co->config->coordinator.heartbeat_ms;
    message.liveness = (uint32_t)co->config->coordinator.liveness;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_WELCOME;
    envelope.welcome = &message;
    send_to(co, worker, &envelope);
    announce_to(co, worker);
}

static rt_worker *join(rt_coordinator *co, const rt_message *message)
{
    const Retake__Hello *hello = message->envelope->hello;
    rt_worker *worker = rt_alloc(sizeof *worker);
    snprintf(worker->name, sizeof worker->name, "%s", message->envelope->sender);
    snprintf(worker->role, sizeof worker->role, "%s", hello->role);
    worker->incarnation = message->envelope->incarnation;
    worker->joined_ms = rt_wall_ms();
    worker->leases.owner = worker;
    rt_liveness_init(&worker->life, (uint32_t)co->config->coordinator.heartbeat_ms,
                     (uint32_t)co->config->coordinator.liveness, rt_now_ns());
    rt_hello_take(&worker->status, hello);
    /* Appended: equal credit goes to who came first, whatever the order of names. */
    rt_worker **last = &co->workers;
    while (*last) {
        last = &(*last)->next;
    }
    *last = worker;
    rt_record_worker(co, worker->name, worker->incarnation, worker->role, worker->status.host,
                     worker->joined_ms, NULL);
    rt_coordinator_seen(co, worker->name, worker->incarnation);
    rt_events_add(co, RT_INFO, worker->name, "joined from %s (%s)", hello->host, hello->isa);
    if (co->link.present && strcmp(co->link.status.isa, worker->status.isa) != 0) {
        rt_events_add(co, RT_INFO, worker->name, "computes with %s, the learner with %s",
                      worker->status.isa, co->link.status.isa);
    }
    return worker;
}

static void hello(rt_coordinator *co, const rt_message *message)
{
    char reason[256];
    const Retake__Envelope *envelope = message->envelope;
    if (rt_hello_refused(co, envelope->hello, reason, sizeof reason)) {
        refuse(co, message, reason);
        return;
    }
    if (envelope->sender[0] == 0 || strlen(envelope->sender) >= RT_NAME_BYTES ||
        strcmp(envelope->hello->role, "learner") == 0) {
        snprintf(reason, sizeof reason, "a worker needs a name below %d bytes and the role actor",
                 RT_NAME_BYTES);
        refuse(co, message, reason);
        return;
    }
    rt_worker *worker = rt_workers_find(co, envelope->sender);
    if (worker && worker->incarnation != envelope->incarnation) {
        rt_workers_drop(co, worker, "started again");
        worker = NULL;
    }
    if (!worker) {
        worker = join(co, message);
    }
    memcpy(worker->peer, message->peer, message->peer_bytes);
    worker->peer_bytes = message->peer_bytes;
    rt_liveness_heard(&worker->life, rt_now_ns());
    welcome(co, worker);
}

void rt_workers_drop(rt_coordinator *co, rt_worker *worker, const char *why)
{
    size_t leases = worker->leases.count;
    while (worker->leases.head) {
        rt_leases_requeue(&co->leases, worker->leases.head);
    }
    rt_record_worker(co, worker->name, worker->incarnation, worker->role, worker->status.host,
                     worker->joined_ms, why);
    rt_events_add(co, RT_WARN, worker->name, "left: %s; %zu leases go out again", why, leases);
    rt_worker **link = &co->workers;
    while (*link != worker) {
        link = &(*link)->next;
    }
    *link = worker->next;
    rt_free(worker);
}

void rt_workers_stop(rt_coordinator *co, const char *reason)
{
    Retake__Stop stop = RETAKE__STOP__INIT;
    stop.reason = (char *)reason;
    for (rt_worker *worker = co->workers; worker; worker = worker->next) {
        Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
        envelope.kind_case = RETAKE__ENVELOPE__KIND_STOP;
        envelope.stop = &stop;
        send_to(co, worker, &envelope);
        rt_record_worker(co, worker->name, worker->incarnation, worker->role, worker->status.host,
                         worker->joined_ms, reason);
    }
}

/* ---- leases ---------------------------------------------------------------------------------- */

void rt_workers_cancel(rt_coordinator *co, const rt_lease *lease)
{
    RT_ASSERT(lease->state == RT_LEASE_ISSUED);
    Retake__Cancel cancel = RETAKE__CANCEL__INIT;
    cancel.lease = lease->id;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_CANCEL;
    envelope.cancel = &cancel;
    send_to(co, lease->list->owner, &envelope);
}

/* Who takes what while both roles are here: debate workers turns of debates, actors the rest. */
static bool takes(const rt_coordinator *co, const rt_worker *worker, const rt_job *job)
{
    bool debater = strcmp(worker->role, "debate") == 0, others = false;
    for (const rt_worker *other = co->workers; other && !others; other = other->next) {
        others = (strcmp(other->role, "debate") == 0) != debater;
    }
    return !others || debater == (job->debate != NULL);
}

/* A worker keeps the debates that begin there, so it begins no more than its share of all that is open:
 * who is ready first leaves the others theirs. */
static bool within_share(const rt_coordinator *co, const rt_worker *worker)
{
    int64_t open = co->leases.queue.samples, workers = 0;
    for (const rt_worker *other = co->workers; other; other = other->next) {
        if (strcmp(other->role, worker->role) == 0) {
            open += other->leases.samples;
            workers++;
        }
    }
    return worker->leases.samples * workers < open;
}

/* Only turns of debates that have begun wait at a worker whose slots are taken, but for a few that
 * bridge the time of a message: each further debate begun drives out what others need again. */
static bool has_room(const rt_coordinator *co, const rt_worker *worker, const rt_job *job)
{
    int64_t slots = worker->credit_most / 2;
    return worker->credit > (job->begins ? slots - slots / 8 : 0) &&
           (!job->begins || within_share(co, worker));
}

/* Most free slots first, so that work spreads before anyone queues. */
static rt_worker *freest(const rt_coordinator *co, const rt_job *job)
{
    rt_worker *best = NULL;
    for (rt_worker *worker = co->workers; worker; worker = worker->next) {
        if (has_room(co, worker, job) && (!best || worker->credit > best->credit) &&
            takes(co, worker, job)) {
            best = worker;
        }
    }
    return best;
}

/* Who joined late has none of a step's debates: computing a prefix anew there costs less than a worker
 * that idles while another computes for two. */
static bool overloaded(const rt_worker *worker, const rt_worker *other)
{
    int64_t busy = worker->credit_most - worker->credit, others = other->credit_most - other->credit;
    return busy > others + others / 4 + 4;
}

/* A continuation goes where its prefix may still lie computed, unless that worker is busy. */
static rt_worker *choose(rt_coordinator *co, rt_job *job)
{
    rt_worker *held = job->prefers[0] ? rt_workers_find(co, job->prefers) : NULL;
    rt_worker *free = freest(co, job);
    job->hit = held && held->credit > 0 && takes(co, held, job) &&
               !(job->debate && free && overloaded(held, free));
    return job->hit ? held : free;
}

static bool anyone_free(const rt_coordinator *co)
{
    const rt_worker *worker = co->workers;
    while (worker && worker->credit <= 0) {
        worker = worker->next;
    }
    return worker != NULL;
}

void rt_workers_lease_out(rt_coordinator *co)
{
    rt_lease *next = NULL;
    bool crowded = false; /* no further debate can begin */
    for (rt_lease *lease = co->leases.queue.head; lease && anyone_free(co); lease = next) {
        next = lease->next;
        rt_worker *worker = crowded && lease->job->begins ? NULL : choose(co, lease->job);
        if (!worker) { /* those of its role are busy */
            crowded = crowded || lease->job->begins;
            continue;
        }
        const rt_plan *plan = lease->job->plan;
        int64_t version = plan->evaluation ? plan->step : co->version;
        if (!rt_depot_of(&co->weights, version)) {
            return;
        }
        rt_leases_issue(&co->leases, lease, &worker->leases, version);
        worker->credit -= lease->job->count;
        rt_error err = {0};
        int rc = rt_lease_send(co, worker, lease, &err);
        if (rc == RT_ERR_LIMIT) { /* its queue is full: what it sends back tells its credit */
            rt_leases_requeue(&co->leases, lease);
            worker->credit = 0;
        } else if (rc) {
            rt_workers_drop(co, worker, err.message);
        } else {
            rt_record_lease(co, lease, -1);
        }
    }
}

void rt_workers_version_gone(rt_coordinator *co, int64_t version)
{
    for (rt_worker *worker = co->workers; worker; worker = worker->next) {
        rt_lease *next = NULL;
        for (rt_lease *lease = worker->leases.head; lease; lease = next) {
            next = lease->next;
            if (lease->version == version && worker->status.version < version) {
                rt_workers_cancel(co, lease);
                rt_leases_requeue(&co->leases, lease);
            }
        }
    }
}

/* ---- messages -------------------------------------------------------------------------------- */

static void ping(rt_coordinator *co, const rt_worker *worker, bool answer)
{
    Retake__Ping question = RETAKE__PING__INIT;
    Retake__Pong pong = RETAKE__PONG__INIT;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    if (answer) {
        envelope.kind_case = RETAKE__ENVELOPE__KIND_PONG;
        envelope.pong = &pong;
    } else {
        envelope.kind_case = RETAKE__ENVELOPE__KIND_PING;
        envelope.ping = &question;
    }
    send_to(co, worker, &envelope);
}

/* It may not have read what is on the way to it. */
static void take_credit(rt_worker *worker, uint32_t slots)
{
    worker->credit_most = RT_MAX(worker->credit_most, (int64_t)slots);
    worker->credit = RT_MIN((int64_t)slots, worker->credit_most - worker->leases.samples);
}

static void from_worker(rt_coordinator *co, rt_worker *worker, const rt_message *message)
{
    const Retake__Envelope *envelope = message->envelope;
    rt_liveness_heard(&worker->life, rt_now_ns());
    switch (envelope->kind_case) {
    case RETAKE__ENVELOPE__KIND_PING:
        rt_status_take(&worker->status, envelope->ping);
        ping(co, worker, true);
        break;
    case RETAKE__ENVELOPE__KIND_CREDIT:
        take_credit(worker, envelope->credit->slots);
        break;
    case RETAKE__ENVELOPE__KIND_READY:
        worker->status.version = envelope->ready->version;
        rt_coordinator_progress(co);
        break;
    case RETAKE__ENVELOPE__KIND_RESULT:
        rt_results_take(co, worker, message);
        take_credit(worker, envelope->result->credit);
        break;
    case RETAKE__ENVELOPE__KIND_BYE:
        rt_workers_drop(co, worker, envelope->bye->reason[0] ? envelope->bye->reason : "said bye");
        break;
    default: /* pongs, and what has no meaning here */
        break;
    }
}

void rt_workers_message(void *context, rt_socket *socket, const rt_message *message)
{
    (void)socket;
    rt_coordinator *co = context;
    const Retake__Envelope *envelope = message->envelope;
    if (co->ending) {
        return;
    }
    if (envelope->kind_case == RETAKE__ENVELOPE__KIND_HELLO) {
        hello(co, message);
    } else {
        /* Who is not known here (dropped, or of before a restart) says Hello after a silence. */
        rt_worker *worker = rt_workers_find(co, envelope->sender);
        if (!worker || worker->incarnation != envelope->incarnation) {
            return;
        }
        from_worker(co, worker, message);
    }
}

/* Leases go out when all results that have come are counted in, so that those of one burst travel
 * together and are computed together. */
void rt_workers_turn(void *context)
{
    rt_coordinator_advance(context);
}

void rt_workers_reject(void *context, rt_socket *socket, const rt_error *error)
{
    rt_coordinator *co = context;
    /* A foreign program may send thousands: one line a second is enough to know. */
    int64_t now = rt_now_ns();
    if (co->reject_told_ns == 0 || now - co->reject_told_ns > 1000000000) {
        co->reject_told_ns = now;
        rt_events_add(co, RT_WARN, "coordinator", "a message on %s is dropped: %s",
                      rt_socket_endpoint(socket), error->message);
    }
}

/* ---- time ------------------------------------------------------------------------------------ */

static void expire_leases(rt_coordinator *co, rt_worker *worker, int64_t now_ns)
{
    int64_t limit = co->config->coordinator.lease_timeout_ms * 1000000;
    rt_lease *next = NULL;
    for (rt_lease *lease = worker->leases.head; lease; lease = next) {
        next = lease->next;
        if (limit > 0 && now_ns - lease->issued_ns > limit) {
            rt_events_add(co, RT_WARN, worker->name,
                          "lease %" PRIu64 " is overdue after %lld ms and "
                          "goes out again",
                          lease->id, (long long)co->config->coordinator.lease_timeout_ms);
            rt_workers_cancel(co, lease);
            rt_leases_requeue(&co->leases, lease);
        }
    }
}

void rt_workers_tick(rt_coordinator *co, int64_t now_ns)
{
    rt_worker *next = NULL;
    for (rt_worker *worker = co->workers; worker; worker = next) {
        next = worker->next;
        if (rt_liveness_gone(&worker->life, now_ns)) {
            rt_workers_drop(co, worker, "silent");
            continue;
        }
        if (rt_liveness_ping_due(&worker->life, now_ns)) {
            ping(co, worker, false);
        }
        expire_leases(co, worker, now_ns);
    }
}
