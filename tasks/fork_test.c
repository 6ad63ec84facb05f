/* The fork task: what decides and what does not, the teacher's errors, exact values of states. */
#include "tasks/internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static rt_error err;

static rt_config fork_config(void)
{
    rt_config config = {.tasks_count = 1};
    config.run.seed = 11;
    config.thoughts.delimiter = "</thought>";
    config.sft.verdict_weight = 4;
    config.tasks[0] = (rt_task_config){.name = "fork", .weight = 1, .thoughts_min = 4,
                                       .thoughts_max = 8, .modulus = 10, .operations = "+-*",
                                       .decisive = 3, .slip = 0.2, .filler = 3,
                                       .dead_ends = true};
    return config;
}

static rt_taskset *load(const rt_config *config)
{
    rt_taskset *set;
    if (rt_taskset_load(&set, config, &err)) {
        fail_msg("%s", err.message);
    }
    return set;
}

static rt_fork make(const rt_config *config)
{
    rt_fork fork;
    if (rt_fork_init(&fork, &config->tasks[0], (uint64_t)config->run.seed, &err)) {
        fail_msg("%s", err.message);
    }
    return fork;
}

static int cut(const char *text, const char **thoughts, rt_arena *arena)
{
    int count = 0;
    char *copy = memcpy(rt_arena_alloc(arena, strlen(text) + 1), text, strlen(text) + 1);
    for (char *end; (end = strstr(copy, "</thought>")); copy = end + 10) {
        *end = '\0';
        thoughts[count++] = copy;
    }
    assert_string_equal(copy, "");
    return count;
}

static bool easy(const char *thought)
{
    return thought[strspn(thought, "0123456789")] == '+' &&
           thought[strspn(thought, "0123456789") + 1] >= 'a';
}

static void check_problem(const rt_taskset *set, const rt_problem *problem, rt_arena *arena)
{
    const char *thoughts[RT_CHAIN_THOUGHTS_MAX];
    int count = cut(problem->solution, thoughts, arena), decisive = 0;
    rt_chain_problem parsed;
    rt_verdict verdict;
    assert_true(rt_fork_parse(problem->problem, &parsed));
    assert_true(count == parsed.count && count >= 4 && count <= 8);
    for (int i = 0; i < count; i++) {
        decisive += parsed.steps[i].op != '?';
        assert_int_equal(strcspn(strchr(thoughts[i], ';') + 1, "\\"), 3);
    }
    assert_int_equal(decisive, 3);
    assert_int_equal(rt_oracle_first_wrong("fork", problem->problem, thoughts, count), 0);
    assert_true(rt_oracle_value(set, problem, thoughts, count) == 1);
    assert_int_equal(rt_grade_response(problem->grader, problem->solution,
                                       strlen(problem->solution), problem->gold, &verdict, &err),
                     0);
    assert_int_equal(verdict.grade, RT_CORRECT);
}

static void problems(void **state)
{
    (void)state;
    for (int dead_ends = 0; dead_ends < 2; dead_ends++) {
        rt_config config = fork_config();
        config.tasks[0].dead_ends = dead_ends;
        rt_taskset *set = load(&config);
        rt_arena *arena = rt_arena_new(1 << 16);
        int merging = 0;
        for (int64_t i = 0; i < 400; i++) {
            rt_problem problem;
            int split = i % 4 == 3 ? RT_EVAL : RT_TRAIN;
            assert_int_equal(rt_problem_get(set, 0, split, i, arena, &problem, &err), 0);
            check_problem(set, &problem, arena);
            /* The split is a matter of the text alone. */
            uint64_t hash = rt_hash64(problem.problem, strlen(problem.problem), 0);
            assert_int_equal(hash % 10 == 0, split == RT_EVAL);
            merging += strpbrk(problem.problem, "^_") != NULL;
            rt_arena_reset(arena);
        }
        /* Three decisive steps of which half merge: 7 of 8 problems, 350 of 400 ± 5 × 6.6. */
        assert_true(dead_ends ? merging == 0 : abs(merging - 350) < 33);
        rt_taskset_free(&set);
        rt_arena_free(&arena);
    }
}

