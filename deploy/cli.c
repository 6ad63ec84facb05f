/* Options, errors, signals, opened models. */
#include "deploy/cli.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "deploy/run_folder.h"

static void print_option_help(const char *usage, const char *about, const cli_option *options,
                              int count)
{
    printf("usage: retake %s\n%s\n", usage, about);
    if (count > 0)
        printf("\n");
    for (int i = 0; i < count; i++) {
        char head[64];
        snprintf(head, sizeof head, "%s%s%s", options[i].name, options[i].argument ? " " : "",
                 options[i].argument ? options[i].argument : "");
        printf("  %-26s %s\n", head, options[i].help);
    }
}

static int take_value(const cli_option *option, const char *text)
{
    char *end = NULL;
    switch (option->kind) {
    case OPTION_TEXT: *(const char **)option->value = text; return 0;
    case OPTION_INTEGER: {
        long long value = strtoll(text, &end, 10);
        if (end == text || *end)
            return cli_usage("%s wants a whole number, got \"%s\"", option->name, text);
        *(int64_t *)option->value = value;
        return 0;
    }
    case OPTION_REAL: {
        double value = strtod(text, &end);
        if (end == text || *end || !isfinite(value))
            return cli_usage("%s wants a number, got \"%s\"", option->name, text);
        *(double *)option->value = value;
        return 0;
    }
    default: {
        cli_sets *sets = option->value;
        if (sets->count == SETS_MAX)
            return cli_usage("at most %d --set options", SETS_MAX);
        sets->items[sets->count++] = text;
        return 0;
    }
    }
}

static const cli_option *find_option(const cli_option *options, int count, const char *name,
                                     size_t bytes)
{
    for (int i = 0; i < count; i++)
        if (strlen(options[i].name) == bytes && memcmp(options[i].name, name, bytes) == 0)
            return &options[i];
    return NULL;
}

int cli_parse(int argc, char **argv, const char *usage, const char *about,
              const cli_option *options, int options_count, const char **words, int *words_count,
              int words_max)
{
    *words_count = 0;
    for (int i = 1; i < argc; i++) {
        const char *argument = argv[i];
        if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
            print_option_help(usage, about, options, options_count);
            return -1;
        }
        if (argument[0] != '-' || argument[1] != '-') {
            if (*words_count == words_max)
                return cli_usage("unexpected \"%s\"; usage: retake %s", argument, usage);
            words[(*words_count)++] = argument;
            continue;
        }
        const char *equals = strchr(argument, '=');
        size_t bytes = equals ? (size_t)(equals - argument) : strlen(argument);
        const cli_option *option = find_option(options, options_count, argument, bytes);
        if (!option)
            return cli_usage("no option \"%s\" here; usage: retake %s", argument, usage);
        if (option->kind == OPTION_FLAG) {
            *(bool *)option->value = true;
            continue;
        }
        if (!equals && i + 1 == argc)
            return cli_usage("%s wants a value", argument);
        int rc = take_value(option, equals ? equals + 1 : argv[++i]);
        if (rc != 0)
            return rc;
    }
    return 0;
}

int cli_fail(const rt_error *err)
{
    fprintf(stderr, "retake: %s\n", err->message);
    return rt_exit_code(err->code);
}

int cli_usage(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fprintf(stderr, "retake: ");
    vfprintf(stderr, format, list);
    fprintf(stderr, "\n");
    va_end(list);
    return 2;
}

static atomic_bool stop_wanted;

static void on_signal(int number)
{
    (void)number;
    /* Asked twice: the person wants out now. */
    if (atomic_exchange(&stop_wanted, true))
        _Exit(130);
}

const atomic_bool *cli_catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    return &stop_wanted;
}

/* The base model and, where there is one, the adapter behind what the user named. */
static int find_parts(const char *path, const char *adapter, const char *base, rt_buf *model,
                      rt_buf *peft, rt_error *err)
{
    if (adapter) {
        rt_buf_addf(model, "%s", path);
        rt_buf_addf(peft, "%s", adapter);
        return 0;
    }
    int rc = rt_peft_resolve(path, peft, err);
    if (rc < 0)
        return rc;
    if (peft->bytes > 0 && !base)
        return rt_peft_base(peft->data, model, err);
    if (peft->bytes == 0 && base)
        return rt_fail(err, RT_ERR_USAGE, "--base is for a MODEL that is an adapter; %s is none", path);
    rt_buf_addf(model, "%s", base ? base : path);
    return 0;
}

static int open_adapters(cli_model *model, const char *const *dirs, int count, rt_error *err)
{
    int rc = rt_peft_load(&model->adapters, &model->weights->arch, dirs, count, err);
    if (rc == 0)
        rc = rt_net_open_adapters(model->net, &model->adapters->lora, count, err);
    if (rc == 0)
        rt_net_set_adapters(model->net, model->adapters->weights);
    else
        cli_model_close(model);
    model->adapter = 0;
    return rc;
}

