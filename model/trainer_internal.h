/*
 * trainer_internal: the insides of rt_trainer, shared by the plan, the passes and the logits part.
 * Private to model/.
 */
#ifndef RT_TRAINER_INTERNAL_H
#define RT_TRAINER_INTERNAL_H

#include "model/net_internal.h"

/* The rows one sequence added to the trie: a run that continues row `parent`. */
typedef struct rt_segment {
    int first, count;   /* rows */
    int start;          /* absolute position of the first row */
    size_t table;       /* offset of its path's page table in tables */
    int copy_from, copy_to, copy_slots; /* shared begin of its first page; 0 slots: none */
    int adapter;        /* −1: off */
} rt_segment;

/* Entries in ascending row order; entries of one row stay in the caller's order. */
typedef struct rt_entry_plan {
    int32_t *order;     /* (count) entry index */
    int32_t *used;      /* (used_count) rows that have entries */
    int32_t *first;     /* (used_count + 1) into order */
    int used_count, count;
    int order_capacity;
} rt_entry_plan;

struct rt_trainer {
    rt_net *net;
    int rows_max, piece_rows; /* rows of a pass; of what goes through a layer together */
    bool recompute;
    /* plan */
    int rows, segments_count, segments_capacity, pages;
    rt_segment *segments;
    int32_t *ids_host, *parent, *child, *sibling, *segment_of; /* (rows_max) */
    int32_t *position;
    int32_t roots;      /* first row without a parent; −1: none */
    int *adapter;       /* (rows_max) of a row, −1: off */
    int32_t *tables_host;
    size_t tables_count, tables_capacity;
    /* backend copies of the plan */
    int32_t *tables, *ids;
    rt_row *at, *at_host;
    /* K/V: one layer, or all when nothing is recomputed */
    int pages_capacity, kv_layers;
    float *kv, *dkv;
    /* saved by forward */
    bool kept;
    float **x;          /* (L + 1) of (R, D): inputs of the layers, output of the last */
    rt_layer_buffers *layers; /* one, or L when nothing is recomputed */
    float *act;         // (piece_rows, F), of the rows at work: backward makes it again from gate_up
    float *rstd, *hidden; // (R), (R, D) after the final norm
    /* adapters; without any in the net all of it is NULL */
    rt_span *spans;     // (spans_capacity)
    int spans_count, spans_capacity;
    float *u, *du;      // (R, rank columns)
    rt_lora_dropout dropout; /* paths and buffers are made when it is first set */
    uint64_t *paths;    // (rows_max)
    /* backward */
    float *lookups;     // (V, D) of the caller, or NULL
    float *dx, *dh, *dqkv;
    float *datt, *dgate_up, *dact; /* of the piece at work */
    /* logits in chunks */
    int chunk_rows;
    float *logits;      // (chunk_rows, V)
    float *gathered;    // (chunk_rows, D): their rows of hidden, and then of dh
    int32_t *targets, *firsts; // (entries_capacity), (chunk_rows + 1), backend memory
    int32_t *used;      // (chunk_rows), backend memory: the chunk's rows
    int32_t *targets_host, *firsts_host;
    float *weights, *weights_host;   // (entries_capacity)
    float *logprobs, *logprobs_host; // (entries_capacity)
    float *lse;         // (rows_max), per used row of the last forward
    int entries_capacity;
    rt_entry_plan entries;
    int32_t *logits_used; /* rows whose logits the chunk buffer still holds */
    int logits_used_count;
    int lse_from;         /* those rows' sums stand in lse from here, at this temperature */
    float lse_temperature;
};

rt_kv_view rt_trainer_kv(const rt_trainer *trainer, float *pool, int layer);
/* Buffers of a layer; layer `l` has its own unless recompute is on. */
rt_layer_buffers rt_trainer_layer(const rt_trainer *trainer, int layer);
void rt_trainer_pages(rt_trainer *trainer, int pages);
rt_lora_rows rt_trainer_lora(const rt_trainer *trainer);

void rt_entries_plan(rt_trainer *trainer, const rt_entry *entries, int count);
/* Log-probs of all entries from hidden. */
void rt_trainer_logprobs(rt_trainer *trainer, const rt_entry *entries, float temperature,
                         float *logprob);
/* dh (R, D) = d loss / d hidden; the head's gradient is added to grad, unless adapters are trained. */
void rt_trainer_logits_backward(rt_trainer *trainer, const rt_entry *entries, const float *g,
                                float temperature, float *grad);

#endif
