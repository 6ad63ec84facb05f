/* JSONL filters: one object in, exactly one object out, same order, bad lines answered in place. */
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "deploy/cli.h"

#define LINE_BYTES_MAX (64u << 20)

/* Lines from a file descriptor, with the question whether one more is there already. */
typedef struct reader {
    rt_buf buffer;
    size_t at;
    bool ended;
} reader;

static bool more_now(int timeout_ms)
{
    struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&fd, 1, timeout_ms) > 0;
}

static void fill(reader *r)
{
    static const size_t piece = 1 << 16;
    if (r->at > 0) {
        memmove(r->buffer.data, r->buffer.data + r->at, r->buffer.bytes - r->at);
        r->buffer.bytes -= r->at;
        r->at = 0;
    }
    char *space = rt_alloc(piece);
    ssize_t got;
    do
        got = read(STDIN_FILENO, space, piece);
    while (got < 0 && errno == EINTR);
    if (got <= 0)
        r->ended = true;
    else
        rt_buf_add(&r->buffer, space, (size_t)got);
    rt_free(space);
}

/* Next whole line (without its end), NULL: none (at the end, or none yet when !wait). */
static char *next_line(reader *r, size_t *bytes, bool wait)
{
    for (;;) {
        size_t left = r->buffer.bytes - r->at;
        char *begin = r->buffer.data ? r->buffer.data + r->at : NULL;
        char *newline = left > 0 ? memchr(begin, '\n', left) : NULL;
        if (newline || (r->ended && left > 0) || left > LINE_BYTES_MAX) {
            *bytes = newline ? (size_t)(newline - begin) : left;
            r->at += *bytes + (newline != NULL);
            return begin;
        }
        if (r->ended || (!wait && !more_now(0)))
            return NULL;
        fill(r);
    }
}

static json_t *parse_line(const char *line, size_t bytes, json_t **answer)
{
    json_error_t why;
    json_t *root = json_loadb(line, bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    if (!root)
        *answer = cli_error_object("not JSON: %s (column %d)", why.text, why.column);
    else if (!json_is_object(root)) {
        *answer = cli_error_object("the line is not a JSON object");
        json_decref(root);
        root = NULL;
    }
    return root;
}

int cli_filter(cli_filter_fn *handle, void *context, int batch_max)
{
    reader r = {0};
    json_t **requests = rt_alloc((size_t)batch_max * sizeof *requests);
    json_t **answers = rt_alloc((size_t)batch_max * sizeof *answers);
    int exit_code = 0;
    for (;;) {
        int count = 0;
        size_t bytes;
        char *line;
        while (count < batch_max && (line = next_line(&r, &bytes, count == 0))) {
            answers[count] = NULL;
            requests[count] = parse_line(line, bytes, &answers[count]);
            count++;
        }
        if (count == 0)
            break;
        handle(context, requests, answers, count);
        for (int i = 0; i < count; i++) {
            if (json_object_get(answers[i], "error"))
                exit_code = 1;
            /* 9 digits read back to the same float32. */
            json_dumpf(answers[i], stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
            fputc('\n', stdout);
            json_decref(answers[i]);
            json_decref(requests[i]);
        }
        if (fflush(stdout) != 0) {
            exit_code = 1;
            break;
        }
    }
    rt_free(requests), rt_free(answers);
    rt_buf_free(&r.buffer);
    return exit_code;
}

json_t *cli_error_object(const char *format, ...)
{
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    text[rt_utf8_valid(text, strlen(text))] = '\0';
    return json_pack("{s:s}", "error", text);
}

json_t *cli_json_text(const char *text, size_t bytes)
{
    rt_buf clean = {0};
    rt_buf_add(&clean, "", 0);
    while (bytes > 0) {
        size_t good = rt_utf8_valid(text, bytes);
        rt_buf_add(&clean, text, good);
        text += good, bytes -= good;
        if (bytes > 0) {
            rt_buf_add(&clean, "\xEF\xBF\xBD", 3);
            text++, bytes--;
        }
    }
    json_t *value = json_stringn(clean.data, clean.bytes);
    rt_buf_free(&clean);
    return value;
}

json_t *cli_json_float(float value)
{
    return isfinite(value) ? json_real((double)value) : json_null();
}

json_t *cli_json_ids(const int32_t *ids, int count)
{
    json_t *list = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(list, json_integer(ids[i]));
    return list;
}

int32_t *cli_ids(const json_t *list, int vocab, int *count)
{
    *count = -1;
    if (!json_is_array(list))
        return NULL;
    size_t n = json_array_size(list);
    int32_t *ids = rt_alloc(RT_MAX(n, 1) * sizeof *ids);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(list, i);
        json_int_t id = json_integer_value(item);
        if (!json_is_integer(item) || id < 0 || id >= vocab) {
            rt_free(ids);
            return NULL;
        }
        ids[i] = (int32_t)id;
    }
    *count = (int)n;
    return ids;
}

rt_chat_message *cli_messages(const json_t *list, int *count, rt_error *err)
{
    size_t n = json_array_size(list);
    bool good = json_is_array(list) && n > 0;
    rt_chat_message *messages = rt_alloc((n + 1) * sizeof *messages);
    for (size_t i = 0; i < n && good; i++) {
        const json_t *message = json_array_get(list, i);
        const json_t *role = json_object_get(message, "role");
        const json_t *content = json_object_get(message, "content");
        good = json_is_string(role) && json_is_string(content);
        if (good)
            messages[i] = (rt_chat_message){json_string_value(role), json_string_value(content),
                                       json_string_length(content)};
    }
    *count = (int)n;
    if (good)
        return messages;
    rt_free(messages);
    rt_fail(err, RT_ERR_INPUT, "\"messages\" must be a list of {\"role\", \"content\"}, both texts");
    return NULL;
}
