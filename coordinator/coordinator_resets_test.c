/*
 * Plans with resets from outside: whole runs of a coordinator process with played workers, who
 * judge badly, think nothing and fail. Every fallback is counted, every lease ends once, and the
 * weights don't depend on who answers when.
 */
#include "coordinator/test_world.h"

static const char *const sets[] = {"algorithm.samples=8", "algorithm.name=srpo",
                                   "algorithm.problems=12", "run.steps=4",
                                   "eval.problems=0"};

static int setup_resets(void **state)
{
    int rc = setup(state);
    world *w = *state;
    w->thinks = true;
    for (size_t i = 0; i < RT_COUNT(sets); i++) {
        set(w, sets[i]);
    }
    return rc;
}

static void join_all(world *w, int workers)
{
    static const char *const names[] = {"actor-0", "actor-1", "actor-2"};
    join(w, &w->learner, "learner");
    for (int i = 0; i < workers; i++) {
        join(w, &w->workers[i], names[i]);
    }
}

static int64_t fallbacks(const world *w, const char *name)
{
    char sql[128];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM resets WHERE fallback = '%s'", name);
    int64_t rows = query(w, sql);
    snprintf(sql, sizeof sql, "SELECT sum(value) FROM metrics WHERE name = 'fallback.%s'", name);
    assert_int_equal(query(w, sql), rows); /* counted as they happen, too */
    return rows;
}

static void check_rows(const world *w)
{
    assert_int_equal(query(w, "SELECT count(*) FROM steps"), 4);
    assert_int_equal(query(w, "SELECT count(*) FROM leases WHERE fate IS NULL"), 0);
    assert_int_equal(query(w, "SELECT count(*) FROM trajectories WHERE fate IS NULL"), 0);
    assert_int_equal(query(w, "SELECT count(*) FROM trajectories WHERE kind = 'seed' AND "
                              "(fate = 'trained' OR advantage IS NOT NULL)"),
                     0);
    assert_int_equal(query(w, "SELECT count(*) FROM trajectories WHERE kind = 'reset' AND "
                              "suffix_start <> (SELECT tokens FROM resets WHERE id = reset_id)"),
                     0);
    assert_int_equal(query(w, "SELECT count(*) FROM trajectories WHERE kind = 'localize' AND "
                              "fate <> 'filtered'"),
                     0);
    /* 8 trained of each problem that was not given up. */
    assert_int_equal(query(w, "SELECT count(*) FROM trajectories WHERE fate = 'trained'"),
                     8 * (48 - query(w, "SELECT sum(value) FROM metrics WHERE name = 'failed'")));
}

static char calm_hash[33];

static void learner_hash(const world *w, char hex[33])
{
    rt_hash_hex(hash_of(&w->learner), hex);
}

static void every_judgement_has_its_fallback(void **state)
{
    world *w = *state;
    start_coordinator(w);
    join_all(w, 1);
    assert_int_equal(wait_end(w), 0);
    check_rows(w);
    assert_true(fallbacks(w, "parse") > 0);      /* nonsense, and a box out of range */
    assert_true(fallbacks(w, "none_wrong") > 0); /* \boxed{0} */
    assert_int_equal(fallbacks(w, "localize") + fallbacks(w, "continuation") +
                         fallbacks(w, "no_room") + fallbacks(w, "no_oracle"),
                     0);
    assert_int_equal(query(w, "SELECT count(*) FROM resets WHERE fallback IS NOT NULL AND "
                              "(thought <> 1 OR tokens <> 0)"),
                     0);
    assert_true(query(w, "SELECT count(*) FROM resets WHERE thought > 1") > 0);
    assert_true(query(w, "SELECT sum(value) FROM metrics WHERE name = 'zero_thoughts'") > 0);
    assert_int_equal(query(w, "SELECT sum(value) FROM metrics WHERE name = 'fallback.first_thought'"),
                     query(w, "SELECT count(*) FROM resets WHERE thought = 1"));
    learner_hash(w, calm_hash);
}

