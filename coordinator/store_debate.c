/*
 * store_debate: the batch of a step of debates, made once more from run.db: its texts and records
 * are read back and go through what made the batch of the run (debate_lessons.c, batch.c).
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "coordinator/debates.h"

typedef struct reader {
    sqlite3 *db;
    const rt_config *config;
    int64_t step;
    rt_arena *arena;
    rt_plan plan;
    rt_debate_plan debates;
    rt_job *jobs; /* (count) of one sample each, by id */
    int count;
    rt_error *err;
} reader;

static int prepare(const reader *r, const char *sql, sqlite3_stmt **query)
{
    if (sqlite3_prepare_v2(r->db, sql, -1, query, NULL) != SQLITE_OK) {
        return rt_fail(r->err, RT_ERR_IO, "cannot read run.db: %s", sqlite3_errmsg(r->db));
    }
    sqlite3_bind_int64(*query, 1, r->step);
    return RT_OK;
}

static void *blob(const reader *r, sqlite3_stmt *query, int column, size_t *count)
{
    size_t bytes = (size_t)sqlite3_column_bytes(query, column);
    void *copy = rt_arena_alloc(r->arena, bytes + 1);
    if (bytes > 0) {
        memcpy(copy, sqlite3_column_blob(query, column), bytes);
    }
    *count = bytes / sizeof(int32_t);
    return copy;
}

/* ---- texts ----------------------------------------------------------------------------------- */

static int read_text(const reader *r, sqlite3_stmt *query, rt_job *job)
{
    size_t tokens = 0, known = 0;
    rt_sample *sample = rt_arena_alloc(r->arena, sizeof *sample);
    *job = (rt_job){.kind = RT_KIND_DEBATE, .count = 1, .samples = sample,
                    .first = (uint64_t)sqlite3_column_int64(query, 0),
                    .version = sqlite3_column_int64(query, 1),
                    .problem = (uint64_t)sqlite3_column_int64(query, 5)};
    job->task = rt_problem_task(job->problem);
    job->prompt_ids = blob(r, query, 2, &job->prompt_count);
    *sample = (rt_sample){.id = job->first, .kind = RT_KIND_DEBATE, .group = -1,
                          .reward = sqlite3_column_double(query, 6)};
    sample->ids = blob(r, query, 3, &tokens);
    sample->logp = blob(r, query, 4, &known);
    sample->tokens = (uint32_t)tokens;
    if (job->prompt_count == 0 || tokens != known) {
        return rt_fail(r->err, RT_ERR_INPUT, "the row of trajectory %" PRIu64 " is damaged", job->first);
    }
    return RT_OK;
}

static int read_texts(reader *r)
{
    sqlite3_stmt *query = NULL;
    int code = SQLITE_ROW, rc = prepare(r, "SELECT id, version, prompt_ids, response_ids, logprobs, "
                                           "problem_id, reward, count(*) OVER () FROM trajectories "
                                           "WHERE id >> 24 = ? AND kind = 'debate' ORDER BY id", &query);
    while (!rc && (code = sqlite3_step(query)) == SQLITE_ROW) {
        if (!r->jobs) {
            size_t rows = (size_t)sqlite3_column_int64(query, 7);
            r->jobs = rt_arena_alloc(r->arena, rows * sizeof *r->jobs);
        }
        rc = read_text(r, query, &r->jobs[r->count++]);
    }
    if (!rc && code != SQLITE_DONE) {
        rc = rt_fail(r->err, RT_ERR_IO, "cannot read run.db: %s", sqlite3_errmsg(r->db));
    }
    sqlite3_finalize(query);
    return rc;
}

