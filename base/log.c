/* log: one line, one write, so that lines of several processes do not mix. */
#include "base/base.h"

#include <string.h>
#include <time.h>

void rt_log_init(rt_log *log, const char *who, enum rt_level level)
{
    snprintf(log->who, sizeof log->who, "%s", who);
    log->level = level;
    log->out = stderr;
}

static const char *level_text(enum rt_level level)
{
    switch (level) {
    case RT_DEBUG:
        return "debug";
    case RT_INFO:
        return "info";
    case RT_WARN:
        return "warn";
    default:
        return "error";
    }
}

void rt_log_line(const rt_log *log, enum rt_level level, const char *format, ...)
{
    if (level < log->level) {
        return;
    }
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    size_t bytes = length > 0 ? (size_t)length : 0;
    time_t now = time(NULL);
    struct tm local;
    localtime_r(&now, &local);
    rt_buf line = {0};
    rt_buf_addf(&line, "%02d:%02d:%02d %s %s: ", local.tm_hour, local.tm_min, local.tm_sec,
                log->who, level_text(level));
    size_t start = line.bytes;
    char *text = rt_alloc(bytes + 1);
    vsnprintf(text, bytes + 1, format, again);
    va_end(again);
    rt_buf_add(&line, text, bytes);
    rt_free(text);
    /* A line stays a line, whatever text came from outside. */
    for (size_t i = start; i < line.bytes; i++) {
        unsigned char byte = (unsigned char)line.data[i];
        if ((byte < 0x20 && byte != '\t') || byte == 0x7f) {
            line.data[i] = ' ';
        }
    }
    rt_buf_add(&line, "\n", 1);
    fwrite(line.data, 1, line.bytes, log->out);
    fflush(log->out);
    rt_buf_free(&line);
}
