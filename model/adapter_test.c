/* Adapters: the rows of many in one batch, their gradients, dropout, the cache and the files. */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "model/model_testing.h"

enum { COUNT = 3, LENGTH = 37, ROWS = (COUNT + 1) * LENGTH };

/* A net with three adapters whose B are not zero. */
typedef struct adapted {
    testing_net n;
    rt_adapters *adapters;
} adapted;

static const rt_lora every_layer = {
    .rank = 3, .alpha = 5, .targets = RT_LORA_ATTENTION | RT_LORA_MLP};

static void adapters_fill(rt_adapters *adapters, uint64_t seed)
{
    float *words = adapters->weights->data;
    for (size_t i = 0; i < adapters->weights->count; i++)
        words[i] = 0.2f * rt_normal(seed, 0, i);
}

static adapted adapted_open(const rt_lora *lora, int count, const char *device, int threads)
{
    rt_arch arch = testing_arch(true);
    adapted a = {.n = testing_open(&arch, RT_F32, device, threads, 3)};
    assert_int_equal(rt_adapters_new(&a.adapters, &arch, lora, count, NULL), RT_OK);
    adapters_fill(a.adapters, 9);
    assert_int_equal(rt_net_open_adapters(a.n.net, lora, count, NULL), RT_OK);
    rt_net_set_adapters(a.n.net, a.adapters->weights);
    return a;
}

static void adapted_close(adapted *a)
{
    testing_close(&a->n);
    rt_adapters_free(&a->adapters);
}

/* ---- generation -------------------------------------------------------------------------------
 */

/* Logits of the sequences' tokens in one forward, the first `unseen` of each left out; adapters[i] of
 * sequence i. */
static void forest_logits(const adapted *a, const int32_t (*ids)[LENGTH], const int *adapters,
                          int count, int unseen, float *logits)
{
    rt_forest *forest;
    assert_int_equal(rt_forest_new(&forest, a->n.net, 4096, NULL), RT_OK);
    rt_run runs[COUNT + 1];
    int32_t rows[ROWS];
    for (int i = 0; i < count; i++)
        runs[i] = (rt_run){rt_forest_root(forest, adapters[i]), ids[i], LENGTH, unseen};
    for (int r = 0; r < count * (LENGTH - unseen); r++)
        rows[r] = r;
    assert_int_equal(rt_forest_forward(forest, runs, count, NULL), RT_OK);
    rt_forest_logits(forest, rows, count * (LENGTH - unseen), logits);
    rt_forest_free(&forest);
}

static void test_mixed_batch(void **state)
{
    (void)state;
    size_t one = (size_t)LENGTH * 94;
    float *mixed = rt_alloc(4 * one * sizeof(float)), *single = rt_alloc(one * sizeof(float));
    float *merged = rt_alloc(4 * one * sizeof(float));
    float last[(COUNT + 1) * 2 * 94];
    int32_t ids[COUNT + 1][LENGTH];
    for (int i = 0; i <= COUNT; i++)
        testing_ids(ids[i], LENGTH, 94, 7); /* the same tokens: only the adapters differ */
    for (int threads = 1; threads <= 2; threads++) {
        adapted a = adapted_open(&every_layer, COUNT, "cpu", threads);
        const int adapters[COUNT + 1] = {1, -1, 0, 2};
        forest_logits(&a, ids, adapters, COUNT + 1, 0, mixed);
        for (int i = 0; i <= COUNT; i++) {
            forest_logits(&a, ids, &adapters[i], 1, 0, single);
            assert_memory_equal(mixed + (size_t)i * one, single, one * sizeof(float));
            for (int j = 0; j < i; j++)
                assert_memory_not_equal(mixed + (size_t)j * one, single, one * sizeof(float));
        }
        /* of rows nobody sees only the K/V is computed, with the adapter all the same */
        forest_logits(&a, ids, adapters, COUNT + 1, LENGTH - 2, last);
        for (int i = 0; i <= COUNT; i++)
            assert_memory_equal(last + i * 2 * 94, mixed + (size_t)(i + 1) * one - 2 * 94,
                                2 * 94 * sizeof(float));
        /* off: the bits of a net that has no adapters */
        rt_arch arch = testing_arch(true);
        adapted base = {.n = testing_open(&arch, RT_F32, "cpu", threads, 3)};
        const int off = -1;
        forest_logits(&base, ids, &off, 1, 0, single);
        assert_memory_equal(mixed + one, single, one * sizeof(float));
        testing_close(&base.n);
        if (threads == 1)
            memcpy(merged, mixed, 4 * one * sizeof(float));
        assert_memory_equal(merged, mixed, 4 * one * sizeof(float));
        adapted_close(&a);
    }
    rt_free(mixed), rt_free(single), rt_free(merged);
}

