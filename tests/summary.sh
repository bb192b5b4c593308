#!/bin/sh
# Shows what `make check` found in one or more build folders: Check's result line
# of each test, the failed ones in full, and the sum as the last line.
#     tests/summary.sh BUILD...
set -u

total_log=$(mktemp)
trap 'rm -f "$total_log"' EXIT
failed_logs=

for build in "$@"; do
    for log in $(find "$build/tests" -name '*.log' | LC_ALL=C sort); do
        result=$(sed -n 's/^:test-result: *//p' "${log%.log}.trs" 2>/dev/null)
        name=${log#"$build/tests/"}
        name=${name%.log}
        line=$(grep -E '^[0-9]+%: Checks: ' "$log" | tail -n 1)
        case "$result" in
        SKIP)
            line="skipped: $(grep -v '^SKIP ' "$log" | tail -n 1)"
            echo "0 0 1" >>"$total_log"
            ;;
        PASS)
            # A test without Check's line is one check.
            [ -n "$line" ] || line="100%: Checks: 1, Failures: 0, Errors: 0"
            ;;
        *)
            failed_logs="$failed_logs $log"
            # It may have died before it could count.
            case "$line" in
            "" | *"Failures: 0, Errors: 0"*)
                line="0%: Checks: 1, Failures: 0, Errors: 1"
                ;;
            esac
            ;;
        esac
        printf '%-44s %s\n' "$name" "$line"
        echo "$line" |
            sed -n 's/.*Checks: \([0-9]*\), Failures: \([0-9]*\), Errors: \([0-9]*\).*/\1 \2 \3/p' |
            awk '{ print $1 - $2 - $3, $2 + $3, 0 }' >>"$total_log"
    done
    if ! grep -q '^# TOTAL: [1-9]' "$build/check.log"; then
        echo "$build: make check did not come to run its tests:"
        tail -n 40 "$build/check.log"
        echo "0 1 0" >>"$total_log"
    fi
done

for log in $failed_logs; do
    printf '\n-- %s\n' "$log"
    # What failed may stand far above the end.
    grep -n '^FAILS: ' "$log" || true
    tail -n 60 "$log"
done

echo
awk '{ passed += $1; failed += $2; skipped += $3 }
     END {
         printf "%d passed, %d failed", passed, failed
         if (skipped > 0)
             printf ", %d skipped", skipped
         print ""
         exit failed > 0 || passed == 0
     }' "$total_log"
