/* What `show tasks`, `show metrics` and `show report` say of a run.db whose rows are known. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "coordinator/internal.h"

static void make_run(const char *dir, const char *rows)
{
    rt_error err;
    sqlite3 *db = NULL;
    char *path = rt_format("%s/run.db", dir);
    assert_int_equal(rt_mkdirs(dir, &err), 0);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(rt_store_schema(db, &err), 0);
    assert_int_equal(sqlite3_exec(db, rows, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    rt_free(path);
}

/* Two tasks, in the order of their ids; one was evaluated three times, the other once; the second
 * one's name could be taken for SQL, a pattern or XML. */
static const char first_rows[] =
    "INSERT INTO problems VALUES (281474976710656, '<a/b>%', 'p', 'g'), (0, 'chain', 'p', 'g');"
    "INSERT INTO metrics VALUES (0, 'task.chain.reward', 0.25), (1, 'task.chain.reward', 0.5),"
    "(1, 'task.chain.accuracy', 0.75), (1, 'task.chain.degenerate', 0.125), (1, "
    "'grad/chain/share', 0.875),"
    "(0, 'task.<a/b>%.reward', 1), (0, 'eval/chain/accuracy', 0.25), (2, 'eval/chain/accuracy', "
    "0.875),"
    "(4, 'eval/chain/accuracy', 0.75), (4, 'eval/chain/low', 0.5), (4, 'eval/chain/high', 0.9375),"
    "(2, 'eval/chain/low', 0.625), (2, 'eval/chain/high', 1), (4, 'eval/<a/b>%/accuracy', 0.5),"
    "(0, 'loss', 2), (1, 'loss', 1), (0, 'seconds', 3), (1, 'seconds', 4);"
    "INSERT INTO leases VALUES (1, 'base', 'actor-0', 0, 1, 2, 'trained'), (2, 'base', 'actor-0', "
    "1, 1, 2, "
    "'cancelled');"
    "INSERT INTO workers VALUES ('actor-0', 1, 'actor', 'here', 1, 2, 'a < b');";
static const char second_rows[] = "INSERT INTO metrics VALUES (0, 'loss', 5);";

static json_t *shown(const char *dir, const char *what)
{
    rt_buf out = {0};
    rt_error err;
    if (rt_store_show(dir, &what, 1, true, NULL, NULL, &out, &err))
        fail_msg("%s", err.message);
    json_t *json = json_loadb(out.data, out.bytes, 0, NULL);
    rt_buf_free(&out);
    assert_non_null(json);
    return json;
}

