/* config_check: what several keys must say together, and values that follow from others. */
#include "base/config_internal.h"

#include <string.h>

/* chain.jsonl in some folder: chain */
static char *stem(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    return rt_strndup(name, dot && dot > name ? (size_t)(dot - name) : strlen(name));
}

static int check_window(const rt_config *config, int number, rt_error *err)
{
    const rt_task_config *task = &config->tasks[number];
    bool moves = task->window.share < 1;
    const char *wrong = NULL;
    if (task->window.to > 0 && task->window.to <= task->window.from) {
        wrong = "window.to is not behind window.from: no step would draw it";
    } else if (task->window.fade > 0 && task->window.to == 0) {
        wrong = "window.fade counts back from window.to; set that, too";
    } else if (moves != (task->window.steps > 0)) {
        wrong = "window.share and window.steps go together: a share below 1 and the steps until its "
                "end is at the last problem";
    } else if (moves && !task->data) {
        wrong = "window.share needs a data file, for generated problems stand in no order of "
                "difficulty; list the task twice, with other thoughts_min and thoughts_max and with "
                "window.from and window.to";
    } else if (moves && task->once) {
        wrong = "once and window.share do not go together: a moving window repeats problems";
    } else if (config->mixing.strategy == RT_MIX_ROUND_ROBIN &&
               (task->window.ramp > 0 || task->window.fade > 0)) {
        wrong = "strategy round_robin has no weights that window.ramp or window.fade could move";
    }
    return wrong ? rt_fail(err, RT_ERR_USAGE, "tasks.%d: %s", number, wrong) : RT_OK;
}

static int check_share(const rt_config *config, int number, rt_error *err)
{
    const rt_task_config *task = &config->tasks[number];
    if (task->sampling.temperature > 0 && task->sampling.temperature < 0.01) {
        return rt_fail(err, RT_ERR_USAGE, "tasks.%d.sampling.temperature is %g, but must be 0 (that of "
                       "sampling) or from 0.01 to 100", number, task->sampling.temperature);
    }
    if (task->advantage_scale != 1 && config->algorithm.objective.loss != RT_LOSS_POLICY) {
        return rt_fail(err, RT_ERR_USAGE, "tasks.%d.advantage_scale is %g, but the losses dpo and kto have "
                       "preferences in place of advantages; leave it at 1, or choose an algorithm with "
                       "algorithm.loss: policy", number, task->advantage_scale);
    }
    if (task->quota > 0 && config->mixing.strategy != RT_MIX_QUOTA) {
        return rt_fail(err, RT_ERR_USAGE, "tasks.%d.quota is %lld, but only mixing.strategy: quota "
                       "counts by quotas", number, (long long)task->quota);
    }
    bool sized = config->mixing.strategy == RT_MIX_PROPORTIONAL ||
                 config->mixing.strategy == RT_MIX_TEMPERATURE;
    if (sized && !task->data && task->limit == 0 && task->weight > 0) {
        return rt_fail(err, RT_ERR_USAGE, "tasks.%d (%s) is generated and has no size that a share "
                       "could follow; give it a limit, or take mixing.strategy: weighted", number,
                       task->name);
    }
    return RT_OK;
}

static int check_mixing(const rt_config *config, rt_error *err)
{
    int64_t quotas = 0;
    bool rest = false;
    for (int i = 0; i < config->tasks_count; i++) {
        bool on = config->tasks[i].weight > 0;
        quotas += on ? config->tasks[i].quota : 0;
        rest = rest || (on && config->tasks[i].quota == 0);
    }
    if (config->mixing.strategy == RT_MIX_QUOTA &&
        (quotas > config->algorithm.problems || (quotas < config->algorithm.problems && !rest))) {
        return rt_fail(err, RT_ERR_USAGE, "the quotas of the tasks add up to %lld, but "
                       "algorithm.problems is %lld; make them equal%s", (long long)quotas,
                       (long long)config->algorithm.problems,
                       rest ? "" : ", or list a task without a quota for the rest");
    }
    if (config->mixing.strategy == RT_MIX_GRADIENT && strcmp(config->gradients.account, "off") == 0) {
        return rt_fail(err, RT_ERR_USAGE, "mixing.strategy gradient shares a batch by the gradient "
                       "norms of the tasks, and no accounting of gradients is switched on; set "
                       "gradients.account to full or last_block");
    }
    return RT_OK;
}

