# SPDX-License-Identifier: BSD-3-Clause
"""torchtitan 0.3: a loss for its trainer, and the trainer's step around it.

torchtitan has FSDP sum gradients (a divide factor of 1), so the scale is 1 / N.
The number of tokens that it passes to losses is not used.

    class MyTrainer(TallyStep, Trainer):
        pass

    config.loss = TallyLoss.Config(vocab=...)
    MyTrainer(config).train()
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Optional

import torch
from torch.distributed.tensor import DTensor
from torchtitan.components.loss import BaseLoss, cross_entropy_loss

import tally.torch
from tally._abi import Convention
from tally.errors import InvalidError, OrderError, TallyError
from tally.group import Group, Tally
from tally.vocab_parallel import is_spread, vocab_parallel_cross_entropy

_log = logging.getLogger("tally")


class TallyLoss(BaseLoss):  # type: ignore[misc]
    """Cross entropy, each token with its weight. TallyStep gives it its group and the
    labels of each step; without it: attach() and begin().

    vocab: the last dimension of the logits.
    """

    @dataclass(kw_only=True, slots=True)
    class Config(BaseLoss.Config):  # type: ignore[misc]
        vocab: int

    def __init__(self, config: Config, *, compile_config: Any = None) -> None:
        del compile_config  # the kernel is compiled
        self.vocab = config.vocab
        self.loss: Optional[tally.torch.TallyLoss] = None
        self.fused = True
        self._in_step = False

    def attach(self, group: Group, *, device: Any = None) -> None:
        """Collective over the group: torchtitan's mesh "batch", or "loss" with
        context parallelism. device: the trainer's."""
        self.device = torch.device("cpu" if device is None else device)
        self.loss = tally.torch.TallyLoss(
            self.vocab, group, convention=Convention.SUM, device=device
        )

    def begin(self, labels: Sequence[torch.Tensor]) -> None:
        """The labels of all micro-batches of the step, which the loader may have
        left on the host."""
        assert self.loss is not None, "attach a group first"
        self.loss.begin(
            [each.to(self.device, non_blocking=True) for each in labels]
        )
        self._in_step = True

    def __call__(
        self,
        pred: torch.Tensor,
        labels: torch.Tensor,
        global_valid_tokens: Optional[torch.Tensor] = None,
        **_: Any,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        if not self._in_step:
            if torch.is_grad_enabled():
                # config.build() makes torchtitan's own Trainer of a config.
                raise OrderError(
                    "the loss is called outside of a step of Tally: train by a "
                    "trainer with TallyStep, as MyTrainer(config).train(), and "
                    "validate under torch.no_grad()"
                )
            total = cross_entropy_loss(pred, labels)
            if global_valid_tokens is None:
                return total, {}
            return total / global_valid_tokens.clamp(min=1), {}
        assert self.loss is not None
        if self.fused and is_spread(pred):
            total = vocab_parallel_cross_entropy(pred, labels, self.loss.step)
            return total, {}
        sharded = isinstance(pred, DTensor) or pred.shape[-1] != self.vocab
        if sharded or not self.fused:
            return cross_entropy_loss(pred, labels) * self.loss.scale, {}
        return self.loss(pred, labels), {}

    def end(self) -> None:
        """After the last micro-batch."""
        assert self.loss is not None
        self._in_step = False
        self.loss.end()

    def abandon(self) -> None:
        """In place of end(), after an exception."""
        assert self.loss is not None
        self._in_step = False
        self.loss.abandon()


class TallyStep:
    """Put before torchtitan's Trainer among the bases of a trainer: its step
    then counts the labels first, over a group that the first step makes unless
    attach() has."""

    loss_fn: TallyLoss
    parallel_dims: Any
    device: Any
    gradient_accumulation_steps: int
    num_pipeline_parallel_microbatches: int
    config: Any
    _opened: Optional[tuple[Tally, Group]] = None

    def train_step(self, data_iterator: Any) -> Any:
        if not self.config.training.disable_cuda_graphs:
            raise InvalidError(
                "training.disable_cuda_graphs must be set: torchtitan's graph of "
                "one micro-batch would pass by the order of a step's calls"
            )
        if self.loss_fn.loss is None:
            self._open()
        # A pipeline runs the loss once more, to learn the shapes.
        self.loss_fn.fused = not self.parallel_dims.pp_enabled
        batches = [
            next(data_iterator)
            for _ in range(
                self.gradient_accumulation_steps
                * self.num_pipeline_parallel_microbatches
            )
        ]
        self.loss_fn.begin(self._own([labels for _, labels in batches]))
        try:
            done = super().train_step(iter(batches))  # type: ignore[misc]
        except BaseException:
            # Which says more than what is wrong with the group, if something is.
            with suppress(TallyError):
                self.loss_fn.abandon()
            raise
        self.loss_fn.end()
        return done

    def _open(self) -> None:
        """A group of the ranks with different tokens."""
        mesh = self.parallel_dims.get_optional_mesh("loss")
        with ExitStack() as made:
            opened = made.enter_context(tally.torch.open())
            peers = made.enter_context(
                Group(opened, [opened.rank])
                if mesh is None
                else tally.torch.group(opened, mesh.get_group(), key="torchtitan")
            )
            self.loss_fn.attach(peers, device=self.device)
            made.pop_all()  # nothing failed: they stay open
        self._opened = opened, peers

    def close(self) -> None:
        try:
            self._close()
        except TallyError as error:
            _log.warning("torchtitan's trainer is closed, but not Tally: %s", error)
        finally:
            super().close()  # type: ignore[misc]

    def _close(self) -> None:
        if self._opened is None:
            return
        assert self.loss_fn.loss is not None
        opened, peers = self._opened
        self.loss_fn.loss.close()
        peers.close()
        opened.close()
        self._opened = None

    def _own(self, labels: list[torch.Tensor]) -> list[torch.Tensor]:
        """With context parallelism the trainer cuts sequences later, in a way that
        may hang on masks. Only the total matters here: a part for each rank, none
        twice."""
        if not self.parallel_dims.cp_enabled:
            return labels
        mesh = self.parallel_dims.get_mesh("cp")
        rank = mesh.get_local_rank()
        return [
            each.tensor_split(mesh.size(), 1)[rank].contiguous() for each in labels
        ]