static double number(const json_t *row, const char *key)
{
    const json_t *value = json_object_get(row, key);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

static void tasks(void **state)
{
    char **dirs = *state;
    json_t *table = shown(dirs[0], "tasks");
    assert_int_equal(json_array_size(table), 2);
    const json_t *chain = json_array_get(table, 0), *other = json_array_get(table, 1);
    assert_string_equal(json_string_value(json_object_get(chain, "task")), "chain");
    assert_true(number(chain, "reward") == 0.5 && number(chain, "accuracy") == 0.75);
    assert_true(number(chain, "degenerate") == 0.125 && number(chain, "grad_share") == 0.875);
    assert_true(number(chain, "eval") == 0.75 && number(chain, "eval_version") == 4);
    assert_true(number(chain, "eval_low") == 0.5 && number(chain, "eval_high") == 0.9375);
    assert_true(number(chain, "gain") == 0.5 && number(chain, "gain_last") == -0.125);
    assert_string_equal(json_string_value(json_object_get(other, "task")), "<a/b>%");
    assert_true(number(other, "reward") == 1 && number(other, "eval") == 0.5);
    const char *const unknown[] = {"accuracy", "grad_share", "eval_low", "gain", "gain_last"};
    for (size_t i = 0; i < RT_COUNT(unknown); i++)
        assert_true(json_is_null(json_object_get(other, unknown[i])));
    json_decref(table);
}

/* Windows shrink to what there is: 1, 2, 9 make one step on each side; 21 squares and more, ten. */
static void gain_of_rewards(void **state)
{
    (void)state;
    json_t *known = json_object(), *names = json_pack("[s]", "a");
    const double first[] = {1, 2, 9};
    for (int i = 0; i < 3; i++) {
        json_t *table = rt_tasks_table(known, names);
        assert_true(json_is_null(json_object_get(json_array_get(table, 0), "reward_gain")));
        json_decref(table);
        rt_tasks_note(known, i, "task.a.reward", first[i]);
    }
    json_t *table = rt_tasks_table(known, names);
    assert_true(number(json_array_get(table, 0), "reward_gain") == 8);
    json_decref(table);
    for (int i = 0; i < 40; i++)
        rt_tasks_note(known, 3 + i, "task.a.reward", i * i);
    table = rt_tasks_table(known, names);
    /* steps 19…39: mean of squares of 30…39 less that of 19…28 */
    assert_true(number(json_array_get(table, 0), "reward_gain") == 638);
    json_decref(table);
    json_decref(names);
    json_decref(known);
}

static json_t *metric(const json_t *whole, const char *name, size_t run)
{
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(json_object_get(whole, "metrics"), i, row)
    {
        if (strcmp(json_string_value(json_object_get(row, "name")), name) == 0)
            return json_array_get(json_object_get(row, "runs"), run);
    }
    fail_msg("no metric %s", name);
    return NULL;
}

static void metrics_of_two_runs(void **state)
{
    char **dirs = *state;
    const char *const both[] = {dirs[0], dirs[1]};
    rt_buf out = {0};
    rt_error err;
    assert_int_equal(rt_store_metrics(both, 2, NULL, true, &out, &err), 0);
    json_t *whole = json_loadb(out.data, out.bytes, 0, NULL);
    const json_t *accuracy = metric(whole, "eval/chain/accuracy", 0);
    const json_t *best = json_object_get(accuracy, "best"),
                 *last = json_object_get(accuracy, "last");
    assert_true(number(best, "value") == 0.875 && number(best, "step") == 2 &&
                number(best, "high") == 1);
    assert_true(number(last, "value") == 0.75 && number(last, "step") == 4 &&
                number(last, "low") == 0.5);
    assert_true(number(json_object_get(metric(whole, "seconds", 0), "best"), "value") ==
                3); /* less is better */
    assert_true(json_is_null(json_object_get(metric(whole, "loss", 0), "best")));
    assert_true(number(json_object_get(metric(whole, "loss", 0), "last"), "value") == 1);
    assert_true(number(json_object_get(metric(whole, "loss", 1), "last"), "value") == 5);
    assert_true(json_is_null(json_object_get(metric(whole, "seconds", 1), "last")));
    json_decref(whole);
    rt_buf_clear(&out);
    assert_int_equal(rt_store_metrics(both, 2, "lo*, seconds", true, &out, &err), 0);
    whole = json_loadb(out.data, out.bytes, 0, NULL);
    assert_int_equal(json_array_size(json_object_get(whole, "metrics")), 2);
    json_decref(whole);
    rt_buf_clear(&out);
    assert_int_equal(rt_store_metrics(both, 2, "loss", false, &out, &err), 0);
    assert_non_null(strstr(out.data, "loss"));
    assert_int_equal(rt_store_metrics(both, 2, "none*", false, &out, &err), RT_ERR_INPUT);
    rt_buf_free(&out);
}

static int count_of(const char *text, const char *word)
{
    int count = 0;
    for (const char *at = text; (at = strstr(at, word)); at += strlen(word))
        count++;
    return count;
}

static void reports(void **state)
{
    char **dirs = *state;
    static const char *const forms[] = {"svg", "html"};
    for (int i = 0; i < 4; i++) { /* of the second run hardly anything is known */
        const char *const what[] = {"report", forms[i / 2]};
        rt_buf out = {0};
        rt_error err;
        if (rt_store_show(dirs[i % 2], what, 2, false, NULL, NULL, &out, &err))
            fail_msg("%s", err.message);
        const char *const closed[] = {"svg", "text", "g", "title", "html", "body"};
        for (size_t j = 0; j < RT_COUNT(closed); j++) {
            char open[16], open_more[16], close[16];
            snprintf(open, sizeof open, "<%s>", closed[j]);
            snprintf(open_more, sizeof open_more, "<%s ", closed[j]);
            snprintf(close, sizeof close, "</%s>", closed[j]);
            assert_int_equal(count_of(out.data, open) + count_of(out.data, open_more),
                             count_of(out.data, close));
        }
        /* nothing that a viewer would have to fetch or run */
        assert_null(strstr(out.data, "href"));
        assert_null(strstr(out.data, "src="));
        assert_null(strstr(out.data, "<script"));
        assert_null(strstr(out.data, "url("));
        if (i % 2 == 0) {
            assert_non_null(strstr(out.data, ">held-out problems by task, 95 % interval</text>"));
            assert_non_null(strstr(out.data, ">&lt;a/b&gt;%</text>"));
            assert_non_null(strstr(out.data, "a &lt; b"));
            assert_null(strstr(out.data, "<a/b>"));
        }
        assert_non_null(strstr(out.data, ">loss</text>"));
        rt_buf_free(&out);
    }
}

static int make_runs(void **state)
{
    char folder[] = "/tmp/retake-view-XXXXXX";
    char **dirs = rt_alloc(3 * sizeof *dirs);
    *state = dirs;
    if (!mkdtemp(folder))
        return -1;
    dirs[0] = rt_format("%s/first", folder);
    dirs[1] = rt_format("%s/second", folder);
    dirs[2] = rt_strdup(folder);
    make_run(dirs[0], first_rows);
    make_run(dirs[1], second_rows);
    return 0;
}

static int remove_runs(void **state)
{
    char **dirs = *state;
    int rc = rt_remove_tree(dirs[2], NULL);
    for (int i = 0; i < 3; i++)
        rt_free(dirs[i]);
    rt_free(dirs);
    return rc;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gain_of_rewards), cmocka_unit_test(tasks),
        cmocka_unit_test(metrics_of_two_runs),
        cmocka_unit_test(reports),
    };
    return cmocka_run_group_tests(tests, make_runs, remove_runs);
}
