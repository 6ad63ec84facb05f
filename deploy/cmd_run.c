/* run: the main job; and the single roles of the same config. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actor/actor.h"
#include "coordinator/coordinator.h"
#include "deploy/cli.h"
#include "deploy/run_folder.h"
#include "deploy/supervisor.h"
#include "learner/learner.h"

#define SUMMARY_BYTES_MAX (1 << 20)

static void print_accuracy(const json_t *root, const char *title, const char *before,
                           const char *after)
{
    const json_t *from = json_object_get(root, before), *to = json_object_get(root, after);
    if (!json_is_object(from) || !json_is_object(to))
        return;
    printf("%-18s %.3f [%.3f, %.3f]  →  %.3f [%.3f, %.3f]   (%lld held-out answers, 95 %% "
           "interval)\n",
           title, json_number_value(json_object_get(from, "accuracy")),
           json_number_value(json_object_get(from, "low")),
           json_number_value(json_object_get(from, "high")),
           json_number_value(json_object_get(to, "accuracy")),
           json_number_value(json_object_get(to, "low")),
           json_number_value(json_object_get(to, "high")),
           (long long)json_number_value(json_object_get(to, "count")));
}

static void print_pairs(const json_t *root, const char *title, const char *key)
{
    json_t *object = json_object_get(root, key);
    if (!json_is_object(object))
        return;
    printf("%-18s ", title);
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value) if (json_is_integer(value))
        printf("%s %lld  ", name, (long long)json_integer_value(value));
    else printf("%s %.2f  ", name, json_number_value(value));
    printf("\n");
}

static void print_summary(const json_t *root, const rt_config *config)
{
    print_accuracy(root, "accuracy, greedy", "greedy_before", "greedy_after");
    print_accuracy(root, "accuracy, sampled", "sampled_before", "sampled_after");
    print_accuracy(root, "debates", "debate_before", "debate_after");
    print_accuracy(root, "self-consistency", "consistency_before", "consistency_after");
    printf("%-18s %lld\n", "steps", (long long)json_number_value(json_object_get(root, "steps")));
    print_pairs(root, "tokens", "tokens");
    print_pairs(root, "seconds", "seconds");
    print_pairs(root, "leases", "leases");
    print_pairs(root, "grades", "grades");
    const json_t *logprob = json_object_get(root, "logprob");
    long long compared = (long long)json_number_value(json_object_get(logprob, "compared"));
    long long mismatched = (long long)json_number_value(json_object_get(logprob, "mismatched"));
    printf("%-18s %lld compared between actors and learner, %lld differ in any bit\n", "log-probs",
           compared, mismatched);
    printf("%-18s %s\n", "weights hash", json_string_value(json_object_get(root, "weights_hash")));
    const json_t *hashes = json_object_get(root, "adapter_hashes");
    for (size_t i = 0; json_array_size(hashes) > 1 && i < json_array_size(hashes); i++)
        printf("  agent %zu%9s %s\n", i, "", json_string_value(json_array_get(hashes, i)));
    printf("%-18s %s (the newest checkpoint is the trained model)\n", "run folder",
           config->run.dir);
}

static int finish(const rt_config *config, const supervisor_result *result, bool json)
{
    char *path = rt_format("%s/summary.json", config->run.dir);
    rt_buf text = {0};
    rt_error err;
    int rc = rt_file_read(path, SUMMARY_BYTES_MAX, &text, &err);
    rt_free(path);
    json_t *root = rc == 0 ? json_loadb(text.data, text.bytes, 0, NULL) : NULL;
    rt_buf_free(&text);
    if (!root)
        return cli_fail(&err);
    json_object_set_new(root, "restarts", json_integer(result->restarts));
    if (json) {
        json_dumpf(root, stdout, JSON_COMPACT | JSON_REAL_PRECISION(12));
        printf("\n");
    } else {
        print_summary(root, config);
    }
    json_decref(root);
    return 0;
}

int cmd_run(int argc, char **argv)
{
    const char *path, *dir = NULL;
    bool json = false, quiet = false;
    cli_sets sets = {.count = 0};
    const cli_option options[] = {
        {"--run", OPTION_TEXT, &dir, "DIR",
         "run folder (default runs/NAME); an existing one continues"},
        {"--json", OPTION_FLAG, &json, NULL, "the summary as one JSON object"},
        {"--quiet", OPTION_FLAG, &quiet, NULL, "no progress, only errors"},
        {"--set", OPTION_SETS, &sets, "key=value", "overrides a config key, may repeat"},
    };
    int words;
    int rc = cli_parse(
        argc, argv, "run CONFIG [--run DIR] [--json] [--set key=value]…",
        "Starts coordinator, learner and actors of one config on this machine, supervises them and "
        "ends\n"
        "with the trained model and a summary. Ctrl-C saves; the same command continues.",
        options, RT_COUNT(options), &path, &words, 1);
    if (rc != 0)
        return rc < 0 ? 0 : rc;
    if (words != 1)
        return cli_usage(
            "which config? usage: retake run CONFIG (try deploy/configs/quickstart.yaml)");
    rt_config config;
    rt_error err;
    if (run_config_load(&config, path, dir, sets.items, sets.count, &err) != 0)
        return cli_fail(&err);
    run_threads_decide(&config);
    rt_buf config_path = {0};
    int lock = -1;
    rc = run_config_check(&config, &err);
    if (rc == 0)
        rc = rt_mkdirs(config.run.dir, &err);
    if (rc == 0)
        rc = run_folder_lock(config.run.dir, &lock, &err);
    if (rc == 0)
        rc = run_folder_prepare(&config, &config_path, &err);
    if (rc != 0) {
        rc = cli_fail(&err);
    } else {
        supervisor_result result;
        supervisor_run(&config, config_path.data, quiet, &result);
        rc = result.exit_code;
        if (rc == 0)
            rc = finish(&config, &result, json);
        else if (rc == 130)
            fprintf(stderr, "retake: stopped; the same command continues from %s\n",
                    config.run.dir);
        else
            fprintf(stderr, "retake: %s\n", result.error.message);
    }
    if (lock >= 0)
        close(lock);
    rt_buf_free(&config_path);
    rt_config_free(&config);
    return rc;
}

/* ---- single roles ----------------------------------------------------------------------------- */

