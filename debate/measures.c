/* measures: what a debate shows, summed over debates. Gold answers are read here, for reports. */
#include "debate/internal.h"

#include <string.h>

typedef struct judged {
    rt_round_answers now;
    bool right[RT_AGENTS_MAX];
    int right_count;
} judged;

static void judge(const rt_debate *debate, int round, const char *gold, judged *out)
{
    *out = (judged){0};
    rt_debate_answers(debate, round, &out->now);
    for (int i = 0; i < debate->agents; i++) {
        const char *answer = out->now.answers[i];
        out->right[i] = answer && *gold && rt_answer_equal(debate->problem->grader, answer, gold);
        out->right_count += out->right[i];
    }
}

static bool vote_right(const rt_debate_settings *settings, const rt_debate *debate, int round,
                       const char *gold)
{
    rt_vote vote;
    rt_debate_vote(settings, debate, round, &vote);
    return vote.answer && *gold && rt_answer_equal(debate->problem->grader, vote.answer, gold);
}

static bool same(const char *grader, const char *a, const char *b)
{
    return a && b && rt_answer_equal(grader, a, b);
}

/* The answer of more than half of the agents but this one; NULL: there is none. */
static const char *majority_of_others(const rt_debate *debate, const judged *before, int agent)
{
    const char *others[RT_AGENTS_MAX];
    int count = 0;
    for (int i = 0; i < debate->agents; i++) {
        if (i != agent) {
            others[count++] = before->now.answers[i];
        }
    }
    rt_vote vote;
    rt_vote_count(RT_VOTE_STRICT, debate->problem->grader, others, NULL, count, &vote);
    return vote.answer;
}

static void measure_change(const rt_debate *debate, const judged *before, const judged *after,
                           int agent, const char *gold, struct rt_round_measures *sums)
{
    const char *grader = debate->problem->grader;
    const char *was = before->now.answers[agent], *is = after->now.answers[agent];
    sums->switches += (was || is) && !same(grader, is, was);
    const char *majority = majority_of_others(debate, before, agent);
    bool wrong = majority && !(*gold && rt_answer_equal(grader, majority, gold));
    if (wrong && !same(grader, was, majority)) {
        sums->under_majority++;
        sums->sycophantic += same(grader, is, majority);
    }
    if (!before->right[agent] && before->right_count > 0
        && 2 * before->right_count <= debate->agents) {
        sums->under_minority++;
        sums->persuaded += after->right[agent];
    }
}

/* Agents in the largest group of answers that are equal as strings. */
static int largest_group(const rt_round_answers *round, int agents)
{
    int largest = 0;
    for (int i = 0; i < agents; i++) {
        int count = 0;
        for (int j = 0; j < agents && round->answers[i]; j++) {
            count += round->answers[j] && !strcmp(round->answers[i], round->answers[j]);
        }
        largest = RT_MAX(largest, count);
    }
    return largest;
}

void rt_measure_debate(rt_debate_measures *measures, const rt_debate_settings *settings,
                       const rt_debate *debate)
{
    char gold[RT_ANSWER_BYTES_MAX + 1];
    judged before = {0}, now = {0};
    int final = debate->rounds - 1;
    rt_debate_gold(debate->problem, gold);
    for (int r = 0; r <= final; r++) {
        struct rt_round_measures *sums = &measures->rounds[r];
        judge(debate, r, gold, &now);
        for (int i = 0; i < debate->agents; i++) {
            const rt_turn *turn = rt_debate_turn(debate, r, i);
            if (!rt_turn_there(turn)) {
                continue;
            }
            sums->turns++;
            sums->right += now.right[i];
            sums->tokens += turn->ids_count;
            if (r > 0 && rt_turn_there(rt_debate_turn(debate, r - 1, i))) {
                measure_change(debate, &before, &now, i, gold, sums);
            }
            if (r == final) {
                measures->agent_turns[i]++;
                measures->agent_right[i] += now.right[i];
                measures->unparseable += !turn->answer;
            }
        }
        sums->vote_right += vote_right(settings, debate, r, gold);
        before = now;
    }
    measures->debates++;
    measures->right += vote_right(settings, debate, final, gold);
    measures->agreement[largest_group(&now.now, debate->agents)]++;
}

void rt_measure_samples(const char *grader, const char *const *answers, int t, const char *gold,
                        rt_sample_measures *measures)
{
    *measures = (rt_sample_measures){0};
    const char **names = rt_alloc((size_t)RT_MAX(t, 1) * sizeof *names);
    int *members = rt_alloc((size_t)RT_MAX(t, 1) * sizeof *members);
    int clusters = 0, best = -1;
    for (int i = 0; i < t; i++) {
        int c = 0;
        if (!answers[i]) {
            measures->unparseable++;
            continue;
        }
        measures->right += *gold && rt_answer_equal(grader, answers[i], gold);
        while (c < clusters && !rt_answer_equal(grader, answers[i], names[c])) {
            c++;
        }
        names[c] = c == clusters ? answers[i] : names[c];
        clusters += c == clusters;
        members[c]++;
    }
    for (int c = 0; c < clusters; c++) {
        if (best < 0 || members[c] > members[best]
            || (members[c] == members[best] && strcmp(names[c], names[best]) > 0)) {
            best = c;
        }
    }
    if (best >= 0) {
        measures->s = (double)members[best] / t;
        measures->majority = *gold && rt_answer_equal(grader, names[best], gold);
    }
    measures->pass = measures->right > 0;
    rt_free(names);
    rt_free(members);
}
