/*
 * store_schema: the tables of run.db. Names and columns are a stable form that other programs
 * read; tables that no role fills yet exist all the same.
 */
#include <string.h>

#include "coordinator/internal.h"

static const rt_table_form forms[RT_TABLES] = {
    [RT_TABLE_RUN] = {"run", "key, value", "key TEXT PRIMARY KEY, value TEXT", 2},
    [RT_TABLE_PROBLEMS] = {"problems", "id, task, prompt, gold",
                           "id INTEGER PRIMARY KEY, task TEXT, prompt TEXT, gold TEXT", 4},
    [RT_TABLE_TRAJECTORIES] =
        {"trajectories",
         "id, problem_id, step, group_id, parent_id, reset_id, kind, worker, version, prompt_ids, "
         "response_ids, logprobs, thought_ends, suffix_start, reward, grade, advantage, end, fate",
         "id INTEGER PRIMARY KEY, problem_id INTEGER, step INTEGER, group_id INTEGER, "
         "parent_id INTEGER, reset_id INTEGER, kind TEXT, worker TEXT, version INTEGER, "
         "prompt_ids BLOB, response_ids BLOB, logprobs BLOB, thought_ends BLOB, "
         "suffix_start INTEGER, reward REAL, grade TEXT, advantage REAL, \"end\" TEXT, fate TEXT",
         19},
    [RT_TABLE_GROUPS] = {"groups", "id, problem_id, step, kind, plan",
                         "id INTEGER PRIMARY KEY, problem_id INTEGER, step INTEGER, kind TEXT, "
                         "plan TEXT",
                         5},
    [RT_TABLE_RESETS] = {"resets",
                         "id, trajectory_id, thought, tokens, chosen_by, visits, successes, "
                         "step, problem_id, prefix, oracle, fallback, gain, why",
                         "id INTEGER PRIMARY KEY, trajectory_id INTEGER, thought INTEGER, "
                         "tokens INTEGER, chosen_by TEXT, visits INTEGER, successes INTEGER, "
                         "step INTEGER, problem_id INTEGER, prefix BLOB, oracle INTEGER, "
                         "fallback TEXT, gain REAL, why TEXT",
                         14},
    [RT_TABLE_LOCALIZATIONS] = {"localizations", "id, trajectory_id, output, parsed, oracle",
                                "id INTEGER PRIMARY KEY, trajectory_id INTEGER, output TEXT, "
                                "parsed INTEGER, oracle INTEGER",
                                5},
    [RT_TABLE_DEBATES] = {"debates", "id, problem_id, step, agents, rounds, consensus, votes, "
                          "label, source, enough",
                          "id INTEGER PRIMARY KEY, problem_id INTEGER, step INTEGER, "
                          "agents INTEGER, rounds INTEGER, consensus TEXT, votes INTEGER, "
                          "label TEXT, source TEXT, enough INTEGER",
                          10},
    [RT_TABLE_TURNS] = {"turns", "debate_id, round, agent, trajectory_id, answer, quoted, cut, anew, summary",
                        "debate_id INTEGER, round INTEGER, agent INTEGER, trajectory_id INTEGER, "
                        "answer TEXT, quoted TEXT, cut INTEGER, anew INTEGER, summary TEXT, "
                        "PRIMARY KEY (debate_id, round, agent)",
                        9},
    [RT_TABLE_RECORDS] = {"records", "id, debate_id, kind, agent, chosen, rejected, label, reward, "
                          "prompt_ids",
                          "id INTEGER PRIMARY KEY, debate_id INTEGER, kind TEXT, agent INTEGER, "
                          "chosen INTEGER, rejected INTEGER, label INTEGER, reward REAL, "
                          "prompt_ids BLOB",
                          9},
    [RT_TABLE_METRICS] = {"metrics", "step, name, value",
                          "step INTEGER, name TEXT, value REAL, PRIMARY KEY (step, name)", 3},
    [RT_TABLE_STEPS] = {"steps", "step, version, weights_hash, loss, grad_norm, tokens, seconds",
                        "step INTEGER PRIMARY KEY, version INTEGER, weights_hash TEXT, loss REAL, "
                        "grad_norm REAL, tokens INTEGER, seconds REAL",
                        7},
    [RT_TABLE_WORKERS] = {"workers", "id, incarnation, role, host, joined, left, why",
                          "id TEXT, incarnation INTEGER, role TEXT, host TEXT, joined REAL, "
                          "\"left\" REAL, why TEXT, PRIMARY KEY (id, incarnation)",
                          7},
    [RT_TABLE_LEASES] = {"leases", "id, kind, worker, attempt, issued, ended, fate",
                         "id INTEGER PRIMARY KEY, kind TEXT, worker TEXT, attempt INTEGER, "
                         "issued REAL, ended REAL, fate TEXT",
                         7},
    [RT_TABLE_EVENTS] = {"events", "time, level, role, text",
                         "time REAL, level TEXT, role TEXT, text TEXT", 4},
    [RT_TABLE_FATES] = {"fates", "step, fate", NULL, 2},
};

const rt_table_form *rt_table_form_of(int table)
{
    RT_ASSERT(table >= 0 && table < RT_TABLES);
    return &forms[table];
}

int rt_store_schema(sqlite3 *db, rt_error *err)
{
    rt_buf sql = {0};
    rt_buf_addf(&sql, "BEGIN;");
    for (int i = 0; i < RT_TABLES; i++) {
        if (!forms[i].create) {
            continue;
        }
        rt_buf_addf(&sql, "CREATE TABLE IF NOT EXISTS %s (%s);", forms[i].name, forms[i].create);
    }
    /* What `retake show` asks for: the trajectories of a step, of a problem. */
    rt_buf_addf(&sql,
                "CREATE INDEX IF NOT EXISTS trajectories_step ON trajectories (step);"
                "CREATE INDEX IF NOT EXISTS trajectories_problem ON trajectories (problem_id);"
                "CREATE INDEX IF NOT EXISTS trajectories_reset ON trajectories (reset_id) "
                "WHERE reset_id IS NOT NULL;"
                "CREATE INDEX IF NOT EXISTS records_debate ON records (debate_id);"
                "COMMIT;");
    int code = sqlite3_exec(db, sql.data, NULL, NULL, NULL);
    rt_buf_free(&sql);
    return code == SQLITE_OK
               ? RT_OK
               : rt_fail(err, RT_ERR_IO, "cannot make the tables of the run store: %s",
                         sqlite3_errmsg(db));
}
