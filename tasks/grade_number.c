/*
 * grade_number: answers that are one number. Numbers are compared as ratios of decimal digit
 * strings, exactly: 1,234 = 1234.0, 1/3 is not 0.333. Signs of currency, percent and units are
 * removed by rule.
 */
#include "tasks/grade.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

enum { NUMBER_BYTES_MAX = 4096, EXPONENT_MAX = 1000000000 };

/* ---- decimals ---------------------------------------------------------------------------- */

/* Appends a digit; zeros wait until a digit follows them, so that none stands at the end. */
static bool push_digit(rt_decimal *decimal, int digit, int *zeros)
{
    if (!digit) {
        *zeros += decimal->digits_count > 0;
        return true;
    }
    if (decimal->digits_count + *zeros >= RT_DIGITS_MAX) {
        return false;
    }
    while (*zeros) {
        decimal->digits[decimal->digits_count++] = 0;
        (*zeros)--;
    }
    decimal->digits[decimal->digits_count++] = (unsigned char)digit;
    return true;
}

/* A comma groups thousands only where exactly three digits follow it. */
static bool groups(const char *at, const char *end, int digits_before)
{
    int more = 0;
    while (at + 1 + more < end && isdigit((unsigned char)at[1 + more])) {
        more++;
    }
    return digits_before >= 1 && digits_before <= 3 && more == 3;
}

/* Digits with commas, point and exponent; moves *at behind them. */
static bool scan_decimal(const char **at, const char *end, rt_decimal *decimal)
{
    const char *c = *at;
    int zeros = 0, digits = 0, since_comma = 0;
    *decimal = (rt_decimal){0};
    for (; c < end; c++) {
        if (isdigit((unsigned char)*c)) {
            if (!push_digit(decimal, *c - '0', &zeros)) {
                return false;
            }
            decimal->exponent += decimal->digits_count > 0;
            digits++;
            since_comma++;
        } else if (*c == ',' && groups(c, end, since_comma)) {
            since_comma = 0;
        } else {
            break;
        }
    }
    if (c + 1 < end && *c == '.' && isdigit((unsigned char)c[1])) {
        for (c++; c < end && isdigit((unsigned char)*c); c++, digits++) {
            if (!push_digit(decimal, *c - '0', &zeros)) {
                return false;
            }
            decimal->exponent -= !decimal->digits_count;
        }
    }
    *at = c;
    return digits > 0;
}

static bool scan_integer(const char **at, const char *end, int64_t *value)
{
    const char *c = *at;
    bool negative = c < end && *c == '-';
    c += c < end && (*c == '-' || *c == '+');
    const char *first = c;
    for (*value = 0; c < end && isdigit((unsigned char)*c) && *value < EXPONENT_MAX; c++) {
        *value = *value * 10 + (*c - '0');
    }
    *value = negative ? -*value : *value;
    *at = c;
    return c > first && !(c < end && isdigit((unsigned char)*c));
}

static void skip_spaces(const char **at, const char *end)
{
    while (*at < end && (isspace((unsigned char)**at) || **at == '~')) {
        (*at)++;
    }
}

static bool starts(const char *at, const char *end, const char *word)
{
    size_t bytes = strlen(word);
    return (size_t)(end - at) >= bytes && !memcmp(at, word, bytes);
}

/* "e5", "\times 10^{5}", "x 10^5": false only for an exponent out of reach. */
static bool scan_power(const char **at, const char *end, rt_decimal *decimal)
{
    static const char *const signs[] = {"\\times", "\\cdot", "×", "·", "x", "*"};
    const char *c = *at;
    int64_t power;
    if (c + 1 < end && (*c == 'e' || *c == 'E')) {
        c++;
        if (isdigit((unsigned char)*c) || ((*c == '-' || *c == '+') && c + 1 < end &&
                                           isdigit((unsigned char)c[1]))) {
            if (!scan_integer(&c, end, &power)) {
                return false;
            }
            decimal->exponent += power;
            *at = c;
        }
        return true;
    }
    skip_spaces(&c, end);
    for (size_t i = 0; i < RT_COUNT(signs); i++) {
        const char *ten = c + strlen(signs[i]);
        if (!starts(c, end, signs[i])) {
            continue;
        }
        skip_spaces(&ten, end);
        if (!starts(ten, end, "10^")) {
            continue;
        }
        ten += 3;
        bool braced = ten < end && *ten == '{';
        ten += braced;
        if (!scan_integer(&ten, end, &power) || (braced && (ten >= end || *ten++ != '}'))) {
            return false;
        }
        decimal->exponent += power;
        *at = ten;
        return true;
    }
    return true;
}

