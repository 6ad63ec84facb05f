/*
 * A libzmq socket on a libuv loop. ZMQ_FD is edge-triggered and says only "look again", so the loop
 * looks before and after every sleep: prepare keeps it from sleeping while there is something to
 * read (an idle handle makes the sleep zero), check reads, the poll handle only ends the sleep.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/proto.h"

#define MESSAGES_A_TURN 64
#define FRAME_ALIGNMENT 8 /* raw frames are read as int32, float and double arrays */
#define ARENA_BLOCK_BYTES (16u << 10)
#define QUEUE_MESSAGES 4096 /* of one peer and direction */
#define RECONNECT_MS 100
#define RECONNECT_MS_MAX 2000
#define TRANSPORT_PING_MS 2000
#define TRANSPORT_GONE_MS 10000

struct rt_socket {
    void *zmq; /* NULL once closed */
    int type;
    bool raw;
    char *sender, *endpoint;
    uint64_t incarnation, run, sequence;
    rt_message_cb *on_message;
    rt_reject_cb *on_reject;
    rt_turn_cb *on_turn;
    void *context;
    rt_arena *arena; /* of the message in hand */
    uint8_t *packed; /* scratch for sending */
    size_t packed_bytes;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;
    uv_poll_t poll;
    int handles_open;
};

/* Frames as they came: [peer] [envelope] raw…; more than fit are counted and thrown away. */
typedef struct received {
    zmq_msg_t frames[RT_FRAMES_MAX + 2];
    int count, dropped;
} received;

/* ---- receiving ----------------------------------------------------------------------------- */

static bool readable(const rt_socket *socket)
{
    int events = 0;
    size_t bytes = sizeof(events);
    return socket->zmq && zmq_getsockopt(socket->zmq, ZMQ_EVENTS, &events, &bytes) == 0 &&
           (events & ZMQ_POLLIN);
}

static void parts_close(received *parts)
{
    for (int i = 0; i < parts->count; i++)
        zmq_msg_close(&parts->frames[i]);
    parts->count = 0;
}

/* False: nothing there. Frames of one message arrive together, so none is waited for. */
static bool parts_receive(rt_socket *socket, received *parts)
{
    parts->count = parts->dropped = 0;
    for (bool more = true; more;) {
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        if (zmq_msg_recv(&frame, socket->zmq, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&frame);
            parts_close(parts);
            return false;
        }
        more = zmq_msg_more(&frame);
        if (parts->count < (int)RT_COUNT(parts->frames)) {
            zmq_msg_t *kept = &parts->frames[parts->count++];
            zmq_msg_init(kept);
            zmq_msg_move(kept, &frame);
        } else {
            parts->dropped++;
        }
        zmq_msg_close(&frame);
    }
    return true;
}

/* Small frames lie anywhere in libzmq's receive buffer; those are copied to an aligned place. */
static rt_frame frame_of(rt_socket *socket, zmq_msg_t *part)
{
    rt_frame frame = {zmq_msg_data(part), zmq_msg_size(part)};
    if ((uintptr_t)frame.data % FRAME_ALIGNMENT != 0 && frame.bytes > 0) {
        void *copy = rt_arena_alloc(socket->arena, frame.bytes);
        memcpy(copy, frame.data, frame.bytes);
        frame.data = copy;
    }
    return frame;
}

static int message_of(rt_socket *socket, received *parts, rt_message *message, rt_error *err)
{
    int at = 0;
    if (socket->type == ZMQ_ROUTER) {
        message->peer_bytes = zmq_msg_size(&parts->frames[0]);
        if (message->peer_bytes > sizeof(message->peer))
            return rt_fail(err, RT_ERR_LIMIT, "a peer's name has %zu bytes, at most %zu are read",
                           message->peer_bytes, sizeof(message->peer));
        memcpy(message->peer, zmq_msg_data(&parts->frames[0]), message->peer_bytes);
        at = 1;
    }
    if (!socket->raw) {
        if (at == parts->count)
            return rt_fail(err, RT_ERR_INPUT, "a message without an envelope");
        zmq_msg_t *part = &parts->frames[at++];
        const int code = rt_envelope_unpack(zmq_msg_data(part), zmq_msg_size(part), socket->arena,
                                            &message->envelope, err);
        if (code != RT_OK)
            return code;
    }
    if (parts->dropped > 0 || parts->count - at > RT_FRAMES_MAX)
        return rt_fail(err, RT_ERR_LIMIT, "a message of %d frames, at most %d are read",
                       parts->count + parts->dropped - at, RT_FRAMES_MAX);
    while (at < parts->count) {
        if (zmq_msg_size(&parts->frames[at]) > RT_FRAME_BYTES_MAX)
            return rt_fail(err, RT_ERR_LIMIT, "a frame of %zu bytes, at most %u are read",
                           zmq_msg_size(&parts->frames[at]), RT_FRAME_BYTES_MAX);
        message->frames[message->frames_count++] = frame_of(socket, &parts->frames[at++]);
    }
    return RT_OK;
}

