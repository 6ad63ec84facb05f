/* Tests of config: defaults, forms, presets, every kind of error, the round trip. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"

static int parse(rt_config *config, const char *text, const char *const *sets, int count,
                 rt_error *err)
{
    return rt_config_parse(config, text, strlen(text), "a.yaml", sets, count, err);
}

static void good(rt_config *config, const char *text)
{
    rt_error err = {0};
    if (parse(config, text, NULL, 0, &err) != RT_OK) {
        fail_msg("refused: %s", err.message);
    }
}

/* The text must be refused, and the sentence must hold every one of the parts. */
static void bad(const char *text, const char *set, const char *const *parts)
{
    rt_config config;
    rt_error err = {0};
    if (parse(&config, text, &set, set ? 1 : 0, &err) == RT_OK) {
        fail_msg("not refused: %s %s", text, set ? set : "");
    }
    assert_int_equal(err.code, RT_ERR_USAGE);
    for (; *parts; parts++) {
        if (!strstr(err.message, *parts)) {
            fail_msg("'%s' is not in: %s", *parts, err.message);
        }
    }
}
#define BAD(text, ...) bad(text, NULL, (const char *const[]){__VA_ARGS__, NULL})
#define BAD_SET(text, set, ...) bad(text, set, (const char *const[]){__VA_ARGS__, NULL})

static void defaults_are_complete(void **state)
{
    (void)state;
    rt_config config;
    rt_error err;
    assert_int_equal(rt_config_default(&config, &err), RT_OK);
    assert_int_equal(config.run.seed, 1);
    assert_string_equal(config.thoughts.terminal, "\\boxed{");
    assert_string_equal(config.algorithm.plan, "group");
    assert_true(config.learner.lr == 2e-4);
    assert_true(config.eval.greedy);
    assert_int_equal(config.tasks_count, 0);
    assert_int_equal(config.algorithm.objective.ratio, RT_RATIO_TOKEN);
    rt_config_free(&config);
    good(&config, "");
    rt_config_free(&config);
    good(&config, "# nothing but a comment\n");
    rt_config_free(&config);
    rt_config_free(&config); /* twice is fine */
}

static void short_and_long_forms_mean_the_same(void **state)
{
    (void)state;
    static const char *const same[] = {
        "model: m\ntask: chain\nalgorithm: dapo\nsteps: 60\nseed: 7\nlearner.lr: 1e-3\n",
        "model:\n  path: m\ntasks:\n  - name: chain\nalgorithm:\n  name: dapo\n"
        "run:\n  steps: 60\n  seed: 7\nlearner:\n  lr: 0.001\neval:\n  # nothing\n",
        "{model: 'm', tasks: [chain], algorithm: {name: \"dapo\"}, run: {steps: 6e1, seed: +7},"
        " learner: {lr: .001}}",
    };
    rt_buf first = {0}, other = {0};
    for (size_t i = 0; i < RT_COUNT(same); i++) {
        rt_config config;
        good(&config, same[i]);
        assert_string_equal(config.model.path, "m");
        assert_int_equal(config.run.steps, 60);
        assert_int_equal(config.tasks_count, 1);
        assert_string_equal(config.tasks[0].name, "chain");
        assert_null(config.tasks[0].data);
        rt_buf_clear(&other);
        rt_config_write(&config, i ? &other : &first);
        if (i) {
            assert_string_equal(first.data, other.data);
        }
        rt_config_free(&config);
    }
    rt_buf_free(&first);
    rt_buf_free(&other);
}

static void tasks_are_lists(void **state)
{
    (void)state;
    rt_config config;
    good(&config, "tasks:\n"
                  "  - data: dir/gsm8k_train.jsonl\n    weight: 3\n    form: gsm8k\n"
                  "  - name: mine\n    data: d.json\n    grader: math\n"
                  "    fields: {problem: question, answer: gold}\n"
                  "  - {name: chain, thoughts_min: 2, thoughts_max: 3, modulus: 7, "
                  "operations: '+-'}\n");
    assert_int_equal(config.tasks_count, 3);
    assert_string_equal(config.tasks[0].name, "gsm8k_train");
    assert_string_equal(config.tasks[0].data, "dir/gsm8k_train.jsonl");
    assert_true(config.tasks[0].weight == 3 && config.tasks[1].weight == 1);
    assert_string_equal(config.tasks[1].field_problem, "question");
    assert_string_equal(config.tasks[1].field_answer, "gold");
    assert_string_equal(config.tasks[1].field_solution, "");
    assert_string_equal(config.tasks[2].operations, "+-");
    assert_int_equal(config.tasks[2].modulus, 7);
    rt_config_free(&config);
}

