/* Forest: a token's logits have the same bits however it was computed; pages come and go. */
#include "model/model_testing.h"

enum { LENGTH = 70 };

typedef struct world {
    testing_net n;
    rt_forest *forest;
    int32_t ids[LENGTH];
    float *want; // (LENGTH, V), of ids prefilled at once
    size_t v;
} world;

static void logits_all(rt_forest *forest, int first, int count, float *out)
{
    int32_t rows[LENGTH];
    for (int i = 0; i < count; i++)
        rows[i] = first + i;
    rt_forest_logits(forest, rows, count, out);
}

static world world_open(int dtype, int threads)
{
    world w = {0};
    rt_arch arch = testing_arch(false);
    rt_error err = {0};
    w.v = (size_t)arch.vocab;
    w.n = testing_open(&arch, dtype, "cpu", threads, 3);
    assert_int_equal(rt_forest_new(&w.forest, w.n.net, 2048, &err), RT_OK);
    testing_ids(w.ids, LENGTH, arch.vocab, 1);
    w.want = rt_alloc(sizeof(float) * LENGTH * w.v);
    int node = rt_forest_fork(w.forest, -1, -1);
    rt_run run = {node, w.ids, LENGTH, 0};
    assert_int_equal(rt_forest_forward(w.forest, &run, 1, &err), RT_OK);
    logits_all(w.forest, 0, LENGTH, w.want);
    rt_forest_release(w.forest, node);
    return w;
}

static void world_close(world *w)
{
    rt_free(w->want);
    rt_forest_free(&w->forest);
    testing_close(&w->n);
}

static void expect_row(const world *w, int position, const float *logits)
{
    assert_memory_equal(logits, w->want + (size_t)position * w->v, w->v * sizeof(float));
}

static void check_one_by_one(world *w)
{
    float logits[128];
    int node = rt_forest_fork(w->forest, -1, -1);
    for (int i = 0; i < LENGTH; i++) {
        rt_run run = {node, &w->ids[i], 1, 0};
        int32_t row = 0;
        assert_int_equal(rt_forest_forward(w->forest, &run, 1, NULL), RT_OK);
        rt_forest_logits(w->forest, &row, 1, logits);
        expect_row(w, i, logits);
    }
    rt_forest_release(w->forest, node);
}

/* The sequence among others, in pieces of changing size, first or last in the batch; of every run some
 * tokens at the begin, or all, are not asked for. */
static void check_in_batch(world *w)
{
    int32_t other[64];
    float logits[128];
    testing_ids(other, 64, (int)w->v, 9);
    int node = rt_forest_fork(w->forest, -1, -1), at = 0;
    for (int step = 0; at < LENGTH; step++) {
        int count = RT_MIN(1 + step * 5 % 13, LENGTH - at), others = step % 4, total = 0;
        rt_run runs[5];
        int nodes[4];
        for (int i = 0; i < others; i++) {
            nodes[i] = rt_forest_fork(w->forest, -1, -1);
            runs[i + 1] = (rt_run){nodes[i], other + i, 3 + 7 * i, step * i % 4};
            total += 3 + 7 * i - step * i % 4;
        }
        int unseen = step * 3 % (count + 1);
        runs[0] = (rt_run){node, w->ids + at, count, unseen};
        bool last = step % 2 == 1;
        if (last) {
            runs[others + 1] = runs[0];
        }
        assert_int_equal(rt_forest_forward(w->forest, runs + last, others + 1, NULL), RT_OK);
        for (int i = unseen; i < count; i++) {
            int32_t row = (last ? total : 0) + i - unseen;
            rt_forest_logits(w->forest, &row, 1, logits);
            expect_row(w, at + i, logits);
        }
        for (int i = 0; i < others; i++)
            rt_forest_release(w->forest, nodes[i]);
        at += count;
    }
    rt_forest_release(w->forest, node);
}

