/* The compute thread: leases into the engine, completions graded, weights swapped in between. */
#include <string.h>

#include "actor/internal.h"

#define IDLE_MS 200
/* When no size of the cache is set: room for prompts, and a bound on its memory beyond which
 * sequences wait for pages, except that one with the longest prompt must fit. With debates twice that:
 * agents that wait for their peers keep what they said. */
#define PROMPT_TOKENS 256
#define PROMPT_TOKENS_MAX 1024
#define CACHE_BYTES ((int64_t)512 << 20)

/* ---- opening and closing ------------------------------------------------------------------- */

static bool debates(const rt_config *config)
{
    return strcmp(config->algorithm.plan, "debate") == 0;
}

/* A prompt and a response; of a debate all that an agent reads and says in its rounds. */
static int64_t conversation_tokens(const rt_config *config, int64_t response)
{
    const rt_debate_settings *debate = &config->algorithm.debate;
    const int64_t once = response + PROMPT_TOKENS;
    if (!debates(config))
        return once;
    return once + (debate->rounds - 1) * (once + RT_MIN(debate->agents - 1, debate->peers) * response);
}

int64_t rt_compute_cache_tokens(const rt_config *config, const rt_arch *arch)
{
    if (config->actors.cache_tokens > 0)
        return config->actors.cache_tokens;
    const int64_t response = rt_config_max_tokens(config);
    const int64_t each = RT_MIN((int64_t)arch->context, conversation_tokens(config, response)) + RT_PAGE;
    const int64_t token_bytes = (int64_t)arch->layers * arch->kv_heads * arch->head_size * 2 * 4;
    const int64_t wanted = RT_MIN(RT_MAX(config->actors.slots, 1) * each,
                                  (debates(config) ? 2 : 1) * CACHE_BYTES / RT_MAX(token_bytes, 1));
    const int64_t longest = RT_MIN((int64_t)arch->context, response + PROMPT_TOKENS_MAX);
    return RT_MAX(wanted, longest + 2 * RT_PAGE);
}

/* A frozen base is read here once; only its adapters come over the wire. */
static int open_base(rt_compute *compute, const rt_config *config, int dtype, rt_error *err)
{
    rt_lora lora;
    rt_weights *base = NULL;
    if (!rt_lora_of(config, &lora))
        return RT_OK;
    int code = rt_model_load(&base, config->model.path, dtype, err);
    if (code == RT_OK)
        code = rt_net_open_adapters(compute->net, &lora, rt_config_adapters(config), err);
    if (code == RT_OK) {
        rt_net_set(compute->net, base);
        compute->base = rt_hash(base->data, rt_weights_bytes(base));
    }
    rt_weights_free(&base);
    return code;
}

int rt_compute_open(rt_compute *compute, const rt_config *config, rt_error *err)
{
    const int dtype = strcmp(config->model.dtype, "bf16") == 0 ? RT_BF16 : RT_F32;
    int code = rt_arch_load(&compute->arch, config->model.path, err);
    if (code == RT_OK && config->model.context > 0)
        compute->arch.context = (int)RT_MIN((int64_t)compute->arch.context, config->model.context);
    if (code == RT_OK)
        code = rt_tokenizer_load(&compute->tokenizer, config->model.path, err);
    if (code == RT_OK)
        code = rt_ops_open(&compute->ops, config->actors.device,
                           (int)RT_MAX(config->actors.threads, 1), err);
    if (code == RT_OK)
        code = rt_net_new(&compute->net, &compute->arch, dtype, compute->ops, err);
    if (code == RT_OK)
        code = open_base(compute, config, dtype, err);
    compute->slots = (int)config->actors.slots;
    if (code == RT_OK)
        code = rt_engine_new(&compute->engine, compute->net, compute->tokenizer, compute->slots,
                             rt_compute_cache_tokens(config, &compute->arch), err);
    if (code == RT_OK && debates(config))
        rt_engine_order_by_trajectory(compute->engine);
    return code;
}

static void list_free(rt_work **list)
{
    while (*list) {
        rt_work *work = *list;
        *list = work->next;
        rt_work_free(&work);
    }
}

void rt_compute_close(rt_compute *compute)
{
    list_free(&compute->active);
    list_free(&compute->held);
    rt_free(compute->pending);
    compute->pending = NULL;
    if (compute->engine)
        rt_engine_free(&compute->engine);
    if (compute->net)
        rt_net_free(&compute->net);
    if (compute->tokenizer)
        rt_tokenizer_free(&compute->tokenizer);
    if (compute->ops)
        rt_ops_free(&compute->ops);
}

/* ---- talking to the loop ------------------------------------------------------------------- */

static void post(rt_compute *compute, const rt_note *note)
{
    rt_note *copy = rt_alloc(sizeof(*copy));
    *copy = *note;
    while (!rt_mailbox_to_loop(compute->mailbox, copy)) {
        if (atomic_load(&compute->stop)) { /* nobody will read it */
            rt_work_free(&copy->work);
            rt_free(copy);
            return;
        }
        uv_sleep(1);
    }
}

static void answer(rt_compute *compute, rt_work *work)
{
    work->seconds = work->begun_ns ? (double)(rt_now_ns() - work->begun_ns) * 1e-9 : 0;
    post(compute, &(rt_note){.kind = RT_NOTE_WORK, .work = work});
}

static void list_remove(rt_work **list, const rt_work *work)
{
    while (*list != work)
        list = &(*list)->next;
    *list = work->next;
}

/* ---- leases -------------------------------------------------------------------------------- */

