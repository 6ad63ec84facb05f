/* config_write: the resolved config as YAML, its fingerprint, and the reference page. */
#include "base/config_internal.h"

#include <string.h>

static void write_tasks(const rt_config *config, rt_buf *out)
{
    if (config->tasks_count > 0) {
        rt_buf_addf(out, "tasks:\n");
    }
    for (int t = 0; t < config->tasks_count; t++) {
        const char *group = "";
        for (int i = 0; i < rt_task_keys_count; i++) {
            const rt_config_key *key = &rt_task_keys[i];
            const char *dot = strchr(key->key, '.');
            size_t bytes = dot ? (size_t)(dot - key->key) : 0;
            if (dot && strncmp(group, key->key, bytes + 1) != 0) {
                rt_buf_addf(out, "    %.*s:\n", (int)bytes, key->key);
            }
            group = dot ? key->key : "";
            rt_buf_addf(out, "%s%s: ", dot ? "      " : i == 0 ? "  - " : "    ",
                        dot ? dot + 1 : key->key);
            rt_config_value_write(key, &config->tasks[t], out);
            rt_buf_addf(out, "\n");
        }
    }
}

void rt_config_write(const rt_config *config, rt_buf *out)
{
    const char *group = "";
    size_t group_bytes = 0;
    for (int i = 0; i < rt_config_keys_count; i++) {
        const rt_config_key *key = &rt_config_keys[i];
        size_t bytes = strcspn(key->key, ".");
        if (bytes != group_bytes || memcmp(group, key->key, bytes) != 0) {
            group = key->key;
            group_bytes = bytes;
            rt_buf_addf(out, "%.*s:\n", (int)bytes, group);
        }
        rt_buf_addf(out, "  %s: ", key->key + bytes + 1);
        rt_config_value_write(key, config, out);
        rt_buf_addf(out, "\n");
    }
    write_tasks(config, out);
}

void rt_config_write_json(const rt_config *config, const char *group, rt_buf *out)
{
    size_t bytes = strlen(group);
    const char *before = "{";
    for (int i = 0; i < rt_config_keys_count; i++) {
        const rt_config_key *key = &rt_config_keys[i];
        if (strncmp(key->key, group, bytes) != 0 || key->key[bytes] != '.') {
            continue;
        }
        rt_buf value = {0};
        rt_config_value_write(key, config, &value);
        bool quotes = (key->type == RT_KEY_TEXT || key->type == RT_KEY_CHOICE) &&
                      value.data[0] != '"'; /* a quoted scalar of ours is JSON's, too */
        rt_buf_addf(out, "%s\"%s\": %s%s%s", before, key->key + bytes + 1, quotes ? "\"" : "",
                    value.data, quotes ? "\"" : "");
        rt_buf_free(&value);
        before = ", ";
    }
    rt_buf_addf(out, "}");
}

static void add_value(const rt_config_key *key, const void *base, rt_buf *out)
{
    rt_buf_addf(out, "%s=", key->key);
    rt_config_value_write(key, base, out);
    rt_buf_addf(out, "\n");
}

/* Devices agree in every bit, but for the one that is the specification. */
static const char *bits_of(const char *device)
{
    return strcmp(device, "ref") == 0 ? "ref" : "same";
}

uint64_t rt_config_fingerprint(const rt_config *config)
{
    rt_buf text = {0};
    for (int i = 0; i < rt_config_keys_count; i++) {
        if (rt_config_keys[i].weights) {
            add_value(&rt_config_keys[i], config, &text);
        }
    }
    for (int t = 0; t < config->tasks_count; t++) {
        rt_buf_addf(&text, "task %d\n", t);
        for (int i = 0; i < rt_task_keys_count; i++) {
            add_value(&rt_task_keys[i], &config->tasks[t], &text);
        }
    }
    /* More steps only go on, except where the learning rate is aimed at the last one. */
    if (strcmp(config->learner.schedule, "constant") != 0 && config->learner.schedule_steps == 0) {
        rt_buf_addf(&text, "steps=%lld\n", (long long)config->run.steps);
    }
    rt_buf_addf(&text, "bits=%s %s\n", bits_of(config->learner.device), bits_of(config->actors.device));
    /* What is measured changes no weights, unless the mixture follows it. */
    if (config->mixing.strategy == RT_MIX_GRADIENT) {
        rt_buf_addf(&text, "account=%s every %lld\n", config->gradients.account,
                    (long long)config->gradients.every);
    }
    uint64_t hash = rt_hash64(text.data, text.bytes, 0);
    rt_buf_free(&text);
    return hash;
}

