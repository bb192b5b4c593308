#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Measures what the order on a stream costs on this machine's GPUs and writes what
# bench/gpu.py makes of it: this card's table in bench/GPU_STEPS.md. Where there
# are two GPUs, two ranks have one each. Needs nvcc, gcc and python3 alone, and
# for what is over NCCL one that tests/gpu/nccl_home.sh finds. COUNT: of steps.
#     bench/gpu_steps.sh [BUILD]
# What make bench-gpu-steps has built is not built again: PROGRAM, and PLUGINS,
# the folder of libtally-nccl.so.
set -eu
cd "$(dirname "$0")/.."
build=${1:-build-gpu/bench}
mkdir -p "$build"
build=$(cd "$build" && pwd)
[ -n "${PROGRAM:-}" ] ||
    tests/gpu/build_steps.sh "$build" gpu_steps bench/gpu_steps.c \
        bench/gpu_work.c tests/gpu/steps_nccl.c tests/gpu/steps_rank.c \
        tests/harness/processes.c
program=${PROGRAM:-$build/gpu_steps}
plugins=${PLUGINS:-$build}
gpus=$("$program" gpus)
nccl=$(tests/gpu/nccl_home.sh)
failed=0

card=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader |
    head -n 1) || card=
[ -n "$card" ] || card="no card, no driver"
printf '{"device": "%s", "how": ", driver %s, %s"}\n' "${card%, *}" \
    "${card##*, }" "$gpus GPU$([ "$gpus" = 1 ] || echo s)" >"$build/steps.json"

# measure NAME RANKS VARIABLE=VALUE...
measure() {
    name=$1
    ranks=$2
    shift 2
    env "$@" "$program" "${COUNT:-4000}" "$ranks" >"$build/way.json" || {
        note "Of \`$name\` not all was measured."
        failed=1
    }
    sed "s/^{/{\"way\": \"$name\", /" "$build/way.json" |
        tee -a "$build/steps.json"
}

note() { # SENTENCE
    echo "{\"note\": \"$1\"}" | tee -a "$build/steps.json"
}

for wait in kernel memop hostfunc; do
    measure $wait 1 TALLY_STREAM_WAIT=$wait
done
if [ "$gpus" -lt 2 ]; then
    note "Nothing was measured between GPUs, over NCCL: there is one."
else
    measure "2 ranks, shm" 2 TALLY_TRANSPORT=shm
    if [ -z "$nccl" ] || [ ! -e "$plugins/libtally-nccl.so" ]; then
        note "Nothing was measured over NCCL: there is none, or it is not built."
    else
        export LD_LIBRARY_PATH="$nccl/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
        measure "2 ranks, nccl" 2 TALLY_TRANSPORT=nccl \
            TALLY_PLUGIN_PATH="$plugins"
        measure "2 ranks, nccl, the trainer's" 2 TALLY_TRANSPORT=nccl ADOPT=1 \
            TALLY_PLUGIN_PATH="$plugins"
    fi
fi
python3 bench/gpu.py "$build/steps.json" bench/GPU_STEPS.md >"$build/report.md"
cp "$build/report.md" bench/GPU_STEPS.md
exit $failed
