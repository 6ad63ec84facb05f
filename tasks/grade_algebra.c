/* grade_algebra: the arithmetic of exact values, with its bounds. */
#include "tasks/grade_field.h"

#include <string.h>

/* A product may have so many terms before equal ones meet; a value may keep TERMS_MAX. */
enum {
    PRODUCT_TERMS_MAX = 4096,
    TERMS_MAX = 512,
    BITS_MAX = 16384,
    DEGREE_MAX = 1 << 20,
    RELATION_DEGREE_MAX = 12,
    /* Common divisors are looked for only among polynomials of this size, else fractions stay as
     * they are; in many variables the time may grow with the number of all monomials below the
     * degrees (DENSE_MAX). */
    DIVISOR_TERMS_MAX = 96,
    DIVISOR_BITS_MAX = 512,
    DIVISOR_DEGREE_MAX = 256, /* a quotient may have as many terms */
    DENSE_MAX = 4096
};

/* ---- life and budget --------------------------------------------------------------------- */

rt_algebra *rt_algebra_open(int64_t *steps)
{
    rt_algebra *algebra = rt_alloc(sizeof *algebra);
    algebra->steps = steps;
    algebra->failed = *steps <= 0;
    fmpz_mpoly_ctx_init(algebra->ring, RT_GENERATORS_MAX, ORD_LEX);
    return algebra;
}

void rt_algebra_close(rt_algebra *algebra)
{
    for (rt_value *value = algebra->values; value;) {
        rt_value *next = value->next;
        fmpz_mpoly_q_clear(value->q, algebra->ring);
        rt_free(value);
        value = next;
    }
    for (int i = 0; i < algebra->count; i++) {
        rt_generator *generator = &algebra->generators[i];
        fmpz_mpoly_clear(&generator->relation, algebra->ring);
        if (generator->numbered) {
            qqbar_clear(&generator->number);
        }
    }
    fmpz_mpoly_ctx_clear(algebra->ring);
    rt_free(algebra);
    flint_cleanup(); /* this thread's caches: the next grade may run in another thread */
}

bool rt_algebra_failed(const rt_algebra *algebra)
{
    return algebra->failed;
}

void rt_algebra_fail(rt_algebra *algebra)
{
    algebra->failed = true;
}

void rt_algebra_doubt(rt_algebra *algebra)
{
    algebra->doubtful = true;
}

bool rt_algebra_doubtful(const rt_algebra *algebra)
{
    return algebra->doubtful;
}

bool rt_field_pay(rt_algebra *algebra, int64_t steps)
{
    *algebra->steps -= steps;
    algebra->failed = algebra->failed || *algebra->steps < 0;
    return !algebra->failed;
}

rt_value *rt_field_value(rt_algebra *algebra)
{
    rt_value *value = rt_alloc(sizeof *value);
    fmpz_mpoly_q_init(value->q, algebra->ring);
    value->next = algebra->values;
    *algebra->steps -= 40; /* bounds their number */
    algebra->values = value;
    return value;
}

/* ---- sizes ------------------------------------------------------------------------------- */

typedef struct size {
    int64_t over, under, bits_over, bits_under;
    slong degrees[RT_GENERATORS_MAX]; /* of numerator and denominator together */
} size;

static int64_t bits_of(const fmpz_mpoly_t polynomial)
{
    slong bits = fmpz_mpoly_max_bits(polynomial);
    return bits < 0 ? -bits : bits;
}

/* Degrees stay below DEGREE_MAX, so they fit. */
static void measure(const rt_algebra *algebra, const rt_value *value, size *out)
{
    slong under[RT_GENERATORS_MAX];
    const fmpz_mpoly_struct *num = fmpz_mpoly_q_numref(value->q);
    const fmpz_mpoly_struct *den = fmpz_mpoly_q_denref(value->q);
    *out = (size){.over = num->length, .under = den->length};
    out->bits_over = bits_of(num);
    out->bits_under = bits_of(den);
    fmpz_mpoly_degrees_si(out->degrees, num, algebra->ring);
    fmpz_mpoly_degrees_si(under, den, algebra->ring);
    for (int i = 0; i < RT_GENERATORS_MAX; i++) {
        out->degrees[i] = RT_MAX(out->degrees[i], under[i]);
        out->degrees[i] = RT_MAX(out->degrees[i], (slong)0); /* of zero: −1 */
    }
}

