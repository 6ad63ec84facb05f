#!/bin/sh
# Short runs with the learner and the actors on the device "cuda" end in the weights of the same runs on the
# CPU, bit for bit: resets with gradient accounts, and adapters with dropout and a KL term.
. tests/e2e/lib.sh

both() { # name, config, settings…
    name=$1 config=$2
    shift 2
    for device in cpu cuda; do
        "$RETAKE" run "$config" --run "$work/$name-$device" --quiet --json --set actors.count=1 \
            --set eval.problems=0 --set algorithm.problems=2 --set steps=1 \
            --set learner.device=$device --set actors.device=$device "$@" \
            >"$work/$name-$device.json" 2>"$work/$name-$device.err" ||
            fail "$name on $device: $(cat "$work/$name-$device.err")"
    done
    hash=$(field "$work/$name-cpu.json" weights_hash)
    same "${#hash}" 32 "length of the weights hash of $name"
    same "$(field "$work/$name-cuda.json" weights_hash)" "$hash" "weights of $name on cuda"
    same "$(field "$work/$name-cuda.json" logprob.mismatched)" 0 "log-probs of $name that differ"
    say "ok: $name: cpu and cuda give $hash"
}

both resets deploy/configs/resets.yaml --set gradients.account=full
both adapters deploy/configs/quickstart.yaml --set algorithm.samples=4 --set learner.lora.rank=4 \
    --set learner.lora.dropout=0.1 --set algorithm.kl=k3 --set algorithm.kl_coef=0.001
