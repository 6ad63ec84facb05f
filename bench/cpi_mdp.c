/* cpi_mdp: the chain, its exact solution, and the law of reset samples in it. */
#include "bench/cpi.h"

#include <string.h>

static int add_state(rt_cpi_mdp *mdp, int layer)
{
    RT_ASSERT(mdp->states < RT_CPI_STATES_MAX);
    mdp->layer[mdp->states] = layer;
    return mdp->states++;
}

static void connect(rt_cpi_mdp *mdp, int from, int to, double probability)
{
    for (int y = 0; y < mdp->actions; y++)
        mdp->next[from][y][to] = probability;
}

static void pay(rt_cpi_mdp *mdp, int state, double probability)
{
    for (int y = 0; y < mdp->actions; y++)
        mdp->reward[state][y] = probability;
}

/* The outcome's two lanes, from the layer after the improvable state to the end. */
static void add_outcome(rt_cpi_mdp *mdp, int branch, int *won, int *lost, int layer,
                        const double *success)
{
    int won_next = add_state(mdp, layer), lost_next = add_state(mdp, layer);
    if (*won < 0) {
        for (int y = 0; y < mdp->actions; y++) {
            mdp->next[branch][y][won_next] = success[y];
            mdp->next[branch][y][lost_next] = 1 - success[y];
        }
    } else {
        connect(mdp, *won, won_next, 1);
        connect(mdp, *lost, lost_next, 1);
    }
    *won = won_next;
    *lost = lost_next;
}

void rt_cpi_chain(rt_cpi_mdp *mdp, double p, int horizon, int actions, double tau, bool noisy)
{
    RT_ASSERT(horizon >= 2 && 4 * horizon <= RT_CPI_STATES_MAX);
    RT_ASSERT(actions >= 2 && actions <= RT_CPI_ACTIONS_MAX && tau > 0 && tau <= 0.5);
    memset(mdp, 0, sizeof *mdp);
    mdp->actions = actions;
    mdp->horizon = horizon;
    double success[RT_CPI_ACTIONS_MAX];
    for (int y = 0; y < actions; y++)
        success[y] = y == 0 ? 0.5 + tau : 0.5 - tau / (actions - 1);
    int middle = horizon / 2, plain = add_state(mdp, 0), branch = -1, won = -1, lost = -1;
    for (int layer = 1; layer < horizon; layer++) {
        int plain_next = add_state(mdp, layer);
        connect(mdp, plain, plain_next, layer == middle ? 1 - p : 1);
        if (layer == middle) {
            branch = add_state(mdp, layer);
            connect(mdp, plain, branch, p);
        } else if (layer > middle) {
            add_outcome(mdp, branch, &won, &lost, layer, success);
        }
        plain = plain_next;
    }
    pay(mdp, plain, noisy ? 0.5 : 0);
    if (won >= 0)
        pay(mdp, won, 1);
    else
        memcpy(mdp->reward[branch], success, sizeof success);
}

int rt_cpi_chain_state(const rt_cpi_mdp *mdp)
{
    return mdp->horizon / 2 + 1;
}

void rt_cpi_uniform(const rt_cpi_mdp *mdp, rt_cpi_policy *policy)
{
    memset(policy, 0, sizeof *policy);
    for (int s = 0; s < mdp->states; s++)
        for (int y = 0; y < mdp->actions; y++)
            policy->of[s][y] = 1.0 / mdp->actions;
}

static void solve_backward(const rt_cpi_mdp *mdp, const rt_cpi_policy *policy, rt_cpi_values *out)
{
    for (int s = mdp->states - 1; s >= 0; s--) {
        out->v[s] = 0;
        for (int y = 0; y < mdp->actions; y++) {
            out->q[s][y] = mdp->reward[s][y];
            for (int t = s + 1; t < mdp->states; t++)
                out->q[s][y] += mdp->next[s][y][t] * out->v[t];
            out->v[s] += policy->of[s][y] * out->q[s][y];
        }
    }
}

