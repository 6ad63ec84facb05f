/* store_metrics: metrics of several runs side by side: the last value and the best one. */
#include <stdlib.h>
#include <string.h>

#include "coordinator/show.h"

/* What one looks at first, when no names are given. */
static const char *const usual[] = {
    "eval.greedy.accuracy",
    "eval.sampled.accuracy",
    "eval/*accuracy",
    "reward.mean",
    "accuracy",
    "task.*.reward",
    "task.*.accuracy",
    "degenerate",
    "loss",
    "grad_norm",
    "entropy",
    "response.tokens",
    "tokens.sampled",
    "tokens.trained",
    "seconds",
};

/* ---- which names ------------------------------------------------------------------------------
 */

static int add_names(sqlite3 *db, const char *form, json_t *names, rt_error *err)
{
    sqlite3_stmt *query = NULL;
    int code = sqlite3_prepare_v2(
        db, "SELECT DISTINCT name FROM metrics WHERE name GLOB ?1 ORDER BY name", -1, &query, NULL);
    if (code == SQLITE_OK) {
        code = sqlite3_bind_text(query, 1, form, -1, SQLITE_STATIC);
    }
    while (code == SQLITE_OK && (code = sqlite3_step(query)) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(query, 0);
        if (!json_object_get(names, name)) {
            json_object_set_new(names, name, json_array());
        }
        code = SQLITE_OK;
    }
    sqlite3_finalize(query);
    return code == SQLITE_DONE ? RT_OK
                               : rt_fail(err, RT_ERR_IO, "cannot read the metrics of run.db: %s",
                                         sqlite3_errmsg(db));
}

/* forms: "loss,eval*" or NULL. */
static int add_all_names(sqlite3 *const *dbs, int count, const char *forms, json_t *names,
                         rt_error *err)
{
    int rc = RT_OK;
    char *list = forms ? rt_strdup(forms) : NULL, *rest = list;
    for (size_t f = 0; !rc; f++) {
        const char *form = forms                 ? strtok_r(f == 0 ? list : NULL, ", ", &rest)
                           : f < RT_COUNT(usual) ? usual[f]
                                                 : NULL;
        if (!form) {
            break;
        }
        for (int i = 0; i < count && !rc; i++) {
            rc = add_names(dbs[i], form, names, err);
        }
    }
    rt_free(list);
    return rc;
}

/* ---- one metric of one run --------------------------------------------------------------------
 */

static bool ends_with(const char *name, const char *end)
{
    size_t bytes = strlen(name), tail = strlen(end);
    return bytes >= tail && strcmp(name + bytes - tail, end) == 0;
}

/* 1: more is better, -1: less is, 0: neither. */
static int direction(const char *name)
{
    static const char *const more[] = {"accuracy", "reward", "reward.mean", "success"};
    static const char *const less[] = {"degenerate", "undecided", "mismatched", "failed"};
    for (size_t i = 0; i < RT_COUNT(more); i++) {
        if (ends_with(name, more[i])) {
            return 1;
        }
    }
    for (size_t i = 0; i < RT_COUNT(less); i++) {
        if (ends_with(name, less[i])) {
            return -1;
        }
    }
    return strncmp(name, "seconds", 7) == 0 ? -1 : 0;
}

static bool value_at(sqlite3 *db, int64_t step, const char *name, double *value)
{
    sqlite3_stmt *query = NULL;
    bool found = false;
    if (sqlite3_prepare_v2(db, "SELECT value FROM metrics WHERE step = ?1 AND name = ?2", -1,
                           &query, NULL) == SQLITE_OK) {
        sqlite3_bind_int64(query, 1, step);
        sqlite3_bind_text(query, 2, name, -1, SQLITE_STATIC);
        found = sqlite3_step(query) == SQLITE_ROW;
        *value = found ? sqlite3_column_double(query, 0) : 0;
    }
    sqlite3_finalize(query);
    return found;
}

/* An accuracy's interval stands beside it under the names low and high. */
static json_t *point_json(sqlite3 *db, const char *name, int64_t step, double value)
{
    json_t *point = json_pack("{s:I, s:f}", "step", (json_int_t)step, "value", value);
    if (!ends_with(name, "accuracy")) {
        return point;
    }
    int bytes = (int)(strlen(name) - strlen("accuracy"));
    char *low_name = rt_format("%.*slow", bytes, name),
         *high_name = rt_format("%.*shigh", bytes, name);
    double low, high;
    if (value_at(db, step, low_name, &low) && value_at(db, step, high_name, &high)) {
        json_object_set_new(point, "low", json_real(low));
        json_object_set_new(point, "high", json_real(high));
    }
    rt_free(low_name);
    rt_free(high_name);
    return point;
}

