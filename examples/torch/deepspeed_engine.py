# SPDX-License-Identifier: BSD-3-Clause
"""A DeepSpeed engine, with ZeRO, whose gradients are averaged or summed:
    torchrun --nproc-per-node 2 examples/torch/deepspeed_engine.py [STAGE [sum]]
DS_ACCELERATOR=cpu where there is a GPU that is not wanted."""

import logging
import sys

import deepspeed
import torch
import torch.distributed as dist
from task import SEQUENCES, VOCAB, TinyModel, micro_batches

import tally.torch
from tally.integrations.deepspeed import DeepSpeedLoss

# Its own all-reduce of a CPU, for inference, would be compiled here.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def main(stage="2", operation="mean", steps=5):
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    model = TinyModel()
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=1.0),
        config={
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": SEQUENCES // ranks,
            "gradient_allreduce_op": operation,
            "zero_allow_untested_optimizer": True,
            "zero_optimization": {"stage": int(stage)},
        },
    )
    opened = tally.torch.open()
    loss_fn = DeepSpeedLoss(engine, VOCAB, opened)

    for step in range(steps):
        batches = micro_batches(step, rank, ranks)
        loss_fn.begin([labels for _, labels in batches])
        for inputs, labels in batches:
            engine.backward(loss_fn(engine(inputs), labels))
            if engine.is_gradient_accumulation_boundary():
                loss_fn.end()
            engine.step()
        totals = loss_fn.result(wait=True).channels[0]  # only to print it
        if rank == 0:
            print(f"step {step} tokens {totals.count} loss {totals.mean:.4f}")

    loss_fn.close()
    opened.close()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
