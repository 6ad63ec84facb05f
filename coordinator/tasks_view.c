/*
 * tasks_view: the tasks of a run side by side: what training and evaluation say of each. The same
 * table is made from a live coordinator's memory and from run.db.
 */
#include <math.h>
#include <string.h>

#include "coordinator/show.h"

static const char eval_prefix[] = "eval/";

enum { GAIN_WINDOW = 10 }; /* steps on each side */

/* ---- what is known --------------------------------------------------------------------------- */

static json_t *child(json_t *object, const char *key, json_t *fresh)
{
    json_t *found = json_object_get(object, key);
    if (found) {
        json_decref(fresh);
        return found;
    }
    json_object_set_new(object, key, fresh);
    return json_object_get(object, key);
}

/* Rewards of the newest steps that had the task, as many as Gain looks at. */
static void note_reward(json_t *known, const char *name, double value)
{
    json_t *list = child(child(known, "rewards", json_object()), name, json_array());
    json_array_append_new(list, json_real(value));
    if (json_array_size(list) > 2 * GAIN_WINDOW + 1) {
        json_array_remove(list, 0);
    }
}

static bool ends_with(const char *name, const char *end)
{
    size_t bytes = strlen(name), tail = strlen(end);
    return bytes >= tail && strcmp(name + bytes - tail, end) == 0;
}

void rt_tasks_note(json_t *known, int64_t step, const char *name, double value)
{
    const char *rest = name + strlen(eval_prefix), *slash = strrchr(name, '/');
    if (strncmp(name, eval_prefix, strlen(eval_prefix)) != 0) {
        json_object_set_new(child(known, "metrics", json_object()), name, json_real(value));
        if (strncmp(name, "task.", 5) == 0 && ends_with(name, ".reward")) {
            note_reward(known, name, value);
        }
        return;
    }
    if (slash <= rest) {
        return;
    }
    char *task = rt_strndup(rest, (size_t)(slash - rest));
    json_t *list = child(child(known, "evaluations", json_object()), task, json_array());
    json_t *last = json_array_get(list, json_array_size(list) - 1);
    if (!last || json_integer_value(json_object_get(last, "version")) != step) {
        last = json_object();
        json_object_set_new(last, "version", json_integer(step));
        json_array_append_new(list, last);
    }
    json_object_set_new(last, slash + 1, json_real(value));
    rt_free(task);
}

int rt_tasks_load(sqlite3 *db, json_t *known, rt_error *err)
{
    static const char sql[] = "SELECT step, name, value FROM metrics WHERE name GLOB 'eval/*' OR "
                              "name GLOB 'task.*' OR name GLOB 'grad/*/share' OR "
                              "name GLOB 'grad/*/norm2' ORDER BY step, name";
    sqlite3_stmt *query = NULL;
    int code = sqlite3_prepare_v2(db, sql, -1, &query, NULL);
    while (code == SQLITE_OK && (code = sqlite3_step(query)) == SQLITE_ROW) {
        rt_tasks_note(known, sqlite3_column_int64(query, 0),
                      (const char *)sqlite3_column_text(query, 1), sqlite3_column_double(query, 2));
        code = SQLITE_OK;
    }
    sqlite3_finalize(query);
    return code == SQLITE_DONE ? RT_OK
                               : rt_fail(err, RT_ERR_IO, "cannot read the metrics of run.db: %s",
                                         sqlite3_errmsg(db));
}

/* ---- the table ------------------------------------------------------------------------------- */

static void put_metric(json_t *row, const char *key, const json_t *known, const char *form,
                       const char *task)
{
    char *name = sqlite3_mprintf(form, task);
    const json_t *value = json_object_get(json_object_get(known, "metrics"), name);
    json_object_set_new(row, key, value ? json_deep_copy(value) : json_null());
    sqlite3_free(name);
}

static void put_number(json_t *row, const char *key, const json_t *from, const char *part)
{
    const json_t *value = json_object_get(from, part);
    json_object_set_new(row, key, value ? json_deep_copy(value) : json_null());
}

/* now − then; null where one of them is missing or both are the same evaluation. */
static void put_gain(json_t *row, const char *key, const json_t *now, const json_t *then)
{
    const json_t *a = json_object_get(now, "accuracy"), *b = json_object_get(then, "accuracy");
    bool known = a && b && now != then;
    json_object_set_new(
        row, key, known ? json_real(json_number_value(a) - json_number_value(b)) : json_null());
}