/* The bare columns of a row with max() or min() are those of the row that has it. */
static json_t *point_of(sqlite3 *db, const char *name, const char *sql)
{
    sqlite3_stmt *query = NULL;
    json_t *point = NULL;
    if (sqlite3_prepare_v2(db, sql, -1, &query, NULL) == SQLITE_OK) {
        sqlite3_bind_text(query, 1, name, -1, SQLITE_STATIC);
        if (sqlite3_step(query) == SQLITE_ROW && sqlite3_column_type(query, 0) != SQLITE_NULL) {
            point = point_json(db, name, sqlite3_column_int64(query, 0),
                               sqlite3_column_double(query, 1));
        }
    }
    sqlite3_finalize(query);
    return point ? point : json_null();
}

static json_t *metric_json(sqlite3 *db, const char *name)
{
    static const char last[] = "SELECT max(step), value FROM metrics WHERE name = ?1";
    static const char most[] = "SELECT step, max(value) FROM metrics WHERE name = ?1";
    static const char least[] = "SELECT step, min(value) FROM metrics WHERE name = ?1";
    int better = direction(name);
    json_t *json = json_object();
    json_object_set_new(json, "last", point_of(db, name, last));
    json_object_set_new(json, "max", point_of(db, name, most));
    json_object_set_new(json, "min", point_of(db, name, least));
    json_object_set(json, "best",
                    better == 0 ? json_null() : json_object_get(json, better > 0 ? "max" : "min"));
    return json;
}

/* ---- the table --------------------------------------------------------------------------------
 */

static json_t *cell(const json_t *metric, const char *key, bool step)
{
    const json_t *point = json_object_get(metric, key), *low = json_object_get(point, "low");
    char text[96];
    if (!json_is_object(point)) {
        return json_string("-");
    }
    int at = snprintf(text, sizeof text, "%.5g",
                      json_number_value(json_object_get(point, "value")));
    if (low) {
        at += snprintf(text + at, sizeof text - (size_t)at, " [%.3f, %.3f]", json_number_value(low),
                       json_number_value(json_object_get(point, "high")));
    }
    if (step) {
        snprintf(text + at, sizeof text - (size_t)at, " @%" JSON_INTEGER_FORMAT,
                 json_integer_value(json_object_get(point, "step")));
    }
    return json_string(text);
}

static json_t *text_rows(const json_t *names, const char *const *dirs, int count)
{
    json_t *rows = json_array(), *metrics = NULL;
    const char *name = NULL;
    json_object_foreach((json_t *)names, name, metrics)
    {
        json_t *row = json_object();
        json_object_set_new(row, "metric", json_string(name));
        for (int i = 0; i < count; i++) {
            char *last = rt_format("%s: last", dirs[i]),
                 *best = rt_format("%s: best @step", dirs[i]);
            const json_t *metric = json_array_get(metrics, (size_t)i);
            json_object_set_new(row, last, cell(metric, "last", false));
            json_object_set_new(row, best, cell(metric, "best", true));
            rt_free(last);
            rt_free(best);
        }
        json_array_append_new(rows, row);
    }
    return rows;
}

static json_t *whole_json(const json_t *names, const char *const *dirs, int count)
{
    json_t *runs = json_array(), *list = json_array(), *metrics = NULL;
    const char *name = NULL;
    for (int i = 0; i < count; i++) {
        json_t *dir = json_string(dirs[i]);
        json_array_append_new(runs, dir ? dir : json_string("?"));
    }
    json_object_foreach((json_t *)names, name, metrics)
    {
        json_array_append_new(list, json_pack("{s:s, s:O}", "name", name, "runs", metrics));
    }
    return json_pack("{s:o, s:o}", "runs", runs, "metrics", list);
}

int rt_store_metrics(const char *const *dirs, int count, const char *forms, bool json, rt_buf *out,
                     rt_error *err)
{
    sqlite3 *dbs[RT_SHOW_RUNS_MAX] = {NULL};
    show_view view = {.out = out, .json = json};
    json_t *names = json_object(), *metrics = NULL;
    const char *name = NULL;
    int rc = count < 1 || count > RT_SHOW_RUNS_MAX
                 ? rt_fail(err, RT_ERR_USAGE, "give 1 to %d runs to compare", RT_SHOW_RUNS_MAX)
                 : RT_OK;
    for (int i = 0; i < count && !rc; i++) {
        rc = rt_store_reading(dirs[i], &dbs[i], err);
    }
    rc = rc ? rc : add_all_names(dbs, count, forms, names, err);
    if (!rc && json_object_size(names) == 0) {
        rc = rt_fail(err, RT_ERR_INPUT, "no metric of these runs has such a name: %s",
                     forms ? forms : "(nothing is measured yet)");
    }
    json_object_foreach(names, name, metrics)
    {
        for (int i = 0; i < count && !rc; i++) {
            json_array_append_new(metrics, metric_json(dbs[i], name));
        }
    }
    if (!rc) {
        json_t *shown = json ? whole_json(names, dirs, count) : text_rows(names, dirs, count);
        rt_show_table(&view, shown);
        json_decref(shown);
    }
    json_decref(names);
    for (int i = 0; i < RT_SHOW_RUNS_MAX; i++) {
        sqlite3_close(dbs[i]);
    }
    return rc;
}
