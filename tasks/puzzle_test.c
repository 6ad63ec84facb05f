/* countdown, sort, path and table: what they share, and answers against brute force. */
#include "tasks/puzzle.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static rt_error err;
static const char *const names[] = {"countdown", "sort", "path", "table"};
enum { KINDS = 4, COUNTDOWN = 0, SORT = 1, PATH = 2, TABLE = 3 };

static rt_config config_of(int kind)
{
    rt_config config = {.tasks_count = 1};
    config.run.seed = 5;
    config.thoughts.delimiter = "</thought>";
    config.sft.verdict_weight = 4;
    config.tasks[0] = (rt_task_config){.name = (char *)(uintptr_t)names[kind],
                                       .weight = 1,
                                       .thoughts_min = 2,
                                       .thoughts_max = 5,
                                       .modulus = 10,
                                       .slip = 0.3};
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

static char *copy(const char *text, rt_arena *arena)
{
    return memcpy(rt_arena_alloc(arena, strlen(text) + 1), text, strlen(text) + 1);
}

static int cut(const char *text, const char **thoughts, rt_arena *arena)
{
    int count = 0;
    char *at = copy(text, arena);
    for (char *end; (end = strstr(at, "</thought>")); at = end + 10) {
        *end = '\0';
        thoughts[count++] = at;
    }
    assert_string_equal(at, "");
    return count;
}

static int grade(const rt_problem *problem, const char *response)
{
    rt_verdict verdict;
    int code = rt_grade_response(problem->grader, response, strlen(response), problem->gold,
                                 &verdict, &err);
    assert_int_equal(code, 0);
    return verdict.grade;
}

/* ---- answers by other means -------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static void sorted(const char *problem, char *out, rt_arena *arena)
{
    int numbers[32], count = 0;
    for (char *part = strtok(copy(problem, arena), ","); part; part = strtok(NULL, ",")) {
        numbers[count++] = atoi(part);
    }
    qsort(numbers, (size_t)count, sizeof *numbers, by_value);
    for (int i = 0; i < count; i++) {
        out += snprintf(out, 8, i ? ",%d" : "%d", numbers[i]);
        assert_true(i == 0 || numbers[i] > numbers[i - 1]); /* all are different */
    }
}

/* The shortest of all paths that meet no node twice. */
static int shortest(int length[26][26], int from, int to, unsigned seen)
{
    int best = from == to ? 0 : 1 << 20;
    for (int v = 0; v < 26 && from != to; v++) {
        if (length[from][v] && !(seen & 1u << v)) {
            best = RT_MIN(best, length[from][v] + shortest(length, v, to, seen | 1u << v));
        }
    }
    return best;
}

static int path_length(const char *problem)
{
    int length[26][26] = {{0}};
    for (const char *edge = problem + 3; edge; edge = strchr(edge, ',')) {
        edge += *edge == ',';
        int u = edge[0] - 'A', v = edge[1] - 'A', is = atoi(edge + 2);
        length[u][v] = length[v][u] = is ? is : 1;
    }
    return shortest(length, problem[0] - 'A', problem[1] - 'A', 1u << (problem[0] - 'A'));
}

static int table_sum(const char *problem)
{
    int sum = 0;
    for (const char *cell = strchr(problem, ':'); cell; cell = strchr(cell + 1, '+')) {
        const char *at = problem;
        for (int row = cell[2] - '1'; row > 0; row--) {
            at = strchr(at, '/') + 1;
        }
        for (int column = cell[1] - 'A'; column > 0; column--) {
            at = strchr(at, ',') + 1;
        }
        sum += atoi(at);
    }
    return sum;
}

/* Every pair of numbers, every operation, until one is left. */
static bool reachable(const double *numbers, int count, double target)
{
    if (count == 1) {
        return numbers[0] == target;
    }
    for (int a = 0; a < count; a++) {
        for (int b = 0; b < count; b++) {
            double rest[8] = {0};
            int left = 0;
            for (int i = 0; i < count; i++) {
                if (i != a && i != b) {
                    rest[left++] = numbers[i];
                }
            }
            const double made[] = {numbers[a] + numbers[b], numbers[a] - numbers[b],
                                   numbers[a] * numbers[b]};
            for (int op = 0; op < 3 && a != b; op++) {
                rest[left] = made[op];
                if (reachable(rest, left + 1, target)) {
                    return true;
                }
            }
        }
    }
    return false;
}

