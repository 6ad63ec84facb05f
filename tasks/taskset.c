/*
 * taskset: every task of a config, split into training and evaluation, mixed by weight. Which
 * problem stands where is a function of the seed and the position alone; nothing is remembered.
 */
#include "tasks/countdown.h"
#include "tasks/puzzle.h"

#include <math.h>
#include <string.h>

/* Training walks in cycles of this many places, in which every task has its share of the places. */
enum { CYCLE = 1024 };
/* Keeps the random streams of cycles and steps apart. */
#define GOLDEN 0x9E3779B97F4A7C15u
static const int64_t GENERATED_COUNT = 1ll << 40;

typedef struct task {
    char *name;
    bool generated;
    rt_chain chain;
    rt_fork fork;       /* in place of chain where `forks` */
    bool forks;
    rt_puzzle puzzle;   /* in place of both where it has a kind */
    rt_records records;
    uint32_t *rows[2];  /* record of each place, by split */
    int64_t counts[2];
    char *template;
    char *grader;
    uint64_t stream;    /* from the name, so that the order of the tasks does not matter */
    int quota;          /* places of a cycle */
} task;

struct rt_taskset {
    task tasks[RT_TASKS_MAX];
    int count;
    uint64_t seed;
    char *delimiter;
    char *localize, *verify; /* templates of the config, or NULL */
};

/* ---- loading ----------------------------------------------------------------------------- */

static void split_records(task *one, const rt_task_config *config, uint64_t seed)
{
    size_t bytes = (size_t)one->records.count * sizeof(uint32_t);
    one->rows[RT_TRAIN] = rt_alloc(bytes);
    one->rows[RT_EVAL] = rt_alloc(bytes);
    /* A problem that is in the file twice goes to one side. */
    uint32_t *first = rt_alloc(bytes);
    rt_records_first(&one->records, first);
    for (int64_t i = 0; i < one->records.count; i++) {
        double u = rt_uniform(seed, one->stream + RT_STREAM_SPLIT, first[i]);
        int split = u < config->eval_share ? RT_EVAL : RT_TRAIN;
        one->rows[split][one->counts[split]++] = (uint32_t)i;
    }
    rt_free(first);
}

static bool gold_readable(const char *grader, const char *gold)
{
    rt_countdown problem;
    rt_verdict verdict;
    if (!strcmp(grader, "countdown")) {
        return rt_countdown_parse(gold, &problem);
    }
    return !rt_grade_response(grader, gold, strlen(gold), gold, &verdict, NULL) &&
           verdict.grade == RT_CORRECT;
}

/* An answer its grader can't read makes every response undecided: better said before the run. */
static int check_golds(const task *one, const char *path, rt_error *err)
{
    for (int64_t i = 0; i < one->records.count && !strcmp(one->grader, "code"); i++) {
        const rt_record *record = &one->records.items[i];
        int code = rt_code_gold_check(record->gold, err);
        if (code) {
            rt_error_prefix(err, "%s:%lld", path, (long long)record->line);
            return code;
        }
    }
    if (strcmp(one->grader, "number") && strcmp(one->grader, "choice") &&
        strcmp(one->grader, "yesno") && strcmp(one->grader, "countdown")) {
        return RT_OK;
    }
    for (int64_t i = 0; i < one->records.count; i++) {
        const rt_record *record = &one->records.items[i];
        if (!gold_readable(one->grader, record->gold)) {
            return rt_fail(err, RT_ERR_INPUT,
                           "%s:%lld: the answer \"%.60s\" is nothing the grader \"%s\" can read; "
                           "set grader: math or exact for this task",
                           path, (long long)record->line, record->gold, one->grader);
        }
    }
    return RT_OK;
}

static int load_data(task *one, const rt_task_config *config, rt_taskset *set, rt_error *err)
{
    if (rt_text_set(config->grader) && !rt_grader_known(config->grader)) {
        return rt_fail(err, RT_ERR_USAGE,
                       "task %s: grader \"%s\" is none of " RT_GRADER_NAMES,
                       config->name, config->grader);
    }
    int code = rt_records_load(&one->records, config, set->delimiter, err);
    if (code) {
        return code;
    }
    one->grader = rt_strdup(one->records.grader);
    split_records(one, config, set->seed);
    return check_golds(one, config->data, err);
}

