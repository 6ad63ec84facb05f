/*
 * Rotary positions, the paged K/V store, attention and its gradient, included by cpu_kernels.c.
 *
 * Attention works on blocks: rows next to each other on one path (same page table, positions
 * one after the other) that end in the same page, times the query heads of one key-value head.
 * A block only saves loads: every row's chains run over absolute positions in ascending order
 * whatever block it is in. Slots beyond a row's position are never multiplied into its result,
 * so what an earlier user left in a page cannot show. A block of one row may hold several key-value
 * heads, where one alone has too few chains to keep the multipliers busy.
 */

/* ---- rotary positions ----------------------------------------------------------------------- */

static void rope_fill(const rt_rope_table *t, int first, int end)
{
    for (int position = first; position < end; position++) {
        float *c = t->data + (size_t)position * 2 * t->wide, *s = c + t->wide;
        for (int i = 0; i < t->half; i++) {
            double cosine, sine;
            cos_sin((double)position * (double)t->frequencies[i], &cosine, &sine);
            c[i] = (float)cosine;
            s[i] = (float)sine;
        }
    }
}

/* The table with all positions of the rows in it. */
static const rt_rope_table *rope_table(rt_ops *ops, const rt_rope *rope, const rt_row *at, int rows)
{
    rt_rope_table *t = &((rt_host *)ops)->rope;
    int half = rope->head_size / 2, positions = 0;
    size_t bytes = (size_t)half * sizeof(float);
    for (int r = 0; r < rows; r++)
        positions = RT_MAX(positions, at[r].position + 1);
    if (t->half != half || memcmp(t->frequencies, rope->frequencies, bytes) != 0) {
        rt_free(t->frequencies);
        rt_free(t->data);
        *t = (rt_rope_table){.half = half, .wide = ((size_t)half + 15) / 16 * 16,
                             .frequencies = rt_alloc(bytes)};
        memcpy(t->frequencies, rope->frequencies, bytes);
    }
    if (positions > t->positions) {
        int before = t->positions, now = RT_MAX(positions, before + before / 2);
        size_t row = 2 * t->wide * sizeof(float);
        t->data = rt_realloc(t->data, (size_t)before * row, (size_t)now * row);
        rope_fill(t, before, now);
        t->positions = now;
    }
    return t;
}

static void rope_row(float *x, int heads, const rt_rope_table *t, int position, vf sign)
{
    const float *c = t->data + (size_t)position * 2 * t->wide, *s = c + t->wide;
    for (int i = 0; i < t->half; i += 16) {
        int n = t->half - i;
        vf cosine = vload(c + i), sine = vmul(vload(s + i), sign);
        float *low = x + i, *high = low + t->half;
        for (int h = 0; h < heads; h++, low += 2 * t->half, high += 2 * t->half) {
            vf a = vload_to(low, n), b = vload_to(high, n);
            vf turned = vmul(b, sine);
            vstore_to(low, vfma(a, cosine, vsub(vzero(), turned)), n);
            vstore_to(high, vfma(b, cosine, vmul(a, sine)), n);
        }
    }
}

static void cpu_rope(rt_ops *ops, float *x, int x_ld, int heads, const rt_rope *rope,
                     const rt_row *at, int rows, int sign)
{
    int threads = threads_for(ops, (double)rows * rope->head_size * heads / 8);
    ONE_THREAD(threads, rope(ops, x, x_ld, heads, rope, at, rows, sign));
    const rt_rope_table *table = rope_table(ops, rope, at, rows);
    PARALLEL_FOR(threads)
    for (int r = 0; r < rows; r++)
        rope_row(x + (size_t)r * (size_t)x_ld, heads, table, at[r].position, vset1((float)sign));
}

/* ---- the paged store ------------------------------------------------------------------------ */

static float *page_of(const rt_kv_view *kv, int head, const rt_row *at, int position)
{
    return kv_page(kv, head, at->page_table[position / RT_PAGE]);
}

static void cpu_kv_store(rt_ops *ops, const rt_kv_view *kv, const float *k, const float *v,
                         int ld, const rt_row *at, int rows)
{
    size_t s = (size_t)kv->head_size;
    int threads = threads_for(ops, (double)rows * kv->kv_heads * (double)s);
    ONE_THREAD(threads, kv_store(ops, kv, k, v, ld, at, rows));
    PARALLEL_FOR(threads)
    for (int r = 0; r < rows; r++) {
        for (int h = 0; h < kv->kv_heads; h++) {
            size_t from = (size_t)r * (size_t)ld + (size_t)h * s;
            float *page = page_of(kv, h, &at[r], at[r].position);
            size_t slot = (size_t)(at[r].position % RT_PAGE);
            for (size_t i = 0; i < s; i++)
                page[i * RT_PAGE + slot] = k[from + i];
            memcpy(page + RT_PAGE * s + slot * s, v + from, s * sizeof(float));
        }
    }
}

