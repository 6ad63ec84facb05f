/*
 * model: the language model: files, tokenizer, one forward over a forest of tokens, training
 * passes, generation engine. Knows nothing of messages, tasks or algorithms.
 *
 * Threading: an object belongs to one thread at a time; distinct objects are independent.
 * rt_tokenizer and rt_model are read-only after loading and may be shared by threads
 * (tokenizer: give each thread its own rt_tokenizer_scratch-free calls, they lock nothing).
 * Ownership: *borrows*, *copies*, *takes* as in base.h. Letters: B sequences, T tokens, R rows,
 * D model, F feed-forward, L layers, H query heads, K key-value heads, S head size, V vocabulary.
 */
#ifndef RT_MODEL_H
#define RT_MODEL_H

#include "base/base.h"
#include "base/config.h"
#include "model/ops/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- architecture and weights --------------------------------------------------------------- */

typedef struct rt_arch {
    char family[16];            /* "llama" */
    int layers, d, f, heads, kv_heads, head_size, vocab, context;
    float norm_eps;
    bool tied;                  /* head = embedding table */
    double rope_theta;
    /* llama3 rope scaling; factor 0 = none */
    double rope_factor, rope_low, rope_high, rope_original;
    int bos, eos[8], eos_count; /* −1: none */
} rt_arch;

/* One tensor of the flat parameter vector. The order is canonical (embed; layers ascending, each
 * input norm, q k v o, post-attention norm, gate up down; final norm; head when untied) and is the
 * same in files, broadcasts, gradients and optimizer state: offset counts elements, tensors touch. */
typedef struct rt_tensor {
    char name[96];              /* Hugging Face name */
    int rows, cols;             /* cols 1 for vectors (norm weights) */
    size_t offset, count;
} rt_tensor;

/* All weights as one flat vector of one dtype, with the table that names its parts. */
typedef struct rt_weights {
    rt_arch arch;
    int dtype;                  /* RT_F32 or RT_BF16 */
    rt_tensor *tensors;
    int tensors_count;
    size_t count;               /* elements of all */
    void *data;                 /* count × 4 or 2 bytes, 64-byte aligned */
} rt_weights;

int rt_weights_new(rt_weights **weights, const rt_arch *arch, int dtype, rt_error *err); /* zeros */
void rt_weights_free(rt_weights **weights);
const rt_tensor *rt_weights_find(const rt_weights *weights, const char *name); /* NULL: none */
size_t rt_weights_bytes(const rt_weights *weights);
/* Normal(0, 1/sqrt(cols)) matrices (o and down scaled by 1/sqrt(2L)), ones for norms. */
void rt_weights_randomize(rt_weights *weights, uint64_t seed);
/* to (bf16 or f32) = from rounded to nearest even / widened. Same arch. */
void rt_weights_convert(rt_weights *to, const rt_weights *from);
rt_hash128 rt_weights_hash(const rt_weights *weights); /* of arch, dtype and bytes */

/* ---- files ------------------------------------------------------------------------------------ */

/* Loads MODEL: a Hugging Face folder (config.json + model.safetensors or its index), a .gguf
 * file, a checkpoint folder, or a run folder (its newest checkpoint). dtype: of the result; stored types
 * are converted (bf16→f32 exact, f32→bf16 rounded, quantized blocks dequantized in float). */
int rt_model_load(rt_weights **weights, const char *path, int dtype, rt_error *err);
/* Only config.json / GGUF metadata. */
int rt_arch_load(rt_arch *arch, const char *path, rt_error *err);
/* Resolves a run folder or checkpoint to the Hugging Face folder inside; else copies path. */
int rt_model_resolve(const char *path, rt_buf *resolved, rt_error *err);
/* Writes config.json and model.safetensors that transformers and vLLM open, and copies
 * tokenizer files from `tokenizer_from` (a model path; GGUF: rebuilt tokenizer.json) when not NULL. */
int rt_model_save(const rt_weights *weights, const char *dir, const char *tokenizer_from,
                  rt_error *err);

