/*
 * The coordinator from outside: whole runs, deaths and returns of every role, refusals, versions
 * in bounds, quick answers under load. The other roles are played (test_world.h).
 */
#include "coordinator/test_world.h"

static json_t *summary(const world *w)
{
    char path[128];
    snprintf(path, sizeof path, "%s/run/summary.json", w->dir);
    return json_load_file(path, 0, NULL);
}

/* What three steps end with when nothing goes wrong; every other run must get there too. */
static char expected_hash[33];

static void check_finished(const world *w)
{
    char hash[33];
    rt_hash_hex(hash_of(&w->learner), hash);
    assert_string_equal(hash, expected_hash);
    json_t *json = summary(w);
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "weights_hash")), hash);
    assert_int_equal(json_integer_value(json_object_get(json, "steps")), 3);
    const json_t *leases = json_object_get(json, "leases");
    /* 3 steps of 4 problems; 6 held-out problems, greedy and sampled, before and after. */
    assert_int_equal(json_integer_value(json_object_get(leases, "trained")), 12);
    assert_int_equal(json_integer_value(json_object_get(leases, "filtered")), 24);
    assert_true(json_is_real(json_object_get(json, "accuracy_before")));
    assert_true(json_is_real(json_object_get(json, "accuracy_after")));
    json_decref(json);
    assert_int_equal(query(w, "SELECT count(*) FROM trajectories WHERE fate = 'trained'"), 48);
    assert_int_equal(query(w, "SELECT count(*) FROM trajectories WHERE kind = 'eval'"), 36);
    assert_int_equal(query(w, "SELECT count(*) FROM groups"), 12);
    assert_int_equal(query(w, "SELECT count(*) FROM steps"), 3);
    assert_int_equal(query(w, "SELECT count(*) FROM leases WHERE fate IS NULL"), 0);
    assert_int_equal(query(w, "SELECT count(*) FROM workers WHERE \"left\" IS NULL AND "
                              "role = 'actor'"),
                     0);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void three_steps_with_one_worker(void **state)
{
    world *w = *state;
    start_coordinator(w);
    join(w, &w->workers[0], "actor-0");
    join(w, &w->learner, "learner");
    assert_int_equal(wait_end(w), 0);
    assert_int_equal(w->learner.batches, 3);
    rt_hash_hex(hash_of(&w->learner), expected_hash);
    check_finished(w);
    /* this objective has none, whatever the learner says */
    assert_int_equal(query(w, "SELECT count(*) FROM metrics WHERE name LIKE 'preference.%'"), 0);
    TURN_UNTIL(w, w->workers[0].stopped);
}

static void more_workers_change_nothing(void **state)
{
    world *w = *state;
    join(w, &w->learner, "learner"); /* order of starting does not matter */
    const char *const names[] = {"actor-0", "actor-1", "actor-2"};
    for (int i = 0; i < 3; i++) {
        w->workers[i].keep = true; /* until each has something to do */
        join(w, &w->workers[i], names[i]);
    }
    start_coordinator(w);
    TURN_UNTIL(w, w->workers[0].leases && w->workers[1].leases && w->workers[2].leases);
    for (int i = 0; i < 3; i++) {
        w->workers[i].keep = false;
        answer_held(&w->workers[i]);
    }
    assert_int_equal(wait_end(w), 0);
    check_finished(w);
}

/* One worker dies without a word, one answers twice, one with unknown weights; a foreign program
 * sends noise and another build knocks. */
