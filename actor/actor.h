/*
 * actor: the rollout worker. Connects to the coordinator, fetches weights, takes leases as long as
 * it has free slots, generates thought by thought, grades, sends results. Crash-only: it holds
 * nothing that matters.
 *
 * Threading: a loop thread (sockets, timers) and a compute thread (engine), joined before return.
 */
#ifndef RT_ACTOR_H
#define RT_ACTOR_H

#include "base/base.h"
#include "base/config.h"

/* role: "actor", or "debate" for a worker that takes turns of debates while actors are there.
 * Runs until the coordinator says stop (0), SIGINT/SIGTERM (RT_ERR_STOPPED), is refused (RT_ERR_PEER
 * with its reason), or has not reached a coordinator for `unreachable_ms` (RT_ERR_PEER). name: "actor-0". */
int rt_actor_run(const rt_config *config, const char *role, const char *name, const rt_log *log,
                 int64_t unreachable_ms, rt_error *err);

#endif
