/*
 * resets_cost: what a step of each method costs beside one of the baseline with as many trained
 * sequences. Runs of one method are rounds of the very same work, so a step's least time over them is
 * what it takes undisturbed.
 */
#include "bench/resets.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BASELINE "grpo_seqmean"

static const char *const phases[RT_RESETS_PHASES] = {"seconds.sampling", "seconds.training",
                                                     "seconds.weights", "seconds.waiting"};

void rt_resets_cost_read(rt_resets_run *run, int step, const char *metric, double value)
{
    struct rt_resets_cost *cost = &run->cost;
    if (step < 0 || step >= RT_RESETS_TIMED)
        return;
    for (int i = 0; i < RT_RESETS_PHASES; i++)
        if (!strcmp(metric, phases[i])) {
            cost->seconds[step][i] = value;
            cost->steps = RT_MAX(cost->steps, step + 1);
            return;
        }
    cost->tokens += value;
}

/* ---- figures of a cell ----------------------------------------------------------------------- */

static int ascending(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double spent(const rt_resets_run *run, int step, int phase)
{
    double sum = 0;
    for (int i = 0; i < RT_RESETS_PHASES; i++)
        sum += phase < 0 || phase == i ? run->cost.seconds[step][i] : 0;
    return sum;
}

/* Milliseconds of a step, mean over the steps behind the first, which waits for the roles to start;
 * of each step the least or the median over rounds. phase −1: all. */
static double step_ms(rt_resets_cell cell, int phase, bool least)
{
    int steps = cell.runs->cost.steps;
    double sum = 0, *times = rt_alloc((size_t)cell.count * sizeof *times);
    for (int step = 1; step < steps; step++) {
        for (int i = 0; i < cell.count; i++)
            times[i] = spent(&cell.runs[i], step, phase);
        qsort(times, (size_t)cell.count, sizeof *times, ascending);
        sum += least ? times[0] : (times[(cell.count - 1) / 2] + times[cell.count / 2]) / 2;
    }
    rt_free(times);
    return steps > 1 ? sum * 1000 / (steps - 1) : NAN;
}

static int check_rounds(rt_resets_cell cell, rt_error *err)
{
    for (int i = 1; i < cell.count; i++)
        if (strcmp(cell.runs[i].cost.hash, cell.runs->cost.hash) != 0)
            return rt_fail(err, RT_ERR_INPUT,
                           "rounds of %s %s ended with other weights, so they are not the same work; "
                           "remove that folder and measure again", cell.runs->regime,
                           cell.runs->method);
    return RT_OK;
}

static void add_row(rt_resets_cell cell, rt_resets_cell base, rt_buf *out)
{
    const struct rt_resets_cost *cost = &cell.runs->cost, *other = &base.runs->cost;
    double all = step_ms(cell, -1, true);
    rt_buf_addf(out, "| %s | %s | %d | %.1f | %.2f | %.2f | %.1f | %.1f | %.2f |\n",
                cell.runs->regime, cell.runs->method, cell.count, all,
                all / step_ms(base, -1, true), step_ms(cell, -1, false) / step_ms(base, -1, false),
                step_ms(cell, 0, true), step_ms(cell, 1, true),
                cost->tokens / cost->steps / (other->tokens / other->steps));
}

int rt_resets_cost_table(const rt_resets_runs *runs, rt_buf *out, rt_error *err)
{
    int code = RT_OK;
    rt_buf_addf(out, "| regime | method | rounds | ms a step | ratio | ratio of medians | sampling ms | "
                     "training ms | tokens computed to sample, ratio |\n"
                     "|---|---|---|---|---|---|---|---|---|\n");
    for (int i = 0; i < runs->count && !code; i++) {
        const rt_resets_run *run = &runs->all[i];
        if (i > 0 && !strcmp(run[-1].regime, run->regime) && !strcmp(run[-1].method, run->method))
            continue;
        rt_resets_cell cell = rt_resets_cell_of(runs, run->regime, run->method);
        rt_resets_cell base = rt_resets_cell_of(runs, run->regime, BASELINE);
        if (base.count == 0)
            return rt_fail(err, RT_ERR_INPUT, "%s has no run of " BASELINE " to compare with",
                           run->regime);
        code = check_rounds(cell, err);
        if (!code)
            add_row(cell, base, out);
    }
    return code;
}
