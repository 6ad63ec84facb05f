/* eval: how many held-out problems a model solves, with intervals. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "deploy/eval_guard.h"
#include "deploy/eval_report.h"
#include "deploy/eval_session.h"

#define SAMPLES_MAX 1024

typedef struct options {
    eval_options common;
    const char *method, *against;
    int64_t k;
    double temperature;
    bool greedy;
} options;

/* ---- the command ----------------------------------------------------------------------------- */

/* What is answered: greedily, drawn, or both. */
static bool wants_sampled(const options *o)
{
    return o->k > 1 || (!isnan(o->temperature) && o->temperature > 0);
}

static bool wants_greedy(const options *o)
{
    return o->greedy || !wants_sampled(o);
}

static int check_options(const options *o)
{
    if (strcmp(o->method, "thoughts") != 0 && strcmp(o->method, "plain") != 0)
        return cli_usage("--method is plain, thoughts, correct or debate, not \"%s\"", o->method);
    if (o->k < 1 || o->k > SAMPLES_MAX)
        return cli_usage("--k is 1 to %d", SAMPLES_MAX);
    if (o->temperature < 0 || o->temperature > 100)
        return cli_usage("--temperature is 0 (greedy) to 100");
    if (o->k > 1 && o->temperature == 0)
        return cli_usage("greedy answers are all the same: --k %lld needs a temperature above 0",
                         (long long)o->k);
    return eval_options_check(&o->common);
}

/* ---- the answers of one model ---------------------------------------------------------------- */

typedef struct answers {
    const char *model;
    char weights_hash[33];
    json_t *contamination; /* list; of eval_guard */
    eval_run greedy, sampled;
    bool has_greedy, has_sampled;
} answers;

/* What stands on top of the JSON. */
static const eval_run *main_run(const answers *a)
{
    return a->has_sampled ? &a->sampled : &a->greedy;
}

static int answer(eval_run *run, bool *has, const eval_session *session, const cli_model *model,
                  const options *o, rt_error *err)
{
    *has = true;
    run->model = model;
    run->plain = strcmp(o->method, "plain") == 0;
    int rc = eval_problems(run, session->limit, err);
    return rc != 0 ? rc : eval_answers(run, err);
}

static int answer_all(answers *a, const eval_session *session, const cli_model *model,
                      const options *o, rt_error *err)
{
    int rc = 0;
    cli_model_hash(model, a->weights_hash);
    a->greedy = a->sampled = session->run;
    a->sampled.k = (int)o->k;
    a->sampled.temperature =
        isnan(o->temperature) ? session->config.eval.temperature : o->temperature;
    if (wants_greedy(o))
        rc = answer(&a->greedy, &a->has_greedy, session, model, o, err);
    if (rc == 0 && wants_sampled(o))
        rc = answer(&a->sampled, &a->has_sampled, session, model, o, err);
    return rc;
}

static void answers_free(answers *a)
{
    if (a->has_greedy)
        eval_run_free(&a->greedy);
    if (a->has_sampled)
        eval_run_free(&a->sampled);
    json_decref(a->contamination);
}

/* ---- what is printed ------------------------------------------------------------------------- */

static json_t *answers_json(const answers *a)
{
    json_t *json = eval_report_json(main_run(a));
    json_object_set_new(json, "model", cli_json_text(a->model, strlen(a->model)));
    json_object_set_new(json, "weights_hash", json_string(a->weights_hash));
    json_object_set(json, "contamination", a->contamination);
    if (a->has_greedy && a->has_sampled)
        json_object_set_new(json, "greedy", eval_report_json(&a->greedy));
    return json;
}

static void print_json(const eval_session *session, const options *o, const answers *mine,
                       const answers *theirs)
{
    json_t *root = answers_json(mine);
    if (o->against) {
        json_t *against = answers_json(theirs), *comparison = json_object();
        json_object_set_new(root, "against", against);
        if (mine->has_greedy)
            json_object_set_new(comparison, "greedy",
                                eval_compare_json(&mine->greedy, &theirs->greedy));
        if (mine->has_sampled)
            json_object_set_new(comparison, "sampled",
                                eval_compare_json(&mine->sampled, &theirs->sampled));
        json_object_set_new(root, "comparison", comparison);
    }
    eval_session_print_json(session, o->method, root);
}

static void print_text(const eval_session *session, const options *o, const answers *mine,
                       const answers *theirs)
{
    for (int i = 0; i < (o->against ? 2 : 1); i++) {
        const answers *a = i == 0 ? mine : theirs;
        if (o->against)
            printf("%s== %s\n", i == 0 ? "" : "\n", i == 0 ? session->path : o->against);
        if (a->has_greedy)
            eval_report_print(&a->greedy);
        if (a->has_sampled)
            eval_report_print(&a->sampled);
    }
    if (!o->against)
        return;
    printf("\n== %s against %s\n", session->path, o->against);
    if (mine->has_greedy) {
        printf("greedy\n");
        eval_compare_print(&mine->greedy, &theirs->greedy);
    }
    if (mine->has_sampled) {
        printf("sampled, seed %llu\n", (unsigned long long)mine->sampled.seed);
        eval_compare_print(&mine->sampled, &theirs->sampled);
    }
}

