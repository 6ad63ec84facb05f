/* grade_decide: whether a value is zero: by its normal form, by balls at points, or exactly. */
#include "tasks/grade_field.h"

#include <string.h>

enum {
    SAMPLES = 6,
    LOW_BITS = 128,
    HIGH_BITS = 640,
    NUMBER_DEGREE_MAX = 16,
    NUMBER_BITS_MAX = 400,
    PROOF_BITS_MAX = 12000,
    ARGUMENT_BITS_MAX = 40, /* of what an exponential is taken */
    GROUPS_MAX = 64
};

/* ---- values at a point ------------------------------------------------------------------- */

/* Positive, of very different sizes, other ones for every symbol, and no roots of anything. */
static void sample(acb_t at, int slot, int round)
{
    static const int over[SAMPLES] = {137, 31, 523, 1009, 17, 4801};
    static const int under[SAMPLES] = {100, 97, 101, 89, 211, 103};
    int which = (round + slot) % SAMPLES;
    acb_set_si(at, over[which] * 10 + 7 * slot);
    acb_div_si(at, at, under[which] * 10 + slot, HIGH_BITS);
}

static bool small(const arb_t part)
{
    return arf_cmpabs_2exp_si(arb_midref(part), ARGUMENT_BITS_MAX) < 0;
}

static bool useful(const rt_generator *generator, const acb_t at)
{
    bool any_size = generator->kind == RT_ROOT || generator->kind == RT_LOG;
    return acb_is_finite(at) && (any_size || (small(acb_realref(at)) && small(acb_imagref(at))));
}

/* False: outside the real domain, where other branches could be meant. */
static bool in_domain(const rt_generator *generator, const acb_t at)
{
    bool real = arb_contains_zero(acb_imagref(at));
    if (generator->constant || generator->kind == RT_EXP || generator->kind == RT_ARCTAN) {
        return true;
    }
    if (generator->kind == RT_ARCSIN || generator->kind == RT_ARCCOS) {
        arb_t one;
        arb_init(one);
        arb_abs(one, acb_realref(at));
        arb_sub_si(one, one, 1, LOW_BITS);
        real = real && arb_is_negative(one);
        arb_clear(one);
        return real;
    }
    bool odd = generator->kind == RT_ROOT && generator->degree % 2;
    return arb_is_positive(acb_realref(at)) ? real : odd && acb_is_real(at);
}

static void root_at(const rt_algebra *algebra, const rt_generator *generator, acb_t at, acb_srcptr x,
                    slong bits)
{
    bool turned = generator->degree % 2 && acb_is_real(at) && arb_is_negative(acb_realref(at));
    acb_t below;
    acb_init(below);
    if (turned) {
        acb_neg(at, at);
    }
    acb_root_ui(at, at, (ulong)generator->degree, bits);
    if (turned) {
        acb_neg(at, at);
    }
    fmpz_mpoly_q_evaluate_acb(below, generator->below->q, x, bits, algebra->ring);
    acb_mul(at, at, below, bits);
    acb_clear(below);
}

static bool generator_at(const rt_algebra *algebra, int slot, int round, acb_ptr x, slong bits)
{
    const rt_generator *generator = &algebra->generators[slot];
    acb_ptr at = x + rt_field_variable(slot);
    if (generator->argument) {
        fmpz_mpoly_q_evaluate_acb(at, generator->argument->q, x, bits, algebra->ring);
        if (!useful(generator, at) || !in_domain(generator, at)) {
            return false;
        }
    }
    switch (generator->kind) {
    case RT_SYMBOL: sample(at, slot, round); break;
    case RT_PI: acb_const_pi(at, bits); break;
    case RT_UNITY:
        acb_set_si(at, 1);
        acb_div_si(at, at, (slong)generator->degree, bits);
        acb_exp_pi_i(at, at, bits);
        break;
    case RT_ROOT: root_at(algebra, generator, at, x, bits); break;
    case RT_LOG: acb_log(at, at, bits); break;
    case RT_EXP: acb_exp(at, at, bits); break;
    case RT_ARCSIN: acb_asin(at, at, bits); break;
    case RT_ARCCOS: acb_acos(at, at, bits); break;
    case RT_ARCTAN: acb_atan(at, at, bits); break;
    }
    return acb_is_finite(at);
}

