/* Sampler: greedy, full and truncated sampling from one row of logits. */
#include "model/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Loops of LANES steps are what the compiler vectorizes; sums have one order all the same. */
enum { BLOCK = 64, LANES = 16 };

/* Passes over the vocabulary, which stand there for plain instructions and for AVX2. */
#define PASS static inline __attribute__((always_inline))

typedef struct rt_candidate {
    float weight;
    int32_t id;
} candidate;

/* The largest logit; RT_ERR_MATH where one is not a number or none is finite. */
PASS int find_max(const float *logits, int v, float *largest)
{
    float max[LANES];
    int32_t bad = 0;
    int whole = v / LANES * LANES;
    for (int i = 0; i < v; i++) { /* above the bits of infinity, the sign apart */
        int32_t bits;
        memcpy(&bits, &logits[i], sizeof(bits));
        bad |= 0x7f800000 - (bits & 0x7fffffff);
    }
    for (int i = 0; i < LANES; i++)
        max[i] = -INFINITY;
    for (int b = 0; b < whole; b += LANES)
        for (int i = 0; i < LANES; i++)
            max[i] = logits[b + i] > max[i] ? logits[b + i] : max[i];
    for (int i = whole; i < v; i++)
        max[0] = logits[i] > max[0] ? logits[i] : max[0];
    for (int i = 1; i < LANES; i++)
        max[0] = max[i] > max[0] ? max[i] : max[0];
    if (bad < 0 || !isfinite(max[0]))
        return RT_ERR_MATH;
    *largest = max[0];
    return 0;
}

/* Lowest id of the largest logit. */
static int first_of(const float *logits, float max)
{
    int best = 0;
    while (logits[best] != max)
        best++;
    return best;
}

/* exp for x ≤ 0 to about 2 units in the last place: x = n·ln 2 + r, a polynomial in r, n into the
 * exponent. Our own, so that the bits do not hang on the C library; no branches, so that it is
 * vectorized. Below −87 the result is held at e^−87, about the smallest normal float. */
PASS float exp_negative(float x)
{
    const float round = 12582912.0f; /* 1.5·2^23: adding it rounds to an integer */
    x = x < -87.0f ? -87.0f : x;
    float n = x * 1.44269504f + round;
    n -= round;
    float r = x - n * 0.693359375f;
    r -= n * -2.12194440e-4f;
    float p = 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    int32_t bits = ((int32_t)n + 127) * (1 << 23);
    float scale;
    memcpy(&scale, &bits, sizeof(scale));
    return p * scale;
}

PASS void weights_fill(rt_sampler *s, const float *logits, float max, float inverse)
{
    int whole = s->v / LANES * LANES;
    for (int b = 0; b < whole; b += LANES)
        for (int i = b; i < b + LANES; i++)
            s->weights[i] = exp_negative((logits[i] - max) * inverse);
    for (int i = whole; i < s->v; i++)
        s->weights[i] = exp_negative((logits[i] - max) * inverse);
}

