/* PEFT folders: adapter_config.json and adapter_model.safetensors, in and out. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "model/adapter.h"

#define CONFIG_BYTES_MAX ((size_t)1 << 20)

/* ---- adapter_config.json ----------------------------------------------------------------------
 */

/* What changes no number of a finished adapter, or is looked at by itself. All else that is set
 * is a form of adapter whose numbers mean something else. */
static const char *const plain_keys[] = {
    "peft_type",           "r",
    "lora_alpha",          "lora_dropout",
    "target_modules",      "base_model_name_or_path",
    "task_type",           "inference_mode",
    "peft_version",        "revision",
    "auto_mapping",        "megatron_core",
    "qalora_group_size",   "loftq_config",
    "eva_config",          "corda_config",
    "lora_ga_config",      "layers_pattern",
    "init_lora_weights",   "bias",
    "ensure_weight_tying",
};

static bool is_set(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_NULL:
    case JSON_FALSE: return false;
    case JSON_OBJECT: return json_object_size(value) > 0;
    case JSON_ARRAY: return json_array_size(value) > 0;
    default: return true;
    }
}

static bool is_plain(const char *key, const json_t *value)
{
    if (strcmp(key, "bias") == 0)
        return json_is_null(value) ||
               (json_is_string(value) && strcmp(json_string_value(value), "none") == 0);
    /* other ways to begin take something out of the base */
    if (strcmp(key, "init_lora_weights") == 0)
        return !json_is_string(value) || strcmp(json_string_value(value), "gaussian") == 0;
    for (size_t i = 0; i < RT_COUNT(plain_keys); i++)
        if (strcmp(plain_keys[i], key) == 0)
            return true;
    return !is_set(value);
}

static int target_of(const char *module)
{
    for (int t = 0; t < RT_LORA_TARGETS; t++) {
        const char *name = rt_target_name(t);
        if (strcmp(module, name) == 0 || strcmp(module, strchr(name, '.') + 1) == 0)
            return t;
    }
    return -1;
}

static int targets_read(const json_t *list, const char *path, rt_lora *lora, rt_error *err)
{
    if (!json_is_array(list))
        return rt_fail(err, RT_ERR_INPUT, "%s: target_modules is no list of module names", path);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        int target = name ? target_of(name) : -1;
        if (target < 0)
            return rt_fail(err, RT_ERR_INPUT,
                           "%s: target module \"%.80s\" gets no adapter here; those "
                           "that do are q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and "
                           "down_proj",
                           path, name ? name : "");
        lora->targets |= 1u << target;
    }
    return RT_OK;
}

static int config_read(const char *path, const json_t *config, rt_lora *lora, rt_error *err)
{
    const char *type = json_string_value(json_object_get(config, "peft_type"));
    const char *key;
    json_t *value;
    if (type == NULL || strcmp(type, "LORA") != 0)
        return rt_fail(err, RT_ERR_INPUT, "%s: peft_type is %.40s, only LORA adapters are read",
                       path, type ? type : "missing");
    json_object_foreach(
        (json_t *)(uintptr_t)config, key,
        value) if (!is_plain(key, value)) return rt_fail(err, RT_ERR_INPUT,
                                                         "%s: %.60s is set, only plain LoRA "
                                                         "adapters are read; "
                                                         "merge this adapter into its base with "
                                                         "PEFT and give the merged model",
                                                         path, key);
    const json_t *rank = json_object_get(config, "r"),
                 *alpha = json_object_get(config, "lora_alpha");
    if (!json_is_integer(rank) || json_integer_value(rank) < 1 || json_integer_value(rank) > 1024 ||
        !json_is_number(alpha))
        return rt_fail(err, RT_ERR_INPUT,
                       "%s: r must be a whole number from 1 to 1024 and lora_alpha "
                       "a number",
                       path);
    *lora = (rt_lora){.rank = (int)json_integer_value(rank), .alpha = json_number_value(alpha)};
    return targets_read(json_object_get(config, "target_modules"), path, lora, err);
}

static char *inside(const char *dir, const char *name)
{
    return rt_format("%s/%s", dir, name);
}

