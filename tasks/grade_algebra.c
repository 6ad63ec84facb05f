/* grade_algebra: the arithmetic of exact values. */
#include "tasks/grade_algebra.h"

#include <string.h>

/* Exponents of symbols stay far inside int16_t even after one addition. */
enum { POWER_MAX = 4096, INTEGER_POWER_MAX = 128, TRIAL_MAX = 100000 };

void rt_algebra_init(rt_algebra *algebra, int steps)
{
    *algebra = (rt_algebra){.symbols_count = 1, .steps_left = steps};
    snprintf(algebra->symbols[0], sizeof algebra->symbols[0], "i");
}

static bool step(rt_algebra *algebra)
{
    algebra->failed = algebra->failed || --algebra->steps_left < 0;
    return !algebra->failed;
}

static rt_big divisor(rt_big a, rt_big b)
{
    a = a < 0 ? -a : a;
    b = b < 0 ? -b : b;
    while (b) {
        rt_big rest = a % b;
        a = b;
        b = rest;
    }
    return a ? a : 1;
}

/* Has no negative: counts as overflow, so that signs can be turned freely. */
static const rt_big BIG_MIN = (rt_big)((unsigned __int128)1 << 127);

/* Products and sums are checked. */
static rt_big times(rt_algebra *algebra, rt_big a, rt_big b)
{
    rt_big result;
    if (__builtin_mul_overflow(a, b, &result) || result == BIG_MIN) {
        algebra->failed = true;
        return 1;
    }
    return result;
}

static rt_big plus(rt_algebra *algebra, rt_big a, rt_big b)
{
    rt_big result;
    if (__builtin_add_overflow(a, b, &result) || result == BIG_MIN) {
        algebra->failed = true;
        return 1;
    }
    return result;
}

static void reduce(rt_term *term)
{
    rt_big common = divisor(term->over, term->under);
    term->over /= common;
    term->under /= common;
    if (term->under < 0) {
        term->over = -term->over;
        term->under = -term->under;
    }
}

static int order(const rt_term *a, const rt_term *b)
{
    for (int i = 0; i < RT_SYMBOLS_MAX; i++) {
        if (a->powers[i] != b->powers[i]) {
            return a->powers[i] < b->powers[i] ? -1 : 1;
        }
    }
    return a->root < b->root ? -1 : a->root > b->root;
}

/* Adds a term in its place. */
static void sum_add(rt_algebra *algebra, rt_sum *sum, const rt_term *term)
{
    int at = 0;
    if (!step(algebra) || !term->over) {
        return;
    }
    while (at < sum->count && order(&sum->terms[at], term) < 0) {
        at++;
    }
    if (at < sum->count && !order(&sum->terms[at], term)) {
        rt_term *same = &sum->terms[at];
        rt_big common = divisor(same->under, term->under);
        rt_big left = times(algebra, same->over, term->under / common);
        rt_big right = times(algebra, term->over, same->under / common);
        same->over = plus(algebra, left, right);
        same->under = times(algebra, same->under, term->under / common);
        reduce(same);
        if (!same->over) {
            sum->count--;
            memmove(same, same + 1, (size_t)(sum->count - at) * sizeof *same);
        }
        return;
    }
    if (sum->count == RT_TERMS_MAX) {
        algebra->failed = true;
        return;
    }
    memmove(&sum->terms[at + 1], &sum->terms[at], (size_t)(sum->count - at) * sizeof *term);
    sum->terms[at] = *term;
    sum->count++;
}

static void term_multiply(rt_algebra *algebra, rt_term *result, const rt_term *a, const rt_term *b)
{
    rt_big cross1 = divisor(a->over, b->under), cross2 = divisor(b->over, a->under);
    rt_term product = {.root = 1};
    product.over = times(algebra, a->over / cross1, b->over / cross2);
    product.under = times(algebra, a->under / cross2, b->under / cross1);
    int64_t common = (int64_t)divisor(a->root, b->root);
    product.over = times(algebra, product.over, common);
    if (__builtin_mul_overflow(a->root / common, b->root / common, &product.root)) {
        algebra->failed = true;
        product.root = 1;
    }
    for (int i = 0; i < RT_SYMBOLS_MAX; i++) {
        int power = a->powers[i] + b->powers[i];
        algebra->failed = algebra->failed || power > POWER_MAX || power < -POWER_MAX;
        product.powers[i] = (int16_t)(algebra->failed ? 0 : power);
    }
    int turns = ((product.powers[0] % 4) + 4) % 4; /* i² = −1 */
    product.powers[0] = (int16_t)(turns & 1);
    if (turns & 2) {
        product.over = -product.over;
    }
    reduce(&product);
    *result = product;
}

