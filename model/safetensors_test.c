/* safetensors: what is written is read back bit for bit; each kind of damage has its sentence. */
#include "model/model.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/retake-safetensors-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    (void)state;
    return rt_remove_tree(folder, NULL);
}

/* A file of a header and `bytes` zero bytes; free with rt_buf_free. */
static rt_buf file_of(const char *header, size_t bytes)
{
    rt_buf file = {0};
    uint64_t length = strlen(header);
    char *zeros = rt_alloc(bytes + 1);
    rt_buf_add(&file, &length, sizeof length);
    rt_buf_add(&file, header, length);
    rt_buf_add(&file, zeros, bytes);
    rt_free(zeros);
    return file;
}

static void refuse(const void *data, size_t bytes, const char *part)
{
    rt_safetensors *file = NULL;
    rt_error err = {0};
    assert_int_equal(rt_safetensors_parse(&file, data, bytes, &err), RT_ERR_INPUT);
    assert_null(file);
    if (strstr(err.message, part) == NULL) {
        fail_msg("expected \"%s\" in \"%s\"", part, err.message);
    }
}

static void refuse_header(const char *header, size_t bytes, const char *part)
{
    rt_buf file = file_of(header, bytes);
    refuse(file.data, file.bytes, part);
    rt_buf_free(&file);
}

static void round_trip(void **state)
{
    (void)state;
    const float f32[6] = {1.5f, -0.0f, 3e-45f, 1e38f, -7, 0.1f};
    const uint16_t bf16[3] = {0x3f80, 0x7fc0, 0x8001}, f16[1] = {0x3c00};
    const int32_t i32[2] = {-1, INT32_MAX};
    const rt_st_tensor tensors[] = {
        {"half \"quoted\" é", RT_BF16, 1, {3}, bf16, 6},
        {"matrix", RT_F32, 2, {2, 3}, f32, 24},
        {"small", RT_F16, 3, {1, 1, 1}, f16, 2},
        {"ids", RT_I32, 1, {2}, i32, 8},
        {"scalar", RT_F32, 0, {0}, f32, 4},
        {"empty", RT_F32, 2, {0, 5}, f32, 0},
    };
    const char *const metadata[] = {"format", "pt", "note", "line\nline", NULL};
    char *path = rt_format("%s/a.safetensors", folder);
    rt_error err;
    assert_int_equal(rt_safetensors_write(path, tensors, 6, metadata, &err), RT_OK);
    /* Written again over itself: the old file is replaced as a whole. */
    assert_int_equal(rt_safetensors_write(path, tensors, 6, metadata, &err), RT_OK);
    rt_safetensors *file;
    assert_int_equal(rt_safetensors_open(&file, path, &err), RT_OK);
    assert_int_equal(rt_safetensors_count(file), 6);
    for (size_t i = 0; i < RT_COUNT(tensors); i++) {
        const rt_st_tensor *found = rt_safetensors_find(file, tensors[i].name);
        assert_non_null(found);
        assert_int_equal(found->dtype, tensors[i].dtype);
        assert_int_equal(found->dims, tensors[i].dims);
        assert_int_equal(found->bytes, tensors[i].bytes);
        assert_memory_equal(found->shape, tensors[i].shape, sizeof(int64_t) * (size_t)found->dims);
        assert_memory_equal(found->data, tensors[i].data, found->bytes);
        size_t width = found->dtype == RT_F32 || found->dtype == RT_I32 ? 4 : 2;
        assert_int_equal((uintptr_t)found->data % width, 0);
    }
    assert_string_equal(rt_safetensors_metadata(file, "note"), "line\nline");
    assert_null(rt_safetensors_metadata(file, "absent"));
    assert_null(rt_safetensors_find(file, "absent"));
    rt_safetensors_close(&file);
    rt_free(path);
}

static void truncated(void **state)
{
    (void)state;
    static const char header[] =
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    rt_buf file = file_of(header, 8);
    rt_safetensors *good;
    rt_error err;
    assert_int_equal(rt_safetensors_parse(&good, file.data, file.bytes, &err), RT_OK);
    rt_safetensors_close(&good);
    /* Every shorter prefix is refused, from a copy of its exact size so that a sanitizer sees. */
    for (size_t bytes = 0; bytes < file.bytes; bytes++) {
        char *copy = malloc(bytes + 1);
        memcpy(copy, file.data, bytes);
        refuse(copy, bytes, bytes < 8 ? "only" : "cut off");
        free(copy);
    }
    rt_buf_free(&file);
}

static void damaged(void **state)
{
    (void)state;
#define A "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"
    refuse_header("{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12,
                  "tensors a and b overlap");
    refuse_header("{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[12,16]}}", 16,
                  "4 bytes before tensor b");
    refuse_header("{" A "}", 9, "1 bytes after the last tensor");
    refuse_header("{" A "," A "}", 8, "no JSON object");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8,
                  "tensor a has 8 bytes");
    refuse_header("{\"a\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8,
                  "stored as F64");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8,
                  "impossible shape");
    /* 2^62 × 4 elements of 4 bytes: products that wrap around to small numbers. */
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],"
                  "\"data_offsets\":[0,0]}}", 0, "impossible shape");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],"
                  "\"data_offsets\":[0,0]}}", 0, "another number");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1],\"data_offsets\":[0,4]}}", 4,
                  "at most 4 dimensions");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8,
                  "bytes 8 to 0");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8,
                  "bytes -8 to 0");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8,
                  "no data_offsets");
    refuse_header("{\"a\":7}", 0, "stored as nothing");
    refuse_header("{\"__metadata__\":{\"k\":1}}", 0, "__metadata__");
    refuse_header("[]", 0, "no JSON object");
    refuse_header("{\"a\":", 0, "no JSON object");
#undef A
}

static void oversized_header(void **state)
{
    (void)state;
    uint64_t length = 100000001;
    size_t bytes = 8 + (size_t)length;
    char *data = rt_alloc(bytes); /* the header is really there, it is only too large */
    memset(data + 8, ' ', (size_t)length);
    memcpy(data, &length, sizeof length);
    memcpy(data + 8, "{}", 2);
    refuse(data, bytes, "header claims 100000001 bytes");
    rt_free(data);
    length = UINT64_MAX;
    refuse(&length, sizeof length, "header claims");
}

static void failing_write(void **state)
{
    (void)state;
    const rt_st_tensor twice[] = {{"a", RT_F32, 1, {0}, "", 0}, {"a", RT_F32, 1, {0}, "", 0}};
    char *path = rt_format("%s/none/a.safetensors", folder);
    rt_error err;
    assert_int_equal(rt_safetensors_write(path, twice, 1, NULL, &err), RT_ERR_IO);
    assert_non_null(strstr(err.message, "No such file"));
    rt_free(path);
    path = rt_format("%s/twice.safetensors", folder);
    assert_int_equal(rt_safetensors_write(path, twice, 2, NULL, &err), RT_ERR_INPUT);
    assert_false(rt_file_exists(path));
    rt_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),       cmocka_unit_test(truncated),
        cmocka_unit_test(damaged),          cmocka_unit_test(oversized_header),
        cmocka_unit_test(failing_write),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
