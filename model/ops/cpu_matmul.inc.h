/*
 * Packed weights and the three matmuls, included by cpu_kernels.c. Threads divide the output,
 * never the reduced index.
 */

#define DEPTH_MAX 320  /* a panel of 320 × 16 floats is 20 KiB: it stays in the first cache */
#define ROWS_MAX 192   /* 192 × 320 floats are 240 KiB: they stay in the second cache */
#define DW_ROWS 256    /* rows of x and dy handled together by matmul_dw */
#define DW_COLUMNS 192 /* columns of dy packed together */
#define DW_WIDTH 12    /* of them side by side: a multiple of TILE_ROWS that divides DW_COLUMNS */

static rt_packed *cpu_pack(rt_ops *ops, rt_packed *into, const void *w, int dtype, int rows0,
                           int n, int n_total, int k)
{
    RT_ASSERT(dtype == RT_F32 || dtype == RT_BF16);
    RT_ASSERT(rows0 >= 0 && n >= 0 && rows0 + n <= n_total && k > 0);
    size_t word = dtype == RT_F32 ? 4 : 2;
    if (!into) {
        into = rt_alloc(sizeof *into);
        into->n = n_total;
        into->k = k;
        into->dtype = dtype;
        into->bytes = ((size_t)n_total + 15) / 16 * 16 * (size_t)k * word;
        into->data = rt_alloc(into->bytes);
    }
    RT_ASSERT(into->n == n_total && into->k == k && into->dtype == dtype);
    int first = rows0 / 16, last = n > 0 ? (rows0 + n - 1) / 16 + 1 : first;
    int threads = threads_for(ops, (double)n * k / 8);
    PARALLEL_FOR(threads)
    for (int panel = first; panel < last; panel++) {
        int from = RT_MAX(panel * 16, rows0), to = RT_MIN(panel * 16 + 16, rows0 + n);
        for (int row = from; row < to; row++) {
            size_t out = (size_t)panel * 16 * (size_t)k + (size_t)(row % 16);
            size_t in = (size_t)(row - rows0) * (size_t)k;
            if (dtype == RT_F32)
                for (size_t i = 0; i < (size_t)k; i++)
                    ((float *)into->data)[out + i * 16] = ((const float *)w)[in + i];
            else
                for (size_t i = 0; i < (size_t)k; i++)
                    ((uint16_t *)into->data)[out + i * 16] = ((const uint16_t *)w)[in + i];
        }
    }
    return into;
}

static void cpu_packed_free(rt_ops *ops, rt_packed *w)
{
    (void)ops;
    if (!w)
        return;
    rt_free(w->data);
    rt_free(w);
}

static size_t cpu_packed_bytes(const rt_packed *w)
{
    return w->bytes;
}

/* How threads divide an output of `rows` × `panels`: row parts × panel parts, the pair with the
 * smallest largest share. */
typedef struct grid {
    int row_parts, panel_parts;
} grid;

static grid choose_grid(int threads, int rows, int panels)
{
    grid best = {1, 1};
    int64_t best_load = INT64_MAX;
    for (int parts = 1; parts <= threads; parts++) {
        grid g = {threads / parts, parts};
        int row_blocks = (rows + TILE_ROWS - 1) / TILE_ROWS;
        g.row_parts = RT_MIN(g.row_parts, row_blocks);
        g.panel_parts = RT_MIN(g.panel_parts, panels);
        int64_t load = (int64_t)((row_blocks + g.row_parts - 1) / g.row_parts) *
                       ((panels + g.panel_parts - 1) / g.panel_parts);
        if (load <= best_load) {
            best_load = load;
            best = g;
        }
    }
    return best;
}

typedef struct matmul_job {
    float *y;
    const float *x;
    const rt_packed *w;
    size_t y_ld, x_ld;
    int row0, row1, panel0, panel1; /* this thread's part of the output */
    bool accumulate;
    float *buffer;                  /* TILE_PANELS × DEPTH_MAX × 16 */
} matmul_job;

#define PANEL_BUFFER ((size_t)TILE_PANELS * DEPTH_MAX * 16)

static void widen_panel(float *to, const uint16_t *from, int depth)
{
    for (int k = 0; k < depth; k++)
        vstore(to + (size_t)k * 16, vload_bf16(from + (size_t)k * 16));
}

