/* Trainer: forward with saved activations, backward layer by layer. */
#include "model/trainer_internal.h"

/* Copies the shared begin of pages down the trie: a parent's page before its child's. */
static void pages_copy(rt_trainer *t, const rt_kv_view *kv)
{
    for (int i = 0; i < t->segments_count; i++) {
        const rt_segment *s = &t->segments[i];
        if (s->copy_slots > 0)
            t->net->ops->kv_copy(t->net->ops, kv, s->copy_to, s->copy_from, s->copy_slots, 1);
    }
}

/* The way back: the last run first, so that a grandchild's share reaches the grandparent. */
static void pages_copy_backward(rt_trainer *t, const rt_kv_view *dkv)
{
    for (int i = t->segments_count - 1; i >= 0; i--) {
        const rt_segment *s = &t->segments[i];
        if (s->copy_slots > 0)
            t->net->ops->kv_copy_backward(t->net->ops, dkv, s->copy_from, s->copy_to,
                                          s->copy_slots);
    }
}

/* The buffers of a layer from row `row` on; act is that of the piece at work. */
static rt_layer_buffers buffers_from(const rt_layer_buffers *b, const rt_arch *a, size_t row)
{
    size_t d = (size_t)a->d, q = (size_t)rt_q_size(a);
    return (rt_layer_buffers){
        .x = b->x + row * d,
        .rstd1 = b->rstd1 + row,
        .h1 = b->h1 + row * d,
        .qkv = b->qkv + row * (size_t)rt_qkv_size(a),
        .att = b->att + row * q,
        .stats = b->stats + row * (size_t)a->heads * 2,
        .mid = b->mid + row * d,
        .rstd2 = b->rstd2 + row,
        .h2 = b->h2 + row * d,
        .gate_up = b->gate_up + row * 2 * (size_t)a->f,
        .act = b->act,
    };
}

/* out NULL: only what backward reads. Rows go in pieces, so that what one operation writes is
 * still in the cache when the next one reads it. */
static void layer_forward(rt_trainer *t, int layer, float *out)
{
    const rt_arch *a = &t->net->arch;
    rt_layer_buffers whole = rt_trainer_layer(t, layer);
    rt_kv_view kv = rt_trainer_kv(t, t->kv, layer);
    /* Low-rank parts go over all rows at once: with adapters there is one piece. */
    rt_lora_rows lora = rt_trainer_lora(t);
    for (int row = 0; row < t->rows; row += t->piece_rows) {
        rt_layer_buffers b = buffers_from(&whole, a, (size_t)row);
        rt_layer_qkv(t->net, layer, &b, &kv, t->at + row, RT_MIN(t->piece_rows, t->rows - row),
                     &lora);
    }
    pages_copy(t, &kv);
    for (int row = 0; row < t->rows; row += t->piece_rows) {
        rt_layer_buffers b = buffers_from(&whole, a, (size_t)row);
        rt_layer_rest(t->net, layer, &b, &kv, t->at + row, RT_MIN(t->piece_rows, t->rows - row),
                      &lora, out ? out + (size_t)row * (size_t)a->d : NULL);
    }
}

int rt_trainer_forward(rt_trainer *t, const rt_entry *entries, int count, float temperature,
                       bool keep, float *logprob, rt_error *err)
{
    rt_net *net = t->net;
    rt_ops *ops = net->ops;
    const rt_arch *a = &net->arch;
    RT_ASSERT(rt_net_complete(net));
    if (t->rows < 1)
        return rt_fail(err, RT_ERR_STATE, "a training pass needs planned sequences");
    if (!(temperature > 0))
        return rt_fail(err, RT_ERR_USAGE, "log-probs need a temperature above 0, not %g",
                       (double)temperature);
    ops->embed(ops, t->x[0], t->ids, net->embed, t->rows);
    for (int l = 0; l < a->layers; l++)
        layer_forward(t, l, t->x[l + 1]);
    ops->rmsnorm(ops, t->hidden, t->rstd, t->x[a->layers], net->norm, t->rows, a->d, a->norm_eps);
    rt_entries_plan(t, entries, count);
    rt_trainer_logprobs(t, entries, temperature, logprob);
    t->kept = keep;
    return RT_OK;
}

