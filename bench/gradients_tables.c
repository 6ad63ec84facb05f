/* gradients_tables: gradients of tasks over seeds, as CSV, Markdown and a plot. */
#include <math.h>
#include <string.h>

#include "base/svg.h"
#include "bench/cpi.h"
#include "bench/gradients.h"

typedef double question(const rt_gradients *g, int part, int argument);

static rt_resets_figure over_seeds(rt_resets_cell cell, question *ask, int part, int argument)
{
    double values[RT_RESETS_SEEDS];
    int count = 0;
    for (int i = 0; i < cell.count && count < RT_RESETS_SEEDS; i++) {
        const rt_gradients *g = cell.runs[i].gradients;
        double value = g && part < g->parts ? ask(g, part, argument) : NAN;
        if (isfinite(value))
            values[count++] = value;
    }
    return rt_resets_figure_of(values, count);
}

/* Numbers of any size: three digits. */
static void add_figure(rt_buf *out, rt_resets_figure figure)
{
    rt_buf_addf(out, isnan(figure.mean) ? " | –" : " | %.3g", figure.mean);
    if (!isnan(figure.error))
        rt_buf_addf(out, " ± %.2g", figure.error);
}

static double whole(const rt_gradients *g, int part, int measure)
{
    return rt_gradients_mean(g, (enum rt_gradients_measure)measure, part, 0, g->steps);
}

static double reward(const rt_gradients *g, int part, int late)
{
    int third = RT_MAX(g->steps / 3, 1);
    return late ? rt_gradients_mean(g, RT_GRADIENTS_REWARD, part, g->steps - third, g->steps)
                : rt_gradients_mean(g, RT_GRADIENTS_REWARD, part, 0, third);
}

static double held_out(const rt_gradients *g, int part, int late)
{
    return late ? g->after[part] : g->before[part];
}

static double live(const rt_gradients *g, int part, int unused)
{
    (void)unused;
    return whole(g, part, RT_GRADIENTS_LIVE) / whole(g, part, RT_GRADIENTS_PROMPTS);
}

static double gains(const rt_gradients *g, int part, int unused)
{
    (void)unused;
    return rt_gradients_gains(g, part);
}

static double cosine(const rt_gradients *g, int part, int other)
{
    return g->cosine[part][other];
}

/* ---- one method: its tasks ------------------------------------------------------------------------- */

static void add_parts(rt_resets_cell cell, const char *method, rt_buf *out)
{
    static const struct {
        const char *title;
        question *ask;
        int argument;
    } columns[] = {
        {"squared norm", whole, RT_GRADIENTS_NORM2}, {"naive", whole, RT_GRADIENTS_NAIVE},
        {"of live problems", whole, RT_GRADIENTS_LIVE_NORM}, {"last layer", whole, RT_GRADIENTS_BLOCK},
        {"share", whole, RT_GRADIENTS_SHARE}, {"cosine", whole, RT_GRADIENTS_COSINE},
        {"mean \\|A\\|", whole, RT_GRADIENTS_ADVANTAGE},
        {"\\|g\\| with \\|A\\|", whole, RT_GRADIENTS_CORRELATION}, {"live", live, 0},
        {"reward, first third", reward, 0}, {"last third", reward, 1}, {"Gain", gains, 0},
        {"held out, before", held_out, 0}, {"after", held_out, 1}};
    const rt_gradients *first = cell.runs->gradients;
    rt_buf_addf(out, "\nGradients of %s, means over the steps:\n\n| part", method);
    for (size_t c = 0; c < RT_COUNT(columns); c++)
        rt_buf_addf(out, " | %s", columns[c].title);
    rt_buf_addf(out, " |\n|---");
    for (size_t c = 0; c < RT_COUNT(columns); c++)
        rt_buf_addf(out, "|---");
    rt_buf_addf(out, "|\n");
    for (int part = 0; part < first->parts; part++) {
        rt_buf_addf(out, "| %s", first->names[part]);
        for (size_t c = 0; c < RT_COUNT(columns); c++)
            add_figure(out, over_seeds(cell, columns[c].ask, part, columns[c].argument));
        rt_buf_addf(out, " |\n");
    }
}

