/*
 * resets: reads the runs of bench/resets.sh, debate.sh and imbalance.sh (folders REGIME/METHOD/NAME,
 * each a run folder) and writes what they say as CSV, Markdown tables and SVG plots. Only finished runs count
 * (summary.json).
 *
 * Means are over seeds, with their standard error. Differences are paired by seed: both methods met
 * the same problems. Intervals are Student's t, 95 %.
 */
#ifndef RT_BENCH_RESETS_H
#define RT_BENCH_RESETS_H

#include "base/base.h"

enum { RT_RESETS_MARKS = 64, RT_RESETS_BINS = 10, RT_RESETS_NAME = 32, RT_RESETS_SEEDS = 64,
       RT_RESETS_DEBATE = 6, RT_RESETS_TIMED = 64, RT_RESETS_PHASES = 4 };

/* A version that was evaluated. Tokens and sequences are those sampled for training up to it:
 * prompts and inherited prefixes do not count, judgements and what was thrown away do. */
typedef struct rt_resets_mark {
    int step;
    double accuracy; /* of sampled answers; greedy ones where nothing was sampled */
    double tokens, sequences;
} rt_resets_mark;

typedef struct rt_resets_run {
    char regime[RT_RESETS_NAME], method[RT_RESETS_NAME];
    int64_t seed;
    double rate;
    int marks_count, steps;
    rt_resets_mark marks[RT_RESETS_MARKS];
    double seconds;    /* a step, evaluations left out */
    double degenerate; /* share of groups, mean over steps */
    double base_flat, reset_flat; /* the same by kind of group; NAN where there is no such kind */
    struct rt_resets_tokens { double trained, judged, seeds, discarded; } tokens; /* sampled */
    /* reset states on a rollout; position = thought / thoughts of the rollout */
    int states, at_start, bins[RT_RESETS_BINS];
    double position; /* sum */
    int at_prompt;   /* states of caro that are the prompt itself */
    /* of those whose first wrong thought is known */
    int known, exact, clean, passed_clean, passed_late;
    struct rt_resets_cost {
        int steps;
        double seconds[RT_RESETS_TIMED][RT_RESETS_PHASES]; /* sampling, training, weights, waiting */
        double tokens;                                     /* computed to sample: of prompts too */
        char hash[40];                                     /* of the weights at the end */
    } cost;
    double mismatched; /* log-probs that differ between actor and learner */
    double before[RT_RESETS_DEBATE], after[RT_RESETS_DEBATE]; /* debates; NAN: none were held */
    struct rt_gradients *gradients; /* gradients.h; NULL: none were measured. Owned by rt_resets_runs */
} rt_resets_run;

/* Of a run folder, which lies below the regime's. The method is the algorithm; with several tasks, what
 * is done about their gradients. */
int rt_resets_read(rt_resets_run *run, const char *folder, const char *regime, rt_error *err);

typedef struct rt_resets_runs {
    rt_resets_run *all; // (count) by regime, method as in rt_resets_methods, rate, seed
    int count, capacity;
} rt_resets_runs;
int rt_resets_load(rt_resets_runs *runs, const char *folder, rt_error *err);
void rt_resets_free(rt_resets_runs *runs);

extern const char *const rt_resets_methods[]; /* NULL at the end */
/* Regimes named tTdDbB: T thoughts, D of them decisive, B % right at first. False: another name. */
bool rt_resets_grid(const char *regime, int *thoughts, int *decisive, int *base);

/* ---- figures over seeds -------------------------------------------------------------------- */

/* Runs of one regime and method. */
typedef struct rt_resets_cell {
    const rt_resets_run *runs;
    int count;
} rt_resets_cell;
rt_resets_cell rt_resets_cell_of(const rt_resets_runs *runs, const char *regime, const char *method);

typedef struct rt_resets_figure {
    double mean, error; /* standard error; NAN for a single seed */
    int count;          /* seeds; 0: nothing known, mean NAN */
} rt_resets_figure;

/* What is asked of a run; NAN: not known. */
typedef double rt_resets_question(const rt_resets_run *run, double argument);
double rt_resets_at_step(const rt_resets_run *run, double step);   /* accuracy; NAN: no such mark */
double rt_resets_at_tokens(const rt_resets_run *run, double tokens); /* straight between marks */
/* Mean accuracy over the marks behind the first: all of them, those of the first third of the steps (at
 * least one), of the last third; and over the tokens up to a budget. */
double rt_resets_area(const rt_resets_run *run, double unused);
double rt_resets_early(const rt_resets_run *run, double unused);
double rt_resets_late(const rt_resets_run *run, double unused);
double rt_resets_area_tokens(const rt_resets_run *run, double budget);

rt_resets_figure rt_resets_figure_of(const double *values, int count); /* mean ± standard error */
rt_resets_figure rt_resets_mean(rt_resets_cell cell, rt_resets_question *ask, double argument);

typedef struct rt_resets_difference {
    double mean, low, high; /* NAN with fewer than two common seeds */
    int count;
} rt_resets_difference;
rt_resets_difference rt_resets_differ(rt_resets_cell a, rt_resets_cell b, rt_resets_question *ask,
                                      double argument);
/* Largest number of tokens that every run of the regime has sampled; 0: there is no run. */
double rt_resets_budget(const rt_resets_runs *runs, const char *regime);

/* ---- debates --------------------------------------------------------------------------------- */

void rt_resets_debate_start(rt_resets_run *run);
/* One metric of a version, versions ascending. */
void rt_resets_debate_read(rt_resets_run *run, int step, const char *metric, double value);
void rt_resets_debate_table(const rt_resets_runs *runs, const char *regime, rt_buf *out);
/* After the last step: accuracy of debates, of one agent's sampled answers. */
double rt_resets_debated(const rt_resets_run *run, double unused);
double rt_resets_final(const rt_resets_run *run, double unused);

/* ---- what a step costs ----------------------------------------------------------------------- */

/* One metric of a step: seconds of a phase, or tokens. */
void rt_resets_cost_read(rt_resets_run *run, int step, const char *metric, double value);
/* Markdown: each method's step beside the baseline's. Fails where rounds did not do the same. */
int rt_resets_cost_table(const rt_resets_runs *runs, rt_buf *out, rt_error *err);

/* ---- what is written ------------------------------------------------------------------------ */

void rt_resets_csv_curves(const rt_resets_runs *runs, rt_buf *out);
void rt_resets_csv_runs(const rt_resets_runs *runs, rt_buf *out);
void rt_resets_tables(const rt_resets_runs *runs, rt_buf *out); /* Markdown */
/* For each method and regime the rate with the largest mean area; ties: the smaller one. */
void rt_resets_rates(const rt_resets_runs *runs, rt_buf *out);
/* Writes resets-REGIME.svg for every regime, resets-positions.svg, and resets-grid.svg where regimes
 * of the grid (tNdNbN) are there. */
int rt_resets_plots(const rt_resets_runs *runs, const char *folder, rt_error *err);

#endif
