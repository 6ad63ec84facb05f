/*
 * adapter: what the forest, the training passes and the files share about low-rank adapters: the
 * packed pairs of a net, and their part of a layer forward and backward. Private to model/.
 *
 * Targets that read one input form a group, whose A matrices are stacked: one product makes the
 * low-rank rows of q, k and v. Rows of one adapter lie together in spans; every product of a span
 * gives a row the bits it would have alone.
 */
#ifndef RT_ADAPTER_H
#define RT_ADAPTER_H

#include "model/files.h"

enum rt_lora_group { RT_GROUP_QKV, RT_GROUP_O, RT_GROUP_GATE_UP, RT_GROUP_DOWN, RT_GROUPS };
enum { RT_GROUP_TARGETS_MAX = 3 };

const char *rt_target_name(int target); /* "self_attn.q_proj" */
int rt_target_group(int target);
int rt_target_inputs(const rt_arch *arch, int target);
int rt_target_outputs(const rt_arch *arch, int target);
int rt_target_column(const rt_arch *arch, int target); /* first of its outputs in its group's */

/* One group of one layer of one adapter. The scale alpha/rank lies in B going forward; for the
 * gradient of B it lies in a second A. */
typedef struct rt_lora_pair {
    rt_packed *a, *a_scaled; // (targets of the group · rank, K)
    rt_packed *b[RT_GROUP_TARGETS_MAX]; // (N, rank) of each, scaled; in order of targets
} rt_lora_pair;

typedef struct rt_net_lora {
    rt_lora lora;
    int count;               /* adapters */
    rt_lora_pair *pairs;     // (adapters, layers, RT_GROUPS)
    int list[RT_GROUPS][RT_GROUP_TARGETS_MAX], list_count[RT_GROUPS]; /* targets of a group */
    size_t at_a[RT_LORA_TARGETS], at_b[RT_LORA_TARGETS]; /* in one layer of the flat vector */
    size_t layer_stride, stride;
    bool set;
} rt_net_lora;

/* Rows [first, first + count) of a pass belong to `adapter` ≥ 0. */
typedef struct rt_span {
    int first, count, adapter;
} rt_span;

/* Adds rows to the end of a list of ascending spans; adapter −1 adds none. Returns the new count. */
int rt_span_add(rt_span *spans, int count, int first, int rows, int adapter);
/* The spans within rows [from, from + rows), counted from `from`. */
int rt_span_cut(const rt_span *all, int count, int from, int rows, rt_span *out);

/* Input dropout, of training passes alone. The mask of a row is a function of (seed, the row's
 * path, layer, group): the same again in a recomputed layer and in the backward pass. */
typedef struct rt_lora_dropout {
    double share;            /* 0: off */
    uint64_t seed;
    const uint64_t *paths;   // (R) hash of each row's path
    float *dropped, *mask, *mask_host; // (R, widest input)
} rt_lora_dropout;

/* What a pass over R rows needs of the adapters. */
typedef struct rt_lora_rows {
    const rt_span *spans;
    int count;
    float *u, *du;           // (R, 3·rank); du: backward only
    const rt_lora_dropout *dropout; /* NULL: none */
} rt_lora_rows;

/* y (R, ld) += the adapters' part of the group's outputs for inputs x (R, K). */
void rt_lora_forward(const rt_net *net, int layer, int group, const rt_lora_rows *rows, float *y,
                     int y_ld, const float *x);
/* Adds the gradients of A and B to grad (flat), and to dx (R, K) unless it is NULL. */
void rt_lora_backward(const rt_net *net, int layer, int group, const rt_lora_rows *rows,
                      const float *dy, int dy_ld, const float *x, float *dx, float *grad);

/* The widest input of a target, and the floats a row of u or du takes. */
int rt_lora_width(const rt_net *net);
int rt_lora_rank_columns(const rt_net *net);

void rt_net_lora_free(rt_net *net);

#endif
