/*
 * The answer parser, the vote and the conversation builder on any texts: nothing crashes, no text of a
 * peer becomes a mark, no prompt is longer than it may be, votes only name what was said.
 */
#include "debate/debate.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { AGENTS = 3 };

static struct {
    rt_config config;
    rt_taskset *set;
    rt_tokenizer *tokenizer;
    rt_chat *chats[2];
    int32_t start, end;
} world;

static void open_world(void)
{
    static const char text[] = "task: chain\nalgorithm: maca_kto\n";
    const char *const marks[] = {"<|im_start|>", "<|im_end|>"};
    rt_buf json = {0};
    int rc = rt_config_parse(&world.config, text, sizeof text - 1, "fuzz", NULL, 0, NULL);
    rc = rc ? rc : rt_taskset_load(&world.set, &world.config, NULL);
    rc = rc ? rc : rt_tokenizer_train("a b", 3, 258, marks, 2, NULL, 0, &json, NULL);
    rc = rc ? rc : rt_tokenizer_parse(&world.tokenizer, json.data, json.bytes, NULL);
    rc = rc ? rc : rt_chat_new(&world.chats[0], world.tokenizer, NULL, "chatml", NULL);
    rc = rc ? rc : rt_chat_new(&world.chats[1], world.tokenizer, NULL, "plain", NULL);
    RT_ASSERT(rc == 0);
    rt_buf_free(&json);
    world.start = rt_tokenizer_special(world.tokenizer, marks[0]);
    world.end = rt_tokenizer_special(world.tokenizer, marks[1]);
}

static int marks_in(const rt_ids *ids)
{
    int count = 0;
    for (size_t i = 0; i < ids->count; i++) {
        count += ids->items[i] == world.start || ids->items[i] == world.end;
    }
    return count;
}

static void check_vote(const rt_debate *debate, int rule)
{
    rt_debate_settings settings = world.config.algorithm.debate;
    rt_vote vote;
    settings.vote = rule;
    rt_debate_vote(&settings, debate, 0, &vote);
    bool said = !vote.answer;
    for (int i = 0; i < AGENTS; i++) {
        const char *answer = rt_debate_turn(debate, 0, i)->answer;
        RT_ASSERT(!answer == (vote.cluster[i] < 0));
        RT_ASSERT(!vote.agrees[i] || answer);
        said = said || (answer && !strcmp(answer, vote.answer));
    }
    RT_ASSERT(said && vote.agreeing <= AGENTS);
}

static void check_debate(const rt_debate_rules *rules, rt_debate *debate, bool chatml, int tokens_max,
                         rt_arena *arena)
{
    rt_debate_settings settings = world.config.algorithm.debate;
    for (int agent = 0; agent < AGENTS; agent++) {
        rt_ids ids = {0};
        rt_prompt_report report;
        int rc = rt_debate_prompt(rules, debate, 1, agent, &ids, &report, NULL);
        RT_ASSERT(rc == 0 || rc == RT_ERR_LIMIT);
        RT_ASSERT(ids.count <= (size_t)tokens_max);
        if (rc == 0 && chatml) {
            RT_ASSERT(marks_in(&ids) == (report.anew ? 3 : 7));
        } else {
            RT_ASSERT(marks_in(&ids) == 0);
        }
        rt_ids_free(&ids);
    }
    rt_debate_decision decision;
    rt_debate_records records;
    rt_debate_measures measures = {0};
    rt_debate_decide(&settings, debate, arena, &decision);
    RT_ASSERT(rt_debate_records_make(rules, debate, &decision, arena, &records, NULL) == 0);
    RT_ASSERT(records.count + records.unfit == (decision.enough ? AGENTS : 0));
    rt_measure_debate(&measures, &settings, debate);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const char *const graders[] = {"number", "math", "choice", "yesno", "exact"};
    if (!world.tokenizer) {
        open_world();
    }
    if (bytes < 3 || bytes > 4096) {
        return 0;
    }
    bool chatml = data[0] & 1;
    int tokens_max = 1 + data[1] * 16;
    rt_arena *arena = rt_arena_new(1 << 16);
    rt_problem problem = {.task_name = "chain", .problem = "7+5", .prompt = "Q:7+5\n", .gold = "2",
                          .grader = graders[(data[0] >> 1) % RT_COUNT(graders)]};
    rt_debate *debate = rt_debate_new(&world.config.algorithm.debate, data[2], &problem, arena);
    const uint8_t *at = data + 3, *end = data + bytes;
    for (int i = 0; i < 2 * AGENTS; i++) { /* texts between bars, one a turn */
        const uint8_t *stop = at < end ? memchr(at, '|', (size_t)(end - at)) : NULL;
        size_t count = stop ? (size_t)(stop - at) : (size_t)(end - at);
        rt_ids ids = {0};
        RT_ASSERT(rt_tokenizer_encode_text(world.tokenizer, (const char *)at, count, &ids, NULL) == 0);
        int32_t *copy = rt_arena_alloc(arena, (ids.count + 1) * sizeof *copy);
        if (ids.count) {
            memcpy(copy, ids.items, ids.count * sizeof *copy);
        }
        debate->turns[i] = (rt_turn){.ids = copy, .ids_count = (int)ids.count};
        rt_turn_read(&debate->turns[i], world.tokenizer, problem.grader, arena);
        RT_ASSERT(marks_in(&ids) == 0);
        rt_ids_free(&ids);
        at = stop ? stop + 1 : end;
    }
    for (int rule = RT_VOTE_MACA; rule <= RT_VOTE_WEIGHTED; rule++) {
        check_vote(debate, rule);
    }
    rt_debate_rules *rules = NULL;
    RT_ASSERT(rt_debate_rules_new(&rules, &world.config, world.set, world.tokenizer,
                                  world.chats[!chatml], tokens_max, NULL) == 0);
    check_debate(rules, debate, chatml, tokens_max, arena);
    double reward = rt_format_reward((const char *)data, bytes);
    RT_ASSERT(reward >= 0 && reward <= 1);
    rt_debate_rules_free(&rules);
    rt_arena_free(&arena);
    return 0;
}
