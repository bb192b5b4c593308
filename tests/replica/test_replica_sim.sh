#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The shipping state machine of replica groups through 20,000 seeds of faults, with
# every invariant checked after every event. SEEDS says how many, for builds that
# take their time.
. "${srcdir:-.}/tests/harness/shell.sh"

seeds=${SEEDS:-20000}
sim=tests/replica/sim_replica

check "no invariant breaks in $seeds seeds" \
    "$sim" --seeds "$seeds" --table
check "nor in $((seeds / 10)) seeds of duels" \
    "$sim" --seeds "$((seeds / 10))" --from 4294967296 --brief
"$sim" --seed 1 >"$scratch/first"
"$sim" --seed 1 >"$scratch/second"
check "a seed replays exactly" cmp "$scratch/first" "$scratch/second"
check "a replay is a schedule that can be read" \
    grep -q 'ms  decided: ' "$scratch/first"
check_end
