#include "deploy/eval_guard.h"

#include <string.h>

enum { ANCESTORS_MAX = 16 };

static bool has_config(const char *dir, size_t bytes, char **found)
{
    char *path = rt_format("%.*s/config.yaml", (int)bytes, dir);
    bool there = rt_file_exists(path);
    rt_free(path);
    if (there)
        *found = rt_strndup(dir, bytes);
    return there;
}

/* Length of the path without its last component; 0: it has one only. */
static size_t parent_bytes(const char *path, size_t bytes)
{
    while (bytes > 0 && path[bytes - 1] == '/')
        bytes--;
    while (bytes > 0 && path[bytes - 1] != '/')
        bytes--;
    while (bytes > 1 && path[bytes - 1] == '/')
        bytes--;
    return bytes;
}

/* RUN, RUN/export or RUN/checkpoints/step-N → RUN; NULL: made by no run that is here. */
static char *run_of(const char *model)
{
    char *run = NULL;
    size_t whole = strlen(model), above = parent_bytes(model, whole);
    if (has_config(model, whole, &run) || above == 0)
        return run;
    const char *name = model + above + strspn(model + above, "/");
    if (strncmp(name, "export", 6) == 0 && has_config(model, above, &run))
        return run;
    size_t top = parent_bytes(model, above);
    if (strncmp(name, "step-", 5) == 0 && top > 0)
        has_config(model, top, &run);
    return run;
}

/* `retake sft` with data of its own trains prompts that are no problems of a task. */
static bool trains_prompts(const char *run, const rt_config *config)
{
    char *store = rt_format("%s/run.db", run);
    bool trained_by_rl = rt_file_exists(store);
    rt_free(store);
    return !trained_by_rl && *config->sft.data;
}

static int look(const eval_session *s, const char *run, const rt_config *config,
                rt_overlap *overlap, rt_error *err)
{
    rt_taskset *trained = NULL;
    if (trains_prompts(run, config))
        return rt_fail(err, RT_ERR_STATE, "it was trained on the prompts of %s", config->sft.data);
    int rc = rt_taskset_load(&trained, config, err);
    if (rc == 0)
        rc = rt_overlap_count(&s->config, s->tasks, config, trained, overlap, err);
    rt_taskset_free(&trained);
    return rc;
}

/* Data that has been moved since is no reason not to evaluate; it is said, and stands in the output. */
static void tell_unknown(json_t *entry, const char *run, const rt_error *why)
{
    fprintf(stderr, "retake: whether %s was trained on these problems is not known: %s\n", run,
            why->message);
    json_object_set_new(entry, "checked", json_false());
    json_object_set_new(entry, "why", cli_json_text(why->message, strlen(why->message)));
}

static int tell(const eval_session *s, json_t *entry, const char *run, const rt_overlap *overlap,
                rt_error *err)
{
    json_object_set_new(entry, "checked", json_true());
    json_object_set_new(entry, "held_out", json_integer((json_int_t)overlap->held_out));
    json_object_set_new(entry, "trained", json_integer((json_int_t)overlap->count));
    if (overlap->count == 0)
        return 0;
    json_object_set_new(entry, "example", cli_json_text(overlap->example, strlen(overlap->example)));
    if (rt_contamination_is(&s->config, "refuse"))
        return rt_fail(err, RT_ERR_USAGE,
                       "%s was trained on %lld of these %lld problems (%s); give others, or set "
                       "eval.contamination: warn", run, (long long)overlap->count,
                       (long long)overlap->held_out, overlap->example);
    fprintf(stderr, "retake: %s was trained on %lld of these %lld problems (%s): its figures say too much\n",
            run, (long long)overlap->count, (long long)overlap->held_out, overlap->example);
    return 0;
}

/* *next: the model this run began with, or NULL. */
static int look_at_run(const eval_session *s, const char *run, char **next, json_t *list,
                       rt_error *err)
{
    rt_config config;
    rt_error why;
    rt_overlap overlap = {0};
    *next = NULL;
    json_t *entry = json_object();
    json_object_set_new(entry, "run", cli_json_text(run, strlen(run)));
    json_array_append_new(list, entry);
    char *path = rt_format("%s/config.yaml", run);
    int rc = rt_config_load(&config, path, NULL, 0, &why);
    rt_free(path);
    if (rc != 0) {
        tell_unknown(entry, run, &why);
        return 0;
    }
    if (look(s, run, &config, &overlap, &why) != 0)
        tell_unknown(entry, run, &why);
    else
        rc = tell(s, entry, run, &overlap, err);
    if (strcmp(config.model.init, "random") != 0)
        *next = rt_strdup(config.model.path);
    rt_config_free(&config);
    return rc;
}

static bool any_data(const rt_config *config)
{
    for (int t = 0; t < config->tasks_count; t++)
        if (config->tasks[t].data && *config->tasks[t].data)
            return true;
    return false;
}

int eval_guard(const eval_session *s, const char *model, json_t *list, rt_error *err)
{
    int rc = 0;
    if (rt_contamination_is(&s->config, "off") || !any_data(&s->config))
        return 0;
    char *path = rt_strdup(model);
    for (int i = 0; i < ANCESTORS_MAX && path && rc == 0; i++) {
        char *run = run_of(path), *next = NULL;
        rt_free(path);
        if (run)
            rc = look_at_run(s, run, &next, list, err);
        rt_free(run);
        path = next;
    }
    rt_free(path);
    return rc;
}