/* The generators of a value and those in their arguments; the number of all terms. */
static int64_t dependencies(const rt_algebra *algebra, const rt_value *value,
                            bool needed[RT_GENERATORS_MAX])
{
    int64_t terms = fmpz_mpoly_q_numref(value->q)->length + fmpz_mpoly_q_denref(value->q)->length;
    bool used[RT_GENERATORS_MAX];
    rt_field_used(algebra, value, needed);
    for (int i = algebra->count - 1; i >= 0; i--) {
        const rt_value *argument = algebra->generators[i].argument;
        if (needed[i] && argument) {
            rt_field_used(algebra, argument, used);
            for (int k = 0; k < i; k++) {
                needed[k] = needed[k] || used[k];
            }
            terms += fmpz_mpoly_q_numref(argument->q)->length;
            terms += fmpz_mpoly_q_denref(argument->q)->length;
        }
    }
    return terms;
}

/* At one point; false: not defined there, or the point is of no use. */
static bool value_at(rt_algebra *algebra, const rt_value *value, int round, slong bits, acb_t out)
{
    bool needed[RT_GENERATORS_MAX], defined;
    int64_t terms = dependencies(algebra, value, needed);
    acb_ptr x = _acb_vec_init(RT_GENERATORS_MAX);
    defined = rt_field_pay(algebra, 1000 + terms * bits / 4);
    for (int i = 0; i < algebra->count && defined; i++) {
        defined = !needed[i] || generator_at(algebra, i, round, x, bits);
    }
    if (defined) {
        fmpz_mpoly_q_evaluate_acb(out, value->q, x, bits, algebra->ring);
        defined = acb_is_finite(out);
    }
    _acb_vec_clear(x, RT_GENERATORS_MAX);
    return defined;
}

/* Whether balls prove that the value is not the constant zero. */
static bool told_apart(rt_algebra *algebra, const rt_value *value)
{
    int rounds = rt_field_constant(algebra, value) ? 1 : SAMPLES;
    bool apart = false;
    acb_t at;
    acb_init(at);
    for (slong bits = LOW_BITS; bits <= HIGH_BITS && !apart; bits *= 5) {
        for (int round = 0; round < rounds && !apart && !algebra->failed; round++) {
            apart = value_at(algebra, value, round, bits, at) && !acb_contains_zero(at);
        }
    }
    acb_clear(at);
    return apart && !algebra->failed;
}

int rt_field_sign(rt_algebra *algebra, const rt_value *value)
{
    int sign = 0;
    acb_t at;
    if (!rt_field_constant(algebra, value) || !rt_field_all_real(algebra, value)) {
        return 0;
    }
    acb_init(at);
    if (value_at(algebra, value, 0, HIGH_BITS, at) && acb_is_real(at)) {
        sign = arb_is_positive(acb_realref(at)) - arb_is_negative(acb_realref(at));
    }
    acb_clear(at);
    return sign;
}

/* ---- exact algebraic numbers ------------------------------------------------------------- */

static bool number_fits(const qqbar_t number)
{
    return qqbar_within_limits(number, NUMBER_DEGREE_MAX, NUMBER_BITS_MAX);
}

static bool root_number(rt_algebra *algebra, const rt_generator *generator, qqbar_t number)
{
    qqbar_t below;
    if (!rt_field_number(algebra, generator->argument, number) || !number_fits(number) ||
        qqbar_degree(number) * generator->degree > NUMBER_DEGREE_MAX) {
        return false;
    }
    bool turned = generator->degree % 2 && qqbar_is_real(number) && qqbar_sgn_re(number) < 0;
    if (turned) {
        qqbar_neg(number, number);
    }
    qqbar_root_ui(number, number, (ulong)generator->degree);
    if (turned) {
        qqbar_neg(number, number);
    }
    qqbar_init(below);
    bool known = rt_field_number(algebra, generator->below, below) &&
                 qqbar_binop_within_limits(number, below, NUMBER_DEGREE_MAX, NUMBER_BITS_MAX);
    if (known) {
        qqbar_mul(number, number, below);
    }
    qqbar_clear(below);
    return known;
}

static bool generator_number(rt_algebra *algebra, rt_generator *generator)
{
    if (generator->numbered || !generator->algebraic || !rt_field_pay(algebra, 20000)) {
        return generator->numbered && !algebra->failed;
    }
    qqbar_t number;
    qqbar_init(number);
    bool known = generator->kind == RT_UNITY;
    if (known) {
        qqbar_exp_pi_i(number, 1, (ulong)generator->degree);
        known = number_fits(number);
    } else {
        known = root_number(algebra, generator, number);
    }
    if (known) {
        qqbar_init(&generator->number);
        qqbar_swap(&generator->number, number);
        generator->numbered = true;
    }
    qqbar_clear(number);
    return known;
}

