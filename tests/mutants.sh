#!/bin/sh
# Breaks a copy of the code, one line at a time, as tests/mutants.txt says, and
# sees that the named test fails. A mutant that lives is a hole in the tests. All
# must change something, also where only some are tried. Each test is run on the
# unbroken code first: where it is skipped its mutants are too, and one that fails
# there says nothing of them.
#     tests/mutants.sh [PATTERN]     only mutants whose line matches
#     SHARE=12 tests/mutants.sh      every twelfth, from another one each day
set -eu
cd "$(dirname "$0")/.."
pattern=${1:-.}
copy=build-mutants/tree
jobs=$(nproc)

rm -rf build-mutants
mkdir -p "$copy"
tar -cf - --exclude='./build*' --exclude=./configure --exclude=./.git \
    --exclude=./autom4te.cache . | tar -xf - -C "$copy"
cd "$copy"
[ -x configure ] || autoreconf -i >/dev/null 2>&1
mkdir build
cd build
../configure CFLAGS=-O1 >configure.log 2>&1
# Not compiled again as long as no kernel is broken.
mkdir -p kernels
cp -p ../../../build/kernels/tally.fatbin kernels/ 2>/dev/null || true
make -j"$jobs" >build.log 2>&1

# Of the Makefile.
list() {
    printf 'include Makefile\nlist:\n\t@echo $(%s)\n' "$1" |
        make -s -f - list | tr ' ' '\n'
}
libraries=$(list check_LTLIBRARIES)
# Those that are no tests: what tests in shell run.
programs=$(list check_PROGRAMS | grep -v /test_)

# First what is installed, which tests load: all is another make's, which must not
# build the same files at a time. A GPU's code is as it was: no test here runs it,
# and nvcc takes minutes.
build() {
    # shellcheck disable=SC2086
    {
        make -j"$jobs" -o kernels/tally.fatbin all &&
            make -j"$jobs" -o kernels/tally.fatbin $targets $libraries
    } >mutant.log 2>&1 </dev/null
}

# run SECONDS: $status is the test's.
run() {
    status=0
    CK_DEFAULT_TIMEOUT=20 srcdir=.. timeout "$1" "$program" >mutant.log 2>&1 \
        </dev/null || status=$?
}

# field NUMBER: of $line, as it is: an echo may take \n for the end of a line.
field() {
    printf '%s\n' "$line" | awk -F ' ;; ' -v number="$1" '{ print $number }'
}

# Of the unbroken code, once: a line "TEST STATUS SECONDS" of the file unbroken.
run_unbroken() {
    grep -q "^$test " unbroken && return
    status=1
    begin=$(date +%s)
    build && begin=$(date +%s) && run 600
    echo "$test $status $(($(date +%s) - begin))" >>unbroken
}

: >unbroken
lived=0
tried=0
skipped=0
# Fields: file; test; sed expression; what it breaks. Separated by " ;; ".
while IFS= read -r line; do
    case "$line" in "" | "#"*) continue ;; esac
    sed "$(field 3)" "../$(field 1)" | cmp -s - "../$(field 1)" || continue
    echo "STALE: $line"
    lived=$((lived + 1))
done <../tests/mutants.txt

while IFS= read -r line; do
    case "$line" in "" | "#"*) continue ;; esac
    file=$(field 1)
    test=$(field 2)
    edit=$(field 3)
    what=$(field 4)
    program=$test
    targets=$test
    case "$test" in *.sh) program=../$test targets=$programs ;; esac
    tried=$((tried + 1))
    run_unbroken
    read -r status seconds <<UNBROKEN
$(sed -n "s|^$test ||p" unbroken)
UNBROKEN
    if [ "$status" -eq 77 ]; then
        echo "skipped, as $test is: $what"
        skipped=$((skipped + 1))
        continue
    elif [ "$status" -ne 0 ]; then
        echo "FAILS ANYWAY: $test: $what"
        tail -n 5 mutant.log
        lived=$((lived + 1))
        continue
    fi
    cp "../$file" original
    sed -i "$edit" "../$file"
    if ! build; then
        echo "BROKEN: $file: $what: does not compile"
        tail -n 5 mutant.log
        lived=$((lived + 1))
    else
        run $((60 + 2 * seconds))
        case $status in
        0 | 77)
            echo "LIVES: $file: $what"
            lived=$((lived + 1))
            ;;
        *) echo "caught by $(basename "$test"): $what" ;;
        esac
    fi
    # A fresh time stamp, so that make sees the repair.
    cat original >"../$file"
done <<END
$(grep -E "$pattern" ../tests/mutants.txt | awk -v share="${SHARE:-1}" \
    -v day="$(date +%j)" '(NR + day) % share == 0')
END
echo "$tried mutants, $lived not caught, $skipped skipped"
[ "$lived" -eq 0 ]
