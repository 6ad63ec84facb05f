/* grade: the table of graders, what all of them share: boxes, bounded reading, verdicts. */
#include "tasks/grade.h"

#include <ctype.h>
#include <string.h>

#include "tasks/sandbox.h"

static const struct grader {
    const char *name;
    void (*grade)(rt_text response, rt_text gold, rt_verdict *verdict); /* NULL: rt_grade_code */
} graders[] = {
    {"exact", rt_grade_exact},   {"number", rt_grade_number}, {"choice", rt_grade_choice},
    {"yesno", rt_grade_yesno},   {"math", rt_grade_math},     {"countdown", rt_grade_countdown},
    {"steps", rt_grade_steps},   {"code", NULL},
};

const char *rt_grade_name(int grade)
{
    return grade == RT_CORRECT ? "correct" : grade == RT_WRONG ? "wrong" : "undecided";
}

static const struct grader *find(const char *name)
{
    for (size_t i = 0; i < RT_COUNT(graders); i++) {
        if (name && !strcmp(name, graders[i].name)) {
            return &graders[i];
        }
    }
    return NULL;
}

bool rt_grader_known(const char *grader)
{
    return find(grader) != NULL;
}

int rt_grader_ready(const char *grader, rt_error *err)
{
    const struct grader *found = find(grader);
    return found && !found->grade ? rt_sandbox_ready(err) : RT_OK;
}

int rt_graders_ready(const rt_config *config, rt_error *err)
{
    for (int i = 0; i < config->tasks_count; i++) {
        if (rt_grader_ready(config->tasks[i].grader, err)) {
            rt_error_prefix(err, "task %s", config->tasks[i].name);
            if (err) {
                err->code = RT_ERR_USAGE; /* the config asks for what can't be had here */
            }
            return RT_ERR_USAGE;
        }
    }
    return RT_OK;
}

int rt_grade_response(const char *grader, const char *response, size_t response_bytes,
                      const char *gold, rt_verdict *verdict, rt_error *err)
{
    return rt_grade_until(grader, response, response_bytes, gold, NULL, verdict, err);
}

int rt_grade_until(const char *grader, const char *response, size_t response_bytes,
                   const char *gold, const atomic_bool *stop, rt_verdict *verdict, rt_error *err)
{
    const struct grader *found = find(grader);
    *verdict = (rt_verdict){0};
    if (!found) {
        return rt_fail(err, RT_ERR_USAGE, "grader \"%s\" is none of " RT_GRADER_NAMES,
                       grader ? grader : "");
    }
    /* Answers stand at the end: of a longer text only the tail is read. */
    if (response_bytes > RT_RESPONSE_BYTES_MAX) {
        response += response_bytes - RT_RESPONSE_BYTES_MAX;
        response_bytes = RT_RESPONSE_BYTES_MAX;
    }
    if (!found->grade) {
        rt_text tests = {gold, strnlen(gold, RT_CODE_GOLD_BYTES_MAX)};
        rt_grade_code((rt_text){response, response_bytes}, tests, stop, verdict);
        return RT_OK;
    }
    rt_text answer = {gold, strnlen(gold, RT_GOLD_BYTES_MAX)};
    found->grade((rt_text){response, response_bytes}, rt_text_trim(answer), verdict);
    verdict->reward = verdict->grade == RT_CORRECT ? 1.0 : 0.0;
    return RT_OK;
}

rt_text rt_text_trim(rt_text text)
{
    while (text.bytes && isspace((unsigned char)text.at[text.bytes - 1])) {
        text.bytes--;
    }
    while (text.bytes && isspace((unsigned char)*text.at)) {
        text.at++;
        text.bytes--;
    }
    return text;
}

bool rt_text_equal(rt_text a, rt_text b)
{
    return a.bytes == b.bytes && (!a.bytes || !memcmp(a.at, b.at, a.bytes));
}

bool rt_text_starts(rt_text text, const char *prefix)
{
    size_t bytes = strlen(prefix);
    return text.bytes >= bytes && !memcmp(text.at, prefix, bytes);
}

