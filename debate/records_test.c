/* Records of each kind and context, their prompts as text; what a debate that went badly gives. */
#include "debate/test_world.h"

/* final answers 6 (agent 0), 4 (1), 6 (2), none (3); before: 1, 2, 3, 4 */
static const char *const TEXTS[] = {"\\boxed{1}", "\\boxed{2}", "\\boxed{3}", "\\boxed{4}",
                                    "\\boxed{6}", "\\boxed{4}", "x=\\boxed{6}", "no idea"};

#define FOUR "algorithm.debate.agents=4"

static rt_debate_records make(world *w, const rt_debate *debate, rt_debate_decision *decision)
{
    rt_debate_records records;
    rt_error err = {0};
    rt_debate_decide(world_settings(w), debate, w->arena, decision);
    if (rt_debate_records_make(w->rules, debate, decision, w->arena, &records, &err) != 0) {
        fail_msg("%s", err.message);
    }
    return records;
}

static char *prompt_of(const world *w, const rt_debate_record *record)
{
    return world_text(w, record->prompt, (size_t)record->prompt_count);
}

static void assert_prompt(const world *w, const rt_debate_record *record, const char *a, const char *b)
{
    char *text = prompt_of(w, record);
    if (strcmp(text, a) != 0 && strcmp(text, b) != 0) {
        fail_msg("prompt '%s' is neither '%s' nor '%s'", text, a, b);
    }
    rt_free(text);
}

static void dpo(void **state)
{
    (void)state;
    world *w = world_new(false, 200, (const char *const[]){FOUR, NULL});
    rt_debate *debate = world_debate(w, 77, TEXTS);
    rt_debate_decision d;
    rt_debate_records r = make(w, debate, &d);
    static const int pairs[][2] = {{0, 1}, {0, 3}, {2, 1}, {2, 3}};
    assert_string_equal(d.label, "6");
    assert_int_equal(r.count, 4);
    for (int i = 0; i < 4; i++) {
        const rt_debate_record *one = &r.items[i];
        assert_true(one->kind == RT_RECORD_DPO && one->debate == 77 && one->desirable && one->round == 1);
        assert_true(one->agent == pairs[i][0] && one->rejected_agent == pairs[i][1]);
        assert_ptr_equal(one->chosen, rt_debate_turn(debate, 1, pairs[i][0]));
        assert_ptr_equal(one->rejected, rt_debate_turn(debate, 1, pairs[i][1]));
        assert_string_equal(one->label, "6");
    }
    /* the peers are the others, both authors left out; one without answer is not quoted */
    assert_prompt(w, &r.items[0], "Q:7+5*3\nP:6\n", "");
    assert_prompt(w, &r.items[1], "Q:7+5*3\nP:4,6\n", "Q:7+5*3\nP:6,4\n");
    assert_prompt(w, &r.items[2], "Q:7+5*3\nP:6\n", "");
    assert_prompt(w, &r.items[3], "Q:7+5*3\nP:6,4\n", "Q:7+5*3\nP:4,6\n");
    /* all agree: nobody to prefer */
    const char *const same[] = {"", "", "", "", "\\boxed{6}", "\\boxed{6}", "\\boxed{6}", "\\boxed{6.0}"};
    assert_int_equal(make(w, world_debate(w, 78, same), &d).count, 0);
    assert_true(d.enough && d.agreement == 1);
    world_free(w);
    /* two agents: nobody is left to be quoted */
    w = world_new(false, 200, (const char *const[]){"algorithm.debate.agents=2", NULL});
    const char *const two[] = {"", "", "\\boxed{6}", "\\boxed{7}"};
    r = make(w, world_debate(w, 1, two), &d);
    assert_int_equal(r.count, 1);
    assert_true(r.items[0].agent == 1); /* "7" is the larger string */
    assert_prompt(w, &r.items[0], "Q:7+5*3\n", "");
    world_free(w);
}

