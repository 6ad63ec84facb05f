/* The network: weights packed for a backend, and one decoder layer in two halves. */
#include <math.h>
#include <string.h>

#include "model/files.h"
#include "model/net_internal.h"

float *rt_net_floats(rt_ops *ops, size_t count)
{
    float *memory = ops->alloc(ops, RT_MAX(count, 1) * sizeof(float));
    RT_ASSERT(memory != NULL);
    return memory;
}

/* ---- the object ----------------------------------------------------------------------------- */

static size_t *layer_offset(rt_layer_offsets *at, const char *name)
{
    const struct { const char *name; size_t *offset; } parts[] = {
        {"self_attn.q_proj.weight", &at->q},
        {"self_attn.k_proj.weight", &at->k},
        {"self_attn.v_proj.weight", &at->v},
        {"self_attn.o_proj.weight", &at->o},
        {"mlp.gate_proj.weight", &at->gate},
        {"mlp.up_proj.weight", &at->up},
        {"mlp.down_proj.weight", &at->down},
        {"input_layernorm.weight", &at->norm_attention},
        {"post_attention_layernorm.weight", &at->norm_mlp},
    };
    for (size_t i = 0; i < RT_COUNT(parts); i++)
        if (strcmp(parts[i].name, name) == 0)
            return parts[i].offset;
    RT_ASSERT(!"a tensor of the table is known");
    return NULL;
}

/* Radians a position for each pair, with the scaling of Llama 3.1 (long waves are stretched by
 * rope_factor, short ones kept, those between blended). In double: positions multiply the error. */
static void rope_frequencies(const rt_arch *a, float *out)
{
    int half = a->head_size / 2;
    for (int i = 0; i < half; i++) {
        double f = pow(a->rope_theta, -2.0 * i / a->head_size);
        if (a->rope_factor > 0) {
            double turns = a->rope_original * f / (2 * M_PI);
            double blend = (turns - a->rope_low) / (a->rope_high - a->rope_low);
            blend = blend < 0 ? 0 : blend > 1 ? 1 : blend;
            f = (1 - blend) * f / a->rope_factor + blend * f;
        }
        out[i] = (float)f;
    }
}

static void offsets_fill(rt_net *net, const rt_tensor *tensors, int count)
{
    for (int i = 0; i < count; i++) {
        const char *name = tensors[i].name;
        size_t offset = tensors[i].offset;
        int layer = -1, end = 0;
        if (strcmp(name, "model.embed_tokens.weight") == 0)
            net->embed_at = offset;
        else if (strcmp(name, "model.norm.weight") == 0)
            net->norm_at = offset;
        else if (strcmp(name, "lm_head.weight") == 0)
            net->head_at = offset;
        else if (sscanf(name, "model.layers.%d.%n", &layer, &end) == 1 && end > 0)
            *layer_offset(&net->layers[layer].at, name + end) = offset;
    }
    if (net->arch.tied)
        net->head_at = net->embed_at;
}

int rt_net_new(rt_net **net, const rt_arch *arch, int dtype, rt_ops *ops, rt_error *err)
{
    RT_ASSERT(dtype == RT_F32 || dtype == RT_BF16);
    rt_tensor *tensors = NULL;
    int tensors_count = 0;
    size_t elements = 0;
    int rc = rt_weights_table(arch, &tensors, &tensors_count, &elements, err);
    if (rc < 0)
        return rc;
    rt_net *n = rt_alloc(sizeof(*n));
    n->arch = *arch;
    n->dtype = dtype;
    n->ops = ops;
    n->layers = rt_alloc(sizeof(rt_layer) * (size_t)arch->layers);
    offsets_fill(n, tensors, tensors_count);
    rt_free(tensors);
    for (int l = 0; l < arch->layers; l++) {
        n->layers[l].norm_attention = rt_net_floats(ops, (size_t)arch->d);
        n->layers[l].norm_mlp = rt_net_floats(ops, (size_t)arch->d);
    }
    n->norm = rt_net_floats(ops, (size_t)arch->d);
    n->staging = rt_alloc(sizeof(float) * (size_t)RT_MAX(arch->d, arch->head_size));
    n->frequencies = rt_net_floats(ops, (size_t)arch->head_size / 2);
    rope_frequencies(arch, n->staging);
    ops->upload(ops, n->frequencies, n->staging, sizeof(float) * (size_t)arch->head_size / 2);
    n->rope.head_size = arch->head_size;
    n->rope.frequencies = n->frequencies;
    *net = n;
    return RT_OK;
}

