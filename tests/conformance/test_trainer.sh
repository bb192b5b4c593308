#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The example trainer as a user sees it, in short: the demo keeps its promises,
# both orders and all transports give the same curve, and nothing hangs when a
# rank dies or was started wrongly. The text is the source of the trainer, so
# that the test is the same everywhere.
srcdir=${srcdir:-$(dirname "$0")/../..}
. "$srcdir/tests/harness/shell.sh"

for name in $(env | sed -n 's/^\(TALLY_[A-Z0-9_]*\)=.*/\1/p'); do
    unset "$name"
done
# A sanitizer takes so long for each step that the whole demo is too much:
# TRAINER_STEPS, at least 6, then leaves it out, and steps are smaller.
steps=${TRAINER_STEPS:-20}
small=
[ "$steps" -ge 20 ] || small="--documents 8 --evaluate-every 0"
trainer=examples/trainer/trainer
library=.libs/libtally.so
compare=examples/trainer/compare
texts=$(echo "$srcdir"/examples/trainer/*.[ch])
segments=0

# Runs the trainer on some ranks: all output in $scratch/out, status in $status.
# shellcheck disable=SC2086
train() { # RANKS OPTION...
    ranks=$1
    shift
    segments=$((segments + 1))
    timeout 240 tools/tally_run -n "$ranks" --timeout 200 --keep-going \
        "$trainer" --tally "$library" --steps $steps $small \
        --shared "tally-test.$$.$segments" "$@" $texts >"$scratch/out" 2>&1
    status=$?
}

said() {
    grep -qF -- "$1" "$scratch/out"
}

# shellcheck disable=SC2086
demo() {
    timeout 300 "$srcdir/examples/trainer/demo.sh" . --steps "$1" \
        --out "$scratch/demo" $texts >"$scratch/out" 2>&1
}

# The demo.
whole_demo() {
    check "the demo keeps its promises" demo $steps
    cat "$scratch/out"
    check "N_total is that of the reference in every step" \
        said "ok    N_total equal in $steps of $steps steps"
    check "the first loss sum is equal to the bit" \
        said "ok    loss sum of step 1 equal to the bit"
    check "steps without labels occur" \
        said "ok    1 steps without a label on some rank, 1 without any"
    check "the demo fails where no step without labels occurs" not demo 5
    if command -v gnuplot >/dev/null; then
        check "there is a plot" grep -q '</svg>' "$scratch/demo/demo.svg"
    fi
    demo $steps
}

# Orders, transports, launchers: the same curve.
late_order() {
    train 4 --order late --curve "$scratch/late.tsv"
    check "the late order trains" [ $status -eq 0 ]
    [ "$steps" -lt 20 ] || check "the late order keeps the same promises" \
        "$compare" 4 "$scratch/late.tsv" "$scratch/demo/reference.tsv" \
        "$scratch/demo/naive.tsv"
}

# Replica groups: one is killed, and comes back. It needs steps to come back in.
replica_demo() {
    ls .libs/libtally-*.so >/dev/null 2>&1 || return
    # shellcheck disable=SC2086
    check "replica groups go on without one that is killed, and with it again" \
        sh -c 'timeout 300 "$@" >"$0" 2>&1' "$scratch/out" \
        "$srcdir/examples/trainer/demo.sh" . --replicas 3 --steps 120 \
        --out "$scratch/demo" $texts
    cat "$scratch/out"
}

if [ "$steps" -ge 20 ]; then
    whole_demo
    replica_demo
else
    mkdir "$scratch/demo"
    train 4 --curve "$scratch/demo/balanced.tsv"
    check "it trains" [ $status -eq 0 ]
fi
late_order

same_curve() { # NAME: the run's curve, to the bit
    check "$1: it trains" [ $status -eq 0 ]
    check "$1: the curve is the same to the bit" \
        cmp "$scratch/curve.tsv" "$scratch/demo/balanced.tsv"
    cat "$scratch/out"
    rm -f "$scratch/curve.tsv"
}

export TALLY_HOST_THREADS=3
train 4 --curve "$scratch/curve.tsv"
same_curve "three threads a rank"
unset TALLY_HOST_THREADS

if [ -e .libs/libtally-ucx.so ]; then
    export TALLY_TRANSPORT=ucx TALLY_NODE_SHM=0 TALLY_UCX_NET_DEVICES=lo
    train 4 --curve "$scratch/curve.tsv"
    same_curve "every message over UCX"
    unset TALLY_TRANSPORT TALLY_NODE_SHM TALLY_UCX_NET_DEVICES
fi

if command -v mpirun >/dev/null; then
    # shellcheck disable=SC2086
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 timeout 240 \
        mpirun --oversubscribe -n 4 "$trainer" --tally "$library" \
        --steps $steps $small --shared "tally-test.$$.mpi" \
        --curve "$scratch/curve.tsv" $texts >"$scratch/out" 2>&1 </dev/null
    status=$?
    same_curve "under mpirun"
fi

# A rank that dies, in each order: before a reduction that the others wait for.
for order in first late; do
    train 3 --order $order --die-at 5:1
    check "order $order: the killed rank's end is the job's" \
        [ $status -eq 137 ]
    check "order $order: rank 0 says who died" said "trainer: rank 0: "
    check "order $order: rank 2 says who died" said "trainer: rank 2: "
    check "order $order: it was rank 1" said "rank 1 died"
    cat "$scratch/out"
done

# A rank that is late for less than the deadline changes nothing.
train 4 --pause-at 3:2:300 --curve "$scratch/curve.tsv"
same_curve "a late rank"

# Started wrongly.
# shellcheck disable=SC2016
timeout 240 tools/tally_run -n 2 --timeout 200 --keep-going sh -c \
    'exec "$@" --seed $TALLY_RANK' sh "$trainer" --tally "$library" \
    --shared "tally-test.$$.seed" >"$scratch/out" 2>&1
check "ranks with different options do not train" [ $? -ne 0 ]
check "it is said that options differ" said "was started with other options"
train 2 --mode reference
check "the reference is one process" \
    said "--mode reference is one process, but 2 were started"
"$trainer" --tally ./libtally.so.99 >"$scratch/out" 2>&1
check_equal "a missing library ends the trainer" 1 $?
check "a missing library is named" \
    said "trainer: cannot load Tally: ./libtally.so.99: cannot open"
"$trainer" --tally libc.so.6 >"$scratch/out" 2>&1
check "another library is refused" said "trainer: libc.so.6 is not Tally"
"$trainer" --tally "$library" /nonexistent/text >"$scratch/out" 2>&1
check "a missing text is named" \
    said "trainer: cannot open /nonexistent/text: No such file"
check_equal "no segment is left behind" "" \
    "$(find /dev/shm -name "tally-*.$$*" 2>/dev/null)"
check "the trainer does not link Tally" \
    not sh -c "readelf -d $trainer | grep 'NEEDED.*tally'"
check_end
