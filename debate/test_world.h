/* test_world: two tokenizers, the task chain and hand-made debates for the tests of debate/. */
#ifndef RT_DEBATE_TEST_WORLD_H
#define RT_DEBATE_TEST_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "debate/debate.h"

typedef struct world {
    rt_config config;
    rt_taskset *set;
    rt_tokenizer *tokenizer;
    rt_chat *chat;
    rt_debate_rules *rules;
    rt_arena *arena;
    rt_problem problem; /* 7+5*3 of the task chain, answer 6 */
} world;

/* chatml: a tokenizer with marks; else the embedded one. sets: "key=value", …, NULL. */
static inline world *world_new(bool chatml, int tokens_max, const char *const *sets)
{
    static const char text[] = "task: chain\nalgorithm: maca_dpo\nseed: 5\n";
    world *w = rt_alloc(sizeof *w);
    rt_error err = {0};
    int count = 0;
    while (sets && sets[count]) {
        count++;
    }
    int rc = rt_config_parse(&w->config, text, sizeof text - 1, "test", sets, count, &err);
    rc = rc ? rc : rt_taskset_load(&w->set, &w->config, &err);
    if (!rc && chatml) {
        const char *const marks[] = {"<|im_start|>", "<|im_end|>"};
        rt_buf json = {0};
        rc = rt_tokenizer_train("a b", 3, 258, marks, 2, NULL, 0, &json, &err);
        rc = rc ? rc : rt_tokenizer_parse(&w->tokenizer, json.data, json.bytes, &err);
        rt_buf_free(&json);
    } else if (!rc) {
        rc = rt_tokenizer_load(&w->tokenizer, "deploy/models/tiny", &err);
    }
    rc = rc ? rc : rt_chat_new(&w->chat, w->tokenizer, NULL, "auto", &err);
    rc = rc ? rc : rt_debate_rules_new(&w->rules, &w->config, w->set, w->tokenizer, w->chat, tokens_max,
                                       &err);
    if (rc) {
        fail_msg("%s", err.message);
    }
    w->arena = rt_arena_new(1 << 16);
    w->problem = (rt_problem){.task_name = "chain", .problem = "7+5*3", .prompt = "Q:7+5*3\n",
                              .gold = "6", .grader = "number"};
    return w;
}

static inline void world_free(world *w)
{
    rt_debate_rules_free(&w->rules);
    rt_chat_free(&w->chat);
    rt_tokenizer_free(&w->tokenizer);
    rt_taskset_free(&w->set);
    rt_config_free(&w->config);
    rt_arena_free(&w->arena);
    rt_free(w);
}

static inline const rt_debate_settings *world_settings(const world *w)
{
    return &w->config.algorithm.debate;
}

/* A turn with this text, tokenised in some way; special tokens inside are recognised. */
static inline void world_turn(world *w, rt_debate *debate, int round, int agent, const char *text)
{
    rt_ids ids = {0};
    assert_int_equal(rt_tokenizer_encode(w->tokenizer, text, strlen(text), &ids.items, &ids.count,
                                         &ids.capacity, NULL), 0);
    int32_t *copy = rt_arena_alloc(w->arena, (ids.count + 1) * sizeof *copy);
    for (size_t i = 0; i < ids.count; i++) {
        copy[i] = ids.items[i];
    }
    rt_turn *turn = rt_debate_turn(debate, round, agent);
    *turn = (rt_turn){.ids = copy, .ids_count = (int)ids.count};
    rt_turn_read(turn, w->tokenizer, debate->problem->grader, w->arena);
    rt_ids_free(&ids);
}

/* texts[round × agents + agent]; NULL: a lost turn. */
static inline rt_debate *world_debate(world *w, uint64_t id, const char *const *texts)
{
    rt_debate *debate = rt_debate_new(world_settings(w), id, &w->problem, w->arena);
    for (int i = 0; i < debate->rounds * debate->agents; i++) {
        if (texts[i]) {
            world_turn(w, debate, i / debate->agents, i % debate->agents, texts[i]);
        }
    }
    return debate;
}

static inline char *world_text(const world *w, const int32_t *ids, size_t count)
{
    rt_buf text = {0};
    rt_buf_add(&text, "", 0);
    rt_tokenizer_decode(w->tokenizer, ids, count, &text);
    char *copy = rt_strdup(text.data);
    rt_buf_free(&text);
    return copy;
}

#endif
