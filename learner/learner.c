/* One model in training: memory, the optimizer step, publication of the working weights. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "learner/internal.h"

static int dtype_of(const rt_config *config)
{
    return strcmp(config->model.dtype, "bf16") == 0 ? RT_BF16 : RT_F32;
}

void rt_learner_publish(rt_learner *learner)
{
    if (learner->adapters) {
        rt_net_set_adapters(learner->net, learner->working);
        return;
    }
    if (learner->working != learner->master)
        rt_weights_convert(learner->working, learner->master);
    rt_net_set(learner->net, learner->working);
}

/* Master, moments and counters of a checkpoint; the caller has loaded the working weights.
 * expected receives the hash that the working weights must have, measured what rt_gradients_read
 * takes. */
static int restore(rt_learner *learner, const char *from, char expected[33], rt_buf *measured,
                   rt_error *err)
{
    char *path = rt_format("%s/optimizer.safetensors", from);
    rt_safetensors *file = NULL;
    int rc = rt_safetensors_open(&file, path, err);
    rt_ops *ops = learner->ops;
    const char *names[] = {"master", "m", "v"};
    float *moments[] = {NULL, learner->optimizer.m, learner->optimizer.v};
    for (int i = 0; rc == 0 && i < 3; i++) {
        const rt_st_tensor *tensor = rt_safetensors_find(file, names[i]);
        if (i == 0 && !tensor)
            continue; /* f32 runs: model.safetensors is the master */
        if (!tensor || tensor->dtype != RT_F32 ||
            tensor->bytes != learner->optimizer.count * sizeof(float))
            rc = rt_fail(err, RT_ERR_INPUT,
                         "%s: tensor \"%s\" is missing or of another model; remove this checkpoint "
                         "folder to continue from the one before", path, names[i]);
        else if (i == 0)
            memcpy(learner->master->data, tensor->data, tensor->bytes);
        else
            ops->upload(ops, moments[i], tensor->data, tensor->bytes);
    }
    if (rc == 0) {
        const char *updates = rt_safetensors_metadata(file, "updates");
        const char *version = rt_safetensors_metadata(file, "version");
        const char *hash = rt_safetensors_metadata(file, "weights_hash");
        const char *text = rt_safetensors_metadata(file, "measured");
        snprintf(expected, 33, "%s", hash ? hash : "");
        rt_buf_addf(measured, "%s", text ? text : "");
        if (!updates || !version)
            rc = rt_fail(err, RT_ERR_INPUT, "%s: has no update counter; remove this checkpoint folder",
                         path);
        else {
            learner->optimizer.updates = strtoll(updates, NULL, 10);
            learner->version = strtoll(version, NULL, 10);
        }
    }
    if (rc == 0 && learner->adapters)
        rc = rt_learner_recall_adapters(learner, file, path, err);
    if (file)
        rt_safetensors_close(&file);
    rt_free(path);
    return rc;
}

static int load_weights(rt_learner *learner, const char *from, rt_error *err)
{
    const rt_config *config = learner->config;
    bool random = !from && strcmp(config->model.init, "random") == 0;
    const char *path = from ? from : config->model.path;
    if (random) {
        rt_arch arch;
        int rc = rt_arch_load(&arch, path, err);
        if (rc == 0)
            rc = rt_weights_new(&learner->master, &arch, RT_F32, err);
        if (rc == 0)
            rt_weights_randomize(learner->master, (uint64_t)config->run.seed);
        return rc;
    }
    return rt_model_load(&learner->master, path, RT_F32, err);
}

/* Gradient and moments, zeroed, and the optimizer's weights; the master may still change. */
static int open_optimizer(rt_learner *learner, rt_error *err)
{
    rt_ops *ops = learner->ops;
    rt_optimizer *optimizer = &learner->optimizer;
    optimizer->count = learner->master->count;
    size_t bytes = optimizer->count * sizeof(float);
    optimizer->m = ops->alloc(ops, bytes);
    optimizer->v = ops->alloc(ops, bytes);
    learner->grad = ops->alloc(ops, bytes);
    learner->flat = ops->host ? learner->master->data : ops->alloc(ops, bytes);
    if (optimizer->m && optimizer->v && learner->grad && learner->flat)
        return 0;
    return rt_fail(err, RT_ERR_NOMEM, "no room on device %s for weights, gradient and moments of %zu MiB "
                   "each; train adapters (learner.lora.rank) or a smaller model", ops->name, bytes >> 20);
}

