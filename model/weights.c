/* weights: one flat vector, the table that names its parts, and what can be done to all of it. */
#include "model/files.h"

#include <math.h>
#include <string.h>

/* Beyond these no network of this kind exists; within them no product below overflows. */
#define LAYERS_MAX 1024
#define SIZE_MAX_ARCH (1 << 24)
#define ELEMENTS_MAX ((size_t)1 << 42)

static int check_size(const char *what, int value, int most, rt_error *err)
{
    if (value >= 1 && value <= most) {
        return RT_OK;
    }
    return rt_fail(err, RT_ERR_INPUT, "the model's %s is %d, it must be 1 to %d", what, value,
                   most);
}

int rt_arch_check(const rt_arch *arch, rt_error *err)
{
    const struct { const char *what; int value, most; } sizes[] = {
        {"number of layers", arch->layers, LAYERS_MAX},
        {"hidden size", arch->d, SIZE_MAX_ARCH},
        {"intermediate size", arch->f, SIZE_MAX_ARCH},
        {"number of attention heads", arch->heads, 4096},
        {"number of key-value heads", arch->kv_heads, 4096},
        {"head size", arch->head_size, 4096},
        {"vocabulary size", arch->vocab, SIZE_MAX_ARCH},
        {"context length", arch->context, 1 << 30},
    };
    for (size_t i = 0; i < RT_COUNT(sizes); i++) {
        int code = check_size(sizes[i].what, sizes[i].value, sizes[i].most, err);
        if (code != RT_OK) {
            return code;
        }
    }
    if (arch->head_size % 2 != 0) {
        return rt_fail(err, RT_ERR_INPUT, "the model's head size %d is odd, rotary positions need "
                       "an even one", arch->head_size);
    }
    if (arch->heads % arch->kv_heads != 0) {
        return rt_fail(err, RT_ERR_INPUT, "the model's %d attention heads are no multiple of its "
                       "%d key-value heads", arch->heads, arch->kv_heads);
    }
    if (!(arch->norm_eps > 0) || !isfinite(arch->norm_eps) || !(arch->rope_theta > 0) ||
        !isfinite(arch->rope_theta)) {
        return rt_fail(err, RT_ERR_INPUT, "the model's norm epsilon and rotary base must be "
                       "positive numbers");
    }
    bool scaled = arch->rope_factor > 0 && arch->rope_low > 0 && arch->rope_original > 0 &&
                  arch->rope_high > arch->rope_low && isfinite(arch->rope_factor) &&
                  isfinite(arch->rope_high) && isfinite(arch->rope_original);
    if (arch->rope_factor != 0 && !scaled) {
        return rt_fail(err, RT_ERR_INPUT, "the model's llama3 rotary scaling needs a positive "
                       "factor, original length and low frequency factor, and a larger high one");
    }
    return RT_OK;
}

typedef struct table {
    rt_tensor *tensors;
    int count;
    size_t elements;
} table;

static void add_tensor(table *to, const char *name, int rows, int cols)
{
    rt_tensor *tensor = &to->tensors[to->count++];
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    tensor->rows = rows;
    tensor->cols = cols;
    tensor->offset = to->elements;
    tensor->count = (size_t)rows * (size_t)cols;
    to->elements += tensor->count;
}

static void add_layer(table *to, const rt_arch *arch, int layer)
{
    int q = arch->heads * arch->head_size, k = arch->kv_heads * arch->head_size;
    const struct { const char *name; int rows, cols; } parts[] = {
        {"input_layernorm", arch->d, 1},
        {"self_attn.q_proj", q, arch->d},
        {"self_attn.k_proj", k, arch->d},
        {"self_attn.v_proj", k, arch->d},
        {"self_attn.o_proj", arch->d, q},
        {"post_attention_layernorm", arch->d, 1},
        {"mlp.gate_proj", arch->f, arch->d},
        {"mlp.up_proj", arch->f, arch->d},
        {"mlp.down_proj", arch->d, arch->f},
    };
    for (size_t i = 0; i < RT_COUNT(parts); i++) {
        char name[96];
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, parts[i].name);
        add_tensor(to, name, parts[i].rows, parts[i].cols);
    }
}

int rt_weights_table(const rt_arch *arch, rt_tensor **tensors, int *tensors_count, size_t *elements,
                     rt_error *err)
{
    int code = rt_arch_check(arch, err);
    if (code != RT_OK) {
        return code;
    }
    table made = {.tensors = rt_alloc((size_t)(3 + 9 * arch->layers) * sizeof(rt_tensor))};
    add_tensor(&made, "model.embed_tokens.weight", arch->vocab, arch->d);
    for (int layer = 0; layer < arch->layers; layer++) {
        add_layer(&made, arch, layer);
    }
    add_tensor(&made, "model.norm.weight", arch->d, 1);
    if (!arch->tied) {
        add_tensor(&made, "lm_head.weight", arch->vocab, arch->d);
    }
    if (made.elements > ELEMENTS_MAX) {
        rt_free(made.tensors);
        return rt_fail(err, RT_ERR_INPUT, "the model's sizes make %zu parameters, more than any "
                       "machine holds: its configuration is damaged", made.elements);
    }
    *tensors = made.tensors;
    *tensors_count = made.count;
    *elements = made.elements;
    return RT_OK;
}

