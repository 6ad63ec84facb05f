/* config_presets: the one table of algorithms. The learner knows none of these names. */
#include "base/config.h"

#include <string.h>

/* GRPO's advantage; the deviation is that of a sample, over n - 1. */
#define GROUP_STD {.baseline = RT_BASELINE_MEAN, .std_ddof = 1, .std_eps = 1e-6}

/* The advantage of Samanta et al. 2026: deviation over n, nothing added, flat groups are 0. */
#define RESET_STD {.baseline = RT_BASELINE_MEAN, .std_ddof = 0, .zero_below = 1e-8}
/* Their loss: no ratio, no clipping, mean over a sequence's trained tokens, then over sequences. */
#define RESET_LOSS {.ratio = RT_RATIO_NONE, .aggregation = RT_AGG_SEQUENCE_MEAN}
#define RESETS(by, seed_count, base_count, continuation_count, masked)                           \
    {.chosen_by = by, .seeds = seed_count, .base = base_count,                                   \
     .continuations = continuation_count, .fresh_max = 12, .localize_temperature = 0.3,          \
     .localize_tokens = 4096, .mask = masked, .decay = 0.9, .explore = 0.5}

/* The debate of Samanta et al. 2025, MACA: three agents, two rounds. */
#define DEBATE(what, ...)                                                                        \
    {.agents = 3, .rounds = 2, .peers = 5, .record = what, __VA_ARGS__}
/* Answers of one round to the bare question and no adapters: the label is their vote. */
#define SINGLE_ROUND(what, ...)                                                                  \
    {.agents = 8, .rounds = 1, .peers = 5, .record = what, .context = RT_CONTEXT_NONE,           \
     .adapters = RT_SHARED, .pool = RT_SHARED, __VA_ARGS__}

