#!/bin/sh
# Iterative correction over the real binary: what it counts adds up, the gold answer is seen only where
# it may be, and neither threads nor slots change anything.
. tests/e2e/lib.sh
make_model

correct() { # name, options… → $work/NAME.json, without the time it took
    name=$1
    shift
    "$RETAKE" correct "$work/model" --json --iterations 5 "$@" >"$work/$name.timed" 2>"$work/$name.err" </dev/null ||
        fail "$name: exit code $?"
    sed 's/"seconds":[^,}]*,*//' "$work/$name.timed" >"$work/$name.json"
}
of() { # name, path → value
    field "$work/$1.json" "$2" || fail "$1 has no $2"
}
add() { echo $(($(echo "$*" | tr ' ' '+'))); }

# Every figure that is a sum of others.
check_sums() { # name, problems
    name=$1 problems=$2
    same "$(of "$name" problems)" "$problems" "$name: problems"
    before=$(of "$name" accuracy_before.count) after=$(of "$name" accuracy_after.count)
    lifts=$(of "$name" lifts.count) regressions=$(of "$name" regressions.count)
    same $((before + lifts - regressions)) "$after" "$name: before + lifts - regressions"
    same "$(of "$name" lifts.of)" $((problems - before)) "$name: wrong before"
    same "$(of "$name" regressions.of)" "$before" "$name: right before"
    for what in count right lifts regressions; do
        eval "$what=\$(add $(of "$name" "exits.1.$what") $(of "$name" "exits.2.$what") $(of "$name" "exits.3.$what"))"
    done
    # shellcheck disable=SC2154
    same "$count" "$problems" "$name: problems by exit"
    # shellcheck disable=SC2154
    same "$right" "$after" "$name: right by exit"
    same "$lifts" "$(of "$name" lifts.count)" "$name: lifts by exit"
    same "$regressions" "$(of "$name" regressions.count)" "$name: regressions by exit"
    same "$(of "$name" verified_correct.count)" "$(of "$name" exits.1.right)" "$name: verified and right"
    same "$(of "$name" converged+)" "$problems" "$name: problems by resamples"
    same "$(of "$name" cost.calls.sample)" $((problems + $(of "$name" resamples.count))) "$name: chains"
    turned=$(add "$(of "$name" resamples.wrong_to_wrong)" "$(of "$name" resamples.wrong_to_right)" \
        "$(of "$name" resamples.right_to_wrong)" "$(of "$name" resamples.right_to_right)")
    same "$turned" "$(of "$name" resamples.count)" "$name: resamples by what they turned into what"
}

# ---- levels and their variants on the task the model knows
for level in l1 l2 l3; do
    correct $level --task chain --limit 40 --level $level
    correct $level-safe --task chain --limit 40 --level $level --safeguard
    correct $level-votes --task chain --limit 40 --level $level --votes 3
    for name in $level $level-safe $level-votes; do
        check_sums $name 40
        same "$(of $name accuracy_before.count)" "$(of l1 accuracy_before.count)" "$name: right at first"
        same "$(of $name cost.tokens.first)" "$(of l1 cost.tokens.first)" "$name: tokens of the first chains"
    done
    # the safeguard changes only what is returned
    same "$(of $level-safe cost)" "$(of $level cost)" "$level: cost with the safeguard"
    for code in 2 3; do
        same "$(of $level-safe exits.$code.count)" "$(of $level exits.$code.count)" "$level: exit $code with the safeguard"
        same "$(of $level-safe exits.$code.lifts)" 0 "$level: lifts of exit $code with the safeguard"
        same "$(of $level-safe exits.$code.regressions)" 0 "$level: regressions of exit $code with the safeguard"
    done
    say "ok: $level: $(of $level accuracy_before.count) of 40 right, then $(of $level accuracy_after.count)"
done
for level in l1 l2; do
    same "$(of $level regressions.count)" 0 "$level: regressions although the gold answer verifies"
    same "$(of $level exits.1.right)" "$(of $level exits.1.count)" "$level: right of the verified"
    same "$(of $level cost.calls.verify)" 0 "$level: verifications by the model"
