#!/bin/sh
# What programs and people read of a run: the stats socket while it works, the run store after.
. tests/e2e/lib.sh
steps=80
make_config $steps
start busy
wait_step busy 1 || fail "the run ended before it could be asked"

# A role may join late on a machine with other work: the first steps need one actor only.
workers=0
until [ "$workers" = 3 ]; do
    "$RETAKE" stats "$work/busy" --json >"$work/stats.json" || fail "no answer, or not all workers came: $workers"
    workers=$(field "$work/stats.json" 'workers#')
done
for path in run step steps version weights_hash phase waits_for workers leases queues.store metrics evaluation tasks.0.task tasks.0.eval \
    seconds.sampling seconds.training seconds.weights seconds.evaluation seconds.waiting eta_seconds events \
    leases.open leases.queued leases.trained leases.filtered leases.stale leases.failed leases.cancelled \
    leases.done leases.reissued leases.duplicate metrics.loss metrics.accuracy; do
    field "$work/stats.json" $path >/dev/null || fail "stats has no $path"
done
same "$(field "$work/stats.json" steps)" $steps "steps"
for i in 0 1 2; do
    for key in name role state waits_for waits_ms tokens_per_second tokens active version leases isa; do
        field "$work/stats.json" workers.$i.$key >/dev/null || fail "worker $i has no $key"
    done
done
fates=0
for fate in trained filtered stale failed cancelled; do
    fates=$((fates + $(field "$work/stats.json" leases.$fate)))
done
same "$(field "$work/stats.json" leases.done)" $fates "leases done is the sum over fates"
case $(field "$work/stats.json" phase) in
sampling | training | evaluating | "sending weights" | "waiting for learner" | done) ;;
*) fail "unknown phase $(field "$work/stats.json" phase)" ;;
esac
say "ok: every field, $fates leases done"

# Time of an answer while the run works. Printed; only a hang fails, for others may hold the processor.
median=$("$PEEK" ask "ipc://$work/busy/stats.sock" 100) || fail "the stats socket does not answer"
say "median of the answers while the run works: $median us"
[ "$median" -lt 1000000 ] || fail "the median answer took $median us"

# A person's view, also of a run that still works.
"$RETAKE" stats "$work/busy" >"$work/table" 2>/dev/null && { grep -q actor-0 "$work/table" && grep -q "^chain " "$work/table" || fail "no actor or no task in the table"; }
wait "$started"
same $? 0 "exit code"

for path in accuracy_before accuracy_after accuracy_before_interval.0 accuracy_after_interval.1 \
    sampled_before.accuracy sampled_after.low sampled_after.high sampled_after.count \
    steps tokens.sampled tokens.prefill tokens.trained seconds.total seconds.sampling seconds.training \
    seconds.weights seconds.evaluation seconds.waiting weights_hash logprob.compared logprob.mismatched \
    leases.trained leases.filtered leases.stale leases.failed leases.cancelled \
    grades.correct grades.wrong grades.undecided restarts; do
    field "$work/busy.json" $path >/dev/null || fail "the summary has no $path"
done
say "ok: summary complete"

# Every lease ended exactly once, in one of the fates; rows and counters agree.
rows=$(query "$work/busy" "SELECT count(*) FROM leases")
same "$(query "$work/busy" "SELECT count(*) FROM leases
    WHERE fate IN ('trained', 'filtered', 'stale', 'failed', 'cancelled') AND ended IS NOT NULL")" "$rows" "ended leases"
same "$(field "$work/busy.json" leases+)" "$rows" "sum of the lease counters"
for fate in trained filtered stale failed cancelled; do
    same "$(field "$work/busy.json" leases.$fate)" \
        "$(query "$work/busy" "SELECT count(*) FROM leases WHERE fate = '$fate'")" "leases $fate"
done
same "$(field "$work/busy.json" leases.trained)" $((steps * 4)) "leases trained: problems times steps"
same "$(field "$work/busy.json" grades+)" $((steps * 16)) "grades: one a trajectory"
say "ok: $rows leases, each ended once"

same "$(query "$work/busy" 'SELECT count(*) FROM workers WHERE "left" IS NULL')" 0 "workers that never left"

# show: the run, a step, a problem, a trajectory with its thoughts and log-probs.
"$RETAKE" show "$work/busy" >"$work/show" || fail "show"
"$RETAKE" show "$work/busy" steps --json >"$work/show.json" || fail "show steps"
same "$(field "$work/show.json" '#')" $steps "rows of show steps"
id=$(query "$work/busy" "SELECT id FROM trajectories WHERE kind = 'base' AND length(thought_ends) >= 8 LIMIT 1")
problem=$(query "$work/busy" "SELECT problem_id FROM trajectories WHERE id = $id")
"$RETAKE" show "$work/busy" trajectory "$id" >"$work/show" || fail "show trajectory"
for words in "[thought 1]" "[thought 2]" "log-prob" "</thought>" "prompt"; do
    grep -q -F "$words" "$work/show" || fail "show trajectory has no $words: $(cat "$work/show")"
