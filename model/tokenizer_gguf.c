/*
 * The tokenizer inside a GGUF file, as tokenizer.json. GGUF names the pre-tokenizer instead of
 * describing it; the table below spells out the names that are known.
 */
#include <string.h>

#include "model/gguf.h"
#include "model/tokenizer.h"

enum { TOKEN_CONTROL = 3, TOKEN_USER = 4 }; /* tokenizer.ggml.token_type */

#define BYTE_LEVEL(regex)                                                                        \
    "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "             \
    "\"use_regex\": " regex "}"
/* Llama 3's expression; Qwen2's differs in how many digits stay together. */
#define SPLIT(numbers)                                                                           \
    "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": " \
    "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|" numbers              \
    "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}, " \
    "\"behavior\": \"Isolated\", \"invert\": false}, " BYTE_LEVEL("false") "]}"

static const struct known_pre {
    const char *name;
    const char *normalizer;
    const char *pre_tokenizer;
    bool whole_first;
} known[] = {
    {"gpt-2", "null", BYTE_LEVEL("true"), false},
    {"olmo", "{\"type\": \"NFC\"}", BYTE_LEVEL("true"), false},
    {"llama-bpe", "null", SPLIT("\\\\p{N}{1,3}"), true},
    {"llama3", "null", SPLIT("\\\\p{N}{1,3}"), true},
    {"llama-v3", "null", SPLIT("\\\\p{N}{1,3}"), true},
    {"qwen2", "{\"type\": \"NFC\"}", SPLIT("\\\\p{N}"), false},
    {"smollm", "null", rt_pre_tokenizer_digits, false},
    {"starcoder", "null", rt_pre_tokenizer_digits, false},
};

static int find_pre(const rt_gguf *gguf, const struct known_pre **pre, rt_error *err)
{
    const char *model = "", *name = "";
    size_t model_bytes = 0, name_bytes = 0;
    rt_gguf_text(gguf, "tokenizer.ggml.model", &model, &model_bytes);
    if (model_bytes != 4 || memcmp(model, "gpt2", 4) != 0) {
        return rt_fail(err, RT_ERR_INPUT, "tokenizer model '%.*s' is not supported: byte-level BPE "
                       "('gpt2') is", (int)RT_MIN(model_bytes, (size_t)60), model);
    }
    rt_gguf_text(gguf, "tokenizer.ggml.pre", &name, &name_bytes);
    for (size_t i = 0; i < RT_COUNT(known); i++) {
        if (strlen(known[i].name) == name_bytes && memcmp(known[i].name, name, name_bytes) == 0) {
            *pre = &known[i];
            return 0;
        }
    }
    return rt_fail(err, RT_ERR_INPUT, "pre-tokenizer '%.*s' (tokenizer.ggml.pre) is not supported: "
                   "gpt-2, olmo, llama-bpe, qwen2, smollm and starcoder are",
                   (int)RT_MIN(name_bytes, (size_t)60), name);
}

static int add_tokens(const rt_gguf *gguf, rt_tokenizer_parts *parts, rt_error *err)
{
    rt_gguf_array tokens, types;
    if (!rt_gguf_array_find(gguf, "tokenizer.ggml.tokens", &tokens) || tokens.starts == NULL) {
        return rt_fail(err, RT_ERR_INPUT, "the file has no list of texts tokenizer.ggml.tokens");
    }
    bool typed = rt_gguf_array_find(gguf, "tokenizer.ggml.token_type", &types)
                 && types.starts == NULL && types.count == tokens.count;
    for (size_t i = 0; i < tokens.count; i++) {
        size_t bytes;
        const char *text = rt_gguf_array_text(&tokens, i, &bytes);
        rt_parts_token(parts, text, bytes, (int32_t)i);
        int64_t type = typed ? rt_gguf_array_integer(&types, i) : 0;
        if (type == TOKEN_CONTROL || type == TOKEN_USER) {
            rt_parts_added(parts, text, bytes, (int32_t)i, type == TOKEN_CONTROL);
        }
    }
    return 0;
}

static int add_merges(const rt_gguf *gguf, rt_tokenizer_parts *parts, rt_error *err)
{
    rt_gguf_array merges;
    if (!rt_gguf_array_find(gguf, "tokenizer.ggml.merges", &merges) || merges.starts == NULL) {
        return rt_fail(err, RT_ERR_INPUT, "the file has no list of texts tokenizer.ggml.merges");
    }
    for (size_t i = 0; i < merges.count; i++) {
        size_t bytes;
        const char *text = rt_gguf_array_text(&merges, i, &bytes);
        const char *space = bytes < 3 ? NULL : memchr(text + 1, ' ', bytes - 2);
        if (space == NULL) {
            return rt_fail(err, RT_ERR_INPUT, "merge %zu of tokenizer.ggml.merges is not "
                           "\"left right\"", i);
        }
        size_t left = (size_t)(space - text);
        rt_parts_merge(parts, text, left, space + 1, bytes - left - 1);
    }
    return 0;
}

int rt_tokenizer_from_gguf(const char *path, rt_buf *json, rt_error *err)
{
    rt_gguf *gguf = NULL;
    int rc = rt_gguf_open(&gguf, path, err);
    if (rc < 0) {
        return rc;
    }
    const struct known_pre *pre = NULL;
    rt_tokenizer_parts parts = {0};
    rc = find_pre(gguf, &pre, err);
    if (rc == 0) {
        rc = add_tokens(gguf, &parts, err);
    }
    if (rc == 0) {
        rc = add_merges(gguf, &parts, err);
    }
    if (rc == 0) {
        parts.normalizer = pre->normalizer;
        parts.pre_tokenizer = pre->pre_tokenizer;
        parts.whole_first = pre->whole_first;
        rt_parts_write(&parts, json);
    } else {
        rt_error_prefix(err, "%s", path);
    }
    rt_parts_free(&parts);
    rt_gguf_close(&gguf);
    return rc;
}
