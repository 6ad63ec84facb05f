/* hf_config: config.json and generation_config.json of a Hugging Face folder. */
#include "model/files.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Architectures whose forward pass is the one of this program. */
static const char *const known[] = {"LlamaForCausalLM"};
#define KNOWN_TEXT "LlamaForCausalLM"

#define CONFIG_BYTES_MAX ((size_t)16 << 20)

static bool is_given(const json_t *value)
{
    return value != NULL && !json_is_null(value);
}

static int read_int(const json_t *object, const char *key, bool needed, int missing, int *to,
                    rt_error *err)
{
    const json_t *value = json_object_get(object, key);
    if (!is_given(value) && !needed) {
        *to = missing;
        return RT_OK;
    }
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < INT32_MIN || number > INT32_MAX) {
        return rt_fail(err, RT_ERR_INPUT, "config.json: %s must be a whole number", key);
    }
    *to = (int)number;
    return RT_OK;
}

static int read_number(const json_t *object, const char *key, double missing, double *to,
                       rt_error *err)
{
    const json_t *value = json_object_get(object, key);
    if (is_given(value) && !json_is_number(value)) {
        return rt_fail(err, RT_ERR_INPUT, "config.json: %s must be a number", key);
    }
    *to = is_given(value) ? json_number_value(value) : missing;
    return RT_OK;
}

static int check_family(const json_t *config, rt_error *err)
{
    const json_t *list = json_object_get(config, "architectures");
    const char *name = json_string_value(json_array_get(list, 0));
    const char *type = json_string_value(json_object_get(config, "model_type"));
    if (name == NULL && type != NULL && strcmp(type, "llama") == 0) {
        return RT_OK;
    }
    for (size_t i = 0; name != NULL && i < RT_COUNT(known); i++) {
        if (strcmp(name, known[i]) == 0) {
            return RT_OK;
        }
    }
    name = name != NULL ? name : type != NULL ? type : "(none named)";
    return rt_fail(err, RT_ERR_INPUT, "the model's architecture %.80s is not supported; these "
                   "work: " KNOWN_TEXT, name);
}

/* Settings that would change the computation: an unknown one must not be passed over in silence. */
static int check_plain(const json_t *config, rt_error *err)
{
    static const char *const off[] = {"attention_bias", "mlp_bias"};
    for (size_t i = 0; i < RT_COUNT(off); i++) {
        if (json_is_true(json_object_get(config, off[i]))) {
            return rt_fail(err, RT_ERR_INPUT, "config.json: %s true is not supported", off[i]);
        }
    }
    const char *act = json_string_value(json_object_get(config, "hidden_act"));
    if (act != NULL && strcmp(act, "silu") != 0) {
        return rt_fail(err, RT_ERR_INPUT, "config.json: hidden_act %.40s is not supported, only "
                       "silu", act);
    }
    if (is_given(json_object_get(config, "quantization_config"))) {
        return rt_fail(err, RT_ERR_INPUT, "config.json: quantized weights are not supported, use "
                       "the f32, bf16 or f16 version of the model");
    }
    return RT_OK;
}

static int read_scaling(rt_arch *arch, const json_t *rope, rt_error *err)
{
    const json_t *type = json_object_get(rope, "rope_type");
    type = is_given(type) ? type : json_object_get(rope, "type");
    const char *name = is_given(type) ? json_string_value(type) : "default";
    double partial;
    int code = read_number(rope, "partial_rotary_factor", 1, &partial, err);
    if (code != RT_OK) {
        return code;
    }
    if (name == NULL || partial != 1 ||
        (strcmp(name, "default") != 0 && strcmp(name, "llama3") != 0)) {
        return rt_fail(err, RT_ERR_INPUT, "config.json: rotary scaling %.40s is not supported, "
                       "only default and llama3", name == NULL    ? "without a type"
                                                  : partial != 1 ? "of a part of each head"
                                                                 : name);
    }
    if (strcmp(name, "default") == 0) {
        return RT_OK;
    }
    if ((code = read_number(rope, "factor", 0, &arch->rope_factor, err)) != RT_OK ||
        (code = read_number(rope, "low_freq_factor", 0, &arch->rope_low, err)) != RT_OK ||
        (code = read_number(rope, "high_freq_factor", 0, &arch->rope_high, err)) != RT_OK ||
        (code = read_number(rope, "original_max_position_embeddings", arch->context,
                            &arch->rope_original, err)) != RT_OK) {
        return code;
    }
    if (!(arch->rope_factor > 0)) {
        return rt_fail(err, RT_ERR_INPUT, "config.json: llama3 rotary scaling needs a factor "
                       "above 0");
    }
    return RT_OK;
}

