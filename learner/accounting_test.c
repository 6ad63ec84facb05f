/* Gradients by task: estimators against brute force, what they leave alone, what corrections do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "learner/accounting.h"

/* ---- vectors by hand -------------------------------------------------------------------------- */

static rt_ops *ops_open(void)
{
    rt_ops *ops;
    assert_int_equal(rt_ops_open(&ops, "cpu", 1, NULL), 0);
    return ops;
}

static rt_class_account class_of(const rt_accounts *accounts, int class)
{
    rt_class_account of;
    assert_true(rt_accounts_class(accounts, class, &of));
    return of;
}

/* What was worked out by hand is exact in doubles up to the rounding of one division and one root. */
static void near(double value, double expected)
{
    if (!(fabs(value - expected) <= 4 * 0x1p-52 * fabs(expected)))
        fail_msg("%.17g, expected %.17g", value, expected);
}

static void two_prompts_at_right_angles(void **state)
{
    (void)state;
    rt_ops *ops = ops_open();
    const rt_account_span span = {.count = 2};
    rt_accounts *accounts = rt_accounts_new(ops, &span, false);
    double gram[RT_CLASSES_MAX * RT_CLASSES_MAX];
    float grad[2] = {0.5f, 0}; /* of a batch of two: half of (1, 0) and of (0, 1) */
    rt_accounts_begin(accounts, 0);
    rt_accounts_look(accounts, 0, 0, 1, grad);
    grad[1] = 0.5f;
    rt_accounts_look(accounts, 0, 1, 1, grad);
    rt_accounts_end(accounts, 2, gram);
    rt_class_account of = class_of(accounts, 0);
    near(of.norm2, 0);
    near(of.naive, 0.5);
    near(of.share, 1);
    near(of.cosine, 1);
    assert_int_equal(of.prompts, 2);
    assert_true(isnan(of.halves) && isnan(of.norm2_block) && isnan(of.correlation));
    rt_class_account unused;
    assert_false(rt_accounts_class(accounts, 1, &unused));
    rt_accounts_free(&accounts);
    rt_ops_free(&ops);
}

/* Task 0: prompts (4, 0, 0), (2, 0, 2) and a flat one; task 1: (0, −1, 0) twice. Element 1 is looked up
 * apart, element 2 is the last layer; the vector begins at place 5. */
static void classes_lookups_and_flat_prompts(void **state)
{
    (void)state;
    rt_ops *ops = ops_open();
    float grad[8] = {0}, more[1] = {0};
    const rt_account_span span = {.at = 1, .count = 3, .block = 2, .block_count = 1, .more = more,
                                  .more_at = 6, .more_count = 1};
    rt_accounts *accounts = rt_accounts_new(ops, &span, true);
    double gram[RT_CLASSES_MAX * RT_CLASSES_MAX];
    rt_accounts_begin(accounts, 4);
    grad[5] = 4;
    rt_accounts_look(accounts, 0, 0, 1, grad);
    more[0] = -0.25f, grad[6] = -0.75f;
    rt_accounts_look(accounts, 1, 0, 1, grad);
    grad[5] = 6, grad[7] = 2;
    rt_accounts_look(accounts, 0, 1, 0.5, grad);
    more[0] = -1.25f;
    rt_accounts_look(accounts, 1, 1, 1, grad);
    rt_accounts_flat(accounts, 0, 1, 0);
    rt_accounts_end(accounts, 5, gram);
    rt_class_account a = class_of(accounts, 0), b = class_of(accounts, 1);
    /* S = (6, 0, 2): |S|² = 40, Σ|g|² = 16 + 8 */
    near(a.norm2, 25 * 16.0 / 6);
    near(a.norm2_live, 25 * 16.0 / 2);
    near(a.naive, 25 * 40.0 / 9);
    near(a.halves, 25 * 8.0 / 2); /* (4, 0, 0)·(2, 0, 2), one prompt against two */
    near(a.norm2_block, 0);
    near(a.advantage, 0.5);
    assert_int_equal(a.prompts, 3);
    assert_int_equal(a.live, 2);
    near(b.norm2, 25);
    near(b.halves, 25);
    near(a.share, 40.0 / 44);
    near(b.share, 4.0 / 44);
    near(b.cosine, sqrt(4.0 / 44));
    near(a.cosines[1], 0);
    near(gram[RT_CLASSES_MAX + 1], 4);

    const double weight[RT_CLASSES_MAX] = {0.5, -2};
    float out[3] = {0};
    rt_accounts_combine(accounts, weight, out);
    assert_true(out[0] == 3 && out[1] == 4 && out[2] == 1);

    rt_accounts_clear(accounts);
    rt_class_account unused;
    assert_false(rt_accounts_class(accounts, 0, &unused));
    rt_accounts_free(&accounts);
    rt_ops_free(&ops);
}

