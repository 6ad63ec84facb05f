/*
 * config_table: every key there is. The order is that of `retake config --docs`; keys of one
 * group stand together. `weights` marks what can change the bits of the trained weights:
 * how many workers there are, what is stored and what is watched cannot.
 */
#include "base/config_internal.h"

#include <string.h>

#define AT(group, field) #group "." #field
#define OFFSET(group, field) offsetof(rt_config, group.field)
#define UNLIMITED RT_CONFIG_UNLIMITED
#define TEXT_MAX RT_CONFIG_TEXT_BYTES_MAX

#define INTEGER(group, field, standard, low, high, weights, help)                                \
    {AT(group, field), RT_KEY_INTEGER, OFFSET(group, field), standard, low, high, NULL,          \
     weights, help}
#define REAL(group, field, standard, low, high, weights, help)                                   \
    {AT(group, field), RT_KEY_REAL, OFFSET(group, field), standard, low, high, NULL, weights,    \
     help}
#define BOOL(group, field, standard, weights, help)                                              \
    {AT(group, field), RT_KEY_BOOL, OFFSET(group, field), standard, 0, 0, NULL, weights, help}
#define TEXT(group, field, standard, low, choices, weights, help)                                \
    {AT(group, field), RT_KEY_TEXT, OFFSET(group, field), standard, low, TEXT_MAX, choices,      \
     weights, help}

/* Settings of the preset: their place in the structs differs from the key. */
#define SETTING(field, kind, place, standard, low, high, choices, help)                          \
    {"algorithm." field, kind, offsetof(rt_config, algorithm.place), standard, low, high,        \
     choices, true, help}

