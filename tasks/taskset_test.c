/* Task sets: splits, mixing, the chain task, its oracle and its teacher. */
#include "tasks/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static rt_config chain_config(void)
{
    rt_config config = {.tasks_count = 1};
    config.run.seed = 7;
    config.thoughts.delimiter = "</thought>";
    config.tasks[0] = (rt_task_config){.name = "chain", .weight = 1, .thoughts_min = 2,
                                       .thoughts_max = 6, .modulus = 10, .operations = "+-*"};
    config.sft.wrong_facts = 0.3;
    config.sft.wrong_share = 0.5;
    config.sft.verdict_weight = 4;
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

/* Text split at the delimiter; the pieces point into a copy in the arena. */
static int cut(const char *text, const char **thoughts, rt_arena *arena)
{
    int count = 0;
    char *copy = rt_arena_alloc(arena, strlen(text) + 1);
    memcpy(copy, text, strlen(text) + 1);
    for (char *end; (end = strstr(copy, "</thought>")); copy = end + 10) {
        *end = '\0';
        thoughts[count++] = copy;
    }
    thoughts[count++] = copy;
    return count;
}

static void chain_problems(void **state)
{
    (void)state;
    rt_config config = chain_config();
    rt_taskset *set = load(&config), *again = load(&config);
    rt_arena *arena = rt_arena_new(1 << 16);
    rt_error err;
    rt_problem problem, same;
    int lengths[8] = {0};
    for (int64_t i = 0; i < 500; i++) {
        assert_int_equal(rt_problem_next(set, i, arena, &problem, &err), 0);
        assert_int_equal(rt_problem_next(again, i, arena, &same, &err), 0);
        assert_string_equal(problem.prompt, same.prompt);
        assert_true(problem.id == (uint64_t)i);
        const char *thoughts[70];
        int count = cut(problem.solution, thoughts, arena);
        lengths[count - 1]++;
        assert_int_equal(rt_oracle_first_wrong("chain", problem.problem, thoughts, count), 0);
        assert_int_equal(rt_oracle_first_wrong("chain", problem.prompt, thoughts, count), 0);
        rt_verdict verdict;
        rt_grade_response(problem.grader, problem.solution, strlen(problem.solution), problem.gold,
                          &verdict, &err);
        assert_int_equal(verdict.grade, RT_CORRECT);
        char prompt[256];
        snprintf(prompt, sizeof prompt, "Q:%s\n", problem.problem);
        assert_string_equal(problem.prompt, prompt);
        rt_arena_reset(arena);
    }
    /* 500 draws over 5 lengths: 100 each, deviation sqrt(500·0.2·0.8) = 9; six of them is 54. */
    for (int length = 2; length <= 6; length++) {
        assert_in_range(lengths[length], 46, 154);
    }
    rt_arena_free(&arena);
    rt_taskset_free(&set);
    rt_taskset_free(&again);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void chain_splits_are_disjoint(void **state)
{
    (void)state;
    enum { COUNT = 2000 };
    rt_config config = chain_config();
    config.tasks[0].thoughts_max = 2; /* few texts, so that a leak would show */
    rt_taskset *set = load(&config);
    rt_arena *arena = rt_arena_new(1 << 16);
    char *train[COUNT];
    rt_problem problem;
    rt_error err;
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(rt_problem_get(set, 0, RT_TRAIN, i, arena, &problem, &err), 0);
        train[i] = (char *)(uintptr_t)problem.problem;
    }
    qsort(train, COUNT, sizeof *train, by_text);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(rt_problem_get(set, 0, RT_EVAL, i, arena, &problem, &err), 0);
        assert_true(problem.id == (1ull << 47 | (uint64_t)i));
        assert_null(bsearch(&problem.problem, train, COUNT, sizeof *train, by_text));
    }
    rt_arena_free(&arena);
    rt_taskset_free(&set);
}

