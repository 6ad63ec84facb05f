/*
 * cpi_chain: policy gradients on a chain of decisions, each with its own softmax. A trajectory is
 * right when every decision is (action 0). A step trains 8 sequences for each of its problems;
 * the loss is plain policy gradient, averaged over a sequence's trained decisions and then over
 * sequences, the same for every method: they differ in what they sample and where credit goes.
 */
#include "bench/cpi.h"

#include <math.h>
#include <string.h>

#define GROUP 8
#define HALF 4
#define FRESH_MAX 12   /* rollouts that look for a failure before a problem trains as one group */
#define DECAY 0.9      /* of a reset's statistics in a step: old policies count less and less */

typedef struct sequence {
    uint8_t *action; /* (D) */
    int start;       /* first trained decision */
    double reward;
} sequence;

struct rt_cpi_training {
    rt_cpi_task task;
    rt_cpi_rng rng;
    double *logit, *share, *gradient; /* (D, Y) */
    uint32_t *below;                  /* (D, Y) the first bound above a word is the action */
    double *wins, *losses;            /* (D) of continuations from resets at each decision */
    uint8_t *memory;
    sequence trained[GROUP], spare; /* spare: rollouts that are not trained on */
    uint8_t *seed;                  /* (D) the first failure */
    int64_t sampled, sequences;
};

const char *rt_cpi_method_name(enum rt_cpi_method method)
{
    static const char *const names[] = {"grpo", "grpo 4+4", "rrpo", "srpo oracle", "caro-like"};
    return names[method];
}

/* Softmax of every decision, and its distribution function in units of 2^-32. */
static void refresh(rt_cpi_training *t)
{
    int actions = t->task.actions;
    for (int d = 0; d < t->task.decisions; d++) {
        const double *logit = t->logit + d * actions;
        double top = logit[0], sum = 0, up_to = 0;
        for (int y = 1; y < actions; y++)
            top = fmax(top, logit[y]);
        for (int y = 0; y < actions; y++)
            sum += exp(logit[y] - top);
        for (int y = 0; y < actions; y++) {
            double share = exp(logit[y] - top) / sum;
            t->share[d * actions + y] = share;
            up_to += share;
            t->below[d * actions + y] = (uint32_t)fmin(up_to * 0x1p32, 0x1.fffffffep31);
        }
    }
}

rt_cpi_training *rt_cpi_training_new(const rt_cpi_task *task, uint64_t seed)
{
    RT_ASSERT(task->decisions >= 1 && task->actions >= 2 && task->actions <= RT_CPI_ACTIONS_MAX);
    RT_ASSERT(task->base > 0 && task->base < 1 && task->problems >= 1);
    rt_cpi_training *t = rt_alloc(sizeof *t);
    size_t decisions = (size_t)task->decisions, cells = decisions * (size_t)task->actions;
    t->task = *task;
    t->rng = rt_cpi_rng_new(seed, (uint64_t)task->method);
    t->logit = rt_alloc(cells * sizeof *t->logit);
    t->share = rt_alloc(cells * sizeof *t->share);
    t->gradient = rt_alloc(cells * sizeof *t->gradient);
    t->below = rt_alloc(cells * sizeof *t->below);
    t->wins = rt_alloc(decisions * sizeof *t->wins);
    t->losses = rt_alloc(decisions * sizeof *t->losses);
    t->memory = rt_alloc(decisions * (GROUP + 2));
    for (int i = 0; i < GROUP; i++)
        t->trained[i].action = t->memory + decisions * (size_t)i;
    t->spare.action = t->memory + decisions * GROUP;
    t->seed = t->memory + decisions * (GROUP + 1);
    double right = pow(task->base, 1.0 / task->decisions);
    for (int d = 0; d < task->decisions; d++)
        t->logit[d * task->actions] = log(right * (task->actions - 1) / (1 - right));
    refresh(t);
    return t;
}

void rt_cpi_training_free(rt_cpi_training **training)
{
    rt_cpi_training *t = *training;
    if (!t)
        return;
    rt_free(t->logit);
    rt_free(t->share);
    rt_free(t->gradient);
    rt_free(t->below);
    rt_free(t->wins);
    rt_free(t->losses);
    rt_free(t->memory);
    rt_free(t);
    *training = NULL;
}

double rt_cpi_training_right(const rt_cpi_training *t, int decision)
{
    return t->share[decision * t->task.actions];
}

double rt_cpi_training_accuracy(const rt_cpi_training *t)
{
    double all = 1;
    for (int d = 0; d < t->task.decisions; d++)
        all *= rt_cpi_training_right(t, d);
    return all;
}

int64_t rt_cpi_training_sampled(const rt_cpi_training *t)
{
    return t->sampled;
}

int64_t rt_cpi_training_trained(const rt_cpi_training *t)
{
    return t->sequences;
}

