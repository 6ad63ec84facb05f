/*
 * philox: counter-based random numbers. Words 0 and 1 of the counter are the index (low word
 * first), words 2 and 3 the stream, so consecutive indices are consecutive counters.
 * Every function below consumes the block at its own (stream, index): two uses that must be
 * independent need different streams or indices.
 */
#include "base/base.h"

#include <math.h>

static void round_once(uint32_t counter[4], const uint32_t key[2])
{
    uint64_t a = (uint64_t)0xD2511F53u * counter[0];
    uint64_t b = (uint64_t)0xCD9E8D57u * counter[2];
    uint32_t next0 = (uint32_t)(b >> 32) ^ counter[1] ^ key[0];
    uint32_t next2 = (uint32_t)(a >> 32) ^ counter[3] ^ key[1];
    counter[0] = next0;
    counter[1] = (uint32_t)b;
    counter[2] = next2;
    counter[3] = (uint32_t)a;
}

void rt_philox(uint64_t seed, uint64_t stream, uint64_t index, uint32_t out[4])
{
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)stream,
                           (uint32_t)(stream >> 32)};
    for (int i = 0; i < 10; i++) {
        round_once(counter, key);
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
    for (int i = 0; i < 4; i++) {
        out[i] = counter[i];
    }
}

/* 53 bits of two words, in [0, 1). */
static double unit(uint32_t high, uint32_t low)
{
    return ((double)(high >> 5) * 67108864.0 + (double)(low >> 6)) * 0x1p-53;
}

double rt_uniform(uint64_t seed, uint64_t stream, uint64_t index)
{
    uint32_t words[4];
    rt_philox(seed, stream, index, words);
    return unit(words[0], words[1]);
}

float rt_normal(uint64_t seed, uint64_t stream, uint64_t index)
{
    uint32_t words[4];
    rt_philox(seed, stream, index, words);
    /* 1 − u lies in (0, 1], where the logarithm is finite. */
    double radius = sqrt(-2.0 * log(1.0 - unit(words[0], words[1])));
    return (float)(radius * cos(6.283185307179586476925 * unit(words[2], words[3])));
}

/*
 * The high word of a 64-bit fraction times the bound (Lemire 2019 without the rejection): a
 * value's share differs from 1/bound by less than 2^-64, relatively less than 2^-32. One block
 * for every call is worth more here than the last bit, for it keeps indices apart.
 */
uint32_t rt_below(uint64_t seed, uint64_t stream, uint64_t index, uint32_t bound)
{
    RT_ASSERT(bound > 0);
    uint32_t words[4];
    rt_philox(seed, stream, index, words);
    uint64_t low = (uint64_t)words[1] * bound >> 32;
    return (uint32_t)(((uint64_t)words[0] * bound + low) >> 32);
}

void rt_permutation(uint64_t seed, uint64_t stream, uint32_t *order, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        order[i] = i;
    }
    for (uint32_t i = count; i > 1; i--) {
        uint32_t other = rt_below(seed, stream, i, i);
        uint32_t value = order[i - 1];
        order[i - 1] = order[other];
        order[other] = value;
    }
}
