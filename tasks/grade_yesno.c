/* grade_yesno: the last word of a text that is yes or no. */
#include "tasks/grade.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static bool word_char(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

static const char *parse(rt_text text)
{
    static const char *const words[] = {"yes", "no"};
    for (size_t i = text.bytes; i > 0; i--) {
        size_t at = i - 1;
        for (size_t w = 0; w < RT_COUNT(words); w++) {
            size_t bytes = strlen(words[w]);
            if (text.bytes - at >= bytes && !strncasecmp(text.at + at, words[w], bytes) &&
                (at == 0 || !word_char(text.at[at - 1])) &&
                (at + bytes == text.bytes || !word_char(text.at[at + bytes]))) {
                return words[w];
            }
        }
    }
    return NULL;
}

/* Data sets also write the answer as true or false. */
static const char *gold_word(rt_text gold)
{
    if (gold.bytes == 4 && !strncasecmp(gold.at, "true", 4)) {
        return "yes";
    }
    if (gold.bytes == 5 && !strncasecmp(gold.at, "false", 5)) {
        return "no";
    }
    return parse(gold);
}

void rt_grade_yesno(rt_text response, rt_text gold, rt_verdict *verdict)
{
    const char *word = parse(response), *right = gold_word(gold);
    rt_text whole = rt_text_trim(response), box;
    if (!word && rt_text_equal(whole, gold)) {
        word = right;
    }
    if (word) {
        rt_verdict_extract(verdict, (rt_text){word, strlen(word)});
    }
    if (!right || (!word && rt_text_box(response, &box))) {
        verdict->grade = RT_UNDECIDED;
        return;
    }
    verdict->grade = word && !strcmp(word, right) ? RT_CORRECT : RT_WRONG;
}