PASS double block_sum(const float *weights)
{
    double sums[4] = {0};
    for (int b = 0; b < BLOCK; b += 4)
        for (int i = 0; i < 4; i++)
            sums[i] += (double)weights[b + i];
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

/* Fills the sums of blocks and returns their total. */
PASS double weights_sum(rt_sampler *s)
{
    double total = 0;
    for (int b = 0; b < s->v; b += BLOCK)
        total += s->sums[b / BLOCK] = block_sum(s->weights + b);
    return total;
}

/* Largest logit, weights, their total; temperature 0: only the first. */
PASS int weigh(rt_sampler *s, const float *logits, double temperature, float *max, double *total)
{
    int rc = find_max(logits, s->v, max);
    if (rc != 0 || temperature <= 0)
        return rc;
    weights_fill(s, logits, *max, (float)(1 / temperature));
    *total = weights_sum(s);
    return 0;
}

static int weigh_plain(rt_sampler *s, const float *logits, double temperature, float *max,
                       double *total)
{
    return weigh(s, logits, temperature, max, total);
}

#if defined(__x86_64__)
/* Twice the elements an instruction, each rounded as before: no fused multiply-add here. */
__attribute__((target("avx2"))) static int weigh_avx2(rt_sampler *s, const float *logits,
                                                      double temperature, float *max, double *total)
{
    return weigh(s, logits, temperature, max, total);
}
#endif

void rt_sampler_init(rt_sampler *s, int v)
{
    s->v = v;
    /* whole blocks: the tail stays 0 */
    size_t room = ((size_t)v + BLOCK - 1) / BLOCK * BLOCK;
    s->weights = rt_alloc(room * sizeof(float));
    s->sums = rt_alloc(room / BLOCK * sizeof(double));
    s->candidates = rt_alloc((size_t)v * sizeof(candidate));
    s->weigh = weigh_plain;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2"))
        s->weigh = weigh_avx2;
#endif
}

void rt_sampler_drop(rt_sampler *s)
{
    rt_free(s->weights);
    rt_free(s->sums);
    rt_free(s->candidates);
    memset(s, 0, sizeof(*s));
}

/* The token whose running sum passes target: blocks by their sums, then token by token. */
static int draw(const rt_sampler *s, double target)
{
    double before = 0;
    int block = 0, last = 0, chosen = 0;
    for (int b = 0; b < s->v; b += BLOCK, block++) {
        if (s->sums[block] > 0)
            chosen = block; /* stays the last one with weight when u·total rounds up to total */
        if (before + s->sums[block] > target)
            break;
        before += s->sums[block];
    }
    if (block > chosen)
        before -= s->sums[chosen];
    for (int i = chosen * BLOCK; i < RT_MIN((chosen + 1) * BLOCK, s->v); i++) {
        before += (double)s->weights[i];
        if (s->weights[i] > 0)
            last = i;
        if (before > target && s->weights[i] > 0)
            return i;
    }
    return last;
}

/* ---- truncation ------------------------------------------------------------------------------ */

static int likelier(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->weight != y->weight)
        return x->weight > y->weight ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

/* Collects tokens of weight ≥ floor; returns how many, and their mass. */
static int collect(rt_sampler *s, float floor, double *mass)
{
    int count = 0;
    double sum = 0;
    for (int i = 0; i < s->v; i++)
        if (s->weights[i] >= floor) {
            s->candidates[count++] = (candidate){s->weights[i], i};
            sum += s->weights[i];
        }
    *mass = sum;
    return count;
}

/* Leaves only the kept tokens' weights; returns their sum. Sorting all of a large vocabulary is
 * slow, so only tokens above a floor are sorted; the floor is lowered until what must be kept is
 * surely above it. */
static double truncate_weights(rt_sampler *s, int top_k, double top_p, double total)
{
    static const float floors[] = {1e-2f, 1e-4f, 1e-7f, 0.0f};
    int k = top_k > 0 ? RT_MIN(top_k, s->v) : s->v, count = 0;
    double mass = 0;
    for (size_t i = 0; i < RT_COUNT(floors); i++) {
        count = collect(s, floors[i], &mass);
        /* k of the whole are enough for top-k; without it the mass must reach top-p */
        if (count >= k || (k == s->v && mass >= top_p * total))
            break;
    }
    candidate *sorted = s->candidates;
    qsort(sorted, (size_t)count, sizeof(candidate), likelier);
    if (k < s->v) {
        count = RT_MIN(count, k);
        total = 0;
        for (int i = 0; i < count; i++)
            total += sorted[i].weight;
    }
    int kept = 0;
    for (double sum = 0; kept < count && (kept == 0 || sum < top_p * total); kept++)
        sum += sorted[kept].weight;
    memset(s->weights, 0, sizeof(float) * (size_t)s->v);
    for (int i = 0; i < kept; i++)
        s->weights[sorted[i].id] = sorted[i].weight;
    return weights_sum(s);
}

int rt_sample(rt_sampler *s, const float *logits, double temperature, int top_k, double top_p,
              double u)
{
    float max;
    double total = 0;
    int rc = s->weigh(s, logits, temperature, &max, &total);
    if (rc != 0)
        return rc;
    if (temperature <= 0)
        return first_of(logits, max);
    if ((top_k > 0 && top_k < s->v) || top_p < 1)
        total = truncate_weights(s, top_k, top_p, total);
    return draw(s, u * total);
}
