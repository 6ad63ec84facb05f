/* GGUF: models written here in every storage type, read back to the floats the format defines. */
#include "model/files.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GOLDEN "../shared/golden/"

/* ---- a small writer ----------------------------------------------------------------------- */

enum { F32 = 0, F16 = 1, Q4_0 = 2, Q4_1 = 3, Q8_0 = 8, Q6_K = 14, BF16 = 30 };

typedef struct plan {
    int type;             /* storage of matrices */
    const char *family;   /* NULL: llama */
    const char *without;  /* this tensor is left out */
    const char *besides;  /* one more tensor of this name */
    const char *again;    /* this key is written twice */
    const float *factors; /* rope_freqs.weight */
    int tensor_cut;       /* rows the first q is short of */
    uint64_t shift;       /* taken from the offset of the last tensor */
} plan;

static const rt_arch arch = {
    .family = "llama", .layers = 2, .d = 64, .f = 96, .heads = 4, .kv_heads = 2, .head_size = 16,
    .vocab = 40, .context = 128, .norm_eps = 1e-5f, .tied = false, .rope_theta = 500000,
    .bos = 1, .eos = {2, 5}, .eos_count = 2,
};

static void put(rt_buf *out, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        uint8_t byte = (uint8_t)(value >> (8 * i));
        rt_buf_add(out, &byte, 1);
    }
}

static void put_text(rt_buf *out, const char *text)
{
    put(out, strlen(text), 8);
    rt_buf_add(out, text, strlen(text));
}

static void put_f32(rt_buf *out, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    put(out, bits, 4);
}

static void put_key(rt_buf *out, int *keys, const char *key, int type)
{
    put_text(out, key);
    put(out, (uint64_t)type, 4);
    ++*keys;
}

static void put_u32(rt_buf *out, int *keys, const char *key, int value)
{
    put_key(out, keys, key, RT_GGUF_U32);
    put(out, (uint64_t)value, 4);
}

static void put_keys(rt_buf *out, int *keys, const plan *as)
{
    put_key(out, keys, "general.architecture", RT_GGUF_STRING);
    put_text(out, as->family != NULL ? as->family : "llama");
    put_u32(out, keys, "llama.block_count", arch.layers);
    put_u32(out, keys, "llama.embedding_length", arch.d);
    put_u32(out, keys, "llama.feed_forward_length", arch.f);
    put_u32(out, keys, "llama.context_length", arch.context);
    put_u32(out, keys, "llama.attention.head_count", arch.heads);
    put_u32(out, keys, "llama.attention.head_count_kv", arch.kv_heads);
    put_key(out, keys, "llama.attention.layer_norm_rms_epsilon", RT_GGUF_F32);
    put_f32(out, arch.norm_eps);
    put_key(out, keys, "llama.rope.freq_base", RT_GGUF_F32);
    put_f32(out, (float)arch.rope_theta);
    put_key(out, keys, "tokenizer.ggml.tokens", RT_GGUF_ARRAY);
    put(out, RT_GGUF_STRING, 4);
    put(out, 3, 8);
    put_text(out, "one");
    put_text(out, "");
    put_text(out, "three");
    put_key(out, keys, "numbers", RT_GGUF_ARRAY);
    put(out, RT_GGUF_I16, 4);
    put(out, 2, 8);
    put(out, (uint16_t)-5, 2);
    put(out, 7, 2);
    put_key(out, keys, "yes", RT_GGUF_BOOL);
    put(out, 1, 1);
    put_u32(out, keys, "tokenizer.ggml.bos_token_id", arch.bos);
    put_u32(out, keys, "tokenizer.ggml.eos_token_id", arch.eos[0]);
    put_u32(out, keys, "tokenizer.ggml.eot_token_id", arch.eos[1]);
    if (as->again != NULL) {
        put_u32(out, keys, as->again, 1);
    }
}

/* Numbers of the blocks: exact in every type, so that the writer needs no quantizer. */
static int number_of(int tensor, int row, int col)
{
    return (int)rt_below(1, (uint64_t)tensor, (uint64_t)row * 1000 + (uint64_t)col, 16);
}