static const rt_decimal one = {.digits_count = 1, .exponent = 1, .digits = {1}};

typedef struct product {
    int count;
    int64_t exponent;
    unsigned char digits[2 * RT_DIGITS_MAX];
} product;

static void multiply(const rt_decimal *a, const rt_decimal *b, product *out)
{
    unsigned sums[2 * RT_DIGITS_MAX] = {0};
    int total = a->digits_count + b->digits_count;
    *out = (product){.exponent = a->exponent + b->exponent};
    if (!a->digits_count || !b->digits_count) {
        out->exponent = 0;
        return;
    }
    for (int i = 0; i < a->digits_count; i++) {
        for (int k = 0; k < b->digits_count; k++) {
            sums[i + k + 1] += (unsigned)a->digits[i] * b->digits[k];
        }
    }
    for (int i = total - 1; i > 0; i--) {
        sums[i - 1] += sums[i] / 10;
        sums[i] %= 10;
    }
    int first = sums[0] ? 0 : 1;
    out->exponent -= first;
    while (!sums[total - 1]) {
        total--;
    }
    for (int i = first; i < total; i++) {
        out->digits[out->count++] = (unsigned char)sums[i];
    }
}

static bool ratios_equal(const rt_ratio_number *a, const rt_ratio_number *b, int64_t shift)
{
    product left, right;
    multiply(&a->over, &b->under, &left);
    multiply(&b->over, &a->under, &right);
    bool negative_left = left.count && a->over.negative != a->under.negative;
    bool negative_right = right.count && b->over.negative != b->under.negative;
    return negative_left == negative_right && left.count == right.count &&
           (!left.count || left.exponent + shift == right.exponent) &&
           !memcmp(left.digits, right.digits, (size_t)left.count);
}

bool rt_number_equal(const rt_ratio_number *a, const rt_ratio_number *b)
{
    if (ratios_equal(a, b, 0)) {
        return true;
    }
    /* 40 % is also 0.4; with a percent sign on both sides or on none only the numbers count. */
    return a->percent != b->percent && ratios_equal(a, b, a->percent ? -2 : 2);
}

/* ---- reading ----------------------------------------------------------------------------- */

/* "{12}" or one digit behind \frac. */
static bool scan_part(const char **at, const char *end, rt_decimal *decimal)
{
    skip_spaces(at, end);
    if (*at < end && **at == '{') {
        (*at)++;
        skip_spaces(at, end);
        bool negative = *at < end && **at == '-';
        *at += negative;
        if (!scan_decimal(at, end, decimal)) {
            return false;
        }
        decimal->negative = negative;
        skip_spaces(at, end);
        return *at < end && *(*at)++ == '}';
    }
    return *at < end && scan_decimal(at, RT_MIN(end, *at + 1), decimal);
}

static bool scan_frac(const char **at, const char *end, rt_ratio_number *number)
{
    const char *c = *at;
    if (!starts(c, end, "\\frac")) {
        return false;
    }
    c += 5;
    if (!scan_part(&c, end, &number->over) || !scan_part(&c, end, &number->under)) {
        return false;
    }
    *at = c;
    return number->under.digits_count > 0;
}

static bool small_value(const rt_decimal *decimal, int64_t *value)
{
    *value = 0;
    if (decimal->exponent < decimal->digits_count || decimal->exponent > 8) {
        return decimal->digits_count == 0;
    }
    for (int i = 0; i < decimal->exponent; i++) {
        *value = *value * 10 + (i < decimal->digits_count ? decimal->digits[i] : 0);
    }
    return true;
}

/* whole + over/under, for the sizes people write as mixed numbers. */
static bool join_mixed(rt_ratio_number *number, const rt_decimal *whole)
{
    int64_t a, b, c;
    char text[32];
    if (!small_value(whole, &a) || !small_value(&number->over, &b) ||
        !small_value(&number->under, &c) || b >= c || number->over.negative ||
        number->under.negative) {
        return false;
    }
    snprintf(text, sizeof text, "%lld", (long long)(a * c + b));
    const char *at = text;
    return scan_decimal(&at, text + strlen(text), &number->over);
}

static bool scan_slash(const char **at, const char *end, rt_decimal *under)
{
    const char *c = *at;
    skip_spaces(&c, end);
    if (c >= end || *c != '/') {
        return false;
    }
    c++;
    skip_spaces(&c, end);
    bool negative = c < end && *c == '-';
    c += negative;
    if (!scan_decimal(&c, end, under) || !under->digits_count) {
        return false;
    }
    under->negative = negative;
    *at = c;
    return true;
}