static int resolve_task(rt_config *config, int number, rt_error *err)
{
    rt_task_config *task = &config->tasks[number];
    if (!*task->name && !task->data) {
        return rt_fail(err, RT_ERR_USAGE, "tasks.%d has neither name nor data; give one", number);
    }
    if (!*task->name) {
        rt_free(task->name);
        task->name = stem(task->data);
    }
    for (int other = 0; other < number; other++) {
        if (strcmp(config->tasks[other].name, task->name) == 0) {
            return rt_fail(err, RT_ERR_USAGE, "tasks.%d and tasks.%d are both named %s; give one "
                           "of them another name", other, number, task->name);
        }
    }
    if (task->thoughts_min > task->thoughts_max) {
        return rt_fail(err, RT_ERR_USAGE, "tasks.%d: thoughts_min is %lld, more than thoughts_max "
                       "%lld", number, (long long)task->thoughts_min,
                       (long long)task->thoughts_max);
    }
    if (task->operations[strspn(task->operations, "+-*")] != '\0') {
        return rt_fail(err, RT_ERR_USAGE, "tasks.%d.operations is '%s', but may hold only + - *",
                       number, task->operations);
    }
    int code = check_window(config, number, err);
    return code ? code : check_share(config, number, err);
}

static int resolve_tasks(rt_config *config, rt_error *err)
{
    double weights = 0;
    for (int i = 0; i < config->tasks_count; i++) {
        int code = resolve_task(config, i, err);
        if (code != RT_OK) {
            return code;
        }
        weights += config->tasks[i].weight;
    }
    if (config->tasks_count > 0 && weights <= 0) {
        return rt_fail(err, RT_ERR_USAGE, "every task has weight 0; give one a larger weight");
    }
    return config->tasks_count > 0 ? check_mixing(config, err) : RT_OK;
}

/* What a plan with resets trains of a problem follows from its own settings. */
static int resolve_resets(rt_config *config, rt_error *err)
{
    const rt_reset_settings *resets = &config->algorithm.resets;
    bool caro = strcmp(config->algorithm.plan, "caro") == 0;
    int64_t trained = resets->base + resets->continuations * (caro ? 1 : resets->seeds);
    if (caro && resets->base < 2) {
        return rt_fail(err, RT_ERR_USAGE, "algorithm.resets.base is %lld, but plan caro judges "
                       "states by the fresh rollouts: at least 2", (long long)resets->base);
    }
    if (!caro && (resets->seeds < 1 || resets->chosen_by == RT_CHOSEN_STATISTICS)) {
        return rt_fail(err, RT_ERR_USAGE, "algorithm %s resets failed rollouts: "
                       "algorithm.resets.seeds must be 1 or 2 and chosen_by random, self or oracle",
                       config->algorithm.name);
    }
    if (resets->fresh_max < resets->base + resets->seeds || resets->fresh_max + trained > 32) {
        return rt_fail(err, RT_ERR_USAGE, "algorithm.resets.fresh_max is %lld; it must be at least "
                       "base + seeds = %lld and, with the %lld trajectories trained of a problem, "
                       "at most 32", (long long)resets->fresh_max,
                       (long long)(resets->base + resets->seeds), (long long)trained);
    }
    if (config->algorithm.samples != trained && config->algorithm.samples != 8) {
        return rt_fail(err, RT_ERR_USAGE, "algorithm.samples is %lld, but algorithm %s trains %lld "
                       "trajectories of a problem; change algorithm.resets.base or continuations",
                       (long long)config->algorithm.samples, config->algorithm.name,
                       (long long)trained);
    }
    config->algorithm.samples = trained;
    return RT_OK;
}

/* A trajectory's id has 8 bits for its place within the problem. */
#define RT_SAMPLES_MAX 256

static int resolve_debate(const rt_config *config, rt_error *err)
{
    const rt_debate_settings *debate = &config->algorithm.debate;
    const rt_objective *objective = &config->algorithm.objective;
    bool online = debate->record == RT_RECORD_GRPO && debate->online;
    int64_t turns = debate->agents * debate->rounds * (debate->summaries ? 2 : 1);
    int64_t samples = online ? debate->agents * config->algorithm.samples : 0;
    int wanted = debate->record == RT_RECORD_DPO   ? RT_LOSS_DPO
                 : debate->record == RT_RECORD_KTO ? RT_LOSS_KTO
                                                   : RT_LOSS_POLICY;
    if (turns + samples > RT_SAMPLES_MAX) {
        return rt_fail(err, RT_ERR_USAGE, "algorithm.debate makes %lld texts of a question, more "
                       "than %d; lower debate.agents, debate.rounds or algorithm.samples",
                       (long long)(turns + samples), RT_SAMPLES_MAX);
    }
    if (objective->loss != wanted) {
        return rt_fail(err, RT_ERR_USAGE, "algorithm.debate.record and algorithm.loss do not go "
                       "together: dpo needs dpo, kto needs kto, sft and grpo need policy");
    }
    if (debate->rounds < 2 && debate->context == RT_CONTEXT_PREVIOUS) {
        return rt_fail(err, RT_ERR_USAGE, "algorithm.debate.context previous needs 2 rounds");
    }
    if (debate->agents < 2 && !online) {
        return rt_fail(err, RT_ERR_USAGE, "algorithm.debate.agents is 1: nobody to agree with");
    }
    return RT_OK;
}

