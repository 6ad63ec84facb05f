/*
 * config: one schema table in C (key, type, default, range, help) that serves the YAML file,
 * `--set key=value`, the reference docs (`retake config --docs`) and the stats socket.
 *
 * Every value a run depends on stands in rt_config. An unknown key is an error that names the
 * line and the nearest known key; an ill-typed or out-of-range value names line, key and range.
 * Threading: plain data. Ownership: an rt_config owns its strings (rt_config_free).
 */
#ifndef RT_CONFIG_H
#define RT_CONFIG_H

#include "base/base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RT_TASKS_MAX 16

/* One entry of `tasks:`. `task: NAME` at top level is short for a list of one. */
typedef struct rt_task_config {
    char *name;     /* built-in task (chain, fork, …) or a free name for a data file */
    char *data;     /* JSONL/JSON file; NULL for a built-in task */
    char *form;     /* gsm8k | svamp | plain (known by file content when empty) */
    char *grader;   /* exact | number | choice | yesno | math | steps | countdown | code; "": the task's */
    char *field_problem, *field_answer, *field_solution; /* field names of `plain` data */
    char *prompt;   /* file with a prompt template ({problem} is replaced); "" = built in */
    double weight;  /* share of a batch, relative */
    int64_t quota;  /* problems of a batch, strategy quota; 0 = by weight in what the others leave */
    int64_t limit;  /* use only the first so many records (generated: training problems), 0 = all */
    bool once;      /* no problem is trained on twice; then the task is out */
    struct { double temperature, top_p; int64_t max_tokens; } sampling; /* 0 = that of sampling */
    struct { int64_t max, tokens_max; } thoughts;                       /* 0 = that of thoughts */
    struct {
        int64_t from, to;   /* drawn in steps [from, to); to 0 = without end */
        int64_t ramp, fade; /* steps over which the weight rises and falls */
        double share;       /* data: of the problems, in the file's order, it begins with these */
        int64_t steps;      /* until its end is at the last problem */
        bool grow;          /* its begin stays; false: follows */
    } window;
    double advantage_scale; /* factor of its advantages where they are trained on */
    double eval_share; /* share of records held out for evaluation, drawn by seed */
    /* knobs of generated tasks */
    int64_t thoughts_min, thoughts_max, modulus;
    char *operations; /* of chain and fork: any of "+-*" */
    int64_t size;             /* of path and table */
    int64_t decisive, filler; /* of fork, these and the rest; of others filler, slip and hard */
    double slip, hard;
    bool dead_ends;
} rt_task_config;

enum rt_ratio { RT_RATIO_NONE, RT_RATIO_TOKEN, RT_RATIO_SEQUENCE };
enum rt_aggregation { RT_AGG_TOKEN_MEAN, RT_AGG_SEQUENCE_MEAN, RT_AGG_CONSTANT };
enum rt_kl { RT_KL_OFF, RT_KL_K1, RT_KL_K2, RT_KL_K3 };
enum rt_baseline { RT_BASELINE_NONE, RT_BASELINE_MEAN, RT_BASELINE_LEAVE_ONE_OUT, RT_BASELINE_BATCH_MEAN };
enum rt_dtype { RT_F32, RT_BF16, RT_F16, RT_I32, RT_Q8_0, RT_Q4_0, RT_Q4_1 };
enum rt_schedule { RT_SCHEDULE_CONSTANT, RT_SCHEDULE_LINEAR, RT_SCHEDULE_COSINE };

enum rt_strategy {
    RT_MIX_WEIGHTED, RT_MIX_PROPORTIONAL, RT_MIX_TEMPERATURE, RT_MIX_QUOTA, RT_MIX_ROUND_ROBIN,
    RT_MIX_GRADIENT
};
enum rt_chosen { RT_CHOSEN_RANDOM, RT_CHOSEN_SELF, RT_CHOSEN_ORACLE, RT_CHOSEN_STATISTICS };

/* Plans `reset` and `caro`: how a problem's trajectories are split, and who says where to go back to. */
typedef struct rt_reset_settings {
    int chosen_by;               /* enum rt_chosen */
    int64_t seeds;               /* failed rollouts that are reset, each a group of its own */
    int64_t base;                /* fresh rollouts that are trained */
    int64_t continuations;       /* of one reset state */
    int64_t fresh_max;           /* fresh rollouts in search of the above */
    int64_t offset;              /* thoughts before the one that was named */
    double localize_temperature;
    int64_t localize_tokens;     /* most tokens of a localization */
    bool mask;                   /* the prefix is not trained */
    double decay, explore;       /* statistics: weight kept per version; share of uncertainty added */
} rt_reset_settings;

