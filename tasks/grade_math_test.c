/* The grader math: cases of our own, the golden file when it is there, threads, hostile input. */
#include "tasks/tasks.h"

#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static int grade(const char *response, const char *gold)
{
    rt_verdict verdict;
    rt_error err;
    assert_int_equal(rt_grade_response("math", response, strlen(response), gold, &verdict, &err), 0);
    assert_true(verdict.reward == (verdict.grade == RT_CORRECT ? 1.0 : 0.0));
    return verdict.grade;
}

static int grade_boxed(const char *answer, const char *gold)
{
    char *response = rt_format("so \\boxed{%s}.", answer);
    int got = grade(response, gold);
    rt_free(response);
    return got;
}

typedef struct row {
    const char *answer, *gold;
    int grade;
} row;

/* Equality has no direction. */
static void check(const row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int got = grade_boxed(rows[i].answer, rows[i].gold);
        int turned = grade_boxed(rows[i].gold, rows[i].answer);
        if (got != rows[i].grade || turned != got) {
            fail_msg("\"%s\" against \"%s\" is %s, turned round %s", rows[i].answer, rows[i].gold,
                     rt_grade_name(got), rt_grade_name(turned));
        }
    }
}

/* Whole responses. */
static const row responses[] = {
    {"\\boxed{\\sqrt{8}}", "2\\sqrt2", RT_CORRECT},
    {"\\boxed{\\frac{1}{\\sqrt{2}+1}}", "\\sqrt{2}-1", RT_CORRECT},
    {"\\boxed{\\sqrt{2}+\\sqrt{3}}", "\\sqrt{5}", RT_WRONG},
    {"\\boxed{\\sqrt[3]{27}}", "3", RT_CORRECT}, {"\\boxed{8^{1/3}}", "2", RT_CORRECT},
    {"\\boxed{8^{-\\frac{2}{3}}}", "\\frac14", RT_CORRECT},
    {"\\boxed{\\sqrt{-4}}", "2i", RT_CORRECT}, {"\\boxed{(1+i)^2}", "2i", RT_CORRECT},
    {"\\boxed{\\frac{1}{i}}", "-i", RT_CORRECT},
    {"\\boxed{\\frac{x^2-1}{x-1}}", "x+1", RT_CORRECT},
    {"\\boxed{\\frac{x^2-1}{x-1}}", "x-1", RT_WRONG},
    {"\\boxed{1 \\pm \\sqrt{2}}", "1-\\sqrt2, 1+\\sqrt2", RT_CORRECT},
    {"\\boxed{x = 1 \\pm \\sqrt{3}}", "1 \\pm \\sqrt{2}", RT_WRONG},
    {"\\boxed{y = 2x+1}", "2x - y + 1 = 0", RT_CORRECT},
    {"\\boxed{y = 2x+1}", "y = 2x-1", RT_WRONG}, {"\\boxed{2x+1}", "y = 2x+1", RT_CORRECT},
    {"\\boxed{1 < x \\le 3}", "3 \\ge x > 1", RT_CORRECT},
    {"\\boxed{1 < x < 3}", "1 < x \\le 3", RT_WRONG},
    {"\\boxed{\\sin x}", "\\sin x", RT_CORRECT},
    {"\\boxed{2^{100}}", "2^{101}", RT_WRONG}, {"\\boxed{10^{1000000}}", "10", RT_UNDECIDED},
    {"\\boxed{100, 200}", "200,100", RT_CORRECT}, {"\\boxed{100,200}", "100200", RT_CORRECT},
    {"\\boxed{x^2 = 4}", "x = \\pm 2", RT_UNDECIDED}, {"\\boxed{x = 2}", "2,3", RT_WRONG},
    {"\\boxed{30^\\circ}", "30", RT_CORRECT}, {"\\boxed{x \\in [0,1)}", "[0,1)", RT_CORRECT},
    {"\\boxed{\\text{no solution}}", "5", RT_WRONG}, {"\\boxed{|-3|}", "3", RT_CORRECT},
    {"\\boxed{x_1 + x_2}", "x_2+x_{1}", RT_CORRECT}, {"\\boxed{}", "1", RT_WRONG},
    {"\\boxed{0}", "\\sqrt{0}", RT_CORRECT}, {"\\boxed{\\frac{1}{0}}", "1", RT_UNDECIDED},
    {"\\boxed{\\log_{10} 1000}", "3", RT_CORRECT}, {"x+y", "y+x", RT_CORRECT},
    {"\\boxed{5 \\text{ and } 6}", "5,6", RT_CORRECT}, {"\\boxed{dog}", "god", RT_UNDECIDED},
    {"\\boxed{1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,"
     "31,32,33}", "1,2", RT_UNDECIDED},
    {"\\boxed{\\begin{pmatrix}1 & 2\\\\3 & 4\\end{pmatrix}}",
     "\\begin{bmatrix} 1&2 \\\\ 3&\\frac{8}{2} \\end{bmatrix}", RT_CORRECT},
    {"\\boxed{\\frac{2}{1 - \\frac{1}{1 - \\frac12}}}", "-2", RT_CORRECT},
    {"\\boxed{\\emptyset}", "\\{\\}", RT_CORRECT},
    {"\\boxed{\\begin{cases}1\\end{cases}}", "1", RT_UNDECIDED},
};

