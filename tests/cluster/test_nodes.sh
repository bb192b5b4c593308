#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# What a node is: ranks that read the same memory, whatever they have in common
# or not. All nodes here have one host name, one boot id, and one kernel.
. "${srcdir:-.}/tests/cluster/net.sh"

# nodes_seen JOB "NODE..." SENTENCE: ranks there, the group they find.
nodes_seen() {
    ranks_start "$1" "$2" "TALLY_BOOTSTRAP_TIMEOUT=20 TALLY_LOG=info" \
        tests/conformance/totals "${EPOCHS:-20}" 4
    ranks_end "$1"
    check_equal "$1: all ranks have the right bits" "" "$failed"
    check_equal "$1: all ranks see $3" "" \
        "$(grep -LF "group \"\": $3" "$scratch/$1".*)"
}

network lan
ranks_on() { # NAME NUMBER OPTION...
    name=$1 number=$2
    shift 2
    node "$name" "$@"
    plug "$name" eth0 lan "10.0.0.$number/24"
}
ranks_on a 1
ranks_on b 2
ranks_on c 3 --shm
ranks_on d 4 --shm
ranks_on e 5 --shm --pid
ranks_on f 6 --shm --pid
ranks_on g 7 --pid

if [ -e .libs/libtally-ucx.so ] || [ -e .libs/libtally-ofi.so ]; then
    nodes_seen memory "a a b b" "4 ranks on 2 nodes"
    root_address=10.0.0.3
    nodes_seen both "c a d b e f g" "7 ranks on 4 nodes"
    # The same process ids in all of them.
    root_address=10.0.0.7
    nodes_seen pids "g e g e" "4 ranks on 2 nodes"
fi
root_address=10.0.0.3
nodes_seen networks "c d c d" "4 ranks on 1 nodes, transport shm"
root_address=10.0.0.5
nodes_seen processes "e f c e f" "5 ranks on 1 nodes, transport shm"

# No pidfd tells of a death in another PID namespace; the rendezvous does.
ranks_start death "e f c" "TALLY_TIMEOUT=60" tests/fault/steps 200 die 1 100
ranks_end death
for rank in 0 2; do
    check "a death in another PID namespace is told at rank $rank" \
        said death $rank "failed within [0-9] s: .*rank 1 died in mid-step"
done
check_equal "no segment is left behind" "" "$(segments_newer_than \
    "$scratch/death.0")"
check_end