static void bad_company(void **state)
{
    world *w = *state;
    start_coordinator(w);
    player *dying = &w->workers[0], *good = &w->workers[1], *foreign = &w->workers[2];
    join(w, dying, "actor-0");
    join(w, &w->learner, "learner");
    dying->keep = true;
    TURN_UNTIL(w, dying->held_count > 0);
    dying->mute = true;
    foreign->version_text = "9.9.9";
    join(w, foreign, "actor-2");
    TURN_UNTIL(w, foreign->refused[0]);
    assert_non_null(strstr(foreign->refused, "9.9.9"));
    rt_frame noise[2] = {{"\xff\xfenoise", 7}, {"", 0}};
    assert_int_equal(rt_socket_send_raw(foreign->socket, noise, 1, NULL), 0);
    assert_int_equal(rt_socket_send_raw(foreign->socket, noise, 2, NULL), 0);
    good->keep = true;
    join(w, good, "actor-1");
    TURN_UNTIL(w, good->held_count > 1);
    answer_lease(good, good->held[0], false); /* unknown weights: refused, goes out again */
    answer_lease(good, good->held[1], true);
    answer_lease(good, good->held[1], true); /* a duplicate */
    json_t *stats = ask_stats(w, "");
    TURN_UNTIL(w, json_integer_value(json_object_get(json_object_get(ask_stats(w, ""), "leases"),
                                                     "duplicate")) == 1);
    drop_held(good); /* what it held comes back by its end and new start */
    leave(good);
    join(w, good, "actor-1");
    assert_int_equal(wait_end(w), 0);
    (void)stats;
    check_finished(w);
    assert_true(query(w, "SELECT count(*) FROM events WHERE text LIKE '%is dropped%'") > 0);
    assert_true(query(w, "SELECT count(*) FROM events WHERE text LIKE '%never announced%'") > 0);
    assert_int_equal(query(w, "SELECT count(*) FROM workers WHERE why = 'silent'"), 1);
    assert_true(query(w, "SELECT max(attempt) FROM leases") > 0);
}

/* What the learner measured is kept, also of a step whose StepDone never came; other names are not. */
static void measures_of_the_learner(void **state)
{
    world *w = *state;
    start_coordinator(w);
    join(w, &w->workers[0], "actor-0");
    join(w, &w->learner, "learner");
    TURN_UNTIL(w, w->learner.version == 1);
    w->learner.silent_step = true;
    TURN_UNTIL(w, w->learner.version == 2);
    w->learner.silent_step = false;
    assert_int_equal(wait_end(w), 0);
    assert_int_equal(query(w, "SELECT count(*) FROM events WHERE text LIKE '%account of it is lost%'"), 1);
    const char *const names[] = {"grad/chain/norm2", "task.chain.gradient"};
    for (int i = 0; i < 2; i++) {
        char sql[200];
        snprintf(sql, sizeof sql, "SELECT count(*) FROM metrics WHERE name = '%s' AND value = 101 + step",
                 names[i]);
        assert_int_equal(query(w, sql), 3);
    }
    assert_int_equal(query(w, "SELECT count(*) FROM metrics WHERE name = 'task.chain.reward' AND value > 99"),
                     0);
}

static void learner_comes_back_older(void **state)
{
    world *w = *state;
    start_coordinator(w);
    join(w, &w->workers[0], "actor-0");
    join(w, &w->learner, "learner");
    TURN_UNTIL(w, w->learner.version == 1);
    w->learner.hold_batch = true;
    TURN_UNTIL(w, w->learner.batches == 2);
    leave(&w->learner);
    w->learner.hold_batch = false;
    memcpy(w->learner.data, w->learner.past[0], BLOB_BYTES);
    w->learner.version = 0;
    join(w, &w->learner, "learner");
    assert_int_equal(wait_end(w), 0);
    assert_int_equal(w->learner.batches, 2 + 3);
    char hash[33];
    rt_hash_hex(hash_of(&w->learner), hash);
    assert_string_equal(hash, expected_hash);
    assert_int_equal(query(w, "SELECT count(*) FROM steps"), 3);
    assert_true(query(w, "SELECT count(*) FROM leases WHERE fate = 'cancelled'") > 0);
    assert_true(query(w, "SELECT count(*) FROM events WHERE text LIKE '%goes on from step 0'") ==
                1);
}

/* The same version and a new start: the batch it had is sent again. */
static void learner_loses_a_batch(void **state)
{
    world *w = *state;
    start_coordinator(w);
    join(w, &w->workers[0], "actor-0");
    join(w, &w->learner, "learner");
    w->learner.hold_batch = true;
    TURN_UNTIL(w, w->learner.batches == 1);
    leave(&w->learner);
    w->learner.hold_batch = false;
    join(w, &w->learner, "learner");
    assert_int_equal(wait_end(w), 0);
    assert_int_equal(w->learner.batches, 1 + 3);
    check_finished(w);
}

