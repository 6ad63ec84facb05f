/* stats: events, phases and their time, and the answer of the stats socket. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/internal.h"

const char *rt_bucket_name(int bucket)
{
    static const char *const names[RT_BUCKETS] = {"sampling", "training", "weights", "evaluation",
                                                  "waiting"};
    return names[bucket];
}

void rt_tally_bucket(rt_coordinator *co)
{
    int64_t now = rt_now_ns();
    co->step_tally.seconds[co->bucket] += (double)(now - co->bucket_ns) * 1e-9;
    co->bucket_ns = now;
}

/* ---- events ---------------------------------------------------------------------------------- */

static const char *level_name(int level)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    return names[level];
}

static json_t *event_json(const rt_event *event)
{
    /* Names and reasons come from peers: text that is not UTF-8 must not lose the whole answer. */
    json_t *role = json_string(event->role), *text = json_string(event->text);
    return json_pack("{s:f, s:s, s:o, s:o}", "time", (double)event->time_ms / 1000, "level",
                     level_name(event->level), "role", role ? role : json_string("?"), "text",
                     text ? text : json_string("(not text)"));
}

static void publish(rt_coordinator *co, const rt_event *event)
{
    if (!co->events) {
        return;
    }
    json_t *json = event_json(event);
    char *line = json_dumps(json, JSON_COMPACT);
    if (line) {
        rt_frame frame = {line, strlen(line)};
        rt_socket_send_raw(co->events, &frame, 1, NULL); /* may be lost */
        free(line);
    }
    json_decref(json);
}

void rt_events_add(rt_coordinator *co, enum rt_level level, const char *role, const char *format,
                   ...)
{
    rt_event *event = &co->kept[co->events_count++ % RT_EVENTS_KEPT];
    *event = (rt_event){.time_ms = rt_wall_ms(), .level = level};
    snprintf(event->role, sizeof event->role, "%s", role);
    va_list args;
    va_start(args, format);
    vsnprintf(event->text, sizeof event->text, format, args);
    va_end(args);
    rt_log_line(co->log, level, "%s%s%s", strcmp(role, "coordinator") == 0 ? "" : role,
                strcmp(role, "coordinator") == 0 ? "" : ": ", event->text);
    if (co->store) {
        rt_store_row *row = rt_store_row_new(RT_TABLE_EVENTS);
        rt_store_row_real(row, (double)event->time_ms / 1000);
        rt_store_row_text(row, level_name(level));
        rt_store_row_text(row, event->role);
        rt_store_row_text(row, event->text);
        rt_store_put(co->store, row);
    }
    publish(co, event);
}

/* ---- the answer ------------------------------------------------------------------------------ */

static json_t *text_json(const char *text)
{
    json_t *json = json_string(text);
    return json ? json : json_string("?");
}

static json_t *peer_json(const char *name, const char *role, const rt_peer_status *status,
                         size_t leases, int64_t credit)
{
    json_t *json = json_object();
    json_object_set_new(json, "name", text_json(name));
    json_object_set_new(json, "role", text_json(role));
    json_object_set_new(json, "host", text_json(status->host));
    json_object_set_new(json, "state", text_json(status->state));
    json_object_set_new(json, "waits_for", text_json(status->waits_for));
    json_object_set_new(json, "waits_ms", json_integer((json_int_t)status->waits_ms));
    json_object_set_new(json, "tokens_per_second", json_real(status->tokens_per_second));
    json_object_set_new(json, "tokens", json_integer((json_int_t)status->tokens));
    json_object_set_new(json, "active", json_integer(status->active));
    json_object_set_new(json, "version", json_integer(status->version));
    json_object_set_new(json, "leases", json_integer((json_int_t)leases));
    json_object_set_new(json, "credit", json_integer(credit));
    json_object_set_new(json, "isa", text_json(status->isa));
    return json;
}

static json_t *workers_json(const rt_coordinator *co)
{
    json_t *list = json_array();
    for (const rt_worker *worker = co->workers; worker; worker = worker->next) {
        json_array_append_new(list, peer_json(worker->name, worker->role, &worker->status,
                                              worker->leases.count, worker->credit));
    }
    if (co->link.present) {
        json_array_append_new(list, peer_json(co->link.name, "learner", &co->link.status, 0, 0));
    }
    return list;
}

static json_t *leases_json(const rt_leases *leases)
{
    json_t *json = json_object();
    uint64_t done = 0;
    for (int i = 0; i < RT_FATES; i++) {
        done += leases->ended[i];
        json_object_set_new(json, rt_fate_name(i), json_integer((json_int_t)leases->ended[i]));
    }
    json_object_set_new(json, "open", json_integer((json_int_t)leases->open));
    json_object_set_new(json, "queued", json_integer((json_int_t)leases->queue.count));
    json_object_set_new(json, "done", json_integer((json_int_t)done));
    json_object_set_new(json, "reissued", json_integer((json_int_t)leases->reissued));
    json_object_set_new(json, "duplicate", json_integer((json_int_t)leases->duplicate));
    return json;
}

