/* Tests of hash.c against the published XXH3 values of the empty input. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base.h"

static void empty_input_has_the_published_hash(void **state)
{
    (void)state;
    char hex[33];
    rt_hash_hex(rt_hash("", 0), hex);
    assert_string_equal(hex, "99aa06d3014798d86001c324468d497f");
    assert_true(rt_hash64("", 0, 0) == UINT64_C(0x2d06800538d394c2));
}

static void every_byte_counts(void **state)
{
    (void)state;
    unsigned char data[300] = {0};
    rt_hash128 plain = rt_hash(data, sizeof data);
    uint64_t plain64 = rt_hash64(data, sizeof data, 1);
    assert_true(rt_hash_equal(plain, rt_hash(data, sizeof data)));
    assert_true(plain64 != rt_hash64(data, sizeof data, 2));
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = 1;
        assert_false(rt_hash_equal(plain, rt_hash(data, sizeof data)));
        assert_true(plain64 != rt_hash64(data, sizeof data, 1));
        data[i] = 0;
    }
    assert_false(rt_hash_equal((rt_hash128){1, 2}, (rt_hash128){1, 3}));
    assert_false(rt_hash_equal((rt_hash128){1, 2}, (rt_hash128){0, 2}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_input_has_the_published_hash),
        cmocka_unit_test(every_byte_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
