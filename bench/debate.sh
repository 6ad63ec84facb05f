#!/bin/sh
# What is learned from debates: MACA's four objectives against one round of answers (ttrl, scpo), at about
# equal sampled tokens, learning rates of their own, several seeds. One run at a time; run again it goes on
# where it stopped. docs/science.md says what is measured and what came out.
#   sh bench/debate.sh quick      under a minute: one seed, one step: shows that everything works
#   sh bench/debate.sh            about 25 minutes on two cores: 3 regimes, 6 methods, 5 seeds
#   sh bench/debate.sh tune       chooses learning rates on seeds of its own → bench/debate/rates.txt
#   sh bench/debate.sh tables     the tables and plots of what is there
#   sh bench/debate.sh barrier    tokens a second: turns as soon as they can begin, against a barrier a round; on
#                                idle cores two minutes, with SmolLM2 (deploy/models/get.sh) half an hour more
# --to DIR: where everything goes (runs/debate). --docs: writes tables and plots into docs/.
# --data FILE: svamp.json, for barrier (../shared/data/svamp.json).
# --regimes, --methods, --seeds "A B …": only a part.
set -u
cd "$(dirname "$0")/.." || exit 1

methods="maca_sft maca_grpo maca_dpo maca_kto ttrl scpo"
regimes="debater long unread" seeds="1 2 3 4 5"
mode=default to=runs/debate data=../shared/data/svamp.json docs=no less='' rates=''
while [ $# -gt 0 ]; do
    case $1 in
    quick) mode=quick regimes=debater seeds=1
        less="--set steps=1 --set eval.every=0 --set eval.problems=4" ;;
    tune) mode=tune regimes=debater seeds="1001 1002" rates="3e-5 1e-4 3e-4" ;;
    tables | barrier) mode=$1 ;;
    --docs) docs=yes ;;
    --to | --data | --regimes | --methods | --seeds)
        [ $# -ge 2 ] || { echo "debate.sh: $1 needs a value" >&2; exit 2; }
        eval "${1#--}=\$2"
        shift ;;
    *) echo "debate.sh: \"$1\" is no mode and no option: see its first lines" >&2; exit 2 ;;
    esac
    shift
done
retake=${RETAKE:-build/release/retake}
reader=${RESETS:-build/release/bench/resets}
. bench/sweep.sh

# debater: what the embedded debater was trained on. long: chains of a length it never saw, where answers
# and votes are right by accident only. unread: a model that never saw a debate.
regime_settings() { # regime
    case $1 in
    debater) echo "--set model.path=deploy/models/debate" ;;
    long) echo "--set model.path=deploy/models/debate" \
        "--set tasks.0.thoughts_min=12 --set tasks.0.thoughts_max=12" ;;
    unread) echo "--set model.path=deploy/models/tiny" ;;
    *) echo "debate.sh: there is no regime $1" >&2; return 1 ;;
    esac
}

problems_of() { # method
    case $1 in
    maca_grpo) echo 8 ;;
    ttrl | scpo) echo 30 ;;
    *) echo 40 ;;
    esac
}

# Chosen on the regime debater for all.
rate_of() { # regime, method
    awk -v method="$2" '$1 == "debater" && $2 == method { found = $3 }
        END { print found == "" ? "1e-4" : found }' bench/debate/rates.txt
}

methods_of() { echo "$methods"; }

settings_of() { # regime, method
    settings=$(regime_settings "$1") || return 1
    echo "bench/debate/run.yaml --set algorithm=$2 --set algorithm.problems=$(problems_of "$2") $settings"
}

# ---- what a barrier costs ------------------------------------------------------------------------

value() { # file, group, key of a number or text inside
    sed "s/.*\"$2\":{\([^}]*\)}.*/\1/; s/.*\"$3\":\"\{0,1\}\([0-9a-f.]*\).*/\1/" "$1"
}

