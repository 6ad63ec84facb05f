/*
 * Trains a byte-level BPE: the most frequent pair becomes a token, again and again. Digits stay
 * apart, so each is a token. Ties go to the smaller ids: the same corpus gives the same file.
 * Each merge scans all distinct words, which is quick for the thousands of tokens this is for.
 */
#include <string.h>

#include "model/tokenizer.h"

typedef struct word {
    size_t first;        /* in symbols */
    uint32_t length;
    int64_t count;       /* how often the corpus has it */
} word;

typedef struct pair {
    uint64_t key;        /* left id in the high half; all ones = empty */
    int64_t count;
    bool refused;
} pair;

typedef struct trainer {
    const char *corpus;
    const char *const *specials, *const *forbidden;
    int specials_count, forbidden_count;
    rt_vocab words_seen;     /* bytes of a word → its number */
    word *words;
    size_t words_capacity;
    int32_t *symbols;
    size_t symbols_count, symbols_capacity;
    pair *pairs;             /* open addressing */
    size_t pairs_mask, pairs_used;
    rt_vocab vocab;
    rt_tokenizer_parts parts;
} trainer;

static const uint64_t empty = UINT64_MAX;

/* ---- words ----------------------------------------------------------------------------------- */

static int word_add(trainer *t, const char *text, size_t bytes, rt_error *err)
{
    int32_t number = rt_vocab_find(&t->words_seen, text, bytes);
    if (number >= 0) {
        t->words[number].count++;
        return 0;
    }
    number = t->words_seen.count;
    if (number == RT_TOKENIZER_IDS_MAX || bytes > UINT32_MAX) {
        return rt_fail(err, RT_ERR_LIMIT, "the corpus has more than %d distinct words: take a "
                       "smaller sample", RT_TOKENIZER_IDS_MAX);
    }
    rt_vocab_set(&t->words_seen, number, text, bytes, true);
    if ((size_t)number == t->words_capacity) {
        size_t capacity = RT_MAX(t->words_capacity * 2, (size_t)1024);
        t->words = rt_realloc(t->words, t->words_capacity * sizeof *t->words,
                              capacity * sizeof *t->words);
        t->words_capacity = capacity;
    }
    t->words[number] = (word){t->symbols_count, (uint32_t)bytes, 1};
    if (t->symbols_count + bytes > t->symbols_capacity) {
        size_t capacity = RT_MAX(t->symbols_capacity * 2, t->symbols_count + bytes + 4096);
        t->symbols = rt_realloc(t->symbols, t->symbols_capacity * sizeof *t->symbols,
                                capacity * sizeof *t->symbols);
        t->symbols_capacity = capacity;
    }
    for (size_t i = 0; i < bytes; i++) {
        t->symbols[t->symbols_count++] = rt_vocab_find(&t->vocab, text + i, 1);
    }
    return 0;
}

static int words_of(trainer *t, const rt_splitter *splitter, rt_split_scratch *scratch,
                    const char *text, size_t bytes, rt_error *err)
{
    int rc = rt_splitter_run(splitter, scratch, text, bytes, err);
    for (size_t i = 0; rc == 0 && i < scratch->now.count; i++) {
        rt_span piece = scratch->now.items[i];
        rc = word_add(t, text + piece.begin, piece.end - piece.begin, err);
    }
    return rc;
}

/* Distinct words of the corpus; what is a special token counts as no text. */
static int words_read(trainer *t, size_t bytes, rt_error *err)
{
    rt_splitter splitter = {0};
    rt_split_scratch scratch = {0};
    rt_added_trie trie = {0};
    rt_added *added = rt_alloc(RT_MAX(t->specials_count, 1) * sizeof *added);
    for (int i = 0; i < t->specials_count; i++) {
        added[i].id = i;
        rt_added_trie_add(&trie, t->specials[i], strlen(t->specials[i]), i);
    }
    int rc = rt_splitter_add(&splitter, "\\p{N}", 5, false, RT_SPLIT_ISOLATED, false, err);
    if (rc == 0) {
        rc = rt_splitter_add(&splitter, rt_split_gpt2, strlen(rt_split_gpt2), false,
                             RT_SPLIT_ISOLATED, false, err);
    }
    size_t scan = 0, taken = 0, from = 0;
    rt_added_match match;
    while (rc == 0
           && rt_added_next(&trie, added, t->corpus, bytes, &scan, &taken, &match)) {
        rc = words_of(t, &splitter, &scratch, t->corpus + from, match.begin - from, err);
        from = match.end;
    }
    if (rc == 0) {
        rc = words_of(t, &splitter, &scratch, t->corpus + from, bytes - from, err);
    }
    rt_free(added);
    rt_added_trie_free(&trie);
    rt_split_scratch_free(&scratch);
    rt_splitter_free(&splitter);
    return rc;
}

