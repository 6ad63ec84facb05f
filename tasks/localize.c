/*
 * localize: what a model's judgement of a chain says: which thought is the first wrong one, and
 * whether the chain is right. Two orders of reading it, those of the resets paper (SRPO) and of
 * iterative correction (Thought-ICS). One pass over the text each, any bytes allowed.
 */
#include "tasks/tasks.h"

#include <limits.h>
#include <string.h>

static const char BOX[] = "\\boxed{";
enum { BOX_BYTES = sizeof BOX - 1 };

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Stricter than the graders' box: no space before the brace, every brace counts. From the end, the
 * number of closing braces still unmatched says whether a box is complete, so that text full of
 * open boxes costs one pass. */
static bool last_box(const char *text, size_t bytes, const char **begin, size_t *content)
{
    size_t unmatched = 0;
    for (size_t i = bytes; i-- > 0;) {
        if (text[i] == '}') {
            unmatched++;
        }
        if (text[i] != '{' || unmatched == 0) {
            continue;
        }
        unmatched--;
        if (i + 1 < BOX_BYTES || memcmp(text + i + 1 - BOX_BYTES, BOX, BOX_BYTES)) {
            continue;
        }
        size_t depth = 1, at = i + 1;
        while (depth) {
            depth += text[at] == '{';
            depth -= text[at] == '}';
            at++;
        }
        *begin = text + i + 1;
        *content = at - i - 2;
        return true;
    }
    return false;
}

/* Digits at `at`, cut off at INT_MAX; *end is behind them. */
static int read_digits(const char *text, size_t bytes, size_t at, size_t *end)
{
    int value = 0;
    for (; at < bytes && is_digit(text[at]); at++) {
        int digit = text[at] - '0';
        value = value > (INT_MAX - digit) / 10 ? INT_MAX : value * 10 + digit;
    }
    *end = at;
    return value;
}

/* The whole text is one integer, space and a sign allowed; below zero: -1. */
static bool whole_integer(const char *text, size_t bytes, int *value)
{
    size_t at = 0, end;
    while (at < bytes && is_space(text[at])) {
        at++;
    }
    while (bytes > at && is_space(text[bytes - 1])) {
        bytes--;
    }
    bool signed_down = at < bytes && text[at] == '-';
    at += at < bytes && (text[at] == '-' || text[at] == '+');
    *value = read_digits(text, bytes, at, &end);
    if (signed_down && *value > 0) {
        *value = -1;
    }
    return end > at && end == bytes;
}

/* What both orders look at first: the last complete box, if it holds 0 to `thoughts`. */
static bool boxed_step(const char *text, size_t bytes, int thoughts, int *value)
{
    const char *content;
    size_t content_bytes;
    return last_box(text, bytes, &content, &content_bytes) &&
           whole_integer(content, content_bytes, value) && *value >= 0 && *value <= thoughts;
}

/* The number of the last "Step <int>" (or "step"); 0: none. */
static int last_named_step(const char *text, size_t bytes)
{
    for (size_t i = bytes < 6 ? 0 : bytes - 5; i-- > 0;) {
        if ((text[i] != 'S' && text[i] != 's') || memcmp(text + i + 1, "tep", 3)) {
            continue;
        }
        size_t at = i + 4, end;
        while (at < bytes && is_space(text[at])) {
            at++;
        }
        int value = read_digits(text, bytes, at, &end);
        if (at > i + 4 && end > at) {
            return value;
        }
    }
    return 0;
}

int rt_localize_parse(const char *text, size_t bytes, int thoughts, bool *failed)
{
    int value;
    *failed = false;
    if (boxed_step(text, bytes, thoughts, &value)) {
        return value;
    }
    value = last_named_step(text, bytes);
    if (value >= 1 && value <= thoughts) {
        return value;
    }
    *failed = true;
    return 1;
}

int rt_ics_localize_parse(const char *text, size_t bytes, int thoughts, bool *failed)
{
    int value;
    *failed = false;
    if (boxed_step(text, bytes, thoughts, &value)) {
        return value;
    }
    /* Only the first number counts: one out of range is not passed over for a later one. */
    size_t at = 0, end;
    while (at < bytes && !is_digit(text[at])) {
        at++;
    }
    value = read_digits(text, bytes, at, &end);
    if (value >= 1 && value <= thoughts) {
        return value;
    }
    *failed = true;
    return RT_MAX(1, thoughts / 2);
}

int rt_localize_clamp(int value, int thoughts)
{
    return RT_MAX(1, RT_MIN(value, thoughts));
}

/* ---- verification -------------------------------------------------------------------------------- */

/* `word` in lower case; letters of any case anywhere in the text, inside other words too. */
static bool holds(const char *text, size_t bytes, const char *word)
{
    size_t word_bytes = strlen(word);
    for (size_t i = 0; i + word_bytes <= bytes; i++) {
        size_t same = 0;
        while (same < word_bytes && (text[i + same] | 0x20) == word[same]) {
            same++;
        }
        if (same == word_bytes) {
            return true;
        }
    }
    return false;
}

int rt_verify_parse(const char *text, size_t bytes, bool as_released)
{
    const char *content;
    size_t content_bytes;
    bool box = last_box(text, bytes, &content, &content_bytes);
    if (box && holds(content, content_bytes, "yes")) {
        return RT_VERIFY_YES;
    }
    if (box && holds(content, content_bytes, "no")) {
        return RT_VERIFY_NO;
    }
    if (!box && as_released) {
        return RT_VERIFY_NO;
    }
    bool yes = holds(text, bytes, "yes"), no = holds(text, bytes, "no");
    if (yes != no) {
        return yes ? RT_VERIFY_YES : RT_VERIFY_NO;
    }
    return as_released ? RT_VERIFY_NO : RT_VERIFY_UNDECIDED;
}
