#!/bin/sh
# Is every barrier of the kernels needed, and would the tests notice if it were not there? Leaves out one
# after another and expects that some order of threads gives other bits. Takes a quarter of an hour.
#   sh tests/cuda_emulator/barriers.sh [BUILD]    default: build/fuzz
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${1:-build/fuzz}
if [ ! -x "$build/bin/gpu_ops" ] || [ ! -f "$build/libretake_cuda.so" ]; then
    echo "barriers.sh: $build has no gpu_ops or no libretake_cuda.so: build the preset fuzz first" >&2
    exit 1
fi

noticed() { # site → the first order that notices
    for order in forward reverse 1; do
        RT_CUDA_SKIP=$1 RT_CUDA_ORDER=$order "$build/bin/gpu_ops" cuda quick >/dev/null 2>&1 && continue
        echo $order
        return
    done
}

passed=0 failed=0
for site in $(grep -n '__syncthreads' model/ops/cuda/*.cu | sed 's|.*/\([a-z]*\.cu:[0-9]*\):.*|\1|'); do
    order=$(noticed "$site")
    echo "$site left out: ${order:-nobody notices}"
    if [ -n "$order" ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
