/* countdown: the solver against brute force, the rule of answers, gold answers of data files. */
#include "tasks/countdown.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { TARGETS = 400 };

/* Marks every whole number from 0 to TARGETS that can be made; by pairs, as the rule is put. */
static void mark(const int64_t *numbers, int count, int64_t least, bool *made)
{
    if (count == 1) {
        if (numbers[0] >= 0 && numbers[0] < TARGETS) {
            made[numbers[0]] = true;
        }
        return;
    }
    for (int a = 0; a < count; a++) {
        for (int b = 0; b < count; b++) {
            int64_t rest[8];
            int left = 0;
            for (int i = 0; i < count; i++) {
                if (i != a && i != b) {
                    rest[left++] = numbers[i];
                }
            }
            for (int op = 0; op < 3 && a != b; op++) {
                rest[left] = op == 0   ? numbers[a] + numbers[b]
                             : op == 1 ? numbers[a] - numbers[b]
                                       : numbers[a] * numbers[b];
                if (rest[left] >= least && (a < b || op == 1)) {
                    mark(rest, left + 1, least, made);
                }
            }
        }
    }
}

/* Each step takes two of what there is; the last one makes the target. */
static void check_steps(const int64_t *numbers, int count, int64_t target, int64_t least,
                        const rt_countdown_step *steps)
{
    int64_t left[8];
    memcpy(left, numbers, (size_t)count * sizeof *left);
    for (int i = 0; i < count - 1; i++) {
        const int64_t taken[] = {steps[i].left, steps[i].right};
        int size = count - i;
        for (int k = 0; k < 2; k++) {
            int at = 0;
            while (at < size && left[at] != taken[k]) {
                at++;
            }
            assert_true(at < size);
            left[at] = left[--size];
        }
        assert_true(steps[i].result ==
                    rt_countdown_apply(steps[i].op, steps[i].left, steps[i].right));
        assert_true(steps[i].result >= least);
        left[size] = steps[i].result;
    }
    assert_true(left[0] == target);
}

static void solver(void **state)
{
    (void)state;
    int yes = 0, no = 0;
    for (int p = 0; p < 60; p++) {
        int count = 2 + p % 4;
        int64_t numbers[5], least = p % 2 ? 0 : -INT64_MAX;
        for (int i = 0; i < count; i++) {
            /* Zeros and negative numbers come up on the way: the solver must do with them. */
            numbers[i] = (int64_t)rt_below(3, 1, (uint64_t)(p * 8 + i), 13) - (p % 2 ? 0 : 3);
        }
        bool made[TARGETS] = {false};
        mark(numbers, count, least, made);
        for (int target = 0; target < TARGETS; target++) {
            rt_countdown_step steps[8];
            bool found = rt_countdown_solve(numbers, count, target, least, INT64_MAX, steps);
            assert_int_equal(found, made[target]);
            assert_int_equal(rt_countdown_solve(numbers, count, target, least, INT64_MAX, NULL),
                             found);
            if (found) {
                check_steps(numbers, count, target, least, steps);
            }
            yes += found;
            no += !found;
        }
    }
    assert_true(yes > 1000 && no > 1000);
}

static void six_and_seven(void **state)
{
    (void)state;
    static const int64_t six[] = {1, 3, 4, 7, 9, 9}, seven[] = {2, 2, 5, 6, 8, 9, 9};
    bool made[TARGETS] = {false};
    mark(six, 6, 0, made);
    for (int target = 0; target < TARGETS; target++) {
        rt_countdown_step steps[8];
        bool found = rt_countdown_solve(six, 6, target, 0, INT64_MAX, steps);
        assert_int_equal(found, made[target]);
        if (found) {
            check_steps(six, 6, target, 0, steps);
        }
        if (rt_countdown_solve(seven, 7, target, -INT64_MAX, INT64_MAX, steps)) {
            check_steps(seven, 7, target, -INT64_MAX, steps);
        } else {
            fail_msg("seven such numbers make every small target, but not %d", target);
        }
    }
    /* Out of reach: the greatest value is the product of all, none of them being 1. */
    static const int64_t twos[] = {2, 3, 4, 5, 6, 7, 8};
    rt_countdown_step steps[8];
    assert_true(rt_countdown_solve(twos, 7, 40320, -INT64_MAX, INT64_MAX, steps));
    assert_false(rt_countdown_solve(twos, 7, 40321, -INT64_MAX, INT64_MAX, steps));
}

/* A positive target is never out of reach for want of negative values on the way. */
static void negative_values_are_no_help(void **state)
{
    (void)state;
    for (int p = 0; p < 60; p++) {
        int count = 2 + p % 4;
        int64_t numbers[5];
        for (int i = 0; i < count; i++) {
            numbers[i] = 1 + (int64_t)rt_below(3, 2, (uint64_t)(p * 8 + i), 12);
        }
        for (int target = 0; target < TARGETS; target++) {
            assert_int_equal(
                rt_countdown_solve(numbers, count, target, 0, INT64_MAX, NULL),
                rt_countdown_solve(numbers, count, target, -INT64_MAX, INT64_MAX, NULL));
        }
    }
}

