/* summary: summary.json, the account of a finished run. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/internal.h"

static const rt_score *main_score(const rt_evaluation *evaluation)
{
    return evaluation->greedy.known ? &evaluation->greedy : &evaluation->sampled;
}

static void put_score(json_t *json, const char *name, const rt_score *score)
{
    char interval[64];
    snprintf(interval, sizeof interval, "%s_interval", name);
    json_object_set_new(json, name, score->known ? json_real(score->accuracy) : json_null());
    json_object_set_new(json, interval,
                        score->known ? json_pack("[f, f]", score->low, score->high) : json_null());
}

static json_t *seconds_json(const rt_coordinator *co)
{
    double total = 0;
    json_t *json = json_object();
    for (int i = 0; i < RT_BUCKETS; i++) {
        total += co->run_tally.seconds[i];
        json_object_set_new(json, rt_bucket_name(i), json_real(co->run_tally.seconds[i]));
    }
    json_object_set_new(json, "total", json_real(total));
    return json;
}

/* One hash an adapter: they stand one behind the other and are equally long. */
static json_t *adapter_hashes(const rt_coordinator *co, const rt_held *held)
{
    json_t *list = json_array();
    int adapters = rt_config_adapters(co->config);
    for (int i = 0; held && i < adapters; i++) {
        char hash[33];
        size_t bytes = held->bytes / (size_t)adapters;
        rt_hash_hex(rt_hash((const uint8_t *)held->data + (size_t)i * bytes, bytes), hash);
        json_array_append_new(list, json_string(hash));
    }
    return list;
}

static json_t *summary_json(const rt_coordinator *co)
{
    static const rt_score none = {0};
    bool trained = co->last.version > 0;
    char run[17], hash[33] = "";
    snprintf(run, sizeof run, "%016" PRIx64, co->run);
    const rt_held *newest = rt_depot_newest(&co->weights);
    if (newest) {
        rt_hash_hex(newest->hash, hash);
    }
    const rt_tally *tally = &co->run_tally;
    json_t *json = json_object(), *leases = json_object();
    put_score(json, "accuracy_before", main_score(&co->before));
    put_score(json, "accuracy_after", trained ? main_score(&co->last) : main_score(&co->before));
    json_object_set_new(json, "greedy_before", rt_score_json(&co->before.greedy));
    json_object_set_new(json, "greedy_after", rt_score_json(trained ? &co->last.greedy : &none));
    json_object_set_new(json, "sampled_before", rt_score_json(&co->before.sampled));
    json_object_set_new(json, "sampled_after", rt_score_json(trained ? &co->last.sampled : &none));
    if (co->debate_rules) {
        json_object_set_new(json, "debate_before", rt_score_json(&co->before.debate));
        json_object_set_new(json, "debate_after", rt_score_json(trained ? &co->last.debate : &none));
        json_object_set_new(json, "consistency_before", rt_score_json(&co->before.consistency));
        json_object_set_new(json, "consistency_after",
                            rt_score_json(trained ? &co->last.consistency : &none));
    }
    json_object_set_new(json, "tasks", rt_tasks_json(co));
    json_object_set_new(json, "run", json_string(run));
    json_object_set_new(json, "algorithm", json_string(co->config->algorithm.name));
    json_object_set_new(json, "steps", json_integer(co->version));
    json_object_set_new(json, "tokens",
                        json_pack("{s:I, s:I, s:I}", "sampled", (json_int_t)tally->tokens_sampled,
                                  "prefill", (json_int_t)tally->tokens_prefill, "trained",
                                  (json_int_t)tally->tokens_trained));
    json_object_set_new(json, "seconds", seconds_json(co));
    json_object_set_new(json, "weights_hash", json_string(hash));
    if (rt_config_adapters(co->config) > 0) {
        json_object_set_new(json, "adapter_hashes", adapter_hashes(co, newest));
    }
    json_object_set_new(json, "logprob",
                        json_pack("{s:I, s:I}", "compared", (json_int_t)tally->compared,
                                  "mismatched", (json_int_t)tally->mismatched));
    for (int i = 0; i < RT_FATES; i++) {
        json_object_set_new(leases, rt_fate_name(i),
                            json_integer((json_int_t)(co->leases.ended[i] + co->past.leases[i])));
    }
    json_object_set_new(json, "leases", leases);
    json_object_set_new(json, "grades",
                        json_pack("{s:I, s:I, s:I}", "correct",
                                  (json_int_t)tally->grades[RT_CORRECT], "wrong",
                                  (json_int_t)tally->grades[RT_WRONG], "undecided",
                                  (json_int_t)tally->grades[RT_UNDECIDED]));
    json_object_set_new(json, "restarts", json_integer(co->restarts));
    return json;
}

int rt_summary_write(rt_coordinator *co, rt_error *err)
{
    json_t *json = summary_json(co);
    char *text = json_dumps(json, JSON_INDENT(2));
    json_decref(json);
    RT_ASSERT(text != NULL);
    rt_buf line = {0};
    rt_buf_addf(&line, "%s\n", text);
    free(text);
    char *path = rt_format("%s/summary.json", co->config->run.dir);
    int rc = rt_file_write(path, line.data, line.bytes, err);
    rt_free(path);
    rt_buf_free(&line);
    return rc;
}