/* Gain(t) of arXiv 2510.19178 at the newest step t that has a window on both sides: mean reward of the
 * s steps after it less that of the s steps before it, s as large as there are steps for, at most
 * GAIN_WINDOW. */
static json_t *gain_of(const json_t *known, const char *task)
{
    char *name = rt_format("task.%s.reward", task);
    const json_t *list = json_object_get(json_object_get(known, "rewards"), name);
    size_t count = json_array_size(list), window = count > 0 ? (count - 1) / 2 : 0;
    double gain = 0;
    rt_free(name);
    window = RT_MIN(window, (size_t)GAIN_WINDOW);
    for (size_t i = 0; i < window; i++) {
        gain += json_number_value(json_array_get(list, count - 1 - i)) -
                json_number_value(json_array_get(list, count - 1 - 2 * window + i));
    }
    return window > 0 ? json_real(gain / (double)window) : json_null();
}

static json_t *row_of(const json_t *known, const char *task)
{
    const json_t *list = json_object_get(json_object_get(known, "evaluations"), task);
    size_t count = json_array_size(list);
    const json_t *now = json_array_get(list, count - 1);
    json_t *row = json_object(), *name = json_string(task);
    json_object_set_new(row, "task", name ? name : json_string("?"));
    put_metric(row, "reward", known, "task.%s.reward", task);
    put_metric(row, "accuracy", known, "task.%s.accuracy", task);
    put_metric(row, "degenerate", known, "task.%s.degenerate", task);
    put_metric(row, "grad_norm2", known, "grad/%s/norm2", task);
    put_metric(row, "grad_share", known, "grad/%s/share", task);
    json_object_set_new(row, "reward_gain", gain_of(known, task));
    put_number(row, "eval", now, "accuracy");
    put_number(row, "eval_low", now, "low");
    put_number(row, "eval_high", now, "high");
    put_number(row, "eval_version", now, "version");
    put_gain(row, "gain", now, json_array_get(list, 0));
    put_gain(row, "gain_last", now, count > 1 ? json_array_get(list, count - 2) : NULL);
    return row;
}

json_t *rt_tasks_table(const json_t *known, const json_t *names)
{
    json_t *table = json_array(), *name = NULL;
    size_t i = 0;
    json_array_foreach(names, i, name)
    {
        json_array_append_new(table, row_of(known, json_string_value(name)));
    }
    return table;
}

/* ---- of a run that works --------------------------------------------------------------------- */

void rt_tasks_remember(rt_coordinator *co)
{
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach(co->step_metrics, name, value)
    {
        if (strncmp(name, "task.", 5) == 0 || strncmp(name, "grad/", 5) == 0) {
            rt_tasks_note(co->tasks_known, 0, name, json_number_value(value));
        }
    }
}

json_t *rt_tasks_json(const rt_coordinator *co)
{
    json_t *names = json_array();
    for (int i = 0; i < rt_taskset_tasks(co->tasks); i++) {
        json_t *name = json_string(rt_taskset_name(co->tasks, i));
        json_array_append_new(names, name ? name : json_string("?"));
    }
    json_t *table = rt_tasks_table(co->tasks_known, names);
    json_decref(names);
    return table;
}

/* ---- of run.db ------------------------------------------------------------------------------- */

json_t *rt_show_task_names(const show_view *view, rt_error *err)
{
    /* ids begin with the task's place in the config */
    json_t *rows = rt_show_rows(
        view, "SELECT task, min(id) AS first FROM problems GROUP BY task ORDER BY first", 0, err);
    json_t *names = rows ? json_array() : NULL, *row = NULL;
    size_t i = 0;
    json_array_foreach(rows, i, row)
    {
        json_t *name = json_object_get(row, "task");
        if (json_is_string(name)) {
            json_array_append(names, name);
        }
    }
    json_decref(rows);
    return names;
}

int rt_show_tasks(const show_view *view, rt_error *err)
{
    json_t *known = json_object(), *names = rt_show_task_names(view, err);
    int rc = names ? rt_tasks_load(view->db, known, err) : err->code;
    if (!rc) {
        json_t *table = rt_tasks_table(known, names);
        rt_show_table(view, table);
        json_decref(table);
    }
    json_decref(known);
    json_decref(names);
    return rc;
}