static void sets_override(void **state)
{
    (void)state;
    rt_config config;
    rt_error err = {0};
    static const char *const sets[] = {"steps=10",          "tasks.1.weight=2", "algorithm=rloo",
                                       "run.dir=a=b",       "steps=11",         "tasks.2=chain",
                                       "thoughts.terminal="};
    const char *text = "steps: 5\nalgorithm: grpo\nalgorithm.clip_low: 0.1\n"
                       "tasks: [{name: a, data: a}, {name: b, data: b}]\n";
    assert_int_equal(parse(&config, text, sets, (int)RT_COUNT(sets), &err), RT_OK);
    assert_int_equal(config.run.steps, 11);
    assert_string_equal(config.run.dir, "a=b");
    assert_string_equal(config.thoughts.terminal, "");
    assert_string_equal(config.algorithm.name, "rloo");
    assert_int_equal(config.algorithm.objective.ratio, RT_RATIO_NONE);
    assert_true(config.algorithm.objective.clip_low == 0.1); /* the file's own key stays */
    assert_true(config.tasks[0].weight == 1 && config.tasks[1].weight == 2);
    assert_int_equal(config.tasks_count, 3);
    rt_config_free(&config);
    static const char *const task[] = {"task=chain", "tasks.0.modulus=5"};
    assert_int_equal(parse(&config, text, task, 2, &err), RT_OK);
    assert_int_equal(config.tasks_count, 1);
    assert_string_equal(config.tasks[0].name, "chain");
    assert_null(config.tasks[0].data);
    assert_int_equal(config.tasks[0].modulus, 5);
    rt_config_free(&config);
}

static void presets_fill_then_keys_override(void **state)
{
    (void)state;
    rt_config config;
    for (int i = 0; rt_preset_at(i); i++) {
        const rt_preset *preset = rt_preset_at(i);
        assert_ptr_equal(rt_preset_find(preset->name), preset);
        char *text = rt_format("algorithm.baseline: batch_mean\nalgorithm: %s\n", preset->name);
        good(&config, text);
        assert_string_equal(config.algorithm.name, preset->name);
        assert_string_equal(config.algorithm.plan, preset->plan);
        assert_int_equal(config.algorithm.advantage.baseline, RT_BASELINE_BATCH_MEAN);
        assert_int_equal(config.algorithm.advantage.std_ddof, preset->advantage.std_ddof);
        assert_int_equal(config.algorithm.skip_degenerate, preset->skip_degenerate);
        assert_true(config.algorithm.objective.clip_high == preset->objective.clip_high);
        rt_config_free(&config);
        rt_free(text);
    }
    assert_null(rt_preset_find("no"));
    assert_null(rt_preset_at(-1));
    good(&config, "algorithm: dr_grpo\nsampling.max_tokens: 77\n");
    assert_true(config.algorithm.objective.constant == 77);
    rt_config_free(&config);
    good(&config, "algorithm: {name: dapo, skip_degenerate: no, std_ddof: -1, kl: k3, "
                  "kl_coef: 0.01}\n");
    assert_false(config.algorithm.skip_degenerate);
    assert_int_equal(config.algorithm.advantage.std_ddof, -1);
    assert_int_equal(config.algorithm.objective.kl, RT_KL_K3);
    rt_config_free(&config);
}

