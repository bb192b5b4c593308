#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Checks the cases of cases.txt whose form matches a pattern, several at a time,
# and prints a line each as case.sh does, in the order of the table.
#     run.sh WORK-FOLDER FORMS [JOBS]    FORMS as in 'small|reach|stops|mutant'
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
grep -E "^($2) ;; " "$here/cases.txt" >"$1/cases"
: >"$1/results"
# shellcheck disable=SC2016
tr '\n' '\0' <"$1/cases" |
    xargs -0 -n 1 -P "${3:-2}" "$here/case.sh" "$1" >>"$1/results"
# Both sides have unique first two fields.
awk -F ' ;; ' 'NR == FNR { result[$1 FS $2] = $0; next }
               { print result[$1 FS $2] }' "$1/results" "$1/cases"
