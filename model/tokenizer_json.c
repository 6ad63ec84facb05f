/* Reads tokenizer.json of Hugging Face: byte-level BPE, whatever is not that is refused by name. */
#include <jansson.h>
#include <string.h>

#include "model/tokenizer.h"

static const char *type_of(const json_t *object)
{
    const char *type = json_string_value(json_object_get(object, "type"));
    return type == NULL ? "(no type)" : type;
}

static bool flag(const json_t *object, const char *key, bool fallback)
{
    const json_t *value = json_object_get(object, key);
    return json_is_boolean(value) ? json_is_true(value) : fallback;
}

/* ---- normalizer ------------------------------------------------------------------------------ */

static int read_normalizer(rt_tokenizer *t, const json_t *json, int depth, rt_error *err)
{
    static const char *const forms[] = {"NFC", "NFD", "NFKC", "NFKD"};
    if (json == NULL || json_is_null(json)) {
        return 0;
    }
    const char *type = type_of(json);
    if (strcmp(type, "Sequence") == 0 && depth < RT_TOKENIZER_DEPTH_MAX) {
        size_t i;
        json_t *item;
        json_array_foreach(json_object_get(json, "normalizers"), i, item) {
            int rc = read_normalizer(t, item, depth + 1, err);
            if (rc < 0) {
                return rc;
            }
        }
        return 0;
    }
    for (size_t i = 0; i < RT_COUNT(forms); i++) {
        if (strcmp(type, forms[i]) == 0 && t->forms_count < (int)RT_COUNT(t->forms)) {
            t->forms[t->forms_count++] = (enum rt_normal_form)i;
            return 0;
        }
    }
    return rt_fail(err, RT_ERR_INPUT, "normalizer '%.60s' is not supported: NFC, NFD, NFKC, NFKD "
                   "and short sequences of them are", type);
}

/* ---- pre-tokenizer --------------------------------------------------------------------------- */

static int read_behavior(const json_t *json, enum rt_split_behavior *behavior, rt_error *err)
{
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    const char *name = json_string_value(json_object_get(json, "behavior"));
    for (size_t i = 0; name != NULL && i < RT_COUNT(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *behavior = (enum rt_split_behavior)i;
            return 0;
        }
    }
    return rt_fail(err, RT_ERR_INPUT, "Split behavior '%.60s' is unknown: Isolated, Removed, "
                   "MergedWithPrevious, MergedWithNext and Contiguous are supported",
                   name == NULL ? "(none)" : name);
}

static int read_split(rt_tokenizer *t, const json_t *json, rt_error *err)
{
    const json_t *pattern = json_object_get(json, "pattern");
    const json_t *regex = json_object_get(pattern, "Regex");
    const json_t *text = regex != NULL ? regex : json_object_get(pattern, "String");
    if (!json_is_string(text)) {
        return rt_fail(err, RT_ERR_INPUT, "a Split pre-tokenizer has no pattern: it needs "
                       "{\"Regex\": \"...\"} or {\"String\": \"...\"}");
    }
    enum rt_split_behavior behavior = RT_SPLIT_ISOLATED;
    int rc = read_behavior(json, &behavior, err);
    if (rc < 0) {
        return rc;
    }
    return rt_splitter_add(&t->splitter, json_string_value(text), json_string_length(text),
                           regex == NULL, behavior, flag(json, "invert", false), err);
}

static int read_byte_level(rt_tokenizer *t, const json_t *json, rt_error *err)
{
    if (flag(json, "add_prefix_space", true)) {
        return rt_fail(err, RT_ERR_INPUT, "ByteLevel with add_prefix_space is not supported: "
                       "the text would not come back as it was; set it to false");
    }
    if (!flag(json, "use_regex", true)) {
        return 0;
    }
    return rt_splitter_add(&t->splitter, rt_split_gpt2, strlen(rt_split_gpt2), false,
                           RT_SPLIT_ISOLATED, false, err);
}

