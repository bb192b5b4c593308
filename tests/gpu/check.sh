#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Builds the tests of kernels and of steps with nvcc, g++ and gcc alone and runs
# them on this machine's GPU: what `make gpucheck` does, from a plain tree too.
#     tests/gpu/check.sh [--sanitizers] [BUILD]
set -eu
cd "$(dirname "$0")/../.."
sanitizers=no
if [ "${1:-}" = --sanitizers ]; then
    sanitizers=yes
    shift
fi
build=${1:-build-gpu}
NVCC=${NVCC:-nvcc}
command -v "$NVCC" >/dev/null || {
    echo "skipped: there is no $NVCC"
    exit 77
}
mkdir -p "$build"
flags="-std=c++17 -O2 -I. -Isrc -Iinclude -Itests"
# The second one is the code for GPUs without clusters, of which the driver makes
# this one's.
archs="${GPU_ARCH:-native} compute_80"

objects=
pids=
for source in tests/gpu/*.cc; do
    name=$(basename "$source" .cc)
    [ "$name" = machine_simt ] && continue
    # shellcheck disable=SC2086
    ${CXX:-g++} $flags -Wall -Wextra -ffp-contract=off -c "$source" \
        -o "$build/$name.o" &
    pids="$pids $!"
    objects="$objects $build/$name.o"
done
for arch in $archs; do
    # shellcheck disable=SC2086
    $NVCC $flags -lineinfo -arch="$arch" -c tests/gpu/machine_cuda.cu \
        -o "$build/machine_$arch.o" &
    pids="$pids $!"
done
for pid in $pids; do
    wait "$pid"
done
for arch in $archs; do
    # shellcheck disable=SC2086
    $NVCC -arch="$arch" -o "$build/kernels_$arch" $objects \
        "$build/machine_$arch.o"
    echo "== $arch"
    "$build/kernels_$arch"
done
tests/gpu/check_steps.sh "$build/steps"
[ "$sanitizers" = yes ] || exit 0
for tool in memcheck racecheck synccheck; do
    echo "== compute-sanitizer --tool $tool"
    for test in every_short any_order a_gradient_in_place ignored_and_bad; do
        EPOCHS=2 timeout 300 compute-sanitizer --tool "$tool" \
            --error-exitcode 1 "$build/kernels_${GPU_ARCH:-native}" "$test" | tail -n 5
    done
done
