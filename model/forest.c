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
    for (int i = 0; i < f->kv.pages; i++)
        f->pages_free[i] = f->kv.pages - 1 - i; /* page 0 is handed out first */
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

int rt_forest_fork(rt_forest *f, int parent, int keep)
{
    RT_ASSERT(parent >= -1 && parent < f->nodes_count);
    RT_ASSERT(parent < 0 || f->nodes[parent].live);
    int length = parent < 0 ? 0 : f->nodes[parent].length;
    if (keep < 0)
        keep = length;
    RT_ASSERT(keep <= length);
    int source = parent;
    /* hold only the ancestor that owns the last kept token */
    while (parent >= 0 && keep <= f->nodes[parent].start)
        parent = f->nodes[parent].parent;
    int full = keep / RT_PAGE, slots = keep % RT_PAGE;
    if (slots > 0 && f->pages_free_count == 0)
        return RT_ERR_LIMIT;
    int index = node_take(f);
    rt_node *node = &f->nodes[index];
    table_room(node, pages_of(keep));
    if (full > 0)
        memcpy(node->table, f->nodes[source].table, sizeof(int32_t) * (size_t)full);
    node->parent = parent;
    node->start = node->length = keep;
    node->children = 0;
    node->live = node->held = true;
    node->owned_from = node->table_count = full;
    if (parent >= 0)
        f->nodes[parent].children++;
    if (slots > 0) {
        int32_t page = f->pages_free[--f->pages_free_count];
        f->net->ops->kv_copy(f->net->ops, &f->kv, page, f->nodes[source].table[full], slots,
                             f->net->arch.layers);
        node->table[node->table_count++] = page;
    }
    return index;
}

void rt_forest_release(rt_forest *f, int index)
{
    RT_ASSERT(index >= 0 && index < f->nodes_count && f->nodes[index].live &&
              f->nodes[index].held);
    f->nodes[index].held = false;
    while (index >= 0) {
        rt_node *node = &f->nodes[index];
        if (node->held || node->children > 0)
            return;
        for (int i = node->table_count - 1; i >= node->owned_from; i--)
            f->pages_free[f->pages_free_count++] = node->table[i];
        node->live = false;
        f->nodes_free[f->nodes_free_count++] = index;
        index = node->parent;
        if (index >= 0)
            f->nodes[index].children--;
    }
}

int rt_forest_length(const rt_forest *f, int node)
{
    RT_ASSERT(node >= 0 && node < f->nodes_count && f->nodes[node].live);
    return f->nodes[node].length;
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
        node->table[node->table_count++] = f->pages_free[--f->pages_free_count];
    return true;
}
