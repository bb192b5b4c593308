#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Opening and closing, ROUNDS times (100), leaves no memory and no descriptors
# behind, on every transport.
. "${srcdir:-.}/tests/harness/shell.sh"

rounds=${ROUNDS:-100}
# Allocators and libraries settle; a leak of a few bytes a round may hide here.
kib_max=$((1024 + rounds))

# By default glibc keeps large blocks that were freed, up to some 100 MiB with
# libfabric's rxm, and what is left of a round could not be told from that.
MALLOC_MMAP_THRESHOLD_=65536
MALLOC_TRIM_THRESHOLD_=65536
export MALLOC_MMAP_THRESHOLD_ MALLOC_TRIM_THRESHOLD_

transport_ways >"$scratch/ways"
while read -r settings; do
    # shellcheck disable=SC2086
    check "$rounds rounds leave nothing behind, $settings" \
        env $settings timeout 500 tools/tally_run -n 2 \
        tests/fault/rounds "$rounds" "$kib_max" </dev/null
done <"$scratch/ways"
check_end
