/* Prompts of judges: the compact form is the one the teacher wrote, templates are filled in. */
#include "tasks/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char DATA[] = "/tmp/rt_judge_data_test.jsonl", OWN[] = "/tmp/rt_judge_own_test.txt";

static rt_taskset *load(rt_config *config)
{
    rt_error err = {0};
    rt_taskset *set;
    config->thoughts.delimiter = "</thought>";
    if (rt_taskset_load(&set, config, &err)) {
        fail_msg("%s", err.message);
    }
    return set;
}

static rt_taskset *load_data(rt_config *config)
{
    static const char record[] = "{\"problem\":\"1+{count}\",\"answer\":\"3\"}\n";
    assert_int_equal(rt_file_write(DATA, record, sizeof record - 1, NULL), 0);
    config->tasks_count = 1;
    config->tasks[0] = (rt_task_config){.name = "sums", .data = (char *)DATA, .weight = 1};
    return load(config);
}

/* Thoughts of a sampled chain give the very text that localization examples begin with. */
static void compact(void **state)
{
    (void)state;
    rt_config config = {.tasks_count = 1};
    config.tasks[0] = (rt_task_config){.name = "chain", .weight = 1, .thoughts_min = 3,
                                       .thoughts_max = 3, .modulus = 10, .operations = "+-*"};
    config.sft.verdict_weight = 1;
    rt_taskset *set = load(&config);
    rt_arena *arena = rt_arena_new(1 << 16);
    for (int64_t i = 0; i < 50; i++) {
        rt_problem problem;
        rt_example example;
        rt_example_next(set, &config, i, 1, arena, &example, NULL);
        assert_int_equal(rt_problem_next(set, i, arena, &problem, NULL), 0);
        const char *line = strchr(example.prompt, '\n') + 1, *thoughts[3];
        for (int k = 0; k < 3; k++) {
            int bytes = (int)strcspn(line, "\n");
            char *own = rt_arena_alloc(arena, 80);
            snprintf(own, 80, " %.*s%s", bytes - 2, line + 2,
                     k == 0 ? "</thought>" : k == 1 ? "" : "\\boxed{4}</thought>");
            thoughts[k] = own;
            line += bytes + 1;
        }
        assert_string_equal(rt_localize_prompt(set, &problem, thoughts, 3, NULL, arena),
                            example.prompt);
        assert_string_equal(rt_localize_prompt(set, &problem, thoughts, 3, problem.gold, arena),
                            example.prompt);
    }
    rt_arena_free(&arena);
    rt_taskset_free(&set);
}

static void templates(void **state)
{
    (void)state;
    static const char *const thoughts[] = {" one\n</thought>", "two {answer}",
                                           "so \\boxed{4}</thought>"};
    rt_config config = {0};
    rt_taskset *set = load_data(&config);
    rt_arena *arena = rt_arena_new(1 << 16);
    rt_problem problem;
    assert_int_equal(rt_problem_get(set, 0, RT_TRAIN, 0, arena, &problem, NULL), 0);
    for (int kind = 0; kind < RT_JUDGE_KINDS; kind++) {
        const char *text = rt_judge_prompt(set, kind, &problem, thoughts, 3,
                                           kind == RT_JUDGE_LOCALIZE_L1 ? "GOLD" : NULL, arena);
        /* The problem's own braces are text, and so are those of a thought. */
        assert_non_null(strstr(text, "Problem: 1+{count}\n"));
        assert_non_null(strstr(text, kind == RT_JUDGE_QUOTE
                                         ? "one\ntwo {answer}\nso \\boxed{4}\n"
                                         : "Step 1: one\nStep 2: two {answer}\n"
                                           "Step 3: so \\boxed{4}\n"));
        assert_null(strstr(text, "</thought>"));
        assert_null(strstr(text, "{thoughts}"));
        assert_int_equal(strstr(text, "GOLD") != NULL, kind == RT_JUDGE_LOCALIZE_L1);
        bool counts = kind <= RT_JUDGE_LOCALIZE_L3;
        assert_int_equal(strstr(text, "1 to 3") != NULL, counts);
    }
    assert_non_null(strstr(rt_verify_prompt(set, &problem, thoughts, 3, arena), "answer: 4\n"));
    assert_non_null(strstr(rt_verify_prompt(set, &problem, thoughts, 2, arena),
                           "answer: (none)\n"));
    rt_arena_free(&arena);
    rt_taskset_free(&set);
    remove(DATA);
}

static void own_files(void **state)
{
    (void)state;
    static const char text[] = "{problem}|{thoughts}|{count}{answer}{x}";
    static const char *const thoughts[] = {"a", "b"};
    assert_int_equal(rt_file_write(OWN, text, sizeof text - 1, NULL), 0);
    rt_config config = {0};
    config.prompts.localize = config.prompts.verify = (char *)OWN;
    rt_taskset *set = load_data(&config);
    rt_arena *arena = rt_arena_new(1 << 16);
    rt_problem problem;
    assert_int_equal(rt_problem_get(set, 0, RT_TRAIN, 0, arena, &problem, NULL), 0);
    assert_string_equal(rt_localize_prompt(set, &problem, thoughts, 2, "7", arena),
                        "1+{count}|Step 1: a\nStep 2: b|27{x}");
    assert_string_equal(rt_verify_prompt(set, &problem, thoughts, 1, arena),
                        "1+{count}|Step 1: a|1(none){x}");
    rt_taskset_free(&set);
    rt_arena_free(&arena);
    remove(OWN);
    rt_error err;
    assert_int_not_equal(rt_taskset_load(&set, &config, &err), 0);
    assert_non_null(strstr(err.message, OWN));
    remove(DATA);
}

/* The program's texts are those of the folder, which people read and change. */
static void files_are_built_in(void **state)
{
    (void)state;
    assert_int_equal(rt_prompt_texts_count, 12);
    for (int i = 0; i < rt_prompt_texts_count; i++) {
        rt_buf text = {0};
        char *path = rt_format("tasks/prompts/%s.txt", rt_prompt_texts[i].name);
        assert_int_equal(rt_file_read(path, 1 << 16, &text, NULL), 0);
        assert_string_equal(text.data, rt_prompt_texts[i].text);
        rt_buf_free(&text);
        rt_free(path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compact),
        cmocka_unit_test(templates),
        cmocka_unit_test(own_files),
        cmocka_unit_test(files_are_built_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
