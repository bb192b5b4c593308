#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Replica groups of real processes that find each other by etcd, which is killed
# and started again beside them, and by a static list, under faults
# (tests/fault/replicas.py); and what tally_info shows of them.
#
# FAULTS: how many, with each (3).
. "${srcdir:-.}/tests/harness/shell.sh"
. "${srcdir:-.}/tests/harness/etcd.sh"
command -v python3 >/dev/null || check_skip "there is no python3"
transport=
for name in ofi ucx; do
    [ ! -e .libs/libtally-$name.so ] || transport=$name
done
[ -n "$transport" ] || check_skip "there is no transport between replicas"

replicas() {
    PYTHONDONTWRITEBYTECODE=1 timeout "${FAULT_TIMEOUT:-1200}" python3 \
        "$srcdir/tests/fault/replicas.py" "$scratch/$1" \
        --transport "$transport" --faults "${FAULTS:-3}" \
        >"$scratch/$1.log" 2>&1 && tail -n 1 "$scratch/$1.log" && return
    cat "$scratch/$1.log"
    tail -n 5 "$scratch/$1"/errors.*
    return 1
}

# Kills it in mid-job, and starts it again: only who starts then waits.
disturb_etcd() {
    kill -KILL $etcd
    wait $etcd 2>/dev/null
    sleep 2
    etcd_start
}

# Some processes are killed: their sockets are told of on stderr.
see_steps() {
    tools/tally_info --replicas --json >"$scratch/live" 2>/dev/null &&
        grep -q APPLY "$scratch/live"
}

export TALLY_JOB="quorum-jobs" TALLY_PLUGIN_PATH="$PWD/.libs"
if etcd_is_here; then
    etcd_prepare
    etcd_start
    export TALLY_ETCD_LEASE=2
    export TALLY_RECORDER_FOLDER="$scratch/recorder"
    replicas over-etcd >"$scratch/result" &
    job=$!
    check "tally_info sees steps" eventually see_steps
    disturb_etcd
    check "3 replica groups find each other by etcd, which is killed once" \
        wait $job
    cat "$scratch/result"
    check "tally_info showed the running job" python3 -c "import json, sys
replicas = json.load(open(sys.argv[1]))['replicas']
assert len(replicas) >= 1
assert all(r['job'] == 'quorum-jobs' for r in replicas)
assert any(s['what'] in ('COUNT', 'APPLY') and s['members']
           for r in replicas for s in r['steps'])" "$scratch/live"
    check "checkpoints of it were published in the register" \
        grep -q "^published .* ok\$" "$scratch"/over-etcd/log.*
    kill $etcd
    wait $etcd 2>/dev/null
else
    echo "without etcd: etcd-server or libtally-etcd.so is not here"
fi

TALLY_QUORUM_LIST=$(static_list 3)
export TALLY_QUORUM=static TALLY_QUORUM_LIST
check "3 replica groups find each other by a static list" replicas static
check_end