/* A cell of a table: a bar would end it. */
static void add_cell(const char *text, rt_buf *out)
{
    for (; *text; text++) {
        if (*text == '|') {
            rt_buf_add(out, "\\", 1);
        }
        rt_buf_add(out, text, 1);
    }
}

static const char *type_text(const rt_config_key *key)
{
    switch (key->type) {
    case RT_KEY_INTEGER:
    case RT_KEY_SMALL:
        return "whole number";
    case RT_KEY_REAL:
        return "number";
    case RT_KEY_BOOL:
        return "true or false";
    case RT_KEY_CHOICE:
        return "choice";
    default:
        return key->choices ? "choice" : "text";
    }
}

static void add_row(const rt_config_key *key, const char *prefix, rt_buf *out)
{
    rt_buf range = {0};
    rt_config_value_describe(key, &range);
    rt_buf_addf(out, "| `%s%s` | %s | ", prefix, key->key, type_text(key));
    if (*key->standard) {
        rt_buf_addf(out, "`");
        add_cell(key->standard, out);
        rt_buf_addf(out, "`");
    } else {
        rt_buf_addf(out, "empty");
    }
    rt_buf_addf(out, " | ");
    add_cell(range.data, out);
    rt_buf_addf(out, " | ");
    add_cell(key->help, out);
    rt_buf_addf(out, " |\n");
    rt_buf_free(&range);
}

static const char header[] =
    "\n| key | type | default | allowed | meaning |\n|---|---|---|---|---|\n";

static void add_head(rt_buf *out)
{
    rt_buf_addf(out,
                "# Configuration\n\n"
                "A YAML file of nested keys (`learner:` and below it `lr: 1e-4`) or dotted ones "
                "(`learner.lr: 1e-4`). `--set key=value` overrides any key. "
                "The preset of `algorithm.name` is applied first, then the file, then `--set`.\n"
                "\n## Short forms\n\n| written | means |\n|---|---|\n");
    for (int i = 0; i < rt_config_aliases_count; i++) {
        const rt_config_alias *alias = &rt_config_aliases[i];
        rt_buf_addf(out, "| `%s: VALUE` | `%s`: %s |\n", alias->word, alias->key, alias->help);
    }
    rt_buf_addf(out, "\n## Algorithms\n\n| name | plan | about |\n|---|---|---|\n");
    const rt_preset *preset;
    for (int i = 0; (preset = rt_preset_at(i)) != NULL; i++) {
        rt_buf_addf(out, "| `%s` | %s | %s |\n", preset->name, preset->plan, preset->about);
    }
}

void rt_config_docs(rt_buf *out)
{
    add_head(out);
    const char *group = "";
    size_t group_bytes = 0;
    for (int i = 0; i < rt_config_keys_count; i++) {
        const rt_config_key *key = &rt_config_keys[i];
        size_t bytes = strcspn(key->key, ".");
        if (bytes != group_bytes || memcmp(group, key->key, bytes) != 0) {
            group = key->key;
            group_bytes = bytes;
            rt_buf_addf(out, "\n## %.*s\n%s%s", (int)bytes, group,
                        strncmp(group, "algorithm", bytes) == 0
                            ? "\nDefaults of the settings from `ratio` on are those of `grpo`; "
                              "another preset brings its own.\n"
                            : "",
                        header);
        }
        add_row(key, "", out);
    }
    rt_buf_addf(out, "\n## tasks\n\nA list of at most %d; N counts from 0 in `--set`.\n%s",
                RT_TASKS_MAX, header);
    for (int i = 0; i < rt_task_keys_count; i++) {
        add_row(&rt_task_keys[i], "tasks.N.", out);
    }
}
