/* chat: the two forms of a conversation. Content is encoded as text, marks are ids. */
#include "model/chat.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf.h"

enum { SYSTEM_BYTES_MAX = 4096, TEMPLATE_BYTES_MAX = 16 << 20 };

static const char START[] = "<|im_start|>", END[] = "<|im_end|>", SYSTEM_HEAD[] = "<|im_start|>system";

struct rt_chat {
    const rt_tokenizer *tokenizer;
    bool plain;
    int32_t start, end; /* of chatml */
    char *system;       /* NULL: none */
};

/* ---- the system message of a template ----------------------------------------------------------- */

/* One character of a quoted text in a template, in which \n, \' and the like stand for one. */
static char unescape(const char **at)
{
    char c = *(*at)++;
    if (c != '\\' || **at == '\0') {
        return c;
    }
    c = *(*at)++;
    return c == 'n' ? '\n' : c == 't' ? '\t' : c;
}

/* A template that says the whole of a system message in one quoted text says its own. */
static char *read_system(const char *template)
{
    char *found = NULL;
    for (const char *at = template; found == NULL && (at = strstr(at, SYSTEM_HEAD)) != NULL; at++) {
        char quote = at > template ? at[-1] : '\0';
        const char *from = at + strlen(SYSTEM_HEAD);
        if ((quote != '\'' && quote != '"') || unescape(&from) != '\n') {
            continue;
        }
        rt_buf text = {0};
        while (*from != '\0' && *from != quote && strncmp(from, END, strlen(END)) != 0
               && text.bytes < SYSTEM_BYTES_MAX) {
            char c = unescape(&from);
            rt_buf_add(&text, &c, 1);
        }
        if (text.bytes > 0 && strncmp(from, END, strlen(END)) == 0) {
            found = rt_strndup(text.data, text.bytes);
        }
        rt_buf_free(&text);
    }
    return found;
}

static char *system_of_gguf(const char *path)
{
    rt_gguf *gguf = NULL;
    char *found = NULL;
    const char *text;
    size_t bytes;
    if (rt_gguf_open(&gguf, path, NULL) == 0) {
        if (rt_gguf_text(gguf, "tokenizer.chat_template", &text, &bytes)) {
            char *template = rt_strndup(text, bytes);
            found = read_system(template);
            rt_free(template);
        }
        rt_gguf_close(&gguf);
    }
    return found;
}

/* chat_template is a text or a list of {name, template}, of which "default" is the one. */
static const char *template_of(const json_t *value)
{
    size_t i;
    json_t *entry;
    json_array_foreach((json_t *)(uintptr_t)value, i, entry) {
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name != NULL && strcmp(name, "default") == 0) {
            return json_string_value(json_object_get(entry, "template"));
        }
    }
    return json_string_value(value);
}

static char *system_of_folder(const char *folder)
{
    char *jinja = rt_format("%s/chat_template.jinja", folder);
    char *config = rt_format("%s/tokenizer_config.json", folder);
    rt_buf text = {0};
    char *found = NULL;
    if (rt_file_exists(jinja)) {
        if (rt_file_read(jinja, TEMPLATE_BYTES_MAX, &text, NULL) == 0) {
            rt_buf_add(&text, "", 0);
            found = read_system(text.data);
        }
    } else if (rt_file_exists(config) && rt_file_read(config, TEMPLATE_BYTES_MAX, &text, NULL) == 0) {
        json_t *json = json_loadb(text.data, text.bytes, 0, NULL);
        const char *template = template_of(json_object_get(json, "chat_template"));
        found = template != NULL ? read_system(template) : NULL;
        json_decref(json);
    }
    rt_buf_free(&text);
    rt_free(jinja);
    rt_free(config);
    return found;
}

static char *system_of(const char *path)
{
    rt_buf resolved = {0};
    char *found = NULL;
    if (rt_model_resolve(path, &resolved, NULL) == 0) {
        size_t bytes = resolved.bytes;
        bool gguf = bytes > 5 && strcmp(resolved.data + bytes - 5, ".gguf") == 0;
        found = gguf ? system_of_gguf(resolved.data) : system_of_folder(resolved.data);
    }
    rt_buf_free(&resolved);
    return found;
}

/* ---- opening ------------------------------------------------------------------------------------- */

int rt_chat_new(rt_chat **chat, const rt_tokenizer *tokenizer, const char *path, const char *form,
                rt_error *err)
{
    int32_t start = rt_tokenizer_special(tokenizer, START);
    int32_t end = rt_tokenizer_special(tokenizer, END);
    bool known = strcmp(form, "plain") == 0 || strcmp(form, "chatml") == 0;
    if (!known && strcmp(form, "auto") != 0) {
        return rt_fail(err, RT_ERR_USAGE, "chat form \"%s\" is none of auto, chatml, plain", form);
    }
    bool marks = start >= 0 && end >= 0;
    if (strcmp(form, "chatml") == 0 && !marks) {
        return rt_fail(err, RT_ERR_USAGE, "prompts.chat: chatml needs a tokenizer that has the "
                       "tokens <|im_start|> and <|im_end|>; this one has not: choose plain");
    }
    *chat = rt_alloc(sizeof **chat);
    **chat = (rt_chat){.tokenizer = tokenizer, .start = start, .end = end,
                       .plain = !marks || strcmp(form, "plain") == 0};
    if (!(*chat)->plain && path != NULL) {
        (*chat)->system = system_of(path);
    }
    return RT_OK;
}

