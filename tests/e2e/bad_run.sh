#!/bin/sh
# What goes wrong while a run works: a taken port, no coordinator, a foreign role, a full disk, numbers that
# overflow. Each is said in one sentence and nothing that was earned is lost.
. tests/e2e/lib.sh
steps=8
make_config $steps
run calm || fail "the undisturbed run: exit code $?"
hash=$(field "$work/calm.json" weights_hash)

# ---- a port that is taken
"$PEEK" listen >"$work/port" &
holder=$!
until [ -s "$work/port" ]; do sleep 0.02; done
port=$(cat "$work/port")
"$RETAKE" run "$config" --run "$work/port-run" --set coordinator.address=tcp://127.0.0.1 \
    --set coordinator.port="$port" >"$work/port.out" 2>"$work/port.err"
code=$?
kill $holder
[ $code = 1 ] || [ $code = 2 ] || fail "exit code with a taken port: $code"
tail -1 "$work/port.err" | grep "^retake: " | grep -q "127.0.0.1:$port" || fail "the taken port is not named"
tail -1 "$work/port.err" | grep -q -i "in use" || fail "it is not said that the port is in use"
check_none_left "$work/port-run/" 3
say "ok: $(tail -1 "$work/port.err")"

# The same over TCP with free ports gives the same weights.
tcp=1
while :; do
    port=$((20000 + $(random 20000)))
    run "tcp-$tcp" --set coordinator.address=tcp://127.0.0.1 --set coordinator.port=$port && break
    grep -q -i "in use" "$work/tcp-$tcp.err" && [ $tcp -lt 5 ] || fail "a run over TCP: exit code $?"
    tcp=$((tcp + 1))
done
check_run "tcp-$tcp" "$hash"
say "ok: a run over TCP, the same weights"
"$RETAKE" show "$work/calm" "$work/tcp-$tcp" metrics --json >"$work/metrics.json" || fail "metrics of two runs"
for i in 0 1 2 3; do # evaluations, rewards: what does not depend on the clock
    same "$(field "$work/metrics.json" metrics.$i.runs.0.last.value)" \
        "$(field "$work/metrics.json" metrics.$i.runs.1.last.value)" "$(field "$work/metrics.json" metrics.$i.name)"
done

# ---- no coordinator
[ -e /dev/nvidiactl ] || refused no-gpu 2 'device "cuda"' "device cpu" -- \
    "$RETAKE" verify tests/golden/llama tests/golden/llama.ref.safetensors --device cuda
refused unreachable 1 "no word from a coordinator" "coordinator.address" -- \
    "$RETAKE" actor "$config" --run "$work/alone" --unreachable 1
"$RETAKE" learner "$config" --run "$work/alone" --unreachable 1 2>"$work/alone.err"
same $? 1 "exit code of a learner without coordinator"
tail -1 "$work/alone.err" | grep -q "^retake: no coordinator" || fail "the learner does not say what it misses"

# ---- roles of another build or another config
start foreign --set steps=60
wait_step foreign 1 || fail "the run ended too early"
"$STRANGER" "ipc://$work/foreign/work.sock" 9.9.9 >"$work/stranger.out" || fail "a stranger was not refused: $?"
grep -q "9.9.9" "$work/stranger.out" || fail "the refusal does not name the version: $(cat "$work/stranger.out")"
say "ok: another build is refused: $(cat "$work/stranger.out")"
"$RETAKE" actor "$config" --run "$work/foreign" --set learner.lr=0.001 --unreachable 5 2>"$work/other.err"
same $? 1 "exit code of an actor with another config"
tail -1 "$work/other.err" | grep "^retake: " | grep -q "config" || fail "the refusal does not name the config"
say "ok: another config is refused: $(tail -1 "$work/other.err")"
kill -INT "$started"
wait "$started"

# ---- no room: the checkpoint before stays, and the run goes on once there is room
run full --set steps=3 || fail "three steps: exit code $?"
(
    # 2048 blocks of 512 bytes a file: the model's weights need more
    ulimit -f 2048
    run full --set steps=$steps
)
same $? 1 "exit code when a checkpoint cannot be written"
tail -1 "$work/full.err" | grep "^retake: " | grep -q "the one before is kept" ||
    fail "the last line does not say that the checkpoint is kept: $(tail -1 "$work/full.err")"
[ -f "$work/full/checkpoints/step-000003/state.json" ] || fail "the last good checkpoint is gone"
ls -A "$work/full/checkpoints" | grep -q '^\.writing' && fail "a half-written checkpoint is left"
say "ok: $(tail -1 "$work/full.err")"
run full --set steps=$steps || fail "continued with room again: exit code $?"
check_run full "$hash"

# The same on a real full disk, where one can be made.
mkdir "$work/disk"
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=24m tmpfs "$work/disk" 2>/dev/null; then
    run disk/run --set steps=3 || fail "three steps: exit code $?"
    dd if=/dev/zero of="$work/disk/filler" bs=1k 2>/dev/null
    "$RETAKE" run "$config" --run "$work/disk/run" --set steps=$steps >"$work/disk.out" 2>"$work/disk.err"
    code=$?
    say "full disk, exit code $code: $(tail -1 "$work/disk.err")"
    rm "$work/disk/filler"
    kept=no
    [ -f "$work/disk/run/checkpoints/step-000003/state.json" ] && kept=yes
    "$RETAKE" run "$config" --run "$work/disk/run" --json --set steps=$steps >"$work/disk.json" 2>"$work/again.err"
    again=$?
    umount "$work/disk"
    same $code 1 "exit code on a full disk"
    same $kept yes "the last good checkpoint on a full disk"
    same $again 0 "exit code with room again"
    check_run disk "$hash"
    say "ok: a full disk loses nothing"
fi

# ---- prompts longer than the context
run long --set model.context=8
same $? 1 "exit code with prompts longer than the context"
tail -1 "$work/long.err" | grep "^retake: " | grep -q "tokens and the context is 8" ||
    fail "the last line does not say what is too long: $(tail -1 "$work/long.err")"
say "ok: $(tail -1 "$work/long.err")"

# ---- numbers that overflow: the step is named, the last good checkpoint stays
run hot --set steps=40 --set learner.lr=10 --set learner.weight_decay=10 --set learner.clip=0
same $? 1 "exit code when numbers overflow"
grep -q -E "not (a number|finite)" "$work/hot.err" || fail "it is not said that numbers overflow"
grep -q -E "step [0-9]+" "$work/hot.err" || fail "the step is not named"
newest=$(ls -d "$work/hot/checkpoints"/step-* | tail -1)
"$RETAKE" generate "$newest" --prompt "Q:1+1" --max-tokens 2 >/dev/null 2>"$work/hot-model.err" ||
    fail "the newest checkpoint is of no use: $(cat "$work/hot-model.err")"
say "ok: $(tail -1 "$work/hot.err")"
