/* store_past: what an earlier life of the run left in run.db, read before the writer starts. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/internal.h"

static double number_of(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *query = NULL;
    double number = NAN;
    if (sqlite3_prepare_v2(db, sql, -1, &query, NULL) == SQLITE_OK &&
        sqlite3_step(query) == SQLITE_ROW && sqlite3_column_type(query, 0) != SQLITE_NULL) {
        number = sqlite3_column_double(query, 0);
    }
    sqlite3_finalize(query);
    return number;
}

static double sum_of(sqlite3 *db, const char *metric)
{
    char *sql = sqlite3_mprintf("SELECT sum(value) FROM metrics WHERE name = %Q", metric);
    double sum = number_of(db, sql);
    sqlite3_free(sql);
    return isnan(sum) ? 0 : sum;
}

double rt_store_metric(rt_store *store, int64_t step, const char *name)
{
    char *sql = sqlite3_mprintf("SELECT value FROM metrics WHERE step = %lld AND name = %Q",
                                (long long)step, name);
    double value = number_of(rt_store_database(store), sql);
    sqlite3_free(sql);
    return value;
}

static bool run_text(sqlite3 *db, const char *key, char *text, size_t room)
{
    sqlite3_stmt *query = NULL;
    bool found = false;
    if (sqlite3_prepare_v2(db, "SELECT value FROM run WHERE key = ?", -1, &query, NULL) ==
        SQLITE_OK) {
        sqlite3_bind_text(query, 1, key, -1, SQLITE_STATIC);
        if (sqlite3_step(query) == SQLITE_ROW && sqlite3_column_text(query, 0)) {
            snprintf(text, room, "%s", (const char *)sqlite3_column_text(query, 0));
            found = true;
        }
    }
    sqlite3_finalize(query);
    return found;
}

static void load_evaluated(sqlite3 *db, rt_past *past)
{
    sqlite3_stmt *query = NULL;
    if (sqlite3_prepare_v2(db,
                           "SELECT DISTINCT step FROM metrics WHERE name = 'eval.complete' "
                           "ORDER BY step",
                           -1, &query, NULL) == SQLITE_OK) {
        while (sqlite3_step(query) == SQLITE_ROW) {
            size_t bytes = (size_t)past->evaluated_count * sizeof(int64_t);
            past->evaluated = rt_realloc(past->evaluated, bytes, bytes + sizeof(int64_t));
            past->evaluated[past->evaluated_count++] = sqlite3_column_int64(query, 0);
        }
    }
    sqlite3_finalize(query);
}

static void load_seen(sqlite3 *db, rt_past *past)
{
    sqlite3_stmt *query = NULL;
    if (sqlite3_prepare_v2(db, "SELECT id, incarnation FROM workers ORDER BY joined", -1, &query,
                           NULL) == SQLITE_OK) {
        while (sqlite3_step(query) == SQLITE_ROW) {
            const char *name = (const char *)sqlite3_column_text(query, 0);
            json_object_set_new(past->seen, name ? name : "",
                                json_integer(sqlite3_column_int64(query, 1)));
        }
    }
    sqlite3_finalize(query);
}

/* A step whose batch was made and that has no row of its own. A batch of debates may train nothing: then
 * no trajectory says that it is open, only its metrics do. */
static void load_open_step(sqlite3 *db, rt_past *past)
{
    double step = number_of(db, "SELECT max(step) FROM (SELECT max(step) AS step FROM trajectories "
                                "WHERE fate IS NULL UNION ALL SELECT max(step) FROM metrics WHERE "
                                "name = 'failed' AND step NOT IN (SELECT step FROM steps))");
    if (isnan(step)) {
        return;
    }
    past->open_step = (int64_t)step;
    for (int i = 0; i < 3; i++) {
        char *sql = sqlite3_mprintf("SELECT value FROM metrics WHERE name = 'grades.%s' AND "
                                    "step = %lld", rt_grade_name(i), (long long)past->open_step);
        double grades = number_of(db, sql);
        past->open_grades[i] = isnan(grades) ? 0 : grades;
        sqlite3_free(sql);
    }
}

static void load_sums(sqlite3 *db, rt_past *past)
{
    for (int i = 0; i < RT_FATES; i++) {
        char *sql = sqlite3_mprintf("SELECT count(*) FROM leases WHERE fate = %Q", rt_fate_name(i));
        past->leases[i] = (uint64_t)number_of(db, sql);
        sqlite3_free(sql);
    }
    double last = number_of(db, "SELECT max(id) FROM leases");
    /* A killed coordinator took its last rows with it; workers may still hold those leases. */
    past->lease_next = isnan(last) ? 1 : (uint64_t)last + RT_LEASE_GAP;
    for (int i = 0; i < RT_BUCKETS; i++) {
        char name[40];
        snprintf(name, sizeof name, "seconds.%s", rt_bucket_name(i));
        past->seconds[i] = sum_of(db, name);
    }
    past->tokens_sampled = sum_of(db, "tokens.sampled");
    past->tokens_prefill = sum_of(db, "tokens.prefill");
    past->tokens_trained = sum_of(db, "tokens.trained");
    past->compared = sum_of(db, "logprob.compared");
    past->mismatched = sum_of(db, "logprob.mismatched");
    past->grades[RT_UNDECIDED] = sum_of(db, "grades.undecided") - past->open_grades[RT_UNDECIDED];
    past->grades[RT_WRONG] = sum_of(db, "grades.wrong") - past->open_grades[RT_WRONG];
    past->grades[RT_CORRECT] = sum_of(db, "grades.correct") - past->open_grades[RT_CORRECT];
    double again = number_of(db, "SELECT count(*) - count(DISTINCT id) FROM workers");
    past->processes_again = isnan(again) ? 0 : (int64_t)again;
}

/* Who was here when the last life ended without a word is not here any more. */
static int close_open_rows(sqlite3 *db, rt_error *err)
{
    char *sql = sqlite3_mprintf(
        "BEGIN;"
        "UPDATE leases SET ended = %f, fate = 'cancelled' WHERE fate IS NULL;"
        "UPDATE workers SET \"left\" = %f, why = 'coordinator restarted' WHERE \"left\" IS NULL;"
        "COMMIT;",
        (double)rt_wall_ms() / 1000, (double)rt_wall_ms() / 1000);
    int code = sqlite3_exec(db, sql, NULL, NULL, NULL);
    sqlite3_free(sql);
    return code == SQLITE_OK ? RT_OK
                             : rt_fail(err, RT_ERR_IO,
                                       "cannot write to the run store: %s; check the "
                                       "disk and the permissions of the run folder",
                                       sqlite3_errmsg(db));
}

int rt_past_load(rt_store *store, rt_past *past, rt_error *err)
{
    sqlite3 *db = rt_store_database(store);
    char text[64];
    past->lease_next = 1;
    past->open_step = -1;
    past->seen = json_object();
    past->exists = run_text(db, "id", text, sizeof text);
    if (!past->exists) {
        return RT_OK;
    }
    past->run = strtoull(text, NULL, 16);
    if (run_text(db, "config", text, sizeof text)) {
        past->fingerprint = strtoull(text, NULL, 16);
    }
    if (run_text(db, "steps", text, sizeof text)) {
        past->steps = strtoll(text, NULL, 10);
    }
    int rc = close_open_rows(db, err);
    if (!rc) {
        load_evaluated(db, past);
        load_seen(db, past);
        load_open_step(db, past);
        load_sums(db, past);
    }
    return rc;
}

void rt_past_free(rt_past *past)
{
    rt_free(past->evaluated);
    json_decref(past->seen);
    *past = (rt_past){0};
}
