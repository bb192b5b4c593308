# SPDX-License-Identifier: BSD-3-Clause
"""The losses that trainers bring along, called as those trainers call them; for
comparison. --loss tally.conformance.peers:Transformers and so on."""

from __future__ import annotations

from typing import Any, Optional

import torch
import torch.distributed as dist

from tally._abi import IGNORE_INDEX
from tally.conformance.losses import Loss, Tensors, Weights


def _tokens(labels: Tensors) -> torch.Tensor:
    return torch.stack([(each != IGNORE_INDEX).sum() for each in labels]).sum()


class Transformers(Loss):
    """Trainer.compute_loss with its default average_tokens_across_devices: the
    count over all processes with other data, the loss times their number."""

    takes_weights = False

    def begin(self, labels: Tensors, weights: Weights) -> None:
        count = _tokens(labels)
        dist.all_reduce(count, group=self.setting.token_group)
        self.items = count
        ranks = dist.get_world_size(self.setting.token_group)
        # Below it an engine of DeepSpeed is told not to divide.
        self.factor = ranks * self.setting.undone(len(labels))

    def __call__(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        weights: Optional[torch.Tensor],
    ) -> torch.Tensor:
        from transformers.loss.loss_utils import fixed_cross_entropy

        loss = fixed_cross_entropy(
            logits.flatten(0, -2),
            labels.flatten(),
            num_items_in_batch=self.items,
            ignore_index=IGNORE_INDEX,
        )
        full = getattr(loss, "full_tensor", None)
        loss = full() if full else loss
        return loss * self.factor


class TransformersPerRank(Loss):
    """The same with average_tokens_across_devices=False: each rank divides by
    its own count."""

    takes_weights = False

    def begin(self, labels: Tensors, weights: Weights) -> None:
        self.items = _tokens(labels)
        self.factor = self.setting.undone(len(labels))

    __call__ = Transformers.__call__


class Torchtitan(Loss):
    """CrossEntropyLoss by the trainer's count over its mesh "batch", gradients
    summed."""

    gradients = "sum"
    takes_weights = False

    def inside(self, trainer: str) -> Any:
        from torchtitan.components.loss import CrossEntropyLoss

        if trainer != "torchtitan":
            return None
        return (), CrossEntropyLoss.Config()

    def begin(self, labels: Tensors, weights: Weights) -> None:
        self.count = _tokens(labels)
        dist.all_reduce(self.count, group=self.setting.token_group)
        self.factor = self.setting.undone(len(labels))

    def __call__(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        weights: Optional[torch.Tensor],
    ) -> torch.Tensor:
        from torchtitan.components.loss import CrossEntropyLoss
        from torchtitan.distributed.utils import set_spmd_backend

        # As its trainer does where logits are a DTensor.
        set_spmd_backend("partial_dtensor")
        function = CrossEntropyLoss.Config().build()
        loss, _ = function(logits, labels, self.count)
        full = getattr(loss, "full_tensor", None)
        whole: torch.Tensor = full() if full else loss
        return whole * self.factor


class _TokenSum:
    """A loss function of Megatron-core: (loss sum, count, report)."""

    def begin(self, masks: Tensors) -> None:
        pass

    def __call__(
        self, output: torch.Tensor, loss_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        return (output * loss_mask).sum(), loss_mask.sum().int(), {}

    def end(self) -> None:
        pass


class MegatronMeans(Loss):
    """The schedule divides each micro-batch's sum by its own count, then by their
    number; gradients are averaged. What Megatron-core does if nothing is set."""

    of_trainer = "megatron"
    takes_weights = False

    def inside(self, trainer: str) -> _TokenSum:
        return _TokenSum()


class MegatronPerToken(MegatronMeans):
    """With calculate_per_token_loss: gradients are summed, and divided by the
    count of all."""

    per_token = True
