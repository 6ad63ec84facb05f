/* The lease table under random joins, losses, answers and ends: every lease ends once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "coordinator/internal.h"

enum { HOLDERS = 5, LEASES_MAX = 6000, TURNS = 60000 };

static void queue_is_sorted(const rt_leases *leases)
{
    size_t count = 0;
    for (const rt_lease *lease = leases->queue.head; lease; lease = lease->next, count++) {
        assert_true(!lease->next || lease->next->id > lease->id);
        assert_true(!lease->next || lease->next->prev == lease);
    }
    assert_int_equal(count, leases->queue.count);
}

/* One random thing happens. `ended` counts the ends of each id. */
static void turn(rt_leases *leases, rt_lease_list *holders, uint8_t *ended, uint64_t seed,
                 uint64_t i)
{
    rt_lease_list *holder = &holders[rt_below(seed, 1, i, HOLDERS)];
    rt_lease *lease = NULL;
    switch (rt_below(seed, 0, i, 8)) {
    case 0:
        if (leases->next_id < LEASES_MAX) {
            rt_leases_add(leases, NULL);
        }
        break;
    case 1:
    case 2:
        if (leases->queue.head) {
            rt_leases_issue(leases, leases->queue.head, holder, (int64_t)i);
        }
        break;
    case 3: /* the holder dies */
        for (int n = 0; rt_below(seed, 2, i, 10) == 0 && holder->head && n < LEASES_MAX; n++) {
            rt_leases_requeue(leases, holder->head);
        }
        break;
    case 4:
    case 5: /* an answer, for an id that may have ended */
        lease = rt_leases_find(leases, rt_below(seed, 3, i, (uint32_t)leases->next_id));
        if (lease && lease->state != RT_LEASE_HELD) {
            rt_leases_hold(leases, lease);
        }
        break;
    default: /* an end, of any open one */
        lease = rt_leases_find(leases, rt_below(seed, 4, i, (uint32_t)leases->next_id));
        if (lease) {
            assert_int_equal(ended[lease->id]++, 0);
            rt_leases_end(leases, lease, (int)rt_below(seed, 5, i, RT_FATES));
        }
    }
}

static void each_ends_once(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        rt_leases leases;
        rt_lease_list holders[HOLDERS] = {{0}};
        uint8_t *ended = calloc(LEASES_MAX, 1);
        rt_leases_init(&leases, 1);
        for (uint64_t i = 0; i < TURNS; i++) {
            turn(&leases, holders, ended, seed, i);
            assert_true(rt_leases_add_up(&leases));
            if (i % 1000 == 0) {
                queue_is_sorted(&leases);
            }
        }
        assert_true(leases.created > 1000 && leases.reissued > 100);
        uint64_t ends = 0;
        for (uint64_t id = 1; id < leases.next_id; id++) {
            /* Open or ended: never both, never neither. */
            assert_int_equal(ended[id], rt_leases_find(&leases, id) == NULL);
            ends += ended[id];
        }
        assert_int_equal(ends + leases.open, leases.created);
        size_t listed = leases.queue.count;
        for (int i = 0; i < HOLDERS; i++) {
            listed += holders[i].count;
        }
        for (rt_lease *lease = leases.all; lease; lease = lease->all_next) {
            listed += lease->state == RT_LEASE_HELD;
        }
        assert_int_equal(listed, leases.open);
        rt_leases_free(&leases);
        free(ended);
    }
}

static void a_returned_lease_goes_first(void **state)
{
    (void)state;
    rt_leases leases;
    rt_lease_list holder = {0};
    rt_leases_init(&leases, 7);
    rt_lease *a = rt_leases_add(&leases, NULL), *b = rt_leases_add(&leases, NULL);
    rt_leases_add(&leases, NULL);
    assert_int_equal(a->id, 7);
    rt_leases_issue(&leases, a, &holder, 0);
    rt_leases_issue(&leases, b, &holder, 0);
    rt_leases_requeue(&leases, b);
    rt_leases_requeue(&leases, a);
    assert_ptr_equal(leases.queue.head, a);
    assert_ptr_equal(a->next, b);
    assert_int_equal(a->attempt, 1);
    queue_is_sorted(&leases);
    rt_leases_free(&leases);
}

/* Turns of one step go by debate, those that began first in front, whenever they became possible. */
static void debates_in_the_order_in_which_they_began(void **state)
{
    (void)state;
    static const uint64_t added[] = {0x000, 0x001, 0x100, 0x101, 0x200, 0x102, 0x002, 0x103};
    static const int place[] = {0, 1, 3, 4, 7, 5, 2, 6};
    rt_leases leases;
    rt_lease_list holder = {0};
    rt_plan plan = {0}, other = {0};
    rt_job jobs[RT_COUNT(added)], evaluated = {.plan = &other, .first = 7}, plain = {.plan = &plan};
    struct rt_debate_entry *debate = (void *)&plan; /* looked at for being there */
    evaluated.debate = debate;
    rt_leases_init(&leases, 1);
    rt_leases_add(&leases, &plain);
    for (size_t i = 0; i < RT_COUNT(added); i++) {
        jobs[i] = (rt_job){.plan = &plan, .first = added[i], .debate = debate};
        rt_leases_add(&leases, &jobs[i]);
    }
    rt_lease *last = rt_leases_add(&leases, &evaluated);
    for (int again = 0; again < 2; again++) {
        const rt_lease *lease = leases.queue.head;
        assert_ptr_equal(lease->job, &plain);
        lease = lease->next;
        for (size_t i = 0; i < RT_COUNT(added); i++, lease = lease->next) {
            for (size_t k = 0; k < RT_COUNT(added); k++) {
                assert_true((lease->job == &jobs[k]) == (place[k] == (int)i));
            }
        }
        assert_ptr_equal(lease, last);
        while (leases.queue.head->next != last && again == 0) { /* out and back, the newest first */
            rt_leases_issue(&leases, leases.queue.head->next, &holder, 0);
        }
        while (holder.tail) {
            rt_leases_requeue(&leases, holder.tail);
        }
    }
    rt_leases_free(&leases);
}

/* What a batch may hold: version at least step − staleness; an evaluation exactly its version. */
static void staleness_bound(void **state)
{
    (void)state;
    for (int64_t staleness = 0; staleness < 4; staleness++) {
        rt_plan plan = {.step = 5};
        rt_job job = {.plan = &plan};
        for (job.version = 0; job.version <= 5; job.version++) {
            assert_int_equal(rt_job_stale(&job, staleness), 5 - job.version > staleness);
        }
        plan.evaluation = true;
        job.version = 4;
        assert_true(rt_job_stale(&job, staleness));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_ends_once),
        cmocka_unit_test(a_returned_lease_goes_first),
        cmocka_unit_test(debates_in_the_order_in_which_they_began),
        cmocka_unit_test(staleness_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
