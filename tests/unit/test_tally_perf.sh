#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Tests of tools/tally_perf, as a user sees it. Times are not tested.
srcdir=${srcdir:-$(dirname "$0")/../..}
. "$srcdir/tests/harness/shell.sh"

for name in $(env | sed -n 's/^\(TALLY_[A-Z0-9_]*\)=.*/\1/p'); do
    unset "$name"
done
out=$scratch/out
err=$scratch/err

# Runs tally_perf on some ranks: output in $out and $err, status in $status.
run() { # RANKS OPTION...
    ranks=$1
    shift
    timeout 120 tools/tally_run --no-prefix --timeout 100 -n "$ranks" \
        tools/tally_perf "$@" >"$out" 2>"$err"
    status=$?
}

# Whether the JSON object in $out has a member with this text as its value.
member() { # KEY VALUE
    grep -q "\"$1\": $2[,}]" "$out"
}

keys() {
    grep -o '"[a-z0-9_]*":' "$out" | tr -d '":' | tr '\n' ' '
}

all_keys="transport ranks bytes iters min_us p50_us p90_us p99_us max_us wrong \
peer peer_p50_us ratio peer_p99_us "

# -------------------------------------------------------------- the reduction

for ranks in 1 2 4; do
    run $ranks --iters 200 --warmup 20 --records 3 --json
    check_equal "$ranks ranks end well" 0 $status
    check_equal "$ranks ranks: one object with exactly these members" \
        "$all_keys" "$(keys)"
    check_equal "$ranks ranks: on one line" 1 "$(wc -l <"$out")"
    check "$ranks ranks: no result was wrong" member wrong 0
    check "$ranks ranks are counted" member ranks $ranks
    check "$ranks ranks: three records are 192 bytes" member bytes 192
    check "$ranks ranks: all iterations are measured" member iters 200
    check "$ranks ranks: without a peer its members are null" grep -q \
        '"peer": null, "peer_p50_us": null, "ratio": null, "peer_p99_us": null}$' \
        "$out"
    cat "$err"
done
check "one node's ranks reduce in shared memory" member transport '"shm"'

run 2 --iters 100 --warmup 10 --rounds 3 --json
check "rounds share the iterations" member iters 100
check_equal "rounds end well" 0 $status
run 2 --iters 50 --warmup 0 --records 64 --json
check "the largest step is right" member wrong 0
run 2 --iters 50 --warmup 5
check "the text says what is measured" grep -q "^# .*seen by rank 0; " "$out"
check "and has a line of figures" \
    grep -q "^ *shm  *2  *1  *1  *64  *50 .* 0$" "$out"

# ---------------------------------------------------------------- the sweeps

run 4 --iters 40 --warmup 4 --ranks 2-4 --records 1,3-4 --json
check_equal "a sweep ends well" 0 $status
check_equal "it has one object for each number of ranks and records" \
    "2 64 2 192 2 256 3 64 3 192 3 256 4 64 4 192 4 256 " \
    "$(sed 's/.*"ranks": \([0-9]*\), "bytes": \([0-9]*\),.*/\1 \2/' \
        "$out" | tr '\n' ' ')"
check_equal "and none was wrong" 9 "$(grep -c '"wrong": 0,' "$out")"
run 2 -n 20 -w 2 -b 64 -e 1024 -f 4
check_equal "sizes grow by a factor" "64 256 1024 " \
    "$(awk '!/^#/ { printf "%s ", $5 }' "$out")"
check_equal "under one header" 1 "$(grep -c '^# *transport  *ranks ' "$out")"
run 2 --iters 20 --warmup 2 --ranks 3
check_equal "more ranks than the job has are a usage error" 2 $status
check "which is told once" [ "$(grep -c \
    -e "--ranks: the job has 2 ranks" "$err")" = 1 ]

transports=shm
for name in ucx ofi; do
    tools/tally_info -t | grep -q "^transport $name: loaded" &&
        transports=$transports,$name
done
TALLY_UCX_TLS=tcp TALLY_UCX_NET_DEVICES=lo TALLY_OFI_DOMAIN=lo run 3 \
    --iters 40 --warmup 4 --transports $transports --records 1,64
check_equal "a sweep over $transports ends well" 0 $status
check_equal "each carries its messages itself" "$transports" \
    "$(awk '!/^#/ { print $1 }' "$out" | uniq | paste -sd, -)"
check_equal "and none is wrong" 0 "$(awk '!/^#/ && $NF != 0' "$out" | wc -l)"
cat "$err"
run 4 --iters 20 --warmup 2 --ranks 2 --rounds 2 --transports $transports
check_equal "ranks without a part sit it out, on each transport" 0 $status
cat "$err"
run 2 --iters 20 --warmup 2 --transports shm,nothing
check_equal "a transport that is not there is an error" 1 $status
check "which is told" grep -q "TALLY_TRANSPORT=nothing: " "$err"

run 2 --iters 20 --warmup 2 --cpu
check_equal "processor time is measured" 0 $status
check "in columns of its own" grep -q "wrong  *idle %  *wait %$" "$out"
tools/tally_info --json -v | grep -q -e -fsanitize ||
    check "a waiting and an idle rank cost next to nothing, on any machine" \
    awk '!/^#/ && ($(NF - 1) > 10 || $NF > 10) { exit 1 }' "$out"
