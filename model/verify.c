/* Verify: compares logits, log-probs, loss, gradients and weights with a reference file. */
#include <math.h>
#include <string.h>

#include "model/net_internal.h"

/* Worst error of one kind over all that was compared. */
typedef struct kind {
    const char *name, *how;
    double bound, worst;
    int compared;
    char where[128];
} kind;

enum { LOGITS, MERGED, LOGPROB, LOSS, GRAD, GRAD_NORM_WEIGHT, GRADNORM, WEIGHT, KINDS };

typedef struct verify {
    rt_safetensors *file;
    rt_weights *exact;   /* as stored, in f32 */
    rt_weights *rounded; /* bf16, when asked for */
    rt_adapters *adapters; /* of a PEFT folder, whose base is `exact`; NULL: a whole model */
    rt_net *merged_net;  /* base and adapter made one; NULL: no adapter */
    rt_trainer *merged;
    rt_ops *ops;
    rt_net *net;
    rt_trainer *trainer;
    const rt_st_tensor *ids, *length, *weight, *logits, *logprob, *loss;
    int b, t;
    bool lossy;          /* rounding to bf16 changed a weight */
    float *grad;         // flat, backend memory
    float *grad_host;
    double loss_sum, loss_scale;
    kind kinds[KINDS];
    rt_error *err;
} verify;

/* Float errors of the f32 path: what PyTorch's float32 reaches on such models with room for
 * another order of sums. In bf16 each stored weight is off by up to 2^-9 of itself; a path from
 * input to logits crosses 4 matrices a layer plus embedding and head, each adding at most about
 * that much of relative error, and a gradient crosses them forward and backward. */
static void bounds_set(verify *v)
{
    const rt_arch *a = &v->exact->arch;
    double u = (4.0 * a->layers + 2) * ldexp(1, -9);
    bool wide = v->lossy;
    kind *k = v->kinds;
    k[LOGITS] = (kind){.name = "logits", .how = "of the largest", .bound = wide ? u : 1e-5};
    k[MERGED] = k[LOGITS]; /* either way is as near to the reference, so they are to each other */
    k[MERGED].name = "merged logits";
    k[LOGPROB] = (kind){.name = "logprob", .how = "absolute", .bound = wide ? 8 * u : 1e-4};
    k[LOSS] = (kind){.name = "loss", .how = "of sum |weight logp|", .bound = wide ? u : 1e-5};
    k[GRAD] = (kind){.name = "grad", .how = "of the largest", .bound = wide ? 2 * u : 3e-5};
    k[GRAD_NORM_WEIGHT] = (kind){.name = "grad of norms", .how = "of the largest",
                                 .bound = wide ? 2 * u : a->layers > 10 ? 3e-3 : 3e-5};
    k[GRADNORM] = (kind){.name = "gradnorm", .how = "relative", .bound = wide ? 2 * u : 5e-4};
    k[WEIGHT] = (kind){.name = "weight", .how = "exact", .bound = 0};
}

static void note(kind *k, double error, const char *where)
{
    if (k->compared++ == 0 || !(error <= k->worst)) { /* not-a-number stays the worst */
        k->worst = isnan(error) ? INFINITY : error;
        snprintf(k->where, sizeof(k->where), "%s", where);
    }
}

static float at_f32(const rt_st_tensor *t, size_t i)
{
    float x;
    memcpy(&x, (const char *)t->data + 4 * i, sizeof(x));
    return x;
}

static int32_t at_i32(const rt_st_tensor *t, size_t i)
{
    int32_t x;
    memcpy(&x, (const char *)t->data + 4 * i, sizeof(x));
    return x;
}

static int shape_check(verify *v, const rt_st_tensor *t, const char *name, int dtype, int64_t count)
{
    int64_t have = 1;
    for (int i = 0; t != NULL && i < t->dims; i++)
        have *= t->shape[i];
    if (t != NULL && t->dtype == dtype && have == count)
        return RT_OK;
    return rt_fail(v->err, RT_ERR_INPUT, "the reference file's %s is %s; see the reference form "
                   "in docs", name, t == NULL ? "missing" : "of another type or shape");
}

