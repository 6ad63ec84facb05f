/*
 * Checkpoints: a folder is written under a temporary name, every file fsynced, then renamed; so
 * the newest complete one is always whole. A checkpoint is also a Hugging Face folder, or holds one
 * PEFT folder an adapter.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "learner/internal.h"

#define VERSION_DIGITS 6

/* The moments where they can be read; taken copies are freed by moment_free. */
static float *moment_read(rt_ops *ops, float *moment, size_t bytes)
{
    if (ops->host)
        return moment;
    float *copy = rt_alloc(bytes);
    ops->download(ops, copy, moment, bytes);
    return copy;
}

static void moment_free(const rt_ops *ops, float *read)
{
    if (!ops->host)
        rt_free(read);
}

static int write_optimizer(const rt_learner *learner, const char *dir, rt_error *err)
{
    const rt_optimizer *o = &learner->optimizer;
    rt_ops *ops = learner->ops;
    size_t bytes = o->count * sizeof(float);
    int64_t count = (int64_t)o->count;
    float *m = moment_read(ops, o->m, bytes), *v = moment_read(ops, o->v, bytes);
    rt_st_tensor tensors[3] = {
        {.name = "m", .dtype = RT_F32, .dims = 1, .shape = {count}, .data = m, .bytes = bytes},
        {.name = "v", .dtype = RT_F32, .dims = 1, .shape = {count}, .data = v, .bytes = bytes},
        {.name = "master", .dtype = RT_F32, .dims = 1, .shape = {count},
         .data = learner->master->data, .bytes = bytes},
    };
    bool rounded = learner->working != learner->master;
    char *updates = rt_format("%lld", (long long)o->updates);
    char *version = rt_format("%lld", (long long)learner->version);
    char hash[33];
    rt_hash_hex(rt_learner_hash(learner), hash);
    char base[33] = "";
    rt_buf each = {0}, measured = {0};
    rt_gradients_write(learner, &measured);
    if (learner->adapters)
        rt_learner_describe_adapters(learner, base, &each);
    const char *metadata[] = {"updates", updates, "version", version, "weights_hash", hash,
                              "measured", measured.bytes > 0 ? measured.data : "",
                              learner->adapters ? "base_hash" : NULL, base, "adapter_updates",
                              each.data, NULL};
    char *path = rt_format("%s/optimizer.safetensors", dir);
    int rc = rt_safetensors_write(path, tensors, rounded ? 3 : 2, metadata, err);
    moment_free(ops, m), moment_free(ops, v);
    rt_free(path), rt_free(updates), rt_free(version);
    rt_buf_free(&each);
    rt_buf_free(&measured);
    return rc;
}

static int write_state(const rt_learner *learner, const char *dir, rt_error *err)
{
    char hash[33];
    rt_hash_hex(rt_learner_hash(learner), hash);
    rt_buf text = {0};
    rt_buf_addf(&text, "{\"version\": %lld, \"updates\": %lld, \"fingerprint\": \"%016llx\", "
                "\"weights_hash\": \"%s\"}\n", (long long)learner->version,
                (long long)learner->optimizer.updates,
                (unsigned long long)rt_config_fingerprint(learner->config), hash);
    char *path = rt_format("%s/state.json", dir);
    int rc = rt_file_write(path, text.data, text.bytes, err);
    rt_free(path);
    rt_buf_free(&text);
    return rc;
}

static int sync_folder(const char *dir, rt_error *err)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY);
    if (fd < 0 || fsync(fd) != 0) {
        int rc = rt_fail(err, RT_ERR_IO, "cannot sync folder %s: %s", dir, strerror(errno));
        if (fd >= 0)
            close(fd);
        return rc;
    }
    close(fd);
    return 0;
}

/* Version of a folder named step-NNNNNN, −1 for any other name. */
static int64_t version_of(const char *name)
{
    if (strncmp(name, "step-", 5) != 0 || strlen(name) < 5 + VERSION_DIGITS)
        return -1;
    char *end;
    int64_t version = strtoll(name + 5, &end, 10);
    return *end == '\0' && version >= 0 ? version : -1;
}

