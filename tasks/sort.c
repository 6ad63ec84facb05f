/*
 * sort: a list of different small numbers, sorted by selection. A thought names the smallest number
 * and what is left ("1:5,3,8"); the answer is the sorted list. The teacher errs on pairs of
 * numbers: it takes the greater of the two smallest.
 */
#include "tasks/puzzle.h"

#include <string.h>

enum {
    NUMBERS_MAX = RT_PUZZLE_THOUGHTS_MAX,
    MODULUS_MAX = 1000
}; /* one thought less than numbers */

static const char *refuses(const rt_puzzle *puzzle)
{
    return puzzle->modulus <= puzzle->thoughts_max
               ? "modulus must be above thoughts_max, else a list has no different numbers"
               : NULL;
}

static void print_list(const int *numbers, int count, char *out, size_t bytes)
{
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; i < count && used < bytes; i++) {
        used += (size_t)snprintf(out + used, bytes - used, i ? ",%d" : "%d", numbers[i]);
    }
}

static bool draw(const rt_puzzle *puzzle, int thoughts, rt_dice *dice, rt_buf *text)
{
    int pool[MODULUS_MAX];
    for (int i = 0; i < puzzle->modulus; i++) {
        pool[i] = i;
    }
    for (int i = 0; i <= thoughts; i++) {
        int at = i + rt_dice_below(dice, puzzle->modulus - i), number = pool[at];
        pool[at] = pool[i];
        rt_buf_addf(text, i ? ",%d" : "%d", number);
    }
    return true;
}

static bool parse(const char *text, int *numbers, int *count)
{
    *count = rt_read_list(&text, numbers, NUMBERS_MAX);
    return *count >= 2 && !*text;
}

static int smallest(const int *numbers, int count, int above)
{
    int found = -1;
    for (int i = 0; i < count; i++) {
        if (numbers[i] > above && (found < 0 || numbers[i] < numbers[found])) {
            found = i;
        }
    }
    return found;
}

static void take(int *numbers, int *count, int at)
{
    --*count;
    memmove(numbers + at, numbers + at + 1, (size_t)(*count - at) * sizeof *numbers);
}

static bool teach(const char *text, rt_slips *slips, rt_puzzle_lines *lines)
{
    int left[NUMBERS_MAX], sorted[NUMBERS_MAX], count, taken = 0;
    if (!parse(text, left, &count)) {
        return false;
    }
    lines->count = 0;
    while (count > 1) {
        int at = smallest(left, count, -1), next = smallest(left, count, left[at]);
        if (next >= 0) {
            char fact[32];
            uint32_t which;
            snprintf(fact, sizeof fact, "%d<%d", left[at], left[next]);
            at = rt_slips_now(slips, taken, fact, &which) ? next : at;
        }
        sorted[taken++] = left[at];
        take(left, &count, at);
        char *line = lines->text[lines->count++];
        int head = snprintf(line, RT_PUZZLE_LINE_MAX, "%d:", sorted[taken - 1]);
        print_list(left, count, line + head, (size_t)(RT_PUZZLE_LINE_MAX - head));
    }
    sorted[taken++] = left[0];
    print_list(sorted, taken, lines->answer, sizeof lines->answer);
    return true;
}

static bool same_numbers(const int *a, const int *b, int count)
{
    for (int i = 0; i < count; i++) {
        int more = 0;
        for (int k = 0; k < count; k++) {
            more += (a[k] == a[i]) - (b[k] == a[i]);
        }
        if (more) {
            return false;
        }
    }
    return true;
}

/* What is left may stand in any order: that is no error. */
static int first_wrong(const char *text, const rt_puzzle_said *said, int count)
{
    int left[NUMBERS_MAX], stated[NUMBERS_MAX], size, least;
    rt_puzzle_lines right;
    rt_slips none = {0};
    if (!teach(text, &none, &right) || !parse(text, left, &size)) {
        return -1;
    }
    for (int i = 0; i < count; i++) {
        const char *line = said[i].line;
        int at = smallest(left, size, -1);
        if (size < 2 || !rt_read_number(&line, &least) || *line++ != ':' || least != left[at]) {
            return i + 1;
        }
        take(left, &size, at);
        if (rt_read_list(&line, stated, NUMBERS_MAX) != size || *line ||
            !same_numbers(left, stated, size) ||
            (said[i].boxed && (size > 1 || strcmp(said[i].box, right.answer)))) {
            return i + 1;
        }
    }
    return 0;
}

const rt_puzzle_kind rt_puzzle_sort = {
    .name = "sort",
    .grader = "exact",
    .thoughts_most = NUMBERS_MAX - 1,
    .modulus_most = MODULUS_MAX,
    .refuses = refuses,
    .draw = draw,
    .teach = teach,
    .first_wrong = first_wrong,
};
