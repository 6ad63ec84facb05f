#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "deploy/correct_report.h"

static correct_settings settings_at(int level, int iterations)
{
    return (correct_settings){.level = level, .iterations = iterations, .votes = 1, .verifications = 1};
}

static void oracle_levels_stop_when_right(void **unused)
{
    (void)unused;
    correct_settings settings = settings_at(CORRECT_L2, 10);
    correct_state state;
    correct_begin(&state);
    assert_int_equal(state.ask, CORRECT_SAMPLE);
    assert_int_equal(state.place, 1);
    correct_sampled(&state, &settings, 5, false, 3);
    assert_int_equal(state.ask, CORRECT_LOCALIZE);
    correct_localized(&state, &settings, 3, false);
    assert_int_equal(state.ask, CORRECT_SAMPLE);
    assert_int_equal(state.place, 3);
    correct_sampled(&state, &settings, 4, false, 4);
    correct_localized(&state, &settings, 2, false);
    correct_sampled(&state, &settings, 4, false, 3);
    correct_localized(&state, &settings, 4, false);
    correct_sampled(&state, &settings, 5, true, 0);
    assert_int_equal(state.ask, CORRECT_DONE);
    assert_int_equal(state.exit, CORRECT_VERIFIED);
    assert_int_equal(state.iteration, 3);
    assert_false(state.right_first);
    assert_true(state.right);
    const correct_counts *c = &state.counts;
    assert_int_equal(c->localizations, 3);
    assert_int_equal(c->judged, 3);
    assert_int_equal(c->exact, 1);
    assert_int_equal(c->earlier, 1);
    /* places 3 of 3 and 2 of 4 left a clean prefix, 4 of 3 did not */
    assert_int_equal(c->resampled_clean[0], 2);
    assert_int_equal(c->resampled_dirty[1], 1);
    assert_int_equal(c->turned[0][0], 2);
    assert_int_equal(c->turned[0][1], 1);
    assert_int_equal(c->turned[1][0] + c->turned[1][1], 0);
}

static void first_chain_right_needs_nothing(void **unused)
{
    (void)unused;
    for (int level = CORRECT_L1; level <= CORRECT_L2; level++) {
        correct_settings settings = settings_at(level, 10);
        correct_state state;
        correct_begin(&state);
        correct_sampled(&state, &settings, 5, true, 0);
        assert_int_equal(state.exit, CORRECT_VERIFIED);
        assert_int_equal(state.iteration, 0);
    }
}

static void last_resample_is_not_checked(void **unused)
{
    (void)unused;
    correct_settings settings = settings_at(CORRECT_L1, 2);
    correct_state state;
    correct_begin(&state);
    for (int i = 0; i < 2; i++) {
        correct_sampled(&state, &settings, 3, false, 1);
        correct_localized(&state, &settings, 1, false);
    }
    correct_sampled(&state, &settings, 3, true, 0);
    assert_int_equal(state.exit, CORRECT_EXHAUSTED);
    assert_int_equal(state.iteration, 2);
    assert_false(correct_returns_first(&state, &settings));
    settings.safeguard = true;
    assert_true(correct_returns_first(&state, &settings));

    settings = settings_at(CORRECT_L3, 0);
    correct_begin(&state);
    correct_sampled(&state, &settings, 3, true, 0);
    assert_int_equal(state.exit, CORRECT_EXHAUSTED);
}

/* Plays one script with chains that are right or wrong; returns what was asked, as letters. */
static void play(bool right, char *asked, correct_state *state)
{
    correct_settings settings = settings_at(CORRECT_L3, 3);
    int verdicts = 0, places[] = {2, 1, 0};
    correct_begin(state);
    while (state->ask != CORRECT_DONE) {
        *asked++ = "SVL"[state->ask];
        if (state->ask == CORRECT_SAMPLE)
            correct_sampled(state, &settings, 4, right, right ? 0 : 2);
        else if (state->ask == CORRECT_VERIFY)
            correct_verified(state, &settings, verdicts++ == 2, -1);
        else
            correct_localized(state, &settings, places[verdicts - 1], false);
    }
    *asked = '\0';
}

static void level_three_never_sees_the_gold_answer(void **unused)
{
    (void)unused;
    char when_right[64], when_wrong[64];
    correct_state right, wrong;
    play(true, when_right, &right);
    play(false, when_wrong, &wrong);
    assert_string_equal(when_right, "SVLSVLSV");
    assert_string_equal(when_right, when_wrong);
    assert_int_equal(right.exit, CORRECT_VERIFIED);
    assert_int_equal(right.counts.flagged[1], 2);
    assert_int_equal(right.counts.passed[1], 1);
    assert_int_equal(right.counts.false_alarms, 2);
    assert_int_equal(right.counts.judged, 0);
    assert_int_equal(wrong.counts.flagged[0], 2);
    assert_int_equal(wrong.counts.passed[0], 1);
    assert_int_equal(wrong.counts.judged, 2);
}

