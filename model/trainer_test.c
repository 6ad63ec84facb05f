/* Training passes: shared prefixes, cuts, recomputation and threads change nothing they should not;
 * the gradient is the derivative of the log-probs. */
#include <math.h>

#include "model/model_testing.h"

enum { COUNT = 9, LENGTH_MAX = 60, ENTRIES_MAX = COUNT * LENGTH_MAX };

/* Sequences with every relation: shared prefixes cut mid-page and on a page's edge, identical ones,
 * one a prefix of another (before and after it), length 1, and one of its own. */
typedef struct batch {
    int32_t ids[COUNT][LENGTH_MAX];
    int32_t lengths[COUNT];
    int32_t row_of[COUNT][LENGTH_MAX];
    int trees[COUNT];
    float g[ENTRIES_MAX], logprob[ENTRIES_MAX];
} batch;

static batch shared_batch(void)
{
    static const int lengths[COUNT] = {50, 50, 60, 20, 50, 1, 33, 37, 33};
    static const int like[COUNT] = {-1, 0, 0, 0, 0, 0, 2, 6, -1};
    static const int keep[COUNT] = {0, 50, 21, 20, 16, 1, 30, 33, 0};
    batch b = {0};
    for (int i = 0; i < COUNT; i++) {
        b.lengths[i] = lengths[i];
        testing_ids(b.ids[i], LENGTH_MAX, 94, 100 + (uint64_t)i);
        if (like[i] >= 0)
            memcpy(b.ids[i], b.ids[like[i]], sizeof(int32_t) * (size_t)keep[i]);
    }
    for (int e = 0; e < ENTRIES_MAX; e++)
        b.g[e] = rt_normal(8, 0, (uint64_t)e);
    return b;
}

static batch plain_batch(void)
{
    batch b = shared_batch();
    for (int i = 0; i < COUNT; i++) {
        b.lengths[i] = RT_MAX(b.lengths[i], 2);
        for (int t = 0; t < LENGTH_MAX; t++)
            b.ids[i][t] = (b.ids[i][t] + i) % 94;
        b.ids[i][0] = i; /* first tokens differ: nothing is shared */
    }
    return b;
}

/* Forward and backward of sequences [from, to) as one micro-batch; returns its rows. */
static int run_part(rt_trainer *trainer, batch *b, int from, int to, float temperature, float *grad)
{
    const int32_t *sequences[COUNT] = {0};
    int32_t *rows[COUNT];
    rt_entry entries[ENTRIES_MAX];
    float g[ENTRIES_MAX], logprob[ENTRIES_MAX];
    int places[ENTRIES_MAX], count = 0;
    for (int i = from; i < to; i++) {
        sequences[i - from] = b->ids[i];
        rows[i - from] = b->row_of[i];
    }
    int planned = rt_trainer_plan(trainer, sequences, b->lengths + from, NULL, b->trees + from,
                                  to - from, rows, NULL);
    assert_true(planned > 0);
    for (int i = from; i < to; i++)
        for (int t = 0; t + 1 < b->lengths[i]; t++) {
            places[count] = i * LENGTH_MAX + t;
            g[count] = b->g[i * LENGTH_MAX + t];
            entries[count++] = (rt_entry){b->row_of[i][t], b->ids[i][t + 1]};
        }
    assert_int_equal(rt_trainer_forward(trainer, entries, count, temperature, true, logprob, NULL),
                     RT_OK);
    for (int e = 0; e < count; e++)
        b->logprob[places[e]] = logprob[e];
    if (grad != NULL)
        assert_int_equal(rt_trainer_backward(trainer, entries, g, count, temperature, grad, NULL),
                         RT_OK);
    return planned;
}

static float *grad_of(testing_net *n, batch *b, bool recompute, int parts, float temperature)
{
    rt_trainer *trainer;
    float *grad = rt_alloc(n->weights->count * sizeof(float));
    assert_int_equal(rt_trainer_new(&trainer, n->net, 512, recompute, NULL), RT_OK);
    for (int p = 0; p < parts; p++)
        run_part(trainer, b, COUNT * p / parts, COUNT * (p + 1) / parts, temperature, grad);
    rt_trainer_free(&trainer);
    return grad;
}

