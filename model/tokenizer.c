/* The tokenizer object: text to ids and back. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "model/tokenizer.h"

/* What one call of encode needs besides the tokenizer. */
typedef struct encoder {
    const rt_tokenizer *tokenizer;
    rt_bpe_scratch bpe;
    rt_split_scratch split;
    rt_buf normal;
    rt_ids ids;
    bool text_only; /* added tokens are neither looked for nor let out */
    rt_error *err;
} encoder;

static utf8proc_option_t form_options(enum rt_normal_form form)
{
    switch (form) {
    case RT_NFC:
        return UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    case RT_NFD:
        return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    case RT_NFKC:
        return UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT;
    default:
        return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT;
    }
}

static bool is_ascii(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if ((uint8_t)text[i] >= 0x80) {
            return false;
        }
    }
    return true;
}

int rt_tokenizer_normalize(const rt_tokenizer *tokenizer, const char *text, size_t bytes,
                           rt_buf *out, rt_error *err)
{
    rt_buf_clear(out);
    rt_buf_add(out, text, bytes);
    for (int i = 0; i < tokenizer->forms_count; i++) {
        utf8proc_uint8_t *mapped = NULL;
        utf8proc_ssize_t length =
            utf8proc_map((const utf8proc_uint8_t *)out->data, (utf8proc_ssize_t)out->bytes,
                         &mapped, form_options(tokenizer->forms[i]));
        if (length < 0) {
            return rt_fail(err, RT_ERR_LIMIT, "normalising %zu bytes of text: %s", bytes,
                           utf8proc_errmsg(length));
        }
        rt_buf_clear(out);
        rt_buf_add(out, mapped, (size_t)length);
        free(mapped);
    }
    return 0;
}

static bool added_since(const encoder *e, size_t from)
{
    for (size_t i = from; i < e->ids.count; i++) {
        if (rt_tokenizer_added(e->tokenizer, e->ids.items[i])) {
            return true;
        }
    }
    return false;
}

/* A piece that is spelled like an added token can be one: then its bytes are said one by one. */
static void encode_piece(encoder *e, const char *piece, size_t bytes)
{
    const rt_tokenizer *t = e->tokenizer;
    size_t from = e->ids.count;
    rt_bpe_encode(&t->bpe, &t->vocab, &e->bpe, piece, bytes, &e->ids);
    if (!e->text_only || !added_since(e, from)) {
        return;
    }
    e->ids.count = from;
    for (size_t i = 0; i < bytes; i++) {
        rt_bpe_encode(&t->bpe, &t->vocab, &e->bpe, piece + i, 1, &e->ids);
        if (added_since(e, from)) {
            e->ids.count = from;
        }
        from = e->ids.count;
    }
}

static int encode_plain(encoder *e, const char *text, size_t bytes)
{
    int rc = rt_splitter_run(&e->tokenizer->splitter, &e->split, text, bytes, e->err);
    if (rc < 0) {
        return rc;
    }
    for (size_t i = 0; i < e->split.now.count; i++) {
        rt_span piece = e->split.now.items[i];
        encode_piece(e, text + piece.begin, piece.end - piece.begin);
    }
    return 0;
}

/* Valid UTF-8 without any raw added token. */
static int encode_valid(encoder *e, const char *text, size_t bytes)
{
    if (e->tokenizer->forms_count > 0 && !is_ascii(text, bytes)) {
        int rc = rt_tokenizer_normalize(e->tokenizer, text, bytes, &e->normal, e->err);
        if (rc < 0) {
            return rc;
        }
        text = e->normal.data;
        bytes = e->normal.bytes;
    }
    size_t scan = 0, taken = 0, from = 0;
    rt_added_match match;
    while (!e->text_only && rt_added_next(&e->tokenizer->normalized, e->tokenizer->added, text,
                                          bytes, &scan, &taken, &match)) {
        int rc = encode_plain(e, text + from, match.begin - from);
        if (rc < 0) {
            return rc;
        }
        rt_ids_add(&e->ids, match.id);
        from = match.end;
    }
    return encode_plain(e, text + from, bytes - from);
}

/* Any bytes: a run of invalid ones is a piece of its own, so that decoding gives it back. */
static int encode_bytes(encoder *e, const char *text, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        size_t valid = rt_utf8_valid(text + at, bytes - at);
        if (valid > 0) {
            int rc = encode_valid(e, text + at, valid);
            if (rc < 0) {
                return rc;
            }
            at += valid;
            continue;
        }
        size_t invalid = 1;
        while (at + invalid < bytes
               && rt_utf8_valid(text + at + invalid,
                                RT_MIN(bytes - at - invalid, (size_t)4)) == 0) {
            invalid++;
        }
        encode_piece(e, text + at, invalid);
        at += invalid;
    }
    return 0;
}

static int encode_text(encoder *e, const char *text, size_t bytes)
{
    size_t scan = 0, taken = 0, from = 0;
    rt_added_match match;
    while (!e->text_only && rt_added_next(&e->tokenizer->raw, e->tokenizer->added, text, bytes,
                                          &scan, &taken, &match)) {
        int rc = encode_bytes(e, text + from, match.begin - from);
        if (rc < 0) {
            return rc;
        }
        rt_ids_add(&e->ids, match.id);
        from = match.end;
    }
    return encode_bytes(e, text + from, bytes - from);
}

