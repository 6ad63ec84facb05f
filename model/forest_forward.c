/* Forest: one forward over runs of new tokens, in pieces of a fixed number of rows. */
#include <string.h>

#include "model/net_internal.h"

/* Rows of one pass of several threads; one takes RT_PIECE_ROWS. A row's bits do not depend on it. */
enum { PASS_ROWS = 512 };

static void buffers_alloc(rt_forest *f, int rows)
{
    rt_ops *ops = f->net->ops;
    const rt_arch *a = &f->net->arch;
    size_t r = (size_t)rows, d = (size_t)a->d;
    f->pass_rows = rows;
    f->b.x = rt_net_floats(ops, r * d);
    f->b.rstd1 = f->b.rstd2 = rt_net_floats(ops, r);
    f->b.h1 = f->b.h2 = rt_net_floats(ops, r * d);
    f->b.qkv = rt_net_floats(ops, r * (size_t)rt_qkv_size(a));
    f->b.att = rt_net_floats(ops, r * (size_t)rt_q_size(a));
    f->b.stats = NULL;
    f->b.mid = rt_net_floats(ops, r * d);
    f->b.gate_up = rt_net_floats(ops, r * 2 * (size_t)a->f);
    f->b.act = rt_net_floats(ops, r * (size_t)a->f);
    f->ids = ops->alloc(ops, r * sizeof(int32_t));
    if (f->net->lora != NULL)
        f->u = rt_net_floats(ops, r * (size_t)rt_lora_rank_columns(f->net));
}

int rt_forest_buffers_new(rt_forest *f, rt_error *err)
{
    int64_t tokens = (int64_t)f->kv.pages * RT_PAGE;
    int most = rt_net_pieces(f->net) ? RT_PIECE_ROWS : PASS_ROWS;
    buffers_alloc(f, (int)RT_MIN(tokens, (int64_t)most));
    return f->ids != NULL ? RT_OK : rt_fail(err, RT_ERR_NOMEM, "no room for a forward pass");
}

static void rows_free(rt_forest *f)
{
    rt_ops *ops = f->net->ops;
    if (f->hidden != NULL) {
        ops->free(ops, f->hidden);
        ops->free(ops, f->at);
    }
    rt_free(f->at_host);
    rt_free(f->ids_host);
}

void rt_forest_buffers_free(rt_forest *f)
{
    rt_ops *ops = f->net->ops;
    if (f->b.x != NULL) {
        float *all[] = {f->b.x, f->b.rstd1, f->b.h1, f->b.qkv, f->b.att, f->b.mid, f->b.gate_up,
                        f->b.act};
        for (size_t i = 0; i < RT_COUNT(all); i++)
            ops->free(ops, all[i]);
        ops->free(ops, f->ids);
    }
    rows_free(f);
    if (f->u != NULL)
        ops->free(ops, f->u);
    if (f->tables != NULL)
        ops->free(ops, f->tables);
    rt_free(f->tables_host);
}

/* Room for `rows` rows and `tables` page numbers; contents of earlier forwards are dropped. */
static void forward_room(rt_forest *f, int rows, size_t tables)
{
    rt_ops *ops = f->net->ops;
    if (rows > f->rows_capacity) {
        int capacity = RT_MAX(rows, 2 * f->rows_capacity);
        rows_free(f);
        f->hidden = rt_net_floats(ops, (size_t)capacity * (size_t)f->net->arch.d);
        f->at = ops->alloc(ops, sizeof(rt_row) * (size_t)capacity);
        f->at_host = rt_alloc(sizeof(rt_row) * (size_t)capacity);
        f->ids_host = rt_alloc(sizeof(int32_t) * (size_t)capacity);
        f->rows_capacity = capacity;
    }
    if (tables > f->tables_capacity) {
        size_t capacity = RT_MAX(tables, 2 * f->tables_capacity);
        if (f->tables != NULL)
            ops->free(ops, f->tables);
        rt_free(f->tables_host);
        f->tables = ops->alloc(ops, sizeof(int32_t) * capacity);
        f->tables_host = rt_alloc(sizeof(int32_t) * capacity);
        f->tables_capacity = capacity;
    }
}

