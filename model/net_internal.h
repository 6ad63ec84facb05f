/*
 * net_internal: what the forest, the training passes and the engine share: the packed network,
 * one decoder layer in two halves, and the insides of a forest. Private to model/.
 *
 * Generation and training call the same layer functions on the same row inputs, which is why a
 * token's log-prob has the same bits in both.
 */
#ifndef RT_NET_INTERNAL_H
#define RT_NET_INTERNAL_H

#include "model/adapter.h"
#include "model/model.h"

/* Element offsets of one layer's tensors in the flat parameter vector. */
typedef struct rt_layer_offsets {
    size_t q, k, v, o, gate, up, down, norm_attention, norm_mlp;
} rt_layer_offsets;

typedef struct rt_layer {
    rt_layer_offsets at;
    rt_packed *qkv;     // ((H + 2K)·S, D): q, then k, then v
    rt_packed *o;       // (D, H·S)
    rt_packed *gate_up; // (2F, D): gate, then up
    rt_packed *down;    // (D, F)
    float *norm_attention, *norm_mlp; // (D)
} rt_layer;

struct rt_net {
    rt_arch arch;
    int dtype;
    rt_ops *ops;
    rt_layer *layers;
    size_t embed_at, norm_at, head_at; /* in the flat vector; tied: head_at = embed_at */
    rt_packed *embed; // (V, D)
    rt_packed *head;  // (V, D); NULL when tied
    float *norm;      // (D)
    float *frequencies; // (S/2), backend memory
    rt_rope rope;
    float *staging;   // (D), host: norm words widened before upload
    rt_net_lora *lora; /* NULL: no adapters */
};

const rt_packed *rt_net_head(const rt_net *net);
/* Every tensor was given to rt_net_set or rt_net_set_tensor at least once. */
bool rt_net_complete(const rt_net *net);

static inline int rt_q_size(const rt_arch *arch) { return arch->heads * arch->head_size; }
static inline int rt_kv_size(const rt_arch *arch) { return arch->kv_heads * arch->head_size; }
static inline int rt_qkv_size(const rt_arch *arch)
{
    return rt_q_size(arch) + 2 * rt_kv_size(arch);
}

/* Backend memory of `count` floats, zeroed; never NULL. */
float *rt_net_floats(rt_ops *ops, size_t count);

/* Rows that one thread takes through a layer together: what one operation writes is still in the
 * second cache when the next one reads it. Several threads wait for each other at the end of every
 * operation, so they take more rows at once. */
enum { RT_PIECE_ROWS = 192 };
static inline bool rt_net_pieces(const rt_net *net) { return net->ops->host && net->ops->threads == 1; }

/* Buffers of one layer for up to R rows. In generation h2 may be h1, and out may be x. */
typedef struct rt_layer_buffers {
    float *x;            // (R, D) input of the layer
    float *rstd1, *h1;   // (R), (R, D)
    float *qkv;          // (R, (H + 2K)·S), q and k rotated
    float *att, *stats;  // (R, H·S), (R, H, 2) or NULL
    float *mid;          // (R, D) after attention and its residual
    float *rstd2, *h2;   // (R), (R, D)
    float *gate_up, *act; // (R, 2F), (R, F)
} rt_layer_buffers;

/* First half: norm, q k v, rotation, K/V into the pages of kv. lora NULL: adapters are off. */
void rt_layer_qkv(const rt_net *net, int layer, const rt_layer_buffers *b, const rt_kv_view *kv,
                  const rt_row *at, int rows, const rt_lora_rows *lora);
/* Second half: attention, its residual, the MLP up to act; and, when out is not NULL,
 * out = mid + down(act). */
void rt_layer_rest(const rt_net *net, int layer, const rt_layer_buffers *b, const rt_kv_view *kv,
                   const rt_row *at, int rows, const rt_lora_rows *lora, float *out);

/* ---- forest -------------------------------------------------------------------------------- */

typedef struct rt_node {
    int length;          /* tokens from the root */
    int adapter;         /* −1: off */
    bool live;
    int32_t *table;      /* table[p] = page of positions 16p… of the whole path */
    int table_capacity, table_count;
    int owned_from;      /* pages before it came from another path */
} rt_node;

struct rt_forest {
    rt_net *net;
    rt_kv_view kv;
    rt_node *nodes;
    int nodes_count, nodes_capacity;
    int *nodes_free, nodes_free_count;
    int32_t *pages_free;
    int pages_free_count;
    /* A page lives while tables of nodes, or the prefix index, refer to it. */
    int32_t *pages_refs;
    bool *pages_kept;    /* by the prefix index, which is one reference */
    int pages_idle;      /* kept, and no node refers to them */
    /* one pass */
    int pass_rows;       /* rows the scratch below has room for */
    rt_layer_buffers b;
    int32_t *ids;        // (pass_rows), backend memory
    /* one forward */
    int rows, unseen, rows_capacity; /* the unseen ones stand first */
    float *hidden;       // (rows_capacity, D), backend memory
    rt_row *at, *at_host; // (rows_capacity)
    int32_t *ids_host;   // (rows_capacity)
    int32_t *tables, *tables_host;
    size_t tables_capacity;
    /* adapters: of all rows, and of those of one pass */
    rt_span *spans, *pass_spans; // (spans_capacity)
    int spans_count, spans_capacity;
    float *u;            // (pass_rows, rank columns), backend memory; NULL: the net has none
};

int rt_forest_pages_free(const rt_forest *forest);
int rt_forest_pages_owned(const rt_forest *forest, int node);
/* A new node of `pages` full pages of another path; it shares them. */
int rt_forest_fork_pages(rt_forest *forest, int adapter, const int32_t *table, int pages);
/* Lengthens a node that ends with a page by a copy of the first slots of `page`. One page must be
 * free. */
void rt_forest_copy_page(rt_forest *forest, int node, int32_t page, int slots);
/* The node refers to `page`, which holds the same K/V, instead of its own page number `at`. */
void rt_forest_share_page(rt_forest *forest, int node, int at, int32_t page);
void rt_forest_page_ref(rt_forest *forest, int32_t page);
void rt_forest_page_unref(rt_forest *forest, int32_t page);
/* The prefix index takes and gives up its reference. */
void rt_forest_page_keep(rt_forest *forest, int32_t page);
void rt_forest_page_drop(rt_forest *forest, int32_t page);
static inline bool rt_forest_page_idle(const rt_forest *forest, int32_t page)
{
    return forest->pages_kept[page] && forest->pages_refs[page] == 1;
}
/* Gives node pages for positions up to length − 1. False: too few are free, nothing changed. */
bool rt_forest_reserve(rt_forest *forest, int node, int length);
/* Like rt_forest_logits for `count` rows from `first` on, into backend memory. */
void rt_forest_logits_backend(rt_forest *forest, int first, int count, float *logits);
int rt_forest_buffers_new(rt_forest *forest, rt_error *err);
void rt_forest_buffers_free(rt_forest *forest);

#endif