static void check_gold(int kind, const rt_problem *problem, rt_arena *arena)
{
    char answer[128];
    if (kind == COUNTDOWN) {
        double numbers[8];
        int count = 0;
        for (char *part = strtok(copy(problem->problem, arena), ",>"); part;
             part = strtok(NULL, ",>")) {
            numbers[count++] = atoi(part);
        }
        assert_true(count > 4 || reachable(numbers, count - 1, numbers[count - 1]));
        assert_string_equal(problem->gold, problem->problem);
        return;
    }
    if (kind == SORT) {
        sorted(problem->problem, answer, arena);
    } else {
        snprintf(answer, sizeof answer, "%d",
                 kind == PATH ? path_length(problem->problem) : table_sum(problem->problem));
    }
    assert_string_equal(problem->gold, answer);
}

/* ---- problems ---------------------------------------------------------------------------- */

/* The solution is right, so is each beginning, and no thought is when its last sign is missing. */
static void check_solution(const char *name, const rt_problem *problem, rt_arena *arena)
{
    const char *thoughts[RT_PUZZLE_THOUGHTS_MAX + 1];
    int count = cut(problem->solution, thoughts, arena);
    assert_in_range(count, 2, 5);
    assert_int_equal(grade(problem, problem->solution), RT_CORRECT);
    for (int i = 0; i <= count; i++) {
        assert_int_equal(rt_oracle_first_wrong(name, problem->problem, thoughts, i), 0);
        assert_int_equal(rt_oracle_first_wrong(name, problem->prompt, thoughts, i), 0);
    }
    for (int i = 0; i < count; i++) {
        const char *whole = thoughts[i];
        char *shorter = copy(whole, arena);
        shorter[strcspn(shorter, ";\\") - 1] = '\0';
        thoughts[i] = shorter;
        assert_int_equal(rt_oracle_first_wrong(name, problem->problem, thoughts, count), i + 1);
        thoughts[i] = whole;
    }
    thoughts[count] = thoughts[count - 1];
    assert_int_equal(rt_oracle_first_wrong(name, problem->problem, thoughts, count + 1), count + 1);
    if (count > 1) { /* a box before the end */
        rt_buf early = {0};
        rt_buf_addf(&early, "%s\\boxed{1}", thoughts[0]);
        thoughts[0] = early.data;
        assert_int_equal(rt_oracle_first_wrong(name, problem->problem, thoughts, count), 1);
        rt_buf_free(&early);
    }
}

static void problems(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        for (int variant = 0; variant < 3; variant++) {
            rt_config config = config_of(kind);
            config.tasks[0].filler = variant;
            config.tasks[0].modulus = variant == 2 ? 60 : 10;
            config.tasks[0].size = variant == 2 && kind >= PATH ? 8 : 0;
            rt_taskset *set = load(&config), *again = load(&config);
            rt_arena *arena = rt_arena_new(1 << 16);
            int lengths[6] = {0};
            for (int64_t i = 0; i < 200; i++) {
                rt_problem problem, same;
                int split = i % 4 == 3 ? RT_EVAL : RT_TRAIN;
                assert_int_equal(rt_problem_get(set, 0, split, i, arena, &problem, &err), 0);
                assert_int_equal(rt_problem_get(again, 0, split, i, arena, &same, &err), 0);
                assert_string_equal(problem.prompt, same.prompt);
                assert_string_equal(problem.solution, same.solution);
                uint64_t hash = rt_hash64(problem.problem, strlen(problem.problem), 0);
                assert_int_equal(hash % 10 == 0, split == RT_EVAL);
                check_gold(kind, &problem, arena);
                check_solution(names[kind], &problem, arena);
                const char *thoughts[8];
                lengths[cut(problem.solution, thoughts, arena)]++;
                rt_arena_reset(arena);
            }
            /* 200 draws over 4 lengths: 50 each, deviation 6.1; countdown throws targets of 0 away,
             * most of them of few numbers. */
            for (int i = 2; i <= 5; i++) {
                assert_in_range(lengths[i], 19, 81);
            }
            rt_arena_free(&arena);
            rt_taskset_free(&set);
            rt_taskset_free(&again);
        }
    }
}

