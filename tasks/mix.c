/*
 * mix: shares of the tasks by step. While the shares stay the same for the whole run, problems stand
 * in the cycles of rt_problem_next. Where they change from step to step, a step's counts are those of
 * the largest remainders, and what rounding gave or took is carried to the next step: over any
 * number of steps a task is less than one problem away from its share. State is rebuilt from step 0
 * where an earlier step is asked for.
 */
#include "tasks/mix.h"

#include <math.h>
#include <string.h>

#include "tasks/internal.h"

enum { CHECKED_STEPS = 1000000 };

/* What is known of a step; bits and norms by task. */
typedef struct fact {
    uint32_t answered, undecided; /* undecided: answered, and no answer was judged */
} fact;

typedef struct progress {
    int64_t step;               /* that comes next */
    bool scheduled;             /* the cycles are left */
    int64_t drawn[RT_TASKS_MAX]; /* problems taken in epochs */
    double credit[RT_TASKS_MAX];
    int turn;                   /* round robin: the task before */
    int64_t streak[RT_TASKS_MAX];
    bool dropped[RT_TASKS_MAX];
    int state[RT_TASKS_MAX];
} progress;

struct rt_mix {
    const rt_taskset *set;
    const rt_config *config;
    int tasks, problems;
    bool steady; /* as long as no task is dropped, its shares are those of every step */
    progress now;
    fact *facts;      // (known) by step
    double *squared;  // (known × tasks) strategy gradient, else NULL
    size_t known;
    int *owners;      // (problems)
    uint32_t *order;  // (problems)
};

/* ---- shares ------------------------------------------------------------------------------------- */

static double weight_of(const rt_config *config, int task, int64_t size)
{
    double weight = config->tasks[task].weight;
    switch (config->mixing.strategy) {
    case RT_MIX_PROPORTIONAL:
        return weight * (double)size;
    case RT_MIX_TEMPERATURE:
        return weight * pow((double)size, 1 / config->mixing.temperature);
    case RT_MIX_ROUND_ROBIN:
        return weight > 0;
    default:
        return weight;
    }
}

/* Tasks with a quota get it, the others what is left; without others those with a quota share it. */
static void by_quota(const rt_config *config, const double *factor, double *shares)
{
    double given = 0, weights = 0;
    for (int i = 0; i < config->tasks_count; i++) {
        const rt_task_config *task = &config->tasks[i];
        given += (double)task->quota * factor[i];
        weights += task->quota > 0 ? 0 : task->weight * factor[i];
    }
    double problems = (double)config->algorithm.problems;
    for (int i = 0; i < config->tasks_count; i++) {
        const rt_task_config *task = &config->tasks[i];
        if (task->quota > 0) {
            shares[i] = (double)task->quota * factor[i] * (weights > 0 ? 1 : problems / given);
        } else {
            shares[i] = weights > 0 ? (problems - given) * task->weight * factor[i] / weights : 0;
        }
    }
}

void rt_mix_shares(const rt_config *config, const int64_t *sizes, const double *factor,
                   double *shares)
{
    if (config->mixing.strategy == RT_MIX_QUOTA) {
        by_quota(config, factor, shares);
        return;
    }
    for (int i = 0; i < config->tasks_count; i++) {
        shares[i] = factor[i] > 0 ? factor[i] * weight_of(config, i, sizes[i]) : 0;
    }
}

/* How much of its weight a task has at a step. */
static double ramp_at(const rt_task_config *task, int64_t step)
{
    double factor = 1;
    if (task->window.ramp > 0) {
        factor = RT_MIN(factor, (double)(step - task->window.from + 1) / (double)task->window.ramp);
    }
    if (task->window.fade > 0) {
        factor = RT_MIN(factor, (double)(task->window.to - step) / (double)task->window.fade);
    }
    return factor;
}

/* Steps up to this one have left their facts when `step` is planned, whoever was how fast. */
static int64_t settled(const rt_mix *mix, int64_t step)
{
    return step - 1 - mix->config->run.staleness;
}

/* Mean squared norm of the last steps that measured it; NaN: none did. Negative estimates count as
 * they are: cut off one by one they would add up to a gradient that is not there. */
