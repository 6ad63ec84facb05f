/*
 * debate: what a debate is, without messages and without a model: who quotes whom, each turn's
 * prompt as token ids, parsing and votes, the records that are trained, what is measured. Turns
 * are computed elsewhere and handed in; every function here is a function of its arguments.
 *
 * Words. A *debate* is `agents` × `rounds` turns over one problem, known by its id alone: the same
 * question asked twice is two debates. Rounds and agents count from 0; the *final* round is
 * rounds − 1. A *turn* is what one agent sampled in one round. An *answer* is what its text boxes.
 *
 * Threading: rt_debate_rules is read-only after opening and may be shared. Ownership: what is
 * returned lives in the arena that is given, or points into the turns that were handed in.
 */
#ifndef RT_DEBATE_H
#define RT_DEBATE_H

#include "base/base.h"
#include "base/config.h"
#include "model/chat.h"
#include "model/model.h"
#include "tasks/tasks.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { RT_AGENTS_MAX = 16, RT_ROUNDS_MAX = 8, RT_ANSWER_BYTES_MAX = 1024 };

/* ---- turns and debates ------------------------------------------------------------------------ */

typedef struct rt_turn {
    uint64_t trajectory;
    const int32_t *ids;       /* exactly as sampled, what ended the turn included; NULL: not there yet */
    const float *logprobs;    /* (ids_count), NULL: unknown */
    int ids_count;
    const char *summary;      /* the author's own, with debate.summaries; NULL: none */
    /* Filled by rt_turn_read. */
    const char *text;         /* without special tokens; ends in NUL, may hold others */
    size_t text_bytes;
    const char *answer;       /* NULL: unparseable */
    double logprob_mean;      /* over ids; −infinity: no ids or no log-probs */
} rt_turn;

typedef struct rt_debate {
    uint64_t id;
    const rt_problem *problem;
    int agents, rounds;
    rt_turn *turns;           /* (rounds × agents), [round × agents + agent] */
} rt_debate;

/* A debate without turns yet, in the arena; keeps the pointer to problem. */
rt_debate *rt_debate_new(const rt_debate_settings *settings, uint64_t id, const rt_problem *problem,
                         rt_arena *arena);
rt_turn *rt_debate_turn(const rt_debate *debate, int round, int agent);
/* Decodes a turn and parses its answer by the problem's grader. */
void rt_turn_read(rt_turn *turn, const rt_tokenizer *tokenizer, const char *grader, rt_arena *arena);

/* ---- who quotes whom ---------------------------------------------------------------------------- */

/* The agents whose answers of round `round` − 1 `agent` reads in `round`, in the order in which they
 * are quoted: all others in an order drawn by Philox(seed; debate, round, agent), at most
 * settings->peers of them. Known before any turn exists: these, and the agent's own turn of round − 1,
 * are all a turn waits for. Returns their number; round 0: 0. */
int rt_debate_quotes(const rt_debate_settings *settings, uint64_t seed, uint64_t debate, int round,
                     int agent, int peers[RT_AGENTS_MAX]);

/* All that a turn reads is there: the agent's own turn before, those it quotes, and with
 * debate.summaries the summaries of those that have a text. */
bool rt_debate_ready(const rt_debate_settings *settings, uint64_t seed, const rt_debate *debate, int round,
                     int agent);

/* ---- conversations ------------------------------------------------------------------------------- */

/* Settings, templates and chat form of a run.
 *
 * Question: the file prompts.question; else, for generated tasks and in the plain form, the task's own
 * prompt; else a built-in text. Later rounds: the file prompts.peers; else a built-in text. Only
 * {problem} and {peers} are replaced. Each quoted peer is a paragraph of its own: a heading with its
 * place, then its whole text (with debate.summaries its summary). debate.diversity adds a sentence.
 *
 * Compact form (plain chat, generated task, no prompts.peers): what the embedded model is taught.
 *   round 1   Q:7+5*3\n                                     the task's own prompt
 *   then      7+5=2</thought>2*3=6\boxed{6}</thought>       the agent's turn, as sampled
 *   round 2   \nP:6,4\n                                     peers' answers, in quoted order
 * and so on; in a record's context, where no own turn stands before, Q:7+5*3\nP:6,4\n. The next
 * turn begins right behind the line break. An answer is on one line and cut to 32 bytes. Summaries
 * and diversity have no effect on it.
 *
 * A peer without text (compact: without an answer) is left out; if nobody is left the message says so
 * (compact: "P:-"). A prompt of more than tokens_max tokens: the peers' texts are cut, the longest
 * first, down to one length that fits; a cut text keeps its end, where the answer stands, behind
 * "[...] ". If it does not fit without any peer's text, the agent's own turns are left out and the
 * conversation begins anew (question and peers in one message). If not even that fits:
 * RT_ERR_LIMIT. All is counted. */
typedef struct rt_debate_rules rt_debate_rules;
/* Borrows all. tokens_max: most tokens of a prompt, the model's context less what is sampled behind.
 * RT_ERR_USAGE: a template is unfit, or a task's answers can't be compared (graders code, countdown). */
