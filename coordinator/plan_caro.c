/*
 * plan_caro: which states of a step are worth going back to. What came of earlier resets is
 * remembered as counts of success; a state's chance of success is a Beta distribution from those,
 * from the rollout it lies on and from the problem's other rollouts. The step's continuations go
 * where they are expected to teach most: where some succeed and some fail.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "coordinator/resets.h"

#define THOUGHTS_MAX 64
#define AGE_MAX 200 /* steps: older observations weigh nothing */
/* Trust in what is pooled over problems, in observations; and in the problem's own rollouts
 * against the pool. */
#define POOL_WEIGHT 4.0
#define GROUP_WEIGHT 2.0

/* ---- memory ---------------------------------------------------------------------------------- */

typedef struct observation {
    int64_t step;
    uint64_t problem;
    int thought, visits, successes;
    bool parent_ok;
} observation;

typedef struct rt_reset_memory {
    observation *all; // (count) by step, then by id
    size_t count, capacity;
} rt_reset_memory;

static void remember(rt_coordinator *co, observation one)
{
    if (!co->resets) {
        co->resets = rt_alloc(sizeof *co->resets);
    }
    rt_reset_memory *memory = co->resets;
    if (memory->count == memory->capacity) {
        size_t more = RT_MAX(memory->capacity * 2, 256);
        memory->all = rt_realloc(memory->all, memory->capacity * sizeof one, more * sizeof one);
        memory->capacity = more;
    }
    memory->all[memory->count++] = one;
}

void rt_resets_remember(rt_coordinator *co, const rt_plan *plan)
{
    for (int i = 0; plan->resets->caro && i < plan->resets->count; i++) {
        const rt_reset_problem *problem = &plan->resets->problems[i];
        for (int j = 0; !problem->failed && j < problem->states_count; j++) {
            const rt_reset_state *state = &problem->states[j];
            int visits = 0, successes = rt_reset_successes(state, &visits);
            remember(co, (observation){plan->step, state->problem, state->thought, visits,
                                       successes, state->parent_ok});
        }
    }
}

int rt_resets_load(rt_coordinator *co, rt_error *err)
{
    static const char sql[] =
        "SELECT r.step, r.problem_id, r.thought, r.visits, r.successes, "
        "r.thought > 1 AND t.grade = 'correct' FROM resets r "
        "LEFT JOIN trajectories t ON t.id = r.trajectory_id ORDER BY r.step, r.id";
    sqlite3_stmt *query = NULL;
    sqlite3 *db = rt_store_database(co->store);
    int code = sqlite3_prepare_v2(db, sql, -1, &query, NULL);
    while (code == SQLITE_OK && (code = sqlite3_step(query)) == SQLITE_ROW) {
        remember(co, (observation){sqlite3_column_int64(query, 0),
                                   (uint64_t)sqlite3_column_int64(query, 1),
                                   sqlite3_column_int(query, 2), sqlite3_column_int(query, 3),
                                   sqlite3_column_int(query, 4), sqlite3_column_int(query, 5) != 0});
        code = SQLITE_OK;
    }
    sqlite3_finalize(query);
    return code == SQLITE_DONE
               ? RT_OK
               : rt_fail(err, RT_ERR_IO, "cannot read the resets of run.db: %s", sqlite3_errmsg(db));
}

void rt_resets_forget(rt_coordinator *co, int64_t from_step)
{
    rt_reset_memory *memory = co->resets;
    while (memory && memory->count > 0 && memory->all[memory->count - 1].step >= from_step) {
        memory->count--;
    }
}

void rt_resets_close(rt_coordinator *co)
{
    if (co->resets) {
        rt_free(co->resets->all);
        rt_free(co->resets);
        co->resets = NULL;
    }
}

/* ---- statistics ------------------------------------------------------------------------------ */

typedef struct counts {
    double won, lost;
} counts;

typedef struct statistics {
    double weight[AGE_MAX + 1];                   /* by age in steps */
    counts pool[RT_TASKS_MAX][2][THOUGHTS_MAX]; /* by task, whether the rollout succeeded, thought */
} statistics;