static void on_check(uv_check_t *handle)
{
    rt_socket *socket = handle->data;
    uv_idle_stop(&socket->idle);
    /* A callback may close the socket; its memory stays until the loop has closed the handles. */
    int taken = 0;
    for (; taken < MESSAGES_A_TURN && readable(socket); taken++) {
        received parts;
        if (!parts_receive(socket, &parts))
            break;
        rt_message message = {0};
        rt_error error = {0};
        const int code = message_of(socket, &parts, &message, &error);
        if (code == RT_OK) {
            socket->on_message(socket->context, socket, &message);
        } else if (socket->on_reject) {
            rt_error_prefix(&error, "%s", socket->endpoint);
            socket->on_reject(socket->context, socket, &error);
        }
        parts_close(&parts);
        rt_arena_reset(socket->arena);
    }
    if (taken > 0 && socket->on_turn && socket->zmq)
        socket->on_turn(socket->context);
}

static void on_idle(uv_idle_t *handle)
{
    (void)handle; /* being active is its work: the loop does not sleep */
}

static void on_prepare(uv_prepare_t *handle)
{
    rt_socket *socket = handle->data;
    if (readable(socket))
        uv_idle_start(&socket->idle, on_idle);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    (void)handle;
    (void)status;
    (void)events;
}

/* ---- opening and closing ------------------------------------------------------------------- */

static void set_int(void *zmq, int option, int value)
{
    RT_ASSERT(zmq_setsockopt(zmq, option, &value, sizeof(value)) == 0);
}

static void set_options(void *zmq, const rt_socket_options *options)
{
    set_int(zmq, ZMQ_LINGER, 0);
    set_int(zmq, ZMQ_SNDHWM, QUEUE_MESSAGES);
    set_int(zmq, ZMQ_RCVHWM, QUEUE_MESSAGES);
    set_int(zmq, ZMQ_RECONNECT_IVL, RECONNECT_MS);
    set_int(zmq, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MS_MAX);
    if (strchr(options->endpoint, '['))
        set_int(zmq, ZMQ_IPV6, 1);
    if (strncmp(options->endpoint, "inproc:", 7) != 0) {
        const int64_t frame_bytes_max = RT_FRAME_BYTES_MAX;
        RT_ASSERT(zmq_setsockopt(zmq, ZMQ_MAXMSGSIZE, &frame_bytes_max, sizeof(int64_t)) == 0);
    }
    /* A machine that vanished sends no FIN: without this the kernel holds on for a quarter hour. */
    if (strncmp(options->endpoint, "tcp:", 4) == 0) {
        set_int(zmq, ZMQ_HEARTBEAT_IVL, TRANSPORT_PING_MS);
        set_int(zmq, ZMQ_HEARTBEAT_TIMEOUT, TRANSPORT_GONE_MS);
    }
    if (options->type == ZMQ_ROUTER) {
        set_int(zmq, ZMQ_ROUTER_MANDATORY, 1);
        set_int(zmq, ZMQ_ROUTER_HANDOVER, 1);
    }
    if (options->type == ZMQ_DEALER && options->sender && *options->sender)
        RT_ASSERT(zmq_setsockopt(zmq, ZMQ_ROUTING_ID, options->sender,
                                 strlen(options->sender)) == 0);
    if (options->type == ZMQ_SUB)
        RT_ASSERT(zmq_setsockopt(zmq, ZMQ_SUBSCRIBE, "", 0) == 0);
}

/* libzmq takes an ipc name away from whoever listens there; ask first whether somebody does. */
static bool ipc_in_use(const char *endpoint)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strncmp(endpoint, "ipc://", 6) != 0 || strlen(endpoint + 6) >= sizeof(address.sun_path))
        return false;
    memcpy(address.sun_path, endpoint + 6, strlen(endpoint + 6));
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    const bool answered = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ||
                          errno == EAGAIN;
    close(fd);
    return answered;
}

