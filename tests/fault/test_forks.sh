#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Ranks that fork and execute: what children inherit, and that they do no harm,
# on every transport.
. "${srcdir:-.}/tests/harness/shell.sh"

run="tools/tally_run --keep-going --timeout 100"

transport_ways >"$scratch/ways"
while read -r settings; do
    failed=$failures
    # shellcheck disable=SC2086
    check "children and programs of 3 ranks do no harm, $settings" \
        env $settings TALLY_TIMEOUT=60 timeout 120 $run -n 3 \
        tests/fault/forks work </dev/null

    # As on three hosts, where no rank watches another's process.
    case "$settings" in *=shm) nodes= ;; *) nodes="--nodes 3" ;; esac
    # shellcheck disable=SC2086
    env $settings TALLY_TIMEOUT=60 timeout 120 $run -n 3 $nodes \
        tests/fault/forks die 1 >"$scratch/die" 2>"$scratch/errors" </dev/null
    for rank in 0 2; do
        check "rank $rank sees the death of a rank whose child lives, $settings" \
            grep -qE "^\[$rank\] step: .*rank 1 died in mid-step" "$scratch/die"
        check "rank $rank closes" grep -qF "[$rank] closed" "$scratch/die"
    done
    [ $failures -eq "$failed" ] || cat "$scratch/die" "$scratch/errors"
done <"$scratch/ways"
check_end
