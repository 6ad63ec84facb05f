/* resets_read: the figures of one run from its run.db, and all runs below a folder. */
#include "bench/resets_report.h"

#include <dirent.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

/* Calls `row` for every row of a query; `?1` is bound to id. */
static int each_row(sqlite3 *db, const char *sql, int64_t id,
                    void (*row)(sqlite3_stmt *query, rt_report_run *run), rt_report_run *run)
{
    sqlite3_stmt *query = NULL;
    int code = sqlite3_prepare_v2(db, sql, -1, &query, NULL);
    if (code == SQLITE_OK)
        sqlite3_bind_int64(query, 1, id);
    while (code == SQLITE_OK && (code = sqlite3_step(query)) == SQLITE_ROW) {
        row(query, run);
        code = SQLITE_OK;
    }
    sqlite3_finalize(query);
    return code == SQLITE_DONE ? 0 : code;
}

static void on_mark(sqlite3_stmt *query, rt_report_run *run)
{
    if (run->marks == RT_REPORT_MARKS)
        return;
    int i = run->marks++;
    run->version[i] = sqlite3_column_double(query, 0);
    run->accuracy[i] = sqlite3_column_double(query, 1);
    run->tokens[i] = sqlite3_column_double(query, 2);
    run->seconds[i] = sqlite3_column_double(query, 3);
}

static void on_steps(sqlite3_stmt *query, rt_report_run *run)
{
    run->steps = sqlite3_column_int64(query, 0);
    run->degenerate = sqlite3_column_double(query, 1);
    run->sequences = sqlite3_column_int64(query, 2);
}

static void on_resets(sqlite3_stmt *query, rt_report_run *run)
{
    int64_t *to[] = {&run->resets, &run->visits, &run->successes, &run->passed,
                     &run->known,  &run->exact,  &run->clean};
    for (int i = 0; i < (int)RT_COUNT(to); i++)
        *to[i] = sqlite3_column_int64(query, i);
}

static void on_position(sqlite3_stmt *query, rt_report_run *run)
{
    int bin = sqlite3_column_int(query, 0);
    if (bin >= 0 && bin < RT_REPORT_BINS)
        run->position[bin] = sqlite3_column_int64(query, 1);
}

/* Tokens of evaluations are sampled, too, but not for training: the metric leaves them out where
 * they have a step of their own; what was sampled while a version was evaluated belongs to a step. */
static const struct {
    const char *sql;
    void (*row)(sqlite3_stmt *query, rt_report_run *run);
} queries[] = {
    {"SELECT e.step, e.value, "
     "(SELECT coalesce(sum(length(response_ids) / 4 - CASE WHEN kind = 'reset' THEN "
     "coalesce((SELECT tokens FROM resets r WHERE r.id = t.reset_id), 0) ELSE 0 END), 0) "
     "FROM trajectories t WHERE t.step < e.step AND t.kind <> 'eval'), "
     "(SELECT coalesce(sum(value), 0) FROM metrics m WHERE m.step < e.step AND m.name IN "
     "('seconds.sampling', 'seconds.training', 'seconds.weights', 'seconds.waiting')) "
     "FROM metrics e WHERE e.name = 'eval.sampled.accuracy' ORDER BY e.step",
     on_mark},
    {"SELECT (SELECT count(*) FROM steps), "
     "(SELECT avg(value) FROM metrics WHERE name = 'degenerate'), "
     "(SELECT count(*) FROM trajectories WHERE fate = 'trained')",
     on_steps},
    {"SELECT count(*), coalesce(sum(visits), 0), coalesce(sum(successes), 0), "
     "coalesce(sum(successes > 0), 0), coalesce(sum(oracle > 0), 0), "
     "coalesce(sum(thought = oracle), 0), coalesce(sum(thought <= oracle), 0) FROM resets",
     on_resets},
    {"SELECT min(9, 10 * (r.thought - 1) / max(1, length(t.thought_ends) / 4)) AS bin, count(*) "
     "FROM resets r JOIN trajectories t ON t.id = r.trajectory_id GROUP BY 1",
     on_position},
};

static int read_run(rt_report_run *run, const char *dir, rt_error *err)
{
    char *path = rt_format("%s/run.db", dir);
    sqlite3 *db = NULL;
    int code = sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL);
    for (size_t i = 0; code == SQLITE_OK && i < RT_COUNT(queries); i++)
        code = each_row(db, queries[i].sql, 0, queries[i].row, run);
    int rc = code == SQLITE_OK
                 ? RT_OK
                 : rt_fail(err, RT_ERR_IO, "cannot read %s: %s", path, sqlite3_errmsg(db));
    sqlite3_close(db);
    rt_free(path);
    return rc;
}

/* ---- folders --------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char **list_names(const char *dir, int *count)
{
    char **names = NULL;
    *count = 0;
    DIR *folder = opendir(dir);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        if (entry->d_name[0] == '.' || strlen(entry->d_name) >= RT_REPORT_NAME)
            continue;
        size_t bytes = (size_t)*count * sizeof *names;
        names = rt_realloc(names, bytes, bytes + sizeof *names);
        names[(*count)++] = rt_strdup(entry->d_name);
    }
    if (folder)
        closedir(folder);
    if (*count > 0)
        qsort(names, (size_t)*count, sizeof *names, by_name);
    return names;
}

static int add_run(rt_report *report, const char *dir, const char *regime, const char *method,
                   const char *seed, rt_error *err)
{
    char *summary = rt_format("%s/summary.json", dir);
    bool finished = rt_file_exists(summary) && strncmp(seed, "seed-", 5) == 0;
    rt_free(summary);
    if (!finished)
        return RT_OK;
    if (report->count == report->capacity) {
        int more = RT_MAX(64, 2 * report->capacity);
        report->runs = rt_realloc(report->runs, (size_t)report->capacity * sizeof *report->runs,
                                  (size_t)more * sizeof *report->runs);
        report->capacity = more;
    }
    rt_report_run *run = &report->runs[report->count];
    *run = (rt_report_run){.seed = atoi(seed + 5)};
    snprintf(run->regime, sizeof run->regime, "%s", regime);
    snprintf(run->method, sizeof run->method, "%s", method);
    int rc = read_run(run, dir, err);
    report->count += rc == RT_OK;
    return rc;
}

static int walk(rt_report *report, const char *dir, const char *const *names, int depth,
                rt_error *err)
{
    int count = 0, rc = RT_OK;
    char **list = list_names(dir, &count);
    for (int i = 0; i < count; i++) {
        char *path = rt_format("%s/%s", dir, list[i]);
        const char *below[3] = {names[0], names[1], NULL};
        below[depth] = list[i];
        if (!rc)
            rc = depth == 2 ? add_run(report, path, names[0], names[1], list[i], err)
                            : walk(report, path, below, depth + 1, err);
        rt_free(path);
        rt_free(list[i]);
    }
    rt_free(list);
    return rc;
}

int rt_report_read(rt_report *report, const char *root, rt_error *err)
{
    *report = (rt_report){0};
    const char *names[3] = {NULL};
    int rc = walk(report, root, names, 0, err);
    if (!rc && report->count == 0)
        rc = rt_fail(err, RT_ERR_INPUT, "no finished run below %s: run sh bench/resets.sh first",
                     root);
    if (rc)
        rt_report_free(report);
    return rc;
}

void rt_report_free(rt_report *report)
{
    rt_free(report->runs);
    *report = (rt_report){0};
}
