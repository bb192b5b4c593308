# SPDX-License-Identifier: BSD-3-Clause
"""Megatron-core: what a forward step gives its schedule.

With config.calculate_per_token_loss the schedule sums gradients over ranks and
micro-batches, adds up the counts that loss functions return, and divides by
their total, which it reads on the host. Tally's loss is divided already: it
returns a count of 0, by which Megatron divides nothing.

    loss_fn = MegatronLoss(group, device="cuda")  # data x context parallel ranks
    def forward_step(iterator, model):
        batch = next(iterator)
        output = model(batch.tokens, ..., labels=batch.labels)
        return output, partial(loss_fn, loss_mask=batch.loss_mask)

Losses that do not pass by a loss function, of experts and of multi-token prediction,
know config.grad_scale_func alone:

    config.grad_scale_func = loss_fn.grad_scale_func(config.grad_scale_func)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Optional

import torch

import tally.torch
from tally._abi import Convention
from tally.group import Group


GradScale = Callable[[torch.Tensor], torch.Tensor]


class MegatronLoss:
    """Models of Megatron give the loss of each token, and a mask says which of
    them count and how much."""

    def __init__(self, group: Group, *, device: Any = None) -> None:
        # The model has looked at the labels: all that is left is 0 or ignored.
        self.step = tally.torch.Step(
            group, 1, convention=Convention.SUM, device=device
        )
        self._by_config = False

    def grad_scale_func(self, then: Optional[GradScale] = None) -> GradScale:
        """For the trainer's config, before the first step, and after what sets its
        own there, which is `then` (a loss scale of float16). From now on the loss
        function gives sums, and the config's scales them as it does the others. On
        every stage of a pipeline, each of which begins and ends the step."""
        self._by_config = True

        def scaled(loss: torch.Tensor) -> torch.Tensor:
            loss = loss * self._scale()
            return loss if then is None else then(loss)

        return scaled

    def _scale(self) -> torch.Tensor:
        self.step.wait()
        # A copy: autograd keeps it, and the schedule may run backward late.
        return tally.torch.scales(self.step)[0].clone()

    def begin(self, masks: Sequence[Optional[torch.Tensor]]) -> None:
        """The loss masks of all micro-batches of the step, on the device."""
        self.step.begin(len(masks))
        for mask in masks:
            if mask is None:
                self.step.count(None)
                continue
            weights = mask.float().contiguous()
            labels = torch.where(weights > 0, 0, tally.IGNORE_INDEX)
            self.step.count(labels, weights)
        self.step.reduce()

    def __call__(
        self, output: torch.Tensor, loss_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """(loss, count, report), as calculate_per_token_loss asks. The report is
        this micro-batch's sum and count, for the logs."""
        mask = loss_mask.reshape(-1).float()
        total = (output.reshape(-1).float() * mask).sum()
        count = torch.zeros((), dtype=torch.int, device=output.device)
        report = torch.stack([total.detach(), mask.sum()])
        if not self._by_config:
            total = total * self._scale()
        return total, count, {"lm loss": report}

    def end(self) -> None:
        """After the schedule has run."""
        self.step.end()

    def close(self) -> None:
        self.step.close()
