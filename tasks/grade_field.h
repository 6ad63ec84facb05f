/*
 * grade_field: how grade_algebra's values are built; for its own files only. A value is a quotient
 * of polynomials over the integers in up to RT_GENERATORS_MAX generators. Later generators may
 * depend on earlier ones and are greater in the (lexicographic) order of monomials, so relations
 * "generator^n = what stands below it" rewrite to a normal form.
 */
#ifndef RT_TASKS_GRADE_FIELD_H
#define RT_TASKS_GRADE_FIELD_H

#include <calcium/fmpz_mpoly_q.h>
#include <calcium/qqbar.h>
#include <calcium/utils_flint.h>

#include "tasks/grade_algebra.h"

enum { RT_GENERATORS_MAX = 16, RT_SYMBOL_BYTES = 40 };

enum rt_generator_kind {
    RT_SYMBOL,
    RT_PI,
    RT_UNITY, /* exp(iπ / degree) */
    RT_ROOT,  /* below · argument^(1/degree) */
    RT_LOG,
    RT_EXP,
    RT_ARCSIN,
    RT_ARCCOS,
    RT_ARCTAN
};

struct rt_value {
    rt_value *next; /* of all values of an algebra */
    fmpz_mpoly_q_t q;
};

typedef struct rt_generator {
    enum rt_generator_kind kind;
    int64_t degree;
    const rt_value *argument;
    const rt_value *below; /* of a root: the denominator of the argument */
    char name[RT_SYMBOL_BYTES];
    bool constant; /* no symbol inside */
    bool real;     /* for real symbols where it is defined */
    bool algebraic;
    bool numbered; /* `number` holds its value */
    qqbar_struct number;
    bool related;
    fmpz_mpoly_struct relation; /* monic in the generator; zero */
} rt_generator;

struct rt_algebra {
    fmpz_mpoly_ctx_t ring;
    rt_generator generators[RT_GENERATORS_MAX];
    int count;
    bool failed, doubtful;
    int64_t *steps;
    rt_value *values;
};

/* Pays; false (and failed) if the budget is gone. */
bool rt_field_pay(rt_algebra *algebra, int64_t steps);
rt_value *rt_field_value(rt_algebra *algebra);
/* Finds or makes it; the value of the generator. argument may be NULL. */
const rt_value *rt_field_generator(rt_algebra *algebra, enum rt_generator_kind kind, int64_t degree,
                                   const rt_value *argument, const char *name, size_t bytes);
/* The variable of the ring that stands for a generator. */
static inline slong rt_field_variable(int slot)
{
    return RT_GENERATORS_MAX - 1 - slot;
}
/* used[slot] for the generators of a value. */
void rt_field_used(const rt_algebra *algebra, const rt_value *value, bool used[RT_GENERATORS_MAX]);
bool rt_field_all_real(const rt_algebra *algebra, const rt_value *value);
bool rt_field_constant(const rt_algebra *algebra, const rt_value *value);
/* value = generator^power and nothing else. */
bool rt_field_is_power(const rt_algebra *algebra, const rt_value *value, int *slot, int64_t *power);
/* A polynomial as a value by the relations of the generators; copies it. */
const rt_value *rt_field_polynomial(rt_algebra *algebra, const fmpz_mpoly_t polynomial);
/* c · monomial, term number k of the numerator, over the whole denominator. */
const rt_value *rt_field_term(rt_algebra *algebra, const rt_value *value, slong k);
const rt_value *rt_field_ratio(rt_algebra *algebra, int64_t over, int64_t under);
const rt_value *rt_field_power(rt_algebra *algebra, const rt_value *base, int64_t exponent);
const rt_value *rt_field_exp(rt_algebra *algebra, const rt_value *value);
/* a.over · b.under − b.over · a.under */
const rt_value *rt_field_difference(rt_algebra *algebra, const rt_value *a, const rt_value *b);

/* 1: zero; 0: certainly not; −1: not known. */
int rt_field_zero(rt_algebra *algebra, const rt_value *value);
/* Of a constant that is real: −1 or 1; 0: zero, not real or not known. */
int rt_field_sign(rt_algebra *algebra, const rt_value *value);
/* The value as an exact algebraic number; false: it is none, or too large a one. */
bool rt_field_number(rt_algebra *algebra, const rt_value *value, qqbar_t number);

#endif