/* Older files: rope_theta and rope_scaling at top level; newer ones: both in rope_parameters. */
static int read_rope(rt_arch *arch, const json_t *config, rt_error *err)
{
    int code = read_number(config, "rope_theta", 10000, &arch->rope_theta, err);
    const json_t *scaling = json_object_get(config, "rope_scaling");
    const json_t *parameters = json_object_get(config, "rope_parameters");
    const json_t *rope = is_given(parameters) ? parameters : scaling;
    double partial = 1;
    if (code != RT_OK ||
        (code = read_number(config, "partial_rotary_factor", 1, &partial, err)) != RT_OK) {
        return code;
    }
    if (partial != 1) {
        return rt_fail(err, RT_ERR_INPUT, "config.json: partial_rotary_factor is not supported");
    }
    if (!is_given(rope)) {
        return RT_OK;
    }
    if (!json_is_object(rope)) {
        return rt_fail(err, RT_ERR_INPUT, "config.json: the rotary settings are no object");
    }
    code = read_number(rope, "rope_theta", arch->rope_theta, &arch->rope_theta, err);
    return code != RT_OK ? code : read_scaling(arch, rope, err);
}

static int read_sizes(rt_arch *arch, const json_t *config, rt_error *err)
{
    int code;
    if ((code = read_int(config, "num_hidden_layers", true, 0, &arch->layers, err)) != RT_OK ||
        (code = read_int(config, "hidden_size", true, 0, &arch->d, err)) != RT_OK ||
        (code = read_int(config, "intermediate_size", true, 0, &arch->f, err)) != RT_OK ||
        (code = read_int(config, "num_attention_heads", true, 0, &arch->heads, err)) != RT_OK ||
        (code = read_int(config, "vocab_size", true, 0, &arch->vocab, err)) != RT_OK ||
        (code = read_int(config, "num_key_value_heads", false, arch->heads, &arch->kv_heads,
                         err)) != RT_OK ||
        (code = read_int(config, "max_position_embeddings", false, 2048, &arch->context,
                         err)) != RT_OK) {
        return code;
    }
    int head_size = arch->heads > 0 && arch->d % arch->heads == 0 ? arch->d / arch->heads : 0;
    code = read_int(config, "head_dim", false, head_size, &arch->head_size, err);
    if (code == RT_OK && arch->head_size == 0) {
        code = rt_fail(err, RT_ERR_INPUT, "config.json: hidden_size is no multiple of "
                       "num_attention_heads and there is no head_dim");
    }
    return code;
}

static int add_eos(rt_arch *arch, const json_t *value, rt_error *err)
{
    json_int_t id = json_integer_value(value);
    if (!json_is_integer(value) || id < -1 || id >= INT32_MAX) {
        return rt_fail(err, RT_ERR_INPUT, "eos_token_id must be a token id or a list of them");
    }
    for (int i = 0; i < arch->eos_count; i++) {
        if (arch->eos[i] == (int)id) {
            return RT_OK;
        }
    }
    if (id < 0) {
        return RT_OK;
    }
    if (arch->eos_count == (int)RT_COUNT(arch->eos)) {
        return rt_fail(err, RT_ERR_INPUT, "eos_token_id names more than %zu tokens",
                       RT_COUNT(arch->eos));
    }
    arch->eos[arch->eos_count++] = (int)id;
    return RT_OK;
}

static int read_eos(rt_arch *arch, const json_t *value, rt_error *err)
{
    if (!json_is_array(value)) {
        return is_given(value) ? add_eos(arch, value, err) : RT_OK;
    }
    int code = RT_OK;
    for (size_t i = 0; i < json_array_size(value) && code == RT_OK; i++) {
        code = add_eos(arch, json_array_get(value, i), err);
    }
    return code;
}

static int read_tokens(rt_arch *arch, const json_t *config, rt_error *err)
{
    /* Absent keys have the defaults of the format, 1 and 2; an explicit null means none. */
    const json_t *bos = json_object_get(config, "bos_token_id");
    int code = read_int(config, "bos_token_id", false, bos == NULL ? 1 : -1, &arch->bos, err);
    if (code != RT_OK) {
        return code;
    }
    const json_t *eos = json_object_get(config, "eos_token_id");
    if (eos == NULL) {
        arch->eos[arch->eos_count++] = 2;
        return RT_OK;
    }
    return read_eos(arch, eos, err);
}

static int read_config(rt_arch *arch, const json_t *config, rt_error *err)
{
    int code;
    double norm_eps;
    if ((code = check_family(config, err)) != RT_OK || (code = check_plain(config, err)) != RT_OK ||
        (code = read_sizes(arch, config, err)) != RT_OK ||
        (code = read_rope(arch, config, err)) != RT_OK ||
        (code = read_number(config, "rms_norm_eps", 1e-6, &norm_eps, err)) != RT_OK ||
        (code = read_tokens(arch, config, err)) != RT_OK) {
        return code;
    }
    snprintf(arch->family, sizeof arch->family, "llama");
    arch->norm_eps = norm_eps >= 0 && norm_eps <= 1 ? (float)norm_eps : 0;
    arch->tied = json_is_true(json_object_get(config, "tie_word_embeddings"));
    return rt_arch_check(arch, err);
}