static int reference_open(verify *v, const char *reference)
{
    int rc = rt_safetensors_open(&v->file, reference, v->err);
    if (rc < 0)
        return rc;
    v->ids = rt_safetensors_find(v->file, "ids");
    v->length = rt_safetensors_find(v->file, "length");
    v->weight = rt_safetensors_find(v->file, "weight");
    v->loss = rt_safetensors_find(v->file, "loss");
    v->logits = rt_safetensors_find(v->file, "logits");
    v->logprob = rt_safetensors_find(v->file, "logprob");
    if (v->ids == NULL || v->ids->dims != 2 || v->ids->shape[0] < 1 || v->ids->shape[1] < 1 ||
        v->ids->shape[0] > 1 << 20 || v->ids->shape[1] > 1 << 20)
        return rt_fail(v->err, RT_ERR_INPUT, "%s has no ids of shape (B, T)", reference);
    v->b = (int)v->ids->shape[0];
    v->t = (int)v->ids->shape[1];
    int64_t bt = (int64_t)v->b * v->t;
    rc = shape_check(v, v->ids, "ids", RT_I32, bt);
    if (rc == RT_OK)
        rc = shape_check(v, v->length, "length", RT_I32, v->b);
    if (rc == RT_OK)
        rc = shape_check(v, v->weight, "weight", RT_F32, bt);
    if (rc == RT_OK)
        rc = shape_check(v, v->loss, "loss", RT_F32, 1);
    if (rc == RT_OK && v->logprob != NULL)
        rc = shape_check(v, v->logprob, "logprob", RT_F32, bt);
    for (int i = 0; rc == RT_OK && i < v->b; i++)
        if (at_i32(v->length, (size_t)i) < 1 || at_i32(v->length, (size_t)i) > v->t)
            rc = rt_fail(v->err, RT_ERR_INPUT, "%s: length of sequence %d is outside 1 to %d",
                         reference, i, v->t);
    return rc;
}

/* The same adapter merged: its rounding is one of 2^-24 a weight, as that of any f32 product. */
static int merged_open(verify *v)
{
    rt_weights *weights;
    int rc = rt_weights_new(&weights, &v->exact->arch, RT_F32, v->err);
    if (rc < 0)
        return rc;
    rt_weights_convert(weights, v->exact);
    rt_adapters_merge(weights, v->adapters, 0);
    rc = rt_net_new(&v->merged_net, &weights->arch, RT_F32, v->ops, v->err);
    if (rc == RT_OK)
        rt_net_set(v->merged_net, weights);
    rt_weights_free(&weights);
    return rc == RT_OK ? rt_trainer_new(&v->merged, v->merged_net, v->t, true, v->err) : rc;
}

/* The whole model, or an adapter's base and the adapter. */
static int weights_open(verify *v, const char *model, int dtype)
{
    if (!rt_peft_is(model))
        return rt_model_load(&v->exact, model, RT_F32, v->err);
    if (dtype != RT_F32)
        return rt_fail(v->err, RT_ERR_USAGE, "an adapter is verified in f32: what rounding its base to "
                       "bf16 changes has no bound of its own");
    rt_buf base = {0};
    int rc = rt_peft_base(model, &base, v->err);
    if (rc == RT_OK)
        rc = rt_model_load(&v->exact, base.data, RT_F32, v->err);
    if (rc == RT_OK)
        rc = rt_peft_load(&v->adapters, &v->exact->arch, &model, 1, v->err);
    rt_buf_free(&base);
    return rc;
}

