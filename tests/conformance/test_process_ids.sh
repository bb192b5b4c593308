#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Process ids come again: every rank is process 1 of a namespace of its own, as
# in containers, where no transport may take that for its name.
. "${srcdir:-.}/tests/harness/shell.sh"

unshare --pid --fork true 2>/dev/null ||
    check_skip "the kernel refuses PID namespaces"

ways="TALLY_TRANSPORT=shm"
[ ! -e .libs/libtally-ucx.so ] || ways="$ways
TALLY_TRANSPORT=ucx TALLY_NODE_SHM=0 TALLY_UCX_TLS=posix,cma,self,tcp TALLY_UCX_NET_DEVICES=lo"
[ ! -e .libs/libtally-ofi.so ] || ways="$ways
TALLY_TRANSPORT=ofi TALLY_NODE_SHM=0 TALLY_OFI_PROVIDER=shm"

echo "$ways" >"$scratch/ways"
while read -r settings; do
    # shellcheck disable=SC2086
    check "3 ranks, each process 1: $settings" env $settings timeout 120 \
        tools/tally_run -n 3 unshare --pid --fork --kill-child \
        tests/conformance/totals 10 4 </dev/null
done <"$scratch/ways"
check_end
