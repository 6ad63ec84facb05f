/*
 * actor/internal: what the files of the rollout worker share.
 *
 * The loop thread owns sockets, the fetch and the list of open leases; the compute thread owns the
 * engine. A lease is one rt_work that belongs to whoever holds it; the blob of a weights version
 * travels to the compute thread and back the same way.
 */
#ifndef RT_ACTOR_INTERNAL_H
#define RT_ACTOR_INTERNAL_H

#include "actor/actor.h"
#include "model/model.h"
#include "proto/proto.h"
#include "tasks/tasks.h"

/* A weights version is its number and its hash: after a roll-back a number can come twice. */
typedef struct rt_version {
    bool set;
    int64_t number;
    rt_hash128 hash;
    uint32_t chunk_bytes;
} rt_version;

static inline bool rt_version_same(const rt_version *a, const rt_version *b)
{
    return a->set && b->set && a->number == b->number && rt_hash_equal(a->hash, b->hash);
}

/* ---- a lease on its way through the worker ------------------------------------------------- */

typedef struct rt_work {
    struct rt_work *next;
    uint64_t lease, request;  /* request: our own number, never used twice */
    rt_version version;
    char *grader, *gold, *delimiter, *terminal;
    rt_sampling sampling;     /* its texts are the two above */
    int thoughts_before;
    int adapter; /* −1: the base model */
    bool graded; /* what a localization says is no answer */
    int32_t *prefix;          /* prompt, then the response tokens to continue */
    int prompt_count, prefix_count;
    uint64_t *trajectories;
    int count;
    /* filled by the compute thread, in the order of `trajectories` */
    rt_completion *completions;
    rt_verdict *verdicts;
    bool *have;
    int have_count;
    int64_t begun_ns;
    double seconds;
    rt_error error;           /* code 0: all went well */
} rt_work;

/* NULL and a sentence for a lease that makes no sense. */
rt_work *rt_work_new(const rt_message *message, uint64_t request, rt_error *err);
void rt_work_free(rt_work **work);
void rt_work_append(rt_work **list, rt_work *work);

/* ---- notes between the two threads --------------------------------------------------------- */

enum rt_note_kind {
    RT_NOTE_WORK,    /* down: do it; up: it is done or has failed */
    RT_NOTE_WEIGHTS, /* down: load this blob when nothing old is active; up: loaded, blob back */
    RT_NOTE_CANCEL,  /* down: forget `request` */
    RT_NOTE_STOP     /* down: end the thread */
};

typedef struct rt_note {
    int kind;
    rt_work *work;
    uint64_t request;
    rt_version version;
    rt_weights *blob; /* borrows */
} rt_note;

/* ---- the compute thread -------------------------------------------------------------------- */

typedef struct rt_compute {
    rt_mailbox *mailbox; /* borrows */
    rt_ops *ops;
    rt_net *net;
    rt_tokenizer *tokenizer;
    rt_engine *engine;
    rt_arch arch;
    rt_hash128 base;      /* of the base's words, where adapters are what comes */
    int slots;
    rt_version current;   /* in the net */
    rt_note *pending;     /* version to swap to */
    rt_work *active;      /* in the engine */
    rt_work *held;        /* of the pending version */
    bool stopping;
    atomic_bool stop;
    atomic_uint_fast64_t tokens, prefill;
    atomic_uint sequences;
} rt_compute;

int rt_compute_open(rt_compute *compute, const rt_config *config, rt_error *err);
void rt_compute_run(void *compute); /* the thread */
void rt_compute_close(rt_compute *compute);
/* Size of the K/V cache: as configured, else what the slots can use within a bound of memory. */
int64_t rt_compute_cache_tokens(const rt_config *config, const rt_arch *arch);

/* ---- the loop thread ----------------------------------------------------------------------- */

/* A lease that was taken and has not been answered. */
typedef struct rt_open {
    uint64_t lease, request;
    uint32_t attempt;
    int count;
} rt_open;

typedef struct rt_actor {
    const rt_config *config;
    const rt_log *log;
    const char *role, *name;
    rt_error *err;
    int code;
    bool ending;
    int64_t unreachable_ms;
    uint64_t incarnation;

    uv_loop_t loop;
    uv_timer_t timer;
    uv_signal_t interrupt, terminate;
    bool loop_open, timer_open, thread_open;
    void *zmq;
    rt_socket *work, *blob;
    rt_mailbox *mailbox;
    uv_thread_t thread;
    rt_compute compute;

    bool joined;
    uint64_t coordinator; /* incarnation of the one that welcomed us, 0: none yet */
    rt_liveness peer;
    int64_t heard_ns, hello_ns;
    uint32_t hello_wait_ms;

    rt_weights *weights;  /* the blob; the loop writes it unless it is lent */
    bool lent;
    rt_fetch *fetch;
    int64_t chunk_ns;
    rt_version fetching, wanted, posted, loaded;

    rt_open *open;
    int open_count, open_capacity;
    rt_work *waiting;     /* leases whose version is not here yet */
    rt_work *unsent;      /* results the socket did not take */
    uint64_t requests;
    bool credit_due;      /* what is free has changed and no result tells it */

    char state[32];
    int64_t state_ns, rate_ns;
    uint64_t rate_tokens;
    double tokens_per_second;
} rt_actor;

/* Ends the run with this code; the sentence is in actor->err already. */
void rt_actor_end(rt_actor *actor, int code);
/* Sends on the work or blob socket; failures but a full queue are logged. */
int rt_actor_send(rt_actor *actor, rt_socket *socket, Retake__Envelope *envelope,
                  const rt_frame *frames, int frames_count);
void rt_actor_post(rt_actor *actor, const rt_note *note);
/* Slots free, those of one batch more counted, when `gone` trajectories of open leases are gone. */
uint32_t rt_actor_free(const rt_actor *actor, int gone);
void rt_actor_credit(rt_actor *actor); /* tells it */

/* actor_weights.c */
void rt_weights_announced(rt_actor *actor, const Retake__WeightsAnnounce *announce);
void rt_weights_chunk(rt_actor *actor, const rt_message *message);
void rt_weights_tick(rt_actor *actor, int64_t now_ns);
void rt_weights_back(rt_actor *actor, const rt_version *loaded); /* the blob is ours again */

/* actor_leases.c */
void rt_leases_take(rt_actor *actor, const rt_message *message);
void rt_leases_cancel(rt_actor *actor, uint64_t lease);
/* Hands over what waited for the version that was posted; refuses what can't be done any more. */
void rt_leases_flush(rt_actor *actor);
void rt_leases_done(rt_actor *actor, rt_work *work); /* takes */
void rt_leases_resend(rt_actor *actor);
void rt_leases_drop(rt_actor *actor); /* another coordinator: nothing it knows of */

#endif
