#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Nodes joined by a network, over each transport, and how ranks agree on one when
# not all of them can use it. Every rank compares every result to the bit.
. "${srcdir:-.}/tests/cluster/net.sh"

epochs=${EPOCHS:-20}
channels=4
short="TALLY_BOOTSTRAP_TIMEOUT=60 TALLY_LOG=info"

# expect JOB TRANSPORT: all ranks have ended well, over that transport.
expect() {
    ranks_end "$1"
    check_equal "$1: all ranks have the right bits" "" "$failed"
    check_equal "$1: all ranks are over $2" "" \
        "$(grep -LE "group \"\": .* transport $2\$" "$scratch/$1".*)"
}

# passed_over JOB SENTENCE: one rank says it, once; how often in all else.
passed_over() {
    check_equal "$1: it is said once: $2" 1 \
        "$(cat "$scratch/$1".* | grep -cE -- "warn: $2")"
    check_equal "$1: no other warning" 1 \
        "$(cat "$scratch/$1".* | grep -c 'warn: ')"
}

# totals JOB NODES SETTINGS TRANSPORT
totals() {
    ranks_start "$1" "$2" "$short $3" tests/conformance/totals "$epochs" \
        $channels
    expect "$1" "$4"
}

lan a 4
lan b 3 10.1.0.
eight="a1 a1 a2 a2 a3 a3 a4 a4"
[ -e .libs/libtally-ucx.so ] || check_skip "there is no libtally-ucx.so"
[ -e .libs/libtally-ofi.so ] || check_skip "there is no libtally-ofi.so"

# A device that leads nowhere, named at one node only: it opens, and is not
# taken. Some learn of it by waiting, so it ends below.
setting b2 TALLY_UCX_NET_DEVICES=lo
root_address=10.1.0.1
ranks_start no_device "b1 b2 b3" "TALLY_BOOTSTRAP_TIMEOUT=40 TALLY_LOG=info" \
    tests/conformance/totals "$epochs" $channels
root_address=10.0.0.1

totals ucx "$eight" "TALLY_TRANSPORT=ucx TALLY_UCX_TLS=tcp" ucx
check "nodes of the same host name and boot id are told apart" \
    said ucx 0 "8 ranks on 4 nodes"
totals ofi "$eight" "TALLY_TRANSPORT=ofi" ofi
totals rxm "$eight" "TALLY_TRANSPORT=ofi TALLY_OFI_PROVIDER=tcp;ofi_rxm" ofi
totals net "a1 a2 a3 a4" "TALLY_TRANSPORT=ofi TALLY_OFI_PROVIDER=net" ofi
# Of three leaders one sends its last message when the others are done.
totals odd_ucx "a1 a2 a3" "TALLY_TRANSPORT=ucx TALLY_RADIX=2" ucx
totals odd_ofi "a1 a2 a3" "TALLY_TRANSPORT=ofi TALLY_RADIX=2" ofi
totals auto "$eight" "TALLY_TRANSPORT=auto" ucx
totals scattered "a1 a2 a3 a4 a1 a2 a3 a4" "TALLY_TRANSPORT=ucx,ofi" ucx

# A node on which the backend is not installed moves everybody on.
mkdir "$scratch/without"
cp -a .libs/libtally.so* .libs/libtally-ucx.so* "$scratch/without"
on a3 mount --bind "$scratch/without" "$PWD/.libs"
totals no_backend "$eight" "TALLY_TRANSPORT=ofi,ucx" ucx
passed_over no_backend \
    "rank 4 cannot use ofi: libtally-ofi.so was not found in .*/.libs"
on a3 umount "$PWD/.libs"

# A node without the library below it.
hide() { # NODE SONAME
    library=$(ldconfig -p | sed -n "s/.*$2 .* => //p" | head -n 1)
    on "$1" mount --bind /dev/null "$(readlink -f "$library")"
}
hide a2 libfabric.so.1
totals no_libfabric "$eight" "TALLY_TRANSPORT=ofi,auto" ucx
passed_over no_libfabric "rank 2 cannot use ofi: .*libfabric"
hide a4 libucp.so.0
ranks_start nothing "$eight" "$short TALLY_TRANSPORT=auto" \
    tests/conformance/totals 1 1
ranks_end nothing
check_equal "a job without a common transport ends at all ranks" \
    "0:1 1:1 2:1 3:1 4:1 5:1 6:1 7:1" "$failed"
for rank in 0 7; do
    check "rank $rank says who lacks what" said nothing $rank \
        "no transport joins .*: rank 6 cannot use ucx: .*; rank 2 cannot use ofi"
done

expect no_device ofi
check "it is said who could not be reached" grep -qE \
    "warn: rank [01] cannot use ucx: .*rank [01]" "$scratch/no_device.0"

# IPv6 only: link-local addresses are not ready yet, and no matter.
lan c 2 - fd00::
root_address="[fd00::1]"
totals six_ucx "c1 c1 c2 c2" "TALLY_TRANSPORT=ucx" ucx
totals six_ofi "c1 c1 c2 c2" "TALLY_TRANSPORT=ofi" ofi
totals six_auto "c1 c2" "" ucx
check_end
