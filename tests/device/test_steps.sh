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

on_double tests/device/steps_double
on_double REPLAYS="${REPLAYS:-10000}" tests/gpu/steps
on_double CUDA_LAUNCH_BLOCKING=1 REPLAYS=20 tests/gpu/steps
on_double CUDA_DEVICE_MAX_CONNECTIONS=1 REPLAYS=20 tests/gpu/steps
on_double TALLY_STREAM_WAIT=memop tests/gpu/steps
on_double TALLY_STREAM_WAIT=hostfunc REPLAYS=20 tests/gpu/steps