static const rt_preset presets[] = {
    {
        .name = "grpo",
        .plan = "group",
        .about = "Group-relative policy optimisation (Shao et al. 2024, DeepSeekMath): reward "
                 "minus group mean over group deviation, clipped token ratio, mean over sequences; the "
                 "KL term of the paper is off",
        .objective = {.ratio = RT_RATIO_TOKEN, .clip_low = 0.2, .clip_high = 0.2,
                      .aggregation = RT_AGG_SEQUENCE_MEAN},
        .advantage = GROUP_STD,
    },
    {
        .name = "dr_grpo",
        .plan = "group",
        .about = "GRPO done right (Liu et al. 2025): no deviation and no length in the "
                 "denominators; token sums are divided by a constant, sampling.max_tokens",
        .objective = {.ratio = RT_RATIO_TOKEN, .clip_low = 0.2, .clip_high = 0.2,
                      .aggregation = RT_AGG_CONSTANT},
        .advantage = {.baseline = RT_BASELINE_MEAN, .std_ddof = -1},
    },
    {
        .name = "dapo",
        .plan = "group",
        .about = "Decoupled clip and dynamic sampling (Yu et al. 2025): GRPO with a higher upper "
                 "bound, mean over all tokens, groups without signal dropped",
        .objective = {.ratio = RT_RATIO_TOKEN, .clip_low = 0.2, .clip_high = 0.28,
                      .aggregation = RT_AGG_TOKEN_MEAN},
        .advantage = GROUP_STD,
        .skip_degenerate = true,
    },
    {
        .name = "rloo",
        .plan = "group",
        .about = "REINFORCE leave-one-out (Ahmadian et al. 2024): a sequence is one action, "
                 "-A log p(sequence) averaged over sequences (token sums over the constant 1), "
                 "baseline from the other samples; the paper's form has algorithm.updates 1",
        .objective = {.ratio = RT_RATIO_NONE, .aggregation = RT_AGG_CONSTANT, .constant = 1},
        .advantage = {.baseline = RT_BASELINE_LEAVE_ONE_OUT, .std_ddof = -1},
    },
    {
        .name = "reinforce_pp",
        .plan = "group",
        .about = "REINFORCE++ (Hu 2025): advantages normalised over the whole batch, clipped token "
                 "ratio, mean over all tokens; its KL penalty is off",
        .objective = {.ratio = RT_RATIO_TOKEN, .clip_low = 0.2, .clip_high = 0.2,
                      .aggregation = RT_AGG_TOKEN_MEAN},
        .advantage = {.baseline = RT_BASELINE_BATCH_MEAN, .std_ddof = 0, .std_eps = 1e-8},
    },
    {
        .name = "gspo",
        .plan = "group",
        .about = "Group sequence policy optimisation (Zheng et al. 2025): one length-normalised "
                 "ratio for a sequence, with the paper's tight bounds",
        .objective = {.ratio = RT_RATIO_SEQUENCE, .clip_low = 3e-4, .clip_high = 4e-4,
                      .aggregation = RT_AGG_SEQUENCE_MEAN},
        .advantage = GROUP_STD,
    },
    {
        .name = "cispo",
        .plan = "group",
        .about = "Clipped importance-sampling weights (MiniMax-M1, Chen et al. 2025): every token "
                 "keeps its gradient, its weight is at most 1.28; mean over all tokens",
        .objective = {.ratio = RT_RATIO_TOKEN, .ratio_max = 1.28,
                      .aggregation = RT_AGG_TOKEN_MEAN},
        .advantage = GROUP_STD,
    },
    {
        .name = "grpo_seqmean",
        .plan = "group",
        .about = "GRPO with the loss and advantage of srpo: the baseline that resets are fairly "
                 "compared with",
        .objective = RESET_LOSS,
        .advantage = RESET_STD,
    },
    {
        .name = "rrpo",
        .plan = "reset",
        .about = "Resets (Samanta et al. 2026, Credit Assignment with Resets): the first failed "
                 "rollout is reset to a uniformly drawn thought; 4 fresh rollouts and 4 "
                 "continuations, normalised apart; only what follows the reset is trained",
        .objective = RESET_LOSS,
        .advantage = RESET_STD,
        .resets = RESETS(RT_CHOSEN_RANDOM, 1, 4, 4, true),
    },
    {
        .name = "srpo",
        .plan = "reset",
        .about = "The same, reset to the thought that the model itself names as the first wrong one",
        .objective = RESET_LOSS,
        .advantage = RESET_STD,
        .resets = RESETS(RT_CHOSEN_SELF, 1, 4, 4, true),
    },
    {
        .name = "srpo_2x4",
        .plan = "reset",
        .about = "srpo with two failed rollouts, 4 continuations of each, no fresh rollouts trained",
        .objective = RESET_LOSS,
        .advantage = RESET_STD,
        .resets = RESETS(RT_CHOSEN_SELF, 2, 0, 4, true),
    },
    {
        .name = "srpo_1x8",
        .plan = "reset",
        .about = "srpo with 8 continuations of one failed rollout, no fresh rollouts trained; "
                 "localization at temperature 0",
        .objective = RESET_LOSS,
        .advantage = RESET_STD,
        .resets = {.chosen_by = RT_CHOSEN_SELF, .seeds = 1, .base = 0, .continuations = 8,
                   .fresh_max = 12, .localize_tokens = 4096, .mask = true, .decay = 0.9,
                   .explore = 0.5},
    },
    {
        .name = "srpo_oracle",
        .plan = "reset",
        .about = "srpo where the task itself names the first wrong thought",
        .objective = RESET_LOSS,
        .advantage = RESET_STD,
        .resets = RESETS(RT_CHOSEN_ORACLE, 1, 4, 4, true),
    },
    {
        .name = "srpo_clip",
        .plan = "reset",
        .about = "srpo with a clipped token ratio, dual clip 3 and a mean over all tokens",
        .objective = {.ratio = RT_RATIO_TOKEN, .clip_low = 0.2, .clip_high = 0.2, .clip_dual = 3,
                      .aggregation = RT_AGG_TOKEN_MEAN},
        .advantage = RESET_STD,
        .resets = RESETS(RT_CHOSEN_SELF, 1, 4, 4, true),
    },
    {
        .name = "srpo_nomask",
        .plan = "reset",
        .about = "srpo that trains the prefix too: an ablation",
        .objective = RESET_LOSS,
        .advantage = RESET_STD,
        .resets = RESETS(RT_CHOSEN_SELF, 1, 4, 4, false),
    },
    {
        .name = "caro",
        .plan = "caro",
        .about = "Ours, after CPI-CARO of the same paper: the step's continuations go to the states "
                 "where statistics expect the most to be learned, the prompt among them",
        .objective = RESET_LOSS,
        .advantage = RESET_STD,
        .resets = RESETS(RT_CHOSEN_STATISTICS, 0, 4, 4, true),
    },
    {
        .name = "maca_sft",
        .plan = "debate",
        .about = "Multi-agent consensus alignment (Samanta et al. 2025), imitation: each agent learns "
                 "its own debates that ended with the consensus, question and peers' texts included",
        .objective = {.ratio = RT_RATIO_NONE, .aggregation = RT_AGG_TOKEN_MEAN},
        .advantage = {.baseline = RT_BASELINE_NONE, .std_ddof = -1},
        .debate = DEBATE(RT_RECORD_SFT, .pool = RT_OWN, .all_tokens = true),
    },
    {
        .name = "maca_grpo",
        .plan = "debate",
        .about = "The same, by reward: new answers of each agent, behind the peers' last answers, are "
                 "paid for agreement and for form; group-relative advantages, token sums over a constant",
        .objective = {.ratio = RT_RATIO_TOKEN, .clip_low = 0.2, .clip_high = 0.2,
                      .aggregation = RT_AGG_CONSTANT},
        .advantage = {.baseline = RT_BASELINE_MEAN, .std_ddof = 1, .std_eps = 1e-4},
        .debate = DEBATE(RT_RECORD_GRPO, .pool = RT_OWN, .online = true, .format_reward = true),
    },
    {
        .name = "maca_dpo",
        .plan = "debate",
        .about = "The same, by preference: every answer that agrees with the consensus is preferred "
                 "to every one that dissents",
        .objective = {.loss = RT_LOSS_DPO, .beta = 0.1},
        .advantage = {.baseline = RT_BASELINE_NONE, .std_ddof = -1},
        .debate = DEBATE(RT_RECORD_DPO, .pool = RT_SHARED),
    },
    {
        .name = "maca_kto",
        .plan = "debate",
        .about = "The same, without pairs: every last answer is desirable or not (Kahneman-Tversky "
                 "optimisation, Ethayarajh et al. 2024), classes weighted by their numbers",
        .objective = {.loss = RT_LOSS_KTO, .beta = 0.1},
        .advantage = {.baseline = RT_BASELINE_NONE, .std_ddof = -1},
        .debate = DEBATE(RT_RECORD_KTO, .pool = RT_SHARED),
    },
    {
        .name = "ttrl",
        .plan = "debate",
        .about = "Test-time reinforcement learning (Zuo et al. 2025): one round of 8 answers, paid for "
                 "agreement with their majority; what debate is compared with",
        .objective = {.ratio = RT_RATIO_TOKEN, .clip_low = 0.2, .clip_high = 0.2,
                      .aggregation = RT_AGG_SEQUENCE_MEAN},
        .advantage = GROUP_STD,
        .debate = SINGLE_ROUND(RT_RECORD_GRPO),
    },
    {
        .name = "scpo",
        .plan = "debate",
        .about = "Self-consistency preference optimisation (Prasad et al. 2024), without its loss "
                 "weights: one round of 8 answers, those of the majority preferred to the others",
        .objective = {.loss = RT_LOSS_DPO, .beta = 0.1},
        .advantage = {.baseline = RT_BASELINE_NONE, .std_ddof = -1},
        .debate = SINGLE_ROUND(RT_RECORD_DPO),
    },
};

const rt_preset *rt_preset_find(const char *name)
{
    for (size_t i = 0; i < RT_COUNT(presets); i++) {
        if (strcmp(presets[i].name, name) == 0) {
            return &presets[i];
        }
    }
    return NULL;
}

const rt_preset *rt_preset_at(int index)
{
    return index >= 0 && (size_t)index < RT_COUNT(presets) ? &presets[index] : NULL;
}