/* A child goes on with its parent's adapter. */
static void test_children_inherit(void **state)
{
    (void)state;
    adapted a = adapted_open(&every_layer, COUNT, "cpu", 1);
    int32_t ids[1][LENGTH], last = LENGTH - 1;
    testing_ids(ids[0], LENGTH, 94, 7);
    float *whole = rt_alloc((size_t)LENGTH * 94 * sizeof(float)), part[94];
    const int adapter = 2;
    forest_logits(&a, ids, &adapter, 1, 0, whole);
    rt_forest *forest;
    assert_int_equal(rt_forest_new(&forest, a.n.net, 1024, NULL), RT_OK);
    rt_run run = {rt_forest_root(forest, adapter), ids[0], 20, 0};
    assert_int_equal(rt_forest_forward(forest, &run, 1, NULL), RT_OK);
    run = (rt_run){rt_forest_fork(forest, run.node, 11), ids[0] + 11, LENGTH - 11, 0};
    assert_int_equal(rt_forest_forward(forest, &run, 1, NULL), RT_OK);
    last -= 11;
    rt_forest_logits(forest, &last, 1, part);
    assert_memory_equal(part, whole + (size_t)(LENGTH - 1) * 94, sizeof part);
    rt_forest_free(&forest);
    rt_free(whole);
    adapted_close(&a);
}

/* One prompt, asked with every adapter and with none: the cache holds it once for each. */
static void test_cache_is_per_adapter(void **state)
{
    (void)state;
    adapted a = adapted_open(&every_layer, COUNT, "cpu", 1);
    rt_engine *engine;
    int32_t prompt[40];
    testing_ids(prompt, 40, 94, 5);
    rt_sampling s = {.temperature = 1, .top_p = 1, .max_tokens = 12, .seed = 4, .ignore_eos = true};
    rt_completion c, first[COUNT + 1];
    for (int round = 0; round < 2; round++) {
        /* round 0: each in an engine of its own; round 1: one engine, one after the other, twice */
        for (int i = 0; i < (COUNT + 1) * (round + 1); i++) {
            int adapter = i % (COUNT + 1) - 1;
            if (round == 0 || i == 0)
                assert_int_equal(rt_engine_new(&engine, a.n.net, NULL, 2, 0, NULL), RT_OK);
            const uint64_t trajectory = 77;
            assert_int_equal(
                rt_engine_submit(engine, 1, prompt, 40, &trajectory, 1, 0, adapter, &s, NULL),
                RT_OK);
            while (rt_engine_step(engine, NULL) > 0)
                ;
            assert_true(rt_engine_collect(engine, &c));
            assert_int_equal(c.ids_count, 12);
            if (round == 0) {
                first[i] = c;
                rt_engine_free(&engine);
                continue;
            }
            assert_memory_equal(c.ids, first[adapter + 1].ids, 12 * sizeof(int32_t));
            assert_memory_equal(c.logprobs, first[adapter + 1].logprobs, 12 * sizeof(float));
            assert_int_equal(c.prefill, i <= COUNT ? 40 : 0); /* found only by its own kind */
            rt_completion_free(&c);
        }
    }
    const uint64_t trajectory = 1;
    assert_int_equal(rt_engine_submit(engine, 1, prompt, 40, &trajectory, 1, 0, COUNT, &s, NULL),
                     RT_ERR_USAGE);
    rt_engine_free(&engine);
    for (int i = 1; i <= COUNT; i++)
        assert_memory_not_equal(first[0].logprobs, first[i].logprobs, 12 * sizeof(float));
    for (int i = 0; i <= COUNT; i++)
        rt_completion_free(&first[i]);
    adapted_close(&a);
}

