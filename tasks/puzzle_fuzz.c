/* Problems and thoughts of countdown, sort, path and table: any bytes, no crash. */
#include "tasks/puzzle.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { LINES_MAX = 40 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const char *const names[] = {"countdown", "sort", "path", "table"};
    if (bytes < 1) {
        return 0;
    }
    const char *name = names[data[0] % RT_COUNT(names)];
    char *text = rt_strndup((const char *)data + 1, bytes - 1);
    const char *thoughts[LINES_MAX];
    int count = 0;
    for (char *at = strchr(text, '\n'); at && count < LINES_MAX; at = strchr(at, '\n')) {
        *at++ = '\0';
        thoughts[count++] = at;
    }
    int first = rt_oracle_first_wrong(name, text, thoughts, count);
    RT_ASSERT(first >= -1 && first <= count);
    /* The solver's own thoughts are right; where it has none, no way leads to an answer. */
    rt_slips none = {0};
    rt_puzzle_lines lines;
    if (rt_puzzle_kind_of(name)->teach(text, &none, &lines)) {
        for (int i = 0; i < lines.count; i++) {
            thoughts[i] = lines.text[i];
        }
        RT_ASSERT(rt_oracle_first_wrong(name, text, thoughts, lines.count) == 0);
    }
    rt_free(text);
    return 0;
}
