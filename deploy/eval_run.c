#include "deploy/eval_run.h"

#include <string.h>
#include <unistd.h>

#define PAGE 16
#define PROGRESS_MS 3000
#define CACHE_BYTES ((int64_t)2 << 30)

/* ---- problems -------------------------------------------------------------------------------- */

static int add_problem(eval_run *run, int task, int64_t index, rt_error *err)
{
    eval_item *item = &run->items[run->count];
    size_t capacity = 0;
    int rc = rt_problem_get(run->tasks, task, RT_EVAL, index, run->arena, &item->problem, err);
    if (rc == 0) {
        const char *prompt = item->problem.prompt;
        rc = rt_tokenizer_encode(run->model->tokenizer, prompt, strlen(prompt), &item->ids,
                                 &item->ids_count, &capacity, err);
    }
    if (rc != 0)
        return rt_error_prefix(err, "held-out problem %lld of %s", (long long)index,
                               rt_taskset_name(run->tasks, task)), rc;
    item->left_out = item->ids_count == 0 ||
                     item->ids_count + 1 > (size_t)run->model->weights->arch.context;
    run->left_out += item->left_out;
    item->samples = rt_arena_alloc(run->arena, (size_t)run->k * sizeof *item->samples);
    item->grades = rt_arena_alloc(run->arena, (size_t)run->k);
    run->count++;
    return 0;
}

int eval_problems(eval_run *run, int64_t limit, rt_error *err)
{
    const int64_t endless = (int64_t)1 << 31;
    int64_t wanted[RT_TASKS_MAX] = {0}, total = 0;
    int tasks = rt_taskset_tasks(run->tasks);
    for (int t = 0; t < tasks; t++) {
        int64_t there = rt_taskset_count(run->tasks, t, RT_EVAL);
        wanted[t] = limit > 0 ? limit : there >= endless ? run->config->eval.problems : there;
        wanted[t] = RT_MIN(wanted[t], there);
        total += wanted[t];
    }
    if (total == 0)
        return rt_fail(err, RT_ERR_USAGE, "no task holds out problems; give one a larger "
                       "eval_share (--set tasks.0.eval_share=1 takes every record)");
    if (total > 1 << 24)
        return rt_fail(err, RT_ERR_USAGE, "%lld problems are too many; use --limit",
                       (long long)total);
    run->arena = rt_arena_new(1 << 20);
    run->items = rt_alloc((size_t)total * sizeof *run->items);
    int rc = 0;
    for (int t = 0; t < tasks && rc == 0; t++)
        for (int64_t i = 0; i < wanted[t] && rc == 0; i++)
            rc = add_problem(run, t, i, err);
    if (rc == 0 && run->left_out == run->count)
        rc = rt_fail(err, RT_ERR_INPUT, "no prompt fits the model's context of %d tokens",
                     run->model->weights->arch.context);
    return rc;
}

void eval_run_free(eval_run *run)
{
    for (int i = 0; i < run->count; i++) {
        for (int s = 0; s < run->k; s++)
            rt_free(run->items[i].samples[s].extracted);
        rt_free(run->items[i].ids);
    }
    rt_free(run->items);
    if (run->arena)
        rt_arena_free(&run->arena);
}

/* ---- answers --------------------------------------------------------------------------------- */

typedef struct driver {
    eval_run *run;
    rt_engine *engine;
    int next;                 /* first problem not submitted */
    int64_t done, wanted, correct;
    eval_progress progress;
} driver;

static uint64_t trajectory_id(int item, int sample)
{
    return UINT64_C(1) << 62 | (uint64_t)item << 16 | (uint64_t)sample;
}

static int submit(driver *d, rt_error *err)
{
    eval_run *run = d->run;
    const eval_item *item = &run->items[d->next];
    if (item->left_out) {
        d->next++;
        return 0;
    }
    uint64_t *ids = rt_alloc((size_t)run->k * sizeof *ids);
    for (int s = 0; s < run->k; s++)
        ids[s] = trajectory_id(d->next, s);
    rt_sampling sampling = eval_sampling(run, item->problem.task);
    int rc = rt_engine_submit(d->engine, (uint64_t)d->next, item->ids, (int)item->ids_count, ids,
                              run->k, 0, run->model->adapter, &sampling, err);
    rt_free(ids);
    d->next++;
    return rc;
}

int eval_ids_count(const rt_arch *arch, const rt_completion *c)
{
    int last = c->ids_count - 1;
    if (c->end == RT_END_EOS && last >= 0)
        for (int i = 0; i < arch->eos_count; i++)
            if (c->ids[last] == arch->eos[i])
                return last;
    return c->ids_count;
}

/* The answer as the actor grades it: without the end token. */
static int grade(driver *d, const rt_completion *c, rt_error *err)
{
    eval_run *run = d->run;
    eval_item *item = &run->items[c->request];
    int count = c->ids_count, sample = (int)(c->trajectory & 0xFFFF);
    int answer = eval_ids_count(&run->model->weights->arch, c);
    rt_buf text = {0};
    rt_buf_add(&text, "", 0);
    rt_tokenizer_decode(run->model->tokenizer, c->ids, (size_t)answer, &text);
    rt_verdict verdict;
    int rc = rt_grade_until(item->problem.grader, text.data, text.bytes, item->problem.gold,
                            run->stop, &verdict, err);
    rt_buf_free(&text);
    if (rc != 0)
        return rc;
    item->grades[sample] = (uint8_t)verdict.grade;
    item->samples[sample].correct = verdict.grade == RT_CORRECT;
    item->samples[sample].extracted = rt_strdup(verdict.extracted);
    item->tokens += count;
    item->thoughts += c->thoughts_count;
    item->cut += c->end == RT_END_LENGTH || c->end == RT_END_CONTEXT || c->end == RT_END_THOUGHTS;
    d->correct += verdict.grade == RT_CORRECT;
    d->done++;
    run->tokens += count;
    return 0;
}

