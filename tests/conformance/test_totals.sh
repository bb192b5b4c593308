#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Every transport and topology gives the same bits: real processes over a matrix
# of transports, with the node's shared memory and without, numbers of ranks, and
# numbers of channels. The digests of all results of a cell are compared with
# those of one process that adds up, and of the simulator.
. "${srcdir:-.}/tests/harness/shell.sh"

epochs=${EPOCHS:-8}
ranks=${RANKS:-"1 2 3 4 5 7 8 16"}
channels=${CHANNELS:-"1 4 8 64"}

# same DIGESTS command...: it prints them, and nothing else.
same() {
    want=$1
    shift
    timeout 120 "$@" >"$scratch/out" 2>"$scratch/errors" </dev/null &&
        [ "$(sed 's/^\[0\] //' "$scratch/out")" = "$want" ] ||
        { cat "$scratch/out" "$scratch/errors" && false; }
}

# Without shared memory; with it, in three nodes; and UCX with another radix. A
# line: settings, then arguments of tally_run.
transport_ways | sed 's/$/|/' >"$scratch/ways"
transport_ways | sed -n '/SHM=0/s/ TALLY_NODE_SHM=0\(.*\)/\1|--nodes 3/p' \
    >>"$scratch/ways"
transport_ways | sed -n '/TLS=tcp/s/$/ TALLY_RADIX=2|/p' >>"$scratch/ways"

for n in $ranks; do
    # shellcheck disable=SC2086
    want=$(tests/conformance/alone add "$epochs" "$n" $channels)
    echo "$want"
    # shellcheck disable=SC2086
    check "$n simulated ranks give these bits" \
        same "$want" tests/conformance/alone sim "$epochs" "$n" $channels
    while IFS='|' read -r settings arguments; do
        case "$arguments" in
        *nodes*) [ "$n" -ge 3 ] || arguments="--nodes $n" ;;
        esac
        # shellcheck disable=SC2086
        check "$n ranks, $settings $arguments" \
            same "$want" env $settings tools/tally_run -n "$n" $arguments \
            tests/conformance/totals "$epochs" $channels
    done <"$scratch/ways"
done
check_end
