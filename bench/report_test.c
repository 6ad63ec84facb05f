/* Reading between evaluations, means over seeds and the order of methods in the report of resets. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bench/resets_report.h"

static void between_evaluations(void **state)
{
    (void)state;
    const double x[] = {0, 4, 8}, y[] = {0.25, 0.5, 0.75};
    assert_true(rt_report_at(x, y, 3, 0) == 0.25);
    assert_true(rt_report_at(x, y, 3, 2) == 0.375);
    assert_true(rt_report_at(x, y, 3, 8) == 0.75);
    assert_true(rt_report_at(x, y, 3, 100) == 0.75); /* not beyond what was measured */
    assert_true(isnan(rt_report_at(x, y, 0, 1)));
}

static rt_report_run run_of(const char *method, int seed, double accuracy, double tokens)
{
    rt_report_run run = {.seed = seed, .marks = 2, .steps = 10, .version = {0, 10},
                         .accuracy = {0.125, accuracy}, .tokens = {0, tokens},
                         .seconds = {0, 5}, .degenerate = 0.5};
    snprintf(run.regime, sizeof run.regime, "dense");
    snprintf(run.method, sizeof run.method, "%s", method);
    return run;
}

static void tables(void **state)
{
    (void)state;
    rt_report_run runs[] = {run_of("caro", 1, 0.5, 1000), run_of("grpo", 1, 0.25, 2000),
                            run_of("grpo", 2, 0.75, 2000)};
    const rt_report report = {runs, 3, 3};
    rt_buf text = {0};
    rt_report_markdown(&report, &text);
    /* mean of 0.25 and 0.75; their deviation is 0.3536, over the root of 2 */
    const char *grpo = strstr(text.data, "| grpo | 2 | 0.125 ± 0.000 |");
    assert_non_null(grpo);
    assert_non_null(strstr(grpo, "0.500 ± 0.250 |"));
    assert_non_null(strstr(text.data, "| caro | 1 | 0.125 |"));
    assert_true(grpo < strstr(text.data, "| caro | 1 |")); /* the order of the paper's table */
    /* At 1k tokens, what all have sampled, grpo is half way: (0.125 + 0.5) / 2. */
    assert_non_null(strstr(grpo, "0.312 ± 0.125 |"));
    rt_buf_free(&text);
    rt_report_csv(&report, &text);
    assert_non_null(strstr(text.data, "dense,grpo,2,10,0.750000,2000,5.000\n"));
    rt_buf_free(&text);
}

static void plots(void **state)
{
    (void)state;
    rt_report_run runs[] = {run_of("grpo", 1, 0.25, 2000), run_of("grpo", 2, 0.75, 2000)};
    const rt_report report = {runs, 2, 2};
    rt_buf svg = {0};
    rt_error err = {0};
    assert_int_equal(rt_report_svg(&report, "dense", &svg, &err), 0);
    assert_non_null(strstr(svg.data, "</svg>"));
    rt_buf_free(&svg);
    assert_int_equal(rt_report_read(&(rt_report){0}, "/nowhere", &err), RT_ERR_INPUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(between_evaluations),
        cmocka_unit_test(tables),
        cmocka_unit_test(plots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
