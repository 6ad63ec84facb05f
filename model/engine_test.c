/* Engine: completions do not depend on slots, batch or pages; log-probs equal the trainer's bit for
 * bit; stops, thoughts, cancel and limits. */
#include <stdlib.h>

#include "model/model_testing.h"

/* Byte-level tokenizer of the 94 printable characters, one token each: id = character − '!'. */
static rt_tokenizer *letters(void)
{
    rt_buf json = {0};
    rt_tokenizer *tokenizer = NULL;
    rt_error err = {0};
    rt_buf_addf(&json, "{\"added_tokens\":[],\"normalizer\":null,\"pre_tokenizer\":{\"type\":"
                "\"ByteLevel\",\"add_prefix_space\":false,"
                "\"trim_offsets\":true,\"use_regex\":true},"
                "\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":"
                "\"BPE\",\"merges\":[],\"vocab\":{");
    for (int i = 0; i < 94; i++) {
        char c = (char)('!' + i);
        bool escape = c == '"' || c == '\\';
        rt_buf_addf(&json, "%s\"%s%c\":%d", i > 0 ? "," : "", escape ? "\\" : "", c, i);
    }
    rt_buf_addf(&json, "}}}");
    int rc = rt_tokenizer_parse(&tokenizer, json.data, json.bytes, &err);
    if (rc < 0)
        fail_msg("%s", err.message);
    rt_buf_free(&json);
    return tokenizer;
}

static rt_sampling plain(double temperature, int max_tokens)
{
    return (rt_sampling){.temperature = temperature, .top_p = 1, .max_tokens = max_tokens,
                         .seed = 42, .ignore_eos = true};
}

static int by_trajectory(const void *a, const void *b)
{
    const rt_completion *x = a, *y = b;
    return x->trajectory < y->trajectory ? -1 : x->trajectory > y->trajectory;
}

/* Steps until nothing is left; completions sorted by trajectory. */
static int drain(rt_engine *engine, rt_completion *out, int max)
{
    int left = 1, count = 0;
    rt_error err = {0};
    for (int steps = 0; left > 0; steps++) {
        left = rt_engine_step(engine, &err);
        if (left < 0)
            fail_msg("%s", err.message);
        assert_true(steps < 20000);
        while (count < max && rt_engine_collect(engine, &out[count]))
            count++;
    }
    qsort(out, (size_t)count, sizeof(out[0]), by_trajectory);
    return count;
}

static void free_all(rt_completion *c, int count)
{
    for (int i = 0; i < count; i++)
        rt_completion_free(&c[i]);
}

static void expect_same_completion(const rt_completion *got, const rt_completion *want)
{
    assert_int_equal(got->trajectory, want->trajectory);
    assert_int_equal(got->end, want->end);
    assert_int_equal(got->ids_count, want->ids_count);
    assert_int_equal(got->thoughts_count, want->thoughts_count);
    size_t bytes = sizeof(int32_t) * (size_t)want->ids_count;
    assert_memory_equal(got->ids, want->ids, bytes);
    assert_memory_equal(got->logprobs, want->logprobs, bytes);
    if (want->thoughts_count > 0)
        assert_memory_equal(got->thought_ends, want->thought_ends,
                            sizeof(int32_t) * (size_t)want->thoughts_count);
}

static rt_engine *engine_open(testing_net *n, const rt_tokenizer *tokenizer, int slots,
                              int64_t cache)
{
    rt_engine *engine;
    assert_int_equal(rt_engine_new(&engine, n->net, tokenizer, slots, cache, NULL), RT_OK);
    return engine;
}

/* ---- the same bits as in training ---- */

