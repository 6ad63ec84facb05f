/* A weights version in chunks: what to ask for, what has come, is it what was announced. */
#include <string.h>
#include <xxhash.h>

#include "proto/proto.h"

enum chunk_state { CHUNK_OPEN, CHUNK_ASKED, CHUNK_HERE };

#define CHUNKS_MAX (1u << 24)

struct rt_fetch {
    int64_t version;
    uint64_t bytes;
    uint32_t chunk_bytes, chunks;
    rt_hash128 hash;
    uint32_t window, asked, here;
    uint32_t open_from; /* every chunk before it is asked for or here */
    uint32_t hashed;    /* chunks before it are in `state`: hashed while warm in the cache */
    uint8_t *into;
    uint8_t *chunk; /* enum chunk_state (chunks) */
    XXH3_state_t *state;
    bool done;
};

static size_t chunk_size(uint64_t bytes, uint32_t chunk_bytes, uint32_t index)
{
    const uint64_t begin = (uint64_t)index * chunk_bytes;
    return (size_t)RT_MIN((uint64_t)chunk_bytes, bytes - begin);
}

rt_fetch *rt_fetch_new(int64_t version, uint64_t bytes, uint32_t chunk_bytes, rt_hash128 hash,
                       int window, void *into)
{
    if (bytes == 0 || chunk_bytes == 0 || window < 1 || (bytes - 1) / chunk_bytes >= CHUNKS_MAX)
        return NULL;
    rt_fetch *fetch = rt_alloc(sizeof(*fetch));
    fetch->version = version;
    fetch->bytes = bytes;
    fetch->chunk_bytes = chunk_bytes;
    fetch->chunks = (uint32_t)((bytes - 1) / chunk_bytes + 1);
    fetch->hash = hash;
    fetch->window = (uint32_t)window;
    fetch->into = into;
    fetch->chunk = rt_alloc(fetch->chunks);
    fetch->state = XXH3_createState();
    RT_ASSERT(fetch->state != NULL);
    XXH3_128bits_reset(fetch->state);
    return fetch;
}

bool rt_fetch_next(rt_fetch *fetch, uint32_t *first, uint32_t *count)
{
    if (fetch->done || fetch->asked >= fetch->window)
        return false;
    while (fetch->open_from < fetch->chunks && fetch->chunk[fetch->open_from] != CHUNK_OPEN)
        fetch->open_from++;
    if (fetch->open_from == fetch->chunks)
        return false;
    *first = fetch->open_from;
    *count = 0;
    while (fetch->open_from < fetch->chunks && fetch->asked < fetch->window &&
           fetch->chunk[fetch->open_from] == CHUNK_OPEN) {
        fetch->chunk[fetch->open_from++] = CHUNK_ASKED;
        fetch->asked++;
        (*count)++;
    }
    return true;
}

static void start_again(rt_fetch *fetch)
{
    memset(fetch->chunk, CHUNK_OPEN, fetch->chunks);
    fetch->asked = fetch->here = fetch->open_from = fetch->hashed = 0;
    XXH3_128bits_reset(fetch->state);
}

static void hash_what_is_contiguous(rt_fetch *fetch)
{
    while (fetch->hashed < fetch->chunks && fetch->chunk[fetch->hashed] == CHUNK_HERE) {
        XXH3_128bits_update(fetch->state,
                            fetch->into + (uint64_t)fetch->hashed * fetch->chunk_bytes,
                            chunk_size(fetch->bytes, fetch->chunk_bytes, fetch->hashed));
        fetch->hashed++;
    }
}

static int verify(rt_fetch *fetch, rt_error *err)
{
    const XXH128_hash_t got = XXH3_128bits_digest(fetch->state);
    const rt_hash128 hash = {got.low64, got.high64};
    if (rt_hash_equal(hash, fetch->hash)) {
        fetch->done = true;
        return 1;
    }
    char wanted[33], found[33];
    rt_hash_hex(fetch->hash, wanted);
    rt_hash_hex(hash, found);
    start_again(fetch);
    return rt_fail(err, RT_ERR_INPUT,
                   "weights version %lld arrived with hash %s, announced was %s; it must be fetched "
                   "again",
                   (long long)fetch->version, found, wanted);
}

int rt_fetch_chunk(rt_fetch *fetch, uint32_t index, uint64_t chunk_hash, const void *data,
                   size_t bytes, rt_error *err)
{
    if (fetch->done)
        return 1;
    if (index >= fetch->chunks || fetch->chunk[index] == CHUNK_HERE)
        return 0;
    const bool asked = fetch->chunk[index] == CHUNK_ASKED;
    const bool good = bytes == chunk_size(fetch->bytes, fetch->chunk_bytes, index) &&
                      rt_hash64(data, bytes, 0) == chunk_hash;
    if (asked)
        fetch->asked--;
    if (!good) {
        fetch->chunk[index] = CHUNK_OPEN;
        fetch->open_from = RT_MIN(fetch->open_from, index);
        return 0;
    }
    /* One that was given up on and comes late is as good as one asked for. */
    memcpy(fetch->into + (uint64_t)index * fetch->chunk_bytes, data, bytes);
    fetch->chunk[index] = CHUNK_HERE;
    fetch->here++;
    hash_what_is_contiguous(fetch);
    return fetch->here == fetch->chunks ? verify(fetch, err) : 0;
}

void rt_fetch_timeout(rt_fetch *fetch)
{
    for (uint32_t i = 0; i < fetch->chunks; i++)
        if (fetch->chunk[i] == CHUNK_ASKED)
            fetch->chunk[i] = CHUNK_OPEN;
    fetch->asked = 0;
    fetch->open_from = 0;
}

double rt_fetch_done(const rt_fetch *fetch)
{
    return (double)fetch->here / fetch->chunks;
}

int64_t rt_fetch_version(const rt_fetch *fetch)
{
    return fetch->version;
}

void rt_fetch_free(rt_fetch **fetch)
{
    if (!*fetch)
        return;
    XXH3_freeState((*fetch)->state);
    rt_free((*fetch)->chunk);
    rt_free(*fetch);
    *fetch = NULL;
}

bool rt_chunk_of(const void *blob, uint64_t bytes, uint32_t chunk_bytes, uint32_t index,
                 rt_frame *frame, uint64_t *hash)
{
    if (chunk_bytes == 0 || (uint64_t)index * chunk_bytes >= bytes)
        return false;
    frame->data = (const uint8_t *)blob + (uint64_t)index * chunk_bytes;
    frame->bytes = chunk_size(bytes, chunk_bytes, index);
    *hash = rt_hash64(frame->data, frame->bytes, 0);
    return true;
}
