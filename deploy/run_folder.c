#include "deploy/run_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "tasks/tasks.h"

/* "deploy/configs/quickstart.yaml" → "runs/quickstart" */
static char *default_dir(const char *path)
{
    const char *name = strrchr(path, '/');
    name = name ? name + 1 : path;
    size_t bytes = strcspn(name, ".");
    return rt_format("runs/%.*s", (int)RT_MAX(bytes, 1), name);
}

int run_config_load(rt_config *config, const char *path, const char *run_dir,
                    const char *const *sets, int sets_count, rt_error *err)
{
    int rc = rt_config_load(config, path, sets, sets_count, err);
    if (rc != 0)
        return rc;
    if (run_dir || !*config->run.dir) {
        char *dir = run_dir ? rt_strdup(run_dir) : default_dir(path);
        rt_free(config->run.dir);
        config->run.dir = dir;
    }
    if (!*config->model.path)
        rc = rt_fail(err, RT_ERR_USAGE, "%s: no model; add a line like `model: deploy/models/tiny`",
                     path);
    else if (config->tasks_count == 0 && !*config->sft.data)
        rc = rt_fail(err, RT_ERR_USAGE, "%s: no task; add a line like `task: chain`", path);
    if (rc != 0)
        rt_config_free(config);
    return rc;
}

int run_config_check(const rt_config *config, rt_error *err)
{
    rt_arch arch;
    rt_tokenizer *tokenizer = NULL;
    rt_taskset *tasks = NULL;
    const char *model = config->model.path;
    int rc = rt_arch_load(&arch, model, err);
    if (rc == 0)
        rc = rt_tokenizer_load(&tokenizer, model, err);
    if (rc == 0 && rt_tokenizer_vocab(tokenizer) > arch.vocab)
        rc = rt_fail(err, RT_ERR_INPUT,
                     "%s: its tokenizer has %d tokens, its weights only %d: wrong tokenizer", model,
                     rt_tokenizer_vocab(tokenizer), arch.vocab);
    if (rc == 0)
        rc = rt_taskset_load(&tasks, config, err);
    rt_overlap overlap;
    if (rc == 0)
        rc = rt_contamination_check(config, tasks, &overlap, err);
    if (rc == 0 && config->actors.count > 0) /* actors elsewhere look for themselves */
        rc = rt_graders_ready(config, err);
    if (tokenizer)
        rt_tokenizer_free(&tokenizer);
    if (tasks)
        rt_taskset_free(&tasks);
    return rc;
}

static bool has_begun(const rt_config *config)
{
    char *store = rt_format("%s/run.db", config->run.dir);
    char *checkpoints = rt_format("%s/checkpoints", config->run.dir);
    bool begun = rt_file_exists(store) || rt_file_exists(checkpoints);
    rt_free(store), rt_free(checkpoints);
    return begun;
}

/* The folder's own config decides whether this is a continuation; before anything was earned it may
 * change. */
static int compare_with_earlier(const rt_config *config, const char *path, rt_error *err)
{
    if (!rt_file_exists(path) || !has_begun(config))
        return 0;
    rt_config earlier;
    int rc = rt_config_load(&earlier, path, NULL, 0, err);
    if (rc != 0)
        return rt_error_prefix(err, "the folder's own config"), rc;
    if (rt_config_fingerprint(&earlier) != rt_config_fingerprint(config))
        rc = rt_fail(err, RT_ERR_USAGE,
                     "%s holds a run of another configuration; give --run another folder, or "
                     "remove it to start over",
                     config->run.dir);
    rt_config_free(&earlier);
    return rc;
}

int run_folder_prepare(const rt_config *config, rt_buf *config_path, rt_error *err)
{
    int rc = rt_mkdirs(config->run.dir, err);
    if (rc != 0)
        return rc;
    rt_buf_addf(config_path, "%s/config.yaml", config->run.dir);
    rc = compare_with_earlier(config, config_path->data, err);
    rt_buf text = {0};
    if (rc == 0) {
        rt_config_write(config, &text);
        rc = rt_file_write(config_path->data, text.data, text.bytes, err);
    }
    rt_buf_free(&text);
    return rc;
}

int run_folder_lock(const char *dir, int *lock, rt_error *err)
{
    char *path = rt_format("%s/lock", dir);
    int rc = 0;
    *lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (*lock < 0)
        rc = rt_fail(err, RT_ERR_IO, "cannot write in %s: %s; choose another folder with --run",
                     dir, strerror(errno));
    else if (flock(*lock, LOCK_EX | LOCK_NB) != 0) {
        rc = rt_fail(err, RT_ERR_STATE,
                     "another retake works in %s; wait for it or give --run another folder", dir);
        close(*lock);
    }
    rt_free(path);
    return rc;
}

bool run_narrow(const rt_arch *arch)
{
    enum { WIDTH_MAX = 128 };
    return arch->d <= WIDTH_MAX;
}

/* A model that can't be read is told of later, by who needs it. */
static bool narrow(const rt_config *config)
{
    rt_arch arch;
    rt_error unused;
    return rt_arch_load(&arch, config->model.path, &unused) == 0 && run_narrow(&arch);
}

void run_threads_decide(rt_config *config)
{
    cpu_set_t set;
    int64_t cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    int64_t actors = RT_MAX(config->actors.count + config->debate.count, 1);
    bool together = config->run.staleness > 0;
    int64_t learner = together ? RT_MAX(cores / 2, 1) : cores;
    int64_t rest = together ? RT_MAX(cores - learner, 1) : cores;
    bool alone = narrow(config);
    if (config->learner.threads == 0)
        config->learner.threads = alone ? 1 : learner;
    if (config->actors.threads == 0)
        config->actors.threads = alone ? 1 : RT_MAX(rest / actors, 1);
}
