/*
 * vf: 16 floats, in one AVX-512 register, two AVX2 registers or an array, chosen by the macro
 * RT_ISA_avx512, RT_ISA_avx2 or RT_ISA_scalar. Every operation rounds the same way in all three,
 * so a kernel written with vf gives the same bits on every instruction set.
 *
 * Maximum and minimum follow the x86 rule: when either side is not a number, the second wins.
 * Included by cpu_kernels.c only.
 */
#ifndef RT_OPS_VEC_H
#define RT_OPS_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Undefined-behaviour checks are left out of these few lines, which are expanded thousands of
 * times: with them a checked build takes minutes. Address checks stay. Plain C, 16 lines for each of
 * these operations, is not expanded at all in a checked build, for the same reason. */
#if defined(RT_ISA_scalar) && defined(__SANITIZE_ADDRESS__)
#define RT_INLINE static __attribute__((noinline, unused))
#elif defined(RT_ISA_scalar)
#define RT_INLINE static inline __attribute__((unused))
#else
#define RT_INLINE \
    static inline __attribute__((always_inline, unused, no_sanitize("undefined")))
#endif

#if defined(RT_ISA_avx512) || defined(RT_ISA_avx2)
#include <immintrin.h>
#endif

#if defined(RT_ISA_avx512)

typedef __m512 vf;

RT_INLINE __mmask16 lanes(int n) { return (__mmask16)((1u << n) - 1); }
RT_INLINE vf vload(const float *p) { return _mm512_loadu_ps(p); }
RT_INLINE void vstore(float *p, vf a) { _mm512_storeu_ps(p, a); }
RT_INLINE vf vloadn(const float *p, int n) { return _mm512_maskz_loadu_ps(lanes(n), p); }
RT_INLINE void vstoren(float *p, vf a, int n) { _mm512_mask_storeu_ps(p, lanes(n), a); }
RT_INLINE vf vset1(float x) { return _mm512_set1_ps(x); }
RT_INLINE vf vadd(vf a, vf b) { return _mm512_add_ps(a, b); }
RT_INLINE vf vsub(vf a, vf b) { return _mm512_sub_ps(a, b); }
RT_INLINE vf vmul(vf a, vf b) { return _mm512_mul_ps(a, b); }
RT_INLINE vf vdiv(vf a, vf b) { return _mm512_div_ps(a, b); }
RT_INLINE vf vsqrt(vf a) { return _mm512_sqrt_ps(a); }
RT_INLINE vf vmax(vf a, vf b) { return _mm512_max_ps(a, b); }
RT_INLINE vf vmin(vf a, vf b) { return _mm512_min_ps(a, b); }
RT_INLINE vf vfma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
RT_INLINE vf vkeep(vf a, vf other, int n) { return _mm512_mask_mov_ps(other, lanes(n), a); }
RT_INLINE vf vload_bf16(const uint16_t *p)
{
    __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
}
/* a·2^n where the integer n sits in the low bits of t + 1.5·2^23; two steps reach denormals. */
RT_INLINE vf vpow2(vf a, vf t)
{
    __m512i n = _mm512_sub_epi32(_mm512_castps_si512(t), _mm512_set1_epi32(0x4b400000));
    __m512i low = _mm512_srai_epi32(n, 1), high = _mm512_sub_epi32(n, low);
    __m512i bias = _mm512_set1_epi32(127);
    vf x = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(low, bias), 23));
    vf y = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(high, bias), 23));
    return vmul(vmul(a, x), y);
}
/* The same for −150 ≤ n < 96 in fewer steps. */
RT_INLINE vf vpow2_below(vf a, vf t)
{
    __m512i shifted = _mm512_slli_epi32(_mm512_castps_si512(t), 23);
    vf x = _mm512_castsi512_ps(_mm512_add_epi32(shifted, _mm512_set1_epi32(159 << 23)));
    return vmul(vmul(a, x), vset1(0x1p-32f));
}
RT_INLINE __m256 low_half(vf a) { return _mm512_castps512_ps256(a); }
RT_INLINE __m256 high_half(vf a) { return _mm512_extractf32x8_ps(a, 1); }

#elif defined(RT_ISA_avx2)

typedef struct vf {
    __m256 a, b;
} vf;

