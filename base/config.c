/*
 * config: defaults, then the preset, then the file's keys, then --set. Everything is first
 * flattened into entries, so that the preset's name is known before any key is applied.
 */
#include "base/config_internal.h"

#include <stdlib.h>
#include <string.h>

/* Puts "file:line" (or --set) before the message. */
static int place(rt_error *err, const char *from, const rt_config_entry *entry)
{
    if (entry->line > 0) {
        rt_error_prefix(err, "%s:%d", from, entry->line);
    } else {
        rt_error_prefix(err, "--set");
    }
    return RT_ERR_USAGE;
}

/* ---- keys ---- */

/* Number and rest of "tasks.N.rest" (rest "" for "tasks.N"); false: not of this form. */
static bool split_task(const char *key, int *number, const char **rest)
{
    static const char group[] = "tasks.";
    if (strncmp(key, group, sizeof group - 1) != 0) {
        return false;
    }
    const char *digits = key + sizeof group - 1;
    size_t count = strspn(digits, "0123456789");
    if (count == 0 || count > 4 || (digits[count] != '\0' && digits[count] != '.')) {
        return false;
    }
    *number = atoi(digits);
    *rest = digits[count] == '.' ? digits + count + 1 : "";
    return true;
}

/* The full key of a short form: model is model.path, tasks.2 is tasks.2.name. */
static char *full_key(const char *key)
{
    for (int i = 0; i < rt_config_aliases_count; i++) {
        if (strcmp(key, rt_config_aliases[i].word) == 0) {
            return rt_strdup(rt_config_aliases[i].key);
        }
    }
    int number;
    const char *rest;
    if (split_task(key, &number, &rest)) {
        return rt_format("tasks.%d.%s", number, *rest ? rest : "name");
    }
    return rt_strdup(key);
}

static const rt_config_key *find(const rt_config_key *keys, int count, const char *name)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(keys[i].key, name) == 0) {
            return &keys[i];
        }
    }
    return NULL;
}

static const rt_config_key *find_key(const char *key, int *task)
{
    const char *rest;
    *task = -1;
    if (split_task(key, task, &rest)) {
        return find(rt_task_keys, rt_task_keys_count, rest);
    }
    return find(rt_config_keys, rt_config_keys_count, key);
}

typedef struct nearest {
    const char *wrong;
    char best[2 * RT_CONFIG_KEY_BYTES_MAX];
    int distance;
} nearest;

static void consider(nearest *n, const char *compared, const char *shown)
{
    int distance = rt_edit_distance(n->wrong, compared);
    if (distance < n->distance) {
        n->distance = distance;
        snprintf(n->best, sizeof n->best, "%s", shown);
    }
}

static int fail_unknown(const char *key, rt_error *err)
{
    nearest n = {.wrong = key, .distance = 1000};
    int number;
    const char *rest;
    if (split_task(key, &number, &rest)) {
        n.wrong = rest;
        for (int i = 0; i < rt_task_keys_count; i++) {
            char shown[2 * RT_CONFIG_KEY_BYTES_MAX];
            snprintf(shown, sizeof shown, "tasks.%d.%s", number, rt_task_keys[i].key);
            consider(&n, rt_task_keys[i].key, shown);
        }
    } else {
        /* A key without its group is one distance further than a slip of the fingers. */
        bool short_form = !strchr(key, '.');
        for (int i = 0; i < rt_config_aliases_count; i++) {
            consider(&n, rt_config_aliases[i].word, rt_config_aliases[i].word);
        }
        consider(&n, "tasks", "tasks");
        for (int i = 0; i < rt_config_keys_count; i++) {
            const char *known = rt_config_keys[i].key, *dot = strchr(known, '.');
            consider(&n, known, known);
            if (short_form) {
                consider(&n, dot + 1, known);
                char group[RT_CONFIG_KEY_BYTES_MAX];
                snprintf(group, sizeof group, "%.*s", (int)(dot - known), known);
                consider(&n, group, group);
            }
        }
    }
    return rt_fail(err, RT_ERR_USAGE,
                   "unknown key '%.*s'; the nearest known key is %s (retake config --docs has all)",
                   RT_CONFIG_KEY_BYTES_MAX, key, n.best);
}

