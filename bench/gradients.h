/*
 * gradients: what the accounting of gradients in a run's metrics says: norms by task (or by kind of
 * group), learning gain, and whether the one tells anything of the other. Read for the reader of runs
 * (resets.h), which has regimes, methods and seeds.
 *
 * Windows: Gain(t) is the mean reward of the `window` steps behind t less that of those before it.
 */
#ifndef RT_BENCH_GRADIENTS_H
#define RT_BENCH_GRADIENTS_H

#include "bench/resets.h"

enum { RT_GRADIENTS_PARTS = 16, RT_GRADIENTS_STEPS = 256 };

/* Measures of a part by step; NAN: not measured. */
enum rt_gradients_measure {
    RT_GRADIENTS_NORM2,     /* unbiased estimate of the squared norm, may be negative */
    RT_GRADIENTS_NAIVE,     /* that of the sample, too large by its noise */
    RT_GRADIENTS_LIVE_NORM, /* over problems whose groups are not degenerate */
    RT_GRADIENTS_BLOCK,     /* of the last layer alone */
    RT_GRADIENTS_SHARE, RT_GRADIENTS_COSINE, RT_GRADIENTS_ADVANTAGE,
    RT_GRADIENTS_PROMPTS, RT_GRADIENTS_LIVE, /* counts */
    RT_GRADIENTS_REWARD,
    RT_GRADIENTS_MEASURES
};

typedef struct rt_gradients {
    int parts, steps; /* parts: tasks by name, then "by/NAME" */
    int tasks;        /* the first so many parts */
    char names[RT_GRADIENTS_PARTS][RT_RESETS_NAME];
    double value[RT_GRADIENTS_MEASURES][RT_GRADIENTS_PARTS][RT_GRADIENTS_STEPS];
    double cosine[RT_GRADIENTS_PARTS][RT_GRADIENTS_PARTS]; /* between tasks, mean over steps */
    double before[RT_GRADIENTS_PARTS], after[RT_GRADIENTS_PARTS]; /* accuracy on held-out problems */
    double clip;      /* mean factor of clipping */
} rt_gradients;

/* NULL in *out: the run measured none. Of more parts and steps than there is room for, the first. */
int rt_gradients_read(rt_gradients **out, const char *database, rt_error *err);

/* ---- questions: of one run; NAN where there is no answer ---------------------------------------- */

/* A tenth of the steps, at least 1. */
int rt_gradients_window(const rt_gradients *gradients);
double rt_gradients_gain(const rt_gradients *gradients, int part, int step);
/* Over steps [from, to), those that were measured. */
double rt_gradients_mean(const rt_gradients *gradients, enum rt_gradients_measure measure, int part,
                         int from, int to);
/* Mean over the run of the loudest task by the quietest; NAN also where the quietest is not above 0. */
double rt_gradients_ratio(const rt_gradients *gradients, enum rt_gradients_measure measure);
/* Mean Gain(t) of a task over all t with whole windows. */
double rt_gradients_gains(const rt_gradients *gradients, int part);
typedef double rt_gradients_relation(const rt_gradients *gradients, enum rt_gradients_measure measure);
/* Rank correlation over tasks (Spearman) of a measure (a squared norm) and gain, of it and |A|. */
rt_gradients_relation rt_gradients_with_gain, rt_gradients_with_advantage;
/* The same within a task over time (Pearson), mean over tasks: norms and gains in windows around t;
 * norm and |A| of the same step. */
rt_gradients_relation rt_gradients_with_gain_within, rt_gradients_with_advantage_within;
/* Last layer and all weights: over tasks and steps (Pearson). */
double rt_gradients_block(const rt_gradients *gradients);
/* sqrt of mean squared norm of part "by/reset" by that of "by/base". */
double rt_gradients_reset_ratio(const rt_gradients *gradients, enum rt_gradients_measure measure);

/* NAN: fewer than two points, or one of the two never changes. Ranks of equal values are their mean. */
double rt_gradients_pearson(const double *x, const double *y, int count);
double rt_gradients_spearman(const double *x, const double *y, int count);

/* ---- what is written ------------------------------------------------------------------------------ */

void rt_gradients_csv(const rt_resets_runs *runs, rt_buf *out);
void rt_gradients_table(const rt_resets_runs *runs, const char *regime, rt_buf *out);
/* Writes resets-REGIME-gradients.svg where tasks of the regime's first such method were measured. */
int rt_gradients_plot(const rt_resets_runs *runs, const char *regime, const char *folder, rt_error *err);

#endif
