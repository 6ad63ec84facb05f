/* debate_record: what is written down of debates: turns with their answers, votes, records. */
#include <math.h>
#include <string.h>

#include "coordinator/debates.h"

static const char *const label_sources[] = {"consensus", "first_round", "truth"};
static const char *const record_kinds[] = {"sft", "grpo", "dpo", "kto"};

/* The agents quoted in a round, as "2,0"; "" in the first. */
static void quotes_text(rt_coordinator *co, const rt_debate *debate, int round, int agent,
                        rt_buf *out)
{
    int peers[RT_AGENTS_MAX];
    int count = rt_debate_quotes(&co->config->algorithm.debate, (uint64_t)co->config->run.seed,
                                 debate->id, round, agent, peers);
    rt_buf_addf(out, "%s", "");
    for (int i = 0; i < count; i++) {
        rt_buf_addf(out, "%s%d", i ? "," : "", peers[i]);
    }
}

/* As much of a text as is UTF-8; NULL stays NULL. */
static char *clean(const char *text)
{
    return text ? rt_strndup(text, rt_utf8_valid(text, strlen(text))) : NULL;
}

static void record_turn(rt_coordinator *co, const rt_debate_entry *entry, int round, int agent)
{
    const rt_debate *debate = entry->debate;
    const rt_turn *turn = rt_debate_turn(debate, round, agent);
    const rt_prompt_report *report = &entry->reports[round * debate->agents + agent];
    if (!turn->ids) {
        return;
    }
    rt_buf quotes = {0};
    quotes_text(co, debate, round, agent, &quotes);
    char *answer = clean(turn->answer), *summary = clean(turn->summary);
    rt_store_row *row = rt_store_row_new(RT_TABLE_TURNS);
    rt_store_row_int(row, (int64_t)debate->id);
    rt_store_row_int(row, round);
    rt_store_row_int(row, agent);
    rt_store_row_int(row, (int64_t)turn->trajectory);
    rt_store_row_text(row, answer);
    rt_store_row_text(row, quotes.data);
    rt_store_row_int(row, report->cut);
    rt_store_row_int(row, report->anew);
    rt_store_row_text(row, summary);
    rt_store_put(co->store, row);
    rt_buf_free(&quotes);
    rt_free(answer);
    rt_free(summary);
}

static void record_record(rt_coordinator *co, const rt_debate_entry *entry, int index)
{
    const rt_debate_record *record = &entry->records.items[index];
    rt_store_row *row = rt_store_row_new(RT_TABLE_RECORDS);
    rt_store_row_int(row, (int64_t)entry->debate->id + index);
    rt_store_row_int(row, (int64_t)entry->debate->id);
    rt_store_row_text(row, record_kinds[record->kind]);
    rt_store_row_int(row, record->agent);
    if (record->chosen) {
        rt_store_row_int(row, (int64_t)record->chosen->trajectory);
    } else {
        rt_store_row_null(row);
    }
    if (record->rejected) {
        rt_store_row_int(row, (int64_t)record->rejected->trajectory);
    } else {
        rt_store_row_null(row);
    }
    rt_store_row_int(row, record->desirable);
    rt_store_row_real(row, record->kind == RT_RECORD_GRPO && record->chosen ? record->reward : NAN);
    rt_store_row_blob(row, record->prompt, (size_t)record->prompt_count * sizeof(int32_t));
    rt_store_put(co->store, row);
}

static void record_debate(rt_coordinator *co, const rt_plan *plan, const rt_debate_entry *entry)
{
    const rt_debate *debate = entry->debate;
    const rt_debate_decision *decision = &entry->decision;
    rt_vote vote;
    rt_debate_vote(&co->config->algorithm.debate, debate, debate->rounds - 1, &vote);
    char *consensus = clean(vote.answer), *label = clean(decision->label);
    rt_store_row *row = rt_store_row_new(RT_TABLE_DEBATES);
    rt_store_row_int(row, (int64_t)debate->id);
    rt_store_row_int(row, (int64_t)entry->problem.id);
    rt_store_row_int(row, plan->step);
    rt_store_row_int(row, debate->agents);
    rt_store_row_int(row, debate->rounds);
    rt_store_row_text(row, consensus);
    rt_store_row_int(row, vote.agreeing);
    rt_store_row_text(row, label);
    rt_store_row_text(row, label_sources[decision->source]);
    rt_store_row_int(row, decision->enough);
    rt_store_put(co->store, row);
    rt_free(consensus);
    rt_free(label);
}

/* A group of new answers, or of the last ones. */
static void record_group(rt_coordinator *co, const rt_plan *plan, const rt_debate_entry *entry,
                         uint64_t id)
{
    rt_store_row *row = rt_store_row_new(RT_TABLE_GROUPS);
    rt_store_row_int(row, (int64_t)id);
    rt_store_row_int(row, (int64_t)entry->problem.id);
    rt_store_row_int(row, plan->step);
    rt_store_row_text(row, "debate");
    rt_store_row_text(row, "debate");
    rt_store_put(co->store, row);
}

void rt_debates_record(rt_coordinator *co, const rt_plan *plan)
{
    bool grpo = co->config->algorithm.debate.record == RT_RECORD_GRPO && !plan->evaluation;
    for (int i = 0; i < plan->debates->count; i++) {
        const rt_debate_entry *entry = &plan->debates->entries[i];
        if (!entry->decided) {
            continue;
        }
        record_debate(co, plan, entry);
        for (int number = 0; number < entry->debate->agents * entry->debate->rounds; number++) {
            record_turn(co, entry, number / entry->debate->agents, number % entry->debate->agents);
        }
        for (int k = 0; k < entry->records.count; k++) {
            record_record(co, entry, k);
            if (grpo && entry->online[k]) {
                record_group(co, plan, entry, entry->online[k]->first);
            }
        }
        if (grpo && entry->records.count > 0 && !entry->online[0]) {
            record_group(co, plan, entry, entry->debate->id);
        }
    }
}
