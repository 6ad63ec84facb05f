/* Objectives against worked examples and, where present, reference losses and gradients. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "learner/learner.h"

#define GOLDEN "../shared/golden/losses.json"
#define ADAMW "../shared/golden/adamw.json"

enum { SEQUENCES_MAX = 16, TOKENS_MAX = 256 };

typedef struct batch {
    int32_t first[SEQUENCES_MAX + 1];
    float logp[TOKENS_MAX], old_logp[TOKENS_MAX], ref_logp[TOKENS_MAX], g[TOKENS_MAX];
    uint8_t mask[TOKENS_MAX];
    double advantage[SEQUENCES_MAX];
    rt_terms terms;
} batch;

static void finish(batch *b, int sequences, bool reference)
{
    int64_t live = 0;
    for (int e = 0; e < b->first[sequences]; e++)
        live += b->mask[e];
    b->terms = (rt_terms){sequences, b->first, b->logp, b->old_logp, reference ? b->ref_logp : NULL,
                          b->mask, b->advantage, sequences, live};
}

/* L = −(1/2)(1·(−0.5) + (−1)·(−2.0)) = −0.75: two sequences, suffix means −0.5 and −2. */
static void sequence_mean_by_hand(void **state)
{
    (void)state;
    batch b = {.first = {0, 3, 5}, .logp = {-9, -0.25f, -0.75f, -1, -3}, .mask = {0, 1, 1, 1, 1},
               .advantage = {1, -1}};
    finish(&b, 2, false);
    rt_objective objective = {.ratio = RT_RATIO_NONE, .aggregation = RT_AGG_SEQUENCE_MEAN};
    rt_term_stats stats = {0};
    rt_objective_terms(&objective, &b.terms, b.g, &stats);
    assert_true(stats.loss == -0.75); /* every number is a small binary fraction: exact */
    const float expected[] = {0, -0.25f, -0.25f, 0.25f, 0.25f};
    assert_memory_equal(b.g, expected, sizeof expected);
    assert_int_equal(stats.live, 4);
}

/* The same log-probs on both sides: the ratio is exactly 1, nothing is clipped. */
static void on_policy_ratio_is_one(void **state)
{
    (void)state;
    batch b = {.first = {0, 2}, .logp = {-1.3f, -0.7f}, .old_logp = {-1.3f, -0.7f}, .mask = {1, 1},
               .advantage = {0.5}};
    finish(&b, 1, false);
    rt_objective objective = {.ratio = RT_RATIO_TOKEN, .clip_low = 0.2, .clip_high = 0.2,
                              .aggregation = RT_AGG_TOKEN_MEAN};
    rt_term_stats stats = {0};
    rt_objective_terms(&objective, &b.terms, b.g, &stats);
    assert_true(stats.loss == -0.5 && stats.clipped == 0);
    assert_true(b.g[0] == -0.25f && b.g[1] == -0.25f);
}

/* Cutting a batch between sequences changes neither the sum of the loss nor any gradient. */
static void cut_changes_nothing(void **state)
{
    (void)state;
    batch b = {.first = {0, 2, 5, 6}, .logp = {-1, -2, -3, -1, -2, -4},
               .old_logp = {-1.1f, -2.2f, -2.9f, -1, -2.4f, -4}, .mask = {1, 1, 1, 0, 1, 1},
               .advantage = {1, -0.5, 2}};
    finish(&b, 3, false);
    rt_objective objective = {.ratio = RT_RATIO_TOKEN, .clip_low = 0.2, .clip_high = 0.2,
                              .aggregation = RT_AGG_TOKEN_MEAN};
    rt_term_stats whole = {0}, parts = {0};
    rt_objective_terms(&objective, &b.terms, b.g, &whole);
    float together[TOKENS_MAX];
    memcpy(together, b.g, sizeof together);
    for (int i = 0; i < 3; i++) {
        rt_terms part = b.terms;
        part.sequences = 1;
        part.first = b.first + i;
        part.advantage = b.advantage + i;
        rt_objective_terms(&objective, &part, b.g, &parts);
    }
    assert_memory_equal(together, b.g, 6 * sizeof(float));
    assert_true(whole.loss == parts.loss); /* the same additions in the same order */
}

/* ---- reference values -------------------------------------------------------------------------- */

static double field(const json_t *object, const char *key, double standard)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : standard;
}