static void cpu_kv_gather(rt_ops *ops, const rt_kv_view *dkv, float *dk, float *dv, int ld,
                          const rt_row *at, int rows)
{
    size_t s = (size_t)dkv->head_size;
    int threads = threads_for(ops, (double)rows * dkv->kv_heads * (double)s);
    ONE_THREAD(threads, kv_gather(ops, dkv, dk, dv, ld, at, rows));
    PARALLEL_FOR(threads)
    for (int r = 0; r < rows; r++) {
        for (int h = 0; h < dkv->kv_heads; h++) {
            size_t to = (size_t)r * (size_t)ld + (size_t)h * s;
            const float *page = page_of(dkv, h, &at[r], at[r].position);
            size_t slot = (size_t)(at[r].position % RT_PAGE);
            for (size_t i = 0; i < s; i++)
                dk[to + i] = page[i * RT_PAGE + slot];
            memcpy(dv + to, page + RT_PAGE * s + slot * s, s * sizeof(float));
        }
    }
}

static void cpu_kv_copy(rt_ops *ops, const rt_kv_view *kv, int to, int from, int slots, int layers)
{
    (void)ops;
    size_t s = (size_t)kv->head_size;
    rt_kv_view view = *kv;
    for (view.layer = 0; view.layer < layers; view.layer++) {
        for (int h = 0; h < kv->kv_heads; h++) {
            float *a = kv_page(&view, h, to);
            const float *b = kv_page(&view, h, from);
            for (size_t i = 0; i < s; i++)
                memcpy(a + i * RT_PAGE, b + i * RT_PAGE, (size_t)slots * sizeof(float));
            memcpy(a + RT_PAGE * s, b + RT_PAGE * s, (size_t)slots * s * sizeof(float));
        }
    }
}

static void cpu_kv_copy_backward(rt_ops *ops, const rt_kv_view *dkv, int to, int from, int slots)
{
    (void)ops;
    size_t s = (size_t)dkv->head_size;
    for (int h = 0; h < dkv->kv_heads; h++) {
        float *a = kv_page(dkv, h, to);
        const float *b = kv_page(dkv, h, from);
        for (size_t i = 0; i < s; i++)
            for (size_t j = 0; j < (size_t)slots; j++)
                a[i * RT_PAGE + j] += b[i * RT_PAGE + j];
        for (size_t i = 0; i < (size_t)slots * s; i++)
            a[RT_PAGE * s + i] += b[RT_PAGE * s + i];
    }
}

/* ---- blocks --------------------------------------------------------------------------------- */

/* Everything a block needs. Item i is query head i % group of the block's row i / group; of one row
 * with several key-value heads, query head i counted from the first one's. */
typedef struct block {
    const rt_kv_view *kv;
    const rt_row *at;          /* of the first row */
    int head, heads;           /* key-value heads: the first, how many; 1 where there are more rows */
    int rows, group;           /* rows, query heads that share a key-value head */
    int items, last;           /* rows·heads·group; number of the page all rows end in */
    size_t s, wide;            /* head size; the same rounded up to 16 */
} block;

/* starts[i] = first row of block i; starts[count] = rows. Returns count. */
static int find_blocks(int *starts, const rt_row *at, int rows)
{
    int count = 0;
    for (int r = 0; r < rows; r++) {
        bool joined = r > 0 && at[r].page_table == at[r - 1].page_table &&
                      at[r].position == at[r - 1].position + 1 && at[r].position % RT_PAGE != 0;
        if (!joined)
            starts[count++] = r;
    }
    starts[count] = rows;
    return count;
}

static int pages_most(const rt_row *at, int rows)
{
    int most = 0;
    for (int r = 0; r < rows; r++)
        most = RT_MAX(most, at[r].position / RT_PAGE + 1);
    return most;
}

