/* eval_compare: two models on the same problems, problem by problem. */
#include <string.h>

#include "deploy/eval_report.h"

typedef struct pair {
    const char *name;
    int problems, left_out;
    int64_t lifts,
        regressions; /* problems answered right more often, less often than by the other */
    double accuracy, accuracy_other;
    eval_number difference;
    double p;
    const char *test;
} pair;

static int right_of(const eval_run *run, const eval_item *item)
{
    int right = 0;
    for (int s = 0; s < run->k; s++)
        right += item->grades[s] == RT_CORRECT;
    return right;
}

/* One greedy answer a problem: McNemar. Else the answers of a problem are exchanged together. */
static void test_pair(pair *p, const eval_run *run, const int *difference)
{
    bool exact;
    p->difference = eval_difference(difference, p->problems, run->k, run->seed);
    if (run->temperature <= 0) {
        p->p = eval_mcnemar(p->lifts, p->regressions);
        p->test = "mcnemar_exact";
        return;
    }
    p->p = eval_sign_flip(difference, p->problems, run->seed, &exact);
    p->test = exact ? "sign_flip_exact" : "sign_flip_drawn";
}

/* task −1: all. */
static pair pair_of(const eval_run *run, const eval_run *other, int task, const char *name)
{
    pair p = {.name = name};
    int64_t right = 0, right_other = 0;
    int *difference = rt_alloc((size_t)RT_MAX(run->count, 1) * sizeof *difference);
    RT_ASSERT(run->count == other->count && run->k == other->k);
    for (int i = 0; i < run->count; i++) {
        const eval_item *a = &run->items[i], *b = &other->items[i];
        RT_ASSERT(a->problem.id == b->problem.id);
        if (task >= 0 && a->problem.task != task)
            continue;
        if (a->left_out || b->left_out) {
            p.left_out++;
            continue;
        }
        int mine = right_of(run, a), theirs = right_of(other, b);
        difference[p.problems++] = mine - theirs;
        p.lifts += mine > theirs;
        p.regressions += mine < theirs;
        right += mine;
        right_other += theirs;
    }
    double answers = (double)RT_MAX(p.problems, 1) * run->k;
    p.accuracy = (double)right / answers;
    p.accuracy_other = (double)right_other / answers;
    test_pair(&p, run, difference);
    rt_free(difference);
    return p;
}

static json_t *pair_json(const pair *p)
{
    json_t *json = json_pack("{s:i, s:i, s:f, s:f, s:f, s:[f,f], s:s, s:I, s:I, s:f, s:s}",
                             "problems", p->problems, "left_out", p->left_out, "accuracy",
                             p->accuracy, "accuracy_against", p->accuracy_other, "difference",
                             p->difference.value, "difference_interval", p->difference.low,
                             p->difference.high, "difference_by", eval_by_name(p->difference.by),
                             "lifts", (json_int_t)p->lifts, "regressions",
                             (json_int_t)p->regressions, "p", p->p, "test", p->test);
    RT_ASSERT(json != NULL);
    return json;
}

json_t *eval_compare_json(const eval_run *run, const eval_run *other)
{
    pair all = pair_of(run, other, -1, "all");
    json_t *root = pair_json(&all), *tasks = json_array();
    for (int t = 0; t < rt_taskset_tasks(run->tasks); t++) {
        pair one = pair_of(run, other, t, rt_taskset_name(run->tasks, t));
        json_t *object = pair_json(&one);
        json_object_set_new(object, "task", json_string(one.name));
        json_array_append_new(tasks, object);
    }
    json_object_set_new(root, "tasks", tasks);
    return root;
}

static void print_pair(const pair *p)
{
    printf("%s: %d problems answered by both\n", p->name, p->problems);
    if (p->left_out > 0)
        printf("  left out           %d whose prompt does not fit one of the contexts\n",
               p->left_out);
    if (p->problems == 0)
        return;
    printf("  accuracy           %.2f %% against %.2f %%\n", 100 * p->accuracy,
           100 * p->accuracy_other);
    printf("  difference         %+.2f pp  [%+.2f, %+.2f]   %s\n", 100 * p->difference.value,
           100 * p->difference.low, 100 * p->difference.high, eval_by_name(p->difference.by));
    printf("  lifts              %lld problems, regressions %lld\n", (long long)p->lifts,
           (long long)p->regressions);
    const char *test = strcmp(p->test, "mcnemar_exact") == 0     ? "McNemar, exact"
                       : strcmp(p->test, "sign_flip_exact") == 0 ? "sign flips of problems, exact"
                                                                 : "sign flips of problems, drawn";
    printf("  p-value            %.3g   %s\n", p->p, test);
}

void eval_compare_print(const eval_run *run, const eval_run *other)
{
    int tasks = rt_taskset_tasks(run->tasks);
    for (int t = 0; t < tasks; t++) {
        pair one = pair_of(run, other, t, rt_taskset_name(run->tasks, t));
        print_pair(&one);
    }
    if (tasks > 1) {
        pair all = pair_of(run, other, -1, "all tasks");
        print_pair(&all);
    }
}
