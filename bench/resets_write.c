/* resets_write: means over seeds as tables, CSV and plots. */
#include "bench/resets_report.h"

#include <math.h>
#include <string.h>

#include "bench/svg.h"

/* The paper's order; others come after these, in the order of their names. */
static const char *const order[] = {"grpo", "grpo_seqmean", "rrpo", "srpo", "srpo_oracle", "caro"};

enum { METHODS_MAX = 12 };

typedef struct mean {
    double value, error; /* standard error of the mean; 0 for one run */
    int count;
} mean;

static mean mean_of(const double *values, int count)
{
    mean m = {.count = count};
    for (int i = 0; i < count; i++)
        m.value += values[i] / count;
    double sum = 0;
    for (int i = 0; i < count; i++)
        sum += (values[i] - m.value) * (values[i] - m.value);
    m.error = count > 1 ? sqrt(sum / (count - 1) / count) : 0;
    return m;
}

double rt_report_at(const double *x, const double *y, int count, double at)
{
    for (int i = 1; i < count; i++) {
        if (x[i] >= at) {
            double share = x[i] > x[i - 1] ? (at - x[i - 1]) / (x[i] - x[i - 1]) : 1;
            return y[i - 1] + fmax(share, 0) * (y[i] - y[i - 1]);
        }
    }
    return count > 0 ? y[count - 1] : NAN;
}

/* ---- who is there ---------------------------------------------------------------------------- */

typedef struct group { /* the runs of one method in one regime */
    const char *method;
    const rt_report_run *runs[64];
    int count;
} group;

static int rank_of(const char *method)
{
    for (int i = 0; i < (int)RT_COUNT(order); i++)
        if (strcmp(order[i], method) == 0)
            return i;
    return (int)RT_COUNT(order);
}

static int groups_of(const rt_report *report, const char *regime, group out[METHODS_MAX])
{
    int count = 0;
    for (int rank = 0; rank <= (int)RT_COUNT(order); rank++) {
        for (int i = 0; i < report->count; i++) {
            const rt_report_run *run = &report->runs[i];
            if (strcmp(run->regime, regime) != 0 || rank_of(run->method) != rank)
                continue;
            bool next = count == 0 || strcmp(out[count - 1].method, run->method) != 0;
            if (next && count == METHODS_MAX)
                return count;
            if (next)
                out[count++] = (group){.method = run->method};
            group *to = &out[count - 1];
            if (to->count < (int)RT_COUNT(to->runs))
                to->runs[to->count++] = run;
        }
    }
    return count;
}

static bool first_of_regime(const rt_report *report, int i)
{
    return i == 0 || strcmp(report->runs[i].regime, report->runs[i - 1].regime) != 0;
}

/* ---- numbers of a group ---------------------------------------------------------------------- */

static mean accuracy_at(const group *g, bool by_tokens, double at)
{
    double values[64];
    for (int i = 0; i < g->count; i++) {
        const rt_report_run *run = g->runs[i];
        values[i] =
            rt_report_at(by_tokens ? run->tokens : run->version, run->accuracy, run->marks, at);
    }
    return mean_of(values, g->count);
}

static mean last_of(const group *g, double (*value)(const rt_report_run *run))
{
    double values[64];
    for (int i = 0; i < g->count; i++)
        values[i] = value(g->runs[i]);
    return mean_of(values, g->count);
}

static double tokens_of(const rt_report_run *run)
{
    return run->marks > 0 ? run->tokens[run->marks - 1] / (double)RT_MAX(run->steps, 1) : NAN;
}

static double seconds_of(const rt_report_run *run)
{
    return run->marks > 0 ? run->seconds[run->marks - 1] / (double)RT_MAX(run->steps, 1) : NAN;
}

static double degenerate_of(const rt_report_run *run)
{
    return run->degenerate;
}

static double share(int64_t part, int64_t whole)
{
    return whole > 0 ? (double)part / (double)whole : NAN;
}

static double success_of(const rt_report_run *run)
{
    return share(run->successes, run->visits);
}

static double exact_of(const rt_report_run *run)
{
    return share(run->exact, run->known);
}

static double clean_of(const rt_report_run *run)
{
    return share(run->clean, run->known);
}

/* ---- CSV ------------------------------------------------------------------------------------- */

void rt_report_csv(const rt_report *report, rt_buf *out)
{
    rt_buf_addf(out, "regime,method,seed,version,accuracy,tokens,seconds\n");
    for (int i = 0; i < report->count; i++) {
        const rt_report_run *run = &report->runs[i];
        for (int k = 0; k < run->marks; k++)
            rt_buf_addf(out, "%s,%s,%d,%.0f,%.6f,%.0f,%.3f\n", run->regime, run->method, run->seed,
                        run->version[k], run->accuracy[k], run->tokens[k], run->seconds[k]);
    }
}

/* ---- tables ---------------------------------------------------------------------------------- */

static void cell(rt_buf *out, mean m, int digits)
{
    if (isnan(m.value))
        rt_buf_addf(out, " – |");
    else if (m.count > 1)
        rt_buf_addf(out, " %.*f ± %.*f |", digits, m.value, digits, m.error);
    else
        rt_buf_addf(out, " %.*f |", digits, m.value);
}

