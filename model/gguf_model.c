/* gguf_model: the llama architecture of a GGUF file as rt_arch and rt_weights. */
#include "model/files.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 32 /* elements of a quantized block */

/* ---- architecture ------------------------------------------------------------------------- */

static int read_size(const rt_gguf *gguf, const char *key, int64_t missing, int *to, rt_error *err)
{
    int64_t value = missing;
    if (rt_gguf_has(gguf, key) && !rt_gguf_integer(gguf, key, &value)) {
        return rt_fail(err, RT_ERR_INPUT, "GGUF key %s is no single whole number, models with "
                       "layers of different sizes are not supported", key);
    }
    if (value < 1 || value > INT32_MAX) {
        return rt_fail(err, RT_ERR_INPUT, "GGUF key %s is missing or out of range", key);
    }
    *to = (int)value;
    return RT_OK;
}

static int check_family(const rt_gguf *gguf, rt_error *err)
{
    const char *name = "(none named)";
    size_t bytes = strlen(name);
    rt_gguf_text(gguf, "general.architecture", &name, &bytes);
    if (bytes == 5 && memcmp(name, "llama", 5) == 0) {
        return RT_OK;
    }
    return rt_fail(err, RT_ERR_INPUT, "the GGUF architecture %.*s is not supported; these work: "
                   "llama", (int)RT_MIN(bytes, 40), name);
}

/* Settings that would change the computation. */
static int check_plain(const rt_gguf *gguf, const rt_arch *arch, rt_error *err)
{
    int64_t number;
    if (rt_gguf_integer(gguf, "llama.expert_count", &number) && number > 0) {
        return rt_fail(err, RT_ERR_INPUT, "GGUF models with experts are not supported");
    }
    const char *text;
    size_t bytes;
    if (rt_gguf_text(gguf, "llama.rope.scaling.type", &text, &bytes) &&
        !(bytes == 4 && memcmp(text, "none", 4) == 0)) {
        return rt_fail(err, RT_ERR_INPUT, "GGUF rotary scaling %.*s is not supported",
                       (int)RT_MIN(bytes, 40), text);
    }
    double scale;
    if (rt_gguf_number(gguf, "llama.rope.scale_linear", &scale) && scale != 1) {
        return rt_fail(err, RT_ERR_INPUT, "GGUF linear rotary scaling is not supported");
    }
    int turned = arch->head_size, value_size = arch->head_size;
    if (rt_gguf_integer(gguf, "llama.rope.dimension_count", &number)) {
        turned = number > INT32_MAX ? 0 : (int)number;
    }
    if (rt_gguf_integer(gguf, "llama.attention.value_length", &number)) {
        value_size = number > INT32_MAX ? 0 : (int)number;
    }
    if (turned != arch->head_size || value_size != arch->head_size) {
        return rt_fail(err, RT_ERR_INPUT, "GGUF models whose rotary or value size differs from "
                       "the head size %d are not supported", arch->head_size);
    }
    return RT_OK;
}

/* The factor by which llama3 scaling divides the frequency theta^(−2i/S). */
static double llama3_factor(const rt_arch *arch, int i)
{
    double wavelength = 2 * M_PI * pow(arch->rope_theta, 2.0 * i / arch->head_size);
    double turns = arch->rope_original / wavelength;
    if (turns < arch->rope_low) {
        return arch->rope_factor;
    }
    if (turns > arch->rope_high) {
        return 1;
    }
    double smooth = (turns - arch->rope_low) / (arch->rope_high - arch->rope_low);
    return 1 / ((1 - smooth) / arch->rope_factor + smooth);
}

static bool factors_match(const rt_arch *arch, const float *factors)
{
    for (int i = 0; i < arch->head_size / 2; i++) {
        double expected = llama3_factor(arch, i);
        /* Converters compute frequencies in float32, off by up to some 1e-6; smoothing multiplies
         * that by at most factor × turns / (high − low) < 100. Another setting is off by tenths. */
        if (!(fabs((double)factors[i] - expected) <= 1e-3 * expected)) {
            return false;
        }
    }
    return true;
}

/* A GGUF file keeps llama3 scaling only as its effect, one factor a frequency. The settings are
 * those of the published models (low 1, high 4) with a length that explains every factor. */
