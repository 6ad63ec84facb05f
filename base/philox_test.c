/* Tests of philox.c: published known answers, moments, permutations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "base/base.h"

/* The three philox4x32-10 vectors of Random123's kat_vectors file. */
static void known_answers_match(void **state)
{
    (void)state;
    static const struct {
        uint64_t index, stream, seed;
        uint32_t out[4];
    } cases[] = {
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x85a308d3243f6a88, 0x0370734413198a2e, 0x299f31d0a4093822,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < RT_COUNT(cases); i++) {
        uint32_t out[4];
        rt_philox(cases[i].seed, cases[i].stream, cases[i].index, out);
        assert_memory_equal(out, cases[i].out, sizeof out);
    }
}

/*
 * 100000 draws are fixed by their seed, so these checks cannot flicker. The bounds are five
 * standard errors of each moment: deviation of the mean = sigma / sqrt(n), and so on.
 */
static void moments_are_right(void **state)
{
    (void)state;
    enum { COUNT = 100000 };
    double root = sqrt(COUNT), sum = 0, normal = 0, square = 0, fourth = 0;
    for (int i = 0; i < COUNT; i++) {
        double u = rt_uniform(1, 2, (uint64_t)i), z = rt_normal(1, 3, (uint64_t)i);
        assert_true(u >= 0 && u < 1);
        sum += u;
        normal += z;
        square += z * z;
        fourth += z * z * z * z;
    }
    assert_true(fabs(sum / COUNT - 0.5) < 5 * sqrt(1.0 / 12) / root);
    assert_true(fabs(normal / COUNT) < 5 / root);
    assert_true(fabs(square / COUNT - 1) < 5 * sqrt(2) / root);
    assert_true(fabs(fourth / COUNT - 3) < 5 * sqrt(96) / root); /* Var z^4 = 105 − 9 */
}

static void below_is_even(void **state)
{
    (void)state;
    enum { COUNT = 70000, BOUND = 7 };
    int seen[BOUND] = {0};
    for (int i = 0; i < COUNT; i++) {
        uint32_t value = rt_below(5, 1, (uint64_t)i, BOUND);
        assert_true(value < BOUND);
        seen[value]++;
    }
    /* Five binomial deviations. */
    double allowed = 5 * sqrt(COUNT * (1.0 / BOUND) * (1 - 1.0 / BOUND));
    for (int i = 0; i < BOUND; i++) {
        assert_true(fabs(seen[i] - (double)COUNT / BOUND) < allowed);
    }
    assert_int_equal(rt_below(5, 1, 9, 1), 0);
    uint32_t words[4];
    rt_philox(5, 1, 9, words);
    unsigned __int128 product =
        (unsigned __int128)((uint64_t)words[0] << 32 | words[1]) * UINT32_MAX;
    assert_int_equal(rt_below(5, 1, 9, UINT32_MAX), (uint32_t)(product >> 64));
}

static void permutations_are_whole(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    uint32_t first[COUNT], again[COUNT], other[COUNT];
    unsigned char seen[COUNT] = {0};
    rt_permutation(1, 2, first, COUNT);
    rt_permutation(1, 2, again, COUNT);
    rt_permutation(1, 3, other, COUNT);
    assert_memory_equal(first, again, sizeof first);
    assert_memory_not_equal(first, other, sizeof first);
    for (int i = 0; i < COUNT; i++) {
        assert_true(first[i] < COUNT);
        assert_int_equal(seen[first[i]]++, 0);
    }
    rt_permutation(1, 2, NULL, 0);
    /* Each of the six orders of three comes up about as often: 6000 draws, five deviations. */
    int orders[27] = {0};
    for (uint64_t i = 0; i < 6000; i++) {
        uint32_t three[3];
        rt_permutation(1, i, three, 3);
        orders[three[0] * 9 + three[1] * 3 + three[2]]++;
    }
    for (int i = 0; i < 27; i++) {
        assert_true(orders[i] == 0 || fabs(orders[i] - 1000.0) < 5 * sqrt(6000 * 5.0 / 36));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers_match),
        cmocka_unit_test(moments_are_right),
        cmocka_unit_test(below_is_even),
        cmocka_unit_test(permutations_are_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
