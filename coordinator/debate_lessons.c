/*
 * debate_lessons: the training batch of a step of debates: which text, behind which prompt, trains
 * which adapter with which weight. Gold answers are read nowhere here.
 */
#include <string.h>

#include "coordinator/debates.h"

static rt_job *turn_job(const rt_debate_entry *entry, const rt_turn *turn)
{
    int number = (int)(turn->trajectory - entry->debate->id);
    RT_ASSERT(number >= 0 && number < entry->debate->agents * entry->debate->rounds);
    return entry->turns[number];
}

static bool same_ids(const int32_t *a, int a_count, const int32_t *b, size_t b_count)
{
    return (size_t)a_count == b_count &&
           (b_count == 0 || memcmp(a, b, b_count * sizeof(int32_t)) == 0);
}

/* The one adapter that learns from a record, or each of them from all; 0 alone: all weights. */
static void adapters_of(const rt_config *config, const rt_debate_record *record, uint32_t *first,
                        uint32_t *last)
{
    uint32_t adapters = (uint32_t)rt_config_adapters(config);
    bool each = adapters > 1 && config->algorithm.debate.pool == RT_SHARED;
    *first = each ? 1 : rt_agent_adapter(config, record->agent);
    *last = each ? adapters : *first;
}

static rt_lesson *add(rt_debate_plan *debates, const rt_debate_entry *entry,
                      const rt_debate_record *record, rt_job *job, int sample, uint32_t adapter)
{
    rt_lesson *lesson = &debates->lessons[debates->lessons_count++];
    bool own = job->adapter == adapter;
    *lesson = (rt_lesson){
        .entry = entry,
        .record = record,
        .job = job,
        .sample = &job->samples[sample],
        .prompt = record->prompt,
        .prompt_count = record->prompt_count,
        .adapter = adapter,
        .unsampled = !own || !same_ids(record->prompt, record->prompt_count, job->prompt_ids,
                                       job->prompt_count)};
    lesson->sample->trained = true;
    return lesson;
}

/* ---- by kind --------------------------------------------------------------------------------- */

static void learn_sft(const rt_config *config, rt_debate_plan *debates,
                      const rt_debate_entry *entry, const rt_debate_record *record, uint32_t adapter)
{
    rt_lesson *lesson = add(debates, entry, record, turn_job(entry, record->chosen), 0, adapter);
    lesson->advantage = 1;
    lesson->all_tokens = config->algorithm.debate.all_tokens;
    lesson->unsampled = lesson->unsampled || lesson->all_tokens;
}

static void learn_dpo(rt_debate_plan *debates, const rt_debate_entry *entry,
                      const rt_debate_record *record, uint32_t adapter)
{
    rt_lesson *chosen = add(debates, entry, record, turn_job(entry, record->chosen), 0, adapter);
    rt_lesson *rejected = add(debates, entry, record, turn_job(entry, record->rejected), 0, adapter);
    chosen->advantage = 1;
    rejected->advantage = -1;
    chosen->rejected = (uint32_t)debates->lessons_count; /* 1 + its index */
    chosen->unsampled = rejected->unsampled = true;      /* preferences compare nothing */
}

static void learn_kto(rt_debate_plan *debates, const rt_debate_entry *entry,
                      const rt_debate_record *record, uint32_t adapter)
{
    rt_lesson *lesson = add(debates, entry, record, turn_job(entry, record->chosen), 0, adapter);
    lesson->advantage = record->desirable ? debates->desirable : -debates->undesirable;
    lesson->unsampled = true;
}

/* New answers of one agent behind one prompt are a group. */
static void learn_online(const rt_config *config, rt_debate_plan *debates,
                         const rt_debate_entry *entry, int index, uint32_t adapter)
{
    const rt_debate_record *record = &entry->records.items[index];
    rt_job *job = entry->online[index];
    double reward[256], advantage[256];
    for (int i = 0; i < job->count; i++) {
        reward[i] = job->samples[i].reward;
    }
    rt_advantages(&config->algorithm.advantage, reward, job->count, advantage);
    for (int i = 0; i < job->count; i++) {
        rt_lesson *lesson = add(debates, entry, record, job, i, adapter);
        lesson->advantage = lesson->sample->advantage = advantage[i];
        lesson->sample->group = (int64_t)job->first;
    }
}