static void add_cosines(rt_resets_cell cell, const char *method, rt_buf *out)
{
    const rt_gradients *first = cell.runs->gradients;
    rt_buf_addf(out, "\nCosines between the gradients of tasks, %s:\n\n| ", method);
    for (int part = 0; part < first->tasks; part++)
        rt_buf_addf(out, "| %s ", first->names[part]);
    rt_buf_addf(out, "|\n|---");
    for (int part = 0; part < first->tasks; part++)
        rt_buf_addf(out, "|---");
    rt_buf_addf(out, "|\n");
    for (int part = 0; part < first->tasks; part++) {
        rt_buf_addf(out, "| %s", first->names[part]);
        for (int other = 0; other < first->tasks; other++)
            add_figure(out, over_seeds(cell, cosine, part, other));
        rt_buf_addf(out, " |\n");
    }
}

/* ---- all methods --------------------------------------------------------------------------------------- */

static double clip(const rt_gradients *g, int unused, int unused_too)
{
    (void)unused, (void)unused_too;
    return g->clip;
}

static double with_gain(const rt_gradients *g, int unused, int measure)
{
    (void)unused;
    return rt_gradients_with_gain(g, (enum rt_gradients_measure)measure);
}

static double with_gain_within(const rt_gradients *g, int unused, int measure)
{
    (void)unused;
    return rt_gradients_with_gain_within(g, (enum rt_gradients_measure)measure);
}

static double with_advantage(const rt_gradients *g, int unused, int measure)
{
    (void)unused;
    return rt_gradients_with_advantage(g, (enum rt_gradients_measure)measure);
}

static double with_advantage_within(const rt_gradients *g, int unused, int measure)
{
    (void)unused;
    return rt_gradients_with_advantage_within(g, (enum rt_gradients_measure)measure);
}

static double last_layer(const rt_gradients *g, int unused, int by_problem)
{
    (void)unused;
    return by_problem ? g->block : rt_gradients_block(g);
}

typedef struct column {
    const char *title;
    question *ask;
    int argument;
} column;

static const column of_tasks[] = {{"last layer and all, problems", last_layer, 1},
                                  {"squared norms of tasks", last_layer, 0},
                                  {"clip factor", clip, 0}};
static const column of_relations[] = {
    {"Gain, tasks", with_gain, RT_GRADIENTS_NORM2}, {"Gain, time", with_gain_within, RT_GRADIENTS_NORM2},
    {"\\|A\\|, tasks", with_advantage, RT_GRADIENTS_NORM2},
    {"\\|A\\|, time", with_advantage_within, RT_GRADIENTS_NORM2},
    {"naive: Gain, tasks", with_gain, RT_GRADIENTS_NAIVE},
    {"Gain, time", with_gain_within, RT_GRADIENTS_NAIVE},
    {"\\|A\\|, tasks", with_advantage, RT_GRADIENTS_NAIVE},
    {"\\|A\\|, time", with_advantage_within, RT_GRADIENTS_NAIVE}};
static bool measured(rt_resets_cell cell)
{
    return cell.count > 0 && cell.runs->gradients;
}

