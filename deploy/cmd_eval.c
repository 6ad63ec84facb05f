/* eval: how many held-out problems a model solves, with intervals. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "deploy/eval_run.h"

#define SAMPLES_MAX 1024

typedef struct options {
    const char *task, *data, *method, *dtype, *device;
    int64_t k, limit, seed, slots, threads;
    double temperature;
    bool greedy, json;
    cli_sets sets;
} options;

/* ---- figures of one task, or of all ---------------------------------------------------------- */

typedef struct report {
    const char *name;
    int problems, left_out, k, ks_count, ks[EVAL_KS_MAX];
    int64_t correct, wrong, undecided, cut, tokens, thoughts;
    eval_number accuracy, majority, consistency, pass[EVAL_KS_MAX];
} report;

/* task −1: all. */
static report report_of(const eval_run *run, int task, const char *name)
{
    report r = {.name = name, .k = run->k};
    r.ks_count = eval_ks(run->k, r.ks);
    size_t bytes = (size_t)RT_MAX(run->count, 1) * sizeof(double);
    double *share = rt_alloc(bytes), *major = rt_alloc(bytes), *common = rt_alloc(bytes);
    double *pass = rt_alloc(bytes);
    int *right = rt_alloc((size_t)RT_MAX(run->count, 1) * sizeof *right);
    for (int i = 0; i < run->count; i++) {
        const eval_item *item = &run->items[i];
        if (task >= 0 && item->problem.task != task)
            continue;
        if (item->left_out) {
            r.left_out++;
            continue;
        }
        int counts[3] = {0};
        for (int s = 0; s < run->k; s++)
            counts[item->grades[s]]++;
        right[r.problems] = counts[RT_CORRECT];
        share[r.problems] = (double)counts[RT_CORRECT] / run->k;
        eval_majority(item->samples, run->k, &major[r.problems], &common[r.problems]);
        r.problems++;
        r.correct += counts[RT_CORRECT];
        r.wrong += counts[RT_WRONG];
        r.undecided += counts[RT_UNDECIDED];
        r.cut += item->cut;
        r.tokens += item->tokens;
        r.thoughts += item->thoughts;
    }
    r.accuracy = eval_wilson(share, r.problems);
    r.majority = eval_bootstrap(major, r.problems, run->seed);
    r.consistency = eval_bootstrap(common, r.problems, run->seed);
    for (int j = 0; j < r.ks_count; j++) {
        for (int i = 0; i < r.problems; i++)
            pass[i] = eval_pass_at(run->k, right[i], r.ks[j]);
        r.pass[j] = eval_bootstrap(pass, r.problems, run->seed);
    }
    rt_free(share), rt_free(major), rt_free(common), rt_free(pass), rt_free(right);
    return r;
}

static int64_t answers_of(const report *r)
{
    return r->correct + r->wrong + r->undecided;
}

/* ---- as JSON --------------------------------------------------------------------------------- */

static json_t *number_json(eval_number n)
{
    return json_pack("{s:f, s:f, s:f}", "value", n.value, "low", n.low, "high", n.high);
}

static json_t *report_json(const report *r)
{
    double answers = (double)RT_MAX(answers_of(r), 1);
    json_t *pass = json_object();
    for (int j = 0; j < r->ks_count; j++) {
        char key[16];
        snprintf(key, sizeof key, "%d", r->ks[j]);
        json_object_set_new(pass, key, number_json(r->pass[j]));
    }
    json_t *root = json_pack("{s:f, s:[f,f], s:o, s:o, s:o}", "accuracy", r->accuracy.value,
                             "accuracy_interval", r->accuracy.low, r->accuracy.high, "pass_at",
                             pass, "majority", number_json(r->majority), "self_consistency",
                             number_json(r->consistency));
    json_t *counts =
        json_pack("{s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "problems", r->problems,
                  "left_out", r->left_out, "answers", (json_int_t)answers_of(r), "correct",
                  (json_int_t)r->correct, "wrong", (json_int_t)r->wrong, "undecided",
                  (json_int_t)r->undecided, "cut", (json_int_t)r->cut, "tokens_mean",
                  (double)r->tokens / answers, "thoughts_mean", (double)r->thoughts / answers);
    RT_ASSERT(root != NULL && counts != NULL);
    json_object_update(root, counts);
    json_decref(counts);
    return root;
}