static const row roots[] = {
    {"\\sqrt{3+2\\sqrt2}", "1+\\sqrt2", RT_CORRECT},
    {"\\sqrt{5+2\\sqrt6}", "\\sqrt2+\\sqrt3", RT_CORRECT},
    {"\\sqrt{5+2\\sqrt6}", "\\sqrt2+\\sqrt5", RT_WRONG},
    {"\\sqrt[3]{2+\\sqrt5}", "\\frac{1+\\sqrt5}{2}", RT_CORRECT},
    {"\\sqrt[3]{-8}", "-2", RT_CORRECT},
    {"(-8)^{1/3}", "-2", RT_CORRECT},
    {"(-8)^{1/3}", "2", RT_UNDECIDED},
    {"\\sqrt{12}", "2\\sqrt3", RT_CORRECT},
    {"\\sqrt6", "\\sqrt2\\sqrt3", RT_CORRECT},
    {"\\frac{1}{\\sqrt2}", "\\frac{\\sqrt2}{2}", RT_CORRECT},
    {"\\frac{1}{\\sqrt2+\\sqrt3+\\sqrt5}",
     "\\frac{\\sqrt{30}-2\\sqrt3-3\\sqrt2}{-12}", RT_CORRECT},
    {"\\frac{1}{\\sqrt[3]{2}-1}", "1+\\sqrt[3]{2}+\\sqrt[3]{4}", RT_CORRECT},
    {"\\sin 30^\\circ", "\\frac12", RT_CORRECT},
    {"\\sqrt{x^2}", "x", RT_UNDECIDED},
    {"|3+4i|", "5", RT_CORRECT},
    {"|1-\\sqrt2|", "\\sqrt2-1", RT_CORRECT},
    {"\\sqrt{4x}", "2\\sqrt x", RT_CORRECT},
    {"\\sqrt{x^4 y}", "x^2\\sqrt y", RT_CORRECT},
    {"x^{3/2}", "x\\sqrt x", RT_CORRECT},
    {"\\frac{x}{\\sqrt x}", "\\sqrt x", RT_CORRECT},
    {"\\sqrt{x}\\sqrt{y}", "\\sqrt{xy}", RT_UNDECIDED},
    {"\\sqrt{x+1}", "\\sqrt{x-1}", RT_WRONG},
    {"\\sqrt{1-x^2}", "\\sqrt{1+x^2}", RT_WRONG},
    {"(x+y)^{10}", "(y+x)^{10}", RT_CORRECT},
    {"(x+y)^{10}", "x^{10}+y^{10}", RT_WRONG},
    {"\\sqrt{-1}", "i", RT_CORRECT},
    {"(1+i)^8", "16", RT_CORRECT},
    {"\\frac{1+i}{1-i}", "i", RT_CORRECT},
    {"\\sqrt[4]{-4}", "1+i", RT_CORRECT},
    {"\\sqrt[4]{4}", "\\sqrt2", RT_CORRECT},
    {"2^{\\sqrt2}", "2^{1.5}", RT_WRONG},
    {"\\sqrt{\\sqrt{16}}", "2", RT_CORRECT},
    {"0^0", "1", RT_UNDECIDED},
    {"\\sqrt{\\sqrt2+\\sqrt3}\\sqrt{\\sqrt2-\\sqrt3}", "i", RT_CORRECT},
    {"\\sqrt[6]{1+\\sqrt[3]{2}}\\sqrt[6]{1+\\sqrt2}",
     "\\sqrt[6]{(1+\\sqrt[3]{2})(1+\\sqrt2)}", RT_CORRECT},
    {"\\sqrt[6]{1+\\sqrt[3]{2}}\\sqrt[6]{1+\\sqrt2}",
     "\\sqrt[6]{(1+\\sqrt[3]{2})(1-\\sqrt2)}", RT_WRONG},
    {"\\cos\\frac{\\pi}{7}\\cos\\frac{2\\pi}{7}\\cos\\frac{3\\pi}{7}", "\\frac18", RT_CORRECT},
    {"\\operatorname{atan}(1)", "\\frac{\\pi}{4}", RT_CORRECT},
    {"(-1)^n", "\\cos n\\pi", RT_UNDECIDED},
    {"(-2)^n", "(-1)^n\\cdot 2^n", RT_CORRECT},
};

