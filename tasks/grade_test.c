/* Graders: cases of our own, the golden files when they are there, and hostile input. */
#include "tasks/tasks.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static int grade(const char *grader, const char *response, const char *gold)
{
    rt_verdict verdict;
    rt_error err;
    int code = rt_grade_response(grader, response, strlen(response), gold, &verdict, &err);
    assert_int_equal(code, 0);
    assert_true(verdict.reward == (verdict.grade == RT_CORRECT ? 1.0 : 0.0));
    return verdict.grade;
}

typedef struct row {
    const char *response, *gold;
    int grade;
} row;

static void check(const char *grader, const row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int got = grade(grader, rows[i].response, rows[i].gold);
        if (got != rows[i].grade) {
            fail_msg("%s: \"%s\" against \"%s\" is %s", grader, rows[i].response, rows[i].gold,
                     rt_grade_name(got));
        }
    }
}

static void boxes(void **state)
{
    (void)state;
    const char *text = "\\boxed{a} then \\boxed{\\frac{1}{2}} and \\boxed{open", *at;
    size_t bytes;
    assert_true(rt_boxed_last(text, strlen(text), &at, &bytes));
    assert_int_equal(bytes, 11);
    assert_memory_equal(at, "\\frac{1}{2}", 11);
    assert_true(rt_boxed_first(text, strlen(text), &at, &bytes));
    assert_int_equal(bytes, 1);
    assert_false(rt_boxed_last("\\boxed{x", 8, &at, &bytes));
    assert_true(rt_boxed_last("\\boxed{\\{1\\}}", 13, &at, &bytes));
    assert_int_equal(bytes, 5);
    assert_true(rt_boxed_last("\\boxed{}", 8, &at, &bytes));
    assert_int_equal(bytes, 0);
}

static void unknown_grader(void **state)
{
    (void)state;
    rt_verdict verdict;
    rt_error err;
    assert_int_equal(rt_grade_response("maths", "1", 1, "1", &verdict, &err), RT_ERR_USAGE);
    assert_non_null(strstr(err.message, "maths"));
}

static void exact(void **state)
{
    (void)state;
    static const row rows[] = {
        {" 8\n", "8", RT_CORRECT}, {"6-8=8\\boxed{8}</thought>", "8", RT_CORRECT},
        {"6-8=8</thought>", "8", RT_WRONG}, {"\\boxed{08}", "8", RT_WRONG}, {"", "8", RT_WRONG},
    };
    check("exact", rows, RT_COUNT(rows));
}

static void number(void **state)
{
    (void)state;
    static const row rows[] = {
        {"\\boxed{1,234}", "1234.0", RT_CORRECT}, {"\\boxed{1234.5}", "1234", RT_WRONG},
        {"so 5.\n#### 1,200", "1200", RT_CORRECT},
        {"The answer is $18. I hope so 7", "18", RT_CORRECT},
        {"#### 5 and \\boxed{6}", "6", RT_CORRECT},
        {"I have 3 apples and 4 pears.", "4", RT_CORRECT},
        {"\\boxed{\\$12.50}", "12.5", RT_CORRECT}, {"\\boxed{40\\%}", "40", RT_CORRECT},
        {"\\boxed{40\\%}", "0.4", RT_CORRECT}, {"\\boxed{40\\%}", "4", RT_WRONG},
        {"\\boxed{\\frac{1}{3}}", "2/6", RT_CORRECT}, {"\\boxed{0.333333}", "1/3", RT_WRONG},
        {"\\boxed{12\\frac{1}{2}}", "12.5", RT_CORRECT}, {"\\boxed{2 1/3}", "7/3", RT_CORRECT},
        {"\\boxed{3.2 \\times 10^{5}}", "320000", RT_CORRECT},
        {"\\boxed{1e-3}", "0.001", RT_CORRECT},
        {"\\boxed{1e1000000}", "10", RT_WRONG}, {"\\boxed{-0}", "0", RT_CORRECT},
        {"\\boxed{15 \\text{ km/h}}", "15", RT_CORRECT}, {"\\boxed{- 5}", "-5", RT_CORRECT},
        {"\\boxed{72 clips}", "72", RT_CORRECT}, {"\\boxed{x = 7}", "7", RT_CORRECT},
        {"\\boxed{5:30}", "5", RT_UNDECIDED}, {"\\boxed{}", "5", RT_WRONG},
        {"\\boxed{2^3}", "8", RT_CORRECT}, {"no idea", "5", RT_WRONG}, {"", "5", RT_WRONG},
        {"\\boxed{5/0}", "5", RT_UNDECIDED}, {"\\boxed{.5}", "0.50", RT_CORRECT},
        {"\\boxed{100000000000000000000000000000000001}",
         "100000000000000000000000000000000000", RT_WRONG},
        {"so 10 - 4 = 6", "6", RT_CORRECT}, {"The answer is 9 * 2 = 18", "18", RT_CORRECT},
        {"7 + 5 = 12, minus -3", "-3", RT_CORRECT},
    };
    check("number", rows, RT_COUNT(rows));
}

