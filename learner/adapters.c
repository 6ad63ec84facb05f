/*
 * The learner over a frozen base: what is trained, broadcast and saved is the adapters' vector.
 * Several adapters are several optimizations that share the base: each has its own sequences of a
 * batch, denominators, clipping and count of updates.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "learner/internal.h"

/* ---- opening ----------------------------------------------------------------------------------
 */

/* From a checkpoint's PEFT folders, adapter-0 and on. */
static int load_saved(rt_learner *learner, const rt_arch *arch, const rt_lora *lora, int count,
                      const char *from, rt_error *err)
{
    char **dirs = rt_alloc((size_t)count * sizeof *dirs);
    for (int k = 0; k < count; k++)
        dirs[k] = rt_format("%s/adapter-%d", from, k);
    int rc = rt_peft_load(&learner->adapters, arch, (const char *const *)dirs, count, err);
    const rt_lora *saved = rc == 0 ? &learner->adapters->lora : lora;
    bool same = saved->rank == lora->rank && saved->targets == lora->targets &&
                memcmp(&saved->alpha, &lora->alpha, sizeof lora->alpha) == 0;
    if (rc == 0 && !same)
        rc = rt_fail(
            err, RT_ERR_INPUT,
            "checkpoint %s holds adapters of rank %d and alpha %g, the "
            "config says %d and %g with %s layers; settings of a run cannot change on its way",
            from, saved->rank, saved->alpha, lora->rank, lora->alpha,
            learner->config->learner.lora.targets);
    for (int k = 0; k < count; k++)
        rt_free(dirs[k]);
    rt_free(dirs);
    return rc;
}

/* The base goes into the net and nowhere else: it does not change. */
int rt_learner_open_adapters(rt_learner *learner, int dtype, const char *from, rt_error *err)
{
    const rt_config *config = learner->config;
    int count = rt_config_adapters(config);
    rt_lora lora;
    rt_weights *base = NULL;
    rt_lora_of(config, &lora);
    int rc = rt_model_load(&base, config->model.path, dtype, err);
    if (rc == 0)
        rc = rt_net_new(&learner->net, &base->arch, dtype, learner->ops, err);
    if (rc == 0)
        rc = rt_net_open_adapters(learner->net, &lora, count, err);
    if (rc == 0 && from)
        rc = load_saved(learner, &base->arch, &lora, count, from, err);
    else if (rc == 0)
        rc = rt_adapters_new(&learner->adapters, &base->arch, &lora, count, err);
    if (rc == 0) {
        if (!from)
            rt_adapters_randomize(learner->adapters, (uint64_t)config->run.seed);
        rt_net_set(learner->net, base);
        learner->base_hash = rt_hash(base->data, rt_weights_bytes(base));
        learner->master = learner->working = learner->adapters->weights;
        learner->updates = rt_alloc((size_t)count * sizeof *learner->updates);
    }
    rt_weights_free(&base);
    return rc;
}

void rt_learner_close_adapters(rt_learner *learner)
{
    if (!learner->adapters)
        return;
    rt_adapters_free(&learner->adapters);
    rt_free(learner->updates);
    learner->master = learner->working = NULL;
}

/* ---- checkpoints ------------------------------------------------------------------------------
 */

int rt_learner_save_adapters(const rt_learner *learner, const char *dir, rt_error *err)
{
    const rt_config *config = learner->config;
    int rc = 0;
    /* A folder is moved and copied: what it needs is named from the root on. */
    char *base = realpath(config->model.path, NULL);
    for (int k = 0; rc == 0 && k < learner->adapters->count; k++) {
        char *to = rt_format("%s/adapter-%d", dir, k);
        rc = rt_peft_save(learner->adapters, k, config->learner.lora.dropout,
                          base ? base : config->model.path, to, err);
        rt_free(to);
    }
    free(base);
    return rc;
}

