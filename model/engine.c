/* Engine: the object, requests in, completions out. */
#include <math.h>
#include <string.h>

#include "model/engine_internal.h"

const char *rt_end_name(int end)
{
    static const char *const names[] = {"eos", "stop", "length", "terminal", "thoughts", "context"};
    RT_ASSERT(end >= 0 && end < (int)RT_COUNT(names));
    return names[end];
}

static void step_alloc(rt_engine *e)
{
    rt_ops *ops = e->net->ops;
    size_t rows = (size_t)e->slots_count * (1 + RT_LOOKAHEAD_MAX) + RT_PREFILL_TOKENS;
    size_t v = (size_t)e->net->arch.vocab;
    e->runs = rt_alloc(rows * sizeof(rt_run));
    e->row_slot = rt_alloc(rows * sizeof(int));
    e->row_guess = rt_alloc(rows * sizeof(int));
    e->row_request = rt_alloc(rows * sizeof(rt_request *));
    e->logits_rows = RT_MAX(e->slots_count, 1 + RT_LOOKAHEAD_MAX);
    size_t n = (size_t)e->logits_rows;
    e->targets_host = rt_alloc(n * sizeof(int32_t));
    e->logprobs_host = rt_alloc(n * sizeof(float));
    e->logits_host = rt_alloc(n * v * sizeof(float));
    e->logits = rt_net_floats(ops, n * v);
    e->logprobs = rt_net_floats(ops, n);
    e->lse = rt_net_floats(ops, n);
    e->targets = ops->alloc(ops, n * sizeof(int32_t));
}

/* What a pool of default size, meant for the worst case, may hold for later; the rest of it is
 * memory that is never touched where sequences are short. */
#define RT_IDLE_BYTES (INT64_C(128) << 20)

static int pages_in(const rt_arch *a, int64_t bytes)
{
    int64_t page = (int64_t)a->layers * a->kv_heads * a->head_size * 2 * RT_PAGE * 4;
    return (int)RT_MIN(bytes / page, (int64_t)INT32_MAX);
}

int rt_engine_new(rt_engine **engine, rt_net *net, const rt_tokenizer *tokenizer, int slots,
                  int64_t cache_tokens, rt_error *err)
{
    if (slots < 1 || slots > 1 << 16)
        return rt_fail(err, RT_ERR_USAGE, "an engine has 1 to 65536 slots, not %d; set "
                       "actors.slots", slots);
    rt_engine *e = rt_alloc(sizeof(*e));
    e->net = net;
    e->tokenizer = tokenizer;
    /* a completion that begins inside a page holds a copy of it, hence one page more */
    bool sized = cache_tokens > 0;
    if (!sized)
        cache_tokens = (int64_t)slots * (net->arch.context + RT_PAGE);
    int rc = rt_forest_new(&e->forest, net, cache_tokens, err);
    if (rc < 0) {
        rt_free(e);
        return rc;
    }
    rt_prefix_init(&e->index, e->forest);
    e->cached = true;
    e->idle_max = sized ? e->forest->kv.pages : pages_in(&net->arch, RT_IDLE_BYTES);
    e->match_table = rt_alloc(sizeof(int32_t) * (size_t)(net->arch.context / RT_PAGE + 1));
    e->slots_count = slots;
    e->slots = rt_alloc((size_t)slots * sizeof(rt_slot));
    e->slots_free = rt_alloc((size_t)slots * sizeof(int));
    for (int i = slots - 1; i >= 0; i--)
        e->slots_free[e->slots_free_count++] = i;
    e->tail = &e->head;
    rt_sampler_init(&e->sampler, net->arch.vocab);
    step_alloc(e);
    *engine = e;
    return RT_OK;
}

void rt_engine_free(rt_engine **engine)
{
    rt_engine *e = *engine;
    if (e == NULL)
        return;
    rt_ops *ops = e->net->ops;
    rt_completion c;
    while (e->head != NULL)
        rt_engine_cancel(e, e->head->id);
    for (int i = 0; i < e->slots_count; i++) {
        if (e->slots[i].request != NULL)
            rt_engine_cancel(e, e->slots[i].request->id);
        rt_buf_free(&e->slots[i].text);
    }
    while (rt_engine_collect(e, &c))
        rt_completion_free(&c);
    float *backend[] = {e->logits, e->logprobs, e->lse};
    for (size_t i = 0; i < RT_COUNT(backend); i++)
        ops->free(ops, backend[i]);
    ops->free(ops, e->targets);
    void *host[] = {e->slots, e->slots_free, e->done, e->runs, e->row_slot,
                    e->row_guess, e->match_table, e->row_request, e->targets_host, e->logprobs_host,
                    e->logits_host};
    for (size_t i = 0; i < RT_COUNT(host); i++)
        rt_free(host[i]);
    rt_sampler_drop(&e->sampler);
    rt_prefix_drop(&e->index);
    rt_forest_free(&e->forest);
    rt_free(e);
    *engine = NULL;
}

