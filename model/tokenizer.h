/*
 * tokenizer: what the tokenizer's own files share. Nobody outside model/ includes it.
 *
 * The way of a text: added tokens that look at the raw text → runs of valid UTF-8 (invalid bytes
 * become pieces of their own) → normal form → added tokens that look at normalised text → pieces
 * by regular expressions → merges over bytes. Nothing of a loaded tokenizer changes afterwards, so
 * threads share it; what an encode call needs lives in its own scratch.
 */
#ifndef RT_MODEL_TOKENIZER_H
#define RT_MODEL_TOKENIZER_H

#include "model/model.h"

enum {
    RT_TOKENIZER_IDS_MAX = 1 << 21,           /* largest id + 1: eight times the largest known */
    RT_TOKENIZER_FILE_BYTES_MAX = 256 << 20,
    RT_TOKENIZER_STAGES_MAX = 16,             /* splits one after another */
    RT_TOKENIZER_DEPTH_MAX = 8                /* sequences inside sequences */
};

/* ---- byte alphabet: each byte as one printable character (GPT-2) ----------------------------- */

int rt_alphabet_char(uint8_t byte); /* code point, below 0x180 */
void rt_alphabet_write(rt_buf *out, const void *bytes, size_t count);
/* Bytes that text stands for, into out (at least `bytes` long); −1: a character is no byte. */
ptrdiff_t rt_alphabet_read(const char *text, size_t bytes, char *out);

/* ---- vocabulary: id ↔ bytes ------------------------------------------------------------------ */

typedef struct rt_token {
    size_t offset;
    uint32_t bytes;
    bool present;
} rt_token;

typedef struct rt_vocab {
    rt_token *tokens;        /* (count) */
    int count, capacity;     /* largest id + 1 */
    rt_buf text;             /* bytes of all tokens */
    int32_t *index;          /* open addressing: id + 1, 0 = empty */
    size_t index_mask, index_used;
} rt_vocab;

/* Copies. Only indexed tokens are found by rt_vocab_find. The caller has checked the id. */
void rt_vocab_set(rt_vocab *vocab, int32_t id, const void *bytes, size_t count, bool indexed);
int32_t rt_vocab_find(const rt_vocab *vocab, const void *bytes, size_t count); /* −1: none */
const char *rt_vocab_get(const rt_vocab *vocab, int32_t id, size_t *bytes);    /* NULL: none */
void rt_vocab_free(rt_vocab *vocab);

/* ---- merges ---------------------------------------------------------------------------------- */

typedef struct rt_merge {
    uint64_t pair; /* left id in the high half; all ones = empty */
    int32_t rank, id;
} rt_merge;

typedef struct rt_bpe {
    rt_merge *merges; /* open addressing */
    size_t mask, used;
    int32_t byte_ids[256];   /* −1: the vocabulary lacks the byte */
    int32_t unknown;         /* id for such a byte; −1: it is dropped */
    bool fuse_unknown;       /* neighbours share one unknown id */
    bool whole_first;        /* a piece that is a token needs no merges ("ignore_merges") */
} rt_bpe;

typedef struct rt_bpe_scratch {
    struct rt_bpe_symbol *symbols;
    struct rt_bpe_item *heap;
    size_t symbols_capacity, heap_count, heap_capacity;
} rt_bpe_scratch;

void rt_bpe_init(rt_bpe *bpe, size_t merges_count);
/* A pair that comes again takes the later rank. */
void rt_bpe_add(rt_bpe *bpe, int32_t left, int32_t right, int32_t rank, int32_t id);
void rt_bpe_free(rt_bpe *bpe);
void rt_bpe_encode(const rt_bpe *bpe, const rt_vocab *vocab, rt_bpe_scratch *scratch,
                   const char *piece, size_t bytes, rt_ids *out);
void rt_bpe_scratch_free(rt_bpe_scratch *scratch);

/* ---- splitting into pieces ------------------------------------------------------------------- */

enum rt_split_behavior {
    RT_SPLIT_ISOLATED,    /* matches and what lies between them are pieces */
    RT_SPLIT_REMOVED,     /* only what lies between */
    RT_SPLIT_PREVIOUS,    /* a match joins the piece before it */
    RT_SPLIT_NEXT,        /* a match joins the piece after it */
    RT_SPLIT_CONTIGUOUS   /* touching matches are one piece */
};

typedef struct rt_span {
    size_t begin, end;
} rt_span;