void rt_learner_describe_adapters(const rt_learner *learner, char base[33], rt_buf *updates)
{
    rt_hash_hex(learner->base_hash, base);
    for (int k = 0; k < learner->adapters->count; k++)
        rt_buf_addf(updates, "%s%lld", k > 0 ? " " : "", (long long)learner->updates[k]);
}

int rt_learner_recall_adapters(rt_learner *learner, const rt_safetensors *file, const char *path,
                               rt_error *err)
{
    const char *base = rt_safetensors_metadata(file, "base_hash");
    const char *at = rt_safetensors_metadata(file, "adapter_updates");
    char own[33];
    rt_hash_hex(learner->base_hash, own);
    if (!base || strcmp(base, own) != 0)
        return rt_fail(err, RT_ERR_INPUT,
                       "%s: its adapters were trained over a base that hashes to %s, "
                       "%s hashes to %s; give model.path the model this run began with",
                       path, base ? base : "nothing known", learner->config->model.path, own);
    for (int k = 0; k < learner->adapters->count; k++) {
        char *end = NULL;
        learner->updates[k] = at ? strtoll(at, &end, 10) : -1;
        if (!at || end == at || learner->updates[k] < 0)
            return rt_fail(err, RT_ERR_INPUT,
                           "%s: has no update counter of adapter %d; remove this "
                           "checkpoint folder",
                           path, k);
        at = end;
    }
    return 0;
}

/* ---- dropout ----------------------------------------------------------------------------------
 */

bool rt_learner_drops(const rt_learner *learner)
{
    return learner->adapters && learner->config->learner.lora.dropout > 0;
}

/* Log-probs that are compared, and ratios, are of the model as it samples. With dropout the
 * gradient goes another way: the same d loss / d logp, through a forward that drops inputs. */
int rt_learner_backward(rt_learner *learner, int entries, float temperature, rt_error *err)
{
    struct scratch *s = &learner->scratch;
    if (rt_learner_drops(learner)) {
        uint32_t key[4];
        rt_philox((uint64_t)learner->config->run.seed,
                  UINT64_C(1) << 63 | (uint64_t)learner->adapter,
                  (uint64_t)learner->optimizer.updates, key);
        rt_trainer_set_dropout(learner->trainer, learner->config->learner.lora.dropout,
                               (uint64_t)key[0] << 32 | key[1]);
        float *unused = rt_alloc((size_t)entries * sizeof *unused);
        int rc = rt_trainer_forward(learner->trainer, s->entries, entries, temperature, true,
                                    unused, err);
        rt_free(unused);
        if (rc == 0)
            rc = rt_trainer_backward(learner->trainer, s->entries, s->g, entries, temperature,
                                     learner->grad, err);
        rt_trainer_set_dropout(learner->trainer, 0, 0);
        return rc;
    }
    return rt_trainer_backward(learner->trainer, s->entries, s->g, entries, temperature,
                               learner->grad, err);
}

/* ---- one batch --------------------------------------------------------------------------------
 */

void rt_learner_choose(rt_learner *learner, int adapter)
{
    learner->adapter = adapter;
    learner->optimizer.updates = learner->updates[adapter];
}

static int check_adapters(const rt_learner *learner, const rt_sequence *sequences, int count,
                          rt_error *err)
{
    int adapters = learner->adapters ? learner->adapters->count : 0;
    for (int i = 0; i < count; i++)
        if (sequences[i].adapter > adapters || sequences[i].adapter < (adapters > 0))
            return rt_fail(err, RT_ERR_INPUT,
                           "trajectory %llu is for adapter %d, this learner trains %d; "
                           "coordinator and learner must read one config",
                           (unsigned long long)sequences[i].trajectory, sequences[i].adapter,
                           adapters);
    return 0;
}

