/* Trainer: memory of the training passes and the plan of a micro-batch as a trie of rows. */
#include <string.h>

#include "model/trainer_internal.h"

/* Memory of one chunk of logits: 256 rows of a 49,152-token vocabulary; on a device, which wants much to do
 * at once, 5,461. */
enum { CHUNK_BYTES = 48 << 20, CHUNK_BYTES_DEVICE = 1 << 30, CHUNK_ROWS_MIN = 16 };

/* ---- memory ---------------------------------------------------------------------------------- */

static void layer_alloc(rt_trainer *t, rt_layer_buffers *b)
{
    rt_ops *ops = t->net->ops;
    const rt_arch *a = &t->net->arch;
    size_t r = (size_t)t->rows_max, d = (size_t)a->d;
    b->rstd1 = rt_net_floats(ops, r);
    b->rstd2 = rt_net_floats(ops, r);
    b->h1 = rt_net_floats(ops, r * d);
    b->h2 = rt_net_floats(ops, r * d);
    b->qkv = rt_net_floats(ops, r * (size_t)rt_qkv_size(a));
    b->att = rt_net_floats(ops, r * (size_t)rt_q_size(a));
    b->stats = rt_net_floats(ops, r * (size_t)a->heads * 2);
    b->mid = rt_net_floats(ops, r * d);
    b->gate_up = rt_net_floats(ops, r * 2 * (size_t)a->f);
}

static void layer_free(rt_ops *ops, rt_layer_buffers *b)
{
    float *all[] = {b->rstd1, b->rstd2, b->h1, b->h2, b->qkv, b->att, b->stats, b->mid, b->gate_up};
    for (size_t i = 0; i < RT_COUNT(all); i++)
        ops->free(ops, all[i]);
}

static void plan_alloc(rt_trainer *t)
{
    size_t ints = (size_t)t->rows_max * sizeof(int32_t);
    t->ids_host = rt_alloc(ints);
    t->parent = rt_alloc(ints);
    t->child = rt_alloc(ints);
    t->sibling = rt_alloc(ints);
    t->segment_of = rt_alloc(ints);
    t->position = rt_alloc(ints);
    t->adapter = rt_alloc(ints);
    t->logits_used = rt_alloc(ints);
    t->at_host = rt_alloc((size_t)t->rows_max * sizeof(rt_row));
    t->at = t->net->ops->alloc(t->net->ops, (size_t)t->rows_max * sizeof(rt_row));
    t->ids = t->net->ops->alloc(t->net->ops, ints);
    t->entries.used = rt_alloc(ints);
    t->entries.first = rt_alloc(ints + sizeof(int32_t));
}

static void pass_alloc(rt_trainer *t)
{
    rt_ops *ops = t->net->ops;
    const rt_arch *a = &t->net->arch;
    size_t r = (size_t)t->rows_max, d = (size_t)a->d, v = (size_t)a->vocab;
    t->x = rt_alloc(sizeof(float *) * ((size_t)a->layers + 1));
    for (int l = 0; l <= a->layers; l++)
        t->x[l] = rt_net_floats(ops, r * d);
    t->layers = rt_alloc(sizeof(rt_layer_buffers) * (size_t)t->kv_layers);
    for (int l = 0; l < t->kv_layers; l++)
        layer_alloc(t, &t->layers[l]);
    t->rstd = rt_net_floats(ops, r);
    t->hidden = rt_net_floats(ops, r * d);
    t->dx = rt_net_floats(ops, r * d);
    t->dh = rt_net_floats(ops, r * d);
    t->dqkv = rt_net_floats(ops, r * (size_t)rt_qkv_size(a));
    size_t piece = (size_t)t->piece_rows;
    t->datt = rt_net_floats(ops, piece * (size_t)rt_q_size(a));
    t->dgate_up = rt_net_floats(ops, piece * 2 * (size_t)a->f);
    t->dact = rt_net_floats(ops, piece * (size_t)a->f);
    t->act = rt_net_floats(ops, piece * (size_t)a->f);
    size_t bytes = ops->host ? CHUNK_BYTES : CHUNK_BYTES_DEVICE;
    size_t chunk = RT_MAX(bytes / (v * sizeof(float)), (size_t)CHUNK_ROWS_MIN);
    t->chunk_rows = (int)RT_MIN(chunk, r);
    t->logits = rt_net_floats(ops, (size_t)t->chunk_rows * v);
    t->gathered = rt_net_floats(ops, (size_t)t->chunk_rows * d);
    t->used = ops->alloc(ops, (size_t)t->chunk_rows * sizeof(int32_t));
    t->firsts = ops->alloc(ops, ((size_t)t->chunk_rows + 1) * sizeof(int32_t));
    t->firsts_host = rt_alloc(((size_t)t->chunk_rows + 1) * sizeof(int32_t));
    t->lse = rt_net_floats(ops, r);
    if (t->net->lora != NULL) {
        t->u = rt_net_floats(ops, r * (size_t)rt_lora_rank_columns(t->net));
        t->du = rt_net_floats(ops, r * (size_t)rt_lora_rank_columns(t->net));
    }
}

