/* sft, config, stats. */
#include <string.h>
#include <unistd.h>

#include "deploy/cli.h"
#include "deploy/run_folder.h"
#include "deploy/supervisor.h"
#include "learner/learner.h"
#include "proto/proto.h"

int cmd_sft(int argc, char **argv)
{
    const char *path, *dir = NULL;
    cli_sets sets = {.count = 0};
    const cli_option options[] = {
        {"--run", OPTION_TEXT, &dir, "DIR",
         "run folder (default runs/NAME); an existing one continues"},
        {"--set", OPTION_SETS, &sets, "key=value", "overrides a config key, may repeat"},
    };
    int words;
    int rc = cli_parse(
        argc, argv, "sft CONFIG [--run DIR] [--set key=value]…",
        "Supervised fine-tuning on the tasks' own solutions or on sft.data (JSONL with prompt and\n"
        "completion). Writes DIR/export as a Hugging Face folder and prints one JSON object.",
        options, RT_COUNT(options), &path, &words, 1);
    if (rc != 0)
        return rc < 0 ? 0 : rc;
    if (words != 1)
        return cli_usage("which config? usage: retake sft CONFIG");
    rt_config config;
    rt_error err;
    if (run_config_load(&config, path, dir, sets.items, sets.count, &err) != 0)
        return cli_fail(&err);
    rt_log log;
    rt_log_init(&log, "sft", RT_INFO);
    rt_buf config_path = {0}, summary = {0};
    int lock = -1;
    rc = rt_mkdirs(config.run.dir, &err);
    if (rc == 0)
        rc = run_folder_lock(config.run.dir, &lock, &err);
    if (rc == 0)
        rc = run_folder_prepare(&config, &config_path, &err);
    if (rc == 0)
        rc = rt_sft_run(&config, &log, cli_catch_signals(), &summary, &err);
    if (rc == 0)
        fputs(summary.data, stdout);
    else
        rc = cli_fail(&err);
    if (lock >= 0)
        close(lock);
    rt_buf_free(&config_path), rt_buf_free(&summary);
    rt_config_free(&config);
    return rc;
}

/* ---- config -------------------------------------------------------------------------------------
 */

int cmd_config(int argc, char **argv)
{
    bool defaults = false, docs = false;
    const char *check = NULL;
    cli_sets sets = {.count = 0};
    const cli_option options[] = {
        {"--defaults", OPTION_FLAG, &defaults, NULL, "every key with its default, as YAML"},
        {"--docs", OPTION_FLAG, &docs, NULL, "reference of every key, as Markdown"},
        {"--check", OPTION_TEXT, &check, "FILE", "reads FILE and prints the resolved config"},
        {"--set", OPTION_SETS, &sets, "key=value", "overrides a config key, may repeat"},
    };
    int words;
    int rc = cli_parse(argc, argv, "config --defaults | --docs | --check FILE",
                       "The configuration schema.", options, RT_COUNT(options), NULL, &words, 0);
    if (rc != 0)
        return rc < 0 ? 0 : rc;
    if (defaults + docs + (check != NULL) != 1)
        return cli_usage("give one of --defaults, --docs, --check FILE");
    rt_buf out = {0};
    rt_config config;
    rt_error err;
    if (docs) {
        rt_config_docs(&out);
    } else {
        rc = check ? rt_config_load(&config, check, sets.items, sets.count, &err)
                   : rt_config_parse(&config, "", 0, "--set", sets.items, sets.count, &err);
        if (rc != 0)
            return cli_fail(&err);
        rt_config_write(&config, &out);
        rt_config_free(&config);
    }
    fputs(out.data ? out.data : "", stdout);
    rt_buf_free(&out);
    return 0;
}

/* ---- stats ------------------------------------------------------------------------------------ */

/* A run folder stands for its own stats socket. */
static int stats_endpoint(const char *given, rt_buf *endpoint, rt_error *err)
{
    if (strstr(given, "://")) {
        rt_buf_addf(endpoint, "%s", given);
        return 0;
    }
    rt_config config;
    char *path = rt_format("%s/config.yaml", given);
    int rc = rt_config_load(&config, path, NULL, 0, err);
    rt_free(path);
    if (rc != 0)
        return rc;
    rc = rt_endpoint(&config, "stats", false, endpoint, err);
    rt_config_free(&config);
    return rc;
}

