/*
 * proto: messages between roles: the envelope, libzmq sockets on a libuv loop, chunked weight
 * blobs, heartbeats. Knows nothing of models or tasks.
 *
 * Threading: a loop thread owns its sockets; compute threads talk to it through rt_mailbox.
 * Ownership: a received rt_message borrows its frames until the callback returns; sent frames are
 * copied unless a function says *takes*.
 */
#ifndef RT_PROTO_H
#define RT_PROTO_H

#include <uv.h>
#include <zmq.h>

#include "base/base.h"
#include "base/config.h"
#include "proto/retake.pb-c.h"

#define RT_PROTOCOL 1
#define RT_VERSION "0.1.0"
#define RT_FRAMES_MAX 8
#define RT_ENVELOPE_BYTES_MAX (1 << 20)   /* control message, before unpacking */
#define RT_FRAME_BYTES_MAX (256u << 20)   /* one raw frame */
#define RT_SENDER_BYTES_MAX 64

/* ---- messages ------------------------------------------------------------------------------ */

typedef struct rt_frame {
    const void *data;
    size_t bytes;
} rt_frame;

/* A checked, unpacked message: limits hold, protocol version equals ours, kind is set. */
typedef struct rt_message {
    const Retake__Envelope *envelope; /* NULL: raw socket; its hashes have 16 bytes */
    rt_frame frames[RT_FRAMES_MAX]; /* raw frames behind the envelope, aligned to 8 bytes */
    int frames_count;
    uint8_t peer[64];               /* ROUTER: routing id of the sender */
    size_t peer_bytes;
} rt_message;

/* Unpacks one envelope into arena (freed by resetting it). Refuses oversized, foreign-version and
 * kindless messages with a sentence. */
int rt_envelope_unpack(const void *data, size_t bytes, rt_arena *arena,
                       const Retake__Envelope **envelope, rt_error *err);

/* ---- sockets on the loop ------------------------------------------------------------------- */

/* A libzmq socket driven by a libuv loop through prepare + check + idle around ZMQ_EVENTS (a bare
 * uv_poll callback loses wake-ups). At most 64 messages a turn, so other handles stay served. */
typedef struct rt_socket rt_socket;
typedef void rt_message_cb(void *context, rt_socket *socket, const rt_message *message);
/* Called for what can't be read as a message (fuzz, foreign programs): logged and dropped. */
typedef void rt_reject_cb(void *context, rt_socket *socket, const rt_error *error);
/* Called after a turn's messages: what several of them ask for is done once, here. */
typedef void rt_turn_cb(void *context);

typedef struct rt_socket_options {
    int type;                  /* ZMQ_ROUTER, ZMQ_DEALER, ZMQ_REP, ZMQ_PUB, … */
    const char *endpoint;
    bool bind;
    const char *sender;        /* our name: envelope sender and routing id of a DEALER; copies */
    uint64_t incarnation;
    bool raw;                  /* no envelope: message.frames only (stats REP) */
    rt_message_cb *on_message;
    rt_reject_cb *on_reject;   /* may be NULL */
    rt_turn_cb *on_turn;       /* may be NULL */
    void *context;             /* borrows */
} rt_socket_options;

/* Bind errors name the endpoint ("address in use: …"). zmq is a zmq_ctx; borrows loop and zmq. */
int rt_socket_open(rt_socket **socket, uv_loop_t *loop, void *zmq,
                   const rt_socket_options *options, rt_error *err);
/* Fills protocol, run, sender, incarnation, sequence and sends envelope + raw frames. peer: routing id for a
 * ROUTER (NULL otherwise). A gone peer is RT_ERR_PEER, a full queue RT_ERR_LIMIT: never blocks. A
 * DEALER that is not connected (yet) queues, so that a first Hello leaves as soon as it can. */
int rt_socket_send(rt_socket *socket, const void *peer, size_t peer_bytes,
                   Retake__Envelope *envelope, const rt_frame *frames, int frames_count,
                   rt_error *err);
/* Sends plain frames without an envelope (stats). */
int rt_socket_send_raw(rt_socket *socket, const rt_frame *frames, int frames_count, rt_error *err);
void rt_socket_set_run(rt_socket *socket, uint64_t run);
/* Stops the handles and closes with linger_ms; the loop must still turn once for uv_close. */
void rt_socket_close(rt_socket **socket, int linger_ms);
/* Endpoint really bound (tcp://…:* gets its port). */
const char *rt_socket_endpoint(const rt_socket *socket);