void eval_progress_begin(eval_progress *p)
{
    p->started_ns = p->shown_ns = rt_now_ns();
    p->live = isatty(STDERR_FILENO);
}

void eval_progress_show(eval_progress *p, int64_t done, int64_t wanted, const char *what,
                        double begun, int64_t correct, int64_t tokens, bool last)
{
    int64_t now = rt_now_ns();
    int64_t every = p->live ? 500 : PROGRESS_MS;
    if (!last && now - p->shown_ns < every * 1000000)
        return;
    p->shown_ns = now;
    double seconds = (double)(now - p->started_ns) * 1e-9;
    fprintf(stderr, "%s%lld/%lld %s  %.0f tok/s", p->live ? "\r\033[K" : "", (long long)done,
            (long long)wanted, what, (double)tokens / RT_MAX(seconds, 1e-9));
    if (done > 0)
        fprintf(stderr, "  correct so far %.1f %%", 100.0 * (double)correct / (double)done);
    double worked = (double)done + begun;
    if (worked > 0) {
        double left = seconds / worked * ((double)wanted - worked);
        fprintf(stderr, "  %d:%02d left", (int)left / 60, (int)left % 60);
    }
    fprintf(stderr, "%s", p->live && !last ? "" : "\n");
}

double eval_progress_end(const eval_progress *p, bool whole)
{
    if (!whole && p->live)
        fprintf(stderr, "\n");
    return (double)(rt_now_ns() - p->started_ns) * 1e-9;
}

static void progress(driver *d, bool last)
{
    eval_progress_show(&d->progress, d->done, d->wanted, "answers", 0, d->correct,
                       d->run->tokens, last);
}

static int work(driver *d, rt_error *err)
{
    eval_run *run = d->run;
    int64_t ahead = 2 * (int64_t)run->slots;
    for (int left = 1; left > 0 || d->next < run->count;) {
        if (atomic_load(run->stop))
            return rt_fail(err, RT_ERR_STOPPED, "stopped; nothing was measured");
        rt_engine_stats stats = rt_engine_get_stats(d->engine);
        int64_t queued = stats.active + stats.waiting;
        for (; queued < ahead && d->next < run->count; queued += run->k) {
            int rc = submit(d, err);
            if (rc != 0)
                return rc;
        }
        left = rt_engine_step(d->engine, err);
        if (left < 0)
            return left;
        for (rt_completion c; rt_engine_collect(d->engine, &c); rt_completion_free(&c)) {
            int rc = grade(d, &c, err);
            if (rc != 0) {
                rt_completion_free(&c);
                return rc;
            }
        }
        progress(d, false);
    }
    return 0;
}

rt_sampling eval_sampling(const eval_run *run, int task)
{
    const rt_config *config = run->config;
    rt_limits limits = rt_config_limits(config, task);
    rt_sampling sampling = {
        .temperature = run->temperature,
        .top_p = limits.top_p,
        .top_k = (int)config->sampling.top_k,
        .max_tokens = (int)limits.max_tokens,
        .seed = run->seed,
    };
    if (run->plain)
        return sampling;
    sampling.delimiter = config->thoughts.delimiter;
    sampling.terminal = *config->thoughts.terminal ? config->thoughts.terminal : NULL;
    sampling.thoughts_max = (int)limits.thoughts_max;
    sampling.thought_tokens_max = (int)limits.thought_tokens_max;
    return sampling;
}

int eval_engine_new(rt_engine **engine, const eval_run *run, int64_t each, rt_error *err)
{
    const rt_arch *arch = &run->model->weights->arch;
    int64_t token_bytes = (int64_t)arch->layers * arch->kv_heads * arch->head_size * 2 * 4;
    int64_t longest = RT_MIN((int64_t)arch->context, each) + 2 * PAGE;
    int64_t tokens = RT_MIN(run->slots * longest, CACHE_BYTES / RT_MAX(token_bytes, 1));
    return rt_engine_new(engine, run->model->net, run->model->tokenizer, run->slots,
                         RT_MAX(tokens, longest), err);
}

int eval_answers(eval_run *run, rt_error *err)
{
    driver d = {.run = run};
    int64_t longest = 0;
    for (int i = 0; i < run->count; i++)
        if (!run->items[i].left_out)
            longest = RT_MAX(longest, (int64_t)run->items[i].ids_count);
    d.wanted = (int64_t)(run->count - run->left_out) * run->k;
    run->slots = (int)RT_MIN((int64_t)run->slots, d.wanted);
    int rc = eval_engine_new(&d.engine, run, longest + rt_config_max_tokens(run->config), err);
    if (rc != 0)
        return rc;
    eval_progress_begin(&d.progress);
    rc = work(&d, err);
    if (rc == 0)
        progress(&d, true);
    run->seconds = eval_progress_end(&d.progress, rc == 0);
    RT_ASSERT(rc != 0 || d.done == d.wanted);
    rt_engine_free(&d.engine);
    return rc;
}
