/* open: what a run needs before its first message: checked limits, store, tasks, tokenizer. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/internal.h"

/* Ids hold so much, messages so much. */
#define PROBLEMS_MAX 65536
#define SAMPLES_MAX 256
#define SEQUENCES_MAX 16384
#define EVAL_SAMPLES_MAX 16
#define EVAL_PROBLEMS_MAX (1 << 26)

static int check_limits(const rt_config *config, rt_error *err)
{
    const struct {
        const char *key;
        int64_t value, low, high;
    } limits[] = {
        {"algorithm.problems", config->algorithm.problems, 1, PROBLEMS_MAX},
        {"algorithm.samples", config->algorithm.samples, 1, SAMPLES_MAX},
        {"algorithm.problems x algorithm.samples",
         config->algorithm.problems * config->algorithm.samples, 1, SEQUENCES_MAX},
        {"eval.problems", config->eval.problems, 0, EVAL_PROBLEMS_MAX},
        {"eval.samples", config->eval.samples, 0, EVAL_SAMPLES_MAX},
        {"run.steps", config->run.steps, 0, INT64_C(1) << 29},
        {"run.staleness", config->run.staleness, 0, 64},
        {"coordinator.heartbeat_ms", config->coordinator.heartbeat_ms, 1, INT64_C(1) << 30},
        {"coordinator.liveness", config->coordinator.liveness, 1, INT64_C(1) << 20},
    };
    for (size_t i = 0; i < RT_COUNT(limits); i++) {
        if (limits[i].value < limits[i].low || limits[i].value > limits[i].high) {
            return rt_fail(err, RT_ERR_USAGE,
                           "%s is %" PRId64 "; it must be in [%" PRId64 ", %" PRId64 "]",
                           limits[i].key, limits[i].value, limits[i].low, limits[i].high);
        }
    }
    return RT_OK;
}

/* A run folder holds one run: same config, except that it may go on for more steps. */
static int check_past(const rt_coordinator *co, rt_error *err)
{
    rt_config then = *co->config; /* shares the strings; only compared */
    then.run.steps = co->past.steps;
    if (co->fingerprint != co->past.fingerprint &&
        rt_config_fingerprint(&then) != co->past.fingerprint) {
        return rt_fail(err, RT_ERR_USAGE,
                       "%s/run.db is of a run with another config; give this one "
                       "another folder with --run, or use the config that is stored there",
                       co->config->run.dir);
    }
    if (co->config->run.steps < co->past.steps) {
        return rt_fail(err, RT_ERR_USAGE,
                       "run.steps is %" PRId64 " and the run in %s was made for %" PRId64
                       "; steps may only grow: raise it or give another folder with --run",
                       co->config->run.steps, co->config->run.dir, co->past.steps);
    }
    return RT_OK;
}

static uint64_t new_id(uint64_t salt)
{
    const int64_t parts[3] = {rt_wall_ms(), rt_now_ns(), (int64_t)getpid()};
    uint64_t id = rt_hash64(parts, sizeof parts, salt);
    return id ? id : 1;
}

