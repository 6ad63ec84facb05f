/*
 * Debates from outside: whole runs of a coordinator process with played workers, who never box, say
 * nothing, differ, fail, lie and answer in any order. Each has a clear outcome, and the weights
 * don't depend on who answers when.
 */
#include "coordinator/test_world.h"

enum { AGENTS = 3, STEPS = 3, PROBLEMS = 4 };

static const char *const sets[] = {"algorithm.samples=8", "algorithm.name=maca_dpo",
                                   "eval.problems=0"};

static const char *const names[] = {"actor-0", "actor-1", "actor-2"};

static int agent_of(uint64_t trajectory)
{
    return (int)(trajectory & 0xFF) % AGENTS;
}

static int round_of(uint64_t trajectory)
{
    return (int)(trajectory & 0xFF) / AGENTS;
}

/* Two answers of the same length: pairs in most debates. */
static const char *disputes(uint64_t trajectory, char *text)
{
    snprintf(text, TOKENS_MAX, "so \\boxed{%u}", 3 + rt_below(7, trajectory, 0, 2));
    return text;
}

static int setup_debates(void **state)
{
    int rc = setup(state);
    world *w = *state;
    w->speaks = disputes;
    for (size_t i = 0; i < RT_COUNT(sets); i++) {
        set(w, sets[i]);
    }
    return rc;
}

static void join_all(world *w, int workers)
{
    join(w, &w->learner, "learner");
    for (int i = 0; i < workers; i++) {
        join(w, &w->workers[i], names[i]);
    }
}

static void run(world *w)
{
    start_coordinator(w);
    join_all(w, 1);
    assert_int_equal(wait_end(w), 0);
}

static int64_t sum_of(const world *w, const char *metric)
{
    char sql[128];
    snprintf(sql, sizeof sql, "SELECT round(sum(value) * 1000) FROM metrics WHERE name = '%s'",
             metric);
    return query(w, sql);
}

/* What holds however the debates went. */
static void check_rows(const world *w)
{
    assert_int_equal(query(w, "SELECT count(*) FROM steps"), STEPS);
    assert_int_equal(query(w, "SELECT count(*) FROM leases WHERE fate IS NULL"), 0);
    assert_int_equal(query(w, "SELECT count(*) FROM trajectories WHERE fate IS NULL"), 0);
    assert_int_equal(1000 * query(w, "SELECT count(*) FROM records"), sum_of(w, "debate.records"));
    assert_int_equal(1000 * w->learner.sequences, sum_of(w, "debate.lessons"));
    assert_int_equal(1000 * (STEPS * PROBLEMS - query(w, "SELECT count(*) FROM debates")),
                     sum_of(w, "failed"));
    assert_int_equal(query(w, "SELECT count(*) FROM turns"),
                     2 * AGENTS * query(w, "SELECT count(*) FROM debates"));
    /* A text is trained exactly if a record names it. */
    assert_int_equal(query(w, "SELECT count(*) FROM trajectories WHERE (fate = 'trained') <> "
                              "(id IN (SELECT chosen FROM records UNION "
                              "SELECT rejected FROM records WHERE rejected IS NOT NULL))"),
                     0);
}

static void learner_hash(const world *w, char hex[33])
{
    rt_hash_hex(hash_of(&w->learner), hex);
}

static char calm_hash[33];

static void a_calm_run(void **state)
{
    world *w = *state;
    run(w);
    check_rows(w);
    assert_true(query(w, "SELECT count(*) FROM records") > 0);
    assert_int_equal(
        query(w, "SELECT count(*) FROM records WHERE kind <> 'dpo' OR rejected IS NULL"), 0);
    learner_hash(w, calm_hash);
}

