/* config_presets: the one table of algorithms. The learner knows none of these names. */
#include "base/config.h"

#include <string.h>

/* GRPO's advantage; the deviation is that of a sample, over n - 1. */
#define GROUP_STD {.baseline = RT_BASELINE_MEAN, .std_ddof = 1, .std_eps = 1e-6}

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
