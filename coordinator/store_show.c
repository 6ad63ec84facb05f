/*
 * store_show: reading run.db for a person or a program. Each view is made once, as JSON; the text
 * of a table is laid out from it, texts of trajectories are decoded by the caller's tokenizer.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/show.h"

#define TOKENS_PER_LINE 8

/* ---- rows as JSON ---------------------------------------------------------------------------- */

static json_t *text_json(const char *text, size_t bytes)
{
    json_t *json = json_stringn(text, bytes);
    /* A model may end inside a character: show what is whole. */
    return json ? json : json_stringn(text, rt_utf8_valid(text, bytes));
}

static json_t *blob_json(const char *column, const void *data, size_t bytes)
{
    json_t *list = json_array();
    bool real = strcmp(column, "logprobs") == 0;
    for (size_t i = 0; i + 4 <= bytes; i += 4) {
        int32_t id = 0;
        float number = 0;
        memcpy(real ? (void *)&number : (void *)&id, (const char *)data + i, 4);
        json_array_append_new(list, real ? json_real((double)number) : json_integer(id));
    }
    return list;
}

static json_t *column_json(sqlite3_stmt *query, int column)
{
    switch (sqlite3_column_type(query, column)) {
    case SQLITE_INTEGER:
        return json_integer(sqlite3_column_int64(query, column));
    case SQLITE_FLOAT:
        return json_real(sqlite3_column_double(query, column));
    case SQLITE_TEXT:
        return text_json((const char *)sqlite3_column_text(query, column),
                         (size_t)sqlite3_column_bytes(query, column));
    case SQLITE_BLOB:
        return blob_json(sqlite3_column_name(query, column), sqlite3_column_blob(query, column),
                         (size_t)sqlite3_column_bytes(query, column));
    default:
        return json_null();
    }
}

/* All rows of a query as objects; NULL and *err on failure. `?1` is bound to id. */
json_t *rt_show_rows(const show_view *view, const char *sql, int64_t id, rt_error *err)
{
    sqlite3_stmt *query = NULL;
    json_t *rows = json_array();
    int code = sqlite3_prepare_v2(view->db, sql, -1, &query, NULL);
    if (code == SQLITE_OK && sqlite3_bind_parameter_count(query) > 0) {
        code = sqlite3_bind_int64(query, 1, id);
    }
    while (code == SQLITE_OK && (code = sqlite3_step(query)) == SQLITE_ROW) {
        json_t *row = json_object();
        for (int i = 0; i < sqlite3_column_count(query); i++) {
            json_object_set_new(row, sqlite3_column_name(query, i), column_json(query, i));
        }
        json_array_append_new(rows, row);
        code = SQLITE_OK;
    }
    sqlite3_finalize(query);
    if (code != SQLITE_DONE) {
        rt_fail(err, RT_ERR_IO,
                "cannot read the run store: %s; is run.db of another version, or "
                "damaged?",
                sqlite3_errmsg(view->db));
        json_decref(rows);
        return NULL;
    }
    return rows;
}

/* ---- tables as text -------------------------------------------------------------------------- */