static void sum_multiply(rt_algebra *algebra, rt_sum *result, const rt_sum *a, const rt_sum *b)
{
    rt_sum product = {0};
    for (int i = 0; i < a->count && !algebra->failed; i++) {
        for (int k = 0; k < b->count && !algebra->failed; k++) {
            rt_term term;
            term_multiply(algebra, &term, &a->terms[i], &b->terms[k]);
            sum_add(algebra, &product, &term);
        }
    }
    *result = product;
}

static void sum_join(rt_algebra *algebra, rt_sum *result, const rt_sum *other)
{
    for (int i = 0; i < other->count && !algebra->failed; i++) {
        sum_add(algebra, result, &other->terms[i]);
    }
}

static const rt_term one = {.over = 1, .under = 1, .root = 1};

static bool sum_equal(const rt_sum *a, const rt_sum *b)
{
    if (a->count != b->count) {
        return false;
    }
    for (int i = 0; i < a->count; i++) {
        if (order(&a->terms[i], &b->terms[i]) || a->terms[i].over != b->terms[i].over ||
            a->terms[i].under != b->terms[i].under) {
            return false;
        }
    }
    return true;
}

static bool sum_is_one(const rt_sum *sum)
{
    return sum->count == 1 && !order(&sum->terms[0], &one) && sum->terms[0].over == 1 &&
           sum->terms[0].under == 1;
}

/* A denominator of one term moves into the numerator: 1/(a√n·m) = √n/(a·n)·m⁻¹. */
static void settle(rt_algebra *algebra, rt_value *value)
{
    if (!value->under.count) {
        algebra->failed = true;
    }
    if (value->under.count != 1 || sum_is_one(&value->under) || algebra->failed) {
        return;
    }
    const rt_term *term = &value->under.terms[0];
    rt_sum inverse = {.count = 1};
    rt_term *flipped = &inverse.terms[0];
    *flipped = (rt_term){.over = term->under, .root = term->root};
    flipped->under = times(algebra, term->over, term->root);
    for (int i = 0; i < RT_SYMBOLS_MAX; i++) {
        flipped->powers[i] = (int16_t)-term->powers[i];
    }
    if (flipped->powers[0]) { /* 1/i = −i */
        flipped->powers[0] = 1;
        flipped->over = -flipped->over;
    }
    reduce(flipped);
    sum_multiply(algebra, &value->over, &value->over, &inverse);
    value->under = (rt_sum){.count = 1, .terms = {one}};
}

void rt_value_integer(rt_value *value, rt_big integer)
{
    *value = (rt_value){.under = {.count = 1, .terms = {one}}};
    if (integer) {
        value->over.count = 1;
        value->over.terms[0] = one;
        value->over.terms[0].over = integer;
    }
}

void rt_value_symbol(rt_algebra *algebra, rt_value *value, const char *name, size_t bytes)
{
    int slot = 0;
    rt_value_integer(value, 1);
    while (slot < algebra->symbols_count &&
           (strlen(algebra->symbols[slot]) != bytes ||
            memcmp(algebra->symbols[slot], name, bytes))) {
        slot++;
    }
    if (slot == algebra->symbols_count) {
        if (slot == RT_SYMBOLS_MAX || bytes >= RT_SYMBOL_BYTES) {
            algebra->failed = true;
            return;
        }
        memcpy(algebra->symbols[slot], name, bytes);
        algebra->symbols[slot][bytes] = '\0';
        algebra->symbols_count++;
    }
    value->over.terms[0].powers[slot] = 1;
}

static size_t print_sum(char *out, size_t room, size_t at, const rt_sum *sum)
{
    for (int i = 0; i < sum->count && at < room; i++) {
        const rt_term *term = &sum->terms[i];
        bool fits = term->over < INT64_MAX && term->over > -INT64_MAX && term->under < INT64_MAX;
        int wrote = snprintf(out + at, room - at, "%lld/%llds%lld", (long long)term->over,
                             (long long)term->under, (long long)term->root);
        at = fits ? at + (size_t)wrote : room;
        for (int k = 0; k < RT_SYMBOLS_MAX && at < room; k++) {
            if (term->powers[k]) {
                at += (size_t)snprintf(out + at, room - at, "v%d^%d", k, term->powers[k]);
            }
        }
        if (at + 1 < room) {
            out[at++] = '+';
        }
    }
    return RT_MIN(at, room);
}

