/* Prefix index: finds what a search through all held paths finds; pages are neither lost nor freed
 * while in use; the path used last survives. */
#include "model/model_testing.h"
#include "model/prefix_index.h"

enum { PATHS = 60, LONGEST = 90, PAGES = 1024 };

typedef struct world {
    testing_net n;
    rt_forest *forest;
    rt_prefix_index index;
    int32_t ids[PATHS][LONGEST];
    int lengths[PATHS], count;
} world;

static void world_open(world *w)
{
    rt_arch arch = testing_arch(true);
    memset(w, 0, sizeof(*w));
    w->n = testing_open(&arch, RT_F32, "cpu", 1, 3);
    assert_int_equal(rt_forest_new(&w->forest, w->n.net, PAGES * RT_PAGE, NULL), RT_OK);
    rt_prefix_init(&w->index, w->forest);
}

static void world_close(world *w)
{
    rt_prefix_drop(&w->index);
    assert_int_equal(rt_forest_pages_free(w->forest), PAGES);
    rt_forest_free(&w->forest);
    testing_close(&w->n);
}

/* A path of three letters that begins as an earlier one does, so that all kinds of forks occur. */
static void path_draw(world *w, uint64_t stream)
{
    int32_t *ids = w->ids[w->count];
    int length = 1 + (int)rt_below(1, 0, stream, LONGEST), shared = 0;
    if (w->count > 0 && rt_below(1, 1, stream, 5) > 0) {
        int from = (int)rt_below(1, 2, stream, (uint32_t)w->count);
        shared = (int)rt_below(1, 3, stream, (uint32_t)RT_MIN(length, w->lengths[from]) + 1);
        memcpy(ids, w->ids[from], sizeof(int32_t) * (size_t)shared);
    }
    testing_ids(ids + shared, length - shared, 3, stream + 1000);
    w->lengths[w->count++] = length;
}

/* Pages for a path as a node that computes it has them, held by the index; the node stays. */
static int path_hold(world *w, const int32_t *ids, int length)
{
    int node = rt_forest_fork(w->forest, -1, -1), entry = rt_prefix_begin(-1);
    assert_true(rt_forest_reserve(w->forest, node, length));
    for (int at = 0; at < length; at += RT_PAGE) {
        int count = RT_MIN(length - at, RT_PAGE), page = at / RT_PAGE;
        int held = rt_prefix_add(&w->index, entry, ids + at, count,
                                 w->forest->nodes[node].table[page]);
        if (count == RT_PAGE) {
            entry = held;
            rt_forest_share_page(w->forest, node, page, w->index.entries[held].page);
        }
    }
    return node;
}

static int shared_with(const int32_t *a, int a_count, const int32_t *b, int b_count)
{
    int n = 0;
    while (n < a_count && n < b_count && a[n] == b[n])
        n++;
    return n;
}

static int longest_shared(const world *w, const int32_t *ids, int count)
{
    int longest = 0;
    for (int i = 0; i < w->count; i++)
        longest = RT_MAX(longest, shared_with(ids, count, w->ids[i], w->lengths[i]));
    return longest;
}

static void test_finds_the_longest(void **state)
{
    (void)state;
    static world w;
    world_open(&w);
    int32_t table[LONGEST / RT_PAGE + 1];
    int entry;
    for (uint64_t i = 0; i < PATHS; i++) {
        path_draw(&w, i);
        w.count--;
        const int32_t *ids = w.ids[w.count];
        int length = w.lengths[w.count];
        int found = rt_prefix_match(&w.index, -1, ids, length, table, &entry);
        assert_int_equal(found, longest_shared(&w, ids, length));
        assert_int_equal(rt_prefix_depth(&w.index, entry), found / RT_PAGE);
        rt_forest_release(w.forest, path_hold(&w, ids, length));
        w.count++;
        assert_int_equal(rt_prefix_match(&w.index, -1, ids, length, table, &entry), length);
    }
    /* all that is held is idle, and all can be freed */
    assert_int_equal(w.forest->pages_idle, w.index.count);
    assert_int_equal(rt_forest_pages_free(w.forest) + w.forest->pages_idle, PAGES);
    while (w.index.count > 0)
        assert_true(rt_prefix_evict(&w.index));
    assert_false(rt_prefix_evict(&w.index));
    assert_int_equal(rt_forest_pages_free(w.forest), PAGES);
    world_close(&w);
}

/* Every path a node still uses stays found in whole pages; the rest goes. */
static void test_evicts_only_idle_pages(void **state)
{
    (void)state;
    static world w;
    world_open(&w);
    int nodes[PATHS], entry;
    int32_t table[LONGEST / RT_PAGE + 1];
    for (uint64_t i = 0; i < PATHS; i++) {
        path_draw(&w, i);
        nodes[i] = path_hold(&w, w.ids[i], w.lengths[i]);
    }
    for (int i = 1; i < PATHS; i += 2)
        rt_forest_release(w.forest, nodes[i]);
    int idle = w.forest->pages_idle, freed = 0;
    assert_true(idle > 0);
    while (rt_prefix_evict(&w.index))
        freed++;
    assert_int_equal(freed, idle);
    assert_int_equal(w.forest->pages_idle, 0);
    for (int i = 0; i < PATHS; i += 2) {
        int full = w.lengths[i] / RT_PAGE;
        assert_true(rt_prefix_match(&w.index, -1, w.ids[i], w.lengths[i], table, &entry) / RT_PAGE >=
                    full);
        assert_memory_equal(table, w.forest->nodes[nodes[i]].table, sizeof(int32_t) * (size_t)full);
        rt_forest_release(w.forest, nodes[i]);
    }
    world_close(&w);
}

static void test_the_last_used_survives(void **state)
{
    (void)state;
    static world w;
    world_open(&w);
    int32_t ids[3][48], table[4];
    int entry;
    for (int i = 0; i < 3; i++) {
        for (int t = 0; t < 48; t++)
            ids[i][t] = 10 * i + 1;
        rt_forest_release(w.forest, path_hold(&w, ids[i], 48));
    }
    assert_int_equal(rt_prefix_match(&w.index, -1, ids[0], 48, table, &entry), 48);
    /* 9 pages: path 1 was used first, then 2, then 0; each goes from its end */
    static const int want[10][3] = {{48, 48, 48}, {48, 32, 48}, {48, 16, 48}, {48, 0, 48},
                                    {48, 0, 32}, {48, 0, 16}, {48, 0, 0}, {32, 0, 0}, {16, 0, 0},
                                    {0, 0, 0}};
    for (int i = 1; i < 10; i++) {
        assert_true(rt_prefix_evict(&w.index));
        for (int p = 1; p < 4; p++) /* path 0 last: looking is using */
            assert_int_equal(rt_prefix_match(&w.index, -1, ids[p % 3], 48, table, &entry),
                             want[i][p % 3]);
    }
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finds_the_longest),
        cmocka_unit_test(test_evicts_only_idle_pages),
        cmocka_unit_test(test_the_last_used_survives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
