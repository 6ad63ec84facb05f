/*
 * store_report: a run as one page that needs nothing else: curves over steps, over all and by task, and
 * the tables of tasks, processes and leases. One SVG document; as HTML the same within a page.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/svg.h"
#include "coordinator/show.h"

enum { POINTS_MAX = 200, SERIES_MAX = RT_TASKS_MAX, IN_A_ROW = 2 };
#define MARGIN 16.0
#define LINE_HEIGHT 15.0
#define CHARACTER_WIDTH 6.7 /* of the widest usual monospace font at 11 pixels */

/* ---- points ----------------------------------------------------------------------------------- */

/* One metric over the steps: more points than a plot has room for become means of neighbours. */
typedef struct curve {
    char *name;
    double *x, *y, *low, *high; /* low, high: where there is an interval at every point */
    int count, bars;
} curve;

static void curve_free(curve *c)
{
    rt_free(c->name);
    rt_free(c->x);
    rt_free(c->y);
    rt_free(c->low);
    rt_free(c->high);
}

static void reserve(curve *c, int count)
{
    size_t bytes = (size_t)RT_MAX(count, 1) * sizeof(double);
    c->x = rt_alloc(bytes);
    c->y = rt_alloc(bytes);
    c->low = rt_alloc(bytes);
    c->high = rt_alloc(bytes);
}

static void thin(curve *c)
{
    int each = (c->count + POINTS_MAX - 1) / POINTS_MAX, kept = 0;
    for (int i = 0; each > 1 && i < c->count; i += each) {
        int end = RT_MIN(i + each, c->count);
        double x = 0, y = 0;
        for (int j = i; j < end; j++) {
            x += c->x[j];
            y += c->y[j];
        }
        c->x[kept] = x / (end - i);
        c->y[kept++] = y / (end - i);
        c->bars = 0;
    }
    c->count = each > 1 ? kept : c->count;
}

/* stem: the name without its last word, where low and high stand beside it; NULL: no interval. */
static int read_curve(const show_view *view, curve *c, const char *metric, const char *stem,
                      rt_error *err)
{
    static const char sql[] =
        "SELECT m.step, m.value, l.value, h.value FROM metrics m "
        "LEFT JOIN metrics l ON l.step = m.step AND l.name = ?2 "
        "LEFT JOIN metrics h ON h.step = m.step AND h.name = ?3 WHERE m.name = ?1 ORDER BY m.step";
    char *low = stem ? rt_format("%slow", stem) : NULL;
    char *high = stem ? rt_format("%shigh", stem) : NULL;
    sqlite3_stmt *query = NULL;
    int room = 0, code = sqlite3_prepare_v2(view->db, sql, -1, &query, NULL);
    if (code == SQLITE_OK) {
        sqlite3_bind_text(query, 1, metric, -1, SQLITE_STATIC);
        sqlite3_bind_text(query, 2, low, -1, SQLITE_STATIC);
        sqlite3_bind_text(query, 3, high, -1, SQLITE_STATIC);
        while (sqlite3_step(query) == SQLITE_ROW) {
            room++;
        }
        sqlite3_reset(query);
        reserve(c, room);
        while ((code = sqlite3_step(query)) == SQLITE_ROW && c->count < room) {
            c->x[c->count] = sqlite3_column_double(query, 0);
            c->y[c->count] = sqlite3_column_double(query, 1);
            c->low[c->count] = sqlite3_column_double(query, 2);
            c->high[c->count] = sqlite3_column_double(query, 3);
            c->bars += sqlite3_column_type(query, 2) != SQLITE_NULL &&
                       sqlite3_column_type(query, 3) != SQLITE_NULL;
            c->count++;
        }
    }
    sqlite3_finalize(query);
    rt_free(low);
    rt_free(high);
    thin(c);
    return code == SQLITE_DONE || code == SQLITE_ROW
               ? RT_OK
               : rt_fail(err, RT_ERR_IO, "cannot read the metrics of run.db: %s",
                         sqlite3_errmsg(view->db));
}

/* ---- plots ------------------------------------------------------------------------------------ */

typedef struct line {
    const char *name, *metric, *stem;
} line;

/* Either these lines, or one for each task with its name put into the forms. */
typedef struct panel {
    const char *title, *x_label, *y_label;
    line lines[6];
    const char *task_metric, *task_stem;
} panel;