static void unknown_keys_name_line_and_neighbour(void **state)
{
    (void)state;
    BAD("steps: 1\nlerner:\n  lr: 1\n", "a.yaml:2: ", "'lerner'", "is learner");
    BAD("steps: 1\nlearner:\n  lrr: 1\n", "a.yaml:3", "'learner.lrr'", "is learner.lr ");
    BAD("step: 1\n", "a.yaml:1", "'step'", "is steps ");
    BAD("warmup_step: 1\n", "is learner.warmup_steps ");
    BAD("tasks:\n- name: chain\n  wieght: 2\n", "a.yaml:3", "tasks.0.wieght", "tasks.0.weight");
    BAD("tasks:\n- name: chain\n  fields: {anwser: x}\n", "tasks.0.fields.answer");
    BAD("foo: {}\n", "a.yaml:1", "'foo'");
    BAD("<<: 1\n", "'<<'");
    BAD_SET("", "learner.lrate=1", "--set", "learner.lrate", "nearest known key is learner.lr");
    BAD("tasks.0.0: chain\n", "unknown key");
    BAD("tasks.99999: chain\n", "tasks is a list");
}

static void bad_values_name_the_range(void **state)
{
    (void)state;
    BAD("\n\nlearner.lr: fast\n", "a.yaml:3", "learner.lr", "'fast'", "a number from 0 to 10");
    BAD("learner.lr: 11\n", "'11'", "from 0 to 10");
    BAD("learner.lr: nan\n", "'nan'");
    BAD("learner.lr: .inf\n", "'.inf'");
    BAD("learner.lr: 0x1\n", "'0x1'");
    BAD("learner.lr: 1e-3x\n", "'1e-3x'");
    BAD("steps: 1.5\n", "run.steps", "'1.5'", "a whole number");
    BAD("steps: -1\n", "'-1'");
    BAD("seed: 99999999999999999999\n", "at least 0");
    BAD("algorithm.std_ddof: 2\n", "from -1 to 1");
    BAD("eval.greedy: 1\n", "true or false");
    BAD("model.dtype: f64\n", "one of f32, bf16");
    BAD("algorithm.kl: k9\n", "off, k1, k2, k3");
    BAD("algorithm: ppo\n", "a.yaml:1", "'ppo'", "grpo, dr_grpo, dapo");
    BAD("algorithm: ''\n", "unknown");
    BAD("thoughts.delimiter: ''\n", "1 to");
    BAD("coordinator.port: 65533\n", "65531");
    BAD_SET("", "steps=many", "--set", "'many'");
    BAD_SET("", "steps", "key=value");
    BAD_SET("", "=5", "key=value");
    BAD_SET("", "run.dir=\xff", "--set", "text");
    BAD_SET("", "algorithm=ppo", "--set", "ppo");
    BAD("tasks: [{name: a, grader: vibes}]\n", "tasks.0.grader", "math");
}

static void shapes_are_checked(void **state)
{
    (void)state;
    BAD("learner.lr: [1, 2]\n", "learner.lr takes one value, not a list");
    BAD("learner.lr: {a: 1}\n", "learner.lr takes one value, not a mapping");
    BAD("learner: [1]\n", "learner is a mapping of keys, not a list");
    BAD("learner: 3\n", "learner is a group");
    BAD("task: {name: chain}\n", "task takes one value");
    BAD("tasks: chain\n", "tasks is a list");
    BAD("tasks: {name: chain}\n", "tasks is a list");
    BAD("steps:\n", "run.steps has no value");
    BAD("model:\n", "model.path has no value");
    BAD("model: ~\n", "no value");
    BAD("steps: 1\nseed: 2\nsteps: 3\n", "a.yaml:3", "steps is given twice", "line 1");
    BAD("steps: 1\nrun:\n  steps: 3\n", "a.yaml:3", "given twice");
    BAD("run: {steps: 3}\nrun: {seed: 3}\n", "run is given twice");
    BAD("learner:\nlearner: {lr: 1}\n", "given twice");
    BAD("task: chain\ntasks:\n- name: x\n", "task (line 1)");
    BAD("tasks: []\ntasks:\n", "given twice");
    BAD("tasks: [{weight: 1}]\n", "tasks.0 has neither name nor data");
    BAD("tasks: [chain, chain]\n", "both named chain");
    BAD("tasks.1.name: chain\n", "the next task is tasks.0");
    BAD("tasks: [a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q]\n", "tasks.16", "16 tasks");
}

