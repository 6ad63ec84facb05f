/*
 * grade_math: mathematical answers. The last box is taken apart into lists, sets, tuples,
 * intervals, unions, matrices, equations and inequalities; the leaves are compared as exact values.
 * Equal forms are correct, different forms of understood expressions wrong, and the rest undecided.
 */
#include "tasks/grade_algebra.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

enum { PARTS_MAX = 32, DEPTH_MAX = 6 };

typedef struct comparison {
    int64_t steps_left; /* shared by all leaves of one answer */
    int depth;
} comparison;

typedef struct parts {
    rt_text items[PARTS_MAX];
    char before[PARTS_MAX]; /* the separator in front of an item */
    int count;              /* more than PARTS_MAX: −1 */
} parts;

static int compare(comparison *state, rt_text a, rt_text b);

/* ---- cutting at separators outside brackets ---------------------------------------------- */

static int turn(char c)
{
    return c && strchr("([{\x01\x10", c) ? 1 : c && strchr(")]}\x02\x11", c) ? -1 : 0;
}

static void split(rt_text text, const char *separators, parts *out)
{
    int depth = 0;
    size_t begin = 0;
    char before = 0;
    out->count = 0;
    for (size_t i = 0; i <= text.bytes; i++) {
        bool cut = i == text.bytes ||
                   (!depth && text.at[i] && strchr(separators, text.at[i]));
        if (!cut) {
            depth += turn(text.at[i]);
            depth = RT_MAX(depth, 0);
            continue;
        }
        if (out->count == PARTS_MAX) {
            out->count = -1;
            return;
        }
        out->before[out->count] = before;
        out->items[out->count++] = rt_text_trim((rt_text){text.at + begin, i - begin});
        before = i < text.bytes ? text.at[i] : 0;
        begin = i + 1;
    }
}

/* The text is one pair of brackets around everything else. */
static bool bracketed(rt_text text, char *open, char *close, rt_text *inner)
{
    if (text.bytes < 2 || turn(text.at[0]) != 1 || turn(text.at[text.bytes - 1]) != -1) {
        return false;
    }
    int depth = 0;
    for (size_t i = 0; i < text.bytes; i++) {
        depth += turn(text.at[i]);
        if (depth <= 0 && i + 1 < text.bytes) {
            return false;
        }
    }
    *open = text.at[0];
    *close = text.at[text.bytes - 1];
    *inner = rt_text_trim((rt_text){text.at + 1, text.bytes - 2});
    return depth == 0;
}

/* ---- combining verdicts ------------------------------------------------------------------ */

static int ordered(comparison *state, const parts *a, const parts *b)
{
    int worst = RT_CORRECT;
    if (a->count < 0 || b->count < 0) {
        return RT_UNDECIDED;
    }
    if (a->count != b->count) {
        return RT_WRONG;
    }
    for (int i = 0; i < a->count; i++) {
        int grade = a->before[i] != b->before[i] ? RT_WRONG
                                                 : compare(state, a->items[i], b->items[i]);
        if (grade == RT_WRONG) {
            return RT_WRONG;
        }
        worst = grade == RT_UNDECIDED ? RT_UNDECIDED : worst;
    }
    return worst;
}

/* Each item of one side meets an equal one of the other. */
static int unordered(comparison *state, const parts *a, const parts *b)
{
    bool used[PARTS_MAX] = {false}, doubt = false;
    int matched = 0;
    if (a->count < 0 || b->count < 0) {
        return RT_UNDECIDED;
    }
    for (int i = 0; i < a->count; i++) {
        for (int k = 0; k < b->count; k++) {
            int grade = used[k] ? RT_WRONG : compare(state, a->items[i], b->items[k]);
            doubt = doubt || grade == RT_UNDECIDED;
            if (grade == RT_CORRECT) {
                used[k] = true;
                matched++;
                break;
            }
        }
    }
    if (a->count == b->count && matched == a->count) {
        return RT_CORRECT;
    }
    return doubt && a->count == b->count ? RT_UNDECIDED : RT_WRONG;
}

/* ---- leaves ------------------------------------------------------------------------------ */

static bool same_letters(rt_text a, rt_text b)
{
    int counts[256] = {0};
    for (size_t i = 0; i < a.bytes; i++) {
        counts[(unsigned char)a.at[i]]++;
    }
    for (size_t i = 0; i < b.bytes; i++) {
        counts[(unsigned char)b.at[i]]--;
    }
    for (int i = 0; i < 256; i++) {
        if (counts[i] && i != ' ') {
            return false;
        }
    }
    return true;
}

