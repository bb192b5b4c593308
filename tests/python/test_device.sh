#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The Python package in the memory of a CUDA device: on one rank and on two, by a
# driver that runs the kernels on the emulator.
. "${srcdir:-.}/tests/harness/shell.sh"
. "${srcdir:-.}/tests/python/shell.sh"
command -v python3 >/dev/null || check_skip "there is no python3"
use_cuda_double

cases() {
    timeout 900 "$@" python3 "$source_dir/tests/python/run.py" \
        "$source_dir/tests/python/test_device.py" >"$scratch/out" 2>&1 || {
        cat "$scratch/out"
        return 1
    }
}

check "all cases pass on one rank" cases env
check "all cases pass on two ranks" cases tools/tally_run -n 2 --
check "a device that is not there is refused with the driver's word" \
    sh -c 'CUDA_DOUBLE_DEVICES=0 python3 -c "
import tally
with tally.Tally() as opened, tally.Group(opened) as group:
    tally.Step(group, 8, device=\"cuda:0\")
" 2>&1 | grep -q "UnsupportedError: cuInit"'
check_end
