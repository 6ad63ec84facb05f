/*
 * grade_math_latex: LaTeX as models write it, reduced to a small alphabet: spacing, sizes,
 * currency, degrees and units go away, commands for one sign become one byte, others stay as \name.
 */
#include "tasks/grade_algebra.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

typedef struct writer {
    char *out;
    size_t bytes;
    bool full;
} writer;

static void put(writer *to, const char *at, size_t bytes)
{
    if (to->bytes + bytes > RT_MATH_BYTES_MAX) {
        to->full = true;
        return;
    }
    memcpy(to->out + to->bytes, at, bytes);
    to->bytes += bytes;
}

static const struct {
    const char *from, *to;
} commands[] = {
    {"dfrac", "\\frac"}, {"tfrac", "\\frac"}, {"cfrac", "\\frac"}, {"left", ""}, {"right", ""},
    {"big", ""}, {"Big", ""}, {"bigl", ""}, {"bigr", ""}, {"Bigl", ""}, {"Bigr", ""},
    {"bigg", ""}, {"displaystyle", ""}, {"textstyle", ""}, {"limits", ""}, {"quad", " "},
    {"qquad", " "}, {"circ", "\x12"}, {"degree", "\x12"}, {"times", "*"}, {"cdot", "*"}, {"ast", "*"},
    {"div", "/"}, {"le", "\x04"}, {"leq", "\x04"}, {"leqslant", "\x04"}, {"ge", "\x05"},
    {"geq", "\x05"}, {"geqslant", "\x05"}, {"lt", "<"}, {"gt", ">"}, {"ne", "\x06"},
    {"neq", "\x06"}, {"cup", "\x03"}, {"pm", "\x07"}, {"lbrace", "\x01"}, {"rbrace", "\x02"},
    {"approx", "="}, {"in", "="}, {"vert", "|"}, {"lvert", "|"}, {"rvert", "|"}, {"mid", "|"},
    {"dollar", ""}, {"emptyset", "\x01\x02"}, {"varnothing", "\x01\x02"}, {"lor", ","},
    {"boxed", ""}, {"fbox", ""}, {"mathrm", ""}, {"nonumber", ""}, {"dots", "\x0e"},
    {"ldots", "\x0e"}, {"cdots", "\x0e"}, {"land", "\x0e"},
};

static const struct {
    const char *from, *to;
} signs[] = {
    {"\\\\", "\x0b"}, {"\\{", "\x01"}, {"\\}", "\x02"}, {"\\%", "%"}, {"\\$", ""}, {"\\!", ""},
    {"\\,", ""}, {"\\;", " "}, {"\\:", " "}, {"\\ ", " "}, {"\\(", ""}, {"\\)", ""},
    {"\\[", ""}, {"\\]", ""}, {"$", ""}, {"~", " "}, {"{,}", ""}, {"**", ""}, {"^\\circ", "\x12"},
    {"^{\\circ}", "\x12"}, {"^{ \\circ }", "\x12"}, {"°", "\x12"}, {"−", "-"}, {"–", "-"}, {"×", "*"},
    {"·", "*"}, {"⋅", "*"}, {"÷", "/"}, {"≤", "\x04"}, {"≥", "\x05"}, {"≠", "\x06"},
    {"∪", "\x03"}, {"±", "\x07"}, {"π", "\\pi "}, {"√", "\\sqrt "}, {"∞", "\\infty "},
    {"½", "\\frac12 "}, {"≈", "="}, {"∈", "="}, {"<=", "\x04"}, {">=", "\x05"},
    {"!=", "\x06"}, {"\t", " "}, {"\r", " "}, {"\n", " "},
};

/* End of the {group} that opens at text.at[0], or 0. */
static size_t group_end(rt_text text)
{
    int64_t depth = 0;
    for (size_t i = 0; i < text.bytes; i++) {
        if (text.at[i] == '\\') {
            i++;
        } else if (text.at[i] == '{') {
            depth++;
        } else if (text.at[i] == '}' && --depth == 0) {
            return i;
        }
    }
    return 0;
}

static bool is_word(rt_text text, const char *word)
{
    return text.bytes == strlen(word) && !strncasecmp(text.at, word, text.bytes);
}

static bool only_spaces(const writer *to)
{
    for (size_t i = 0; i < to->bytes; i++) {
        if (to->out[i] != ' ') {
            return false;
        }
    }
    return true;
}