/* ---- endpoints of a run -------------------------------------------------------------------- */

/* which: "work", "blob", "learner", "stats", "events". With coordinator.address "": ipc below the run
 * folder (below /tmp with a hash where the path would be too long for a socket name); else
 * tcp://HOST:(port + 0…4). bind: the coordinator's side. Makes the folder. */
int rt_endpoint(const rt_config *config, const char *which, bool bind, rt_buf *out, rt_error *err);

/* ---- mailbox: a compute thread talks to the loop thread ------------------------------------ */

/* One ring in each direction; the loop is woken by uv_async_send, the compute thread by a
 * condition variable. Items are pointers; each side owns what it popped. */
typedef struct rt_mailbox rt_mailbox;
typedef void rt_mailbox_cb(void *context); /* on the loop thread: drain with rt_mailbox_from_compute */
int rt_mailbox_new(rt_mailbox **mailbox, uv_loop_t *loop, rt_mailbox_cb *on_item, void *context,
                   rt_error *err);
bool rt_mailbox_to_compute(rt_mailbox *mailbox, void *item);   /* loop thread; false: full */
void *rt_mailbox_from_compute(rt_mailbox *mailbox);            /* loop thread; NULL: empty */
bool rt_mailbox_to_loop(rt_mailbox *mailbox, void *item);      /* compute thread */
/* compute thread; waits up to timeout_ms (0: does not wait) */
void *rt_mailbox_from_loop(rt_mailbox *mailbox, int timeout_ms);
void rt_mailbox_close(rt_mailbox **mailbox); /* loop thread, compute thread joined */

/* ---- chunked blobs ------------------------------------------------------------------------- */

/* Receiving side of one weights version: asks for chunks within a window, checks each chunk's hash
 * and the whole blob's, resumes where it was after a lost request. Transport-free: it says what
 * to ask, the caller sends. */
typedef struct rt_fetch rt_fetch;
/* into: `bytes` of memory that outlives the fetch (borrows). NULL: bytes, chunk_bytes or window are
 * 0, or more than 16 million chunks. hash: of the bytes alone (rt_hash), not of the model. */
rt_fetch *rt_fetch_new(int64_t version, uint64_t bytes, uint32_t chunk_bytes, rt_hash128 hash,
                       int window, void *into);
/* Next request to send, false: the window is full or everything is asked for. */
bool rt_fetch_next(rt_fetch *fetch, uint32_t *first, uint32_t *count);
/* Takes in one chunk; unknown and repeated ones are ignored; wrong hash: asked for again. Returns 1 when
 * complete and verified, 0 when not yet, negative when the whole hash is wrong. */
int rt_fetch_chunk(rt_fetch *fetch, uint32_t index, uint64_t chunk_hash, const void *data,
                   size_t bytes, rt_error *err);
void rt_fetch_timeout(rt_fetch *fetch); /* asks again for all that is outstanding */
double rt_fetch_done(const rt_fetch *fetch); /* share in [0, 1] */
int64_t rt_fetch_version(const rt_fetch *fetch);
void rt_fetch_free(rt_fetch **fetch);
/* Sending side: frame and hash of chunk `index` of a blob; false: no such chunk. */
bool rt_chunk_of(const void *blob, uint64_t bytes, uint32_t chunk_bytes, uint32_t index,
                 rt_frame *frame, uint64_t *hash);

/* ---- liveness ------------------------------------------------------------------------------ */

/* Ping-pong bookkeeping of one peer: any traffic counts as a sign of life. */
typedef struct rt_liveness {
    int64_t heard_ns, pinged_ns;
    uint32_t heartbeat_ms, liveness;
} rt_liveness;
void rt_liveness_init(rt_liveness *peer, uint32_t heartbeat_ms, uint32_t liveness, int64_t now_ns);
void rt_liveness_heard(rt_liveness *peer, int64_t now_ns);
bool rt_liveness_ping_due(rt_liveness *peer, int64_t now_ns); /* true at most once an interval */
bool rt_liveness_gone(const rt_liveness *peer, int64_t now_ns);

#endif