static void close_optimizer(rt_learner *learner)
{
    rt_ops *ops = learner->ops;
    float *all[] = {learner->optimizer.m, learner->optimizer.v, learner->grad,
                    ops->host ? NULL : learner->flat};
    for (size_t i = 0; i < RT_COUNT(all); i++)
        if (all[i])
            ops->free(ops, all[i]);
}

/* The master was set: what the optimizer moves starts as it is. */
static void master_upload(rt_learner *learner)
{
    if (!learner->ops->host)
        learner->ops->upload(learner->ops, learner->flat, learner->master->data,
                             learner->master->count * sizeof(float));
}

/* The optimizer has moved elements [at, at + count). */
static void master_download(rt_learner *learner, size_t at, size_t count)
{
    if (!learner->ops->host)
        learner->ops->download(learner->ops, (float *)learner->master->data + at, learner->flat + at,
                               count * sizeof(float));
}

/* Penalty and preference are against the model the run began with, resumed or not. */
static int open_reference(rt_learner *learner, rt_error *err)
{
    const rt_objective *objective = &learner->config->algorithm.objective;
    if (objective->kl == RT_KL_OFF && objective->loss == RT_LOSS_POLICY)
        return 0;
    if (learner->adapters)
        return rt_trainer_new(&learner->reference, learner->net, learner->trainer_tokens, true, err);
    int dtype = learner->working->dtype;
    rt_weights *weights;
    int rc = rt_model_load(&weights, learner->config->model.path, dtype, err);
    if (rc != 0)
        return rc;
    rc = rt_net_new(&learner->reference_net, &weights->arch, dtype, learner->ops, err);
    if (rc == 0) {
        rt_net_set(learner->reference_net, weights);
        rc = rt_trainer_new(&learner->reference, learner->reference_net, learner->trainer_tokens, true,
                            err);
    }
    rt_weights_free(&weights);
    return rc;
}

int rt_learner_new(rt_learner **out, const rt_config *config, const char *from, rt_error *err)
{
    rt_learner *learner = rt_alloc(sizeof *learner);
    learner->config = config;
    learner->updates_total = config->run.steps * config->algorithm.updates * config->algorithm.epochs;
    char expected[33] = "";
    rt_buf measured = {0};
    int rc = rt_ops_open(&learner->ops, config->learner.device, (int)config->learner.threads, err);
    if (rc == 0 && rt_config_adapters(config) > 0)
        rc = rt_learner_open_adapters(learner, dtype_of(config), from, err);
    else if (rc == 0)
        rc = load_weights(learner, from, err);
    if (rc == 0)
        rc = open_optimizer(learner, err);
    if (rc == 0 && from)
        rc = restore(learner, from, expected, &measured, err);
    if (rc == 0)
        master_upload(learner);
    if (rc == 0 && !learner->adapters) {
        int dtype = dtype_of(config);
        const rt_arch *arch = &learner->master->arch;
        learner->working = learner->master;
        if (dtype != RT_F32)
            rc = rt_weights_new(&learner->working, arch, dtype, err);
        if (rc == 0)
            rc = rt_net_new(&learner->net, arch, dtype, learner->ops, err);
    }
    if (rc == 0) {
        rt_learner_publish(learner);
        char hash[33];
        rt_hash_hex(rt_learner_hash(learner), hash);
        if (from && strcmp(hash, expected) != 0)
            rc = rt_fail(err, RT_ERR_INPUT,
                         "checkpoint %s is damaged: its weights hash to %s, it says %s; remove the folder to "
                         "continue from the one before", from, hash, expected);
    }
    if (rc == 0) {
        int64_t context = learner->master->arch.context;
        /* The longest sequence must fit a micro-batch, whatever the budget says. */
        int64_t longest = config->model.context > 0 ? RT_MIN(config->model.context, context) : context;
        int64_t tokens = RT_MAX(config->learner.micro_tokens, RT_MIN(longest, 4096));
        learner->trainer_tokens = (int)tokens;
        rc = rt_trainer_new(&learner->trainer, learner->net, tokens, config->learner.recompute, err);
        if (rc == 0)
            rc = open_reference(learner, err);
        if (rc == 0)
            rc = rt_gradients_open(learner, err);
        if (rc == 0 && measured.bytes > 0)
            rt_gradients_read(learner, measured.data);
    }
    rt_buf_free(&measured);
    if (rc != 0) {
        rt_learner_free(&learner);
        return rc;
    }
    *out = learner;
    return 0;
}

