/* The learner as a whole, on a small random model: what goes up and down, resume, cuts, faults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "learner/learner.h"

enum { SEQUENCES = 8, PROMPT = 5, RESPONSE = 9, VOCAB = 40 };

typedef struct world {
    char dir[64];
    rt_config config;
    int32_t ids[SEQUENCES][PROMPT + RESPONSE];
    float logp[SEQUENCES][RESPONSE];
    rt_sequence sequences[SEQUENCES];
} world;

static world *world_of(const char *dtype, bool tied)
{
    world *w = rt_alloc(sizeof *w);
    rt_error err;
    snprintf(w->dir, sizeof w->dir, "/tmp/retake-learner-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    rt_arch arch = {.family = "llama", .layers = 2, .d = 32, .f = 48, .heads = 4, .kv_heads = 2,
                    .head_size = 8, .vocab = VOCAB, .context = 64, .norm_eps = 1e-5f, .tied = tied,
                    .rope_theta = 10000, .bos = -1};
    rt_weights *weights;
    assert_int_equal(rt_weights_new(&weights, &arch, RT_F32, &err), 0);
    rt_weights_randomize(weights, 7);
    assert_int_equal(rt_model_save(weights, w->dir, NULL, &err), 0);
    rt_weights_free(&weights);
    char *model = rt_format("model.path=%s", w->dir), *type = rt_format("model.dtype=%s", dtype);
    const char *sets[] = {model, type, "learner.lr=0.01", "learner.threads=1", "algorithm.baseline=mean"};
    assert_int_equal(rt_config_parse(&w->config, "", 0, "test", sets, 5, &err), 0);
    rt_free(model), rt_free(type);
    return w;
}

static world *world_new(const char *dtype)
{
    return world_of(dtype, true);
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

/* Log-probs of the responses under the learner's weights, as an actor would have sampled them. */
static void score(const rt_learner *learner, world *w)
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
    for (int i = 0; i < SEQUENCES; i++) {
        int32_t rows[PROMPT + RESPONSE], *row_of = rows, length = PROMPT + RESPONSE;
        const int32_t *ids = w->ids[i];
        rt_entry entries[RESPONSE];
        assert_true(rt_trainer_plan(trainer, &ids, &length, NULL, NULL, 1, &row_of, &err) > 0);
        for (int t = 0; t < RESPONSE; t++)
            entries[t] = (rt_entry){rows[PROMPT + t - 1], ids[PROMPT + t]};
        float temperature = w->sequences[i].task == 1 ? 0.5f : 1;
        assert_int_equal(rt_trainer_forward(trainer, entries, RESPONSE, temperature, false, w->logp[i],
                                            &err), 0);
    }
    rt_trainer_free(&trainer);
    rt_net_free(&net);
    rt_ops_free(&ops);
}

/* Pairs share a prompt when `shared`; one of each is right, the other wrong. */
static void fill(const rt_learner *learner, world *w, bool shared)
{
    for (int i = 0; i < SEQUENCES; i++) {
        for (int t = 0; t < PROMPT + RESPONSE; t++) {
            uint64_t stream = t < PROMPT && shared ? (uint64_t)i / 2 : 100 + (uint64_t)i;
            w->ids[i][t] = (int32_t)rt_below(3, stream, (uint64_t)t, VOCAB);
        }
        if (!shared)
            w->ids[i][0] = i; /* not even one row in common */
        w->sequences[i] = (rt_sequence){
            .trajectory = (uint64_t)i, .ids = w->ids[i], .old_logp = w->logp[i],
            .prompt_tokens = PROMPT, .response_tokens = RESPONSE, .advantage = i % 2 ? 1 : -1,
        };
    }
    score(learner, w);
}

static rt_update_stats step(rt_learner *learner, world *w, int updates)
{
    rt_update_stats stats;
    rt_error err = {0};
    int done;
    if (rt_learner_step(learner, w->sequences, SEQUENCES, updates, NULL, &done, &stats, &err) != 0)
        fail_msg("%s", err.message);
    return stats;
}

static double sum(const float *values, int count)
{
    double total = 0;
    for (int i = 0; i < count; i++)
        total += (double)values[i];
    return total;
}

