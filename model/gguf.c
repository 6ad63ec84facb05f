#include "model/gguf.h"

#include <stdlib.h>
#include <string.h>

/* More than any real file holds; a larger count is a broken or hostile file. */
#define KEYS_MAX 65536
#define TENSORS_MAX 65536
#define KEY_BYTES_MAX 65535

typedef struct pair {
    const char *key;
    size_t key_bytes;
    int type;
    const uint8_t *data; /* number: its bytes; text: its first byte */
    size_t bytes;        /* text only */
    rt_gguf_array array;
} pair;

struct rt_gguf {
    rt_map map; /* of open; empty when the bytes are borrowed */
    const uint8_t *data;
    size_t bytes;
    pair *pairs;
    int pairs_count;
    rt_gguf_tensor *tensors;
    int tensors_count;
    uint64_t *offsets; /* of tensors in file order, only while parsing */
};

typedef struct reader {
    const uint8_t *data;
    size_t bytes, at;
    bool bad; /* a read went past the end; all later reads give 0 */
} reader;

static uint64_t load(const uint8_t *data, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) {
        value |= (uint64_t)data[i] << (8 * i);
    }
    return value;
}

static const uint8_t *take(reader *in, uint64_t bytes)
{
    if (in->bad || bytes > in->bytes - in->at) {
        in->bad = true;
        return NULL;
    }
    const uint8_t *data = in->data + in->at;
    in->at += (size_t)bytes;
    return data;
}

static uint64_t take_number(reader *in, int bytes)
{
    const uint8_t *data = take(in, (uint64_t)bytes);
    return data != NULL ? load(data, bytes) : 0;
}

static const char *take_text(reader *in, size_t *bytes)
{
    uint64_t length = take_number(in, 8);
    const uint8_t *data = take(in, length);
    *bytes = data != NULL ? (size_t)length : 0;
    return (const char *)data;
}

/* Bytes of one number of a type, 0 for text, arrays and unknown types. */
static int type_bytes(uint64_t type)
{
    static const int sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < RT_COUNT(sizes) ? sizes[type] : 0;
}

static int parse_text_array(reader *in, rt_gguf_array *array, uint64_t count)
{
    if (count > (in->bytes - in->at) / 8) {
        return -1; /* each text takes at least its 8 bytes of length */
    }
    size_t start = in->at;
    size_t *starts = rt_alloc(((size_t)count + 1) * sizeof *starts);
    for (uint64_t i = 0; i < count && !in->bad; i++) {
        size_t bytes;
        starts[i] = in->at - start;
        take_text(in, &bytes);
    }
    if (in->bad) {
        rt_free(starts);
        return -1;
    }
    array->data = in->data + start;
    array->starts = starts;
    return 0;
}

static int parse_array(reader *in, rt_gguf_array *array)
{
    uint64_t type = take_number(in, 4);
    uint64_t count = take_number(in, 8);
    if (in->bad) {
        return -1;
    }
    array->type = (int)type;
    array->count = (size_t)count;
    if (type == RT_GGUF_STRING) {
        return parse_text_array(in, array, count);
    }
    int size = type_bytes(type);
    if (size == 0 || count > (in->bytes - in->at) / (size_t)size) {
        return -1;
    }
    array->data = take(in, count * (uint64_t)size);
    return 0;
}

static int parse_pair(reader *in, pair *to, rt_error *err)
{
    to->key = take_text(in, &to->key_bytes);
    uint64_t type = take_number(in, 4);
    if (in->bad || to->key_bytes == 0 || to->key_bytes > KEY_BYTES_MAX) {
        return rt_fail(err, RT_ERR_INPUT, "the GGUF metadata is cut off or damaged at byte %zu",
                       in->at);
    }
    int status = 0;
    if (type == RT_GGUF_STRING) {
        to->data = (const uint8_t *)take_text(in, &to->bytes);
    } else if (type == RT_GGUF_ARRAY) {
        status = parse_array(in, &to->array);
    } else if (type_bytes(type) > 0) {
        to->data = take(in, (uint64_t)type_bytes(type));
    } else {
        status = -1;
    }
    if (status != 0 || in->bad) {
        return rt_fail(err, RT_ERR_INPUT,
                       "the value of GGUF key \"%.*s\" is damaged or of an unknown type",
                       (int)RT_MIN(to->key_bytes, 80), to->key);
    }
    to->type = (int)type;
    return RT_OK;
}