static int encode(const rt_tokenizer *tokenizer, const char *text, size_t bytes, bool text_only,
                  rt_ids *ids, rt_error *err)
{
    if (bytes >= UINT32_MAX) {
        return rt_fail(err, RT_ERR_LIMIT, "a text of %zu bytes cannot be tokenised in one piece: "
                       "split it below 4 GiB", bytes);
    }
    encoder e = {.tokenizer = tokenizer, .ids = *ids, .text_only = text_only, .err = err};
    int rc = encode_text(&e, text, bytes);
    size_t count = rc == 0 ? e.ids.count : ids->count;
    *ids = e.ids;
    ids->count = count;
    rt_bpe_scratch_free(&e.bpe);
    rt_split_scratch_free(&e.split);
    rt_buf_free(&e.normal);
    return rc;
}

int rt_tokenizer_encode(const rt_tokenizer *tokenizer, const char *text, size_t bytes,
                        int32_t **ids, size_t *count, size_t *capacity, rt_error *err)
{
    rt_ids list = {*ids, *count, *capacity};
    int rc = encode(tokenizer, text, bytes, false, &list, err);
    *ids = list.items;
    *count = list.count;
    *capacity = list.capacity;
    return rc;
}

int rt_tokenizer_encode_text(const rt_tokenizer *tokenizer, const char *text, size_t bytes,
                             rt_ids *ids, rt_error *err)
{
    return encode(tokenizer, text, bytes, true, ids, err);
}

static const rt_added *find_added(const rt_tokenizer *tokenizer, int32_t id)
{
    for (int i = 0; i < tokenizer->added_count; i++) {
        if (tokenizer->added[i].id == id) {
            return &tokenizer->added[i];
        }
    }
    return NULL;
}

bool rt_tokenizer_added(const rt_tokenizer *tokenizer, int32_t id)
{
    return find_added(tokenizer, id) != NULL;
}

bool rt_tokenizer_is_special(const rt_tokenizer *tokenizer, int32_t id)
{
    const rt_added *found = find_added(tokenizer, id);
    return found != NULL && found->special;
}

void rt_tokenizer_decode(const rt_tokenizer *tokenizer, const int32_t *ids, size_t count,
                         rt_buf *out)
{
    for (size_t i = 0; i < count; i++) {
        size_t bytes;
        const char *token = rt_vocab_get(&tokenizer->vocab, ids[i], &bytes);
        if (token != NULL) {
            rt_buf_add(out, token, bytes);
        }
    }
}

const char *rt_tokenizer_bytes(const rt_tokenizer *tokenizer, int32_t id, size_t *bytes)
{
    return rt_vocab_get(&tokenizer->vocab, id, bytes);
}

int rt_tokenizer_vocab(const rt_tokenizer *tokenizer)
{
    return tokenizer->vocab.count;
}

int rt_tokenizer_special(const rt_tokenizer *tokenizer, const char *text)
{
    size_t bytes = strlen(text);
    for (int i = 0; i < tokenizer->added_count; i++) {
        const rt_added *token = &tokenizer->added[i];
        if (token->bytes == bytes && memcmp(token->text, text, bytes) == 0) {
            return token->id;
        }
    }
    return -1;
}

/* A file itself (.gguf, tokenizer.json) or tokenizer.json in a folder. */
static int load_json(const char *path, rt_buf *json, rt_error *err)
{
    size_t length = strlen(path);
    if (length > 5 && strcmp(path + length - 5, ".gguf") == 0) {
        return rt_tokenizer_from_gguf(path, json, err);
    }
    if (length > 5 && strcmp(path + length - 5, ".json") == 0) {
        return rt_file_read(path, RT_TOKENIZER_FILE_BYTES_MAX, json, err);
    }
    char *file = rt_format("%s/tokenizer.json", path);
    int rc = rt_file_read(file, RT_TOKENIZER_FILE_BYTES_MAX, json, err);
    rt_free(file);
    return rc;
}

int rt_tokenizer_load(rt_tokenizer **tokenizer, const char *path, rt_error *err)
{
    rt_buf resolved = {0}, json = {0};
    int rc = rt_model_resolve(path, &resolved, err);
    if (rc == 0) {
        rc = load_json(resolved.data, &json, err);
    }
    if (rc == 0) {
        rc = rt_tokenizer_parse(tokenizer, json.data, json.bytes, err);
        if (rc < 0) {
            rt_error_prefix(err, "tokenizer of %s", resolved.data);
        }
    }
    rt_buf_free(&resolved);
    rt_buf_free(&json);
    return rc;
}

void rt_tokenizer_free(rt_tokenizer **tokenizer)
{
    rt_tokenizer *t = *tokenizer;
    if (t == NULL) {
        return;
    }
    rt_vocab_free(&t->vocab);
    rt_bpe_free(&t->bpe);
    rt_splitter_free(&t->splitter);
    for (int i = 0; i < t->added_count; i++) {
        rt_free(t->added[i].text);
    }
    rt_free(t->added);
    rt_added_trie_free(&t->raw);
    rt_added_trie_free(&t->normalized);
    rt_free(t);
    *tokenizer = NULL;
}