/* Whether a sum or product with these terms and bits may be computed; pays for it. *divisors: and
 * common divisors may be looked for. */
static bool afford(rt_algebra *algebra, const size *a, const size *b, int64_t terms, int64_t bits,
                   bool *divisors)
{
    int64_t dense = 1, highest = 0, longest = RT_MAX(terms, RT_MAX(a->over, b->over));
    for (int i = 0; i < RT_GENERATORS_MAX; i++) {
        highest = RT_MAX(highest, a->degrees[i] + b->degrees[i]);
        dense = RT_MIN(dense * (a->degrees[i] + b->degrees[i] + 1), (int64_t)DEGREE_MAX);
    }
    bool fits = terms <= PRODUCT_TERMS_MAX && bits <= BITS_MAX && highest <= DEGREE_MAX;
    int64_t words = bits / 64 + 1, cost = 20 + terms * (words + words * words / 8);
    *divisors = true;
    if (a->under > 1 || b->under > 1) {
        *divisors = longest <= DIVISOR_TERMS_MAX && bits <= DIVISOR_BITS_MAX &&
                    dense <= DENSE_MAX && highest <= DIVISOR_DEGREE_MAX;
        cost += *divisors ? longest * longest * 16 * words : 2 * cost;
    }
    algebra->failed = algebra->failed || !fits;
    return rt_field_pay(algebra, cost);
}

/* Brings a fraction into lowest terms if that is cheap. */
static void reduce(rt_algebra *algebra, rt_value *value)
{
    size own, none = {0};
    bool divisors;
    fmpz_mpoly_q_struct *q = value->q;
    measure(algebra, value, &own);
    if (afford(algebra, &own, &none, RT_MAX(own.over, own.under),
               RT_MAX(own.bits_over, own.bits_under), &divisors) && divisors) {
        fmpz_mpoly_q_canonicalise(q, algebra->ring);
    }
}

/* ---- normal form ------------------------------------------------------------------------- */

/* Rewrites by the relations, from the greatest generator down; whether anything changed. */
static bool rewrite(rt_algebra *algebra, fmpz_mpoly_t polynomial)
{
    bool changed = false;
    for (int i = algebra->count - 1; i >= 0 && !algebra->failed; i--) {
        const rt_generator *generator = &algebra->generators[i];
        slong degree = fmpz_mpoly_degree_si(polynomial, rt_field_variable(i), algebra->ring);
        if (!generator->related) {
            continue;
        }
        slong lead = fmpz_mpoly_degree_si(&generator->relation, rt_field_variable(i), algebra->ring);
        int64_t terms = polynomial->length, bits = bits_of(polynomial);
        if (degree < lead) {
            continue;
        }
        for (slong round = degree / lead; round > 0 && terms <= PRODUCT_TERMS_MAX; round--) {
            terms *= RT_MAX(generator->relation.length - 1, (slong)1);
            bits += bits_of(&generator->relation) + 1;
        }
        if (terms > PRODUCT_TERMS_MAX || bits > BITS_MAX || degree / lead > 1024 ||
            !rt_field_pay(algebra, 50 + 4 * terms * (bits / 64 + 1))) {
            algebra->failed = true;
            break;
        }
        fmpz_mpoly_t quotient;
        fmpz_mpoly_init(quotient, algebra->ring);
        fmpz_mpoly_divrem(quotient, polynomial, polynomial, &generator->relation, algebra->ring);
        fmpz_mpoly_clear(quotient, algebra->ring);
        changed = true;
    }
    return changed;
}

/* Brings a fresh value into its normal form; a failed one becomes zero. */
static const rt_value *settle(rt_algebra *algebra, rt_value *value)
{
    bool changed = !algebra->failed && rewrite(algebra, fmpz_mpoly_q_numref(value->q));
    changed |= !algebra->failed && rewrite(algebra, fmpz_mpoly_q_denref(value->q));
    algebra->failed = algebra->failed ||
                      fmpz_mpoly_is_zero(fmpz_mpoly_q_denref(value->q), algebra->ring);
    if (changed && !algebra->failed) {
        reduce(algebra, value);
    }
    const fmpz_mpoly_struct *num = fmpz_mpoly_q_numref(value->q);
    const fmpz_mpoly_struct *den = fmpz_mpoly_q_denref(value->q);
    algebra->failed = algebra->failed || num->length > TERMS_MAX || den->length > TERMS_MAX;
    if (algebra->failed) {
        fmpz_mpoly_q_zero(value->q, algebra->ring);
    }
    /* Kept until the end: the memory is paid for as well. */
    rt_field_pay(algebra, (num->length + den->length) * (2 + bits_of(num) / 64));
    return value;
}