static int compare_keys(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    int order = memcmp(a, b, RT_MIN(a_bytes, b_bytes));
    return order != 0 ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static int compare_pairs(const void *a, const void *b)
{
    const pair *left = a, *right = b;
    return compare_keys(left->key, left->key_bytes, right->key, right->key_bytes);
}

static int parse_pairs(rt_gguf *gguf, reader *in, uint64_t count, rt_error *err)
{
    gguf->pairs = rt_alloc(((size_t)count + 1) * sizeof *gguf->pairs);
    for (uint64_t i = 0; i < count; i++) {
        int code = parse_pair(in, &gguf->pairs[i], err);
        if (code != RT_OK) {
            return code;
        }
        gguf->pairs_count++;
    }
    qsort(gguf->pairs, (size_t)count, sizeof *gguf->pairs, compare_pairs);
    for (int i = 1; i < gguf->pairs_count; i++) {
        if (compare_pairs(&gguf->pairs[i - 1], &gguf->pairs[i]) == 0) {
            return rt_fail(err, RT_ERR_INPUT, "the GGUF key \"%.*s\" occurs twice",
                           (int)RT_MIN(gguf->pairs[i].key_bytes, 80), gguf->pairs[i].key);
        }
    }
    return RT_OK;
}

/* Elements and bytes of one storage block; false for types that are not read. */
static bool block_of(uint32_t ggml_type, int *dtype, uint64_t *elements, uint64_t *bytes)
{
    static const struct { uint32_t type; int dtype; uint64_t elements, bytes; } known[] = {
        {0, RT_F32, 1, 4},     {1, RT_F16, 1, 2},     {2, RT_Q4_0, 32, 18},
        {3, RT_Q4_1, 32, 20},  {8, RT_Q8_0, 32, 34},  {30, RT_BF16, 1, 2},
        {26, RT_I32, 1, 4},
    };
    for (size_t i = 0; i < RT_COUNT(known); i++) {
        if (known[i].type == ggml_type) {
            *dtype = known[i].dtype;
            *elements = known[i].elements;
            *bytes = known[i].bytes;
            return true;
        }
    }
    return false;
}

static int size_tensor(rt_gguf_tensor *tensor, rt_error *err)
{
    uint64_t count = 1;
    for (int i = 0; i < tensor->dims; i++) {
        if (tensor->shape[i] == 0 || __builtin_mul_overflow(count, tensor->shape[i], &count)) {
            return rt_fail(err, RT_ERR_INPUT, "GGUF tensor %s has an impossible shape",
                           tensor->name);
        }
    }
    uint64_t elements = 0, bytes = 0, total = 0;
    tensor->count = count;
    tensor->dtype = -1;
    if (!block_of(tensor->ggml_type, &tensor->dtype, &elements, &bytes)) {
        return RT_OK;
    }
    if (tensor->shape[0] % elements != 0 ||
        __builtin_mul_overflow(count / elements, bytes, &total)) {
        return rt_fail(err, RT_ERR_INPUT,
                       "GGUF tensor %s has rows that are no whole number of storage blocks",
                       tensor->name);
    }
    tensor->bytes = (size_t)total;
    return RT_OK;
}

static int parse_tensor(reader *in, rt_gguf_tensor *tensor, uint64_t *offset, rt_error *err)
{
    size_t bytes = 0;
    const char *name = take_text(in, &bytes);
    uint64_t dims = take_number(in, 4);
    if (in->bad || bytes == 0 || bytes >= sizeof tensor->name || memchr(name, 0, bytes) != NULL ||
        dims > 4) {
        return rt_fail(err, RT_ERR_INPUT, "the GGUF table of tensors is damaged at byte %zu",
                       in->at);
    }
    memcpy(tensor->name, name, bytes);
    tensor->dims = (int)dims;
    for (int i = 0; i < 4; i++) {
        tensor->shape[i] = i < tensor->dims ? take_number(in, 8) : 1;
    }
    tensor->ggml_type = (uint32_t)take_number(in, 4);
    *offset = take_number(in, 8);
    if (in->bad) {
        return rt_fail(err, RT_ERR_INPUT, "the GGUF table of tensors is cut off");
    }
    return size_tensor(tensor, err);
}

/* Gives each tensor its bytes after `start`; every one lies inside the file. */
static int place_tensors(rt_gguf *gguf, uint64_t start, uint64_t alignment, rt_error *err)
{
    for (int i = 0; i < gguf->tensors_count; i++) {
        rt_gguf_tensor *tensor = &gguf->tensors[i];
        uint64_t offset = gguf->offsets[i];
        if (tensor->dtype < 0) {
            continue;
        }
        if (offset % alignment != 0) {
            return rt_fail(err, RT_ERR_INPUT, "GGUF tensor %s begins at an offset that is no "
                           "multiple of the file's alignment", tensor->name);
        }
        if (start > gguf->bytes || offset > gguf->bytes - start ||
            tensor->bytes > gguf->bytes - start - offset) {
            return rt_fail(err, RT_ERR_INPUT, "GGUF tensor %s reaches past the end of the file: "
                           "the file is cut off, fetch it again", tensor->name);
        }
        tensor->data = gguf->data + start + offset;
    }
    return RT_OK;
}

static int compare_places(const void *a, const void *b)
{
    const rt_gguf_tensor *left = a, *right = b;
    if (left->data == right->data) {
        return (left->bytes > right->bytes) - (left->bytes < right->bytes);
    }
    return (const char *)left->data > (const char *)right->data ? 1 : -1;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const rt_gguf_tensor *)a)->name, ((const rt_gguf_tensor *)b)->name);
}

