/*
 * internal: what the files of the coordinator share.
 *
 * One loop thread owns everything here but the inside of rt_store, whose writer thread owns the
 * database once it has started.
 */
#ifndef RT_COORDINATOR_INTERNAL_H
#define RT_COORDINATOR_INTERNAL_H

#include <jansson.h>
#include <sqlite3.h>

#include "coordinator/coordinator.h"
#include "model/model.h"
#include "proto/proto.h"
#include "tasks/mix.h"
#include "tasks/tasks.h"

#define RT_NAME_BYTES 64
#define RT_EVENTS_KEPT 20
#define RT_LEASE_ERRORS_MAX 3  /* failures of one lease before its problem is given up */
#define RT_LEASE_GAP (1 << 20) /* lease ids skipped by a restart */
#define RT_STOP_SAVE_MS 1500   /* how long a stop waits for the learner's checkpoint */
#define RT_FINAL_SAVE_MS 30000 /* the same at the end of a run, while the learner is alive */

/* ---- leases: the table (leases.c) ------------------------------------------------------------ */

enum rt_lease_state { RT_LEASE_QUEUED, RT_LEASE_ISSUED, RT_LEASE_HELD };

/* The five ends of a lease. `filtered`: its results are complete and were not trained on (a
 * degenerate group, an evaluation). */
enum rt_fate {
    RT_FATE_TRAINED,
    RT_FATE_FILTERED,
    RT_FATE_STALE,
    RT_FATE_FAILED,
    RT_FATE_CANCELLED,
    RT_FATES
};
const char *rt_fate_name(int fate);

struct rt_job;
typedef struct rt_lease {
    uint64_t id;
    uint32_t attempt, errors;
    int state;
    int64_t version;              /* sampled at; set when issued */
    int64_t issued_ms, issued_ns; /* date, monotonic */
    struct rt_job *job;           /* borrows */
    struct rt_lease_list *list;   /* queue or holder's list it is in; NULL while held */
    struct rt_lease *next, *prev; /* in `list` */
    struct rt_lease *all_next, *all_prev;
    struct rt_lease *chain; /* same hash bucket */
} rt_lease;

typedef struct rt_lease_list {
    rt_lease *head, *tail;
    size_t count;
    int64_t samples; /* of all its leases */
    void *owner;     /* the worker; NULL: the queue */
} rt_lease_list;

typedef struct rt_leases {
    rt_lease **buckets;
    size_t buckets_count;
    rt_lease *all;
    rt_lease_list queue;
    uint64_t next_id;
    uint64_t created, open, ended[RT_FATES]; /* created = open + sum of ended, always */
    uint64_t reissued, duplicate;
} rt_leases;

void rt_leases_init(rt_leases *leases, uint64_t next_id);
void rt_leases_free(rt_leases *leases);
/* Queued: last, but turns of debates by debate, so that those begun come before those not. */
rt_lease *rt_leases_add(rt_leases *leases, struct rt_job *job);
rt_lease *rt_leases_find(const rt_leases *leases, uint64_t id); /* NULL: ended or unknown */
void rt_leases_issue(rt_leases *leases, rt_lease *lease, rt_lease_list *holder, int64_t version);
/* Back into the queue, to where it would have stood, with the next attempt number. */
void rt_leases_requeue(rt_leases *leases, rt_lease *lease);
void rt_leases_hold(rt_leases *leases, rt_lease *lease);          /* its result has arrived */
void rt_leases_end(rt_leases *leases, rt_lease *lease, int fate); /* frees it */
bool rt_leases_add_up(const rt_leases *leases);

/* ---- run store: writing (store.c), schema (store_schema.c) ----------------------------------- */

