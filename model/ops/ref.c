/*
 * ref: every operation as plain loops with double accumulation. This file says what the operations
 * mean; other backends are tested against it. Attention is in ref_attention.c.
 */
#include "model/ops/ref.h"

#include <math.h>
#include <string.h>

static rt_packed *ref_pack(rt_ops *ops, rt_packed *into, const void *w, int dtype, int rows0,
                           int n, int n_total, int k)
{
    (void)ops;
    RT_ASSERT(dtype == RT_F32 || dtype == RT_BF16);
    RT_ASSERT(rows0 >= 0 && n >= 0 && rows0 + n <= n_total && k > 0);
    if (!into) {
        into = rt_alloc(sizeof *into);
        into->n = n_total;
        into->k = k;
        into->dtype = dtype;
        into->bytes = (size_t)n_total * (size_t)k * sizeof(float);
        into->data = rt_alloc(into->bytes);
    }
    RT_ASSERT(into->n == n_total && into->k == k && into->dtype == dtype);
    float *to = (float *)into->data + (size_t)rows0 * (size_t)k;
    size_t count = (size_t)n * (size_t)k;
    if (dtype == RT_F32) {
        memcpy(to, w, count * sizeof(float));
    } else {
        const uint16_t *words = w;
        for (size_t i = 0; i < count; i++)
            to[i] = rt_from_bf16(words[i]);
    }
    return into;
}

static void ref_packed_free(rt_ops *ops, rt_packed *w)
{
    (void)ops;
    if (!w)
        return;
    rt_free(w->data);
    rt_free(w);
}

static size_t ref_packed_bytes(const rt_packed *w)
{
    return w->bytes;
}

static void ref_matmul(rt_ops *ops, float *y, int y_ld, const float *x, int x_ld,
                       const rt_packed *w, int rows, bool accumulate)
{
    (void)ops;
    const float *weights = w->data; // (N, K)
    for (int r = 0; r < rows; r++) {
        const float *from = x + (size_t)r * (size_t)x_ld;
        float *to = y + (size_t)r * (size_t)y_ld;
        for (int n = 0; n < w->n; n++) {
            double sum = accumulate ? to[n] : 0;
            for (int k = 0; k < w->k; k++)
                sum += (double)from[k] * weights[(size_t)n * (size_t)w->k + (size_t)k];
            to[n] = (float)sum;
        }
    }
}

static void ref_matmul_dx(rt_ops *ops, float *dx, int dx_ld, const float *dy, int dy_ld,
                          const rt_packed *w, int rows, bool accumulate)
{
    (void)ops;
    const float *weights = w->data; // (N, K)
    for (int r = 0; r < rows; r++) {
        const float *from = dy + (size_t)r * (size_t)dy_ld;
        float *to = dx + (size_t)r * (size_t)dx_ld;
        for (int k = 0; k < w->k; k++) {
            double sum = accumulate ? to[k] : 0;
            for (int n = 0; n < w->n; n++)
                sum += (double)from[n] * weights[(size_t)n * (size_t)w->k + (size_t)k];
            to[k] = (float)sum;
        }
    }
}

static void ref_matmul_dw(rt_ops *ops, float *dw, const float *dy, int dy_ld, const float *x,
                          int x_ld, int rows, int n, int k)
{
    (void)ops;
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < k; j++) {
            double sum = dw[(size_t)i * (size_t)k + (size_t)j];
            for (int r = 0; r < rows; r++)
                sum += (double)dy[(size_t)r * (size_t)dy_ld + (size_t)i] *
                       x[(size_t)r * (size_t)x_ld + (size_t)j];
            dw[(size_t)i * (size_t)k + (size_t)j] = (float)sum;
        }
    }
}

static void ref_embed(rt_ops *ops, float *y, const int32_t *ids, const rt_packed *table, int rows)
{
    (void)ops;
    const float *from = table->data; // (V, D)
    size_t d = (size_t)table->k;
    for (int r = 0; r < rows; r++) {
        RT_ASSERT(ids[r] >= 0 && ids[r] < table->n);
        memcpy(y + (size_t)r * d, from + (size_t)ids[r] * d, d * sizeof(float));
    }
}

static void ref_embed_backward(rt_ops *ops, float *dtable, const int32_t *ids, const float *dy,
                               int rows, int d)
{
    (void)ops;
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < d; i++)
            dtable[(size_t)ids[r] * (size_t)d + (size_t)i] += dy[(size_t)r * (size_t)d + (size_t)i];
}

