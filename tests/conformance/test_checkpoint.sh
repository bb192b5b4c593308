#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# All replica groups are killed at once, and start again from a checkpoint: the
# model at the end is, to the bit, that of a run that nobody disturbed.
. "${srcdir:-.}/tests/harness/shell.sh"
. "${srcdir:-.}/tests/harness/etcd.sh"

for name in $(env | sed -n 's/^\(TALLY_[A-Z0-9_]*\)=.*/\1/p'); do
    unset "$name"
done
ls .libs/libtally-ucx.so .libs/libtally-ofi.so >/dev/null 2>&1 ||
    check_skip "there is no transport between replicas"

trainer=examples/trainer/trainer
text=$srcdir/examples/trainer/train.c
header_bytes=64 # of a checkpoint: it names the state, which differs
steps=8
job=0

# A busy machine is no death: a replica that is left out of a step changes the
# model, and rightly.
export TALLY_HEARTBEAT_MISSES=100 TALLY_REPLICA_PATIENCE=30 \
    TALLY_REPLICA_DEADLINE=60 TALLY_TIMEOUT=120 TALLY_LOG=warn \
    TALLY_UCX_TLS=tcp,self TALLY_RANK=0 TALLY_WORLD_SIZE=1 TALLY_LOCAL_SIZE=3
export TALLY_PLUGIN_PATH="$PWD/.libs"

# A new job of three replica groups: $scratch/said.REPLICA; true if all end well.
# By another name than all before, or by $job_name.
# shellcheck disable=SC2086
replicas() { # OPTION...
    job=$((job + 1))
    processes=
    for replica in 0 1 2; do
        TALLY_JOB="${job_name:-checkpoint.$$.$job}" TALLY_REPLICA_FOLDER="$scratch/job.$job" \
            timeout -s KILL 280 "$trainer" --tally .libs/libtally.so \
            --mode replicas --order late --replica $replica --replicas 3 \
            --steps $steps --documents 6 --evaluate-every 0 \
            --shared "tally-test.$$.$job" "$@" "$text" \
            >"$scratch/said.$replica" 2>&1 &
        processes="$processes $!"
    done
    fine=yes
    for process in $processes; do
        wait "$process" || fine=no
    done
    rm -f "/dev/shm/tally-test.$$.$job"
    cat "$scratch"/said.*
    [ $fine = yes ]
}

same_model() {
    cmp --ignore-initial=$header_bytes "$1" "$2"
}

# Ends by SIGKILL, all in the same step, between its count and its gradient.
killed_and_continued() { # NAME
    file=$scratch/$1.checkpoint
    check "$1: all groups are killed" \
        not replicas --checkpoint "$file" --checkpoint-every 2 --die-at 6:0
    check "$1: a checkpoint is there" [ -s "$file" ]
    check "$1: they start again, and end" \
        replicas --checkpoint "$file" --checkpoint-every 2
    for replica in 0 1 2; do
        check "$1: replica $replica began with the model of step 4" grep -qx \
            "replica $replica begins with the model of step 4" \
            "$scratch/said.$replica"
    done
    check "$1: the model is that of an undisturbed run" \
        same_model "$file" "$scratch/whole"
}

check "an undisturbed run ends" \
    replicas --checkpoint "$scratch/whole" --checkpoint-every $steps
killed_and_continued folder

# Wrong files.
single() { # OPTION...
    TALLY_REPLICA_FOLDER="$scratch/single" timeout 60 "$trainer" \
        --tally .libs/libtally.so --steps 1 --documents 6 \
        --shared "tally-test.$$.single" "$@" "$text" >"$scratch/out" 2>&1
}
refused() { # WHY FILE OPTION...
    why=$1
    file=$2
    shift 2
    check "a file that $why is refused" not single --mode replicas \
        --order late --replicas 3 --checkpoint "$file" "$@"
    check "and that is said" \
        grep -qxF "trainer: $file $why" "$scratch/out"
}
head -c 100000 "$scratch/whole" >"$scratch/short"
cp "$scratch/whole" "$scratch/changed"
printf 'changed' |
    dd of="$scratch/changed" bs=1 seek=70000 conv=notrunc 2>/dev/null
refused "is broken" "$scratch/short"
refused "is broken" "$scratch/changed"
refused "is no checkpoint" "$text"
refused "is of a run with other options" "$scratch/whole" --seed 2
check "only replica groups have checkpoints" not single --checkpoint x
check "and that is said" \
    grep -qxF "trainer: --checkpoint needs --mode replicas" "$scratch/out"
rm -f /dev/shm/tally-test.$$.single

# With a register of lineages: no checkpoint is used that is not published.
if etcd_is_here; then
    etcd_prepare
    etcd_start
    killed_and_continued etcd

    # The same job: the register knows of it, and of what it has published.
    job_name="checkpoint.$$.again"
    killed_and_continued again
    check "again: they begin where it was published" grep -q \
        "begin lineage 2 with the checkpoint of index 4" "$scratch/said.0"
    # And once more, where who published it died before it was in its place.
    job_name="checkpoint.$$.between"
    check "between: all groups are killed" not replicas --checkpoint \
        "$scratch/between" --checkpoint-every 2 --die-at 6:0
    mv "$scratch/between" "$scratch/between.1.new"
    check "between: they start again, and end" replicas \
        --checkpoint "$scratch/between" --checkpoint-every 2
    check "between: the model is that of an undisturbed run" \
        same_model "$scratch/between" "$scratch/whole"
    unset job_name

    # Every replica is in step 4 when etcd stands still.
    replicas --checkpoint "$scratch/unpublished" --checkpoint-every $steps \
        --members "$scratch/members" --pause-at 4:0:3000 &
    running=$!
    check "three steps are done" eventually grep -qs "^3 " "$scratch/members"
    kill -STOP $etcd
    check "a job goes on without its register" wait $running
    check "it says that a checkpoint is not published" \
        grep -q "^trainer: rank 0: " "$scratch/said.0"
    check "and keeps no such checkpoint" [ ! -e "$scratch/unpublished" ]
    kill -KILL $etcd
    wait $etcd 2>/dev/null
else
    echo "without etcd: etcd-server or libtally-etcd.so is not here"
fi
check_end
