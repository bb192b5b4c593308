#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The full form of the model: checks all cases, and writes what came of it into
# doc/model.md, below its line "<!-- results -->". Called by `make model`.
#     report.sh WORK-FOLDER [JOBS]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
page=$here/../../doc/model.md
work=$1
command -v spin >/dev/null || {
    echo "spin is not installed (Debian's package spin)" >&2
    exit 1
}
mkdir -p "$work"
"$here/run.sh" "$work" 'small|full|reach|stops|mutant' "${2:-2}" >"$work/all"
cat "$work/all"
if grep -v '^[^;]* ;; [^;]* ;; yes ;; ' "$work/all"; then
    echo "not as wanted; $page stays as it was" >&2
    exit 1
fi

# table FORMS: a row each, with the question and the bounds from cases.txt.
table() {
    awk -F ' ;; ' -v forms="$1" '
        NR == FNR {
            model[$1 $2] = $3
            macros[$1 $2] = $4
            question[$1 $2] = $5
        }
        NR != FNR && $1 ~ "^(" forms ")$" {
            bounds = macros[$1 $2]
            gsub(/-D/, "", bounds)
            printf "| %s | %s | `%s.pml %s` | %s | %s |\n", $2, question[$1 $2],
                model[$1 $2], bounds, $4, $7
        }' "$here/cases.txt" "$work/all"
}

{
    sed '/^<!-- results -->$/q' "$page"
    echo
    echo "Written by \`make model\`, with $(spin -V | sed 's/ --.*//'); do not" \
        "edit below."
    echo
    echo "$(awk -F ' ;; ' '$7 == "holds" { n += $4 } END { printf "%.0f", n }' \
        "$work/all") states in configurations that hold;" \
        "$(grep -c '^mutant' "$work/all") mutants, all of which violate."
    for form in small full reach stops; do
        case $form in
        small) title="Small configurations, in \`make check\`" ;;
        full) title="Full configurations, in \`make model\` alone" ;;
        reach) title="What must be reachable" ;;
        stops) title="What must stop" ;;
        esac
        printf '\n### %s\n\n' "$title"
        echo "| name | question | bounds | states | result |"
        echo "|---|---|---|---|---|"
        table $form
    done
    printf '\n## Mutants\n\n'
    echo "| name | what is broken | bounds | states | result |"
    echo "|---|---|---|---|---|"
    table mutant
    printf '\n### The shortest schedule of each mutant\n'
    sed -n 's/^mutant ;; \([^ ]*\) ;; .* ;; \(.*\)/\1 \2/p' "$here/cases.txt" |
        while read -r name what; do
            printf '\n**%s**: %s.\n\n' "$name" "$what"
            sed 's/^/    /' "$work/mutant-$name/schedule"
        done
} >"$work/page"
cp "$work/page" "$page"
