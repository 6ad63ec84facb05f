/* The mixture: shares of every strategy, exact counts, windows, tasks that leave, resume. */
#include "tasks/mix.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { PROBLEMS = 16, TASKS = 3, STEPS = 300 };

typedef struct mixture {
    rt_config config;
    char paths[TASKS][32];
    rt_taskset *set;
    rt_mix *mix;
} mixture;

/* Three data tasks of so many records, all of them for training. */
static void write_tasks(mixture *m, const int sizes[TASKS])
{
    static char *const names[] = {"a", "b", "c"};
    *m = (mixture){.config = {.tasks_count = TASKS}};
    m->config.run.seed = 11;
    m->config.algorithm.problems = PROBLEMS;
    m->config.mixing.temperature = 2;
    m->config.mixing.undecided_steps = 3;
    m->config.mixing.gradient_steps = 4;
    m->config.thoughts.delimiter = "</thought>";
    for (int i = 0; i < TASKS; i++) {
        snprintf(m->paths[i], sizeof m->paths[i], "/tmp/rt_mix_XXXXXX");
        FILE *file = fdopen(mkstemp(m->paths[i]), "w");
        for (int k = 0; k < sizes[i]; k++) {
            fprintf(file, "{\"problem\":\"p%d\",\"answer\":%d}\n", k, k);
        }
        fclose(file);
        m->config.tasks[i] = (rt_task_config){.name = names[i], .data = m->paths[i], .weight = 1,
                                              .window = {.share = 1, .grow = true}};
    }
}

static void open_mix(mixture *m)
{
    rt_error err = {0};
    if (rt_taskset_load(&m->set, &m->config, &err) ||
        rt_mix_new(&m->mix, m->set, &m->config, &err)) {
        fail_msg("%s", err.message);
    }
}

static void close_mix(mixture *m)
{
    rt_mix_free(&m->mix);
    rt_taskset_free(&m->set);
}

static void end(mixture *m)
{
    close_mix(m);
    for (int i = 0; i < TASKS; i++) {
        unlink(m->paths[i]);
    }
}

static void step_of(rt_mix *mix, int64_t step, rt_mix_place *places)
{
    rt_error err = {0};
    if (rt_mix_step(mix, step, places, &err)) {
        fail_msg("%s", err.message);
    }
}

static void count(const rt_mix_place *places, int64_t counts[TASKS])
{
    for (int i = 0; i < PROBLEMS; i++) {
        counts[places[i].task]++;
    }
}

static void same(const rt_mix_place *a, const rt_mix_place *b)
{
    for (int i = 0; i < PROBLEMS; i++) {
        assert_int_equal(a[i].task, b[i].task);
        assert_int_equal(a[i].index, b[i].index);
    }
}

typedef void note_fn(rt_mix *mix, int64_t step);
static void note_nothing(rt_mix *mix, int64_t step)
{
    (void)mix;
    (void)step;
}

/* A run in one go; then, from each of some steps on, another one that knows only what a run store
 * would hold: the same problems in the same order. */
static void check_resume(mixture *m, note_fn *note)
{
    rt_mix_place *places = calloc(STEPS * PROBLEMS, sizeof *places), again[PROBLEMS];
    for (int step = 0; step < STEPS; step++) {
        step_of(m->mix, step, places + step * PROBLEMS);
        note(m->mix, step);
    }
    static const int from[] = {0, 1, 2, 63, 64, 65, 100, 151, 299};
    for (size_t i = 0; i < RT_COUNT(from); i++) {
        rt_mix *fresh;
        rt_error err;
        assert_int_equal(rt_mix_new(&fresh, m->set, &m->config, &err), 0);
        /* also what is newer than the version a learner came back with */
        for (int step = 0; step < STEPS; step++) {
            note(fresh, step);
        }
        for (int step = from[i]; step < RT_MIN(from[i] + 3, STEPS); step++) {
            step_of(fresh, step, again);
            same(again, places + step * PROBLEMS);
            step_of(m->mix, step, again); /* back in time */
            same(again, places + step * PROBLEMS);
        }
        rt_mix_free(&fresh);
    }
    free(places);
}

