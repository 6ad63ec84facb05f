/*
 * grade_expression: reads a normalised expression into an exact value by recursive descent, with
 * the depth and the work bounded. Whatever it does not know sets algebra->failed.
 */
#include "tasks/grade_algebra.h"

#include <ctype.h>
#include <string.h>

enum { DEPTH_MAX = 24, FACTORIAL_MAX = 30 };

typedef struct reader {
    rt_algebra *algebra;
    const char *at, *end;
    int depth;
    bool in_bars; /* inside |…|, where a bar closes */
} reader;

static void sum(reader *in, rt_value *value);
static void unary(reader *in, rt_value *value);

static void fail(reader *in)
{
    in->algebra->failed = true;
    in->at = in->end;
}

static void skip(reader *in)
{
    while (in->at < in->end && *in->at == ' ') {
        in->at++;
    }
}

static char peek(reader *in)
{
    skip(in);
    return in->at < in->end ? *in->at : '\0';
}

static bool take(reader *in, char c)
{
    if (peek(in) != c) {
        return false;
    }
    in->at++;
    return true;
}

static bool take_command(reader *in, const char *name)
{
    skip(in);
    size_t bytes = strlen(name);
    if ((size_t)(in->end - in->at) < bytes + 1 || *in->at != '\\' ||
        memcmp(in->at + 1, name, bytes) ||
        (in->at + 1 + bytes < in->end && isalpha((unsigned char)in->at[1 + bytes]))) {
        return false;
    }
    in->at += 1 + bytes;
    return true;
}

/* ---- numbers ----------------------------------------------------------------------------- */

static bool digits(reader *in, rt_big *value, rt_big *scale)
{
    const char *first = in->at;
    for (; in->at < in->end && isdigit((unsigned char)*in->at); in->at++) {
        if (*value > ((rt_big)1 << 120) / 10 || *scale > ((rt_big)1 << 100)) {
            fail(in);
            return false;
        }
        *value = *value * 10 + (*in->at - '0');
        *scale *= 10;
    }
    return in->at > first;
}

/* \frac{a}{b} or a/b right behind a whole number, all of them plain digits: a mixed number. */
static void mixed(reader *in, rt_value *value)
{
    const char *start = in->at;
    rt_big over = 0, under = 0, ignore = 1;
    bool spaced = peek(in) && in->at > start, read = false;
    if (take_command(in, "frac")) {
        skip(in);
        bool braced = in->at < in->end && *in->at == '{';
        if (braced) {
            read = take(in, '{') && digits(in, &over, &ignore) && take(in, '}') && take(in, '{') &&
                   digits(in, &under, &ignore) && take(in, '}');
        } else if (in->end - in->at >= 2 && isdigit((unsigned char)in->at[0]) &&
                   isdigit((unsigned char)in->at[1])) {
            over = *in->at++ - '0';
            under = *in->at++ - '0';
            read = true;
        }
    } else if (spaced && in->at < in->end && isdigit((unsigned char)*in->at)) {
        read = digits(in, &over, &ignore) && take(in, '/') && digits(in, &under, &ignore);
    }
    if (!read || !under || over >= under || in->algebra->failed) {
        if (!in->algebra->failed) {
            in->at = start;
        }
        return;
    }
    rt_value part, below;
    rt_value_integer(&part, over);
    rt_value_integer(&below, under);
    rt_value_divide(in->algebra, &part, &part, &below);
    rt_value_add(in->algebra, value, value, &part);
}

static void number(reader *in, rt_value *value)
{
    rt_big whole = 0, scale = 1, ignore = 1;
    rt_value_integer(value, 0);
    bool any = digits(in, &whole, &ignore), point = false;
    if (in->at < in->end && *in->at == '.' && !in->algebra->failed) {
        in->at++;
        point = digits(in, &whole, &scale);
    }
    if (!any && !point) {
        fail(in);
        return;
    }
    rt_value below;
    rt_value_integer(value, whole);
    rt_value_integer(&below, scale);
    rt_value_divide(in->algebra, value, value, &below);
    if (!point) {
        mixed(in, value);
    }
}

/* ---- groups, commands, symbols ----------------------------------------------------------- */

/* Argument of a command: {expression}, one digit, one letter or one command. */
static void argument(reader *in, rt_value *value)
{
    rt_value_integer(value, 0);
    if (take(in, '{')) {
        sum(in, value);
        if (!take(in, '}')) {
            fail(in);
        }
    } else if (isdigit((unsigned char)peek(in))) {
        rt_value_integer(value, *in->at++ - '0');
    } else if (peek(in)) {
        unary(in, value);
    } else {
        fail(in);
    }
}

