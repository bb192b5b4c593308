#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Real processes in which one rank dies, stops, leaves or does not come: what the
# others say, and that they close in order.
. "${srcdir:-.}/tests/harness/shell.sh"

steps=tests/fault/steps
run=tools/tally_run

# fault NAME N SETTINGS -- arguments of steps: output in $scratch/NAME.
fault() {
    name=$1 ranks=$2
    shift 2
    settings=
    while [ "$1" != -- ]; do
        settings="$settings $1"
        shift
    done
    shift
    # shellcheck disable=SC2086
    env $settings timeout 120 $run -n "$ranks" --keep-going --timeout 60 \
        "$steps" "$@" >"$scratch/$name" 2>"$scratch/$name.errors"
    status=$?
    cat "$scratch/$name"
    return 0
}

# said NAME RANK PATTERN: the rank's output has a line like it.
said() {
    grep -F "[$2]" "$scratch/$1" | grep -qE -- "$3"
}

transports="TALLY_TRANSPORT=shm"
if [ -e .libs/libtally-ucx.so ]; then
    transports="$transports TALLY_TRANSPORT=ucx,TALLY_NODE_SHM=0,TALLY_UCX_TLS=tcp"
fi
if [ -e .libs/libtally-ofi.so ]; then
    transports="$transports TALLY_TRANSPORT=ofi,TALLY_NODE_SHM=0,TALLY_OFI_PROVIDER=tcp"
fi
for chosen in $transports; do
    settings="$(echo "$chosen" | tr , ' ') TALLY_UCX_NET_DEVICES=lo"
    settings="$settings TALLY_OFI_DOMAIN=lo"
    echo "-- $settings"

    # shellcheck disable=SC2086
    fault die 4 $settings TALLY_TIMEOUT=30 -- 200 die 2 100
    for rank in 0 1 3; do
        check "a killed peer is named at rank $rank, before the deadline" \
            said die $rank "failed within ([1-9]|1[0-9]) s: .*rank 2 died in mid-step"
        check "rank $rank closes in order" said die $rank "closed"
    done
    check_equal "the killed rank's end is the job's" 137 "$status"

    # shellcheck disable=SC2086
    fault stop 3 $settings TALLY_TIMEOUT=5 -- 200 idle 1 50
    for rank in 0 2; do
        check "a rank that does not come is named at rank $rank by the deadline" \
            said stop $rank "timed out after 5 s waiting for rank 1"
        check "rank $rank closes in order" said stop $rank "closed"
    done

    # shellcheck disable=SC2086
    fault leave 3 $settings TALLY_TIMEOUT=30 -- 200 leave 0 50
    for rank in 1 2; do
        check "a rank that left is named at rank $rank" \
            said leave $rank "rank 0 left \(tally_close\) in mid-step"
        check "rank $rank closes in order" said leave $rank "closed"
    done
    check "the rank that left closed in order" said leave 0 "closed"
done

TALLY_RANK=0 TALLY_WORLD_SIZE=3 TALLY_ROOT=127.0.0.1:$((20000 + $$ % 10000)) \
    TALLY_BOOTSTRAP_TIMEOUT=1 timeout 60 "$steps" 1 >"$scratch/missing"
check "ranks that never came are named by the rendezvous" \
    grep -qF "ranks 1, 2 did not come" "$scratch/missing"
check_equal "no segment is left behind" "" \
    "$(segments_newer_than "$scratch/die")"
check_end
