# Sourced by bench/resets.sh, debate.sh and imbalance.sh: runs for every seed, regime, method and rate, one at
# a time, those that are done left out; tables and plots into docs/. The script sets $retake, $runs, $to,
# $seeds, $regimes, $less, $rates (nothing: the chosen ones) and, where all seeds do the same work, $same_seed;
# it says methods_of REGIME, rate_of REGIME METHOD and settings_of REGIME METHOD (the config and its settings).
# $failed counts.
total=0 done_before=0 done_here=0 failed=0

say() { printf '%s %s\n' "$(date +%H:%M:%S)" "$*"; }

time_left() {
    rest=$((total - done_before - done_here))
    spent=$(($(date +%s) - began))
    echo ", about $((rest * spent / done_here / 60 + 1)) min left"
}

# The rate that a run was begun with, or nothing.
rate_in() { # folder
    [ ! -f "$1/config.yaml" ] || sed -n '/^learner:/,/^[a-z]/s/^  lr: //p' "$1/config.yaml"
}

same_rate() { # a, b
    awk -v a="$1" -v b="$2" 'BEGIN { exit !(a + 0 == b + 0) }'
}

is_done() { # folder, rate
    [ -f "$1/summary.json" ] && same_rate "$(rate_in "$1")" "$2"
}

# A run of another rate (they have been chosen anew since) makes room; it is kept.
make_room() { # folder, rate
    was=$(rate_in "$1")
    if [ -z "$was" ] || same_rate "$was" "$2"; then return 0; fi
    kept=$to/outdated/${1#"$to"/}-$was
    mkdir -p "$(dirname "$kept")" && rm -rf "$kept" && mv "$1" "$kept" || exit 1
    say "$1 had the rate $was, not $2: it lies in $kept now"
}

one() { # folder, regime, method, seed, rate
    if is_done "$1" "$5"; then return 0; fi
    make_room "$1" "$5"
    mkdir -p "$(dirname "$1")"
    settings=$(settings_of "$2" "$3") || exit 2
    # shellcheck disable=SC2086
    "$retake" run $settings --run "$1" --quiet --json --set seed="${same_seed:-$4}" --set learner.lr="$5" \
        $less >"$1.out" 2>&1
    code=$?
    [ $code -eq 130 ] && { echo "stopped; the same command goes on"; exit 130; }
    done_here=$((done_here + 1))
    if [ $code -ne 0 ]; then
        failed=$((failed + 1))
        say "FAILED: $2 $3, seed $4: $(tail -1 "$1.out")"
        return 0
    fi
    rm -f "$1.out"
    say "$((done_before + done_here))/$total: $2 $3, seed $4, rate $5$(time_left)"
}

count() { # folder, regime, method, seed, rate
    total=$((total + 1))
    if is_done "$1" "$5"; then done_before=$((done_before + 1)); fi
}

# Seeds go outside, so that what is there at any time compares all methods.
walk() { # what to do with each
    for seed in $seeds; do
        for regime in $regimes; do
            for method in $(methods_of "$regime"); do
                for rate in ${rates:-$(rate_of "$regime" "$method")}; do
                    "$1" "$runs/$regime/$method/$seed${rates:+-$rate}" "$regime" "$method" "$seed" "$rate"
                done
            done
        done
    done
}

run_all() {
    walk count
    say "$total runs, $done_before of them done before"
    began=$(date +%s)
    walk one
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
