/*
 * grade_expression: reads a normalised expression into an exact value by recursive descent, with
 * the depth bounded. What it does not know makes the algebra failed; where a text can be read in
 * two ways it takes one and leaves a doubt.
 */
#include "tasks/grade_algebra.h"

#include <ctype.h>
#include <string.h>

enum { DEPTH_MAX = 24 };

typedef struct reader {
    rt_algebra *algebra;
    const char *at, *end;
    int depth;
    int angles;   /* inside the arguments of functions: degrees count */
    bool in_bars; /* inside |…|, where a bar closes */
} reader;

static const rt_value *sum(reader *in);
static const rt_value *unary(reader *in);

static const rt_value *integer(reader *in, int64_t value)
{
    return rt_value_integer(in->algebra, value);
}

static const rt_value *fail(reader *in)
{
    rt_algebra_fail(in->algebra);
    in->at = in->end;
    return integer(in, 0);
}

static bool failed(const reader *in)
{
    return rt_algebra_failed(in->algebra);
}

/* Spaces, and units inside an expression. */
static void skip(reader *in)
{
    while (in->at < in->end && (*in->at == ' ' || *in->at == RT_UNIT_OPEN)) {
        if (*in->at == RT_UNIT_OPEN) {
            const char *close = memchr(in->at, RT_UNIT_CLOSE, (size_t)(in->end - in->at));
            in->at = close ? close : in->end - 1;
        }
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

static bool digit_next(const reader *in)
{
    return in->at < in->end && isdigit((unsigned char)*in->at);
}

/* ---- numbers ----------------------------------------------------------------------------- */

static rt_text digits(reader *in)
{
    const char *first = in->at;
    while (digit_next(in)) {
        in->at++;
    }
    return (rt_text){first, (size_t)(in->at - first)};
}

static const rt_value *whole(reader *in, rt_text text)
{
    return text.bytes ? rt_value_digits(in->algebra, text.at, text.bytes) : integer(in, 0);
}

/* over/under where over < under, else NULL. */
static const rt_value *proper(reader *in, rt_text over, rt_text under)
{
    while (over.bytes && *over.at == '0') {
        over = rt_text_skip(over, 1);
    }
    while (under.bytes && *under.at == '0') {
        under = rt_text_skip(under, 1);
    }
    if (over.bytes > under.bytes || !under.bytes ||
        (over.bytes == under.bytes && memcmp(over.at, under.at, over.bytes) >= 0)) {
        return NULL;
    }
    return rt_value_divide(in->algebra, whole(in, over), whole(in, under));
}

/* \frac{a}{b} or a/b right behind a whole number, all of them plain digits: a mixed number. */
static const rt_value *mixed(reader *in, const rt_value *value)
{
    const char *start = in->at;
    rt_text over = {0}, under = {0};
    bool spaced = peek(in) && in->at > start, read = false;
    if (take_command(in, "frac")) {
        if (take(in, '{')) {
            over = digits(in);
            if (take(in, '}') && take(in, '{')) {
                under = digits(in);
                read = take(in, '}');
            }
        } else if (in->end - in->at >= 2 && isdigit((unsigned char)in->at[0]) &&
                   isdigit((unsigned char)in->at[1])) {
            over = (rt_text){in->at, 1};
            under = (rt_text){in->at + 1, 1};
            in->at += 2;
            read = true;
        }
    } else if (spaced && digit_next(in)) {
        over = digits(in);
        if (take(in, '/') && digit_next(in)) {
            under = digits(in);
            read = true;
        }
    }
    const rt_value *part = read ? proper(in, over, under) : NULL;
    if (!part) {
        in->at = start;
        return value;
    }
    return rt_value_add(in->algebra, value, part);
}

static const rt_value *tenths(reader *in, const rt_value *value, size_t places)
{
    const rt_value *ten = integer(in, 10);
    ten = rt_value_power(in->algebra, ten, integer(in, (int64_t)places));
    return rt_value_divide(in->algebra, value, ten);
}

/* 0.1\overline{6}: digits that repeat for ever. */
static const rt_value *repeating(reader *in, const rt_value *value, size_t places)
{
    const char *start = in->at;
    if (!take_command(in, "overline") || !take(in, '{')) {
        in->at = start;
        return value;
    }
    rt_text period = digits(in);
    if (!period.bytes || !take(in, '}')) {
        return fail(in);
    }
    const rt_value *nines = integer(in, 10), *part;
    nines = rt_value_power(in->algebra, nines, integer(in, (int64_t)period.bytes));
    nines = rt_value_add(in->algebra, nines, integer(in, -1));
    part = rt_value_divide(in->algebra, whole(in, period), nines);
    return rt_value_add(in->algebra, value, tenths(in, part, places));
}

static const rt_value *number(reader *in)
{
    rt_text before = digits(in), after = {0};
    const rt_value *value = whole(in, before);
    bool point = in->at < in->end && *in->at == '.';
    if (point) {
        in->at++;
        after = digits(in);
        if (after.bytes) {
            value = rt_value_add(in->algebra, value, tenths(in, whole(in, after), after.bytes));
        }
        value = repeating(in, value, after.bytes);
    }
    if (!before.bytes && !after.bytes) {
        return fail(in);
    }
    return point ? value : mixed(in, value);
}

/* ---- groups, commands, symbols ----------------------------------------------------------- */

/* The inside of a bracket, up to its end. */
static const rt_value *inside(reader *in, char close)
{
    bool bars = in->in_bars;
    in->in_bars = false;
    const rt_value *value = sum(in);
    in->in_bars = bars;
    return take(in, close) ? value : fail(in);
}

/* Argument of a command: {expression}, one digit, one letter or one command. */
static const rt_value *argument(reader *in)
{
    if (take(in, '{')) {
        return inside(in, '}');
    }
    if (isdigit((unsigned char)peek(in))) {
        return integer(in, *in->at++ - '0');
    }
    return peek(in) ? unary(in) : fail(in);
}

static char bracket_for(char c)
{
    return c == '(' ? ')' : c == '[' ? ']' : c == '{' ? '}' : '\0';
}

/* What may follow a factor directly, to be multiplied by it; a number may not. */
static bool starts_factor(reader *in)
{
    char c = peek(in);
    return c == '(' || c == '[' || c == '{' || c == '\\' || isalpha((unsigned char)c) ||
           (c == '|' && !in->in_bars);
}

static bool at_function(reader *in)
{
    const char *start = in->at, *end = in->at + (in->at < in->end);
    char name[8] = {0};
    if (peek(in) != '\\') {
        return false;
    }
    start = in->at;
    for (end = start + 1; end < in->end && isalpha((unsigned char)*end); end++) {
    }
    size_t bytes = (size_t)(end - start) - 1;
    if (bytes >= sizeof name) {
        return false;
    }
    memcpy(name, start + 1, bytes);
    return rt_function_known(name) || !strcmp(name, "log");
}

/* Of a function: in brackets, or the factors that follow directly, as in \sin 2x \cos x. */
static const rt_value *operand(reader *in)
{
    const rt_value *value;
    in->angles++;
    if (bracket_for(peek(in))) {
        char close = bracket_for(*in->at++);
        value = inside(in, close);
        if (peek(in) == '^') { /* of the argument or of the function? */
            rt_algebra_doubt(in->algebra);
        }
    } else {
        value = unary(in);
        while (!failed(in) && starts_factor(in) && !at_function(in)) {
            if (*in->at == '(') {
                rt_algebra_doubt(in->algebra);
            }
            value = rt_value_multiply(in->algebra, value, unary(in));
        }
        if (peek(in) == '/' || peek(in) == '*') {
            rt_algebra_doubt(in->algebra);
        }
    }
    in->angles--;
    return value;
}

static const rt_value *logarithm(reader *in)
{
    int64_t over, under;
    const rt_value *base = NULL;
    if (take(in, '_')) {
        base = argument(in);
    }
    const rt_value *inner = operand(in);
    if (base) {
        return rt_value_log(in->algebra, inner, base);
    }
    /* \log alone is to the base ten in school and natural elsewhere. */
    const rt_value *value = rt_value_log(in->algebra, inner, integer(in, 10));
    if (!rt_value_small(in->algebra, value, &over, &under)) {
        rt_algebra_doubt(in->algebra);
    }
    return value;
}

static const rt_value *root(reader *in)
{
    int64_t degree = 2, under = 1;
    const rt_value *value;
    if (take(in, '[')) {
        const rt_value *index = inside(in, ']');
        if (!rt_value_small(in->algebra, index, &degree, &under) || under != 1 || degree < 2) {
            return fail(in);
        }
    }
    if (take(in, '(')) { /* √(…), as written without LaTeX */
        value = inside(in, ')');
    } else {
        value = argument(in);
    }
    return failed(in) ? value : rt_value_root(in->algebra, value, degree);
}

/* \sin^2 x is a power of the function, \sin^{-1} x its inverse. */
static const rt_value *function(reader *in)
{
    char name[16];
    size_t bytes = 0;
    int64_t over = 1, under = 1;
    const rt_value *power = NULL;
    for (in->at++; in->at < in->end && isalpha((unsigned char)*in->at); in->at++) {
        name[bytes++] = *in->at; /* at_function has looked: it is short */
    }
    name[bytes] = '\0';
    if (!strcmp(name, "log")) {
        return logarithm(in);
    }
    if (take(in, '^')) {
        power = argument(in);
        if (rt_value_small(in->algebra, power, &over, &under) && over == -1 && under == 1) {
            char inverse[sizeof name + 3];
            snprintf(inverse, sizeof inverse, "arc%s", name);
            power = NULL;
            if (!rt_function_known(inverse)) {
                return fail(in);
            }
            return rt_value_function(in->algebra, inverse, operand(in));
        }
    }
    const rt_value *value = rt_value_function(in->algebra, name, operand(in));
    return power ? rt_value_power(in->algebra, value, power) : value;
}

static const rt_value *symbol(reader *in);

static const rt_value *command(reader *in)
{
    static const char *const binomials[] = {"binom", "dbinom", "tbinom"};
    if (take_command(in, "frac")) {
        const rt_value *above = argument(in), *below = argument(in);
        return failed(in) ? above : rt_value_divide(in->algebra, above, below);
    }
    if (take_command(in, "sqrt")) {
        return root(in);
    }
    for (size_t i = 0; i < RT_COUNT(binomials); i++) {
        if (take_command(in, binomials[i])) {
            const rt_value *above = argument(in), *below = argument(in);
            return rt_value_binomial(in->algebra, above, below);
        }
    }
    return at_function(in) ? function(in) : symbol(in);
}

/* A letter or \name with its subscript. */
static const rt_value *symbol(reader *in)
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
            return fail(in);
        }
    } else {
        in->at++;
    }
    size_t bytes = (size_t)(in->at - begin);
    char name[32];
    memcpy(name, begin, bytes); /* a letter or one of the names above */
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
            return fail(in);
        }
    }
    return rt_value_symbol(in->algebra, name, bytes);
}

