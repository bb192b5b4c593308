#!/bin/sh
# The long form of the tests: the suite under other compilers and sanitizers, and
# the gates that a release must pass. Called by ./dev test --long; each part
# writes its log, and the last line is the sum of all.
set -eu
jobs=$(nproc)
started=$(date +%s)

say()
{
    printf '\n== %s (after %d s)\n' "$*" "$(($(date +%s) - started))"
}

# suite BUILD "configure arguments" ...: builds in a folder and runs the suite;
# with arguments, without the tests that run nothing of the build, and with the
# kernels for GPUs of the first build, as no argument changes them.
suite()
{
    build=$1
    shift
    say "the suite in $build: $*"
    without=
    mkdir -p "$build/kernels"
    if [ $# -gt 0 ]; then
        without=PLAIN_TESTS=
        cp -p build/kernels/tally.fatbin "$build/kernels/" 2>/dev/null || true
    fi
    [ -e "$build/Makefile" ] ||
        (cd "$build" && ../configure --enable-werror "$@" >configure.log 2>&1)
    if make -C "$build" -j"$jobs" --no-print-directory all >"$build/build.log" 2>&1
    then
        make -C "$build" -j"$jobs" --no-print-directory check $without $left_out \
            >"$build/check.log" 2>&1 || true
    else
        cp "$build/build.log" "$build/check.log"
    fi
    builds="$builds $build"
}

# gate NAME command...: one check of its own.
gate()
{
    name=$1
    shift
    say "$name"
    log=build-gates/tests/$name.log
    status=0
    "$@" >"$log" 2>&1 || status=$?
    case $status in
    0) result=PASS ;;
    77) result=SKIP ;;
    *) result=FAIL ;;
    esac
    [ $result = PASS ] || tail -n 30 "$log"
    echo ":test-result: $result" >"${log%.log}.trs"
    gates=$((gates + 1))
}

tidy()
{
    nccl_flags=$(sed -n 's/^NCCL_CPPFLAGS = //p' build/Makefile |
        sed 's/$(top_srcdir)/./')
    # The plug-ins and the tests' doubles are C like the rest.
    # One by one: with several files clang-tidy 16 loses sight of va_start.
    find src tools examples -name '*.c' ! -path tools/perf/mpi.c |
        LC_ALL=C sort | xargs -P "$jobs" -n 1 sh -c 'clang-tidy-16 --quiet "$@" -- -std=gnu11 \
            -D_GNU_SOURCE -DHAVE_CONFIG_H \
            -DTALLY_LIBEXEC_DIR=\"\" -DTALLY_BUILD_COMPILER=\"\" \
            -DTALLY_BUILD_FLAGS=\"\" -DNCCL_FOLDER=\"\" -I. -Iinclude -Isrc -Itools -Iexamples \
            -Ibuild '"$backend_flags $nccl_flags" sh
}

types()
{
    "${PYTHON_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/tally/venv}/bin/python" \
        -m mypy --config-file python/pyproject.toml python/tally
}

reload_under_valgrind()
{
    LD_LIBRARY_PATH=build/.libs valgrind --quiet --error-exitcode=9 \
        --leak-check=full --show-leak-kinds=definite,indirect,possible \
        --errors-for-leak-kinds=definite,indirect,possible \
        --suppressions=tests/harness/valgrind.supp \
        build/tests/unit/reload build/.libs/libtally.so 5
}

in_build()
{
    (cd build && srcdir=.. "$@")
}

# The tarball has all that a build, an install and some tests need. The whole
# suite has run already.
distribution()
{
    RANKS="1 4" CHANNELS=8 make -C build --no-print-directory distcheck \
        -j"$jobs" DISTCHECK_CONFIGURE_FLAGS=--enable-werror \
        TESTS="tests/conformance/test_totals.sh tests/unit/test_step
            tests/unit/test_exports.sh tests/unit/test_tally_info.sh"
}

coverage()
{
    gcovr --root . --filter 'src/' --object-directory build-coverage \
        --exclude-throw-branches --print-summary --txt build-coverage/lines.txt \
        build-coverage >build-coverage/summary.txt
    cat build-coverage/summary.txt
    lines=$(sed -n 's/^lines: \([0-9]*\).*/\1/p' build-coverage/summary.txt)
    [ "$lines" -ge 85 ]
}

[ -x configure ] || autoreconf -i
builds=
left_out=
gates=0
rm -rf build-gates
mkdir -p build-gates/tests
backend_flags="$(pkg-config --cflags ucx 2>/dev/null || true) \
    $(pkg-config --cflags libfabric 2>/dev/null || true)"

# ./dev test has just been here, unless something has changed.
if [ -n "$(find . -path './build*' -prune -o -type f -newer build/check.log \
    -print 2>&1 | grep -v '^./\.git/')" ]; then
    suite build
else
    builds=build
fi
# Sanitizers take their time: fewer numbers of ranks, channels and scenes, shorter
# runs.
export PROCESSES=40 ROUNDS=20 EPOCHS=10 RANKS="1 2 3 5 8" CHANNELS="1 64" \
    TRAINER_STEPS=6 SEEDS=500 FAULTS=8 GPU_RANKS=2 REPLAYS=5 \
    SCENES="killed stopped started-again" \
    MODE_CASES="every_kind two_steps_on a_graph_is"
asan="-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined \
    -fno-sanitize-recover=undefined"
# C programs load the C++ of the tests' libcuda, and clang's runtime for C lacks
# two checks of C++.
suite build-asan CC=clang-16 CXX=clang++-16 CFLAGS="$asan" \
    CXXFLAGS="$asan -fno-sanitize=function,vptr"
suite build-tsan CFLAGS="-O2 -g -fsanitize=thread"
# Nor is there more of the library's C in tests of the Python package.
left_out=PYTHON_TESTS=
suite build-coverage CFLAGS="-O0 -g --coverage"
unset PROCESSES ROUNDS EPOCHS RANKS CHANNELS TRAINER_STEPS SEEDS FAULTS GPU_RANKS \
    REPLAYS SCENES MODE_CASES
gate coverage coverage
gate clang-tidy tidy
gate mypy types
gate valgrind-reload reload_under_valgrind
gate distcheck distribution
gate wheel in_build ../tests/python/test_wheel.sh
gate demo examples/trainer/demo.sh build --steps 100
gate replica-demo examples/trainer/demo.sh build --replicas 3 --out out-replicas
gate fuzz env SECONDS_EACH=40 tests/fuzz/run.sh
gate soak in_build ../tests/fault/soak.sh
gate rounds in_build env ROUNDS=500 ../tests/fault/test_rounds.sh
gate replica-faults in_build env FAULTS=100 ../tests/fault/test_replicas.sh
gate replica-cuts in_build env LINK_FAULTS=8 ../tests/cluster/test_replicas_cut.sh
gate replica-coverage tests/replica/coverage.sh
gate replica-mutants tests/replica/mutants.sh
gate mutants env SHARE=64 tests/mutants.sh
echo "# TOTAL: $gates" >build-gates/check.log

say "results"
sed -n '/^lines:/p;/^branches:/p' build-coverage/summary.txt 2>/dev/null || true
# shellcheck disable=SC2086
exec tests/summary.sh $builds build-gates
