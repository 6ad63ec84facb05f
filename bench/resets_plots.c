/* resets_plots: accuracy against steps and sampled tokens, where resets went, the grid. */
#include "bench/resets.h"

#include <math.h>
#include <string.h>

#include "base/svg.h"
#include "bench/gradients.h"

enum { METHODS_MAX = 8, POINTS = RT_RESETS_MARKS, PANELS_MAX = 16 };

typedef struct line {
    double x[POINTS], y[POINTS], low[POINTS], high[POINTS];
} line;

typedef struct panel {
    line lines[METHODS_MAX];
    rt_svg_series series[METHODS_MAX];
    int count;
    char title[64];
} panel;

static line *add_line(panel *to, const char *name)
{
    RT_ASSERT(to->count < METHODS_MAX);
    line *points = &to->lines[to->count];
    to->series[to->count++] = (rt_svg_series){name, 0, points->x, points->y, points->low,
                                              points->high, false};
    return points;
}

static void add_point(panel *to, double x, double y, double low, double high)
{
    rt_svg_series *series = &to->series[to->count - 1];
    line *points = &to->lines[to->count - 1];
    if (!isfinite(x) || !isfinite(y) || series->count == POINTS)
        return;
    points->x[series->count] = x;
    points->y[series->count] = y;
    points->low[series->count] = isfinite(low) ? low : y;
    points->high[series->count++] = isfinite(high) ? high : y;
}

static double tokens_at_step(const rt_resets_run *run, double step)
{
    for (int i = 0; i < run->marks_count; i++)
        if (run->marks[i].step == (int)step)
            return run->marks[i].tokens;
    return NAN;
}

static void draw_curves(const rt_resets_runs *runs, const char *regime, bool tokens, panel *to)
{
    for (int m = 0; rt_resets_methods[m]; m++) {
        rt_resets_cell cell = rt_resets_cell_of(runs, regime, rt_resets_methods[m]);
        if (cell.count == 0)
            continue;
        add_line(to, rt_resets_methods[m]);
        for (int i = 0; i < cell.runs->marks_count; i++) {
            double step = cell.runs->marks[i].step;
            rt_resets_figure figure = rt_resets_mean(cell, rt_resets_at_step, step);
            double x = tokens ? rt_resets_mean(cell, tokens_at_step, step).mean / 1000 : step;
            add_point(to, x, figure.mean, figure.mean - figure.error, figure.mean + figure.error);
        }
    }
}

static void draw_positions(const rt_resets_runs *runs, const char *regime, panel *to)
{
    for (int m = 0; rt_resets_methods[m]; m++) {
        rt_resets_cell cell = rt_resets_cell_of(runs, regime, rt_resets_methods[m]);
        double bins[RT_RESETS_BINS] = {0}, sum = 0;
        for (int i = 0; i < cell.count; i++)
            for (int b = 0; b < RT_RESETS_BINS; b++) {
                bins[b] += cell.runs[i].bins[b];
                sum += cell.runs[i].bins[b];
            }
        if (sum == 0)
            continue;
        add_line(to, rt_resets_methods[m]);
        for (int b = 0; b < RT_RESETS_BINS; b++)
            add_point(to, (b + 0.5) / RT_RESETS_BINS, bins[b] / sum, NAN, NAN);
    }
}

/* Points by p, ascending; the runs are not in that order. */
static void draw_grid(const rt_resets_runs *runs, int base, int thoughts, panel *to)
{
    static const char *const shown[] = {"rrpo", "srpo", "srpo_oracle", "caro"};
    for (size_t m = 0; m < RT_COUNT(shown); m++) {
        add_line(to, shown[m]);
        for (int decisive = 1; decisive <= thoughts; decisive++) {
            char regime[RT_RESETS_NAME];
            snprintf(regime, sizeof regime, "t%dd%db%d", thoughts, decisive, base);
            rt_resets_difference d =
                rt_resets_differ(rt_resets_cell_of(runs, regime, shown[m]),
                                 rt_resets_cell_of(runs, regime, "grpo_seqmean"), rt_resets_area, 0);
            add_point(to, (double)decisive / thoughts, d.mean, d.low, d.high);
        }
        if (to->series[to->count - 1].count == 0)
            to->count--;
    }
}