static void told_while_it_is_open(void **state)
{
    world *w = *state;
    start_coordinator(w);
    join_all(w, 1);
    json_t *metrics = NULL; /* the coordinator hears of the step some time after the learner did it */
    TURN_UNTIL(w, w->learner.version >= 1);
    do {
        metrics = json_object_get(ask_stats(w, ""), "metrics");
    } while (!json_object_get(metrics, "debate.accuracy"));
    assert_non_null(json_object_get(metrics, "debate.agreement.3"));
    assert_true(json_number_value(json_object_get(metrics, "debate.quoted")) ==
                2 * AGENTS * PROBLEMS);
    assert_null(json_object_get(w->answer, "resets"));
    assert_int_equal(wait_end(w), 0);
}

/* ---- order, failures, lies ---------------------------------------------------------------------- */

static void the_order_of_arrival_changes_nothing(void **state)
{
    world *w = *state;
    w->workers[0].lazy = true; /* newest first: nearly the reverse of what was asked for */
    run(w);
    check_rows(w);
    char hash[33];
    learner_hash(w, hash);
    assert_string_equal(hash, calm_hash);
}

/* What is on its way to a worker counts as held, so it never has more than it said at most; and with half
 * of that, its slots, taken no further debate begins there. */
static void a_worker_is_not_flooded(void **state)
{
    world *w = *state;
    w->agents = AGENTS;
    w->workers[0].lazy = true;
    w->workers[0].spare = 8;
    run(w);
    assert_in_range(w->workers[0].held_most, 5, 8);
    assert_in_range(w->workers[0].held_as_debates_begin, 2, 4);
    check_rows(w);
}

static void a_worker_that_dies_costs_its_turns(void **state)
{
    world *w = *state;
    start_coordinator(w);
    join_all(w, 2);
    player *living = &w->workers[0], *dying = &w->workers[1];
    living->keep = dying->keep = true;
    TURN_UNTIL(w, living->held_count > 0 && dying->held_count > 0);
    dying->mute = true; /* what it holds goes to the other one */
    living->keep = false;
    answer_held(living);
    assert_int_equal(wait_end(w), 0);
    check_rows(w);
    assert_true(query(w, "SELECT count(*) FROM leases WHERE attempt > 0") > 0);
    char hash[33];
    learner_hash(w, hash);
    assert_string_equal(hash, calm_hash);
}

static void another_trajectory_is_refused(void **state)
{
    world *w = *state;
    w->workers[0].lies = 2;
    run(w);
    check_rows(w);
    assert_int_equal(query(w, "SELECT count(*) FROM events WHERE text LIKE "
                              "'%trajectory % was not asked for'"),
                     2);
    char hash[33];
    learner_hash(w, hash);
    assert_string_equal(hash, calm_hash);
}

/* Round 2 of agent 1 in problem 2 of step 1 fails three times: no debate, and the step goes on. */
static void a_broken_turn_ends_its_debate(void **state)
{
    world *w = *state;
    w->broken = UINT64_C(1) << 24 | 2 << 8 | (AGENTS + 1);
    run(w);
    check_rows(w);
    assert_int_equal(sum_of(w, "failed"), 1000);
    assert_int_equal(query(w, "SELECT value FROM metrics WHERE name = 'failed' AND step = 1"), 1);
    assert_int_equal(
        query(w, "SELECT count(*) FROM leases WHERE fate = 'failed' AND kind = 'debate'"), 1);
    assert_int_equal(query(w, "SELECT count(*) FROM debates WHERE id = (1 << 24) + (2 << 8)"), 0);
    /* Its other texts are kept, and not trained. */
    assert_int_equal(query(w, "SELECT count(*) FROM trajectories WHERE id >> 8 = (1 << 16) + 2 AND "
                              "fate = 'filtered'"),
                     2 * AGENTS - 1);
}