done
[ "$(of l3 cost.calls.verify)" -ge 40 ] || fail "l3: not every first chain was verified"
# the loop only ends early with a verdict: what is out of tries has used them all
correct few --task chain --limit 40 --level l2 --iterations 2
check_sums few 40
[ "$(of few resamples.count)" -ge $((2 * $(of few exits.3.count))) ] || fail "few: out of tries too early"
correct none --task chain --limit 40 --level l2 --iterations 0
check_sums none 40
same "$(of none exits.3.count)" 40 "without resamples: out of tries"
same "$(of none accuracy_after.count)" "$(of l1 accuracy_before.count)" "without resamples: right"
say "ok: levels, safeguard, votes, iterations"

# ---- chain by chain: a resample keeps what is before the thought that was named, and nothing else
correct traced --task chain --limit 12 --level l2 --trace "$work/trace.jsonl"
same "$(grep -c . "$work/trace.jsonl")" 12 "lines of the trace"
first() { # text, count → its first thoughts
    printf %s "$1" | awk -v n="$2" 'BEGIN { RS = "</thought>" } NR <= n { printf "%s</thought>", $0 }'
}
resamples=0 right=0 changed=0
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
    sed -n ${i}p "$work/trace.jsonl" >"$work/line.json"
    same "$(of line attempts.0.from)" 1 "problem $i: where the first chain begins"
    [ "$(of line right_after)" = false ] || right=$((right + 1))
    attempts=$(of line 'attempts#') j=1
    while [ $j -lt "$attempts" ]; do
        from=$(of line attempts.$j.from)
        of line attempts.$((j - 1)).judgements.0.text >"$work/judgement"
        same "$from" "$(sed -n 's/.*\\boxed{\([0-9]*\)}.*/\1/p' "$work/judgement")" "problem $i, chain $j: the thought that was named"
        before=$(of line attempts.$((j - 1)).text) after=$(of line attempts.$j.text)
        same "$(first "$after" $((from - 1)))" "$(first "$before" $((from - 1)))" "problem $i, chain $j: what was kept"
        [ "$(first "$after" "$from")" = "$(first "$before" "$from")" ] || changed=$((changed + 1))
        resamples=$((resamples + 1)) j=$((j + 1))
    done
done
same "$resamples" "$(of traced resamples.count)" "resamples in the trace"
same "$right" "$(of traced accuracy_after.count)" "right in the trace"
[ "$changed" -gt 0 ] || fail "of $resamples resamples none changed the thought that was named"
say "ok: $resamples resamples, each from just before the thought that was named"

# ---- several verifications of a chain: the gate decides over what is in the trace
for gate in any majority unanimous; do
    correct $gate --task chain --limit 12 --level l3 --iterations 2 --verify-votes 3 --gate $gate --judge-temperature 3 --trace "$work/trace.jsonl"
    check_sums $gate 12
    passed=0 flagged=0
    for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
        sed -n ${i}p "$work/trace.jsonl" >"$work/line.json"
        attempts=$(of line 'attempts#') last=$(($(of line 'attempts#') - 1))
        j=0
        while [ $j -lt "$attempts" ] && [ $j -lt 2 ]; do
            yes=0
            for vote in 0 1 2; do
                same "$(of line attempts.$j.judgements.$vote.asked)" verify "$gate, problem $i, chain $j: judgement $vote"
                # a no is an n at a line's end; hot judgements hold any byte
                of line attempts.$j.judgements.$vote.text | tr '\r' '\n' >"$work/judgement"
                grep -aq 'n$' "$work/judgement" || yes=$((yes + 1))
            done
            case $gate in any) least=3 ;; majority) least=2 ;; unanimous) least=1 ;; esac
            if [ $yes -ge $least ]; then
                same "$j $(of line exit)" "$last 1" "$gate, problem $i: $yes of 3 said yes of chain $j"
                passed=$((passed + 1))
            else
                same "$(of line "attempts.$j.judgements#")" 4 "$gate, problem $i: judgements of chain $j, which $yes of 3 passed"
                flagged=$((flagged + 1))
            fi
            j=$((j + 1))
        done
    done
    same "$passed" "$(of $gate exits.1.count)" "$gate: verified in the trace"
    same "$(of $gate cost.calls.localize)" "$flagged" "$gate: localizations"
    eval "passed_$gate=$(of $gate converged.0)"
