/* resets_debate: what runs of bench/debate.sh say about debates, before and after training. */
#include <math.h>
#include <string.h>

#include "bench/resets.h"

static const struct {
    const char *metric, *title;
} measures[RT_RESETS_DEBATE] = {
    {"eval.sampled.accuracy", "one agent, sampled"},
    {"eval.debate.accuracy", "its debate"},
    {"eval.debate.round.1.vote", "vote, round 1"},
    {"eval.consistency.accuracy", "self-consistency"},
    {"eval.debate.agreement.", "all agree"}, /* and a number: the largest comes last */
    {"eval.debate.unparseable", "unparseable"},
};

void rt_resets_debate_start(rt_resets_run *run)
{
    for (int i = 0; i < RT_RESETS_DEBATE; i++)
        run->before[i] = run->after[i] = NAN;
}

static bool is_of(const char *metric, const char *name)
{
    size_t length = strlen(name);
    return !strncmp(metric, name, length) && (metric[length] == 0 || name[length - 1] == '.');
}

void rt_resets_debate_read(rt_resets_run *run, int step, const char *metric, double value)
{
    for (int i = 0; i < RT_RESETS_DEBATE; i++)
        if (is_of(metric, measures[i].metric)) {
            if (step == 0)
                run->before[i] = value;
            run->after[i] = value;
        }
}

static double before(const rt_resets_run *run, double measure)
{
    return run->before[(int)measure];
}

static double after(const rt_resets_run *run, double measure)
{
    return run->after[(int)measure];
}

static void add_cell(rt_buf *out, rt_resets_figure figure)
{
    rt_buf_addf(out, isnan(figure.mean) ? " | –" : " | %.3f", figure.mean);
    if (!isnan(figure.error))
        rt_buf_addf(out, " ± %.3f", figure.error);
}

static void add_row(rt_buf *out, const char *name, rt_resets_cell cell, rt_resets_question *question)
{
    rt_buf_addf(out, "| %s | %d", name, cell.count);
    for (int i = 0; i < RT_RESETS_DEBATE; i++)
        add_cell(out, rt_resets_mean(cell, question, i));
    rt_buf_addf(out, " |\n");
}

void rt_resets_debate_table(const rt_resets_runs *runs, const char *regime, rt_buf *out)
{
    bool begun = false;
    for (int m = 0; rt_resets_methods[m]; m++) {
        rt_resets_cell cell = rt_resets_cell_of(runs, regime, rt_resets_methods[m]);
        if (cell.count == 0 || isnan(cell.runs->after[1])) /* no debates were held */
            continue;
        if (!begun) {
            rt_buf_addf(out, "\nHeld-out problems after the last step, before in the first row:\n\n"
                             "| method | seeds");
            for (int i = 0; i < RT_RESETS_DEBATE; i++)
                rt_buf_addf(out, " | %s", measures[i].title);
            rt_buf_addf(out, " |\n|---|---");
            for (int i = 0; i < RT_RESETS_DEBATE; i++)
                rt_buf_addf(out, "|---");
            rt_buf_addf(out, "|\n");
            add_row(out, "before", cell, before);
            begun = true;
        }
        add_row(out, rt_resets_methods[m], cell, after);
    }
}

/* Of the debate accuracy after training. */
double rt_resets_debated(const rt_resets_run *run, double unused)
{
    (void)unused;
    return run->after[1];
}

double rt_resets_final(const rt_resets_run *run, double unused)
{
    (void)unused;
    return run->after[0];
}
