/*
 * stranger: says hello to a coordinator as an actor of another build, and prints what it is told.
 *   stranger ENDPOINT VERSION      exit code 0: refused, the reason on stdout; 1: let in; 2: no answer
 */
#include <stdio.h>

#include "proto/proto.h"

#define WAIT_MS 5000

static int outcome = 2;

static void on_message(void *context, rt_socket *socket, const rt_message *message)
{
    (void)socket;
    const Retake__Envelope *envelope = message->envelope;
    if (envelope->kind_case == RETAKE__ENVELOPE__KIND_REFUSE) {
        printf("%s\n", envelope->refuse->reason);
        outcome = 0;
    } else if (envelope->kind_case == RETAKE__ENVELOPE__KIND_WELCOME) {
        printf("welcome\n");
        outcome = 1;
    }
    uv_stop(context);
}

static void on_time(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: stranger ENDPOINT VERSION\n");
        return 2;
    }
    uv_loop_t loop;
    uv_timer_t timer;
    uv_loop_init(&loop);
    uv_timer_init(&loop, &timer);
    uv_timer_start(&timer, on_time, WAIT_MS, 0);
    void *zmq = zmq_ctx_new();
    rt_socket *socket;
    rt_error err;
    rt_socket_options options = {.type = ZMQ_DEALER, .endpoint = argv[1], .sender = "stranger",
                                 .incarnation = 1, .on_message = on_message, .context = &loop};
    if (rt_socket_open(&socket, &loop, zmq, &options, &err) != 0) {
        fprintf(stderr, "%s\n", err.message);
        return 2;
    }
    Retake__Hello hello = RETAKE__HELLO__INIT;
    Retake__Envelope envelope = RETAKE__ENVELOPE__INIT;
    envelope.kind_case = RETAKE__ENVELOPE__KIND_HELLO;
    envelope.hello = &hello;
    hello.role = "actor";
    hello.host = "elsewhere";
    hello.version = argv[2];
    hello.weights_version = -1;
    rt_socket_send(socket, NULL, 0, &envelope, NULL, 0, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_close((uv_handle_t *)&timer, NULL);
    rt_socket_close(&socket, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    zmq_ctx_term(zmq);
    return outcome;
}
