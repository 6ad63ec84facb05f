/* 100,000 items each way between two threads; heartbeats against times given by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "proto/proto.h"

enum { ITEMS = 100000 };

typedef struct pair {
    rt_mailbox *mailbox;
    uv_loop_t loop;
    uv_idle_t idle;
    uintptr_t sent, received; /* of the loop thread */
    uintptr_t taken;          /* of the compute thread, read after joining */
    bool loop_in_order, compute_in_order;
} pair;

static void compute(void *context)
{
    pair *test = context;
    uintptr_t answered = 0;
    while (test->taken < ITEMS || answered < ITEMS) {
        const uintptr_t item = (uintptr_t)rt_mailbox_from_loop(test->mailbox, answered < ITEMS ? 0 : 5);
        if (item)
            test->compute_in_order &= item == ++test->taken;
        if (answered < ITEMS && rt_mailbox_to_loop(test->mailbox, (void *)(answered + 1)))
            answered++;
    }
}

static void on_item(void *context)
{
    pair *test = context;
    for (uintptr_t item; (item = (uintptr_t)rt_mailbox_from_compute(test->mailbox));)
        test->loop_in_order &= item == ++test->received;
}

static void on_turn(uv_idle_t *idle)
{
    pair *test = idle->data;
    for (int i = 0; i < 1000 && test->sent < ITEMS; i++) {
        if (!rt_mailbox_to_compute(test->mailbox, (void *)(test->sent + 1)))
            break;
        test->sent++;
    }
    if (test->sent == ITEMS)
        uv_idle_stop(idle); /* from here on only the mailbox wakes the loop */
}

static void test_two_threads(void **state)
{
    (void)state;
    pair test = {.loop_in_order = true, .compute_in_order = true};
    assert_int_equal(uv_loop_init(&test.loop), 0);
    assert_int_equal(rt_mailbox_new(&test.mailbox, &test.loop, on_item, &test, NULL), RT_OK);
    uv_idle_init(&test.loop, &test.idle);
    test.idle.data = &test;
    uv_idle_start(&test.idle, on_turn);
    uv_thread_t thread;
    assert_int_equal(uv_thread_create(&thread, compute, &test), 0);
    while (test.received < ITEMS || test.sent < ITEMS)
        uv_run(&test.loop, UV_RUN_ONCE);
    uv_thread_join(&thread);
    assert_int_equal(test.taken, ITEMS);
    assert_int_equal(test.received, ITEMS);
    assert_true(test.loop_in_order && test.compute_in_order);
    assert_null(rt_mailbox_from_loop(test.mailbox, 1));
    rt_mailbox_close(&test.mailbox);
    uv_close((uv_handle_t *)&test.idle, NULL);
    uv_run(&test.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&test.loop), 0);
}

static void test_liveness(void **state)
{
    (void)state;
    const int64_t ms = 1000000;
    rt_liveness peer;
    rt_liveness_init(&peer, 100, 3, 1000 * ms);
    assert_false(rt_liveness_ping_due(&peer, 1099 * ms));
    assert_true(rt_liveness_ping_due(&peer, 1100 * ms));
    assert_false(rt_liveness_ping_due(&peer, 1100 * ms)); /* once an interval */
    assert_false(rt_liveness_ping_due(&peer, 1199 * ms));
    assert_true(rt_liveness_ping_due(&peer, 1200 * ms));
    assert_false(rt_liveness_gone(&peer, 1300 * ms));
    assert_true(rt_liveness_gone(&peer, 1301 * ms));
    rt_liveness_heard(&peer, 1301 * ms);
    assert_false(rt_liveness_gone(&peer, 1601 * ms));
    assert_true(rt_liveness_gone(&peer, 1602 * ms));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_threads),
        cmocka_unit_test(test_liveness),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
