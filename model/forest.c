/* Forest: nodes (runs of tokens with parents), the page pool, forks and releases. */
#include <string.h>

#include "model/net_internal.h"

static int pages_of(int tokens)
{
    return (tokens + RT_PAGE - 1) / RT_PAGE;
}

int rt_forest_new(rt_forest **forest, rt_net *net, int64_t tokens_max, rt_error *err)
{
    if (tokens_max < 1 || tokens_max > INT64_C(1) << 30)
        return rt_fail(err, RT_ERR_USAGE, "a token forest holds 1 to 2^30 tokens, not %lld",
                       (long long)tokens_max);
    const rt_arch *a = &net->arch;
    rt_forest *f = rt_alloc(sizeof(*f));
    f->net = net;
    f->kv.pages = (int)((tokens_max + RT_PAGE - 1) / RT_PAGE);
    f->kv.kv_heads = a->kv_heads;
    f->kv.head_size = a->head_size;
    size_t page = (size_t)2 * RT_PAGE * (size_t)a->head_size * sizeof(float);
    size_t bytes = page * (size_t)a->kv_heads * (size_t)a->layers * (size_t)f->kv.pages;
    f->kv.pool = net->ops->alloc(net->ops, bytes);
    f->pages_free = rt_alloc(sizeof(int32_t) * (size_t)f->kv.pages);
    f->pages_refs = rt_alloc(sizeof(int32_t) * (size_t)f->kv.pages);
    f->pages_kept = rt_alloc(sizeof(bool) * (size_t)f->kv.pages);
    if (f->kv.pool == NULL) {
        rt_forest_free(&f);
        return rt_fail(err, RT_ERR_NOMEM, "no room for %zu MiB of K/V pages; lower cache_tokens",
                       bytes >> 20);
    }
    int rc = rt_forest_buffers_new(f, err);
    if (rc < 0) {
        rt_forest_free(&f);
        return rc;
    }
    rt_forest_clear(f);
    *forest = f;
    return RT_OK;
}

void rt_forest_free(rt_forest **forest)
{
    rt_forest *f = *forest;
    if (f == NULL)
        return;
    rt_forest_buffers_free(f);
    for (int i = 0; i < f->nodes_count; i++)
        rt_free(f->nodes[i].table);
    if (f->kv.pool != NULL)
        f->net->ops->free(f->net->ops, f->kv.pool);
    rt_free(f->nodes);
    rt_free(f->nodes_free);
    rt_free(f->pages_free);
    rt_free(f->pages_refs);
    rt_free(f->pages_kept);
    rt_free(f->spans);
    rt_free(f->pass_spans);
    rt_free(f);
    *forest = NULL;
}

void rt_forest_clear(rt_forest *f)
{
    f->nodes_free_count = 0;
    for (int i = f->nodes_count - 1; i >= 0; i--) {
        f->nodes[i].live = false;
        f->nodes_free[f->nodes_free_count++] = i;
    }
    f->pages_free_count = f->kv.pages;
    f->pages_idle = 0;
    for (int i = 0; i < f->kv.pages; i++) {
        f->pages_free[i] = f->kv.pages - 1 - i; /* page 0 is handed out first */
        f->pages_refs[i] = 0;
        f->pages_kept[i] = false;
    }
    f->rows = 0;
}

static int node_take(rt_forest *f)
{
    if (f->nodes_free_count > 0)
        return f->nodes_free[--f->nodes_free_count];
    if (f->nodes_count == f->nodes_capacity) {
        size_t old = (size_t)f->nodes_capacity, now = RT_MAX(old * 2, 64);
        f->nodes = rt_realloc(f->nodes, old * sizeof(rt_node), now * sizeof(rt_node));
        f->nodes_free = rt_realloc(f->nodes_free, old * sizeof(int), now * sizeof(int));
        f->nodes_capacity = (int)now;
    }
    return f->nodes_count++;
}

static void table_room(rt_node *node, int count)
{
    if (count <= node->table_capacity)
        return;
    int capacity = RT_MAX(count, 2 * node->table_capacity);
    node->table = rt_realloc(node->table, sizeof(int32_t) * (size_t)node->table_capacity,
                             sizeof(int32_t) * (size_t)capacity);
    node->table_capacity = capacity;
}

/* ---- pages ---- */

static int32_t page_take(rt_forest *f)
{
    int32_t page = f->pages_free[--f->pages_free_count];
    f->pages_refs[page] = 1;
    return page;
}

void rt_forest_page_ref(rt_forest *f, int32_t page)
{
    f->pages_idle -= rt_forest_page_idle(f, page);
    f->pages_refs[page]++;
}

