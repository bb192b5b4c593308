#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The examples: on one rank and on two they train the same model.
. "${srcdir:-.}/tests/harness/shell.sh"
. "${srcdir:-.}/tests/python/shell.sh"
python_torch_required
examples=$source_dir/examples/torch
OMP_NUM_THREADS=1
DS_ACCELERATOR=cpu
# No network: models are made, not fetched.
HF_HUB_OFFLINE=1
export OMP_NUM_THREADS DS_ACCELERATOR HF_HUB_OFFLINE

# ranks N FILE [ARGUMENT]: under torchrun, the lines that say how it went.
ranks() {
    number=$1
    shift
    timeout 300 "$torch_python" -m torch.distributed.run --standalone \
        --nproc-per-node "$number" "$examples/$@" 2>"$scratch/errors" |
        grep '^step' || tail -n 20 "$scratch/errors"
}

groups() {
    timeout 300 "$torch_python" "$examples/torchft_groups.py" "$1" \
        2>"$scratch/errors" | grep '^step' || tail -n 20 "$scratch/errors"
}

one=$(ranks 1 by_hand.py ddp)
check "by hand, five steps are trained" \
    [ "$(echo "$one" | grep -c '^step [0-4] tokens 22 loss [0-9.]*$')" = 5 ]
check_equal "DDP on two ranks is as on one" "$one" "$(ranks 2 by_hand.py ddp)"
check_equal "so is FSDP2" "$one" "$(ranks 2 by_hand.py fsdp2)"
if has accelerate; then
    check_equal "so is a loop of accelerate" "$one" \
        "$(ranks 2 accelerate_loop.py ddp)"
    check_equal "and with accelerate's FSDP2" "$one" "$(ranks 2 \
        ../../tests/python/accelerate_on_host.py "$examples/accelerate_loop.py")"
fi
if has torchtitan; then
    check_equal "so is torchtitan's loss" "$one" "$(ranks 2 torchtitan_loss.py)"
fi
if has deepspeed; then
    check_equal "so is an engine of DeepSpeed" "$one" \
        "$(ranks 2 deepspeed_engine.py 0)"
    check_equal "with ZeRO 2, and gradients that are summed" "$one" \
        "$(ranks 2 deepspeed_engine.py 2 sum)"
    check_equal "and with ZeRO 3" "$one" "$(ranks 2 deepspeed_engine.py 3)"
fi
if has transformers; then
    one=$(ranks 1 transformers_trainer.py)
    check "transformers' Trainer trains four steps" \
        [ "$(echo "$one" | grep -c '^step [0-3] tokens 22 loss')" = 4 ]
    check "and evaluates the model" \
        [ "$(echo "$one" | grep -c '^step 4 evaluates to 3\.[0-9]*$')" = 1 ]
    check_equal "the Trainer on two ranks is as on one" "$one" \
        "$(ranks 2 transformers_trainer.py)"
fi
if has torchft; then
    one=$(groups 1)
    check "a replica group of torchft commits five steps" \
        [ "$(echo "$one" | grep -c '^step [0-4] committed True')" = 5 ]
    check_equal "two groups of uneven tokens are as one" "$one" "$(groups 2)"
fi
check_end
