# SPDX-License-Identifier: BSD-3-Clause
"""What the suite asks of a loss, Tally's own answer, plain functions, and the
known wrong ways, which the suite must catch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import torch
import torch.distributed as dist
import torch.nn.functional as functional

import tally.torch
from tally._abi import IGNORE_INDEX, Convention
from tally.vocab_parallel import VocabParallelLoss

Tensors = Sequence[torch.Tensor]
Weights = Sequence[Optional[torch.Tensor]]


@dataclass(frozen=True)
class Setting:
    """Where a loss is to work.

    token_group: the ranks that hold different tokens (data x context parallel).
    average_ranks: over how many ranks gradients are averaged.
    shares_logits: ranks with the same tokens as this one (tensor parallel).
    divides_micro_batches: gradients are divided by the number of micro-batches,
        too, by the trainer.
    plain_logits: False: logits are DTensors, sharded over the vocabulary.
    may_shrink: members of token_group may die between the count and the
        reduction of gradients.
    """

    token_group: dist.ProcessGroup
    average_ranks: int
    shares_logits: int = 1
    divides_micro_batches: bool = False
    plain_logits: bool = True
    may_shrink: bool = False
    vocab: int = 0

    def undone(self, micro_batches: int) -> int:
        """What a loss is multiplied by, for the trainer to divide by it."""
        return micro_batches if self.divides_micro_batches else 1


class Loss:
    """What the suite calls: start; then, for each way to spread the model: open,
    (begin, __call__ a micro-batch, end) a step, close."""

    # "average" or "sum": what the trainer has its framework do over ranks.
    gradients = "average"
    # Whether tokens may have weights; if not, that scenario is left out.
    takes_weights = True
    # Whether it has a replica_factor; if not, kills among replica groups are
    # left out.
    in_replicas = False
    # The trainer whose own loss it is: left out where that does not run the step.
    of_trainer = ""
    # Megatron-core's calculate_per_token_loss, for what inside() gives it.
    per_token = False

    def start(self) -> None:
        """Collective over all ranks, before anything else."""

    def open(self, setting: Setting) -> None:
        """Collective over setting.token_group: not on ranks without logits."""
        self.setting = setting

    def inside(self, trainer: str) -> Any:
        """What `trainer`'s own step takes in place of this loss, after open();
        None: the loss as it is, by what the trainer does if nothing is set.
        "megatron": an object with begin(masks), end(), and called as a loss
        function. "torchtitan": classes to put before Trainer among the bases of
        one, and the configuration of its loss."""
        return None

    def begin(self, labels: Tensors, weights: Weights) -> None:
        """The labels and weights (or None) of all micro-batches of a step."""

    def __call__(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        weights: Optional[torch.Tensor],
    ) -> torch.Tensor:
        """The loss of one micro-batch; the suite calls backward() on it, and
        gradients of micro-batches add up."""
        raise NotImplementedError

    def end(
        self, parameters: Tensors, members: dist.ProcessGroup
    ) -> None:
        """Gradients have been reduced, over `members` only."""

    def replica_factor(
        self, counted: torch.Tensor, decided: torch.Tensor
    ) -> torch.Tensor:
        """For a gradient that was computed with the scale of the replicas that
        were counted, and is applied by those that are left, whose scale is
        `decided`: what it is multiplied by."""
        raise NotImplementedError

    def close(self) -> None:
        """Frees what open made."""


class Balanced(Loss):
    """Tally."""

    in_replicas = True
    per_token = True

    def start(self) -> None:
        self.tally = tally.torch.open()
        self.integration: Any = None

    def inside(self, trainer: str) -> Any:
        """Tally's integration of it."""
        if trainer == "torchtitan":
            return self._inside_torchtitan()
        from tally.integrations.megatron import MegatronLoss

        self.integration = MegatronLoss(self.group)
        return self.integration

    def _inside_torchtitan(self) -> Any:
        from tally.integrations.torchtitan import TallyLoss, TallyStep

        balanced = self

        class Kept(TallyStep):
            def __init__(self, config: Any) -> None:
                super().__init__(config)  # type: ignore[call-arg]
                balanced.integration = self

        return (Kept,), TallyLoss.Config(vocab=self.setting.vocab)

    def open(self, setting: Setting) -> None:
        super().open(setting)
        self.group = tally.torch.group(
            self.tally,
            setting.token_group,
            average_ranks=setting.average_ranks,
        )
        kind = (
            tally.torch.TallyLoss if setting.plain_logits else VocabParallelLoss
        )
        self.loss = kind(
            setting.vocab,
            self.group,
            convention=Convention.AVERAGE_ALL
            if setting.divides_micro_batches
            else Convention.AVERAGE,
        )

    def begin(self, labels: Tensors, weights: Weights) -> None:
        self.labels, self.weights = labels, weights
        if not self.setting.may_shrink:
            self.loss.begin(labels, weights)

    def __call__(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        weights: Optional[torch.Tensor],
    ) -> torch.Tensor:
        if self.setting.may_shrink:
            return tally.torch.sum_cross_entropy(logits, labels, weights)
        return self.loss(logits, labels, weights)  # type: ignore[no-any-return]

    def end(self, parameters: Tensors, members: dist.ProcessGroup) -> None:
        if not self.setting.may_shrink:
            self.loss.end()
            return
        # Who is counted is who is in the gradient: that is known only now.
        with tally.torch.group(self.tally, members, key="members") as group:
            with tally.Step(group, self.setting.vocab) as step:
                step.begin(len(self.labels))
                for labels, weights in zip(self.labels, self.weights):
                    step.count(labels, weights)
                step.reduce()
                step.wait()
                tally.torch.scale_gradients(parameters, step)
                step.end()

    def replica_factor(
        self, counted: torch.Tensor, decided: torch.Tensor
    ) -> torch.Tensor:
        # A step without tokens has scale 0, and gradient 0.
        return torch.where(counted == 0, decided, decided / counted)

    def close(self) -> None:
        if self.integration is not None:
            self.integration.close()
            self.integration = None
        self.loss.close()
        self.group.close()


