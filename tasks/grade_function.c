/* grade_function: roots, powers, exponentials, logarithms and what is made of them. */
#include "tasks/grade_field.h"

#include <string.h>

enum {
    PRIMES_UP_TO = 1000, /* factors that are looked for in what roots and logarithms are taken of */
    ROOT_MAX = 64,
    POWER_MAX = 100000,
    EXP_TERMS_MAX = 8,
    EXP_POWER_MAX = 1000,
    UNITY_MAX = 30
};

static const rt_value *from_fmpz(rt_algebra *algebra, const fmpz_t integer)
{
    rt_value *value = rt_field_value(algebra);
    fmpz_mpoly_q_set_fmpz(value->q, integer, algebra->ring);
    return value;
}

static const rt_value *fail(rt_algebra *algebra)
{
    rt_algebra_fail(algebra);
    return rt_field_value(algebra);
}

static const rt_value *half(rt_algebra *algebra, const rt_value *value)
{
    return rt_value_multiply(algebra, value, rt_field_ratio(algebra, 1, 2));
}

static const rt_value *imaginary(rt_algebra *algebra)
{
    return rt_value_symbol(algebra, "i", 1);
}

static const rt_value *pi(rt_algebra *algebra)
{
    return rt_value_symbol(algebra, "\\pi", 3);
}

static bool is_rational(const rt_algebra *algebra, const rt_value *value)
{
    return fmpz_mpoly_q_is_fmpq(value->q, algebra->ring);
}

/* The sign of the coefficient of the greatest monomial. */
static bool leads_negative(const rt_value *value)
{
    const fmpz_mpoly_struct *num = fmpz_mpoly_q_numref(value->q);
    return num->length && fmpz_sgn(num->coeffs) < 0;
}

/* exp(iπ over/under): by cube and square roots if the denominator divides 12. */
static const rt_value *unity(rt_algebra *algebra, int64_t over, int64_t under)
{
    over %= 2 * under;
    over += over < 0 ? 2 * under : 0;
    if (12 % under) {
        if (under > UNITY_MAX) {
            return fail(algebra);
        }
        const rt_value *root = rt_field_generator(algebra, RT_UNITY, under, NULL, NULL, 0);
        return rt_field_power(algebra, root, over);
    }
    over *= 12 / under;
    if (over % 12 == 0) {
        return rt_value_integer(algebra, over ? -1 : 1);
    }
    const rt_value *i = imaginary(algebra), *one = rt_value_integer(algebra, 1), *third, *quarter;
    if (over % 6 == 0) {
        return rt_field_power(algebra, i, over / 6);
    }
    /* exp(iπ/12) = exp(iπ/3) · exp(−iπ/4) */
    third = rt_value_root(algebra, rt_value_integer(algebra, 3), 2);
    third = half(algebra, rt_value_add(algebra, one, rt_value_multiply(algebra, i, third)));
    quarter = rt_value_root(algebra, rt_value_integer(algebra, 2), 2);
    quarter = half(algebra, rt_value_multiply(algebra, quarter,
                                              rt_value_add(algebra, one, rt_value_negate(algebra, i))));
    third = rt_field_power(algebra, third, over % 6);
    return rt_value_multiply(algebra, third, rt_field_power(algebra, quarter, over % 8));
}

/* ---- roots ------------------------------------------------------------------------------- */

/* base^(power/degree) of a positive integer: base to the whole part, times a root in lowest terms. */
static const rt_value *prime_root(rt_algebra *algebra, const fmpz_t base, ulong power, ulong degree)
{
    ulong rest = power % degree, common = n_gcd(rest, degree);
    const rt_value *value = from_fmpz(algebra, base);
    const rt_value *whole = rt_field_power(algebra, value, (int64_t)(power / degree));
    if (!rest) {
        return whole;
    }
    value = rt_field_generator(algebra, RT_ROOT, (int64_t)(degree / common), value, NULL, 0);
    value = rt_field_power(algebra, value, (int64_t)(rest / common));
    return rt_value_multiply(algebra, whole, value);
}

/* One call for every prime below PRIMES_UP_TO that divides n, one for what is left if above 1. */
typedef const rt_value *(*factor_step)(rt_algebra *algebra, const rt_value *so_far, const fmpz_t factor,
                                       ulong power, ulong argument);

