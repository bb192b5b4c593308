#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A rank in mid-step that is killed, is stopped, is heard no more, or loses its
# link, over each transport: the others say so, close in order, and go on without
# it in a new group.
. "${srcdir:-.}/tests/cluster/net.sh"

# Sanitizers take longer; what is asserted is what is said, not when.
timeout=${TIMEOUT:-8}
steps=100

backends=
[ ! -e .libs/libtally-ucx.so ] || backends="$backends ucx"
[ ! -e .libs/libtally-ofi.so ] || backends="$backends ofi"
[ -n "$backends" ] || check_skip "there is no backend"

# lose JOB BACKEND SETTINGS ACT: rank 3 does it at step 50, on nodes of its own.
lose() {
    job=$1
    lans=$((${lans:-0} + 1))
    lan "$job" 4 "10.$lans.0."
    root_address=10.$lans.0.1
    ranks_start "$job" "${job}1 ${job}2 ${job}3 ${job}4" \
        "TALLY_TRANSPORT=$2 TALLY_BOOTSTRAP_TIMEOUT=60 $3" \
        tests/fault/steps $steps "$4" 3 50 again
}

# told JOB PATTERN [STOPPED]: what ranks 0 to 2 say of rank 3.
told() {
    ranks_end "$1" $3
    for rank in 0 1 2; do
        check "$1: rank $rank names rank 3" said "$1" $rank "failed .*: .*$2"
        check "$1: rank $rank goes on with the healthy ones" \
            said "$1" $rank "^again: 3 ranks did $steps steps"
        check "$1: rank $rank closes in order" said "$1" $rank "^closed"
    done
}

# Packets of rank 3 to all others go to nobody; theirs arrive.
deaf='for i in 1 2 3; do
    ip neighbour replace "$(echo "$TALLY_ROOT" | sed "s/1:.*/$i/")" \
        lladdr 02:00:00:00:00:99 dev eth0 nud permanent
done'

# All at once: they wait more than they work.
for backend in $backends; do
    lose "${backend}_killed" $backend TALLY_TIMEOUT=60 die
    lose "${backend}_stopped" $backend TALLY_TIMEOUT="$timeout" stop
    lose "${backend}_mute" $backend TALLY_TIMEOUT="$timeout" "$deaf"
    # The rendezvous' own connection is given up long before this deadline.
    lose "${backend}_unplugged" $backend TALLY_TIMEOUT=120 \
        "ip link set dev eth0 down"
done
for backend in $backends; do
    told "${backend}_killed" "rank 3 died in mid-step"
    check_equal "${backend}_killed: nobody else fails" 3:137 "$failed"
    told "${backend}_stopped" \
        "timed out after $timeout s waiting for rank 3" 3
    check "${backend}_stopped: when it wakes up, its group is dead" \
        said "${backend}_stopped" 3 "^step 5[01] failed"
    check_equal "${backend}_stopped: all close" "" "$failed"
    told "${backend}_mute" "timed out after $timeout s waiting for rank 3"
    check_equal "${backend}_mute: all close" "" "$failed"
done
for backend in $backends; do
    told "${backend}_unplugged" "rank 3 died in mid-step"
    check "${backend}_unplugged: rank 3 is told, too" \
        said "${backend}_unplugged" 3 "failed .*: .*rank [012] died"
    check_equal "${backend}_unplugged: all close" "" "$failed"
done
check_end