void rt_forest_page_unref(rt_forest *f, int32_t page)
{
    RT_ASSERT(f->pages_refs[page] > 0);
    if (--f->pages_refs[page] == 0)
        f->pages_free[f->pages_free_count++] = page;
    f->pages_idle += rt_forest_page_idle(f, page);
}

void rt_forest_page_keep(rt_forest *f, int32_t page)
{
    RT_ASSERT(f->pages_refs[page] > 0 && !f->pages_kept[page]);
    f->pages_refs[page]++;
    f->pages_kept[page] = true;
}

void rt_forest_page_drop(rt_forest *f, int32_t page)
{
    RT_ASSERT(f->pages_kept[page]);
    f->pages_idle -= rt_forest_page_idle(f, page);
    f->pages_kept[page] = false;
    rt_forest_page_unref(f, page);
}

void rt_forest_share_page(rt_forest *f, int index, int at, int32_t page)
{
    int32_t *entry = &f->nodes[index].table[at];
    rt_forest_page_ref(f, page);
    rt_forest_page_unref(f, *entry);
    *entry = page;
}

/* ---- nodes ---- */

int rt_forest_fork_pages(rt_forest *f, int adapter, const int32_t *table, int pages)
{
    int index = node_take(f);
    rt_node *node = &f->nodes[index];
    table_room(node, pages + 1);
    for (int i = 0; i < pages; i++) {
        node->table[i] = table[i];
        rt_forest_page_ref(f, table[i]);
    }
    node->length = pages * RT_PAGE;
    node->adapter = adapter;
    node->owned_from = node->table_count = pages;
    node->live = true;
    return index;
}

void rt_forest_copy_page(rt_forest *f, int index, int32_t page, int slots)
{
    rt_node *node = &f->nodes[index];
    RT_ASSERT(f->pages_free_count > 0 && node->length == node->table_count * RT_PAGE);
    int32_t to = page_take(f);
    f->net->ops->kv_copy(f->net->ops, &f->kv, to, page, slots, f->net->arch.layers);
    table_room(node, node->table_count + 1);
    node->table[node->table_count++] = to;
    node->length += slots;
}

int rt_forest_fork(rt_forest *f, int parent, int keep)
{
    RT_ASSERT(parent >= -1 && parent < f->nodes_count);
    RT_ASSERT(parent < 0 || f->nodes[parent].live);
    int length = parent < 0 ? 0 : f->nodes[parent].length;
    if (keep < 0)
        keep = length;
    RT_ASSERT(keep <= length);
    int full = keep / RT_PAGE, slots = keep % RT_PAGE;
    if (slots > 0 && f->pages_free_count == 0)
        return RT_ERR_LIMIT;
    /* the parent's table stays where it is when the list of nodes moves */
    const int32_t *table = parent < 0 ? NULL : f->nodes[parent].table;
    int index = rt_forest_fork_pages(f, parent < 0 ? -1 : f->nodes[parent].adapter, table, full);
    if (slots > 0)
        rt_forest_copy_page(f, index, table[full], slots);
    return index;
}

int rt_forest_root(rt_forest *f, int adapter)
{
    RT_ASSERT(adapter >= -1 && adapter < rt_net_adapters(f->net));
    return rt_forest_fork_pages(f, adapter, NULL, 0);
}

void rt_forest_release(rt_forest *f, int index)
{
    RT_ASSERT(index >= 0 && index < f->nodes_count && f->nodes[index].live);
    rt_node *node = &f->nodes[index];
    for (int i = node->table_count - 1; i >= 0; i--)
        rt_forest_page_unref(f, node->table[i]);
    node->live = false;
    f->nodes_free[f->nodes_free_count++] = index;
}

int rt_forest_length(const rt_forest *f, int node)
{
    RT_ASSERT(node >= 0 && node < f->nodes_count && f->nodes[node].live);
    return f->nodes[node].length;
}

void rt_forest_truncate(rt_forest *f, int node, int length)
{
    RT_ASSERT(length >= 0 && length <= rt_forest_length(f, node));
    f->nodes[node].length = length;
}

int64_t rt_forest_free_tokens(const rt_forest *f)
{
    return (int64_t)f->pages_free_count * RT_PAGE;
}

int rt_forest_pages_free(const rt_forest *f)
{
    return f->pages_free_count;
}

int rt_forest_pages_owned(const rt_forest *f, int node)
{
    return f->nodes[node].table_count - f->nodes[node].owned_from;
}

bool rt_forest_reserve(rt_forest *f, int index, int length)
{
    rt_node *node = &f->nodes[index];
    int count = pages_of(length);
    if (count - node->table_count > f->pages_free_count)
        return false;
    table_room(node, count);
    while (node->table_count < count)
        node->table[node->table_count++] = page_take(f);
    return true;
}