static void yaml_beyond_a_config_is_refused(void **state)
{
    (void)state;
    BAD("a: &x 1\n", "a.yaml:1", "anchors");
    BAD("run: &x {}\n", "anchors");
    BAD("steps: *x\n", "aliases");
    BAD("steps: !!int 3\n", "tags");
    BAD("steps: 1\n---\nsteps: 2\n", "a.yaml:2", "second document");
    BAD("- 1\n", "mapping of keys");
    BAD("just words\n", "mapping of keys");
    BAD("steps: 1\n  bad: [\n", "a.yaml:", "not valid YAML");
    BAD("steps: \"\\0\"\n", "NUL");
    BAD("? [a]\n: b\n", "a key must be a word");
    BAD("'': 3\n", "a key is empty");
    BAD("tasks: [[[[[[[[[[[[1]]]]]]]]]]]]\n", "nested deeper");
    BAD("a: \xff\n", "not valid YAML");
    rt_buf text = {0};
    rt_buf_addf(&text, "tasks: [");
    for (int i = 0; i < 100000; i++) {
        rt_buf_addf(&text, "[");
    }
    BAD(text.data, "nested deeper");
    rt_buf_clear(&text);
    for (int i = 0; i < 2000; i++) {
        rt_buf_addf(&text, "k%d: 1\n", i);
    }
    BAD(text.data, "a.yaml:1025", "more than 1024 keys");
    rt_buf_clear(&text);
    for (int i = 0; i < 200; i++) {
        rt_buf_addf(&text, "k");
    }
    rt_buf_addf(&text, ": 1\n");
    BAD(text.data, "no key is longer");
    rt_buf_clear(&text);
    while (text.bytes <= 1 << 20) {
        rt_buf_addf(&text, "# much\n");
    }
    BAD(text.data, "larger than");
    rt_buf_free(&text);
}

static void keys_must_fit_together(void **state)
{
    (void)state;
    BAD("tasks: [{name: chain, thoughts_min: 9}]\n", "thoughts_min is 9");
    BAD("tasks: [{name: chain, operations: '+/'}]\n", "'+/'");
    BAD("tasks: [{name: chain, weight: 0}]\n", "weight 0");
    BAD("algorithm.clip_dual: 0.5\n", "clip_dual");
    BAD("algorithm.samples: 1\n", "at least 2");
    BAD("algorithm: rloo\nalgorithm.samples: 1\n", "at least 2");
    BAD("algorithm.std_eps: 0\n", "divide by 0");
    BAD("algorithm.updates: 129\n", "updates is 129");
    BAD("algorithm.kl_coef: 0.1\n", "algorithm.kl is off");
    BAD("learner.lora.rank: 4\nmodel.init: random\n", "trained base");
}

static void writing_and_reading_gives_the_same(void **state)
{
    (void)state;
    rt_config config, again;
    rt_error err = {0};
    rt_buf first = {0}, second = {0};
    static const char *const sets[] = {
        "run.dir=a: #\"\\\t\n b\xc2\x85\xc2\xa0\xe2\x80\xa8\xef\xbb\xbf\xf0\x9f\x98\x80\x7f\x01",
        "model.path=null", "learner.lr=0.1", "learner.beta1=0.30000000000000004",
        "learner.eps=1e-17", "log.level=warn", "algorithm=gspo", "tasks.0.name=- x",
        "tasks.1.data=true", "tasks.1.fields.answer=~", "tasks.1.prompt= a "};
    assert_int_equal(parse(&config, "", sets, (int)RT_COUNT(sets), &err), RT_OK);
    rt_config_write(&config, &first);
    good(&again, first.data);
    rt_config_write(&again, &second);
    assert_string_equal(first.data, second.data);
    assert_string_equal(again.run.dir, config.run.dir);
    assert_string_equal(again.run.dir, strchr(sets[0], '=') + 1);
    assert_string_equal(again.model.path, "null");
    assert_string_equal(again.tasks[0].name, "- x");
    assert_string_equal(again.tasks[1].field_answer, "~");
    assert_string_equal(again.tasks[1].prompt, " a ");
    assert_true(again.learner.beta1 == 0.30000000000000004);
    assert_true(again.learner.eps == 1e-17);
    assert_non_null(strstr(first.data, "  lr: 0.1\n"));
    assert_non_null(strstr(first.data, "  clip_low: 0.0003\n"));
    assert_true(rt_config_fingerprint(&config) == rt_config_fingerprint(&again));
    rt_config_free(&config);
    rt_config_free(&again);
    rt_buf_free(&first);
    rt_buf_free(&second);
}