static void seeds_and_names(void **state)
{
    (void)state;
    rt_arena *arena = rt_arena_new(1 << 16);
    for (int kind = 0; kind < KINDS; kind++) {
        rt_config config = config_of(kind);
        char other[32];
        snprintf(other, sizeof other, "%s_2", names[kind]);
        int differ[2] = {0};
        for (int change = 0; change < 2; change++) {
            rt_taskset *set = load(&config);
            config.run.seed += change == 0;
            config.tasks[0].name = change ? other : config.tasks[0].name;
            rt_taskset *changed = load(&config);
            for (int64_t i = 0; i < 20; i++) {
                rt_problem a, b;
                assert_int_equal(rt_problem_next(set, i, arena, &a, &err), 0);
                assert_int_equal(rt_problem_next(changed, i, arena, &b, &err), 0);
                differ[change] += strcmp(a.problem, b.problem) != 0;
            }
            rt_taskset_free(&set);
            rt_taskset_free(&changed);
        }
        /* Two draws are hardly ever the same problem. */
        assert_true(differ[0] > 15 && differ[1] > 15);
    }
    assert_null(rt_puzzle_kind_of("sorted"));
    assert_null(rt_puzzle_kind_of(NULL));
    rt_arena_free(&arena);
}

/* ---- the careless teacher ---------------------------------------------------------------- */

/* Does a thought state what is not so? For sums and products; a list is looked at in sort_slips. */
static bool states_error(const char *thought, char fact[32], long long *stated)
{
    const char *colon = strchr(thought, ':');
    long long a, b;
    char op;
    thought = colon ? colon + 1 : thought;
    assert_int_equal(sscanf(thought, "%lld%c%lld=%lld", &a, &op, &b, stated), 4);
    snprintf(fact, 32, "%lld%c%lld", a, op, b);
    return *stated != (op == '+' ? a + b : op == '-' ? a - b : a * b);
}

static bool list_error(const char *thought)
{
    int first = atoi(thought);
    const char *end = thought + strcspn(thought, "\\"); /* the box is another list */
    for (const char *at = strpbrk(thought, ":,"); at && at < end; at = strpbrk(at + 1, ":,")) {
        if (atoi(at + 1) < first) {
            return true;
        }
    }
    return false;
}

typedef struct tally {
    int thoughts, errors, wrong_answers, harmless;
    char facts[128][32];
    long long stated[128];
    int facts_count;
} tally;

/* A hard fact is always stated with the same wrong result. */
static void note(tally *seen, const char *fact, long long stated)
{
    int at = 0;
    while (at < seen->facts_count && strcmp(seen->facts[at], fact)) {
        at++;
    }
    if (at == seen->facts_count && at < (int)RT_COUNT(seen->facts)) {
        memcpy(seen->facts[seen->facts_count], fact, 32);
        seen->stated[seen->facts_count++] = stated;
    } else if (at < seen->facts_count) {
        assert_int_equal(seen->stated[at], stated);
    }
}