/* Newest version below `below` in dir; counts the folders older than that. */
static int64_t newest_below(const char *dir, int64_t below, int *count)
{
    int64_t newest = -1;
    *count = 0;
    DIR *folder = opendir(dir);
    if (!folder)
        return -1;
    for (struct dirent *entry; (entry = readdir(folder));) {
        int64_t version = version_of(entry->d_name);
        if (version < 0 || version >= below)
            continue;
        ++*count;
        newest = RT_MAX(newest, version);
    }
    closedir(folder);
    return newest;
}

static void remove_old(const char *dir, int64_t newest, int kept)
{
    int64_t below = newest + 1;
    for (int i = 0;; i++) {
        int count;
        int64_t version = newest_below(dir, below, &count);
        if (version < 0)
            return;
        if (i >= kept) {
            char *path = rt_format("%s/step-%0*lld", dir, VERSION_DIGITS, (long long)version);
            rt_remove_tree(path, NULL); /* an old one that stays does no harm */
            rt_free(path);
        }
        below = version;
    }
}

int rt_checkpoint_save(const rt_learner *learner, const char *dir, int kept, rt_buf *path,
                       rt_error *err)
{
    char *name = rt_format("%s/step-%0*lld", dir, VERSION_DIGITS, (long long)learner->version);
    char *temporary = rt_format("%s/.writing-%lld-%d", dir, (long long)learner->version, (int)getpid());
    int rc = rt_mkdirs(temporary, err);
    if (rc == 0 && learner->adapters)
        rc = rt_learner_save_adapters(learner, temporary, err);
    else if (rc == 0)
        rc = rt_model_save(learner->working, temporary, learner->config->model.path, err);
    if (rc == 0)
        rc = write_optimizer(learner, temporary, err);
    if (rc == 0)
        rc = write_state(learner, temporary, err);
    if (rc == 0)
        rc = sync_folder(temporary, err);
    if (rc == 0) {
        if (rt_file_exists(name))
            rt_remove_tree(name, NULL); /* same version, same bits: written again after a roll-back */
        if (rename(temporary, name) != 0)
            rc = rt_fail(err, RT_ERR_IO, "cannot rename %s to %s: %s", temporary, name, strerror(errno));
    }
    if (rc == 0)
        rc = sync_folder(dir, err);
    if (rc != 0) {
        rt_remove_tree(temporary, NULL);
        rt_error_prefix(err, "checkpoint of version %lld not written, the one before is kept",
                        (long long)learner->version);
    } else {
        remove_old(dir, learner->version, RT_MAX(kept, 1));
        if (path) {
            rt_buf_clear(path);
            rt_buf_addf(path, "%s", name);
        }
    }
    rt_free(name), rt_free(temporary);
    return rc;
}

/* state.json is written last: a folder without it was cut short and is passed over. */
static int check_state(const char *path, rt_error *err)
{
    char *file = rt_format("%s/state.json", path);
    rt_buf text = {0};
    int rc = rt_file_read(file, 1 << 16, &text, err);
    if (rc == 0) {
        json_t *root = json_loadb(text.data, text.bytes, 0, NULL);
        const char *expected = root ? json_string_value(json_object_get(root, "weights_hash")) : NULL;
        if (!expected)
            rc = rt_fail(err, RT_ERR_INPUT, "%s: no weights_hash in it", file);
        if (root)
            json_decref(root);
    }
    rt_buf_free(&text);
    rt_free(file);
    return rc;
}

int rt_checkpoint_newest(const char *dir, rt_buf *path, int64_t *version, rt_error *err)
{
    rt_buf_clear(path);
    rt_buf_add(path, "", 0);
    *version = -1;
    int64_t below = INT64_MAX;
    for (;;) {
        int count;
        int64_t candidate = newest_below(dir, below, &count);
        if (candidate < 0)
            return 0;
        rt_buf_clear(path);
        rt_buf_addf(path, "%s/step-%0*lld", dir, VERSION_DIGITS, (long long)candidate);
        if (check_state(path->data, err) == 0) {
            *version = candidate;
            return 0;
        }
        below = candidate;
        rt_buf_clear(path);
    }
}
