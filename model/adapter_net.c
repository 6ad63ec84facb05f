/* Adapters in a net: packing, and the low-rank part of a layer forward and backward. */
#include <string.h>

#include "model/net_internal.h"

/* ---- the object -------------------------------------------------------------------------------
 */

int rt_net_open_adapters(rt_net *net, const rt_lora *lora, int count, rt_error *err)
{
    RT_ASSERT(net->lora == NULL);
    rt_adapters *shape; /* checks the settings */
    int rc = rt_adapters_new(&shape, &net->arch, lora, count, err);
    if (rc < 0)
        return rc;
    rt_net_lora *n = rt_alloc(sizeof *n);
    n->lora = *lora;
    n->count = count;
    n->stride = rt_adapters_stride(shape);
    rt_adapters_free(&shape);
    size_t at = 0;
    for (int t = 0; t < RT_LORA_TARGETS; t++) {
        if (!(lora->targets >> t & 1))
            continue;
        int group = rt_target_group(t);
        n->list[group][n->list_count[group]++] = t;
        n->at_a[t] = at;
        at += (size_t)lora->rank * (size_t)rt_target_inputs(&net->arch, t);
        n->at_b[t] = at;
        at += (size_t)lora->rank * (size_t)rt_target_outputs(&net->arch, t);
    }
    n->layer_stride = at;
    RT_ASSERT(at * (size_t)net->arch.layers == n->stride);
    n->pairs = rt_alloc((size_t)count * (size_t)net->arch.layers * RT_GROUPS *
                        sizeof(rt_lora_pair));
    net->lora = n;
    return RT_OK;
}

void rt_net_lora_free(rt_net *net)
{
    rt_net_lora *n = net->lora;
    if (n == NULL)
        return;
    rt_ops *ops = net->ops;
    int pairs = n->count * net->arch.layers * RT_GROUPS;
    for (int i = 0; i < pairs; i++) {
        rt_lora_pair *p = &n->pairs[i];
        rt_packed *all[] = {p->a, p->a_scaled, p->b[0], p->b[1], p->b[2]};
        for (size_t k = 0; k < RT_COUNT(all); k++)
            if (all[k] != NULL)
                ops->packed_free(ops, all[k]);
    }
    rt_free(n->pairs);
    rt_free(n);
    net->lora = NULL;
}

static rt_lora_pair *pair_at(const rt_net *net, int adapter, int layer, int group)
{
    return &net->lora->pairs[(adapter * net->arch.layers + layer) * RT_GROUPS + group];
}

static void pack(rt_net *net, rt_packed **w, const float *words, int row0, int rows, int total,
                 int cols)
{
    *w = net->ops->pack(net->ops, *w, words, RT_F32, row0, rows, total, cols);
    RT_ASSERT(*w != NULL);
}

static const float *scaled(float *to, const float *from, size_t count, float scale)
{
    for (size_t i = 0; i < count; i++)
        to[i] = scale * from[i];
    return to;
}

static void group_set(rt_net *net, rt_lora_pair *pair, int group, const float *layer)
{
    rt_net_lora *n = net->lora;
    float scale = (float)(n->lora.alpha / n->lora.rank);
    int rank = n->lora.rank, count = n->list_count[group];
    for (int i = 0; i < count; i++) {
        int t = n->list[group][i];
        int in = rt_target_inputs(&net->arch, t), out = rt_target_outputs(&net->arch, t);
        size_t a = (size_t)rank * (size_t)in, b = (size_t)rank * (size_t)out;
        float *words = rt_alloc(RT_MAX(a, b) * sizeof(float));
        pack(net, &pair->a, layer + n->at_a[t], i * rank, rank, count * rank, in);
        scaled(words, layer + n->at_a[t], a, scale);
        pack(net, &pair->a_scaled, words, i * rank, rank, count * rank, in);
        scaled(words, layer + n->at_b[t], b, scale);
        pack(net, &pair->b[i], words, 0, out, out, rank);
        rt_free(words);
    }
}