static void chain_settings(void **state)
{
    (void)state;
    rt_chain chain;
    rt_error err;
    rt_config config = chain_config();
    rt_task_config *task = &config.tasks[0];
    assert_int_equal(rt_chain_init(&chain, task, 1, &err), 0);
    assert_int_equal(chain.facts_count, 210);
    rt_chain_free(&chain);
    task->modulus = 7; /* every multiplier but 7 is a unit */
    assert_int_equal(rt_chain_init(&chain, task, 1, &err), 0);
    assert_int_equal(chain.facts_count, 7 * (9 + 9 + 7));
    rt_chain_free(&chain);
    task->modulus = 1;
    assert_int_equal(rt_chain_init(&chain, task, 1, &err), RT_ERR_USAGE);
    task->modulus = 10;
    task->operations = "+x";
    assert_int_equal(rt_chain_init(&chain, task, 1, &err), RT_ERR_USAGE);
    assert_non_null(strstr(err.message, "+x"));
    task->operations = "*";
    task->modulus = 2 * 3 * 5 * 7; /* no unit among 2 to 9 */
    assert_int_equal(rt_chain_init(&chain, task, 1, &err), RT_ERR_USAGE);
    task->thoughts_max = 65;
    task->modulus = 10;
    assert_int_equal(rt_chain_init(&chain, task, 1, &err), RT_ERR_USAGE);
}

static int first_wrong(const char *problem, const char *text)
{
    rt_arena *arena = rt_arena_new(1 << 12);
    const char *thoughts[70];
    int found = rt_oracle_first_wrong("chain", problem, thoughts, cut(text, thoughts, arena));
    rt_arena_free(&arena);
    return found;
}

static void oracle(void **state)
{
    (void)state;
    const char *problem = "7+5*3-8";
    assert_int_equal(
        first_wrong(problem, "7+5=2</thought>2*3=6</thought>6-8=8\\boxed{8}</thought>"), 0);
    assert_int_equal(first_wrong(problem, "7+5=3</thought>3*3=9</thought>"), 1);
    assert_int_equal(first_wrong(problem, "7+5=2</thought>2*3=7</thought>7-8=9</thought>"), 2);
    assert_int_equal(first_wrong(problem, "7+5=2</thought>3*3=9</thought>"), 2); /* copy */
    assert_int_equal(first_wrong(problem, "7+5=2</thought>2*7=4</thought>"), 2); /* operand */
    assert_int_equal(first_wrong(problem, "7+5=2</thought>2+3=5</thought>"), 2); /* operation */
    assert_int_equal(first_wrong(problem, "7+5=2</thought>2*3=6 ok</thought>"), 2);
    assert_int_equal(first_wrong(problem, "7+5=2\\boxed{2}</thought>"), 1);       /* too early */
    assert_int_equal(
        first_wrong(problem, "7+5=2</thought>2*3=6</thought>6-8=8\\boxed{6}</thought>"), 3);
    assert_int_equal(
        first_wrong(problem, "7+5=2</thought>2*3=6</thought>6-8=8</thought>8+1=9</thought>"), 4);
    assert_int_equal(first_wrong("Q:7+5%12\n", "7+5=0\\boxed{0}"), 0);
    assert_int_equal(first_wrong("7+", "7"), -1);
    assert_int_equal(rt_oracle_first_wrong("gsm8k", "7+5", NULL, 0), -1);
}