/* safetensors, any content. Reading maps the file; every offset is checked before use. */
typedef struct rt_st_tensor {
    const char *name;
    int dtype;                  /* RT_F32, RT_BF16, RT_F16, RT_I32 */
    int dims;
    int64_t shape[4];
    const void *data;           /* in a file maybe unaligned: read it with memcpy */
    size_t bytes;
} rt_st_tensor;
typedef struct rt_safetensors rt_safetensors;
int rt_safetensors_open(rt_safetensors **file, const char *path, rt_error *err);
int rt_safetensors_parse(rt_safetensors **file, const void *data, size_t bytes, rt_error *err); /* borrows */
int rt_safetensors_count(const rt_safetensors *file);
const rt_st_tensor *rt_safetensors_at(const rt_safetensors *file, int index);
const rt_st_tensor *rt_safetensors_find(const rt_safetensors *file, const char *name);
const char *rt_safetensors_metadata(const rt_safetensors *file, const char *key); /* NULL: none */
void rt_safetensors_close(rt_safetensors **file);
/* Atomic write. metadata: key, value, key, value, …, NULL; may be NULL. */
int rt_safetensors_write(const char *path, const rt_st_tensor *tensors, int count,
                         const char *const *metadata, rt_error *err);

/* ---- tokenizer -------------------------------------------------------------------------------- */

/* A growing list of token ids; zeros are an empty one. */
typedef struct rt_ids {
    int32_t *items;
    size_t count, capacity;
} rt_ids;
void rt_ids_add(rt_ids *ids, int32_t id);
void rt_ids_free(rt_ids *ids);

typedef struct rt_tokenizer rt_tokenizer;
/* From a Hugging Face folder (tokenizer.json), a .gguf file, a checkpoint or a run folder. */
int rt_tokenizer_load(rt_tokenizer **tokenizer, const char *path, rt_error *err);
int rt_tokenizer_parse(rt_tokenizer **tokenizer, const char *json, size_t bytes, rt_error *err);
void rt_tokenizer_free(rt_tokenizer **tokenizer);
int rt_tokenizer_vocab(const rt_tokenizer *tokenizer); /* largest id + 1 */
/* Appends ids of text (special tokens inside are recognised, none are added). Any bytes. The
 * result is malloc'ed by rt_realloc into *ids (capacity in *capacity), *count is advanced. */
int rt_tokenizer_encode(const rt_tokenizer *tokenizer, const char *text, size_t bytes,
                        int32_t **ids, size_t *count, size_t *capacity, rt_error *err);
/* The same for text that is not ours: no added token is recognised, and none comes out in any other
 * way (a byte whose only token is an added one is left out). */
int rt_tokenizer_encode_text(const rt_tokenizer *tokenizer, const char *text, size_t bytes,
                             rt_ids *ids, rt_error *err);
bool rt_tokenizer_added(const rt_tokenizer *tokenizer, int32_t id);      /* is an added token */
bool rt_tokenizer_is_special(const rt_tokenizer *tokenizer, int32_t id); /* … and a special one */
/* Appends the exact bytes of ids; unknown ids add nothing. */
void rt_tokenizer_decode(const rt_tokenizer *tokenizer, const int32_t *ids, size_t count, rt_buf *out);
const char *rt_tokenizer_bytes(const rt_tokenizer *tokenizer, int32_t id, size_t *bytes); /* one token */
int rt_tokenizer_special(const rt_tokenizer *tokenizer, const char *text); /* id or −1 */
/* Trains a byte-level BPE of `vocab` tokens (specials first, then the 256 bytes, then merges) and
 * appends it to *json as tokenizer.json. Each digit is a token of its own; no merged token contains
 * a forbidden text. The same input gives the same file. */
int rt_tokenizer_train(const char *corpus, size_t bytes, int vocab, const char *const *specials,
                       int specials_count, const char *const *forbidden, int forbidden_count,
                       rt_buf *json, rt_error *err);

/* ---- the network: weights packed for a backend ------------------------------------------------ */

typedef struct rt_net rt_net;
/* Makes room for weights of this arch and dtype on ops (borrows ops). */
int rt_net_new(rt_net **net, const rt_arch *arch, int dtype, rt_ops *ops, rt_error *err);
void rt_net_set(rt_net *net, const rt_weights *weights); /* same arch and dtype: packs all */
/* Packs one tensor given its words, so that a chunked broadcast needs no second full copy. */
void rt_net_set_tensor(rt_net *net, const rt_tensor *tensor, const void *words);
void rt_net_free(rt_net **net);
const rt_arch *rt_net_arch(const rt_net *net);