/* ---- requests ---- */

static int sampling_check(const rt_engine *e, const rt_sampling *s, rt_error *err)
{
    if (!(s->temperature >= 0) || isinf(s->temperature))
        return rt_fail(err, RT_ERR_USAGE, "the sampling temperature must be 0 or above, not %g",
                       s->temperature);
    if (!(s->top_p > 0 && s->top_p <= 1) || s->top_k < 0)
        return rt_fail(err, RT_ERR_USAGE, "top_p must be in (0, 1] and top_k 0 or above, not %g "
                       "and %d", s->top_p, s->top_k);
    if (s->max_tokens < 1)
        return rt_fail(err, RT_ERR_USAGE, "max_tokens must be 1 or above, not %d", s->max_tokens);
    if ((s->stops_count > 0 || s->delimiter != NULL) && e->tokenizer == NULL)
        return rt_fail(err, RT_ERR_USAGE, "stop strings and thoughts need a tokenizer");
    return RT_OK;
}

static int request_check(const rt_engine *e, const int32_t *prefix, int prefix_count, int count,
                         rt_error *err)
{
    const rt_arch *a = &e->net->arch;
    if (count < 1 || prefix_count < 1)
        return rt_fail(err, RT_ERR_USAGE, "a request needs a prefix and at least one completion");
    if (prefix_count > a->context)
        return rt_fail(err, RT_ERR_LIMIT, "the prefix has %d tokens and the model's context is %d; "
                       "shorten the prompt", prefix_count, a->context);
    for (int i = 0; i < prefix_count; i++)
        if (prefix[i] < 0 || prefix[i] >= a->vocab)
            return rt_fail(err, RT_ERR_INPUT, "token id %d of the prefix is outside the model's "
                           "vocabulary of %d", prefix[i], a->vocab);
    return RT_OK;
}

static void sampling_copy(rt_sampling *to, const rt_sampling *from)
{
    *to = *from;
    char **stops = rt_alloc(sizeof(char *) * (size_t)RT_MAX(from->stops_count, 1));
    int count = 0;
    for (int i = 0; i < from->stops_count; i++)
        if (from->stops[i] != NULL && from->stops[i][0] != '\0')
            stops[count++] = rt_strdup(from->stops[i]);
    to->stops = (const char *const *)stops;
    to->stops_count = count;
    bool thinks = from->delimiter != NULL && from->delimiter[0] != '\0';
    bool ends = from->terminal != NULL && from->terminal[0] != '\0';
    to->delimiter = thinks ? rt_strdup(from->delimiter) : NULL;
    to->terminal = ends ? rt_strdup(from->terminal) : NULL;
}

void rt_request_free(rt_engine *e, rt_request *r)
{
    if (r->node >= 0)
        rt_forest_release(e->forest, r->node);
    for (int i = 0; i < r->sampling.stops_count; i++)
        rt_free((void *)(uintptr_t)r->sampling.stops[i]);
    rt_free((void *)(uintptr_t)r->sampling.stops);
    rt_free((void *)(uintptr_t)r->sampling.delimiter);
    rt_free((void *)(uintptr_t)r->sampling.terminal);
    rt_free(r->prefix);
    rt_free(r->trajectories);
    rt_free(r->first_ids);
    rt_free(r->first_logprobs);
    rt_free(r);
}

static void *copy(const void *from, size_t bytes)
{
    void *to = rt_alloc(bytes);
    memcpy(to, from, bytes);
    return to;
}

/* Completions with nothing to generate end at once, with no tokens. */
static void empty_completions(rt_engine *e, uint64_t request, const uint64_t *trajectories,
                              int count, int end)
{
    for (int i = 0; i < count; i++) {
        rt_completion c = {.request = request, .trajectory = trajectories[i], .end = end};
        rt_engine_done(e, &c);
    }
}

static void request_add(rt_engine *e, rt_request *r)
{
    rt_request **place = e->tail;
    if (e->by_trajectory)
        for (place = &e->head; *place != NULL; place = &(*place)->next)
            if ((*place)->node < 0 && (*place)->trajectories[0] > r->trajectories[0])
                break;
    r->next = *place;
    *place = r;
    if (r->next == NULL)
        e->tail = &r->next;
    e->stats.waiting += r->count;
}

void rt_engine_order_by_trajectory(rt_engine *e)
{
    e->by_trajectory = true;
}

