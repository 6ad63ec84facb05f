/* Data files: the three forms, field names, places in errors, and the published sets when there. */
#include "tasks/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static rt_error err;

static int parse_task(rt_records *records, const char *text, rt_task_config task)
{
    return rt_records_parse(records, text, strlen(text), "file", &task, "</thought>", &err);
}

static int parse(rt_records *records, const char *text)
{
    return parse_task(records, text, (rt_task_config){.name = "set"});
}

static void gsm8k(void **state)
{
    (void)state;
    rt_records records;
    assert_int_equal(parse(&records,
        "\xEF\xBB\xBF{\"question\":\"Q?\",\"answer\":\"He has 3*2=<<3*2=6>>6.\\n\\n"
        "So 6+1 = $<<6+1=7>>7 .\\n#### 1,007\"}\r\n"
        "\r\n{\"question\":\"R?\",\"answer\":\"#### 5\"}"), 0);
    assert_int_equal(records.count, 2);
    assert_string_equal(records.form, "gsm8k");
    assert_string_equal(records.grader, "number");
    assert_string_equal(records.items[0].problem, "Q?");
    assert_string_equal(records.items[0].gold, "1,007");
    assert_string_equal(records.items[0].solution,
                        "He has 3*2=6.</thought>So 6+1 = $7 . \\boxed{1,007}</thought>");
    assert_string_equal(records.items[1].solution, "\\boxed{5}</thought>");
    assert_int_equal(records.items[1].line, 3);
    rt_records_free(&records);
}

static void svamp(void **state)
{
    (void)state;
    rt_records records;
    assert_int_equal(parse(&records,
        "[\n {\"Body\":\"A pack costs 76 dollars\",\"Question\":\"How much?\",\"Answer\":51.0,\n"
        "  \"Equation\":\"( ( 76.0 - 25.0 ) * 1.5 )\"},\n"
        " {\"Body\":\"It is so. \",\"Question\":\"Why?\",\"Answer\":2.5}\n]\n"), 0);
    assert_int_equal(records.count, 2);
    assert_string_equal(records.form, "svamp");
    assert_string_equal(records.items[0].problem, "A pack costs 76 dollars, How much?");
    assert_string_equal(records.items[0].gold, "51");
    assert_string_equal(records.items[0].solution, "(76 - 25) * 1.5 = 51 \\boxed{51}</thought>");
    assert_string_equal(records.items[1].problem, "It is so. Why?");
    assert_string_equal(records.items[1].gold, "2.5");
    assert_null(records.items[1].solution);
    assert_int_equal(records.items[1].line, 4);
    rt_records_free(&records);
}

static void plain(void **state)
{
    (void)state;
    rt_records records;
    rt_task_config task = {.name = "mine", .field_problem = "in", .field_answer = "out",
                           .field_solution = "how", .grader = "exact"};
    const char *text = "{\"in\":\"a\",\"out\":true,\"how\":\"x \\\\boxed{yes}\\ny\"}";
    assert_int_equal(parse_task(&records, text, task), 0);
    assert_string_equal(records.form, "plain");
    assert_string_equal(records.grader, "exact");
    assert_string_equal(records.items[0].gold, "yes");
    assert_string_equal(records.items[0].solution, "x \\boxed{yes}</thought>y</thought>");
    rt_records_free(&records);
    assert_int_equal(parse(&records, "{\"prompt\":\"a\",\"answer\":-3}\n"
                                     "{\"prompt\":\"b\",\"answer\":0.1}"), 0);
    assert_string_equal(records.grader, "math");
    assert_string_equal(records.items[0].gold, "-3");
    assert_string_equal(records.items[1].gold, "0.1");
    rt_records_free(&records);
    task = (rt_task_config){.name = "set", .limit = 1};
    assert_int_equal(parse_task(&records, "{\"problem\":\"a\",\"answer\":1}\nrubbish", task), 0);
    assert_int_equal(records.count, 1);
    rt_records_free(&records);
}

static void programs(void **state)
{
    (void)state;
    rt_records records;
    rt_task_config task = {.name = "mine", .grader = "code", .field_answer = "checks"};
    const char *text = "{\"problem\":\"a\",\"checks\":{\"asserts\":[\"assert f(1)\"],\"timeout_s\":0.1},"
                       "\"solution\":\"def f(x):\\n    return x\\n\"}\n"
                       "{\"problem\":\"b\",\"checks\":\" {\\\"asserts\\\":[\\\"1\\\"]} \"}";
    assert_int_equal(parse_task(&records, text, task), 0);
    assert_int_equal(records.count, 2);
    assert_int_equal(rt_code_gold_check(records.items[0].gold, NULL), 0);
    assert_non_null(strstr(records.items[0].gold, "assert f(1)"));
    assert_string_equal(records.items[0].solution,
                        "```python\ndef f(x):\n    return x\n```</thought>");
    assert_string_equal(records.items[1].gold, "{\"asserts\":[\"1\"]}");
    rt_records_free(&records);
    task.grader = "math"; /* an object is an answer of this grader alone */
    assert_true(parse_task(&records, text, task) < 0);
}

static void refused(const char *text, const char *place, const char *says)
{
    rt_records records;
    assert_true(parse(&records, text) < 0);
    assert_null(records.items);
    if (strncmp(err.message, place, strlen(place)) || !strstr(err.message, says)) {
        fail_msg("\"%s\": %s", text, err.message);
    }
}