static void expect_close(const testing_net *n, const float *a, const float *b, double bound)
{
    for (int i = 0; i < n->weights->tensors_count; i++) {
        const rt_tensor *t = &n->weights->tensors[i];
        double worst = 0, largest = 0;
        for (size_t j = t->offset; j < t->offset + t->count; j++) {
            worst = fmax(worst, fabs((double)a[j] - (double)b[j]));
            largest = fmax(largest, fabs((double)a[j]));
        }
        assert_true(largest > 0);
        if (!(worst <= bound * largest))
            fail_msg("%s: %g of the largest, bound %g", t->name, worst / largest, bound);
    }
}

/* Two orders of the same sums in float differ by at most about n·2^-24 of the sum of magnitudes,
 * n the longest chain: 300 rows, and 14 matrices of up to 94 terms forward and backward; the
 * magnitudes add up to at most about 4 times the largest element. A shared prefix whose
 * gradient lost one child would be off by about one part in five. */
static const double ORDER_BOUND = (300 + 2 * 14 * 94) * 0x1p-24 * 4;

static void test_shared_equals_plain(void **state)
{
    (void)state;
    for (int tied = 0; tied <= 1; tied++) {
        rt_arch arch = testing_arch(tied == 1);
        testing_net n = testing_open(&arch, RT_F32, "cpu", 1, 3);
        batch b = shared_batch(), apart = b;
        float *together = grad_of(&n, &b, false, 1, 0.7f);
        float *each = grad_of(&n, &apart, false, COUNT, 0.7f);
        assert_memory_equal(b.logprob, apart.logprob, sizeof(b.logprob));
        expect_close(&n, each, together, ORDER_BOUND);
        rt_free(together);
        rt_free(each);
        testing_close(&n);
    }
}

static void test_plan_shares_rows(void **state)
{
    (void)state;
    rt_arch arch = testing_arch(true);
    testing_net n = testing_open(&arch, RT_F32, "cpu", 1, 3);
    rt_trainer *trainer;
    batch b = shared_batch();
    assert_int_equal(rt_trainer_new(&trainer, n.net, 512, true, NULL), RT_OK);
    /* 50, same, 60 − 21, within, 50 − 16, within, 33 − 30 (after 2's), 37 − 33, 33 */
    assert_int_equal(run_part(trainer, &b, 0, COUNT, 1, NULL), 50 + 39 + 34 + 3 + 4 + 33);
    for (int i = 0; i < COUNT; i++)
        for (int t = 1; t < b.lengths[i]; t++)
            assert_true(b.row_of[i][t] > b.row_of[i][t - 1]);
    assert_memory_equal(b.row_of[0], b.row_of[1], 50 * sizeof(int32_t));
    rt_trainer_free(&trainer);
    testing_close(&n);
}

/* Cut at sequence borders without sharing, recomputed or saved, 1 or 2 threads: same bits. With
 * tied embeddings one slice gets two sums a micro-batch, so cutting reorders it (bounded above). */
static void test_same_bits(void **state)
{
    (void)state;
    for (int dtype = RT_F32; dtype <= RT_BF16; dtype++)
        for (int tied = 0; tied <= 1; tied++) {
            rt_arch arch = testing_arch(tied == 1);
            float *want = NULL, want_logprob[ENTRIES_MAX];
            for (int variant = 0; variant < 8; variant++) {
                testing_net n = testing_open(&arch, dtype, "cpu", 1 + variant % 2, 3);
                batch b = plain_batch();
                float *grad = grad_of(&n, &b, variant & 2, variant & 4 ? 4 : 1, 1.3f);
                if (want == NULL) {
                    want = grad;
                    memcpy(want_logprob, b.logprob, sizeof(want_logprob));
                    testing_close(&n);
                    continue;
                }
                size_t from = tied == 1 && variant & 4 ? n.weights->tensors[0].count : 0;
                assert_memory_equal(want_logprob, b.logprob, sizeof(want_logprob));
                assert_memory_equal(want + from, grad + from,
                                    (n.weights->count - from) * sizeof(float));
                expect_close(&n, want, grad, ORDER_BOUND);
                rt_free(grad);
                testing_close(&n);
            }
            rt_free(want);
        }
}

