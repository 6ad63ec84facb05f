/* Tests of error.c: messages, cutting, exit codes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/base.h"

static void code_and_message_are_kept(void **state)
{
    (void)state;
    rt_error err = {0};
    int code = rt_fail(&err, RT_ERR_INPUT, "line %d is bad", 7);
    assert_int_equal(code, RT_ERR_INPUT);
    assert_int_equal(err.code, RT_ERR_INPUT);
    assert_string_equal(err.message, "line 7 is bad");
    assert_non_null(strstr(err.file, "error_test.c"));
    assert_int_equal(rt_error_prefix(&err, "%s:%d", "a.yaml", 3), RT_ERR_INPUT);
    assert_string_equal(err.message, "a.yaml:3: line 7 is bad");
    rt_fail(&err, RT_ERR_IO, "again: %s", err.message);
    assert_string_equal(err.message, "again: a.yaml:3: line 7 is bad");
    assert_int_equal(rt_fail(NULL, RT_ERR_MATH, "nowhere to put it"), RT_ERR_MATH);
    assert_int_equal(rt_error_prefix(NULL, "x"), RT_OK);
}

static void long_messages_end_whole(void **state)
{
    (void)state;
    rt_error err;
    char text[1000];
    for (size_t i = 0; i + 2 < sizeof text; i += 2) {
        memcpy(text + i, "\xc3\xa9\0", 3);
    }
    for (int shift = 0; shift < 2; shift++) {
        rt_fail(&err, RT_ERR_INPUT, "%s%s", shift ? "x" : "", text);
        size_t length = strlen(err.message);
        assert_true(length >= sizeof err.message - 6 && length < sizeof err.message);
        assert_string_equal(err.message + length - 3, "...");
        assert_int_equal(rt_utf8_valid(err.message, length), length);
        rt_error_prefix(&err, "%s", text);
        length = strlen(err.message);
        assert_true(length < sizeof err.message);
        assert_int_equal(rt_utf8_valid(err.message, length), length);
    }
}

static void codes_have_texts_and_exits(void **state)
{
    (void)state;
    assert_string_equal(rt_code_text(RT_OK), "ok");
    assert_string_equal(rt_code_text(RT_ERR_NOMEM), "out of memory");
    assert_string_equal(rt_code_text(12345), "unknown error");
    assert_int_equal(rt_exit_code(RT_OK), 0);
    assert_int_equal(rt_exit_code(RT_ERR_USAGE), 2);
    assert_int_equal(rt_exit_code(RT_ERR_STOPPED), 130);
    assert_int_equal(rt_exit_code(RT_ERR_IO), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(code_and_message_are_kept),
        cmocka_unit_test(long_messages_end_whole),
        cmocka_unit_test(codes_have_texts_and_exits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