static void add_methods(const rt_resets_runs *runs, const char *regime, const char *what,
                        const column *columns, int count, rt_buf *out)
{
    rt_buf_addf(out, "\n%s:\n\n| method | seeds", what);
    for (int c = 0; c < count; c++)
        rt_buf_addf(out, " | %s", columns[c].title);
    rt_buf_addf(out, " |\n|---|---");
    for (int c = 0; c < count; c++)
        rt_buf_addf(out, "|---");
    rt_buf_addf(out, "|\n");
    for (int m = 0; rt_resets_methods[m]; m++) {
        rt_resets_cell cell = rt_resets_cell_of(runs, regime, rt_resets_methods[m]);
        if (!measured(cell))
            continue;
        rt_buf_addf(out, "| %s | %d", rt_resets_methods[m], cell.count);
        for (int c = 0; c < count; c++)
            add_figure(out, over_seeds(cell, columns[c].ask, 0, columns[c].argument));
        rt_buf_addf(out, " |\n");
    }
}

/* ---- ratios of squared norms --------------------------------------------------------------------- */

static const struct {
    const char *title;
    enum rt_gradients_measure measure;
} norms[] = {{"unbiased", RT_GRADIENTS_NORM2}, {"naive", RT_GRADIENTS_NAIVE},
             {"live problems", RT_GRADIENTS_LIVE_NORM}, {"last layer", RT_GRADIENTS_BLOCK}};

/* Of the loudest of the parts to the quietest, or, where only two are asked for, of the second to the
 * first; NAN where one is not above 0. left_out: a seed to leave out, -1 none. */
static double ratio(rt_resets_cell cell, enum rt_gradients_measure measure, int first, int second,
                    int left_out)
{
    const rt_gradients *g = cell.runs->gradients;
    double value[RT_GRADIENTS_PARTS], least = INFINITY, most = -INFINITY;
    for (int part = 0; part < g->parts; part++) {
        double sum = 0;
        for (int i = 0; i < cell.count; i++)
            sum += i != left_out ? whole(cell.runs[i].gradients, part, (int)measure) : 0;
        value[part] = sum / (cell.count - (left_out >= 0));
    }
    for (int part = 0; part < g->tasks; part++) {
        least = RT_MIN(least, value[part]);
        most = RT_MAX(most, value[part]);
    }
    if (second > 0) {
        least = value[first];
        most = value[second];
    }
    return least > 0 && most > 0 && isfinite(least) ? most / least : NAN;
}

/* Of means over the seeds, with the standard error of the jackknife. */
static rt_resets_figure ratio_figure(rt_resets_cell cell, enum rt_gradients_measure measure, int first,
                                     int second)
{
    double all = ratio(cell, measure, first, second, -1), squares = 0, mean = 0, without[RT_RESETS_SEEDS];
    if (cell.count < 2 || cell.count > RT_RESETS_SEEDS)
        return (rt_resets_figure){all, NAN, cell.count};
    for (int i = 0; i < cell.count; i++) {
        without[i] = ratio(cell, measure, first, second, i);
        mean += without[i] / cell.count;
    }
    for (int i = 0; i < cell.count; i++)
        squares += (without[i] - mean) * (without[i] - mean);
    return (rt_resets_figure){all, sqrt(squares * (cell.count - 1) / cell.count), cell.count};
}

static void add_ratios(const rt_resets_runs *runs, const char *regime, const char *what, int first,
                       int second, rt_buf *out)
{
    rt_buf_addf(out, "\n%s, of means over steps and seeds (–: one of them is not above 0):\n\n"
                "| method | seeds", what);
    for (size_t c = 0; c < RT_COUNT(norms); c++)
        rt_buf_addf(out, " | %s", norms[c].title);
    rt_buf_addf(out, " |\n|---|---|---|---|---|---|\n");
    for (int m = 0; rt_resets_methods[m]; m++) {
        rt_resets_cell cell = rt_resets_cell_of(runs, regime, rt_resets_methods[m]);
        if (!measured(cell))
            continue;
        rt_buf_addf(out, "| %s | %d", rt_resets_methods[m], cell.count);
        for (size_t c = 0; c < RT_COUNT(norms); c++)
            add_figure(out, ratio_figure(cell, norms[c].measure, first, second));
        rt_buf_addf(out, " |\n");
    }
}

