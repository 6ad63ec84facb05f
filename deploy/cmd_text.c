/* The filters that need no sampling: tokenize, score, grade. */
#include <math.h>
#include <string.h>

#include "deploy/cli.h"
#include "tasks/tasks.h"

/* ---- tokenize ----------------------------------------------------------------------------------
 */

static json_t *tokenize_text(const rt_tokenizer *tokenizer, const json_t *text)
{
    if (!json_is_string(text))
        return cli_error_object("\"text\" must be a text");
    int32_t *ids = NULL;
    size_t count = 0, capacity = 0;
    rt_error err;
    int rc = rt_tokenizer_encode(tokenizer, json_string_value(text), json_string_length(text), &ids,
                                 &count, &capacity, &err);
    json_t *answer = rc != 0 ? cli_error_object("%s", err.message)
                             : json_pack("{s:o}", "ids", cli_json_ids(ids, (int)count));
    rt_free(ids);
    return answer;
}

static json_t *detokenize(const rt_tokenizer *tokenizer, const json_t *list)
{
    int count;
    int32_t *ids = cli_ids(list, rt_tokenizer_vocab(tokenizer), &count);
    if (count < 0)
        return cli_error_object("\"ids\" must be a list of whole numbers from 0 to %d",
                                rt_tokenizer_vocab(tokenizer) - 1);
    rt_buf text = {0};
    rt_buf_add(&text, "", 0);
    rt_tokenizer_decode(tokenizer, ids, (size_t)count, &text);
    json_t *answer = json_pack("{s:o}", "text", cli_json_text(text.data, text.bytes));
    rt_buf_free(&text);
    rt_free(ids);
    return answer;
}

typedef struct tokenize_context {
    rt_tokenizer *tokenizer;
    rt_chat *chat;
} tokenize_context;

static json_t *tokenize_messages(const tokenize_context *t, const json_t *list, const json_t *answer)
{
    int count;
    rt_error err;
    rt_chat_message *messages = cli_messages(list, &count, &err);
    if (!messages)
        return cli_error_object("%s", err.message);
    if (answer && !json_is_boolean(answer)) {
        rt_free(messages);
        return cli_error_object("\"add_generation_prompt\" must be true or false");
    }
    rt_ids ids = {0};
    rt_buf text = {0};
    rt_buf_add(&text, "", 0);
    int rc = rt_chat_render(t->chat, messages, count, json_is_true(answer), &ids, &text, &err);
    json_t *object = rc != 0 ? cli_error_object("%s", err.message)
                             : json_pack("{s:o, s:o}", "text", cli_json_text(text.data, text.bytes),
                                         "ids", cli_json_ids(ids.items, (int)ids.count));
    rt_ids_free(&ids);
    rt_buf_free(&text);
    rt_free(messages);
    return object;
}

static void tokenize_batch(void *context, json_t **requests, json_t **answers, int count)
{
    const tokenize_context *t = context;
    for (int i = 0; i < count; i++) {
        if (!requests[i])
            continue;
        const json_t *text = json_object_get(requests[i], "text"),
                     *ids = json_object_get(requests[i], "ids"),
                     *messages = json_object_get(requests[i], "messages"),
                     *answer = json_object_get(requests[i], "add_generation_prompt");
        answers[i] = text       ? tokenize_text(t->tokenizer, text)
                     : ids      ? detokenize(t->tokenizer, ids)
                     : messages ? tokenize_messages(t, messages, answer)
                                : cli_error_object("give \"text\", \"ids\" or \"messages\"");
    }
}

int cmd_tokenize(int argc, char **argv)
{
    const char *path, *form = "auto";
    const cli_option options[] = {
        {"--chat", OPTION_TEXT, &form, "auto|chatml|plain", "form of messages (default auto)"},
    };
    int words;
    int rc = cli_parse(
        argc, argv, "tokenize MODEL [--chat FORM] < requests.jsonl",
        "Filter: {\"text\"} → {\"ids\"}; {\"ids\"} → {\"text\"}; {\"messages\": [{\"role\", "
        "\"content\"}],\n\"add_generation_prompt\"?: true} → {\"text\", \"ids\"}. Special tokens "
        "inside a text are recognised,\nnone are added; inside content they stay text.",
        options, RT_COUNT(options), &path, &words, 1);
    if (rc != 0)
        return rc < 0 ? 0 : rc;
    if (words != 1)
        return cli_usage("which model? usage: retake tokenize MODEL");
    tokenize_context t = {0};
    rt_error err;
    rc = rt_tokenizer_load(&t.tokenizer, path, &err);
    if (rc == 0)
        rc = rt_chat_new(&t.chat, t.tokenizer, path, form, &err);
    rc = rc == 0 ? cli_filter(tokenize_batch, &t, 1) : cli_fail(&err);
    rt_chat_free(&t.chat);
    rt_tokenizer_free(&t.tokenizer);
    return rc;
}

/* ---- score ------------------------------------------------------------------------------------ */

typedef struct scorer {
    cli_model model;
    rt_trainer *trainer;
    double temperature;
    int tokens_max;
} scorer;

