# SPDX-License-Identifier: BSD-3-Clause
"""torchft 0.2: replica groups weigh by their tokens, not one like the other.

Manager.allreduce averages over the groups that take part, takes no integers, and
after an error gives back what it was given; should_commit() then discards the
step. So the weight of a group is averaged by the same manager in the same step:
what was counted and what is applied are of the same groups, or of no step.

    loss_fn = ReplicaLoss(manager, tally.torch.TallyLoss(vocab, group))
    manager.start_quorum()
    loss_fn.begin(labels_of_all_micro_batches)
    ... loss_fn(logits, labels).backward(); the manager averages gradients ...
    loss_fn.end()
    if manager.should_commit(): optimizer.step()
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import torch

from tally.torch import TallyLoss


class ReplicaLoss(torch.nn.Module):
    """manager: a torchft.Manager. loss: over the ranks of this replica group, with
    the convention of what happens *within* the group."""

    def __init__(self, manager: Any, loss: TallyLoss) -> None:
        super().__init__()
        self.manager = manager
        self.loss = loss
        self.factor: Optional[torch.Tensor] = None

    def begin(
        self,
        labels: Sequence[Optional[torch.Tensor]],
        weights: Optional[Sequence[Optional[torch.Tensor]]] = None,
    ) -> None:
        """Counts within the group, then averages the groups' weights. After
        manager.start_quorum()."""
        self.loss.begin(labels, weights)
        scale = self.loss.scale
        # The weight of the group, up to a factor that all groups share. NaN, of
        # a failed group, stays NaN.
        weight = torch.where(scale == 0, torch.zeros_like(scale), 1 / scale)
        mean = weight.reshape(1).clone()
        self.manager.allreduce(mean).wait()
        self.factor = torch.where(
            mean[0] == 0, torch.zeros_like(weight), weight / mean[0]
        )

    def forward(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        weights: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        assert self.factor is not None, "begin the step first"
        return self.loss(logits, labels, weights) * self.factor  # type: ignore[no-any-return]

    def end(self) -> None:
        self.factor = None
        self.loss.end()