static void no_error_found_is_exit_two(void **unused)
{
    (void)unused;
    correct_settings settings = settings_at(CORRECT_L3, 3);
    correct_state state;
    correct_begin(&state);
    correct_sampled(&state, &settings, 4, true, 0);
    correct_verified(&state, &settings, false, -1);
    assert_int_equal(state.ask, CORRECT_LOCALIZE);
    correct_localized(&state, &settings, 0, false);
    assert_int_equal(state.exit, CORRECT_DISAGREED);

    /* one judgement for both questions */
    correct_begin(&state);
    correct_sampled(&state, &settings, 4, false, 2);
    correct_verified(&state, &settings, false, 3);
    assert_int_equal(state.ask, CORRECT_SAMPLE);
    assert_int_equal(state.place, 3);
    correct_sampled(&state, &settings, 4, false, 2);
    correct_verified(&state, &settings, false, 0);
    assert_int_equal(state.exit, CORRECT_DISAGREED);
    settings.safeguard = true;
    assert_true(correct_returns_first(&state, &settings));
}

static void nonsense_places_are_counted(void **unused)
{
    (void)unused;
    /* beyond every chain below, bytes of a text included */
    const int nonsense[] = {-7, 501, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < RT_COUNT(nonsense); i++) {
        correct_settings settings = settings_at(CORRECT_L2, 3);
        correct_state state;
        correct_begin(&state);
        correct_sampled(&state, &settings, 5, false, -1);
        correct_localized(&state, &settings, nonsense[i], false);
        assert_int_equal(state.place, 2);
        assert_int_equal(state.counts.unparsed, 1);
        /* without an oracle nothing is judged */
        assert_int_equal(state.counts.judged, 0);
        correct_sampled(&state, &settings, 1, false, -1);
        correct_localized(&state, &settings, nonsense[i], false);
        assert_int_equal(state.place, 1);
        settings.token = true;
        correct_sampled(&state, &settings, 500, false, -1);
        correct_localized(&state, &settings, nonsense[i], false);
        assert_int_equal(state.place, 1);
        assert_int_equal(state.counts.unparsed, 3);
    }
}

static void empty_chains_start_over_without_a_judge(void **unused)
{
    (void)unused;
    for (int level = CORRECT_L1; level <= CORRECT_L3; level++) {
        correct_settings settings = settings_at(level, 2);
        correct_state state;
        correct_begin(&state);
        for (int i = 0; i < 2; i++) {
            correct_sampled(&state, &settings, 0, false, -1);
            assert_int_equal(state.ask, CORRECT_SAMPLE);
            assert_int_equal(state.place, 1);
        }
        correct_sampled(&state, &settings, 0, false, -1);
        assert_int_equal(state.exit, CORRECT_EXHAUSTED);
        assert_int_equal(state.counts.empty, 3);
        assert_int_equal(state.counts.localizations, 0);
    }
}

static void control_never_localizes(void **unused)
{
    (void)unused;
    for (int level = CORRECT_L1; level <= CORRECT_L3; level++) {
        correct_settings settings = settings_at(level, 2);
        settings.control = true;
        correct_state state;
        correct_begin(&state);
        while (state.ask != CORRECT_DONE) {
            assert_int_not_equal(state.ask, CORRECT_LOCALIZE);
            if (state.ask == CORRECT_VERIFY)
                correct_verified(&state, &settings, false, 3);
            else
                correct_sampled(&state, &settings, 4, false, 3);
            assert_int_equal(state.place, 1);
        }
        assert_int_equal(state.exit, CORRECT_EXHAUSTED);
        assert_int_equal(state.counts.localizations, 0);
        assert_int_equal(state.counts.resampled_clean[0] + state.counts.resampled_dirty[0], 0);
    }
}

static void plurality(void **unused)
{
    (void)unused;
    bool unparsed;
    const int clear[] = {3, -1, 2, 3, -1, -1, -1}, tie[] = {4, 2, 2, 4, 1}, none[] = {-1, -1};
    const int zeros[] = {0, 5, 0};
    assert_int_equal(correct_plurality(clear, 7, 5, &unparsed), 3);
    assert_false(unparsed);
    assert_int_equal(correct_plurality(tie, 5, 5, &unparsed), 2);
    assert_int_equal(correct_plurality(zeros, 3, 5, &unparsed), 0);
    assert_false(unparsed);
    assert_int_equal(correct_plurality(none, 2, 5, &unparsed), 2);
    assert_true(unparsed);
    assert_int_equal(correct_plurality(none, 0, 1, &unparsed), 1);
    assert_true(unparsed);
}

/* Every way out, from a first chain that is right or wrong and a returned one that is right or
 * wrong. What the safeguard gives back is the first answer, except where it was verified. */