static void errors(void **state)
{
    (void)state;
    refused("", "file: ", "no records");
    refused(" \n\r\n", "file: ", "no records");
    refused("[]", "file: ", "no records");
    refused("{\"problem\":\"a\",\"answer\":1}\n\n{\"problem\":\"a\"", "file:3: ", "JSON");
    refused("{\"problem\":\"a\",\"answer\":1}\n[1]", "file:2: ", "object");
    refused("{\"problem\":\"a\",\"answer\":1}\n{\"problem\":\"b\"}", "file:2: ", "\"answer\"");
    refused("{\"problem\":\"\",\"answer\":1}", "file:1: ", "empty");
    refused("[\n{\"problem\":\"a\",\"answer\":1}\n{}]", "file:3: ", "comma");
    refused("[\n{\"problem\":\"a\",\n\"answer\":1}", "file:3: ", "comma or ]");
    refused("[{\"problem\":\"a\",\"answer\":1}]\nx", "file:2: ", "after the end");
    refused("[\n\n{\"problem\":\"a\"", "file:3: ", "never closed");
    refused("[{\"problem\":\"a\",\n\"answer\":tru}]", "file:2: ", "JSON");
    refused("{\"question\":\"a\",\"answer\":\"#### 1\"}\n{\"question\":\"a\",\"answer\":\"1\"}",
            "file:2: ", "####");
    rt_records records;
    rt_task_config task = {.name = "set", .form = "gsm9k"};
    assert_int_equal(parse_task(&records, "{}", task), RT_ERR_USAGE);
}

static void bounded(void **state)
{
    (void)state;
    enum { BYTES = 9 << 20 };
    rt_buf text = {0};
    rt_records records;
    char *fill = malloc(BYTES);
    memset(fill, 'x', BYTES);
    rt_buf_addf(&text, "{\"problem\":\"");
    rt_buf_add(&text, fill, BYTES);
    rt_buf_addf(&text, "\",\"answer\":1}");
    assert_int_equal(parse(&records, text.data), RT_ERR_INPUT);
    assert_non_null(strstr(err.message, "file:1: "));
    rt_buf_clear(&text);
    memset(fill, '[', BYTES);
    rt_buf_addf(&text, "[{\"a\":");
    rt_buf_add(&text, fill, BYTES);
    assert_int_equal(parse(&records, text.data), RT_ERR_INPUT);
    assert_non_null(strstr(err.message, "nested"));
    free(fill);
    rt_buf_free(&text);
}

static void prompts(void **state)
{
    (void)state;
    rt_arena *arena = rt_arena_new(1 << 12);
    assert_string_equal(rt_prompt_apply("a {problem} b {problem}{x}", "1+1", arena),
                        "a 1+1 b 1+1{x}");
    char *template = rt_prompt_builtin("number", "</t>");
    const char *prompt = rt_prompt_apply(template, "How many?", arena);
    assert_non_null(strstr(prompt, "How many?"));
    assert_non_null(strstr(prompt, "</t>"));
    assert_non_null(strstr(prompt, "\\boxed{"));
    assert_null(strstr(prompt, "{problem}"));
    rt_free(template);
    const char *path = "/tmp/rt_tasks_prompt_test";
    assert_int_equal(rt_file_write(path, "no place", 8, &err), 0);
    assert_int_equal(rt_prompt_load(&template, path, "{problem}", &err), RT_ERR_USAGE);
    assert_int_equal(rt_file_write(path, "P: {problem}", 12, &err), 0);
    assert_int_equal(rt_prompt_load(&template, path, "{problem}", &err), 0);
    assert_string_equal(template, "P: {problem}");
    rt_free(template);
    remove(path);
    rt_arena_free(&arena);
}

/* Every record loads, its gold is readable, and its solution is graded correct. */
static void published(const char *name, const char *path, int64_t count)
{
    if (!rt_file_exists(path)) {
        skip();
    }
    rt_config config = {.tasks_count = 1};
    config.tasks[0] = (rt_task_config){.name = (char *)(uintptr_t)name,
                                       .data = (char *)(uintptr_t)path, .weight = 1,
                                       .eval_share = 0.1};
    rt_taskset *set;
    if (rt_taskset_load(&set, &config, &err)) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(rt_taskset_count(set, 0, RT_TRAIN) + rt_taskset_count(set, 0, RT_EVAL), count);
    rt_arena *arena = rt_arena_new(1 << 16);
    for (int64_t i = 0; i < rt_taskset_count(set, 0, RT_TRAIN); i++) {
        rt_problem problem;
        rt_verdict verdict;
        assert_int_equal(rt_problem_next(set, i, arena, &problem, &err), 0);
        assert_string_equal(problem.grader, "number");
        size_t bytes = strlen(problem.solution);
        rt_grade_response("number", problem.solution, bytes, problem.gold, &verdict, &err);
        assert_int_equal(verdict.grade, RT_CORRECT);
        rt_grade_response("math", problem.solution, bytes, problem.gold, &verdict, &err);
        assert_int_equal(verdict.grade, RT_CORRECT);
        assert_null(strstr(problem.solution, "<<"));
        assert_string_equal(problem.solution + bytes - 11, "}</thought>");
        rt_arena_reset(arena);
    }
    rt_arena_free(&arena);
    rt_taskset_free(&set);
}

static void published_gsm8k(void **state)
{
    (void)state;
    published("gsm8k", "../shared/data/gsm8k_train.jsonl", 7473);
}

static void published_svamp(void **state)
{
    (void)state;
    published("svamp", "../shared/data/svamp.json", 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gsm8k), cmocka_unit_test(svamp), cmocka_unit_test(plain),
        cmocka_unit_test(programs), cmocka_unit_test(errors), cmocka_unit_test(bounded),
        cmocka_unit_test(prompts),
        cmocka_unit_test(published_gsm8k), cmocka_unit_test(published_svamp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
