#!/bin/sh
# Checks the CUDA backend on a machine with a GPU. It needs nvcc and gcc; none of retake's libraries:
#   every operation against the cpu backend, bit for bit, then the speed of the products.
# Where a whole build of retake runs (build/release/retake, or $RETAKE), also: logits and gradients against
# tests/golden, and the quickstart trained and sampled on the GPU, which must end in the CPU's hash.
set -u
cd "$(dirname "$0")/.." || exit 1
nvcc=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
retake=${RETAKE:-build/release/retake}
build=build/gpu
passed=0 failed=0
mkdir -p $build

check() { # what, command…
    what=$1
    shift
    echo "== $(date +%H:%M:%S) $what"
    if "$@"; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAILED: $what"
    fi
}

[ -x "$nvcc" ] || { echo "gpu.sh: there is no nvcc: install the CUDA toolkit or set NVCC" >&2; exit 77; }
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader || exit 77

build_all() {
    "$nvcc" --options-file model/ops/cuda/flags.txt -arch=native -I. -shared \
        -o $build/libretake_cuda.so model/ops/cuda/*.cu || return 1
    flags="-std=c11 -D_GNU_SOURCE -O2 -g -I. -ffp-contract=off -fno-math-errno -Wall -Wextra"
    objects=''
    for isa in scalar: avx2:-mavx2_-mfma avx512:-mavx512f_-mavx512bw_-mavx512vl_-mavx512dq_-mfma; do
        name=${isa%%:*}
        for team in alone team; do
            openmp='' # as in model/CMakeLists.txt: one thread alone goes without
            [ $team = team ] && openmp=-fopenmp
            # shellcheck disable=SC2046,SC2086
            gcc $flags -O3 $(echo "${isa#*:}" | tr _ ' ') -DRT_ISA="$name" -DRT_ISA_"$name" -DRT_TEAM=$team \
                $openmp -c -o $build/kernels_"$name"_$team.o model/ops/cpu_kernels.c &
            objects="$objects $build/kernels_${name}_$team.o"
        done
    done
    wait
    # shellcheck disable=SC2086
    gcc $flags -fopenmp -o $build/gpu_ops tests/gpu_ops.c model/ops/ops.c model/ops/cuda_load.c \
        model/ops/ref.c model/ops/ref_attention.c base/memory.c base/error.c base/philox.c base/number.c base/clock.c \
        $objects -lm -ldl
}

hash_of() { sed 's/.*"weights_hash": *"\([0-9a-f]*\)".*/\1/' "$1"; }

trained() { # name, settings…
    rm -rf $build/"$1"
    trained_on "$@"
}

trained_on() { # the same, where it was
    name=$1
    shift
    "$retake" run deploy/configs/quickstart.yaml --run $build/"$name" --quiet --json "$@" \
        >$build/"$name".json 2>$build/"$name".err || { cat $build/"$name".err; return 1; }
}

# One run goes on, on the GPU, where 20 of its steps were done on the CPU.
same_hash() {
    trained cpu && trained learner --set learner.device=cuda &&
        trained both --set learner.device=cuda --set actors.device=cuda &&
        trained begun --set steps=20 &&
        trained_on begun --set learner.device=cuda || return 1
    for name in cpu learner both begun; do
        echo "$name $(hash_of $build/$name.json) $(sed 's/.*"seconds": *\({[^}]*}\).*/\1/' $build/$name.json)"
        [ "$(hash_of $build/$name.json)" = "$(hash_of $build/cpu.json)" ] || return 1
    done
}

check "build" build_all
check "operations" $build/gpu_ops cuda
check "speed" $build/gpu_ops cuda speed
if "$retake" --version >/dev/null 2>&1; then
    beside=$(dirname "$retake")
    [ -f "$beside/libretake_cuda.so" ] || cp $build/libretake_cuda.so "$beside/"
    check "golden logits and gradients" \
        "$retake" verify tests/golden/llama tests/golden/llama.ref.safetensors --device cuda
    check "the quickstart's hash" same_hash
else
    echo "== $retake does not run here: training is not checked"
fi
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