static void oracle(void **state)
{
    (void)state;
    static const struct {
        const char *problem, *thoughts[3];
        int count, first;
    } cases[] = {
        {"4+3+q^9", {"4+3=7", "7+q=7;xyz", " 7^9=9\\boxed{9}</thought>"}, 3, 0},
        {"4+3+q^9", {"4+3=7;", "7+q=7", ""}, 3, 0},
        {"4+3+q^9", {"4+3=8", "8+q=8", "8^9=9\\boxed{9}"}, 3, 1},
        {"4+3+q^9", {"4+3=7", "7+q=8", "8^9=9\\boxed{9}"}, 3, 2},
        {"4+3+q^9", {"4+3=7", "7+5=7", "7^9=9\\boxed{9}"}, 3, 2},
        {"4+3+q^9", {"4+3=7", "7+q=7", "7^9=9\\boxed{7}"}, 3, 3},
        {"4+3+q^9", {"4+3=7", "7+r=7", "7^9=9\\boxed{9}"}, 3, 2},
        {"4+3+q^9", {"4+3=7\\boxed{7}", "", ""}, 1, 1},
        {"4+3+q^9", {"4+3=7;A", "", ""}, 1, 1},
        {"4_2*3%7", {"4_2=2", "2*3=6\\boxed{6}", "6+1=7"}, 3, 3},
        {"4_2*3%7", {"4_2=2", "2*3=6\\boxed{6}", ""}, 2, 0},
        {"4/2", {"4/2=2", "", ""}, 1, -1},
        {"4+2%1", {"4+2=0", "", ""}, 1, -1},
    };
    for (size_t i = 0; i < RT_COUNT(cases); i++) {
        int first = rt_oracle_first_wrong("fork", cases[i].problem, cases[i].thoughts,
                                          cases[i].count);
        if (first != cases[i].first) {
            fail_msg("%s, case %zu: %d", cases[i].problem, i, first);
        }
    }
    assert_int_equal(rt_oracle_first_wrong("fork_2", "4+2", (const char *[]){"4+2=6"}, 1), 0);
    assert_int_equal(rt_oracle_first_wrong("forks", "4+2", (const char *[]){"4+2=6"}, 1), -1);
}

/* Share of decisive choices that the teacher gets wrong. Each (value, step) it errs on is counted in
 * seen; a hard fact must always show the same wrong result. */
static double errors(const rt_fork *fork, int problems_count, int *decisions, int *kinds_of_errors)
{
    int wrong = 0, seen[10][128];
    memset(seen, -1, sizeof seen);
    *decisions = *kinds_of_errors = 0;
    for (int p = 0; p < problems_count; p++) {
        rt_chain_problem problem;
        int results[RT_CHAIN_THOUGHTS_MAX], first = 0;
        assert_int_equal(rt_fork_draw(fork, RT_TRAIN, (uint64_t)p, &problem, &err), 0);
        int said = rt_fork_teach(fork, &problem, (uint64_t)p, results);
        int value = problem.start;
        for (int i = 0; i < problem.count; value = results[i++]) {
            rt_chain_step step = problem.steps[i];
            bool slipped = results[i] != rt_fork_apply(10, value, step);
            *decisions += step.op != '?';
            wrong += slipped;
            first = slipped && !first ? i + 1 : first;
            if (!slipped) {
                continue;
            }
            assert_true(step.op != '?');
            int *was = &seen[value][(step.op == '+' ? 0 : step.op == '-' ? 16 : 32) + step.operand];
            *kinds_of_errors += *was < 0;
            assert_true(fork->hard_facts == 0 || *was < 0 || *was == results[i]);
            *was = results[i];
        }
        assert_int_equal(said, first);
    }
    return (double)wrong / *decisions;
}

static void teacher(void **state)
{
    (void)state;
    rt_config config = fork_config();
    rt_fork fork = make(&config);
    int decisions, kinds;
    double share = errors(&fork, 4000, &decisions, &kinds);
    assert_int_equal(decisions, 12000);
    /* Five deviations of a share of 0.2 in 12000 draws: 5 × sqrt(0.16 / 12000). */
    assert_true(fabs(share - 0.2) < 0.0183);
    assert_int_equal(kinds, fork.facts_count);
    rt_fork_free(&fork);
    config.tasks[0].hard = 0.25;
    fork = make(&config);
    share = errors(&fork, 4000, &decisions, &kinds);
    /* The facts are not met equally often, so that the mean need not be 0.2; that the errors are
     * those of a quarter of the facts is exact. 210 facts: 53 are hard, stated at 0.2 × 210 / 53. */
    assert_int_equal(fork.facts_count, 210);
    assert_int_equal(fork.hard_facts, 53);
    assert_int_equal(kinds, 53);
    assert_true(share > 0.1 && share < 0.3);
    rt_fork_free(&fork);
}

/* Sum over every way to go on: the definition, without the shortcut of equal errors. */
static double enumerate(const rt_fork *fork, const rt_chain_problem *problem, int i, int value,
                        int gold)
{
    if (i == problem->count) {
        return value == gold;
    }
    int right = rt_fork_apply(problem->modulus, value, problem->steps[i]), wrong = -1;
    double slip = problem->steps[i].op == '?' ? 0
                                              : rt_fork_slip(fork, value, problem->steps[i],
                                                             &wrong);
    double sum = 0;
    for (int r = 0; r < problem->modulus; r++) {
        double share = r == right  ? 1 - slip
                       : wrong < 0 ? slip / (problem->modulus - 1)
                       : r == wrong ? slip
                                    : 0;
        sum += share * enumerate(fork, problem, i + 1, r, gold);
    }
    return sum;
}