/* Decoding all at once gives what each gives alone, and what the training pass says. */
static void test_engine_mixed(void **state)
{
    (void)state;
    adapted a = adapted_open(&every_layer, COUNT, "cpu", 1);
    rt_engine *engine;
    assert_int_equal(rt_engine_new(&engine, a.n.net, NULL, 8, 0, NULL), RT_OK);
    int32_t prompt[21];
    testing_ids(prompt, 21, 94, 5);
    rt_sampling s = {.temperature = 1, .top_p = 1, .max_tokens = 15, .seed = 4, .ignore_eos = true};
    for (int i = 0; i < 8; i++) {
        const uint64_t trajectory = 100 + (uint64_t)i;
        assert_int_equal(rt_engine_submit(engine, (uint64_t)i, prompt, 21, &trajectory, 1, 0,
                                          i % 4 - 1, &s, NULL),
                         RT_OK);
    }
    while (rt_engine_step(engine, NULL) > 0)
        ;
    rt_trainer *trainer;
    assert_int_equal(rt_trainer_new(&trainer, a.n.net, 512, true, NULL), RT_OK);
    int32_t ids[8][36], rows[8][36];
    const int32_t *list[8];
    int32_t lengths[8], *row_of[8];
    int adapters[8];
    float sampled[8][15];
    rt_completion c;
    for (int i = 0; i < 8; i++) {
        assert_true(rt_engine_collect(engine, &c));
        size_t at = (size_t)c.request;
        memcpy(ids[at], prompt, sizeof prompt);
        memcpy(ids[at] + 21, c.ids, 15 * sizeof(int32_t));
        memcpy(sampled[at], c.logprobs, sizeof sampled[at]);
        list[at] = ids[at], lengths[at] = 36, row_of[at] = rows[at];
        adapters[at] = (int)at % 4 - 1;
        rt_completion_free(&c);
    }
    /* the prompt is a run of its own for each adapter and for none */
    assert_int_equal(rt_trainer_plan(trainer, list, lengths, adapters, NULL, 8, row_of, NULL),
                     4 * 21 + 8 * 15);
    rt_entry entries[8 * 15];
    float logprob[8 * 15];
    for (int e = 0; e < 8 * 15; e++)
        entries[e] = (rt_entry){rows[e / 15][20 + e % 15], ids[e / 15][21 + e % 15]};
    assert_int_equal(rt_trainer_forward(trainer, entries, 8 * 15, 1, false, logprob, NULL), RT_OK);
    for (int i = 0; i < 8; i++)
        assert_memory_equal(logprob + 15 * i, sampled[i], sizeof sampled[i]);
    rt_trainer_free(&trainer);
    rt_engine_free(&engine);
    adapted_close(&a);
}

/* ---- training ---------------------------------------------------------------------------------
 */

typedef struct pass {
    double share;
    uint64_t seed;
    bool recompute;
    int parts; /* micro-batches */
} pass;