cat "$out"

if tools/tally_info -t | grep -q '^transport ucx: loaded'; then
    TALLY_TRANSPORT=ucx TALLY_NODE_SHM=0 TALLY_UCX_TLS=tcp \
        run 3 --iters 50 --warmup 5 --json
    check "a network transport is named" member transport '"ucx"'
    check "and right" member wrong 0
fi

# ------------------------------------------------------------------ the peer

for name in ucx ofi; do
    [ -x tools/tally_perf_$name ] || continue
    case ,$transports, in *,$name,*) ;; *) continue ;; esac
    for kind in pingpong exchange; do
        TALLY_UCX_TLS=tcp TALLY_UCX_NET_DEVICES=lo run 2 --iters 100 \
            --warmup 10 --transports $name --compare $kind --json
        check_equal "a comparison with $name's $kind ends well" 0 $status
        check "its peer is named" member peer "\"$kind\""
        check "and compared with" member ratio '[0-9]*\.[0-9]*'
        cat "$err"
    done
    port=$((20000 + $$ % 10000))
    tools/tally_perf_$name --listen $port 50 5 2 >"$scratch/far" 2>&1 &
    far=$!
    tools/tally_perf_$name --connect 127.0.0.1:$port 50 5 2 >"$out" 2>"$err"
    check_equal "two processes of $name that meet end well" 0 $?
    wait $far
    check_equal "both of them" 0 $?
    check_equal "one of them has the figures" 51 "$(grep samples_ns "$out" |
        wc -w)"
    check "the other says nothing" [ ! -s "$scratch/far" ]
    cat "$err"
done
run 2 --iters 10 --warmup 0 --transports shm --compare pingpong
check_equal "shared memory has no ping-pong" 2 $status
check "which is told once" [ "$(grep -c \
    -e "--compare pingpong: there is no library below the transport shm" \
    "$err")" = 1 ]

if command -v mpirun >/dev/null && [ -x tools/tally_perf_mpi ]; then
    run 2 --iters 100 --warmup 10 --compare mpi --json
    check_equal "a comparison with MPI ends well" 0 $status
    check_equal "it has the same members" "$all_keys" "$(keys)"
    check "the peer is named" member peer '"mpi"'
    check "the peer was measured" member peer_p50_us '[0-9]*\.[0-9]*'
    check "and compared with" member ratio '[0-9]*\.[0-9]*'
    cat "$err"
    run 2 --iters 10 --warmup 0 --compare mpi --mpi-program /bin/false
    check_equal "a peer that fails is an error" 1 $status
    check "which is told" \
        grep -q -e "--compare mpi: mpirun ended with status 1" "$err"
    run 2 --iters 10 --warmup 0 --compare mpi --mpi-program /nowhere/mpi
    check_equal "a peer's program that is missing is an error" 2 $status
    check "which is told once, with its name" [ "$(grep -c \
        -e "--compare mpi: /nowhere/mpi cannot be run: No such file" \
        "$err")" = 1 ]
fi

# Only what the wrapper script of an uninstalled program needs.
mkdir "$scratch/bin"
for name in sh sed cat dirname basename uname ls grep expr env; do
    file=$(command -v $name) && ln -s "$file" "$scratch/bin/$name"
done
PATH=$scratch/bin tools/tally_perf --compare mpi >"$out" 2>"$err"
check_equal "without mpirun there is no comparison" 2 $?
check "which is told" grep -q -e "--compare mpi: mpirun was not found" "$err"

# -------------------------------------------------------------- command line

wrong() { # WHAT_IS_TOLD OPTION...
    told=$1
    shift
    timeout 60 tools/tally_perf "$@" >"$out" 2>"$err"
    check_equal "$*: a usage error" 2 $?
    check "$*: it is told why" grep -q -e "^tally_perf: $told" "$err"
    check "$*: the usage is on stderr" grep -q "^usage: " "$err"
    check "$*: nothing on stdout" [ ! -s "$out" ]
}

wrong "--iters 0: expected an integer from 1 to" --iters 0
wrong "--iters 5x: expected an integer" --iters 5x
wrong "--records 65: expected an integer from 1 to 64" --records 65
wrong "--warmup -1: expected an integer from 0" --warmup -1
wrong "--compare nccl: expected mpi, pingpong or exchange" --compare nccl
wrong "--records 4: expected an integer from 5 to 64" --records 5-4
wrong "--records : expected an integer" --records 1,,2
wrong "--ranks 0: expected an integer from 1" --ranks 0-3
wrong "--ranks: more than 64 values" --ranks 1-65
wrong "-b, -e: expected multiples of 64" -b 32
wrong "-b, -e: expected multiples of 64" -b 128 -e 64
wrong "--factor 1: expected an integer from 2" -b 64 -f 1
wrong "unexpected argument 'more'" more
timeout 60 tools/tally_perf --nonsense >"$out" 2>"$err"
check_equal "an unknown option is a usage error" 2 $?
timeout 60 tools/tally_perf --help >"$out" 2>"$err"
check_equal "--help ends well" 0 $?
check "and shows the usage on stdout" grep -q "^usage: tally_run" "$out"

check_end
