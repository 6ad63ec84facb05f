/*
 * data_file: problems from JSONL and JSON files. GSM8K and SVAMP records are known by name or by
 * their fields; anything else is `plain` with mapped field names. A JSON array is cut into its
 * records first, so that memory stays bounded and every error can name its line.
 */
#include "tasks/internal.h"

#include <ctype.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RECORD_BYTES_MAX = 8 << 20, DEPTH_MAX = 128, RECORDS_MAX = 1 << 30 };

typedef struct source {
    const char *at, *end;
    const char *from;
    int64_t line; /* of `at`, from 1 */
    bool array;   /* one JSON array instead of one object a line */
    bool begun;   /* an element of the array was read */
} source;

#define fail_at(line_number, ...) \
    (rt_fail(err, RT_ERR_INPUT, __VA_ARGS__), \
     rt_error_prefix(err, "%s:%lld", src->from, (long long)(line_number)), RT_ERR_INPUT)

/* ---- cutting the file into records ------------------------------------------------------- */

static void skip_space(source *src)
{
    for (; src->at < src->end && strchr(" \t\r\n", *src->at) && *src->at; src->at++) {
        src->line += *src->at == '\n';
    }
}

/* Next line that is not blank; *bytes 0: the end. */
static int next_line(source *src, const char **text, size_t *bytes, int64_t *line, rt_error *err)
{
    skip_space(src);
    *bytes = 0;
    *line = src->line;
    if (src->at >= src->end) {
        return RT_OK;
    }
    const char *stop = memchr(src->at, '\n', (size_t)(src->end - src->at));
    stop = stop ? stop : src->end;
    *text = src->at;
    *bytes = (size_t)(stop - src->at);
    if (*bytes > RECORD_BYTES_MAX) {
        return fail_at(*line, "the line has %zu bytes, more than the %d allowed; is the file "
                       "JSONL with one record a line?", *bytes, RECORD_BYTES_MAX);
    }
    src->at = stop;
    return RT_OK;
}

/* Moves over one JSON value that begins with { by counting brackets outside strings. */
static int skip_object(source *src, rt_error *err)
{
    const char *begin = src->at;
    int64_t line = src->line;
    int depth = 0;
    bool quoted = false;
    for (; src->at < src->end; src->at++) {
        char c = *src->at;
        src->line += c == '\n';
        if (src->at - begin >= RECORD_BYTES_MAX) {
            return fail_at(line, "the record is longer than the %d bytes allowed",
                           RECORD_BYTES_MAX);
        }
        if (quoted) {
            src->at += c == '\\' && src->at + 1 < src->end;
            quoted = c != '"';
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            if (++depth > DEPTH_MAX) {
                return fail_at(src->line, "the record is nested deeper than %d levels", DEPTH_MAX);
            }
        } else if ((c == '}' || c == ']') && --depth == 0) {
            src->at++;
            return RT_OK;
        }
    }
    return fail_at(line, "the record that begins here is never closed");
}

static int next_element(source *src, const char **text, size_t *bytes, int64_t *line, rt_error *err)
{
    *bytes = 0;
    skip_space(src);
    if (src->at < src->end && *src->at == ']') {
        src->at++;
        skip_space(src);
        return src->at < src->end
                   ? fail_at(src->line, "text follows after the end of the JSON array") : RT_OK;
    }
    if (src->begun) {
        if (src->at >= src->end || *src->at != ',') {
            return fail_at(src->line, "a comma or ] is missing in the JSON array");
        }
        src->at++;
        skip_space(src);
    }
    src->begun = true;
    *line = src->line;
    if (src->at >= src->end || *src->at != '{') {
        return fail_at(src->line, "each element of the JSON array must be an object {...}");
    }
    *text = src->at;
    int code = skip_object(src, err);
    *bytes = code ? 0 : (size_t)(src->at - *text);
    return code;
}

/* ---- fields ------------------------------------------------------------------------------ */

/* Shortest decimal form that reads back to the same double; whole numbers without a point. */
static char *number_text(double value)
{
    if (floor(value) == value && fabs(value) < 1e15) {
        return rt_format("%.0f", value);
    }
    char text[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) {
            break;
        }
    }
    return rt_strdup(text);
}