static void wrong_goes_down_right_goes_up(void **state)
{
    (void)state;
    world *w = world_new("f32");
    rt_learner *learner = learner_of(w, NULL);
    fill(learner, w, true);
    double before[SEQUENCES];
    for (int i = 0; i < SEQUENCES; i++)
        before[i] = sum(w->logp[i], RESPONSE);
    rt_update_stats stats = step(learner, w, 1);
    assert_int_equal(stats.compared, SEQUENCES * RESPONSE);
    assert_int_equal(stats.mismatched, 0);
    assert_true(stats.grad_norm > 0);
    score(learner, w);
    for (int i = 0; i < SEQUENCES; i++) {
        double after = sum(w->logp[i], RESPONSE);
        if (i % 2 ? after <= before[i] : after >= before[i])
            fail_msg("sequence %d with advantage %g: %g before, %g after", i, w->sequences[i].advantage,
                     before[i], after);
    }
    rt_learner_free(&learner);
    world_free(w);
}

/* One changed bit in one behaviour log-prob is seen, wherever its sequence is trained. */
static void one_bit_is_counted(void **state)
{
    (void)state;
    world *w = world_new("f32");
    rt_learner *learner = learner_of(w, NULL);
    fill(learner, w, true);
    w->sequences[0].advantage = 0; /* not trained, compared all the same */
    uint32_t bits;
    for (int i = 0; i < SEQUENCES; i += SEQUENCES - 1) {
        memcpy(&bits, &w->logp[i][3], 4);
        bits ^= 1;
        memcpy(&w->logp[i][3], &bits, 4);
    }
    rt_update_stats stats = step(learner, w, 2);
    assert_int_equal(stats.compared, SEQUENCES * RESPONSE);
    assert_int_equal(stats.mismatched, 2);

    /* What older weights sampled is not compared: it differs by nature. */
    for (int i = 0; i < SEQUENCES; i++)
        w->sequences[i].stale = i != 1;
    stats = step(learner, w, 2);
    assert_int_equal(stats.compared, RESPONSE);
    rt_learner_free(&learner);
    world_free(w);
}

/* Log-probs are compared, and trained, at the temperature of each sequence's own task. */
static void tasks_have_their_temperatures(void **state)
{
    (void)state;
    world *w = world_new("f32");
    w->config.tasks_count = 2;
    w->config.tasks[1].sampling.temperature = 0.5;
    rt_learner *learner = learner_of(w, NULL);
    fill(learner, w, true);
    for (int i = 0; i < SEQUENCES; i++)
        w->sequences[i].task = i / 2 % 2;
    score(learner, w);
    rt_update_stats stats = step(learner, w, 2);
    assert_int_equal(stats.compared, SEQUENCES * RESPONSE);
    assert_int_equal(stats.mismatched, 0);
    score(learner, w);
    for (int i = 0; i < SEQUENCES; i++)
        w->sequences[i].task = 0;
    stats = step(learner, w, 2);
    assert_true(stats.mismatched > SEQUENCES / 2 * RESPONSE / 2);
    rt_learner_free(&learner);
    world_free(w);
}

static rt_hash128 hash_after(world *w, bool shared, int steps)
{
    rt_learner *learner = learner_of(w, NULL);
    fill(learner, w, shared);
    for (int i = 0; i < steps; i++)
        step(learner, w, 2);
    rt_hash128 hash = rt_learner_hash(learner);
    rt_learner_free(&learner);
    return hash;
}

/* With an untied head and nothing shared, cutting does not even change the order of additions. */
static void cuts_threads_and_recompute_change_no_bit(void **state)
{
    (void)state;
    world *w = world_of("f32", false);
    rt_hash128 first = hash_after(w, false, 2);
    w->config.learner.micro_tokens = PROMPT + RESPONSE;
    assert_true(rt_hash_equal(hash_after(w, false, 2), first));
    w->config.learner.micro_tokens = 3 * (PROMPT + RESPONSE);
    w->config.learner.threads = 2;
    assert_true(rt_hash_equal(hash_after(w, false, 2), first));
    w->config.learner.recompute = true;
    assert_true(rt_hash_equal(hash_after(w, false, 2), first));
    w->config.learner.lr = 0.02;
    assert_false(rt_hash_equal(hash_after(w, false, 2), first));
    world_free(w);
}

