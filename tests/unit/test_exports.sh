#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# What the libraries export, and what they need: no more than the lists.
. "${srcdir:-.}/tests/harness/shell.sh"

exported() {
    nm -D --defined-only "$1" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
        LC_ALL=C sort
}


listed() {
    sed -n '/global:/,/local:/s/^ *\([A-Za-z_0-9]*\);$/\1/p' "$1" |
        LC_ALL=C sort
}

in_header() {
    for header in tally step columns replica rows; do
        sed -n '/^TALLY_API/,/;/p' "$srcdir/include/tally/$header.h"
    done |
        grep -oE '\btally_[a-z_]+\(' | tr -d '(' | LC_ALL=C sort -u
}

library=.libs/libtally.so
check_equal "libtally.so exports what the version script lists" \
    "$(listed "$srcdir/src/core/libtally.map")" "$(exported $library)"
check_equal "it exports every function of the headers, and the table" \
    "$(in_header; echo tallyPlugin_v1)" \
    "$(exported $library | grep -v tallyPlugin_v1; echo tallyPlugin_v1)"
check "it needs no transport library" \
    not sh -c "readelf -d $library | grep -E 'NEEDED.*(ucp|ucs|uct|fabric|nccl)'"
check "its stack is not executable" \
    not sh -c "readelf -lW $library | grep GNU_STACK | grep -q RWE"
for backend in .libs/libtally-*.so; do
    [ -e "$backend" ] || continue
    query=tallyTransport_query
    [ "$backend" != .libs/libtally-etcd.so ] || query=tallyQuorum_query
    check_equal "$backend exports the query alone" $query \
        "$(exported "$backend")"
    check "$backend needs no libtally" \
        not sh -c "readelf -d $backend | grep 'NEEDED.*libtally'"
done
check "load, use and unload again and again" \
    env LD_LIBRARY_PATH=.libs tests/unit/reload .libs/libtally.so 20
check_end