/* ---- pairs ----------------------------------------------------------------------------------- */

static size_t pair_slot(const trainer *t, uint64_t key)
{
    size_t slot = rt_hash64(&key, sizeof key, 0) & t->pairs_mask;
    while (t->pairs[slot].key != empty && t->pairs[slot].key != key) {
        slot = (slot + 1) & t->pairs_mask;
    }
    return slot;
}

static void pairs_grow(trainer *t)
{
    pair *old = t->pairs;
    size_t slots_old = old == NULL ? 0 : t->pairs_mask + 1;
    size_t slots = slots_old == 0 ? 4096 : slots_old * 2;
    t->pairs = rt_alloc(slots * sizeof *t->pairs);
    t->pairs_mask = slots - 1;
    for (size_t i = 0; i < slots; i++) {
        t->pairs[i].key = empty;
    }
    for (size_t i = 0; i < slots_old; i++) {
        if (old[i].key != empty) {
            t->pairs[pair_slot(t, old[i].key)] = old[i];
        }
    }
    rt_free(old);
}

static void pairs_count(trainer *t, const word *w, int64_t sign)
{
    for (uint32_t i = 0; i + 1 < w->length; i++) {
        if (t->pairs == NULL || t->pairs_used * 2 > t->pairs_mask) {
            pairs_grow(t);
        }
        const int32_t *at = t->symbols + w->first + i;
        uint64_t key = (uint64_t)(uint32_t)at[0] << 32 | (uint32_t)at[1];
        pair *p = &t->pairs[pair_slot(t, key)];
        t->pairs_used += p->key == empty;
        p->key = key;
        p->count += sign * w->count;
    }
}

/* Most frequent pair that is not refused; NULL: none occurs twice. */
static pair *pairs_best(trainer *t)
{
    pair *best = NULL;
    for (size_t i = 0; t->pairs != NULL && i <= t->pairs_mask; i++) {
        pair *p = &t->pairs[i];
        if (p->key == empty || p->refused || p->count < 2) {
            continue;
        }
        if (best == NULL || p->count > best->count
            || (p->count == best->count && p->key < best->key)) {
            best = p;
        }
    }
    return best;
}

/* ---- merges ---------------------------------------------------------------------------------- */

static bool is_forbidden(const trainer *t, const char *text, size_t bytes)
{
    for (int i = 0; i < t->forbidden_count; i++) {
        if (memmem(text, bytes, t->forbidden[i], strlen(t->forbidden[i])) != NULL) {
            return true;
        }
    }
    for (int i = 0; i < t->specials_count; i++) { /* its text already has an id */
        if (strlen(t->specials[i]) == bytes && memcmp(text, t->specials[i], bytes) == 0) {
            return true;
        }
    }
    return false;
}

static void token_add(trainer *t, const char *text, size_t bytes)
{
    rt_buf name = {0};
    int32_t id = t->vocab.count;
    rt_vocab_set(&t->vocab, id, text, bytes, true);
    rt_alphabet_write(&name, text, bytes);
    rt_parts_token(&t->parts, name.data, name.bytes, id);
    rt_buf_free(&name);
}

static void words_merge(trainer *t, int32_t left, int32_t right, int32_t id)
{
    for (int32_t n = 0; n < t->words_seen.count; n++) {
        word *w = &t->words[n];
        int32_t *symbols = t->symbols + w->first;
        bool has = false;
        for (uint32_t i = 0; i + 1 < w->length && !has; i++) {
            has = symbols[i] == left && symbols[i + 1] == right;
        }
        if (!has) {
            continue;
        }
        pairs_count(t, w, -1);
        uint32_t kept = 0;
        for (uint32_t i = 0; i < w->length; i++) {
            bool join = i + 1 < w->length && symbols[i] == left && symbols[i + 1] == right;
            symbols[kept++] = join ? id : symbols[i];
            i += join;
        }
        w->length = kept;
        pairs_count(t, w, 1);
    }
}

