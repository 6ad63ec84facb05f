/* correct_report: sums and intervals over the outcomes of iterative correction. */
#include "deploy/correct_report.h"

/* ---- sums ------------------------------------------------------------------------------------ */

static void add_counts(correct_counts *sum, const correct_counts *one)
{
    sum->localizations += one->localizations;
    sum->unparsed += one->unparsed;
    sum->judged += one->judged;
    sum->exact += one->exact;
    sum->earlier += one->earlier;
    sum->false_alarms += one->false_alarms;
    sum->empty += one->empty;
    for (int right = 0; right < 2; right++) {
        sum->resampled_clean[right] += one->resampled_clean[right];
        sum->resampled_dirty[right] += one->resampled_dirty[right];
        sum->passed[right] += one->passed[right];
        sum->flagged[right] += one->flagged[right];
        sum->turned[right][0] += one->turned[right][0];
        sum->turned[right][1] += one->turned[right][1];
    }
}

static void add_cost(correct_cost *sum, const correct_cost *one)
{
    sum->sample_calls += one->sample_calls;
    sum->verify_calls += one->verify_calls;
    sum->localize_calls += one->localize_calls;
    sum->first_tokens += one->first_tokens;
    sum->resample_tokens += one->resample_tokens;
    sum->judge_tokens += one->judge_tokens;
    sum->unfit += one->unfit;
}

static int convergence(const correct_state *state)
{
    if (state->exit != CORRECT_VERIFIED)
        return 3;
    return state->iteration == 0 ? 0 : state->iteration <= 3 ? 1 : 2;
}

static void add_outcome(correct_report *r, const correct_outcome *one,
                        const correct_settings *settings)
{
    const correct_state *state = &one->state;
    bool before = state->right_first;
    bool after = correct_returns_first(state, settings) ? before : state->right;
    RT_ASSERT(state->ask == CORRECT_DONE && state->exit != CORRECT_OPEN);
    r->problems++;
    r->right_before += before;
    r->right_after += after;
    r->lifts += after && !before;
    r->regressions += before && !after;
    r->exits[state->exit]++;
    r->exit_right[state->exit] += after;
    r->exit_lifts[state->exit] += after && !before;
    r->exit_regressions[state->exit] += before && !after;
    r->converged[convergence(state)]++;
    r->resamples += state->iteration;
    add_counts(&r->counts, &state->counts);
    add_cost(&r->cost, &one->cost);
}

correct_report correct_report_of(const correct_run *run, int task, const char *name)
{
    const eval_run *eval = &run->eval;
    correct_report r = {.name = name};
    for (int i = 0; i < eval->count; i++) {
        const eval_item *item = &eval->items[i];
        if (task >= 0 && item->problem.task != task)
            continue;
        if (item->left_out)
            r.left_out++;
        else
            add_outcome(&r, &run->outcomes[i], &run->settings);
    }
    r.gain = eval_gain(r.lifts, r.regressions, r.problems);
    return r;
}

/* ---- as JSON --------------------------------------------------------------------------------- */

static json_t *share_json(int64_t part, int64_t whole)
{
    double low, high;
    rt_wilson(part, whole, &low, &high);
    return json_pack("{s:I, s:I, s:f, s:f, s:f}", "count", (json_int_t)part, "of",
                     (json_int_t)whole, "value", (double)part / (double)RT_MAX(whole, 1), "low",
                     low, "high", high);
}

static json_t *exits_json(const correct_report *r)
{
    json_t *exits = json_object();
    for (int e = CORRECT_VERIFIED; e <= CORRECT_EXHAUSTED; e++) {
        char key[8];
        snprintf(key, sizeof key, "%d", e);
        json_object_set_new(exits, key,
                            json_pack("{s:I, s:I, s:I, s:I}", "count", (json_int_t)r->exits[e],
                                      "right", (json_int_t)r->exit_right[e], "lifts",
                                      (json_int_t)r->exit_lifts[e], "regressions",
                                      (json_int_t)r->exit_regressions[e]));
    }
    return exits;
}

