/*
 * eval --method debate: agents of one model, each with its adapter where it has one, argue over held-out
 * problems, in this process: a turn is sampled as soon as what it quotes is there. What is measured is the
 * library's (debate/debate.h).
 */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "debate/debate.h"
#include "deploy/eval_session.h"

enum { NUMBER_BITS = 16, NUMBER_ALONE = 0xffff }; /* of an item's request: its answers without peers */

typedef struct options {
    eval_options common;
    int64_t agents, rounds, peers, k;
    const char *vote, *trace;
    double temperature;
    bool diversity;
} options;

typedef struct argument { /* one problem */
    rt_debate *debate;
    bool asked[RT_AGENTS_MAX * RT_ROUNDS_MAX], left_out;
    int turns_left;
    const char **answers; // (k) of one agent alone
    int alone;
} argument;

typedef struct arena_run {
    const options *o;
    eval_session *session;
    rt_chat *chat;
    rt_debate_rules *rules;
    rt_engine *engine;
    argument *arguments; // (session->run.count)
    int next, left_out;
    int64_t done, wanted, right, tokens, prompt_tokens, computed;
    eval_progress progress;
    rt_debate_measures sums;
    double s, s_squares;
    int64_t passed, majority, sampled;
} arena_run;

/* ---- asking ---------------------------------------------------------------------------------- */

static const rt_debate_settings *settings_of(const arena_run *r)
{
    return &r->session->config.algorithm.debate;
}

static uint64_t debate_id(int item)
{
    return UINT64_C(1) << 61 | (uint64_t)item << 8;
}

static int turns_of(const argument *a)
{
    return a->debate->agents * a->debate->rounds;
}

/* number: of a turn, behind the turns of a summary, or NUMBER_ALONE. */
static int submit(arena_run *r, int item, int number, const rt_ids *ids, const uint64_t *trajectories,
                  int count, rt_error *err)
{
    const eval_run *run = &r->session->run;
    const argument *a = &r->arguments[item];
    rt_sampling sampling = eval_sampling(run, run->items[item].problem.task);
    int agent = number == NUMBER_ALONE ? 0 : number % a->debate->agents, adapter = run->model->adapter;
    if (adapter >= 0 && run->model->adapters->count > 1)
        adapter += agent;
    if (number != NUMBER_ALONE && number >= turns_of(a)) /* a summary is one piece of text */
        sampling.delimiter = sampling.terminal = NULL;
    r->prompt_tokens += (int64_t)ids->count;
    return rt_engine_submit(r->engine, (uint64_t)item << NUMBER_BITS | (uint64_t)number, ids->items,
                            (int)ids->count, trajectories, count, 0, adapter, &sampling, err);
}

static int ask_turn(arena_run *r, int item, int round, int agent, rt_error *err)
{
    argument *a = &r->arguments[item];
    int number = round * a->debate->agents + agent;
    uint64_t trajectory = a->debate->id + (uint64_t)number;
    rt_ids ids = {0};
    rt_prompt_report report;
    int rc = rt_debate_prompt(r->rules, a->debate, round, agent, &ids, &report, err);
    a->asked[number] = true;
    if (rc == 0)
        rc = submit(r, item, number, &ids, &trajectory, 1, err);
    rt_ids_free(&ids);
    return rc;
}

/* A text that is too long to be condensed is not quoted, as in training. */
static int ask_summary(arena_run *r, int item, int number, rt_error *err)
{
    argument *a = &r->arguments[item];
    int round = number / a->debate->agents, agent = number % a->debate->agents;
    uint64_t trajectory = a->debate->id + (uint64_t)(turns_of(a) + number);
    rt_ids ids = {0};
    int rc = rt_debate_summary_prompt(r->rules, a->debate, round, agent, &ids, err);
    if (rc == 0) {
        r->wanted++;
        rc = submit(r, item, turns_of(a) + number, &ids, &trajectory, 1, err);
    } else if (rc == RT_ERR_LIMIT) {
        rt_debate_turn(a->debate, round, agent)->summary = "";
        rc = 0;
    }
    rt_ids_free(&ids);
    return rc;
}

