/*
 * debate_metrics: what a step's debates, or those of an evaluation, show: agreement, who was right,
 * who switched and to what, what was made of it.
 */
#include <math.h>
#include <string.h>

#include "coordinator/debates.h"

typedef struct sink { /* where metrics of a step or of an evaluation go */
    rt_coordinator *co;
    int64_t at;
    bool evaluation;
} sink;

static void put(const sink *to, double value, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void put(const sink *to, double value, const char *format, ...)
{
    char name[80];
    size_t used = (size_t)snprintf(name, sizeof name, to->evaluation ? "eval.debate." : "debate.");
    va_list args;
    va_start(args, format);
    vsnprintf(name + used, sizeof name - used, format, args);
    va_end(args);
    if (to->evaluation) {
        rt_record_metric(to->co, to->at, name, value);
    } else {
        rt_step_metric(to->co, to->at, name, value);
    }
}

static double share(int64_t part, int64_t whole)
{
    return whole > 0 ? (double)part / (double)whole : NAN;
}

static void put_round(const sink *to, const rt_debate_measures *sums, int round)
{
    const struct rt_round_measures *m = &sums->rounds[round];
    put(to, share(m->right, m->turns), "round.%d.accuracy", round + 1);
    put(to, share(m->vote_right, sums->debates), "round.%d.vote", round + 1);
    put(to, share(m->tokens, m->turns), "round.%d.tokens", round + 1);
    if (round > 0) {
        put(to, share(m->switches, m->turns), "round.%d.switches", round + 1);
        put(to, share(m->sycophantic, m->under_majority), "round.%d.sycophancy", round + 1);
        put(to, share(m->persuaded, m->under_minority), "round.%d.persuasion", round + 1);
    }
}

static void put_measures(const sink *to, const rt_debate_settings *settings,
                         const rt_debate_measures *sums)
{
    int rounds = (int)settings->rounds, agents = (int)settings->agents;
    for (int k = 0; k <= agents; k++) {
        put(to, share(sums->agreement[k], sums->debates), "agreement.%d", k);
    }
    put(to, share(sums->unparseable, sums->rounds[rounds - 1].turns), "unparseable");
    put(to, share(sums->right, sums->debates), "accuracy");
    put(to, share(sums->rounds[0].right, sums->rounds[0].turns), "single.accuracy");
    for (int i = 0; i < rounds; i++) {
        put_round(to, sums, i);
    }
    for (int i = 0; i < agents; i++) {
        put(to, share(sums->agent_right[i], sums->agent_turns[i]), "agent.%d.accuracy", i);
    }
}

static void measure(const rt_coordinator *co, const rt_plan *plan, rt_debate_measures *sums)
{
    for (int i = 0; i < plan->debates->count; i++) {
        const rt_debate_entry *entry = &plan->debates->entries[i];
        if (entry->decided && !entry->failed) {
            rt_measure_debate(sums, &co->config->algorithm.debate, entry->debate);
        }
    }
}

static void put_prompts(const sink *to, const rt_plan *plan)
{
    int64_t quoted = 0, silent = 0, cut = 0, bytes = 0, anew = 0;
    for (int i = 0; i < plan->debates->count; i++) {
        const rt_debate_entry *entry = &plan->debates->entries[i];
        for (int k = 0; k < entry->debate->agents * entry->debate->rounds; k++) {
            const rt_prompt_report *report = &entry->reports[k];
            quoted += report->quoted;
            silent += report->silent;
            cut += report->cut;
            bytes += report->bytes_cut;
            anew += report->anew;
        }
    }
    put(to, (double)quoted, "quoted");
    put(to, (double)silent, "silent");
    put(to, (double)cut, "cut");
    put(to, (double)bytes, "cut.bytes");
    put(to, (double)anew, "anew");
}

static void put_records(const sink *to, const rt_plan *plan)
{
    int64_t records = 0, desirable = 0, without = 0, unfit = 0;
    for (int i = 0; i < plan->debates->count; i++) {
        const rt_debate_entry *entry = &plan->debates->entries[i];
        records += entry->records.count;
        unfit += entry->records.unfit;
        without += entry->records.count == 0;
        for (int k = 0; k < entry->records.count; k++) {
            desirable += entry->records.items[k].desirable;
        }
    }
    put(to, (double)records, "records");
    put(to, (double)desirable, "records.desirable");
    put(to, (double)unfit, "records.unfit");
    put(to, (double)without, "without_record");
    put(to, (double)plan->debates->lessons_count, "lessons");
}

void rt_debates_metrics(rt_coordinator *co, const rt_plan *plan)
{
    rt_debate_measures sums = {0};
    sink to = {co, plan->step, false};
    measure(co, plan, &sums);
    put_measures(&to, &co->config->algorithm.debate, &sums);
    put_prompts(&to, plan);
    put_records(&to, plan);
}

/* ---- evaluation ------------------------------------------------------------------------------ */

/* Mean over problems with its normal interval, inside [0, 1]. */
static rt_score mean_score(double sum, double squares, int64_t count)
{
    rt_score score = {.known = count > 0, .count = count};
    if (count > 0) {
        double n = (double)count, mean = sum / n;
        double half = 1.96 * sqrt(fmax(squares / n - mean * mean, 0) / n);
        score.accuracy = mean;
        score.low = fmax(mean - half, 0);
        score.high = fmin(mean + half, 1);
    }
    return score;
}

/* Several answers of one agent alone to each problem: S(x), pass@t, majority@t. */
static void put_samples(rt_coordinator *co, const sink *to, const rt_plan *plan,
                        rt_score *consistency)
{
    double sum = 0, squares = 0;
    int64_t count = 0, passed = 0, majority = 0;
    for (int i = 0; i < plan->count; i++) {
        const rt_job *job = &plan->jobs[i];
        if (job->debate || !job->sampled || !job->samples || job->count < 2) {
            continue;
        }
        const char *answers[256];
        rt_arena *arena = rt_arena_new(1 << 12);
        for (int k = 0; k < job->count; k++) {
            rt_turn turn = {.ids = job->samples[k].ids, .ids_count = (int)job->samples[k].tokens};
            rt_turn_read(&turn, co->tokenizer, job->grader, arena);
            answers[k] = turn.answer;
        }
        rt_sample_measures m;
        rt_measure_samples(job->grader, answers, job->count, job->gold, &m);
        rt_arena_free(&arena);
        sum += m.s;
        squares += m.s * m.s;
        passed += m.pass;
        majority += m.majority;
        count++;
    }
    *consistency = mean_score(sum, squares, count);
    put(to, share(passed, count), "samples.pass");
    put(to, share(majority, count), "samples.majority");
}

void rt_debates_score(rt_coordinator *co, const rt_plan *plan, rt_evaluation *now)
{
    rt_debate_measures sums = {0};
    sink to = {co, plan->step, true};
    measure(co, plan, &sums);
    put_measures(&to, &co->config->algorithm.debate, &sums);
    put_samples(co, &to, plan, &now->consistency);
    now->debate = (rt_score){.known = sums.debates > 0, .count = sums.debates};
    if (sums.debates > 0) {
        now->debate.accuracy = share(sums.right, sums.debates);
        rt_wilson(sums.right, sums.debates, &now->debate.low, &now->debate.high);
    }
    rt_debates_record(co, plan);
}
