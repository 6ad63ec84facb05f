/*
 * conversation: each turn's prompt as token ids. An agent's history is what it read and sampled, id
 * by id; only the newest message is tokenised, and only its quotes are ever cut.
 */
#include "debate/internal.h"

#include <math.h>
#include <string.h>

enum { COMPACT_ANSWER_BYTES = 32 };

static const char CUT_MARK[] = "[...] ";
static const uint64_t ORDER_SEED = 0x6465626174650001u; /* keeps these streams apart from others */

/* ---- opening -------------------------------------------------------------------------------------- */

static int check_graders(const rt_config *config, rt_error *err)
{
    for (int i = 0; i < config->tasks_count; i++) {
        const char *grader = config->tasks[i].grader;
        if (grader && (!strcmp(grader, "code") || !strcmp(grader, "countdown"))) {
            return rt_fail(err, RT_ERR_USAGE, "task %s: two answers for the grader %s can't be "
                           "compared, so nobody can vote on them; debate another task",
                           config->tasks[i].name, grader);
        }
    }
    return RT_OK;
}

int rt_debate_rules_new(rt_debate_rules **rules, const rt_config *config, const rt_taskset *set,
                        const rt_tokenizer *tokenizer, const rt_chat *chat, int tokens_max,
                        rt_error *err)
{
    int rc = check_graders(config, err);
    if (rc) {
        return rc;
    }
    rt_debate_rules *made = rt_alloc(sizeof *made);
    made->settings = config->algorithm.debate;
    made->seed = (uint64_t)config->run.seed;
    made->set = set;
    made->tokenizer = tokenizer;
    made->chat = chat;
    made->tokens_max = tokens_max;
    const char *question = config->prompts.question, *peers = config->prompts.peers;
    if (question && *question) {
        rc = rt_prompt_load(&made->question, question, "{problem}", err);
    }
    if (!rc && peers && *peers) {
        rc = rt_prompt_load(&made->peers, peers, "{peers}", err);
    }
    if (rc) {
        rt_debate_rules_free(&made);
        return rc;
    }
    *rules = made;
    return RT_OK;
}

void rt_debate_rules_free(rt_debate_rules **rules)
{
    if (*rules) {
        rt_free((*rules)->question);
        rt_free((*rules)->peers);
        rt_free(*rules);
        *rules = NULL;
    }
}

/* ---- turns ---------------------------------------------------------------------------------------- */

rt_debate *rt_debate_new(const rt_debate_settings *settings, uint64_t id, const rt_problem *problem,
                         rt_arena *arena)
{
    rt_debate *debate = rt_arena_alloc(arena, sizeof *debate);
    *debate = (rt_debate){.id = id, .problem = problem, .agents = (int)settings->agents,
                          .rounds = (int)settings->rounds};
    RT_ASSERT(debate->agents >= 1 && debate->agents <= RT_AGENTS_MAX);
    RT_ASSERT(debate->rounds >= 1 && debate->rounds <= RT_ROUNDS_MAX);
    size_t turns = (size_t)debate->agents * (size_t)debate->rounds;
    debate->turns = rt_arena_alloc(arena, turns * sizeof *debate->turns);
    return debate;
}

rt_turn *rt_debate_turn(const rt_debate *debate, int round, int agent)
{
    RT_ASSERT(round >= 0 && round < debate->rounds && agent >= 0 && agent < debate->agents);
    return &debate->turns[round * debate->agents + agent];
}

bool rt_turn_there(const rt_turn *turn)
{
    return turn->ids != NULL;
}

void rt_turn_read(rt_turn *turn, const rt_tokenizer *tokenizer, const char *grader, rt_arena *arena)
{
    rt_buf text = {0};
    double sum = 0;
    for (int i = 0; i < turn->ids_count; i++) {
        if (!rt_tokenizer_is_special(tokenizer, turn->ids[i])) {
            rt_tokenizer_decode(tokenizer, &turn->ids[i], 1, &text);
        }
        sum += turn->logprobs ? (double)turn->logprobs[i] : 0;
    }
    char *copy = rt_arena_alloc(arena, text.bytes + 1);
    if (text.bytes) {
        memcpy(copy, text.data, text.bytes);
    }
    turn->text = copy;
    turn->text_bytes = text.bytes;
    rt_buf_free(&text);
    turn->answer = rt_answer_parse(grader, turn->text, turn->text_bytes, arena);
    bool known = turn->logprobs && turn->ids_count > 0;
    turn->logprob_mean = known ? sum / turn->ids_count : -(double)INFINITY;
}

/* ---- who quotes whom ------------------------------------------------------------------------------- */

