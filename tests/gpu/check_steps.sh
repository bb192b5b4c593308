#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Builds tests/gpu/steps from a plain tree (build_steps.sh) and runs it, by each
# way of waiting; then over NCCL, where there is one, with a communicator of
# Tally's own and with the trainer's. --nccl: over NCCL alone. Ranks have a GPU
# each where there are enough; CUDA_VISIBLE_DEVICES=0: they share one.
#     tests/gpu/check_steps.sh [--nccl] [BUILD]
set -eu
cd "$(dirname "$0")/../.."
nccl_alone=no
if [ "${1:-}" = --nccl ]; then
    nccl_alone=yes
    shift
fi
build=${1:-build-gpu/steps}
tests/gpu/build_steps.sh "$build" steps tests/gpu/steps*.c \
    tests/harness/cuda/options.c tests/harness/processes.c
build=$(cd "$build" && pwd)

if [ $nccl_alone = no ]; then
    "$build/steps"
    for wait in memop hostfunc; do
        echo "== TALLY_STREAM_WAIT=$wait"
        TALLY_STREAM_WAIT=$wait "$build/steps" every_kind a_peer \
            a_graph_is_refused only_the_application
    done
    for mode in CUDA_LAUNCH_BLOCKING=1 CUDA_DEVICE_MAX_CONNECTIONS=1; do
        echo "== $mode"
        env "$mode" REPLAYS=500 "$build/steps"
    done
fi

nccl=$(tests/gpu/nccl_home.sh)
[ -n "$nccl" ] || {
    echo "skipped: there is no NCCL"
    exit 0
}
for adopt in "" 1; do
    echo "== TALLY_TRANSPORT=nccl${adopt:+, over the trainer's communicator}"
    env ${adopt:+ADOPT=1} TALLY_TRANSPORT=nccl TALLY_PLUGIN_PATH="$build" \
        LD_LIBRARY_PATH="$nccl/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" \
        "$build/steps"
done