/* The new answers of one agent can't be sampled: its debate makes no record. */
static void broken_new_answers_end_their_debate(void **state)
{
    world *w = *state;
    set(w, "algorithm.name=maca_grpo");
    w->broken = 2 * AGENTS + 8; /* agent 1 in problem 0 of step 0 */
    run(w);
    assert_int_equal(sum_of(w, "failed"), 1000);
    assert_int_equal(query(w, "SELECT count(*) FROM debates"), STEPS * PROBLEMS);
    assert_int_equal(query(w, "SELECT count(*) FROM records WHERE debate_id = 0"), 0);
    assert_int_equal(query(w, "SELECT count(*) FROM groups WHERE id < 256"), 0);
    assert_int_equal(
        query(w, "SELECT count(*) FROM trajectories WHERE id < 256 AND fate = 'trained'"), 0);
    assert_int_equal(1000 * query(w, "SELECT count(*) FROM records"), sum_of(w, "debate.records"));
    assert_int_equal(query(w, "SELECT count(*) FROM trajectories WHERE fate = 'trained'"),
                     8 * query(w, "SELECT count(*) FROM records"));
}

static const char *condenses(uint64_t trajectory, char *text)
{
    return round_of(trajectory) < 2 ? disputes(trajectory, text) : "in short, as above";
}

/* Summaries that nobody reads in time decide nothing about what is trained. */
static void summaries_in_any_order(void **state)
{
    char hash[2][33], dir[2][128], path[128], peers[160]; /* `set` borrows */
    world *w = *state;
    rt_error err = {0};
    snprintf(path, sizeof path, "%s/peers", w->dir);
    assert_int_equal(rt_file_write(path, "{peers}\n", 8, &err), 0);
    snprintf(peers, sizeof peers, "prompts.peers=%s", path); /* else only answers are quoted */
    set(w, peers);
    w->speaks = condenses;
    set(w, "algorithm.debate.summaries=true");
    set(w, "algorithm.debate.peers=1");
    set(w, "algorithm.debate.context=previous");
    for (int lazy = 0; lazy < 2; lazy++) {
        snprintf(dir[lazy], sizeof dir[lazy], "run.dir=%s/run-%d", w->dir, lazy);
        set(w, dir[lazy]);
        w->workers[0].lazy = lazy;
        run(w);
        assert_true(w->learner.sequences > 0);
        learner_hash(w, hash[lazy]);
        leave(&w->workers[0]);
        leave(&w->learner);
        w->learner.version = 0;
        memcpy(w->learner.data, w->learner.past[0], BLOB_BYTES);
    }
    assert_string_equal(hash[0], hash[1]);
}

/* A barrier changes when turns are asked for, and nothing else; not even a debate that fails halfway
 * holds up the others. */
static void a_barrier_changes_nothing(void **state)
{
    static const char *const sizes[] = {"algorithm.debate.barrier=0", "algorithm.debate.barrier=1",
                                        "algorithm.debate.barrier=65536"};
    char hash[3][33], dir[3][128]; /* `set` borrows */
    world *w = *state;
    set(w, "algorithm.debate.rounds=3");
    for (int barrier = 0; barrier < 3; barrier++) {
        snprintf(dir[barrier], sizeof dir[barrier], "run.dir=%s/run-%d", w->dir, barrier);
        set(w, dir[barrier]);
        set(w, sizes[barrier]);
        w->broken = AGENTS + 1; /* agent 1 in round 1 of problem 0 in step 0 */
        run(w);
        assert_true(w->learner.sequences > 0);
        learner_hash(w, hash[barrier]);
        leave(&w->workers[0]);
        leave(&w->learner);
        w->learner.version = 0;
        memcpy(w->learner.data, w->learner.past[0], BLOB_BYTES);
    }
    assert_string_equal(hash[0], hash[1]);
    assert_string_equal(hash[0], hash[2]);
}

/* ---- what agents say -------------------------------------------------------------------------- */

static const char *one_never_boxes(uint64_t trajectory, char *text)
{
    return agent_of(trajectory) == 2 ? "I would rather not say" : disputes(trajectory, text);
}