const rt_value *rt_field_polynomial(rt_algebra *algebra, const fmpz_mpoly_t polynomial)
{
    rt_value *value = rt_field_value(algebra);
    fmpz_mpoly_set(fmpz_mpoly_q_numref(value->q), polynomial, algebra->ring);
    return settle(algebra, value);
}

/* ---- generators -------------------------------------------------------------------------- */

void rt_field_used(const rt_algebra *algebra, const rt_value *value, bool used[RT_GENERATORS_MAX])
{
    int flags[RT_GENERATORS_MAX];
    fmpz_mpoly_q_used_vars(flags, value->q, algebra->ring);
    for (int i = 0; i < RT_GENERATORS_MAX; i++) {
        used[i] = flags[rt_field_variable(i)] != 0;
    }
}

bool rt_field_all_real(const rt_algebra *algebra, const rt_value *value)
{
    bool used[RT_GENERATORS_MAX], all = true;
    rt_field_used(algebra, value, used);
    for (int i = 0; i < algebra->count; i++) {
        all = all && (!used[i] || algebra->generators[i].real);
    }
    return all;
}

bool rt_field_constant(const rt_algebra *algebra, const rt_value *value)
{
    bool used[RT_GENERATORS_MAX], all = true;
    rt_field_used(algebra, value, used);
    for (int i = 0; i < algebra->count; i++) {
        all = all && (!used[i] || algebra->generators[i].constant);
    }
    return all;
}

/* generator^n = numerator · denominator^(n−1) of a root's argument, or the cyclotomic polynomial. */
static void relate(rt_algebra *algebra, rt_generator *generator, slong variable)
{
    fmpz_mpoly_struct *relation = &generator->relation;
    if (generator->kind == RT_UNITY) {
        fmpz_poly_t cyclotomic;
        fmpz_poly_init(cyclotomic);
        fmpz_poly_cyclotomic(cyclotomic, 2 * (ulong)generator->degree);
        fmpz_mpoly_set_gen_fmpz_poly(relation, variable, cyclotomic, algebra->ring);
        fmpz_poly_clear(cyclotomic);
        generator->related = true;
    } else if (generator->kind == RT_ROOT && generator->degree <= RELATION_DEGREE_MAX) {
        const fmpz_mpoly_struct *num = fmpz_mpoly_q_numref(generator->argument->q);
        rt_value *above = rt_field_value(algebra);
        fmpz_mpoly_set(fmpz_mpoly_q_numref(above->q), num, algebra->ring);
        const rt_value *right = rt_field_power(algebra, generator->below, generator->degree - 1);
        right = rt_value_multiply(algebra, above, right);
        if (!algebra->failed) {
            fmpz_mpoly_gen(relation, variable, algebra->ring);
            fmpz_mpoly_pow_ui(relation, relation, (ulong)generator->degree, algebra->ring);
            fmpz_mpoly_sub(relation, relation, fmpz_mpoly_q_numref(right->q), algebra->ring);
            generator->related = true;
        }
    }
}

static bool same(const rt_algebra *algebra, const rt_generator *a, const rt_generator *b)
{
    return a->kind == b->kind && a->degree == b->degree && !strcmp(a->name, b->name) &&
           !a->argument == !b->argument &&
           (!a->argument || fmpz_mpoly_q_equal(a->argument->q, b->argument->q, algebra->ring));
}

static void classify(rt_algebra *algebra, rt_generator *generator)
{
    const rt_value *argument = generator->argument;
    bool used[RT_GENERATORS_MAX] = {false}, algebraic = true;
    if (argument) {
        rt_field_used(algebra, argument, used);
    }
    for (int i = 0; i < algebra->count; i++) {
        algebraic = algebraic && (!used[i] || algebra->generators[i].algebraic);
    }
    generator->constant = argument ? rt_field_constant(algebra, argument)
                                   : generator->kind != RT_SYMBOL;
    generator->algebraic = generator->kind == RT_UNITY || (generator->kind == RT_ROOT && algebraic);
    generator->real = generator->kind != RT_UNITY && (!argument || rt_field_all_real(algebra, argument));
    /* Roots and logarithms of negative constants; of expressions only the real domain counts. */
    if (generator->real && generator->constant &&
        ((generator->kind == RT_ROOT && generator->degree % 2 == 0) || generator->kind == RT_LOG)) {
        generator->real = rt_field_sign(algebra, argument) > 0;
    }
    generator->real = generator->real && (!generator->constant || (generator->kind != RT_ARCSIN &&
                                                                  generator->kind != RT_ARCCOS));
}