static void test_shared_same_bits_with_recompute_and_threads(void **state)
{
    (void)state;
    rt_arch arch = testing_arch(true);
    float *want = NULL;
    size_t bytes = 0;
    for (int variant = 0; variant < 4; variant++) {
        testing_net n = testing_open(&arch, RT_F32, "cpu", 1 + variant % 2, 3);
        batch b = shared_batch();
        float *grad = grad_of(&n, &b, variant & 2, 1, 1);
        bytes = n.weights->count * sizeof(float);
        if (want == NULL)
            want = grad;
        assert_memory_equal(want, grad, bytes);
        if (want != grad)
            rt_free(grad);
        testing_close(&n);
    }
    rt_free(want);
}

/* Trees of three sequences each, cut between trees or not at all; what lookups add comes last. */
static float *grad_of_trees(testing_net *n, bool recompute, int parts, batch *b)
{
    size_t count = n->weights->count, embedding = 94 * (size_t)n->weights->arch.d;
    float *grad = rt_alloc((count + embedding) * sizeof(float));
    rt_trainer *trainer;
    *b = shared_batch();
    for (int i = 0; i < COUNT; i++)
        b->trees[i] = i / 3;
    assert_int_equal(rt_trainer_new(&trainer, n->net, 512, recompute, NULL), RT_OK);
    rt_trainer_set_lookups(trainer, grad + count);
    for (int p = 0; p < parts; p++)
        run_part(trainer, b, COUNT * p / parts, COUNT * (p + 1) / parts, 0.7f, grad);
    rt_trainer_free(&trainer);
    return grad;
}

static void test_cut_between_trees_same_bits(void **state)
{
    (void)state;
    for (int variant = 0; variant < 4; variant++) {
        rt_arch arch = testing_arch(variant & 1);
        testing_net n = testing_open(&arch, RT_F32, "cpu", variant == 1 || variant == 2 ? 2 : 1, 3);
        size_t bytes = (n.weights->count + 94 * (size_t)arch.d) * sizeof(float);
        batch whole, cut;
        float *want = grad_of_trees(&n, variant & 2, 1, &whole);
        float *grad = grad_of_trees(&n, variant & 2, 3, &cut);
        assert_memory_equal(whole.logprob, cut.logprob, sizeof whole.logprob);
        assert_memory_equal(want, grad, bytes);
        bool looked_up = false;
        for (size_t i = n.weights->count; i < bytes / sizeof(float); i++)
            looked_up = looked_up || grad[i] != 0;
        assert_true(looked_up == arch.tied);
        rt_free(want), rt_free(grad);
        testing_close(&n);
    }
}

/* Entries in any order, several on a row. */
static void test_entries_in_any_order(void **state)
{
    (void)state;
    rt_arch arch = testing_arch(false);
    testing_net n = testing_open(&arch, RT_F32, "cpu", 1, 3);
    rt_trainer *trainer;
    int32_t ids[12], row_of[12];
    testing_ids(ids, 12, 94, 4);
    const int32_t *sequences[1] = {ids}, lengths[1] = {12};
    int32_t *rows[1] = {row_of};
    assert_int_equal(rt_trainer_new(&trainer, n.net, 16, true, NULL), RT_OK);
    assert_int_equal(rt_trainer_plan(trainer, sequences, lengths, NULL, NULL, 1, rows, NULL), 12);
    rt_entry ordered[6] = {{2, 5}, {2, 9}, {3, 0}, {7, 93}, {7, 93}, {11, 1}}, mixed[6];
    static const int order[6] = {3, 0, 5, 1, 4, 2};
    float g[6] = {1, -2, 0.5f, 3, 0.25f, -1}, g_mixed[6], a[6], b[6], single;
    for (int i = 0; i < 6; i++) {
        mixed[i] = ordered[order[i]];
        g_mixed[i] = g[order[i]];
    }
    size_t bytes = n.weights->count * sizeof(float);
    float *x = rt_alloc(bytes), *y = rt_alloc(bytes);
    assert_int_equal(rt_trainer_forward(trainer, ordered, 6, 1, true, a, NULL), RT_OK);
    assert_int_equal(rt_trainer_backward(trainer, ordered, g, 6, 1, x, NULL), RT_OK);
    assert_int_equal(rt_trainer_forward(trainer, mixed, 6, 1, true, b, NULL), RT_OK);
    assert_int_equal(rt_trainer_backward(trainer, mixed, g_mixed, 6, 1, y, NULL), RT_OK);
    assert_memory_equal(x, y, bytes);
    for (int i = 0; i < 6; i++) {
        assert_memory_equal(&a[order[i]], &b[i], sizeof(float));
        assert_int_equal(rt_trainer_forward(trainer, &mixed[i], 1, 1, false, &single, NULL), RT_OK);
        assert_memory_equal(&single, &b[i], sizeof(float));
    }
    rt_free(x);
    rt_free(y);
    rt_trainer_free(&trainer);
    testing_close(&n);
}