static double mean_squared(const rt_mix *mix, int task)
{
    int64_t last = settled(mix, mix->now.step);
    int64_t first = RT_MAX(last + 1 - mix->config->mixing.gradient_steps, 0);
    double sum = 0;
    int measured = 0;
    for (int64_t i = first; i <= last && i < (int64_t)mix->known; i++) {
        double squared = mix->squared[(size_t)i * (size_t)mix->tasks + (size_t)task];
        if (isfinite(squared)) {
            sum += squared;
            measured++;
        }
    }
    return measured ? sum / measured : NAN;
}

/* The floor goes by weight and the rest by norm; a task that was not measured counts as the mean. */
static void by_gradient(const rt_mix *mix, const double *factor, double *shares)
{
    double norm[RT_TASKS_MAX], norms = 0, weights = 0, mean = 0;
    int measured = 0;
    for (int i = 0; i < mix->tasks; i++) {
        double squared = factor[i] > 0 ? mean_squared(mix, i) : NAN;
        norm[i] = mix->config->mixing.gradient_squared ? RT_MAX(squared, 0) : sqrt(RT_MAX(squared, 0));
        if (isnan(squared)) {
            norm[i] = NAN;
            continue;
        }
        mean += norm[i];
        measured++;
    }
    mean = measured ? mean / measured : 0;
    for (int i = 0; i < mix->tasks; i++) {
        norm[i] = factor[i] * (isnan(norm[i]) ? mean : norm[i]);
        norms += norm[i];
        weights += shares[i];
    }
    double floor_share = norms > 0 ? mix->config->mixing.gradient_floor : 1;
    for (int i = 0; i < mix->tasks; i++) {
        shares[i] = floor_share * shares[i] / weights +
                    (norms > 0 ? (1 - floor_share) * norm[i] / norms : 0);
    }
}

/* ---- who is in ---------------------------------------------------------------------------------- */

static int64_t left_of(const rt_mix *mix, int task)
{
    return mix->config->tasks[task].once
               ? rt_taskset_count(mix->set, task, RT_TRAIN) - mix->now.drawn[task]
               : INT64_MAX;
}

static int state_at(const rt_mix *mix, int task)
{
    const rt_task_config *config = &mix->config->tasks[task];
    int64_t step = mix->now.step;
    if (!(config->weight > 0)) {
        return RT_MIX_OFF;
    } else if (rt_taskset_count(mix->set, task, RT_TRAIN) == 0 || left_of(mix, task) <= 0) {
        return RT_MIX_DRY;
    } else if (mix->now.dropped[task]) {
        return RT_MIX_UNDECIDED;
    } else if (step < config->window.from) {
        return RT_MIX_EARLY;
    }
    return config->window.to > 0 && step >= config->window.to ? RT_MIX_OVER : RT_MIX_IN;
}

static int count_in(const rt_mix *mix)
{
    int in = 0;
    for (int i = 0; i < mix->tasks; i++) {
        in += mix->now.state[i] == RT_MIX_IN;
    }
    return in;
}

/* Takes in what the newest settled step has left; the last task that is in stays in. */
static void judge_tasks(rt_mix *mix)
{
    progress *now = &mix->now;
    int64_t step = settled(mix, now->step), most = mix->config->mixing.undecided_steps;
    fact news = step >= 0 && (size_t)step < mix->known ? mix->facts[step] : (fact){0};
    for (int i = 0; i < mix->tasks; i++) {
        if (news.answered >> i & 1) {
            now->streak[i] = news.undecided >> i & 1 ? now->streak[i] + 1 : 0;
        }
        now->state[i] = state_at(mix, i);
    }
    for (int i = 0; i < mix->tasks; i++) {
        if (most > 0 && now->streak[i] >= most && now->state[i] == RT_MIX_IN && count_in(mix) > 1) {
            now->dropped[i] = true;
            now->state[i] = RT_MIX_UNDECIDED;
        }
    }
}

/* ---- counts of a step --------------------------------------------------------------------------- */

