/* Losses of whole sequences against worked examples and, where present, reference values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "learner/learner.h"

#define GOLDEN "../shared/golden/losses.json"

enum { MAX = 16 };

typedef struct batch {
    double ratio[MAX], advantage[MAX], coefficient[MAX];
    int rejected[MAX];
    rt_preference preference;
    rt_preference_stats stats;
} batch;

static void compute(batch *b, const rt_objective *objective, int count, double z0)
{
    b->preference = (rt_preference){count, b->ratio, b->advantage, b->rejected, z0};
    b->stats = (rt_preference_stats){0};
    rt_preference_terms(objective, &b->preference, b->coefficient, &b->stats);
}

/* exp, log1p and a few roundings, each within 2 units in the last place of numbers up to 4. */
static const double few_roundings = 16 * 2.220446049250313e-16;

static void near(double got, double expected, const char *what)
{
    if (!(fabs(got - expected) <= few_roundings))
        fail_msg("%s is %.17g, expected %.17g", what, got, expected);
}

/* Two pairs with one chosen text: x = 0.5·(2 − 0) = 1 and 0.5·(2 − 2) = 0. With s = σ(−1),
 * L = (log(1 + e⁻¹) + log 2)/2, dL/dR of the chosen −(s + 1/2)/4. */
static void dpo_by_hand(void **state)
{
    (void)state;
    batch b = {.ratio = {2, 0, 2, 2}, .rejected = {2, 0, 4, 0}};
    rt_objective objective = {.loss = RT_LOSS_DPO, .beta = 0.5};
    compute(&b, &objective, 4, 0);
    double s = 1 / (1 + exp(1));
    near(b.stats.loss, (log(1 + exp(-1)) + log(2)) / 2, "loss");
    near(b.coefficient[0], -s / 4, "chosen");
    near(b.coefficient[1], s / 4, "rejected");
    near(b.coefficient[2], -0.125, "chosen at 0");
    near(b.coefficient[3], 0.125, "rejected at 0");
    assert_true(b.stats.right == 1 && b.stats.judged == 2); /* equal is not preferred */
    assert_true(b.stats.chosen == 4 && b.stats.rejected == 2);

    /* The same text in two pairs, sent once: both pulls add up. */
    batch once = {.ratio = {2, 0, 2}, .rejected = {2, 0, 2}};
    compute(&once, &objective, 3, 0);
    near(once.coefficient[1], 2 * s / 4, "rejected twice");
}

/* β = 1, R = z0 ± log 3: σ is 3/4 or 1/4. Desirable, weight 1: 1/4, slope −3/16; undesirable with
 * weight 2 and R above z0: 2·(1 − 1/4), slope 2·3/16; divided by 2 sequences. */
static void kto_by_hand(void **state)
{
    (void)state;
    batch b = {.ratio = {0.5 + log(3), 0.5 + log(3)}, .advantage = {1, -2}};
    rt_objective objective = {.loss = RT_LOSS_KTO, .beta = 1};
    compute(&b, &objective, 2, 0.5);
    near(b.stats.loss, (0.25 + 1.5) / 2, "loss");
    near(b.coefficient[0], -3.0 / 32, "desirable");
    near(b.coefficient[1], 6.0 / 32, "undesirable");
    assert_true(b.stats.right == 1 && b.stats.judged == 2);
    assert_true(b.stats.divergence == 0.5 && b.stats.chosen_count == 1 && b.stats.rejected_count == 1);
}

/* The paper's form: −log(3/4), slope −1/4; undesirable −2·log(1/4), slope 2·3/4. No z0 in it. */
static void kto_paper_by_hand(void **state)
{
    (void)state;
    batch b = {.ratio = {log(3), log(3)}, .advantage = {1, -2}};
    rt_objective objective = {.loss = RT_LOSS_KTO, .beta = 1, .kto_form = RT_KTO_PAPER};
    compute(&b, &objective, 2, 7);
    near(b.stats.loss, (log(4.0 / 3) + 2 * log(4)) / 2, "loss");
    near(b.coefficient[0], -1.0 / 8, "desirable");
    near(b.coefficient[1], 6.0 / 8, "undesirable");
    assert_true(b.stats.divergence == 0);
}

static void divergence_is_never_negative(void **state)
{
    (void)state;
    const double ratio[] = {1, 2, -4, 3};
    assert_true(rt_kto_divergence(ratio, 2) == 1.5);
    assert_true(rt_kto_divergence(ratio, 3) == 0);
    assert_true(rt_kto_divergence(ratio, 0) == 0);
}