static void workers_and_their_order_change_nothing(void **state)
{
    world *w = *state;
    start_coordinator(w);
    join_all(w, 3);
    player *quick = &w->workers[0], *slow = &w->workers[1], *dying = &w->workers[2];
    quick->keep = slow->keep = dying->keep = true;
    TURN_UNTIL(w, quick->held_count > 0 && slow->held_count > 0 && dying->held_count > 0);
    dying->mute = true; /* its leases come back */
    quick->keep = false;
    answer_held(quick);
    TURN_UNTIL(w, quick->leases > 4);
    slow->keep = false;
    answer_held(slow);
    assert_int_equal(wait_end(w), 0);
    check_rows(w);
    char hash[33];
    learner_hash(w, hash);
    assert_string_equal(hash, calm_hash);
}

/* A continuation is wanted where its prefix was sampled, and falls back without waiting. */
static void continuations_prefer_who_has_the_prefix(void **state)
{
    world *w = *state;
    start_coordinator(w);
    join_all(w, 2);
    assert_int_equal(wait_end(w), 0);
    int64_t wanted = query(w, "SELECT sum(value) FROM metrics WHERE name = 'affinity.wanted'");
    int64_t hits = query(w, "SELECT sum(value) FROM metrics WHERE name = 'affinity.hits'");
    assert_int_equal(wanted, query(w, "SELECT count(*) FROM resets WHERE tokens > 0"));
    assert_true(hits > 0 && hits <= wanted);
    assert_true(query(w, "SELECT count(*) FROM trajectories t JOIN trajectories p ON "
                         "p.id = t.parent_id WHERE t.suffix_start > 0 AND t.worker = p.worker") >=
                4 * hits);
    char hash[33];
    learner_hash(w, hash);
    assert_string_equal(hash, calm_hash);
}

/* Judgements go there too while it has room, so that workers have the same to do. */
static void judgements_prefer_who_sampled(void **state)
{
    world *w = *state;
    set(w, "coordinator.heartbeat_ms=2000"); /* nobody is dropped, however busy the machine */
    start_coordinator(w);
    join_all(w, 2);
    player *first = &w->workers[0], *second = &w->workers[1];
    /* Both are there before either has room for everything: who came first would do it all. */
    first->keep = second->keep = true;
    TURN_UNTIL(w, first->held_count > 0 && second->held_count > 0);
    first->keep = second->keep = false;
    first->spare = second->spare = 1000; /* room at any time */
    answer_held(first);
    answer_held(second);
    assert_int_equal(wait_end(w), 0);
    int64_t judged = query(w, "SELECT count(*) FROM localizations");
    int64_t there = query(w, "SELECT count(*) FROM localizations l JOIN trajectories t ON t.id = l.id "
                             "JOIN trajectories p ON p.id = l.trajectory_id WHERE t.worker = p.worker");
    assert_true(judged > 0 && there == judged);
    assert_int_equal(query(w, "SELECT count(DISTINCT worker) FROM trajectories"), 2);
}

static void what_can_not_be_sampled_falls_back(void **state)
{
    world *w = *state;
    w->workers[0].fails_kind = "localize";
    start_coordinator(w);
    join_all(w, 1);
    TURN_UNTIL(w, w->learner.version == 2);
    w->workers[0].fails_kind = "reset";
    assert_int_equal(wait_end(w), 0);
    check_rows(w);
    assert_true(fallbacks(w, "localize") > 0);
    assert_true(fallbacks(w, "continuation") > 0);
    assert_true(query(w, "SELECT count(*) FROM leases WHERE fate = 'failed'") > 0);
}

/* More tokens than were asked for: the prefix leaves no room for a continuation. */
static void a_prefix_without_room(void **state)
{
    world *w = *state;
    set(w, "sampling.max_tokens=2");
    set(w, "algorithm.resets.chosen_by=random");
    start_coordinator(w);
    join_all(w, 1);
    assert_int_equal(wait_end(w), 0);
    check_rows(w);
    assert_true(fallbacks(w, "no_room") > 0);
}