/* Yes of five verifications, by gate: any no flags, no majority of yes, all say no. */
static void gates_over_verifications(void **unused)
{
    (void)unused;
    static const bool passes[CORRECT_GATES][6] = {
        [CORRECT_ANY] = {false, false, false, false, false, true},
        [CORRECT_MAJORITY] = {false, false, false, true, true, true},
        [CORRECT_UNANIMOUS] = {false, true, true, true, true, true},
    };
    for (int gate = 0; gate < CORRECT_GATES; gate++) {
        for (int yes = 0; yes <= 5; yes++)
            assert_int_equal(correct_passes(yes, 5, gate), passes[gate][yes]);
        /* of one verification every gate says the same */
        assert_true(correct_passes(1, 1, gate));
        assert_false(correct_passes(0, 1, gate));
    }
    assert_false(correct_passes(2, 4, CORRECT_MAJORITY));
    assert_true(correct_passes(3, 4, CORRECT_MAJORITY));
    assert_string_equal(correct_gate_name(CORRECT_ANY), "any");
    assert_null(correct_gate_name(CORRECT_GATES));
}

static void sums_of_a_report(void **unused)
{
    (void)unused;
    enum { WAYS = 12 };
    eval_item items[WAYS + 1] = {0};
    correct_outcome outcomes[WAYS + 1] = {0};
    correct_run run = {.eval = {.items = items, .count = WAYS + 1}, .outcomes = outcomes};
    for (int i = 0; i < WAYS; i++) {
        correct_state *state = &outcomes[i].state;
        *state = (correct_state){.ask = CORRECT_DONE,
                                 .exit = CORRECT_VERIFIED + i / 4,
                                 .right_first = i & 1,
                                 .right = (i & 2) != 0,
                                 .iteration = i};
        outcomes[i].cost.sample_calls = i + 1;
        items[i].problem.task = i % 3 == 0;
    }
    items[WAYS].left_out = true;
    for (int safeguard = 0; safeguard < 2; safeguard++) {
        run.settings.safeguard = safeguard;
        correct_report r = correct_report_of(&run, -1, "all");
        assert_int_equal(r.problems, WAYS);
        assert_int_equal(r.left_out, 1);
        assert_int_equal(r.right_before, 6);
        assert_int_equal(r.right_after, 6);
        assert_int_equal(r.lifts, safeguard ? 1 : 3);
        assert_int_equal(r.regressions, safeguard ? 1 : 3);
        assert_int_equal(r.right_before + r.lifts - r.regressions, r.right_after);
        for (int e = CORRECT_VERIFIED; e <= CORRECT_EXHAUSTED; e++) {
            bool kept = safeguard && e != CORRECT_VERIFIED;
            assert_int_equal(r.exits[e], 4);
            assert_int_equal(r.exit_right[e], 2);
            assert_int_equal(r.exit_lifts[e], !kept);
            assert_int_equal(r.exit_regressions[e], !kept);
        }
        assert_int_equal(r.exits[CORRECT_OPEN], 0);
        assert_int_equal(r.converged[0], 1);
        assert_int_equal(r.converged[1], 3);
        assert_int_equal(r.converged[2], 0);
        assert_int_equal(r.converged[3], 8);
        assert_int_equal(r.resamples, 66);
        assert_int_equal(r.cost.sample_calls, 78);
    }
    correct_report of_one = correct_report_of(&run, 1, "one"),
                   other = correct_report_of(&run, 0, "0");
    assert_int_equal(of_one.problems, 4);
    assert_int_equal(other.problems, WAYS - 4);
    assert_int_equal(of_one.right_after + other.right_after, 6);
}

static void report_as_json(void **unused)
{
    (void)unused;
    correct_report r = {.problems = 10,
                        .right_before = 4,
                        .right_after = 6,
                        .lifts = 3,
                        .regressions = 1,
                        .exits = {0, 5, 2, 3},
                        .exit_right = {0, 4, 1, 1}};
    r.gain = eval_gain(r.lifts, r.regressions, r.problems);
    json_t *root = correct_report_json(&r);
    const json_t *exits = json_object_get(root, "exits");
    json_int_t sum = 0;
    for (int e = 1; e <= 3; e++) {
        char key[] = {(char)('0' + e), '\0'};
        sum += json_integer_value(json_object_get(json_object_get(exits, key), "count"));
    }
    assert_int_equal(sum, 10);
    const struct {
        const char *name;
        int count, of;
    } shares[] = {{"accuracy_before", 4, 10},
                  {"accuracy_after", 6, 10},
                  {"verified_correct", 4, 10},
                  {"lifts", 3, 6},
                  {"regressions", 1, 4}};
    for (size_t i = 0; i < RT_COUNT(shares); i++) {
        const json_t *share = json_object_get(root, shares[i].name);
        double value = json_real_value(json_object_get(share, "value"));
        assert_int_equal(json_integer_value(json_object_get(share, "count")), shares[i].count);
        assert_int_equal(json_integer_value(json_object_get(share, "of")), shares[i].of);
        assert_true(value == (double)shares[i].count / shares[i].of);
        assert_true(json_real_value(json_object_get(share, "low")) < value);
        assert_true(json_real_value(json_object_get(share, "high")) > value);
    }
    assert_true(json_real_value(json_object_get(root, "accuracy")) == 0.6);
    json_decref(root);
}

