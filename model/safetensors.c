/* safetensors: 8 bytes of header length, a JSON header, then the tensors' bytes without holes. */
#include "model/files.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The bound of the format's own readers; also keeps a hostile header from filling the memory. */
#define HEADER_BYTES_MAX 100000000

struct rt_safetensors {
    rt_map map;     /* of open; empty when the bytes are borrowed */
    json_t *header; /* owns the names */
    rt_st_tensor *tensors;        /* in order of their bytes */
    const rt_st_tensor **by_name; /* sorted */
    int count;
};

static const struct { const char *name; int dtype; } dtypes[] = {
    {"F32", RT_F32}, {"BF16", RT_BF16}, {"F16", RT_F16}, {"I32", RT_I32},
};

static int parse_shape(rt_st_tensor *tensor, const json_t *shape, uint64_t *count, rt_error *err)
{
    if (!json_is_array(shape) || json_array_size(shape) > 4) {
        return rt_fail(err, RT_ERR_INPUT, "tensor %s has no shape of at most 4 dimensions",
                       tensor->name);
    }
    *count = 1;
    tensor->dims = (int)json_array_size(shape);
    for (int i = 0; i < tensor->dims; i++) {
        const json_t *size = json_array_get(shape, (size_t)i);
        tensor->shape[i] = json_integer_value(size);
        if (!json_is_integer(size) || tensor->shape[i] < 0 ||
            __builtin_mul_overflow(*count, (uint64_t)tensor->shape[i], count)) {
            return rt_fail(err, RT_ERR_INPUT, "tensor %s has an impossible shape", tensor->name);
        }
    }
    return RT_OK;
}

static int parse_dtype(rt_st_tensor *tensor, const json_t *value, rt_error *err)
{
    const char *name = json_string_value(value);
    for (size_t i = 0; name != NULL && i < RT_COUNT(dtypes); i++) {
        if (strcmp(name, dtypes[i].name) == 0) {
            tensor->dtype = dtypes[i].dtype;
            return RT_OK;
        }
    }
    return rt_fail(err, RT_ERR_INPUT, "tensor %s is stored as %.20s, only F32, BF16, F16 and I32 "
                   "are read: convert the file", tensor->name, name != NULL ? name : "nothing");
}

static int parse_tensor(rt_st_tensor *tensor, const json_t *entry, const uint8_t *data,
                        size_t bytes, rt_error *err)
{
    uint64_t count = 0, needed = 0;
    int code = parse_dtype(tensor, json_object_get(entry, "dtype"), err);
    if (code != RT_OK || (code = parse_shape(tensor, json_object_get(entry, "shape"), &count,
                                             err)) != RT_OK) {
        return code;
    }
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *from = json_array_get(offsets, 0), *to = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(from) || !json_is_integer(to)) {
        return rt_fail(err, RT_ERR_INPUT, "tensor %s has no data_offsets [begin, end]",
                       tensor->name);
    }
    int64_t begin = json_integer_value(from), end = json_integer_value(to);
    if (begin < 0 || end < begin || (uint64_t)end > bytes) {
        return rt_fail(err, RT_ERR_INPUT, "tensor %s lies at bytes %lld to %lld of %zu: the file "
                       "is cut off or damaged, fetch it again", tensor->name, (long long)begin,
                       (long long)end, bytes);
    }
    if (__builtin_mul_overflow(count, (uint64_t)rt_dtype_bytes(tensor->dtype), &needed) ||
        needed != (uint64_t)(end - begin)) {
        return rt_fail(err, RT_ERR_INPUT, "tensor %s has %lld bytes, its shape and dtype need "
                       "another number", tensor->name, (long long)(end - begin));
    }
    tensor->data = data + begin;
    tensor->bytes = (size_t)needed;
    return RT_OK;
}

static int compare_places(const void *a, const void *b)
{
    const rt_st_tensor *left = a, *right = b;
    if (left->data != right->data) {
        return (const char *)left->data > (const char *)right->data ? 1 : -1;
    }
    if (left->bytes != right->bytes) { /* an empty one before the one that begins there */
        return left->bytes > right->bytes ? 1 : -1;
    }
    return strcmp(left->name, right->name);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(const rt_st_tensor *const *)a)->name,
                  (*(const rt_st_tensor *const *)b)->name);
}

/* The tensors cover the data from its first to its last byte, each byte once. */
static int check_cover(rt_safetensors *file, const uint8_t *data, size_t bytes, rt_error *err)
{
    qsort(file->tensors, (size_t)file->count, sizeof *file->tensors, compare_places);
    const uint8_t *at = data;
    for (int i = 0; i < file->count; i++) {
        const rt_st_tensor *tensor = &file->tensors[i];
        const uint8_t *begin = tensor->data;
        if (begin < at) {
            return rt_fail(err, RT_ERR_INPUT, "tensors %s and %s overlap",
                           file->tensors[i - 1].name, tensor->name);
        }
        if (begin > at) {
            return rt_fail(err, RT_ERR_INPUT, "%td bytes before tensor %s belong to no tensor",
                           begin - at, tensor->name);
        }
        at = begin + tensor->bytes;
    }
    if (at != data + bytes) {
        return rt_fail(err, RT_ERR_INPUT, "%td bytes after the last tensor belong to no tensor",
                       data + bytes - at);
    }
    return RT_OK;
}

