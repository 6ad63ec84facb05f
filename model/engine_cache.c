/* Engine: the prefix cache: what computed paths are held, found again and given up. */
#include <string.h>

#include "model/engine_internal.h"

static bool page_evict(rt_engine *e)
{
    bool freed = rt_prefix_evict(&e->index);
    e->stats.evictions += freed;
    return freed;
}

bool rt_engine_pages_make(rt_engine *e, int pages)
{
    while (rt_forest_pages_free(e->forest) < pages)
        if (!page_evict(e))
            return false;
    return true;
}

void rt_engine_cache_trim(rt_engine *e)
{
    while (e->forest->pages_idle > e->idle_max && page_evict(e))
        ;
}

/* ---- holding ---- */

void rt_engine_hold(rt_engine *e, int node, int *entry, const int32_t *prefix, int prefix_count,
                    const int32_t *ids, bool end)
{
    if (!e->cached || *entry == RT_UNHELD)
        return;
    int length = rt_forest_length(e->forest, node), page = rt_prefix_depth(&e->index, *entry);
    for (int at = page * RT_PAGE; at < length; at += RT_PAGE, page++) {
        int count = RT_MIN(length - at, RT_PAGE);
        int32_t of_page[RT_PAGE];
        if (count < RT_PAGE && !end)
            return;
        for (int i = 0; i < count; i++)
            of_page[i] = at + i < prefix_count ? prefix[at + i] : ids[at + i - prefix_count];
        int32_t own = e->forest->nodes[node].table[page];
        int held = rt_prefix_add(&e->index, *entry, of_page, count, own);
        if (count < RT_PAGE)
            return;
        *entry = held;
        /* Computed twice: the same bits. With one page for both, what a node uses begins in the
         * index with pages that nodes use, so that the idle ones can be freed from the ends. */
        if (e->index.entries[held].page != own)
            rt_forest_share_page(e->forest, node, page, e->index.entries[held].page);
    }
}

void rt_slot_hold(rt_engine *e, rt_slot *slot)
{
    const rt_request *r = slot->request;
    if (slot->node < 0)
        return;
    rt_engine_hold(e, slot->node, &slot->entry, r->prefix, r->prefix_count, slot->c.ids, true);
    if (e->cached && slot->entry >= 0)
        rt_prefix_touch(&e->index, slot->entry);
}

/* ---- finding ---- */

/* Pages that nobody was promised are enough for the request, its shared ones being in use then. */
static bool pages_suffice(const rt_engine *e, const rt_request *r, const int32_t *table, int full)
{
    int idle = 0;
    for (int i = 0; i < full; i++)
        idle += rt_forest_page_idle(e->forest, table[i]);
    return rt_engine_pages_unpromised(e) - idle >= r->prompt_pages - full + r->own_pages;
}

bool rt_request_admit(rt_engine *e, rt_request *r)
{
    int32_t *table = e->match_table;
    int entry = RT_UNHELD, keep = 0;
    /* the last token's row gives the first tokens' distribution, so it is always computed */
    if (e->cached)
        keep = rt_prefix_match(&e->index, r->adapter, r->prefix, r->prefix_count - 1, table, &entry);
    int full = keep / RT_PAGE, slots = keep % RT_PAGE;
    if (!pages_suffice(e, r, table, full))
        return false;
    r->node = rt_forest_fork_pages(e->forest, r->adapter, table, full);
    r->entry = entry;
    if (slots > 0) {
        /* not even for the page it is copied to may the source be freed */
        rt_forest_page_ref(e->forest, table[full]);
        if (rt_engine_pages_make(e, 1))
            rt_forest_copy_page(e->forest, r->node, table[full], slots);
        else
            keep -= slots;
        rt_forest_page_unref(e->forest, table[full]);
    }
    r->prefilled = r->reused = keep;
    e->stats.prefix_hits += keep > 0;
    e->stats.prefix_tokens_reused += keep;
    return true;
}

/* ---- dropping ---- */

/* Nothing that runs can be held: the begin of its path is not. */
static void entries_forget(rt_engine *e)
{
    for (int i = 0; i < e->slots_count; i++)
        e->slots[i].entry = RT_UNHELD;
    for (rt_request *r = e->head; r != NULL; r = r->next)
        r->entry = RT_UNHELD;
}

void rt_engine_set_cache(rt_engine *e, bool on)
{
    e->cached = on;
    if (on)
        return;
    rt_prefix_clear(&e->index);
    entries_forget(e);
}

void rt_engine_weights_changed(rt_engine *e)
{
    RT_ASSERT(e->active == 0);
    for (rt_request *r = e->head; r != NULL; r = r->next)
        RT_ASSERT(r->node < 0);
    rt_prefix_clear(&e->index);
    rt_forest_clear(e->forest);
}