/* One number of any form at *at; moves behind it. */
static bool scan_number(const char **at, const char *end, rt_ratio_number *number)
{
    const char *c = *at;
    bool negative = c < end && *c == '-';
    c += c < end && (*c == '-' || *c == '+');
    skip_spaces(&c, end);
    *number = (rt_ratio_number){.under = one};
    if (!scan_frac(&c, end, number)) {
        rt_decimal whole;
        if (!scan_decimal(&c, end, &whole) || !scan_power(&c, end, &whole)) {
            return false;
        }
        const char *next = c;
        skip_spaces(&next, end);
        if (scan_frac(&next, end, number)) {
            if (!join_mixed(number, &whole)) {
                return false;
            }
            c = next;
        } else {
            rt_decimal over;
            bool spaced = next > c && scan_decimal(&next, end, &over);
            number->over = whole;
            number->under = one;
            if (spaced && scan_slash(&next, end, &number->under)) {
                number->over = over;
                if (!join_mixed(number, &whole)) {
                    return false;
                }
                c = next;
            } else {
                number->under = one;
                scan_slash(&c, end, &number->under);
            }
        }
    }
    number->over.negative ^= negative;
    skip_spaces(&c, end);
    number->percent = c < end && *c == '%';
    c += number->percent;
    *at = c;
    return true;
}

/* Markup that changes no number is left out; \dfrac and \tfrac become \frac. */
static size_t clean(rt_text text, char *out)
{
    static const struct {
        const char *from, *to;
    } rules[] = {
        {"\\dfrac", "\\frac"}, {"\\tfrac", "\\frac"}, {"{,}", ","}, {"\\!", ""}, {"\\,", ""},
        {"\\;", " "}, {"\\ ", " "}, {"\\$", ""}, {"$", ""}, {"\\%", "%"}, {"\\left", ""},
        {"\\right", ""}, {"^{\\circ}", ""}, {"^\\circ", ""}, {"°", ""}, {"**", ""}, {"€", ""},
        {"£", ""}, {"¥", ""}, {"−", "-"}, {"\\(", ""}, {"\\)", ""}, {"\\[", ""}, {"\\]", ""},
        {"\\text", ""}, {"\\mathrm", ""}, {"\\mathbf", ""}, {"\\textbf", ""}, {"\\approx", "="},
        {"≈", "="}, {"cm^2", ""}, {"cm^3", ""}, {"m^2", ""}, {"m^3", ""},
    };
    size_t bytes = 0;
    for (size_t i = 0; i < text.bytes;) {
        size_t rule = 0;
        while (rule < RT_COUNT(rules) && !rt_text_starts(rt_text_skip(text, i), rules[rule].from)) {
            rule++;
        }
        if (rule < RT_COUNT(rules)) {
            for (const char *c = rules[rule].to; *c; c++) {
                out[bytes++] = *c;
            }
            i += strlen(rules[rule].from);
        } else {
            out[bytes++] = text.at[i++];
        }
    }
    return bytes;
}

static bool has_digit(const char *at, const char *end)
{
    while (at < end && !isdigit((unsigned char)*at)) {
        at++;
    }
    return at < end;
}

bool rt_number_read(rt_text text, rt_ratio_number *number)
{
    char buffer[NUMBER_BYTES_MAX];
    text = rt_text_trim(text);
    if (text.bytes > NUMBER_BYTES_MAX) {
        return false;
    }
    const char *at = buffer, *end = buffer + clean(text, buffer);
    for (const char *c = at; c < end; c++) {
        at = *c == '=' ? c + 1 : at;
    }
    /* Words and brackets may stand before the number, units behind it; no second number. */
    while (at < end && !isdigit((unsigned char)*at) && !starts(at, end, "\\frac")) {
        bool sign = (*at == '-' || *at == '+') && at + 1 < end;
        const char *next = at + 1;
        skip_spaces(&next, end);
        bool signed_number = sign && next < end && (isdigit((unsigned char)*next) || *next == '.' ||
                                                    starts(next, end, "\\frac"));
        bool point = *at == '.' && at + 1 < end && isdigit((unsigned char)at[1]);
        if (signed_number || point) {
            break;
        }
        at++;
    }
    return at < end && scan_number(&at, end, number) && !has_digit(at, end);
}

/* ---- finding the answer in a response ---------------------------------------------------- */

