/*
 * base: what every folder needs and nothing more: errors, assertions, memory, log, clock,
 * counter-based random numbers, hashing, a ring queue, files, small number formats.
 *
 * Threading: every function is re-entrant; an object belongs to one thread at a time unless its
 * comment says otherwise (rt_ring is the exception: one producer, one consumer).
 * Ownership words used in every header: *borrows* (the callee keeps no pointer after returning,
 * or the caller must outlive the object), *copies*, *takes* (ownership moves, only on success).
 */
#ifndef RT_BASE_H
#define RT_BASE_H

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- errors: 0 is success, every other code is negative --------------------------------- */

#define RT_ERRORS(X)                                                                             \
    X(RT_ERR_USAGE, -1, "usage or configuration")  /* exit code 2 */                            \
    X(RT_ERR_INPUT, -2, "bad input")               /* a file, a line, a message */              \
    X(RT_ERR_IO, -3, "input or output failed")     /* errno is in the message */                \
    X(RT_ERR_LIMIT, -4, "a limit was reached")                                                  \
    X(RT_ERR_NOMEM, -5, "out of memory")                                                        \
    X(RT_ERR_PEER, -6, "a peer is gone or refused")                                             \
    X(RT_ERR_MATH, -7, "not a number")                                                          \
    X(RT_ERR_STATE, -8, "not possible in this state")                                           \
    X(RT_ERR_STOPPED, -9, "stopped on request")    /* exit code 130 */

enum rt_code {
    RT_OK = 0,
#define X(name, value, text) name = value,
    RT_ERRORS(X)
#undef X
};

/* One sentence for a person: what, where, what to do. `file`/`line` are of our source. */
typedef struct rt_error {
    int code;
    int line;
    const char *file;
    char message[400];
} rt_error;