static const row angles[] = {
    {"\\sin 30^\\circ", "\\frac13", RT_WRONG},
    {"\\cos\\frac{\\pi}{3}", "0.5", RT_CORRECT},
    {"\\tan\\frac{\\pi}{4}", "1", RT_CORRECT},
    {"\\sin\\frac{\\pi}{12}", "\\frac{\\sqrt6-\\sqrt2}{4}", RT_CORRECT},
    {"\\cos\\frac{\\pi}{5}", "\\frac{1+\\sqrt5}{4}", RT_CORRECT},
    {"\\cos\\frac{2\\pi}{7}+\\cos\\frac{4\\pi}{7}+\\cos\\frac{6\\pi}{7}",
     "-\\frac12", RT_CORRECT},
    {"\\sin^2 x+\\cos^2 x", "1", RT_CORRECT},
    {"\\sin 2x", "2\\sin x\\cos x", RT_CORRECT},
    {"\\sin 2x", "2\\sin x", RT_WRONG},
    {"\\cos 2x", "1-2\\sin^2 x", RT_CORRECT},
    {"\\tan x", "\\frac{\\sin x}{\\cos x}", RT_CORRECT},
    {"\\sec^2 x - \\tan^2 x", "1", RT_CORRECT},
    {"\\sin(x+\\pi)", "-\\sin x", RT_CORRECT},
    {"\\sin\\left(\\frac{\\pi}{2}-x\\right)", "\\cos x", RT_CORRECT},
    {"\\arctan 1", "\\frac{\\pi}{4}", RT_CORRECT},
    {"\\sin^{-1}\\frac12", "\\frac{\\pi}{6}", RT_CORRECT},
    {"\\arccos(-\\frac12)", "\\frac{2\\pi}{3}", RT_CORRECT},
    {"30^\\circ", "\\frac{\\pi}{6}", RT_CORRECT},
    {"30^\\circ", "30", RT_CORRECT},
    {"30^\\circ", "\\frac{\\pi}{3}", RT_WRONG},
    {"\\ln 6", "\\ln 2+\\ln 3", RT_CORRECT},
    {"\\ln\\frac12", "-\\ln 2", RT_CORRECT},
    {"\\sqrt{2i}", "1+i", RT_CORRECT},
    {"\\sin 15^\\circ", "\\frac{\\sqrt6-\\sqrt2}{4}", RT_CORRECT},
    {"\\tan 75^\\circ", "2+\\sqrt3", RT_CORRECT},
    {"\\frac{\\ln x}{\\ln 2}", "\\log_2 x", RT_CORRECT},
    {"-\\frac{1}{2}\\cos 2x", "\\sin^2 x - \\frac12", RT_CORRECT},
    {"-\\frac{\\sqrt2(\\sqrt[3]{2}+2)}{2}", "-\\sqrt2-\\frac{2^{\\frac56}}{2}", RT_CORRECT},
    {"\\sqrt{10+2\\sqrt{21}}+\\sqrt{8+2\\sqrt{15}}", "2\\sqrt3+\\sqrt5+\\sqrt7", RT_CORRECT},
    {"\\sin x", "\\cos x", RT_WRONG},
    {"\\ln(x+1)", "\\ln x", RT_WRONG},
};