static int load_generated(task *one, const rt_task_config *config, rt_taskset *set, rt_error *err)
{
    const rt_puzzle_kind *kind = rt_puzzle_kind_of(config->name);
    one->forks = rt_fork_is(config->name);
    if (!kind && !one->forks && !rt_chain_is(config->name)) {
        return rt_fail(err, RT_ERR_USAGE,
                       "task %s is not built in (chain, fork, countdown, sort, path and table are); "
                       "give its records as data: FILE", config->name);
    }
    one->generated = true;
    one->counts[RT_TRAIN] = config->limit > 0 ? config->limit : GENERATED_COUNT;
    one->counts[RT_EVAL] = GENERATED_COUNT;
    one->grader = rt_strdup(rt_text_set(config->grader) ? config->grader
                            : kind                     ? kind->grader
                                                       : "exact");
    if (!rt_grader_known(one->grader)) {
        return rt_fail(err, RT_ERR_USAGE,
                       "task %s: grader \"%s\" is none of " RT_GRADER_NAMES,
                       config->name, one->grader);
    }
    if (!strcmp(one->grader, "code")) {
        return rt_fail(err, RT_ERR_USAGE, "task %s: the grader code needs tests from a data file, and "
                       "this task is generated", config->name);
    }
    /* There gold is the problem, which no other grader can read, and elsewhere this one nothing. */
    if ((kind && kind->open) != !strcmp(one->grader, "countdown")) {
        return rt_fail(err, RT_ERR_USAGE,
                       "task %s: the grader countdown goes with the task countdown, and it with no "
                       "other", config->name);
    }
    if (kind) {
        return rt_puzzle_init(&one->puzzle, kind, config, set->seed, err);
    }
    return one->forks ? rt_fork_init(&one->fork, config, set->seed, err)
                      : rt_chain_init(&one->chain, config, set->seed, err);
}

static int load_task(rt_taskset *set, const rt_task_config *config, rt_error *err)
{
    if (!rt_text_set(config->name)) {
        return rt_fail(err, RT_ERR_USAGE, "tasks: entry %d has no name", set->count + 1);
    }
    for (int i = 0; i < set->count; i++) {
        if (!strcmp(set->tasks[i].name, config->name)) {
            return rt_fail(err, RT_ERR_USAGE,
                           "tasks: the name \"%s\" is given twice; a second chain may be called "
                           "chain_2", config->name);
        }
    }
    task *one = &set->tasks[set->count++];
    one->name = rt_strdup(config->name);
    one->stream = rt_hash64(config->name, strlen(config->name), 0);
    int code = rt_text_set(config->data) ? load_data(one, config, set, err)
                                         : load_generated(one, config, set, err);
    if (code) {
        return code;
    }
    if (rt_text_set(config->prompt)) {
        return rt_prompt_load(&one->template, config->prompt, "{problem}", err);
    }
    one->template = one->generated ? rt_strdup("Q:{problem}\n")
                                   : rt_prompt_builtin(one->grader, set->delimiter);
    return RT_OK;
}

/* Shares of a cycle by largest remainder; a task with any weight gets at least one place. */
static int set_quotas(rt_taskset *set, const rt_config *config, rt_error *err)
{
    double total = 0, share[RT_TASKS_MAX], factor[RT_TASKS_MAX] = {0};
    int64_t sizes[RT_TASKS_MAX] = {0};
    for (int i = 0; i < set->count; i++) {
        double weight = config->tasks[i].weight;
        if (!(weight >= 0) || isinf(weight)) {
            return rt_fail(err, RT_ERR_USAGE, "task %s: its weight must be 0 or more",
                           set->tasks[i].name);
        }
        sizes[i] = set->tasks[i].counts[RT_TRAIN];
        factor[i] = sizes[i] > 0 && weight > 0;
    }
    rt_mix_shares(config, sizes, factor, share);
    for (int i = 0; i < set->count; i++) {
        total += share[i];
    }
    /* Nothing to train on is no error here: an evaluation needs no training split. */
    if (!(total > 0)) {
        return RT_OK;
    }
    int given = 0;
    for (int i = 0; i < set->count; i++) {
        share[i] = share[i] / total * CYCLE;
        set->tasks[i].quota = share[i] > 0 ? RT_MAX(1, (int)floor(share[i])) : 0;
        given += set->tasks[i].quota;
    }
    while (given != CYCLE) {
        int step = given < CYCLE ? 1 : -1, best = -1;
        double gap = -INFINITY;
        for (int i = 0; i < set->count; i++) {
            int quota = set->tasks[i].quota;
            double want = step * (share[i] - quota);
            if (quota && (step > 0 || quota > 1) && want > gap) {
                gap = want;
                best = i;
            }
        }
        RT_ASSERT(best >= 0);
        set->tasks[best].quota += step;
        given += step;
    }
    return RT_OK;
}