enum rt_record_kind { RT_RECORD_SFT, RT_RECORD_GRPO, RT_RECORD_DPO, RT_RECORD_KTO };
enum rt_vote_rule { RT_VOTE_MACA, RT_VOTE_STRICT, RT_VOTE_WEIGHTED };
enum rt_debate_label { RT_LABEL_CONSENSUS, RT_LABEL_FIRST_ROUND, RT_LABEL_TRUTH };
enum rt_debate_context { RT_CONTEXT_FINAL, RT_CONTEXT_PREVIOUS, RT_CONTEXT_FIRST, RT_CONTEXT_NONE };
enum rt_own_or_shared { RT_OWN, RT_SHARED };

/* Plan `debate`: who argues, how they vote, what is learned from it (Samanta et al. 2025, MACA). */
typedef struct rt_debate_settings {
    int64_t agents, rounds;
    int64_t peers;        /* most answers of others that an agent reads in a round */
    int record;           /* enum rt_record_kind: what is made of a debate */
    int vote, label;      /* enum rt_vote_rule, enum rt_debate_label */
    int context;          /* enum rt_debate_context: what stands before a trained text */
    int adapters, pool;   /* enum rt_own_or_shared: the agents' weights; the records */
    bool online;          /* grpo: `samples` new answers of each agent; else the debate's own */
    bool all_tokens;      /* sft: question and peers' texts are trained, too */
    double agreement_min; /* share of agents behind the label that a record needs */
    bool format_reward;   /* grpo: added to the reward of agreement */
    bool diversity, summaries; /* prompts: ask for another method; peers in short */
    int64_t barrier;      /* comparison only: so many debates at a time, round by round; 0: off */
} rt_debate_settings;

enum rt_loss { RT_LOSS_POLICY, RT_LOSS_DPO, RT_LOSS_KTO };
enum rt_kto_form { RT_KTO_LIBRARY, RT_KTO_PAPER };

/* Objective settings (design: algorithms are data). Filled from the preset, then overridden. */
typedef struct rt_objective {
    int ratio;              /* enum rt_ratio */
    double clip_low, clip_high; /* bounds 1−low, 1+high; 0 and 0 = no clipping */
    double clip_dual;       /* 0 = off; c: where A < 0 the term is at most −A·c */
    double ratio_max;       /* CISPO: stop-gradient weight min(r, ratio_max); 0 = off */
    int aggregation;        /* enum rt_aggregation */
    double constant;        /* divisor of RT_AGG_CONSTANT, tokens */
    int kl;                 /* enum rt_kl */
    double kl_coef;
    int loss;               /* enum rt_loss; dpo and kto use none of the above */
    double beta;            /* of dpo and kto: strength of the reference */
    int kto_form;           /* enum rt_kto_form */
} rt_objective;

typedef struct rt_advantage_settings {
    int baseline;      /* enum rt_baseline */
    int std_ddof;      /* 0 or 1; −1: no division */
    double std_eps;    /* added to the deviation */
    double zero_below; /* all 0 where the deviation is below */
} rt_advantage_settings;