static const row logarithms[] = {
    {"\\ln 8", "3\\ln 2", RT_CORRECT},
    {"\\ln 8", "2\\ln 2", RT_WRONG},
    {"\\ln e^3", "3", RT_CORRECT},
    {"e^{\\ln 5}", "5", RT_CORRECT},
    {"e^{2\\ln 3}", "9", RT_CORRECT},
    {"\\log_4 8", "\\frac32", RT_CORRECT},
    {"\\log_2 3\\cdot\\log_3 2", "1", RT_CORRECT},
    {"\\log_2 5", "\\frac{\\ln 5}{\\ln 2}", RT_CORRECT},
    {"\\log x", "\\ln x", RT_UNDECIDED},
    {"\\ln x^2", "2\\ln x", RT_CORRECT},
    {"\\ln(ab)", "\\ln a+\\ln b", RT_CORRECT},
    {"e^{x+y}", "e^x e^y", RT_CORRECT},
    {"(e^x)^2", "e^{2x}", RT_CORRECT},
    {"e^x", "e^{x/2}\\cdot e^{x/2}", RT_CORRECT},
    {"2^{n+1}", "2\\cdot 2^n", RT_CORRECT},
    {"4^n", "(2^n)^2", RT_CORRECT},
    {"6^n", "2^n\\cdot3^n", RT_CORRECT},
    {"2^n", "3^n", RT_WRONG},
    {"x^{n+1}", "x\\cdot x^n", RT_CORRECT},
    {"2^{10}-1", "1023", RT_CORRECT},
    {"e^{i\\pi}", "-1", RT_CORRECT},
    {"e^{i\\pi/4}", "\\frac{1+i}{\\sqrt2}", RT_CORRECT},
    {"\\cosh x", "\\frac{e^x+e^{-x}}{2}", RT_CORRECT},
    {"\\pi", "3.14", RT_WRONG},
    {"\\frac{22}{7}", "\\pi", RT_WRONG},
    {"e", "2.718", RT_WRONG},
    {"e^{\\pi\\sqrt{163}}", "262537412640768744", RT_WRONG},
    {"|x-1|", "|1-x|", RT_CORRECT},
    {"\\sqrt{x^2}", "|x|", RT_CORRECT},
    {"x^{0}", "1", RT_CORRECT},
    {"\\sum_{k=1}^n k", "\\frac{n(n+1)}{2}", RT_UNDECIDED},
    {"\\frac{\\sqrt{3}+i}{2}", "e^{i\\pi/6}", RT_CORRECT},
    {"-\\frac{1}{2}\\cos 2x", "\\sin^2 x", RT_WRONG},
};

