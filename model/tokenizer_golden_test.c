/* Ids and decoded text of other implementations, line by line; skipped where the files are not. */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/model.h"

#define GOLDEN "../shared/golden/"

static bool line_agrees(const rt_tokenizer *t, const json_t *line)
{
    const json_t *text = json_object_get(line, "text"), *expected = json_object_get(line, "ids");
    const json_t *decoded = json_object_get(line, "decoded");
    decoded = decoded == NULL ? text : decoded;
    int32_t *ids = NULL;
    size_t count = 0, capacity = 0;
    rt_error err = {0};
    int rc = rt_tokenizer_encode(t, json_string_value(text), json_string_length(text), &ids,
                                 &count, &capacity, &err);
    bool same = rc == 0 && count == json_array_size(expected);
    for (size_t i = 0; same && i < count; i++) {
        same = ids[i] == json_integer_value(json_array_get(expected, i));
    }
    rt_buf back = {0};
    rt_buf_add(&back, "", 0);
    rt_tokenizer_decode(t, ids, count, &back);
    same = same && back.bytes == json_string_length(decoded)
           && memcmp(back.data, json_string_value(decoded), back.bytes) == 0;
    if (!same) {
        char *shown = json_dumps(line, JSON_COMPACT);
        print_error("%s\n  %.1000s\n  got", rc < 0 ? err.message : "differs", shown);
        for (size_t i = 0; i < count && i < 100; i++) {
            print_error(" %d", ids[i]);
        }
        print_error("\n  decoded '%.400s'\n", back.data);
        free(shown);
    }
    rt_buf_free(&back);
    rt_free(ids);
    return same;
}

static void check_cases(const char *model, const char *cases)
{
    rt_tokenizer *t = NULL;
    rt_error err = {0};
    if (rt_tokenizer_load(&t, model, &err) < 0) {
        fail_msg("%s", err.message);
    }
    rt_buf file = {0};
    if (rt_file_read(cases, 64 << 20, &file, &err) < 0) {
        fail_msg("%s", err.message);
    }
    int lines = 0, wrong = 0;
    for (char *at = file.data, *end; (end = strchr(at, '\n')) != NULL; at = end + 1) {
        json_t *line = json_loadb(at, (size_t)(end - at), JSON_ALLOW_NUL, NULL);
        assert_non_null(line);
        wrong += !line_agrees(t, line);
        lines++;
        json_decref(line);
    }
    print_message("%s: %d lines, %d wrong\n", cases, lines, wrong);
    rt_buf_free(&file);
    rt_tokenizer_free(&t);
    assert_true(lines > 100);
    assert_int_equal(wrong, 0);
}

static void check_if_there(const char *model, const char *cases)
{
    if (!rt_file_exists(cases)) {
        skip();
    }
    check_cases(model, cases);
}

static void gpt2(void **state)
{
    (void)state;
    check_if_there(GOLDEN "tokenizer_gpt2", GOLDEN "tokenizer_gpt2/cases.jsonl");
}

static void llama3(void **state)
{
    (void)state;
    check_if_there(GOLDEN "tokenizer_llama3", GOLDEN "tokenizer_llama3/cases.jsonl");
}

static void qwen2(void **state)
{
    (void)state;
    check_if_there(GOLDEN "tokenizer_qwen2", GOLDEN "tokenizer_qwen2/cases.jsonl");
}

static void tiny_gguf(void **state)
{
    (void)state;
    check_if_there(GOLDEN "tiny_gguf.f16.gguf", GOLDEN "tiny_gguf.tokenizer.jsonl");
}

/* The model is not part of the golden data: RETAKE_SMOLLM2 names its GGUF file. */
static void smollm2(void **state)
{
    (void)state;
    const char *model = getenv("RETAKE_SMOLLM2");
    if (model == NULL) {
        skip();
    }
    check_if_there(model, GOLDEN "tokenizer_smollm2.jsonl");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2),      cmocka_unit_test(llama3),  cmocka_unit_test(qwen2),
        cmocka_unit_test(tiny_gguf), cmocka_unit_test(smollm2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
