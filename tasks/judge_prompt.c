/*
 * judge_prompt: what a judge of a chain reads. Generated tasks have a compact form, the one their
 * warm-start data teaches; every other task gets a template filled in.
 */
#include "tasks/internal.h"

#include <string.h>

static const char BOX[] = "\\boxed{";

/* Without space at the ends and without what comes at or behind the delimiter. */
static const char *trim(const char *thought, const char *delimiter, size_t *bytes)
{
    static const char space[] = " \t\r\n";
    thought += strspn(thought, space);
    const char *end = *delimiter ? strstr(thought, delimiter) : NULL;
    *bytes = end ? (size_t)(end - thought) : strlen(thought);
    while (*bytes && strchr(space, thought[*bytes - 1])) {
        --*bytes;
    }
    return thought;
}

/* One line a thought, as taught: no box, no line break inside. */
static void add_line(rt_buf *out, const char *thought, const char *delimiter)
{
    size_t bytes;
    thought = trim(thought, delimiter, &bytes);
    const char *box = memmem(thought, bytes, BOX, sizeof BOX - 1);
    bytes = box ? (size_t)(box - thought) : bytes;
    for (size_t i = 0; i < bytes; i++) {
        rt_buf_add(out, thought[i] == '\n' || thought[i] == '\r' ? " " : &thought[i], 1);
    }
}

static const char *compact(const char *delimiter, const char *problem,
                           const char *const *thoughts, int count, char ask, rt_arena *arena)
{
    rt_buf out = {0};
    rt_buf_addf(&out, "Q:%s\n", problem);
    for (int i = 0; i < count; i++) {
        rt_buf_addf(&out, "%d:", i + 1);
        add_line(&out, thoughts[i], delimiter);
        rt_buf_addf(&out, "\n");
    }
    rt_buf_addf(&out, "%c:", ask);
    return rt_arena_keep(&out, arena);
}

static const char *steps(const char *delimiter, const char *const *thoughts, int count,
                         bool numbered, rt_arena *arena)
{
    rt_buf out = {0};
    for (int i = 0; i < count; i++) {
        size_t bytes;
        const char *thought = trim(thoughts[i], delimiter, &bytes);
        rt_buf_addf(&out, i ? "\n" : "");
        if (numbered) {
            rt_buf_addf(&out, "Step %d: ", i + 1);
        }
        rt_buf_add(&out, thought, bytes);
    }
    return rt_arena_keep(&out, arena);
}

/* What a chain says its answer is. */
static const char *boxed_answer(const char *const *thoughts, int count, rt_arena *arena)
{
    rt_buf out = {0};
    const char *box;
    size_t bytes;
    for (int i = count - 1; i >= 0 && !out.bytes; i--) {
        if (rt_boxed_last(thoughts[i], strlen(thoughts[i]), &box, &bytes)) {
            rt_buf_add(&out, box, bytes);
        }
    }
    if (!out.bytes) {
        rt_buf_addf(&out, "(none)");
    }
    return rt_arena_keep(&out, arena);
}

const char *rt_judge_prompt(const rt_taskset *set, int kind, const rt_problem *problem,
                            const char *const *thoughts, int count, const char *answer,
                            rt_arena *arena)
{
    const char *delimiter, *template;
    bool generated = rt_taskset_judging(set, problem->task, kind, &delimiter, &template);
    bool verify = kind == RT_JUDGE_VERIFY || kind == RT_JUDGE_VERIFY_STEP;
    if (generated && kind != RT_JUDGE_QUOTE) {
        return compact(delimiter, problem->problem, thoughts, count, verify ? 'V' : 'L', arena);
    }
    if (!answer) {
        answer = verify ? boxed_answer(thoughts, count, arena) : "";
    }
    char number[16];
    snprintf(number, sizeof number, "%d", count);
    const rt_fill fills[] = {
        {"{problem}", problem->problem},
        {"{thoughts}", steps(delimiter, thoughts, count, kind != RT_JUDGE_QUOTE, arena)},
        {"{answer}", answer},
        {"{count}", number},
    };
    rt_buf out = {0};
    rt_prompt_fill(&out, template, fills, (int)RT_COUNT(fills));
    return rt_arena_keep(&out, arena);
}

const char *rt_localize_prompt(const rt_taskset *set, const rt_problem *problem,
                               const char *const *thoughts, int count, const char *gold_or_null,
                               rt_arena *arena)
{
    return rt_judge_prompt(set, gold_or_null ? RT_JUDGE_LOCALIZE_L1 : RT_JUDGE_LOCALIZE_L2, problem,
                           thoughts, count, gold_or_null, arena);
}

const char *rt_verify_prompt(const rt_taskset *set, const rt_problem *problem,
                             const char *const *thoughts, int count, rt_arena *arena)
{
    return rt_judge_prompt(set, RT_JUDGE_VERIFY, problem, thoughts, count, NULL, arena);
}