/* One piece of rows. In: dx = d loss / d output of the layer. Out: dx = d loss / d mid. */
static void mlp_backward(rt_trainer *t, int layer, const rt_layer_buffers *b, float *dx, int rows,
                         float *grad)
{
    rt_ops *ops = t->net->ops;
    const rt_arch *a = &t->net->arch;
    const rt_layer *w = &t->net->layers[layer];
    int d = a->d, f = a->f;
    bool base = t->net->lora == NULL; /* what of it is frozen has no gradient to gather */
    rt_lora_rows lora = rt_trainer_lora(t);
    ops->matmul_dx(ops, t->dact, f, dx, d, w->down, rows, false);
    if (!base) {
        ops->swiglu(ops, b->act, b->gate_up, rows, f);
        rt_lora_backward(t->net, layer, RT_GROUP_DOWN, &lora, dx, d, b->act, t->dact, grad);
    }
    ops->swiglu_backward(ops, t->dgate_up, b->act, t->dact, b->gate_up, rows, f);
    if (base) {
        ops->matmul_dw(ops, grad + w->at.down, dx, d, b->act, f, rows, d, f);
        ops->matmul_dw(ops, grad + w->at.gate, t->dgate_up, 2 * f, b->h2, d, rows, f, d);
        ops->matmul_dw(ops, grad + w->at.up, t->dgate_up + f, 2 * f, b->h2, d, rows, f, d);
    }
    ops->matmul_dx(ops, t->dh, d, t->dgate_up, 2 * f, w->gate_up, rows, false);
    rt_lora_backward(t->net, layer, RT_GROUP_GATE_UP, &lora, t->dgate_up, 2 * f, b->h2, t->dh, grad);
    ops->rmsnorm_backward(ops, dx, base ? grad + w->at.norm_mlp : NULL, t->dh, b->mid, b->rstd2,
                          w->norm_mlp, rows, d);
}

static void dkv_clear(rt_trainer *t, const rt_kv_view *dkv)
{
    size_t page = 2 * RT_PAGE * (size_t)dkv->head_size;
    for (int k = 0; k < dkv->kv_heads; k++)
        t->net->ops->zero(t->net->ops, dkv->pool + (size_t)k * (size_t)dkv->pages * page,
                          (size_t)t->pages * page * sizeof(float));
}

/* One piece of rows: the way back from dx = d loss / d mid to the queries and into the pages. */
static void values_backward(rt_trainer *t, int layer, const rt_layer_buffers *b,
                            const rt_kv_view *dkv, int row, int rows, float *grad)
{
    rt_ops *ops = t->net->ops;
    const rt_arch *a = &t->net->arch;
    const rt_layer *w = &t->net->layers[layer];
    int d = a->d, q = rt_q_size(a), qkv = rt_qkv_size(a);
    const float *dx = t->dx + (size_t)row * (size_t)d;
    rt_kv_view kv = rt_trainer_kv(t, t->kv, layer);
    ops->matmul_dx(ops, t->datt, q, dx, d, w->o, rows, false);
    rt_lora_rows lora = rt_trainer_lora(t);
    rt_lora_backward(t->net, layer, RT_GROUP_O, &lora, dx, d, b->att, t->datt, grad);
    if (!t->net->lora)
        ops->matmul_dw(ops, grad + w->at.o, dx, d, b->att, q, rows, d, q);
    ops->attention_backward(ops, t->dqkv + (size_t)row * (size_t)qkv, qkv, dkv, t->datt, q, b->att,
                            q, b->stats, b->qkv, qkv, a->heads, &kv, t->at + row, rows);
}

/* One piece of rows, once all pages have what every row adds. In: dx = d loss / d mid. Out: dx =
 * d loss / d input of the layer. */
