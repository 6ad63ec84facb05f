#!/bin/sh
# Resets over real processes: any number of actors gives the same weights, also when one dies while it
# samples, localizes or continues; an independent program recomputes what each step did.
. tests/e2e/lib.sh
steps=5
make_config $steps
sed -e 's/name: grpo/name: srpo/' -e 's/problems: 4/problems: 8/' -e 's/samples: 4/samples: 8/' \
    "$config" >"$work/srpo.yaml"
config=$work/srpo.yaml
check=tests/oracles/resets_check.py

run one --set actors.count=1 || fail "one actor: exit code $?"
hash=$(field "$work/one.json" weights_hash)
for actors in 2 4; do
    run $actors-actors --set actors.count=$actors || fail "$actors actors: exit code $?"
    check_run $actors-actors "$hash"
done
say "ok: 1, 2 and 4 actors give $hash"

# With one actor every continuation is leased to whom sampled the prefix: a fork computes nothing.
wanted=$(query "$work/one" "SELECT sum(value) FROM metrics WHERE name = 'affinity.wanted'")
[ "${wanted%.*}" -gt 0 ] || fail "no continuation had a prefix"
same "$(query "$work/one" "SELECT sum(value) FROM metrics WHERE name = 'affinity.hits'")" "$wanted" "hits"
same "$(query "$work/one" "SELECT sum(value) FROM metrics WHERE name = 'affinity.prefill_tokens'")" 0.0 \
    "tokens computed again for prefixes that are there"
wanted=$(query "$work/4-actors" "SELECT sum(value) FROM metrics WHERE name = 'affinity.wanted'")
hits=$(query "$work/4-actors" "SELECT sum(value) FROM metrics WHERE name = 'affinity.hits'")
[ "${hits%.*}" -gt 0 ] || fail "of $wanted continuations none went to the actor that has the prefix"
same "$(query "$work/4-actors" "SELECT sum(value) FROM metrics WHERE name = 'affinity.prefill_tokens.hit'")" 0.0 \
    "tokens computed again on a hit"
say "ok: $hits of $wanted continuations found their prefix with four actors, a hit computes nothing"

# An actor is stopped again and again until it holds a lease of the kind, and killed then.
kill_while() { # kind
    name=killed-$1
    start "$name" --set actors.count=2
    wait_step "$name" 0 || return 1
    tries=0
    while kill -0 "$started" 2>/dev/null && [ $tries -lt 300 ]; do
        tries=$((tries + 1))
        victim=$(role_process "$work/$name" actor) || continue
        kill -STOP "$victim" 2>/dev/null || continue
        actor=$(tr '\0' '\n' <"/proc/$victim/cmdline" | grep -x 'actor-[0-9]*')
        if [ "$(query "$work/$name" "SELECT count(*) FROM leases WHERE fate IS NULL AND kind = '$1' AND
            worker = '$actor'" 2>/dev/null || echo 0)" -gt 0 ]; then
            kill -9 "$victim"
            wait "$started"
            same $? 0 "$name: exit code"
            check_run "$name" "$hash"
            [ "$(field "$work/$name.json" restarts)" -ge 1 ] || fail "$name: nothing was started again"
            say "ok: an actor killed with a lease of kind $1"
            return 0
        fi
        kill -CONT "$victim" 2>/dev/null
        sleep 0.00$(random 10)
    done
    wait "$started"
    return 1
}
for kind in base localize reset; do
    try=1
    until kill_while $kind; do
        try=$((try + 1))
        [ $try -le 8 ] || fail "no actor could be killed with a lease of kind $kind"
        rm -rf "$work/killed-$kind"
    done
done

# Every algorithm with resets, recomputed from its raw trajectories.
python3 $check "$work/one" || fail "srpo"
for algorithm in rrpo srpo_oracle srpo_2x4 srpo_1x8 srpo_clip srpo_nomask; do
    run $algorithm --set algorithm.name=$algorithm --set steps=2 --set eval.problems=0 ||
        fail "$algorithm: exit code $?"
    same "$(field "$work/$algorithm.json" logprob.mismatched)" 0 "$algorithm: log-probs that differ"
    python3 $check "$work/$algorithm" || fail "$algorithm"
done

# The check can fail: one row that says something else is found.
tamper() { # what, SQL
    rm -rf "$work/tampered"
    cp -r "$work/one" "$work/tampered"
    python3 - "$work/tampered/run.db" "$2" <<'END' || fail "cannot change the copy"
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
done = db.execute(sys.argv[2]).rowcount
db.commit()
sys.exit(done != 1)
END
    python3 $check "$work/tampered" >"$work/tampered.out" 2>&1 && fail "$1: not noticed"
    say "ok: $1 is noticed: $(tail -1 "$work/tampered.out" | cut -c1-90)"
}
some="(SELECT min(id) FROM trajectories WHERE kind = 'reset' AND suffix_start > 0)"
tamper "an advantage" "UPDATE trajectories SET advantage = advantage + 0.001 WHERE id = $some"
tamper "a mask" "UPDATE trajectories SET suffix_start = suffix_start - 1 WHERE id = $some"
tamper "a grade" "UPDATE trajectories SET grade = CASE grade WHEN 'correct' THEN 'wrong' ELSE 'correct' END,
    reward = 1 - reward WHERE id = $some"
tamper "a fate" "UPDATE trajectories SET fate = 'trained' WHERE id =
    (SELECT min(id) FROM trajectories WHERE kind = 'seed')"
tamper "another thought" "UPDATE resets SET thought = thought + 1 WHERE id = (SELECT min(id) FROM resets)"
tamper "another seed" "UPDATE resets SET trajectory_id = trajectory_id + 1 WHERE id = (SELECT min(id) FROM resets)"

# caro: the same weights with any number of actors, and every choice says why.
run caro --set algorithm.name=caro --set actors.count=1 || fail "caro: exit code $?"
hash=$(field "$work/caro.json" weights_hash)
run caro-3 --set algorithm.name=caro --set actors.count=3 || fail "caro with three actors: exit code $?"
check_run caro-3 "$hash"
same "$(query "$work/caro" "SELECT count(*) FROM resets WHERE chosen_by = 'statistics' AND why <> '' AND gain > 0")" \
    "$(query "$work/caro" "SELECT count(*) FROM resets")" "choices that say why"
say "ok: caro, $hash"

# A person's view.
"$RETAKE" show "$work/one" resets --json >"$work/show.json" || fail "show resets"
same "$(field "$work/show.json" resets.0.chosen_by)" self "chooser"
same "$(field "$work/show.json" resets.0.resets)" "$(query "$work/one" "SELECT count(*) FROM resets")" "resets"
reset=$(query "$work/one" "SELECT min(id) FROM resets WHERE thought > 1")
problem=$(query "$work/one" "SELECT problem_id FROM resets WHERE id = $reset")
"$RETAKE" show "$work/one" reset "$reset" >"$work/show" || fail "show reset"
for words in "reset $reset:" "chosen by self" "advantage" "a token" "> ["; do
    grep -q -F -e "$words" "$work/show" || fail "show reset has no $words: $(cat "$work/show")"
done
"$RETAKE" show "$work/one" problem "$problem" | grep -q "reset $reset:" || fail "show problem has no reset tree"
"$RETAKE" show "$work/one" reset "$reset" --json >"$work/show.json" || fail "show reset --json"
same "$(field "$work/show.json" 'continuations#')" 4 "continuations in JSON"
refused show-no-reset 1 "no reset 7" -- "$RETAKE" show "$work/one" reset 7