static void values(void **state)
{
    (void)state;
    for (int variant = 0; variant < 4; variant++) {
        rt_config config = fork_config();
        config.tasks[0].modulus = 4;
        config.tasks[0].thoughts_max = 5;
        config.tasks[0].hard = variant & 1 ? 0.5 : 0;
        config.tasks[0].dead_ends = variant & 2;
        rt_fork fork = make(&config);
        for (int p = 0; p < 50; p++) {
            rt_chain_problem problem;
            assert_int_equal(rt_fork_draw(&fork, RT_TRAIN, (uint64_t)p, &problem, &err), 0);
            int results[RT_CHAIN_THOUGHTS_MAX];
            rt_fork_results(&problem, results);
            int gold = results[problem.count - 1];
            /* At most 5 steps of fewer than 10 rounded operations on numbers up to 1: 50 × 2^-53
             * for either way to compute it. */
            double exact = enumerate(&fork, &problem, 0, problem.start, gold);
            assert_true(fabs(rt_fork_value(&fork, &problem, NULL, 0) - exact) < 1.2e-14);
            rt_buf line = {0};
            int wrong = (results[0] + 1) % 4;
            rt_fork_line(&fork, &problem, 0, problem.start, wrong, 0, &line);
            const char *thought = line.data;
            exact = enumerate(&fork, &problem, 1, wrong, gold);
            assert_true(fabs(rt_fork_value(&fork, &problem, &thought, 1) - exact) < 1.2e-14);
            rt_buf_free(&line);
        }
        rt_fork_free(&fork);
    }
}

/* Without further errors a wrong value is lost behind a dead end, and else sometimes not. */
static void dead_ends(void **state)
{
    (void)state;
    for (int dead = 0; dead < 2; dead++) {
        rt_config config = fork_config();
        config.tasks[0].slip = 0;
        config.tasks[0].dead_ends = dead;
        rt_fork fork = make(&config);
        int saved = 0, lost = 0;
        for (int p = 0; p < 300; p++) {
            rt_chain_problem problem;
            int results[RT_CHAIN_THOUGHTS_MAX];
            assert_int_equal(rt_fork_draw(&fork, RT_TRAIN, (uint64_t)p, &problem, &err), 0);
            rt_fork_results(&problem, results);
            rt_buf line = {0};
            rt_fork_line(&fork, &problem, 0, problem.start, (results[0] + 3) % 10, 0, &line);
            const char *thought = line.data;
            double value = rt_fork_value(&fork, &problem, &thought, 1);
            assert_true(value == 0 || value == 1);
            saved += value == 1;
            lost += value == 0;
            rt_buf_free(&line);
        }
        assert_true(lost > 30);
        assert_true(dead ? saved == 0 : saved > 30);
        rt_fork_free(&fork);
    }
}

static void lost_states(void **state)
{
    (void)state;
    rt_config config = fork_config();
    rt_fork fork = make(&config);
    rt_chain_problem problem;
    assert_true(rt_fork_parse("4+3+b+1", &problem));
    assert_true(rt_fork_value(&fork, &problem, (const char *[]){"nonsense"}, 1) == 0);
    assert_true(rt_fork_value(&fork, &problem, (const char *[]){"4+3=12"}, 1) == 0);
    assert_true(rt_fork_value(&fork, &problem, (const char *[]){"4+3=7\\boxed{7}"}, 1) == 0);
    assert_true(rt_fork_value(&fork, &problem, (const char *[]){"4+3=7\\boxed{8}"}, 1) == 1);
    assert_true(rt_fork_value(&fork, &problem, (const char *[]){"a", "b", "c", "d"}, 4) == 0);
    /* A dead end's only way back is a second slip to the one right value: 0.2 / 9. */
    assert_true(fabs(rt_fork_value(&fork, &problem, (const char *[]){"4+3=6"}, 1) - 0.2 / 9) <
                1.2e-14);
    rt_fork_free(&fork);
}

