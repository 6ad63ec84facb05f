/*
 * corrections: one gradient from those of the tasks. Every correction is a linear combination of
 * them whose factors follow from their scalar products alone, so nothing here has the size of the
 * model. docs/algorithms.md has formulas and sources.
 */
#include <math.h>
#include <string.h>

#include "learner/learner.h"

typedef struct problem {
    const double *gram;
    int tasks;
} problem;

static double product(const problem *p, int i, int j)
{
    return p->gram[(size_t)i * (size_t)p->tasks + (size_t)j];
}

static double norm(const problem *p, int task)
{
    return sqrt(product(p, task, task));
}

/* g_task · Σ factor[k] g_k */
static double along(const problem *p, int task, const double *factor)
{
    double sum = 0;
    for (int k = 0; k < p->tasks; k++)
        sum += factor[k] * product(p, task, k);
    return sum;
}

/* Every task gets the mean of the norms; without a gradient it neither counts nor changes. */
static void equal_norms(int tasks, const double *norms, double *weight)
{
    double sum = 0;
    int present = 0;
    for (int k = 0; k < tasks; k++) {
        sum += norms[k];
        present += norms[k] > 0;
    }
    for (int k = 0; k < tasks; k++)
        if (norms[k] > 0)
            weight[k] = sum / present / norms[k];
}

static void clip(const problem *p, double largest, double *weight)
{
    for (int k = 0; k < p->tasks; k++)
        if (norm(p, k) > largest)
            weight[k] = largest / norm(p, k);
}

/* factor: what became of g_task in coordinates of the tasks' gradients. */
static void project(const problem *p, int task, uint64_t seed, double *factor)
{
    uint32_t order[RT_TASKS_MAX];
    rt_permutation(seed, (uint64_t)task, order, (uint32_t)p->tasks);
    for (int k = 0; k < p->tasks; k++)
        factor[k] = k == task;
    for (int n = 0; n < p->tasks; n++) {
        int other = (int)order[n];
        double dot = along(p, other, factor);
        if (other != task && dot < 0 && product(p, other, other) > 0)
            factor[other] -= dot / product(p, other, other);
    }
}

static void pcgrad(const problem *p, uint64_t seed, double *weight)
{
    memset(weight, 0, (size_t)p->tasks * sizeof *weight);
    for (int task = 0; task < p->tasks; task++) {
        double factor[RT_TASKS_MAX];
        project(p, task, seed, factor);
        for (int k = 0; k < p->tasks; k++)
            weight[k] += factor[k];
    }
}

/* ---- cagrad: minimum over the simplex of F(w) = s·g_w + radius·|g_w|, s = Σ g_k, g_w = Σ w_k g_k -- */

typedef struct dual {
    const problem *p;
    double radius, floor;       /* floor: added to |g_w|², so that F has a slope everywhere */
    double with_sum[RT_TASKS_MAX]; /* g_k · s */
    double w[RT_TASKS_MAX], with_w[RT_TASKS_MAX]; /* with_w: g_k · g_w */
    bool present[RT_TASKS_MAX];
    double scale;               /* of F */
} dual;

static double squared(const dual *d)
{
    double sum = 0;
    for (int k = 0; k < d->p->tasks; k++)
        sum += d->w[k] * d->with_w[k];
    return RT_MAX(sum, 0);
}

/* F(w) is at most this above the minimum: F is convex, and its linear form has its minimum in a corner. */
static double gap(dual *d)
{
    for (int k = 0; k < d->p->tasks; k++)
        d->with_w[k] = along(d->p, k, d->w);
    double length = sqrt(squared(d) + d->floor), mean = 0, least = INFINITY;
    for (int k = 0; k < d->p->tasks; k++) {
        double slope = d->with_sum[k] + d->radius * d->with_w[k] / length;
        mean += d->w[k] * slope;
        if (d->present[k])
            least = RT_MIN(least, slope);
    }
    return mean - least;
}

/* The best that weight moved from task j to task i can do, exactly: F along that line is
 * slope·x + radius·√(q + 2·linear·x + square·x²). */
static void move(dual *d, int i, int j)
{
    const problem *p = d->p;
    double square = product(p, i, i) + product(p, j, j) - 2 * product(p, i, j);
    if (square <= 0)
        return;
    double slope = d->with_sum[i] - d->with_sum[j], linear = d->with_w[i] - d->with_w[j];
    double steep = d->radius * d->radius * square - slope * slope, x;
    if (steep <= 0) {
        x = slope > 0 ? -d->w[i] : d->w[j];
    } else {
        double rest = RT_MAX((squared(d) + d->floor) * square - linear * linear, 0);
        x = (-slope * sqrt(rest / steep) - linear) / square;
        x = RT_MIN(RT_MAX(x, -d->w[i]), d->w[j]);
    }
    d->w[i] += x;
    d->w[j] -= x;
    for (int k = 0; k < p->tasks; k++)
        d->with_w[k] += x * (product(p, k, i) - product(p, k, j));
}