static void choice(void **state)
{
    (void)state;
    static const row rows[] = {
        {"\\boxed{b}", "B", RT_CORRECT}, {"The answer is (C).", "C", RT_CORRECT},
        {"so a)", "(A)", RT_CORRECT}, {"It must be D", "D", RT_CORRECT},
        {"\\boxed{\\text{E}}", "E", RT_UNDECIDED}, {"none of these", "A", RT_WRONG},
        {"\\boxed{K}", "A", RT_UNDECIDED}, {"", "A", RT_WRONG}, {"J", "J", RT_CORRECT},
    };
    check("choice", rows, RT_COUNT(rows));
}

static void yesno(void **state)
{
    (void)state;
    static const row rows[] = {
        {"I know it: yes.", "yes", RT_CORRECT}, {"yes? no", "Yes", RT_WRONG},
        {"NO", "false", RT_CORRECT}, {"nothing known", "no", RT_WRONG},
        {"\\boxed{maybe}", "no", RT_UNDECIDED},
    };
    check("yesno", rows, RT_COUNT(rows));
}

static void steps(void **state)
{
    (void)state;
    static const row rows[] = {
        {"4+3=7\n7*3=1\\boxed{1}\n", "7 1", RT_CORRECT},
        {"4+3=7;ab</thought>7?2k=7\\boxed{7}</thought>", " 7  7\n", RT_CORRECT},
        {"4+3=8\n8*3=1\\boxed{1}", "7 1", RT_WRONG}, /* right by accident */
        {"4+3=7\n7*3=1\\boxed{2}", "7 1", RT_WRONG}, {"4+3=7\n7*3=1", "7 1", RT_WRONG},
        {"4+3=7\\boxed{7}", "7 1", RT_WRONG}, {"4+3=7\n7*3=1\n1+0=1\\boxed{1}", "7 1", RT_WRONG},
        {"4+3=7\n7*3=\\boxed{1}", "7 1", RT_WRONG}, {"4+3=71\n7*3=1\\boxed{1}", "7 1", RT_WRONG},
        {"4+3=7;x</thought>7+k=7\\boxed{7}", "4+3=7 7+k=7", RT_CORRECT},
        {"4+3=7\n7+j=7\\boxed{7}", "4+3=7 7+k=7", RT_WRONG}, /* right result, another step */
        {"14+3=7\n7+k=7\\boxed{7}", "4+3=7 7+k=7", RT_WRONG},
        {"+3=7\n7+k=7\\boxed{7}", "4+3=7 7+k=7", RT_WRONG},
        {"4+3=8\n7+k=7\\boxed{7}", "4+3=7 7+k=7", RT_WRONG}, {"=\\boxed{}", "=", RT_WRONG},
        {"\\boxed{1}", "1", RT_WRONG}, {"", "1", RT_WRONG}, {"=", "", RT_WRONG}, {"", "", RT_WRONG},
    };
    check("steps", rows, RT_COUNT(rows));
}

/* ---- golden files ------------------------------------------------------------------------ */

static json_t *golden(const char *name)
{
    char path[200];
    snprintf(path, sizeof path, "../shared/golden/%s", name);
    json_t *json = json_load_file(path, 0, NULL);
    if (!json) {
        skip();
    }
    return json;
}

static void golden_letters(void **state)
{
    (void)state;
    json_t *rows = golden("choice_parse.json"), *item;
    size_t i;
    json_array_foreach(rows, i, item) {
        const char *text = json_string_value(json_object_get(item, "text"));
        const char *letter = json_string_value(json_object_get(item, "letter"));
        rt_verdict verdict;
        rt_grade_response("choice", text, strlen(text), *letter ? letter : "A", &verdict, NULL);
        if (strcmp(verdict.extracted, letter) || (*letter && verdict.grade != RT_CORRECT)) {
            fail_msg("\"%s\": %s instead of %s", text, verdict.extracted, letter);
        }
    }
    json_decref(rows);
}