/* With no advantage at all, a strong penalty pulls a moved policy back to where the run began. */
static void penalty_pulls_back(void **state)
{
    (void)state;
    world *w = world_new("f32");
    w->config.algorithm.objective.kl = RT_KL_K2;
    w->config.algorithm.objective.kl_coef = 1;
    rt_learner *learner = learner_of(w, NULL);
    fill(learner, w, true);
    float start[SEQUENCES][RESPONSE];
    memcpy(start, w->logp, sizeof start);
    double distance[2];
    step(learner, w, 1), step(learner, w, 1); /* on-policy start: the penalty is 0, advantages move it */
    for (int after = 0; after < 2; after++) {
        score(learner, w);
        distance[after] = 0;
        for (int i = 0; i < SEQUENCES; i++)
            for (int t = 0; t < RESPONSE; t++)
                distance[after] += pow((double)w->logp[i][t] - (double)start[i][t], 2);
        for (int i = 0; i < SEQUENCES; i++)
            w->sequences[i].advantage = 0;
        for (int i = 0; after == 0 && i < 3; i++)
            step(learner, w, 1);
    }
    assert_true(distance[0] > 0);
    assert_true(distance[1] < distance[0]);
    rt_learner_free(&learner);
    world_free(w);
}

/* Nothing before suffix_start reaches the weights: other behaviour log-probs there, same bits after. */
static void prefix_gets_no_gradient(void **state)
{
    (void)state;
    world *w = world_new("f32");
    rt_hash128 hashes[2];
    for (int run = 0; run < 2; run++) {
        rt_learner *learner = learner_of(w, NULL);
        fill(learner, w, true);
        for (int i = 0; i < SEQUENCES; i++) {
            w->sequences[i].suffix_start = 4;
            for (int t = 0; run && t < 4; t++)
                w->logp[i][t] -= 1;
        }
        rt_update_stats stats = step(learner, w, 1);
        assert_int_equal(stats.compared, SEQUENCES * (RESPONSE - 4));
        hashes[run] = rt_learner_hash(learner);
        rt_learner_free(&learner);
    }
    assert_true(rt_hash_equal(hashes[0], hashes[1]));
    world_free(w);
}

/* What comes before a reset is context like the prompt: where the line between them is drawn changes
 * no bit of the weights. */
static void prefix_is_context(void **state)
{
    (void)state;
    enum { CUT = 4 };
    world *w = world_new("f32");
    w->config.algorithm.objective.aggregation = RT_AGG_SEQUENCE_MEAN;
    rt_hash128 hashes[2];
    double norms[2];
    for (int run = 0; run < 2; run++) {
        rt_learner *learner = learner_of(w, NULL);
        fill(learner, w, true);
        for (int i = 0; i < SEQUENCES; i++) {
            rt_sequence *q = &w->sequences[i];
            memcpy(w->ids[i], w->ids[0], (PROMPT + CUT) * sizeof(int32_t));
            if (run == 0) {
                q->suffix_start = CUT;
            } else {
                q->prompt_tokens += CUT;
                q->response_tokens -= CUT;
                q->old_logp += CUT;
            }
        }
        rt_update_stats stats = step(learner, w, 1);
        assert_int_equal(stats.trained, SEQUENCES * (RESPONSE - CUT));
        norms[run] = stats.grad_norm;
        hashes[run] = rt_learner_hash(learner);
        rt_learner_free(&learner);
    }
    assert_true(norms[0] > 0 && norms[0] == norms[1]);
    assert_true(rt_hash_equal(hashes[0], hashes[1]));
    world_free(w);
}

/* A continuation that ended at once: nothing of it is trained, alone or among others. */
static void empty_suffixes_train_nothing(void **state)
{
    (void)state;
    world *w = world_new("f32");
    rt_learner *learner = learner_of(w, NULL);
    rt_hash128 before = rt_learner_hash(learner);
    fill(learner, w, true);
    for (int i = 0; i < SEQUENCES; i++)
        w->sequences[i].suffix_start = RESPONSE;
    w->config.learner.weight_decay = 0;
    rt_update_stats stats = step(learner, w, 1);
    assert_true(stats.trained == 0 && stats.grad_norm == 0);
    assert_true(rt_hash_equal(before, rt_learner_hash(learner)));
    w->sequences[3].suffix_start = 0;
    stats = step(learner, w, 1);
    assert_true(stats.trained == RESPONSE && stats.grad_norm > 0);
    rt_learner_free(&learner);
    world_free(w);
}

