/* Fuzz target: any bytes as a config; what is accepted must survive being written and read. */
#include <stdlib.h>
#include <string.h>

#include "base/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    rt_config config, again;
    rt_error err = {0};
    /* Text behind a NUL byte goes in as --set. */
    const uint8_t *end = bytes ? memchr(data, '\0', bytes) : NULL;
    size_t file_bytes = end ? (size_t)(end - data) : bytes;
    char *set = end ? rt_strndup((const char *)end + 1, bytes - file_bytes - 1) : NULL;
    const char *sets[] = {set};
    int code = rt_config_parse(&config, (const char *)data, file_bytes, "fuzz", sets, set ? 1 : 0,
                               &err);
    rt_free(set);
    if (code != RT_OK) {
        RT_ASSERT(err.code == code && err.message[0] != '\0');
        return 0;
    }
    rt_buf first = {0}, second = {0};
    rt_config_write(&config, &first);
    code = rt_config_parse(&again, first.data, first.bytes, "written", NULL, 0, &err);
    RT_ASSERT(code == RT_OK);
    rt_config_write(&again, &second);
    RT_ASSERT(strcmp(first.data, second.data) == 0);
    RT_ASSERT(rt_config_fingerprint(&config) == rt_config_fingerprint(&again));
    rt_buf_free(&first);
    rt_buf_free(&second);
    rt_config_free(&config);
    rt_config_free(&again);
    return 0;
}
