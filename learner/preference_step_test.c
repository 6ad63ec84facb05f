/* Preference losses and epochs through the learner as a whole, on a small random model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "learner/learner.h"

enum { N = 8, PROMPT = 5, RESPONSE = 9, LENGTH = PROMPT + RESPONSE, VOCAB = 40 };

typedef struct world {
    char dir[64];
    rt_config config;
    int32_t ids[N][LENGTH];
    rt_sequence sequences[N];
} world;

/* Sequences 2k and 2k + 1 answer one prompt: the first is the consensus, the second dissents. */
static world *world_new(int loss, const char *dtype)
{
    world *w = rt_alloc(sizeof *w);
    rt_error err;
    snprintf(w->dir, sizeof w->dir, "/tmp/retake-preference-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    rt_arch arch = {.family = "llama", .layers = 2, .d = 32, .f = 48, .heads = 4, .kv_heads = 2,
                    .head_size = 8, .vocab = VOCAB, .context = 64, .norm_eps = 1e-5f,
                    .rope_theta = 10000, .bos = -1};
    rt_weights *weights;
    assert_int_equal(rt_weights_new(&weights, &arch, RT_F32, &err), 0);
    rt_weights_randomize(weights, 7);
    assert_int_equal(rt_model_save(weights, w->dir, NULL, &err), 0);
    rt_weights_free(&weights);
    char *model = rt_format("model.path=%s", w->dir), *type = rt_format("model.dtype=%s", dtype);
    const char *sets[] = {model, type, "learner.lr=0.002", "learner.threads=1"};
    assert_int_equal(rt_config_parse(&w->config, "", 0, "test", sets, 4, &err), 0);
    rt_free(model), rt_free(type);
    w->config.algorithm.objective = (rt_objective){.loss = loss, .beta = 0.1};
    for (int i = 0; i < N; i++) {
        for (int t = 0; t < LENGTH; t++)
            w->ids[i][t] = (int32_t)rt_below(3, t < PROMPT ? (uint64_t)i / 2 : 100 + (uint64_t)i,
                                             (uint64_t)t, VOCAB);
        w->ids[i][0] = i / 2; /* prompts have not even one row in common */
        w->sequences[i] = (rt_sequence){
            .trajectory = (uint64_t)i, .ids = w->ids[i], .prompt_tokens = PROMPT,
            .response_tokens = RESPONSE, .stale = true,
            .advantage = loss == RT_LOSS_KTO && i % 2 ? -1 : 1,
            .rejected = loss == RT_LOSS_DPO && i % 2 == 0 ? i + 2 : 0,
        };
    }
    return w;
}

static void world_free(world *w)
{
    rt_remove_tree(w->dir, NULL);
    rt_config_free(&w->config);
    rt_free(w);
}

static void set_text(char **setting, const char *text)
{
    rt_free(*setting);
    *setting = rt_strdup(text);
}

static rt_learner *learner_of(world *w)
{
    rt_learner *learner = NULL;
    rt_error err = {0};
    if (rt_learner_new(&learner, &w->config, NULL, &err) != 0)
        fail_msg("%s", err.message);
    return learner;
}

/* Log-probs of the response tokens of sequences of LENGTH tokens, PROMPT of them the prompt. */
static void score(const rt_learner *learner, const int32_t (*ids)[LENGTH], float (*logp)[RESPONSE])
{
    rt_ops *ops;
    rt_net *net;
    rt_trainer *trainer;
    rt_error err;
    const rt_weights *weights = rt_learner_weights(learner);
    assert_int_equal(rt_ops_open(&ops, "cpu", 1, &err), 0);
    assert_int_equal(rt_net_new(&net, &weights->arch, weights->dtype, ops, &err), 0);
    rt_net_set(net, weights);
    assert_int_equal(rt_trainer_new(&trainer, net, 64, true, &err), 0);
    for (int i = 0; i < N; i++) {
        int32_t rows[LENGTH], *row_of = rows, length = LENGTH;
        const int32_t *one = ids[i];
        rt_entry entries[RESPONSE];
        assert_true(rt_trainer_plan(trainer, &one, &length, NULL, NULL, 1, &row_of, &err) > 0);
        for (int t = 0; t < RESPONSE; t++)
            entries[t] = (rt_entry){rows[PROMPT + t - 1], one[PROMPT + t]};
        assert_int_equal(rt_trainer_forward(trainer, entries, RESPONSE, 1, false, logp[i], &err), 0);
    }
    rt_trainer_free(&trainer);
    rt_net_free(&net);
    rt_ops_free(&ops);
}

