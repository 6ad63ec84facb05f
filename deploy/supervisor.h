/*
 * The local supervisor: starts the roles of one config as real processes, restarts what dies, shows
 * what the coordinator's stats say, passes Ctrl-C on. Holds no state that matters.
 */
#ifndef RT_SUPERVISOR_H
#define RT_SUPERVISOR_H

#include "base/base.h"
#include "base/config.h"

typedef struct supervisor_result {
    int exit_code;
    int restarts;
    rt_error error;   /* why it gave up, when it did */
} supervisor_result;

/* config: resolved and written as config_path (DIR/config.yaml). Returns when all roles have ended. */
void supervisor_run(const rt_config *config, const char *config_path, bool quiet,
                    supervisor_result *result);

/* ---- progress ---------------------------------------------------------------------------------- */

/* One line of what a stats answer says; false: it holds no run yet. */
bool progress_line(const char *stats_json, size_t bytes, char *line, size_t line_bytes);
/* The whole answer as a table for people. */
void progress_table(const char *stats_json, size_t bytes, rt_buf *out);

#endif
