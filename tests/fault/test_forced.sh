#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Replica groups of real processes that lose more than f acceptors
# (tests/fault/forced.py). With etcd those that are left force a lineage; with a
# static list they stop, and say how to go on.
#
# SCENES: which of etcd's.
. "${srcdir:-.}/tests/harness/shell.sh"
. "${srcdir:-.}/tests/harness/etcd.sh"
command -v python3 >/dev/null || check_skip "there is no python3"
use_replica_transport

scene() {
    TALLY_JOB=$1 PYTHONDONTWRITEBYTECODE=1 timeout "${FAULT_TIMEOUT:-600}" \
        python3 "$srcdir/tests/fault/forced.py" "$scratch/$1" "$1" \
        --transport "$transport" >"$scratch/$1.log" 2>&1 &&
        tail -n 1 "$scratch/$1.log" && return
    cat "$scratch/$1.log"
    tail -n 60 "$scratch/$1"/errors.*
    return 1
}

forced() {
    TALLY_REPLICA_FORCE=3
    export TALLY_REPLICA_FORCE
    scene "$1"
    result=$?
    unset TALLY_REPLICA_FORCE
    return $result
}

export TALLY_PLUGIN_PATH="$PWD/.libs"
if etcd_is_here; then
    etcd_prepare
    etcd_start
    export TALLY_ETCD_LEASE=2 TALLY_ETCD_PREFIX=/tally
    for name in ${SCENES:-killed killed-of-four stopped leases all-stopped \
        below started-again}; do
        check "those that are left force a lineage, or need none: $name" \
            forced "$name"
    done
    check "those that are left force a lineage by the operator's word" \
        scene word
    kill $etcd
    wait $etcd 2>/dev/null
else
    echo "without etcd: etcd-server or libtally-etcd.so is not here"
fi

TALLY_QUORUM_LIST=$(static_list 3)
export TALLY_QUORUM=static TALLY_QUORUM_LIST
check "without a register they stop, and say how to go on" scene static
refuse() {
    TALLY_REPLICA_FORCE=3 TALLY_REPLICAS=3 TALLY_REPLICA=0 TALLY_RANK=0 \
        TALLY_WORLD_SIZE=1 TALLY_ROOT="127.0.0.1:$(ports 1)" \
        timeout 30 tests/fault/replica_rank "$scratch" 0 1 2>&1 |
        grep -q "TALLY_QUORUM=static has no register of lineages"
}
check "and none can be forced there" refuse
check_end
