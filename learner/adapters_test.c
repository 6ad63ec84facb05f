/* Adapters in training: the base stays, each adapter learns alone, resumes bit for bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "learner/internal.h"

enum { SEQUENCES = 12, PROMPT = 5, RESPONSE = 9, VOCAB = 40, LENGTH = PROMPT + RESPONSE };

typedef struct world {
    char dir[64];
    rt_config config;
    int32_t ids[SEQUENCES][LENGTH];
    float logp[SEQUENCES][RESPONSE];
    rt_sequence sequences[SEQUENCES];
} world;

static void save_base(const char *dir, uint64_t seed)
{
    rt_arch arch = {.family = "llama",
                    .layers = 2,
                    .d = 32,
                    .f = 48,
                    .heads = 4,
                    .kv_heads = 2,
                    .head_size = 8,
                    .vocab = VOCAB,
                    .context = 64,
                    .norm_eps = 1e-5f,
                    .tied = true,
                    .rope_theta = 10000,
                    .bos = -1};
    rt_weights *weights;
    assert_int_equal(rt_weights_new(&weights, &arch, RT_F32, NULL), 0);
    rt_weights_randomize(weights, seed);
    assert_int_equal(rt_model_save(weights, dir, NULL, NULL), 0);
    rt_weights_free(&weights);
}

/* Settings of three adapters come from a debate of three agents, each its own. */
static world *world_new(const char *dtype, int adapters, const char *more)
{
    world *w = rt_alloc(sizeof *w);
    rt_error err = {0};
    snprintf(w->dir, sizeof w->dir, "/tmp/retake-adapters-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    save_base(w->dir, 7);
    char *model = rt_format("model.path=%s", w->dir), *type = rt_format("model.dtype=%s", dtype);
    const char *sets[10] = {model,
                            type,
                            "learner.lr=0.01",
                            "learner.threads=1",
                            "learner.lora.rank=3",
                            "learner.lora.alpha=5",
                            "learner.lora.targets=all",
                            adapters > 1 ? "algorithm.name=maca_grpo" : "algorithm.baseline=mean",
                            more ? more : "seed=1"};
    if (rt_config_parse(&w->config, "", 0, "test", sets, 9, &err) != 0)
        fail_msg("%s", err.message);
    assert_int_equal(rt_config_adapters(&w->config), adapters);
    rt_free(model), rt_free(type);
    return w;
}

static void world_free(world *w)
{
    rt_remove_tree(w->dir, NULL);
    rt_config_free(&w->config);
    rt_free(w);
}

static rt_learner *learner_of(world *w, const char *from)
{
    rt_learner *learner = NULL;
    rt_error err = {0};
    if (rt_learner_new(&learner, &w->config, from, &err) != 0)
        fail_msg("%s", err.message);
    return learner;
}

/* Log-probs under each sequence's adapter, from the weights that are broadcast and the base's file.
 */
static void score(const rt_learner *learner, world *w)
{
    rt_ops *ops;
    rt_net *net;
    rt_trainer *trainer;
    rt_weights *base;
    rt_lora lora;
    int dtype = strcmp(w->config.model.dtype, "bf16") == 0 ? RT_BF16 : RT_F32;
    assert_true(rt_lora_of(&w->config, &lora));
    assert_int_equal(rt_ops_open(&ops, "cpu", 1, NULL), 0);
    assert_int_equal(rt_model_load(&base, w->dir, dtype, NULL), 0);
    assert_int_equal(rt_net_new(&net, &base->arch, dtype, ops, NULL), 0);
    assert_int_equal(rt_net_open_adapters(net, &lora, rt_config_adapters(&w->config), NULL), 0);
    rt_net_set(net, base);
    rt_net_set_adapters(net, rt_learner_weights(learner));
    assert_int_equal(rt_trainer_new(&trainer, net, 64, true, NULL), 0);
    for (int i = 0; i < SEQUENCES; i++) {
        int32_t rows[LENGTH], *row_of = rows, length = LENGTH;
        const int32_t *ids = w->ids[i];
        const int adapter = w->sequences[i].adapter - 1;
        rt_entry entries[RESPONSE];
        assert_true(rt_trainer_plan(trainer, &ids, &length, &adapter, NULL, 1, &row_of, NULL) > 0);
        for (int t = 0; t < RESPONSE; t++)
            entries[t] = (rt_entry){rows[PROMPT + t - 1], ids[PROMPT + t]};
        assert_int_equal(rt_trainer_forward(trainer, entries, RESPONSE, 1, false, w->logp[i], NULL),
                         0);
    }
    rt_trainer_free(&trainer);
    rt_net_free(&net);
    rt_weights_free(&base);
    rt_ops_free(&ops);
}

/* Pairs share a prompt; one of each is right, the other wrong. Adapters take turns by pairs. */
static void fill(const rt_learner *learner, world *w)
{
    int adapters = rt_config_adapters(&w->config);
    for (int i = 0; i < SEQUENCES; i++) {
        for (int t = 0; t < LENGTH; t++)
            w->ids[i][t] = (int32_t)rt_below(3, t < PROMPT ? (uint64_t)i / 2 : 100 + (uint64_t)i,
                                             (uint64_t)t, VOCAB);
        w->sequences[i] = (rt_sequence){
            .trajectory = (uint64_t)i,
            .ids = w->ids[i],
            .old_logp = w->logp[i],
            .prompt_tokens = PROMPT,
            .response_tokens = RESPONSE,
            .advantage = i % 2 ? 1 : -1,
            .adapter = 1 + i / 2 % adapters,
        };
    }
    score(learner, w);
}

static rt_update_stats step_on(rt_learner *learner, const rt_sequence *sequences, int count)
{
    rt_update_stats stats;
    rt_error err = {0};
    int done;
    if (rt_learner_step(learner, sequences, count, 2, NULL, &done, &stats, &err) != 0)
        fail_msg("%s", err.message);
    return stats;
}

static double sum(const float *values)
{
    double total = 0;
    for (int i = 0; i < RESPONSE; i++)
        total += (double)values[i];
    return total;
}

static void wrong_goes_down_right_goes_up(void **state)
{
    (void)state;
    static const char *const dtypes[] = {"f32", "bf16"};
    static const char *const drops[] = {"learner.lora.dropout=0", "learner.lora.dropout=0.2"};
    for (int k = 0; k < 4; k++) {
        world *w = world_new(dtypes[k % 2], 1, drops[k / 2]);
        rt_learner *learner = learner_of(w, NULL);
        fill(learner, w);
        double before[SEQUENCES], up = 0, down = 0;
        for (int i = 0; i < SEQUENCES; i++)
            before[i] = sum(w->logp[i]);
        for (int n = 0; n < 3; n++) {
            rt_update_stats stats = step_on(learner, w->sequences, SEQUENCES);
            assert_int_equal(stats.compared, SEQUENCES * RESPONSE);
            assert_int_equal(stats.mismatched,
                             0); /* with dropout too: it is not in what is compared */
            assert_true(stats.grad_norm > 0);
            score(learner, w);
        }
        for (int i = 0; i < SEQUENCES; i++)
            *(i % 2 ? &up : &down) += sum(w->logp[i]) - before[i];
        assert_true(up > 0 && down < 0);
        rt_learner_free(&learner);
        world_free(w);
    }
}

/* Three adapters in one batch learn what each learns from its own part alone. */
static void each_learns_alone(void **state)
{
    (void)state;
    world *w = world_new("f32", 3, "learner.lora.dropout=0.2");
    rt_learner *together = learner_of(w, NULL), *apart = learner_of(w, NULL);
    size_t stride = rt_adapters_stride(together->adapters);
    fill(together, w);
    float *fresh = rt_alloc(3 * stride * sizeof(float));
    memcpy(fresh, rt_learner_weights(together)->data, 3 * stride * sizeof(float));
    rt_update_stats all = step_on(together, w->sequences, SEQUENCES);
    assert_int_equal(all.compared, SEQUENCES * RESPONSE);
    assert_int_equal(all.mismatched, 0);
    for (int k = 2; k >= 0; k--) {
        rt_sequence own[SEQUENCES];
        int count = 0;
        for (int i = 0; i < SEQUENCES; i++)
            if (w->sequences[i].adapter == k + 1)
                own[count++] = w->sequences[i];
        assert_int_equal(count, 4);
        step_on(apart, own, count);
        assert_int_equal(apart->updates[k], 2);
        const float *a = rt_learner_weights(apart)->data, *t = rt_learner_weights(together)->data;
        assert_memory_equal(a + (size_t)k * stride, t + (size_t)k * stride, stride * sizeof(float));
        assert_memory_not_equal(a + (size_t)k * stride, fresh + (size_t)k * stride,
                                stride * sizeof(float));
        if (k > 0) /* whose turn has not come is as it was */
            assert_memory_equal(a, fresh, stride * sizeof(float));
    }
    /* what an adapter that is not there should learn */
    rt_update_stats stats;
    rt_error err = {0};
    int done;
    w->sequences[1].adapter = 4;
    assert_true(rt_learner_step(apart, w->sequences, SEQUENCES, 1, NULL, &done, &stats, &err) < 0);
    assert_non_null(strstr(err.message, "adapter 4"));
    w->sequences[1].adapter = 0;
    assert_true(rt_learner_step(apart, w->sequences, SEQUENCES, 1, NULL, &done, &stats, &err) < 0);
    rt_free(fresh);
    rt_learner_free(&together);
    rt_learner_free(&apart);
    world_free(w);
}

/* The penalty is against the net with adapters off: where B is zero it pulls nowhere, to the last
 * bit, and what training has moved it pulls back. */
static void penalty_is_against_the_base(void **state)
{
    (void)state;
    world *w = world_new("f32", 1, NULL);
    w->config.algorithm.objective.kl = RT_KL_K3;
    w->config.algorithm.objective.kl_coef = 1;
    rt_learner *learner = learner_of(w, NULL);
    assert_null(learner->reference_net); /* no second copy of the weights */
    double first = 0, last = 0;
    for (int n = 0; n < 42; n++) {
        fill(learner, w);
        for (int i = 0; i < SEQUENCES && n != 1; i++)
            w->sequences[i].advantage = 0;
        rt_update_stats stats = step_on(learner, w->sequences, SEQUENCES);
        assert_int_equal(stats.mismatched, 0);
        last = stats.grad_norm;
        if (n == 0)
            assert_true(last >= 0 && last <= 0);
        if (n == 2)
            first = last;
    }
    assert_true(first > 0 && last < first / 2);
    rt_learner_free(&learner);
    world_free(w);
}

static void resumes_bit_for_bit(void **state)
{
    (void)state;
    world *w = world_new("f32", 3, "learner.lora.dropout=0.2");
    rt_learner *whole = learner_of(w, NULL);
    rt_buf path = {0};
    char *checkpoints = rt_format("%s/checkpoints", w->dir);
    assert_int_equal(rt_mkdirs(checkpoints, NULL), 0);
    fill(whole, w);
    step_on(whole, w->sequences, 2); /* adapters have done different numbers of updates */
    step_on(whole, w->sequences, SEQUENCES);
    rt_learner_set_version(whole, 2);
    assert_int_equal(rt_checkpoint_save(whole, checkpoints, 2, &path, NULL), 0);
    step_on(whole, w->sequences, SEQUENCES);
    rt_learner *half = learner_of(w, path.data);
    assert_int_equal(rt_learner_version(half), 2);
    step_on(half, w->sequences, SEQUENCES);
    assert_true(rt_hash_equal(rt_learner_hash(whole), rt_learner_hash(half)));
    assert_memory_equal(whole->updates, half->updates, 3 * sizeof(int64_t));
    assert_true(whole->updates[0] > whole->updates[1]);
    rt_learner_free(&half);
    /* another base, of the same shape, under the same name; other settings */
    rt_error err = {0};
    save_base(w->dir, 8);
    assert_true(rt_learner_new(&half, &w->config, path.data, &err) < 0);
    assert_non_null(strstr(err.message, "base"));
    save_base(w->dir, 7);
    w->config.learner.lora.alpha = 6;
    assert_true(rt_learner_new(&half, &w->config, path.data, &err) < 0);
    assert_non_null(strstr(err.message, "alpha"));
    rt_learner_free(&whole);
    rt_buf_free(&path);
    rt_free(checkpoints);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_goes_down_right_goes_up),
        cmocka_unit_test(each_learns_alone),
        cmocka_unit_test(penalty_is_against_the_base),
        cmocka_unit_test(resumes_bit_for_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