done
# the first chains and what is said of them are the same for every gate
# shellcheck disable=SC2154
[ "$passed_any" -lt "$passed_majority" ] && [ "$passed_majority" -lt "$passed_unanimous" ] || fail "first chains verified: any $passed_any, majority $passed_majority, unanimous $passed_unanimous"
say "ok: verified at once by any, majority, unanimous: $passed_any, $passed_majority, $passed_unanimous of 12"

# ---- the control never localizes and begins with the same chains
correct control --task chain --limit 40 --level l2 --control
same "$(of control control.cost.calls.localize)" 0 "localizations of the control"
same "$(of control control.accuracy_before.count)" "$(of control accuracy_before.count)" "first chains of the control"
same "$(of control accuracy_after.count)" "$(of l2 accuracy_after.count)" "what is measured beside the control"

# ---- one seed, one result
for options in "--level l2" "--level l3 --votes 3 --control" "--level l3 --verify-votes 3 --gate unanimous"; do
    # shellcheck disable=SC2086
    {
        correct one --task chain --limit 20 $options --threads 1 --slots 64 --trace "$work/one.jsonl"
        correct two --task chain --limit 20 $options --threads 2 --slots 7 --trace "$work/two.jsonl"
        correct three --task chain --limit 20 $options --threads 2 --slots 1
        correct other --task chain --limit 20 $options --seed 5
    }
    cmp "$work/one.json" "$work/two.json" || fail "$options: other threads and slots give another result"
    cmp "$work/one.jsonl" "$work/two.jsonl" || fail "$options: other threads and slots give other chains"
    cmp "$work/one.json" "$work/three.json" || fail "$options: one slot gives another result"
    cmp -s "$work/one.json" "$work/other.json" && fail "$options: another seed gives the same result"
done
say "ok: the same with 1 and 2 threads, 1, 7 and 64 slots"

# ---- data files: judges read templates, which need more context than the model was made for
sed -i 's/"max_position_embeddings": [0-9]*/"max_position_embeddings": 2048/' "$work/model/config.json"
printf 'Q:{problem}\n' >"$work/prompt.txt"
data() { # file, what the answers are off by
    for i in 1 2 3 4 5 6 7 8; do
        problem="$((i % 10))+$((i * 7 % 9 + 1))-$((i * 5 % 9 + 1))*3"
        answer=$((((i % 10 + i * 7 % 9 + 1 - (i * 5 % 9 + 1) + 20) * 3 + $2) % 10))
        printf '{"question":"%s","answer":"so it is\\n#### %s"}\n' "$problem" "$answer"
    done >"$work/$1"
}
data right.jsonl 0
data wrong.jsonl 1
correct_data() { # name, file, options…
    name=$1 file=$2
    shift 2
    correct "$name" --data "$work/$file" --set tasks.0.prompt="$work/prompt.txt" --iterations 2 \
        --judge-tokens 16 "$@"
}
for options in "" "--votes 3" "--incremental" "--token" "--safeguard --control"; do
    for level in l1 l2 l3; do
        # shellcheck disable=SC2086
        correct_data data right.jsonl --level $level $options
        check_sums data 8
        same "$(of data cost.unfit)" 0 "judgements that did not fit"
    done
    # shellcheck disable=SC2086
    {
        correct_data gold right.jsonl --level l3 $options
        correct_data no-gold wrong.jsonl --level l3 $options
    }
    for what in exits.1.count exits.2.count exits.3.count cost; do
        same "$(of no-gold $what)" "$(of gold $what)" "l3 $options: $what with other gold answers"
    done
    same "$(of no-gold localization.count)" "$(of gold localization.count)" "l3 $options: localizations with other gold answers"
done
correct_data gold right.jsonl --level l1
correct_data no-gold wrong.jsonl --level l1
[ "$(of no-gold cost)" != "$(of gold cost)" ] || fail "l1 does not see the gold answer"
correct_data one right.jsonl --level l3 --incremental --threads 1
correct_data two right.jsonl --level l3 --incremental --threads 2 --slots 1
cmp "$work/one.json" "$work/two.json" || fail "incremental: other threads and slots give another result"
say "ok: data files; at l3 nothing depends on the gold answers"

