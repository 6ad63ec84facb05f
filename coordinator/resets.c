/*
 * resets: the reset state as an object: made from a rollout, counted, recorded, and told to
 * whoever asks.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "coordinator/resets.h"

static const char *const chosen_names[] = {"random", "self", "oracle", "statistics"};

const char *rt_chosen_name(int chosen_by)
{
    return chosen_names[chosen_by];
}

const char *rt_fallback_name(int fallback)
{
    static const char *const names[RT_FALLS] = {"",          "parse",   "none_wrong", "localize",
                                                "no_oracle", "no_room", "continuation"};
    return names[fallback];
}

rt_reset_state *rt_reset_state_new(const rt_plan *plan, int index, const rt_job *job,
                                   const rt_sample *seed)
{
    rt_reset_problem *problem = &plan->resets->problems[index];
    RT_ASSERT(problem->states_count < RT_STATES_MAX);
    rt_reset_state *state = &problem->states[problem->states_count];
    *state = (rt_reset_state){
        .id = rt_reset_trajectory(plan, index,
                                  RT_CONTINUATIONS_FIRST + problem->states_count *
                                                               plan->resets->continuations),
        .parent = seed ? seed->id : rt_reset_trajectory(plan, index, 0),
        .problem = problem->first->problem,
        .step = plan->step,
        .index = index,
        .thoughts = seed ? (int)seed->thoughts : 0,
        .oracle = -1,
        .parent_ok = seed && seed->grade == RT_CORRECT,
        .seed = seed,
        .seed_job = job,
    };
    problem->states_count++;
    return state;
}

int rt_reset_successes(const rt_reset_state *state, int *visits)
{
    int successes = 0;
    *visits = 0;
    const rt_job *job = state->job;
    for (int i = 0; job && job->samples && i < job->count; i++) {
        successes += job->samples[i].grade == RT_CORRECT;
        (*visits)++;
    }
    return successes;
}

/* ---- written down ---------------------------------------------------------------------------- */

static void record_state(rt_coordinator *co, const rt_reset_state *state)
{
    int visits = 0, successes = rt_reset_successes(state, &visits);
    rt_store_row *row = rt_store_row_new(RT_TABLE_RESETS);
    rt_store_row_int(row, (int64_t)state->id);
    rt_store_row_int(row, (int64_t)state->parent);
    rt_store_row_int(row, state->thought);
    rt_store_row_int(row, state->prefix.count);
    rt_store_row_text(row, chosen_names[state->chosen_by]);
    rt_store_row_int(row, visits);
    rt_store_row_int(row, successes);
    rt_store_row_int(row, state->step);
    rt_store_row_int(row, (int64_t)state->problem);
    rt_store_row_blob(row, state->prefix.ids, state->prefix.count * sizeof(int32_t));
    if (state->oracle > 0) {
        rt_store_row_int(row, state->oracle);
    } else {
        rt_store_row_null(row);
    }
    rt_store_row_text(row, state->fallback ? rt_fallback_name(state->fallback) : NULL);
    rt_store_row_real(row, state->chosen_by == RT_CHOSEN_STATISTICS ? state->gain : NAN);
    rt_store_row_text(row, state->why[0] ? state->why : NULL);
    rt_store_put(co->store, row);
}

static void record_group(rt_coordinator *co, const rt_reset_problem *problem, int64_t step,
                         uint64_t id, const char *kind)
{
    rt_store_row *row = rt_store_row_new(RT_TABLE_GROUPS);
    rt_store_row_int(row, (int64_t)id);
    rt_store_row_int(row, (int64_t)problem->first->problem);
    rt_store_row_int(row, step);
    rt_store_row_text(row, kind);
    rt_store_row_text(row, co->config->algorithm.plan);
    rt_store_put(co->store, row);
}

