/* Adapters: the flat vector of low-rank pairs, its table, its first values and the merge. */
#include "model/adapter.h"

#include <math.h>
#include <string.h>

/* ---- which linear layers ----------------------------------------------------------------------
 */

static const struct {
    const char *name;
    int group, index; /* targets of one group read the same input */
} targets[RT_LORA_TARGETS] = {
    [RT_LORA_Q] = {"self_attn.q_proj", RT_GROUP_QKV, 0},
    [RT_LORA_K] = {"self_attn.k_proj", RT_GROUP_QKV, 1},
    [RT_LORA_V] = {"self_attn.v_proj", RT_GROUP_QKV, 2},
    [RT_LORA_O] = {"self_attn.o_proj", RT_GROUP_O, 0},
    [RT_LORA_GATE] = {"mlp.gate_proj", RT_GROUP_GATE_UP, 0},
    [RT_LORA_UP] = {"mlp.up_proj", RT_GROUP_GATE_UP, 1},
    [RT_LORA_DOWN] = {"mlp.down_proj", RT_GROUP_DOWN, 0},
};

const char *rt_target_name(int target)
{
    return targets[target].name;
}

int rt_target_group(int target)
{
    return targets[target].group;
}

int rt_target_inputs(const rt_arch *a, int target)
{
    return target == RT_LORA_O ? a->heads * a->head_size : target == RT_LORA_DOWN ? a->f : a->d;
}

int rt_target_outputs(const rt_arch *a, int target)
{
    switch (target) {
    case RT_LORA_Q: return a->heads * a->head_size;
    case RT_LORA_K:
    case RT_LORA_V: return a->kv_heads * a->head_size;
    case RT_LORA_GATE:
    case RT_LORA_UP: return a->f;
    default: return a->d;
    }
}

int rt_target_column(const rt_arch *a, int target)
{
    int column = 0;
    for (int t = target - targets[target].index; t < target; t++)
        column += rt_target_outputs(a, t);
    return column;
}

bool rt_lora_of(const rt_config *config, rt_lora *lora)
{
    const char *words = config->learner.lora.targets;
    *lora = (rt_lora){.rank = (int)config->learner.lora.rank, .alpha = config->learner.lora.alpha};
    lora->targets = strcmp(words, "attention") == 0 ? RT_LORA_ATTENTION
                    : strcmp(words, "mlp") == 0     ? RT_LORA_MLP
                                                    : RT_LORA_ATTENTION | RT_LORA_MLP;
    return lora->rank > 0;
}

/* ---- the vector -------------------------------------------------------------------------------
 */

/* Beyond this the smallest matrix has no lower rank, and a mistyped number costs no memory. */
static int lora_check(const rt_arch *arch, const rt_lora *lora, int count, rt_error *err)
{
    int code = rt_arch_check(arch, err);
    if (code != RT_OK)
        return code;
    if (lora->rank < 1 || lora->rank > 1024 || !isfinite(lora->alpha))
        return rt_fail(err, RT_ERR_INPUT,
                       "an adapter's rank must be 1 to 1024 and its alpha a "
                       "number, not %d and %g",
                       lora->rank, lora->alpha);
    if ((lora->targets & ((1u << RT_LORA_TARGETS) - 1)) == 0)
        return rt_fail(err, RT_ERR_INPUT, "an adapter needs at least one target layer");
    if (count < 1 || count > RT_ADAPTERS_MAX)
        return rt_fail(err, RT_ERR_INPUT, "a model takes 1 to %d adapters at once, not %d",
                       RT_ADAPTERS_MAX, count);
    return RT_OK;
}

static void tensor_add(rt_weights *w, int adapter, int layer, int target, char part, int rows,
                       int cols)
{
    rt_tensor *t = &w->tensors[w->tensors_count++];
    snprintf(t->name, sizeof t->name, "adapter.%d.model.layers.%d.%s.lora_%c.weight", adapter,
             layer, targets[target].name, part);
    t->rows = rows;
    t->cols = cols;
    t->offset = w->count;
    t->count = (size_t)rows * (size_t)cols;
    w->count += t->count;
}