static void work_start(rt_compute *compute, rt_work *work)
{
    work->next = NULL;
    work->begun_ns = rt_now_ns();
    const int code = rt_engine_submit(compute->engine, work->request, work->prefix,
                                      work->prefix_count, work->trajectories, work->count,
                                      work->thoughts_before, work->adapter, &work->sampling,
                                      &work->error);
    if (code == RT_OK)
        rt_work_append(&compute->active, work);
    else
        answer(compute, work);
}

static void work_take(rt_compute *compute, rt_work *work)
{
    if (compute->pending && rt_version_same(&work->version, &compute->pending->version)) {
        rt_work_append(&compute->held, work);
    } else if (rt_version_same(&work->version, &compute->current)) {
        work_start(compute, work);
    } else {
        rt_fail(&work->error, RT_ERR_STATE,
                "the lease names weights version %lld, which this worker no longer holds",
                (long long)work->version.number);
        answer(compute, work);
    }
}

static void work_cancel(rt_compute *compute, uint64_t request)
{
    rt_work **lists[] = {&compute->active, &compute->held};
    for (size_t i = 0; i < RT_COUNT(lists); i++)
        for (rt_work *work = *lists[i]; work; work = work->next)
            if (work->request == request) {
                rt_engine_cancel(compute->engine, request);
                list_remove(lists[i], work);
                rt_work_free(&work);
                return;
            }
}

/* The text that is graded: what was there before plus what was generated, without the end token. */
static void grade(rt_compute *compute, rt_work *work, int index)
{
    const rt_completion *completion = &work->completions[index];
    int count = completion->ids_count;
    if (completion->end == RT_END_EOS && count > 0)
        for (int i = 0; i < compute->arch.eos_count; i++)
            if (completion->ids[count - 1] == compute->arch.eos[i]) {
                count--;
                break;
            }
    rt_buf text = {0};
    rt_buf_add(&text, "", 0);
    rt_tokenizer_decode(compute->tokenizer, work->prefix + work->prompt_count,
                        (size_t)(work->prefix_count - work->prompt_count), &text);
    rt_tokenizer_decode(compute->tokenizer, completion->ids, (size_t)count, &text);
    rt_verdict *verdict = &work->verdicts[index];
    rt_grade_until(work->grader, text.data, text.bytes, work->gold, &compute->stop, verdict,
                   &work->error);
    verdict->extracted[rt_utf8_valid(verdict->extracted, strlen(verdict->extracted))] = 0;
    rt_buf_free(&text);
}

static void take_completion(rt_compute *compute, rt_completion *completion)
{
    rt_work *work = compute->active;
    while (work && work->request != completion->request)
        work = work->next;
    int index = 0;
    while (work && index < work->count && (work->trajectories[index] != completion->trajectory ||
                                           work->have[index]))
        index++;
    if (!work || index == work->count) {
        rt_completion_free(completion);
        return;
    }
    atomic_fetch_add(&compute->tokens, (uint64_t)completion->ids_count);
    work->completions[index] = *completion; /* takes */
    work->have[index] = true;
    work->have_count++;
    if (work->graded)
        grade(compute, work, index);
    if (work->have_count == work->count) {
        list_remove(&compute->active, work);
        answer(compute, work);
    }
}

/* ---- the loop of the thread ---------------------------------------------------------------- */

static void handle(rt_compute *compute, rt_note *note)
{
    switch (note->kind) {
    case RT_NOTE_WORK:
        work_take(compute, note->work);
        break;
    case RT_NOTE_CANCEL:
        work_cancel(compute, note->request);
        break;
    case RT_NOTE_WEIGHTS:
        RT_ASSERT(compute->pending == NULL); /* there is one blob */
        compute->pending = note;
        return;
    default:
        compute->stopping = true;
        break;
    }
    rt_free(note);
}

static void swap_when_idle(rt_compute *compute)
{
    if (!compute->pending || compute->active)
        return;
    if (rt_net_adapters(compute->net) > 0)
        rt_net_set_adapters(compute->net, compute->pending->blob);
    else
        rt_net_set(compute->net, compute->pending->blob);
    rt_engine_weights_changed(compute->engine);
    compute->current = compute->pending->version;
    rt_free(compute->pending);
    compute->pending = NULL;
    post(compute, &(rt_note){.kind = RT_NOTE_WEIGHTS, .version = compute->current});
    rt_work *held = compute->held;
    compute->held = NULL;
    while (held) {
        rt_work *work = held;
        held = work->next;
        work_start(compute, work);
    }
}

/* What is wrong in a step (not-a-number, no memory for pages) is wrong for every lease in it. */
static void fail_active(rt_compute *compute, const rt_error *error)
{
    while (compute->active) {
        rt_work *work = compute->active;
        compute->active = work->next;
        rt_engine_cancel(compute->engine, work->request);
        work->error = *error;
        answer(compute, work);
    }
}

static void step(rt_compute *compute)
{
    rt_error error = {0};
    if (rt_engine_step(compute->engine, &error) < 0)
        fail_active(compute, &error);
    rt_completion completion;
    while (rt_engine_collect(compute->engine, &completion))
        take_completion(compute, &completion);
    const rt_engine_stats stats = rt_engine_get_stats(compute->engine);
    atomic_store(&compute->prefill, (uint64_t)stats.tokens_prefill);
    atomic_store(&compute->sequences, (unsigned)(stats.active + stats.waiting));
}

void rt_compute_run(void *context)
{
    rt_compute *compute = context;
    while (!compute->stopping && !atomic_load(&compute->stop)) {
        rt_note *note = rt_mailbox_from_loop(compute->mailbox, compute->active ? 0 : IDLE_MS);
        for (; note; note = rt_mailbox_from_loop(compute->mailbox, 0))
            handle(compute, note);
        swap_when_idle(compute);
        if (compute->active && !compute->stopping)
            step(compute);
        else
            atomic_store(&compute->sequences, 0);
    }
}
