/* Estimators of an evaluation: pure functions over graded samples. */
#ifndef RT_EVAL_H
#define RT_EVAL_H

#include "base/base.h"

typedef struct eval_sample {
    bool correct;
    char *extracted;  /* the answer as text; NULL or "" = none was given, so it has no vote */
} eval_sample;

/* How an interval was made. */
enum eval_by { EVAL_BY_WILSON, EVAL_BY_BOOTSTRAP, EVAL_BY_TANGO };
const char *eval_by_name(int by); /* "wilson", "bootstrap", "tango" */

/* A mean over problems with its 95 % interval. */
typedef struct eval_number {
    double value, low, high;
    int by; /* enum eval_by */
} eval_number;

enum { EVAL_KS_MAX = 32 };

/* 1, 2, 4, … below k, then k itself; returns how many. */
int eval_ks(int k, int ks[EVAL_KS_MAX]);

/* Chance that at least one of k samples drawn without replacement from n is correct when c of the
 * n are: unbiased for pass@k (Chen et al. 2021). 1 ≤ k ≤ n. */
double eval_pass_at(int n, int c, int k);

/* Most common answer of one problem's samples. Correct answers are one answer however they are
 * written. score: 1 when it is correct, 0 when not, shared evenly when several are most common
 * (so the order of the samples does not matter); share: samples that gave it, of all. */
void eval_majority(const eval_sample *samples, int count, double *score, double *share);

/* Mean of values in [0, 1] over problems: Wilson where each of them is 0 or 1, so that the mean is a
 * proportion (a bootstrap of equal values would be a point), else bootstrap. */
eval_number eval_mean(const double *values, int count, uint64_t seed);

/* Mean of values over problems with a percentile interval of 2000 resamples of the problems
 * (Efron 1979); a function of (values, seed). count 0: value 0, interval [0, 1]. */
eval_number eval_bootstrap(const double *values, int count, uint64_t seed);

/* Mean of shares in [0, 1], one a problem, with the Wilson interval of so many problems. With one
 * sample a problem that is the usual interval; samples of one problem depend on each other, and
 * counting problems keeps it from being too narrow. */
eval_number eval_wilson(const double *values, int count);

/* Share of problems that a second answer gained over a first one to the same `count` problems: of
 * them `up` went from wrong to right and `down` from right to wrong. Score interval for paired
 * shares (Tango 1998): where nothing changed it is not a point, unlike a bootstrap's. */
eval_number eval_gain(int64_t up, int64_t down, int64_t count);

/* ---- two models on the same problems --------------------------------------------------------- */

/* difference[i]: right answers of the one model to problem i minus those of the other, of k each.
 * Mean of difference / k: eval_gain where every problem changed wholly or not at all, else bootstrap
 * over problems. count 0: value 0, interval [−1, 1]. */
eval_number eval_difference(const int *difference, int count, int k, uint64_t seed);

/* Exact two-sided p-value of McNemar's test: `up` and `down` as above; without a difference between
 * the two every change goes up or down with probability 1/2. Nothing changed: 1. */
double eval_mcnemar(int64_t up, int64_t down);

enum { EVAL_FLIPS = 9999 };
/* Two-sided p-value of the sign-flip test: share of all 2^count choices of signs of the differences
 * whose sum is as far from 0 as theirs or farther. Summed up exactly where that takes bounded time
 * (*exact), else estimated with EVAL_FLIPS random choices, a function of (difference, seed); never 0
 * then. */
double eval_sign_flip(const int *difference, int count, uint64_t seed, bool *exact);
/* The estimate alone. */
double eval_sign_flip_drawn(const int *difference, int count, uint64_t seed);

#endif
