/* show: the run store as text, with token ids decoded by the run's own tokenizer. */
#include <string.h>

#include "coordinator/coordinator.h"
#include "deploy/cli.h"

enum { WORDS_MAX = RT_SHOW_RUNS_MAX + 2 };

static void decode(void *context, const int32_t *ids, size_t count, rt_buf *out)
{
    const rt_tokenizer *tokenizer = context;
    if (tokenizer) {
        rt_tokenizer_decode(tokenizer, ids, count, out);
        return;
    }
    for (size_t i = 0; i < count; i++)
        rt_buf_addf(out, "%s%d", i ? " " : "", (int)ids[i]);
}

/* The tokenizer of --model, of the run's model, or of its newest checkpoint when that has moved. */
static rt_tokenizer *open_tokenizer(const char *dir, const char *model)
{
    rt_tokenizer *tokenizer = NULL;
    rt_error err, ignored;
    int rc;
    if (model) {
        rc = rt_tokenizer_load(&tokenizer, model, &err);
    } else {
        char *path = rt_format("%s/config.yaml", dir);
        rt_config config;
        rc = rt_config_load(&config, path, NULL, 0, &err);
        rt_free(path);
        if (rc == 0) {
            rc = rt_tokenizer_load(&tokenizer, config.model.path, &err);
            rt_config_free(&config);
        }
        if (rc != 0)
            rc = rt_tokenizer_load(&tokenizer, dir, &ignored);
    }
    if (rc == 0)
        return tokenizer;
    fprintf(stderr, "retake: texts are shown as token ids: %s; --model MODEL names a tokenizer\n",
            err.message);
    return NULL;
}

/* number: NUMBER follows; runs: of several runs at once. */
static const struct view {
    const char *name;
    bool number, runs;
} views[] = {
    {"steps", false, false},   {"tasks", false, false},     {"resets", false, false},
    {"workers", false, false}, {"events", false, false},    {"report", false, false},
    {"metrics", false, true},  {"problem", true, false},    {"trajectory", true, false},
    {"step", true, false},     {"reset", true, false},      {"debates", false, false},
    {"debate", true, false},
};

static const char names_of_views[] =
    "steps, step N, tasks, metrics, report, problem ID, trajectory ID, resets, "
    "reset ID, debates, debate ID, workers, events";

static const struct view *view_of(const char *word)
{
    for (size_t i = 0; i < RT_COUNT(views); i++)
        if (strcmp(word, views[i].name) == 0)
            return &views[i];
    return NULL;
}

/* words: RUN… VIEW [NUMBER]; *runs: how many come before the view. */
static int check_words(const char *const *words, int count, int *runs)
{
    const struct view *view = NULL;
    for (*runs = 1; *runs < count && !view;)
        if (!(view = view_of(words[*runs])))
            ++*runs;
    if (!view && count > 1)
        return cli_usage("nothing to show under \"%s\"; there are: %s", words[1], names_of_views);
    if (!view)
        return 0;
    const char *number = words[*runs + view->number];
    if (*runs > 1 && !view->runs)
        return cli_usage("%s is shown of one run at a time; only metrics takes several", view->name);
    if (count != *runs + 1 + view->number)
        return cli_usage("usage: retake show RUN%s %s%s", view->runs ? "…" : "", view->name,
                         view->number ? " NUMBER" : "");
    if (view->number && (!*number || number[strspn(number, "0123456789")]))
        return cli_usage("\"%s\" is no number; usage: retake show RUN %s NUMBER", number, view->name);
    return 0;
}

static int print(const rt_buf *out, const char *to, rt_error *err)
{
    if (to)
        return rt_file_write(to, out->data, out->bytes, err);
    if (out->bytes > 0 && (fwrite(out->data, 1, out->bytes, stdout) != out->bytes ||
                           (out->data[out->bytes - 1] != '\n' && putchar('\n') == EOF)))
        return rt_fail(err, RT_ERR_IO, "cannot write to standard output");
    return 0;
}

/* The form of a report is that of its file's name. */
static int check_report(const char *view, const char *to, const char **form)
{
    bool report = strcmp(view, "report") == 0;
    const char *dot = to ? strrchr(to, '.') : NULL;
    if (report != (to != NULL))
        return cli_usage("a report needs a file, nothing else does: retake show RUN report --to "
                         "FILE.svg|FILE.html");
    *form = dot && strcmp(dot, ".svg") == 0 ? "svg" : "html";
    if (report && (!dot || (strcmp(dot, ".svg") != 0 && strcmp(dot, ".html") != 0)))
        return cli_usage("%s: the name of a report ends in .svg or .html", to);
    return 0;
}

int cmd_show(int argc, char **argv)
{
    const char *words[WORDS_MAX] = {NULL}, *model = NULL, *to = NULL, *names = NULL, *form = NULL;
    bool json = false;
    int count, runs = 1;
    const cli_option options[] = {
        {"--json", OPTION_FLAG, &json, NULL, "one JSON object"},
        {"--model", OPTION_TEXT, &model, "MODEL",
         "tokenizer to read texts with (default: the run's)"},
        {"--names", OPTION_TEXT, &names, "LIST",
         "metrics: names or patterns, \"loss,eval*\" (default: the usual ones)"},
        {"--to", OPTION_TEXT, &to, "FILE", "report: FILE.svg or FILE.html"},
    };
    int rc = cli_parse(argc, argv,
                       "show RUN [steps | step N | tasks | problem ID | trajectory ID | resets | "
                       "reset ID | debates | debate ID | workers | events | report --to FILE], "
                       "show RUN… metrics",
                       "Reads the run store of a run folder, also while the run goes on.\n"
                       "Without more words: an overview. metrics: last and best values, of several runs\n"
                       "side by side. report: curves and tables in one file.",
                       options, RT_COUNT(options), words, &count, WORDS_MAX);
    if (rc != 0)
        return rc < 0 ? 0 : rc;
    if (count == 0)
        return cli_usage("which run? usage: retake show RUN [VIEW]; views are: %s", names_of_views);
    rc = check_words(words, count, &runs);
    const char *view = count > runs ? words[runs] : "";
    if (rc == 0)
        rc = check_report(view, to, &form);
    for (int i = 0; i < runs && rc == 0; i++) {
        char *db = rt_format("%s/run.db", words[i]);
        if (!rt_file_exists(db))
            rc = cli_usage("%s is no run folder: it has no run.db", words[i]);
        rt_free(db);
    }
    if (rc != 0)
        return rc;
    bool texts = strcmp(view, "problem") == 0 || strcmp(view, "trajectory") == 0 ||
                 strcmp(view, "step") == 0 || strcmp(view, "reset") == 0 ||
                 strcmp(view, "debate") == 0;
    rt_tokenizer *tokenizer = texts ? open_tokenizer(words[0], model) : NULL;
    const char *what[2] = {view, to ? form : words[runs + 1]};
    rt_buf out = {0};
    rt_error err;
    rc = strcmp(view, "metrics") == 0
             ? rt_store_metrics(words, runs, names, json, &out, &err)
             : rt_store_show(words[0], what, to ? 2 : count - runs, json, decode, tokenizer, &out, &err);
    if (rc == 0)
        rc = print(&out, to, &err);
    if (rc != 0)
        rc = cli_fail(&err);
    rt_buf_free(&out);
    if (tokenizer)
        rt_tokenizer_free(&tokenizer);
    return rc;
}
