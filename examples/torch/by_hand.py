# SPDX-License-Identifier: BSD-3-Clause
"""A training loop by hand, with DDP or FSDP2:
    torchrun --nproc-per-node 2 examples/torch/by_hand.py [ddp|fsdp2]
One process or several: the losses are the same."""

import contextlib
import sys

import torch
import torch.distributed as dist
from task import VOCAB, TinyModel, micro_batches
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import tally.torch


def main(framework="ddp", steps=5):
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    model = TinyModel()
    if framework == "ddp":
        model = DistributedDataParallel(model)
    else:
        fully_shard(model.inner)
        fully_shard(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

    opened = tally.torch.open()
    group = tally.torch.group(opened)  # DDP and FSDP average over all ranks
    loss_fn = tally.torch.TallyLoss(VOCAB, group)

    for step in range(steps):
        batches = micro_batches(step, rank, ranks)
        loss_fn.begin([labels for _, labels in batches])
        for index, (inputs, labels) in enumerate(batches):
            last = index == len(batches) - 1
            silent = framework == "ddp" and not last
            with model.no_sync() if silent else contextlib.nullcontext():
                loss_fn(model(inputs), labels).backward()
        loss_fn.end()
        optimizer.step()
        optimizer.zero_grad()
        totals = loss_fn.result(wait=True).channels[0]  # only to print it
        if rank == 0:
            print(f"step {step} tokens {totals.count} loss {totals.mean:.4f}")

    loss_fn.close()
    group.close()
    opened.close()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
