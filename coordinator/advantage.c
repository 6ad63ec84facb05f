/*
 * advantage: from rewards to advantages. One estimator over a set of trajectories; what the set
 * is (a group, or the whole batch for a batch-mean baseline) is the caller's choice.
 */
#include <math.h>

#include "coordinator/coordinator.h"

static double mean_of(const double *values, int count)
{
    double sum = 0;
    for (int i = 0; i < count; i++) {
        sum += values[i];
    }
    return sum / count;
}

/* Deviation of the rewards around their mean; too few values have none. */
static double deviation_of(const double *values, int count, double mean, int ddof)
{
    if (count - ddof <= 0) {
        return 0;
    }
    double sum = 0;
    for (int i = 0; i < count; i++) {
        sum += (values[i] - mean) * (values[i] - mean);
    }
    return sqrt(sum / (count - ddof));
}

static bool all_equal(const double *values, int count)
{
    for (int i = 1; i < count; i++) {
        if (values[i] != values[0]) {
            return false;
        }
    }
    return true;
}

static void estimate(const rt_advantage_settings *settings, const double *reward, int count,
                     double *advantage)
{
    RT_ASSERT(count >= 0 && settings->std_ddof >= -1 && settings->std_ddof <= 1);
    if (count == 0) {
        return;
    }
    bool centred = settings->baseline != RT_BASELINE_NONE;
    /* Equal rewards say nothing. Decided by comparison: the mean of equal values is not always
     * that value in floating point, and the remainder over a deviation just as small gives ±1. */
    if (centred && all_equal(reward, count)) {
        for (int i = 0; i < count; i++) {
            advantage[i] = 0;
        }
        return;
    }
    double mean = mean_of(reward, count);
    double deviation = deviation_of(reward, count, mean, RT_MAX(settings->std_ddof, 0));
    bool flat = deviation < settings->zero_below;
    double divisor = settings->std_ddof < 0 ? 1 : deviation + settings->std_eps;
    for (int i = 0; i < count; i++) {
        double value = reward[i];
        if (settings->baseline == RT_BASELINE_LEAVE_ONE_OUT) {
            value -= (mean * count - reward[i]) / (count - 1);
        } else if (centred) {
            value -= mean;
        }
        advantage[i] = flat || !(divisor > 0) ? 0 : value / divisor;
    }
}

void rt_advantages(const rt_advantage_settings *settings, const double *reward, int count,
                   double *advantage)
{
    estimate(settings, reward, count, advantage);
}

void rt_advantages_batch(const rt_advantage_settings *settings, const double *reward, int count,
                         double *advantage)
{
    estimate(settings, reward, count, advantage);
}
