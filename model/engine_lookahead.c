/*
 * Engine: tokens guessed ahead. A text that repeats what stands before it, a judgement that reads a
 * solution line by line for one, is guessed to go on as that did: the guesses are computed in the same
 * step as the token before them, as rows of one block, and kept as far as sampling agrees. What it puts
 * in between, a verdict behind each line, is guessed to come at the same token, to begin alike and to be
 * as long as the last time. A row's bits do not depend on its batch, so the result is the same; only the
 * steps are fewer.
 */
#include "model/engine_internal.h"

enum {
    MATCH_TOKENS = 3, /* so many alike begin a repetition */
    STRAY_TOKENS = 16, /* inserted tokens after which its place is given up */
    REACH_FIRST = 4,
    TRIED_TOKENS = 32, /* guesses after which half of them must have been right */
};

static int32_t token_at(const rt_slot *slot, int i)
{
    const rt_request *r = slot->request;
    return i < r->prefix_count ? r->prefix[i] : slot->c.ids[i - r->prefix_count];
}

static int tokens_of(const rt_slot *slot)
{
    return slot->request->prefix_count + slot->c.ids_count;
}

void rt_lookahead_start(rt_slot *slot)
{
    slot->place = -1;
    slot->strayed = slot->guesses = slot->guessed = slot->right = 0;
    slot->inserted = 0;
    slot->reach = REACH_FIRST;
}

/* Behind the latest earlier copy of the text's last tokens; −1: there is none. */
static int find_place(const rt_slot *slot)
{
    int count = tokens_of(slot);
    for (int end = count - 1; end >= MATCH_TOKENS; end--) {
        int same = 0;
        while (same < MATCH_TOKENS &&
               token_at(slot, end - 1 - same) == token_at(slot, count - 1 - same))
            same++;
        if (same == MATCH_TOKENS)
            return end;
    }
    return -1;
}

void rt_lookahead_push(rt_slot *slot)
{
    int32_t token = token_at(slot, tokens_of(slot) - 1);
    if (slot->place >= 0 && token_at(slot, slot->place) == token) {
        slot->inserted = slot->strayed > 0 ? slot->strayed : slot->inserted;
        slot->place++;
        slot->strayed = 0;
        return;
    }
    slot->strayed++;
    if (slot->place >= 0 && slot->strayed == 1) {
        slot->insert_at = token_at(slot, slot->place);
        slot->insert_first = token;
    }
    if (slot->place >= 0 && slot->strayed <= STRAY_TOKENS)
        return;
    slot->place = find_place(slot);
    slot->strayed = slot->inserted = 0;
}

int rt_lookahead_guess(rt_slot *slot)
{
    const rt_request *r = slot->request;
    slot->guesses = 0;
    if (r->sampling.lookahead <= 0 || slot->place < 0 ||
        (slot->strayed > 0 && slot->strayed != slot->inserted) ||
        (slot->guessed >= TRIED_TOKENS && 2 * slot->right < slot->guessed))
        return 0;
    int most = RT_MIN(RT_MIN(r->sampling.lookahead, RT_LOOKAHEAD_MAX), slot->reach);
    most = RT_MIN(most, r->max_new - slot->c.ids_count - 1); /* pages are promised up to there */
    most = RT_MIN(most, tokens_of(slot) - slot->place);
    bool inserts = false;
    for (int i = 0; i < most && !inserts; i++) {
        int32_t token = token_at(slot, slot->place + i);
        inserts = slot->inserted > 0 && token == slot->insert_at && (i > 0 || slot->strayed == 0);
        slot->feed[++slot->guesses] = inserts ? slot->insert_first : token;
    }
    slot->guessed += slot->guesses;
    return slot->guesses;
}

void rt_lookahead_outcome(rt_slot *slot, int right)
{
    if (slot->guesses == 0)
        return;
    slot->right += right;
    slot->reach = right == slot->guesses ? RT_MIN(2 * slot->reach, RT_LOOKAHEAD_MAX) : right + 1;
}
