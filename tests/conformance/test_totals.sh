#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Every transport and topology gives the same bits: real processes over a matrix
# of transports, numbers of ranks, and numbers of channels.
. "${srcdir:-.}/tests/harness/shell.sh"

epochs=${EPOCHS:-40}
ranks=${RANKS:-"1 2 3 4 5 7 8 16"}
channels=${CHANNELS:-"1 4 8 64"}

# A line: settings, then arguments of tally_run.
ways="TALLY_TRANSPORT=shm|"
if [ -e .libs/libtally-ucx.so ]; then
    ways="$ways
TALLY_TRANSPORT=ucx TALLY_NODE_SHM=0 TALLY_UCX_TLS=tcp TALLY_UCX_NET_DEVICES=lo|
TALLY_TRANSPORT=ucx TALLY_NODE_SHM=0 TALLY_UCX_TLS=posix,cma,self|
TALLY_TRANSPORT=auto TALLY_UCX_TLS=tcp TALLY_UCX_NET_DEVICES=lo|--nodes 3
TALLY_TRANSPORT=ucx TALLY_NODE_SHM=0 TALLY_UCX_TLS=tcp TALLY_UCX_NET_DEVICES=lo TALLY_RADIX=2|"
fi
if [ -e .libs/libtally-ofi.so ]; then
    ways="$ways
TALLY_TRANSPORT=ofi TALLY_NODE_SHM=0 TALLY_OFI_PROVIDER=tcp;ofi_rxm TALLY_OFI_DOMAIN=lo|
TALLY_TRANSPORT=ofi TALLY_NODE_SHM=0 TALLY_OFI_PROVIDER=shm|
TALLY_TRANSPORT=ofi TALLY_OFI_PROVIDER=tcp TALLY_OFI_DOMAIN=lo|--nodes 3"
fi

echo "$ways" >"$scratch/ways"
while IFS='|' read -r settings arguments; do
    for n in $ranks; do
        case "$arguments" in
        *nodes*) [ "$n" -ge 3 ] || continue ;;
        esac
        for k in $channels; do
            # shellcheck disable=SC2086
            check "$n ranks, $k channels, $settings $arguments" \
                env $settings timeout 120 tools/tally_run -n "$n" $arguments \
                tests/conformance/totals "$epochs" "$k" </dev/null
        done
    done
done <"$scratch/ways"
check_end
