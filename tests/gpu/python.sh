#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The Python package on this machine's GPU, on one rank and on two that share it,
# a line a case. Needs a python3 with PyTorch for CUDA, and the library:
#     TALLY_LIBRARY=build/.libs/libtally.so tests/gpu/python.sh
set -u
cd "$(dirname "$0")/../.."
PYTHONPATH=$PWD/python${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1
failed=0

python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' \
    2>/dev/null ||
    { echo "skipped: there is no PyTorch that sees a GPU"; exit 77; }
for file in test_device test_gpu; do
    echo "== $file, one rank"
    timeout 200 python3 tests/python/run.py "tests/python/$file.py" || failed=1
done
echo "== test_gpu, two ranks on one GPU"
timeout 200 python3 -m torch.distributed.run --standalone --nproc-per-node 2 \
    tests/python/run.py tests/python/test_gpu.py || failed=1
exit $failed