static int ask_ready(arena_run *r, int item, rt_error *err)
{
    argument *a = &r->arguments[item];
    for (int round = 0; round < a->debate->rounds; round++)
        for (int agent = 0; agent < a->debate->agents; agent++)
            if (!a->asked[round * a->debate->agents + agent] &&
                rt_debate_ready(settings_of(r), r->session->run.seed, a->debate, round, agent)) {
                int rc = ask_turn(r, item, round, agent, err);
                if (rc != 0)
                    return rc;
            }
    return 0;
}

/* The question to one agent, k times: what self-consistency is measured on. */
static int ask_alone(arena_run *r, int item, rt_error *err)
{
    argument *a = &r->arguments[item];
    int k = r->session->run.k;
    uint64_t *trajectories = rt_alloc((size_t)k * sizeof *trajectories);
    rt_ids ids = {0};
    rt_prompt_report report;
    for (int s = 0; s < k; s++)
        trajectories[s] = UINT64_C(1) << 62 | (uint64_t)item << 16 | (uint64_t)s;
    int rc = rt_debate_prompt(r->rules, a->debate, 0, 0, &ids, &report, err);
    if (rc == 0)
        rc = submit(r, item, NUMBER_ALONE, &ids, trajectories, k, err);
    rt_ids_free(&ids);
    rt_free(trajectories);
    return rc;
}

/* A question that does not fit is left out, with all that was to be asked of it. */
static int begin(arena_run *r, int item, rt_error *err)
{
    eval_run *run = &r->session->run;
    argument *a = &r->arguments[item];
    a->debate = rt_debate_new(settings_of(r), debate_id(item), &run->items[item].problem, run->arena);
    a->turns_left = a->debate->agents * a->debate->rounds;
    a->answers = rt_arena_alloc(run->arena, (size_t)run->k * sizeof *a->answers);
    int rc = ask_alone(r, item, err);
    if (rc == RT_ERR_LIMIT) {
        a->left_out = true;
        r->left_out++;
        r->wanted -= a->turns_left + run->k;
        return 0;
    }
    return rc != 0 ? rc : ask_ready(r, item, err);
}

/* ---- answers --------------------------------------------------------------------------------- */

static void *keep(rt_arena *arena, const void *data, size_t bytes)
{
    void *copy = rt_arena_alloc(arena, bytes + 1);
    if (bytes > 0)
        memcpy(copy, data, bytes);
    return copy;
}

static int take_turn(arena_run *r, int item, int number, rt_error *err)
{
    const argument *a = &r->arguments[item];
    const rt_turn *turn = &a->debate->turns[number];
    bool last = number / a->debate->agents == a->debate->rounds - 1;
    int rc = 0;
    if (settings_of(r)->summaries && !last && turn->text_bytes > 0)
        rc = ask_summary(r, item, number, err);
    return rc != 0 ? rc : ask_ready(r, item, err);
}

static int take(arena_run *r, const rt_completion *c, rt_error *err)
{
    eval_run *run = &r->session->run;
    int item = (int)(c->request >> NUMBER_BITS), number = (int)(c->request & NUMBER_ALONE);
    argument *a = &r->arguments[item];
    size_t count = (size_t)c->ids_count;
    int summary = number == NUMBER_ALONE ? -1 : number - turns_of(a);
    rt_turn other = {0}, *turn = number < turns_of(a) ? &a->debate->turns[number] : &other;
    r->tokens += c->ids_count;
    r->done++;
    turn->trajectory = c->trajectory;
    turn->ids = keep(run->arena, c->ids, count * sizeof *c->ids);
    turn->logprobs = keep(run->arena, c->logprobs, count * sizeof *c->logprobs);
    turn->ids_count = c->ids_count;
    rt_turn_read(turn, run->model->tokenizer, a->debate->problem->grader, run->arena);
    if (summary >= 0) {
        a->debate->turns[summary].summary = turn->text;
        return ask_ready(r, item, err);
    }
    r->right += turn->answer &&
                rt_answer_equal(a->debate->problem->grader, turn->answer, a->debate->problem->gold);
    if (number == NUMBER_ALONE) {
        a->answers[c->trajectory & 0xffff] = turn->answer;
        a->alone++;
        return 0;
    }
    a->turns_left--;
    return take_turn(r, item, number, err);
}