static const panel panels[] = {
    {"reward and accuracy of a step", "step", "mean",
     {{"reward", "reward.mean", NULL}, {"accuracy", "accuracy", NULL}}, NULL, NULL},
    {"held-out problems, 95 % interval", "version", "accuracy",
     {{"greedy", "eval.greedy.accuracy", "eval.greedy."},
      {"sampled", "eval.sampled.accuracy", "eval.sampled."}}, NULL, NULL},
    {"reward by task", "step", "mean reward", {{NULL, NULL, NULL}}, "task.%s.reward", NULL},
    {"held-out problems by task, 95 % interval", "version", "accuracy", {{NULL, NULL, NULL}},
     "eval/%s/accuracy", "eval/%s/"},
    {"accuracy by task", "step", "share right", {{NULL, NULL, NULL}}, "task.%s.accuracy", NULL},
    {"degenerate groups by task", "step", "share", {{NULL, NULL, NULL}}, "task.%s.degenerate", NULL},
    {"share of the gradient by task", "step", "share", {{NULL, NULL, NULL}}, "grad/%s/share", NULL},
    {"squared norm of the mean gradient of a prompt, by task", "step", "norm²", {{NULL, NULL, NULL}},
     "grad/%s/norm2", NULL},
    {"loss", "step", "loss", {{"loss", "loss", NULL}}, NULL, NULL},
    {"gradient norm before clipping", "step", "norm", {{"grad_norm", "grad_norm", NULL}}, NULL, NULL},
    {"tokens of a step", "step", "tokens",
     {{"sampled", "tokens.sampled", NULL}, {"prefill", "tokens.prefill", NULL},
      {"trained", "tokens.trained", NULL}}, NULL, NULL},
    {"length of a response", "step", "tokens", {{"mean", "response.tokens", NULL}}, NULL, NULL},
    {"success of resets", "step", "share right",
     {{"continuations", "reset.success", NULL}, {"fresh rollouts", "accuracy", NULL}}, NULL, NULL},
    {"seconds of a step", "step", "seconds",
     {{"sampling", "seconds.sampling", NULL}, {"training", "seconds.training", NULL},
      {"weights", "seconds.weights", NULL}, {"evaluation", "seconds.evaluation", NULL},
      {"waiting", "seconds.waiting", NULL}}, NULL, NULL},
};

typedef struct drawn {
    curve curves[SERIES_MAX];
    rt_svg_series series[SERIES_MAX];
    int count;
} drawn;

static void keep_curve(drawn *d, curve *c, const char *name)
{
    if (c->count == 0) {
        curve_free(c);
        return;
    }
    c->name = rt_strdup(name);
    bool bars = c->bars == c->count;
    d->series[d->count] = (rt_svg_series){c->name, c->count, c->x, c->y, bars ? c->low : NULL,
                                          bars ? c->high : NULL, false};
    d->curves[d->count++] = *c;
}

static int read_panel(const show_view *view, const panel *p, const json_t *tasks, drawn *d,
                      rt_error *err)
{
    int rc = RT_OK;
    for (size_t i = 0; i < RT_COUNT(p->lines) && p->lines[i].metric && !rc; i++) {
        curve c = {NULL, NULL, NULL, NULL, NULL, 0, 0};
        rc = read_curve(view, &c, p->lines[i].metric, p->lines[i].stem, err);
        keep_curve(d, &c, p->lines[i].name);
    }
    for (size_t i = 0; p->task_metric && i < json_array_size(tasks) && i < SERIES_MAX && !rc; i++) {
        const char *task = json_string_value(json_array_get(tasks, i));
        char *metric = sqlite3_mprintf(p->task_metric, task);
        char *stem = p->task_stem ? sqlite3_mprintf(p->task_stem, task) : NULL;
        curve c = {NULL, NULL, NULL, NULL, NULL, 0, 0};
        rc = read_curve(view, &c, metric, stem, err);
        keep_curve(d, &c, task);
        sqlite3_free(metric);
        sqlite3_free(stem);
    }
    return rc;
}

/* A panel that repeats another says nothing: tasks of a run with one, resets of a run without. */
static bool worth_it(const panel *p, const json_t *tasks, const drawn *d)
{
    bool single = json_array_size(tasks) < 2, resets = strstr(p->title, "resets") != NULL;
    bool share = p->task_metric && strstr(p->task_metric, "grad/");
    return d->count > 0 && !(p->task_metric && single && !share) && !(resets && d->count < 2);
}

/* ---- the page --------------------------------------------------------------------------------- */

typedef struct page {
    rt_buf body; /* inside the svg element */
    double width, height;
} page;

static void add_lines(page *to, const char *title, const char *text)
{
    to->height += 2 * LINE_HEIGHT;
    rt_buf_addf(&to->body, "<text x=\"%.0f\" y=\"%.0f\" font-weight=\"bold\">", MARGIN, to->height);
    rt_svg_text(&to->body, title);
    rt_buf_addf(&to->body, "</text>\n");
    while (*text) {
        size_t bytes = strcspn(text, "\n");
        char *row = rt_strndup(text, bytes);
        to->height += LINE_HEIGHT;
        to->width = fmax(to->width, 2 * MARGIN + CHARACTER_WIDTH * (double)bytes);
        rt_buf_addf(&to->body, "<text x=\"%.0f\" y=\"%.0f\" font-family=\"monospace\" "
                    "xml:space=\"preserve\">", MARGIN, to->height);
        rt_svg_text(&to->body, row);
        rt_buf_addf(&to->body, "</text>\n");
        rt_free(row);
        text += bytes + (text[bytes] == '\n');
    }
}