/* The task that is furthest below what it should have (up), or above; −1: none can change. */
static int furthest(const rt_mix *mix, const double *want, const int64_t *counts, bool up)
{
    int found = -1;
    double most = 0;
    for (int i = 0; i < mix->tasks; i++) {
        bool can = mix->now.state[i] == RT_MIX_IN &&
                   (up ? counts[i] < left_of(mix, i) : counts[i] > 0);
        double gap = up ? want[i] - (double)counts[i] : (double)counts[i] - want[i];
        if (can && (found < 0 || gap > most)) {
            found = i;
            most = gap;
        }
    }
    return found;
}

static int cannot_fill(const rt_mix *mix, rt_error *err)
{
    return rt_fail(err, RT_ERR_INPUT,
                   "step %lld has %d problems, and the tasks that are in the mixture have fewer "
                   "left; lower run.steps to %lld, or look at the tasks' once, window, limit and "
                   "eval_share",
                   (long long)mix->now.step, mix->problems, (long long)mix->now.step);
}

static int share_out(rt_mix *mix, int64_t *counts, rt_error *err)
{
    progress *now = &mix->now;
    double factor[RT_TASKS_MAX] = {0}, want[RT_TASKS_MAX] = {0}, total = 0;
    int64_t sizes[RT_TASKS_MAX] = {0}, given = 0;
    for (int i = 0; i < mix->tasks; i++) {
        bool in = now->state[i] == RT_MIX_IN;
        factor[i] = in ? ramp_at(&mix->config->tasks[i], now->step) : 0;
        sizes[i] = rt_taskset_count(mix->set, i, RT_TRAIN);
        now->credit[i] = in ? now->credit[i] : 0;
    }
    rt_mix_shares(mix->config, sizes, factor, want);
    if (mix->squared && count_in(mix) > 0) {
        by_gradient(mix, factor, want);
    }
    for (int i = 0; i < mix->tasks; i++) {
        total += want[i];
    }
    if (!(total > 0)) {
        return cannot_fill(mix, err);
    }
    for (int i = 0; i < mix->tasks; i++) {
        want[i] = now->credit[i] + want[i] * mix->problems / total;
        double most = now->state[i] == RT_MIX_IN ? (double)left_of(mix, i) : 0;
        counts[i] = (int64_t)RT_MIN(RT_MAX(floor(want[i]), 0), RT_MIN(most, (double)mix->problems));
        given += counts[i];
    }
    while (given != mix->problems) {
        bool up = given < mix->problems;
        int at = furthest(mix, want, counts, up);
        if (at < 0) {
            return cannot_fill(mix, err);
        }
        counts[at] += up ? 1 : -1;
        given += up ? 1 : -1;
    }
    for (int i = 0; i < mix->tasks; i++) {
        now->credit[i] = want[i] - (double)counts[i];
    }
    return RT_OK;
}

/* Each task in its turn, from the one behind the last of the step before. */
static int take_turns(rt_mix *mix, int64_t *counts, rt_error *err)
{
    progress *now = &mix->now;
    memset(counts, 0, (size_t)mix->tasks * sizeof *counts);
    for (int i = 0; i < mix->problems; i++) {
        int tries = 0;
        do {
            now->turn = (now->turn + 1) % mix->tasks;
        } while (++tries <= mix->tasks && (now->state[now->turn] != RT_MIX_IN ||
                                           counts[now->turn] >= left_of(mix, now->turn)));
        if (tries > mix->tasks) {
            return cannot_fill(mix, err);
        }
        mix->owners[i] = now->turn;
        counts[now->turn]++;
    }
    return RT_OK;
}

/* ---- places ------------------------------------------------------------------------------------- */

/* The part of a task's problems that its window shows at a step. */
static bool windowed(const rt_mix *mix, int task, int64_t *first, int64_t *width)
{
    const rt_task_config *config = &mix->config->tasks[task];
    int64_t size = rt_taskset_count(mix->set, task, RT_TRAIN);
    if (config->window.steps == 0) {
        return false;
    }
    double moved = (double)(mix->now.step - config->window.from) / (double)config->window.steps;
    double end = config->window.share + (1 - config->window.share) * RT_MIN(moved, 1);
    int64_t last = RT_MIN(size, (int64_t)ceil(end * (double)size));
    *first = config->window.grow ? 0 : (int64_t)floor((end - config->window.share) * (double)size);
    *first = RT_MIN(*first, last - 1);
    *width = last - *first;
    return *width < size;
}

