/* The theory checks against cases solved by hand, and the form of what they print. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/cpi.h"
#include "base/svg.h"

/*
 * Two layers, two actions, p = 1/4, tau = 1/4: the improvable state (2) lies in the last layer,
 * action 0 wins with 3/4, action 1 with 1/4. All numbers are dyadic, so equality is exact.
 */
static void chain_of_two(void **state)
{
    (void)state;
    rt_cpi_mdp *mdp = rt_alloc(sizeof *mdp);
    rt_cpi_policy uniform, mixed;
    rt_cpi_values values;
    bool in[RT_CPI_STATES_MAX];
    rt_cpi_chain(mdp, 0.25, 2, 2, 0.25, true);
    rt_cpi_uniform(mdp, &uniform);
    assert_int_equal(mdp->states, 3);
    assert_int_equal(rt_cpi_chain_state(mdp), 2);
    assert_true(rt_cpi_evaluate(mdp, &uniform, &values) == 0.5);
    assert_true(values.q[2][0] == 0.75 && values.q[2][1] == 0.25 && values.v[2] == 0.5);
    assert_true(values.d[0] == 0.5 && values.d[1] == 0.375 && values.d[2] == 0.125);
    assert_true(rt_cpi_improvable(mdp, &values, 0.25, in) == 0.125);
    assert_true(!in[0] && !in[1] && in[2]);
    int action[RT_CPI_STATES_MAX] = {0};
    rt_cpi_mix(mdp, &uniform, action, in, 0.5, &mixed);
    assert_true(rt_cpi_evaluate(mdp, &mixed, NULL) == 0.5 + 0.5 * 0.25 * 0.25);
    rt_cpi_chain(mdp, 0.25, 2, 2, 0.25, false);
    assert_true(rt_cpi_evaluate(mdp, &uniform, NULL) == 0.125); /* only the branch pays: p/2 */
    rt_free(mdp);
}

/* Four layers, four actions, tau = 3/8, p = 1/2: the outcome waits one layer for the end. */
static void chain_of_four(void **state)
{
    (void)state;
    rt_cpi_mdp *mdp = rt_alloc(sizeof *mdp);
    rt_cpi_policy uniform, mixed;
    rt_cpi_values values;
    bool in[RT_CPI_STATES_MAX];
    rt_cpi_chain(mdp, 0.5, 4, 4, 0.375, true);
    rt_cpi_uniform(mdp, &uniform);
    assert_int_equal(mdp->states, 7); /* plain 0, 1, 2; branch 3; plain 4; won 5; lost 6 */
    assert_true(rt_cpi_evaluate(mdp, &uniform, &values) == 0.5);
    assert_true(values.q[3][0] == 0.875 && values.q[3][3] == 0.375);
    assert_true(values.d[3] == 0.125 && values.d[5] == 0.0625 && values.d[6] == 0.0625);
    assert_true(values.v[5] == 1 && values.v[6] == 0);
    assert_true(rt_cpi_improvable(mdp, &values, 0.375, in) == 0.125 && in[3]);
    int action[RT_CPI_STATES_MAX] = {0};
    rt_cpi_mix(mdp, &uniform, action, NULL, 1, &mixed);
    assert_true(rt_cpi_evaluate(mdp, &mixed, NULL) == 0.5 + 0.5 * 0.375);

    rt_cpi_law *law = rt_alloc(sizeof *law);
    rt_cpi_law_init(law, mdp, &uniform, &values, NULL);
    assert_true(law->win[3 * 4] == 0.125 * 0.875 / 4 && law->advantage[3][0] == 0.125 * 0.375);
    rt_cpi_law_init(law, mdp, &uniform, &values, in);
    assert_true(law->win[3 * 4] == 0.875 / 4 && law->advantage[3][0] == 0.375);
    assert_true(law->win[0] == 0 && law->advantage[0][0] == 0);
    rt_free(law);
    rt_free(mdp);
}

/*
 * Two decisions that must both be right: mixing with step a gives ((1 + a)/2)², whose second-order
 * term a²/4 no first-order formula has.
 */
static void mixture_is_not_linear(void **state)
{
    (void)state;
    rt_cpi_mdp *mdp = rt_alloc(sizeof *mdp);
    rt_cpi_policy uniform, mixed;
    mdp->states = 3; /* start, right so far, wrong */
    mdp->actions = mdp->horizon = 2;
    mdp->layer[1] = mdp->layer[2] = 1;
    mdp->next[0][0][1] = mdp->next[0][1][2] = 1;
    mdp->reward[1][0] = 1;
    rt_cpi_uniform(mdp, &uniform);
    assert_true(rt_cpi_evaluate(mdp, &uniform, NULL) == 0.25);
    int action[RT_CPI_STATES_MAX] = {0};
    rt_cpi_mix(mdp, &uniform, action, NULL, 0.5, &mixed);
    assert_true(rt_cpi_evaluate(mdp, &mixed, NULL) == 0.5625);
    rt_free(mdp);
}

/*
 * With rewards that are certain the estimate is a function of how often (s, y) came up; its error
 * and its best policy can be recomputed from one draw of the same stream.
 */