const rt_value *rt_field_generator(rt_algebra *algebra, enum rt_generator_kind kind, int64_t degree,
                                   const rt_value *argument, const char *name, size_t bytes)
{
    rt_generator made = {.kind = kind, .degree = degree, .argument = argument};
    rt_value *value = rt_field_value(algebra);
    int slot = 0;
    if (bytes >= sizeof made.name || !rt_field_pay(algebra, 50)) {
        algebra->failed = true;
        return value;
    }
    if (bytes) {
        memcpy(made.name, name, bytes);
    }
    while (slot < algebra->count && !same(algebra, &algebra->generators[slot], &made)) {
        slot++;
    }
    if (slot == RT_GENERATORS_MAX) {
        algebra->failed = true;
        return value;
    }
    if (slot == algebra->count) {
        if (kind == RT_ROOT) {
            rt_value *below = rt_field_value(algebra);
            fmpz_mpoly_set(fmpz_mpoly_q_numref(below->q), fmpz_mpoly_q_denref(argument->q), algebra->ring);
            made.below = below;
        }
        classify(algebra, &made);
        fmpz_mpoly_init(&made.relation, algebra->ring);
        relate(algebra, &made, rt_field_variable(slot));
        algebra->generators[algebra->count++] = made;
    }
    fmpz_mpoly_q_gen(value->q, rt_field_variable(slot), algebra->ring);
    return value;
}

bool rt_field_is_power(const rt_algebra *algebra, const rt_value *value, int *slot, int64_t *power)
{
    bool used[RT_GENERATORS_MAX];
    const fmpz_mpoly_struct *num = fmpz_mpoly_q_numref(value->q);
    int found = 0;
    rt_field_used(algebra, value, used);
    for (int i = 0; i < algebra->count; i++) {
        if (used[i]) {
            *slot = i;
            found++;
        }
    }
    if (found != 1 || num->length != 1 || !fmpz_is_one(num->coeffs) ||
        !fmpz_mpoly_is_one(fmpz_mpoly_q_denref(value->q), algebra->ring)) {
        return false;
    }
    *power = fmpz_mpoly_degree_si(num, rt_field_variable(*slot), algebra->ring);
    return true;
}

const rt_value *rt_field_term(rt_algebra *algebra, const rt_value *value, slong k)
{
    rt_value *term = rt_field_value(algebra);
    fmpz_mpoly_get_term(fmpz_mpoly_q_numref(term->q), fmpz_mpoly_q_numref(value->q), k, algebra->ring);
    fmpz_mpoly_set(fmpz_mpoly_q_denref(term->q), fmpz_mpoly_q_denref(value->q), algebra->ring);
    reduce(algebra, term);
    return settle(algebra, term);
}

/* ---- arithmetic -------------------------------------------------------------------------- */

const rt_value *rt_value_integer(rt_algebra *algebra, int64_t integer)
{
    rt_value *value = rt_field_value(algebra);
    rt_field_pay(algebra, 10);
    fmpz_mpoly_q_set_si(value->q, integer, algebra->ring);
    return value;
}

const rt_value *rt_field_ratio(rt_algebra *algebra, int64_t over, int64_t under)
{
    return rt_value_divide(algebra, rt_value_integer(algebra, over), rt_value_integer(algebra, under));
}

const rt_value *rt_value_digits(rt_algebra *algebra, const char *digits, size_t bytes)
{
    rt_value *value = rt_field_value(algebra);
    char text[RT_MATH_BYTES_MAX + 1];
    if (bytes > RT_MATH_BYTES_MAX || !bytes || !rt_field_pay(algebra, 10 + (int64_t)bytes)) {
        algebra->failed = true;
        return value;
    }
    memcpy(text, digits, bytes);
    text[bytes] = '\0';
    fmpz_t integer;
    fmpz_init(integer);
    if (fmpz_set_str(integer, text, 10)) {
        algebra->failed = true;
    } else {
        fmpz_mpoly_q_set_fmpz(value->q, integer, algebra->ring);
    }
    fmpz_clear(integer);
    return value;
}