/* Log-probs of a completion as the learner computes them, with other completions in the trie. */
static void expect_trained(rt_trainer *trainer, const int32_t *prefix, int prefix_count,
                           const rt_completion *c, int count, float temperature)
{
    static int32_t ids[8][128], row_of[8][128];
    static rt_entry entries[8 * 128];
    static float logprob[8 * 128];
    const int32_t *sequences[8];
    int32_t lengths[8], *rows[8];
    int entries_count = 0, at = 0;
    for (int i = 0; i < count; i++) {
        memcpy(ids[i], prefix, sizeof(int32_t) * (size_t)prefix_count);
        memcpy(ids[i] + prefix_count, c[i].ids, sizeof(int32_t) * (size_t)c[i].ids_count);
        sequences[i] = ids[i];
        lengths[i] = prefix_count + c[i].ids_count;
        rows[i] = row_of[i];
    }
    assert_true(rt_trainer_plan(trainer, sequences, lengths, NULL, NULL, count, rows, NULL) > 0);
    for (int i = 0; i < count; i++)
        for (int t = 0; t < c[i].ids_count; t++)
            entries[entries_count++] = (rt_entry){row_of[i][prefix_count + t - 1], c[i].ids[t]};
    assert_int_equal(rt_trainer_forward(trainer, entries, entries_count, temperature, false,
                                        logprob, NULL), RT_OK);
    for (int i = 0; i < count; at += c[i].ids_count, i++)
        assert_memory_equal(logprob + at, c[i].logprobs, sizeof(float) * (size_t)c[i].ids_count);
}

static void check_trained(int dtype, int threads, bool recompute, double temperature)
{
    rt_arch arch = testing_arch(dtype == RT_BF16);
    testing_net n = testing_open(&arch, dtype, "cpu", threads, 3);
    testing_net learner = testing_open(&arch, dtype, "cpu", 3 - threads, 3);
    rt_engine *engine = engine_open(&n, NULL, 5, 0);
    rt_trainer *trainer;
    int32_t prefix[4][40];
    static const int counts[4] = {40, 16, 1, 23};
    uint64_t trajectories[4][8];
    rt_completion c[32];
    rt_sampling s = plain(temperature, 45);
    assert_int_equal(rt_trainer_new(&trainer, learner.net, 800, recompute, NULL), RT_OK);
    for (int i = 0; i < 4; i++) {
        testing_ids(prefix[i], counts[i], arch.vocab, 50 + (uint64_t)i);
        for (int j = 0; j < 8; j++)
            trajectories[i][j] = (uint64_t)(100 * i + j);
        assert_int_equal(rt_engine_submit(engine, (uint64_t)i, prefix[i], counts[i],
                                          trajectories[i], 8, 0, -1, &s, NULL), RT_OK);
    }
    assert_int_equal(drain(engine, c, 32), 32);
    for (int i = 0; i < 4; i++)
        expect_trained(trainer, prefix[i], counts[i], c + 8 * i, 8,
                       temperature > 0 ? (float)temperature : 1.0f);
    /* one prefix is computed once, whatever the number of its completions */
    assert_int_equal(rt_engine_get_stats(engine).tokens_prefill, 40 + 16 + 1 + 23);
    assert_int_equal(rt_engine_get_stats(engine).tokens_decode, 32 * 45);
    free_all(c, 32);
    rt_trainer_free(&trainer);
    rt_engine_free(&engine);
    testing_close(&learner);
    testing_close(&n);
}

static void test_logprobs_equal_the_trainers(void **state)
{
    (void)state;
    static const double temperatures[] = {1, 0.7, 0};
    for (int i = 0; i < 12; i++)
        check_trained(i & 1 ? RT_BF16 : RT_F32, 1 + (i >> 1 & 1), i >> 2 & 1, temperatures[i % 3]);
}

/* ---- batch, slots, pages ---- */

enum { REQUESTS = 60 };

static void submit_many(rt_engine *engine, int from, int to)
{
    for (int i = from; i < to; i++) {
        int32_t prefix[150];
        uint64_t trajectories[5], r = (uint64_t)i;
        int length = 1 + (int)rt_below(1, 0, r, 150), count = 1 + (int)rt_below(1, 1, r, 5);
        double temperature = i % 7 == 0 ? 0 : 0.5 + 0.25 * (i % 5);
        rt_sampling s = plain(temperature, 1 + (int)rt_below(1, 2, r, 60));
        s.top_k = i % 3 == 0 ? 7 : 0;
        s.top_p = i % 4 == 0 ? 0.8 : 1;
        s.ignore_eos = i % 2;
        testing_ids(prefix, length, 94, r);
        for (int j = 0; j < count; j++)
            trajectories[j] = r * 8 + (uint64_t)j;
        assert_int_equal(rt_engine_submit(engine, r, prefix, length, trajectories, count, 0, -1, &s,
                                          NULL), RT_OK);
    }
}