static void differences(float (*logp)[RESPONSE], float (*before)[RESPONSE], int from, double *out)
{
    for (int i = 0; i < N; i++) {
        out[i] = 0;
        for (int t = from; t < RESPONSE; t++)
            out[i] += (double)logp[i][t] - (double)before[i][t];
    }
}

static rt_update_stats step(rt_learner *learner, const world *w, int updates)
{
    rt_update_stats stats;
    rt_error err = {0};
    int done;
    if (rt_learner_step(learner, w->sequences, N, updates, NULL, &done, &stats, &err) != 0)
        fail_msg("%s", err.message);
    assert_int_equal(done, updates * (int)w->config.algorithm.epochs);
    return stats;
}

/* Weights hash after `steps`, and the statistics of the last. */
static rt_hash128 train(world *w, int steps, int updates, rt_update_stats *stats)
{
    rt_learner *learner = learner_of(w);
    for (int i = 0; i < steps; i++)
        *stats = step(learner, w, updates);
    rt_hash128 hash = rt_learner_hash(learner);
    rt_learner_free(&learner);
    return hash;
}

/* At the start R is exactly 0 everywhere, so that dpo pulls with −β/2 a pair and kto with ∓wβ/4 a
 * text: a policy gradient with these advantages must make the same weights, bit for bit. */
static void first_step(int loss, const char *dtype, double pull)
{
    world *w = world_new(loss, dtype);
    rt_update_stats stats, policy;
    rt_hash128 preferred = train(w, 1, 1, &stats);
    assert_true(stats.preference.margin == 0 && stats.preference.chosen == 0);
    assert_true(stats.preference.rejected == 0 && stats.preference.accuracy == 0);
    assert_true(stats.preference.divergence == 0 || loss == RT_LOSS_DPO);
    assert_true(fabs(stats.loss - (loss == RT_LOSS_DPO ? log(2) : 0.5)) <= 1e-15); /* 4 ulp */
    w->config.algorithm.objective =
        (rt_objective){.ratio = RT_RATIO_NONE, .aggregation = RT_AGG_CONSTANT, .constant = 1};
    for (int i = 0; i < N; i++) {
        w->sequences[i].advantage = i % 2 ? -pull : pull;
        w->sequences[i].rejected = 0;
    }
    assert_true(rt_hash_equal(train(w, 1, 1, &policy), preferred));
    assert_true(policy.grad_norm == stats.grad_norm && policy.grad_norm > 0);
    assert_true(isnan(policy.preference.margin) && isnan(policy.preference.divergence));
    world_free(w);
}

static void first_step_is_a_policy_gradient(void **state)
{
    (void)state;
    first_step(RT_LOSS_DPO, "f32", 0.1);
    first_step(RT_LOSS_KTO, "f32", 0.1 / 4);
    first_step(RT_LOSS_KTO, "bf16", 0.1 / 4);
}

/* What is guaranteed: a small step against the gradient lowers the loss. For dpo that is the margin
 * between chosen and rejected, not either of them; for kto each side by itself; for sft the texts it
 * is shown. On separate prompts, as here, it shows in every pair and text. */
static void consensus_rises_dissent_falls(void **state)
{
    (void)state;
    static const int losses[] = {RT_LOSS_DPO, RT_LOSS_KTO, RT_LOSS_KTO, RT_LOSS_POLICY};
    for (size_t k = 0; k < RT_COUNT(losses); k++) {
        world *w = world_new(losses[k], "f32");
        w->config.algorithm.objective.kto_form = k == 2 ? RT_KTO_PAPER : RT_KTO_LIBRARY;
        for (int i = 1; i < N && losses[k] == RT_LOSS_POLICY; i += 2)
            w->sequences[i].advantage = 0; /* imitation does not look at what dissents */
        rt_learner *learner = learner_of(w);
        float before[N][RESPONSE], after[N][RESPONSE];
        double moved[N];
        score(learner, w->ids, before);
        rt_update_stats first = step(learner, w, 1), last = first;
        for (int i = 0; i < 3; i++)
            last = step(learner, w, 1);
        score(learner, w->ids, after);
        differences(after, before, 0, moved);
        for (int i = 0; i < N; i += 2) {
            bool good = losses[k] == RT_LOSS_DPO   ? moved[i] > moved[i + 1]
                        : losses[k] == RT_LOSS_KTO ? moved[i] > 0 && moved[i + 1] < 0
                                                   : moved[i] > 0;
            if (!good)
                fail_msg("loss %zu, pair %d: consensus %+g, dissent %+g", k, i / 2, moved[i], moved[i + 1]);
        }
        assert_true(last.loss < first.loss);
        if (losses[k] != RT_LOSS_POLICY)
            assert_true(last.preference.margin > 0 && last.preference.accuracy > 0.5);
        rt_learner_free(&learner);
        world_free(w);
    }
}