static const row expressions[] = {
    {"\\frac{1}{x}+\\frac{1}{y}", "\\frac{x+y}{xy}", RT_CORRECT},
    {"\\frac{x^3-1}{x-1}", "x^2+x+1", RT_CORRECT},
    {"\\frac{1-x^{2024}}{1-x}", "\\frac{x^{2024}-1}{x-1}", RT_CORRECT},
    {"10^{100}", "10^{101}", RT_WRONG},
    {"10^{100}", "10^{100}", RT_CORRECT},
    {"2^{1000}", "2^{999}\\cdot 2", RT_CORRECT},
    {"\\frac{100!}{98!}", "9900", RT_CORRECT},
    {"\\binom{10}{3}", "120", RT_CORRECT},
    {"0.\\overline{3}", "\\frac13", RT_CORRECT},
    {"0.1\\overline{6}", "\\frac16", RT_CORRECT},
    {"2.\\overline{9}", "3", RT_CORRECT},
    {"1/2x", "\\frac{1}{2x}", RT_UNDECIDED},
    {"1/2x", "\\frac{x}{2}", RT_CORRECT},
    {"x>3", "(3,\\infty)", RT_CORRECT},
    {"x \\geq 3", "(3,\\infty)", RT_WRONG},
    {"-2\\le x<5", "[-2,5)", RT_CORRECT},
    {"[-2,5)", "-2<x<5", RT_WRONG},
    {"(-\\infty,3]", "x\\le 3", RT_CORRECT},
    {"x\\in(-\\infty,3]", "x\\le 3", RT_CORRECT},
    {"\\sqrt2 x = 2", "x=\\sqrt2", RT_CORRECT},
    {"x=\\sqrt2", "x=\\sqrt3", RT_WRONG},
    {"y=1/x", "xy=1", RT_CORRECT},
    {"x^2+y^2=4", "2x^2+2y^2=8", RT_CORRECT},
    {"x^2+y^2=4", "x^2+y^2=2", RT_UNDECIDED},
    {"-2x<4", "x>-2", RT_CORRECT},
    {"-2x<4", "x<-2", RT_WRONG},
    {"150\\text{ cm}", "1.5\\text{ m}", RT_CORRECT},
    {"15\\text{ cm}", "15\\text{ m}", RT_WRONG},
    {"\\cos 20^\\circ\\cos 40^\\circ\\cos 80^\\circ", "\\frac18", RT_CORRECT},
};

static const row units[] = {
    {"15\\text{ cm}^2", "15\\text{ cm}", RT_UNDECIDED},
    {"60\\text{ mph}", "60\\text{ miles per hour}", RT_CORRECT},
    {"5\\text{ apples}", "5\\text{ pears}", RT_CORRECT},
    {"2\\text{ hours}", "120\\text{ minutes}", RT_CORRECT},
    {"36\\text{ km/h}", "10\\text{ m/s}", RT_CORRECT},
    {"3\\text{ square feet}", "3\\text{ ft}^2", RT_CORRECT},
    {"40\\text{ percent}", "0.4", RT_CORRECT},
    {"15 cm", "150 mm", RT_CORRECT},
    {"20^\\circ\\text{C}", "20", RT_CORRECT},
    {"\\{1,2\\}", "\\{\\frac{4}{2},1\\}", RT_CORRECT},
    {"(\\sin 30^\\circ,\\ln e)", "(\\frac12,1)", RT_CORRECT},
};

static void whole_responses(void **state)
{
    (void)state;
    for (size_t i = 0; i < RT_COUNT(responses); i++) {
        int got = grade(responses[i].answer, responses[i].gold);
        if (got != responses[i].grade) {
            fail_msg("\"%s\" against \"%s\" is %s", responses[i].answer, responses[i].gold,
                     rt_grade_name(got));
        }
    }
}

static void values(void **state)
{
    (void)state;
    check(roots, RT_COUNT(roots));
    check(angles, RT_COUNT(angles));
    check(logarithms, RT_COUNT(logarithms));
    check(expressions, RT_COUNT(expressions));
    check(units, RT_COUNT(units));
}