static int read_pre_tokenizer(rt_tokenizer *t, const json_t *json, int depth, bool *byte_level,
                              rt_error *err)
{
    const char *type = type_of(json);
    if (*byte_level) {
        return rt_fail(err, RT_ERR_INPUT, "pre-tokenizer '%.60s' comes after ByteLevel, which must "
                       "be the last", type);
    }
    if (strcmp(type, "Sequence") == 0 && depth < RT_TOKENIZER_DEPTH_MAX) {
        size_t i;
        json_t *item;
        json_array_foreach(json_object_get(json, "pretokenizers"), i, item) {
            int rc = read_pre_tokenizer(t, item, depth + 1, byte_level, err);
            if (rc < 0) {
                return rc;
            }
        }
        return 0;
    }
    if (strcmp(type, "Split") == 0) {
        return read_split(t, json, err);
    }
    if (strcmp(type, "Digits") == 0) {
        bool apart = flag(json, "individual_digits", false);
        return rt_splitter_add(&t->splitter, "\\p{N}", 5, false,
                               apart ? RT_SPLIT_ISOLATED : RT_SPLIT_CONTIGUOUS, false, err);
    }
    if (strcmp(type, "ByteLevel") == 0) {
        *byte_level = true;
        return read_byte_level(t, json, err);
    }
    return rt_fail(err, RT_ERR_INPUT, "pre-tokenizer '%.60s' is not supported: Split, Digits, "
                   "ByteLevel and short sequences that end in ByteLevel are", type);
}

/* ---- model ----------------------------------------------------------------------------------- */

static int read_vocab(rt_tokenizer *t, json_t *vocab, rt_error *err)
{
    rt_buf bytes = {0};
    const char *text;
    json_t *value;
    json_object_foreach(vocab, text, value) {
        json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        size_t length = strlen(text), known;
        if (id < 0 || id >= RT_TOKENIZER_IDS_MAX) {
            rt_buf_free(&bytes);
            return rt_fail(err, RT_ERR_INPUT, "token '%.60s' has no id between 0 and %d", text,
                           RT_TOKENIZER_IDS_MAX - 1);
        }
        if (rt_vocab_get(&t->vocab, (int32_t)id, &known) != NULL) {
            rt_buf_free(&bytes);
            return rt_fail(err, RT_ERR_INPUT, "token '%.60s' has id %lld, which another token has "
                           "too", text, (long long)id);
        }
        rt_buf_clear(&bytes);
        rt_buf_add(&bytes, text, length);
        ptrdiff_t count = rt_alphabet_read(text, length, bytes.data);
        rt_vocab_set(&t->vocab, (int32_t)id, count < 0 ? text : bytes.data,
                     count < 0 ? length : (size_t)count, count >= 0);
    }
    rt_buf_free(&bytes);
    return 0;
}

/* "left right" or ["left", "right"]. */
static bool merge_texts(const json_t *item, const char *text[2], size_t bytes[2])
{
    if (json_is_string(item)) {
        text[0] = json_string_value(item);
        const char *space = json_string_length(item) == 0 ? NULL : strchr(text[0] + 1, ' ');
        if (space == NULL) {
            return false;
        }
        text[1] = space + 1;
        bytes[0] = (size_t)(space - text[0]);
        bytes[1] = strlen(text[1]);
        return bytes[1] > 0;
    }
    if (!json_is_array(item) || json_array_size(item) != 2) {
        return false;
    }
    for (size_t i = 0; i < 2; i++) {
        const json_t *part = json_array_get(item, i);
        text[i] = json_string_value(part);
        bytes[i] = json_string_length(part);
        if (text[i] == NULL || bytes[i] == 0) {
            return false;
        }
    }
    return true;
}

static int read_merge(rt_tokenizer *t, const json_t *item, int32_t rank, rt_buf *buf, rt_error *err)
{
    const char *text[2];
    size_t bytes[2];
    if (!merge_texts(item, text, bytes)) {
        return rt_fail(err, RT_ERR_INPUT, "merge %d is neither \"left right\" nor "
                       "[\"left\", \"right\"]", rank);
    }
    rt_buf_clear(buf);
    rt_buf_add(buf, text[0], bytes[0]);
    rt_buf_add(buf, text[1], bytes[1]);
    ptrdiff_t left = rt_alphabet_read(text[0], bytes[0], buf->data);
    ptrdiff_t right = left < 0 ? -1 : rt_alphabet_read(text[1], bytes[1], buf->data + left);
    int32_t ids[3] = {-1, -1, -1};
    if (left > 0 && right > 0) {
        ids[0] = rt_vocab_find(&t->vocab, buf->data, (size_t)left);
        ids[1] = rt_vocab_find(&t->vocab, buf->data + left, (size_t)right);
        ids[2] = rt_vocab_find(&t->vocab, buf->data, (size_t)(left + right));
    }
    if (ids[0] < 0 || ids[1] < 0 || ids[2] < 0) {
        return rt_fail(err, RT_ERR_INPUT, "merge %d ('%.*s' '%.*s') makes or uses a token that the "
                       "vocabulary lacks", rank, (int)RT_MIN(bytes[0], (size_t)60), text[0],
                       (int)RT_MIN(bytes[1], (size_t)60), text[1]);
    }
    rt_bpe_add(&t->bpe, ids[0], ids[1], rank, ids[2]);
    return 0;
}

