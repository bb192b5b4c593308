#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Measures the kernels on this machine's GPU and writes what bench/gpu.py makes
# of it: this card's table in bench/GPU.md. Needs nvcc and python3 alone.
#     bench/gpu.sh [BUILD]
set -eu
cd "$(dirname "$0")/.."
build=${1:-build-gpu}
mkdir -p "$build"
${NVCC:-nvcc} -std=c++17 -O3 -I. -Isrc -arch="${GPU_ARCH:-native}" \
    -o "$build/bench" bench/gpu.cu
"$build/bench" | tee "$build/gpu.json"
python3 bench/gpu.py "$build/gpu.json" bench/GPU.md >"$build/GPU.md"
cp "$build/GPU.md" bench/GPU.md
