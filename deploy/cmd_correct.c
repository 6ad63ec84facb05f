/* correct: iterative correction (Thought-ICS) of held-out problems, before and after. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "deploy/correct_report.h"
#include "deploy/eval_session.h"

enum { JUDGE_TOKENS_MAX = 1 << 20 };

typedef struct options {
    eval_options common;
    const char *level, *trace, *gate;
    int64_t iterations, votes, verifications, judge_tokens;
    double temperature, resample_temperature, judge_temperature;
    bool safeguard, incremental, token, control, released;
} options;

/* ---- output ---------------------------------------------------------------------------------- */

static json_t *settings_json(const correct_run *run)
{
    const correct_settings *s = &run->settings;
    return json_pack("{s:i, s:i, s:i, s:i, s:s, s:b, s:b, s:b, s:b, s:f, s:f, s:f, s:i}", "level",
                     s->level, "iterations", s->iterations, "votes", s->votes, "verify_votes",
                     s->verifications, "gate", correct_gate_name(s->gate), "incremental",
                     s->incremental,
                     "token", s->token, "safeguard", s->safeguard, "released_verify",
                     s->as_released, "temperature", run->eval.temperature, "resample_temperature",
                     run->resample_temperature, "judge_temperature", run->judge_temperature,
                     "judge_tokens", run->judge_tokens);
}

static json_t *task_json(const correct_run *run, const correct_run *control, int task,
                         const char *name)
{
    correct_report report = correct_report_of(run, task, name);
    json_t *object = correct_report_json(&report);
    if (control) {
        correct_report other = correct_report_of(control, task, name);
        json_object_set_new(object, "control", correct_report_json(&other));
    }
    return object;
}

static void print_json(const eval_session *session, const correct_run *run,
                       const correct_run *control)
{
    json_t *root = task_json(run, control, -1, "all"), *tasks = json_array();
    for (int t = 0; t < rt_taskset_tasks(session->tasks); t++) {
        const char *name = rt_taskset_name(session->tasks, t);
        json_t *object = task_json(run, control, t, name);
        json_object_set_new(object, "task", json_string(name));
        json_array_append_new(tasks, object);
    }
    json_object_set_new(root, "tasks", tasks);
    json_object_set_new(root, "settings", settings_json(run));
    json_object_set_new(root, "seconds", json_real(run->seconds));
    eval_session_print_json(session, "correct", root);
}

static void print_task(const correct_run *run, const correct_run *control, int task,
                       const char *name)
{
    correct_report report = correct_report_of(run, task, name), other;
    if (control)
        other = correct_report_of(control, task, name);
    correct_report_print(&report, control ? &other : NULL);
}

static void print_text(const correct_run *run, const correct_run *control)
{
    int tasks = rt_taskset_tasks(run->eval.tasks);
    for (int t = 0; t < tasks; t++)
        print_task(run, control, t, rt_taskset_name(run->eval.tasks, t));
    if (tasks > 1)
        print_task(run, control, -1, "all tasks");
    printf("level l%d%s, at most %d resamples; temperatures %g, %g (resamples), %g (judge); seed "
           "%llu; %.1f s\n",
           run->settings.level, run->settings.safeguard ? ", safeguard" : "",
           run->settings.iterations, run->eval.temperature, run->resample_temperature,
           run->judge_temperature, (unsigned long long)run->eval.seed, run->seconds);
}

/* One line a problem: every chain that was sampled and what was said of it. */
static int write_trace(const char *path, const correct_run *run, rt_error *err)
{
    rt_buf text = {0};
    rt_buf_add(&text, "", 0);
    for (int i = 0; i < run->eval.count; i++) {
        const rt_problem *problem = &run->eval.items[i].problem;
        const correct_state *state = &run->outcomes[i].state;
        if (run->eval.items[i].left_out)
            continue;
        bool first = correct_returns_first(state, &run->settings);
        json_t *line = json_pack("{s:o, s:o, s:o, s:i, s:b, s:b, s:b, s:O}", "task",
                                 cli_json_text(problem->task_name, strlen(problem->task_name)),
                                 "problem",
                                 cli_json_text(problem->problem, strlen(problem->problem)), "gold",
                                 cli_json_text(problem->gold, strlen(problem->gold)), "exit",
                                 state->exit, "right_before", state->right_first, "right_after",
                                 first ? state->right_first : state->right, "returns_first", first,
                                 "attempts", run->outcomes[i].attempts);
        char *dumped = json_dumps(line, JSON_COMPACT);
        RT_ASSERT(dumped != NULL);
        rt_buf_addf(&text, "%s\n", dumped);
        free(dumped);
        json_decref(line);
    }
    int rc = rt_file_write(path, text.data, text.bytes, err);
    rt_buf_free(&text);
    return rc;
}

