/*
 * grade: what the graders share and nobody outside tasks/ sees. A grader gets the bounded response
 * and the trimmed gold, fills verdict->grade and verdict->extracted, and touches nothing else.
 */
#ifndef RT_TASKS_GRADE_H
#define RT_TASKS_GRADE_H

#include "tasks/internal.h"

enum {
    RT_RESPONSE_BYTES_MAX = 256 << 10,
    RT_GOLD_BYTES_MAX = 16 << 10,
    RT_CODE_GOLD_BYTES_MAX = 512 << 10 /* travels in a lease, whose limit lies above */
};

typedef struct rt_text { /* a piece of text, not terminated */
    const char *at;
    size_t bytes;
} rt_text;

rt_text rt_text_trim(rt_text text);
bool rt_text_equal(rt_text a, rt_text b);
bool rt_text_starts(rt_text text, const char *prefix);
rt_text rt_text_skip(rt_text text, size_t bytes);
bool rt_text_box(rt_text text, rt_text *content); /* the last complete box */
void rt_verdict_extract(rt_verdict *verdict, rt_text answer);

void rt_grade_exact(rt_text response, rt_text gold, rt_verdict *verdict);
void rt_grade_number(rt_text response, rt_text gold, rt_verdict *verdict);
void rt_grade_choice(rt_text response, rt_text gold, rt_verdict *verdict);
void rt_grade_yesno(rt_text response, rt_text gold, rt_verdict *verdict);
void rt_grade_math(rt_text response, rt_text gold, rt_verdict *verdict);
void rt_grade_countdown(rt_text response, rt_text gold, rt_verdict *verdict);
void rt_grade_steps(rt_text response, rt_text gold, rt_verdict *verdict);
/* Sets the reward too: the share of tests that passed. */
void rt_grade_code(rt_text response, rt_text gold, const atomic_bool *stop, rt_verdict *verdict);
/* What stands between the last two lines that begin with ```, else the whole text. */
rt_text rt_code_program(rt_text response);
/* Line by line, without space at the ends of lines and blank lines at the end. */
bool rt_code_output_same(rt_text output, rt_text expected);

/* Grade of one answer against another, both bare LaTeX. */
int rt_math_compare(rt_text answer, rt_text gold);

/* Where a free text says its answer when it has no box: behind the last "answer is" or "answer:",
 * up to the end of the line or sentence. */
bool rt_answer_phrase(rt_text response, rt_text *answer);
/* Behind the last "####" of a GSM8K-style text, up to the end of the line. */
bool rt_answer_hashes(rt_text response, rt_text *answer);
/* The last number of a text as it stands there ("1,234.5", "-3/4"). */
bool rt_last_number(rt_text text, rt_text *number);

/* ---- exact decimals ---------------------------------------------------------------------- */

enum { RT_DIGITS_MAX = 256 };
typedef struct rt_decimal { /* ±0.d1d2d3… without zeros at either end, times 10^exponent */
    bool negative;
    int digits_count; /* 0: the number zero */
    int64_t exponent;
    unsigned char digits[RT_DIGITS_MAX];
} rt_decimal;

typedef struct rt_ratio_number {
    rt_decimal over, under;
    bool percent;
} rt_ratio_number;

/* False: no number, or one too long to be compared digit by digit. */
bool rt_number_read(rt_text text, rt_ratio_number *number);
bool rt_number_equal(const rt_ratio_number *a, const rt_ratio_number *b);

#endif