/* Far from 0 nothing overflows: the loss is the distance itself, or 0. */
static void extremes_stay_finite(void **state)
{
    (void)state;
    batch b = {.ratio = {-4000, 4000}, .rejected = {2, 0}, .advantage = {1, -1}};
    rt_objective objective = {.loss = RT_LOSS_DPO, .beta = 1};
    compute(&b, &objective, 2, 0);
    assert_true(b.stats.loss == 8000 && b.coefficient[0] == -1 && b.coefficient[1] == 1);
    objective.loss = RT_LOSS_KTO;
    compute(&b, &objective, 2, 0);
    assert_true(b.stats.loss == 1 && b.coefficient[0] == 0 && b.coefficient[1] == 0);
    objective.kto_form = RT_KTO_PAPER;
    compute(&b, &objective, 2, 0);
    assert_true(b.stats.loss == 4000 && b.coefficient[0] == -0.5 && b.coefficient[1] == 0.5);
}

/* ---- what a batch must be like ----------------------------------------------------------------- */

static const int32_t ids_a[] = {1, 2, 7}, ids_b[] = {1, 3, 7};
static const float sampled[] = {-1};

static void refused(const rt_objective *objective, const rt_sequence *sequences, int begin, int end,
                    const char *why)
{
    rt_error err = {0};
    assert_int_equal(rt_preference_check(objective, sequences, 4, begin, end, &err), RT_ERR_INPUT);
    if (!strstr(err.message, why))
        fail_msg("\"%s\" does not say \"%s\"", err.message, why);
}

static void bad_batches_are_refused(void **state)
{
    (void)state;
    rt_sequence q[4];
    rt_error err;
    for (int i = 0; i < 4; i++)
        q[i] = (rt_sequence){.trajectory = (uint64_t)i + 10, .ids = i < 3 ? ids_a : ids_b,
                             .old_logp = sampled, .prompt_tokens = 2, .response_tokens = 1,
                             .advantage = 1};
    rt_objective dpo = {.loss = RT_LOSS_DPO, .beta = 1}, kto = {.loss = RT_LOSS_KTO, .beta = 1};
    rt_objective policy = {.ratio = RT_RATIO_TOKEN};
    assert_int_equal(rt_preference_check(&kto, q, 4, 0, 4, &err), 0);
    assert_int_equal(rt_preference_check(&policy, q, 4, 0, 4, &err), 0);
    refused(&dpo, q, 0, 4, "no pair");
    q[0].rejected = 2;
    assert_int_equal(rt_preference_check(&dpo, q, 4, 0, 4, &err), 0);
    refused(&kto, q, 0, 4, "one of a pair");
    refused(&policy, q, 0, 4, "one of a pair");
    refused(&dpo, q, 0, 1, "split");
    static const struct { int rejected; const char *why; } links[] = {
        {1, "another sequence"}, {5, "another sequence"}, {-3, "another sequence"}, {4, "different prompts"},
    };
    for (size_t i = 0; i < RT_COUNT(links); i++) {
        q[0].rejected = links[i].rejected;
        refused(&dpo, q, 0, 4, links[i].why);
    }
    q[0].rejected = 2;
    q[1].adapter = 1;
    refused(&dpo, q, 0, 4, "adapters 0 and 1");
    q[0].rejected = q[1].adapter = 0;
    q[2].advantage = 0;
    refused(&kto, q, 0, 4, "trajectory 12");
    q[2].advantage = (double)NAN;
    refused(&kto, q, 0, 4, "trajectory 12");
    q[3].old_logp = NULL;
    refused(&policy, q, 0, 4, "trajectory 13 was not sampled");
    policy = (rt_objective){.ratio = RT_RATIO_NONE, .ratio_max = 2};
    refused(&policy, q, 0, 4, "trajectory 13 was not sampled");
    policy.ratio_max = 0;
    assert_int_equal(rt_preference_check(&policy, q, 4, 0, 4, &err), 0);
}

/* ---- reference values -------------------------------------------------------------------------- */

static double at(const json_t *root, const char *key, size_t i, size_t t)
{
    return json_number_value(json_array_get(json_array_get(json_object_get(root, key), i), t));
}

static double item(const json_t *root, const char *key, size_t i)
{
    return json_number_value(json_array_get(json_object_get(root, key), i));
}

/* DPO cases list pairs, several of one text: each becomes two copies, as the coordinator sends them.
 * Returns how many copies there are; copy k is of sequence of[k]. */
