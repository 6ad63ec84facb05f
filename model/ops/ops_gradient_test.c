/*
 * Every gradient of ref against central differences of its own forward. The loss is Σ c·y with
 * c, y of size about 1, summed in double from float outputs. Error of a difference quotient:
 * rounding, (number of outputs that one input reaches)·2^-24·|c·y| / step, plus step²·|f'''|/6.
 * With step 2^-7, at most 150 such outputs of size below 2 and third derivatives of the loss below
 * 60 that is 2.3e-3 + 6.1e-4; TOLERANCE rounds their sum up. Gradients themselves are of size 1.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "model/ops/ops_world.h"

#define STEP 0x1p-7f
#define TOLERANCE 3e-3

/* loss(context) recomputes the forward from the inputs and returns Σ c·y. */
typedef double loss_function(void *context);

static void check(const char *what, float *input, size_t count, const float *grad,
                  loss_function *loss, void *context)
{
    double largest = 0;
    for (size_t i = 0; i < count; i++) {
        float kept = input[i];
        input[i] = kept + STEP;
        double span = input[i], up = loss(context);
        input[i] = kept - STEP;
        span -= input[i]; /* the step that floats really took */
        double down = loss(context), slope = (up - down) / span;
        input[i] = kept;
        largest = fmax(largest, fabs(slope));
        if (!(fabs(slope - (double)grad[i]) <= TOLERANCE))
            fail_msg("%s: element %zu is %.6g, differences say %.6g", what, i, (double)grad[i],
                     slope);
    }
    assert_true(largest > 10 * TOLERANCE); /* else the comparison would say nothing */
}

static double weighted(const float *c, const float *y, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)c[i] * y[i];
    return sum;
}

enum { ROWS = 5, N = 9, K = 7, V = 11 };

typedef struct fixture {
    rt_ops *ops;
    float *x, *w, *c, *y, *rstd;
    int32_t target[ROWS], first[ROWS + 1];
} fixture;

static fixture fixture_new(size_t x, size_t w, size_t y)
{
    fixture f = {.ops = ops_or_null("ref", 1), .x = world_random(1, x), .w = world_random(2, w),
                 .c = world_random(3, y), .y = rt_alloc(y * 4), .rstd = rt_alloc(ROWS * 4)};
    for (int r = 0; r < ROWS; r++) {
        f.target[r] = (r * 7 + 2) % V;
        f.first[r + 1] = r + 1;
    }
    return f;
}

static void fixture_free(fixture *f)
{
    void *all[] = {f->x, f->w, f->c, f->y, f->rstd};
    for (size_t i = 0; i < RT_COUNT(all); i++)
        rt_free(all[i]);
    rt_ops_free(&f->ops);
}

static double matmul_loss(void *context)
{
    fixture *f = context;
    rt_packed *p = f->ops->pack(f->ops, NULL, f->w, RT_F32, 0, N, N, K);
    f->ops->matmul(f->ops, f->y, N, f->x, K, p, ROWS, false);
    f->ops->packed_free(f->ops, p);
    return weighted(f->c, f->y, ROWS * N);
}

static void test_matmul(void **state)
{
    (void)state;
    fixture f = fixture_new(ROWS * K, N * K, ROWS * N);
    float dx[ROWS * K] = {0}, dw[N * K] = {0};
    rt_packed *p = f.ops->pack(f.ops, NULL, f.w, RT_F32, 0, N, N, K);
    f.ops->matmul_dx(f.ops, dx, K, f.c, N, p, ROWS, false);
    f.ops->matmul_dw(f.ops, dw, f.c, N, f.x, K, ROWS, N, K);
    f.ops->packed_free(f.ops, p);
    check("matmul_dx", f.x, ROWS * K, dx, matmul_loss, &f);
    check("matmul_dw", f.w, N * K, dw, matmul_loss, &f);
    fixture_free(&f);
}