static int load_judges(rt_taskset *set, const rt_config *config, rt_error *err)
{
    int code = RT_OK;
    if (rt_text_set(config->prompts.localize)) {
        code = rt_prompt_load(&set->localize, config->prompts.localize, "{problem}", err);
    }
    if (!code && rt_text_set(config->prompts.verify)) {
        code = rt_prompt_load(&set->verify, config->prompts.verify, "{problem}", err);
    }
    return code;
}

int rt_taskset_load(rt_taskset **set, const rt_config *config, rt_error *err)
{
    *set = NULL;
    if (config->tasks_count < 1 || config->tasks_count > RT_TASKS_MAX) {
        return rt_fail(err, RT_ERR_USAGE,
                       "the config names %d tasks; give 1 to %d, for instance task: chain",
                       config->tasks_count, RT_TASKS_MAX);
    }
    rt_taskset *fresh = rt_alloc(sizeof *fresh);
    fresh->seed = (uint64_t)config->run.seed;
    fresh->delimiter = rt_strdup(rt_text_set(config->thoughts.delimiter)
                                     ? config->thoughts.delimiter : "</thought>");
    int code = load_judges(fresh, config, err);
    for (int i = 0; i < config->tasks_count && !code; i++) {
        code = load_task(fresh, &config->tasks[i], err);
    }
    if (!code) {
        code = set_quotas(fresh, config, err);
    }
    if (code) {
        rt_taskset_free(&fresh);
        return code;
    }
    *set = fresh;
    return RT_OK;
}

void rt_taskset_free(rt_taskset **set)
{
    if (!*set) {
        return;
    }
    for (int i = 0; i < (*set)->count; i++) {
        task *one = &(*set)->tasks[i];
        rt_records_free(&one->records);
        rt_chain_free(&one->chain);
        rt_fork_free(&one->fork);
        rt_free(one->rows[0]);
        rt_free(one->rows[1]);
        rt_free(one->template);
        rt_free(one->grader);
        rt_free(one->name);
    }
    rt_free((*set)->delimiter);
    rt_free((*set)->localize);
    rt_free((*set)->verify);
    rt_free(*set);
    *set = NULL;
}

bool rt_taskset_judging(const rt_taskset *set, int index, int kind, const char **delimiter,
                        const char **template)
{
    static const char *const names[RT_JUDGE_KINDS] = {
        "localize_l1", "localize_l2", "localize_l3", "verify", "verify_step", "token_localize"};
    RT_ASSERT(index >= 0 && index < set->count && kind >= 0 && kind < RT_JUDGE_KINDS);
    const char *own = kind <= RT_JUDGE_LOCALIZE_L3 ? set->localize
                      : kind == RT_JUDGE_VERIFY    ? set->verify
                                                   : NULL;
    *delimiter = set->delimiter;
    *template = own ? own : rt_prompt_text_find(names[kind]);
    return set->tasks[index].generated;
}

int rt_taskset_tasks(const rt_taskset *set)
{
    return set->count;
}

const char *rt_taskset_name(const rt_taskset *set, int index)
{
    RT_ASSERT(index >= 0 && index < set->count);
    return set->tasks[index].name;
}

bool rt_taskset_generated(const rt_taskset *set, int index)
{
    RT_ASSERT(index >= 0 && index < set->count);
    return set->tasks[index].generated;
}

int64_t rt_taskset_count(const rt_taskset *set, int index, int split)
{
    RT_ASSERT(index >= 0 && index < set->count && (split == RT_TRAIN || split == RT_EVAL));
    return set->tasks[index].counts[split];
}

/* ---- problems ---------------------------------------------------------------------------- */

static const char *copy(const char *text, rt_arena *arena)
{
    size_t bytes = strlen(text) + 1;
    return memcpy(rt_arena_alloc(arena, bytes), text, bytes);
}

