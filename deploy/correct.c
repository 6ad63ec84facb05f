/* correct: the decisions of iterative correction, a state machine per problem without a model. */
#include "deploy/correct.h"

#include <string.h>

#include "tasks/tasks.h"

enum { QUOTE_BYTES_MIN = 20 };
enum { ORIGIN_UNKNOWN, ORIGIN_CLEAN, ORIGIN_DIRTY };

/* ---- the loop -------------------------------------------------------------------------------- */

void correct_begin(correct_state *state)
{
    *state = (correct_state){.ask = CORRECT_SAMPLE, .place = 1, .oracle = -1};
}

static void leave(correct_state *state, int code)
{
    state->ask = CORRECT_DONE;
    state->exit = code;
}

static void resample(correct_state *state, int place)
{
    state->ask = CORRECT_SAMPLE;
    state->place = place;
    state->iteration++;
}

/* The chain is held to be wrong: what now? */
static void blame(correct_state *state, const correct_settings *settings)
{
    if (settings->control) {
        state->origin = ORIGIN_UNKNOWN;
        resample(state, 1);
    } else {
        state->ask = CORRECT_LOCALIZE;
    }
}

void correct_sampled(correct_state *state, const correct_settings *settings, int places, bool right,
                     int oracle)
{
    RT_ASSERT(state->ask == CORRECT_SAMPLE && places >= 0);
    if (state->iteration == 0)
        state->right_first = right;
    else
        state->counts.turned[state->right][right]++;
    state->places = places;
    state->right = right;
    state->oracle = oracle;
    state->counts.resampled_clean[right] += state->origin == ORIGIN_CLEAN;
    state->counts.resampled_dirty[right] += state->origin == ORIGIN_DIRTY;
    state->origin = ORIGIN_UNKNOWN;
    state->counts.empty += places == 0;
    /* the last resample is returned as it is: a check of it could change nothing any more */
    if (state->iteration >= settings->iterations)
        leave(state, CORRECT_EXHAUSTED);
    else if (settings->level != CORRECT_L3 && right)
        leave(state, CORRECT_VERIFIED);
    else if (places == 0)
        resample(state, 1);
    else if (settings->level == CORRECT_L3)
        state->ask = CORRECT_VERIFY;
    else
        blame(state, settings);
}

void correct_verified(correct_state *state, const correct_settings *settings, bool yes, int place)
{
    RT_ASSERT(state->ask == CORRECT_VERIFY);
    if (yes) {
        state->counts.passed[state->right]++;
        leave(state, CORRECT_VERIFIED);
        return;
    }
    state->counts.flagged[state->right]++;
    blame(state, settings);
    if (place >= 0 && state->ask == CORRECT_LOCALIZE)
        correct_localized(state, settings, place, false);
}

static void compare(correct_state *state, int place)
{
    if (state->oracle == 0)
        state->counts.false_alarms++;
    if (state->oracle <= 0)
        return;
    bool clean = place <= state->oracle;
    state->counts.judged++;
    state->counts.exact += place == state->oracle;
    state->counts.earlier += place < state->oracle;
    state->origin = clean ? ORIGIN_CLEAN : ORIGIN_DIRTY;
}

void correct_localized(correct_state *state, const correct_settings *settings, int place,
                       bool unparsed)
{
    RT_ASSERT(state->ask == CORRECT_LOCALIZE);
    if (place < 0 || place > state->places) {
        place = settings->token ? 1 : RT_MAX(1, state->places / 2);
        unparsed = true;
    }
    state->counts.localizations++;
    state->counts.unparsed += unparsed;
    if (place == 0) {
        leave(state, CORRECT_DISAGREED);
        return;
    }
    compare(state, place);
    resample(state, place);
}

bool correct_returns_first(const correct_state *state, const correct_settings *settings)
{
    return settings->safeguard && state->exit != CORRECT_VERIFIED;
}

/* ---- judgements ------------------------------------------------------------------------------ */

const char *correct_gate_name(int gate)
{
    static const char *const names[CORRECT_GATES] = {"any", "majority", "unanimous"};
    return gate >= 0 && gate < CORRECT_GATES ? names[gate] : NULL;
}

bool correct_passes(int yes, int count, int gate)
{
    RT_ASSERT(count > 0 && yes >= 0 && yes <= count);
    return gate == CORRECT_ANY        ? yes == count
           : gate == CORRECT_MAJORITY ? 2 * yes > count
                                      : yes > 0;
}

int correct_plurality(const int *votes, int count, int places, bool *unparsed)
{
    int best = -1, most = 0;
    for (int i = 0; i < count; i++) {
        int same = 0;
        for (int j = 0; j < count; j++)
            same += votes[j] == votes[i];
        if (votes[i] >= 0 && (same > most || (same == most && votes[i] < best)))
            best = votes[i], most = same;
    }
    *unparsed = most == 0;
    return most > 0 ? best : RT_MAX(1, places / 2);
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* Where `what` begins in `text` + 1; 0: nowhere. */
static size_t find(const char *text, size_t bytes, const char *what, size_t what_bytes, bool exact)
{
    for (size_t i = 0; i + what_bytes <= bytes; i++) {
        size_t same = 0;
        while (same < what_bytes &&
               (exact ? text[i + same] == what[same] : lower(text[i + same]) == lower(what[same])))
            same++;
        if (same == what_bytes)
            return i + 1;
    }
    return 0;
}

/* First text between two double quotes of at least `least` bytes. */
static bool quoted(const char *text, size_t bytes, size_t least, const char **begin, size_t *count)
{
    const char *end = text + bytes;
    for (const char *open = text; open < end; open++) {
        if (*open != '"')
            continue;
        const char *close = memchr(open + 1, '"', (size_t)(end - open - 1));
        if (!close)
            return false;
        if ((size_t)(close - open - 1) >= least) {
            *begin = open + 1;
            *count = (size_t)(close - open - 1);
            return true;
        }
        open = close - 1;
    }
    return false;
}

int correct_quote_parse(const char *text, size_t bytes, const char *chain, size_t chain_bytes,
                        bool *unparsed)
{
    static const char mark[] = "ERROR_QUOTE";
    const char *box, *quote = NULL;
    size_t box_bytes, quote_bytes = 0;
    *unparsed = false;
    if (rt_boxed_last(text, bytes, &box, &box_bytes)) {
        if (find(box, box_bytes, mark, sizeof mark - 1, true)) {
            if (!quoted(box, box_bytes, 1, &quote, &quote_bytes))
                quote = NULL;
        } else if (find(box, box_bytes, "CORRECT", 7, true) == 1 ||
                   find(box, box_bytes, "NO_ERROR", 8, true) == 1) {
            return 0;
        }
    }
    if (!quote && !quoted(text, bytes, QUOTE_BYTES_MIN, &quote, &quote_bytes))
        quote = NULL;
    size_t at = quote ? find(chain, chain_bytes, quote, quote_bytes, true) : 0;
    if (quote && !at)
        at = find(chain, chain_bytes, quote, quote_bytes, false);
    *unparsed = at == 0;
    return (int)RT_MAX(at, 1);
}

int correct_tokens_before(const size_t *token_bytes, int count, size_t at)
{
    size_t end = 0;
    for (int i = 0; i < count; i++) {
        end += token_bytes[i];
        if (end > at)
            return i;
    }
    return count;
}

bool correct_compact_flags(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (text[i] == 'n' && (i + 1 == bytes || text[i + 1] == '\n' || text[i + 1] == '\r'))
            return true;
    return false;
}