/* exp, log and a few roundings of numbers up to 2, eight terms of them. */
static const double loss_bound = 8 * 4 * 2 * 1.1102230246251565e-16;

/* A step's loss, margin and z0 from log-probs that the test computes itself, far from the start. */
static void loss_is_that_of_the_texts(int loss)
{
    enum { SUFFIX = 2 };
    world *w = world_new(loss, "f32");
    rt_learner *learner = learner_of(w);
    float reference[2][N][RESPONSE], now[2][N][RESPONSE];
    int32_t other[N][LENGTH]; /* prompt of i, response of the one half the batch further on */
    for (int i = 0; i < N; i++) {
        memcpy(other[i], w->ids[i], PROMPT * sizeof(int32_t));
        memcpy(other[i] + PROMPT, w->ids[(i + N / 2) % N] + PROMPT, RESPONSE * sizeof(int32_t));
    }
    score(learner, w->ids, reference[0]);
    score(learner, other, reference[1]);
    w->config.learner.lr = 0.02;
    for (int i = 0; i < N; i++)
        w->sequences[i].suffix_start = SUFFIX;
    for (int i = 1; i < N && loss == RT_LOSS_KTO; i += 2)
        w->sequences[i].advantage = 1; /* all responses become likelier, behind any prompt */
    for (int i = 0; i < 3; i++)
        step(learner, w, 1);
    for (int i = 1; i < N && loss == RT_LOSS_KTO; i += 2)
        w->sequences[i].advantage = -1;
    score(learner, w->ids, now[0]);
    score(learner, other, now[1]);
    double r[N], mismatched[N], z0 = 0, expected = 0, chosen = 0, rejected = 0;
    differences(now[0], reference[0], SUFFIX, r);
    differences(now[1], reference[1], SUFFIX, mismatched);
    for (int i = 0; i < N; i++)
        z0 += mismatched[i];
    z0 = fmax(0, z0 / N);
    assert_true(z0 > 0 || loss != RT_LOSS_KTO);
    for (int i = 0; i < N; i += 2) {
        chosen += r[i], rejected += r[i + 1];
        if (loss == RT_LOSS_DPO)
            expected += log(1 + exp(-0.1 * (r[i] - r[i + 1]))) / (N / 2);
        else
            expected += (1 - 1 / (1 + exp(-0.1 * (r[i] - z0)))) / N +
                        (1 - 1 / (1 + exp(-0.1 * (z0 - r[i + 1])))) / N;
    }
    rt_update_stats stats = step(learner, w, 1);
    assert_true(fabs(stats.loss - expected) <= loss_bound);
    assert_true(chosen != 0 && stats.preference.chosen == chosen / (N / 2));
    assert_true(stats.preference.rejected == rejected / (N / 2));
    assert_true(stats.preference.margin == 0.1 * (stats.preference.chosen - stats.preference.rejected));
    assert_true(stats.preference.divergence == (loss == RT_LOSS_KTO ? z0 : 0));
    assert_int_equal(stats.trained, N * (RESPONSE - SUFFIX));
    assert_int_equal(stats.compared, 0);
    assert_true(stats.kl == 0); /* nothing was sampled, so nothing has drifted */
    rt_learner_free(&learner);
    world_free(w);
}

static void loss_is_recomputed(void **state)
{
    (void)state;
    loss_is_that_of_the_texts(RT_LOSS_DPO);
    loss_is_that_of_the_texts(RT_LOSS_KTO);
}

/* Behind the long prompt only 14 of the other's 40 response tokens fit the context of 64, none of
 * which is trained: the estimate is made of what there is, and nothing is refused. */