/* ---- a small model ---------------------------------------------------------------------------- */

enum { PROBLEMS = 12, ANSWERS = 2, SEQUENCES = PROBLEMS * ANSWERS, PROMPT = 4, RESPONSE = 10, VOCAB = 40 };

typedef struct world {
    char dir[64];
    rt_config config;
    int32_t ids[SEQUENCES][PROMPT + RESPONSE];
    rt_sequence sequences[SEQUENCES];
    size_t count;
    float *grads[PROBLEMS]; // (count) of a batch of that problem alone
} world;

/* Problems in turn of tasks 0 and 1; those of task 1 have larger advantages, one has none. */
static void fill(world *w)
{
    for (int i = 0; i < SEQUENCES; i++) {
        int problem = i / ANSWERS;
        for (int t = 0; t < PROMPT + RESPONSE; t++)
            w->ids[i][t] = (int32_t)rt_below(3, t < PROMPT ? (uint64_t)problem : 100 + (uint64_t)i,
                                             (uint64_t)t, VOCAB);
        double size = problem == 5 ? 0 : 1 + problem % 2;
        w->sequences[i] = (rt_sequence){
            .trajectory = (uint64_t)i, .problem = (uint64_t)problem, .task = problem % 2,
            .ids = w->ids[i], .prompt_tokens = PROMPT, .response_tokens = RESPONSE,
            .suffix_start = i % ANSWERS ? 3 : 0, .kind = i % ANSWERS, .depth = i % ANSWERS,
            .advantage = i % ANSWERS ? size : -size, .stale = true, .old_logp = NULL,
        };
    }
}

static world *world_new(const char *const *sets, int count)
{
    world *w = rt_alloc(sizeof *w);
    rt_error err = {0};
    snprintf(w->dir, sizeof w->dir, "/tmp/retake-accounting-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    rt_arch arch = {.family = "llama", .layers = 2, .d = 16, .f = 24, .heads = 2, .kv_heads = 1,
                    .head_size = 8, .vocab = VOCAB, .context = 64, .norm_eps = 1e-5f, .tied = true,
                    .rope_theta = 10000, .bos = -1};
    rt_weights *weights;
    assert_int_equal(rt_weights_new(&weights, &arch, RT_F32, &err), 0);
    rt_weights_randomize(weights, 7);
    w->count = weights->count;
    assert_int_equal(rt_model_save(weights, w->dir, NULL, &err), 0);
    rt_weights_free(&weights);
    char *model = rt_format("model.path=%s", w->dir);
    const char *all[16] = {model, "learner.threads=1", "algorithm.baseline=mean",
                           "algorithm.aggregation=sequence_mean", "algorithm.clip_low=0",
                           "algorithm.clip_high=0", "learner.clip=0", "algorithm.ratio=none"};
    int given = 8;
    for (int i = 0; i < count; i++)
        all[given++] = sets[i];
    static const char tasks[] = "tasks:\n  - {name: chain}\n  - {name: sort}\n";
    if (rt_config_parse(&w->config, tasks, sizeof tasks - 1, "test", all, given, &err) != 0)
        fail_msg("%s", err.message);
    rt_free(model);
    fill(w);
    return w;
}