static void qkv_backward(rt_trainer *t, int layer, const rt_layer_buffers *b,
                         const rt_kv_view *dkv, int row, int rows, float *grad)
{
    rt_ops *ops = t->net->ops;
    const rt_arch *a = &t->net->arch;
    const rt_layer *w = &t->net->layers[layer];
    int d = a->d, q = rt_q_size(a), kv = rt_kv_size(a), qkv = rt_qkv_size(a);
    float *dqkv = t->dqkv + (size_t)row * (size_t)qkv;
    const rt_row *at = t->at + row;
    ops->kv_gather(ops, dkv, dqkv + q, dqkv + q + kv, qkv, at, rows);
    ops->rope(ops, dqkv, qkv, a->heads + a->kv_heads, &t->net->rope, at, rows, -1);
    bool base = t->net->lora == NULL, lowest = !base && layer == 0; /* below it nothing is trained */
    if (base) {
        ops->matmul_dw(ops, grad + w->at.q, dqkv, qkv, b->h1, d, rows, q, d);
        ops->matmul_dw(ops, grad + w->at.k, dqkv + q, qkv, b->h1, d, rows, kv, d);
        ops->matmul_dw(ops, grad + w->at.v, dqkv + q + kv, qkv, b->h1, d, rows, kv, d);
    }
    if (!lowest)
        ops->matmul_dx(ops, t->dh, d, dqkv, qkv, w->qkv, rows, false);
    rt_lora_rows lora = rt_trainer_lora(t);
    rt_lora_backward(t->net, layer, RT_GROUP_QKV, &lora, dqkv, qkv, b->h1, lowest ? NULL : t->dh,
                     grad);
    if (!lowest)
        ops->rmsnorm_backward(ops, t->dx + (size_t)row * (size_t)d,
                              base ? grad + w->at.norm_attention : NULL, t->dh, b->x, b->rstd1,
                              w->norm_attention, rows, d);
}

/* Pieces in ascending order: every sum over rows is the one over all rows at once. */
static void layer_backward(rt_trainer *t, int layer, float *grad)
{
    const rt_arch *a = &t->net->arch;
    rt_layer_buffers whole = rt_trainer_layer(t, layer);
    rt_kv_view dkv = rt_trainer_kv(t, t->dkv, 0);
    dkv_clear(t, &dkv);
    for (int row = 0; row < t->rows; row += t->piece_rows) {
        int rows = RT_MIN(t->piece_rows, t->rows - row);
        rt_layer_buffers b = buffers_from(&whole, a, (size_t)row);
        mlp_backward(t, layer, &b, t->dx + (size_t)row * (size_t)a->d, rows, grad);
        values_backward(t, layer, &b, &dkv, row, rows, grad);
    }
    pages_copy_backward(t, &dkv);
    for (int row = 0; row < t->rows; row += t->piece_rows) {
        rt_layer_buffers b = buffers_from(&whole, a, (size_t)row);
        qkv_backward(t, layer, &b, &dkv, row, RT_MIN(t->piece_rows, t->rows - row), grad);
    }
}

int rt_trainer_backward(rt_trainer *t, const rt_entry *entries, const float *g, int count,
                        float temperature, float *grad, rt_error *err)
{
    rt_net *net = t->net;
    rt_ops *ops = net->ops;
    const rt_arch *a = &net->arch;
    if (!t->kept)
        return rt_fail(err, RT_ERR_STATE, "backward needs a forward that kept its activations");
    if (!(temperature > 0))
        return rt_fail(err, RT_ERR_USAGE, "log-probs need a temperature above 0, not %g",
                       (double)temperature);
    if (count == 0)
        return RT_OK;
    rt_entries_plan(t, entries, count);
    rt_trainer_logits_backward(t, entries, g, temperature, grad);
    ops->zero(ops, t->dx, (size_t)t->rows * (size_t)a->d * sizeof(float));
    bool base = net->lora == NULL;
    ops->rmsnorm_backward(ops, t->dx, base ? grad + net->norm_at : NULL, t->dh, t->x[a->layers], t->rstd,
                          net->norm, t->rows, a->d);
    for (int l = a->layers - 1; l >= 0; l--) {
        /* the last layer's activations are still there from the forward */
        if (t->recompute && l < a->layers - 1)
            layer_forward(t, l, NULL);
        layer_backward(t, l, grad);
    }
    if (base) {
        float *lookups = a->tied && t->lookups ? t->lookups : grad + net->embed_at;
        ops->embed_backward(ops, lookups, t->ids, t->dx, t->rows, a->d);
    }
    if (t->recompute && a->layers > 1)
        t->kept = false; /* the last layer's activations are gone */
    return RT_OK;
}

void rt_trainer_logits(rt_trainer *t, int row, float *logits)
{
    rt_ops *ops = t->net->ops;
    int v = t->net->arch.vocab, d = t->net->arch.d;
    RT_ASSERT(row >= 0 && row < t->rows);
    ops->matmul(ops, t->logits, v, t->hidden + (size_t)row * (size_t)d, d, rt_net_head(t->net), 1,
                false);
    t->logits_used_count = 0;
    ops->download(ops, logits, t->logits, sizeof(float) * (size_t)v);
}