/* ---- the command ----------------------------------------------------------------------------- */

/* Weights take the most memory: the first model's are gone before the second's come. */
static int answer_against(answers *theirs, eval_session *session, const options *o, rt_error *err)
{
    cli_model other = {0};
    cli_model_close(&session->model);
    int rc = cli_model_open(&other, o->against, session->dtype, o->common.device, o->common.threads,
                            err);
    if (rc == 0)
        rc = answer_all(theirs, session, &other, o, err);
    cli_model_close(&other);
    return rc;
}

/* What is better said before the first answer. */
static int look_ahead(eval_session *session, const options *o, answers *mine, answers *theirs,
                      rt_error *err)
{
    rt_arch arch;
    int rc = o->against ? rt_arch_load(&arch, o->against, err) : 0;
    if (rc == 0)
        rc = eval_guard(session, session->path, mine->contamination, err);
    if (rc == 0 && o->against)
        rc = eval_guard(session, o->against, theirs->contamination, err);
    return rc;
}

static int evaluate(const char *path, const options *o, rt_error *err)
{
    eval_session session;
    answers mine = {.model = path, .contamination = json_array()};
    answers theirs = {.model = o->against, .contamination = json_array()};
    int rc = eval_session_open(&session, path, &o->common, err);
    if (rc == 0)
        rc = look_ahead(&session, o, &mine, &theirs, err);
    if (rc == 0)
        rc = answer_all(&mine, &session, &session.model, o, err);
    if (rc == 0 && o->against)
        rc = answer_against(&theirs, &session, o, err);
    if (rc == 0 && o->common.json)
        print_json(&session, o, &mine, &theirs);
    else if (rc == 0)
        print_text(&session, o, &mine, &theirs);
    answers_free(&mine);
    answers_free(&theirs);
    eval_session_close(&session);
    return rc;
}

/* Methods `correct` and `debate` have options of their own: with one of them, the rest of the
 * command line is that of another command and goes to `rest`. */
static bool has_method(int argc, char **argv, const char *method, char **rest, int *count)
{
    bool found = false;
    char joined[32];
    snprintf(joined, sizeof joined, "--method=%s", method);
    *count = 0;
    for (int i = 0; i < argc; i++) {
        int words = strcmp(argv[i], joined) == 0;
        if (i + 1 < argc && strcmp(argv[i], "--method") == 0)
            words = strcmp(argv[i + 1], method) == 0 ? 2 : 0;
        found = found || words > 0;
        if (words == 0)
            rest[(*count)++] = argv[i];
        else
            i += words - 1;
    }
    return found;
}

static const char about[] =
    "Answers held-out problems and grades them: accuracy, pass@k (unbiased), majority vote,\n"
    "self-consistency, each with a 95 % interval over problems and the name of its method. A run\n"
    "folder brings its own config.yaml: tasks, limits and seed are then those of the run.\n"
    "--against MODEL2 answers the same problems with the same seeds and compares: difference of\n"
    "accuracy, lifts, regressions, p-value. With --method correct it is the command\n"
    "`retake correct`, with the options of that; --method debate --help shows those of debates.";

static int evaluate_thoughts(int argc, char **argv)
{
    const char *path;
    int words;
    options o = {.common = EVAL_DEFAULTS, .method = "thoughts", .k = 1, .temperature = NAN};
    const cli_option list[] = {
        {"--method", OPTION_TEXT, &o.method, "METHOD",
         "plain: ends at the end token; thoughts: with their caps (default); correct; debate"},
        {"--k", OPTION_INTEGER, &o.k, "K", "answers per problem (default 1)"},
        {"--temperature", OPTION_REAL, &o.temperature, "T",
         "default: greedy for one answer, else eval.temperature"},
        {"--greedy", OPTION_FLAG, &o.greedy, NULL,
         "the likeliest tokens; with --k or --temperature one such answer beside the drawn ones"},
        {"--against", OPTION_TEXT, &o.against, "MODEL2",
         "compare with this model on the same problems, with the config of MODEL"},
        EVAL_OPTIONS(o.common),
    };
    int rc = cli_parse(argc, argv,
                       "eval MODEL --task T | --data F [--k K] [--against MODEL2] [--limit N] [--json]",
                       about, list, RT_COUNT(list), &path, &words, 1);
    if (rc != 0)
        return rc < 0 ? 0 : rc;
    if (words != 1)
        return cli_usage("which model? usage: retake eval MODEL --task T");
    rc = check_options(&o);
    if (rc != 0)
        return rc;
    rt_error err;
    return evaluate(path, &o, &err) == 0 ? 0 : cli_fail(&err);
}

int cmd_eval(int argc, char **argv)
{
    int count;
    char **rest = rt_alloc((size_t)(argc + 1) * sizeof *rest);
    int rc;
    if (has_method(argc, argv, "correct", rest, &count))
        rc = cmd_correct(count, rest);
    else if (has_method(argc, argv, "debate", rest, &count))
        rc = cmd_eval_debate(count, rest);
    else
        rc = evaluate_thoughts(argc, argv);
    rt_free(rest);
    return rc;
}
