#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

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
    assert_true(a.value == b.value && a.low == b.low && a.high == b.high);
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

static void means_name_their_interval(void **state)
{
    (void)state;
    const double whole[] = {1, 1, 0, 1}, parts[] = {1, 0.5, 0, 1};
    eval_number a = eval_mean(whole, 4, 1), b = eval_wilson(whole, 4);
    assert_int_equal(a.by, EVAL_BY_WILSON);
    assert_true(a.value == 0.75 && a.low == b.low && a.high == b.high);
    a = eval_mean(parts, 4, 1), b = eval_bootstrap(parts, 4, 1);
    assert_int_equal(a.by, EVAL_BY_BOOTSTRAP);
    assert_true(a.value == 0.625 && a.low == b.low && a.high == b.high);
    /* 50 of 50: no point, as a bootstrap's would be */
    double all[50];
    for (int i = 0; i < 50; i++)
        all[i] = 1;
    a = eval_mean(all, 50, 1);
    assert_true(a.low < 0.95 && a.low > 0.9 && a.high == 1); /* 50 / (50 + 3.84) = 0.929 */
}

/* Sums of dyadic fractions up to 2^-12: every operation on both sides is exact. */
static double flips_by_counting(const int *difference, int count)
{
    int sum = 0, as_far = 0;
    for (int i = 0; i < count; i++)
        sum += difference[i];
    for (unsigned signs = 0; signs < 1u << count; signs++) {
        int flipped = 0;
        for (int i = 0; i < count; i++)
            flipped += signs >> i & 1 ? -difference[i] : difference[i];
        as_far += abs(flipped) >= abs(sum);
    }
    return ldexp(as_far, -count);
}

static void sign_flip_equals_counting(void **state)
{
    (void)state;
    bool exact;
    for (uint64_t round = 0; round < 60; round++) {
        int difference[12], count = (int)(round % 13);
        for (int i = 0; i < count; i++)
            difference[i] = (int)rt_below(7, round, (uint64_t)i, 9) - 3;
        double p = eval_sign_flip(difference, count, 1, &exact);
        assert_true(exact);
        assert_true(p == flips_by_counting(difference, count));
        /* 9999 draws of an event of probability p: five deviations, and the one that is added */
        double drawn = eval_sign_flip_drawn(difference, count, 1);
        assert_true(fabs(drawn - p) <= 5 * sqrt(p * (1 - p) / EVAL_FLIPS) + 1e-4);
        assert_true(drawn == eval_sign_flip_drawn(difference, count, 1));
    }
    /* by hand: of the 8 sums ±3 ±2 ±1 only 6 and −6 are as far as 6 */
    const int by_hand[] = {3, 2, 1};
    assert_true(eval_sign_flip(by_hand, 3, 1, &exact) == 0.25);
    assert_true(eval_sign_flip(NULL, 0, 1, &exact) == 1 && exact);
}

static void sign_flip_is_drawn_where_exact_takes_long(void **state)
{
    (void)state;
    enum { COUNT = 4000 };
    int difference[COUNT];
    for (int i = 0; i < COUNT; i++)
        difference[i] = i % 2 ? 64 : -64;
    bool exact;
    assert_true(eval_sign_flip(difference, COUNT, 3, &exact) == 1 && !exact); /* their sum is 0 */
    for (int i = 0; i < COUNT; i++)
        difference[i] = i % 4 ? 64 : -64;
    /* half of all 4000 signed 64s beyond 0: 31 deviations */
    assert_true(eval_sign_flip(difference, COUNT, 3, &exact) == 1.0 / (EVAL_FLIPS + 1));
}

static void mcnemar_is_the_binomial(void **state)
{
    (void)state;
    assert_true(eval_mcnemar(0, 0) == 1 && eval_mcnemar(7, 7) == 1);
    assert_true(eval_mcnemar(5, 0) == 2.0 / 32 && eval_mcnemar(0, 5) == 2.0 / 32);
    assert_true(eval_mcnemar(1, 0) == 1);
    /* 2 (1 + 10 + 45) / 1024 */
    assert_true(fabs(eval_mcnemar(8, 2) - 112.0 / 1024) <= 32 * 0x1p-53);
    /* Whole changes are signs alone: the two tests are one. Up to 30 products, quotients and sums on
     * this side, dyadic fractions of at most 2^-30 on the other. */
    for (int up = 0; up <= 15; up++)
        for (int down = 0; down <= 15; down++) {
            int difference[30];
            for (int i = 0; i < up + down; i++)
                difference[i] = i < up ? 1 : -1;
            bool exact;
            double flips = eval_sign_flip(difference, up + down, 1, &exact);
            assert_true(fabs(eval_mcnemar(up, down) - flips) <= 128 * 0x1p-53 * flips);
        }
    /* beyond the exponents of a double on the way: 2^-3999, and the middle, where all is likely */
    assert_true(eval_mcnemar(4000, 0) == 0);
    assert_true(eval_mcnemar(2001, 2000) > 0.98 && eval_mcnemar(2001, 2000) <= 1);
}

static void difference_chooses_its_interval(void **state)
{
    (void)state;
    const int whole[] = {4, 4, -4, 0, 0, 4, 0, 0}, parts[] = {4, 3, -1, 0, 0, 2, 0, 0};
    eval_number a = eval_difference(whole, 8, 4, 1), b = eval_gain(3, 1, 8);
    assert_int_equal(a.by, EVAL_BY_TANGO);
    assert_true(a.value == 0.25 && a.low == b.low && a.high == b.high);
    a = eval_difference(parts, 8, 4, 1);
    assert_int_equal(a.by, EVAL_BY_BOOTSTRAP);
    assert_true(a.value == 8.0 / 32 && a.low < a.value && a.value < a.high);
    a = eval_difference(NULL, 0, 4, 1);
    assert_true(a.value == 0 && a.low == -1 && a.high == 1);
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
        cmocka_unit_test(means_name_their_interval),
        cmocka_unit_test(sign_flip_equals_counting),
        cmocka_unit_test(sign_flip_is_drawn_where_exact_takes_long),
        cmocka_unit_test(mcnemar_is_the_binomial),
        cmocka_unit_test(difference_chooses_its_interval),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