static block block_of(const rt_kv_view *kv, const rt_row *at, int row0, int row1, int head,
                      int heads, int group)
{
    size_t s = (size_t)kv->head_size;
    return (block){.kv = kv, .at = at + row0, .head = head, .heads = heads, .rows = row1 - row0,
                   .group = group, .items = (row1 - row0) * heads * group,
                   .last = at[row0].position / RT_PAGE, .s = s, .wide = (s + 15) / 16 * 16};
}

/* Of the block's head number `head`. */
static const float *head_page(const block *b, int head, int page)
{
    return kv_page(b->kv, b->head + head, b->at->page_table[page]);
}

static const float *block_page(const block *b, int page)
{
    return head_page(b, 0, page);
}

static int row_of(const block *b, int item)
{
    return b->rows == 1 ? 0 : item / b->group;
}

/* Positions of the last page that item i may see. */
static int visible(const block *b, int item)
{
    return b->at[row_of(b, item)].position % RT_PAGE + 1;
}

/* Rows of the block's heads, gathered: to (items, wide), zero between s and wide. */
static void gather_items(const block *b, float *to, const float *from, size_t from_ld)
{
    for (int r = 0; r < b->rows; r++) {
        const float *row = from + (size_t)r * from_ld + (size_t)(b->head * b->group) * b->s;
        for (int g = 0; g < b->group; g++, row += b->s, to += b->wide)
            for (size_t d = 0; d < b->s; d += 16)
                vstore(to + d, vload_to(row + d, (int)(b->s - d)));
    }
}

/* ---- forward -------------------------------------------------------------------------------- */

/* scores (items, ld) = q (items, q_ld) · Kᵀ for all pages of one of the block's heads. */
static void head_scores(const block *b, int head, float *scores, size_t ld, const float *q,
                        size_t q_ld)
{
    int items = b->items / b->heads, together = panels_at_once(items);
    for (int page = 0; page <= b->last;) {
        int np = RT_MIN(together, b->last + 1 - page);
        const void *k[TILE_PANELS];
        tile_args t = {.a = q, .a_row = q_ld, .a_step = 1, .b = k, .b_row = RT_PAGE, .c_row = ld,
                       .c = scores + (size_t)page * RT_PAGE, .depth = (int)b->s,
                       .columns = np * RT_PAGE};
        for (int p = 0; p < np; p++)
            k[p] = head_page(b, head, page + p);
        tile_rows(&t, items, np, B_F32);
        page += np;
    }
}

static void block_scores(const block *b, float *scores, size_t ld, const float *q, size_t q_ld)
{
    size_t items = (size_t)(b->items / b->heads);
    for (int h = 0; h < b->heads; h++)
        head_scores(b, h, scores + (size_t)h * items * ld, ld, q + (size_t)h * items * q_ld, q_ld);
}

/* The largest score·scale of an item; what lies beyond `seen` on its last page does not count. */
static float score_max(const float *scores, int pages, int seen, vf scale)
{
    vf top = vset1(-INFINITY);
    const float *last = scores + (size_t)(pages - 1) * RT_PAGE;
    for (const float *at = scores; at < last; at += RT_PAGE)
        top = vmax(top, vmul(vload(at), scale));
    return vmaxall(vmax(top, vkeep(vmul(vload(last), scale), vset1(-INFINITY), seen)));
}

/* Scores of an item become exp(score·scale − max), 0 beyond `seen`; returns their sum. The slots
 * beyond do not go through the exponential as −∞: it would be 0 as well, but by an underflow, which
 * costs a processor more than an ordinary result. */
static float score_exp(float *scores, int pages, int seen, vf scale, float max)
{
    vf sum = vzero(), shift = vset1(max);
    float *last = scores + (size_t)(pages - 1) * RT_PAGE;
    for (float *at = scores; at < last; at += RT_PAGE) {
        vf a = vexp_below(vsub(vmul(vload(at), scale), shift));
        vstore(at, a);
        sum = vadd(sum, a);
    }
    vf end = vexp_below(vsub(vkeep(vmul(vload(last), scale), shift, seen), shift));
    end = vkeep(end, vzero(), seen);
    vstore(last, end);
    return vsum(vadd(sum, end));
}

/* Softmax of all items before it is divided by its sums; stats (items, 2) = (max, sum). One step
 * of all items after the other, so that none waits for the last one's end. */