static void mismatched_texts_fit_the_context(void **state)
{
    (void)state;
    enum { FIRST = 60, LONG = 50, SECOND = 45, SHORT = 5 };
    world *w = world_new(RT_LOSS_KTO, "f32");
    int32_t first[FIRST], second[SECOND];
    for (int t = 0; t < FIRST; t++)
        first[t] = t % 20;
    for (int t = 0; t < SECOND; t++)
        second[t] = 20 + t % 20;
    w->sequences[0].ids = first;
    w->sequences[0].prompt_tokens = LONG;
    w->sequences[0].response_tokens = FIRST - LONG;
    w->sequences[1].ids = second;
    w->sequences[1].prompt_tokens = SHORT;
    w->sequences[1].response_tokens = SECOND - SHORT;
    w->sequences[1].suffix_start = 20;
    rt_learner *learner = learner_of(w);
    rt_update_stats stats;
    rt_error err = {0};
    int done;
    for (int i = 0; i < 2; i++)
        assert_int_equal(rt_learner_step(learner, w->sequences, 2, 1, NULL, &done, &stats, &err), 0);
    /* R of both, each with the other's response, and the gradient */
    assert_int_equal(stats.rows, FIRST + 14 + SECOND + FIRST - LONG + FIRST + SECOND);
    assert_true(isfinite(stats.preference.divergence));
    rt_learner_free(&learner);
    world_free(w);
}

/* Pairs are whole in every cut here, and share nothing: then not even the order of additions in
 * gradients depends on it. */
static void cuts_and_threads_change_no_bit(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        world *w = world_new(k ? RT_LOSS_KTO : RT_LOSS_DPO, "f32");
        rt_update_stats stats, first_stats;
        rt_hash128 first = train(w, 3, 2, &first_stats);
        static const int tokens[] = {2 * LENGTH, PROMPT + 2 * RESPONSE, 4 * LENGTH};
        for (int threads = 1; threads <= 2; threads++) {
            for (size_t i = 0; i < RT_COUNT(tokens); i++) {
                w->config.learner.micro_tokens = tokens[i];
                w->config.learner.threads = threads;
                assert_true(rt_hash_equal(train(w, 3, 2, &stats), first));
                assert_true(stats.loss == first_stats.loss);
            }
        }
        world_free(w);
    }
}

/* Where a cut goes through a pair, its shared prompt is computed twice and gradients are added in
 * another order; the loss and all that is made of it keep their bits all the same. */
static void cut_through_a_pair_keeps_the_loss(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        world *w = world_new(k ? RT_LOSS_KTO : RT_LOSS_DPO, "f32");
        rt_update_stats whole, cut;
        rt_learner *learner[2];
        for (int i = 0; i < 2; i++) {
            learner[i] = learner_of(w);
            /* the same weights away from the start: same cuts up to here */
            w->config.learner.micro_tokens = 4096;
            step(learner[i], w, 1), step(learner[i], w, 1);
            w->config.learner.micro_tokens = i ? LENGTH : 4096;
            *(i ? &cut : &whole) = step(learner[i], w, 1);
            rt_learner_free(&learner[i]);
        }
        assert_true(cut.rows > whole.rows);
        assert_true(cut.loss == whole.loss);
        assert_memory_equal(&cut.preference, &whole.preference, sizeof cut.preference);
        world_free(w);
    }
}

/* Two answers preferred to two others are four pairs, sent as copies: each text is computed once. */
static void copies_are_computed_once(void **state)
{
    (void)state;
    world *w = world_new(RT_LOSS_DPO, "f32");
    set_text(&w->config.learner.check_logprobs, "none");
    for (int i = 0; i < N; i++) {
        int text = i % 2 ? 1 + 2 * (i / 4) : 2 * (i / 2 % 2); /* 0>1 2>1 0>3 2>3 */
        w->sequences[i].ids = w->ids[text];
        memcpy(w->ids[text], w->ids[0], PROMPT * sizeof(int32_t));
    }
    rt_update_stats stats;
    rt_learner *learner = learner_of(w);
    stats = step(learner, w, 1);
    assert_int_equal(stats.rows, 2 * (PROMPT + 4 * RESPONSE)); /* R, and then the gradient */
    assert_true(stats.grad_norm > 0);
    rt_learner_free(&learner);
    world_free(w);
}

static void refused(world *w, int updates, const char *why)
{
    rt_learner *learner = learner_of(w);
    rt_hash128 before = rt_learner_hash(learner);
    rt_update_stats stats;
    rt_error err = {0};
    int done;
    assert_int_equal(rt_learner_step(learner, w->sequences, N, updates, NULL, &done, &stats, &err),
                     RT_ERR_INPUT);
    if (!strstr(err.message, why))
        fail_msg("\"%s\" does not say \"%s\"", err.message, why);
    assert_int_equal(done, 0);
    assert_true(rt_hash_equal(before, rt_learner_hash(learner)));
    rt_learner_free(&learner);
}

