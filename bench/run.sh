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
networks=
for name in ucx ofi; do
    if (cd "$build" && tools/tally_info -t) |
        grep -q "^transport $name: loaded"; then
        networks="$networks $name"
    fi
done
nodes=yes
if ! "$bench/nodes.sh" 2 true; then
    echo "skipped: nodes on this machine, as namespaces are refused"
    nodes=
fi
# Every message over TCP on an interface.
tcp_on() { # TRANSPORT INTERFACE
    case $1 in
    ucx) echo "TALLY_UCX_TLS=tcp TALLY_UCX_NET_DEVICES=$2" ;;
    ofi) echo "TALLY_OFI_PROVIDER=tcp;ofi_rxm TALLY_OFI_DOMAIN=$2" ;;
    esac
}

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
    for network in $networks; do
        for n in 2 4 8; do
            measure $network.$n.$repeat $(tcp_on $network lo) $(ranks $n) \
                tools/tally_perf --json --transports $network \
                --iters $(iterations $n) $compare
        done
        for peer in pingpong exchange; do
            measure $network.$peer.$repeat $(tcp_on $network lo) $(ranks 2) \
                tools/tally_perf --json --transports $network --iters 30000 \
                --compare $peer
        done
        if [ -n "$nodes" ]; then
            measure $network.oneway.$repeat $(tcp_on $network eth0) \
                "$bench/nodes.sh" 2 "$bench/oneway.sh" $network
            for n in 2 3 4 8; do
                measure $network.nodes.$n.$repeat $(tcp_on $network eth0) \
                    "$bench/nodes.sh" $n tools/tally_perf --json \
                    --transports $network --iters $(iterations $n)
            done
        fi
    done
    case $networks in
    *ofi*)
        for peer in pingpong exchange; do
            measure ofi_shm.$peer.$repeat TALLY_OFI_PROVIDER=shm $(ranks 2) \
                tools/tally_perf --json --transports ofi --iters 30000 \
                --compare $peer
        done
        if command -v fi_pingpong >/dev/null; then
            measure fi_pingpong.$repeat "$bench/fi_pingpong.sh" \
                'tcp;ofi_rxm' lo 64 20000
            measure fi_pingpong_shm.$repeat "$bench/fi_pingpong.sh" \
                shm shm 64 20000
        fi
        ;;
    esac
    for network in shm $networks; do
        measure cpu.$network.$repeat $(tcp_on $network lo) $(ranks 2) \
            tools/tally_perf --json --transports $network --iters 100 --cpu
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
measure rounds bench/rounds "$(nproc)"
measure info tools/tally_info --json -v -t

python3 "$bench/report.py" "$results" >"$bench/README.md.new"
mv "$bench/README.md.new" "$bench/README.md"
echo "wrote $bench/README.md"

# Replica groups have a page of their own, and torchft beside them if it is there.
if has replicas; then
    python=${PYTHON_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/tally/venv}/bin/python
    "$python" -c 'import torchft' 2>/dev/null || python=
    # shellcheck disable=SC2086
    python3 "$bench/replicas.py" "$build" $python || failed=1
fi
exit $failed