#define VF_BOTH(x, y) ((vf){(x), (y)})

RT_INLINE __m256i lane_mask(int n, int from)
{
    static const int32_t edge[32] = {-1, -1, -1, -1, -1, -1, -1, -1,
                                     -1, -1, -1, -1, -1, -1, -1, -1}; /* then 16 zeros */
    return _mm256_loadu_si256((const __m256i *)(const void *)(edge + 16 - n + from));
}
RT_INLINE vf vload(const float *p) { return VF_BOTH(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)); }
RT_INLINE void vstore(float *p, vf a)
{
    _mm256_storeu_ps(p, a.a);
    _mm256_storeu_ps(p + 8, a.b);
}
RT_INLINE vf vloadn(const float *p, int n)
{
    return VF_BOTH(_mm256_maskload_ps(p, lane_mask(n, 0)),
                   _mm256_maskload_ps(p + 8, lane_mask(n, 8)));
}
/* By halves: masked stores of AVX2 are slow on several processors. */
RT_INLINE void vstoren(float *p, vf a, int n)
{
    __m256 eight = a.a;
    if (n >= 8) {
        _mm256_storeu_ps(p, a.a);
        eight = a.b;
        p += 8;
    }
    __m128 four = _mm256_castps256_ps128(eight);
    if (n & 4) {
        _mm_storeu_ps(p, four);
        four = _mm256_extractf128_ps(eight, 1);
        p += 4;
    }
    if (n & 2) {
        _mm_storel_pi((__m64 *)(void *)p, four);
        four = _mm_movehl_ps(four, four);
        p += 2;
    }
    if (n & 1)
        _mm_store_ss(p, four);
}
RT_INLINE vf vset1(float x) { return VF_BOTH(_mm256_set1_ps(x), _mm256_set1_ps(x)); }
RT_INLINE vf vadd(vf x, vf y)
{
    return VF_BOTH(_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b));
}
RT_INLINE vf vsub(vf x, vf y)
{
    return VF_BOTH(_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b));
}
RT_INLINE vf vmul(vf x, vf y)
{
    return VF_BOTH(_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b));
}
RT_INLINE vf vdiv(vf x, vf y)
{
    return VF_BOTH(_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b));
}
RT_INLINE vf vsqrt(vf x) { return VF_BOTH(_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)); }
RT_INLINE vf vmax(vf x, vf y)
{
    return VF_BOTH(_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b));
}
RT_INLINE vf vmin(vf x, vf y)
{
    return VF_BOTH(_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b));
}
RT_INLINE vf vfma(vf x, vf y, vf z)
{
    return VF_BOTH(_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b));
}
RT_INLINE vf vkeep(vf x, vf other, int n)
{
    return VF_BOTH(_mm256_blendv_ps(other.a, x.a, _mm256_castsi256_ps(lane_mask(n, 0))),
                   _mm256_blendv_ps(other.b, x.b, _mm256_castsi256_ps(lane_mask(n, 8))));
}
RT_INLINE __m256 widen8(const uint16_t *p)
{
    __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
}
RT_INLINE vf vload_bf16(const uint16_t *p) { return VF_BOTH(widen8(p), widen8(p + 8)); }
RT_INLINE __m256 pow2_8(__m256 a, __m256 t)
{
    __m256i n = _mm256_sub_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(0x4b400000));
    __m256i low = _mm256_srai_epi32(n, 1), high = _mm256_sub_epi32(n, low);
    __m256i bias = _mm256_set1_epi32(127);
    __m256 x = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(low, bias), 23));
    __m256 y = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(high, bias), 23));
    return _mm256_mul_ps(_mm256_mul_ps(a, x), y);
}
/* a·2^n where the integer n sits in the low bits of t + 1.5·2^23; two steps reach denormals. */
RT_INLINE vf vpow2(vf a, vf t) { return VF_BOTH(pow2_8(a.a, t.a), pow2_8(a.b, t.b)); }
RT_INLINE __m256 pow2_below_8(__m256 a, __m256 t)
{
    __m256i shifted = _mm256_slli_epi32(_mm256_castps_si256(t), 23);
    __m256i x = _mm256_add_epi32(shifted, _mm256_set1_epi32(159 << 23));
    return _mm256_mul_ps(_mm256_mul_ps(a, _mm256_castsi256_ps(x)), _mm256_set1_ps(0x1p-32f));
}
/* The same for −150 ≤ n < 96 in fewer steps. */
RT_INLINE vf vpow2_below(vf a, vf t)
{
    return VF_BOTH(pow2_below_8(a.a, t.a), pow2_below_8(a.b, t.b));
}
RT_INLINE __m256 low_half(vf a) { return a.a; }
RT_INLINE __m256 high_half(vf a) { return a.b; }

