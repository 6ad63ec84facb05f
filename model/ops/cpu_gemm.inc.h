/*
 * The inner product kernel everything else is built from, included by cpu_kernels.c.
 *
 * A tile computes C (MR, NP·16) from A (MR, depth) and NP panels of B (depth, 16): each element
 * of C is one chain of fused multiply-adds, ascending over depth, that begins at 0 or at the
 * value in memory. The shape of a tile therefore never shows in the result.
 */

#if defined(RT_ISA_avx512)
#define TILE_ROWS 12 /* 12 rows × 2 panels: 24 of 32 registers accumulate */
#else
#define TILE_ROWS 6  /* 6 rows × 1 panel: 12 of 16 registers accumulate */
#endif
#define TILE_PANELS 8

typedef struct tile_args {
    const float *a;             /* element (i, k) at a[i·a_row + k·a_step] */
    size_t a_row, a_step;
    const void *const *b;       /* panels of floats or bf16 words; row k begins at k·b_row */
    size_t b_row;
    float *c;                   /* panel p at c + 16·p */
    size_t c_row;
    int depth, columns;         /* columns of all panels; the last panel may be ragged */
    bool resume;                /* chains begin at the values in C */
} tile_args;

enum b_kind { B_F32, B_BF16, B_RAGGED, B_KINDS }; /* ragged: no padding after the last column */

RT_INLINE vf load_b(const void *b, size_t at, enum b_kind kind, int columns)
{
    if (kind == B_BF16)
        return vload_bf16((const uint16_t *)b + at);
    if (kind == B_RAGGED)
        return vload_to((const float *)b + at, columns);
    return vload((const float *)b + at);
}

/* A kernel is expanded once a shape, so that its accumulators live in registers; plain C has no
 * such registers and keeps one general copy. */
#if defined(RT_ISA_scalar)
#define RT_KERNEL static __attribute__((noinline))
#define UNROLL(n)
#else
#define RT_KERNEL RT_INLINE
#define UNROLL(n) PRAGMA(GCC unroll n)
#endif

RT_KERNEL void tile(const tile_args *t, int mr, int np, enum b_kind kind)
{
    vf acc[TILE_ROWS][TILE_PANELS];
    const float *a = t->a;
    float *c = t->c;
    size_t at = 0, a_row = t->a_row, a_step = t->a_step, b_row = t->b_row, c_row = t->c_row;
    int depth = t->depth, tail = t->columns - 16 * (np - 1);
    UNROLL(12)
    for (int i = 0; i < mr; i++) {
        UNROLL(8)
        for (int p = 0; p < np; p++)
            acc[i][p] = t->resume ? vload_to(c + (size_t)i * c_row + 16 * p,
                                             p == np - 1 ? tail : 16)
                                  : vzero();
    }
    for (int k = 0; k < depth; k++, at += b_row, a += a_step) {
        vf b[TILE_PANELS];
        UNROLL(8)
        for (int p = 0; p < np; p++)
            b[p] = load_b(t->b[p], at, kind, tail);
        UNROLL(12)
        for (int i = 0; i < mr; i++) {
            vf x = vset1(a[(size_t)i * a_row]);
            UNROLL(8)
            for (int p = 0; p < np; p++)
                acc[i][p] = vfma(x, b[p], acc[i][p]);
        }
    }
    UNROLL(12)
    for (int i = 0; i < mr; i++) {
        UNROLL(8)
        for (int p = 0; p < np; p++)
            vstore_to(c + (size_t)i * c_row + 16 * p, acc[i][p], p == np - 1 ? tail : 16);
    }
}

typedef void tile_function(const tile_args *t);

/* Every shape whose accumulators fit: up to panels_most[rows] panels beside each other. */
#if defined(RT_ISA_avx512)
#define TILES(X, kind) X(kind, 1, 1) X(kind, 2, 1) X(kind, 3, 1) X(kind, 4, 1) X(kind, 5, 1) \
    X(kind, 6, 1) X(kind, 7, 1) X(kind, 8, 1) X(kind, 9, 1) X(kind, 10, 1) X(kind, 11, 1) \
    X(kind, 12, 1) X(kind, 1, 2) X(kind, 2, 2) X(kind, 3, 2) X(kind, 4, 2) X(kind, 5, 2) \
    X(kind, 6, 2) X(kind, 7, 2) X(kind, 8, 2) X(kind, 9, 2) X(kind, 10, 2) X(kind, 11, 2) \
    X(kind, 12, 2) X(kind, 1, 3) X(kind, 2, 3) X(kind, 3, 3) X(kind, 1, 4) X(kind, 2, 4) \
    X(kind, 3, 4) X(kind, 1, 5) X(kind, 1, 6) X(kind, 1, 7) X(kind, 1, 8)
static const int panels_most[TILE_ROWS + 1] = {1, 8, 4, 4, 2, 2, 2, 2, 2, 2, 2, 2, 2};
#else
#define TILES(X, kind) X(kind, 1, 1) X(kind, 2, 1) X(kind, 3, 1) X(kind, 4, 1) X(kind, 5, 1) \
    X(kind, 6, 1) X(kind, 1, 2) X(kind, 2, 2) X(kind, 3, 2) X(kind, 1, 3) X(kind, 2, 3) \
    X(kind, 1, 4)
static const int panels_most[TILE_ROWS + 1] = {1, 4, 3, 2, 1, 1, 1};
#endif

#define TILE(kind, mr, np) \
    static void tile_##kind##_##mr##_##np(const tile_args *t) { tile(t, mr, np, kind); }
#define TILE_ENTRY(kind, mr, np) [kind][np][mr] = tile_##kind##_##mr##_##np,

TILES(TILE, B_F32)
TILES(TILE, B_BF16)
TILES(TILE, B_RAGGED)

static tile_function *const tiles[B_KINDS][TILE_PANELS + 1][TILE_ROWS + 1] = {
    TILES(TILE_ENTRY, B_F32) TILES(TILE_ENTRY, B_BF16) TILES(TILE_ENTRY, B_RAGGED)
};

/* Panels that a call of tile_rows with so many rows takes at most. */
static inline int panels_at_once(int rows)
{
    int blocks = (rows + TILE_ROWS - 1) / TILE_ROWS;
    return panels_most[(rows + blocks - 1) / blocks];
}

/* Runs `rows` rows over np panels (up to panels_at_once(rows)) in blocks of nearly equal height.
 * Leaves t at the row after them. (By pointer: a copy is read before it is written out, which
 * stalls small tiles longer than they compute.) */
static void tile_rows(tile_args *t, int rows, int np, enum b_kind kind)
{
    tile_function *const *of_height = tiles[kind][np];
    for (int blocks = (rows + TILE_ROWS - 1) / TILE_ROWS; blocks > 0; blocks--) {
        int height = blocks == 1 ? rows : (rows + blocks - 1) / blocks;
        of_height[height](t);
        t->a += (size_t)height * t->a_row;
        t->c += (size_t)height * t->c_row;
        rows -= height;
    }
}
