#include "deploy/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define Z95 1.959963984540054 /* 97.5 % quantile of the normal distribution */

enum { RESAMPLES = 2000, HALVINGS = 60 };
#define EXACT_WORK ((int64_t)1 << 26) /* additions of an exact sign-flip test: a tenth of a second */

const char *eval_by_name(int by)
{
    static const char *const names[] = {"wilson", "bootstrap", "tango"};
    return names[by];
}

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
    eval_number number = {mean(values, count), 0, 1, EVAL_BY_BOOTSTRAP};
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
    eval_number number = {mean(values, count), 0, 1, EVAL_BY_WILSON};
    rt_wilson_share(number.value, count, &number.low, &number.high);
    return number;
}

eval_number eval_mean(const double *values, int count, uint64_t seed)
{
    for (int i = 0; i < count; i++)
        if (values[i] > 0 && values[i] < 1)
            return eval_bootstrap(values, count, seed);
    return eval_wilson(values, count);
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
        return (eval_number){0, -1, 1, EVAL_BY_TANGO};
    double n = (double)count, u = (double)up, d = (double)down;
    return (eval_number){(u - d) / n, gain_at(u, d, n, Z95), gain_at(u, d, n, -Z95), EVAL_BY_TANGO};
}

/* ---- two models on the same problems --------------------------------------------------------- */

eval_number eval_difference(const int *difference, int count, int k, uint64_t seed)
{
    int64_t up = 0, down = 0, same = 0;
    for (int i = 0; i < count; i++) {
        up += difference[i] == k;
        down += difference[i] == -k;
        same += difference[i] == 0;
    }
    if (up + down + same == count)
        return eval_gain(up, down, count);
    double *shares = rt_alloc((size_t)count * sizeof *shares);
    for (int i = 0; i < count; i++)
        shares[i] = (double)difference[i] / k;
    eval_number number = eval_bootstrap(shares, count, seed);
    rt_free(shares);
    return number;
}

double eval_mcnemar(int64_t up, int64_t down)
{
    RT_ASSERT(up >= 0 && down >= 0);
    int64_t n = up + down, fewer = RT_MIN(up, down);
    if (up == down)
        return 1;
    /* C(n, fewer) / 2^n, with the power of two kept apart: it would soon be too small */
    double most = 1, sum = 1, term = 1;
    int64_t exponent = -n;
    for (int64_t i = 1; i <= fewer; i++) {
        int part;
        most = frexp(most * (double)(n - fewer + i) / (double)i, &part);
        exponent += part;
    }
    /* the terms below it, relative to it */
    for (int64_t i = fewer; i > 0; i--)
        sum += term *= (double)i / (double)(n - i + 1);
    return RT_MIN(1.0, ldexp(2 * most * sum, (int)RT_MAX(exponent, -4096)));
}

/* chance[s + span] that the signed differences sum to s, problem by problem. */
static double sign_flip_exact(const int *difference, int count, int64_t span, int64_t sum)
{
    size_t bytes = (size_t)(2 * span + 1) * sizeof(double);
    double *now = rt_alloc(bytes), *next = rt_alloc(bytes), p = 0;
    int64_t reach = 0;
    now[span] = 1;
    for (int i = 0; i < count; i++) {
        int64_t step = llabs((long long)difference[i]);
        if (step == 0)
            continue;
        memset(next, 0, bytes);
        for (int64_t s = -reach; s <= reach; s++) {
            next[span + s - step] += now[span + s] / 2;
            next[span + s + step] += now[span + s] / 2;
        }
        reach += step;
        double *old = now;
        now = next, next = old;
    }
    for (int64_t s = -span; s <= span; s++)
        if (llabs((long long)s) >= llabs((long long)sum))
            p += now[span + s];
    rt_free(now), rt_free(next);
    return RT_MIN(p, 1.0);
}

double eval_sign_flip_drawn(const int *difference, int count, uint64_t seed)
{
    int64_t sum = 0, as_far = 0;
    for (int i = 0; i < count; i++)
        sum += difference[i];
    for (int r = 0; r < EVAL_FLIPS; r++) {
        int64_t flipped = 0;
        uint32_t words[4] = {0};
        for (int i = 0; i < count; i++) {
            if (i % 128 == 0)
                rt_philox(seed, (uint64_t)r, (uint64_t)(i / 128), words);
            bool minus = words[i % 128 / 32] >> (i % 32) & 1;
            flipped += minus ? -difference[i] : difference[i];
        }
        as_far += llabs((long long)flipped) >= llabs((long long)sum);
    }
    /* the observed signs are one choice more */
    return (double)(as_far + 1) / (EVAL_FLIPS + 1);
}

double eval_sign_flip(const int *difference, int count, uint64_t seed, bool *exact)
{
    int64_t span = 0, sum = 0, changed = 0;
    for (int i = 0; i < count; i++) {
        span += llabs((long long)difference[i]);
        sum += difference[i];
        changed += difference[i] != 0;
    }
    *exact = changed * (2 * span + 1) <= EXACT_WORK;
    return *exact ? sign_flip_exact(difference, count, span, sum)
                  : eval_sign_flip_drawn(difference, count, seed);
}