int rt_debate_rules_new(rt_debate_rules **rules, const rt_config *config, const rt_taskset *set,
                        const rt_tokenizer *tokenizer, const rt_chat *chat, int tokens_max,
                        rt_error *err);
void rt_debate_rules_free(rt_debate_rules **rules);

typedef struct rt_prompt_report {
    int quoted;        /* peers in the message */
    int silent;        /* left out: no text or no answer */
    int cut;           /* quoted, but not whole */
    int64_t bytes_cut;
    bool anew;         /* the agent's own turns did not fit */
} rt_prompt_report;

/* The question as the user's message of round 0. */
const char *rt_debate_question(const rt_debate_rules *rules, const rt_problem *problem, rt_arena *arena);
/* Appends the prompt of a turn. Needed, read by rt_turn_read: the agent's own turns before `round` and
 * those that it quoted and quotes (rt_debate_quotes). With what was appended for `round` − 1 and the
 * agent's own turn this begins the same unless report->anew. report: of this round's message. */
int rt_debate_prompt(const rt_debate_rules *rules, const rt_debate *debate, int round, int agent,
                     rt_ids *ids, rt_prompt_report *report, rt_error *err);
/* debate.summaries: appends the prompt in which the author condenses its own turn; its text becomes
 * turn->summary. Asked for turns of every round but the final one that have a text. */
int rt_debate_summary_prompt(const rt_debate_rules *rules, const rt_debate *debate, int round,
                             int agent, rt_ids *ids, rt_error *err);

/* ---- answers and votes --------------------------------------------------------------------------- */

/* The answer of a text: the content of its first complete \boxed{}, without space at its ends;
 * grader choice: the letter in the box (rt_choice_parse with J); yesno: yes or no, the box's first
 * word. NULL: unparseable (also: more than RT_ANSWER_BYTES_MAX bytes or a NUL inside). An empty box is
 * the answer "", which may win a vote but never gives a record. */
const char *rt_answer_parse(const char *grader, const char *text, size_t bytes, rt_arena *arena);
/* The first character of a box that is, in upper case, a letter from A to `last`: 'B' for "b", "(B)",
 * "B) 410"; as in MACA's release 'E' for "\text{B}". 0: none. */
char rt_choice_parse(const char *box, size_t bytes, char last);
/* The same string, or (graders number, math, steps) `answer` is right by the grader with `other` as its
 * gold answer. A percent sign at the end is no part of an answer: 10% is 10, as in MACA, not 0.1. */
bool rt_answer_equal(const char *grader, const char *answer, const char *other);

typedef struct rt_vote {
    const char *answer;               /* NULL: no consensus */
    bool agrees[RT_AGENTS_MAX];       /* answer equal to the consensus; unparseable: never */
    int agreeing;
    int cluster[RT_AGENTS_MAX];       /* which cluster, from 0 in order of agents; −1: unparseable */
    int clusters;
} rt_vote;
/* answers[i] NULL: unparseable. Each answer joins the first cluster whose first member it equals,
 * else begins one; a cluster's name is its first member.
 *   maca      the largest (members, name): a tie goes to the largest string (bytes compared)
 *   strict    the cluster of more than half of all agents, unparseable ones included; else none
 *   weighted  the largest sum of its members' exp(mean log-prob), each rounded to a multiple of 2^-32
 *             (so sums are exact in any order; no or not-a-number log-probs weigh 0, above 0 counts
 *             as 0); a tie goes to the largest (members, name)
 * logprob_means may be NULL unless weighted. */
void rt_vote_count(int rule, const char *grader, const char *const *answers,
                   const double *logprob_means, int agents, rt_vote *vote);
/* vote->answer = label, whoever agrees with it (clusters as above). */
void rt_vote_label(const char *grader, const char *const *answers, int agents, const char *label,
                   rt_vote *vote);
/* The vote over one round by settings->vote. */
void rt_debate_vote(const rt_debate_settings *settings, const rt_debate *debate, int round,
                    rt_vote *vote);

/* What counts as right in training. consensus: the vote over the final round; first_round: that over
 * round 0; truth: the problem's gold answer, the only place where this library reads it for training. */
typedef struct rt_debate_decision {
    const char *label;     /* NULL or "": no record */
    int source;            /* enum rt_debate_label */
    double agreement;      /* agents behind the label in the round that was voted on (truth: the final
                              one), share of all */
    bool enough;           /* a label, not "", and agreement ≥ settings->agreement_min */
} rt_debate_decision;
void rt_debate_decide(const rt_debate_settings *settings, const rt_debate *debate, rt_arena *arena,
                      rt_debate_decision *decision);

/* ---- records --------------------------------------------------------------------------------------- */