static void golden_words(void **state)
{
    (void)state;
    json_t *rows = golden("yesno_parse.json"), *item;
    size_t i;
    json_array_foreach(rows, i, item) {
        const char *text = json_string_value(json_object_get(item, "text"));
        const char *answer = json_string_value(json_object_get(item, "answer"));
        rt_verdict verdict;
        rt_grade_response("yesno", text, strlen(text), *answer ? answer : "yes", &verdict, NULL);
        if (strcmp(verdict.extracted, answer) || (*answer && verdict.grade != RT_CORRECT)) {
            fail_msg("\"%s\": %s instead of %s", text, verdict.extracted, answer);
        }
    }
    json_decref(rows);
}

/* ---- hostile input ----------------------------------------------------------------------- */

/* prefix + middle × count + suffix × count, graded by all graders, as response and as gold. */
static void hostile_one(const char *prefix, const char *middle, const char *suffix, size_t count)
{
    static const char *const names[] = {"exact", "number", "choice", "yesno", "math", "steps"};
    rt_buf text = {0};
    rt_verdict verdict;
    rt_buf_addf(&text, "%s", prefix);
    for (size_t i = 0; i < count; i++) {
        rt_buf_add(&text, middle, strlen(middle));
    }
    for (size_t i = 0; i < count; i++) {
        rt_buf_add(&text, suffix, strlen(suffix));
    }
    for (size_t i = 0; i < RT_COUNT(names); i++) {
        int64_t begin = rt_now_ns();
        rt_grade_response(names[i], text.data, text.bytes, "12", &verdict, NULL);
        rt_grade_response(names[i], "\\boxed{12}", 10, text.data, &verdict, NULL);
        int64_t took_ms = (rt_now_ns() - begin) / 1000000;
        /* Milliseconds on an idle machine; the bound only tells a few from a quadratic blow-up. */
        if (took_ms > 2000) {
            fail_msg("%s takes %lld ms on %s%s...", names[i], (long long)took_ms, prefix, middle);
        }
    }
    rt_buf_free(&text);
}

static void hostile(void **state)
{
    (void)state;
    hostile_one("", "{", "", 1 << 20);
    hostile_one("\\boxed{", "{", "}", 100000);
    hostile_one("", "\\boxed{", "", 150000);
    hostile_one("\\boxed{", "\\frac{1}{", "}", 100000);
    hostile_one("\\boxed{", "\\frac{1}{", "}", 200);
    hostile_one("\\boxed{", "-", "", 1900);
    hostile_one("\\boxed{9", "9", "", 1000000);
    hostile_one("", "9", "", 1000000);
    hostile_one("", "9 ", "", 100000);
    hostile_one("the answer is ", "9-", "", 100000);
    hostile_one("", "answer is ", "", 100000);
    hostile_one("\\boxed{", "\\sqrt{2}+", "}", 20);
    hostile_one("\\boxed{(a+b+c+d+e+f+g)", "^9", "}", 10);
    hostile_one("\\boxed{2", "^{99", "}", 20);
    hostile_one("\\boxed{", "\\sqrt{9999999967}*", "}", 90);
    hostile_one("\\boxed{", "1,", "", 20000);
    hostile_one("\\boxed{1", "\\pm 1", "", 200);
    hostile_one("\\boxed{9^9^9^9^9!!!", "!", "", 1000);
    hostile_one("\\boxed{", "((1,2),", ")}", 200);
    hostile_one("\\boxed{1e", "9", "}", 1);
    hostile_one("\\boxed{", "\\text{", "}", 900);
    hostile_one("", "$", "", 100000);
    hostile_one("", "####", "", 100000);
    hostile_one("", "=12 ", "", 100000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(boxes), cmocka_unit_test(unknown_grader), cmocka_unit_test(exact),
        cmocka_unit_test(number), cmocka_unit_test(choice), cmocka_unit_test(yesno),
        cmocka_unit_test(steps),
        cmocka_unit_test(golden_letters), cmocka_unit_test(golden_words), cmocka_unit_test(hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