static void stop_saves_and_a_second_start_goes_on(void **state)
{
    world *w = *state;
    start_coordinator(w);
    join(w, &w->workers[0], "actor-0");
    join(w, &w->learner, "learner");
    w->learner.hold_batch = false;
    TURN_UNTIL(w, w->learner.version == 1);
    w->workers[0].keep = true;
    ask_stats(w, "stop");
    assert_int_equal(wait_end(w), 130);
    TURN_UNTIL(w, w->learner.stopped && w->workers[0].stopped);
    assert_true(w->learner.stop_save);
    assert_null(summary(w));
    leave(&w->workers[0]);
    leave(&w->learner);
    start_coordinator(w);
    join(w, &w->workers[0], "actor-0");
    join(w, &w->learner, "learner");
    assert_int_equal(wait_end(w), 0);
    char hash[33];
    rt_hash_hex(hash_of(&w->learner), hash);
    assert_string_equal(hash, expected_hash);
    assert_int_equal(
        query(w, "SELECT count(*) FROM events WHERE text LIKE 'coordinator restarted%'"), 1);
    /* The evaluation at version 0 was not done again. */
    assert_int_equal(
        query(w, "SELECT count(*) FROM leases WHERE kind = 'eval' AND fate = 'filtered'"), 24);
}

static void a_killed_coordinator_goes_on(void **state)
{
    world *w = *state;
    start_coordinator(w);
    join(w, &w->workers[0], "actor-0");
    join(w, &w->learner, "learner");
    TURN_UNTIL(w, w->learner.version == 1);
    w->workers[0].keep = true;
    TURN_UNTIL(w, w->workers[0].held_count > 0);
    kill(w->coordinator, SIGKILL);
    assert_int_equal(wait_end(w), 1000 + SIGKILL);
    drop_held(&w->workers[0]);
    w->workers[0].keep = w->workers[0].welcome = w->learner.welcome = false;
    start_coordinator(w);
    assert_int_equal(wait_end(w), 0);
    char hash[33];
    rt_hash_hex(hash_of(&w->learner), hash);
    assert_string_equal(hash, expected_hash);
    /* Finished: a third start has nothing left to do. */
    leave(&w->workers[0]);
    leave(&w->learner);
    int batches = w->learner.batches;
    start_coordinator(w);
    join(w, &w->learner, "learner");
    assert_int_equal(wait_end(w), 0);
    assert_int_equal(w->learner.batches, batches);
    /* Another config may not continue it; more steps may. */
    leave(&w->learner);
    set(w, "run.seed=5");
    start_coordinator(w);
    assert_int_equal(wait_end(w), 2);
    w->sets_count--;
    set(w, "run.steps=4");
    start_coordinator(w);
    join(w, &w->workers[0], "actor-0");
    join(w, &w->learner, "learner");
    assert_int_equal(wait_end(w), 0);
    assert_int_equal(w->learner.version, 4);
}

/* The second task is judged in no step of the first two, which a new coordinator must know. */
static void tasks_are_mixed(void **state)
{
    world *w = *state;
    set(w, "run.steps=5");
    set(w, "tasks.1.name=sort");
    set(w, "tasks.1.grader=math");
    set(w, "mixing.strategy=round_robin");
    set(w, "mixing.undecided_steps=2");
    start_coordinator(w);
    w->workers[0].lost_grader = "math";
    join(w, &w->workers[0], "actor-0");
    join(w, &w->learner, "learner");
    TURN_UNTIL(w, w->learner.version == 2);
    kill(w->coordinator, SIGKILL);
    assert_int_equal(wait_end(w), 1000 + SIGKILL);
    drop_held(&w->workers[0]);
    w->workers[0].welcome = w->learner.welcome = false;
    start_coordinator(w);
    assert_int_equal(wait_end(w), 0);
    assert_int_equal(query(w, "SELECT sum(value) FROM metrics WHERE name = 'task.sort.problems'"), 4);
    assert_int_equal(query(w, "SELECT sum(value) FROM metrics WHERE name = 'task.chain.problems'"), 16);
    assert_int_equal(query(w, "SELECT count(*) FROM metrics WHERE name = 'task.sort.out'"), 3);
    assert_true(query(w, "SELECT count(*) FROM events WHERE text LIKE "
                         "'task sort is out of the mixture from step 2 on%'") > 0);
    assert_int_equal(w->learner.trained_of[0] + w->learner.trained_of[1], 16 * w->learner.batches);
    assert_int_equal(w->learner.trained_of[1], 2 * 8);
}

static void a_failed_step_ends_the_run(void **state)
{
    world *w = *state;
    start_coordinator(w);
    join(w, &w->workers[0], "actor-0");
    join(w, &w->learner, "learner");
    TURN_UNTIL(w, w->learner.version == 1);
    w->learner.fail_step = true;
    assert_int_equal(wait_end(w), 1);
    TURN_UNTIL(w, w->learner.stopped);
    assert_false(w->learner.stop_save);
    assert_int_equal(query(w, "SELECT count(*) FROM events WHERE text LIKE '%not a number%'"), 1);
}