/* Over every prefix of the run a task is less than one problem away from its share. */
static void check_shares(mixture *m, const double shares[TASKS])
{
    rt_mix_place places[PROBLEMS];
    int64_t counts[TASKS] = {0};
    for (int step = 0; step < STEPS; step++) {
        step_of(m->mix, step, places);
        count(places, counts);
        for (int i = 0; i < TASKS; i++) {
            double share = shares[i] * PROBLEMS * (step + 1);
            assert_true(fabs((double)counts[i] - share) < 1 + 1e-9);
        }
    }
}

/* Whatever the strategy, an epoch gives every record once. */
static void check_epochs(mixture *m, int task, int size)
{
    rt_mix_place places[PROBLEMS];
    int *seen = calloc((size_t)size, sizeof *seen), taken = 0;
    for (int step = 0; step < STEPS; step++) {
        step_of(m->mix, step, places);
        for (int i = 0; i < PROBLEMS; i++) {
            if (places[i].task != task) {
                continue;
            }
            assert_in_range(places[i].index, 0, size - 1);
            assert_int_equal(seen[places[i].index], taken / size);
            seen[places[i].index]++;
            taken++;
        }
    }
    assert_true(taken > size);
    free(seen);
}

/* ---- strategies --------------------------------------------------------------------------------- */

/* Cycles of 1024 places hold the shares exactly, and are those of rt_problem_next. */
static void check_cycles(mixture *m, const int64_t of_cycle[TASKS])
{
    rt_mix_place places[PROBLEMS];
    rt_arena *arena = rt_arena_new(1 << 14);
    int64_t counts[TASKS] = {0};
    for (int step = 0; step < 128; step++) {
        step_of(m->mix, step, places);
        count(places, counts);
        for (int i = 0; i < PROBLEMS; i++) {
            rt_problem problem;
            rt_error err;
            assert_int_equal(
                rt_problem_next(m->set, step * PROBLEMS + i, arena, &problem, &err), 0);
            assert_int_equal(problem.id, (uint64_t)places[i].task << 48 | (uint64_t)places[i].index);
        }
        rt_arena_reset(arena);
    }
    for (int i = 0; i < TASKS; i++) {
        assert_int_equal(counts[i], 2 * of_cycle[i]);
    }
    rt_arena_free(&arena);
    check_resume(m, note_nothing);
    check_epochs(m, 1, 100);
}

static void weighted(void **state)
{
    (void)state;
    mixture m;
    write_tasks(&m, (int[]){10, 100, 1000});
    m.config.tasks[1].weight = 2;
    open_mix(&m);
    check_cycles(&m, (int64_t[]){256, 512, 256});
    end(&m);
}

static void by_size(void **state)
{
    (void)state;
    mixture m;
    write_tasks(&m, (int[]){25, 100, 900});
    m.config.mixing.strategy = RT_MIX_PROPORTIONAL;
    open_mix(&m);
    check_cycles(&m, (int64_t[]){25, 100, 899}); /* 24.98, 99.9, 899.1 */
    close_mix(&m);
    m.config.mixing.strategy = RT_MIX_TEMPERATURE; /* roots: 5, 10, 30 of 45 */
    open_mix(&m);
    check_cycles(&m, (int64_t[]){114, 227, 683}); /* 113.8, 227.6, 682.7: 2 of 3 are rounded up */
    end(&m);
}

static void quota(void **state)
{
    (void)state;
    mixture m;
    rt_mix_place places[PROBLEMS];
    write_tasks(&m, (int[]){10, 100, 1000});
    m.config.mixing.strategy = RT_MIX_QUOTA;
    m.config.tasks[0].quota = 3;
    m.config.tasks[1].quota = 5;
    m.config.tasks[2].quota = 8;
    open_mix(&m);
    for (int step = 0; step < STEPS; step++) {
        int64_t counts[TASKS] = {0};
        step_of(m.mix, step, places);
        count(places, counts);
        assert_int_equal(counts[0], 3);
        assert_int_equal(counts[1], 5);
        assert_int_equal(counts[2], 8);
    }
    check_resume(&m, note_nothing);
    check_epochs(&m, 1, 100);
    close_mix(&m);
    /* A quota stays exact beside tasks that share the rest, whose rounding is carried. */
    m.config.tasks[0].quota = m.config.tasks[2].quota = 0;
    m.config.tasks[2].weight = 2;
    open_mix(&m);
    check_shares(&m, (double[]){11. / 16 / 3, 5. / 16, 22. / 16 / 3});
    for (int step = 0; step < STEPS; step++) {
        int64_t counts[TASKS] = {0};
        step_of(m.mix, step, places);
        count(places, counts);
        assert_int_equal(counts[1], 5);
    }
    check_resume(&m, note_nothing);
    end(&m);
}