#else

typedef struct vf {
    float f[16];
} vf;

/* Kept as a loop: unrolled, the many copies would take long to compile and gain little. */
#define VF_EACH(expression)          \
    vf result;                       \
    _Pragma("GCC unroll 1")          \
    for (int i = 0; i < 16; i++)     \
        result.f[i] = (expression);  \
    return result

RT_INLINE uint32_t float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
RT_INLINE float bits_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
RT_INLINE vf vload(const float *p) { VF_EACH(p[i]); }
RT_INLINE void vstore(float *p, vf a) { memcpy(p, a.f, sizeof a.f); }
RT_INLINE vf vloadn(const float *p, int n) { VF_EACH(i < n ? p[i] : 0); }
RT_INLINE void vstoren(float *p, vf a, int n) { memcpy(p, a.f, (size_t)n * sizeof(float)); }
RT_INLINE vf vset1(float x) { VF_EACH(x); }
RT_INLINE vf vadd(vf a, vf b) { VF_EACH(a.f[i] + b.f[i]); }
RT_INLINE vf vsub(vf a, vf b) { VF_EACH(a.f[i] - b.f[i]); }
RT_INLINE vf vmul(vf a, vf b) { VF_EACH(a.f[i] * b.f[i]); }
RT_INLINE vf vdiv(vf a, vf b) { VF_EACH(a.f[i] / b.f[i]); }
RT_INLINE vf vsqrt(vf a) { VF_EACH(sqrtf(a.f[i])); }
RT_INLINE vf vmax(vf a, vf b) { VF_EACH(a.f[i] > b.f[i] ? a.f[i] : b.f[i]); }
RT_INLINE vf vmin(vf a, vf b) { VF_EACH(a.f[i] < b.f[i] ? a.f[i] : b.f[i]); }
RT_INLINE vf vfma(vf a, vf b, vf c) { VF_EACH(fmaf(a.f[i], b.f[i], c.f[i])); }
RT_INLINE vf vkeep(vf a, vf other, int n) { VF_EACH(i < n ? a.f[i] : other.f[i]); }
RT_INLINE vf vload_bf16(const uint16_t *p) { VF_EACH(bits_float((uint32_t)p[i] << 16)); }
RT_INLINE float pow2_1(float a, float t)
{
    int32_t n = (int32_t)(float_bits(t) - 0x4b400000u);
    int32_t low = n >> 1, high = n - low;
    return a * bits_float((uint32_t)(low + 127) << 23) * bits_float((uint32_t)(high + 127) << 23);
}
/* a·2^n where the integer n sits in the low bits of t + 1.5·2^23; two steps reach denormals. */
RT_INLINE vf vpow2(vf a, vf t) { VF_EACH(pow2_1(a.f[i], t.f[i])); }
RT_INLINE float pow2_below_1(float a, float t)
{
    return a * bits_float((float_bits(t) << 23) + (159u << 23)) * 0x1p-32f;
}
/* The same for −150 ≤ n < 96 in fewer steps. */
RT_INLINE vf vpow2_below(vf a, vf t) { VF_EACH(pow2_below_1(a.f[i], t.f[i])); }

#endif