static void asynchronous_versions_stay_in_bounds(void **state)
{
    world *w = *state;
    set(w, "run.staleness=2");
    set(w, "run.steps=6");
    start_coordinator(w);
    join(w, &w->workers[0], "actor-0");
    join(w, &w->workers[1], "actor-1");
    join(w, &w->learner, "learner");
    assert_int_equal(wait_end(w), 0);
    assert_int_equal(query(w, "SELECT count(*) FROM trajectories WHERE fate = 'trained'"), 96);
    assert_int_equal(query(w, "SELECT count(*) FROM trajectories WHERE kind = 'base' AND "
                              "(version > step OR version < step - 2)"),
                     0);
    assert_true(query(w, "SELECT count(*) FROM trajectories WHERE kind = 'base' AND "
                         "version < step") > 0);
}

/* A prompt that does not fit is left out, and a run of nothing else ends with the sentence. */
static void prompts_beyond_the_context(void **state)
{
    world *w = *state;
    set(w, "model.context=4");
    set(w, "eval.problems=0");
    start_coordinator(w);
    join(w, &w->learner, "learner");
    assert_int_equal(wait_end(w), 1);
    assert_int_equal(query(w, "SELECT count(*) FROM leases WHERE fate = 'failed'"), 4);
    assert_int_equal(query(w, "SELECT count(*) FROM events WHERE text LIKE 'none of the 4%'"), 1);
}

static int by_size(const void *a, const void *b)
{
    return (*(const int64_t *)a > *(const int64_t *)b) -
           (*(const int64_t *)a < *(const int64_t *)b);
}

static void stats_are_quick_under_load(void **state)
{
    enum { QUESTIONS = 50 };
    world *w = *state;
    set(w, "algorithm.problems=64");
    set(w, "algorithm.samples=8");
    set(w, "run.steps=7");
    set(w, "eval.problems=0");
    start_coordinator(w);
    join(w, &w->workers[0], "actor-0");
    join(w, &w->workers[1], "actor-1");
    join(w, &w->learner, "learner");
    TURN_UNTIL(w, w->learner.version >= 1);
    int64_t took[QUESTIONS];
    int64_t before = rt_now_ns(), leases = w->workers[0].leases + w->workers[1].leases;
    int asked = 0;
    while (asked < QUESTIONS && w->learner.version < 7) {
        int64_t start = rt_now_ns();
        ask_stats(w, "stats");
        took[asked++] = rt_now_ns() - start;
    }
    double seconds = (double)(rt_now_ns() - before) * 1e-9;
    leases = w->workers[0].leases + w->workers[1].leases - leases;
    qsort(took, (size_t)asked, sizeof took[0], by_size);
    printf("stats: median %.2f ms, worst %.2f ms of %d while %.0f results/s arrived\n",
           (double)took[asked / 2] * 1e-6, (double)took[asked - 1] * 1e-6, asked,
           (double)leases / seconds);
    assert_true(asked > 0);
    assert_int_equal(wait_end(w), 0);
    json_t *json = summary(w);
    double total = json_real_value(json_object_get(json_object_get(json, "seconds"), "total"));
    printf("a step of 512 trajectories in %.1f ms\n", total / 7 * 1e3);
    json_decref(json);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--coordinator") == 0) {
        return be_coordinator(argc, argv);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(three_steps_with_one_worker, setup, teardown),
        cmocka_unit_test_setup_teardown(more_workers_change_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_company, setup, teardown),
        cmocka_unit_test_setup_teardown(measures_of_the_learner, setup, teardown),
        cmocka_unit_test_setup_teardown(learner_comes_back_older, setup, teardown),
        cmocka_unit_test_setup_teardown(learner_loses_a_batch, setup, teardown),
        cmocka_unit_test_setup_teardown(stop_saves_and_a_second_start_goes_on, setup, teardown),
        cmocka_unit_test_setup_teardown(a_killed_coordinator_goes_on, setup, teardown),
        cmocka_unit_test_setup_teardown(tasks_are_mixed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_step_ends_the_run, setup, teardown),
        cmocka_unit_test_setup_teardown(asynchronous_versions_stay_in_bounds, setup, teardown),
        cmocka_unit_test_setup_teardown(prompts_beyond_the_context, setup, teardown),
        cmocka_unit_test_setup_teardown(stats_are_quick_under_load, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