/* ---- adapters: low-rank pairs beside linear layers (LoRA, Hu et al. 2021) ----------------------- */

enum rt_target {
    RT_LORA_Q, RT_LORA_K, RT_LORA_V, RT_LORA_O, RT_LORA_GATE, RT_LORA_UP, RT_LORA_DOWN,
    RT_LORA_TARGETS
};
enum { RT_LORA_ATTENTION = 0x0f, RT_LORA_MLP = 0x70, RT_ADAPTERS_MAX = 64 };

/* y = W·x + alpha/rank · B·(A·x) for every target layer. */
typedef struct rt_lora {
    int rank;
    double alpha;
    unsigned targets;           /* bit t: enum rt_target */
} rt_lora;
bool rt_lora_of(const rt_config *config, rt_lora *lora); /* learner.lora; false: rank 0 */

/* `count` adapters of one base. Their weights are one flat f32 vector with a tensor table, as a
 * model's are (adapters, then layers, then targets ascending, A (rank, in) before B (out, rank);
 * names "adapter.0.model.layers.0.self_attn.q_proj.lora_A.weight"), so that broadcasts, gradients,
 * optimizer state and hashes treat them alike. */
typedef struct rt_adapters {
    rt_lora lora;
    int count;
    rt_weights *weights;
} rt_adapters;
int rt_adapters_new(rt_adapters **adapters, const rt_arch *arch, const rt_lora *lora, int count,
                    rt_error *err); /* zeros */
void rt_adapters_free(rt_adapters **adapters);
size_t rt_adapters_stride(const rt_adapters *adapters); /* elements of one */
/* A uniform in ±1/sqrt(in), a function of (seed, adapter, tensor); B zero: the base model. */
void rt_adapters_randomize(rt_adapters *adapters, uint64_t seed);
/* base (f32) becomes W + alpha/rank · B·A. */
void rt_adapters_merge(rt_weights *base, const rt_adapters *adapters, int adapter);
/* PEFT folders (adapter_config.json, adapter_model.safetensors), one an adapter. Those loaded
 * together must agree in rank, alpha and targets; arch is that of their base. What is not plain
 * LoRA, or of another base, is refused with a sentence. */
bool rt_peft_is(const char *path);
int rt_peft_load(rt_adapters **adapters, const rt_arch *arch, const char *const *dirs, int count,
                 rt_error *err);
/* base: written as base_model_name_or_path. */
int rt_peft_save(const rt_adapters *adapters, int adapter, double dropout, const char *base,
                 const char *dir, rt_error *err);
/* The PEFT folder behind path: itself, or that in a run or checkpoint that trained one adapter. Empty:
 * path is no adapter. */
int rt_peft_resolve(const char *path, rt_buf *dir, rt_error *err);
/* What the folder says its base is, made readable from here: as it stands, or beside the folder. */
int rt_peft_base(const char *dir, rt_buf *base, rt_error *err);

/* Room for adapters in a net, before forests and trainers are made of it; then their weights, now
 * and whenever they change. Without it, or for rows with adapter −1, the net is its base. */
int rt_net_open_adapters(rt_net *net, const rt_lora *lora, int count, rt_error *err);
void rt_net_set_adapters(rt_net *net, const rt_weights *adapters);
int rt_net_adapters(const rt_net *net); /* how many; 0: none */

/* ---- forest: runs of tokens with parents, K/V pages owned by nodes ------------------------------ */

/* A forest of token runs in a page pool. Node 0…; a node continues a token of its parent. Pages
 * are filled at absolute positions. A child shares the full pages before it and gets a copy of the
 * begun one, so that forking at any token costs no forward pass and either may grow (append)
 * afterwards. A released node gives back the pages that no other node shares. */
typedef struct rt_forest rt_forest;
int rt_forest_new(rt_forest **forest, rt_net *net, int64_t tokens_max, rt_error *err);
void rt_forest_free(rt_forest **forest);
void rt_forest_clear(rt_forest *forest);
/* New node continuing `parent` (−1: a root) after its first `keep` tokens counted from the root
 * (−1: after its last). Negative result: RT_ERR_LIMIT when pages or nodes are short. */
int rt_forest_fork(rt_forest *forest, int parent, int keep);
/* A root whose tokens, and those of all nodes that continue it, are computed with this adapter (−1:
 * off, which rt_forest_fork's roots are). */
