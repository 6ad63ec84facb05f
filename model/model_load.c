/* model_load: from what a user calls MODEL to the files behind it. */
#include "model/files.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static bool holds(const char *dir, const char *name)
{
    char *path = rt_format("%s/%s", dir, name);
    bool found = rt_file_exists(path);
    rt_free(path);
    return found;
}

static bool is_complete(const char *dir)
{
    if (holds(dir, "adapter-0/adapter_model.safetensors")) { /* a checkpoint of adapters */
        return true;
    }
    return holds(dir, "config.json") &&
           (holds(dir, "model.safetensors") || holds(dir, "model.safetensors.index.json"));
}

/* N of "step-N", −1: another name. */
static long long step_of(const char *name)
{
    if (strncmp(name, "step-", 5) != 0 || name[5] < '0' || name[5] > '9') {
        return -1;
    }
    char *end;
    long long step = strtoll(name + 5, &end, 10);
    return *end == '\0' ? step : -1;
}

/* The complete checkpoint with the largest step below dir/checkpoints; false: none. */
static bool find_newest(const char *dir, rt_buf *newest)
{
    char *folder = rt_format("%s/checkpoints", dir);
    DIR *list = opendir(folder);
    long long best = -1;
    for (struct dirent *entry; list != NULL && (entry = readdir(list)) != NULL;) {
        long long step = step_of(entry->d_name);
        if (step <= best) {
            continue;
        }
        char *path = rt_format("%s/%s", folder, entry->d_name);
        if (is_complete(path)) {
            best = step;
            rt_buf_clear(newest);
            rt_buf_addf(newest, "%s", path);
        }
        rt_free(path);
    }
    if (list != NULL) {
        closedir(list);
    }
    rt_free(folder);
    return best >= 0;
}

int rt_model_resolve(const char *path, rt_buf *resolved, rt_error *err)
{
    rt_buf_clear(resolved);
    bool run = is_folder(path) && !holds(path, "config.json") &&
               (holds(path, "checkpoints") || holds(path, "export"));
    if (!run) {
        rt_buf_addf(resolved, "%s", path);
        return RT_OK;
    }
    if (find_newest(path, resolved)) {
        return RT_OK;
    }
    char *exported = rt_format("%s/export", path);
    bool complete = is_complete(exported);
    if (complete) {
        rt_buf_addf(resolved, "%s", exported);
    }
    rt_free(exported);
    return complete ? RT_OK
                    : rt_fail(err, RT_ERR_INPUT, "the run folder %s holds no complete checkpoint "
                              "yet: let the run go on until it has saved one", path);
}

int rt_peft_resolve(const char *path, rt_buf *dir, rt_error *err)
{
    rt_buf resolved = {0};
    rt_buf_clear(dir);
    int code = rt_model_resolve(path, &resolved, err);
    if (code == RT_OK && rt_peft_is(resolved.data)) {
        rt_buf_addf(dir, "%s", resolved.data);
    } else if (code == RT_OK && holds(resolved.data, "adapter-1")) {
        code = rt_fail(err, RT_ERR_INPUT, "%s holds several adapters; name one of them, such as "
                       "%s/adapter-0", path, resolved.data);
    } else if (code == RT_OK && holds(resolved.data, "adapter-0")) {
        rt_buf_addf(dir, "%s/adapter-0", resolved.data);
    }
    rt_buf_free(&resolved);
    return code;
}

/* Resolves path; then *gguf is open for a file and NULL for a folder. */
static int open_model(const char *path, rt_buf *resolved, rt_gguf **gguf, rt_error *err)
{
    *gguf = NULL;
    int code = rt_model_resolve(path, resolved, err);
    if (code != RT_OK || holds(resolved->data, "config.json")) {
        return code;
    }
    if (rt_peft_is(resolved->data) || holds(resolved->data, "adapter-0")) {
        return rt_fail(err, RT_ERR_INPUT, "%s holds an adapter and no whole model; retake export "
                       "--merge makes one of it and its base", path);
    }
    if (is_folder(path)) {
        return rt_fail(err, RT_ERR_INPUT, "%s holds no config.json: MODEL is a Hugging Face "
                       "folder, a .gguf file, a checkpoint or a run folder", path);
    }
    return rt_gguf_open(gguf, resolved->data, err);
}

int rt_arch_load(rt_arch *arch, const char *path, rt_error *err)
{
    rt_buf resolved = {0};
    rt_gguf *gguf;
    int code = open_model(path, &resolved, &gguf, err);
    if (code == RT_OK && gguf != NULL) {
        code = rt_gguf_arch(arch, gguf, err);
        if (code != RT_OK) {
            rt_error_prefix(err, "%s", path);
        }
    } else if (code == RT_OK) {
        code = rt_hf_arch_load(arch, resolved.data, err);
    }
    rt_gguf_close(&gguf);
    rt_buf_free(&resolved);
    return code;
}

int rt_model_load(rt_weights **weights, const char *path, int dtype, rt_error *err)
{
    rt_buf resolved = {0};
    rt_gguf *gguf;
    int code = open_model(path, &resolved, &gguf, err);
    if (code == RT_OK && gguf != NULL) {
        code = rt_gguf_weights(weights, gguf, dtype, err);
        if (code != RT_OK) {
            rt_error_prefix(err, "%s", path);
        }
    } else if (code == RT_OK) {
        code = rt_hf_load(weights, resolved.data, dtype, err);
    }
    rt_gguf_close(&gguf);
    rt_buf_free(&resolved);
    return code;
}
