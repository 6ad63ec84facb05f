/*
 * config_yaml: a YAML file as a flat list of dotted keys. Only what a configuration needs:
 * mappings, one list (tasks) and scalars. Anchors, aliases, tags and several documents are
 * refused, so that what stands in the file is what is meant.
 */
#include "base/config_internal.h"

#include <string.h>
#include <yaml.h>

enum { DEPTH_MAX = 6, LINES_SHOWN_MAX = 1 << 30 };

typedef struct frame {
    bool list, want_key;
    int index;         /* of a list: next element */
    size_t path_bytes; /* path of the mapping or list itself */
} frame;

typedef struct reader {
    yaml_parser_t parser;
    const char *from;
    rt_config_entries *out;
    frame frames[DEPTH_MAX];
    int depth;
    char path[RT_CONFIG_KEY_BYTES_MAX + 1]; /* of the value that comes next */
    int line; /* of the key, or of the list element */
    int documents;
    rt_error *err;
} reader;

int rt_config_entries_add(rt_config_entries *entries, rt_config_entry entry, rt_error *err)
{
    if (entries->count == RT_CONFIG_ENTRIES_MAX) {
        rt_free(entry.key);
        rt_free(entry.value);
        return rt_fail(err, RT_ERR_USAGE, "more than %d keys; take some out",
                       RT_CONFIG_ENTRIES_MAX);
    }
    size_t size = sizeof entries->items[0], count = (size_t)entries->count;
    if ((count & (count - 1)) == 0) { /* grows at each power of two */
        size_t grown = RT_MAX(2 * count, (size_t)1);
        entries->items = rt_realloc(entries->items, count * size, grown * size);
    }
    entries->items[entries->count++] = entry;
    return RT_OK;
}

void rt_config_entries_free(rt_config_entries *entries)
{
    for (int i = 0; i < entries->count; i++) {
        rt_free(entries->items[i].key);
        rt_free(entries->items[i].value);
    }
    rt_free(entries->items);
    *entries = (rt_config_entries){0};
}

static int line_of(yaml_mark_t mark)
{
    return mark.line < LINES_SHOWN_MAX ? (int)mark.line + 1 : LINES_SHOWN_MAX;
}

#define REFUSE(r, mark, ...) \
    (rt_fail((r)->err, RT_ERR_USAGE, __VA_ARGS__), \
     rt_error_prefix((r)->err, "%s:%d", (r)->from, line_of(mark)), RT_ERR_USAGE)

/* path = path of the frame + "." + word */
static int extend_path(reader *r, const char *word, size_t bytes, yaml_mark_t mark)
{
    size_t base = r->frames[r->depth - 1].path_bytes;
    size_t dot = base > 0;
    if (bytes == 0 || memchr(word, '\0', bytes)) {
        return REFUSE(r, mark, "a key is empty; give it a name");
    }
    if (base + dot + bytes > RT_CONFIG_KEY_BYTES_MAX) {
        return REFUSE(r, mark, "unknown key '%.40s...': no key is longer than %d bytes", word,
                      RT_CONFIG_KEY_BYTES_MAX);
    }
    if (dot) {
        r->path[base] = '.';
    }
    memcpy(r->path + base + dot, word, bytes);
    r->path[base + dot + bytes] = '\0';
    return RT_OK;
}

/* Before a value: in a list its index becomes part of the path. */
static int begin_value(reader *r, yaml_mark_t mark)
{
    if (r->depth == 0) {
        r->path[0] = '\0';
        return RT_OK;
    }
    frame *top = &r->frames[r->depth - 1];
    if (!top->list) {
        top->want_key = true; /* after the value */
        return RT_OK;
    }
    char word[16];
    int bytes = snprintf(word, sizeof word, "%d", top->index++);
    r->line = line_of(mark);
    return extend_path(r, word, (size_t)bytes, mark);
}