static void block_softmax(const block *b, float *scores, size_t ld, float *stats)
{
    int pages = b->last + 1;
    vf scale = vset1(1.0f / sqrtf((float)b->s));
    for (int i = 0; i < b->items; i++)
        stats[2 * i] = score_max(scores + (size_t)i * ld, pages, visible(b, i), scale);
    for (int i = 0; i < b->items; i++)
        stats[2 * i + 1] =
            score_exp(scores + (size_t)i * ld, pages, visible(b, i), scale, stats[2 * i]);
}

/* Panel d of values covers columns 16·d …; the last one is moved left to end at S, so that it needs
 * no mask (columns covered twice get the same bits twice). Heads of less than 16 take the
 * ragged way below. */
RT_INLINE size_t panel_column(size_t s, size_t d)
{
    return s >= 16 ? RT_MIN(16 * d, s - 16) : 0;
}

/* The pages' share of p · V for some items and panels of 16 columns: as tile, but rows of B
 * are found through the page table and chains stay in registers from page to page. */
typedef struct value_args {
    const float *p;     /* (items, ld) */
    size_t ld, s, panel; /* panel: the first of them */
    const block *b;
    float *to;          /* of the first panel */
    size_t to_ld;
    int positions;      /* 0 … positions − 1 */
} value_args;

RT_KERNEL void value_tile(const value_args *t, int mr, int np)
{
    vf acc[TILE_ROWS][TILE_PANELS];
    size_t s = t->s, ld = t->ld;
    UNROLL(12)
    for (int i = 0; i < mr; i++) {
        UNROLL(8)
        for (int p = 0; p < np; p++)
            acc[i][p] = vzero();
    }
    for (int first = 0; first < t->positions; first += RT_PAGE) {
        const float *v = block_page(t->b, first / RT_PAGE) + RT_PAGE * s;
        const float *a = t->p + first;
        int count = RT_MIN(RT_PAGE, t->positions - first);
        for (int j = 0; j < count; j++, v += s, a++) {
            vf x[TILE_PANELS];
            UNROLL(8)
            for (int p = 0; p < np; p++)
                x[p] = vload(v + panel_column(s, t->panel + (size_t)p));
            UNROLL(12)
            for (int i = 0; i < mr; i++) {
                vf weight = vset1(a[(size_t)i * ld]);
                UNROLL(8)
                for (int p = 0; p < np; p++)
                    acc[i][p] = vfma(weight, x[p], acc[i][p]);
            }
        }
    }
    UNROLL(12)
    for (int i = 0; i < mr; i++) {
        UNROLL(8)
        for (int p = 0; p < np; p++)
            vstore(t->to + (size_t)i * t->to_ld + 16 * p, acc[i][p]);
    }
}

#define VALUE_TILE(unused, mr, np) \
    static void value_tile_##mr##_##np(const value_args *t) { value_tile(t, mr, np); }
#define VALUE_ENTRY(unused, mr, np) [np][mr] = value_tile_##mr##_##np,

TILES(VALUE_TILE, _)

typedef void value_function(const value_args *t);
static value_function *const value_tiles[TILE_PANELS + 1][TILE_ROWS + 1] = {
    TILES(VALUE_ENTRY, _)
};

/* Positions 0 … count − 1 of all items. */
static void values_of(const block *b, float *values, const float *p, size_t ld, int count)
{
    size_t panels = b->wide / 16, together = (size_t)panels_at_once(b->items);
    value_args t = {.p = p, .ld = ld, .s = b->s, .b = b, .to_ld = b->wide, .positions = count};
    int rows = b->items;
    for (int blocks = (rows + TILE_ROWS - 1) / TILE_ROWS; blocks > 0; blocks--) {
        int height = blocks == 1 ? rows : (rows + blocks - 1) / blocks;
        for (t.panel = 0; t.panel < panels;) {
            size_t np = RT_MIN(together, panels - t.panel);
            t.to = values + (size_t)(b->items - rows) * b->wide + 16 * t.panel;
            value_tiles[np][height](&t);
            t.panel += np;
        }
        t.p += (size_t)height * ld;
        rows -= height;
    }
}