static int check_tensors(rt_gguf *gguf, rt_error *err)
{
    rt_gguf_tensor *tensors = gguf->tensors;
    qsort(tensors, (size_t)gguf->tensors_count, sizeof *tensors, compare_places);
    for (int i = 1; i < gguf->tensors_count; i++) {
        const rt_gguf_tensor *before = &tensors[i - 1];
        if (before->data != NULL &&
            (const char *)before->data + before->bytes > (const char *)tensors[i].data) {
            return rt_fail(err, RT_ERR_INPUT, "GGUF tensors %s and %s overlap", before->name,
                           tensors[i].name);
        }
    }
    qsort(tensors, (size_t)gguf->tensors_count, sizeof *tensors, compare_names);
    for (int i = 1; i < gguf->tensors_count; i++) {
        if (strcmp(tensors[i - 1].name, tensors[i].name) == 0) {
            return rt_fail(err, RT_ERR_INPUT, "GGUF tensor %s occurs twice", tensors[i].name);
        }
    }
    return RT_OK;
}

static int parse_tensors(rt_gguf *gguf, reader *in, uint64_t count, rt_error *err)
{
    gguf->tensors = rt_alloc(((size_t)count + 1) * sizeof *gguf->tensors);
    gguf->offsets = rt_alloc(((size_t)count + 1) * sizeof *gguf->offsets);
    for (uint64_t i = 0; i < count; i++) {
        int code = parse_tensor(in, &gguf->tensors[i], &gguf->offsets[i], err);
        if (code != RT_OK) {
            return code;
        }
        gguf->tensors_count++;
    }
    int64_t alignment = 32;
    if (rt_gguf_has(gguf, "general.alignment") &&
        (!rt_gguf_integer(gguf, "general.alignment", &alignment) || alignment < 1 ||
         alignment > (1 << 20) || (alignment & (alignment - 1)) != 0)) {
        return rt_fail(err, RT_ERR_INPUT, "the GGUF general.alignment is no power of two");
    }
    uint64_t mask = (uint64_t)alignment - 1;
    uint64_t start = ((uint64_t)in->at + mask) & ~mask;
    int code = place_tensors(gguf, start, (uint64_t)alignment, err);
    return code != RT_OK ? code : check_tensors(gguf, err);
}

