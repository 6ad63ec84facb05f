/* number: 16-bit floats, intervals, edit distance, UTF-8. */
#include "base/base.h"

#include <math.h>
#include <string.h>

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

float rt_from_bf16(uint16_t bits)
{
    return float_of((uint32_t)bits << 16);
}

uint16_t rt_to_bf16(float value)
{
    uint32_t bits = bits_of(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        /* Rounding could carry a NaN's payload away; the quiet bit keeps it a NaN. */
        return (uint16_t)((bits >> 16) | 0x40u);
    }
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float rt_from_f16(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000u) << 16;
    uint32_t exponent = (bits >> 10) & 0x1fu;
    uint32_t fraction = bits & 0x3ffu;
    if (exponent == 31) {
        return float_of(sign | 0x7f800000u | fraction << 13);
    }
    if (exponent == 0) {
        /* Zero and subnormals: fraction × 2^-24 is exact in f32. */
        float magnitude = (float)fraction * 0x1p-24f;
        return float_of(sign | bits_of(magnitude));
    }
    return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}

uint16_t rt_to_f16(float value)
{
    uint32_t bits = bits_of(value);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {
        return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    }
    if (magnitude >= 0x477ff000u) { /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7c00u);
    }
    if (magnitude < 0x38800000u) { /* below 2^-14: a multiple of 2^-24 */
        if (magnitude < 0x33000000u) { /* below 2^-25 */
            return sign;
        }
        uint32_t shift = 126 - (magnitude >> 23); /* 14…24 */
        uint32_t fraction = (magnitude & 0x7fffffu) | 0x800000u;
        uint32_t kept = fraction >> shift;
        uint32_t rest = fraction & ((1u << shift) - 1);
        uint32_t half = 1u << (shift - 1);
        kept += rest > half || (rest == half && (kept & 1u));
        return (uint16_t)(sign | kept);
    }
    uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
    return (uint16_t)(sign | ((rounded >> 13) - (112u << 10)));
}

void rt_wilson_share(double share, int64_t count, double *low, double *high)
{
    if (count <= 0) {
        *low = 0;
        *high = 1;
        return;
    }
    const double z = 1.959963984540054; /* 97.5 % quantile of the normal distribution */
    double n = (double)count;
    double middle = (share + z * z / (2 * n)) / (1 + z * z / n);
    double half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n));
    /* at the ends the exact bound is 0 or 1, which rounding would miss */
    *low = share <= 0 ? 0 : RT_MAX(middle - half, 0.0);
    *high = share >= 1 ? 1 : RT_MIN(middle + half, 1.0);
}

void rt_wilson(int64_t successes, int64_t count, double *low, double *high)
{
    rt_wilson_share(count > 0 ? (double)successes / (double)count : 0, count, low, high);
}

int rt_edit_distance(const char *a, const char *b)
{
    enum { LENGTH_MAX = 63 };
    size_t length_a = strnlen(a, LENGTH_MAX), length_b = strnlen(b, LENGTH_MAX);
    int row[LENGTH_MAX + 1];
    for (size_t j = 0; j <= length_b; j++) {
        row[j] = (int)j;
    }
    for (size_t i = 1; i <= length_a; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= length_b; j++) {
            int replaced = diagonal + (a[i - 1] != b[j - 1]);
            int shorter = RT_MIN(row[j], row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = RT_MIN(replaced, shorter);
        }
    }
    return row[length_b];
}

/* Bytes of the sequence that starts at text, 0 if invalid or cut. */
static size_t sequence_bytes(const unsigned char *text, size_t bytes)
{
    unsigned char lead = text[0];
    if (lead < 0x80) {
        return 1;
    }
    size_t need = lead >= 0xc2 && lead <= 0xdf   ? 2
                  : lead >= 0xe0 && lead <= 0xef ? 3
                  : lead >= 0xf0 && lead <= 0xf4 ? 4
                                                 : 0;
    if (need == 0 || need > bytes) {
        return 0;
    }
    for (size_t i = 1; i < need; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool overlong = (lead == 0xe0 && text[1] < 0xa0) || (lead == 0xf0 && text[1] < 0x90);
    bool surrogate = lead == 0xed && text[1] > 0x9f;
    bool beyond = lead == 0xf4 && text[1] > 0x8f;
    return overlong || surrogate || beyond ? 0 : need;
}

size_t rt_utf8_valid(const char *text, size_t bytes)
{
    size_t at = 0;
    while (at < bytes) {
        size_t step = sequence_bytes((const unsigned char *)text + at, bytes - at);
        if (step == 0) {
            break;
        }
        at += step;
    }
    return at;
}