/* The sums a forward leaves serve the backward of its own temperature only. */
static void test_backward_at_another_temperature(void **state)
{
    (void)state;
    rt_arch arch = testing_arch(true);
    testing_net n = testing_open(&arch, RT_F32, "cpu", 1, 3);
    rt_trainer *trainer;
    int32_t ids[12], row_of[12], *rows[1] = {row_of};
    testing_ids(ids, 12, 94, 4);
    const int32_t *sequences[1] = {ids}, lengths[1] = {12};
    const rt_entry entries[3] = {{2, 5}, {3, 9}, {11, 1}};
    const float g[3] = {1, -2, 0.5f}, forward_at[3] = {1, 0.7f, 0.7f}, back_at[3] = {0.7f, 0.7f, 1};
    float logprob[3], *grad[3];
    size_t bytes = n.weights->count * sizeof(float);
    assert_int_equal(rt_trainer_new(&trainer, n.net, 16, false, NULL), RT_OK);
    assert_int_equal(rt_trainer_plan(trainer, sequences, lengths, NULL, NULL, 1, rows, NULL), 12);
    for (int i = 0; i < 3; i++) {
        grad[i] = rt_alloc(bytes);
        assert_int_equal(rt_trainer_forward(trainer, entries, 3, forward_at[i], true, logprob, NULL),
                         RT_OK);
        assert_int_equal(rt_trainer_backward(trainer, entries, g, 3, back_at[i], grad[i], NULL),
                         RT_OK);
    }
    assert_memory_equal(grad[0], grad[1], bytes);
    assert_memory_not_equal(grad[1], grad[2], bytes);
    for (int i = 0; i < 3; i++)
        rt_free(grad[i]);
    rt_trainer_free(&trainer);
    testing_close(&n);
}

/* ---- finite differences ---- */

static double objective(testing_net *n, rt_trainer *trainer, batch *b)
{
    double sum = 0;
    rt_net_set(n->net, n->weights);
    run_part(trainer, b, 0, 4, 1, NULL);
    for (int i = 0; i < 4; i++)
        for (int t = 0; t + 1 < b->lengths[i]; t++)
            sum += (double)b->g[i * LENGTH_MAX + t] * (double)b->logprob[i * LENGTH_MAX + t];
    return sum;
}

/* Moves one tensor by step·|w|/|g| along its gradient and compares the slope with |w|·|g|: a wrong
 * part of the gradient makes its own norm larger than the slope along it. Four points:
 * truncation is of order step^4. Rounding: about 130 log-probs of size up to 10, each off by about
 * 10·2^-24·sqrt(30 operations), give 130^.5 · 3e-6 = 4e-5, over the step 2^-6: 18/12 · 64 · 4e-5 =
 * 4e-3, against slopes of at least 0.5 along the gradient: 1 %. */