static void packed_drop(rt_ops *ops, rt_packed *w)
{
    if (w != NULL)
        ops->packed_free(ops, w);
}

void rt_net_free(rt_net **net)
{
    rt_net *n = *net;
    if (n == NULL)
        return;
    rt_ops *ops = n->ops;
    for (int l = 0; l < n->arch.layers; l++) {
        rt_layer *layer = &n->layers[l];
        packed_drop(ops, layer->qkv);
        packed_drop(ops, layer->o);
        packed_drop(ops, layer->gate_up);
        packed_drop(ops, layer->down);
        ops->free(ops, layer->norm_attention);
        ops->free(ops, layer->norm_mlp);
    }
    packed_drop(ops, n->embed);
    packed_drop(ops, n->head);
    ops->free(ops, n->norm);
    ops->free(ops, n->frequencies);
    rt_net_lora_free(n);
    rt_free(n->staging);
    rt_free(n->layers);
    rt_free(n);
    *net = NULL;
}

const rt_arch *rt_net_arch(const rt_net *net)
{
    return &net->arch;
}

const rt_packed *rt_net_head(const rt_net *net)
{
    return net->arch.tied ? net->embed : net->head;
}

bool rt_net_complete(const rt_net *net)
{
    for (int l = 0; l < net->arch.layers; l++) {
        const rt_layer *layer = &net->layers[l];
        if (layer->qkv == NULL || layer->o == NULL || layer->gate_up == NULL || layer->down == NULL)
            return false;
    }
    return net->embed != NULL && rt_net_head(net) != NULL;
}

/* ---- weights in ----------------------------------------------------------------------------- */

static void norm_set(rt_net *net, float *norm, const void *words)
{
    int d = net->arch.d;
    if (net->dtype == RT_BF16)
        for (int i = 0; i < d; i++)
            net->staging[i] = rt_from_bf16(((const uint16_t *)words)[i]);
    else
        memcpy(net->staging, words, sizeof(float) * (size_t)d);
    net->ops->upload(net->ops, norm, net->staging, sizeof(float) * (size_t)d);
}

static void matrix_set(rt_net *net, rt_packed **w, const void *words, int rows0, int n, int n_total,
                       int k)
{
    *w = net->ops->pack(net->ops, *w, words, net->dtype, rows0, n, n_total, k);
    RT_ASSERT(*w != NULL);
}

static bool layer_set(rt_net *net, rt_layer *layer, const char *name, const void *words)
{
    const rt_arch *a = &net->arch;
    int q = rt_q_size(a), kv = rt_kv_size(a), qkv = rt_qkv_size(a), d = a->d, f = a->f;
    if (strcmp(name, "self_attn.q_proj.weight") == 0)
        matrix_set(net, &layer->qkv, words, 0, q, qkv, d);
    else if (strcmp(name, "self_attn.k_proj.weight") == 0)
        matrix_set(net, &layer->qkv, words, q, kv, qkv, d);
    else if (strcmp(name, "self_attn.v_proj.weight") == 0)
        matrix_set(net, &layer->qkv, words, q + kv, kv, qkv, d);
    else if (strcmp(name, "self_attn.o_proj.weight") == 0)
        matrix_set(net, &layer->o, words, 0, d, d, q);
    else if (strcmp(name, "mlp.gate_proj.weight") == 0)
        matrix_set(net, &layer->gate_up, words, 0, f, 2 * f, d);
    else if (strcmp(name, "mlp.up_proj.weight") == 0)
        matrix_set(net, &layer->gate_up, words, f, f, 2 * f, d);
    else if (strcmp(name, "mlp.down_proj.weight") == 0)
        matrix_set(net, &layer->down, words, 0, d, d, f);
    else if (strcmp(name, "input_layernorm.weight") == 0)
        norm_set(net, layer->norm_attention, words);
    else if (strcmp(name, "post_attention_layernorm.weight") == 0)
        norm_set(net, layer->norm_mlp, words);
    else
        return false;
    return true;
}

