/* Expectations here follow from the rules by hand; the golden test compares with others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/tokenizer.h"

#define BYTE_LEVEL                                                                               \
    "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": true}"
#define NFC "{\"type\": \"NFC\"}"

/* ---- small tokenizers: token of byte b = id b, merges from 256 on ---------------------------- */

static void parts_bytes(rt_tokenizer_parts *parts)
{
    for (int b = 0; b < 256; b++) {
        rt_buf name = {0};
        char byte = (char)b;
        rt_alphabet_write(&name, &byte, 1);
        rt_parts_token(parts, name.data, name.bytes, b);
        rt_buf_free(&name);
    }
}

/* merges: left, right, left, right, …, NULL in plain letters. */
static rt_tokenizer_parts parts_new(const char *const *merges)
{
    rt_tokenizer_parts parts = {.normalizer = "null", .pre_tokenizer = BYTE_LEVEL};
    parts_bytes(&parts);
    for (int i = 0; merges[i] != NULL; i += 2) {
        char *text = rt_format("%s%s", merges[i], merges[i + 1]);
        rt_parts_token(&parts, text, strlen(text), 256 + i / 2);
        rt_parts_merge(&parts, merges[i], strlen(merges[i]), merges[i + 1],
                       strlen(merges[i + 1]));
        rt_free(text);
    }
    return parts;
}

static rt_tokenizer *parts_load(rt_tokenizer_parts *parts)
{
    rt_buf json = {0};
    rt_tokenizer *t = NULL;
    rt_error err = {0};
    rt_parts_write(parts, &json);
    if (rt_tokenizer_parse(&t, json.data, json.bytes, &err) < 0) {
        fail_msg("%s", err.message);
    }
    rt_buf_free(&json);
    rt_parts_free(parts);
    return t;
}

static rt_ids encode(const rt_tokenizer *t, const char *text, size_t bytes)
{
    rt_ids ids = {0};
    rt_error err = {0};
    if (rt_tokenizer_encode(t, text, bytes, &ids.items, &ids.count, &ids.capacity, &err) < 0) {
        fail_msg("%s", err.message);
    }
    return ids;
}

/* expected: ids ended by −1 */
static void assert_ids(const rt_tokenizer *t, const char *text, const int32_t *expected)
{
    rt_ids ids = encode(t, text, strlen(text));
    size_t count = 0;
    while (expected[count] >= 0) {
        count++;
    }
    bool same = ids.count == count;
    for (size_t i = 0; same && i < count; i++) {
        same = ids.items[i] == expected[i];
    }
    if (!same) {
        for (size_t i = 0; i < ids.count; i++) {
            print_error("%d ", ids.items[i]);
        }
        fail_msg("for '%s'", text);
    }
    rt_free(ids.items);
}
#define assert_encodes(t, text, ...) assert_ids(t, text, (const int32_t[]){__VA_ARGS__, -1})

static void assert_round_trip(const rt_tokenizer *t, const char *text, size_t bytes)
{
    rt_ids ids = encode(t, text, bytes);
    rt_buf back = {0};
    rt_tokenizer_decode(t, ids.items, ids.count, &back);
    assert_int_equal(back.bytes, bytes);
    assert_true(bytes == 0 || memcmp(back.data, text, bytes) == 0);
    rt_buf_free(&back);
    rt_free(ids.items);
}

