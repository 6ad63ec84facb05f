#!/bin/sh
# Are the gradients of five tasks of unequal size, do loud ones learn more, and does it help to sample by
# them or to correct them? Methods at equal sampled tokens, several seeds; the same measurement on resets.
# One run at a time; run again it goes on where it stopped. docs/science.md says what is measured and what
# came out.
#   sh bench/imbalance.sh quick    seconds: one seed, two steps: shows that everything works
#   sh bench/imbalance.sh          about 25 minutes on two idle cores: 6 methods, 5 seeds, and resets
#   sh bench/imbalance.sh tune     chooses learning rates on seeds of its own → bench/imbalance/rates.txt
#   sh bench/imbalance.sh tables   the tables and plots of what is there
# --to DIR: where everything goes (runs/imbalance). --docs: writes tables and plots into docs/.
# --regimes, --methods, --seeds "A B …": only a part.
set -u
cd "$(dirname "$0")/.." || exit 1

# uniform: the plain sum of the tasks' gradients, all tasks alike in number. mixing_gradient: sampled by
# gradient norm. The others are corrections. resets: the regime chain of
# bench/resets.sh, base and reset groups. still: the five tasks at the weights they start with, which do not
# move, with 40 problems of each in a step.
methods="uniform mixing_gradient equal_norms running_norms pcgrad cagrad"
regimes="five resets still" seeds="1 2 3 4 5"
mode=default to=runs/imbalance docs=no less='' warm='' rates=''
while [ $# -gt 0 ]; do
    case $1 in
    quick) mode=quick seeds=1 warm="--set sft.steps=2 --set sft.batch=4"
        less="--set steps=2 --set algorithm.problems=10 --set sampling.max_tokens=60 --set eval.every=0
            --set eval.problems=5 --set eval.samples=1" ;;
    tune) mode=tune regimes=five seeds="1001 1002" rates="5e-5 1e-4 2e-4" ;;
    tables) mode=tables ;;
    --docs) docs=yes ;;
    --to | --regimes | --methods | --seeds)
        [ $# -ge 2 ] || { echo "imbalance.sh: $1 needs a value" >&2; exit 2; }
        eval "${1#--}=\$2"
        shift ;;
    *) echo "imbalance.sh: \"$1\" is no mode and no option: see its first lines" >&2; exit 2 ;;
    esac
    shift
done
retake=${RETAKE:-build/release/retake}
reader=${RESETS:-build/release/bench/resets}
for program in "$retake" "$reader"; do
    [ -x "$program" ] || { echo "imbalance.sh: there is no $program: build first" >&2; exit 1; }
done
start=$to/start
[ $mode = quick ] && start=$to/start-quick
. bench/sweep.sh

methods_of() { # regime
    case $1 in
    resets) echo "srpo rrpo" ;;
    still) echo uniform ;;
    *) echo "$methods" ;;
    esac
}

method_settings() { # method
    case $1 in
    uniform) ;;
    # Two problems of every task at the least: of one alone there is no unbiased norm.
    mixing_gradient) echo "--set mixing.strategy=gradient --set mixing.gradient_floor=0.25" ;;
    equal_norms | running_norms | clip | pcgrad | cagrad) echo "--set gradients.correction=$1" ;;
    rrpo | srpo) echo "--set algorithm=$1" ;;
    *) echo "imbalance.sh: there is no method $1" >&2; return 1 ;;
    esac
}

regime_settings() { # regime → config and settings
    case $1 in
    five) echo "bench/imbalance/run.yaml --set model.path=$start" ;;
    still) echo "bench/imbalance/run.yaml --set model.path=$start --set algorithm.problems=200" \
        "--set steps=16 --set eval.every=0 --set eval.problems=5" ;;
    resets) echo "bench/resets/chain.yaml --set model.path=deploy/models/tiny --set tasks.0.thoughts_min=6" \
        "--set tasks.0.thoughts_max=6 --set algorithm.problems=16 --set algorithm.updates=1" \
        "--set gradients.account=full --set gradients.by=kind" ;;
    *) echo "imbalance.sh: there is no regime $1" >&2; return 1 ;;
    esac
}

# A method without a rate of its own has that of the plain sum; resets have those of bench/resets.sh.
rate_of() { # regime, method
    [ "$1" = still ] && { echo 0; return; }
    awk -v method="$2" '$1 == "five" && $2 == "uniform" && found == "" { found = $3 }
        ($1 == "five" || $1 == "slips12") && $2 == method { found = $3 }
        END { print found == "" ? "1e-4" : found }' bench/imbalance/rates.txt bench/resets/rates.txt
}

warm_start() { # where a regime needs it
    case $regimes in *five* | *still*) ;; *) return 0 ;; esac
    [ -f "$start/export/model.safetensors" ] && return 0
    echo "warm start: $start"
    mkdir -p "$to"
    # shellcheck disable=SC2086
    "$retake" sft deploy/models/mixture/sft.yaml --run "$start" --set eval.problems=0 $warm \
        >"$start.out" 2>&1
    code=$?
    [ $code -eq 130 ] && exit 130
    [ $code -eq 0 ] || { echo "imbalance.sh: the warm start failed: $(tail -1 "$start.out")" >&2; exit 1; }
}

settings_of() { # regime, method
    settings=$(regime_settings "$1") && echo "$settings $(method_settings "$2")"
}

case $mode in
tune)
    runs=$to/tune
    warm_start
    run_all
    "$reader" tune "$runs" --to bench/imbalance/rates.txt || exit 1
    ;;
*)
    runs=$to/runs name=report
    [ $mode = quick ] && runs=$to/quick name=report-quick
    [ $mode = quick ] && rm -rf "$runs"
    [ $mode = tables ] || { warm_start; run_all; }
    "$reader" report "$runs" --to "$to/$name" || exit 1
    if [ $mode = quick ]; then # accuracy, difference, norms and held-out problems of every method
        for method in $methods; do
            [ "$(grep -c "^| $method | " "$to/$name/tables.md")" -ge 3 ] || {
                echo "imbalance.sh: $to/$name/tables.md lacks $method" >&2
                exit 1
            }
        done
        grep -q "^| by/reset | -\{0,1\}[0-9]" "$to/$name/tables.md" || {
            echo "imbalance.sh: $to/$name/tables.md lacks the gradients of resets" >&2
            exit 1
        }
    fi
    echo "tables and plots: $to/$name"
    [ $docs = no ] || write_docs imbalance five
    ;;
esac
[ $failed -eq 0 ] || { echo "imbalance.sh: $failed runs failed" >&2; exit 1; }