static void ref_gather(rt_ops *ops, float *y, const float *x, const int32_t *index, int rows, int d)
{
    (void)ops;
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < d; i++)
            y[(size_t)r * (size_t)d + (size_t)i] = x[(size_t)index[r] * (size_t)d + (size_t)i];
}

static void ref_scatter(rt_ops *ops, float *y, const float *x, const int32_t *index, int rows, int d)
{
    (void)ops;
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < d; i++)
            y[(size_t)index[r] * (size_t)d + (size_t)i] = x[(size_t)r * (size_t)d + (size_t)i];
}

static void ref_rmsnorm(rt_ops *ops, float *y, float *rstd, const float *x, const float *w,
                        int rows, int d, float eps)
{
    (void)ops;
    for (int r = 0; r < rows; r++) {
        const float *from = x + (size_t)r * (size_t)d;
        float *to = y + (size_t)r * (size_t)d;
        double sum = 0;
        for (int i = 0; i < d; i++)
            sum += (double)from[i] * from[i];
        double scale = 1 / sqrt(sum / d + eps);
        for (int i = 0; i < d; i++)
            to[i] = (float)(from[i] * scale * (w ? w[i] : 1));
        if (rstd)
            rstd[r] = (float)scale;
    }
}

static void ref_rmsnorm_backward(rt_ops *ops, float *dx, float *dw, const float *dy,
                                 const float *x, const float *rstd, const float *w, int rows,
                                 int d)
{
    (void)ops;
    for (int r = 0; r < rows; r++) {
        const float *from = x + (size_t)r * (size_t)d;
        const float *grad = dy + (size_t)r * (size_t)d;
        float *to = dx + (size_t)r * (size_t)d;
        double scale = rstd[r], dot = 0;
        for (int i = 0; i < d; i++)
            dot += (double)grad[i] * (w ? w[i] : 1) * from[i];
        double pull = dot * scale * scale * scale / d;
        for (int i = 0; i < d; i++)
            to[i] = (float)(to[i] + (double)grad[i] * (w ? w[i] : 1) * scale - from[i] * pull);
    }
    for (int i = 0; dw && i < d; i++) {
        double sum = dw[i];
        for (int r = 0; r < rows; r++)
            sum += (double)dy[(size_t)r * (size_t)d + (size_t)i] *
                   x[(size_t)r * (size_t)d + (size_t)i] * rstd[r];
        dw[i] = (float)sum;
    }
}

static void ref_swiglu(rt_ops *ops, float *y, const float *gate_up, int rows, int f)
{
    (void)ops;
    for (int r = 0; r < rows; r++) {
        const float *gate = gate_up + (size_t)r * 2 * (size_t)f, *up = gate + f;
        for (int i = 0; i < f; i++)
            y[(size_t)r * (size_t)f + (size_t)i] =
                (float)(gate[i] / (1 + exp(-(double)gate[i])) * up[i]);
    }
}

static void ref_swiglu_backward(rt_ops *ops, float *dgate_up, float *y, const float *dy,
                                const float *gate_up, int rows, int f)
{
    (void)ops;
    for (int r = 0; r < rows; r++) {
        const float *gate = gate_up + (size_t)r * 2 * (size_t)f, *up = gate + f;
        float *dgate = dgate_up + (size_t)r * 2 * (size_t)f, *dup = dgate + f;
        for (int i = 0; i < f; i++) {
            double g = gate[i], u = up[i], sigmoid = 1 / (1 + exp(-g));
            double grad = dy[(size_t)r * (size_t)f + (size_t)i];
            if (y)
                y[(size_t)r * (size_t)f + (size_t)i] = (float)(g * sigmoid * u);
            dgate[i] = (float)(grad * u * sigmoid * (1 + g * (1 - sigmoid)));
            dup[i] = (float)(grad * g * sigmoid);
        }
    }
}

static void ref_add(rt_ops *ops, float *y, const float *x, size_t count)
{
    (void)ops;
    for (size_t i = 0; i < count; i++)
        y[i] += x[i];
}

static void ref_multiply(rt_ops *ops, float *y, const float *x, const float *m, size_t count)
{
    (void)ops;
    for (size_t i = 0; i < count; i++)
        y[i] = x[i] * m[i];
}

