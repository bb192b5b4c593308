# SPDX-License-Identifier: BSD-3-Clause
"""torchft: replica groups of one process each, which weigh by their tokens:
    python examples/torch/torchft_groups.py [GROUPS]"""

import sys
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from task import VOCAB, TinyModel, micro_batches
from torchft import Manager, ProcessGroupGloo
from torchft.coordination import LighthouseServer

import tally
import tally.torch
from tally.integrations.torchft import ReplicaLoss


def replica(index, groups, lighthouse, steps=5):
    model = TinyModel()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    store = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    patience = timedelta(seconds=60)
    manager = Manager(
        pg=ProcessGroupGloo(timeout=patience),
        load_state_dict=model.load_state_dict,
        state_dict=model.state_dict,
        min_replica_size=groups,
        use_async_quorum=False,
        timeout=patience,
        rank=0,
        world_size=1,
        store_addr="localhost",
        store_port=store.port,
        lighthouse_addr=lighthouse,
        replica_id=f"replica_{index}",
        hostname="localhost",
    )
    # The ranks of one replica group: here, this process. Of several ranks it is
    # tally.torch.group(tally.torch.open()), if torch.distributed has just them.
    opened = tally.Tally(allgather=lambda part: [part], rank=0, world_size=1)
    group = tally.Group(opened)
    loss_fn = ReplicaLoss(manager, tally.torch.TallyLoss(VOCAB, group))

    for step in range(steps):
        batches = micro_batches(step, index, groups)
        manager.start_quorum()
        loss_fn.begin([labels for _, labels in batches])
        for inputs, labels in batches:
            loss_fn(model(inputs), labels).backward()
        loss_fn.end()
        for parameter in model.parameters():
            manager.allreduce(parameter.grad).wait()
        committed = manager.should_commit()
        if committed:
            optimizer.step()
        optimizer.zero_grad()
        if index == 0:
            size = sum(each.norm() for each in model.parameters()).item()
            print(f"step {step} committed {committed} norm {size:.3f}", flush=True)

    loss_fn.loss.close()
    group.close()
    opened.close()
    manager.shutdown()


def main(groups=2):
    lighthouse = LighthouseServer(bind="localhost:0", min_replicas=groups)
    try:
        multiprocessing.spawn(
            replica, (groups, lighthouse.address()), nprocs=groups
        )
    finally:
        lighthouse.shutdown()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
