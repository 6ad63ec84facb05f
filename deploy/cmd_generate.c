/* generate: one prompt from the command line, or a JSONL filter with continuous batching. */
#include <string.h>

#include "deploy/cli.h"

#define STOPS_MAX 16
#define SAMPLES_MAX 1024

typedef struct generator {
    cli_model model;
    rt_chat *chat;
    rt_engine *engine;
    rt_sampling defaults;
    int64_t n;
} generator;

typedef struct request {
    int32_t *ids;
    size_t ids_count, ids_capacity;
    rt_sampling sampling;
    const char *stops[STOPS_MAX];
    int64_t n;
} request;

static const char *const finish_names[] = {
    [RT_END_EOS] = "eos",       [RT_END_STOP] = "stop",       [RT_END_LENGTH] = "length",
    [RT_END_TERMINAL] = "stop", [RT_END_THOUGHTS] = "length", [RT_END_CONTEXT] = "length",
};

static int number(const json_t *root, const char *key, double low, double high, double *value,
                  rt_error *err)
{
    const json_t *item = json_object_get(root, key);
    if (!item)
        return 0;
    double given = json_number_value(item);
    if (!json_is_number(item) || given < low || given > high)
        return rt_fail(err, RT_ERR_INPUT, "\"%s\" must be a number from %g to %g", key, low, high);
    *value = given;
    return 0;
}

static int read_stops(const json_t *root, request *r, rt_error *err)
{
    const json_t *list = json_object_get(root, "stop");
    if (!list)
        return 0;
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count > STOPS_MAX)
        return rt_fail(err, RT_ERR_INPUT, "\"stop\" must be a list of at most %d texts", STOPS_MAX);
    for (size_t i = 0; i < count; i++) {
        r->stops[i] = json_string_value(json_array_get(list, i));
        if (!r->stops[i] || !*r->stops[i])
            return rt_fail(err, RT_ERR_INPUT,
                           "\"stop\" must be a list of texts that are not empty");
    }
    r->sampling.stops = r->stops;
    r->sampling.stops_count = (int)count;
    return 0;
}

static int read_messages(const generator *g, const json_t *list, request *r, rt_error *err)
{
    int n;
    rt_chat_message *messages = cli_messages(list, &n, err);
    if (!messages)
        return RT_ERR_INPUT;
    rt_ids ids = {0};
    int rc = rt_chat_render(g->chat, messages, n, true, &ids, NULL, err);
    r->ids = ids.items;
    r->ids_count = ids.count;
    r->ids_capacity = ids.capacity;
    rt_free(messages);
    return rc;
}

static int read_prompt(const generator *g, const json_t *root, request *r, rt_error *err)
{
    const json_t *text = json_object_get(root, "text"), *ids = json_object_get(root, "ids");
    if (json_object_get(root, "messages"))
        return read_messages(g, json_object_get(root, "messages"), r, err);
    if (json_is_string(text))
        return rt_tokenizer_encode(g->model.tokenizer, json_string_value(text),
                                   json_string_length(text), &r->ids, &r->ids_count,
                                   &r->ids_capacity, err);
    int count;
    r->ids = cli_ids(ids, g->model.weights->arch.vocab, &count);
    if (count < 0)
        return rt_fail(err, RT_ERR_INPUT,
                       "give \"text\", \"messages\", or \"ids\" as whole numbers from 0 to %d",
                       g->model.weights->arch.vocab - 1);
    r->ids_count = (size_t)count;
    return 0;
}