static int work(arena_run *r, rt_error *err)
{
    eval_run *run = &r->session->run;
    for (int left = 1; left > 0 || r->next < run->count;) {
        if (atomic_load(run->stop))
            return rt_fail(err, RT_ERR_STOPPED, "stopped; nothing was measured");
        rt_engine_stats stats = rt_engine_get_stats(r->engine);
        int64_t queued = stats.active + stats.waiting;
        for (; queued < 2 * (int64_t)run->slots && r->next < run->count;
             queued += run->k + settings_of(r)->agents) {
            int rc = begin(r, r->next++, err);
            if (rc != 0)
                return rc;
        }
        left = rt_engine_step(r->engine, err);
        if (left < 0)
            return left;
        for (rt_completion c; rt_engine_collect(r->engine, &c);) {
            int rc = take(r, &c, err);
            rt_completion_free(&c);
            if (rc != 0)
                return rc;
            left = 1; /* it may have been waited for */
        }
        eval_progress_show(&r->progress, r->done, r->wanted, "texts", 0, r->right, r->tokens, false);
    }
    return 0;
}

static void measure(arena_run *r)
{
    eval_run *run = &r->session->run;
    for (int i = 0; i < run->count; i++) {
        const argument *a = &r->arguments[i];
        if (a->left_out)
            continue;
        RT_ASSERT(a->turns_left == 0 && a->alone == run->k);
        rt_measure_debate(&r->sums, settings_of(r), a->debate);
        rt_sample_measures m;
        rt_measure_samples(a->debate->problem->grader, a->answers, run->k, a->debate->problem->gold, &m);
        r->s += m.s;
        r->s_squares += m.s * m.s;
        r->passed += m.pass;
        r->majority += m.majority;
        r->sampled++;
    }
}

static int run_debates(arena_run *r, rt_error *err)
{
    eval_run *run = &r->session->run;
    const rt_config *config = run->config;
    int64_t most = rt_config_max_tokens(config), context = run->model->weights->arch.context;
    int rc = eval_problems(run, r->session->limit, err);
    if (rc == 0 && context - most < 16)
        rc = rt_fail(err, RT_ERR_USAGE, "sampling.max_tokens is %lld and the context %lld: no room for a "
                     "debate; lower it with --set sampling.max_tokens=N", (long long)most,
                     (long long)context);
    if (rc == 0)
        rc = rt_chat_new(&r->chat, run->model->tokenizer, r->session->path, config->prompts.chat, err);
    if (rc == 0)
        rc = rt_debate_rules_new(&r->rules, config, run->tasks, run->model->tokenizer, r->chat,
                                 (int)(context - most), err);
    if (rc == 0)
        rc = eval_engine_new(&r->engine, run, RT_MIN(context, 4 * most), err);
    if (rc != 0)
        return rc;
    r->arguments = rt_alloc((size_t)run->count * sizeof *r->arguments + 1);
    r->wanted = run->count * (settings_of(r)->agents * settings_of(r)->rounds + run->k);
    eval_progress_begin(&r->progress);
    rc = work(r, err);
    if (rc == 0)
        eval_progress_show(&r->progress, r->done, r->wanted, "texts", 0, r->right, r->tokens, true);
    run->seconds = eval_progress_end(&r->progress, rc == 0);
    r->computed = rt_engine_get_stats(r->engine).tokens_prefill;
    if (rc == 0)
        measure(r);
    return rc;
}

/* ---- what is printed ------------------------------------------------------------------------- */

static double share(int64_t part, int64_t whole)
{
    return whole > 0 ? (double)part / (double)whole : 0;
}

static json_t *proportion(int64_t part, int64_t whole)
{
    double low = 0, high = 1;
    if (whole > 0)
        rt_wilson(part, whole, &low, &high);
    return json_pack("{s:f, s:f, s:f, s:I, s:s}", "value", share(part, whole), "low", low, "high", high,
                     "count", (json_int_t)whole, "interval", "wilson");
}

