/* resets_tables: the figures as CSV and as Markdown tables. */
#include "bench/gradients.h"

#include <math.h>
#include <string.h>

#define BASELINE "grpo_seqmean"
#define COLUMNS 6

static void add_number(rt_buf *out, double value)
{
    rt_buf_addf(out, isnan(value) ? "–" : "%.3f", value);
}

/* ---- CSV ----------------------------------------------------------------------------------- */

void rt_resets_csv_curves(const rt_resets_runs *runs, rt_buf *out)
{
    rt_buf_addf(out, "regime,method,seed,rate,step,accuracy,sampled_tokens,trained_sequences\n");
    for (int i = 0; i < runs->count; i++) {
        const rt_resets_run *run = &runs->all[i];
        for (int m = 0; m < run->marks_count; m++)
            rt_buf_addf(out, "%s,%s,%lld,%g,%d,%.4f,%.0f,%.0f\n", run->regime, run->method,
                        (long long)run->seed, run->rate, run->marks[m].step, run->marks[m].accuracy,
                        run->marks[m].tokens, run->marks[m].sequences);
    }
}

static void csv_real(rt_buf *out, double value)
{
    rt_buf_addf(out, isnan(value) ? "," : ",%.4f", value);
}

void rt_resets_csv_runs(const rt_resets_runs *runs, rt_buf *out)
{
    rt_buf_addf(out, "regime,method,seed,rate,steps,mean_accuracy,seconds,degenerate,degenerate_base,"
                "degenerate_reset,tokens_trained,tokens_judged,tokens_seeds,tokens_discarded,states,"
                "at_first_thought,at_prompt,position,known,exact,clean,passed_clean,passed_late,"
                "logprobs_mismatched");
    for (int b = 0; b < RT_RESETS_BINS; b++)
        rt_buf_addf(out, ",position_%d", b);
    rt_buf_addf(out, "\n");
    for (int i = 0; i < runs->count; i++) {
        const rt_resets_run *run = &runs->all[i];
        rt_buf_addf(out, "%s,%s,%lld,%g,%d", run->regime, run->method, (long long)run->seed,
                    run->rate, run->steps);
        csv_real(out, rt_resets_area(run, 0));
        csv_real(out, run->seconds);
        csv_real(out, run->degenerate);
        csv_real(out, run->base_flat);
        csv_real(out, run->reset_flat);
        rt_buf_addf(out, ",%.0f,%.0f,%.0f,%.0f,%d,%d,%d", run->tokens.trained, run->tokens.judged,
                    run->tokens.seeds, run->tokens.discarded, run->states, run->at_start,
                    run->at_prompt);
        csv_real(out, run->states ? run->position / run->states : NAN);
        rt_buf_addf(out, ",%d,%d,%d,%d,%d,%.0f", run->known, run->exact, run->clean,
                    run->passed_clean, run->passed_late, run->mismatched);
        for (int b = 0; b < RT_RESETS_BINS; b++)
            rt_buf_addf(out, ",%d", run->bins[b]);
        rt_buf_addf(out, "\n");
    }
}

/* ---- rates ----------------------------------------------------------------------------------- */

void rt_resets_rates(const rt_resets_runs *runs, rt_buf *out)
{
    rt_buf_addf(out, "# regime, method, learning rate: the best on seeds of their own "
                "(mode tune of the script)\n");
    for (int i = 0; i < runs->count;) {
        rt_resets_cell all = rt_resets_cell_of(runs, runs->all[i].regime, runs->all[i].method);
        double best = -1, best_rate = 0;
        for (int j = 0; j < all.count;) {
            rt_resets_cell one = {&all.runs[j], 0};
            while (j < all.count && all.runs[j].rate == one.runs->rate) {
                one.count++;
                j++;
            }
            double mean = rt_resets_mean(one, rt_resets_area, 0).mean;
            if (mean > best) {
                best = mean;
                best_rate = one.runs->rate;
            }
        }
        rt_buf_addf(out, "%s %s %g\n", all.runs->regime, all.runs->method, best_rate);
        i += all.count;
    }
}