static const rt_value *factors(rt_algebra *algebra, const fmpz_t n, const rt_value *start, ulong argument,
                               factor_step each)
{
    fmpz_t rest, prime;
    if (!rt_field_pay(algebra, 1000 + (int64_t)fmpz_bits(n) * 10)) {
        return start;
    }
    fmpz_init_set(rest, n);
    fmpz_init(prime);
    for (ulong p = 2; p < PRIMES_UP_TO && !fmpz_is_one(rest); p += p == 2 ? 1 : 2) {
        if (fmpz_fdiv_ui(rest, p)) {
            continue;
        }
        fmpz_set_ui(prime, p);
        ulong power = (ulong)fmpz_remove(rest, rest, prime);
        start = each(algebra, start, prime, power, argument);
    }
    if (!fmpz_is_one(rest)) {
        start = each(algebra, start, rest, 1, argument);
    }
    fmpz_clear(prime);
    fmpz_clear(rest);
    return start;
}

/* so_far · factor^(power/degree) */
static const rt_value *root_step(rt_algebra *algebra, const rt_value *so_far, const fmpz_t factor,
                                 ulong power, ulong degree)
{
    fmpz_t base;
    fmpz_init_set(base, factor);
    /* What is left may be a power itself. */
    for (ulong d = degree; d > 1 && power == 1; d--) {
        if (degree % d == 0 && fmpz_root(base, factor, (slong)d)) {
            power = d;
        } else {
            fmpz_set(base, factor);
        }
    }
    const rt_value *root = prime_root(algebra, base, power, degree);
    fmpz_clear(base);
    return rt_value_multiply(algebra, so_far, root);
}

/* value = content · primitive with a positive rational content. */
static const rt_value *take_content(rt_algebra *algebra, const rt_value *value, fmpz_t over, fmpz_t under)
{
    rt_value *primitive = rt_field_value(algebra);
    fmpz_mpoly_struct *num = fmpz_mpoly_q_numref(primitive->q), *den = fmpz_mpoly_q_denref(primitive->q);
    fmpz_mpoly_set(num, fmpz_mpoly_q_numref(value->q), algebra->ring);
    fmpz_mpoly_set(den, fmpz_mpoly_q_denref(value->q), algebra->ring);
    _fmpz_vec_content(over, num->coeffs, num->length);
    _fmpz_vec_content(under, den->coeffs, den->length);
    fmpz_mpoly_scalar_divexact_fmpz(num, num, over, algebra->ring);
    fmpz_mpoly_scalar_divexact_fmpz(den, den, under, algebra->ring);
    rt_field_pay(algebra, num->length + den->length);
    return primitive;
}

/* Takes powers of symbols out of a root: *outside · root of the result. Even roots give up only
 * even powers, which have no sign to lose. */
static const rt_value *take_powers(rt_algebra *algebra, const rt_value *value, int64_t degree,
                                   const rt_value **outside)
{
    const rt_value *inside = value;
    const fmpz_mpoly_struct *parts[] = {fmpz_mpoly_q_numref(value->q), fmpz_mpoly_q_denref(value->q)};
    for (int part = 0; part < 2; part++) {
        fmpz_mpoly_t common;
        slong degrees[RT_GENERATORS_MAX];
        fmpz_mpoly_init(common, algebra->ring);
        fmpz_mpoly_term_content(common, parts[part], algebra->ring);
        fmpz_mpoly_degrees_si(degrees, common, algebra->ring);
        fmpz_mpoly_clear(common, algebra->ring);
        for (int i = 0; i < algebra->count; i++) {
            int64_t whole = degrees[rt_field_variable(i)] / degree;
            whole -= degree % 2 ? 0 : whole % 2;
            if (whole <= 0 || algebra->generators[i].kind != RT_SYMBOL) {
                continue;
            }
            rt_value *symbol = rt_field_value(algebra);
            fmpz_mpoly_q_gen(symbol->q, rt_field_variable(i), algebra->ring);
            whole = part ? -whole : whole;
            *outside = rt_value_multiply(algebra, *outside, rt_field_power(algebra, symbol, whole));
            inside = rt_value_multiply(algebra, inside, rt_field_power(algebra, symbol, -whole * degree));
        }
    }
    return inside;
}

