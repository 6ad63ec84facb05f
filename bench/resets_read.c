/* resets_read: one run folder, and a tree of them. Everything asked of run.db stands here, but for what
 * gradients_read.c asks. */
#include "bench/resets.h"

#include <dirent.h>
#include <math.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "bench/gradients.h"

const char *const rt_resets_methods[] = {"grpo", "grpo_seqmean", "rrpo", "srpo", "srpo_oracle",
                                         "caro", "maca_sft", "maca_grpo", "maca_dpo", "maca_kto",
                                         "ttrl", "scpo", "uniform", "mixing_gradient", "equal_norms",
                                         "running_norms", "clip", "pcgrad", "cagrad", NULL};

/* ---- one run ------------------------------------------------------------------------------- */

typedef void row_reader(sqlite3_stmt *row, rt_resets_run *run);

static int each(sqlite3 *db, const char *sql, row_reader *read, rt_resets_run *run, rt_error *err)
{
    sqlite3_stmt *query = NULL;
    int code = sqlite3_prepare_v2(db, sql, -1, &query, NULL);
    while (code == SQLITE_OK && (code = sqlite3_step(query)) == SQLITE_ROW) {
        read(query, run);
        code = SQLITE_OK;
    }
    sqlite3_finalize(query);
    return code == SQLITE_DONE ? RT_OK : rt_fail(err, RT_ERR_INPUT, "%s", sqlite3_errmsg(db));
}

/* Sampled answers come first in the order, so that greedy ones only fill gaps. */
static const char evaluations[] =
    "SELECT step, value FROM metrics WHERE name IN ('eval.sampled.accuracy', 'eval.greedy.accuracy') "
    "ORDER BY step, name DESC";

static void read_evaluation(sqlite3_stmt *row, rt_resets_run *run)
{
    int step = sqlite3_column_int(row, 0), count = run->marks_count;
    bool there = count > 0 && run->marks[count - 1].step == step;
    if (!there && count < RT_RESETS_MARKS)
        run->marks[run->marks_count++] =
            (rt_resets_mark){.step = step, .accuracy = sqlite3_column_double(row, 1)};
}

/* What was sampled in a step: responses without the prefix they inherited. Debates held to evaluate
 * have numbers from 3 << 61 on. */
static const char samples[] =
    "SELECT t.step, t.kind, t.fate = 'trained', "
    "sum(length(t.response_ids) / 4 - coalesce(r.tokens, 0)), count(*) FROM trajectories t "
    "LEFT JOIN resets r ON t.kind = 'reset' AND r.id = t.reset_id "
    "WHERE t.kind <> 'eval' AND t.id < 3 << 61 GROUP BY t.step, t.kind, t.fate = 'trained'";

static void read_samples(sqlite3_stmt *row, rt_resets_run *run)
{
    int step = sqlite3_column_int(row, 0);
    const char *kind = (const char *)sqlite3_column_text(row, 1);
    bool trained = sqlite3_column_int(row, 2);
    double tokens = sqlite3_column_double(row, 3);
    if (trained)
        run->tokens.trained += tokens;
    else if (!strcmp(kind, "localize"))
        run->tokens.judged += tokens;
    else if (!strcmp(kind, "seed"))
        run->tokens.seeds += tokens;
    else
        run->tokens.discarded += tokens;
    for (int i = 0; i < run->marks_count; i++)
        if (run->marks[i].step > step) {
            run->marks[i].tokens += tokens;
            run->marks[i].sequences += trained ? sqlite3_column_double(row, 4) : 0;
        }
}

static const char means[] =
    "SELECT (SELECT count(*) FROM steps), "
    "(SELECT sum(value) FROM metrics WHERE step < (SELECT count(*) FROM steps) AND name IN "
    "('seconds.sampling', 'seconds.training', 'seconds.weights', 'seconds.waiting')), "
    "(SELECT avg(value) FROM metrics WHERE name = 'degenerate'), "
    "(SELECT avg(value) FROM metrics WHERE name = 'degenerate.base'), "
    "(SELECT avg(value) FROM metrics WHERE name = 'degenerate.reset'), "
    "(SELECT sum(value) FROM metrics WHERE name = 'logprob.mismatched')";

