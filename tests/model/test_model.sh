#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The model of the replica path in its small form: what must hold holds, what
# must be reachable is, and every mutant of the protocol violates an invariant.
srcdir=${srcdir:-$(dirname "$0")/../..}
. "$srcdir/tests/harness/shell.sh"

model=$srcdir/tests/model
forms='small|reach|stops|mutant'
command -v spin >/dev/null || check_skip "spin is not installed"
command -v gcc >/dev/null || check_skip "gcc is not installed, spin needs it"

"$model/run.sh" "$scratch" "$forms" >"$scratch/all"

# field NUMBER, of the result in $line.
field() {
    echo "$line" | awk -F ' ;; ' -v field="$1" '{ print $field }'
}
while IFS= read -r line; do
    question=$(grep "^$(field 1) ;; $(field 2) ;; " "$model/cases.txt")
    seen="$(field 7) ($(field 4) states, $(field 5) s, $(field 6) MB)"
    check "$(field 1) $(field 2): ${question##* ;; }: $seen" \
        [ "$(field 3)" = yes ]
done <"$scratch/all"
check_equal "every case was looked at" \
    "$(grep -c -E "^($forms) ;; " "$model/cases.txt")" "$checks"
check "there are two dozen mutants" \
    [ "$(grep -c '^mutant ;; ' "$scratch/all")" -ge 24 ]

check_end