static void assert_refused(const char *json, const char *named)
{
    rt_tokenizer *t = NULL;
    rt_error err = {0};
    assert_int_equal(rt_tokenizer_parse(&t, json, strlen(json), &err), RT_ERR_INPUT);
    assert_null(t);
    if (strstr(err.message, named) == NULL) {
        fail_msg("'%s' does not name '%s'", err.message, named);
    }
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void alphabet(void **state)
{
    (void)state;
    assert_int_equal(rt_alphabet_char(' '), 0x120);
    assert_int_equal(rt_alphabet_char('\n'), 0x10a);
    assert_int_equal(rt_alphabet_char(0), 0x100);
    assert_int_equal(rt_alphabet_char('a'), 'a');
    assert_int_equal(rt_alphabet_char(0x7f), 0x121);
    assert_int_equal(rt_alphabet_char(0xa0), 0x142);
    assert_int_equal(rt_alphabet_char(0xad), 0x143);
    assert_int_equal(rt_alphabet_char(0xff), 0xff);
    char all[256], back[512];
    rt_buf text = {0};
    for (int i = 0; i < 256; i++) {
        all[i] = (char)i;
    }
    rt_alphabet_write(&text, all, sizeof all);
    assert_int_equal(rt_alphabet_read(text.data, text.bytes, back), 256);
    assert_memory_equal(all, back, 256);
    assert_int_equal(rt_alphabet_read(" ", 1, back), -1);
    assert_int_equal(rt_alphabet_read("\xc5\x84", 2, back), -1); /* U+0144, one past the end */
    assert_int_equal(rt_alphabet_read("\xc4", 1, back), -1);
    rt_buf_free(&text);
}

static void merges_by_rank(void **state)
{
    (void)state;
    rt_tokenizer_parts parts =
        parts_new((const char *[]){"b", "c", "a", "b", "ab", "c", "a", "a", "aa", "aa", NULL});
    rt_tokenizer *t = parts_load(&parts); /* bc 256, ab 257, abc 258, aa 259, aaaa 260 */
    assert_int_equal(rt_tokenizer_vocab(t), 261);
    assert_encodes(t, "abc", 'a', 256);      /* bc has the lower rank: abc is never reached */
    assert_encodes(t, "ab", 257);
    assert_encodes(t, "aab", 'a', 257);
    assert_encodes(t, "abab", 257, 257);
    assert_encodes(t, "aaaaaaa", 260, 259, 'a'); /* leftmost first: aa aa aa a, then aaaa aa a */
    assert_encodes(t, "a b", 'a', ' ', 'b');     /* nothing merges over a piece's end */
    assert_encodes(t, "ab!ab", 257, '!', 257);
    rt_tokenizer_free(&t);
}

/* Lowest rank, leftmost, one at a time: the definition, without any of the tricks. */
static size_t naive(const rt_bpe *bpe, int32_t *ids, size_t count)
{
    for (;;) {
        const rt_merge *best = NULL;
        size_t place = 0;
        for (size_t i = 0; i + 1 < count; i++) {
            for (size_t m = 0; m <= bpe->mask; m++) {
                const rt_merge *merge = &bpe->merges[m];
                if (merge->pair == ((uint64_t)(uint32_t)ids[i] << 32 | (uint32_t)ids[i + 1])
                    && (best == NULL || merge->rank < best->rank)) {
                    best = merge;
                    place = i;
                }
            }
        }
        if (best == NULL) {
            return count;
        }
        ids[place] = best->id;
        memmove(ids + place + 1, ids + place + 2, (count - place - 2) * sizeof *ids);
        count--;
    }
}

static void merges_short_and_long(void **state)
{
    (void)state;
    rt_tokenizer_parts parts =
        parts_new((const char *[]){"a", "b", "b", "a", "a", "a", "ab", "ab", "aa", "b", "ba", "ba",
                                   "b", "aa", "abab", "a", "ba", "b", NULL});
    rt_tokenizer *t = parts_load(&parts);
    for (uint32_t n = 0; n < 300; n++) {
        char text[150];
        int32_t expected[150];
        size_t bytes = 1 + rt_below(7, 1, n, sizeof text);
        for (size_t i = 0; i < bytes; i++) {
            text[i] = rt_below(7, 2 + n, i, 2) ? 'a' : 'b';
            expected[i] = text[i];
        }
        size_t count = naive(&t->bpe, expected, bytes);
        rt_ids ids = encode(t, text, bytes);
        assert_int_equal(ids.count, count);
        assert_memory_equal(ids.items, expected, count * sizeof *expected);
        rt_free(ids.items);
    }
    rt_tokenizer_free(&t);
}

/* A quadratic loop would take hours here. */
static void merges_of_a_very_long_word(void **state)
{
    (void)state;
    enum { BYTES = 1000001 };
    rt_tokenizer_parts parts = parts_new((const char *[]){"a", "a", "aa", "aa", NULL});
    rt_tokenizer *t = parts_load(&parts);
    char *text = rt_alloc(BYTES);
    memset(text, 'a', BYTES);
    rt_ids ids = encode(t, text, BYTES);
    assert_int_equal(ids.count, BYTES / 4 + 1);
    for (size_t i = 0; i + 1 < ids.count; i++) {
        assert_int_equal(ids.items[i], 257);
    }
    assert_int_equal(ids.items[ids.count - 1], 'a');
    rt_free(ids.items);
    rt_free(text);
    rt_tokenizer_free(&t);
}

static void whole_pieces_first(void **state)
{
    (void)state;
    rt_tokenizer_parts parts = parts_new((const char *[]){"b", "c", "a", "b", NULL});
    rt_parts_token(&parts, "abc", 3, 258);
    parts.whole_first = true;
    rt_tokenizer *t = parts_load(&parts);
    assert_encodes(t, "abc", 258);
    assert_encodes(t, "abcc", 'a', 256, 'c'); /* the piece is not a token: merges only */
    rt_tokenizer_free(&t);
}

static void any_bytes_come_back(void **state)
{
    (void)state;
    rt_tokenizer_parts parts = parts_new((const char *[]){"a", "b", NULL});
    rt_parts_added(&parts, "<|x|>", 5, 300, true);
    rt_tokenizer *t = parts_load(&parts);
    static const struct {
        const char *text;
        size_t bytes;
    } cases[] = {{"", 0}, {"\0", 1}, {"a\0b", 3}, {"\xff", 1}, {"ab\xe2\x82", 4},
                 {"\xed\xa0\x80", 3}, {"\xc0\x80", 2}, {"\xf4\x90\x80\x80", 4},
                 {"\x80<|x|>\x80", 7}, {"e\xcc\x81 \xf0\x9f\x98\x80", 8}};
    for (size_t i = 0; i < RT_COUNT(cases); i++) {
        assert_round_trip(t, cases[i].text, cases[i].bytes);
    }
    for (uint32_t n = 0; n < 200; n++) {
        char text[512];
        size_t bytes = rt_below(3, 0, n, sizeof text);
        for (size_t i = 0; i < bytes; i++) { /* every other text mostly of continuation bytes */
            uint32_t byte = rt_below(3, 1 + n, i, 256);
            text[i] = (char)(n % 2 ? byte | 0x80 : byte);
        }
        assert_round_trip(t, text, bytes);
    }
    assert_encodes(t, "\xff\x80<|x|>\xff", 0xff, 0x80, 300, 0xff);
    int32_t odd[] = {'a', -1, 299, 1 << 30, 'b'}; /* unknown ids add nothing */
    rt_buf out = {0};
    rt_tokenizer_decode(t, odd, RT_COUNT(odd), &out);
    assert_string_equal(out.data, "ab");
    rt_buf_free(&out);
    rt_tokenizer_free(&t);
}

static void normal_form(void **state)
{
    (void)state;
    rt_tokenizer_parts parts = parts_new((const char *[]){NULL});
    parts.normalizer = NFC;
    rt_buf_addf(&parts.added, "{\"id\": 300, \"content\": \"e\\u0301!\", \"normalized\": true}");
    rt_tokenizer *t = parts_load(&parts);
    assert_encodes(t, "e\xcc\x81", 0xc3, 0xa9);       /* e + U+0301 is U+00E9 */
    assert_encodes(t, "\xcc\x81", 0xcc, 0x81);
    assert_encodes(t, "a\xc3\xa9!b", 'a', 300, 'b');  /* both spellings of the added token */
    assert_encodes(t, "ae\xcc\x81!b", 'a', 300, 'b');
    assert_int_equal(rt_tokenizer_special(t, "e\xcc\x81!"), 300);
    rt_tokenizer_free(&t);
}

static void added_tokens(void **state)
{
    (void)state;
    rt_tokenizer_parts parts = parts_new((const char *[]){NULL});
    rt_parts_added(&parts, "<a>", 3, 300, true);
    rt_parts_added(&parts, "<a><b>", 6, 301, false);
    rt_buf_addf(&parts.added, ",{\"id\": 302, \"content\": \"<l>\", \"lstrip\": true}"
                ",{\"id\": 303, \"content\": \"<r>\", \"rstrip\": true}"
                ",{\"id\": 304, \"content\": \"dog\", \"single_word\": true}"
                ",{\"id\": 305, \"content\": \"a b\", \"special\": true}");
    rt_tokenizer *t = parts_load(&parts);
    assert_int_equal(rt_tokenizer_vocab(t), 306);
    assert_int_equal(rt_tokenizer_special(t, "<a>"), 300);
    assert_int_equal(rt_tokenizer_special(t, "<b>"), -1);
    assert_encodes(t, "<a><a><b><a", 300, 301, '<', 'a'); /* the longest; a cut one is text */
    assert_encodes(t, "x \t<l> y", 'x', 302, ' ', 'y');
    assert_encodes(t, "x <r>\xc2\xa0 y", 'x', ' ', 303, 'y'); /* no-break space is white space */
    assert_encodes(t, "<r> <l>", 303, 302);  /* a space is swallowed once */
    assert_encodes(t, "dog, dogs", 304, ',', ' ', 'd', 'o', 'g', 's');
    assert_encodes(t, "\xc3\xa9" "dog dog", 0xc3, 0xa9, 'd', 'o', 'g', ' ', 304);
    assert_encodes(t, "a b", 305);
    size_t bytes;
    assert_memory_equal(rt_tokenizer_bytes(t, 305, &bytes), "a b", 4);
    assert_int_equal(bytes, 3);
    assert_null(rt_tokenizer_bytes(t, 299, &bytes));
    rt_tokenizer_free(&t);
}

/* Pieces of text joined by '|'. */
static void assert_pieces(const rt_splitter *splitter, const char *text, const char *expected)
{
    rt_split_scratch scratch = {0};
    rt_error err = {0};
    rt_buf got = {0};
    assert_int_equal(rt_splitter_run(splitter, &scratch, text, strlen(text), &err), 0);
    for (size_t i = 0; i < scratch.now.count; i++) {
        rt_span piece = scratch.now.items[i];
        rt_buf_addf(&got, "%s%.*s", i == 0 ? "" : "|", (int)(piece.end - piece.begin),
                    text + piece.begin);
    }
    assert_string_equal(got.bytes == 0 ? "" : got.data, expected);
    rt_buf_free(&got);
    rt_split_scratch_free(&scratch);
}

static void assert_split(const char *pattern, bool literal, enum rt_split_behavior behavior,
                         bool invert, const char *text, const char *expected)
{
    rt_splitter splitter = {0};
    rt_error err = {0};
    int rc = rt_splitter_add(&splitter, pattern, strlen(pattern), literal, behavior, invert, &err);
    assert_int_equal(rc, 0);
    assert_pieces(&splitter, text, expected);
    rt_splitter_free(&splitter);
}

static void splits(void **state)
{
    (void)state;
    const char *text = "the-final--countdown";
    assert_split("-", true, RT_SPLIT_ISOLATED, false, text, "the|-|final|-|-|countdown");
    assert_split("-", true, RT_SPLIT_REMOVED, false, text, "the|final|countdown");
    assert_split("-", true, RT_SPLIT_PREVIOUS, false, text, "the-|final-|-|countdown");
    assert_split("-", true, RT_SPLIT_NEXT, false, text, "the|-final|-|-countdown");
    assert_split("-", true, RT_SPLIT_CONTIGUOUS, false, text, "the|-|final|--|countdown");
    assert_split("[a-z]+", false, RT_SPLIT_REMOVED, true, text, "the|final|countdown");
    assert_split(".", true, RT_SPLIT_ISOLATED, false, "a.b", "a|.|b"); /* not any character */
    assert_split("x*", false, RT_SPLIT_ISOLATED, false, "axx\xc3\xa9x", "a|xx|\xc3\xa9|x");
    assert_split("\\p{N}", false, RT_SPLIT_ISOLATED, false, "a12\xc2\xbd", "a|1|2|\xc2\xbd");
    assert_split(rt_split_gpt2, false, RT_SPLIT_ISOLATED, false, "I'm  12 a1\n\n b",
                 "I|'m| | 12| a|1|\n\n| b");
    /* U+180E has not been white space since Unicode 6.3 */
    assert_split(rt_split_gpt2, false, RT_SPLIT_ISOLATED, false, "\xe1\xa0\x8e!",
                 "\xe1\xa0\x8e!");
    assert_split("[\\s]", false, RT_SPLIT_ISOLATED, false, "a\xc2\x85" "b", "a|\xc2\x85|b");
    assert_split("\\S", false, RT_SPLIT_ISOLATED, false, "a\xe1\xa0\x8e ", "a|\xe1\xa0\x8e| ");
}

static void digits_apart(void **state)
{
    (void)state;
    rt_tokenizer_parts parts = parts_new((const char *[]){"1", "2", NULL});
    rt_tokenizer *t = parts_load(&parts);
    assert_encodes(t, "12", 256);
    rt_tokenizer_free(&t);
    parts = parts_new((const char *[]){"1", "2", NULL});
    parts.pre_tokenizer = rt_pre_tokenizer_digits;
    t = parts_load(&parts);
    assert_encodes(t, "12", '1', '2');
    rt_tokenizer_free(&t);
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        const char *json, *named;
    } cases[] = {
        {"", "line"},
        {"{\"model\": {\"type\": \"BPE\"", "line"},
        {"[]", "model"},
        {"{\"model\": {\"type\": \"WordPiece\"}}", "WordPiece"},
        {"{\"model\": {\"vocab\": {}}}", "merges"},
        {"{\"model\": {\"vocab\": {\"a\": -1}, \"merges\": []}}", "'a'"},
        {"{\"model\": {\"vocab\": {\"a\": 9999999}, \"merges\": []}}", "'a'"},
        {"{\"model\": {\"vocab\": {\"a\": 1, \"b\": 1}, \"merges\": []}}", "id 1"},
        {"{\"model\": {\"vocab\": {\"a\": 1, \"b\": 2}, \"merges\": [\"a b\"]}}", "merge 0"},
        {"{\"model\": {\"vocab\": {\"a\": 1}, \"merges\": [\"a\"]}}", "merge 0"},
        {"{\"model\": {\"vocab\": {\"a\": 1}, \"merges\": [[\"a\"]]}}", "merge 0"},
        {"{\"model\": {\"vocab\": {}, \"merges\": [], \"unk_token\": \"q\"}}", "'q'"},
        {"{\"model\": {\"vocab\": {}, \"merges\": [], \"byte_fallback\": true}}", "byte_fallback"},
        {"{\"model\": {\"vocab\": {}, \"merges\": []}}", "pre-tokenizer"},
        {"{\"model\": {\"vocab\": {}, \"merges\": []}, \"pre_tokenizer\": "
         "{\"type\": \"Metaspace\"}}", "Metaspace"},
        {"{\"model\": {\"vocab\": {}, \"merges\": []}, \"normalizer\": {\"type\": \"Lowercase\"}}",
         "Lowercase"},
        {"{\"model\": {\"vocab\": {}, \"merges\": []}, \"pre_tokenizer\": "
         "{\"type\": \"ByteLevel\"}}", "add_prefix_space"},
        {"{\"model\": {\"vocab\": {}, \"merges\": []}, \"pre_tokenizer\": {\"type\": \"Split\","
         "\"pattern\": {\"Regex\": \"(\"}, \"behavior\": \"Isolated\"}}", "'('"},
        {"{\"model\": {\"vocab\": {}, \"merges\": []}, \"pre_tokenizer\": {\"type\": \"Split\","
         "\"pattern\": {\"Regex\": \"[a&&b]\"}, \"behavior\": \"Isolated\"}}", "&&"},
        {"{\"model\": {\"vocab\": {}, \"merges\": []}, \"pre_tokenizer\": {\"type\": \"Split\","
         "\"pattern\": {\"Regex\": \"a\"}, \"behavior\": \"Weird\"}}", "Weird"},
        {"{\"model\": {\"vocab\": {}, \"merges\": []}, \"decoder\": {\"type\": \"Metaspace\"},"
         "\"pre_tokenizer\": " BYTE_LEVEL "}", "Metaspace"},
        {"{\"model\": {\"vocab\": {\"a\": 1}, \"merges\": []}, \"pre_tokenizer\": " BYTE_LEVEL
         ", \"added_tokens\": [{\"id\": 1, \"content\": \"<x>\"}]}", "id 1"},
        {"{\"model\": {\"vocab\": {}, \"merges\": []}, \"pre_tokenizer\": " BYTE_LEVEL
         ", \"added_tokens\": [{\"id\": 1}]}", "added token"},
    };
    for (size_t i = 0; i < RT_COUNT(cases); i++) {
        assert_refused(cases[i].json, cases[i].named);
    }
}