/* A root that is a number of degree 2 over the rationals, as one: √(3+2√2) = 1+√2. */
static const rt_value *quadratic(rt_algebra *algebra, const rt_value *root)
{
    qqbar_t number;
    fmpz_t a, b, c, under;
    const rt_value *result = root;
    qqbar_init(number);
    fmpz_init(a);
    fmpz_init(b);
    fmpz_init(c);
    fmpz_init(under);
    if (!algebra->failed && rt_field_number(algebra, root, number) && qqbar_degree(number) <= 2 &&
        qqbar_height_bits(number) < 60) {
        qqbar_get_quadratic(a, b, c, under, number, 2);
        const rt_value *surd = rt_value_root(algebra, from_fmpz(algebra, c), 2);
        surd = rt_value_multiply(algebra, surd, from_fmpz(algebra, b));
        result = rt_value_add(algebra, from_fmpz(algebra, a), surd);
        result = rt_value_divide(algebra, result, from_fmpz(algebra, under));
    }
    fmpz_clear(under);
    fmpz_clear(c);
    fmpz_clear(b);
    fmpz_clear(a);
    qqbar_clear(number);
    return result;
}

/* Of a value without content. */
static const rt_value *radical(rt_algebra *algebra, const rt_value *value, int64_t degree)
{
    const rt_value *outside = rt_value_integer(algebra, 1);
    value = take_powers(algebra, value, degree, &outside);
    if (fmpz_mpoly_q_is_one(value->q, algebra->ring)) {
        return outside;
    }
    const rt_value *root = rt_field_generator(algebra, RT_ROOT, degree, value, NULL, 0);
    rt_value *below = rt_field_value(algebra);
    fmpz_mpoly_set(fmpz_mpoly_q_numref(below->q), fmpz_mpoly_q_denref(value->q), algebra->ring);
    root = rt_value_divide(algebra, root, below);
    if (rt_field_constant(algebra, value)) {
        root = quadratic(algebra, root);
    }
    return rt_value_multiply(algebra, outside, root);
}

static bool is_exponential(const rt_algebra *algebra, const rt_value *value, int *slot, int64_t *power)
{
    return rt_field_is_power(algebra, value, slot, power) &&
           algebra->generators[*slot].kind == RT_EXP && algebra->generators[*slot].real;
}

const rt_value *rt_value_root(rt_algebra *algebra, const rt_value *value, int64_t degree)
{
    int slot;
    int64_t power;
    if (algebra->failed || degree < 1 || degree > ROOT_MAX) {
        return fail(algebra);
    }
    if (degree == 1 || fmpz_mpoly_q_is_zero(value->q, algebra->ring)) {
        return value;
    }
    if (is_exponential(algebra, value, &slot, &power)) {
        return rt_value_power(algebra, value, rt_field_ratio(algebra, 1, degree));
    }
    fmpz_t over, under;
    fmpz_init(over);
    fmpz_init(under);
    const rt_value *result = rt_value_integer(algebra, 1), *bottom = result;
    const rt_value *inside = take_content(algebra, value, over, under);
    if (leads_negative(inside) && (degree % 2 || is_rational(algebra, inside))) {
        inside = rt_value_negate(algebra, inside);
        result = degree % 2 ? rt_value_integer(algebra, -1) : unity(algebra, 1, degree);
    }
    result = factors(algebra, over, result, (ulong)degree, root_step);
    bottom = factors(algebra, under, bottom, (ulong)degree, root_step);
    result = rt_value_divide(algebra, result, bottom);
    fmpz_clear(over);
    fmpz_clear(under);
    if (!fmpz_mpoly_q_is_one(inside->q, algebra->ring)) {
        result = rt_value_multiply(algebra, result, radical(algebra, inside, degree));
    }
    return result;
}