static float scale_of(int tensor, int row, int block)
{
    return rt_from_f16((uint16_t)(0x2000 + rt_below(2, (uint64_t)tensor,
                                                    (uint64_t)row * 100 + (uint64_t)block, 2048)));
}

static float least_of(int tensor, int row, int block)
{
    return rt_from_f16((uint16_t)(0xa000 + rt_below(3, (uint64_t)tensor,
                                                    (uint64_t)row * 100 + (uint64_t)block, 2048)));
}

/* What the format defines for an element: d·q, d·(q − 8), d·q + m, each in float. */
static float value_of(int type, int tensor, int row, int col)
{
    int number = number_of(tensor, row, col);
    float d = scale_of(tensor, row, col / 32), m = least_of(tensor, row, col / 32);
    switch (type) {
    case Q8_0: return d * (float)(number * 16 - 120);
    case Q4_0: return d * (float)(number - 8);
    case Q4_1: return d * (float)number + m;
    case F32: return d * (float)number + 0.1f;
    case F16: return d;
    default: return (float)number * 0.0625f;
    }
}

static void put_block(rt_buf *out, int type, int tensor, int row, int block)
{
    put(out, rt_to_f16(scale_of(tensor, row, block)), 2);
    if (type == Q4_1) {
        put(out, rt_to_f16(least_of(tensor, row, block)), 2);
    }
    for (int i = 0; i < (type == Q8_0 ? 32 : 16); i++) {
        int low = number_of(tensor, row, 32 * block + i);
        int high = number_of(tensor, row, 32 * block + i + 16);
        put(out, type == Q8_0 ? (uint8_t)(low * 16 - 120) : (uint64_t)(low | high << 4), 1);
    }
}

static void put_row(rt_buf *out, int type, int tensor, int row, int cols)
{
    bool blocks = type == Q8_0 || type == Q4_0 || type == Q4_1;
    for (int i = 0; blocks && i < cols / 32; i++) {
        put_block(out, type, tensor, row, i);
    }
    for (int i = 0; !blocks && i < cols; i++) {
        float value = value_of(type, tensor, row, i);
        if (type == F32) {
            put_f32(out, value);
        } else {
            put(out, type == F16 ? rt_to_f16(value) : rt_to_bf16(value), 2);
        }
    }
}

/* Hugging Face row that stands at a row of a GGUF q or k: halves become neighbours. */
static int row_at(int stored, bool turned)
{
    int size = arch.head_size, within = stored % size;
    return turned ? stored - within + within / 2 + (within % 2) * size / 2 : stored;
}

static void name_of(int index, int count, char name[64])
{
    static const char *const parts[] = {"attn_norm", "attn_q", "attn_k", "attn_v", "attn_output",
                                        "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"};
    if (index == 0 || index >= count - 2) {
        snprintf(name, 64, "%s.weight", index == 0             ? "token_embd"
                                        : index == count - 2 ? "output_norm"
                                                             : "output");
    } else {
        snprintf(name, 64, "blk.%d.%s.weight", (index - 1) / 9, parts[(index - 1) % 9]);
    }
}

static void put_entry(rt_buf *table, rt_buf *data, const char *name, int rows, int cols, int type,
                      uint64_t shift)
{
    put_text(table, name);
    put(table, cols > 1 ? 2 : 1, 4);
    if (cols > 1) {
        put(table, (uint64_t)cols, 8);
    }
    put(table, (uint64_t)rows, 8);
    put(table, (uint64_t)type, 4);
    while (data->bytes % 32 != 0) {
        put(data, 0, 1);
    }
    put(table, data->bytes - shift, 8);
}

