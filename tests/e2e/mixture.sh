#!/bin/sh
# Several tasks in one run: exact counts, own temperature and limits, the same weights after a stop,
# tasks that run dry or are never judged.
. tests/e2e/lib.sh

# ---- the five tasks of the example, on a model of random weights ---------------------------------
config=deploy/configs/mixture.yaml
small="--set model.path=deploy/models/mixture --set model.init=random --set eval.problems=0
 --set algorithm.samples=4 --set sampling.max_tokens=24 --set tasks.4.sampling.max_tokens=12
 --set mixing.undecided_steps=0 --set tasks.1.window.from=1 --set tasks.1.window.ramp=2"
# shellcheck disable=SC2086
run whole $small --set steps=6 || fail "the run in one go: exit code $?"
# shellcheck disable=SC2086
run parts $small --set steps=2 || fail "the first two steps: exit code $?"
# shellcheck disable=SC2086
run parts $small --set steps=6 || fail "the other steps: exit code $?"
check_run parts "$(field "$work/whole.json" weights_hash)"
same "$(field "$work/whole.json" logprob.mismatched)" 0 "log-probs that differ, at two temperatures"
for name in whole parts; do
    counts=$(query "$work/$name" "SELECT group_concat(n, ' ') FROM (SELECT count(*) / 4 AS n FROM trajectories t
        JOIN problems p ON p.id = t.problem_id WHERE p.task = 'countdown' GROUP BY step ORDER BY step)")
    # Not yet in step 0, half of its quota of 4 in step 1, all of it from step 2 on.
    same "$counts" "2 4 4 4 4" "$name: problems of countdown by step"
    same "$(query "$work/$name" "SELECT group_concat(value, ' ') FROM (SELECT value FROM metrics WHERE
        name = 'task.countdown.problems' ORDER BY step)")" "0.0 2.0 4.0 4.0 4.0 4.0" "$name: their metric"
    same "$(query "$work/$name" "SELECT count(*) FROM metrics WHERE name = 'task.countdown.out'")" 1 \
        "$name: steps it was out"
    for task in chain sort path table; do
        same "$(query "$work/$name" "SELECT count(*), min(n), max(n) FROM (SELECT count(*) / 4 AS n FROM
            trajectories t JOIN problems p ON p.id = t.problem_id WHERE p.task = '$task' AND step > 1
            GROUP BY step)")" "4|3|3" "$name: steps and problems of $task"
    done
done
same "$(query "$work/whole" "SELECT max(length(response_ids)) / 4 FROM trajectories t
    JOIN problems p ON p.id = t.problem_id WHERE p.task = 'table'")" 12 "longest answer to table"
same "$(query "$work/whole" "SELECT max(length(response_ids)) / 4 FROM trajectories")" 24 "longest answer"
all="SELECT group_concat(id || ':' || task) FROM (SELECT * FROM problems ORDER BY id)"
same "$(query "$work/parts" "$all")" "$(query "$work/whole" "$all")" "the problems"
say "ok: counts, limits, temperatures; the same after a stop"

# The learner's own account of a step, at the temperature of each task.
"$RETAKE" audit "$work/whole" --step 5 --to "$work/step.safetensors" >"$work/audit.txt" 2>&1 ||
    fail "audit: $(cat "$work/audit.txt")"
grep -q "log-probs [1-9][0-9]* compared, 0 differ" "$work/audit.txt" || fail "audit: $(cat "$work/audit.txt")"
say "ok: audit"

# ---- a task that runs dry, and one whose grader never judges ------------------------------------
make_config 8
printf 'Q:{problem}\n' >"$work/prompt.txt"
# Numbers in a box are nothing that yesno can judge.
for i in 1 2 3 4 5 6; do printf '{"problem":"%d+5*3-4+2","answer":"yes"}\n' $i; done >"$work/odd.jsonl"
for i in 1 2 3 4 5 6 7; do printf '{"problem":"%d+2","answer":"%d"}\n' $i $((i + 2)); done >"$work/few.jsonl"
cat >>"$config" <<END
mixing: {strategy: round_robin, undecided_steps: 3}
END
sed -i '/^task: chain/d' "$config"
cat >>"$config" <<END
tasks:
  - chain
  - {name: odd, data: $work/odd.jsonl, grader: yesno, prompt: $work/prompt.txt, eval_share: 0,
     sampling: {temperature: 0.1}}
  - {name: few, data: $work/few.jsonl, grader: number, prompt: $work/prompt.txt, eval_share: 0, once: true}