void rt_learner_free(rt_learner **pointer)
{
    rt_learner *learner = *pointer;
    if (!learner)
        return;
    if (learner->trainer)
        rt_trainer_free(&learner->trainer);
    if (learner->reference)
        rt_trainer_free(&learner->reference);
    if (learner->reference_net)
        rt_net_free(&learner->reference_net);
    if (learner->net)
        rt_net_free(&learner->net);
    rt_gradients_close(learner);
    if (learner->ops)
        close_optimizer(learner);
    rt_learner_close_adapters(learner);
    if (learner->working && learner->working != learner->master)
        rt_weights_free(&learner->working);
    if (learner->master)
        rt_weights_free(&learner->master);
    rt_ops_free(&learner->ops);
    struct scratch *s = &learner->scratch;
    rt_free(s->ids), rt_free(s->lengths), rt_free(s->first), rt_free(s->advantage);
    rt_free(s->rows), rt_free(s->row_of), rt_free(s->adapter), rt_free(s->trees);
    rt_free(s->entries), rt_free(s->logp), rt_free(s->old_logp), rt_free(s->ref_logp);
    rt_free(s->g);
    rt_free(learner);
    *pointer = NULL;
}

double rt_clip_factor(const rt_config *config, double norm)
{
    double clip = config->learner.clip;
    return clip > 0 ? fmin(1, clip / (norm + 1e-6)) : 1;
}

int rt_learner_apply(rt_learner *learner, double lr, double *grad_norm, rt_error *err)
{
    const rt_config *config = learner->config;
    rt_ops *ops = learner->ops;
    rt_optimizer *optimizer = &learner->optimizer;
    size_t count = optimizer->count, at = 0;
    if (learner->adapters) {
        count = rt_adapters_stride(learner->adapters);
        at = count * (size_t)learner->adapter;
    }
    double norm = sqrt(ops->dot(ops, learner->grad + at, learner->grad + at, count));
    *grad_norm = norm;
    if (!isfinite(norm)) {
        ops->zero(ops, learner->grad, optimizer->count * sizeof(float));
        return rt_fail(err, RT_ERR_MATH,
                       "the gradient norm of update %lld is %f; lower learner.lr or look at the step's "
                       "trajectories, the last checkpoint is untouched",
                       (long long)optimizer->updates + 1, norm);
    }
    double scale = rt_clip_factor(config, norm);
    double t = (double)++optimizer->updates;
    ops->adamw(ops, learner->flat + at, optimizer->m + at, optimizer->v + at, learner->grad + at, count,
               (float)scale, (float)lr, (float)config->learner.beta1, (float)config->learner.beta2,
               (float)config->learner.eps, (float)config->learner.weight_decay,
               (float)(1 - pow(config->learner.beta1, t)), (float)(1 - pow(config->learner.beta2, t)));
    master_download(learner, at, count);
    ops->zero(ops, learner->grad, optimizer->count * sizeof(float));
    rt_learner_publish(learner);
    return 0;
}

float rt_learner_temperature(const rt_learner *learner, const rt_sequence *sequence)
{
    const rt_config *config = learner->config;
    bool known = sequence->task >= 0 && sequence->task < config->tasks_count;
    double temperature = known ? rt_config_limits(config, sequence->task).temperature
                               : config->sampling.temperature;
    return temperature > 0 ? (float)temperature : 1.0f;
}

const rt_weights *rt_learner_weights(const rt_learner *learner)
{
    return learner->working;
}

rt_hash128 rt_learner_hash(const rt_learner *learner)
{
    return rt_hash(learner->working->data, rt_weights_bytes(learner->working));
}

int64_t rt_learner_version(const rt_learner *learner)
{
    return learner->version;
}

void rt_learner_set_version(rt_learner *learner, int64_t version)
{
    learner->version = version;
}

uint64_t rt_learner_tokens(const rt_learner *learner)
{
    return atomic_load_explicit(&learner->tokens, memory_order_relaxed);
}
