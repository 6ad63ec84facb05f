/* records: what a finished debate gives to learn from, and the rewards and weights that go with it. */
#include "debate/internal.h"

#include <string.h>

/* ---- records ----------------------------------------------------------------------------------------- */

typedef struct maker {
    const rt_debate_rules *rules;
    const rt_debate *debate;
    const rt_debate_decision *decision;
    rt_arena *arena;
    rt_debate_records *records;
    int round;                     /* of the trained turns */
    bool agrees[RT_AGENTS_MAX];
} maker;

static const rt_turn *trained(const maker *m, int agent)
{
    return rt_debate_turn(m->debate, m->round, agent);
}

static bool there(const maker *m, int agent)
{
    return rt_turn_there(trained(m, agent));
}

/* Whose texts stand before a trained one; rejected −1: one author only. */
static int quoted_turns(const maker *m, int author, int rejected, const rt_turn **quoted)
{
    const rt_debate *debate = m->debate;
    const rt_debate_settings *settings = &m->rules->settings;
    bool final = settings->context == RT_CONTEXT_FINAL;
    uint32_t order[RT_AGENTS_MAX];
    int count = 0;
    if (!final && (settings->context != RT_CONTEXT_PREVIOUS || debate->rounds < 2)) {
        return 0;
    }
    /* Agent number RT_AGENTS_MAX is nobody: one order for all records of the debate. */
    rt_debate_order(m->rules->seed, debate->id, debate->rounds, final ? author : RT_AGENTS_MAX,
                    order, debate->agents);
    for (int i = 0; i < debate->agents; i++) {
        int agent = (int)order[i];
        if (final && (agent == author || agent == rejected || count >= settings->peers)) {
            continue;
        }
        quoted[count++] = rt_debate_turn(debate, debate->rounds - (final ? 1 : 2), agent);
    }
    return count;
}

static int add_prompt(const maker *m, rt_debate_record *record, rt_error *err)
{
    const rt_turn *quoted[RT_AGENTS_MAX];
    rt_ids ids = {0};
    int rc, context = m->rules->settings.context;
    if (record->kind == RT_RECORD_SFT
        && (context == RT_CONTEXT_FINAL || context == RT_CONTEXT_PREVIOUS)) {
        rc = rt_debate_prompt(m->rules, m->debate, m->round, record->agent, &ids, &record->report,
                              err);
    } else {
        int count = record->kind == RT_RECORD_SFT
                        ? 0
                        : quoted_turns(m, record->agent, record->rejected_agent, quoted);
        rc = rt_debate_context(m->rules, m->debate->problem, quoted, count, &ids, &record->report,
                               err);
    }
    if (!rc) {
        int32_t *prompt = rt_arena_alloc(m->arena, ids.count * sizeof *prompt);
        if (ids.count) {
            memcpy(prompt, ids.items, ids.count * sizeof *prompt);
        }
        record->prompt = prompt;
        record->prompt_count = (int)ids.count;
    }
    rt_ids_free(&ids);
    return rc;
}

/* rejected −1: none. */
static int add(maker *m, int kind, int agent, int rejected, rt_error *err)
{
    bool online = kind == RT_RECORD_GRPO && m->rules->settings.online;
    const rt_turn *turn = trained(m, agent);
    rt_debate_record record = {
        .kind = kind,
        .debate = m->debate->id,
        .agent = agent,
        .rejected_agent = rejected,
        .round = m->round,
        .label = m->decision->label,
        .desirable = m->agrees[agent],
        .chosen = online ? NULL : turn,
        .rejected = rejected >= 0 ? trained(m, rejected) : NULL,
    };
    if (kind == RT_RECORD_GRPO && !online) {
        record.reward = m->agrees[agent] ? 2.0 : 0.0;
        if (m->rules->settings.format_reward) {
            record.reward += rt_format_reward(turn->text, turn->text_bytes);
        }
    }
    int rc = add_prompt(m, &record, err);
    if (rc == RT_ERR_LIMIT) {
        m->records->unfit++;
        return RT_OK;
    }
    if (!rc) {
        m->records->items[m->records->count++] = record;
    }
    return rc;
}

static int add_pairs(maker *m, int chosen, rt_error *err)
{
    int rc = RT_OK;
    for (int other = 0; other < m->debate->agents && !rc; other++) {
        if (there(m, other) && !m->agrees[other]) {
            rc = add(m, RT_RECORD_DPO, chosen, other, err);
        }
    }
    return rc;
}