static int runs_check(const rt_forest *f, const rt_run *runs, int count, rt_error *err)
{
    const rt_arch *a = &f->net->arch;
    int64_t pages = 0, rows = 0;
    for (int i = 0; i < count; i++) {
        const rt_run *run = &runs[i];
        RT_ASSERT(run->count > 0 && run->unseen >= 0 && run->unseen <= run->count);
        RT_ASSERT(run->node >= 0 && run->node < f->nodes_count);
        const rt_node *node = &f->nodes[run->node];
        RT_ASSERT(node->live);
        if (run->count > a->context - node->length)
            return rt_fail(err, RT_ERR_LIMIT, "%d tokens after %d do not fit the model's context "
                           "of %d tokens", run->count, node->length, a->context);
        for (int t = 0; t < run->count; t++)
            if (run->ids[t] < 0 || run->ids[t] >= a->vocab)
                return rt_fail(err, RT_ERR_INPUT, "token id %d is outside the model's vocabulary "
                               "of %d", run->ids[t], a->vocab);
        int need = (node->length + run->count + RT_PAGE - 1) / RT_PAGE - node->table_count;
        pages += RT_MAX(need, 0);
        rows += run->count;
    }
    if (pages > f->pages_free_count)
        return rt_fail(err, RT_ERR_LIMIT, "%lld K/V pages are needed and %d are free; raise "
                       "cache_tokens or lower slots", (long long)pages, f->pages_free_count);
    RT_ASSERT(rows < INT32_MAX);
    return RT_OK;
}

/* Rows stand in two parts, those that nobody will see first: each part in the order of the runs. */
typedef struct run_part {
    int first, end; /* tokens of a run */
} run_part;

enum { UNSEEN, SEEN, PARTS };

static run_part part_of(const rt_run *run, int which)
{
    return which == UNSEEN ? (run_part){0, run->unseen} : (run_part){run->unseen, run->count};
}

/* Runs that stand together share their products with an adapter. */
static void spans_place(rt_forest *f, const rt_run *runs, int count)
{
    if (f->net->lora == NULL)
        return;
    if (PARTS * count > f->spans_capacity) {
        rt_free(f->spans);
        rt_free(f->pass_spans);
        f->spans_capacity = RT_MAX(PARTS * count, 2 * f->spans_capacity);
        f->spans = rt_alloc(sizeof(rt_span) * (size_t)f->spans_capacity);
        f->pass_spans = rt_alloc(sizeof(rt_span) * (size_t)f->spans_capacity);
    }
    f->spans_count = 0;
    int row = 0;
    for (int which = UNSEEN; which < PARTS; which++) {
        for (int i = 0; i < count; i++) {
            run_part p = part_of(&runs[i], which);
            if (p.first == p.end)
                continue;
            int adapter = f->nodes[runs[i].node].adapter;
            f->spans_count = rt_span_add(f->spans, f->spans_count, row, p.end - p.first, adapter);
            row += p.end - p.first;
        }
    }
}

/* Writes every row's token, position and page table, and lengthens the nodes. */
static void parts_place(rt_forest *f, const rt_run *runs, int count)
{
    int row = 0;
    for (int which = UNSEEN; which < PARTS; which++) {
        size_t at = 0;
        f->unseen = which == UNSEEN ? 0 : row;
        for (int i = 0; i < count; i++) {
            rt_node *node = &f->nodes[runs[i].node];
            run_part p = part_of(&runs[i], which);
            for (int t = p.first; t < p.end; t++, row++) {
                f->at_host[row].position = node->length + t;
                f->at_host[row].page_table = f->tables + at;
                f->ids_host[row] = runs[i].ids[t];
            }
            at += (size_t)node->table_count;
            node->length += which == SEEN ? runs[i].count : 0;
        }
    }
    f->rows = row;
}

static void rows_place(rt_forest *f, const rt_run *runs, int count)
{
    rt_ops *ops = f->net->ops;
    size_t tables = 0;
    int rows = 0;
    for (int i = 0; i < count; i++) {
        rt_node *node = &f->nodes[runs[i].node];
        bool room = rt_forest_reserve(f, runs[i].node, node->length + runs[i].count);
        RT_ASSERT(room);
        tables += (size_t)node->table_count;
        rows += runs[i].count;
    }
    forward_room(f, rows, tables);
    size_t at = 0;
    for (int i = 0; i < count; i++) {
        const rt_node *node = &f->nodes[runs[i].node];
        memcpy(f->tables_host + at, node->table, sizeof(int32_t) * (size_t)node->table_count);
        at += (size_t)node->table_count;
    }
    parts_place(f, runs, count);
    ops->upload(ops, f->tables, f->tables_host, sizeof(int32_t) * tables);
    ops->upload(ops, f->at, f->at_host, sizeof(rt_row) * (size_t)rows);
}

