/* correct_run: states of iterative correction through one engine with continuous batching. */
#include "deploy/correct_run.h"

#include <string.h>

#define JUDGE_WORDS 1024 /* tokens that the prompt of a judge may have beside problem and chain */

/* At most so many answers to one call: trajectories are numbered by item, call, sample. */
enum { SAMPLES = 1 << 10 };

/* A problem in flight. */
typedef struct work {
    correct_state state;
    correct_cost cost;
    int32_t *ids; /* (ids_count) chain at hand, after the prompt, without an end token */
    int ids_count;
    int32_t *ends; /* (ends_count) index just past each thought; the last may be unclosed */
    int ends_count;
    int kept; /* tokens of the chain that the sample in flight goes on from */
    int step; /* thought that is judged, when one by one */
    int call; /* answers asked for so far: part of their random streams */
    int votes[CORRECT_VOTES_MAX];
    int pending, voted;
    json_t *attempts; /* NULL: no trace is wanted */
    size_t answers;   /* judgements in the trace of the chain at hand before those in flight */
} work;

typedef struct driver {
    correct_run *run;
    rt_engine *engine;
    work *works;     // (count)
    rt_arena *arena; /* of one answer */
    int room;        /* tokens that one sequence may have, prompt included */
    int next, in_flight;
    int64_t done, right, tokens;
    int64_t begun; /* chains of problems in flight */
    eval_progress progress;
} driver;

static const rt_tokenizer *tokenizer_of(const driver *d)
{
    return d->run->eval.model->tokenizer;
}

/* ---- the chain at hand ----------------------------------------------------------------------- */

static void decode(const driver *d, const int32_t *ids, int count, rt_buf *text)
{
    rt_buf_add(text, "", 0);
    rt_tokenizer_decode(tokenizer_of(d), ids, (size_t)count, text);
}

static bool blank(const char *text, size_t bytes)
{
    while (bytes > 0 && strchr(" \t\r\n", text[bytes - 1]))
        bytes--;
    return bytes == 0;
}

typedef struct thoughts {
    const char **items; // (count)
    int count;
} thoughts;

static void add_thought(driver *d, thoughts *list, const char *text, size_t bytes)
{
    char *copy = rt_arena_alloc(d->arena, bytes + 1);
    memcpy(copy, text, bytes);
    list->items[list->count++] = copy;
}

/* Free text: what stands between delimiters, should it have any, is a thought to its judge. */
static thoughts split_text(driver *d, const char *text)
{
    const char *delimiter = d->run->eval.config->thoughts.delimiter;
    size_t most = 1, skip = strlen(delimiter);
    for (const char *at = text; (at = strstr(at, delimiter)); at += skip)
        most++;
    thoughts list = {.items = rt_arena_alloc(d->arena, most * sizeof *list.items)};
    for (const char *at = text, *close; at; at = close ? close + skip : NULL) {
        close = strstr(at, delimiter);
        size_t bytes = close ? (size_t)(close - at) : strlen(at);
        if (!blank(at, bytes))
            add_thought(d, &list, at, bytes);
    }
    return list;
}

/* Texts of the chain's thoughts, each without its delimiter. */
static thoughts thoughts_of(driver *d, const work *w)
{
    const char *delimiter = d->run->eval.config->thoughts.delimiter;
    bool token = d->run->settings.token;
    thoughts list = {
        .items = rt_arena_alloc(d->arena, (size_t)(w->ends_count + 1) * sizeof *list.items)};
    rt_buf text = {0};
    decode(d, w->ids, token ? w->ids_count : 0, &text);
    if (token)
        list = split_text(d, text.data);
    for (int i = 0; i < w->ends_count && !token; i++) {
        int begin = i > 0 ? w->ends[i - 1] : 0;
        rt_buf_clear(&text);
        decode(d, w->ids + begin, w->ends[i] - begin, &text);
        const char *close = strstr(text.data, delimiter);
        add_thought(d, &list, text.data, close ? (size_t)(close - text.data) : strlen(text.data));
    }
    rt_buf_free(&text);
    return list;
}