/* ---- one regime -------------------------------------------------------------------------------- */

static void add_figure(rt_buf *out, rt_resets_figure figure)
{
    rt_buf_addf(out, " | ");
    add_number(out, figure.mean);
    if (!isnan(figure.error))
        rt_buf_addf(out, " ± %.3f", figure.error);
}

/* Bold: the interval does not hold 0. */
static void add_difference(rt_buf *out, rt_resets_difference d)
{
    if (isnan(d.low)) {
        rt_buf_addf(out, " | –");
        return;
    }
    const char *bold = d.low > 0 || d.high < 0 ? "**" : "";
    rt_buf_addf(out, " | %s%+.3f%s [%+.3f, %+.3f]", bold, d.mean, bold, d.low, d.high);
}

static double tokens_a_step(const rt_resets_run *run, double unused)
{
    (void)unused;
    return run->steps ? run->marks[run->marks_count - 1].tokens / run->steps : NAN;
}

/* Sampled and not trained on: judgements, seeds, thrown away. */
static double untrained(const rt_resets_run *run, double unused)
{
    (void)unused;
    double rest = run->tokens.judged + run->tokens.seeds + run->tokens.discarded;
    return rest / (rest + run->tokens.trained);
}

static double flat(const rt_resets_run *run, double unused)
{
    (void)unused;
    return run->degenerate;
}

static double seconds(const rt_resets_run *run, double unused)
{
    (void)unused;
    return run->seconds;
}

/* Which marks have a column: at most six, evenly spread, the last among them. */
static int choose_marks(const rt_resets_run *run, int shown[COLUMNS])
{
    int count = RT_MIN(run->marks_count, COLUMNS);
    for (int i = 0; i < count; i++)
        shown[i] = count > 1 ? i * (run->marks_count - 1) / (count - 1) : 0;
    return count;
}

static void add_accuracies(const rt_resets_runs *runs, const char *regime, rt_buf *out)
{
    double budget = rt_resets_budget(runs, regime);
    const rt_resets_run *first = NULL;
    for (int i = 0; i < runs->count && !first; i++)
        first = strcmp(runs->all[i].regime, regime) ? NULL : &runs->all[i];
    int shown[COLUMNS], columns = choose_marks(first, shown);
    rt_buf_addf(out, "| method | rate | seeds");
    for (int c = 0; c < columns; c++)
        rt_buf_addf(out, " | step %d", first->marks[shown[c]].step);
    rt_buf_addf(out, " | mean | mean at equal tokens | tokens a step | not trained | flat groups | "
                "s a step |\n|---|---|---");
    for (int c = 0; c < columns + 6; c++)
        rt_buf_addf(out, "|---");
    rt_buf_addf(out, "|\n");
    for (int m = 0; rt_resets_methods[m]; m++) {
        rt_resets_cell cell = rt_resets_cell_of(runs, regime, rt_resets_methods[m]);
        if (cell.count == 0)
            continue;
        rt_buf_addf(out, "| %s | %g | %d", rt_resets_methods[m], cell.runs->rate, cell.count);
        for (int c = 0; c < columns; c++)
            add_figure(out, rt_resets_mean(cell, rt_resets_at_step, first->marks[shown[c]].step));
        add_figure(out, rt_resets_mean(cell, rt_resets_area, 0));
        add_figure(out, rt_resets_mean(cell, rt_resets_area_tokens, budget));
        rt_buf_addf(out, " | %.0f | ", rt_resets_mean(cell, tokens_a_step, 0).mean);
        add_number(out, rt_resets_mean(cell, untrained, 0).mean);
        rt_buf_addf(out, " | ");
        add_number(out, rt_resets_mean(cell, flat, 0).mean);
        rt_buf_addf(out, " | %.2f |\n", rt_resets_mean(cell, seconds, 0).mean);
    }
}

/* What a regime's methods are compared with: one round of answers, where they debate; the plain sum of
 * gradients, where there are several tasks. */
