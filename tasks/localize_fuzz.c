/* Judgements on any bytes: no crash, and only values a plan can use. */
#include "tasks/tasks.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes < 1) {
        return 0;
    }
    int thoughts = 1 + data[0] % 32;
    size_t text_bytes = bytes - 1;
    char *text = malloc(text_bytes + 1); /* exact size: reading past the end is seen */
    memcpy(text, data + 1, text_bytes);
    bool failed;
    int value = rt_localize_parse(text, text_bytes, thoughts, &failed);
    RT_ASSERT(value >= 0 && value <= thoughts && (!failed || value == 1));
    RT_ASSERT(rt_localize_clamp(value, thoughts) == (value ? value : 1));
    int other = rt_ics_localize_parse(text, text_bytes, thoughts, &failed);
    RT_ASSERT(other >= 0 && other <= thoughts);
    /* Both orders look at the same box first, and only a box can say 0. */
    RT_ASSERT((value == 0) == (other == 0));
    int verdict = rt_verify_parse(text, text_bytes, false);
    int released = rt_verify_parse(text, text_bytes, true);
    RT_ASSERT(verdict >= RT_VERIFY_UNDECIDED && verdict <= RT_VERIFY_YES);
    RT_ASSERT(released == RT_VERIFY_NO || (released == RT_VERIFY_YES && verdict == released));
    free(text);
    return 0;
}