/* The prefix that stays, then what was sampled now. */
static void extend(driver *d, work *w, const rt_completion *c)
{
    int fresh = eval_ids_count(&d->run->eval.model->weights->arch, c);
    int ends_kept = 0;
    while (ends_kept < w->ends_count && w->ends[ends_kept] <= w->kept)
        ends_kept++;
    int32_t *ids = rt_alloc((size_t)(w->kept + fresh + 1) * sizeof *ids);
    int32_t *ends = rt_alloc((size_t)(ends_kept + c->thoughts_count + 1) * sizeof *ends);
    if (w->kept > 0)
        memcpy(ids, w->ids, (size_t)w->kept * sizeof *ids);
    if (fresh > 0)
        memcpy(ids + w->kept, c->ids, (size_t)fresh * sizeof *ids);
    if (ends_kept > 0)
        memcpy(ends, w->ends, (size_t)ends_kept * sizeof *ends);
    for (int i = 0; i < c->thoughts_count; i++)
        ends[ends_kept + i] = RT_MIN(w->kept + c->thought_ends[i], w->kept + fresh);
    rt_free(w->ids);
    rt_free(w->ends);
    w->ids = ids, w->ids_count = w->kept + fresh;
    w->ends = ends, w->ends_count = ends_kept + c->thoughts_count;
}

/* What follows the last delimiter is a thought as well, unless it is empty. */
static void close_last(driver *d, work *w)
{
    int begin = w->ends_count > 0 ? w->ends[w->ends_count - 1] : 0;
    rt_buf text = {0};
    decode(d, w->ids + begin, w->ids_count - begin, &text);
    if (!blank(text.data, text.bytes))
        w->ends[w->ends_count++] = w->ids_count;
    rt_buf_free(&text);
}

static int tokens_before(driver *d, const work *w, size_t at)
{
    rt_buf text = {0};
    size_t *token_bytes = rt_arena_alloc(d->arena, (size_t)w->ids_count * sizeof *token_bytes);
    for (int i = 0; i < w->ids_count; i++) {
        rt_buf_clear(&text);
        decode(d, w->ids + i, 1, &text);
        token_bytes[i] = text.bytes;
    }
    rt_buf_free(&text);
    return correct_tokens_before(token_bytes, w->ids_count, at);
}

static int kept_tokens(driver *d, const work *w)
{
    int place = w->state.place;
    if (place <= 1)
        return 0;
    if (d->run->settings.token)
        return tokens_before(d, w, (size_t)place - 1);
    return w->ends[place - 2];
}

/* ---- the trace ------------------------------------------------------------------------------- */

static void trace_chain(const work *w, const char *text, size_t bytes, bool right, int oracle)
{
    if (!w->attempts)
        return;
    json_t *first = oracle >= 0 ? json_integer(oracle) : json_null();
    json_array_append_new(w->attempts,
                          json_pack("{s:i, s:o, s:b, s:o, s:[]}", "from", w->state.place, "text",
                                    cli_json_text(text, bytes), "right", right, "first_wrong",
                                    first, "judgements"));
}

static json_t *trace_judgements(const work *w)
{
    json_t *attempt = json_array_get(w->attempts, json_array_size(w->attempts) - 1);
    return json_object_get(attempt, "judgements");
}

/* Answers come in any order and have their places by the order they were asked for in. */
static void trace_asked(work *w, int count)
{
    json_t *list = w->attempts ? trace_judgements(w) : NULL;
    w->answers = json_array_size(list);
    for (int i = 0; list && i < count; i++)
        json_array_append_new(list, json_null());
}

static void trace_answer(const work *w, int index, const char *text, size_t bytes)
{
    if (!w->attempts)
        return;
    bool verify = w->state.ask == CORRECT_VERIFY;
    json_array_set_new(trace_judgements(w), w->answers + (size_t)index,
                       json_pack("{s:s, s:o}", "asked", verify ? "verify" : "localize", "text",
                                 cli_json_text(text, bytes)));
}

/* ---- asking ---------------------------------------------------------------------------------- */

static uint64_t trajectory_id(uint64_t item, int call, int sample)
{
    return UINT64_C(1) << 62 | item << 32 | (uint64_t)call * SAMPLES | (uint64_t)sample;
}

static int ask(driver *d, int item, const int32_t *ids, int ids_count, int samples,
               int thoughts_before, const rt_sampling *sampling, rt_error *err)
{
    work *w = &d->works[item];
    uint64_t trajectories[CORRECT_VOTES_MAX];
    for (int s = 0; s < samples; s++)
        trajectories[s] = trajectory_id((uint64_t)item, w->call, s);
    w->call++;
    w->pending = samples;
    w->voted = 0;
    return rt_engine_submit(d->engine, (uint64_t)item, ids, ids_count, trajectories, samples,
                            thoughts_before, d->run->eval.model->adapter, sampling, err);
}