static int read_dpo(const json_t *root, const double *ratio, batch *b, size_t *of)
{
    const json_t *pairs = json_object_get(root, "pairs");
    int count = 0;
    for (size_t i = 0; i < json_array_size(pairs); i++, count += 2) {
        for (size_t side = 0; side < 2; side++) {
            const json_t *index = json_array_get(json_array_get(pairs, i), side);
            int copy = count + (int)side;
            of[copy] = (size_t)json_integer_value(index);
            b->ratio[copy] = ratio[of[copy]];
        }
        b->rejected[count] = count + 2;
    }
    return count;
}

static int read_kto(const json_t *root, const double *ratio, int sequences, batch *b, size_t *of,
                    double *z0)
{
    const json_t *params = json_object_get(root, "params");
    double weights[2] = {json_number_value(json_object_get(params, "undesirable_weight")),
                         json_number_value(json_object_get(params, "desirable_weight"))};
    double others[MAX];
    for (int i = 0; i < sequences; i++) {
        bool label = json_is_true(json_array_get(json_object_get(root, "label"), (size_t)i));
        of[i] = (size_t)i;
        b->ratio[i] = ratio[i];
        b->advantage[i] = label ? weights[1] : -weights[0];
        others[i] = item(root, "kl_logp", (size_t)i) - item(root, "kl_ref_logp", (size_t)i);
    }
    *z0 = rt_kto_divergence(others, sequences);
    return sequences;
}

/* All is double on both sides; R sums up to 9 differences of numbers below 16 in another order: off by
 * at most 9·2·16·2⁻⁵³ ≈ 3.2e-14, times β and weights below 0.2 each; both functions have slopes of
 * at most 1. What the JSON prints is exact. */
static const double sum_bound = 3.2e-14;

static void one_case(const json_t *root, bool dpo)
{
    size_t sequences = json_array_size(json_object_get(root, "logp")), of[MAX];
    size_t tokens = json_array_size(json_array_get(json_object_get(root, "logp"), 0));
    const char *name = json_string_value(json_object_get(root, "name"));
    double ratio[MAX] = {0}, slope[MAX] = {0}, z0 = 0;
    assert_true(sequences <= MAX);
    for (size_t i = 0; i < sequences; i++)
        for (size_t t = 0; t < tokens; t++)
            if (at(root, "mask", i, t) != 0)
                ratio[i] += at(root, "logp", i, t) - at(root, "ref_logp", i, t);
    batch b = {0};
    rt_objective objective = {.loss = dpo ? RT_LOSS_DPO : RT_LOSS_KTO};
    objective.beta = json_number_value(json_object_get(json_object_get(root, "params"), "beta"));
    int count = dpo ? read_dpo(root, ratio, &b, of)
                    : read_kto(root, ratio, (int)sequences, &b, of, &z0);
    compute(&b, &objective, count, z0);
    double value = json_number_value(json_object_get(root, "value"));
    if (!(fabs(b.stats.loss - value) <= sum_bound))
        fail_msg("%s: loss %.17g, expected %.17g", name, b.stats.loss, value);
    for (int k = 0; k < count; k++)
        slope[of[k]] += b.coefficient[k];
    for (size_t i = 0; i < sequences; i++)
        for (size_t t = 0; t < tokens; t++) {
            double got = at(root, "mask", i, t) != 0 ? slope[i] : 0;
            if (!(fabs(got - at(root, "grad", i, t)) <= sum_bound))
                fail_msg("%s: gradient (%zu, %zu) is %.17g, expected %.17g", name, i, t, got,
                         at(root, "grad", i, t));
        }
}

static void reference_losses(void **state)
{
    (void)state;
    json_t *root = json_load_file(GOLDEN, 0, NULL);
    if (!root)
        skip();
    size_t i;
    int done[2] = {0};
    json_t *one;
    json_array_foreach(json_object_get(root, "losses"), i, one)
    {
        const char *loss = json_string_value(json_object_get(one, "loss"));
        bool dpo = strcmp(loss, "dpo") == 0;
        if (!dpo && strcmp(loss, "kto") != 0)
            continue;
        one_case(one, dpo);
        done[dpo]++;
    }
    assert_true(done[0] >= 3 && done[1] >= 2);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dpo_by_hand),
        cmocka_unit_test(kto_by_hand),
        cmocka_unit_test(kto_paper_by_hand),
        cmocka_unit_test(divergence_is_never_negative),
        cmocka_unit_test(extremes_stay_finite),
        cmocka_unit_test(bad_batches_are_refused),
        cmocka_unit_test(reference_losses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
