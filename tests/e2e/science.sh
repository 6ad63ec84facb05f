#!/bin/sh
# The quick form of bench/resets.sh: every method runs on both tasks, what is written has its form, a
# second call does nothing again. Of scores it says nothing.
. tests/e2e/lib.sh

build=$(dirname "$(dirname "$PEEK")")
export RETAKE RESETS="$build/bench/resets" TOKENIZER="$build/bin/tiny_tokenizer"
sh bench/resets.sh quick --to "$work/science" >"$work/first.out" 2>"$work/first.err" || fail "resets.sh: $?"
report=$work/science/report-quick

column() { # file, column's name, condition on $regime and $method → values
    awk -F, -v name="$2" -v keep="$3" '
        NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) at = i; next }
        at && (keep == "" || $2 == keep) { print $at }' "$1"
}

methods="grpo grpo_seqmean rrpo srpo srpo_oracle caro"
same "$(column "$report/runs.csv" method "" | sort | uniq -c | awk '{ print $2 $1 }' | sort | tr '\n' ' ')" \
    "$(for m in $methods; do echo "${m}2"; done | sort | tr '\n' ' ')" "runs by method"
same "$(column "$report/runs.csv" steps "" | sort -u)" 2 "steps"
same "$(column "$report/runs.csv" logprobs_mismatched "" | sort -u)" 0 "log-probs that differ"
say "ok: six methods on both tasks"

# Equal trained sequences: 2 problems of 8 in each step, whatever the method.
same "$(column "$report/curves.csv" trained_sequences "" | sort -n | uniq -c | awk '{ print $2 "x" $1 }' | tr '\n' ' ')" \
    "0x12 16x12 32x12 " "trained sequences at the evaluations"
for method in $methods; do
    states=$(column "$report/runs.csv" states "$method" | awk '{ n += $1 } END { print n }')
    prompts=$(column "$report/runs.csv" at_prompt "$method" | awk '{ n += $1 } END { print n }')
    case $method in
    grpo*) same "$states" 0 "reset states of $method" ;;
    *) [ $((states + prompts)) -gt 0 ] || fail "$method has no reset state" ;;
    esac
done
[ "$(column "$report/runs.csv" tokens_judged srpo | sort -n | tail -1)" -gt 0 ] || fail "srpo judged nothing"
same "$(column "$report/runs.csv" tokens_judged rrpo | sort -u)" 0 "tokens judged by rrpo"
say "ok: 8 trained sequences a problem for every method; resets where there are any"

for name in chain dense positions; do
    grep -q '</svg>' "$report/resets-$name.svg" || fail "resets-$name.svg is no plot"
done
for words in "#### Regime chain" "#### Regime dense" "#### Orderings" "#### Where resets went" "| srpo_oracle |"; do
    grep -q -F "$words" "$report/tables.md" || fail "tables.md does not hold \"$words\""
done
say "ok: tables and plots"

# A run that is missing is made, the others stay as they are.
runs=$work/science/quick
rm -rf "$runs/dense/caro/1"
sed -i 's/^  lr: .*/  lr: 0.5/' "$runs/chain/grpo/1/config.yaml" # as if rates had been chosen anew
sh bench/resets.sh quick --to "$work/science" >"$work/second.out" 2>&1 || fail "resets.sh, second time: $?"
grep -q "12 runs, 10 of them done before" "$work/second.out" || fail "it does not go on: $(cat "$work/second.out")"
[ -f "$work/science/outdated/quick/chain/grpo/1-0.5/summary.json" ] || fail "the run of another rate is not kept"
grep -q "warm start" "$work/second.out" && fail "the models are trained again"
same "$(ls "$runs"/*/*/1/summary.json | wc -l)" 12 "finished runs"
sh bench/resets.sh report --to "$work/science" >"$work/report.out" 2>&1 && fail "a report without runs"
say "ok: goes on where it stopped"
sh bench/resets.sh nonsense >"$work/usage.out" 2>&1
same $? 2 "exit code for an unknown word"
