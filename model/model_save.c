/* model_save: a Hugging Face folder that other programs open as it is. */
#include "model/files.h"
#include "model/tokenizer.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define COPY_BYTES_MAX ((size_t)256 << 20)

static int write_config(const rt_weights *weights, const char *dir, rt_error *err)
{
    rt_buf text = {0};
    rt_hf_config_write(&weights->arch, weights->dtype, &text);
    char *path = rt_format("%s/config.json", dir);
    int code = rt_file_write(path, text.data, text.bytes, err);
    rt_free(path);
    rt_buf_free(&text);
    return code;
}

static int write_weights(const rt_weights *weights, const char *dir, rt_error *err)
{
    /* transformers asks for this entry. */
    static const char *const metadata[] = {"format", "pt", NULL};
    size_t word = rt_dtype_bytes(weights->dtype);
    rt_st_tensor *list = rt_alloc((size_t)weights->tensors_count * sizeof *list);
    for (int i = 0; i < weights->tensors_count; i++) {
        const rt_tensor *tensor = &weights->tensors[i];
        list[i] = (rt_st_tensor){
            .name = tensor->name,
            .dtype = weights->dtype,
            .dims = rt_tensor_is_vector(tensor) ? 1 : 2,
            .shape = {tensor->rows, tensor->cols},
            .data = (const char *)weights->data + tensor->offset * word,
            .bytes = tensor->count * word,
        };
    }
    char *path = rt_format("%s/model.safetensors", dir);
    int code = rt_safetensors_write(path, list, weights->tensors_count, metadata, err);
    rt_free(path);
    rt_free(list);
    return code;
}

/* ---- tokenizer files ---------------------------------------------------------------------- */

static int copy_files(const char *from, const char *dir, rt_error *err)
{
    static const char *const names[] = {
        "tokenizer.json",         "tokenizer_config.json", "special_tokens_map.json",
        "generation_config.json", "chat_template.jinja",
    };
    int code = RT_OK;
    for (size_t i = 0; i < RT_COUNT(names) && code == RT_OK; i++) {
        char *source = rt_format("%s/%s", from, names[i]);
        char *target = rt_format("%s/%s", dir, names[i]);
        struct stat a, b;
        bool there = stat(source, &a) == 0;
        bool same = there && stat(target, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
        rt_buf text = {0};
        if (there && !same) {
            code = rt_file_read(source, COPY_BYTES_MAX, &text, err);
            if (code == RT_OK) {
                code = rt_file_write(target, text.data, text.bytes, err);
            }
        }
        rt_buf_free(&text);
        rt_free(source);
        rt_free(target);
    }
    return code;
}

static void add_token(json_t *config, const char *name, const rt_gguf *gguf, const char *key)
{
    rt_gguf_array tokens;
    int64_t id;
    if (rt_gguf_array_find(gguf, "tokenizer.ggml.tokens", &tokens) &&
        tokens.type == RT_GGUF_STRING && rt_gguf_integer(gguf, key, &id) && id >= 0 &&
        (uint64_t)id < tokens.count) {
        size_t bytes;
        const char *text = rt_gguf_array_text(&tokens, (size_t)id, &bytes);
        json_object_set_new(config, name, json_stringn(text, bytes));
    }
}

/* What else the metadata say about the tokenizer, above all the chat template. */
static int write_tokenizer_config(const rt_gguf *gguf, const char *dir, rt_error *err)
{
    json_t *config = json_pack("{s:s, s:b}", "tokenizer_class", "PreTrainedTokenizerFast",
                               "clean_up_tokenization_spaces", 0);
    RT_ASSERT(config != NULL);
    add_token(config, "bos_token", gguf, "tokenizer.ggml.bos_token_id");
    add_token(config, "eos_token", gguf, "tokenizer.ggml.eos_token_id");
    add_token(config, "unk_token", gguf, "tokenizer.ggml.unknown_token_id");
    add_token(config, "pad_token", gguf, "tokenizer.ggml.padding_token_id");
    int64_t context;
    if (rt_gguf_integer(gguf, "llama.context_length", &context)) {
        json_object_set_new(config, "model_max_length", json_integer(context));
    }
    const char *text;
    size_t bytes;
    if (rt_gguf_text(gguf, "tokenizer.chat_template", &text, &bytes)) {
        json_object_set_new(config, "chat_template", json_stringn(text, bytes));
    }
    char *json = json_dumps(config, JSON_INDENT(2));
    json_decref(config);
    char *path = rt_format("%s/tokenizer_config.json", dir);
    int code = rt_file_write(path, json, strlen(json), err);
    rt_free(path);
    free(json);
    return code;
}

static int rebuild_files(const char *from, const char *dir, rt_error *err)
{
    rt_gguf *gguf;
    int code = rt_gguf_open(&gguf, from, err);
    if (code != RT_OK) {
        return code;
    }
    rt_buf json = {0};
    code = rt_tokenizer_from_gguf(from, &json, err);
    if (code == RT_OK) {
        char *path = rt_format("%s/tokenizer.json", dir);
        code = rt_file_write(path, json.data, json.bytes, err);
        rt_free(path);
    }
    if (code == RT_OK) {
        code = write_tokenizer_config(gguf, dir, err);
    }
    rt_buf_free(&json);
    rt_gguf_close(&gguf);
    return code;
}

static int write_tokenizer(const char *from, const char *dir, rt_error *err)
{
    rt_buf resolved = {0};
    struct stat info;
    int code = rt_model_resolve(from, &resolved, err);
    if (code == RT_OK && stat(resolved.data, &info) != 0) {
        code = rt_fail(err, RT_ERR_INPUT, "the tokenizer's model %s is not there", from);
    } else if (code == RT_OK && S_ISDIR(info.st_mode)) {
        code = copy_files(resolved.data, dir, err);
    } else if (code == RT_OK) {
        code = rebuild_files(resolved.data, dir, err);
    }
    rt_buf_free(&resolved);
    return code;
}

int rt_model_save(const rt_weights *weights, const char *dir, const char *tokenizer_from,
                  rt_error *err)
{
    /* The weights last: a folder that holds config.json and them is complete. */
    int code = rt_mkdirs(dir, err);
    if (code == RT_OK && tokenizer_from != NULL) {
        code = write_tokenizer(tokenizer_from, dir, err);
    }
    if (code == RT_OK) {
        code = write_config(weights, dir, err);
    }
    return code == RT_OK ? write_weights(weights, dir, err) : code;
}