rt_text rt_text_skip(rt_text text, size_t bytes)
{
    bytes = RT_MIN(bytes, text.bytes);
    return (rt_text){text.at + bytes, text.bytes - bytes};
}

void rt_verdict_extract(rt_verdict *verdict, rt_text answer)
{
    size_t bytes = RT_MIN(answer.bytes, sizeof verdict->extracted - 1);
    if (bytes < answer.bytes) {
        size_t whole = rt_utf8_valid(answer.at, bytes);
        bytes = bytes - whole <= 3 ? whole : bytes;
    }
    if (bytes) {
        memcpy(verdict->extracted, answer.at, bytes);
    }
    verdict->extracted[bytes] = '\0';
}

/* ---- boxes ------------------------------------------------------------------------------- */

/* Complete box whose command begins at `at`, or false. */
static bool box_at(const char *at, const char *end, rt_text *content)
{
    static const char *const names[] = {"\\boxed", "\\fbox"};
    const char *open = NULL;
    for (size_t i = 0; i < RT_COUNT(names) && !open; i++) {
        size_t bytes = strlen(names[i]);
        if ((size_t)(end - at) > bytes && !memcmp(at, names[i], bytes)) {
            open = at + bytes;
        }
    }
    while (open && open < end && (*open == ' ' || *open == '\n')) {
        open++;
    }
    if (!open || open >= end || *open != '{') {
        return false;
    }
    int64_t depth = 0;
    for (const char *c = open; c < end; c++) {
        if (*c == '\\' && c + 1 < end) {
            c++; /* \{ and \} are signs of the text, not brackets */
        } else if (*c == '{') {
            depth++;
        } else if (*c == '}' && --depth == 0) {
            *content = (rt_text){open + 1, (size_t)(c - open - 1)};
            return true;
        }
    }
    return false;
}

/* One pass from the end that is linear in total: a box that never closes ends at the limit, and
 * after BOXES_MAX of those nothing more is tried. */
enum { BOXES_MAX = 32 };

bool rt_boxed_last(const char *text, size_t bytes, const char **begin, size_t *content_bytes)
{
    const char *end = text + bytes;
    rt_text content;
    int tried = 0;
    for (const char *at = end; at > text && tried < BOXES_MAX;) {
        at--;
        if (*at != '\\' || end - at < 6 || (at[1] != 'b' && at[1] != 'f')) {
            continue;
        }
        bool named = !memcmp(at, "\\boxed", 6) || !memcmp(at, "\\fbox", 5);
        tried += named;
        if (named && box_at(at, end, &content)) {
            *begin = content.at;
            *content_bytes = content.bytes;
            return true;
        }
    }
    return false;
}

bool rt_boxed_first(const char *text, size_t bytes, const char **begin, size_t *content_bytes)
{
    const char *end = text + bytes;
    rt_text content;
    int tried = 0;
    for (const char *at = text; tried < BOXES_MAX && at < end; at++) {
        at = memchr(at, '\\', (size_t)(end - at));
        if (!at) {
            break;
        }
        bool named = end - at >= 6 && (!memcmp(at, "\\boxed", 6) || !memcmp(at, "\\fbox", 5));
        tried += named;
        if (named && box_at(at, end, &content)) {
            *begin = content.at;
            *content_bytes = content.bytes;
            return true;
        }
    }
    return false;
}

bool rt_text_box(rt_text text, rt_text *content)
{
    return rt_boxed_last(text.at, text.bytes, &content->at, &content->bytes);
}

/* ---- exact ------------------------------------------------------------------------------- */

void rt_grade_exact(rt_text response, rt_text gold, rt_verdict *verdict)
{
    rt_text answer = rt_text_trim(response);
    rt_text box;
    if (!rt_text_equal(answer, gold) && rt_text_box(answer, &box)) {
        answer = rt_text_trim(box);
    }
    rt_verdict_extract(verdict, answer);
    verdict->grade = rt_text_equal(answer, gold) ? RT_CORRECT : RT_WRONG;
}
