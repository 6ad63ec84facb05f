#!/bin/sh
# What it buys to ask for a turn of a debate as soon as the answers it quotes are there, instead of
# round by round, one batch of questions after another: sampled tokens a second of the same debates, in
# turn, with the same weights hash or an error.
#   sh bench/debate_barrier.sh [REPEATS (3)] [BATCH…  (8 32 96: debates behind one barrier)]
set -eu
cd "$(dirname "$0")/.."
retake=${RETAKE:-build/release/retake}
repeats=${1:-3}
[ $# -eq 0 ] || shift
batches=${*:-8 32 96}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

cat > "$dir/config.yaml" <<'YAML'
model: deploy/models/debate
tasks:
  - name: chain
    thoughts_min: 2
    thoughts_max: 12
algorithm:
  name: maca_dpo
  problems: 96
  updates: 1
  debate: {agents: 5, rounds: 4}
steps: 3
sampling: {max_tokens: 128}
learner: {lr: 1e-5}
actors: {slots: 32}
eval: {problems: 0}
YAML

# run BARRIER: prints "tokens-a-second hash"
run() {
    rm -rf "$dir/run"
    "$retake" run "$dir/config.yaml" --run "$dir/run" --quiet --json \
        --set algorithm.debate.barrier="$1" > "$dir/summary.json"
    python3 -c '
import json, sys
s = json.load(open(sys.argv[1]))
print("%.0f %s" % (s["tokens"]["sampled"] / s["seconds"]["sampling"], s["weights_hash"]))' \
        "$dir/summary.json"
}

echo "96 questions, 5 agents, 4 rounds, answers of 2 to 12 thoughts, 2 actors of 32 slots"
hash=
for batch in $batches; do
    i=0
    while [ "$i" -lt "$repeats" ]; do
        set -- $(run 0) $(run "$batch")
        [ -z "$hash" ] && hash=$2
        if [ "$2" != "$hash" ] || [ "$4" != "$hash" ]; then
            echo "the weights differ: $2 and $4, not $hash" >&2
            exit 1
        fi
        python3 -c 'import sys; a, b = map(float, sys.argv[2:]); print("barrier of %s debates: %.0f tokens/s, without %.0f tokens/s, ratio %.2f" % (sys.argv[1], b, a, a / b))' \
            "$batch" "$1" "$3"
        i=$((i + 1))
    done
done
echo "same weights every time: $hash"
