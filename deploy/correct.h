/*
 * Iterative correction (Thought-ICS): sample a chain, verify it, name its first wrong thought, go
 * back to just before it and sample on. This part decides what comes next and knows no model;
 * correct_run.h drives many problems through an engine.
 */
#ifndef RT_CORRECT_H
#define RT_CORRECT_H

#include "base/base.h"

/* Who says that a chain is wrong, and what the localizer is told: */
enum correct_level {
    CORRECT_L1 = 1, /* the gold answer decides; the localizer sees it */
    CORRECT_L2, /* the gold answer decides; the localizer is told only that the chain is wrong */
    CORRECT_L3, /* the model itself; the gold answer plays no part */
};

enum { CORRECT_VOTES_MAX = 256, CORRECT_ITERATIONS_MAX = 1000 };

/* How many of several verifications must say no for a chain to be held to be wrong. */
enum correct_gate { CORRECT_ANY, CORRECT_MAJORITY, CORRECT_UNANIMOUS, CORRECT_GATES };

typedef struct correct_settings {
    int level;        /* enum correct_level */
    int iterations;   /* resamples at most */
    int votes;        /* localizations of which the most common place is taken */
    int verifications; /* of a chain, L3 only */
    int gate;          /* enum correct_gate */
    bool incremental; /* thoughts are judged one by one, up to the first wrong one */
    bool token;       /* Token-ICS: no thoughts, the localizer quotes, places are bytes */
    bool safeguard;   /* exits 2 and 3 give the first answer back */
    bool control;     /* no localization: every resample starts over, at the same temperature */
    bool as_released; /* verification without a complete box is NO */
} correct_settings;

enum correct_ask { CORRECT_SAMPLE, CORRECT_VERIFY, CORRECT_LOCALIZE, CORRECT_DONE };
enum correct_exit {
    CORRECT_OPEN,
    CORRECT_VERIFIED,  /* exit 1 */
    CORRECT_DISAGREED, /* exit 2: the verifier says no, the localizer finds no error */
    CORRECT_EXHAUSTED, /* exit 3: no resample is left */
};

/* Two-way counts: [wrong, right]. */
typedef struct correct_counts {
    int64_t localizations, unparsed; /* unparsed: the fallback place was taken */
    int64_t judged; /* localizations of a chain whose first wrong thought is known */
    int64_t exact, earlier;
    int64_t false_alarms; /* localizations of a chain without a wrong thought */
    int64_t resampled_clean[2], resampled_dirty[2]; /* chains after them, by outcome */
    int64_t passed[2], flagged[2];                  /* own verification, by what the chain was */
    int64_t turned[2][2]; /* resamples: what the chain was, what it became */
    int64_t empty;        /* chains without a thought: sampled anew, nothing to judge */
} correct_counts;

/* One problem. `place`: the thought (from 1) that is sampled next, what is before it stays. */
typedef struct correct_state {
    int ask, exit, place;
    int iteration; /* resamples begun */
    int places;    /* thoughts of the chain at hand */
    int oracle;    /* its first wrong thought, 0 none, −1 unknown */
    bool right, right_first;
    int origin; /* place the chain at hand was sampled from: 0 unknown, 1 clean, 2 dirty */
    correct_counts counts;
} correct_state;

/* Asks for CORRECT_SAMPLE at place 1. */
void correct_begin(correct_state *state);
/* Answer to CORRECT_SAMPLE: a chain of `places` thoughts (Token-ICS: bytes). `right` decides at L1
 * and L2 and is only counted at L3. */
void correct_sampled(correct_state *state, const correct_settings *settings, int places, bool right,
                     int oracle);
/* Answer to CORRECT_VERIFY (L3 only). place ≥ 0: the same judgement also named the first wrong
 * thought; −1: ask for it. Only yes = true ends the loop as verified. */
void correct_verified(correct_state *state, const correct_settings *settings, bool yes, int place);
/* Answer to CORRECT_LOCALIZE: 0 = no error; a place beyond the chain counts as unparsed. */
void correct_localized(correct_state *state, const correct_settings *settings, int place,
                       bool unparsed);
/* The answer that is returned: the chain at hand, or with the safeguard perhaps the first one. */
bool correct_returns_first(const correct_state *state, const correct_settings *settings);

const char *correct_gate_name(int gate); /* NULL beyond the last */
/* Does a chain pass, of whose `count` verifications so many say yes? Half is no majority of yes. */
bool correct_passes(int yes, int count, int gate);

/* Most common of the votes; −1 = unparseable, has no vote; of equals the earliest place. No vote at
 * all: the middle of the chain and *unparsed. */
int correct_plurality(const int *votes, int count, int places, bool *unparsed);

/* Where a quoting localizer puts the error: 0 = none, else 1 + the byte of the quote in `chain`.
 * The quote is the last box's ERROR_QUOTE, else the first quoted text of 20 bytes or more; found
 * exactly, else with ASCII case ignored. Not found: 1 and *unparsed. */
int correct_quote_parse(const char *text, size_t bytes, const char *chain, size_t chain_bytes,
                        bool *unparsed);
/* How many tokens of the sizes given lie wholly before byte `at`: what stays in front of a quote.
 */
int correct_tokens_before(const size_t *token_bytes, int count, size_t at);
/* A compact judgement copies each line with y or n behind it: is there an n? */
bool correct_compact_flags(const char *text, size_t bytes);

#endif
