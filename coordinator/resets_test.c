/*
 * The rule of resets against the sequential one it stands for, whatever the order in which rollouts
 * become known; cuts; what a reset is expected to teach.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/resets.h"

enum { SEED = 5, CASES = 4000 };

static rt_reset_settings settings_of(int seeds, int base, int continuations)
{
    return (rt_reset_settings){.seeds = seeds, .base = base, .continuations = continuations,
                               .fresh_max = 12};
}

/* ---- the sequential rule, literally ---------------------------------------------------------- */

typedef struct outcome {
    int role[RT_FRESH_SAMPLES], seed[2], seeds, base, walked;
    bool fallback;
} outcome;

static void take_until(outcome *out, int *next, int size)
{
    while (out->base < size) {
        out->role[(*next)++] = RT_FRESH_BASE;
        out->base++;
    }
}

/* Sample one rollout after another; the first failure is the seed, the first four others
 * are kept. Without a failure: more rollouts, one group. */
static outcome sequential(const rt_reset_settings *settings, const rt_fresh *all)
{
    outcome out = {0};
    int next = 0;
    while ((out.base < settings->base || out.seeds < settings->seeds) &&
           next < settings->fresh_max) {
        const rt_fresh *one = &all[next];
        if (!one->zero && !one->ok && out.seeds < settings->seeds) {
            out.role[next] = RT_FRESH_SEED;
            out.seed[out.seeds++] = next;
        } else if (out.base < settings->base) {
            out.role[next] = RT_FRESH_BASE;
            out.base++;
        } else {
            out.role[next] = RT_FRESH_DISCARDED;
        }
        next++;
    }
    if (out.seeds < settings->seeds) {
        out.fallback = true;
        int size = (int)(settings->base + settings->seeds * settings->continuations);
        if (settings->base == 0 || out.seeds > 0) { /* the ablations: a plain group from the first */
            memset(out.role, 0, sizeof out.role);
            out.seeds = out.base = 0;
            int first = 0;
            take_until(&out, &first, size);
            out.walked = RT_MAX(next, first);
            for (int i = first; i < next; i++) {
                out.role[i] = RT_FRESH_DISCARDED;
            }
            return out;
        }
        take_until(&out, &next, size);
    } else if (out.base < settings->base) {
        take_until(&out, &next, (int)settings->base);
    }
    out.walked = next;
    return out;
}

static void compare(const outcome *expected, const rt_rule *rule)
{
    assert_true(rule->done);
    assert_int_equal(rule->fallback, expected->fallback);
    assert_int_equal(rule->base, expected->base);
    assert_int_equal(rule->seeds, expected->seeds);
    assert_int_equal(rule->walked, expected->walked);
    for (int i = 0; i < expected->seeds; i++) {
        assert_int_equal(rule->seed[i], expected->seed[i]);
    }
    for (int i = 0; i < RT_FRESH_SAMPLES; i++) {
        int role = rule->role[i] == RT_FRESH_OPEN ? RT_FRESH_DISCARDED : rule->role[i];
        int other = expected->role[i] == RT_FRESH_OPEN ? RT_FRESH_DISCARDED : expected->role[i];
        assert_int_equal(role, other);
    }
}

/* Rollouts become known in a random order; what the rule has decided never changes again. */
static void one_case(const rt_reset_settings *settings, uint64_t number, uint32_t success_of_8)
{
    rt_fresh all[RT_FRESH_SAMPLES], known[RT_FRESH_SAMPLES] = {0};
    for (int i = 0; i < RT_FRESH_SAMPLES; i++) {
        all[i] = (rt_fresh){.known = true,
                            .zero = rt_below(SEED, number, 100 + (uint64_t)i, 16) == 0,
                            .ok = rt_below(SEED, number, 200 + (uint64_t)i, 8) < success_of_8};
    }
    outcome expected = sequential(settings, all);
    rt_rule rule = {0};
    int issued = 0, told = 0, seeds_before = 0;
    for (uint64_t turn = 0; !rule.done; turn++) {
        rt_rule_apply(settings, known, issued, &rule);
        assert_true(rule.seeds >= seeds_before || rule.fallback);
        for (int i = 0; i < rule.seeds && !rule.fallback; i++) {
            assert_int_equal(rule.seed[i], expected.seed[i]);
        }
        seeds_before = rule.fallback ? 0 : rule.seeds;
        if (rule.done) {
            break;
        }
        issued = RT_MAX(issued, rule.wanted);
        assert_true(issued <= RT_FRESH_SAMPLES);
        assert_true(told < issued); /* it always waits for something that is out */
        int left = (int)rt_below(SEED, number, 300 + turn, (uint32_t)(issued - told));
        for (int i = 0; i < issued; i++) {
            if (!known[i].known && left-- == 0) {
                known[i] = all[i];
                told++;
                break;
            }
        }
    }
    compare(&expected, &rule);
}

