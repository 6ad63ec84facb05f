/* prompt: templates around a problem, and worked solutions cut into thoughts. */
#include "tasks/internal.h"

#include <string.h>

enum { TEMPLATE_BYTES_MAX = 1 << 20 };
static const char PLACE[] = "{problem}";

const char *rt_answer_form(const char *grader)
{
    if (!strcmp(grader, "choice")) {
        return "the single letter of your choice";
    }
    if (!strcmp(grader, "yesno")) {
        return "yes or no";
    }
    if (!strcmp(grader, "number")) {
        return "a single number without units";
    }
    if (!strcmp(grader, "countdown")) {
        return "an expression such as (1+2)*3";
    }
    return "nothing but the answer";
}

char *rt_prompt_builtin(const char *grader, const char *delimiter)
{
    const rt_fill fills[] = {{"{delimiter}", delimiter}, {"{form}", rt_answer_form(grader)}};
    rt_buf text = {0};
    const char *name = !strcmp(grader, "code") ? "program" : "solution";
    rt_prompt_fill(&text, rt_prompt_text_find(name), fills, (int)RT_COUNT(fills));
    char *template = rt_strndup(text.data, text.bytes);
    rt_buf_free(&text);
    return template;
}

int rt_prompt_load(char **template, const char *path, const char *place, rt_error *err)
{
    rt_buf text = {0};
    int code = rt_file_read(path, TEMPLATE_BYTES_MAX, &text, err);
    if (code) {
        rt_buf_free(&text);
        return code;
    }
    if (!text.bytes || strlen(text.data) != text.bytes || !strstr(text.data, place)) {
        rt_buf_free(&text);
        return rt_fail(err, RT_ERR_USAGE,
                       "%s: a prompt template must be text that holds %s where that goes", path, place);
    }
    *template = rt_strdup(text.data);
    rt_buf_free(&text);
    return RT_OK;
}

const char *rt_prompt_text_find(const char *name)
{
    for (int i = 0; i < rt_prompt_texts_count; i++) {
        if (!strcmp(rt_prompt_texts[i].name, name)) {
            return rt_prompt_texts[i].text;
        }
    }
    RT_ASSERT(!"every prompt text asked for is in prompts/");
    return NULL;
}

void rt_prompt_fill(rt_buf *out, const char *template, const rt_fill *fills, int count)
{
    while (*template) {
        size_t plain = strcspn(template, "{");
        rt_buf_add(out, template, plain);
        template += plain;
        int i = 0;
        while (i < count && strncmp(template, fills[i].place, strlen(fills[i].place))) {
            i++;
        }
        if (*template && i < count) {
            rt_buf_add(out, fills[i].value, strlen(fills[i].value));
            template += strlen(fills[i].place);
        } else if (*template) {
            rt_buf_add(out, template++, 1);
        }
    }
}

const char *rt_arena_keep(rt_buf *buf, rt_arena *arena)
{
    char *copy = rt_arena_alloc(arena, buf->bytes + 1);
    if (buf->bytes) {
        memcpy(copy, buf->data, buf->bytes);
    }
    rt_buf_free(buf);
    return copy;
}

const char *rt_prompt_apply(const char *template, const char *problem, rt_arena *arena)
{
    const rt_fill fill = {PLACE, problem};
    rt_buf text = {0};
    rt_prompt_fill(&text, template, &fill, 1);
    return rt_arena_keep(&text, arena);
}

/* Appends a line without its <<calculator>> marks and without space at its ends. */
static void add_line(rt_buf *out, const char *line, size_t bytes)
{
    size_t begin = out->bytes;
    for (size_t i = 0; i < bytes; i++) {
        if (i + 1 < bytes && line[i] == '<' && line[i + 1] == '<') {
            const char *close = memmem(line + i, bytes - i, ">>", 2);
            if (close) {
                i = (size_t)(close - line) + 1;
                continue;
            }
        }
        bool space = line[i] == ' ' || line[i] == '\t' || line[i] == '\r';
        if (!space || out->bytes > begin) {
            rt_buf_add(out, line + i, 1);
        }
    }
    while (out->bytes > begin && strchr(" \t\r", out->data[out->bytes - 1])) {
        out->data[--out->bytes] = '\0';
    }
}

char *rt_solution_program(const char *solution, const char *delimiter)
{
    if (strstr(solution, delimiter)) {
        return rt_strdup(solution);
    }
    size_t bytes = strlen(solution);
    const char *end = bytes && solution[bytes - 1] == '\n' ? "" : "\n";
    return strstr(solution, "```") ? rt_format("%s%s", solution, delimiter)
                                   : rt_format("```python\n%s%s```%s", solution, end, delimiter);
}

char *rt_solution_thoughts(const char *solution, size_t bytes, const char *gold,
                           const char *delimiter)
{
    size_t close = strlen(delimiter), box_bytes;
    const char *box, *end = solution + bytes;
    if (memmem(solution, bytes, delimiter, close)) {
        return rt_strndup(solution, bytes);
    }
    rt_buf out = {0};
    for (const char *line = solution; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        stop = stop ? stop : end;
        size_t before = out.bytes;
        add_line(&out, line, (size_t)(stop - line));
        if (out.bytes > before) {
            rt_buf_add(&out, delimiter, close);
        }
        line = stop + 1;
    }
    if (!rt_boxed_last(solution, bytes, &box, &box_bytes)) {
        if (out.bytes) {
            out.bytes -= close;
            rt_buf_addf(&out, " ");
        }
        rt_buf_addf(&out, "\\boxed{%s}%s", gold, delimiter);
    }
    char *text = rt_strndup(out.data, out.bytes);
    rt_buf_free(&out);
    return text;
}
