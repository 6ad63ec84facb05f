/*
 * mixing: the mixture of a run: what its steps left is written to run.db, read back when a run goes
 * on, and told to the mix, which decides from it. A person hears of every task that comes or goes.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "coordinator/internal.h"

enum { METRIC_BYTES_MAX = 256 };

/* ---- what earlier lives left -------------------------------------------------------------------- */

/* The numbers of one step, as its metrics "task.NAME.KIND" say them. */
typedef struct account {
    int64_t step;
    int64_t answers[RT_TASKS_MAX], undecided[RT_TASKS_MAX];
    double squared[RT_TASKS_MAX];
} account;

static void begin_account(account *of, int64_t step)
{
    *of = (account){.step = step};
    for (int i = 0; i < RT_TASKS_MAX; i++) {
        of->squared[i] = NAN;
    }
}

static void take_metric(const rt_coordinator *co, account *to, const char *name, double value)
{
    const char *rest = name + strlen("task.");
    for (int i = 0; i < rt_taskset_tasks(co->tasks); i++) {
        const char *task = rt_taskset_name(co->tasks, i);
        size_t bytes = strlen(task);
        if (strncmp(rest, task, bytes) != 0) {
            continue;
        }
        if (strcmp(rest + bytes, ".answers") == 0) {
            to->answers[i] = (int64_t)value;
        } else if (strcmp(rest + bytes, ".undecided") == 0) {
            to->undecided[i] = (int64_t)value;
        } else if (strcmp(rest + bytes, ".gradient") == 0) {
            to->squared[i] = value;
        }
    }
}

static void note(rt_coordinator *co, const account *of)
{
    if (of->step >= 0) {
        rt_mix_note_grades(co->mix, of->step, of->answers, of->undecided);
        rt_mix_note_norms(co->mix, of->step, of->squared);
    }
}

static int load(rt_coordinator *co, rt_error *err)
{
    sqlite3 *db = rt_store_database(co->store);
    sqlite3_stmt *query = NULL;
    account of;
    begin_account(&of, -1);
    int code = sqlite3_prepare_v2(db,
                                  "SELECT step, name, value FROM metrics WHERE name LIKE 'task.%' "
                                  "AND step >= 0 ORDER BY step",
                                  -1, &query, NULL);
    while (code == SQLITE_OK && (code = sqlite3_step(query)) == SQLITE_ROW) {
        int64_t step = sqlite3_column_int64(query, 0);
        if (step != of.step) {
            note(co, &of);
            begin_account(&of, step);
        }
        take_metric(co, &of, (const char *)sqlite3_column_text(query, 1),
                    sqlite3_column_double(query, 2));
        code = SQLITE_OK;
    }
    sqlite3_finalize(query);
    note(co, &of);
    return code == SQLITE_DONE
               ? RT_OK
               : rt_fail(err, RT_ERR_IO, "cannot read what the tasks' steps left in the run store: %s",
                         sqlite3_errmsg(db));
}

/* ---- opening ------------------------------------------------------------------------------------ */

int rt_mixing_check(rt_coordinator *co, rt_error *err)
{
    if (co->config->run.steps == 0) { /* nothing is trained, so nothing need be there */
        return RT_OK;
    }
    int rc = rt_mix_new(&co->mix, co->tasks, co->config, err);
    return rc ? rc : rt_mix_check(co->mix, co->config->run.steps, err);
}

int rt_mixing_load(rt_coordinator *co, rt_error *err)
{
    return co->mix && co->past.exists ? load(co, err) : RT_OK;
}

/* What the floor leaves to the task with the least weight, whatever the norms. */
void rt_mixing_warn(rt_coordinator *co)
{
    const rt_config *config = co->config;
    double weights = 0, least = INFINITY;
    int rarest = 0;
    for (int i = 0; i < config->tasks_count; i++) {
        double weight = config->tasks[i].weight;
        weights += weight;
        if (weight > 0 && weight < least) {
            least = weight;
            rarest = i;
        }
    }
    double problems = (double)config->algorithm.problems * config->mixing.gradient_floor * least / weights;
    if (config->mixing.strategy == RT_MIX_GRADIENT && problems < 2) {
        rt_events_add(co, RT_WARN, "coordinator",
                      "task %s may get as few as %.1f problems a step (algorithm.problems times "
                      "mixing.gradient_floor times its part of the weights), and below 2 its gradient has no "
                      "unbiased norm: raise one of them", rt_taskset_name(co->tasks, rarest), problems);
    }
}

