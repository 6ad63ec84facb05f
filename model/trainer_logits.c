/* Trainer: logits of the rows that have entries, in chunks, never all at once. */
#include <string.h>

#include "model/trainer_internal.h"

static void entries_room(rt_trainer *t, int count)
{
    if (count <= t->entries_capacity)
        return;
    rt_ops *ops = t->net->ops;
    size_t bytes = (size_t)RT_MAX(count, 2 * t->entries_capacity) * sizeof(float);
    if (t->entries_capacity > 0) {
        ops->free(ops, t->targets);
        ops->free(ops, t->weights);
        ops->free(ops, t->logprobs);
    }
    rt_free(t->targets_host);
    rt_free(t->weights_host);
    rt_free(t->logprobs_host);
    rt_free(t->entries.order);
    t->targets = ops->alloc(ops, bytes);
    t->weights = ops->alloc(ops, bytes);
    t->logprobs = ops->alloc(ops, bytes);
    t->targets_host = rt_alloc(bytes);
    t->weights_host = rt_alloc(bytes);
    t->logprobs_host = rt_alloc(bytes);
    t->entries.order = rt_alloc(bytes);
    t->entries_capacity = (int)(bytes / sizeof(float));
}

/* Counting sort by row, stable. */
void rt_entries_plan(rt_trainer *t, const rt_entry *entries, int count)
{
    entries_room(t, count);
    rt_entry_plan *plan = &t->entries;
    int32_t *starts = plan->first; /* first as per-row starts, then squeezed to used rows */
    memset(starts, 0, sizeof(int32_t) * ((size_t)t->rows + 1));
    for (int e = 0; e < count; e++) {
        RT_ASSERT(entries[e].row >= 0 && entries[e].row < t->rows);
        RT_ASSERT(entries[e].target >= 0 && entries[e].target < t->net->arch.vocab);
        starts[entries[e].row + 1]++;
    }
    for (int r = 0; r < t->rows; r++)
        starts[r + 1] += starts[r];
    for (int e = 0; e < count; e++)
        plan->order[starts[entries[e].row]++] = e;
    /* starts[r] is now the end of row r */
    int used = 0, begin = 0;
    for (int r = 0; r < t->rows; r++) {
        int end = starts[r];
        if (end > begin) {
            plan->used[used] = r;
            plan->first[used++] = begin;
        }
        begin = end;
    }
    plan->first[used] = count;
    plan->used_count = used;
    plan->count = count;
}

/* The chunk's rows of hidden side by side, whatever lies between, so that one product has them all: how many
 * rows are in it changes no bit. Returns whether their logits were still there. */
static bool chunk_logits(rt_trainer *t, const int32_t *used, int count)
{
    rt_ops *ops = t->net->ops;
    int v = t->net->arch.vocab, d = t->net->arch.d;
    ops->upload(ops, t->used, used, sizeof(int32_t) * (size_t)count);
    ops->gather(ops, t->gathered, t->hidden, t->used, count, d);
    if (t->logits_used_count == count &&
        memcmp(t->logits_used, used, sizeof(int32_t) * (size_t)count) == 0)
        return true;
    ops->matmul(ops, t->logits, v, t->gathered, d, rt_net_head(t->net), count, false);
    memcpy(t->logits_used, used, sizeof(int32_t) * (size_t)count);
    t->logits_used_count = count;
    return false;
}

static void targets_upload(rt_trainer *t, const rt_entry *entries)
{
    const rt_entry_plan *plan = &t->entries;
    for (int i = 0; i < plan->count; i++)
        t->targets_host[i] = entries[plan->order[i]].target;
    t->net->ops->upload(t->net->ops, t->targets, t->targets_host,
                        sizeof(int32_t) * (size_t)plan->count);
}

/* The first entry of every row goes in one call; rows with more entries (a shared prompt's last
 * row) take one call an extra entry, which gives the same bits. */
