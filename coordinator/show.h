/* show: what the views of run.db share. */
#ifndef RT_COORDINATOR_SHOW_H
#define RT_COORDINATOR_SHOW_H

#include "coordinator/internal.h"

typedef struct show_view {
    sqlite3 *db;
    rt_decode_fn *decode;
    void *context;
    rt_buf *out;
    bool json;
} show_view;

/* All rows of a query as objects; NULL and *err on failure. `?1` is bound to id. */
json_t *rt_show_rows(const show_view *view, const char *sql, int64_t id, rt_error *err);
/* Several tables, each with its name; `?1` is bound to id. */
int rt_show_parts(const show_view *view, const char *const *names, const char *const *sql,
                  int count, int64_t id, rt_error *err);
void rt_show_json(rt_buf *out, const json_t *json);
/* Rows as JSON or as a text table, whatever the view is. */
void rt_show_table(const show_view *view, const json_t *rows);
/* Texts beside the numbers: the prompt, and the response cut into its thoughts. */
void rt_show_add_texts(const show_view *view, json_t *row);

/* store_show_debate.c */
int rt_show_debate(const show_view *view, int64_t id, rt_error *err);
int rt_show_debates(const show_view *view, rt_error *err); /* figures over all of the run */
/* tasks_view.c: names in the order of the config; each with what training and evaluation say of it */
json_t *rt_show_task_names(const show_view *view, rt_error *err);
int rt_show_tasks(const show_view *view, rt_error *err);

/* store_report.c: form svg or html */
int rt_show_report(const show_view *view, const char *dir, const char *form, rt_error *err);

/* store_show_reset.c */
int rt_show_resets(const show_view *view, rt_error *err); /* figures over all of the run */
int rt_show_reset(const show_view *view, int64_t id, rt_error *err);
/* The resets of a problem, complete; as text they are written too. */
json_t *rt_show_problem_resets(const show_view *view, int64_t problem, rt_error *err);

#endif
