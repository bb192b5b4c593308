#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Builds a program of steps on a GPU with nvcc and gcc alone: the core with the
# kernels, without what configure finds (instruction sets, transports between
# nodes, etcd); and libtally-nccl.so beside it, where there is an NCCL. FATBIN:
# kernels that were built before; NCCL_HOME: with include/nccl.h and lib, else a
# wheel's of python3.
#     tests/gpu/build_steps.sh BUILD PROGRAM SOURCE...
set -eu
cd "$(dirname "$0")/../.."
mkdir -p "$1"
build=$(cd "$1" && pwd)
program=$2
shift 2
fatbin=${FATBIN:-$build/tally.fatbin}

[ -n "${FATBIN:-}" ] ||
    "${NVCC:-nvcc}" -std=c++17 -O3 -arch="${GPU_ARCH:-native}" -I. -Isrc \
        -fatbin -o "$fatbin" kernels/tally.cu
{
    find src -name '*.c' ! -path 'src/transport/[nou]*/*' ! -path '*/etcd/*' \
        ! -path '*/sim/*' ! -name 'host_row_avx*'
    printf '%s\n' kernels/fatbin.c "$@"
} >"$build/sources"
rm -f "$build"/*.o
: >"$build/config.h"
while read -r source; do
    printf '%s %s\n' "$source" "$(echo "$source" | tr / _).o"
done <"$build/sources" |
    xargs -P "$(nproc)" -L 1 sh -c '
        build=$1
        fatbin=$2
        exec ${CC:-gcc} -std=gnu11 -O2 -pthread -ffp-contract=off \
            -I"$build" -D_GNU_SOURCE -DHAVE_KERNELS -DPACKAGE_VERSION=\"gpucheck\" \
            "-DKERNELS_FATBIN=\"$fatbin\"" -Iinclude -Isrc -I. -Itests \
            -c "$3" -o "$build/$4"' sh "$build" "$fatbin"
${CC:-gcc} -pthread -o "$build/$program" "$build"/*.o -lm -ldl

nccl=$(tests/gpu/nccl_home.sh)
[ -z "$nccl" ] ||
    ${CC:-gcc} -std=gnu11 -O2 -pthread -shared -fPIC -D_GNU_SOURCE -Iinclude \
        -Isrc -isystem "$nccl/include" -isystem src/transport/nccl/cuda_minimal \
        "-DNCCL_FOLDER=\"$nccl/lib\"" -Wl,-z,nodelete \
        -o "$build/libtally-nccl.so" src/transport/nccl/*.c -ldl