static const rt_value *absolute(reader *in)
{
    in->at++;
    in->in_bars = true;
    const rt_value *value = sum(in);
    in->in_bars = false;
    if (!take(in, '|')) {
        return fail(in);
    }
    return rt_value_absolute(in->algebra, value);
}

static const rt_value *base(reader *in)
{
    char c = peek(in);
    if (failed(in)) {
        return integer(in, 0);
    }
    if (bracket_for(c)) {
        in->at++;
        return inside(in, bracket_for(c));
    }
    if (isdigit((unsigned char)c) || c == '.') {
        return number(in);
    }
    if (c == '|' && !in->in_bars) {
        return absolute(in);
    }
    if (c == '\\') {
        return command(in);
    }
    return isalpha((unsigned char)c) ? symbol(in) : fail(in);
}

/* ---- operators --------------------------------------------------------------------------- */

static const rt_value *exponent(reader *in)
{
    if (peek(in) == '{') {
        return argument(in);
    }
    if (digit_next(in)) { /* 10^12 without braces means what people mean */
        return whole(in, digits(in));
    }
    return unary(in);
}

static const rt_value *power(reader *in)
{
    const rt_value *value = base(in);
    while (!failed(in) && (peek(in) == '^' || peek(in) == '!' || peek(in) == RT_DEGREES)) {
        if (take(in, '!')) {
            value = rt_value_factorial(in->algebra, value);
        } else if (take(in, RT_DEGREES)) {
            if (in->angles) {
                const rt_value *degree = rt_value_symbol(in->algebra, "\\pi", 3);
                degree = rt_value_divide(in->algebra, degree, integer(in, 180));
                value = rt_value_multiply(in->algebra, value, degree);
            }
        } else {
            in->at++;
            const rt_value *above = exponent(in);
            value = failed(in) ? value : rt_value_power(in->algebra, value, above);
        }
    }
    return value;
}