/* As value_tile for one row of several heads: item i reads the values of its own head. */
RT_KERNEL void heads_tile(const value_args *t, int mr)
{
    vf acc[TILE_ROWS];
    size_t s = t->s, ld = t->ld, column = RT_PAGE * s + panel_column(s, t->panel);
    UNROLL(12)
    for (int i = 0; i < mr; i++)
        acc[i] = vzero();
    for (int first = 0; first < t->positions; first += RT_PAGE) {
        const float *v[TILE_ROWS], *a = t->p + first;
        int count = RT_MIN(RT_PAGE, t->positions - first);
        UNROLL(12)
        for (int i = 0; i < mr; i++)
            v[i] = head_page(t->b, i / t->b->group, first / RT_PAGE) + column;
        for (size_t j = 0; j < (size_t)count; j++)
            UNROLL(12)
            for (int i = 0; i < mr; i++)
                acc[i] = vfma(vset1(a[(size_t)i * ld + j]), vload(v[i] + j * s), acc[i]);
    }
    UNROLL(12)
    for (int i = 0; i < mr; i++)
        vstore(t->to + (size_t)i * t->to_ld, acc[i]);
}

#define HEADS_TILE(mr) \
    static void heads_tile_##mr(const value_args *t) { heads_tile(t, mr); }

HEADS_TILE(2)
HEADS_TILE(3)
HEADS_TILE(4)
HEADS_TILE(5)
HEADS_TILE(6)

static value_function *const heads_tiles[] = {
    NULL, NULL, heads_tile_2, heads_tile_3, heads_tile_4, heads_tile_5, heads_tile_6,
};
#define HEADS_ITEMS ((int)RT_COUNT(heads_tiles) - 1)

/* How many key-value heads of one row stand in a block: those that fit a tile, where one head's items
 * and panels alone are less than four chains. */
static int heads_together(const rt_kv_view *kv, int group)
{
    int panels = (kv->head_size + 15) / 16;
    bool alone = kv->head_size < 16 || group * panels >= 4;
    int most = alone ? 1 : RT_MIN(kv->kv_heads, HEADS_ITEMS / group);
    int sets = (kv->kv_heads + most - 1) / most;
    return (kv->kv_heads + sets - 1) / sets;
}

static void values_of_heads(const block *b, float *values, const float *p, size_t ld)
{
    value_args t = {.p = p, .ld = ld, .s = b->s, .b = b, .to_ld = b->wide,
                    .positions = b->at->position + 1};
    for (; t.panel < b->wide / 16; t.panel++) {
        t.to = values + 16 * t.panel;
        heads_tiles[b->items](&t);
    }
}

/* The last page adds to what values hold, row by row: rows see different parts of it. */
static void values_last(const block *b, float *values, const float *p, size_t ld)
{
    int panels = (int)b->wide / 16, together = panels_at_once(b->group);
    const float *v = block_page(b, b->last) + RT_PAGE * b->s;
    for (int d = 0, np; d < panels; d += np) {
        const void *panel[TILE_PANELS];
        np = RT_MIN(together, panels - d);
        for (int i = 0; i < np; i++)
            panel[i] = v + panel_column(b->s, (size_t)(d + i));
        tile_args t = {.a = p + (size_t)b->last * RT_PAGE, .a_row = ld, .a_step = 1, .b = panel,
                       .b_row = b->s, .c = values + 16 * d, .c_row = b->wide,
                       .columns = b->s < 16 ? (int)b->s : 16 * np, .resume = true};
        for (int r = 0; r < b->rows; r++) {
            t.depth = visible(b, r * b->group);
            tile_rows(&t, b->group, np, b->s < 16 ? B_RAGGED : B_F32);
        }
    }
}

/* Heads of less than 16: one ragged panel, page by page. */
static void values_ragged(const block *b, float *values, const float *p, size_t ld)
{
    memset(values, 0, (size_t)b->items * 16 * sizeof(float));
    for (int page = 0; page < b->last; page++) {
        const void *v = block_page(b, page) + RT_PAGE * b->s;
        tile_args t = {.a = p + (size_t)page * RT_PAGE, .a_row = ld, .a_step = 1, .b = &v,
                       .b_row = b->s, .c = values, .c_row = 16, .depth = RT_PAGE,
                       .columns = (int)b->s, .resume = true};
        tile_rows(&t, b->items, 1, B_RAGGED);
    }
    values_last(b, values, p, ld);
}

/* values (items, wide) = p · V, panel by panel. */
static void block_values(const block *b, float *values, const float *p, size_t ld)
{
    if (b->s < 16) {
        values_ragged(b, values, p, ld);
    } else if (b->heads > 1) {
        values_of_heads(b, values, p, ld);
    } else if (b->rows == 1) {
        values_of(b, values, p, ld, b->at->position + 1);
    } else {
        values_of(b, values, p, ld, b->last * RT_PAGE);
        values_last(b, values, p, ld);
    }
}

