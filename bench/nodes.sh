#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Runs a command as N ranks, each in a network namespace of its own, joined by a
# bridge: nodes on one machine. Rank I has the address 10.9.0.(I + 1) on eth0.
#     bench/nodes.sh N COMMAND...
# Exits with the status of a rank that failed, or 77 if namespaces are refused.
# All of it is in namespaces that end with this script: nothing is left behind.
set -eu

if [ -z "${NODES_INSIDE:-}" ]; then
    map=
    [ "$(id -u)" -eq 0 ] || map=--map-root-user
    # shellcheck disable=SC2086 # one word or none
    unshare $map --net --mount true 2>/dev/null || exit 77
    # shellcheck disable=SC2086
    NODES_INSIDE=1 exec unshare $map --net --mount "$0" "$@"
fi

set_up() { # RANKS
    mount -t tmpfs tmpfs /run # where ip keeps the names of namespaces
    ip link set lo up
    ip link add nodes type bridge
    ip link set nodes up
    for i in $(seq 0 $(($1 - 1))); do
        ip netns add "node$i"
        ip link add "to$i" type veth peer name eth0 netns "node$i"
        ip link set "to$i" master nodes up
        ip -n "node$i" link set lo up
        ip -n "node$i" addr add "10.9.0.$((i + 1))/24" dev eth0
        ip -n "node$i" link set eth0 up
    done
}

ranks=$1
shift
set_up "$ranks" || exit 77

# Namespaces share /dev/shm: by name they are different nodes all the same.
pids=
for i in $(seq 0 $((ranks - 1))); do
    ip netns exec "node$i" env TALLY_RANK="$i" TALLY_WORLD_SIZE="$ranks" \
        TALLY_LOCAL_SIZE="$ranks" TALLY_NODE="node$i" \
        TALLY_ROOT=10.9.0.1:29400 "$@" &
    pids="$pids $!"
done
status=0
for pid in $pids; do
    wait "$pid" || status=$?
done
exit $status
