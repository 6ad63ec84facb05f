/* hf_folder: the weights of a Hugging Face folder, in one file or in shards with an index. */
#include "model/files.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define INDEX_BYTES_MAX ((size_t)64 << 20)
#define SHARDS_MAX 1024

typedef struct shards {
    const char *dir;
    rt_safetensors **files;
    char **names;
    int count;
} shards;

static void close_shards(shards *all)
{
    for (int i = 0; i < all->count; i++) {
        rt_safetensors_close(&all->files[i]);
        rt_free(all->names[i]);
    }
    rt_free(all->files);
    rt_free(all->names);
}

static int open_shard(shards *all, const char *name, rt_error *err)
{
    for (int i = 0; i < all->count; i++) {
        if (strcmp(all->names[i], name) == 0) {
            return RT_OK;
        }
    }
    /* A name from an index must not lead out of its folder. */
    if (strchr(name, '/') != NULL || name[0] == '.' || name[0] == '\0') {
        return rt_fail(err, RT_ERR_INPUT, "the index of %s names the file \"%.80s\", which is not "
                       "in that folder", all->dir, name);
    }
    if (all->count == SHARDS_MAX) {
        return rt_fail(err, RT_ERR_INPUT, "the index of %s names more than %d files", all->dir,
                       SHARDS_MAX);
    }
    char *path = rt_format("%s/%s", all->dir, name);
    int code = rt_safetensors_open(&all->files[all->count], path, err);
    if (code == RT_OK) {
        all->names[all->count++] = rt_strdup(name);
    }
    rt_free(path);
    return code;
}

static int open_index(shards *all, const char *path, rt_error *err)
{
    rt_buf text = {0};
    int code = rt_file_read(path, INDEX_BYTES_MAX, &text, err);
    if (code != RT_OK) {
        rt_buf_free(&text);
        return code;
    }
    json_t *index = json_loadb(text.data, text.bytes, 0, NULL);
    rt_buf_free(&text);
    json_t *map = json_object_get(index, "weight_map");
    if (json_object_size(map) == 0) {
        code = rt_fail(err, RT_ERR_INPUT, "%s has no weight_map from tensor names to files", path);
    }
    const char *name;
    json_t *file;
    json_object_foreach(map, name, file)
    {
        if (code == RT_OK && !json_is_string(file)) {
            code = rt_fail(err, RT_ERR_INPUT, "%s: the file of tensor %.80s is no text", path,
                           name);
        }
        if (code == RT_OK) {
            code = open_shard(all, json_string_value(file), err);
        }
    }
    json_decref(index);
    return code;
}

static int open_shards(shards *all, const char *dir, rt_error *err)
{
    all->dir = dir;
    all->files = rt_alloc(SHARDS_MAX * sizeof *all->files);
    all->names = rt_alloc(SHARDS_MAX * sizeof *all->names);
    char *single = rt_format("%s/model.safetensors", dir);
    char *index = rt_format("%s/model.safetensors.index.json", dir);
    int code;
    if (rt_file_exists(single)) {
        code = open_shard(all, "model.safetensors", err);
    } else if (rt_file_exists(index)) {
        code = open_index(all, index, err);
    } else {
        code = rt_fail(err, RT_ERR_INPUT, "%s has neither model.safetensors nor "
                       "model.safetensors.index.json", dir);
    }
    rt_free(single);
    rt_free(index);
    return code;
}

static const rt_st_tensor *find_tensor(const shards *all, const char *name)
{
    const rt_st_tensor *found = NULL;
    for (int i = 0; i < all->count && found == NULL; i++) {
        found = rt_safetensors_find(all->files[i], name);
    }
    return found;
}

static int check_one(const shards *all, const rt_tensor *tensor, rt_error *err)
{
    const rt_st_tensor *found = find_tensor(all, tensor->name);
    if (found == NULL) {
        return rt_fail(err, RT_ERR_INPUT, "%s: tensor %s is missing", all->dir, tensor->name);
    }
    if (found->dtype == RT_I32) {
        return rt_fail(err, RT_ERR_INPUT, "%s: tensor %s holds whole numbers, not weights",
                       all->dir, tensor->name);
    }
    bool vector = rt_tensor_is_vector(tensor);
    if (found->dims != (vector ? 1 : 2) || found->shape[0] != tensor->rows ||
        (!vector && found->shape[1] != tensor->cols)) {
        rt_buf shape = {0};
        for (int i = 0; i < found->dims; i++) {
            rt_buf_addf(&shape, "%s%lld", i > 0 ? ", " : "", (long long)found->shape[i]);
        }
        rt_fail(err, RT_ERR_INPUT, "%s: tensor %s has shape (%s), config.json means (%d%s%.0d)",
                all->dir, tensor->name, shape.bytes > 0 ? shape.data : "", tensor->rows,
                vector ? "" : ", ", vector ? 0 : tensor->cols);
        rt_buf_free(&shape);
        return RT_ERR_INPUT;
    }
    return RT_OK;
}

