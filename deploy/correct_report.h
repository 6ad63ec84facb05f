/* What iterative correction achieved: figures of one task, or of all, as text and as JSON. */
#ifndef RT_CORRECT_REPORT_H
#define RT_CORRECT_REPORT_H

#include "deploy/correct_run.h"

typedef struct correct_report {
    const char *name;
    int problems, left_out;
    int64_t right_before, right_after;
    int64_t lifts, regressions; /* problems: wrong before and right after; the other way round */
    eval_number gain;           /* right after − right before, of all */
    /* by enum correct_exit: problems, and of them right, lifts, regressions */
    int64_t exits[4], exit_right[4], exit_lifts[4], exit_regressions[4];
    int64_t converged[4]; /* exit 1 after 0, 1 to 3, more resamples; not at all */
    int64_t resamples;
    correct_counts counts;
    correct_cost cost;
} correct_report;

/* task −1: all. */
correct_report correct_report_of(const correct_run *run, int task, const char *name);
json_t *correct_report_json(const correct_report *report);
/* control: the same problems without localization, or NULL. */
void correct_report_print(const correct_report *report, const correct_report *control);

#endif
