/* Tests of memory.c: alignment, zeroing, arenas, buffers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/base.h"

static void assert_zero(const unsigned char *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        assert_int_equal(data[i], 0);
    }
}

static void allocations_are_aligned_and_zero(void **state)
{
    (void)state;
    for (size_t bytes = 0; bytes < 300; bytes += 7) {
        unsigned char *data = rt_alloc(bytes);
        assert_int_equal((uintptr_t)data % 64, 0);
        assert_zero(data, bytes);
        memset(data, 0xff, bytes);
        data = rt_realloc(data, bytes, bytes + 100);
        assert_int_equal((uintptr_t)data % 64, 0);
        for (size_t i = 0; i < bytes; i++) {
            assert_int_equal(data[i], 0xff);
        }
        assert_zero(data + bytes, 100);
        data = rt_realloc(data, bytes + 100, bytes / 2);
        rt_free(data);
    }
    char *fresh = rt_realloc(NULL, 0, 8);
    assert_zero((unsigned char *)fresh, 8);
    rt_free(fresh);
    rt_free(NULL);
}

static void texts_are_copied(void **state)
{
    (void)state;
    char *whole = rt_strdup("retake"), *part = rt_strndup("retake", 2), *all = rt_strndup("re", 9);
    char *made = rt_format("%s-%d", "step", 12);
    assert_string_equal(whole, "retake");
    assert_string_equal(part, "re");
    assert_string_equal(all, "re");
    assert_string_equal(made, "step-12");
    rt_free(whole);
    rt_free(part);
    rt_free(all);
    rt_free(made);
}

static void arena_hands_out_apart_and_zero(void **state)
{
    (void)state;
    rt_arena *arena = rt_arena_new(2048);
    for (int round = 0; round < 3; round++) {
        unsigned char *items[200];
        for (size_t i = 0; i < RT_COUNT(items); i++) {
            size_t bytes = i == 50 ? 10000 : i;
            items[i] = rt_arena_alloc(arena, bytes);
            assert_int_equal((uintptr_t)items[i] % 16, 0);
            assert_zero(items[i], bytes);
            memset(items[i], (int)i, bytes);
        }
        for (size_t i = 0; i < RT_COUNT(items); i++) {
            for (size_t k = 0; k < i; k++) {
                assert_int_equal(items[i][k], i);
            }
        }
        rt_arena_reset(arena);
    }
    rt_arena_free(&arena);
    assert_null(arena);
    rt_arena_free(&arena);
    arena = rt_arena_new(0);
    rt_arena_reset(arena);
    rt_arena_free(&arena);
}

static void buffer_grows_and_ends_in_nul(void **state)
{
    (void)state;
    rt_buf buf = {0};
    rt_buf_clear(&buf);
    for (int i = 0; i < 1000; i++) {
        rt_buf_addf(&buf, "%d,", i);
        rt_buf_add(&buf, "\0z", 2);
        assert_true(buf.bytes < buf.capacity);
        assert_int_equal(buf.data[buf.bytes], '\0');
    }
    assert_int_equal(buf.bytes, 10 * 2 + 90 * 3 + 900 * 4 + 2000);
    assert_memory_equal(buf.data, "0,\0z1,\0z", 8);
    size_t capacity = buf.capacity;
    rt_buf_clear(&buf);
    assert_int_equal(buf.capacity, capacity);
    assert_string_equal(buf.data, "");
    rt_buf_free(&buf);
    assert_null(buf.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocations_are_aligned_and_zero),
        cmocka_unit_test(texts_are_copied),
        cmocka_unit_test(arena_hands_out_apart_and_zero),
        cmocka_unit_test(buffer_grows_and_ends_in_nul),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