static int model_open(verify *v, const char *model, int dtype, const char *device, int threads)
{
    int rc = weights_open(v, model, dtype);
    if (rc == RT_OK && v->logits != NULL)
        rc = shape_check(v, v->logits, "logits", RT_F32,
                         (int64_t)v->b * v->t * v->exact->arch.vocab);
    const rt_weights *used = v->exact;
    if (rc == RT_OK && dtype == RT_BF16) {
        rc = rt_weights_new(&v->rounded, &v->exact->arch, RT_BF16, v->err);
        if (rc < 0)
            return rc;
        rt_weights_convert(v->rounded, v->exact);
        used = v->rounded;
        const float *wide = v->exact->data;
        const uint16_t *narrow = v->rounded->data;
        for (size_t i = 0; i < v->exact->count && !v->lossy; i++)
            v->lossy = rt_from_bf16(narrow[i]) != wide[i];
    }
    if (rc == RT_OK)
        rc = rt_ops_open(&v->ops, device, threads, v->err);
    if (rc == RT_OK)
        rc = rt_net_new(&v->net, &used->arch, dtype, v->ops, v->err);
    if (rc < 0)
        return rc;
    rt_net_set(v->net, used);
    if (v->adapters != NULL) {
        rc = rt_net_open_adapters(v->net, &v->adapters->lora, 1, v->err);
        if (rc == RT_OK)
            rt_net_set_adapters(v->net, v->adapters->weights);
        if (rc == RT_OK)
            rc = merged_open(v);
        if (rc < 0)
            return rc;
    }
    return rt_trainer_new(&v->trainer, v->net, v->t, true, v->err);
}

/* ---- one sequence ---- */

static void logits_compare(verify *v, rt_trainer *of, kind *k, int b, int length,
                           const int32_t *row_of, double largest)
{
    size_t vocab = (size_t)v->exact->arch.vocab;
    float *mine = rt_alloc(vocab * sizeof(float));
    double worst = 0;
    for (int t = 0; t < length; t++) {
        rt_trainer_logits(of, row_of[t], mine);
        size_t at = ((size_t)b * (size_t)v->t + (size_t)t) * vocab;
        for (size_t i = 0; i < vocab; i++) {
            double error = fabs((double)mine[i] - (double)at_f32(v->logits, at + i));
            worst = error <= worst ? worst : error;
        }
    }
    rt_free(mine);
    char where[64];
    snprintf(where, sizeof(where), "sequence %d", b);
    note(k, largest > 0 ? worst / largest : worst, where);
}

static void logprobs_compare(verify *v, int b, int count, const float *logprob, float *g)
{
    for (int e = 0; e < count; e++) {
        size_t at = (size_t)b * (size_t)v->t + (size_t)e + 1;
        double weight = (double)at_f32(v->weight, at);
        g[e] = (float)-weight;
        v->loss_sum -= weight * (double)logprob[e];
        v->loss_scale += fabs(weight * (double)logprob[e]);
        if (v->logprob != NULL) {
            char where[64];
            snprintf(where, sizeof(where), "sequence %d token %d", b, e + 1);
            note(&v->kinds[LOGPROB], fabs((double)logprob[e] - (double)at_f32(v->logprob, at)),
                 where);
        }
    }
}

/* The sequence once more, through the merged net: rows of one sequence are its tokens. */
static int merged_compare(verify *v, int b, const int32_t *ids, int length, double largest)
{
    int32_t *row_of = rt_alloc((size_t)length * sizeof *row_of);
    int rc = rt_trainer_plan(v->merged, &ids, &length, NULL, NULL, 1, &row_of, v->err);
    float logprob;
    const rt_entry entry = {.row = 0, .target = ids[0]};
    if (rc >= 0)
        rc = rt_trainer_forward(v->merged, &entry, 1, 1.0f, false, &logprob, v->err);
    if (rc >= 0)
        logits_compare(v, v->merged, &v->kinds[MERGED], b, length, row_of, largest);
    rt_free(row_of);
    return rc;
}

static double largest_f32(const rt_st_tensor *t)
{
    double largest = 0;
    for (size_t i = 0; i < t->bytes / 4; i++)
        largest = fmax(largest, fabs((double)at_f32(t, i)));
    return largest;
}