static void cell_text(const json_t *value, char *text, size_t room)
{
    if (json_is_integer(value)) {
        snprintf(text, room, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    } else if (json_is_real(value)) {
        snprintf(text, room, "%.6g", json_real_value(value));
    } else if (json_is_string(value)) {
        snprintf(text, room, "%s", json_string_value(value));
        text[rt_utf8_valid(text, strlen(text))] = 0;
    } else {
        snprintf(text, room, "-");
    }
}

static void table_text(rt_buf *out, const json_t *rows)
{
    char text[512];
    int width[2 * RT_SHOW_RUNS_MAX + RT_COLUMNS_MAX] = {0};
    size_t i = 0;
    json_t *row = NULL;
    const json_t *first = json_array_get(rows, 0);
    if (!first) {
        rt_buf_addf(out, "nothing yet\n");
        return;
    }
    const char *key = NULL;
    json_t *value = NULL;
    json_array_foreach(rows, i, row)
    {
        int column = 0;
        json_object_foreach(row, key, value)
        {
            cell_text(value, text, sizeof text);
            width[column] = RT_MAX(width[column], (int)RT_MAX(strlen(text), strlen(key)));
            column++;
        }
    }
    int column = 0;
    json_object_foreach((json_t *)first, key, value)
    {
        rt_buf_addf(out, "%-*s  ", width[column++], key);
    }
    rt_buf_addf(out, "\n");
    json_array_foreach(rows, i, row)
    {
        column = 0;
        json_object_foreach(row, key, value)
        {
            cell_text(value, text, sizeof text);
            rt_buf_addf(out, json_is_number(value) ? "%*s  " : "%-*s  ", width[column++], text);
        }
        rt_buf_addf(out, "\n");
    }
}

void rt_show_json(rt_buf *out, const json_t *json)
{
    char *text = json_dumps(json, JSON_INDENT(2));
    rt_buf_addf(out, "%s\n", text ? text : "null");
    free(text);
}

void rt_show_table(const show_view *view, const json_t *rows)
{
    if (view->json) {
        rt_show_json(view->out, rows);
    } else {
        table_text(view->out, rows);
    }
}

/* A view that is one table. */
static int show_table(const show_view *view, const char *sql, int64_t id, rt_error *err)
{
    json_t *rows = rt_show_rows(view, sql, id, err);
    if (!rows) {
        return err->code;
    }
    rt_show_table(view, rows);
    json_decref(rows);
    return RT_OK;
}

/* ---- trajectories ---------------------------------------------------------------------------- */

static void decode_json(const show_view *view, const json_t *ids, size_t from, size_t to,
                        rt_buf *out)
{
    for (size_t i = from; view->decode && i < to; i++) {
        int32_t id = (int32_t)json_integer_value(json_array_get(ids, i));
        view->decode(view->context, &id, 1, out);
    }
}

/* Texts beside the numbers: the prompt, and the response cut into its thoughts. */
void rt_show_add_texts(const show_view *view, json_t *row)
{
    const json_t *ids = json_object_get(row, "response_ids"),
                 *prompt = json_object_get(row, "prompt_ids"),
                 *ends = json_object_get(row, "thought_ends");
    rt_buf text = {0};
    decode_json(view, prompt, 0, json_array_size(prompt), &text);
    json_object_set_new(row, "prompt", text_json(text.data ? text.data : "", text.bytes));
    json_t *thoughts = json_array();
    size_t from = 0, count = json_array_size(ends), tokens = json_array_size(ids);
    for (size_t i = 0; i <= count; i++) {
        size_t to = i < count ? (size_t)json_integer_value(json_array_get(ends, i)) : tokens;
        if (to > tokens || (i == count && from >= tokens)) {
            break;
        }
        rt_buf_clear(&text);
        decode_json(view, ids, from, to, &text);
        json_array_append_new(thoughts, text_json(text.data ? text.data : "", text.bytes));
        from = to;
    }
    json_object_set_new(row, "thoughts", thoughts);
    rt_buf_free(&text);
}

static void quote_token(const show_view *view, int32_t id, rt_buf *out)
{
    rt_buf token = {0};
    if (view->decode) {
        view->decode(view->context, &id, 1, &token);
    }
    rt_buf_addf(out, "%d", id);
    rt_buf_add(out, "\"", 1);
    for (size_t i = 0; i < token.bytes; i++) {
        unsigned char byte = (unsigned char)token.data[i];
        if (byte == '\n') {
            rt_buf_addf(out, "\\n");
        } else if (byte < 0x20 || byte >= 0x7f) {
            rt_buf_addf(out, "\\x%02x", byte);
        } else {
            rt_buf_add(out, &token.data[i], 1);
        }
    }
    rt_buf_add(out, "\"", 1);
    rt_buf_free(&token);
}

static void tokens_text(const show_view *view, const json_t *row)
{
    const json_t *ids = json_object_get(row, "response_ids");
    const json_t *logp = json_object_get(row, "logprobs");
    rt_buf_addf(view->out, "\ntokens with log-probabilities:\n");
    for (size_t i = 0; i < json_array_size(ids); i++) {
        rt_buf_addf(view->out, i % TOKENS_PER_LINE ? "  " : "%5zu  ", i);
        quote_token(view, (int32_t)json_integer_value(json_array_get(ids, i)), view->out);
        rt_buf_addf(view->out, " %.4f", json_real_value(json_array_get(logp, i)));
        rt_buf_addf(view->out, (i + 1) % TOKENS_PER_LINE ? "" : "\n");
    }
    rt_buf_addf(view->out, json_array_size(ids) % TOKENS_PER_LINE ? "\n" : "");
}

static void trajectory_text(const show_view *view, const json_t *row, bool tokens)
{
    static const char *const facts[] = {"step",   "problem_id", "kind",      "worker", "version",
                                        "reward", "grade",      "advantage", "end",    "fate"};
    char text[512];
    cell_text(json_object_get(row, "id"), text, sizeof text);
    rt_buf_addf(view->out, "trajectory %s:", text);
    for (size_t i = 0; i < RT_COUNT(facts); i++) {
        cell_text(json_object_get(row, facts[i]), text, sizeof text);
        rt_buf_addf(view->out, "%s %s %s", i ? "," : "", facts[i], text);
    }
    rt_buf_addf(view->out, "\n");
    const json_t *thoughts = json_object_get(row, "thoughts");
    size_t marked = json_array_size(json_object_get(row, "thought_ends"));
    for (size_t i = 0; i < json_array_size(thoughts); i++) {
        const json_t *thought = json_array_get(thoughts, i);
        if (i < marked) {
            rt_buf_addf(view->out, "[thought %zu] ", i + 1);
        } else {
            rt_buf_addf(view->out, marked ? "[rest] " : "");
        }
        rt_buf_add(view->out, json_string_value(thought), json_string_length(thought));
        rt_buf_addf(view->out, "\n");
    }
    if (tokens) {
        tokens_text(view, row);
    }
}

static int show_trajectory(const show_view *view, int64_t id, rt_error *err)
{
    json_t *rows = rt_show_rows(view, "SELECT * FROM trajectories WHERE id = ?1", id, err);
    if (!rows) {
        return err->code;
    }
    json_t *row = json_array_get(rows, 0);
    int rc = RT_OK;
    if (!row) {
        rc = rt_fail(err, RT_ERR_INPUT,
                     "there is no trajectory %" PRId64 " in this run; `step N` lists "
                     "the ids of a step",
                     id);
    } else {
        rt_show_add_texts(view, row);
        if (view->json) {
            rt_show_json(view->out, row);
        } else {
            rt_buf_addf(view->out, "prompt:\n%s\n\n",
                        json_string_value(json_object_get(row, "prompt")));
            trajectory_text(view, row, true);
        }
    }
    json_decref(rows);
    return rc;
}

static int show_problem(const show_view *view, int64_t id, rt_error *err)
{
    json_t *problems = rt_show_rows(view, "SELECT * FROM problems WHERE id = ?1", id, err);
    json_t *rows = problems ? rt_show_rows(view,
                                      "SELECT * FROM trajectories WHERE problem_id = ?1 "
                                      "ORDER BY step, id",
                                      id, err)
                            : NULL;
    if (!rows || !problems) {
        json_decref(problems);
        return err->code;
    }
    json_t *problem = json_array_get(problems, 0), *row = NULL;
    size_t i = 0;
    int rc = RT_OK;
    json_array_foreach(rows, i, row)
    {
        rt_show_add_texts(view, row);
    }
    if (!problem) {
        rc = rt_fail(err, RT_ERR_INPUT,
                     "there is no problem %" PRId64 " in this run; `step N` lists "
                     "the ids of a step",
                     id);
    } else if (view->json) {
        json_t *resets = rt_show_problem_resets(view, id, err);
        rc = resets ? RT_OK : err->code;
        json_object_set(problem, "trajectories", rows);
        json_object_set_new(problem, "resets", resets);
        rt_show_json(view->out, problem);
    } else {
        rt_buf_addf(view->out, "problem %" PRId64 " of %s, answer %s:\n%s\n\n", id,
                    json_string_value(json_object_get(problem, "task")),
                    json_string_value(json_object_get(problem, "gold")),
                    json_string_value(json_object_get(problem, "prompt")));
        json_array_foreach(rows, i, row)
        {
            trajectory_text(view, row, false);
            rt_buf_addf(view->out, "\n");
        }
        json_t *resets = rt_show_problem_resets(view, id, err);
        rc = resets ? RT_OK : err->code;
        json_decref(resets);
    }
    json_decref(rows);
    json_decref(problems);
    return rc;
}

/* ---- steps, and the overview ----------------------------------------------------------------- */

int rt_show_parts(const show_view *view, const char *const *names, const char *const *sql,
                  int count, int64_t id, rt_error *err)
{
    json_t *whole = json_object();
    int rc = RT_OK;
    for (int i = 0; i < count && !rc; i++) {
        json_t *rows = rt_show_rows(view, sql[i], id, err);
        rc = rows ? RT_OK : err->code;
        if (rows) {
            json_object_set_new(whole, names[i], rows);
        }
    }
    if (!rc && view->json) {
        rt_show_json(view->out, whole);
    } else if (!rc) {
        for (int i = 0; i < count; i++) {
            rt_buf_addf(view->out, "%s%s\n", i ? "\n" : "", names[i]);
            table_text(view->out, json_object_get(whole, names[i]));
        }
    }
    json_decref(whole);
    return rc;
}

#define METRIC(name, as) \
    "(SELECT value FROM metrics m WHERE m.step = s.step AND m.name = '" name "') AS " as ", "

static const char steps_sql[] =
    "SELECT s.step, s.version, " METRIC("reward.mean", "reward") METRIC("accuracy", "accuracy")
        METRIC("degenerate", "degenerate") METRIC("response.tokens", "length")
            METRIC("entropy", "entropy") "s.loss, s.grad_norm, s.tokens, s.seconds, "
                                         "substr(s.weights_hash, 1, 12) AS weights "
                                         "FROM steps s ORDER BY s.step";

static int show_step(const show_view *view, int64_t step, rt_error *err)
{
    static const char *const names[] = {"metrics", "trajectories"};
    static const char *const sql[] = {
        "SELECT name, value FROM metrics WHERE step = ?1 ORDER BY name",
        "SELECT id, problem_id, kind, worker, version, reward, grade, advantage, "
        "length(response_ids) / 4 AS tokens, length(thought_ends) / 4 AS thoughts, \"end\", fate "
        "FROM trajectories WHERE step = ?1 ORDER BY id"};
    return rt_show_parts(view, names, sql, 2, step, err);
}

static int show_overview(const show_view *view, rt_error *err)
{
    static const char *const names[] = {"run", "last step", "evaluations", "leases", "processes"};
    static const char *const sql[] = {
        "SELECT key, value FROM run ORDER BY key",
        "SELECT name, value FROM metrics WHERE step = (SELECT max(step) FROM steps) AND "
        "name NOT LIKE 'eval.%' ORDER BY name",
        "SELECT step AS version, name, value FROM metrics WHERE name LIKE 'eval.%.accuracy' "
        "ORDER BY step, name",
        "SELECT coalesce(fate, 'open') AS fate, count(*) AS leases FROM leases GROUP BY 1 "
        "ORDER BY 1",
        "SELECT role, count(DISTINCT id) AS processes, count(*) AS starts FROM workers "
        "GROUP BY role "
        "ORDER BY role"};
    return rt_show_parts(view, names, sql, 5, 0, err);
}

/* ---- which view ------------------------------------------------------------------------------ */

static int show(const show_view *view, const char *what, const char *id_text, rt_error *err)
{
    if (what[0] == 0) {
        return show_overview(view, err);
    } else if (strcmp(what, "steps") == 0) {
        return show_table(view, steps_sql, 0, err);
    } else if (strcmp(what, "tasks") == 0) {
        return rt_show_tasks(view, err);
    } else if (strcmp(what, "resets") == 0) {
        return rt_show_resets(view, err);
    } else if (strcmp(what, "debates") == 0) {
        return rt_show_debates(view, err);
    } else if (strcmp(what, "workers") == 0) {
        return show_table(view,
                          "SELECT id, role, host, datetime(joined, 'unixepoch') AS joined, "
                          "datetime(\"left\", 'unixepoch') AS \"left\", why FROM workers w "
                          "ORDER BY w.joined, id",
                          0, err);
    } else if (strcmp(what, "events") == 0) {
        return show_table(view,
                          "SELECT strftime('%Y-%m-%d %H:%M:%f', time, 'unixepoch') AS time, "
                          "level, role, text FROM events ORDER BY rowid",
                          0, err);
    }
    bool one = strcmp(what, "step") == 0 || strcmp(what, "problem") == 0 ||
               strcmp(what, "trajectory") == 0 || strcmp(what, "reset") == 0 ||
               strcmp(what, "debate") == 0;
    char *end = NULL;
    int64_t id = one && id_text ? strtoll(id_text, &end, 10) : 0;
    if (!one) {
        return rt_fail(err, RT_ERR_USAGE,
                       "there is no view %s; choose steps, step N, tasks, problem ID, trajectory ID, "
                       "resets, reset ID, debates, debate ID, workers, events or report",
                       what);
    } else if (!id_text || end == id_text || *end) {
        return rt_fail(err, RT_ERR_USAGE, "%s needs a number: %s %s", what, what,
                       strcmp(what, "step") == 0 ? "N" : "ID");
    } else if (strcmp(what, "step") == 0) {
        return show_step(view, id, err);
    } else if (what[0] == 'd') {
        return rt_show_debate(view, id, err);
    } else if (what[0] == 'r') {
        return rt_show_reset(view, id, err);
    }
    return what[0] == 'p' ? show_problem(view, id, err) : show_trajectory(view, id, err);
}

int rt_store_show(const char *dir, const char *const *what, int what_count, bool json,
                  rt_decode_fn *decode, void *context, rt_buf *out, rt_error *err)
{
    rt_error local = {0};
    show_view view = {.decode = decode, .context = context, .out = out, .json = json};
    int rc = rt_store_reading(dir, &view.db, &local);
    if (!rc) {
        const char *name = what_count > 0 ? what[0] : "", *more = what_count > 1 ? what[1] : NULL;
        rc = strcmp(name, "report") == 0 ? rt_show_report(&view, dir, more ? more : "svg", &local)
                                         : show(&view, name, more, &local);
    }
    sqlite3_close(view.db);
    if (rc && err) {
        *err = local;
    }
    return rc;
}
