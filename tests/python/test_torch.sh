#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# tally.torch on one rank; and Megatron's loss function.
. "${srcdir:-.}/tests/harness/shell.sh"
. "${srcdir:-.}/tests/python/shell.sh"
python_torch_required
unittest_files "$torch_python" "$source_dir/tests/python/test_torch.py" \
    "$source_dir/tests/python/test_megatron.py"