const rt_value *rt_value_symbol(rt_algebra *algebra, const char *name, size_t bytes)
{
    if (bytes == 1 && *name == 'i') {
        return rt_field_generator(algebra, RT_UNITY, 2, NULL, NULL, 0);
    }
    if (bytes == 1 && *name == 'e') {
        return rt_field_exp(algebra, rt_value_integer(algebra, 1));
    }
    if (bytes == 3 && !memcmp(name, "\\pi", 3)) {
        return rt_field_generator(algebra, RT_PI, 0, NULL, NULL, 0);
    }
    return rt_field_generator(algebra, RT_SYMBOL, 0, NULL, name, bytes);
}

/* A sum or product without looking for common divisors. Not inline: gcc 12 takes a fraction for its
 * numerator, which has the same address, and warns. */
__attribute__((noinline)) static void multiply_across(const rt_algebra *algebra, rt_value *out,
                                                      const rt_value *a, const rt_value *b, bool sum)
{
    const fmpz_mpoly_struct *over_a = fmpz_mpoly_q_numref(a->q), *under_a = fmpz_mpoly_q_denref(a->q);
    const fmpz_mpoly_struct *over_b = fmpz_mpoly_q_numref(b->q), *under_b = fmpz_mpoly_q_denref(b->q);
    fmpz_mpoly_struct *over = fmpz_mpoly_q_numref(out->q), *under = fmpz_mpoly_q_denref(out->q);
    fmpz_mpoly_mul(over, over_a, sum ? under_b : over_b, algebra->ring);
    if (sum) {
        fmpz_mpoly_mul(under, over_b, under_a, algebra->ring);
        fmpz_mpoly_add(over, over, under, algebra->ring);
    }
    fmpz_mpoly_mul(under, under_a, under_b, algebra->ring);
}

const rt_value *rt_value_add(rt_algebra *algebra, const rt_value *a, const rt_value *b)
{
    rt_value *sum = rt_field_value(algebra);
    size size_a, size_b;
    bool divisors;
    measure(algebra, a, &size_a);
    measure(algebra, b, &size_b);
    int64_t terms = size_a.over * size_b.under + size_b.over * size_a.under;
    int64_t bits = RT_MAX(size_a.bits_over + size_b.bits_under, size_b.bits_over + size_a.bits_under);
    terms += size_a.under * size_b.under > 1 ? size_a.under * size_b.under : 0;
    if (!afford(algebra, &size_a, &size_b, terms, bits + 1, &divisors)) {
        return settle(algebra, sum);
    }
    if (divisors) {
        fmpz_mpoly_q_add(sum->q, a->q, b->q, algebra->ring);
    } else {
        multiply_across(algebra, sum, a, b, true);
    }
    return settle(algebra, sum);
}

const rt_value *rt_value_negate(rt_algebra *algebra, const rt_value *value)
{
    rt_value *turned = rt_field_value(algebra);
    rt_field_pay(algebra, fmpz_mpoly_q_numref(value->q)->length);
    fmpz_mpoly_q_neg(turned->q, value->q, algebra->ring);
    return settle(algebra, turned);
}

const rt_value *rt_value_multiply(rt_algebra *algebra, const rt_value *a, const rt_value *b)
{
    rt_value *product = rt_field_value(algebra);
    size size_a, size_b;
    bool divisors;
    measure(algebra, a, &size_a);
    measure(algebra, b, &size_b);
    int64_t terms = RT_MAX(size_a.over * size_b.over, size_a.under * size_b.under);
    int64_t bits = RT_MAX(size_a.bits_over + size_b.bits_over, size_a.bits_under + size_b.bits_under);
    if (!afford(algebra, &size_a, &size_b, terms, bits + 1, &divisors)) {
        return settle(algebra, product);
    }
    if (divisors) {
        fmpz_mpoly_q_mul(product->q, a->q, b->q, algebra->ring);
    } else {
        multiply_across(algebra, product, a, b, false);
    }
    return settle(algebra, product);
}

const rt_value *rt_value_divide(rt_algebra *algebra, const rt_value *a, const rt_value *b)
{
    rt_value *turned = rt_field_value(algebra);
    if (algebra->failed || rt_field_zero(algebra, b)) {
        algebra->failed = true;
        return turned;
    }
    fmpz_mpoly_q_inv(turned->q, b->q, algebra->ring);
    return rt_value_multiply(algebra, a, turned);
}