enum rt_table {
    RT_TABLE_RUN,
    RT_TABLE_PROBLEMS,
    RT_TABLE_TRAJECTORIES,
    RT_TABLE_GROUPS,
    RT_TABLE_RESETS,
    RT_TABLE_LOCALIZATIONS,
    RT_TABLE_DEBATES,
    RT_TABLE_TURNS,
    RT_TABLE_RECORDS,
    RT_TABLE_METRICS,
    RT_TABLE_STEPS,
    RT_TABLE_WORKERS,
    RT_TABLE_LEASES,
    RT_TABLE_EVENTS,
    RT_TABLE_FATES, /* no table: (step, fate) ends the step's trajectories that are still open */
    RT_TABLES
};
#define RT_COLUMNS_MAX 20

typedef struct rt_table_form {
    const char *name;
    const char *columns; /* "id, task, …" in the documented order */
    const char *create;  /* definition inside the parentheses; NULL: no table of its own */
    int count;
} rt_table_form;
const rt_table_form *rt_table_form_of(int table);
int rt_store_schema(sqlite3 *db, rt_error *err); /* creates what is missing */

/* One row on its way to the writer; values in column order. */
typedef struct rt_store_row rt_store_row;
rt_store_row *rt_store_row_new(int table);
void rt_store_row_int(rt_store_row *row, int64_t integer);
void rt_store_row_real(rt_store_row *row, double real);                    /* not finite: null */
void rt_store_row_text(rt_store_row *row, const char *text);               /* copies; NULL: null */
void rt_store_row_blob(rt_store_row *row, const void *data, size_t bytes); /* copies */
void rt_store_row_null(rt_store_row *row);

/* What an earlier life of the run left in its store. */
typedef struct rt_past {
    bool exists;
    uint64_t run, fingerprint;
    int64_t steps; /* run.steps it was started with */
    uint64_t lease_next, leases[RT_FATES];
    int64_t *evaluated; /* versions whose evaluation is complete */
    int evaluated_count;
    double seconds[5]; /* by rt_bucket */
    double tokens_sampled, tokens_prefill, tokens_trained, compared, mismatched;
    double grades[3];
    int64_t open_step;       /* its batch was made, its end is not known; −1: none */
    double open_grades[3];   /* not in `grades` */
    int64_t processes_again; /* starts beyond the first, of any role */
    json_t *seen;            /* process name: incarnation of its newest start */
} rt_past;

typedef struct rt_store rt_store;
typedef void rt_store_failed_fn(void *context); /* on the writer thread, at most once */
/* Opens or makes DIR/run.db and reads what is there. Leases left open end as cancelled. */
int rt_store_open(rt_store **store, const char *dir, rt_past *past, rt_error *err);
int rt_past_load(rt_store *store, rt_past *past, rt_error *err); /* store_past.c */
void rt_past_free(rt_past *past);
sqlite3 *rt_store_database(rt_store *store); /* before start */
double rt_store_metric(rt_store *store, int64_t step,
                       const char *name); /* before start; NaN: none */
int rt_store_start(rt_store *store, rt_store_failed_fn *failed, void *context, rt_error *err);
void rt_store_put(rt_store *store, rt_store_row *row); /* takes; never blocks; on disk soon */
int rt_store_flush(rt_store *store, rt_error *err); /* waits until all of it is committed */
size_t rt_store_waiting(const rt_store *store);
/* Code and sentence of the failure that stopped the writer; 0: none. */
int rt_store_failure(rt_store *store, rt_error *err);
int rt_store_close(rt_store **store, rt_error *err); /* writes all that is waiting */
int rt_store_reading(const char *dir, sqlite3 **db, rt_error *err); /* DIR/run.db beside a writer */

/* ---- jobs and plans -------------------------------------------------------------------------- */

enum rt_kind {
    RT_KIND_BASE,
    RT_KIND_EVAL,
    RT_KIND_RESET,
    RT_KIND_LOCALIZE,
    RT_KIND_SEED,
    RT_KIND_DEBATE,
    RT_KIND_SUMMARY,
    RT_KINDS
};
const char *rt_kind_name(int kind);

/* One trajectory as it came back, behind the prefix it continues; arrays point into the job's
 * block. What the plan makes of it is known when the step is settled. */