static int check_metadata(const json_t *metadata, rt_error *err)
{
    const char *key;
    json_t *value;
    bool good = json_is_object(metadata);
    json_object_foreach((json_t *)metadata, key, value)
    {
        good = good && json_is_string(value);
    }
    return good ? RT_OK : rt_fail(err, RT_ERR_INPUT, "__metadata__ is no object of strings");
}

static int parse_header(rt_safetensors *file, const uint8_t *data, size_t bytes, rt_error *err)
{
    size_t entries = json_object_size(file->header);
    file->tensors = rt_alloc((entries + 1) * sizeof *file->tensors);
    file->by_name = rt_alloc((entries + 1) * sizeof *file->by_name);
    const char *key;
    json_t *value;
    json_object_foreach(file->header, key, value)
    {
        int code;
        if (strcmp(key, "__metadata__") == 0) {
            code = check_metadata(value, err);
        } else {
            rt_st_tensor *tensor = &file->tensors[file->count++];
            tensor->name = key;
            code = parse_tensor(tensor, value, data, bytes, err);
        }
        if (code != RT_OK) {
            return code;
        }
    }
    int code = check_cover(file, data, bytes, err);
    if (code != RT_OK) {
        return code;
    }
    for (int i = 0; i < file->count; i++) {
        file->by_name[i] = &file->tensors[i];
    }
    qsort(file->by_name, (size_t)file->count, sizeof *file->by_name, compare_names);
    return RT_OK;
}

static int parse_file(rt_safetensors *file, const uint8_t *data, size_t bytes, rt_error *err)
{
    uint64_t length = 0;
    for (size_t i = 0; i < 8 && bytes >= 8; i++) {
        length |= (uint64_t)data[i] << (8 * i);
    }
    if (bytes < 8) {
        return rt_fail(err, RT_ERR_INPUT, "this is no safetensors file: it has only %zu bytes",
                       bytes);
    }
    if (length > HEADER_BYTES_MAX || length > bytes - 8) {
        return rt_fail(err, RT_ERR_INPUT, "the safetensors header claims %llu bytes of %zu: the "
                       "file is cut off or of another kind", (unsigned long long)length, bytes);
    }
    json_error_t json;
    file->header = json_loadb((const char *)data + 8, (size_t)length, JSON_REJECT_DUPLICATES,
                              &json);
    if (!json_is_object(file->header)) {
        return rt_fail(err, RT_ERR_INPUT, "the safetensors header is no JSON object: %s",
                       file->header == NULL ? json.text : "it is something else");
    }
    return parse_header(file, data + 8 + length, bytes - 8 - (size_t)length, err);
}

int rt_safetensors_parse(rt_safetensors **file, const void *data, size_t bytes, rt_error *err)
{
    rt_safetensors *made = rt_alloc(sizeof *made);
    int code = parse_file(made, data, bytes, err);
    if (code != RT_OK) {
        rt_safetensors_close(&made);
        return code;
    }
    *file = made;
    return RT_OK;
}

int rt_safetensors_open(rt_safetensors **file, const char *path, rt_error *err)
{
    rt_map map;
    int code = rt_map_open(&map, path, err);
    if (code != RT_OK) {
        return code;
    }
    code = rt_safetensors_parse(file, map.data, map.bytes, err);
    if (code != RT_OK) {
        rt_map_close(&map);
        rt_error_prefix(err, "%s", path);
        return code;
    }
    (*file)->map = map;
    return RT_OK;
}

void rt_safetensors_close(rt_safetensors **file)
{
    rt_safetensors *old = *file;
    if (old == NULL) {
        return;
    }
    json_decref(old->header);
    rt_free(old->tensors);
    rt_free(old->by_name);
    rt_map_close(&old->map);
    rt_free(old);
    *file = NULL;
}

int rt_safetensors_count(const rt_safetensors *file)
{
    return file->count;
}

const rt_st_tensor *rt_safetensors_at(const rt_safetensors *file, int index)
{
    RT_ASSERT(index >= 0 && index < file->count);
    return &file->tensors[index];
}

const rt_st_tensor *rt_safetensors_find(const rt_safetensors *file, const char *name)
{
    rt_st_tensor wanted = {.name = name};
    const rt_st_tensor *key = &wanted;
    const rt_st_tensor **found = bsearch(&key, file->by_name, (size_t)file->count,
                                         sizeof *file->by_name, compare_names);
    return found != NULL ? *found : NULL;
}

const char *rt_safetensors_metadata(const rt_safetensors *file, const char *key)
{
    return json_string_value(json_object_get(json_object_get(file->header, "__metadata__"), key));
}

/* ---- writing ------------------------------------------------------------------------------ */

