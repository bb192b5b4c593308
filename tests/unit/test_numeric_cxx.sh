#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The headers of src/numeric are C++ too, and no compiler, optimisation or
# contraction changes a bit of what they give.
srcdir=${srcdir:-$(dirname "$0")/../..}
. "$srcdir/tests/harness/shell.sh"

warnings="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror"
command -v g++ >/dev/null || check_skip "there is no g++"

for header in "$srcdir"/src/numeric/*.h; do
    echo "#include \"numeric/$(basename "$header")\""
done >"$scratch/all.h"
want=$(tests/unit/numeric_bits)
check "as C they give a digest" [ -n "$want" ]

# Compiles as C++ and runs: the digest in $got.
bits() { # COMPILER FLAGS...
    "$@" -I"$srcdir/src" -include "$scratch/all.h" -o "$scratch/bits" \
        -x c++ "$srcdir/tests/unit/numeric_bits.c" && got=$("$scratch/bits")
}

for compiler in g++ clang++-16 clang++; do
    command -v $compiler >/dev/null || continue
    for flags in "-std=c++17 -O2" "-std=c++11 -O0" \
        "-std=c++17 -O3 -march=native -ffp-contract=fast"; do
        got=
        # shellcheck disable=SC2086
        check "$compiler $flags takes them without a warning" \
            bits $compiler $flags $warnings
        check_equal "$compiler $flags gives the same bits as C" "$want" "$got"
    done
done
check_end