static size_t attention_floats(const rt_kv_view *kv, int group, int pages)
{
    size_t items = (size_t)(RT_PAGE * group), wide = ((size_t)kv->head_size + 15) / 16 * 16;
    return items * (2 * wide + 2 + (size_t)pages * RT_PAGE);
}

static void attend_block(const block *b, float *out, size_t out_ld, float *stats, int heads,
                         const float *q, size_t q_ld, float *buffer)
{
    size_t ld = (size_t)(b->last + 1) * RT_PAGE, items = (size_t)b->items;
    float *queries = buffer, *values = queries + items * b->wide;
    float *kept = values + items * b->wide, *scores = kept + items * 2;
    if (b->rows == 1) { /* the heads of one row stand side by side already */
        block_scores(b, scores, ld, q + (size_t)(b->head * b->group) * b->s, b->s);
    } else {
        gather_items(b, queries, q, q_ld);
        block_scores(b, scores, ld, queries, b->wide);
    }
    block_softmax(b, scores, ld, kept);
    block_values(b, values, scores, ld);
    for (int i = 0; i < b->items; i++) {
        int row = row_of(b, i), head = b->head * b->group + i - row * b->group;
        float *to = out + (size_t)row * out_ld + (size_t)head * b->s;
        vf inverse = vset1(1.0f / kept[2 * i + 1]);
        for (size_t d = 0; d < b->wide / 16; d++) {
            vf a = vload(values + (size_t)i * b->wide + 16 * d);
            vstore_to(to + panel_column(b->s, d), vmul(a, inverse), (int)b->s);
        }
        if (stats)
            memcpy(stats + (size_t)(row * heads + head) * 2, kept + 2 * i, 2 * sizeof(float));
    }
}

static double attention_work(const rt_kv_view *kv, const rt_row *at, int rows, int heads)
{
    double positions = 0;
    for (int r = 0; r < rows; r++)
        positions += at[r].position + 16;
    return positions * heads * (2 * kv->head_size + 30) / 16;
}

static void cpu_attention(rt_ops *ops, float *out, int out_ld, float *stats, const float *q,
                          int q_ld, int heads, const rt_kv_view *kv, const rt_row *at, int rows)
{
    if (rows <= 0)
        return;
    int group = heads / kv->kv_heads, kv_heads = kv->kv_heads;
    int threads = threads_for(ops, attention_work(kv, at, rows, heads));
    ONE_THREAD(threads, attention(ops, out, out_ld, stats, q, q_ld, heads, kv, at, rows));
    size_t floats = attention_floats(kv, group, pages_most(at, rows));
    size_t index = ((size_t)rows + 16) / 16 * 16; /* ints before the buffers */
    char *scratch = rt_host_scratch(ops, (index + (size_t)threads * floats) * sizeof(float));
    int *starts = (int *)(void *)scratch;
    float *buffers = (float *)(void *)(scratch + index * sizeof(float));
    int together = heads_together(kv, group), sets = (kv_heads + together - 1) / together;
    int count = find_blocks(starts, at, rows) * sets;
    PARALLEL_FOR_UNEQUAL(threads)
    for (int task = 0; task < count; task++) {
        int i = task / sets, head = task % sets * together;
        int end = RT_MIN(head + together, kv_heads);
        int step = starts[i + 1] - starts[i] == 1 ? end - head : 1;
        size_t row = (size_t)starts[i];
        for (; head < end; head += step) {
            block b = block_of(kv, at, starts[i], starts[i + 1], head, step, group);
            attend_block(&b, out + row * (size_t)out_ld, (size_t)out_ld,
                         stats ? stats + row * (size_t)heads * 2 : NULL, heads,
                         q + row * (size_t)q_ld, (size_t)q_ld,
                         buffers + (size_t)thread_index() * floats);
        }
    }
}

/* ---- backward ------------------------------------------------------------------------------- */

typedef struct backward {
    float *queries, *grads, *dq;  // (items, wide)
    float *p, *ds;                // (items, 16)
    float *v_turned, *k_turned;   // (S, 16), (16, wide)
    float *delta, *max, *inverse; // (items)
} backward;

static size_t backward_floats(const rt_kv_view *kv, int group)
{
    size_t items = (size_t)(RT_PAGE * group), wide = ((size_t)kv->head_size + 15) / 16 * 16;
    return items * (3 * wide + 2 * RT_PAGE + 3) + 2 * RT_PAGE * wide;
}

