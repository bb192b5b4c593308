#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Soak, in its short form: many steps over each transport, then ranks killed at
# many different steps. Runs in the build folder; ROUNDS sets how many kills.
. "${srcdir:-.}/tests/harness/shell.sh"

steps=tests/fault/steps
run=tools/tally_run
rounds=${ROUNDS:-12}

transports="TALLY_TRANSPORT=shm"
if [ -e .libs/libtally-ucx.so ]; then
    transports="$transports TALLY_TRANSPORT=ucx,TALLY_NODE_SHM=0,TALLY_UCX_TLS=tcp,TALLY_UCX_NET_DEVICES=lo"
    transports="$transports TALLY_TRANSPORT=ucx,TALLY_UCX_TLS=tcp,TALLY_UCX_NET_DEVICES=lo,nodes"
fi
if [ -e .libs/libtally-ofi.so ]; then
    transports="$transports TALLY_TRANSPORT=ofi,TALLY_NODE_SHM=0,TALLY_OFI_PROVIDER=tcp,TALLY_OFI_DOMAIN=lo"
    transports="$transports TALLY_TRANSPORT=ofi,TALLY_OFI_PROVIDER=tcp,TALLY_OFI_DOMAIN=lo,nodes"
fi

killed_in_order() {
    [ "$(grep -cE 'failed within ([1-9]|1[0-9]) s: .*rank 1 died' "$1")" -eq 3 ] &&
        [ "$(grep -c 'closed$' "$1")" -eq 3 ]
}

for chosen in $transports; do
    settings=$(echo "$chosen" | tr , ' ')
    nodes=
    case "$settings" in
    *nodes) settings=${settings% nodes} nodes="--nodes 2" ;;
    esac
    # shellcheck disable=SC2086
    check "20000 steps with $settings $nodes" \
        env $settings timeout 120 $run -n 4 $nodes $steps 20000
    for round in $(seq "$rounds"); do
        at=$((round * round * 7 % 1000 + 1))
        # shellcheck disable=SC2086
        env $settings timeout 60 $run -n 4 $nodes --keep-going $steps 2000 \
            die 1 $at >"$scratch/out" 2>&1
        check "rank 1 killed at step $at is named by the other three" \
            killed_in_order "$scratch/out"
    done
done
check_equal "no segment is left behind" "" \
    "$(segments_newer_than "$scratch/out")"
check_end
