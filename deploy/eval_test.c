#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "deploy/eval.h"

/* Share of the k-subsets of n samples, the first c correct, that hold a correct one. */
static double pass_by_counting(int n, int c, int k)
{
    int subsets = 0, passed = 0;
    for (unsigned set = 0; set < 1u << n; set++)
        if (__builtin_popcount(set) == k) {
            subsets++;
            passed += (set & ((1u << c) - 1)) != 0;
        }
    return (double)passed / subsets;
}

static void pass_at_equals_counting(void **state)
{
    (void)state;
    for (int n = 1; n <= 10; n++)
        for (int c = 0; c <= n; c++)
            for (int k = 1; k <= n; k++) {
                /* at most 10 factors and as many subtractions, each off by 2^-53 of a number ≤ 1 */
                double error = fabs(eval_pass_at(n, c, k) - pass_by_counting(n, c, k));
                assert_true(error <= 32 * 0x1p-53);
            }
}

static void pass_at_large(void **state)
{
    (void)state;
    double value = eval_pass_at(1000, 3, 500);
    /* 1 − 500·499·498 / (1000·999·998) */
    double exact = 1 - 500.0 * 499 * 498 / (1000.0 * 999 * 998);
    assert_true(fabs(value - exact) <= 32 * 0x1p-53);
}

static void ks_double_up_to_k(void **state)
{
    (void)state;
    int ks[EVAL_KS_MAX];
    assert_int_equal(eval_ks(1, ks), 1);
    assert_int_equal(ks[0], 1);
    assert_int_equal(eval_ks(8, ks), 4);
    assert_int_equal(ks[3], 8);
    assert_int_equal(eval_ks(10, ks), 5);
    assert_int_equal(ks[3], 8);
    assert_int_equal(ks[4], 10);
    assert_true(eval_ks(INT32_MAX, ks) <= EVAL_KS_MAX);
}

static void check_majority(const eval_sample *samples, int count, double score, double share)
{
    double got_score, got_share;
    eval_majority(samples, count, &got_score, &got_share);
    assert_true(got_score == score); /* small fractions, computed by one division on both sides */
    assert_true(got_share == share);
}

static void majority_votes(void **state)
{
    (void)state;
    char seven[] = "7", eight[] = "8", half[] = "1/2", point[] = "0.5", empty[] = "";
    eval_sample wrong_wins[] = {{true, seven}, {false, eight}, {false, eight}, {false, empty}};
    check_majority(wrong_wins, 4, 0, 2.0 / 4);
    eval_sample two_spellings[] = {{true, half}, {false, eight}, {true, point}, {false, seven}};
    check_majority(two_spellings, 4, 1, 2.0 / 4);
    eval_sample tie[] = {{false, eight}, {true, seven}, {false, empty}};
    check_majority(tie, 3, 1.0 / 2, 1.0 / 3);
    eval_sample tie_turned[] = {{false, NULL}, {true, seven}, {false, eight}};
    check_majority(tie_turned, 3, 1.0 / 2, 1.0 / 3);
    eval_sample silent[] = {{false, empty}, {false, NULL}};
    check_majority(silent, 2, 0, 0);
    check_majority(NULL, 0, 0, 0);
}

static void bootstrap_is_a_function_of_its_seed(void **state)
{
    (void)state;
    double values[40];
    for (int i = 0; i < 40; i++)
        values[i] = i % 4 == 0;
    eval_number a = eval_bootstrap(values, 40, 1), b = eval_bootstrap(values, 40, 1);
    assert_memory_equal(&a, &b, sizeof a);
    assert_true(a.value == 0.25);
    assert_true(a.low < a.value && a.value < a.high);
    /* The deviation of the mean is sqrt(0.25·0.75/40) = 0.0685, 1.96 of them 0.134. The share of
     * 40 is a multiple of 0.025, and 2000 resamples place a 2.5 % point within ±0.7 %, which is
     * less than one such step there: two steps of slack each. */
    assert_true(fabs(a.low - (0.25 - 0.134)) <= 0.05);
    assert_true(fabs(a.high - (0.25 + 0.134)) <= 0.05);
    bool differs = false;
    for (int i = 0; i < 40; i++)
        values[i] = rt_uniform(1, 2, (uint64_t)i);
    a = eval_bootstrap(values, 40, 1);
    for (uint64_t seed = 2; seed < 5; seed++) {
        b = eval_bootstrap(values, 40, seed);
        differs |= a.low != b.low;
        assert_true(a.value == b.value);
    }
    assert_true(differs);
    a = eval_bootstrap(values, 0, 1);
    assert_true(a.low == 0 && a.high == 1);
}