const rt_value *rt_value_absolute(rt_algebra *algebra, const rt_value *value)
{
    if (is_rational(algebra, value)) {
        return leads_negative(value) ? rt_value_negate(algebra, value) : value;
    }
    if (rt_field_all_real(algebra, value)) {
        int sign = rt_field_sign(algebra, value);
        if (sign) {
            return sign < 0 ? rt_value_negate(algebra, value) : value;
        }
        return rt_value_root(algebra, rt_value_multiply(algebra, value, value), 2);
    }
    /* |a + bi|² = a² + b², where i is all that is not real. */
    bool used[RT_GENERATORS_MAX];
    rt_value *plain = rt_field_value(algebra);
    const rt_value *i = imaginary(algebra), *turned = rt_value_integer(algebra, 0);
    int slot;
    int64_t power;
    rt_field_used(algebra, value, used);
    if (algebra->failed || !rt_field_is_power(algebra, i, &slot, &power) ||
        fmpz_mpoly_q_numref(value->q)->length > 32) {
        return fail(algebra);
    }
    for (int k = 0; k < algebra->count; k++) {
        if (used[k] && k != slot && !algebra->generators[k].real) {
            return fail(algebra);
        }
    }
    fmpz_mpoly_q_set(plain->q, value->q, algebra->ring);
    slong variable = rt_field_variable(slot);
    if (fmpz_mpoly_degree_si(fmpz_mpoly_q_denref(value->q), variable, algebra->ring) > 0) {
        return fail(algebra);
    }
    for (slong k = 0; k < fmpz_mpoly_q_numref(value->q)->length; k++) {
        const rt_value *term = rt_field_term(algebra, value, k);
        bool odd = fmpz_mpoly_degree_si(fmpz_mpoly_q_numref(term->q), variable, algebra->ring) % 2;
        turned = rt_value_add(algebra, turned, odd ? rt_value_negate(algebra, term) : term);
    }
    return rt_value_root(algebra, rt_value_multiply(algebra, value, turned), 2);
}

/* ---- exponentials ------------------------------------------------------------------------ */

/* Whether the argument of an exponential is a rational multiple of the monomial, a positive one:
 * argument = over/under · monomial. */
static bool multiple_of(rt_algebra *algebra, const rt_value *argument, const rt_value *monomial,
                        int64_t *over, int64_t *under)
{
    fmpz_t top, bottom;
    fmpz_init(top);
    fmpz_init(bottom);
    const rt_value *primitive = take_content(algebra, argument, top, bottom);
    bool same = fmpz_mpoly_q_equal(primitive->q, monomial->q, algebra->ring) && fmpz_bits(top) < 24 &&
                fmpz_bits(bottom) < 24;
    *over = same ? fmpz_get_si(top) : 0;
    *under = same ? fmpz_get_si(bottom) : 1;
    fmpz_clear(bottom);
    fmpz_clear(top);
    return same;
}

/* exp(over/under · monomial) as a power of one generator for all rational multiples, if possible. */
static const rt_value *exp_generator(rt_algebra *algebra, const rt_value *monomial, int64_t over,
                                     int64_t under)
{
    const rt_value *unit = rt_field_ratio(algebra, 1, under);
    rt_value *old = rt_field_value(algebra);
    int count = algebra->count;
    int64_t root = 0, top, bottom;
    if (over > EXP_POWER_MAX || over < -EXP_POWER_MAX || under > EXP_POWER_MAX) {
        return fail(algebra);
    }
    for (int i = 0; i < count && !algebra->failed; i++) {
        if (algebra->generators[i].kind != RT_EXP ||
            !multiple_of(algebra, algebra->generators[i].argument, monomial, &top, &bottom)) {
            continue;
        }
        fmpz_mpoly_q_gen(old->q, rt_field_variable(i), algebra->ring);
        if (bottom % (top * under) == 0) {
            return rt_field_power(algebra, old, over * (bottom / (top * under)));
        }
        root = top * under % bottom ? 0 : top * under / bottom;
    }
    const rt_value *argument = rt_value_multiply(algebra, monomial, unit);
    const rt_value *made = rt_field_generator(algebra, RT_EXP, 0, argument, NULL, 0);
    if (root > 1 && root <= 12 && algebra->count > count && !algebra->failed) {
        rt_generator *generator = &algebra->generators[count];
        fmpz_mpoly_gen(&generator->relation, rt_field_variable(count), algebra->ring);
        fmpz_mpoly_pow_ui(&generator->relation, &generator->relation, (ulong)root, algebra->ring);
        fmpz_mpoly_sub(&generator->relation, &generator->relation, fmpz_mpoly_q_numref(old->q),
                       algebra->ring);
        generator->related = true;
    }
    return rt_field_power(algebra, made, over);
}