static void estimate_from_counts(void **state)
{
    (void)state;
    rt_cpi_mdp *mdp = rt_alloc(sizeof *mdp);
    rt_cpi_law *law = rt_alloc(sizeof *law);
    rt_cpi_policy uniform;
    rt_cpi_values values;
    mdp->states = mdp->horizon = 1;
    mdp->actions = 2;
    mdp->reward[0][0] = 1;
    rt_cpi_uniform(mdp, &uniform);
    rt_cpi_evaluate(mdp, &uniform, &values);
    rt_cpi_law_init(law, mdp, &uniform, &values, NULL);
    rt_cpi_rng first = rt_cpi_rng_new(7, 1), second = first;
    int64_t wins[2];
    rt_cpi_multinomial(&first, 64, law->win, 2, wins);
    rt_cpi_estimate estimate;
    rt_cpi_estimate_draw(law, 64, &second, &estimate);
    /* Â(always 0) = (2·wins − wins)/64, and minus that for the other; the truth is ±1/2. */
    assert_int_equal(wins[1], 0);
    assert_int_equal(estimate.action[0], 0);
    assert_true(estimate.advantage == (double)wins[0] / 64);
    assert_true(estimate.error == fabs((double)wins[0] / 64 - 0.5));
    rt_free(law);
    rt_free(mdp);
}

/*
 * Means of N draws stay within 6 standard errors (chance of a miss 2e-9 for a good sampler, and
 * the draws are the same on every run), variances within 6 of theirs: √((2 + excess)/N) of the
 * variance, where the excess kurtosis of a binomial is below 1/(n·p·(1 − p)).
 */
static void binomial_moments(void **state)
{
    (void)state;
    static const struct {
        int64_t count;
        double p;
    } cases[] = {{1, 0.25}, {20, 0.3}, {40, 0.5}, {1000, 0.9}, {100000000, 0.002}};
    enum { DRAWS = 20000 };
    for (size_t c = 0; c < RT_COUNT(cases); c++) {
        rt_cpi_rng rng = rt_cpi_rng_new(3, c);
        double n = (double)cases[c].count, p = cases[c].p, spread = n * p * (1 - p);
        double sum = 0, squares = 0;
        for (int i = 0; i < DRAWS; i++) {
            int64_t k = rt_cpi_binomial(&rng, cases[c].count, p);
            assert_in_range(k, 0, cases[c].count);
            sum += (double)k - n * p;
            squares += ((double)k - n * p) * ((double)k - n * p);
        }
        assert_true(fabs(sum / DRAWS) < 6 * sqrt(spread / DRAWS));
        assert_true(fabs(squares / DRAWS - spread) < 6 * spread * sqrt((2 + 1 / spread) / DRAWS));
    }
    rt_cpi_rng rng = rt_cpi_rng_new(3, 99);
    assert_int_equal(rt_cpi_binomial(&rng, 5, 0), 0);
    assert_int_equal(rt_cpi_binomial(&rng, 5, 1), 5);
    assert_int_equal(rt_cpi_binomial(&rng, 0, 0.5), 0);
}

static void small_statistics(void **state)
{
    (void)state;
    const double x[] = {0, 1, 2}, y[] = {1, 3, 5}, values[] = {1, 3};
    assert_true(fabs(rt_cpi_slope(x, y, 3) - 2) < 1e-12); /* three points: a few roundings of 2 */
    rt_cpi_mean mean = rt_cpi_mean_of(values, 2);
    assert_true(mean.mean == 2 && mean.error == 1);
    /* t with 1 degree of freedom is tan(0.475 π); the other from printed tables, 4 digits. */
    assert_true(fabs(rt_cpi_t95(1) - tan(0.475 * 3.14159265358979323846)) < 1e-6);
    assert_true(fabs(rt_cpi_t95(19) - 2.0930) < 0.00005);
}

static void advantages_by_group(void **state)
{
    (void)state;
    const double mixed[] = {1, 0, 0, 1}, equal[] = {1, 1, 1, 1}, one[] = {1, 0, 0, 0, 0, 0, 0, 0};
    double out[8];
    rt_cpi_advantages(mixed, 4, out);
    assert_true(out[0] == 1 && out[1] == -1 && out[2] == -1 && out[3] == 1);
    rt_cpi_advantages(equal, 4, out);
    assert_true(out[0] == 0 && out[3] == 0);
    rt_cpi_advantages(one, 8, out); /* √7 and −1/√7, within a few roundings */
    assert_true(fabs(out[0] - sqrt(7)) < 1e-14 && fabs(out[1] + 1 / sqrt(7)) < 1e-14);
}

