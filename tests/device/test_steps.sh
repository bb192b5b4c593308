#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Steps on a CUDA device without one: tests/gpu/steps and steps_double on the
# double of libcuda, in the modes that a job may set.
set -eu
double=$PWD/tests/harness/cuda/.libs
[ -e "$double/libcuda.so.1" ] || {
    echo "skipped: this build has no C++, so no double of libcuda"
    exit 77
}
grep -q '^#define HAVE_KERNELS 1' config.h || {
    echo "skipped: this build has no CUDA kernels (no nvcc)"
    exit 77
}

# on_double VARIABLE=value... command...
on_double()
{
    echo "== $*"
    env LD_LIBRARY_PATH="$double${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" "$@"
}

# refused "part of the sentence" VARIABLE=value...
refused()
{
    sentence=$1
    shift
    echo "== refused: $*"
    env "$@" tests/device/steps_double refused | grep "$sentence"
}

refused 'has no cuDriverGetVersion' \
    LD_LIBRARY_PATH="$PWD/tests/device/old/.libs"
refused 'finds no GPU: CUDA_ERROR_NO_DEVICE' LD_LIBRARY_PATH="$double" \
    CUDA_DOUBLE_DEVICES=0
refused 'CUDA error 999' LD_LIBRARY_PATH="$double" CUDA_DOUBLE_FAIL=cuInit:1:999

replays=${REPLAYS:-10000}
export REPLAYS=5 # of tests/gpu/steps: its batches are too large for more
on_double REPLAYS="$replays" tests/device/steps_double
on_double tests/gpu/steps as_on_the_host nothing_waits every_kind replayed \
    killed opposite
for mode in CUDA_LAUNCH_BLOCKING=1 CUDA_DEVICE_MAX_CONNECTIONS=1 \
    TALLY_STREAM_WAIT=memop TALLY_STREAM_WAIT=hostfunc; do
    on_double "$mode" tests/gpu/steps count_first every_kind replayed killed
done