class Plain(Loss):
    """A function (logits, labels) -> loss as most loops use one: its value over
    the number of micro-batches."""

    takes_weights = False

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        self.function = function

    def begin(self, labels: Tensors, weights: Weights) -> None:
        self.divisor = len(labels) / self.setting.undone(len(labels))

    def __call__(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        weights: Optional[torch.Tensor],
    ) -> torch.Tensor:
        return self.function(logits, labels) / self.divisor


def local_mean(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean over the tokens of this rank and micro-batch. Wrong: a token of
    a rank with few of them weighs more."""
    loss = functional.cross_entropy(
        logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORE_INDEX
    )
    full = getattr(loss, "full_tensor", None)
    return full() if full else loss


class Counted(Loss):
    """The sum over the number of tokens in some group of ranks; by hand."""

    def count_group(self) -> Optional[dist.ProcessGroup]:
        return self.setting.token_group

    def begin(self, labels: Tensors, weights: Weights) -> None:
        counts = [
            (each != IGNORE_INDEX).sum()
            if weight is None
            else weight[each != IGNORE_INDEX].sum()
            for each, weight in zip(labels, weights)
        ]
        self.undone = self.setting.undone(len(labels))
        self.count = torch.stack(counts).double().sum()
        dist.all_reduce(self.count, group=self.count_group())

    def __call__(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        weights: Optional[torch.Tensor],
    ) -> torch.Tensor:
        total = tally.torch.sum_cross_entropy(logits, labels, weights)
        ranks = self.setting.average_ranks * self.undone
        scale = ranks / self.count.clamp(min=1e-30)
        return total * scale.float()


class CountOverWorld(Counted):
    """Wrong: tensor-parallel ranks hold the same tokens, which count twice."""

    def count_group(self) -> Optional[dist.ProcessGroup]:
        return None


class MicroBatchMeans(Counted):
    """Wrong: each micro-batch is divided by its own global count, and then by
    their number."""

    def begin(self, labels: Tensors, weights: Weights) -> None:
        self.divisor = len(labels) / self.setting.undone(len(labels))

    def __call__(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        weights: Optional[torch.Tensor],
    ) -> torch.Tensor:
        Counted.begin(self, [labels], [weights])
        return Counted.__call__(self, logits, labels, weights) / self.divisor


class CountOfTheDead(Counted):
    """Wrong where a replica dies: what it has counted stays."""

    in_replicas = True

    def replica_factor(
        self, counted: torch.Tensor, decided: torch.Tensor
    ) -> torch.Tensor:
        return torch.ones_like(counted)


BUILT_IN: dict[str, Callable[[], Loss]] = {
    "tally": Balanced,
    "local-mean": lambda: Plain(local_mean),
    "micro-batch-means": MicroBatchMeans,
    "count-over-world": CountOverWorld,
    "count-of-the-dead": CountOfTheDead,
}


def find(name: str) -> Loss:
    """A built-in loss, or `package.module:name`: a Loss, a class of it, or a
    function (logits, labels) -> loss."""
    if name in BUILT_IN:
        return BUILT_IN[name]()
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ValueError(
            f"{name!r} is neither one of {', '.join(BUILT_IN)} nor "
            "package.module:name"
        )
    try:
        found: Any = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as missing:
        if not f"{module}.".startswith(f"{missing.name}."):
            raise  # what the module itself imports
        raise ValueError(f"{name!r}: {missing}") from missing
    except AttributeError as missing:
        raise ValueError(f"{name!r}: {missing}") from missing
    if isinstance(found, type) and issubclass(found, Loss):
        return found()
    return found if isinstance(found, Loss) else Plain(found)
