#!/bin/sh
# Debates over real processes: the same weights with any number of actors, whoever dies and whenever it
# is stopped; an independent program recomputes what each debate said, decided and trained; gold answers
# reach training only where they are asked for.
. tests/e2e/lib.sh
steps=4
make_config $steps
sed -i -e 's/name: grpo/name: maca_dpo/' -e 's/problems: 4/problems: 6/' -e '/samples: 4/d' \
    -e 's/updates: 2/updates: 1/' -e 's/problems: 16/problems: 3\n  samples: 2/' "$config"
cat >>"$config" <<END
sampling:
  max_tokens: 96
learner:
  lora: {rank: 2}
END
check=tests/oracles/debate_check.py
count() { # run, SQL behind "SELECT count(*) FROM"
    query "$work/$1" "SELECT count(*) FROM $2"
}
total() { # run, metric → its sum over steps, without a fraction
    found=$(query "$work/$1" "SELECT sum(value) FROM metrics WHERE name = '$2'")
    echo "${found%.*}"
}
more() { # number, than, what
    [ "$1" -gt "$2" ] || fail "$3: $1, not more than $2"
}

run one --set actors.count=1 || fail "one actor: exit code $?"
hash=$(field "$work/one.json" weights_hash)
python3 $check "$work/one" || fail "maca_dpo"
more "$(count one "records")" 0 "records"
more "$(total one debate.prompt.tokens.reused)" "$(total one debate.prompt.tokens.computed)" \
    "prompt tokens that were there already"

# Whatever happens on the way: the same weights, debates and records.
told() { # run → all that was decided and made
    query "$work/$1" "SELECT id, consensus, votes, label FROM debates ORDER BY id"
    query "$work/$1" "SELECT * FROM turns ORDER BY debate_id, round, agent"
    query "$work/$1" "SELECT id, agent, chosen, rejected, label, hex(prompt_ids) FROM records ORDER BY id"
}
told one >"$work/one.told"
check_same() { # run
    same "$(field "$work/$1.json" weights_hash)" "$hash" "$1: weights hash"
    same "$(field "$work/$1.json" steps)" $steps "$1: steps"
    same "$(count "$1" "leases WHERE fate IS NULL")" 0 "$1: leases without an end"
    told "$1" >"$work/$1.told"
    cmp -s "$work/one.told" "$work/$1.told" || fail "$1: other debates than with one actor"
}
run two --set actors.count=2 || fail "two actors: exit code $?"
check_same two
say "ok: 1 and 2 actors give $hash"

# Stopped again and again until it holds a turn of a debate, and killed then.
kill_actor() { # attempt
    start "actor-$1" --set actors.count=2
    wait_step "actor-$1" 1 || return 1
    tries=0
    while kill -0 "$started" 2>/dev/null && [ $tries -lt 300 ]; do
        tries=$((tries + 1))
        victim=$(role_process "$work/actor-$1" actor) || continue
        kill -STOP "$victim" 2>/dev/null || continue
        actor=$(tr '\0' '\n' <"/proc/$victim/cmdline" | grep -x 'actor-[0-9]*')
        if [ "$(count "actor-$1" "leases WHERE fate IS NULL AND kind = 'debate' AND worker = '$actor'" \
            2>/dev/null || echo 0)" -gt 0 ]; then
            kill -9 "$victim"
            wait "$started"
            same $? 0 "actor-$1: exit code"
            check_same "actor-$1"
            more "$(field "$work/actor-$1.json" restarts)" 0 "actors started again"
            return 0
        fi
        kill -CONT "$victim" 2>/dev/null
        sleep 0.00$(random 10)
    done
    wait "$started"
    return 1
}
kill_coordinator() { # attempt
    start "coordinator-$1"
    if wait_step "coordinator-$1" 1; then
        sleep 0.0$(random 10)
        victim=$(role_process "$work/coordinator-$1" coordinator) && kill -9 "$victim" 2>/dev/null
    fi
    wait "$started"
    same $? 0 "coordinator-$1: exit code"
    [ "$(field "$work/coordinator-$1.json" restarts)" -ge 1 ] || return 1
    check_same "coordinator-$1"
}
stop_and_continue() { # attempt
    start "stop-$1"
    wait_step "stop-$1" 1 && kill -INT "$started"
    wait "$started"
    [ $? = 130 ] || return 1
    run "stop-$1" || fail "stop-$1: the continued run: exit code $?"
    check_same "stop-$1"
    python3 $check "$work/stop-$1" || fail "the continued run"
}
for what in kill_actor kill_coordinator stop_and_continue; do
    $what 1 || $what 2 || $what 3 || $what 4 || fail "$what: the run always ended before"
    say "ok: $what: the same debates and weights"
done

