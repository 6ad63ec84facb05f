/* Answers, votes, labels, rewards and weights: hand-derived cases, then the golden files where they are. */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "debate/debate.h"

static rt_arena *arena;

static int start(void **state)
{
    (void)state;
    arena = rt_arena_new(4096);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    rt_arena_free(&arena);
    return 0;
}

static const char *parse(const char *grader, const char *text)
{
    return rt_answer_parse(grader, text, strlen(text), arena);
}

static void answers_are_read(void **state)
{
    (void)state;
    assert_string_equal(parse("math", "a \\boxed{ \\frac{1}{2} } b \\boxed{3}"), "\\frac{1}{2}");
    assert_string_equal(parse("number", "\\boxed{7 \\boxed{8}"), "8"); /* the first complete one */
    assert_null(parse("number", "the answer is 12"));
    assert_null(parse("number", "\\boxed{7"));
    assert_null(parse("number", ""));
    assert_string_equal(parse("number", "\\boxed{}"), "");
    assert_string_equal(parse("choice", "\\boxed{(b)}"), "B");
    assert_string_equal(parse("choice", "\\boxed{c ) 3}"), "C");
    assert_null(parse("choice", "\\boxed{42}"));
    assert_null(parse("choice", "B"));
    assert_string_equal(parse("yesno", "\\boxed{No, it is not}"), "no");
    assert_string_equal(parse("yesno", "\\boxed{YES}"), "yes");
    assert_null(parse("yesno", "\\boxed{nothing}"));
    assert_null(rt_answer_parse("math", "\\boxed{1\0002}", 11, arena));
    char text[RT_ANSWER_BYTES_MAX + 32];
    memset(text, '1', sizeof text);
    memcpy(text, "\\boxed{", 7);
    text[7 + RT_ANSWER_BYTES_MAX] = '}';
    assert_non_null(rt_answer_parse("math", text, sizeof text, arena));
    text[7 + RT_ANSWER_BYTES_MAX] = '1';
    text[8 + RT_ANSWER_BYTES_MAX] = '}';
    assert_null(rt_answer_parse("math", text, sizeof text, arena));
}

static void answers_are_compared(void **state)
{
    (void)state;
    assert_true(rt_answer_equal("number", "1,000", "1000"));
    assert_true(rt_answer_equal("math", "\\frac12", "0.5"));
    assert_true(rt_answer_equal("math", "10\\%", "10"));
    assert_true(rt_answer_equal("number", "10", "10%"));
    assert_false(rt_answer_equal("math", "10%", "0.1"));
    assert_false(rt_answer_equal("exact", "1,000", "1000"));
    assert_false(rt_answer_equal("math", "", "0"));
    assert_false(rt_answer_equal("math", "0", ""));
    assert_true(rt_answer_equal("math", "", ""));
    assert_true(rt_answer_equal("math", "no {number", "no {number"));
    assert_true(rt_answer_equal("steps", "6", "6.0"));
}

static rt_vote vote(int rule, const char *const *answers, const double *means, int agents)
{
    rt_vote made;
    rt_vote_count(rule, "number", answers, means, agents, &made);
    return made;
}

static void maca_rule(void **state)
{
    (void)state;
    rt_vote v = vote(RT_VOTE_MACA, (const char *const[]){"12", "7", "12"}, NULL, 3);
    assert_string_equal(v.answer, "12");
    assert_true(v.agrees[0] && !v.agrees[1] && v.agrees[2] && v.agreeing == 2 && v.clusters == 2);
    v = vote(RT_VOTE_MACA, (const char *const[]){"12", "7"}, NULL, 2);
    assert_string_equal(v.answer, "7"); /* as strings */
    v = vote(RT_VOTE_MACA, (const char *const[]){"9", "10", "100"}, NULL, 3);
    assert_string_equal(v.answer, "9");
    v = vote(RT_VOTE_MACA, (const char *const[]){NULL, "12", NULL}, NULL, 3);
    assert_string_equal(v.answer, "12");
    assert_true(v.agreeing == 1 && v.cluster[0] == -1 && v.cluster[1] == 0);
    v = vote(RT_VOTE_MACA, (const char *const[]){NULL, NULL, NULL}, NULL, 3);
    assert_true(!v.answer && v.agreeing == 0 && v.clusters == 0);
    v = vote(RT_VOTE_MACA, (const char *const[]){"", "", "3"}, NULL, 3);
    assert_string_equal(v.answer, "");
    /* a cluster is called like its first member, in order of agents */
    v = vote(RT_VOTE_MACA, (const char *const[]){"12.0", "5", "12"}, NULL, 3);
    assert_string_equal(v.answer, "12.0");
    assert_int_equal(v.agreeing, 2);
}

static void strict_rule(void **state)
{
    (void)state;
    assert_null(vote(RT_VOTE_STRICT, (const char *const[]){"1", "2", "3"}, NULL, 3).answer);
    assert_null(vote(RT_VOTE_STRICT, (const char *const[]){"1", "1", NULL, NULL}, NULL, 4).answer);
    rt_vote v = vote(RT_VOTE_STRICT, (const char *const[]){"1", "1", NULL}, NULL, 3);
    assert_string_equal(v.answer, "1");
    assert_int_equal(v.agreeing, 2);
}