static int attach(void *zmq, const rt_socket_options *options, rt_error *err)
{
    if (!options->bind) {
        if (zmq_connect(zmq, options->endpoint) == 0)
            return RT_OK;
        return rt_fail(err, errno == EINVAL ? RT_ERR_USAGE : RT_ERR_IO, "cannot connect to %s: %s",
                       options->endpoint, zmq_strerror(errno));
    }
    const bool taken = ipc_in_use(options->endpoint);
    if (!taken && zmq_bind(zmq, options->endpoint) == 0)
        return RT_OK;
    if (taken || errno == EADDRINUSE)
        return rt_fail(err, RT_ERR_IO,
                       "cannot bind %s: address in use; stop the other run or set %s",
                       options->endpoint,
                       strncmp(options->endpoint, "ipc:", 4) == 0 ? "another run.dir"
                                                                  : "coordinator.port");
    return rt_fail(err, errno == EINVAL ? RT_ERR_USAGE : RT_ERR_IO,
                   "cannot bind %s: %s; set coordinator.address to an address of this machine",
                   options->endpoint, zmq_strerror(errno));
}

static void on_handle_closed(uv_handle_t *handle)
{
    rt_socket *socket = handle->data;
    if (--socket->handles_open > 0)
        return;
    rt_arena_free(&socket->arena);
    rt_free(socket->packed);
    rt_free(socket->sender);
    rt_free(socket->endpoint);
    rt_free(socket);
}

static int watch(rt_socket *socket, uv_loop_t *loop, rt_error *err)
{
    int fd = -1;
    size_t bytes = sizeof(fd);
    RT_ASSERT(zmq_getsockopt(socket->zmq, ZMQ_FD, &fd, &bytes) == 0);
    const int code = uv_poll_init(loop, &socket->poll, fd);
    if (code != 0)
        return rt_fail(err, RT_ERR_IO, "cannot watch %s: %s", socket->endpoint, uv_strerror(code));
    uv_prepare_init(loop, &socket->prepare);
    uv_check_init(loop, &socket->check);
    uv_idle_init(loop, &socket->idle);
    socket->prepare.data = socket->check.data = socket->idle.data = socket->poll.data = socket;
    socket->handles_open = 4;
    uv_prepare_start(&socket->prepare, on_prepare);
    uv_check_start(&socket->check, on_check);
    uv_poll_start(&socket->poll, UV_READABLE, on_poll);
    return RT_OK;
}

int rt_socket_open(rt_socket **socket, uv_loop_t *loop, void *zmq,
                   const rt_socket_options *options, rt_error *err)
{
    RT_ASSERT(options->on_message != NULL && options->endpoint != NULL);
    const size_t sender_bytes = options->sender ? strlen(options->sender) : 0;
    /* libzmq keeps names that begin with a zero byte for itself; an empty one means none. */
    if (sender_bytes > RT_SENDER_BYTES_MAX)
        return rt_fail(err, RT_ERR_USAGE, "the name '%.20s…' has %zu bytes, at most %d are allowed",
                       options->sender, sender_bytes, RT_SENDER_BYTES_MAX);
    void *opened = zmq_socket(zmq, options->type);
    if (!opened)
        return rt_fail(err, RT_ERR_IO, "cannot make a socket for %s: %s", options->endpoint,
                       zmq_strerror(errno));
    set_options(opened, options);
    int code = attach(opened, options, err);
    if (code != RT_OK) {
        zmq_close(opened);
        return code;
    }
    char last[512] = "";
    size_t bytes = sizeof(last);
    zmq_getsockopt(opened, ZMQ_LAST_ENDPOINT, last, &bytes);
    rt_socket *made = rt_alloc(sizeof(*made));
    made->zmq = opened;
    made->type = options->type;
    made->raw = options->raw;
    made->sender = rt_strdup(options->sender ? options->sender : "");
    made->endpoint = rt_strdup(*last ? last : options->endpoint);
    made->incarnation = options->incarnation;
    made->on_message = options->on_message;
    made->on_reject = options->on_reject;
    made->on_turn = options->on_turn;
    made->context = options->context;
    made->arena = rt_arena_new(ARENA_BLOCK_BYTES);
    code = watch(made, loop, err);
    if (code != RT_OK) {
        zmq_close(opened);
        made->handles_open = 1;
        on_handle_closed(&(uv_handle_t){.data = made});
        return code;
    }
    *socket = made;
    return RT_OK;
}

