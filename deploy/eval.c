#include "deploy/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define Z95 1.959963984540054 /* 97.5 % quantile of the normal distribution */

enum { RESAMPLES = 2000, HALVINGS = 60 };

int eval_ks(int k, int ks[EVAL_KS_MAX])
{
    int count = 0;
    for (int64_t next = 1; next < k; next *= 2)
        ks[count++] = (int)next;
    ks[count++] = k;
    return count;
}

double eval_pass_at(int n, int c, int k)
{
    RT_ASSERT(k >= 1 && k <= n && c >= 0 && c <= n);
    if (n - c < k)
        return 1;
    /* C(n − c, k) / C(n, k) as a product of factors in [0, 1]: nothing overflows */
    double none = 1;
    for (int i = n - c + 1; i <= n; i++)
        none *= 1.0 - (double)k / i;
    return 1 - none;
}

static bool votes(const eval_sample *sample)
{
    return sample->correct || (sample->extracted && *sample->extracted);
}

static bool same_answer(const eval_sample *a, const eval_sample *b)
{
    if (a->correct || b->correct)
        return a->correct && b->correct;
    return strcmp(a->extracted, b->extracted) == 0;
}

void eval_majority(const eval_sample *samples, int count, double *score, double *share)
{
    int best = 0, winners = 0, right = 0;
    for (int i = 0; i < count; i++) {
        bool first = votes(&samples[i]);
        for (int j = 0; j < i && first; j++)
            first = !votes(&samples[j]) || !same_answer(&samples[j], &samples[i]);
        if (!first)
            continue;
        int given = 0;
        for (int j = i; j < count; j++)
            given += votes(&samples[j]) && same_answer(&samples[j], &samples[i]);
        if (given > best)
            best = given, winners = right = 0;
        if (given == best) {
            winners++;
            right += samples[i].correct;
        }
    }
    *score = winners > 0 ? (double)right / winners : 0;
    *share = count > 0 ? (double)best / count : 0;
}

static double mean(const double *values, int count)
{
    double sum = 0;
    for (int i = 0; i < count; i++)
        sum += values[i];
    return count > 0 ? sum / count : 0;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

eval_number eval_bootstrap(const double *values, int count, uint64_t seed)
{
    eval_number number = {mean(values, count), 0, 1};
    if (count <= 0)
        return number;
    double *means = rt_alloc(RESAMPLES * sizeof *means);
    for (int r = 0; r < RESAMPLES; r++) {
        double sum = 0;
        for (int i = 0; i < count; i++)
            sum += values[rt_below(seed, (uint64_t)r, (uint64_t)i, (uint32_t)count)];
        means[r] = sum / count;
    }
    qsort(means, RESAMPLES, sizeof *means, ascending);
    number.low = means[(int)(0.025 * (RESAMPLES - 1))];
    number.high = means[(int)ceil(0.975 * (RESAMPLES - 1))];
    rt_free(means);
    return number;
}

eval_number eval_wilson(const double *values, int count)
{
    eval_number number = {mean(values, count), 0, 1};
    if (count <= 0)
        return number;
    const double z = Z95;
    double n = count, p = number.value;
    double middle = (p + z * z / (2 * n)) / (1 + z * z / n);
    double half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n));
    /* at the ends the exact bound is 0 or 1, which rounding would miss */
    number.low = p <= 0 ? 0 : RT_MAX(middle - half, 0.0);
    number.high = p >= 1 ? 1 : RT_MIN(middle + half, 1.0);
    return number;
}

/* How far the observed gain lies above the supposed one, in standard deviations: the likeliest share
 * of downs q with this gain gives the variance. Falls in `gain`. */
static double gain_score(double up, double down, double n, double gain)
{
    double b = (2 * n - up + down) * gain - up - down, c = -down * gain * (1 - gain);
    double q = (sqrt(RT_MAX(b * b - 8 * n * c, 0.0)) - b) / (4 * n);
    double variance = n * (2 * q + gain * (1 - gain)), above = up - down - n * gain;
    return variance > 0 ? above / sqrt(variance) : above == 0 ? 0 : copysign(INFINITY, above);
}

/* The gain whose score is `wanted`. */
static double gain_at(double up, double down, double n, double wanted)
{
    double low = -1, high = 1;
    for (int i = 0; i < HALVINGS; i++) {
        double middle = (low + high) / 2;
        if (gain_score(up, down, n, middle) > wanted)
            low = middle;
        else
            high = middle;
    }
    return (low + high) / 2;
}

eval_number eval_gain(int64_t up, int64_t down, int64_t count)
{
    RT_ASSERT(up >= 0 && down >= 0 && up + down <= count);
    if (count == 0)
        return (eval_number){0, -1, 1};
    double n = (double)count, u = (double)up, d = (double)down;
    return (eval_number){(u - d) / n, gain_at(u, d, n, Z95), gain_at(u, d, n, -Z95)};
}
