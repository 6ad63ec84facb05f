/*
 * The estimators are those of Wu et al. (Imbalanced Gradients in RL Post-Training of Multi-Task LLMs,
 * 2025): the squared norm of a noisy mean is biased upward, products of different prompts are not.
 */
#include "learner/accounting.h"

#include <math.h>
#include <string.h>

typedef struct moments {
    double n, x, y, xx, yy, xy;
} moments;

typedef struct class_sums {
    /* of the optimizer step at work */
    float *sum[2];  // (count) by half of the prompts; [1] only with halves
    bool used[2];   /* they hold something */
    double self, self_block; /* Σ |g|² */
    int prompts[2], live;
    /* over the optimizer steps so far, numerators and denominators apart */
    double cross, pairs, live_pairs, cross_block, halves, halves_pairs, naive, naive_steps;
    double own, with_total, products[RT_CLASSES_MAX], advantage;
    int64_t all_prompts, all_live;
    moments of_advantage;
} class_sums;

struct rt_accounts {
    rt_ops *ops; /* borrows */
    rt_account_span span;
    bool halves;
    size_t skip;
    float *seen; // (span.count) the gradient as it was at the last look
    double total; /* Σ |G|² over optimizer steps */
    moments of_advantage, of_block;
    class_sums classes[RT_CLASSES_MAX];
};

static void moments_add(moments *m, double x, double y)
{
    m->n++, m->x += x, m->y += y, m->xx += x * x, m->yy += y * y, m->xy += x * y;
}

static double moments_correlation(const moments *m)
{
    double xx = m->xx - m->x * m->x / m->n, yy = m->yy - m->y * m->y / m->n;
    double xy = m->xy - m->x * m->y / m->n;
    return m->n > 2 && xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : NAN;
}

rt_accounts *rt_accounts_new(rt_ops *ops, const rt_account_span *span, bool halves)
{
    rt_accounts *a = rt_alloc(sizeof *a);
    a->ops = ops;
    a->span = *span;
    a->halves = halves;
    a->seen = ops->alloc(ops, span->count * sizeof(float));
    return a;
}

void rt_accounts_free(rt_accounts **pointer)
{
    rt_accounts *a = *pointer;
    if (!a)
        return;
    for (int k = 0; k < RT_CLASSES_MAX; k++)
        for (int half = 0; half < 2; half++)
            if (a->classes[k].sum[half])
                a->ops->free(a->ops, a->classes[k].sum[half]);
    a->ops->free(a->ops, a->seen);
    rt_free(a);
    *pointer = NULL;
}

void rt_accounts_clear(rt_accounts *a)
{
    for (int k = 0; k < RT_CLASSES_MAX; k++) {
        class_sums keep = {.sum = {a->classes[k].sum[0], a->classes[k].sum[1]}};
        a->classes[k] = keep;
    }
    a->total = 0;
    a->of_advantage = a->of_block = (moments){0};
}

void rt_accounts_begin(rt_accounts *a, size_t skip)
{
    a->skip = skip;
    a->ops->zero(a->ops, a->seen, a->span.count * sizeof(float));
    for (int k = 0; k < RT_CLASSES_MAX; k++) {
        class_sums *c = &a->classes[k];
        c->used[0] = c->used[1] = false;
        c->self = c->self_block = 0;
        c->prompts[0] = c->prompts[1] = c->live = 0;
    }
}

/* ---- looking --------------------------------------------------------------------------------- */

/* Elements [from, to) of the span, which are all of one kind. */
static double look_at(rt_accounts *a, class_sums *c, int of, const float *grad, size_t from, size_t to)
{
    const rt_account_span *s = &a->span;
    size_t place = s->at + a->skip + from;
    bool more = s->more && place >= s->more_at && place < s->more_at + s->more_count;
    return to <= from ? 0
                      : a->ops->change(a->ops, c->sum[of] + from, !c->used[of], a->seen + from,
                                       grad + place,
                                       more ? s->more + (place - s->more_at) : NULL, to - from);
}

/* Of the span, whose first element is at `begin` now: how much of it lies before `place`. */
static size_t before(const rt_account_span *s, size_t begin, size_t place)
{
    return RT_MIN(place > begin ? place - begin : 0, s->count);
}

void rt_accounts_look(rt_accounts *a, int class, int half, double advantage, const float *grad)
{
    RT_ASSERT(class >= 0 && class < RT_CLASSES_MAX);
    class_sums *c = &a->classes[class];
    const rt_account_span *s = &a->span;
    int of = a->halves ? half : 0;
    if (!c->sum[of])
        c->sum[of] = a->ops->alloc(a->ops, s->count * sizeof(float));
    /* Borders: lookups are in front, the last layer is behind them. */
    size_t begin = s->at + a->skip;
    size_t more_from = s->more ? before(s, begin, s->more_at) : 0;
    size_t more_to = s->more ? before(s, begin, s->more_at + s->more_count) : 0;
    size_t block_to = s->block + s->block_count;
    double squares = look_at(a, c, of, grad, 0, more_from);
    squares += look_at(a, c, of, grad, more_from, more_to);
    squares += look_at(a, c, of, grad, more_to, s->block);
    double block = look_at(a, c, of, grad, s->block, block_to);
    squares += look_at(a, c, of, grad, block_to, s->count);
    squares += block;
    c->used[of] = true;
    c->self += squares;
    c->self_block += block;
    c->prompts[half]++;
    c->live++;
    c->advantage += advantage;
    moments_add(&c->of_advantage, sqrt(squares), advantage);
    moments_add(&a->of_advantage, sqrt(squares), advantage);
    moments_add(&a->of_block, sqrt(squares), sqrt(block));
}