static backward backward_buffers(const block *b, float *at)
{
    size_t items = (size_t)b->items;
    backward w;
    w.queries = at;
    w.grads = w.queries + items * b->wide;
    w.dq = w.grads + items * b->wide;
    w.v_turned = w.dq + items * b->wide;
    w.k_turned = w.v_turned + RT_PAGE * b->wide;
    w.p = w.k_turned + RT_PAGE * b->wide;
    w.ds = w.p + items * RT_PAGE;
    w.delta = w.ds + items * RT_PAGE;
    w.max = w.delta + items;
    w.inverse = w.max + items;
    return w;
}

/* to (columns, to_ld) = from (rows, columns) transposed, in squares of 8 as far as they go. */
static void turn(float *to, size_t to_ld, const float *from, size_t rows, size_t columns)
{
    for (size_t i = 0; i < rows; i += 8) {
        for (size_t j = 0; j < columns; j += 8) {
            if (i + 8 <= rows && j + 8 <= columns) {
                turn8(to + j * to_ld + i, to_ld, from + i * columns + j, columns);
                continue;
            }
            for (size_t r = i; r < RT_MIN(i + 8, rows); r++)
                for (size_t c = j; c < RT_MIN(j + 8, columns); c++)
                    to[c * to_ld + r] = from[r * columns + c];
        }
    }
}

static void turn_page(const block *b, const backward *w, int page)
{
    const float *k = block_page(b, page), *v = k + RT_PAGE * b->s; // (S, 16), (16, S)
    turn(w->v_turned, RT_PAGE, v, RT_PAGE, b->s);
    turn(w->k_turned, b->wide, k, b->s, RT_PAGE);
}

/* p and ds (scaled) of one page for all items. */
static void page_weights(const block *b, const backward *w, int page)
{
    float scale = 1.0f / sqrtf((float)b->s);
    const void *panel = block_page(b, page);
    tile_args t = {.a = w->queries, .a_row = b->wide, .a_step = 1, .b = &panel, .b_row = RT_PAGE,
                   .c = w->p, .c_row = RT_PAGE, .depth = (int)b->s, .columns = RT_PAGE};
    tile_rows(&t, b->items, 1, B_F32);
    panel = w->v_turned;
    t.a = w->grads;
    t.c = w->ds;
    tile_rows(&t, b->items, 1, B_F32);
    for (int i = 0; i < b->items; i++) {
        float *p = w->p + (size_t)i * RT_PAGE, *ds = w->ds + (size_t)i * RT_PAGE;
        vf a = vexp_below(vsub(vmul(vload(p), vset1(scale)), vset1(w->max[i])));
        a = vmul(a, vset1(w->inverse[i]));
        vf d = vmul(vmul(a, vsub(vload(ds), vset1(w->delta[i]))), vset1(scale));
        if (page == b->last) {
            a = vkeep(a, vzero(), visible(b, i));
            d = vkeep(d, vzero(), visible(b, i));
        }
        vstore(p, a);
        vstore(ds, d);
    }
}

/* dq += ds · K of one page. */
static void page_dq(const block *b, const backward *w, int page)
{
    bool whole = page < b->last;
    int panels = (int)b->wide / 16, together = panels_at_once(whole ? b->items : b->group);
    for (int d = 0, np; d < panels; d += np) {
        const void *panel[TILE_PANELS];
        np = RT_MIN(together, panels - d);
        for (int i = 0; i < np; i++)
            panel[i] = w->k_turned + 16 * (d + i);
        tile_args t = {.a = w->ds, .a_row = RT_PAGE, .a_step = 1, .b = panel, .b_row = b->wide,
                       .c = w->dq + 16 * d, .c_row = b->wide, .depth = RT_PAGE,
                       .columns = 16 * np, .resume = page > 0};
        if (whole) {
            tile_rows(&t, b->items, np, B_F32);
            continue;
        }
        for (int r = 0; r < b->rows; r++) {
            t.depth = visible(b, r * b->group);
            tile_rows(&t, b->group, np, B_F32);
        }
    }
}