static rt_lora_rows lora_of(rt_forest *f, int from, int rows)
{
    return (rt_lora_rows){.spans = f->pass_spans, .u = f->u,
                          .count = rt_span_cut(f->spans, f->spans_count, from, rows, f->pass_spans)};
}

/* All layers for `rows` rows from `from` on; of the last one the first `unseen` rows need only K/V. */
static void layers_forward(rt_forest *f, int from, int rows, int unseen)
{
    rt_net *net = f->net;
    const rt_arch *a = &net->arch;
    const rt_row *at = f->at + from;
    rt_lora_rows lora = lora_of(f, from, rows);
    rt_kv_view kv = f->kv;
    for (kv.layer = 0; kv.layer < a->layers; kv.layer++) {
        rt_layer_qkv(net, kv.layer, &f->b, &kv, at, rows, &lora);
        if (kv.layer + 1 < a->layers)
            rt_layer_rest(net, kv.layer, &f->b, &kv, at, rows, &lora, f->b.x);
    }
    if (unseen == rows)
        return;
    rt_layer_buffers seen = f->b;
    seen.x += (size_t)unseen * (size_t)a->d;
    seen.qkv += (size_t)unseen * (size_t)rt_qkv_size(a);
    kv.layer = a->layers - 1;
    lora = lora_of(f, from + unseen, rows - unseen);
    rt_layer_rest(net, kv.layer, &seen, &kv, at + unseen, rows - unseen, &lora, seen.x);
    float *hidden = f->hidden + (size_t)(from + unseen - f->unseen) * (size_t)a->d;
    net->ops->rmsnorm(net->ops, hidden, f->b.rstd1, seen.x, net->norm, rows - unseen, a->d, a->norm_eps);
}

int rt_forest_forward(rt_forest *f, const rt_run *runs, int runs_count, rt_error *err)
{
    RT_ASSERT(runs_count > 0 && rt_net_complete(f->net));
    int rc = runs_check(f, runs, runs_count, err);
    if (rc < 0)
        return rc;
    rows_place(f, runs, runs_count);
    spans_place(f, runs, runs_count);
    rt_ops *ops = f->net->ops;
    for (int from = 0; from < f->rows; from += f->pass_rows) {
        int rows = RT_MIN(f->pass_rows, f->rows - from);
        ops->upload(ops, f->ids, f->ids_host + from, sizeof(int32_t) * (size_t)rows);
        ops->embed(ops, f->b.x, f->ids, f->net->embed, rows);
        layers_forward(f, from, rows, RT_MIN(RT_MAX(f->unseen - from, 0), rows));
    }
    return RT_OK;
}

void rt_forest_logits_backend(rt_forest *f, int first, int count, float *logits)
{
    rt_ops *ops = f->net->ops;
    int d = f->net->arch.d, v = f->net->arch.vocab;
    RT_ASSERT(first >= 0 && count > 0 && first + count <= f->rows - f->unseen);
    ops->matmul(ops, logits, v, f->hidden + (size_t)first * (size_t)d, d, rt_net_head(f->net), count,
                false);
}

void rt_forest_logits(rt_forest *f, const int32_t *rows, int count, float *logits)
{
    rt_ops *ops = f->net->ops;
    size_t v = (size_t)f->net->arch.vocab;
    int step = RT_MIN(count, 16);
    if (count < 1)
        return;
    float *part = rt_net_floats(ops, (size_t)step * v);
    for (int i = 0, n; i < count; i += n) {
        for (n = 1; n < step && i + n < count && rows[i + n] == rows[i] + n; n++)
            ;
        rt_forest_logits_backend(f, rows[i], n, part);
        ops->download(ops, logits + (size_t)i * v, part, (size_t)n * v * sizeof(float));
    }
    ops->free(ops, part);
}