const rt_config_key rt_config_keys[] = {
    INTEGER(run, seed, "1", 0, UNLIMITED, true, "every random number of the run follows from it"),
    INTEGER(run, steps, "20", 0, 1e9, false, "steps to train in all"),
    INTEGER(run, staleness, "0", 0, 64, true,
            "how many weights versions a trajectory may be behind; 0 is synchronous"),
    TEXT(run, dir, "", 0, NULL, false, "run folder; empty: chosen from the config's name"),

    TEXT(model, path, "", 0, NULL, true,
         "Hugging Face folder, .gguf file, checkpoint or run folder"),
    TEXT(model, dtype, "f32", 0, "f32|bf16", true, "number format of the working weights"),
    TEXT(model, init, "file", 0, "file|random", true,
         "weights from the file, or drawn from the seed"),
    INTEGER(model, context, "0", 0, 1 << 20, true, "most tokens of a sequence; 0: the model's own"),

    {AT(mixing, strategy), RT_KEY_CHOICE, OFFSET(mixing, strategy), "weighted", 0, 0,
     "weighted|proportional|temperature|quota|round_robin|gradient", true,
     "how the tasks share a batch: by weight; by weight x size; by weight x size^(1/T); fixed "
     "counts; in turn; by their measured gradients"},
    REAL(mixing, temperature, "2", 0.01, 1e6, true,
         "T of strategy temperature: 1 is proportional, large is equal shares"),
    INTEGER(mixing, undecided_steps, "10", 0, 1e9, true,
            "steps of nothing but undecided answers after which a task is out; 0: never"),
    INTEGER(mixing, gradient_steps, "10", 1, 1e6, true,
            "strategy gradient: a task's squared norms are averaged over so many steps"),
    BOOL(mixing, gradient_squared, "false", true,
         "strategy gradient: shares by the squared norm, not by the norm"),
    REAL(mixing, gradient_floor, "0.1", 0, 1, true,
         "strategy gradient: part of a batch that is shared by weight whatever the norms"),

    TEXT(algorithm, name, "grpo", 1, NULL, true,
         "preset that fills the settings below; see the list of algorithms"),
    INTEGER(algorithm, problems, "16", 1, 65536, true, "problems per step"),
    INTEGER(algorithm, samples, "8", 1, 256, true, "trajectories per problem: the group size"),
    INTEGER(algorithm, updates, "2", 1, 1024, true, "optimizer steps a batch is cut into"),
    INTEGER(algorithm, epochs, "1", 1, 64, true, "passes over a step's batch, each of `updates` steps"),
    BOOL(algorithm, skip_degenerate, "false", true,
         "drop groups whose advantages are all zero"),
    SETTING("ratio", RT_KEY_CHOICE, objective.ratio, "token", 0, 0, "none|token|sequence",
            "importance ratio of new to old policy"),
    SETTING("clip_low", RT_KEY_REAL, objective.clip_low, "0.2", 0, 1, NULL,
            "the ratio is clipped below 1 - clip_low; 0 with clip_high 0: no clipping"),
    SETTING("clip_high", RT_KEY_REAL, objective.clip_high, "0.2", 0, 1000, NULL,
            "the ratio is clipped above 1 + clip_high"),
    SETTING("clip_dual", RT_KEY_REAL, objective.clip_dual, "0", 0, 1000, NULL,
            "bound c > 1 on the loss of negative advantages, -A c; 0: off"),
    SETTING("ratio_max", RT_KEY_REAL, objective.ratio_max, "0", 0, 1000, NULL,
            "weight min(ratio, ratio_max) without gradient in place of clipping; 0: off"),
    SETTING("aggregation", RT_KEY_CHOICE, objective.aggregation, "sequence_mean", 0, 0,
            "token_mean|sequence_mean|constant", "how token losses become one number"),
    SETTING("constant", RT_KEY_REAL, objective.constant, "0", 0, 1e9, NULL,
            "divisor of aggregation constant, in tokens; 0: sampling.max_tokens"),
    SETTING("kl", RT_KEY_CHOICE, objective.kl, "off", 0, 0, "off|k1|k2|k3",
            "estimator of the divergence from the reference model"),
    SETTING("kl_coef", RT_KEY_REAL, objective.kl_coef, "0", 0, 1000, NULL,
            "weight of that divergence in the loss"),
    SETTING("loss", RT_KEY_CHOICE, objective.loss, "policy", 0, 0, "policy|dpo|kto",
            "policy: advantage times log-prob as set above; dpo, kto: preferences of a debate"),
    SETTING("beta", RT_KEY_REAL, objective.beta, "0", 0, 1000, NULL,
            "dpo and kto: how strongly the reference model holds"),
    SETTING("kto_form", RT_KEY_CHOICE, objective.kto_form, "library", 0, 0, "library|paper",
            "kto: value functions around a batch estimate of the divergence, or the log-sigmoid form"),
    SETTING("baseline", RT_KEY_CHOICE, advantage.baseline, "mean", 0, 0,
            "none|mean|leave_one_out|batch_mean", "what is subtracted from a reward"),
    SETTING("std_ddof", RT_KEY_SMALL, advantage.std_ddof, "1", -1, 1, NULL,
            "deviation over n - std_ddof; -1: no division by the deviation"),
    SETTING("std_eps", RT_KEY_REAL, advantage.std_eps, "1e-06", 0, 1000, NULL,
            "added to the deviation"),
    SETTING("zero_below", RT_KEY_REAL, advantage.zero_below, "0", 0, 1000, NULL,
            "advantages are 0 where the deviation is below"),
    SETTING("resets.chosen_by", RT_KEY_CHOICE, resets.chosen_by, "self", 0, 0,
            "random|self|oracle|statistics", "who names the thought a failed rollout is reset to"),
    SETTING("resets.seeds", RT_KEY_INTEGER, resets.seeds, "1", 0, 2, NULL,
            "failed rollouts of a problem that are reset; plan caro: unused"),
    SETTING("resets.base", RT_KEY_INTEGER, resets.base, "4", 0, 16, NULL,
            "fresh rollouts of a problem that are trained"),
    SETTING("resets.continuations", RT_KEY_INTEGER, resets.continuations, "4", 1, 16, NULL,
            "rollouts from one reset state"),
    SETTING("resets.fresh_max", RT_KEY_INTEGER, resets.fresh_max, "12", 1, 24, NULL,
            "fresh rollouts sampled in search of a failure"),
    SETTING("resets.offset", RT_KEY_INTEGER, resets.offset, "0", 0, 64, NULL,
            "go back so many thoughts before the one that was named"),
    SETTING("resets.localize_temperature", RT_KEY_REAL, resets.localize_temperature, "0.3", 0, 100,
            NULL, "of self-localization; 0: the likeliest token"),
    SETTING("resets.localize_tokens", RT_KEY_INTEGER, resets.localize_tokens, "4096", 1, 1 << 20,
            NULL, "most tokens of a localization"),
    SETTING("resets.mask", RT_KEY_BOOL, resets.mask, "true", 0, 0, NULL,
            "train only what was sampled after the reset"),
    SETTING("resets.decay", RT_KEY_REAL, resets.decay, "0.9", 0, 1, NULL,
            "statistics: weight that an observation keeps per version of the weights"),
    SETTING("resets.explore", RT_KEY_REAL, resets.explore, "0.5", 0, 100, NULL,
            "statistics: how much the uncertainty of a state adds to its expected gain"),

    SETTING("debate.agents", RT_KEY_INTEGER, debate.agents, "3", 1, 16, NULL,
            "agents that argue over a question"),
    SETTING("debate.rounds", RT_KEY_INTEGER, debate.rounds, "2", 1, 8, NULL,
            "rounds; the first is without peers"),
    SETTING("debate.peers", RT_KEY_INTEGER, debate.peers, "5", 1, 15, NULL,
            "most answers of others that an agent reads in a round"),
    SETTING("debate.record", RT_KEY_CHOICE, debate.record, "dpo", 0, 0, "sft|grpo|dpo|kto",
            "what is made of a debate for training"),
    SETTING("debate.vote", RT_KEY_CHOICE, debate.vote, "maca", 0, 0, "maca|strict|weighted",
            "maca: the most frequent answer, of several the largest text; strict: more than half of "
            "the agents or no record; weighted: by the agents' mean log-prob"),
    SETTING("debate.label", RT_KEY_CHOICE, debate.label, "consensus", 0, 0,
            "consensus|first_round|truth",
            "what counts as right: the vote on the last answers, on the first, or the gold answer"),
    SETTING("debate.context", RT_KEY_CHOICE, debate.context, "final", 0, 0,
            "final|previous|first|none",
            "before a trained text: the peers' last answers, all answers of the round before, or the "
            "bare question; first: answers of round 1 to the bare question"),
    SETTING("debate.adapters", RT_KEY_CHOICE, debate.adapters, "own", 0, 0, "own|shared",
            "own: each agent its LoRA adapter; shared: one of all agents; learner.lora.rank 0: neither, "
            "all agents are the one model"),
    SETTING("debate.pool", RT_KEY_CHOICE, debate.pool, "shared", 0, 0, "own|shared",
            "agents with own adapters learn from records about themselves or from all"),
    SETTING("debate.online", RT_KEY_BOOL, debate.online, "false", 0, 0, NULL,
            "grpo: algorithm.samples new answers of each agent; false: the debate's last answers"),
    SETTING("debate.all_tokens", RT_KEY_BOOL, debate.all_tokens, "false", 0, 0, NULL,
            "sft: train question and peers' texts, too"),
    SETTING("debate.agreement_min", RT_KEY_REAL, debate.agreement_min, "0", 0, 1, NULL,
            "share of agents that must stand behind the label, else no record"),
    SETTING("debate.format_reward", RT_KEY_BOOL, debate.format_reward, "false", 0, 0, NULL,
            "grpo: add the reward for the form of an answer"),
    SETTING("debate.diversity", RT_KEY_BOOL, debate.diversity, "false", 0, 0, NULL,
            "ask for a method that differs from the peers'"),
    SETTING("debate.summaries", RT_KEY_BOOL, debate.summaries, "false", 0, 0, NULL,
            "peers' answers are condensed to three sentences before they are read"),
    SETTING("debate.barrier", RT_KEY_INTEGER, debate.barrier, "0", 0, 65536, NULL,
            "for comparison only: so many debates at a time, a round begins when all of them have ended "
            "the one before: slower, the same texts; 0: a turn begins when what it quotes is there"),

    REAL(sampling, temperature, "1", 0.01, 100, true, "divides the logits"),
    REAL(sampling, top_p, "1", 0.001, 1, true, "smallest set of tokens with this probability"),
    INTEGER(sampling, top_k, "0", 0, 1 << 20, true, "only the k likeliest tokens; 0: all"),
    INTEGER(sampling, max_tokens, "256", 1, 1 << 20, true, "most tokens of a response"),

    TEXT(thoughts, delimiter, "</thought>", 1, NULL, true, "text that ends a thought"),
    TEXT(thoughts, terminal, "\\boxed{", 0, NULL, true,
         "a thought with this text is the last; empty: none is"),
    INTEGER(thoughts, max, "20", 1, 4096, true, "most thoughts of a response"),
    INTEGER(thoughts, tokens_max, "256", 1, 1 << 20, true, "most tokens of a thought"),

    REAL(learner, lr, "0.0002", 0, 10, true, "learning rate"),
    REAL(learner, beta1, "0.9", 0, 0.999999, true, "AdamW: decay of the mean"),
    REAL(learner, beta2, "0.999", 0, 0.99999999, true, "AdamW: decay of the square"),
    REAL(learner, eps, "1e-08", 1e-20, 1, true, "AdamW: added to the root"),
    REAL(learner, weight_decay, "0.01", 0, 10, true, "AdamW: decoupled decay"),
    REAL(learner, clip, "1", 0, 1e9, true, "largest gradient norm; 0: no clipping"),
    TEXT(learner, schedule, "constant", 0, "constant|linear|cosine", true,
         "learning rate after warm-up"),
    INTEGER(learner, warmup_steps, "0", 0, 1e9, true, "optimizer steps from 0 up to lr"),
    INTEGER(learner, schedule_steps, "0", 0, 1e9, true,
            "optimizer steps of the decay; 0: run.steps x algorithm.updates x algorithm.epochs"),
    INTEGER(learner, micro_tokens, "4096", 1, 1 << 24, true, "token budget of a micro-batch"),
    INTEGER(learner, threads, "0", 0, 4096, false,
            "0: decided by the machine; one for a narrow model"),
    INTEGER(learner, checkpoint_every, "1", 0, 1e9, false,
            "steps between checkpoints; 0: only at the end"),
    INTEGER(learner, checkpoints_kept, "2", 1, 1e6, false, "newest checkpoints kept"),
    BOOL(learner, recompute, "false", false, "recompute activations by layer: less memory, slower"),
    TEXT(learner, check_logprobs, "all", 0, "all|first|none", false,
         "compare the actors' log-probs with the learner's: every step, the first, never"),
    TEXT(learner, device, "cpu", 0, "cpu|ref|cuda", false, "where the learner computes"),

    INTEGER(learner, lora.rank, "0", 0, 1024, true,
            "train low-rank adapters of this rank; 0: all weights"),
    REAL(learner, lora.alpha, "32", 0, 1e6, true, "adapters are scaled by alpha / rank"),
    REAL(learner, lora.dropout, "0", 0, 0.99, true, "share of an adapter's input dropped in training"),
    TEXT(learner, lora.targets, "attention", 0, "attention|mlp|all", true,
         "linear layers that get an adapter"),

    TEXT(gradients, account, "off", 0, "off|last_block|full", false,
         "measure the gradient of each task: not, of the last layer, of all weights"),
    INTEGER(gradients, every, "1", 1, 1e9, false, "steps between measurements"),
    BOOL(gradients, halves, "false", false,
         "check the estimator by products of two halves of a task's prompts; twice the memory"),
    TEXT(gradients, by, "none", 0, "none|kind|depth|agent|length", false,
         "measure once more by group kind, reset depth, agent or response length: a second pass"),
    TEXT(gradients, correction, "none", 0, "none|equal_norms|running_norms|clip|pcgrad|cagrad", true,
         "how the tasks' gradients are put together; none: added up"),
    REAL(gradients, clip, "1", 1e-9, 1e9, true, "correction clip: largest norm of a task's gradient"),
    REAL(gradients, decay, "0.9", 0, 0.999999, true,
         "correction running_norms: what a step keeps of the running norm"),
    REAL(gradients, cagrad_c, "0.5", 0, 0.999, true,
         "correction cagrad: how far from the plain sum, as part of its norm"),

    INTEGER(actors, count, "2", 0, 256, false, "actor processes on this machine"),
    INTEGER(actors, slots, "64", 1, 65536, false, "sequences an actor generates at once"),
    INTEGER(actors, threads, "0", 0, 4096, false,
            "of each actor; 0: decided by the machine; one for a narrow model"),
    INTEGER(actors, cache_tokens, "0", 0, 1e9, false,
            "tokens of K/V cache of an actor; 0: from slots and lengths"),
    TEXT(actors, device, "cpu", 0, "cpu|ref|cuda", false, "where actors compute"),

    INTEGER(debate, count, "0", 0, 256, false,
            "debate worker processes on this machine: they take the turns, actors the rest; 0: actors "
            "take the turns, too"),
    INTEGER(debate, slots, "64", 1, 65536, false, "turns a debate worker generates at once"),
    INTEGER(debate, cache_tokens, "0", 0, 1e9, false,
            "tokens of K/V cache of a debate worker; 0: from slots and lengths"),

    TEXT(coordinator, address, "", 0, NULL, false,
         "empty: local sockets in the run folder; tcp://HOST: four ports from coordinator.port"),
    INTEGER(coordinator, port, "5550", 1, 65531, false, "first of five consecutive TCP ports"),
    INTEGER(coordinator, heartbeat_ms, "1000", 10, 3600000, false, "between two signs of life"),
    INTEGER(coordinator, liveness, "3", 1, 1000, false, "missed heartbeats until a worker is lost"),
    INTEGER(coordinator, lease_timeout_ms, "600000", 100, 1e9, false,
            "a lease older than this is given to another worker"),
    INTEGER(coordinator, chunk_bytes, "1048576", 1024, 1 << 26, false, "of weights in one message"),
    INTEGER(coordinator, window, "8", 1, 256, false, "chunks on their way to a worker"),
    INTEGER(coordinator, step_timeout_ms, "30000", 100, 1e9, false,
            "without progress for this long: report who waits for whom"),

    INTEGER(eval, every, "0", 0, 1e9, false,
            "steps between evaluations; 0: only before and after"),
    INTEGER(eval, problems, "200", 0, 1e9, false, "held-out problems of an evaluation; 0: none"),
    INTEGER(eval, samples, "1", 1, 4096, false, "answers per problem"),
    BOOL(eval, greedy, "true", false, "take the likeliest token instead of sampling"),
    REAL(eval, temperature, "1", 0.01, 100, false, "when sampling"),
    TEXT(eval, contamination, "warn", 0, "refuse|warn|off", false,
         "what to do when held-out problems of data files are trained on as well"),

    INTEGER(sft, steps, "1000", 0, 1e9, true, "optimizer steps of retake sft"),
    INTEGER(sft, batch, "64", 1, 1 << 20, true, "examples of a step"),
    TEXT(sft, data, "", 0, NULL, true,
         "JSONL of prompt and completion; empty: the tasks' own solutions"),
    REAL(sft, wrong_facts, "0", 0, 1, true, "careless teacher of chain: share of wrong facts"),
    REAL(sft, wrong_share, "0", 0, 1, true, "how often a wrong fact is stated"),
    REAL(sft, localize_share, "0", 0, 1, true, "share of localization examples at the start"),
    REAL(sft, localize_share_end, "0", 0, 1, true, "that share at the end"),
    REAL(sft, debate_share, "0", 0, 1, true,
         "share of examples in which peers' answers to a chain are read before it is worked out"),
    REAL(sft, verdict_weight, "1", 0, 1e6, true, "loss weight of the verdict of such an example"),
    INTEGER(sft, phase_steps, "0", 0, 1e9, true, "the second phase begins here; 0: one phase"),
    INTEGER(sft, phase_batch, "0", 0, 1 << 20, true, "batch of the second phase; 0: the same"),
    REAL(sft, phase_lr, "0", 0, 10, true, "learning rate of the second phase; 0: the same"),

    TEXT(prompts, localize, "", 0, NULL, true,
         "file with the template of localization ({problem}, {thoughts}, {answer}, {count}); empty: "
         "built in"),
    TEXT(prompts, verify, "", 0, NULL, true,
         "file with the template of verification, same places; empty: built in"),

    TEXT(prompts, question, "", 0, NULL, true,
         "file with the template of a debate's question ({problem}); empty: built in"),
    TEXT(prompts, peers, "", 0, NULL, true,
         "file with the template of a debate's later rounds ({peers}, {problem}); empty: built in"),
    TEXT(prompts, chat, "auto", 0, "auto|chatml|plain", true,
         "form of a conversation; auto: chatml where the tokenizer knows its marks, else plain"),
    TEXT(log, level, "info", 0, "debug|info|warn|error", false, "lines below it are dropped"),
};
const int rt_config_keys_count = (int)RT_COUNT(rt_config_keys);