int rt_adapters_new(rt_adapters **adapters, const rt_arch *arch, const rt_lora *lora, int count,
                    rt_error *err)
{
    int code = lora_check(arch, lora, count, err);
    if (code != RT_OK)
        return code;
    size_t pairs = (size_t)count * (size_t)arch->layers * RT_LORA_TARGETS;
    rt_weights *w = rt_alloc(sizeof *w);
    w->arch = *arch;
    w->dtype = RT_F32;
    w->tensors = rt_alloc(2 * pairs * sizeof(rt_tensor));
    for (int k = 0; k < count; k++)
        for (int l = 0; l < arch->layers; l++)
            for (int t = 0; t < RT_LORA_TARGETS; t++)
                if (lora->targets >> t & 1) {
                    tensor_add(w, k, l, t, 'A', lora->rank, rt_target_inputs(arch, t));
                    tensor_add(w, k, l, t, 'B', rt_target_outputs(arch, t), lora->rank);
                }
    w->data = rt_alloc(w->count * sizeof(float));
    rt_adapters *made = rt_alloc(sizeof *made);
    *made = (rt_adapters){.lora = *lora, .count = count, .weights = w};
    *adapters = made;
    return RT_OK;
}

void rt_adapters_free(rt_adapters **adapters)
{
    if (*adapters == NULL)
        return;
    rt_weights_free(&(*adapters)->weights);
    rt_free(*adapters);
    *adapters = NULL;
}

size_t rt_adapters_stride(const rt_adapters *adapters)
{
    return adapters->weights->count / (size_t)adapters->count;
}

void rt_adapters_randomize(rt_adapters *adapters, uint64_t seed)
{
    rt_weights *w = adapters->weights;
    int per_adapter = w->tensors_count / adapters->count;
    for (int i = 0; i < w->tensors_count; i++) {
        const rt_tensor *t = &w->tensors[i];
        float *to = (float *)w->data + t->offset;
        bool b = i % 2 == 1; /* starts as the base model: B is zero */
        /* Kaiming's uniform with a = sqrt(5) is ±1/sqrt(inputs). */
        double bound = b ? 0 : 1 / sqrt((double)t->cols);
        uint64_t stream = (uint64_t)(i / per_adapter) << 32 | (uint64_t)(i % per_adapter);
        for (size_t k = 0; k < t->count; k++)
            to[k] = b ? 0 : (float)(bound * (2 * rt_uniform(seed, stream, k) - 1));
    }
}

/* ---- merged into the base ---------------------------------------------------------------------
 */

/* W += alpha/rank · B·A, each element summed in double and rounded once. */
static void pair_merge(float *w, const float *a, const float *b, int rows, int cols, int rank,
                       double scale)
{
    double *row = rt_alloc((size_t)cols * sizeof *row);
    for (int i = 0; i < rows; i++) {
        memset(row, 0, (size_t)cols * sizeof *row);
        for (int r = 0; r < rank; r++) {
            double factor = scale * (double)b[(size_t)i * (size_t)rank + (size_t)r];
            for (int j = 0; j < cols; j++)
                row[j] += factor * (double)a[(size_t)r * (size_t)cols + (size_t)j];
        }
        float *to = w + (size_t)i * (size_t)cols;
        for (int j = 0; j < cols; j++)
            to[j] = (float)((double)to[j] + row[j]);
    }
    rt_free(row);
}

void rt_adapters_merge(rt_weights *base, const rt_adapters *adapters, int adapter)
{
    const rt_weights *w = adapters->weights;
    RT_ASSERT(base->dtype == RT_F32 && adapter >= 0 && adapter < adapters->count);
    double scale = adapters->lora.alpha / adapters->lora.rank;
    int per_adapter = w->tensors_count / adapters->count;
    for (int i = adapter * per_adapter; i < (adapter + 1) * per_adapter; i += 2) {
        const rt_tensor *a = &w->tensors[i], *b = &w->tensors[i + 1];
        const char *layer = strstr(a->name, "model.layers.");
        char name[96];
        snprintf(name, sizeof name, "%.*sweight", (int)(strstr(layer, "lora_A.") - layer), layer);
        const rt_tensor *of = rt_weights_find(base, name);
        RT_ASSERT(of != NULL && of->rows == b->rows && of->cols == a->cols);
        pair_merge((float *)base->data + of->offset, (const float *)w->data + a->offset,
                   (const float *)w->data + b->offset, b->rows, a->cols, adapters->lora.rank,
                   scale);
    }
}
