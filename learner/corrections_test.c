/* Corrections of the tasks' gradients on vectors whose outcome is known or can be searched for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "learner/learner.h"

enum { DIMENSIONS = 8 };

typedef struct bundle {
    rt_config config;
    int tasks, dimensions;
    double g[RT_TASKS_MAX][DIMENSIONS], gram[RT_TASKS_MAX * RT_TASKS_MAX];
    double running[RT_TASKS_MAX], weight[RT_TASKS_MAX], out[DIMENSIONS];
    uint64_t seed;
    rt_error err;
} bundle;

static const double epsilon = 2.220446049250313e-16;

static double dot(const double *a, const double *b)
{
    double sum = 0;
    for (int d = 0; d < DIMENSIONS; d++)
        sum += a[d] * b[d];
    return sum;
}

static double length(const double *a)
{
    return sqrt(dot(a, a));
}

/* The corrected gradient of what stands in b->g, in b->out. */
static int correct(bundle *b, char *kind)
{
    b->config.gradients.correction = kind;
    for (int i = 0; i < b->tasks; i++)
        for (int j = 0; j < b->tasks; j++)
            b->gram[i * b->tasks + j] = dot(b->g[i], b->g[j]);
    int rc = rt_correction_weights(&b->config, b->gram, b->running, b->tasks, b->seed, b->weight, &b->err);
    memset(b->out, 0, sizeof b->out);
    for (int k = 0; rc == 0 && k < b->tasks; k++)
        for (int d = 0; d < DIMENSIONS; d++)
            b->out[d] += b->weight[k] * b->g[k][d];
    return rc;
}

static void add_noise(bundle *b, uint64_t seed, int tasks)
{
    b->tasks = tasks;
    for (int k = 0; k < tasks; k++)
        for (int d = 0; d < DIMENSIONS; d++)
            b->g[k][d] = (double)rt_normal(seed, (uint64_t)k, (uint64_t)d) * (k + 1);
}

static void near(double got, double expected, double tolerance, const char *what)
{
    if (!(fabs(got - expected) <= tolerance))
        fail_msg("%s is %.17g, expected %.17g", what, got, expected);
}

static void plain_sum(void **state)
{
    (void)state;
    bundle b = {.tasks = 2, .g = {{1}, {-1, 1}}};
    assert_int_equal(correct(&b, "none"), 0);
    assert_true(b.weight[0] == 1 && b.weight[1] == 1);
}

/* All numbers are small binary fractions: exact. g_1 becomes g_1 + g_2/2, g_2 becomes g_2 + g_1. */
static void pcgrad_by_hand(void **state)
{
    (void)state;
    bundle b = {.tasks = 2, .g = {{1}, {-1, 1}}};
    assert_int_equal(correct(&b, "pcgrad"), 0);
    assert_true(b.weight[0] == 2 && b.weight[1] == 1.5);
    assert_true(b.out[0] == 0.5 && b.out[1] == 1.5);

    bundle agreeing = {.tasks = 3, .g = {{1}, {1, 1}, {0, 3}}};
    assert_int_equal(correct(&agreeing, "pcgrad"), 0);
    for (int k = 0; k < 3; k++)
        assert_true(agreeing.weight[k] == 1);

    bundle opposite = {.tasks = 2, .g = {{2}, {-1}}}; /* nothing is left of either */
    assert_int_equal(correct(&opposite, "pcgrad"), 0);
    assert_true(opposite.out[0] == 0);
}

/* The same in the space of the vectors, as the paper writes it. */
static void pcgrad_vectors(const bundle *b, double *out)
{
    memset(out, 0, DIMENSIONS * sizeof *out);
    for (int i = 0; i < b->tasks; i++) {
        double g[DIMENSIONS];
        uint32_t order[RT_TASKS_MAX];
        memcpy(g, b->g[i], sizeof g);
        rt_permutation(b->seed, (uint64_t)i, order, (uint32_t)b->tasks);
        for (int n = 0; n < b->tasks; n++) {
            const double *other = b->g[order[n]];
            double along = dot(g, other) / dot(other, other);
            for (int d = 0; d < DIMENSIONS && along < 0 && (int)order[n] != i; d++)
                g[d] -= along * other[d];
        }
        for (int d = 0; d < DIMENSIONS; d++)
            out[d] += g[d];
    }
}