/* Whether a letter that mostly stands for a whole number is a factor. */
static bool has_whole(const rt_algebra *algebra, const rt_value *monomial)
{
    bool used[RT_GENERATORS_MAX], whole = false;
    rt_field_used(algebra, monomial, used);
    for (int i = 0; i < algebra->count; i++) {
        const rt_generator *generator = &algebra->generators[i];
        whole = whole || (used[i] && generator->kind == RT_SYMBOL && strchr("kmnN", *generator->name));
    }
    return whole;
}

/* exp(c · monomial) with a rational c. */
static const rt_value *exp_term(rt_algebra *algebra, const rt_value *term)
{
    fmpz_t over, under;
    int64_t power, c_over = 0, c_under = 1;
    int slot = -1;
    fmpz_init(over);
    fmpz_init(under);
    const rt_value *monomial = take_content(algebra, term, over, under);
    if (leads_negative(monomial)) {
        monomial = rt_value_negate(algebra, monomial);
        fmpz_neg(over, over);
    }
    bool small = fmpz_bits(over) < 60 && fmpz_bits(under) < 60;
    if (small) {
        c_over = fmpz_get_si(over);
        c_under = fmpz_get_si(under);
    }
    fmpz_clear(over);
    fmpz_clear(under);
    if (!small || algebra->failed) {
        return fail(algebra);
    }
    if (rt_field_is_power(algebra, monomial, &slot, &power) && power == 1 &&
        algebra->generators[slot].kind == RT_LOG) {
        return rt_value_power(algebra, algebra->generators[slot].argument,
                              rt_field_ratio(algebra, c_over, c_under));
    }
    const rt_value *turn = rt_value_multiply(algebra, imaginary(algebra), pi(algebra));
    if (!algebra->failed && fmpz_mpoly_q_equal(turn->q, monomial->q, algebra->ring) &&
        c_under <= UNITY_MAX) {
        return unity(algebra, c_over, c_under);
    }
    /* cos(nπ) is (−1)^n for whole n only. */
    rt_value *part = rt_field_value(algebra);
    bool turns = fmpz_mpoly_divides(fmpz_mpoly_q_numref(part->q), fmpz_mpoly_q_numref(monomial->q),
                                    fmpz_mpoly_q_numref(turn->q), algebra->ring);
    if (!algebra->failed && turns && has_whole(algebra, monomial)) {
        rt_algebra_doubt(algebra);
    }
    return exp_generator(algebra, monomial, c_over, c_under);
}

const rt_value *rt_field_exp(rt_algebra *algebra, const rt_value *value)
{
    const fmpz_mpoly_struct *num = fmpz_mpoly_q_numref(value->q);
    const rt_value *result = rt_value_integer(algebra, 1);
    if (num->length > EXP_TERMS_MAX) {
        return fail(algebra);
    }
    if (!fmpz_mpoly_is_fmpz(fmpz_mpoly_q_denref(value->q), algebra->ring)) {
        return exp_term(algebra, value);
    }
    for (slong k = 0; k < num->length && !algebra->failed; k++) {
        const rt_value *term = exp_term(algebra, rt_field_term(algebra, value, k));
        result = rt_value_multiply(algebra, result, term);
    }
    return result;
}

/* ---- powers ------------------------------------------------------------------------------ */

static bool is_zero_plainly(const rt_algebra *algebra, const rt_value *value)
{
    return fmpz_mpoly_q_is_zero(value->q, algebra->ring);
}