/* The sequences of one adapter, in order; pairs keep pointing at each other. Returns how many. */
static int select_own(const rt_sequence *sequences, int count, int adapter, rt_sequence *own,
                      int *place)
{
    int n = 0;
    for (int i = 0; i < count; i++) {
        place[i] = sequences[i].adapter == adapter + 1 ? n : -1;
        if (place[i] >= 0)
            own[n++] = sequences[i];
    }
    for (int i = 0; i < n; i++)
        if (own[i].rejected > 0)
            own[i].rejected = 1 + place[own[i].rejected - 1]; /* both are of one adapter: checked */
    return n;
}

/* Sums for the whole batch: means over its trained tokens, loss and norm over its adapters. */
static void mean_add(double *mean, double one, int parts)
{
    if (isfinite(one)) /* an adapter without such texts has no figure of them */
        *mean = isfinite(*mean) && parts > 1 ? *mean + (one - *mean) / parts : one;
    else if (parts == 1)
        *mean = one;
}

static void stats_add(rt_update_stats *sum, const rt_update_stats *one, int parts)
{
    mean_add(&sum->preference.margin, one->preference.margin, parts);
    mean_add(&sum->preference.accuracy, one->preference.accuracy, parts);
    mean_add(&sum->preference.chosen, one->preference.chosen, parts);
    mean_add(&sum->preference.rejected, one->preference.rejected, parts);
    mean_add(&sum->preference.divergence, one->preference.divergence, parts);
    double before = (double)sum->trained, now = (double)one->trained, all = fmax(before + now, 1);
    double *means[] = {&sum->clipped, &sum->kl, &sum->entropy};
    const double ones[] = {one->clipped, one->kl, one->entropy};
    for (size_t i = 0; i < RT_COUNT(means); i++)
        *means[i] = (*means[i] * before + ones[i] * now) / all;
    sum->loss += (one->loss - sum->loss) / parts;
    sum->grad_norm += (one->grad_norm - sum->grad_norm) / parts;
    sum->clip_factor += (one->clip_factor - sum->clip_factor) / parts;
    sum->learning_rate = one->learning_rate;
    sum->rows += one->rows;
    sum->trained += one->trained;
    sum->compared += one->compared;
    sum->mismatched += one->mismatched;
    sum->seconds += one->seconds;
}

static int step_adapters(rt_learner *learner, const rt_sequence *sequences, int count, int updates,
                         const atomic_bool *stop, int *updates_done, rt_update_stats *stats,
                         rt_error *err)
{
    rt_sequence *own = rt_alloc((size_t)count * sizeof *own);
    int *place = rt_alloc((size_t)count * sizeof *place), rc = 0, parts = 0;
    for (int k = 0; rc == 0 && k < learner->adapters->count; k++) {
        int n = select_own(sequences, count, k, own, place), done = 0;
        if (n == 0)
            continue;
        rt_update_stats one;
        rt_learner_choose(learner, k);
        rc = rt_learner_step_one(learner, own, n, updates,
                                 *updates_done == 0 ? stop : NULL, &done, &one, err);
        learner->updates[k] = learner->optimizer.updates;
        *updates_done += done;
        stats_add(stats, &one, ++parts);
    }
    rt_free(own);
    rt_free(place);
    return rc;
}

int rt_learner_step(rt_learner *learner, const rt_sequence *sequences, int count, int updates,
                    const atomic_bool *stop, int *updates_done, rt_update_stats *stats,
                    rt_error *err)
{
    *stats = (rt_update_stats){0};
    *updates_done = 0;
    int rc = check_adapters(learner, sequences, count, err);
    if (rc == 0) /* all of it, before the first adapter moves */
        rc = rt_preference_check(&learner->config->algorithm.objective, sequences, count, 0, count, err);
    if (rc != 0 || count == 0)
        return rc;
    rt_gradients_step(learner);
    if (learner->adapters)
        rc = step_adapters(learner, sequences, count, updates, stop, updates_done, stats, err);
    else
        rc = rt_learner_step_one(learner, sequences, count, updates, stop, updates_done, stats, err);
    rt_gradients_report(learner, stats);
    return rc;
}
