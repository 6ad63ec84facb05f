/* Tests of ring.c: limits, order, and two threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <sched.h>

#include "base/base.h"

static void holds_what_it_says(void **state)
{
    (void)state;
    int items[5];
    rt_ring *ring = rt_ring_new(3); /* becomes 4 */
    assert_null(rt_ring_pop(ring));
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 4; i++) {
            assert_true(rt_ring_push(ring, &items[i]));
            assert_int_equal(rt_ring_count(ring), i + 1);
        }
        assert_false(rt_ring_push(ring, &items[4]));
        for (int i = 0; i < 4; i++) {
            assert_ptr_equal(rt_ring_pop(ring), &items[i]);
        }
        assert_null(rt_ring_pop(ring));
        assert_true(rt_ring_push(ring, &items[0])); /* shifts the start of the next round */
        assert_ptr_equal(rt_ring_pop(ring), &items[0]);
    }
    rt_ring_free(&ring);
    assert_null(ring);
    rt_ring_free(&ring);
}

enum { MESSAGES = 20000 };

static void *produce(void *argument)
{
    rt_ring *ring = argument;
    for (uintptr_t i = 1; i <= MESSAGES;) {
        if (rt_ring_push(ring, (void *)i)) {
            i++;
        } else {
            sched_yield();
        }
    }
    return NULL;
}

static void two_threads_keep_order(void **state)
{
    (void)state;
    rt_ring *ring = rt_ring_new(16);
    pthread_t producer;
    assert_int_equal(pthread_create(&producer, NULL, produce, ring), 0);
    for (uintptr_t expected = 1; expected <= MESSAGES;) {
        void *item = rt_ring_pop(ring);
        if (!item) {
            sched_yield();
            continue;
        }
        assert_int_equal((uintptr_t)item, expected);
        expected++;
    }
    pthread_join(producer, NULL);
    assert_int_equal(rt_ring_count(ring), 0);
    rt_ring_free(&ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(holds_what_it_says),
        cmocka_unit_test(two_threads_keep_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
