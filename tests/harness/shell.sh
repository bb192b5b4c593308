# SPDX-License-Identifier: BSD-3-Clause
# What tests written in shell share: checks, a scratch folder, and a last line
# in Check's own form. Sourced by POSIX shells, from a test run by `make check`
# (in the build folder) or by hand there.
#
#   check "a sentence" command...    it holds if the command succeeds
#   check_equal "a sentence" WANT GOT
#   check_skip "why"                 ends the test as skipped
#   check_end                        the last line of every test
#   use_cuda_double                  libcuda is the double, but for DOUBLE=no;
#                                    skips without it, or without kernels
#   use_replica_transport            $transport between replica groups; or skips

# LeakSanitizer's tracer falls over now and then in processes that unloaded UCX.
# Leaks are looked for by the unit tests, and under valgrind.
ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"
export ASAN_OPTIONS

checks=0
failures=0
ended=no
scratch=$(mktemp -d) || exit 1

check_exit() {
    status=$?
    rm -rf "$scratch"
    if [ $ended = no ]; then
        echo "the test broke off with status $status"
        exit 1
    fi
}
trap check_exit EXIT
trap 'exit 1' HUP INT TERM

check() {
    sentence=$1
    shift
    checks=$((checks + 1))
    if "$@"; then
        echo "holds: $sentence"
    else
        failures=$((failures + 1))
        echo "FAILS: $sentence"
    fi
}

check_equal() {
    check "$1" [ "$2" = "$3" ]
    [ "$2" = "$3" ] || printf '  want: %s\n  got:  %s\n' "$2" "$3"
}

check_skip() {
    ended=yes
    echo "skipped: $1"
    exit 77
}

check_end() {
    ended=yes
    echo "$(((checks - failures) * 100 / checks))%: Checks: $checks," \
        "Failures: $failures, Errors: 0"
    [ $failures -eq 0 ]
    exit
}

not() {
    ! "$@"
}

# Segments of Tally newer than a file that are there for seconds: others may be
# of tests that run beside, for a moment.
segments_newer_than() {
    find /dev/shm -name 'tally.*' -newer "$1" 2>/dev/null >"$scratch/segments"
    [ ! -s "$scratch/segments" ] || sleep 3
    while read -r segment; do
        [ ! -e "$segment" ] || echo "$segment"
    done <"$scratch/segments"
}

# Runs a command until it succeeds; fails when it has not for a long time. A
# guard against hanging, not a measure.
eventually() {
    tries=600
    until "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        sleep 0.05
    done
}

# The settings of every way in which ranks may reach each other here, a line
# each: the node's shared memory, then each transport by itself, on the loopback.
transport_ways() {
    echo "TALLY_TRANSPORT=shm"
    if [ -e .libs/libtally-ucx.so ]; then
        ucx="TALLY_TRANSPORT=ucx TALLY_NODE_SHM=0"
        echo "$ucx TALLY_UCX_TLS=posix,cma,self"
        echo "$ucx TALLY_UCX_TLS=tcp TALLY_UCX_NET_DEVICES=lo"
    fi
    if [ -e .libs/libtally-ofi.so ]; then
        ofi="TALLY_TRANSPORT=ofi TALLY_NODE_SHM=0"
        echo "$ofi TALLY_OFI_PROVIDER=shm"
        echo "$ofi TALLY_OFI_PROVIDER=tcp;ofi_rxm TALLY_OFI_DOMAIN=lo"
        echo "$ofi TALLY_OFI_PROVIDER=net TALLY_OFI_DOMAIN=lo"
    fi
}

use_cuda_double() {
    double=$PWD/tests/harness/cuda/.libs
    if [ "${DOUBLE:-yes}" = yes ]; then
        [ -e "$double/libcuda.so.1" ] ||
            check_skip "this build has no C++, so no double of libcuda"
        export LD_LIBRARY_PATH="$double${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    fi
    grep -q '^#define HAVE_KERNELS 1' config.h ||
        check_skip "this build has no CUDA kernels (no nvcc)"
}

use_replica_transport() {
    transport=
    for name in ofi ucx; do
        [ ! -e .libs/libtally-$name.so ] || transport=$name
    done
    [ -n "$transport" ] || check_skip "there is no transport between replicas"
}