/* The debate's last answers are a group, each behind the conversation it was sampled in. */
static void learn_last_answers(const rt_config *config, rt_debate_plan *debates,
                               const rt_debate_entry *entry)
{
    double reward[RT_AGENTS_MAX], advantage[RT_AGENTS_MAX];
    int count = entry->records.count;
    for (int i = 0; i < count; i++) {
        reward[i] = entry->records.items[i].reward;
    }
    rt_advantages(&config->algorithm.advantage, reward, count, advantage);
    for (int i = 0; i < count; i++) {
        const rt_debate_record *record = &entry->records.items[i];
        rt_job *job = turn_job(entry, record->chosen);
        rt_lesson *lesson = add(debates, entry, record, job, 0, job->adapter);
        lesson->prompt = job->prompt_ids;
        lesson->prompt_count = (int)job->prompt_count;
        lesson->unsampled = false;
        lesson->advantage = lesson->sample->advantage = advantage[i];
        lesson->sample->reward = reward[i];
        lesson->sample->group = (int64_t)entry->debate->id;
    }
}

/* ---- the step -------------------------------------------------------------------------------- */

static void learn(const rt_config *config, rt_debate_plan *debates, const rt_debate_entry *entry,
                  uint32_t adapter)
{
    for (int i = 0; i < entry->records.count; i++) {
        const rt_debate_record *record = &entry->records.items[i];
        uint32_t first, last;
        adapters_of(config, record, &first, &last);
        if (adapter < first || adapter > last) {
            continue;
        }
        switch (record->kind) {
        case RT_RECORD_SFT: learn_sft(config, debates, entry, record, adapter); break;
        case RT_RECORD_DPO: learn_dpo(debates, entry, record, adapter); break;
        case RT_RECORD_KTO: learn_kto(debates, entry, record, adapter); break;
        default: learn_online(config, debates, entry, i, adapter); break;
        }
    }
}

static void weigh_classes(rt_debate_plan *debates)
{
    int64_t positive = 0, negative = 0;
    for (int i = 0; i < debates->count; i++) {
        const rt_debate_records *records = &debates->entries[i].records;
        for (int k = 0; k < records->count; k++) {
            positive += records->items[k].desirable;
            negative += !records->items[k].desirable;
        }
    }
    rt_kto_weights(positive, negative, true, 1, false, &debates->desirable, &debates->undesirable);
}

static size_t room_for(const rt_config *config, const rt_debate_plan *debates)
{
    size_t texts = 0, adapters = (size_t)RT_MAX(rt_config_adapters(config), 1);
    for (int i = 0; i < debates->count; i++) {
        texts += (size_t)debates->entries[i].records.count;
    }
    return texts * adapters * (size_t)RT_MAX(config->algorithm.samples, 2) + 1;
}

void rt_lessons_make(const rt_config *config, rt_plan *plan)
{
    rt_debate_plan *debates = plan->debates;
    const rt_debate_settings *settings = &config->algorithm.debate;
    bool last_answers = settings->record == RT_RECORD_GRPO && !settings->online;
    weigh_classes(debates);
    debates->lessons = rt_arena_alloc(plan->arena,
                                      room_for(config, debates) * sizeof *debates->lessons);
    /* Adapter by adapter: each is trained by itself. */
    int adapters = rt_config_adapters(config), first = adapters > 0;
    for (int adapter = first; adapter <= adapters; adapter++) {
        for (int i = 0; i < debates->count; i++) {
            const rt_debate_entry *entry = &debates->entries[i];
            if (!entry->failed && !last_answers) {
                learn(config, debates, entry, (uint32_t)adapter);
            }
        }
    }
    for (int i = 0; i < debates->count && last_answers; i++) {
        if (!debates->entries[i].failed) {
            learn_last_answers(config, debates, &debates->entries[i]);
        }
    }
}