static json_t *seconds_json(const rt_coordinator *co)
{
    json_t *json = json_object();
    double total = 0;
    for (int i = 0; i < RT_BUCKETS; i++) {
        double seconds = co->run_tally.seconds[i] + co->step_tally.seconds[i];
        total += seconds;
        json_object_set_new(json, rt_bucket_name(i), json_real(seconds));
    }
    json_object_set_new(json, "total", json_real(total));
    return json;
}

static json_t *events_json(const rt_coordinator *co)
{
    json_t *list = json_array();
    uint64_t count = RT_MIN(co->events_count, RT_EVENTS_KEPT);
    for (uint64_t i = co->events_count - count; i < co->events_count; i++) {
        json_array_append_new(list, event_json(&co->kept[i % RT_EVENTS_KEPT]));
    }
    return list;
}

static json_t *stats_json(rt_coordinator *co)
{
    char run[17], hash[33] = "";
    rt_buf waits = {0};
    const rt_held *newest = rt_depot_newest(&co->weights);
    snprintf(run, sizeof run, "%016" PRIx64, co->run);
    if (newest) {
        rt_hash_hex(newest->hash, hash);
    }
    rt_coordinator_waits(co, &waits);
    rt_tally_bucket(co);
    int64_t step = RT_MAX(co->version, 0) + co->link.step_done;
    double left = (double)RT_MAX(co->config->run.steps - step, 0);
    json_t *json = json_object();
    json_object_set_new(json, "run", json_string(run));
    json_object_set_new(json, "step", json_integer(step));
    json_object_set_new(json, "steps", json_integer(co->config->run.steps));
    json_object_set_new(json, "version", json_integer(co->version));
    json_object_set_new(json, "weights_hash", json_string(hash));
    json_object_set_new(json, "phase", json_string(rt_coordinator_phase(co)));
    json_object_set_new(json, "waits_for", text_json(waits.data ? waits.data : ""));
    json_object_set_new(json, "workers", workers_json(co));
    json_object_set_new(json, "leases", leases_json(&co->leases));
    json_object_set_new(json, "queues",
                        json_pack("{s:I}", "store", (json_int_t)rt_store_waiting(co->store)));
    json_object_set(json, "metrics", co->step_metrics);
    json_object_set_new(json, "evaluation", rt_evaluation_json(&co->last));
    json_object_set_new(json, "tasks", rt_tasks_json(co));
    if (strcmp(co->config->algorithm.plan, "group") != 0 && !co->debate_rules) {
        json_object_set_new(json, "resets", rt_resets_json(co));
    }
    json_object_set_new(json, "seconds", seconds_json(co));
    json_object_set_new(json, "eta_seconds",
                        co->step_seconds_mean > 0 ? json_real(left * co->step_seconds_mean)
                                                  : json_null());
    json_object_set_new(json, "events", events_json(co));
    rt_buf_free(&waits);
    return json;
}

/* "reset ID" or {"reset": ID}; −1: something else is asked. */
static int64_t reset_asked(const char *request, size_t bytes)
{
    char text[64] = "";
    long long id = -1;
    if (bytes >= sizeof text) {
        return -1;
    }
    memcpy(text, request, bytes);
    int taken = 0;
    if (sscanf(text, "reset %lld%n", &id, &taken) == 1 && text[taken] == 0) {
        return id;
    }
    json_t *json = json_loads(text, 0, NULL);
    const json_t *number = json_object_get(json, "reset");
    id = json_is_integer(number) ? json_integer_value(number) : -1;
    json_decref(json);
    return id;
}

static json_t *answer_of(rt_coordinator *co, const rt_message *message)
{
    int64_t reset = message->frames_count > 0
                        ? reset_asked(message->frames[0].data, message->frames[0].bytes)
                        : -1;
    if (reset < 0) {
        return stats_json(co);
    }
    json_t *json = rt_reset_state_json(co, reset);
    return json ? json : json_pack("{s:s}", "error", "there is no reset with this id");
}

void rt_stats_message(void *context, rt_socket *socket, const rt_message *message)
{
    rt_coordinator *co = context;
    bool stop = message->frames_count > 0 && message->frames[0].bytes == 4 &&
                memcmp(message->frames[0].data, "stop", 4) == 0;
    json_t *json = answer_of(co, message);
    char *text = json_dumps(json, JSON_COMPACT);
    rt_frame frame = {text ? text : "{}", text ? strlen(text) : 2};
    rt_socket_send_raw(socket, &frame, 1, NULL);
    free(text);
    json_decref(json);
    if (stop) {
        rt_events_add(co, RT_INFO, "coordinator", "asked to stop");
        rt_coordinator_end(co, RT_ERR_STOPPED, NULL);
    }
}
