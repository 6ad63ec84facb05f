/*
 * Pre-tokenizers: stages of regular expressions that cut a text into pieces. Published patterns are
 * written for Oniguruma; the few points where PCRE2 reads them otherwise are rewritten here:
 * white space is Unicode's White_Space, ^ and $ are of lines.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "model/tokenizer.h"

#define SPACES                                                                                   \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"  \
    "\\x{205f}\\x{3000}"

enum { PATTERN_BYTES_MAX = 1 << 16 };

const char rt_split_gpt2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* One escape at pattern[0] = '\\'; returns the bytes it takes. */
static size_t rewrite_escape(const char *pattern, size_t bytes, bool in_class, rt_buf *out)
{
    if (bytes == 1) {
        rt_buf_add(out, pattern, 1);
        return 1;
    }
    if (pattern[1] == 's') {
        rt_buf_addf(out, in_class ? "%s" : "[%s]", SPACES);
    } else if (pattern[1] == 'S' && !in_class) {
        rt_buf_addf(out, "[^%s]", SPACES);
    } else {
        rt_buf_add(out, pattern, 2);
    }
    return 2;
}

static int rewrite(const char *pattern, size_t bytes, rt_buf *out, rt_error *err)
{
    bool in_class = false;
    for (size_t i = 0; i < bytes;) {
        char c = pattern[i];
        if (c == '\\') {
            i += rewrite_escape(pattern + i, bytes - i, in_class, out);
            continue;
        }
        if (in_class && i + 1 < bytes
            && ((c == '&' && pattern[i + 1] == '&') || (c == '[' && pattern[i + 1] != ':'))) {
            return rt_fail(err, RT_ERR_INPUT, "split pattern '%.120s': classes inside classes and "
                           "'&&' are not supported; write one class", pattern);
        }
        if (in_class && c == '[') { /* [:name:] */
            const char *end = memchr(pattern + i + 2, ']', bytes - i - 2);
            size_t length = end == NULL ? 1 : (size_t)(end + 1 - (pattern + i));
            rt_buf_add(out, pattern + i, length);
            i += length;
            continue;
        }
        rt_buf_add(out, &c, 1);
        i++;
        if (!in_class && c == '[') { /* a bracket right after the opening is literal */
            in_class = true;
            size_t first = i < bytes && pattern[i] == '^' ? i + 1 : i;
            first += first < bytes && pattern[first] == ']';
            rt_buf_add(out, pattern + i, first - i);
            i = first;
        } else if (c == ']') {
            in_class = false;
        }
    }
    return 0;
}

/* Plain text as an expression: every ASCII character that is no letter or digit is escaped. */
static void quote(const char *text, size_t bytes, rt_buf *out)
{
    for (size_t i = 0; i < bytes; i++) {
        uint8_t c = (uint8_t)text[i];
        if (c == 0) {
            rt_buf_addf(out, "\\x{0}");
            continue;
        }
        bool plain = c >= 0x80 || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
        rt_buf_addf(out, plain ? "%c" : "\\%c", c);
    }
}

int rt_splitter_add(rt_splitter *splitter, const char *pattern, size_t bytes, bool literal,
                    enum rt_split_behavior behavior, bool invert, rt_error *err)
{
    if (splitter->count == RT_TOKENIZER_STAGES_MAX) {
        return rt_fail(err, RT_ERR_LIMIT, "the pre-tokenizer has more than %d splits",
                       RT_TOKENIZER_STAGES_MAX);
    }
    if (bytes > PATTERN_BYTES_MAX || rt_utf8_valid(pattern, bytes) != bytes) {
        return rt_fail(err, RT_ERR_INPUT, "a split pattern is longer than %d bytes or not UTF-8",
                       PATTERN_BYTES_MAX);
    }
    rt_buf text = {0};
    int rc = 0;
    if (literal) {
        quote(pattern, bytes, &text);
    } else {
        rc = rewrite(pattern, bytes, &text, err);
    }
    if (rc < 0) {
        rt_buf_free(&text);
        return rc;
    }
    int code = 0;
    PCRE2_SIZE place = 0;
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)(text.bytes == 0 ? "" : text.data),
                                         text.bytes, options, &code, &place, NULL);
    rt_buf_free(&text);
    if (compiled == NULL) {
        char why[160] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        return rt_fail(err, RT_ERR_INPUT, "split pattern '%.120s': %s", pattern, why);
    }
    bool machine_code = pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE) == 0;
    splitter->stages[splitter->count++] =
        (rt_split_stage){compiled, machine_code, invert, behavior};
    return 0;
}

void rt_splitter_free(rt_splitter *splitter)
{
    for (int i = 0; i < splitter->count; i++) {
        pcre2_code_free(splitter->stages[i].code);
    }
    splitter->count = 0;
}

