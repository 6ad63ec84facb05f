/* The trainer: hand-made corpora small enough to count pairs on paper. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/model.h"

static const char *const specials[] = {"<|end|>", "<|pad|>"};

static rt_tokenizer *train(const char *corpus, int vocab, const char *const *forbidden,
                           int forbidden_count, rt_buf *json)
{
    rt_tokenizer *t = NULL;
    rt_error err = {0};
    rt_buf_clear(json);
    if (rt_tokenizer_train(corpus, strlen(corpus), vocab, specials, 2, forbidden, forbidden_count,
                           json, &err) < 0
        || rt_tokenizer_parse(&t, json->data, json->bytes, &err) < 0) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(rt_tokenizer_vocab(t), vocab);
    return t;
}

static void assert_token(const rt_tokenizer *t, int32_t id, const char *text)
{
    size_t bytes;
    const char *got = rt_tokenizer_bytes(t, id, &bytes);
    assert_non_null(got);
    assert_int_equal(bytes, strlen(text));
    assert_memory_equal(got, text, bytes);
}

static size_t encoded_count(const rt_tokenizer *t, const char *text)
{
    int32_t *ids = NULL;
    size_t count = 0, capacity = 0;
    rt_error err = {0};
    assert_int_equal(rt_tokenizer_encode(t, text, strlen(text), &ids, &count, &capacity, &err), 0);
    rt_buf back = {0};
    rt_tokenizer_decode(t, ids, count, &back);
    assert_string_equal(back.data, text);
    rt_buf_free(&back);
    rt_free(ids);
    return count;
}

/* "aab" once, " aab" twice: aa 3, ab 3, " a" 2. The tie goes to aa; then aa+b 3 beats " "+aa 2. */
static void counts_on_paper(void **state)
{
    (void)state;
    rt_buf json = {0};
    rt_tokenizer *t = train("aab aab aab", 258 + 3, NULL, 0, &json);
    assert_token(t, 0, "<|end|>");
    assert_token(t, 1, "<|pad|>");
    assert_token(t, 2, "!"); /* bytes in the order of their characters */
    assert_token(t, 258, "aa");
    assert_token(t, 259, "aab");
    assert_token(t, 260, " aab");
    assert_int_equal(encoded_count(t, "aab aab<|end|>"), 3);
    assert_int_equal(rt_tokenizer_special(t, "<|pad|>"), 1);
    rt_tokenizer_free(&t);
    const char *const forbidden[] = {"aa"};
    t = train("aab aab aab", 258 + 2, forbidden, 1, &json);
    assert_token(t, 258, "ab");
    assert_token(t, 259, " a"); /* a+ab is refused as well */
    rt_tokenizer_free(&t);
    rt_buf_free(&json);
}

static void digits_and_delimiters(void **state)
{
    (void)state;
    static const char corpus[] = "12 + 12 = 24</thought>\n12 + 12 = 24</thought>\n"
                                 "12 + 12 = 24</thought>\nthe end of the end<|end|>";
    const char *const forbidden[] = {"</thought>", "thought"};
    rt_buf json = {0}, again = {0};
    rt_tokenizer *t = train(corpus, 258 + 6, forbidden, 2, &json);
    for (int32_t id = 2; id < rt_tokenizer_vocab(t); id++) {
        size_t bytes;
        const char *text = rt_tokenizer_bytes(t, id, &bytes);
        assert_null(memmem(text, bytes, "thought", 7));
        for (size_t i = 0; i < bytes; i++) {
            assert_true(bytes == 1 || text[i] < '0' || text[i] > '9');
        }
    }
    assert_int_equal(encoded_count(t, "2468"), 4);
    assert_true(encoded_count(t, "</thought>") > 1);
    rt_tokenizer_free(&t);
    t = train(corpus, 258 + 6, forbidden, 2, &again);
    assert_int_equal(json.bytes, again.bytes);
    assert_memory_equal(json.data, again.data, json.bytes);
    rt_tokenizer_free(&t);
    rt_buf_free(&json);
    rt_buf_free(&again);
}

static void refusals(void **state)
{
    (void)state;
    rt_buf json = {0};
    rt_error err = {0};
    assert_int_equal(rt_tokenizer_train("ab", 2, 257, specials, 2, NULL, 0, &json, &err),
                     RT_ERR_USAGE);
    assert_int_equal(rt_tokenizer_train("ab", 2, 300, specials, 2, NULL, 0, &json, &err),
                     RT_ERR_INPUT); /* no pair occurs twice */
    assert_int_equal(rt_tokenizer_train("a\xff", 2, 258, specials, 2, NULL, 0, &json, &err),
                     RT_ERR_INPUT);
    const char *const twice[] = {"<x>", "<x>"};
    assert_int_equal(rt_tokenizer_train("ab", 2, 258, twice, 2, NULL, 0, &json, &err),
                     RT_ERR_USAGE);
    const char *const one[] = {"x"};
    assert_int_equal(rt_tokenizer_train("ab", 2, 258, specials, 2, one, 1, &json, &err),
                     RT_ERR_USAGE);
    assert_int_equal(json.bytes, 0);
    rt_buf_free(&json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_on_paper),
        cmocka_unit_test(digits_and_delimiters),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
