/* Prefix index: a trie of pages with a list by last use. */
#include "model/prefix_index.h"

#include <string.h>

void rt_prefix_init(rt_prefix_index *x, rt_forest *forest)
{
    *x = (rt_prefix_index){.forest = forest, .newest = -1, .oldest = -1};
}

void rt_prefix_clear(rt_prefix_index *x)
{
    for (int e = x->newest; e >= 0; e = x->entries[e].older)
        rt_forest_page_drop(x->forest, x->entries[e].page);
    x->used = x->unused_count = x->count = 0;
    x->newest = x->oldest = -1;
    for (int i = 0; i < x->roots_count; i++)
        x->roots[i] = -1;
}

void rt_prefix_drop(rt_prefix_index *x)
{
    rt_prefix_clear(x);
    rt_free(x->entries);
    rt_free(x->tokens);
    rt_free(x->unused);
    rt_free(x->roots);
}

/* ---- lists ---- */

static int *first_child(rt_prefix_index *x, int parent)
{
    if (parent >= 0)
        return &x->entries[parent].child;
    int begin = -1 - parent;
    if (begin >= x->roots_count) {
        size_t old = (size_t)x->roots_count * sizeof(int), now = (size_t)(begin + 1) * sizeof(int);
        x->roots = rt_realloc(x->roots, old, now);
        while (x->roots_count <= begin)
            x->roots[x->roots_count++] = -1;
    }
    return &x->roots[begin];
}

static void use_remove(rt_prefix_index *x, int e)
{
    const rt_prefix_entry *entry = &x->entries[e];
    *(entry->newer < 0 ? &x->newest : &x->entries[entry->newer].older) = entry->older;
    *(entry->older < 0 ? &x->oldest : &x->entries[entry->older].newer) = entry->newer;
}

static void use_add(rt_prefix_index *x, int e)
{
    x->entries[e].newer = -1;
    x->entries[e].older = x->newest;
    *(x->newest < 0 ? &x->oldest : &x->entries[x->newest].newer) = e;
    x->newest = e;
}

/* From the end to the begin: of one path, the end is evicted first. */
void rt_prefix_touch(rt_prefix_index *x, int e)
{
    for (; e >= 0; e = x->entries[e].parent) {
        use_remove(x, e);
        use_add(x, e);
    }
}

static int entry_take(rt_prefix_index *x)
{
    x->count++;
    if (x->unused_count > 0)
        return x->unused[--x->unused_count];
    if (x->used == x->capacity) {
        size_t old = (size_t)x->capacity, now = RT_MAX(2 * old, 64);
        x->entries = rt_realloc(x->entries, old * sizeof(rt_prefix_entry),
                                now * sizeof(rt_prefix_entry));
        x->tokens = rt_realloc(x->tokens, old * RT_PAGE * sizeof(int32_t),
                               now * RT_PAGE * sizeof(int32_t));
        x->unused = rt_realloc(x->unused, old * sizeof(int), now * sizeof(int));
        x->capacity = (int)now;
    }
    return x->used++;
}

static void entry_remove(rt_prefix_index *x, int e)
{
    const rt_prefix_entry *entry = &x->entries[e];
    RT_ASSERT(entry->child < 0);
    if (entry->previous_sibling < 0)
        *first_child(x, entry->parent) = entry->next_sibling;
    else
        x->entries[entry->previous_sibling].next_sibling = entry->next_sibling;
    if (entry->next_sibling >= 0)
        x->entries[entry->next_sibling].previous_sibling = entry->previous_sibling;
    use_remove(x, e);
    rt_forest_page_drop(x->forest, entry->page);
    x->unused[x->unused_count++] = e;
    x->count--;
}

/* ---- paths ---- */

static int common(const int32_t *a, const int32_t *b, int count)
{
    int n = 0;
    while (n < count && a[n] == b[n])
        n++;
    return n;
}

/* The child that shares the most of ids (count ≤ RT_PAGE), and how many; −1: none shares any. */
static int closest_child(rt_prefix_index *x, int parent, const int32_t *ids, int count, int *shared)
{
    int best = -1;
    *shared = 0;
    for (int e = *first_child(x, parent); e >= 0 && *shared < count;
         e = x->entries[e].next_sibling) {
        int n = common(x->tokens + (size_t)e * RT_PAGE, ids, RT_MIN(count, x->entries[e].count));
        if (n > *shared) {
            best = e;
            *shared = n;
        }
    }
    return best;
}

int rt_prefix_match(rt_prefix_index *x, int adapter, const int32_t *ids, int count, int32_t *table,
                    int *entry)
{
    int length = 0, shared = RT_PAGE, last = rt_prefix_begin(adapter);
    *entry = last;
    for (int page = 0; shared == RT_PAGE && length < count; page++) {
        int e = closest_child(x, last, ids + length, RT_MIN(count - length, RT_PAGE), &shared);
        if (e < 0)
            break;
        table[page] = x->entries[e].page;
        length += shared;
        last = e;
        if (shared == RT_PAGE)
            *entry = e;
    }
    rt_prefix_touch(x, last);
    return length;
}

int rt_prefix_add(rt_prefix_index *x, int parent, const int32_t *ids, int count, int32_t page)
{
    RT_ASSERT(count > 0 && count <= RT_PAGE);
    RT_ASSERT(parent < 0 || x->entries[parent].count == RT_PAGE);
    for (int e = *first_child(x, parent), next; e >= 0; e = next) {
        next = x->entries[e].next_sibling;
        int held = x->entries[e].count;
        int n = common(x->tokens + (size_t)e * RT_PAGE, ids, RT_MIN(count, held));
        if (n == count) {
            rt_prefix_touch(x, e);
            return e;
        }
        /* the new page says all that this begun one does */
        if (n == held)
            entry_remove(x, e);
    }
    int e = entry_take(x);
    int *first = first_child(x, parent);
    x->entries[e] = (rt_prefix_entry){.parent = parent, .child = -1, .next_sibling = *first,
                                      .previous_sibling = -1, .count = count, .page = page,
                                      .depth = rt_prefix_depth(x, parent) + 1};
    if (*first >= 0)
        x->entries[*first].previous_sibling = e;
    *first = e;
    memcpy(x->tokens + (size_t)e * RT_PAGE, ids, sizeof(int32_t) * (size_t)count);
    rt_forest_page_keep(x->forest, page);
    use_add(x, e);
    rt_prefix_touch(x, parent);
    return e;
}

bool rt_prefix_evict(rt_prefix_index *x)
{
    for (int tries = x->count; tries > 0; tries--) {
        int e = x->oldest;
        if (x->entries[e].child < 0 && rt_forest_page_idle(x->forest, x->entries[e].page)) {
            entry_remove(x, e);
            return true;
        }
        /* in use, or the begin of what is: as good as new, and out of the way of the next search */
        use_remove(x, e);
        use_add(x, e);
    }
    return false;
}