static int put_tensors(rt_buf *table, rt_buf *data, const plan *as)
{
    rt_tensor *tensors;
    int count, written = 0;
    size_t elements;
    assert_int_equal(rt_weights_table(&arch, &tensors, &count, &elements, NULL), RT_OK);
    for (int t = 0; t < count; t++) {
        char name[64];
        name_of(t, count, name);
        if (as->without != NULL && strcmp(as->without, name) == 0) {
            continue;
        }
        bool vector = tensors[t].cols == 1, turned = strstr(name, "_q.") || strstr(name, "_k.");
        int rows = tensors[t].rows - (strcmp(name, "blk.0.attn_q.weight") == 0 ? as->tensor_cut
                                                                               : 0);
        int type = vector ? F32 : as->type;
        put_entry(table, data, name, rows, tensors[t].cols, type, t == count - 1 ? as->shift : 0);
        for (int i = 0; i < (vector ? 1 : rows); i++) {
            put_row(data, type, t, row_at(i, turned), vector ? rows : tensors[t].cols);
        }
        written++;
    }
    if (as->besides != NULL) {
        put_entry(table, data, as->besides, 4, 1, F32, 0);
        put(data, 0, 8);
        put(data, 0, 8);
        written++;
    }
    if (as->factors != NULL) {
        put_entry(table, data, "rope_freqs.weight", arch.head_size / 2, 1, F32, 0);
        for (int i = 0; i < arch.head_size / 2; i++) {
            put_f32(data, as->factors[i]);
        }
        written++;
    }
    rt_free(tensors);
    return written;
}

static rt_buf make_file(const plan *as)
{
    rt_buf file = {0}, keys = {0}, table = {0}, data = {0};
    int keys_count = 0;
    put_keys(&keys, &keys_count, as);
    int tensors = put_tensors(&table, &data, as);
    rt_buf_add(&file, "GGUF", 4);
    put(&file, 3, 4);
    put(&file, (uint64_t)tensors, 8);
    put(&file, (uint64_t)keys_count, 8);
    rt_buf_add(&file, keys.data, keys.bytes);
    rt_buf_add(&file, table.data, table.bytes);
    while (file.bytes % 32 != 0) {
        put(&file, 0, 1);
    }
    rt_buf_add(&file, data.data, data.bytes);
    rt_buf_free(&keys);
    rt_buf_free(&table);
    rt_buf_free(&data);
    return file;
}

/* ---- tests -------------------------------------------------------------------------------- */

static void metadata(void **state)
{
    (void)state;
    rt_buf file = make_file(&(plan){.type = F32});
    rt_gguf *gguf;
    assert_int_equal(rt_gguf_parse(&gguf, file.data, file.bytes, NULL), RT_OK);
    const char *text;
    size_t bytes;
    int64_t integer;
    double number;
    rt_gguf_array array;
    assert_true(rt_gguf_text(gguf, "general.architecture", &text, &bytes));
    assert_int_equal(bytes, 5);
    assert_memory_equal(text, "llama", 5);
    assert_false(rt_gguf_integer(gguf, "general.architecture", &integer));
    assert_false(rt_gguf_has(gguf, "general.architectur"));
    assert_true(rt_gguf_integer(gguf, "yes", &integer) && integer == 1);
    assert_false(rt_gguf_integer(gguf, "llama.rope.freq_base", &integer));
    assert_true(rt_gguf_number(gguf, "llama.rope.freq_base", &number) && number == 500000);
    assert_true(rt_gguf_number(gguf, "llama.block_count", &number) && number == 2);
    assert_true(rt_gguf_array_find(gguf, "tokenizer.ggml.tokens", &array));
    assert_int_equal(array.count, 3);
    text = rt_gguf_array_text(&array, 1, &bytes);
    assert_int_equal(bytes, 0);
    text = rt_gguf_array_text(&array, 2, &bytes);
    assert_int_equal(bytes, 5);
    assert_memory_equal(text, "three", 5);
    assert_true(rt_gguf_array_find(gguf, "numbers", &array));
    assert_int_equal(rt_gguf_array_integer(&array, 0), -5);
    assert_true(rt_gguf_array_number(&array, 1) == 7);
    rt_gguf_close(&gguf);
    rt_buf_free(&file);
}