/* Grader steps: what counts is every choice, so a state is worth the product of what is left. */
static void every_step(void **state)
{
    (void)state;
    rt_config config = fork_config();
    config.tasks[0].grader = "steps";
    rt_taskset *set = load(&config);
    rt_arena *arena = rt_arena_new(1 << 16);
    rt_verdict verdict;
    for (int64_t i = 0; i < 200; i++) {
        rt_problem problem;
        const char *thoughts[RT_CHAIN_THOUGHTS_MAX];
        assert_int_equal(rt_problem_get(set, 0, RT_TRAIN, i, arena, &problem, &err), 0);
        int count = cut(problem.solution, thoughts, arena), decisive = 3;
        for (int k = 0; k <= count; k++) {
            double value = rt_oracle_value(set, &problem, thoughts, k);
            assert_true(fabs(value - pow(0.8, decisive)) < 1e-15);
            decisive -= k < count && !easy(thoughts[k]);
        }
        thoughts[0] = "1+1=3";
        assert_true(rt_oracle_value(set, &problem, thoughts, 1) == 0);
        assert_true(rt_oracle_value(set, &problem, thoughts, count) == 0);
        assert_int_equal(rt_grade_response(problem.grader, problem.solution,
                                           strlen(problem.solution), problem.gold, &verdict, &err),
                         0);
        assert_int_equal(verdict.grade, RT_CORRECT);
        char *spoilt = rt_strdup(problem.solution), *first = strchr(spoilt, '=') + 1;
        *first = *first == '9' ? '0' : (char)(*first + 1);
        rt_grade_response(problem.grader, spoilt, strlen(spoilt), problem.gold, &verdict, &err);
        assert_int_equal(verdict.grade, RT_WRONG);
        rt_free(spoilt);
        rt_arena_reset(arena);
    }
    rt_taskset_free(&set);
    rt_arena_free(&arena);
}

static void examples(void **state)
{
    (void)state;
    rt_config config = fork_config();
    rt_taskset *set = load(&config);
    rt_arena *arena = rt_arena_new(1 << 16);
    int wrong = 0;
    for (int64_t i = 0; i < 300; i++) {
        rt_example example;
        rt_problem problem;
        const char *thoughts[RT_CHAIN_THOUGHTS_MAX];
        assert_int_equal(rt_example_next(set, &config, i, 1, arena, &example, &err), 0);
        assert_int_equal(rt_problem_next(set, i, arena, &problem, &err), 0);
        char *lines = strchr(memcpy(rt_arena_alloc(arena, strlen(example.prompt) + 1),
                                    example.prompt, strlen(example.prompt)), '\n') + 1;
        int count = 0;
        for (char *end; (end = strchr(lines, '\n')); lines = end + 1) {
            *end = '\0';
            thoughts[count++] = lines + 2;
        }
        assert_string_equal(lines, "L:");
        int first = rt_oracle_first_wrong("fork", problem.problem, thoughts, count);
        bool failed;
        assert_int_equal(rt_localize_parse(example.completion, strlen(example.completion), count,
                                           &failed), first);
        assert_true(first >= 1 && !failed && example.spans_count == first);
        for (int k = 0; k < first; k++) {
            struct rt_span span = example.spans[k];
            const char *verdict = example.completion + span.begin;
            assert_true(span.end == span.begin + 1 && span.weight == 4);
            assert_int_equal(*verdict, k == first - 1 ? 'n' : 'y');
            /* "…=right,stated" and the verdict: whether they are the same. */
            assert_true(verdict[-2] == ',' && verdict[-4] == '=');
            assert_int_equal(verdict[-1] == verdict[-3], *verdict == 'y');
        }
        assert_string_equal(rt_localize_prompt(set, &problem, thoughts, count, NULL, arena),
                            example.prompt);
        assert_int_equal(rt_example_next(set, &config, i, 0, arena, &example, &err), 0);
        count = cut(example.completion, thoughts, arena);
        wrong += rt_oracle_first_wrong("fork", problem.problem, thoughts, count) > 0;
        rt_arena_reset(arena);
    }
    /* Three choices at 0.2 each: wrong somewhere in 1 - 0.8^3 = 0.488 of 300, ± 5 × 8.7. */
    assert_true(abs(wrong - 146) < 44);
    rt_taskset_free(&set);
    rt_arena_free(&arena);
}

static void refusals(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++) {
        rt_config config = fork_config();
        rt_task_config *task = &config.tasks[0];
        if (i == 0) {
            task->decisive = 5;
        } else if (i == 1) {
            task->hard = 0.1;
        } else if (i == 2) {
            task->filler = 65;
        } else if (i == 3) {
            task->operations = "++";
        } else if (i == 4) {
            task->thoughts_max = 65;
        } else {
            task->modulus = 6;
            task->operations = "*";
            task->name = "fork_6"; /* 5 and 7 are units modulo 6 */
        }
        rt_taskset *set;
        int code = rt_taskset_load(&set, &config, &err);
        assert_int_equal(code, i == 5 ? RT_OK : RT_ERR_USAGE);
        if (!code) {
            rt_taskset_free(&set);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(problems),  cmocka_unit_test(oracle),      cmocka_unit_test(teacher),
        cmocka_unit_test(values),    cmocka_unit_test(dead_ends),   cmocka_unit_test(lost_states),
        cmocka_unit_test(examples),  cmocka_unit_test(every_step),  cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
