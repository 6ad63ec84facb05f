/* Sockets on one loop: order and fairness under load, gone and returning peers, raw REP, binding. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/proto.h"

enum { MESSAGES = 20000, TURNS_MAX = 2000000 };

typedef struct end {
    rt_socket *socket;
    uint64_t received, sent, rejected;
    uint64_t turns, turned; /* ends of turns; messages before the last of them */
    uint64_t turn_most;     /* messages of one turn at most */
    uint64_t last[2]; /* sequence last seen of each sender */
    uint64_t gap_max; /* largest lead of one sender over the other while both had work */
    bool in_order;
    uint8_t peer[64];
    size_t peer_bytes;
    uint64_t incarnation;
    char text[64];
    rt_error error;
} end;

typedef struct world {
    uv_loop_t loop;
    uv_timer_t timer;
    void *zmq;
    int ticks;
    char dir[64];
    rt_socket *sockets[8]; /* open ones: a failed test leaves them to teardown */
} world;

static void on_tick(uv_timer_t *timer)
{
    ((world *)timer->data)->ticks++;
}

static int setup(void **state)
{
    world *w = calloc(1, sizeof(*w));
    w->zmq = zmq_ctx_new();
    snprintf(w->dir, sizeof(w->dir), "/tmp/rt-socket-test-XXXXXX");
    if (!mkdtemp(w->dir) || uv_loop_init(&w->loop) != 0)
        return -1;
    uv_timer_init(&w->loop, &w->timer);
    w->timer.data = w;
    uv_timer_start(&w->timer, on_tick, 1, 1);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world *w = *state;
    for (size_t i = 0; i < RT_COUNT(w->sockets); i++)
        rt_socket_close(&w->sockets[i], 0);
    uv_close((uv_handle_t *)&w->timer, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    const int open_handles = uv_loop_close(&w->loop);
    zmq_ctx_term(w->zmq);
    rt_remove_tree(w->dir, NULL);
    free(w);
    return open_handles;
}

static void on_message(void *context, rt_socket *socket, const rt_message *message)
{
    end *e = context;
    (void)socket;
    e->received++;
    memcpy(e->peer, message->peer, message->peer_bytes);
    e->peer_bytes = message->peer_bytes;
    if (!message->envelope) {
        snprintf(e->text, sizeof(e->text), "%.*s", (int)message->frames[0].bytes,
                 (const char *)message->frames[0].data);
        return;
    }
    e->incarnation = message->envelope->incarnation;
    const int who = message->envelope->sender[0] == 'b';
    e->in_order &= message->envelope->sequence == e->last[who] + 1;
    e->last[who] = message->envelope->sequence;
    if (e->last[0] < MESSAGES / 2 && e->last[1] < MESSAGES / 2 && e->last[0] && e->last[1])
        e->gap_max = RT_MAX(e->gap_max, e->last[0] > e->last[1] ? e->last[0] - e->last[1]
                                                                 : e->last[1] - e->last[0]);
    if (message->frames_count == 2) {
        int32_t id;
        memcpy(&id, message->frames[1].data, sizeof(id));
        e->in_order &= id == (int32_t)e->last[who] && message->frames[0].bytes == 3 &&
                       (uintptr_t)message->frames[1].data % 8 == 0;
    }
}

static void on_reject(void *context, rt_socket *socket, const rt_error *error)
{
    (void)socket;
    ((end *)context)->rejected++;
    ((end *)context)->error = *error;
}

static void on_turn(void *context)
{
    end *e = context;
    e->turns++;
    e->turn_most = RT_MAX(e->turn_most, e->received - e->turned);
    e->turned = e->received;
}

static int open_end(world *w, end *e, int type, const char *endpoint, bool bind, const char *sender,
                    uint64_t incarnation, rt_error *err)
{
    const rt_socket_options options = {.type = type, .endpoint = endpoint, .bind = bind,
        .sender = sender, .incarnation = incarnation, .raw = type == ZMQ_REP || type == ZMQ_REQ,
        .on_message = on_message, .on_reject = on_reject, .on_turn = on_turn, .context = e};
    e->in_order = true;
    const int code = rt_socket_open(&e->socket, &w->loop, w->zmq, &options, err);
    for (size_t i = 0; code == RT_OK; i++)
        if (!w->sockets[i]) {
            w->sockets[i] = e->socket;
            break;
        }
    return code;
}

static int send_ping(end *e, const void *peer, size_t peer_bytes, bool frames, rt_error *err)
{
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    Retake__Pong pong = RETAKE__PONG__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_PONG;
    envelope.pong = &pong;
    const int32_t id = (int32_t)e->sent + 1;
    const rt_frame both[] = {{"abc", 3}, {&id, sizeof(id)}};
    return rt_socket_send(e->socket, peer, peer_bytes, &envelope, both, frames ? 2 : 0, err);
}

/* Turns the loop until *count reaches wanted; the timer makes every turn end. */
static void turn_until(world *w, const uint64_t *count, uint64_t wanted)
{
    for (int i = 0; i < TURNS_MAX && *count < wanted; i++)
        uv_run(&w->loop, UV_RUN_ONCE);
    assert_true(*count >= wanted);
}

static void close_end(world *w, end *e)
{
    for (size_t i = 0; i < RT_COUNT(w->sockets); i++)
        if (w->sockets[i] == e->socket)
            w->sockets[i] = NULL;
    rt_socket_close(&e->socket, 0);
    uv_run(&w->loop, UV_RUN_NOWAIT);
}

static void test_order_and_fairness(void **state)
{
    world *w = *state;
    end router = {0}, a = {0}, b = {0};
    char endpoint[128];
    snprintf(endpoint, sizeof(endpoint), "ipc://%s/work", w->dir);
    assert_int_equal(open_end(w, &router, ZMQ_ROUTER, endpoint, true, "coordinator", 1, NULL), 0);
    assert_int_equal(open_end(w, &a, ZMQ_DEALER, endpoint, false, "a", 1, NULL), 0);
    assert_int_equal(open_end(w, &b, ZMQ_DEALER, endpoint, false, "b", 1, NULL), 0);
    const int ticks_before = w->ticks;
    int turns = 0;
    while (router.received < MESSAGES) {
        assert_true(turns++ < TURNS_MAX);
        end *both[] = {&a, &b};
        for (int k = 0; k < 2; k++)
            for (int i = 0; i < 500 && both[k]->sent < MESSAGES / 2; i++) {
                if (send_ping(both[k], NULL, 0, true, NULL) != RT_OK)
                    break;
                both[k]->sent++;
            }
        uv_run(&w->loop, UV_RUN_ONCE);
    }
    assert_true(router.in_order);
    assert_int_equal(router.rejected, 0);
    assert_int_equal(router.received, MESSAGES);
    /* libzmq takes turns between peers message by message; a peer may be ahead by what the other
     * has not put into its pipe yet, at most a queue and two sending turns. */
    assert_true(router.gap_max <= 4096 + 2 * 500);
    assert_true(w->ticks > ticks_before + 3); /* 64 a turn: the timer was served between */
    /* No message is left without the end of a turn, and full turns end but once. */
    assert_int_equal(router.turned, MESSAGES);
    assert_int_equal(router.turn_most, 64);
    assert_true(router.turns >= MESSAGES / 64 && router.turns < MESSAGES);
    assert_int_equal(send_ping(&a, NULL, 0, true, NULL), RT_OK);
    turn_until(w, &router.turned, MESSAGES + 1);
    close_end(w, &a);
    close_end(w, &b);
    close_end(w, &router);
}

static void test_gone_peer_and_takeover(void **state)
{
    world *w = *state;
    end router = {0}, first = {0}, second = {0};
    rt_error error = {0};
    assert_int_equal(open_end(w, &router, ZMQ_ROUTER, "tcp://127.0.0.1:*", true, "c", 1, NULL), 0);
    const char *endpoint = rt_socket_endpoint(router.socket);
    assert_null(strchr(endpoint, '*'));
    assert_int_equal(send_ping(&router, "a", 1, false, &error), RT_ERR_PEER);
    assert_int_equal(open_end(w, &first, ZMQ_DEALER, endpoint, false, "a", 100, NULL), 0);
    assert_int_equal(send_ping(&first, NULL, 0, false, NULL), RT_OK);
    turn_until(w, &router.received, 1);
    assert_true(router.peer_bytes == 1 && router.peer[0] == 'a' && router.incarnation == 100);
    assert_int_equal(send_ping(&router, "a", 1, false, NULL), RT_OK);
    turn_until(w, &first.received, 1);
    assert_int_equal(send_ping(&router, "b", 1, false, &error), RT_ERR_PEER); /* nobody else */

    /* A new one of the same name while the old connection still stands. */
    assert_int_equal(open_end(w, &second, ZMQ_DEALER, endpoint, false, "a", 200, NULL), 0);
    assert_int_equal(send_ping(&second, NULL, 0, false, NULL), RT_OK);
    turn_until(w, &router.received, 2);
    assert_true(router.incarnation == 200);
    assert_int_equal(send_ping(&router, "a", 1, false, NULL), RT_OK);
    turn_until(w, &second.received, 1);
    assert_int_equal(first.received, 1);
    close_end(w, &first);
    close_end(w, &second);
    int code = RT_OK;
    for (int i = 0; i < 5000 && code == RT_OK; i++) {
        uv_run(&w->loop, UV_RUN_ONCE);
        code = send_ping(&router, "a", 1, false, &error);
    }
    assert_int_equal(code, RT_ERR_PEER);
    close_end(w, &router);
}

static void test_restart_of_the_binding_side(void **state)
{
    world *w = *state;
    end router = {0}, dealer = {0};
    char endpoint[128];
    snprintf(endpoint, sizeof(endpoint), "ipc://%s/again", w->dir);
    assert_int_equal(open_end(w, &dealer, ZMQ_DEALER, endpoint, false, "a", 1, NULL), 0);
    assert_int_equal(send_ping(&dealer, NULL, 0, false, NULL), RT_OK); /* waits for the other side */
    assert_int_equal(open_end(w, &router, ZMQ_ROUTER, endpoint, true, "c", 1, NULL), 0);
    turn_until(w, &router.received, 1);
    close_end(w, &router);
    int code = RT_ERR_IO; /* libzmq closes in a thread of its own: the name is free soon after */
    for (int i = 0; i < 5000 && code != RT_OK; i++) {
        uv_run(&w->loop, UV_RUN_ONCE);
        code = open_end(w, &router, ZMQ_ROUTER, endpoint, true, "c", 2, NULL);
    }
    assert_int_equal(code, RT_OK);
    for (int i = 0; i < 20000 && router.received < 2; i++) {
        uv_run(&w->loop, UV_RUN_ONCE);
        if (i % 100 == 0)
            send_ping(&dealer, NULL, 0, false, NULL); /* one may go down with the connection */
    }
    assert_true(router.received >= 2);
    assert_int_equal(send_ping(&router, "a", 1, false, NULL), RT_OK);
    turn_until(w, &dealer.received, 1);
    close_end(w, &dealer);
    close_end(w, &router);
}

static void test_raw_rep(void **state)
{
    world *w = *state;
    end rep = {0}, req = {0};
    assert_int_equal(open_end(w, &rep, ZMQ_REP, "tcp://127.0.0.1:*", true, NULL, 0, NULL), 0);
    assert_int_equal(open_end(w, &req, ZMQ_REQ, rt_socket_endpoint(rep.socket), false, NULL, 0, NULL),
                     0);
    for (uint64_t i = 1; i <= 3; i++) {
        assert_int_equal(rt_socket_send_raw(req.socket, &(rt_frame){"stats", 5}, 1, NULL), RT_OK);
        turn_until(w, &rep.received, i);
        assert_string_equal(rep.text, "stats");
        assert_int_equal(rt_socket_send_raw(rep.socket, &(rt_frame){"{\"step\":1}", 10}, 1, NULL), 0);
        turn_until(w, &req.received, i);
        assert_string_equal(req.text, "{\"step\":1}");
    }
    close_end(w, &rep);
    close_end(w, &req);
}

static void test_bind_twice(void **state)
{
    world *w = *state;
    end one = {0}, two = {0};
    rt_error error = {0};
    assert_int_equal(open_end(w, &one, ZMQ_ROUTER, "tcp://127.0.0.1:*", true, "c", 1, NULL), 0);
    const char *endpoint = rt_socket_endpoint(one.socket);
    assert_int_equal(open_end(w, &two, ZMQ_ROUTER, endpoint, true, "c", 1, &error), RT_ERR_IO);
    char wanted[200];
    snprintf(wanted, sizeof(wanted),
             "cannot bind %s: address in use; stop the other run or set coordinator.port", endpoint);
    assert_string_equal(error.message, wanted);
    close_end(w, &one);
    char ipc[128];
    snprintf(ipc, sizeof(ipc), "ipc://%s/twice", w->dir);
    assert_int_equal(open_end(w, &one, ZMQ_ROUTER, ipc, true, "c", 1, NULL), 0);
    assert_int_equal(open_end(w, &two, ZMQ_ROUTER, ipc, true, "c", 1, &error), RT_ERR_IO);
    assert_non_null(strstr(error.message, "address in use; stop the other run"));
    assert_int_not_equal(open_end(w, &two, ZMQ_ROUTER, "tcp://no port", true, "c", 1, &error), 0);
    close_end(w, &one);
}

/* A foreign program's bytes are named and dropped, what comes after is read. */
static void test_rejects(void **state)
{
    world *w = *state;
    end router = {0}, dealer = {0};
    char endpoint[128];
    snprintf(endpoint, sizeof(endpoint), "ipc://%s/rejects", w->dir);
    assert_int_equal(open_end(w, &router, ZMQ_ROUTER, endpoint, true, "c", 1, NULL), 0);
    void *foreign = zmq_socket(w->zmq, ZMQ_DEALER);
    assert_int_equal(zmq_connect(foreign, endpoint), 0);
    assert_true(zmq_send(foreign, "garbage", 7, 0) == 7);
    turn_until(w, &router.rejected, 1);
    assert_true(zmq_send(foreign, "\x08\x09zzz", 5, 0) == 5);
    turn_until(w, &router.rejected, 2);
    assert_non_null(strstr(router.error.message, "protocol 9"));
    assert_non_null(strstr(router.error.message, "protocol 1"));
    assert_int_equal(router.error.code, RT_ERR_PEER);
    for (int i = 0; i < 20; i++)
        assert_true(zmq_send(foreign, "\x08\x01zzz", i ? 1 : 5, i < 19 ? ZMQ_SNDMORE : 0) >= 0);
    turn_until(w, &router.rejected, 3);
    assert_int_equal(open_end(w, &dealer, ZMQ_DEALER, endpoint, false, "a", 1, NULL), 0);
    assert_int_equal(send_ping(&dealer, NULL, 0, true, NULL), RT_OK);
    turn_until(w, &router.received, 1);
    assert_true(router.in_order && router.rejected == 3);
    rt_frame many[RT_FRAMES_MAX + 1] = {{"x", 1}};
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    assert_int_equal(rt_socket_send(dealer.socket, NULL, 0, &envelope, many, RT_FRAMES_MAX + 1, NULL),
                     RT_ERR_LIMIT);
    zmq_setsockopt(foreign, ZMQ_LINGER, &(int){0}, sizeof(int));
    zmq_close(foreign);
    close_end(w, &dealer);
    close_end(w, &router);
}

static void test_endpoints(void **state)
{
    world *w = *state;
    rt_config config;
    memset(&config, 0, sizeof(config));
    rt_buf out = {0}, again = {0};
    rt_error error = {0};
    char dir[512];
    snprintf(dir, sizeof(dir), "%s/run", w->dir);
    config.run.dir = dir;
    config.coordinator.address = "";
    config.coordinator.port = 5500;
    assert_int_equal(rt_endpoint(&config, "work", true, &out, NULL), RT_OK);
    assert_non_null(strstr(out.data, "/run/work"));
    assert_int_equal(rt_endpoint(&config, "blob", true, &again, NULL), RT_OK);
    assert_string_not_equal(out.data, again.data);

    for (int i = 0; i < 6; i++)
        snprintf(dir + strlen(dir), sizeof(dir) - strlen(dir), "/abcdefghijklmnopqrstuvwxyz");
    assert_int_equal(rt_endpoint(&config, "work", true, &out, NULL), RT_OK);
    assert_int_equal(rt_endpoint(&config, "work", false, &again, NULL), RT_OK);
    assert_string_equal(out.data, again.data);
    assert_int_equal(strncmp(out.data, "ipc:///tmp/", 11), 0);
    assert_true(out.bytes < 108);
    end e = {0};
    assert_int_equal(open_end(w, &e, ZMQ_ROUTER, out.data, true, "c", 1, NULL), RT_OK);
    close_end(w, &e);
    *strrchr(out.data, '/') = 0;
    rt_remove_tree(out.data + 6, NULL);

    config.coordinator.address = "tcp://127.0.0.1";
    assert_int_equal(rt_endpoint(&config, "events", true, &out, NULL), RT_OK);
    assert_string_equal(out.data, "tcp://127.0.0.1:5504");
    config.coordinator.address = "tcp://localhost";
    assert_int_equal(rt_endpoint(&config, "work", true, &out, NULL), RT_OK);
    assert_string_equal(out.data, "tcp://127.0.0.1:5500");
    config.coordinator.address = "tcp://*";
    assert_int_equal(rt_endpoint(&config, "blob", true, &out, NULL), RT_OK);
    assert_string_equal(out.data, "tcp://*:5501");
    assert_int_equal(rt_endpoint(&config, "blob", false, &out, NULL), RT_OK);
    assert_string_equal(out.data, "tcp://127.0.0.1:5501");
    config.coordinator.address = "head:4000";
    assert_int_equal(rt_endpoint(&config, "blob", false, &out, &error), RT_ERR_USAGE);
    config.coordinator.address = "tcp://head:4000";
    assert_int_equal(rt_endpoint(&config, "blob", false, &out, &error), RT_ERR_USAGE);
    config.coordinator.address = "tcp://127.0.0.1";
    config.coordinator.port = 65534;
    assert_int_equal(rt_endpoint(&config, "stats", false, &out, &error), RT_ERR_USAGE);
    rt_buf_free(&out);
    rt_buf_free(&again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_order_and_fairness, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gone_peer_and_takeover, setup, teardown),
        cmocka_unit_test_setup_teardown(test_restart_of_the_binding_side, setup, teardown),
        cmocka_unit_test_setup_teardown(test_raw_rep, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bind_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rejects, setup, teardown),
        cmocka_unit_test_setup_teardown(test_endpoints, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
