/* audit: one step of a run trained once more from its checkpoint, written down and compared. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "coordinator/coordinator.h"
#include "deploy/cli.h"
#include "learner/learner.h"

typedef struct audit_job {
    const char *run, *to;
    int64_t step;
    rt_arena *arena;
    rt_config config;
    rt_stored_step stored;
    rt_learner *learner;
    char before[33], after[33];
} audit_job;

static int load_config(audit_job *job, rt_error *err)
{
    char *path = rt_format("%s/config.yaml", job->run);
    int rc = rt_file_exists(path) ? rt_config_load(&job->config, path, NULL, 0, err)
                                  : rt_fail(err, RT_ERR_INPUT,
                                            "%s has no config.yaml; give the folder of a run",
                                            job->run);
    rt_free(path);
    return rc;
}

/* Version N is what step N begins with; version 0 is the model itself. */
static int open_learner(audit_job *job, rt_error *err)
{
    char *from = job->step > 0
                     ? rt_format("%s/checkpoints/step-%06" PRId64, job->run, job->step)
                     : NULL;
    int rc = 0;
    if (from && !rt_file_exists(from))
        rc = rt_fail(err, RT_ERR_INPUT,
                     "there is no checkpoint of version %" PRId64 " in %s any more; step 0 and the "
                     "newest versions can be audited, more of them with learner.checkpoints_kept",
                     job->step, job->run);
    rc = rc ? rc : rt_learner_new(&job->learner, &job->config, from, err);
    if (rc == 0)
        rt_hash_hex(rt_learner_hash(job->learner), job->before);
    rt_free(from);
    return rc;
}

static rt_sequence *sequences_of(const audit_job *job)
{
    rt_sequence *list =
        rt_arena_alloc(job->arena, ((size_t)job->stored.count + 1) * sizeof *list);
    for (int i = 0; i < job->stored.count; i++) {
        const rt_stored_sequence *q = &job->stored.sequences[i];
        list[i] = (rt_sequence){.trajectory = q->id, .ids = q->ids, .old_logp = q->logprobs,
                                .prompt_tokens = q->prompt_tokens,
                                .response_tokens = q->response_tokens,
                                .suffix_start = q->suffix_start,
                                .advantage = rt_correction_advantage(&job->config, q->task, q->advantage),
                                .adapter = q->adapter, .rejected = q->rejected,
                                .task = q->task, .problem = q->problem,
                                .stale = !q->logprobs || q->version != job->step};
    }
    return list;
}

static int train_again(audit_job *job, rt_update_stats *stats, rt_error *err)
{
    rt_buf settings = {0};
    char temperature[32], version[24], made[24], clip[32];
    rt_config_write_json(&job->config, "algorithm", &settings);
    snprintf(temperature, sizeof temperature, "%.9g", job->config.sampling.temperature);
    snprintf(clip, sizeof clip, "%.9g", job->config.learner.clip);
    snprintf(version, sizeof version, "%" PRId64, job->step);
    snprintf(made, sizeof made, "%" PRId64, job->step + 1);
    const char *metadata[] = {"format", "retake audit 1", "algorithm", settings.data,
                              "temperature", temperature, "clip", clip,
                              "version_before", version, "version_after", made,
                              "hash_before", job->before, "hash_after", job->stored.weights_hash,
                              NULL};
    rt_sequence *sequences = sequences_of(job);
    int rc = rt_audit(job->learner, sequences, job->stored.count,
                      (int)job->config.algorithm.updates, job->to, metadata, stats, err);
    rt_buf_free(&settings);
    if (rc == 0)
        rt_hash_hex(rt_learner_hash(job->learner), job->after);
    return rc;
}

/* The recorded step and this one must be the same, bit for bit. */
static int report(const audit_job *job, const rt_update_stats *stats)
{
    const rt_stored_step *stored = &job->stored;
    bool known = stored->weights_hash[0] != 0;
    bool same = known && strcmp(stored->weights_hash, job->after) == 0;
    printf("%s: step %" PRId64 ", %d sequences, loss %.9g, gradient norm %.9g\n", job->to,
           job->step, job->stored.count, stats->loss, stats->grad_norm);
    printf("log-probs %" PRId64 " compared, %" PRId64 " differ\n", stats->compared,
           stats->mismatched);
    if (isfinite(stored->loss) && (stored->loss != stats->loss ||
                                   stored->grad_norm != stats->grad_norm)) {
        printf("the run recorded loss %.9g and gradient norm %.9g\n", stored->loss,
               stored->grad_norm);
        same = false;
    }
    printf("weights %s, %s\n", job->after,
           same    ? "as the run recorded them"
           : known ? "NOT what the run recorded"
                   : "the run's record of them was lost");
    return same || !known ? 0 : 1;
}

static int work(audit_job *job, rt_error *err)
{
    rt_update_stats stats = {0};
    int rc = load_config(job, err);
    if (rc != 0)
        return rc;
    rc = rt_store_step(job->run, &job->config, job->step, job->arena, &job->stored, err);
    rc = rc ? rc : open_learner(job, err);
    rc = rc ? rc : train_again(job, &stats, err);
    if (job->learner)
        rt_learner_free(&job->learner);
    rt_config_free(&job->config);
    return rc ? rc : report(job, &stats);
}

int cmd_audit(int argc, char **argv)
{
    audit_job job = {.step = -1};
    int words;
    const cli_option options[] = {
        {"--step", OPTION_INTEGER, &job.step, "N", "step to train once more, from 0"},
        {"--to", OPTION_TEXT, &job.to, "FILE.safetensors", "file to write"},
    };
    int rc = cli_parse(argc, argv, "audit RUN --step N --to FILE.safetensors",
                       "Trains one step of a run once more from the checkpoint it began with and\n"
                       "writes all that went into it and came out of it: tokens, advantages,\n"
                       "masks, log-probs, loss and every gradient (docs/run-store.md). Exit code\n"
                       "0: the same weights bit for bit as the run recorded, 1: not.",
                       options, RT_COUNT(options), &job.run, &words, 1);
    if (rc != 0)
        return rc < 0 ? 0 : rc;
    if (words != 1 || job.step < 0 || !job.to || !*job.to)
        return cli_usage("which step, and where to? usage: retake audit RUN --step N --to "
                         "FILE.safetensors");
    job.arena = rt_arena_new(1 << 20);
    rt_error err = {0};
    rc = work(&job, &err);
    rt_arena_free(&job.arena);
    return rc < 0 ? cli_fail(&err) : rc;
}
