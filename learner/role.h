/* The learner process: its state and the work it hands to the compute thread. */
#ifndef RT_LEARNER_ROLE_H
#define RT_LEARNER_ROLE_H

#include <pthread.h>

#include "learner/internal.h"
#include "proto/proto.h"

enum job_kind { JOB_STEP, JOB_SAVE, JOB_QUIT };

/* One piece of work, made by the loop thread, answered in place by the compute thread. */
typedef struct rt_job {
    enum job_kind kind;
    int64_t step;
    rt_sequence *sequences;
    int count;
    int32_t *ids;            /* memory behind the sequences */
    float *old_logp;
    /* answer */
    int rc, updates_done;
    int64_t version;
    rt_hash128 hash;
    rt_update_stats stats;
    rt_metric *metrics;      /* own copy of the stats' */
    rt_buf path;
    rt_error error;
} rt_job;

typedef struct rt_role {
    const rt_config *config;
    const rt_log *log;
    rt_learner *learner;
    uv_loop_t loop;
    void *zmq;
    rt_socket *socket;
    rt_mailbox *mailbox;
    pthread_t thread;
    uv_timer_t tick;
    uv_signal_t signals[2];
    char *checkpoints;
    uint64_t incarnation;
    rt_liveness coordinator;
    int64_t unreachable_ms, started_ns, heard_ns, hello_ns;
    bool welcomed, training, saving, stopping, save_wanted, leaving;
    atomic_bool stop;        /* seen by the compute thread between micro-batches */
    int64_t version, saved_version;
    rt_hash128 hash;
    int64_t state_since_ns;
    uint64_t tokens_before;  /* at the last ping, for tokens/s */
    int64_t tokens_ns;
    double tokens_per_second;
    /* what was measured in the step that made `version` */
    Retake__Metric *metrics, **metrics_list; // (metrics_count)
    int metrics_count;
    int result;
    rt_error *err;
} rt_role;

/* role_compute.c */
void *rt_role_compute(void *context);
/* NULL: a batch that cannot be what the coordinator meant. */
rt_job *rt_job_step(const rt_config *config, const Retake__Batch *batch, const rt_frame *frames,
                    int frames_count, rt_error *err);
void rt_job_free(rt_job *job);

#endif