static void tally_one(int kind, const rt_problem *problem, const char *response, bool hard,
                      tally *seen, rt_arena *arena)
{
    const char *thoughts[RT_PUZZLE_THOUGHTS_MAX];
    int count = cut(response, thoughts, arena), first = 0;
    for (int i = 0; i < count; i++) {
        char fact[32] = "";
        long long stated = 0;
        bool wrong = kind == SORT ? list_error(thoughts[i])
                                  : states_error(thoughts[i], fact, &stated);
        first = wrong && !first ? i + 1 : first;
        seen->errors += wrong;
        seen->thoughts++;
        if (wrong && hard && (kind == PATH || kind == TABLE)) {
            note(seen, fact, stated);
        }
    }
    /* What is graded right has no error that matters; an answer that matters is the gold one. */
    assert_int_equal(rt_oracle_first_wrong(names[kind], problem->problem, thoughts, count), first);
    int verdict = grade(problem, response);
    assert_true(verdict == RT_CORRECT || (verdict == RT_WRONG && first));
    seen->wrong_answers += verdict == RT_WRONG;
    seen->harmless += verdict == RT_CORRECT && first;
    if (kind != COUNTDOWN) {
        const char *box = strstr(response, "\\boxed{") + 7;
        bool same = !strncmp(box, problem->gold, strlen(problem->gold)) &&
                    box[strlen(problem->gold)] == '}';
        assert_int_equal(same, verdict == RT_CORRECT);
    }
}

static void teacher(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        for (int hard = 0; hard < 2; hard++) {
            rt_config config = config_of(kind);
            config.tasks[0].hard = hard ? 0.5 : 0;
            rt_taskset *set = load(&config);
            rt_arena *arena = rt_arena_new(1 << 16);
            tally *seen = calloc(1, sizeof *seen);
            for (int64_t i = 0; i < 600; i++) {
                rt_example example;
                rt_problem problem;
                assert_int_equal(rt_example_next(set, &config, i, 0, arena, &example, &err), 0);
                assert_int_equal(rt_problem_next(set, i, arena, &problem, &err), 0);
                assert_string_equal(example.prompt, problem.prompt);
                tally_one(kind, &problem, example.completion, hard, seen, arena);
                rt_arena_reset(arena);
            }
            double share = (double)seen->errors / seen->thoughts;
            /* Five deviations of 0.3 in at least 1200 draws are 0.066. Which facts are hard shifts
             * the mean; by how much depends on how often each is met. */
            assert_true(fabs(share - 0.3) < (hard ? 0.2 : 0.066));
            assert_true(seen->wrong_answers > 100);
            /* A wrong step beside the shortest path does no harm, nor does a wrong number in an
             * expression that is right; a list never recovers. */
            assert_true(kind == SORT ? seen->harmless == 0 : seen->harmless < 200);
            assert_true(kind != PATH || seen->harmless > 10);
            free(seen);
            rt_arena_free(&arena);
            rt_taskset_free(&set);
        }
    }
}

static void no_slips(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        rt_config config = config_of(kind);
        config.tasks[0].slip = 0;
        rt_taskset *set = load(&config);
        rt_arena *arena = rt_arena_new(1 << 16);
        for (int64_t i = 0; i < 50; i++) {
            rt_example example;
            rt_problem problem;
            assert_int_equal(rt_example_next(set, &config, i, 0, arena, &example, &err), 0);
            assert_int_equal(rt_problem_next(set, i, arena, &problem, &err), 0);
            assert_string_equal(example.completion, problem.solution);
        }
        rt_arena_free(&arena);
        rt_taskset_free(&set);
    }
}

static void check_localization(int kind, const rt_taskset *set, const rt_problem *problem,
                               const rt_example *example, rt_arena *arena)
{
    const char *thoughts[RT_PUZZLE_THOUGHTS_MAX];
    char *lines = strchr(copy(example->prompt, arena), '\n') + 1;
    int count = 0;
    for (char *end; (end = strchr(lines, '\n')); lines = end + 1) {
        *end = '\0';
        thoughts[count++] = lines + 2;
    }
    assert_string_equal(lines, "L:");
    int first = rt_oracle_first_wrong(names[kind], problem->problem, thoughts, count);
    bool failed;
    assert_int_equal(
        rt_localize_parse(example->completion, strlen(example->completion), count, &failed), first);
    assert_true(first >= 1 && !failed && example->spans_count == first);
    for (int k = 0; k < first; k++) {
        struct rt_span span = example->spans[k];
        assert_int_equal(example->completion[span.begin], k == first - 1 ? 'n' : 'y');
        assert_true(span.end == span.begin + 1 && span.weight == 4);
    }
    assert_string_equal(rt_localize_prompt(set, problem, thoughts, count, NULL, arena),
                        example->prompt);
}