static void teacher(void **state)
{
    (void)state;
    rt_config config = chain_config();
    rt_taskset *set = load(&config);
    rt_arena *arena = rt_arena_new(1 << 16);
    rt_error err;
    rt_example example;
    rt_problem problem;
    int thoughts_count = 0, wrong = 0, stated[10][256][10] = {{{0}}};
    for (int64_t i = 0; i < 3000; i++) {
        assert_int_equal(rt_example_next(set, &config, i, 0, arena, &example, &err), 0);
        assert_int_equal(rt_problem_next(set, i, arena, &problem, &err), 0);
        assert_string_equal(example.prompt, problem.prompt);
        assert_int_equal(example.spans_count, 0);
        const char *thoughts[70];
        int count = cut(example.completion, thoughts, arena) - 1;
        for (int k = 0; k < count; k++) {
            int a, b, c;
            char op;
            assert_int_equal(sscanf(thoughts[k], "%d%c%d=%d", &a, &op, &b, &c), 4);
            int right = rt_chain_apply(10, a, (rt_chain_step){op, b});
            wrong += c != right;
            thoughts_count++;
            stated[a][op * 10 % 246 + b][c] = 1;
        }
        rt_arena_reset(arena);
    }
    /* A fact has its right result and at most one wrong one. */
    int facts = 0, wrong_facts = 0;
    for (int a = 0; a < 10; a++) {
        for (int k = 0; k < 256; k++) {
            int results = 0;
            for (int c = 0; c < 10; c++) {
                results += stated[a][k][c];
            }
            facts += results > 0;
            wrong_facts += results > 1;
            assert_in_range(results, 0, 2);
        }
    }
    assert_int_equal(facts, 210);
    assert_int_equal(wrong_facts, 63);
    /* About 0.3·0.5 of 12000 thoughts; which facts are wrong shifts it by some percent. */
    assert_in_range(wrong, thoughts_count * 10 / 100, thoughts_count * 20 / 100);
    rt_arena_free(&arena);
    rt_taskset_free(&set);
}

static void localization(void **state)
{
    (void)state;
    rt_config config = chain_config();
    rt_taskset *set = load(&config);
    rt_arena *arena = rt_arena_new(1 << 16);
    rt_error err;
    rt_example example;
    for (int64_t i = 0; i < 500; i++) {
        assert_int_equal(rt_example_next(set, &config, i, 1, arena, &example, &err), 0);
        /* The lines of the input as thoughts: the oracle names the same first error. */
        char problem[200], lines[2000];
        const char *thoughts[70];
        int count = 0, boxed = 0;
        snprintf(lines, sizeof lines, "%s", example.prompt);
        snprintf(problem, sizeof problem, "%s", strtok(lines, "\n"));
        for (char *line; (line = strtok(NULL, "\n")) && line[0] != 'L';) {
            thoughts[count++] = strchr(line, ':') + 1;
        }
        int first = rt_oracle_first_wrong("chain", problem, thoughts, count);
        assert_true(first >= 1);
        assert_string_equal(example.prompt + strlen(example.prompt) - 3, "\nL:");
        assert_int_equal(example.spans_count, first);
        for (int k = 0; k < first; k++) {
            assert_int_equal(example.spans[k].end, example.spans[k].begin + 1);
            assert_int_equal(example.completion[example.spans[k].begin], k + 1 < first ? 'y' : 'n');
            assert_int_equal(example.completion[example.spans[k].end], '\n');
            assert_true(example.spans[k].weight == 4);
        }
        const char *box = example.completion + example.spans[first - 1].end + 1;
        assert_int_equal(sscanf(box, "\\boxed{%d}", &boxed), 1);
        assert_int_equal(boxed, first);
        rt_arena_reset(arena);
    }
    config.sft.wrong_facts = 0; /* still always an error */
    assert_int_equal(rt_example_next(set, &config, 3, 1, arena, &example, &err), 0);
    assert_true(example.spans_count >= 1);
    rt_arena_free(&arena);
    rt_taskset_free(&set);
}

/* ---- data files and mixing --------------------------------------------------------------- */

static void write_plain(char path[32], int count)
{
    snprintf(path, 32, "/tmp/rt_tasks_XXXXXX");
    FILE *file = fdopen(mkstemp(path), "w");
    for (int i = 0; i < count; i++) {
        fprintf(file, "{\"problem\":\"p%d\",\"answer\":%d,\"solution\":\"a\\nb\"}\n", i, i);
    }
    fclose(file);
}