/* The first of the names (up to a NULL) that the record has as text, number or boolean. */
static char *field(const json_t *record, const char *const *names, const char **found)
{
    for (; *names; names++) {
        const json_t *value = json_object_get(record, *names);
        *found = *names;
        if (json_is_string(value)) {
            return rt_strdup(json_string_value(value));
        }
        if (json_is_integer(value)) {
            return rt_format("%lld", (long long)json_integer_value(value));
        }
        if (json_is_real(value)) {
            return number_text(json_real_value(value));
        }
        if (json_is_boolean(value)) {
            return rt_strdup(json_is_true(value) ? "yes" : "no");
        }
    }
    return NULL;
}

/* The tests of a program may also stand there as an object. */
static char *field_tests(const json_t *record, const char *const *names, const char **found)
{
    for (const char *const *name = names; *name; name++) {
        const json_t *value = json_object_get(record, *name);
        if (json_is_object(value)) {
            char *text = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(17));
            char *copy = rt_strdup(text);
            free(text);
            *found = *name;
            return copy;
        }
    }
    return field(record, names, found);
}

static char *trimmed(const char *text, size_t bytes)
{
    while (bytes && strchr(" \t\r\n", text[bytes - 1])) {
        bytes--;
    }
    while (bytes && strchr(" \t\r\n", *text)) {
        text++;
        bytes--;
    }
    return rt_strndup(text, bytes);
}

static const char *form_of(const json_t *record, const rt_task_config *task)
{
    if (rt_text_set(task->form)) {
        return task->form;
    }
    if (rt_text_set(task->field_problem) || rt_text_set(task->field_answer)) {
        return "plain";
    }
    const json_t *answer = json_object_get(record, "answer");
    if (json_is_string(json_object_get(record, "question")) && json_is_string(answer) &&
        strstr(json_string_value(answer), "####")) {
        return "gsm8k";
    }
    if (json_object_get(record, "Body") && json_object_get(record, "Question") &&
        json_object_get(record, "Answer")) {
        return "svamp";
    }
    bool named = task->name && (!strcmp(task->name, "gsm8k") || !strcmp(task->name, "svamp"));
    return named ? task->name : "plain";
}

/* ---- the three forms --------------------------------------------------------------------- */

typedef struct reader {
    const rt_task_config *task;
    const char *delimiter;
    source *src;
    int64_t line;
} reader;

static int missing(const reader *in, const char *form, const char *what, rt_error *err)
{
    source *src = in->src;
    return fail_at(in->line, "a %s record needs %s; map other names with fields: "
                   "{problem: ..., answer: ...}", form, what);
}

static int read_gsm8k(const reader *in, const json_t *json, rt_record *record, rt_error *err)
{
    const char *found, *const problem[] = {"question", NULL}, *const answer[] = {"answer", NULL};
    record->problem = field(json, problem, &found);
    char *text = field(json, answer, &found);
    const char *mark = NULL;
    for (const char *at = text; at && (at = strstr(at, "####")); at += 4) {
        mark = at;
    }
    if (!record->problem || !mark) {
        rt_free(text);
        return missing(in, "gsm8k", "\"question\" and an \"answer\" that ends in \"#### result\"",
                       err);
    }
    record->gold = trimmed(mark + 4, strlen(mark + 4));
    record->solution =
        rt_solution_thoughts(text, (size_t)(mark - text), record->gold, in->delimiter);
    rt_free(text);
    return RT_OK;
}