static int read_request(const generator *g, const json_t *root, request *r, rt_error *err)
{
    r->sampling = g->defaults;
    r->n = g->n;
    double n = (double)g->n, tokens = g->defaults.max_tokens, top_k = g->defaults.top_k;
    double seed = (double)g->defaults.seed;
    int rc = number(root, "n", 1, SAMPLES_MAX, &n, err);
    if (rc == 0)
        rc = number(root, "max_tokens", 1, 1 << 20, &tokens, err);
    if (rc == 0)
        rc = number(root, "temperature", 0, 100, &r->sampling.temperature, err);
    if (rc == 0)
        rc = number(root, "top_p", 0, 1, &r->sampling.top_p, err);
    if (rc == 0)
        rc = number(root, "top_k", 0, 1 << 20, &top_k, err);
    if (rc == 0)
        rc = number(root, "seed", 0, 9007199254740992.0, &seed, err);
    if (rc == 0)
        rc = read_stops(root, r, err);
    if (rc == 0)
        rc = read_prompt(g, root, r, err);
    if (rc == 0 && r->ids_count == 0)
        rc = rt_fail(err, RT_ERR_INPUT, "the prompt has no tokens");
    r->n = (int64_t)n;
    r->sampling.max_tokens = (int)tokens;
    r->sampling.top_k = (int)top_k;
    r->sampling.seed = (uint64_t)seed;
    return rc;
}

static json_t *completion_object(const generator *g, const rt_completion *c)
{
    json_t *logprobs = json_array();
    for (int i = 0; i < c->ids_count; i++)
        json_array_append_new(logprobs, cli_json_float(c->logprobs[i]));
    rt_buf text = {0};
    rt_buf_add(&text, "", 0);
    rt_tokenizer_decode(g->model.tokenizer, c->ids, (size_t)c->ids_count, &text);
    size_t valid = rt_utf8_valid(text.data, text.bytes);
    json_t *object = json_pack("{s:o, s:o, s:o, s:s}", "ids", cli_json_ids(c->ids, c->ids_count),
                               "text", json_stringn(text.data, valid), "logprobs", logprobs,
                               "finish", finish_names[c->end]);
    if (g->defaults.delimiter)
        json_object_set_new(object, "thought_ends",
                            cli_json_ids(c->thought_ends, c->thoughts_count));
    rt_buf_free(&text);
    return object;
}

static void collect(generator *g, json_t **lists)
{
    for (rt_completion c; rt_engine_collect(g->engine, &c); rt_completion_free(&c))
        json_array_set_new(lists[c.request], (size_t)c.trajectory, completion_object(g, &c));
}

static json_t *submit(generator *g, json_t *root, int index, rt_error *err)
{
    request r = {0};
    int rc = read_request(g, root, &r, err);
    json_t *list = NULL;
    if (rc == 0) {
        uint64_t *trajectories = rt_alloc((size_t)r.n * sizeof *trajectories);
        for (int64_t i = 0; i < r.n; i++)
            trajectories[i] = (uint64_t)i;
        rc = rt_engine_submit(g->engine, (uint64_t)index, r.ids, (int)r.ids_count, trajectories,
                              (int)r.n, 0, g->model.adapter, &r.sampling, err);
        rt_free(trajectories);
    }
    if (rc == 0) {
        list = json_array();
        for (int64_t i = 0; i < r.n; i++)
            json_array_append_new(list, json_null());
    }
    rt_free(r.ids);
    return list;
}

static void generate_batch(void *context, json_t **requests, json_t **answers, int count)
{
    generator *g = context;
    json_t **lists = rt_alloc((size_t)count * sizeof *lists);
    rt_error err;
    for (int i = 0; i < count; i++) {
        if (!requests[i])
            continue;
        lists[i] = submit(g, requests[i], i, &err);
        if (!lists[i])
            answers[i] = cli_error_object("%s", err.message);
    }
    int left;
    while ((left = rt_engine_step(g->engine, &err)) > 0)
        collect(g, lists);
    collect(g, lists);
    for (int i = 0; i < count; i++) {
        if (!lists[i])
            continue;
        if (left < 0) {
            json_decref(lists[i]);
            answers[i] = cli_error_object("%s", err.message);
        } else {
            answers[i] = json_pack("{s:o}", "completions", lists[i]);
        }
    }
    rt_free(lists);
}

static int one_prompt(generator *g, const char *prompt)
{
    json_t *root = json_pack("{s:s}", "text", prompt), *answer = NULL;
    if (!root)
        return cli_usage("--prompt is not valid UTF-8");
    generate_batch(g, &root, &answer, 1);
    const char *error = json_string_value(json_object_get(answer, "error"));
    int rc = error ? 1 : 0;
    if (error)
        fprintf(stderr, "retake: %s\n", error);
    json_t *completions = json_object_get(answer, "completions");
    for (size_t i = 0; i < json_array_size(completions); i++) {
        json_t *text = json_object_get(json_array_get(completions, i), "text");
        printf("%s%.*s\n", prompt, (int)json_string_length(text), json_string_value(text));
    }
    json_decref(root), json_decref(answer);
    return rc;
}

