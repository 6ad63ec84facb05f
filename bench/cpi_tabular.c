/*
 * cpi_tabular: accuracy of each method after a number of steps, over chain lengths and base
 * accuracies, by two rules for the learning rate: `tuned`, for every method the rate that did best
 * on seeds of its own; `small`, one rate for all, at which no single trajectory changes much.
 */
#include "bench/cpi.h"
#include "base/svg.h"

#include <math.h>
#include <string.h>

#define SEEDS 24
#define SEEDS_QUICK 4
#define TUNING_SEEDS 6
#define TUNING_SEEDS_QUICK 2
#define RATES 13          /* learning rates tried, a factor of two apart */
#define PROBLEMS 4        /* 32 trained sequences in a step */
#define TUNING_SEED_BASE 1000000
#define DECISIONS 4
#define BASES 3
#define SMALL_RATE 2.0    /* for each decision of the chain */
#define MARKS 3

static const int decision_counts[DECISIONS] = {8, 16, 32, 48};
static const double bases[BASES] = {0.001, 0.01, 0.1};
static const int marks[MARKS] = {5, 20, 80}; /* steps at which accuracy is told */

enum rule { TUNED, SMALL, RULES };
static const char *const rule_names[] = {"tuned", "small"};

typedef struct outcome {
    rt_cpi_mean accuracy[MARKS];
    double sampled[MARKS]; /* decisions, mean over seeds */
    double trained[MARKS];
    double rate;
    bool edge; /* the best learning rate was the smallest or the largest tried */
} outcome;

static void train(const rt_cpi_task *task, uint64_t seed, double accuracy[MARKS],
                  double sampled[MARKS], double trained[MARKS])
{
    rt_cpi_training *training = rt_cpi_training_new(task, seed);
    for (int mark = 0, step = 1; mark < MARKS; step++) {
        rt_cpi_training_step(training);
        if (step != marks[mark])
            continue;
        accuracy[mark] = rt_cpi_training_accuracy(training);
        sampled[mark] += (double)rt_cpi_training_sampled(training);
        trained[mark] += (double)rt_cpi_training_trained(training);
        mark++;
    }
    rt_cpi_training_free(&training);
}

/*
 * Mean over the marks, not the last one alone: a rate is good if it learns early and stays. A
 * sequence's loss is averaged over its decisions, so rates in proportion to their number move a
 * single decision equally far.
 */
static void tune(rt_cpi_task *task, uint64_t seed, int seeds, bool *edge)
{
    double best = -1, best_rate = 0;
    for (int r = 0; r < RATES; r++) {
        double sum = 0, unused[MARKS] = {0};
        task->rate = task->decisions * exp2(r - 3);
        for (int i = 0; i < seeds; i++) {
            double accuracy[MARKS];
            train(task, seed + TUNING_SEED_BASE + (uint64_t)i, accuracy, unused, unused);
            for (int m = 0; m < MARKS; m++)
                sum += accuracy[m];
        }
        if (sum > best) {
            best = sum;
            best_rate = task->rate;
            *edge = r == 0 || r == RATES - 1;
        }
    }
    task->rate = best_rate;
}

static void measure(rt_cpi_task *task, enum rule rule, const rt_cpi_options *options,
                    outcome *out)
{
    int seeds = options->quick ? SEEDS_QUICK : SEEDS;
    double values[MARKS][SEEDS];
    memset(out, 0, sizeof *out);
    task->rate = SMALL_RATE * task->decisions;
    if (rule == TUNED)
        tune(task, options->seed, options->quick ? TUNING_SEEDS_QUICK : TUNING_SEEDS, &out->edge);
    out->rate = task->rate;
    for (int i = 0; i < seeds; i++) {
        double accuracy[MARKS];
        train(task, options->seed + (uint64_t)i, accuracy, out->sampled, out->trained);
        for (int m = 0; m < MARKS; m++)
            values[m][i] = accuracy[m];
    }
    for (int m = 0; m < MARKS; m++) {
        out->accuracy[m] = rt_cpi_mean_of(values[m], seeds);
        out->sampled[m] /= seeds;
        out->trained[m] /= seeds;
    }
}