# ---- eval --method correct is this command
correct same-as --task chain --limit 30 --level l2 --votes 3
"$RETAKE" eval "$work/model" --task chain --limit 30 --json --iterations 5 --method correct --level l2 --votes 3 2>"$work/eval.err" |
    sed 's/"seconds":[^,}]*,*//' >"$work/eval.json"
cmp "$work/same-as.json" "$work/eval.json" || fail "eval --method correct is another command"
same "$(field "$work/eval.json" method)" correct "method of eval"
for method in plain thoughts; do
    "$RETAKE" eval "$work/model" --task chain --limit 30 --json --method $method >"$work/eval.json" 2>"$work/eval.err" ||
        fail "eval --method $method: exit code $?"
    same "$(field "$work/eval.json" method)" $method "method of eval"
    same "$(field "$work/eval.json" problems)" 30 "problems of eval"
done

# ---- the table for people
"$RETAKE" correct "$work/model" --task chain --limit 30 --level l2 --safeguard >"$work/table" 2>"$work/table.err" ||
    fail "the table: exit code $?"
for row in "accuracy before" "accuracy after" "verified and correct" "lifts" "exit 1" "exit 2" "exit 3"; do
    grep -q "^  $row" "$work/table" || fail "the table has no row \"$row\""
done
grep -q '^30/30 problems' "$work/table.err" || fail "no progress on stderr"

# ---- what is refused
go() { "$RETAKE" correct "$work/model" --task chain "$@"; }
refused level 2 "--level is l1, l2 or l3" "l4" -- go --level l4
refused votes 2 "--votes is 1 to" -- go --votes 0
refused greedy-votes 2 "greedy votes" -- go --votes 3 --judge-temperature 0
refused verify-votes 2 "--verify-votes is 1 to" -- go --verify-votes 0
refused gate 2 "--gate is any, majority or unanimous" "most" -- go --gate most
refused gold-verifies 2 "--verify-votes needs --level l3" -- go --level l2 --verify-votes 3
refused greedy-verify 2 "greedy votes" "verify-votes" -- go --verify-votes 3 --judge-temperature 0
refused step-votes 2 "--incremental excludes --verify-votes" -- go --incremental --verify-votes 3
refused both 2 "--incremental excludes" -- go --incremental --token
refused iterations 2 "--iterations is 0 to" -- go --iterations -1
refused number 2 "--votes wants a whole number" "many" -- go --votes many
refused temperature 2 "temperature is 0" -- go --temperature -1
refused slots 2 "--slots" -- go --slots 0
refused no-option 2 "no option \"--lifts\"" -- go --lifts
refused method 2 "plain, thoughts, correct or debate" "corect" -- "$RETAKE" eval "$work/model" --task chain --method corect
refused no-k 2 "no option \"--k\"" -- "$RETAKE" eval "$work/model" --task chain --method correct --k 2
refused no-model 2 "which model?" -- "$RETAKE" correct --task chain
refused no-task 2 "which task?" -- "$RETAKE" correct "$work/model"
refused wrong-task 2 "chian" "chain" -- "$RETAKE" correct "$work/model" --task chian
refused no-file 1 "nowhere.jsonl" "No such file" -- "$RETAKE" correct "$work/model" --data "$work/nowhere.jsonl"
refused no-weights 1 "$work/nothing" -- "$RETAKE" correct "$work/nothing" --task chain

mkdir "$work/folder"
"$RETAKE" correct "$work/model" --task chain --limit 2 --trace "$work/folder" >"$work/table" 2>"$work/trace.err"
same $? 1 "exit code where the trace cannot be written"
grep -q "^retake: .*$work/folder" "$work/trace.err" || fail "the file that cannot be written is not named"
grep -q "accuracy after" "$work/table" || fail "no table where the trace cannot be written"

# ---- Ctrl-C, while it works
"$RETAKE" correct "$work/model" --task chain --limit 20000 --level l3 >"$work/stop.out" 2>"$work/stop.err" &
started=$!
tries=0
until [ -s "$work/stop.err" ]; do
    tries=$((tries + 1))
    [ $tries -lt 600 ] && kill -0 $started 2>/dev/null || fail "no progress to be stopped in"
    sleep 0.1
done
kill -INT $started
wait $started
same $? 130 "exit code after SIGINT"
[ ! -s "$work/stop.out" ] || fail "a result is printed after SIGINT"
say "ok: Ctrl-C"
