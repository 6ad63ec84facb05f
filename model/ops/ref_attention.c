/*
 * ref, second half: rotary positions, the paged K/V store, attention and its gradient.
 */
#include "model/ops/ref.h"

#include <math.h>
#include <string.h>

static void ref_rope(rt_ops *ops, float *x, int x_ld, int heads, const rt_rope *rope,
                     const rt_row *at, int rows, int sign)
{
    (void)ops;
    int half = rope->head_size / 2;
    for (int r = 0; r < rows; r++) {
        for (int h = 0; h < heads; h++) {
            float *head = x + (size_t)r * (size_t)x_ld + (size_t)h * 2 * (size_t)half;
            for (int i = 0; i < half; i++) {
                double angle = (double)at[r].position * rope->frequencies[i];
                double c = cos(angle), s = sign * sin(angle);
                double a = head[i], b = head[i + half];
                head[i] = (float)(a * c - b * s);
                head[i + half] = (float)(b * c + a * s);
            }
        }
    }
}

static float *slot_k(const rt_kv_view *kv, int head, const rt_row *at, int position)
{
    return kv_page(kv, head, at->page_table[position / RT_PAGE]) + position % RT_PAGE;
}

static float *slot_v(const rt_kv_view *kv, int head, const rt_row *at, int position)
{
    size_t s = (size_t)kv->head_size;
    return kv_page(kv, head, at->page_table[position / RT_PAGE]) + RT_PAGE * s +
           (size_t)(position % RT_PAGE) * s;
}

static void ref_kv_store(rt_ops *ops, const rt_kv_view *kv, const float *k, const float *v,
                         int ld, const rt_row *at, int rows)
{
    (void)ops;
    for (int r = 0; r < rows; r++) {
        for (int h = 0; h < kv->kv_heads; h++) {
            size_t from = (size_t)r * (size_t)ld + (size_t)h * (size_t)kv->head_size;
            float *to_k = slot_k(kv, h, &at[r], at[r].position);
            float *to_v = slot_v(kv, h, &at[r], at[r].position);
            for (int i = 0; i < kv->head_size; i++) {
                to_k[i * RT_PAGE] = k[from + (size_t)i];
                to_v[i] = v[from + (size_t)i];
            }
        }
    }
}

static void ref_kv_gather(rt_ops *ops, const rt_kv_view *dkv, float *dk, float *dv, int ld,
                          const rt_row *at, int rows)
{
    (void)ops;
    for (int r = 0; r < rows; r++) {
        for (int h = 0; h < dkv->kv_heads; h++) {
            size_t to = (size_t)r * (size_t)ld + (size_t)h * (size_t)dkv->head_size;
            const float *from_k = slot_k(dkv, h, &at[r], at[r].position);
            const float *from_v = slot_v(dkv, h, &at[r], at[r].position);
            for (int i = 0; i < dkv->head_size; i++) {
                dk[to + (size_t)i] = from_k[i * RT_PAGE];
                dv[to + (size_t)i] = from_v[i];
            }
        }
    }
}

static void ref_kv_copy(rt_ops *ops, const rt_kv_view *kv, int to, int from, int slots, int layers)
{
    (void)ops;
    size_t s = (size_t)kv->head_size;
    rt_kv_view view = *kv;
    for (view.layer = 0; view.layer < layers; view.layer++) {
        for (int h = 0; h < kv->kv_heads; h++) {
            float *a = kv_page(&view, h, to);
            const float *b = kv_page(&view, h, from);
            for (size_t i = 0; i < s; i++)
                memcpy(a + i * RT_PAGE, b + i * RT_PAGE, (size_t)slots * sizeof(float));
            memcpy(a + RT_PAGE * s, b + RT_PAGE * s, (size_t)slots * s * sizeof(float));
        }
    }
}

static void ref_kv_copy_backward(rt_ops *ops, const rt_kv_view *dkv, int to, int from, int slots)
{
    (void)ops;
    size_t s = (size_t)dkv->head_size;
    for (int h = 0; h < dkv->kv_heads; h++) {
        float *a = kv_page(dkv, h, to);
        const float *b = kv_page(dkv, h, from);
        for (size_t i = 0; i < s; i++)
            for (size_t j = 0; j < (size_t)slots; j++)
                a[i * RT_PAGE + j] += b[i * RT_PAGE + j];
        for (size_t i = 0; i < (size_t)slots * s; i++)
            a[RT_PAGE * s + i] += b[RT_PAGE * s + i];
    }
}