static int get_generated(const rt_taskset *set, const task *one, int split, int64_t index,
                         rt_arena *arena, rt_problem *problem, rt_error *err)
{
    rt_chain_problem drawn;
    int results[RT_CHAIN_THOUGHTS_MAX];
    if (one->puzzle.kind) {
        return rt_puzzle_get(&one->puzzle, split, (uint64_t)index, set->delimiter, arena, problem,
                             err);
    }
    int code = one->forks ? rt_fork_draw(&one->fork, split, (uint64_t)index, &drawn, err)
                          : rt_chain_draw(&one->chain, split, (uint64_t)index, &drawn, err);
    if (code) {
        return code;
    }
    if (one->forks) {
        rt_fork_results(&drawn, results);
        problem->problem = rt_fork_text(&drawn, arena);
        problem->solution = rt_fork_solution(&one->fork, &drawn, results,
                                             2 * (uint64_t)index + (uint64_t)split, set->delimiter,
                                             arena);
    } else {
        rt_chain_results(&drawn, results);
        problem->problem = rt_chain_text(&drawn, arena);
        problem->solution = rt_chain_solution(&drawn, results, set->delimiter, arena);
    }
    rt_buf gold = {0};
    if (strcmp(one->grader, "steps")) {
        rt_buf_addf(&gold, "%d", results[drawn.count - 1]);
    } else {
        rt_fork_steps(&drawn, results, &gold);
    }
    problem->gold = rt_arena_keep(&gold, arena);
    return RT_OK;
}

int rt_problem_get(const rt_taskset *set, int index_of_task, int split, int64_t index,
                   rt_arena *arena, rt_problem *problem, rt_error *err)
{
    RT_ASSERT(index_of_task >= 0 && index_of_task < set->count);
    RT_ASSERT(split == RT_TRAIN || split == RT_EVAL);
    const task *one = &set->tasks[index_of_task];
    *problem = (rt_problem){0};
    if (index < 0 || index >= one->counts[split]) {
        return rt_fail(err, RT_ERR_INPUT, "task %s has %lld problems for %s; number %lld is not "
                       "one of them", one->name, (long long)one->counts[split],
                       split == RT_EVAL ? "evaluation" : "training", (long long)index);
    }
    problem->id = (uint64_t)index_of_task << 48 | (uint64_t)split << 47 | (uint64_t)index;
    problem->task = index_of_task;
    problem->task_name = copy(one->name, arena);
    problem->grader = copy(one->grader, arena);
    if (one->generated) {
        int code = get_generated(set, one, split, index, arena, problem, err);
        if (code) {
            return code;
        }
    } else {
        const rt_record *record = &one->records.items[one->rows[split][index]];
        problem->problem = copy(record->problem, arena);
        problem->gold = copy(record->gold, arena);
        problem->line = record->line;
        problem->solution = record->solution ? copy(record->solution, arena) : NULL;
    }
    problem->prompt = rt_prompt_apply(one->template, problem->problem, arena);
    return RT_OK;
}

/* Place of an epoch → record, one to one: a Feistel network on the next even number of bits, walked
 * until it lands inside. Less than four steps on average, and nothing of the size of the data. */
static uint64_t shuffled(uint64_t seed, uint64_t stream, uint64_t epoch, uint64_t place,
                         uint64_t count)
{
    int half = 1;
    while (half < 31 && (1ull << 2 * half) < count) {
        half++;
    }
    uint64_t mask = (1ull << half) - 1;
    do {
        uint64_t left = place >> half, right = place & mask;
        for (uint64_t round = 0; round < 4; round++) {
            uint32_t words[4];
            rt_philox(seed, stream + epoch, right << 8 | round, words);
            uint64_t next = left ^ (words[0] & mask);
            left = right;
            right = next;
        }
        place = left << half | right;
    } while (place >= count);
    return place;
}

/* Owner of each place of a cycle. */
static void cycle_of(const rt_taskset *set, uint64_t cycle, int owners[CYCLE])
{
    int owner[CYCLE], used = 0;
    uint32_t order[CYCLE];
    for (int i = 0; i < set->count; i++) {
        for (int k = 0; k < set->tasks[i].quota; k++) {
            owner[used++] = i;
        }
    }
    RT_ASSERT(used == CYCLE);
    rt_permutation(set->seed, RT_STREAM_MIX + cycle * GOLDEN, order, CYCLE);
    for (uint32_t i = 0; i < CYCLE; i++) {
        owners[i] = owner[order[i]];
    }
}