/* A tied model may carry its head all the same, if it is the embedding table. */
static bool is_tied_head(const shards *all, const rt_st_tensor *extra)
{
    const rt_st_tensor *embed = find_tensor(all, "model.embed_tokens.weight");
    return strcmp(extra->name, "lm_head.weight") == 0 && embed != NULL &&
           embed->dtype == extra->dtype && embed->bytes == extra->bytes &&
           memcmp(embed->data, extra->data, extra->bytes) == 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_extra(const shards *all, const char *const *sorted, int count, bool tied,
                       const rt_st_tensor *found, rt_error *err)
{
    static const char buffer[] = ".rotary_emb.inv_freq"; /* computed from config.json anyway */
    size_t bytes = strlen(found->name);
    if (bytes >= sizeof buffer &&
        strcmp(found->name + bytes - (sizeof buffer - 1), buffer) == 0) {
        return RT_OK;
    }
    if (bsearch(&found->name, sorted, (size_t)count, sizeof *sorted, compare_names) != NULL) {
        return find_tensor(all, found->name) == found
                   ? RT_OK
                   : rt_fail(err, RT_ERR_INPUT, "%s: tensor %s is in two files", all->dir,
                             found->name);
    }
    if (tied && is_tied_head(all, found)) {
        return RT_OK;
    }
    if (tied && strcmp(found->name, "lm_head.weight") == 0) {
        return rt_fail(err, RT_ERR_INPUT, "%s: tie_word_embeddings is true, but lm_head.weight "
                       "differs from the embedding: set it to false", all->dir);
    }
    return rt_fail(err, RT_ERR_INPUT, "%s: tensor %.100s is not part of this architecture",
                   all->dir, found->name);
}

static int check_extras(const shards *all, const rt_tensor *tensors, int count, bool tied,
                        rt_error *err)
{
    const char **sorted = rt_alloc((size_t)(count + 1) * sizeof *sorted);
    for (int i = 0; i < count; i++) {
        sorted[i] = tensors[i].name;
    }
    qsort(sorted, (size_t)count, sizeof *sorted, compare_names);
    int code = RT_OK;
    for (int i = 0; i < all->count && code == RT_OK; i++) {
        for (int k = 0; k < rt_safetensors_count(all->files[i]) && code == RT_OK; k++) {
            code = check_extra(all, sorted, count, tied, rt_safetensors_at(all->files[i], k), err);
        }
    }
    rt_free(sorted);
    return code;
}

/* All is checked against the table before memory for the weights is asked for. */
static int check_all(const shards *all, const rt_arch *arch, rt_error *err)
{
    rt_tensor *tensors;
    int count;
    size_t elements;
    int code = rt_weights_table(arch, &tensors, &count, &elements, err);
    if (code != RT_OK) {
        return code;
    }
    for (int i = 0; i < count && code == RT_OK; i++) {
        code = check_one(all, &tensors[i], err);
    }
    if (code == RT_OK) {
        code = check_extras(all, tensors, count, arch->tied, err);
    }
    rt_free(tensors);
    return code;
}

static void copy_all(rt_weights *weights, const shards *all)
{
    size_t word = rt_dtype_bytes(weights->dtype);
    for (int i = 0; i < weights->tensors_count; i++) {
        const rt_tensor *tensor = &weights->tensors[i];
        const rt_st_tensor *found = find_tensor(all, tensor->name);
        rt_words_copy((char *)weights->data + tensor->offset * word, weights->dtype, found->data,
                      found->dtype, tensor->count);
    }
}

int rt_hf_load(rt_weights **weights, const char *dir, int dtype, rt_error *err)
{
    rt_arch arch;
    int code = rt_hf_arch_load(&arch, dir, err);
    if (code != RT_OK) {
        return code;
    }
    shards all = {0};
    code = open_shards(&all, dir, err);
    if (code == RT_OK) {
        code = check_all(&all, &arch, err);
    }
    if (code == RT_OK) {
        code = rt_weights_new(weights, &arch, dtype, err);
    }
    if (code == RT_OK) {
        copy_all(*weights, &all);
    }
    close_shards(&all);
    return code;
}
