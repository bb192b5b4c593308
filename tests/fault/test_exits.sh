#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Ranks whose processes exit without tally_close, in the midst of reductions, of
# a wait, of tally_close, in a callback: each with its own status, and nothing of
# Tally's runs when the libraries below it are gone.
#
# EXITS: how often, of those that may come at any moment (2).
. "${srcdir:-.}/tests/harness/shell.sh"

TSAN_OPTIONS="${TSAN_OPTIONS:+$TSAN_OPTIONS:}suppressions=${srcdir:-.}/tests/\
harness/tsan.supp"
export TSAN_OPTIONS
lingering=$PWD/tests/fault/.libs/lingering.so

# exit_once HOW SETTINGS: all ranks exit as they mean to.
exit_once() {
    out=$scratch/$1.out
    status=0
    # shellcheck disable=SC2086
    env $2 timeout 120 tools/tally_run --keep-going --timeout 110 -n 3 \
        tests/fault/exits "$1" "$lingering" >"$out" 2>&1 </dev/null || status=$?
    [ $status -eq 43 ] &&
        [ "$(grep -c "exited with status 43$" "$out")" -eq 3 ] && return
    echo "status $status"
    cat "$out"
    return 1
}

# exit_often HOW SETTINGS
exit_often() {
    round=0
    while [ "$round" -lt "${EXITS:-2}" ]; do
        round=$((round + 1))
        exit_once "$1" "$2" || return 1
    done
}

# Of all that one transport has at a time: most of it is waiting. Lines: how,
# whether once or often, what holds.
everything="pending often a reduction is pending
stepping often another thread makes steps
waiting often another thread waits
closing often another thread closes
opened once libraries that were loaded after tally_open go
log once a callback exits
late once another thread begins to close as libraries go
closes once who exits closes"
# What calls most of a transport.
most=$(echo "$everything" | grep -E '^(stepping|closing|late) ')

# exit_all LINES SETTINGS
exit_all() {
    echo "$1" >"$scratch/ways"
    while read -r how often _; do
        { "exit_$often" "$how" "$2" >"$scratch/$how" 2>&1 &&
            echo well >>"$scratch/$how"; } &
    done <"$scratch/ways"
    wait
    while read -r how _ sentence; do
        check "ranks exit: $sentence, $2" ended_well "$how"
    done <"$scratch/ways"
}

ended_well() {
    [ "$(cat "$scratch/$1")" = well ] || { cat "$scratch/$1" && return 1; }
}

transport_ways >"$scratch/transports"
while read -r settings; do
    case "$settings" in
    *TRANSPORT=shm | *UCX_TLS=tcp*) exit_all "$everything" "$settings" ;;
    *) exit_all "$most" "$settings" ;;
    esac
done <"$scratch/transports"
check_end