/* Sequences of adapters 0 and 1 and one of none, with a prompt in common. Returns Σ g·logprob. */
static double pass_run(const adapted *a, const pass *p, float *grad)
{
    enum { SEQUENCES = 5 };
    static const int adapters[SEQUENCES] = {0, 1, 0, -1, 1};
    rt_trainer *trainer;
    assert_int_equal(rt_trainer_new(&trainer, a->n.net, 256, p->recompute, NULL), RT_OK);
    rt_trainer_set_dropout(trainer, p->share, p->seed);
    double sum = 0;
    for (int part = 0; part < p->parts; part++) {
        int32_t ids[SEQUENCES][24], rows[SEQUENCES][24], lengths[SEQUENCES], *row_of[SEQUENCES];
        const int32_t *list[SEQUENCES];
        int kinds[SEQUENCES], count = 0, entries_count = 0;
        rt_entry entries[SEQUENCES * 24];
        float logprob[SEQUENCES * 24], g[SEQUENCES * 24];
        for (int i = SEQUENCES * part / p->parts; i < SEQUENCES * (part + 1) / p->parts;
             i++, count++) {
            testing_ids(ids[count], 24, 94, 1);
            testing_ids(ids[count] + 10, 14, 94, 20 + (uint64_t)i);
            list[count] = ids[count], lengths[count] = 24, row_of[count] = rows[count];
            kinds[count] = adapters[i];
        }
        assert_true(rt_trainer_plan(trainer, list, lengths, kinds, NULL, count, row_of, NULL) > 0);
        for (int i = 0; i < count; i++)
            for (int t = 10; t < 24; t++) {
                int number = SEQUENCES * part / p->parts + i;
                g[entries_count] = rt_normal(8, (uint64_t)number, (uint64_t)t);
                entries[entries_count++] = (rt_entry){rows[i][t - 1], ids[i][t]};
            }
        assert_int_equal(
            rt_trainer_forward(trainer, entries, entries_count, 0.8f, grad != NULL, logprob, NULL),
            RT_OK);
        if (grad != NULL)
            assert_int_equal(
                rt_trainer_backward(trainer, entries, g, entries_count, 0.8f, grad, NULL), RT_OK);
        for (int e = 0; e < entries_count; e++)
            sum += (double)g[e] * (double)logprob[e];
    }
    rt_trainer_free(&trainer);
    return sum;
}

/* The derivative along each tensor's own gradient, which is the gradient's norm, against central
 * differences in the reference arithmetic. A step that moves the sum by 0.05 either way: 70
 * log-probs of magnitude up to 8, each off by a few 2^-21, move a difference of 0.1 by at most 3e-3
 * of itself; the curvature along so short a step is below 1e-3. */
static void test_gradient(void **state)
{
    (void)state;
    const pass passes[] = {{0, 0, true, 1}, {0.3, 5, false, 1}};
    for (size_t k = 0; k < RT_COUNT(passes); k++) {
        adapted a = adapted_open(&every_layer, COUNT, "ref", 1);
        rt_weights *w = a.adapters->weights;
        float *grad = rt_alloc(w->count * sizeof(float)), *words = w->data;
        float *kept = rt_alloc(w->count * sizeof(float));
        memcpy(kept, words, w->count * sizeof(float));
        pass_run(&a, &passes[k], grad);
        int per_adapter = w->tensors_count / COUNT;
        for (int i = 0; i < 2 * per_adapter; i += 3) {
            const rt_tensor *t = &w->tensors[i];
            double norm = 0, at[2];
            for (size_t j = 0; j < t->count; j++)
                norm += (double)grad[t->offset + j] * (double)grad[t->offset + j];
            norm = sqrt(norm);
            assert_true(norm > 0);
            double step = 0.05 / norm;
            for (int side = 0; side < 2; side++) {
                for (size_t j = t->offset; j < t->offset + t->count; j++)
                    words[j] = kept[j] + (float)((side ? -step : step) * (double)grad[j] / norm);
                rt_net_set_adapters(a.n.net, w);
                at[side] = pass_run(&a, &passes[k], NULL);
            }
            memcpy(words, kept, w->count * sizeof(float));
            double derivative = (at[0] - at[1]) / (2 * step);
            if (!(fabs(derivative - norm) <= 4e-3 * norm))
                fail_msg("%s: derivative %g, gradient %g", t->name, derivative, norm);
        }
        for (size_t j = 2 * w->count / 3; j < w->count; j++)
            assert_true(grad[j] == 0); /* nobody used the third one */
        rt_free(grad), rt_free(kept);
        adapted_close(&a);
    }
}

/* Recomputation, threads and dropout's replay change no bit; cuts change no log-prob, and another
 * seed changes the gradient. */