int cli_adapters_count(const char *dir)
{
    int count = 0;
    if (rt_peft_is(dir))
        return 1;
    for (;; count++) {
        char *one = rt_format("%s/adapter-%d", dir, count);
        bool there = rt_peft_is(one);
        rt_free(one);
        if (!there)
            return count;
    }
}

/* dir holds adapter-0 … adapter-(count − 1), and no adapter itself. */
static int open_several(cli_model *model, const char *dir, int count, const char *base, const char *dtype,
                        const char *device, int64_t threads, rt_error *err)
{
    char *dirs[RT_ADAPTERS_MAX];
    rt_buf named = {0};
    *model = (cli_model){.adapter = -1};
    for (int i = 0; i < count; i++)
        dirs[i] = rt_format("%s/adapter-%d", dir, i);
    int rc = base ? 0 : rt_peft_base(dirs[0], &named, err);
    if (rc == 0)
        rc = cli_model_open(model, base ? base : named.data, dtype, device, threads, err);
    if (rc == 0)
        rc = open_adapters(model, (const char *const *)dirs, count, err);
    for (int i = 0; i < count; i++)
        rt_free(dirs[i]);
    rt_buf_free(&named);
    return rc;
}

int cli_model_open_agents(cli_model *model, const char *path, const char *adapter, const char *base,
                          const char *dtype, const char *device, int64_t threads, rt_error *err)
{
    rt_buf dir = {0};
    int rc = adapter ? 0 : rt_model_resolve(path, &dir, err);
    int count = rc == 0 && dir.bytes > 0 ? RT_MIN(cli_adapters_count(dir.data), RT_ADAPTERS_MAX) : 0;
    if (rc == 0)
        rc = count > 1 ? open_several(model, dir.data, count, base, dtype, device, threads, err)
                       : cli_model_open_adapter(model, path, adapter, base, dtype, device, threads, err);
    rt_buf_free(&dir);
    return rc;
}

int cli_model_open_adapter(cli_model *model, const char *path, const char *adapter, const char *base,
                           const char *dtype, const char *device, int64_t threads, rt_error *err)
{
    rt_buf parts[2] = {0};
    int rc = find_parts(path, adapter, base, &parts[0], &parts[1], err);
    *model = (cli_model){.adapter = -1};
    if (rc == 0)
        rc = cli_model_open(model, parts[0].data, dtype, device, threads, err);
    if (rc == 0 && parts[1].bytes > 0)
        rc = open_adapters(model, (const char *const[]){parts[1].data}, 1, err);
    rt_buf_free(&parts[0]), rt_buf_free(&parts[1]);
    return rc;
}

int cli_model_open(cli_model *model, const char *path, const char *dtype, const char *device,
                   int64_t threads, rt_error *err)
{
    *model = (cli_model){.adapter = -1};
    int type = RT_F32;
    if (strcmp(dtype, "bf16") == 0)
        type = RT_BF16;
    else if (strcmp(dtype, "f32") != 0)
        return rt_fail(err, RT_ERR_USAGE, "--dtype is f32 or bf16, got \"%s\"", dtype);
    int rc = rt_model_load(&model->weights, path, type, err);
    if (rc == 0)
        rc = rt_tokenizer_load(&model->tokenizer, path, err);
    if (rc == 0 && rt_tokenizer_vocab(model->tokenizer) > model->weights->arch.vocab)
        rc = rt_fail(err, RT_ERR_INPUT,
                     "%s: its tokenizer has %d tokens, its weights only %d: wrong tokenizer", path,
                     rt_tokenizer_vocab(model->tokenizer), model->weights->arch.vocab);
    if (rc == 0 && threads == 0 && run_narrow(&model->weights->arch))
        threads = 1;
    if (rc == 0)
        rc = rt_ops_open(&model->ops, device, (int)threads, err);
    if (rc == 0)
        rc = rt_net_new(&model->net, &model->weights->arch, type, model->ops, err);
    if (rc == 0)
        rt_net_set(model->net, model->weights);
    else
        cli_model_close(model);
    return rc;
}

void cli_model_close(cli_model *model)
{
    if (model->net)
        rt_net_free(&model->net);
    if (model->ops)
        rt_ops_free(&model->ops);
    if (model->tokenizer)
        rt_tokenizer_free(&model->tokenizer);
    if (model->weights)
        rt_weights_free(&model->weights);
    rt_adapters_free(&model->adapters);
}

void cli_model_hash(const cli_model *model, char hex[33])
{
    rt_hash_hex(rt_hash(model->weights->data, rt_weights_bytes(model->weights)), hex);
}
