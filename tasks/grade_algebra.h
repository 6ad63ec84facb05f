/*
 * grade_algebra: exact values for comparing answers: quotients of polynomials (FLINT, Calcium) in
 * symbols and in generators: roots, roots of unity, π, logarithms, exponentials, inverse functions.
 * Trigonometry is written in exponentials, so that its identities are algebra. Two values are equal
 * if their difference is zero by the relations of the generators or as an exact algebraic number;
 * they differ if ball arithmetic (Arb) tells them apart at a point; else nobody knows.
 * Symbols stand for positive real numbers; i, e and π for themselves.
 *
 * Every operation is paid for from a budget before it is done, which bounds time and memory; what
 * leaves a bound makes the algebra "failed", and every value after that is meaningless but valid.
 * An algebra belongs to one thread. It owns its values: they live until it is closed.
 */
#ifndef RT_TASKS_GRADE_ALGEBRA_H
#define RT_TASKS_GRADE_ALGEBRA_H

#include "tasks/grade.h"

/* What one comparison of answers may cost, in word operations, roughly. */
enum { RT_STEPS_MAX = 4000000 };

typedef struct rt_algebra rt_algebra;
typedef struct rt_value rt_value;

/* *steps goes down with the work and may end below zero. */
rt_algebra *rt_algebra_open(int64_t *steps);
void rt_algebra_close(rt_algebra *algebra);
bool rt_algebra_failed(const rt_algebra *algebra);
void rt_algebra_fail(rt_algebra *algebra);
/* The text can be read in two ways, and one was taken: that values differ proves nothing. */
void rt_algebra_doubt(rt_algebra *algebra);
bool rt_algebra_doubtful(const rt_algebra *algebra);

const rt_value *rt_value_integer(rt_algebra *algebra, int64_t integer);
const rt_value *rt_value_digits(rt_algebra *algebra, const char *digits, size_t bytes);
/* "i", "e" and "\\pi" are the numbers; every other name is a symbol. */
const rt_value *rt_value_symbol(rt_algebra *algebra, const char *name, size_t bytes);
const rt_value *rt_value_add(rt_algebra *algebra, const rt_value *a, const rt_value *b);
const rt_value *rt_value_negate(rt_algebra *algebra, const rt_value *value);
const rt_value *rt_value_multiply(rt_algebra *algebra, const rt_value *a, const rt_value *b);
/* Fails unless b is certainly not zero. */
const rt_value *rt_value_divide(rt_algebra *algebra, const rt_value *a, const rt_value *b);
const rt_value *rt_value_power(rt_algebra *algebra, const rt_value *base, const rt_value *exponent);
/* Odd roots of negative numbers are negative. */
const rt_value *rt_value_root(rt_algebra *algebra, const rt_value *value, int64_t degree);
const rt_value *rt_value_absolute(rt_algebra *algebra, const rt_value *value);
/* base NULL: e. */
const rt_value *rt_value_log(rt_algebra *algebra, const rt_value *value, const rt_value *base);
/* Name without backslash: sin, …, arcsin, …, sinh, …, exp, ln. */
bool rt_function_known(const char *name);
const rt_value *rt_value_function(rt_algebra *algebra, const char *name, const rt_value *value);
const rt_value *rt_value_factorial(rt_algebra *algebra, const rt_value *value);
const rt_value *rt_value_binomial(rt_algebra *algebra, const rt_value *n, const rt_value *k);
/* A fraction of small numbers. */
bool rt_value_small(rt_algebra *algebra, const rt_value *value, int64_t *over, int64_t *under);

/* RT_CORRECT, RT_WRONG or RT_UNDECIDED. */
int rt_value_equal(rt_algebra *algebra, const rt_value *a, const rt_value *b);
/* Whether a = c·b for a number c ≠ 0; *sign: of c, 0 if not known. `numerators`: of a = 0 and b = 0
 * only the numerators count. *final: both are linear, so that RT_WRONG tells apart what they
 * describe, too. */
int rt_value_proportional(rt_algebra *algebra, const rt_value *a, const rt_value *b,
                          bool numerators, int *sign, bool *final);

/* Reads a whole normalised expression; failure is in the algebra. */
const rt_value *rt_expression_read(rt_algebra *algebra, rt_text text);

/* ---- grade_unit.c: units of length, area, volume, mass, time, money and speed ---------------- */

enum { RT_UNIT_PARTS_MAX = 4, RT_DIMENSIONS = 4 };
typedef struct rt_unit {
    int count;
    struct {
        int64_t over, under; /* of the base unit: metre, gram, second, dollar */
        int power;
    } parts[RT_UNIT_PARTS_MAX];
    int dimensions[RT_DIMENSIONS];
} rt_unit;
/* "cm", "square feet", "km/h", "m/s^2"; false: not known. */
bool rt_unit_read(rt_text text, rt_unit *unit);
bool rt_unit_same_kind(const rt_unit *a, const rt_unit *b);
const rt_value *rt_unit_value(rt_algebra *algebra, const rt_unit *unit);

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
#define RT_DEGREES '\x12'
/* In front of and behind the text of a unit. */
#define RT_UNIT_OPEN '\x13'
#define RT_UNIT_CLOSE '\x14'
/* Writes at most RT_MATH_BYTES_MAX bytes; false: too long. */
bool rt_latex_normalise(rt_text text, bool group_thousands, char *out, size_t *bytes);

#endif
