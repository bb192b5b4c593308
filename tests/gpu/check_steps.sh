#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Builds the core with the kernels, without what configure finds (instruction
# sets, transports between nodes, etcd), and runs tests/gpu/steps with it, by
# each way of waiting; then over NCCL, where there is one, with a communicator of
# Tally's own and with the trainer's. FATBIN: kernels that were built before;
# NCCL_HOME: with include/nccl.h and lib, else a wheel's of python3.
#     tests/gpu/check_steps.sh [BUILD]
set -eu
cd "$(dirname "$0")/../.."
build=${1:-build-gpu/steps}
mkdir -p "$build"
build=$(cd "$build" && pwd)
fatbin=${FATBIN:-$build/tally.fatbin}

[ -n "${FATBIN:-}" ] ||
    "${NVCC:-nvcc}" -std=c++17 -O3 -arch="${GPU_ARCH:-native}" -I. -Isrc \
        -fatbin -o "$fatbin" kernels/tally.cu
find src -name '*.c' ! -path 'src/transport/[nou]*/*' ! -path '*/etcd/*' \
    ! -path '*/sim/*' ! -name 'host_row_avx*' >"$build/sources"
cat >>"$build/sources" <<END
kernels/fatbin.c
tests/gpu/steps.c
tests/gpu/steps_ends.c
tests/gpu/steps_graphs.c
tests/gpu/steps_nccl.c
tests/gpu/steps_order.c
tests/gpu/steps_rank.c
tests/gpu/steps_threads.c
tests/harness/cuda/options.c
tests/harness/processes.c
END
rm -f "$build"/*.o
: >"$build/config.h"
while read -r source; do
    printf '%s %s\n' "$source" "$(echo "$source" | tr / _).o"
done <"$build/sources" |
    xargs -P "$(nproc)" -L 1 sh -c '
        build=$1
        fatbin=$2
        exec ${CC:-gcc} -std=gnu11 -O2 -pthread -ffp-contract=off \
            -I"$build" -D_GNU_SOURCE -DHAVE_KERNELS -DPACKAGE_VERSION=\"gpucheck\" \
            "-DKERNELS_FATBIN=\"$fatbin\"" -Iinclude -Isrc -I. -Itests \
            -c "$3" -o "$build/$4"' sh "$build" "$fatbin"
${CC:-gcc} -pthread -o "$build/steps" "$build"/*.o -lm -ldl

"$build/steps"
for wait in memop hostfunc; do
    echo "== TALLY_STREAM_WAIT=$wait"
    TALLY_STREAM_WAIT=$wait "$build/steps" every_kind a_peer a_graph_is_refused \
        only_the_application
done
for mode in CUDA_LAUNCH_BLOCKING=1 CUDA_DEVICE_MAX_CONNECTIONS=1; do
    echo "== $mode"
    env "$mode" REPLAYS=500 "$build/steps"
done

nccl=$(tests/gpu/nccl_home.sh)
[ -n "$nccl" ] || {
    echo "skipped: there is no NCCL"
    exit 0
}
${CC:-gcc} -std=gnu11 -O2 -pthread -shared -fPIC -D_GNU_SOURCE -Iinclude -Isrc \
    -isystem "$nccl/include" -isystem src/transport/nccl/cuda_minimal \
    "-DNCCL_FOLDER=\"$nccl/lib\"" -Wl,-z,nodelete \
    -o "$build/libtally-nccl.so" src/transport/nccl/*.c -ldl
for adopt in "" 1; do
    echo "== TALLY_TRANSPORT=nccl${adopt:+, over the trainer's communicator}"
    env ${adopt:+ADOPT=1} TALLY_TRANSPORT=nccl TALLY_PLUGIN_PATH="$build" \
        LD_LIBRARY_PATH="$nccl/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" \
        "$build/steps"
done
