/* The engine's prefix cache: results are those of an engine without it, bit for bit, whatever is
 * shared, forked, cancelled or evicted and however the weights change; reuse is counted. */
#include <stdlib.h>

#include "model/engine_internal.h"
#include "model/model_testing.h"

enum { CONTEXT = 256, PER_ROUND = 6, GROUP = 4, KNOWN = 200 };

static rt_sampling sampling_of(uint64_t stream)
{
    return (rt_sampling){.temperature = stream % 5 == 0 ? 0 : 1, .top_p = 1, .seed = 9,
                         .max_tokens = 1 + (int)rt_below(2, 0, stream, 60), .ignore_eos = true};
}

typedef struct path {
    int32_t ids[CONTEXT];
    int count;
} path;

typedef struct world {
    testing_net n;
    rt_engine *cached, *plain;
    path known[KNOWN]; /* prompts and whole trajectories, under any version of the weights */
    int known_count;
    uint64_t next;     /* request id, and stream of its random choices */
} world;

static void known_add(world *w, const int32_t *prefix, int prefix_count, const int32_t *ids,
                      int ids_count)
{
    path *p = &w->known[w->known_count < KNOWN ? w->known_count++
                                               : (int)rt_below(2, 8, w->next, KNOWN)];
    p->count = prefix_count + ids_count;
    memcpy(p->ids, prefix, sizeof(int32_t) * (size_t)prefix_count);
    if (ids_count > 0)
        memcpy(p->ids + prefix_count, ids, sizeof(int32_t) * (size_t)ids_count);
}

/* A prefix: new, or a known path cut after any token, as it is or with other tokens after it. */
static path prefix_draw(const world *w, uint64_t r)
{
    path p = {.count = 0};
    int room = 150, fresh = 0;
    if (w->known_count > 0 && rt_below(2, 1, r, 6) > 0) {
        const path *from = &w->known[rt_below(2, 2, r, (uint32_t)w->known_count)];
        p.count = 1 + (int)rt_below(2, 3, r, (uint32_t)RT_MIN(from->count, room));
        memcpy(p.ids, from->ids, sizeof(int32_t) * (size_t)p.count);
        fresh = rt_below(2, 4, r, 2) > 0 ? 0 : (int)rt_below(2, 5, r, 20);
    } else {
        fresh = 1 + (int)rt_below(2, 5, r, 100);
    }
    testing_ids(p.ids + p.count, fresh, 94, r);
    p.count += fresh;
    return p;
}

static int by_id(const void *a, const void *b)
{
    const rt_completion *x = a, *y = b;
    return x->trajectory < y->trajectory ? -1 : x->trajectory > y->trajectory;
}

/* All completions, in order of trajectory. */
static int drain(rt_engine *engine, rt_completion *out, int max)
{
    int count = 0, left = 1;
    rt_error err = {0};
    for (int steps = 0; left > 0 || engine->done_count > 0; steps++) {
        left = rt_engine_step(engine, &err);
        if (left < 0)
            fail_msg("%s", err.message);
        assert_true(steps < 20000);
        while (count < max && rt_engine_collect(engine, &out[count]))
            count++;
    }
    qsort(out, (size_t)count, sizeof(out[0]), by_id);
    return count;
}

static void expect_same(const rt_completion *a, const rt_completion *b)
{
    assert_int_equal(a->trajectory, b->trajectory);
    assert_int_equal(a->end, b->end);
    assert_int_equal(a->ids_count, b->ids_count);
    assert_memory_equal(a->ids, b->ids, sizeof(int32_t) * (size_t)a->ids_count);
    assert_memory_equal(a->logprobs, b->logprobs, sizeof(float) * (size_t)a->ids_count);
}

static void submit(rt_engine *engine, uint64_t r, const path *prefix, int count)
{
    uint64_t trajectories[GROUP];
    rt_sampling s = sampling_of(r);
    for (int i = 0; i < count; i++)
        trajectories[i] = r * GROUP + (uint64_t)i;
    assert_int_equal(rt_engine_submit(engine, r, prefix->ids, prefix->count, trajectories, count, 0, -1,
                                      &s, NULL), RT_OK);
}

/* One round: requests at random moments, some cancelled on the way in the engine with the cache. */
static void round_run(world *w, bool cancels)
{
    rt_completion got[PER_ROUND * GROUP], want[PER_ROUND * GROUP];
    path prefixes[PER_ROUND];
    uint64_t first = w->next;
    for (int i = 0; i < PER_ROUND; i++) {
        uint64_t r = w->next++;
        int count = 1 + (int)rt_below(2, 6, r, GROUP);
        bool cancel = cancels && rt_below(2, 9, r, 4) == 0;
        prefixes[i] = prefix_draw(w, r);
        submit(w->cached, r, &prefixes[i], count);
        if (!cancel)
            submit(w->plain, r, &prefixes[i], count);
        for (uint32_t steps = rt_below(2, 7, r, 30); steps > 0; steps--)
            assert_true(rt_engine_step(w->cached, NULL) >= 0);
        if (cancel)
            rt_engine_cancel(w->cached, r);
    }
    int count = drain(w->plain, want, PER_ROUND * GROUP);
    assert_int_equal(drain(w->cached, got, PER_ROUND * GROUP), count);
    for (int i = 0; i < count; i++) {
        expect_same(&got[i], &want[i]);
        const path *prefix = &prefixes[got[i].request - first];
        known_add(w, prefix->ids, prefix->count, got[i].ids, got[i].ids_count);
        rt_completion_free(&got[i]);
        rt_completion_free(&want[i]);
    }
    /* nothing runs: every page is free or held for later, once */
    const rt_forest *f = w->cached->forest;
    assert_int_equal(f->pages_free_count + f->pages_idle, f->kv.pages);
    assert_int_equal(w->cached->index.count, f->pages_idle);
}