static void ref_logprob(rt_ops *ops, float *logprob, float *lse, const float *logits,
                        const int32_t *target, int rows, int v, float temperature)
{
    (void)ops;
    for (int r = 0; r < rows; r++) {
        const float *row = logits + (size_t)r * (size_t)v;
        double max = -INFINITY, sum = 0;
        for (int i = 0; i < v; i++)
            max = RT_MAX(max, (double)row[i] / temperature);
        for (int i = 0; i < v; i++)
            sum += exp((double)row[i] / temperature - max);
        double log_sum = max + log(sum);
        if (lse)
            lse[r] = (float)log_sum;
        if (target && target[r] >= 0)
            logprob[r] = (float)((double)row[target[r]] / temperature - log_sum);
    }
}

static void ref_logprob_backward(rt_ops *ops, float *logits, const float *lse,
                                 const int32_t *first, const int32_t *target, const float *g,
                                 int rows, int v, float temperature)
{
    (void)ops;
    for (int r = 0; r < rows; r++) {
        float *row = logits + (size_t)r * (size_t)v;
        double total = 0;
        for (int e = first[r]; e < first[r + 1]; e++)
            total += g[e];
        for (int i = 0; i < v; i++) {
            double grad = -total * exp((double)row[i] / temperature - lse[r]);
            for (int e = first[r]; e < first[r + 1]; e++)
                grad += target[e] == i ? g[e] : 0;
            row[i] = (float)(grad / temperature);
        }
    }
}

static void ref_axpy(rt_ops *ops, float *y, float a, const float *x, size_t count)
{
    (void)ops;
    for (size_t i = 0; i < count; i++)
        y[i] = fmaf(a, x[i], y[i]);
}

static double ref_dot(rt_ops *ops, const float *a, const float *b, size_t count)
{
    (void)ops;
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static void ref_gram(rt_ops *ops, double *gram, const float *const *vectors, int count, size_t elements)
{
    for (int i = 0; i < count; i++)
        for (int j = 0; j < count; j++)
            gram[i * count + j] = ref_dot(ops, vectors[i], vectors[j], elements);
}

static double ref_change(rt_ops *ops, float *sum, bool fresh, float *seen, const float *now,
                         const float *more, size_t count)
{
    (void)ops;
    double squares = 0;
    for (size_t i = 0; i < count; i++) {
        float value = more ? now[i] + more[i] : now[i], change = value - seen[i];
        sum[i] = fresh ? change : sum[i] + change;
        seen[i] = value;
        squares += (double)change * (double)change;
    }
    return squares;
}

static void ref_adamw(rt_ops *ops, float *w, float *m, float *v, const float *g, size_t count,
                      float grad_scale, float lr, float beta1, float beta2, float eps,
                      float weight_decay, float correction1, float correction2)
{
    (void)ops;
    for (size_t i = 0; i < count; i++) {
        double grad = (double)g[i] * grad_scale;
        double m1 = (double)beta1 * m[i] + (1 - (double)beta1) * grad;
        double v1 = (double)beta2 * v[i] + (1 - (double)beta2) * grad * grad;
        m[i] = (float)m1;
        v[i] = (float)v1;
        double step = m1 / correction1 / (sqrt(v1 / correction2) + eps);
        w[i] = (float)(w[i] - (double)lr * (step + (double)weight_decay * w[i]));
    }
}

void rt_ref_fill(rt_ops *ops)
{
    ops->name = "ref";
    ops->isa = "double";
    ops->pack = ref_pack;
    ops->packed_free = ref_packed_free;
    ops->packed_bytes = ref_packed_bytes;
    ops->matmul = ref_matmul;
    ops->matmul_dx = ref_matmul_dx;
    ops->matmul_dw = ref_matmul_dw;
    ops->embed = ref_embed;
    ops->embed_backward = ref_embed_backward;
    ops->gather = ref_gather;
    ops->scatter = ref_scatter;
    ops->rmsnorm = ref_rmsnorm;
    ops->rmsnorm_backward = ref_rmsnorm_backward;
    ops->swiglu = ref_swiglu;
    ops->swiglu_backward = ref_swiglu_backward;
    ops->add = ref_add;
    ops->multiply = ref_multiply;
    ops->logprob = ref_logprob;
    ops->logprob_backward = ref_logprob_backward;
    ops->axpy = ref_axpy;
    ops->dot = ref_dot;
    ops->gram = ref_gram;
    ops->change = ref_change;
    ops->adamw = ref_adamw;
    rt_ref_fill_attention(ops);
}
