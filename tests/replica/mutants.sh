#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Breaks a copy of src/replica as tests/replica/mutants.txt says, one break at a
# time, and has the simulator find it. Prints the seed that did. Assertions are
# compiled out: the observer must see it. Most are found within ten seeds. A tenth
# of the seeds are as in the tests, the others are of duels (sim.h), where what is
# rare is found once in some 4,000.
#     tests/replica/mutants.sh [--seeds N] [PATTERN]
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
seeds=10000
duels=4294967296
if [ "${1:-}" = --seeds ]; then
    seeds=$2
    shift 2
fi
pattern=${1:-.}
cc=${CC:-gcc}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

build()
{
    # shellcheck disable=SC2086
    $cc -std=gnu11 -O1 -DNDEBUG -w -D_GNU_SOURCE -I"$scratch/src" \
        -I"$root/tests" "$scratch"/src/replica/*.c "$root"/tests/replica/*.c \
        -o "$scratch/sim_replica"
}

looks()
{
    "$scratch/sim_replica" --seeds "$1" --from "$2" --brief \
        >"$scratch/log" 2>&1
}

tried=0
lived=0
while IFS= read -r line; do
    file=$(printf '%s\n' "$line" | awk -F ' ;; ' '{ print $1 }')
    edit=$(printf '%s\n' "$line" | awk -F ' ;; ' '{ print $2 }')
    what=$(printf '%s\n' "$line" | awk -F ' ;; ' '{ print $3 }')
    [ -n "$what" ] || continue
    tried=$((tried + 1))
    rm -rf "$scratch/src"
    mkdir "$scratch/src"
    cp -r "$root/src/replica" "$root/src/numeric" "$scratch/src/"
    sed -i "$edit" "$scratch/src/replica/$file"
    if cmp -s "$scratch/src/replica/$file" "$root/src/replica/$file"; then
        echo "STALE: $what: $file is not changed"
        lived=$((lived + 1))
    elif ! build >"$scratch/log" 2>&1; then
        echo "BROKEN: $what: does not compile"
        cat "$scratch/log"
        lived=$((lived + 1))
    elif looks "$((seeds / 10))" 1 && looks "$((seeds - seeds / 10))" "$duels"
    then
        echo "LIVES: $what, after $seeds seeds"
        lived=$((lived + 1))
    else
        echo "caught: $what: $(head -n 1 "$scratch/log")"
    fi
done <<LIST
$(grep -v '^#' "$root/tests/replica/mutants.txt" | grep -E -- "$pattern")
LIST
echo "$tried mutants, $lived not caught"
[ "$tried" -gt 0 ] && [ "$lived" -eq 0 ]