void rt_socket_close(rt_socket **socket, int linger_ms)
{
    rt_socket *gone = *socket;
    if (!gone)
        return;
    *socket = NULL;
    /* The descriptor ends with zmq_close, so the loop must have let go of it before. */
    uv_poll_stop(&gone->poll);
    set_int(gone->zmq, ZMQ_LINGER, linger_ms);
    zmq_close(gone->zmq);
    gone->zmq = NULL;
    uv_close((uv_handle_t *)&gone->prepare, on_handle_closed);
    uv_close((uv_handle_t *)&gone->check, on_handle_closed);
    uv_close((uv_handle_t *)&gone->idle, on_handle_closed);
    uv_close((uv_handle_t *)&gone->poll, on_handle_closed);
}

void rt_socket_set_run(rt_socket *socket, uint64_t run)
{
    socket->run = run;
}

const char *rt_socket_endpoint(const rt_socket *socket)
{
    return socket->endpoint;
}

/* ---- sending ------------------------------------------------------------------------------- */

static int send_failed(const rt_socket *socket, rt_error *err)
{
    if (errno == EAGAIN)
        return rt_fail(err, RT_ERR_LIMIT, "%s: the queue to the peer is full", socket->endpoint);
    if (errno == EHOSTUNREACH)
        return rt_fail(err, RT_ERR_PEER, "%s: the peer is gone", socket->endpoint);
    return rt_fail(err, RT_ERR_IO, "%s: cannot send: %s", socket->endpoint, zmq_strerror(errno));
}

static int send_frames(rt_socket *socket, const rt_frame *frames, int count, rt_error *err)
{
    int code = RT_OK;
    for (int i = 0; i < count; i++) {
        const int flags = ZMQ_DONTWAIT | (i + 1 < count ? ZMQ_SNDMORE : 0);
        if (zmq_send(socket->zmq, frames[i].data, frames[i].bytes, flags) >= 0)
            continue;
        if (code == RT_OK)
            code = send_failed(socket, err);
        /* The connection broke within a message: libzmq swallows frames up to the last one, which
         * must be this message's, not the next one's. */
        if (i == 0)
            break;
    }
    return code;
}

static int check_frames(const rt_frame *frames, int count, rt_error *err)
{
    if (count > RT_FRAMES_MAX)
        return rt_fail(err, RT_ERR_LIMIT, "a message of %d frames, at most %d can be sent", count,
                       RT_FRAMES_MAX);
    for (int i = 0; i < count; i++)
        if (frames[i].bytes > RT_FRAME_BYTES_MAX)
            return rt_fail(err, RT_ERR_LIMIT, "a frame of %zu bytes, at most %u can be sent",
                           frames[i].bytes, RT_FRAME_BYTES_MAX);
    return RT_OK;
}

int rt_socket_send(rt_socket *socket, const void *peer, size_t peer_bytes,
                   Retake__Envelope *envelope, const rt_frame *frames, int frames_count,
                   rt_error *err)
{
    RT_ASSERT(!socket->raw && (socket->type == ZMQ_ROUTER) == (peer != NULL));
    int code = check_frames(frames, frames_count, err);
    if (code != RT_OK)
        return code;
    envelope->protocol = RT_PROTOCOL;
    envelope->run = socket->run;
    envelope->sender = socket->sender;
    envelope->incarnation = socket->incarnation;
    envelope->sequence = socket->sequence + 1;
    const size_t bytes = retake__envelope__get_packed_size(envelope);
    if (bytes > RT_ENVELOPE_BYTES_MAX)
        return rt_fail(err, RT_ERR_LIMIT, "a message of %zu bytes, at most %d can be sent", bytes,
                       RT_ENVELOPE_BYTES_MAX);
    if (bytes > socket->packed_bytes) {
        rt_free(socket->packed);
        socket->packed_bytes = RT_MAX(bytes, (size_t)4096);
        socket->packed = rt_alloc(socket->packed_bytes);
    }
    retake__envelope__pack(envelope, socket->packed);
    rt_frame all[RT_FRAMES_MAX + 2];
    int count = 0;
    if (peer)
        all[count++] = (rt_frame){peer, peer_bytes};
    all[count++] = (rt_frame){socket->packed, bytes};
    for (int i = 0; i < frames_count; i++)
        all[count++] = frames[i];
    code = send_frames(socket, all, count, err);
    if (code == RT_OK)
        socket->sequence++;
    return code;
}

int rt_socket_send_raw(rt_socket *socket, const rt_frame *frames, int frames_count, rt_error *err)
{
    const int code = check_frames(frames, frames_count, err);
    return code == RT_OK ? send_frames(socket, frames, frames_count, err) : code;
}