/* Behind a unit: its power, as in cm^2. */
static size_t unit_power(rt_text rest)
{
    if (rest.bytes > 1 && rest.at[0] == '^') {
        size_t end = rest.at[1] == '{' ? group_end(rt_text_skip(rest, 1)) + 1 : 1;
        return end + 1;
    }
    return 0;
}

/* Letters, digits and signs of powers and quotients, between the marks of a unit. */
static void put_unit(writer *to, rt_text name, rt_text power)
{
    put(to, "\x13", 1);
    for (size_t i = 0; i < name.bytes + power.bytes; i++) {
        char c = i < name.bytes ? name.at[i] : power.at[i - name.bytes];
        put(to, isalnum((unsigned char)c) || (c && strchr("/^-{}", c)) ? &c : " ", 1);
    }
    put(to, "\x14", 1);
}

/* \text{…} and its kin: a conjunction, a unit behind a number, or the answer itself. */
static size_t text_group(writer *to, rt_text rest, bool bold)
{
    size_t end = group_end(rest);
    if (!end) {
        put(to, "\x0e", 1);
        return 0;
    }
    rt_text inner = rt_text_trim((rt_text){rest.at + 1, end - 1});
    rt_text after = rt_text_skip(rest, end + 1);
    bool digit = inner.bytes && (isdigit((unsigned char)inner.at[0]) || inner.at[0] == '\\' ||
                                 inner.at[0] == '-');
    if (is_word(inner, "and") || is_word(inner, "or")) {
        put(to, ",", 1);
    } else if (is_word(inner, "percent")) {
        put(to, "%", 1);
    } else if (only_spaces(to) || bold || digit) {
        put(to, inner.at, inner.bytes);
    } else if (inner.bytes) {
        size_t power = unit_power(after);
        rt_text left = rt_text_trim(rt_text_skip(after, power));
        /* A unit stands at the end, or before the end of a list's item. */
        if (left.bytes && !strchr(",.)]}=;\\$", left.at[0])) {
            put(to, "\x0e", 1);
        }
        put_unit(to, inner, (rt_text){after.at, RT_MIN(power, after.bytes)});
        return end + 1 + power;
    }
    return end + 1;
}

/* \operatorname{arctan} and its kin as the command that it stands for. */
static bool function_group(writer *to, rt_text rest, size_t *taken)
{
    char name[12] = {0};
    size_t end = group_end(rest);
    rt_text inner = rt_text_trim((rt_text){rest.at + 1, end ? end - 1 : 0});
    if (!inner.bytes || inner.bytes >= sizeof name) {
        return false;
    }
    memcpy(name, inner.at, inner.bytes);
    if (!rt_function_known(name) && strcmp(name, "log")) {
        return false;
    }
    put(to, "\\", 1);
    put(to, name, inner.bytes);
    put(to, " ", 1);
    *taken = end + 1;
    return true;
}

static size_t environment(writer *to, rt_text rest, const char *sign)
{
    size_t end = rest.bytes && rest.at[0] == '{' ? group_end(rest) : 0;
    rt_text name = {rest.at + 1, end ? end - 1 : 0};
    static const char *const known[] = {"pmatrix", "bmatrix", "matrix", "vmatrix", "Bmatrix"};
    for (size_t i = 0; i < RT_COUNT(known); i++) {
        if (is_word(name, known[i])) {
            put(to, sign, 1);
            return end + 1;
        }
    }
    put(to, "\x0e", 1);
    return end ? end + 1 : 0;
}

/* A command that begins at text.at[0]; returns the bytes it took. */
static size_t command(writer *to, rt_text text)
{
    static const char *const texts[] = {"text", "mathrm", "mbox", "textrm", "operatorname", "hbox"};
    static const char *const bolds[] = {"textbf", "mathbf", "textit", "mathit", "mathbb",
                                        "boldsymbol", "mathcal", "mathsf", "texttt"};
    size_t end = 1;
    while (end < text.bytes && isalpha((unsigned char)text.at[end])) {
        end++;
    }
    rt_text name = {text.at + 1, end - 1}, rest = rt_text_skip(text, end);
    bool group = rest.bytes && rest.at[0] == '{';
    size_t taken;
    if (group && (is_word(name, "operatorname") || is_word(name, "mathrm")) &&
        function_group(to, rest, &taken)) {
        return end + taken;
    }
    for (size_t i = 0; i < RT_COUNT(texts) + RT_COUNT(bolds) && group; i++) {
        bool bold = i >= RT_COUNT(texts);
        const char *one = bold ? bolds[i - RT_COUNT(texts)] : texts[i];
        if (name.bytes == strlen(one) && !memcmp(name.at, one, name.bytes)) {
            return end + text_group(to, rest, bold);
        }
    }
    if (is_word(name, "begin") || is_word(name, "end")) {
        return end + environment(to, rest, is_word(name, "begin") ? "\x10" : "\x11");
    }
    for (size_t i = 0; i < RT_COUNT(commands); i++) {
        if (name.bytes == strlen(commands[i].from) &&
            !memcmp(name.at, commands[i].from, name.bytes)) {
            put(to, commands[i].to, strlen(commands[i].to));
            return end;
        }
    }
    put(to, text.at, end);
    return end;
}