void rt_accounts_flat(rt_accounts *a, int class, int half, double advantage)
{
    class_sums *c = &a->classes[class];
    c->prompts[half]++;
    c->advantage += advantage;
    moments_add(&c->of_advantage, 0, advantage);
    moments_add(&a->of_advantage, 0, advantage);
    moments_add(&a->of_block, 0, 0);
}

/* ---- the end of an optimizer step ------------------------------------------------------------- */

/* What there is of sums: one vector a class, two with halves. */
typedef struct vectors {
    const float *at[RT_GRAM_MAX];
    int class[RT_GRAM_MAX], half[RT_GRAM_MAX], count;
} vectors;

static vectors list_sums(const rt_accounts *a)
{
    vectors v = {0};
    for (int k = 0; k < RT_CLASSES_MAX; k++)
        for (int half = 0; half < 2; half++)
            if (a->classes[k].used[half]) {
                v.at[v.count] = a->classes[k].sum[half];
                v.class[v.count] = k;
                v.half[v.count++] = half;
            }
    return v;
}

/* Products over elements [from, to), added to those of the classes and of each class's halves. */
static void add_products(rt_accounts *a, const vectors *v, size_t from, size_t to, double *gram,
                         double *halves)
{
    double part[RT_GRAM_MAX * RT_GRAM_MAX];
    const float *at[RT_GRAM_MAX];
    if (to <= from || v->count == 0)
        return;
    for (int i = 0; i < v->count; i++)
        at[i] = v->at[i] + from;
    a->ops->gram(a->ops, part, at, v->count, to - from);
    for (int i = 0; i < v->count; i++)
        for (int j = 0; j < v->count; j++) {
            double value = part[i * v->count + j];
            gram[v->class[i] * RT_CLASSES_MAX + v->class[j]] += value;
            if (v->class[i] == v->class[j] && v->half[i] < v->half[j])
                halves[v->class[i]] += value;
        }
}

static void end_class(const rt_accounts *a, class_sums *c, double own, double own_block,
                      double halves, double units)
{
    double n = c->prompts[0] + c->prompts[1], scale = units * units;
    if (n == 0)
        return;
    c->cross += scale * (own - c->self);
    c->cross_block += scale * (own_block - c->self_block);
    c->pairs += n * (n - 1);
    c->live_pairs += (double)c->live * (c->live - 1);
    c->naive += scale * own / (n * n);
    c->naive_steps++;
    if (a->halves) {
        c->halves += scale * halves;
        c->halves_pairs += (double)c->prompts[0] * c->prompts[1];
    }
    c->all_prompts += (int64_t)n;
    c->all_live += c->live;
    c->own += own;
}

void rt_accounts_end(rt_accounts *a, int units, double *gram)
{
    enum { SQUARE = RT_CLASSES_MAX * RT_CLASSES_MAX };
    double block[SQUARE] = {0}, halves[RT_CLASSES_MAX] = {0}, total = 0;
    const vectors v = list_sums(a);
    size_t block_to = a->span.block + a->span.block_count;
    memset(gram, 0, SQUARE * sizeof *gram);
    add_products(a, &v, 0, a->span.block, gram, halves);
    add_products(a, &v, a->span.block, block_to, block, halves);
    add_products(a, &v, block_to, a->span.count, gram, halves);
    for (int i = 0; i < SQUARE; i++) {
        gram[i] += block[i];
        total += gram[i];
    }
    for (int i = 0; i < RT_CLASSES_MAX; i++) {
        class_sums *c = &a->classes[i];
        end_class(a, c, gram[i * RT_CLASSES_MAX + i], block[i * RT_CLASSES_MAX + i], halves[i], units);
        for (int j = 0; j < RT_CLASSES_MAX; j++) {
            c->with_total += gram[i * RT_CLASSES_MAX + j];
            c->products[j] += gram[i * RT_CLASSES_MAX + j];
        }
    }
    a->total += total;
}

void rt_accounts_combine(const rt_accounts *a, const double *weight, float *grad)
{
    for (int k = 0; k < RT_CLASSES_MAX; k++)
        for (int half = 0; half < 2; half++)
            if (a->classes[k].used[half])
                a->ops->axpy(a->ops, grad, (float)weight[k], a->classes[k].sum[half],
                             a->span.count);
}

/* ---- after all -------------------------------------------------------------------------------- */

static double over(double numerator, double denominator)
{
    return denominator > 0 ? numerator / denominator : NAN;
}

bool rt_accounts_class(const rt_accounts *a, int class, rt_class_account *out)
{
    const class_sums *c = &a->classes[class];
    if (c->all_prompts == 0)
        return false;
    *out = (rt_class_account){
        .prompts = c->all_prompts,
        .live = c->all_live,
        .norm2 = over(c->cross, c->pairs),
        .norm2_live = over(c->cross, c->live_pairs),
        .naive = over(c->naive, c->naive_steps),
        .halves = over(c->halves, c->halves_pairs),
        .norm2_block = a->span.block_count > 0 ? over(c->cross_block, c->pairs) : NAN,
        .share = over(c->with_total, a->total),
        .cosine = over(c->with_total, sqrt(c->own * a->total)),
        .advantage = c->advantage / (double)c->all_prompts,
        .correlation = moments_correlation(&c->of_advantage),
    };
    for (int j = 0; j < RT_CLASSES_MAX; j++)
        out->cosines[j] = over(c->products[j], sqrt(c->own * a->classes[j].own));
    return true;
}

double rt_accounts_correlation(const rt_accounts *a)
{
    return moments_correlation(&a->of_advantage);
}

double rt_accounts_block_correlation(const rt_accounts *a)
{
    return a->span.block_count > 0 ? moments_correlation(&a->of_block) : NAN;
}