#define SWEEPS_MAX 1000
#define GAP 1e-9        /* of |s| times the largest norm: when to stop */
#define VANISHED 1e-12  /* of the largest squared norm: a shorter g_w has no direction */

static void minimise(dual *d)
{
    for (int sweep = 0; sweep < SWEEPS_MAX && gap(d) > GAP * d->scale; sweep++)
        for (int i = 0; i < d->p->tasks; i++)
            for (int j = i + 1; j < d->p->tasks; j++)
                if (d->present[i] && d->present[j])
                    move(d, i, j);
}

/* weight: all 1, the plain sum. */
static void cagrad(const problem *p, double c, double *weight)
{
    dual d = {.p = p};
    double largest = 0, sum = 0;
    int present = 0;
    for (int k = 0; k < p->tasks; k++) {
        d.present[k] = product(p, k, k) > 0;
        present += d.present[k];
        largest = RT_MAX(largest, product(p, k, k));
        d.with_sum[k] = along(p, k, weight);
        sum += d.with_sum[k];
    }
    if (present < 2 || c == 0 || sum <= 0)
        return;
    for (int k = 0; k < p->tasks; k++)
        d.w[k] = d.present[k] ? 1.0 / present : 0;
    d.radius = c * sqrt(sum);
    d.scale = sqrt(sum * largest);
    d.floor = 1e-4 * VANISHED * largest;
    minimise(&d);
    if (squared(&d) <= VANISHED * largest)
        return;
    double longer = d.radius / sqrt(squared(&d));
    for (int k = 0; k < p->tasks; k++)
        weight[k] += longer * d.w[k];
}

/* ---- what the learner calls ---------------------------------------------------------------------- */

double rt_correction_note(rt_running_norm *running, double decay, double norm)
{
    if (norm > 0) {
        running->sum = decay * running->sum + (1 - decay) * norm;
        running->weight = decay * running->weight + (1 - decay);
    }
    return running->weight > 0 ? running->sum / running->weight : 0;
}

double rt_correction_advantage(const rt_config *config, int task, double advantage)
{
    bool known = task >= 0 && task < config->tasks_count;
    return known ? advantage * config->tasks[task].advantage_scale : advantage;
}

static int check_numbers(const problem *p, const double *running, rt_error *err)
{
    for (int i = 0; i < p->tasks; i++) {
        bool fine = product(p, i, i) >= 0 && (!running || (isfinite(running[i]) && running[i] >= 0));
        for (int j = 0; j < p->tasks; j++)
            fine = fine && isfinite(product(p, i, j));
        if (!fine)
            return rt_fail(err, RT_ERR_MATH, "the gradient of task %d has a norm or a product that is not "
                           "a number, so gradients can't be corrected; nothing was applied, lower "
                           "learner.lr or set gradients.correction: none", i);
    }
    return 0;
}

int rt_correction_weights(const rt_config *config, const double *gram, const double *running, int tasks,
                          uint64_t seed, double *weight, rt_error *err)
{
    RT_ASSERT(tasks >= 0 && tasks <= RT_TASKS_MAX);
    const char *kind = config->gradients.correction;
    const problem p = {gram, tasks};
    double norms[RT_TASKS_MAX] = {0};
    for (int k = 0; k < tasks; k++)
        weight[k] = 1;
    if (strcmp(kind, "none") == 0)
        return 0;
    bool by_running = strcmp(kind, "running_norms") == 0;
    RT_ASSERT(!by_running || running);
    int rc = check_numbers(&p, by_running ? running : NULL, err);
    if (rc != 0)
        return rc;
    for (int k = 0; k < tasks; k++)
        norms[k] = norm(&p, k);
    if (by_running)
        equal_norms(tasks, running, weight);
    else if (strcmp(kind, "equal_norms") == 0)
        equal_norms(tasks, norms, weight);
    else if (strcmp(kind, "clip") == 0)
        clip(&p, config->gradients.clip, weight);
    else if (strcmp(kind, "pcgrad") == 0)
        pcgrad(&p, seed, weight);
    else if (strcmp(kind, "cagrad") == 0)
        cagrad(&p, config->gradients.cagrad_c, weight);
    for (int k = 0; k < tasks; k++)
        if (!isfinite(weight[k]))
            return rt_fail(err, RT_ERR_MATH, "correction %s gives task %d the factor %g: the tasks' "
                           "gradients are too unequal in size; set gradients.correction: none or clip",
                           kind, k, weight[k]);
    return 0;
}
