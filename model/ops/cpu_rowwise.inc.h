/*
 * Operations that treat each row or element by itself, included by cpu_kernels.c. Sums over a row
 * use 16 lanes (lane = index mod 16, ascending) and the tree of vsum.
 */

static void cpu_embed(rt_ops *ops, float *y, const int32_t *ids, const rt_packed *table, int rows)
{
    (void)ops;
    size_t d = (size_t)table->k;
    for (int r = 0; r < rows; r++) {
        RT_ASSERT(ids[r] >= 0 && ids[r] < table->n);
        float *to = y + (size_t)r * d;
        size_t from = (size_t)(ids[r] / 16) * 16 * d + (size_t)(ids[r] % 16);
        if (table->dtype == RT_F32)
            for (size_t i = 0; i < d; i++)
                to[i] = ((const float *)table->data)[from + 16 * i];
        else
            for (size_t i = 0; i < d; i++)
                to[i] = rt_from_bf16(((const uint16_t *)table->data)[from + 16 * i]);
    }
}

/* Threads divide columns, so that every element adds its rows in ascending order. */
static void cpu_embed_backward(rt_ops *ops, float *dtable, const int32_t *ids, const float *dy,
                               int rows, int d)
{
    int panels = (d + 15) / 16;
    int parts = RT_MIN(panels, threads_for(ops, (double)rows * panels));
    PARALLEL_FOR(parts)
    for (int part = 0; part < parts; part++) {
        int first = cut(panels, parts, part) * 16;
        int last = RT_MIN(d, cut(panels, parts, part + 1) * 16);
        for (int r = 0; r < rows; r++) {
            float *to = dtable + (size_t)ids[r] * (size_t)d;
            const float *from = dy + (size_t)r * (size_t)d;
            for (int i = first; i < last; i++)
                to[i] += from[i];
        }
    }
}

static void cpu_gather(rt_ops *ops, float *y, const float *x, const int32_t *index, int rows, int d)
{
    (void)ops;
    for (int r = 0; r < rows; r++)
        memcpy(y + (size_t)r * (size_t)d, x + (size_t)index[r] * (size_t)d, (size_t)d * sizeof(float));
}

static void cpu_scatter(rt_ops *ops, float *y, const float *x, const int32_t *index, int rows, int d)
{
    (void)ops;
    for (int r = 0; r < rows; r++)
        memcpy(y + (size_t)index[r] * (size_t)d, x + (size_t)r * (size_t)d, (size_t)d * sizeof(float));
}

static void cpu_rmsnorm(rt_ops *ops, float *y, float *rstd, const float *x, const float *w,
                        int rows, int d, float eps)
{
    int threads = threads_for(ops, (double)rows * d / 8);
    ONE_THREAD(threads, rmsnorm(ops, y, rstd, x, w, rows, d, eps));
    PARALLEL_FOR(threads)
    for (int r = 0; r < rows; r++) {
        const float *from = x + (size_t)r * (size_t)d;
        float *to = y + (size_t)r * (size_t)d;
        vf sum = vzero();
        for (int i = 0; i < d; i += 16) {
            vf a = vload_to(from + i, d - i);
            sum = vfma(a, a, sum);
        }
        float scale = 1.0f / sqrtf(vsum(sum) / (float)d + eps);
        for (int i = 0; i < d; i += 16) {
            vf a = vmul(vload_to(from + i, d - i), vset1(scale));
            vstore_to(to + i, w ? vmul(a, vload_to(w + i, d - i)) : a, d - i);
        }
        if (rstd)
            rstd[r] = scale;
    }
}

static void rmsnorm_backward_row(float *dx, const float *dy, const float *x, float rstd,
                                 const float *w, int d)
{
    vf dot = vzero(), one = vset1(1), scale = vset1(rstd);
    for (int i = 0; i < d; i += 16) {
        vf g = vmul(vload_to(dy + i, d - i), w ? vload_to(w + i, d - i) : one);
        dot = vfma(g, vload_to(x + i, d - i), dot);
    }
    vf pull = vset1(-(vsum(dot) / (float)d * rstd * rstd * rstd));
    for (int i = 0; i < d; i += 16) {
        vf g = vmul(vload_to(dy + i, d - i), w ? vload_to(w + i, d - i) : one);
        vf grad = vfma(vload_to(x + i, d - i), pull, vmul(g, scale));
        vstore_to(dx + i, vadd(vload_to(dx + i, d - i), grad), d - i);
    }
}