static void test_replay(void **state)
{
    (void)state;
    const pass passes[] = {{0.25, 5, false, 1},
                           {0.25, 5, true, 1},
                           {0.25, 6, true, 1},
                           {0, 5, true, 1},
                           {0.25, 5, true, 5}};
    double sums[RT_COUNT(passes)];
    adapted two = adapted_open(&every_layer, COUNT, "cpu", 2);
    adapted a = adapted_open(&every_layer, COUNT, "cpu", 1);
    size_t count = a.adapters->weights->count;
    float *grads[RT_COUNT(passes)], *threaded = rt_alloc(count * sizeof(float));
    for (size_t k = 0; k < RT_COUNT(passes); k++) {
        grads[k] = rt_alloc(count * sizeof(float));
        sums[k] = pass_run(&a, &passes[k], grads[k]);
    }
    pass_run(&two, &passes[0], threaded);
    assert_memory_equal(grads[0], grads[1], count * sizeof(float));
    assert_memory_equal(grads[0], threaded, count * sizeof(float));
    assert_memory_not_equal(grads[0], grads[2], count * sizeof(float));
    assert_memory_not_equal(grads[0], grads[3], count * sizeof(float));
    assert_true(memcmp(&sums[0], &sums[4], sizeof sums[0]) == 0);
    for (size_t k = 0; k < RT_COUNT(passes); k++)
        rt_free(grads[k]);
    rt_free(threaded);
    adapted_close(&a);
    adapted_close(&two);
}

/* ---- the vector and its files -----------------------------------------------------------------
 */

static void test_fresh_is_the_base(void **state)
{
    (void)state;
    const rt_lora lora = {.rank = 4, .alpha = 8, .targets = RT_LORA_ATTENTION};
    adapted a = adapted_open(&lora, 2, "cpu", 1);
    rt_adapters_randomize(a.adapters, 12);
    const rt_weights *w = a.adapters->weights;
    const float *words = w->data;
    for (int i = 0; i < w->tensors_count; i++) {
        const rt_tensor *t = &w->tensors[i];
        double largest = 0;
        for (size_t j = 0; j < t->count; j++)
            largest = fmax(largest, fabs((double)words[t->offset + j]));
        bool zero = strstr(t->name, "lora_B") != NULL;
        double bound = zero ? 0 : 1 / sqrt((double)t->cols);
        assert_true(largest <= bound && (zero || largest > 0.9 * bound));
    }
    assert_string_equal(w->tensors[0].name,
                        "adapter.0.model.layers.0.self_attn.q_proj.lora_A.weight");
    assert_memory_not_equal(words, words + rt_adapters_stride(a.adapters), 64);
    rt_net_set_adapters(a.n.net, w);
    int32_t ids[2][LENGTH];
    testing_ids(ids[0], LENGTH, 94, 7);
    memcpy(ids[1], ids[0], sizeof ids[0]);
    float *logits = rt_alloc((size_t)2 * LENGTH * 94 * sizeof(float));
    const int adapters[2] = {-1, 1};
    forest_logits(&a, ids, adapters, 2, 0, logits);
    assert_memory_equal(logits, logits + (size_t)LENGTH * 94, (size_t)LENGTH * 94 * sizeof(float));
    rt_free(logits);
    adapted_close(&a);
}

static void expect_refused(const char *dir, const rt_arch *arch, const char *config,
                           const char *word)
{
    rt_adapters *loaded = NULL;
    rt_error err = {0};
    char *path = rt_format("%s/adapter_config.json", dir);
    assert_int_equal(rt_file_write(path, config, strlen(config), NULL), RT_OK);
    assert_true(rt_peft_load(&loaded, arch, &dir, 1, &err) < 0);
    if (strstr(err.message, word) == NULL)
        fail_msg("\"%s\" does not say %s", err.message, word);
    rt_free(path);
}