static int task_of(uint64_t problem)
{
    return (int)RT_MIN(rt_problem_task(problem), RT_TASKS_MAX - 1);
}

static void add(counts *to, const observation *one, double weight)
{
    to->won += weight * one->successes;
    to->lost += weight * (one->visits - one->successes);
}

static void pool(const rt_coordinator *co, int64_t step, statistics *to)
{
    memset(to, 0, sizeof *to);
    to->weight[0] = 1; /* by multiplication: the same bits everywhere */
    for (int i = 1; i <= AGE_MAX; i++) {
        to->weight[i] = to->weight[i - 1] * co->config->algorithm.resets.decay;
    }
    const rt_reset_memory *memory = co->resets;
    for (size_t i = 0; memory && i < memory->count; i++) {
        const observation *one = &memory->all[i];
        if (one->thought > 1 && one->step < step && step - one->step <= AGE_MAX) {
            add(&to->pool[task_of(one->problem)][one->parent_ok]
                         [RT_MIN(one->thought, THOUGHTS_MAX - 1)],
                one, to->weight[step - one->step]);
        }
    }
}

/* What is known of this very problem, by thought. */
static void of_problem(const rt_coordinator *co, const statistics *all, int64_t step,
                       uint64_t problem, counts own[THOUGHTS_MAX])
{
    memset(own, 0, THOUGHTS_MAX * sizeof *own);
    const rt_reset_memory *memory = co->resets;
    for (size_t i = 0; memory && i < memory->count; i++) {
        const observation *one = &memory->all[i];
        if (one->problem == problem && one->step < step && step - one->step <= AGE_MAX) {
            add(&own[RT_MIN(one->thought, THOUGHTS_MAX - 1)], one, all->weight[step - one->step]);
        }
    }
}

/* ---- candidates ------------------------------------------------------------------------------ */

typedef struct candidate {
    int problem, rollout, thought; /* thought 1: the prompt */
    double a, b, mixed, gain, score;
    bool taken;
} candidate;

/* E[q^n] under Beta(a, b). */
static double moment(double a, double b, int n)
{
    double product = 1;
    for (int i = 0; i < n; i++) {
        product *= (a + i) / (a + b + i);
    }
    return product;
}

static double mixed_share(double a, double b, int count)
{
    return 1 - moment(a, b, count) - moment(b, a, count);
}

/* Root of the expected variance of one outcome. */
static double spread(double a, double b)
{
    return sqrt(a * b / ((a + b) * (a + b + 1)));
}

double rt_caro_gain(double a, double b, int count)
{
    return mixed_share(a, b, count) * spread(a, b);
}

static void judge(candidate *one, int count, double explore, bool mixed_already)
{
    double a = one->a, b = one->b;
    one->mixed = mixed_already ? 1 : mixed_share(a, b, count);
    one->gain = one->mixed * spread(a, b);
    one->score = one->gain + explore * sqrt(a * b / (a + b + 1)) / (a + b);
}

typedef struct chooser {
    const rt_coordinator *co;
    const rt_plan *plan;
    statistics stats;
    candidate *list;
    size_t count, capacity;
} chooser;

static void propose(chooser *to, candidate one, bool mixed_already)
{
    const rt_reset_settings *settings = &to->co->config->algorithm.resets;
    judge(&one, (int)settings->continuations, settings->explore, mixed_already);
    if (to->count == to->capacity) {
        size_t more = RT_MAX(to->capacity * 2, 256);
        to->list = rt_realloc(to->list, to->capacity * sizeof one, more * sizeof one);
        to->capacity = more;
    }
    to->list[to->count++] = one;
}

static void propose_rollout(chooser *to, int index, int number, double rate,
                            const counts own[THOUGHTS_MAX])
{
    const rt_reset_problem *problem = &to->plan->resets->problems[index];
    const rt_sample *sample = problem->fresh[number];
    bool ok = sample->grade == RT_CORRECT;
    for (int thought = 2; thought <= (int)sample->thoughts; thought++) {
        int place = RT_MIN(thought, THOUGHTS_MAX - 1);
        const counts *seen = &to->stats.pool[task_of(problem->first->problem)][ok][place];
        double mean = (seen->won + GROUP_WEIGHT * rate) / (seen->won + seen->lost + GROUP_WEIGHT);
        candidate one = {.problem = index, .rollout = number, .thought = thought};
        one.a = POOL_WEIGHT * mean + own[place].won + ok;
        one.b = POOL_WEIGHT * (1 - mean) + own[place].lost + !ok;
        propose(to, one, false);
    }
}

