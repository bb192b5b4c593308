#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Steps on a CUDA device, by a driver that runs the kernels on the emulator;
# their host reduces, and then an NCCL between processes.
set -eu
double=$PWD/tests/harness/cuda/.libs
[ -e "$double/libcuda.so.1" ] || {
    echo "skipped: the build has no double of libcuda"
    exit 77
}
grep -q '^#define HAVE_KERNELS 1' config.h || {
    echo "skipped: this build has no CUDA kernels (no nvcc)"
    exit 77
}
export LD_LIBRARY_PATH="$double${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
REPLAYS=${REPLAYS:-20} tests/gpu/steps
for adopt in "" 1; do
    [ -e "$double/libnccl.so.2" ] || break # this build has no NCCL
    echo "== TALLY_TRANSPORT=nccl${adopt:+, over the trainer's communicator}"
    TALLY_TRANSPORT=nccl TALLY_PLUGIN_PATH=$PWD/.libs REPLAYS=${REPLAYS:-20} \
        ${adopt:+env ADOPT=1} tests/gpu/steps
    echo "== who is aborted hands on nothing"
    NCCL_DOUBLE_ABORT=quiet TALLY_TRANSPORT=nccl TALLY_PLUGIN_PATH=$PWD/.libs \
        ${adopt:+env ADOPT=1} tests/gpu/steps opposite_orders_of_groups a_peer
done
for transport in shm nccl; do
    [ -e "$double/libnccl.so.2" ] || [ $transport = shm ] || continue
    echo "== two GPUs, TALLY_TRANSPORT=$transport"
    said=$(CUDA_DOUBLE_DEVICES=2 TALLY_TRANSPORT=$transport REPLAYS=5 \
        TALLY_PLUGIN_PATH=$PWD/.libs tests/gpu/steps a_gpu_each as_on_the_host \
        a_graph_is opposite_orders)
    echo "$said"
    echo "$said" | grep -q '^  2 ranks, 2 GPUs$'
done
for wait in memop hostfunc; do
    echo "== TALLY_STREAM_WAIT=$wait"
    TALLY_STREAM_WAIT=$wait REPLAYS=5 \
        tests/gpu/steps every_kind a_peer a_graph two_graphs \
        only_the_application
done
for old in CUDA_DOUBLE_CAPABILITY=8 CUDA_DOUBLE_VERSION=12020; do
    echo "== no early launches: $old"
    env "$old" tests/gpu/steps as_on_the_host
done
