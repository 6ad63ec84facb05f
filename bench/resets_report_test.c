/* The reader of bench/resets.sh against run stores made by hand, where every figure is known. */
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

#include "bench/resets.h"

static rt_error err;

/* The columns of docs/run-store.md that are read. */
static const char schema[] =
    "CREATE TABLE trajectories (id INTEGER PRIMARY KEY, step INTEGER, reset_id INTEGER, kind TEXT, "
    "response_ids BLOB, thought_ends BLOB, grade TEXT, fate TEXT);"
    "CREATE TABLE resets (id INTEGER PRIMARY KEY, trajectory_id INTEGER, thought INTEGER, "
    "tokens INTEGER, visits INTEGER, successes INTEGER, oracle INTEGER);"
    "CREATE TABLE steps (step INTEGER PRIMARY KEY, weights_hash TEXT);"
    "CREATE TABLE metrics (step INTEGER, name TEXT, value REAL);";

/* Two steps, evaluated at 0, 1 and 2. Step 0 samples 10 tokens for a seed of 4 thoughts, 20 for a
 * fresh rollout, 6 for a judgement, and 2 × 8 behind a prefix of 5; step 1 samples 30, and 9 that
 * are thrown away. */
static const char content[] =
    "INSERT INTO steps VALUES (0, 'aa'), (1, 'bb');"
    "INSERT INTO trajectories VALUES "
    "(1, 0, NULL, 'seed', zeroblob(40), zeroblob(16), 'wrong', 'filtered'),"
    "(2, 0, NULL, 'base', zeroblob(80), zeroblob(16), 'correct', 'trained'),"
    "(3, 0, NULL, 'localize', zeroblob(24), NULL, NULL, 'filtered'),"
    "(4, 0, 4, 'reset', zeroblob(52), zeroblob(16), 'correct', 'trained'),"
    "(5, 0, 4, 'reset', zeroblob(52), zeroblob(16), 'wrong', 'trained'),"
    "(6, 1, NULL, 'base', zeroblob(120), zeroblob(16), 'wrong', 'trained'),"
    "(7, 1, NULL, 'base', zeroblob(36), zeroblob(16), 'correct', 'filtered'),"
    "(8, 1, NULL, 'eval', zeroblob(4000), zeroblob(16), 'correct', 'filtered');"
    "INSERT INTO resets VALUES (4, 1, 3, 5, 2, 1, 3), (9, 6, 4, 7, 2, 0, 2), (10, 6, 1, 0, 2, 2, 2), "
    "(11, NULL, 1, 0, 2, 1, NULL), (12, 2, 2, 4, 2, 1, 3);"
    "INSERT INTO metrics VALUES (0, 'seconds.sampling', 1), (0, 'seconds.training', 2), "
    "(1, 'seconds.waiting', 1), (1, 'seconds.evaluation', 50), (2, 'seconds.sampling', 50), "
    "(0, 'tokens.sampled', 60), (1, 'tokens.prefill', 5), "
    "(0, 'degenerate', 0.5), (1, 'degenerate', 1), (0, 'degenerate.reset', 0.25), "
    "(0, 'logprob.mismatched', 0);";

