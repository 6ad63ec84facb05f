/* config_value: one value of the table, from text and to text. */
#include "base/config_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Length of choice number index of "a|b|c" and where it starts; NULL past the end. */
static const char *choice_at(const char *choices, int index, size_t *bytes)
{
    for (;; index--) {
        const char *bar = strchr(choices, '|');
        *bytes = bar ? (size_t)(bar - choices) : strlen(choices);
        if (index == 0) {
            return choices;
        }
        if (!bar) {
            return NULL;
        }
        choices = bar + 1;
    }
}

static int choice_find(const char *choices, const char *text)
{
    size_t bytes;
    const char *choice;
    for (int i = 0; (choice = choice_at(choices, i, &bytes)) != NULL; i++) {
        if (strlen(text) == bytes && memcmp(choice, text, bytes) == 0) {
            return i;
        }
    }
    return -1;
}

/* Decimal only: strtod by itself also takes hex, infinities and leading space. */
static bool read_real(const char *text, double *value)
{
    if (!*text || text[strspn(text, "0123456789+-.eE")] != '\0') {
        return false;
    }
    char *end;
    *value = strtod(text, &end);
    return *end == '\0';
}

static bool read_integer(const char *text, int64_t *value)
{
    double real;
    if (!read_real(text, &real) || real < -RT_CONFIG_UNLIMITED || real > RT_CONFIG_UNLIMITED) {
        return false;
    }
    char *end;
    errno = 0;
    *value = strtoll(text, &end, 10);
    if (*end == '\0' && errno == 0) {
        return true;
    }
    *value = (int64_t)real; /* 1e6 is a whole number too */
    return (double)*value == real;
}

static bool read_bool(const char *text, bool *value)
{
    *value = strcmp(text, "true") == 0 || strcmp(text, "yes") == 0;
    return *value || strcmp(text, "false") == 0 || strcmp(text, "no") == 0;
}

static bool set_text(const rt_config_key *key, char **place, const char *text)
{
    size_t bytes = strlen(text);
    if ((double)bytes < key->min || (double)bytes > key->max ||
        (key->choices && choice_find(key->choices, text) < 0) ||
        rt_utf8_valid(text, bytes) != bytes) {
        return false;
    }
    rt_free(*place);
    *place = key->type == RT_KEY_PATH && bytes == 0 ? NULL : rt_strdup(text);
    return true;
}

static bool set_number(const rt_config_key *key, void *place, const char *text)
{
    if (key->type == RT_KEY_REAL) {
        double real;
        /* Written so that a NaN fails. */
        if (!read_real(text, &real) || !(real >= key->min && real <= key->max)) {
            return false;
        }
        *(double *)place = real + 0.0; /* −0 becomes 0 */
        return true;
    }
    int64_t whole;
    if (!read_integer(text, &whole) || (double)whole < key->min || (double)whole > key->max) {
        return false;
    }
    if (key->type == RT_KEY_SMALL) {
        *(int *)place = (int)whole;
    } else {
        *(int64_t *)place = whole;
    }
    return true;
}

bool rt_config_value_set(const rt_config_key *key, void *base, const char *text, rt_buf *wanted)
{
    void *place = (char *)base + key->offset;
    bool fine = false, truth;
    int index;
    switch (key->type) {
    case RT_KEY_TEXT:
    case RT_KEY_PATH:
        fine = set_text(key, place, text);
        break;
    case RT_KEY_BOOL:
        fine = read_bool(text, &truth);
        if (fine) {
            *(bool *)place = truth;
        }
        break;
    case RT_KEY_CHOICE:
        index = choice_find(key->choices, text);
        fine = index >= 0;
        if (fine) {
            *(int *)place = index;
        }
        break;
    case RT_KEY_INTEGER:
    case RT_KEY_SMALL:
    case RT_KEY_REAL:
        fine = set_number(key, place, text);
        break;
    }
    if (!fine && wanted) {
        rt_config_value_describe(key, wanted);
    }
    return fine;
}

void rt_config_value_default(const rt_config_key *key, void *base)
{
    bool fine = rt_config_value_set(key, base, key->standard, NULL);
    RT_ASSERT(fine);
}

void rt_config_value_free(const rt_config_key *key, void *base)
{
    if (key->type == RT_KEY_TEXT || key->type == RT_KEY_PATH) {
        char **place = (char **)(void *)((char *)base + key->offset);
        rt_free(*place);
        *place = NULL;
    }
}