static void wilson_agrees_with_counts(void **state)
{
    (void)state;
    for (int right = 0; right <= 25; right += 5) {
        double values[25];
        for (int i = 0; i < 25; i++)
            values[i] = i < right;
        eval_number number = eval_wilson(values, 25);
        double low, high;
        rt_wilson(right, 25, &low, &high);
        assert_true(number.low == low &&
                    number.high == high); /* the same formula in the same order */
    }
    /* Two of four right on every problem: as wide as 12.5 of 25, not as 50 of 100. */
    double halves[25];
    for (int i = 0; i < 25; i++)
        halves[i] = 0.5;
    eval_number number = eval_wilson(halves, 25);
    double low, high;
    rt_wilson(50, 100, &low, &high);
    assert_true(number.low < low && number.high > high);
}

/* Where nothing changed Tango's interval has a closed form. */
static void gain_of_nothing_is_no_point(void **state)
{
    (void)state;
    const double z2 = 1.959963984540054 * 1.959963984540054;
    for (int n = 1; n <= 1000; n *= 10) {
        eval_number gain = eval_gain(0, 0, n);
        assert_true(gain.value == 0);
        assert_true(fabs(gain.high - z2 / (n + z2)) < 1e-9);
        assert_true(fabs(gain.low + z2 / (n + z2)) < 1e-9);
    }
    eval_number none = eval_gain(0, 0, 0);
    assert_true(none.value == 0 && none.low == -1 && none.high == 1);
}

static void gain_is_symmetric_and_in_its_interval(void **state)
{
    (void)state;
    const int n = 25;
    for (int up = 0; up <= n; up++)
        for (int down = 0; up + down <= n; down++) {
            eval_number a = eval_gain(up, down, n), b = eval_gain(down, up, n);
            assert_true(fabs(a.value - (double)(up - down) / n) < 1e-12);
            assert_true(a.low >= -1 && a.low <= a.value + 1e-9);
            assert_true(a.high <= 1 && a.high >= a.value - 1e-9);
            assert_true(a.high - a.low > 0.05);
            assert_true(fabs(a.low + b.high) < 1e-7 && fabs(a.high + b.low) < 1e-7);
        }
}

/* All outcomes of n problems, each with its probability: how often does the interval hold the truth? */
static double coverage(int n, double p_up, double p_down)
{
    double covered = 0;
    for (int up = 0; up <= n; up++)
        for (int down = 0; up + down <= n; down++) {
            eval_number gain = eval_gain(up, down, n);
            double log_p = lgamma(n + 1) - lgamma(up + 1) - lgamma(down + 1) -
                           lgamma(n - up - down + 1) + up * log(p_up) + down * log(p_down) +
                           (n - up - down) * log1p(-p_up - p_down);
            if (gain.low <= p_up - p_down && p_up - p_down <= gain.high)
                covered += exp(log_p);
        }
    return covered;
}

static void gain_covers_the_truth(void **state)
{
    (void)state;
    /* counts are whole, so the level is met in the mean; one setting may be off by two points */
    const double shares[][2] = {{0.1, 0.1}, {0.3, 0.1}, {0.5, 0.05}, {0.4, 0.4}, {0.2, 0.6}};
    double mean = 0;
    for (size_t i = 0; i < RT_COUNT(shares); i++) {
        double one = coverage(40, shares[i][0], shares[i][1]);
        assert_true(one > 0.93 && one < 0.97);
        mean += one / (double)RT_COUNT(shares);
    }
    assert_true(fabs(mean - 0.95) < 0.01);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pass_at_equals_counting),
        cmocka_unit_test(pass_at_large),
        cmocka_unit_test(ks_double_up_to_k),
        cmocka_unit_test(majority_votes),
        cmocka_unit_test(bootstrap_is_a_function_of_its_seed),
        cmocka_unit_test(wilson_agrees_with_counts),
        cmocka_unit_test(gain_of_nothing_is_no_point),
        cmocka_unit_test(gain_is_symmetric_and_in_its_interval),
        cmocka_unit_test(gain_covers_the_truth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