static void test_results_do_not_depend_on_the_batch(void **state)
{
    (void)state;
    static const struct { int slots; int64_t cache; int threads; } variants[] = {
        {64, 0, 1}, {3, 0, 2}, {1, 0, 1}, {16, 400, 1}, {40, 240, 2},
    };
    rt_arch arch = testing_arch(true);
    static rt_completion want[REQUESTS * 5], got[REQUESTS * 5];
    int want_count = 0;
    for (size_t v = 0; v < RT_COUNT(variants); v++) {
        testing_net n = testing_open(&arch, RT_F32, "cpu", variants[v].threads, 3);
        rt_engine *engine = engine_open(&n, NULL, variants[v].slots, variants[v].cache);
        rt_completion *out = v == 0 ? want : got;
        submit_many(engine, 0, REQUESTS / 2);
        for (int i = 0; i < 10; i++)
            assert_true(rt_engine_step(engine, NULL) > 0);
        submit_many(engine, REQUESTS / 2, REQUESTS);
        int count = drain(engine, out, REQUESTS * 5);
        if (v == 0) {
            want_count = count;
            assert_true(count > REQUESTS * 2);
        }
        assert_int_equal(count, want_count);
        for (int i = 0; i < count; i++)
            expect_same_completion(&out[i], &want[i]);
        rt_engine_stats stats = rt_engine_get_stats(engine);
        assert_int_equal(stats.active + stats.waiting, 0);
        if (v > 0)
            free_all(got, count);
        rt_engine_free(&engine);
        testing_close(&n);
    }
    free_all(want, want_count);
}

/* ---- tokens guessed ahead ---- */

enum { QUOTES = 40, QUOTES_MOST = 4 * QUOTES };

/* With faint layers the next token hangs mostly on the last one, so that texts run in circles. */
static void faint_layers(testing_net *n)
{
    rt_weights *w = n->weights;
    for (int i = 0; i < w->tensors_count; i++) {
        const rt_tensor *t = &w->tensors[i];
        for (size_t j = 0; strstr(t->name, "layers.") && t->cols > 1 && j < t->count; j++)
            ((float *)w->data)[t->offset + j] *= 0.25f;
    }
    rt_net_set(n->net, w);
}

static rt_sampling quoting(int i, int lookahead)
{
    static const double temperatures[] = {0, 0.2, 0.4, 1};
    rt_sampling s = plain(temperatures[i % 4], i % 5 == 4 ? 300 : 1 + (i * 37) % 190);
    s.lookahead = lookahead;
    s.delimiter = i % 3 == 0 ? "e" : NULL;
    s.thoughts_max = 2 + i % 7;
    s.ignore_eos = i % 2;
    return s;
}

/* Cold sampling stays in a circle and leaves it at times, hot sampling never has one. Then other texts
 * go on from half of what was sampled, which they find in the cache. */
static int quote_many(rt_engine *engine, int lookahead, rt_completion *out)
{
    static int32_t prefix[QUOTES][256];
    for (int i = 0; i < QUOTES; i++) {
        uint64_t r = (uint64_t)i, trajectories[3] = {3 * r, 3 * r + 1, 3 * r + 2};
        rt_sampling s = quoting(i, lookahead);
        testing_ids(prefix[i], 10 + i, 94, r);
        assert_int_equal(rt_engine_submit(engine, r, prefix[i], 10 + i, trajectories, 1 + i % 3, 0, -1,
                                          &s, NULL), RT_OK);
    }
    int count = drain(engine, out, QUOTES_MOST), first = count;
    for (int i = 0, c = 0; i < QUOTES; c += 1 + i % 3, i++) {
        uint64_t r = 1000 + (uint64_t)i;
        rt_sampling s = quoting(i + 1, lookahead);
        int more = out[c].ids_count - out[c].ids_count / 8;
        memcpy(prefix[i] + 10 + i, out[c].ids, sizeof(int32_t) * (size_t)more);
        assert_int_equal(rt_engine_submit(engine, r, prefix[i], 10 + i + more, &r, 1, 0, -1, &s, NULL),
                         RT_OK);
    }
    return first + drain(engine, out + first, QUOTES_MOST - first);
}

