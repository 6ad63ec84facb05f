/*
 * prefix_index: which token paths have their K/V in a forest's pages: a trie with one entry a
 * page. An entry holds a reference to its page, so that paths outlive the nodes that computed them.
 * Only the last page of a path may be begun (1 to 15 tokens); such an entry has no children. Paths
 * of one version of the weights only: rt_prefix_clear when they change. Each adapter has a trie of
 * its own: an entry below 0 is the begin of that adapter's paths. Private to model/.
 */
#ifndef RT_PREFIX_INDEX_H
#define RT_PREFIX_INDEX_H

#include "model/net_internal.h"

typedef struct rt_prefix_entry {
    int parent;          /* below 0: a begin */
    int child;           /* −1: none; the first, next_sibling chains the others */
    int next_sibling, previous_sibling;
    int newer, older;    /* by last use */
    int depth;           /* pages up to this one */
    int count;           /* tokens in the page */
    int32_t page;
} rt_prefix_entry;

typedef struct rt_prefix_index {
    rt_forest *forest;
    rt_prefix_entry *entries;
    int32_t *tokens;     // (capacity, RT_PAGE)
    int capacity, used;  /* used: entries ever taken */
    int *unused, unused_count;
    int *roots, roots_count; /* first child of each begin */
    int newest, oldest, count;
} rt_prefix_index;

void rt_prefix_init(rt_prefix_index *index, rt_forest *forest); /* borrows */
void rt_prefix_drop(rt_prefix_index *index);
void rt_prefix_clear(rt_prefix_index *index); /* gives all pages back */
/* The entry that the paths of an adapter (−1: off) begin with. */
static inline int rt_prefix_begin(int adapter)
{
    return -2 - adapter;
}
/* The longest held prefix of ids (count) under an adapter: returns its length and fills table with its
 * pages. *entry becomes the entry of its last full page, the begin where there is none. */
int rt_prefix_match(rt_prefix_index *index, int adapter, const int32_t *ids, int count, int32_t *table,
                    int *entry);
/* Holds `page`, whose first `count` positions are ids, after the full page of entry `parent` (or a
 * begin). Returns the entry that holds these ids now: an older one where they were held. */
int rt_prefix_add(rt_prefix_index *index, int parent, const int32_t *ids, int count, int32_t page);
/* Entry and all before it were used now. */
void rt_prefix_touch(rt_prefix_index *index, int entry);
/* Frees the page of the path's end that was not used for the longest time and that no node refers
 * to. False: all pages held are in use. */
bool rt_prefix_evict(rt_prefix_index *index);

static inline int rt_prefix_depth(const rt_prefix_index *index, int entry)
{
    return entry < 0 ? 0 : index->entries[entry].depth;
}

#endif
