/*
 * grade_choice: multiple choice, letters A to J. The order of places to look and what counts there
 * follow the published graders of the reset papers, so that accuracies stay comparable: the last
 * box holding a bare letter, the last "answer is X" or "answer: X", a letter with . or ) at the
 * very end, the last capital between spaces.
 */
#include "tasks/grade.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static char letter_of(char c)
{
    char upper = (char)toupper((unsigned char)c);
    return upper >= 'A' && upper <= 'J' ? upper : 0;
}

static bool word_char(rt_text text, size_t i)
{
    return i < text.bytes && (isalnum((unsigned char)text.at[i]) || text.at[i] == '_');
}

static char in_box(rt_text text)
{
    char found = 0;
    for (size_t i = 0; i + 8 < text.bytes; i++) {
        if (text.at[i] != '\\' || memcmp(text.at + i, "\\boxed{", 7)) {
            continue;
        }
        size_t j = i + 7;
        while (j < text.bytes && isspace((unsigned char)text.at[j])) {
            j++;
        }
        char letter = j < text.bytes ? letter_of(text.at[j++]) : 0;
        while (j < text.bytes && isspace((unsigned char)text.at[j])) {
            j++;
        }
        found = letter && j < text.bytes && text.at[j] == '}' ? letter : found;
    }
    return found;
}

static char after_answer(rt_text text)
{
    char found = 0;
    for (size_t i = 0; i + 6 < text.bytes; i++) {
        if ((text.at[i] != 'a' && text.at[i] != 'A') || strncasecmp(text.at + i, "answer", 6)) {
            continue;
        }
        size_t j = i + 6;
        bool linked = false;
        while (j < text.bytes && isspace((unsigned char)text.at[j])) {
            j++;
        }
        if (j + 2 < text.bytes && !strncasecmp(text.at + j, "is", 2) && !word_char(text, j + 2)) {
            linked = true;
            j += 2;
        }
        for (; j < text.bytes && (isspace((unsigned char)text.at[j]) || text.at[j] == ':'); j++) {
            linked = linked || text.at[j] == ':';
        }
        j += j < text.bytes && text.at[j] == '(';
        char letter = linked && j < text.bytes ? letter_of(text.at[j]) : 0;
        found = letter && !word_char(text, j + 1) ? letter : found;
    }
    return found;
}

static char at_end(rt_text text)
{
    text = rt_text_trim(text);
    size_t n = text.bytes;
    if (n < 2 || !strchr(".)", text.at[n - 1]) || (n > 2 && word_char(text, n - 3))) {
        return n == 1 ? letter_of(text.at[0]) : 0;
    }
    return letter_of(text.at[n - 2]);
}

static char last_alone(rt_text text)
{
    for (size_t i = text.bytes; i > 0; i--) {
        char c = text.at[i - 1];
        if (c < 'A' || c > 'J') {
            continue;
        }
        bool open = i == 1 || isspace((unsigned char)text.at[i - 2]);
        bool close = i == text.bytes || isspace((unsigned char)text.at[i]);
        if (open && close) {
            return c;
        }
    }
    return 0;
}

static char parse(rt_text text)
{
    char letter = in_box(text);
    letter = letter ? letter : after_answer(text);
    letter = letter ? letter : at_end(text);
    return letter ? letter : last_alone(text);
}

/* A gold may also be written (C) or C). */
static char gold_letter(rt_text gold)
{
    rt_text inner = gold;
    if (inner.bytes && inner.at[0] == '(') {
        inner = rt_text_skip(inner, 1);
    }
    while (inner.bytes > 1 && strchr(").", inner.at[inner.bytes - 1])) {
        inner.bytes--;
    }
    return inner.bytes == 1 ? letter_of(inner.at[0]) : parse(gold);
}

void rt_grade_choice(rt_text response, rt_text gold, rt_verdict *verdict)
{
    char letter = parse(response), right = gold_letter(gold);
    rt_text box;
    if (letter) {
        rt_verdict_extract(verdict, (rt_text){&letter, 1});
    }
    /* A box that holds something else is an answer we can't read; no answer at all is wrong. */
    if (!right || (!letter && rt_text_box(response, &box))) {
        verdict->grade = RT_UNDECIDED;
        return;
    }
    verdict->grade = letter == right ? RT_CORRECT : RT_WRONG;
}