static void fill(rt_mix *mix, const int64_t *counts, rt_mix_place *places)
{
    int64_t taken[RT_TASKS_MAX] = {0}, first, width;
    for (int i = 0; i < mix->problems; i++) {
        int task = mix->owners[mix->order[i]];
        int64_t number = taken[task]++;
        places[i].task = task;
        places[i].index = windowed(mix, task, &first, &width)
                              ? rt_taskset_pick_of(mix->set, task, mix->now.step, number, first, width)
                              : rt_taskset_pick(mix->set, task, mix->now.drawn[task] + number);
    }
    for (int i = 0; i < mix->tasks; i++) {
        RT_ASSERT(taken[i] == counts[i]);
    }
}

static int scheduled_step(rt_mix *mix, rt_mix_place *places, rt_error *err)
{
    progress *now = &mix->now;
    int64_t counts[RT_TASKS_MAX] = {0}, first, width;
    bool turns = mix->config->mixing.strategy == RT_MIX_ROUND_ROBIN;
    int rc = turns ? take_turns(mix, counts, err) : share_out(mix, counts, err);
    if (rc) {
        return rc;
    }
    for (int i = 0, used = 0; i < mix->tasks && !turns; i++) {
        for (int64_t k = 0; k < counts[i]; k++) {
            mix->owners[used++] = i;
        }
    }
    for (uint32_t i = 0; i < (uint32_t)mix->problems; i++) {
        mix->order[i] = i;
    }
    if (places && !turns) {
        rt_taskset_shuffle(mix->set, now->step, mix->order, (uint32_t)mix->problems);
    }
    if (places) {
        fill(mix, counts, places);
    }
    for (int i = 0; i < mix->tasks; i++) {
        now->drawn[i] += windowed(mix, i, &first, &width) ? 0 : counts[i];
    }
    return RT_OK;
}

static void cycle_step(rt_mix *mix, rt_mix_place *places)
{
    for (int i = 0; places && i < mix->problems; i++) {
        uint64_t before;
        uint64_t cursor = (uint64_t)mix->now.step * (uint64_t)mix->problems + (uint64_t)i;
        places[i].task = rt_taskset_place(mix->set, cursor, &before);
        places[i].index = rt_taskset_pick(mix->set, places[i].task, (int64_t)before);
    }
}

/* Plans the next step; places NULL: only to get behind it. */
static int advance(rt_mix *mix, rt_mix_place *places, rt_error *err)
{
    progress *now = &mix->now;
    judge_tasks(mix);
    bool dropped = false;
    for (int i = 0; i < mix->tasks; i++) {
        dropped = dropped || now->dropped[i];
    }
    int rc = RT_OK;
    if (mix->steady && !dropped) {
        rc = count_in(mix) > 0 ? RT_OK : cannot_fill(mix, err);
        if (!rc) {
            cycle_step(mix, places);
        }
    } else {
        if (mix->steady && !now->scheduled) {
            rt_taskset_drawn(mix->set, (uint64_t)now->step * (uint64_t)mix->problems, now->drawn);
        }
        now->scheduled = true;
        rc = scheduled_step(mix, places, err);
    }
    now->step += rc == RT_OK;
    return rc;
}

/* ---- the mixture -------------------------------------------------------------------------------- */

static void begin(rt_mix *mix)
{
    mix->now = (progress){.turn = mix->tasks - 1};
}

static bool is_steady(const rt_config *config)
{
    bool steady = config->mixing.strategy <= RT_MIX_TEMPERATURE;
    for (int i = 0; i < config->tasks_count; i++) {
        const rt_task_config *task = &config->tasks[i];
        steady = steady && (!(task->weight > 0) ||
                            (!task->once && task->window.from == 0 && task->window.to == 0 &&
                             task->window.ramp == 0 && task->window.steps == 0));
    }
    return steady;
}