static double rmsnorm_loss(void *context)
{
    fixture *f = context;
    f->ops->rmsnorm(f->ops, f->y, f->rstd, f->x, f->w, ROWS, K, 1e-5f);
    return weighted(f->c, f->y, ROWS * K);
}

static void test_rmsnorm(void **state)
{
    (void)state;
    fixture f = fixture_new(ROWS * K, K, ROWS * K);
    float dx[ROWS * K] = {0}, dw[K] = {0};
    rmsnorm_loss(&f);
    f.ops->rmsnorm_backward(f.ops, dx, dw, f.c, f.x, f.rstd, f.w, ROWS, K);
    check("rmsnorm_backward dx", f.x, ROWS * K, dx, rmsnorm_loss, &f);
    check("rmsnorm_backward dw", f.w, K, dw, rmsnorm_loss, &f);
    fixture_free(&f);
}

static double swiglu_loss(void *context)
{
    fixture *f = context;
    f->ops->swiglu(f->ops, f->y, f->x, ROWS, N);
    return weighted(f->c, f->y, ROWS * N);
}

static void test_swiglu(void **state)
{
    (void)state;
    fixture f = fixture_new(ROWS * 2 * N, 1, ROWS * N);
    float dx[ROWS * 2 * N];
    f.ops->swiglu_backward(f.ops, dx, NULL, f.c, f.x, ROWS, N);
    check("swiglu_backward", f.x, ROWS * 2 * N, dx, swiglu_loss, &f);
    fixture_free(&f);
}

static double logprob_loss(void *context)
{
    fixture *f = context;
    f->ops->logprob(f->ops, f->y, f->rstd, f->x, f->target, ROWS, V, 0.7f);
    return weighted(f->c, f->y, ROWS);
}

static void test_logprob(void **state)
{
    (void)state;
    fixture f = fixture_new(ROWS * V, 1, ROWS);
    float dx[ROWS * V];
    logprob_loss(&f);
    memcpy(dx, f.x, sizeof dx);
    f.ops->logprob_backward(f.ops, dx, f.rstd, f.first, f.target, f.c, ROWS, V, 0.7f);
    check("logprob_backward", f.x, ROWS * V, dx, logprob_loss, &f);
    fixture_free(&f);
}

/* Attention of 20 tokens and a second path that copies the first 3 slots of page 0. */
enum { S = 4, H = 4, KH = 2, T = 24, MAIN = 18, FORK = 3, PAGES = 4, Q = H * S, KV = KH * S };

typedef struct attention {
    rt_ops *ops;
    float *q, *k, *v, *c, *out, *stats, *pool, *frequencies;
    int32_t pages[2][2];
    rt_row at[T];
} attention;

static rt_kv_view view_of(attention *a, float *pool)
{
    (void)a;
    return (rt_kv_view){pool, PAGES, 0, KH, S};
}

/* rope of q and k, store, copy, attention: the chain a model runs. */
static double attention_loss(void *context)
{
    attention *a = context;
    rt_kv_view kv = view_of(a, a->pool);
    rt_rope rope = {S, a->frequencies};
    float q[T * Q], k[T * KV];
    memcpy(q, a->q, sizeof q);
    memcpy(k, a->k, sizeof k);
    a->ops->rope(a->ops, q, Q, H, &rope, a->at, T, 1);
    a->ops->rope(a->ops, k, KV, KH, &rope, a->at, T, 1);
    a->ops->kv_store(a->ops, &kv, k, a->v, KV, a->at, MAIN);
    a->ops->kv_copy(a->ops, &kv, 2, 0, FORK, 1);
    a->ops->kv_store(a->ops, &kv, k + MAIN * KV, a->v + MAIN * KV, KV, a->at + MAIN, T - MAIN);
    a->ops->attention(a->ops, a->out, Q, a->stats, q, Q, H, &kv, a->at, T);
    return weighted(a->c, a->out, T * Q);
}

