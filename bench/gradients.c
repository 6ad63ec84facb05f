/* gradients: what is asked of one run; see gradients.h. */
#include "bench/gradients.h"

#include <math.h>
#include <string.h>

/* What rounding makes of a mean is no change. */
static bool changes(const double *values, int count)
{
    for (int i = 1; i < count; i++)
        if (values[i] != values[0])
            return true;
    return false;
}

double rt_gradients_pearson(const double *x, const double *y, int count)
{
    if (!changes(x, count) || !changes(y, count))
        return NAN;
    double mx = 0, my = 0, xx = 0, yy = 0, xy = 0;
    for (int i = 0; i < count; i++) {
        mx += x[i] / count;
        my += y[i] / count;
    }
    for (int i = 0; i < count; i++) {
        xx += (x[i] - mx) * (x[i] - mx);
        yy += (y[i] - my) * (y[i] - my);
        xy += (x[i] - mx) * (y[i] - my);
    }
    return xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : NAN;
}

static void ranks(const double *values, int count, double *rank)
{
    for (int i = 0; i < count; i++) {
        int below = 0, equal = 0;
        for (int j = 0; j < count; j++) {
            below += values[j] < values[i];
            equal += values[j] == values[i];
        }
        rank[i] = below + (equal - 1) * 0.5;
    }
}

double rt_gradients_spearman(const double *x, const double *y, int count)
{
    double a[RT_GRADIENTS_PARTS], b[RT_GRADIENTS_PARTS];
    RT_ASSERT(count <= RT_GRADIENTS_PARTS);
    ranks(x, count, a);
    ranks(y, count, b);
    return rt_gradients_pearson(a, b, count);
}

int rt_gradients_window(const rt_gradients *gradients)
{
    return RT_MAX(gradients->steps / 10, 1);
}

double rt_gradients_mean(const rt_gradients *gradients, enum rt_gradients_measure measure, int part,
                         int from, int to)
{
    double sum = 0;
    int count = 0;
    for (int step = RT_MAX(from, 0); step < RT_MIN(to, gradients->steps); step++) {
        double value = gradients->value[measure][part][step];
        if (isfinite(value)) {
            sum += value;
            count++;
        }
    }
    return count ? sum / count : NAN;
}

static double whole(const rt_gradients *g, enum rt_gradients_measure measure, int part)
{
    return rt_gradients_mean(g, measure, part, 0, g->steps);
}

double rt_gradients_gain(const rt_gradients *g, int part, int step)
{
    int window = rt_gradients_window(g);
    if (step < window || step + window >= g->steps)
        return NAN;
    return rt_gradients_mean(g, RT_GRADIENTS_REWARD, part, step + 1, step + 1 + window) -
           rt_gradients_mean(g, RT_GRADIENTS_REWARD, part, step - window, step);
}

double rt_gradients_gains(const rt_gradients *g, int part)
{
    double sum = 0;
    int count = 0;
    for (int step = 0; step < g->steps; step++) {
        double gain = rt_gradients_gain(g, part, step);
        if (isfinite(gain)) {
            sum += gain;
            count++;
        }
    }
    return count ? sum / count : NAN;
}

double rt_gradients_ratio(const rt_gradients *g, enum rt_gradients_measure measure)
{
    double least = INFINITY, most = -INFINITY;
    for (int part = 0; part < g->tasks; part++) {
        double value = whole(g, measure, part);
        if (isfinite(value)) {
            least = RT_MIN(least, value);
            most = RT_MAX(most, value);
        }
    }
    return least > 0 && isfinite(least) ? most / least : NAN;
}

/* Over tasks: the mean of a measure against y of the task. */
static double over_tasks(const rt_gradients *g, enum rt_gradients_measure measure,
                         double (*ask)(const rt_gradients *g, int part))
{
    double x[RT_GRADIENTS_PARTS], y[RT_GRADIENTS_PARTS];
    int count = 0;
    for (int part = 0; part < g->tasks; part++) {
        x[count] = whole(g, measure, part);
        y[count] = ask(g, part);
        count += isfinite(x[count]) && isfinite(y[count]);
    }
    return rt_gradients_spearman(x, y, count);
}

