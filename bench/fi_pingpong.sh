#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# libfabric's own fi_pingpong between two processes of this machine, and its
# time a transfer as JSON.
#     bench/fi_pingpong.sh PROVIDER DOMAIN BYTES ITERATIONS
set -eu

output=$(mktemp)
trap 'rm -f "$output"' EXIT
port=$((20000 + $$ % 10000))
timeout 60 fi_pingpong -e rdm -m tagged -p "$1" -d "$2" -S "$3" -I "$4" \
    -B $port >/dev/null 2>&1 &
server=$!
sleep 1
timeout 60 fi_pingpong -e rdm -m tagged -p "$1" -d "$2" -S "$3" -I "$4" \
    -P $port 127.0.0.1 >"$output" 2>&1 || { cat "$output" >&2 && exit 1; }
wait $server || true
awk -v bytes="$3" '$1 == bytes { us = $7 }
    END { if (us == "") exit 1; printf "{\"p50_us\": %s}\n", us }' "$output"