/* Two letters or more and nothing else. */
static bool is_words(rt_text text)
{
    for (size_t i = 0; i < text.bytes; i++) {
        if (!isalpha((unsigned char)text.at[i]) && !strchr(" -'", text.at[i])) {
            return false;
        }
    }
    return text.bytes >= 2 && isalpha((unsigned char)text.at[0]) &&
           isalpha((unsigned char)text.at[text.bytes - 1]);
}

static bool take_percent(rt_text *text)
{
    if (!text->bytes || text->at[text->bytes - 1] != '%') {
        return false;
    }
    text->bytes--;
    *text = rt_text_trim(*text);
    return true;
}

/* Degrees of temperature are a unit like others. */
static bool take_degrees(rt_text *text)
{
    rt_text rest = *text;
    if (rest.bytes >= 2 && strchr("CF", rest.at[rest.bytes - 1])) {
        rest = rt_text_trim((rt_text){rest.at, rest.bytes - 1});
        if (rest.bytes && rest.at[rest.bytes - 1] == RT_DEGREES) {
            rest.bytes--;
            *text = rt_text_trim(rest);
        }
        return false;
    }
    return rest.bytes && rest.at[rest.bytes - 1] == RT_DEGREES;
}

static bool understood(comparison *state, rt_text text)
{
    rt_algebra *algebra = rt_algebra_open(&state->steps_left);
    rt_expression_read(algebra, text);
    bool clear = !rt_algebra_failed(algebra) && !rt_algebra_doubtful(algebra);
    rt_algebra_close(algebra);
    return clear;
}

/* Whether left is equal to right, or one of them is after a change of scale: 40 % is 0.4, too. */
static int equal_or_scaled(rt_algebra *algebra, const rt_value *left, const rt_value *right,
                           const rt_value *scale)
{
    int grade = rt_value_equal(algebra, left, right);
    if (grade == RT_CORRECT || !scale || rt_algebra_failed(algebra)) {
        return grade;
    }
    int scaled = rt_value_equal(algebra, left, rt_value_multiply(algebra, right, scale));
    return scaled == RT_CORRECT || scaled == RT_UNDECIDED ? scaled : grade;
}

static int compare_values(comparison *state, rt_text a, rt_text b)
{
    bool percent_a = take_percent(&a), percent_b = take_percent(&b);
    bool degrees_a = take_degrees(&a), degrees_b = take_degrees(&b);
    rt_algebra *algebra = rt_algebra_open(&state->steps_left);
    const rt_value *left = rt_expression_read(algebra, a), *right = rt_expression_read(algebra, b);
    const rt_value *scale = NULL;
    if (percent_a != percent_b) {
        scale = rt_value_integer(algebra, 100);
    } else if (degrees_a != degrees_b) {
        scale = rt_value_symbol(algebra, "\\pi", 3);
        scale = rt_value_divide(algebra, rt_value_integer(algebra, 180), scale);
    }
    bool swap = percent_b || degrees_b;
    int grade = rt_algebra_failed(algebra) ? RT_UNDECIDED
                : swap ? equal_or_scaled(algebra, right, left, scale)
                       : equal_or_scaled(algebra, left, right, scale);
    rt_algebra_close(algebra);
    return grade;
}

static bool same_text(rt_text a, rt_text b)
{
    size_t i = 0, k = 0;
    while (true) {
        while (i < a.bytes && a.at[i] == ' ') {
            i++;
        }
        while (k < b.bytes && b.at[k] == ' ') {
            k++;
        }
        if (i == a.bytes || k == b.bytes) {
            return i == a.bytes && k == b.bytes && i > 0;
        }
        if (a.at[i++] != b.at[k++]) {
            return false;
        }
    }
}

static int compare_leaf(comparison *state, rt_text a, rt_text b)
{
    if (same_text(a, b)) {
        return RT_CORRECT;
    }
    if (!a.bytes || !b.bytes) {
        return RT_WRONG;
    }
    bool words_a = is_words(a), words_b = is_words(b);
    if (words_a && words_b) {
        if (a.bytes == b.bytes && !strncasecmp(a.at, b.at, a.bytes)) {
            return RT_CORRECT;
        }
        return same_letters(a, b) ? RT_UNDECIDED : RT_WRONG;
    }
    /* A word of language against a number or a formula; short ones may be products of variables. */
    if ((words_a && a.bytes > 3) || (words_b && b.bytes > 3)) {
        return understood(state, words_a ? b : a) ? RT_WRONG : RT_UNDECIDED;
    }
    return compare_values(state, a, b);
}

