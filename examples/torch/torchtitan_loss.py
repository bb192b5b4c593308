# SPDX-License-Identifier: BSD-3-Clause
"""torchtitan's loss in the shape in which its trainer calls it, under FSDP2 that
sums gradients as torchtitan's does:
    torchrun --nproc-per-node 2 examples/torch/torchtitan_loss.py"""

import torch
import torch.distributed as dist
from task import VOCAB, TinyModel, micro_batches
from torch.distributed.fsdp import fully_shard

import tally.torch
from tally.integrations.torchtitan import TallyLoss


def main(steps=5):
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    model = TinyModel()
    fully_shard(model)
    model.set_gradient_divide_factor(1.0)
    model.set_force_sum_reduction_for_comms(True)  # gloo has no other sum
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

    opened = tally.torch.open()
    group = tally.torch.group(opened)
    loss_fn = TallyLoss.Config(vocab=VOCAB).build()
    loss_fn.attach(group)

    for step in range(steps):
        batches = micro_batches(step, rank, ranks)
        loss_fn.begin([labels for _, labels in batches])
        for inputs, labels in batches:
            loss, _metrics = loss_fn(model(inputs), labels)
            loss.backward()
        loss_fn.end()
        optimizer.step()
        optimizer.zero_grad()
        totals = loss_fn.loss.result(wait=True).channels[0]
        if rank == 0:
            print(f"step {step} tokens {totals.count} loss {totals.mean:.4f}")

    loss_fn.loss.close()
    group.close()
    opened.close()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