static int ask_sample(driver *d, int item, rt_error *err)
{
    correct_run *run = d->run;
    work *w = &d->works[item];
    const eval_item *problem = &run->eval.items[item];
    w->kept = kept_tokens(d, w);
    w->step = 0;
    int prompt = (int)problem->ids_count;
    int32_t *ids = rt_alloc((size_t)(prompt + w->kept) * sizeof *ids);
    memcpy(ids, problem->ids, (size_t)prompt * sizeof *ids);
    if (w->kept > 0)
        memcpy(ids + prompt, w->ids, (size_t)w->kept * sizeof *ids);
    rt_sampling sampling = eval_sampling(&run->eval, run->eval.items[item].problem.task);
    if (w->state.iteration > 0)
        sampling.temperature = run->resample_temperature;
    sampling.max_tokens = RT_MAX(1, sampling.max_tokens - w->kept);
    w->cost.sample_calls++;
    int rc = ask(d, item, ids, prompt + w->kept, 1, run->settings.token ? 0 : w->state.place - 1,
                 &sampling, err);
    rt_free(ids);
    return rc;
}

static bool generated(const driver *d, int item)
{
    const eval_run *eval = &d->run->eval;
    const char *data = eval->config->tasks[eval->items[item].problem.task].data;
    return data == NULL || *data == '\0';
}

/* A compact judgement goes line by line by itself. */
static bool one_by_one(const driver *d, int item)
{
    return d->run->settings.incremental && !generated(d, item);
}

/* The compact form judges all lines at once, for both questions. */
static bool compact(const driver *d, int item)
{
    return generated(d, item) && !d->run->settings.token;
}

static int judge_kind(const driver *d, int item)
{
    const correct_settings *settings = &d->run->settings;
    bool verify = d->works[item].state.ask == CORRECT_VERIFY;
    if (one_by_one(d, item))
        return RT_JUDGE_VERIFY_STEP;
    if (compact(d, item))
        return RT_JUDGE_LOCALIZE_L3;
    if (verify)
        return RT_JUDGE_VERIFY;
    if (settings->token)
        return RT_JUDGE_QUOTE;
    return settings->level == CORRECT_L1   ? RT_JUDGE_LOCALIZE_L1
           : settings->level == CORRECT_L2 ? RT_JUDGE_LOCALIZE_L2
                                           : RT_JUDGE_LOCALIZE_L3;
}

/* Sets *asked to false where the prompt does not fit. */
static int ask_judge(driver *d, int item, bool *asked, rt_error *err)
{
    correct_run *run = d->run;
    work *w = &d->works[item];
    const eval_item *problem = &run->eval.items[item];
    int kind = judge_kind(d, item);
    bool verify = w->state.ask == CORRECT_VERIFY;
    rt_arena_reset(d->arena);
    thoughts list = thoughts_of(d, w);
    if (kind == RT_JUDGE_VERIFY_STEP)
        list.count = ++w->step;
    const char *gold = kind == RT_JUDGE_LOCALIZE_L1 ? problem->problem.gold : NULL;
    const char *prompt = rt_judge_prompt(run->eval.tasks, kind, &problem->problem, list.items,
                                         list.count, gold, d->arena);
    int32_t *ids = NULL;
    size_t ids_count = 0, capacity = 0;
    int rc = rt_tokenizer_encode(tokenizer_of(d), prompt, strlen(prompt), &ids, &ids_count,
                                 &capacity, err);
    *asked = rc == 0 && ids_count > 0 && ids_count < (size_t)d->room;
    w->cost.unfit += rc == 0 && !*asked;
    if (*asked) {
        rt_sampling sampling = eval_sampling(&run->eval, run->eval.items[item].problem.task);
        sampling.delimiter = sampling.terminal = NULL;
        sampling.temperature = run->judge_temperature;
        sampling.max_tokens = RT_MIN(run->judge_tokens, d->room - (int)ids_count);
        sampling.lookahead = RT_LOOKAHEAD_MAX; /* it quotes the solution */
        *(verify ? &w->cost.verify_calls : &w->cost.localize_calls) += 1;
        int answers = kind == RT_JUDGE_VERIFY_STEP ? 1
                      : verify                     ? run->settings.verifications
                                                   : run->settings.votes;
        trace_asked(w, answers);
        rc = ask(d, item, ids, (int)ids_count, answers, 0, &sampling, err);
    }
    rt_free(ids);
    return rc;
}

/* ---- answers --------------------------------------------------------------------------------- */