static void cpu_rmsnorm_backward(rt_ops *ops, float *dx, float *dw, const float *dy,
                                 const float *x, const float *rstd, const float *w, int rows,
                                 int d)
{
    int threads = threads_for(ops, (double)rows * d / 4);
    ONE_THREAD(threads, rmsnorm_backward(ops, dx, dw, dy, x, rstd, w, rows, d));
    PARALLEL_FOR(threads)
    for (int r = 0; r < rows; r++)
        rmsnorm_backward_row(dx + (size_t)r * (size_t)d, dy + (size_t)r * (size_t)d,
                             x + (size_t)r * (size_t)d, rstd[r], w, d);
    if (!dw)
        return;
    int panels = (d + 15) / 16;
    PARALLEL_FOR(threads)
    for (int panel = 0; panel < panels; panel++) {
        int i = panel * 16;
        vf sum = vload_to(dw + i, d - i);
        for (int r = 0; r < rows; r++) {
            size_t at = (size_t)r * (size_t)d + (size_t)i;
            vf a = vmul(vload_to(x + at, d - i), vset1(rstd[r]));
            sum = vfma(vload_to(dy + at, d - i), a, sum);
        }
        vstore_to(dw + i, sum, d - i);
    }
}

RT_INLINE vf sigmoid(vf g)
{
    return vdiv(vset1(1), vadd(vset1(1), vexp(vsub(vzero(), g))));
}

static void cpu_swiglu(rt_ops *ops, float *y, const float *gate_up, int rows, int f)
{
    int threads = threads_for(ops, (double)rows * f);
    ONE_THREAD(threads, swiglu(ops, y, gate_up, rows, f));
    PARALLEL_FOR(threads)
    for (int r = 0; r < rows; r++) {
        const float *gate = gate_up + (size_t)r * 2 * (size_t)f, *up = gate + f;
        float *to = y + (size_t)r * (size_t)f;
        for (int i = 0; i < f; i += 16) {
            vf g = vload_to(gate + i, f - i);
            vstore_to(to + i, vmul(vmul(g, sigmoid(g)), vload_to(up + i, f - i)), f - i);
        }
    }
}

static void cpu_swiglu_backward(rt_ops *ops, float *dgate_up, float *y, const float *dy,
                                const float *gate_up, int rows, int f)
{
    int threads = threads_for(ops, (double)rows * f);
    ONE_THREAD(threads, swiglu_backward(ops, dgate_up, y, dy, gate_up, rows, f));
    PARALLEL_FOR(threads)
    for (int r = 0; r < rows; r++) {
        const float *gate = gate_up + (size_t)r * 2 * (size_t)f, *up = gate + f;
        float *dgate = dgate_up + (size_t)r * 2 * (size_t)f, *dup = dgate + f;
        for (int i = 0; i < f; i += 16) {
            vf g = vload_to(gate + i, f - i), u = vload_to(up + i, f - i), s = sigmoid(g);
            vf silu = vmul(g, s), grad = vload_to(dy + (size_t)r * (size_t)f + i, f - i);
            /* d silu / dg = s·(1 + g·(1 − s)) */
            vf slope = vmul(s, vfma(g, vsub(vset1(1), s), vset1(1)));
            if (y)
                vstore_to(y + (size_t)r * (size_t)f + i, vmul(silu, u), f - i);
            vstore_to(dgate + i, vmul(vmul(grad, u), slope), f - i);
            vstore_to(dup + i, vmul(grad, silu), f - i);
        }
    }
}

/* Elementwise loops over long vectors go in runs of this many elements. */
#define RUN 16384

