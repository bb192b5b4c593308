#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The migration guide shows what the tests run.
. "${srcdir:-.}/tests/harness/shell.sh"
. "${srcdir:-.}/tests/python/shell.sh"
command -v python3 >/dev/null || check_skip "there is no python3"
unittest_files python3 "$source_dir/tests/python/test_guide.py"