static int sequence_run(verify *v, int b, double largest)
{
    int length = at_i32(v->length, (size_t)b), count = length - 1;
    size_t n = (size_t)v->t;
    int32_t *ids = rt_alloc(n * sizeof(int32_t)), *row_of = rt_alloc(n * sizeof(int32_t));
    rt_entry *entries = rt_alloc(n * sizeof(rt_entry));
    float *logprob = rt_alloc(n * sizeof(float)), *g = rt_alloc(n * sizeof(float));
    for (int t = 0; t < length; t++)
        ids[t] = at_i32(v->ids, (size_t)b * n + (size_t)t);
    const int32_t *sequences[1] = {ids}, lengths[1] = {length};
    int32_t *rows[1] = {row_of};
    const int adapter = v->adapters != NULL ? 0 : -1;
    int rc = rt_trainer_plan(v->trainer, sequences, lengths, &adapter, NULL, 1, rows, v->err);
    for (int e = 0; rc >= 0 && e < count; e++)
        entries[e] = (rt_entry){.row = row_of[e], .target = ids[e + 1]};
    if (rc >= 0)
        rc = rt_trainer_forward(v->trainer, entries, count, 1.0f, true, logprob, v->err);
    if (rc >= 0) {
        logprobs_compare(v, b, count, logprob, g);
        if (v->logits != NULL)
            logits_compare(v, v->trainer, &v->kinds[LOGITS], b, length, row_of, largest);
        if (v->grad != NULL)
            rc = rt_trainer_backward(v->trainer, entries, g, count, 1.0f, v->grad, v->err);
    }
    if (rc >= 0 && v->merged != NULL && v->logits != NULL)
        rc = merged_compare(v, b, ids, length, largest);
    rt_free(ids);
    rt_free(row_of);
    rt_free(entries);
    rt_free(logprob);
    rt_free(g);
    return rc < 0 ? rc : RT_OK;
}

/* ---- tensors by name ---- */

static void grad_compare(verify *v, const rt_st_tensor *t, const rt_tensor *of)
{
    double worst = 0, largest = largest_f32(t);
    for (size_t i = 0; i < of->count; i++) {
        double error = fabs((double)v->grad_host[of->offset + i] - (double)at_f32(t, i));
        worst = error <= worst ? worst : error;
    }
    bool norm = v->adapters == NULL && of->cols == 1;
    note(&v->kinds[norm ? GRAD_NORM_WEIGHT : GRAD], largest > 0 ? worst / largest : worst,
         of->name);
}

static void gradnorm_compare(verify *v, const rt_st_tensor *t, const rt_tensor *of)
{
    double want = (double)at_f32(t, 0), sum = 0;
    for (size_t i = 0; i < of->count; i++)
        sum += (double)v->grad_host[of->offset + i] * (double)v->grad_host[of->offset + i];
    note(&v->kinds[GRADNORM], fabs(sqrt(sum) - want) / (want > 0 ? want : 1), of->name);
}

static void weight_compare(verify *v, const rt_st_tensor *t, const rt_tensor *of)
{
    const rt_weights *all = v->adapters != NULL ? v->adapters->weights : v->exact;
    const float *mine = (const float *)all->data + of->offset;
    double worst = 0;
    for (size_t i = 0; i < of->count; i++) {
        double error = fabs((double)mine[i] - (double)at_f32(t, i));
        worst = error <= worst ? worst : error;
    }
    note(&v->kinds[WEIGHT], worst, of->name);
}

/* What is compared: of the adapter, under PEFT's names, or of the model. */
static const rt_tensor *tensor_find(const verify *v, const char *name)
{
    static const char peft[] = "base_model.model.";
    if (v->adapters == NULL)
        return rt_weights_find(v->exact, name);
    if (strncmp(name, peft, sizeof peft - 1) != 0)
        return NULL;
    char own[128];
    snprintf(own, sizeof own, "adapter.0.%s", name + sizeof peft - 1);
    return rt_weights_find(v->adapters->weights, own);
}