void rt_net_set_adapters(rt_net *net, const rt_weights *adapters)
{
    rt_net_lora *n = net->lora;
    RT_ASSERT(n != NULL && adapters->dtype == RT_F32);
    RT_ASSERT(adapters->count == n->stride * (size_t)n->count);
    for (int k = 0; k < n->count; k++)
        for (int l = 0; l < net->arch.layers; l++)
            for (int g = 0; g < RT_GROUPS; g++)
                if (n->list_count[g] > 0)
                    group_set(net, pair_at(net, k, l, g), g,
                              (const float *)adapters->data + (size_t)k * n->stride +
                                  (size_t)l * n->layer_stride);
    n->set = true;
}

int rt_net_adapters(const rt_net *net)
{
    return net->lora != NULL ? net->lora->count : 0;
}

int rt_lora_width(const rt_net *net)
{
    int width = 0;
    for (int t = 0; t < RT_LORA_TARGETS; t++)
        if (net->lora->lora.targets >> t & 1)
            width = RT_MAX(width, rt_target_inputs(&net->arch, t));
    return width;
}

int rt_lora_rank_columns(const rt_net *net)
{
    return RT_GROUP_TARGETS_MAX * net->lora->lora.rank;
}

/* ---- spans ------------------------------------------------------------------------------------
 */

int rt_span_add(rt_span *spans, int count, int first, int rows, int adapter)
{
    if (adapter < 0)
        return count;
    rt_span *last = count > 0 ? &spans[count - 1] : NULL;
    if (last != NULL && last->adapter == adapter && last->first + last->count == first) {
        last->count += rows;
        return count;
    }
    spans[count] = (rt_span){first, rows, adapter};
    return count + 1;
}

int rt_span_cut(const rt_span *all, int count, int from, int rows, rt_span *out)
{
    int n = 0;
    for (int i = 0; i < count; i++) {
        int first = RT_MAX(all[i].first, from);
        int end = RT_MIN(all[i].first + all[i].count, from + rows);
        if (first < end)
            out[n++] = (rt_span){first - from, end - first, all[i].adapter};
    }
    return n;
}

/* ---- one group of one layer -------------------------------------------------------------------
 */

static void mask_make(const rt_net *net, const rt_lora_dropout *d, const rt_span *span, int layer,
                      int group, int k)
{
    float kept = (float)(1 / (1 - d->share));
    uint32_t below = (uint32_t)(d->share * 0x1p32);
    uint64_t place = (uint64_t)(layer * RT_GROUPS + group) << 32;
    size_t at = (size_t)span->first * (size_t)k, count = (size_t)span->count * (size_t)k;
    for (int r = 0; r < span->count; r++) {
        float *row = d->mask_host + at + (size_t)r * (size_t)k;
        for (int i = 0; i < k; i += 4) {
            uint32_t words[4];
            rt_philox(d->seed, d->paths[span->first + r], place | (uint64_t)(i / 4), words);
            for (int j = i; j < RT_MIN(i + 4, k); j++)
                row[j] = words[j - i] < below ? 0 : kept;
        }
    }
    net->ops->upload(net->ops, d->mask + at, d->mask_host + at, count * sizeof(float));
}

/* Inputs of the span's rows, dropped where this is a training pass with dropout. */
static const float *span_input(const rt_net *net, const rt_lora_rows *rows, const rt_span *span,
                               int layer, int group, const float *x, int k)
{
    size_t at = (size_t)span->first * (size_t)k;
    const rt_lora_dropout *d = rows->dropout;
    if (d == NULL || d->share <= 0)
        return x + at;
    mask_make(net, d, span, layer, group, k);
    net->ops->multiply(net->ops, d->dropped + at, x + at, d->mask + at,
                       (size_t)span->count * (size_t)k);
    return d->dropped + at;
}