static int take_sample(driver *d, int item, const rt_completion *c, rt_error *err)
{
    correct_run *run = d->run;
    work *w = &d->works[item];
    const rt_problem *problem = &run->eval.items[item].problem;
    extend(d, w, c);
    d->begun++;
    *(w->state.iteration > 0 ? &w->cost.resample_tokens : &w->cost.first_tokens) += c->ids_count;
    rt_buf text = {0};
    decode(d, w->ids, w->ids_count, &text);
    rt_verdict verdict;
    int rc = rt_grade_response(problem->grader, text.data, text.bytes, problem->gold, &verdict,
                               err);
    bool right = rc == 0 && verdict.grade == RT_CORRECT;
    int places = blank(text.data, text.bytes) ? 0 : (int)text.bytes, oracle = -1;
    close_last(d, w);
    if (!run->settings.token) {
        rt_arena_reset(d->arena);
        places = w->ends_count;
        thoughts list = thoughts_of(d, w);
        oracle = rt_oracle_first_wrong(problem->task_name, problem->problem, list.items,
                                       list.count);
    }
    trace_chain(w, text.data, text.bytes, right, oracle);
    rt_buf_free(&text);
    if (rc == 0)
        correct_sampled(&w->state, &run->settings, places, right, oracle);
    return rc;
}

/* An answer without text stands for one that could not be asked for. */
static void take_step(driver *d, work *w, const char *text, size_t bytes)
{
    const correct_settings *settings = &d->run->settings;
    bool yes = rt_verify_parse(text, bytes, settings->as_released) == RT_VERIFY_YES;
    if (yes && w->step < w->ends_count)
        return; /* the next thought is asked for */
    if (w->state.ask == CORRECT_VERIFY)
        correct_verified(&w->state, settings, yes, w->step);
    else
        correct_localized(&w->state, settings, yes ? 0 : w->step, false);
}

static void take_verdict(driver *d, int item, const char *text, size_t bytes)
{
    const correct_settings *settings = &d->run->settings;
    work *w = &d->works[item];
    bool failed = true, yes;
    int place = -1, said_yes = 0;
    if (compact(d, item)) {
        place = rt_ics_localize_parse(text, bytes, w->state.places, &failed);
        yes = bytes > 0 && !correct_compact_flags(text, bytes);
    } else {
        yes = rt_verify_parse(text, bytes, settings->as_released) == RT_VERIFY_YES;
    }
    w->votes[w->voted++] = yes;
    if (w->pending > 0)
        return;
    for (int i = 0; i < w->voted; i++)
        said_yes += w->votes[i];
    /* of several verifications none has the say about the place */
    bool reuse = settings->votes == 1 && settings->verifications == 1 && !failed;
    correct_verified(&w->state, settings, correct_passes(said_yes, w->voted, settings->gate),
                     reuse ? place : -1);
}

static int place_of(driver *d, work *w, const char *text, size_t bytes, bool *failed)
{
    if (!d->run->settings.token)
        return rt_ics_localize_parse(text, bytes, w->state.places, failed);
    rt_buf chain = {0};
    decode(d, w->ids, w->ids_count, &chain);
    int place = correct_quote_parse(text, bytes, chain.data, chain.bytes, failed);
    rt_buf_free(&chain);
    return place;
}

static void take_vote(driver *d, work *w, const char *text, size_t bytes)
{
    const correct_settings *settings = &d->run->settings;
    bool failed;
    int place = place_of(d, w, text, bytes, &failed);
    if (settings->votes > 1) {
        w->votes[w->voted++] = failed ? -1 : place;
        if (w->pending > 0)
            return;
        place = correct_plurality(w->votes, w->voted, w->state.places, &failed);
        if (failed && settings->token)
            place = 1;
    }
    correct_localized(&w->state, settings, place, failed);
}

static void take_judgement(driver *d, int item, const char *text, size_t bytes)
{
    work *w = &d->works[item];
    if (one_by_one(d, item))
        take_step(d, w, text, bytes);
    else if (w->state.ask == CORRECT_VERIFY)
        take_verdict(d, item, text, bytes);
    else
        take_vote(d, w, text, bytes);
}

/* ---- the loop -------------------------------------------------------------------------------- */

static void finish(driver *d, int item)
{
    correct_run *run = d->run;
    work *w = &d->works[item];
    bool first = correct_returns_first(&w->state, &run->settings);
    run->outcomes[item] = (correct_outcome){w->state, w->cost, w->attempts};
    w->attempts = NULL;
    d->right += first ? w->state.right_first : w->state.right;
    d->done++;
    d->in_flight--;
    d->begun -= w->state.iteration + 1;
    rt_free(w->ids);
    rt_free(w->ends);
    w->ids = w->ends = NULL;
}

