/*
 * contamination: is what is held out also trained on? Problems are the same when their texts are
 * after case folding, with any white space between words as one space and none at the ends.
 */
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "tasks/internal.h"

/* ---- normal form ------------------------------------------------------------------------------
 */

static bool is_space(utf8proc_int32_t point)
{
    switch (utf8proc_category(point)) {
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_CC: return true;
    default: return false;
    }
}

void rt_problem_normal(const char *text, rt_buf *out)
{
    utf8proc_uint8_t *folded = NULL;
    utf8proc_ssize_t bytes = utf8proc_map((const utf8proc_uint8_t *)text, 0, &folded,
                                          UTF8PROC_NULLTERM | UTF8PROC_STABLE | UTF8PROC_COMPOSE |
                                              UTF8PROC_CASEFOLD);
    rt_buf_add(out, "", 0);
    if (bytes < 0) { /* no UTF-8: as it is */
        rt_buf_add(out, text, strlen(text));
        return;
    }
    bool gap = false, any = false;
    for (utf8proc_ssize_t at = 0; at < bytes;) {
        utf8proc_int32_t point;
        utf8proc_ssize_t step = utf8proc_iterate(folded + at, bytes - at, &point);
        RT_ASSERT(step > 0);
        if (is_space(point)) {
            gap = any;
        } else {
            if (gap) {
                rt_buf_add(out, " ", 1);
            }
            rt_buf_add(out, folded + at, (size_t)step);
            gap = false;
            any = true;
        }
        at += step;
    }
    free(folded);
}

/* ---- sets of texts ----------------------------------------------------------------------------
 */

typedef struct entry {
    rt_hash128 hash;
    int task;
    int64_t place; /* record, or index within a split */
} entry;

static int by_hash(const entry *a, const entry *b)
{
    if (a->hash.high != b->hash.high) {
        return a->hash.high < b->hash.high ? -1 : 1;
    }
    return (a->hash.low > b->hash.low) - (a->hash.low < b->hash.low);
}

static int by_hash_and_place(const void *left, const void *right)
{
    const entry *a = left, *b = right;
    int order = by_hash(a, b);
    order = order ? order : a->task - b->task;
    return order ? order : (a->place > b->place) - (a->place < b->place);
}

static rt_hash128 hash_of(const char *problem, rt_buf *normal)
{
    rt_buf_clear(normal);
    rt_problem_normal(problem, normal);
    return rt_hash(normal->data, normal->bytes);
}

void rt_records_first(const rt_records *records, uint32_t *first)
{
    rt_buf normal = {0};
    entry *entries = rt_alloc((size_t)RT_MAX(records->count, 1) * sizeof *entries);
    for (int64_t i = 0; i < records->count; i++) {
        entries[i] = (entry){hash_of(records->items[i].problem, &normal), 0, i};
    }
    qsort(entries, (size_t)records->count, sizeof *entries, by_hash_and_place);
    for (int64_t i = 0, begin = 0; i < records->count; i++) {
        begin = by_hash(&entries[i], &entries[begin]) ? i : begin;
        first[entries[i].place] = (uint32_t)entries[begin].place;
    }
    rt_free(entries);
    rt_buf_free(&normal);
}

/* ---- held out and trained ---------------------------------------------------------------------
 */

static bool is_data(const rt_config *config, int task)
{
    return rt_text_set(config->tasks[task].data);
}

