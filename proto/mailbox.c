/* A ring in each direction between one loop thread and one compute thread. */
#include "proto/proto.h"

#define MAILBOX_ITEMS 4096

struct rt_mailbox {
    rt_ring *to_compute, *to_loop;
    uv_async_t async; /* wakes the loop */
    uv_mutex_t lock;  /* only for sleeping: the rings need none */
    uv_cond_t wake;
    rt_mailbox_cb *on_item;
    void *context;
};

static void on_async(uv_async_t *async)
{
    rt_mailbox *mailbox = async->data;
    mailbox->on_item(mailbox->context);
}

int rt_mailbox_new(rt_mailbox **mailbox, uv_loop_t *loop, rt_mailbox_cb *on_item, void *context,
                   rt_error *err)
{
    rt_mailbox *box = rt_alloc(sizeof(*box));
    int code = uv_async_init(loop, &box->async, on_async);
    if (code != 0) {
        rt_free(box);
        return rt_fail(err, RT_ERR_IO, "cannot make a mailbox on the loop: %s", uv_strerror(code));
    }
    box->async.data = box;
    RT_ASSERT(uv_mutex_init(&box->lock) == 0);
    RT_ASSERT(uv_cond_init(&box->wake) == 0);
    box->to_compute = rt_ring_new(MAILBOX_ITEMS);
    box->to_loop = rt_ring_new(MAILBOX_ITEMS);
    box->on_item = on_item;
    box->context = context;
    *mailbox = box;
    return RT_OK;
}

bool rt_mailbox_to_compute(rt_mailbox *mailbox, void *item)
{
    if (!rt_ring_push(mailbox->to_compute, item))
        return false;
    /* Under the lock: the sleeper looks at the ring and begins to wait in one locked piece. */
    uv_mutex_lock(&mailbox->lock);
    uv_cond_signal(&mailbox->wake);
    uv_mutex_unlock(&mailbox->lock);
    return true;
}

void *rt_mailbox_from_compute(rt_mailbox *mailbox)
{
    return rt_ring_pop(mailbox->to_loop);
}

bool rt_mailbox_to_loop(rt_mailbox *mailbox, void *item)
{
    if (!rt_ring_push(mailbox->to_loop, item))
        return false;
    uv_async_send(&mailbox->async);
    return true;
}

void *rt_mailbox_from_loop(rt_mailbox *mailbox, int timeout_ms)
{
    void *item = rt_ring_pop(mailbox->to_compute);
    if (item || timeout_ms <= 0)
        return item;
    const int64_t until_ns = rt_now_ns() + (int64_t)timeout_ms * 1000000;
    uv_mutex_lock(&mailbox->lock);
    while (!(item = rt_ring_pop(mailbox->to_compute))) {
        const int64_t left_ns = until_ns - rt_now_ns();
        if (left_ns <= 0 || uv_cond_timedwait(&mailbox->wake, &mailbox->lock, (uint64_t)left_ns))
            break;
    }
    uv_mutex_unlock(&mailbox->lock);
    return item ? item : rt_ring_pop(mailbox->to_compute);
}

static void on_closed(uv_handle_t *handle)
{
    rt_mailbox *box = handle->data;
    uv_cond_destroy(&box->wake);
    uv_mutex_destroy(&box->lock);
    rt_ring_free(&box->to_compute);
    rt_ring_free(&box->to_loop);
    rt_free(box);
}

void rt_mailbox_close(rt_mailbox **mailbox)
{
    if (!*mailbox)
        return;
    uv_close((uv_handle_t *)&(*mailbox)->async, on_closed);
    *mailbox = NULL;
}