int rt_mix_new(rt_mix **mix, const rt_taskset *set, const rt_config *config, rt_error *err)
{
    *mix = NULL;
    bool any = false;
    for (int i = 0; i < rt_taskset_tasks(set); i++) {
        any = any || (config->tasks[i].weight > 0 && rt_taskset_count(set, i, RT_TRAIN) > 0);
    }
    if (!any) {
        return rt_fail(err, RT_ERR_USAGE, RT_NOTHING_TO_TRAIN);
    }
    rt_mix *fresh = rt_alloc(sizeof *fresh);
    fresh->set = set;
    fresh->config = config;
    fresh->tasks = rt_taskset_tasks(set);
    fresh->problems = (int)config->algorithm.problems;
    fresh->steady = is_steady(config);
    fresh->owners = rt_alloc((size_t)fresh->problems * sizeof *fresh->owners);
    fresh->order = rt_alloc((size_t)fresh->problems * sizeof *fresh->order);
    begin(fresh);
    *mix = fresh;
    return RT_OK;
}

void rt_mix_free(rt_mix **mix)
{
    if (*mix) {
        rt_free((*mix)->facts);
        rt_free((*mix)->squared);
        rt_free((*mix)->owners);
        rt_free((*mix)->order);
        rt_free(*mix);
        *mix = NULL;
    }
}

static void know(rt_mix *mix, int64_t step)
{
    size_t old = mix->known, wanted = (size_t)step + 1, tasks = (size_t)mix->tasks;
    if (wanted <= old) {
        return;
    }
    wanted = RT_MAX(wanted, RT_MAX(2 * old, 64));
    mix->facts = rt_realloc(mix->facts, old * sizeof *mix->facts, wanted * sizeof *mix->facts);
    if (mix->config->mixing.strategy == RT_MIX_GRADIENT) {
        mix->squared = rt_realloc(mix->squared, old * tasks * sizeof(double),
                                  wanted * tasks * sizeof(double));
        for (size_t i = old * tasks; i < wanted * tasks; i++) {
            mix->squared[i] = NAN;
        }
    }
    mix->known = wanted;
}

void rt_mix_note_grades(rt_mix *mix, int64_t step, const int64_t *answers, const int64_t *undecided)
{
    RT_ASSERT(step >= 0);
    know(mix, step);
    mix->facts[step] = (fact){0};
    for (int i = 0; i < mix->tasks; i++) {
        mix->facts[step].answered |= (uint32_t)(answers[i] > 0) << i;
        mix->facts[step].undecided |= (uint32_t)(answers[i] > 0 && undecided[i] == answers[i]) << i;
    }
}

void rt_mix_note_norms(rt_mix *mix, int64_t step, const double *squared)
{
    RT_ASSERT(step >= 0);
    know(mix, step);
    if (mix->squared) {
        memcpy(mix->squared + (size_t)step * (size_t)mix->tasks, squared,
               (size_t)mix->tasks * sizeof *squared);
    }
}

int rt_mix_step(rt_mix *mix, int64_t step, rt_mix_place *places, rt_error *err)
{
    RT_ASSERT(step >= 0);
    if (mix->now.step > step) {
        begin(mix);
    }
    int rc = RT_OK;
    while (!rc && mix->now.step < step) {
        rc = advance(mix, NULL, err);
    }
    rc = rc ? rc : advance(mix, places, err);
    if (rc) { /* what was counted of that step must not count twice */
        begin(mix);
    }
    return rc;
}

int rt_mix_check(rt_mix *mix, int64_t steps, rt_error *err)
{
    begin(mix);
    int rc = RT_OK;
    while (!rc && !mix->steady && mix->now.step < RT_MIN(steps, CHECKED_STEPS)) {
        rc = advance(mix, NULL, err);
    }
    begin(mix);
    if (rc && err) { /* known before anything has started */
        err->code = RT_ERR_USAGE;
    }
    return rc ? RT_ERR_USAGE : RT_OK;
}

int rt_mix_state_of(const rt_mix *mix, int task)
{
    RT_ASSERT(task >= 0 && task < mix->tasks);
    return mix->now.state[task];
}

int64_t rt_mix_undecided(const rt_mix *mix, int task)
{
    RT_ASSERT(task >= 0 && task < mix->tasks);
    return mix->now.streak[task];
}