const rt_value *rt_field_difference(rt_algebra *algebra, const rt_value *a, const rt_value *b)
{
    rt_value *parts[4], *left, *right;
    const fmpz_mpoly_struct *from[] = {fmpz_mpoly_q_numref(a->q), fmpz_mpoly_q_denref(b->q),
                                       fmpz_mpoly_q_numref(b->q), fmpz_mpoly_q_denref(a->q)};
    if (fmpz_mpoly_equal(from[1], from[3], algebra->ring)) {
        left = rt_field_value(algebra);
        right = rt_field_value(algebra);
        fmpz_mpoly_set(fmpz_mpoly_q_numref(left->q), from[0], algebra->ring);
        fmpz_mpoly_set(fmpz_mpoly_q_numref(right->q), from[2], algebra->ring);
        return rt_value_add(algebra, left, rt_value_negate(algebra, right));
    }
    for (int i = 0; i < 4; i++) {
        parts[i] = rt_field_value(algebra);
        fmpz_mpoly_set(fmpz_mpoly_q_numref(parts[i]->q), from[i], algebra->ring);
    }
    const rt_value *first = rt_value_multiply(algebra, parts[0], parts[1]);
    const rt_value *second = rt_value_multiply(algebra, parts[2], parts[3]);
    return rt_value_add(algebra, first, rt_value_negate(algebra, second));
}

const rt_value *rt_field_power(rt_algebra *algebra, const rt_value *base, int64_t exponent)
{
    const rt_value *result = rt_value_integer(algebra, 1), *square = base;
    if (exponent < 0) {
        square = rt_value_divide(algebra, result, base);
        exponent = -exponent;
    }
    for (; exponent > 0 && !algebra->failed; exponent /= 2) {
        result = exponent % 2 ? rt_value_multiply(algebra, result, square) : result;
        square = exponent > 1 ? rt_value_multiply(algebra, square, square) : square;
    }
    return result;
}

bool rt_value_small(rt_algebra *algebra, const rt_value *value, int64_t *over, int64_t *under)
{
    bool small = !algebra->failed && fmpz_mpoly_q_is_fmpq(value->q, algebra->ring);
    fmpz_t part;
    fmpz_init(part);
    *over = 0;
    *under = 1;
    if (small) {
        fmpz_mpoly_get_fmpz(part, fmpz_mpoly_q_numref(value->q), algebra->ring);
        small = fmpz_bits(part) < 62;
        *over = small ? fmpz_get_si(part) : 0;
        fmpz_mpoly_get_fmpz(part, fmpz_mpoly_q_denref(value->q), algebra->ring);
        small = small && fmpz_bits(part) < 62;
        *under = small ? fmpz_get_si(part) : 1;
    }
    fmpz_clear(part);
    return small;
}

/* n! and n over k are below 2^BITS_MAX for these. */
enum { FACTORIAL_MAX = 1000, BINOMIAL_MAX = 2000 };

const rt_value *rt_value_factorial(rt_algebra *algebra, const rt_value *value)
{
    int64_t n, under;
    fmpz_t product;
    rt_value *result = rt_field_value(algebra);
    if (!rt_value_small(algebra, value, &n, &under) || under != 1 || n < 0 || n > FACTORIAL_MAX ||
        !rt_field_pay(algebra, 100 + 8 * n)) {
        algebra->failed = true;
        return result;
    }
    fmpz_init(product);
    fmpz_fac_ui(product, (ulong)n);
    fmpz_mpoly_q_set_fmpz(result->q, product, algebra->ring);
    fmpz_clear(product);
    return result;
}

const rt_value *rt_value_binomial(rt_algebra *algebra, const rt_value *n, const rt_value *k)
{
    int64_t from, chosen, under_n, under_k;
    fmpz_t ways;
    rt_value *result = rt_field_value(algebra);
    bool small = rt_value_small(algebra, n, &from, &under_n) &&
                 rt_value_small(algebra, k, &chosen, &under_k) && under_n == 1 && under_k == 1;
    if (!small || from < 0 || from > BINOMIAL_MAX || chosen < 0 || chosen > from ||
        !rt_field_pay(algebra, 100 + 8 * from)) {
        algebra->failed = true;
        return result;
    }
    fmpz_init(ways);
    fmpz_bin_uiui(ways, (ulong)from, (ulong)chosen);
    fmpz_mpoly_q_set_fmpz(result->q, ways, algebra->ring);
    fmpz_clear(ways);
    return result;
}