# Every kind of record and context, recomputed from the raw texts.
recompute() { # name, options…
    name=$1
    shift
    run "$name" --set steps=2 --set eval.problems=0 "$@" || fail "$name: exit code $?"
    same "$(field "$work/$name.json" logprob.mismatched)" 0 "$name: log-probs that differ"
    python3 $check "$work/$name" || fail "$name"
}
debate=algorithm.debate
recompute maca_sft --set algorithm.name=maca_sft --set $debate.vote=weighted --set learner.lr=1e-2
recompute maca_kto --set algorithm.name=maca_kto --set $debate.context=none --set $debate.vote=strict
recompute maca_grpo --set algorithm.name=maca_grpo --set algorithm.samples=4
more "$(field "$work/maca_grpo.json" logprob.compared)" 0 "compared log-probs of new answers"
recompute last_answers --set algorithm.name=maca_grpo --set $debate.online=false --set learner.lora.rank=0
recompute ttrl --set algorithm.name=ttrl --set learner.lora.rank=0
recompute scpo --set algorithm.name=scpo --set learner.lora.rank=0
recompute previous --set $debate.context=previous --set $debate.rounds=3 --set $debate.agents=4 \
    --set $debate.peers=2 --set sampling.max_tokens=48 --set $debate.agreement_min=0.4
recompute first --set $debate.context=first --set $debate.label=first_round --set $debate.adapters=shared

# A step of debates trained once more, from texts and records alone, makes the recorded weights: the
# run's last, of the adapters of each kind of record, and of all weights.
audit() { # run
    "$RETAKE" audit "$work/$1" --step 1 --to "$work/audit.safetensors" >"$work/audit.out" 2>&1
    same $? 0 "audit of $1 ($(cat "$work/audit.out"))"
    grep -q "as the run recorded them" "$work/audit.out" || fail "audit of $1: $(cat "$work/audit.out")"
    same "$(sed -n 's/^weights \([0-9a-f]*\),.*/\1/p' "$work/audit.out")" \
        "$(field "$work/$1.json" weights_hash)" "audit of $1: weights"
    say "ok: audit of $1: $(sed 's/^.*: step/step/; q' "$work/audit.out")"
}
for name in maca_kto maca_grpo last_answers scpo previous first maca_sft; do
    audit $name
done
python3 tests/oracles/audit_check.py "$work/audit.safetensors" || fail "audit of maca_sft"
cp -r "$work/maca_kto" "$work/relabelled"
python3 - "$work/relabelled/run.db" <<'END'
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("UPDATE records SET label = 1 - label WHERE id = "
           "(SELECT min(id) FROM records WHERE debate_id >> 24 = 1)")
db.commit()
END
"$RETAKE" audit "$work/relabelled" --step 1 --to "$work/audit.safetensors" >"$work/audit.out" 2>&1
same $? 1 "exit code of an audit of another label ($(cat "$work/audit.out"))"
grep -q "NOT what the run recorded" "$work/audit.out" || fail "another label: $(cat "$work/audit.out")"

# The check can fail: one row that says something else is found.
tamper() { # what, run, SQL
    python3 $check "$work/$2" "$3" >"$work/tampered.out" 2>&1 && fail "$1: not noticed"
    grep -q '^differs:' "$work/tampered.out" || fail "$1: $(tail -1 "$work/tampered.out")"
    say "ok: $1 is noticed: $(tail -1 "$work/tampered.out" | cut -c1-90)"
}
record="WHERE id = (SELECT min(id) FROM records)"
some="WHERE id = (SELECT min(debate_id) FROM records)"
trained="WHERE id = (SELECT min(id) FROM trajectories WHERE fate = 'trained')"
tamper "a vote" one "UPDATE debates SET votes = votes - 1 $some"
tamper "a consensus" one "UPDATE debates SET consensus = consensus || '1' $some"
tamper "a label" one "UPDATE debates SET label = label || '1' $some"
tamper "a label of a record" maca_kto "UPDATE records SET label = 1 - label $record"
tamper "a chosen text" one "UPDATE records SET chosen = chosen - 1 $record"
tamper "a rejected text" one "UPDATE records SET rejected = rejected - 1 $record"
tamper "a prompt of a record" one "UPDATE records SET prompt_ids = substr(prompt_ids, 5) $record"
tamper "a missing record" one "DELETE FROM records $record"
tamper "a quoted list" one "UPDATE turns SET quoted = substr(quoted, 3) WHERE rowid =
    (SELECT min(rowid) FROM turns WHERE round = 1)"