static int read_merges(rt_tokenizer *t, const json_t *merges, rt_error *err)
{
    rt_buf buf = {0};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < json_array_size(merges); i++) {
        rc = read_merge(t, json_array_get(merges, i), (int32_t)i, &buf, err);
    }
    rt_buf_free(&buf);
    return rc;
}

/* Options of BPE that other kinds of tokenizers use. */
static int check_model(const json_t *model, rt_error *err)
{
    const char *type = json_string_value(json_object_get(model, "type"));
    if (type != NULL && strcmp(type, "BPE") != 0) {
        return rt_fail(err, RT_ERR_INPUT, "tokenizer model '%.60s' is not supported: byte-level "
                       "BPE is (Llama 3, Qwen, SmolLM, GPT-2)", type);
    }
    if (!json_is_object(json_object_get(model, "vocab"))
        || !json_is_array(json_object_get(model, "merges"))) {
        return rt_fail(err, RT_ERR_INPUT, "tokenizer.json has no 'vocab' object and 'merges' list "
                       "in 'model'");
    }
    static const char *const texts[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < RT_COUNT(texts); i++) {
        if (json_string_length(json_object_get(model, texts[i])) > 0) {
            return rt_fail(err, RT_ERR_INPUT, "BPE with %s is not supported: byte-level BPE has "
                           "none", texts[i]);
        }
    }
    if (flag(model, "byte_fallback", false)) {
        return rt_fail(err, RT_ERR_INPUT, "BPE with byte_fallback (SentencePiece) is not "
                       "supported: byte-level BPE is");
    }
    if (json_number_value(json_object_get(model, "dropout")) > 0) {
        return rt_fail(err, RT_ERR_INPUT, "BPE with dropout gives another result each time: set "
                       "'dropout' to null");
    }
    return 0;
}

static int read_model(rt_tokenizer *t, const json_t *model, rt_error *err)
{
    int rc = check_model(model, err);
    if (rc < 0) {
        return rc;
    }
    json_t *vocab = json_object_get(model, "vocab");
    const json_t *merges = json_object_get(model, "merges");
    rt_bpe_init(&t->bpe, json_array_size(merges));
    rc = read_vocab(t, vocab, err);
    if (rc < 0) {
        return rc;
    }
    for (int i = 0; i < 256; i++) {
        char byte = (char)i;
        t->bpe.byte_ids[i] = rt_vocab_find(&t->vocab, &byte, 1);
    }
    t->bpe.whole_first = flag(model, "ignore_merges", false);
    t->bpe.fuse_unknown = flag(model, "fuse_unk", false);
    const char *unknown = json_string_value(json_object_get(model, "unk_token"));
    if (unknown != NULL) {
        const json_t *id = json_object_get(vocab, unknown);
        if (id == NULL) {
            return rt_fail(err, RT_ERR_INPUT, "unk_token '%.60s' is not in the vocabulary",
                           unknown);
        }
        t->bpe.unknown = (int32_t)json_integer_value(id);
    }
    return read_merges(t, merges, err);
}

/* ---- added tokens ---------------------------------------------------------------------------- */

static int read_added_token(rt_tokenizer *t, const json_t *vocab, const json_t *item, rt_error *err)
{
    const json_t *content = json_object_get(item, "content");
    const char *text = json_is_string(content) ? json_string_value(content) : "";
    const json_t *id = json_object_get(vocab, text);
    if (id == NULL) {
        id = json_object_get(item, "id");
    }
    json_int_t number = json_is_integer(id) ? json_integer_value(id) : -1;
    if (json_string_length(content) == 0 || number < 0 || number >= RT_TOKENIZER_IDS_MAX) {
        return rt_fail(err, RT_ERR_INPUT, "added token '%.60s' needs a content and an id between 0 "
                       "and %d", text, RT_TOKENIZER_IDS_MAX - 1);
    }
    size_t known;
    if (id == json_object_get(item, "id")
        && rt_vocab_get(&t->vocab, (int32_t)number, &known) != NULL) {
        return rt_fail(err, RT_ERR_INPUT, "added token '%.60s' has id %lld, which another token "
                       "has too", text, (long long)number);
    }
    rt_added *added = &t->added[t->added_count++];
    size_t bytes = json_string_length(content);
    bool special = flag(item, "special", false);
    *added = (rt_added){.text = rt_alloc(bytes + 1), .bytes = bytes, .id = (int32_t)number,
                        .special = special,
                        .normalized = flag(item, "normalized", !special),
                        .lstrip = flag(item, "lstrip", false),
                        .rstrip = flag(item, "rstrip", false),
                        .single_word = flag(item, "single_word", false)};
    memcpy(added->text, text, bytes);
    rt_vocab_set(&t->vocab, added->id, added->text, bytes, false);
    return 0;
}