static void world_open(world *w, int slots, int64_t cache_tokens, int threads)
{
    rt_arch arch = testing_arch(true);
    memset(w, 0, sizeof(*w));
    w->n = testing_open(&arch, RT_F32, "cpu", threads, 3);
    assert_int_equal(rt_engine_new(&w->cached, w->n.net, NULL, slots, cache_tokens, NULL), RT_OK);
    assert_int_equal(rt_engine_new(&w->plain, w->n.net, NULL, 8, 0, NULL), RT_OK);
    rt_engine_set_cache(w->plain, false);
}

static void world_close(world *w)
{
    rt_engine_free(&w->cached);
    rt_engine_free(&w->plain);
    testing_close(&w->n);
}

static void weights_renew(world *w, uint64_t seed)
{
    testing_randomize(w->n.weights, seed);
    rt_net_set(w->n.net, w->n.weights);
    rt_engine_weights_changed(w->cached);
    rt_engine_weights_changed(w->plain);
    assert_int_equal(w->cached->index.count, 0);
    assert_int_equal(rt_forest_pages_free(w->cached->forest), w->cached->forest->kv.pages);
}

static void test_same_bits_as_without(void **state)
{
    (void)state;
    static world w;
    static const struct { int slots, threads; int64_t cache; bool pressed; } variants[] = {
        {16, 1, 40000, false}, {3, 2, 40000, false}, {12, 1, 700, true}, {2, 1, 250, true},
    };
    for (size_t v = 0; v < RT_COUNT(variants); v++) {
        world_open(&w, variants[v].slots, variants[v].cache, variants[v].threads);
        for (int round = 0; round < 14; round++)
            round_run(&w, false);
        rt_engine_stats with = rt_engine_get_stats(w.cached);
        rt_engine_stats without = rt_engine_get_stats(w.plain);
        assert_true(with.prefix_hits > (variants[v].pressed ? 5 : 14 * PER_ROUND / 2));
        assert_true(with.tokens_prefill + with.prefix_tokens_reused <= without.tokens_prefill);
        /* each token of a prefix is computed or reused, but the last ones of those found whole */
        assert_true(with.tokens_prefill + with.prefix_tokens_reused + with.prefix_hits >=
                    without.tokens_prefill);
        assert_int_equal(with.tokens_decode, without.tokens_decode);
        assert_int_equal(with.evictions > 0, variants[v].pressed);
        assert_int_equal(without.prefix_hits + without.prefix_tokens_reused, 0);
        world_close(&w);
    }
}

static void test_cancelled_and_switched(void **state)
{
    (void)state;
    static world w;
    for (int pressed = 0; pressed < 2; pressed++) {
        world_open(&w, 6, pressed ? 500 : 20000, 1);
        for (int round = 0; round < 16; round++) {
            if (round % 5 == 3) {
                /* off and on again with work of every state under way */
                path p = prefix_draw(&w, w.next);
                for (uint64_t i = 0; i < 5; i++)
                    submit(w.cached, 90000 + i, &p, GROUP);
                for (int i = 0; i < 7; i++)
                    assert_true(rt_engine_step(w.cached, NULL) >= 0);
                rt_engine_set_cache(w.cached, false);
                assert_int_equal(w.cached->index.count, 0);
                for (int i = 0; i < round % 2; i++)
                    assert_true(rt_engine_step(w.cached, NULL) >= 0);
                rt_engine_set_cache(w.cached, true);
                for (uint64_t i = 0; i < 5; i++)
                    rt_engine_cancel(w.cached, 90000 + i);
            }
            round_run(&w, true);
        }
        world_close(&w);
    }
}

/* The same prefixes again under other weights: an entry read by a later version would show. */
static void test_new_weights_read_nothing_old(void **state)
{
    (void)state;
    static world w;
    world_open(&w, 8, 20000, 1);
    for (int version = 0; version < 5; version++) {
        for (int round = 0; round < 3; round++)
            round_run(&w, round == 1);
        weights_renew(&w, 10 + (uint64_t)version);
    }
    world_close(&w);
}

/* ---- what is counted ---- */