static void drawn_before(const rt_taskset *set, uint64_t cursor, const int owners[CYCLE],
                         int64_t drawn[RT_TASKS_MAX])
{
    for (int i = 0; i < set->count; i++) {
        drawn[i] = (int64_t)(cursor / CYCLE) * set->tasks[i].quota;
    }
    for (uint64_t i = 0; i < cursor % CYCLE; i++) {
        drawn[owners[i]]++;
    }
}

void rt_taskset_drawn(const rt_taskset *set, uint64_t cursor, int64_t drawn[RT_TASKS_MAX])
{
    int owners[CYCLE];
    cycle_of(set, cursor / CYCLE, owners);
    drawn_before(set, cursor, owners, drawn);
}

int rt_taskset_place(const rt_taskset *set, uint64_t cursor, uint64_t *before)
{
    for (int i = 0; i < set->count; i++) {
        if (set->tasks[i].quota == CYCLE) {
            *before = cursor;
            return i;
        }
    }
    int owners[CYCLE];
    int64_t drawn[RT_TASKS_MAX];
    cycle_of(set, cursor / CYCLE, owners);
    drawn_before(set, cursor, owners, drawn);
    int found = owners[cursor % CYCLE];
    *before = (uint64_t)drawn[found];
    return found;
}

int64_t rt_taskset_pick(const rt_taskset *set, int index_of_task, int64_t number)
{
    const task *one = &set->tasks[index_of_task];
    uint64_t count = (uint64_t)one->counts[RT_TRAIN], before = (uint64_t)number;
    RT_ASSERT(count > 0 && number >= 0);
    if (one->generated) {
        return (int64_t)(before % count);
    }
    return (int64_t)shuffled(set->seed, one->stream + RT_STREAM_EPOCH, before / count,
                             before % count, count);
}

int64_t rt_taskset_pick_of(const rt_taskset *set, int index_of_task, int64_t step, int64_t number,
                           int64_t first, int64_t width)
{
    uint64_t stream = set->tasks[index_of_task].stream + RT_STREAM_WINDOW + (uint64_t)step * GOLDEN;
    return first + (int64_t)shuffled(set->seed, stream, (uint64_t)(number / width),
                                     (uint64_t)(number % width), (uint64_t)width);
}

void rt_taskset_shuffle(const rt_taskset *set, int64_t step, uint32_t *order, uint32_t count)
{
    rt_permutation(set->seed, RT_STREAM_BATCH + (uint64_t)step * GOLDEN, order, count);
}

int rt_problem_next(const rt_taskset *set, int64_t cursor, rt_arena *arena, rt_problem *problem,
                    rt_error *err)
{
    bool any = false;
    for (int i = 0; i < set->count; i++) {
        any = any || set->tasks[i].quota > 0;
    }
    if (!any || cursor < 0) {
        return rt_fail(err, RT_ERR_USAGE, RT_NOTHING_TO_TRAIN);
    }
    uint64_t before;
    int found = rt_taskset_place(set, (uint64_t)cursor, &before);
    int64_t index = rt_taskset_pick(set, found, (int64_t)before);
    return rt_problem_get(set, found, RT_TRAIN, index, arena, problem, err);
}

/* ---- supervised examples ----------------------------------------------------------------- */

static int fork_example(const rt_taskset *set, const task *one, const rt_config *config,
                        int64_t cursor, double localize, const rt_problem *problem,
                        rt_arena *arena, rt_example *example)
{
    rt_chain_problem parsed;
    bool parsed_well = rt_fork_parse(problem->problem, &parsed);
    RT_ASSERT(parsed_well);
    uint64_t stream = one->stream + RT_STREAM_LOCALIZE + (1ull << 32);
    if (rt_uniform(set->seed, stream, (uint64_t)cursor) < localize) {
        rt_fork_localize(&one->fork, config, &parsed, (uint64_t)cursor, arena, example);
        return RT_OK;
    }
    int results[RT_CHAIN_THOUGHTS_MAX];
    rt_fork_teach(&one->fork, &parsed, (uint64_t)cursor, results);
    example->completion = rt_fork_solution(&one->fork, &parsed, results, (uint64_t)cursor,
                                           set->delimiter, arena);
    return RT_OK;
}