const char *rt_code_text(int code);
/* Fills *err (may be NULL) and returns code, so that `return rt_fail(err, RT_ERR_IO, "…")` reads well. */
#define rt_fail(err, code, ...) rt_error_set((err), (code), __FILE__, __LINE__, __VA_ARGS__)
int rt_error_set(rt_error *err, int code, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* Puts "prefix: " before the message that is there (place first, then what went wrong). */
int rt_error_prefix(rt_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Exit code of a program for an error code: 0, 1, 2 or 130. */
int rt_exit_code(int code);

/* Programmer errors: stays on in release builds, must have no side effect. */
#define RT_ASSERT(condition) \
    ((condition) ? (void)0 : rt_assert_failed(#condition, __FILE__, __LINE__))
_Noreturn void rt_assert_failed(const char *condition, const char *file, int line);

#define RT_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define RT_MIN(a, b) ((a) < (b) ? (a) : (b))
#define RT_MAX(a, b) ((a) > (b) ? (a) : (b))

/* ---- memory ------------------------------------------------------------------------------ */

/* Never return NULL: running out of memory at start-up ends the program with one sentence. */
void *rt_alloc(size_t bytes);                      /* zeroed, 64-byte aligned */
void *rt_realloc(void *pointer, size_t bytes_old, size_t bytes_new); /* new part zeroed */
void rt_free(void *pointer);
char *rt_strdup(const char *text);
char *rt_strndup(const char *text, size_t bytes);
char *rt_format(const char *format, ...) __attribute__((format(printf, 1, 2))); /* free with rt_free */

/* Arena: many small allocations that end together. */
typedef struct rt_arena rt_arena;
rt_arena *rt_arena_new(size_t block_bytes);
void *rt_arena_alloc(rt_arena *arena, size_t bytes); /* zeroed, 16-byte aligned */
void rt_arena_reset(rt_arena *arena);                /* everything handed out ends here */
void rt_arena_free(rt_arena **arena);

/* Growing byte buffer; `data` is always NUL-terminated one past `bytes` (text-safe). */
typedef struct rt_buf {
    char *data;
    size_t bytes, capacity;
} rt_buf;
void rt_buf_add(rt_buf *buf, const void *data, size_t bytes);
void rt_buf_addf(rt_buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
void rt_buf_clear(rt_buf *buf); /* keeps the memory */
void rt_buf_free(rt_buf *buf);

/* ---- log and clock ----------------------------------------------------------------------- */

enum rt_level { RT_DEBUG, RT_INFO, RT_WARN, RT_ERROR };
typedef struct rt_log {
    char who[32];         /* role name, first on each line */
    enum rt_level level;  /* lines below it are dropped */
    FILE *out;            /* borrows; stderr by default */
} rt_log;
void rt_log_init(rt_log *log, const char *who, enum rt_level level);
void rt_log_line(const rt_log *log, enum rt_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

int64_t rt_now_ns(void);  /* monotonic */
int64_t rt_wall_ms(void); /* milliseconds since 1970 */

/* ---- random numbers: a value is a function of its key and counter, there is no state ------ */

/* Philox4x32-10 (Salmon et al., SC'11). Key = seed, counter = (stream, index). */
void rt_philox(uint64_t seed, uint64_t stream, uint64_t index, uint32_t out[4]);
double rt_uniform(uint64_t seed, uint64_t stream, uint64_t index);  /* [0, 1), 53 bits */
float rt_normal(uint64_t seed, uint64_t stream, uint64_t index);    /* mean 0, deviation 1 */
uint32_t rt_below(uint64_t seed, uint64_t stream, uint64_t index, uint32_t bound); /* [0, bound) */
/* order[0..count) = permutation of 0..count−1, a function of (seed, stream). */
void rt_permutation(uint64_t seed, uint64_t stream, uint32_t *order, uint32_t count);

/* ---- hashing (XXH3) ---------------------------------------------------------------------- */

typedef struct rt_hash128 {
    uint64_t low, high;
} rt_hash128;
uint64_t rt_hash64(const void *data, size_t bytes, uint64_t seed);
rt_hash128 rt_hash(const void *data, size_t bytes);
void rt_hash_hex(rt_hash128 hash, char out[33]);
bool rt_hash_equal(rt_hash128 a, rt_hash128 b);

/* ---- ring queue: one producer thread, one consumer thread, pointers ----------------------- */

typedef struct rt_ring rt_ring;
rt_ring *rt_ring_new(size_t capacity); /* rounded up to a power of two */
bool rt_ring_push(rt_ring *ring, void *item); /* false: full */
void *rt_ring_pop(rt_ring *ring);             /* NULL: empty */
size_t rt_ring_count(const rt_ring *ring);
void rt_ring_free(rt_ring **ring);

/* ---- files ------------------------------------------------------------------------------- */

typedef struct rt_map { /* read-only mapping of a whole file */
    const uint8_t *data;
    size_t bytes;
} rt_map;
int rt_map_open(rt_map *map, const char *path, rt_error *err); /* bytes 0 is no error */
void rt_map_close(rt_map *map);
int rt_file_read(const char *path, size_t bytes_max, rt_buf *out, rt_error *err);
/* Writes a temporary name beside path, fsyncs, renames, fsyncs the folder: old or new, never half. */
int rt_file_write(const char *path, const void *data, size_t bytes, rt_error *err);
int rt_mkdirs(const char *path, rt_error *err); /* with parents; existing is fine */
int rt_remove_tree(const char *path, rt_error *err);
bool rt_file_exists(const char *path);

/* ---- number formats ---------------------------------------------------------------------- */

float rt_from_bf16(uint16_t bits);
uint16_t rt_to_bf16(float value); /* to nearest, ties to even; NaN stays NaN */
float rt_from_f16(uint16_t bits);
uint16_t rt_to_f16(float value);

/* 95 % Wilson score interval of a share (Wilson 1927); count 0 gives [0, 1]. */
void rt_wilson(int64_t successes, int64_t count, double *low, double *high);
/* The same for a mean of `count` shares in [0, 1]. */
void rt_wilson_share(double share, int64_t count, double *low, double *high);
/* Edit distance for "did you mean"; both at most 63 bytes count, the rest is cut. */
int rt_edit_distance(const char *a, const char *b);
/* First valid bytes of text as UTF-8: returns bytes up to the first invalid or cut sequence. */
size_t rt_utf8_valid(const char *text, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
