/* Engine: what one sampled token does to its completion: text, stop strings, thoughts, ends. */
#include <string.h>

#include "model/engine_internal.h"

bool rt_engine_thinks(const rt_request *r)
{
    return r->sampling.delimiter != NULL;
}

static void ids_add(rt_slot *slot, int32_t id, float logprob)
{
    rt_completion *c = &slot->c;
    if (c->ids_count == slot->ids_capacity) {
        size_t old = (size_t)slot->ids_capacity * 4, now = RT_MAX(2 * old, 64 * 4);
        c->ids = rt_realloc(c->ids, old, now);
        c->logprobs = rt_realloc(c->logprobs, old, now);
        slot->ids_capacity = (int)(now / 4);
    }
    c->ids[c->ids_count] = id;
    c->logprobs[c->ids_count++] = logprob;
}

static void thought_add(rt_slot *slot)
{
    rt_completion *c = &slot->c;
    if (c->thoughts_count == slot->thoughts_capacity) {
        size_t old = (size_t)slot->thoughts_capacity * 4, now = RT_MAX(2 * old, 16 * 4);
        c->thought_ends = rt_realloc(c->thought_ends, old, now);
        slot->thoughts_capacity = (int)(now / 4);
    }
    c->thought_ends[c->thoughts_count++] = c->ids_count;
}

static bool found(const rt_buf *text, size_t from, const char *what)
{
    return from < text->bytes &&
           memmem(text->data + from, text->bytes - from, what, strlen(what)) != NULL;
}

/* Where a match of `bytes` bytes that ends in the newest token can begin. */
static size_t search_from(size_t before, size_t bytes)
{
    return before > bytes - 1 ? before - (bytes - 1) : 0;
}

/* Closes the open thought when the newest token completes its delimiter or fills it. */
static int thought_check(rt_slot *slot, size_t before)
{
    const rt_sampling *s = &slot->request->sampling;
    size_t from = RT_MAX(search_from(before, strlen(s->delimiter)), slot->boundary);
    bool full = s->thought_tokens_max > 0 &&
                slot->c.ids_count - slot->thought_start >= s->thought_tokens_max;
    if (!full && !found(&slot->text, from, s->delimiter))
        return -1;
    bool terminal = s->terminal != NULL && found(&slot->text, slot->boundary, s->terminal);
    thought_add(slot);
    slot->thoughts++;
    slot->boundary = slot->text.bytes;
    slot->thought_start = slot->c.ids_count;
    if (terminal)
        return RT_END_TERMINAL;
    return s->thoughts_max > 0 && slot->thoughts >= s->thoughts_max ? RT_END_THOUGHTS : -1;
}

static bool is_eos(const rt_arch *arch, int32_t id)
{
    for (int i = 0; i < arch->eos_count; i++)
        if (arch->eos[i] == id)
            return true;
    return false;
}

int rt_slot_push(rt_engine *e, rt_slot *slot, int32_t id, float logprob)
{
    const rt_request *r = slot->request;
    const rt_sampling *s = &r->sampling;
    ids_add(slot, id, logprob);
    slot->feed[0] = id;
    e->stats.tokens_decode++;
    if (!s->ignore_eos && is_eos(&e->net->arch, id))
        return RT_END_EOS;
    if (s->stops_count > 0 || rt_engine_thinks(r)) {
        size_t before = slot->text.bytes;
        rt_tokenizer_decode(e->tokenizer, &id, 1, &slot->text);
        int end = rt_engine_thinks(r) ? thought_check(slot, before) : -1;
        if (end >= 0)
            return end;
        for (int i = 0; i < s->stops_count; i++)
            if (found(&slot->text, search_from(before, strlen(s->stops[i])), s->stops[i]))
                return RT_END_STOP;
    }
    if (slot->c.ids_count < r->max_new)
        return -1;
    return r->max_new < s->max_tokens ? RT_END_CONTEXT : RT_END_LENGTH;
}

void rt_slot_finish(rt_engine *e, rt_slot *slot, int end)
{
    rt_request *r = slot->request;
    slot->c.end = end;
    rt_slot_hold(e, slot);
    rt_engine_done(e, &slot->c);
    memset(&slot->c, 0, sizeof(slot->c));
    if (slot->node >= 0)
        rt_forest_release(e->forest, slot->node);
    slot->request = NULL;
    e->slots_free[e->slots_free_count++] = (int)(slot - e->slots);
    e->active--;
    if (--r->running == 0 && r->started == r->count)
        rt_request_free(e, r);
}
