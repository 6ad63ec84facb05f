/* Were the problems of an evaluation trained on by the model, or by a model it began from? */
#ifndef RT_EVAL_GUARD_H
#define RT_EVAL_GUARD_H

#include "deploy/eval_session.h"

/* Looks at the run that made `model` (a run folder, one of its checkpoints, its export), at the run that
 * made the model that one began with, and so on. Appends an object for each to `list`, warns on stderr.
 * RT_ERR_USAGE where eval.contamination is refuse and a problem was trained on. A model that no run is
 * known of adds nothing. */
int eval_guard(const eval_session *session, const char *model, json_t *list, rt_error *err);

#endif