/* A mistake in the last pair is found before the first update has moved a weight. */
static void bad_pairs_train_nothing(void **state)
{
    (void)state;
    world *w = world_new(RT_LOSS_DPO, "f32");
    w->sequences[N - 2].rejected = N + 1;
    refused(w, 2, "another sequence");
    w->sequences[N - 2].rejected = N - 1;
    refused(w, 2, "another sequence");
    w->sequences[N - 2].rejected = 2;
    refused(w, 2, "different prompts");
    /* the last text answers the first prompt, but stands apart from it */
    memcpy(w->ids[N - 1], w->ids[0], PROMPT * sizeof(int32_t));
    w->sequences[N - 2].rejected = 0;
    w->sequences[0].rejected = N;
    rt_update_stats stats;
    train(w, 1, 1, &stats);
    refused(w, 2, "split");
    world_free(w);
    w = world_new(RT_LOSS_POLICY, "f32");
    w->config.algorithm.objective.ratio = RT_RATIO_TOKEN;
    refused(w, 1, "was not sampled");
    world_free(w);
}

/* Weights that overflow are refused when they are made and when they are used: no R without a number. */
static void not_a_number_applies_nothing(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        world *w = world_new(k ? RT_LOSS_KTO : RT_LOSS_DPO, "f32");
        w->config.learner.lr = 1e18; /* q and k overflow, norms do not yet */
        rt_learner *learner = learner_of(w);
        rt_update_stats stats;
        rt_error err = {0};
        int done;
        assert_int_equal(rt_learner_step(learner, w->sequences, N, 1, NULL, &done, &stats, &err),
                         RT_ERR_MATH);
        assert_int_equal(done, 1);
        rt_hash128 before = rt_learner_hash(learner);
        assert_int_equal(rt_learner_step(learner, w->sequences, N, 1, NULL, &done, &stats, &err),
                         RT_ERR_MATH);
        assert_int_equal(done, 0);
        assert_non_null(strstr(err.message, "against the reference"));
        assert_true(rt_hash_equal(before, rt_learner_hash(learner)));
        rt_learner_free(&learner);
        world_free(w);
    }
}

/* ---- epochs ------------------------------------------------------------------------------------ */

/* Two optimizer steps of a batch are those of its halves: pairs, means and z0 are of the half. */
static void halves_are_batches(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        world *w = world_new(k ? RT_LOSS_KTO : RT_LOSS_DPO, "f32");
        rt_update_stats stats;
        rt_error err = {0};
        rt_hash128 together = train(w, 2, 2, &stats);
        rt_learner *learner = learner_of(w);
        rt_sequence half[N / 2];
        for (int call = 0, done; call < 4; call++) {
            for (int i = 0; i < N / 2; i++) {
                half[i] = w->sequences[call % 2 * N / 2 + i];
                half[i].rejected -= half[i].rejected ? call % 2 * N / 2 : 0;
            }
            assert_int_equal(rt_learner_step(learner, half, N / 2, 1, NULL, &done, &stats, &err), 0);
        }
        assert_true(rt_hash_equal(rt_learner_hash(learner), together));
        rt_learner_free(&learner);
        world_free(w);
    }
}

/* Passes over one batch are what as many calls are; log-probs are compared before the first. */
static void epochs_are_passes(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        world *w = world_new(k ? RT_LOSS_KTO : RT_LOSS_DPO, "f32");
        set_text(&w->config.learner.schedule, "constant");
        rt_update_stats stats;
        rt_hash128 apart = train(w, 3, 2, &stats);
        w->config.algorithm.epochs = 3;
        float logp[N][RESPONSE];
        rt_learner *learner = learner_of(w);
        score(learner, w->ids, logp);
        for (int i = 0; i < N; i++) {
            w->sequences[i].old_logp = logp[i];
            w->sequences[i].stale = false;
        }
        stats = step(learner, w, 2);
        assert_true(rt_hash_equal(rt_learner_hash(learner), apart));
        assert_int_equal(stats.compared, N * RESPONSE);
        assert_int_equal(stats.mismatched, 0);
        assert_int_equal(stats.trained, 3 * N * RESPONSE);
        rt_learner_free(&learner);
        world_free(w);
    }
}

