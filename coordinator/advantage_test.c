/* Advantages against values by hand and against those of other programs, where they are at hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "coordinator/coordinator.h"

/* Sums of at most 64 numbers of size about 1, a root and a division, in another order than the
 * reference: below 64 x 2^-53 relative, times a condition below 10^3 for these rewards: 1e-11. */
#define BOUND 1e-11

static void check(const rt_advantage_settings *settings, const double *reward, int count,
                  const double *expected, double bound)
{
    double advantage[64];
    rt_advantages(settings, reward, count, advantage);
    for (int i = 0; i < count; i++) {
        if (!(fabs(advantage[i] - expected[i]) <= bound * fmax(1, fabs(expected[i])))) {
            fail_msg("entry %d: %.17g, expected %.17g", i, advantage[i], expected[i]);
        }
    }
}

/* k of n right: deviation sqrt(p(1-p)) by the plain formula, or with n-1. */
static void shares_right(void **state)
{
    (void)state;
    for (int n = 4; n <= 8; n += 4) {
        for (int k = 0; k <= n; k++) {
            for (int ddof = 0; ddof <= 1; ddof++) {
                double reward[8], expected[8], p = (double)k / n;
                double deviation = sqrt(n * p * (1 - p) / (n - ddof));
                for (int i = 0; i < n; i++) {
                    reward[i] = i < k;
                    expected[i] = k == 0 || k == n ? 0 : (reward[i] - p) / deviation;
                }
                rt_advantage_settings settings = {.baseline = RT_BASELINE_MEAN, .std_ddof = ddof};
                check(&settings, reward, n, expected, BOUND);
            }
        }
    }
    /* The published numbers, four decimals. */
    const rt_advantage_settings plain = {.baseline = RT_BASELINE_MEAN, .std_ddof = 0};
    const rt_advantage_settings sample = {.baseline = RT_BASELINE_MEAN, .std_ddof = 1};
    const double one[8] = {1}, four[4] = {1.7321, -0.5774, -0.5774, -0.5774};
    const double four_sample[4] = {1.5, -0.5, -0.5, -0.5};
    const double eight[8] = {2.6458, -.3780, -.3780, -.3780, -.3780, -.3780, -.3780, -.3780};
    check(&plain, one, 4, four, 0.5e-4);
    check(&sample, one, 4, four_sample, BOUND);
    check(&plain, one, 8, eight, 0.5e-4);
}

static void equal_rewards_say_nothing(void **state)
{
    (void)state;
    const int kinds[] = {RT_BASELINE_MEAN, RT_BASELINE_LEAVE_ONE_OUT, RT_BASELINE_BATCH_MEAN};
    for (size_t i = 0; i < RT_COUNT(kinds); i++) {
        for (int ddof = -1; ddof <= 1; ddof++) {
            rt_advantage_settings settings = {.baseline = kinds[i], .std_ddof = ddof};
            /* 0.1 + 0.1 + 0.1 is not 0.3: the mean of equal values is not that value. */
            const double reward[3] = {0.1, 0.1, 0.1};
            for (int count = 1; count <= 3; count++) {
                double advantage[3] = {9, 9, 9};
                rt_advantages(&settings, reward, count, advantage);
                for (int j = 0; j < count; j++) {
                    assert_true(advantage[j] == 0);
                }
            }
        }
    }
}

static void other_baselines(void **state)
{
    (void)state;
    const double reward[4] = {1, 0, 0.5, 0};
    const double none[4] = {1, 0, 0.5, 0};
    const double others[4] = {1 - 0.5 / 3, -0.5, 0.5 - 1.0 / 3, -0.5};
    const double centred[4] = {0.625, -0.375, 0.125, -0.375};
    rt_advantage_settings settings = {.baseline = RT_BASELINE_NONE, .std_ddof = -1};
    check(&settings, reward, 4, none, BOUND);
    settings.baseline = RT_BASELINE_LEAVE_ONE_OUT;
    check(&settings, reward, 4, others, BOUND);
    settings.baseline = RT_BASELINE_BATCH_MEAN;
    double advantage[4];
    rt_advantages_batch(&settings, reward, 4, advantage);
    for (int i = 0; i < 4; i++) {
        assert_true(fabs(advantage[i] - centred[i]) <= BOUND);
    }
    settings.baseline = RT_BASELINE_MEAN;
    settings.zero_below = 0.5; /* the deviation is 0.41 */
    const double zero[4] = {0};
    check(&settings, reward, 4, zero, 0);
}

static int check_case(const json_t *item)
{
    const json_t *params = json_object_get(item, "params");
    const json_t *ddof = json_object_get(params, "ddof");
    const char *baseline = json_string_value(json_object_get(params, "baseline"));
    rt_advantage_settings settings = {
        .baseline = strcmp(baseline, "mean") == 0 ? RT_BASELINE_MEAN : RT_BASELINE_LEAVE_ONE_OUT,
        .std_ddof = json_is_null(ddof) ? -1 : (int)json_integer_value(ddof),
        .std_eps = json_number_value(json_object_get(params, "eps")),
        .zero_below = json_number_value(json_object_get(params, "zero_below"))};
    const json_t *rewards = json_object_get(item, "rewards"),
                 *groups = json_object_get(item, "group");
    const json_t *advantages = json_object_get(item, "advantage");
    int checked = 0;
    for (int group = 0; group < 64; group++) {
        double reward[64], expected[64];
        int count = 0;
        for (size_t i = 0; i < json_array_size(rewards); i++) {
            if (json_integer_value(json_array_get(groups, i)) == group) {
                assert_true(count < 64);
                reward[count] = json_number_value(json_array_get(rewards, i));
                expected[count++] = json_number_value(json_array_get(advantages, i));
            }
        }
        check(&settings, reward, count, expected, BOUND);
        checked += count;
    }
    assert_int_equal(checked, json_array_size(rewards));
    return checked;
}

static void golden(void **state)
{
    (void)state;
    json_t *file = json_load_file("../shared/golden/losses.json", 0, NULL);
    if (!file) {
        skip();
    }
    const json_t *cases = json_object_get(file, "advantages");
    int checked = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        checked += check_case(json_array_get(cases, i));
    }
    printf("%zu cases, %d advantages\n", json_array_size(cases), checked);
    assert_true(checked > 0);
    json_decref(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_right),
        cmocka_unit_test(equal_rewards_say_nothing),
        cmocka_unit_test(other_baselines),
        cmocka_unit_test(golden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