/* ---- units ------------------------------------------------------------------------------- */

/* The last unit behind a text goes away; *unit is what it says, empty if there is none. */
static bool take_unit(rt_text *text, rt_text *unit)
{
    *unit = (rt_text){0};
    if (!text->bytes || text->at[text->bytes - 1] != RT_UNIT_CLOSE) {
        return false;
    }
    size_t open = text->bytes - 1;
    while (open && text->at[open] != RT_UNIT_OPEN) {
        open--;
    }
    *unit = (rt_text){text->at + open + 1, text->bytes - open - 2};
    *text = rt_text_trim((rt_text){text->at, open});
    return true;
}

/* Both sides have a unit that is known: the values are brought to the same one. */
static int compare_measured(comparison *state, rt_text a, rt_text b, const rt_unit *unit_a,
                            const rt_unit *unit_b)
{
    rt_algebra *algebra = rt_algebra_open(&state->steps_left);
    const rt_value *left = rt_expression_read(algebra, a), *right = rt_expression_read(algebra, b);
    int grade = RT_UNDECIDED;
    if (!rt_algebra_failed(algebra)) {
        left = rt_value_multiply(algebra, left, rt_unit_value(algebra, unit_a));
        right = rt_value_multiply(algebra, right, rt_unit_value(algebra, unit_b));
        grade = rt_value_equal(algebra, left, right);
    }
    rt_algebra_close(algebra);
    return grade;
}

/* A unit on one side only, or one that is not known, counts for nothing. */
static int compare_units(comparison *state, rt_text a, rt_text b)
{
    rt_text name_a, name_b, more;
    rt_unit unit_a, unit_b;
    take_unit(&a, &name_a);
    take_unit(&b, &name_b);
    bool several = take_unit(&a, &more) || take_unit(&b, &more);
    if (several || !rt_unit_read(name_a, &unit_a) || !rt_unit_read(name_b, &unit_b)) {
        return compare(state, a, b);
    }
    if (!rt_unit_same_kind(&unit_a, &unit_b)) { /* 5 cm for 5 cm²: carelessness or an error? */
        int grade = compare(state, a, b);
        return grade == RT_CORRECT ? RT_UNDECIDED : grade;
    }
    return compare_measured(state, a, b, &unit_a, &unit_b);
}

/* ---- equations and inequalities ---------------------------------------------------------- */

static const char RELATIONS[] = "=<>\x04\x05\x06";

/* The value of left − right of an equation or inequality. */
static const rt_value *difference(rt_algebra *algebra, rt_text left, rt_text right)
{
    const rt_value *value = rt_expression_read(algebra, left);
    const rt_value *other = rt_expression_read(algebra, right);
    return rt_value_add(algebra, value, rt_value_negate(algebra, other));
}

/* One relation each; > and ≥ are turned into < and ≤. */
static int compare_relation(comparison *state, rt_text left_a, char op_a, rt_text right_a,
                            rt_text left_b, char op_b, rt_text right_b)
{
    bool turn_a = op_a == '>' || op_a == RT_AT_LEAST, turn_b = op_b == '>' || op_b == RT_AT_LEAST;
    op_a = op_a == '>' ? '<' : op_a == RT_AT_LEAST ? RT_AT_MOST : op_a;
    op_b = op_b == '>' ? '<' : op_b == RT_AT_LEAST ? RT_AT_MOST : op_b;
    rt_algebra *algebra = rt_algebra_open(&state->steps_left);
    const rt_value *a, *b;
    a = difference(algebra, turn_a ? right_a : left_a, turn_a ? left_a : right_a);
    b = difference(algebra, turn_b ? right_b : left_b, turn_b ? left_b : right_b);
    int sign = 0, same = RT_UNDECIDED;
    bool final = false, directed = op_a == '<' || op_a == RT_AT_MOST;
    if (!rt_algebra_failed(algebra)) {
        same = rt_value_proportional(algebra, a, b, op_a == '=' && op_b == '=', &sign, &final);
    }
    bool failed = rt_algebra_failed(algebra), doubtful = rt_algebra_doubtful(algebra);
    rt_algebra_close(algebra);
    if (failed || same == RT_UNDECIDED || (same == RT_CORRECT && directed && !sign)) {
        return RT_UNDECIDED;
    }
    if (same == RT_CORRECT && op_a == op_b && (!directed || sign > 0)) {
        return RT_CORRECT;
    }
    bool solved = left_a.bytes == 1 && same_text(left_a, left_b) &&
                  isalpha((unsigned char)*left_a.at);
    return (final || solved || same == RT_CORRECT) && !doubtful ? RT_WRONG : RT_UNDECIDED;
}