static void contexts(void **state)
{
    (void)state;
    rt_debate_decision d;
    world *w = world_new(false, 200, (const char *const[]){FOUR, "algorithm.debate.context=previous", NULL});
    rt_debate_records r = make(w, world_debate(w, 77, TEXTS), &d);
    char *text = prompt_of(w, &r.items[0]);
    int digits = 0;
    assert_int_equal(strlen(text), strlen("Q:7+5*3\nP:1,2,3,4\n"));
    for (char c = '1'; c <= '4'; c++) {
        digits += strchr(text + 10, c) != NULL; /* all of the round before, the authors too */
    }
    assert_int_equal(digits, 4);
    for (int i = 1; i < r.count; i++) {
        assert_prompt(w, &r.items[i], text, text);
    }
    rt_free(text);
    world_free(w);
    w = world_new(false, 200, (const char *const[]){FOUR, "algorithm.debate.context=none", NULL});
    r = make(w, world_debate(w, 77, TEXTS), &d);
    assert_int_equal(r.count, 4);
    assert_prompt(w, &r.items[3], "Q:7+5*3\n", "");
    assert_int_equal(r.items[3].round, 1);
    world_free(w);
    /* first: round 1's texts against the final label, here one that agrees and three that do not */
    w = world_new(false, 200, (const char *const[]){FOUR, "algorithm.debate.context=first", NULL});
    const char *const texts[] = {"\\boxed{1}", "\\boxed{2}", "\\boxed{6}", "\\boxed{4}",
                                 "\\boxed{6}", "\\boxed{4}", "\\boxed{6}", ""};
    r = make(w, world_debate(w, 77, texts), &d);
    assert_int_equal(r.count, 3);
    for (int i = 0; i < 3; i++) {
        assert_true(r.items[i].agent == 2 && r.items[i].round == 0);
        assert_string_equal(r.items[i].chosen->text, "\\boxed{6}");
        assert_prompt(w, &r.items[i], "Q:7+5*3\n", "");
    }
    world_free(w);
}

static void sft(void **state)
{
    (void)state;
    rt_debate_decision d;
    world *w = world_new(false, 200, (const char *const[]){FOUR, "algorithm=maca_sft", NULL});
    rt_debate *debate = world_debate(w, 77, TEXTS);
    rt_debate_records r = make(w, debate, &d);
    assert_int_equal(r.count, 2);
    assert_true(r.items[0].agent == 0 && r.items[1].agent == 2 && !r.items[1].rejected);
    for (int i = 0; i < 2; i++) { /* the conversation in which it was sampled, id by id */
        rt_ids ids = {0};
        rt_prompt_report report;
        assert_int_equal(rt_debate_prompt(w->rules, debate, 1, r.items[i].agent, &ids, &report, NULL), 0);
        assert_int_equal(r.items[i].prompt_count, ids.count);
        assert_memory_equal(r.items[i].prompt, ids.items, ids.count * sizeof *ids.items);
        rt_ids_free(&ids);
    }
    world_free(w);
    w = world_new(false, 200, (const char *const[]){FOUR, "algorithm=maca_sft",
                                                    "algorithm.debate.context=none", NULL});
    r = make(w, world_debate(w, 77, TEXTS), &d);
    assert_int_equal(r.count, 2);
    assert_prompt(w, &r.items[1], "Q:7+5*3\n", "");
    world_free(w);
}

static void kto_and_grpo(void **state)
{
    (void)state;
    rt_debate_decision d;
    world *w = world_new(false, 200, (const char *const[]){FOUR, "algorithm=maca_kto", NULL});
    rt_debate_records r = make(w, world_debate(w, 77, TEXTS), &d);
    static const bool desirable[] = {true, false, true, false};
    assert_int_equal(r.count, 4);
    for (int i = 0; i < 4; i++) {
        assert_true(r.items[i].agent == i && r.items[i].desirable == desirable[i]);
        assert_true(r.items[i].reward == 0);
    }
    assert_prompt(w, &r.items[2], "Q:7+5*3\nP:4,6\n", "Q:7+5*3\nP:6,4\n");
    world_free(w);
    const char *const offline[] = {FOUR, "algorithm=maca_grpo", "algorithm.debate.online=false", NULL};
    w = world_new(false, 200, offline);
    r = make(w, world_debate(w, 77, TEXTS), &d);
    assert_int_equal(r.count, 4);
    /* one box in the last line: 0.5 more; none: −0.2, at least 0 */
    assert_true(r.items[0].reward == 2.5 && r.items[1].reward == 0.5 && r.items[2].reward == 2.5);
    assert_true(r.items[3].reward == 0 && !r.items[3].desirable && r.items[3].chosen);
    assert_true(rt_debate_reward(w->rules, "number", "\\boxed{6.0}", 11, "6") == 2.5);
    assert_true(rt_debate_reward(w->rules, "number", "\\boxed{6.0}", 11, NULL) == 0.5);
    world_free(w);
    w = world_new(false, 200, (const char *const[]){FOUR, "algorithm=maca_grpo", NULL});
    const char *const lost[] = {"", "", "", "", "\\boxed{6}", NULL, "\\boxed{6}", ""};
    r = make(w, world_debate(w, 77, lost), &d);
    assert_int_equal(r.count, 4); /* prompts only, of the lost agent too */
    assert_true(!r.items[1].chosen && r.items[1].reward == 0);
    assert_prompt(w, &r.items[1], "Q:7+5*3\nP:6,6\n", "");
    world_free(w);
}

