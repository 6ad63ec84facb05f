/*
 * plan_debate: a step whose problems are argued over by agents in rounds (Samanta et al. 2025,
 * MACA), turn by turn as the texts that a turn reads arrive.
 */
#include <inttypes.h>
#include <string.h>

#include "coordinator/debates.h"

uint64_t rt_debate_trajectory(const rt_plan *plan, int index, int number)
{
    uint64_t first = plan->evaluation
                         ? UINT64_C(3) << 61 | (uint64_t)plan->step << 32 | (uint64_t)index << 8
                         : (uint64_t)plan->step << 24 | (uint64_t)index << 8;
    return first + (uint64_t)number;
}

uint32_t rt_agent_adapter(const rt_config *config, int agent)
{
    int adapters = rt_config_adapters(config);
    return adapters == 0 ? 0 : adapters == 1 ? 1 : 1 + (uint32_t)agent;
}

static bool online(const rt_config *config)
{
    const rt_debate_settings *debate = &config->algorithm.debate;
    return debate->record == RT_RECORD_GRPO && debate->online;
}

static int turns_of(const rt_debate_settings *debate)
{
    return (int)(debate->agents * debate->rounds);
}

int rt_debate_jobs(const rt_config *config, bool evaluation)
{
    const rt_debate_settings *debate = &config->algorithm.debate;
    int jobs = turns_of(debate) * (debate->summaries ? 2 : 1);
    return jobs + (!evaluation && online(config) ? (int)debate->agents : 0);
}

int rt_debates_open(rt_coordinator *co, rt_error *err)
{
    const rt_config *config = co->config;
    int64_t most = rt_config_max_tokens(config), room = co->context - most;
    if (room < 16) {
        return rt_fail(err, RT_ERR_USAGE,
                       "sampling.max_tokens is %lld and the context %lld: no room for a debate; lower "
                       "it", (long long)most, (long long)co->context);
    }
    int rc = rt_chat_new(&co->chat, co->tokenizer, config->model.path, config->prompts.chat, err);
    return rc ? rc
              : rt_debate_rules_new(&co->debate_rules, config, co->tasks, co->tokenizer, co->chat,
                                    (int)room, err);
}

void rt_debates_close(rt_coordinator *co)
{
    rt_debate_rules_free(&co->debate_rules);
    rt_chat_free(&co->chat);
}

/* ---- leases ---------------------------------------------------------------------------------- */

static void give_up(rt_plan *plan, rt_debate_entry *entry)
{
    if (!entry->failed) {
        entry->failed = true;
        entry->records.count = 0; /* new answers may fail behind the vote: nothing is learned */
        plan->failed++;
    }
}

/* Takes the ids. */
static rt_job *ask(rt_coordinator *co, rt_plan *plan, rt_debate_entry *entry, int kind, int number,
                   int agent, int count, rt_ids *ids)
{
    RT_ASSERT(plan->count < plan->capacity);
    rt_job *job = &plan->jobs[plan->count++];
    *job = (rt_job){.plan = plan,
                    .kind = kind,
                    .index = entry->index,
                    .sampled = true,
                    .problem = entry->problem.id,
                    .first = rt_debate_trajectory(plan, entry->index, number),
                    .task = entry->problem.task,
                    .count = count,
                    .task_name = entry->problem.task_name,
                    .prompt = entry->problem.prompt,
                    .gold = entry->problem.gold,
                    .grader = entry->problem.grader,
                    .prompt_ids = ids->items,
                    .prompt_count = ids->count,
                    .adapter = rt_agent_adapter(co->config, agent),
                    .debate = entry,
                    .begins = number < (int)co->config->algorithm.debate.agents,
                    .version = -1};
    job->lease = rt_leases_add(&co->leases, job);
    plan->pending++;
    return job;
}

static bool round_is_over(const rt_debate_entry *entry, int round)
{
    if (!entry->debate) {
        return false; /* not begun */
    }
    for (int agent = 0; agent < entry->debate->agents && !entry->failed; agent++) {
        if (!rt_debate_turn(entry->debate, round, agent)->ids) {
            return false;
        }
    }
    return true;
}

/* debate.barrier: batches one after another, each round by round. */
static bool held_back(const rt_coordinator *co, const rt_plan *plan, const rt_debate_entry *entry,
                      int round)
{
    int size = (int)co->config->algorithm.debate.barrier, rounds = entry->debate->rounds;
    for (int i = 0; size > 0 && i < plan->debates->count; i++) {
        const rt_debate_entry *other = &plan->debates->entries[i];
        int batch = entry->index / size - other->index / size;
        if ((batch == 0 && round > 0 && !round_is_over(other, round - 1)) ||
            (batch > 0 && !round_is_over(other, rounds - 1))) {
            return true;
        }
    }
    return false;
}

