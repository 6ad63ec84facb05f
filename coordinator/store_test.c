/* The run store: its documented form, what is written is read back, views, refusals of the disk. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "coordinator/internal.h"

typedef struct fixture {
    char dir[64];
    rt_store *store;
    rt_past past;
} fixture;

static void never_fails(void *context)
{
    (void)context;
}

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/rt-store-test-XXXXXX");
    *state = f;
    return mkdtemp(f->dir) ? 0 : -1;
}

static int teardown(void **state)
{
    fixture *f = *state;
    rt_store_close(&f->store, NULL);
    rt_past_free(&f->past);
    rt_remove_tree(f->dir, NULL);
    free(f);
    return 0;
}

static void reopen(fixture *f, bool start)
{
    rt_error err = {0};
    assert_int_equal(rt_store_close(&f->store, &err), 0);
    rt_past_free(&f->past);
    if (rt_store_open(&f->store, f->dir, &f->past, &err)) {
        fail_msg("%s", err.message);
    }
    if (start) {
        assert_int_equal(rt_store_start(f->store, never_fails, NULL, &err), 0);
    }
}

/* Typed again from the description of the run store, so that a change of the schema shows. */
static const char *const documented[][2] = {
    {"problems", "id,task,prompt,gold"},
    {"trajectories",
     "id,problem_id,step,group_id,parent_id,reset_id,kind,worker,version,prompt_ids,"
     "response_ids,logprobs,thought_ends,suffix_start,reward,grade,advantage,end,fate"},
    {"groups", "id,problem_id,step,kind,plan"},
    {"resets", "id,trajectory_id,thought,tokens,chosen_by,visits,successes,step,problem_id,prefix,"
               "oracle,fallback,gain,why"},
    {"localizations", "id,trajectory_id,output,parsed,oracle"},
    {"debates", "id,problem_id,step,agents,rounds,consensus,votes,label,source,enough"},
    {"turns", "debate_id,round,agent,trajectory_id,answer,quoted,cut,anew,summary"},
    {"records", "id,debate_id,kind,agent,chosen,rejected,label,reward,prompt_ids"},
    {"metrics", "step,name,value"},
    {"steps", "step,version,weights_hash,loss,grad_norm,tokens,seconds"},
    {"workers", "id,incarnation,role,host,joined,left,why"},
    {"leases", "id,kind,worker,attempt,issued,ended,fate"},
    {"events", "time,level,role,text"},
};

static void the_form_is_the_documented_one(void **state)
{
    fixture *f = *state;
    reopen(f, false);
    sqlite3 *db = rt_store_database(f->store);
    for (size_t i = 0; i < RT_COUNT(documented); i++) {
        rt_buf columns = {0};
        sqlite3_stmt *query = NULL;
        char *sql = sqlite3_mprintf("SELECT name FROM pragma_table_info(%Q)", documented[i][0]);
        assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &query, NULL), SQLITE_OK);
        int count = 0;
        while (sqlite3_step(query) == SQLITE_ROW) {
            rt_buf_addf(&columns, "%s%s", count++ ? "," : "",
                        (const char *)sqlite3_column_text(query, 0));
        }
        assert_non_null(columns.data);
        assert_string_equal(columns.data, documented[i][1]);
        sqlite3_finalize(query);
        sqlite3_free(sql);
        rt_buf_free(&columns);
    }
    for (int table = 0; table < RT_TABLE_FATES; table++) {
        const rt_table_form *form = rt_table_form_of(table);
        int commas = 0;
        for (const char *c = form->columns; *c; c++) {
            commas += *c == ',';
        }
        assert_int_equal(commas + 1, form->count);
        assert_true(form->count <= RT_COLUMNS_MAX);
    }
}

static void put_text(fixture *f, int table, const char *const *values, int count)
{
    rt_store_row *row = rt_store_row_new(table);
    for (int i = 0; i < count; i++) {
        rt_store_row_text(row, values[i]);
    }
    rt_store_put(f->store, row);
}

static void put_metric(fixture *f, int64_t step, const char *name, double value)
{
    rt_store_row *row = rt_store_row_new(RT_TABLE_METRICS);
    rt_store_row_int(row, step);
    rt_store_row_text(row, name);
    rt_store_row_real(row, value);
    rt_store_put(f->store, row);
}

static void put_lease(fixture *f, int64_t id, const char *fate)
{
    rt_store_row *row = rt_store_row_new(RT_TABLE_LEASES);
    rt_store_row_int(row, id);
    rt_store_row_text(row, "base");
    rt_store_row_text(row, "actor-0");
    rt_store_row_int(row, 0);
    rt_store_row_real(row, 1);
    rt_store_row_real(row, 2);
    rt_store_row_text(row, fate);
    rt_store_put(f->store, row);
}