END
run whole2 || fail "the run in one go: exit code $?"
run parts2 --set steps=4 || fail "the first four steps: exit code $?"
run parts2 || fail "the other steps: exit code $?"
check_run parts2 "$(field "$work/whole2.json" weights_hash)"
for name in whole2 parts2; do
    # Four places in turn: chain odd few chain, odd few chain odd, few chain odd few; then odd is out.
    same "$(query "$work/$name" "SELECT group_concat(value, ' ') FROM (SELECT value FROM metrics WHERE
        name = 'task.odd.problems' ORDER BY step)")" "1.0 2.0 1.0 0.0 0.0 0.0 0.0 0.0" "$name: of odd"
    same "$(query "$work/$name" "SELECT group_concat(value, ' ') FROM (SELECT value FROM metrics WHERE
        name = 'task.few.problems' ORDER BY step)")" "1.0 1.0 2.0 2.0 1.0 0.0 0.0 0.0" "$name: of few"
    for event in "odd is out of the mixture from step 3 on%grader%" \
        "few has given each of its 7 problems once%from step 5 on%"; do
        same "$(query "$work/$name" "SELECT count(*) > 0 FROM events WHERE text LIKE 'task $event'")" 1 \
            "$name: the event \"$event\""
    done
done
# With all of them to run dry the run is refused before it begins, and says how far it could go.
run dry --set tasks.0.once=true --set tasks.0.limit=4 --set tasks.1.once=true
same $? 2 "tasks that can't fill the run: exit code"
grep -q "lower run.steps to 4" "$work/dry.err" || fail "the refusal: $(cat "$work/dry.err")"
[ ! -e "$work/dry/run.db" ] || fail "a refused run has a store"
say "ok: tasks that leave"

# ---- gradients of the tasks: measured, followed, corrected ---------------------------------------
"$RETAKE" config --check "$config" --set mixing.strategy=gradient >"$work/gradient.txt" 2>&1
same $? 2 "strategy gradient without its numbers: exit code"
grep -q "no accounting of gradients is switched on" "$work/gradient.txt" ||
    fail "strategy gradient: $(cat "$work/gradient.txt")"

two="--set algorithm.problems=6 --set algorithm.updates=1 --set tasks.1.weight=0 --set tasks.2.once=false --set steps=4 --set eval.problems=0"
# shellcheck disable=SC2086
for name in off full; do
    run "$name" $two --set gradients.account=$name --set gradients.halves=true --set gradients.every=2 ||
        fail "the run with accounting $name: exit code $?"
done
same "$(field "$work/full.json" weights_hash)" "$(field "$work/off.json" weights_hash)" "accounting changes nothing"
same "$(query "$work/full" "SELECT group_concat(step, ' ') FROM (SELECT step FROM metrics
    WHERE name = 'grad/chain/norm2' ORDER BY step)")" "0 2" "steps that were measured"
same "$(query "$work/full" "SELECT count(*) FROM (SELECT sum(value) AS all_of FROM metrics
    WHERE name GLOB 'grad/*/share' GROUP BY step) WHERE abs(all_of - 1) < 1e-9")" 2 "shares that add up to 1"
same "$(query "$work/off" "SELECT count(*) FROM metrics WHERE name GLOB 'grad/*'")" 0 "metrics when it is off"

# What a step leaves for the next ones survives a stop: norms for the mixture, running norms.
for how in mixing.strategy=gradient gradients.correction=running_norms gradients.correction=pcgrad; do
    # shellcheck disable=SC2086
    run "one-$how" $two --set $how --set gradients.account=full --set actors.count=1 || fail "$how: exit code $?"
    # shellcheck disable=SC2086
    run "two-$how" $two --set $how --set gradients.account=full --set actors.count=2 --set steps=2 ||
        fail "$how, the first steps: exit code $?"
    # shellcheck disable=SC2086
    run "two-$how" $two --set $how --set gradients.account=full --set actors.count=2 ||
        fail "$how, the other steps: exit code $?"
    same "$(field "$work/two-$how.json" weights_hash)" "$(field "$work/one-$how.json" weights_hash)" "$how"
    [ "$(field "$work/one-$how.json" weights_hash)" != "$(field "$work/off.json" weights_hash)" ] ||
        fail "$how changes nothing"
done
warned="SELECT count(*) FROM events WHERE text LIKE '%no unbiased norm%'"
same "$(query "$work/one-mixing.strategy=gradient" "$warned")" 1 "warnings of too small a floor"
same "$(query "$work/one-gradients.correction=pcgrad" "$warned")" 0 "warnings without that strategy"
say "ok: gradients of the tasks"