static void check_tensor(testing_net *n, rt_trainer *trainer, batch *b, const rt_tensor *t,
                         const float *grad)
{
    float *w = (float *)n->weights->data + t->offset;
    float *saved = rt_alloc(t->count * sizeof(float));
    double w_norm = 0, g_norm = 0, f[5];
    memcpy(saved, w, t->count * sizeof(float));
    for (size_t j = 0; j < t->count; j++) {
        w_norm += (double)w[j] * (double)w[j];
        g_norm += (double)grad[t->offset + j] * (double)grad[t->offset + j];
    }
    w_norm = sqrt(w_norm);
    g_norm = sqrt(g_norm);
    double step = 0x1p-6 / fmax(1.0, sqrt(w_norm * g_norm) / 8);
    for (int p = -2; p <= 2; p++) {
        for (size_t j = 0; j < t->count; j++)
            w[j] = saved[j] + (float)(p * step * w_norm / g_norm * (double)grad[t->offset + j]);
        f[p + 2] = objective(n, trainer, b);
    }
    memcpy(w, saved, t->count * sizeof(float));
    double slope = (8 * (f[3] - f[1]) - (f[4] - f[0])) / (12 * step), want = w_norm * g_norm;
    if (!(fabs(slope - want) <= 0.01 * want + 4e-3))
        fail_msg("%s: slope %g, gradient says %g", t->name, slope, want);
    rt_free(saved);
}

static void test_finite_differences(void **state)
{
    (void)state;
    rt_arch arch = testing_arch(true);
    testing_net n = testing_open(&arch, RT_F32, "ref", 1, 3);
    batch b = shared_batch();
    rt_trainer *trainer;
    float *grad = rt_alloc(n.weights->count * sizeof(float));
    assert_int_equal(rt_trainer_new(&trainer, n.net, 512, true, NULL), RT_OK);
    run_part(trainer, &b, 0, 4, 1, grad);
    for (int i = 0; i < n.weights->tensors_count; i++)
        check_tensor(&n, trainer, &b, &n.weights->tensors[i], grad);
    rt_free(grad);
    rt_trainer_free(&trainer);
    testing_close(&n);
}

static void test_errors(void **state)
{
    (void)state;
    rt_arch arch = testing_arch(true);
    testing_net n = testing_open(&arch, RT_F32, "cpu", 1, 3);
    rt_trainer *trainer;
    rt_error err = {0};
    int32_t ids[40] = {0}, row_of[40], bad[2] = {1, 94};
    const int32_t *sequences[2] = {ids, bad};
    int32_t lengths[2] = {40, 2}, *rows[2] = {row_of, row_of};
    rt_entry entry = {0, 0};
    float logprob, g = 1;
    float *grad = rt_alloc(n.weights->count * sizeof(float));
    assert_int_equal(rt_trainer_new(&trainer, n.net, 32, true, NULL), RT_OK);
    assert_int_equal(rt_trainer_forward(trainer, &entry, 1, 1, true, &logprob, &err), RT_ERR_STATE);
    assert_int_equal(rt_trainer_plan(trainer, sequences, lengths, NULL, NULL, 1, rows, &err), RT_ERR_LIMIT);
    lengths[0] = 8;
    assert_int_equal(rt_trainer_plan(trainer, sequences, lengths, NULL, NULL, 2, rows, &err), RT_ERR_INPUT);
    lengths[1] = 0;
    assert_int_equal(rt_trainer_plan(trainer, sequences, lengths, NULL, NULL, 2, rows, &err), RT_ERR_LIMIT);
    assert_int_equal(rt_trainer_plan(trainer, sequences, lengths, NULL, NULL, 1, rows, &err), 8);
    assert_int_equal(rt_trainer_forward(trainer, &entry, 1, 0, true, &logprob, &err), RT_ERR_USAGE);
    assert_int_equal(rt_trainer_forward(trainer, &entry, 1, 1, false, &logprob, &err), RT_OK);
    assert_int_equal(rt_trainer_backward(trainer, &entry, &g, 1, 1, grad, &err), RT_ERR_STATE);
    rt_free(grad);
    rt_trainer_free(&trainer);
    testing_close(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan_shares_rows),
        cmocka_unit_test(test_shared_equals_plain),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_shared_same_bits_with_recompute_and_threads),
        cmocka_unit_test(test_cut_between_trees_same_bits),
        cmocka_unit_test(test_entries_in_any_order),
        cmocka_unit_test(test_backward_at_another_temperature),
        cmocka_unit_test(test_finite_differences),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
