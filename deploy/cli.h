/* What the subcommands share: options, JSONL filters, an opened model. Only deploy/ includes it. */
#ifndef RT_CLI_H
#define RT_CLI_H

#include <jansson.h>

#include "base/base.h"
#include "base/config.h"
#include "model/chat.h"
#include "model/model.h"

enum { OPTION_FLAG, OPTION_TEXT, OPTION_INTEGER, OPTION_REAL, OPTION_SETS };

#define SETS_MAX 64
typedef struct cli_sets {
    const char *items[SETS_MAX];
    int count;
} cli_sets;

typedef struct cli_option {
    const char *name; /* "--json" */
    int kind;
    void *value;          /* bool *, const char **, int64_t *, double *, cli_sets * */
    const char *argument; /* shown in help: "DIR" */
    const char *help;
} cli_option;

typedef struct cli_command {
    const char *name, *usage, *about;
    int (*run)(int argc, char **argv); /* returns an exit code */
} cli_command;

/* Reads options and at most `words_max` plain words. Returns 0, 2 (usage error, said), or −1 after
 * --help. */
int cli_parse(int argc, char **argv, const char *usage, const char *about,
              const cli_option *options, int options_count, const char **words, int *words_count,
              int words_max);
/* Says the error on stderr and returns the exit code for it. */
int cli_fail(const rt_error *err);
/* One line on stderr, exit code 2. */
int cli_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Set by SIGINT and SIGTERM once cli_catch_signals was called. */
const atomic_bool *cli_catch_signals(void);

/* ---- a model opened for computing -------------------------------------------------------------
 */

typedef struct cli_model {
    rt_weights *weights;
    rt_tokenizer *tokenizer;
    rt_ops *ops;
    rt_net *net;
    rt_adapters *adapters; /* NULL: none; else those of the net */
    int adapter;           /* number of the first, 0; −1: none */
} cli_model;
/* adapter: a PEFT folder, NULL for none. path may be one itself, or a run of adapters: its base is the
 * one it names, or `base` (NULL: that). */
int cli_model_open_adapter(cli_model *model, const char *path, const char *adapter, const char *base,
                           const char *dtype, const char *device, int64_t threads, rt_error *err);
/* The same; a run or checkpoint of several adapters gives them all. */
int cli_model_open_agents(cli_model *model, const char *path, const char *adapter, const char *base,
                          const char *dtype, const char *device, int64_t threads, rt_error *err);
/* dir: a checkpoint with folders adapter-0, adapter-1 …, or a PEFT folder (1); else 0. */
int cli_adapters_count(const char *dir);
int cli_model_open(cli_model *model, const char *path, const char *dtype, const char *device,
                   int64_t threads, rt_error *err);
void cli_model_close(cli_model *model); /* twice is fine */
void cli_model_hash(const cli_model *model, char hex[33]);

/* Rows of a table of cli_option: what MODEL may be beside a whole model. */
#define CLI_ADAPTER_OPTIONS(adapter, base)                                                         \
    {"--adapter", OPTION_TEXT, &(adapter), "DIR", "PEFT folder to use over MODEL"},                \
    {                                                                                              \
        "--base", OPTION_TEXT, &(base), "MODEL",                                                   \
            "where MODEL is an adapter: its base (default: the one it names)"                      \
    }

/* ---- JSONL filters ---------------------------------------------------------------------------- */

/* Handles a batch of requests: answers[i] for requests[i] (NULL = bad line, answer already set). */
typedef void cli_filter_fn(void *context, json_t **requests, json_t **answers, int count);
/* Reads objects from stdin, writes one answer a line in the same order. Takes what is there at once
 * (up to batch_max lines), so that work can be batched and a caller that waits for each answer is
 * not kept waiting. */
int cli_filter(cli_filter_fn *handle, void *context, int batch_max);
json_t *cli_error_object(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* JSON holds UTF-8 only: a byte that is none becomes U+FFFD. */
json_t *cli_json_text(const char *text, size_t bytes);
/* Float that reads back to the same float32. */
json_t *cli_json_float(float value);
json_t *cli_json_ids(const int32_t *ids, int count);
/* {"ids": […]} → memory to rt_free; count −1: not a list of integers below vocab. */
int32_t *cli_ids(const json_t *list, int vocab, int *count);
/* A list of {"role", "content"}, at least one; texts are borrowed from it. NULL: it is none (said in
 * err). rt_free it. */
rt_chat_message *cli_messages(const json_t *list, int *count, rt_error *err);

/* ---- commands (one file each) ----------------------------------------------------------------- */

int cmd_run(int argc, char **argv);
int cmd_coordinator(int argc, char **argv);
int cmd_learner(int argc, char **argv);
int cmd_actor(int argc, char **argv);
int cmd_debate(int argc, char **argv);
int cmd_sft(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_correct(int argc, char **argv);
int cmd_eval_debate(int argc, char **argv); /* eval --method debate */
int cmd_generate(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_score(int argc, char **argv);
int cmd_grade(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_audit(int argc, char **argv);
int cmd_show(int argc, char **argv);
int cmd_stats(int argc, char **argv);
int cmd_config(int argc, char **argv);
int cmd_bench(int argc, char **argv);

#endif
