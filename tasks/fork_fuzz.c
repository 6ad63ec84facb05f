/* Problem and thoughts of fork, and a judge's compact prompt: any bytes, no crash. */
#include "tasks/internal.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { LINES_MAX = 80 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *text = rt_strndup((const char *)data, bytes);
    const char *thoughts[LINES_MAX];
    int count = 0;
    for (char *at = strchr(text, '\n'); at && count < LINES_MAX; at = strchr(at, '\n')) {
        *at++ = '\0';
        thoughts[count++] = at;
    }
    rt_chain_problem problem;
    int first = rt_oracle_first_wrong("fork", text, thoughts, count);
    RT_ASSERT(first >= -1 && first <= count);
    if (rt_fork_parse(text, &problem)) {
        const rt_fork fork = {.modulus = problem.modulus, .slip = 0.25}; /* errors on no fact */
        double value = rt_fork_value(&fork, &problem, thoughts, count);
        RT_ASSERT(value >= 0 && value <= 1.0000001);
        const rt_fork strict = {.modulus = problem.modulus, .slip = 0.25, .every_step = true};
        double least = rt_fork_value(&strict, &problem, thoughts, count);
        RT_ASSERT(least >= 0 && least <= 1);
        RT_ASSERT(first >= 0);
    }
    rt_oracle_first_wrong("chain", text, thoughts, count);
    rt_free(text);
    return 0;
}
