# SPDX-License-Identifier: BSD-3-Clause
"""A loop with accelerate, under DDP or FSDP2, which it has on GPUs alone:
    torchrun --nproc-per-node 2 examples/torch/accelerate_loop.py ddp|fsdp2"""

import itertools
import os
import sys

import torch
from accelerate import Accelerator
from accelerate.utils import (
    FullyShardedDataParallelPlugin,
    GradientAccumulationPlugin,
)
from task import SEQUENCES, VOCAB, Sequences, TinyModel

import tally.torch
from tally.integrations.accelerate import AccelerateLoss


def main(kind, steps=5):
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    count = SEQUENCES // ranks  # micro-batches of a step and rank
    accelerator = Accelerator(
        cpu=True,  # leave it out for GPUs, and for FSDP2
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=count,
            sync_with_dataloader=False,  # a step's batches are read at once
        ),
        fsdp_plugin=FullyShardedDataParallelPlugin(fsdp_version=2)
        if kind == "fsdp2"
        else None,
    )
    model = TinyModel()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    loader = torch.utils.data.DataLoader(Sequences(steps))
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    opened = tally.torch.open()
    loss_fn = AccelerateLoss(accelerator, VOCAB, opened)

    reader = iter(loader)
    for step in range(steps):
        batches = list(itertools.islice(reader, count))
        loss_fn.begin([batch["labels"] for batch in batches])
        for batch in batches:
            with accelerator.accumulate(model):
                logits = model(batch["input_ids"])
                accelerator.backward(loss_fn(logits, batch["labels"]))
                optimizer.step()
                optimizer.zero_grad()
        loss_fn.end()
        totals = loss_fn.result(wait=True).channels[0]  # only to print it
        accelerator.print(
            f"step {step} tokens {totals.count} loss {totals.mean:.4f}"
        )

    loss_fn.close()
    opened.close()
    accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])