static void weighted_rule(void **state)
{
    (void)state;
    const char *const answers[] = {"1", "2", "2"};
    /* one sure agent against two unsure ones: 1 > 2 exp(-2) */
    assert_string_equal(vote(RT_VOTE_WEIGHTED, answers, (const double[]){0, -2, -2}, 3).answer, "1");
    assert_string_equal(vote(RT_VOTE_WEIGHTED, answers, (const double[]){-2, -2, -2}, 3).answer, "2");
    /* no log-probs: weights 0, so members decide */
    assert_string_equal(vote(RT_VOTE_WEIGHTED, answers, NULL, 3).answer, "2");
    const double odd[] = {NAN, INFINITY, -INFINITY}; /* 0, 1, 0 */
    assert_string_equal(vote(RT_VOTE_WEIGHTED, (const char *const[]){"1", "2", "3"}, odd, 3).answer, "2");
    /* the order of summing decides nothing: many small weights against their sum in another order */
    const char *const a[] = {"5", "5", "5", "6", "6", "6"};
    const double x[] = {-0.1, -0.7, -1.3, -1.3, -0.1, -0.7};
    assert_string_equal(vote(RT_VOTE_WEIGHTED, a, x, 6).answer, "6"); /* a tie: the larger string */
}

static rt_debate *debate_of(const rt_problem *problem, const char *const *answers, int rounds, int agents)
{
    static const int32_t ids[] = {1};
    rt_debate_settings settings = {.agents = agents, .rounds = rounds};
    rt_debate *debate = rt_debate_new(&settings, 1, problem, arena);
    for (int i = 0; i < rounds * agents; i++) {
        debate->turns[i] = (rt_turn){.ids = ids, .ids_count = 1, .text = "", .answer = answers[i]};
    }
    return debate;
}

static void labels(void **state)
{
    (void)state;
    const rt_problem problem = {.problem = "", .gold = " 3 ", .grader = "number", .task_name = "t"};
    const char *const answers[] = {"1", "1", "2", "2", "3", "2"};
    rt_debate *debate = debate_of(&problem, answers, 2, 3);
    rt_debate_settings settings = {.agents = 3, .rounds = 2, .vote = RT_VOTE_MACA, .agreement_min = 0.5};
    rt_debate_decision d;
    rt_debate_decide(&settings, debate, arena, &d);
    assert_string_equal(d.label, "2");
    assert_true(d.enough && d.source == RT_LABEL_CONSENSUS && d.agreement == 2.0 / 3);
    settings.label = RT_LABEL_FIRST_ROUND;
    rt_debate_decide(&settings, debate, arena, &d);
    assert_string_equal(d.label, "1");
    settings.label = RT_LABEL_TRUTH;
    rt_debate_decide(&settings, debate, arena, &d);
    assert_string_equal(d.label, "3");
    assert_true(!d.enough && d.agreement == 1.0 / 3);
    settings.agreement_min = 0;
    rt_debate_decide(&settings, debate, arena, &d);
    assert_true(d.enough);
    /* an empty answer may win, and gives nothing */
    settings.label = RT_LABEL_CONSENSUS;
    rt_debate_decide(&settings, debate_of(&problem, (const char *const[]){"", "", "3"}, 1, 3), arena, &d);
    assert_true(d.label && !*d.label && !d.enough);
    settings.vote = RT_VOTE_STRICT;
    rt_debate_decide(&settings, debate_of(&problem, (const char *const[]){"1", "2", "3"}, 1, 3), arena, &d);
    assert_true(!d.label && !d.enough);
}

static void rewards(void **state)
{
    (void)state;
#define REWARD(text) rt_format_reward(text, strlen(text))
    assert_true(REWARD("first line of it\nsecond line of it\nthird line of it\nso \\boxed{4}") ==
                0.2 + 0.04 + 0.3 + 0.2);
    assert_true(REWARD("first line of it\nsecond line of it\n\\boxed{4} \\boxed{5}") == 0);
    assert_true(REWARD("\\boxed{4}\nexactly10!") == 0.3 - 0.1);
    assert_true(REWARD("") == 0);
    assert_true(REWARD("ten letter\n\\boxed{1}\n \n") == 0.5);
    double good, bad;
    rt_kto_weights(900, 300, true, 1, false, &good, &bad);
    assert_true(good == 1 && bad == 4.0 / 3.0);
    rt_kto_weights(900, 300, false, 0.5, true, &good, &bad);
    assert_true(good == 1.5 && bad == 0.5);
    rt_kto_weights(100, 110, true, 1, false, &good, &bad);
    assert_true(good == 1.1 && bad == 1);
    rt_kto_weights(0, 5, true, 1, false, &good, &bad);
    assert_true(good == 1 && bad == 1);
}

/* ---- golden files ------------------------------------------------------------------------------------ */

static json_t *golden(const char *name)
{
    char *path = rt_format("../shared/golden/%s", name);
    json_t *rows = json_load_file(path, JSON_ALLOW_NUL, NULL);
    rt_free(path);
    if (!rows) {
        skip();
    }
    assert_true(json_array_size(rows) > 10);
    return rows;
}

