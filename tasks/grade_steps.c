/*
 * grade_steps: a chain of steps is right only if every one of them is. Gold is the list of the steps in
 * order, each "7+5=2" or only the result "2"; in a response a step is what stands around a "=", its
 * result the digits right behind. So an answer that two errors made right by accident does not pass,
 * which a small modulus would else let happen often.
 */
#include "tasks/grade.h"

#include <ctype.h>
#include <string.h>

static rt_text digits(rt_text text)
{
    size_t bytes = 0;
    while (bytes < text.bytes && isdigit((unsigned char)text.at[bytes])) {
        bytes++;
    }
    return (rt_text){text.at, bytes};
}

/* The word at the front of a list, which is moved behind it; empty at the end. */
static rt_text next_word(rt_text *list)
{
    *list = rt_text_trim(*list);
    size_t bytes = 0;
    while (bytes < list->bytes && !isspace((unsigned char)list->at[bytes])) {
        bytes++;
    }
    rt_text word = {list->at, bytes};
    *list = rt_text_skip(*list, bytes);
    return word;
}

/* The step around the "=" at `equals`: does it state `wanted`? */
static bool states(rt_text response, const char *equals, rt_text wanted)
{
    const char *split = memchr(wanted.at, '=', wanted.bytes);
    size_t left = split ? (size_t)(split - wanted.at) : 0;
    rt_text result = split ? rt_text_skip(wanted, left + 1) : wanted;
    size_t before = (size_t)(equals - response.at);
    if (!result.bytes || before < left || memcmp(equals - left, wanted.at, left)) {
        return false;
    }
    if (left && before > left && isalnum((unsigned char)equals[-(ptrdiff_t)left - 1])) {
        return false;
    }
    return rt_text_equal(digits(rt_text_skip(response, before + 1)), result);
}

/* What a step or a bare result says at its end. */
static rt_text result_of(rt_text step)
{
    const char *split = memchr(step.at, '=', step.bytes);
    return split ? rt_text_skip(step, (size_t)(split + 1 - step.at)) : step;
}

void rt_grade_steps(rt_text response, rt_text gold, rt_verdict *verdict)
{
    rt_text last = {gold.at, 0}, box = {response.at, 0};
    bool right = gold.bytes > 0;
    const char *equals = response.bytes ? memchr(response.at, '=', response.bytes) : NULL;
    while (equals) {
        rt_text rest = rt_text_skip(response, (size_t)(equals + 1 - response.at));
        rt_text wanted = next_word(&gold);
        last = wanted.bytes ? result_of(wanted) : last;
        right = right && states(response, equals, wanted);
        equals = rest.bytes ? memchr(rest.at, '=', rest.bytes) : NULL;
    }
    right = right && !rt_text_trim(gold).bytes && rt_text_box(response, &box) &&
            rt_text_equal(rt_text_trim(box), last);
    rt_verdict_extract(verdict, rt_text_trim(box));
    verdict->grade = right ? RT_CORRECT : RT_WRONG;
}