/* Sum and maximum of the 16 lanes by one tree: lane i meets i+8, then i+4, i+2, i+1. */
#if defined(RT_ISA_scalar)
RT_INLINE float vsum(vf a)
{
    for (int step = 8; step > 0; step /= 2)
        for (int i = 0; i < step; i++)
            a.f[i] += a.f[i + step];
    return a.f[0];
}
RT_INLINE float vmaxall(vf a)
{
    for (int step = 8; step > 0; step /= 2)
        for (int i = 0; i < step; i++)
            a.f[i] = a.f[i] > a.f[i + step] ? a.f[i] : a.f[i + step];
    return a.f[0];
}
#else
RT_INLINE float vsum(vf v)
{
    __m256 a = _mm256_add_ps(low_half(v), high_half(v));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
RT_INLINE float vmaxall(vf v)
{
    __m256 a = _mm256_max_ps(low_half(v), high_half(v));
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}
#endif

/* to (8, 8) = from (8, 8) transposed; ld: floats from row to row. */
#if defined(RT_ISA_scalar)
RT_INLINE void turn8(float *to, size_t to_ld, const float *from, size_t from_ld)
{
    for (size_t i = 0; i < 8; i++)
        for (size_t j = 0; j < 8; j++)
            to[i * to_ld + j] = from[j * from_ld + i];
}
#else
RT_INLINE void turn8(float *to, size_t to_ld, const float *from, size_t from_ld)
{
    __m256 a[8], b[8];
#pragma GCC unroll 8
    for (size_t i = 0; i < 4; i++) { /* rows i and i + 4 side by side, half by half */
        __m128 low = _mm_loadu_ps(from + i * from_ld), high = _mm_loadu_ps(from + i * from_ld + 4);
        const float *below = from + (i + 4) * from_ld;
        a[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(low), _mm_loadu_ps(below), 1);
        a[i + 4] = _mm256_insertf128_ps(_mm256_castps128_ps256(high), _mm_loadu_ps(below + 4), 1);
    }
#pragma GCC unroll 2
    for (size_t i = 0; i < 8; i += 4) { /* 4 × 4 inside each half */
        b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
        b[i + 2] = _mm256_unpacklo_ps(a[i + 2], a[i + 3]);
        b[i + 3] = _mm256_unpackhi_ps(a[i + 2], a[i + 3]);
        _mm256_storeu_ps(to + i * to_ld, _mm256_shuffle_ps(b[i], b[i + 2], 0x44));
        _mm256_storeu_ps(to + (i + 1) * to_ld, _mm256_shuffle_ps(b[i], b[i + 2], 0xee));
        _mm256_storeu_ps(to + (i + 2) * to_ld, _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44));
        _mm256_storeu_ps(to + (i + 3) * to_ld, _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xee));
    }
}
#endif

RT_INLINE vf vzero(void) { return vset1(0); }
/* Loads and stores of up to a whole vector; n ≥ 16 means whole. */
RT_INLINE vf vload_to(const float *p, int n) { return n >= 16 ? vload(p) : vloadn(p, n); }
RT_INLINE void vstore_to(float *p, vf a, int n)
{
    if (n >= 16)
        vstore(p, a);
    else
        vstoren(p, a, n);
}

/* x = n·log 2 + r: returns 1 + r + r²·q(r), q fitted by Chebyshev nodes on |r| ≤ log(2)/2
 * (relative error 1.1e-8), and n in the low bits of t, as vpow2 takes it. */
RT_INLINE vf exp_part(vf x, vf *t)
{
    const vf magic = vset1(12582912.0f);
    *t = vfma(x, vset1(1.44269504f), magic);
    vf n = vsub(*t, magic);
    vf r = vfma(n, vset1(-0.693145752f), x);
    r = vfma(n, vset1(-1.42860677e-06f), r);
    vf q = vset1(0.00139262504f);
    q = vfma(q, r, vset1(0.00836323295f));
    q = vfma(q, r, vset1(0.0416665524f));
    q = vfma(q, r, vset1(0.166665763f));
    q = vfma(q, r, vset1(0.5f));
    return vadd(vfma(vmul(r, r), q, r), vset1(1.0f));
}

/* e^x, at most 1 ulp off. −∞ gives 0, results are gradual down to denormals. */
RT_INLINE vf vexp(vf x)
{
    vf t, p = exp_part(vmin(vset1(89.0f), vmax(vset1(-104.0f), x)), &t); /* NaN stays NaN */
    return vpow2(p, t);
}

/* The same bits for x ≤ 66, which is what a softmax asks for; beyond that anything. */
RT_INLINE vf vexp_below(vf x)
{
    vf t, p = exp_part(vmax(vset1(-104.0f), x), &t);
    return vpow2_below(p, t);
}

#define RT_EXACT RT_INLINE
#include "model/ops/exact.h"

#endif