/* ---- GGUF ------------------------------------------------------------------------------------ */

static void gguf_text(rt_buf *file, const char *text, size_t bytes)
{
    uint64_t length = bytes;
    rt_buf_add(file, &length, 8);
    rt_buf_add(file, text, bytes);
}

static void gguf_key(rt_buf *file, const char *key, uint32_t type)
{
    gguf_text(file, key, strlen(key));
    rt_buf_add(file, &type, 4);
}

static void gguf_list(rt_buf *file, const char *key, uint32_t type, uint64_t count)
{
    gguf_key(file, key, 9);
    rt_buf_add(file, &type, 4);
    rt_buf_add(file, &count, 8);
}

/* A file without tensors: 256 bytes, "12" (256), a control token (257), "é!" by the user (258). */
static void gguf_write(rt_buf *file, const char *model, const char *pre)
{
    uint32_t version = 3, int32_type = 5, text_type = 8;
    uint64_t counts[2] = {0, 5};
    rt_buf_add(file, "GGUF", 4);
    rt_buf_add(file, &version, 4);
    rt_buf_add(file, counts, 16);
    gguf_key(file, "tokenizer.ggml.model", text_type);
    gguf_text(file, model, strlen(model));
    gguf_key(file, "tokenizer.ggml.pre", text_type);
    gguf_text(file, pre, strlen(pre));
    gguf_list(file, "tokenizer.ggml.tokens", text_type, 259);
    for (int i = 0; i < 256; i++) {
        rt_buf name = {0};
        char byte = (char)i;
        rt_alphabet_write(&name, &byte, 1);
        gguf_text(file, name.data, name.bytes);
        rt_buf_free(&name);
    }
    gguf_text(file, "12", 2);
    gguf_text(file, "<\"\\>", 4);
    gguf_text(file, "\xc3\xa9!", 3);
    gguf_list(file, "tokenizer.ggml.token_type", int32_type, 259);
    for (int32_t i = 0; i < 259; i++) {
        int32_t type = i < 257 ? 1 : i == 257 ? 3 : 4;
        rt_buf_add(file, &type, 4);
    }
    gguf_list(file, "tokenizer.ggml.merges", text_type, 1);
    gguf_text(file, "1 2", 3);
}

