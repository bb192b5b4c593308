#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The example trainer with its loss on a GPU, which is the double of libcuda
# here, has the curve that it has on the host: equal totals, losses within what
# the kernels promise. STEPS: of each run; DOUBLE=no: on this machine's GPU.
srcdir=${srcdir:-$(dirname "$0")/../..}
. "$srcdir/tests/harness/shell.sh"

for name in $(env | sed -n 's/^\(TALLY_[A-Z0-9_]*\)=.*/\1/p'); do
    unset "$name"
done
use_cuda_double
# They keep gigabytes for the stacks of so many blocks.
! grep -q -- '-fsanitize=' config.status ||
    check_skip "this is a build for a sanitizer"
texts=$(echo "$srcdir"/examples/trainer/*.[ch])
runs=0

# shellcheck disable=SC2086
train() { # NAME OPTION...
    name=$1
    shift
    runs=$((runs + 1))
    timeout 900 tools/tally_run -n 2 --timeout 800 examples/trainer/trainer \
        --tally .libs/libtally.so --steps "${STEPS:-6}" --documents 2 \
        --shared "tally-test.$$.$runs" --curve "$scratch/$name.tsv" "$@" \
        $texts >"$scratch/out" 2>&1
    status=$?
    cat "$scratch/out"
    return $status
}

# Of two curves: columns 2 and 5 are N_total and the mean loss. In the first step
# parameters are equal, so that the means of losses are as near as each loss: 2e-6
# and 2^-22 of it. From then on parameters are those of gradients that were rounded
# on each device, one or two units in the last place apart at times, which Adam
# divides by their own size: a small one moves a parameter as a large one does, and
# steps add up. There 1e-5 of the loss follows from no promise, and finds gradients
# that are wrong.
same_curve() {
    paste "$1" "$2" | awk -v steps="${STEPS:-6}" '
        /^#/ { next }
        $2 != $10 { print "step", $1, "counts", $2, "and", $10; wrong = 1 }
        { far = $5 - $13; if (far < 0) far = -far }
        { near = $1 == 1 ? 2e-6 + $5 / 4194304 : $5 * 1e-5 }
        $1 == 1 { print "step 1: losses", far, "apart, of", near; first = 1 }
        far > near { print "step", $1, "loses", $5, "and", $13; wrong = 1 }
        { rows++ }
        END { exit wrong || !first || rows != steps }'
}

for order in first late; do
    check "order $order: it trains on the host" train host --order $order
    check "order $order: it trains on the GPU" \
        train cuda --order $order --device cuda
    check "order $order: the curves agree" \
        same_curve "$scratch/host.tsv" "$scratch/cuda.tsv"
done
if [ "${DOUBLE:-yes}" = yes ]; then
    CUDA_DOUBLE_DEVICES=0
    export CUDA_DOUBLE_DEVICES
    check "without a GPU it does not train" not train none --device cuda
    check "without a GPU it says so" \
        grep -q "trainer: --device cuda: cuInit: CUDA error 100" "$scratch/out"
    unset CUDA_DOUBLE_DEVICES
    CUDA_DOUBLE_FAIL=cuMemcpyDtoHAsync_v2:2:700
    export CUDA_DOUBLE_FAIL
    check "an error of CUDA ends it" not train failed --device cuda
    check "an error of CUDA is named" \
        grep -q "trainer: --device cuda: cuMemcpyDtoHAsync: CUDA error 700" \
        "$scratch/out"
fi
check_end
