# SPDX-License-Identifier: BSD-3-Clause
"""DeepSpeed: a loss that undoes what an engine does with gradients.

engine.backward() divides by gradient_accumulation_steps, and the engine averages
over its data-parallel ranks (ZeRO 0 to 3), or sums ("gradient_allreduce_op").

    engine, *_ = deepspeed.initialize(model=model, ...)
    loss_fn = DeepSpeedLoss(engine, vocab, tally.torch.open())
    loss_fn.begin(labels_of_all_micro_batches)
    for batch in micro_batches:
        engine.backward(loss_fn(engine(batch.inputs), batch.labels))
        if engine.is_gradient_accumulation_boundary():
            loss_fn.end()
        engine.step()

Not for a PipelineEngine, which takes its batches itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import torch
import torch.distributed as dist

import tally.torch
from tally._abi import Convention
from tally.errors import InvalidError
from tally.group import Tally


class DeepSpeedLoss(tally.torch.TallyLoss):
    """A TallyLoss over the ranks of an engine that hold different tokens: data and
    sequence parallel. Collective over them; owns its group.

    options: those of TallyLoss, but not what the engine says: device, convention.
    """

    def __init__(
        self, engine: Any, vocab: int, opened: Tally, **options: Any
    ) -> None:
        # Gradients of the parts of one sequence are summed.
        averaged = (
            dist.get_world_size(engine.seq_data_parallel_group)
            // engine.sequence_parallel_size
        )
        self.group = tally.torch.group(
            opened,
            engine.seq_data_parallel_group,
            average_ranks=averaged if engine.gradient_average else 1,
            key="deepspeed",
        )
        super().__init__(
            vocab,
            self.group,
            convention=Convention.AVERAGE_ALL,
            device=engine.device,
            **options,
        )
        self.engine = engine

    def begin(
        self,
        labels: Sequence[Optional[torch.Tensor]],
        weights: Optional[Sequence[Optional[torch.Tensor]]] = None,
    ) -> None:
        """As TallyLoss, with as many micro-batches as the engine accumulates."""
        steps = self.engine.gradient_accumulation_steps()
        if len(labels) != steps:
            raise InvalidError(
                f"labels of {len(labels)} micro-batches for an engine that divides "
                f"by gradient_accumulation_steps = {steps}"
            )
        super().begin(labels, weights)

    def close(self) -> None:
        super().close()
        self.group.close()
