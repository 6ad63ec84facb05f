/* The coordinator's stats answer, as one line and as a table. */
#include <jansson.h>
#include <string.h>

#include "deploy/supervisor.h"

static const char *text_of(const json_t *root, const char *key)
{
    const char *text = json_string_value(json_object_get(root, key));
    return text ? text : "";
}

static double number_of(const json_t *root, const char *key)
{
    return json_number_value(json_object_get(root, key));
}

/* 1234567 → "1.2M": three digits are enough while watching. */
static void short_number(double value, char out[16])
{
    if (value >= 1e6)
        snprintf(out, 16, "%.1fM", value / 1e6);
    else if (value >= 1e4)
        snprintf(out, 16, "%.0fk", value / 1e3);
    else if (value >= 1e3)
        snprintf(out, 16, "%.1fk", value / 1e3);
    else
        snprintf(out, 16, "%.0f", value);
}

static void short_time(double seconds, char out[16])
{
    int whole = seconds > 0 ? (int)(seconds + 0.5) : 0;
    if (whole >= 3600)
        snprintf(out, 16, "%d:%02d:%02d", whole / 3600 % 10000, whole / 60 % 60, whole % 60);
    else
        snprintf(out, 16, "%d:%02d", whole / 60, whole % 60);
}

static void speeds(const json_t *root, double *sampling, double *training, int *actors)
{
    size_t i;
    json_t *worker;
    *sampling = *training = 0;
    *actors = 0;
    json_array_foreach(json_object_get(root, "workers"), i, worker)
    {
        bool learner = strcmp(text_of(worker, "role"), "learner") == 0;
        *(learner ? training : sampling) += number_of(worker, "tokens_per_second");
        *actors += !learner;
    }
}

bool progress_line(const char *stats_json, size_t bytes, char *line, size_t line_bytes)
{
    json_t *root = json_loadb(stats_json, bytes, 0, NULL);
    if (!root)
        return false;
    double sampling, training;
    int actors;
    speeds(root, &sampling, &training, &actors);
    char sampled[16], trained[16], left[16];
    short_number(sampling, sampled);
    short_number(training, trained);
    short_time(number_of(root, "eta_seconds"), left);
    const json_t *metrics = json_object_get(root, "metrics");
    const json_t *evaluation = json_object_get(root, "evaluation");
    int at = snprintf(line, line_bytes, "step %lld/%lld  %s", (long long)number_of(root, "step"),
                      (long long)number_of(root, "steps"), text_of(root, "phase"));
    const json_t *reward = json_object_get(metrics, "reward.mean");
    if (reward && at > 0 && (size_t)at < line_bytes)
        at += snprintf(line + at, line_bytes - (size_t)at, "  reward %.3f", json_number_value(reward));
    const json_t *kind = json_object_get(evaluation, "greedy");
    if (!kind)
        kind = json_object_get(evaluation, "sampled");
    const json_t *accuracy = json_object_get(kind, "accuracy");
    if (accuracy && at > 0 && (size_t)at < line_bytes)
        at += snprintf(line + at, line_bytes - (size_t)at, "  accuracy %.3f",
                       json_number_value(accuracy));
    if (at > 0 && (size_t)at < line_bytes)
        snprintf(line + at, line_bytes - (size_t)at,
                 "  sampling %s tok/s  training %s tok/s  %d worker%s  %s left", sampled, trained,
                 actors, actors == 1 ? "" : "s", left);
    json_decref(root);
    return true;
}

static void add_object(rt_buf *out, const char *title, json_t *object)
{
    if (!json_is_object(object) || json_object_size(object) == 0)
        return;
    rt_buf_addf(out, "%s:", title);
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        if (json_is_integer(value))
            rt_buf_addf(out, "  %s %lld", key, (long long)json_integer_value(value));
        else if (json_is_real(value))
            rt_buf_addf(out, "  %s %.4g", key, json_real_value(value));
        else if (json_is_string(value))
            rt_buf_addf(out, "  %s %s", key, json_string_value(value));
    }
    rt_buf_addf(out, "\n");
}

static void add_cell(rt_buf *out, const json_t *row, const char *key, bool sign)
{
    const json_t *value = json_object_get(row, key);
    if (json_is_number(value))
        rt_buf_addf(out, sign ? " %+11.3f" : " %11.3f", json_number_value(value));
    else
        rt_buf_addf(out, " %11s", "-");
}

static void add_tasks(rt_buf *out, const json_t *tasks)
{
    static const char *const keys[] = {"reward", "accuracy", "degenerate", "reward_gain", "grad_share",
                                       "eval",   "gain",     "gain_last"};
    size_t i;
    json_t *row;
    if (json_array_size(tasks) == 0)
        return;
    rt_buf_addf(out, "\n%-14s", "task");
    for (size_t k = 0; k < RT_COUNT(keys); k++)
        rt_buf_addf(out, " %11s", keys[k]);
    rt_buf_addf(out, "\n");
    json_array_foreach(tasks, i, row)
    {
        rt_buf_addf(out, "%-14s", text_of(row, "task"));
        for (size_t k = 0; k < RT_COUNT(keys); k++)
            add_cell(out, row, keys[k], strstr(keys[k], "gain") != NULL);
        rt_buf_addf(out, "\n");
    }
}

void progress_table(const char *stats_json, size_t bytes, rt_buf *out)
{
    json_t *root = json_loadb(stats_json, bytes, 0, NULL);
    char line[400];
    if (!root || !progress_line(stats_json, bytes, line, sizeof line)) {
        rt_buf_addf(out, "the answer is not what a coordinator sends\n");
        if (root)
            json_decref(root);
        return;
    }
    rt_buf_addf(out, "%s\nweights version %lld  %s\n", line, (long long)number_of(root, "version"),
                text_of(root, "weights_hash"));
    if (*text_of(root, "waits_for"))
        rt_buf_addf(out, "waits for: %s\n", text_of(root, "waits_for"));
    rt_buf_addf(out, "\n%-14s %-20s %-14s %10s %12s %7s %7s\n", "worker", "state", "waits for", "tok/s",
                "tokens", "active", "version");
    size_t i;
    json_t *w;
    json_array_foreach(json_object_get(root, "workers"), i, w)
    {
        rt_buf_addf(out, "%-14s %-20s %-14s %10.0f %12.0f %7.0f %7.0f\n", text_of(w, "name"),
                    text_of(w, "state"), text_of(w, "waits_for"), number_of(w, "tokens_per_second"),
                    number_of(w, "tokens"), number_of(w, "active"), number_of(w, "version"));
    }
    add_tasks(out, json_object_get(root, "tasks"));
    rt_buf_addf(out, "\n");
    const char *const groups[] = {"leases", "queues", "metrics", "evaluation", "seconds"};
    for (size_t g = 0; g < RT_COUNT(groups); g++)
        add_object(out, groups[g], json_object_get(root, groups[g]));
    json_decref(root);
}