void rt_value_opaque(rt_algebra *algebra, rt_value *value, const char *name, const rt_value *a,
                     const rt_value *b)
{
    char key[RT_SYMBOL_BYTES];
    const rt_value *parts[] = {a, b};
    size_t at = (size_t)snprintf(key, sizeof key, "\\%.20s", name);
    for (int i = 0; i < 2 && parts[i]; i++) {
        at += at < sizeof key ? (size_t)snprintf(key + at, sizeof key - at, "(") : 0;
        at = at < sizeof key ? print_sum(key, sizeof key, at, &parts[i]->over) : at;
        at += at < sizeof key ? (size_t)snprintf(key + at, sizeof key - at, "|") : 0;
        at = at < sizeof key ? print_sum(key, sizeof key, at, &parts[i]->under) : at;
    }
    algebra->opaque = true;
    if (at >= sizeof key - 1) {
        algebra->failed = true;
        at = 1;
    }
    rt_value_symbol(algebra, value, key, at);
}

void rt_value_add(rt_algebra *algebra, rt_value *result, const rt_value *a, const rt_value *b)
{
    rt_value sum;
    if (sum_equal(&a->under, &b->under)) {
        sum = *a;
        sum_join(algebra, &sum.over, &b->over);
    } else {
        rt_sum other;
        sum_multiply(algebra, &sum.over, &a->over, &b->under);
        sum_multiply(algebra, &other, &b->over, &a->under);
        sum_join(algebra, &sum.over, &other);
        sum_multiply(algebra, &sum.under, &a->under, &b->under);
    }
    settle(algebra, &sum);
    *result = sum;
}

void rt_value_negate(rt_value *value)
{
    for (int i = 0; i < value->over.count; i++) {
        value->over.terms[i].over = -value->over.terms[i].over;
    }
}

void rt_value_multiply(rt_algebra *algebra, rt_value *result, const rt_value *a, const rt_value *b)
{
    rt_value product;
    sum_multiply(algebra, &product.over, &a->over, &b->over);
    sum_multiply(algebra, &product.under, &a->under, &b->under);
    settle(algebra, &product);
    *result = product;
}

void rt_value_divide(rt_algebra *algebra, rt_value *result, const rt_value *a, const rt_value *b)
{
    rt_value turned = {.over = b->under, .under = b->over};
    settle(algebra, &turned);
    if (!algebra->failed) {
        rt_value_multiply(algebra, result, a, &turned);
    }
}

bool rt_value_rational(const rt_value *value, rt_big *over, rt_big *under)
{
    if (!sum_is_one(&value->under) || value->over.count > 1) {
        return false;
    }
    *over = 0;
    *under = 1;
    if (value->over.count) {
        if (order(&value->over.terms[0], &one)) {
            return false;
        }
        *over = value->over.terms[0].over;
        *under = value->over.terms[0].under;
    }
    return true;
}

/* n = square²·root by trial division; false: out of reach. */
static bool split_square(rt_algebra *algebra, rt_big n, int64_t *square, int64_t *root)
{
    *square = 1;
    *root = 1;
    if (n > (rt_big)TRIAL_MAX * TRIAL_MAX || algebra->steps_left < 0) {
        return false;
    }
    int64_t rest = (int64_t)n;
    for (int64_t p = 2; p * p <= rest; p++) {
        while (rest % (p * p) == 0) {
            rest /= p * p;
            *square *= p;
        }
        if (rest % p == 0) {
            rest /= p;
            *root *= p;
        }
    }
    algebra->steps_left -= 1000;
    *root *= rest;
    return true;
}

static bool perfect_root(rt_big n, int64_t degree, rt_big *root)
{
    rt_big low = 0, high = (rt_big)1 << (degree == 2 ? 62 : 126 / degree < 62 ? 126 / degree : 62);
    while (low < high) {
        rt_big middle = (low + high + 1) / 2, power = 1;
        bool above = false;
        for (int64_t i = 0; i < degree && !above; i++) {
            above = __builtin_mul_overflow(power, middle, &power) || power > n;
        }
        if (above) {
            high = middle - 1;
        } else {
            low = middle;
        }
    }
    rt_big power = 1;
    for (int64_t i = 0; i < degree; i++) {
        if (__builtin_mul_overflow(power, low, &power)) {
            return false;
        }
    }
    *root = low;
    return power == n;
}

