/* store_show_debate: a debate as its transcript: who said what after reading whom, the vote, what
 * was made of it. */
#include <inttypes.h>
#include <string.h>

#include "coordinator/show.h"

static int64_t integer(const json_t *row, const char *key)
{
    return json_integer_value(json_object_get(row, key));
}

static const char *text(const json_t *row, const char *key, const char *none)
{
    const char *found = json_string_value(json_object_get(row, key));
    return found ? found : none;
}

static json_t *first_row(const show_view *view, const char *sql, int64_t id, rt_error *err)
{
    json_t *rows = rt_show_rows(view, sql, id, err);
    json_t *row = rows ? json_array_get(rows, 0) : NULL;
    json_incref(row);
    json_decref(rows);
    return row;
}

/* The row with its turns (each with its trajectory's texts) and records; NULL and *err: none. */
static json_t *complete(const show_view *view, int64_t id, rt_error *err)
{
    json_t *debate = first_row(view, "SELECT * FROM debates WHERE id = ?1", id, err);
    if (!debate) {
        if (!err->code) {
            rt_fail(err, RT_ERR_INPUT, "there is no debate %" PRId64 " in this run; `debates` lists "
                    "them", id);
        }
        return NULL;
    }
    static const char *const names[] = {"problem", "turns", "records"};
    static const char *const sql[] = {
        "SELECT p.* FROM problems p JOIN debates d ON d.problem_id = p.id WHERE d.id = ?1",
        "SELECT t.round, t.agent, t.answer, t.quoted, t.cut, t.anew, t.summary, j.* FROM turns t "
        "JOIN trajectories j ON j.id = t.trajectory_id WHERE t.debate_id = ?1 "
        "ORDER BY t.round, t.agent",
        "SELECT * FROM records WHERE debate_id = ?1 ORDER BY id"};
    for (size_t i = 0; i < RT_COUNT(names); i++) {
        json_t *rows = rt_show_rows(view, sql[i], id, err), *row = NULL;
        size_t n = 0;
        if (!rows) {
            json_decref(debate);
            return NULL;
        }
        json_array_foreach(rows, n, row)
        {
            if (i == 1) {
                rt_show_add_texts(view, row);
            }
        }
        json_object_set_new(debate, names[i], rows);
    }
    return debate;
}

static void add_indented(rt_buf *out, const char *string)
{
    for (; *string; string++) {
        rt_buf_add(out, string, 1);
        if (*string == '\n' && string[1]) {
            rt_buf_addf(out, "    ");
        }
    }
}

static void indented(rt_buf *out, const char *string)
{
    rt_buf_addf(out, "    ");
    add_indented(out, string);
    rt_buf_addf(out, "\n");
}

static void response_text(rt_buf *out, const json_t *turn)
{
    json_t *thought = NULL;
    size_t i = 0;
    rt_buf_addf(out, "    ");
    json_array_foreach(json_object_get(turn, "thoughts"), i, thought)
    {
        add_indented(out, json_string_value(thought) ? json_string_value(thought) : "");
    }
    rt_buf_addf(out, "\n");
}

/* The answer of the same agent one round before; NULL: none, or unparseable. */
static const char *answer_before(const json_t *turns, const json_t *turn)
{
    json_t *row = NULL;
    size_t i = 0;
    json_array_foreach(turns, i, row)
    {
        if (integer(row, "agent") == integer(turn, "agent") &&
            integer(row, "round") == integer(turn, "round") - 1) {
            return text(row, "answer", NULL);
        }
    }
    return NULL;
}