const rt_value *rt_value_power(rt_algebra *algebra, const rt_value *base, const rt_value *exponent)
{
    int64_t over, under, power;
    int slot;
    bool fraction = rt_value_small(algebra, exponent, &over, &under);
    if (algebra->failed || (is_zero_plainly(algebra, base) && (!fraction || over <= 0))) {
        return fail(algebra);
    }
    if (is_exponential(algebra, base, &slot, &power) && (!fraction || under > 1)) {
        const rt_value *inner = algebra->generators[slot].argument;
        inner = rt_value_multiply(algebra, inner, rt_value_integer(algebra, power));
        return rt_field_exp(algebra, rt_value_multiply(algebra, inner, exponent));
    }
    if (fraction && over <= POWER_MAX && over >= -POWER_MAX && under <= ROOT_MAX) {
        if (under == 1) {
            return rt_field_power(algebra, base, over);
        }
        /* (−8)^(1/3) is −2 to some and a complex number to others. */
        if (is_rational(algebra, base) && leads_negative(base) && under > 2) {
            rt_algebra_doubt(algebra);
        }
        return rt_field_power(algebra, rt_value_root(algebra, base, under), over);
    }
    if (fraction) { /* x^100007 as exp(100007 · ln x) would come back here */
        return fail(algebra);
    }
    int sign = rt_field_constant(algebra, base) ? rt_field_sign(algebra, base) : 1;
    if (!sign) {
        return fail(algebra);
    }
    if (sign < 0) { /* (−1)^n is exp(iπn), and 1 or −1 for whole n */
        const rt_value *turn = rt_value_multiply(algebra, imaginary(algebra), pi(algebra));
        rt_algebra_doubt(algebra);
        turn = rt_field_exp(algebra, rt_value_multiply(algebra, turn, exponent));
        base = rt_value_power(algebra, rt_value_negate(algebra, base), exponent);
        return rt_value_multiply(algebra, turn, base);
    }
    const rt_value *log = rt_value_log(algebra, base, NULL);
    return rt_field_exp(algebra, rt_value_multiply(algebra, exponent, log));
}

/* ---- logarithms -------------------------------------------------------------------------- */

/* so_far + sign · power · ln factor; sign: argument 0 is minus. */
static const rt_value *log_step(rt_algebra *algebra, const rt_value *so_far, const fmpz_t factor,
                                ulong power, ulong argument)
{
    const rt_value *log = rt_field_generator(algebra, RT_LOG, 0, from_fmpz(algebra, factor), NULL, 0);
    int64_t times = argument ? (int64_t)power : -(int64_t)power;
    return rt_value_add(algebra, so_far, rt_value_multiply(algebra, log, rt_value_integer(algebra, times)));
}

/* ln of one generator. */
static const rt_value *log_generator(rt_algebra *algebra, int slot)
{
    const rt_generator *generator = &algebra->generators[slot];
    rt_value *value = rt_field_value(algebra);
    if (generator->kind == RT_EXP && generator->real) {
        return generator->argument;
    }
    if (generator->kind == RT_ROOT && generator->real &&
        fmpz_mpoly_is_one(fmpz_mpoly_q_denref(generator->argument->q), algebra->ring)) {
        const rt_value *log = rt_value_log(algebra, generator->argument, NULL);
        return rt_value_multiply(algebra, log, rt_field_ratio(algebra, 1, generator->degree));
    }
    fmpz_mpoly_q_gen(value->q, rt_field_variable(slot), algebra->ring);
    return rt_field_generator(algebra, RT_LOG, 0, value, NULL, 0);
}

static const rt_value *natural(rt_algebra *algebra, const rt_value *value)
{
    const fmpz_mpoly_struct *parts[] = {fmpz_mpoly_q_numref(value->q), fmpz_mpoly_q_denref(value->q)};
    const rt_value *sum = rt_value_integer(algebra, 0);
    if (algebra->failed || is_zero_plainly(algebra, value)) {
        return fail(algebra);
    }
    if (parts[0]->length != 1 || parts[1]->length != 1 || leads_negative(value) ||
        !rt_field_all_real(algebra, value)) {
        return rt_field_generator(algebra, RT_LOG, 0, value, NULL, 0);
    }
    int generators = algebra->count; /* logarithms made here do not occur in the value */
    for (int part = 0; part < 2; part++) {
        slong degrees[RT_GENERATORS_MAX];
        sum = factors(algebra, parts[part]->coeffs, sum, part == 0, log_step);
        fmpz_mpoly_degrees_si(degrees, parts[part], algebra->ring);
        for (int i = 0; i < generators && !algebra->failed; i++) {
            int64_t times = degrees[rt_field_variable(i)];
            if (times > 0) {
                const rt_value *log = log_generator(algebra, i);
                log = rt_value_multiply(algebra, log, rt_value_integer(algebra, part ? -times : times));
                sum = rt_value_add(algebra, sum, log);
            }
        }
    }
    return sum;
}