static void test_guesses_change_nothing_but_the_steps(void **state)
{
    (void)state;
    static const struct { int slots; int64_t cache; int threads, lookahead; } variants[] = {
        {64, 0, 1, 0}, {64, 0, 1, 15}, {64, 0, 2, 4}, {1, 0, 1, 15}, {5, 288, 1, 15}, {3, 288, 1, 1},
    };
    rt_arch arch = testing_arch(false);
    rt_tokenizer *tokenizer = letters();
    static rt_completion want[QUOTES_MOST], got[QUOTES_MOST];
    int want_count = 0;
    int64_t steps = 0;
    for (size_t v = 0; v < RT_COUNT(variants); v++) {
        testing_net n = testing_open(&arch, RT_F32, "cpu", variants[v].threads, 3);
        faint_layers(&n);
        rt_engine *engine = engine_open(&n, tokenizer, variants[v].slots, variants[v].cache);
        int count = quote_many(engine, variants[v].lookahead, v == 0 ? want : got);
        rt_engine_stats stats = rt_engine_get_stats(engine);
        if (v == 0) {
            want_count = count;
            steps = stats.steps;
            assert_int_equal(stats.guessed, 0);
        } else {
            assert_int_equal(count, want_count);
            for (int i = 0; i < count; i++)
                expect_same_completion(&got[i], &want[i]);
            /* what was sampled lies in the cache just the same */
            for (int i = count - QUOTES; i < count && variants[v].slots == 64; i++)
                assert_int_equal(got[i].prefill, want[i].prefill);
            assert_true(stats.guessed_right > 0 && stats.guessed_right < stats.guessed);
            free_all(got, count);
        }
        if (v == 1) {
            assert_true(stats.steps < steps);
            assert_true(2 * stats.guessed_right > stats.guessed);
        }
        rt_engine_free(&engine);
        testing_close(&n);
    }
    free_all(want, want_count);
    rt_tokenizer_free(&tokenizer);
}

/* ---- stops and thoughts ---- */

/* One completion of a fixed prompt; text is its decoded bytes. */
static rt_completion complete(rt_engine *engine, const rt_tokenizer *tokenizer,
                              const rt_sampling *s, int thoughts_before, rt_buf *text)
{
    int32_t prefix[20];
    uint64_t trajectory = 7;
    rt_completion c;
    testing_ids(prefix, 20, 94, 5);
    assert_int_equal(rt_engine_submit(engine, 1, prefix, 20, &trajectory, 1, thoughts_before, -1, s,
                                      NULL), RT_OK);
    assert_int_equal(drain(engine, &c, 1), 1);
    rt_buf_clear(text);
    rt_tokenizer_decode(tokenizer, c.ids, (size_t)c.ids_count, text);
    return c;
}

typedef struct stage {
    testing_net n;
    rt_tokenizer *tokenizer;
    rt_engine *engine;
    rt_buf free_text, text;
    rt_completion free_run; /* without stops */
} stage;

static stage stage_open(void)
{
    stage s = {0};
    rt_arch arch = testing_arch(true);
    s.n = testing_open(&arch, RT_F32, "cpu", 1, 3);
    s.tokenizer = letters();
    s.engine = engine_open(&s.n, s.tokenizer, 4, 0);
    rt_sampling sampling = plain(1, 200);
    s.free_run = complete(s.engine, s.tokenizer, &sampling, 0, &s.free_text);
    assert_int_equal(s.free_run.ids_count, 200);
    assert_int_equal(s.free_run.end, RT_END_LENGTH);
    return s;
}

static void stage_close(stage *s)
{
    rt_completion_free(&s->free_run);
    rt_buf_free(&s->free_text);
    rt_buf_free(&s->text);
    rt_engine_free(&s->engine);
    rt_tokenizer_free(&s->tokenizer);
    testing_close(&s->n);
}

static void expect_prefix_of_free_run(const stage *s, const rt_completion *c)
{
    assert_memory_equal(c->ids, s->free_run.ids, sizeof(int32_t) * (size_t)c->ids_count);
    assert_memory_equal(c->logprobs, s->free_run.logprobs, sizeof(float) * (size_t)c->ids_count);
}