#define TASK(key, kind, field, standard, low, high, choices, help)                               \
    {key, kind, offsetof(rt_task_config, field), standard, low, high, choices, true, help}
#define TASK_TEXT(key, field, choices, help)                                                     \
    TASK(key, RT_KEY_TEXT, field, "", 0, TEXT_MAX, choices, help)

const rt_config_key rt_task_keys[] = {
    TASK_TEXT("name", name, NULL,
              "a built-in task (chain, fork, countdown, sort, path, table), or a free name for a data file"),
    TASK("data", RT_KEY_PATH, data, "", 0, TEXT_MAX, NULL,
         "JSONL or JSON file; empty for a built-in task"),
    TASK_TEXT("form", form, "|gsm8k|svamp|plain", "form of the data; empty: known by its content"),
    TASK_TEXT("grader", grader, "|exact|number|choice|yesno|math|steps|countdown|code",
              "empty: the task's own"),
    TASK_TEXT("fields.problem", field_problem, NULL, "plain data: field of the problem"),
    TASK_TEXT("fields.answer", field_answer, NULL, "plain data: field of the answer"),
    TASK_TEXT("fields.solution", field_solution, NULL, "plain data: field of a worked solution"),
    TASK("sampling.temperature", RT_KEY_REAL, sampling.temperature, "0", 0, 100, NULL,
         "of this task's answers; 0: sampling.temperature"),
    TASK("sampling.top_p", RT_KEY_REAL, sampling.top_p, "0", 0, 1, NULL,
         "of this task's answers; 0: sampling.top_p"),
    TASK("sampling.max_tokens", RT_KEY_INTEGER, sampling.max_tokens, "0", 0, 1 << 20, NULL,
         "most tokens of this task's answers; 0: sampling.max_tokens"),
    TASK("thoughts.max", RT_KEY_INTEGER, thoughts.max, "0", 0, 4096, NULL,
         "most thoughts of this task's answers; 0: thoughts.max"),
    TASK("thoughts.tokens_max", RT_KEY_INTEGER, thoughts.tokens_max, "0", 0, 1 << 20, NULL,
         "most tokens of a thought of this task; 0: thoughts.tokens_max"),
    TASK("window.from", RT_KEY_INTEGER, window.from, "0", 0, 1e9, NULL,
         "first step in which the task is drawn"),
    TASK("window.to", RT_KEY_INTEGER, window.to, "0", 0, 1e9, NULL,
         "first step in which it is not drawn any more; 0: it stays"),
    TASK("window.ramp", RT_KEY_INTEGER, window.ramp, "0", 0, 1e9, NULL,
         "steps from window.from on over which its weight or quota rises to the full one"),
    TASK("window.fade", RT_KEY_INTEGER, window.fade, "0", 0, 1e9, NULL,
         "steps before window.to over which it falls again"),
    TASK("window.share", RT_KEY_REAL, window.share, "1", 1e-6, 1, NULL,
         "data file in order of difficulty: share of its problems that it begins with"),
    TASK("window.steps", RT_KEY_INTEGER, window.steps, "0", 0, 1e9, NULL,
         "steps from window.from on until that window has come to the last problem"),
    TASK("window.grow", RT_KEY_BOOL, window.grow, "true", 0, 0, NULL,
         "true: the first problems stay in that window; false: it slides"),
    TASK_TEXT("prompt", prompt, NULL,
              "file with a prompt template, {problem} is replaced; empty: built in"),
    TASK("weight", RT_KEY_REAL, weight, "1", 0, 1e6, NULL, "share of a batch, relative"),
    TASK("quota", RT_KEY_INTEGER, quota, "0", 0, 65536, NULL,
         "strategy quota: problems of a batch; 0: by weight in what the others leave"),
    TASK("once", RT_KEY_BOOL, once, "false", 0, 0, NULL,
         "train on no problem twice: after the last one the task is out of the mixture"),
    TASK("limit", RT_KEY_INTEGER, limit, "0", 0, UNLIMITED, NULL,
         "use only the first so many records, of a generated task training problems; 0: all"),
    TASK("advantage_scale", RT_KEY_REAL, advantage_scale, "1", 1e-6, 1e6, NULL,
         "factor of the advantages of this task's answers where they are trained on"),
    TASK("eval_share", RT_KEY_REAL, eval_share, "0.1", 0, 1, NULL,
         "share of records held out for evaluation, drawn by seed"),
    TASK("thoughts_min", RT_KEY_INTEGER, thoughts_min, "4", 1, 1000, NULL,
         "generated tasks: fewest steps of a problem"),
    TASK("thoughts_max", RT_KEY_INTEGER, thoughts_max, "6", 1, 1000, NULL,
         "generated tasks: most steps of a problem"),
    TASK("modulus", RT_KEY_INTEGER, modulus, "10", 2, 1000000, NULL,
         "chain, fork: numbers are taken modulo this; the others: those of a problem are below it"),
    TASK("size", RT_KEY_INTEGER, size, "0", 0, 16, NULL,
         "path: nodes, 0: two more than steps; table: rows and columns, at most 9, 0: 3"),
    TASK("operations", RT_KEY_TEXT, operations, "+-*", 1, 16, NULL, "chain, fork: any of + - *"),
    TASK("decisive", RT_KEY_INTEGER, decisive, "0", 0, 1000, NULL,
         "fork: thoughts of a problem on which the answer depends; 0: all"),
    TASK("slip", RT_KEY_REAL, slip, "0.1", 0, 1, NULL,
         "all but chain: how often the teacher errs at a step, on average over the facts"),
    TASK("hard", RT_KEY_REAL, hard, "0", 0, 1, NULL,
         "all but chain: share of facts that take all the errors, at least slip; 0: every choice alike"),
    TASK("filler", RT_KEY_INTEGER, filler, "0", 0, 64, NULL,
         "all but chain: letters without meaning at the end of a thought"),
    TASK("dead_ends", RT_KEY_BOOL, dead_ends, "true", 0, 0, NULL,
         "fork: true: a wrong value stays wrong; false: half of the decisive steps can repair it"),
};
const int rt_task_keys_count = (int)RT_COUNT(rt_task_keys);

const rt_config_alias rt_config_aliases[] = {
    {"model", "model.path", "the model"},
    {"task", "tasks.0.name", "a list of one task"},
    {"algorithm", "algorithm.name", "the preset"},
    {"steps", "run.steps", "steps to train"},
    {"seed", "run.seed", "the seed"},
};
const int rt_config_aliases_count = (int)RT_COUNT(rt_config_aliases);

bool rt_config_group_known(const char *group, size_t bytes)
{
    for (int i = 0; i < rt_config_keys_count; i++) {
        const char *key = rt_config_keys[i].key;
        if (strncmp(key, group, bytes) == 0 && key[bytes] == '.') {
            return true;
        }
    }
    return false;
}
