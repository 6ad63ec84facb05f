/* Vocabulary: the byte alphabet of GPT-2, and the table between ids and bytes. */
#include <string.h>

#include "model/tokenizer.h"

/* Printable Latin-1 bytes stand for themselves; the others take 0x100, 0x101, … in order. */
int rt_alphabet_char(uint8_t byte)
{
    if ((byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad)) {
        return byte;
    }
    if (byte <= 0x20) {
        return 0x100 + byte;
    }
    if (byte <= 0xa0) {
        return 0x100 + 33 + (byte - 0x7f);
    }
    return 0x100 + 67; /* 0xad, the soft hyphen */
}

/* Byte of a code point of the alphabet, −1: none. */
static int alphabet_byte(int point)
{
    if (point < 0x100) {
        return rt_alphabet_char((uint8_t)point) == point ? point : -1;
    }
    int rest = point - 0x100;
    if (rest < 33) {
        return rest;
    }
    if (rest < 67) {
        return 0x7f + rest - 33;
    }
    return rest == 67 ? 0xad : -1;
}

void rt_alphabet_write(rt_buf *out, const void *bytes, size_t count)
{
    const uint8_t *at = bytes;
    for (size_t i = 0; i < count; i++) {
        int point = rt_alphabet_char(at[i]);
        char utf8[2] = {(char)point, 0};
        if (point >= 0x80) {
            utf8[0] = (char)(0xc0 | (point >> 6));
            utf8[1] = (char)(0x80 | (point & 0x3f));
        }
        rt_buf_add(out, utf8, point >= 0x80 ? 2 : 1);
    }
}

ptrdiff_t rt_alphabet_read(const char *text, size_t bytes, char *out)
{
    ptrdiff_t count = 0;
    for (size_t i = 0; i < bytes; i++) {
        int point = (uint8_t)text[i];
        if (point >= 0x80) { /* the alphabet ends at 0x143: two bytes of UTF-8 at most */
            if ((point & 0xe0) != 0xc0 || i + 1 == bytes || (text[i + 1] & 0xc0) != 0x80) {
                return -1;
            }
            point = (point & 0x1f) << 6 | (text[++i] & 0x3f);
        }
        int byte = alphabet_byte(point);
        if (byte < 0) {
            return -1;
        }
        out[count++] = (char)byte;
    }
    return count;
}

static void index_insert(rt_vocab *vocab, int32_t id)
{
    const rt_token *token = &vocab->tokens[id];
    size_t slot = rt_hash64(vocab->text.data + token->offset, token->bytes, 0) & vocab->index_mask;
    while (vocab->index[slot] != 0) {
        slot = (slot + 1) & vocab->index_mask;
    }
    vocab->index[slot] = id + 1;
}

static void index_grow(rt_vocab *vocab)
{
    size_t slots_old = vocab->index == NULL ? 0 : vocab->index_mask + 1;
    size_t slots = slots_old == 0 ? 1024 : slots_old * 2;
    int32_t *old = vocab->index;
    vocab->index = rt_alloc(slots * sizeof *vocab->index);
    vocab->index_mask = slots - 1;
    for (size_t i = 0; i < slots_old; i++) {
        if (old[i] != 0) {
            index_insert(vocab, old[i] - 1);
        }
    }
    rt_free(old);
}

void rt_vocab_set(rt_vocab *vocab, int32_t id, const void *bytes, size_t count, bool indexed)
{
    RT_ASSERT(id >= 0 && id < RT_TOKENIZER_IDS_MAX);
    if (id >= vocab->capacity) {
        int capacity = RT_MAX(id + 1, RT_MAX(vocab->capacity * 2, 512));
        vocab->tokens = rt_realloc(vocab->tokens,
                                   (size_t)vocab->capacity * sizeof *vocab->tokens,
                                   (size_t)capacity * sizeof *vocab->tokens);
        vocab->capacity = capacity;
    }
    vocab->count = RT_MAX(vocab->count, id + 1);
    vocab->tokens[id] = (rt_token){vocab->text.bytes, (uint32_t)count, true};
    rt_buf_add(&vocab->text, bytes, count);
    if (indexed) {
        if (vocab->index == NULL || vocab->index_used * 2 > vocab->index_mask) {
            index_grow(vocab);
        }
        index_insert(vocab, id);
        vocab->index_used++;
    }
}

int32_t rt_vocab_find(const rt_vocab *vocab, const void *bytes, size_t count)
{
    if (vocab->index == NULL) {
        return -1;
    }
    size_t slot = rt_hash64(bytes, count, 0) & vocab->index_mask;
    for (; vocab->index[slot] != 0; slot = (slot + 1) & vocab->index_mask) {
        int32_t id = vocab->index[slot] - 1;
        const rt_token *token = &vocab->tokens[id];
        if (token->bytes == count
            && (count == 0 || memcmp(vocab->text.data + token->offset, bytes, count) == 0)) {
            return id;
        }
    }
    return -1;
}

const char *rt_vocab_get(const rt_vocab *vocab, int32_t id, size_t *bytes)
{
    if (id < 0 || id >= vocab->count || !vocab->tokens[id].present) {
        *bytes = 0;
        return NULL;
    }
    *bytes = vocab->tokens[id].bytes;
    return *bytes == 0 ? "" : vocab->text.data + vocab->tokens[id].offset;
}

void rt_vocab_free(rt_vocab *vocab)
{
    rt_free(vocab->tokens);
    rt_free(vocab->index);
    rt_buf_free(&vocab->text);
    *vocab = (rt_vocab){0};
}