static void logarithm(reader *in, rt_value *value)
{
    rt_value base, inner;
    rt_value_integer(&base, 10);
    if (take(in, '_')) {
        argument(in, &base);
    }
    if (isdigit((unsigned char)peek(in))) {
        number(in, &inner);
    } else {
        unary(in, &inner);
    }
    rt_big b, b_under, x, x_under, power = 1;
    if (!in->algebra->failed && rt_value_rational(&base, &b, &b_under) && b_under == 1 && b > 1 &&
        rt_value_rational(&inner, &x, &x_under) && x_under == 1 && x > 0) {
        int exponent = 0;
        while (power < x && power <= ((rt_big)1 << 120) / b) {
            power *= b;
            exponent++;
        }
        if (power == x) {
            rt_value_integer(value, exponent);
            return;
        }
    }
    rt_value_opaque(in->algebra, value, "log", &inner, &base);
}

static void root(reader *in, rt_value *value)
{
    rt_value index;
    rt_big degree = 2, under = 1;
    if (take(in, '[')) {
        sum(in, &index);
        if (!take(in, ']') || !rt_value_rational(&index, &degree, &under) || under != 1 ||
            degree < 2 || degree > 64) {
            fail(in);
            return;
        }
    }
    if (take(in, '(')) { /* √(…), as written without LaTeX */
        sum(in, value);
        if (!take(in, ')')) {
            fail(in);
        }
    } else {
        argument(in, value);
    }
    if (!in->algebra->failed) {
        rt_value_root(in->algebra, value, (int64_t)degree);
    }
}

static bool function(reader *in, rt_value *value)
{
    static const char *const names[] = {"ln", "sin", "cos", "tan", "cot", "sec", "csc", "arcsin",
                                        "arccos", "arctan", "sinh", "cosh", "tanh", "exp"};
    for (size_t i = 0; i < RT_COUNT(names); i++) {
        if (take_command(in, names[i])) {
            rt_value inner, power;
            rt_value_integer(&power, 1);
            if (take(in, '^')) {
                argument(in, &power);
            }
            if (take(in, '{')) {
                sum(in, &inner);
                if (!take(in, '}')) {
                    fail(in);
                }
            } else {
                unary(in, &inner);
            }
            rt_value_opaque(in->algebra, value, names[i], &inner, &power);
            return true;
        }
    }
    return false;
}

static bool command(reader *in, rt_value *value)
{
    if (take_command(in, "frac")) {
        rt_value below;
        argument(in, value);
        argument(in, &below);
        rt_value_divide(in->algebra, value, value, &below);
        return true;
    }
    if (take_command(in, "sqrt")) {
        root(in, value);
        return true;
    }
    if (take_command(in, "log")) {
        logarithm(in, value);
        return true;
    }
    return function(in, value);
}

/* A letter or \name with its subscript. */
static void symbol(reader *in, rt_value *value)
{
    static const char *const known[] = {
        "pi", "infty", "alpha", "beta", "gamma", "delta", "epsilon", "theta", "lambda", "mu", "phi",
        "rho", "sigma", "tau", "omega", "varphi", "psi", "eta", "zeta", "xi", "nu", "kappa",
        "Delta"};
    const char *begin = in->at;
    if (*in->at == '\\') {
        size_t i = 0;
        while (i < RT_COUNT(known) && !take_command(in, known[i])) {
            i++;
        }
        if (i == RT_COUNT(known)) {
            fail(in);
            return;
        }
    } else {
        in->at++;
    }
    size_t bytes = (size_t)(in->at - begin);
    char name[64];
    bytes = RT_MIN(bytes, (size_t)32);
    memcpy(name, begin, bytes);
    if (in->at < in->end && *in->at == '_') {
        in->at++;
        bool braced = take(in, '{');
        name[bytes++] = '_';
        while (in->at < in->end && isalnum((unsigned char)*in->at) && bytes < sizeof name) {
            name[bytes++] = *in->at++;
            if (!braced) {
                break;
            }
        }
        if (braced && !take(in, '}')) {
            fail(in);
            return;
        }
    }
    rt_value_symbol(in->algebra, value, name, bytes);
}