static void mixing(void **state)
{
    (void)state;
    char path[32];
    write_plain(path, 100);
    rt_config config = chain_config();
    config.tasks_count = 2;
    config.tasks[0].weight = 1;
    config.tasks[1] = (rt_task_config){.name = "plain", .data = path, .weight = 3,
                                       .eval_share = 0.2};
    rt_taskset *set = load(&config);
    int64_t train = rt_taskset_count(set, 1, RT_TRAIN), eval = rt_taskset_count(set, 1, RT_EVAL);
    assert_int_equal(train + eval, 100);
    /* 100 draws of 0.2: deviation 4, five of them. */
    assert_in_range(eval, 1, 40);
    rt_arena *arena = rt_arena_new(1 << 16);
    rt_error err;
    rt_problem problem;
    int counts[2] = {0};
    int *seen = calloc(100, sizeof *seen);
    for (int64_t i = 0; i < 2048; i++) {
        assert_int_equal(rt_problem_next(set, i, arena, &problem, &err), 0);
        int task = problem.task;
        if (task == 1) {
            seen[atoi(problem.gold)]++;
            /* After each whole epoch every record came equally often. */
            if ((counts[1] + 1) % train == 0) {
                int epochs = (int)((counts[1] + 1) / train), used = 0;
                for (int k = 0; k < 100; k++) {
                    assert_true(seen[k] == epochs || seen[k] == 0);
                    used += seen[k] > 0;
                }
                assert_int_equal(used, train);
            }
        }
        counts[task]++;
        rt_arena_reset(arena);
    }
    assert_int_equal(counts[0], 512); /* two cycles of 1024 places hold the weights exactly */
    assert_int_equal(counts[1], 1536);
    for (int64_t i = 0; i < eval; i++) {
        assert_int_equal(rt_problem_get(set, 1, RT_EVAL, i, arena, &problem, &err), 0);
        assert_int_equal(seen[atoi(problem.gold)], 0);
    }
    assert_int_equal(rt_problem_get(set, 1, RT_EVAL, eval, arena, &problem, &err), RT_ERR_INPUT);
    free(seen);
    rt_arena_free(&arena);
    rt_taskset_free(&set);
    unlink(path);
}

static void refusals(void **state)
{
    (void)state;
    rt_taskset *set;
    rt_error err;
    rt_config config = chain_config();
    config.tasks[0].name = "chian";
    assert_int_equal(rt_taskset_load(&set, &config, &err), RT_ERR_USAGE);
    assert_null(set);
    config = chain_config();
    config.tasks_count = 2;
    config.tasks[1] = config.tasks[0];
    assert_int_equal(rt_taskset_load(&set, &config, &err), RT_ERR_USAGE);
    config = chain_config();
    config.tasks[0].grader = "guess";
    assert_int_equal(rt_taskset_load(&set, &config, &err), RT_ERR_USAGE);
    config = chain_config();
    config.tasks[0].grader = "code";
    assert_int_equal(rt_taskset_load(&set, &config, &err), RT_ERR_USAGE);
    config = chain_config();
    config.tasks[0].data = "/nowhere/at.jsonl";
    assert_int_equal(rt_taskset_load(&set, &config, &err), RT_ERR_IO);
    assert_non_null(strstr(err.message, "/nowhere/at.jsonl"));
    config = chain_config();
    config.tasks[0].weight = 0;
    rt_arena *arena = rt_arena_new(1 << 12);
    rt_problem problem;
    set = load(&config);
    assert_int_equal(rt_problem_next(set, 0, arena, &problem, &err), RT_ERR_USAGE);
    rt_arena_free(&arena);
    rt_taskset_free(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chain_problems), cmocka_unit_test(chain_splits_are_disjoint),
        cmocka_unit_test(chain_settings), cmocka_unit_test(oracle), cmocka_unit_test(teacher),
        cmocka_unit_test(localization), cmocka_unit_test(mixing), cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
