/* What is read of an accounting of gradients, against metrics made by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/gradients.h"

enum { STEPS = 20 };

static rt_error err;

/* Of 20 steps: rewards of task a rise by 1/32 a step, those of b stay; squared norms are 4 and 16 for a
 * and b (naive 8 and 16), with −1 once for a; |A| follows a's norm over time and says nothing of b's. */
static void fill(rt_buf *out, bool kinds)
{
    rt_buf_addf(out, "BEGIN;"
                     "CREATE TABLE trajectories (id INTEGER PRIMARY KEY, step INTEGER, reset_id INTEGER, "
                     "kind TEXT, response_ids BLOB, thought_ends BLOB, grade TEXT, fate TEXT);"
                     "CREATE TABLE resets (id INTEGER PRIMARY KEY, trajectory_id INTEGER, thought INTEGER, "
                     "tokens INTEGER, visits INTEGER, successes INTEGER, oracle INTEGER);"
                     "CREATE TABLE steps (step INTEGER PRIMARY KEY, weights_hash TEXT);"
                     "CREATE TABLE metrics (step INTEGER, name TEXT, value REAL);"
                     "INSERT INTO metrics VALUES (0, 'eval.sampled.accuracy', 0.25), (20, "
                     "'eval.sampled.accuracy', 0.5), (0, 'eval/a/accuracy', 0.125), "
                     "(20, 'eval/a/accuracy', 0.75), (3, 'grad/a/cosine/b', -0.5), "
                     "(4, 'grad/a/cosine/b', 0), (5, 'grad/clip_factor', "
                     "0.25);");
    for (int step = 0; step < STEPS; step++) {
        double a = step == 7 ? -1 : 4;
        rt_buf_addf(out, "INSERT INTO steps (step) VALUES (%d);", step);
        rt_buf_addf(out, "INSERT INTO metrics VALUES (%d, 'task.a.reward', %.17g), "
                    "(%d, 'task.b.reward', 0.5), ", step, step / 32.0, step);
        rt_buf_addf(out, "(%d, 'grad/a/norm2', %g), (%d, 'grad/a/naive', 8), (%d, 'grad/a/advantage', %g), ",
                    step, a, step, step, a / 8);
        rt_buf_addf(out, "(%d, 'grad/b/norm2', 16), (%d, 'grad/b/naive', 16), "
                    "(%d, 'grad/b/advantage', 0.25), ", step, step, step);
        rt_buf_addf(out, "(%d, 'grad/a/norm2_block', %g), (%d, 'grad/b/norm2_block', 8);", step, a / 2, step);
        if (kinds)
            rt_buf_addf(out, "INSERT INTO metrics VALUES (%d, 'grad/by/base/norm2', 4), "
                        "(%d, 'grad/by/reset/norm2', 9), (%d, 'grad/by/base/naive', 4), "
                        "(%d, 'grad/by/reset/naive', 4);", step, step, step, step);
    }
}