# A run's time and texts: tokens sampled, seconds of sampling, weights hash; texts in $to/NAME.txt. The learner
# starts last: all actors are there before the first turn.
timed() { # name, config, actors, settings…
    name=$1 config=$2 actors=$3 roles=''
    shift 3
    rm -rf "$to/barrier"
    mkdir -p "$to/barrier"
    "$retake" coordinator "$config" --run "$to/barrier" "$@" >"$to/barrier.err" 2>&1 &
    coordinator=$!
    for actor in $(seq "$actors"); do
        "$retake" actor "$config" --run "$to/barrier" --name "actor-$actor" "$@" >/dev/null 2>&1 &
        roles="$roles $!"
    done
    while [ "$(grep -c 'joined from' "$to/barrier.err")" -lt "$actors" ] && kill -0 $coordinator 2>/dev/null; do
        sleep 0.1
    done
    "$retake" learner "$config" --run "$to/barrier" "$@" >/dev/null 2>&1 &
    roles="$roles $!"
    wait $coordinator || {
        echo "debate.sh: the run $to/barrier failed: $(tail -1 "$to/barrier.err")" >&2
        # shellcheck disable=SC2086
        kill $roles 2>/dev/null
        exit 1
    }
    wait
    tr -d ' \n' <"$to/barrier/summary.json" >"$to/barrier.json"
    for i in $(seq 0 255); do # debates of the first step
        "$retake" show "$to/barrier" debate $((i * 256)) 2>/dev/null || break
    done >"$to/$name.txt"
    echo "$(value "$to/barrier.json" tokens sampled) $(value "$to/barrier.json" seconds sampling)" \
        "$(value "$to/barrier.json" '' weights_hash)"
}

compare() { # pairs, config, debates behind one barrier, what, actors, settings…
    pairs=$1 config=$2 batch=$3 what=$4
    shift 4
    while [ "$pairs" -gt 0 ]; do
        pairs=$((pairs - 1))
        free=$(timed free "$config" "$@" --set algorithm.debate.barrier=0) &&
            held=$(timed held "$config" "$@" --set algorithm.debate.barrier="$batch") || exit 1
        cmp -s "$to/free.txt" "$to/held.txt" && [ -s "$to/free.txt" ] ||
            { echo "debate.sh: other texts with a barrier: $to/free.txt, $to/held.txt" >&2; exit 1; }
        echo "$free $held" | awk -v what="$what, batch $batch" -v load="$(cut -d' ' -f1 /proc/loadavg)" '
            $3 != $6 { print "debate.sh: other weights with a barrier: " $3 ", " $6; exit 1 }
            { printf "%s: %.0f tokens/s, with a barrier %.0f: x %.2f (load %s)\n", what, $1 / $2, $4 / $5,
              ($1 / $2) / ($4 / $5), load }' || exit 1
    done
}

embedded() { # debates behind one barrier, actors, rounds
    compare 5 bench/debate/barrier.yaml "$1" "embedded model, actors $2, rounds $3" "$2" \
        --set algorithm.debate.rounds="$3" --set actors.slots=32 --set actors.threads=1
}

real() { # debates behind one barrier
    compare 1 bench/debate/barrier_real.yaml "$1" "SmolLM2, two actors of one thread, 2 rounds" 2 \
        --set actors.threads=1 --set tasks.0.data="$data"
}

barriers() {
    for actors in 1 2; do
        embedded 8 $actors 2
        embedded 8 $actors 4
        embedded 48 $actors 4
    done
    for file in deploy/models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf "$data"; do
        [ -f "$file" ] || { echo "SmolLM2 is not measured: there is no $file"; return; }
    done
    real 4
    real 8
}

for program in "$retake" "$reader"; do
    [ -x "$program" ] || { echo "debate.sh: there is no $program: build first" >&2; exit 1; }
done
case $mode in
barrier)
    barriers
    exit 0
    ;;
tune)
    runs=$to/tune
    run_all
    "$reader" tune "$runs" --to bench/debate/rates.txt || exit 1
    ;;
*)
    runs=$to/runs name=report
    [ $mode = quick ] && runs=$to/quick name=report-quick
    [ $mode = quick ] && rm -rf "$runs"
    [ $mode = tables ] || run_all
    "$reader" report "$runs" --to "$to/$name" || exit 1
    if [ $mode = quick ]; then # both tables tell of every method
        for method in $methods; do
            [ "$(grep -c "^| $method | [^|]*[0-9]" "$to/$name/tables.md")" -ge 2 ] || {
                echo "debate.sh: $to/$name/tables.md lacks $method" >&2
                exit 1
            }
        done
    fi
    echo "tables and plots: $to/$name"
    [ $docs = no ] || write_docs debate ""
    ;;
esac
[ $failed -eq 0 ] || { echo "debate.sh: $failed runs failed" >&2; exit 1; }