/* A run folder FOLDER/REGIME/METHOD/SEED with accuracies at three steps. */
static void make_run(const char *folder, const char *regime, const char *method, int seed, double rate,
                     const double accuracy[3])
{
    char *path = rt_format("%s/%s/%s/%d-%g", folder, regime, method, seed, rate);
    char *name = rt_format("%s/run.db", path);
    rt_buf text = {0};
    sqlite3 *db;
    assert_int_equal(rt_mkdirs(path, &err), 0);
    rt_buf_addf(&text, "algorithm: %s\nseed: %d\nlearner.lr: %g\n", method, seed, rate);
    char *config = rt_format("%s/config.yaml", path), *done = rt_format("%s/summary.json", path);
    assert_int_equal(rt_file_write(config, text.data, text.bytes, &err), 0);
    assert_int_equal(rt_file_write(done, "{}", 2, &err), 0);
    rt_buf_clear(&text);
    rt_buf_addf(&text, "%s%s", schema, content);
    for (int i = 0; i < 3; i++)
        rt_buf_addf(&text, "INSERT INTO metrics VALUES (%d, 'eval.greedy.accuracy', 0.125), "
                    "(%d, 'eval.sampled.accuracy', %.17g);", i, i, accuracy[i]);
    assert_int_equal(sqlite3_open(name, &db), SQLITE_OK);
    char *message = NULL;
    if (sqlite3_exec(db, text.data, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s", message);
    sqlite3_close(db);
    rt_buf_free(&text);
    rt_free(path), rt_free(name), rt_free(config), rt_free(done);
}

static int make_folder(void **state)
{
    char *folder = rt_strdup("/tmp/retake-resets-XXXXXX");
    *state = mkdtemp(folder);
    return *state ? 0 : -1;
}

static int remove_folder(void **state)
{
    int code = rt_remove_tree(*state, &err);
    rt_free(*state);
    return code;
}

static void one_run(void **state)
{
    rt_resets_run run;
    make_run(*state, "sparse", "srpo", 7, 1e-4, (const double[]){0.25, 0.5, 0.75});
    char *folder = rt_format("%s/sparse/srpo/7-0.0001", (char *)*state);
    assert_int_equal(rt_resets_read(&run, folder, "sparse", &err), 0);
    rt_free(folder);
    assert_string_equal(run.method, "srpo");
    assert_string_equal(run.regime, "sparse");
    assert_true(run.seed == 7 && run.rate == 1e-4 && run.steps == 2 && run.marks_count == 3);
    const rt_resets_mark *marks = run.marks;
    assert_true(marks[0].accuracy == 0.25 && marks[1].accuracy == 0.5 && marks[2].accuracy == 0.75);
    assert_true(marks[0].tokens == 0 && marks[1].tokens == 52 && marks[2].tokens == 91);
    assert_true(marks[0].sequences == 0 && marks[1].sequences == 3 && marks[2].sequences == 4);
    assert_true(run.tokens.trained == 66 && run.tokens.judged == 6 && run.tokens.seeds == 10 &&
                run.tokens.discarded == 9);
    assert_true(run.seconds == 2 && run.degenerate == 0.75 && run.reset_flat == 0.25);
    assert_true(isnan(run.base_flat) && run.mismatched == 0);
    /* the metrics of step 2 are of what comes after the last step */
    assert_true(run.cost.steps == 2 && run.cost.tokens == 65);
    assert_true(run.cost.seconds[0][0] == 1 && run.cost.seconds[0][1] == 2 && run.cost.seconds[1][3] == 1);
    assert_string_equal(run.cost.hash, "bb");
    /* Thoughts 3, 4, 1, 2 of 4 each: bins 5, 7, 0, 2. The state on a right rollout has no first
     * wrong thought, whatever its column says. */
    assert_true(run.states == 4 && run.at_prompt == 1 && run.at_start == 1 && run.position == 2.5);
    assert_true(run.bins[5] == 1 && run.bins[7] == 1 && run.bins[0] == 1 && run.bins[2] == 1);
    assert_true(run.known == 3 && run.exact == 1 && run.clean == 2);
    assert_true(run.passed_clean == 2 && run.passed_late == 0);
}

/* A run of three steps; those of the first count for nothing. */
static rt_resets_run timed(const char *method, double first, double second, double tokens)
{
    rt_resets_run run = {.cost = {.steps = 3, .tokens = tokens, .hash = "aa"}};
    snprintf(run.regime, sizeof run.regime, "sparse");
    snprintf(run.method, sizeof run.method, "%s", method);
    run.cost.seconds[0][0] = 100;
    run.cost.seconds[1][0] = first;
    run.cost.seconds[2][1] = second;
    return run;
}

/* Of each step the least or the median over rounds: 0.1 + 0.2 and 0.2 + 0.4 of the baseline. */
static void costs(void **unused)
{
    (void)unused;
    rt_resets_run all[] = {timed("grpo_seqmean", 0.1, 0.4, 30), timed("grpo_seqmean", 0.3, 0.2, 30),
                           timed("grpo_seqmean", 0.2, 0.8, 30), timed("srpo", 0.3, 0.9, 45),
                           timed("srpo", 0.4, 0.3, 45), timed("srpo", 0.6, 0.8, 45)};
    rt_resets_runs runs = {.all = all, .count = 6};
    rt_buf text = {0};
    assert_int_equal(rt_resets_cost_table(&runs, &text, &err), 0);
    assert_non_null(strstr(text.data, "| grpo_seqmean | 3 | 150.0 | 1.00 | 1.00 | 50.0 | 100.0 | 1.00 |"));
    assert_non_null(strstr(text.data, "| srpo | 3 | 300.0 | 2.00 | 2.00 | 150.0 | 150.0 | 1.50 |"));
    rt_buf_clear(&text);
    all[4].cost.hash[0] = 'b';
    assert_int_not_equal(rt_resets_cost_table(&runs, &text, &err), 0);
    assert_non_null(strstr(err.message, "sparse srpo"));
    rt_buf_clear(&text);
    runs = (rt_resets_runs){.all = all + 3, .count = 1};
    assert_int_not_equal(rt_resets_cost_table(&runs, &text, &err), 0);
    assert_non_null(strstr(err.message, "grpo_seqmean"));
    rt_buf_free(&text);
}

static void questions(void **state)
{
    (void)state;
    rt_resets_run run = {.marks_count = 3, .steps = 20};
    run.marks[0] = (rt_resets_mark){.step = 0, .accuracy = 0};
    run.marks[1] = (rt_resets_mark){.step = 10, .accuracy = 0.5, .tokens = 100};
    run.marks[2] = (rt_resets_mark){.step = 20, .accuracy = 1, .tokens = 400};
    assert_true(rt_resets_at_step(&run, 10) == 0.5 && isnan(rt_resets_at_step(&run, 11)));
    assert_true(rt_resets_at_tokens(&run, 0) == 0 && rt_resets_at_tokens(&run, 50) == 0.25);
    assert_true(rt_resets_at_tokens(&run, 250) == 0.75 && rt_resets_at_tokens(&run, 400) == 1);
    assert_true(isnan(rt_resets_at_tokens(&run, 401)));
    assert_true(rt_resets_area(&run, 0) == 0.75);
    assert_true(rt_resets_early(&run, 0) == 0.5 && rt_resets_late(&run, 0) == 1);
    /* Straight pieces: (100 × 0.25 + 300 × 0.75) / 400; the middles of the parts are exact on them. */
    assert_true(fabs(rt_resets_area_tokens(&run, 400) - 0.625) < 1e-12);
    assert_true(fabs(rt_resets_area_tokens(&run, 100) - 0.25) < 1e-12);
    int thoughts, decisive, base;
    assert_true(rt_resets_grid("t24d6b30", &thoughts, &decisive, &base));
    assert_true(thoughts == 24 && decisive == 6 && base == 30);
    assert_false(rt_resets_grid("t24d6", &thoughts, &decisive, &base));
    assert_false(rt_resets_grid("t24d6b2x", &thoughts, &decisive, &base));
    assert_false(rt_resets_grid("sparse", &thoughts, &decisive, &base));
}

/* Three seeds of two methods. Seed 9 was run with one only, and does not count in a difference. */
static void differences(void **state)
{
    static const double base[3] = {0.1, 0.3, 0.2}, more[3] = {0.2, 0.2, 0.2};
    for (int seed = 1; seed <= 3; seed++) {
        double low = base[seed - 1], high = low + more[seed - 1] + 0.01 * (seed - 2);
        make_run(*state, "sparse", "grpo_seqmean", seed, 1e-4, (const double[]){0, low, 2 * low});
        make_run(*state, "sparse", "rrpo", seed, 1e-4, (const double[]){0, high, 2 * low});
    }
    make_run(*state, "sparse", "rrpo", 9, 1e-4, (const double[]){0, 1, 1});
    char *started = rt_format("%s/sparse/rrpo/10", (char *)*state); /* has no summary yet */
    assert_int_equal(rt_mkdirs(started, &err), 0);
    rt_free(started);
    rt_resets_runs runs;
    assert_int_equal(rt_resets_load(&runs, *state, &err), 0);
    assert_int_equal(runs.count, 7);
    rt_resets_cell a = rt_resets_cell_of(&runs, "sparse", "rrpo");
    rt_resets_cell b = rt_resets_cell_of(&runs, "sparse", "grpo_seqmean");
    assert_true(a.count == 4 && b.count == 3 && rt_resets_cell_of(&runs, "x", "rrpo").count == 0);
    rt_resets_figure mean = rt_resets_mean(b, rt_resets_at_step, 1);
    /* Deviation 0.1 of three seeds. */
    assert_true(fabs(mean.mean - 0.2) < 1e-12 && fabs(mean.error - 0.1 / sqrt(3)) < 1e-12);
    rt_resets_difference d = rt_resets_differ(a, b, rt_resets_at_step, 1);
    /* Differences 0.19, 0.2, 0.21: deviation 0.01; t of two degrees of freedom is 4.3027. */
    assert_int_equal(d.count, 3);
    assert_true(fabs(d.mean - 0.2) < 1e-12);
    assert_true(fabs(d.high - d.mean - 4.3027 * 0.01 / sqrt(3)) < 1e-5);
    assert_true(fabs(d.mean - d.low - (d.high - d.mean)) < 1e-12);
    assert_true(rt_resets_differ(a, b, rt_resets_at_step, 2).mean == 0);
    assert_true(rt_resets_budget(&runs, "sparse") == 91 && rt_resets_budget(&runs, "x") == 0);
    rt_buf text = {0};
    rt_resets_tables(&runs, &text);
    assert_non_null(strstr(text.data, "#### Regime sparse"));
    assert_non_null(strstr(text.data, "| rrpo | **+0.200** [+0.175, +0.225] | +0.000 [+0.000, +0.000] | "
                                      "**+0.100** "));
    assert_non_null(strstr(text.data, "| RRPO above GRPO (paper: about equal) | – |"));
    assert_non_null(strstr(text.data, "| sparse | rrpo | 16 | 4 | 0.250 | 0.625 | 0.333 | 0.667 | 1.000 | "
                                      "0.000 |"));
    rt_buf_free(&text);
    rt_resets_free(&runs);
}

/* What run stores say of debates, and debates held to evaluate, which cost no training tokens. */
static void debates(void **state)
{
    static const char more[] =
        "INSERT INTO trajectories VALUES (6917529027641081856, 1, NULL, 'debate', zeroblob(400), NULL, "
        "'wrong', 'filtered');"
        "INSERT INTO metrics VALUES (0, 'eval.debate.accuracy', 0.5), (2, 'eval.debate.accuracy', 0.75), "
        ""
        "(2, 'eval.debate.agreement.8', 0.125), (2, 'eval.debate.agreement.10', 0.5), "
        "(0, 'eval.debate.unparseable', 0.25), (2, 'eval.debate.unparseable', 0);";
    make_run(*state, "debater", "maca_dpo", 1, 1e-4, (const double[]){0.25, 0.5, 0.625});
    char *path = rt_format("%s/debater/maca_dpo/1-0.0001/run.db", (char *)*state);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, more, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    rt_free(path);
    rt_resets_runs runs;
    rt_buf text = {0};
    assert_int_equal(rt_resets_load(&runs, *state, &err), 0);
    assert_true(rt_resets_budget(&runs, "debater") == 91); /* as without the debate above */
    assert_true(rt_resets_debated(runs.all, 0) == 0.75 && rt_resets_final(runs.all, 0) == 0.625);
    rt_resets_debate_table(&runs, "debater", &text);
    assert_non_null(strstr(text.data, "| before | 1 | 0.250 | 0.500 | – | – | – | 0.250 |\n"));
    assert_non_null(strstr(text.data, "| maca_dpo | 1 | 0.625 | 0.750 | – | – | 0.500 | 0.000 |\n"));
    rt_buf_free(&text);
    rt_resets_free(&runs);
}

static void rates(void **state)
{
    static const struct {
        double rate, accuracy;
    } tried[] = {{1e-4, 0.5}, {2e-4, 0.75}, {4e-4, 0.75}};
    for (size_t i = 0; i < RT_COUNT(tried); i++)
        for (int seed = 1; seed <= 2; seed++)
            make_run(*state, "hard", "caro", seed, tried[i].rate,
                     (const double[]){0, tried[i].accuracy, tried[i].accuracy});
    rt_resets_runs runs;
    rt_buf text = {0};
    assert_int_equal(rt_resets_load(&runs, *state, &err), 0);
    rt_resets_rates(&runs, &text);
    assert_non_null(strstr(text.data, "\nhard caro 0.0002\n"));
    rt_buf_free(&text);
    rt_resets_free(&runs);
}

static void files(void **state)
{
    static const char *const regimes[] = {"sparse", "t8d4b2", "t8d8b2"};
    for (size_t r = 0; r < RT_COUNT(regimes); r++)
        for (int seed = 1; seed <= 2; seed++) {
            double accuracy[] = {0, 0.1 * seed, 0.2};
            make_run(*state, regimes[r], "grpo_seqmean", seed, 1e-4, accuracy);
            accuracy[1] += 0.1;
            make_run(*state, regimes[r], "srpo", seed, 1e-4, accuracy);
        }
    rt_resets_runs runs;
    assert_int_equal(rt_resets_load(&runs, *state, &err), 0);
    assert_int_equal(rt_resets_plots(&runs, *state, &err), 0);
    static const char *const names[] = {"sparse", "positions", "grid-2"};
    for (size_t i = 0; i < RT_COUNT(names); i++) {
        rt_buf svg = {0};
        char *path = rt_format("%s/resets-%s.svg", (char *)*state, names[i]);
        assert_int_equal(rt_file_read(path, 1 << 20, &svg, &err), 0);
        assert_non_null(strstr(svg.data, ">srpo</text>"));
        rt_buf_free(&svg);
        rt_free(path);
    }
    rt_buf text = {0};
    rt_resets_csv_curves(&runs, &text);
    assert_non_null(strstr(text.data, "\nsparse,srpo,2,0.0001,1,0.3000,52,3\n"));
    rt_buf_clear(&text);
    rt_resets_csv_runs(&runs, &text);
    assert_non_null(strstr(text.data, "\nsparse,srpo,1,0.0001,2,0.2000,2.0000,0.7500,,0.2500,66,6,10,9,4,1,1,"
                                      "0.6250,3,1,2,2,0,0,1,0,1,0,0,1,0,1,0,0\n"));
    rt_buf_free(&text);
    rt_resets_free(&runs);
}

static void nothing_there(void **state)
{
    rt_resets_runs runs;
    assert_int_equal(rt_resets_load(&runs, "/tmp/retake-no-such-folder", &err), RT_ERR_IO);
    assert_int_equal(rt_resets_load(&runs, *state, &err), RT_ERR_INPUT);
    make_run(*state, "sparse", "srpo", 1, 1e-4, (const double[]){0, 0, 0});
    char *path = rt_format("%s/sparse/srpo/1-0.0001/run.db", (char *)*state);
    assert_int_equal(rt_file_write(path, "no database", 11, &err), 0);
    assert_int_equal(rt_resets_load(&runs, *state, &err), RT_ERR_INPUT);
    assert_non_null(strstr(err.message, "sparse/srpo/1-0.0001"));
    rt_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_run, make_folder, remove_folder),
        cmocka_unit_test(costs),
        cmocka_unit_test(questions),
        cmocka_unit_test_setup_teardown(differences, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(debates, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(rates, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(files, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(nothing_there, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
