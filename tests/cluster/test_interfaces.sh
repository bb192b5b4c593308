#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Nodes with several interfaces, of which one leads to the others, and nodes of
# different address families: it works by itself, by the interface over which the
# ranks found each other, and by the settings that name a device.
. "${srcdir:-.}/tests/cluster/net.sh"

# totals JOB "NODE..." SETTINGS: begins it. They wait more than they work.
totals() {
    ranks_start "$1" "$2" "TALLY_BOOTSTRAP_TIMEOUT=40 TALLY_LOG=info $3" \
        tests/conformance/totals "${EPOCHS:-20}" 4
    begun="$begun $1"
}

totals_end() {
    for job in $begun; do
        ranks_end "$job"
        check_equal "$job: all ranks have the right bits" "" "$failed"
    done
    begun=
}

# list_first NODE NAME: the kernel lists devices by a hash of the name and of the
# namespace, so NAME0 is given numbers until it stands before the node's other one.
list_first() {
    number=0
    until [ "$(on "$1" ls -U /sys/class/net | grep -v '^lo$' | head -n 1)" = \
        "$2$number" ]; do
        [ $number -lt 1000 ] || {
            echo "no name of $1's own device is listed first"
            exit 1
        }
        on "$1" ip link set dev "$2$number" down
        on "$1" ip link set dev "$2$number" name "$2$((number + 1))" up
        number=$((number + 1))
    done
}

begun=
backends=
[ ! -e .libs/libtally-ucx.so ] || backends="$backends ucx"
[ ! -e .libs/libtally-ofi.so ] || backends="$backends ofi"
[ -n "$backends" ] || check_skip "there is no backend"

# A network of its own for each node, and the one that joins them: interfaces in
# either order. On some hosts the first is one that all hosts have alike, as
# Docker's, or one whose packets go nowhere. UCX takes what looks fastest, and
# among equals what the kernel happens to list first: on the last two nodes that is
# their own, so that it is led astray in every run.
network lan
for i in 1 2 3 4 5 6 7 8; do
    network "own$i"
    node "n$i"
    case $i in
    1 | 2) plug "n$i" eth0 "own$i" "10.1.$i.1/24" ;;
    3 | 4) plug "n$i" docker0 "own$i" 172.17.0.1/16 ;;
    5 | 6) plug "n$i" eth0 "own$i" "10.1.$i.1/16" ;;
    esac
    plug "n$i" "net$i" lan "10.0.0.$i/24"
    case $i in
    7 | 8)
        plug "n$i" tail0 "own$i" "10.1.$i.1/24"
        list_first "n$i" tail
        ;;
    esac
done
node both
plug both eth0 lan 10.0.0.20/24 fd00::20/64
node six
plug six eth0 lan fd00::21/64

for backend in $backends; do
    for i in 1 3 5 7; do
        root_address=10.0.0.$i
        totals "${backend}_$i" "n$i n$((i + 1))" "TALLY_TRANSPORT=$backend"
    done
    root_address=10.0.0.1
    totals "${backend}_mixed" "n1 n3 n5 n7 n2" "TALLY_TRANSPORT=$backend"
    # One node with both address families, one with IPv6 alone.
    root_address="[fd00::20]"
    totals "${backend}_families" "both six" "TALLY_TRANSPORT=$backend"
    totals_end
done

# The settings, each node with the name of its own device.
for i in 5 6; do
    setting "n$i" "TALLY_UCX_NET_DEVICES=net$i TALLY_OFI_DOMAIN=net$i"
done
root_address=10.0.0.5
for backend in $backends; do
    totals "${backend}_set" "n5 n6" "TALLY_TRANSPORT=$backend"
done
totals_end
for backend in $backends; do
    check_equal "$backend: with a device named nothing is passed over" "" \
        "$(grep -h 'warn: ' "$scratch/${backend}_set".*)"
done

# tally_doctor goes the same two ways, and names the one that helps.
for backend in $backends; do
    root_address=10.0.0.7
    ranks_start "${backend}_doctor" "n7 n8" \
        "TALLY_TRANSPORT=$backend TALLY_BOOTSTRAP_TIMEOUT=20" \
        tools/tally_doctor
    ranks_end "${backend}_doctor"
    check_equal "$backend: the doctor finds a way" "" "$failed"
    check "$backend: the doctor sees all pairs" said "${backend}_doctor" 0 \
        'way.reach .* all that were tried reach each other: 1 pair'
    check "$backend: the doctor names the interface that joins the nodes" \
        said "${backend}_doctor" 0 \
        'way.interface .* at rank 0 net7 \(10.0.0.7\)'
done
check_end