static int add_agent(maker *m, int kind, int agent, rt_error *err)
{
    if (kind == RT_RECORD_GRPO && m->rules->settings.online) {
        return add(m, kind, agent, -1, err);
    }
    if (!there(m, agent)) {
        return RT_OK;
    }
    switch (kind) {
    case RT_RECORD_DPO:
        return m->agrees[agent] ? add_pairs(m, agent, err) : RT_OK;
    case RT_RECORD_SFT:
        return m->agrees[agent] ? add(m, kind, agent, -1, err) : RT_OK;
    default:
        return add(m, kind, agent, -1, err);
    }
}

int rt_debate_records_make(const rt_debate_rules *rules, const rt_debate *debate,
                           const rt_debate_decision *decision, rt_arena *arena,
                           rt_debate_records *records, rt_error *err)
{
    *records = (rt_debate_records){0};
    if (!decision->enough) {
        return RT_OK;
    }
    maker m = {.rules = rules, .debate = debate, .decision = decision, .arena = arena,
               .records = records,
               .round = rules->settings.context == RT_CONTEXT_FIRST ? 0 : debate->rounds - 1};
    size_t most = (size_t)debate->agents * (size_t)debate->agents;
    records->items = rt_arena_alloc(arena, most * sizeof *records->items);
    for (int i = 0; i < debate->agents; i++) {
        const rt_turn *turn = trained(&m, i);
        m.agrees[i] = rt_turn_there(turn) && turn->answer
                      && rt_answer_equal(debate->problem->grader, turn->answer, decision->label);
    }
    int rc = RT_OK;
    for (int i = 0; i < debate->agents && !rc; i++) {
        rc = add_agent(&m, rules->settings.record, i, err);
    }
    return rc;
}

/* ---- rewards ------------------------------------------------------------------------------------------ */

double rt_debate_reward(const rt_debate_rules *rules, const char *grader, const char *text,
                        size_t bytes, const char *label)
{
    rt_arena *arena = rt_arena_new(RT_ANSWER_BYTES_MAX + 1);
    const char *answer = rt_answer_parse(grader, text, bytes, arena);
    double reward = answer && label && rt_answer_equal(grader, answer, label) ? 2.0 : 0.0;
    rt_arena_free(&arena);
    return rules->settings.format_reward ? reward + rt_format_reward(text, bytes) : reward;
}

static const char BOX[] = "\\boxed{";
enum { BOX_BYTES = sizeof BOX - 1, LINE_CHARACTERS = 10 };

static int boxes_in(const char *text, size_t bytes)
{
    int count = 0;
    for (const char *at = text, *end = text + bytes;
         (at = memmem(at, (size_t)(end - at), BOX, BOX_BYTES)) != NULL; at += BOX_BYTES) {
        count++;
    }
    return count;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int64_t characters(const char *text, size_t bytes)
{
    int64_t count = 0;
    for (size_t i = 0; i < bytes; i++) {
        count += ((unsigned char)text[i] & 0xC0) != 0x80;
    }
    return count;
}

double rt_format_reward(const char *text, size_t bytes)
{
    const char *end = text + bytes;
    int64_t steps = 0;
    bool boxed_last = false;
    for (const char *line = text; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        const char *next = stop ? stop + 1 : end, *last = stop ? stop : end;
        while (line < last && is_space(*line)) {
            line++;
        }
        while (last > line && is_space(last[-1])) {
            last--;
        }
        if (last > line) {
            boxed_last = boxes_in(line, (size_t)(last - line)) > 0;
            steps += !boxed_last && characters(line, (size_t)(last - line)) > LINE_CHARACTERS;
        }
        line = next;
    }
    double reward = 0;
    if (steps >= 2) {
        reward += 0.2;
        reward += RT_MIN(0.2, (double)(steps - 2) * 0.04);
    }
    if (boxes_in(text, bytes) == 1) {
        reward += 0.3;
        reward += boxed_last ? 0.2 : -0.1;
    } else {
        reward -= 0.2;
    }
    return RT_MAX(0.0, RT_MIN(1.0, reward));
}

void rt_kto_weights(int64_t positive, int64_t negative, bool cap, double scale, bool swap,
                    double *desirable, double *undesirable)
{
    double good = 1, bad = 1;
    if (positive > 0 && negative > 0) {
        double *rarer = positive > negative ? &bad : &good;
        *rarer = (double)RT_MAX(positive, negative) / (double)RT_MIN(positive, negative);
        if (cap) {
            *rarer = RT_MIN(*rarer, 4.0 / 3.0);
        }
    }
    *desirable = (swap ? bad : good) * scale;
    *undesirable = (swap ? good : bad) * scale;
}
