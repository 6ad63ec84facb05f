/* The figures of an evaluation, as text and as JSON, and the comparison of two models. */
#ifndef RT_EVAL_REPORT_H
#define RT_EVAL_REPORT_H

#include "deploy/eval_run.h"

/* Accuracy, pass@k, majority, self-consistency and counts of all problems, and of each of "tasks". */
json_t *eval_report_json(const eval_run *run);
void eval_report_print(const eval_run *run);

/* `run` against `other`, both on the same problems with the same seeds and as many answers a problem;
 * a problem that one of them leaves out counts for none. */
json_t *eval_compare_json(const eval_run *run, const eval_run *other);
void eval_compare_print(const eval_run *run, const eval_run *other);

#endif