int rt_trainer_new(rt_trainer **trainer, rt_net *net, int64_t tokens_max, bool recompute,
                   rt_error *err)
{
    if (tokens_max < 1 || tokens_max > 1 << 24)
        return rt_fail(err, RT_ERR_USAGE, "a training pass holds 1 to 2^24 tokens, not %lld; set "
                       "learner.micro_tokens", (long long)tokens_max);
    rt_trainer *t = rt_alloc(sizeof(*t));
    t->net = net;
    t->rows_max = (int)tokens_max;
    bool pieces = rt_net_pieces(net) && !net->lora;
    t->piece_rows = pieces ? RT_MIN(t->rows_max, RT_PIECE_ROWS) : t->rows_max;
    t->recompute = recompute;
    t->kv_layers = recompute ? 1 : net->arch.layers;
    plan_alloc(t);
    pass_alloc(t);
    rt_trainer_pages(t, t->rows_max / RT_PAGE + 16);
    *trainer = t;
    return RT_OK;
}

static void backend_free(rt_ops *ops, void *memory)
{
    if (memory != NULL)
        ops->free(ops, memory);
}

void rt_trainer_free(rt_trainer **trainer)
{
    rt_trainer *t = *trainer;
    if (t == NULL)
        return;
    rt_ops *ops = t->net->ops;
    for (int l = 0; l <= t->net->arch.layers; l++)
        ops->free(ops, t->x[l]);
    for (int l = 0; l < t->kv_layers; l++)
        layer_free(ops, &t->layers[l]);
    void *backend[] = {t->at, t->act, t->ids, t->tables, t->kv, t->dkv, t->rstd,
                       t->hidden, t->dx, t->dh,
                       t->dqkv, t->datt, t->dgate_up, t->dact, t->logits, t->gathered, t->used,
                       t->firsts, t->lse,
                       t->targets, t->weights, t->logprobs, t->u, t->du, t->dropout.dropped,
                       t->dropout.mask};
    for (size_t i = 0; i < RT_COUNT(backend); i++)
        backend_free(ops, backend[i]);
    void *host[] = {t->segments, t->ids_host, t->parent, t->child, t->sibling, t->segment_of,
                    t->position, t->logits_used, t->at_host, t->tables_host, t->x, t->layers,
                    t->firsts_host, t->targets_host, t->weights_host, t->logprobs_host,
                    t->entries.order, t->entries.used, t->entries.first, t->adapter, t->spans,
                    t->paths, t->dropout.mask_host};
    for (size_t i = 0; i < RT_COUNT(host); i++)
        rt_free(host[i]);
    rt_free(t);
    *trainer = NULL;
}

void rt_trainer_pages(rt_trainer *t, int pages)
{
    if (pages <= t->pages_capacity)
        return;
    rt_ops *ops = t->net->ops;
    const rt_arch *a = &t->net->arch;
    size_t layer = (size_t)pages * (size_t)a->kv_heads * 2 * RT_PAGE * (size_t)a->head_size;
    backend_free(ops, t->kv);
    backend_free(ops, t->dkv);
    t->kv = rt_net_floats(ops, layer * (size_t)t->kv_layers);
    t->dkv = rt_net_floats(ops, layer);
    t->pages_capacity = pages;
}

rt_kv_view rt_trainer_kv(const rt_trainer *t, float *pool, int layer)
{
    const rt_arch *a = &t->net->arch;
    size_t stride = (size_t)t->pages_capacity * (size_t)a->kv_heads * 2 * RT_PAGE *
                    (size_t)a->head_size;
    size_t at = t->kv_layers > 1 && pool == t->kv ? (size_t)layer * stride : 0;
    return (rt_kv_view){.pool = pool + at, .pages = t->pages_capacity, .layer = 0,
                        .kv_heads = a->kv_heads, .head_size = a->head_size};
}