bool rt_peft_is(const char *path)
{
    char *config = inside(path, "adapter_config.json");
    bool is = rt_file_exists(config);
    rt_free(config);
    return is;
}

/* The parsed file (json_decref), NULL and a sentence otherwise. */
static json_t *config_open(const char *dir, char **path, rt_error *err)
{
    rt_buf text = {0};
    *path = inside(dir, "adapter_config.json");
    json_t *config = NULL;
    if (rt_file_read(*path, CONFIG_BYTES_MAX, &text, err) == RT_OK) {
        config = json_loadb(text.data, text.bytes, JSON_REJECT_DUPLICATES, NULL);
        if (!json_is_object(config)) {
            rt_fail(err, RT_ERR_INPUT, "%s is no JSON object", *path);
            json_decref(config);
            config = NULL;
        }
    }
    rt_buf_free(&text);
    return config;
}

static int settings_read(const char *dir, rt_lora *lora, rt_error *err)
{
    char *path;
    json_t *config = config_open(dir, &path, err);
    int code = config != NULL ? config_read(path, config, lora, err)
               : err          ? err->code
                              : RT_ERR_INPUT;
    json_decref(config);
    rt_free(path);
    return code;
}

int rt_peft_base(const char *dir, rt_buf *base, rt_error *err)
{
    char *path;
    json_t *config = config_open(dir, &path, err);
    if (config == NULL) {
        rt_free(path);
        return err ? err->code : RT_ERR_INPUT;
    }
    const char *name = json_string_value(json_object_get(config, "base_model_name_or_path"));
    char *beside = name && name[0] != '/' ? inside(dir, name) : NULL;
    int code = RT_OK;
    rt_buf_clear(base);
    if (beside != NULL && rt_file_exists(beside))
        rt_buf_addf(base, "%s", beside);
    else if (name != NULL && rt_file_exists(name))
        rt_buf_addf(base, "%s", name);
    else
        code = rt_fail(err, RT_ERR_INPUT,
                       "the adapter %s is of the base model \"%.200s\", which is not "
                       "on this machine under that name; give its folder with --base",
                       dir, name ? name : "");
    rt_free(beside);
    json_decref(config);
    rt_free(path);
    return code;
}

/* ---- adapter_model.safetensors ----------------------------------------------------------------
 */

/* "adapter.K." of the table becomes PEFT's "base_model.model.". */
static void peft_name(const rt_tensor *tensor, char *name, size_t bytes)
{
    snprintf(name, bytes, "base_model.model.%s", strstr(tensor->name, "model.layers."));
}

static int tensor_read(const rt_safetensors *file, const char *path, const rt_tensor *tensor,
                       float *to, rt_error *err)
{
    char name[128];
    peft_name(tensor, name, sizeof name);
    const rt_st_tensor *found = rt_safetensors_find(file, name);
    if (found == NULL)
        return rt_fail(err, RT_ERR_INPUT,
                       "%s has no tensor %s: it was made for a base model of "
                       "another depth or form",
                       path, name);
    if (found->dims != 2 || found->shape[0] != tensor->rows || found->shape[1] != tensor->cols ||
        found->dtype == RT_I32)
        return rt_fail(err, RT_ERR_INPUT,
                       "%s: tensor %s is %lld × %lld, this base model needs %d × %d: "
                       "the adapter belongs to another base",
                       path, name, (long long)found->shape[0], (long long)found->shape[1],
                       tensor->rows, tensor->cols);
    rt_words_copy(to, RT_F32, found->data, found->dtype, tensor->count);
    return RT_OK;
}

static int one_load(rt_adapters *adapters, int k, const char *dir, rt_error *err)
{
    const rt_weights *w = adapters->weights;
    int per_adapter = w->tensors_count / adapters->count;
    char *path = inside(dir, "adapter_model.safetensors");
    rt_safetensors *file = NULL;
    int code = rt_safetensors_open(&file, path, err);
    for (int i = k * per_adapter; code == RT_OK && i < (k + 1) * per_adapter; i++)
        code = tensor_read(file, path, &w->tensors[i], (float *)w->data + w->tensors[i].offset,
                           err);
    if (code == RT_OK && rt_safetensors_count(file) != per_adapter)
        code = rt_fail(err, RT_ERR_INPUT,
                       "%s holds %d tensors, its settings and this base model make "
                       "%d: the adapter belongs to another base",
                       path, rt_safetensors_count(file), per_adapter);
    if (file != NULL)
        rt_safetensors_close(&file);
    rt_free(path);
    return code;
}