/* dK += qᵀ · ds and dV += pᵀ · dout of one page, items ascending. */
static void page_dkv(const block *b, const backward *w, float *to)
{
    const void *panel = w->ds;
    tile_args t = {.a = w->queries, .a_row = 1, .a_step = b->wide, .b = &panel,
                   .b_row = RT_PAGE, .c = to, .c_row = RT_PAGE, .depth = b->items,
                   .columns = RT_PAGE, .resume = true};
    tile_rows(&t, (int)b->s, 1, B_F32);
    for (size_t d = 0; d < b->s; d += 16) {
        panel = w->grads + d;
        tile_args u = {.a = w->p, .a_row = 1, .a_step = RT_PAGE, .b = &panel,
                       .b_row = b->wide, .c = to + RT_PAGE * b->s + d, .c_row = b->s,
                       .depth = b->items, .columns = (int)RT_MIN((size_t)16, b->s - d),
                       .resume = true};
        tile_rows(&u, RT_PAGE, 1, B_F32);
    }
}

typedef struct backward_job {
    float *dq;
    const float *dout, *out, *stats, *q;
    size_t dq_ld, dout_ld, out_ld, q_ld;
    int heads;
    const rt_kv_view *dkv;
} backward_job;

static void attend_backward_block(const block *b, const backward_job *job, size_t row,
                                  float *buffer)
{
    backward w = backward_buffers(b, buffer);
    gather_items(b, w.queries, job->q + row * job->q_ld, job->q_ld);
    gather_items(b, w.dq, job->out + row * job->out_ld, job->out_ld);
    gather_items(b, w.grads, job->dout + row * job->dout_ld, job->dout_ld);
    for (int i = 0; i < b->items; i++) {
        vf dot = vzero(); /* dq still holds the outputs */
        for (size_t d = 0; d < b->wide; d += 16)
            dot = vfma(vload(w.grads + (size_t)i * b->wide + d),
                       vload(w.dq + (size_t)i * b->wide + d), dot);
        size_t head = (size_t)(b->head * b->group + i % b->group);
        const float *stats =
            job->stats + ((row + (size_t)(i / b->group)) * (size_t)job->heads + head) * 2;
        w.delta[i] = vsum(dot);
        w.max[i] = stats[0];
        w.inverse[i] = 1.0f / stats[1];
    }
    memset(w.k_turned, 0, RT_PAGE * b->wide * sizeof(float)); /* columns from S on stay zero */
    for (int page = 0; page <= b->last; page++) {
        turn_page(b, &w, page);
        page_weights(b, &w, page);
        page_dq(b, &w, page);
        page_dkv(b, &w, kv_page(job->dkv, b->head, b->at->page_table[page]));
    }
    for (int i = 0; i < b->items; i++)
        memcpy(job->dq + (row + (size_t)(i / b->group)) * job->dq_ld +
                   (size_t)(b->head * b->group + i % b->group) * b->s,
               w.dq + (size_t)i * b->wide, b->s * sizeof(float));
}

/* Threads divide key-value heads: the additions into a slot of dkv stay in row order. */
static void cpu_attention_backward(rt_ops *ops, float *dq, int dq_ld, const rt_kv_view *dkv,
                                   const float *dout, int dout_ld, const float *out, int out_ld,
                                   const float *stats, const float *q, int q_ld, int heads,
                                   const rt_kv_view *kv, const rt_row *at, int rows)
{
    if (rows <= 0)
        return;
    int group = heads / kv->kv_heads;
    int threads = RT_MIN(kv->kv_heads, threads_for(ops, attention_work(kv, at, rows, heads) * 2));
    ONE_THREAD(threads, attention_backward(ops, dq, dq_ld, dkv, dout, dout_ld, out, out_ld, stats, q,
                                           q_ld, heads, kv, at, rows));
    size_t floats = backward_floats(kv, group), index = ((size_t)rows + 16) / 16 * 16;
    char *scratch = rt_host_scratch(ops, (index + (size_t)threads * floats) * sizeof(float));
    int *starts = (int *)(void *)scratch;
    float *buffers = (float *)(void *)(scratch + index * sizeof(float));
    int count = find_blocks(starts, at, rows);
    backward_job job = {.dq = dq, .dout = dout, .out = out, .stats = stats, .q = q,
                        .dq_ld = (size_t)dq_ld, .dout_ld = (size_t)dout_ld,
                        .out_ld = (size_t)out_ld, .q_ld = (size_t)q_ld, .heads = heads,
                        .dkv = dkv};
    PARALLEL_FOR(threads)
    for (int head = 0; head < kv->kv_heads; head++) {
        for (int i = 0; i < count; i++) {
            block b = block_of(kv, at, starts[i], starts[i + 1], head, 1, group);
            attend_backward_block(&b, &job, (size_t)starts[i],
                                  buffers + (size_t)thread_index() * floats);
        }
    }
}
