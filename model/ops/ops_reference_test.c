/*
 * cpu against ref on every operation. u = 2^-24 is half the spacing of floats at 1. A chain of n
 * fused operations on terms that sum to A in absolute value is off by at most n·u·A (Higham,
 * Accuracy and Stability of Numerical Algorithms, §3.1, first order); the bounds below apply
 * it with the largest values the inputs (uniform in [−1, 1]) allow.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "model/ops/ops_world.h"

#define U 0x1p-24

/* Largest absolute error allowed for each result. */
static void world_bounds(const world *w, double bound[R_COUNT])
{
    double d = w->d, f = w->f, s = w->s, rows = WORLD_ROWS, items = rows * w->heads;
    for (int i = 0; i < R_COUNT; i++)
        bound[i] = -1; /* a result without a bound fails */
    bound[R_MATMUL] = bound[R_MATMUL_ADD] = (d + 2) * U * (d + 1);
    bound[R_DX] = (f + 2) * U * (f + 1);
    bound[R_DW] = (rows + 2) * U * rows;
    bound[R_EMBED] = bound[R_GATHER] = bound[R_SCATTER] = 0;
    bound[R_DTABLE] = rows * U * rows;
    /* mean(x²) of d ≥ 40 uniform numbers stays above 0.1: rstd < 3.2, rstd³ < 33 */
    bound[R_NORM] = bound[R_RSTD] = (d + 8) * U * 3.2;
    bound[R_NORM_DX] = (d + 16) * U * (33 + 3.2);
    bound[R_NORM_DW] = (rows + d + 8) * U * rows * 3.2;
    bound[R_ROPE] = 8 * U; /* |x| ≤ 1: rounding of cos, sin and two operations, twice */
    /* |q·k| ≤ S; after scaling by 1/√S a score is off by (S + 3)·u·√S, an exponential of its
     * difference to the maximum by twice that relatively, plus 4 u of exp; sums over at most
     * `rows` positions; weights p sum to 1 and |v| ≤ 1. */
    double score = (s + 3) * U * sqrt(s), p = 4 * score + (2 * rows + 16) * U;
    bound[R_ATTENTION] = p;
    bound[R_STATS] = p * rows;
    /* |dp − delta| ≤ 2S, off by (S + rows)·u of it and by p·S from the output inside delta */
    double ds = 2 * s * (p + (s + rows) * U) + s * p;
    bound[R_DQ] = (ds + rows * U * 2 * s) / sqrt(s);
    bound[R_DKV] = bound[R_GATHER_K] = bound[R_GATHER_V] =
        items * (ds + 2 * s * items * U) / sqrt(s) + items * (p + items * U);
    bound[R_SWIGLU] = bound[R_SWIGLU_Y] = 16 * U; /* |silu·up| ≤ 1, about eight roundings */
    bound[R_SWIGLU_DX] = 32 * U;
    bound[R_ADD] = U * 2;
    bound[R_AXPY] = 0; /* one rounding in both */
    bound[R_MULTIPLY] = 0; /* one rounding */
    /* |logits / temperature| ≤ 4, |lse| ≤ 4 + log V < 10.1 for V ≤ 400; sums of 64 + 16 terms */
    bound[R_LSE] = bound[R_LOGPROB] = (80 + 4 * 14) * U;
    bound[R_DLOGITS] = 4 * 2 * ((80 + 4 * 14) + 2 * 14 + 16) * U; /* (Σ g)/T, |Σ g| ≤ 2 */
    /* |m/√v| of one step is 1, times lr 0.01 */
    bound[R_ADAM_W] = U * 2 + 0.01 * 16 * U;
    bound[R_ADAM_M] = bound[R_ADAM_V] = 8 * U;
    bound[R_DOT] = bound[R_GRAM] = bound[R_CHANGE] = 0; /* doubles: see below */
    bound[R_CHANGE_SUM] = bound[R_CHANGE_SEEN] = 0;
}

static void compare(int d, int f, int heads, int kv_heads, int s, int v, int dtype, int piece)
{
    world *w = world_new(d, f, heads, kv_heads, s, v, dtype);
    rt_ops *ref = ops_or_null("ref", 1), *cpu = ops_or_null("cpu", 2);
    record *a = world_run(ref, w, WORLD_ROWS), *b = world_run(cpu, w, piece);
    double bound[R_COUNT];
    world_bounds(w, bound);
    for (int i = 0; i < R_COUNT; i++)
        for (size_t j = 0; (i < R_DOT || i > R_CHANGE) && j < a->count[i]; j++)
            if (!(fabs((double)a->data[i][j] - (double)b->data[i][j]) <= bound[i]))
                fail_msg("result %d (d %d, s %d): element %zu is %.9g, should be %.9g ± %.2g", i,
                         d, s, j, (double)b->data[i][j], (double)a->data[i][j], bound[i]);
    /* Σ|a·b| ≤ (Σ a² + Σ b²) / 2, which for these numbers is below 4 a term */
    for (int i = R_DOT; i <= R_CHANGE; i++) {
        for (size_t j = 0; j < a->count[i]; j += 2) {
            double x, y, terms = (double)WORLD_ROWS * d;
            memcpy(&x, a->data[i] + j, sizeof x);
            memcpy(&y, b->data[i] + j, sizeof y);
            assert_true((i == R_GRAM || fabs(x) > 1) && fabs(x - y) <= terms * 0x1p-53 * 4 * terms);
        }
    }
    record_free(a);
    record_free(b);
    rt_ops_free(&ref);
    rt_ops_free(&cpu);
    world_free(w);
}