static bool polynomial_number(rt_algebra *algebra, const fmpz_mpoly_t polynomial, qqbar_t number)
{
    int used[RT_GENERATORS_MAX];
    qqbar_ptr x = _qqbar_vec_init(RT_GENERATORS_MAX);
    fmpz_mpoly_used_vars(used, polynomial, algebra->ring);
    bool known = polynomial->length <= 32 && rt_field_pay(algebra, 20000 * (1 + polynomial->length));
    for (int i = 0; i < algebra->count && known; i++) {
        if (used[rt_field_variable(i)]) {
            known = generator_number(algebra, &algebra->generators[i]);
            if (known) {
                qqbar_set(x + rt_field_variable(i), &algebra->generators[i].number);
            }
        }
    }
    known = known && qqbar_evaluate_fmpz_mpoly(number, polynomial, x, NUMBER_DEGREE_MAX, NUMBER_BITS_MAX,
                                               algebra->ring);
    _qqbar_vec_clear(x, RT_GENERATORS_MAX);
    return known;
}

bool rt_field_number(rt_algebra *algebra, const rt_value *value, qqbar_t number)
{
    qqbar_t below;
    qqbar_init(below);
    bool known = polynomial_number(algebra, fmpz_mpoly_q_numref(value->q), number) &&
                 polynomial_number(algebra, fmpz_mpoly_q_denref(value->q), below) &&
                 !qqbar_is_zero(below) &&
                 qqbar_binop_within_limits(number, below, NUMBER_DEGREE_MAX, NUMBER_BITS_MAX);
    if (known) {
        qqbar_div(number, number, below);
    }
    qqbar_clear(below);
    return known;
}

/* ---- zero -------------------------------------------------------------------------------- */

/* Σ |coefficient| · bounds of the generators of a monomial */
static void bound_polynomial(const rt_algebra *algebra, const fmpz_mpoly_t polynomial, arb_srcptr bounds,
                             arb_t out)
{
    ulong powers[RT_GENERATORS_MAX];
    arb_t term, part;
    arb_init(term);
    arb_init(part);
    arb_zero(out);
    for (slong k = 0; k < polynomial->length; k++) {
        fmpz_mpoly_get_term_exp_ui(powers, polynomial, k, algebra->ring);
        arb_set_fmpz(term, polynomial->coeffs + k);
        arb_abs(term, term);
        for (int i = 0; i < RT_GENERATORS_MAX; i++) {
            arb_pow_ui(part, bounds + i, powers[i], 64);
            arb_mul(term, term, part, 64);
        }
        arb_add(out, out, term, 64);
    }
    arb_clear(part);
    arb_clear(term);
}

/* Bounds every conjugate of the value, a sum of products of algebraic integers, by 2^*bits, and its
 * degree by *degree; false: no such sum. A generator g^n = A has no conjugate above |A|^(1/n). */
static bool bound_conjugates(rt_algebra *algebra, const rt_value *value, int64_t *bits, int64_t *degree)
{
    bool needed[RT_GENERATORS_MAX], sums = true;
    arb_ptr bounds = _arb_vec_init(RT_GENERATORS_MAX);
    arb_t whole;
    mag_t above;
    arb_init(whole);
    mag_init(above);
    *degree = 1;
    sums = rt_field_pay(algebra, 20 * dependencies(algebra, value, needed));
    for (int i = 0; i < algebra->count && sums; i++) {
        const rt_generator *generator = &algebra->generators[i];
        slong variable = rt_field_variable(i);
        if (!needed[i]) {
            continue;
        }
        sums = generator->related && generator->algebraic;
        if (!sums) {
            break;
        }
        arb_one(bounds + variable); /* of a root of unity */
        slong power = fmpz_mpoly_degree_si(&generator->relation, variable, algebra->ring);
        if (generator->kind == RT_ROOT) {
            fmpz_mpoly_t below;
            fmpz_mpoly_init(below, algebra->ring);
            fmpz_mpoly_gen(below, variable, algebra->ring);
            fmpz_mpoly_pow_ui(below, below, (ulong)power, algebra->ring);
            fmpz_mpoly_sub(below, below, &generator->relation, algebra->ring);
            bound_polynomial(algebra, below, bounds, whole);
            arb_root_ui(bounds + variable, whole, (ulong)power, 64);
            fmpz_mpoly_clear(below, algebra->ring);
        }
        *degree = RT_MIN(*degree * power, (int64_t)PROOF_BITS_MAX);
    }
    bound_polynomial(algebra, fmpz_mpoly_q_numref(value->q), bounds, whole);
    arb_get_mag(above, whole);
    sums = sums && !mag_is_inf(above) && fmpz_bits(MAG_EXPREF(above)) < 30;
    *bits = sums ? RT_MAX(fmpz_get_si(MAG_EXPREF(above)), (slong)1) : 0;
    mag_clear(above);
    arb_clear(whole);
    _arb_vec_clear(bounds, RT_GENERATORS_MAX);
    return sums;
}

