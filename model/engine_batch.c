/* Engine: one step of continuous batching: admission, one forward, sampling. */
#include <string.h>

#include "model/engine_internal.h"

/* ---- pages ---- */

/* Every admitted completion was promised all pages it can
 * ever need, and every admitted request with none running those of one, so nothing deadlocks. */
int rt_engine_pages_unpromised(const rt_engine *e)
{
    int promised = 0;
    for (int i = 0; i < e->slots_count; i++) {
        const rt_slot *slot = &e->slots[i];
        if (slot->request != NULL)
            promised += slot->request->own_pages -
                        (slot->node >= 0 ? rt_forest_pages_owned(e->forest, slot->node) : 0);
    }
    for (const rt_request *r = e->head; r != NULL && r->node >= 0; r = r->next) {
        promised += r->prompt_pages - e->forest->nodes[r->node].table_count;
        promised += r->running == 0 ? r->own_pages : 0;
    }
    return rt_forest_pages_free(e->forest) + e->forest->pages_idle - promised;
}

/* ---- starting completions ---- */

/* Tokens of the prefix to compute. The last token of one found whole is a row of decoding. */
static int prefill_of(const rt_request *r)
{
    bool whole = r->reused > 0 && r->reused + 1 == r->prefix_count;
    return whole ? 0 : r->prefix_count - r->reused;
}

static void completion_start(rt_engine *e, rt_request *r)
{
    int index = r->started++;
    rt_slot *slot = &e->slots[e->slots_free[--e->slots_free_count]];
    r->running++;
    e->active++;
    e->stats.waiting--;
    slot->request = r;
    slot->node = -1;
    slot->entry = r->entry;
    slot->ids_capacity = slot->thoughts_capacity = 0;
    slot->boundary = 0;
    slot->thought_start = 0;
    slot->thoughts = r->thoughts_before;
    rt_buf_clear(&slot->text);
    memset(&slot->c, 0, sizeof(slot->c));
    slot->c.request = r->id;
    slot->c.trajectory = r->trajectories[index];
    slot->c.prefill = prefill_of(r);
    rt_lookahead_start(slot);
    int end = rt_slot_push(e, slot, r->first_ids[index], r->first_logprobs[index]);
    if (end < 0) {
        bool room = rt_engine_pages_make(e, r->prefix_count % RT_PAGE > 0);
        RT_ASSERT(room); /* its pages were promised */
        slot->node = rt_forest_fork(e->forest, r->node, -1);
    }
    /* the prompt's pages stay while a fork holds them */
    if (r->started == r->count) {
        rt_forest_release(e->forest, r->node);
        r->node = -1;
    }
    if (end >= 0)
        rt_slot_finish(e, slot, end);
}

void rt_engine_start(rt_engine *e)
{
    while (e->head != NULL && e->head->first_ids != NULL && e->slots_free_count > 0) {
        rt_request *r = e->head;
        /* with none running, the pages of one are promised to it already */
        if (r->running > 0 && rt_engine_pages_unpromised(e) < r->own_pages)
            return;
        if (r->started + 1 == r->count) {
            e->head = r->next;
            if (e->head == NULL)
                e->tail = &e->head;
        }
        completion_start(e, r);
    }
}

/* ---- planning a step ---- */

/* Slots of one adapter stand together, so that one product serves them all. */
static void plan_decode_of(rt_engine *e, int adapter)
{
    for (int i = 0; i < e->slots_count; i++) {
        rt_slot *slot = &e->slots[i];
        if (slot->request == NULL || slot->request->adapter != adapter)
            continue;
        if (rt_forest_length(e->forest, slot->node) % RT_PAGE <= slot->guesses)
            rt_engine_hold(e, slot->node, &slot->entry, slot->request->prefix,
                           slot->request->prefix_count, slot->c.ids, false);
        int count = 1 + rt_lookahead_guess(slot);
        e->runs[e->runs_count++] = (rt_run){.node = slot->node, .ids = slot->feed, .count = count};
        e->stats.guessed += count - 1;
        for (int guess = 0; guess < count; guess++, e->rows_count++) {
            e->row_slot[e->rows_count] = i;
            e->row_guess[e->rows_count] = guess;
            e->row_request[e->rows_count] = slot->request;
        }
    }
}