static int on_scalar(reader *r, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    size_t bytes = event->data.scalar.length;
    yaml_mark_t mark = event->start_mark;
    bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (event->data.scalar.anchor || event->data.scalar.tag) {
        return REFUSE(r, mark, "anchors (&) and tags (!) are not used in a config; take it out");
    }
    if (r->depth == 0) {
        return REFUSE(r, mark, "a config is a mapping of keys to values, such as `steps: 20`");
    }
    frame *top = &r->frames[r->depth - 1];
    if (!top->list && top->want_key) {
        top->want_key = false;
        r->line = line_of(mark);
        return extend_path(r, text, bytes, mark);
    }
    int code = begin_value(r, mark);
    if (code != RT_OK) {
        return code;
    }
    if (memchr(text, '\0', bytes)) {
        return REFUSE(r, mark, "%s has a NUL character in its value; take it out", r->path);
    }
    rt_config_entry entry = {.key = rt_strdup(r->path), .value = rt_strdup(text),
                             .line = r->line};
    entry.empty = plain && (!*text || strcmp(text, "~") == 0 || strcmp(text, "null") == 0);
    code = rt_config_entries_add(r->out, entry, r->err);
    if (code != RT_OK) {
        rt_error_prefix(r->err, "%s:%d", r->from, r->line);
    }
    return code;
}

static int on_open(reader *r, bool list, bool marked, yaml_mark_t mark)
{
    if (marked) {
        return REFUSE(r, mark, "anchors (&) and tags (!) are not used in a config; take it out");
    }
    if (r->depth == 0 && list) {
        return REFUSE(r, mark, "a config is a mapping of keys to values, such as `steps: 20`");
    }
    if (r->depth > 0 && !r->frames[r->depth - 1].list && r->frames[r->depth - 1].want_key) {
        return REFUSE(r, mark, "a key must be a word, not a list or a mapping");
    }
    if (r->depth == DEPTH_MAX) {
        return REFUSE(r, mark, "nested deeper than %d levels; no key needs that", DEPTH_MAX);
    }
    int code = begin_value(r, mark);
    if (code != RT_OK) {
        return code;
    }
    if (r->depth > 0) {
        rt_config_entry entry = {.key = rt_strdup(r->path), .line = r->line, .list = list};
        code = rt_config_entries_add(r->out, entry, r->err);
        if (code != RT_OK) {
            rt_error_prefix(r->err, "%s:%d", r->from, r->line);
            return code;
        }
    }
    r->frames[r->depth++] =
        (frame){.list = list, .want_key = !list, .path_bytes = strlen(r->path)};
    return RT_OK;
}

static int on_event(reader *r, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (r->documents++ > 0) {
            return REFUSE(r, event->start_mark, "a second document (---) begins; a config is one");
        }
        return RT_OK;
    case YAML_ALIAS_EVENT:
        return REFUSE(r, event->start_mark,
                      "aliases (*) are not used in a config; write the value");
    case YAML_SCALAR_EVENT:
        return on_scalar(r, event);
    case YAML_MAPPING_START_EVENT:
        return on_open(r, false, event->data.mapping_start.anchor || event->data.mapping_start.tag,
                       event->start_mark);
    case YAML_SEQUENCE_START_EVENT:
        return on_open(r, true,
                       event->data.sequence_start.anchor || event->data.sequence_start.tag,
                       event->start_mark);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        r->depth--;
        return RT_OK;
    default:
        return RT_OK;
    }
}

static int read_events(reader *r)
{
    for (;;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&r->parser, &event)) {
            const char *problem = r->parser.problem ? r->parser.problem : "unreadable";
            return REFUSE(r, r->parser.problem_mark, "not valid YAML: %s", problem);
        }
        bool end = event.type == YAML_STREAM_END_EVENT;
        int code = on_event(r, &event);
        yaml_event_delete(&event);
        if (end || code != RT_OK) {
            return code;
        }
    }
}

int rt_config_yaml(const char *text, size_t bytes, const char *from, rt_config_entries *out,
                   rt_error *err)
{
    if (bytes > RT_CONFIG_BYTES_MAX) {
        return rt_fail(err, RT_ERR_USAGE, "%s: larger than %d bytes; this is not a config", from,
                       RT_CONFIG_BYTES_MAX);
    }
    reader r = {.from = from, .out = out, .err = err};
    if (!yaml_parser_initialize(&r.parser)) {
        return rt_fail(err, RT_ERR_NOMEM, "%s: no memory to read it", from);
    }
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, bytes);
    int code = read_events(&r);
    yaml_parser_delete(&r.parser);
    return code;
}
