/* vote: the answer of a text, which answers are the same, and what the agents agree on. */
#include "debate/internal.h"

#include <ctype.h>
#include <math.h>
#include <string.h>
#include <strings.h>

/* ---- answers --------------------------------------------------------------------------------------- */

char rt_choice_parse(const char *box, size_t bytes, char last)
{
    for (size_t i = 0; i < bytes; i++) {
        char upper = (char)toupper((unsigned char)box[i]);
        if (upper >= 'A' && upper <= last) {
            return upper;
        }
    }
    return 0;
}

static const char *yes_or_no(const char *box, size_t bytes)
{
    size_t word = 0;
    while (word < bytes && isalpha((unsigned char)box[word])) {
        word++;
    }
    return word == 3 && !strncasecmp(box, "yes", 3)  ? "yes"
           : word == 2 && !strncasecmp(box, "no", 2) ? "no"
                                                     : NULL;
}

static const char *keep(const char *text, size_t bytes, rt_arena *arena)
{
    char *copy = rt_arena_alloc(arena, bytes + 1);
    if (bytes) {
        memcpy(copy, text, bytes);
    }
    return copy;
}

const char *rt_answer_parse(const char *grader, const char *text, size_t bytes, rt_arena *arena)
{
    const char *box;
    size_t count;
    if (!rt_boxed_first(text, bytes, &box, &count)) {
        return NULL;
    }
    while (count && isspace((unsigned char)box[count - 1])) {
        count--;
    }
    while (count && isspace((unsigned char)*box)) {
        box++;
        count--;
    }
    if (!strcmp(grader, "choice")) {
        char letter = rt_choice_parse(box, count, 'J');
        return letter ? keep(&letter, 1, arena) : NULL;
    }
    if (!strcmp(grader, "yesno")) {
        return yes_or_no(box, count);
    }
    return count > RT_ANSWER_BYTES_MAX || memchr(box, '\0', count) ? NULL : keep(box, count, arena);
}

/* Bytes without a percent sign at the end: the graders read it as a factor. */
static int without_percent(const char *answer)
{
    size_t bytes = strlen(answer);
    if (bytes > 1 && answer[bytes - 1] == '%') {
        bytes -= answer[bytes - 2] == '\\' ? 2 : 1;
    }
    return (int)bytes;
}

bool rt_answer_equal(const char *grader, const char *answer, const char *other)
{
    if (!strcmp(answer, other)) {
        return true;
    }
    if (!*answer || !*other) {
        return false;
    }
    /* The gold of `steps` is a whole chain, not an answer. */
    if (!strcmp(grader, "steps")) {
        grader = "number";
    }
    if (strcmp(grader, "number") && strcmp(grader, "math")) {
        return false;
    }
    rt_buf text = {0}, gold = {0};
    rt_verdict verdict;
    rt_buf_addf(&text, "\\boxed{%.*s}", without_percent(answer), answer);
    rt_buf_addf(&gold, "%.*s", without_percent(other), other);
    int rc = rt_grade_response(grader, text.data, text.bytes, gold.data, &verdict, NULL);
    rt_buf_free(&text);
    rt_buf_free(&gold);
    return rc == RT_OK && verdict.grade == RT_CORRECT;
}

const char *rt_debate_gold(const rt_problem *problem, char out[RT_ANSWER_BYTES_MAX + 1])
{
    const char *gold = problem->gold, *equals = strrchr(gold, '=');
    if (!strcmp(problem->grader, "steps") && equals) {
        gold = equals + 1;
    }
    gold += strspn(gold, " \t\r\n");
    size_t bytes = RT_MIN(strlen(gold), (size_t)RT_ANSWER_BYTES_MAX);
    while (bytes && isspace((unsigned char)gold[bytes - 1])) {
        bytes--;
    }
    if (bytes) {
        memcpy(out, gold, bytes);
    }
    out[bytes] = '\0';
    if (!strcmp(problem->grader, "choice") && bytes) { /* a gold may be written (C) or C) */
        char letter = rt_choice_parse(out, bytes, 'J');
        out[0] = letter;
        out[letter ? 1 : 0] = '\0';
    } else if (!strcmp(problem->grader, "yesno")) {
        for (size_t i = 0; i < bytes; i++) {
            out[i] = (char)tolower((unsigned char)out[i]);
        }
    }
    return out;
}

/* ---- votes ------------------------------------------------------------------------------------------- */

typedef struct cluster {
    const char *name;
    int members;
    int64_t weight; /* multiples of 2^-32 */
} cluster;