void rt_debate_order(uint64_t seed, uint64_t debate, int round, int agent, uint32_t *order,
                     int agents)
{
    const uint64_t words[2] = {debate, (uint64_t)round << 32 | (uint64_t)agent};
    rt_permutation(seed, rt_hash64(words, sizeof words, ORDER_SEED), order, (uint32_t)agents);
}

int rt_debate_quotes(const rt_debate_settings *settings, uint64_t seed, uint64_t debate, int round,
                     int agent, int peers[RT_AGENTS_MAX])
{
    uint32_t order[RT_AGENTS_MAX];
    int agents = (int)settings->agents, count = 0;
    RT_ASSERT(agents >= 1 && agents <= RT_AGENTS_MAX && agent >= 0 && agent < agents);
    if (round == 0) {
        return 0;
    }
    rt_debate_order(seed, debate, round, agent, order, agents);
    for (int i = 0; i < agents && count < settings->peers; i++) {
        if ((int)order[i] != agent) {
            peers[count++] = (int)order[i];
        }
    }
    return count;
}

bool rt_debate_ready(const rt_debate_settings *settings, uint64_t seed, const rt_debate *debate, int round,
                     int agent)
{
    int peers[RT_AGENTS_MAX];
    if (round == 0) {
        return true;
    }
    if (!rt_debate_turn(debate, round - 1, agent)->ids) {
        return false;
    }
    int count = rt_debate_quotes(settings, seed, debate->id, round, agent, peers);
    for (int i = 0; i < count; i++) {
        const rt_turn *turn = rt_debate_turn(debate, round - 1, peers[i]);
        bool condensed = !settings->summaries || turn->text_bytes == 0 || turn->summary;
        if (!turn->ids || !condensed) {
            return false;
        }
    }
    return true;
}

/* ---- the text of a message --------------------------------------------------------------------------- */

typedef struct message {
    const rt_debate_rules *rules;
    const rt_problem *problem;
    const rt_ids *history;                 /* NULL: a conversation begins, question and quotes in one */
    bool quotes;                           /* false: the bare question */
    bool compact;
    struct quote { const char *text; size_t bytes; } quotes_of[RT_AGENTS_MAX];
    int count;
} message;

static bool is_compact(const rt_debate_rules *rules, const rt_problem *problem)
{
    return rt_chat_plain(rules->chat) && !rules->peers
           && rt_taskset_generated(rules->set, problem->task);
}

static bool is_blank(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (!strchr(" \t\r\n\v\f", text[i]) || !text[i]) {
            return false;
        }
    }
    return true;
}

static void add_quote(message *m, const rt_turn *turn, rt_prompt_report *report)
{
    const char *text = turn->text;
    size_t bytes = turn->text_bytes;
    if (m->compact) {
        text = turn->answer;
        bytes = text ? RT_MIN(strlen(text), (size_t)COMPACT_ANSWER_BYTES) : 0;
        bytes = text ? rt_utf8_valid(text, bytes) : 0;
    } else if (m->rules->settings.summaries && turn->summary
               && !is_blank(turn->summary, strlen(turn->summary))) {
        text = turn->summary;
        bytes = strlen(text);
    }
    if (!rt_turn_there(turn) || !text || is_blank(text, bytes)) {
        report->silent++;
        return;
    }
    RT_ASSERT(m->count < RT_AGENTS_MAX);
    m->quotes_of[m->count++] = (struct quote){text, bytes};
    report->quoted++;
}

/* Text inside a template: a NUL would end it there. */
static void add_printable(rt_buf *out, const char *text, size_t bytes, bool one_line)
{
    for (size_t i = 0; i < bytes; i++) {
        bool space = !text[i] || (one_line && (text[i] == '\n' || text[i] == '\r'));
        rt_buf_add(out, space ? " " : &text[i], 1);
    }
}

/* At most the last `limit` bytes, beginning with a whole character. */
static struct quote tail_of(struct quote quote, size_t limit)
{
    size_t skip = quote.bytes > limit ? quote.bytes - limit : 0;
    for (int i = 0; skip && i < 3 && skip < quote.bytes
                    && ((unsigned char)quote.text[skip] & 0xC0) == 0x80; i++) {
        skip++;
    }
    return (struct quote){quote.text + skip, quote.bytes - skip};
}

static void add_quotes(const message *m, size_t limit, rt_buf *out)
{
    if (!m->count) {
        rt_buf_addf(out, "(Nobody gave an answer.)");
    }
    for (int i = 0; i < m->count; i++) {
        struct quote shown = tail_of(m->quotes_of[i], limit);
        rt_buf_addf(out, "%sSolution %d:\n", i ? "\n\n" : "", i + 1);
        if (shown.bytes < m->quotes_of[i].bytes) {
            rt_buf_addf(out, "%s", CUT_MARK);
        }
        add_printable(out, shown.text, shown.bytes, false);
    }
}