void rt_net_set_tensor(rt_net *net, const rt_tensor *tensor, const void *words)
{
    const rt_arch *a = &net->arch;
    int layer = -1, end = 0;
    bool known = true;
    if (strcmp(tensor->name, "model.embed_tokens.weight") == 0)
        matrix_set(net, &net->embed, words, 0, a->vocab, a->vocab, a->d);
    else if (strcmp(tensor->name, "lm_head.weight") == 0 && !a->tied)
        matrix_set(net, &net->head, words, 0, a->vocab, a->vocab, a->d);
    else if (strcmp(tensor->name, "model.norm.weight") == 0)
        norm_set(net, net->norm, words);
    else if (sscanf(tensor->name, "model.layers.%d.%n", &layer, &end) == 1 && end > 0 &&
             layer >= 0 && layer < a->layers)
        known = layer_set(net, &net->layers[layer], tensor->name + end, words);
    else
        known = false;
    RT_ASSERT(known);
}

void rt_net_set(rt_net *net, const rt_weights *weights)
{
    RT_ASSERT(weights->dtype == net->dtype);
    size_t size = weights->dtype == RT_BF16 ? 2 : 4;
    for (int i = 0; i < weights->tensors_count; i++) {
        const rt_tensor *t = &weights->tensors[i];
        rt_net_set_tensor(net, t, (const char *)weights->data + t->offset * size);
    }
    RT_ASSERT(rt_net_complete(net));
}

/* ---- one layer ------------------------------------------------------------------------------ */

void rt_layer_qkv(const rt_net *net, int layer, const rt_layer_buffers *b, const rt_kv_view *kv,
                  const rt_row *at, int rows, const rt_lora_rows *lora)
{
    const rt_arch *a = &net->arch;
    const rt_layer *w = &net->layers[layer];
    rt_ops *ops = net->ops;
    int q = rt_q_size(a), qkv = rt_qkv_size(a);
    ops->rmsnorm(ops, b->h1, b->rstd1, b->x, w->norm_attention, rows, a->d, a->norm_eps);
    ops->matmul(ops, b->qkv, qkv, b->h1, a->d, w->qkv, rows, false);
    rt_lora_forward(net, layer, RT_GROUP_QKV, lora, b->qkv, qkv, b->h1);
    /* k stands right after q, so one call rotates the heads of both */
    ops->rope(ops, b->qkv, qkv, a->heads + a->kv_heads, &net->rope, at, rows, 1);
    ops->kv_store(ops, kv, b->qkv + q, b->qkv + q + rt_kv_size(a), qkv, at, rows);
}

void rt_layer_rest(const rt_net *net, int layer, const rt_layer_buffers *b, const rt_kv_view *kv,
                   const rt_row *at, int rows, const rt_lora_rows *lora, float *out)
{
    const rt_arch *a = &net->arch;
    const rt_layer *w = &net->layers[layer];
    rt_ops *ops = net->ops;
    int q = rt_q_size(a), d = a->d;
    size_t count = (size_t)rows * (size_t)d;
    ops->attention(ops, b->att, q, b->stats, b->qkv, rt_qkv_size(a), a->heads, kv, at, rows);
    ops->matmul(ops, b->mid, d, b->att, q, w->o, rows, false);
    rt_lora_forward(net, layer, RT_GROUP_O, lora, b->mid, d, b->att);
    ops->add(ops, b->mid, b->x, count);
    ops->rmsnorm(ops, b->h2, b->rstd2, b->mid, w->norm_mlp, rows, d, a->norm_eps);
    ops->matmul(ops, b->gate_up, 2 * a->f, b->h2, d, w->gate_up, rows, false);
    rt_lora_forward(net, layer, RT_GROUP_GATE_UP, lora, b->gate_up, 2 * a->f, b->h2);
    ops->swiglu(ops, b->act, b->gate_up, rows, a->f);
    if (out == NULL)
        return;
    ops->matmul(ops, out, d, b->act, a->f, w->down, rows, false);
    rt_lora_forward(net, layer, RT_GROUP_DOWN, lora, out, d, b->act);
    ops->add(ops, out, b->mid, count);
}
