/* cpi_random: draws from a Philox stream, and the statistics that the tables need. */
#include "bench/cpi.h"

#include <math.h>

rt_cpi_rng rt_cpi_rng_new(uint64_t seed, uint64_t stream)
{
    return (rt_cpi_rng){.seed = seed, .stream = stream};
}

double rt_cpi_unit(rt_cpi_rng *rng)
{
    uint32_t high = rt_cpi_word(rng), low = rt_cpi_word(rng);
    return ((double)(high >> 5) * 67108864.0 + (double)(low >> 6)) * 0x1p-53;
}

/* Few successes expected: walk up the distribution function. */
static int64_t binomial_walk(rt_cpi_rng *rng, int64_t count, double p)
{
    double odds = p / (1 - p), mass = exp((double)count * log1p(-p)), u = rt_cpi_unit(rng);
    int64_t k = 0;
    while (u >= mass && k < count) {
        u -= mass;
        k++;
        mass *= odds * (double)(count - k + 1) / (double)k;
    }
    return k;
}

/* Many: transformed rejection with squeeze (Hörmann 1993, algorithm BTRS); p at most 1/2. */
static int64_t binomial_reject(rt_cpi_rng *rng, int64_t count, double p)
{
    double n = (double)count, spread = sqrt(n * p * (1 - p));
    double b = 1.15 + 2.53 * spread, a = -0.0873 + 0.0248 * b + 0.01 * p, c = n * p + 0.5;
    double squeeze = 0.92 - 4.2 / b, alpha = (2.83 + 5.1 / b) * spread;
    double log_odds = log(p / (1 - p)), mode = floor((n + 1) * p);
    double top = lgamma(mode + 1) + lgamma(n - mode + 1);
    for (;;) {
        double u = rt_cpi_unit(rng) - 0.5, v = rt_cpi_unit(rng);
        double us = 0.5 - fabs(u), k = floor((2 * a / us + b) * u + c);
        if (us >= 0.07 && v <= squeeze)
            return (int64_t)k;
        if (k < 0 || k > n)
            continue;
        double limit = top - lgamma(k + 1) - lgamma(n - k + 1) + (k - mode) * log_odds;
        if (log(v * alpha / (a / (us * us) + b)) <= limit)
            return (int64_t)k;
    }
}

int64_t rt_cpi_binomial(rt_cpi_rng *rng, int64_t count, double probability)
{
    if (count <= 0 || probability <= 0)
        return 0;
    if (probability >= 1)
        return count;
    if (probability > 0.5)
        return count - rt_cpi_binomial(rng, count, 1 - probability);
    return (double)count * probability < 10 ? binomial_walk(rng, count, probability)
                                            : binomial_reject(rng, count, probability);
}

void rt_cpi_multinomial(rt_cpi_rng *rng, int64_t count, const double *probability, int kinds,
                        int64_t *out)
{
    double rest = 1;
    for (int i = 0; i < kinds; i++) {
        out[i] = rt_cpi_binomial(rng, count, rest > 0 ? probability[i] / rest : 0);
        count -= out[i];
        rest -= probability[i];
    }
}

static double normal(rt_cpi_rng *rng)
{
    double radius = sqrt(-2 * log(1 - rt_cpi_unit(rng)));
    return radius * cos(6.283185307179586476925 * rt_cpi_unit(rng));
}

/* Marsaglia and Tsang 2000; shape at least 1. */
static double gamma_draw(rt_cpi_rng *rng, double shape)
{
    double d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        double x = normal(rng), v = 1 + c * x;
        if (v <= 0)
            continue;
        v = v * v * v;
        if (log(1 - rt_cpi_unit(rng)) < 0.5 * x * x + d - d * v + d * log(v))
            return d * v;
    }
}

double rt_cpi_beta(rt_cpi_rng *rng, double a, double b)
{
    RT_ASSERT(a >= 1 && b >= 1);
    double x = gamma_draw(rng, a), y = gamma_draw(rng, b);
    return x / (x + y);
}

rt_cpi_mean rt_cpi_mean_of(const double *values, int count)
{
    RT_ASSERT(count >= 2);
    double sum = 0, squares = 0;
    for (int i = 0; i < count; i++)
        sum += values[i];
    double mean = sum / count;
    for (int i = 0; i < count; i++)
        squares += (values[i] - mean) * (values[i] - mean);
    return (rt_cpi_mean){mean, sqrt(squares / (count - 1) / count)};
}

double rt_cpi_slope(const double *x, const double *y, int count)
{
    double mean_x = 0, mean_y = 0, cross = 0, square = 0;
    for (int i = 0; i < count; i++) {
        mean_x += x[i] / count;
        mean_y += y[i] / count;
    }
    for (int i = 0; i < count; i++) {
        cross += (x[i] - mean_x) * (y[i] - mean_y);
        square += (x[i] - mean_x) * (x[i] - mean_x);
    }
    return cross / square;
}

/*
 * With t = √f·tan θ the central probability is ∫ cos^(f−1) over [0, θ], over the same to π/2:
 * smooth and bounded, so Simpson's rule is exact to all digits shown.
 */
static double cosine_integral(int power, double angle)
{
    const int cells = 2000;
    double sum = 0;
    for (int i = 0; i <= cells; i++) {
        double weight = i == 0 || i == cells ? 1 : i % 2 ? 4 : 2;
        sum += weight * pow(cos(angle * i / cells), power);
    }
    return sum * angle / cells / 3;
}

double rt_cpi_t95(int freedom)
{
    RT_ASSERT(freedom >= 1);
    const double right_angle = 1.57079632679489661923;
    double whole = cosine_integral(freedom - 1, right_angle), low = 0, high = right_angle;
    for (int i = 0; i < 50; i++) {
        double middle = (low + high) / 2;
        if (cosine_integral(freedom - 1, middle) < 0.95 * whole)
            low = middle;
        else
            high = middle;
    }
    return sqrt((double)freedom) * tan(low);
}
