#!/bin/sh
# Wrong configs, data and command lines: one sentence with place and remedy, exit code 2 or 1, and
# nothing is started or written over.
. tests/e2e/lib.sh
make_config 2

write() { # name, text → $tried
    tried=$work/$1
    # shellcheck disable=SC2059
    printf "$2" >"$tried"
}
run_file() { "$RETAKE" run "$tried" --run "$work/never" "$@"; }
head="model: $work/model\ntask: chain\nsteps: 1\n"

# ---- the command line
refused no-command 2 "did you mean \"run\"" -- "$RETAKE" rum
refused no-option 2 "no option \"--steps\"" -- "$RETAKE" run "$config" --steps
refused no-config 2 "which config?" -- "$RETAKE" run
refused no-file 2 "$work/nowhere.yaml" "No such file" -- "$RETAKE" run "$work/nowhere.yaml"
refused no-model-named 2 "which model?" -- "$RETAKE" tokenize
refused no-task 2 "chian" "chain" -- "$RETAKE" eval "$work/model" --task chian

# ---- the config
write key.yaml "${head}stpes: 3\n"
refused unknown-key 2 "key.yaml:4" "'stpes'" "steps" -- run_file
write type.yaml "${head}learner:\n  lr: fast\n"
refused ill-typed 2 "type.yaml:5" "learner.lr" "'fast'" "from 0 to 10" -- run_file
write range.yaml "${head}learner:\n  lr: 99\n"
refused out-of-range 2 "range.yaml:5" "learner.lr" "'99'" "from 0 to 10" -- run_file
write yaml.yaml "${head}learner: [\n"
refused no-yaml 2 "yaml.yaml:" "not valid YAML" -- run_file
write none.yaml "task: chain\n"
refused no-model 2 "none.yaml" "model:" -- run_file
write name.yaml "model: $work/model\ntask: chian\n"
refused unknown-task 2 "chian" "chain" -- run_file
write good.yaml "$head"
refused unknown-set 2 "--set" "lerner.lr" "learner.lr" -- run_file --set lerner.lr=1
refused bad-set 2 "--set" "learner.lr" "'abc'" -- run_file --set learner.lr=abc
refused unknown-algorithm 2 "'gppo'" "grpo" -- run_file --set algorithm=gppo
refused folder-is-file 1 "$work/good.yaml" -- "$RETAKE" run "$tried" --run "$work/good.yaml"
if [ "$(id -u)" != 0 ]; then
    mkdir "$work/closed" && chmod 555 "$work/closed"
    refused no-permission 1 "$work/closed" -- "$RETAKE" run "$tried" --run "$work/closed"
fi

# ---- data files
data() { # name, lines → a config over them
    printf "$2" >"$work/$1.jsonl"
    write "$1.yaml" "model: $work/model\nsteps: 1\ntasks:\n  - name: mine\n    data: $work/$1.jsonl
    grader: number\n    fields: {problem: question, answer: answer}\n"
}
good='{"question":"1+1","answer":"2"}\n'
data field "$good{\"question\":\"1+2\"}\n"
refused no-field 1 "field.jsonl:2" "answer" -- run_file
data json "${good}${good}what\n"
refused no-json 1 "json.jsonl:3" -- run_file
data empty ""
refused empty-data 1 "empty.jsonl" -- run_file
rm "$work/empty.jsonl"
refused no-data 1 "empty.jsonl" "No such file" -- run_file
data tests "$good"
refused no-tests 1 "tests.jsonl:1" "asserts" -- run_file --set tasks.0.grader=code
data code '{"question":"1+1","answer":{"tests":[{"input":"","output":"2"}]}}\n'
RETAKE_PYTHON=/nowhere/python3
export RETAKE_PYTHON
refused no-python 2 "task mine" "can't be graded" "/nowhere/python3" -- run_file --set tasks.0.grader=code
refused no-python-actor 2 "task mine" "/nowhere/python3" -- "$RETAKE" actor "$tried" --set tasks.0.grader=code
unset RETAKE_PYTHON

# ---- problems held out in one file and trained on in another: refused, or said while the run works
data both "${good}{\"question\":\"2+3\",\"answer\":\"5\"}\n"
printf 'Q:{problem}\n' >"$work/form.txt"
cat >>"$tried" <<END
    eval_share: 0
    prompt: $work/form.txt
  - {name: held, data: $work/held.jsonl, eval_share: 1, prompt: $work/form.txt, grader: number}
algorithm: {problems: 2, samples: 2}
END
printf '{"problem":"7+1","answer":8}\n{"problem":" 2+3 ","answer":5}\n' >"$work/held.jsonl"
refused contaminated 2 "1 of 2 held-out" "held.jsonl:2 is $work/both.jsonl:2" "eval.contamination" -- \
    run_file --set eval.contamination=refuse
"$RETAKE" run "$tried" --run "$work/warned" >/dev/null 2>"$work/warned.err" || fail "a run with a warning: exit code $?"
grep -q "1 of 2 held-out problems are trained on as well.*held.jsonl:2 is" "$work/warned.err" || fail "no warning"
same "$(query "$work/warned" "SELECT value FROM metrics WHERE name = 'eval.contaminated'")" 1.0 "what run.db says"
"$RETAKE" eval "$work/warned" --json >"$work/warned.json" 2>"$work/eval.err" || fail "eval with a warning: exit code $?"
grep -q "$work/warned was trained on 1 of these 2 problems" "$work/eval.err" || fail "eval does not warn"
same "$(field "$work/warned.json" contamination.0.trained)" 1 "what the JSON of eval says"
refused contaminated-eval 2 "was trained on 1 of these 2" -- "$RETAKE" eval "$work/warned" --set eval.contamination=refuse

# ---- none of it has begun a run: the same folder takes the right config now
[ ! -e "$work/never/run.db" ] || fail "a refused config began a run"
write good.yaml "$head"
run_file --set eval.problems=4 >/dev/null 2>"$work/good.err" || fail "the right config after the wrong ones: exit code $?"
say "ok: the folder is free for the right config"

# ---- a folder that holds another run stays as it is
before=$(query "$work/never" "SELECT count(*) FROM trajectories")
refused other-run 2 "another configuration" "$work/never" -- run_file --set eval.problems=4 --set learner.lr=0.001
refused fewer-steps 2 "steps" -- run_file --set eval.problems=4 --set steps=0
same "$(query "$work/never" "SELECT count(*) FROM trajectories")" "$before" "trajectories of the run before"