static int index_added(rt_tokenizer *t, rt_error *err)
{
    rt_buf normal = {0};
    int rc = 0;
    for (int i = 0; rc == 0 && i < t->added_count; i++) {
        const rt_added *added = &t->added[i];
        if (!added->normalized) {
            rt_added_trie_add(&t->raw, added->text, added->bytes, i);
            continue;
        }
        rc = rt_tokenizer_normalize(t, added->text, added->bytes, &normal, err);
        if (rc == 0 && normal.bytes > 0) {
            rt_added_trie_add(&t->normalized, normal.data, normal.bytes, i);
        }
    }
    rt_buf_free(&normal);
    return rc;
}

static int read_added(rt_tokenizer *t, const json_t *list, const json_t *vocab, rt_error *err)
{
    size_t count = json_array_size(list);
    if (count == 0) {
        return 0;
    }
    if (count > RT_TOKENIZER_IDS_MAX) {
        return rt_fail(err, RT_ERR_LIMIT, "tokenizer.json has %zu added tokens, %d are possible",
                       count, RT_TOKENIZER_IDS_MAX);
    }
    t->added = rt_alloc(count * sizeof *t->added);
    for (size_t i = 0; i < count; i++) {
        int rc = read_added_token(t, vocab, json_array_get(list, i), err);
        if (rc < 0) {
            return rc;
        }
    }
    return index_added(t, err);
}

static int check_decoder(const json_t *decoder, rt_error *err)
{
    if (decoder == NULL || json_is_null(decoder) || strcmp(type_of(decoder), "ByteLevel") == 0) {
        return 0;
    }
    return rt_fail(err, RT_ERR_INPUT, "decoder '%.60s' is not supported: ByteLevel is",
                   type_of(decoder));
}

static int read_all(rt_tokenizer *t, const json_t *root, rt_error *err)
{
    const json_t *model = json_object_get(root, "model");
    if (!json_is_object(model)) {
        return rt_fail(err, RT_ERR_INPUT, "tokenizer.json has no 'model' object");
    }
    bool byte_level = false;
    int rc = read_model(t, model, err);
    if (rc == 0) {
        rc = read_normalizer(t, json_object_get(root, "normalizer"), 0, err);
    }
    if (rc == 0) {
        rc = read_pre_tokenizer(t, json_object_get(root, "pre_tokenizer"), 0, &byte_level, err);
    }
    if (rc == 0 && !byte_level) {
        rc = rt_fail(err, RT_ERR_INPUT, "tokenizer.json has no ByteLevel pre-tokenizer: only "
                     "byte-level BPE is supported");
    }
    if (rc == 0) {
        rc = check_decoder(json_object_get(root, "decoder"), err);
    }
    if (rc == 0) {
        rc = read_added(t, json_object_get(root, "added_tokens"), json_object_get(model, "vocab"),
                        err);
    }
    return rc;
}

int rt_tokenizer_parse(rt_tokenizer **tokenizer, const char *json, size_t bytes, rt_error *err)
{
    *tokenizer = NULL;
    json_error_t why;
    json_t *root = json_loadb(bytes == 0 ? "" : json, bytes, JSON_ALLOW_NUL, &why);
    if (root == NULL) {
        return rt_fail(err, RT_ERR_INPUT, "tokenizer.json, line %d: %s", why.line, why.text);
    }
    rt_tokenizer *t = rt_alloc(sizeof *t);
    int rc = read_all(t, root, err);
    json_decref(root);
    if (rc < 0) {
        rt_tokenizer_free(&t);
        return rc;
    }
    *tokenizer = t;
    return 0;
}