/* ---- applying ---- */

static void task_init(rt_task_config *task)
{
    for (int i = 0; i < rt_task_keys_count; i++) {
        rt_config_value_default(&rt_task_keys[i], task);
    }
}

static void tasks_clear(rt_config *config)
{
    for (int t = 0; t < config->tasks_count; t++) {
        for (int i = 0; i < rt_task_keys_count; i++) {
            rt_config_value_free(&rt_task_keys[i], &config->tasks[t]);
        }
    }
    config->tasks_count = 0;
}

/* Task number `number`, made if it is the next one. */
static int task_at(rt_config *config, int number, rt_task_config **task, rt_error *err)
{
    if (number >= RT_TASKS_MAX) {
        return rt_fail(err, RT_ERR_USAGE, "tasks.%d is too many: there may be %d tasks", number,
                       RT_TASKS_MAX);
    }
    if (number > config->tasks_count) {
        return rt_fail(err, RT_ERR_USAGE, "tasks.%d does not follow: the next task is tasks.%d",
                       number, config->tasks_count);
    }
    if (number == config->tasks_count) {
        task_init(&config->tasks[config->tasks_count++]);
    }
    *task = &config->tasks[number];
    return RT_OK;
}

/* `key:` opens a mapping or a list; it must be one that has keys below it. */
static int apply_open(rt_config *config, const rt_config_entry *entry, rt_error *err)
{
    int number;
    const char *rest;
    bool tasks = strcmp(entry->key, "tasks") == 0;
    if (tasks && entry->list) {
        return RT_OK;
    }
    if (tasks) {
        return rt_fail(err, RT_ERR_USAGE, "tasks is a list: begin each task with `- `");
    }
    if (!entry->list && split_task(entry->key, &number, &rest) && !strcmp(rest, "")) {
        rt_task_config *task;
        return task_at(config, number, &task, err);
    }
    if (!entry->list && split_task(entry->key, &number, &rest) && !strcmp(rest, "fields")) {
        return RT_OK;
    }
    if (!entry->list && rt_config_group_known(entry->key, strlen(entry->key))) {
        return RT_OK;
    }
    char *full = full_key(entry->key);
    bool known = find_key(full, &number) != NULL;
    rt_free(full);
    if (known || rt_config_group_known(entry->key, strlen(entry->key))) {
        return rt_fail(err, RT_ERR_USAGE, "%s %s, not a %s", entry->key,
                       known ? "takes one value" : "is a mapping of keys",
                       entry->list ? "list" : "mapping");
    }
    return fail_unknown(entry->key, err);
}

/* `learner:` with nothing but comments below it. `model:` is a short form without its value. */
static bool is_empty_group(const rt_config_entry *entry)
{
    for (int i = 0; i < rt_config_aliases_count; i++) {
        if (strcmp(entry->key, rt_config_aliases[i].word) == 0) {
            return false;
        }
    }
    return entry->empty && (strcmp(entry->key, "tasks") == 0 ||
                            rt_config_group_known(entry->key, strlen(entry->key)));
}

static int apply_value(rt_config *config, const char *full, const rt_config_entry *entry,
                       rt_error *err)
{
    int number;
    const rt_config_key *key = find_key(full, &number);
    if (!key && rt_config_group_known(full, strlen(full))) {
        return rt_fail(err, RT_ERR_USAGE, "%s is a group of keys: write them below it, indented, "
                       "or as %s.KEY", full, full);
    }
    if (!key && strncmp(full, "tasks", 5) == 0 && (full[5] == '\0' || full[5] == '.') &&
        number < 0) {
        return rt_fail(err, RT_ERR_USAGE, "tasks is a list: begin each task with `- `, or write "
                       "`task: NAME` for a single one");
    }
    if (!key) {
        return fail_unknown(entry->key, err);
    }
    if (entry->empty) {
        return rt_fail(err, RT_ERR_USAGE, "%s has no value; give one or take the line out", full);
    }
    void *base = config;
    if (number >= 0) {
        rt_task_config *task;
        int code = task_at(config, number, &task, err);
        if (code != RT_OK) {
            return code;
        }
        base = task;
    }
    rt_buf wanted = {0};
    int code = RT_OK;
    if (!rt_config_value_set(key, base, entry->value, &wanted)) {
        size_t shown = strnlen(entry->value, 60);
        code = rt_fail(err, RT_ERR_USAGE, "%s is '%.*s', but must be %s", full,
                       (int)rt_utf8_valid(entry->value, shown), entry->value, wanted.data);
    }
    rt_buf_free(&wanted);
    return code;
}