static void round_robin(void **state)
{
    (void)state;
    mixture m;
    rt_mix_place places[PROBLEMS];
    write_tasks(&m, (int[]){10, 100, 1000});
    m.config.mixing.strategy = RT_MIX_ROUND_ROBIN;
    m.config.tasks[0].weight = 7; /* no matter */
    open_mix(&m);
    for (int step = 0; step < STEPS; step++) {
        step_of(m.mix, step, places);
        for (int i = 0; i < PROBLEMS; i++) {
            assert_int_equal(places[i].task, (step * PROBLEMS + i) % TASKS);
        }
    }
    check_resume(&m, note_nothing);
    check_epochs(&m, 1, 100);
    end(&m);
}

/* Squared norms 1, 16 and nothing measured; one estimate is negative. */
static void note_norms(rt_mix *mix, int64_t step)
{
    double squared[TASKS] = {step % 2 ? 3 : -1, 16, NAN};
    rt_mix_note_norms(mix, step, squared);
}

static void gradient(void **state)
{
    (void)state;
    mixture m;
    rt_mix_place places[PROBLEMS];
    write_tasks(&m, (int[]){10, 100, 1000});
    m.config.mixing.strategy = RT_MIX_GRADIENT;
    m.config.mixing.gradient_floor = 0.2;
    m.config.run.staleness = 2;
    open_mix(&m);
    check_shares(&m, (double[]){1. / 3, 1. / 3, 1. / 3}); /* nothing is known: by weight */
    check_resume(&m, note_norms);
    /* Norms 1, 4 and their mean 2.5 of 7.5 in four fifths of the batch. */
    const double share[TASKS] = {0.2 / 3 + 0.8 / 7.5, 0.2 / 3 + 0.8 * 4 / 7.5, 0.2 / 3 + 0.8 / 3};
    int64_t counts[TASKS] = {0};
    for (int step = 6; step < 106; step++) { /* 6: whose last settled steps are 0 to 3 */
        step_of(m.mix, step, places);
        count(places, counts);
    }
    for (int i = 0; i < TASKS; i++) { /* what earlier steps left over is below 1 at both ends */
        assert_true(fabs((double)counts[i] - share[i] * PROBLEMS * 100) < 2);
    }
    close_mix(&m);
    m.config.mixing.gradient_squared = true;
    m.config.mixing.gradient_floor = 0;
    open_mix(&m);
    check_resume(&m, note_norms);
    memset(counts, 0, sizeof counts);
    for (int step = 6; step < 106; step++) {
        step_of(m.mix, step, places);
        count(places, counts);
    }
    const double squared[TASKS] = {1 / 25.5, 16 / 25.5, 8.5 / 25.5};
    for (int i = 0; i < TASKS; i++) {
        assert_true(fabs((double)counts[i] - squared[i] * PROBLEMS * 100) < 2);
    }
    end(&m);
}

/* ---- windows ------------------------------------------------------------------------------------ */