typedef struct rt_sample {
    uint64_t id;
    int kind;                     /* enum rt_kind */
    bool trained;                 /* it is in the batch */
    int64_t group, parent, reset; /* ids; −1: none */
    uint32_t suffix_start;
    const int32_t *ids;  // (tokens)
    const float *logp;   // (tokens)
    const int32_t *ends; // (thoughts)
    uint32_t tokens, thoughts;
    int grade;
    double reward, advantage;
    char end[12];
} rt_sample;

/* What a continuation goes on from: the first tokens of a response, in the plan's arena. */
typedef struct rt_prefix {
    const int32_t *ids;  // (count)
    const float *logp;   // (count) of its first sampling
    const int32_t *ends; // (thoughts)
    uint32_t count, thoughts;
    int64_t version; /* that first sampling's */
} rt_prefix;

struct rt_plan;
/* Work on one problem: `count` trajectories with consecutive ids, leased together. */
typedef struct rt_job {
    struct rt_plan *plan;
    int kind;     /* enum rt_kind */
    int index;    /* within the plan's problems */
    bool sampled; /* evaluation: drawn at eval.temperature, else greedy */
    uint64_t problem, first;
    int task, count;
    const char *task_name, *prompt, *gold, *grader; /* in the plan's arena */
    int32_t *prompt_ids;
    size_t prompt_count;
    rt_prefix prefix;           /* count 0: none */
    char prefers[RT_NAME_BYTES]; /* worker that may still hold the prefix; "": any */
    bool hit;                    /* it was leased to that one */
    struct rt_reset_state *state; /* continuations and localizations: of what; borrows */
    struct rt_debate_entry *debate; /* turns, summaries, new answers: of what; borrows */
    bool begins;                    /* a turn of a debate's first round */
    uint32_t adapter;               /* that samples: 1 + number; 0: all weights */
    rt_lease *lease;      /* NULL once ended */
    bool failed, dropped; /* given up; not in the batch */
    /* result */
    rt_sample *samples; // (count) NULL: not yet
    void *block;
    int64_t version;
    char worker[RT_NAME_BYTES];
} rt_job;

/* The jobs of one step, or of the evaluation of one version. */
typedef struct rt_plan {
    struct rt_plan *next;
    bool evaluation;
    int64_t step; /* evaluation: the version */
    rt_arena *arena;
    rt_job *jobs; // (count) of room for capacity: leases point at them
    int count, capacity, pending;
    bool recorded;                /* rt_record_batch */
    int problems, failed;         /* how many, and how many were given up */
    struct rt_reset_plan *resets;   /* NULL: no resets */
    struct rt_debate_plan *debates; /* NULL: no debates */
} rt_plan;

/* ---- weights held here (weight_store.c) ------------------------------------------------------ */

typedef struct rt_held {
    int64_t version; /* −1: empty */
    rt_hash128 hash;
    uint64_t bytes, room;
    uint32_t dtype, chunk_bytes;
    void *data;
    Retake__WeightsAnnounce *announce; /* as the learner sent it */
} rt_held;

typedef struct rt_version_hash {
    int64_t version;
    rt_hash128 hash;
} rt_version_hash;

typedef struct rt_depot {
    rt_held held[2];
    int newest;      /* index; the other is the previous one or being filled */
    rt_fetch *fetch; /* NULL: nothing is being pulled */
    int64_t fetch_heard_ns;
    rt_version_hash announced[64]; /* ring of what workers were told */
    int announced_count;
} rt_depot;

/* ---- peers ----------------------------------------------------------------------------------- */

typedef struct rt_peer_status {
    char state[RT_NAME_BYTES], waits_for[RT_NAME_BYTES], isa[32], host[RT_NAME_BYTES];
    uint64_t waits_ms, tokens, prefill;
    double tokens_per_second;
    uint32_t active;
    int64_t version, heard_ns;
} rt_peer_status;