static int compare_chain(comparison *state, const parts *a, const parts *b)
{
    if (a->count < 0 || b->count < 0 || a->count != b->count) {
        return RT_UNDECIDED;
    }
    bool equations = true, matched[PARTS_MAX] = {false};
    for (int i = 1; i < a->count; i++) {
        equations = equations && a->before[i] == '=' && b->before[i] == '=';
    }
    if (equations && a->count > 2) {
        return compare(state, a->items[a->count - 1], b->items[b->count - 1]);
    }
    int links = a->count - 1, found = 0;
    bool doubt = false;
    for (int i = 1; i <= links; i++) {
        for (int k = 1; k <= links; k++) {
            int grade = matched[k] ? RT_WRONG
                                   : compare_relation(state, a->items[i - 1], a->before[i],
                                                      a->items[i], b->items[k - 1], b->before[k],
                                                      b->items[k]);
            doubt = doubt || grade == RT_UNDECIDED;
            if (grade == RT_CORRECT) {
                matched[k] = true;
                found++;
                break;
            }
        }
    }
    return found == links ? RT_CORRECT : doubt ? RT_UNDECIDED : RT_WRONG;
}

/* x > 3, 3 < x and 1 ≤ x < 2 as the two ends of an interval. */
typedef struct range {
    rt_text low, high;
    bool open_low, open_high;
} range;

static const rt_text infinity = {"\\infty", 6}, minus_infinity = {"-\\infty", 7};

static bool is_letter(rt_text text)
{
    return text.bytes == 1 && isalpha((unsigned char)*text.at);
}

/* One link "left op right", of which one side is the variable. */
static bool range_link(range *out, rt_text left, char op, rt_text right)
{
    bool less = op == '<' || op == RT_AT_MOST, open = op == '<' || op == '>';
    if (!op || !strchr("<>\x04\x05", op) || is_letter(left) == is_letter(right)) {
        return false;
    }
    if (is_letter(left) == less) {
        out->high = is_letter(left) ? right : left;
        out->open_high = open;
    } else {
        out->low = is_letter(left) ? right : left;
        out->open_low = open;
    }
    return true;
}

static int compare_range(comparison *state, const parts *chain, rt_text other)
{
    range mine = {minus_infinity, infinity, true, true};
    char open, close;
    rt_text inner;
    parts ends;
    bool readable = chain->count == 2 || (chain->count == 3 && is_letter(chain->items[1]));
    for (int i = 1; i < chain->count && readable; i++) {
        readable = range_link(&mine, chain->items[i - 1], chain->before[i], chain->items[i]);
    }
    bool none_twice = chain->count == 2 || (!same_text(mine.low, minus_infinity) &&
                                            !same_text(mine.high, infinity));
    if (!readable || !none_twice || !bracketed(other, &open, &close, &inner) ||
        !strchr("([", open) || !strchr(")]", close)) {
        return RT_UNDECIDED;
    }
    split(inner, ",;", &ends);
    if (ends.count != 2) {
        return RT_UNDECIDED;
    }
    int low = compare(state, mine.low, ends.items[0]), high = compare(state, mine.high, ends.items[1]);
    bool same_ends = (open == '(') == mine.open_low && (close == ')') == mine.open_high;
    if (low == RT_WRONG || high == RT_WRONG || !same_ends) {
        return RT_WRONG;
    }
    return low == RT_CORRECT && high == RT_CORRECT ? RT_CORRECT : RT_UNDECIDED;
}