/* "( ( 692.0 + 692.0 ) - 458.0 )" becomes "(692 + 692) - 458". */
static char *equation_tidy(const char *text)
{
    rt_buf out = {0};
    size_t bytes = strlen(text);
    int depth = 0;
    bool outer = bytes > 1 && text[0] == '(';
    for (size_t i = 0; i < bytes; i++) {
        depth += (text[i] == '(') - (text[i] == ')');
        outer = outer && (depth > 0 || i + 1 == bytes);
    }
    for (size_t i = outer ? 1 : 0; i < bytes - (outer ? 1 : 0); i++) {
        bool after_open = !out.bytes || out.data[out.bytes - 1] == '(';
        bool before_close = text[i] == ' ' && text[i + 1] == ')';
        bool whole = !strncmp(text + i, ".0", 2) && !isdigit((unsigned char)text[i + 2]);
        if (whole) {
            i++;
        } else if (!(text[i] == ' ' && (after_open || before_close))) {
            rt_buf_add(&out, text + i, 1);
        }
    }
    while (out.bytes && out.data[out.bytes - 1] == ' ') {
        out.bytes--;
    }
    char *tidy = rt_strndup(out.data ? out.data : "", out.bytes);
    rt_buf_free(&out);
    return tidy;
}

static int read_svamp(const reader *in, const json_t *json, rt_record *record, rt_error *err)
{
    const char *found, *const names[] = {"Body", NULL, "Question", NULL, "Answer", NULL,
                                         "Equation", NULL};
    char *body = field(json, names, &found), *question = field(json, names + 2, &found);
    record->gold = field(json, names + 4, &found);
    int code = RT_OK;
    if (!body || !question || !record->gold) {
        code = missing(in, "svamp", "\"Body\", \"Question\" and \"Answer\"", err);
    } else {
        char *first = trimmed(body, strlen(body)), *second = trimmed(question, strlen(question));
        bool ended = *first && strchr(".!?,;:", first[strlen(first) - 1]);
        record->problem = rt_format("%s%s%s", first, !*first ? "" : ended ? " " : ", ", second);
        rt_free(first);
        rt_free(second);
        char *equation = field(json, names + 6, &found);
        if (equation) {
            char *tidy = equation_tidy(equation);
            char *line = rt_format("%s = %s", tidy, record->gold);
            record->solution =
                rt_solution_thoughts(line, strlen(line), record->gold, in->delimiter);
            rt_free(line);
            rt_free(tidy);
        }
        rt_free(equation);
    }
    rt_free(body);
    rt_free(question);
    return code;
}

static int read_plain(const reader *in, const json_t *json, rt_record *record, rt_error *err)
{
    const rt_task_config *task = in->task;
    const char *mapped_problem[] = {task->field_problem, NULL};
    const char *mapped_answer[] = {task->field_answer, NULL};
    const char *mapped_solution[] = {task->field_solution, NULL};
    const char *const problems[] = {"problem", "question", "prompt", NULL};
    const char *const answers[] = {"answer", "gold", NULL}, *const solutions[] = {"solution", NULL};
    const char *found = "", *problem, *answer;
    record->problem = field(json, rt_text_set(task->field_problem) ? mapped_problem : problems,
                            &found);
    problem = rt_text_set(task->field_problem) ? found : "problem";
    const bool code = rt_text_set(task->grader) && !strcmp(task->grader, "code");
    char *gold = (code ? field_tests : field)(
        json, rt_text_set(task->field_answer) ? mapped_answer : answers, &found);
    answer = rt_text_set(task->field_answer) ? found : "answer";
    if (!record->problem || !gold) {
        char what[200];
        snprintf(what, sizeof what, "\"%.60s\" and \"%.60s\"", problem, answer);
        rt_free(gold);
        return missing(in, "plain", what, err);
    }
    record->gold = trimmed(gold, strlen(gold));
    rt_free(gold);
    char *text = field(json, rt_text_set(task->field_solution) ? mapped_solution : solutions,
                       &found);
    if (text) {
        record->solution = code ? rt_solution_program(text, in->delimiter)
                                : rt_solution_thoughts(text, strlen(text), record->gold,
                                                       in->delimiter);
        rt_free(text);
    }
    return RT_OK;
}

/* ---- the file ---------------------------------------------------------------------------- */

