/*
 * chat: a conversation as token ids. Marks of a template are ids, content is text and nothing else:
 * whatever stands in it, no added token of the tokenizer comes out, so that a quoted answer can't
 * close a turn or open another role.
 *
 * A conversation under way is a growing list of ids: what a model sampled stays as it was sampled
 * and is never tokenised again (rt_chat_open, then rt_chat_next after each sampled turn).
 *
 * Forms:
 *   chatml  <|im_start|>ROLE\nCONTENT<|im_end|>\n for each message, then <|im_start|>assistant\n.
 *           Where the model's own template puts a system message of its own before a conversation
 *           that has none (SmolLM2, Qwen2.5), so does this. Nothing else of a template is read.
 *   plain   for models without marks: the contents one after another, a line break between two of
 *           them unless the first ends in one; nothing before, nothing after, roles are not said.
 *   auto    chatml where the tokenizer has <|im_start|> and <|im_end|>, else plain.
 *
 * Threading: read-only after opening, may be shared. Ownership: borrows the tokenizer.
 */
#ifndef RT_MODEL_CHAT_H
#define RT_MODEL_CHAT_H

#include "model/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rt_chat rt_chat;
/* form: auto | chatml | plain. path: where the tokenizer came from, searched for a chat template
 * (GGUF metadata, chat_template.jinja, tokenizer_config.json); NULL: none, so no default system
 * message. chatml without the two marks in the tokenizer: RT_ERR_USAGE. */
int rt_chat_new(rt_chat **chat, const rt_tokenizer *tokenizer, const char *path, const char *form,
                rt_error *err);
void rt_chat_free(rt_chat **chat);
bool rt_chat_plain(const rt_chat *chat);
/* The system message put before conversations without one; NULL: none. */
const char *rt_chat_system(const rt_chat *chat);

typedef struct rt_chat_message {
    const char *role, *content; /* role: system, user, assistant, … (text of the template, any) */
    size_t bytes;               /* of content */
} rt_chat_message;

/* Appends a whole conversation to ids and, unless NULL, its text to text. answer: with what makes
 * the assistant speak next. */
int rt_chat_render(const rt_chat *chat, const rt_chat_message *messages, int count, bool answer,
                   rt_ids *ids, rt_buf *text, rt_error *err);

/* A conversation's beginning: one message of the user, ready for the first sampled turn. */
int rt_chat_open(const rt_chat *chat, const char *user, size_t bytes, rt_ids *ids, rt_error *err);
/* ids end in a sampled turn: closes it, adds the user's next message, ready for the next turn.
 * chatml: a turn whose last id is <|im_end|> is closed; behind any other end (stop, length, another
 * end-of-text token) the mark is added. plain: special tokens at the end of the turn are taken off
 * (nothing was ever trained behind one), then the line break of the form. */
int rt_chat_next(const rt_chat *chat, const char *user, size_t bytes, rt_ids *ids, rt_error *err);

#ifdef __cplusplus
}
#endif
#endif
