#!/bin/sh
# A role that cannot live ends the run with its reason; restarts are said, and the numbers kept.
. tests/e2e/lib.sh
make_config 40

# An actor that is killed each time it comes: given up after some tries, with the actor's name.
start hunted --set actors.count=1
wait_step hunted 1 || fail "the run ended before an actor could be killed"
tries=0
while kill -0 "$started" 2>/dev/null; do
    victim=$(role_process "$work/hunted" actor) && kill -9 "$victim" 2>/dev/null
    tries=$((tries + 1))
    [ $tries -lt 600 ] || fail "a role that dies again and again is started forever"
    sleep 0.05
done
wait "$started"
same $? 1 "exit code when an actor dies again and again"
restarts=$(grep -c 'actor-0 was ended by signal 9; starting it again' "$work/hunted.err")
[ "$restarts" -ge 2 ] || fail "restarts are not said"
tail -1 "$work/hunted.err" | grep -q '^retake: gave up: actor-0 died 5 times in a row' ||
    fail "the last line does not say who died: $(tail -1 "$work/hunted.err")"
check_none_left "$work/hunted/" 3
say "ok: gave up after $restarts restarts: $(tail -1 "$work/hunted.err")"

# What was learned before is still there.
run hunted --set actors.count=1 || fail "continued after giving up: exit code $?"
same "$(field "$work/hunted.json" steps)" 40 "steps after giving up and going on"
same "$(query "$work/hunted" "SELECT count(*) FROM steps")" 40 "rows of steps after giving up and going on"
say "ok: goes on once the cause is gone"

# A learner that cannot read its checkpoint: its own sentence, exit code 1, nothing restarted.
cp -r "$work/hunted" "$work/broken"
newest=$(ls -d "$work/broken/checkpoints"/step-* | tail -1)
printf 'not a tensor' | dd of="$newest/model.safetensors" bs=1 seek=20 conv=notrunc 2>/dev/null
run broken --set actors.count=1 --set steps=45
same $? 1 "exit code with a broken checkpoint"
tail -1 "$work/broken.err" | grep -q '^retake: gave up: learner ended the run: .*'"$(basename "$newest")" ||
    fail "the last line does not name the checkpoint: $(tail -1 "$work/broken.err")"
grep -q 'starting it again' "$work/broken.err" && fail "a role with an answer of its own is started again"
check_none_left "$work/broken/" 3
say "ok: broken checkpoint: $(tail -1 "$work/broken.err")"

# A coordinator that dies between telling the others to stop and its own end: they are started again for the
# next one, which finds nothing left to do.
LATE_SUMMARY=${LATE_SUMMARY:-$root/build/release/tests/liblate_summary.so}
touch "$work/held"
LATE=$work/held LD_PRELOAD=$LATE_SUMMARY start late --set actors.count=1 --set steps=2
# It does not answer once it is held: what it said before tells that all are there.
tries=0
until grep -q "learner: joined" "$work/late.err" 2>/dev/null; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || fail "no learner joined"
    sleep 0.05
done
victim=$(role_process "$work/late" coordinator)
tries=0
while role_process "$work/late" learner >"$work/learner"; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || fail "the learner was not told to stop"
    sleep 0.05
done
kill -9 "$victim" || fail "the coordinator ended before it could be killed"
rm "$work/held"
tries=0
while kill -0 "$started" 2>/dev/null; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || fail "a run never ends when its coordinator dies at its end"
    sleep 0.1
done
wait "$started"
same $? 0 "exit code when the coordinator dies at the end"
same "$(query "$work/late" "SELECT count(*) FROM steps")" 2 "steps of that run"
grep -q "coordinator was ended by signal 9; starting it again" "$work/late.err" || fail "nobody says so"
say "ok: a coordinator that dies at its end"
