#!/bin/sh
# Supervised fine-tuning: the same bits each time, also with Ctrl-C in the middle; what is exported reads
# back as it was.
. tests/e2e/lib.sh
make_config 2

sft() { # name, options…
    name=$1
    shift
    "$RETAKE" sft deploy/models/tiny/sft.yaml --run "$work/$name" --set model.path="$work/model" \
        --set sft.phase_steps=0 --set sft.batch=16 --set eval.problems=8 "$@" \
        >"$work/$name.json" 2>"$work/$name.err"
}
sft one --set sft.steps=15 || fail "exit code $?"
sft two --set sft.steps=15 --set learner.threads=1 || fail "with one thread: exit code $?"
hash=$(field "$work/one.json" weights_hash)
same "${#hash}" 32 "length of the weights hash"
same "$(field "$work/two.json" weights_hash)" "$hash" "weights hash, once more with one thread"
cmp "$work/one/export/model.safetensors" "$work/two/export/model.safetensors" || fail "the exported files differ"
say "ok: twice the same weights: $hash"

# Ctrl-C somewhere in the middle, then the same command.
stop_at=none
for try in 1 2 3 4 5; do
    rm -rf "$work/cut"
    "$RETAKE" sft deploy/models/tiny/sft.yaml --run "$work/cut" --set model.path="$work/model" \
        --set sft.phase_steps=0 --set sft.batch=16 --set eval.problems=8 --set sft.steps=80 \
        >"$work/cut.json" 2>"$work/cut.err" &
    started=$!
    pause=0.$((3 + $(random 4)))
    sleep $pause
    kill -INT $started 2>/dev/null
    wait $started
    code=$?
    [ $code = 130 ] && [ -d "$work/cut/checkpoints" ] && { stop_at=$pause; break; }
    [ $code = 0 ] || [ $code = 130 ] || fail "exit code after Ctrl-C: $code"
done
[ $stop_at != none ] || fail "could not be stopped in the middle"
sft cut --set sft.steps=80 || fail "continued: exit code $?"
grep -q -i "continue" "$work/cut.err" || fail "it is not said that it continues"
sft whole --set sft.steps=80 || fail "in one go: exit code $?"
same "$(field "$work/cut.json" weights_hash)" "$(field "$work/whole.json" weights_hash)" \
    "weights hash after Ctrl-C at $stop_at s and going on"
say "ok: Ctrl-C after $stop_at s and going on gives the same weights"

# What is exported is the model: same scores, to the last bit, as from the checkpoint.
cat >"$work/ids.jsonl" <<END
{"ids":[49,26,17,11,24,11,18,199,17,11,24,29,25]}
{"ids":[49,26,17]}
END
run trained || fail "a run: exit code $?"
"$RETAKE" export "$work/trained" --to "$work/folder" >/dev/null 2>"$work/export.err" || fail "export: $(cat "$work/export.err")"
for file in config.json model.safetensors tokenizer.json; do
    [ -f "$work/folder/$file" ] || fail "the exported folder has no $file"
done
newest=$(ls -d "$work/trained/checkpoints"/step-* | tail -1)
for model in "$work/folder" "$work/trained" "$newest"; do
    "$RETAKE" score "$model" <"$work/ids.jsonl" >"$work/score.jsonl" 2>"$work/score.err" || fail "score $model"
    [ -f "$work/first.jsonl" ] || cp "$work/score.jsonl" "$work/first.jsonl"
    cmp "$work/first.jsonl" "$work/score.jsonl" || fail "scores of $model differ from those of the export"
done
"$RETAKE" score "$work/model" <"$work/ids.jsonl" >"$work/score.jsonl" || fail "score of the start model"
cmp -s "$work/first.jsonl" "$work/score.jsonl" && fail "training changed no score"
say "ok: export, run folder and checkpoint give the same scores"

# A model that came out goes in again.
run again --set model.path="$work/folder" --set steps=1 || fail "a run on the exported model: exit code $?"
refused export-nothing 1 "$work/empty" -- "$RETAKE" export "$work/empty" --to "$work/out"