static void every_type(void **state)
{
    (void)state;
    static const int types[] = {F32, F16, BF16, Q8_0, Q4_0, Q4_1};
    for (size_t k = 0; k < RT_COUNT(types); k++) {
        rt_buf file = make_file(&(plan){.type = types[k]});
        rt_gguf *gguf;
        rt_weights *weights, *rounded;
        assert_int_equal(rt_gguf_parse(&gguf, file.data, file.bytes, NULL), RT_OK);
        assert_int_equal(rt_gguf_weights(&weights, gguf, RT_F32, NULL), RT_OK);
        assert_int_equal(rt_gguf_weights(&rounded, gguf, RT_BF16, NULL), RT_OK);
        assert_memory_equal(&weights->arch, &arch, sizeof arch);
        const float *words = weights->data;
        for (int t = 0; t < weights->tensors_count; t++) {
            const rt_tensor *tensor = &weights->tensors[t];
            int rows = tensor->cols == 1 ? 1 : tensor->rows;
            int cols = tensor->cols == 1 ? tensor->rows : tensor->cols;
            int type = tensor->cols == 1 ? F32 : types[k];
            for (int i = 0; i < rows * cols; i++) {
                float value = value_of(type, t, i / cols, i % cols);
                size_t at = tensor->offset + (size_t)i;
                assert_memory_equal(&words[at], &value, sizeof value);
                assert_int_equal(((uint16_t *)rounded->data)[at], rt_to_bf16(value));
            }
        }
        rt_weights_free(&weights);
        rt_weights_free(&rounded);
        rt_gguf_close(&gguf);
        rt_buf_free(&file);
    }
}

static void refuse(const void *data, size_t bytes, const char *part)
{
    rt_gguf *gguf = NULL;
    rt_weights *weights = NULL;
    rt_error err = {0};
    int code = rt_gguf_parse(&gguf, data, bytes, &err);
    if (code == RT_OK) {
        code = rt_gguf_weights(&weights, gguf, RT_F32, &err);
        rt_gguf_close(&gguf);
    }
    assert_int_equal(code, RT_ERR_INPUT);
    assert_null(weights);
    if (strstr(err.message, part) == NULL) {
        fail_msg("expected \"%s\" in \"%s\"", part, err.message);
    }
}

static void refuse_plan(plan as, const char *part)
{
    rt_buf file = make_file(&as);
    refuse(file.data, file.bytes, part);
    rt_buf_free(&file);
}

static void damaged(void **state)
{
    (void)state;
    refuse_plan((plan){.family = "qwen2"}, "qwen2 is not supported; these work: llama");
    refuse_plan((plan){.without = "blk.1.ffn_up.weight"}, "blk.1.ffn_up.weight is missing");
    refuse_plan((plan){.without = "token_embd.weight"}, "token_embd.weight is missing");
    refuse_plan((plan){.besides = "blk.0.attn_q.bias"}, "blk.0.attn_q.bias is not part");
    refuse_plan((plan){.besides = "blk.0.attn_q.weight"}, "blk.0.attn_q.weight occurs twice");
    refuse_plan((plan){.again = "llama.block_count"}, "\"llama.block_count\" occurs twice");
    refuse_plan((plan){.again = "general.alignment", .tensor_cut = 1}, "attn_q.weight has 63 rows");
    refuse_plan((plan){.shift = 32}, "overlap");
    refuse_plan((plan){.shift = 4}, "no multiple of the file's alignment");
    refuse_plan((plan){.type = Q6_K}, "storage type 14; F32, F16, BF16, Q8_0, Q4_0 and Q4_1");
    refuse_plan((plan){.again = "llama.expert_count"}, "experts");
    refuse("GGML", 4, "no GGUF file");
    refuse("GGUF\1\0\0\0", 8, "version 1 is not read");
    refuse("GGUF\0\0\0\3", 8, "little-endian");
}

static void hostile_counts(void **state)
{
    (void)state;
    rt_buf file = make_file(&(plan){.type = Q4_0});
    static const uint64_t counts[] = {UINT64_MAX, 1ull << 32, 1ull << 61, 100000};
    for (size_t i = 0; i < RT_COUNT(counts); i++) {
        for (size_t at = 8; at <= 16; at += 8) {
            uint64_t kept;
            memcpy(&kept, file.data + at, 8);
            memcpy(file.data + at, &counts[i], 8);
            refuse(file.data, file.bytes, "counts more keys or tensors");
            memcpy(file.data + at, &kept, 8);
        }
    }
    /* The length of the array "numbers": its count stands after the key and two types. */
    char *key = memmem(file.data, file.bytes, "numbers", 7);
    assert_non_null(key);
    memcpy(key + 7 + 8, &counts[2], 8);
    refuse(file.data, file.bytes, "\"numbers\" is damaged");
    rt_buf_free(&file);
}