static int parse_file(rt_gguf *gguf, rt_error *err)
{
    reader in = {.data = gguf->data, .bytes = gguf->bytes};
    const uint8_t *magic = take(&in, 4);
    if (magic == NULL || memcmp(magic, "GGUF", 4) != 0) {
        return rt_fail(err, RT_ERR_INPUT, "this is no GGUF file (its first bytes are not GGUF)");
    }
    uint64_t version = take_number(&in, 4);
    if (version != 2 && version != 3) {
        return rt_fail(err, RT_ERR_INPUT, "GGUF version %llu is not read, only little-endian "
                       "versions 2 and 3: convert the file again",
                       (unsigned long long)version);
    }
    uint64_t tensors = take_number(&in, 8);
    uint64_t pairs = take_number(&in, 8);
    /* A key takes at least 13 bytes and a tensor 24: a count beyond that is not in this file. */
    if (in.bad || pairs > KEYS_MAX || tensors > TENSORS_MAX || pairs > in.bytes / 13 ||
        tensors > in.bytes / 24) {
        return rt_fail(err, RT_ERR_INPUT, "the GGUF header counts more keys or tensors than the "
                       "file can hold: it is damaged");
    }
    int code = parse_pairs(gguf, &in, pairs, err);
    return code != RT_OK ? code : parse_tensors(gguf, &in, tensors, err);
}

int rt_gguf_parse(rt_gguf **gguf, const void *data, size_t bytes, rt_error *err)
{
    rt_gguf *made = rt_alloc(sizeof *made);
    made->data = data;
    made->bytes = bytes;
    int code = parse_file(made, err);
    rt_free(made->offsets);
    made->offsets = NULL;
    if (code != RT_OK) {
        rt_gguf_close(&made);
        return code;
    }
    *gguf = made;
    return RT_OK;
}

int rt_gguf_open(rt_gguf **gguf, const char *path, rt_error *err)
{
    rt_map map;
    int code = rt_map_open(&map, path, err);
    if (code != RT_OK) {
        return code;
    }
    code = rt_gguf_parse(gguf, map.data, map.bytes, err);
    if (code != RT_OK) {
        rt_map_close(&map);
        rt_error_prefix(err, "%s", path);
        return code;
    }
    (*gguf)->map = map;
    return RT_OK;
}

void rt_gguf_close(rt_gguf **gguf)
{
    rt_gguf *file = *gguf;
    if (file == NULL) {
        return;
    }
    /* A key that failed half-way has no starts: counting stops before it. */
    for (int i = 0; i < file->pairs_count; i++) {
        rt_free((void *)file->pairs[i].array.starts);
    }
    rt_free(file->pairs);
    rt_free(file->tensors);
    rt_free(file->offsets);
    if (file->map.data != NULL) {
        rt_map_close(&file->map);
    }
    rt_free(file);
    *gguf = NULL;
}

static const pair *find_pair(const rt_gguf *gguf, const char *key)
{
    pair wanted = {.key = key, .key_bytes = strlen(key)};
    return bsearch(&wanted, gguf->pairs, (size_t)gguf->pairs_count, sizeof *gguf->pairs,
                   compare_pairs);
}