/* Scaled score of one query head against one position. */
static double score(const rt_kv_view *kv, int head, const rt_row *at, const float *q, int position)
{
    const float *k = slot_k(kv, head, at, position);
    double sum = 0;
    for (int i = 0; i < kv->head_size; i++)
        sum += (double)q[i] * k[i * RT_PAGE];
    return sum / sqrt(kv->head_size);
}

static void attend(float *out, float *stats, const float *q, const rt_kv_view *kv, int head,
                   const rt_row *at)
{
    double max = -INFINITY, sum = 0;
    for (int j = 0; j <= at->position; j++)
        max = fmax(max, score(kv, head, at, q, j));
    for (int j = 0; j <= at->position; j++)
        sum += exp(score(kv, head, at, q, j) - max);
    for (int i = 0; i < kv->head_size; i++) {
        double value = 0;
        for (int j = 0; j <= at->position; j++)
            value += exp(score(kv, head, at, q, j) - max) * slot_v(kv, head, at, j)[i];
        out[i] = (float)(value / sum);
    }
    if (stats) {
        stats[0] = (float)max;
        stats[1] = (float)sum;
    }
}

static void ref_attention(rt_ops *ops, float *out, int out_ld, float *stats, const float *q,
                          int q_ld, int heads, const rt_kv_view *kv, const rt_row *at, int rows)
{
    (void)ops;
    int group = heads / kv->kv_heads;
    for (int r = 0; r < rows; r++)
        for (int h = 0; h < heads; h++)
            attend(out + (size_t)r * (size_t)out_ld + (size_t)h * (size_t)kv->head_size,
                   stats ? stats + ((size_t)r * (size_t)heads + (size_t)h) * 2 : NULL,
                   q + (size_t)r * (size_t)q_ld + (size_t)h * (size_t)kv->head_size, kv,
                   h / group, &at[r]);
}

static void attend_backward(float *dq, const rt_kv_view *dkv, const float *dout, const float *out,
                            const float *stats, const float *q, const rt_kv_view *kv, int head,
                            const rt_row *at)
{
    int s = kv->head_size;
    double scale = 1 / sqrt(s), delta = 0;
    for (int i = 0; i < s; i++)
        delta += (double)dout[i] * out[i];
    for (int i = 0; i < s; i++)
        dq[i] = 0;
    double *sums = rt_alloc((size_t)s * sizeof(double));
    for (int j = 0; j <= at->position; j++) {
        double p = exp(score(kv, head, at, q, j) - stats[0]) / stats[1], dp = 0;
        const float *k = slot_k(kv, head, at, j), *v = slot_v(kv, head, at, j);
        float *dk = slot_k(dkv, head, at, j), *dv = slot_v(dkv, head, at, j);
        for (int i = 0; i < s; i++)
            dp += (double)dout[i] * v[i];
        double ds = p * (dp - delta) * scale;
        for (int i = 0; i < s; i++) {
            sums[i] += ds * k[i * RT_PAGE];
            dk[i * RT_PAGE] = (float)(dk[i * RT_PAGE] + ds * q[i]);
            dv[i] = (float)(dv[i] + p * dout[i]);
        }
    }
    for (int i = 0; i < s; i++)
        dq[i] = (float)sums[i];
    rt_free(sums);
}

static void ref_attention_backward(rt_ops *ops, float *dq, int dq_ld, const rt_kv_view *dkv,
                                   const float *dout, int dout_ld, const float *out, int out_ld,
                                   const float *stats, const float *q, int q_ld, int heads,
                                   const rt_kv_view *kv, const rt_row *at, int rows)
{
    (void)ops;
    int group = heads / kv->kv_heads;
    for (int r = 0; r < rows; r++) {
        for (int h = 0; h < heads; h++) {
            size_t column = (size_t)h * (size_t)kv->head_size;
            attend_backward(dq + (size_t)r * (size_t)dq_ld + column, dkv,
                            dout + (size_t)r * (size_t)dout_ld + column,
                            out + (size_t)r * (size_t)out_ld + column,
                            stats + ((size_t)r * (size_t)heads + (size_t)h) * 2,
                            q + (size_t)r * (size_t)q_ld + column, kv, h / group, &at[r]);
        }
    }
}

void rt_ref_fill_attention(rt_ops *ops)
{
    ops->rope = ref_rope;
    ops->kv_store = ref_kv_store;
    ops->kv_copy = ref_kv_copy;
    ops->attention = ref_attention;
    ops->attention_backward = ref_attention_backward;
    ops->kv_copy_backward = ref_kv_copy_backward;
    ops->kv_gather = ref_kv_gather;
}
