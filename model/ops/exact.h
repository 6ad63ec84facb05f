/*
 * exact: functions of one number whose bits every backend must share, so they stand here once. Straight-line
 * code of IEEE operations: nothing that a compiler may round in another way. Whoever includes this says how
 * a function is declared: RT_EXACT (vec.h for the cpu kernels, cuda/cuda.h for those of a GPU).
 */
#ifndef RT_OPS_EXACT_H
#define RT_OPS_EXACT_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* cos and sin of an angle ≥ 0 in double, straight-line so that loops over it vectorize: the
 * angle minus the nearest multiple of π/2, then Taylor polynomials on |r| ≤ π/4 (error below
 * 1e-15), then the quadrant. Exact enough for angles below 2^30. */
RT_EXACT void cos_sin(double angle, double *c, double *s)
{
    double shifted = fma(angle, 0.63661977236758138, 6755399441055744.0);
    double n = shifted - 6755399441055744.0;
    double r = fma(n, -1.5707963267948966, angle);
    r = fma(n, -6.123233995736766e-17, r);
    double z = r * r, a = -1.0 / 1307674368000.0, b = -1.0 / 87178291200.0;
    a = fma(a, z, 1.0 / 6227020800.0);
    a = fma(a, z, -1.0 / 39916800.0);
    a = fma(a, z, 1.0 / 362880.0);
    a = fma(a, z, -1.0 / 5040.0);
    a = fma(a, z, 1.0 / 120.0);
    a = fma(a, z, -1.0 / 6.0);
    b = fma(b, z, 1.0 / 479001600.0);
    b = fma(b, z, -1.0 / 3628800.0);
    b = fma(b, z, 1.0 / 40320.0);
    b = fma(b, z, -1.0 / 720.0);
    b = fma(b, z, 1.0 / 24.0);
    b = fma(b, z, -0.5);
    double sine = fma(a * z, r, r), cosine = fma(b, z, 1.0);
    uint64_t quadrant;
    memcpy(&quadrant, &shifted, sizeof quadrant);
    bool odd = quadrant & 1;
    double x = odd ? sine : cosine, y = odd ? cosine : sine;
    *c = (quadrant + 1) & 2 ? -x : x;
    *s = quadrant & 2 ? -y : y;
}

/* log x for a positive normal x (NaN and infinity pass through): x = 2^e·(1+f),
 * log(1+f) = f − f²/2 + f³·p(f), p fitted by Chebyshev nodes on [√½−1, √2−1]. */
RT_EXACT float flog(float x)
{
    static const float p[] = {0.105308644f, -0.10646192f, 0.110377833f, -0.124507435f,
                              0.142865241f, -0.166680008f, 0.200000107f, -0.249999896f,
                              0.333333343f};
    if (!(x < INFINITY))
        return x;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t shifted = bits - 0x3f3504f3u; /* bits of √½: mantissas split there */
    int32_t exponent = (int32_t)shifted >> 23;
    bits = (shifted & 0x007fffffu) + 0x3f3504f3u;
    float m;
    memcpy(&m, &bits, sizeof m);
    float f = m - 1, e = (float)exponent, q = -0.0620150007f;
    for (int i = 0; i < 9; i++)
        q = fmaf(q, f, p[i]);
    float square = f * f;
    float low = fmaf(e, 1.42860677e-06f, fmaf(square * f, q, -0.5f * square));
    return fmaf(e, 0.693145752f, f + low);
}

#endif