static int add_table(const show_view *view, page *to, const char *title, const char *sql,
                     rt_error *err)
{
    rt_buf text = {0};
    show_view as_text = {.db = view->db, .out = &text};
    json_t *rows = rt_show_rows(view, sql, 0, err);
    if (rows) {
        rt_show_table(&as_text, rows);
        add_lines(to, title, text.data ? text.data : "");
    }
    rt_buf_free(&text);
    json_decref(rows);
    return rows ? RT_OK : err->code;
}

static int add_tasks(const show_view *view, page *to, rt_error *err)
{
    rt_buf text = {0};
    show_view as_text = {.db = view->db, .out = &text};
    int rc = rt_show_tasks(&as_text, err);
    if (!rc) {
        add_lines(to, "tasks", text.data ? text.data : "");
    }
    rt_buf_free(&text);
    return rc;
}

static int add_row(page *to, const rt_svg_plot *plots, int count, rt_error *err)
{
    double width, height;
    rt_svg_size(plots, count, &width, &height);
    rt_buf_addf(&to->body, "<g transform=\"translate(%.0f %.0f)\">\n", MARGIN, to->height + MARGIN);
    int rc = count > 0 ? rt_svg_write(&to->body, plots, count, err) : RT_OK;
    rt_buf_addf(&to->body, "</g>\n");
    to->height += count > 0 ? height + MARGIN : 0;
    to->width = fmax(to->width, width + 2 * MARGIN);
    return rc;
}

static int add_plots(const show_view *view, page *to, rt_error *err)
{
    json_t *tasks = rt_show_task_names(view, err);
    int rc = tasks ? RT_OK : err->code, count = 0;
    drawn *all = rt_alloc(RT_COUNT(panels) * sizeof *all);
    rt_svg_plot row[IN_A_ROW];
    for (size_t i = 0; i < RT_COUNT(panels) && !rc; i++) {
        const panel *p = &panels[i];
        rc = read_panel(view, p, tasks, &all[i], err);
        if (!rc && worth_it(p, tasks, &all[i])) {
            row[count++] = (rt_svg_plot){p->title, p->x_label, p->y_label, false, false,
                                         all[i].series, all[i].count};
        }
        if (!rc && (count == IN_A_ROW || i + 1 == RT_COUNT(panels))) {
            rc = add_row(to, row, count, err);
            count = 0;
        }
    }
    for (size_t i = 0; i < RT_COUNT(panels); i++) {
        for (int c = 0; c < all[i].count; c++) {
            curve_free(&all[i].curves[c]);
        }
    }
    rt_free(all);
    json_decref(tasks);
    return rc;
}

static int add_tables(const show_view *view, page *to, rt_error *err)
{
    static const char run[] = "SELECT key, value FROM run ORDER BY key";
    static const char processes[] =
        "SELECT id, role, host, datetime(joined, 'unixepoch') AS joined, "
        "datetime(\"left\", 'unixepoch') AS \"left\", substr(why, 1, 60) AS why FROM workers w "
        "ORDER BY w.joined, id";
    static const char leases[] =
        "SELECT coalesce(worker, '-') AS worker, count(*) AS leases, sum(fate = 'trained') AS trained, "
        "sum(fate = 'filtered') AS filtered, sum(fate = 'stale') AS stale, sum(fate = 'failed') AS failed, "
        "sum(fate = 'cancelled') AS cancelled, sum(fate IS NULL) AS open, sum(attempt > 0) AS again "
        "FROM leases GROUP BY 1 UNION ALL "
        "SELECT 'all', count(*), sum(fate = 'trained'), sum(fate = 'filtered'), sum(fate = 'stale'), "
        "sum(fate = 'failed'), sum(fate = 'cancelled'), sum(fate IS NULL), sum(attempt > 0) FROM leases";
    int rc = add_table(view, to, "run", run, err);
    rc = rc ? rc : add_tasks(view, to, err);
    rc = rc ? rc : add_table(view, to, "leases and how they ended", leases, err);
    return rc ? rc : add_table(view, to, "processes", processes, err);
}

int rt_show_report(const show_view *view, const char *dir, const char *form, rt_error *err)
{
    page all = {.height = 0};
    bool html = strcmp(form, "html") == 0;
    add_lines(&all, dir, "");
    int rc = add_plots(view, &all, err);
    rc = rc ? rc : add_tables(view, &all, err);
    if (!rc && html) {
        rt_buf_addf(view->out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>");
        rt_svg_text(view->out, dir);
        rt_buf_addf(view->out, "</title></head>\n<body style=\"font-family: sans-serif\">\n<h1>");
        rt_svg_text(view->out, dir);
        rt_buf_addf(view->out, "</h1>\n");
    }
    if (!rc) {
        rt_buf_addf(view->out, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
                    "font-family=\"sans-serif\" font-size=\"11\">\n<title>", all.width,
                    all.height + MARGIN);
        rt_svg_text(view->out, dir);
        rt_buf_addf(view->out, "</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n");
        rt_buf_add(view->out, all.body.data, all.body.bytes);
        rt_buf_addf(view->out, "</svg>\n%s", html ? "</body></html>\n" : "");
    }
    rt_buf_free(&all.body);
    return rc;
}