static const char *baseline_of(const rt_resets_runs *runs, const char *regime)
{
    return rt_resets_cell_of(runs, regime, BASELINE).count    ? BASELINE
           : rt_resets_cell_of(runs, regime, "uniform").count ? "uniform"
                                                              : "ttrl";
}

static void add_differences(const rt_resets_runs *runs, const char *regime, rt_buf *out)
{
    const char *baseline = baseline_of(runs, regime);
    rt_resets_cell base = rt_resets_cell_of(runs, regime, baseline);
    int all = 0;
    for (int i = 0; i < runs->count; i++)
        all += !strcmp(runs->all[i].regime, regime);
    if (base.count < 2 || all == base.count)
        return;
    double budget = rt_resets_budget(runs, regime);
    rt_buf_addf(out, "\nDifference to %s, paired by seed, 95 %% interval:\n\n"
                "| method | early | late | mean | mean at equal tokens |\n|---|---|---|---|---|\n",
                baseline);
    for (int m = 0; rt_resets_methods[m]; m++) {
        rt_resets_cell cell = rt_resets_cell_of(runs, regime, rt_resets_methods[m]);
        if (cell.count == 0 || !strcmp(rt_resets_methods[m], baseline))
            continue;
        rt_buf_addf(out, "| %s", rt_resets_methods[m]);
        add_difference(out, rt_resets_differ(cell, base, rt_resets_early, 0));
        add_difference(out, rt_resets_differ(cell, base, rt_resets_late, 0));
        add_difference(out, rt_resets_differ(cell, base, rt_resets_area, 0));
        add_difference(out, rt_resets_differ(cell, base, rt_resets_area_tokens, budget));
        rt_buf_addf(out, " |\n");
    }
}

/* ---- where resets went --------------------------------------------------------------------------- */

static void add_share(rt_buf *out, int part, int whole)
{
    rt_buf_addf(out, " | ");
    add_number(out, whole ? (double)part / whole : NAN);
}

static void add_resets(rt_resets_cell cell, rt_buf *out)
{
    rt_resets_run sum = {0};
    for (int i = 0; i < cell.count; i++) {
        const rt_resets_run *run = &cell.runs[i];
        sum.states += run->states;
        sum.at_start += run->at_start;
        sum.at_prompt += run->at_prompt;
        sum.position += run->position;
        sum.known += run->known;
        sum.exact += run->exact;
        sum.clean += run->clean;
        sum.passed_clean += run->passed_clean;
        sum.passed_late += run->passed_late;
    }
    if (sum.states + sum.at_prompt == 0)
        return;
    rt_buf_addf(out, "| %s | %s | %d | %d", cell.runs->regime, cell.runs->method, sum.states,
                sum.at_prompt);
    add_share(out, sum.at_start, sum.states);
    rt_buf_addf(out, " | ");
    add_number(out, sum.states ? sum.position / sum.states : NAN);
    add_share(out, sum.exact, sum.known);
    add_share(out, sum.clean, sum.known);
    add_share(out, sum.passed_clean, sum.clean);
    add_share(out, sum.passed_late, sum.known - sum.clean);
    rt_buf_addf(out, " |\n");
}

static void add_all_resets(const rt_resets_runs *runs, rt_buf *out)
{
    bool any = false;
    for (int i = 0; i < runs->count; i++)
        any = any || runs->all[i].states + runs->all[i].at_prompt > 0;
    if (!any)
        return;
    rt_buf_addf(out, "\n#### Where resets went\n\n"
                "| regime | method | states | prompts | at thought 1 | mean position | exact | clean | "
                "passed, clean | passed, late |\n|---|---|---|---|---|---|---|---|---|---|\n");
    for (int i = 0; i < runs->count;) {
        rt_resets_cell cell = rt_resets_cell_of(runs, runs->all[i].regime, runs->all[i].method);
        add_resets(cell, out);
        i += cell.count;
    }
}

/* ---- what the papers say ---------------------------------------------------------------------------- */