static int64_t count_of(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *query = NULL;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &query, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(query), SQLITE_ROW);
    int64_t count = sqlite3_column_int64(query, 0);
    sqlite3_finalize(query);
    return count;
}

static int64_t rows_seen(const fixture *f)
{
    sqlite3 *reader = NULL;
    char *path = rt_format("%s/run.db", f->dir);
    assert_int_equal(sqlite3_open_v2(path, &reader, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    int64_t rows = count_of(reader, "SELECT count(*) FROM metrics");
    sqlite3_close(reader);
    rt_free(path);
    return rows;
}

/* Rows gather for a moment, but none waits for the next one, or for a flush. */
static void rows_reach_the_disk_by_themselves(void **state)
{
    fixture *f = *state;
    reopen(f, true);
    for (int i = 0; i < 3; i++) { /* before the first the writer may not sleep yet */
        put_metric(f, i, "loss", 1);
        for (int ms = 0; rows_seen(f) <= i; ms++) {
            assert_true(ms < 10000);
            uv_sleep(1);
        }
    }
    for (int i = 3; i <= 1000; i++) {
        put_metric(f, i, "loss", 1);
    }
    rt_error err = {0};
    assert_int_equal(rt_store_flush(f->store, &err), RT_OK);
    assert_int_equal(rows_seen(f), 1001);
}

static void what_was_written_is_known_again(void **state)
{
    fixture *f = *state;
    reopen(f, true);
    assert_false(f->past.exists);
    put_text(f, RT_TABLE_RUN, (const char *const[]){"id", "00000000000000ab"}, 2);
    put_text(f, RT_TABLE_RUN, (const char *const[]){"config", "00000000000000cd"}, 2);
    put_text(f, RT_TABLE_RUN, (const char *const[]){"steps", "12"}, 2);
    put_metric(f, 0, "eval.complete", 1);
    put_metric(f, 0, "eval.greedy.accuracy", 0.1);
    put_metric(f, 8, "eval.complete", 1);
    put_metric(f, 3, "tokens.sampled", 100);
    put_metric(f, 4, "tokens.sampled", 20);
    put_metric(f, 4, "tokens.sampled", 50); /* the step was done again */
    put_metric(f, 4, "seconds.training", 0.5);
    put_lease(f, 41, "trained");
    put_lease(f, 42, "stale");
    put_lease(f, 43, NULL);
    reopen(f, false);
    assert_true(f->past.exists);
    assert_int_equal(f->past.run, 0xab);
    assert_int_equal(f->past.fingerprint, 0xcd);
    assert_int_equal(f->past.steps, 12);
    assert_int_equal(f->past.evaluated_count, 2);
    assert_int_equal(f->past.evaluated[1], 8);
    assert_true(rt_store_metric(f->store, 0, "eval.greedy.accuracy") == 0.1);
    assert_true(f->past.tokens_sampled == 150 && f->past.seconds[RT_IN_TRAINING] == 0.5);
    assert_int_equal(f->past.lease_next, 43 + RT_LEASE_GAP);
    assert_int_equal(f->past.leases[RT_FATE_TRAINED], 1);
    assert_int_equal(f->past.leases[RT_FATE_STALE], 1);
    assert_int_equal(f->past.leases[RT_FATE_CANCELLED], 1); /* it was open */
}

/* More rows than the ring holds, faster than the disk takes them: none is lost, order is kept. */
static void a_flood_is_written_in_full(void **state)
{
    enum { ROWS = 150000 };
    fixture *f = *state;
    reopen(f, true);
    for (int i = 0; i < ROWS; i++) {
        put_metric(f, i / 2, "x", i); /* each second row replaces the one before */
    }
    reopen(f, false);
    assert_true(rt_store_metric(f->store, ROWS / 2 - 1, "x") == ROWS - 1);
    assert_true(rt_store_metric(f->store, 0, "x") == 1);
}

/* ---- views ----------------------------------------------------------------------------------- */

static void letters(void *context, const int32_t *ids, size_t count, rt_buf *out)
{
    (void)context;
    for (size_t i = 0; i < count; i++) {
        char letter = (char)ids[i];
        rt_buf_add(out, &letter, 1);
    }
}

static void put_trajectory(fixture *f, int64_t id, int64_t step, const char *fate)
{
    const int32_t prompt[] = {'2', '+', '2'},
                  response[] = {'i', 's', '\n', 'f', 'o', 'u', 'r', '!'};
    const int32_t ends[] = {3, 7};
    const float logp[] = {-0.5f, -0.25f, -1, -2, -0.125f, -0.0625f, -3, -4};
    rt_store_row *row = rt_store_row_new(RT_TABLE_TRAJECTORIES);
    rt_store_row_int(row, id);
    rt_store_row_int(row, 77);
    rt_store_row_int(row, step);
    rt_store_row_int(row, 5);
    rt_store_row_null(row);
    rt_store_row_null(row);
    rt_store_row_text(row, "base");
    rt_store_row_text(row, "actor-1");
    rt_store_row_int(row, 2);
    rt_store_row_blob(row, prompt, sizeof prompt);
    rt_store_row_blob(row, response, sizeof response);
    rt_store_row_blob(row, logp, sizeof logp);
    rt_store_row_blob(row, ends, sizeof ends);
    rt_store_row_int(row, 0);
    rt_store_row_real(row, 1);
    rt_store_row_text(row, "correct");
    rt_store_row_real(row, 1.5);
    rt_store_row_text(row, "eos");
    rt_store_row_text(row, fate);
    rt_store_put(f->store, row);
}

static int64_t count_fate(sqlite3 *db, int64_t step, const char *fate)
{
    char *sql = sqlite3_mprintf("SELECT count(*) FROM trajectories WHERE step = %lld AND fate = %Q",
                                (long long)step, fate);
    int64_t count = count_of(db, sql);
    sqlite3_free(sql);
    return count;
}

/* A batch's trajectories are open until their step is done; a process that ends between leaves a
 * step that the next one knows of. */
static void an_open_step_is_known_again(void **state)
{
    fixture *f = *state;
    reopen(f, true);
    put_text(f, RT_TABLE_RUN, (const char *const[]){"id", "00000000000000ab"}, 2);
    put_metric(f, 2, "grades.correct", 3);
    put_metric(f, 3, "grades.correct", 5);
    for (int64_t id = 0; id < 4; id++) {
        put_trajectory(f, id, 2 + id / 2, NULL);
    }
    put_trajectory(f, 8, 3, "filtered");
    rt_store_row *row = rt_store_row_new(RT_TABLE_FATES);
    rt_store_row_int(row, 2);
    rt_store_row_text(row, "trained");
    rt_store_put(f->store, row);
    rt_error err = {0};
    assert_int_equal(rt_store_flush(f->store, &err), 0);
    assert_int_equal(rt_store_waiting(f->store), 0);
    sqlite3 *other = NULL; /* committed: another connection reads it */
    char path[96];
    snprintf(path, sizeof path, "%s/run.db", f->dir);
    assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
    assert_int_equal(count_fate(other, 2, "trained"), 2);
    assert_int_equal(count_fate(other, 3, "trained"), 0);
    assert_int_equal(count_fate(other, 3, "filtered"), 1);
    sqlite3_close(other);
    reopen(f, false);
    assert_int_equal(f->past.open_step, 3);
    assert_true(f->past.open_grades[RT_CORRECT] == 5 && f->past.grades[RT_CORRECT] == 3);
}

static void show(const fixture *f, const char *what, const char *id, bool json,
                 const char *expected)
{
    rt_buf out = {0};
    rt_error err = {0};
    const char *const words[] = {what, id};
    if (rt_store_show(f->dir, words, id ? 2 : what[0] != 0, json, letters, NULL, &out, &err)) {
        fail_msg("%s: %s", what, err.message);
    }
    if (!strstr(out.data, expected)) {
        fail_msg("%s: \"%s\" is not in:\n%s", what, expected, out.data);
    }
    if (json) {
        json_t *parsed = json_loads(out.data, 0, NULL);
        assert_non_null(parsed);
        json_decref(parsed);
    }
    rt_buf_free(&out);
}

static void views(void **state)
{
    fixture *f = *state;
    const int64_t id = (INT64_C(1) << 62) + 9;
    reopen(f, true);
    put_trajectory(f, id, 2, "trained");
    rt_store_row *row = rt_store_row_new(RT_TABLE_PROBLEMS);
    rt_store_row_int(row, 77);
    rt_store_row_text(row, "sums");
    rt_store_row_text(row, "What is 2+2?");
    rt_store_row_text(row, "4");
    rt_store_put(f->store, row);
    row = rt_store_row_new(RT_TABLE_STEPS);
    rt_store_row_int(row, 2);
    rt_store_row_int(row, 3);
    rt_store_row_text(row, "0123456789abcdef");
    rt_store_row_real(row, 0.25);
    rt_store_row_real(row, 1);
    rt_store_row_int(row, 100);
    rt_store_row_real(row, 0.5);
    rt_store_put(f->store, row);
    put_metric(f, 2, "reward.mean", 0.75);
    row = rt_store_row_new(RT_TABLE_EVENTS);
    rt_store_row_real(row, 1e9);
    rt_store_row_text(row, "warn");
    rt_store_row_text(row, "actor-1");
    rt_store_row_text(row, "left: silent");
    rt_store_put(f->store, row);
    reopen(f, true);
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)id);
    for (int json = 0; json <= 1; json++) {
        show(f, "", NULL, json, "reward.mean");
        show(f, "steps", NULL, json, "0123456789ab");
        show(f, "steps", NULL, json, "0.75");
        show(f, "step", "2", json, text);
        show(f, "problem", "77", json, "What is 2+2?");
        show(f, "events", NULL, json, "2001-09-09");
        show(f, "workers", NULL, json, json ? "[]" : "nothing yet");
    }
    show(f, "problem", "77", false, "[thought 2] four");
    show(f, "trajectory", text, false, "prompt:\n2+2\n");
    show(f, "trajectory", text, false, "[thought 1] is\n\n[thought 2] four\n[rest] !");
    show(f, "trajectory", text, false, "10\"\\n\" -1.0000");
    show(f, "trajectory", text, false, "advantage 1.5, end eos, fate trained");
    show(f, "trajectory", text, true, "\"is\\n\"");
}