static void an_agent_that_never_boxes(void **state)
{
    world *w = *state;
    w->speaks = one_never_boxes;
    run(w);
    check_rows(w);
    assert_int_equal(query(w, "SELECT count(*) FROM turns WHERE (answer IS NULL) <> (agent = 2)"),
                     0);
    assert_int_equal(query(w, "SELECT count(*) FROM records WHERE agent = 2"),
                     0); /* never chosen */
    /* Whoever agrees is preferred to it, in every debate. */
    assert_int_equal(query(w, "SELECT count(*) FROM records WHERE rejected & 255 = 5"),
                     query(w, "SELECT sum(votes) FROM debates"));
    assert_int_equal(sum_of(w, "debate.unparseable"), 1000 * STEPS / AGENTS);
    assert_int_equal(sum_of(w, "debate.silent"),
                     1000 * 2 * STEPS * PROBLEMS); /* both others read it */
}

static const char *empty_box(uint64_t trajectory, char *text)
{
    (void)text;
    return agent_of(trajectory) == 0 ? "" : "\\boxed{ }";
}

/* The empty answer wins the vote and teaches nothing; agent 0 does not even say a word. */
static void empty_answers(void **state)
{
    world *w = *state;
    w->speaks = empty_box;
    run(w);
    check_rows(w);
    assert_int_equal(query(w,
                           "SELECT count(*) FROM debates WHERE consensus = '' AND label = '' AND "
                           "votes = 2 AND enough = 0"),
                     STEPS * PROBLEMS);
    assert_int_equal(query(w, "SELECT count(*) FROM records"), 0);
    assert_int_equal(query(w, "SELECT count(*) FROM turns WHERE answer IS NULL AND agent = 0"),
                     2 * STEPS * PROBLEMS);
    assert_int_equal(w->learner.batches, STEPS); /* without a sequence, but the step is done */
    assert_int_equal(w->learner.sequences, 0);
    assert_int_equal(sum_of(w, "debate.without_record"), 1000 * STEPS * PROBLEMS);
    assert_int_equal(sum_of(w, "debate.quoted"), 0);
    /* "P:-" and a line break: nobody is left to quote. */
    assert_int_equal(query(w, "SELECT count(*) FROM trajectories WHERE id & 255 >= 3 AND "
                              "hex(substr(prompt_ids, -16)) = '500000003A0000002D0000000A000000'"),
                     AGENTS * STEPS * PROBLEMS);
}

static const char *all_different(uint64_t trajectory, char *text)
{
    snprintf(text, TOKENS_MAX, "\\boxed{%d}", 5 - agent_of(trajectory));
    return text;
}

static void all_agents_different(void **state)
{
    world *w = *state;
    w->speaks = all_different;
    run(w);
    check_rows(w);
    /* As released: of several the largest text, here agent 0's. */
    assert_int_equal(query(w,
                           "SELECT count(*) FROM debates WHERE consensus = '5' AND label = '5' AND "
                           "votes = 1 AND enough = 1"),
                     STEPS * PROBLEMS);
    assert_int_equal(query(w, "SELECT count(*) FROM records WHERE agent = 0"),
                     2 * STEPS * PROBLEMS);
    assert_int_equal(query(w, "SELECT count(*) FROM records WHERE agent <> 0"), 0);
}

static void all_agents_different_without_majority(void **state)
{
    world *w = *state;
    set(w, "algorithm.debate.vote=strict");
    w->speaks = all_different;
    run(w);
    check_rows(w);
    assert_int_equal(query(w,
                           "SELECT count(*) FROM debates WHERE consensus IS NULL AND label IS NULL "
                           "AND votes = 0 AND enough = 0"),
                     STEPS * PROBLEMS);
    assert_int_equal(query(w, "SELECT count(*) FROM records"), 0);
    assert_int_equal(w->learner.batches, STEPS);
}

