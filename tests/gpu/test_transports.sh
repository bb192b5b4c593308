#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Steps on a GPU over every transport between nodes, on the loopback: what they
# give is compared with the host device over the same transport, on 2, 4 and 8
# ranks that share the GPU (GPU_RANKS); and a graph is replayed.
# The GPU is the double of libcuda here; DOUBLE=no: this machine's.
srcdir=${srcdir:-$(dirname "$0")/../..}
. "$srcdir/tests/harness/shell.sh"

use_cuda_double
for backend in ucx ofi; do
    [ -e ".libs/libtally-$backend.so" ] ||
        echo "skipped: this build has no libtally-$backend.so"
done
transport_ways | grep -v '^TALLY_TRANSPORT=shm' >"$scratch/ways"
[ -s "$scratch/ways" ] || check_skip "this build has no transport between nodes"

# Ends as it does by itself; fails after a long time.
steps() { # SETTINGS CASE...
    with=$1
    shift
    # shellcheck disable=SC2086
    timeout 600 env TALLY_PLUGIN_PATH="$PWD/.libs" TALLY_STRICT_ENV=1 \
        TALLY_LOG=info $with tests/gpu/steps "$@" >"$scratch/out" 2>&1 </dev/null
    status=$?
    [ $status -eq 0 ] || cat "$scratch/out"
    return $status
}

steps "TALLY_TRANSPORT=shm" none || check_skip "there is no GPU"
while read -r settings; do
    name=$(echo "$settings" | sed 's/^TALLY_TRANSPORT=\([a-z]*\).*/\1/')
    for n in ${GPU_RANKS:-2 4 8}; do
        check "$n ranks are as on the host, $settings" \
            steps "$settings RANKS=$n" as_on_the_host
    done
    check "they reduced over $name" \
        grep -q "transport $name" "$scratch/out"
    check "a graph is replayed, $settings" \
        steps "$settings REPLAYS=${REPLAYS:-100}" a_graph
done <"$scratch/ways"

# NCCL is asked first, and cannot be loaded: the next in the list reduces.
if [ -e .libs/libtally-nccl.so ]; then
    sort -u -t ' ' -k 1,1 "$scratch/ways" |
        sed 's/TALLY_TRANSPORT=/&nccl,/' >"$scratch/lists"
    while read -r settings; do
        name=$(echo "$settings" | sed 's/^TALLY_TRANSPORT=nccl,\([a-z]*\).*/\1/')
        check "ranks without NCCL are as on the host, $settings" \
            steps "$settings TALLY_NCCL_LIBRARY=/nonexistent" as_on_the_host
        check "they were told why" grep -q \
            'rank 0 cannot use nccl: .*NCCL cannot be loaded' "$scratch/out"
        check "they reduced over $name" \
            grep -q "transport $name" "$scratch/out"
    done <"$scratch/lists"
fi
check_end