/* One merge; false: no pair is left that occurs twice. */
static bool merge_next(trainer *t)
{
    rt_buf name[2] = {{0}, {0}}, text = {0};
    pair *best;
    size_t bytes, left_bytes = 0;
    int32_t left = 0, right = 0;
    while ((best = pairs_best(t)) != NULL) {
        left = (int32_t)(best->key >> 32);
        right = (int32_t)(best->key & UINT32_MAX);
        rt_buf_clear(&text);
        const char *part = rt_vocab_get(&t->vocab, left, &left_bytes);
        rt_buf_add(&text, part, left_bytes);
        part = rt_vocab_get(&t->vocab, right, &bytes);
        rt_buf_add(&text, part, bytes);
        if (!is_forbidden(t, text.data, text.bytes)) {
            break;
        }
        best->refused = true;
    }
    if (best != NULL) {
        int32_t id = rt_vocab_find(&t->vocab, text.data, text.bytes);
        if (id < 0) { /* else another pair has made the same token: only the merge is new */
            id = t->vocab.count;
            token_add(t, text.data, text.bytes);
        }
        rt_alphabet_write(&name[0], text.data, left_bytes);
        rt_alphabet_write(&name[1], text.data + left_bytes, text.bytes - left_bytes);
        rt_parts_merge(&t->parts, name[0].data, name[0].bytes, name[1].data, name[1].bytes);
        words_merge(t, left, right, id);
    }
    rt_buf_free(&text);
    rt_buf_free(&name[0]);
    rt_buf_free(&name[1]);
    return best != NULL;
}

static int check(const trainer *t, size_t bytes, int vocab, rt_error *err)
{
    if (vocab < 256 + t->specials_count || vocab > RT_TOKENIZER_IDS_MAX) {
        return rt_fail(err, RT_ERR_USAGE, "a vocabulary of %d tokens is not possible: 256 bytes "
                       "and %d special tokens need %d", vocab, t->specials_count,
                       256 + t->specials_count);
    }
    size_t valid = rt_utf8_valid(t->corpus, bytes);
    if (valid < bytes) {
        return rt_fail(err, RT_ERR_INPUT, "byte %zu of the corpus is not UTF-8: give it as UTF-8",
                       valid);
    }
    for (int i = 0; i < t->specials_count; i++) {
        size_t length = strlen(t->specials[i]);
        bool bad = length < 2 || rt_utf8_valid(t->specials[i], length) != length;
        for (int j = 0; j < i && !bad; j++) {
            bad = strcmp(t->specials[i], t->specials[j]) == 0;
        }
        if (bad) {
            return rt_fail(err, RT_ERR_USAGE, "special token %d ('%.60s') must be UTF-8 text of at "
                           "least two bytes that comes once", i, t->specials[i]);
        }
    }
    for (int i = 0; i < t->forbidden_count; i++) {
        if (strlen(t->forbidden[i]) < 2) {
            return rt_fail(err, RT_ERR_USAGE, "forbidden text %d must have at least two bytes: "
                           "single bytes are always tokens", i);
        }
    }
    return 0;
}

/* Ids: the special tokens, the bytes in the order of their characters, then the merges. */
static int train(trainer *t, size_t bytes, int vocab, rt_error *err)
{
    for (int i = 0; i < t->specials_count; i++) {
        size_t length = strlen(t->specials[i]);
        rt_vocab_set(&t->vocab, i, t->specials[i], length, false);
        rt_parts_token(&t->parts, t->specials[i], length, i);
        rt_parts_added(&t->parts, t->specials[i], length, i, true);
    }
    for (int point = 0; point < 0x180; point++) {
        for (int byte = 0; byte < 256; byte++) {
            if (rt_alphabet_char((uint8_t)byte) == point) {
                char one = (char)byte;
                token_add(t, &one, 1);
            }
        }
    }
    int rc = words_read(t, bytes, err);
    if (rc < 0) {
        return rc;
    }
    for (int32_t n = 0; n < t->words_seen.count; n++) {
        pairs_count(t, &t->words[n], 1);
    }
    while (t->vocab.count < vocab) {
        if (!merge_next(t)) {
            return rt_fail(err, RT_ERR_INPUT, "the corpus has no more pairs that occur twice after "
                           "%d of %d tokens: give more text or ask for fewer tokens",
                           t->vocab.count, vocab);
        }
    }
    return 0;
}

int rt_tokenizer_train(const char *corpus, size_t bytes, int vocab, const char *const *specials,
                       int specials_count, const char *const *forbidden, int forbidden_count,
                       rt_buf *json, rt_error *err)
{
    trainer t = {.corpus = corpus, .specials = specials, .specials_count = specials_count,
                 .forbidden = forbidden, .forbidden_count = forbidden_count};
    int rc = check(&t, bytes, vocab, err);
    if (rc == 0) {
        rc = train(&t, bytes, vocab, err);
    }
    if (rc == 0) {
        t.parts.normalizer = "null";
        t.parts.pre_tokenizer = rt_pre_tokenizer_digits;
        rt_parts_write(&t.parts, json);
    }
    rt_vocab_free(&t.words_seen);
    rt_vocab_free(&t.vocab);
    rt_free(t.words);
    rt_free(t.symbols);
    rt_free(t.pairs);
    rt_parts_free(&t.parts);
    return rc;
}