typedef struct rt_worker {
    struct rt_worker *next;
    char name[RT_NAME_BYTES];
    char role[16];
    uint8_t peer[64];
    size_t peer_bytes;
    uint64_t incarnation;
    int64_t joined_ms, credit, credit_most; /* most it ever gave: twice its slots */
    rt_liveness life;
    rt_lease_list leases;
    uint64_t results;
    rt_peer_status status;
} rt_worker;

typedef struct rt_learner_link {
    bool present, announced, training, step_done;
    bool trained; /* it has done a step since it joined */
    char name[RT_NAME_BYTES];
    uint8_t peer[64];
    size_t peer_bytes;
    uint64_t incarnation, batch_incarnation; /* of who got the batch under way */
    int64_t joined_ms, batch_ns, saved_version;
    rt_hash128 step_hash; /* of the version StepDone promised */
    rt_liveness life;
    rt_peer_status status;
} rt_learner_link;

/* ---- the role -------------------------------------------------------------------------------- */

enum rt_bucket {
    RT_IN_SAMPLING,
    RT_IN_TRAINING,
    RT_IN_WEIGHTS,
    RT_IN_EVALUATION,
    RT_IN_WAITING,
    RT_BUCKETS
};
const char *rt_bucket_name(int bucket);

/* Counters over the results of one step (and of the whole run). */
typedef struct rt_tally {
    uint64_t tokens_sampled, tokens_prefill, tokens_trained, compared, mismatched, grades[3];
    uint64_t affinity_wanted, affinity_hits; /* continuations leased, to the worker they prefer */
    uint64_t continuation_prefill, hit_prefill; /* prefix tokens they computed; of hits */
    uint64_t turn_prompt, turn_prefill; /* prompt tokens of turns after the first; computed of them */
    uint64_t turns_wanted, turns_hits;  /* such turns; leased to the worker of the turn before */
    double seconds[RT_BUCKETS];
} rt_tally;

typedef struct rt_score { /* one kind of evaluation of one version */
    bool known;
    double accuracy, low, high;
    int64_t count;
} rt_score;

typedef struct rt_evaluation {
    int64_t version;
    rt_score greedy, sampled;
    rt_score debate, consistency; /* of debates: their votes; S(x) of one agent alone */
} rt_evaluation;

typedef struct rt_event {
    int64_t time_ms;
    int level;
    char role[RT_NAME_BYTES];
    char text[400];
} rt_event;

typedef struct rt_coordinator {
    const rt_config *config;
    const rt_log *log;
    uint64_t run, incarnation, fingerprint;
    int64_t started_ns;

    uv_loop_t loop;
    void *zmq;
    rt_socket *work, *blob, *learner_socket, *stats, *events;
    uv_timer_t tick, deadline;
    uv_signal_t on_int, on_term;
    uv_async_t on_store;
    bool handles_open;

    rt_taskset *tasks;
    rt_mix *mix;                  /* NULL: run.steps is 0 */
    int task_state[RT_TASKS_MAX]; /* enum rt_mix_state, as last told */
    bool last_told[RT_TASKS_MAX];
    rt_tokenizer *tokenizer;
    struct rt_chat *chat;                 /* of debates; else NULL */
    struct rt_debate_rules *debate_rules; /* the same */
    int64_t context;
    rt_store *store;
    rt_past past;

    rt_worker *workers;
    rt_learner_link link;
    rt_leases leases;
    rt_depot weights;
    int64_t version; /* newest announced to workers; −1: none yet */
    rt_plan *steps, *evaluations;
    struct rt_reset_memory *resets; /* what came of resets so far (plan_caro.c) */
    int64_t *evaluated; // (evaluated_count) versions
    int evaluated_count;
    rt_evaluation before, last;

    int bucket;
    int64_t bucket_ns; /* since when */
    rt_tally run_tally, step_tally;
    int64_t opened_ms; /* wall clock */
    int64_t progress_ns, step_ns;
    bool stall_told;
    int64_t restarts;         /* starts beyond the first, of any process of the run */
    double step_seconds_mean; /* moving, for the time left */
    json_t *step_metrics;     /* of the last step */
    json_t *next_metrics;     /* of the one under way */
    json_t *tasks_known;      /* by rt_tasks_note */
    rt_event kept[RT_EVENTS_KEPT];
    uint64_t events_count;
    int64_t reject_told_ns;

    bool ending, ended; /* told all to stop; the loop is over */
    int end_code;
    rt_error end_error;
} rt_coordinator;