static int apply_all(rt_config *config, const rt_config_entries *entries, const char *from,
                     rt_error *err)
{
    for (int i = 0; i < entries->count; i++) {
        const rt_config_entry *entry = &entries->items[i];
        if (entry->line == 0 && strcmp(entry->key, "task") == 0) {
            tasks_clear(config); /* --set task=NAME means this task in place of the file's */
        }
        int code;
        if (!entry->value) {
            code = apply_open(config, entry, err);
        } else if (is_empty_group(entry)) {
            code = RT_OK;
        } else {
            char *full = full_key(entry->key);
            code = apply_value(config, full, entry, err);
            rt_free(full);
        }
        if (code != RT_OK) {
            return place(err, from, entry);
        }
    }
    return RT_OK;
}

/* ---- before applying: duplicates, the preset ---- */

static int check_duplicates(const rt_config_entries *entries, const char *from, rt_error *err)
{
    int code = RT_OK;
    char **full = rt_alloc((size_t)RT_MAX(entries->count, 1) * sizeof *full);
    for (int i = 0; i < entries->count && code == RT_OK; i++) {
        const rt_config_entry *entry = &entries->items[i];
        full[i] = entry->value && !is_empty_group(entry) ? full_key(entry->key)
                                                         : rt_strdup(entry->key);
        for (int k = 0; k < i && code == RT_OK; k++) {
            const rt_config_entry *other = &entries->items[k];
            bool opens = !entry->value || is_empty_group(entry);
            bool other_opens = !other->value || is_empty_group(other);
            if (opens == other_opens && strcmp(full[i], full[k]) == 0) {
                rt_fail(err, RT_ERR_USAGE, "%s is given twice, first on line %d; keep one",
                        entry->key, other->line);
                code = place(err, from, entry);
            }
            if (strcmp(entry->key, "tasks") == 0 && strcmp(other->key, "task") == 0) {
                rt_fail(err, RT_ERR_USAGE, "task (line %d) is short for tasks; keep one",
                        other->line);
                code = place(err, from, entry);
            }
        }
    }
    for (int i = 0; i < entries->count; i++) {
        rt_free(full[i]);
    }
    rt_free(full);
    return code;
}

/* The last word on the algorithm's name. */
static const rt_config_entry *find_preset(const rt_config_entries *entries)
{
    for (int i = entries->count - 1; i >= 0; i--) {
        const rt_config_entry *entry = &entries->items[i];
        if (entry->value && !entry->empty &&
            (!strcmp(entry->key, "algorithm") || !strcmp(entry->key, "algorithm.name"))) {
            return entry;
        }
    }
    return NULL;
}

static void preset_apply(rt_config *config, const rt_preset *preset)
{
    rt_free(config->algorithm.plan);
    config->algorithm.plan = rt_strdup(preset->plan);
    config->algorithm.objective = preset->objective;
    config->algorithm.advantage = preset->advantage;
    config->algorithm.skip_degenerate = preset->skip_degenerate;
    if (preset->resets.continuations > 0) {
        config->algorithm.resets = preset->resets;
    }
    if (preset->debate.agents > 0) {
        config->algorithm.debate = preset->debate;
    }
}