static void world_free(world *w)
{
    for (int i = 0; i < PROBLEMS; i++)
        rt_free(w->grads[i]);
    rt_remove_tree(w->dir, NULL);
    rt_config_free(&w->config);
    rt_free(w);
}

static void keep_gradient(void *context, int update, const float *grad, size_t count, double loss)
{
    (void)update, (void)loss;
    memcpy(context, grad, count * sizeof(float));
}

static void see_nothing(void *context, int update, const rt_sequence *const *sequences, int count,
                        const int32_t *first, const float *logp, const float *g)
{
    (void)context, (void)update, (void)sequences, (void)count, (void)first, (void)logp, (void)g;
}

static rt_learner *learner_of(const world *w)
{
    rt_learner *learner = NULL;
    rt_error err = {0};
    if (rt_learner_new(&learner, &w->config, NULL, &err) != 0)
        fail_msg("%s", err.message);
    return learner;
}

/* One step over sequences [from, from + count) in `updates` optimizer steps; grad: of the last. */
static rt_update_stats step(rt_learner *learner, const world *w, int from, int count, int updates,
                            float *grad)
{
    rt_update_stats stats;
    rt_error err = {0};
    int done;
    const rt_observer observer = {grad, see_nothing, keep_gradient};
    rt_learner_observe(learner, grad ? &observer : NULL);
    if (rt_learner_step(learner, w->sequences + from, count, updates, NULL, &done, &stats, &err) != 0)
        fail_msg("%s", err.message);
    return stats;
}

/* With a learning rate of 0 every step sees the same weights. */
static void measure_problems(world *w)
{
    rt_learner *learner = learner_of(w);
    for (int i = 0; i < PROBLEMS; i++) {
        w->grads[i] = rt_alloc(w->count * sizeof(float));
        step(learner, w, i * ANSWERS, ANSWERS, 1, w->grads[i]);
    }
    rt_learner_free(&learner);
}

