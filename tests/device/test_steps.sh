#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Steps on the double of libcuda: its faults, drivers that are refused, and
# tests/gpu/steps in the modes of the driver that a job may set (MODE_CASES: of
# its cases those).
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
refused 'finds no GPU: cuInit: CUDA_ERROR_NO_DEVICE' LD_LIBRARY_PATH="$double" \
    CUDA_DOUBLE_DEVICES=0
refused 'CUDA error 999' LD_LIBRARY_PATH="$double" CUDA_DOUBLE_FAIL=cuInit:1:999

on_double tests/device/steps_double
for wait in memop hostfunc; do
    on_double TALLY_STREAM_WAIT=$wait tests/device/steps_double the_host_never
done
for mode in CUDA_LAUNCH_BLOCKING=1 CUDA_DEVICE_MAX_CONNECTIONS=1; do
    # shellcheck disable=SC2086
    on_double "$mode" REPLAYS=5 tests/gpu/steps ${MODE_CASES:-}
done
