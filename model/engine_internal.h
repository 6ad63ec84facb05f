/*
 * engine_internal: requests, slots and the insides of rt_engine. Private to model/.
 */
#ifndef RT_ENGINE_INTERNAL_H
#define RT_ENGINE_INTERNAL_H

#include <limits.h>

#include "model/net_internal.h"
#include "model/prefix_index.h"
#include "model/sampler.h"

/* n completions of one prefix. In the queue until all have started, then held by its slots. */
typedef struct rt_request {
    struct rt_request *next;
    uint64_t id;
    int32_t *prefix;
    int prefix_count;
    uint64_t *trajectories;
    int count, started, running; /* running: in slots */
    int thoughts_before;
    rt_sampling sampling;        /* owns its strings */
    float temperature;           /* of the log-probs */
    int max_new;                 /* tokens at most, context counted */
    int prompt_pages, own_pages; /* pages of the prefix, of one completion */
    int node, prefilled;         /* −1: not admitted; tokens computed */
    int reused, held;            /* tokens found in the cache; tokens given to it */
    int adapter;                 /* −1: off */
    int entry;                   /* of the last full page held, below 0: none yet, or RT_UNHELD */
    int32_t *first_ids;          /* first token of each completion, once the prefix is computed */
    float *first_logprobs;
} rt_request;

/* One completion at work. */
typedef struct rt_slot {
    rt_request *request;  /* NULL: free */
    int node;             /* −1 until its first token must be computed */
    int entry;            /* as in rt_request */
    rt_completion c;
    int ids_capacity, thoughts_capacity;
    rt_buf text;          /* decoded bytes, kept only where stops or thoughts need them */
    size_t boundary;      /* text and token where the open thought begins */
    int thought_start, thoughts;
    int32_t feed[1 + RT_LOOKAHEAD_MAX]; /* to compute: the token sampled last, then guesses */
    int guesses, reach;   /* of this step; at most in the next */
    int place, strayed;   /* where the text goes on as before, −1: nowhere; tokens since it did */
    int inserted;         /* tokens it last put in between, 0: never yet */
    int32_t insert_at, insert_first; /* in front of which token of the copy, and the first of them */
    int guessed, right;   /* guesses ever, and those of them that were sampled */
} rt_slot;

struct rt_engine {
    rt_net *net;
    const rt_tokenizer *tokenizer;
    rt_forest *forest;
    rt_prefix_index index;
    bool cached, by_trajectory;
    int idle_max;             /* pages held that nothing running uses */
    int32_t *match_table;     /* pages of a context */
    rt_sampler sampler;
    rt_slot *slots;
    int slots_count, active;
    int *slots_free, slots_free_count;
    rt_request *head, **tail; /* requests with completions not yet started; those admitted first */
    rt_completion *done;      /* ring */
    int done_first, done_count, done_capacity;
    rt_engine_stats stats;
    /* one step */
    rt_run *runs;
    int runs_count;
    int *row_slot;            /* of rows whose logits are wanted, those of slots, then of prompts: the
                               * slot, −1: a prompt */
    int *row_guess;           /* of a slot's row: 0, or the number of the guess it computes */
    rt_request **row_request;
    int rows_count;
    int32_t *targets_host;
    float *logprobs_host, *logits_host;
    float *logits, *logprobs, *lse; // (logits_rows, V), (logits_rows) ×2, backend memory
    int32_t *targets;
    int logits_rows;
};

enum { RT_PREFILL_TOKENS = 512 }; /* of waiting prefixes, a step */
enum { RT_UNHELD = INT_MIN };          /* of an entry: this path is not given to the cache */

bool rt_engine_thinks(const rt_request *request);
/* Adds a sampled token to the slot; returns enum rt_end when it completes, else −1. */
int rt_slot_push(rt_engine *engine, rt_slot *slot, int32_t id, float logprob);
void rt_slot_finish(rt_engine *engine, rt_slot *slot, int end);

/* engine_lookahead.c: with a new completion; with each token pushed; fills feed and returns how many
 * guesses the next step computes; told how many of them were right. */
void rt_lookahead_start(rt_slot *slot);
void rt_lookahead_push(rt_slot *slot);
int rt_lookahead_guess(rt_slot *slot);
void rt_lookahead_outcome(rt_slot *slot, int right);
void rt_engine_done(rt_engine *engine, const rt_completion *completion);
void rt_request_free(rt_engine *engine, rt_request *request);
/* Starts computed completions in submission order while slots and pages last. */
void rt_engine_start(rt_engine *engine);

/* Pages that nobody was promised, free or only held by the cache. */
int rt_engine_pages_unpromised(const rt_engine *engine);
/* Takes pages from the cache until so many are free. False: all others are in use. */
bool rt_engine_pages_make(rt_engine *engine, int pages);
/* Gives the request a node with what the cache holds of its prefix. False: too few pages. */
bool rt_request_admit(rt_engine *engine, rt_request *request);
/* Gives the full pages of node's path to the cache, and the begun one when the path ends here. The
 * path is prefix, then ids; *entry is where it was held up to. */
void rt_engine_hold(rt_engine *engine, int node, int *entry, const int32_t *prefix,
                    int prefix_count, const int32_t *ids, bool end);
void rt_slot_hold(rt_engine *engine, rt_slot *slot); /* the whole path of a completion that ends */
void rt_engine_cache_trim(rt_engine *engine);

#endif