rt_layer_buffers rt_trainer_layer(const rt_trainer *t, int layer)
{
    rt_layer_buffers b = t->layers[t->recompute ? 0 : layer];
    b.x = t->x[layer];
    b.act = t->act;
    return b;
}

/* ---- adapters ---- */

rt_lora_rows rt_trainer_lora(const rt_trainer *t)
{
    return (rt_lora_rows){.spans = t->spans, .count = t->spans_count, .u = t->u, .du = t->du,
                          .dropout = &t->dropout};
}

/* A parent precedes its children. */
static void paths_hash(rt_trainer *t)
{
    for (int r = 0; r < t->rows && t->paths != NULL; r++) {
        uint64_t above = t->parent[r] < 0 ? (uint64_t)t->adapter[r] : t->paths[t->parent[r]];
        t->paths[r] = rt_hash64(&t->ids_host[r], sizeof t->ids_host[r], above);
    }
}

void rt_trainer_set_dropout(rt_trainer *t, double share, uint64_t seed)
{
    RT_ASSERT(share >= 0 && share < 1 && (share == 0 || t->net->lora != NULL));
    t->dropout.share = share;
    t->dropout.seed = seed;
    if (share == 0 || t->paths != NULL)
        return;
    size_t floats = (size_t)t->rows_max * (size_t)rt_lora_width(t->net);
    t->dropout.paths = t->paths = rt_alloc((size_t)t->rows_max * sizeof *t->paths);
    t->dropout.dropped = rt_net_floats(t->net->ops, floats);
    t->dropout.mask = rt_net_floats(t->net->ops, floats);
    t->dropout.mask_host = rt_alloc(floats * sizeof(float));
    paths_hash(t);
}

static void spans_plan(rt_trainer *t)
{
    t->spans_count = 0;
    if (t->net->lora == NULL)
        return;
    if (t->segments_count > t->spans_capacity) {
        rt_free(t->spans);
        t->spans_capacity = RT_MAX(t->segments_count, 2 * t->spans_capacity);
        t->spans = rt_alloc(sizeof(rt_span) * (size_t)t->spans_capacity);
    }
    for (int i = 0; i < t->segments_count; i++) {
        const rt_segment *s = &t->segments[i];
        t->spans_count = rt_span_add(t->spans, t->spans_count, s->first, s->count, s->adapter);
    }
}

void rt_trainer_set_lookups(rt_trainer *t, float *lookups)
{
    t->lookups = lookups;
}

/* ---- the trie ---- */

static int32_t child_find(const rt_trainer *t, int adapter, int32_t row, int32_t id)
{
    int32_t at = row < 0 ? t->roots : t->child[row];
    while (at >= 0 && (t->ids_host[at] != id || t->adapter[at] != adapter))
        at = t->sibling[at];
    return at;
}

/* Rows are numbered in the order of insertion: a parent precedes its children and the rows of
 * one sequence ascend, which is the order all accumulations follow. */
static int32_t child_add(rt_trainer *t, int adapter, int32_t parent, int32_t id, int position)
{
    int32_t row = t->rows++;
    int32_t *list = parent < 0 ? &t->roots : &t->child[parent];
    t->ids_host[row] = id;
    t->parent[row] = parent;
    t->child[row] = -1;
    t->position[row] = position;
    t->adapter[row] = adapter;
    t->sibling[row] = *list;
    *list = row;
    return row;
}

static int32_t *tables_take(rt_trainer *t, int count)
{
    size_t need = t->tables_count + (size_t)count;
    if (need > t->tables_capacity) {
        size_t capacity = RT_MAX(need, 2 * t->tables_capacity);
        t->tables_host = rt_realloc(t->tables_host, t->tables_capacity * sizeof(int32_t),
                                    capacity * sizeof(int32_t));
        backend_free(t->net->ops, t->tables);
        t->tables = t->net->ops->alloc(t->net->ops, capacity * sizeof(int32_t));
        t->tables_capacity = capacity;
    }
    int32_t *table = t->tables_host + t->tables_count;
    t->tables_count = need;
    return table;
}

/* Pages of a new run: those of its path before it are shared; a page it begins inside of is a new
 * page that starts with a copy; the rest are new. */