static json_t *rounds_json(const arena_run *r)
{
    json_t *list = json_array();
    for (int i = 0; i < settings_of(r)->rounds; i++) {
        const struct rt_round_measures *m = &r->sums.rounds[i];
        json_array_append_new(
            list, json_pack("{s:i, s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:f}", "round", i + 1, "accuracy",
                            share(m->right, m->turns), "vote", share(m->vote_right, r->sums.debates),
                            "switches", share(m->switches, m->turns), "under_majority",
                            (json_int_t)m->under_majority, "sycophantic", (json_int_t)m->sycophantic,
                            "under_minority", (json_int_t)m->under_minority, "persuaded",
                            (json_int_t)m->persuaded, "tokens", share(m->tokens, m->turns)));
    }
    return list;
}

/* One hash an adapter, as a run's summary has them. */
static json_t *adapter_hashes(const rt_adapters *adapters)
{
    json_t *list = json_array();
    size_t bytes = rt_weights_bytes(adapters->weights) / (size_t)adapters->count;
    for (int i = 0; i < adapters->count; i++) {
        char hash[33];
        rt_hash_hex(rt_hash((const uint8_t *)adapters->weights->data + (size_t)i * bytes, bytes), hash);
        json_array_append_new(list, json_string(hash));
    }
    return list;
}

static void print_json(const arena_run *r)
{
    const rt_debate_settings *settings = settings_of(r);
    const rt_debate_measures *m = &r->sums;
    json_t *root = json_object(), *agreement = json_array(), *agents = json_array();
    for (int i = 0; i <= settings->agents; i++)
        json_array_append_new(agreement, json_integer(m->agreement[i]));
    for (int i = 0; i < settings->agents; i++)
        json_array_append_new(agents, json_real(share(m->agent_right[i], m->agent_turns[i])));
    double n = (double)RT_MAX(r->sampled, 1), mean = r->s / n;
    double half = 1.96 * sqrt(fmax(r->s_squares / n - mean * mean, 0) / n);
    json_object_set_new(root, "debates", json_integer(m->debates));
    json_object_set_new(root, "left_out", json_integer(r->left_out));
    json_object_set_new(root, "agents", json_integer(settings->agents));
    json_object_set_new(root, "debate_accuracy", proportion(m->right, m->debates));
    json_object_set_new(root, "single_accuracy", json_real(share(m->rounds[0].right, m->rounds[0].turns)));
    json_object_set_new(root, "agent_accuracy", agents);
    if (r->session->model.adapters)
        json_object_set_new(root, "adapter_hashes", adapter_hashes(r->session->model.adapters));
    json_object_set_new(root, "rounds", rounds_json(r));
    json_object_set_new(root, "agreement", agreement);
    json_object_set_new(root, "unparseable", json_integer(m->unparseable));
    json_object_set_new(root, "k", json_integer(r->session->run.k));
    json_object_set_new(root, "self_consistency",
                        json_pack("{s:f, s:f, s:f, s:s}", "value", mean, "low", fmax(mean - half, 0),
                                  "high", fmin(mean + half, 1), "interval", "normal"));
    json_object_set_new(root, "pass", proportion(r->passed, r->sampled));
    json_object_set_new(root, "majority", proportion(r->majority, r->sampled));
    json_object_set_new(root, "tokens", json_integer(r->tokens));
    json_object_set_new(root, "prompt_tokens", json_integer(r->prompt_tokens));
    json_object_set_new(root, "prompt_tokens_computed", json_integer(r->computed));
    json_object_set_new(root, "seconds", json_real(r->session->run.seconds));
    eval_session_print_json(r->session, "debate", root);
}

static void print_share(const char *name, int64_t part, int64_t whole)
{
    double low = 0, high = 1;
    if (whole > 0)
        rt_wilson(part, whole, &low, &high);
    printf("%-22s %5.1f %%  [%.1f, %.1f]\n", name, 100 * share(part, whole), 100 * low, 100 * high);
}