static void attention_gradient(attention *a, float *dq, float *dk, float *dv)
{
    rt_kv_view kv = view_of(a, a->pool);
    rt_kv_view dkv = view_of(a, rt_alloc(PAGES * KH * 32 * S * sizeof(float)));
    rt_rope rope = {S, a->frequencies};
    float q[T * Q];
    attention_loss(a);
    memcpy(q, a->q, sizeof q);
    a->ops->rope(a->ops, q, Q, H, &rope, a->at, T, 1);
    a->ops->attention_backward(a->ops, dq, Q, &dkv, a->c, Q, a->out, Q, a->stats, q, Q, H, &kv,
                               a->at, T);
    a->ops->kv_copy_backward(a->ops, &dkv, 0, 2, FORK);
    a->ops->kv_gather(a->ops, &dkv, dk, dv, KV, a->at, T);
    a->ops->rope(a->ops, dq, Q, H, &rope, a->at, T, -1);
    a->ops->rope(a->ops, dk, KV, KH, &rope, a->at, T, -1);
    rt_free(dkv.pool);
}

static void test_attention(void **state)
{
    (void)state;
    static const char *const devices[] = {"ref", "cpu"};
    static const float frequencies[S / 2] = {1, 0.1f};
    for (size_t i = 0; i < RT_COUNT(devices); i++) {
        attention a = {.ops = ops_or_null(devices[i], 1), .q = world_random(1, T * Q),
                       .k = world_random(2, T * KV), .v = world_random(3, T * KV),
                       .c = world_random(4, T * Q), .out = rt_alloc(T * Q * 4),
                       .stats = rt_alloc(T * H * 8), .pool = rt_alloc(PAGES * KH * 32 * S * 4),
                       .frequencies = world_random(5, S / 2), .pages = {{0, 1}, {2, 3}}};
        memcpy(a.frequencies, frequencies, sizeof frequencies);
        for (int r = 0; r < T; r++)
            a.at[r] = (rt_row){r < MAIN ? r : r - MAIN + FORK, a.pages[r >= MAIN]};
        float dq[T * Q], dk[T * KV], dv[T * KV];
        attention_gradient(&a, dq, dk, dv);
        check("attention dq", a.q, T * Q, dq, attention_loss, &a);
        check("attention dk", a.k, T * KV, dk, attention_loss, &a);
        check("attention dv", a.v, T * KV, dv, attention_loss, &a);
        void *all[] = {a.q, a.k, a.v, a.c, a.out, a.stats, a.pool, a.frequencies};
        for (size_t j = 0; j < RT_COUNT(all); j++)
            rt_free(all[j]);
        rt_ops_free(&a.ops);
    }
}

/* One AdamW step worked by hand: m̂ = g, v̂ = g² at step 1, so w moves by lr·(sign g + decay·w). */
static void test_adamw(void **state)
{
    (void)state;
    static const char *const devices[] = {"ref", "cpu"};
    for (size_t i = 0; i < RT_COUNT(devices); i++) {
        rt_ops *ops = ops_or_null(devices[i], 1);
        float w[2] = {1, -2}, m[2] = {0}, v[2] = {0}, g[2] = {6, -0.5f};
        ops->adamw(ops, w, m, v, g, 2, 0.5f, 0.125f, 0.75f, 0.9375f, 0, 0.5f, 0.25f, 0.0625f);
        assert_true(m[0] == 0.75f && v[0] == 0.5625f && m[1] == -0.0625f);
        assert_true(w[0] == 1 - 0.125f * (1 + 0.5f) && w[1] == -2 + 0.125f * (1 + 0.5f * 2));
        rt_ops_free(&ops);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matmul),  cmocka_unit_test(test_rmsnorm),
        cmocka_unit_test(test_swiglu),  cmocka_unit_test(test_logprob),
        cmocka_unit_test(test_attention), cmocka_unit_test(test_adamw),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
