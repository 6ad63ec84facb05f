/* Localization and verification texts: both reading orders, own cases and golden ones. */
#include "tasks/tasks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

typedef struct locate_case {
    const char *text;
    int thoughts, srpo;
    bool srpo_failed;
    int ics;
    bool ics_failed;
} locate_case;

static const locate_case cases[] = {
    {"1:7+5=2y\n2:2*3=7n\n\\boxed{2}", 4, 2, false, 2, false},
    {"nothing is wrong \\boxed{0}", 4, 0, false, 0, false},
    {"\\boxed{4}", 4, 4, false, 4, false},
    {"\\boxed{5}", 4, 1, true, 2, true},
    {"\\boxed{+3}", 4, 3, false, 3, false},
    {"\\boxed{-0}", 4, 0, false, 0, false},
    {"\\boxed{-3}", 4, 1, true, 3, false},
    {"\\boxed{99999999999999999999}", 4, 1, true, 2, true},
    {"99999999999999999999 and 3", 4, 1, true, 2, true},
    {"\\boxed{3} and \\boxed{2 is open", 4, 3, false, 3, false},
    {"\\boxed{a{3}", 4, 1, true, 3, false},
    {"}}} \\boxed{3} {{{", 4, 3, false, 3, false},
    {"\\boxed{\\boxed{3}}", 4, 3, false, 3, false},
    {"\\boxed{3 4} step\t2", 4, 2, false, 3, false},
    {"Step 3 and then Step two", 4, 3, false, 3, false},
    {"misstep 3", 4, 3, false, 3, false},
    {"Step 3", 2, 1, true, 1, true},
    {"Step", 4, 1, true, 2, true},
    {"step ", 4, 1, true, 2, true},
    {"\\boxed{", 4, 1, true, 2, true},
    {"{1}", 4, 1, true, 1, false},
    {"", 0, 1, true, 1, true},
};

static void own_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < RT_COUNT(cases); i++) {
        const locate_case *one = &cases[i];
        bool failed;
        size_t bytes = strlen(one->text);
        int value = rt_localize_parse(one->text, bytes, one->thoughts, &failed);
        if (value != one->srpo || failed != one->srpo_failed) {
            fail_msg("\"%s\": %d, failed %d", one->text, value, failed);
        }
        value = rt_ics_localize_parse(one->text, bytes, one->thoughts, &failed);
        if (value != one->ics || failed != one->ics_failed) {
            fail_msg("\"%s\" in the other order: %d, failed %d", one->text, value, failed);
        }
    }
    /* Nothing behind `bytes` is read: the box is cut open here. */
    bool failed;
    assert_int_equal(rt_localize_parse("Step 2 \\boxed{3}", 15, 4, &failed), 2);
    assert_int_equal(rt_localize_parse("Step 23", 6, 4, &failed), 2);
}

static void clamping(void **state)
{
    (void)state;
    assert_int_equal(rt_localize_clamp(0, 5), 1);
    assert_int_equal(rt_localize_clamp(3, 5), 3);
    assert_int_equal(rt_localize_clamp(9, 5), 5);
    assert_int_equal(rt_localize_clamp(3, 0), 1);
}

static int verify(const char *text, bool as_released)
{
    return rt_verify_parse(text, strlen(text), as_released);
}

static void verification(void **state)
{
    (void)state;
    assert_int_equal(verify("fine, \\boxed{YES}", false), RT_VERIFY_YES);
    assert_int_equal(verify("yes at first, but \\boxed{no}", false), RT_VERIFY_NO);
    assert_int_equal(verify("Yes.", false), RT_VERIFY_YES);
    assert_int_equal(verify("Yes.", true), RT_VERIFY_NO);
    assert_int_equal(verify("no or yes", false), RT_VERIFY_UNDECIDED);
    assert_int_equal(verify("", false), RT_VERIFY_UNDECIDED);
    assert_int_equal(verify("", true), RT_VERIFY_NO);
    assert_int_equal(verify("\\boxed{?} yes", true), RT_VERIFY_YES);
}

/* A missing folder skips the test, a broken file in it does not. */
static json_t *golden(const char *path)
{
    if (!rt_file_exists("../shared/golden")) {
        skip();
    }
    json_error_t error;
    json_t *rows = json_load_file(path, 0, &error);
    if (!rows) {
        fail_msg("%s:%d: %s", path, error.line, error.text);
    }
    assert_true(json_array_size(rows) > 0);
    return rows;
}

static int integer(const json_t *row, const char *key)
{
    const json_t *value = json_object_get(row, key);
    assert_true(json_is_integer(value));
    return (int)json_integer_value(value);
}

static void golden_localize(void **state)
{
    (void)state;
    json_t *rows = golden("../shared/golden/localize_parse.json"), *row;
    size_t i;
    json_array_foreach(rows, i, row) {
        const char *text = json_string_value(json_object_get(row, "text"));
        int thoughts = integer(row, "thoughts");
        bool failed;
        int value = rt_localize_parse(text, strlen(text), thoughts, &failed);
        int ics = rt_ics_localize_parse(text, strlen(text), thoughts, &failed);
        if (value != integer(row, "srpo") || ics != integer(row, "thought_ics")) {
            fail_msg("\"%s\" of %d: %d and %d", text, thoughts, value, ics);
        }
        assert_int_equal(rt_localize_clamp(value, thoughts), integer(row, "srpo_clamped"));
    }
    json_decref(rows);
}

static void golden_verify(void **state)
{
    (void)state;
    json_t *rows = golden("../shared/golden/verify_parse.json"), *row;
    size_t i;
    json_array_foreach(rows, i, row) {
        const char *text = json_string_value(json_object_get(row, "text"));
        const json_t *shadow = json_object_get(row, "srpo_shadow");
        int want = json_is_null(shadow) ? RT_VERIFY_UNDECIDED : json_is_true(shadow);
        if (verify(text, false) != want ||
            verify(text, true) != json_is_true(json_object_get(row, "thought_ics"))) {
            fail_msg("\"%s\": %d and %d", text, verify(text, false), verify(text, true));
        }
    }
    json_decref(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_cases),       cmocka_unit_test(clamping),
        cmocka_unit_test(verification),    cmocka_unit_test(golden_localize),
        cmocka_unit_test(golden_verify),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