/* ---- the command ----------------------------------------------------------------------------- */

static int level_of(const char *text)
{
    bool known = (text[0] == 'l' || text[0] == 'L') && text[1] >= '1' && text[1] <= '3' && !text[2];
    return known ? text[1] - '0' : 0;
}

/* −1: there is no such gate. */
static int gate_of(const char *text)
{
    int gate = 0;
    while (correct_gate_name(gate) && strcmp(correct_gate_name(gate), text) != 0)
        gate++;
    return correct_gate_name(gate) ? gate : -1;
}

static int check_verifications(const options *o)
{
    if (o->verifications < 1 || o->verifications > CORRECT_VOTES_MAX)
        return cli_usage("--verify-votes is 1 to %d", CORRECT_VOTES_MAX);
    if (gate_of(o->gate) < 0)
        return cli_usage("--gate is any, majority or unanimous, not \"%s\"", o->gate);
    if (o->verifications > 1 && level_of(o->level) != CORRECT_L3)
        return cli_usage("--verify-votes needs --level l3: at %s the gold answer verifies",
                         o->level);
    if (o->verifications > 1 && o->incremental)
        return cli_usage("--incremental excludes --verify-votes: it goes thought by thought");
    return 0;
}

static int check_options(const options *o)
{
    if (level_of(o->level) == 0)
        return cli_usage("--level is l1, l2 or l3, not \"%s\"", o->level);
    if (o->iterations < 0 || o->iterations > CORRECT_ITERATIONS_MAX)
        return cli_usage("--iterations is 0 to %d", CORRECT_ITERATIONS_MAX);
    if (o->votes < 1 || o->votes > CORRECT_VOTES_MAX)
        return cli_usage("--votes is 1 to %d", CORRECT_VOTES_MAX);
    if (o->incremental && (o->token || o->votes > 1))
        return cli_usage("--incremental excludes --token and --votes: it goes thought by thought");
    if (o->judge_tokens < 1 || o->judge_tokens > JUDGE_TOKENS_MAX)
        return cli_usage("--judge-tokens is 1 to %d", JUDGE_TOKENS_MAX);
    const double temperatures[] = {o->temperature, o->resample_temperature, o->judge_temperature};
    for (size_t i = 0; i < RT_COUNT(temperatures); i++)
        if (temperatures[i] < 0 || temperatures[i] > 100)
            return cli_usage("a temperature is 0 (greedy) to 100");
    if ((o->votes > 1 || o->verifications > 1) && o->judge_temperature == 0)
        return cli_usage("greedy votes are all the same: --%s %lld needs a judge temperature "
                         "above 0", o->votes > 1 ? "votes" : "verify-votes",
                         (long long)RT_MAX(o->votes, o->verifications));
    int rc = check_verifications(o);
    return rc ? rc : eval_options_check(&o->common);
}

static void set_run(correct_run *run, const options *o)
{
    run->eval.temperature = o->temperature;
    run->settings = (correct_settings){
        .level = level_of(o->level),
        .iterations = (int)o->iterations,
        .votes = (int)o->votes,
        .verifications = (int)o->verifications,
        .gate = gate_of(o->gate),
        .incremental = o->incremental,
        .token = o->token,
        .safeguard = o->safeguard,
        .as_released = o->released,
    };
    run->resample_temperature = o->resample_temperature;
    run->judge_temperature = !isnan(o->judge_temperature) ? o->judge_temperature
                             : o->votes > 1               ? 0.5
                                                          : 0.3;
    run->judge_tokens = (int)o->judge_tokens;
    run->traced = o->trace != NULL;
}

