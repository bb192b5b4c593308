# SPDX-License-Identifier: BSD-3-Clause
"""transformers' Trainer with Tally's weight of tokens.

    trainer = TallyTrainer(model=model, args=args, vocab=config.vocab_size, ...)

The Trainer counts tokens by an all-gather and reads them on the host for its
logs; here the labels of all micro-batches are counted by Tally before the first
forward, and the loss that each backward sees is scaled by R / N already.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from transformers import Trainer, TrainerCallback

import tally.torch
from tally.group import Group


class _EndOfStep(TrainerCallback):
    def __init__(self, trainer: TallyTrainer) -> None:
        self._trainer = trainer

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        self._trainer.end_step()


class TallyTrainer(Trainer):
    """A Trainer whose loss is Tally's, for causal language models under DDP or
    FSDP, both of which average gradients over ranks.

    vocab: the last dimension of the logits.
    group: the ranks with different data; None: all, opened here.
    shift: True: logits predict the next label, as causal models' do.

    The arguments' label_smoothing_factor is applied, in evaluation too.
    """

    def __init__(
        self,
        *args: Any,
        vocab: int,
        group: Optional[Group] = None,
        shift: bool = True,
        **kwargs: Any,
    ) -> None:
        kwargs["compute_loss_func"] = self._loss
        super().__init__(*args, **kwargs)
        self.shift = shift
        # What evaluation counts is what the loss gets.
        self._loss_shifts_labels = shift
        if group is None:
            group = tally.torch.group(tally.torch.open())
        self.tally_loss = tally.torch.TallyLoss(
            vocab,
            group,
            device=self.args.device,
            label_smoothing=self.args.label_smoothing_factor,
        )
        self._in_step = False
        self.add_callback(_EndOfStep(self))

    def _targets(self, labels: torch.Tensor) -> torch.Tensor:
        return labels[..., 1:].contiguous() if self.shift else labels

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        samples, _ = super().get_batch_samples(*args, **kwargs)
        if samples:
            self.tally_loss.begin(
                [self._targets(sample["labels"]) for sample in samples]
            )
            self._in_step = True
        # Without a number of items the Trainer scales nothing by itself.
        return samples, None

    def _loss(
        self,
        outputs: Any,
        labels: torch.Tensor,
        num_items_in_batch: Any = None,
        **_: Any,
    ) -> torch.Tensor:
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
        if self.shift:
            logits = logits[..., :-1, :].contiguous()
        targets = self._targets(labels)
        if self._in_step:
            return self.tally_loss(logits, targets)  # type: ignore[no-any-return]
        # Evaluation: the mean over this batch of all ranks, whose tokens the Trainer
        # has counted, for it multiplies by their number then; else of this rank.
        counts = num_items_in_batch
        if counts is None or self.args.n_gpu > 1:
            counts = (targets != tally.IGNORE_INDEX).sum()
            if (
                num_items_in_batch is not None
                and self.args.average_tokens_across_devices
            ):
                # DataParallel's outputs are whole here; the Trainer multiplies by
                # the devices, whose means its own losses are.
                counts = counts * self.args.n_gpu
        total = tally.torch.sum_cross_entropy(
            logits, targets, channel=self.tally_loss.channel
        )
        counts = counts.clamp(min=1).to(total.device)
        return total / counts  # type: ignore[no-any-return]

    def end_step(self) -> None:
        """Before the optimizer's step."""
        if self._in_step:
            self._in_step = False
            self.tally_loss.end()