int cmd_generate(int argc, char **argv)
{
    const char *path, *prompt = NULL, *dtype = "f32", *device = "cpu";
    int64_t threads = 0, slots = 64, tokens = 256, top_k = 0, seed = 1;
    bool thoughts = false;
    generator g = {.n = 1, .defaults = {.temperature = 1, .top_p = 1}};
    const char *adapter = NULL, *base = NULL;
    const cli_option options[] = {
        CLI_ADAPTER_OPTIONS(adapter, base),
        {"--prompt", OPTION_TEXT, &prompt, "TEXT", "without it: a JSONL filter on standard input"},
        {"--n", OPTION_INTEGER, &g.n, "N", "completions of each prompt (default 1)"},
        {"--max-tokens", OPTION_INTEGER, &tokens, "N", "default 256"},
        {"--temperature", OPTION_REAL, &g.defaults.temperature, "T", "0 = greedy (default 1)"},
        {"--top-p", OPTION_REAL, &g.defaults.top_p, "P", "default 1: off"},
        {"--top-k", OPTION_INTEGER, &top_k, "K", "default 0: off"},
        {"--seed", OPTION_INTEGER, &seed, "N", "same seed, same text (default 1)"},
        {"--thoughts", OPTION_FLAG, &thoughts, NULL,
         "think in thoughts: end after one that holds \\boxed{"},
        {"--slots", OPTION_INTEGER, &slots, "N", "sequences decoded together (default 64)"},
        {"--dtype", OPTION_TEXT, &dtype, "f32|bf16", "weights in memory (default f32)"},
        {"--device", OPTION_TEXT, &device, "cpu|ref|cuda", "backend (default cpu)"},
        {"--threads", OPTION_INTEGER, &threads, "N", "default: all cores; 1 if narrow"},
    };
    int words;
    int rc = cli_parse(argc, argv, "generate MODEL [--prompt TEXT] …",
                       "Samples text. Filter: {\"text\"|\"ids\"|\"messages\", \"n\"?, \"max_tokens\"?, "
                       "\"temperature\"?, \"top_p\"?, "
                       "\"top_k\"?, \"seed\"?, \"stop\"?} → {\"completions\": [{\"ids\", \"text\", "
                       "\"logprobs\", \"finish\"}]}.",
                       options, RT_COUNT(options), &path, &words, 1);
    if (rc != 0)
        return rc < 0 ? 0 : rc;
    if (words != 1)
        return cli_usage("which model? usage: retake generate MODEL");
    if (g.n < 1 || g.n > SAMPLES_MAX || tokens < 1 || slots < 1 || top_k < 0 || seed < 0)
        return cli_usage(
            "--n is 1 to %d, --max-tokens and --slots at least 1, --top-k and --seed at least 0",
            SAMPLES_MAX);
    g.defaults.max_tokens = (int)tokens;
    g.defaults.top_k = (int)top_k;
    g.defaults.seed = (uint64_t)seed;
    if (thoughts) {
        g.defaults.delimiter = "</thought>";
        g.defaults.terminal = "\\boxed{";
        g.defaults.thoughts_max = 20;
        g.defaults.thought_tokens_max = 256;
    }
    rt_error err;
    if (cli_model_open_adapter(&g.model, path, adapter, base, dtype, device, threads, &err) != 0)
        return cli_fail(&err);
    rc = rt_chat_new(&g.chat, g.model.tokenizer, path, "auto", &err);
    if (rc == 0)
        rc = rt_engine_new(&g.engine, g.model.net, g.model.tokenizer, (int)slots, 0, &err);
    if (rc != 0)
        rc = cli_fail(&err);
    else {
        rc = prompt ? one_prompt(&g, prompt) : cli_filter(generate_batch, &g, 64);
        rt_engine_free(&g.engine);
    }
    rt_chat_free(&g.chat);
    cli_model_close(&g.model);
    return rc;
}