/* open.c */
int rt_coordinator_open(rt_coordinator *co, rt_error *err); /* all but sockets and the loop */
void rt_coordinator_close(rt_coordinator *co);
/* Counts a start of a process that the run has seen with another incarnation. */
void rt_coordinator_row(rt_coordinator *co, const char *why); /* of workers; NULL: still here */
void rt_coordinator_seen(rt_coordinator *co, const char *name, uint64_t incarnation);

/* coordinator.c */
void rt_coordinator_advance(rt_coordinator *co); /* does whatever can be done now */
/* Ends the run: code 0 done, RT_ERR_STOPPED asked for, else the failure in `why`. */
void rt_coordinator_end(rt_coordinator *co, int code, const rt_error *why);
void rt_coordinator_saved(
    rt_coordinator *co); /* what a stop was waiting for has come or can't come */
void rt_coordinator_progress(rt_coordinator *co);
const char *rt_coordinator_phase(const rt_coordinator *co);
void rt_coordinator_waits(const rt_coordinator *co, rt_buf *out);

/* workers.c */
void rt_workers_message(void *context, rt_socket *socket, const rt_message *message);
void rt_workers_turn(void *context); /* after a turn of them */
void rt_workers_reject(void *context, rt_socket *socket, const rt_error *error);
void rt_workers_announce(rt_coordinator *co);
void rt_workers_lease_out(rt_coordinator *co);
void rt_workers_tick(rt_coordinator *co, int64_t now_ns);
void rt_workers_drop(rt_coordinator *co, rt_worker *worker, const char *why); /* frees it */
void rt_workers_stop(rt_coordinator *co, const char *reason);
void rt_workers_cancel(rt_coordinator *co, const rt_lease *lease);
/* The version is no longer held: who has not got it yet can't work on its leases. */
void rt_workers_version_gone(rt_coordinator *co, int64_t version);
rt_worker *rt_workers_find(const rt_coordinator *co, const char *name);
void rt_status_take(rt_peer_status *status, const Retake__Ping *ping);
void rt_hello_take(rt_peer_status *status, const Retake__Hello *hello);
/* NULL: welcome; else why this Hello is refused (in `reason`). */
bool rt_hello_refused(const rt_coordinator *co, const Retake__Hello *hello, char *reason,
                      size_t room);

/* lease_message.c */
int rt_lease_send(rt_coordinator *co, rt_worker *worker, const rt_lease *lease, rt_error *err);
void rt_lease_sampling(const rt_config *config, const rt_job *job, Retake__Sampling *sampling);

/* results.c */
void rt_results_take(rt_coordinator *co, rt_worker *worker, const rt_message *message);
/* Checks a result's shape against its job and copies it in. */
int rt_job_fill(rt_job *job, const Retake__Result *result, const rt_frame *frames, int frames_count,
                int vocab, rt_error *err);

/* learner_link.c */
void rt_link_message(void *context, rt_socket *socket, const rt_message *message);
void rt_link_tick(rt_coordinator *co, int64_t now_ns);
int rt_link_send(rt_coordinator *co, Retake__Envelope *envelope, const rt_frame *frames,
                 int frames_count, rt_error *err);
void rt_link_stop(rt_coordinator *co, const char *reason, bool save);
void rt_link_arrived(rt_coordinator *co); /* the version being pulled is here, verified */

