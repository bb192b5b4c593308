#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# One way of UCX or libfabric by itself between two nodes, under nodes.sh; the
# first prints its percentiles as JSON.
#     bench/oneway.sh ucx|ofi
set -eu
program=tools/tally_perf_$1

[ "$TALLY_RANK" -eq 0 ] || exec "$program" --listen 7000 20000 2000 1
"$program" --connect 10.9.0.2:7000 20000 2000 1 |
    awk '$1 == "samples_ns" { for (i = 2; i <= NF; i++) print $i }' | sort -n |
    awk '{ ns[NR] = $1 }
        END { if (NR == 0) exit 1
            printf "{\"p50_us\": %.3f, \"p99_us\": %.3f}\n", \
                ns[int((NR + 1) / 2)] / 1000, ns[int((NR * 99 + 99) / 100)] / 1000 }'