/* Samples from decision `start` on, after the prefix of `before` (NULL when start is 0). */
static void roll(rt_cpi_training *t, const uint8_t *before, int start, sequence *out)
{
    int decisions = t->task.decisions, actions = t->task.actions;
    if (start > 0)
        memcpy(out->action, before, (size_t)start);
    out->start = start;
    for (int d = start; d < decisions; d++) {
        uint32_t word = rt_cpi_word(&t->rng);
        const uint32_t *below = t->below + d * actions;
        int y = 0;
        while (y + 1 < actions && word >= below[y])
            y++;
        out->action[d] = (uint8_t)y;
    }
    t->sampled += decisions - start;
    out->reward = 1;
    for (int d = 0; d < decisions; d++)
        if (out->action[d] != 0)
            out->reward = 0;
}

void rt_cpi_advantages(const double *reward, int count, double *out)
{
    double mean = 0, square = 0;
    for (int i = 0; i < count; i++)
        mean += reward[i] / count;
    for (int i = 0; i < count; i++)
        square += (reward[i] - mean) * (reward[i] - mean) / count;
    /* Rewards are 0 or 1 and a group has at most 8, so a mixed group deviates by 0.33 or more. */
    for (int i = 0; i < count; i++)
        out[i] = square < 1e-8 ? 0 : (reward[i] - mean) / sqrt(square);
}

static void credit(rt_cpi_training *t, const sequence *group, int count)
{
    double reward[GROUP], advantage[GROUP];
    int actions = t->task.actions;
    for (int i = 0; i < count; i++)
        reward[i] = group[i].reward;
    rt_cpi_advantages(reward, count, advantage);
    for (int i = 0; i < count; i++) {
        t->sequences++;
        if (advantage[i] == 0)
            continue;
        double weight = advantage[i] / (t->task.decisions - group[i].start) /
                        (GROUP * t->task.problems);
        for (int d = group[i].start; d < t->task.decisions; d++)
            for (int y = 0; y < actions; y++)
                t->gradient[d * actions + y] +=
                    weight * ((y == group[i].action[d]) - t->share[d * actions + y]);
    }
}

/* The decision whose continuations, as far as measured, are the least certain to end either way. */
static int uncertain_decision(rt_cpi_training *t)
{
    int best = 0;
    double most = -1;
    for (int d = 0; d < t->task.decisions; d++) {
        double success = rt_cpi_beta(&t->rng, 1 + t->wins[d], 1 + t->losses[d]);
        if (success * (1 - success) > most) {
            most = success * (1 - success);
            best = d;
        }
    }
    return best;
}

static int choose_reset(rt_cpi_training *t)
{
    int first = 0;
    switch (t->task.method) {
    case RT_CPI_RRPO:
        return (int)(rt_cpi_unit(&t->rng) * t->task.decisions);
    case RT_CPI_SRPO:
        while (t->seed[first] == 0)
            first++;
        return first;
    default:
        return uncertain_decision(t);
    }
}

/*
 * Fresh rollouts one after another: the first failure becomes the seed and is not trained, the
 * first four others are the base group, further ones only look for a failure. Without one, the
 * problem trains as one group of eight.
 */
static void reset_problem(rt_cpi_training *t)
{
    bool failed = false;
    int base = 0;
    for (int fresh = 0; fresh < FRESH_MAX && (base < HALF || !failed); fresh++) {
        sequence *slot = base < HALF ? &t->trained[base] : &t->spare;
        roll(t, NULL, 0, slot);
        if (!failed && slot->reward == 0) {
            failed = true;
            memcpy(t->seed, slot->action, (size_t)t->task.decisions);
        } else if (base < HALF) {
            base++;
        }
    }
    if (!failed) {
        while (base < GROUP)
            roll(t, NULL, 0, &t->trained[base++]);
        credit(t, t->trained, GROUP);
        return;
    }
    int start = choose_reset(t);
    for (int i = HALF; i < GROUP; i++) {
        roll(t, t->seed, start, &t->trained[i]);
        t->wins[start] += t->trained[i].reward;
        t->losses[start] += 1 - t->trained[i].reward;
    }
    credit(t, t->trained, HALF);
    credit(t, t->trained + HALF, HALF);
}

static void plain_problem(rt_cpi_training *t)
{
    for (int i = 0; i < GROUP; i++)
        roll(t, NULL, 0, &t->trained[i]);
    if (t->task.method == RT_CPI_GRPO) {
        credit(t, t->trained, GROUP);
    } else {
        credit(t, t->trained, HALF);
        credit(t, t->trained + HALF, HALF);
    }
}

void rt_cpi_training_step(rt_cpi_training *t)
{
    int cells = t->task.decisions * t->task.actions;
    memset(t->gradient, 0, (size_t)cells * sizeof *t->gradient);
    for (int i = 0; i < t->task.problems; i++) {
        if (t->task.method == RT_CPI_GRPO || t->task.method == RT_CPI_GRPO_4_4)
            plain_problem(t);
        else
            reset_problem(t);
    }
    for (int i = 0; i < cells; i++)
        t->logit[i] += t->task.rate * t->gradient[i];
    for (int d = 0; d < t->task.decisions; d++) {
        t->wins[d] *= DECAY;
        t->losses[d] *= DECAY;
    }
    refresh(t);
}