enum when { EARLY, LATE, MEAN, MEAN_TOKENS, FINAL, DEBATED };
static const struct claim {
    const char *text, *a, *b;
    enum when when;
} claims[] = {
    {"SRPO above GRPO", "srpo", "grpo", MEAN},
    {"SRPO above GRPO, equal tokens", "srpo", "grpo", MEAN_TOKENS},
    {"SRPO above GRPO of the same loss", "srpo", BASELINE, MEAN},
    {"SRPO above RRPO", "srpo", "rrpo", MEAN},
    {"RRPO above GRPO (paper: about equal)", "rrpo", "grpo", MEAN},
    {"oracle above GRPO of the same loss, early", "srpo_oracle", BASELINE, EARLY},
    {"oracle above GRPO of the same loss, late", "srpo_oracle", BASELINE, LATE},
    {"oracle above SRPO", "srpo_oracle", "srpo", MEAN},
    {"caro above GRPO of the same loss, early", "caro", BASELINE, EARLY},
    {"caro above GRPO of the same loss, late", "caro", BASELINE, LATE},
    {"caro above GRPO of the same loss, equal tokens", "caro", BASELINE, MEAN_TOKENS},
    {"sampling by gradient above uniform (paper: no)", "mixing_gradient", "uniform", MEAN},
    {"sampling by gradient above uniform, late", "mixing_gradient", "uniform", LATE},
    {"equal norms above the plain sum", "equal_norms", "uniform", MEAN},
    {"running norms above the plain sum", "running_norms", "uniform", MEAN},
    {"PCGrad above the plain sum", "pcgrad", "uniform", MEAN},
    {"CAGrad above the plain sum", "cagrad", "uniform", MEAN},
    {"DPO above GRPO, one agent", "maca_dpo", "maca_grpo", FINAL},
    {"KTO above GRPO, one agent", "maca_kto", "maca_grpo", FINAL},
    {"GRPO above SFT, one agent", "maca_grpo", "maca_sft", FINAL},
    {"DPO above SFT, one agent", "maca_dpo", "maca_sft", FINAL},
    {"DPO above TTRL, one agent", "maca_dpo", "ttrl", FINAL},
    {"DPO above ScPO, one agent", "maca_dpo", "scpo", FINAL},
    {"KTO above TTRL, one agent", "maca_kto", "ttrl", FINAL},
    {"KTO above ScPO, one agent", "maca_kto", "scpo", FINAL},
    {"DPO above GRPO, debate", "maca_dpo", "maca_grpo", DEBATED},
    {"KTO above GRPO, debate", "maca_kto", "maca_grpo", DEBATED},
    {"GRPO above SFT, debate", "maca_grpo", "maca_sft", DEBATED},
};

static rt_resets_difference ask(const rt_resets_runs *runs, const char *regime,
                                const struct claim *claim)
{
    rt_resets_cell a = rt_resets_cell_of(runs, regime, claim->a);
    rt_resets_cell b = rt_resets_cell_of(runs, regime, claim->b);
    switch (claim->when) {
    case EARLY: return rt_resets_differ(a, b, rt_resets_early, 0);
    case LATE: return rt_resets_differ(a, b, rt_resets_late, 0);
    case MEAN: return rt_resets_differ(a, b, rt_resets_area, 0);
    case FINAL: return rt_resets_differ(a, b, rt_resets_final, 0);
    case DEBATED: return rt_resets_differ(a, b, rt_resets_debated, 0);
    case MEAN_TOKENS: break;
    }
    return rt_resets_differ(a, b, rt_resets_area_tokens, rt_resets_budget(runs, regime));
}

static const char *verdict(rt_resets_difference d)
{
    return isnan(d.low) ? "–" : d.low > 0 ? "**yes**" : d.high < 0 ? "**opposite**" : "open";
}

/* Neither method was run anywhere: an ordering of other experiments. */
static bool is_foreign(const rt_resets_runs *runs, const struct claim *claim)
{
    for (int i = 0; i < runs->count; i++)
        if (!strcmp(runs->all[i].method, claim->a) || !strcmp(runs->all[i].method, claim->b))
            return false;
    return true;
}