static void add_compact(const message *m, size_t limit, rt_buf *out)
{
    rt_buf_addf(out, "P:%s", m->count ? "" : "-");
    for (int i = 0; i < m->count; i++) {
        struct quote shown = tail_of(m->quotes_of[i], limit);
        rt_buf_addf(out, i ? "," : "");
        add_printable(out, shown.text, shown.bytes, true);
    }
    rt_buf_addf(out, "\n");
}

static void add_peers(const message *m, size_t limit, rt_buf *out)
{
    if (m->compact) {
        add_compact(m, limit, out);
        return;
    }
    rt_buf quotes = {0};
    add_quotes(m, limit, &quotes);
    const rt_fill fills[] = {{"{problem}", m->problem->problem}, {"{peers}", quotes.data}};
    rt_prompt_fill(out, m->rules->peers ? m->rules->peers : rt_prompt_text_find("debate_peers"),
                   fills, (int)RT_COUNT(fills));
    rt_buf_free(&quotes);
    if (m->rules->settings.diversity) {
        rt_buf_addf(out, "\n\n%s", rt_prompt_text_find("debate_diversity"));
    }
}

static void add_question(const rt_debate_rules *rules, const rt_problem *problem, rt_buf *out)
{
    if (!rules->question
        && (rt_chat_plain(rules->chat) || rt_taskset_generated(rules->set, problem->task))) {
        rt_buf_addf(out, "%s", problem->prompt);
        return;
    }
    const rt_fill fills[] = {{"{problem}", problem->problem},
                             {"{form}", rt_answer_form(problem->grader)}};
    const char *template = rules->question ? rules->question : rt_prompt_text_find("debate_question");
    rt_prompt_fill(out, template, fills, rules->question ? 1 : 2);
}

const char *rt_debate_question(const rt_debate_rules *rules, const rt_problem *problem, rt_arena *arena)
{
    rt_buf text = {0};
    add_question(rules, problem, &text);
    char *copy = rt_arena_alloc(arena, text.bytes + 1);
    if (text.bytes) {
        memcpy(copy, text.data, text.bytes);
    }
    rt_buf_free(&text);
    return copy;
}

/* The message with quotes of at most `limit` bytes, behind its history. Replaces what out holds. */
static int encode(const message *m, size_t limit, rt_ids *out, rt_error *err)
{
    rt_buf text = {0};
    out->count = 0;
    if (!m->history) {
        add_question(m->rules, m->problem, &text);
        if (m->quotes && !m->compact) {
            bool line = text.bytes && text.data[text.bytes - 1] == '\n';
            rt_buf_addf(&text, line ? "\n" : "\n\n");
        }
    }
    if (m->quotes) {
        add_peers(m, limit, &text);
    }
    for (size_t i = 0; m->history && i < m->history->count; i++) {
        rt_ids_add(out, m->history->items[i]);
    }
    const char *user = text.data ? text.data : "";
    int rc = m->history ? rt_chat_next(m->rules->chat, user, text.bytes, out, err)
                        : rt_chat_open(m->rules->chat, user, text.bytes, out, err);
    rt_buf_free(&text);
    return rc;
}

/* ---- what fits ------------------------------------------------------------------------------------- */

static bool fits(const message *m, const rt_ids *ids)
{
    return ids->count <= (size_t)RT_MAX(m->rules->tokens_max, 0);
}

static void count_cuts(const message *m, size_t limit, rt_prompt_report *report)
{
    for (int i = 0; i < m->count; i++) {
        size_t shown = tail_of(m->quotes_of[i], limit).bytes;
        report->cut += shown < m->quotes_of[i].bytes;
        report->bytes_cut += (int64_t)(m->quotes_of[i].bytes - shown);
    }
}

/* Longest quotes first, down to one length: the largest for which halving finds that it fits. */
static int encode_fitting(const message *m, rt_ids *out, rt_prompt_report *report, rt_error *err)
{
    size_t longest = 0;
    for (int i = 0; i < m->count; i++) {
        longest = RT_MAX(longest, m->quotes_of[i].bytes);
    }
    int rc = encode(m, longest, out, err);
    if (rc || fits(m, out)) {
        return rc;
    }
    size_t low = 0, high = longest; /* low fits (if 0 does), high does not */
    rc = encode(m, 0, out, err);
    if (rc || !fits(m, out) || !longest) {
        return rc ? rc : RT_ERR_LIMIT;
    }
    while (high - low > 1 && !rc) {
        size_t middle = low + (high - low) / 2;
        rc = encode(m, middle, out, err);
        if (fits(m, out)) {
            low = middle;
        } else {
            high = middle;
        }
    }
    rc = rc ? rc : encode(m, low, out, err);
    count_cuts(m, low, report);
    return rc;
}

