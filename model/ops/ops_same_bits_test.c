/*
 * The rule of ops.h on the cpu backend: the number of rows in a call, the thread count and the
 * instruction set change no bit of any result.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "model/ops/ops_world.h"

static void assert_same(const record *a, const record *b, const char *what, int number)
{
    for (int i = 0; i < R_COUNT; i++)
        for (size_t j = 0; j < a->count[i]; j++)
            if (memcmp(a->data[i] + j, b->data[i] + j, sizeof(float)) != 0)
                fail_msg("%s: element %zu differs with %s %d: %.9g, %.9g", world_names[i], j,
                         what, number, (double)a->data[i][j], (double)b->data[i][j]);
}

static void test_rows(void **state)
{
    (void)state;
    static const int pieces[] = {1, 2, 3, 5, 7, 8, 13, 16, 33, 64};
    rt_ops *ops = ops_or_null("cpu", 1);
    for (int kind = 0; kind < WORLDS_ANY; kind++) {
        world *w = world_of(kind);
        record *whole = world_run(ops, w, WORLD_ROWS);
        for (size_t i = 0; i < RT_COUNT(pieces); i++) {
            record *cut = world_run(ops, w, pieces[i]);
            assert_same(whole, cut, "rows a call", pieces[i]);
            record_free(cut);
        }
        record_free(whole);
        world_free(w);
    }
    rt_ops_free(&ops);
}

static void test_threads(void **state)
{
    (void)state;
    static const int counts[] = {2, 3, 5};
    rt_ops *one = ops_or_null("cpu", 1);
    for (int kind = 0; kind < WORLDS_ANY; kind++) {
        world *w = world_of(kind);
        record *a = world_run(one, w, WORLD_ROWS);
        for (size_t i = 0; i < RT_COUNT(counts); i++) {
            rt_ops *many = ops_or_null("cpu", counts[i]);
            record *b = world_run(many, w, WORLD_ROWS);
            assert_same(a, b, "threads", counts[i]);
            record_free(b);
            rt_ops_free(&many);
        }
        record_free(a);
        world_free(w);
    }
    rt_ops_free(&one);
}

/* The instruction sets this processor has, each against plain C. */
static void test_instruction_sets(void **state)
{
    (void)state;
    static const char *const devices[] = {"cpu:avx2", "cpu:avx512"};
    rt_ops *scalar = ops_or_null("cpu:scalar", 2);
    assert_string_equal(scalar->isa, "scalar");
    for (int kind = 0; kind < WORLDS_ANY; kind++) {
        world *w = world_of(kind);
        record *a = world_run(scalar, w, WORLD_ROWS);
        for (size_t i = 0; i < RT_COUNT(devices); i++) {
            rt_ops *ops = ops_or_null(devices[i], 2);
            if (!ops)
                continue;
            record *b = world_run(ops, w, 50);
            assert_same(a, b, devices[i], kind);
            record_free(b);
            rt_ops_free(&ops);
        }
        record_free(a);
        world_free(w);
    }
    rt_ops_free(&scalar);
}

/* bf16 words and the same numbers as floats are the same matrix. */
static void test_bf16(void **state)
{
    (void)state;
    rt_ops *ops = ops_or_null("cpu", 1);
    for (int rows = 1; rows <= 20; rows += 19) {
        world *w = world_new(70, 50, 2, 1, 8, 33, RT_BF16);
        record *a = world_run(ops, w, rows);
        uint16_t *words[2] = {w->w, w->table};
        size_t counts[2] = {50 * 70, 33 * 70};
        float *wide[2];
        for (int i = 0; i < 2; i++) {
            wide[i] = rt_alloc(counts[i] * sizeof(float));
            for (size_t j = 0; j < counts[i]; j++)
                wide[i][j] = rt_from_bf16(words[i][j]);
            rt_free(words[i]);
        }
        w->w = wide[0];
        w->table = wide[1];
        w->dtype = RT_F32;
        record *b = world_run(ops, w, rows);
        assert_same(a, b, "rows as floats", rows);
        record_free(a);
        record_free(b);
        world_free(w);
    }
    rt_ops_free(&ops);
}

/* Long chains: depths beyond one cache block, several row blocks, cut at any row. */
static void test_long(void **state)
{
    (void)state;
    enum { N = 35, K = 1001, R = 410 };
    rt_ops *ops = ops_or_null("cpu", 2);
    float *w = world_random(1, N * K), *x = world_random(2, R * K), *dy = world_random(3, R * N);
    float *y = rt_alloc(R * N * 4), *y1 = rt_alloc(N * 4), *dw = rt_alloc(N * K * 4);
    float *dw_cut = rt_alloc(N * K * 4), *dx = rt_alloc(R * K * 4), *dx1 = rt_alloc(K * 4);
    rt_packed *packed = ops->pack(ops, NULL, w, RT_F32, 0, N, N, K);
    ops->matmul(ops, y, N, x, K, packed, R, false);
    ops->matmul_dx(ops, dx, K, dy, N, packed, R, false);
    ops->matmul_dw(ops, dw, dy, N, x, K, R, N, K);
    for (int r = 0; r < R; r++) {
        ops->matmul(ops, y1, N, x + r * K, K, packed, 1, false);
        ops->matmul_dx(ops, dx1, K, dy + r * N, N, packed, 1, false);
        assert_memory_equal(y1, y + r * N, N * sizeof(float));
        assert_memory_equal(dx1, dx + r * K, K * sizeof(float));
    }
    static const int cuts[] = {0, 1, 7, 255, 256, 300, R};
    for (size_t i = 0; i + 1 < RT_COUNT(cuts); i++)
        ops->matmul_dw(ops, dw_cut, dy + cuts[i] * N, N, x + cuts[i] * K, K,
                       cuts[i + 1] - cuts[i], N, K);
    assert_memory_equal(dw, dw_cut, N * K * sizeof(float));
    void *all[] = {w, x, dy, y, y1, dw, dw_cut, dx, dx1};
    for (size_t i = 0; i < RT_COUNT(all); i++)
        rt_free(all[i]);
    ops->packed_free(ops, packed);
    rt_ops_free(&ops);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_instruction_sets),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