/* Equal trained sequences for all methods; a chain starts at its base accuracy. */
static void training_counts(void **state)
{
    (void)state;
    for (int m = 0; m < RT_CPI_METHODS; m++) {
        rt_cpi_task task = {.decisions = 6, .actions = 3, .problems = 2, .base = 0.2,
                            .method = (enum rt_cpi_method)m, .rate = 6};
        rt_cpi_training *training = rt_cpi_training_new(&task, 5);
        /* pow, log and exp of 6 decisions: well below 1000 roundings of 2^-53. */
        assert_true(fabs(rt_cpi_training_accuracy(training) - 0.2) < 1e-13);
        for (int i = 0; i < 10; i++)
            rt_cpi_training_step(training);
        assert_int_equal(rt_cpi_training_trained(training), 10 * 2 * 8);
        int64_t sampled = rt_cpi_training_sampled(training);
        if (m <= RT_CPI_GRPO_4_4)
            assert_int_equal(sampled, 10 * 2 * 8 * 6);
        else /* five fresh rollouts and four of one decision; twelve and four whole ones */
            assert_in_range(sampled, 10 * 2 * (5 * 6 + 4), 10 * 2 * 16 * 6);
        rt_cpi_training_free(&training);
        assert_null(training);
    }
}

/* With one decision a reset is the start: right answers gain, whatever the method. */
static void one_decision_learns(void **state)
{
    (void)state;
    for (int m = 0; m < RT_CPI_METHODS; m++) {
        rt_cpi_task task = {.decisions = 1, .actions = 2, .problems = 4, .base = 0.5,
                            .method = (enum rt_cpi_method)m, .rate = 1};
        rt_cpi_training *training = rt_cpi_training_new(&task, 11);
        double before = rt_cpi_training_right(training, 0);
        for (int i = 0; i < 20; i++) {
            rt_cpi_training_step(training);
            /* Right ones have advantages of 0 or more, wrong ones of 0 or less. */
            assert_true(rt_cpi_training_right(training, 0) >= before);
            before = rt_cpi_training_right(training, 0);
        }
        assert_true(before > 0.5);
        rt_cpi_training_free(&training);
    }
}

static int rows_of(const char *text, const char *start)
{
    int count = 0;
    for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL)
        count += !strncmp(line, start, strlen(start));
    return count;
}

static void check_commas(const char *text, int wanted)
{
    int commas = 0;
    for (; *text; text++) {
        commas += *text == ',';
        if (*text == '\n') {
            assert_int_equal(commas, wanted);
            commas = 0;
        }
    }
}

static void output_form(void **state)
{
    (void)state;
    rt_buf csv = {0}, again = {0}, svg = {0};
    rt_error err = {0};
    rt_cpi_options options = {.seed = 1, .horizon = 4, .quick = true, .csv = &csv, .svg = &svg};
    assert_int_equal(rt_cpi_rates(&options, &err), RT_OK);
    check_commas(csv.data, 9);
    assert_int_equal(rows_of(csv.data, "point,noisy,cpi-rr,samples,"), 5);
    assert_int_equal(rows_of(csv.data, "point,"), 60);
    assert_int_equal(rows_of(csv.data, "slope,"), 12);
    assert_non_null(strstr(svg.data, "</svg>"));
    rt_buf_clear(&svg);
    options.csv = &again; /* same seed, same bytes */
    assert_int_equal(rt_cpi_rates(&options, &err), RT_OK);
    assert_string_equal(csv.data, again.data);
    rt_buf_clear(&csv);
    rt_buf_clear(&svg);
    options.csv = &csv;
    assert_int_equal(rt_cpi_tabular(&options, &err), RT_OK);
    check_commas(csv.data, 12);
    /* Rates, bases, lengths, methods, marks; 32 sequences of 8 decisions in each of 80 steps. */
    assert_int_equal(rows_of(csv.data, "tuned,"), 3 * 4 * 5 * 3);
    assert_int_equal(rows_of(csv.data, "small,"), 3 * 4 * 5 * 3);
    assert_non_null(strstr(csv.data, ",4,20480,2560\n"));
    rt_buf_free(&csv);
    rt_buf_free(&again);
    rt_buf_free(&svg);
}

static void svg_refuses(void **state)
{
    (void)state;
    const double x[] = {1, 10}, y[] = {0, 2};
    rt_svg_series line = {"a < b & c", 2, x, y, NULL, NULL, false};
    rt_svg_plot plot = {"t", "x", "y", true, true, &line, 1};
    rt_buf out = {0};
    rt_error err = {0};
    assert_int_equal(rt_svg_write(&out, &plot, 1, &err), RT_ERR_INPUT); /* log of 0 */
    assert_int_equal(out.bytes, 0);
    plot.y_log = false;
    assert_int_equal(rt_svg_write(&out, &plot, 1, &err), RT_OK);
    assert_non_null(strstr(out.data, "a &lt; b &amp; c"));
    line.count = 0;
    assert_int_equal(rt_svg_write(&out, &plot, 1, &err), RT_ERR_INPUT);
    rt_buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chain_of_two),         cmocka_unit_test(chain_of_four),
        cmocka_unit_test(mixture_is_not_linear),
        cmocka_unit_test(estimate_from_counts),
        cmocka_unit_test(binomial_moments),     cmocka_unit_test(small_statistics),
        cmocka_unit_test(advantages_by_group),  cmocka_unit_test(training_counts),
        cmocka_unit_test(one_decision_learns),  cmocka_unit_test(output_form),
        cmocka_unit_test(svg_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