static void refused(const char *dir, const char *what, const char *id, int code,
                    const char *expected)
{
    rt_buf out = {0};
    rt_error err = {0};
    const char *const words[] = {what, id};
    assert_int_equal(rt_store_show(dir, words, id ? 2 : 1, false, letters, NULL, &out, &err), code);
    if (!strstr(err.message, expected)) {
        fail_msg("\"%s\" is not in: %s", expected, err.message);
    }
    rt_buf_free(&out);
}

static void views_that_are_not_there(void **state)
{
    fixture *f = *state;
    refused(f->dir, "steps", NULL, RT_ERR_INPUT, "has no run.db");
    reopen(f, true);
    refused(f->dir, "trajectory", "5", RT_ERR_INPUT, "no trajectory 5");
    refused(f->dir, "problem", "5", RT_ERR_INPUT, "no problem 5");
    refused(f->dir, "step", "x", RT_ERR_USAGE, "needs a number");
    refused(f->dir, "step", NULL, RT_ERR_USAGE, "needs a number");
    refused(f->dir, "nonsense", NULL, RT_ERR_USAGE, "no view nonsense");
}

/* ---- a disk that refuses --------------------------------------------------------------------- */

static void count_failure(void *context)
{
    atomic_fetch_add((atomic_int *)context, 1);
}

