#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Nodes with different versions of UCX: they understand each other, to the bit.
# The other version is that of a wheel, fetched once into a cache.
wheel=libucx-cu13==1.22.0
cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/tally/$wheel

# Before the test enters its namespaces, from which nothing can be fetched.
fetch() {
    [ ! -e "$cache" ] || return 0
    mkdir -p "${cache%/*}" && fetched=$(mktemp -d "$cache.XXXXXX") || return 1
    if timeout 120 python3 -m pip download --quiet --no-deps \
        --dest "$fetched" "$wheel" >"$fetched/why" 2>&1 &&
        python3 -m zipfile --extract "$fetched"/*.whl "$fetched" &&
        rm "$fetched"/*.whl &&
        { mv -T "$fetched" "$cache" 2>/dev/null || [ -e "$cache" ]; }; then
        rm -rf "$fetched"
        return 0
    fi
    why=$(grep -v '^WARNING' "$fetched/why" | tail -n 1)
    rm -rf "$fetched"
    return 1
}

if [ ! -e .libs/libtally-ucx.so ]; then
    echo "skipped: there is no libtally-ucx.so"
    exit 77
fi
if [ "${CLUSTER_INSIDE:-}" != yes ] && ! fetch; then
    echo "skipped: pip cannot get $wheel: $why"
    exit 77
fi
. "${srcdir:-.}/tests/cluster/net.sh"

# totals JOB "NODE..." SETTINGS
totals() {
    ranks_start "$1" "$2" "TALLY_TRANSPORT=ucx TALLY_LOG=info
        TALLY_BOOTSTRAP_TIMEOUT=30 $3" \
        tests/conformance/totals "${EPOCHS:-20}" "${4:-4}"
    ranks_end "$1"
    check_equal "$1: all ranks have the right bits" "" "$failed"
}

version() { # JOB RANK
    sed -n 's/.*loaded transport ucx (\(UCX [0-9.]*\);.*/\1/p' "$scratch/$1.$2"
}

lan v 4 10.0.0. fd00::
for i in 2 3; do
    setting v$i "LD_LIBRARY_PATH=$cache/libucx/lib"
done
totals both "v1 v1 v2 v2 v3 v3 v4 v4"
check_equal "one node has the wheel's version" "UCX 1.22.0" "$(version both 2)"
check "another has another" [ "$(version both 0)" != "$(version both 2)" ]
# Messages of several kilobytes, and a step's two reductions under way at once.
root_address=10.0.0.2
totals large "v2 v1 v3 v4" TALLY_UCX_TLS=tcp 64
totals new "v2 v3" ""
# By the rendezvous' interface and its address family, in either version.
node six
plug six eth0 v fd00::9/64
root_address="[fd00::1]"
totals old_and_six "v1 six" ""
setting six "LD_LIBRARY_PATH=$cache/libucx/lib"
root_address="[fd00::2]"
totals new_and_six "v2 six" ""
check_end