static void print_json(const eval_run *run, const char *path, const options *o)
{
    report all = report_of(run, -1, "all");
    json_t *root = report_json(&all), *tasks = json_array();
    for (int t = 0; t < rt_taskset_tasks(run->tasks); t++) {
        report one = report_of(run, t, rt_taskset_name(run->tasks, t));
        json_t *object = report_json(&one);
        json_object_set_new(object, "task", json_string(one.name));
        json_array_append_new(tasks, object);
    }
    char hash[33];
    const rt_weights *weights = run->model->weights;
    rt_hash_hex(rt_hash(weights->data, rt_weights_bytes(weights)), hash);
    json_t *about =
        json_pack("{s:s, s:s, s:s, s:i, s:f, s:I, s:f, s:f, s:o}", "model", path, "dtype", o->dtype,
                  "weights_hash", hash, "k", run->k, "temperature", run->temperature, "seed",
                  (json_int_t)run->seed, "seconds", run->seconds, "tokens_per_second",
                  (double)run->tokens / RT_MAX(run->seconds, 1e-9), "tasks", tasks);
    RT_ASSERT(about != NULL);
    json_object_update(root, about);
    json_decref(about);
    char *text = json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(9));
    printf("%s\n", text);
    free(text);
    json_decref(root);
}

/* ---- as text --------------------------------------------------------------------------------- */

static void print_number(const char *name, eval_number n)
{
    printf("  %-18s %6.2f %%   [%.2f, %.2f]\n", name, 100 * n.value, 100 * n.low, 100 * n.high);
}

static void print_report(const report *r)
{
    double answers = (double)RT_MAX(answers_of(r), 1);
    printf("%s: %d problems, %d answer%s each%s\n", r->name, r->problems, r->k,
           r->k == 1 ? "" : "s", r->problems > 0 ? "   (95 % intervals)" : "");
    if (r->left_out > 0)
        printf("  left out           %d whose prompt does not fit the context\n", r->left_out);
    if (r->problems == 0)
        return;
    print_number("accuracy", r->accuracy);
    char name[32];
    for (int j = 0; j < r->ks_count && r->k > 1; j++) {
        snprintf(name, sizeof name, "pass@%d", r->ks[j]);
        print_number(name, r->pass[j]);
    }
    if (r->k > 1) {
        snprintf(name, sizeof name, "majority@%d", r->k);
        print_number(name, r->majority);
        print_number("self-consistency", r->consistency);
    }
    printf("  %-18s %lld correct, %lld wrong, %lld undecided; %lld cut off\n", "answers",
           (long long)r->correct, (long long)r->wrong, (long long)r->undecided, (long long)r->cut);
    printf("  %-18s %.1f tokens, %.2f thoughts\n", "mean answer", (double)r->tokens / answers,
           (double)r->thoughts / answers);
}

static void print_text(const eval_run *run)
{
    int tasks = rt_taskset_tasks(run->tasks);
    for (int t = 0; t < tasks; t++) {
        report one = report_of(run, t, rt_taskset_name(run->tasks, t));
        print_report(&one);
    }
    if (tasks > 1) {
        report all = report_of(run, -1, "all tasks");
        print_report(&all);
    }
    char how[64] = "greedy";
    if (run->temperature > 0)
        snprintf(how, sizeof how, "temperature %g, seed %llu", run->temperature,
                 (unsigned long long)run->seed);
    printf("%s; %.1f s, %.0f tokens/s\n", how, run->seconds,
           (double)run->tokens / RT_MAX(run->seconds, 1e-9));
}

/* ---- the command ----------------------------------------------------------------------------- */

static int check_options(const options *o)
{
    if (strcmp(o->method, "thoughts") != 0 && strcmp(o->method, "plain") != 0)
        return cli_usage("--method is plain or thoughts, not \"%s\"", o->method);
    if (o->k < 1 || o->k > SAMPLES_MAX)
        return cli_usage("--k is 1 to %d", SAMPLES_MAX);
    if (o->limit < 0 || o->slots < 1 || o->slots > 1 << 16 || o->threads < 0)
        return cli_usage("--limit and --threads are 0 or more, --slots 1 to 65536");
    if (o->greedy && !isnan(o->temperature) && o->temperature > 0)
        return cli_usage("--greedy and --temperature exclude each other");
    if (o->temperature < 0 || o->temperature > 100)
        return cli_usage("--temperature is 0 (greedy) to 100");
    if (o->k > 1 && (o->greedy || o->temperature == 0))
        return cli_usage("greedy answers are all the same: --k %lld needs a temperature above 0",
                         (long long)o->k);
    return 0;
}