static void segment_add(rt_trainer *t, int first)
{
    if (t->segments_count == t->segments_capacity) {
        size_t old = (size_t)t->segments_capacity, now = RT_MAX(2 * old, 64);
        t->segments = rt_realloc(t->segments, old * sizeof(rt_segment), now * sizeof(rt_segment));
        t->segments_capacity = (int)now;
    }
    int index = t->segments_count++, start = t->position[first];
    rt_segment *s = &t->segments[index];
    memset(s, 0, sizeof(*s));
    s->first = first;
    s->count = t->rows - first;
    s->start = start;
    s->adapter = t->adapter[first];
    s->table = t->tables_count;
    int pages = (start + s->count + RT_PAGE - 1) / RT_PAGE, full = start / RT_PAGE;
    int32_t *table = tables_take(t, pages);
    if (start > 0) {
        const rt_segment *above = &t->segments[t->segment_of[t->parent[first]]];
        const int32_t *shared = t->tables_host + above->table;
        memcpy(table, shared, sizeof(int32_t) * (size_t)full);
        s->copy_slots = start % RT_PAGE;
        s->copy_from = s->copy_slots > 0 ? shared[full] : 0;
        s->copy_to = t->pages;
    }
    for (int p = full; p < pages; p++)
        table[p] = t->pages++;
    for (int r = first; r < t->rows; r++)
        t->segment_of[r] = index;
}

static void plan_upload(rt_trainer *t)
{
    rt_ops *ops = t->net->ops;
    for (int i = 0; i < t->segments_count; i++) {
        const rt_segment *s = &t->segments[i];
        for (int r = s->first; r < s->first + s->count; r++) {
            t->at_host[r].position = t->position[r];
            t->at_host[r].page_table = t->tables + s->table;
        }
    }
    ops->upload(ops, t->tables, t->tables_host, sizeof(int32_t) * t->tables_count);
    ops->upload(ops, t->at, t->at_host, sizeof(rt_row) * (size_t)t->rows);
    ops->upload(ops, t->ids, t->ids_host, sizeof(int32_t) * (size_t)t->rows);
    rt_trainer_pages(t, t->pages);
    spans_plan(t);
    paths_hash(t);
}

static int sequence_check(const rt_trainer *t, int index, const int32_t *ids, int length,
                          rt_error *err)
{
    const rt_arch *a = &t->net->arch;
    if (length < 1 || length > a->context)
        return rt_fail(err, RT_ERR_LIMIT, "sequence %d has %d tokens; the model takes 1 to %d",
                       index, length, a->context);
    for (int i = 0; i < length; i++)
        if (ids[i] < 0 || ids[i] >= a->vocab)
            return rt_fail(err, RT_ERR_INPUT, "token id %d of sequence %d is outside the model's "
                           "vocabulary of %d", ids[i], index, a->vocab);
    return RT_OK;
}

int rt_trainer_plan(rt_trainer *t, const int32_t *const *sequences, const int32_t *lengths,
                    const int *adapters, const int *trees, int count, int32_t **row_of,
                    rt_error *err)
{
    t->rows = t->segments_count = t->pages = 0;
    t->tables_count = 0;
    t->roots = -1;
    t->kept = false;
    t->logits_used_count = 0;
    for (int i = 0; i < count; i++) {
        int rc = sequence_check(t, i, sequences[i], lengths[i], err);
        int32_t row = -1;
        if (trees != NULL && i > 0 && trees[i] != trees[i - 1])
            t->roots = -1; /* what came before is not found from here on */
        int adapter = adapters != NULL ? adapters[i] : -1;
        RT_ASSERT(adapter >= -1 && adapter < rt_net_adapters(t->net));
        int p = 0, first = t->rows;
        for (; rc == RT_OK && p < lengths[i]; p++) {
            int32_t next = child_find(t, adapter, row, sequences[i][p]);
            if (next < 0)
                break;
            row_of[i][p] = row = next;
        }
        if (rc == RT_OK && lengths[i] - p > t->rows_max - t->rows)
            rc = rt_fail(err, RT_ERR_LIMIT, "%d sequences do not fit a training pass of %d tokens; "
                         "raise learner.micro_tokens", count, t->rows_max);
        if (rc < 0) {
            t->rows = 0;
            return rc;
        }
        for (; p < lengths[i]; p++)
            row_of[i][p] = row = child_add(t, adapter, row, sequences[i][p], p);
        if (t->rows > first)
            segment_add(t, first);
    }
    if (t->rows > 0)
        plan_upload(t);
    return t->rows;
}