/* "x = 4" against "4": what stands last counts. Another relation may be an interval. */
static int compare_one_relation(comparison *state, const parts *chain, rt_text other,
                                bool chain_first)
{
    if (chain->count < 0) {
        return RT_UNDECIDED;
    }
    for (int i = 1; i < chain->count; i++) {
        if (chain->before[i] != '=') {
            return compare_range(state, chain, other);
        }
    }
    rt_text last = chain->items[chain->count - 1];
    return chain_first ? compare(state, last, other) : compare(state, other, last);
}

/* ---- the shape of an answer -------------------------------------------------------------- */

static int compare_matrix(comparison *state, rt_text a, rt_text b)
{
    parts rows_a, rows_b;
    split(a, "\x0b", &rows_a);
    split(b, "\x0b", &rows_b);
    if (rows_a.count != rows_b.count || rows_a.count < 0) {
        return rows_a.count < 0 || rows_b.count < 0 ? RT_UNDECIDED : RT_WRONG;
    }
    int worst = RT_CORRECT;
    for (int i = 0; i < rows_a.count; i++) {
        parts cells_a, cells_b;
        split(rows_a.items[i], "&", &cells_a);
        split(rows_b.items[i], "&", &cells_b);
        int grade = ordered(state, &cells_a, &cells_b);
        if (grade == RT_WRONG) {
            return RT_WRONG;
        }
        worst = grade == RT_UNDECIDED ? grade : worst;
    }
    return worst;
}

static int compare_bracketed(comparison *state, rt_text a, rt_text b, const char brackets[4],
                             rt_text inner_a, rt_text inner_b)
{
    parts items_a, items_b;
    split(inner_a, ",;", &items_a);
    split(inner_b, ",;", &items_b);
    bool set = brackets[0] == RT_SET_OPEN || brackets[2] == RT_SET_OPEN;
    if (set) {
        bool both = brackets[0] == brackets[2];
        return both || items_a.count > 1 || items_b.count > 1
                   ? unordered(state, &items_a, &items_b) : compare_leaf(state, a, b);
    }
    if (brackets[0] == RT_MATRIX_OPEN && brackets[2] == RT_MATRIX_OPEN) {
        return compare_matrix(state, inner_a, inner_b);
    }
    if (items_a.count == 1 && items_b.count == 1) {
        return compare_leaf(state, a, b);
    }
    /* The bracket tells an open end of an interval from a closed one. */
    if (brackets[0] != brackets[2] || brackets[1] != brackets[3]) {
        return RT_WRONG;
    }
    return ordered(state, &items_a, &items_b);
}

/* A single answer beyond doubt: a value, a word, or a letter that equals a value. */
static bool one_value(comparison *state, rt_text text)
{
    parts sides;
    split(text, RELATIONS, &sides);
    if (sides.count == 2 && sides.before[1] == '=' && sides.items[0].bytes == 1) {
        text = sides.items[1];
    } else if (sides.count != 1) {
        return false;
    }
    return (is_words(text) && text.bytes > 3) || understood(state, text);
}

static int compare_lists(comparison *state, rt_text a, rt_text b, const parts *list_a,
                         const parts *list_b)
{
    char open, close;
    rt_text inner;
    parts items;
    if (list_a->count != 1 && list_b->count != 1) {
        return unordered(state, list_a, list_b);
    }
    /* A bare list against brackets: a set as a set, a tuple in its order. */
    const parts *bare = list_a->count != 1 ? list_a : list_b;
    rt_text other = list_a->count != 1 ? b : a;
    if (bracketed(other, &open, &close, &inner) && open != '{') {
        split(inner, ",;", &items);
        if (items.count > 1) {
            return open == RT_SET_OPEN ? unordered(state, bare, &items)
                                       : ordered(state, bare, &items);
        }
    }
    return one_value(state, other) ? RT_WRONG : RT_UNDECIDED;
}

/* a ± b stands for two values. */
static bool expand(rt_text text, char out[2 * RT_MATH_BYTES_MAX + 2], rt_text *pair)
{
    const char *sign = memchr(text.at, RT_PLUS_MINUS, text.bytes);
    size_t at = sign ? (size_t)(sign - text.at) : 0;
    if (!sign || memchr(sign + 1, RT_PLUS_MINUS, text.bytes - at - 1)) {
        return false;
    }
    memcpy(out, text.at, text.bytes);
    out[at] = '+';
    out[text.bytes] = ',';
    memcpy(out + text.bytes + 1, text.at, text.bytes);
    out[text.bytes + 1 + at] = '-';
    *pair = (rt_text){out, 2 * text.bytes + 1};
    return true;
}