static int ask_turn(rt_coordinator *co, rt_plan *plan, rt_debate_entry *entry, int round, int agent,
                    rt_error *err)
{
    int agents = entry->debate->agents, number = round * agents + agent;
    rt_ids ids = {0};
    int rc = rt_debate_prompt(co->debate_rules, entry->debate, round, agent, &ids,
                              &entry->reports[number], err);
    if (rc) {
        rt_ids_free(&ids);
        return rc;
    }
    rt_job *job = ask(co, plan, entry, RT_KIND_DEBATE, number, agent, 1, &ids);
    entry->turns[number] = job;
    if (round > 0) { /* its own turns lie computed there */
        snprintf(job->prefers, sizeof job->prefers, "%s", entry->turns[number - agents]->worker);
    }
    return RT_OK;
}

static void ask_summary(rt_coordinator *co, rt_plan *plan, rt_debate_entry *entry, int round,
                        int agent)
{
    int agents = entry->debate->agents, number = round * agents + agent;
    rt_ids ids = {0};
    rt_error err = {0};
    if (rt_debate_summary_prompt(co->debate_rules, entry->debate, round, agent, &ids, &err)) {
        rt_ids_free(&ids);
        rt_debate_turn(entry->debate, round, agent)->summary = ""; /* too long: peers do without */
        return;
    }
    entry->summaries[number] =
        ask(co, plan, entry, RT_KIND_SUMMARY,
            turns_of(&co->config->algorithm.debate) + number, agent, 1, &ids);
    entry->summaries_left++;
    snprintf(entry->summaries[number]->prefers, RT_NAME_BYTES, "%s", entry->turns[number]->worker);
}

static void leave_out(rt_coordinator *co, rt_plan *plan, rt_debate_entry *entry, const char *why)
{
    rt_events_add(co, RT_WARN, "coordinator", "problem %" PRIu64 " of %s is left out: %s",
                  entry->problem.id, entry->problem.task_name, why);
    give_up(plan, entry);
}

/* Every turn that can be asked for now. */
static void ask_ready(rt_coordinator *co, rt_plan *plan, rt_debate_entry *entry)
{
    for (int round = 0; round < entry->debate->rounds; round++) {
        for (int agent = 0; agent < entry->debate->agents && !entry->failed; agent++) {
            rt_error err = {0};
            int number = round * entry->debate->agents + agent;
            if (!entry->turns[number] && !held_back(co, plan, entry, round) &&
                rt_debate_ready(&co->config->algorithm.debate, (uint64_t)co->config->run.seed,
                                entry->debate, round, agent) &&
                ask_turn(co, plan, entry, round, agent, &err)) {
                leave_out(co, plan, entry, err.message);
            }
        }
    }
}

int rt_debate_begin(rt_coordinator *co, rt_plan *plan, rt_debate_entry *entry,
                    const rt_problem *problem, int index, rt_error *err)
{
    (void)err;
    const rt_debate_settings *settings = &co->config->algorithm.debate;
    entry->problem = *problem;
    entry->index = index;
    entry->final_left = (int)settings->agents;
    entry->debate = rt_debate_new(settings, rt_debate_trajectory(plan, index, 0), &entry->problem,
                                  plan->arena);
    rt_job like = {.problem = problem->id, .task_name = problem->task_name,
                   .prompt = problem->prompt, .gold = problem->gold};
    rt_record_problem(co, &like);
    plan->problems++;
    ask_ready(co, plan, entry);
    return RT_OK;
}

int rt_debates_plan(rt_coordinator *co, int64_t step, rt_plan **out, rt_error *err)
{
    int problems = (int)co->config->algorithm.problems;
    rt_plan *plan = rt_plan_new(false, step, problems * rt_debate_jobs(co->config, false));
    rt_debate_plan *debates = plan->debates = rt_arena_alloc(plan->arena, sizeof *debates);
    debates->count = problems;
    debates->entries = rt_arena_alloc(plan->arena, (size_t)problems * sizeof *debates->entries);
    rt_problem *list = rt_arena_alloc(plan->arena, (size_t)problems * sizeof *list);
    int rc = rt_mixing_step(co, plan, list, err);
    for (int i = 0; i < problems && !rc; i++) {
        rc = rt_debate_begin(co, plan, &debates->entries[i], &list[i], i, err);
    }
    if (rc) {
        rt_plan_cancel(co, plan);
        rt_plan_free(&plan);
        return rc;
    }
    *out = plan;
    return RT_OK;
}

int rt_debates_evaluate(rt_coordinator *co, rt_plan *plan, int index, const rt_problem *problem,
                        rt_error *err)
{
    if (!plan->debates) {
        size_t room = (size_t)co->config->eval.problems;
        plan->debates = rt_arena_alloc(plan->arena, sizeof *plan->debates);
        plan->debates->entries = rt_arena_alloc(plan->arena, room * sizeof *plan->debates->entries);
    }
    rt_debate_entry *entry = &plan->debates->entries[plan->debates->count++];
    return rt_debate_begin(co, plan, entry, problem, index, err);
}

/* ---- a text is here -------------------------------------------------------------------------- */