static double advantage(const rt_gradients *g, int part)
{
    return whole(g, RT_GRADIENTS_ADVANTAGE, part);
}

double rt_gradients_with_gain(const rt_gradients *g, enum rt_gradients_measure measure)
{
    return over_tasks(g, measure, rt_gradients_gains);
}

double rt_gradients_with_advantage(const rt_gradients *g, enum rt_gradients_measure measure)
{
    return over_tasks(g, measure, advantage);
}

typedef double step_question(const rt_gradients *g, enum rt_gradients_measure measure, int part, int step);

static double around(const rt_gradients *g, enum rt_gradients_measure measure, int part, int step)
{
    int window = rt_gradients_window(g);
    return rt_gradients_mean(g, measure, part, step - window, step + window + 1);
}

static double at(const rt_gradients *g, enum rt_gradients_measure measure, int part, int step)
{
    return g->value[measure][part][step];
}

static double gain_of(const rt_gradients *g, enum rt_gradients_measure unused, int part, int step)
{
    (void)unused;
    return rt_gradients_gain(g, part, step);
}

typedef struct pair {
    step_question *x, *y;
    enum rt_gradients_measure of_x, of_y;
} pair;

/* Over the steps where both are known, appended to x and y from `count` on; returns the new count. */
static int gather(const rt_gradients *g, int part, const pair *p, double *x, double *y, int count)
{
    for (int step = 0; step < g->steps; step++) {
        double a = p->x(g, p->of_x, part, step), b = p->y(g, p->of_y, part, step);
        if (isfinite(a) && isfinite(b)) {
            x[count] = a;
            y[count++] = b;
        }
    }
    return count;
}

static double within_tasks(const rt_gradients *g, pair p)
{
    double x[RT_GRADIENTS_STEPS], y[RT_GRADIENTS_STEPS], sum = 0;
    int tasks = 0;
    for (int part = 0; part < g->tasks; part++) {
        double r = rt_gradients_pearson(x, y, gather(g, part, &p, x, y, 0));
        if (isfinite(r)) {
            sum += r;
            tasks++;
        }
    }
    return tasks ? sum / tasks : NAN;
}

double rt_gradients_with_gain_within(const rt_gradients *g, enum rt_gradients_measure measure)
{
    return within_tasks(g, (pair){around, gain_of, measure, measure});
}

double rt_gradients_with_advantage_within(const rt_gradients *g, enum rt_gradients_measure measure)
{
    return within_tasks(g, (pair){at, at, measure, RT_GRADIENTS_ADVANTAGE});
}

double rt_gradients_block(const rt_gradients *g)
{
    double *x = rt_alloc(2 * RT_GRADIENTS_PARTS * RT_GRADIENTS_STEPS * sizeof *x);
    double *y = x + RT_GRADIENTS_PARTS * RT_GRADIENTS_STEPS;
    const pair p = {at, at, RT_GRADIENTS_NORM2, RT_GRADIENTS_BLOCK};
    int count = 0;
    for (int part = 0; part < g->tasks; part++)
        count = gather(g, part, &p, x, y, count);
    double r = rt_gradients_pearson(x, y, count);
    rt_free(x);
    return r;
}

double rt_gradients_reset_ratio(const rt_gradients *g, enum rt_gradients_measure measure)
{
    double base = NAN, reset = NAN;
    for (int part = g->tasks; part < g->parts; part++) {
        if (!strcmp(g->names[part], "by/base"))
            base = whole(g, measure, part);
        if (!strcmp(g->names[part], "by/reset"))
            reset = whole(g, measure, part);
    }
    return base > 0 && reset > 0 ? sqrt(reset / base) : NAN;
}