static json_t *entry_of(const rt_st_tensor *tensor, uint64_t begin)
{
    const char *dtype = NULL;
    uint64_t count = 1;
    for (size_t i = 0; i < RT_COUNT(dtypes); i++) {
        dtype = dtypes[i].dtype == tensor->dtype ? dtypes[i].name : dtype;
    }
    RT_ASSERT(dtype != NULL && tensor->dims >= 0 && tensor->dims <= 4);
    json_t *shape = json_array();
    for (int i = 0; i < tensor->dims; i++) {
        RT_ASSERT(tensor->shape[i] >= 0);
        count *= (uint64_t)tensor->shape[i];
        json_array_append_new(shape, json_integer(tensor->shape[i]));
    }
    RT_ASSERT(count * rt_dtype_bytes(tensor->dtype) == tensor->bytes);
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype, "shape", shape, "data_offsets",
                     (json_int_t)begin, (json_int_t)(begin + tensor->bytes));
}

/* Wider types first: then every tensor of the file is aligned to its type. */
static int order_of(const rt_st_tensor *tensors, int count, int *order)
{
    int filled = 0;
    for (size_t bytes = 4; bytes >= 2; bytes -= 2) {
        for (int i = 0; i < count; i++) {
            if (rt_dtype_bytes(tensors[i].dtype) == bytes) {
                order[filled++] = i;
            }
        }
    }
    return filled;
}

static int make_header(const rt_st_tensor *tensors, int count, const int *order,
                       const char *const *metadata, rt_buf *out, rt_error *err)
{
    json_t *header = json_object();
    bool good = true;
    if (metadata != NULL && metadata[0] != NULL) {
        json_t *values = json_object();
        json_object_set_new(header, "__metadata__", values);
        for (int i = 0; metadata[i] != NULL; i += 2) {
            good = good && json_object_set_new(values, metadata[i],
                                               json_string(metadata[i + 1])) == 0;
        }
    }
    uint64_t begin = 0;
    for (int i = 0; i < count; i++) {
        const rt_st_tensor *tensor = &tensors[order[i]];
        good = good && json_object_get(header, tensor->name) == NULL &&
               json_object_set_new(header, tensor->name, entry_of(tensor, begin)) == 0;
        begin += tensor->bytes;
    }
    char *text = good ? json_dumps(header, JSON_COMPACT) : NULL;
    json_decref(header);
    if (text == NULL) {
        return rt_fail(err, RT_ERR_INPUT, "a tensor name or metadata text is no UTF-8 or occurs "
                       "twice");
    }
    size_t bytes = strlen(text), padded = (bytes + 7) / 8 * 8;
    uint8_t length[8];
    for (size_t i = 0; i < 8; i++) {
        length[i] = (uint8_t)((uint64_t)padded >> (8 * i));
    }
    rt_buf_add(out, length, sizeof length);
    rt_buf_add(out, text, bytes);
    rt_buf_add(out, "        ", padded - bytes);
    free(text);
    return RT_OK;
}

static bool write_all(int fd, const void *data, size_t bytes)
{
    const char *at = data;
    while (bytes > 0) {
        ssize_t done = write(fd, at, RT_MIN(bytes, (size_t)1 << 30));
        if (done < 0 && errno != EINTR) {
            return false;
        }
        at += done > 0 ? done : 0;
        bytes -= done > 0 ? (size_t)done : 0;
    }
    return true;
}

static bool sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash != NULL ? rt_strndup(path, (size_t)(slash - path) + 1) : rt_strdup(".");
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    rt_free(dir);
    /* A file system that knows no fsync of a folder cannot do better. */
    bool good = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP);
    if (fd >= 0) {
        close(fd);
    }
    return good;
}

/* 0 or errno. */
static int write_file(const char *path, const rt_buf *header, const rt_st_tensor *tensors,
                      const int *order, int count)
{
    char *temporary = rt_format("%s.tmp-%ld-%llx", path, (long)getpid(),
                                (unsigned long long)rt_now_ns());
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    bool good = fd >= 0 && write_all(fd, header->data, header->bytes);
    for (int i = 0; i < count && good; i++) {
        good = write_all(fd, tensors[order[i]].data, tensors[order[i]].bytes);
    }
    good = good && fsync(fd) == 0;
    int number = good ? 0 : errno;
    if (fd >= 0 && close(fd) != 0 && number == 0) {
        number = errno;
    }
    if (number == 0 && (rename(temporary, path) != 0 || !sync_folder(path))) {
        number = errno;
    }
    if (number != 0 && fd >= 0) {
        unlink(temporary);
    }
    rt_free(temporary);
    return number;
}

int rt_safetensors_write(const char *path, const rt_st_tensor *tensors, int count,
                         const char *const *metadata, rt_error *err)
{
    RT_ASSERT(count >= 0);
    int *order = rt_alloc((size_t)(count + 1) * sizeof *order);
    int ordered = order_of(tensors, count, order);
    RT_ASSERT(ordered == count);
    rt_buf header = {0};
    int code = make_header(tensors, count, order, metadata, &header, err);
    if (code == RT_OK) {
        int number = write_file(path, &header, tensors, order, count);
        if (number != 0) {
            code = rt_fail(err, RT_ERR_IO, "cannot write %s: %s; check the folder and its free "
                           "space", path, strerror(number));
        }
    }
    rt_buf_free(&header);
    rt_free(order);
    return code;
}