static void resume(const char *dtype)
{
    world *w = world_new(dtype);
    rt_hash128 straight = hash_after(w, true, 4);
    rt_error err = {0};
    char *checkpoints = rt_format("%s/checkpoints", w->dir);
    rt_learner *learner = learner_of(w, NULL);
    fill(learner, w, true);
    step(learner, w, 2), step(learner, w, 2);
    rt_learner_set_version(learner, 2);
    rt_buf path = {0};
    if (rt_checkpoint_save(learner, checkpoints, 2, &path, &err) != 0)
        fail_msg("%s", err.message);
    rt_learner_free(&learner);
    rt_buf newest = {0};
    int64_t version;
    assert_int_equal(rt_checkpoint_newest(checkpoints, &newest, &version, &err), 0);
    assert_string_equal(newest.data, path.data);
    assert_int_equal(version, 2);
    learner = learner_of(w, newest.data);
    assert_int_equal(rt_learner_version(learner), 2);
    step(learner, w, 2), step(learner, w, 2);
    assert_true(rt_hash_equal(rt_learner_hash(learner), straight));
    rt_learner_free(&learner);
    rt_buf_free(&path), rt_buf_free(&newest);
    rt_free(checkpoints);
    world_free(w);
}

static void resumes_bit_for_bit(void **state)
{
    (void)state;
    resume("f32");
    resume("bf16");
}

static void not_a_number_applies_nothing(void **state)
{
    (void)state;
    world *w = world_new("f32");
    rt_learner *learner = learner_of(w, NULL);
    fill(learner, w, true);
    rt_hash128 before = rt_learner_hash(learner);
    w->logp[3][2] = NAN;
    rt_update_stats stats;
    rt_error err = {0};
    int done;
    assert_int_equal(rt_learner_step(learner, w->sequences, SEQUENCES, 1, NULL, &done, &stats, &err),
                     RT_ERR_MATH);
    assert_int_equal(done, 0);
    assert_true(rt_hash_equal(before, rt_learner_hash(learner)));
    /* and the next good batch is trained as if the bad one had not been */
    score(learner, w);
    step(learner, w, 1);
    rt_hash128 after = rt_learner_hash(learner);
    rt_learner_free(&learner);
    learner = learner_of(w, NULL);
    step(learner, w, 1);
    assert_true(rt_hash_equal(after, rt_learner_hash(learner)));
    rt_learner_free(&learner);
    world_free(w);
}

static void older_checkpoints_go_newest_stay(void **state)
{
    (void)state;
    world *w = world_new("f32");
    rt_learner *learner = learner_of(w, NULL);
    char *checkpoints = rt_format("%s/checkpoints", w->dir);
    rt_error err;
    for (int version = 1; version <= 4; version++) {
        rt_learner_set_version(learner, version);
        assert_int_equal(rt_checkpoint_save(learner, checkpoints, 2, NULL, &err), 0);
    }
    for (int version = 1; version <= 4; version++) {
        char *path = rt_format("%s/step-%06d", checkpoints, version);
        assert_int_equal(rt_file_exists(path), version > 2);
        rt_free(path);
    }
    /* one cut short by a crash is passed over; a damaged one is named */
    char *state_file = rt_format("%s/step-000004/state.json", checkpoints);
    unlink(state_file);
    rt_buf newest = {0};
    int64_t newest_version;
    assert_int_equal(rt_checkpoint_newest(checkpoints, &newest, &newest_version, &err), 0);
    assert_int_equal(newest_version, 3);
    rt_learner_free(&learner);
    char *model_file = rt_format("%s/model.safetensors", newest.data);
    FILE *file = fopen(model_file, "r+b");
    fseek(file, -4, SEEK_END);
    fwrite("\1\2\3\4", 1, 4, file);
    fclose(file);
    err.message[0] = '\0';
    assert_true(rt_learner_new(&learner, &w->config, newest.data, &err) != 0);
    assert_non_null(strstr(err.message, "damaged"));
    rt_buf_free(&newest);
    rt_free(model_file), rt_free(state_file), rt_free(checkpoints);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_goes_down_right_goes_up),
        cmocka_unit_test(one_bit_is_counted),
        cmocka_unit_test(tasks_have_their_temperatures),
        cmocka_unit_test(cuts_threads_and_recompute_change_no_bit),
        cmocka_unit_test(penalty_pulls_back),
        cmocka_unit_test(prefix_gets_no_gradient),
        cmocka_unit_test(prefix_is_context),
        cmocka_unit_test(empty_suffixes_train_nothing),
        cmocka_unit_test(resumes_bit_for_bit),
        cmocka_unit_test(not_a_number_applies_nothing),
        cmocka_unit_test(older_checkpoints_go_newest_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
