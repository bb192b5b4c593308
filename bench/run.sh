#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Runs all benchmarks of a build, each next to its peer, and writes
# bench/README.md from what they print. It takes some minutes, and wants a
# machine that does nothing else.
#     bench/run.sh [BUILD] [RESULTS]
# BUILD: the build folder (build). RESULTS: keeps the JSON of each run; by
# default it is not kept.
set -eu

bench=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${1:-$bench/../build}" && pwd)
repeats=5

if [ $# -ge 2 ]; then
    mkdir -p "$2"
    results=$(cd "$2" && pwd)
    rm -f "$results"/*.json
else
    results=$(mktemp -d)
    trap 'rm -rf "$results"' EXIT
    trap 'exit 1' HUP INT TERM
fi
failed=0

for name in $(env | sed -n 's/^\(TALLY_[A-Z0-9_]*\)=.*/\1/p'); do
    unset "$name"
done

# Runs a command in the build folder; what it prints is the JSON NAME.
measure() { # NAME COMMAND...
    name=$1
    shift
    printf '%-24s %s\n' "$name" "$*"
    if ! (cd "$build" && timeout 300 env "$@") >"$results/$name.new"; then
        echo "$name failed: $*" >&2
        rm -f "$results/$name.new"
        failed=1
        return
    fi
    mv "$results/$name.new" "$results/$name.json"
}

# Whether the build has a benchmark.
has() {
    [ -x "$build/bench/$1" ] || { echo "bench/$1 is not built" && false; }
}

ranks() { # RANKS
    echo "tools/tally_run --no-prefix --timeout 280 -n $1"
}

compare=
if command -v mpirun >/dev/null && [ -x "$build/tools/tally_perf_mpi" ]; then
    compare="--compare mpi"
fi
ucx=
if (cd "$build" && tools/tally_info -t) | grep -q '^transport ucx: loaded'; then
    ucx=yes
fi
# Every message over TCP on the loopback.
over_tcp="TALLY_TRANSPORT=ucx TALLY_NODE_SHM=0 TALLY_UCX_TLS=tcp
    TALLY_UCX_NET_DEVICES=lo"

# Ranks that outnumber processors take turns: fewer iterations will do.
iterations() { # RANKS
    [ "$1" -le "$(nproc)" ] && echo 30000 || echo 3000
}

# shellcheck disable=SC2046,SC2086 # lists of words
for repeat in $(seq $repeats); do
    for n in 2 4 8; do
        measure shm.$n.$repeat $(ranks $n) tools/tally_perf --json \
            --iters $(iterations $n) $compare
    done
    [ -z "$ucx" ] || for n in 2 4 8; do
        measure tcp.$n.$repeat $over_tcp $(ranks $n) tools/tally_perf --json \
            --iters $(iterations $n) $compare
        if [ $n = 2 ] && has ucx_pingpong; then
            measure pingpong.$repeat bench/ucx_pingpong --json
            measure exchange.$repeat bench/ucx_pingpong --mode exchange --json
        fi
    done
    for n in 1 2; do
        measure calls.$n.$repeat $(ranks $n) bench/step_calls --json
    done
    if has host_loss; then
        measure host_loss.$repeat bench/host_loss --json
    fi
    for n in 2 16 64 256 1000; do
        if has bootstrap; then
            measure bootstrap.$n.$repeat bench/bootstrap --json --ranks $n
        fi
    done
done
measure info tools/tally_info --json -v -t

python3 "$bench/report.py" "$results" >"$bench/README.md.new"
mv "$bench/README.md.new" "$bench/README.md"
echo "wrote $bench/README.md"
exit $failed