static void localization(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        for (int variant = 0; variant < 2; variant++) {
            rt_config config = config_of(kind);
            config.tasks[0].slip = variant ? 0 : 0.3; /* without slips one is made */
            config.tasks[0].filler = 2;
            rt_taskset *set = load(&config);
            rt_arena *arena = rt_arena_new(1 << 16);
            for (int64_t i = 0; i < 200; i++) {
                rt_example example;
                rt_problem problem;
                assert_int_equal(rt_example_next(set, &config, i, 1, arena, &example, &err), 0);
                assert_int_equal(rt_problem_next(set, i, arena, &problem, &err), 0);
                check_localization(kind, set, &problem, &example, arena);
                rt_arena_reset(arena);
            }
            rt_arena_free(&arena);
            rt_taskset_free(&set);
        }
    }
}

/* ---- the oracles, case by case ----------------------------------------------------------- */

typedef struct oracle_case {
    const char *name, *problem, *thoughts[4];
    int first;
} oracle_case;

static const oracle_case cases[] = {
    {"countdown", "3,5,7>22", {"3*5=15", "15+7=22\\boxed{3*5+7}"}, 0},
    {"countdown", "Q:3,5,7>22\n", {" 3*5=15;ab\n", "7+15=22\\boxed{ 7 + 5*3 }</thought> "}, 0},
    {"countdown", "3,5,7>22", {"3*5=15", "15+7=22"}, 0},
    {"countdown", "3,5,7>22", {"3*5=16", "16+7=23"}, 1},
    {"countdown", "3,5,7>22", {"3+5=8"}, 1},            /* true, but 8 and 7 do not make 22 */
    {"countdown", "3,5,7>22", {"3*3=9"}, 1},            /* one 3 only */
    {"countdown", "3,5,7>22", {"3*5=15", "7+5=12"}, 2}, /* the 5 is used up */
    {"countdown", "3,5,7>22", {"3*5=15", "15+7=22\\boxed{22}"}, 2},
    {"countdown", "3,5,7>22", {"3*5=15", "15+7=22", "22+0=22"}, 3},
    {"countdown", "3,5,7>5", {"3-5=-2", "-2+7=5\\boxed{3-5+7}"}, 0},
    {"countdown", "3,5,7>5", {"3-5=-2", "7--2=9"}, 2},
    {"countdown", "3,5,7>99", {"3*5=15"}, 1}, /* there is no way at all */
    {"countdown", "3,5,7>22", {"3/5=0"}, 1},
    {"countdown", "3,5>0", {"3+5=8"}, -1},
    {"countdown", "0,5>5", {"0+5=5"}, -1},
    {"countdown", "3,5,7", {"3+5=8"}, -1},
    {"countdown", "1,2,3,4,5,6,7,8>9", {"1+2=3"}, -1},
    {"sort", "5,3,8", {"3:5,8", "5:8\\boxed{3,5,8}"}, 0},
    {"sort", "5,3,8", {"3:8,5", "5:8\\boxed{3,5,8}"}, 0}, /* what is left: any order */
    {"sort", "5,3,8", {"5:3,8", "3:8\\boxed{5,3,8}"}, 1},
    {"sort", "5,3,8", {"3:5", "5:8"}, 1},
    {"sort", "5,3,8", {"3:5,5", "5:8"}, 1},
    {"sort", "5,3,8", {"3:5,8", "5:8\\boxed{3,5}"}, 2},
    {"sort", "5,3,8", {"3:5,8\\boxed{3,5,8}"}, 1},
    {"sort", "5,3,8", {"3:5,8", "5:8", "8:\\boxed{3,5,8}"}, 3},
    {"sort", "2,2,1", {"1:2,2", "2:2\\boxed{1,2,2}"}, 0},
    {"sort", "5", {"5:"}, -1},
    {"sort", "5,,3", {"3:5"}, -1},
    {"path", "AD:AB3,BC1,CD2,AC5", {"AB:0+3=3", "BC:3+1=4", "CD:4+2=6\\boxed{6}"}, 0},
    {"path", "AD:AB,BD,CD,AC", {"AC:0+1=1", "CD:1+1=2\\boxed{2}"}, 0}, /* B is not needed */
    {"path", "AD:AB3,BC1,CD2,AC5", {"AC:0+5=5"}, 1}, /* an edge, but no shortest path */
    {"path", "AD:AB3,BC1,CD2,AC5", {"AB:0+3=4"}, 1},
    {"path", "AD:AB3,BC1,CD2,AC5", {"AB:0+2=2"}, 1},
    {"path", "AD:AB3,BC1,CD2,AC5", {"BC:3+1=4"}, 1}, /* B is not settled yet */
    {"path", "AD:AB3,BC1,CD2,AC5", {"AB:0+3=3", "AB:0+3=3"}, 2},
    {"path", "AD:AB3,BC1,CD2,AC5", {"AB:0+3=3", "BD:3+1=4"}, 2},
    {"path", "AD:AB3,BC1,CD2,AC5", {"AB:0+3=3\\boxed{3}"}, 1},
    {"path", "AD:AB3,BC1,CD2,AC5", {"AB:0+3=3", "BC:3+1=4", "CD:4+2=6\\boxed{06}"}, 3},
    {"path", "AC:AB3,BC1,CD2", {"AB:0+3=3", "BC:3+1=4\\boxed{4}", "CD:4+2=6"}, 3},
    {"path", "AA:AB3", {"AB:0+3=3"}, -1},
    {"path", "AB:AB3,BA4", {"AB:0+3=3"}, -1},
    {"path", "AB:AB0", {"AB:0+0=0"}, -1},
    {"path", "AZ:AZ1", {"AZ:0+1=1"}, -1},
    {"table", "3,7/5,1:B2+A1", {"B2:0+1=1", "A1:1+3=4\\boxed{4}"}, 0},
    {"table", "3,7/5,1:B2+A1", {"A2:0+5=5"}, 1},
    {"table", "3,7/5,1:B2+A1", {"B2:0+7=7"}, 1},
    {"table", "3,7/5,1:B2+A1", {"B2:0+1=2"}, 1},
    {"table", "3,7/5,1:B2+A1", {"B2:0+1=1", "A1:2+3=5"}, 2},
    {"table", "3,7/5,1:B2+A1", {"B2:0+1=1", "A1:1+3=4\\boxed{1}"}, 2},
    {"table", "3,7/5,1:B2+A1", {"B2:0+1=1", "A1:1+3=4", "A1:4+3=7"}, 3},
    {"table", "3,7/5:A1", {"A1:0+3=3"}, -1},
    {"table", "3,7/5,1:C1", {"C1:0+3=3"}, -1},
    {"table", "3,7/5,1:", {"A1:0+3=3"}, -1},
};

