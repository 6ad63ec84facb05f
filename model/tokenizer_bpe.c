/*
 * Merges of byte-level BPE: in each piece the pair of the lowest rank is joined, leftmost first,
 * until no pair has a rank. Short pieces are scanned; long ones use a heap over a linked list, so
 * that n bytes cost n·log n whatever they are.
 */
#include <stdlib.h>
#include <string.h>

#include "model/tokenizer.h"

struct rt_bpe_symbol {
    int32_t id;
    int32_t rank;         /* of the pair that begins here (short pieces) */
    uint32_t prev, next;  /* positions (long pieces) */
};

struct rt_bpe_item {
    int32_t rank;
    uint32_t position;
    int32_t left, right;  /* ids when queued: stale once they differ */
};

enum { SCAN_MAX = 48 };   /* symbols below which scanning beats the heap */
enum { NO_RANK = INT32_MAX };
static const uint32_t no_symbol = UINT32_MAX;
static const uint64_t no_pair = UINT64_MAX;

void rt_ids_add(rt_ids *ids, int32_t id)
{
    if (ids->count == ids->capacity) {
        size_t capacity = RT_MAX(ids->capacity * 2, (size_t)64);
        ids->items = rt_realloc(ids->items, ids->capacity * sizeof *ids->items,
                                capacity * sizeof *ids->items);
        ids->capacity = capacity;
    }
    ids->items[ids->count++] = id;
}

void rt_ids_free(rt_ids *ids)
{
    rt_free(ids->items);
    *ids = (rt_ids){0};
}

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static size_t pair_slot(const rt_bpe *bpe, uint64_t pair)
{
    uint64_t hash = pair * 0x9e3779b97f4a7c15u; /* Fibonacci hashing: the high bits are mixed */
    return (size_t)(hash ^ hash >> 32) & bpe->mask;
}

static const rt_merge *merge_find(const rt_bpe *bpe, int32_t left, int32_t right)
{
    uint64_t pair = pair_of(left, right);
    for (size_t slot = pair_slot(bpe, pair);; slot = (slot + 1) & bpe->mask) {
        if (bpe->merges[slot].pair == pair) {
            return &bpe->merges[slot];
        }
        if (bpe->merges[slot].pair == no_pair) {
            return NULL;
        }
    }
}

static int32_t rank_of(const rt_bpe *bpe, int32_t left, int32_t right)
{
    const rt_merge *merge = merge_find(bpe, left, right);
    return merge == NULL ? NO_RANK : merge->rank;
}

void rt_bpe_init(rt_bpe *bpe, size_t merges_count)
{
    size_t slots = 16;
    while (slots < merges_count * 2 + 2) {
        slots *= 2;
    }
    *bpe = (rt_bpe){.mask = slots - 1, .unknown = -1};
    bpe->merges = rt_alloc(slots * sizeof *bpe->merges);
    for (size_t i = 0; i < slots; i++) {
        bpe->merges[i].pair = no_pair;
    }
    for (int byte = 0; byte < 256; byte++) {
        bpe->byte_ids[byte] = -1;
    }
}

void rt_bpe_add(rt_bpe *bpe, int32_t left, int32_t right, int32_t rank, int32_t id)
{
    uint64_t pair = pair_of(left, right);
    size_t slot = pair_slot(bpe, pair);
    while (bpe->merges[slot].pair != no_pair && bpe->merges[slot].pair != pair) {
        slot = (slot + 1) & bpe->mask;
    }
    if (bpe->merges[slot].pair == no_pair) {
        RT_ASSERT(bpe->used <= bpe->mask / 2);
        bpe->used++;
    }
    bpe->merges[slot] = (rt_merge){pair, rank, id};
}

void rt_bpe_free(rt_bpe *bpe)
{
    rt_free(bpe->merges);
    bpe->merges = NULL;
}

/* Bytes of the piece as symbols; bytes the vocabulary lacks become the unknown id or vanish. */
static size_t symbols_start(const rt_bpe *bpe, rt_bpe_scratch *scratch, const char *piece,
                            size_t bytes)
{
    if (bytes > scratch->symbols_capacity) {
        size_t capacity = RT_MAX(bytes, (size_t)256);
        rt_free(scratch->symbols);
        scratch->symbols = rt_alloc(capacity * sizeof *scratch->symbols);
        scratch->symbols_capacity = capacity;
    }
    size_t count = 0;
    bool after_unknown = false;
    for (size_t i = 0; i < bytes; i++) {
        int32_t id = bpe->byte_ids[(uint8_t)piece[i]];
        bool unknown = id < 0;
        if (unknown) {
            id = bpe->unknown;
        }
        if (id >= 0 && !(unknown && after_unknown && bpe->fuse_unknown)) {
            scratch->symbols[count++].id = id;
        }
        after_unknown = unknown && id >= 0;
    }
    return count;
}

