/* Golden files: logits, loss, every gradient and log-probs at three temperatures against values of
 * PyTorch in float64. Skipped where the files are not beside the checkout. */
#include <math.h>

#include <jansson.h>

#include "model/model_testing.h"

#define GOLDEN "../shared/golden/"

static void verify(const char *model, const char *reference, int dtype, const char *device)
{
    rt_buf report = {0};
    rt_error err = {0};
    bool pass = false;
    int rc = rt_verify(model, reference, dtype, device, 1, &report, &pass, &err);
    if (rc < 0 || !pass)
        print_message("%s on %s: %s%s\n", model, device, rc < 0 ? err.message : "",
                      rc < 0 ? "" : report.data);
    assert_int_equal(rc, RT_OK);
    assert_true(pass);
    assert_non_null(strstr(report.data, "logits"));
    rt_buf_free(&report);
}

static void test_logits_and_gradients(void **state)
{
    (void)state;
    static const char *const names[] = {"tiny_llama", "tiny_llama3", "tiny_llama_bf16"};
    for (size_t i = 0; i < RT_COUNT(names); i++) {
        char model[128], reference[160];
        snprintf(model, sizeof(model), GOLDEN "%s", names[i]);
        snprintf(reference, sizeof(reference), GOLDEN "%s.ref.safetensors", names[i]);
        verify(model, reference, RT_F32, "cpu");
        verify(model, reference, RT_F32, "ref");
        verify(model, reference, RT_BF16, "cpu");
    }
}

/* Every gradient of A and B, and the adapter merged into its base. */
static void test_adapter(void **state)
{
    (void)state;
    static const char model[] = GOLDEN "tiny_llama_lora";
    static const char reference[] = GOLDEN "tiny_llama_lora.ref.safetensors";
    verify(model, reference, RT_F32, "cpu");
    verify(model, reference, RT_F32, "ref");
}

static void test_quantized_files(void **state)
{
    (void)state;
    static const char *const types[] = {"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1"};
    for (size_t i = 0; i < RT_COUNT(types); i++) {
        char model[128], reference[160];
        snprintf(model, sizeof(model), GOLDEN "tiny_gguf.%s.gguf", types[i]);
        snprintf(reference, sizeof(reference), GOLDEN "tiny_gguf.%s.ref.safetensors", types[i]);
        verify(model, reference, RT_F32, "cpu");
    }
}

/* Another model's reference must not pass: one layer norm off by 1 % is far above the bounds. */
static void test_a_wrong_model_fails(void **state)
{
    (void)state;
    rt_weights *weights;
    rt_buf report = {0};
    bool pass = true;
    assert_int_equal(rt_model_load(&weights, GOLDEN "tiny_llama", RT_F32, NULL), RT_OK);
    const rt_tensor *t = rt_weights_find(weights, "model.layers.1.post_attention_layernorm.weight");
    ((float *)weights->data)[t->offset + 7] *= 1.01f;
    assert_int_equal(rt_model_save(weights, "build/verify_golden_wrong", NULL, NULL), RT_OK);
    assert_int_equal(rt_verify("build/verify_golden_wrong", GOLDEN "tiny_llama.ref.safetensors",
                               RT_F32, "cpu", 1, &report, &pass, NULL), RT_OK);
    assert_false(pass);
    assert_int_equal(rt_remove_tree("build/verify_golden_wrong", NULL), RT_OK);
    rt_weights_free(&weights);
    rt_buf_free(&report);
}

static void score_line(rt_trainer *trainer, const json_t *line)
{
    const json_t *ids_json = json_object_get(line, "ids");
    const json_t *want = json_object_get(line, "logprobs");
    float temperature = (float)json_number_value(json_object_get(line, "temperature"));
    int length = (int)json_array_size(ids_json);
    int32_t ids[256], row_of[256];
    rt_entry entries[256];
    float got[256];
    for (int i = 0; i < length; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(ids_json, (size_t)i));
    const int32_t *sequences[1] = {ids}, lengths[1] = {length};
    int32_t *rows[1] = {row_of};
    assert_int_equal(rt_trainer_plan(trainer, sequences, lengths, NULL, NULL, 1, rows, NULL), length);
    for (int i = 0; i + 1 < length; i++)
        entries[i] = (rt_entry){row_of[i], ids[i + 1]};
    assert_int_equal(rt_trainer_forward(trainer, entries, length - 1, temperature, false, got,
                                        NULL), RT_OK);
    /* 2e-6 of the largest logit (about 20) is what float32 reaches on these models; divided by
     * a temperature of 0.7 and for a target's logit and the sum: 2 · 2e-6 · 20 / 0.7 = 1.2e-4 */
    for (int i = 0; i + 1 < length; i++) {
        double value = json_number_value(json_array_get(want, (size_t)i + 1));
        if (fabs((double)got[i] - value) > 1.2e-4)
            fail_msg("token %d at temperature %g: %.7g, not %.7g", i + 1, (double)temperature,
                     (double)got[i], value);
    }
}

static void test_scores_at_temperatures(void **state)
{
    (void)state;
    static const char *const names[] = {"tiny_llama", "tiny_llama3", "tiny_llama_bf16"};
    for (size_t n = 0; n < RT_COUNT(names); n++) {
        char path[128];
        rt_buf text = {0};
        rt_weights *weights;
        rt_ops *ops;
        rt_net *net;
        rt_trainer *trainer;
        snprintf(path, sizeof(path), GOLDEN "%s", names[n]);
        assert_int_equal(rt_model_load(&weights, path, RT_F32, NULL), RT_OK);
        assert_int_equal(rt_ops_open(&ops, "cpu", 1, NULL), RT_OK);
        assert_int_equal(rt_net_new(&net, &weights->arch, RT_F32, ops, NULL), RT_OK);
        rt_net_set(net, weights);
        assert_int_equal(rt_trainer_new(&trainer, net, 256, true, NULL), RT_OK);
        snprintf(path, sizeof(path), GOLDEN "%s.score.jsonl", names[n]);
        assert_int_equal(rt_file_read(path, 1 << 24, &text, NULL), RT_OK);
        int lines = 0;
        for (char *at = text.data, *end; (end = strchr(at, '\n')) != NULL; at = end + 1, lines++) {
            json_t *line = json_loadb(at, (size_t)(end - at), 0, NULL);
            score_line(trainer, line);
            json_decref(line);
        }
        assert_true(lines >= 3);
        rt_trainer_free(&trainer);
        rt_net_free(&net);
        rt_ops_free(&ops);
        rt_weights_free(&weights);
        rt_buf_free(&text);
    }
}

int main(void)
{
    if (!rt_file_exists(GOLDEN "tiny_llama/config.json"))
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_and_gradients),
        cmocka_unit_test(test_adapter),
        cmocka_unit_test(test_quantized_files),
        cmocka_unit_test(test_a_wrong_model_fails),
        cmocka_unit_test(test_scores_at_temperatures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
