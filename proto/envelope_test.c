/* Limits of the envelope, and that the schema cannot nest without end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/proto.h"

static size_t pack(Retake__Envelope *envelope, uint8_t *out, size_t room)
{
    const size_t bytes = retake__envelope__get_packed_size(envelope);
    assert_true(bytes <= room);
    return retake__envelope__pack(envelope, out);
}

static Retake__Envelope hello_envelope(Retake__Hello *hello)
{
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    retake__hello__init(hello);
    hello->role = "actor";
    hello->config = 0x1122334455667788u;
    envelope.protocol = RT_PROTOCOL;
    envelope.sender = "actor-0";
    envelope.incarnation = 7;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_HELLO;
    envelope.hello = hello;
    return envelope;
}

static int unpack(const void *data, size_t bytes, rt_arena *arena, const Retake__Envelope **out,
                  rt_error *err)
{
    /* A copy of exact size, so that a sanitizer sees a read past the end. */
    uint8_t *copy = malloc(bytes ? bytes : 1);
    memcpy(copy, data, bytes);
    const int code = rt_envelope_unpack(copy, bytes, arena, out, err);
    free(copy);
    return code;
}

static void test_round_trip(void **state)
{
    (void)state;
    uint8_t packed[512];
    Retake__Hello hello;
    Retake__Envelope sent = hello_envelope(&hello);
    const size_t bytes = pack(&sent, packed, sizeof(packed));
    rt_arena *arena = rt_arena_new(4096);
    const Retake__Envelope *got;
    rt_error error = {0};
    assert_int_equal(unpack(packed, bytes, arena, &got, &error), RT_OK);
    assert_int_equal(got->kind_case, RETAKE__ENVELOPE__KIND_HELLO);
    assert_string_equal(got->sender, "actor-0");
    assert_string_equal(got->hello->role, "actor");
    assert_true(got->hello->config == 0x1122334455667788u);
    assert_true(got->incarnation == 7);
    rt_arena_free(&arena);
}

static void test_refusals(void **state)
{
    (void)state;
    uint8_t packed[512];
    Retake__Hello hello;
    rt_arena *arena = rt_arena_new(4096);
    const Retake__Envelope *got;
    rt_error error = {0};

    Retake__Envelope sent = hello_envelope(&hello);
    size_t bytes = pack(&sent, packed, sizeof(packed));
    for (size_t cut = 0; cut < bytes; cut++) /* every shorter one lacks something or is cut */
        if (unpack(packed, cut, arena, &got, &error) == RT_OK)
            assert_true(got->kind_case == RETAKE__ENVELOPE__KIND_HELLO);
        else
            assert_null(got);
    assert_int_equal(unpack(packed, bytes - 1, arena, &got, &error), RT_ERR_INPUT);
    assert_int_equal(unpack("GET / HTTP/1.1\r\n", 16, arena, &got, &error), RT_ERR_INPUT);
    assert_int_not_equal(unpack("", 0, arena, &got, &error), RT_OK);

    sent.protocol = 77; /* named, even where the rest is garbage */
    bytes = pack(&sent, packed, sizeof(packed));
    memset(packed + 2, 0xff, bytes - 2);
    assert_int_equal(unpack(packed, bytes, arena, &got, &error), RT_ERR_PEER);
    assert_non_null(strstr(error.message, "protocol 77"));
    assert_non_null(strstr(error.message, "protocol 1"));

    sent = hello_envelope(&hello);
    sent.kind_case = RETAKE__ENVELOPE__KIND__NOT_SET;
    sent.hello = NULL;
    bytes = pack(&sent, packed, sizeof(packed));
    assert_int_equal(unpack(packed, bytes, arena, &got, &error), RT_ERR_INPUT);
    assert_non_null(strstr(error.message, "kind"));

    sent = hello_envelope(&hello);
    hello.weights_hash = (ProtobufCBinaryData){15, (uint8_t *)"123456789012345"};
    bytes = pack(&sent, packed, sizeof(packed));
    assert_int_equal(unpack(packed, bytes, arena, &got, &error), RT_ERR_INPUT);
    assert_non_null(strstr(error.message, "hash"));

    char name[RT_SENDER_BYTES_MAX + 2];
    memset(name, 'n', sizeof(name));
    name[sizeof(name) - 1] = 0;
    sent = hello_envelope(&hello);
    sent.sender = name;
    bytes = pack(&sent, packed, sizeof(packed));
    assert_int_equal(unpack(packed, bytes, arena, &got, &error), RT_ERR_LIMIT);

    uint8_t *large = calloc(1, RT_ENVELOPE_BYTES_MAX + 1);
    assert_int_equal(rt_envelope_unpack(large, RT_ENVELOPE_BYTES_MAX + 1, arena, &got, &error),
                     RT_ERR_LIMIT);
    free(large);
    rt_arena_free(&arena);
}

/* Flipped bits must give a refusal or a message that can be walked, never a crash. */
static void test_flipped_bits(void **state)
{
    (void)state;
    uint8_t packed[512], changed[512];
    Retake__Hello hello;
    Retake__Envelope sent = hello_envelope(&hello);
    const size_t bytes = pack(&sent, packed, sizeof(packed));
    rt_arena *arena = rt_arena_new(4096);
    int refused = 0;
    for (size_t bit = 0; bit < bytes * 8; bit++) {
        memcpy(changed, packed, bytes);
        changed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        const Retake__Envelope *got;
        if (unpack(changed, bytes, arena, &got, NULL) != RT_OK)
            refused++;
        else
            assert_true(strlen(got->sender) <= RT_SENDER_BYTES_MAX);
        rt_arena_reset(arena);
    }
    assert_true(refused > 0);
    rt_arena_free(&arena);
}

/* protobuf-c unpacks nested messages by recursion without a limit: only an acyclic schema bounds it. */
static int depth_of(const ProtobufCMessageDescriptor *message, int above)
{
    assert_true(above < 16);
    int deepest = 1;
    for (unsigned i = 0; i < message->n_fields; i++) {
        if (message->fields[i].type != PROTOBUF_C_TYPE_MESSAGE)
            continue;
        const int below = depth_of(message->fields[i].descriptor, above + 1);
        deepest = RT_MAX(deepest, below + 1);
    }
    return deepest;
}

static void test_schema_is_acyclic(void **state)
{
    (void)state;
    assert_int_equal(depth_of(&retake__envelope__descriptor, 0), 3); /* Envelope, Lease, Sampling */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_flipped_bits),
        cmocka_unit_test(test_schema_is_acyclic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