static int correct(const char *path, const options *o, rt_error *err)
{
    eval_session session;
    correct_run run = {0}, control;
    int rc = eval_session_open(&session, path, &o->common, err);
    if (rc == 0)
        rc = eval_problems(&session.run, o->common.limit, err);
    if (rc == 0) {
        run.eval = session.run;
        set_run(&run, o);
        rc = correct_answers(&run, err);
    }
    control = run;
    control.settings.control = true;
    control.traced = false;
    control.outcomes = NULL;
    if (rc == 0 && o->control)
        rc = correct_answers(&control, err);
    if (rc == 0 && o->common.json)
        print_json(&session, &run, o->control ? &control : NULL);
    else if (rc == 0)
        print_text(&run, o->control ? &control : NULL);
    if (rc == 0 && o->trace)
        rc = write_trace(o->trace, &run, err);
    correct_run_free(&run);
    correct_run_free(&control);
    eval_session_close(&session);
    return rc;
}

static const char about[] =
    "Thought-ICS: samples a chain of thoughts, has it verified, has its first wrong thought\n"
    "named, goes back to just before that one and samples on, until the chain is verified\n"
    "(exit 1), no error is found (exit 2) or no resample is left (exit 3). Reports accuracy\n"
    "before and after. Levels: l1 the gold answer verifies and the localizer sees it; l2 the\n"
    "gold answer verifies, the localizer only knows that the chain is wrong; l3 the model does\n"
    "both by itself and the gold answer plays no part.";

int cmd_correct(int argc, char **argv)
{
    const char *path;
    int words;
    options o = {.common = EVAL_DEFAULTS,
                 .level = "l3",
                 .iterations = 10,
                 .votes = 1,
                 .verifications = 1,
                 .gate = "majority",
                 .judge_tokens = 512,
                 .temperature = 1.0,
                 .resample_temperature = 0.7,
                 .judge_temperature = NAN};
    const cli_option list[] = {
        {"--level", OPTION_TEXT, &o.level, "l1|l2|l3", "who verifies, see above (default l3)"},
        {"--safeguard", OPTION_FLAG, &o.safeguard, NULL,
         "exits 2 and 3 give the first answer back"},
        {"--iterations", OPTION_INTEGER, &o.iterations, "N", "resamples at most (default 10)"},
        {"--votes", OPTION_INTEGER, &o.votes, "N",
         "localize N times and take the place named most often (default 1)"},
        {"--verify-votes", OPTION_INTEGER, &o.verifications, "N",
         "l3: verify a chain N times (default 1)"},
        {"--gate", OPTION_TEXT, &o.gate, "any|majority|unanimous",
         "how many of them must say no to flag a chain (default majority)"},
        {"--incremental", OPTION_FLAG, &o.incremental, NULL,
         "judge thought by thought, up to the first wrong one"},
        {"--token", OPTION_FLAG, &o.token, NULL,
         "Token-ICS: free text instead of thoughts; the localizer quotes the mistake"},
        {"--control", OPTION_FLAG, &o.control, NULL,
         "once more without localization: resamples start over, same temperature"},
        {"--trace", OPTION_TEXT, &o.trace, "FILE",
         "write every chain and judgement, one problem a line (JSONL)"},
        {"--temperature", OPTION_REAL, &o.temperature, "T", "of the first chain (default 1)"},
        {"--resample-temperature", OPTION_REAL, &o.resample_temperature, "T", "default 0.7"},
        {"--judge-temperature", OPTION_REAL, &o.judge_temperature, "T",
         "default 0.3, with --votes 0.5"},
        {"--judge-tokens", OPTION_INTEGER, &o.judge_tokens, "N",
         "most tokens of a judgement (default 512)"},
        {"--released-verify", OPTION_FLAG, &o.released, NULL,
         "read a verification without a complete box as NO, as the authors' code does"},
        EVAL_OPTIONS(o.common),
    };
    int rc = cli_parse(argc, argv, "correct MODEL --task T | --data F [--level l1|l2|l3] […]",
                       about, list, RT_COUNT(list), &path, &words, 1);
    if (rc != 0)
        return rc < 0 ? 0 : rc;
    if (words != 1)
        return cli_usage("which model? usage: retake correct MODEL --task T");
    rc = check_options(&o);
    if (rc != 0)
        return rc;
    rt_error err;
    return correct(path, &o, &err) == 0 ? 0 : cli_fail(&err);
}