static double real_or_nan(sqlite3_stmt *row, int column)
{
    return sqlite3_column_type(row, column) == SQLITE_NULL ? NAN
                                                           : sqlite3_column_double(row, column);
}

static void read_means(sqlite3_stmt *row, rt_resets_run *run)
{
    run->steps = sqlite3_column_int(row, 0);
    run->seconds = run->steps ? sqlite3_column_double(row, 1) / run->steps : NAN;
    run->degenerate = real_or_nan(row, 2);
    run->base_flat = real_or_nan(row, 3);
    run->reset_flat = real_or_nan(row, 4);
    run->mismatched = sqlite3_column_double(row, 5);
}

static const char states[] =
    "SELECT r.thought, length(t.thought_ends) / 4, r.oracle, r.successes, t.grade "
    "FROM resets r LEFT JOIN trajectories t ON t.id = r.trajectory_id";

static void read_state(sqlite3_stmt *row, rt_resets_run *run)
{
    int thought = sqlite3_column_int(row, 0), thoughts = sqlite3_column_int(row, 1);
    if (thoughts == 0) {
        run->at_prompt++;
        return;
    }
    /* Bin b holds positions from b / BINS up to (b + 1) / BINS, which thought 1 of n begins. */
    run->states++;
    run->at_start += thought <= 1;
    run->position += (double)thought / thoughts;
    run->bins[RT_MIN((thought - 1) * RT_RESETS_BINS / thoughts, RT_RESETS_BINS - 1)]++;
    const char *grade = (const char *)sqlite3_column_text(row, 4);
    int first = sqlite3_column_int(row, 2), passed = sqlite3_column_int(row, 3) > 0;
    if (first > 0 && grade && strcmp(grade, "correct") != 0) {
        bool clean = thought <= first;
        run->known++;
        run->exact += thought == first;
        run->clean += clean;
        run->passed_clean += clean && passed;
        run->passed_late += !clean && passed;
    }
}

static const char debates[] =
    "SELECT step, name, value FROM metrics WHERE name IN ('eval.sampled.accuracy', "
    "'eval.consistency.accuracy') OR name LIKE 'eval.debate.%' "
    "ORDER BY step, length(name), name";

static void read_debate(sqlite3_stmt *row, rt_resets_run *run)
{
    rt_resets_debate_read(run, sqlite3_column_int(row, 0),
                          (const char *)sqlite3_column_text(row, 1), sqlite3_column_double(row, 2));
}

static const char costs[] =
    "SELECT step, name, value FROM metrics WHERE step < (SELECT count(*) FROM steps) AND name IN "
    "('seconds.sampling', 'seconds.training', 'seconds.weights', 'seconds.waiting', "
    "'tokens.sampled', 'tokens.prefill')";

static void read_cost(sqlite3_stmt *row, rt_resets_run *run)
{
    rt_resets_cost_read(run, sqlite3_column_int(row, 0), (const char *)sqlite3_column_text(row, 1),
                        sqlite3_column_double(row, 2));
}

static const char last[] = "SELECT weights_hash FROM steps ORDER BY step DESC LIMIT 1";

static void read_last(sqlite3_stmt *row, rt_resets_run *run)
{
    const char *hash = (const char *)sqlite3_column_text(row, 0);
    snprintf(run->cost.hash, sizeof run->cost.hash, "%s", hash ? hash : "");
}

static int read_database(rt_resets_run *run, const char *path, rt_error *err)
{
    sqlite3 *db = NULL;
    int code = RT_OK;
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK)
        code = rt_fail(err, RT_ERR_IO, "%s", sqlite3_errmsg(db));
    const struct {
        const char *sql;
        row_reader *read;
    } parts[] = {{evaluations, read_evaluation}, {samples, read_samples},
                 {means, read_means}, {states, read_state},
                 {debates, read_debate}, {costs, read_cost}, {last, read_last}};
    for (size_t i = 0; i < RT_COUNT(parts) && !code; i++)
        code = each(db, parts[i].sql, parts[i].read, run, err);
    sqlite3_close(db);
    return code;
}

