#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The fuzz targets take every input of their corpora.
. "${srcdir:-.}/tests/harness/shell.sh"

for name in config leaders replica wire; do
    check "all of corpus-$name is taken" \
        "tests/fuzz/replay_$name" "${srcdir:-.}/tests/fuzz/corpus-$name"
done
check_end
