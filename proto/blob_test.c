/* Fetching a blob in chunks over a transport that loses, repeats, reorders and corrupts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/proto.h"

enum { BYTES = 1000003, CHUNK = 4096, WINDOW = 8 };

static uint8_t *blob_new(void)
{
    uint8_t *blob = malloc(BYTES);
    for (int i = 0; i < BYTES; i++)
        blob[i] = (uint8_t)rt_below(1, 2, (uint64_t)i, 256);
    return blob;
}

static int deliver(rt_fetch *fetch, const uint8_t *blob, uint32_t index, bool corrupt, rt_error *err)
{
    rt_frame frame;
    uint64_t hash;
    assert_true(rt_chunk_of(blob, BYTES, CHUNK, index, &frame, &hash));
    uint8_t copy[CHUNK];
    memcpy(copy, frame.data, frame.bytes);
    if (corrupt)
        copy[index % frame.bytes] ^= 1;
    return rt_fetch_chunk(fetch, index, hash, copy, frame.bytes, err);
}

static void test_bad_transport(void **state)
{
    (void)state;
    uint8_t *blob = blob_new(), *into = calloc(1, BYTES);
    rt_fetch *fetch = rt_fetch_new(5, BYTES, CHUNK, rt_hash(blob, BYTES), WINDOW, into);
    assert_non_null(fetch);
    assert_true(rt_fetch_version(fetch) == 5);
    uint32_t pending[WINDOW], pending_count = 0;
    int done = 0, events[4] = {0};
    double before = 0;
    rt_error error = {0};
    for (uint64_t turn = 0; done == 0; turn++) {
        assert_true(turn < 100000);
        uint32_t first, count;
        while (rt_fetch_next(fetch, &first, &count))
            for (uint32_t i = 0; i < count; i++) {
                assert_true(pending_count < WINDOW); /* the window holds */
                pending[pending_count++] = first + i;
            }
        if (pending_count == 0 || rt_below(3, 4, turn, 40) == 0) {
            events[0]++;
            rt_fetch_timeout(fetch);
            pending_count = 0;
            continue;
        }
        const uint32_t at = rt_below(5, 6, turn, pending_count); /* reordered */
        const uint32_t index = pending[at];
        pending[at] = pending[--pending_count];
        const uint32_t luck = rt_below(7, 8, turn, 10);
        if (luck == 0) {
            events[1]++; /* lost */
            continue;
        }
        done = deliver(fetch, blob, index, luck == 1, &error);
        events[luck == 1 ? 2 : 3]++;
        if (done == 0 && luck == 2)
            done = deliver(fetch, blob, index, false, &error); /* repeated */
        assert_true(rt_fetch_done(fetch) >= before);
        before = rt_fetch_done(fetch);
    }
    assert_int_equal(done, 1);
    assert_true(events[0] > 0 && events[1] > 0 && events[2] > 0);
    assert_true(rt_fetch_done(fetch) >= 1);
    assert_memory_equal(blob, into, BYTES);
    uint32_t first, count;
    assert_false(rt_fetch_next(fetch, &first, &count));
    rt_fetch_free(&fetch);
    free(blob);
    free(into);
}

static void test_wrong_root_hash(void **state)
{
    (void)state;
    uint8_t *blob = blob_new(), *into = calloc(1, BYTES);
    rt_hash128 hash = rt_hash(blob, BYTES);
    hash.high ^= 1;
    rt_fetch *fetch = rt_fetch_new(1, BYTES, CHUNK, hash, WINDOW, into);
    rt_error error = {0};
    int done = 0;
    uint32_t first, count;
    while (done == 0 && rt_fetch_next(fetch, &first, &count))
        for (uint32_t i = first; i < first + count && done == 0; i++)
            done = deliver(fetch, blob, i, false, &error);
    assert_true(done < 0);
    assert_non_null(strstr(error.message, "hash"));
    assert_true(rt_fetch_done(fetch) <= 0);
    assert_true(rt_fetch_next(fetch, &first, &count)); /* a second try starts at the beginning */
    assert_int_equal(first, 0);
    rt_fetch_free(&fetch);
    free(blob);
    free(into);
}

static void test_nonsense(void **state)
{
    (void)state;
    uint8_t into[10] = {0};
    const rt_hash128 hash = {0, 0};
    assert_null(rt_fetch_new(1, 0, 4, hash, 1, into));
    assert_null(rt_fetch_new(1, 10, 0, hash, 1, into));
    assert_null(rt_fetch_new(1, UINT64_MAX, 1, hash, 1, into));
    rt_fetch *fetch = rt_fetch_new(1, 10, 4, hash, 2, into);
    uint32_t first, count;
    assert_true(rt_fetch_next(fetch, &first, &count));
    assert_int_equal(count, 2);
    assert_int_equal(rt_fetch_chunk(fetch, 3, 0, "abcd", 4, NULL), 0);    /* no such chunk */
    assert_int_equal(rt_fetch_chunk(fetch, 2, rt_hash64("abcd", 4, 0), "abcd", 4, NULL), 0);
    assert_int_equal(into[8], 0); /* the last chunk has 2 bytes, not 4 */
    rt_frame frame;
    uint64_t chunk_hash;
    assert_false(rt_chunk_of(into, 10, 4, 3, &frame, &chunk_hash));
    assert_true(rt_chunk_of(into, 10, 4, 2, &frame, &chunk_hash));
    assert_int_equal(frame.bytes, 2);
    rt_fetch_free(&fetch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_transport),
        cmocka_unit_test(test_wrong_root_hash),
        cmocka_unit_test(test_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