static int group_inputs(const rt_net *net, int group)
{
    return rt_target_inputs(&net->arch, net->lora->list[group][0]);
}

void rt_lora_forward(const rt_net *net, int layer, int group, const rt_lora_rows *rows, float *y,
                     int y_ld, const float *x)
{
    if (rows == NULL || rows->count == 0 || net->lora->list_count[group] == 0)
        return;
    const rt_net_lora *n = net->lora;
    rt_ops *ops = net->ops;
    RT_ASSERT(n->set);
    int rank = n->lora.rank, count = n->list_count[group], k = group_inputs(net, group);
    for (int s = 0; s < rows->count; s++) {
        const rt_span *span = &rows->spans[s];
        const rt_lora_pair *pair = pair_at(net, span->adapter, layer, group);
        const float *input = span_input(net, rows, span, layer, group, x, k);
        ops->matmul(ops, rows->u, count * rank, input, k, pair->a, span->count, false);
        float *to = y + (size_t)span->first * (size_t)y_ld;
        for (int i = 0; i < count; i++)
            ops->matmul(ops, to + rt_target_column(&net->arch, n->list[group][i]), y_ld,
                        rows->u + i * rank, count * rank, pair->b[i], span->count, true);
    }
}

/* dx += du·A, through the mask of the forward. */
static void input_backward(const rt_net *net, const rt_lora_rows *rows, const rt_span *span,
                           const rt_lora_pair *pair, int columns, int k, float *dx)
{
    rt_ops *ops = net->ops;
    const rt_lora_dropout *d = rows->dropout;
    size_t at = (size_t)span->first * (size_t)k, count = (size_t)span->count * (size_t)k;
    if (d == NULL || d->share <= 0) {
        ops->matmul_dx(ops, dx + at, k, rows->du, columns, pair->a, span->count, true);
        return;
    }
    ops->matmul_dx(ops, d->dropped + at, k, rows->du, columns, pair->a, span->count, false);
    ops->multiply(ops, d->dropped + at, d->dropped + at, d->mask + at, count);
    ops->add(ops, dx + at, d->dropped + at, count);
}

void rt_lora_backward(const rt_net *net, int layer, int group, const rt_lora_rows *rows,
                      const float *dy, int dy_ld, const float *x, float *dx, float *grad)
{
    if (rows == NULL || rows->count == 0 || net->lora->list_count[group] == 0)
        return;
    const rt_net_lora *n = net->lora;
    rt_ops *ops = net->ops;
    int rank = n->lora.rank, count = n->list_count[group], k = group_inputs(net, group);
    int columns = count * rank;
    for (int s = 0; s < rows->count; s++) {
        const rt_span *span = &rows->spans[s];
        const rt_lora_pair *pair = pair_at(net, span->adapter, layer, group);
        const float *input = span_input(net, rows, span, layer, group, x, k);
        const float *from = dy + (size_t)span->first * (size_t)dy_ld;
        float *into = grad + (size_t)span->adapter * n->stride + (size_t)layer * n->layer_stride;
        ops->matmul(ops, rows->u, columns, input, k, pair->a_scaled, span->count, false);
        for (int i = 0; i < count; i++) {
            int t = n->list[group][i], out = rt_target_outputs(&net->arch, t);
            const float *of = from + rt_target_column(&net->arch, t);
            ops->matmul_dw(ops, into + n->at_b[t], of, dy_ld, rows->u + i * rank, columns,
                           span->count, out, rank);
            ops->matmul_dx(ops, rows->du + i * rank, columns, of, dy_ld, pair->b[i], span->count,
                           false);
            ops->matmul_dw(ops, into + n->at_a[t], rows->du + i * rank, columns, input, k,
                           span->count, rank, k);
        }
        if (dx != NULL)
            input_backward(net, rows, span, pair, columns, k, dx);
    }
}