static void answers(void **state)
{
    (void)state;
    static const struct {
        const char *response, *gold;
        int grade;
    } rows[] = {
        {"3*5=15</thought>15+7=22\\boxed{3*5+7}</thought>", "3,5,7>22", RT_CORRECT},
        {"\\boxed{7+5*3}", "3,5,7>22", RT_CORRECT},
        {"\\boxed{ (5 * 3) + 7 }", "3,5,7>22", RT_CORRECT},
        {"\\boxed{5 \\times 3 + 7 = 22}", "3,5,7>22", RT_CORRECT},
        {"\\boxed{$5 \\cdot 3 + 7$}", "3,5,7>22", RT_CORRECT},
        {"\\boxed{7 − (−5)×3}", "3,5,7>22", RT_CORRECT},
        {"\\boxed{\\left(5\\,·\\,3\\right)+7}", "3,5,7>22", RT_CORRECT},
        {"so the answer is 5*3+7.", "3,5,7>22", RT_CORRECT},
        {"#### 5*3+7", "3,5,7>22", RT_CORRECT},
        {"\\boxed{2*(2+2)}", "2,2,2>8", RT_CORRECT},
        {"\\boxed{5*3+7=23}", "3,5,7>22", RT_WRONG},
        {"\\boxed{22}", "3,5,7>22", RT_WRONG},
        {"\\boxed{5*3+7+0}", "3,5,7>22", RT_WRONG},
        {"\\boxed{5*3+7*1}", "3,5,7>22", RT_WRONG},
        {"\\boxed{7+7+5+3}", "3,5,7>22", RT_WRONG},
        {"\\boxed{5*3}", "3,5,7>15", RT_WRONG}, /* the 7 is not used */
        {"\\boxed{5+3*7}", "3,5,7>22", RT_WRONG},
        {"\\boxed{5*3+7", "3,5,7>22", RT_WRONG}, /* no complete box, no answer */
        {"\\boxed{}", "3,5,7>22", RT_WRONG},
        {"\\boxed{5*3+}", "3,5,7>22", RT_WRONG},
        {"\\boxed{(5*3+7}", "3,5,7>22", RT_WRONG},
        {"\\boxed{5*3+7)}", "3,5,7>22", RT_WRONG},
        {"\\boxed{53+7}", "3,5,7>60", RT_WRONG},
        {"\\boxed{5 3+7}", "3,5,7>22", RT_WRONG},
        {"\\boxed{99999999999999999999*5}", "3,5,7>22", RT_WRONG},
        {"\\boxed{15/3}", "3,15>5", RT_UNDECIDED},
        {"\\boxed{five times three and 7}", "3,5,7>22", RT_UNDECIDED},
        {"\\boxed{5*3+7}", "22", RT_UNDECIDED},
        {"", "3,5,7>22", RT_WRONG},
    };
    for (size_t i = 0; i < RT_COUNT(rows); i++) {
        rt_verdict verdict;
        assert_int_equal(rt_grade_response("countdown", rows[i].response, strlen(rows[i].response),
                                           rows[i].gold, &verdict, NULL),
                         0);
        if (verdict.grade != rows[i].grade) {
            fail_msg("%s of %s is %s", rows[i].response, rows[i].gold,
                     rt_grade_name(verdict.grade));
        }
    }
}

static void deep_answers(void **state)
{
    (void)state;
    static const char *const parts[] = {"(", "-", "-(", "5*", "5+", "\\times", "="};
    for (size_t k = 0; k < RT_COUNT(parts); k++) {
        rt_buf text = {0};
        rt_buf_addf(&text, "\\boxed{");
        for (int i = 0; i < 20000; i++) {
            rt_buf_addf(&text, "%s", parts[k]);
        }
        rt_buf_addf(&text, "}");
        rt_verdict verdict;
        assert_int_equal(
            rt_grade_response("countdown", text.data, text.bytes, "3,5,7>22", &verdict, NULL), 0);
        assert_int_equal(verdict.grade, RT_WRONG);
        rt_buf_free(&text);
    }
}

static void data_files(void **state)
{
    (void)state;
    static const char *const records[] = {
        "{\"problem\":\"make 22 of 3, 5 and 7\",\"answer\":\"3,5,7>22\"}\n",
        "{\"problem\":\"make 22 of 3, 5 and 7\",\"answer\":\"22\"}\n"};
    for (int i = 0; i < 2; i++) {
        char path[] = "/tmp/rt_countdown_XXXXXX";
        FILE *file = fdopen(mkstemp(path), "w");
        fputs(records[i], file);
        fclose(file);
        rt_config config = {.tasks_count = 1};
        config.tasks[0] = (rt_task_config){
            .name = "numbers", .data = path, .weight = 1, .grader = "countdown"};
        rt_taskset *set;
        rt_error err;
        assert_int_equal(rt_taskset_load(&set, &config, &err), i ? RT_ERR_INPUT : RT_OK);
        if (!i) {
            rt_taskset_free(&set);
        }
        unlink(path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(solver),       cmocka_unit_test(six_and_seven),
        cmocka_unit_test(answers),      cmocka_unit_test(negative_values_are_no_help),
        cmocka_unit_test(deep_answers), cmocka_unit_test(data_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
