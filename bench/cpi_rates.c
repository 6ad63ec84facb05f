/*
 * cpi_rates: how the samples and the improvement of one iteration of conservative policy iteration
 * grow and shrink with p, the probability that a rollout visits the improvable state.
 *
 * samples      the smallest m for which, with probability 1 − DELTA, the estimates of all
 *              deterministic policies are within a quarter of the best policy's advantage at once:
 *              (p/H)·tau/4 under random resets (the best policy advantage is (p/H)·tau there, for
 *              d is the law of a random step), tau/4 under the oracle's.
 * improvement  J(after) − J(before), exact, of the policy that looks best in m samples, mixed in
 *              with the step that maximises the lower bound proven below.
 *
 * With returns in [0, R] and all |advantages of π'| ≤ R, mixing with step a moves the law of layer
 * h by at most a·h in total variation, so J(after) − J ≥ a·H·A − a²·H²·R for the policy advantage
 * A = E_d[advantage]. The best step is A/(2·H·R) and is worth A²/(4·R). Under the oracle, with
 * conditional advantage C = A/(p/H), only improvable states are changed, both terms carry p/H, the
 * step is C/(2·H·R) and is worth (p/H)·C²/(4·R). For A and C stand the estimates less tolerance.
 */
#include "bench/cpi.h"
#include "base/svg.h"

#include <math.h>
#include <stdlib.h>

#define POINTS 5        /* p = 1/2, 1/4, … */
#define GRID 5          /* numbers of samples tried around the wanted one */
#define DELTA 0.1
#define TAU 0.375       /* dyadic: all values of the default chain are exact */
#define REPEATS_MAX 64
#define SEEDS_MAX 256

enum scheme { RANDOM, ORACLE, SCHEMES };
enum quantity { SAMPLES, ROLLOUTS, GAIN, QUANTITIES };
static const char *const scheme_names[] = {"cpi-rr", "cpi-caro"};
static const char *const quantity_names[] = {"samples", "rollouts", "improvement"};

typedef struct experiment {
    uint64_t seed, streams;
    int horizon, actions, repeats, seeds;
    bool noisy;
    double p;
    double reach;     /* p/H: the share of the improvable state in d */
    double tolerance; /* of the estimates */
    double before;    /* J of the uniform policy */
    rt_cpi_mdp mdp;
    rt_cpi_policy policy;
    rt_cpi_values values;
    bool in[RT_CPI_STATES_MAX];
    rt_cpi_law law;
} experiment;

/* One number for each repeat, so that intervals come from independent repeats. */
typedef struct results {
    double value[SCHEMES][QUANTITIES][POINTS][REPEATS_MAX];
    double promised[SCHEMES][POINTS]; /* improvement that the theory guarantees */
    double kept[SCHEMES][POINTS];     /* share of seeds whose improvement kept its promise */
} results;

static rt_cpi_rng next_stream(experiment *e)
{
    return rt_cpi_rng_new(e->seed, e->streams++);
}

