/* gradients_read: metrics of the accounting of gradients, from run.db into tables by part and step. */
#include <math.h>
#include <sqlite3.h>
#include <string.h>

#include "bench/gradients.h"

static const char *const suffixes[RT_GRADIENTS_MEASURES] = {
    "norm2", "naive", "norm2_live", "norm2_block", "share", "cosine", "advantage",
    "correlation", "prompts", "live", ""};

typedef void row_reader(sqlite3_stmt *row, rt_gradients *to, int part, int other);

/* Rows of one metric. */
static int each(sqlite3 *db, const char *sql, const char *metric, rt_gradients *to, int part, int other,
                row_reader *read, rt_error *err)
{
    sqlite3_stmt *query = NULL;
    int code = sqlite3_prepare_v2(db, sql, -1, &query, NULL);
    if (code == SQLITE_OK && metric)
        code = sqlite3_bind_text(query, 1, metric, -1, SQLITE_STATIC);
    while (code == SQLITE_OK && (code = sqlite3_step(query)) == SQLITE_ROW) {
        read(query, to, part, other);
        code = SQLITE_OK;
    }
    sqlite3_finalize(query);
    return code == SQLITE_DONE ? RT_OK : rt_fail(err, RT_ERR_INPUT, "%s", sqlite3_errmsg(db));
}

/* Tasks come first, for "by/…" of kinds, depths and so on sorts behind no other name by itself. */
static const char parts[] =
    "SELECT substr(name, 6, length(name) - 11) AS part, (SELECT count(*) FROM steps) FROM metrics "
    "WHERE name LIKE 'grad/%/norm2' GROUP BY name ORDER BY part LIKE 'by/%', part";

static void read_part(sqlite3_stmt *row, rt_gradients *to, int part, int other)
{
    (void)part, (void)other;
    const char *name = (const char *)sqlite3_column_text(row, 0);
    if (to->parts == RT_GRADIENTS_PARTS)
        return;
    snprintf(to->names[to->parts++], RT_RESETS_NAME, "%s", name);
    to->tasks += strncmp(name, "by/", 3) != 0;
    to->steps = RT_MIN(sqlite3_column_int(row, 1), RT_GRADIENTS_STEPS);
}

static const char by_step[] = "SELECT step, value FROM metrics WHERE name = ?";

static void read_value(sqlite3_stmt *row, rt_gradients *to, int part, int measure)
{
    int64_t step = sqlite3_column_int64(row, 0);
    if (step >= 0 && step < to->steps && sqlite3_column_type(row, 1) != SQLITE_NULL)
        to->value[measure][part][step] = sqlite3_column_double(row, 1);
}

static const char mean[] = "SELECT avg(value) FROM metrics WHERE name = ?";

static double real_or_nan(sqlite3_stmt *row)
{
    return sqlite3_column_type(row, 0) == SQLITE_NULL ? NAN : sqlite3_column_double(row, 0);
}

static void read_cosine(sqlite3_stmt *row, rt_gradients *to, int part, int other)
{
    to->cosine[part][other] = real_or_nan(row);
}

static void read_clip(sqlite3_stmt *row, rt_gradients *to, int part, int other)
{
    (void)part, (void)other;
    to->clip = real_or_nan(row);
}

static void read_block(sqlite3_stmt *row, rt_gradients *to, int part, int other)
{
    (void)part, (void)other;
    to->block = real_or_nan(row);
}

static const char ends[] = "SELECT value FROM metrics WHERE name = ? ORDER BY step";

static void read_accuracy(sqlite3_stmt *row, rt_gradients *to, int part, int other)
{
    (void)other;
    to->after[part] = real_or_nan(row);
    if (isnan(to->before[part]))
        to->before[part] = to->after[part];
}

static int read_task(sqlite3 *db, rt_gradients *to, int part, rt_error *err)
{
    const char *name = to->names[part];
    char *reward = rt_format("task.%s.reward", name), *accuracy = rt_format("eval/%s/accuracy", name);
    int code = each(db, by_step, reward, to, part, RT_GRADIENTS_REWARD, read_value, err);
    if (!code)
        code = each(db, ends, accuracy, to, part, 0, read_accuracy, err);
    for (int other = 0; other < to->tasks && !code; other++) {
        char *metric = rt_format("grad/%s/cosine/%s", name, to->names[other]);
        code = each(db, mean, metric, to, part, other, read_cosine, err);
        rt_free(metric);
    }
    rt_free(reward), rt_free(accuracy);
    return code;
}

static int read_all(sqlite3 *db, rt_gradients *to, rt_error *err)
{
    int code = each(db, parts, NULL, to, 0, 0, read_part, err);
    for (int part = 0; part < to->parts && !code; part++) {
        for (int m = 0; m < RT_GRADIENTS_REWARD && !code; m++) {
            char *metric = rt_format("grad/%s/%s", to->names[part], suffixes[m]);
            code = each(db, by_step, metric, to, part, m, read_value, err);
            rt_free(metric);
        }
        if (!code && part < to->tasks)
            code = read_task(db, to, part, err);
    }
    code = code ? code : each(db, mean, "grad/clip_factor", to, 0, 0, read_clip, err);
    return code ? code : each(db, mean, "grad/block_correlation", to, 0, 0, read_block, err);
}

int rt_gradients_read(rt_gradients **out, const char *database, rt_error *err)
{
    sqlite3 *db = NULL;
    rt_gradients *to = rt_alloc(sizeof *to);
    for (int m = 0; m < RT_GRADIENTS_MEASURES; m++)
        for (int part = 0; part < RT_GRADIENTS_PARTS; part++)
            for (int step = 0; step < RT_GRADIENTS_STEPS; step++)
                to->value[m][part][step] = NAN;
    for (int part = 0; part < RT_GRADIENTS_PARTS; part++) {
        to->before[part] = to->after[part] = NAN;
        for (int other = 0; other < RT_GRADIENTS_PARTS; other++)
            to->cosine[part][other] = NAN;
    }
    int code = RT_OK;
    if (sqlite3_open_v2(database, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK)
        code = rt_fail(err, RT_ERR_IO, "%s", sqlite3_errmsg(db));
    if (!code)
        code = read_all(db, to, err);
    sqlite3_close(db);
    if (code || to->parts == 0)
        rt_free(to), to = NULL;
    *out = to;
    return code;
}