static void test_stop_strings_span_tokens(void **state)
{
    (void)state;
    stage s = stage_open();
    for (int at = 0; at < 190; at += 27)
        for (int bytes = 1; bytes <= 5; bytes += 2) {
            char stop[8] = {0};
            memcpy(stop, s.free_text.data + at, (size_t)bytes);
            const char *stops[2] = {"\n never \n", stop};
            rt_sampling sampling = plain(1, 200);
            sampling.stops = stops;
            sampling.stops_count = 2;
            rt_completion c = complete(s.engine, s.tokenizer, &sampling, 0, &s.text);
            const char *first = strstr(s.free_text.data, stop);
            assert_int_equal(c.end, RT_END_STOP);
            assert_int_equal(c.ids_count, first - s.free_text.data + bytes);
            expect_prefix_of_free_run(&s, &c);
            rt_completion_free(&c);
        }
    stage_close(&s);
}

static void test_thoughts(void **state)
{
    (void)state;
    stage s = stage_open();
    char delimiter[2] = {s.free_text.data[9], 0};
    rt_sampling sampling = plain(1, 200);
    sampling.delimiter = delimiter;
    sampling.thought_tokens_max = 30;
    rt_completion c = complete(s.engine, s.tokenizer, &sampling, 0, &s.text);
    assert_int_equal(c.end, RT_END_LENGTH);
    expect_prefix_of_free_run(&s, &c);
    int thoughts = 0, begin = 0;
    for (int i = 0; i < 200; i++)
        if (s.free_text.data[i] == delimiter[0] || i + 1 - begin == 30) {
            assert_true(thoughts < c.thoughts_count);
            assert_int_equal(c.thought_ends[thoughts++], i + 1);
            begin = i + 1;
        }
    assert_int_equal(thoughts, c.thoughts_count);
    assert_true(thoughts > 5);
    /* thoughts of the prefix count */
    rt_completion few;
    sampling.thoughts_max = 5;
    few = complete(s.engine, s.tokenizer, &sampling, 2, &s.text);
    assert_int_equal(few.end, RT_END_THOUGHTS);
    assert_int_equal(few.thoughts_count, 3);
    assert_int_equal(few.ids_count, c.thought_ends[2]);
    rt_completion_free(&few);
    few = complete(s.engine, s.tokenizer, &sampling, 5, &s.text);
    assert_int_equal(few.end, RT_END_THOUGHTS);
    assert_int_equal(few.ids_count, 0);
    rt_completion_free(&few);
    rt_completion_free(&c);
    stage_close(&s);
}

static void test_terminal_ends_with_its_thought(void **state)
{
    (void)state;
    stage s = stage_open();
    char delimiter[2] = {s.free_text.data[180], 0}, terminal[4] = {0};
    const char *text = s.free_text.data, *close = NULL, *at = text + 20;
    for (; close == NULL && at < text + 150; at++) {
        memcpy(terminal, at, 3);
        /* a boundary inside it would hide it */
        if (strstr(text, terminal) == at && memchr(at, delimiter[0], 3) == NULL)
            close = strchr(at + 3, delimiter[0]);
    }
    assert_non_null(close);
    rt_sampling sampling = plain(1, 200);
    sampling.delimiter = delimiter;
    sampling.terminal = terminal;
    rt_completion c = complete(s.engine, s.tokenizer, &sampling, 0, &s.text);
    assert_int_equal(c.end, RT_END_TERMINAL);
    assert_int_equal(c.ids_count, close - text + 1);
    assert_true(c.thoughts_count > 0);
    assert_int_equal(c.thought_ends[c.thoughts_count - 1], c.ids_count);
    rt_completion_free(&c);
    stage_close(&s);
}

/* ---- limits ---- */

