/* Tests of log.c and clock.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

static void lines_have_one_form(void **state)
{
    (void)state;
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    rt_log log;
    rt_log_init(&log, "actor-3", RT_INFO);
    assert_ptr_equal(log.out, stderr);
    log.out = out;
    rt_log_line(&log, RT_DEBUG, "not seen");
    rt_log_line(&log, RT_WARN, "slow by %d %%\nsecond", 20);
    rt_log_line(&log, RT_ERROR, "%s", "");
    fclose(out);
    int hour, minute, second, used = 0;
    assert_int_equal(sscanf(text, "%2d:%2d:%2d%n", &hour, &minute, &second, &used), 3);
    assert_int_equal(used, 8);
    const char *first = " actor-3 warn: slow by 20 % second\n";
    assert_memory_equal(text + 8, first, strlen(first));
    assert_string_equal(text + 8 + strlen(first) + 8, " actor-3 error: \n");
    free(text);
}

static void clocks_move_forward(void **state)
{
    (void)state;
    int64_t before = rt_now_ns(), after = rt_now_ns();
    assert_true(after >= before);
    assert_true(rt_wall_ms() > INT64_C(1600000000000)); /* after 2020 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_have_one_form),
        cmocka_unit_test(clocks_move_forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