/*
 * Vectors and coordinates round differently. A projection lengthens no error; it adds at most
 * (tasks + dimensions)·ε of Σ factor_k |g_k|, twice: in the product and in the sum. Factors only grow,
 * so that the final ones, whose sums the weights are, bound all: 2·4·13·ε of it for four projections.
 */
static void pcgrad_many(void **state)
{
    (void)state;
    int conflicts = 0, orders = 0;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        bundle b = {.seed = seed};
        double expected[DIMENSIONS], first[RT_TASKS_MAX], sizes = 0;
        add_noise(&b, seed, 5);
        pcgrad_vectors(&b, expected);
        assert_int_equal(correct(&b, "pcgrad"), 0);
        for (int k = 0; k < b.tasks; k++)
            sizes += b.weight[k] * length(b.g[k]);
        for (int d = 0; d < DIMENSIONS; d++)
            near(b.out[d], expected[d], 2 * 4 * 13 * epsilon * sizes, "a coordinate of five projected");
        for (int k = 0; k < b.tasks; k++)
            conflicts += b.weight[k] != 1;
        memcpy(first, b.weight, sizeof first);
        assert_int_equal(correct(&b, "pcgrad"), 0);
        assert_memory_equal(first, b.weight, sizeof first);
        b.seed += 1000;
        assert_int_equal(correct(&b, "pcgrad"), 0);
        orders += memcmp(first, b.weight, sizeof first) != 0;
    }
    assert_true(conflicts > 100 && orders > 100);
}

/* For two tasks the corrected gradient is never against either: its product with g_1 is that of g_1
 * with its own projection. The rounding of a sum of 8 products is below 16 ε of their sizes. */
static void pcgrad_hurts_neither(void **state)
{
    (void)state;
    int conflicts = 0;
    for (uint64_t seed = 1; seed <= 500; seed++) {
        bundle b = {.seed = seed};
        add_noise(&b, seed, 2);
        conflicts += dot(b.g[0], b.g[1]) < 0;
        assert_int_equal(correct(&b, "pcgrad"), 0);
        double sizes = b.weight[0] * length(b.g[0]) + b.weight[1] * length(b.g[1]);
        for (int k = 0; k < 2; k++)
            assert_true(dot(b.out, b.g[k]) >= -16 * epsilon * sizes * length(b.g[k]));
    }
    assert_true(conflicts > 150);
}

static void norms_become_equal(void **state)
{
    (void)state;
    bundle b = {.tasks = 4, .g = {{3}, {0, 4}, {0}, {0, 0, -8}}};
    assert_int_equal(correct(&b, "equal_norms"), 0);
    assert_true(b.weight[2] == 1); /* no gradient: not counted, 5 is the mean of three */
    near(b.weight[0] * 3, 5, 8 * epsilon * 5, "norm");
    near(b.weight[1] * 4, 5, 8 * epsilon * 5, "norm");
    near(b.weight[3] * 8, 5, 8 * epsilon * 5, "norm");
}

/* With r = decay r + (1 - decay) n from 0, divided by 1 - decay^steps; 0 is not taken in. */
static void norms_run(void **state)
{
    (void)state;
    bundle b = {.tasks = 3, .g = {{3}, {0, 4}, {0, 0, 8}}, .running = {2, 6, 0}};
    assert_int_equal(correct(&b, "running_norms"), 0);
    assert_true(b.weight[0] == 2 && b.weight[2] == 1); /* never seen: as it is */
    near(b.weight[1], 4.0 / 6, epsilon, "weight");

    rt_running_norm running = {0};
    assert_true(rt_correction_note(&running, 0.75, 0) == 0);
    assert_true(rt_correction_note(&running, 0.75, 5) == 5);
    double second = rt_correction_note(&running, 0.75, 12);
    near(second, (0.75 * 0.25 * 5 + 0.25 * 12) / (1 - 0.75 * 0.75), 8 * epsilon * 9, "second");
    assert_true(rt_correction_note(&running, 0.75, 0) == second);
    assert_true(rt_correction_note(&running, 0, 7) == 7);
}