int rt_forest_root(rt_forest *forest, int adapter);
void rt_forest_release(rt_forest *forest, int node); /* its children stay */
int rt_forest_length(const rt_forest *forest, int node);   /* tokens from the root */
/* Forgets the tokens from `length` on, which no other node shares; their pages stay the node's. */
void rt_forest_truncate(rt_forest *forest, int node, int length);
int64_t rt_forest_free_tokens(const rt_forest *forest);    /* room left, whole pages */

/* Appends ids to nodes and computes them. One run = one node's new tokens; a node occurs once.
 * hidden (R, D) of the rows after the final norm stays inside; logits for chosen rows are got with
 * rt_forest_logits. Nobody may ask for those of the first `unseen` tokens of a run: in the last layer only
 * their K/V is computed. A row's bits depend only on its path, its adapter and the weights: rows of
 * several adapters, and of none, go in one call. */
typedef struct rt_run {
    int node;
    const int32_t *ids;
    int count, unseen;
} rt_run;
int rt_forest_forward(rt_forest *forest, const rt_run *runs, int runs_count, rt_error *err);
/* logits (count, V) of rows of the last forward, numbered over its runs in order, unseen ones left out. */
void rt_forest_logits(rt_forest *forest, const int32_t *rows, int count, float *logits);

/* ---- training passes over a forest -------------------------------------------------------------- */

/* Entry: logprob of `target` after row `row`, with g = d loss/d logprob given for backward. */
typedef struct rt_entry {
    int32_t row, target;
} rt_entry;

/* A trie of the sequences of one micro-batch: shared prefixes are computed once. */
typedef struct rt_trainer rt_trainer;
int rt_trainer_new(rt_trainer **trainer, rt_net *net, int64_t tokens_max, bool recompute, rt_error *err);
void rt_trainer_free(rt_trainer **trainer);
/* sequences[i] = ids of length lengths[i], computed with adapters[i] (−1: off; NULL: all off);
 * returns the number of distinct rows after sharing and fills row_of[i][t] (the caller's memory,
 * lengths[i] each). Only sequences of one adapter and of one tree share: trees (NULL: one) are runs of
 * equal numbers, and a batch cut between two of them gives the same bits of log-probs and gradient. */
int rt_trainer_plan(rt_trainer *trainer, const int32_t *const *sequences, const int32_t *lengths,
                    const int *adapters, const int *trees, int count, int32_t **row_of,
                    rt_error *err);
/* Drops this share of the adapters' inputs in the forwards (and their backwards) that follow, 0: none.
 * What is dropped is a function of (seed, a row's path, layer, group of layers with one input). */
void rt_trainer_set_dropout(rt_trainer *trainer, double share, uint64_t seed);
/* Forward over the planned rows; logprob[e] at temperature. keep: saves what backward needs. */
int rt_trainer_forward(rt_trainer *trainer, const rt_entry *entries, int count, float temperature,
                       bool keep, float *logprob, rt_error *err);
/* Where embedding and head are one matrix, the backwards that follow add what looking tokens up gives
 * to lookups (V, D) and what the head gives to grad; NULL: both to grad. Apart, each is a sum over
 * rows in their order, whatever the cut into micro-batches. Borrows. */
void rt_trainer_set_lookups(rt_trainer *trainer, float *lookups);
/* Adds the gradient of Σ g[e]·logprob[e] to grad (flat f32, canonical order, backend memory as lookups
 * are): of all weights, or, where the net has adapters, of these alone. */
int rt_trainer_backward(rt_trainer *trainer, const rt_entry *entries, const float *g, int count,
                        float temperature, float *grad, rt_error *err);
/* logits (V) of one planned row after forward (verify). */
void rt_trainer_logits(rt_trainer *trainer, int row, float *logits);

/* Compares a model with a reference file (`retake verify`): logits, logprob, loss, gradients,
 * weights. Adds one line a kind with the worst error and its bound to report. dtype: RT_F32 or
 * RT_BF16, what the weights are computed in; device and threads as in rt_ops_open. */
int rt_verify(const char *model, const char *reference, int dtype, const char *device, int threads,
              rt_buf *report, bool *pass, rt_error *err);

/* ---- generation engine ---------------------------------------------------------------------------- */

