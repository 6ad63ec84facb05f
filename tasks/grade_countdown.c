/*
 * grade_countdown: answers that are expressions. Gold is the problem ("3,5,7>22"); an answer is
 * right if it uses every number once, nothing but + - * and brackets, and has the target's value.
 */
#include "tasks/countdown.h"

#include <ctype.h>
#include <string.h>

enum { DEPTH_MAX = 32 };

typedef struct reader {
    rt_text text;
    const rt_countdown *problem;
    unsigned used; /* numbers of the problem, by place */
    int depth;
    bool failed; /* malformed, or a number that is not there */
} reader;

static int64_t read_sum(reader *in);

/* The sign that comes next as one letter: + - * ( ) = or a digit; 0: the end, '?': another one. */
static char peek(reader *in)
{
    static const struct {
        const char *text;
        char sign;
    } others[] = {{"\\times", '*'}, {"\\cdot", '*'},   {"×", '*'},   {"·", '*'}, {"−", '-'},
                  {"\\left(", '('}, {"\\right)", ')'}, {"\\,", ' '}, {"$", ' '}, {"\\ ", ' '}};
    for (bool again = true; again;) {
        again = false;
        in->text = rt_text_trim(in->text);
        for (size_t i = 0; i < RT_COUNT(others); i++) {
            if (rt_text_starts(in->text, others[i].text) && others[i].sign == ' ') {
                in->text = rt_text_skip(in->text, strlen(others[i].text));
                again = true;
            } else if (rt_text_starts(in->text, others[i].text)) {
                return others[i].sign;
            }
        }
    }
    if (!in->text.bytes) {
        return 0;
    }
    char next = *in->text.at;
    return next && (strchr("+-*()=", next) || isdigit((unsigned char)next)) ? next : '?';
}

static void skip(reader *in)
{
    static const char *const longer[] = {"\\times", "\\cdot", "×", "·", "−", "\\left(", "\\right)"};
    size_t bytes = 1;
    for (size_t i = 0; i < RT_COUNT(longer); i++) {
        bytes = rt_text_starts(in->text, longer[i]) ? strlen(longer[i]) : bytes;
    }
    in->text = rt_text_skip(in->text, bytes);
}

static int64_t read_digits(reader *in)
{
    int64_t value = 0;
    while (in->text.bytes && isdigit((unsigned char)*in->text.at)) {
        value = RT_MIN(value * 10 + (*in->text.at - '0'), INT32_MAX);
        in->text = rt_text_skip(in->text, 1);
    }
    return value;
}

/* Every number is taken once: that also keeps all values small. */
static int64_t read_number(reader *in)
{
    int64_t value = read_digits(in);
    for (int i = 0; i < in->problem->count; i++) {
        if (in->problem->numbers[i] == value && !(in->used & 1u << i)) {
            in->used |= 1u << i;
            return value;
        }
    }
    in->failed = true;
    return 0;
}

static int64_t read_factor(reader *in)
{
    char next = peek(in);
    int64_t value = 0;
    if (isdigit((unsigned char)next)) {
        return read_number(in);
    }
    if ((next != '(' && next != '-') || in->depth == DEPTH_MAX) {
        in->failed = true;
        return 0;
    }
    skip(in);
    in->depth++;
    if (next == '-') {
        value = -read_factor(in);
    } else {
        value = read_sum(in);
        in->failed = in->failed || peek(in) != ')';
        skip(in);
    }
    in->depth--;
    return value;
}

static int64_t read_product(reader *in)
{
    int64_t value = read_factor(in);
    while (!in->failed && peek(in) == '*') {
        skip(in);
        value *= read_factor(in);
    }
    return value;
}

static int64_t read_sum(reader *in)
{
    int64_t value = read_product(in);
    for (char op; !in->failed && ((op = peek(in)) == '+' || op == '-');) {
        skip(in);
        int64_t right = read_product(in);
        value = op == '+' ? value + right : value - right;
    }
    return value;
}

static bool understood(reader in)
{
    char next;
    while ((next = peek(&in)) && next != '?') {
        skip(&in);
    }
    return !next;
}

int rt_countdown_compare(const rt_countdown *problem, rt_text expression)
{
    reader in = {.text = expression, .problem = problem};
    if (!understood(in)) {
        return RT_UNDECIDED;
    }
    int64_t value = read_sum(&in);
    if (!in.failed && peek(&in) == '=') {
        skip(&in);
        in.failed = !isdigit((unsigned char)peek(&in)) || read_digits(&in) != problem->target;
    }
    bool all = in.used == (1u << problem->count) - 1;
    return !in.failed && !peek(&in) && all && value == problem->target ? RT_CORRECT : RT_WRONG;
}

void rt_grade_countdown(rt_text response, rt_text gold, rt_verdict *verdict)
{
    rt_countdown problem;
    rt_text answer;
    if (!rt_text_box(response, &answer) && !rt_answer_hashes(response, &answer) &&
        !rt_answer_phrase(response, &answer)) {
        verdict->grade = RT_WRONG; /* no answer at all */
        return;
    }
    answer = rt_text_trim(answer);
    rt_verdict_extract(verdict, answer);
    char *text = rt_strndup(gold.at, gold.bytes);
    verdict->grade = rt_countdown_parse(text, &problem) ? rt_countdown_compare(&problem, answer)
                                                        : RT_UNDECIDED;
    rt_free(text);
}