static void plan_decode(rt_engine *e)
{
    e->runs_count = e->rows_count = 0;
    for (int adapter = -1; adapter < rt_net_adapters(e->net); adapter++)
        plan_decode_of(e, adapter);
}

/* Pieces of waiting prefixes, first come first served, up to RT_PREFILL_TOKENS. A prefix is only
 * begun when slots will be left for it, so that computed prefixes do not pile up. */
static void plan_prefill(rt_engine *e)
{
    int budget = RT_PREFILL_TOKENS, demand = e->active;
    for (rt_request *r = e->head; r != NULL && budget > 0; r = r->next) {
        if (r->node < 0 && (demand >= e->slots_count || !rt_request_admit(e, r)))
            return;
        demand += r->count - r->started;
        int count = RT_MIN(budget, r->prefix_count - r->prefilled);
        if (count == 0)
            continue;
        bool whole = r->prefilled + count == r->prefix_count;
        e->runs[e->runs_count++] = (rt_run){.node = r->node, .ids = r->prefix + r->prefilled,
                                            .count = count, .unseen = whole ? count - 1 : count};
        budget -= count;
        r->prefilled += count;
        e->stats.tokens_prefill += prefill_of(r) > 0 ? count : 0;
        if (whole) {
            e->row_slot[e->rows_count] = -1;
            e->row_guess[e->rows_count] = 0;
            e->row_request[e->rows_count++] = r;
        }
    }
}

/* ---- sampling ---- */

static int sample(rt_engine *e, const rt_request *r, uint64_t trajectory, int index,
                  const float *logits, rt_error *err)
{
    const rt_sampling *s = &r->sampling;
    double u = s->temperature > 0 ? rt_uniform(s->seed, trajectory, (uint64_t)index) : 0;
    int id = rt_sample(&e->sampler, logits, s->temperature, s->top_k, s->top_p, u);
    if (id < 0)
        return rt_fail(err, RT_ERR_MATH, "the model's logits are not finite for trajectory %llu "
                       "at token %d; its weights are damaged", (unsigned long long)trajectory,
                       index);
    return id;
}

/* Log-probs by the same operation as in training: rows `from`… of the logits buffer, targets in
 * targets_host, results to logprobs_host. */
static void logprobs(rt_engine *e, int from, int count, float temperature)
{
    rt_ops *ops = e->net->ops;
    int v = e->net->arch.vocab;
    ops->upload(ops, e->targets + from, e->targets_host + from, sizeof(int32_t) * (size_t)count);
    ops->logprob(ops, e->logprobs + from, e->lse + from, e->logits + (size_t)from * (size_t)v,
                 e->targets + from, count, v, temperature);
    ops->download(ops, e->logprobs_host + from, e->logprobs + from, sizeof(float) * (size_t)count);
}

static int prompt_sample(rt_engine *e, rt_request *r, int row, const float *logits, rt_error *err)
{
    r->first_ids = rt_alloc(sizeof(int32_t) * (size_t)r->count);
    r->first_logprobs = rt_alloc(sizeof(float) * (size_t)r->count);
    for (int i = 0; i < r->count; i++) {
        int id = sample(e, r, r->trajectories[i], 0, logits, err);
        if (id < 0)
            return id;
        r->first_ids[i] = e->targets_host[row] = id;
        logprobs(e, row, 1, r->temperature);
        r->first_logprobs[i] = e->logprobs_host[row];
    }
    return RT_OK;
}

/* Is a row's distribution that of the text as it is sampled? Not behind a wrong guess. Of rows that
 * are, targets_host holds what was sampled. */
static bool row_counts(const rt_engine *e, int row, int in_part)
{
    const rt_slot *slot = &e->slots[e->row_slot[row]];
    int guess = e->row_guess[row];
    return guess == 0 ||
           (e->row_guess[row - 1] >= 0 && slot->feed[guess] == e->targets_host[in_part - 1]);
}

/* What was computed of a completion is its text but for the last token: wrong guesses go. */
static void slot_settle(rt_engine *e, const rt_slot *slot)
{
    rt_forest_truncate(e->forest, slot->node, slot->request->prefix_count + slot->c.ids_count - 1);
}

static void slot_push(rt_engine *e, rt_slot *slot, int32_t id, float logprob)
{
    int end = rt_slot_push(e, slot, id, logprob);
    if (end >= 0) {
        slot_settle(e, slot);
        rt_slot_finish(e, slot, end);
    } else if (slot->request->sampling.lookahead > 0) {
        rt_lookahead_push(slot);
    }
}

