#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Replica groups from Python: votes, a membership and witnesses.
. "${srcdir:-.}/tests/harness/shell.sh"
. "${srcdir:-.}/tests/python/shell.sh"
command -v python3 >/dev/null || check_skip "there is no python3"
ls .libs/libtally-ucx.so .libs/libtally-ofi.so >/dev/null 2>&1 ||
    check_skip "there is no transport between replicas"
unittest_files python3 "$source_dir/tests/python/test_replica.py"