static void truncated(void **state)
{
    (void)state;
    rt_buf file = make_file(&(plan){.type = Q4_0});
    for (size_t bytes = 0; bytes < file.bytes; bytes += bytes < 3000 ? 1 : 997) {
        char *copy = malloc(bytes + 1); /* its own size, so that a sanitizer sees an overrun */
        memcpy(copy, file.data, bytes);
        refuse(copy, bytes, "");
        free(copy);
    }
    refuse(file.data, file.bytes - 1, "output.weight reaches past the end");
    rt_buf_free(&file);
}

static void rotary_factors(void **state)
{
    (void)state;
    float factors[8];
    for (int i = 0; i < 8; i++) {
        /* Published llama3 scaling (factor 32, low 1, high 4, length 8192) in float32. */
        float wavelength = 6.2831853f * powf(500000.0f, (float)i / 8);
        float smooth = (8192 / wavelength - 1) / 3;
        factors[i] = wavelength < 2048   ? 1.0f
                     : wavelength > 8192 ? 32.0f
                                         : 1 / ((1 - smooth) / 32 + smooth);
    }
    rt_buf file = make_file(&(plan){.type = F16, .factors = factors});
    rt_gguf *gguf;
    rt_arch read;
    assert_int_equal(rt_gguf_parse(&gguf, file.data, file.bytes, NULL), RT_OK);
    assert_int_equal(rt_gguf_arch(&read, gguf, NULL), RT_OK);
    assert_true(read.rope_factor == 32 && read.rope_low == 1 && read.rope_high == 4 &&
                read.rope_original == 8192);
    rt_gguf_close(&gguf);
    rt_buf_free(&file);
    factors[4] *= 1.1f;
    refuse_plan((plan){.type = F16, .factors = factors}, "no llama3 scaling");
}

/* The floats another implementation gets from the same files, bit for bit. */
static void golden(void **state)
{
    (void)state;
    static const char *const types[] = {"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1"};
    if (!rt_file_exists(GOLDEN "tiny_gguf.f32.gguf")) {
        skip();
    }
    for (size_t k = 0; k < RT_COUNT(types); k++) {
        char *path = rt_format(GOLDEN "tiny_gguf.%s.gguf", types[k]);
        char *reference = rt_format(GOLDEN "tiny_gguf.%s.ref.safetensors", types[k]);
        rt_weights *weights;
        rt_safetensors *file;
        assert_int_equal(rt_model_load(&weights, path, RT_F32, NULL), RT_OK);
        assert_int_equal(rt_safetensors_open(&file, reference, NULL), RT_OK);
        assert_true(weights->arch.tied && weights->arch.vocab == 503);
        assert_true(weights->arch.bos == 500 && weights->arch.eos[0] == 502);
        int compared = 0;
        for (int i = 0; i < rt_safetensors_count(file); i++) {
            const rt_st_tensor *tensor = rt_safetensors_at(file, i);
            if (strncmp(tensor->name, "weight.", 7) != 0) {
                continue;
            }
            const rt_tensor *found = rt_weights_find(weights, tensor->name + 7);
            assert_non_null(found);
            assert_int_equal(tensor->bytes, 4 * found->count);
            assert_memory_equal((float *)weights->data + found->offset, tensor->data,
                                tensor->bytes);
            compared++;
        }
        assert_int_equal(compared, 3);
        rt_safetensors_close(&file);
        rt_weights_free(&weights);
        rt_free(path);
        rt_free(reference);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metadata),  cmocka_unit_test(every_type),
        cmocka_unit_test(damaged),   cmocka_unit_test(hostile_counts),
        cmocka_unit_test(truncated), cmocka_unit_test(rotary_factors),
        cmocka_unit_test(golden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
