#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Runs ranks of tests/gpu/stream on this machine's GPUs: reductions over NCCL,
# on the stream and in a graph, a rank that is killed, one that is late, and the
# trainer's communicator. make gpucheck-nccl builds what it needs.
#     tests/gpu/stream.sh BUILD [RANKS]
set -u
build=$1
ranks=${2:-2}
export TALLY_TRANSPORT=nccl TALLY_TIMEOUT=4 TALLY_LOG="${TALLY_LOG:-warn}"
export TALLY_PLUGIN_PATH="$build/.libs"
failed=0

# A scene, and how the ranks that are left must end. NCCL lets two ranks share
# a GPU only if it takes them for two hosts.
scene() {
    echo "== $1"
    # shellcheck disable=SC2016
    timeout 90 "$build/tools/tally_run" -n "$2" --keep-going --timeout 60 -- \
        sh -c 'NCCL_HOSTID=rank$TALLY_RANK exec "$0" "$1"' \
        "$build/tests/gpu/stream" "$1" >"$build/stream.out" 2>&1
    status=$?
    cat "$build/stream.out"
    if [ "$3" = all ]; then
        [ $status -eq 0 ] || failed=1
    else
        grep -q "rank 0: closed" "$build/stream.out" || failed=1
    fi
    [ $failed -eq 0 ] || echo "FAILS: $1 (status $status)"
}

"$build/tests/gpu/stream" driver >/dev/null 2>&1
if [ $? -eq 77 ]; then
    echo "skipped: there is no CUDA driver"
    exit 77
fi
scene sums "$ranks" all
scene adopted "$ranks" all
scene killed 2 first
scene late 2 first
scene adopted_killed 2 first
exit $failed
