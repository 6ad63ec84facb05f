#!/bin/sh
# Asynchronous: actors may be one version behind, never more, and every trajectory says which it was.
. tests/e2e/lib.sh
steps=12
make_config $steps
run late --set run.staleness=1 || fail "exit code $?"
same "$(field "$work/late.json" steps)" $steps "steps"
same "$(field "$work/late.json" logprob.mismatched)" 0 "log-probs that differ"
same "$(query "$work/late" "SELECT count(*) FROM trajectories WHERE kind = 'base' AND fate = 'trained'")" \
    $((steps * 16)) "trajectories trained on"
same "$(query "$work/late" "SELECT count(*) FROM trajectories WHERE kind = 'base' AND version IS NULL")" 0 \
    "trajectories without a version"
same "$(query "$work/late" "SELECT count(*) FROM trajectories
    WHERE kind = 'base' AND fate = 'trained' AND (version > step OR version < step - 1)")" 0 \
    "trajectories outside the bound"
behind=$(query "$work/late" "SELECT count(*) FROM trajectories WHERE kind = 'base' AND version < step")
[ "$behind" -ge 1 ] || fail "staleness 1, but every trajectory is of the newest version"
say "ok: $behind of $((steps * 16)) trajectories one version behind, none more"

run sync || fail "synchronous: exit code $?"
same "$(query "$work/sync" "SELECT count(*) FROM trajectories WHERE kind = 'base' AND version <> step")" 0 \
    "synchronous trajectories of another version"
say "ok: synchronous trajectories are all of the newest version"

# The bound holds through crashes.
start killed --set run.staleness=1
if wait_step killed $(($(random 4) + 1)); then
    victim=$(role_process "$work/killed" learner) && kill -9 "$victim" 2>/dev/null
fi
wait "$started"
same $? 0 "exit code with a killed learner"
same "$(field "$work/killed.json" steps)" $steps "steps with a killed learner"
same "$(field "$work/killed.json" logprob.mismatched)" 0 "log-probs that differ with a killed learner"
same "$(query "$work/killed" "SELECT count(*) FROM trajectories
    WHERE kind = 'base' AND fate = 'trained' AND (version > step OR version < step - 1)")" 0 \
    "trajectories outside the bound with a killed learner"
say "ok: the bound holds with a killed learner"