static int quote(const char *text, const char *chain, bool *unparsed)
{
    return correct_quote_parse(text, strlen(text), chain, strlen(chain), unparsed);
}

static void quotes(void **unused)
{
    (void)unused;
    static const char chain[] = "Six apples. Then 6 Plus 2 is 9. then 6 plus 2 is 9 again.";
    bool unparsed;
    /* exact before case-insensitive, the first of each */
    assert_int_equal(quote("\\boxed{ERROR_QUOTE: \"then 6 plus 2\"}", chain, &unparsed),
                     strstr(chain, "then 6 plus") - chain + 1);
    assert_false(unparsed);
    assert_int_equal(quote("\\boxed{ERROR_QUOTE: \"THEN 6 plus 2\"}", chain, &unparsed),
                     strstr(chain, "Then 6 Plus") - chain + 1);
    assert_false(unparsed);
    assert_int_equal(quote("fine. \\boxed{CORRECT}", chain, &unparsed), 0);
    assert_int_equal(quote("\\boxed{NO_ERROR}", chain, &unparsed), 0);
    assert_false(unparsed);
    /* nowhere in the chain: from the beginning */
    assert_int_equal(quote("\\boxed{ERROR_QUOTE: \"seven pears\"}", chain, &unparsed), 1);
    assert_true(unparsed);
    /* without a box: the first quoted text that is long enough */
    assert_int_equal(quote("\"Six\" is right but \"Then 6 Plus 2 is 9.\" is not", chain, &unparsed),
                     1);
    assert_true(unparsed);
    assert_int_equal(quote("it says \"Then 6 Plus 2 is 9. then\" there", chain, &unparsed),
                     strstr(chain, "Then") - chain + 1);
    assert_false(unparsed);
    assert_int_equal(quote("", chain, &unparsed), 1);
    assert_true(unparsed);
    assert_int_equal(quote("\\boxed{ERROR_QUOTE: \"\"} \"", chain, &unparsed), 1);
    assert_true(unparsed);
    assert_int_equal(quote("\\boxed{INCORRECT}", chain, &unparsed), 1);
    assert_true(unparsed);
}

static void tokens_before_a_quote(void **unused)
{
    (void)unused;
    /* "Six"," apples",""," are"," 7" */
    const size_t sizes[] = {3, 7, 0, 4, 2};
    const struct {
        size_t at;
        int kept;
    } cases[] = {{0, 0}, {2, 0}, {3, 1}, {9, 1}, {10, 3}, {13, 3}, {14, 4}, {15, 4}, {16, 5}};
    for (size_t i = 0; i < RT_COUNT(cases); i++)
        assert_int_equal(correct_tokens_before(sizes, 5, cases[i].at), cases[i].kept);
    assert_int_equal(correct_tokens_before(sizes, 0, 5), 0);
}

static void compact_flags(void **unused)
{
    (void)unused;
    static const char yes[] = "1:7+5=2y\n2:2*3=6y\n\\boxed{2}", no[] = "1:7+5=2y\n2:2*3=7n\n";
    static const char word[] = "nothing in line", last[] = "1:7+5=3n";
    assert_false(correct_compact_flags(yes, strlen(yes)));
    assert_true(correct_compact_flags(no, strlen(no)));
    assert_false(correct_compact_flags(word, strlen(word)));
    assert_true(correct_compact_flags(last, strlen(last)));
    assert_false(correct_compact_flags("", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(oracle_levels_stop_when_right),
        cmocka_unit_test(first_chain_right_needs_nothing),
        cmocka_unit_test(last_resample_is_not_checked),
        cmocka_unit_test(level_three_never_sees_the_gold_answer),
        cmocka_unit_test(no_error_found_is_exit_two),
        cmocka_unit_test(nonsense_places_are_counted),
        cmocka_unit_test(empty_chains_start_over_without_a_judge),
        cmocka_unit_test(control_never_localizes),
        cmocka_unit_test(plurality),
        cmocka_unit_test(gates_over_verifications),
        cmocka_unit_test(sums_of_a_report),
        cmocka_unit_test(report_as_json),
        cmocka_unit_test(quotes),
        cmocka_unit_test(tokens_before_a_quote),
        cmocka_unit_test(compact_flags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
