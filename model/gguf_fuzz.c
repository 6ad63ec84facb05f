/* Any bytes: metadata, tensor table and, where they make a model, its architecture and weights. */
#include "model/files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void touch_arrays(const rt_gguf *gguf)
{
    static const char *const keys[] = {"tokenizer.ggml.tokens", "tokenizer.ggml.merges",
                                       "tokenizer.ggml.token_type", "tokenizer.ggml.scores"};
    for (size_t i = 0; i < RT_COUNT(keys); i++) {
        rt_gguf_array array;
        if (!rt_gguf_array_find(gguf, keys[i], &array)) {
            continue;
        }
        for (size_t k = 0; k < array.count; k++) {
            size_t length = 0;
            if (array.type == RT_GGUF_STRING) {
                const char *text = rt_gguf_array_text(&array, k, &length);
                rt_hash64(text, length, 0);
            } else {
                rt_gguf_array_number(&array, k);
            }
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    rt_gguf *gguf = NULL;
    rt_error err;
    if (rt_gguf_parse(&gguf, data, bytes, &err) != RT_OK) {
        return 0;
    }
    touch_arrays(gguf);
    for (int i = 0; i < rt_gguf_tensors_count(gguf); i++) {
        const rt_gguf_tensor *tensor = rt_gguf_tensor_at(gguf, i);
        rt_hash64(tensor->data, tensor->data != NULL ? tensor->bytes : 0, 0);
        RT_ASSERT(rt_gguf_tensor_find(gguf, tensor->name) == tensor);
    }
    rt_weights *weights = NULL;
    if (rt_gguf_weights(&weights, gguf, RT_F32, &err) == RT_OK) {
        rt_weights_free(&weights);
    }
    rt_gguf_close(&gguf);
    return 0;
}
