/* resets_figures: what is asked of a run, means over seeds, differences paired by seed. */
#include "bench/resets.h"

#include <math.h>
#include <string.h>

#include "bench/cpi.h"

bool rt_resets_grid(const char *regime, int *thoughts, int *decisive, int *base)
{
    char end;
    return sscanf(regime, "t%3dd%3db%3d%c", thoughts, decisive, base, &end) == 3 && *thoughts > 0;
}

rt_resets_cell rt_resets_cell_of(const rt_resets_runs *runs, const char *regime, const char *method)
{
    rt_resets_cell cell = {NULL, 0};
    for (int i = 0; i < runs->count; i++) {
        const rt_resets_run *run = &runs->all[i];
        if (strcmp(run->regime, regime) || strcmp(run->method, method))
            continue;
        if (!cell.runs)
            cell.runs = run;
        cell.count++;
    }
    return cell;
}

double rt_resets_at_step(const rt_resets_run *run, double step)
{
    for (int i = 0; i < run->marks_count; i++)
        if (run->marks[i].step == (int)step)
            return run->marks[i].accuracy;
    return NAN;
}

double rt_resets_at_tokens(const rt_resets_run *run, double tokens)
{
    for (int i = 0; i + 1 < run->marks_count; i++) {
        const rt_resets_mark *from = &run->marks[i], *to = from + 1;
        if (tokens >= from->tokens && tokens <= to->tokens && to->tokens > from->tokens) {
            double share = (tokens - from->tokens) / (to->tokens - from->tokens);
            return from->accuracy + share * (to->accuracy - from->accuracy);
        }
    }
    return NAN;
}

/* Marks behind the first one from step `after` (not included) to `last`. */
static double mean_between(const rt_resets_run *run, double after, double last)
{
    double sum = 0;
    int count = 0;
    for (int i = 1; i < run->marks_count; i++)
        if (run->marks[i].step > after && run->marks[i].step <= last) {
            sum += run->marks[i].accuracy;
            count++;
        }
    return count ? sum / count : NAN;
}

static double last_step(const rt_resets_run *run)
{
    return run->marks[run->marks_count - 1].step;
}

double rt_resets_area(const rt_resets_run *run, double unused)
{
    (void)unused;
    return mean_between(run, 0, last_step(run));
}

double rt_resets_early(const rt_resets_run *run, double unused)
{
    (void)unused;
    double first = run->marks_count > 1 ? run->marks[1].step : 0;
    return mean_between(run, 0, RT_MAX(last_step(run) / 3, first));
}

double rt_resets_late(const rt_resets_run *run, double unused)
{
    (void)unused;
    return mean_between(run, last_step(run) * 2 / 3, last_step(run));
}

double rt_resets_area_tokens(const rt_resets_run *run, double budget)
{
    enum { PARTS = 200 };
    double sum = 0;
    for (int i = 0; i < PARTS; i++)
        sum += rt_resets_at_tokens(run, (i + 0.5) / PARTS * budget);
    return sum / PARTS;
}

rt_resets_figure rt_resets_figure_of(const double *values, int count)
{
    if (count < 2)
        return (rt_resets_figure){count ? values[0] : NAN, NAN, count};
    rt_cpi_mean mean = rt_cpi_mean_of(values, count);
    return (rt_resets_figure){mean.mean, mean.error, count};
}

rt_resets_figure rt_resets_mean(rt_resets_cell cell, rt_resets_question *ask, double argument)
{
    double values[RT_RESETS_SEEDS];
    int count = 0;
    for (int i = 0; i < cell.count && count < RT_RESETS_SEEDS; i++) {
        double value = ask(&cell.runs[i], argument);
        if (isfinite(value))
            values[count++] = value;
    }
    return rt_resets_figure_of(values, count);
}

rt_resets_difference rt_resets_differ(rt_resets_cell a, rt_resets_cell b, rt_resets_question *ask,
                                      double argument)
{
    double values[RT_RESETS_SEEDS];
    int count = 0;
    for (int i = 0; i < a.count; i++)
        for (int j = 0; j < b.count && count < RT_RESETS_SEEDS; j++) {
            double value = ask(&a.runs[i], argument) - ask(&b.runs[j], argument);
            if (a.runs[i].seed == b.runs[j].seed && isfinite(value))
                values[count++] = value;
        }
    if (count < 2)
        return (rt_resets_difference){count ? values[0] : NAN, NAN, NAN, count};
    rt_cpi_mean mean = rt_cpi_mean_of(values, count);
    double half = rt_cpi_t95(count - 1) * mean.error;
    return (rt_resets_difference){mean.mean, mean.mean - half, mean.mean + half, count};
}

double rt_resets_budget(const rt_resets_runs *runs, const char *regime)
{
    double least = 0;
    for (int i = 0; i < runs->count; i++) {
        const rt_resets_run *run = &runs->all[i];
        double tokens = run->marks[run->marks_count - 1].tokens;
        if (!strcmp(run->regime, regime) && (least == 0 || tokens < least))
            least = tokens;
    }
    return least;
}