/* The product of all conjugates of an algebraic integer is an integer, so one that is not zero is
 * at least 2^(−bits · (degree − 1)): a ball below that proves zero. */
static bool number_is_zero(rt_algebra *algebra, const rt_value *value)
{
    int64_t bits, degree;
    bool zero = false;
    acb_t at;
    mag_t above;
    if (!fmpz_mpoly_is_one(fmpz_mpoly_q_denref(value->q), algebra->ring) ||
        !bound_conjugates(algebra, value, &bits, &degree) || bits * degree > PROOF_BITS_MAX) {
        return false;
    }
    acb_init(at);
    mag_init(above);
    if (value_at(algebra, value, 0, (slong)(bits * degree + bits + 128), at)) {
        acb_get_mag(above, at);
        zero = mag_cmp_2exp_si(above, (slong)(-bits * (degree - 1))) < 0;
    }
    mag_clear(above);
    acb_clear(at);
    return zero;
}

/* Splits the exponents of term k into those of algebraic generators and the others. */
static void exponents(const rt_algebra *algebra, const fmpz_mpoly_t polynomial, slong k,
                      ulong algebraic[RT_GENERATORS_MAX], ulong others[RT_GENERATORS_MAX])
{
    fmpz_mpoly_get_term_exp_ui(algebraic, polynomial, k, algebra->ring);
    memset(others, 0, RT_GENERATORS_MAX * sizeof *others);
    for (int i = 0; i < RT_GENERATORS_MAX; i++) {
        slong variable = rt_field_variable(i);
        if (i >= algebra->count || !algebra->generators[i].algebraic) {
            others[variable] = algebraic[variable];
            algebraic[variable] = 0;
        }
    }
}

/* The coefficient, algebraic, of a monomial of the other generators in a numerator. */
static void coefficient(const rt_algebra *algebra, const fmpz_mpoly_t polynomial,
                        const ulong monomial[RT_GENERATORS_MAX], fmpz_mpoly_t out)
{
    ulong algebraic[RT_GENERATORS_MAX], others[RT_GENERATORS_MAX];
    fmpz_mpoly_zero(out, algebra->ring);
    for (slong k = 0; k < polynomial->length; k++) {
        exponents(algebra, polynomial, k, algebraic, others);
        if (!memcmp(others, monomial, sizeof others)) {
            fmpz_mpoly_push_term_fmpz_ui(out, polynomial->coeffs + k, algebraic, algebra->ring);
        }
    }
    fmpz_mpoly_sort_terms(out, algebra->ring);
}

/* Every coefficient of a numerator is zero as an algebraic number. */
static bool exactly_zero(rt_algebra *algebra, const fmpz_mpoly_t polynomial)
{
    ulong algebraic[RT_GENERATORS_MAX], seen[GROUPS_MAX][RT_GENERATORS_MAX];
    int groups = 0;
    bool zero = true;
    fmpz_mpoly_t part;
    fmpz_mpoly_init(part, algebra->ring);
    for (slong k = 0; k < polynomial->length && zero; k++) {
        int old = 0;
        if (groups == GROUPS_MAX || !rt_field_pay(algebra, 20 * polynomial->length)) {
            zero = false;
            break;
        }
        exponents(algebra, polynomial, k, algebraic, seen[groups]);
        while (old < groups && memcmp(seen[old], seen[groups], sizeof seen[0])) {
            old++;
        }
        if (old < groups) {
            continue;
        }
        coefficient(algebra, polynomial, seen[groups++], part);
        zero = number_is_zero(algebra, rt_field_polynomial(algebra, part));
    }
    fmpz_mpoly_clear(part, algebra->ring);
    return zero;
}

/* Only symbols and π, between which there is no relation. */
static bool independent(const rt_algebra *algebra, const rt_value *value)
{
    bool used[RT_GENERATORS_MAX], all = true;
    rt_field_used(algebra, value, used);
    for (int i = 0; i < algebra->count; i++) {
        all = all && (!used[i] || algebra->generators[i].kind == RT_SYMBOL ||
                      algebra->generators[i].kind == RT_PI);
    }
    return all;
}