static void bad_weather(void **state)
{
    (void)state;
    rt_debate_decision d;
    world *w = world_new(false, 200, (const char *const[]){"algorithm=maca_kto", NULL});
    /* nobody boxes anything: no label, no record */
    const char *const none[] = {"a", "", "c", "a", "", "c"};
    assert_int_equal(make(w, world_debate(w, 1, none), &d).count, 0);
    assert_null(d.label);
    /* a lost turn of the final round is no turn: neither desirable nor not, and nobody quotes it */
    const char *const lost[] = {"", "", "", "\\boxed{6}", NULL, "\\boxed{6}"};
    rt_debate_records r = make(w, world_debate(w, 1, lost), &d);
    assert_int_equal(r.count, 2);
    assert_true(r.items[1].agent == 2 && r.items[0].report.silent == 1);
    assert_prompt(w, &r.items[0], "Q:7+5*3\nP:6\n", "");
    /* the same question twice is two debates */
    const char *const other[] = {"", "", "", "\\boxed{7}", "\\boxed{7}", "\\boxed{6}"};
    rt_debate *a = world_debate(w, 1, lost), *b = world_debate(w, 2, other);
    assert_ptr_equal(a->problem, b->problem);
    rt_debate_records of_a = make(w, a, &d), of_b = make(w, b, &d);
    assert_true(of_a.count == 2 && of_b.count == 3);
    assert_true(of_a.items[0].debate == 1 && of_b.items[0].debate == 2);
    assert_string_equal(of_a.items[0].label, "6");
    assert_string_equal(of_b.items[0].label, "7");
    world_free(w);
    /* all different: as released the largest string; with a filter nothing */
    const char *const split[] = {"", "", "", "\\boxed{1}", "\\boxed{3}", "\\boxed{2}"};
    w = world_new(false, 200, NULL);
    r = make(w, world_debate(w, 1, split), &d);
    assert_string_equal(d.label, "3");
    assert_int_equal(r.count, 2);
    world_free(w);
    w = world_new(false, 200, (const char *const[]){"algorithm.debate.agreement_min=0.5", NULL});
    r = make(w, world_debate(w, 1, split), &d);
    assert_true(r.count == 0 && !d.enough);
    world_free(w);
    /* a question that does not fit */
    w = world_new(false, 3, NULL);
    r = make(w, world_debate(w, 1, split), &d);
    assert_true(r.count == 0 && r.unfit == 2);
    world_free(w);
}

/* What the gold answer is changes nothing unless it is asked for. */
static void gold_stays_out(void **state)
{
    (void)state;
    static const char *const kinds[] = {"maca_sft", "maca_dpo", "maca_kto", "maca_grpo"};
    for (size_t k = 0; k < RT_COUNT(kinds); k++) {
        for (int truth = 0; truth < 2; truth++) {
            char *algorithm = rt_format("algorithm=%s", kinds[k]);
            const char *const sets[] = {algorithm, FOUR, "algorithm.debate.online=false",
                                        truth ? "algorithm.debate.label=truth" : "run.steps=1", NULL};
            world *w = world_new(false, 200, sets);
            rt_debate_decision d;
            rt_debate *debate = world_debate(w, 77, TEXTS);
            w->problem.gold = "6";
            rt_debate_records a = make(w, debate, &d);
            w->problem.gold = "4";
            rt_debate_records b = make(w, debate, &d);
            bool same = a.count == b.count;
            for (int i = 0; same && i < a.count; i++) {
                const rt_debate_record *x = &a.items[i], *y = &b.items[i];
                same = x->agent == y->agent && x->rejected_agent == y->rejected_agent &&
                       x->desirable == y->desirable && x->reward == y->reward &&
                       strcmp(x->label, y->label) == 0 && x->prompt_count == y->prompt_count &&
                       memcmp(x->prompt, y->prompt, (size_t)x->prompt_count * sizeof *x->prompt) == 0;
            }
            assert_true(a.count > 0);
            assert_int_equal(same, !truth);
            rt_free(algorithm);
            world_free(w);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dpo),          cmocka_unit_test(contexts),    cmocka_unit_test(sft),
        cmocka_unit_test(kto_and_grpo), cmocka_unit_test(bad_weather), cmocka_unit_test(gold_stays_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