static json_t *localization_json(const correct_counts *c)
{
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:o, s:I, s:I, s:o, s:o}", "count", (json_int_t)c->localizations,
        "unparsed", (json_int_t)c->unparsed, "false_alarms", (json_int_t)c->false_alarms, "judged",
        (json_int_t)c->judged, "clean_prefix", share_json(c->exact + c->earlier, c->judged),
        "exact", (json_int_t)c->exact, "earlier", (json_int_t)c->earlier, "right_after_clean",
        share_json(c->resampled_clean[1], c->resampled_clean[0] + c->resampled_clean[1]),
        "right_after_erroneous",
        share_json(c->resampled_dirty[1], c->resampled_dirty[0] + c->resampled_dirty[1]));
}

static json_t *cost_json(const correct_cost *c)
{
    json_t *calls = json_pack("{s:I, s:I, s:I}", "sample", (json_int_t)c->sample_calls, "verify",
                              (json_int_t)c->verify_calls, "localize",
                              (json_int_t)c->localize_calls);
    json_t *tokens = json_pack("{s:I, s:I, s:I}", "first", (json_int_t)c->first_tokens, "resample",
                               (json_int_t)c->resample_tokens, "judge",
                               (json_int_t)c->judge_tokens);
    return json_pack("{s:o, s:o, s:I}", "calls", calls, "tokens", tokens, "unfit",
                     (json_int_t)c->unfit);
}

static json_t *verification_json(const correct_counts *c)
{
    return json_pack("{s:o, s:o}", "recall",
                     share_json(c->flagged[0], c->flagged[0] + c->passed[0]), "specificity",
                     share_json(c->passed[1], c->flagged[1] + c->passed[1]));
}

static json_t *resamples_json(const correct_report *r)
{
    const correct_counts *c = &r->counts;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "count", (json_int_t)r->resamples,
                     "wrong_to_wrong", (json_int_t)c->turned[0][0], "wrong_to_right",
                     (json_int_t)c->turned[0][1], "right_to_wrong", (json_int_t)c->turned[1][0],
                     "right_to_right", (json_int_t)c->turned[1][1], "of_empty_chains",
                     (json_int_t)c->empty);
}

static json_t *accuracy_json(const correct_report *r)
{
    double low, high;
    rt_wilson(r->right_after, r->problems, &low, &high);
    return json_pack("{s:i, s:i, s:f, s:[f,f], s:o, s:o, s:o, s:o, s:o, s:o}", "problems",
                     r->problems, "left_out", r->left_out, "accuracy",
                     (double)r->right_after / RT_MAX(r->problems, 1), "accuracy_interval", low,
                     high, "accuracy_before", share_json(r->right_before, r->problems),
                     "accuracy_after", share_json(r->right_after, r->problems), "verified_correct",
                     share_json(r->exit_right[CORRECT_VERIFIED], r->problems), "lifts",
                     share_json(r->lifts, r->problems - r->right_before), "regressions",
                     share_json(r->regressions, r->right_before), "gain",
                     json_pack("{s:f, s:f, s:f}", "value", r->gain.value, "low", r->gain.low,
                               "high", r->gain.high));
}

json_t *correct_report_json(const correct_report *r)
{
    json_t *root = accuracy_json(r);
    json_t *more = json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o}", "exits", exits_json(r), "converged",
        json_pack("{s:I, s:I, s:I, s:I}", "0", (json_int_t)r->converged[0], "1-3",
                  (json_int_t)r->converged[1], "later", (json_int_t)r->converged[2], "never",
                  (json_int_t)r->converged[3]),
        "resamples", resamples_json(r), "localization", localization_json(&r->counts),
        "verification", verification_json(&r->counts), "cost", cost_json(&r->cost));
    RT_ASSERT(root != NULL && more != NULL);
    json_object_update(root, more);
    json_decref(more);
    return root;
}