void rt_resets_record(rt_coordinator *co, const rt_plan *plan)
{
    for (int i = 0; i < plan->resets->count; i++) {
        const rt_reset_problem *problem = &plan->resets->problems[i];
        if (problem->failed) {
            continue;
        }
        if (problem->rule.base > 0) {
            record_group(co, problem, plan->step, rt_reset_trajectory(plan, i, 0), "base");
        }
        for (int j = 0; j < problem->states_count; j++) {
            const rt_reset_state *state = &problem->states[j];
            record_state(co, state);
            rt_localize_record(co, state);
            if (!state->joins) {
                record_group(co, problem, plan->step, state->id, "reset");
            }
        }
    }
}

/* ---- told ------------------------------------------------------------------------------------ */

static json_t *prefix_json(const rt_prefix *prefix)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < prefix->count; i++) {
        json_array_append_new(list, json_integer(prefix->ids[i]));
    }
    return list;
}

static json_t *continuations_json(const rt_job *job)
{
    json_t *list = json_array();
    for (int i = 0; job && i < job->count; i++) {
        json_array_append_new(
            list, json_pack("{s:I, s:o}", "id", (json_int_t)(job->first + (uint64_t)i), "reward",
                            job->samples ? json_real(job->samples[i].reward) : json_null()));
    }
    return list;
}

static json_t *open_state_json(const rt_reset_state *state)
{
    int visits = 0, successes = rt_reset_successes(state, &visits);
    json_t *json = json_object();
    json_object_set_new(json, "id", json_integer((json_int_t)state->id));
    json_object_set_new(json, "trajectory_id", json_integer((json_int_t)state->parent));
    json_object_set_new(json, "problem_id", json_integer((json_int_t)state->problem));
    json_object_set_new(json, "step", json_integer(state->step));
    json_object_set_new(json, "thought",
                        state->known ? json_integer(state->thought) : json_null());
    json_object_set_new(json, "tokens", json_integer(state->prefix.count));
    json_object_set_new(json, "prefix", prefix_json(&state->prefix));
    json_object_set_new(json, "chosen_by", json_string(chosen_names[state->chosen_by]));
    json_object_set_new(json, "visits", json_integer(visits));
    json_object_set_new(json, "successes", json_integer(successes));
    json_object_set_new(json, "continuations", continuations_json(state->job));
    json_object_set_new(json, "open", json_true());
    return json;
}

json_t *rt_reset_state_json(rt_coordinator *co, int64_t id)
{
    for (const rt_plan *plan = co->steps; plan; plan = plan->next) {
        for (int i = 0; plan->resets && i < plan->resets->count; i++) {
            const rt_reset_problem *problem = &plan->resets->problems[i];
            for (int j = 0; j < problem->states_count; j++) {
                if (problem->states[j].id == (uint64_t)id) {
                    return open_state_json(&problem->states[j]);
                }
            }
        }
    }
    char number[32];
    snprintf(number, sizeof number, "%" PRId64, id);
    const char *const what[2] = {"reset", number};
    rt_buf text = {0};
    rt_error err = {0};
    json_t *json = NULL;
    /* One row by its key, read beside the writer: no transaction of either waits. */
    if (rt_store_show(co->config->run.dir, what, 2, true, NULL, NULL, &text, &err) == RT_OK) {
        json = json_loads(text.data, 0, NULL);
    }
    rt_buf_free(&text);
    return json;
}

json_t *rt_resets_json(const rt_coordinator *co)
{
    int states = 0, open = 0, localizing = 0;
    for (const rt_plan *plan = co->steps; plan; plan = plan->next) {
        for (int i = 0; plan->resets && i < plan->resets->count; i++) {
            const rt_reset_problem *problem = &plan->resets->problems[i];
            for (int j = 0; j < problem->states_count; j++) {
                const rt_reset_state *state = &problem->states[j];
                states++;
                localizing += !state->known;
                open += state->job && !state->job->samples;
            }
        }
    }
    return json_pack("{s:s, s:i, s:i, s:i}", "plan", co->config->algorithm.plan, "states", states,
                     "localizing", localizing, "continuing", open);
}