static int choice(const json_t *object, const char *key, const char *const *names, int count)
{
    const char *text = json_string_value(json_object_get(object, key));
    for (int i = 0; text && i < count; i++)
        if (strcmp(text, names[i]) == 0)
            return i;
    return 0;
}

static rt_objective objective_of(const json_t *params)
{
    static const char *const ratios[] = {"none", "token", "sequence"};
    static const char *const aggregations[] = {"token_mean", "sequence_mean", "constant"};
    static const char *const kls[] = {"off", "k1", "k2", "k3"};
    return (rt_objective){
        .ratio = choice(params, "ratio", ratios, 3), .clip_low = field(params, "clip_low", 0),
        .clip_high = field(params, "clip_high", 0), .clip_dual = field(params, "clip_dual", 0),
        .ratio_max = field(params, "ratio_max", 0),
        .aggregation = choice(params, "agg", aggregations, 3), .constant = field(params, "constant", 0),
        .kl = choice(params, "kl", kls, 4), .kl_coef = field(params, "kl_coef", 0),
    };
}

static double at(const json_t *root, const char *key, size_t i, size_t t)
{
    return json_number_value(json_array_get(json_array_get(json_object_get(root, key), i), t));
}

static int read_case(const json_t *root, batch *b)
{
    size_t sequences = json_array_size(json_object_get(root, "logp"));
    size_t tokens = json_array_size(json_array_get(json_object_get(root, "logp"), 0));
    assert_true(sequences <= SEQUENCES_MAX && sequences * tokens <= TOKENS_MAX);
    bool supervised = !json_object_get(root, "advantage");
    for (size_t i = 0, e = 0; i < sequences; i++) {
        const json_t *start = json_array_get(json_object_get(root, "suffix_start"), i);
        b->first[i] = (int32_t)e;
        b->advantage[i] = supervised ? 1 : json_number_value(
            json_array_get(json_object_get(root, "advantage"), i));
        for (size_t t = 0; t < tokens; t++, e++) {
            b->logp[e] = (float)at(root, "logp", i, t);
            b->old_logp[e] = (float)at(root, "old_logp", i, t);
            b->ref_logp[e] = (float)at(root, "ref_logp", i, t);
            b->mask[e] = at(root, "mask", i, t) != 0 && (double)t >= json_number_value(start);
        }
        b->first[i + 1] = (int32_t)e + 0;
    }
    b->first[sequences] = (int32_t)(sequences * tokens);
    finish(b, (int)sequences, json_object_get(root, "ref_logp") != NULL);
    return (int)tokens;
}

/* log-probs arrive rounded to float32: relative error 2⁻²⁴ of values up to 8 shifts a log ratio by at
 * most 2·8·2⁻²⁴ ≈ 1e-6, so ratios, terms and derivatives are off by 1e-6 of their size (sizes up
 * to 50 here: |A|·r·logp); g itself is rounded once more. */
static const double relative_bound = 2e-6;

static void one_reference_case(const json_t *root)
{
    batch *b = rt_alloc(sizeof *b);
    int tokens = read_case(root, b);
    rt_objective objective = objective_of(json_object_get(root, "params"));
    rt_term_stats stats = {0};
    rt_objective_terms(&objective, &b->terms, b->g, &stats);
    double value = json_number_value(json_object_get(root, "value")), largest = 1e-3;
    int entries = b->first[b->terms.sequences];
    for (int e = 0; e < entries; e++)
        largest = fmax(largest, fabs(at(root, "grad", (size_t)(e / tokens), (size_t)(e % tokens))));
    const char *name = json_string_value(json_object_get(root, "name"));
    if (fabs(stats.loss - value) > relative_bound * fmax(1, 8 * fabs(value)))
        fail_msg("%s: loss %.10g, expected %.10g", name, stats.loss, value);
    for (int e = 0; e < entries; e++) {
        double expected = at(root, "grad", (size_t)(e / tokens), (size_t)(e % tokens));
        if (fabs((double)b->g[e] - expected) > relative_bound * largest)
            fail_msg("%s: gradient %d is %.10g, expected %.10g", name, e, (double)b->g[e], expected);
    }
    rt_free(b);
}