typedef struct role_flags {
    const char *name;
    int64_t unreachable_s;
} role_flags;

typedef int role_fn(const rt_config *config, const rt_log *log, const role_flags *flags,
                    rt_error *err);

static int role_coordinator(const rt_config *config, const rt_log *log, const role_flags *flags,
                            rt_error *err)
{
    (void)flags;
    return rt_coordinator_run(config, log, err);
}

static int role_learner(const rt_config *config, const rt_log *log, const role_flags *flags,
                        rt_error *err)
{
    return rt_learner_run(config, log, flags->unreachable_s * 1000, err);
}

static int role_actor(const rt_config *config, const rt_log *log, const role_flags *flags,
                      rt_error *err)
{
    return rt_actor_run(config, "actor", flags->name, log, flags->unreachable_s * 1000, err);
}

/* The same worker under another name: its own slots, and turns of debates before all else. */
static int role_debate(const rt_config *config, const rt_log *log, const role_flags *flags,
                       rt_error *err)
{
    rt_config own = *config; /* shares the texts */
    own.actors.slots = config->debate.slots;
    own.actors.cache_tokens = config->debate.cache_tokens;
    return rt_actor_run(&own, "debate", flags->name, log, flags->unreachable_s * 1000, err);
}

static enum rt_level level_of(const rt_config *config)
{
    switch (config->log.level[0]) {
    case 'd': return RT_DEBUG;
    case 'w': return RT_WARN;
    case 'e': return RT_ERROR;
    default: return RT_INFO;
    }
}