static const rt_value *unary(reader *in)
{
    bool negative = false;
    if (++in->depth > DEPTH_MAX) {
        return fail(in);
    }
    while (peek(in) == '-' || peek(in) == '+') {
        negative ^= *in->at++ == '-';
    }
    const rt_value *value = power(in);
    in->depth--;
    return negative ? rt_value_negate(in->algebra, value) : value;
}

static const rt_value *product(reader *in)
{
    const rt_value *value = unary(in);
    bool divided = false;
    while (!failed(in)) {
        if (take(in, '*')) {
            value = rt_value_multiply(in->algebra, value, unary(in));
            divided = false;
        } else if (take(in, '/')) {
            divided = true;
            value = rt_value_divide(in->algebra, value, unary(in));
        } else if (starts_factor(in)) {
            if (divided) { /* 1/2x: a half of x, or one over 2x? */
                rt_algebra_doubt(in->algebra);
            }
            value = rt_value_multiply(in->algebra, value, unary(in));
        } else {
            break;
        }
    }
    return value;
}

static const rt_value *sum(reader *in)
{
    if (++in->depth > DEPTH_MAX) {
        return fail(in);
    }
    const rt_value *value = product(in);
    while (!failed(in) && (peek(in) == '+' || peek(in) == '-')) {
        bool negative = *in->at++ == '-';
        const rt_value *next = product(in);
        next = negative ? rt_value_negate(in->algebra, next) : next;
        value = rt_value_add(in->algebra, value, next);
    }
    in->depth--;
    return value;
}

const rt_value *rt_expression_read(rt_algebra *algebra, rt_text text)
{
    reader in = {.algebra = algebra, .at = text.at, .end = text.at + text.bytes};
    const rt_value *value = sum(&in);
    if (peek(&in)) {
        rt_algebra_fail(algebra);
    }
    return value;
}