/* ---- golden file ------------------------------------------------------------------------- */

static void golden_math(void **state)
{
    (void)state;
    FILE *file = fopen("../shared/golden/grades_math.jsonl", "r");
    char line[8192];
    if (!file) {
        skip();
    }
    while (fgets(line, sizeof line, file)) {
        json_t *item = json_loads(line, 0, NULL);
        const char *response = json_string_value(json_object_get(item, "response"));
        const char *gold = json_string_value(json_object_get(item, "gold"));
        const char *want = json_string_value(json_object_get(item, "grade"));
        const char *got = rt_grade_name(grade(response, gold));
        if (strcmp(got, want)) {
            fail_msg("\"%s\" against \"%s\" is %s instead of %s", response, gold, got, want);
        }
        json_decref(item);
    }
    fclose(file);
}

/* ---- threads ----------------------------------------------------------------------------- */

/* The libraries keep caches for each thread; verdicts may not depend on what ran before or beside. */
static void *grade_all(void *wrong)
{
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < RT_COUNT(roots); i++) {
            *(int *)wrong += grade_boxed(roots[i].answer, roots[i].gold) != roots[i].grade;
        }
        for (size_t i = RT_COUNT(angles); i > 0; i--) {
            *(int *)wrong += grade_boxed(angles[i - 1].answer, angles[i - 1].gold) != angles[i - 1].grade;
        }
    }
    return NULL;
}

static void threads(void **state)
{
    (void)state;
    pthread_t started[4];
    int wrong[RT_COUNT(started)] = {0};
    for (size_t i = 0; i < RT_COUNT(started); i++) {
        assert_int_equal(pthread_create(&started[i], NULL, grade_all, &wrong[i]), 0);
    }
    for (size_t i = 0; i < RT_COUNT(started); i++) {
        pthread_join(started[i], NULL);
        assert_int_equal(wrong[i], 0);
    }
}

/* ---- hostile input ----------------------------------------------------------------------- */

/* before + first … last with # as the number + after */
static char *series(const char *before, const char *part, int first, int last, const char *after)
{
    rt_buf text = {0};
    rt_buf_addf(&text, "%s", before);
    for (int k = first; k <= last; k++) {
        for (const char *c = part; *c; c++) {
            if (*c == '#') {
                rt_buf_addf(&text, "%d", k);
            } else {
                rt_buf_add(&text, c, 1);
            }
        }
    }
    rt_buf_addf(&text, "%s", after);
    return text.data;
}

static char *nest(const char *open, const char *middle, const char *close, int count)
{
    rt_buf text = {0};
    for (int i = 0; i < count; i++) {
        rt_buf_addf(&text, "%s", open);
    }
    rt_buf_addf(&text, "%s", middle);
    for (int i = 0; i < count; i++) {
        rt_buf_addf(&text, "%s", close);
    }
    return text.data;
}

/* Whatever it is, it ends and is not taken for the number 12; nor for itself and a half. */
static void survive(char *answer)
{
    char *more = rt_format("%s+\\frac12", answer);
    assert_int_not_equal(grade_boxed(answer, "12"), RT_CORRECT);
    assert_int_not_equal(grade_boxed(answer, more), RT_CORRECT);
    rt_free(more);
    rt_free(answer);
}