static void cpu_add(rt_ops *ops, float *y, const float *x, size_t count)
{
    int64_t runs = (int64_t)((count + RUN - 1) / RUN);
    int threads = threads_for(ops, (double)count / 8);
    ONE_THREAD(threads, add(ops, y, x, count));
    PARALLEL_FOR(threads)
    for (int64_t run = 0; run < runs; run++) {
        size_t first = (size_t)run * RUN, last = RT_MIN(count, first + RUN);
        for (size_t i = first; i < last; i++)
            y[i] += x[i];
    }
}

static void cpu_axpy(rt_ops *ops, float *y, float a, const float *x, size_t count)
{
    int64_t vectors = (int64_t)((count + 15) / 16);
    int threads = threads_for(ops, (double)count / 8);
    PARALLEL_FOR(threads)
    for (int64_t at = 0; at < vectors; at++) {
        size_t i = (size_t)at * 16;
        int n = (int)RT_MIN((size_t)16, count - i);
        vstore_to(y + i, vfma(vset1(a), vload_to(x + i, n), vload_to(y + i, n)), n);
    }
}

static void cpu_multiply(rt_ops *ops, float *y, const float *x, const float *m, size_t count)
{
    int64_t runs = (int64_t)((count + RUN - 1) / RUN);
    int threads = threads_for(ops, (double)count / 8);
    ONE_THREAD(threads, multiply(ops, y, x, m, count));
    PARALLEL_FOR(threads)
    for (int64_t run = 0; run < runs; run++) {
        size_t first = (size_t)run * RUN, last = RT_MIN(count, first + RUN);
        for (size_t i = first; i < last; i++)
            y[i] = x[i] * m[i];
    }
}

/* x / temperature; dividing by 1 is exact and skipped. */
RT_INLINE vf tempered(vf x, float temperature)
{
    return temperature == 1 ? x : vdiv(x, vset1(temperature));
}

/* log Σ exp(row/temperature). Lanes are summed in runs of 64 vectors, then the runs: rounding
 * errors grow with 64 + V/1024 terms instead of V/16. */
static float log_sum_exp(const float *row, int v, float temperature)
{
    vf top = vset1(-INFINITY), sum = vzero();
    for (int i = 0; i < v; i += 16) {
        vf a = tempered(vload_to(row + i, v - i), temperature);
        top = vmax(top, v - i >= 16 ? a : vkeep(a, vset1(-INFINITY), v - i));
    }
    float max = vmaxall(top);
    for (int run = 0; run < v; run += 1024) {
        vf part = vzero();
        for (int i = run; i < RT_MIN(v, run + 1024); i += 16) {
            vf a = vexp_below(vsub(tempered(vload_to(row + i, v - i), temperature), vset1(max)));
            part = vadd(part, v - i >= 16 ? a : vkeep(a, vzero(), v - i));
        }
        sum = vadd(sum, part);
    }
    return max + flog(vsum(sum));
}

static void cpu_logprob(rt_ops *ops, float *logprob, float *lse, const float *logits,
                        const int32_t *target, int rows, int v, float temperature)
{
    int threads = threads_for(ops, (double)rows * v);
    ONE_THREAD(threads, logprob(ops, logprob, lse, logits, target, rows, v, temperature));
    PARALLEL_FOR(threads)
    for (int r = 0; r < rows; r++) {
        const float *row = logits + (size_t)r * (size_t)v;
        float sum = log_sum_exp(row, v, temperature);
        if (lse)
            lse[r] = sum;
        if (target && target[r] >= 0)
            logprob[r] = row[target[r]] / temperature - sum;
    }
}

/* −(Σ g)/T · softmax over the row, then +g/T at each entry's target, entries ascending. */
static void cpu_logprob_backward(rt_ops *ops, float *logits, const float *lse,
                                 const int32_t *first, const int32_t *target, const float *g,
                                 int rows, int v, float temperature)
{
    int threads = threads_for(ops, (double)rows * v / 2);
    ONE_THREAD(threads, logprob_backward(ops, logits, lse, first, target, g, rows, v, temperature));
    PARALLEL_FOR(threads)
    for (int r = 0; r < rows; r++) {
        float *row = logits + (size_t)r * (size_t)v;
        float total = 0;
        for (int e = first[r]; e < first[r + 1]; e++)
            total += g[e];
        vf scale = vset1(-(total / temperature)), shift = vset1(lse[r]);
        for (int i = 0; i < v; i += 16) {
            vf p = vexp_below(vsub(tempered(vload_to(row + i, v - i), temperature), shift));
            vstore_to(row + i, vmul(p, scale), v - i);
        }
        for (int e = first[r]; e < first[r + 1]; e++)
            row[target[e]] += g[e] / temperature;
    }
}

