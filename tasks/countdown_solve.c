/*
 * countdown_solve: the exact solver. The last operation joins what is made of two parts of the
 * numbers. All values of parts of up to three numbers are listed; of a larger part only one value
 * is ever asked for, the one that the other part needs.
 */
#include "tasks/countdown.h"

#include <string.h>

/* Three numbers: three ways to set one apart, four values of the other two, four operations. */
enum { LISTED = 3, VALUES_MAX = 48, PARTS = 1 << RT_COUNTDOWN_NUMBERS_MAX };

typedef struct search {
    int64_t least, most;
    int counts[PARTS];
    int64_t values[PARTS][VALUES_MAX]; /* of parts of up to LISTED numbers */
    rt_countdown_step *steps;
    int steps_count;
} search;

static bool find(search *s, unsigned part, int64_t target, bool write);

static int size_of(unsigned part)
{
    return __builtin_popcount(part);
}

int64_t rt_countdown_apply(char op, int64_t left, int64_t right)
{
    return op == '+' ? left + right : op == '-' ? left - right : left * right;
}

static bool listed(const search *s, unsigned part, int64_t value)
{
    for (int i = 0; i < s->counts[part]; i++) {
        if (s->values[part][i] == value) {
            return true;
        }
    }
    return false;
}

static void list_value(search *s, unsigned part, int64_t value)
{
    if (value >= s->least && value <= s->most && !listed(s, part, value)) {
        RT_ASSERT(s->counts[part] < VALUES_MAX);
        s->values[part][s->counts[part]++] = value;
    }
}

/* Parts are numbers of bits: those within a part are smaller, so that they are listed before it. */
static void list_part(search *s, unsigned part)
{
    for (unsigned one = (part - 1) & part; one > 0; one = (one - 1) & part) {
        unsigned other = part ^ one;
        for (int i = 0; i < s->counts[one]; i++) {
            for (int k = 0; k < s->counts[other]; k++) {
                int64_t a = s->values[one][i], b = s->values[other][k];
                if (one > other) { /* each pair of parts once */
                    list_value(s, part, a + b);
                    list_value(s, part, a * b);
                }
                list_value(s, part, a - b);
            }
        }
    }
}

/* Is `left op right` a way to the target, where one of both is made of `known` and equals `value`?
 */
static bool join(search *s, unsigned known, int64_t value, unsigned asked, rt_countdown_step step,
                 bool known_left, bool write)
{
    int64_t other = known_left ? step.right : step.left;
    if (!find(s, asked, other, false)) {
        return false;
    }
    if (write) {
        bool both = find(s, known, value, true) && find(s, asked, other, true);
        RT_ASSERT(both);
        s->steps[s->steps_count++] = step;
    }
    return true;
}

/* Value a is made of one part: what must the other part be? */
static bool with(search *s, unsigned one, int64_t a, unsigned other, int64_t t, bool write)
{
    if (join(s, one, a, other, (rt_countdown_step){a, t - a, t, '+'}, true, write) ||
        join(s, one, a, other, (rt_countdown_step){a, a - t, t, '-'}, true, write) ||
        join(s, one, a, other, (rt_countdown_step){t + a, a, t, '-'}, false, write)) {
        return true;
    }
    if (a != 0) {
        return t % a == 0 &&
               join(s, one, a, other, (rt_countdown_step){a, t / a, t, '*'}, true, write);
    }
    /* Anything times 0: the sum of the numbers will do. */
    int64_t sum = 0;
    for (unsigned bit = 1; bit <= other; bit <<= 1) {
        sum += other & bit ? s->values[bit][0] : 0;
    }
    return t == 0 && join(s, one, a, other, (rt_countdown_step){0, sum, 0, '*'}, true, write);
}

static bool find(search *s, unsigned part, int64_t target, bool write)
{
    int size = size_of(part);
    if (target < s->least || target > s->most || (size <= LISTED && !listed(s, part, target))) {
        return false;
    }
    if (size == 1 || (size <= LISTED && !write)) {
        return true;
    }
    for (unsigned one = (part - 1) & part; one > 0; one = (one - 1) & part) {
        if (2 * size_of(one) > size) {
            continue;
        }
        for (int i = 0; i < s->counts[one]; i++) {
            if (with(s, one, s->values[one][i], part ^ one, target, write)) {
                return true;
            }
        }
    }
    return false;
}

bool rt_countdown_solve(const int64_t *numbers, int count, int64_t target, int64_t least,
                        int64_t most, rt_countdown_step *steps)
{
    RT_ASSERT(count >= 1 && count <= RT_COUNTDOWN_NUMBERS_MAX);
    search s;
    s.least = least;
    s.most = most;
    s.steps = steps;
    s.steps_count = 0;
    memset(s.counts, 0, sizeof s.counts);
    unsigned all = (1u << count) - 1;
    for (unsigned part = 1; part <= all; part++) {
        if (size_of(part) == 1) {
            list_value(&s, part, numbers[__builtin_ctz(part)]);
        } else if (size_of(part) <= LISTED) {
            list_part(&s, part);
        }
    }
    /* A number outside of least and most is nowhere listed. */
    for (int i = 0; i < count; i++) {
        if (!s.counts[1u << i]) {
            return false;
        }
    }
    return find(&s, all, target, steps != NULL);
}
