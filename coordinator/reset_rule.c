/*
 * reset_rule: the sequential rule over fresh rollouts, as a function of those known so far. It
 * never looks past a rollout that is still open, so that what it decides can't change any more.
 */
#include "coordinator/resets.h"

static void to_base(rt_rule *rule, int number)
{
    rule->role[number] = RT_FRESH_BASE;
    rule->base++;
}

/* Takes rollouts from `number` on until `size` are trained; false: one of them is open. */
static bool top_up(const rt_fresh *fresh, rt_rule *rule, int number, int size)
{
    int needed = size - rule->base;
    rule->wanted = RT_MAX(rule->wanted, number + needed);
    for (; rule->base < size; number++) {
        RT_ASSERT(number < RT_FRESH_SAMPLES);
        if (!fresh[number].known) {
            return false;
        }
        to_base(rule, number);
        rule->walked = RT_MAX(rule->walked, number + 1);
    }
    return true;
}

/* Too few failures: one group of all. Where failures were found they belong to it. */
static bool fall_back(const rt_reset_settings *settings, const rt_fresh *fresh, rt_rule *rule)
{
    int size = (int)(settings->base + settings->seeds * settings->continuations);
    rule->fallback = true;
    if (settings->base > 0 && rule->seeds == 0) {
        return top_up(fresh, rule, (int)settings->fresh_max, size);
    }
    rule->base = rule->seeds = 0;
    return top_up(fresh, rule, 0, size);
}

void rt_rule_apply(const rt_reset_settings *settings, const rt_fresh fresh[RT_FRESH_SAMPLES],
                   int issued, rt_rule *rule)
{
    int base = (int)settings->base, seeds = (int)settings->seeds;
    *rule = (rt_rule){.wanted = RT_MAX(issued, base + seeds)};
    int number = 0;
    while ((rule->base < base || rule->seeds < seeds) && number < settings->fresh_max) {
        if (number >= issued && issued > 0) {
            /* All are known and the rule goes on: half as many again, at least what is missing. */
            int missing = RT_MAX(base - rule->base, 0) + seeds - rule->seeds;
            int more = RT_MAX(missing, issued / 2 + 1);
            rule->wanted = RT_MIN(issued + more, (int)settings->fresh_max);
        }
        if (!fresh[number].known) {
            return;
        }
        bool failed = !fresh[number].zero && !fresh[number].ok;
        if (failed && rule->seeds < seeds) {
            rule->role[number] = RT_FRESH_SEED;
            rule->seed[rule->seeds++] = number;
        } else if (rule->base < base) {
            to_base(rule, number);
        }
        number++;
    }
    rule->walked = number;
    if (rule->seeds < seeds) {
        rule->done = fall_back(settings, fresh, rule);
    } else {
        rule->done = rule->base >= base || top_up(fresh, rule, (int)settings->fresh_max, base);
    }
    if (!rule->done) {
        return;
    }
    for (int i = 0; i < RT_FRESH_SAMPLES; i++) {
        if (rule->fallback && rule->role[i] == RT_FRESH_SEED) {
            rule->role[i] = RT_FRESH_DISCARDED;
        }
        if (fresh[i].known && rule->role[i] == RT_FRESH_OPEN) {
            rule->role[i] = RT_FRESH_DISCARDED;
        }
    }
}

uint32_t rt_reset_cut(const int32_t *ends, uint32_t thoughts, int thought)
{
    RT_ASSERT(thought <= 1 || (uint32_t)thought <= thoughts);
    return thought <= 1 ? 0 : (uint32_t)ends[thought - 2];
}