void rt_mixing_close(rt_coordinator *co)
{
    rt_mix_free(&co->mix);
}

/* ---- a step's problems -------------------------------------------------------------------------- */

static void tell_dry(rt_coordinator *co, int task, int64_t step)
{
    int64_t count = rt_taskset_count(co->tasks, task, RT_TRAIN);
    const char *name = rt_taskset_name(co->tasks, task);
    if (count == 0) {
        rt_events_add(co, RT_WARN, "coordinator",
                      "task %s has no problems for training and is left out of the mixture; look at "
                      "its eval_share and limit", name);
    } else {
        rt_events_add(co, RT_INFO, "coordinator",
                      "task %s has given each of its %" PRId64 " problems once and is out of the "
                      "mixture from step %" PRId64 " on; its share goes to the others",
                      name, count, step);
    }
}

static void tell(rt_coordinator *co, int task, int state, int64_t step)
{
    const char *name = rt_taskset_name(co->tasks, task);
    if (state == RT_MIX_DRY) {
        tell_dry(co, task, step);
    } else if (state == RT_MIX_UNDECIDED) {
        rt_events_add(co, RT_WARN, "coordinator",
                      "task %s is out of the mixture from step %" PRId64 " on, its share goes to the "
                      "others: of %" PRId64 " steps its grader could judge no answer; look at some "
                      "(retake show RUN trajectory), then at the task's grader and prompt",
                      name, step, co->config->mixing.undecided_steps);
    } else if (state == RT_MIX_EARLY) {
        rt_events_add(co, RT_INFO, "coordinator", "task %s comes into the mixture at step %" PRId64,
                      name, co->config->tasks[task].window.from);
    } else if (state == RT_MIX_OVER) {
        rt_events_add(co, RT_INFO, "coordinator",
                      "task %s has left the mixture with step %" PRId64 ": its window is over", name,
                      co->config->tasks[task].window.to);
    }
}

/* The last task that is in stays in, whatever its grader says. */
static void tell_of_last(rt_coordinator *co, int task)
{
    int64_t most = co->config->mixing.undecided_steps, streak = rt_mix_undecided(co->mix, task);
    if (most > 0 && streak >= most && !co->last_told[task]) {
        rt_events_add(co, RT_WARN, "coordinator",
                      "task %s: of %" PRId64 " steps its grader could judge no answer, and it stays "
                      "only because no other task is in the mixture; look at some (retake show RUN "
                      "trajectory), then at the task's grader and prompt",
                      rt_taskset_name(co->tasks, task), streak);
    }
    co->last_told[task] = most > 0 && streak >= most;
}

static void look_at_tasks(rt_coordinator *co, int64_t step)
{
    for (int i = 0; i < rt_taskset_tasks(co->tasks); i++) {
        int state = rt_mix_state_of(co->mix, i);
        if (state != co->task_state[i]) {
            tell(co, i, state, step);
        }
        co->task_state[i] = state;
        if (state == RT_MIX_IN) {
            tell_of_last(co, i);
        } else {
            char *name = rt_format("task.%s.out", rt_taskset_name(co->tasks, i));
            rt_record_metric(co, step, name, state);
            rt_free(name);
        }
    }
}

int rt_mixing_step(rt_coordinator *co, rt_plan *plan, rt_problem *problems, rt_error *err)
{
    int count = (int)co->config->algorithm.problems;
    RT_ASSERT(co->mix != NULL);
    rt_mix_place *places = rt_arena_alloc(plan->arena, (size_t)count * sizeof *places);
    int rc = rt_mix_step(co->mix, plan->step, places, err);
    if (!rc) {
        look_at_tasks(co, plan->step);
    }
    for (int i = 0; i < count && !rc; i++) {
        rc = rt_problem_get(co->tasks, places[i].task, RT_TRAIN, places[i].index, plan->arena,
                            &problems[i], err);
    }
    return rc;
}

