/*
 * ring: pointers from one thread to one other. Counters only grow (wrapping is fine, capacity is
 * a power of two); each sits on a cache line of its own, so the two threads do not share one.
 */
#include "base/base.h"

struct rt_ring {
    _Alignas(64) atomic_size_t head; /* next to pop, written by the consumer */
    _Alignas(64) atomic_size_t tail; /* next to push, written by the producer */
    _Alignas(64) size_t mask;
    void *items[];
};

rt_ring *rt_ring_new(size_t capacity)
{
    RT_ASSERT(capacity <= SIZE_MAX / 4 / sizeof(void *));
    size_t rounded = 1;
    while (rounded < capacity) {
        rounded *= 2;
    }
    rt_ring *ring = rt_alloc(sizeof *ring + rounded * sizeof ring->items[0]);
    atomic_init(&ring->head, 0);
    atomic_init(&ring->tail, 0);
    ring->mask = rounded - 1;
    return ring;
}

bool rt_ring_push(rt_ring *ring, void *item)
{
    RT_ASSERT(item != NULL);
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    size_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    if (tail - head > ring->mask) {
        return false;
    }
    ring->items[tail & ring->mask] = item;
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
    return true;
}

void *rt_ring_pop(rt_ring *ring)
{
    size_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    if (head == tail) {
        return NULL;
    }
    void *item = ring->items[head & ring->mask];
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
    return item;
}

size_t rt_ring_count(const rt_ring *ring)
{
    /* Head first: the tail read after it is never behind it. */
    size_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    /* A third thread may read an old head and a new tail. */
    return RT_MIN(tail - head, ring->mask + 1);
}

void rt_ring_free(rt_ring **ring)
{
    rt_free(*ring);
    *ring = NULL;
}
