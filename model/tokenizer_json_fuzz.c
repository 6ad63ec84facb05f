/* Input: tokenizer.json, then optionally a zero byte and a text. Whatever loads must encode any
 * bytes, keep every id inside the vocabulary, and decode without touching what is not its own. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"

static void check(const rt_tokenizer *t, const char *text, size_t bytes)
{
    int32_t *ids = NULL;
    size_t count = 0, capacity = 0;
    rt_error err = {0};
    rt_buf out = {0};
    if (rt_tokenizer_encode(t, text, bytes, &ids, &count, &capacity, &err) == 0) {
        for (size_t i = 0; i < count; i++) {
            RT_ASSERT(ids[i] >= 0 && ids[i] < rt_tokenizer_vocab(t));
        }
        rt_tokenizer_decode(t, ids, count, &out);
    }
    rt_buf_free(&out);
    rt_free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const char sample[] = "The 12 caf\xc3\xa9s' \xe2\x80 e\xcc\x81 \xff\x00 <|x|>\n\n  end";
    const uint8_t *end = bytes == 0 ? NULL : memchr(data, 0, bytes);
    size_t json = end == NULL ? bytes : (size_t)(end - data);
    rt_tokenizer *t = NULL;
    rt_error err = {0};
    if (rt_tokenizer_parse(&t, (const char *)data, json, &err) == 0) {
        check(t, sample, sizeof sample);
        check(t, (const char *)data + json, bytes - json);
    } else {
        RT_ASSERT(t == NULL && err.message[0] != '\0');
    }
    rt_tokenizer_free(&t);
    return 0;
}