static int choose_form(rt_records *records, const reader *in, const json_t *json, rt_error *err)
{
    const char *form = form_of(json, in->task);
    static const char *const known[] = {"gsm8k", "svamp", "plain"};
    for (size_t i = 0; i < RT_COUNT(known); i++) {
        if (!strcmp(form, known[i])) {
            records->form = known[i];
        }
    }
    if (!records->form) {
        return rt_fail(err, RT_ERR_USAGE, "task %s: form \"%s\" is none of gsm8k, svamp, plain",
                       in->task->name, form);
    }
    const char *own = strcmp(records->form, "plain") ? "number" : "math";
    records->grader = rt_text_set(in->task->grader) ? in->task->grader : own;
    return RT_OK;
}

static int read_record(rt_records *records, const reader *in, const json_t *json, rt_error *err)
{
    source *src = in->src;
    int code = records->form ? RT_OK : choose_form(records, in, json, err);
    if (code) {
        return code;
    }
    if (records->count == records->capacity) {
        int64_t capacity = records->capacity ? 2 * records->capacity : 256;
        records->items = rt_realloc(records->items,
                                    (size_t)records->capacity * sizeof *records->items,
                                    (size_t)capacity * sizeof *records->items);
        records->capacity = capacity;
    }
    rt_record *record = &records->items[records->count++];
    *record = (rt_record){.line = in->line};
    code = !strcmp(records->form, "gsm8k")   ? read_gsm8k(in, json, record, err)
           : !strcmp(records->form, "svamp") ? read_svamp(in, json, record, err)
                                             : read_plain(in, json, record, err);
    if (!code && (!*record->problem || !*record->gold)) {
        code = fail_at(in->line, "the %s is empty", *record->problem ? "answer" : "problem");
    }
    return code;
}

static int read_text(rt_records *records, const reader *in, const char *text, size_t bytes,
                     rt_error *err)
{
    source *src = in->src;
    json_error_t where;
    json_t *json = json_loadb(text, bytes, 0, &where);
    if (!json) {
        return fail_at(in->line + (where.line > 1 ? where.line - 1 : 0), "not valid JSON: %.120s",
                       where.text);
    }
    int code = json_is_object(json) ? read_record(records, in, json, err)
                                    : fail_at(in->line, "the record is not an object {...}");
    json_decref(json);
    return code;
}

int rt_records_parse(rt_records *records, const char *text, size_t bytes, const char *from,
                     const rt_task_config *task, const char *delimiter, rt_error *err)
{
    *records = (rt_records){0};
    source whole = {.at = text, .end = text + bytes, .from = from, .line = 1}, *src = &whole;
    if (bytes >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3)) {
        src->at += 3;
    }
    skip_space(src);
    if (src->at < src->end && *src->at == '[') {
        src->array = true;
        src->at++;
    }
    int64_t most = task->limit > 0 ? task->limit : RECORDS_MAX;
    int code = RT_OK;
    while (!code && records->count < most) {
        const char *record = NULL;
        size_t record_bytes = 0;
        reader in = {.task = task, .delimiter = delimiter, .src = src};
        code = (src->array ? next_element : next_line)(src, &record, &record_bytes, &in.line, err);
        if (code || !record_bytes) {
            break;
        }
        code = read_text(records, &in, record, record_bytes, err);
    }
    if (!code && !records->count) {
        code = rt_fail(err, RT_ERR_INPUT, "%s: the file holds no records; it needs at least one "
                       "JSON object with a problem and its answer", from);
    }
    if (code) {
        rt_records_free(records);
    }
    return code;
}

int rt_records_load(rt_records *records, const rt_task_config *task, const char *delimiter,
                    rt_error *err)
{
    rt_map map;
    *records = (rt_records){0};
    int code = rt_map_open(&map, task->data, err);
    if (code) {
        return code;
    }
    code = rt_records_parse(records, map.data ? (const char *)map.data : "", map.bytes, task->data,
                            task, delimiter, err);
    rt_map_close(&map);
    return code;
}

void rt_records_free(rt_records *records)
{
    for (int64_t i = 0; i < records->count; i++) {
        rt_free(records->items[i].problem);
        rt_free(records->items[i].gold);
        rt_free(records->items[i].solution);
    }
    rt_free(records->items);
    *records = (rt_records){0};
}