static int read_config(rt_resets_run *run, const char *path, rt_error *err)
{
    rt_config config;
    int code = rt_config_load(&config, path, NULL, 0, err);
    if (code)
        return code;
    bool corrected = strcmp(config.gradients.correction, "none") != 0;
    bool loud = config.mixing.strategy == RT_MIX_GRADIENT;
    snprintf(run->method, sizeof run->method, "%s",
             corrected                ? config.gradients.correction
             : config.tasks_count < 2 ? config.algorithm.name
             : loud                   ? "mixing_gradient"
                                      : "uniform");
    run->seed = config.run.seed;
    run->rate = config.learner.lr;
    rt_config_free(&config);
    return RT_OK;
}

int rt_resets_read(rt_resets_run *run, const char *folder, const char *regime, rt_error *err)
{
    *run = (rt_resets_run){0};
    rt_resets_debate_start(run);
    snprintf(run->regime, sizeof run->regime, "%s", regime);
    char *config = rt_format("%s/config.yaml", folder), *database = rt_format("%s/run.db", folder);
    int code = read_config(run, config, err);
    if (!code)
        code = read_database(run, database, err);
    if (!code)
        code = rt_gradients_read(&run->gradients, database, err);
    if (!code && run->marks_count == 0)
        code = rt_fail(err, RT_ERR_INPUT, "it has no evaluation");
    rt_free(config);
    rt_free(database);
    return code ? rt_error_prefix(err, "run %s", folder) : RT_OK;
}

/* ---- a tree of runs -------------------------------------------------------------------------- */

static int method_rank(const char *name)
{
    int rank = 0;
    while (rt_resets_methods[rank] && strcmp(rt_resets_methods[rank], name))
        rank++;
    return rank;
}

static int compare(const void *left, const void *right)
{
    const rt_resets_run *a = left, *b = right;
    int order = strcmp(a->regime, b->regime);
    if (!order)
        order = method_rank(a->method) - method_rank(b->method);
    if (!order)
        order = (a->rate > b->rate) - (a->rate < b->rate);
    return order ? order : (a->seed > b->seed) - (a->seed < b->seed);
}

static int add(rt_resets_runs *runs, const char *folder, const char *regime, rt_error *err)
{
    char *done = rt_format("%s/summary.json", folder);
    bool finished = rt_file_exists(done);
    rt_free(done);
    if (!finished)
        return RT_OK;
    if (runs->count == runs->capacity) {
        size_t old = (size_t)runs->capacity * sizeof *runs->all;
        runs->capacity = runs->capacity ? 2 * runs->capacity : 64;
        runs->all = rt_realloc(runs->all, old, (size_t)runs->capacity * sizeof *runs->all);
    }
    int code = rt_resets_read(&runs->all[runs->count], folder, regime, err);
    runs->count += !code;
    return code;
}

/* Folders below `folder`: depth 0 are regimes, 1 methods, 2 runs. */
static int walk(rt_resets_runs *runs, const char *folder, const char *regime, int depth,
                rt_error *err)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return depth ? RT_OK : rt_fail(err, RT_ERR_IO, "there is no folder %s", folder);
    int code = RT_OK;
    for (struct dirent *entry; !code && (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        char *inner = rt_format("%s/%s", folder, entry->d_name);
        if (depth < 2)
            code = walk(runs, inner, depth ? regime : entry->d_name, depth + 1, err);
        else
            code = add(runs, inner, regime, err);
        rt_free(inner);
    }
    closedir(dir);
    return code;
}

int rt_resets_load(rt_resets_runs *runs, const char *folder, rt_error *err)
{
    *runs = (rt_resets_runs){0};
    int code = walk(runs, folder, NULL, 0, err);
    if (!code && runs->count == 0)
        code = rt_fail(err, RT_ERR_INPUT, "%s holds no finished run", folder);
    if (code) {
        rt_resets_free(runs);
        return code;
    }
    qsort(runs->all, (size_t)runs->count, sizeof *runs->all, compare);
    return RT_OK;
}

void rt_resets_free(rt_resets_runs *runs)
{
    for (int i = 0; i < runs->count; i++)
        rt_free(runs->all[i].gradients);
    rt_free(runs->all);
    *runs = (rt_resets_runs){0};
}
