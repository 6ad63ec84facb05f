#!/bin/sh
# A step trained once more from its checkpoint is the recorded one, bit for bit; an independent program
# recomputes its loss, derivatives, masks and norm.
. tests/e2e/lib.sh
steps=4
make_config $steps
sed -e 's/name: grpo/name: srpo/' -e 's/samples: 4/samples: 8/' "$config" >"$work/srpo.yaml"
config=$work/srpo.yaml
for algorithm in srpo srpo_clip grpo dapo; do
    scale=1
    [ $algorithm = grpo ] && scale=0.3 # advantages as trained are not those of run.db
    run $algorithm --set algorithm.name=$algorithm --set eval.problems=0 --set tasks.0.advantage_scale=$scale || fail "$algorithm: exit code $?"
    for step in 0 3; do
        "$RETAKE" audit "$work/$algorithm" --step $step --to "$work/$algorithm-$step.safetensors" \
            >"$work/$algorithm.out" 2>"$work/$algorithm.err" || fail "audit of $algorithm, step $step: $(cat "$work/$algorithm.out")"
        grep -q "as the run recorded them" "$work/$algorithm.out" || fail "$(cat "$work/$algorithm.out")"
        python3 tests/oracles/audit_check.py "$work/$algorithm-$step.safetensors" "$work/$algorithm" ||
            fail "$algorithm, step $step"
    done
done

# Both can fail: an advantage that is not the one trained on gives other weights.
cp -r "$work/srpo" "$work/other"
python3 - "$work/other/run.db" <<'END'
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("UPDATE trajectories SET advantage = advantage + 1 WHERE id = "
           "(SELECT min(id) FROM trajectories WHERE fate = 'trained' AND step = 0)")
db.commit()
END
"$RETAKE" audit "$work/other" --step 0 --to "$work/other.safetensors" >"$work/other.out" 2>&1
same $? 1 "exit code of an audit that differs"
grep -q "NOT what the run recorded" "$work/other.out" || fail "$(cat "$work/other.out")"
python3 tests/oracles/audit_check.py "$work/srpo-0.safetensors" "$work/other" >"$work/other.out" &&
    fail "another advantage is not noticed"
say "ok: another advantage is noticed: $(cat "$work/other.out")"

refused audit-gone 1 "no checkpoint of version 1" "learner.checkpoints_kept" -- \
    "$RETAKE" audit "$work/srpo" --step 1 --to "$work/x.safetensors"
refused audit-later 1 "no step 9" -- "$RETAKE" audit "$work/srpo" --step 9 --to "$work/x.safetensors"
refused audit-none 1 "config.yaml" -- "$RETAKE" audit "$work" --step 0 --to "$work/x.safetensors"
refused audit-usage 2 "usage: retake audit" -- "$RETAKE" audit "$work/srpo"