/* Sixteen sums side by side; a product of two floats is exact in double. */
static double lanes_sum(const double *lanes)
{
    double sum = 0;
    for (size_t j = 0; j < 16; j++)
        sum += lanes[j];
    return sum;
}

static double dot_run(const float *a, const float *b, size_t count)
{
    double lanes[16] = {0};
    size_t i = 0;
    for (; i + 16 <= count; i += 16)
        for (size_t j = 0; j < 16; j++)
            lanes[j] += (double)a[i + j] * (double)b[i + j];
    for (; i < count; i++)
        lanes[i % 16] += (double)a[i] * (double)b[i];
    return lanes_sum(lanes);
}

/* n elements, at most 16, into lanes; a constant n makes vectors of these loops. */
static inline void change_lanes(float *restrict sum, bool fresh, float *restrict seen,
                                const float *restrict now, const float *restrict more,
                                double *restrict lanes, size_t n)
{
    float value[16], change[16];
    for (size_t j = 0; j < n; j++)
        value[j] = now[j];
    if (more)
        for (size_t j = 0; j < n; j++)
            value[j] += more[j];
    for (size_t j = 0; j < n; j++) {
        change[j] = value[j] - seen[j];
        seen[j] = value[j];
    }
    for (size_t j = 0; j < n; j++)
        sum[j] = fresh ? change[j] : sum[j] + change[j];
    for (size_t j = 0; j < n; j++)
        lanes[j] += (double)change[j] * (double)change[j];
}

static double change_run(float *sum, bool fresh, float *seen, const float *now, const float *more,
                         size_t count)
{
    double lanes[16] = {0};
    size_t i = 0;
    for (; i + 16 <= count; i += 16)
        change_lanes(sum + i, fresh, seen + i, now + i, more ? more + i : NULL, lanes, 16);
    if (i < count)
        change_lanes(sum + i, fresh, seen + i, now + i, more ? more + i : NULL, lanes, count - i);
    return lanes_sum(lanes);
}

enum { GRAM_PIECE = 256 };

static void widen(double *restrict to, const float *restrict from, size_t count)
{
    size_t i = 0;
    for (; i + 16 <= count; i += 16)
        for (size_t j = 0; j < 16; j++)
            to[i + j] = (double)from[i + j];
    for (; i < count; i++)
        to[i] = (double)from[i];
}

static double wide_dot(const double *a, const double *b, size_t count)
{
    double lanes[16] = {0};
    size_t i = 0;
    for (; i + 16 <= count; i += 16)
        for (size_t j = 0; j < 16; j++)
            lanes[j] += a[i + j] * b[i + j];
    for (; i < count; i++)
        lanes[i % 16] += a[i] * b[i];
    return lanes_sum(lanes);
}

/* Each element is widened once for all of its products. sums: lower half of (vectors, vectors). */
static void gram_run(double *sums, const float *const *vectors, int vectors_count, size_t from,
                     size_t count)
{
    double wide[RT_GRAM_MAX][GRAM_PIECE];
    memset(sums, 0, sizeof(double) * (size_t)(vectors_count * vectors_count));
    for (size_t at = 0; at < count; at += GRAM_PIECE) {
        size_t n = RT_MIN((size_t)GRAM_PIECE, count - at);
        for (int i = 0; i < vectors_count; i++) {
            const float *x = vectors[i] + from + at;
            widen(wide[i], x, n);
            for (int j = 0; j <= i; j++)
                sums[i * vectors_count + j] += wide_dot(wide[i], wide[j], n);
        }
    }
}

