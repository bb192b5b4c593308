#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Replica groups of real processes that find each other by etcd, which is killed
# and started again beside them, by a static list, and by the trainer's own store,
# under faults (tests/fault/replicas.py); and what tally_info shows of them.
#
# FAULTS: how many, with each (3).
. "${srcdir:-.}/tests/harness/shell.sh"
. "${srcdir:-.}/tests/harness/etcd.sh"
command -v python3 >/dev/null || check_skip "there is no python3"
use_replica_transport

replicas() {
    PYTHONDONTWRITEBYTECODE=1 timeout "${FAULT_TIMEOUT:-1200}" python3 \
        "$srcdir/tests/fault/replicas.py" "$scratch/$1" \
        --transport "$transport" --faults "${FAULTS:-3}" \
        >"$scratch/$1.log" 2>&1 && tail -n 1 "$scratch/$1.log" && return
    cat "$scratch/$1.log"
    tail -n 5 "$scratch/$1"/errors.*
    return 1
}

# Kills it in mid-job, and starts it again, for as long as the job runs: who
# starts meanwhile waits, or is stopped in the middle of its start.
disturb_etcd() {
    while kill -0 $job 2>/dev/null; do
        kill -KILL $etcd
        wait $etcd 2>/dev/null
        sleep 1
        etcd_start
        eventually etcd_serves
        sleep 3
    done
}

# Some processes are killed: their sockets are told of on stderr.
see_steps() {
    tools/tally_info --replicas --json >"$scratch/live" 2>/dev/null &&
        grep -q APPLY "$scratch/live"
}

export TALLY_JOB="quorum-jobs" TALLY_PLUGIN_PATH="$PWD/.libs"
if etcd_is_here; then
    etcd_prepare
    export TALLY_ETCD_LEASE=2
    export TALLY_RECORDER_FOLDER="$scratch/recorder"
    replicas over-etcd >"$scratch/result" &
    job=$!
    sleep 1 # they wait for it
    etcd_start
    check "tally_info sees steps" eventually see_steps
    disturb_etcd
    check "3 replica groups find each other by etcd, which comes and goes" \
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

# Their incarnations are counted by the trainer, from 1: no clock orders starts.
export TALLY_QUORUM=callback
check "3 replica groups find each other by the trainer's own store" \
    replicas callback
started_again() {
    od -v -An -t u8 -w8 "$scratch"/callback/starts.* |
        awk '$1 > 1 { again = 1 } END { exit !again }'
}
check "some were started again there" started_again
check_end