static void ask_online(rt_coordinator *co, rt_plan *plan, rt_debate_entry *entry)
{
    const rt_debate_settings *settings = &co->config->algorithm.debate;
    int samples = (int)co->config->algorithm.samples;
    int first = turns_of(settings) * (settings->summaries ? 2 : 1);
    for (int i = 0; i < entry->records.count; i++) {
        const rt_debate_record *record = &entry->records.items[i];
        rt_ids ids = {0};
        for (int k = 0; k < record->prompt_count; k++) {
            rt_ids_add(&ids, record->prompt[k]);
        }
        entry->online[i] = ask(co, plan, entry, RT_KIND_DEBATE, first + record->agent * samples,
                               record->agent, samples, &ids);
    }
}

/* Once the debate is over: its vote, its label, its records. Summaries that nobody read in time are
 * waited for, too: records may quote them. */
static void decide(rt_coordinator *co, rt_plan *plan, rt_debate_entry *entry)
{
    rt_error err = {0};
    if (entry->final_left > 0 || entry->summaries_left > 0) {
        return;
    }
    entry->decided = true;
    rt_debate_decide(&co->config->algorithm.debate, entry->debate, plan->arena, &entry->decision);
    if (plan->evaluation) {
        return;
    }
    if (rt_debate_records_make(co->debate_rules, entry->debate, &entry->decision, plan->arena,
                               &entry->records, &err)) {
        leave_out(co, plan, entry, err.message);
    } else if (online(co->config)) {
        ask_online(co, plan, entry);
    }
}

/* Behind a barrier one debate's text may be what others wait for. */
static void go_on(rt_coordinator *co, rt_plan *plan, rt_debate_entry *entry)
{
    if (co->config->algorithm.debate.barrier == 0) {
        ask_ready(co, plan, entry);
        return;
    }
    for (int i = 0; i < plan->debates->count; i++) {
        ask_ready(co, plan, &plan->debates->entries[i]);
    }
}

static void take_turn(rt_coordinator *co, rt_plan *plan, rt_debate_entry *entry, const rt_job *job,
                      int number)
{
    int agents = entry->debate->agents, round = number / agents, agent = number % agents;
    rt_turn *turn = rt_debate_turn(entry->debate, round, agent);
    const rt_sample *sample = &job->samples[0];
    turn->trajectory = sample->id;
    turn->ids = sample->ids;
    turn->ids_count = (int)sample->tokens;
    turn->logprobs = sample->logp;
    rt_turn_read(turn, co->tokenizer, entry->problem.grader, plan->arena);
    if (round == entry->debate->rounds - 1) {
        entry->final_left--;
        decide(co, plan, entry);
        go_on(co, plan, entry);
    } else {
        if (co->config->algorithm.debate.summaries && turn->text_bytes > 0) {
            ask_summary(co, plan, entry, round, agent);
        }
        go_on(co, plan, entry);
    }
}

static void take_summary(rt_coordinator *co, rt_plan *plan, rt_debate_entry *entry,
                         const rt_job *job, int number)
{
    int agents = entry->debate->agents;
    rt_turn *turn = rt_debate_turn(entry->debate, number / agents, number % agents);
    rt_turn text = {.ids = job->failed ? NULL : job->samples[0].ids,
                    .ids_count = job->failed ? 0 : (int)job->samples[0].tokens};
    if (!job->failed) {
        rt_turn_read(&text, co->tokenizer, entry->problem.grader, plan->arena);
    }
    turn->summary = text.text ? text.text : "";
    entry->summaries_left--;
    go_on(co, plan, entry);
    decide(co, plan, entry);
}

/* What is paid is agreement with the others, never the gold answer. */
static void pay(rt_coordinator *co, const rt_debate_entry *entry, rt_job *job)
{
    rt_arena *arena = rt_arena_new(1 << 12);
    for (int i = 0; i < job->count; i++) {
        rt_sample *sample = &job->samples[i];
        rt_turn text = {.ids = sample->ids, .ids_count = (int)sample->tokens};
        rt_turn_read(&text, co->tokenizer, entry->problem.grader, arena);
        sample->reward = rt_debate_reward(co->debate_rules, entry->problem.grader, text.text,
                                          text.text_bytes, entry->decision.label);
    }
    rt_arena_free(&arena);
}

void rt_debates_done(rt_coordinator *co, rt_job *job)
{
    rt_plan *plan = job->plan;
    rt_debate_entry *entry = job->debate;
    int number = (int)(job->first - entry->debate->id);
    int turns = turns_of(&co->config->algorithm.debate);
    if (job->kind == RT_KIND_SUMMARY) {
        if (!entry->failed) {
            take_summary(co, plan, entry, job, number - turns);
        }
    } else if (job->failed) { /* without this text there is no debate, or no group */
        give_up(plan, entry);
        go_on(co, plan, entry);
    } else if (number < turns && !entry->failed) {
        take_turn(co, plan, entry, job, number);
    } else if (!entry->failed) {
        pay(co, entry, job);
    }
}