/* Asks for what the state wants, until something is in the engine or the problem is done. */
static int advance(driver *d, int item, rt_error *err)
{
    work *w = &d->works[item];
    while (w->state.ask != CORRECT_DONE) {
        if (w->state.ask == CORRECT_SAMPLE)
            return ask_sample(d, item, err);
        bool asked;
        int rc = ask_judge(d, item, &asked, err);
        if (rc != 0 || asked)
            return rc;
        w->pending = w->voted = 0;
        take_judgement(d, item, "", 0);
    }
    finish(d, item);
    return 0;
}

static int take(driver *d, const rt_completion *c, rt_error *err)
{
    int item = (int)c->request, rc = 0;
    work *w = &d->works[item];
    w->pending--;
    d->tokens += c->ids_count;
    if (w->state.ask == CORRECT_SAMPLE) {
        rc = take_sample(d, item, c, err);
    } else {
        rt_buf text = {0};
        decode(d, c->ids, eval_ids_count(&d->run->eval.model->weights->arch, c), &text);
        w->cost.judge_tokens += c->ids_count;
        trace_answer(w, (int)(c->trajectory % SAMPLES), text.data, text.bytes);
        take_judgement(d, item, text.data, text.bytes);
        rt_buf_free(&text);
    }
    return rc == 0 && w->pending == 0 ? advance(d, item, err) : rc;
}

static int start(driver *d, rt_error *err)
{
    int item = d->next++;
    if (d->run->eval.items[item].left_out)
        return 0;
    d->in_flight++;
    correct_begin(&d->works[item].state);
    d->works[item].attempts = d->run->traced ? json_array() : NULL;
    return advance(d, item, err);
}

static void progress(driver *d)
{
    const correct_run *run = d->run;
    const eval_run *eval = &run->eval;
    /* at most so many chains a problem: the share of them that is there counts as work done */
    double begun = (double)d->begun / (run->settings.iterations + 1);
    bool last = d->in_flight == 0 && d->next == eval->count;
    eval_progress_show(&d->progress, d->done, eval->count - eval->left_out,
                       run->settings.control ? "problems of the control" : "problems", begun,
                       d->right, d->tokens, last);
}

static int drive(driver *d, rt_error *err)
{
    const eval_run *eval = &d->run->eval;
    int ahead = 2 * eval->slots, rc = 0;
    while (rc == 0 && (d->in_flight > 0 || d->next < eval->count)) {
        if (atomic_load(eval->stop))
            return rt_fail(err, RT_ERR_STOPPED, "stopped; nothing was measured");
        while (rc == 0 && d->in_flight < ahead && d->next < eval->count)
            rc = start(d, err);
        if (rc == 0)
            rc = RT_MIN(0, rt_engine_step(d->engine, err));
        for (rt_completion c; rc == 0 && rt_engine_collect(d->engine, &c); rt_completion_free(&c))
            rc = take(d, &c, err);
        if (rc == 0)
            progress(d);
    }
    return rc;
}

int correct_answers(correct_run *run, rt_error *err)
{
    eval_run *eval = &run->eval;
    int64_t context = eval->model->weights->arch.context, longest = 0;
    for (int i = 0; i < eval->count; i++)
        if (!eval->items[i].left_out)
            longest = RT_MAX(longest, (int64_t)eval->items[i].ids_count);
    /* a judge reads the problem and the chain within its own words, and writes some more */
    int64_t room = 2 * (longest + rt_config_max_tokens(eval->config)) + JUDGE_WORDS +
                   run->judge_tokens;
    driver d = {.run = run, .room = (int)RT_MIN(context, room)};
    eval->slots = (int)RT_MIN((int64_t)eval->slots,
                              (int64_t)(eval->count - eval->left_out) *
                                  RT_MAX(run->settings.votes, run->settings.verifications));
    eval->plain = run->settings.token;
    int rc = eval_engine_new(&d.engine, eval, d.room, err);
    if (rc != 0)
        return rc;
    d.works = rt_alloc((size_t)eval->count * sizeof *d.works);
    d.arena = rt_arena_new(1 << 16);
    run->outcomes = rt_arena_alloc(eval->arena, (size_t)eval->count * sizeof *run->outcomes);
    eval_progress_begin(&d.progress);
    rc = drive(&d, err);
    run->seconds = eval_progress_end(&d.progress, rc == 0);
    for (int i = 0; i < eval->count; i++) {
        rt_free(d.works[i].ids);
        rt_free(d.works[i].ends);
        json_decref(d.works[i].attempts);
    }
    rt_free(d.works);
    rt_arena_free(&d.arena);
    rt_engine_free(&d.engine);
    return rc;
}

void correct_run_free(correct_run *run)
{
    for (int i = 0; run->outcomes && i < run->eval.count; i++)
        json_decref(run->outcomes[i].attempts);
    run->outcomes = NULL; /* of the evaluation's arena */
}