int rt_field_zero(rt_algebra *algebra, const rt_value *value)
{
    const fmpz_mpoly_struct *num = fmpz_mpoly_q_numref(value->q);
    if (algebra->failed) {
        return -1;
    }
    if (fmpz_mpoly_is_zero(num, algebra->ring)) {
        return 1;
    }
    if (independent(algebra, value) || told_apart(algebra, value)) {
        return 0;
    }
    return exactly_zero(algebra, num) && !algebra->failed ? 1 : -1;
}

int rt_value_equal(rt_algebra *algebra, const rt_value *a, const rt_value *b)
{
    int zero = rt_field_zero(algebra, rt_field_difference(algebra, a, b));
    if (zero < 0 || algebra->failed) {
        return RT_UNDECIDED;
    }
    return zero ? RT_CORRECT : algebra->doubtful ? RT_UNDECIDED : RT_WRONG;
}

/* Of degree 1 at most in symbols, with algebraic numbers before them. */
static bool linear(const rt_algebra *algebra, const rt_value *value)
{
    const fmpz_mpoly_struct *num = fmpz_mpoly_q_numref(value->q);
    ulong algebraic[RT_GENERATORS_MAX], others[RT_GENERATORS_MAX];
    for (slong k = 0; k < num->length; k++) {
        ulong degree = 0;
        exponents(algebra, num, k, algebraic, others);
        for (int i = 0; i < algebra->count; i++) {
            ulong power = others[rt_field_variable(i)];
            if (power && !algebra->generators[i].constant && algebra->generators[i].kind != RT_SYMBOL) {
                return false;
            }
            degree += algebra->generators[i].constant ? 0 : power;
        }
        if (degree > 1) {
            return false;
        }
    }
    return true;
}

static const rt_value *side(rt_algebra *algebra, const rt_value *a, const rt_value *b, bool numerators)
{
    rt_value *zero = rt_field_value(algebra);
    if (numerators) {
        return rt_field_polynomial(algebra, fmpz_mpoly_q_numref(a->q));
    }
    fmpz_mpoly_set(fmpz_mpoly_q_denref(zero->q), fmpz_mpoly_q_denref(b->q), algebra->ring);
    return rt_field_difference(algebra, a, zero);
}

int rt_value_proportional(rt_algebra *algebra, const rt_value *a, const rt_value *b, bool numerators,
                          int *sign, bool *final)
{
    const rt_value *left = side(algebra, a, b, numerators), *right = side(algebra, b, a, numerators);
    ulong algebraic[RT_GENERATORS_MAX], monomial[RT_GENERATORS_MAX];
    const fmpz_mpoly_struct *nums[] = {fmpz_mpoly_q_numref(left->q), fmpz_mpoly_q_numref(right->q)};
    const rt_value *factors[2];
    *sign = 0;
    *final = linear(algebra, left) && linear(algebra, right);
    int zero_left = rt_field_zero(algebra, left), zero_right = rt_field_zero(algebra, right);
    if (algebra->failed || zero_left || zero_right) {
        return !algebra->failed && zero_left > 0 && zero_right > 0 ? RT_CORRECT : RT_UNDECIDED;
    }
    exponents(algebra, nums[0], 0, algebraic, monomial);
    for (int i = 0; i < 2; i++) {
        fmpz_mpoly_t part;
        fmpz_mpoly_init(part, algebra->ring);
        coefficient(algebra, nums[i], monomial, part);
        factors[i] = rt_field_polynomial(algebra, part);
        fmpz_mpoly_clear(part, algebra->ring);
    }
    if (rt_field_zero(algebra, factors[0])) {
        return RT_UNDECIDED;
    }
    if (rt_field_zero(algebra, factors[1])) {
        return rt_field_zero(algebra, factors[1]) > 0 ? RT_WRONG : RT_UNDECIDED;
    }
    const rt_value *product = rt_value_multiply(algebra, left, factors[1]);
    const rt_value *other = rt_value_multiply(algebra, right, factors[0]);
    int zero = rt_field_zero(algebra, rt_value_add(algebra, product, rt_value_negate(algebra, other)));
    *sign = rt_field_sign(algebra, rt_value_multiply(algebra, factors[0], factors[1]));
    return zero < 0 || algebra->failed ? RT_UNDECIDED : zero ? RT_CORRECT : RT_WRONG;
}
