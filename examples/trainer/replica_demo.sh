#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The demo of replica groups: several train together; one is killed in
# mid-training, between a count and its gradient, and started again. Then one
# process trains on just the tokens that were counted, and the curves are
# compared. `./dev demo --replicas 3` calls it after the build.
set -eu

usage()
{
    cat <<'END'
usage: demo.sh BUILD --replicas P [-n RANKS] [--steps N] [--out DIR] [OPTION]...
  BUILD        the folder that Tally was built in
  --replicas P replica groups, at least 3
  -n RANKS     processes of each; 1
  --steps N    optimizer steps, at least 20; 120
  --out DIR    where curves and the table go; out
What follows goes to the trainer.
END
}

build=$1
shift
replicas=3
ranks=1
steps=120
out=out
while [ $# -gt 0 ]; do
    case "$1" in
    --replicas | -n | --steps | --out)
        if [ $# -lt 2 ]; then
            usage >&2
            exit 2
        fi
        case "$1" in
        --replicas) replicas=$2 ;;
        -n) ranks=$2 ;;
        --steps) steps=$2 ;;
        --out) out=$2 ;;
        esac
        shift 2
        ;;
    *)
        break
        ;;
    esac
done
if [ "$replicas" -lt 3 ] || [ "$steps" -lt 20 ]; then
    usage >&2
    exit 2
fi

tally_run=$build/tools/tally_run
trainer=$build/examples/trainer/trainer
library=$build/.libs/libtally.so
case "$library" in
*/*) ;;
*) library=./$library ;;
esac
mkdir -p "$out"
folder=$(mktemp -d)
shared=tally-demo.$$
victim=1
killed_at=$((steps / 3))

processes=
stop()
{
    for process in $processes; do
        kill "$process" 2>/dev/null || true
    done
    rm -rf "$folder" "/dev/shm/$shared"
}
trap stop EXIT
trap 'exit 130' INT TERM HUP

# start REPLICA OPTION...: sets $started to its process.
start()
{
    number=$1
    shift
    # A busy machine is no death: that of a process of this host is seen at once.
    TALLY_REPLICA_FOLDER=$folder/members TALLY_UCX_TLS=${TALLY_UCX_TLS:-tcp,self} \
        TALLY_HEARTBEAT_MISSES=50 TALLY_REPLICA_PATIENCE=10 \
        TALLY_REPLICA_DEADLINE=30 TALLY_LOG=${TALLY_LOG:-error} \
        "$tally_run" --grace 1 -n "$ranks" "$trainer" --tally "$library" \
        --mode replicas --order late \
        --replica "$number" --replicas "$replicas" --steps "$steps" \
        --shared "$shared" "$@" >>"$folder/said.$number" 2>&1 &
    started=$!
    processes="$processes $started"
}

# The step that replica 0 has come to.
step_of()
{
    awk '!/^#/ && NF == 8 { step = $1 } END { print step + 0 }' \
        "$out/replicas.tsv" 2>/dev/null || echo 0
}

now()
{
    date +%s.%N
}

echo "$replicas replica groups of $ranks, $steps steps; replica $victim is" \
    "killed in step $killed_at, between its count and its gradient"
rm -f "$out/replicas.tsv" "$out/members.txt"
survivors=
number=0
while [ "$number" -lt "$replicas" ]; do
    case "$number" in
    0)
        start 0 --curve "$out/replicas.tsv" --members "$out/members.txt" "$@"
        survivors="$survivors $started"
        ;;
    "$victim")
        start "$number" --die-at "$killed_at:0" "$@"
        victim_process=$started
        ;;
    *)
        start "$number" "$@"
        survivors="$survivors $started"
        ;;
    esac
    number=$((number + 1))
done

wait "$victim_process" || true
died=$(now)
# Its gradient is missing: the others sum again without it, and go on.
waited=0
while [ "$(step_of)" -le "$killed_at" ] && [ "$waited" -lt 3000 ]; do
    sleep 0.02
    waited=$((waited + 1))
done
echo "replica $victim is dead; the others are in step $(step_of)" \
    "$(awk -v a="$died" -v b="$(now)" 'BEGIN { printf "%.2f", b - a }') s later"
start "$victim" "$@"
survivors="$survivors $started"

status=0
for process in $survivors; do
    wait "$process" || status=$?
done
if [ "$status" -ne 0 ]; then
    cat "$folder"/said.* >&2
    echo "demo: a replica failed (exit status $status)" >&2
    exit 1
fi
grep -h 'holds the model' "$folder/said.$victim" || true

"$tally_run" -n 1 "$trainer" --tally "$library" --mode reference --order late \
    --ranks $((replicas * ranks)) --replicas "$replicas" --steps "$steps" \
    --members "$out/members.txt" --curve "$out/replicas-reference.tsv" "$@"

# Totals must be equal, losses nearly: only the order of float sums differs.
awk -v all="$(printf '%x' $(((1 << replicas) - 1)))" '
    FILENAME == ARGV[1] { members[$1] = $2; next }
    /^#/ || NF != 8 { next }
    FILENAME == ARGV[2] { total[$1] = $2; mean[$1] = $5; next }
    {
        steps++
        differ += total[$1] != $2
        difference = mean[$1] - $5
        if (difference < 0) difference = -difference
        if ($5 > 0 && difference / $5 > most) most = difference / $5
        if (members[$1] != all) {
            without++
            if (first == "") first = $1
            last = $1
        } else if (last != "" && joined == "") joined = $1
    }
    END {
        printf "%d steps; %d without a replica (steps %d to %d), all again " \
               "from step %d\n", steps, without, first, last, joined
        printf "N_total as in one process with the same tokens: %s\n",
               differ == 0 ? "in every step" : "NOT in " differ " steps"
        printf "largest difference of the loss: %.1e\n", most
        exit !(steps > 0 && differ == 0 && most < 1e-5 && without > 0 &&
               joined > last)
    }' "$out/members.txt" "$out/replicas.tsv" "$out/replicas-reference.tsv"