static rt_engine_stats grown(rt_engine *engine, rt_engine_stats *before)
{
    rt_engine_stats now = rt_engine_get_stats(engine), d = now;
    d.tokens_prefill -= before->tokens_prefill;
    d.tokens_decode -= before->tokens_decode;
    d.prefix_hits -= before->prefix_hits;
    d.prefix_tokens_reused -= before->prefix_tokens_reused;
    *before = now;
    return d;
}

static void expect_counts(world *w, rt_engine_stats *before, int64_t prefill, int64_t hits,
                          int64_t reused)
{
    rt_engine_stats d = grown(w->cached, before);
    assert_int_equal(d.tokens_prefill, prefill);
    assert_int_equal(d.prefix_hits, hits);
    assert_int_equal(d.prefix_tokens_reused, reused);
}

static rt_completion run_one(world *w, const path *p, int max_tokens)
{
    uint64_t trajectories[3] = {w->next * 4, w->next * 4 + 1, w->next * 4 + 2};
    rt_sampling s = {.temperature = 1, .top_p = 1, .max_tokens = max_tokens, .seed = 1,
                     .ignore_eos = true};
    rt_completion c[3];
    assert_int_equal(rt_engine_submit(w->cached, w->next++, p->ids, p->count, trajectories, 3, 0, -1,
                                      &s, NULL), RT_OK);
    assert_int_equal(drain(w->cached, c, 3), 3);
    rt_completion_free(&c[1]);
    rt_completion_free(&c[2]);
    return c[0];
}

static void test_continuations_compute_nothing_twice(void **state)
{
    (void)state;
    static world w;
    world_open(&w, 8, 20000, 1);
    path prompt = {.count = 37}, reset, other;
    rt_engine_stats before = rt_engine_get_stats(w.cached);
    testing_ids(prompt.ids, 37, 94, 1);
    rt_completion c = run_one(&w, &prompt, 100);
    expect_counts(&w, &before, 37, 0, 0);
    /* resets after any of its tokens, the last sampled one too, which was not computed */
    for (int thoughts = 1; thoughts <= 100; thoughts += 11) {
        reset = prompt;
        memcpy(reset.ids + 37, c.ids, sizeof(int32_t) * (size_t)thoughts);
        reset.count = 37 + thoughts;
        rt_completion again = run_one(&w, &reset, 20);
        expect_counts(&w, &before, 0, 1, reset.count - 1);
        rt_completion_free(&again);
    }
    /* the prompt leased again, and one that leaves it inside a page */
    rt_completion again = run_one(&w, &prompt, 5);
    expect_counts(&w, &before, 0, 1, 36);
    rt_completion_free(&again);
    other = prompt;
    other.ids[21] = (other.ids[21] + 1) % 94;
    again = run_one(&w, &other, 5);
    expect_counts(&w, &before, 37 - 21, 1, 21);
    rt_completion_free(&again);
    weights_renew(&w, 8);
    again = run_one(&w, &prompt, 5);
    expect_counts(&w, &before, 37, 0, 0);
    rt_completion_free(&again);
    rt_completion_free(&c);
    world_close(&w);
}

/* What runs is found too, up to its last full page. */
static void test_running_paths_are_found(void **state)
{
    (void)state;
    static world w;
    world_open(&w, 8, 20000, 1);
    path prompt = {.count = 37};
    rt_completion c[GROUP];
    testing_ids(prompt.ids, 37, 94, 1);
    uint64_t trajectory = 3;
    rt_sampling s = {.temperature = 1, .top_p = 1, .max_tokens = 40, .seed = 1, .ignore_eos = true};
    assert_int_equal(rt_engine_submit(w.cached, 1, prompt.ids, 37, &trajectory, 1, 0, -1, &s, NULL),
                     RT_OK);
    for (int i = 0; i < 20; i++)
        assert_true(rt_engine_step(w.cached, NULL) > 0);
    rt_engine_stats before = rt_engine_get_stats(w.cached);
    path reset = prompt;
    memcpy(reset.ids + 37, w.cached->slots[0].c.ids, sizeof(int32_t) * 11);
    reset.count = 48;
    submit(w.cached, 2, &reset, 1);
    assert_int_equal(drain(w.cached, c, GROUP), 2);
    expect_counts(&w, &before, 0, 1, 47);
    for (int i = 0; i < 2; i++)
        rt_completion_free(&c[i]);
    world_close(&w);
}

/* Of a pool of default size only a share is kept, so that memory never needed stays untouched. */
static void test_default_pool_keeps_a_bounded_share(void **state)
{
    (void)state;
    static world w;
    world_open(&w, 4, 0, 1);
    w.cached->idle_max = 5;
    for (int round = 0; round < 4; round++) {
        round_run(&w, false);
        assert_true(w.cached->forest->pages_idle <= 5);
    }
    assert_true(rt_engine_get_stats(w.cached).evictions > 0);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits_as_without),
        cmocka_unit_test(test_cancelled_and_switched),
        cmocka_unit_test(test_new_weights_read_nothing_old),
        cmocka_unit_test(test_continuations_compute_nothing_twice),
        cmocka_unit_test(test_running_paths_are_found),
        cmocka_unit_test(test_default_pool_keeps_a_bounded_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
