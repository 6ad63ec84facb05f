/* Model folders: saved and loaded bit for bit, shards, run folders, and what is refused. */
#include "model/files.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define GOLDEN "../shared/golden/"

static const rt_arch plain = {
    .family = "llama", .layers = 2, .d = 24, .f = 40, .heads = 4, .kv_heads = 2, .head_size = 10,
    .vocab = 50, .context = 64, .norm_eps = 1e-5f, .tied = true, .rope_theta = 10000,
    .bos = 1, .eos = {2}, .eos_count = 1,
};

static char folder[] = "/tmp/retake-model-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    (void)state;
    return rt_remove_tree(folder, NULL);
}

/* Static: each call's result is used before the next but three. */
static const char *in_folder(const char *name)
{
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void write_text(const char *path, const char *text)
{
    assert_int_equal(rt_file_write(path, text, strlen(text), NULL), RT_OK);
}

static rt_weights *random_weights(const rt_arch *arch, int dtype, uint64_t seed)
{
    rt_weights *weights;
    assert_int_equal(rt_weights_new(&weights, arch, dtype, NULL), RT_OK);
    rt_weights_randomize(weights, seed);
    return weights;
}

static void canonical_order(void **state)
{
    (void)state;
    static const char *const names[] = {
        "model.embed_tokens.weight", "model.layers.0.input_layernorm.weight",
        "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight",
        "model.layers.0.self_attn.v_proj.weight", "model.layers.0.self_attn.o_proj.weight",
        "model.layers.0.post_attention_layernorm.weight", "model.layers.0.mlp.gate_proj.weight",
        "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight",
    };
    rt_arch arch = plain;
    arch.tied = false;
    rt_weights *weights = random_weights(&arch, RT_F32, 1);
    assert_int_equal(weights->tensors_count, 1 + 2 * 9 + 2);
    for (size_t i = 0; i < RT_COUNT(names); i++) {
        assert_string_equal(weights->tensors[i].name, names[i]);
    }
    assert_string_equal(weights->tensors[10].name, "model.layers.1.input_layernorm.weight");
    assert_string_equal(weights->tensors[19].name, "model.norm.weight");
    assert_string_equal(weights->tensors[20].name, "lm_head.weight");
    size_t offset = 0;
    for (int i = 0; i < weights->tensors_count; i++) {
        assert_int_equal(weights->tensors[i].offset, offset);
        offset += weights->tensors[i].count;
    }
    assert_int_equal(weights->count, offset);
    const rt_tensor *o = rt_weights_find(weights, "model.layers.1.self_attn.o_proj.weight");
    assert_true(o != NULL && o->rows == 24 && o->cols == 40);
    assert_null(rt_weights_find(weights, "model.layers.2.mlp.up_proj.weight"));
    assert_int_equal((uintptr_t)weights->data % 64, 0);
    rt_weights_free(&weights);
    assert_null(weights);
}

static double deviation(const rt_weights *weights, const char *name)
{
    const rt_tensor *tensor = rt_weights_find(weights, name);
    double sum = 0;
    for (size_t i = 0; i < tensor->count; i++) {
        double value = (double)((float *)weights->data)[tensor->offset + i];
        sum += value * value;
    }
    return sqrt(sum / (double)tensor->count);
}

static void randomize(void **state)
{
    (void)state;
    rt_weights *a = random_weights(&plain, RT_F32, 7), *b = random_weights(&plain, RT_BF16, 7);
    rt_weights *c = random_weights(&plain, RT_F32, 8);
    const float *words = a->data;
    for (size_t i = 0; i < a->count; i++) {
        assert_int_equal(((uint16_t *)b->data)[i], rt_to_bf16(words[i]));
    }
    assert_false(rt_hash_equal(rt_weights_hash(a), rt_weights_hash(c)));
    const rt_tensor *norm = rt_weights_find(a, "model.norm.weight");
    for (size_t i = 0; i < norm->count; i++) {
        assert_true(words[norm->offset + i] == 1);
    }
    /* n = 960 values: the deviation's own relative deviation is 1/sqrt(2n) = 2.3 %; 5 of those. */
    double output = 1 / sqrt(2.0 * plain.layers);
    const struct {
        const char *name;
        double scale;
    } drawn[] = {{"model.layers.0.mlp.up_proj.weight", 1},
                 {"model.layers.1.mlp.down_proj.weight", output},
                 {"model.layers.1.self_attn.o_proj.weight", output}};
    for (size_t i = 0; i < RT_COUNT(drawn); i++) {
        double wanted = drawn[i].scale / sqrt((double)rt_weights_find(a, drawn[i].name)->cols);
        assert_true(fabs(deviation(a, drawn[i].name) / wanted - 1) < 0.115);
    }
    rt_weights_convert(a, b); /* widening is exact, and rounding that again changes nothing */
    rt_weights_convert(c, b);
    assert_true(rt_hash_equal(rt_weights_hash(a), rt_weights_hash(c)));
    rt_weights *d = random_weights(&plain, RT_BF16, 9);
    rt_weights_convert(d, a);
    assert_true(rt_hash_equal(rt_weights_hash(b), rt_weights_hash(d)));
    assert_false(rt_hash_equal(rt_weights_hash(a), rt_weights_hash(b)));
    rt_weights_free(&a);
    rt_weights_free(&b);
    rt_weights_free(&c);
    rt_weights_free(&d);
}

static void round_trip(void **state)
{
    (void)state;
    rt_arch scaled = plain;
    scaled.tied = false;
    scaled.bos = -1;
    scaled.eos_count = 3;
    scaled.eos[1] = 49;
    scaled.eos[2] = 0;
    scaled.rope_theta = 500000;
    scaled.rope_factor = 8;
    scaled.rope_low = 1;
    scaled.rope_high = 4;
    scaled.rope_original = 32;
    rt_arch silent = plain;
    silent.eos_count = 0;
    silent.eos[0] = 0;
    silent.norm_eps = 1.2345678e-6f;
    const rt_arch *archs[] = {&plain, &scaled, &silent};
    for (int k = 0; k < 6; k++) {
        const char *dir = in_folder("deep/er/saved");
        rt_weights *weights = random_weights(archs[k % 3], k < 3 ? RT_F32 : RT_BF16, 3), *back;
        rt_arch arch;
        assert_int_equal(rt_model_save(weights, dir, NULL, NULL), RT_OK);
        assert_int_equal(rt_model_load(&back, dir, weights->dtype, NULL), RT_OK);
        assert_int_equal(rt_arch_load(&arch, dir, NULL), RT_OK);
        assert_memory_equal(&back->arch, archs[k % 3], sizeof arch);
        assert_memory_equal(&arch, archs[k % 3], sizeof arch);
        assert_true(rt_hash_equal(rt_weights_hash(weights), rt_weights_hash(back)));
        rt_weights_free(&back);
        rt_weights_free(&weights);
    }
}

static void copies_tokenizer(void **state)
{
    (void)state;
    rt_weights *weights = random_weights(&plain, RT_F32, 3);
    assert_int_equal(rt_mkdirs(in_folder("from"), NULL), RT_OK);
    write_text(in_folder("from/config.json"), "{}");
    write_text(in_folder("from/tokenizer.json"), "{\"a\": 1}");
    write_text(in_folder("from/chat_template.jinja"), "template");
    write_text(in_folder("from/generation_config.json"), "{\"eos_token_id\": [2, 7]}");
    write_text(in_folder("from/other.txt"), "not copied");
    assert_int_equal(rt_model_save(weights, in_folder("to"), in_folder("from"), NULL), RT_OK);
    rt_buf text = {0};
    assert_int_equal(rt_file_read(in_folder("to/tokenizer.json"), 99, &text, NULL), RT_OK);
    assert_string_equal(text.data, "{\"a\": 1}");
    assert_int_equal(rt_file_read(in_folder("to/chat_template.jinja"), 99, &text, NULL), RT_OK);
    assert_string_equal(text.data, "template");
    assert_false(rt_file_exists(in_folder("to/other.txt")));
    rt_buf_free(&text);
    /* The end tokens of generation_config.json join those of config.json. */
    rt_arch arch;
    assert_int_equal(rt_arch_load(&arch, in_folder("to"), NULL), RT_OK);
    assert_true(arch.eos_count == 2 && arch.eos[0] == 2 && arch.eos[1] == 7);
    /* A folder may be its own source. */
    assert_int_equal(rt_model_save(weights, in_folder("to"), in_folder("to"), NULL), RT_OK);
    rt_error err;
    assert_int_equal(rt_model_save(weights, in_folder("to"), in_folder("none"), &err),
                     RT_ERR_INPUT);
    rt_weights_free(&weights);
}

/* ---- loading what others wrote ------------------------------------------------------------ */

/* Writes tensors [from, to) of weights, then those of `more`. */
static void write_part(const char *path, const rt_weights *weights, int from, int to, int dtype,
                       const rt_st_tensor *more)
{
    rt_st_tensor list[40] = {{0}};
    void *converted[40];
    int count = 0;
    for (int i = from; i < to; i++, count++) {
        const rt_tensor *tensor = &weights->tensors[i];
        const float *words = (const float *)weights->data + tensor->offset;
        uint16_t *halves = converted[count] = rt_alloc(tensor->count * 4);
        for (size_t k = 0; k < tensor->count; k++) {
            if (dtype == RT_F32) {
                memcpy((float *)converted[count] + k, &words[k], 4);
            } else {
                halves[k] = dtype == RT_F16 ? rt_to_f16(words[k]) : rt_to_bf16(words[k]);
            }
        }
        list[count] = (rt_st_tensor){tensor->name, dtype, tensor->cols == 1 ? 1 : 2,
                                     {tensor->rows, tensor->cols}, converted[count],
                                     tensor->count * rt_dtype_bytes(dtype)};
    }
    if (more != NULL) {
        list[count] = *more;
    }
    assert_int_equal(rt_safetensors_write(path, list, count + (more != NULL), NULL, NULL), RT_OK);
    for (int i = 0; i < count; i++) {
        rt_free(converted[i]);
    }
}

static void write_config(const char *dir, const rt_arch *arch)
{
    rt_buf text = {0};
    rt_hf_config_write(arch, RT_F32, &text);
    char *path = rt_format("%s/config.json", dir);
    assert_int_equal(rt_mkdirs(dir, NULL), RT_OK);
    write_text(path, text.data);
    rt_free(path);
    rt_buf_free(&text);
}

static void refuse_load(const char *path, const char *part)
{
    rt_weights *weights = NULL;
    rt_error err = {0};
    assert_true(rt_model_load(&weights, path, RT_F32, &err) < 0);
    assert_null(weights);
    if (strstr(err.message, part) == NULL) {
        fail_msg("expected \"%s\" in \"%s\"", part, err.message);
    }
}

static void stored_types(void **state)
{
    (void)state;
    static const int types[] = {RT_F32, RT_BF16, RT_F16};
    rt_weights *weights = random_weights(&plain, RT_F32, 4), *back;
    const char *dir = in_folder("types");
    write_config(dir, &plain);
    for (size_t k = 0; k < RT_COUNT(types); k++) {
        write_part(in_folder("types/model.safetensors"), weights, 0, weights->tensors_count,
                   types[k], NULL);
        assert_int_equal(rt_model_load(&back, dir, RT_F32, NULL), RT_OK);
        for (size_t i = 0; i < weights->count; i++) {
            float value = ((float *)weights->data)[i];
            value = types[k] == RT_BF16  ? rt_from_bf16(rt_to_bf16(value))
                    : types[k] == RT_F16 ? rt_from_f16(rt_to_f16(value))
                                         : value;
            assert_true(((float *)back->data)[i] == value);
        }
        rt_weights_free(&back);
    }
    rt_weights_free(&weights);
}

/* index: names the first file for tensors before `cut`, the second for the others. */
static void write_index(const char *path, const rt_weights *weights, int cut, const char *second)
{
    rt_buf text = {0};
    rt_buf_addf(&text, "{\"metadata\": {}, \"weight_map\": {");
    for (int i = 0; i < weights->tensors_count; i++) {
        rt_buf_addf(&text, "%s\"%s\": \"%s\"", i > 0 ? ", " : "", weights->tensors[i].name,
                    i < cut ? "one.safetensors" : second);
    }
    rt_buf_addf(&text, "}}");
    write_text(path, text.data);
    rt_buf_free(&text);
}

static void shards(void **state)
{
    (void)state;
    rt_weights *weights = random_weights(&plain, RT_F32, 5), *back;
    int count = weights->tensors_count;
    write_config(in_folder("shards"), &plain);
    write_part(in_folder("shards/one.safetensors"), weights, 0, 7, RT_F32, NULL);
    write_part(in_folder("shards/two.safetensors"), weights, 7, count, RT_F32, NULL);
    const char *index = in_folder("shards/model.safetensors.index.json");
    write_index(index, weights, 7, "two.safetensors");
    assert_int_equal(rt_model_load(&back, in_folder("shards"), RT_F32, NULL), RT_OK);
    assert_true(rt_hash_equal(rt_weights_hash(weights), rt_weights_hash(back)));
    rt_weights_free(&back);

    write_part(in_folder("shards/two.safetensors"), weights, 6, count, RT_F32, NULL);
    refuse_load(in_folder("shards"), "is in two files");
    index = in_folder("shards/model.safetensors.index.json");
    write_index(index, weights, 7, "../two.safetensors");
    refuse_load(in_folder("shards"), "not in that folder");
    write_index(index, weights, 7, "three.safetensors");
    refuse_load(in_folder("shards"), "three.safetensors");
    write_text(index, "{\"weight_map\": 3}");
    refuse_load(in_folder("shards"), "has no weight_map");
    rt_weights_free(&weights);
}

static void tied_head(void **state)
{
    (void)state;
    rt_weights *weights = random_weights(&plain, RT_F32, 6), *back;
    const char *dir = in_folder("tied"), *path = in_folder("tied/model.safetensors");
    float *copy = rt_alloc(weights->tensors[0].count * 4);
    memcpy(copy, weights->data, weights->tensors[0].count * 4);
    rt_st_tensor head = {"lm_head.weight", RT_F32, 2, {plain.vocab, plain.d}, copy,
                         weights->tensors[0].count * 4};
    write_config(dir, &plain);
    write_part(path, weights, 0, weights->tensors_count, RT_F32, &head);
    assert_int_equal(rt_model_load(&back, dir, RT_F32, NULL), RT_OK);
    assert_true(rt_hash_equal(rt_weights_hash(weights), rt_weights_hash(back)));
    rt_weights_free(&back);
    copy[3] += 1;
    write_part(path, weights, 0, weights->tensors_count, RT_F32, &head);
    refuse_load(dir, "lm_head.weight differs from the embedding");
    rt_free(copy);
    rt_weights_free(&weights);
}

static void wrong_tensors(void **state)
{
    (void)state;
    rt_weights *weights = random_weights(&plain, RT_F32, 6), *back;
    const char *dir = in_folder("wrong"), *path = in_folder("wrong/model.safetensors");
    int last = weights->tensors_count;
    float zeros[64] = {0};
    write_config(dir, &plain);
    refuse_load(dir, "neither model.safetensors nor");
    write_part(path, weights, 0, last - 1, RT_F32, NULL);
    refuse_load(dir, "tensor model.norm.weight is missing");
    rt_st_tensor more = {"model.norm.weight", RT_F32, 1, {25}, zeros, 100};
    write_part(path, weights, 0, last - 1, RT_F32, &more);
    refuse_load(dir, "model.norm.weight has shape (25), config.json means (24)");
    more = (rt_st_tensor){"model.norm.weight", RT_I32, 1, {24}, zeros, 96};
    write_part(path, weights, 0, last - 1, RT_F32, &more);
    refuse_load(dir, "holds whole numbers");
    more = (rt_st_tensor){"model.layers.0.self_attn.q_proj.bias", RT_F32, 1, {40}, zeros, 160};
    write_part(path, weights, 0, last, RT_F32, &more);
    refuse_load(dir, "self_attn.q_proj.bias is not part of this architecture");
    more = (rt_st_tensor){"model.layers.0.self_attn.rotary_emb.inv_freq", RT_F32, 1, {5}, zeros,
                          20};
    write_part(path, weights, 0, last, RT_F32, &more);
    assert_int_equal(rt_model_load(&back, dir, RT_F32, NULL), RT_OK);
    rt_weights_free(&back);
    /* A configuration of terabytes asks for no memory: the file's shapes speak first. */
    rt_arch huge = plain;
    huge.d = huge.f = huge.vocab = 1 << 19;
    write_config(dir, &huge);
    refuse_load(dir, "model.embed_tokens.weight has shape (50, 24)");
    rt_weights_free(&weights);
}

/* ---- config.json -------------------------------------------------------------------------- */

#define HEAD "{\"architectures\":[\"LlamaForCausalLM\"],"
#define SIZES                                                                                    \
    "\"num_hidden_layers\":2,\"hidden_size\":24,\"intermediate_size\":40,"                      \
    "\"num_attention_heads\":4,\"vocab_size\":50"

static rt_arch accept_config(const char *json)
{
    rt_arch arch;
    rt_error err = {0};
    if (rt_hf_arch_parse(&arch, json, strlen(json), &err) != RT_OK) {
        fail_msg("%s", err.message);
    }
    return arch;
}

static void refuse_config(const char *json, const char *part)
{
    rt_arch arch;
    rt_error err = {0};
    assert_int_equal(rt_hf_arch_parse(&arch, json, strlen(json), &err), RT_ERR_INPUT);
    if (strstr(err.message, part) == NULL) {
        fail_msg("expected \"%s\" in \"%s\"", part, err.message);
    }
}

static void configs(void **state)
{
    (void)state;
    rt_arch arch = accept_config(HEAD SIZES "}");
    assert_true(arch.kv_heads == 4 && arch.head_size == 6 && !arch.tied && arch.context == 2048);
    assert_true(arch.norm_eps == 1e-6f && arch.rope_theta == 10000 && arch.rope_factor == 0);
    assert_true(arch.bos == 1 && arch.eos_count == 1 && arch.eos[0] == 2);
#define LLAMA3                                                                                   \
    "\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"    \
    "\"original_max_position_embeddings\":32}"
    rt_arch older = accept_config(HEAD SIZES ",\"rope_theta\":500000,\"rope_scaling\":{" LLAMA3
                                             "}");
    rt_arch newer = accept_config(HEAD SIZES ",\"rope_scaling\":null,\"rope_parameters\":{"
                                             "\"rope_theta\":500000," LLAMA3 "}");
    assert_true(older.rope_theta == 500000 && older.rope_factor == 8 && older.rope_original == 32);
    assert_memory_equal(&older, &newer, sizeof older);
    arch = accept_config(HEAD SIZES ",\"eos_token_id\":[7,8,7],\"bos_token_id\":null,"
                                    "\"head_dim\":10,\"tie_word_embeddings\":true}");
    assert_true(arch.eos_count == 2 && arch.eos[1] == 8 && arch.bos == -1);
    assert_true(arch.head_size == 10 && arch.tied);
    refuse_config("{\"architectures\":[\"MambaForCausalLM\"]," SIZES "}",
                  "MambaForCausalLM is not supported; these work: LlamaForCausalLM");
    refuse_config(HEAD SIZES ",\"attention_bias\":true}", "attention_bias");
    refuse_config(HEAD SIZES ",\"hidden_act\":\"gelu\"}", "hidden_act gelu");
    refuse_config(HEAD SIZES ",\"quantization_config\":{}}", "quantized");
    refuse_config(HEAD SIZES ",\"rope_scaling\":{\"type\":\"yarn\"}}", "yarn is not supported");
    refuse_config(HEAD SIZES ",\"rope_scaling\":{\"rope_type\":\"llama3\"}}", "needs a factor");
    refuse_config(HEAD SIZES ",\"num_key_value_heads\":3}", "no multiple of its 3");
    refuse_config(HEAD SIZES ",\"head_dim\":7}", "odd");
    refuse_config(HEAD SIZES ",\"vocab_size\":\"50\"}", "vocab_size must be a whole number");
    refuse_config(HEAD "\"hidden_size\":24}", "num_hidden_layers must be");
    refuse_config(HEAD SIZES ",\"eos_token_id\":\"</s>\"}", "eos_token_id");
    refuse_config(HEAD SIZES ",\n\n,}", "line 3");
}

/* ---- run folders -------------------------------------------------------------------------- */

static void expect_resolved(const char *path, const char *end)
{
    rt_buf resolved = {0};
    assert_int_equal(rt_model_resolve(path, &resolved, NULL), RT_OK);
    if (strcmp(resolved.data, in_folder(end)) != 0) {
        fail_msg("%s, not %s", resolved.data, end);
    }
    rt_buf_free(&resolved);
}

static void save_seed(const char *dir, uint64_t seed)
{
    rt_weights *weights = random_weights(&plain, RT_F32, seed);
    assert_int_equal(rt_model_save(weights, dir, NULL, NULL), RT_OK);
    rt_weights_free(&weights);
}

static void run_folders(void **state)
{
    (void)state;
    rt_buf resolved = {0};
    rt_error err;
    assert_int_equal(rt_mkdirs(in_folder("run/checkpoints"), NULL), RT_OK);
    assert_int_equal(rt_model_resolve(in_folder("run"), &resolved, &err), RT_ERR_INPUT);
    assert_non_null(strstr(err.message, "no complete checkpoint yet"));
    rt_buf_free(&resolved);
    save_seed(in_folder("run/export"), 1);
    expect_resolved(in_folder("run"), "run/export");
    save_seed(in_folder("run/checkpoints/step-000009"), 2);
    save_seed(in_folder("run/checkpoints/step-000010"), 3);
    save_seed(in_folder("run/checkpoints/step-000012.tmp"), 4);
    write_config(in_folder("run/checkpoints/step-000011"), &plain); /* no weights: not complete */
    expect_resolved(in_folder("run"), "run/checkpoints/step-000010");
    save_seed(in_folder("run/checkpoints/step-1000000"), 5);
    expect_resolved(in_folder("run"), "run/checkpoints/step-1000000");
    expect_resolved(in_folder("run/checkpoints/step-000009"), "run/checkpoints/step-000009");
    expect_resolved(in_folder("absent"), "absent");
    rt_weights *weights, *wanted = random_weights(&plain, RT_F32, 5);
    assert_int_equal(rt_model_load(&weights, in_folder("run"), RT_F32, NULL), RT_OK);
    assert_true(rt_hash_equal(rt_weights_hash(weights), rt_weights_hash(wanted)));
    rt_weights_free(&weights);
    rt_weights_free(&wanted);
    refuse_load(in_folder("absent"), "No such file");
    assert_int_equal(rt_mkdirs(in_folder("void"), NULL), RT_OK);
    refuse_load(in_folder("void"), "holds no config.json");
    write_text(in_folder("text"), "hello, world");
    refuse_load(in_folder("text"), "no GGUF file");
}

static void golden(void **state)
{
    (void)state;
    static const char *const names[] = {"tiny_llama", "tiny_llama3", "tiny_llama_bf16"};
    if (!rt_file_exists(GOLDEN "tiny_llama/config.json")) {
        skip();
    }
    for (size_t i = 0; i < RT_COUNT(names); i++) {
        char *path = rt_format(GOLDEN "%s", names[i]);
        char *reference = rt_format(GOLDEN "%s.ref.safetensors", names[i]);
        rt_weights *weights;
        rt_safetensors *file;
        assert_int_equal(rt_model_load(&weights, path, RT_F32, NULL), RT_OK);
        assert_int_equal(rt_safetensors_open(&file, reference, NULL), RT_OK);
        for (int k = 0; k < weights->tensors_count; k++) {
            /* Each tensor has a gradient of its size in the reference. */
            char *name = rt_format("grad.%s", weights->tensors[k].name);
            const rt_st_tensor *grad = rt_safetensors_find(file, name);
            assert_true(grad != NULL && grad->bytes == 4 * weights->tensors[k].count);
            rt_free(name);
        }
        rt_safetensors_close(&file);
        rt_weights_free(&weights);
        rt_free(path);
        rt_free(reference);
    }
    rt_arch arch;
    assert_int_equal(rt_arch_load(&arch, GOLDEN "tiny_llama3", NULL), RT_OK);
    assert_true(arch.head_size == 24 && arch.rope_factor == 8 && arch.rope_original == 32);
    refuse_load(GOLDEN "tiny_qwen2",
                "Qwen2ForCausalLM is not supported; these work: LlamaForCausalLM");
    refuse_load(GOLDEN "tiny_qwen3",
                "Qwen3ForCausalLM is not supported; these work: LlamaForCausalLM");
}

/* A GGUF model saved as a folder keeps its weights and its tokenizer. */
static void golden_gguf_saved(void **state)
{
    (void)state;
    static const char source[] = GOLDEN "tiny_gguf.q8_0.gguf";
    static const char text[] = "The 12 apples<|im_end|>\n\t cost 3.50";
    if (!rt_file_exists(source)) {
        skip();
    }
    rt_weights *weights, *back;
    assert_int_equal(rt_model_load(&weights, source, RT_F32, NULL), RT_OK);
    assert_int_equal(rt_model_save(weights, in_folder("gguf"), source, NULL), RT_OK);
    assert_int_equal(rt_model_load(&back, in_folder("gguf"), RT_F32, NULL), RT_OK);
    assert_true(rt_hash_equal(rt_weights_hash(weights), rt_weights_hash(back)));
    rt_weights_free(&weights);
    rt_weights_free(&back);
    int32_t *ids[2] = {NULL, NULL};
    size_t count[2] = {0, 0}, capacity[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
        rt_tokenizer *tokenizer;
        assert_int_equal(rt_tokenizer_load(&tokenizer, i == 0 ? source : in_folder("gguf"), NULL),
                         RT_OK);
        assert_int_equal(rt_tokenizer_encode(tokenizer, text, strlen(text), &ids[i], &count[i],
                                             &capacity[i], NULL), RT_OK);
        rt_tokenizer_free(&tokenizer);
    }
    assert_true(count[0] > 8 && count[0] == count[1]);
    assert_memory_equal(ids[0], ids[1], count[0] * sizeof(int32_t));
    rt_free(ids[0]);
    rt_free(ids[1]);
    rt_buf config = {0};
    assert_int_equal(rt_file_read(in_folder("gguf/tokenizer_config.json"), 1 << 20, &config, NULL),
                     RT_OK);
    assert_non_null(strstr(config.data, "\"eos_token\": \"<|im_end|>\""));
    assert_non_null(strstr(config.data, "\"chat_template\""));
    rt_buf_free(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(canonical_order), cmocka_unit_test(randomize),
        cmocka_unit_test(round_trip),      cmocka_unit_test(copies_tokenizer),
        cmocka_unit_test(stored_types),    cmocka_unit_test(shards),
        cmocka_unit_test(tied_head),       cmocka_unit_test(wrong_tensors),
        cmocka_unit_test(configs),         cmocka_unit_test(run_folders),
        cmocka_unit_test(golden),          cmocka_unit_test(golden_gguf_saved),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