/* weight_store.c */
void rt_depot_init(rt_depot *store);
void rt_depot_close(rt_depot *store);
const rt_held *rt_depot_newest(const rt_depot *store);              /* NULL: none */
const rt_held *rt_depot_of(const rt_depot *store, int64_t version); /* NULL: gone */
int rt_depot_pull(rt_coordinator *co, const Retake__WeightsAnnounce *announce, rt_error *err);
void rt_depot_abort(rt_coordinator *co);
void rt_depot_chunk(rt_coordinator *co, const rt_message *message);
void rt_depot_tick(rt_coordinator *co, int64_t now_ns);
void rt_depot_serve(void *context, rt_socket *socket, const rt_message *message);
void rt_depot_note(rt_depot *store, int64_t version, rt_hash128 hash);
bool rt_depot_known(const rt_depot *store, int64_t version, rt_hash128 hash);
bool rt_depot_hash(const ProtobufCBinaryData *bytes, rt_hash128 *hash);

/* plan_group.c */
rt_plan *rt_plan_new(bool evaluation, int64_t step, int count);
void rt_plan_free(rt_plan **plan);
/* Copies a problem into a job and tokenizes its prompt; a prompt that does not fit gives up the
 * job (event, lease counted failed). Adds the lease otherwise. */
int rt_plan_job(rt_coordinator *co, rt_plan *plan, rt_job *job, const rt_problem *problem,
                rt_error *err);
/* One more job on the problem of `like`, leased. */
rt_job *rt_plan_more(rt_coordinator *co, rt_plan *plan, const rt_job *like, int kind,
                     uint64_t first, int count);
int rt_plan_step(rt_coordinator *co, int64_t step, rt_plan **plan, rt_error *err);
void rt_plan_cancel(rt_coordinator *co, rt_plan *plan); /* every lease that is still open */
void rt_plan_advantages(const rt_config *config, rt_plan *plan); /* marks dropped groups */
void rt_plan_end_lease(rt_coordinator *co, rt_job *job, int fate);
/* Ends the finished job's lease as stale and queues a new one. */
void rt_plan_again(rt_coordinator *co, rt_job *job);
rt_plan *rt_plan_of(rt_plan *list, int64_t step);
bool rt_job_stale(const rt_job *job, int64_t staleness); /* of the version it was sampled at */

/* mixing.c */
/* Makes the mixture and refuses one that can't fill the run's steps. */
int rt_mixing_check(rt_coordinator *co, rt_error *err);
int rt_mixing_load(rt_coordinator *co, rt_error *err); /* what the steps so far left in run.db */
void rt_mixing_warn(rt_coordinator *co); /* of settings that leave a task without what its share goes by */
void rt_mixing_close(rt_coordinator *co);
/* problems[i] = problem i of the plan's step, in its arena. */
int rt_mixing_step(rt_coordinator *co, rt_plan *plan, rt_problem *problems, rt_error *err);
/* Metrics by task, which the mixture of later steps follows. */
void rt_mixing_record(rt_coordinator *co, const rt_plan *plan);
/* What the learner measured in a step: rows, and the tasks' norms for the mix. */
void rt_mixing_measured(rt_coordinator *co, int64_t step, Retake__Metric *const *metrics, size_t count);

/* batch.c */
typedef struct rt_batch {
    Retake__Batch message;
    Retake__Sequence *sequences, **pointers;
    int32_t *ids;
    float *logp;
    size_t ids_count, logp_count;
} rt_batch;
void rt_batch_build(rt_batch *batch, const rt_plan *plan, int64_t version, bool last);
void rt_batch_free(rt_batch *batch);

/* evaluation.c */
bool rt_evaluation_due(const rt_coordinator *co, int64_t version);
int rt_evaluation_plan(rt_coordinator *co, int64_t version, rt_error *err);
void rt_evaluation_finish(rt_coordinator *co); /* closes the complete ones */
void rt_evaluation_load(rt_coordinator *co);   /* from an earlier life */
json_t *rt_evaluation_json(const rt_evaluation *evaluation);
json_t *rt_score_json(const rt_score *score);