static int part_of(const rt_gradients *g, const char *name)
{
    for (int part = 0; part < g->parts; part++)
        if (!strcmp(g->names[part], name))
            return part;
    return 0;
}

/* Accuracy on held-out problems of every task after the last step. */
static void add_held_out(const rt_resets_runs *runs, const char *regime, const rt_gradients *first,
                         rt_buf *out)
{
    column columns[RT_GRADIENTS_PARTS];
    rt_buf_addf(out, "\nHeld-out accuracy by task after the last step:\n\n| method");
    for (int part = 0; part < first->tasks; part++) {
        columns[part] = (column){first->names[part], held_out, 1};
        rt_buf_addf(out, " | %s", columns[part].title);
    }
    rt_buf_addf(out, " |\n|---");
    for (int part = 0; part < first->tasks; part++)
        rt_buf_addf(out, "|---");
    rt_buf_addf(out, "|\n");
    for (int m = 0; rt_resets_methods[m]; m++) {
        rt_resets_cell cell = rt_resets_cell_of(runs, regime, rt_resets_methods[m]);
        if (!measured(cell))
            continue;
        rt_buf_addf(out, "| %s", rt_resets_methods[m]);
        for (int part = 0; part < first->tasks; part++)
            add_figure(out, over_seeds(cell, columns[part].ask, part, columns[part].argument));
        rt_buf_addf(out, " |\n");
    }
}

static rt_resets_cell first_measured(const rt_resets_runs *runs, const char *regime, const char **method)
{
    for (int m = 0; rt_resets_methods[m]; m++) {
        rt_resets_cell cell = rt_resets_cell_of(runs, regime, rt_resets_methods[m]);
        *method = rt_resets_methods[m];
        if (measured(cell))
            return cell;
    }
    return (rt_resets_cell){NULL, 0};
}

void rt_gradients_table(const rt_resets_runs *runs, const char *regime, rt_buf *out)
{
    const char *method;
    rt_resets_cell cell = first_measured(runs, regime, &method);
    if (cell.count == 0)
        return;
    const rt_gradients *first = cell.runs->gradients;
    add_parts(cell, method, out);
    bool still = cell.runs->rate == 0; /* nothing is learned */
    if (first->tasks > 1) {
        add_cosines(cell, method, out);
        add_ratios(runs, regime, "Squared norm of the loudest task by that of the quietest", 0, 0, out);
        add_methods(runs, regime, "Correlation of the last layer's norm with that of all weights, and what "
                    "clipping left", of_tasks, (int)RT_COUNT(of_tasks), out);
    }
    if (first->tasks > 1 && !still) {
        add_methods(runs, regime, "Correlation of squared norms with Gain and |A|, over tasks (of ranks) and "
                    "over time", of_relations, (int)RT_COUNT(of_relations), out);
        add_held_out(runs, regime, first, out);
    }
    int base = part_of(first, "by/base"), reset = part_of(first, "by/reset");
    if (base > 0 && reset > 0)
        add_ratios(runs, regime, "Squared norm of a problem's reset groups by that of its base group", base,
                   reset, out);
}

/* ---- CSV ------------------------------------------------------------------------------------- */

static void add_csv(const rt_resets_run *run, rt_buf *out)
{
    const rt_gradients *g = run->gradients;
    for (int part = 0; part < g->parts; part++)
        for (int step = 0; step < g->steps; step++) {
            rt_buf_addf(out, "%s,%s,%lld,%s,%d", run->regime, run->method, (long long)run->seed,
                        g->names[part], step);
            for (int m = 0; m < RT_GRADIENTS_MEASURES; m++) {
                double value = g->value[m][part][step];
                rt_buf_addf(out, isnan(value) ? "," : ",%.6g", value);
            }
            rt_buf_addf(out, "\n");
        }
}

