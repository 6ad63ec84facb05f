/* What a run store says of earlier steps makes the same mixture as having been there. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "coordinator/internal.h"

enum { PROBLEMS = 16, KNOWN = 40 };

static void put(sqlite3 *db, int step, const char *name, double value)
{
    char *sql = sqlite3_mprintf("INSERT INTO metrics VALUES (%d, %Q, %.17g)", step, name, value);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_free(sql);
}

/* Names that begin alike, one with a dot in it. */
static const char *const names[] = {"chain", "chain_b", "chain_b.answers"};

static void live(rt_mix *mix, sqlite3 *db)
{
    for (int step = 0; step < KNOWN; step++) {
        int64_t answers[3] = {8, 8, step % 4 ? 16 : 0};
        int64_t undecided[3] = {0, step < 20 ? 7 : 8, 1};
        double squared[3] = {1, step % 3 - 1, step % 5 ? 4 : NAN};
        rt_mix_note_grades(mix, step, answers, undecided);
        rt_mix_note_norms(mix, step, squared);
        put(db, step, "reward.mean", 0.5);
        for (int i = 0; i < 3; i++) {
            char name[64];
            snprintf(name, sizeof name, "task.%s.answers", names[i]);
            put(db, step, name, (double)answers[i]);
            snprintf(name, sizeof name, "task.%s.undecided", names[i]);
            put(db, step, name, (double)undecided[i]);
            snprintf(name, sizeof name, "task.%s.gradient", names[i]);
            if (!isnan(squared[i])) {
                put(db, step, name, squared[i]);
            }
        }
    }
}

static void store_and_life_agree(void **state)
{
    (void)state;
    char dir[] = "/tmp/rt-mixing-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    rt_config config;
    rt_error err = {0};
    const char *const sets[] = {"tasks.1.name=chain_b", "tasks.2.name=chain_b.answers",
                                "mixing.undecided_steps=5", "run.staleness=1",
                                "mixing.strategy=gradient", "gradients.account=full"};
    assert_int_equal(rt_config_parse(&config, "task: chain\n", 12, "test", sets, 6, &err), 0);
    rt_coordinator *co = rt_alloc(sizeof *co);
    rt_mix *mix;
    co->config = &config;
    assert_int_equal(rt_taskset_load(&co->tasks, &config, &err), 0);
    assert_int_equal(rt_mixing_check(co, &err), 0);
    assert_int_equal(rt_mix_new(&mix, co->tasks, &config, &err), 0);
    assert_int_equal(rt_store_open(&co->store, dir, &co->past, &err), 0);
    live(mix, rt_store_database(co->store));
    co->past.exists = true;
    assert_int_equal(rt_mixing_load(co, &err), 0);
    bool differ = false, dropped = false;
    for (int step = 0; step < KNOWN + 2; step++) {
        rt_mix_place a[PROBLEMS], b[PROBLEMS];
        int by_task[3] = {0};
        assert_int_equal(rt_mix_step(mix, step, a, &err), 0);
        assert_int_equal(rt_mix_step(co->mix, step, b, &err), 0);
        for (int i = 0; i < PROBLEMS; i++) {
            assert_int_equal(a[i].task, b[i].task);
            assert_int_equal(a[i].index, b[i].index);
            by_task[a[i].task]++;
        }
        differ = differ || by_task[2] > by_task[0] + 2; /* the norms had a say */
        dropped = rt_mix_state_of(co->mix, 1) == RT_MIX_UNDECIDED;
        assert_int_equal(dropped, step >= 26); /* 20 to 24 are the five, settled for 26 */
    }
    assert_true(differ && dropped);
    rt_mixing_close(co);
    rt_mix_free(&mix);
    rt_store_close(&co->store, NULL);
    rt_past_free(&co->past);
    rt_taskset_free(&co->tasks);
    rt_free(co);
    rt_config_free(&config);
    rt_remove_tree(dir, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(store_and_life_agree)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