static void tasks_share_a_batch(void **state)
{
    (void)state;
    rt_config config;
    good(&config, "mixing: {strategy: quota, undecided_steps: 4}\n"
                  "algorithm: {name: grpo, problems: 8}\n"
                  "sampling: {temperature: 0.9, max_tokens: 50}\n"
                  "tasks:\n"
                  "  - {name: chain, quota: 5, sampling: {temperature: 0.5}, thoughts: {max: 3}}\n"
                  "  - name: sort\n    window: {from: 3, to: 9, ramp: 2, fade: 1}\n    sampling:\n"
                  "      max_tokens: 70\n    once: true\n    limit: 40\n");
    assert_int_equal(config.mixing.strategy, RT_MIX_QUOTA);
    assert_int_equal(config.tasks[1].window.to, 9);
    assert_true(config.tasks[1].once && !config.tasks[0].once);
    rt_limits chain = rt_config_limits(&config, 0), sort = rt_config_limits(&config, 1);
    assert_true(chain.temperature == 0.5 && sort.temperature == 0.9);
    assert_int_equal(chain.max_tokens, 50);
    assert_int_equal(sort.max_tokens, 70);
    assert_int_equal(chain.thoughts_max, 3);
    assert_int_equal(sort.thoughts_max, config.thoughts.max);
    assert_int_equal(rt_config_max_tokens(&config), 70);
    rt_config_free(&config);
#define TASK(more) "tasks:\n  - {name: a, data: a.jsonl, " more "}\n"
    BAD(TASK("window: {from: 5, to: 5}"), "tasks.0", "window.to");
    BAD(TASK("window: {fade: 5}"), "window.to");
    BAD(TASK("window: {share: 0.5}"), "window.steps");
    BAD(TASK("window: {steps: 5}"), "window.share");
    BAD(TASK("window: {share: 0.5, steps: 5}, once: true"), "once");
    BAD(TASK("sampling: {temperature: 0.001}"), "tasks.0.sampling.temperature");
    BAD(TASK("sampling: {temperatur: 1}"), "tasks.0.sampling.temperature");
    BAD(TASK("quota: 3"), "mixing.strategy: quota");
    BAD("mixing.strategy: quota\n" TASK("quota: 3"), "3", "16");
    BAD(TASK("advantage_scale: 0"), "advantage_scale", "1e-06");
    BAD("algorithm: maca_dpo\n" TASK("advantage_scale: 2"), "tasks.0.advantage_scale is 2", "dpo");
    BAD("algorithm: maca_kto\n" TASK("advantage_scale: 2"), "tasks.0.advantage_scale is 2", "policy");
    BAD("mixing.strategy: quota\n" TASK("quota: 17"), "17", "16");
    BAD("mixing.strategy: round_robin\n" TASK("window: {ramp: 3}"), "round_robin");
    BAD("mixing.strategy: gradient\n" TASK("weight: 1"), "accounting");
    BAD("mixing.strategy: temperature\ntask: chain\n", "limit");
    BAD("tasks:\n  - {name: chain, window: {share: 0.5, steps: 3}}\n", "data file");
#undef TASK
}

static uint64_t print_of(const char *set)
{
    rt_config config;
    rt_error err = {0};
    assert_int_equal(parse(&config, "task: chain\n", &set, 1, &err), RT_OK);
    uint64_t hash = rt_config_fingerprint(&config);
    rt_config_free(&config);
    return hash;
}