static void spans_add(rt_spans *spans, size_t begin, size_t end)
{
    if (spans->count == spans->capacity) {
        size_t capacity = RT_MAX(spans->capacity * 2, (size_t)64);
        spans->items = rt_realloc(spans->items, spans->capacity * sizeof *spans->items,
                                  capacity * sizeof *spans->items);
        spans->capacity = capacity;
    }
    spans->items[spans->count++] = (rt_span){begin, end};
}

/* Adds one stretch, a match or what lies between, as the behaviour says. `first`: pieces of this
 * input begin there; *before: was the stretch before it a match? */
static void stretch_add(rt_spans *out, enum rt_split_behavior behavior, size_t first,
                        bool *before, rt_span stretch, bool is_match)
{
    bool join = false;
    switch (behavior) {
    case RT_SPLIT_ISOLATED:
        break;
    case RT_SPLIT_REMOVED:
        if (is_match) {
            return;
        }
        break;
    case RT_SPLIT_PREVIOUS:
        join = is_match && !*before;
        break;
    case RT_SPLIT_NEXT:
        join = !is_match && *before;
        break;
    case RT_SPLIT_CONTIGUOUS:
        join = is_match == *before;
        break;
    }
    *before = is_match;
    if (join && out->count > first) {
        out->items[out->count - 1].end = stretch.end;
    } else {
        spans_add(out, stretch.begin, stretch.end);
    }
}

static int match_at(const rt_split_stage *stage, pcre2_match_data *data, const char *text,
                    size_t bytes, size_t at)
{
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    if (stage->compiled) {
        rc = pcre2_jit_match(stage->code, (PCRE2_SPTR)text, bytes, at, 0, data, NULL);
    }
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) { /* the interpreter keeps its stack on the heap */
        rc = pcre2_match(stage->code, (PCRE2_SPTR)text, bytes, at,
                         PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data, NULL);
    }
    return rc;
}

static int split_piece(const rt_split_stage *stage, pcre2_match_data *data, const char *text,
                       rt_span piece, rt_spans *out, rt_error *err)
{
    const char *at = text + piece.begin;
    size_t bytes = piece.end - piece.begin, done = 0, from = 0, first = out->count;
    const PCRE2_SIZE *found = pcre2_get_ovector_pointer(data);
    bool before = false;
    while (from < bytes) {
        int rc = match_at(stage, data, at, bytes, from);
        if (rc == PCRE2_ERROR_NOMATCH) {
            break;
        }
        if (rc < 0 || found[0] < from || found[1] < found[0]) {
            char why[160] = "the match ends before it begins";
            if (rc < 0) {
                pcre2_get_error_message(rc, (PCRE2_UCHAR *)why, sizeof why);
            }
            return rt_fail(err, RT_ERR_LIMIT, "the tokenizer's split pattern failed at byte %zu of "
                           "a piece of %zu bytes: %s", from, bytes, why);
        }
        rt_span match = {piece.begin + found[0], piece.begin + found[1]};
        if (match.begin == match.end) { /* an empty match cuts nothing off: one character on */
            for (from = found[1] + 1; from < bytes && (at[from] & 0xc0) == 0x80; from++) {
            }
            continue;
        }
        if (found[0] > done) {
            stretch_add(out, stage->behavior, first, &before,
                        (rt_span){piece.begin + done, match.begin}, stage->invert);
        }
        stretch_add(out, stage->behavior, first, &before, match, !stage->invert);
        done = from = found[1];
    }
    if (done < bytes) {
        stretch_add(out, stage->behavior, first, &before,
                    (rt_span){piece.begin + done, piece.end}, stage->invert);
    }
    return 0;
}

int rt_splitter_run(const rt_splitter *splitter, rt_split_scratch *scratch, const char *text,
                    size_t bytes, rt_error *err)
{
    if (scratch->match == NULL) {
        scratch->match = pcre2_match_data_create(1, NULL);
        if (scratch->match == NULL) {
            return rt_fail(err, RT_ERR_NOMEM, "no memory for splitting text");
        }
    }
    scratch->now.count = 0;
    if (bytes > 0) {
        spans_add(&scratch->now, 0, bytes);
    }
    for (int s = 0; s < splitter->count; s++) {
        scratch->next.count = 0;
        for (size_t i = 0; i < scratch->now.count; i++) {
            int rc = split_piece(&splitter->stages[s], scratch->match, text,
                                 scratch->now.items[i], &scratch->next, err);
            if (rc < 0) {
                return rc;
            }
        }
        rt_spans swap = scratch->now;
        scratch->now = scratch->next;
        scratch->next = swap;
    }
    return 0;
}

void rt_split_scratch_free(rt_split_scratch *scratch)
{
    rt_free(scratch->now.items);
    rt_free(scratch->next.items);
    pcre2_match_data_free(scratch->match);
    *scratch = (rt_split_scratch){0};
}