static int read_factors(rt_arch *arch, const rt_gguf *gguf, rt_error *err)
{
    const rt_gguf_tensor *tensor = rt_gguf_tensor_find(gguf, "rope_freqs.weight");
    if (tensor == NULL) {
        return RT_OK;
    }
    if (tensor->dtype != RT_F32 || tensor->count != (uint64_t)arch->head_size / 2) {
        return rt_fail(err, RT_ERR_INPUT, "GGUF tensor rope_freqs.weight is no list of %d F32 "
                       "factors", arch->head_size / 2);
    }
    float *factors = rt_alloc(tensor->bytes);
    memcpy(factors, tensor->data, tensor->bytes);
    float largest = 0;
    bool ones = true;
    for (int i = 0; i < arch->head_size / 2; i++) {
        largest = factors[i] > largest ? factors[i] : largest;
        ones = ones && factors[i] == 1;
    }
    int64_t stated = 0;
    rt_gguf_integer(gguf, "llama.rope.scaling.original_context_length", &stated);
    const double lengths[] = {(double)stated, 8192, 4096, 2048, 16384, 32768};
    bool found = ones;
    for (size_t i = 0; i < RT_COUNT(lengths) && !found; i++) {
        arch->rope_factor = round((double)largest * 1000) / 1000;
        arch->rope_low = 1;
        arch->rope_high = 4;
        arch->rope_original = lengths[i];
        found = lengths[i] > 0 && largest > 0 && factors_match(arch, factors);
    }
    rt_free(factors);
    return found ? RT_OK
                 : rt_fail(err, RT_ERR_INPUT, "GGUF tensor rope_freqs.weight holds rotary scaling "
                           "that is no llama3 scaling: use the model's Hugging Face folder");
}

static void read_tokens(rt_arch *arch, const rt_gguf *gguf)
{
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id",
                                       "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    int64_t id;
    arch->bos = -1;
    if (rt_gguf_integer(gguf, "tokenizer.ggml.bos_token_id", &id) && id >= 0 && id < arch->vocab) {
        arch->bos = (int)id;
    }
    for (size_t i = 0; i < RT_COUNT(ends); i++) {
        bool good = rt_gguf_integer(gguf, ends[i], &id) && id >= 0 && id < arch->vocab;
        for (int k = 0; k < arch->eos_count && good; k++) {
            good = arch->eos[k] != (int)id;
        }
        if (good) {
            arch->eos[arch->eos_count++] = (int)id;
        }
    }
}

static int read_arch(rt_arch *arch, const rt_gguf *gguf, rt_error *err)
{
    int code;
    if ((code = check_family(gguf, err)) != RT_OK ||
        (code = read_size(gguf, "llama.block_count", 0, &arch->layers, err)) != RT_OK ||
        (code = read_size(gguf, "llama.embedding_length", 0, &arch->d, err)) != RT_OK ||
        (code = read_size(gguf, "llama.feed_forward_length", 0, &arch->f, err)) != RT_OK ||
        (code = read_size(gguf, "llama.context_length", 0, &arch->context, err)) != RT_OK ||
        (code = read_size(gguf, "llama.attention.head_count", 0, &arch->heads, err)) != RT_OK ||
        (code = read_size(gguf, "llama.attention.head_count_kv", arch->heads, &arch->kv_heads,
                          err)) != RT_OK ||
        (code = read_size(gguf, "llama.attention.key_length", arch->d / arch->heads,
                          &arch->head_size, err)) != RT_OK ||
        (code = check_plain(gguf, arch, err)) != RT_OK) {
        return code;
    }
    const rt_gguf_tensor *embed = rt_gguf_tensor_find(gguf, "token_embd.weight");
    if (embed == NULL || embed->dims != 2 || embed->shape[1] > INT32_MAX) {
        return rt_fail(err, RT_ERR_INPUT, "GGUF tensor token_embd.weight is missing or damaged");
    }
    double norm_eps = 0;
    arch->rope_theta = 10000;
    rt_gguf_number(gguf, "llama.rope.freq_base", &arch->rope_theta);
    rt_gguf_number(gguf, "llama.attention.layer_norm_rms_epsilon", &norm_eps);
    arch->norm_eps = norm_eps >= 0 && norm_eps <= 1 ? (float)norm_eps : 0;
    arch->vocab = (int)embed->shape[1];
    arch->tied = rt_gguf_tensor_find(gguf, "output.weight") == NULL;
    snprintf(arch->family, sizeof arch->family, "llama");
    code = rt_arch_check(arch, err);
    if (code != RT_OK || (code = read_factors(arch, gguf, err)) != RT_OK) {
        return code;
    }
    read_tokens(arch, gguf);
    return rt_arch_check(arch, err);
}

