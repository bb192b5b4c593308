#!/bin/sh
# Breaks a copy of the code, one line at a time, as tests/mutants.txt says, and
# sees that the named test fails. A mutant that lives is a hole in the tests.
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
make -j"$jobs" >build.log 2>&1

lived=0
tried=0
# Fields: file; test; sed expression; what it breaks. Separated by " ;; ".
while IFS= read -r line; do
    case "$line" in "" | "#"*) continue ;; esac
    file=$(echo "$line" | awk -F ' ;; ' '{ print $1 }')
    test=$(echo "$line" | awk -F ' ;; ' '{ print $2 }')
    edit=$(echo "$line" | awk -F ' ;; ' '{ print $3 }')
    what=$(echo "$line" | awk -F ' ;; ' '{ print $4 }')
    program=$test
    target=$test
    case "$test" in *.sh) program=../$test target=all ;; esac
    tried=$((tried + 1))
    cp "../$file" original
    sed -i "$edit" "../$file"
    if cmp -s original "../$file"; then
        echo "STALE: $file: $edit changes nothing"
        lived=$((lived + 1))
    elif ! make -j"$jobs" "$target" >mutant.log 2>&1 </dev/null; then
        echo "BROKEN: $file: $what: does not compile"
        tail -n 5 mutant.log
        lived=$((lived + 1))
    elif CK_DEFAULT_TIMEOUT=20 srcdir=.. timeout 120 "$program" >mutant.log 2>&1 \
        </dev/null; then
        echo "LIVES: $file: $what"
        lived=$((lived + 1))
    else
        echo "caught by $(basename "$test"): $what"
    fi
    # A fresh time stamp, so that make sees the repair.
    cat original >"../$file"
done <<END
$(grep -E "$pattern" ../tests/mutants.txt | awk -v share="${SHARE:-1}" \
    -v day="$(date +%j)" '(NR + day) % share == 0')
END
echo "$tried mutants, $lived not caught"
[ "$lived" -eq 0 ]