static int64_t weight_of(const double *logprob_means, int agent)
{
    double mean = logprob_means ? logprob_means[agent] : -(double)INFINITY;
    if (isnan(mean)) {
        return 0;
    }
    return llround(exp(RT_MIN(mean, 0.0)) * 4294967296.0);
}

static int find_clusters(const char *grader, const char *const *answers,
                         const double *logprob_means, int agents, cluster *clusters, rt_vote *vote)
{
    int count = 0;
    for (int i = 0; i < agents; i++) {
        vote->cluster[i] = -1;
        if (!answers[i]) {
            continue;
        }
        int c = 0;
        while (c < count && !rt_answer_equal(grader, answers[i], clusters[c].name)) {
            c++;
        }
        if (c == count) {
            clusters[count++] = (cluster){.name = answers[i]};
        }
        clusters[c].members++;
        clusters[c].weight += weight_of(logprob_means, i);
        vote->cluster[i] = c;
    }
    return count;
}

/* Is a ahead of b by (weight if asked for, members, name)? */
static bool ahead(const cluster *a, const cluster *b, bool weighted)
{
    if (weighted && a->weight != b->weight) {
        return a->weight > b->weight;
    }
    if (a->members != b->members) {
        return a->members > b->members;
    }
    return strcmp(a->name, b->name) > 0;
}

static void mark(const char *grader, const char *const *answers, int agents, rt_vote *vote)
{
    vote->agreeing = 0;
    for (int i = 0; i < agents; i++) {
        vote->agrees[i] = vote->answer && answers[i]
                          && rt_answer_equal(grader, answers[i], vote->answer);
        vote->agreeing += vote->agrees[i];
    }
}

void rt_vote_count(int rule, const char *grader, const char *const *answers,
                   const double *logprob_means, int agents, rt_vote *vote)
{
    cluster clusters[RT_AGENTS_MAX];
    RT_ASSERT(agents >= 0 && agents <= RT_AGENTS_MAX);
    *vote = (rt_vote){0};
    vote->clusters = find_clusters(grader, answers, logprob_means, agents, clusters, vote);
    const cluster *best = NULL;
    for (int c = 0; c < vote->clusters; c++) {
        if (!best || ahead(&clusters[c], best, rule == RT_VOTE_WEIGHTED)) {
            best = &clusters[c];
        }
    }
    if (best && (rule != RT_VOTE_STRICT || 2 * best->members > agents)) {
        vote->answer = best->name;
    }
    mark(grader, answers, agents, vote);
}

void rt_vote_label(const char *grader, const char *const *answers, int agents, const char *label,
                   rt_vote *vote)
{
    cluster clusters[RT_AGENTS_MAX];
    RT_ASSERT(agents >= 0 && agents <= RT_AGENTS_MAX);
    *vote = (rt_vote){.answer = label};
    vote->clusters = find_clusters(grader, answers, NULL, agents, clusters, vote);
    mark(grader, answers, agents, vote);
}

void rt_debate_answers(const rt_debate *debate, int round, rt_round_answers *out)
{
    for (int i = 0; i < debate->agents; i++) {
        const rt_turn *turn = rt_debate_turn(debate, round, i);
        out->answers[i] = rt_turn_there(turn) ? turn->answer : NULL;
        out->logprob_means[i] = turn->logprob_mean;
    }
}

void rt_debate_vote(const rt_debate_settings *settings, const rt_debate *debate, int round,
                    rt_vote *vote)
{
    rt_round_answers round_answers;
    rt_debate_answers(debate, round, &round_answers);
    rt_vote_count(settings->vote, debate->problem->grader, round_answers.answers,
                  round_answers.logprob_means, debate->agents, vote);
}

void rt_debate_decide(const rt_debate_settings *settings, const rt_debate *debate, rt_arena *arena,
                      rt_debate_decision *decision)
{
    int round = settings->label == RT_LABEL_FIRST_ROUND ? 0 : debate->rounds - 1;
    rt_vote vote;
    if (settings->label == RT_LABEL_TRUTH) {
        char gold[RT_ANSWER_BYTES_MAX + 1];
        rt_round_answers final;
        rt_debate_gold(debate->problem, gold);
        rt_debate_answers(debate, round, &final);
        rt_vote_label(debate->problem->grader, final.answers, debate->agents,
                      keep(gold, strlen(gold), arena), &vote);
    } else {
        rt_debate_vote(settings, debate, round, &vote);
    }
    *decision = (rt_debate_decision){.label = vote.answer, .source = settings->label};
    decision->agreement = (double)vote.agreeing / debate->agents;
    decision->enough = vote.answer && *vote.answer && decision->agreement >= settings->agreement_min;
}