static int preset_choose(rt_config *config, const rt_config_entry *entry, const char *from,
                         rt_error *err)
{
    const rt_preset *preset = rt_preset_find(entry ? entry->value : config->algorithm.name);
    if (preset) {
        preset_apply(config, preset);
        return RT_OK;
    }
    rt_buf names = {0};
    for (int i = 0; (preset = rt_preset_at(i)) != NULL; i++) {
        rt_buf_addf(&names, "%s%s", i ? ", " : "", preset->name);
    }
    rt_fail(err, RT_ERR_USAGE, "algorithm '%.*s' is unknown; choose one of %s",
            (int)rt_utf8_valid(entry->value, strnlen(entry->value, 60)), entry->value, names.data);
    rt_buf_free(&names);
    return place(err, from, entry);
}

/* ---- entry points ---- */

int rt_config_default(rt_config *config, rt_error *err)
{
    *config = (rt_config){0};
    for (int i = 0; i < rt_config_keys_count; i++) {
        rt_config_value_default(&rt_config_keys[i], config);
    }
    return preset_choose(config, NULL, "", err);
}

void rt_config_free(rt_config *config)
{
    tasks_clear(config);
    for (int i = 0; i < rt_config_keys_count; i++) {
        rt_config_value_free(&rt_config_keys[i], config);
    }
    rt_free(config->algorithm.plan);
    *config = (rt_config){0};
}

static int read_sets(const char *const *sets, int count, rt_config_entries *out, rt_error *err)
{
    for (int i = 0; i < count; i++) {
        const char *equals = strchr(sets[i], '=');
        size_t bytes = equals ? (size_t)(equals - sets[i]) : 0;
        if (bytes == 0 || bytes > RT_CONFIG_KEY_BYTES_MAX) {
            size_t shown = rt_utf8_valid(sets[i], strnlen(sets[i], 60));
            return rt_fail(err, RT_ERR_USAGE, "--set: '%.*s' is not of the form key=value",
                           (int)shown, sets[i]);
        }
        rt_config_entry entry = {.key = rt_strndup(sets[i], bytes),
                                 .value = rt_strdup(equals + 1)};
        if (rt_config_entries_add(out, entry, err) != RT_OK) {
            return rt_error_prefix(err, "--set"), RT_ERR_USAGE;
        }
    }
    return RT_OK;
}

int rt_config_parse(rt_config *config, const char *text, size_t bytes, const char *from,
                    const char *const *sets, int sets_count, rt_error *err)
{
    rt_config_entries entries = {0}, overrides = {0};
    int code = rt_config_default(config, err);
    if (code == RT_OK) {
        code = rt_config_yaml(text, bytes, from, &entries, err);
    }
    if (code == RT_OK) {
        code = check_duplicates(&entries, from, err);
    }
    if (code == RT_OK) {
        code = read_sets(sets, sets_count, &overrides, err);
    }
    if (code == RT_OK) {
        const rt_config_entry *preset = find_preset(&overrides);
        preset = preset ? preset : find_preset(&entries);
        code = preset_choose(config, preset, from, err);
    }
    if (code == RT_OK) {
        code = apply_all(config, &entries, from, err);
    }
    if (code == RT_OK) {
        code = apply_all(config, &overrides, from, err);
    }
    if (code == RT_OK) {
        code = rt_config_resolve(config, err);
        if (code != RT_OK) {
            rt_error_prefix(err, "%s", from);
        }
    }
    rt_config_entries_free(&entries);
    rt_config_entries_free(&overrides);
    if (code != RT_OK) {
        rt_config_free(config);
    }
    return code;
}

int rt_config_load(rt_config *config, const char *path, const char *const *sets, int sets_count,
                   rt_error *err)
{
    *config = (rt_config){0};
    rt_buf text = {0};
    int code = rt_file_read(path, RT_CONFIG_BYTES_MAX, &text, err);
    if (code != RT_OK) {
        code = RT_ERR_USAGE; /* nothing was started */
        if (err) {
            err->code = code;
        }
    } else {
        code = rt_config_parse(config, text.data, text.bytes, path, sets, sets_count, err);
    }
    rt_buf_free(&text);
    return code;
}