int rt_gguf_arch(rt_arch *arch, const rt_gguf *gguf, rt_error *err)
{
    rt_arch made = {0};
    int code = read_arch(&made, gguf, err);
    *arch = code == RT_OK ? made : *arch;
    return code;
}

/* ---- weights ------------------------------------------------------------------------------ */

static float half_at(const uint8_t *data)
{
    return rt_from_f16((uint16_t)(data[0] | data[1] << 8));
}

/* One block: scale d, for Q4_1 also minimum m, then the numbers; the low halves of the 16 bytes
 * are elements 0–15, the high halves 16–31. */
static void expand_block(const uint8_t *block, int dtype, float *to)
{
    float d = half_at(block);
    if (dtype == RT_Q8_0) {
        for (int i = 0; i < BLOCK; i++) {
            to[i] = d * (float)(int8_t)block[2 + i];
        }
        return;
    }
    float m = dtype == RT_Q4_1 ? half_at(block + 2) : 0;
    const uint8_t *packed = block + (dtype == RT_Q4_1 ? 4 : 2);
    for (int i = 0; i < BLOCK; i++) {
        int number = i < BLOCK / 2 ? packed[i] & 15 : packed[i - BLOCK / 2] >> 4;
        to[i] = dtype == RT_Q4_1 ? d * (float)number + m : d * (float)(number - 8);
    }
}

static void expand_row(const uint8_t *row, int dtype, int cols, float *to)
{
    size_t block = dtype == RT_Q8_0 ? 34 : dtype == RT_Q4_1 ? 20 : 18;
    if (dtype == RT_F32 || dtype == RT_F16 || dtype == RT_BF16) {
        rt_words_copy(to, RT_F32, row, dtype, (size_t)cols);
        return;
    }
    for (int i = 0; i < cols / BLOCK; i++) {
        expand_block(row + (size_t)i * block, dtype, to + (size_t)i * BLOCK);
    }
}

/* In a head llama.cpp turns neighbours (2i, 2i+1), Hugging Face i and i + S/2. */
static int stored_row(int row, int head_size, bool turned)
{
    if (!turned) {
        return row;
    }
    int head = row / head_size, within = row % head_size, half = head_size / 2;
    return head * head_size + 2 * (within % half) + within / half;
}

/* The GGUF name of a Hugging Face tensor. */
static void name_of(const char *name, char *to, size_t capacity)
{
    static const char *const parts[][2] = {
        {"input_layernorm", "attn_norm"}, {"self_attn.q_proj", "attn_q"},
        {"self_attn.k_proj", "attn_k"},   {"self_attn.v_proj", "attn_v"},
        {"self_attn.o_proj", "attn_output"}, {"post_attention_layernorm", "ffn_norm"},
        {"mlp.gate_proj", "ffn_gate"},    {"mlp.up_proj", "ffn_up"},
        {"mlp.down_proj", "ffn_down"},
    };
    int layer, used = 0;
    if (sscanf(name, "model.layers.%d.%n", &layer, &used) == 1 && used > 0) {
        for (size_t i = 0; i < RT_COUNT(parts); i++) {
            size_t bytes = strlen(parts[i][0]);
            if (strncmp(name + used, parts[i][0], bytes) == 0 && name[used + bytes] == '.' &&
                strcmp(name + used + bytes, ".weight") == 0) {
                snprintf(to, capacity, "blk.%d.%s.weight", layer, parts[i][1]);
                return;
            }
        }
    }
    snprintf(to, capacity, "%s", strcmp(name, "model.norm.weight") == 0  ? "output_norm.weight"
                                 : strcmp(name, "lm_head.weight") == 0 ? "output.weight"
                                                                       : "token_embd.weight");
}