static void oracles(void **state)
{
    (void)state;
    for (size_t i = 0; i < RT_COUNT(cases); i++) {
        int count = 0;
        while (count < 4 && cases[i].thoughts[count]) {
            count++;
        }
        int first = rt_oracle_first_wrong(cases[i].name, cases[i].problem, cases[i].thoughts,
                                          count);
        if (first != cases[i].first) {
            fail_msg("case %zu, %s %s: %d", i, cases[i].name, cases[i].problem, first);
        }
    }
}

/* Solutions with some bytes changed: no crash, and what was not touched is judged as before. */
static void hostile_responses(void **state)
{
    (void)state;
    static const char bytes[] = "0123456789+-*=:,;/\\{}()<> \n\xff"
                                "ABab";
    rt_arena *arena = rt_arena_new(1 << 16);
    for (int kind = 0; kind < KINDS; kind++) {
        rt_config config = config_of(kind);
        rt_taskset *set = load(&config);
        for (uint64_t i = 0; i < 2000; i++) {
            rt_problem problem;
            const char *thoughts[RT_PUZZLE_THOUGHTS_MAX];
            assert_int_equal(rt_problem_next(set, (int64_t)i % 50, arena, &problem, &err), 0);
            int count = cut(problem.solution, thoughts, arena);
            int hit = (int)rt_below(9, 1, 3 * i, (uint32_t)count);
            char *changed = copy(thoughts[hit], arena);
            uint32_t place = rt_below(9, 1, 3 * i + 1, (uint32_t)strlen(changed));
            changed[place] = bytes[rt_below(9, 1, 3 * i + 2, sizeof bytes - 1)];
            thoughts[hit] = changed;
            int first = rt_oracle_first_wrong(names[kind], problem.problem, thoughts, count);
            assert_true(first == 0 || (first > hit && first <= count));
            rt_arena_reset(arena);
        }
        rt_taskset_free(&set);
    }
    rt_arena_free(&arena);
}

