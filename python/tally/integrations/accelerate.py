# SPDX-License-Identifier: BSD-3-Clause
"""accelerate: a loss that undoes what an Accelerator does with gradients.

accelerator.backward() divides by gradient_accumulation_steps, also where a step has
fewer micro-batches, and DDP, FSDP or DeepSpeed below average over ranks.

    loss_fn = AccelerateLoss(accelerator, vocab, tally.torch.open())
    loss_fn.begin(labels_of_all_micro_batches)
    for batch in micro_batches:
        with accelerator.accumulate(model):
            accelerator.backward(loss_fn(model(batch.inputs), batch.labels))
            ...
    loss_fn.end()

A loop that reads the batches of a step before it takes the first must say
GradientAccumulationPlugin(sync_with_dataloader=False): else the loader's last batch,
once read, ends the accumulation of those before it.
"""

from __future__ import annotations

from typing import Any

import tally.torch
from tally._abi import Convention
from tally.group import Tally


class AccelerateLoss(tally.torch.TallyLoss):
    """A TallyLoss over the ranks of an Accelerator that hold different tokens: all,
    or those of its mesh "dp_cp". Collective over them; owns its group.

    options: those of TallyLoss, but not what the Accelerator says: device,
        convention, divisor.
    """

    def __init__(
        self, accelerator: Any, vocab: int, opened: Tally, **options: Any
    ) -> None:
        mesh = accelerator.torch_device_mesh
        self.group = tally.torch.group(
            opened,
            None if mesh is None else mesh["dp_cp"].get_group(),
            key="accelerate",
        )
        super().__init__(
            vocab,
            self.group,
            convention=Convention.SCHEDULE,
            divisor=accelerator.gradient_accumulation_steps,
            device=accelerator.device,
            **options,
        )

    def close(self) -> None:
        super().close()
        self.group.close()
