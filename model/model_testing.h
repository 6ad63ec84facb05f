/* model_testing: small random networks for the tests of this folder. */
#ifndef RT_MODEL_TESTING_H
#define RT_MODEL_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "model/model.h"

typedef struct testing_net {
    rt_ops *ops;
    rt_weights *weights;
    rt_net *net;
} testing_net;

static inline rt_arch testing_arch(bool tied)
{
    return (rt_arch){.family = "llama", .layers = 3, .d = 40, .f = 72, .heads = 4, .kv_heads = 2,
                     .head_size = 12, .vocab = 94, .context = 256, .norm_eps = 1e-5f,
                     .tied = tied, .rope_theta = 10000, .bos = -1, .eos = {5}, .eos_count = 1};
}

/* Larger weights than a fresh model's, so that tokens differ in probability and every part of the
 * network matters. */
static inline void testing_randomize(rt_weights *weights, uint64_t seed)
{
    for (int i = 0; i < weights->tensors_count; i++) {
        const rt_tensor *t = &weights->tensors[i];
        for (size_t j = 0; j < t->count; j++) {
            float x = rt_normal(seed, (uint64_t)i, j) * (t->cols == 1 ? 0.2f : 0.25f);
            x += t->cols == 1 ? 1.0f : 0.0f;
            if (weights->dtype == RT_BF16)
                ((uint16_t *)weights->data)[t->offset + j] = rt_to_bf16(x);
            else
                ((float *)weights->data)[t->offset + j] = x;
        }
    }
}

static inline testing_net testing_open(const rt_arch *arch, int dtype, const char *device,
                                       int threads, uint64_t seed)
{
    testing_net n = {0};
    rt_error err = {0};
    assert_int_equal(rt_ops_open(&n.ops, device, threads, &err), RT_OK);
    assert_int_equal(rt_weights_new(&n.weights, arch, dtype, &err), RT_OK);
    testing_randomize(n.weights, seed);
    assert_int_equal(rt_net_new(&n.net, arch, dtype, n.ops, &err), RT_OK);
    rt_net_set(n.net, n.weights);
    return n;
}

static inline void testing_close(testing_net *n)
{
    rt_net_free(&n->net);
    rt_weights_free(&n->weights);
    rt_ops_free(&n->ops);
}

static inline void testing_ids(int32_t *ids, int count, int vocab, uint64_t stream)
{
    for (int i = 0; i < count; i++)
        ids[i] = (int32_t)rt_below(77, stream, (uint64_t)i, (uint32_t)vocab);
}

#endif