const rt_value *rt_value_log(rt_algebra *algebra, const rt_value *value, const rt_value *base)
{
    const rt_value *log = natural(algebra, value);
    return base ? rt_value_divide(algebra, log, natural(algebra, base)) : log;
}

/* ---- functions --------------------------------------------------------------------------- */

enum function { SIN, COS, TAN, COT, SEC, CSC, ARCSIN, ARCCOS, ARCTAN, SINH, COSH, TANH, EXP, LN };

static const struct {
    const char *name;
    enum function is;
} functions[] = {
    {"sin", SIN},       {"cos", COS},       {"tan", TAN},   {"cot", COT},   {"sec", SEC},
    {"csc", CSC},       {"arcsin", ARCSIN}, {"arccos", ARCCOS}, {"arctan", ARCTAN},
    {"asin", ARCSIN},   {"acos", ARCCOS},   {"atan", ARCTAN},
    {"sinh", SINH},     {"cosh", COSH},     {"tanh", TANH}, {"exp", EXP},   {"ln", LN},
};

bool rt_function_known(const char *name)
{
    for (size_t i = 0; i < RT_COUNT(functions); i++) {
        if (!strcmp(functions[i].name, name)) {
            return true;
        }
    }
    return false;
}

/* The angle as a rational multiple of π where it is one, else a generator. */
static const rt_value *arc(rt_algebra *algebra, enum function which, const rt_value *value)
{
    static const enum rt_generator_kind kinds[] = {RT_ARCSIN, RT_ARCCOS, RT_ARCTAN};
    bool turned = which != ARCCOS && leads_negative(value), known = false;
    value = turned ? rt_value_negate(algebra, value) : value;
    slong over = 0;
    ulong under = 1;
    qqbar_t number;
    qqbar_init(number);
    if (!algebra->failed && rt_field_constant(algebra, value) && rt_field_number(algebra, value, number) &&
        qqbar_degree(number) <= 8) {
        known = which == ARCSIN ? qqbar_asin_pi(&over, &under, number)
              : which == ARCCOS ? qqbar_acos_pi(&over, &under, number)
                                : qqbar_atan_pi(&over, &under, number);
    }
    qqbar_clear(number);
    const rt_value *angle = known
        ? rt_value_multiply(algebra, pi(algebra), rt_field_ratio(algebra, over, (int64_t)under))
        : rt_field_generator(algebra, kinds[which - ARCSIN], 0, value, NULL, 0);
    return turned ? rt_value_negate(algebra, angle) : angle;
}

static const rt_value *trigonometric(rt_algebra *algebra, enum function which, const rt_value *value)
{
    bool hyperbolic = which >= SINH;
    const rt_value *i = imaginary(algebra);
    const rt_value *argument = hyperbolic ? value : rt_value_multiply(algebra, i, value);
    const rt_value *up = rt_field_exp(algebra, argument);
    const rt_value *down = rt_field_exp(algebra, rt_value_negate(algebra, argument));
    const rt_value *cosine = half(algebra, rt_value_add(algebra, up, down));
    const rt_value *sine = half(algebra, rt_value_add(algebra, up, rt_value_negate(algebra, down)));
    const rt_value *one = rt_value_integer(algebra, 1);
    if (!hyperbolic) {
        sine = rt_value_negate(algebra, rt_value_multiply(algebra, i, sine));
    }
    switch (which) {
    case SIN: case SINH: return sine;
    case COS: case COSH: return cosine;
    case COT: return rt_value_divide(algebra, cosine, sine);
    case SEC: return rt_value_divide(algebra, one, cosine);
    case CSC: return rt_value_divide(algebra, one, sine);
    default: return rt_value_divide(algebra, sine, cosine);
    }
}

const rt_value *rt_value_function(rt_algebra *algebra, const char *name, const rt_value *value)
{
    for (size_t i = 0; i < RT_COUNT(functions) && !algebra->failed; i++) {
        if (strcmp(functions[i].name, name)) {
            continue;
        }
        enum function which = functions[i].is;
        return which == EXP  ? rt_field_exp(algebra, value)
               : which == LN ? rt_value_log(algebra, value, NULL)
               : which == ARCSIN || which == ARCCOS || which == ARCTAN
                   ? arc(algebra, which, value)
                   : trigonometric(algebra, which, value);
    }
    return fail(algebra);
}