tamper "an answer" one "UPDATE turns SET answer = '77' WHERE rowid = (SELECT max(rowid) FROM turns)"
tamper "a reward of a record" ttrl "UPDATE records SET reward = 2 - reward $record"
tamper "a reward" maca_grpo "UPDATE trajectories SET reward = 3 - reward $trained"
tamper "an advantage" ttrl "UPDATE trajectories SET advantage = advantage + 0.001 $trained"
tamper "a fate" one "UPDATE trajectories SET fate = 'filtered' $trained"
tamper "a group" ttrl "UPDATE groups SET id = id + 1 WHERE id = (SELECT min(id) FROM groups)"
tamper "a metric" one "UPDATE metrics SET value = value + 0.01 WHERE step = 1
    AND name = 'debate.round.2.switches'"

# Over a file of problems, in whole sentences: peers' texts are cut where they do not fit, a question
# stands there twice, and one is too long for any prompt.
cp -r "$work/model" "$work/wide"
sed -i 's/"max_position_embeddings": 256/"max_position_embeddings": 2048/' "$work/wide/config.json"
printf 'Q:{problem}\n' >"$work/prompt.txt"
python3 - "$work" <<'END' || fail "cannot write problems"
import json, random, sys
random.seed(1)
asked = [f"{random.randint(0, 9)}{random.choice('+-*')}{random.randint(0, 9)}" for _ in range(6)]
asked += [asked[0], "+".join("1" * 1100)]
for name in ("right", "wrong"):
    with open(f"{sys.argv[1]}/{name}.jsonl", "w") as out:
        for question in asked:
            gold = (eval(question) + (3 if name == "wrong" else 0)) % 10
            out.write(json.dumps({"question": question, "answer": str(gold)}) + "\n")
END
config=$work/file.yaml
cat >"$config" <<END
model: $work/wide
tasks:
  - name: sums
    form: plain
    data: $work/right.jsonl
    fields: {problem: question, answer: answer}
    grader: number
    prompt: $work/prompt.txt
    eval_share: 0
algorithm:
  name: maca_kto
  problems: 8
  updates: 1
  debate: {label: first_round}
steps: 1
sampling: {max_tokens: 48}
eval: {problems: 0}
coordinator: {heartbeat_ms: 200, liveness: 5}
END
records_of() { # run
    query "$work/$1" "SELECT id, debate_id, kind, agent, chosen, rejected, label, reward, hex(prompt_ids)
        FROM records ORDER BY id"
}
gold_matters() { # name, yes or no, options…
    of=$1 matters=$2
    shift 2
    for data in right wrong; do
        run "$of-$data" --set tasks.0.data="$work/$data.jsonl" "$@" || fail "$of-$data: exit code $?"
        records_of "$of-$data" >"$work/$of-$data.records"
        more "$(grep -c . "$work/$of-$data.records")" 0 "$of-$data: records"
    done
    [ "$(query "$work/$of-right" "SELECT grade FROM trajectories ORDER BY id")" != \
        "$(query "$work/$of-wrong" "SELECT grade FROM trajectories ORDER BY id")" ] ||
        fail "$of: the gold answers changed no grade"
    cmp -s "$work/$of-right.records" "$work/$of-wrong.records" && found=no || found=yes
    same "$found" "$matters" "$of: gold answers change the records"
    [ "$(field "$work/$of-right.json" weights_hash)" = "$(field "$work/$of-wrong.json" weights_hash)" ] &&
        found=no || found=yes
    same "$found" "$matters" "$of: gold answers change the weights"
    say "ok: label $of: gold answers reach what is trained: $matters"
}
gold_matters consensus no --set $debate.label=consensus --set $debate.rounds=1 --set $debate.context=none
gold_matters first_round no
gold_matters truth yes --set $debate.label=truth --set $debate.context=first

python3 $check "$work/first_round-right" || fail "first_round over a file"
same "$(total first_round-right failed)" 1 "problems that fit no prompt"
query "$work/first_round-right" "SELECT text FROM events" |
    grep -q "is left out: task sums: a question is longer than" || fail "nobody says what is left out"
same "$(query "$work/first_round-right" "SELECT count(*) FROM debates WHERE problem_id IN (SELECT id FROM
    problems WHERE prompt IN (SELECT prompt FROM problems GROUP BY prompt HAVING count(*) > 1))")" 2 \
    "debates over a question that is asked twice"
run narrow --set model.context=500 --set $debate.rounds=3 --set $debate.diversity=true ||
    fail "narrow: exit code $?"
python3 $check "$work/narrow" || fail "cut texts"
more "$(total narrow debate.cut)" 0 "texts that were cut"
more "$(total narrow debate.anew)" 0 "conversations that began anew"
run short --set $debate.peers=1 --set $debate.summaries=true --set $debate.context=previous ||
    fail "short: exit code $?"
python3 $check "$work/short" || fail "summaries"
more "$(count short "turns WHERE summary <> ''")" 0 "summaries"