/* ---- as text --------------------------------------------------------------------------------- */

static void print_share(const char *name, int64_t part, int64_t whole, const char *of)
{
    double low, high;
    if (whole == 0)
        return;
    rt_wilson(part, whole, &low, &high);
    printf("  %-22s %6.2f %%   [%.2f, %.2f]   %lld of %lld%s\n", name,
           100.0 * (double)part / (double)whole, 100 * low, 100 * high, (long long)part,
           (long long)whole, of);
}

static void print_accuracy(const correct_report *r)
{
    print_share("accuracy before", r->right_before, r->problems, "");
    print_share("accuracy after", r->right_after, r->problems, "");
    printf("  %-22s %+6.2f pp  [%+.2f, %+.2f]\n", "gain", 100 * r->gain.value, 100 * r->gain.low,
           100 * r->gain.high);
    print_share("verified and correct", r->exit_right[CORRECT_VERIFIED], r->problems, "");
    print_share("lifts", r->lifts, r->problems - r->right_before, " wrong before");
    print_share("regressions", r->regressions, r->right_before, " right before");
}

static void print_exits(const correct_report *r)
{
    static const char *const names[] = {"", "exit 1, verified", "exit 2, no error found",
                                        "exit 3, out of tries"};
    for (int e = CORRECT_VERIFIED; e <= CORRECT_EXHAUSTED; e++)
        printf("  %-22s %lld problems: %lld right, %lld lifts, %lld regressions\n", names[e],
               (long long)r->exits[e], (long long)r->exit_right[e], (long long)r->exit_lifts[e],
               (long long)r->exit_regressions[e]);
}

static void print_judges(const correct_counts *c)
{
    print_share("verifier's recall", c->flagged[0], c->flagged[0] + c->passed[0],
                " wrong chains flagged");
    print_share("verifier's specificity", c->passed[1], c->flagged[1] + c->passed[1],
                " right chains passed");
    if (c->localizations == 0)
        return;
    printf("  %-22s %lld; %lld not readable, %lld in chains without an error\n", "localizations",
           (long long)c->localizations, (long long)c->unparsed, (long long)c->false_alarms);
    print_share("clean prefixes", c->exact + c->earlier, c->judged, " localizations");
    print_share("exact hits", c->exact, c->judged, " localizations");
    print_share("right after clean", c->resampled_clean[1],
                c->resampled_clean[0] + c->resampled_clean[1], " resamples");
    print_share("right after erroneous", c->resampled_dirty[1],
                c->resampled_dirty[0] + c->resampled_dirty[1], " resamples");
}

static void print_cost(const correct_report *r)
{
    const correct_cost *c = &r->cost;
    printf("  %-22s %lld samples, %lld verifications, %lld localizations\n", "asked for",
           (long long)c->sample_calls, (long long)c->verify_calls, (long long)c->localize_calls);
    printf("  %-22s %lld in first chains, %lld in resamples, %lld in judgements\n", "tokens",
           (long long)c->first_tokens, (long long)c->resample_tokens, (long long)c->judge_tokens);
    if (c->unfit > 0)
        printf("  %-22s %lld judgements whose prompt is too long\n", "not asked for",
               (long long)c->unfit);
}

void correct_report_print(const correct_report *r, const correct_report *control)
{
    printf("%s: %d problems   (95 %% intervals)\n", r->name, r->problems);
    if (r->left_out > 0)
        printf("  left out               %d whose prompt does not fit the context\n", r->left_out);
    if (r->problems == 0)
        return;
    print_accuracy(r);
    print_exits(r);
    print_judges(&r->counts);
    print_cost(r);
    if (!control)
        return;
    printf("  -- control: every resample starts over, at the same temperature\n");
    print_accuracy(control);
    print_cost(control);
}
