/*
 * store_show_reset: resets as a tree: the thoughts of the rollout, where it was gone back into, and
 * what each continuation made of it.
 */
#include <inttypes.h>
#include <string.h>

#include "coordinator/show.h"

static int64_t integer(const json_t *row, const char *key)
{
    return json_integer_value(json_object_get(row, key));
}

static const char *text(const json_t *row, const char *key)
{
    const char *found = json_string_value(json_object_get(row, key));
    return found ? found : "";
}

static void add_line(rt_buf *out, const char *lead, const json_t *thought)
{
    const char *string = json_string_value(thought);
    rt_buf_addf(out, "%s", lead);
    for (; string && *string; string++) {
        rt_buf_add(out, *string == '\n' ? " " : string, 1);
    }
    rt_buf_addf(out, "\n");
}

/* Known: the task knows the first wrong thought of the rollout. Clean: the reset lies at or before it. */
int rt_show_resets(const show_view *view, rt_error *err)
{
    static const char *const names[] = {"resets", "how good the choice was",
                                        "named thought less first wrong one",
                                        "position in the rollout", "fallbacks"};
    static const char *const sql[] = {
        "SELECT chosen_by, count(*) AS resets, sum(thought = 1) AS first_thought, "
        "round(avg(thought), 2) AS thought, sum(visits) AS continuations, "
        "round(1.0 * sum(successes) / sum(visits), 4) AS success, "
        "round(avg(successes > 0), 4) AS pass, "
        "round(avg(successes > 0 AND successes < visits), 4) AS mixed "
        "FROM resets GROUP BY chosen_by",
        "SELECT chosen_by, count(*) AS known, round(avg(thought = oracle), 4) AS exact, "
        "round(avg(thought <= oracle), 4) AS clean, "
        "round(avg(CASE WHEN thought <= oracle THEN successes > 0 END), 4) AS pass_clean, "
        "round(avg(CASE WHEN thought > oracle THEN successes > 0 END), 4) AS pass_erroneous "
        "FROM resets WHERE oracle > 0 GROUP BY chosen_by",
        "SELECT chosen_by, max(-4, min(4, thought - oracle)) AS deviation, count(*) AS resets, "
        "round(1.0 * sum(successes) / sum(visits), 4) AS success "
        "FROM resets WHERE oracle > 0 GROUP BY 1, 2",
        "SELECT r.chosen_by, "
        "(10 * (r.thought - 1) / max(1, length(t.thought_ends) / 4)) * 10 || ' %' AS position, "
        "count(*) AS resets, round(1.0 * sum(r.successes) / sum(r.visits), 4) AS success "
        "FROM resets r JOIN trajectories t ON t.id = r.trajectory_id GROUP BY 1, 2 "
        "ORDER BY 1, CAST(position AS INTEGER)",
        "SELECT fallback, count(*) AS resets FROM resets WHERE fallback IS NOT NULL GROUP BY 1"};
    return rt_show_parts(view, names, sql, 5, 0, err);
}

/* Row of a reset with its parent, its continuations and, if there was one, its localization. */
static int complete(const show_view *view, json_t *reset, rt_error *err)
{
    static const struct {
        const char *name, *sql, *key;
    } parts[] = {
        {"parent", "SELECT * FROM trajectories WHERE id = ?1", "trajectory_id"},
        {"continuations", "SELECT * FROM trajectories WHERE reset_id = ?1 ORDER BY id", "id"},
        {"localization", "SELECT * FROM localizations WHERE trajectory_id = ?1", "trajectory_id"},
    };
    for (size_t i = 0; i < RT_COUNT(parts); i++) {
        json_t *rows = rt_show_rows(view, parts[i].sql, integer(reset, parts[i].key), err), *row;
        size_t n = 0;
        if (!rows) {
            return err->code;
        }
        json_array_foreach(rows, n, row)
        {
            if (i < 2) {
                rt_show_add_texts(view, row);
            }
        }
        if (i == 1) {
            json_object_set(reset, parts[i].name, rows);
        } else {
            json_t *first = json_array_get(rows, 0);
            json_object_set_new(reset, parts[i].name, first ? json_incref(first) : json_null());
        }
        json_decref(rows);
    }
    return RT_OK;
}