static void describe_range(const rt_config_key *key, const char *noun, rt_buf *out)
{
    if (key->max >= RT_CONFIG_UNLIMITED) {
        rt_buf_addf(out, "%s of at least %.15g", noun, key->min);
    } else {
        rt_buf_addf(out, "%s from %.15g to %.15g", noun, key->min, key->max);
    }
}

void rt_config_value_describe(const rt_config_key *key, rt_buf *out)
{
    if (key->choices) {
        size_t bytes;
        const char *choice;
        rt_buf_addf(out, "one of ");
        for (int i = 0; (choice = choice_at(key->choices, i, &bytes)) != NULL; i++) {
            rt_buf_addf(out, "%s%.*s", i ? ", " : "", bytes ? (int)bytes : 2,
                        bytes ? choice : "\"\"");
        }
        return;
    }
    switch (key->type) {
    case RT_KEY_BOOL:
        rt_buf_addf(out, "true or false");
        break;
    case RT_KEY_REAL:
        describe_range(key, "a number", out);
        break;
    case RT_KEY_INTEGER:
    case RT_KEY_SMALL:
    case RT_KEY_CHOICE:
        describe_range(key, "a whole number", out);
        break;
    case RT_KEY_TEXT:
    case RT_KEY_PATH:
        rt_buf_addf(out, "a text of %s%.15g bytes", key->min > 0 ? "1 to " : "at most ", key->max);
        break;
    }
}

/* The shortest form that reads back to the same double. */
static void write_real(double value, rt_buf *out)
{
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) {
            break;
        }
    }
    rt_buf_add(out, text, strlen(text));
}

static bool is_plain(const char *text)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_/.";
    size_t first = strspn(text, letters);
    return first > 0 && text[first + strspn(text + first, "-")] == '\0' &&
           strcmp(text, "null") != 0;
}

/* Code point at text (valid UTF-8), its length in *bytes. */
static uint32_t code_point(const unsigned char *text, size_t *bytes)
{
    *bytes = text[0] < 0x80 ? 1 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4;
    uint32_t value = *bytes == 1 ? text[0] : text[0] & (0xffu >> (*bytes + 1));
    for (size_t i = 1; i < *bytes; i++) {
        value = value << 6 | (text[i] & 0x3fu);
    }
    return value;
}

static void write_text(const char *text, rt_buf *out)
{
    if (is_plain(text)) {
        rt_buf_add(out, text, strlen(text));
        return;
    }
    rt_buf_add(out, "\"", 1);
    while (*text) {
        size_t bytes;
        uint32_t point = code_point((const unsigned char *)text, &bytes);
        /* What YAML calls unprintable or a line break must not stand there as itself. */
        bool escape = point < 0x20 || (point >= 0x7f && point <= 0xa0) || point == 0x2028 ||
                      point == 0x2029 || point == 0xfeff || point == 0xfffe || point == 0xffff;
        if (escape) {
            rt_buf_addf(out, "\\u%04x", (unsigned)point);
        } else {
            if (point == '"' || point == '\\') {
                rt_buf_add(out, "\\", 1);
            }
            rt_buf_add(out, text, bytes);
        }
        text += bytes;
    }
    rt_buf_add(out, "\"", 1);
}

void rt_config_value_write(const rt_config_key *key, const void *base, rt_buf *out)
{
    const void *place = (const char *)base + key->offset;
    size_t bytes;
    const char *text;
    switch (key->type) {
    case RT_KEY_INTEGER:
        rt_buf_addf(out, "%lld", (long long)*(const int64_t *)place);
        break;
    case RT_KEY_SMALL:
        rt_buf_addf(out, "%d", *(const int *)place);
        break;
    case RT_KEY_REAL:
        write_real(*(const double *)place, out);
        break;
    case RT_KEY_BOOL:
        rt_buf_addf(out, "%s", *(const bool *)place ? "true" : "false");
        break;
    case RT_KEY_CHOICE:
        text = choice_at(key->choices, *(const int *)place, &bytes);
        rt_buf_add(out, text, bytes);
        break;
    case RT_KEY_TEXT:
    case RT_KEY_PATH:
        text = *(char *const *)place;
        write_text(text ? text : "", out);
        break;
    }
}