/* Every problem of data files that is trained on, sorted; rt_free it. */
static int list_trained(const rt_config *config, const rt_taskset *set, entry **entries,
                        int64_t *count, rt_error *err)
{
    int64_t room = 0;
    int rc = RT_OK;
    for (int t = 0; t < rt_taskset_tasks(set); t++) {
        room += is_data(config, t) ? rt_taskset_count(set, t, RT_TRAIN) : 0;
    }
    rt_buf normal = {0};
    rt_arena *arena = rt_arena_new(1 << 16);
    *entries = rt_alloc((size_t)RT_MAX(room, 1) * sizeof **entries);
    *count = 0;
    for (int t = 0; t < rt_taskset_tasks(set) && !rc; t++) {
        bool trained = is_data(config, t) && config->tasks[t].weight > 0;
        int64_t problems = trained ? rt_taskset_count(set, t, RT_TRAIN) : 0;
        for (int64_t i = 0; i < problems && !rc; i++) {
            rt_problem problem;
            rt_arena_reset(arena);
            rc = rt_problem_get(set, t, RT_TRAIN, i, arena, &problem, err);
            if (!rc) {
                (*entries)[(*count)++] = (entry){hash_of(problem.problem, &normal), t, i};
            }
        }
    }
    qsort(*entries, (size_t)*count, sizeof **entries, by_hash_and_place);
    rt_arena_free(&arena);
    rt_buf_free(&normal);
    return rc;
}

static int same_hash(const void *left, const void *right)
{
    return by_hash(left, right);
}

static void tell_example(rt_overlap *overlap, const char *held, int64_t held_line,
                         const char *trained, int64_t trained_line)
{
    snprintf(overlap->example, sizeof overlap->example, "%s:%lld is %s:%lld", held,
             (long long)held_line, trained, (long long)trained_line);
}

static int count_held(const rt_config *config, const rt_taskset *set, const rt_config *other_config,
                      const rt_taskset *other, const entry *trained, int64_t count,
                      rt_overlap *overlap, rt_error *err)
{
    int rc = RT_OK;
    rt_buf normal = {0};
    rt_arena *arena = rt_arena_new(1 << 16);
    for (int t = 0; t < rt_taskset_tasks(set) && !rc; t++) {
        int64_t problems = is_data(config, t) ? rt_taskset_count(set, t, RT_EVAL) : 0;
        for (int64_t i = 0; i < problems && !rc; i++) {
            rt_problem problem, twin;
            rt_arena_reset(arena);
            rc = rt_problem_get(set, t, RT_EVAL, i, arena, &problem, err);
            overlap->held_out += !rc;
            entry key = {.hash = rc ? (rt_hash128){0, 0} : hash_of(problem.problem, &normal)};
            const entry *hit = rc ? NULL
                                  : bsearch(&key, trained, (size_t)count, sizeof key, same_hash);
            if (!hit || overlap->count++ > 0) {
                continue;
            }
            rc = rt_problem_get(other, hit->task, RT_TRAIN, hit->place, arena, &twin, err);
            if (!rc) {
                tell_example(overlap, config->tasks[t].data, problem.line,
                             other_config->tasks[hit->task].data, twin.line);
            }
        }
    }
    rt_arena_free(&arena);
    rt_buf_free(&normal);
    return rc;
}

int rt_overlap_count(const rt_config *held_config, const rt_taskset *held,
                     const rt_config *trained_config, const rt_taskset *trained,
                     rt_overlap *overlap, rt_error *err)
{
    entry *entries = NULL;
    int64_t count = 0;
    *overlap = (rt_overlap){0};
    int rc = list_trained(trained_config, trained, &entries, &count, err);
    if (!rc) {
        rc = count_held(held_config, held, trained_config, trained, entries, count, overlap, err);
    }
    rt_free(entries);
    return rc;
}

bool rt_contamination_is(const rt_config *config, const char *what)
{
    const char *set = rt_text_set(config->eval.contamination) ? config->eval.contamination : "off";
    return strcmp(set, what) == 0;
}

int rt_contamination_check(const rt_config *config, const rt_taskset *set, rt_overlap *overlap,
                           rt_error *err)
{
    *overlap = (rt_overlap){0};
    if (rt_contamination_is(config, "off") || config->eval.problems <= 0) {
        return RT_OK;
    }
    int rc = rt_overlap_count(config, set, config, set, overlap, err);
    if (!rc && overlap->count > 0 && rt_contamination_is(config, "refuse")) {
        rc = rt_fail(
            err, RT_ERR_USAGE,
            "%lld of %lld held-out problems are trained on as well (%s); take them out of one "
            "of the files, or set eval.contamination: warn",
            (long long)overlap->count, (long long)overlap->held_out, overlap->example);
    }
    return rc;
}