static rt_text first_line(rt_text text)
{
    const char *stop = text.bytes ? memchr(text.at, '\n', text.bytes) : NULL;
    return rt_text_trim((rt_text){text.at, stop ? (size_t)(stop - text.at) : text.bytes});
}

bool rt_answer_hashes(rt_text response, rt_text *answer)
{
    for (size_t i = response.bytes; i >= 4; i--) {
        if (!memcmp(response.at + i - 4, "####", 4)) {
            *answer = first_line(rt_text_skip(response, i));
            return answer->bytes > 0;
        }
    }
    return false;
}

bool rt_answer_phrase(rt_text response, rt_text *answer)
{
    static const char *const phrases[] = {"answer is", "answer:"};
    for (size_t i = response.bytes; i > 0; i--) {
        for (size_t p = 0; p < RT_COUNT(phrases); p++) {
            rt_text rest = rt_text_skip(response, i - 1);
            size_t bytes = strlen(phrases[p]);
            if (rest.bytes < bytes || strncasecmp(rest.at, phrases[p], bytes)) {
                continue;
            }
            rest = first_line(rt_text_trim(rt_text_skip(rest, bytes)));
            while (rest.bytes && strchr(":*", *rest.at)) {
                rest = rt_text_trim(rt_text_skip(rest, 1));
            }
            for (size_t k = 0; k + 1 < rest.bytes; k++) {
                if (rest.at[k] == '.' && isspace((unsigned char)rest.at[k + 1])) {
                    rest.bytes = k;
                }
            }
            while (rest.bytes && strchr(".* ", rest.at[rest.bytes - 1])) {
                rest.bytes--;
            }
            *answer = rest;
            return rest.bytes > 0;
        }
    }
    return false;
}

bool rt_last_number(rt_text text, rt_text *number)
{
    size_t end = text.bytes;
    while (end && !isdigit((unsigned char)text.at[end - 1])) {
        end--;
    }
    size_t begin = end;
    while (begin && (isdigit((unsigned char)text.at[begin - 1]) ||
                     strchr(",./", text.at[begin - 1]))) {
        begin--;
    }
    while (begin < end && strchr(",/", text.at[begin])) {
        begin++;
    }
    if (begin && begin < end && text.at[begin - 1] == '-' &&
        (begin == 1 || !isalnum((unsigned char)text.at[begin - 2]))) {
        begin--;
    }
    if (end < text.bytes && text.at[end] == '%') {
        end++;
    } else if (end + 1 < text.bytes && text.at[end] == '\\' && text.at[end + 1] == '%') {
        end += 2;
    }
    *number = (rt_text){text.at + begin, end - begin};
    return end > begin;
}

/* The first number of a phrase such as "18 dollars, which is 2 more". */
static bool first_number(rt_text phrase, rt_ratio_number *number)
{
    char buffer[NUMBER_BYTES_MAX];
    phrase.bytes = RT_MIN(phrase.bytes, (size_t)NUMBER_BYTES_MAX);
    const char *end = buffer + clean(phrase, buffer);
    for (const char *at = buffer; at < end; at++) {
        const char *c = at;
        bool begins = isdigit((unsigned char)*at) || starts(at, end, "\\frac") || *at == '.' ||
                      *at == '-';
        if (begins && scan_number(&c, end, number)) {
            return true;
        }
    }
    return false;
}

void rt_grade_number(rt_text response, rt_text gold, rt_verdict *verdict)
{
    rt_ratio_number right, given;
    rt_text answer, inner;
    bool readable;
    if (rt_text_box(response, &answer) || rt_answer_hashes(response, &answer)) {
        readable = rt_number_read(answer, &given);
    } else if (rt_answer_phrase(response, &answer) && first_number(answer, &given)) {
        readable = rt_number_read(answer, &given) || first_number(answer, &given);
    } else if (rt_last_number(response, &answer)) {
        readable = rt_number_read(answer, &given);
    } else {
        verdict->grade = RT_WRONG; /* no answer at all */
        return;
    }
    answer = rt_text_trim(answer);
    rt_verdict_extract(verdict, answer);
    if (rt_text_box(gold, &inner) || rt_answer_hashes(gold, &inner)) {
        gold = rt_text_trim(inner);
    }
    if (readable && rt_number_read(gold, &right)) {
        verdict->grade = rt_number_equal(&given, &right) ? RT_CORRECT : RT_WRONG;
    } else {
        /* A power or a root in the box: the mathematics grader may still know its value. */
        verdict->grade = rt_text_equal(answer, gold) ? RT_CORRECT : rt_math_compare(answer, gold);
    }
}