int rt_engine_submit(rt_engine *e, uint64_t request, const int32_t *prefix, int prefix_count,
                     const uint64_t *trajectories, int count, int thoughts_before, int adapter,
                     const rt_sampling *sampling, rt_error *err)
{
    int rc = request_check(e, prefix, prefix_count, count, err);
    if (rc == RT_OK)
        rc = sampling_check(e, sampling, err);
    if (rc == RT_OK && (adapter < -1 || adapter >= rt_net_adapters(e->net)))
        rc = rt_fail(err, RT_ERR_USAGE, "adapter %d is asked for and the model has %d", adapter,
                     rt_net_adapters(e->net));
    if (rc < 0)
        return rc;
    bool thinks = sampling->delimiter != NULL && sampling->delimiter[0] != '\0';
    int max_new = RT_MIN(sampling->max_tokens, e->net->arch.context - prefix_count);
    /* the last token is sampled but never computed */
    int prompt_pages = (prefix_count + RT_PAGE - 1) / RT_PAGE;
    int own_pages = (prefix_count + RT_MAX(max_new, 1) - 1 + RT_PAGE - 1) / RT_PAGE -
                    prefix_count / RT_PAGE;
    if (prompt_pages + own_pages > e->forest->kv.pages)
        return rt_fail(err, RT_ERR_LIMIT, "a prefix of %d tokens with max_tokens %d needs %d "
                       "pages of cache and there are %d; raise cache_tokens", prefix_count,
                       sampling->max_tokens, prompt_pages + own_pages, e->forest->kv.pages);
    if (max_new < 1) {
        empty_completions(e, request, trajectories, count, RT_END_CONTEXT);
        return RT_OK;
    }
    if (thinks && sampling->thoughts_max > 0 && thoughts_before >= sampling->thoughts_max) {
        empty_completions(e, request, trajectories, count, RT_END_THOUGHTS);
        return RT_OK;
    }
    rt_request *r = rt_alloc(sizeof(*r));
    r->id = request;
    r->prefix = copy(prefix, sizeof(int32_t) * (size_t)prefix_count);
    r->prefix_count = prefix_count;
    r->trajectories = copy(trajectories, sizeof(uint64_t) * (size_t)count);
    r->count = count;
    r->thoughts_before = thoughts_before;
    sampling_copy(&r->sampling, sampling);
    r->temperature = sampling->temperature > 0 ? (float)sampling->temperature : 1.0f;
    r->max_new = max_new;
    r->prompt_pages = prompt_pages;
    r->own_pages = own_pages;
    r->adapter = adapter;
    r->node = -1;
    r->entry = rt_prefix_begin(adapter);
    request_add(e, r);
    return RT_OK;
}

/* ---- completions ---- */

void rt_engine_done(rt_engine *e, const rt_completion *completion)
{
    if (e->done_count == e->done_capacity) {
        int capacity = RT_MAX(2 * e->done_capacity, 64);
        rt_completion *ring = rt_alloc(sizeof(rt_completion) * (size_t)capacity);
        for (int i = 0; i < e->done_count; i++)
            ring[i] = e->done[(e->done_first + i) % e->done_capacity];
        rt_free(e->done);
        e->done = ring;
        e->done_first = 0;
        e->done_capacity = capacity;
    }
    e->done[(e->done_first + e->done_count++) % e->done_capacity] = *completion;
}

bool rt_engine_collect(rt_engine *e, rt_completion *completion)
{
    if (e->done_count == 0)
        return false;
    *completion = e->done[e->done_first];
    e->done_first = (e->done_first + 1) % e->done_capacity;
    e->done_count--;
    return true;
}

void rt_completion_free(rt_completion *c)
{
    rt_free(c->ids);
    rt_free(c->logprobs);
    rt_free(c->thought_ends);
    memset(c, 0, sizeof(*c));
}

static void slot_cancel(rt_engine *e, rt_slot *slot)
{
    rt_slot_hold(e, slot);
    if (slot->node >= 0)
        rt_forest_release(e->forest, slot->node);
    rt_completion_free(&slot->c);
    slot->request = NULL;
    e->slots_free[e->slots_free_count++] = (int)(slot - e->slots);
    e->active--;
}

/* Everything of the request goes: waiting, running and finished but not collected. */
void rt_engine_cancel(rt_engine *e, uint64_t request)
{
    for (int i = 0; i < e->slots_count; i++) {
        rt_request *r = e->slots[i].request;
        if (r == NULL || r->id != request)
            continue;
        slot_cancel(e, &e->slots[i]);
        if (--r->running == 0 && r->started == r->count)
            rt_request_free(e, r);
    }
    for (rt_request **link = &e->head; *link != NULL;) {
        rt_request *r = *link;
        if (r->id != request) {
            link = &r->next;
            continue;
        }
        *link = r->next;
        e->stats.waiting -= r->count - r->started;
        rt_request_free(e, r);
    }
    for (e->tail = &e->head; *e->tail != NULL;)
        e->tail = &(*e->tail)->next;
    for (int i = e->done_count; i > 0; i--) {
        rt_completion c;
        rt_engine_collect(e, &c);
        if (c.request == request)
            rt_completion_free(&c);
        else
            rt_engine_done(e, &c);
    }
}

rt_engine_stats rt_engine_get_stats(const rt_engine *e)
{
    rt_engine_stats stats = e->stats;
    stats.active = e->active;
    return stats;
}