static void any_order_is_the_sequential_rule(void **state)
{
    (void)state;
    const rt_reset_settings forms[] = {settings_of(1, 4, 4), settings_of(2, 0, 4),
                                       settings_of(1, 0, 8), settings_of(2, 2, 3)};
    for (size_t form = 0; form < RT_COUNT(forms); form++) {
        for (uint64_t i = 0; i < CASES; i++) {
            one_case(&forms[form], form << 32 | i, (uint32_t)(i % 9));
        }
    }
}

static rt_rule rule_of(const char *outcomes)
{
    rt_reset_settings settings = settings_of(1, 4, 4);
    rt_fresh known[RT_FRESH_SAMPLES] = {0};
    for (int i = 0; outcomes[i]; i++) {
        known[i] = (rt_fresh){outcomes[i] != '?', outcomes[i] == '0', outcomes[i] == '+'};
    }
    rt_rule rule;
    rt_rule_apply(&settings, known, (int)strlen(outcomes), &rule);
    return rule;
}

static void cases_by_hand(void **state)
{
    (void)state;
    rt_rule rule = rule_of("+-+-+");
    assert_true(rule.done && rule.seed[0] == 1 && rule.base == 4 && rule.walked == 5);
    rule = rule_of("?-+++"); /* rollout 0 may still be the first failure */
    assert_true(!rule.done && rule.seeds == 0);
    rule = rule_of("-?+++"); /* the seed is known before the base group is */
    assert_true(!rule.done && rule.seeds == 1 && rule.seed[0] == 0);
    rule = rule_of("+++++"); /* no failure yet: more are wanted */
    assert_true(!rule.done && rule.wanted > 5);
    rule = rule_of("0+++-"); /* without thoughts: counts as failed, is no seed */
    assert_true(rule.done && rule.seed[0] == 4 && rule.role[0] == RT_FRESH_BASE);
    rule = rule_of("++++++++++++"); /* none in 12: rollouts 4 to 11 are thrown away, 4 more */
    assert_true(!rule.done && rule.fallback && rule.wanted == 16);
    rule = rule_of("++++++++++++-+-+");
    assert_true(rule.done && rule.fallback && rule.base == 8);
    assert_true(rule.role[4] == RT_FRESH_DISCARDED && rule.role[12] == RT_FRESH_BASE);
}

/* Boundaries (0,3)(3,7)(7,10) of the paper notes. */
static void cuts(void **state)
{
    (void)state;
    const int32_t ends[] = {3, 7, 10};
    assert_int_equal(rt_reset_cut(ends, 3, 1), 0);
    assert_int_equal(rt_reset_cut(ends, 3, 2), 3);
    assert_int_equal(rt_reset_cut(ends, 3, 3), 7);
}

/* ---- caro ------------------------------------------------------------------------------------ */

/* E[f(q)] under Beta(a, b), by the midpoint rule. */
static double expectation(double a, double b, double (*f)(double q, int n), int n)
{
    enum { CELLS = 200000 };
    double sum = 0, weight = 0;
    for (int i = 0; i < CELLS; i++) {
        double q = (i + 0.5) / CELLS;
        double density = exp((a - 1) * log(q) + (b - 1) * log1p(-q));
        sum += density * f(q, n);
        weight += density;
    }
    return sum / weight;
}

static double mixed(double q, int n)
{
    return 1 - pow(q, n) - pow(1 - q, n);
}

static double variance(double q, int n)
{
    (void)n;
    return q * (1 - q);
}

static void expected_gain_is_that_of_the_distribution(void **state)
{
    (void)state;
    const double pairs[][2] = {{1, 1}, {2, 5}, {4.5, 1.5}, {3, 30}, {20, 20}};
    for (size_t i = 0; i < RT_COUNT(pairs); i++) {
        double a = pairs[i][0], b = pairs[i][1];
        for (int n = 2; n <= 8; n += 3) {
            double expected = expectation(a, b, mixed, n) * sqrt(expectation(a, b, variance, n));
            /* The midpoint rule with 2e5 cells errs by less than 1e-5 for these densities. */
            assert_true(fabs(rt_caro_gain(a, b, n) - expected) < 1e-5);
        }
    }
    assert_true(rt_caro_gain(1, 30, 4) < rt_caro_gain(5, 5, 4));
    assert_true(rt_caro_gain(30, 1, 4) < rt_caro_gain(5, 5, 4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_order_is_the_sequential_rule),
        cmocka_unit_test(cases_by_hand),
        cmocka_unit_test(cuts),
        cmocka_unit_test(expected_gain_is_that_of_the_distribution),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
