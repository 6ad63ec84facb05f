/* Sampler: the share of each token is its probability; truncation keeps the right tokens. */
#include <math.h>
#include <stdlib.h>

#include "model/model_testing.h"
#include "model/sampler.h"

enum { V = 150, DRAWS = 40000 };

static void make_logits(float *logits)
{
    for (int i = 0; i < V; i++)
        logits[i] = 2 * rt_normal(11, 0, (uint64_t)i);
    logits[40] = logits[7]; /* a tie */
}

static void probabilities(const float *logits, double temperature, double *p)
{
    double max = -INFINITY, sum = 0;
    for (int i = 0; i < V; i++)
        max = fmax(max, (double)logits[i] / temperature);
    for (int i = 0; i < V; i++)
        sum += p[i] = exp((double)logits[i] / temperature - max);
    for (int i = 0; i < V; i++)
        p[i] /= sum;
}

static int rank_of(const double *p, int id)
{
    int rank = 0;
    for (int i = 0; i < V; i++)
        rank += p[i] > p[id] || (p[i] == p[id] && i < id);
    return rank;
}

/* What stays of p after top-k, then top-p, by definition. */
static void truncate_plainly(double *p, int top_k, double top_p)
{
    int by_rank[V];
    double kept[V] = {0}, mass = 0, sum = 0;
    int k = top_k > 0 && top_k < V ? top_k : V;
    for (int i = 0; i < V; i++)
        by_rank[rank_of(p, i)] = i;
    for (int i = 0; i < k; i++)
        mass += p[by_rank[i]];
    for (int i = 0; i < k && (i == 0 || sum < top_p * mass); i++)
        sum += kept[by_rank[i]] = p[by_rank[i]];
    for (int i = 0; i < V; i++)
        p[i] = kept[i] / sum;
}

/* Evenly spread u: the count of token i differs from p·DRAWS by at most one draw at each end of its
 * interval, and by the float exp's error, below 4·2^-24 of p. */
static void check(double temperature, int top_k, double top_p)
{
    float logits[V];
    double p[V];
    int counts[V] = {0}, last = -1;
    rt_sampler s = {0};
    rt_sampler_init(&s, V);
    make_logits(logits);
    probabilities(logits, temperature, p);
    truncate_plainly(p, top_k, top_p);
    for (int d = 0; d < DRAWS; d++) {
        int id = rt_sample(&s, logits, temperature, top_k, top_p, (d + 0.5) / DRAWS);
        assert_true(id >= last && id < V); /* in vocabulary order */
        counts[last = id]++;
    }
    for (int i = 0; i < V; i++) {
        if (p[i] == 0)
            assert_int_equal(counts[i], 0);
        if (fabs(counts[i] - p[i] * DRAWS) > 1 + DRAWS * 4 * 0x1p-24)
            fail_msg("token %d: %d draws, expected %g", i, counts[i], p[i] * DRAWS);
    }
    rt_sampler_drop(&s);
}

static void test_shares(void **state)
{
    (void)state;
    static const double temperatures[] = {0.05, 0.7, 1, 3};
    for (size_t t = 0; t < RT_COUNT(temperatures); t++) {
        check(temperatures[t], 0, 1);
        check(temperatures[t], 1, 1);
        check(temperatures[t], 12, 1);
        check(temperatures[t], 0, 0.5);
        check(temperatures[t], 0, 0.999);
        check(temperatures[t], 30, 0.9);
        check(temperatures[t], V + 5, 1e-9);
    }
}

static void test_greedy(void **state)
{
    (void)state;
    float logits[V];
    rt_sampler s = {0};
    rt_sampler_init(&s, V);
    make_logits(logits);
    logits[100] = logits[20] = 9;
    assert_int_equal(rt_sample(&s, logits, 0, 0, 1, 0.9), 20);
    assert_int_equal(rt_sample(&s, logits, 1, 1, 1, 0.9), 20);
    logits[3] = (float)NAN;
    assert_int_equal(rt_sample(&s, logits, 0, 0, 1, 0), RT_ERR_MATH);
    logits[3] = (float)INFINITY;
    assert_int_equal(rt_sample(&s, logits, 1, 0, 1, 0), RT_ERR_MATH);
    for (int i = 0; i < V; i++)
        logits[i] = -(float)INFINITY;
    assert_int_equal(rt_sample(&s, logits, 1, 0, 1, 0), RT_ERR_MATH);
    logits[88] = -5000;
    assert_int_equal(rt_sample(&s, logits, 1, 0, 1, 0.5), 88);
    rt_sampler_drop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_greedy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