static int gguf_load(const char *model, const char *pre, rt_tokenizer **t, rt_error *err)
{
    char path[] = "/tmp/retake_tokenizer_XXXXXX.gguf";
    int fd = mkstemps(path, 5);
    assert_true(fd >= 0);
    rt_buf file = {0}, json = {0};
    gguf_write(&file, model, pre);
    assert_int_equal(write(fd, file.data, file.bytes), file.bytes);
    close(fd);
    int rc = rt_tokenizer_from_gguf(path, &json, err);
    unlink(path);
    if (rc == 0) {
        rc = rt_tokenizer_parse(t, json.data, json.bytes, err);
    }
    rt_buf_free(&file);
    rt_buf_free(&json);
    return rc;
}

static void gguf(void **state)
{
    (void)state;
    rt_tokenizer *t = NULL;
    rt_error err = {0};
    assert_int_equal(gguf_load("gpt2", "smollm", &t, &err), 0);
    assert_encodes(t, "12<\"\\>\xc3\xa9!", '1', '2', 257, 258);
    assert_int_equal(rt_tokenizer_special(t, "<\"\\>"), 257);
    assert_round_trip(t, "\xc3\xa9!", 3);
    rt_tokenizer_free(&t);
    assert_int_equal(gguf_load("gpt2", "llama-bpe", &t, &err), 0);
    assert_encodes(t, "12", 256);
    rt_tokenizer_free(&t);
    assert_int_equal(gguf_load("gpt2", "qwen2", &t, &err), 0);
    assert_encodes(t, "12e\xcc\x81", '1', '2', 0xc3, 0xa9);
    rt_tokenizer_free(&t);
    assert_int_equal(gguf_load("gpt2", "strange", &t, &err), RT_ERR_INPUT);
    assert_non_null(strstr(err.message, "strange"));
    assert_int_equal(gguf_load("llama", "default", &t, &err), RT_ERR_INPUT);
    assert_non_null(strstr(err.message, "'llama'"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alphabet),
        cmocka_unit_test(merges_by_rank),
        cmocka_unit_test(merges_short_and_long),
        cmocka_unit_test(merges_of_a_very_long_word),
        cmocka_unit_test(whole_pieces_first),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(normal_form),
        cmocka_unit_test(added_tokens),
        cmocka_unit_test(splits),
        cmocka_unit_test(digits_apart),
        cmocka_unit_test(refusals),
        cmocka_unit_test(gguf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