static double runs_sum(const double *sums, int64_t runs)
{
    double sum = 0;
    for (int64_t run = 0; run < runs; run++)
        sum += sums[run];
    return sum;
}

static double cpu_dot(rt_ops *ops, const float *a, const float *b, size_t count)
{
    int64_t runs = (int64_t)((count + RUN - 1) / RUN);
    int threads = threads_for(ops, (double)count / 8);
    double *sums = rt_host_scratch(ops, (size_t)(runs + 1) * sizeof(double));
    PARALLEL_FOR(threads)
    for (int64_t run = 0; run < runs; run++) {
        size_t first = (size_t)run * RUN;
        sums[run] = dot_run(a + first, b + first, RT_MIN((size_t)RUN, count - first));
    }
    return runs_sum(sums, runs);
}

static void cpu_gram(rt_ops *ops, double *gram, const float *const *vectors, int count,
                     size_t elements)
{
    RT_ASSERT(count <= RT_GRAM_MAX);
    int64_t runs = (int64_t)((elements + RUN - 1) / RUN);
    size_t square = (size_t)(count * count);
    int threads = threads_for(ops, (double)elements / 8 * count);
    double *sums = rt_host_scratch(ops, ((size_t)runs * square + 1) * sizeof(double));
    PARALLEL_FOR(threads)
    for (int64_t run = 0; run < runs; run++) {
        size_t from = (size_t)run * RUN;
        gram_run(sums + (size_t)run * square, vectors, count, from,
                 RT_MIN((size_t)RUN, elements - from));
    }
    memset(gram, 0, square * sizeof(double));
    for (int64_t run = 0; run < runs; run++)
        for (int i = 0; i < count; i++)
            for (int j = 0; j <= i; j++)
                gram[i * count + j] += sums[(size_t)run * square + (size_t)(i * count + j)];
    for (int i = 0; i < count; i++)
        for (int j = i + 1; j < count; j++)
            gram[i * count + j] = gram[j * count + i];
}

static double cpu_change(rt_ops *ops, float *sum, bool fresh, float *seen, const float *now,
                         const float *more, size_t count)
{
    int64_t runs = (int64_t)((count + RUN - 1) / RUN);
    int threads = threads_for(ops, (double)count / 2);
    double *sums = rt_host_scratch(ops, (size_t)(runs + 1) * sizeof(double));
    PARALLEL_FOR(threads)
    for (int64_t run = 0; run < runs; run++) {
        size_t at = (size_t)run * RUN;
        sums[run] = change_run(sum + at, fresh, seen + at, now + at, more ? more + at : NULL,
                               RT_MIN((size_t)RUN, count - at));
    }
    return runs_sum(sums, runs);
}

static void cpu_adamw(rt_ops *ops, float *w, float *m, float *v, const float *g, size_t count,
                      float grad_scale, float lr, float beta1, float beta2, float eps,
                      float weight_decay, float correction1, float correction2)
{
    int64_t vectors = (int64_t)((count + 15) / 16);
    int threads = threads_for(ops, (double)count / 2);
    PARALLEL_FOR(threads)
    for (int64_t at = 0; at < vectors; at++) {
        size_t i = (size_t)at * 16;
        int n = (int)RT_MIN((size_t)16, count - i);
        vf grad = vmul(vload_to(g + i, n), vset1(grad_scale)), weight = vload_to(w + i, n);
        vf m1 = vfma(vset1(beta1), vload_to(m + i, n), vmul(vset1(1 - beta1), grad));
        vf v1 = vfma(vset1(beta2), vload_to(v + i, n),
                     vmul(vset1(1 - beta2), vmul(grad, grad)));
        vf root = vadd(vsqrt(vdiv(v1, vset1(correction2))), vset1(eps));
        vf step = vdiv(vdiv(m1, vset1(correction1)), root);
        vstore_to(m + i, m1, n);
        vstore_to(v + i, v1, n);
        step = vfma(vset1(weight_decay), weight, step);
        vstore_to(w + i, vfma(vset1(-lr), step, weight), n);
    }
}