static size_t merge_short(const rt_bpe *bpe, struct rt_bpe_symbol *symbols, size_t count)
{
    for (size_t i = 0; i + 1 < count; i++) {
        symbols[i].rank = rank_of(bpe, symbols[i].id, symbols[i + 1].id);
    }
    while (count > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++) {
            if (symbols[i].rank < symbols[best].rank) {
                best = i;
            }
        }
        if (symbols[best].rank == NO_RANK) {
            break;
        }
        symbols[best].id = merge_find(bpe, symbols[best].id, symbols[best + 1].id)->id;
        count--;
        memmove(&symbols[best + 1], &symbols[best + 2],
                (count - best - 1) * sizeof *symbols);
        if (best + 1 < count) {
            symbols[best].rank = rank_of(bpe, symbols[best].id, symbols[best + 1].id);
        }
        if (best > 0) {
            symbols[best - 1].rank = rank_of(bpe, symbols[best - 1].id, symbols[best].id);
        }
    }
    return count;
}

static bool item_before(struct rt_bpe_item a, struct rt_bpe_item b)
{
    return a.rank != b.rank ? a.rank < b.rank : a.position < b.position;
}

static void heap_sink(rt_bpe_scratch *scratch, size_t at)
{
    struct rt_bpe_item item = scratch->heap[at];
    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= scratch->heap_count) {
            break;
        }
        if (child + 1 < scratch->heap_count
            && item_before(scratch->heap[child + 1], scratch->heap[child])) {
            child++;
        }
        if (!item_before(scratch->heap[child], item)) {
            break;
        }
        scratch->heap[at] = scratch->heap[child];
        at = child;
    }
    scratch->heap[at] = item;
}

/* Queues the pair that begins at position, when it has a rank. */
static void heap_push(const rt_bpe *bpe, rt_bpe_scratch *scratch, uint32_t position)
{
    const struct rt_bpe_symbol *symbol = &scratch->symbols[position];
    if (symbol->next == no_symbol) {
        return;
    }
    int32_t right = scratch->symbols[symbol->next].id;
    int32_t rank = rank_of(bpe, symbol->id, right);
    if (rank == NO_RANK) {
        return;
    }
    if (scratch->heap_count == scratch->heap_capacity) {
        size_t capacity = RT_MAX(scratch->heap_capacity * 2, (size_t)256);
        scratch->heap = rt_realloc(scratch->heap, scratch->heap_capacity * sizeof *scratch->heap,
                                   capacity * sizeof *scratch->heap);
        scratch->heap_capacity = capacity;
    }
    struct rt_bpe_item item = {rank, position, symbol->id, right};
    size_t at = scratch->heap_count++;
    for (; at > 0 && item_before(item, scratch->heap[(at - 1) / 2]); at = (at - 1) / 2) {
        scratch->heap[at] = scratch->heap[(at - 1) / 2];
    }
    scratch->heap[at] = item;
}

static size_t merge_long(const rt_bpe *bpe, rt_bpe_scratch *scratch, size_t count)
{
    struct rt_bpe_symbol *symbols = scratch->symbols;
    for (size_t i = 0; i < count; i++) {
        symbols[i].prev = i == 0 ? no_symbol : (uint32_t)i - 1;
        symbols[i].next = i + 1 == count ? no_symbol : (uint32_t)i + 1;
    }
    scratch->heap_count = 0;
    for (size_t i = 0; i < count; i++) {
        heap_push(bpe, scratch, (uint32_t)i);
    }
    while (scratch->heap_count > 0) {
        struct rt_bpe_item item = scratch->heap[0];
        scratch->heap[0] = scratch->heap[--scratch->heap_count];
        if (scratch->heap_count > 0) {
            heap_sink(scratch, 0);
        }
        struct rt_bpe_symbol *left = &symbols[item.position];
        if (left->id != item.left || left->next == no_symbol
            || symbols[left->next].id != item.right) {
            continue;
        }
        struct rt_bpe_symbol *right = &symbols[left->next];
        left->id = merge_find(bpe, item.left, item.right)->id;
        right->id = -1;
        left->next = right->next;
        if (left->next != no_symbol) {
            symbols[left->next].prev = item.position;
        }
        heap_push(bpe, scratch, item.position);
        if (left->prev != no_symbol) {
            heap_push(bpe, scratch, left->prev);
        }
    }
    size_t kept = 0;
    for (uint32_t i = 0; i != no_symbol;) {
        uint32_t next = symbols[i].next;
        symbols[kept++].id = symbols[i].id;
        i = next;
    }
    return kept;
}

void rt_bpe_encode(const rt_bpe *bpe, const rt_vocab *vocab, rt_bpe_scratch *scratch,
                   const char *piece, size_t bytes, rt_ids *out)
{
    if (bpe->whole_first) {
        int32_t id = rt_vocab_find(vocab, piece, bytes);
        if (id >= 0) {
            rt_ids_add(out, id);
            return;
        }
    }
    RT_ASSERT(bytes < no_symbol);
    size_t count = symbols_start(bpe, scratch, piece, bytes);
    count = count <= SCAN_MAX ? merge_short(bpe, scratch->symbols, count)
                              : merge_long(bpe, scratch, count);
    for (size_t i = 0; i < count; i++) {
        rt_ids_add(out, scratch->symbols[i].id);
    }
}

void rt_bpe_scratch_free(rt_bpe_scratch *scratch)
{
    rt_free(scratch->symbols);
    rt_free(scratch->heap);
    *scratch = (rt_bpe_scratch){0};
}
