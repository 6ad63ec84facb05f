/* export: a run's newest checkpoint, or any model, as a Hugging Face folder; adapters as PEFT folders or
 * merged into their base. */
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
    bool adapters = holds(dir, "adapter_config.json") || holds(dir, "adapter-0");
    if ((!holds(dir, "config.json") && !adapters) || holds(dir, "model.safetensors.index.json") ||
        holds(dir, "optimizer.safetensors"))
        return rt_fail(err, RT_ERR_USAGE,
                       "%s is not empty and no earlier export; give --to another folder", dir);
    if (!force)
        return rt_fail(err, RT_ERR_USAGE, "%s holds a model already; --force writes over it", dir);
    return 0;
}

/* ---- a whole model ---------------------------------------------------------------------------- */

typedef struct job {
    const char *path, *to, *dtype, *base;
    int64_t adapter; /* −1: not said */
    bool merge, force;
} job;

static void say_saved(const rt_weights *weights, int type, const char *from, const char *to)
{
    char hash[33];
    /* the hash that a run's summary names */
    rt_hash_hex(rt_hash(weights->data, rt_weights_bytes(weights)), hash);
    printf("%s: %s, %.1fM parameters, %s, weights %s\n", to, weights->arch.family,
           (double)weights->count * 1e-6, type == RT_BF16 ? "bf16" : "f32", hash);
    if (!holds(to, "tokenizer.json"))
        fprintf(stderr, "retake: %s has no tokenizer.json, so %s has none either\n", from, to);
}

static int type_of(const job *j, const char *model, int *type, rt_error *err)
{
    if (*j->dtype) {
        *type = strcmp(j->dtype, "bf16") == 0 ? RT_BF16 : RT_F32;
        return 0;
    }
    return stored_dtype(model, type, err);
}

static int export_model(const job *j, const char *from, rt_error *err)
{
    rt_weights *weights = NULL;
    int type = RT_F32;
    int rc = type_of(j, from, &type, err);
    if (rc == 0)
        rc = rt_model_load(&weights, from, type, err);
    if (rc == 0)
        rc = rt_model_save(weights, j->to, from, err);
    if (rc == 0)
        say_saved(weights, type, from, j->to);
    rt_weights_free(&weights);
    return rc;
}

/* ---- adapters --------------------------------------------------------------------------------- */

/* from: a checkpoint with adapter-K folders, or a PEFT folder. */
static char *adapter_dir(const char *from, int k)
{
    return rt_peft_is(from) ? rt_strdup(from) : rt_format("%s/adapter-%d", from, k);
}

/* The base the folder names, or the one said. */
static int base_of(const job *j, const char *dir, rt_buf *base, rt_error *err)
{
    if (!j->base)
        return rt_peft_base(dir, base, err);
    rt_buf_addf(base, "%s", j->base);
    return 0;
}

static int export_merged(const job *j, const char *dir, rt_error *err)
{
    rt_buf base = {0};
    rt_weights *exact = NULL, *weights = NULL;
    rt_adapters *adapters = NULL;
    int type = RT_F32;
    int rc = base_of(j, dir, &base, err);
    if (rc == 0)
        rc = type_of(j, base.data, &type, err);
    if (rc == 0)
        rc = rt_model_load(&exact, base.data, RT_F32, err);
    if (rc == 0)
        rc = rt_peft_load(&adapters, &exact->arch, &dir, 1, err);
    if (rc == 0)
        rc = rt_weights_new(&weights, &exact->arch, type, err);
    if (rc == 0) {
        rt_adapters_merge(exact, adapters, 0);
        rt_weights_convert(weights, exact);
        rc = rt_model_save(weights, j->to, base.data, err);
    }
    if (rc == 0)
        say_saved(weights, type, base.data, j->to);
    rt_weights_free(&exact);
    rt_weights_free(&weights);
    rt_adapters_free(&adapters);
    rt_buf_free(&base);
    return rc;
}

