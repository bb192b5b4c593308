#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Many real processes that find each other (PROCESSES, 300): what comes to rank 0
# does not grow with them, in whatever order they start.
. "${srcdir:-.}/tests/harness/shell.sh"

processes=${PROCESSES:-300}
# A child for each of the tree's radix, and 64 guests: src/bootstrap/tree/admit.c.
connections_max=96

for order in "" --reverse; do
    # shellcheck disable=SC2086
    check "$processes processes come up, order: ${order:-by rank}" \
        eval "timeout 100 bench/bootstrap --json $order --ranks $processes \
            >'$scratch/come'"
    cat "$scratch/come"
    most=$(sed -n 's/.*"root_connections": *\([0-9]*\).*/\1/p' "$scratch/come")
    check "rank 0 had connections" [ "${most:-0}" -gt 0 ]
    check "rank 0 had at most $connections_max connections at once" \
        [ "${most:-999999}" -le $connections_max ]
done
check_end
