/* Every grader on any response and any gold: no crash, no verdict outside the three. Of `code`, which
 * starts processes, what it reads: tests, the program in a response, outputs. */
#include "tasks/grade.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const char *const names[] = {"exact", "number", "choice",   "yesno",
                                        "math",  "steps",  "countdown"};
    if (bytes < 2) {
        return 0;
    }
    const uint8_t *cut = memchr(data + 1, '|', bytes - 1);
    size_t gold_bytes = cut ? (size_t)(cut - data) - 1 : (bytes - 1) / 2;
    char *gold = rt_strndup((const char *)data + 1, gold_bytes);
    size_t skip = 1 + gold_bytes + (cut ? 1 : 0);
    size_t response_bytes = bytes - skip;
    char *response = malloc(response_bytes + 1);
    memcpy(response, data + skip, response_bytes);
    rt_verdict verdict;
    rt_grade_response(names[data[0] % RT_COUNT(names)], response, response_bytes, gold, &verdict,
                      NULL);
    RT_ASSERT(verdict.grade >= RT_UNDECIDED && verdict.grade <= RT_CORRECT);
    RT_ASSERT(strlen(verdict.extracted) < sizeof verdict.extracted);
    /* Equal answers in a box are never wrong: the comparison is reflexive or undecided. */
    rt_buf boxed = {0};
    rt_buf_addf(&boxed, "\\boxed{%s}", gold);
    rt_grade_response("math", boxed.data, boxed.bytes, gold, &verdict, NULL);
    rt_buf_free(&boxed);
    rt_text text = {response, response_bytes}, program = rt_code_program(text);
    RT_ASSERT(program.at >= text.at && program.at + program.bytes <= text.at + text.bytes);
    RT_ASSERT(rt_code_output_same(text, text));
    rt_code_output_same(text, (rt_text){gold, strlen(gold)});
    rt_code_gold_check(gold, NULL);
    free(response);
    rt_free(gold);
    return 0;
}