/* ---- what came of it ---------------------------------------------------------------------------- */

typedef struct task_sums {
    int64_t problems, answers, undecided, correct, groups, degenerate;
    double reward;
} task_sums;

static void sum_job(const rt_job *job, task_sums *sums)
{
    bool degenerate = true;
    for (int i = 0; i < job->count; i++) {
        const rt_sample *sample = &job->samples[i];
        sums->answers++;
        sums->undecided += sample->grade == RT_UNDECIDED;
        sums->correct += sample->grade == RT_CORRECT;
        sums->reward += sample->reward;
        degenerate = degenerate && sample->advantage == 0;
    }
    bool grouped = job->count > 0 && job->samples[0].group >= 0; /* preferences have no groups */
    sums->groups += grouped;
    sums->degenerate += grouped && degenerate;
}

static void put(rt_coordinator *co, int64_t step, int task, const char *kind, double value)
{
    char *name = rt_format("task.%s.%s", rt_taskset_name(co->tasks, task), kind);
    rt_step_metric(co, step, name, value);
    rt_free(name);
}

/* Task that "grad/NAME/norm2" is about; −1: it is another number. */
static int task_of_norm(const rt_coordinator *co, const char *name)
{
    for (int i = 0; i < rt_taskset_tasks(co->tasks); i++) {
        char *norm = rt_format("grad/%s/norm2", rt_taskset_name(co->tasks, i));
        bool same = strcmp(name, norm) == 0;
        rt_free(norm);
        if (same) {
            return i;
        }
    }
    return -1;
}

void rt_mixing_measured(rt_coordinator *co, int64_t step, Retake__Metric *const *metrics, size_t count)
{
    double squared[RT_TASKS_MAX];
    for (int i = 0; i < RT_TASKS_MAX; i++) {
        squared[i] = NAN;
    }
    for (size_t i = 0; i < count; i++) {
        const char *name = metrics[i]->name;
        if (strncmp(name, "grad/", 5) != 0 || strlen(name) >= METRIC_BYTES_MAX) {
            continue; /* other names are this process's own */
        }
        rt_step_metric(co, step, name, metrics[i]->value);
        int task = task_of_norm(co, name);
        if (task >= 0) {
            squared[task] = metrics[i]->value;
            put(co, step, task, "gradient", metrics[i]->value);
        }
    }
    if (co->mix) {
        rt_mix_note_norms(co->mix, step, squared);
    }
}

void rt_mixing_record(rt_coordinator *co, const rt_plan *plan)
{
    task_sums sums[RT_TASKS_MAX] = {{0}};
    int64_t answers[RT_TASKS_MAX], undecided[RT_TASKS_MAX];
    bool *seen = rt_alloc((size_t)plan->count + 1); /* by problem: plans with resets lease one again */
    for (int i = 0; i < plan->count; i++) {
        const rt_job *job = &plan->jobs[i];
        if (job->kind == RT_KIND_BASE || job->kind == RT_KIND_DEBATE) {
            sums[job->task].problems += !seen[job->index];
            seen[job->index] = true;
            if (job->samples) {
                sum_job(job, &sums[job->task]);
            }
        }
    }
    rt_free(seen);
    for (int i = 0; i < rt_taskset_tasks(co->tasks); i++) {
        const task_sums *of = &sums[i];
        double n = (double)of->answers; /* none: the means are NaN, which is not written */
        answers[i] = of->answers;
        undecided[i] = of->undecided;
        put(co, plan->step, i, "problems", (double)of->problems);
        put(co, plan->step, i, "answers", n);
        put(co, plan->step, i, "undecided", (double)of->undecided);
        put(co, plan->step, i, "reward", of->reward / n);
        put(co, plan->step, i, "accuracy", (double)of->correct / n);
        if (!plan->resets) {
            put(co, plan->step, i, "degenerate", (double)of->degenerate / (double)of->groups);
        }
    }
    rt_mix_note_grades(co->mix, plan->step, answers, undecided);
}
