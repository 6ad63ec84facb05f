/* eval_report: the figures of one task, or of all. */
#include "deploy/eval_report.h"

typedef struct figures {
    const char *name;
    int problems, left_out, k, ks_count, ks[EVAL_KS_MAX];
    int64_t correct, wrong, undecided, cut, tokens, thoughts;
    eval_number accuracy, majority, consistency, pass[EVAL_KS_MAX];
} figures;

/* task −1: all. */
static figures figures_of(const eval_run *run, int task, const char *name)
{
    figures r = {.name = name, .k = run->k};
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
    r.majority = eval_mean(major, r.problems, run->seed);
    r.consistency = eval_mean(common, r.problems, run->seed);
    for (int j = 0; j < r.ks_count; j++) {
        for (int i = 0; i < r.problems; i++)
            pass[i] = eval_pass_at(run->k, right[i], r.ks[j]);
        r.pass[j] = eval_mean(pass, r.problems, run->seed);
    }
    rt_free(share), rt_free(major), rt_free(common), rt_free(pass), rt_free(right);
    return r;
}

static int64_t answers_of(const figures *r)
{
    return r->correct + r->wrong + r->undecided;
}

/* ---- as JSON --------------------------------------------------------------------------------- */

static json_t *number_json(eval_number n)
{
    return json_pack("{s:f, s:f, s:f, s:s}", "value", n.value, "low", n.low, "high", n.high, "by",
                     eval_by_name(n.by));
}

static json_t *figures_json(const figures *r)
{
    double answers = (double)RT_MAX(answers_of(r), 1);
    json_t *pass = json_object();
    for (int j = 0; j < r->ks_count; j++) {
        char key[16];
        snprintf(key, sizeof key, "%d", r->ks[j]);
        json_object_set_new(pass, key, number_json(r->pass[j]));
    }
    json_t *root = json_pack("{s:f, s:[f,f], s:s, s:o, s:o, s:o}", "accuracy", r->accuracy.value,
                             "accuracy_interval", r->accuracy.low, r->accuracy.high, "accuracy_by",
                             eval_by_name(r->accuracy.by), "pass_at", pass, "majority",
                             number_json(r->majority), "self_consistency",
                             number_json(r->consistency));
    json_t *counts = json_pack(
        "{s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "problems", r->problems, "left_out",
        r->left_out, "answers", (json_int_t)answers_of(r), "correct", (json_int_t)r->correct,
        "wrong", (json_int_t)r->wrong, "undecided", (json_int_t)r->undecided, "cut",
        (json_int_t)r->cut, "tokens_mean", (double)r->tokens / answers, "thoughts_mean",
        (double)r->thoughts / answers);
    RT_ASSERT(root != NULL && counts != NULL);
    json_object_update(root, counts);
    json_decref(counts);
    return root;
}

json_t *eval_report_json(const eval_run *run)
{
    figures all = figures_of(run, -1, "all");
    json_t *root = figures_json(&all), *tasks = json_array();
    for (int t = 0; t < rt_taskset_tasks(run->tasks); t++) {
        figures one = figures_of(run, t, rt_taskset_name(run->tasks, t));
        json_t *object = figures_json(&one);
        json_object_set_new(object, "task", json_string(one.name));
        json_array_append_new(tasks, object);
    }
    json_t *how = json_pack("{s:i, s:f, s:f, s:f, s:o}", "k", run->k, "temperature",
                            run->temperature, "seconds", run->seconds, "tokens_per_second",
                            (double)run->tokens / RT_MAX(run->seconds, 1e-9), "tasks", tasks);
    RT_ASSERT(how != NULL);
    json_object_update(root, how);
    json_decref(how);
    return root;
}

/* ---- as text --------------------------------------------------------------------------------- */

static void print_number(const char *name, eval_number n)
{
    printf("  %-18s %6.2f %%   [%.2f, %.2f]   %s\n", name, 100 * n.value, 100 * n.low, 100 * n.high,
           eval_by_name(n.by));
}

static void print_figures(const figures *r)
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

void eval_report_print(const eval_run *run)
{
    int tasks = rt_taskset_tasks(run->tasks);
    for (int t = 0; t < tasks; t++) {
        figures one = figures_of(run, t, rt_taskset_name(run->tasks, t));
        print_figures(&one);
    }
    if (tasks > 1) {
        figures all = figures_of(run, -1, "all tasks");
        print_figures(&all);
    }
    char how[64] = "greedy";
    if (run->temperature > 0)
        snprintf(how, sizeof how, "temperature %g, seed %llu", run->temperature,
                 (unsigned long long)run->seed);
    printf("%s; %.1f s, %.0f tokens/s\n", how, run->seconds,
           (double)run->tokens / RT_MAX(run->seconds, 1e-9));
}