double rt_cpi_evaluate(const rt_cpi_mdp *mdp, const rt_cpi_policy *policy, rt_cpi_values *values)
{
    rt_cpi_values own;
    rt_cpi_values *out = values ? values : &own;
    solve_backward(mdp, policy, out);
    memset(out->d, 0, sizeof out->d);
    out->d[0] = 1.0 / mdp->horizon;
    for (int s = 0; s < mdp->states; s++)
        for (int y = 0; y < mdp->actions; y++)
            for (int t = s + 1; t < mdp->states; t++)
                out->d[t] += out->d[s] * policy->of[s][y] * mdp->next[s][y][t];
    return out->v[0];
}

double rt_cpi_improvable(const rt_cpi_mdp *mdp, const rt_cpi_values *values, double tau, bool *in)
{
    double share = 0;
    for (int s = 0; s < mdp->states; s++) {
        in[s] = false;
        /* An advantage is a difference of sums over states of values in [0, 1]: with at most 64
           of each it is off by less than 128 roundings of 2^-53, far below 1e-12. */
        for (int y = 0; y < mdp->actions; y++)
            in[s] = in[s] || values->q[s][y] - values->v[s] >= tau - 1e-12;
        if (in[s])
            share += values->d[s];
    }
    return share;
}

void rt_cpi_mix(const rt_cpi_mdp *mdp, const rt_cpi_policy *policy, const int *action,
                const bool *only, double step, rt_cpi_policy *out)
{
    *out = *policy;
    for (int s = 0; s < mdp->states; s++) {
        if (only && !only[s])
            continue;
        for (int y = 0; y < mdp->actions; y++)
            out->of[s][y] = (1 - step) * policy->of[s][y] + (y == action[s] ? step : 0);
    }
}

void rt_cpi_law_init(rt_cpi_law *law, const rt_cpi_mdp *mdp, const rt_cpi_policy *policy,
                     const rt_cpi_values *values, const bool *in)
{
    memset(law, 0, sizeof *law);
    law->mdp = mdp;
    law->policy = policy;
    double share = 0;
    for (int s = 0; s < mdp->states; s++)
        share += !in || in[s] ? values->d[s] : 0;
    for (int s = 0; s < mdp->states; s++) {
        double weight = !in || in[s] ? values->d[s] / share : 0;
        for (int y = 0; y < mdp->actions; y++) {
            law->win[s * mdp->actions + y] = weight / mdp->actions * values->q[s][y];
            law->advantage[s][y] = weight * (values->q[s][y] - values->v[s]);
        }
    }
}

/*
 * Policies choose state by state, so the largest error of any policy is the sum of each state's
 * largest, upwards or downwards.
 */
void rt_cpi_estimate_draw(const rt_cpi_law *law, int64_t samples, rt_cpi_rng *rng,
                          rt_cpi_estimate *out)
{
    const rt_cpi_mdp *mdp = law->mdp;
    int64_t wins[RT_CPI_STATES_MAX * RT_CPI_ACTIONS_MAX];
    rt_cpi_multinomial(rng, samples, law->win, mdp->states * mdp->actions, wins);
    double above = 0, below = 0, scale = (double)mdp->actions / (double)samples;
    out->advantage = 0;
    for (int s = 0; s < mdp->states; s++) {
        const int64_t *won = wins + s * mdp->actions;
        double baseline = 0, high = 0, low = 0, best = 0;
        for (int y = 0; y < mdp->actions; y++)
            baseline += law->policy->of[s][y] * (double)won[y] * scale;
        for (int y = 0; y < mdp->actions; y++) {
            double estimate = (double)won[y] * scale - baseline;
            double off = estimate - law->advantage[s][y];
            high = y == 0 || off > high ? off : high;
            low = y == 0 || off < low ? off : low;
            if (y == 0 || estimate > best) {
                best = estimate;
                out->action[s] = y;
            }
        }
        above += high;
        below -= low;
        out->advantage += best;
    }
    out->error = RT_MAX(above, below);
}