static void test_worlds(void **state)
{
    (void)state;
    compare(96, 192, 4, 2, 24, 301, RT_F32, WORLD_ROWS);
    compare(96, 192, 4, 2, 24, 301, RT_BF16, 8);
    compare(40, 83, 3, 1, 10, 61, RT_BF16, 7);
    compare(64, 330, 4, 4, 32, 130, RT_F32, 33);
    compare(48, 17, 2, 1, 2, 16, RT_F32, WORLD_ROWS);
    compare(128, 64, 2, 1, 64, 15, RT_F32, 1);
    compare(41, 47, 5, 1, 18, 400, RT_F32, 16);
    compare(32, 48, 7, 7, 16, 40, RT_F32, 1);
    compare(64, 40, 8, 1, 130, 33, RT_F32, WORLD_ROWS); /* head size beyond the rope chunk */
}

/* Tight bounds, element by element: (n + 1)·u·Σ|terms|, the sum taken by ref. */
static void check_matmul(int rows, int n, int k, int dtype)
{
    rt_ops *ref = ops_or_null("ref", 1), *cpu = ops_or_null("cpu", 2);
    size_t wide = (size_t)n * (size_t)k;
    void *w = world_words(1, wide, dtype);
    float *x = world_random(2, (size_t)(rows * k)), *x_abs = world_random(2, (size_t)(rows * k));
    for (int i = 0; i < rows * k; i++)
        x_abs[i] = fabsf(x_abs[i]);
    float *w_abs = rt_alloc(wide * sizeof(float));
    for (size_t i = 0; i < wide; i++)
        w_abs[i] = fabsf(dtype == RT_F32 ? ((float *)w)[i] : rt_from_bf16(((uint16_t *)w)[i]));
    size_t count = (size_t)(rows * n);
    float *y[3];
    for (int i = 0; i < 3; i++)
        y[i] = rt_alloc(count * sizeof(float));
    rt_packed *p0 = ref->pack(ref, NULL, w, dtype, 0, n, n, k);
    rt_packed *p1 = cpu->pack(cpu, NULL, w, dtype, 0, n / 2, n, k); /* in two pieces */
    const char *half = (const char *)w + (size_t)(n / 2) * (size_t)k * (dtype == RT_F32 ? 4 : 2);
    cpu->pack(cpu, p1, half, dtype, n / 2, n - n / 2, n, k);
    rt_packed *p2 = ref->pack(ref, NULL, w_abs, RT_F32, 0, n, n, k);
    ref->matmul(ref, y[0], n, x, k, p0, rows, false);
    cpu->matmul(cpu, y[1], n, x, k, p1, rows, false);
    ref->matmul(ref, y[2], n, x_abs, k, p2, rows, false);
    for (size_t i = 0; i < count; i++)
        if (!(fabs((double)y[0][i] - (double)y[1][i]) <= (k + 1) * U * (double)y[2][i]))
            fail_msg("%d × %d × %d: element %zu is %.9g, should be %.9g", rows, n, k, i,
                     (double)y[1][i], (double)y[0][i]);
    void *all[] = {w, x, x_abs, w_abs, y[0], y[1], y[2]};
    for (size_t i = 0; i < RT_COUNT(all); i++)
        rt_free(all[i]);
    ref->packed_free(ref, p0);
    cpu->packed_free(cpu, p1);
    ref->packed_free(ref, p2);
    rt_ops_free(&ref);
    rt_ops_free(&cpu);
}

static void test_matmul_shapes(void **state)
{
    (void)state;
    static const int rows[] = {1, 2, 3, 4, 5, 6, 7, 12, 13, 25, 200};
    static const int shapes[][2] = {{1, 1}, {16, 16}, {17, 3}, {31, 33}, {64, 96}, {80, 321},
                                    {130, 700}};
    for (size_t i = 0; i < RT_COUNT(rows); i++)
        for (size_t j = 0; j < RT_COUNT(shapes); j++)
            for (int dtype = RT_F32; dtype <= RT_BF16; dtype++)
                check_matmul(rows[i], shapes[j][0], shapes[j][1], dtype);
}

static void test_open(void **state)
{
    (void)state;
    rt_ops *ops = NULL;
    rt_error err;
    assert_int_equal(rt_ops_open(&ops, "gpu", 1, &err), RT_ERR_USAGE);
    assert_null(ops);
    assert_non_null(strstr(err.message, "gpu"));
    assert_int_equal(rt_ops_open(&ops, "cpu", -1, &err), RT_ERR_USAGE);
    assert_int_equal(rt_ops_open(&ops, "cpu", 0, &err), RT_OK);
    assert_true(ops->threads >= 1);
    float *zero = ops->alloc(ops, 64);
    for (int i = 0; i < 16; i++)
        assert_true(zero[i] == 0);
    ops->free(ops, zero);
    rt_ops_free(&ops);
    assert_null(ops);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_worlds),
        cmocka_unit_test(test_matmul_shapes),
        cmocka_unit_test(test_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
