#!/bin/sh
# What resets buy on a language model: six methods on the tasks chain and fork, with equal trained
# sequences, learning rates of their own, several seeds. One run at a time; run again it goes on where
# it stopped. docs/science.md says what is measured and what came out.
#   sh bench/resets.sh quick      minutes, one seed, two steps: shows that everything works
#   sh bench/resets.sh            about 40 minutes on two idle cores: 7 regimes, 5 seeds
#   sh bench/resets.sh full       hours: also other lengths, shares of decisive thoughts, base rates
#   sh bench/resets.sh cost       ten minutes: what a step of each method costs beside grpo_seqmean's
#   sh bench/resets.sh tune       chooses learning rates on seeds of its own → bench/resets/rates.txt
#   sh bench/resets.sh report     the tables and plots of what is there
#   sh bench/resets.sh models     only the models to start from, and how often each is right
# --to DIR: where everything goes (runs/resets). --docs: writes tables and plots into docs/.
# --regimes, --methods, --seeds "A B …": only a part; --rates "A B …": those that tune tries.
set -u
cd "$(dirname "$0")/.." || exit 1

mode=default to=runs/resets docs=no
only_regimes='' only_methods='' only_seeds='' only_rates='' rates=''
while [ $# -gt 0 ]; do
    case $1 in
    quick | full | tune | report | models | cost) mode=$1 ;;
    --to) shift && to=${1:?--to needs a folder} ;;
    --docs) docs=yes ;;
    --regimes | --methods | --seeds | --rates)
        [ $# -ge 2 ] || { echo "resets.sh: $1 needs names" >&2; exit 2; }
        eval "only_${1#--}=\$2"
        shift
        ;;
    *) echo "resets.sh: \"$1\" is no mode and no option: see its first lines" >&2 && exit 2 ;;
    esac
    shift
done
retake=${RETAKE:-build/release/retake}
reader=${RESETS:-build/release/bench/resets}
tokenizer=${TOKENIZER:-build/release/bin/tiny_tokenizer}
for program in "$retake" "$reader" "$tokenizer"; do
    [ -x "$program" ] || { echo "resets.sh: there is no $program: build first" >&2; exit 1; }
done

methods="grpo grpo_seqmean rrpo srpo srpo_oracle caro"
regimes="chain slips6 slips12 facts12 dense sparse hard"
seeds="1 2 3 4 5"
grid="t8d8b2 t8d4b2 t8d2b2 t16d16b2 t16d8b2 t16d4b2 t24d24b2 t24d12b2 t24d6b2
t8d8b30 t8d4b30 t8d2b30 t16d16b30 t16d8b30 t16d4b30 t24d24b30 t24d12b30 t24d6b30"
less='' same_seed=''
case $mode in
quick)
    regimes="dense chain" seeds=1
    less="--set steps=2 --set algorithm.problems=2 --set eval.every=1 --set eval.problems=4"
    ;;
full) regimes="$regimes rare12 needles $grid" ;;
tune) regimes="slips12 sparse" seeds="1001 1002" rates=${only_rates:-5e-5 1e-4 2e-4 4e-4} ;;
cost)
    # Rounds of the same work, methods in turn; the two small evaluations lie outside the steps. Five
    # rounds scatter by a tenth and more.
    regimes="slips12 chain facts12 hard sparse" same_seed=7 seeds="1 2 3 4 5 6 7 8 9 10"
    less="--set steps=12 --set eval.every=0 --set eval.problems=2 --set learner.checkpoint_every=0"
    ;;
esac
regimes=${only_regimes:-$regimes} methods=${only_methods:-$methods}
seeds=${only_seeds:-$seeds}
. bench/sweep.sh

# A name of the grid: t24d6b2 has 24 thoughts, of which 6 decide, and succeeds in 2 % at first.
grid_knobs() { # name
    echo "$1" | awk -F'[tdb]' '{ printf "%d %d %.4f 0 0", $2, $3, 1 - exp(log($4 / 100) / $3) }'
}

# thoughts, decisive ones, slip, share of hard facts, filler
knobs() { # regime
    case $1 in
    dense) echo 8 8 0.1 0 0 ;;
    sparse) echo 24 24 0.17 0 0 ;;
    needles) echo 16 4 0.6 0 2 ;;
    hard) echo 16 16 0.2 0.25 0 ;;
    t*d*b*) grid_knobs "$1" ;;
    esac
}

# Regimes of the task chain: the model to start from, thoughts.
on_chain() { # regime
    case $1 in
    chain) echo tiny 6 ;;
    slips6) echo chain_slips 6 ;;
    slips12) echo chain_slips 12 ;;
    facts12) echo chain_facts 12 ;;
    rare12) echo chain_rare 12 ;;
    *) return 1 ;;
    esac
}

# How careless the teacher of such a model is.
careless() { # model
    case $1 in
    chain_slips) echo "--set sft.wrong_facts=1 --set sft.wrong_share=0.22" ;;
    chain_facts) echo "--set sft.wrong_facts=0.25 --set sft.wrong_share=0.88" ;;
    chain_rare) echo "--set sft.wrong_facts=1 --set sft.wrong_share=0.345" ;;
    esac
}

model_of() { # regime
    chained=$(on_chain "$1") || { echo "$models/$1"; return; }
    model=${chained% *}
    if [ "$model" = tiny ]; then echo deploy/models/tiny; else echo "$models/$model"; fi
}

