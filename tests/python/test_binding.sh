#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The Python package over ctypes, by the system's Python and nothing else.
. "${srcdir:-.}/tests/harness/shell.sh"
. "${srcdir:-.}/tests/python/shell.sh"
command -v python3 >/dev/null || check_skip "there is no python3"
unittest_files python3 "$source_dir/tests/python/test_abi.py" \
    "$source_dir/tests/python/test_binding.py"
