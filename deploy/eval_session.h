/* What every evaluation opens before it can begin: config, tasks, model; and the options for it. */
#ifndef RT_EVAL_SESSION_H
#define RT_EVAL_SESSION_H

#include "deploy/eval_run.h"

typedef struct eval_options {
    const char *task, *data, *dtype, *device, *adapter, *base;
    int64_t limit, seed, slots, threads;
    bool json, agents; /* agents: each may have an adapter of its own */
    cli_sets sets;
} eval_options;

#define EVAL_DEFAULTS                                                                              \
    {                                                                                              \
        .device = "cpu", .seed = -1, .slots = 64                                                   \
    }
/* Their rows in a table of cli_option. */
#define EVAL_OPTIONS(o)                                                                            \
    CLI_ADAPTER_OPTIONS((o).adapter, (o).base),                                                    \
    {"--task", OPTION_TEXT, &(o).task, "T", "built-in task (chain, sort, …), or a name for --data"}, \
        {"--data", OPTION_TEXT, &(o).data, "FILE",                                                 \
         "JSONL or JSON of problems and answers; every record is used"},                           \
        {"--limit", OPTION_INTEGER, &(o).limit, "N",                                               \
         "problems per task (default: all; eval.problems of a generated task)"},                   \
        {"--seed", OPTION_INTEGER, &(o).seed, "N",                                                 \
         "of the sampling (default: run.seed, which also chooses the problems)"},                  \
        {"--json", OPTION_FLAG, &(o).json, NULL, "one JSON object"},                               \
        {"--set", OPTION_SETS, &(o).sets, "KEY=VALUE",                                             \
         "any config key: sampling.*, thoughts.*, tasks.0.* …"},                                   \
        {"--slots", OPTION_INTEGER, &(o).slots, "N", "sequences decoded together (default 64)"},   \
        {"--dtype", OPTION_TEXT, &(o).dtype, "f32|bf16",                                           \
         "weights in memory (default: model.dtype)"},                                              \
        {"--device", OPTION_TEXT, &(o).device, "cpu|ref|cuda", "backend (default cpu)"},           \
    {                                                                                              \
        "--threads", OPTION_INTEGER, &(o).threads, "N", "default: all cores; 1 if narrow"          \
    }

/* 0, or 2 with the reason said. */
int eval_options_check(const eval_options *options);

typedef struct eval_session {
    const char *path, *dtype; /* borrows: the model's path and the options' or config's dtype */
    rt_config config;
    rt_taskset *tasks;
    cli_model model;
    char weights_hash[33];
    int64_t limit; /* the options' */
    eval_run run;  /* config, tasks, model, stop, k 1, seed and slots are set */
} eval_session;

/* Opens MODEL and the tasks of its config (a run folder has one) with the options over it. Close it
 * after a failure as well. */
int eval_session_open(eval_session *session, const char *path, const eval_options *options,
                      rt_error *err);
void eval_session_close(eval_session *session);

/* Prints `root` (takes it) after adding what it was measured with. */
void eval_session_print_json(const eval_session *session, const char *method, json_t *root);

#endif