static int puzzle_example(const rt_taskset *set, const task *one, const rt_config *config,
                          int64_t cursor, double localize, const rt_problem *problem,
                          rt_arena *arena, rt_example *example)
{
    uint64_t stream = one->stream + RT_STREAM_LOCALIZE + (1ull << 32);
    if (rt_uniform(set->seed, stream, (uint64_t)cursor) < localize) {
        rt_puzzle_localize(&one->puzzle, config, problem->problem, (uint64_t)cursor, arena, example);
    } else {
        example->completion = rt_puzzle_taught(&one->puzzle, problem->problem, (uint64_t)cursor,
                                               set->delimiter, arena);
    }
    return RT_OK;
}

int rt_oracle_first_wrong(const char *name, const char *problem, const char *const *thoughts,
                          int count)
{
    const rt_puzzle_kind *kind = rt_puzzle_kind_of(name);
    rt_chain_problem parsed;
    if (kind) {
        return rt_puzzle_first_wrong(kind, problem, thoughts, count);
    }
    if (rt_fork_is(name)) {
        return rt_fork_parse(problem, &parsed) ? rt_fork_first_wrong(&parsed, thoughts, count) : -1;
    }
    return rt_chain_is(name) && rt_chain_parse(problem, &parsed)
               ? rt_chain_first_wrong(&parsed, thoughts, count)
               : -1;
}

double rt_oracle_value(const rt_taskset *set, const rt_problem *problem, const char *const *thoughts,
                       int count)
{
    RT_ASSERT(problem->task >= 0 && problem->task < set->count);
    const task *one = &set->tasks[problem->task];
    rt_chain_problem parsed;
    if (!one->forks || !rt_fork_parse(problem->problem, &parsed) ||
        parsed.modulus != one->fork.modulus) {
        return -1;
    }
    return rt_fork_value(&one->fork, &parsed, thoughts, count);
}

static int chain_example(const rt_taskset *set, const task *one, const rt_config *config,
                         int64_t cursor, double localize, const rt_problem *problem,
                         rt_arena *arena, rt_example *example)
{
    rt_chain_problem parsed;
    bool parsed_well = rt_chain_parse(problem->problem, &parsed);
    RT_ASSERT(parsed_well);
    uint64_t stream = one->stream + RT_STREAM_LOCALIZE + (1ull << 32);
    if (rt_uniform(set->seed, stream, (uint64_t)cursor) < localize) {
        rt_chain_localize(&one->chain, config, &parsed, (uint64_t)cursor, arena, example);
        return RT_OK;
    }
    stream = one->stream + RT_STREAM_DEBATE + (1ull << 32);
    if (rt_uniform(set->seed, stream, (uint64_t)cursor) < config->sft.debate_share) {
        rt_chain_debate(&one->chain, config, &parsed, (uint64_t)cursor, set->delimiter, arena,
                        example);
        return RT_OK;
    }
    int results[RT_CHAIN_THOUGHTS_MAX];
    rt_chain_teach(&one->chain, config, &parsed, (uint64_t)cursor, results);
    example->completion = rt_chain_solution(&parsed, results, set->delimiter, arena);
    return RT_OK;
}

int rt_example_next(const rt_taskset *set, const rt_config *config, int64_t cursor, double localize,
                    rt_arena *arena, rt_example *example, rt_error *err)
{
    rt_problem problem;
    example->spans_count = 0;
    int code = rt_problem_next(set, cursor, arena, &problem, err);
    if (code) {
        return code;
    }
    const task *one = &set->tasks[problem.task];
    example->prompt = problem.prompt;
    if (one->puzzle.kind) {
        return puzzle_example(set, one, config, cursor, localize, &problem, arena, example);
    }
    if (one->forks) {
        return fork_example(set, one, config, cursor, localize, &problem, arena, example);
    }
    if (one->generated) {
        return chain_example(set, one, config, cursor, localize, &problem, arena, example);
    }
    if (!problem.solution) {
        return rt_fail(err, RT_ERR_INPUT,
                       "task %s has a record without a worked solution; name its field with "
                       "fields: {solution: ...} or give sft.data", problem.task_name);
    }
    example->completion = problem.solution;
    return RT_OK;
}