/* x = 2 ± 1 against a list: the name in front goes away first. */
static rt_text after_equals(rt_text text)
{
    for (size_t i = text.bytes; i > 0; i--) {
        if (text.at[i - 1] == '=') {
            return rt_text_trim(rt_text_skip(text, i));
        }
    }
    return text;
}

static int compare_expanded(comparison *state, rt_text a, rt_text b)
{
    char more_a[2 * RT_MATH_BYTES_MAX + 2], more_b[2 * RT_MATH_BYTES_MAX + 2];
    rt_text pair_a = after_equals(a), pair_b = after_equals(b);
    bool ready = a.bytes <= RT_MATH_BYTES_MAX && b.bytes <= RT_MATH_BYTES_MAX;
    bool any_a = ready && expand(pair_a, more_a, &pair_a);
    bool any_b = ready && expand(pair_b, more_b, &pair_b);
    if (!ready || (!any_a && !any_b)) {
        return same_text(a, b) ? RT_CORRECT : RT_UNDECIDED;
    }
    return compare(state, any_a ? pair_a : a, any_b ? pair_b : b);
}

/* x ∈ [0, 1), where ∈ has become an equality. */
static bool in_brackets(const parts *chain, rt_text *inner)
{
    char open, close;
    rt_text ignore;
    *inner = chain->count == 2 ? chain->items[1] : (rt_text){0};
    return chain->count == 2 && chain->before[1] == '=' && is_letter(chain->items[0]) &&
           bracketed(*inner, &open, &close, &ignore) && strchr("([", open) && strchr(")]", close);
}

static int compare_shape(comparison *state, rt_text a, rt_text b)
{
    parts parts_a, parts_b;
    split(a, "\x03", &parts_a);
    split(b, "\x03", &parts_b);
    if (parts_a.count != 1 || parts_b.count != 1) {
        return unordered(state, &parts_a, &parts_b);
    }
    split(a, ",;", &parts_a);
    split(b, ",;", &parts_b);
    if (parts_a.count != 1 || parts_b.count != 1) {
        return compare_lists(state, a, b, &parts_a, &parts_b);
    }
    split(a, RELATIONS, &parts_a);
    split(b, RELATIONS, &parts_b);
    if (parts_a.count != 1 && parts_b.count != 1) {
        rt_text inner;
        return in_brackets(&parts_a, &inner)   ? compare(state, inner, b)
               : in_brackets(&parts_b, &inner) ? compare(state, a, inner)
                                               : compare_chain(state, &parts_a, &parts_b);
    }
    if (parts_a.count != 1) {
        return compare_one_relation(state, &parts_a, b, true);
    }
    if (parts_b.count != 1) {
        return compare_one_relation(state, &parts_b, a, false);
    }
    if ((a.bytes && a.at[a.bytes - 1] == RT_UNIT_CLOSE) ||
        (b.bytes && b.at[b.bytes - 1] == RT_UNIT_CLOSE)) {
        return compare_units(state, a, b);
    }
    char brackets[4];
    rt_text inner_a = a, inner_b = b;
    bool in_a = bracketed(a, &brackets[0], &brackets[1], &inner_a);
    bool in_b = bracketed(b, &brackets[2], &brackets[3], &inner_b);
    if (in_a && in_b) {
        return compare_bracketed(state, a, b, brackets, inner_a, inner_b);
    }
    if (in_a || in_b) { /* a tuple, set or matrix against one value */
        split(in_a ? inner_a : inner_b, ",;\x0b&", &parts_a);
        char open = in_a ? brackets[0] : brackets[2];
        if (parts_a.count != 1) {
            return understood(state, in_a ? b : a) ? RT_WRONG : RT_UNDECIDED;
        }
        if (open == RT_SET_OPEN) {
            return compare(state, in_a ? inner_a : a, in_a ? b : inner_b);
        }
        if (is_words(in_a ? inner_a : inner_b)) {
            return compare(state, inner_a, inner_b);
        }
    }
    return compare_leaf(state, a, b);
}