static void test_ends_and_errors(void **state)
{
    (void)state;
    rt_arch arch = testing_arch(true);
    testing_net n = testing_open(&arch, RT_F32, "cpu", 1, 3);
    rt_engine *engine = engine_open(&n, NULL, 4, 320);
    rt_error err = {0};
    int32_t prefix[300] = {0};
    uint64_t ids[2] = {1, 2};
    rt_completion c[8];
    rt_sampling s = plain(1, 50);
    assert_int_equal(rt_engine_submit(engine, 1, prefix, 257, ids, 1, 0, -1, &s, &err), RT_ERR_LIMIT);
    assert_non_null(strstr(err.message, "257"));
    assert_non_null(strstr(err.message, "256"));
    assert_int_equal(rt_engine_submit(engine, 1, prefix, 256, ids, 2, 0, -1, &s, &err), RT_OK);
    assert_int_equal(drain(engine, c, 8), 2);
    assert_int_equal(c[0].end, RT_END_CONTEXT);
    assert_int_equal(c[0].ids_count, 0);
    assert_int_equal(rt_engine_submit(engine, 2, prefix, 250, ids, 2, 0, -1, &s, &err), RT_OK);
    assert_int_equal(drain(engine, c, 8), 2);
    assert_int_equal(c[1].end, RT_END_CONTEXT);
    assert_int_equal(c[1].ids_count, 6);
    free_all(c, 2);
    s.max_tokens = 0;
    assert_int_equal(rt_engine_submit(engine, 3, prefix, 2, ids, 1, 0, -1, &s, &err), RT_ERR_USAGE);
    s.max_tokens = 5;
    s.top_p = 0;
    assert_int_equal(rt_engine_submit(engine, 3, prefix, 2, ids, 1, 0, -1, &s, &err), RT_ERR_USAGE);
    s.top_p = 1;
    s.delimiter = "x";
    assert_int_equal(rt_engine_submit(engine, 3, prefix, 2, ids, 1, 0, -1, &s, &err), RT_ERR_USAGE);
    s.delimiter = NULL;
    prefix[1] = 94;
    assert_int_equal(rt_engine_submit(engine, 3, prefix, 2, ids, 1, 0, -1, &s, &err), RT_ERR_INPUT);
    prefix[1] = 0;
    rt_engine_free(&engine);
    engine = engine_open(&n, NULL, 4, 64);
    assert_int_equal(rt_engine_submit(engine, 3, prefix, 60, ids, 1, 0, -1, &s, &err), RT_ERR_LIMIT);
    assert_non_null(strstr(err.message, "cache_tokens"));
    rt_engine_free(&engine);
    testing_close(&n);
}

static void test_eos_ends_and_is_kept(void **state)
{
    (void)state;
    rt_arch arch = testing_arch(true);
    testing_net n = testing_open(&arch, RT_F32, "cpu", 1, 3);
    rt_engine *engine = engine_open(&n, NULL, 64, 0);
    static rt_completion c[64];
    uint64_t ids[64];
    int32_t prefix[3] = {1, 2, 3};
    int ended = 0;
    rt_sampling s = plain(1.5, 100);
    s.ignore_eos = false;
    for (int i = 0; i < 64; i++)
        ids[i] = (uint64_t)i;
    assert_int_equal(rt_engine_submit(engine, 1, prefix, 3, ids, 64, 0, -1, &s, NULL), RT_OK);
    assert_int_equal(drain(engine, c, 64), 64);
    for (int i = 0; i < 64; i++) {
        for (int t = 0; t + 1 < c[i].ids_count; t++)
            assert_int_not_equal(c[i].ids[t], 5);
        bool eos = c[i].ids[c[i].ids_count - 1] == 5;
        assert_int_equal(c[i].end, eos ? RT_END_EOS : RT_END_LENGTH);
        ended += eos;
    }
    assert_true(ended > 0);
    free_all(c, 64);
    rt_engine_free(&engine);
    testing_close(&n);
}