static void absolute(reader *in, rt_value *value)
{
    rt_big over, under;
    in->at++;
    in->in_bars = true;
    sum(in, value);
    in->in_bars = false;
    if (!take(in, '|')) {
        fail(in);
        return;
    }
    if (rt_value_rational(value, &over, &under)) {
        if (over < 0) {
            rt_value_negate(value);
        }
        return;
    }
    rt_value inner = *value;
    rt_value_opaque(in->algebra, value, "abs", &inner, NULL);
}

static void base(reader *in, rt_value *value)
{
    char c = peek(in);
    char close = c == '(' ? ')' : c == '[' ? ']' : c == '{' ? '}' : '\0';
    rt_value_integer(value, 0);
    if (in->algebra->failed) {
        return;
    }
    if (close) {
        bool bars = in->in_bars;
        in->in_bars = false;
        in->at++;
        sum(in, value);
        in->in_bars = bars;
        if (!take(in, close)) {
            fail(in);
        }
    } else if (isdigit((unsigned char)c) || c == '.') {
        number(in, value);
    } else if (c == '|' && !in->in_bars) {
        absolute(in, value);
    } else if (c == '\\' && command(in, value)) {
        return;
    } else if (isalpha((unsigned char)c) || c == '\\') {
        symbol(in, value);
    } else {
        fail(in);
    }
}

/* ---- operators --------------------------------------------------------------------------- */

static void factorial(reader *in, rt_value *value)
{
    rt_big n, under, product = 1;
    if (!rt_value_rational(value, &n, &under) || under != 1 || n < 0 || n > FACTORIAL_MAX) {
        fail(in);
        return;
    }
    for (rt_big i = 2; i <= n; i++) {
        product *= i;
    }
    rt_value_integer(value, product);
}

static void exponent(reader *in, rt_value *value)
{
    rt_value_integer(value, 0);
    if (peek(in) == '{') {
        argument(in, value);
    } else if (isdigit((unsigned char)peek(in))) {
        rt_big whole = 0, ignore = 1; /* 10^12 without braces means what people mean */
        digits(in, &whole, &ignore);
        rt_value_integer(value, whole);
    } else {
        unary(in, value);
    }
}

static void power(reader *in, rt_value *value)
{
    base(in, value);
    while (!in->algebra->failed && (peek(in) == '^' || peek(in) == '!')) {
        if (take(in, '!')) {
            factorial(in, value);
            continue;
        }
        rt_value above;
        in->at++;
        exponent(in, &above);
        if (!in->algebra->failed) {
            rt_value_power(in->algebra, value, &above);
        }
    }
}

static void unary(reader *in, rt_value *value)
{
    bool negative = false;
    if (++in->depth > DEPTH_MAX) {
        rt_value_integer(value, 0);
        fail(in);
        return;
    }
    while (peek(in) == '-' || peek(in) == '+') {
        negative ^= *in->at++ == '-';
    }
    power(in, value);
    if (negative) {
        rt_value_negate(value);
    }
    in->depth--;
}

/* What may follow a factor directly, to be multiplied by it; a number may not. */
static bool starts_factor(reader *in)
{
    char c = peek(in);
    return c == '(' || c == '[' || c == '{' || c == '\\' || isalpha((unsigned char)c) ||
           (c == '|' && !in->in_bars);
}

static void product(reader *in, rt_value *value)
{
    unary(in, value);
    while (!in->algebra->failed) {
        rt_value next;
        if (take(in, '*')) {
            unary(in, &next);
            rt_value_multiply(in->algebra, value, value, &next);
        } else if (take(in, '/')) {
            unary(in, &next);
            rt_value_divide(in->algebra, value, value, &next);
        } else if (starts_factor(in)) {
            unary(in, &next);
            rt_value_multiply(in->algebra, value, value, &next);
        } else {
            return;
        }
    }
}

static void sum(reader *in, rt_value *value)
{
    rt_value_integer(value, 0);
    if (++in->depth > DEPTH_MAX) {
        fail(in);
        return;
    }
    product(in, value);
    while (!in->algebra->failed && (peek(in) == '+' || peek(in) == '-')) {
        rt_value next;
        bool negative = *in->at++ == '-';
        product(in, &next);
        if (negative) {
            rt_value_negate(&next);
        }
        rt_value_add(in->algebra, value, value, &next);
    }
    in->depth--;
}

void rt_expression_read(rt_algebra *algebra, rt_text text, rt_value *value)
{
    reader in = {.algebra = algebra, .at = text.at, .end = text.at + text.bytes};
    sum(&in, value);
    if (peek(&in)) {
        algebra->failed = true;
    }
}