static int compare(comparison *state, rt_text a, rt_text b)
{
    a = rt_text_trim(a);
    b = rt_text_trim(b);
    if (same_text(a, b)) {
        return RT_CORRECT;
    }
    if (state->depth >= DEPTH_MAX || state->steps_left <= 0 ||
        (a.bytes && memchr(a.at, RT_UNKNOWN, a.bytes)) ||
        (b.bytes && memchr(b.at, RT_UNKNOWN, b.bytes))) {
        return RT_UNDECIDED;
    }
    state->depth++;
    bool twice = (a.bytes && memchr(a.at, RT_PLUS_MINUS, a.bytes)) ||
                 (b.bytes && memchr(b.at, RT_PLUS_MINUS, b.bytes));
    int grade = twice ? compare_expanded(state, a, b) : compare_shape(state, a, b);
    state->depth--;
    /* Looking at anything costs, so that many small parts end as well as few large ones. */
    state->steps_left -= 200 + 10 * (int64_t)(a.bytes + b.bytes);
    return grade;
}

static int compare_once(rt_text answer, rt_text gold, bool group_thousands)
{
    char a[RT_MATH_BYTES_MAX], b[RT_MATH_BYTES_MAX];
    size_t bytes_a, bytes_b;
    if (!rt_latex_normalise(answer, group_thousands, a, &bytes_a) ||
        !rt_latex_normalise(gold, group_thousands, b, &bytes_b)) {
        return rt_text_equal(answer, gold) ? RT_CORRECT : RT_UNDECIDED;
    }
    comparison state = {.steps_left = RT_STEPS_MAX};
    return compare(&state, (rt_text){a, bytes_a}, (rt_text){b, bytes_b});
}

int rt_math_compare(rt_text answer, rt_text gold)
{
    int grade = compare_once(answer, gold, true);
    bool commas = (answer.bytes && memchr(answer.at, ',', answer.bytes)) ||
                  (gold.bytes && memchr(gold.at, ',', gold.bytes));
    /* 100,200 is a number or a list of two: whichever makes the two sides agree. */
    if (grade != RT_CORRECT && commas && compare_once(answer, gold, false) == RT_CORRECT) {
        return RT_CORRECT;
    }
    return grade;
}

/* ---- the answer in a response ------------------------------------------------------------ */

/* Inside the first $…$ of a phrase; else the phrase. */
static rt_text dollars(rt_text text)
{
    const char *open = text.bytes ? memchr(text.at, '$', text.bytes) : NULL;
    if (!open || (open > text.at && open[-1] == '\\')) {
        return text;
    }
    rt_text rest = rt_text_skip(text, (size_t)(open - text.at) + 1);
    const char *close = rest.bytes ? memchr(rest.at, '$', rest.bytes) : NULL;
    return close && close > rest.at ? (rt_text){rest.at, (size_t)(close - rest.at)} : text;
}

/* The last $…$ of a text. */
static bool last_dollars(rt_text text, rt_text *inner)
{
    size_t close = text.bytes;
    while (close && text.at[close - 1] != '$') {
        close--;
    }
    size_t open = close ? close - 1 : 0;
    while (open && text.at[open - 1] != '$') {
        open--;
    }
    *inner = (rt_text){text.at + open, close > open ? close - 1 - open : 0};
    return open > 0 && rt_text_trim(*inner).bytes > 0;
}

void rt_grade_math(rt_text response, rt_text gold, rt_verdict *verdict)
{
    rt_text answer, inner;
    bool boxed = rt_text_box(response, &answer);
    bool phrase = !boxed && rt_answer_phrase(response, &answer);
    if (!boxed && !phrase && !rt_answer_hashes(response, &answer) &&
        !last_dollars(response, &answer) && !rt_last_number(response, &answer)) {
        /* A bare answer without any number: "even", "C", "x+y". */
        answer = rt_text_trim(response);
        if (!answer.bytes || answer.bytes > 200) {
            verdict->grade = RT_WRONG;
            return;
        }
    }
    answer = rt_text_trim(phrase ? dollars(answer) : answer);
    rt_verdict_extract(verdict, answer);
    if (rt_text_box(gold, &inner) || rt_answer_hashes(gold, &inner)) {
        gold = rt_text_trim(inner);
    }
    verdict->grade = rt_math_compare(answer, gold);
    /* Words around the answer of a phrase: its last number may be the answer. */
    if (phrase && verdict->grade == RT_UNDECIDED && rt_last_number(answer, &inner)) {
        rt_verdict_extract(verdict, inner);
        verdict->grade = rt_math_compare(inner, gold);
    }
}