static void an_oracle_that_knows_nothing(void **state)
{
    world *w = *state;
    set(w, "algorithm.name=srpo_oracle");
    start_coordinator(w);
    join_all(w, 1);
    assert_int_equal(wait_end(w), 0);
    check_rows(w);
    /* These thoughts are letters: every first one is wrong. */
    assert_int_equal(query(w, "SELECT count(*) FROM resets WHERE oracle = 1"),
                     query(w, "SELECT count(*) FROM resets"));
    assert_int_equal(query(w, "SELECT count(*) FROM localizations"), 0);
}

static void told_while_it_is_open_and_after(void **state)
{
    world *w = *state;
    start_coordinator(w);
    join_all(w, 1);
    TURN_UNTIL(w, w->learner.version >= 1);
    int64_t id = query(w, "SELECT min(id) FROM resets WHERE step = 0");
    char question[64];
    snprintf(question, sizeof question, "reset %lld", (long long)id);
    json_t *answer = ask_stats(w, question);
    assert_int_equal(json_integer_value(json_object_get(answer, "id")), id);
    assert_int_equal(json_array_size(json_object_get(answer, "continuations")), 4);
    assert_non_null(json_object_get(ask_stats(w, "{\"reset\": 1}"), "error"));
    assert_string_equal(json_string_value(json_object_get(
                            json_object_get(ask_stats(w, ""), "resets"), "plan")), "reset");
    assert_int_equal(wait_end(w), 0);
}

/* Statistics of earlier steps choose: a coordinator that is killed must choose the same. */
static void caro_survives_its_coordinator(void **state)
{
    char hash[2][33], dir[2][128]; /* `set` borrows */
    world *w = *state;
    set(w, "algorithm.name=caro");
    set(w, "run.steps=6");
    for (int killed = 0; killed < 2; killed++) {
        snprintf(dir[killed], sizeof dir[killed], "run.dir=%s/run-%d", w->dir, killed);
        set(w, dir[killed]);
        start_coordinator(w);
        join_all(w, 1);
        for (int64_t version = 2; killed && version <= 4; version += 2) {
            TURN_UNTIL(w, w->learner.version >= version);
            kill(w->coordinator, SIGKILL);
            assert_int_equal(wait_end(w), 1000 + SIGKILL);
            drop_held(&w->workers[0]);
            w->workers[0].welcome = w->learner.welcome = false;
            start_coordinator(w);
        }
        assert_int_equal(wait_end(w), 0);
        learner_hash(w, hash[killed]);
        leave(&w->workers[0]);
        leave(&w->learner);
        w->learner.version = 0;
        memcpy(w->learner.data, w->learner.past[0], BLOB_BYTES);
    }
    assert_string_equal(hash[0], hash[1]);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--coordinator") == 0) {
        return be_coordinator(argc, argv);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_judgement_has_its_fallback, setup_resets, teardown),
        cmocka_unit_test_setup_teardown(workers_and_their_order_change_nothing, setup_resets,
                                        teardown),
        cmocka_unit_test_setup_teardown(continuations_prefer_who_has_the_prefix, setup_resets,
                                        teardown),
        cmocka_unit_test_setup_teardown(judgements_prefer_who_sampled, setup_resets, teardown),
        cmocka_unit_test_setup_teardown(what_can_not_be_sampled_falls_back, setup_resets, teardown),
        cmocka_unit_test_setup_teardown(a_prefix_without_room, setup_resets, teardown),
        cmocka_unit_test_setup_teardown(an_oracle_that_knows_nothing, setup_resets, teardown),
        cmocka_unit_test_setup_teardown(told_while_it_is_open_and_after, setup_resets, teardown),
        cmocka_unit_test_setup_teardown(caro_survives_its_coordinator, setup_resets, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
