/* Heartbeat bookkeeping: times come in as arguments, so that a test needs no waiting. */
#include "proto/proto.h"

void rt_liveness_init(rt_liveness *peer, uint32_t heartbeat_ms, uint32_t liveness, int64_t now_ns)
{
    peer->heard_ns = now_ns;
    peer->pinged_ns = now_ns;
    peer->heartbeat_ms = RT_MAX(heartbeat_ms, 1u);
    peer->liveness = RT_MAX(liveness, 1u);
}

void rt_liveness_heard(rt_liveness *peer, int64_t now_ns)
{
    peer->heard_ns = now_ns;
}

bool rt_liveness_ping_due(rt_liveness *peer, int64_t now_ns)
{
    if (now_ns - peer->pinged_ns < (int64_t)peer->heartbeat_ms * 1000000)
        return false;
    peer->pinged_ns = now_ns;
    return true;
}

bool rt_liveness_gone(const rt_liveness *peer, int64_t now_ns)
{
    return now_ns - peer->heard_ns > (int64_t)peer->heartbeat_ms * peer->liveness * 1000000;
}