static int too_long(const rt_debate_rules *rules, const rt_problem *problem, rt_error *err)
{
    return rt_fail(err, RT_ERR_LIMIT, "task %s: a question is longer than the %d tokens that a prompt "
                   "may have; raise model.context or lower sampling.max_tokens", problem->task_name,
                   rules->tokens_max);
}

int rt_debate_context(const rt_debate_rules *rules, const rt_problem *problem,
                      const rt_turn *const *quoted, int count, rt_ids *ids,
                      rt_prompt_report *report, rt_error *err)
{
    *report = (rt_prompt_report){0};
    message m = {.rules = rules, .problem = problem, .quotes = count > 0,
                 .compact = is_compact(rules, problem)};
    for (int i = 0; i < count; i++) {
        add_quote(&m, quoted[i], report);
    }
    rt_ids made = {0};
    int rc = encode_fitting(&m, &made, report, err);
    for (size_t i = 0; !rc && i < made.count; i++) {
        rt_ids_add(ids, made.items[i]);
    }
    rt_ids_free(&made);
    return rc == RT_ERR_LIMIT ? too_long(rules, problem, err) : rc;
}

/* ids = the prompt of round − 1; becomes that of `round`. */
static int advance(const rt_debate_rules *rules, const rt_debate *debate, int round, int agent,
                   rt_ids *ids, rt_prompt_report *report, rt_error *err)
{
    int peers[RT_AGENTS_MAX];
    *report = (rt_prompt_report){0};
    int count = rt_debate_quotes(&rules->settings, rules->seed, debate->id, round, agent, peers);
    message m = {.rules = rules, .problem = debate->problem, .quotes = true,
                 .compact = is_compact(rules, debate->problem)};
    for (int i = 0; i < count; i++) {
        add_quote(&m, rt_debate_turn(debate, round - 1, peers[i]), report);
    }
    const rt_turn *own = rt_debate_turn(debate, round - 1, agent);
    rt_ids made = {0};
    int rc = RT_ERR_LIMIT;
    if (rt_turn_there(own)) {
        for (int i = 0; i < own->ids_count; i++) {
            rt_ids_add(ids, own->ids[i]);
        }
        m.history = ids;
        rc = encode_fitting(&m, &made, report, err);
    }
    if (rc == RT_ERR_LIMIT) {
        m.history = NULL;
        report->anew = true;
        rc = encode_fitting(&m, &made, report, err);
    }
    rt_ids_free(ids);
    *ids = made;
    return rc;
}

int rt_debate_prompt(const rt_debate_rules *rules, const rt_debate *debate, int round, int agent,
                     rt_ids *ids, rt_prompt_report *report, rt_error *err)
{
    rt_ids now = {0};
    *report = (rt_prompt_report){0};
    message m = {.rules = rules, .problem = debate->problem};
    int rc = encode_fitting(&m, &now, report, err);
    for (int r = 1; r <= round && !rc; r++) {
        rc = advance(rules, debate, r, agent, &now, report, err);
    }
    for (size_t i = 0; !rc && i < now.count; i++) {
        rt_ids_add(ids, now.items[i]);
    }
    rt_ids_free(&now);
    return rc == RT_ERR_LIMIT ? too_long(rules, debate->problem, err) : rc;
}

int rt_debate_summary_prompt(const rt_debate_rules *rules, const rt_debate *debate, int round,
                             int agent, rt_ids *ids, rt_error *err)
{
    const rt_turn *turn = rt_debate_turn(debate, round, agent);
    rt_buf shown = {0}, text = {0};
    add_printable(&shown, turn->text, turn->text_bytes, false);
    const rt_fill fills[] = {{"{problem}", debate->problem->problem},
                             {"{peers}", shown.data ? shown.data : ""}};
    rt_prompt_fill(&text, rt_prompt_text_find("debate_summary"), fills, (int)RT_COUNT(fills));
    size_t before = ids->count;
    int rc = rt_chat_open(rules->chat, text.data, text.bytes, ids, err);
    rt_buf_free(&shown);
    rt_buf_free(&text);
    if (!rc && ids->count - before > (size_t)RT_MAX(rules->tokens_max, 0)) {
        ids->count = before;
        rc = rt_fail(err, RT_ERR_LIMIT, "a text to be condensed is longer than the %d tokens that a "
                     "prompt may have", rules->tokens_max);
    }
    return rc;
}
