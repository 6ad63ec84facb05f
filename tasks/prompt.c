/* prompt: templates around a problem, and worked solutions cut into thoughts. */
#include "tasks/internal.h"

#include <string.h>

enum { TEMPLATE_BYTES_MAX = 1 << 20 };
static const char PLACE[] = "{problem}";

static const char *answer_form(const char *grader)
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
    return "nothing but the answer";
}

char *rt_prompt_builtin(const char *grader, const char *delimiter)
{
    return rt_format("Solve the problem below by reasoning in small steps.\n"
                     "Write one step at a time, each a sentence or a short calculation, and close "
                     "every step with %s before you begin the next.\n"
                     "The last step states the result as \\boxed{...} with %s inside.\n"
                     "\nProblem: {problem}\n\nSolution:\n",
                     delimiter, answer_form(grader));
}

int rt_prompt_load(char **template, const char *path, rt_error *err)
{
    rt_buf text = {0};
    int code = rt_file_read(path, TEMPLATE_BYTES_MAX, &text, err);
    if (code) {
        rt_buf_free(&text);
        return code;
    }
    if (!text.bytes || strlen(text.data) != text.bytes || !strstr(text.data, PLACE)) {
        rt_buf_free(&text);
        return rt_fail(err, RT_ERR_USAGE,
                       "%s: a prompt template must be text that holds {problem} where the problem "
                       "goes", path);
    }
    *template = rt_strdup(text.data);
    rt_buf_free(&text);
    return RT_OK;
}

const char *rt_prompt_apply(const char *template, const char *problem, rt_arena *arena)
{
    rt_buf text = {0};
    for (const char *at; (at = strstr(template, PLACE)); template = at + sizeof PLACE - 1) {
        rt_buf_add(&text, template, (size_t)(at - template));
        rt_buf_add(&text, problem, strlen(problem));
    }
    rt_buf_add(&text, template, strlen(template));
    char *copy = rt_arena_alloc(arena, text.bytes + 1);
    memcpy(copy, text.data, text.bytes);
    rt_buf_free(&text);
    return copy;
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