static int load_object(json_t **object, const char *json, size_t bytes, const char *name,
                       rt_error *err)
{
    json_error_t why;
    *object = json_loadb(json, bytes, 0, &why);
    if (json_is_object(*object)) {
        return RT_OK;
    }
    int line = *object == NULL ? why.line : 1;
    json_decref(*object);
    *object = NULL;
    return rt_fail(err, RT_ERR_INPUT, "%s line %d: this is no JSON object", name, line);
}

int rt_hf_arch_parse(rt_arch *arch, const char *json, size_t bytes, rt_error *err)
{
    json_t *config;
    int code = load_object(&config, json, bytes, "config.json", err);
    if (code == RT_OK) {
        rt_arch made = {0};
        code = read_config(&made, config, err);
        *arch = code == RT_OK ? made : *arch;
        json_decref(config);
    }
    return code;
}

/* What generation stops at besides; instruction models often name it only here. */
static int read_generation(rt_arch *arch, const char *path, rt_error *err)
{
    rt_buf text = {0};
    json_t *config = NULL;
    int code = rt_file_read(path, CONFIG_BYTES_MAX, &text, err);
    if (code == RT_OK) {
        code = load_object(&config, text.data, text.bytes, "generation_config.json", err);
    }
    if (code == RT_OK) {
        code = read_eos(arch, json_object_get(config, "eos_token_id"), err);
        json_decref(config);
    }
    rt_buf_free(&text);
    return code;
}

int rt_hf_arch_load(rt_arch *arch, const char *dir, rt_error *err)
{
    char *path = rt_format("%s/config.json", dir);
    rt_buf text = {0};
    int code = rt_file_read(path, CONFIG_BYTES_MAX, &text, err);
    if (code == RT_OK) {
        code = rt_hf_arch_parse(arch, text.data, text.bytes, err);
        if (code != RT_OK) {
            rt_error_prefix(err, "%s", dir);
        }
    }
    rt_buf_free(&text);
    rt_free(path);
    path = rt_format("%s/generation_config.json", dir);
    if (code == RT_OK && rt_file_exists(path)) {
        code = read_generation(arch, path, err);
        if (code != RT_OK) {
            rt_error_prefix(err, "%s", dir);
        }
    }
    rt_free(path);
    return code;
}

/* ---- writing ------------------------------------------------------------------------------ */

/* The shortest decimal that reads back to the same float: 1e-05, not 9.99999975e-06. */
static double shortest(float value)
{
    char text[40];
    for (int digits = 1; digits < 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value) {
            return strtod(text, NULL);
        }
    }
    return (double)value;
}

static json_t *eos_of(const rt_arch *arch)
{
    if (arch->eos_count == 0) {
        return json_null();
    }
    if (arch->eos_count == 1) {
        return json_integer(arch->eos[0]);
    }
    json_t *list = json_array();
    for (int i = 0; i < arch->eos_count; i++) {
        json_array_append_new(list, json_integer(arch->eos[i]));
    }
    return list;
}

static json_t *scaling_of(const rt_arch *arch)
{
    if (arch->rope_factor == 0) {
        return json_null();
    }
    json_t *original = arch->rope_original == floor(arch->rope_original)
                           ? json_integer((json_int_t)arch->rope_original)
                           : json_real(arch->rope_original);
    return json_pack("{s:s, s:f, s:f, s:f, s:o}", "rope_type", "llama3", "factor",
                     arch->rope_factor, "low_freq_factor", arch->rope_low, "high_freq_factor",
                     arch->rope_high, "original_max_position_embeddings", original);
}

void rt_hf_config_write(const rt_arch *arch, int dtype, rt_buf *out)
{
    json_t *config = json_pack(
        "{s:[s], s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:f, s:f, s:o, s:b, s:b, s:b,"
        " s:o, s:o, s:s}",
        "architectures", known[0], "model_type", "llama", "vocab_size", arch->vocab,
        "hidden_size", arch->d, "intermediate_size", arch->f, "num_hidden_layers", arch->layers,
        "num_attention_heads", arch->heads, "num_key_value_heads", arch->kv_heads, "head_dim",
        arch->head_size, "max_position_embeddings", arch->context, "hidden_act", "silu",
        "rms_norm_eps", shortest(arch->norm_eps), "rope_theta", arch->rope_theta, "rope_scaling",
        scaling_of(arch), "tie_word_embeddings", (int)arch->tied, "attention_bias", 0, "mlp_bias",
        0, "bos_token_id", arch->bos < 0 ? json_null() : json_integer(arch->bos), "eos_token_id",
        eos_of(arch), "torch_dtype", dtype == RT_BF16 ? "bfloat16" : "float32");
    RT_ASSERT(config != NULL);
    char *text = json_dumps(config, JSON_INDENT(2));
    json_decref(config);
    rt_buf_addf(out, "%s\n", text);
    free(text);
}