static int tensors_compare(verify *v)
{
    static const struct {
        const char *prefix;
        bool scalar;
        void (*compare)(verify *v, const rt_st_tensor *t, const rt_tensor *of);
    } parts[] = {{"grad.", false, grad_compare}, {"gradnorm.", true, gradnorm_compare},
                 {"weight.", false, weight_compare}};
    for (int i = 0; i < rt_safetensors_count(v->file); i++) {
        const rt_st_tensor *t = rt_safetensors_at(v->file, i);
        for (size_t p = 0; p < RT_COUNT(parts); p++) {
            size_t n = strlen(parts[p].prefix);
            if (strncmp(t->name, parts[p].prefix, n) != 0)
                continue;
            const rt_tensor *of = tensor_find(v, t->name + n);
            if (of == NULL)
                return rt_fail(v->err, RT_ERR_INPUT, "the reference has %s and the model has no "
                               "such tensor; it belongs to another model", t->name);
            int rc = shape_check(v, t, t->name, RT_F32, parts[p].scalar ? 1 : (int64_t)of->count);
            if (rc < 0)
                return rc;
            parts[p].compare(v, t, of);
        }
    }
    return RT_OK;
}

static bool wants_grad(const verify *v)
{
    for (int i = 0; i < rt_safetensors_count(v->file); i++)
        if (strncmp(rt_safetensors_at(v->file, i)->name, "grad", 4) == 0)
            return true;
    return false;
}

static int compare_all(verify *v)
{
    size_t count = v->adapters != NULL ? v->adapters->weights->count : v->exact->count;
    size_t bytes = count * sizeof(float);
    double largest = v->logits != NULL ? largest_f32(v->logits) : 0;
    int rc = RT_OK;
    if (wants_grad(v))
        v->grad = rt_net_floats(v->ops, count);
    for (int b = 0; b < v->b && rc == RT_OK; b++)
        rc = sequence_run(v, b, largest);
    if (rc < 0)
        return rc;
    double error = fabs(v->loss_sum - (double)at_f32(v->loss, 0));
    note(&v->kinds[LOSS], error / (v->loss_scale > 0 ? v->loss_scale : 1), "all sequences");
    if (v->grad != NULL) {
        v->grad_host = rt_alloc(bytes);
        v->ops->download(v->ops, v->grad_host, v->grad, bytes);
    }
    return tensors_compare(v);
}

static bool report_write(const verify *v, rt_buf *report)
{
    bool all = true;
    if (v->lossy)
        rt_buf_addf(report, "weights are rounded to bf16 (2^-9 of each): bounds are %d matrices "
                    "on a path x 2^-9, twice that for gradients\n", 4 * v->exact->arch.layers + 2);
    for (int i = 0; i < KINDS; i++) {
        const kind *k = &v->kinds[i];
        if (k->compared == 0)
            continue;
        bool good = k->worst <= k->bound;
        all = all && good;
        rt_buf_addf(report, "%-14s worst %.3g (%s; %s), bound %.3g: %s\n", k->name, k->worst,
                    k->how, k->where, k->bound, good ? "pass" : "FAIL");
    }
    rt_buf_addf(report, "%s\n", all ? "pass" : "FAIL");
    return all;
}

int rt_verify(const char *model, const char *reference, int dtype, const char *device, int threads,
              rt_buf *report, bool *pass, rt_error *err)
{
    verify v = {.err = err};
    *pass = false;
    int rc = reference_open(&v, reference);
    if (rc == RT_OK)
        rc = model_open(&v, model, dtype, device, threads);
    if (rc == RT_OK) {
        bounds_set(&v);
        rc = compare_all(&v);
    }
    if (rc == RT_OK)
        *pass = report_write(&v, report);
    if (v.grad != NULL)
        v.ops->free(v.ops, v.grad);
    rt_free(v.grad_host);
    rt_trainer_free(&v.trainer);
    rt_trainer_free(&v.merged);
    rt_net_free(&v.net);
    rt_net_free(&v.merged_net);
    rt_adapters_free(&v.adapters);
    if (v.ops != NULL)
        rt_ops_free(&v.ops);
    rt_weights_free(&v.exact);
    rt_weights_free(&v.rounded);
    if (v.file != NULL)
        rt_safetensors_close(&v.file);
    return rc;
}
