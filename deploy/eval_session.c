#include "deploy/eval_session.h"

#include <stdlib.h>
#include <string.h>

int eval_options_check(const eval_options *o)
{
    if (o->limit < 0 || o->slots < 1 || o->slots > 1 << 16 || o->threads < 0)
        return cli_usage("--limit and --threads are 0 or more, --slots 1 to 65536");
    return 0;
}

static int open_config(rt_config *config, const char *model, const eval_options *o, rt_error *err)
{
    const char *sets[SETS_MAX + 4];
    char *made[4];
    int count = 0;
    if (o->task)
        made[count++] = rt_format("task=%s", o->task);
    if (o->data) {
        if (!o->task)
            made[count++] = rt_format("task=data");
        made[count++] = rt_format("tasks.0.data=%s", o->data);
        made[count++] = rt_format("tasks.0.eval_share=1");
    }
    int ours = count;
    for (int i = 0; i < ours; i++)
        sets[i] = made[i];
    for (int i = 0; i < o->sets.count; i++)
        sets[count++] = o->sets.items[i];
    char *path = rt_format("%s/config.yaml", model);
    int rc = rt_file_exists(path) ? rt_config_load(config, path, sets, count, err)
                                  : rt_config_parse(config, "", 0, "--set", sets, count, err);
    if (rc == 0 && config->tasks_count == 0)
        rc = rt_fail(err, RT_ERR_USAGE,
                     "which task? give --task NAME or --data FILE (or a run folder, which has "
                     "tasks of its own)");
    rt_free(path);
    for (int i = 0; i < ours; i++)
        rt_free(made[i]);
    return rc;
}

int eval_session_open(eval_session *s, const char *path, const eval_options *o, rt_error *err)
{
    *s = (eval_session){.path = path};
    int rc = open_config(&s->config, path, o, err);
    if (rc != 0)
        return rc;
    s->dtype = o->dtype ? o->dtype : s->config.model.dtype;
    rc = rt_graders_ready(&s->config, err);
    if (rc == 0)
        rc = rt_taskset_load(&s->tasks, &s->config, err);
    if (rc == 0)
        rc = (o->agents ? cli_model_open_agents : cli_model_open_adapter)(
            &s->model, path, o->adapter, o->base, s->dtype, o->device, o->threads, err);
    if (rc == 0)
        cli_model_hash(&s->model, s->weights_hash);
    s->limit = o->limit;
    s->run = (eval_run){
        .config = &s->config,
        .tasks = s->tasks,
        .model = &s->model,
        .stop = cli_catch_signals(),
        .k = 1,
        .seed = (uint64_t)(o->seed >= 0 ? o->seed : s->config.run.seed),
        .slots = (int)o->slots,
    };
    return rc;
}

void eval_session_close(eval_session *s)
{
    eval_run_free(&s->run);
    cli_model_close(&s->model);
    if (s->tasks)
        rt_taskset_free(&s->tasks);
    rt_config_free(&s->config);
}

void eval_session_print_json(const eval_session *s, const char *method, json_t *root)
{
    json_t *about = json_pack("{s:o, s:s, s:s, s:s, s:I}", "model",
                              cli_json_text(s->path, strlen(s->path)), "method", method, "dtype",
                              s->dtype, "weights_hash", s->weights_hash, "seed", (json_int_t)s->run.seed);
    RT_ASSERT(about != NULL);
    json_object_update(root, about);
    json_decref(about);
    char *text = json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(9));
    printf("%s\n", text);
    free(text);
    json_decref(root);
}
