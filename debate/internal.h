/* internal: what the files of debate/ share and nobody outside sees. */
#ifndef RT_DEBATE_INTERNAL_H
#define RT_DEBATE_INTERNAL_H

#include "debate/debate.h"

struct rt_debate_rules {
    rt_debate_settings settings;
    uint64_t seed;
    const rt_taskset *set;
    const rt_tokenizer *tokenizer;
    const rt_chat *chat;
    int tokens_max;
    char *question, *peers; /* files; NULL: built in */
};

/* Order of agents 0…agents − 1, a function of (seed; debate, round, agent). */
void rt_debate_order(uint64_t seed, uint64_t debate, int round, int agent, uint32_t *order,
                     int agents);

/* A turn that was sampled; lost ones have no ids. */
bool rt_turn_there(const rt_turn *turn);

/* The gold answer as an answer: of grader steps the last result. */
const char *rt_debate_gold(const rt_problem *problem, char out[RT_ANSWER_BYTES_MAX + 1]);

/* Appends a conversation of one message: the question and `count` quoted turns behind it (0: the bare
 * question). RT_ERR_LIMIT: even the question does not fit. */
int rt_debate_context(const rt_debate_rules *rules, const rt_problem *problem,
                      const rt_turn *const *quoted, int count, rt_ids *ids,
                      rt_prompt_report *report, rt_error *err);

/* Vote over answers of one round, in order of agents. */
typedef struct rt_round_answers {
    const char *answers[RT_AGENTS_MAX];
    double logprob_means[RT_AGENTS_MAX];
} rt_round_answers;
void rt_debate_answers(const rt_debate *debate, int round, rt_round_answers *out);

#endif
