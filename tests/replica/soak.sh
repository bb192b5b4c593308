#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Runs the replica simulator for long and writes what was seen into the part of
# a document between its two marks.
#     SEEDS=1000000 JOBS=1 tests/replica/soak.sh SIM_REPLICA DOCUMENT
set -eu
sim=$1
document=$2
table=$(mktemp)
trap 'rm -f "$table" "$table.new"' EXIT

"$sim" --seeds "${SEEDS:-1000000}" --from "${FROM:-1000001}" --table --brief \
    ${JOBS:+--jobs "$JOBS"} >"$table"
awk -v table="$table" '
    /<!-- soak: end -->/ { inside = 0 }
    !inside { print }
    /<!-- soak: begin/ {
        inside = 1
        while ((getline line < table) > 0)
            print line
    }' "$document" >"$table.new"
cat "$table.new" >"$document"
cat "$table"
