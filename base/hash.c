/* hash: XXH3 as a value of our own, so that no header of ours needs xxhash. */
#include "base/base.h"

#include <xxhash.h>

uint64_t rt_hash64(const void *data, size_t bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, bytes, seed);
}

rt_hash128 rt_hash(const void *data, size_t bytes)
{
    XXH128_hash_t hash = XXH3_128bits(data, bytes);
    return (rt_hash128){.low = hash.low64, .high = hash.high64};
}

void rt_hash_hex(rt_hash128 hash, char out[33])
{
    snprintf(out, 33, "%016llx%016llx", (unsigned long long)hash.high,
             (unsigned long long)hash.low);
}

bool rt_hash_equal(rt_hash128 a, rt_hash128 b)
{
    return a.low == b.low && a.high == b.high;
}
