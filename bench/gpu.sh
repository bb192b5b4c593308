#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Measures the kernels on this machine's GPU and writes what bench/gpu.py makes
# of it: this card's table in bench/GPU.md. Needs nvcc and python3 alone; peers are
# measured, too, where python3 has PyTorch, Liger or quack.
#     bench/gpu.sh [BUILD]
# With the path of bench/gpu_steps, which make bench-gpu-steps builds: what the
# order on a stream costs, instead, in bench/GPU_STEPS.md.
#     bench/gpu.sh --steps PROGRAM [BUILD]
set -eu
steps=
if [ "${1:-}" = --steps ]; then
    steps=$2
    shift 2
fi
cd "$(dirname "$0")/.."
build=${1:-build-gpu}
mkdir -p "$build"

# report RESULTS.json FILE.md
report() {
    python3 bench/gpu.py "$1" "$2" >"$build/report.md"
    cp "$build/report.md" "$2"
}

if [ -n "$steps" ]; then
    nvidia-smi --query-gpu=name,driver_version --format=csv,noheader |
        sed -n '1s/\(.*\), \(.*\)/{"device": "\1", "how": ", driver \2"}/p' \
            >"$build/steps.json"
    # measure NAME [RANKS]
    measure() {
        "$steps" "${COUNT:-4000}" "${2:-1}" |
            sed "s/^{/{\"wait\": \"$1\", /" | tee -a "$build/steps.json"
    }
    for wait in kernel memop hostfunc; do
        TALLY_STREAM_WAIT=$wait measure $wait
    done
    if [ "$(nvidia-smi -L | wc -l)" -gt 1 ]; then
        TALLY_TRANSPORT=shm measure "2 GPUs, shm" 2
        LD_LIBRARY_PATH="$(tests/gpu/nccl_home.sh)/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" \
            TALLY_PLUGIN_PATH="$(dirname "$steps")/../.libs" \
            TALLY_TRANSPORT=nccl ADOPT=1 measure "2 GPUs, nccl" 2
    fi
    report "$build/steps.json" bench/GPU_STEPS.md
    exit 0
fi
${NVCC:-nvcc} -std=c++17 -O3 -I. -Isrc -arch="${GPU_ARCH:-native}" \
    -o "$build/bench" bench/gpu.cu
"$build/bench" | tee "$build/gpu.json"
if python3 -c 'import torch' 2>"$build/peers.log"; then
    python3 bench/gpu_peers.py 2>"$build/peers.log" | tee -a "$build/gpu.json"
    grep '_peers, V' "$build/peers.log" >&2 || true
fi
report "$build/gpu.json" bench/GPU.md
