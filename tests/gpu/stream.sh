#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Runs ranks of tests/gpu/stream on this machine's GPUs: reductions over NCCL,
# on the stream and in a graph, a rank that is killed, one that is late, and the
# trainer's communicator. make gpucheck-nccl builds what it needs.
#     tests/gpu/stream.sh BUILD [RANKS]
set -u
build=$1
ranks=${2:-2}
export TALLY_TRANSPORT=nccl TALLY_TIMEOUT=4
export TALLY_PLUGIN_PATH="$build/.libs"
failed=0

# NCCL lets ranks share a GPU only if it takes them for different hosts.
gpus=$(nvidia-smi -L 2>/dev/null | wc -l)
prefix=
[ "$ranks" -le "$gpus" ] && [ -z "${CUDA_VISIBLE_DEVICES:-}" ] ||
    prefix=rank
echo "$ranks ranks, $gpus GPUs${prefix:+, which they share}"

# A scene, and which ranks must end well.
scene() {
    echo "== $1"
    # shellcheck disable=SC2016
    "$build/tools/tally_run" -n "$2" --keep-going --timeout 30 -- \
        sh -c '[ -z "$2" ] || export NCCL_HOSTID="$2$TALLY_RANK"
            exec "$0" "$1"' \
        "$build/tests/gpu/stream" "$1" "$prefix" >"$build/stream.out" 2>&1
    status=$?
    cat "$build/stream.out"
    if [ "$3" = all ] && [ $status -ne 0 ] ||
        ! grep -q "rank 0: closed" "$build/stream.out"; then
        echo "FAILS: $1 (status $status)"
        failed=1
    fi
}

if ! "$build/tests/gpu/stream" driver; then
    exit 77
fi
scene sums "$ranks" all
scene adopted "$ranks" all
scene killed 2 first
scene late 2 first
scene killed_graph 2 first
scene adopted_killed 2 first
exit $failed