int rt_peft_load(rt_adapters **adapters, const rt_arch *arch, const char *const *dirs, int count,
                 rt_error *err)
{
    rt_lora lora, other;
    int code = settings_read(dirs[0], &lora, err);
    for (int i = 1; code == RT_OK && i < count; i++) {
        code = settings_read(dirs[i], &other, err);
        if (code == RT_OK && (other.rank != lora.rank || other.targets != lora.targets ||
                              other.alpha < lora.alpha || other.alpha > lora.alpha))
            code = rt_fail(err, RT_ERR_INPUT,
                           "the adapters %s and %s differ in rank, alpha or target "
                           "modules; those used together must agree",
                           dirs[0], dirs[i]);
    }
    rt_adapters *made = NULL;
    if (code == RT_OK)
        code = rt_adapters_new(&made, arch, &lora, count, err);
    for (int i = 0; code == RT_OK && i < count; i++)
        code = one_load(made, i, dirs[i], err);
    if (code != RT_OK)
        rt_adapters_free(&made);
    else
        *adapters = made;
    return code;
}

static int config_write(const rt_lora *lora, double dropout, const char *base, const char *dir,
                        rt_error *err)
{
    json_t *modules = json_array();
    for (int t = 0; t < RT_LORA_TARGETS; t++)
        if (lora->targets >> t & 1)
            json_array_append_new(modules, json_string(strchr(rt_target_name(t), '.') + 1));
    json_t *config = json_pack(
        "{s:s, s:s, s:s, s:i, s:f, s:f, s:o, s:s, s:b, s:b, s:b, s:b, s:b, s:n}", "peft_type",
        "LORA", "task_type", "CAUSAL_LM", "base_model_name_or_path", base, "r", lora->rank,
        "lora_alpha", lora->alpha, "lora_dropout", dropout, "target_modules", modules, "bias",
        "none", "fan_in_fan_out", 0, "inference_mode", 1, "init_lora_weights", 1, "use_dora", 0,
        "use_rslora", 0, "modules_to_save");
    RT_ASSERT(config != NULL);
    char *text = json_dumps(config, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    char *path = inside(dir, "adapter_config.json");
    int code = rt_file_write(path, text, strlen(text), err);
    json_decref(config);
    free(text);
    rt_free(path);
    return code;
}

int rt_peft_save(const rt_adapters *adapters, int adapter, double dropout, const char *base,
                 const char *dir, rt_error *err)
{
    static const char *const metadata[] = {"format", "pt", NULL};
    const rt_weights *w = adapters->weights;
    int count = w->tensors_count / adapters->count;
    RT_ASSERT(adapter >= 0 && adapter < adapters->count);
    rt_st_tensor *list = rt_alloc((size_t)count * sizeof *list);
    char(*names)[128] = rt_alloc((size_t)count * sizeof *names);
    for (int i = 0; i < count; i++) {
        const rt_tensor *t = &w->tensors[adapter * count + i];
        peft_name(t, names[i], sizeof names[i]);
        list[i] = (rt_st_tensor){.name = names[i],
                                 .dtype = RT_F32,
                                 .dims = 2,
                                 .shape = {t->rows, t->cols},
                                 .data = (const float *)w->data + t->offset,
                                 .bytes = t->count * sizeof(float)};
    }
    /* The weights last: a folder that holds them is complete. */
    int code = rt_mkdirs(dir, err);
    if (code == RT_OK)
        code = config_write(&adapters->lora, dropout, base, dir, err);
    char *path = inside(dir, "adapter_model.safetensors");
    if (code == RT_OK)
        code = rt_safetensors_write(path, list, count, metadata, err);
    rt_free(path);
    rt_free(names);
    rt_free(list);
    return code;
}