static void windows(void **state)
{
    (void)state;
    mixture m;
    rt_mix_place places[PROBLEMS];
    write_tasks(&m, (int[]){10, 100, 1000});
    m.config.tasks[0].window.from = 20;
    m.config.tasks[0].window.to = 60;
    m.config.tasks[0].window.ramp = 10;
    m.config.tasks[0].window.fade = 20;
    m.config.tasks[1].window.to = 50;
    open_mix(&m);
    double wanted[TASKS] = {0};
    int64_t counts[TASKS] = {0};
    for (int step = 0; step < 80; step++) {
        step_of(m.mix, step, places);
        int64_t now[TASKS] = {0};
        count(places, now);
        count(places, counts);
        double up = (step - 19) / 10., down = (60 - step) / 20.;
        double a = step < 20 || step >= 60 ? 0 : fmin(1, fmin(up, down)), b = step < 50;
        wanted[0] += PROBLEMS * a / (a + b + 1);
        wanted[1] += PROBLEMS * b / (a + b + 1);
        wanted[2] += PROBLEMS / (a + b + 1);
        assert_true((now[0] > 0) <= (a > 0));
        assert_int_equal(now[1] > 0, step < 50);
        assert_int_equal(rt_mix_state_of(m.mix, 0), step < 20   ? RT_MIX_EARLY
                                                    : step < 60 ? RT_MIX_IN
                                                                : RT_MIX_OVER);
        for (int i = 0; i < TASKS; i++) { /* a remainder is lost where a task leaves: two do */
            assert_true(fabs((double)counts[i] - wanted[i]) < 3);
        }
    }
    check_resume(&m, note_nothing);
    end(&m);
}

static void moving_window(void **state)
{
    (void)state;
    mixture m;
    rt_mix_place places[PROBLEMS];
    write_tasks(&m, (int[]){10, 100, 1000});
    for (int grow = 0; grow < 2; grow++) {
        m.config.tasks[1].window.share = 0.2;
        m.config.tasks[1].window.steps = 40;
        m.config.tasks[1].window.from = 10;
        m.config.tasks[1].window.grow = grow;
        open_mix(&m);
        int64_t most = 0, least = 100;
        for (int step = 10; step < 100; step++) {
            step_of(m.mix, step, places);
            double end_at = 0.2 + 0.8 * fmin(1, (step - 10) / 40.);
            bool seen[100] = {false};
            for (int i = 0; i < PROBLEMS; i++) {
                int64_t index = places[i].index;
                if (places[i].task != 1) {
                    continue;
                }
                assert_true((double)index < 100 * end_at + 1e-9);
                assert_true(grow || (double)index >= floor(100 * (end_at - 0.2)) - 1e-9);
                assert_true(!seen[index] || (grow && step >= 50)); /* an epoch may end in a batch */
                seen[index] = true;
                most = RT_MAX(most, step >= 50 ? index : 0);
                least = RT_MIN(least, step >= 50 ? index : 100);
            }
        }
        assert_int_equal(most, 99);
        assert_true(grow ? least == 0 : least == 80);
        check_resume(&m, note_nothing);
        close_mix(&m);
    }
    end(&m);
}

/* ---- tasks that leave --------------------------------------------------------------------------- */

static void once(void **state)
{
    (void)state;
    static const int strategies[] = {RT_MIX_WEIGHTED, RT_MIX_ROUND_ROBIN};
    for (size_t s = 0; s < RT_COUNT(strategies); s++) {
        mixture m;
        rt_mix_place places[PROBLEMS];
        rt_error err;
        write_tasks(&m, (int[]){10, 100, 1000});
        m.config.mixing.strategy = strategies[s];
        m.config.tasks[0].once = m.config.tasks[1].once = true;
        open_mix(&m);
        int64_t counts[TASKS] = {0};
        bool seen[TASKS][1000] = {{false}};
        for (int step = 0; step < 60; step++) {
            int64_t before = counts[1];
            step_of(m.mix, step, places);
            count(places, counts);
            assert_int_equal(rt_mix_state_of(m.mix, 1), before == 100 ? RT_MIX_DRY : RT_MIX_IN);
            for (int i = 0; i < PROBLEMS; i++) {
                assert_true(places[i].task == 2 || !seen[places[i].task][places[i].index]);
                seen[places[i].task][places[i].index] = true;
            }
        }
        assert_int_equal(counts[0], 10);
        assert_int_equal(counts[1], 100);
        assert_int_equal(counts[2], 60 * PROBLEMS - 110);
        check_resume(&m, note_nothing);
        assert_int_equal(rt_mix_check(m.mix, STEPS, &err), 0);
        close_mix(&m);
        m.config.tasks[2].once = true; /* 1110 problems: 69 steps and a bit */
        open_mix(&m);
        assert_int_equal(rt_mix_check(m.mix, 69, &err), 0);
        assert_int_equal(rt_mix_check(m.mix, 70, &err), RT_ERR_USAGE);
        assert_non_null(strstr(err.message, "lower run.steps to 69"));
        assert_int_equal(rt_mix_step(m.mix, 69, places, &err), RT_ERR_INPUT);
        step_of(m.mix, 68, places);
        end(&m);
    }
}