static void chunk_logprobs(rt_trainer *t, int from, int count, float temperature)
{
    rt_ops *ops = t->net->ops;
    const rt_entry_plan *plan = &t->entries;
    int v = t->net->arch.vocab;
    int32_t *targets = t->firsts; /* (count) fits: firsts has chunk_rows + 1 */
    for (int i = 0; i < count; i++)
        t->firsts_host[i] = t->targets_host[plan->first[from + i]];
    ops->upload(ops, targets, t->firsts_host, sizeof(int32_t) * (size_t)count);
    ops->logprob(ops, t->weights, t->lse + from, t->logits, targets, count, v, temperature);
    ops->download(ops, t->weights_host, t->weights, sizeof(float) * (size_t)count);
    for (int i = 0; i < count; i++) {
        int first = plan->first[from + i], end = plan->first[from + i + 1];
        t->logprobs_host[first] = t->weights_host[i];
        for (int e = first + 1; e < end; e++) {
            ops->logprob(ops, t->logprobs, t->lse + from + i,
                         t->logits + (size_t)i * (size_t)v, t->targets + e, 1, v, temperature);
            ops->download(ops, &t->logprobs_host[e], t->logprobs, sizeof(float));
        }
    }
}

void rt_trainer_logprobs(rt_trainer *t, const rt_entry *entries, float temperature, float *logprob)
{
    const rt_entry_plan *plan = &t->entries;
    targets_upload(t, entries);
    t->logits_used_count = 0;
    for (int from = 0; from < plan->used_count; from += t->chunk_rows) {
        int count = RT_MIN(t->chunk_rows, plan->used_count - from);
        chunk_logits(t, plan->used + from, count);
        chunk_logprobs(t, from, count, temperature);
        t->lse_from = from;
    }
    t->lse_temperature = temperature;
    for (int i = 0; i < plan->count; i++)
        logprob[plan->order[i]] = t->logprobs_host[i];
}

static void chunk_sums(rt_trainer *t, int from, int count, float temperature)
{
    rt_ops *ops = t->net->ops;
    for (int i = 0; i < count; i++)
        t->firsts_host[i] = -1;
    ops->upload(ops, t->firsts, t->firsts_host, sizeof(int32_t) * (size_t)count);
    ops->logprob(ops, t->logprobs, t->lse + from, t->logits, t->firsts, count,
                 t->net->arch.vocab, temperature);
}

void rt_trainer_logits_backward(rt_trainer *t, const rt_entry *entries, const float *g,
                                float temperature, float *grad)
{
    rt_ops *ops = t->net->ops;
    const rt_entry_plan *plan = &t->entries;
    int v = t->net->arch.vocab, d = t->net->arch.d;
    targets_upload(t, entries);
    for (int i = 0; i < plan->count; i++)
        t->weights_host[i] = g[plan->order[i]];
    ops->upload(ops, t->weights, t->weights_host, sizeof(float) * (size_t)plan->count);
    ops->zero(ops, t->dh, (size_t)t->rows * (size_t)d * sizeof(float));
    for (int from = 0; from < plan->used_count; from += t->chunk_rows) {
        int count = RT_MIN(t->chunk_rows, plan->used_count - from), base = plan->first[from];
        const int32_t *used = plan->used + from;
        bool there = chunk_logits(t, used, count);
        t->logits_used_count = 0; /* about to become their own gradient */
        /* entries may differ from the forward's: the sums are of these rows at this temperature */
        if (!there || t->lse_from != from || t->lse_temperature != temperature)
            chunk_sums(t, from, count, temperature);
        for (int i = 0; i <= count; i++)
            t->firsts_host[i] = plan->first[from + i] - base;
        ops->upload(ops, t->firsts, t->firsts_host, sizeof(int32_t) * ((size_t)count + 1));
        ops->logprob_backward(ops, t->logits, t->lse + from, t->firsts, t->targets + base,
                              t->weights + base, count, v, temperature);
        if (t->net->lora == NULL)
            ops->matmul_dw(ops, grad + t->net->head_at, t->logits, v, t->gathered, d, count, v, d);
        ops->matmul_dx(ops, t->gathered, d, t->logits, v, rt_net_head(t->net), count, false);
        ops->scatter(ops, t->dh, t->gathered, t->used, count, d);
    }
}