# A person's view.
id=$(query "$work/one" "SELECT min(debate_id) FROM records")
"$RETAKE" show "$work/one" debates >"$work/show" || fail "show debates"
grep -q "dpo" "$work/show" || fail "show debates has no records"
"$RETAKE" show "$work/one" debate "$id" >"$work/show" || fail "show debate"
for words in "debate $id, step" "round 1, agent 0: answer" "round 2, agent 2, read agents" \
    "switched from" "vote: " "label " "(consensus)" "record $id: dpo of agent" "preferred to"; do
    grep -q -F -e "$words" "$work/show" || fail "show debate has no $words: $(cat "$work/show")"
done
"$RETAKE" show "$work/one" debate "$id" --json >"$work/show.json" || fail "show debate --json"
same "$(field "$work/show.json" 'turns#')" 6 "turns in JSON"
same "$(field "$work/show.json" 'records#')" "$(count one "records WHERE debate_id = $id")" "records in JSON"
refused show-no-debate 1 "no debate 7" -- "$RETAKE" show "$work/one" debate 7

# Evaluation by debate: the slots change nothing, and the transcript gives the same figure.
debates() { # slots → JSON without what depends on them
    "$RETAKE" eval deploy/models/debate --method debate --task chain --limit 20 --k 3 --rounds 3 --json \
        --slots "$1" --set sampling.max_tokens=64 --trace "$work/trace.jsonl" 2>/dev/null |
        sed 's/,"prompt_tokens_computed":.*"model"/,"model"/'
}
debates 64 >"$work/wide.json" && debates 3 >"$work/few.json" || fail "eval --method debate"
cmp -s "$work/wide.json" "$work/few.json" || fail "slots change a debate"
python3 - "$work/trace.jsonl" "$work/wide.json" <<'END' || fail "the transcript gives another accuracy"
import collections, json, re, sys
debates = [json.loads(line) for line in open(sys.argv[1])]
right = 0
for d in debates:
    boxes = [re.search(r"\\boxed\{([^{}]*)\}", t["text"]) for t in d["turns"] if t["round"] == 2]
    votes = collections.Counter(b.group(1).strip() for b in boxes if b)
    winner = max(votes.items(), key=lambda v: (v[1], v[0]))[0] if votes else None
    right += winner == d["gold"]
figure = json.load(open(sys.argv[2]))["debate_accuracy"]
sys.exit(len(debates) != 20 or figure["count"] != 20 or round(20 * figure["value"]) != right)
END
# Agent a speaks with adapter a: its first answers are those of a debate where all speak with that one.
spoken() { # name, model, options… → JSON
    name=$1 model=$2
    shift 2
    "$RETAKE" eval "$model" --method debate --limit 6 --k 1 --json "$@" --trace "$work/$name.jsonl" \
        >"$work/$name.json" 2>"$work/$name.err" || fail "eval of $model: $(cat "$work/$name.err")"
}
agents=$work/maca_sft/checkpoints/step-000002
spoken all "$work/maca_sft"
same "$(field "$work/all.json" adapter_hashes)" "$(field "$work/maca_sft.json" adapter_hashes)" "adapters"
for agent in 0 1 2; do
    spoken "only-$agent" "$agents/adapter-$agent" --task chain --set sampling.max_tokens=96
done
refused eval-agents 2 "holds 3 adapters, one an agent, and 4 agents" -- \
    "$RETAKE" eval "$work/maca_sft" --method debate --agents 4
# Summaries are made and read; slots change nothing there either.
for slots in 64 2; do
    spoken "short-$slots" "$work/short" --slots $slots --set tasks.0.eval_share=1
done
spoken whole "$work/short" --set tasks.0.eval_share=1 --set $debate.summaries=false
python3 - "$work" <<'END' || fail "adapters or summaries of an evaluation"
import json, sys
read = lambda name: [json.loads(line)["turns"] for line in open(f"{sys.argv[1]}/{name}.jsonl")]
first = lambda debates, agent: [t["text"] for d in debates for t in d if (t["round"], t["agent"]) == (0, agent)]
everyone, alone = read("all"), [read(f"only-{agent}") for agent in range(3)]
own = [[first(everyone, a) == first(alone[b], a) for b in range(3)] for a in range(3)]
assert own == [[a == b for b in range(3)] for a in range(3)], own
wide, whole = read("short-64"), read("whole")
assert wide == read("short-2"), "slots change a debate with summaries"
said = [t for d in wide for t in d]
last = max(t["round"] for t in said)
assert all(("summary" in t) == (t["round"] < last and t["text"] != "") for t in said)
assert any(t.get("summary") for t in said) and not any("summary" in t for d in whole for t in d)
assert [first(wide, a) for a in range(3)] == [first(whole, a) for a in range(3)] and wide != whole
END
say "ok: eval --method debate: an adapter an agent, summaries"
say "ok: eval --method debate"
