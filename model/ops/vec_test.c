/* The exponential and logarithm of the kernels against the double functions of libm. */
#define RT_ISA_scalar
#include "model/ops/vec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static float exp1(float x)
{
    return vexp(vset1(x)).f[0];
}

/* Distance in units of the last place of the right answer; denormals count in steps of 2^-149. */
static double ulps(float got, double right)
{
    int exponent;
    frexp(right, &exponent);
    return fabs((double)got - right) / ldexp(1, exponent < -125 ? -149 : exponent - 24);
}

static void test_exp(void **state)
{
    (void)state;
    double worst = 0;
    for (int i = -1030000; i < 887000; i++) {
        float x = (float)i * 1.0001e-4f;
        double error = ulps(exp1(x), exp((double)x));
        worst = error > worst ? error : worst;
    }
    assert_true(worst <= 2);
    assert_true(exp1(0) == 1 && exp1(-INFINITY) == 0 && exp1(-1000) == 0);
    assert_true(isinf(exp1(100)) && isinf(exp1(INFINITY)) && isnan(exp1(NAN)));
}

static void test_exp_below(void **state)
{
    (void)state;
    for (int i = -1100000; i < 660000; i++) {
        float x = (float)i * 1.0001e-4f;
        float one = exp1(x), other = vexp_below(vset1(x)).f[0];
        assert_memory_equal(&one, &other, sizeof one);
    }
    assert_true(vexp_below(vset1(-INFINITY)).f[0] == 0 && isnan(vexp_below(vset1(NAN)).f[0]));
}

static void test_log(void **state)
{
    (void)state;
    double worst = 0;
    for (double x = 1; x < 1e9; x *= 1.00001) {
        float rounded = (float)x;
        if (rounded == 1)
            continue;
        double error = ulps(flog(rounded), log((double)rounded));
        worst = error > worst ? error : worst;
    }
    assert_true(worst <= 2);
    assert_true(flog(1) == 0 && isinf(flog(INFINITY)) && isnan(flog(NAN)));
    assert_true(ulps(flog(0.3f), log((double)0.3f)) <= 2);
}

static void test_tree(void **state)
{
    (void)state;
    float values[16]; /* powers whose sum tells the order of additions apart */
    for (int i = 0; i < 16; i++)
        values[i] = i == 0 ? 0x1p24f : i == 8 ? -0x1p24f : 0x1p-10f;
    assert_true(vsum(vload(values)) == 14 * 0x1p-10f); /* 0 meets 8 first */
    assert_true(vsum(vloadn(values, 8)) == 0x1p24f);   /* the small ones are lost here */
    assert_true(vmaxall(vload(values)) == 0x1p24f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp),
        cmocka_unit_test(test_exp_below),
        cmocka_unit_test(test_log),
        cmocka_unit_test(test_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
