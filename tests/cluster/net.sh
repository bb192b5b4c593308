# SPDX-License-Identifier: BSD-3-Clause
# Clusters on one machine: a node is a network namespace with a /dev/shm and
# System V IPC of its own, and ranks are processes in it. All nodes have the host
# name and the boot id of this machine. Sourced by the tests of this folder in
# place of tests/harness/shell.sh, whose checks it brings along.
#
#   network NAME                a switch
#   node NAME [--shm|--pid]...  a node; --shm: with the test's own /dev/shm;
#                               --pid: with a PID namespace of its own
#   plug NODE DEVICE NETWORK [ADDRESS/BITS]...
#                               the node's interface on a network
#   lan NAME COUNT [V4.] [V6:]  a network NAME of nodes NAME1 to NAMECOUNT, by
#                               their eth0 at V4.1/24 and V6:1/64, and so on
#   on NODE COMMAND...          runs a command in a node
#   setting NODE NAME=VALUE     for ranks in the node
#   ranks_start JOB "NODE..." "NAME=VALUE..." PROGRAM...
#                               one rank for each NODE named, rank 0 in the
#                               first; rank R of it writes to $scratch/JOB.R
#   ranks_end JOB [RANK]        waits for all, then wakes and awaits RANK, that
#                               had been stopped; who failed is in $failed, as
#                               "RANK:STATUS..."
#   said JOB RANK PATTERN       whether the rank wrote a line like it
#   root_address                where rank 0 is, for ranks_start
#
# A test runs in namespaces of its own, processes included: its names are nobody
# else's, no packet leaves it, and all of it is gone with the test, however that
# ends. Where the kernel refuses, the test is skipped; with
# CLUSTER_TESTS=required it fails.

cluster_refuse() {
    if [ "${CLUSTER_TESTS:-}" = required ]; then
        echo "no cluster, though CLUSTER_TESTS=required: $1"
        exit 1
    fi
    echo "skipped: $1"
    exit 77
}

# Runs the test once more, as the first process of its namespaces.
cluster_enter() {
    for program in ip mount nsenter setpriv unshare; do
        command -v $program >/dev/null || cluster_refuse "there is no $program"
    done
    user=
    [ "$(id -u)" -eq 0 ] || user=--map-root-user
    inside="unshare $user --net --mount --ipc --pid --fork --kill-child
        --mount-proc"
    folder=$(mktemp -d) || exit 1
    trap 'rm -rf "$folder"' EXIT
    $inside sh -c \
        'mount -t tmpfs tmpfs /dev/shm && mount -t sysfs sysfs /sys &&
         ip link add name left type veth peer name right &&
         ip link add name switch type bridge' >"$folder/why" 2>&1 ||
        cluster_refuse "namespaces are refused: $(tail -n 1 "$folder/why")"
    TMPDIR=$folder CLUSTER_INSIDE=yes setpriv --pdeathsig KILL $inside "$0" &
    trap 'kill -KILL $!; exit 1' HUP INT TERM
    wait $!
    exit $?
}

[ "${CLUSTER_INSIDE:-}" = yes ] || cluster_enter
unset CLUSTER_INSIDE
. "${srcdir:-.}/tests/harness/shell.sh"

for name in $(env | sed -n 's/^\(\(TALLY\|UCX\|FI\)_[A-Z0-9_]*\)=.*/\1/p'); do
    unset "$name"
done
mount -t tmpfs tmpfs /dev/shm
mount -t sysfs sysfs /sys
ip link set lo up

# After so long ranks are taken for hung.
rank_seconds_max=${RANK_SECONDS:-150}
root_address=10.0.0.1
jobs_started=0

network() {
    ip link add name "$1" type bridge
    ip link set dev "$1" up
}

node() {
    node=$1
    shift
    spaces="--net --mount --ipc"
    prepare='mount -t sysfs sysfs /sys && ip link set lo up'
    shm='&& mount -t tmpfs tmpfs /dev/shm'
    enter=
    for option; do
        case $option in
        --shm) shm= ;;
        --pid)
            spaces="$spaces --pid --fork --mount-proc"
            enter=yes
            ;;
        esac
    done
    mkfifo "$scratch/$node.up"
    unshare $spaces sh -c \
        "$prepare $shm; echo \$? >'$scratch/$node.up'; exec sleep infinity" &
    enter="--wd=$PWD --target $! --net --mount --ipc
        ${enter:+--pid=/proc/$!/ns/pid_for_children}"
    eval "process_of_$node=$! enter_$node=\$enter settings_of_$node="
    [ "$(timeout 30 cat "$scratch/$node.up")" = 0 ] || {
        echo "the node $node did not come up"
        exit 1
    }
}

plug() {
    node=$1 device=$2 network=$3
    shift 3
    eval "process=\$process_of_$node"
    ports=$((${ports:-0} + 1))
    ip link add name "port$ports" type veth \
        peer name "$device" netns "$process"
    ip link set dev "port$ports" master "$network" up
    for address; do
        case $address in
        *:*) on "$node" ip address add "$address" dev "$device" nodad ;;
        *) on "$node" ip address add "$address" dev "$device" ;;
        esac
    done
    on "$node" ip link set dev "$device" up
}

lan() {
    lan=$1 count=$2 four=${3:-10.0.0.} six=${4:-}
    network "$lan"
    i=1
    while [ $i -le "$count" ]; do
        node "$lan$i"
        # shellcheck disable=SC2046
        plug "$lan$i" eth0 "$lan" \
            $([ "$four" = - ] || echo "$four$i/24") ${six:+"$six$i/64"}
        i=$((i + 1))
    done
}

on() {
    eval "enter=\$enter_$1"
    shift
    nsenter $enter "$@"
}

setting() {
    eval "settings_of_$1=\"\$settings_of_$1 \$2\""
}

ranks_start() {
    job=$1 nodes=$2 settings=$3
    shift 3
    rank=0 processes=
    # shellcheck disable=SC2086
    size=$(set -- $nodes && echo $#)
    jobs_started=$((jobs_started + 1))
    root=$root_address:$((29000 + jobs_started))
    for node in $nodes; do
        eval "enter=\$enter_$node own=\$settings_of_$node"
        # shellcheck disable=SC2086,SC2154
        env TALLY_RANK=$rank TALLY_WORLD_SIZE="$size" TALLY_ROOT="$root" \
            $settings $own nsenter $enter "$@" >"$scratch/$job.$rank" 2>&1 &
        processes="$processes $!"
        rank=$((rank + 1))
    done
    # shellcheck disable=SC2086
    (sleep "$rank_seconds_max" && kill -KILL $processes) 2>/dev/null &
    eval "processes_of_$job=\$processes watchdog_of_$job=$!"
}

ranks_end() {
    job=$1 stopped=${2:-none}
    failed= rank=0
    eval "processes=\$processes_of_$job"
    for process in $processes; do
        if [ $rank = "$stopped" ]; then
            sleeper=$process
        else
            rank_await
        fi
        rank=$((rank + 1))
    done
    if [ "$stopped" != none ]; then
        kill -CONT "$sleeper"
        rank=$stopped process=$sleeper
        rank_await
    fi
    eval "kill \$watchdog_of_$job" 2>/dev/null
    failed=${failed# }
    for output in "$scratch/$job".*; do
        sed "s/^/[${output##*/}] /" "$output"
    done
}

rank_await() {
    wait "$process"
    status=$?
    [ $status -eq 0 ] || failed="$failed $rank:$status"
}

said() {
    grep -qE -- "$3" "$scratch/$1.$2"
}