static double choose_temperature(const options *o, const rt_config *config)
{
    if (!isnan(o->temperature))
        return o->temperature;
    return o->greedy || o->k == 1 ? 0 : config->eval.temperature;
}

static int evaluate(const char *path, const options *o, const rt_config *config, rt_error *err)
{
    rt_taskset *tasks = NULL;
    cli_model model = {0};
    int rc = rt_graders_ready(config, err);
    if (rc == 0)
        rc = rt_taskset_load(&tasks, config, err);
    if (rc == 0)
        rc = cli_model_open(&model, path, o->dtype, o->device, o->threads, err);
    if (rc == 0) {
        eval_run run = {
            .config = config, .tasks = tasks, .model = &model, .stop = cli_catch_signals(),
            .k = (int)o->k, .temperature = choose_temperature(o, config),
            .seed = (uint64_t)(o->seed >= 0 ? o->seed : config->run.seed), .slots = (int)o->slots,
            .plain = strcmp(o->method, "plain") == 0,
        };
        rc = eval_problems(&run, o->limit, err);
        if (rc == 0)
            rc = eval_answers(&run, err);
        if (rc == 0 && o->json)
            print_json(&run, path, o);
        else if (rc == 0)
            print_text(&run);
        eval_run_free(&run);
        cli_model_close(&model);
    }
    if (tasks)
        rt_taskset_free(&tasks);
    return rc;
}

int cmd_eval(int argc, char **argv)
{
    const char *path;
    int words;
    options o = {.method = "thoughts", .device = "cpu", .k = 1, .seed = -1, .slots = 64, .temperature = NAN};
    const cli_option list[] = {
        {"--task", OPTION_TEXT, &o.task, "T", "built-in task (chain), or a name for --data"},
        {"--data", OPTION_TEXT, &o.data, "FILE",
         "JSONL or JSON of problems and answers; every record is used"},
        {"--method", OPTION_TEXT, &o.method, "plain|thoughts",
         "thoughts: with the caps on thoughts (default); plain: ends at the end token"},
        {"--k", OPTION_INTEGER, &o.k, "K", "answers per problem (default 1)"},
        {"--limit", OPTION_INTEGER, &o.limit, "N",
         "problems per task (default: all; eval.problems of a generated task)"},
        {"--temperature", OPTION_REAL, &o.temperature, "T",
         "default: greedy for one answer, else eval.temperature"},
        {"--greedy", OPTION_FLAG, &o.greedy, NULL, "take the likeliest token"},
        {"--seed", OPTION_INTEGER, &o.seed, "N",
         "of the sampling (default: run.seed, which also chooses the problems)"},
        {"--json", OPTION_FLAG, &o.json, NULL, "one JSON object"},
        {"--set", OPTION_SETS, &o.sets, "KEY=VALUE",
         "any config key: sampling.*, thoughts.*, tasks.0.* …"},
        {"--slots", OPTION_INTEGER, &o.slots, "N", "sequences decoded together (default 64)"},
        {"--dtype", OPTION_TEXT, &o.dtype, "f32|bf16", "weights in memory (default: model.dtype)"},
        {"--device", OPTION_TEXT, &o.device, "cpu|ref", "backend (default cpu)"},
        {"--threads", OPTION_INTEGER, &o.threads, "N", "default: all cores"},
    };
    int rc = cli_parse(argc, argv, "eval MODEL --task T | --data F [--k K] [--limit N] [--json]",
                       "Answers held-out problems and grades them: accuracy (Wilson interval over\n"
                       "problems), pass@k (unbiased, bootstrap interval over problems), majority\n"
                       "vote, self-consistency. A run folder brings its own config.yaml: tasks,\n"
                       "limits and seed are then those of the run.",
                       list, RT_COUNT(list), &path, &words, 1);
    if (rc != 0)
        return rc < 0 ? 0 : rc;
    if (words != 1)
        return cli_usage("which model? usage: retake eval MODEL --task T");
    rc = check_options(&o);
    if (rc != 0)
        return rc;
    rt_config config;
    rt_error err;
    if (eval_config(&config, path, o.task, o.data, &o.sets, &err) != 0)
        return cli_fail(&err);
    if (!o.dtype)
        o.dtype = config.model.dtype;
    rc = evaluate(path, &o, &config, &err);
    if (rc != 0)
        rc = cli_fail(&err);
    rt_config_free(&config);
    return rc;
}