/* Read and written again, so that what is exported was looked at. */
static int export_adapter(const job *j, const char *dir, const char *to, rt_error *err)
{
    rt_buf base = {0};
    rt_arch arch;
    rt_adapters *adapters = NULL;
    int rc = base_of(j, dir, &base, err);
    if (rc == 0)
        rc = rt_arch_load(&arch, base.data, err);
    if (rc == 0)
        rc = rt_peft_load(&adapters, &arch, &dir, 1, err);
    if (rc == 0)
        rc = rt_peft_save(adapters, 0, 0, base.data, to, err);
    if (rc == 0) {
        char hash[33];
        rt_hash_hex(rt_hash(adapters->weights->data, rt_weights_bytes(adapters->weights)), hash);
        printf("%s: adapter of rank %d over %s, %.2fM parameters, weights %s\n", to,
               adapters->lora.rank, base.data, (double)adapters->weights->count * 1e-6, hash);
    }
    rt_adapters_free(&adapters);
    rt_buf_free(&base);
    return rc;
}

static int export_adapters(const job *j, const char *from, rt_error *err)
{
    int count = cli_adapters_count(from), rc = 0;
    if (j->adapter >= count || (j->merge && count > 1 && j->adapter < 0))
        return rt_fail(err, RT_ERR_USAGE, "%s holds %d adapter%s; --adapter K names one, from 0 to %d",
                       j->path, count, count == 1 ? "" : "s", count - 1);
    bool one = count == 1 || j->adapter >= 0;
    for (int k = one ? (int)RT_MAX(j->adapter, 0) : 0; rc == 0 && k < count; k++) {
        char *dir = adapter_dir(from, k);
        char *to = one ? rt_strdup(j->to) : rt_format("%s/adapter-%d", j->to, k);
        rc = j->merge ? export_merged(j, dir, err) : export_adapter(j, dir, to, err);
        rt_free(dir), rt_free(to);
        if (one)
            break;
    }
    return rc;
}

static int export(const job *j, rt_error *err)
{
    rt_buf resolved = {0};
    int rc = rt_model_resolve(j->path, &resolved, err);
    if (rc == 0)
        rc = check_target(j->to, resolved.data, j->force, err);
    if (rc == 0 && cli_adapters_count(resolved.data) > 0)
        rc = export_adapters(j, resolved.data, err);
    else if (rc == 0 && (j->merge || j->adapter >= 0 || j->base))
        rc = rt_fail(err, RT_ERR_USAGE, "--merge, --adapter and --base are for adapters; %s is a whole "
                     "model", j->path);
    else if (rc == 0)
        rc = export_model(j, resolved.data, err);
    rt_buf_free(&resolved);
    return rc;
}

int cmd_export(int argc, char **argv)
{
    job j = {.dtype = "", .adapter = -1};
    int words;
    const cli_option options[] = {
        {"--to", OPTION_TEXT, &j.to, "DIR", "folder to write; made when it is not there"},
        {"--force", OPTION_FLAG, &j.force, NULL, "write over an earlier export"},
        {"--merge", OPTION_FLAG, &j.merge, NULL, "an adapter and its base as one model"},
        {"--adapter", OPTION_INTEGER, &j.adapter, "K", "which one, where there are several, from 0"},
        {"--base", OPTION_TEXT, &j.base, "MODEL", "of the adapter (default: the one it names)"},
        {"--dtype", OPTION_TEXT, &j.dtype, "f32|bf16",
         "default: as stored (f16 and quantized become f32)"},
    };
    int rc = cli_parse(argc, argv, "export RUN|CHECKPOINT --to DIR [--merge] [--force]",
                       "Writes config.json, model.safetensors and the tokenizer as a Hugging Face\n"
                       "folder that transformers and vLLM open. A run folder stands for its\n"
                       "newest checkpoint; any other MODEL works too. Adapters become PEFT folders\n"
                       "(adapter-0, adapter-1 … in DIR where there are several) or are merged.",
                       options, RT_COUNT(options), &j.path, &words, 1);
    if (rc != 0)
        return rc < 0 ? 0 : rc;
    if (words != 1 || !j.to || !*j.to)
        return cli_usage("what, and where to? usage: retake export RUN|CHECKPOINT --to DIR");
    if (*j.dtype && strcmp(j.dtype, "bf16") != 0 && strcmp(j.dtype, "f32") != 0)
        return cli_usage("--dtype is f32 or bf16, got \"%s\"", j.dtype);
    rt_error err;
    return export(&j, &err) != 0 ? cli_fail(&err) : 0;
}