static void hostile(void **state)
{
    (void)state;
    static const char *const plain[] = {
        "(a+b+c+d+e+f+g)^9", "(a+b+c+d)^{9}/(a-b+c)^{9}", "9^{9^{9}}", "(x+1)^{100000}",
        "(x+1)^{100007}", "x^{10^{12}}", "2^{1/1000}", "x^{1/65}", "\\pi^{10^9}", "e^{10^9}",
        "(x^{99999}-1)/(x^{777}-1)", "x^{100000}-1", "x^{-99999}", "e^{1000000x}", "10^{1000000}",
        "\\sqrt[7]{3+\\sqrt[5]{2}}", "\\sqrt[64]{3}^{63}", "2^{2^{2^{2^{2^2}}}}", "1000!!",
        "1000!\\cdot1000!", "(1000!)!", "\\binom{2000}{1000}^{9}", "\\binom{10^9}{10^8}",
        "\\cos^{50} x", "\\sin(50x)", "\\tan x+\\tan y+\\tan z+\\tan(x+y+z)",
        "\\cos\\frac{\\pi}{29}\\cos\\frac{\\pi}{23}", "\\cos\\frac{\\pi}{1000003}",
        "(\\sqrt2+\\sqrt3+\\sqrt5+\\sqrt7)^{40}", "\\sin(10^{400})", "e^{e^{e^{e^9}}}",
        "1/(\\sqrt2+\\sqrt3+\\sqrt5+\\sqrt7+\\sqrt{11})", "(x+1)^{-50}(y+1)^{-50}(z+x)^{-50}",
        "\\frac{1}{\\sqrt{2}+\\sqrt[3]{3}+\\sqrt[5]{5}}", "1/(\\sin^2x+\\cos^2x-1)",
        "\\frac{1}{\\sqrt{3+2\\sqrt2}-1-\\sqrt2}", "\\sqrt{(x+y)^{20}-1}^{20}", "0^{-1}", "\\ln 0",
        "((x+y+z)^{12}-1)/((x+y-z)^{12}-1)", "\\sqrt[12]{x+y+z+w}^{11}\\sqrt[12]{x+y+z-w}^{11}",
        "e^{1000x}+e^{x/1000}", "x^{1/3}x^{1/5}x^{1/7}x^{1/11}x^{1/13}", "\\log_1 5", "\\log_0 0",
        "\\tan\\frac{\\pi}{2}", "\\arcsin 2", "\\sqrt[0]{2}", "\\sqrt[-1]{2}", "0.\\overline{}",
        "\\sqrt[3]{1+\\sqrt[3]{2}}-\\sqrt[3]{1+\\sqrt[3]{2}+\\sqrt[3]{3}}", "|x+iy|", "i^{i^{i}}"};
    for (size_t i = 0; i < RT_COUNT(plain); i++) {
        survive(rt_strdup(plain[i]));
    }
    survive(nest("\\sqrt{2+", "2", "}", 20));
    survive(nest("\\sqrt{x+", "x", "}", 11));
    survive(nest("\\sin(", "x", ")", 11));
    survive(nest("\\tan(", "x", ")", 8));
    survive(nest("e^{", "x", "}", 11));
    survive(nest("\\ln(", "x", ")", 11));
    survive(nest("9", "9", "", 1900));
    survive(nest("9^{", "9", "}", 11));
    survive(nest("\\frac{1}{", "x", "+1}", 11));
    survive(nest("|x+\\sqrt{", "x", "}|", 5));
    survive(nest("\\sqrt{7", "7", "}", 1));
    survive(series("\\sqrt{1", "#", 1, 400, "}"));
    survive(series("\\sqrt[63]{1", "#", 1, 400, "}"));
    survive(series("\\ln ", "#", 1, 400, ""));
    survive(series("1", "+\\frac{1}{x+#}", 1, 60, ""));
    survive(series("1", "+\\sqrt{#}", 2, 60, ""));
    survive(series("1", "+\\ln #", 2, 60, ""));
    survive(series("1", "+\\cos\\frac{#\\pi}{17}", 2, 9, ""));
    survive(series("1", "+\\frac{a_#}{b_#+\\sqrt2}", 1, 9, ""));
    survive(series("\\frac{1", "#", 1, 300, "}{x+y}+\\frac{1}{x-y}"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_responses), cmocka_unit_test(values), cmocka_unit_test(golden_math),
        cmocka_unit_test(threads), cmocka_unit_test(hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