static void make_run(const char *folder, const char *method, const char *settings, int seed, bool kinds)
{
    char *path = rt_format("%s/five/%s/%d", folder, method, seed);
    char *name = rt_format("%s/run.db", path);
    char *config = rt_format("%s/config.yaml", path), *done = rt_format("%s/summary.json", path);
    rt_buf text = {0};
    rt_buf_addf(&text, "seed: %d\n%s\n", seed, settings);
    assert_int_equal(rt_mkdirs(path, &err), 0);
    assert_int_equal(rt_file_write(config, text.data, text.bytes, &err), 0);
    assert_int_equal(rt_file_write(done, "{}", 2, &err), 0);
    rt_buf_clear(&text);
    fill(&text, kinds);
    rt_buf_addf(&text, "COMMIT;");
    sqlite3 *db;
    char *message = NULL;
    assert_int_equal(sqlite3_open(name, &db), SQLITE_OK);
    if (sqlite3_exec(db, text.data, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s", message);
    sqlite3_close(db);
    rt_buf_free(&text);
    rt_free(path), rt_free(name), rt_free(config), rt_free(done);
}

static int make_folder(void **state)
{
    char *folder = rt_strdup("/tmp/retake-gradients-XXXXXX");
    *state = mkdtemp(folder);
    return *state ? 0 : -1;
}

static int remove_folder(void **state)
{
    int code = rt_remove_tree(*state, &err);
    rt_free(*state);
    return code;
}

#define TASKS "tasks: [{name: a, data: a.jsonl}, {name: b, data: b.jsonl}]\n"

static const double roundings = 64 * 2.220446049250313e-16; /* of sums over 20 numbers up to 16 */

static void one_run(void **state)
{
    make_run(*state, "uniform", TASKS, 1, true);
    rt_resets_runs runs;
    assert_int_equal(rt_resets_load(&runs, *state, &err), 0);
    assert_string_equal(runs.all->method, "uniform");
    const rt_gradients *g = runs.all->gradients;
    assert_true(g && g->parts == 4 && g->tasks == 2 && g->steps == STEPS);
    assert_string_equal(g->names[0], "a");
    assert_string_equal(g->names[2], "by/base");
    assert_true(g->before[0] == 0.125 && g->after[0] == 0.75 && isnan(g->after[1]));
    assert_true(g->cosine[0][1] == -0.25 && isnan(g->cosine[1][0]) && g->clip == 0.25);
    /* Negative estimates count like others: (19·4 − 1) / 20. */
    assert_true(fabs(rt_gradients_mean(g, RT_GRADIENTS_NORM2, 0, 0, STEPS) - 3.75) <= roundings);
    assert_true(fabs(rt_gradients_ratio(g, RT_GRADIENTS_NORM2) - 16 / 3.75) <= roundings);
    assert_true(rt_gradients_ratio(g, RT_GRADIENTS_NAIVE) == 2);
    assert_true(isnan(rt_gradients_ratio(g, RT_GRADIENTS_LIVE_NORM)));
    /* Window 2: the mean of t + 1 and t + 2 less that of t − 1 and t − 2 is three steps' rise. */
    assert_int_equal(rt_gradients_window(g), 2);
    assert_true(rt_gradients_gain(g, 0, 2) == 3 / 32.0 && rt_gradients_gain(g, 1, 2) == 0);
    assert_true(isnan(rt_gradients_gain(g, 0, 1)) && rt_gradients_gain(g, 0, 17) == 3 / 32.0);
    assert_true(isnan(rt_gradients_gain(g, 0, 18)) && rt_gradients_gains(g, 0) == 3 / 32.0);
    /* The louder task gains less, and has the smaller |A|. */
    assert_true(rt_gradients_with_gain(g, RT_GRADIENTS_NORM2) == -1);
    assert_true(rt_gradients_with_advantage(g, RT_GRADIENTS_NAIVE) == -1);
    assert_true(isnan(rt_gradients_with_gain_within(g, RT_GRADIENTS_NAIVE)));
    assert_true(fabs(rt_gradients_with_advantage_within(g, RT_GRADIENTS_NORM2) - 1) <= roundings);
    assert_true(fabs(rt_gradients_block(g) - 1) <= roundings);
    assert_true(rt_gradients_reset_ratio(g, RT_GRADIENTS_NORM2) == 1.5);
    assert_true(rt_gradients_reset_ratio(g, RT_GRADIENTS_NAIVE) == 1);
    rt_resets_free(&runs);
}

static void ranks(void **state)
{
    (void)state;
    const double x[] = {1, 2, 3, 4}, up[] = {1, 10, 100, 1000}, tied[] = {1, 1, 2, 2}, flat[] = {3, 3, 3, 3};
    assert_true(rt_gradients_spearman(x, up, 4) == 1 && rt_gradients_pearson(x, up, 4) < 0.9);
    /* Ranks 0.5, 0.5, 2.5, 2.5 against 0 … 3: 4 / √(5·4). */
    assert_true(fabs(rt_gradients_spearman(x, tied, 4) - 4 / sqrt(20)) <= roundings);
    assert_true(isnan(rt_gradients_pearson(x, flat, 4)) && isnan(rt_gradients_pearson(x, up, 1)));
}

/* Methods of runs with several tasks, and what is written of them. */
static void tables(void **state)
{
    make_run(*state, "x", TASKS "gradients: {account: full, correction: pcgrad}", 1, false);
    make_run(*state, "y", TASKS, 1, true);
    make_run(*state, "y", TASKS, 2, true);
    rt_resets_runs runs;
    assert_int_equal(rt_resets_load(&runs, *state, &err), 0);
    assert_int_equal(rt_resets_cell_of(&runs, "five", "pcgrad").count, 1);
    assert_int_equal(rt_resets_cell_of(&runs, "five", "uniform").count, 2);
    rt_buf text = {0};
    rt_resets_tables(&runs, &text);
    static const char *const lines[] = {
        "| a | 3.75 ± 0 | 8 ± 0 | – | 1.88 ± 0 | – | – | 0.469 ± 0 | – | 0.0781 ± 0 | ",
        "| by/reset | 9 ± 0 | 4 ± 0 | ",
        "| pcgrad | 1 | 4.27 | 2 | – | 4.27 | 1 | 0.25 |",
        "| pcgrad | 1 | -1 | – | -1 | 1 | -1 | – | -1 | – |",
        "| uniform | 2 | 1.5 ± 0 | 1 ± 0 | – | – |",
        "| pcgrad | 0.75 | – |", "| a | – | -0.25 ± 0 |",
        "| PCGrad above the plain sum | – |"};
    for (size_t i = 0; i < RT_COUNT(lines); i++)
        if (!strstr(text.data, lines[i]))
            fail_msg("no \"%s\" in\n%s", lines[i], text.data);
    rt_buf_clear(&text);
    rt_gradients_csv(&runs, &text);
    assert_non_null(strstr(text.data, "\nfive,pcgrad,1,a,7,-1,8,,-0.5,,,-0.125,,,0.21875\n"));
    assert_int_equal(rt_resets_plots(&runs, *state, &err), 0);
    char *path = rt_format("%s/resets-five-gradients.svg", (char *)*state);
    rt_buf_clear(&text);
    assert_int_equal(rt_file_read(path, 1 << 20, &text, &err), 0);
    assert_non_null(strstr(text.data, ">Gain</text>"));
    rt_free(path);
    rt_buf_free(&text);
    rt_resets_free(&runs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_run, make_folder, remove_folder),
        cmocka_unit_test(ranks),
        cmocka_unit_test_setup_teardown(tables, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