static void experiment_set(experiment *e, enum scheme scheme, double p)
{
    e->p = p;
    rt_cpi_chain(&e->mdp, p, e->horizon, e->actions, TAU, e->noisy);
    rt_cpi_uniform(&e->mdp, &e->policy);
    e->before = rt_cpi_evaluate(&e->mdp, &e->policy, &e->values);
    e->reach = rt_cpi_improvable(&e->mdp, &e->values, TAU, e->in);
    e->tolerance = (scheme == RANDOM ? e->reach : 1) * TAU / 4;
    rt_cpi_law_init(&e->law, &e->mdp, &e->policy, &e->values, scheme == RANDOM ? NULL : e->in);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The error that 1 − DELTA of the seeds stay within. */
static double error_quantile(experiment *e, int64_t samples)
{
    double errors[SEEDS_MAX];
    for (int i = 0; i < e->seeds; i++) {
        rt_cpi_rng rng = next_stream(e);
        rt_cpi_estimate estimate;
        rt_cpi_estimate_draw(&e->law, samples, &rng, &estimate);
        errors[i] = estimate.error;
    }
    qsort(errors, (size_t)e->seeds, sizeof *errors, ascending);
    return errors[(int)ceil((1 - DELTA) * e->seeds) - 1];
}

/*
 * Doubles until the error is small enough, then reads the crossing off a straight line through
 * the errors at GRID numbers of samples around it, both in logarithms.
 */
static double find_samples(experiment *e)
{
    int64_t near = 16;
    while (error_quantile(e, near) > e->tolerance)
        near *= 2;
    double x[GRID], y[GRID], mean_x = 0, mean_y = 0;
    for (int i = 0; i < GRID; i++) {
        int64_t samples = (int64_t)ceil((double)near * exp2(0.5 * (i - 3)));
        x[i] = log((double)samples);
        y[i] = log(error_quantile(e, samples));
        mean_x += x[i] / GRID;
        mean_y += y[i] / GRID;
    }
    return exp(mean_x + (log(e->tolerance) - mean_y) / rt_cpi_slope(x, y, GRID));
}

/* Rollouts that a search by rejection needs to visit the improvable state so many times. */
static double find_visits(experiment *e, int64_t visits)
{
    rt_cpi_rng rng = next_stream(e);
    double rollouts = 0, scale = log1p(-e->p);
    for (int64_t i = 0; i < visits; i++)
        rollouts += 1 + floor(log(1 - rt_cpi_unit(&rng)) / scale);
    return rollouts;
}

/* Mean exact improvement over the seeds; *kept counts those that got what the bound promises. */
static double find_gain(experiment *e, enum scheme scheme, int64_t samples, double promised,
                        double *kept)
{
    double sum = 0;
    for (int i = 0; i < e->seeds; i++) {
        rt_cpi_rng rng = next_stream(e);
        rt_cpi_estimate estimate;
        rt_cpi_estimate_draw(&e->law, samples, &rng, &estimate);
        double step = fmax(0, estimate.advantage - e->tolerance) / (2 * e->horizon);
        rt_cpi_policy after;
        rt_cpi_mix(&e->mdp, &e->policy, estimate.action, scheme == ORACLE ? e->in : NULL, step,
                   &after);
        double gain = rt_cpi_evaluate(&e->mdp, &after, NULL) - e->before;
        sum += gain;
        *kept += gain >= promised;
    }
    return sum / e->seeds;
}

/*
 * What is promised: estimates are within a quarter of the best advantage A of theirs, so the
 * estimate less tolerance of the policy that looks best lies between A/2 and its true advantage,
 * and the guaranteed gain is that of A/2.
 */
static void measure_point(experiment *e, enum scheme scheme, int point, results *out)
{
    experiment_set(e, scheme, exp2(-1 - point));
    double least = (scheme == RANDOM ? e->reach : 1) * TAU / 2;
    double promised = least * least / 4 * (scheme == RANDOM ? 1 : e->reach);
    double kept = 0;
    for (int r = 0; r < e->repeats; r++) {
        double samples = find_samples(e);
        int64_t whole = (int64_t)ceil(samples);
        out->value[scheme][SAMPLES][point][r] = samples;
        out->value[scheme][ROLLOUTS][point][r] =
            scheme == RANDOM ? samples : find_visits(e, whole);
        out->value[scheme][GAIN][point][r] = find_gain(e, scheme, whole, promised, &kept);
    }
    out->promised[scheme][point] = promised;
    out->kept[scheme][point] = kept / (e->repeats * e->seeds);
}

static double expected_slope(enum scheme scheme, enum quantity quantity)
{
    static const double slopes[SCHEMES][QUANTITIES] = {{-2, -2, 2}, {0, -1, 1}};
    return slopes[scheme][quantity];
}

static void write_points(const experiment *e, const results *out, rt_buf *csv)
{
    for (int s = 0; s < SCHEMES; s++)
        for (int q = 0; q < QUANTITIES; q++)
            for (int i = 0; i < POINTS; i++) {
                rt_cpi_mean mean = rt_cpi_mean_of(out->value[s][q][i], e->repeats);
                double half = rt_cpi_t95(e->repeats - 1) * mean.error;
                rt_buf_addf(csv, "point,%s,%s,%s,%g,%.6g,%.6g,%.6g,", e->noisy ? "noisy" : "quiet",
                            scheme_names[s], quantity_names[q], exp2(-1 - i), mean.mean,
                            mean.mean - half, mean.mean + half);
                if (q == GAIN)
                    rt_buf_addf(csv, "%.6g,%.4f\n", out->promised[s][i], out->kept[s][i]);
                else
                    rt_buf_addf(csv, ",\n");
            }
}

static void write_slopes(const experiment *e, const results *out, rt_buf *csv)
{
    for (int s = 0; s < SCHEMES; s++)
        for (int q = 0; q < QUANTITIES; q++) {
            double slopes[REPEATS_MAX], x[POINTS], y[POINTS];
            for (int r = 0; r < e->repeats; r++) {
                for (int i = 0; i < POINTS; i++) {
                    x[i] = log(exp2(-1 - i));
                    y[i] = log(out->value[s][q][i][r]);
                }
                slopes[r] = rt_cpi_slope(x, y, POINTS);
            }
            rt_cpi_mean mean = rt_cpi_mean_of(slopes, e->repeats);
            double half = rt_cpi_t95(e->repeats - 1) * mean.error;
            rt_buf_addf(csv, "slope,%s,%s,%s,,%.4f,%.4f,%.4f,%g,\n", e->noisy ? "noisy" : "quiet",
                        scheme_names[s], quantity_names[q], mean.mean, mean.mean - half,
                        mean.mean + half, expected_slope(s, q));
        }
}

typedef struct line {
    double x[POINTS], y[POINTS], low[POINTS], high[POINTS];
} line;

static rt_svg_series make_series(const char *name, const double value[POINTS][REPEATS_MAX],
                                 int repeats, line *points)
{
    for (int i = 0; i < POINTS; i++) {
        rt_cpi_mean mean = rt_cpi_mean_of(value[i], repeats);
        double half = rt_cpi_t95(repeats - 1) * mean.error;
        points->x[i] = exp2(-1 - i);
        points->y[i] = mean.mean;
        points->low[i] = mean.mean - half;
        points->high[i] = mean.mean + half;
    }
    return (rt_svg_series){name, POINTS, points->x, points->y, points->low, points->high, false};
}

static int draw(const results *noisy, const results *quiet, int repeats, rt_buf *svg,
                rt_error *err)
{
    line points[6];
    rt_svg_series samples[] = {
        make_series("CPI-RR", noisy->value[RANDOM][SAMPLES], repeats, &points[0]),
        make_series("CPI-CARO, oracle", noisy->value[ORACLE][SAMPLES], repeats, &points[1]),
        make_series("CPI-CARO, search", noisy->value[ORACLE][ROLLOUTS], repeats, &points[2]),
        make_series("CPI-RR, quiet chain", quiet->value[RANDOM][SAMPLES], repeats, &points[3]),
    };
    rt_svg_series gains[] = {
        make_series("CPI-RR", noisy->value[RANDOM][GAIN], repeats, &points[4]),
        make_series("CPI-CARO", noisy->value[ORACLE][GAIN], repeats, &points[5]),
        {"CPI-RR, guaranteed", POINTS, points[4].x, noisy->promised[RANDOM], NULL, NULL, true},
        {"CPI-CARO, guaranteed", POINTS, points[5].x, noisy->promised[ORACLE], NULL, NULL, true},
    };
    rt_svg_plot plots[] = {
        {"Samples of one iteration", "p (improvable state visited)", "samples", true, true, samples,
         (int)RT_COUNT(samples)},
        {"Improvement of one iteration", "p (improvable state visited)", "J after − J before",
         true, true, gains, (int)RT_COUNT(gains)},
    };
    return rt_svg_write(svg, plots, (int)RT_COUNT(plots), err);
}

int rt_cpi_rates(const rt_cpi_options *options, rt_error *err)
{
    experiment *e = rt_alloc(sizeof *e);
    results *out = rt_alloc(2 * sizeof *out); /* noisy, quiet */
    e->seed = options->seed;
    e->horizon = options->horizon;
    e->actions = options->actions ? options->actions : 4;
    e->repeats = options->quick ? 4 : 20;
    e->seeds = options->quick ? 50 : 200;
    rt_buf_addf(options->csv, "row,chain,scheme,quantity,p,value,low,high,theory,kept\n");
    for (int quiet = 0; quiet < 2; quiet++) {
        e->noisy = !quiet;
        for (int s = 0; s < SCHEMES; s++)
            for (int i = 0; i < POINTS; i++)
                measure_point(e, s, i, &out[quiet]);
        write_points(e, &out[quiet], options->csv);
        write_slopes(e, &out[quiet], options->csv);
    }
    int code = draw(&out[0], &out[1], e->repeats, options->svg, err);
    rt_free(out);
    rt_free(e);
    return code;
}