static int run_role(int argc, char **argv, const char *usage, const char *about, const char *role,
                    role_fn *run)
{
    const char *path, *dir = NULL;
    char host[32] = "", own_name[64];
    gethostname(host, sizeof host - 1);
    snprintf(own_name, sizeof own_name, "%s-%s-%d", role, host, (int)getpid());
    role_flags flags = {own_name, 600};
    cli_sets sets = {.count = 0};
    const cli_option options[] = {
        {"--run", OPTION_TEXT, &dir, "DIR", "run folder (default runs/NAME)"},
        {"--set", OPTION_SETS, &sets, "key=value", "overrides a config key, may repeat"},
        /* the coordinator takes the two above, the learner three, an actor all */
        {"--unreachable", OPTION_INTEGER, &flags.unreachable_s, "SECONDS",
         "give up when no coordinator answers for so long (default 600)"},
        {"--name", OPTION_TEXT, &flags.name, "NAME",
         "name of this worker, unique (default ROLE-HOST-PID)"},
    };
    bool is_actor = strcmp(role, "actor") == 0 || strcmp(role, "debate") == 0;
    bool is_coordinator = strcmp(role, "coordinator") == 0;
    int words, taken = is_actor ? 4 : is_coordinator ? 2 : 3;
    int rc = cli_parse(argc, argv, usage, about, options, taken, &path, &words, 1);
    if (rc != 0)
        return rc < 0 ? 0 : rc;
    if (words != 1)
        return cli_usage("which config? usage: retake %s", usage);
    rt_config config;
    rt_error err = {0};
    if (run_config_load(&config, path, dir, sets.items, sets.count, &err) != 0)
        return cli_fail(&err);
    /* Started alone it has the machine to itself: 0 threads means all cores. */
    config.actors.count = 1;
    config.debate.count = 0;
    run_threads_decide(&config);
    rt_log log;
    rt_log_init(&log, is_actor ? flags.name : role, level_of(&config));
    int lock = -1;
    rt_buf config_path = {0};
    rc = rt_mkdirs(config.run.dir, &err);
    /* Under the supervisor the folder is prepared and locked already. */
    if (rc == 0 && is_coordinator && !getenv("RETAKE_SUPERVISOR")) {
        rc = run_folder_lock(config.run.dir, &lock, &err);
        if (rc == 0)
            rc = run_folder_prepare(&config, &config_path, &err);
    }
    if (rc == 0)
        rc = run(&config, &log, &flags, &err);
    if (lock >= 0)
        close(lock);
    rt_buf_free(&config_path);
    if (rc != 0 && rc != RT_ERR_STOPPED)
        rc = cli_fail(&err);
    else
        rc = rt_exit_code(rc);
    rt_config_free(&config);
    return rc;
}

int cmd_coordinator(int argc, char **argv)
{
    return run_role(argc, argv, "coordinator CONFIG [--run DIR] [--set key=value]…",
                    "One role of a run: plans, leases, weight store, run store, stats.",
                    "coordinator", role_coordinator);
}

int cmd_learner(int argc, char **argv)
{
    return run_role(argc, argv, "learner CONFIG [--run DIR] [--set key=value]…",
                    "One role of a run: turns batches into new weights, writes checkpoints.",
                    "learner", role_learner);
}

int cmd_actor(int argc, char **argv)
{
    return run_role(
        argc, argv, "actor CONFIG [--run DIR] [--name NAME] [--set key=value]…",
        "One role of a run: samples and grades. Any number, started and ended at any time.",
        "actor", role_actor);
}

int cmd_debate(int argc, char **argv)
{
    return run_role(
        argc, argv, "debate CONFIG [--run DIR] [--name NAME] [--set key=value]…",
        "One role of a run: takes turns of debates. Any number, started and ended at any time.",
        "debate", role_debate);
}