static void run_row(rt_coordinator *co, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void run_row(rt_coordinator *co, const char *key, const char *format, ...)
{
    char value[64];
    va_list args;
    va_start(args, format);
    vsnprintf(value, sizeof value, format, args);
    va_end(args);
    rt_store_row *row = rt_store_row_new(RT_TABLE_RUN);
    rt_store_row_text(row, key);
    rt_store_row_text(row, value);
    rt_store_put(co->store, row);
}

void rt_coordinator_row(rt_coordinator *co, const char *why)
{
    char host[RT_NAME_BYTES] = "";
    gethostname(host, sizeof host - 1);
    rt_record_worker(co, "coordinator", co->incarnation, "coordinator", host, co->opened_ms, why);
}

static void begin_or_go_on(rt_coordinator *co)
{
    const rt_past *past = &co->past;
    co->run = past->exists ? past->run : new_id(1);
    rt_leases_init(&co->leases, past->lease_next);
    for (int i = 0; i < RT_BUCKETS; i++) {
        co->run_tally.seconds[i] = past->seconds[i];
    }
    for (int i = 0; i < 3; i++) {
        co->run_tally.grades[i] = (uint64_t)past->grades[i];
    }
    co->run_tally.tokens_sampled = (uint64_t)past->tokens_sampled;
    co->run_tally.tokens_prefill = (uint64_t)past->tokens_prefill;
    co->run_tally.tokens_trained = (uint64_t)past->tokens_trained;
    co->run_tally.compared = (uint64_t)past->compared;
    co->run_tally.mismatched = (uint64_t)past->mismatched;
    rt_evaluation_load(co);
    run_row(co, "id", "%016" PRIx64, co->run);
    run_row(co, "config", "%016" PRIx64, co->fingerprint);
    run_row(co, "steps", "%" PRId64, co->config->run.steps);
    run_row(co, "version", "%s", RT_VERSION);
    co->opened_ms = rt_wall_ms();
    rt_coordinator_row(co, NULL);
    co->restarts = past->processes_again;
    rt_coordinator_seen(co, "coordinator", co->incarnation);
    if (past->exists) {
        rt_events_add(co, RT_INFO, "coordinator",
                      "coordinator restarted, run %016" PRIx64 " goes on", co->run);
    }
}

void rt_coordinator_seen(rt_coordinator *co, const char *name, uint64_t incarnation)
{
    json_t *seen = co->past.seen, *before = json_object_get(seen, name);
    if (before && (uint64_t)json_integer_value(before) != incarnation) {
        co->restarts++;
    }
    json_object_set_new(seen, name, json_integer((json_int_t)incarnation));
}

static void tell_overlap(rt_coordinator *co, const rt_overlap *overlap)
{
    rt_record_metric(co, 0, "eval.contaminated", (double)overlap->count);
    if (overlap->count > 0) {
        rt_events_add(co, RT_WARN, "coordinator",
                      "%lld of %lld held-out problems are trained on as well, so accuracy says too "
                      "much: %s; eval.contamination: refuse does not begin such a run",
                      (long long)overlap->count, (long long)overlap->held_out, overlap->example);
    }
}

/* As actors see it: the config may lower the model's context, never raise it. */
static int find_context(rt_coordinator *co, rt_error *err)
{
    int64_t most = co->config->model.context;
    rt_arch arch;
    rt_error unknown = {0};
    int rc = rt_arch_load(&arch, co->config->model.path, &unknown);
    if (rc && most == 0) {
        *err = unknown;
        return rc;
    }
    co->context = rc ? most : most > 0 ? RT_MIN(most, (int64_t)arch.context) : arch.context;
    return RT_OK;
}

int rt_coordinator_open(rt_coordinator *co, rt_error *err)
{
    co->version = -1;
    co->incarnation = new_id(2);
    co->fingerprint = rt_config_fingerprint(co->config);
    co->step_metrics = json_object();
    co->next_metrics = json_object();
    co->tasks_known = json_object();
    rt_depot_init(&co->weights);
    int rc = check_limits(co->config, err);
    /* Everything that can be refused is refused before the run folder is touched. */
    rt_overlap overlap;
    rc = rc ? rc : rt_taskset_load(&co->tasks, co->config, err);
    rc = rc ? rc : rt_mixing_check(co, err);
    rc = rc ? rc : rt_contamination_check(co->config, co->tasks, &overlap, err);
    rc = rc ? rc : rt_tokenizer_load(&co->tokenizer, co->config->model.path, err);
    rc = rc ? rc : find_context(co, err);
    rc = rc ? rc : rt_store_open(&co->store, co->config->run.dir, &co->past, err);
    if (!rc && co->past.exists) {
        rc = check_past(co, err);
    }
    rc = rc ? rc : rt_mixing_load(co, err);
    if (!rc && strcmp(co->config->algorithm.plan, "debate") == 0) {
        rc = rt_debates_open(co, err);
    }
    rc = rc ? rc : rt_tasks_load(rt_store_database(co->store), co->tasks_known, err);
    if (!rc && strcmp(co->config->algorithm.plan, "caro") == 0) {
        rc = rt_resets_load(co, err);
    }
    if (!rc) {
        begin_or_go_on(co);
        tell_overlap(co, &overlap);
        rt_mixing_warn(co);
    }
    return rc;
}

void rt_coordinator_close(rt_coordinator *co)
{
    while (co->workers) {
        rt_worker *next = co->workers->next;
        rt_free(co->workers);
        co->workers = next;
    }
    if (co->leases.buckets) {
        rt_leases_free(&co->leases);
    }
    rt_resets_close(co);
    rt_debates_close(co);
    rt_depot_close(&co->weights);
    rt_past_free(&co->past);
    rt_free(co->evaluated);
    json_decref(co->step_metrics);
    json_decref(co->next_metrics);
    json_decref(co->tasks_known);
    rt_tokenizer_free(&co->tokenizer);
    rt_mixing_close(co);
    rt_taskset_free(&co->tasks);
}