/* The data sets of the file differ in how many letters they allow; a parser for one grader has the
 * widest range, so letters go through rt_choice_parse. */
static const char *answer_of(const char *dataset, const json_t *reply)
{
    const char *text = json_string_value(reply), *box;
    size_t bytes = json_string_length(reply), count;
    bool choice = strcmp(dataset, "gsm8k") != 0 && strcmp(dataset, "math") != 0;
    if (!choice) {
        return rt_answer_parse("math", text, bytes, arena);
    }
    char last = strcmp(dataset, "gpqa") == 0 ? 'D' : 'E';
    char letter = rt_boxed_first(text, bytes, &box, &count) ? rt_choice_parse(box, count, last) : 0;
    char *copy = rt_arena_alloc(arena, 2);
    copy[0] = letter;
    return letter ? copy : NULL;
}

static bool vote_agrees(const json_t *row)
{
    const char *dataset = json_string_value(json_object_get(row, "dataset"));
    const char *grader = strcmp(dataset, "gsm8k") == 0 || strcmp(dataset, "math") == 0 ? "math" : "choice";
    const json_t *replies = json_object_get(row, "replies"), *labels_of = json_object_get(row, "kto_labels");
    const char *answers[RT_AGENTS_MAX];
    int agents = (int)json_array_size(replies);
    bool same = true;
    for (int i = 0; i < agents; i++) {
        const char *want = json_string_value(json_array_get(json_object_get(row, "answers"), (size_t)i));
        answers[i] = answer_of(dataset, json_array_get(replies, (size_t)i));
        same = same && !want == !answers[i] && (!want || strcmp(want, answers[i]) == 0);
    }
    rt_vote v;
    rt_vote_count(RT_VOTE_MACA, grader, answers, NULL, agents, &v);
    const char *consensus = json_string_value(json_object_get(row, "consensus"));
    same = same && !consensus == !v.answer && (!consensus || strcmp(consensus, v.answer) == 0);
    size_t agree = 0, pair = 0;
    const json_t *pairs = json_object_get(row, "dpo_pairs");
    for (int i = 0; i < agents && consensus; i++) {
        agree += v.agrees[i];
        for (int j = 0; j < agents && *consensus; j++) {
            if (v.agrees[i] && !v.agrees[j]) {
                const json_t *want = json_array_get(pairs, pair++);
                same = same && json_integer_value(json_array_get(want, 0)) == i &&
                       json_integer_value(json_array_get(want, 1)) == j;
            }
        }
        if (json_array_size(labels_of) > 0)
            same = same && json_is_true(json_array_get(labels_of, (size_t)i)) == v.agrees[i];
    }
    return same && pair == json_array_size(pairs) && agree == json_array_size(json_object_get(row, "agree"));
}

static void golden_votes(void **state)
{
    (void)state;
    json_t *rows = golden("votes.json"), *row;
    size_t i, wrong = 0;
    json_array_foreach(rows, i, row) {
        if (!vote_agrees(row)) {
            char *shown = json_dumps(row, JSON_COMPACT);
            print_error("case %zu: %s\n", i, shown);
            free(shown);
            wrong++;
        }
    }
    json_decref(rows);
    assert_int_equal(wrong, 0);
}

static void golden_format(void **state)
{
    (void)state;
    json_t *rows = golden("format_reward.json"), *row;
    size_t i;
    json_array_foreach(rows, i, row) {
        const json_t *text = json_object_get(row, "text");
        double reward = rt_format_reward(json_string_value(text), json_string_length(text));
        if (reward != json_number_value(json_object_get(row, "reward"))) {
            fail_msg("case %zu: %.17g, not %.17g", i, reward,
                     json_number_value(json_object_get(row, "reward")));
        }
    }
    json_decref(rows);
}

static void golden_weights(void **state)
{
    (void)state;
    json_t *rows = golden("kto_weights.json"), *row;
    size_t i;
    json_array_foreach(rows, i, row) {
        double good, bad;
        rt_kto_weights(json_integer_value(json_object_get(row, "positive")),
                       json_integer_value(json_object_get(row, "negative")),
                       json_is_true(json_object_get(row, "cap")),
                       json_number_value(json_object_get(row, "scale")),
                       json_is_true(json_object_get(row, "swap")), &good, &bad);
        double want_good = json_number_value(json_object_get(row, "desirable"));
        double want_bad = json_number_value(json_object_get(row, "undesirable"));
        if (good != want_good || bad != want_bad) {
            fail_msg("case %zu: %.17g %.17g, not %.17g %.17g", i, good, bad, want_good, want_bad);
        }
    }
    json_decref(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_read), cmocka_unit_test(answers_are_compared),
        cmocka_unit_test(maca_rule),        cmocka_unit_test(strict_rule),
        cmocka_unit_test(weighted_rule),    cmocka_unit_test(labels),
        cmocka_unit_test(rewards),          cmocka_unit_test(golden_votes),
        cmocka_unit_test(golden_format),    cmocka_unit_test(golden_weights),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