static void propose_problem(chooser *to, int index)
{
    const rt_reset_problem *problem = &to->plan->resets->problems[index];
    int fresh = 0, won = 0;
    for (int i = 0; i < RT_FRESH_SAMPLES; i++) {
        fresh += problem->fresh[i] != NULL;
        won += problem->fresh[i] && problem->fresh[i]->grade == RT_CORRECT;
    }
    counts own[THOUGHTS_MAX];
    of_problem(to->co, &to->stats, to->plan->step, problem->first->problem, own);
    candidate prompt = {.problem = index, .rollout = -1, .thought = 1};
    prompt.a = 1 + won + own[1].won;
    prompt.b = 1 + (fresh - won) + own[1].lost;
    propose(to, prompt, won > 0 && won < fresh);
    double rate = (won + 1.0) / (fresh + 2.0);
    for (int i = 0; i < RT_FRESH_SAMPLES; i++) {
        if (problem->fresh[i]) {
            propose_rollout(to, index, i, rate, own);
        }
    }
}

/* ---- choosing -------------------------------------------------------------------------------- */

static bool allowed(const rt_plan *plan, const candidate *one)
{
    const rt_reset_problem *problem = &plan->resets->problems[one->problem];
    int most = RT_MIN(RT_STATES_MAX, RT_CONTINUATIONS / plan->resets->continuations);
    if (one->taken || problem->states_count >= most) {
        return false;
    }
    for (int i = 0; i < problem->states_count; i++) { /* states of one rollout repeat each other */
        if (one->rollout >= 0 && problem->states[i].seed == problem->fresh[one->rollout]) {
            return false;
        }
    }
    return true;
}

static candidate *best(chooser *from)
{
    candidate *found = NULL;
    for (size_t i = 0; i < from->count; i++) {
        candidate *one = &from->list[i];
        if ((!found || one->score > found->score) && allowed(from->plan, one)) {
            found = one;
        }
    }
    return found;
}

static void take(rt_coordinator *co, rt_plan *plan, candidate *one, int rank, size_t of)
{
    rt_reset_problem *problem = &plan->resets->problems[one->problem];
    const rt_sample *seed = one->rollout < 0 ? NULL : problem->fresh[one->rollout];
    rt_reset_state *state = rt_reset_state_new(
        plan, one->problem, seed ? problem->fresh_job[one->rollout] : NULL, seed);
    one->taken = true;
    state->joins = !seed;
    state->chosen_by = RT_CHOSEN_STATISTICS;
    state->gain = one->gain;
    if (seed && seed->grade != RT_CORRECT) {
        state->oracle = rt_reset_oracle(co, problem, seed);
    }
    snprintf(state->why, sizeof state->why,
             "choice %d of %zu states: success Beta(%.3f, %.3f), mixed outcome %.3f, gain %.4f, "
             "with uncertainty %.4f",
             rank + 1, of, one->a, one->b, one->mixed, one->gain, one->score);
    rt_resets_continue(co, plan, state, one->thought);
}

void rt_caro_choose(rt_coordinator *co, rt_plan *plan)
{
    chooser *from = rt_alloc(sizeof *from);
    from->co = co;
    from->plan = plan;
    pool(co, plan->step, &from->stats);
    int budget = 0;
    for (int i = 0; i < plan->resets->count; i++) {
        if (!plan->resets->problems[i].failed) {
            propose_problem(from, i);
            budget++;
        }
    }
    for (int rank = 0; rank < budget; rank++) {
        candidate *one = best(from);
        if (!one) {
            break;
        }
        take(co, plan, one, rank, from->count);
    }
    rt_free(from->list);
    rt_free(from);
}