static void turn_text(rt_buf *out, const json_t *turns, const json_t *turn)
{
    const char *answer = text(turn, "answer", NULL), *before = answer_before(turns, turn);
    const char *quoted = text(turn, "quoted", "");
    rt_buf_addf(out, "round %" PRId64 ", agent %" PRId64, integer(turn, "round") + 1,
                integer(turn, "agent"));
    if (*quoted) {
        rt_buf_addf(out, ", read agents %s", quoted);
    }
    if (integer(turn, "cut") > 0) {
        rt_buf_addf(out, " (%" PRId64 " cut)", integer(turn, "cut"));
    }
    rt_buf_addf(out, ": answer %s, %s", answer ? answer : "(none)", text(turn, "grade", "?"));
    if (integer(turn, "round") > 0 && strcmp(answer ? answer : "", before ? before : "") != 0) {
        rt_buf_addf(out, ", switched from %s", before ? before : "(none)");
    }
    rt_buf_addf(out, "\n");
    response_text(out, turn);
    if (*text(turn, "summary", "")) {
        rt_buf_addf(out, "    in short: %s\n", text(turn, "summary", ""));
    }
}

static void record_text(rt_buf *out, const json_t *record)
{
    const char *kind = text(record, "kind", "?");
    rt_buf_addf(out, "record %" PRId64 ": %s of agent %" PRId64, integer(record, "id"), kind,
                integer(record, "agent"));
    if (json_is_integer(json_object_get(record, "chosen"))) {
        rt_buf_addf(out, ", text %" PRId64, integer(record, "chosen"));
    } else {
        rt_buf_addf(out, ", answers sampled anew");
    }
    if (json_is_integer(json_object_get(record, "rejected"))) {
        rt_buf_addf(out, " preferred to %" PRId64, integer(record, "rejected"));
    } else if (strcmp(kind, "kto") == 0) {
        rt_buf_addf(out, ", %s", integer(record, "label") ? "desirable" : "undesirable");
    }
    if (json_is_real(json_object_get(record, "reward"))) {
        rt_buf_addf(out, ", reward %g", json_real_value(json_object_get(record, "reward")));
    }
    rt_buf_addf(out, "\n");
}

static void debate_text(rt_buf *out, const json_t *debate)
{
    const json_t *turns = json_object_get(debate, "turns"), *row = NULL;
    const json_t *problem = json_array_get(json_object_get(debate, "problem"), 0);
    size_t i = 0;
    rt_buf_addf(out,
                "debate %" PRId64 ", step %" PRId64 ": problem %" PRId64 " of %s, gold answer %s\n",
                integer(debate, "id"), integer(debate, "step"), integer(debate, "problem_id"),
                text(problem, "task", "?"), text(problem, "gold", "?"));
    indented(out, text(problem, "prompt", ""));
    json_array_foreach(turns, i, row)
    {
        turn_text(out, turns, row);
    }
    rt_buf_addf(out, "vote: %s by %" PRId64 " of %" PRId64 " agents; label %s (%s)%s\n",
                text(debate, "consensus", "(none)"), integer(debate, "votes"),
                integer(debate, "agents"), text(debate, "label", "(none)"),
                text(debate, "source", "?"),
                integer(debate, "enough") ? "" : ", not enough for a record");
    json_array_foreach(json_object_get(debate, "records"), i, row)
    {
        record_text(out, row);
    }
}

int rt_show_debate(const show_view *view, int64_t id, rt_error *err)
{
    json_t *debate = complete(view, id, err);
    if (!debate) {
        return err->code;
    }
    if (view->json) {
        rt_show_json(view->out, debate);
    } else {
        debate_text(view->out, debate);
    }
    json_decref(debate);
    return RT_OK;
}

int rt_show_debates(const show_view *view, rt_error *err)
{
    static const char *const names[] = {"by step", "agreement", "records", "newest"};
    static const char *const sql[] = {
        "SELECT step, count(*) AS debates, round(avg(votes * 1.0 / agents), 4) AS agreement, "
        "sum(consensus IS NULL) AS without, sum(enough) AS with_label FROM debates "
        "WHERE id < 4611686018427387904 GROUP BY step",
        "SELECT votes, count(*) AS debates FROM debates WHERE id < 4611686018427387904 "
        "GROUP BY votes",
        "SELECT kind, label, count(*) AS records FROM records GROUP BY 1, 2",
        "SELECT id, step, problem_id, consensus, votes, label, source FROM debates "
        "WHERE id < 4611686018427387904 ORDER BY id DESC LIMIT 20"};
    return rt_show_parts(view, names, sql, RT_COUNT(names), 0, err);
}
