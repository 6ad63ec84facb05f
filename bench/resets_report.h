/*
 * resets_report: what the runs of bench/resets.sh came to. One run is a folder
 * ROOT/REGIME/METHOD/seed-N with its run.db.
 */
#ifndef RT_BENCH_RESETS_REPORT_H
#define RT_BENCH_RESETS_REPORT_H

#include "base/base.h"

enum { RT_REPORT_MARKS = 64, RT_REPORT_BINS = 10, RT_REPORT_NAME = 32 };

typedef struct rt_report_run {
    char regime[RT_REPORT_NAME], method[RT_REPORT_NAME];
    int seed;
    /* at every evaluation: version, held-out accuracy, tokens sampled and seconds until then */
    int marks;
    double version[RT_REPORT_MARKS], accuracy[RT_REPORT_MARKS], tokens[RT_REPORT_MARKS],
        seconds[RT_REPORT_MARKS];
    int64_t steps, sequences; /* done; trained in all */
    double degenerate;        /* mean over steps */
    int64_t resets, visits, successes, passed; /* passed: some continuation succeeds */
    int64_t known, exact, clean; /* resets whose first wrong thought is known */
    int64_t position[RT_REPORT_BINS];
} rt_report_run;

typedef struct rt_report {
    rt_report_run *runs; /* (count), by regime, method, seed */
    int count, capacity;
} rt_report;

/* All finished runs below root (those with a summary.json). RT_ERR_INPUT: there is none. */
int rt_report_read(rt_report *report, const char *root, rt_error *err);
void rt_report_free(rt_report *report);

/* Mean and standard error over runs, by method in the order of the paper's table. */
void rt_report_csv(const rt_report *report, rt_buf *out);      /* one row an evaluation */
void rt_report_markdown(const rt_report *report, rt_buf *out); /* tables for docs/science.md */
int rt_report_svg(const rt_report *report, const char *regime, rt_buf *out, rt_error *err);
/* Value of `y` where `x` reaches `at`, straight between evaluations; the last one beyond. */
double rt_report_at(const double *x, const double *y, int count, double at);

#endif