static rt_job *find_text(const reader *r, uint64_t id)
{
    int low = 0, high = r->count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (r->jobs[middle].first < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < r->count && r->jobs[low].first == id ? &r->jobs[low] : NULL;
}

/* ---- records --------------------------------------------------------------------------------- */

static int missing(const reader *r, uint64_t id)
{
    return rt_fail(r->err, RT_ERR_INPUT, "run.db has a record of trajectory %" PRIu64
                   " and not its text", id);
}

/* The turn that a record names; NULL: it names none. */
static int find_turn(const reader *r, rt_debate_entry *entry, sqlite3_stmt *query, int column,
                     const rt_turn **turn)
{
    *turn = NULL;
    if (sqlite3_column_type(query, column) == SQLITE_NULL) {
        return RT_OK;
    }
    uint64_t id = (uint64_t)sqlite3_column_int64(query, column), number = id - entry->debate->id;
    rt_job *job = find_text(r, id);
    int agents = entry->debate->agents;
    if (!job || number >= (uint64_t)(agents * entry->debate->rounds)) {
        return missing(r, id);
    }
    job->adapter = rt_agent_adapter(r->config, (int)number % agents);
    entry->turns[number] = job;
    rt_turn *found = &entry->debate->turns[number];
    found->trajectory = id;
    *turn = found;
    return RT_OK;
}

/* The new answers that were sampled for a record, as one job again. */
static int find_online(const reader *r, rt_debate_entry *entry, int index, int agent)
{
    const rt_debate_settings *settings = &r->config->algorithm.debate;
    int samples = (int)r->config->algorithm.samples;
    uint64_t turns = (uint64_t)(settings->agents * settings->rounds);
    uint64_t first = entry->debate->id + turns * (settings->summaries ? 2 : 1) + (uint64_t)(agent * samples);
    rt_job *job = find_text(r, first);
    for (int i = 0; i < samples; i++) {
        if (!find_text(r, first + (uint64_t)i)) {
            return missing(r, first + (uint64_t)i);
        }
    }
    rt_job *whole = entry->online[index] = rt_arena_alloc(r->arena, sizeof *whole);
    *whole = *job;
    whole->count = samples;
    whole->adapter = rt_agent_adapter(r->config, agent);
    whole->samples = rt_arena_alloc(r->arena, (size_t)samples * sizeof *whole->samples);
    for (int i = 0; i < samples; i++) {
        whole->samples[i] = job[i].samples[0]; /* ids follow one another, and jobs are by id */
    }
    return RT_OK;
}

static int records_max(const reader *r) /* of a debate: pairs of its agents at most */
{
    return (int)(r->config->algorithm.debate.agents * r->config->algorithm.debate.agents);
}

static int read_record(const reader *r, rt_debate_entry *entry, sqlite3_stmt *query)
{
    size_t count = 0;
    if (entry->records.count == records_max(r)) {
        return rt_fail(r->err, RT_ERR_INPUT, "debate %" PRIu64 " has more records than its agents can make",
                       entry->debate->id);
    }
    rt_debate_record *record = &entry->records.items[entry->records.count];
    *record = (rt_debate_record){.kind = r->config->algorithm.debate.record, .debate = entry->debate->id,
                                 .agent = sqlite3_column_int(query, 1), .rejected_agent = -1,
                                 .desirable = sqlite3_column_int(query, 4) != 0,
                                 .reward = sqlite3_column_double(query, 5)};
    record->prompt = blob(r, query, 6, &count);
    record->prompt_count = (int)count;
    if (count == 0 || record->agent < 0 || record->agent >= entry->debate->agents) {
        return rt_fail(r->err, RT_ERR_INPUT, "a record of debate %" PRIu64 " is damaged", entry->debate->id);
    }
    int rc = find_turn(r, entry, query, 2, &record->chosen);
    rc = rc ? rc : find_turn(r, entry, query, 3, &record->rejected);
    if (!rc && !record->chosen) {
        rc = find_online(r, entry, entry->records.count, record->agent);
    }
    entry->records.count++;
    return rc;
}

/* The last debate, or one more; NULL: there are more than a step has. */
static rt_debate_entry *entry_of(reader *r, uint64_t id)
{
    rt_debate_plan *debates = &r->debates;
    rt_debate_entry *last = debates->count > 0 ? &debates->entries[debates->count - 1] : NULL;
    if (last && last->debate->id == id) {
        return last;
    }
    if (debates->count == r->config->algorithm.problems) {
        rt_fail(r->err, RT_ERR_INPUT, "run.db has more debates of step %" PRId64 " than config.yaml asks for",
                r->step);
        return NULL;
    }
    rt_debate_entry *entry = &debates->entries[debates->count++];
    entry->debate = rt_debate_new(&r->config->algorithm.debate, id, &entry->problem, r->arena);
    entry->records.items = rt_arena_alloc(r->arena, (size_t)records_max(r) * sizeof *entry->records.items);
    return entry;
}

/* In the order in which the run made them: by debate, then by place. */
static int read_records(reader *r)
{
    sqlite3_stmt *query = NULL;
    int code = SQLITE_ROW, rc = prepare(r, "SELECT debate_id, agent, chosen, rejected, label, reward, "
                                           "prompt_ids FROM records "
                                           "WHERE debate_id >> 24 = ? ORDER BY id", &query);
    while (!rc && (code = sqlite3_step(query)) == SQLITE_ROW) {
        rt_debate_entry *entry = entry_of(r, (uint64_t)sqlite3_column_int64(query, 0));
        rc = entry ? read_record(r, entry, query) : RT_ERR_INPUT;
    }
    if (!rc && code != SQLITE_DONE) {
        rc = rt_fail(r->err, RT_ERR_IO, "cannot read run.db: %s", sqlite3_errmsg(r->db));
    }
    sqlite3_finalize(query);
    return rc;
}

/* ---- the batch ------------------------------------------------------------------------------- */

static void keep(const reader *r, const rt_batch *batch, rt_stored_step *out)
{
    const int32_t *ids = batch->ids;
    const float *logp = batch->logp;
    out->count = (int)batch->message.n_sequences;
    out->sequences = rt_arena_alloc(r->arena, ((size_t)out->count + 1) * sizeof *out->sequences);
    for (int i = 0; i < out->count; i++) {
        const Retake__Sequence *q = batch->pointers[i];
        size_t tokens = q->prompt_tokens + q->response_tokens;
        int32_t *own_ids = rt_arena_alloc(r->arena, tokens * sizeof *own_ids);
        float *own_logp = rt_arena_alloc(r->arena, (q->response_tokens + 1) * sizeof *own_logp);
        memcpy(own_ids, ids, tokens * sizeof *own_ids);
        memcpy(own_logp, logp, q->response_tokens * sizeof *own_logp);
        ids += tokens;
        logp += q->response_tokens;
        out->sequences[i] = (rt_stored_sequence){.id = q->trajectory, .version = q->weights_version,
                                                 .ids = own_ids, .logprobs = q->unsampled ? NULL : own_logp,
                                                 .prompt_tokens = (int)q->prompt_tokens,
                                                 .response_tokens = (int)q->response_tokens,
                                                 .suffix_start = (int)q->suffix_start, .task = (int)q->task,
                                                 .problem = q->problem,
                                                 .advantage = q->advantage, .adapter = (int)q->adapter,
                                                 .rejected = (int)q->rejected};
    }
}

int rt_store_lessons(sqlite3 *db, const rt_config *config, int64_t step, rt_arena *arena,
                     rt_stored_step *out, rt_error *err)
{
    reader r = {.db = db, .config = config, .step = step, .arena = arena, .err = err};
    size_t problems = (size_t)config->algorithm.problems;
    r.debates.entries = rt_arena_alloc(arena, problems * sizeof *r.debates.entries);
    r.plan = (rt_plan){.step = step, .arena = arena, .debates = &r.debates};
    int rc = read_texts(&r);
    rc = rc ? rc : read_records(&r);
    if (!rc) {
        rt_batch batch;
        rt_lessons_make(config, &r.plan);
        rt_batch_build(&batch, &r.plan, step, false);
        keep(&r, &batch, out);
        rt_batch_free(&batch);
    }
    return rc;
}
