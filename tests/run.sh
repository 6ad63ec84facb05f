#!/bin/sh
# Installs what is missing, builds with gcc, runs every test; then the unit tests once more with
# clang under ASan and UBSan, and each fuzz target for a moment. Ends with "N passed, N failed".
#   sh tests/run.sh          everything
#   sh tests/run.sh quick    only the release build and its tests
set -u
cd "$(dirname "$0")/.."
started=$(date +%s)
passed=0
failed=0

say() { printf '== %s (%d s)\n' "$1" $(($(date +%s) - started)); }

fail() {
    echo "FAILED: $1"
    failed=$((failed + 1))
}

# ctest's own closing lines are kept out of the way of ours: count from its JUnit file.
count_tests() {
    total=$(grep -c '<testcase ' "$1" 2>/dev/null)
    bad=$(grep -c 'status="fail"' "$1" 2>/dev/null)
    skipped=$(grep -c -E 'status="(notrun|disabled)"' "$1" 2>/dev/null)
    passed=$((passed + total - bad - skipped))
    failed=$((failed + bad))
}

run_tests() { # preset, ctest arguments…
    preset=$1
    shift
    report=$PWD/build/$preset/tests.xml
    rm -f "$report"
    ctest --test-dir "build/$preset" --output-on-failure --output-junit "$report" "$@" |
        grep -v -E 'tests passed|tests failed out'
    if [ -f "$report" ]; then count_tests "$report"; else fail "no tests ran in build/$preset"; fi
}

build() { # preset
    [ -f "build/$1/build.ninja" ] || cmake --preset "$1" >"/tmp/retake-cmake-$1.log" 2>&1 ||
        { cat "/tmp/retake-cmake-$1.log"; return 1; }
    cmake --build --preset "$1" >"/tmp/retake-build-$1.log" 2>&1 ||
        { grep -E 'error|FAILED|warning' "/tmp/retake-build-$1.log" | head -40; return 1; }
}

sh deploy/install.sh || { echo "could not install the packages of deploy/packages.txt"; echo "0 passed, 1 failed"; exit 1; }
say "build: gcc, release"
if build release; then
    say "tests"
    run_tests release
else
    fail "the release build"
fi
if [ "${1:-}" != quick ]; then
    say "build: clang, ASan + UBSan, fuzz targets"
    if build fuzz; then
        say "unit tests under ASan + UBSan"
        run_tests fuzz -LE e2e -j 2
        say "fuzz targets, 5 s each"
        for target in build/fuzz/bin/*_fuzz; do
            work=$(mktemp -d)
            if "$target" -max_total_time=5 -timeout=10 -rss_limit_mb=2048 -artifact_prefix="$work/" "$work" \
                >"$work/log" 2>&1; then
                passed=$((passed + 1))
            else
                tail -30 "$work/log"
                fail "$target"
            fi
            rm -rf "$work"
        done
    else
        fail "the fuzz build"
    fi
fi
say "done"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
