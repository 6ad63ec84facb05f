/*
 * Added tokens ("<|im_end|>") are found in the text before it is split: the longest at the
 * leftmost place. single_word asks for no letter or digit beside it, lstrip and rstrip swallow
 * the white space around it.
 */
#include <string.h>
#include <utf8proc.h>

#include "model/tokenizer.h"

struct rt_added_node {
    int32_t index;          /* added token that ends here, −1: none */
    int32_t child, sibling; /* 0: none (node 0 is the root) */
    uint8_t byte;
};

static int32_t node_new(rt_added_trie *trie, uint8_t byte)
{
    if (trie->count == trie->capacity) {
        int32_t capacity = RT_MAX(trie->capacity * 2, 64);
        trie->nodes = rt_realloc(trie->nodes, (size_t)trie->capacity * sizeof *trie->nodes,
                                 (size_t)capacity * sizeof *trie->nodes);
        trie->capacity = capacity;
    }
    trie->nodes[trie->count] = (struct rt_added_node){.index = -1, .byte = byte};
    return trie->count++;
}

static int32_t node_child(const rt_added_trie *trie, int32_t node, uint8_t byte)
{
    int32_t child = trie->nodes[node].child;
    while (child != 0 && trie->nodes[child].byte != byte) {
        child = trie->nodes[child].sibling;
    }
    return child;
}

void rt_added_trie_add(rt_added_trie *trie, const char *text, size_t bytes, int32_t index)
{
    RT_ASSERT(bytes > 0);
    if (trie->count == 0) {
        node_new(trie, 0);
    }
    int32_t node = 0;
    for (size_t i = 0; i < bytes; i++) {
        uint8_t byte = (uint8_t)text[i];
        int32_t child = node_child(trie, node, byte);
        if (child == 0) {
            child = node_new(trie, byte);
            trie->nodes[child].sibling = trie->nodes[node].child;
            trie->nodes[node].child = child;
        }
        if (node == 0) {
            trie->first[byte] = child;
        }
        node = child;
    }
    trie->nodes[node].index = index;
}

void rt_added_trie_free(rt_added_trie *trie)
{
    rt_free(trie->nodes);
    *trie = (rt_added_trie){0};
}

/* Longest added token that begins at `at`: its index and end, −1: none. */
static int32_t longest_at(const rt_added_trie *trie, const char *text, size_t bytes, size_t at,
                          size_t *end)
{
    int32_t found = -1;
    int32_t node = trie->first[(uint8_t)text[at]];
    while (node != 0) {
        at++;
        if (trie->nodes[node].index >= 0) {
            found = trie->nodes[node].index;
            *end = at;
        }
        node = at < bytes ? node_child(trie, node, (uint8_t)text[at]) : 0;
    }
    return found;
}

static bool point_is_space(utf8proc_int32_t point)
{
    return (point >= 0x9 && point <= 0xd) || point == 0x20 || point == 0x85 || point == 0xa0
           || point == 0x1680 || (point >= 0x2000 && point <= 0x200a) || point == 0x2028
           || point == 0x2029 || point == 0x202f || point == 0x205f || point == 0x3000;
}

/* What regular expressions call \w: letters, marks, digits, connectors, joiners. */
static bool point_is_word(utf8proc_int32_t point)
{
    if (point == 0x200c || point == 0x200d) {
        return true;
    }
    switch (utf8proc_category(point)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default: /* circled letters count as alphabetic too */
        return point >= 0x24b6 && point <= 0x24e9;
    }
}

/* Character that begins at `at`; its length, 0: none or invalid. */
static size_t point_after(const char *text, size_t bytes, size_t at, utf8proc_int32_t *point)
{
    if (at >= bytes) {
        return 0;
    }
    size_t rest = RT_MIN(bytes - at, (size_t)4);
    utf8proc_ssize_t length =
        utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)rest, point);
    return length > 0 ? (size_t)length : 0;
}

/* Character that ends at `at`; its length, 0: none or invalid. */
static size_t point_before(const char *text, size_t at, utf8proc_int32_t *point)
{
    for (size_t length = 1; length <= 4 && length <= at; length++) {
        if ((text[at - length] & 0xc0) != 0x80) {
            return point_after(text, at, at - length, point) == length ? length : 0;
        }
    }
    return 0;
}

static bool stands_alone(const char *text, size_t bytes, size_t begin, size_t end)
{
    utf8proc_int32_t point;
    if (point_before(text, begin, &point) > 0 && point_is_word(point)) {
        return false;
    }
    return !(point_after(text, bytes, end, &point) > 0 && point_is_word(point));
}

bool rt_added_next(const rt_added_trie *trie, const rt_added *added, const char *text,
                   size_t bytes, size_t *scan, size_t *taken, rt_added_match *match)
{
    if (trie->count == 0) {
        return false;
    }
    for (size_t at = *scan; at < bytes; at++) {
        size_t end = 0;
        int32_t index = longest_at(trie, text, bytes, at, &end);
        if (index < 0) {
            continue;
        }
        const rt_added *token = &added[index];
        if (at < *taken || (token->single_word && !stands_alone(text, bytes, at, end))) {
            at = end - 1;
            continue;
        }
        *scan = end;
        utf8proc_int32_t point;
        size_t begin = at, length;
        while (token->lstrip && begin > *taken
               && (length = point_before(text, begin, &point)) > 0 && point_is_space(point)) {
            begin -= length;
        }
        while (token->rstrip && (length = point_after(text, bytes, end, &point)) > 0
               && point_is_space(point)) {
            end += length;
        }
        *match = (rt_added_match){RT_MAX(begin, *taken), end, token->id};
        *taken = end;
        return true;
    }
    *scan = bytes;
    return false;
}
