/* Any bytes as an envelope: a refusal, or a message every field of which can be read. */
#include <string.h>

#include "proto/proto.h"

static size_t walk(const ProtobufCMessage *message)
{
    return protobuf_c_message_get_packed_size(message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static rt_arena *arena;
    if (!arena)
        arena = rt_arena_new(1 << 16);
    const Retake__Envelope *envelope;
    rt_error error = {0};
    if (rt_envelope_unpack(data, bytes, arena, &envelope, &error) == RT_OK) {
        RT_ASSERT(walk(&envelope->base) > 0 && strlen(envelope->sender) <= RT_SENDER_BYTES_MAX);
        RT_ASSERT(envelope->protocol == RT_PROTOCOL);
    } else {
        RT_ASSERT(envelope == NULL && error.message[0] != 0);
    }
    rt_arena_reset(arena);
    return 0;
}
