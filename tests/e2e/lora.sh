#!/bin/sh
# Adapters over a frozen base: the weights are a function of the config, whoever samples and whatever
# is killed; what comes out is a PEFT folder, or one model with its base; another base is refused.
. tests/e2e/lib.sh
make_config 12
cat >>"$config" <<END2
learner.lora.rank: 4
learner.lora.alpha: 16
learner.lora.targets: all
learner.lora.dropout: 0.1
learner.lr: 5e-3
algorithm.kl: k3
algorithm.kl_coef: 0.001
END2

run one --set actors.count=1 || fail "one actor: exit code $?"
hash=$(field "$work/one.json" weights_hash)
same "${#hash}" 32 "length of the weights hash"
check_run one "$hash"
run two --set actors.count=2 || fail "two actors: exit code $?"
check_run two "$hash"
say "ok: one and two actors give $hash"

# Only the adapters are sent and saved.
newest=$(ls -d "$work/one/checkpoints"/step-* | tail -1)
[ -f "$newest/adapter-0/adapter_model.safetensors" ] || fail "$newest holds no adapter"
[ -e "$newest/model.safetensors" ] && fail "$newest holds a copy of the base"

start killed
wait_step killed 2 || fail "the run ended before it could be disturbed"
kill -9 "$(role_process "$work/killed" learner)"
wait "$started" || fail "after kill -9 of the learner: exit code $?"
check_run killed "$hash"
say "ok: kill -9 of the learner changes nothing"

"$RETAKE" audit "$work/one" --step 11 --to "$work/audit.safetensors" >"$work/audit.out" 2>"$work/audit.err" ||
    fail "audit: $(cat "$work/audit.out" "$work/audit.err")"
say "ok: audit: $(tail -1 "$work/audit.out")"

# The run, its checkpoint and the folder that is exported are one and the same adapter.
echo '{"ids":[49,26,17,11,24,11,18,199,17,11,24,29,25]}' >"$work/ids.jsonl"
"$RETAKE" export "$work/one" --to "$work/peft" >/dev/null 2>"$work/export.err" || fail "export: exit code $?"
"$RETAKE" export "$work/one" --to "$work/merged" --merge >/dev/null 2>"$work/merge.err" || fail "merge: exit code $?"
"$RETAKE" score "$work/peft" <"$work/ids.jsonl" >"$work/first.jsonl" || fail "score of the export"
for model in "$work/one" "$newest" "$work/model --adapter $work/peft" "$work/peft --base $work/model"; do
    # shellcheck disable=SC2086
    "$RETAKE" score $model <"$work/ids.jsonl" >"$work/score.jsonl" || fail "score $model"
    cmp "$work/first.jsonl" "$work/score.jsonl" || fail "scores of $model differ from those of the export"
done
for model in model merged; do
    "$RETAKE" score "$work/$model" <"$work/ids.jsonl" >"$work/$model.jsonl" || fail "score $model"
done
cmp -s "$work/first.jsonl" "$work/model.jsonl" && fail "training changed no score"
cmp -s "$work/merged.jsonl" "$work/model.jsonl" && fail "merging changed no score"
[ -f "$work/merged/tokenizer.json" ] || fail "the merged folder has no tokenizer"
say "ok: export, run and checkpoint give the same scores"

# A base with other bytes: not to go on with, and not on another machine.
cp -r "$work/one" "$work/other"
cp -r "$work/model" "$work/kept"
cp "$work/merged/model.safetensors" "$work/model/model.safetensors"
refused other-base 1 "base" -- "$RETAKE" audit "$work/other" --step 11 --to "$work/x.safetensors"