static json_t *score_ids(scorer *s, const int32_t *ids, int count)
{
    json_t *list = json_array();
    if (count > 0)
        json_array_append_new(list, json_null());
    if (count < 2)
        return json_pack("{s:o}", "logprobs", list);
    rt_error err;
    int32_t *rows = rt_alloc((size_t)count * sizeof *rows);
    rt_entry *entries = rt_alloc((size_t)count * sizeof *entries);
    float *logprob = rt_alloc((size_t)count * sizeof *logprob);
    int rc = rt_trainer_plan(s->trainer, &ids, &count, &s->model.adapter, NULL, 1, &rows, &err);
    if (rc > 0) {
        for (int t = 1; t < count; t++)
            entries[t - 1] = (rt_entry){rows[t - 1], ids[t]};
        rc = rt_trainer_forward(s->trainer, entries, count - 1, (float)s->temperature, false,
                                logprob, &err);
    }
    for (int t = 0; rc == 0 && t < count - 1; t++)
        json_array_append_new(list, cli_json_float(logprob[t]));
    rt_free(rows), rt_free(entries), rt_free(logprob);
    if (rc == 0)
        return json_pack("{s:o}", "logprobs", list);
    json_decref(list);
    return cli_error_object("%s", err.message);
}

static void score_batch(void *context, json_t **requests, json_t **answers, int count)
{
    scorer *s = context;
    int vocab = s->model.weights->arch.vocab;
    for (int i = 0; i < count; i++) {
        if (!requests[i])
            continue;
        int n;
        int32_t *ids = cli_ids(json_object_get(requests[i], "ids"), vocab, &n);
        if (n < 0)
            answers[i] = cli_error_object("\"ids\" must be a list of whole numbers from 0 to %d",
                                          vocab - 1);
        else if (n > s->tokens_max)
            answers[i] = cli_error_object("%d ids, the model's context is %d", n, s->tokens_max);
        else
            answers[i] = score_ids(s, ids, n);
        rt_free(ids);
    }
}

int cmd_score(int argc, char **argv)
{
    const char *path, *dtype = "f32", *device = "cpu";
    int64_t threads = 0;
    scorer s = {.temperature = 1};
    const char *adapter = NULL, *base = NULL;
    const cli_option options[] = {
        CLI_ADAPTER_OPTIONS(adapter, base),
        {"--temperature", OPTION_REAL, &s.temperature, "T", "log-probs of logits / T (default 1)"},
        {"--dtype", OPTION_TEXT, &dtype, "f32|bf16", "weights in memory (default f32)"},
        {"--device", OPTION_TEXT, &device, "cpu|ref|cuda", "backend (default cpu)"},
        {"--threads", OPTION_INTEGER, &threads, "N", "default: all cores; 1 if narrow"},
    };
    int words;
    int rc = cli_parse(argc, argv, "score MODEL [--temperature T] < requests.jsonl",
                       "Filter: {\"ids\": […]} → {\"logprobs\": [null, …]}; entry i = log p(ids[i] "
                       "given those before).",
                       options, RT_COUNT(options), &path, &words, 1);
    if (rc != 0)
        return rc < 0 ? 0 : rc;
    if (words != 1)
        return cli_usage("which model? usage: retake score MODEL");
    if (!(s.temperature > 0))
        return cli_usage("--temperature must be above 0");
    rt_error err;
    if (cli_model_open_adapter(&s.model, path, adapter, base, dtype, device, threads, &err) != 0)
        return cli_fail(&err);
    s.tokens_max = s.model.weights->arch.context;
    rc = rt_trainer_new(&s.trainer, s.model.net, s.tokens_max, true, &err);
    if (rc == 0) {
        rc = cli_filter(score_batch, &s, 1);
        rt_trainer_free(&s.trainer);
    } else {
        rc = cli_fail(&err);
    }
    cli_model_close(&s.model);
    return rc;
}

/* ---- grade ------------------------------------------------------------------------------------ */

static json_t *verdict_json(const rt_verdict *verdict)
{
    json_t *answer = json_pack(
        "{s:s, s:o, s:f}", "grade", rt_grade_name(verdict->grade), "extracted",
        *verdict->extracted ? cli_json_text(verdict->extracted, strlen(verdict->extracted))
                            : json_null(),
        "reward", verdict->reward);
    if (*verdict->detail)
        json_object_set_new(answer, "detail", cli_json_text(verdict->detail, strlen(verdict->detail)));
    return answer;
}

static void grade_batch(void *context, json_t **requests, json_t **answers, int count)
{
    for (int i = 0; i < count; i++) {
        if (!requests[i])
            continue;
        json_t *response = json_object_get(requests[i], "response");
        json_t *gold = json_object_get(requests[i], "gold");
        rt_verdict verdict;
        rt_error err;
        if (!json_is_string(response) || !json_is_string(gold))
            answers[i] = cli_error_object("needs the texts \"response\" and \"gold\"");
        else if (rt_grade_response(context, json_string_value(response),
                                   json_string_length(response), json_string_value(gold), &verdict,
                                   &err) != 0)
            answers[i] = cli_error_object("%s", err.message);
        else
            answers[i] = verdict_json(&verdict);
    }
}

int cmd_grade(int argc, char **argv)
{
    const char *grader = "math";
    const cli_option options[] = {
        {"--grader", OPTION_TEXT, &grader, "G",
         "math (default), number, choice, exact, yesno, steps, countdown or code"},
    };
    int words;
    int rc = cli_parse(argc, argv, "grade [--grader G] < requests.jsonl",
                       "Filter: {\"response\", \"gold\"} → {\"grade\": correct|wrong|undecided, "
                       "\"extracted\", \"reward\"}; grader\n"
                       "code: also \"detail\", and gold is a JSON text of tests (docs/guide.md).",
                       options, RT_COUNT(options), NULL, &words, 0);
    if (rc != 0)
        return rc < 0 ? 0 : rc;
    rt_verdict verdict;
    rt_error err;
    if (rt_grade_response(grader, "", 0, "", &verdict, &err) != 0)
        return cli_fail(&err);
    if (rt_grader_ready(grader, &err) != 0)
        fprintf(stderr, "retake: %s; every grade will be undecided\n", err.message);
    return cli_filter(grade_batch, (void *)(uintptr_t)grader, 1);
}
