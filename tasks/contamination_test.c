/* Contamination: normal forms, duplicates in one file, overlap between files. */
#include "tasks/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void check_normal(const char *text, const char *normal)
{
    rt_buf out = {0};
    rt_problem_normal(text, &out);
    assert_string_equal(out.data, normal);
    rt_buf_free(&out);
}

static void normal_forms(void **state)
{
    (void)state;
    check_normal("  Two\tand\n\ntwo ", "two and two");
    check_normal("", "");
    check_normal(" \n", "");
    check_normal("STRASSE Stra\xc3\x9f"
                 "e",
                 "strasse strasse"); /* folding, not lower case */
    check_normal("a\xc2\xa0"
                 "b\xe2\x80\x83"
                 "c",
                 "a b c");                 /* spaces of all kinds */
    check_normal("e\xcc\x81", "\xc3\xa9"); /* composed */
    check_normal("1 + 1", "1 + 1");        /* not "1+1" */
    check_normal("A\xff", "A\xff");        /* no UTF-8 */
}

static char *write_file(const char *folder, const char *name, const char *text)
{
    char *path = rt_format("%s/%s", folder, name);
    rt_error err;
    assert_int_equal(rt_file_write(path, text, strlen(text), &err), 0);
    return path;
}

static rt_config two_files(char *train, char *test)
{
    rt_config config = {.tasks_count = 2};
    config.run.seed = 3;
    config.eval.problems = 10;
    config.eval.contamination = "warn";
    config.thoughts.delimiter = "</thought>";
    config.tasks[0] = (rt_task_config){.name = "train", .data = train, .weight = 1};
    config.tasks[1] = (rt_task_config){.name = "test", .data = test, .weight = 1, .eval_share = 1};
    return config;
}

static rt_taskset *load(const rt_config *config)
{
    rt_taskset *set;
    rt_error err = {0};
    if (rt_taskset_load(&set, config, &err)) {
        fail_msg("%s", err.message);
    }
    return set;
}

static void overlap_of_two_files(void **state)
{
    const char *folder = *state;
    char *train = write_file(folder, "train.jsonl",
                             "{\"problem\": \"One and one?\", \"answer\": \"2\"}\n"
                             "\n{\"problem\": \"Two and two?\", \"answer\": \"4\"}\n");
    char *test = write_file(folder, "test.jsonl",
                            "{\"problem\": \"Three?\", \"answer\": \"3\"}\n"
                            "{\"problem\": \" two  AND two?\", \"answer\": \"4\"}\n"
                            "{\"problem\": \"one and one?\", \"answer\": \"2\"}\n");
    rt_config config = two_files(train, test);
    rt_taskset *set = load(&config);
    rt_overlap overlap;
    rt_error err;
    assert_int_equal(rt_contamination_check(&config, set, &overlap, &err), 0);
    assert_int_equal(overlap.held_out, 3);
    assert_int_equal(overlap.count, 2);
    char *expected = rt_format("%s:2 is %s:3", test, train);
    assert_string_equal(overlap.example, expected);
    config.eval.contamination = "refuse";
    assert_int_equal(rt_contamination_check(&config, set, &overlap, &err), RT_ERR_USAGE);
    assert_non_null(strstr(err.message, "2 of 3 held-out problems"));
    assert_non_null(strstr(err.message, expected));
    config.eval.contamination = "off";
    assert_int_equal(rt_contamination_check(&config, set, &overlap, &err), 0);
    assert_int_equal(overlap.held_out, 0);
    /* a task of weight 0 is not trained on */
    config.eval.contamination = "refuse";
    config.tasks[0].weight = 0;
    assert_int_equal(rt_contamination_check(&config, set, &overlap, &err), 0);
    assert_int_equal(overlap.count, 0);
    rt_taskset_free(&set);
    rt_free(expected);
    rt_free(train);
    rt_free(test);
}

/* 200 problems, each twice in other letters: both copies on the side of the first, whatever the
 * seed, and a file without copies is split as if nobody had looked. */
static void duplicates_stay_together(void **state)
{
    rt_buf twice = {0}, once = {0};
    for (int i = 0; i < 400; i++) {
        rt_buf_addf(&twice, "{\"problem\": \"%s %d?\", \"answer\": \"%d\"}\n",
                    i < 200 ? "What is" : "what  IS", i % 200, i % 200);
        rt_buf_addf(&once, "{\"problem\": \"What is %d?\", \"answer\": \"%d\"}\n", i, i);
    }
    char *with = write_file(*state, "twice.jsonl", twice.data);
    char *without = write_file(*state, "once.jsonl", once.data);
    for (int seed = 1; seed <= 3; seed++) {
        rt_config config = two_files(with, with);
        config.run.seed = seed;
        config.tasks_count = 1;
        config.tasks[0].eval_share = 0.25;
        config.eval.contamination = "refuse";
        rt_taskset *set = load(&config);
        rt_overlap overlap;
        rt_error err;
        assert_int_equal(rt_contamination_check(&config, set, &overlap, &err), 0);
        assert_true(overlap.held_out > 50 &&
                    overlap.held_out < 150); /* 100, four deviations of 12 */
        assert_int_equal(overlap.held_out % 2, 0);
        rt_taskset_free(&set);
        config.tasks[0].data = without;
        set = load(&config);
        rt_arena *arena = rt_arena_new(1 << 16);
        uint64_t stream = rt_hash64("train", 5, 0) + RT_STREAM_SPLIT;
        int64_t held = 0;
        for (int64_t i = 0; i < 400; i++) {
            if (rt_uniform((uint64_t)seed, stream, (uint64_t)i) < 0.25) {
                rt_problem problem;
                assert_int_equal(rt_problem_get(set, 0, RT_EVAL, held++, arena, &problem, &err), 0);
                assert_int_equal(problem.line, i + 1);
            }
        }
        assert_int_equal(rt_taskset_count(set, 0, RT_EVAL), held);
        rt_arena_free(&arena);
        rt_taskset_free(&set);
    }
    rt_free(with);
    rt_free(without);
    rt_buf_free(&twice);
    rt_buf_free(&once);
}

static int make_folder(void **state)
{
    char folder[] = "/tmp/retake-contamination-XXXXXX";
    *state = mkdtemp(folder) ? rt_strdup(folder) : NULL;
    return *state ? 0 : -1;
}

static int remove_folder(void **state)
{
    int rc = rt_remove_tree(*state, NULL);
    rt_free(*state);
    return rc;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normal_forms),
        cmocka_unit_test(overlap_of_two_files),
        cmocka_unit_test(duplicates_stay_together),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