/* One block of depth and rows against all panels of the job. */
static void matmul_block(const matmul_job *job, int row0, int rows, int depth0, int depth)
{
    size_t k = (size_t)job->w->k, word = job->w->dtype == RT_BF16 ? 2 : 4;
    /* Few rows: bf16 words are widened inside the tile; many: once for all of them. */
    bool widen = job->w->dtype == RT_BF16 && rows > TILE_ROWS;
    enum b_kind kind = job->w->dtype == RT_BF16 && !widen ? B_BF16 : B_F32;
    int together = panels_at_once(rows);
    for (int panel = job->panel0; panel < job->panel1;) {
        int np = RT_MIN(together, job->panel1 - panel);
        const void *b[TILE_PANELS];
        tile_args t = {.a = job->x + (size_t)row0 * job->x_ld + depth0, .a_row = job->x_ld,
                       .a_step = 1, .b = b, .b_row = 16, .c_row = job->y_ld, .depth = depth,
                       .c = job->y + (size_t)row0 * job->y_ld + (size_t)panel * 16,
                       .columns = RT_MIN(np * 16, job->w->n - panel * 16),
                       .resume = job->accumulate || depth0 > 0};
        for (int p = 0; p < np; p++) {
            const char *from = (const char *)job->w->data +
                               ((size_t)(panel + p) * k + (size_t)depth0) * 16 * word;
            b[p] = from;
            if (widen) {
                float *wide = job->buffer + (size_t)p * DEPTH_MAX * 16;
                widen_panel(wide, (const uint16_t *)(const void *)from, depth);
                b[p] = wide;
            }
        }
        tile_rows(&t, rows, np, kind);
        panel += np;
    }
}

static void matmul_part(const matmul_job *job)
{
    int k = job->w->k, blocks = (k + DEPTH_MAX - 1) / DEPTH_MAX;
    /* Few rows wait for memory: panels are best read straight through. (More than TILE_ROWS rows
     * of bf16 go through the buffer, which holds DEPTH_MAX.) */
    if (job->row1 - job->row0 <= (job->w->dtype == RT_BF16 ? 1 : 4) * TILE_ROWS)
        blocks = 1;
    for (int i = 0; i < blocks; i++) {
        int depth0 = cut(k, blocks, i), depth = cut(k, blocks, i + 1) - depth0;
        for (int row = job->row0; row < job->row1; row += ROWS_MAX)
            matmul_block(job, row, RT_MIN(ROWS_MAX, job->row1 - row), depth0, depth);
    }
}

/* A square of 16 inputs × 16 outputs, turned: to (16, 16). */
static void turn_square(float *to, const rt_packed *w, size_t from)
{
    float wide[256];
    const float *square = (const float *)w->data + from;
    if (w->dtype == RT_BF16) {
        widen_panel(wide, (const uint16_t *)w->data + from, 16);
        square = wide;
    }
    for (size_t i = 0; i < 16; i += 8)
        for (size_t j = 0; j < 16; j += 8)
            turn8(to + j * 16 + i, 16, square + i * 16 + j, 16);
}

/* Inputs k0 … k0+15 of outputs n0 …, turned to (depth, 16). */
static void turn_panel(float *to, const rt_packed *w, int n0, int depth, int k0, int columns)
{
    for (int n = n0; n < n0 + depth;) {
        size_t from = ((size_t)(n / 16) * (size_t)w->k + (size_t)k0) * 16 + (size_t)(n % 16);
        if (n % 16 == 0 && n + 16 <= n0 + depth && columns == 16) {
            turn_square(to + (size_t)(n - n0) * 16, w, from);
            n += 16;
            continue;
        }
        for (int i = 0; i < columns; i++, from += 16)
            to[(n - n0) * 16 + i] = w->dtype == RT_F32
                                        ? ((const float *)w->data)[from]
                                        : rt_from_bf16(((const uint16_t *)w->data)[from]);
        n++;
    }
}