/* Tokens that every run of the regime has sampled. */
static double common_tokens(const group *groups, int count)
{
    double least = INFINITY;
    for (int g = 0; g < count; g++)
        for (int i = 0; i < groups[g].count; i++) {
            const rt_report_run *run = groups[g].runs[i];
            least = fmin(least, run->marks > 0 ? run->tokens[run->marks - 1] : 0);
        }
    return least;
}

static void accuracy_table(const group *groups, int count, rt_buf *out)
{
    const rt_report_run *any = groups[0].runs[0];
    double last = any->marks > 0 ? any->version[any->marks - 1] : 0;
    double tokens = common_tokens(groups, count);
    rt_buf_addf(out, "\n| method | seeds | start | step %.0f | step %.0f | step %.0f | %.0fk tokens "
                     "| %.0fk tokens | tokens a step | seconds a step | degenerate |\n"
                     "|---|---|---|---|---|---|---|---|---|---|---|\n",
                last / 3, last * 2 / 3, last, tokens / 2000, tokens / 1000);
    for (int g = 0; g < count; g++) {
        const group *of = &groups[g];
        rt_buf_addf(out, "| %s | %d |", of->method, of->count);
        cell(out, accuracy_at(of, false, 0), 3);
        for (int third = 1; third <= 3; third++)
            cell(out, accuracy_at(of, false, last * third / 3), 3);
        cell(out, accuracy_at(of, true, tokens / 2), 3);
        cell(out, accuracy_at(of, true, tokens), 3);
        cell(out, last_of(of, tokens_of), 0);
        cell(out, last_of(of, seconds_of), 3);
        cell(out, last_of(of, degenerate_of), 2);
        rt_buf_addf(out, "\n");
    }
}

static void resets_row(const group *of, rt_buf *out)
{
    int64_t all = 0, bins[RT_REPORT_BINS] = {0};
    for (int i = 0; i < of->count; i++)
        for (int b = 0; b < RT_REPORT_BINS; b++) {
            bins[b] += of->runs[i]->position[b];
            all += of->runs[i]->position[b];
        }
    if (all == 0)
        return;
    rt_buf_addf(out, "| %s |", of->method);
    cell(out, last_of(of, success_of), 3);
    cell(out, last_of(of, exact_of), 2);
    cell(out, last_of(of, clean_of), 2);
    for (int b = 0; b < RT_REPORT_BINS; b++)
        rt_buf_addf(out, "%s%.0f", b ? " " : " ", 100 * share(bins[b], all));
    rt_buf_addf(out, " |\n");
}

void rt_report_markdown(const rt_report *report, rt_buf *out)
{
    for (int i = 0; i < report->count; i++) {
        if (!first_of_regime(report, i))
            continue;
        group groups[METHODS_MAX];
        int count = groups_of(report, report->runs[i].regime, groups);
        rt_buf_addf(out, "\n#### %s\n", report->runs[i].regime);
        accuracy_table(groups, count, out);
        rt_buf_addf(out, "\n| resets of | success of continuations | exact | clean prefix | position in "
                         "the rollout, tenths, %% |\n|---|---|---|---|---|\n");
        for (int g = 0; g < count; g++)
            resets_row(&groups[g], out);
        rt_buf_addf(out, "\n![%s](figures/resets-%s.svg)\n", report->runs[i].regime,
                    report->runs[i].regime);
    }
}

/* ---- plots ----------------------------------------------------------------------------------- */

typedef struct curve {
    double x[RT_REPORT_MARKS], y[RT_REPORT_MARKS], low[RT_REPORT_MARKS], high[RT_REPORT_MARKS];
} curve;

static void fill_curve(const group *of, bool by_tokens, curve *to, rt_svg_series *series)
{
    const rt_report_run *first = of->runs[0];
    for (int k = 0; k < first->marks; k++) {
        double tokens[64];
        for (int i = 0; i < of->count; i++)
            tokens[i] = k < of->runs[i]->marks ? of->runs[i]->tokens[k] : 0;
        mean m = accuracy_at(of, false, first->version[k]);
        to->x[k] = by_tokens ? mean_of(tokens, of->count).value / 1000 : first->version[k];
        to->y[k] = m.value;
        to->low[k] = m.value - m.error;
        to->high[k] = m.value + m.error;
    }
    *series = (rt_svg_series){of->method, first->marks, to->x, to->y,
                              of->count > 1 ? to->low : NULL, of->count > 1 ? to->high : NULL,
                              false};
}

int rt_report_svg(const rt_report *report, const char *regime, rt_buf *out, rt_error *err)
{
    group groups[METHODS_MAX];
    int count = groups_of(report, regime, groups);
    curve *curves = rt_alloc((size_t)(2 * METHODS_MAX) * sizeof *curves);
    rt_svg_series series[2][METHODS_MAX];
    for (int side = 0; side < 2; side++)
        for (int g = 0; g < count; g++)
            fill_curve(&groups[g], side == 1, &curves[side * METHODS_MAX + g], &series[side][g]);
    char title[64];
    snprintf(title, sizeof title, "%s: mean and standard error", regime);
    const rt_svg_plot plots[2] = {
        {title, "steps", "held-out accuracy, sampled", false, false, series[0], count},
        {"the same, by what was sampled", "thousand tokens", "held-out accuracy, sampled", false,
         false, series[1], count}};
    int rc = rt_svg_write(out, plots, 2, err);
    rt_free(curves);
    return rc;
}