/* A fork at every place of a longer, different sequence and of a chain of forks. */
static void check_forks(world *w)
{
    int32_t wrong[LENGTH];
    float logits[128];
    for (int keep = 0; keep < LENGTH; keep += 3) {
        memcpy(wrong, w->ids, sizeof(wrong));
        for (int i = keep; i < LENGTH; i++)
            wrong[i] = (w->ids[i] + 1) % (int32_t)w->v;
        int parent = rt_forest_fork(w->forest, -1, -1), middle = -1;
        int cut = keep / 2;
        rt_run run = {parent, wrong, RT_MAX(cut, 1), 0};
        assert_int_equal(rt_forest_forward(w->forest, &run, 1, NULL), RT_OK);
        middle = rt_forest_fork(w->forest, parent, -1);
        run = (rt_run){middle, wrong + RT_MAX(cut, 1), LENGTH - RT_MAX(cut, 1), 0};
        assert_int_equal(rt_forest_forward(w->forest, &run, 1, NULL), RT_OK);
        int child = rt_forest_fork(w->forest, middle, keep);
        assert_int_equal(rt_forest_length(w->forest, child), keep);
        rt_forest_release(w->forest, middle);
        rt_forest_release(w->forest, parent);
        run = (rt_run){child, w->ids + keep, LENGTH - keep, 0};
        assert_int_equal(rt_forest_forward(w->forest, &run, 1, NULL), RT_OK);
        for (int32_t i = 0; i < LENGTH - keep; i++) {
            rt_forest_logits(w->forest, &i, 1, logits);
            expect_row(w, keep + i, logits);
        }
        rt_forest_release(w->forest, child);
    }
    assert_int_equal(rt_forest_free_tokens(w->forest), 2048);
}

static void test_rows_do_not_depend_on_the_batch(void **state)
{
    (void)state;
    for (int dtype = RT_F32; dtype <= RT_BF16; dtype++) {
        float *first = NULL;
        for (int threads = 1; threads <= 2; threads++) {
            world w = world_open(dtype, threads);
            size_t bytes = sizeof(float) * LENGTH * w.v;
            check_one_by_one(&w);
            check_in_batch(&w);
            check_forks(&w);
            if (first == NULL) {
                first = rt_alloc(bytes);
                memcpy(first, w.want, bytes);
            }
            assert_memory_equal(first, w.want, bytes);
            world_close(&w);
        }
        rt_free(first);
    }
}

/* A parent that grows after its forks, inside the page they copied, changes none of them. */
static void test_both_sides_of_a_fork_grow(void **state)
{
    (void)state;
    world w = world_open(RT_F32, 1);
    float logits[94];
    int32_t other[8], zero = 0;
    testing_ids(other, 8, 94, 4);
    for (int at = 1; at < 40; at += 7) {
        int parent = rt_forest_fork(w.forest, -1, -1);
        rt_run run = {parent, w.ids, at, 0};
        assert_int_equal(rt_forest_forward(w.forest, &run, 1, NULL), RT_OK);
        int child = rt_forest_fork(w.forest, parent, at);
        run = (rt_run){parent, other, 8, 0};
        assert_int_equal(rt_forest_forward(w.forest, &run, 1, NULL), RT_OK);
        rt_forest_release(w.forest, parent);
        run = (rt_run){child, w.ids + at, 1, 0};
        assert_int_equal(rt_forest_forward(w.forest, &run, 1, NULL), RT_OK);
        rt_forest_logits(w.forest, &zero, 1, logits);
        expect_row(&w, at, logits);
        rt_forest_release(w.forest, child);
    }
    assert_int_equal(rt_forest_free_tokens(w.forest), 2048);
    world_close(&w);
}

/* More rows than one pass takes. */
static void test_long_inputs_are_cut(void **state)
{
    (void)state;
    rt_arch arch = testing_arch(true);
    arch.context = 1200;
    testing_net n = testing_open(&arch, RT_F32, "cpu", 1, 4);
    rt_forest *forest;
    int32_t ids[1100], last = 1099, zero = 0;
    float whole[94], single[94];
    testing_ids(ids, 1100, arch.vocab, 2);
    assert_int_equal(rt_forest_new(&forest, n.net, 2400, NULL), RT_OK);
    int a = rt_forest_fork(forest, -1, -1), b = rt_forest_fork(forest, -1, -1);
    rt_run run = {a, ids, 1100, 0};
    assert_int_equal(rt_forest_forward(forest, &run, 1, NULL), RT_OK);
    rt_forest_logits(forest, &last, 1, whole);
    for (int at = 0; at < 1100; at += 110) {
        run = (rt_run){b, ids + at, at == 990 ? 109 : 110, 50};
        assert_int_equal(rt_forest_forward(forest, &run, 1, NULL), RT_OK);
    }
    run = (rt_run){b, ids + 1099, 1, 0};
    assert_int_equal(rt_forest_forward(forest, &run, 1, NULL), RT_OK);
    rt_forest_logits(forest, &zero, 1, single);
    assert_memory_equal(whole, single, sizeof(whole));
    rt_forest_release(forest, a);
    run = (rt_run){rt_forest_fork(forest, -1, -1), ids, 1100, 1000};
    assert_int_equal(rt_forest_forward(forest, &run, 1, NULL), RT_OK);
    last -= 1000;
    rt_forest_logits(forest, &last, 1, single);
    assert_memory_equal(whole, single, sizeof(whole));
    rt_forest_free(&forest);
    testing_close(&n);
}