/* As matmul_part with W's own roles exchanged: panels are of 16 inputs, depth runs over outputs. */
static void matmul_dx_part(const matmul_job *job)
{
    int n = job->w->n;
    int rows = job->row1 - job->row0, together = panels_at_once(rows);
    for (int depth0 = 0; depth0 < n; depth0 += DEPTH_MAX) {
        int depth = RT_MIN(DEPTH_MAX, n - depth0);
        for (int panel = job->panel0; panel < job->panel1;) {
            int np = RT_MIN(together, job->panel1 - panel);
            const void *b[TILE_PANELS];
            tile_args t = {.a = job->x + (size_t)job->row0 * job->x_ld + depth0,
                           .a_row = job->x_ld, .a_step = 1, .b = b, .b_row = 16, .c_row = job->y_ld,
                           .depth = depth,
                           .c = job->y + (size_t)job->row0 * job->y_ld + (size_t)panel * 16,
                           .columns = RT_MIN(np * 16, job->w->k - panel * 16),
                           .resume = job->accumulate || depth0 > 0};
            for (int p = 0; p < np; p++) {
                float *to = job->buffer + (size_t)p * DEPTH_MAX * 16;
                turn_panel(to, job->w, depth0, depth, (panel + p) * 16,
                           RT_MIN(16, job->w->k - (panel + p) * 16));
                b[p] = to;
            }
            tile_rows(&t, rows, np, B_F32);
            panel += np;
        }
    }
}

static void matmul_run(rt_ops *ops, const matmul_job *job, int rows, int outputs, bool backward)
{
    if (rows <= 0)
        return;
    int panels = (outputs + 15) / 16;
    int threads = threads_for(ops, (double)rows * panels * (backward ? job->w->n : job->w->k) / 6);
    grid g = choose_grid(threads, rows, panels);
    int parts = g.row_parts * g.panel_parts;
    if (backward)
        ONE_THREAD(parts, matmul_dx(ops, job->y, (int)job->y_ld, job->x, (int)job->x_ld, job->w,
                                    rows, job->accumulate));
    else
        ONE_THREAD(parts, matmul(ops, job->y, (int)job->y_ld, job->x, (int)job->x_ld, job->w, rows,
                                 job->accumulate));
    float *buffers = rt_host_scratch(ops, (size_t)parts * PANEL_BUFFER * sizeof(float));
    PARALLEL_FOR(parts)
    for (int part = 0; part < parts; part++) {
        int i = part / g.panel_parts, j = part % g.panel_parts;
        int row_blocks = (rows + TILE_ROWS - 1) / TILE_ROWS;
        matmul_job mine = *job;
        mine.row0 = RT_MIN(rows, cut(row_blocks, g.row_parts, i) * TILE_ROWS);
        mine.row1 = RT_MIN(rows, cut(row_blocks, g.row_parts, i + 1) * TILE_ROWS);
        mine.panel0 = cut(panels, g.panel_parts, j);
        mine.panel1 = cut(panels, g.panel_parts, j + 1);
        mine.buffer = buffers + (size_t)part * PANEL_BUFFER;
        if (mine.row0 == mine.row1 || mine.panel0 == mine.panel1)
            continue;
        if (backward)
            matmul_dx_part(&mine);
        else
            matmul_part(&mine);
    }
}

static void cpu_matmul(rt_ops *ops, float *y, int y_ld, const float *x, int x_ld,
                       const rt_packed *w, int rows, bool accumulate)
{
    matmul_job job = {.y = y, .x = x, .w = w, .y_ld = (size_t)y_ld, .x_ld = (size_t)x_ld,
                      .accumulate = accumulate};
    matmul_run(ops, &job, rows, w->n, false);
}

static void cpu_matmul_dx(rt_ops *ops, float *dx, int dx_ld, const float *dy, int dy_ld,
                          const rt_packed *w, int rows, bool accumulate)
{
    matmul_job job = {.y = dx, .x = dy, .w = w, .y_ld = (size_t)dx_ld, .x_ld = (size_t)dy_ld,
                      .accumulate = accumulate};
    matmul_run(ops, &job, rows, w->k, true);
}

typedef struct dw_job {
    float *dw;
    const float *dy, *x;
    size_t dy_ld, x_ld;
    int rows, n, k;
    int n0, n1, k0, k1; /* this thread's part of dw */
    float *dy_block;    /* [DW_COLUMNS / DW_WIDTH][DW_ROWS][DW_WIDTH] */
    float *x_panel;     /* [DW_ROWS][16] */
} dw_job;

