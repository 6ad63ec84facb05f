/* show: the run store as text, with token ids decoded by the run's own tokenizer. */
#include <string.h>

#include "coordinator/coordinator.h"
#include "deploy/cli.h"

enum { WORDS_MAX = 4 };

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

static int check_words(const char *const *words, int count)
{
    static const struct { const char *name; bool number; } views[] = {
        {"steps", false}, {"resets", false}, {"debates", false}, {"workers", false},
        {"events", false}, {"debate", true},
        {"problem", true}, {"trajectory", true}, {"step", true}, {"reset", true},
    };
    if (count == 0)
        return 0;
    for (size_t i = 0; i < RT_COUNT(views); i++)
        if (strcmp(words[0], views[i].name) == 0) {
            if (count != (views[i].number ? 2 : 1))
                return cli_usage("usage: retake show RUN %s%s", views[i].name,
                                 views[i].number ? " NUMBER" : "");
            if (views[i].number && (!*words[1] || words[1][strspn(words[1], "0123456789")]))
                return cli_usage("\"%s\" is no number; usage: retake show RUN %s NUMBER", words[1],
                                 views[i].name);
            return 0;
        }
    return cli_usage("nothing to show under \"%s\"; there are: steps, step N, problem ID, "
                     "trajectory ID, resets, reset ID, debates, debate ID, workers, events",
                     words[0]);
}

int cmd_show(int argc, char **argv)
{
    const char *words[WORDS_MAX], *model = NULL;
    bool json = false;
    int count;
    const cli_option options[] = {
        {"--json", OPTION_FLAG, &json, NULL, "one JSON object"},
        {"--model", OPTION_TEXT, &model, "MODEL",
         "tokenizer to read texts with (default: the run's)"},
    };
    int rc = cli_parse(argc, argv,
                       "show RUN [steps | step N | problem ID | trajectory ID | resets | "
                       "reset ID | debates | debate ID | workers | events]",
                       "Reads the run store of a run folder, also while the run goes on.\n"
                       "Without more words: an overview.",
                       options, RT_COUNT(options), words, &count, WORDS_MAX);
    if (rc != 0)
        return rc < 0 ? 0 : rc;
    if (count == 0)
        return cli_usage("which run? usage: retake show RUN [steps | step N | problem ID | "
                         "trajectory ID | resets | reset ID | debates | debate ID | workers "
                         "| events]");
    rc = check_words(words + 1, count - 1);
    if (rc != 0)
        return rc;
    char *db = rt_format("%s/run.db", words[0]);
    bool there = rt_file_exists(db);
    rt_free(db);
    if (!there)
        return cli_usage("%s is no run folder: it has no run.db", words[0]);
    bool texts =
        count > 1 && (strcmp(words[1], "problem") == 0 || strcmp(words[1], "trajectory") == 0 ||
                      strcmp(words[1], "step") == 0 || strcmp(words[1], "reset") == 0 ||
                      strcmp(words[1], "debate") == 0);
    rt_tokenizer *tokenizer = texts ? open_tokenizer(words[0], model) : NULL;
    rt_buf out = {0};
    rt_error err;
    rc = rt_store_show(words[0], words + 1, count - 1, json, decode, tokenizer, &out, &err);
    if (rc != 0)
        rc = cli_fail(&err);
    else if (out.bytes > 0 && (fwrite(out.data, 1, out.bytes, stdout) != out.bytes ||
                               (out.data[out.bytes - 1] != '\n' && putchar('\n') == EOF)))
        rc = 1;
    rt_buf_free(&out);
    if (tokenizer)
        rt_tokenizer_free(&tokenizer);
    return rc;
}