static void test_new_weights_leave_nothing_stale(void **state)
{
    (void)state;
    world w = world_open(RT_F32, 1);
    rt_arch arch = testing_arch(false);
    testing_net fresh = testing_open(&arch, RT_F32, "cpu", 1, 99);
    rt_forest *other;
    float *a = rt_alloc(sizeof(float) * LENGTH * w.v), *b = rt_alloc(sizeof(float) * LENGTH * w.v);
    rt_forest_clear(w.forest);
    rt_net_set(w.n.net, fresh.weights);
    assert_int_equal(rt_forest_new(&other, fresh.net, 2048, NULL), RT_OK);
    rt_run run = {rt_forest_fork(w.forest, -1, -1), w.ids, LENGTH, 0};
    assert_int_equal(rt_forest_forward(w.forest, &run, 1, NULL), RT_OK);
    logits_all(w.forest, 0, LENGTH, a);
    run.node = rt_forest_fork(other, -1, -1);
    assert_int_equal(rt_forest_forward(other, &run, 1, NULL), RT_OK);
    logits_all(other, 0, LENGTH, b);
    assert_memory_equal(a, b, sizeof(float) * LENGTH * w.v);
    assert_memory_not_equal(a, w.want, sizeof(float) * LENGTH * w.v);
    rt_free(a);
    rt_free(b);
    rt_forest_free(&other);
    testing_close(&fresh);
    world_close(&w);
}

/* Random trees of forks, released in random order: pages are neither lost nor given twice. */
static void test_pages_return(void **state)
{
    (void)state;
    world w = world_open(RT_F32, 1);
    int nodes[40], count = 0;
    for (uint64_t i = 0; i < 600; i++) {
        if (count == 40 || (count > 0 && rt_below(5, 0, i, 3) == 0)) {
            int pick = (int)rt_below(5, 1, i, (uint32_t)count);
            rt_forest_release(w.forest, nodes[pick]);
            nodes[pick] = nodes[--count];
            continue;
        }
        int parent = count > 0 && rt_below(5, 2, i, 4) > 0
                     ? nodes[rt_below(5, 3, i, (uint32_t)count)] : -1;
        int length = parent < 0 ? 0 : rt_forest_length(w.forest, parent);
        int node = rt_forest_fork(w.forest, parent, (int)rt_below(5, 4, i, (uint32_t)length + 1));
        if (node < 0)
            continue;
        nodes[count++] = node;
        int room = RT_MIN(40, 256 - rt_forest_length(w.forest, node));
        rt_run run = {node, w.ids, (int)rt_below(5, 6, i, 40) + 1, 0};
        int64_t before = rt_forest_free_tokens(w.forest);
        if (run.count <= room && rt_forest_forward(w.forest, &run, 1, NULL) < 0)
            assert_int_equal(rt_forest_free_tokens(w.forest), before);
    }
    while (count > 0)
        rt_forest_release(w.forest, nodes[--count]);
    assert_int_equal(rt_forest_free_tokens(w.forest), 2048);
    check_one_by_one(&w);
    world_close(&w);
}

static void test_limits_are_errors(void **state)
{
    (void)state;
    rt_arch arch = testing_arch(false);
    testing_net n = testing_open(&arch, RT_F32, "cpu", 1, 4);
    rt_forest *forest;
    rt_error err = {0};
    int32_t ids[300] = {0};
    assert_int_equal(rt_forest_new(&forest, n.net, 64, NULL), RT_OK);
    rt_run run = {rt_forest_fork(forest, -1, -1), ids, 257, 0};
    assert_int_equal(rt_forest_forward(forest, &run, 1, &err), RT_ERR_LIMIT);
    assert_non_null(strstr(err.message, "256"));
    run.count = 65;
    assert_int_equal(rt_forest_forward(forest, &run, 1, &err), RT_ERR_LIMIT);
    ids[3] = 94;
    run.count = 8;
    assert_int_equal(rt_forest_forward(forest, &run, 1, &err), RT_ERR_INPUT);
    ids[3] = 93;
    run.count = 57;
    assert_int_equal(rt_forest_forward(forest, &run, 1, &err), RT_OK);
    assert_int_equal(rt_forest_free_tokens(forest), 0);
    assert_int_equal(rt_forest_fork(forest, run.node, 5), RT_ERR_LIMIT);
    assert_true(rt_forest_fork(forest, run.node, 16) >= 0);
    rt_forest_free(&forest);
    testing_close(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_do_not_depend_on_the_batch),
        cmocka_unit_test(test_both_sides_of_a_fork_grow),
        cmocka_unit_test(test_long_inputs_are_cut),
        cmocka_unit_test(test_new_weights_leave_nothing_stale),
        cmocka_unit_test(test_pages_return),
        cmocka_unit_test(test_limits_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
