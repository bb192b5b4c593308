#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# tally.torch on one rank, and on tensor-parallel ones; and the loss functions of
# DeepSpeed and Megatron.
. "${srcdir:-.}/tests/harness/shell.sh"
. "${srcdir:-.}/tests/python/shell.sh"
python_torch_required
unittest_files "$torch_python" "$source_dir/tests/python/test_torch.py" \
    "$source_dir/tests/python/test_vocab_parallel.py" \
    "$source_dir/tests/python/test_engine_losses.py" \
    "$source_dir/tests/python/test_megatron.py" \
    "$source_dir/tests/python/test_megatron_experts.py"