static void fingerprint_follows_the_weights(void **state)
{
    (void)state;
    uint64_t plain = print_of("log.level=info");
    static const char *const without[] = {
        "run.dir=x",          "steps=9",      "log.level=debug",   "actors.count=7",
        "actors.slots=3",     "eval.every=2", "learner.threads=3", "learner.checkpoint_every=5",
        "coordinator.port=9", "learner.recompute=true", "learner.device=cuda", "actors.device=cuda"};
    static const char *const with[] = {
        "seed=2",          "model=m",          "learner.lr=0.1", "algorithm.samples=4",
        "task=other",      "tasks.0.weight=2", "algorithm=rloo", "sampling.temperature=0.5",
        "tasks.0.advantage_scale=2",
        "algorithm.kl=k3", "learner.schedule=linear", "actors.device=ref"};
    for (size_t i = 0; i < RT_COUNT(without); i++) {
        assert_true(print_of(without[i]) == plain);
    }
    for (size_t i = 0; i < RT_COUNT(with); i++) {
        assert_true(print_of(with[i]) != plain);
    }
}

static void docs_have_every_key(void **state)
{
    (void)state;
    rt_config config;
    rt_error err;
    rt_buf docs = {0}, yaml = {0};
    rt_config_docs(&docs);
    assert_int_equal(rt_config_default(&config, &err), RT_OK);
    rt_config_write(&config, &yaml);
    char group[64] = "";
    int keys = 0;
    for (char *line = strtok(yaml.data, "\n"); line; line = strtok(NULL, "\n")) {
        char name[64];
        sscanf(line, " %63[^:]", name);
        if (line[0] != ' ') {
            memcpy(group, name, sizeof group);
            continue;
        }
        char *row = rt_format("| `%s.%s` |", group, name);
        assert_non_null(strstr(docs.data, row));
        rt_free(row);
        keys++;
    }
    assert_true(keys > 70);
    assert_non_null(strstr(docs.data, "| `tasks.N.fields.answer` |"));
    assert_non_null(strstr(docs.data, "| `cispo` |"));
    rt_config_free(&config);
    rt_buf_free(&docs);
    rt_buf_free(&yaml);
}

static void files_are_loaded(void **state)
{
    (void)state;
    rt_config config;
    rt_error err = {0};
    const char *parent = getenv("TMPDIR");
    char *folder = rt_format("%s/rt_config_test_XXXXXX", parent ? parent : "/tmp");
    assert_non_null(mkdtemp(folder));
    char *path = rt_format("%s/c.yaml", folder);
    const char *set = "seed=3";
    assert_int_equal(rt_config_load(&config, path, NULL, 0, &err), RT_ERR_USAGE);
    assert_int_equal(err.code, RT_ERR_USAGE);
    assert_non_null(strstr(err.message, path));
    rt_config_free(&config);
    assert_int_equal(rt_file_write(path, "task: chain\nsteps: 4\n", 21, &err), RT_OK);
    assert_int_equal(rt_config_load(&config, path, &set, 1, &err), RT_OK);
    assert_int_equal(config.run.steps, 4);
    assert_int_equal(config.run.seed, 3);
    rt_config_free(&config);
    assert_int_equal(rt_remove_tree(folder, &err), RT_OK);
    rt_free(path);
    rt_free(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_complete),
        cmocka_unit_test(short_and_long_forms_mean_the_same),
        cmocka_unit_test(tasks_are_lists),
        cmocka_unit_test(sets_override),
        cmocka_unit_test(presets_fill_then_keys_override),
        cmocka_unit_test(unknown_keys_name_line_and_neighbour),
        cmocka_unit_test(bad_values_name_the_range),
        cmocka_unit_test(shapes_are_checked),
        cmocka_unit_test(yaml_beyond_a_config_is_refused),
        cmocka_unit_test(keys_must_fit_together),
        cmocka_unit_test(tasks_share_a_batch),
        cmocka_unit_test(writing_and_reading_gives_the_same),
        cmocka_unit_test(fingerprint_follows_the_weights),
        cmocka_unit_test(docs_have_every_key),
        cmocka_unit_test(files_are_loaded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
