#!/bin/sh
# bench/resets.sh in its quick form: what it writes is what its runs recorded; it goes on where it stopped.
. tests/e2e/lib.sh
export RETAKE
REPORT=$(dirname "$RETAKE")/bench/resets_report
export REPORT
out=$work/bench
sh bench/resets.sh quick "$out" >"$work/first.out" 2>"$work/first.err" || fail "quick: exit code $?"
runs=$(ls -d "$out"/quick/*/*/seed-* | wc -l)
same "$runs" 3 "runs: three methods, one seed"
grep -q '^| method | seeds | start |' "$out/quick.md" || fail "no table of accuracies"
for method in grpo_seqmean srpo caro; do
    grep -q "^| $method | 1 |" "$out/quick.md" || fail "no row of $method"
done
grep -q '^| resets of |' "$out/quick.md" || fail "no table of resets"
for part in '<svg' '</svg>' 'steps' 'thousand tokens' 'srpo'; do
    grep -q -e "$part" "$out/figures/resets-dense.svg" || fail "the plot has no $part"
done

# The CSV against the run store of one run: accuracies, and tokens that were sampled for training.
run=$out/quick/dense/srpo/seed-1
same "$(head -1 "$out/quick.csv")" "regime,method,seed,version,accuracy,tokens,seconds" "columns"
same "$(grep -c '^dense,srpo,1,' "$out/quick.csv")" \
    "$(query "$run" "SELECT count(*) FROM metrics WHERE name = 'eval.sampled.accuracy'")" "evaluations"
same "$(grep '^dense,srpo,1,4,' "$out/quick.csv" | cut -d, -f5)" \
    "$(query "$run" "SELECT printf('%.6f', value) FROM metrics WHERE name = 'eval.sampled.accuracy' AND step = 4")" \
    "accuracy of the last evaluation"
sampled=$(query "$run" "SELECT sum(length(response_ids) / 4) FROM trajectories WHERE kind <> 'eval'")
kept=$(query "$run" "SELECT sum(tokens * visits) FROM resets")
same "$(grep '^dense,srpo,1,4,' "$out/quick.csv" | cut -d, -f6)" $((sampled - kept)) "tokens sampled"
say "ok: tables, CSV and plots of $runs runs"

# Again: nothing is done twice.
before=$(stat -c %Y "$run/summary.json")
sh bench/resets.sh quick "$out" >"$work/second.out" 2>"$work/second.err" || fail "again: exit code $?"
same "$(stat -c %Y "$run/summary.json")" "$before" "a finished run"
grep -q "of 3:" "$work/second.out" && fail "finished runs were done again"
rm -rf "$run"
sh bench/resets.sh quick "$out" >"$work/third.out" 2>"$work/third.err" || fail "with one run gone: exit code $?"
same "$(grep -c "of 3:" "$work/third.out")" 1 "runs that were missing"
say "ok: goes on where it stopped"
"$REPORT" "$work/nothing" 2>"$work/nothing.err"
same $? 1 "exit code without runs"
grep -q "no finished run" "$work/nothing.err" || fail "$(cat "$work/nothing.err")"