static void long_responses(void **state)
{
    (void)state;
    static const char *const solved[] = {"3,5,7>22", "5,3,8", "AD:AB3,BC1,CD2,AC5",
                                         "3,7/5,1:B2+A1"};
    static const char *const openings[] = {"(", "-", "9", "A", "\\boxed{", "3*5=15;", ","};
    enum { COUNT = 5000 };
    const char **many = rt_alloc(COUNT * sizeof *many);
    for (size_t k = 0; k < RT_COUNT(openings); k++) {
        rt_buf text = {0};
        for (int i = 0; i < COUNT; i++) {
            rt_buf_addf(&text, "%s", openings[k]);
        }
        for (int i = 0; i < COUNT; i++) {
            many[i] = text.data;
        }
        for (int kind = 0; kind < KINDS; kind++) {
            assert_int_equal(rt_oracle_first_wrong(names[kind], solved[kind], many, COUNT), 1);
            assert_int_equal(rt_oracle_first_wrong(names[kind], text.data, many, COUNT), -1);
            assert_int_equal(rt_oracle_first_wrong(names[kind], solved[kind], NULL, 0), 0);
            assert_int_equal(rt_oracle_first_wrong(names[kind], "", NULL, 0), -1);
        }
        rt_buf_free(&text);
    }
    rt_free(many);
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        int kind;
        int64_t thoughts_max, modulus, size, filler;
        double slip, hard;
        const char *grader, *says;
    } wrong[] = {
        {COUNTDOWN, 7, 10, 0, 0, 0, 0, "", "within 1 to 6"},
        {COUNTDOWN, 5, 257, 0, 0, 0, 0, "", "modulus"},
        {COUNTDOWN, 5, 10, 3, 0, 0, 0, "", "no size"},
        {COUNTDOWN, 5, 10, 0, 0, 0, 0, "exact", "countdown"},
        {SORT, 5, 10, 0, 0, 0, 0, "countdown", "countdown"},
        {SORT, 5, 5, 0, 0, 0, 0, "", "different numbers"},
        {SORT, 5, 10, 0, 65, 0, 0, "", "filler"},
        {PATH, 5, 10, 5, 0, 0, 0, "", "above thoughts_max"},
        {PATH, 16, 10, 0, 0, 0, 0, "", "within 1 to 15"},
        {TABLE, 5, 10, 10, 0, 0, 0, "", "2 to 9"},
        {TABLE, 5, 10, 0, 0, 0.3, 0.2, "", "slip"},
    };
    for (size_t i = 0; i < RT_COUNT(wrong); i++) {
        rt_config config = config_of(wrong[i].kind);
        rt_task_config *task = &config.tasks[0];
        task->thoughts_max = wrong[i].thoughts_max;
        task->modulus = wrong[i].modulus;
        task->size = wrong[i].size;
        task->filler = wrong[i].filler;
        task->slip = wrong[i].slip;
        task->hard = wrong[i].hard;
        task->grader = (char *)(uintptr_t)wrong[i].grader;
        rt_taskset *set;
        assert_int_equal(rt_taskset_load(&set, &config, &err), RT_ERR_USAGE);
        if (!strstr(err.message, wrong[i].says)) {
            fail_msg("case %zu: %s", i, err.message);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(problems),          cmocka_unit_test(seeds_and_names),
        cmocka_unit_test(teacher),           cmocka_unit_test(no_slips),
        cmocka_unit_test(localization),      cmocka_unit_test(oracles),
        cmocka_unit_test(hostile_responses), cmocka_unit_test(long_responses),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