static void write_rows(const rt_cpi_task *task, enum rule rule, const outcome *out, bool quick,
                       rt_buf *csv)
{
    for (int m = 0; m < MARKS; m++)
        rt_buf_addf(csv, "%s,%d,%d,%g,%s,%g,%d,%d,%.4f,%.4f,%d,%.0f,%.0f\n", rule_names[rule],
                    task->decisions, task->actions, task->base, rt_cpi_method_name(task->method),
                    out->rate, out->edge, marks[m], out->accuracy[m].mean, out->accuracy[m].error,
                    quick ? SEEDS_QUICK : SEEDS, out->sampled[m], out->trained[m]);
}

typedef struct line {
    double x[DECISIONS], y[DECISIONS], low[DECISIONS], high[DECISIONS];
} line;

typedef struct panel {
    line points[RT_CPI_METHODS];
    rt_svg_series series[RT_CPI_METHODS];
    char title[64], label[64];
} panel;

/* Accuracy against the number of decisions, after so many steps that methods still differ. */
static rt_svg_plot make_plot(const outcome (*row)[RT_CPI_METHODS], enum rule rule, int base,
                             int mark, panel *out)
{
    for (int m = 0; m < RT_CPI_METHODS; m++) {
        line *to = &out->points[m];
        for (int d = 0; d < DECISIONS; d++) {
            rt_cpi_mean accuracy = row[d][m].accuracy[mark];
            to->x[d] = decision_counts[d];
            to->y[d] = accuracy.mean;
            to->low[d] = accuracy.mean - accuracy.error;
            to->high[d] = accuracy.mean + accuracy.error;
        }
        out->series[m] = (rt_svg_series){rt_cpi_method_name((enum rt_cpi_method)m), DECISIONS,
                                         to->x, to->y, to->low, to->high, false};
    }
    snprintf(out->title, sizeof out->title, "%s rate, accuracy before: %g", rule_names[rule],
             bases[base]);
    snprintf(out->label, sizeof out->label, "accuracy after %d steps", marks[mark]);
    return (rt_svg_plot){out->title, "decisions", out->label, false, false, out->series,
                         RT_CPI_METHODS};
}

typedef outcome table[RULES][BASES][DECISIONS][RT_CPI_METHODS];

static int draw(table *all, rt_buf *svg, rt_error *err)
{
    static const struct {
        enum rule rule;
        int base, mark;
    } shown[] = {{TUNED, 0, 1}, {TUNED, 1, 0}, {SMALL, 1, 2}, {SMALL, 2, 2}};
    panel *panels = rt_alloc(RT_COUNT(shown) * sizeof *panels);
    rt_svg_plot plots[RT_COUNT(shown)];
    for (size_t i = 0; i < RT_COUNT(shown); i++)
        plots[i] = make_plot((const outcome(*)[RT_CPI_METHODS])(*all)[shown[i].rule][shown[i].base],
                             shown[i].rule, shown[i].base, shown[i].mark, &panels[i]);
    int code = rt_svg_write(svg, plots, (int)RT_COUNT(plots), err);
    rt_free(panels);
    return code;
}

int rt_cpi_tabular(const rt_cpi_options *options, rt_error *err)
{
    table *all = rt_alloc(sizeof *all);
    rt_buf_addf(options->csv, "rule,decisions,actions,base,method,rate,rate_at_edge,step,accuracy,"
                "standard_error,seeds,sampled_decisions,trained_sequences\n");
    for (int i = 0; i < RULES * BASES * DECISIONS * RT_CPI_METHODS; i++) {
        int m = i % RT_CPI_METHODS, d = i / RT_CPI_METHODS % DECISIONS;
        int b = i / (RT_CPI_METHODS * DECISIONS) % BASES;
        enum rule rule = (enum rule)(i / (RT_CPI_METHODS * DECISIONS * BASES));
        rt_cpi_task task = {.decisions = decision_counts[d],
                            .actions = options->actions ? options->actions : 2,
                            .problems = PROBLEMS, .base = bases[b],
                            .method = (enum rt_cpi_method)m};
        outcome *out = &(*all)[rule][b][d][m];
        measure(&task, rule, options, out);
        write_rows(&task, rule, out, options->quick, options->csv);
    }
    int code = draw(all, options->svg, err);
    rt_free(all);
    return code;
}