static void square_root(rt_algebra *algebra, rt_value *value, rt_big over, rt_big under)
{
    int64_t square_over, root_over, square_under, root_under;
    bool negative = over < 0;
    over = negative ? -over : over;
    if (!over) {
        return;
    }
    if (!split_square(algebra, over, &square_over, &root_over) ||
        !split_square(algebra, under, &square_under, &root_under)) {
        rt_big a, b;
        if (!perfect_root(over, 2, &a) || !perfect_root(under, 2, &b)) {
            algebra->failed = true;
            return;
        }
        rt_value below;
        rt_value_integer(value, a);
        rt_value_integer(&below, b);
        rt_value_divide(algebra, value, value, &below);
    } else {
        rt_value below;
        rt_value_integer(value, square_over);
        rt_value_integer(&below, square_under);
        value->over.terms[0].root = root_over;
        below.over.terms[0].root = root_under;
        rt_value_divide(algebra, value, value, &below);
    }
    if (negative) {
        rt_value unit;
        rt_value_symbol(algebra, &unit, "i", 1);
        rt_value_multiply(algebra, value, value, &unit);
    }
}

void rt_value_root(rt_algebra *algebra, rt_value *value, int64_t degree)
{
    rt_big over, under, a, b;
    if (!step(algebra) || degree < 2 || degree > 64) {
        algebra->failed = true;
        return;
    }
    bool rational = rt_value_rational(value, &over, &under);
    if (rational && degree == 2) {
        square_root(algebra, value, over, under);
        return;
    }
    bool negative = rational && over < 0;
    if (rational && (!negative || degree % 2) &&
        perfect_root(negative ? -over : over, degree, &a) && perfect_root(under, degree, &b)) {
        rt_value below;
        rt_value_integer(value, negative ? -a : a);
        rt_value_integer(&below, b);
        rt_value_divide(algebra, value, value, &below);
        return;
    }
    rt_value index, inner = *value;
    rt_value_integer(&index, degree);
    rt_value_opaque(algebra, value, "root", &inner, &index);
}

void rt_value_power(rt_algebra *algebra, rt_value *value, const rt_value *exponent)
{
    rt_big over, under;
    if (!rt_value_rational(exponent, &over, &under)) {
        rt_value base = *value;
        rt_value_opaque(algebra, value, "power", &base, exponent);
        return;
    }
    if (under > 64 || over > INTEGER_POWER_MAX || over < -INTEGER_POWER_MAX) {
        algebra->failed = true;
        return;
    }
    if (under > 1) {
        rt_value_root(algebra, value, (int64_t)under);
    }
    rt_value result, base = *value, unit;
    rt_value_integer(&result, 1);
    for (rt_big i = 0; i < (over < 0 ? -over : over) && !algebra->failed; i++) {
        rt_value_multiply(algebra, &result, &result, &base);
    }
    if (over < 0 && !algebra->failed) {
        rt_value_integer(&unit, 1);
        rt_value_divide(algebra, &result, &unit, &result);
    }
    if (!over && !value->over.count) {
        algebra->failed = true; /* 0⁰ */
    }
    *value = result;
}

bool rt_value_equal(rt_algebra *algebra, const rt_value *a, const rt_value *b)
{
    rt_sum left, right;
    sum_multiply(algebra, &left, &a->over, &b->under);
    sum_multiply(algebra, &right, &b->over, &a->under);
    return !algebra->failed && sum_equal(&left, &right);
}

static bool linear(const rt_sum *sum)
{
    for (int i = 0; i < sum->count; i++) {
        int degree = 0;
        for (int k = 0; k < RT_SYMBOLS_MAX; k++) {
            degree += sum->terms[i].powers[k];
            degree += sum->terms[i].powers[k] < 0 ? 100 : 0;
        }
        if (degree > 1 || sum->terms[i].root != 1) {
            return false;
        }
    }
    return true;
}

bool rt_value_proportional(rt_algebra *algebra, const rt_value *a, const rt_value *b, int *sign,
                           bool *simple)
{
    rt_sum left, right;
    sum_multiply(algebra, &left, &a->over, &b->under);
    sum_multiply(algebra, &right, &b->over, &a->under);
    *simple = linear(&left) && linear(&right);
    *sign = 1;
    if (algebra->failed || left.count != right.count || !left.count) {
        return !algebra->failed && left.count == right.count;
    }
    rt_term factor = one, *first = &left.terms[0], *second = &right.terms[0];
    factor.over = times(algebra, first->over, second->under);
    factor.under = times(algebra, first->under, second->over);
    reduce(&factor);
    *sign = factor.over < 0 ? -1 : 1;
    rt_sum scale = {.count = 1, .terms = {factor}};
    sum_multiply(algebra, &right, &right, &scale);
    return !algebra->failed && sum_equal(&left, &right);
}
