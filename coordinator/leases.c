/*
 * leases: the table of open leases. A lease is queued, issued to a holder, held (its result is
 * here) and then ends exactly once; ended leases leave the table, so what is looked up is open.
 */
#include <string.h>

#include "coordinator/internal.h"

const char *rt_fate_name(int fate)
{
    static const char *const names[RT_FATES] = {"trained", "filtered", "stale", "failed",
                                                "cancelled"};
    RT_ASSERT(fate >= 0 && fate < RT_FATES);
    return names[fate];
}

const char *rt_kind_name(int kind)
{
    static const char *const names[] = {"base", "eval",   "reset",  "localize",
                                        "seed", "debate", "summary"};
    _Static_assert(RT_COUNT(names) == RT_KINDS, "every kind has a name");
    RT_ASSERT(kind >= 0 && kind < RT_KINDS);
    return names[kind];
}

void rt_leases_init(rt_leases *leases, uint64_t next_id)
{
    *leases = (rt_leases){.next_id = RT_MAX(next_id, 1), .buckets_count = 1024};
    leases->buckets = rt_alloc(leases->buckets_count * sizeof(rt_lease *));
}

void rt_leases_free(rt_leases *leases)
{
    for (rt_lease *lease = leases->all; lease;) {
        rt_lease *next = lease->all_next;
        rt_free(lease);
        lease = next;
    }
    rt_free(leases->buckets);
    *leases = (rt_leases){0};
}

static rt_lease **bucket_of(const rt_leases *leases, uint64_t id)
{
    /* Ids count up, so the low bits spread them evenly. */
    return &leases->buckets[id & (leases->buckets_count - 1)];
}

static void grow(rt_leases *leases)
{
    rt_free(leases->buckets);
    leases->buckets_count *= 2;
    leases->buckets = rt_alloc(leases->buckets_count * sizeof(rt_lease *));
    for (rt_lease *lease = leases->all; lease; lease = lease->all_next) {
        rt_lease **bucket = bucket_of(leases, lease->id);
        lease->chain = *bucket;
        *bucket = lease;
    }
}

static void unlink_from_list(rt_lease *lease)
{
    rt_lease_list *list = lease->list;
    if (!list) {
        return;
    }
    *(lease->prev ? &lease->prev->next : &list->head) = lease->next;
    *(lease->next ? &lease->next->prev : &list->tail) = lease->prev;
    list->count--;
    list->samples -= lease->job ? lease->job->count : 0;
    lease->list = NULL;
    lease->next = lease->prev = NULL;
}

/* Before `next`; NULL: last. */
static void link_before(rt_lease_list *list, rt_lease *lease, rt_lease *next)
{
    RT_ASSERT(!lease->list);
    rt_lease *prev = next ? next->prev : list->tail;
    lease->next = next;
    lease->prev = prev;
    *(prev ? &prev->next : &list->head) = lease;
    *(next ? &next->prev : &list->tail) = lease;
    lease->list = list;
    list->count++;
    list->samples += lease->job ? lease->job->count : 0;
}

/* Older first; of one step's debates those that began first, so that what their agents said still
 * lies computed and few conversations take up room. */
static bool goes_before(const rt_lease *a, const rt_lease *b)
{
    const rt_job *one = a->job, *other = b->job;
    bool debates = one && other && one->plan == other->plan && one->debate && other->debate;
    return debates ? one->first < other->first : a->id < b->id;
}

static void queue_add(rt_leases *leases, rt_lease *lease)
{
    rt_lease *next = leases->queue.head, *tail = leases->queue.tail;
    if (tail && goes_before(tail, lease)) {
        next = NULL;
    }
    while (next && !goes_before(lease, next)) {
        next = next->next;
    }
    link_before(&leases->queue, lease, next);
}

rt_lease *rt_leases_add(rt_leases *leases, rt_job *job)
{
    if (leases->open >= leases->buckets_count) {
        grow(leases);
    }
    rt_lease *lease = rt_alloc(sizeof *lease);
    lease->id = leases->next_id++;
    lease->job = job;
    lease->version = -1;
    rt_lease **bucket = bucket_of(leases, lease->id);
    lease->chain = *bucket;
    *bucket = lease;
    lease->all_next = leases->all;
    if (leases->all) {
        leases->all->all_prev = lease;
    }
    leases->all = lease;
    leases->created++;
    leases->open++;
    queue_add(leases, lease);
    return lease;
}

rt_lease *rt_leases_find(const rt_leases *leases, uint64_t id)
{
    rt_lease *lease = *bucket_of(leases, id);
    while (lease && lease->id != id) {
        lease = lease->chain;
    }
    return lease;
}

void rt_leases_issue(rt_leases *leases, rt_lease *lease, rt_lease_list *holder, int64_t version)
{
    RT_ASSERT(lease->state == RT_LEASE_QUEUED && lease->list == &leases->queue);
    unlink_from_list(lease);
    link_before(holder, lease, NULL);
    lease->state = RT_LEASE_ISSUED;
    lease->version = version;
    lease->issued_ms = rt_wall_ms();
    lease->issued_ns = rt_now_ns();
}

void rt_leases_requeue(rt_leases *leases, rt_lease *lease)
{
    RT_ASSERT(lease->state == RT_LEASE_ISSUED);
    unlink_from_list(lease);
    queue_add(leases, lease);
    lease->state = RT_LEASE_QUEUED;
    lease->attempt++;
    leases->reissued++;
}

void rt_leases_hold(rt_leases *leases, rt_lease *lease)
{
    (void)leases;
    RT_ASSERT(lease->state != RT_LEASE_HELD);
    unlink_from_list(lease);
    lease->state = RT_LEASE_HELD;
}

void rt_leases_end(rt_leases *leases, rt_lease *lease, int fate)
{
    RT_ASSERT(fate >= 0 && fate < RT_FATES);
    unlink_from_list(lease);
    rt_lease **link = bucket_of(leases, lease->id);
    while (*link && *link != lease) {
        link = &(*link)->chain;
    }
    RT_ASSERT(*link == lease);
    *link = lease->chain;
    *(lease->all_prev ? &lease->all_prev->all_next : &leases->all) = lease->all_next;
    if (lease->all_next) {
        lease->all_next->all_prev = lease->all_prev;
    }
    leases->open--;
    leases->ended[fate]++;
    rt_free(lease);
}

bool rt_leases_add_up(const rt_leases *leases)
{
    uint64_t ended = 0;
    for (int i = 0; i < RT_FATES; i++) {
        ended += leases->ended[i];
    }
    return leases->created == leases->open + ended;
}