static void long_ones_are_clipped(void **state)
{
    (void)state;
    bundle b = {.tasks = 3, .g = {{3, 4}, {0.5}, {0}}, .config.gradients.clip = 1};
    assert_int_equal(correct(&b, "clip"), 0);
    assert_true(b.weight[0] == 0.2 && b.weight[1] == 1 && b.weight[2] == 1);
}

/* F(w) = s·g_w + c|s||g_w| */
static double dual(const bundle *b, const double *w, double c)
{
    double sum[DIMENSIONS] = {0}, mixed[DIMENSIONS] = {0};
    for (int k = 0; k < b->tasks; k++)
        for (int d = 0; d < DIMENSIONS; d++) {
            sum[d] += b->g[k][d];
            mixed[d] += w[k] * b->g[k][d];
        }
    return dot(sum, mixed) + c * length(sum) * length(mixed);
}

/* The worst task's gain g_k·d, which equals the minimum of F when both are solved. */
static double worst(const bundle *b)
{
    double least = INFINITY;
    for (int k = 0; k < b->tasks; k++)
        least = RT_MIN(least, dot(b->out, b->g[k]));
    return least;
}

static double scale(const bundle *b)
{
    double largest = 0, sum[DIMENSIONS] = {0};
    for (int k = 0; k < b->tasks; k++) {
        largest = RT_MAX(largest, length(b->g[k]));
        for (int d = 0; d < DIMENSIONS; d++)
            sum[d] += b->g[k][d];
    }
    return largest * length(sum);
}

/* What the stop rule leaves: the gap, and as much for the floor where g_w is no shorter than 1e-3 of
 * the longest gradient: c·1e-16/(2·1e-6) of scale. */
static const double stopped = 1e-9 + 1e-9;

/* The nearest of 20001 points is within 1/40000 of the best w, and the slope of F is at most
 * (1 + c)|s||g_1 − g_2|, at most 2.8·scale. */
static void cagrad_against_a_search(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        bundle b = {.config.gradients.cagrad_c = 0.4};
        double least = INFINITY;
        add_noise(&b, seed, 2);
        assert_int_equal(correct(&b, "cagrad"), 0);
        for (int n = 0; n <= 20000; n++) {
            double w[2] = {n / 20000.0, 1 - n / 20000.0};
            least = RT_MIN(least, dual(&b, w, 0.4));
        }
        near(worst(&b), least, (2.8 / 40000 + stopped) * scale(&b), "the worst gain");
    }
}

/*
 * For any number of tasks the weights found, w_k in proportion to weight[k] − 1, prove themselves: by
 * weak duality no vector within c|s| of s gains more than F(w) for its worst task, and the one found
 * gains that, up to the stop rule. The distance is one square root of products: a few roundings of
 * numbers that cancel where g_w is short, by at most 1e-3 squared: 1e-9 is left of 1e-15.
 */
static void cagrad_is_optimal(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        bundle b = {.config.gradients.cagrad_c = seed % 2 ? 0.5 : 0.9};
        double c = b.config.gradients.cagrad_c, w[RT_TASKS_MAX] = {0}, total = 0, sum[DIMENSIONS] = {0};
        add_noise(&b, seed, 2 + (int)(seed % 4));
        assert_int_equal(correct(&b, "cagrad"), 0);
        for (int k = 0; k < b.tasks; k++) {
            assert_true(b.weight[k] >= 1);
            total += b.weight[k] - 1;
            for (int d = 0; d < DIMENSIONS; d++)
                sum[d] += b.g[k][d];
        }
        assert_true(total > 0);
        for (int k = 0; k < b.tasks; k++)
            w[k] = (b.weight[k] - 1) / total;
        near(worst(&b), dual(&b, w, c), stopped * scale(&b), "the worst gain");
        double away[DIMENSIONS];
        for (int d = 0; d < DIMENSIONS; d++)
            away[d] = b.out[d] - sum[d];
        near(length(away), c * length(sum), 1e-9 * length(sum), "the distance from the sum");
    }
}

