/*
 * debates: a plan whose problems are argued over. A turn is one lease; it goes out as soon as the
 * answers it quotes and the agent's own turn before are there, so that a slow agent holds up only
 * those who quote it. What a step asks for and what comes of it is a function of the config, the
 * step and the texts, never of the order in which they arrive.
 *
 * Sample numbers of a problem: turns from 0 (round × agents + agent), then the summaries of turns
 * in the same order (with debate.summaries), then each agent's new answers (grpo, online).
 * A debate has the id of its first turn.
 */
#ifndef RT_COORDINATOR_DEBATES_H
#define RT_COORDINATOR_DEBATES_H

#include "coordinator/internal.h"
#include "debate/debate.h"

#define RT_TURNS_MAX (RT_AGENTS_MAX * RT_ROUNDS_MAX)

typedef struct rt_debate_entry {
    rt_problem problem;
    rt_debate *debate;
    int index;                                  /* of the problem in the plan */
    rt_job *turns[RT_TURNS_MAX];                /* NULL: not asked for yet */
    rt_job *summaries[RT_TURNS_MAX];
    rt_job *online[RT_AGENTS_MAX];              /* by record */
    rt_prompt_report reports[RT_TURNS_MAX];
    int final_left;                             /* turns of the final round that are not here */
    int summaries_left;                         /* asked for and not here */
    bool failed, decided;
    rt_debate_decision decision;
    rt_debate_records records;
} rt_debate_entry;

/* One text of the training batch. */
typedef struct rt_lesson {
    const rt_debate_entry *entry;
    const rt_debate_record *record; /* whose text it is */
    rt_job *job;                    /* where it was sampled */
    rt_sample *sample;
    const int32_t *prompt; // (prompt_count)
    int prompt_count;
    bool all_tokens;   /* the prompt is trained, too */
    bool unsampled;    /* its log-probs do not belong to this prompt or this adapter */
    uint32_t adapter;  /* 1 + number; 0: all weights */
    uint32_t rejected; /* 1 + index among the lessons; 0: none */
    double advantage;
} rt_lesson;

typedef struct rt_debate_plan {
    int count;
    rt_debate_entry *entries; // (count)
    rt_lesson *lessons;       // (lessons_count) in the order of the batch; known once settled
    int lessons_count;
    double desirable, undesirable; /* kto: weights of the classes */
} rt_debate_plan;

/* plan_debate.c */
uint64_t rt_debate_trajectory(const rt_plan *plan, int index, int number);
/* One debate on a problem, its first round leased. */
int rt_debate_begin(rt_coordinator *co, rt_plan *plan, rt_debate_entry *entry,
                    const rt_problem *problem, int index, rt_error *err);
/* How many jobs a problem's debate may need. */
int rt_debate_jobs(const rt_config *config, bool evaluation);
/* Adapter of an agent as messages name it: 1 + number, 0 without adapters. */
uint32_t rt_agent_adapter(const rt_config *config, int agent);

/* debate_lessons.c: what is trained, after the last text is here */
void rt_lessons_make(const rt_config *config, rt_plan *plan);

/* store_debate.c: those of a step, from its database */
int rt_store_lessons(sqlite3 *db, const rt_config *config, int64_t step, rt_arena *arena,
                     rt_stored_step *out, rt_error *err);

/* debate_metrics.c */
void rt_debates_metrics(rt_coordinator *co, const rt_plan *plan);

#endif
