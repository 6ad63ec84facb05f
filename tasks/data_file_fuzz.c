/* Any bytes as a data file: records or one sentence. */
#include "tasks/internal.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static char *const forms[] = {NULL, "gsm8k", "svamp", "plain"};
    rt_records records;
    rt_error err = {0};
    if (!bytes) {
        return 0;
    }
    rt_task_config task = {.name = "fuzz", .form = forms[data[0] % RT_COUNT(forms)]};
    /* A copy of exactly this size, so that reading past the end shows. */
    char *text = malloc(bytes);
    memcpy(text, data + 1, bytes - 1);
    int code = rt_records_parse(&records, text, bytes - 1, "fuzz", &task, "</thought>", &err);
    RT_ASSERT(code ? err.message[0] != '\0' : records.count > 0);
    for (int64_t i = 0; i < records.count; i++) {
        RT_ASSERT(records.items[i].problem[0] && records.items[i].gold[0]);
    }
    rt_records_free(&records);
    free(text);
    return 0;
}
