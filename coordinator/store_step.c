/* store_step: the batch of one step as the learner got it, read back from run.db (that of debates:
 * store_debate.c). */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "coordinator/debates.h"

int rt_store_reading(const char *dir, sqlite3 **db, rt_error *err)
{
    char *path = rt_format("%s/run.db", dir);
    int rc = RT_OK;
    if (!rt_file_exists(path)) {
        rc = rt_fail(err, RT_ERR_INPUT, "%s has no run.db; give the folder of a run", dir);
    } else if (sqlite3_open_v2(path, db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK) {
        rc = rt_fail(err, RT_ERR_IO, "cannot open %s: %s", path, sqlite3_errmsg(*db));
    } else {
        sqlite3_busy_timeout(*db, 5000);
    }
    rt_free(path);
    return rc;
}

static double real_of(sqlite3_stmt *query, int column)
{
    return sqlite3_column_type(query, column) == SQLITE_NULL ? NAN
                                                             : sqlite3_column_double(query, column);
}

static int read_step(sqlite3 *db, int64_t step, rt_stored_step *out, rt_error *err)
{
    sqlite3_stmt *query = NULL;
    int code = sqlite3_prepare_v2(
        db, "SELECT weights_hash, loss, grad_norm FROM steps WHERE step = ?", -1, &query, NULL);
    if (code == SQLITE_OK) {
        sqlite3_bind_int64(query, 1, step);
        code = sqlite3_step(query);
    }
    int rc = RT_OK;
    if (code == SQLITE_ROW) {
        const char *hash = (const char *)sqlite3_column_text(query, 0);
        snprintf(out->weights_hash, sizeof out->weights_hash, "%s", hash ? hash : "");
        out->loss = real_of(query, 1);
        out->grad_norm = real_of(query, 2);
    } else {
        rc = rt_fail(err, RT_ERR_INPUT,
                     "this run has no step %" PRId64 " that is done; `retake show RUN steps` lists "
                     "them", step);
    }
    sqlite3_finalize(query);
    return rc;
}

static void *copy_blob(rt_arena *arena, sqlite3_stmt *query, int first, int second, int *count)
{
    size_t a = (size_t)sqlite3_column_bytes(query, first);
    size_t b = second >= 0 ? (size_t)sqlite3_column_bytes(query, second) : 0;
    char *to = rt_arena_alloc(arena, a + b + 1);
    if (a > 0) {
        memcpy(to, sqlite3_column_blob(query, first), a);
    }
    if (b > 0) {
        memcpy(to + a, sqlite3_column_blob(query, second), b);
    }
    *count = (int)((a + b) / 4);
    return to;
}

static int read_sequence(sqlite3_stmt *query, rt_arena *arena, rt_stored_sequence *out,
                         rt_error *err)
{
    int whole = 0;
    out->id = (uint64_t)sqlite3_column_int64(query, 0);
    out->version = sqlite3_column_int64(query, 1);
    out->prompt_tokens = sqlite3_column_bytes(query, 2) / 4;
    out->ids = copy_blob(arena, query, 2, 3, &whole);
    out->logprobs = copy_blob(arena, query, 4, -1, &out->response_tokens);
    out->suffix_start = sqlite3_column_int(query, 5);
    out->advantage = real_of(query, 6);
    out->problem = (uint64_t)sqlite3_column_int64(query, 7);
    out->task = rt_problem_task(out->problem);
    if (out->prompt_tokens < 1 || whole != out->prompt_tokens + out->response_tokens ||
        out->suffix_start < 0 || out->suffix_start > out->response_tokens ||
        !isfinite(out->advantage)) {
        return rt_fail(err, RT_ERR_INPUT, "the row of trajectory %" PRIu64 " is damaged", out->id);
    }
    return RT_OK;
}

static int read_sequences(sqlite3 *db, int64_t step, rt_arena *arena, rt_stored_step *out,
                          rt_error *err)
{
    static const char sql[] =
        "SELECT id, version, prompt_ids, response_ids, logprobs, suffix_start, advantage, "
        "problem_id, count(*) OVER () FROM trajectories WHERE step = ? AND fate = 'trained' ORDER BY id";
    sqlite3_stmt *query = NULL;
    int rc = RT_OK, code = sqlite3_prepare_v2(db, sql, -1, &query, NULL);
    if (code == SQLITE_OK) {
        sqlite3_bind_int64(query, 1, step);
    }
    while (code == SQLITE_OK && (code = sqlite3_step(query)) == SQLITE_ROW && !rc) {
        if (!out->sequences) {
            size_t rows = (size_t)sqlite3_column_int64(query, 8);
            out->sequences = rt_arena_alloc(arena, rows * sizeof *out->sequences);
        }
        rc = read_sequence(query, arena, &out->sequences[out->count++], err);
        code = SQLITE_OK;
    }
    if (!rc && code != SQLITE_DONE) {
        rc = rt_fail(err, RT_ERR_IO, "cannot read run.db: %s", sqlite3_errmsg(db));
    }
    sqlite3_finalize(query);
    return rc;
}

int rt_store_step(const char *dir, const rt_config *config, int64_t step, rt_arena *arena,
                  rt_stored_step *out, rt_error *err)
{
    bool debates = strcmp(config->algorithm.plan, "debate") == 0;
    sqlite3 *db = NULL;
    *out = (rt_stored_step){.loss = NAN, .grad_norm = NAN};
    int rc = rt_store_reading(dir, &db, err);
    rc = rc ? rc : read_step(db, step, out, err);
    if (!rc && debates) {
        rc = rt_store_lessons(db, config, step, arena, out, err);
    } else if (!rc) {
        rc = read_sequences(db, step, arena, out, err);
        for (int i = 0; i < out->count; i++) {
            out->sequences[i].adapter = rt_config_adapters(config);
        }
    }
    sqlite3_close(db);
    return rc;
}