/* By hand: w = (1, 0) of (1) and (−2), s = −1: half of |s| in the direction of the first. */
static void cagrad_corners(void **state)
{
    (void)state;
    bundle b = {.tasks = 2, .g = {{1}, {-2}}, .config.gradients.cagrad_c = 0.5};
    assert_int_equal(correct(&b, "cagrad"), 0);
    near(b.out[0], -0.5, 8 * epsilon, "the quiet task's part");
    b.config.gradients.cagrad_c = 0;
    assert_int_equal(correct(&b, "cagrad"), 0);
    assert_true(b.weight[0] == 1 && b.weight[1] == 1);
    bundle opposite = {.tasks = 3, .g = {{1}, {-1}, {0}}, .config.gradients.cagrad_c = 0.5};
    assert_int_equal(correct(&opposite, "cagrad"), 0);
    for (int k = 0; k < 3; k++)
        assert_true(opposite.weight[k] == 1);
    /* (1) and (−1) weigh each other out, which leaves no direction to lean to. */
    bundle stuck = {.tasks = 3, .g = {{1}, {-1}, {0, 1}}, .config.gradients.cagrad_c = 0.5};
    assert_int_equal(correct(&stuck, "cagrad"), 0);
    for (int k = 0; k < 3; k++)
        assert_true(stuck.weight[k] == 1);
}

static void one_task_or_none(void **state)
{
    (void)state;
    char *kinds[] = {"none", "equal_norms", "running_norms", "pcgrad", "cagrad", "clip"};
    for (size_t n = 0; n < RT_COUNT(kinds); n++) {
        bundle b = {.tasks = 1, .g = {{3, 4}}, .running = {2}, .config.gradients = {.clip = 9}};
        b.config.gradients.cagrad_c = 0.5;
        assert_int_equal(correct(&b, kinds[n]), 0);
        assert_true(b.weight[0] == 1);
        bundle zero = {.tasks = 4, .config.gradients = {.clip = 9, .cagrad_c = 0.5}};
        assert_int_equal(correct(&zero, kinds[n]), 0);
        for (int k = 0; k < 4; k++)
            assert_true(zero.weight[k] == 1);
        bundle nothing = {.config.gradients = {.clip = 9, .cagrad_c = 0.5}};
        assert_int_equal(correct(&nothing, kinds[n]), 0);
    }
}

static void not_a_number(void **state)
{
    (void)state;
    char *kinds[] = {"equal_norms", "running_norms", "pcgrad", "cagrad", "clip"};
    for (size_t n = 0; n < RT_COUNT(kinds); n++) {
        bundle b = {.tasks = 3, .g = {{1}, {2}, {NAN}}, .running = {1, 1, 1}};
        assert_int_equal(correct(&b, kinds[n]), RT_ERR_MATH);
        assert_non_null(strstr(b.err.message, "not a number"));
    }
    bundle b = {.tasks = 2, .g = {{1}, {2}}, .running = {1, NAN}};
    assert_int_equal(correct(&b, "running_norms"), RT_ERR_MATH);
    assert_non_null(strstr(b.err.message, "task 1"));
    bundle far = {.tasks = 2, .g = {{1}, {2}}, .running = {5e-324, 1e300}};
    assert_int_equal(correct(&far, "running_norms"), RT_ERR_MATH);
    assert_non_null(strstr(far.err.message, "running_norms"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_sum),
        cmocka_unit_test(pcgrad_by_hand),
        cmocka_unit_test(pcgrad_many),
        cmocka_unit_test(pcgrad_hurts_neither),
        cmocka_unit_test(norms_become_equal),
        cmocka_unit_test(norms_run),
        cmocka_unit_test(long_ones_are_clipped),
        cmocka_unit_test(cagrad_against_a_search),
        cmocka_unit_test(cagrad_is_optimal),
        cmocka_unit_test(cagrad_corners),
        cmocka_unit_test(one_task_or_none),
        cmocka_unit_test(not_a_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
