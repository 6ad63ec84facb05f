/* memory: allocations that cannot fail, arenas, growing buffers. */
#include "base/base.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64, ARENA_ALIGNMENT = 16, BLOCK_MIN = 1024 };

/* There is no way on from here and no memory to report with: one sentence, then the end. */
_Noreturn static void out_of_memory(size_t bytes)
{
    fprintf(stderr,
            "out of memory: %zu bytes were refused; free memory or choose smaller settings\n",
            bytes);
    _Exit(1);
}

void *rt_alloc(size_t bytes)
{
    if (bytes > PTRDIFF_MAX - ALIGNMENT) {
        out_of_memory(bytes);
    }
    size_t rounded = (RT_MAX(bytes, (size_t)1) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    void *pointer = aligned_alloc(ALIGNMENT, rounded);
    if (!pointer) {
        out_of_memory(bytes);
    }
    memset(pointer, 0, rounded);
    return pointer;
}

void *rt_realloc(void *pointer, size_t bytes_old, size_t bytes_new)
{
    void *grown = rt_alloc(bytes_new);
    if (pointer) {
        memcpy(grown, pointer, RT_MIN(bytes_old, bytes_new));
        free(pointer);
    }
    return grown;
}

void rt_free(void *pointer)
{
    free(pointer);
}

char *rt_strdup(const char *text)
{
    size_t bytes = strlen(text);
    char *copy = rt_alloc(bytes + 1);
    memcpy(copy, text, bytes);
    return copy;
}

char *rt_strndup(const char *text, size_t bytes)
{
    size_t length = strnlen(text, bytes);
    char *copy = rt_alloc(length + 1);
    memcpy(copy, text, length);
    return copy;
}

char *rt_format(const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    RT_ASSERT(length >= 0);
    char *text = rt_alloc((size_t)length + 1);
    vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

/* ---- arena ---- */

typedef struct block {
    struct block *next;
    size_t used, capacity;
    _Alignas(ARENA_ALIGNMENT) unsigned char data[];
} block;

struct rt_arena {
    block *first; /* the block in use; full ones follow it */
    size_t block_bytes;
};

static block *block_new(size_t capacity)
{
    if (capacity > PTRDIFF_MAX - sizeof(block) - ALIGNMENT) {
        out_of_memory(capacity);
    }
    block *fresh = rt_alloc(sizeof(block) + capacity);
    fresh->capacity = capacity;
    return fresh;
}

rt_arena *rt_arena_new(size_t block_bytes)
{
    rt_arena *arena = rt_alloc(sizeof *arena);
    arena->block_bytes = RT_MAX(block_bytes, (size_t)BLOCK_MIN);
    return arena;
}

void *rt_arena_alloc(rt_arena *arena, size_t bytes)
{
    if (bytes > PTRDIFF_MAX - ARENA_ALIGNMENT) {
        out_of_memory(bytes);
    }
    bytes = (RT_MAX(bytes, (size_t)1) + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
    block *first = arena->first;
    if (!first || first->capacity - first->used < bytes) {
        block *fresh = block_new(RT_MAX(bytes, arena->block_bytes));
        /* A block made for one large request goes behind, so that the rest of the first one
         * is not lost. */
        if (first && bytes > arena->block_bytes) {
            fresh->next = first->next;
            first->next = fresh;
        } else {
            fresh->next = first;
            arena->first = fresh;
        }
        first = fresh;
    }
    void *pointer = first->data + first->used;
    first->used += bytes;
    return pointer;
}

void rt_arena_reset(rt_arena *arena)
{
    block *keep = arena->first;
    if (!keep) {
        return;
    }
    for (block *other = keep->next; other;) {
        block *next = other->next;
        rt_free(other);
        other = next;
    }
    memset(keep->data, 0, keep->used);
    keep->used = 0;
    keep->next = NULL;
}

void rt_arena_free(rt_arena **arena)
{
    if (!*arena) {
        return;
    }
    rt_arena_reset(*arena);
    rt_free((*arena)->first);
    rt_free(*arena);
    *arena = NULL;
}

/* ---- buffer ---- */

static void reserve(rt_buf *buf, size_t more)
{
    if (more > PTRDIFF_MAX / 2 || buf->bytes > PTRDIFF_MAX / 2 - 1) {
        out_of_memory(more);
    }
    size_t need = buf->bytes + more + 1;
    if (need <= buf->capacity) {
        return;
    }
    size_t capacity = RT_MAX(need, RT_MAX(buf->capacity * 2, (size_t)64));
    buf->data = rt_realloc(buf->data, buf->data ? buf->bytes + 1 : 0, capacity);
    buf->capacity = capacity;
}

void rt_buf_add(rt_buf *buf, const void *data, size_t bytes)
{
    reserve(buf, bytes);
    if (bytes) {
        memcpy(buf->data + buf->bytes, data, bytes);
    }
    buf->bytes += bytes;
    buf->data[buf->bytes] = '\0';
}

void rt_buf_addf(rt_buf *buf, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    RT_ASSERT(length >= 0);
    reserve(buf, (size_t)length);
    vsnprintf(buf->data + buf->bytes, (size_t)length + 1, format, again);
    va_end(again);
    buf->bytes += (size_t)length;
}

void rt_buf_clear(rt_buf *buf)
{
    buf->bytes = 0;
    if (buf->data) {
        buf->data[0] = '\0';
    }
}

void rt_buf_free(rt_buf *buf)
{
    rt_free(buf->data);
    *buf = (rt_buf){0};
}