/* Commas that group thousands: up to three digits, then groups of exactly three. */
static size_t drop_thousands(char *out, size_t bytes)
{
    size_t kept = 0, run = 0; /* run: digits since the last other character, commas dropped */
    bool grouped = false;
    for (size_t i = 0; i < bytes; i++) {
        size_t after = 0;
        while (after < 4 && i + 1 + after < bytes && isdigit((unsigned char)out[i + 1 + after])) {
            after++;
        }
        if (out[i] == ',' && after == 3 && run && (grouped || run <= 3) &&
            !(kept > run && out[kept - run - 1] == '.')) {
            grouped = true;
            continue;
        }
        bool digit = isdigit((unsigned char)out[i]);
        run = digit ? run + 1 : 0;
        grouped = grouped && digit;
        out[kept++] = out[i];
    }
    return kept;
}

/* "15 cm", "3 apples": words behind a plain number that can't be variables become its unit. */
static size_t mark_unit_words(char *out, size_t bytes)
{
    static const char *const brief[] = {"cm", "mm", "km", "kg", "mg", "ml", "ft", "in", "lb", "oz",
                                        "hr", "min", "mph", "sec", "m", "g", "s", "h"};
    size_t number = 0;
    while (number < bytes &&
           (isdigit((unsigned char)out[number]) || strchr("+-.,/", out[number]))) {
        number++;
    }
    size_t word = number;
    while (word < bytes && out[word] == ' ') {
        word++;
    }
    size_t first = word;
    while (first < bytes && isalpha((unsigned char)out[first])) {
        first++;
    }
    bool known = first - word >= 3 && word > number;
    for (size_t i = 0; i < RT_COUNT(brief); i++) {
        known = known || (is_word((rt_text){out + word, first - word}, brief[i]) &&
                          (word > number || first - word >= 2));
    }
    for (size_t i = first; i < bytes; i++) {
        bool plain = isalpha((unsigned char)out[i]) || strchr(" ./", out[i]) ||
                     (strchr("^23", out[i]) && i < first + 2);
        known = known && plain;
    }
    rt_text unit = {out + word, first - word};
    known = known && !is_word(unit, "and") && !is_word(unit, "or");
    if (!known || !number || bytes + 2 > RT_MATH_BYTES_MAX) {
        return known && number ? number : bytes;
    }
    memmove(out + number + 1, out + number, bytes - number);
    out[number] = RT_UNIT_OPEN;
    out[bytes + 1] = RT_UNIT_CLOSE;
    return bytes + 2;
}

bool rt_latex_normalise(rt_text text, bool group_thousands, char *out, size_t *bytes)
{
    writer to = {.out = out};
    text = rt_text_trim(text);
    if (text.bytes > 2 * RT_MATH_BYTES_MAX) {
        return false;
    }
    for (size_t i = 0; i < text.bytes && !to.full;) {
        rt_text rest = rt_text_skip(text, i);
        size_t sign = 0;
        while (sign < RT_COUNT(signs) && !rt_text_starts(rest, signs[sign].from)) {
            sign++;
        }
        if (sign < RT_COUNT(signs)) {
            put(&to, signs[sign].to, strlen(signs[sign].to));
            i += strlen(signs[sign].from);
        } else if (rest.at[0] == '\\' && rest.bytes > 1 && isalpha((unsigned char)rest.at[1])) {
            i += command(&to, rest);
        } else {
            char c = (unsigned char)rest.at[0] < ' ' ? RT_UNKNOWN : rest.at[0];
            put(&to, &c, 1);
            i++;
        }
    }
    size_t kept = to.bytes;
    while (kept && strchr(" .,;", out[kept - 1])) {
        kept--;
    }
    kept = group_thousands ? drop_thousands(out, kept) : kept;
    *bytes = mark_unit_words(out, kept);
    return !to.full;
}