int rt_weights_new(rt_weights **weights, const rt_arch *arch, int dtype, rt_error *err)
{
    RT_ASSERT(dtype == RT_F32 || dtype == RT_BF16);
    rt_weights made = {.arch = *arch, .dtype = dtype};
    int code = rt_weights_table(arch, &made.tensors, &made.tensors_count, &made.count, err);
    if (code != RT_OK) {
        return code;
    }
    made.data = rt_alloc(rt_weights_bytes(&made));
    *weights = rt_alloc(sizeof **weights);
    **weights = made;
    return RT_OK;
}

void rt_weights_free(rt_weights **weights)
{
    if (*weights != NULL) {
        rt_free((*weights)->tensors);
        rt_free((*weights)->data);
        rt_free(*weights);
        *weights = NULL;
    }
}

const rt_tensor *rt_weights_find(const rt_weights *weights, const char *name)
{
    for (int i = 0; i < weights->tensors_count; i++) {
        if (strcmp(weights->tensors[i].name, name) == 0) {
            return &weights->tensors[i];
        }
    }
    return NULL;
}

static bool ends_with(const char *text, const char *end)
{
    size_t text_bytes = strlen(text), end_bytes = strlen(end);
    return text_bytes >= end_bytes && strcmp(text + text_bytes - end_bytes, end) == 0;
}

bool rt_tensor_is_vector(const rt_tensor *tensor)
{
    return ends_with(tensor->name, "norm.weight");
}

size_t rt_dtype_bytes(int dtype)
{
    RT_ASSERT(dtype == RT_F32 || dtype == RT_I32 || dtype == RT_BF16 || dtype == RT_F16);
    return dtype == RT_F32 || dtype == RT_I32 ? 4 : 2;
}

size_t rt_weights_bytes(const rt_weights *weights)
{
    return weights->count * rt_dtype_bytes(weights->dtype);
}

void rt_weights_randomize(rt_weights *weights, uint64_t seed)
{
    /* What adds to the residual stream shrinks with depth, so that its variance does not grow. */
    double output = 1.0 / sqrt(2.0 * weights->arch.layers);
    for (int i = 0; i < weights->tensors_count; i++) {
        const rt_tensor *tensor = &weights->tensors[i];
        bool ones = rt_tensor_is_vector(tensor);
        bool adds = ends_with(tensor->name, ".o_proj.weight") ||
                    ends_with(tensor->name, ".down_proj.weight");
        /* 1/sqrt(inputs) keeps a row's size through every matrix, whatever the width: the usual 0.02 is
         * that of a model of width 2500 and leaves a small one without signal for hundreds of steps. */
        double inputs = ones ? 1.0 : (double)tensor->cols;
        float deviation = (float)((adds ? output : 1.0) / sqrt(inputs));
        for (size_t k = 0; k < tensor->count; k++) {
            float value = ones ? 1.0f : deviation * rt_normal(seed, (uint64_t)i, k);
            if (weights->dtype == RT_F32) {
                ((float *)weights->data)[tensor->offset + k] = value;
            } else {
                ((uint16_t *)weights->data)[tensor->offset + k] = rt_to_bf16(value);
            }
        }
    }
}

static float word_at(const uint8_t *from, int dtype, size_t index)
{
    float value;
    uint16_t half;
    if (dtype == RT_F32) {
        memcpy(&value, from + 4 * index, sizeof value);
        return value;
    }
    memcpy(&half, from + 2 * index, sizeof half);
    return dtype == RT_BF16 ? rt_from_bf16(half) : rt_from_f16(half);
}

void rt_words_copy(void *to, int to_dtype, const void *from, int from_dtype, size_t count)
{
    if (to_dtype == from_dtype) {
        memcpy(to, from, count * rt_dtype_bytes(to_dtype));
        return;
    }
    if (to_dtype == RT_F32) {
        float *words = to;
        for (size_t i = 0; i < count; i++) {
            words[i] = word_at(from, from_dtype, i);
        }
    } else {
        uint16_t *words = to;
        for (size_t i = 0; i < count; i++) {
            words[i] = rt_to_bf16(word_at(from, from_dtype, i));
        }
    }
}

void rt_weights_convert(rt_weights *to, const rt_weights *from)
{
    RT_ASSERT(to->count == from->count && to->tensors_count == from->tensors_count);
    rt_words_copy(to->data, to->dtype, from->data, from->dtype, from->count);
}

rt_hash128 rt_weights_hash(const rt_weights *weights)
{
    const rt_arch *arch = &weights->arch;
    rt_hash128 words = rt_hash(weights->data, rt_weights_bytes(weights));
    /* As text: the bytes of a struct hold padding, and hex floats are exact. */
    rt_buf text = {0};
    rt_buf_addf(&text, "%s %d %d %d %d %d %d %d %d %a %d %a %a %a %a %a %d", arch->family,
                arch->layers, arch->d, arch->f, arch->heads, arch->kv_heads, arch->head_size,
                arch->vocab, arch->context, (double)arch->norm_eps, (int)arch->tied,
                arch->rope_theta, arch->rope_factor, arch->rope_low, arch->rope_high,
                arch->rope_original, arch->bos);
    for (int i = 0; i < arch->eos_count; i++) {
        rt_buf_addf(&text, " %d", arch->eos[i]);
    }
    rt_buf_addf(&text, " %d %016llx %016llx", weights->dtype, (unsigned long long)words.low,
                (unsigned long long)words.high);
    rt_hash128 hash = rt_hash(text.data, text.bytes);
    rt_buf_free(&text);
    return hash;
}
