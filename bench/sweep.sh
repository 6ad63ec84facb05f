# Sourced by bench/debate.sh and bench/imbalance.sh: runs for every seed, regime, method and rate, one at a
# time, those that are done left out; tables and plots into docs/. The script sets $retake, $runs, $to,
# $seeds, $regimes, $rates, $less, and says methods_of REGIME, rate_of REGIME METHOD and settings_of
# REGIME METHOD (the config and its settings). $failed counts.
failed=0

one() { # folder, regime, method, seed, rate
    [ -f "$1/summary.json" ] && return 0
    mkdir -p "$(dirname "$1")"
    settings=$(settings_of "$2" "$3") || exit 2
    # shellcheck disable=SC2086
    "$retake" run $settings --run "$1" --quiet --json --set seed="$4" --set learner.lr="$5" $less >"$1.out" 2>&1
    code=$?
    [ $code -eq 130 ] && { echo "stopped; the same command goes on"; exit 130; }
    if [ $code -ne 0 ]; then
        failed=$((failed + 1))
        echo "FAILED: $2 $3, seed $4: $(tail -1 "$1.out")"
        return 0
    fi
    rm -f "$1.out"
    echo "$(date +%H:%M:%S) $2 $3, seed $4, rate $5"
}

# Seeds go outside, so that what is there at any time compares all methods.
run_all() {
    for seed in $seeds; do
        for regime in $regimes; do
            for method in $(methods_of "$regime"); do
                for rate in ${rates:-$(rate_of "$regime" "$method")}; do
                    one "$runs/$regime/$method/$seed${rates:+-$rate}" "$regime" "$method" "$seed" "$rate"
                done
            done
        done
    done
}

write_docs() { # mark in docs/science.md and of the plots, which plots
    mkdir -p docs/figures
    for plot in "$to/report"/resets-$2*.svg; do
        cp "$plot" "docs/figures/$1-${plot##*/resets-}" || exit 1
    done
    awk -v tables="$to/report/tables.md" -v mark="<!-- $1: " '
        index($0, mark "begin") == 1 { print; while ((getline line < tables) > 0) print line; skip = 1 }
        index($0, mark "end") == 1 { skip = 0 }
        !skip { print }' docs/science.md >"$to/science.md" && cp "$to/science.md" docs/science.md
}
