/* Tests of number.c: all 16-bit values, rounding at every half, intervals, distances, UTF-8. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "base/base.h"

typedef float (*widen)(uint16_t);
typedef uint16_t (*narrow)(float);

/* Every value comes back; between two neighbours the nearer one is taken, at the half the even. */
static void check_format(widen from, narrow to, uint16_t infinity)
{
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        float value = from((uint16_t)bits);
        if (isnan(value)) {
            assert_true(isnan(from(to(value))));
            continue;
        }
        assert_int_equal(to(value), bits);
        if ((bits & 0x7fff) + 1 >= infinity) {
            continue; /* infinity and its neighbour: below */
        }
        double low = value, high = from((uint16_t)(bits + 1));
        float half = (float)((low + high) / 2); /* one more bit: exact in f32 */
        assert_int_equal(to(half), bits & 1 ? bits + 1 : bits);
        assert_int_equal(to(nextafterf(half, (float)low)), bits);
        assert_int_equal(to(nextafterf(half, (float)high)), bits + 1);
    }
    assert_int_equal(to(INFINITY), infinity);
    assert_int_equal(to(-INFINITY), infinity | 0x8000);
    assert_int_equal(to(3.4028235e38f), infinity);
    assert_true(isnan(from(to(NAN))));
    /* A NaN whose payload sits in the low bits only must not become infinity. */
    uint32_t low_bits = 0x7f800001u;
    float low_nan;
    memcpy(&low_nan, &low_bits, sizeof low_nan);
    assert_true(isnan(from(to(low_nan))));
}

static void bf16_is_exact(void **state)
{
    (void)state;
    check_format(rt_from_bf16, rt_to_bf16, 0x7f80);
    assert_true(rt_from_bf16(0x3f80) == 1.0f);
}

static void f16_is_exact(void **state)
{
    (void)state;
    check_format(rt_from_f16, rt_to_f16, 0x7c00);
    assert_true(rt_from_f16(0x3c00) == 1.0f);
    assert_true(rt_from_f16(0x0001) == 0x1p-24f);
    assert_true(rt_from_f16(0x7bff) == 65504.0f);
    assert_int_equal(rt_to_f16(65519.996f), 0x7bff);
    assert_int_equal(rt_to_f16(65520.0f), 0x7c00);
}

/*
 * The bounds are the two roots p of (share − p)² = z² p (1 − p) / n: put back into that equation
 * they must leave nothing but rounding (a few units of 2^-53, 1e-14 is generous).
 */
static void wilson_solves_its_equation(void **state)
{
    (void)state;
    const double z = 1.959963984540054;
    for (int64_t count = 1; count < 200; count += 13) {
        for (int64_t successes = 0; successes <= count; successes++) {
            double low, high, share = (double)successes / (double)count;
            rt_wilson(successes, count, &low, &high);
            assert_true(low >= 0 && low <= share && share <= high && high <= 1);
            double ends[2] = {low, high};
            for (int i = 0; i < 2; i++) {
                double p = ends[i], left = (share - p) * (share - p);
                assert_true(fabs(left - z * z * p * (1 - p) / (double)count) < 1e-14);
            }
        }
    }
    double low, high;
    rt_wilson(0, 0, &low, &high);
    assert_true(low == 0 && high == 1);
}

static void distances_are_right(void **state)
{
    (void)state;
    assert_int_equal(rt_edit_distance("", ""), 0);
    assert_int_equal(rt_edit_distance("abc", ""), 3);
    assert_int_equal(rt_edit_distance("", "abcd"), 4);
    assert_int_equal(rt_edit_distance("kitten", "sitting"), 3);
    assert_int_equal(rt_edit_distance("learner.lr", "learner.lr"), 0);
    assert_int_equal(rt_edit_distance("flaw", "lawn"), 2);
    char a[100], b[100];
    memset(a, 'x', 99);
    memset(b, 'y', 99);
    a[99] = b[99] = '\0';
    assert_int_equal(rt_edit_distance(a, b), 63);
}

static void utf8_stops_where_it_must(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t valid;
    } cases[] = {
        {"", 0},
        {"abc", 3},
        {"\xc3\xa9", 2},
        {"a\xe2\x82\xac", 4},
        {"\xf0\x9f\x98\x80", 4},
        {"\xf4\x8f\xbf\xbf", 4},
        {"\xed\x9f\xbf", 3},
        {"a\xc3", 1},             /* cut */
        {"a\xe2\x82", 1},         /* cut */
        {"a\xf0\x9f\x98", 1},     /* cut */
        {"a\x80", 1},             /* continuation alone */
        {"a\xc0\x80", 1},         /* overlong */
        {"a\xc1\xbf", 1},         /* overlong */
        {"a\xe0\x9f\xbf", 1},     /* overlong */
        {"a\xf0\x8f\xbf\xbf", 1}, /* overlong */
        {"a\xed\xa0\x80", 1},     /* surrogate */
        {"a\xf4\x90\x80\x80", 1}, /* past U+10FFFF */
        {"a\xf5\x80\x80\x80", 1},
        {"a\xff", 1},
        {"a\xc3z", 1},
    };
    for (size_t i = 0; i < RT_COUNT(cases); i++) {
        assert_int_equal(rt_utf8_valid(cases[i].text, strlen(cases[i].text)), cases[i].valid);
    }
    assert_int_equal(rt_utf8_valid("a\0b", 3), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bf16_is_exact),
        cmocka_unit_test(f16_is_exact),
        cmocka_unit_test(wilson_solves_its_equation),
        cmocka_unit_test(distances_are_right),
        cmocka_unit_test(utf8_stops_where_it_must),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