/* A step without a record that is done while no coordinator is there has its row all the same. */
static void a_step_of_nothing_is_not_lost(void **state)
{
    world *w = *state;
    set(w, "algorithm.debate.vote=strict");
    w->speaks = all_different;
    w->learner.hold_batch = true;
    start_coordinator(w);
    join_all(w, 1);
    TURN_UNTIL(w, w->learner.batches == 1);
    kill(w->coordinator, SIGKILL);
    assert_int_equal(wait_end(w), 1000 + SIGKILL);
    w->learner.version++; /* nothing to learn: the same weights */
    w->learner.hold_batch = false;
    drop_held(&w->workers[0]);
    w->workers[0].welcome = w->learner.welcome = false;
    start_coordinator(w);
    assert_int_equal(wait_end(w), 0);
    assert_int_equal(query(w, "SELECT count(*) FROM steps"), STEPS);
}

/* ---- what does not fit ------------------------------------------------------------------------ */

static const char *long_answers(uint64_t trajectory, char *text)
{
    snprintf(text, TOKENS_MAX, "\\boxed{%d%019d}", 1 + round_of(trajectory), agent_of(trajectory));
    return text;
}

/* Room for 64 tokens: a question of 12 to 16, an own turn of 28 and two answers of 20 do not go in.
 */
static void texts_of_peers_are_cut(void **state)
{
    world *w = *state;
    set(w, "sampling.max_tokens=448");
    w->speaks = long_answers;
    run(w);
    check_rows(w);
    assert_int_equal(sum_of(w, "failed"), 0);
    int64_t turns = AGENTS * STEPS * PROBLEMS;
    assert_int_equal(sum_of(w, "debate.quoted"), 1000 * 2 * turns);
    assert_int_equal(sum_of(w, "debate.cut"), 1000 * 2 * turns); /* both to one length */
    assert_int_equal(query(w, "SELECT sum(cut) FROM turns"), 2 * turns);
    assert_true(sum_of(w, "debate.cut.bytes") > 0);
    assert_int_equal(sum_of(w, "debate.anew"), 0);
    assert_int_equal(
        query(w, "SELECT count(*) FROM trajectories WHERE length(prompt_ids) > 4 * 64"), 0);
}

/* Room for 24 tokens: what was said before does not fit, and of the longer questions nothing does.
 */
static void prompts_that_never_fit(void **state)
{
    world *w = *state;
    set(w, "sampling.max_tokens=488");
    set(w, "tasks.0.thoughts_max=12");
    run(w);
    check_rows(w);
    int64_t failed = query(w, "SELECT sum(value) FROM metrics WHERE name = 'failed'");
    assert_true(failed > 0 && failed < STEPS * PROBLEMS);
    assert_int_equal(query(w,
                           "SELECT count(*) FROM events WHERE text LIKE "
                           "'problem % is left out: task chain: a question is longer than the 24 "
                           "tokens that a prompt may have%'"),
                     failed);
    assert_true(sum_of(w, "debate.anew") > 0);
    assert_int_equal(
        query(w, "SELECT count(*) FROM trajectories WHERE length(prompt_ids) > 4 * 24"), 0);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--coordinator") == 0) {
        return be_coordinator(argc, argv);
    }
#define DEBATE_TEST(name) cmocka_unit_test_setup_teardown(name, setup_debates, teardown)
    const struct CMUnitTest tests[] = {
        DEBATE_TEST(a_calm_run),
        DEBATE_TEST(told_while_it_is_open),
        DEBATE_TEST(the_order_of_arrival_changes_nothing),
        DEBATE_TEST(a_worker_is_not_flooded),
        DEBATE_TEST(a_worker_that_dies_costs_its_turns),
        DEBATE_TEST(another_trajectory_is_refused),
        DEBATE_TEST(a_broken_turn_ends_its_debate),
        DEBATE_TEST(broken_new_answers_end_their_debate),
        DEBATE_TEST(summaries_in_any_order),
        DEBATE_TEST(a_barrier_changes_nothing),
        DEBATE_TEST(an_agent_that_never_boxes),
        DEBATE_TEST(empty_answers),
        DEBATE_TEST(all_agents_different),
        DEBATE_TEST(all_agents_different_without_majority),
        DEBATE_TEST(a_step_of_nothing_is_not_lost),
        DEBATE_TEST(texts_of_peers_are_cut),
        DEBATE_TEST(prompts_that_never_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
