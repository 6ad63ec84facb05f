/* The envelope: every limit that can be checked on the bytes is checked before they are unpacked. */
#include <string.h>

#include "proto/proto.h"

static void *arena_alloc(void *context, size_t bytes)
{
    return rt_arena_alloc(context, bytes);
}

static void arena_free(void *context, void *pointer)
{
    (void)context; /* all of a message ends with the arena's reset */
    (void)pointer;
}

static int wrong_protocol(uint64_t theirs, rt_error *err)
{
    return rt_fail(err, RT_ERR_PEER,
                   "message of protocol %llu, this program speaks protocol %d (retake %s); run the "
                   "same build on both sides",
                   (unsigned long long)theirs, RT_PROTOCOL, RT_VERSION);
}

/* Field 1 is written first by every protobuf library, so a message of another protocol version can
 * be named as such even where the rest of it no longer unpacks. False: field 1 is not there. */
static bool peek_protocol(const uint8_t *data, size_t bytes, uint64_t *protocol)
{
    if (bytes < 2 || data[0] != 0x08)
        return false;
    uint64_t value = 0;
    for (size_t i = 1; i < bytes && i <= 10; i++) {
        value |= (uint64_t)(data[i] & 0x7f) << RT_MIN(7 * (i - 1), (size_t)63);
        if (!(data[i] & 0x80)) {
            *protocol = value;
            return true;
        }
    }
    return false;
}

static bool hash_size_ok(ProtobufCBinaryData hash, bool may_be_empty)
{
    return hash.len == sizeof(rt_hash128) || (may_be_empty && hash.len == 0);
}

/* Hashes are read by memcpy of 16 bytes everywhere, so their size is settled here. */
static bool hashes_ok(const Retake__Envelope *envelope)
{
    switch (envelope->kind_case) {
    case RETAKE__ENVELOPE__KIND_HELLO:
        return hash_size_ok(envelope->hello->weights_hash, true);
    case RETAKE__ENVELOPE__KIND_LEASE:
        return hash_size_ok(envelope->lease->weights_hash, false);
    case RETAKE__ENVELOPE__KIND_RESULT:
        return hash_size_ok(envelope->result->weights_hash, true);
    case RETAKE__ENVELOPE__KIND_ANNOUNCE:
        return hash_size_ok(envelope->announce->hash, false);
    case RETAKE__ENVELOPE__KIND_STEP_DONE:
        return hash_size_ok(envelope->step_done->hash, true);
    default:
        return true;
    }
}

/* A oneof arm can be set to nothing only by our own mistake; unpacking never does it. All arms are
 * pointers to messages in one union, so one of them stands for all. */
static bool kind_set(const Retake__Envelope *envelope)
{
    return envelope->kind_case != RETAKE__ENVELOPE__KIND__NOT_SET && envelope->hello != NULL;
}

int rt_envelope_unpack(const void *data, size_t bytes, rt_arena *arena,
                       const Retake__Envelope **envelope, rt_error *err)
{
    *envelope = NULL;
    if (bytes > RT_ENVELOPE_BYTES_MAX)
        return rt_fail(err, RT_ERR_LIMIT, "message of %zu bytes, at most %d are read", bytes,
                       RT_ENVELOPE_BYTES_MAX);
    uint64_t protocol = 0;
    if (peek_protocol(data, bytes, &protocol) && protocol != RT_PROTOCOL)
        return wrong_protocol(protocol, err);
    ProtobufCAllocator allocator = {arena_alloc, arena_free, arena};
    Retake__Envelope *got = retake__envelope__unpack(&allocator, bytes, data);
    if (!got)
        return rt_fail(err, RT_ERR_INPUT,
                       "%zu bytes that are no retake message; is another program using this port?",
                       bytes);
    if (got->protocol != RT_PROTOCOL)
        return wrong_protocol(got->protocol, err);
    if (strlen(got->sender) > RT_SENDER_BYTES_MAX)
        return rt_fail(err, RT_ERR_LIMIT, "sender name of %zu bytes, at most %d are read",
                       strlen(got->sender), RT_SENDER_BYTES_MAX);
    if (!kind_set(got))
        return rt_fail(err, RT_ERR_INPUT, "message without a known kind from '%s'", got->sender);
    if (!hashes_ok(got))
        return rt_fail(err, RT_ERR_INPUT, "message from '%s' with a weights hash not 16 bytes long",
                       got->sender);
    *envelope = got;
    return RT_OK;
}
