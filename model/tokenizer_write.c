/* Writes tokenizer.json from parts: for GGUF files and for the trainer. */
#include <string.h>

#include "model/tokenizer.h"

const char rt_pre_tokenizer_digits[] =
    "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\", "
    "\"individual_digits\": true}, {\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
    "\"trim_offsets\": true, \"use_regex\": true}]}";

static void string_add(rt_buf *out, const char *text, size_t bytes)
{
    rt_buf_add(out, "\"", 1);
    for (size_t i = 0; i < bytes; i++) {
        uint8_t c = (uint8_t)text[i];
        if (c == '"' || c == '\\') {
            rt_buf_addf(out, "\\%c", c);
        } else if (c < 0x20) {
            rt_buf_addf(out, "\\u%04x", c);
        } else {
            rt_buf_add(out, text + i, 1);
        }
    }
    rt_buf_add(out, "\"", 1);
}

static void member_start(rt_buf *out)
{
    rt_buf_addf(out, out->bytes == 0 ? "\n" : ",\n");
}

void rt_parts_token(rt_tokenizer_parts *parts, const char *text, size_t bytes, int32_t id)
{
    member_start(&parts->vocab);
    string_add(&parts->vocab, text, bytes);
    rt_buf_addf(&parts->vocab, ": %d", id);
}

void rt_parts_merge(rt_tokenizer_parts *parts, const char *left, size_t left_bytes,
                    const char *right, size_t right_bytes)
{
    member_start(&parts->merges);
    rt_buf_add(&parts->merges, "[", 1);
    string_add(&parts->merges, left, left_bytes);
    rt_buf_add(&parts->merges, ", ", 2);
    string_add(&parts->merges, right, right_bytes);
    rt_buf_add(&parts->merges, "]", 1);
}

void rt_parts_added(rt_tokenizer_parts *parts, const char *text, size_t bytes, int32_t id,
                    bool special)
{
    member_start(&parts->added);
    rt_buf_addf(&parts->added, "{\"id\": %d, \"content\": ", id);
    string_add(&parts->added, text, bytes);
    rt_buf_addf(&parts->added, ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
                "\"normalized\": false, \"special\": %s}", special ? "true" : "false");
}

void rt_parts_write(const rt_tokenizer_parts *parts, rt_buf *json)
{
    rt_buf_addf(json, "{\"version\": \"1.0\",\n\"truncation\": null,\n\"padding\": null,\n"
                "\"added_tokens\": [");
    rt_buf_add(json, parts->added.bytes == 0 ? "" : parts->added.data, parts->added.bytes);
    rt_buf_addf(json, "],\n\"normalizer\": %s,\n\"pre_tokenizer\": %s,\n\"post_processor\": null,\n"
                "\"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
                "\"trim_offsets\": true, \"use_regex\": true},\n", parts->normalizer,
                parts->pre_tokenizer);
    rt_buf_addf(json, "\"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, "
                "\"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, "
                "\"fuse_unk\": false, \"byte_fallback\": false, \"ignore_merges\": %s,\n"
                "\"vocab\": {", parts->whole_first ? "true" : "false");
    rt_buf_add(json, parts->vocab.bytes == 0 ? "" : parts->vocab.data, parts->vocab.bytes);
    rt_buf_addf(json, "},\n\"merges\": [");
    rt_buf_add(json, parts->merges.bytes == 0 ? "" : parts->merges.data, parts->merges.bytes);
    rt_buf_addf(json, "]}}\n");
}

void rt_parts_free(rt_tokenizer_parts *parts)
{
    rt_buf_free(&parts->vocab);
    rt_buf_free(&parts->merges);
    rt_buf_free(&parts->added);
}