/* Task 1 is undecided from step 5 on but for step 7; task 2 from step 100 on. */
static void note_grades(rt_mix *mix, int64_t step)
{
    const int64_t answers[TASKS] = {8, 8, step % 3 ? 8 : 0};
    int64_t undecided[TASKS] = {step == 4 ? 8 : 7, 0, 0};
    undecided[1] = step >= 5 ? step == 7 ? 7 : 8 : 3;
    undecided[2] = step >= 100 ? answers[2] : 0;
    rt_mix_note_grades(mix, step, answers, undecided);
}

static void undecided(void **state)
{
    (void)state;
    mixture m;
    rt_mix_place places[PROBLEMS], other[PROBLEMS];
    write_tasks(&m, (int[]){10, 100, 1000});
    m.config.run.staleness = 1;
    open_mix(&m);
    rt_mix *calm;
    rt_error err;
    assert_int_equal(rt_mix_new(&calm, m.set, &m.config, &err), 0);
    int64_t counts[TASKS] = {0};
    for (int step = 0; step < STEPS; step++) {
        int64_t now[TASKS] = {0};
        step_of(m.mix, step, places);
        step_of(calm, step, other);
        note_grades(m.mix, step);
        count(places, now);
        /* Steps 8, 9 and 10 are the three; that of 10 settles for step 12. */
        assert_int_equal(rt_mix_state_of(m.mix, 1), step < 12 ? RT_MIX_IN : RT_MIX_UNDECIDED);
        if (step < 12) { /* until then nothing is different */
            same(places, other);
            continue;
        }
        assert_int_equal(now[1], 0);
        /* 100, 101 and 103 are the three steps that answered problems of task 2. */
        assert_int_equal(rt_mix_state_of(m.mix, 2), step < 105 ? RT_MIX_IN : RT_MIX_UNDECIDED);
        count(places, counts);
        double half = (RT_MIN(step, 104) - 11) * PROBLEMS / 2.;
        assert_true(fabs((double)counts[2] - half) < 1);
    }
    assert_int_equal(rt_mix_undecided(m.mix, 0), 0);
    check_resume(&m, note_grades);
    for (int step = 0; step < STEPS; step++) { /* the last one stays, and says how long */
        rt_mix_note_grades(m.mix, step, (int64_t[]){4, 0, 0}, (int64_t[]){4, 0, 0});
    }
    m.config.tasks[1].weight = m.config.tasks[2].weight = 0;
    step_of(m.mix, 50, places);
    assert_int_equal(rt_mix_state_of(m.mix, 0), RT_MIX_IN);
    assert_int_equal(rt_mix_undecided(m.mix, 0), 49);
    rt_mix_free(&calm);
    end(&m);
}

/* Epochs go on where the cycles stood when a task leaves. */
static void epochs_go_on(void **state)
{
    (void)state;
    mixture m;
    write_tasks(&m, (int[]){10, 100, 300});
    open_mix(&m);
    for (int step = 0; step < STEPS; step++) {
        note_grades(m.mix, step);
    }
    check_epochs(&m, 0, 10);
    check_epochs(&m, 2, 300);
    end(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weighted),      cmocka_unit_test(by_size),   cmocka_unit_test(quota),
        cmocka_unit_test(round_robin),   cmocka_unit_test(gradient),  cmocka_unit_test(windows),
        cmocka_unit_test(moving_window), cmocka_unit_test(once),      cmocka_unit_test(undecided),
        cmocka_unit_test(epochs_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
