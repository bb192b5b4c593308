#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Checks one line of cases.txt, and prints one line of fields, separated by
# " ;; ": form, name, whether as wanted, states, seconds, MB, what it came to.
#     case.sh WORK-FOLDER LINE
set -u
source=$(cd "$(dirname "$0")" && pwd)
field() {
    echo "$line" | awk -F ' ;; ' -v field="$1" '{ print $field }'
}
line=$2
form=$(field 1)
name=$(field 2)
model=$(field 3).pml
macros=$(field 4)
work=$1/$form-$name
mkdir -p "$work" && cp "$source"/*.pml "$source"/*.h "$work" &&
    cd "$work" || exit 1

# What violates is looked for breadth first, for the shortest schedule. Nothing
# is left out by partial order: all statements touch the state that all share.
compile="-w -DSAFETY -DNOFAIR -DNOREDUCE -DMEMLIM=6000"
size=22 # of the hash table: 2^22 places
case "$form" in
small) compile="$compile -O1" ;;
full) compile="$compile -O2" size=24 ;;
*) compile="$compile -O0 -DBFS" ;;
esac
# shellcheck disable=SC2086
if ! { spin -a $macros "$model" && gcc $compile -o pan pan.c; } \
    >build.log 2>&1; then
    echo "$form ;; $name ;; no ;; 0 ;; 0 ;; 0 ;; no verifier: $work/build.log"
    exit
fi
./pan -m100000 -w$size >pan.log 2>&1

states=$(awk '/states, stored/ { printf "%.0f\n", $1; exit }' pan.log)
seconds=$(awk '/elapsed time/ { print $4 }' pan.log)
memory=$(awk '/total actual memory/ { printf "%.0f\n", $1 }' pan.log)
wanted=no
result="broke off: $work/pan.log"
if grep -q 'assertion violated' pan.log && [ -e "$model.trail" ] &&
    ! grep -q 'invalid array index' pan.log; then
    # shellcheck disable=SC2086
    spin -t $macros "$model" >trail.log 2>&1
    sed -n '/#processes/q; s/^ *//; /^spin:/d; /^$/d; p' trail.log >schedule
    # The comment beside the assertion says which invariant it is.
    place='^spin: \([a-z.]*\):\([0-9]*\), Error: assertion.*'
    file=$(sed -n "s/$place/\\1/p" trail.log)
    at=$(sed -n "s/$place/\\2/p" trail.log)
    result="violates $(sed -n "${at}s|.*// \([0-9].*\)|\1|p" "$file")"
    case "$form" in
    reach) result="is reached" wanted=yes ;;
    stops | mutant) wanted=yes ;;
    esac
elif grep -q -E 'not completed|too small|out of memory' pan.log; then
    result="did not end: $work/pan.log"
elif grep -q 'errors: 0' pan.log; then
    result=holds
    case "$form" in small | full) wanted=yes ;; esac
fi
rm -f pan pan.[bchmpt] # only what is read again stays
echo "$form ;; $name ;; $wanted ;; ${states:-0} ;; ${seconds:-0} ;;" \
    "${memory:-0} ;; $result"
