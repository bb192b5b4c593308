#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The headers of src/numeric are CUDA too, for host and device; where a device
# is, it gives the same bits.
srcdir=${srcdir:-$(dirname "$0")/../..}
. "$srcdir/tests/harness/shell.sh"

command -v nvcc >/dev/null || check_skip "there is no nvcc"

for header in "$srcdir"/src/numeric/*.h; do
    echo "#include \"numeric/$(basename "$header")\""
done >"$scratch/all.h"
want=$(tests/unit/numeric_bits)
check "nvcc takes them without a warning" \
    nvcc -x cu -std=c++17 -O2 -Werror all-warnings \
    -Xcompiler -Wall,-Wextra,-Wshadow,-Werror -I"$srcdir/src" \
    -include "$scratch/all.h" -o "$scratch/bits" \
    "$srcdir/tests/unit/numeric_bits.c"
got=$("$scratch/bits")
check_equal "a device, if there is one, gives the host's bits" 0 $?
check_equal "nvcc's host compiler gives the same bits as C" "$want" "$got"
check_end