/* A limit on the size of files stands for the full disk: the same failure of the same write. */
static void a_full_disk_is_one_sentence(void **state)
{
    fixture *f = *state;
    atomic_int failures = 0;
    rt_error err = {0};
    reopen(f, false);
    assert_int_equal(rt_store_start(f->store, count_failure, &failures, &err), 0);
    struct rlimit before, small = {0};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){.rlim_cur = 400000, .rlim_max = before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    char *text = rt_alloc(10001);
    memset(text, 'x', 10000);
    for (int i = 0; i < 200; i++) {
        put_text(f, RT_TABLE_RUN, (const char *const[]){text, text}, 2);
        text[i % 100] = 'y';
    }
    int rc = rt_store_close(&f->store, &err);
    setrlimit(RLIMIT_FSIZE, &before);
    rt_free(text);
    assert_int_equal(rc, RT_ERR_IO);
    assert_int_equal(atomic_load(&failures), 1);
    assert_non_null(strstr(err.message, "run.db"));
    reopen(f, false); /* what was there before is still readable */
}

static void a_folder_that_is_none(void **state)
{
    fixture *f = *state;
    rt_error err = {0};
    char path[96];
    snprintf(path, sizeof path, "%s/run.db", f->dir);
    assert_int_equal(
        rt_file_write(path, "this is no database at all, but it is long enough", 49, &err), 0);
    assert_int_equal(rt_store_open(&f->store, f->dir, &f->past, &err), RT_ERR_IO);
    assert_non_null(strstr(err.message, "damaged"));
    snprintf(path, sizeof path, "%s/run.db/below", f->dir);
    assert_true(rt_store_open(&f->store, path, &f->past, &err) != 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_form_is_the_documented_one, setup, teardown),
        cmocka_unit_test_setup_teardown(rows_reach_the_disk_by_themselves, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_written_is_known_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_flood_is_written_in_full, setup, teardown),
        cmocka_unit_test_setup_teardown(an_open_step_is_known_again, setup, teardown),
        cmocka_unit_test_setup_teardown(views, setup, teardown),
        cmocka_unit_test_setup_teardown(views_that_are_not_there, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_is_one_sentence, setup, teardown),
        cmocka_unit_test_setup_teardown(a_folder_that_is_none, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