static int check_one(const rt_gguf *gguf, const rt_tensor *tensor, rt_error *err)
{
    char name[96];
    name_of(tensor->name, name, sizeof name);
    const rt_gguf_tensor *found = rt_gguf_tensor_find(gguf, name);
    if (found == NULL) {
        return rt_fail(err, RT_ERR_INPUT, "GGUF tensor %s is missing", name);
    }
    if (found->dtype < 0 || found->dtype == RT_I32) {
        return rt_fail(err, RT_ERR_INPUT, "GGUF tensor %s has storage type %u; F32, F16, BF16, "
                       "Q8_0, Q4_0 and Q4_1 are read: fetch one of those", name,
                       found->ggml_type);
    }
    uint64_t rows = (uint64_t)tensor->rows, cols = (uint64_t)tensor->cols;
    bool vector = rt_tensor_is_vector(tensor);
    if (found->dims != (vector ? 1 : 2) || found->shape[0] != (vector ? rows : cols) ||
        (!vector && found->shape[1] != rows)) {
        return rt_fail(err, RT_ERR_INPUT, "GGUF tensor %s has %llu rows of %llu, the metadata "
                       "mean %d of %d", name, (unsigned long long)found->shape[1],
                       (unsigned long long)found->shape[0], vector ? 1 : tensor->rows,
                       vector ? tensor->rows : tensor->cols);
    }
    return RT_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

static int check_all(const rt_gguf *gguf, const rt_arch *arch, rt_error *err)
{
    rt_tensor *tensors;
    int count;
    size_t elements;
    int code = rt_weights_table(arch, &tensors, &count, &elements, err);
    if (code != RT_OK) {
        return code;
    }
    char(*names)[96] = rt_alloc((size_t)count * sizeof *names);
    for (int i = 0; i < count && code == RT_OK; i++) {
        name_of(tensors[i].name, names[i], sizeof names[i]);
        code = check_one(gguf, &tensors[i], err);
    }
    qsort(names, (size_t)count, sizeof *names, compare_names);
    for (int i = 0; i < rt_gguf_tensors_count(gguf) && code == RT_OK; i++) {
        const char *name = rt_gguf_tensor_at(gguf, i)->name;
        if (strcmp(name, "rope_freqs.weight") != 0 &&
            bsearch(name, names, (size_t)count, sizeof *names, compare_names) == NULL) {
            code = rt_fail(err, RT_ERR_INPUT, "GGUF tensor %s is not part of this architecture",
                           name);
        }
    }
    rt_free(names);
    rt_free(tensors);
    return code;
}

static void copy_one(rt_weights *weights, const rt_tensor *tensor, const rt_gguf_tensor *from,
                     float *row)
{
    bool vector = rt_tensor_is_vector(tensor);
    int rows = vector ? 1 : tensor->rows, cols = vector ? tensor->rows : tensor->cols;
    bool turned = strstr(tensor->name, ".q_proj.") != NULL || strstr(tensor->name, ".k_proj.");
    size_t row_bytes = from->bytes / (size_t)rows, word = rt_dtype_bytes(weights->dtype);
    char *to = (char *)weights->data + tensor->offset * word;
    for (int i = 0; i < rows; i++) {
        int stored = stored_row(i, weights->arch.head_size, turned);
        expand_row((const uint8_t *)from->data + (size_t)stored * row_bytes, from->dtype, cols,
                   row);
        rt_words_copy(to + (size_t)i * (size_t)cols * word, weights->dtype, row, RT_F32,
                      (size_t)cols);
    }
}

int rt_gguf_weights(rt_weights **weights, const rt_gguf *gguf, int dtype, rt_error *err)
{
    rt_arch arch;
    int code = rt_gguf_arch(&arch, gguf, err);
    if (code != RT_OK || (code = check_all(gguf, &arch, err)) != RT_OK ||
        (code = rt_weights_new(weights, &arch, dtype, err)) != RT_OK) {
        return code;
    }
    size_t widest = (size_t)RT_MAX(RT_MAX(arch.d, arch.f), arch.heads * arch.head_size);
    float *row = rt_alloc(widest * sizeof *row);
    for (int i = 0; i < (*weights)->tensors_count; i++) {
        const rt_tensor *tensor = &(*weights)->tensors[i];
        char name[96];
        name_of(tensor->name, name, sizeof name);
        copy_one(*weights, tensor, rt_gguf_tensor_find(gguf, name), row);
    }
    rt_free(row);
    return RT_OK;
}