static void print_text(const arena_run *r)
{
    const rt_debate_settings *settings = settings_of(r);
    const rt_debate_measures *m = &r->sums;
    printf("%lld debates of %lld agents in %lld rounds (95 %% intervals: Wilson over debates)\n",
           (long long)m->debates, (long long)settings->agents, (long long)settings->rounds);
    print_share("vote", m->right, m->debates);
    print_share("majority alone", r->majority, r->sampled);
    print_share("pass alone", r->passed, r->sampled);
    printf("%-22s %5.1f %%  (%d answers of one agent to each problem)\n", "self-consistency",
           100 * r->s / (double)RT_MAX(r->sampled, 1), r->session->run.k);
    for (int i = 0; i < settings->rounds; i++) {
        const struct rt_round_measures *o = &m->rounds[i];
        printf("round %d: an agent %.1f %%, the vote %.1f %%, %.1f tokens", i + 1,
               100 * share(o->right, o->turns), 100 * share(o->vote_right, m->debates),
               share(o->tokens, o->turns));
        if (i > 0)
            printf(", %.1f %% switch; to a wrong majority %lld of %lld, to a right minority %lld of %lld",
                   100 * share(o->switches, o->turns), (long long)o->sycophantic,
                   (long long)o->under_majority, (long long)o->persuaded, (long long)o->under_minority);
        printf("\n");
    }
    printf("last round, by agent:");
    for (int i = 0; i < settings->agents; i++)
        printf(" %.1f %%", 100 * share(m->agent_right[i], m->agent_turns[i]));
    printf("\nagreement (debates by the size of their largest group):");
    for (int i = 0; i <= settings->agents; i++)
        printf(" %d: %lld", i, (long long)m->agreement[i]);
    printf("; answers that can't be read: %lld\n", (long long)m->unparseable);
    printf("%lld tokens sampled; of %lld prompt tokens %lld computed, the rest was there\n",
           (long long)r->tokens, (long long)r->prompt_tokens, (long long)r->computed);
    if (r->left_out > 0)
        printf("%d problems left out: the question does not fit the context\n", r->left_out);
}

/* One debate a line: enough to count everything again. */
static int write_trace(const arena_run *r, rt_error *err)
{
    rt_buf out = {0};
    for (int i = 0; i < r->session->run.count; i++) {
        const argument *a = &r->arguments[i];
        if (a->left_out)
            continue;
        json_t *turns = json_array();
        for (int n = 0; n < a->debate->agents * a->debate->rounds; n++) {
            const rt_turn *turn = &a->debate->turns[n];
            json_t *said = json_pack("{s:i, s:i, s:o, s:o, s:i}", "round", n / a->debate->agents, "agent",
                                     n % a->debate->agents, "text",
                                     cli_json_text(turn->text, turn->text_bytes), "answer",
                                     turn->answer ? cli_json_text(turn->answer, strlen(turn->answer))
                                                  : json_null(),
                                     "tokens", turn->ids_count);
            if (turn->summary)
                json_object_set_new(said, "summary", cli_json_text(turn->summary, strlen(turn->summary)));
            json_array_append_new(turns, said);
        }
        const rt_problem *problem = a->debate->problem;
        json_t *line = json_pack("{s:o, s:o, s:o}", "prompt",
                                 cli_json_text(problem->prompt, strlen(problem->prompt)), "gold",
                                 cli_json_text(problem->gold, strlen(problem->gold)), "turns", turns);
        char *text = json_dumps(line, JSON_COMPACT);
        rt_buf_addf(&out, "%s\n", text);
        free(text);
        json_decref(line);
    }
    int rc = rt_file_write(r->o->trace, out.data ? out.data : "", out.bytes, err);
    rt_buf_free(&out);
    return rc;
}

/* ---- the command ----------------------------------------------------------------------------- */

static int settle(const options *o, rt_config *config)
{
    static const char *const votes[] = {"maca", "strict", "weighted"};
    rt_debate_settings *settings = &config->algorithm.debate;
    settings->agents = o->agents > 0 ? o->agents : settings->agents;
    settings->rounds = o->rounds > 0 ? o->rounds : settings->rounds;
    settings->peers = o->peers > 0 ? o->peers : settings->peers;
    settings->diversity = o->diversity || settings->diversity;
    for (int i = 0; o->vote && i < 3; i++)
        if (strcmp(o->vote, votes[i]) == 0)
            settings->vote = i;
    if (o->vote && strcmp(o->vote, votes[settings->vote]) != 0)
        return cli_usage("--vote is maca, strict or weighted, not \"%s\"", o->vote);
    if (settings->agents < 2 || settings->agents > RT_AGENTS_MAX || settings->rounds > RT_ROUNDS_MAX ||
        settings->peers >= RT_AGENTS_MAX)
        return cli_usage("a debate has 2 to %d agents, 1 to %d rounds and at most %d peers", RT_AGENTS_MAX,
                         RT_ROUNDS_MAX, RT_AGENTS_MAX - 1);
    return 0;
}

