#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Measures the kernels on this machine's GPU and writes what bench/gpu.py makes
# of it: this card's table in bench/GPU.md. Needs nvcc and python3 alone; peers are
# measured, too, where python3 has PyTorch, Liger or quack.
#     bench/gpu.sh [BUILD]
set -eu
cd "$(dirname "$0")/.."
build=${1:-build-gpu}
mkdir -p "$build"

${NVCC:-nvcc} -std=c++17 -O3 -I. -Isrc -arch="${GPU_ARCH:-native}" \
    -o "$build/bench" bench/gpu.cu
"$build/bench" | tee "$build/gpu.json"
driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | sed -n 1p)
cuda=$(${NVCC:-nvcc} --version | sed -n 's/.*release.*, V\([0-9.]*\).*/\1/p')
printf '{"versions": {"driver": "%s", "CUDA": "%s"}}\n' "$driver" "$cuda" |
    tee -a "$build/gpu.json"
if python3 -c 'import torch' 2>"$build/peers.log"; then
    python3 bench/gpu_peers.py 2>"$build/peers.log" | tee -a "$build/gpu.json"
    grep '_peers, V' "$build/peers.log" >&2 || true
fi
python3 bench/gpu.py "$build/gpu.json" bench/GPU.md >"$build/report.md"
cp "$build/report.md" bench/GPU.md