void rt_chat_free(rt_chat **chat)
{
    if (*chat != NULL) {
        rt_free((*chat)->system);
        rt_free(*chat);
        *chat = NULL;
    }
}

bool rt_chat_plain(const rt_chat *chat)
{
    return chat->plain;
}

const char *rt_chat_system(const rt_chat *chat)
{
    return chat->system;
}

/* ---- rendering ------------------------------------------------------------------------------------ */

/* What is being written: ids, and text where it is wanted. */
typedef struct writer {
    const rt_chat *chat;
    rt_ids *ids;
    rt_buf *text;
    rt_buf run; /* text between two marks, tokenised as one */
} writer;

static int flush(writer *w, rt_error *err)
{
    int rc = w->run.bytes == 0 ? RT_OK
                               : rt_tokenizer_encode_text(w->chat->tokenizer, w->run.data,
                                                          w->run.bytes, w->ids, err);
    rt_buf_clear(&w->run);
    return rc;
}

static void add_text(writer *w, const char *text, size_t bytes)
{
    rt_buf_add(&w->run, text, bytes);
    if (w->text != NULL) {
        rt_buf_add(w->text, text, bytes);
    }
}

static int add_mark(writer *w, int32_t id, const char *mark, rt_error *err)
{
    int rc = flush(w, err);
    if (rc == RT_OK) {
        rt_ids_add(w->ids, id);
        if (w->text != NULL) {
            rt_buf_add(w->text, mark, strlen(mark));
        }
    }
    return rc;
}

/* "<|im_start|>ROLE\n" */
static int add_head(writer *w, const char *role, rt_error *err)
{
    int rc = add_mark(w, w->chat->start, START, err);
    add_text(w, role, strlen(role));
    add_text(w, "\n", 1);
    return rc;
}

static int add_chatml(writer *w, const char *role, const char *content, size_t bytes, rt_error *err)
{
    int rc = add_head(w, role, err);
    if (rc == RT_OK) {
        add_text(w, content, bytes);
        rc = add_mark(w, w->chat->end, END, err);
    }
    add_text(w, "\n", 1);
    return rc;
}

static int render_chatml(writer *w, const rt_chat_message *messages, int count, bool answer,
                         rt_error *err)
{
    const char *system = w->chat->system;
    int rc = RT_OK;
    if (system != NULL && count > 0 && strcmp(messages[0].role, "system") != 0) {
        rc = add_chatml(w, "system", system, strlen(system), err);
    }
    for (int i = 0; i < count && rc == RT_OK; i++) {
        rc = add_chatml(w, messages[i].role, messages[i].content, messages[i].bytes, err);
    }
    return answer && rc == RT_OK ? add_head(w, "assistant", err) : rc;
}

static void render_plain(writer *w, const rt_chat_message *messages, int count)
{
    char last = '\n';
    for (int i = 0; i < count; i++) {
        if (last != '\n') {
            add_text(w, "\n", 1);
            last = '\n';
        }
        add_text(w, messages[i].content, messages[i].bytes);
        last = messages[i].bytes > 0 ? messages[i].content[messages[i].bytes - 1] : last;
    }
}

/* Undoes what was appended when it failed half-way. */
static int finish(writer *w, size_t before, int rc, rt_error *err)
{
    if (rc == RT_OK) {
        rc = flush(w, err);
    }
    if (rc != RT_OK) {
        w->ids->count = before;
    }
    rt_buf_free(&w->run);
    return rc;
}

int rt_chat_render(const rt_chat *chat, const rt_chat_message *messages, int count, bool answer,
                   rt_ids *ids, rt_buf *text, rt_error *err)
{
    writer w = {.chat = chat, .ids = ids, .text = text};
    size_t before = ids->count;
    int rc = RT_OK;
    if (chat->plain) {
        render_plain(&w, messages, count);
    } else {
        rc = render_chatml(&w, messages, count, answer, err);
    }
    return finish(&w, before, rc, err);
}

int rt_chat_open(const rt_chat *chat, const char *user, size_t bytes, rt_ids *ids, rt_error *err)
{
    const rt_chat_message message = {"user", user, bytes};
    return rt_chat_render(chat, &message, 1, true, ids, NULL, err);
}

static bool ends_line(const rt_chat *chat, const rt_ids *ids)
{
    for (size_t i = ids->count; i > 0; i--) {
        size_t bytes;
        const char *token = rt_tokenizer_bytes(chat->tokenizer, ids->items[i - 1], &bytes);
        if (token != NULL && bytes > 0) {
            return token[bytes - 1] == '\n';
        }
    }
    return true;
}

int rt_chat_next(const rt_chat *chat, const char *user, size_t bytes, rt_ids *ids, rt_error *err)
{
    writer w = {.chat = chat, .ids = ids};
    size_t before = ids->count;
    int rc = RT_OK;
    if (chat->plain) {
        while (ids->count > 0
               && rt_tokenizer_is_special(chat->tokenizer, ids->items[ids->count - 1])) {
            ids->count--;
        }
        if (!ends_line(chat, ids)) {
            add_text(&w, "\n", 1);
        }
        add_text(&w, user, bytes);
    } else {
        if (ids->count == 0 || ids->items[ids->count - 1] != chat->end) {
            rt_ids_add(ids, chat->end);
        }
        add_text(&w, "\n", 1);
        rc = add_chatml(&w, "user", user, bytes, err);
        rc = rc == RT_OK ? add_head(&w, "assistant", err) : rc;
    }
    return finish(&w, before, rc, err);
}
