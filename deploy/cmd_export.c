/* export: a run's newest checkpoint, or any model, as a Hugging Face folder. */
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "deploy/cli.h"

static bool holds(const char *dir, const char *name)
{
    char *path = rt_format("%s/%s", dir, name);
    bool found = rt_file_exists(path);
    rt_free(path);
    return found;
}

static bool is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* Number format of a safetensors file: that of all tensors, f32 when they differ. */
static int file_dtype(const char *path, int *dtype, rt_error *err)
{
    rt_safetensors *file = NULL;
    int rc = rt_safetensors_open(&file, path, err);
    if (rc != 0)
        return rc;
    for (int i = 0; i < rt_safetensors_count(file); i++)
        if (rt_safetensors_at(file, i)->dtype != RT_BF16)
            *dtype = RT_F32;
    rt_safetensors_close(&file);
    return 0;
}

/* bf16 when every stored tensor is: then nothing is lost by it. All other formats (f32, f16,
 * quantized) are exact in f32 only. */
static int stored_dtype(const char *model, int *dtype, rt_error *err)
{
    *dtype = is_folder(model) ? RT_BF16 : RT_F32;
    DIR *list = *dtype == RT_BF16 ? opendir(model) : NULL;
    int rc = 0;
    bool single = holds(model, "model.safetensors");
    for (struct dirent *entry; rc == 0 && list && (entry = readdir(list));) {
        const char *name = entry->d_name, *end = strstr(name, ".safetensors");
        bool weights =
            single ? strcmp(name, "model.safetensors") == 0
                   : strncmp(name, "model", 5) == 0 && end && strcmp(end, ".safetensors") == 0;
        if (!weights)
            continue;
        char *path = rt_format("%s/%s", model, name);
        rc = file_dtype(path, dtype, err);
        rt_free(path);
    }
    if (list)
        closedir(list);
    return rc;
}

static bool is_empty(const char *dir)
{
    DIR *list = opendir(dir);
    bool empty = true;
    for (struct dirent *entry; list && (entry = readdir(list));)
        empty = empty && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0);
    if (list)
        closedir(list);
    return empty;
}

/* Only an earlier export may be written over, and only when asked: never what the model is read
 * from. */
static int check_target(const char *dir, const char *from, bool force, rt_error *err)
{
    struct stat a, b;
    if (stat(dir, &a) != 0)
        return 0;
    if (!S_ISDIR(a.st_mode))
        return rt_fail(err, RT_ERR_USAGE, "%s is a file; give --to a folder", dir);
    if (stat(from, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        return rt_fail(err, RT_ERR_USAGE, "%s is what would be exported; give --to another folder",
                       dir);
    if (is_empty(dir))
        return 0;
    if (!holds(dir, "config.json") || holds(dir, "model.safetensors.index.json") ||
        holds(dir, "optimizer.safetensors"))
        return rt_fail(err, RT_ERR_USAGE,
                       "%s is not empty and no earlier export; give --to another folder", dir);
    if (!force)
        return rt_fail(err, RT_ERR_USAGE, "%s holds a model already; --force writes over it", dir);
    return 0;
}

static int export(const char *path, const char *to, const char *dtype, bool force, rt_error *err)
{
    rt_buf resolved = {0};
    rt_weights *weights = NULL;
    int type = RT_F32;
    int rc = rt_model_resolve(path, &resolved, err);
    if (rc == 0)
        rc = check_target(to, resolved.data, force, err);
    if (rc == 0 && *dtype)
        type = strcmp(dtype, "bf16") == 0 ? RT_BF16 : RT_F32;
    else if (rc == 0)
        rc = stored_dtype(resolved.data, &type, err);
    if (rc == 0)
        rc = rt_model_load(&weights, resolved.data, type, err);
    if (rc == 0)
        rc = rt_model_save(weights, to, resolved.data, err);
    if (rc == 0) {
        char hash[33];
        /* the hash that a run's summary names */
        rt_hash_hex(rt_hash(weights->data, rt_weights_bytes(weights)), hash);
        printf("%s: %s, %.1fM parameters, %s, weights %s\n", to, weights->arch.family,
               (double)weights->count * 1e-6, type == RT_BF16 ? "bf16" : "f32", hash);
        if (!holds(to, "tokenizer.json"))
            fprintf(stderr, "retake: %s has no tokenizer.json, so %s has none either\n",
                    resolved.data, to);
    }
    if (weights)
        rt_weights_free(&weights);
    rt_buf_free(&resolved);
    return rc;
}

int cmd_export(int argc, char **argv)
{
    const char *path, *to = NULL, *dtype = "";
    bool force = false;
    int words;
    const cli_option options[] = {
        {"--to", OPTION_TEXT, &to, "DIR", "folder to write; made when it is not there"},
        {"--force", OPTION_FLAG, &force, NULL, "write over an earlier export"},
        {"--dtype", OPTION_TEXT, &dtype, "f32|bf16",
         "default: as stored (f16 and quantized become f32)"},
    };
    int rc = cli_parse(argc, argv, "export RUN|CHECKPOINT --to DIR [--force]",
                       "Writes config.json, model.safetensors and the tokenizer as a Hugging Face\n"
                       "folder that transformers and vLLM open. A run folder stands for its\n"
                       "newest checkpoint; any other MODEL works too.",
                       options, RT_COUNT(options), &path, &words, 1);
    if (rc != 0)
        return rc < 0 ? 0 : rc;
    if (words != 1 || !to || !*to)
        return cli_usage("what, and where to? usage: retake export RUN|CHECKPOINT --to DIR");
    if (*dtype && strcmp(dtype, "bf16") != 0 && strcmp(dtype, "f32") != 0)
        return cli_usage("--dtype is f32 or bf16, got \"%s\"", dtype);
    rt_error err;
    return export(path, to, dtype, force, &err) != 0 ? cli_fail(&err) : 0;
}