static int resolve_plan(rt_config *config, rt_error *err)
{
    const char *plan = config->algorithm.plan;
    const rt_objective *objective = &config->algorithm.objective;
    if (objective->loss != RT_LOSS_POLICY && objective->beta <= 0) {
        return rt_fail(err, RT_ERR_USAGE, "algorithm.beta is 0; dpo and kto need a positive one");
    }
    if (strcmp(plan, "debate") == 0) {
        return resolve_debate(config, err);
    }
    if (objective->loss != RT_LOSS_POLICY) {
        return rt_fail(err, RT_ERR_USAGE, "algorithm.loss dpo and kto learn from debates; choose "
                       "algorithm maca_dpo or maca_kto");
    }
    return strcmp(plan, "group") == 0 ? RT_OK : resolve_resets(config, err);
}

int rt_config_adapters(const rt_config *config)
{
    if (config->learner.lora.rank == 0) {
        return 0;
    }
    bool own = strcmp(config->algorithm.plan, "debate") == 0 &&
               config->algorithm.debate.adapters == RT_OWN;
    return own ? (int)config->algorithm.debate.agents : 1;
}

static int resolve_algorithm(rt_config *config, rt_error *err)
{
    int code = resolve_plan(config, err);
    if (code != RT_OK) {
        return code;
    }
    rt_objective *objective = &config->algorithm.objective;
    const rt_advantage_settings *advantage = &config->algorithm.advantage;
    int64_t problems = config->algorithm.problems, samples = config->algorithm.samples;
    if (objective->aggregation == RT_AGG_CONSTANT && objective->constant == 0) {
        objective->constant = (double)config->sampling.max_tokens;
    }
    if (objective->clip_dual > 0 && objective->clip_dual <= 1) {
        return rt_fail(err, RT_ERR_USAGE, "algorithm.clip_dual is %g, but must be 0 or more than 1",
                       objective->clip_dual);
    }
    if (objective->kl == RT_KL_OFF && objective->kl_coef > 0) {
        return rt_fail(err, RT_ERR_USAGE, "algorithm.kl_coef is %g, but algorithm.kl is off; choose "
                       "k1, k2 or k3", objective->kl_coef);
    }
    bool batch = advantage->baseline == RT_BASELINE_BATCH_MEAN;
    bool two = advantage->baseline == RT_BASELINE_LEAVE_ONE_OUT || advantage->std_ddof == 1;
    if (two && (batch ? problems * samples : samples) < 2) {
        return rt_fail(err, RT_ERR_USAGE, "algorithm %s compares samples of a group, so "
                       "algorithm.samples must be at least 2", config->algorithm.name);
    }
    if (advantage->std_ddof >= 0 && advantage->std_eps == 0 && advantage->zero_below == 0) {
        return rt_fail(err, RT_ERR_USAGE, "algorithm.std_eps and algorithm.zero_below are both 0: "
                       "a group of equal rewards would divide by 0; set one of them");
    }
    if (config->algorithm.updates > problems * samples) {
        return rt_fail(err, RT_ERR_USAGE, "algorithm.updates is %lld, more than the %lld "
                       "trajectories of a step", (long long)config->algorithm.updates,
                       (long long)(problems * samples));
    }
    return RT_OK;
}

static int resolve_lora(const rt_config *config, rt_error *err)
{
    if (config->learner.lora.rank > 0 && strcmp(config->model.init, "random") == 0) {
        return rt_fail(err, RT_ERR_USAGE, "learner.lora.rank is %lld, but model.init is random: adapters "
                       "need a trained base; set model.init: file or learner.lora.rank: 0",
                       (long long)config->learner.lora.rank);
    }
    return RT_OK;
}

rt_limits rt_config_limits(const rt_config *config, int task)
{
    RT_ASSERT(task >= 0 && task < RT_TASKS_MAX);
    const rt_task_config *own = &config->tasks[task];
    return (rt_limits){
        .temperature = own->sampling.temperature > 0 ? own->sampling.temperature
                                                     : config->sampling.temperature,
        .top_p = own->sampling.top_p > 0 ? own->sampling.top_p : config->sampling.top_p,
        .max_tokens =
            own->sampling.max_tokens > 0 ? own->sampling.max_tokens : config->sampling.max_tokens,
        .thoughts_max = own->thoughts.max > 0 ? own->thoughts.max : config->thoughts.max,
        .thought_tokens_max = own->thoughts.tokens_max > 0 ? own->thoughts.tokens_max
                                                           : config->thoughts.tokens_max,
    };
}

int64_t rt_config_max_tokens(const rt_config *config)
{
    int64_t most = config->tasks_count > 0 ? 0 : config->sampling.max_tokens;
    for (int i = 0; i < config->tasks_count; i++) {
        most = RT_MAX(most, rt_config_limits(config, i).max_tokens);
    }
    return most;
}

int rt_config_resolve(rt_config *config, rt_error *err)
{
    int code = resolve_tasks(config, err);
    code = code != RT_OK ? code : resolve_algorithm(config, err);
    return code != RT_OK ? code : resolve_lora(config, err);
}