/* One thing to learn from. The trained turns are those of the final round, with context first those of
 * round 0. A turn agrees if its answer equals the label; unparseable ones do not.
 *   sft   one for each turn that agrees. Prompt: the conversation in which it was sampled
 *         (context final and previous), else the bare question.
 *   dpo   one for each pair of a turn that agrees and one that does not.
 *   kto   one for each turn; desirable: it agrees.
 *   grpo  one for each agent. Online: no completion, the prompt's answers are sampled anew (two agents'
 *         prompts may be equal); else the turn with its reward.
 * Prompt of dpo, kto and grpo: the question, then in the same message, after a blank line, the peers'
 *   final     final-round texts of all agents but the author (dpo: but the two authors), in an order
 *             drawn by Philox(seed; debate, rounds, author of the chosen turn), at most debate.peers
 *   previous  texts of all agents of the round before the final one, the author's too, in one order
 *             for all records of the debate
 *   first, none   no peers. Nobody to quote: no peers either.
 * Prompts go through the chat form as in the debate; they are cut by the same rule. Order of records:
 * by agent, pairs by (chosen, rejected). Turns without ids (a lost round) are no turns:
 * they neither agree nor are rejected nor quoted. */
typedef struct rt_debate_record {
    int kind;                     /* enum rt_record_kind */
    uint64_t debate;
    int agent;                    /* author of the (chosen) turn: whose record it is when not shared */
    int rejected_agent;           /* dpo; else −1 */
    int round;                    /* of the trained turns */
    const char *label;
    bool desirable;               /* agrees with the label */
    double reward;                /* grpo with completion: rt_debate_reward; else 0 */
    const int32_t *prompt;
    int prompt_count;
    const rt_turn *chosen;        /* completion: its ids as sampled; NULL: online */
    const rt_turn *rejected;      /* dpo; else NULL */
    rt_prompt_report report;      /* how the prompt was made */
} rt_debate_record;

typedef struct rt_debate_records {
    rt_debate_record *items;
    int count;
    int unfit;                    /* left out: even the question alone is longer than tokens_max */
} rt_debate_records;

/* Records of a debate whose turns are read. None (count 0) without enough agreement. Kind and context
 * are those of the rules' config. */
int rt_debate_records_make(const rt_debate_rules *rules, const rt_debate *debate,
                           const rt_debate_decision *decision, rt_arena *arena,
                           rt_debate_records *records, rt_error *err);
/* Reward of a text sampled for a grpo record: 2 where its answer equals the label, else 0, plus the
 * format reward where debate.format_reward is on. */
double rt_debate_reward(const rt_debate_rules *rules, const char *grader, const char *text,
                        size_t bytes, const char *label);
/* MACA's reward for form, 0…1, of the lines that are not blank, without space at their ends: 0.2 for at
 * least two lines without "\boxed{" of more than 10 characters, 0.04 more for each further one up to
 * 0.2; exactly one "\boxed{" 0.3, and 0.2 if in the last line, else −0.1; none or several −0.2. */
double rt_format_reward(const char *text, size_t bytes);

/* Class weights of KTO over `positive` desirable and `negative` undesirable records: the class with
 * fewer records weighs their ratio, at most 4/3 with cap, the other 1; then both are multiplied by
 * scale and, with swap, exchanged. A class without records: 1 and 1. */
void rt_kto_weights(int64_t positive, int64_t negative, bool cap, double scale, bool swap,
                    double *desirable, double *undesirable);

/* ---- measures -------------------------------------------------------------------------------------- */

/* Sums over debates; a share is a sum over its count, intervals by rt_wilson. Gold answers are read
 * here, for reports only. "Right": rt_answer_equal to the gold answer. All but the histogram by
 * equivalence of answers. Unparseable answers are never right and never equal. */
typedef struct rt_debate_measures {
    int64_t debates;
    /* [k]: debates whose largest group of final answers equal as strings has k agents (0: none is
     * parseable); unparseable: final answers that are none, turns of all debates */
    int64_t agreement[RT_AGENTS_MAX + 1], unparseable;
    int64_t right;                     /* debates whose vote over the final round is right */
    struct rt_round_measures {
        int64_t turns, right;          /* turns; their answers that are right (round 0: single agent) */
        int64_t vote_right;            /* debates whose vote over this round is right */
        int64_t switches;              /* answer differs from the agent's own of the round before */
        /* In the round before more than half of the other agents had one answer, a wrong one, and the
         * agent's own was not that (right, wrong or none); `sycophantic` of those have it now. */
        int64_t under_majority, sycophantic;
        /* In the round before some agents, at most half of all, were right and this one was not;
         * `persuaded` of those are right now. */
        int64_t under_minority, persuaded;
        int64_t tokens;                /* sampled */
    } rounds[RT_ROUNDS_MAX];
    int64_t agent_turns[RT_AGENTS_MAX], agent_right[RT_AGENTS_MAX]; /* final round, by agent */
} rt_debate_measures;
/* The votes are those of settings->vote. Debates of one set of settings only. */
void rt_measure_debate(rt_debate_measures *measures, const rt_debate_settings *settings,
                       const rt_debate *debate);

/* t independent answers to one problem (single agent). s: the largest cluster's share of t, 0 without
 * any parseable answer; pass: one is right; majority: MACA's vote over them is right. */
typedef struct rt_sample_measures {
    double s;
    bool pass, majority;
    int right, unparseable;
} rt_sample_measures;
void rt_measure_samples(const char *grader, const char *const *answers, int t, const char *gold,
                        rt_sample_measures *measures);

#ifdef __cplusplus
}
#endif
#endif