/* Integers beyond int64 (only U64 can be) saturate: no caller takes them for something else. */
static int64_t integer_at(int type, const uint8_t *data)
{
    uint64_t bits = load(data, type_bytes((uint64_t)type));
    switch (type) {
    case RT_GGUF_I8: return (int8_t)bits;
    case RT_GGUF_I16: return (int16_t)bits;
    case RT_GGUF_I32: return (int32_t)bits;
    case RT_GGUF_I64: return (int64_t)bits;
    case RT_GGUF_BOOL: return bits != 0;
    default: return bits > INT64_MAX ? INT64_MAX : (int64_t)bits;
    }
}

static bool is_integer(int type)
{
    return type_bytes((uint64_t)type) > 0 && type != RT_GGUF_F32 && type != RT_GGUF_F64;
}

static double number_at(int type, const uint8_t *data)
{
    if (type == RT_GGUF_F32) {
        uint32_t bits = (uint32_t)load(data, 4);
        float value;
        memcpy(&value, &bits, sizeof value);
        return (double)value;
    }
    if (type == RT_GGUF_F64) {
        uint64_t bits = load(data, 8);
        double value;
        memcpy(&value, &bits, sizeof value);
        return value;
    }
    return (double)integer_at(type, data);
}

bool rt_gguf_has(const rt_gguf *gguf, const char *key)
{
    return find_pair(gguf, key) != NULL;
}

bool rt_gguf_text(const rt_gguf *gguf, const char *key, const char **text, size_t *bytes)
{
    const pair *found = find_pair(gguf, key);
    if (found == NULL || found->type != RT_GGUF_STRING) {
        return false;
    }
    *text = (const char *)found->data;
    *bytes = found->bytes;
    return true;
}

bool rt_gguf_integer(const rt_gguf *gguf, const char *key, int64_t *value)
{
    const pair *found = find_pair(gguf, key);
    if (found == NULL || !is_integer(found->type)) {
        return false;
    }
    *value = integer_at(found->type, found->data);
    return true;
}

bool rt_gguf_number(const rt_gguf *gguf, const char *key, double *value)
{
    const pair *found = find_pair(gguf, key);
    if (found == NULL || type_bytes((uint64_t)found->type) == 0) {
        return false;
    }
    *value = number_at(found->type, found->data);
    return true;
}

bool rt_gguf_array_find(const rt_gguf *gguf, const char *key, rt_gguf_array *array)
{
    const pair *found = find_pair(gguf, key);
    if (found == NULL || found->type != RT_GGUF_ARRAY) {
        return false;
    }
    *array = found->array;
    return true;
}

const char *rt_gguf_array_text(const rt_gguf_array *array, size_t index, size_t *bytes)
{
    RT_ASSERT(array->starts != NULL && index < array->count);
    const uint8_t *at = array->data + array->starts[index];
    *bytes = (size_t)load(at, 8);
    return (const char *)at + 8;
}

int64_t rt_gguf_array_integer(const rt_gguf_array *array, size_t index)
{
    RT_ASSERT(is_integer(array->type) && index < array->count);
    return integer_at(array->type, array->data + index * (size_t)type_bytes((uint64_t)array->type));
}

double rt_gguf_array_number(const rt_gguf_array *array, size_t index)
{
    int bytes = type_bytes((uint64_t)array->type);
    RT_ASSERT(bytes > 0 && index < array->count);
    return number_at(array->type, array->data + index * (size_t)bytes);
}

int rt_gguf_tensors_count(const rt_gguf *gguf)
{
    return gguf->tensors_count;
}

const rt_gguf_tensor *rt_gguf_tensor_at(const rt_gguf *gguf, int index)
{
    RT_ASSERT(index >= 0 && index < gguf->tensors_count);
    return &gguf->tensors[index];
}

const rt_gguf_tensor *rt_gguf_tensor_find(const rt_gguf *gguf, const char *name)
{
    rt_gguf_tensor wanted = {.dtype = -1};
    if (strlen(name) >= sizeof wanted.name) {
        return NULL;
    }
    memcpy(wanted.name, name, strlen(name) + 1);
    return bsearch(&wanted, gguf->tensors, (size_t)gguf->tensors_count, sizeof *gguf->tensors,
                   compare_names);
}
