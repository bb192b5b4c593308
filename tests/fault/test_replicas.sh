#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Replica groups of real processes: ranks, coordinators, acceptors and whole
# replicas are killed, stopped and started again; a checker that knows nothing of
# Tally computes from the ranks' logs what must have been decided.
#
# FAULTS: how many of three groups and of two (20), and a third as many of five;
# TRANSPORTS: "ucx ofi".
. "${srcdir:-.}/tests/harness/shell.sh"

command -v python3 >/dev/null || check_skip "there is no python3"

faults=${FAULTS:-20}
transports=
for transport in ${TRANSPORTS:-ucx ofi}; do
    [ ! -e .libs/libtally-$transport.so ] || transports="$transports $transport"
done
[ -n "$transports" ] || check_skip "there is no transport between replicas"

# With witnesses a third of the faults, and as many again with five acceptors.
runs=$(echo "$transports" | wc -w)
of_three=$(((faults * 2 / 3 + runs - 1) / runs))
of_two=$(((faults / 3 + runs - 1) / runs))

replicas() {
    name=$1
    shift
    PYTHONDONTWRITEBYTECODE=1 timeout "${FAULT_TIMEOUT:-1200}" python3 \
        "$srcdir/tests/fault/replicas.py" "$scratch/$name" "$@" \
        >"$scratch/$name.log" 2>&1 && tail -n 1 "$scratch/$name.log" &&
        return
    cat "$scratch/$name.log"
    tail -n 5 "$scratch/$name"/errors.* "$scratch/$name"/log.*
    return 1
}

for transport in $transports; do
    check "3 replica groups of 2 ranks over $transport: $of_three faults" \
        replicas "three.$transport" --transport "$transport" \
        --faults "$of_three"
    check "2 replica groups and a witness over $transport: $of_two faults" \
        replicas "two.$transport" --transport "$transport" --replicas 2 \
        --witnesses 1 --faults "$of_two"
    check "5 replica groups of 2 ranks, all acceptors, over $transport: $of_two faults" \
        replicas "five.$transport" --transport "$transport" --replicas 5 \
        --acceptors 5 --faults "$of_two"
done
check_end
