/* eval: how many held-out problems a model solves, with intervals. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "deploy/eval_session.h"

#define SAMPLES_MAX 1024

typedef struct options {
    eval_options common;
    const char *method;
    int64_t k;
    double temperature;
    bool greedy;
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

static void print_json(const eval_session *session, const options *o)
{
    const eval_run *run = &session->run;
    report all = report_of(run, -1, "all");
    json_t *root = report_json(&all), *tasks = json_array();
    for (int t = 0; t < rt_taskset_tasks(run->tasks); t++) {
        report one = report_of(run, t, rt_taskset_name(run->tasks, t));
        json_t *object = report_json(&one);
        json_object_set_new(object, "task", json_string(one.name));
        json_array_append_new(tasks, object);
    }
    json_t *how = json_pack("{s:i, s:f, s:f, s:f, s:o}", "k", run->k, "temperature",
                            run->temperature, "seconds", run->seconds, "tokens_per_second",
                            (double)run->tokens / RT_MAX(run->seconds, 1e-9), "tasks", tasks);
    RT_ASSERT(how != NULL);
    json_object_update(root, how);
    json_decref(how);
    eval_session_print_json(session, o->method, root);
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
        return cli_usage("--method is plain, thoughts or correct, not \"%s\"", o->method);
    if (o->k < 1 || o->k > SAMPLES_MAX)
        return cli_usage("--k is 1 to %d", SAMPLES_MAX);
    if (o->greedy && !isnan(o->temperature) && o->temperature > 0)
        return cli_usage("--greedy and --temperature exclude each other");
    if (o->temperature < 0 || o->temperature > 100)
        return cli_usage("--temperature is 0 (greedy) to 100");
    if (o->k > 1 && (o->greedy || o->temperature == 0))
        return cli_usage("greedy answers are all the same: --k %lld needs a temperature above 0",
                         (long long)o->k);
    return eval_options_check(&o->common);
}

static double choose_temperature(const options *o, const rt_config *config)
{
    if (!isnan(o->temperature))
        return o->temperature;
    return o->greedy || o->k == 1 ? 0 : config->eval.temperature;
}

static int evaluate(const char *path, const options *o, rt_error *err)
{
    eval_session session;
    eval_run *run = &session.run;
    int rc = eval_session_open(&session, path, &o->common, err);
    if (rc == 0) {
        run->k = (int)o->k;
        run->temperature = choose_temperature(o, &session.config);
        run->plain = strcmp(o->method, "plain") == 0;
        rc = eval_problems(run, o->common.limit, err);
    }
    if (rc == 0)
        rc = eval_answers(run, err);
    if (rc == 0 && o->common.json)
        print_json(&session, o);
    else if (rc == 0)
        print_text(run);
    eval_session_close(&session);
    return rc;
}

/* Method `correct` has options of its own: with it, the rest of the command line is that of the
 * command `correct`, which goes to `rest`. */
static bool method_correct(int argc, char **argv, char **rest, int *count)
{
    bool found = false;
    *count = 0;
    for (int i = 0; i < argc; i++) {
        int words = strcmp(argv[i], "--method=correct") == 0;
        if (i + 1 < argc && strcmp(argv[i], "--method") == 0)
            words = strcmp(argv[i + 1], "correct") == 0 ? 2 : 0;
        found = found || words > 0;
        if (words == 0)
            rest[(*count)++] = argv[i];
        else
            i += words - 1;
    }
    return found;
}

static const char about[] =
    "Answers held-out problems and grades them: accuracy (Wilson interval over\n"
    "problems), pass@k (unbiased, bootstrap interval over problems), majority\n"
    "vote, self-consistency. A run folder brings its own config.yaml: tasks,\n"
    "limits and seed are then those of the run. With --method correct it is the command\n"
    "`retake correct`, with the options of that.";

static int evaluate_thoughts(int argc, char **argv)
{
    const char *path;
    int words;
    options o = {.common = EVAL_DEFAULTS, .method = "thoughts", .k = 1, .temperature = NAN};
    const cli_option list[] = {
        {"--method", OPTION_TEXT, &o.method, "METHOD",
         "plain: ends at the end token; thoughts: with their caps (default); correct"},
        {"--k", OPTION_INTEGER, &o.k, "K", "answers per problem (default 1)"},
        {"--temperature", OPTION_REAL, &o.temperature, "T",
         "default: greedy for one answer, else eval.temperature"},
        {"--greedy", OPTION_FLAG, &o.greedy, NULL, "take the likeliest token"},
        EVAL_OPTIONS(o.common),
    };
    int rc = cli_parse(argc, argv, "eval MODEL --task T | --data F [--k K] [--limit N] [--json]",
                       about, list, RT_COUNT(list), &path, &words, 1);
    if (rc != 0)
        return rc < 0 ? 0 : rc;
    if (words != 1)
        return cli_usage("which model? usage: retake eval MODEL --task T");
    rc = check_options(&o);
    if (rc != 0)
        return rc;
    rt_error err;
    return evaluate(path, &o, &err) == 0 ? 0 : cli_fail(&err);
}

int cmd_eval(int argc, char **argv)
{
    int count;
    char **rest = rt_alloc((size_t)(argc + 1) * sizeof *rest);
    int rc = method_correct(argc, argv, rest, &count) ? cmd_correct(count, rest)
                                                      : evaluate_thoughts(argc, argv);
    rt_free(rest);
    return rc;
}