/* resets of a step: plan_reset.c (resets.h has the rest) */
int rt_resets_plan(rt_coordinator *co, int64_t step, rt_plan **plan, rt_error *err);
void rt_resets_done(rt_coordinator *co, rt_job *job); /* its result is here, or it has failed */
void rt_resets_settle(const rt_config *config, rt_plan *plan); /* groups, advantages, masks */
void rt_resets_record(rt_coordinator *co, const rt_plan *plan);
void rt_resets_metrics(rt_coordinator *co, const rt_plan *plan);
/* plan_caro.c */
void rt_resets_remember(rt_coordinator *co, const rt_plan *plan);
int rt_resets_load(rt_coordinator *co, rt_error *err);         /* from the run store */
void rt_resets_forget(rt_coordinator *co, int64_t from_step); /* that step and all after it */
void rt_resets_close(rt_coordinator *co);
/* resets.c: the summary, and one state by its id (NULL: unknown) */
json_t *rt_resets_json(const rt_coordinator *co);
json_t *rt_reset_state_json(rt_coordinator *co, int64_t id);

/* debates of a step or an evaluation: plan_debate.c (debates.h has the rest) */
int rt_debates_open(rt_coordinator *co, rt_error *err); /* what all debates of the run share */
void rt_debates_close(rt_coordinator *co);
int rt_debates_plan(rt_coordinator *co, int64_t step, rt_plan **plan, rt_error *err);
void rt_debates_done(rt_coordinator *co, rt_job *job); /* its result is here, or it has failed */
void rt_debates_record(rt_coordinator *co, const rt_plan *plan);
/* Debates on an evaluation's problems; what came of them. */
int rt_debates_evaluate(rt_coordinator *co, rt_plan *plan, int index, const rt_problem *problem,
                        rt_error *err);
void rt_debates_score(rt_coordinator *co, const rt_plan *plan, rt_evaluation *now);

/* record.c */
/* What was sampled for a step, before its batch goes out: whatever becomes of this process then,
 * the rows are whole. */
void rt_record_batch(rt_coordinator *co, rt_plan *plan);
/* A step that was trained after this run's last coordinator was gone. */
void rt_record_lost_step(rt_coordinator *co, int64_t step, rt_hash128 hash);
void rt_step_metric(rt_coordinator *co, int64_t step, const char *name, double value);
int rt_job_fate(const rt_job *job); /* trained if any of its trajectories is */
void rt_record_problem(rt_coordinator *co, const rt_job *job);
void rt_record_lease(rt_coordinator *co, const rt_lease *lease, int fate); /* −1: still open */
void rt_record_job(rt_coordinator *co, const rt_job *job);
void rt_record_worker(rt_coordinator *co, const char *name, uint64_t incarnation, const char *role,
                      const char *host, int64_t joined_ms, const char *why); /* NULL: still here */
void rt_record_metric(rt_coordinator *co, int64_t step, const char *name, double value);
/* steps and metrics rows of a trained step; done is NULL when the learner's account was lost. */
void rt_record_step(rt_coordinator *co, const rt_plan *plan, const Retake__StepDone *done);
void rt_record_rest(rt_coordinator *co); /* seconds and tokens since the last step */

/* tasks_view.c: what is known of the tasks, as JSON: the newest metrics task.… and grad/…, and all
 * evaluations, which come in the order of their versions */
void rt_tasks_note(json_t *known, int64_t step, const char *name, double value);
int rt_tasks_load(sqlite3 *db, json_t *known, rt_error *err);
/* A row for each name: reward, accuracy, evaluation, gains … */
json_t *rt_tasks_table(const json_t *known, const json_t *names);
void rt_tasks_remember(rt_coordinator *co); /* the metrics of the step that ended */
json_t *rt_tasks_json(const rt_coordinator *co);

/* stats.c */
void rt_events_add(rt_coordinator *co, enum rt_level level, const char *role, const char *format,
                   ...) __attribute__((format(printf, 4, 5)));
void rt_stats_message(void *context, rt_socket *socket, const rt_message *message);
void rt_tally_bucket(rt_coordinator *co); /* time up to now goes to the current bucket */

/* summary.c */
int rt_summary_write(rt_coordinator *co, rt_error *err);

#endif
