#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Replica groups whose links fail: each is a node, and is cut off both ways, or
# one way, for a moment and for longer than any deadline. The others go on, it
# comes back and is counted again, and the logs of all are checked from outside.
#
# LINK_FAULTS: how many a run (4: each kind once); TRANSPORTS: "ucx ofi".
. "${srcdir:-.}/tests/cluster/net.sh"

command -v python3 >/dev/null || check_skip "there is no python3"
transports=
for transport in ${TRANSPORTS:-ucx ofi}; do
    [ ! -e .libs/libtally-$transport.so ] || transports="$transports $transport"
done
[ -n "$transports" ] || check_skip "there is no transport between replicas"

lan n 3
cut() {
    name=$1
    shift
    # shellcheck disable=SC2154 # by node
    PYTHONDONTWRITEBYTECODE=1 timeout 600 python3 \
        "$srcdir/tests/fault/replicas.py" "$scratch/$name" --ranks 1 \
        --faults "${LINK_FAULTS:-4}" --nodes "$process_of_n1" \
        "$process_of_n2" "$process_of_n3" "$@" >"$scratch/$name.log" 2>&1 &&
        tail -n 1 "$scratch/$name.log" && return
    cat "$scratch/$name.log"
    tail -n 5 "$scratch/$name"/errors.* "$scratch/$name"/log.*
    return 1
}

for transport in $transports; do
    check "3 replica groups over $transport: links cut, and mended" \
        cut "three.$transport" --transport "$transport"
    check "2 replica groups and a witness over $transport: links cut, and mended" \
        cut "two.$transport" --transport "$transport" --replicas 2 --witnesses 1
done
check_end