done
"$RETAKE" show "$work/busy" trajectory "$id" --json >"$work/show.json" || fail "show trajectory --json"
same "$(field "$work/show.json" 'logprobs#')" "$(field "$work/show.json" 'response_ids#')" "a log-prob a token"
same "$(field "$work/show.json" 'thoughts#')" "$(field "$work/show.json" 'thought_ends#')" "a text a thought"
"$RETAKE" show "$work/busy" problem "$problem" >"$work/show" || fail "show problem"
grep -q "$id" "$work/show" || fail "show problem does not list trajectory $id"
"$RETAKE" show "$work/busy" step 3 >"$work/show" || fail "show step"
"$RETAKE" show "$work/busy" tasks --json >"$work/show.json" || fail "show tasks --json"
same "$(field "$work/show.json" 0.task)" chain "the task"
same "$(field "$work/show.json" 0.eval)" "$(field "$work/busy.json" accuracy_after)" "evaluation of the only task"
same "$(field "$work/show.json" 0.reward)" "$(query "$work/busy" "SELECT avg(reward) FROM trajectories
    WHERE kind = 'base' AND step = $((steps - 1))")" "reward of the only task in the last step"
same "$(field "$work/busy.json" tasks.0.gain)" "$(field "$work/show.json" 0.gain)" "gain, in the summary and in show"
same "$(query "$work/busy" "SELECT count(*) FROM metrics a JOIN metrics b ON a.step = b.step
    AND b.name = 'eval/chain/' || substr(a.name, 13) AND a.value = b.value WHERE a.name LIKE 'eval.greedy.%'")" 8 \
    "evaluations by task, which are those of the run"
"$RETAKE" show "$work/busy" report --to "$work/report.svg" || fail "show report"
grep -q "held-out problems" "$work/report.svg" && grep -q "actor-1" "$work/report.svg" || fail "the report lacks something"
refused report-where 2 "--to" -- "$RETAKE" show "$work/busy" report
refused report-form 2 "report.pdf" ".svg or .html" -- "$RETAKE" show "$work/busy" report --to "$work/report.pdf"
refused two-runs 2 "only metrics takes several" -- "$RETAKE" show "$work/busy" "$work/busy" steps
"$RETAKE" show "$work/busy" workers >"$work/show" || fail "show workers"
grep -q actor-1 "$work/show" || fail "show workers has no actor-1"
refused show-nothing 1 "99999999" -- "$RETAKE" show "$work/busy" trajectory 99999999
refused show-folder 2 "run.db" -- "$RETAKE" show "$work"
refused stats-over 1 "no coordinator answers" -- "$RETAKE" stats "$work/busy" --timeout 300
say "ok: show"

# eval: two models on the same problems. The run's own evaluation is the same measurement: its greedy answers to
# the first held-out problems at its last version.
retake_eval() { # name, options…
    name=$1
    shift
    "$RETAKE" eval "$work/busy" --limit 16 --json "$@" >"$work/$name.json" 2>"$work/$name.err" ||
        fail "eval, $name: exit code $?: $(tail -1 "$work/$name.err")"
}
of() { field "$work/$1.json" "$2" || fail "$1 has no $2"; }
retake_eval both --k 4 --greedy --against "$work/model"
same "$(of both greedy.accuracy)" "$(of busy accuracy_after)" "eval and the run's last evaluation"
retake_eval again --k 4 --greedy --against "$work/model" --threads 1 --slots 3
strip='s/"seconds":[^,}]*,*//g; s/"tokens_per_second":[^,}]*,*//g'
sed "$strip" "$work/both.json" >"$work/both.one"
sed "$strip" "$work/again.json" >"$work/both.two"
cmp "$work/both.one" "$work/both.two" || fail "eval: other threads and slots give another result"
for kind in greedy sampled; do
    for key in difference difference_interval.0 difference_by p lifts regressions tasks.0.task tasks.0.p; do
        of both comparison.$kind.$key >/dev/null
    done
    same "$(of both comparison.$kind.problems)" 16 "problems compared"
done
same "$(of both comparison.greedy.test)" mcnemar_exact "test of greedy answers"
same "$(of both comparison.sampled.test)" sign_flip_exact "test of drawn answers"
same "$(of both accuracy)" "$(of both comparison.sampled.accuracy)" "accuracy and the comparison's"
same "$(of both against.greedy.accuracy)" "$(of busy accuracy_before)" "the start model and the run's first evaluation"
same "$(of both against.accuracy)" "$(of both comparison.sampled.accuracy_against)" "accuracy of the other model"
same "$(of both pass_at.4.by)" wilson "interval of pass@4 of four answers"
retake_eval itself --k 4 --against "$work/busy"
same "$(of itself comparison.sampled.p) $(of itself comparison.sampled.difference)" "1.0 0.0" "a model against itself"
same "$(of itself comparison.sampled.lifts) $(of itself comparison.sampled.regressions)" "0 0" "a model against itself"
"$RETAKE" eval "$work/busy" --limit 16 --against "$work/model" >"$work/table" 2>"$work/table.err" || fail "eval --against"
grep -q "McNemar" "$work/table" || fail "the comparison names no test: $(cat "$work/table")"
refused eval-nothing 1 "$work/nothing" -- "$RETAKE" eval "$work/busy" --against "$work/nothing"
say "ok: eval and two models"