#define DW_BUFFER ((size_t)DW_ROWS * (DW_COLUMNS + 16))

/* dy rows × columns n0 …: blocks of DW_WIDTH columns, each (rows, DW_WIDTH). */
static void pack_dy(const dw_job *job, int row0, int rows, int n0, int columns)
{
    for (int c = 0; c < columns; c += DW_WIDTH) {
        float *to = job->dy_block + (size_t)c * DW_ROWS;
        const float *from = job->dy + (size_t)row0 * job->dy_ld + (size_t)(n0 + c);
        int width = RT_MIN(DW_WIDTH, columns - c);
        for (int r = 0; r < rows; r++, to += DW_WIDTH, from += job->dy_ld) {
            if (width == DW_WIDTH) /* a size known here is two moves */
                memcpy(to, from, DW_WIDTH * sizeof(float));
            else
                memcpy(to, from, (size_t)width * sizeof(float));
        }
    }
}

static void dw_block(const dw_job *job, int row0, int rows, int n0, int columns)
{
    pack_dy(job, row0, rows, n0, columns);
    for (int k = job->k0; k < job->k1; k += 16) {
        int width = RT_MIN(16, job->k1 - k);
        const float *from = job->x + (size_t)row0 * job->x_ld + (size_t)k;
        for (int r = 0; r < rows; r++, from += job->x_ld)
            vstore(job->x_panel + (size_t)r * 16, vload_to(from, width));
        const void *x_panel = job->x_panel;
        tile_args t = {.a_row = 1, .a_step = DW_WIDTH, .b = &x_panel, .b_row = 16,
                       .c_row = (size_t)job->k, .depth = rows, .columns = width, .resume = true};
        for (int c = 0; c < columns; c += TILE_ROWS) {
            t.a = job->dy_block + (size_t)(c / DW_WIDTH) * DW_WIDTH * DW_ROWS + c % DW_WIDTH;
            t.c = job->dw + (size_t)(n0 + c) * (size_t)job->k + (size_t)k;
            tiles[B_F32][1][RT_MIN(TILE_ROWS, columns - c)](&t);
        }
    }
}

static void dw_part(const dw_job *job)
{
    for (int row = 0; row < job->rows; row += DW_ROWS)
        for (int n = job->n0; n < job->n1; n += DW_COLUMNS)
            dw_block(job, row, RT_MIN(DW_ROWS, job->rows - row), n,
                     RT_MIN(DW_COLUMNS, job->n1 - n));
}

static void cpu_matmul_dw(rt_ops *ops, float *dw, const float *dy, int dy_ld, const float *x,
                          int x_ld, int rows, int n, int k)
{
    if (rows <= 0)
        return;
    int panels = (k + 15) / 16, blocks = (n + TILE_ROWS - 1) / TILE_ROWS;
    grid g = choose_grid(threads_for(ops, (double)rows * n * panels / 6), n, panels);
    int parts = g.row_parts * g.panel_parts;
    ONE_THREAD(parts, matmul_dw(ops, dw, dy, dy_ld, x, x_ld, rows, n, k));
    float *buffers = rt_host_scratch(ops, (size_t)parts * DW_BUFFER * sizeof(float));
    PARALLEL_FOR(parts)
    for (int part = 0; part < parts; part++) {
        int i = part / g.panel_parts, j = part % g.panel_parts;
        float *buffer = buffers + (size_t)part * DW_BUFFER;
        dw_job job = {.dw = dw, .dy = dy, .x = x, .dy_ld = (size_t)dy_ld, .x_ld = (size_t)x_ld,
                      .rows = rows, .n = n, .k = k,
                      .n0 = RT_MIN(n, cut(blocks, g.row_parts, i) * TILE_ROWS),
                      .n1 = RT_MIN(n, cut(blocks, g.row_parts, i + 1) * TILE_ROWS),
                      .k0 = cut(panels, g.panel_parts, j) * 16,
                      .k1 = RT_MIN(k, cut(panels, g.panel_parts, j + 1) * 16),
                      .dy_block = buffer, .x_panel = buffer + (size_t)DW_ROWS * DW_COLUMNS};
        dw_part(&job);
    }
}