void rt_gradients_csv(const rt_resets_runs *runs, rt_buf *out)
{
    rt_buf_addf(out, "regime,method,seed,part,step,norm2,naive,norm2_live,norm2_block,share,cosine,advantage,"
                     "correlation,prompts,live,reward\n");
    for (int i = 0; i < runs->count; i++)
        if (runs->all[i].gradients)
            add_csv(&runs->all[i], out);
}

/* ---- plot ------------------------------------------------------------------------------------ */

enum { WINDOWS = 10, PANELS = 3 };

typedef struct panel {
    double x[RT_GRADIENTS_PARTS][WINDOWS], y[RT_GRADIENTS_PARTS][WINDOWS], low[RT_GRADIENTS_PARTS][WINDOWS],
        high[RT_GRADIENTS_PARTS][WINDOWS];
    rt_svg_series series[RT_GRADIENTS_PARTS];
} panel;

/* Means over a tenth of the steps each. */
static double in_window(const rt_gradients *g, int part, int argument)
{
    int measure = argument / WINDOWS, window = argument % WINDOWS;
    return rt_gradients_mean(g, (enum rt_gradients_measure)measure, part, window * g->steps / WINDOWS,
                             RT_MAX((window + 1) * g->steps / WINDOWS, window * g->steps / WINDOWS + 1));
}

/* At the ends of the tenths. */
static double gain_at(const rt_gradients *g, int part, int window)
{
    return rt_gradients_gain(g, part, window * g->steps / WINDOWS);
}

static void draw(rt_resets_cell cell, int part, question *ask, int first, panel *to)
{
    const rt_gradients *g = cell.runs->gradients;
    rt_svg_series *series = &to->series[part];
    *series = (rt_svg_series){g->names[part], 0, to->x[part], to->y[part], to->low[part], to->high[part],
                              false};
    for (int window = 0; window < WINDOWS; window++) {
        rt_resets_figure figure = over_seeds(cell, ask, part, first + window);
        double error = isfinite(figure.error) ? figure.error : 0, middle = ask == gain_at ? 0 : 0.5;
        int n = series->count;
        if (!isfinite(figure.mean))
            continue;
        to->x[part][n] = (window + middle) * g->steps / WINDOWS;
        to->y[part][n] = figure.mean;
        to->low[part][n] = figure.mean - error;
        to->high[part][n] = figure.mean + error;
        series->count++;
    }
}

int rt_gradients_plot(const rt_resets_runs *runs, const char *regime, const char *folder, rt_error *err)
{
    static const struct {
        const char *y;
        question *ask;
        int first;
    } kinds[PANELS] = {{"squared norm", in_window, RT_GRADIENTS_NORM2 * WINDOWS},
                       {"reward", in_window, RT_GRADIENTS_REWARD * WINDOWS}, {"Gain", gain_at, 0}};
    const char *method;
    rt_resets_cell cell = first_measured(runs, regime, &method);
    if (cell.count == 0 || cell.runs->gradients->tasks < 2)
        return RT_OK;
    int tasks = cell.runs->gradients->tasks, count = 0;
    panel *panels = rt_alloc(PANELS * sizeof *panels);
    rt_svg_plot plots[PANELS];
    for (int k = 0; k < PANELS; k++) {
        int points = 0;
        for (int part = 0; part < tasks; part++) {
            draw(cell, part, kinds[k].ask, kinds[k].first, &panels[count]);
            points += panels[count].series[part].count;
        }
        if (points > 0) {
            plots[count] = (rt_svg_plot){method, "steps", kinds[k].y, false, false, panels[count].series,
                                         tasks};
            count++;
        }
    }
    char *path = rt_format("%s/resets-%s-gradients.svg", folder, regime);
    rt_buf svg = {0};
    int code = count ? rt_svg_write(&svg, plots, count, err) : RT_OK;
    if (!code && count)
        code = rt_file_write(path, svg.data, svg.bytes, err);
    rt_buf_free(&svg);
    rt_free(path), rt_free(panels);
    return code;
}
