/* error: one sentence for a person, with the place in the source for us. */
#include "base/base.h"

#include <stdlib.h>
#include <string.h>

const char *rt_code_text(int code)
{
    switch (code) {
    case RT_OK:
        return "ok";
#define X(name, value, text)                                                                     \
    case value:                                                                                  \
        return text;
        RT_ERRORS(X)
#undef X
    default:
        return "unknown error";
    }
}

/* A cut message must stay valid text: it ends at a whole code point, with "...". */
static void mark_cut(char *message, size_t capacity)
{
    size_t room = capacity - 4;
    size_t whole = rt_utf8_valid(message, room);
    /* Invalid text further up is kept as it is; only a sequence cut at the end is dropped. */
    if (room - whole > 3) {
        whole = room;
    }
    memcpy(message + whole, "...", 4);
}

int rt_error_set(rt_error *err, int code, const char *file, int line, const char *format, ...)
{
    if (!err) {
        return code;
    }
    /* By way of a local: an argument may be err->message itself. */
    char message[sizeof err->message];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (length < 0) {
        snprintf(message, sizeof message, "%s", rt_code_text(code));
    } else if ((size_t)length >= sizeof message) {
        mark_cut(message, sizeof message);
    }
    err->code = code;
    err->line = line;
    err->file = file;
    memcpy(err->message, message, sizeof message);
    return code;
}

int rt_error_prefix(rt_error *err, const char *format, ...)
{
    if (!err) {
        return RT_OK;
    }
    char prefix[sizeof err->message];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(prefix, sizeof prefix, format, args);
    va_end(args);
    if (length < 0) {
        return err->code;
    }
    char message[2 * sizeof err->message + 2];
    length = snprintf(message, sizeof message, "%s: %s", prefix, err->message);
    if ((size_t)length >= sizeof err->message) {
        mark_cut(message, sizeof err->message);
    }
    memcpy(err->message, message, strlen(message) + 1);
    return err->code;
}

int rt_exit_code(int code)
{
    switch (code) {
    case RT_OK:
        return 0;
    case RT_ERR_USAGE:
        return 2;
    case RT_ERR_STOPPED:
        return 130;
    default:
        return 1;
    }
}

_Noreturn void rt_assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, condition);
    abort();
}
