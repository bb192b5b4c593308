#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Runs the replica simulator for long, a share of the seeds at a time, and writes
# the sum of what was seen into the part of a document between its two marks: at
# the end, and when a seed breaks an invariant. The tables of shares are kept in a
# folder. Run again, it goes on behind those that held, whatever has been mended
# since: the row "simulators" says how many builds the sum is of.
#     SEEDS=1000000 FROM=2000001 JOBS=1 tests/replica/soak.sh SIM DOCUMENT FOLDER
set -eu
sim=$1
document=$2
folder=$3
first=${FROM:-2000001}
end=$((first + ${SEEDS:-1000000}))
share=${SHARE:-5000}
build=$(cksum <"$sim" | tr ' ' -)

# Rows are a name and one or more numbers, in the order of the first share.
add_up()
{
    awk -F ' *[|] *' '
        /^[|] build / { builds += !seen[$3]++; next }
        /^[|]---/ || /^[|] what / { next }
        {
            if (!($2 in parts))
                names[++rows] = $2
            parts[$2] = split($3, numbers, ", ")
            for (i = 1; i <= parts[$2]; i++)
                sum[$2, i] += numbers[i]
        }
        END {
            print "| what | how many |\n|---|---|"
            for (row = 1; row <= rows; row++) {
                line = sprintf("%.0f", sum[names[row], 1])
                for (i = 2; i <= parts[names[row]]; i++)
                    line = line ", " sprintf("%.0f", sum[names[row], i])
                print "| " names[row] " | " line " |"
            }
            print "| simulators | " builds " |"
        }' "$@"
}

write_table()
{
    set -- "$folder"/*.held "$folder"/*.broke
    for part; do
        shift
        [ ! -e "$part" ] || set -- "$@" "$part"
    done
    add_up "$@" >"$folder/table"
    awk -v table="$folder/table" '
        /<!-- soak: end -->/ { inside = 0 }
        !inside { print }
        /<!-- soak: begin/ {
            inside = 1
            while ((getline line < table) > 0)
                print line
        }' "$document" >"$folder/document"
    cat "$folder/document" >"$document"
    cat "$folder/table"
}

mkdir -p "$folder"
rm -f "$folder"/*.broke
for from in $(seq "$first" "$share" $((end - 1))); do
    [ ! -e "$folder/$from.held" ] || continue
    count=$((end - from < share ? end - from : share))
    status=0
    "$sim" --seeds "$count" --from "$from" --table --brief \
        ${JOBS:+--jobs "$JOBS"} >"$folder/running" || status=$?
    echo "| build | $build |" >>"$folder/running"
    if [ "$status" -ne 0 ]; then
        mv "$folder/running" "$folder/$from.broke"
        write_table
        exit 1
    fi
    mv "$folder/running" "$folder/$from.held"
done
write_table