static int check_adapters(const char *path, const eval_session *session, rt_error *err)
{
    int adapters = session->model.adapters ? session->model.adapters->count : 0;
    int64_t agents = session->config.algorithm.debate.agents;
    if (adapters > 1 && agents > adapters)
        return rt_fail(err, RT_ERR_USAGE, "%s holds %d adapters, one an agent, and %lld agents are to argue; "
                       "give --agents N with at most %d, or one of its adapter-K folders as MODEL", path,
                       adapters, (long long)agents, adapters);
    return 0;
}

static int evaluate(const char *path, const options *o)
{
    eval_session session;
    rt_error err = {0};
    arena_run r = {.o = o, .session = &session};
    int rc = eval_session_open(&session, path, &o->common, &err), used = 0;
    if (rc == 0)
        used = settle(o, &session.config);
    if (rc == 0 && used == 0)
        rc = check_adapters(path, &session, &err);
    if (rc == 0 && used == 0) {
        session.run.k = (int)o->k;
        session.run.temperature = isnan(o->temperature) ? session.config.sampling.temperature
                                                        : o->temperature;
        rc = run_debates(&r, &err);
    }
    if (rc == 0 && used == 0 && o->common.json)
        print_json(&r);
    else if (rc == 0 && used == 0)
        print_text(&r);
    if (rc == 0 && used == 0 && o->trace)
        rc = write_trace(&r, &err);
    if (r.engine)
        rt_engine_free(&r.engine);
    rt_debate_rules_free(&r.rules);
    rt_chat_free(&r.chat);
    rt_free(r.arguments);
    session.run.k = 0; /* the items hold no graded answers */
    eval_session_close(&session);
    return rc != 0 ? cli_fail(&err) : used;
}

int cmd_eval_debate(int argc, char **argv)
{
    const char *path;
    int words;
    options o = {.common = EVAL_DEFAULTS, .k = 8, .temperature = NAN};
    o.common.agents = true;
    const cli_option list[] = {
        {"--agents", OPTION_INTEGER, &o.agents, "M", "who argue (default algorithm.debate.agents, 3)"},
        {"--rounds", OPTION_INTEGER, &o.rounds, "R", "default algorithm.debate.rounds, 2"},
        {"--peers", OPTION_INTEGER, &o.peers, "N", "most answers of others that are read (default 5)"},
        {"--vote", OPTION_TEXT, &o.vote, "RULE", "maca (default), strict or weighted"},
        {"--diversity", OPTION_FLAG, &o.diversity, NULL, "ask for a method that differs from the peers'"},
        {"--k", OPTION_INTEGER, &o.k, "K", "answers of one agent alone, for self-consistency (default 8)"},
        {"--temperature", OPTION_REAL, &o.temperature, "T", "default: sampling.temperature"},
        {"--trace", OPTION_TEXT, &o.trace, "FILE", "every debate as a line of JSON"},
        EVAL_OPTIONS(o.common),
    };
    int rc = cli_parse(argc, argv,
                       "eval MODEL --method debate --task T | --data F [--agents M] [--rounds R] [--json]",
                       "Agents of one model answer, read each other's answers and answer again; measured\n"
                       "are their votes, who switched to what, and self-consistency of an agent alone.",
                       list, RT_COUNT(list), &path, &words, 1);
    if (rc != 0)
        return rc < 0 ? 0 : rc;
    if (words != 1)
        return cli_usage("which model? usage: retake eval MODEL --method debate --task T");
    if (o.agents < 0 || o.rounds < 0 || o.peers < 0 || o.k < 1 || o.k > 256)
        return cli_usage("--agents, --rounds and --peers are positive, --k is 1 to 256");
    rc = eval_options_check(&o.common);
    return rc != 0 ? rc : evaluate(path, &o);
}