static void add_claims(const rt_resets_runs *runs, const char *const *regimes, int count,
                       rt_buf *out)
{
    rt_buf_addf(out, "\n#### Orderings\n\nYes, opposite: the 95 %% interval of the paired difference lies "
                "above, below 0. Open: it holds 0.\n\n| ");
    for (int r = 0; r < count; r++)
        rt_buf_addf(out, "| %s ", regimes[r]);
    rt_buf_addf(out, "|\n|---");
    for (int r = 0; r < count; r++)
        rt_buf_addf(out, "|---");
    rt_buf_addf(out, "|\n");
    for (size_t c = 0; c < RT_COUNT(claims); c++) {
        if (is_foreign(runs, &claims[c]))
            continue;
        rt_buf_addf(out, "| %s", claims[c].text);
        for (int r = 0; r < count; r++) {
            rt_resets_difference d = ask(runs, regimes[r], &claims[c]);
            rt_buf_addf(out, isnan(d.low) ? " | %s" : " | %s %+.3f [%+.3f, %+.3f]", verdict(d), d.mean,
                        d.low, d.high);
        }
        rt_buf_addf(out, " |\n");
    }
}

/* ---- the grid of lengths and shares ------------------------------------------------------------------ */

static void add_grid(const rt_resets_runs *runs, const char *const *regimes, int count, rt_buf *out)
{
    bool any = false;
    for (int r = 0; r < count; r++) {
        int thoughts, decisive, base;
        if (!rt_resets_grid(regimes[r], &thoughts, &decisive, &base))
            continue;
        if (!any)
            rt_buf_addf(out, "\n#### Horizon and share of decisive thoughts\n\nMean accuracy over the run "
                        "less that of " BASELINE ", paired by seed.\n\n| base | thoughts | decisive | p | "
                        BASELINE " | rrpo | srpo | srpo_oracle | caro |\n"
                        "|---|---|---|---|---|---|---|---|---|\n");
        any = true;
        rt_resets_cell baseline = rt_resets_cell_of(runs, regimes[r], BASELINE);
        rt_buf_addf(out, "| %d %% | %d | %d | %.2f", base, thoughts, decisive,
                    (double)decisive / thoughts);
        add_figure(out, rt_resets_mean(baseline, rt_resets_area, 0));
        static const char *const shown[] = {"rrpo", "srpo", "srpo_oracle", "caro"};
        for (size_t m = 0; m < RT_COUNT(shown); m++)
            add_difference(out, rt_resets_differ(rt_resets_cell_of(runs, regimes[r], shown[m]),
                                                 baseline, rt_resets_area, 0));
        rt_buf_addf(out, " |\n");
    }
}

void rt_resets_tables(const rt_resets_runs *runs, rt_buf *out)
{
    const char **regimes = rt_alloc((size_t)(runs->count + 1) * sizeof *regimes);
    int count = 0, main_count = 0, unused[3];
    for (int grid = 0; grid < 2; grid++) { /* the grid's behind the others */
        for (int i = 0; i < runs->count; i++) {
            const char *name = runs->all[i].regime;
            if (rt_resets_grid(name, &unused[0], &unused[1], &unused[2]) == (grid == 1) &&
                (i == 0 || strcmp(name, runs->all[i - 1].regime)))
                regimes[count++] = name;
        }
        main_count = grid ? main_count : count;
    }
    for (int r = 0; r < main_count; r++) {
        rt_buf_addf(out, "\n#### Regime %s\n\n", regimes[r]);
        add_accuracies(runs, regimes[r], out);
        add_differences(runs, regimes[r], out);
        rt_resets_debate_table(runs, regimes[r], out);
        rt_gradients_table(runs, regimes[r], out);
    }
    if (main_count > 0)
        add_claims(runs, regimes, main_count, out);
    add_grid(runs, regimes, count, out);
    add_all_resets(runs, out);
    rt_free(regimes);
}