/* Rows from…from+count of this step, all of whole slots. */
static int slots_sample(rt_engine *e, int from, int count, rt_error *err)
{
    size_t v = (size_t)e->net->arch.vocab;
    for (int i = 0; i < count; i++) {
        const rt_slot *slot = &e->slots[e->row_slot[from + i]];
        int *guess = &e->row_guess[from + i];
        e->targets_host[i] = 0;
        if (!row_counts(e, from + i, i)) {
            *guess = -1;
            continue;
        }
        int id = sample(e, slot->request, slot->c.trajectory, slot->c.ids_count + *guess,
                        e->logits_host + (size_t)i * v, err);
        if (id < 0)
            return id;
        e->targets_host[i] = id;
    }
    for (int i = 0, n; i < count; i += n) {
        float temperature = e->row_request[from + i]->temperature;
        for (n = 1; i + n < count && e->row_request[from + i + n]->temperature == temperature; n++)
            ;
        logprobs(e, i, n, temperature);
    }
    for (int i = 0, right = 0; i < count; i++) {
        rt_slot *slot = &e->slots[e->row_slot[from + i]];
        int guess = e->row_guess[from + i];
        right = guess >= 0 ? guess : right;
        if (guess >= 0 && slot->request != NULL) /* else: a wrong guess, or the text has ended */
            slot_push(e, slot, e->targets_host[i], e->logprobs_host[i]);
        bool last = i + 1 == count || e->row_slot[from + i + 1] != e->row_slot[from + i];
        if (last && slot->request != NULL) {
            slot_settle(e, slot);
            rt_lookahead_outcome(slot, right);
        }
        e->stats.guessed_right += last ? right : 0;
    }
    return RT_OK;
}

static int rows_sample(rt_engine *e, rt_error *err)
{
    rt_ops *ops = e->net->ops;
    size_t v = (size_t)e->net->arch.vocab;
    int slots = 0;
    while (slots < e->rows_count && e->row_slot[slots] >= 0)
        slots++;
    for (int from = 0, n; from < e->rows_count; from += n) {
        int end = from < slots ? slots : e->rows_count;
        n = RT_MIN(e->logits_rows, end - from);
        while (from + n < end && e->row_guess[from + n] > 0)
            n--; /* a slot's rows stay together */
        rt_forest_logits_backend(e->forest, from, n, e->logits);
        ops->download(ops, e->logits_host, e->logits, (size_t)n * v * sizeof(float));
        int rc = from < slots ? slots_sample(e, from, n, err) : RT_OK;
        for (int i = 0; from >= slots && i < n && rc == RT_OK; i++)
            rc = prompt_sample(e, e->row_request[from + i], i, e->logits_host + (size_t)i * v, err);
        if (rc < 0)
            return rc;
    }
    return RT_OK;
}

/* Makes room for the new tokens of all runs, which were promised it. */
static void runs_room(rt_engine *e)
{
    int pages = 0;
    for (int i = 0; i < e->runs_count; i++) {
        const rt_node *node = &e->forest->nodes[e->runs[i].node];
        int need = (node->length + e->runs[i].count + RT_PAGE - 1) / RT_PAGE - node->table_count;
        pages += RT_MAX(need, 0);
    }
    bool room = rt_engine_pages_make(e, pages);
    RT_ASSERT(room);
}

static void prefixes_hold(rt_engine *e)
{
    for (rt_request *r = e->head; r != NULL && r->node >= 0; r = r->next) {
        if (r->held == r->prefilled)
            continue;
        r->held = r->prefilled;
        rt_engine_hold(e, r->node, &r->entry, r->prefix, r->prefix_count, NULL,
                       r->prefilled == r->prefix_count);
    }
}

int rt_engine_step(rt_engine *e, rt_error *err)
{
    rt_engine_start(e);
    plan_decode(e);
    plan_prefill(e);
    if (e->runs_count > 0) {
        runs_room(e);
        int rc = rt_forest_forward(e->forest, e->runs, e->runs_count, err);
        if (rc == RT_OK) {
            prefixes_hold(e);
            rc = rows_sample(e, err);
        }
        if (rc < 0)
            return rc;
        e->stats.steps++;
        rt_engine_start(e);
        rt_engine_cache_trim(e);
    }
    return e->active + (int)e->stats.waiting;
}