static void reference_losses(void **state)
{
    (void)state;
    json_t *root = json_load_file(GOLDEN, 0, NULL);
    if (!root)
        skip();
    size_t i, done = 0, supervised = 0;
    json_t *one;
    json_array_foreach(json_object_get(root, "losses"), i, one)
    {
        const char *loss = json_string_value(json_object_get(one, "loss"));
        if (strcmp(loss, "policy") != 0 && strcmp(loss, "sft") != 0)
            continue;
        one_reference_case(one);
        done++;
        supervised += loss[0] == 's';
    }
    assert_true(done >= 20 && supervised >= 2);
    json_decref(root);
}

/* ---- optimizer ------------------------------------------------------------------------------------ */

static int flatten(const json_t *value, float *out)
{
    if (json_is_number(value)) {
        *out = (float)json_number_value(value);
        return 1;
    }
    int count = 0;
    for (size_t i = 0; i < json_array_size(value); i++)
        count += flatten(json_array_get(value, i), out + count);
    return count;
}

/* Each step rounds a few times (m, v, the quotient, the parameter): 2⁻²⁴ each, relative to the
 * parameter (up to 4 here) and to the step lr; six steps add up. */
static void one_adamw_case(const json_t *root, rt_ops *ops)
{
    float w[64], m[64] = {0}, v[64] = {0}, g[64], expected[64];
    int count = flatten(json_object_get(root, "start"), w);
    double beta1 = field(root, "beta1", 0), beta2 = field(root, "beta2", 0), lr = field(root, "lr", 0);
    size_t i;
    json_t *step;
    json_array_foreach(json_object_get(root, "steps"), i, step)
    {
        assert_int_equal(flatten(json_object_get(step, "grad"), g), count);
        double norm = sqrt(ops->dot(ops, g, g, (size_t)count));
        double expected_norm = json_number_value(json_object_get(step, "grad_norm"));
        assert_true(fabs(norm - expected_norm) <= 1e-6 * expected_norm);
        double t = (double)(i + 1), scale = fmin(1, field(root, "clip", 1) / (norm + 1e-6));
        ops->adamw(ops, w, m, v, g, (size_t)count, (float)scale, (float)lr, (float)beta1, (float)beta2,
                   (float)field(root, "eps", 0), (float)field(root, "weight_decay", 0),
                   (float)(1 - pow(beta1, t)), (float)(1 - pow(beta2, t)));
        flatten(json_object_get(step, "param"), expected);
        for (int k = 0; k < count; k++) {
            double bound = t * (4 * ldexp(1, -24) * 4 + 8 * ldexp(1, -24) * lr * 4);
            if (fabs((double)w[k] - (double)expected[k]) > bound)
                fail_msg("step %zu, element %d: %.9g, expected %.9g", i, k, (double)w[k],
                         (double)expected[k]);
        }
    }
}

static void reference_adamw(void **state)
{
    (void)state;
    json_t *root = json_load_file(ADAMW, 0, NULL);
    if (!root)
        skip();
    static const char *const devices[] = {"cpu", "ref"};
    for (int d = 0; d < 2; d++) {
        rt_ops *ops;
        rt_error err;
        assert_int_equal(rt_ops_open(&ops, devices[d], 1, &err), 0);
        for (size_t i = 0; i < json_array_size(root); i++)
            one_adamw_case(json_array_get(root, i), ops);
        rt_ops_free(&ops);
    }
    json_decref(root);
}

static void schedules(void **state)
{
    (void)state;
    rt_config config = {0};
    config.learner.lr = 1;
    config.learner.warmup_steps = 4;
    config.learner.schedule = "linear";
    assert_true(rt_learning_rate(&config, 0, 12) == 0.25);
    assert_true(rt_learning_rate(&config, 3, 12) == 1);
    assert_true(rt_learning_rate(&config, 8, 12) == 0.5);
    assert_true(rt_learning_rate(&config, 12, 12) == 0);
    config.learner.schedule = "constant";
    assert_true(rt_learning_rate(&config, 11, 12) == 1);
    config.learner.schedule = "cosine";
    assert_true(fabs(rt_learning_rate(&config, 8, 12) - 0.5) < 1e-15); /* cos(π/2) in double */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequence_mean_by_hand), cmocka_unit_test(on_policy_ratio_is_one),
        cmocka_unit_test(cut_changes_nothing),   cmocka_unit_test(reference_losses),
        cmocka_unit_test(reference_adamw),       cmocka_unit_test(schedules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
