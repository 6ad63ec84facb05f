/* What is measured, by hand: three agents whose answers and changes are known. */
#include "debate/test_world.h"

/* The right answer is 6. Texts: one agent a column, one round a line. */
static void one_debate(void **state)
{
    (void)state;
    world *w = world_new(false, 200, (const char *const[]){"algorithm.debate.rounds=3", NULL});
    const char *const texts[] = {
        "\\boxed{6}", "\\boxed{4}", "\\boxed{4}",   /* wrong majority against agent 0 */
        "\\boxed{4}", "\\boxed{6}", "none",         /* 0 gives in; 1 is persuaded by 0; 2 is lost */
        "\\boxed{6}", "\\boxed{6.0}", "\\boxed{6}", /* 0 and 2 are persuaded by 1 */
    };
    rt_debate *debate = world_debate(w, 1, texts);
    rt_debate_measures m = {0};
    rt_measure_debate(&m, world_settings(w), debate);
    assert_true(m.debates == 1 && m.right == 1 && m.unparseable == 0);
    /* equal as strings: two of three */
    assert_true(m.agreement[0] == 0 && m.agreement[1] == 0 && m.agreement[2] == 1 && m.agreement[3] == 0);
    assert_true(m.rounds[0].turns == 3 && m.rounds[0].right == 1 && m.rounds[0].vote_right == 0);
    assert_true(m.rounds[0].switches == 0 && m.rounds[0].under_majority == 0);
    /* round 1: only agent 0 stands under a wrong majority of the others (4, 4): 1 sees 6, 4; 2 the same */
    assert_true(m.rounds[1].under_majority == 1 && m.rounds[1].sycophantic == 1);
    /* 1 and 2 were wrong, 0 was right and alone (1 of 3); 1 is right now */
    assert_true(m.rounds[1].under_minority == 2 && m.rounds[1].persuaded == 1);
    assert_true(m.rounds[1].switches == 3 && m.rounds[1].right == 1);
    /* a tie between 4 and 6 goes to the larger string */
    assert_int_equal(m.rounds[1].vote_right, 1);
    /* round 2: others of 0: 6, none; of 1: 4, none; of 2: 4, 6: nowhere more than half */
    assert_true(m.rounds[2].under_majority == 0 && m.rounds[2].under_minority == 2);
    assert_true(m.rounds[2].persuaded == 2 && m.rounds[2].switches == 2 && m.rounds[2].right == 3);
    for (int i = 0; i < 3; i++) {
        assert_true(m.agent_turns[i] == 1 && m.agent_right[i] == 1);
    }
    int64_t tokens = 0;
    for (int i = 0; i < 3; i++) {
        tokens += rt_debate_turn(debate, 1, i)->ids_count;
    }
    assert_int_equal(m.rounds[1].tokens, tokens);
    world_free(w);
}

static void sums_and_losses(void **state)
{
    (void)state;
    world *w = world_new(false, 200, NULL);
    rt_debate_measures m = {0};
    const char *const none[] = {"a", "b", "c", "a", "b", "c"};
    const char *const lost[] = {"\\boxed{6}", NULL, "\\boxed{6}", "\\boxed{6}", "\\boxed{5}", NULL};
    const char *const all[] = {"\\boxed{5}", "\\boxed{5}", "\\boxed{5}",
                               "\\boxed{5}", "\\boxed{5}", "\\boxed{5}"};
    rt_measure_debate(&m, world_settings(w), world_debate(w, 1, none));
    assert_true(m.agreement[0] == 1 && m.unparseable == 3 && m.right == 0 && m.rounds[1].switches == 0);
    rt_measure_debate(&m, world_settings(w), world_debate(w, 2, lost));
    assert_true(m.agreement[1] == 1 && m.unparseable == 3 && m.right == 1); /* 6 over 5: the larger string */
    assert_true(m.rounds[0].turns == 5 && m.rounds[1].turns == 5 && m.rounds[1].switches == 0);
    rt_measure_debate(&m, world_settings(w), world_debate(w, 3, all));
    assert_true(m.debates == 3 && m.agreement[3] == 1 && m.right == 1);
    /* a wrong majority that the agent is already part of presses nobody */
    assert_true(m.rounds[1].under_majority == 0 && m.rounds[1].under_minority == 0);
    /* without a gold answer nothing is right */
    w->problem.gold = "";
    rt_measure_debate(&m, world_settings(w), world_debate(w, 4, all));
    assert_true(m.right == 1 && m.rounds[0].right == 2);
    world_free(w);
}

static void samples(void **state)
{
    (void)state;
    rt_sample_measures m;
    const char *const answers[] = {"6", "4", "6.0", NULL, "4", "5", "6", "1", "2", "3"};
    rt_measure_samples("number", answers, 10, "6", &m);
    assert_true(m.s == 0.3 && m.pass && m.majority && m.right == 3 && m.unparseable == 1);
    rt_measure_samples("number", answers, 2, "4", &m);
    assert_true(m.s == 0.5 && m.pass && !m.majority); /* a tie: 6 is the larger string */
    rt_measure_samples("number", answers + 3, 1, "6", &m);
    assert_true(m.s == 0 && !m.pass && !m.majority && m.unparseable == 1);
    rt_measure_samples("number", answers, 0, "6", &m);
    assert_true(m.s == 0 && !m.pass);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_debate),
        cmocka_unit_test(sums_and_losses),
        cmocka_unit_test(samples),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