enum { RT_LOOKAHEAD_MAX = 15 }; /* with the token before them a block of rows */

typedef struct rt_sampling {
    double temperature; /* 0 = greedy (log-probs are then of temperature 1) */
    double top_p;       /* 1 = off */
    int top_k;          /* 0 = off */
    int max_tokens;
    uint64_t seed;      /* Philox key; counter = (trajectory id, token index) */
    const char *const *stops; /* on decoded text; the completing token is kept whole */
    int stops_count;
    bool ignore_eos;
    int lookahead;      /* tokens computed ahead at most where the text repeats what stands before it;
                         * 0 = off. The results are the same bits. */
    /* thoughts: NULL delimiter = off. A thought ends with the token that completes the delimiter or at
     * tokens_max; the trajectory ends after a thought that contains `terminal`, or thoughts_max. */
    const char *delimiter, *terminal;
    int thoughts_max, thought_tokens_max;
} rt_sampling;

enum rt_end { RT_END_EOS, RT_END_STOP, RT_END_LENGTH, RT_END_TERMINAL, RT_END_THOUGHTS, RT_END_CONTEXT };
const char *rt_end_name(int end); /* eos, stop, length, terminal, thoughts, context */

typedef struct rt_completion {
    uint64_t request, trajectory;
    int32_t *ids;          /* (ids_count) */
    float *logprobs;       /* (ids_count) untruncated distribution at the sampling temperature */
    int32_t *thought_ends; /* (thoughts_count) index into ids just past each thought */
    int ids_count, thoughts_count;
    int end;               /* enum rt_end */
    int prefill;           /* prefix tokens its request computed; 0: the prefix was found whole */
} rt_completion;

typedef struct rt_engine_stats {
    /* prefix tokens computed, tokens sampled. A prefix found whole in the cache adds no prefill:
     * the one row computed for all its completions, its last token's, is one of decoding. */
    int64_t tokens_prefill, tokens_decode, steps, active, waiting;
    int64_t prefix_hits, prefix_tokens_reused; /* requests that found something, tokens of theirs */
    int64_t evictions;          /* pages taken from the cache for other tokens */
    int64_t guessed, guessed_right; /* tokens computed ahead, those of them that were sampled then */
} rt_engine_stats;

typedef struct rt_engine rt_engine;
/* slots: sequences decoded together; cache_tokens: size of the page pool (0 = slots × context).
 * What was computed stays in pages nobody else needs; a later prefix reuses what it shares with any
 * of it, up to any token. With cache_tokens 0 at most 128 MiB stay so. */
int rt_engine_new(rt_engine **engine, rt_net *net, const rt_tokenizer *tokenizer, int slots,
                  int64_t cache_tokens, rt_error *err);
void rt_engine_free(rt_engine **engine);
/* Queues n = count completions of one prefix (computed once), sampled as trajectories[i]. Copies
 * all. thoughts_before: complete thoughts already in the prefix (they count). adapter −1: off. */
int rt_engine_submit(rt_engine *engine, uint64_t request, const int32_t *prefix, int prefix_count,
                     const uint64_t *trajectories, int count, int thoughts_before, int adapter,
                     const rt_sampling *sampling, rt_error *err);
/* One batch of work: a piece of prefill and one token for each active sequence. Returns the number of
 * sequences active or waiting after it, or a negative error. */
int rt_engine_step(rt_engine *engine, rt_error *err);
/* Takes one finished completion (free with rt_completion_free); false: none. */
bool rt_engine_collect(rt_engine *engine, rt_completion *completion);
void rt_completion_free(rt_completion *completion);
void rt_engine_cancel(rt_engine *engine, uint64_t request);
/* What waits begins in ascending order of its first trajectory instead of as it came: of texts that go
 * on, those begun first, whose prefix still lies computed. Results are the same bits. */
void rt_engine_order_by_trajectory(rt_engine *engine);
/* The cache of computed prefixes, on at first; off also drops it. Results are the same bits. */
void rt_engine_set_cache(rt_engine *engine, bool on);
/* Weights of the net have changed: drops every cached prefix. Call only with nothing active. */
void rt_engine_weights_changed(rt_engine *engine);
rt_engine_stats rt_engine_get_stats(const rt_engine *engine);

#ifdef __cplusplus
}
#endif
#endif