typedef struct rt_config {
    struct { int64_t seed, steps, staleness; char *dir; } run;
    struct { char *path, *dtype, *init; int64_t context; } model; /* dtype f32|bf16; init file|random */
    rt_task_config tasks[RT_TASKS_MAX];
    int tasks_count;
    struct {
        int strategy;             /* enum rt_strategy */
        double temperature;       /* T of size^(1/T) */
        int64_t undecided_steps;  /* of nothing but undecided answers: the task is out; 0 = never */
        int64_t gradient_steps;   /* over which squared norms are averaged */
        bool gradient_squared;    /* shares by the squared norm in place of the norm */
        double gradient_floor;    /* part of the batch that is shared by weight all the same */
    } mixing;
    struct {
        char *name;      /* preset */
        char *plan;      /* group | reset | caro | debate, from the preset */
        int64_t problems; /* per step */
        int64_t samples;  /* per problem: the group size */
        int64_t updates;  /* optimizer steps a batch is cut into */
        int64_t epochs;   /* passes over a step's batch */
        bool skip_degenerate; /* drop groups whose advantages are all zero */
        rt_objective objective;
        rt_advantage_settings advantage;
        rt_reset_settings resets;
        rt_debate_settings debate;
    } algorithm;
    struct { double temperature, top_p; int64_t top_k, max_tokens; } sampling;
    struct { char *delimiter, *terminal; int64_t max, tokens_max; } thoughts;
    struct {
        double lr, beta1, beta2, eps, weight_decay, clip;
        char *schedule;          /* constant | linear | cosine */
        int64_t warmup_steps;
        int64_t schedule_steps;  /* decay length; 0 = run.steps × updates × epochs */
        int64_t micro_tokens;    /* token budget of a micro-batch */
        int64_t threads;         /* 0 = decided by the supervisor, else all cores */
        int64_t checkpoint_every, checkpoints_kept; /* steps, files */
        bool recompute;          /* activation recomputation by layer */
        char *check_logprobs;    /* all | first | none */
        char *device;            /* cpu (cuda later), ref for the specification */
        /* rank 0: all weights are trained. targets: attention | mlp | all */
        struct { int64_t rank; double alpha, dropout; char *targets; } lora;
    } learner;
    struct {
        char *account;           /* off | last_block | full */
        int64_t every;           /* steps between measurements */
        bool halves;             /* products of halves of a task's prompts, as a check */
        char *by;                /* none | kind | depth | agent | length */
        char *correction;        /* none | equal_norms | running_norms | clip | pcgrad | cagrad */
        double clip, decay, cagrad_c;
    } gradients;
    struct { int64_t count, slots, threads, cache_tokens; char *device; } actors;
    struct { int64_t count, slots, cache_tokens; } debate; /* debate workers */
    struct {
        char *address;           /* "" = ipc in the run folder; tcp://HOST with ports from `port` on */
        int64_t port;            /* first of five consecutive TCP ports */
        int64_t heartbeat_ms, liveness, lease_timeout_ms, chunk_bytes, window;
        int64_t step_timeout_ms; /* stall report after so long without progress */
    } coordinator;
    struct {
        int64_t every, problems, samples;
        bool greedy;
        double temperature;
        char *contamination;      /* refuse | warn | off */
    } eval;
    struct {
        int64_t steps, batch;     /* of `retake sft` */
        char *data;               /* JSONL of prompt/completion; "" = the tasks' own solutions */
        double wrong_facts, wrong_share; /* careless teacher of chain: share of facts, how often stated */
        double localize_share, localize_share_end, verdict_weight; /* localization examples mixed in */
        double debate_share;      /* of chain: examples of a debate's later round */
        int64_t phase_steps;      /* second phase begins here (0 = one phase) */
        int64_t phase_batch; double phase_lr;
    } sft;
    /* template files; "" = built in */
    struct { char *localize, *verify, *question, *peers, *chat; } prompts;
    struct { char *level; } log;
} rt_config;

/* Where a text came from, for error messages: a file name or "--set". */
int rt_config_default(rt_config *config, rt_error *err);
/* Reads a YAML file into config (all defaults first, then the preset of `algorithm`, then the
 * file's own keys, then each of sets[i] = "key=value"). */
int rt_config_load(rt_config *config, const char *path, const char *const *sets, int sets_count,
                   rt_error *err);
int rt_config_parse(rt_config *config, const char *text, size_t bytes, const char *from,
                    const char *const *sets, int sets_count, rt_error *err);
/* Writes the resolved config as YAML that rt_config_load reads back to the same values. */
void rt_config_write(const rt_config *config, rt_buf *out);
/* The keys of one group ("algorithm") as one JSON object, keys without the group's name. */
void rt_config_write_json(const rt_config *config, const char *group, rt_buf *out);
/* Limits of the answers to one task's problems: its own where it sets them, else the config's. */
typedef struct rt_limits {
    double temperature, top_p;
    int64_t max_tokens, thoughts_max, thought_tokens_max;
} rt_limits;
rt_limits rt_config_limits(const rt_config *config, int task);
int64_t rt_config_max_tokens(const rt_config *config); /* the largest of all tasks */
/* Hash over all keys that determine the weights (not dir, log level, addresses, counts). */
uint64_t rt_config_fingerprint(const rt_config *config);
/* Sets of LoRA adapters that are trained: 0 = none, all weights are; plan debate with own adapters:
 * one an agent; else 1. */
int rt_config_adapters(const rt_config *config);
/* Markdown reference of every key, made from the table. */
void rt_config_docs(rt_buf *out);
void rt_config_free(rt_config *config);

/* Presets: name → objective + advantage settings; the one table of algorithms. */
typedef struct rt_preset {
    const char *name, *plan, *about;
    rt_objective objective;
    rt_advantage_settings advantage;
    bool skip_degenerate;
    rt_reset_settings resets;   /* continuations 0: no resets */
    rt_debate_settings debate;  /* agents 0: no debate */
} rt_preset;
const rt_preset *rt_preset_find(const char *name); /* NULL: unknown */
const rt_preset *rt_preset_at(int index);          /* NULL: past the end */

#ifdef __cplusplus
}
#endif
#endif
