#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Ranks whose processes exit without tally_close, in the midst of reductions, of
# a wait, of tally_close, in a callback: each with its own status, and nothing of
# Tally's runs when the libraries below it are gone.
#
# ROUNDS: how often, over TCP; over the others a fourth.
. "${srcdir:-.}/tests/harness/shell.sh"

rounds=${ROUNDS:-4}
lingering=$PWD/tests/fault/.libs/lingering.so

# repeat COUNT SETTINGS HOW: all ranks exit as they mean to.
repeat() {
    round=0
    while [ "$round" -lt "$1" ]; do
        round=$((round + 1))
        status=0
        # shellcheck disable=SC2086
        env $2 timeout 60 tools/tally_run --keep-going --timeout 50 -n 3 \
            tests/fault/exits "$3" "$lingering" >"$scratch/out" 2>&1 \
            </dev/null || status=$?
        [ $status -eq 43 ] && [ "$(grep -c "exited with status 43$" \
            "$scratch/out")" -eq 3 ] && continue
        echo "status $status"
        cat "$scratch/out"
        return 1
    done
}

transport_ways >"$scratch/ways"
while read -r settings; do
    count=1
    case "$settings" in *UCX_TLS=tcp*) count=$rounds ;; esac
    for how in pending stepping waiting joining closing; do
        check "3 ranks exit while one is $how, $count times, $settings" \
            repeat "$count" "$settings" "$how"
    done
    check "libraries that were loaded after tally_open may go, $settings" \
        repeat 1 "$settings" opened
    check "a callback exits, $settings" \
        repeat 1 "TALLY_TIMEOUT=0.2 $settings" log
    check "a close that begins as libraries go, $settings" \
        repeat 1 "$settings" late
    check "who exits may close, $settings" \
        repeat 1 "TALLY_TIMEOUT=0.5 $settings" closes
done <"$scratch/ways"
check_end