static void test_files(void **state)
{
    (void)state;
    char folder[] = "/tmp/rt-adapter-test-XXXXXX";
    assert_non_null(mkdtemp(folder));
    rt_arch arch = testing_arch(true);
    rt_adapters *made, *read[2] = {0};
    assert_int_equal(rt_adapters_new(&made, &arch, &every_layer, 2, NULL), RT_OK);
    adapters_fill(made, 6);
    char *dirs[2] = {rt_format("%s/0", folder), rt_format("%s/1", folder)};
    for (int i = 0; i < 2; i++)
        assert_int_equal(rt_peft_save(made, i, 0.1, folder, dirs[i], NULL), RT_OK);
    assert_true(rt_peft_is(dirs[0]) && !rt_peft_is(folder));
    const char *const both[2] = {dirs[0], dirs[1]};
    assert_int_equal(rt_peft_load(&read[0], &arch, both, 2, NULL), RT_OK);
    assert_int_equal(read[0]->lora.rank, 3);
    assert_int_equal(read[0]->lora.targets, every_layer.targets);
    assert_memory_equal(read[0]->weights->data, made->weights->data,
                        made->weights->count * sizeof(float));
    rt_buf base = {0};
    assert_int_equal(rt_peft_base(dirs[1], &base, NULL), RT_OK);
    assert_string_equal(base.data, folder);
    /* another base: wider, deeper */
    rt_error err = {0};
    rt_arch other = arch;
    other.d = 48;
    assert_true(rt_peft_load(&read[1], &other, both, 1, &err) < 0);
    assert_non_null(strstr(err.message, "another base"));
    other = arch;
    other.layers = 2;
    assert_true(rt_peft_load(&read[1], &other, both, 1, &err) < 0);
    assert_non_null(strstr(err.message, "another base"));
    other.layers = 4;
    assert_true(rt_peft_load(&read[1], &other, both, 1, &err) < 0);
    assert_non_null(strstr(err.message, "model.layers.3"));
#define HEAD                                                                                       \
    "{\"peft_type\": \"LORA\", \"r\": 3, \"lora_alpha\": 5, \"target_modules\": [\"q_proj\"]"
    expect_refused(dirs[0], &arch, HEAD ", \"use_dora\": true}", "use_dora");
    expect_refused(dirs[0], &arch, HEAD ", \"use_rslora\": true}", "use_rslora");
    expect_refused(dirs[0], &arch, HEAD ", \"bias\": \"all\"}", "bias");
    expect_refused(dirs[0], &arch, HEAD ", \"modules_to_save\": [\"lm_head\"]}", "modules_to_save");
    expect_refused(dirs[0], &arch, HEAD ", \"rank_pattern\": {\"q_proj\": 8}}", "rank_pattern");
    expect_refused(dirs[0], &arch, HEAD ", \"some_new_form\": 1}", "some_new_form");
    expect_refused(dirs[0], &arch, HEAD ", \"init_lora_weights\": \"pissa\"}", "init_lora_weights");
    expect_refused(dirs[0], &arch, HEAD "}", "another base"); /* tensors its settings do not make */
    expect_refused(dirs[0], &arch, "{\"peft_type\": \"LOHA\"}", "LOHA");
    expect_refused(dirs[0], &arch,
                   "{\"peft_type\": \"LORA\", \"r\": 3, \"lora_alpha\": 5, "
                   "\"target_modules\": [\"embed_tokens\"]}",
                   "embed_tokens");
    expect_refused(dirs[0], &arch, "{\"peft_type\": \"LORA\", \"r\": 0, \"lora_alpha\": 5}",
                   "r must be");
    expect_refused(dirs[0], &arch, "[]", "no JSON object");
    assert_null(read[1]);
    rt_adapters_free(&made);
    rt_adapters_free(&read[0]);
    rt_buf_free(&base);
    rt_free(dirs[0]), rt_free(dirs[1]);
    rt_remove_tree(folder, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mixed_batch),
        cmocka_unit_test(test_children_inherit),
        cmocka_unit_test(test_cache_is_per_adapter),
        cmocka_unit_test(test_engine_mixed),
        cmocka_unit_test(test_gradient),
        cmocka_unit_test(test_replay),
        cmocka_unit_test(test_fresh_is_the_base),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