static double product(const float *a, const float *b, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

typedef struct mean {
    double n, sum, squares;
} mean;

static void mean_add(mean *m, double x)
{
    m->n++, m->sum += x, m->squares += x * x;
}

static double mean_error(const mean *m)
{
    return sqrt((m->squares / m->n - m->sum / m->n * (m->sum / m->n)) / (m->n - 1));
}

/* 1,000 batches of four prompts out of twelve, drawn anew each time: the unbiased estimates lie around
 * the squared norm of the mean gradient, the naive one lies above it. */
static void estimators_are_unbiased(void **state)
{
    (void)state;
    enum { DRAWS = 1000, BATCH = 4 };
    const char *sets[] = {"learner.lr=0"};
    world *w = world_new(sets, 1);
    measure_problems(w);
    rt_ops *ops = ops_open();
    const rt_account_span span = {.count = w->count};
    rt_accounts *accounts = rt_accounts_new(ops, &span, true);
    float *grad = rt_alloc(w->count * sizeof(float));
    double gram[RT_CLASSES_MAX * RT_CLASSES_MAX];
    mean unbiased = {0}, halves = {0}, naive = {0};
    for (int draw = 0; draw < DRAWS; draw++) {
        memset(grad, 0, w->count * sizeof(float));
        rt_accounts_clear(accounts);
        rt_accounts_begin(accounts, 0);
        for (int i = 0; i < BATCH; i++) {
            const float *one = w->grads[rt_below(11, (uint64_t)draw, (uint64_t)i, PROBLEMS)];
            for (size_t j = 0; j < w->count; j++)
                grad[j] += one[j] / BATCH;
            rt_accounts_look(accounts, 0, i % 2, 1, grad);
        }
        rt_accounts_end(accounts, BATCH, gram);
        rt_class_account of = class_of(accounts, 0);
        mean_add(&unbiased, of.norm2);
        mean_add(&halves, of.halves);
        mean_add(&naive, of.naive);
    }
    double truth = 0;
    for (int i = 0; i < PROBLEMS; i++)
        for (int j = 0; j < PROBLEMS; j++)
            truth += product(w->grads[i], w->grads[j], w->count) / (PROBLEMS * PROBLEMS);
    /* Draws are fixed: four deviations are a bound that a right estimator misses once in 16,000. */
    print_message("squared norm %.4g; U %.4g ± %.2g, halves %.4g ± %.2g, naive %.4g ± %.2g\n", truth,
                  unbiased.sum / DRAWS, mean_error(&unbiased), halves.sum / DRAWS,
                  mean_error(&halves), naive.sum / DRAWS, mean_error(&naive));
    assert_true(fabs(unbiased.sum / DRAWS - truth) <= 4 * mean_error(&unbiased));
    assert_true(fabs(halves.sum / DRAWS - truth) <= 4 * mean_error(&halves));
    assert_true(naive.sum / DRAWS - truth > 4 * mean_error(&naive));
    rt_free(grad);
    rt_accounts_free(&accounts);
    rt_ops_free(&ops);
    world_free(w);
}

static double metric(const rt_update_stats *stats, const char *name)
{
    for (int i = 0; i < stats->metrics_count; i++)
        if (strcmp(stats->metrics[i].name, name) == 0)
            return stats->metrics[i].value;
    fail_msg("there is no metric %s", name);
    return NAN;
}

/* Rounding: each element of a gradient is a sum over at most ROWS rows, taken in another order of
 * partial sums here than there: ROWS·2^-24 of the sum of magnitudes, which is at most about 4 times
 * what remains (the constant of the training passes' own test). A product has that error twice. */
#define ROWS (SEQUENCES * (PROMPT + RESPONSE))
static const double PRODUCT_BOUND = 2 * ROWS * 0x1p-24 * 4;

static void learner_reports_what_brute_force_finds(void **state)
{
    (void)state;
    const char *sets[] = {"learner.lr=0", "gradients.account=full", "learner.micro_tokens=64",
                          "gradients.by=kind"};
    world *w = world_new(sets, 4);
    measure_problems(w);
    rt_learner *learner = learner_of(w);
    rt_update_stats stats = step(learner, w, 0, SEQUENCES, 1, NULL);
    double own[2] = {0}, self[2] = {0}, between = 0;
    for (int i = 0; i < PROBLEMS; i++)
        for (int j = 0; j < PROBLEMS; j++) {
            double value = product(w->grads[i], w->grads[j], w->count);
            if (i % 2 == j % 2)
                own[i % 2] += value, self[i % 2] += i == j ? value : 0;
            else
                between += value / 2;
        }
    const char *names[] = {"chain", "sort"};
    int n = PROBLEMS / 2;
    double total = own[0] + own[1] + 2 * between;
    for (int k = 0; k < 2; k++) {
        char name[64];
        snprintf(name, sizeof name, "grad/%s/norm2", names[k]);
        double bound = PRODUCT_BOUND * n * self[k] / (n * (n - 1));
        assert_true(fabs(metric(&stats, name) - (own[k] - self[k]) / (n * (n - 1))) <= bound);
        snprintf(name, sizeof name, "grad/%s/naive", names[k]);
        assert_true(fabs(metric(&stats, name) - own[k] / (n * n)) <= PRODUCT_BOUND * self[k] / n);
        snprintf(name, sizeof name, "grad/%s/share", names[k]);
        assert_true(fabs(metric(&stats, name) - (own[k] + between) / total) <=
                    2 * PRODUCT_BOUND * PROBLEMS * (self[0] + self[1]) / total);
        snprintf(name, sizeof name, "grad/%s/live", names[k]);
        assert_true(metric(&stats, name) == (k == 1 ? n - 1 : n));
    }
    /* One text of each kind a prompt: the parts of a prompt add up to the prompt. */
    assert_true(metric(&stats, "grad/by/base/prompts") == PROBLEMS);
    assert_true(fabs(metric(&stats, "grad/by/base/share") + metric(&stats, "grad/by/reset/share") - 1) <
                1e-12);
    rt_learner_free(&learner);
    world_free(w);
}

static rt_hash128 hash_with(const char *lora, const char *account, const char *by, const char *micro)
{
    const char *sets[] = {lora, account, by, micro, "learner.lr=0.01"};
    world *w = world_new(sets, 5);
    for (int i = 0; i < SEQUENCES; i++)
        w->sequences[i].adapter = w->config.learner.lora.rank > 0;
    rt_learner *learner = learner_of(w);
    for (int version = 0; version < 3; version++) {
        step(learner, w, 0, SEQUENCES, 2, NULL);
        rt_learner_set_version(learner, version + 1);
    }
    rt_hash128 hash = rt_learner_hash(learner);
    rt_learner_free(&learner);
    world_free(w);
    return hash;
}

static void looking_changes_no_bit(void **state)
{
    (void)state;
    static const char *const lora[] = {"learner.lora.rank=0", "learner.lora.rank=2"};
    for (int k = 0; k < 2; k++) {
        rt_hash128 want = hash_with(lora[k], "gradients.account=off", "gradients.by=none",
                                    "learner.micro_tokens=4096");
        static const char *const others[][3] = {
            {"gradients.account=full", "gradients.by=none", "learner.micro_tokens=4096"},
            {"gradients.account=last_block", "gradients.by=length", "learner.micro_tokens=64"},
            {"gradients.account=off", "gradients.by=none", "learner.micro_tokens=100"},
            {"gradients.account=full", "gradients.by=depth", "learner.micro_tokens=40"},
        };
        for (size_t i = 0; i < RT_COUNT(others); i++)
            assert_true(rt_hash_equal(want, hash_with(lora[k], others[i][0], others[i][1], others[i][2])));
    }
}

/* equal_norms: the step's gradient is m/|a|·a + m/|b|·b of the tasks' gradients, m = (|a| + |b|)/2. */
static void corrected_gradient_is_the_combination(void **state)
{
    (void)state;
    const char *sets[] = {"learner.lr=0", "gradients.correction=equal_norms"};
    world *w = world_new(sets, 2);
    measure_problems(w); /* a task alone keeps its gradient */
    rt_learner *learner = learner_of(w);
    float *grad = rt_alloc(w->count * sizeof(float)), *sums[2];
    step(learner, w, 0, SEQUENCES, 1, grad);
    for (int k = 0; k < 2; k++) {
        sums[k] = rt_alloc(w->count * sizeof(float));
        for (int i = k; i < PROBLEMS; i += 2)
            for (size_t j = 0; j < w->count; j++)
                sums[k][j] += w->grads[i][j] / PROBLEMS;
    }
    double a = sqrt(product(sums[0], sums[0], w->count)), b = sqrt(product(sums[1], sums[1], w->count));
    double middle = (a + b) / 2;
    assert_true(b > 1.5 * a || a > 1.5 * b); /* there is something to correct */
    double worst = 0, largest = 0;
    for (size_t j = 0; j < w->count; j++) {
        double want = middle / a * (double)sums[0][j] + middle / b * (double)sums[1][j];
        worst = fmax(worst, fabs((double)grad[j] - want));
        largest = fmax(largest, fabs(want));
    }
    assert_true(worst <= PRODUCT_BOUND * largest);
    rt_free(sums[0]), rt_free(sums[1]), rt_free(grad);
    rt_learner_free(&learner);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_prompts_at_right_angles),
        cmocka_unit_test(classes_lookups_and_flat_prompts),
        cmocka_unit_test(estimators_are_unbiased),
        cmocka_unit_test(learner_reports_what_brute_force_finds),
        cmocka_unit_test(looking_changes_no_bit),
        cmocka_unit_test(corrected_gradient_is_the_combination),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
