#!/bin/sh
# Actors come and go: one that joins in mid-run gets work, one that leaves gives its leases back.
. tests/e2e/lib.sh
steps=30
make_config $steps
run calm || fail "the undisturbed run: exit code $?"
hash=$(field "$work/calm.json" weights_hash)

start guest --set actors.count=1
wait_step guest 1 || fail "the run ended before an actor could join"
"$RETAKE" actor "$work/guest/config.yaml" --run "$work/guest" --name visitor 2>"$work/visitor.err" &
visitor=$!
tries=0
until [ "$(query "$work/guest" "SELECT count(*) FROM leases WHERE worker = 'visitor' AND fate IS NOT NULL" \
    2>/dev/null)" -ge 1 ] 2>/dev/null; do
    tries=$((tries + 1))
    [ $tries -lt 200 ] || fail "the actor that joined got no work"
    kill -0 "$started" 2>/dev/null || break
    sleep 0.05
done
"$RETAKE" stats "$work/guest" --json --timeout 500 >"$work/stats.json" 2>/dev/null
kill -TERM $visitor 2>/dev/null
wait $visitor
code=$?
wait "$started"
same $? 0 "exit code of the run"
check_run guest "$hash"
work_done=$(query "$work/guest" "SELECT count(*) FROM trajectories WHERE worker = 'visitor'")
[ "$work_done" -ge 1 ] || fail "no trajectory of the actor that joined"
say "ok: the actor that joined in mid-run gave $work_done trajectories, the weights are the same"
# 130: told to stop; 0: the run was over first.
[ $code = 130 ] || [ $code = 0 ] || fail "exit code $code of the actor that left: $(cat "$work/visitor.err")"
same "$(query "$work/guest" "SELECT count(*) FROM workers WHERE id = 'visitor' AND left IS NOT NULL")" 1 \
    "closed rows of the actor that left"
same "$(query "$work/guest" "SELECT count(*) FROM leases WHERE fate IS NULL")" 0 "leases without an end"
same "$(query "$work/guest" "SELECT count(*) FROM trajectories WHERE kind = 'base' AND fate = 'trained'")" \
    $((steps * 16)) "trajectories trained on"

# Roles one by one, in any order, as on a cluster.
"$RETAKE" actor "$config" --run "$work/single" --name early 2>"$work/early.err" &
"$RETAKE" learner "$config" --run "$work/single" 2>"$work/learner.err" &
sleep 0.3
"$RETAKE" coordinator "$config" --run "$work/single" 2>"$work/coordinator.err"
same $? 0 "exit code of a coordinator started last"
wait
same "$(query "$work/single" 'SELECT weights_hash FROM steps ORDER BY step DESC LIMIT 1')" "$hash" \
    "weights of roles started one by one"
say "ok: roles started one by one, coordinator last"
