#!/bin/sh
# Ctrl-C saves and ends within moments; the same command goes on where it stopped; nothing is left
# running whatever ends the supervisor.
. tests/e2e/lib.sh
steps=16
make_config $steps
run calm || fail "the undisturbed run: exit code $?"
hash=$(field "$work/calm.json" weights_hash)

stop_at() { # name, step, signal
    start "$1"
    wait_step "$1" "$2" || return 1
    begun=$(now_ms)
    kill "-$3" "$started" || return 1
    wait "$started"
    code=$?
    took=$(($(now_ms) - begun))
    [ $code -ne 0 ] || return 1
    same $code 130 "$1: exit code after SIG$3"
    check_none_left "$work/$1/" 1
}

# Twice in one run, so that a continued run can be stopped as well.
try=1
until stop_at stopped-$try 3 INT; do
    try=$((try + 1))
    [ $try -le 3 ] || fail "the run always ended before it could be stopped"
done
name=stopped-$try
# The bound is 2 s on an idle machine; here others may hold the processor, so it only must not hang.
say "stopped after $took ms"
[ $took -lt 8000 ] || fail "Ctrl-C took $took ms"
grep -q "continues" "$work/$name.err" || fail "the end does not say how to continue"
saved=$(ls "$work/$name/checkpoints" | grep -c '^step-')
[ "$saved" -ge 1 ] || fail "no checkpoint after Ctrl-C"
done_before=$(query "$work/$name" 'SELECT count(*) FROM steps')
ids_before=$(query "$work/$name" 'SELECT weights_hash FROM steps ORDER BY step')
run "$name" || fail "the continued run: exit code $?"
check_run "$name" "$hash"
same "$(field "$work/$name.json" steps)" $steps "steps of the continued run"
same "$(query "$work/$name" "SELECT weights_hash FROM steps WHERE step < $done_before ORDER BY step")" "$ids_before" \
    "weights of the steps before Ctrl-C"
say "ok: continued from step $done_before to the same weights"

# A finished run has nothing to do, and says the same again.
run "$name" || fail "a finished run, once more: exit code $?"
check_run "$name" "$hash"
say "ok: a finished run stays as it is"

# Steps done are not done again: what the learner begins with is the newest checkpoint.
grep -q "learner info: continues" "$work/$name.err" || fail "the learner does not say that it continues"

# Twice: at once.
start twice
wait_step twice 1 || fail "the run ended before it could be stopped"
begun=$(now_ms)
kill -INT "$started"
kill -INT "$started"
wait "$started"
same $? 130 "exit code after Ctrl-C twice"
say "ended $(($(now_ms) - begun)) ms after Ctrl-C twice"
check_none_left "$work/twice/" 1
run twice || fail "continued after Ctrl-C twice: exit code $?"
check_run twice "$hash"

# Without its supervisor no role stays.
start orphan
wait_step orphan 1 || fail "the run ended before its supervisor could be killed"
kill -9 "$started"
wait "$started" 2>/dev/null
check_none_left "$work/orphan/" 10
run orphan || fail "continued after the supervisor was killed: exit code $?"
check_run orphan "$hash"
say "ok: a killed supervisor leaves no role behind, and its run goes on"

# One folder, one run at a time.
start busy
wait_step busy 1 || fail "the run ended too early"
refused second 1 "another retake works in" -- "$RETAKE" run "$config" --run "$work/busy"
wait "$started"
check_run busy "$hash"