/* An audit writes down the first pass and still ends with the weights of all. */
static void audit_is_of_the_first_pass(void **state)
{
    (void)state;
    world *w = world_new(RT_LOSS_KTO, "f32");
    w->config.algorithm.epochs = 2;
    rt_update_stats stats;
    rt_error err = {0};
    rt_hash128 expected = train(w, 1, 2, &stats);
    double loss = stats.loss;
    rt_learner *learner = learner_of(w);
    char *path = rt_format("%s/audit.safetensors", w->dir);
    const char *const metadata[] = {NULL};
    if (rt_audit(learner, w->sequences, N, 2, path, metadata, &stats, &err) != 0)
        fail_msg("%s", err.message);
    assert_true(rt_hash_equal(rt_learner_hash(learner), expected) && stats.loss == loss);
    rt_safetensors *file;
    assert_int_equal(rt_safetensors_open(&file, path, &err), 0);
    const rt_st_tensor *losses = rt_safetensors_find(file, "loss");
    const rt_st_tensor *g = rt_safetensors_find(file, "dloss_dlogprob.0");
    assert_true(losses && losses->bytes == 2 * sizeof(float));
    float first;
    memcpy(&first, losses->data, sizeof first);
    assert_true(first == 0.5f); /* kto where R is 0 */
    memcpy(&first, (const float *)g->data + PROMPT, sizeof first);
    assert_true(first == (float)(-0.1 / 4 / (N / 2))); /* and its slope, −β/4 a text */
    rt_safetensors_close(&file);
    rt_free(path);
    rt_learner_free(&learner);
    world_free(w);
}

/* One step of 2 updates in 4 passes: the last of 8 updates has 1/8 of the rate left. */
static void schedule_counts_epochs(void **state)
{
    (void)state;
    world *w = world_new(RT_LOSS_DPO, "f32");
    set_text(&w->config.learner.schedule, "linear");
    w->config.learner.warmup_steps = 0;
    w->config.run.steps = 1;
    w->config.algorithm.updates = 2;
    w->config.algorithm.epochs = 4;
    rt_update_stats stats;
    train(w, 1, 2, &stats);
    assert_true(stats.learning_rate == 0.002 * (1 - 7.0 / 8));
    world_free(w);
}

static void stop_now(void *context, int update, const float *grad, size_t count, double loss)
{
    (void)update, (void)grad, (void)count, (void)loss;
    atomic_store((atomic_bool *)context, true);
}

static void ignore(void *context, int update, const rt_sequence *const *sequences, int count,
                   const int32_t *first, const float *logp, const float *g)
{
    (void)context, (void)update, (void)sequences, (void)count, (void)first, (void)logp, (void)g;
}

/* A stop before the first update leaves the weights; after it the step is finished, all epochs. */
static void stop_is_all_or_nothing(void **state)
{
    (void)state;
    world *w = world_new(RT_LOSS_KTO, "f32");
    w->config.algorithm.epochs = 3;
    rt_learner *learner = learner_of(w);
    rt_hash128 before = rt_learner_hash(learner);
    atomic_bool stop = true;
    rt_update_stats stats;
    rt_error err = {0};
    int done;
    assert_int_equal(rt_learner_step(learner, w->sequences, N, 2, &stop, &done, &stats, &err),
                     RT_ERR_STOPPED);
    assert_int_equal(done, 0);
    assert_true(rt_hash_equal(before, rt_learner_hash(learner)));
    atomic_store(&stop, false);
    const rt_observer observer = {&stop, ignore, stop_now};
    rt_learner_observe(learner, &observer);
    assert_int_equal(rt_learner_step(learner, w->sequences, N, 2, &stop, &done, &stats, &err), 0);
    assert_int_equal(done, 6);
    rt_learner_free(&learner);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_step_is_a_policy_gradient),
        cmocka_unit_test(consensus_rises_dissent_falls),
        cmocka_unit_test(loss_is_recomputed),
        cmocka_unit_test(mismatched_texts_fit_the_context),
        cmocka_unit_test(cuts_and_threads_change_no_bit),
        cmocka_unit_test(cut_through_a_pair_keeps_the_loss),
        cmocka_unit_test(copies_are_computed_once),
        cmocka_unit_test(bad_pairs_train_nothing),
        cmocka_unit_test(not_a_number_applies_nothing),
        cmocka_unit_test(halves_are_batches),
        cmocka_unit_test(epochs_are_passes),
        cmocka_unit_test(audit_is_of_the_first_pass),
        cmocka_unit_test(schedule_counts_epochs),
        cmocka_unit_test(stop_is_all_or_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