static int ask_once(void *socket, const char *question, int64_t timeout_ms, rt_buf *answer)
{
    if (zmq_send(socket, question, strlen(question), 0) < 0)
        return -1;
    zmq_pollitem_t item = {socket, 0, ZMQ_POLLIN, 0};
    if (zmq_poll(&item, 1, timeout_ms) <= 0)
        return -1;
    zmq_msg_t message;
    zmq_msg_init(&message);
    int rc = zmq_msg_recv(&message, socket, 0);
    if (rc >= 0) {
        rt_buf_clear(answer);
        rt_buf_add(answer, zmq_msg_data(&message), zmq_msg_size(&message));
    }
    zmq_msg_close(&message);
    return rc < 0 ? -1 : 0;
}

static void print_stats(const rt_buf *answer, bool json, bool clear)
{
    if (json) {
        printf("%.*s\n", (int)answer->bytes, answer->data);
    } else {
        rt_buf table = {0};
        progress_table(answer->data, answer->bytes, &table);
        printf("%s%s", clear ? "\033[H\033[2J" : "", table.data);
        rt_buf_free(&table);
    }
    fflush(stdout);
}

static int watch(void *socket, const char *endpoint, const char *question, int64_t timeout_ms,
                 bool json, bool repeat)
{
    const atomic_bool *stop = repeat ? cli_catch_signals() : NULL;
    rt_buf answer = {0};
    int rc = 0;
    do {
        if (ask_once(socket, question, timeout_ms, &answer) != 0) {
            if (!stop || !atomic_load(stop)) {
                fprintf(stderr,
                        "retake: no coordinator answers at %s; is the run over, or the endpoint "
                        "another one?\n",
                        endpoint);
                rc = 1;
            }
            break;
        }
        print_stats(&answer, json, repeat && isatty(STDOUT_FILENO));
        for (int i = 0; repeat && i < 10 && !atomic_load(stop); i++)
            usleep(100000);
    } while (repeat && !atomic_load(stop));
    rt_buf_free(&answer);
    return rc;
}

int cmd_stats(int argc, char **argv)
{
    const char *given[3];
    char question[64] = "stats";
    bool json = false, repeat = false;
    int64_t timeout_ms = 3000;
    const cli_option options[] = {
        {"--json", OPTION_FLAG, &json, NULL, "the answer as it is"},
        {"--watch", OPTION_FLAG, &repeat, NULL, "again every second until Ctrl-C"},
        {"--timeout", OPTION_INTEGER, &timeout_ms, "MS",
         "how long to wait for an answer (default 3000)"},
    };
    int words;
    int rc = cli_parse(
        argc, argv, "stats ENDPOINT|RUN [reset ID] [--json] [--watch]",
        "Asks a running coordinator: step, workers and what they wait for, leases, metrics.\n"
        "reset ID: one reset state as JSON, also while its continuations are under way.",
        options, RT_COUNT(options), given, &words, 3);
    if (rc != 0)
        return rc < 0 ? 0 : rc;
    if (words == 3 && strcmp(given[1], "reset") == 0) {
        snprintf(question, sizeof question, "reset %s", given[2]);
        json = true;
    } else if (words != 1)
        return cli_usage("which run? usage: retake stats ENDPOINT|RUN [reset ID]");
    rt_buf endpoint = {0};
    rt_error err;
    if (stats_endpoint(given[0], &endpoint, &err) != 0)
        return cli_fail(&err);
    void *zmq = zmq_ctx_new();
    void *socket = zmq_socket(zmq, ZMQ_REQ);
    int linger = 0;
    zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger);
    if (zmq_connect(socket, endpoint.data) != 0)
        rc = cli_usage("cannot connect to %s: %s", endpoint.data, zmq_strerror(zmq_errno()));
    else
        rc = watch(socket, endpoint.data, question, timeout_ms, json, repeat);
    zmq_close(socket);
    zmq_ctx_term(zmq);
    rt_buf_free(&endpoint);
    return rc;
}
