/*
 * grade_algebra: exact values for comparing answers: quotients of sums of rational · √n · monomial.
 * Sums over different square-free n and different monomials are equal only term by term, so
 * equality is decided, not estimated. Everything is bounded; what leaves the bounds sets `failed`.
 */
#ifndef RT_TASKS_GRADE_ALGEBRA_H
#define RT_TASKS_GRADE_ALGEBRA_H

#include "tasks/grade.h"

enum { RT_SYMBOLS_MAX = 8, RT_TERMS_MAX = 24, RT_SYMBOL_BYTES = 160, RT_STEPS_MAX = 20000 };

typedef __int128 rt_big;

/* Symbols of one comparison, shared by both sides. Slot 0 is the imaginary unit. */
typedef struct rt_algebra {
    int symbols_count;
    char symbols[RT_SYMBOLS_MAX][RT_SYMBOL_BYTES];
    bool opaque;   /* a function or root stands for itself: inequality proves nothing */
    bool failed;   /* out of bounds, or not mathematics we know */
    int steps_left;
} rt_algebra;

typedef struct rt_term {
    rt_big over, under;             /* lowest terms, under > 0 */
    int64_t root;                   /* square-free, ≥ 1 */
    int16_t powers[RT_SYMBOLS_MAX]; /* may be negative */
} rt_term;

typedef struct rt_sum {
    int count; /* 0: zero */
    rt_term terms[RT_TERMS_MAX]; /* sorted by (powers, root), none zero */
} rt_sum;

typedef struct rt_value {
    rt_sum over, under;
} rt_value;

void rt_algebra_init(rt_algebra *algebra, int steps);
void rt_value_integer(rt_value *value, rt_big integer);
void rt_value_symbol(rt_algebra *algebra, rt_value *value, const char *name, size_t bytes);
/* A function applied to a value, known only by what it is applied to. */
void rt_value_opaque(rt_algebra *algebra, rt_value *value, const char *name, const rt_value *a,
                     const rt_value *b);
/* The result may be one of the operands. */
void rt_value_add(rt_algebra *algebra, rt_value *result, const rt_value *a, const rt_value *b);
void rt_value_negate(rt_value *value);
void rt_value_multiply(rt_algebra *algebra, rt_value *result, const rt_value *a,
                       const rt_value *b);
void rt_value_divide(rt_algebra *algebra, rt_value *result, const rt_value *a, const rt_value *b);
void rt_value_power(rt_algebra *algebra, rt_value *value, const rt_value *exponent);
void rt_value_root(rt_algebra *algebra, rt_value *value, int64_t degree);
bool rt_value_rational(const rt_value *value, rt_big *over, rt_big *under);
bool rt_value_equal(rt_algebra *algebra, const rt_value *a, const rt_value *b);
/* a = c·b for a rational c ≠ 0; sign: of c. *simple: both are polynomials of degree 1 at most
 * without roots, so that a "no" is final. */
bool rt_value_proportional(rt_algebra *algebra, const rt_value *a, const rt_value *b, int *sign,
                           bool *simple);

/* Reads a whole normalised expression; failure is in algebra->failed. */
void rt_expression_read(rt_algebra *algebra, rt_text text, rt_value *value);

/* ---- grade_math_latex.c: LaTeX to the small alphabet that the reader and comparer know ---- */

enum { RT_MATH_BYTES_MAX = 2048 };
/* Single bytes for what LaTeX writes as commands. */
#define RT_SET_OPEN '\x01'
#define RT_SET_CLOSE '\x02'
#define RT_UNION '\x03'
#define RT_AT_MOST '\x04'
#define RT_AT_LEAST '\x05'
#define RT_UNEQUAL '\x06'
#define RT_PLUS_MINUS '\x07'
#define RT_ROW '\x0b'
#define RT_UNKNOWN '\x0e'
#define RT_MATRIX_OPEN '\x10'
#define RT_MATRIX_CLOSE '\x11'
/* Writes at most RT_MATH_BYTES_MAX bytes; false: too long. */
bool rt_latex_normalise(rt_text text, bool group_thousands, char *out, size_t *bytes);

#endif
