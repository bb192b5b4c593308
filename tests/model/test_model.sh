#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The model of the replica path in its small form: what must hold holds, what must
# be reachable is, and every mutant of the protocol violates an invariant.
srcdir=${srcdir:-$(dirname "$0")/../..}
. "$srcdir/tests/harness/shell.sh"

command -v spin >/dev/null || check_skip "spin is not installed"
command -v "${CC:-gcc}" >/dev/null || check_skip "${CC:-gcc} is not there for spin"

"$srcdir/tests/model/run.sh" "$scratch" 'small|reach|stops|mutant' >"$scratch/all"
what() {
    awk -F ' ;; ' -v form="$1" -v name="$2" \
        '$1 == form && $2 == name { print $5 }' "$srcdir/tests/model/cases.txt"
}
while IFS= read -r line; do
    form=${line%% ;; *}
    rest=${line#* ;; }
    name=${rest%% ;; *}
    rest=${rest#* ;; }
    check "$form $name: $(what "$form" "$name") ($(echo "$line" |
        awk -F ' ;; ' '{ print $4 " states, " $5 " s, " $7 }'))" \
        [ "${rest%% ;; *}" = yes ]
done <"$scratch/all"
check_equal "all cases were looked at" \
    "$(grep -c -E '^(small|reach|stops|mutant) ;; ' "$srcdir/tests/model/cases.txt")" \
    "$checks"
check "there are a dozen mutants and more" \
    [ "$(grep -c '^mutant ;; ' "$scratch/all")" -ge 12 ]

check_end