/* Advantage over trained tokens: what each of them is pushed by. */
static void continuation_text(rt_buf *out, const json_t *row, size_t from, bool last)
{
    const json_t *thoughts = json_object_get(row, "thoughts");
    double advantage = json_real_value(json_object_get(row, "advantage"));
    int64_t tokens = (int64_t)json_array_size(json_object_get(row, "response_ids")) -
                     integer(row, "suffix_start");
    rt_buf_addf(out,
                "  %s %" PRId64 ": %s, reward %g, advantage %+.4f, %" PRId64
                " tokens trained, %+.5f a token\n",
                last ? "`-" : "|-", integer(row, "id"), text(row, "grade"),
                json_number_value(json_object_get(row, "reward")), advantage, tokens,
                tokens > 0 ? advantage / (double)tokens : 0);
    for (size_t i = from; i < json_array_size(thoughts); i++) {
        char lead[48];
        snprintf(lead, sizeof lead, "  %s   [%zu] ", last ? " " : "|", i + 1);
        add_line(out, lead, json_array_get(thoughts, i));
    }
}

static void reset_text(rt_buf *out, const json_t *reset)
{
    const json_t *parent = json_object_get(reset, "parent");
    const json_t *thoughts = json_object_get(parent, "thoughts");
    const json_t *oracle = json_object_get(reset, "oracle");
    size_t thought = (size_t)integer(reset, "thought");
    rt_buf_addf(out,
                "reset %" PRId64 ": rollout %" PRId64 " (%s) at thought %zu, chosen by %s, "
                "%" PRId64 " of %" PRId64 " continuations succeed\n",
                integer(reset, "id"), integer(reset, "trajectory_id"), text(parent, "grade"),
                thought, text(reset, "chosen_by"), integer(reset, "successes"),
                integer(reset, "visits"));
    if (json_is_integer(oracle)) {
        rt_buf_addf(out, "first wrong thought: %" JSON_INTEGER_FORMAT "\n",
                    json_integer_value(oracle));
    }
    if (*text(reset, "fallback")) {
        rt_buf_addf(out, "fallback: %s\n", text(reset, "fallback"));
    }
    if (*text(reset, "why")) {
        rt_buf_addf(out, "why: %s\n", text(reset, "why"));
    }
    for (size_t i = 0; i < json_array_size(thoughts); i++) {
        char lead[32];
        snprintf(lead, sizeof lead, "%s[%zu] ", i + 1 == thought ? "> " : "  ", i + 1);
        add_line(out, lead, json_array_get(thoughts, i));
    }
    const json_t *continuations = json_object_get(reset, "continuations");
    size_t count = json_array_size(continuations);
    for (size_t i = 0; i < count; i++) {
        continuation_text(out, json_array_get(continuations, i), thought > 0 ? thought - 1 : 0,
                          i + 1 == count);
    }
}

int rt_show_reset(const show_view *view, int64_t id, rt_error *err)
{
    json_t *rows = rt_show_rows(view, "SELECT * FROM resets WHERE id = ?1", id, err);
    if (!rows) {
        return err->code;
    }
    json_t *reset = json_array_get(rows, 0);
    int rc = reset ? complete(view, reset, err)
                   : rt_fail(err, RT_ERR_INPUT,
                             "there is no reset %" PRId64 " in this run; `problem ID` shows the "
                             "resets of a problem",
                             id);
    if (!rc && view->json) {
        rt_show_json(view->out, reset);
    } else if (!rc) {
        reset_text(view->out, reset);
    }
    json_decref(rows);
    return rc;
}

json_t *rt_show_problem_resets(const show_view *view, int64_t problem, rt_error *err)
{
    json_t *rows = rt_show_rows(
        view, "SELECT * FROM resets WHERE problem_id = ?1 ORDER BY step, id", problem, err);
    json_t *row = NULL;
    size_t i = 0;
    json_array_foreach(rows, i, row)
    {
        if (complete(view, row, err)) {
            json_decref(rows);
            return NULL;
        }
        if (!view->json) {
            reset_text(view->out, row);
            rt_buf_addf(view->out, "\n");
        }
    }
    return rows;
}