static int write(const char *folder, const char *name, const rt_svg_plot *plots, int count,
                 rt_error *err)
{
    rt_buf svg = {0};
    char *path = rt_format("%s/resets-%s.svg", folder, name);
    int code = rt_svg_write(&svg, plots, count, err);
    if (!code)
        code = rt_file_write(path, svg.data, svg.bytes, err);
    rt_buf_free(&svg);
    rt_free(path);
    return code;
}

static rt_svg_plot plot_of(const panel *from, const char *x, const char *y)
{
    return (rt_svg_plot){from->title, x, y, false, false, from->series, from->count};
}

static int plot_regime(const rt_resets_runs *runs, const char *regime, const char *folder,
                       rt_error *err)
{
    panel *panels = rt_alloc(2 * sizeof *panels);
    for (int i = 0; i < 2; i++) {
        snprintf(panels[i].title, sizeof panels[i].title, "%s", regime);
        draw_curves(runs, regime, i == 1, &panels[i]);
    }
    rt_svg_plot plots[] = {plot_of(&panels[0], "steps", "accuracy, sampled"),
                           plot_of(&panels[1], "sampled tokens, thousands", "accuracy, sampled")};
    int code = write(folder, regime, plots, 2, err);
    rt_free(panels);
    return code;
}

static int plot_positions(const rt_resets_runs *runs, const char *folder, rt_error *err)
{
    panel *panels = rt_alloc(PANELS_MAX * sizeof *panels);
    rt_svg_plot plots[PANELS_MAX];
    int count = 0, unused[3];
    for (int i = 0; i < runs->count && count < PANELS_MAX; i++) {
        const char *regime = runs->all[i].regime;
        if ((i > 0 && !strcmp(regime, runs->all[i - 1].regime)) ||
            rt_resets_grid(regime, &unused[0], &unused[1], &unused[2]))
            continue;
        draw_positions(runs, regime, &panels[count]);
        if (panels[count].count == 0)
            continue;
        snprintf(panels[count].title, sizeof panels[count].title, "%s", regime);
        plots[count] = plot_of(&panels[count], "reset at thought / thoughts", "share of resets");
        count++;
    }
    int code = count ? write(folder, "positions", plots, count, err) : RT_OK;
    rt_free(panels);
    return code;
}

static int plot_grid(const rt_resets_runs *runs, int base, const char *folder, rt_error *err)
{
    panel *panels = rt_alloc(PANELS_MAX * sizeof *panels);
    rt_svg_plot plots[PANELS_MAX];
    int count = 0;
    for (int thoughts = 1; thoughts <= 64 && count < PANELS_MAX; thoughts++) {
        draw_grid(runs, base, thoughts, &panels[count]);
        if (panels[count].count == 0)
            continue;
        snprintf(panels[count].title, sizeof panels[count].title, "%d thoughts, base %d %%",
                 thoughts, base);
        plots[count] = plot_of(&panels[count], "share of decisive thoughts",
                               "mean accuracy less grpo_seqmean's");
        count++;
    }
    char name[32];
    snprintf(name, sizeof name, "grid-%d", base);
    int code = count ? write(folder, name, plots, count, err) : RT_OK;
    rt_free(panels);
    return code;
}

int rt_resets_plots(const rt_resets_runs *runs, const char *folder, rt_error *err)
{
    int code = RT_OK, thoughts, decisive, base;
    bool drawn[101] = {false};
    for (int i = 0; i < runs->count && !code; i++) {
        const char *regime = runs->all[i].regime;
        if (i > 0 && !strcmp(regime, runs->all[i - 1].regime))
            continue;
        if (!rt_resets_grid(regime, &thoughts, &decisive, &base)) {
            code = plot_regime(runs, regime, folder, err);
            code = code ? code : rt_gradients_plot(runs, regime, folder, err);
        } else if (base <= 100 && !drawn[base]) {
            drawn[base] = true;
            code = plot_grid(runs, base, folder, err);
        }
    }
    return code ? code : plot_positions(runs, folder, err);
}