static void test_cancel_and_new_weights(void **state)
{
    (void)state;
    rt_arch arch = testing_arch(true);
    testing_net n = testing_open(&arch, RT_F32, "cpu", 1, 3);
    rt_engine *engine = engine_open(&n, NULL, 6, 2048);
    rt_completion c[300], before, after;
    submit_many(engine, 0, 12);
    for (int i = 0; i < 15; i++)
        assert_true(rt_engine_step(engine, NULL) > 0);
    for (uint64_t i = 0; i < 12; i += 2)
        rt_engine_cancel(engine, i);
    int count = drain(engine, c, 300);
    assert_true(count > 0);
    for (int i = 0; i < count; i++)
        assert_int_equal(c[i].request % 2, 1);
    free_all(c, count);
    uint64_t id = 3;
    int32_t prefix[30];
    rt_sampling s = plain(1, 40);
    testing_ids(prefix, 30, 94, 6);
    assert_int_equal(rt_engine_submit(engine, 90, prefix, 30, &id, 1, 0, -1, &s, NULL), RT_OK);
    assert_int_equal(drain(engine, &before, 1), 1);
    testing_randomize(n.weights, 4);
    rt_net_set(n.net, n.weights);
    rt_engine_weights_changed(engine);
    assert_int_equal(rt_engine_submit(engine, 91, prefix, 30, &id, 1, 0, -1, &s, NULL), RT_OK);
    assert_int_equal(drain(engine, &after, 1), 1);
    rt_engine *fresh = engine_open(&n, NULL, 2, 0);
    assert_int_equal(rt_engine_submit(fresh, 91, prefix, 30, &id, 1, 0, -1, &s, NULL), RT_OK);
    assert_int_equal(drain(fresh, c, 1), 1);
    assert_memory_equal(c[0].logprobs, after.logprobs, 40 * sizeof(float));
    assert_memory_not_equal(before.logprobs, after.logprobs, 40 * sizeof(float));
    free_all(c, 1);
    rt_completion_free(&before);
    rt_completion_free(&after);
    /* freed with work of every state in it */
    submit_many(fresh, 0, 20);
    for (int i = 0; i < 12; i++)
        assert_true(rt_engine_step(fresh, NULL) > 0);
    rt_engine_free(&fresh);
    rt_engine_free(&engine);
    testing_close(&n);
}

/* What waits goes by its first trajectory where that is asked for, behind what has begun. */
static void test_order_of_what_waits(void **state)
{
    (void)state;
    static const uint64_t came[] = {30, 20, 10, 5}, began[] = {10, 5, 20, 30};
    static const int32_t prefix[] = {1, 2, 3};
    rt_arch arch = testing_arch(true);
    testing_net n = testing_open(&arch, RT_F32, "cpu", 1, 3);
    rt_engine *engine = engine_open(&n, NULL, 1, 0);
    rt_engine_order_by_trajectory(engine);
    rt_sampling sampling = plain(1, 4);
    rt_error err = {0};
    rt_completion c;
    for (size_t i = 0; i < RT_COUNT(came); i++) {
        if (i == 3)
            assert_true(rt_engine_step(engine, &err) > 0);
        assert_int_equal(rt_engine_submit(engine, i, prefix, 3, &came[i], 1, 0, -1, &sampling, &err), RT_OK);
    }
    for (size_t i = 0; i < RT_COUNT(began);) {
        assert_true(rt_engine_step(engine, &err) >= 0);
        for (; rt_engine_collect(engine, &c); i++) {
            assert_int_equal(c.trajectory, began[i]);
            rt_completion_free(&c);
        }
    }
    rt_engine_free(&engine);
    testing_close(&n);
}

static void test_broken_weights_are_an_error(void **state)
{
    (void)state;
    rt_arch arch = testing_arch(true);
    testing_net n = testing_open(&arch, RT_F32, "cpu", 1, 3);
    rt_engine *engine = engine_open(&n, NULL, 2, 0);
    rt_error err = {0};
    uint64_t id = 1;
    int32_t prefix[2] = {1, 2};
    rt_sampling s = plain(1, 4);
    ((float *)n.weights->data)[94 * 40 + 3] = 0.0f / 0.0f;
    rt_net_set(n.net, n.weights);
    assert_int_equal(rt_engine_submit(engine, 1, prefix, 2, &id, 1, 0, -1, &s, NULL), RT_OK);
    assert_int_equal(rt_engine_step(engine, &err), RT_ERR_MATH);
    rt_engine_free(&engine);
    testing_close(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logprobs_equal_the_trainers),
        cmocka_unit_test(test_results_do_not_depend_on_the_batch),
        cmocka_unit_test(test_guesses_change_nothing_but_the_steps),
        cmocka_unit_test(test_stop_strings_span_tokens),
        cmocka_unit_test(test_thoughts),
        cmocka_unit_test(test_terminal_ends_with_its_thought),
        cmocka_unit_test(test_ends_and_errors),
        cmocka_unit_test(test_eos_ends_and_is_kept),
        cmocka_unit_test(test_cancel_and_new_weights),
        cmocka_unit_test(test_order_of_what_waits),
        cmocka_unit_test(test_broken_weights_are_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