settings() { # regime → --set … of its task
    if chained=$(on_chain "$1"); then
        printf '%s' "--set tasks.0.thoughts_min=${chained#* } --set tasks.0.thoughts_max=${chained#* }"
        printf '%s' " --set tasks.0.grader=steps"
        return
    fi
    # shellcheck disable=SC2046
    set -- $(knobs "$1")
    decisive=$2
    [ "$1" -eq "$2" ] && decisive=0
    printf '%s' "--set tasks.0.thoughts_min=$1 --set tasks.0.thoughts_max=$1"
    printf '%s' " --set tasks.0.decisive=$decisive --set tasks.0.slip=$3 --set tasks.0.hard=$4"
    printf '%s' " --set tasks.0.filler=$5"
}

# Has the regime thoughts that decide nothing? Their letters must be learnt before there is filler, whose
# letters are noise.
easy() { # regime
    # shellcheck disable=SC2046
    set -- $(knobs "$1")
    [ "$2" -lt "$1" ]
}

# ---- models to start from ---------------------------------------------------------------------

models=$to/models
sft_less=
[ "$mode" = quick ] && models=$to/models-quick sft_less="--set sft.steps=3 --set sft.batch=4"

stage() { # name, config, model it begins with, settings…
    start=$models/$1 config=$2 from=$3
    shift 3
    [ -f "$start/export/model.safetensors" ] && return 0
    say "warm start: $start"
    # shellcheck disable=SC2086
    "$retake" sft "bench/resets/$config.yaml" --run "$start" --set model.path="$from" "$@" \
        --set eval.problems=0 $sft_less >"$start.out" 2>&1
    code=$?
    [ $code -eq 130 ] && exit 130
    if [ $code -ne 0 ]; then
        echo "resets.sh: warm start $start failed: $(tail -1 "$start.out")" >&2
        exit 1
    fi
}

# The shape of the embedded model, with room for judging twelve thoughts.
warm_chain() { # model
    [ "$1" = tiny ] && return 0
    if [ ! -f "$models/shape/tokenizer.json" ]; then
        mkdir -p "$models/shape"
        sed 's/"max_position_embeddings": *[0-9]*/"max_position_embeddings": 512/' \
            deploy/models/tiny/config.json >"$models/shape/config.json"
        cp deploy/models/tiny/tokenizer.json "$models/shape/"
    fi
    # shellcheck disable=SC2046
    stage "$1" chain_warm "$models/shape" $(careless "$1")
}

warm() { # regime
    if chained=$(on_chain "$1"); then
        warm_chain "${chained% *}"
        return
    fi
    if [ ! -f "$models/empty/tokenizer.json" ]; then
        mkdir -p "$models/empty"
        cp bench/resets/model/config.json "$models/empty/"
        "$tokenizer" bench/resets/copy.yaml "$models/empty/tokenizer.json" 257 || exit 1
    fi
    stage facts facts "$models/empty"
    stage judge judge "$models/facts"
    copied=copy begin=judge
    if easy "$1"; then
        stage letters letters "$models/judge"
        copied=copy_easy begin=letters
    fi
    stage $copied copy "$models/$begin"
    # shellcheck disable=SC2046
    stage "$1" warm "$models/$copied" $(settings "$1")
}

# ---- runs --------------------------------------------------------------------------------------

rate_of() { # regime, method
    like=$1
    # Chosen on one regime of each task.
    if on_chain "$1" >/dev/null; then like=slips12; else like=sparse; fi
    awk -v regime="$like" -v method="$2" '$1 == regime && $2 == method { found = $3 }
        END { print found == "" ? "1e-4" : found }' bench/resets/rates.txt
}

methods_of() { echo "$methods"; }

settings_of() { # regime, method
    config=run
    on_chain "$1" >/dev/null && config=chain
    echo "bench/resets/$config.yaml --set algorithm=$2 --set model.path=$(model_of "$1") $(settings "$1")"
}

warm_all() {
    for regime in $regimes; do warm "$regime"; done
}

report() {
    "$reader" report "$runs" --to "$to/$name" || exit 1
    say "tables and plots: $to/$name"
    [ $docs = yes ] || return 0
    mkdir -p docs/figures
    cp "$to/$name"/*.svg docs/figures/ || exit 1
    awk -v tables="$to/$name/tables.md" '
        /^<!-- resets: begin/ { print; while ((getline line < tables) > 0) print line; skip = 1 }
        /^<!-- resets: end/ { skip = 0 }
        !skip { print }' docs/science.md >"$to/science.md" && cp "$to/science.md" docs/science.md
    say "docs/science.md is up to date"
}

case $mode in
models)
    warm_all
    for regime in $regimes; do
        model=$(model_of "$regime") task=$(settings "$regime")
        [ "$regime" = chain ] && task="--task chain $task"
        for how in "--temperature 1" --greedy; do
            # shellcheck disable=SC2086
            "$retake" eval "$model" $how --limit 1000 --json $task 2>/dev/null |
                sed "s/.*\"accuracy\":\([0-9.]*\).*\"tokens_mean\":\([0-9.]*\).*/$regime $how: \1 right, \2 tokens/"
        done
    done
    exit 0
    ;;
tune)
    runs=$to/tune
    warm_all
    run_all
    "$reader" tune "$runs" --to bench/resets/rates.txt || exit 1
    ;;
cost)
    runs=$to/cost
    warm_all
    run_all
    "$reader" cost "$runs" --to "$to/cost.md" || exit 1
    cat "$to/cost.md"
    ;;
*)
    runs=$to/runs name=report
    [ "$mode" = quick ] && runs=$to/quick name=report-quick
    [ "$mode" = report ] || { warm_all; run_all; }
    report
    ;;
esac
[ $failed -eq 0 ] || { echo "resets.sh: $failed runs failed" >&2; exit 1; }