typedef struct rt_spans {
    rt_span *items;
    size_t count, capacity;
} rt_spans;

typedef struct rt_split_stage {
    void *code;               /* pcre2_code */
    bool compiled;            /* to machine code */
    bool invert;
    enum rt_split_behavior behavior;
} rt_split_stage;

typedef struct rt_splitter {
    rt_split_stage stages[RT_TOKENIZER_STAGES_MAX];
    int count;
} rt_splitter;

typedef struct rt_split_scratch {
    rt_spans now, next;
    void *match;              /* pcre2_match_data */
} rt_split_scratch;

extern const char rt_split_gpt2[]; /* the pattern a ByteLevel pre-tokenizer brings along */

/* Appends a stage. literal: the pattern is plain text, not an expression. */
int rt_splitter_add(rt_splitter *splitter, const char *pattern, size_t bytes, bool literal,
                    enum rt_split_behavior behavior, bool invert, rt_error *err);
/* Pieces of text (valid UTF-8) in scratch->now. Each stage sees each piece alone. */
int rt_splitter_run(const rt_splitter *splitter, rt_split_scratch *scratch, const char *text,
                    size_t bytes, rt_error *err);
void rt_splitter_free(rt_splitter *splitter);
void rt_split_scratch_free(rt_split_scratch *scratch);

/* ---- added tokens: found in the text before anything is split -------------------------------- */

typedef struct rt_added {
    char *text;
    size_t bytes;
    int32_t id;
    bool special, normalized, lstrip, rstrip, single_word;
} rt_added;

/* Trie over the texts of some added tokens; the longest at the leftmost place wins. */
typedef struct rt_added_trie {
    struct rt_added_node *nodes;
    int32_t count, capacity;
    int32_t first[256];       /* node of a first byte, 0 = none */
} rt_added_trie;

typedef struct rt_added_match {
    size_t begin, end;        /* spaces swallowed by lstrip and rstrip included */
    int32_t id;
} rt_added_match;

void rt_added_trie_add(rt_added_trie *trie, const char *text, size_t bytes, int32_t index);
void rt_added_trie_free(rt_added_trie *trie);
/* Next match at or after *scan, taking nothing before *taken; both start at 0 and are advanced. */
bool rt_added_next(const rt_added_trie *trie, const rt_added *added, const char *text,
                   size_t bytes, size_t *scan, size_t *taken, rt_added_match *match);

/* ---- the object ------------------------------------------------------------------------------ */

enum rt_normal_form { RT_NFC, RT_NFD, RT_NFKC, RT_NFKD };

struct rt_tokenizer {
    rt_vocab vocab;
    rt_bpe bpe;
    rt_splitter splitter;
    enum rt_normal_form forms[RT_TOKENIZER_STAGES_MAX];
    int forms_count;
    rt_added *added;
    int added_count;
    rt_added_trie raw, normalized;
};

/* text (valid UTF-8) in normal form, replacing what out holds. */
int rt_tokenizer_normalize(const rt_tokenizer *tokenizer, const char *text, size_t bytes,
                           rt_buf *out, rt_error *err);

/* ---- tokenizer.json from parts --------------------------------------------------------------- */

typedef struct rt_tokenizer_parts {
    rt_buf vocab, merges, added;   /* JSON members, without the brackets */
    const char *normalizer;        /* JSON */
    const char *pre_tokenizer;     /* JSON */
    bool whole_first;
} rt_tokenizer_parts;

/* text and its length in UTF-8; left and right in the byte alphabet. */
void rt_parts_token(rt_tokenizer_parts *parts, const char *text, size_t bytes, int32_t id);
void rt_parts_merge(rt_tokenizer_parts *parts, const char *left, size_t left_bytes,
                    const char *right, size_t right_bytes);
void rt_parts_added(rt_tokenizer_parts *parts, const char *text, size_t bytes, int32_t id,
                    bool special);
void rt_parts_write(const rt_tokenizer_parts *parts, rt_buf *json);
void rt_parts_free(rt_tokenizer_parts *parts);

/* Pre-tokenizer of SmolLM2: digits apart, then GPT-2's split. */
extern const char rt_pre_tokenizer_digits[];

/* The tokenizer of a GGUF file as tokenizer.json, for loading and for export. */
int rt_tokenizer_from_gguf(const char *path, rt_buf *json, rt_error *err);

#endif
