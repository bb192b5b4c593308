# SPDX-License-Identifier: BSD-3-Clause
"""The loss for PyTorch where logits are spread over tensor-parallel ranks by their
columns: vocabulary-parallel. Each rank reads its own logits, the ranks gather 24
bytes a token, and nobody has a row as a whole."""

from __future__ import annotations

from typing import Any, Optional

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor, Shard

import tally.torch
from tally.errors import InvalidError
from tally.group import Group
from tally.step import PART, Columns
from tally.step import Step as _Step

__all__ = [
    "VocabParallelLoss",
    "columns_of",
    "is_spread",
    "vocab_parallel_cross_entropy",
]

# Under this name from PyTorch 2.13 on.
_all_gather: Any = (
    getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
)


def columns_of(
    width: int, vocab: int, process_group: dist.ProcessGroup
) -> Columns:
    """The columns of this rank where each has the next `width` of a vocabulary
    that is padded at its end. Padding is left out."""
    begin = width * dist.get_rank(process_group)
    return Columns(
        shards=dist.get_world_size(process_group),
        begin=begin,
        width=min(width, vocab - begin),
    )


def is_spread(logits: torch.Tensor) -> bool:
    """Whether they are a DTensor whose columns lie on the ranks of one mesh."""
    return (
        isinstance(logits, DTensor)
        and logits.device_mesh.ndim == 1
        and logits.placements[0] in (Shard(logits.dim() - 1), Shard(-1))
    )


def _local(
    logits: torch.Tensor, vocab: int, process_group: Optional[dist.ProcessGroup]
) -> tuple[torch.Tensor, Columns, dist.ProcessGroup]:
    """This rank's logits, which columns they are, and who has the others."""
    if not isinstance(logits, DTensor):
        if process_group is None:
            raise InvalidError("a process group is needed, or a DTensor")
        return (
            logits,
            columns_of(logits.shape[-1], vocab, process_group),
            process_group,
        )
    if not is_spread(logits):
        raise InvalidError(
            f"logits must be sharded in their last dimension over a mesh of one, "
            f"not {logits.placements}"
        )
    process_group = logits.device_mesh.get_group()
    # Chunks as torch.chunk has them: the first ones are whole.
    shards = dist.get_world_size(process_group)
    chunk = -(-logits.shape[-1] // shards)
    return (
        logits.to_local(),
        columns_of(chunk, vocab, process_group),
        process_group,
    )


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        labels: torch.Tensor,
        weights: Optional[torch.Tensor],
        step: _Step,
        channel: int,
        columns: Columns,
        process_group: dist.ProcessGroup,
    ) -> torch.Tensor:
        tokens = labels.numel()
        device = logits.device
        own = logits[..., : columns.width]
        whole: Optional[torch.Tensor] = None
        if ctx.needs_input_grad[0]:
            whole = torch.empty_like(
                logits, memory_format=torch.contiguous_format
            )
            whole[..., columns.width :].zero_()  # padding
        part = torch.empty(tokens * PART, dtype=torch.int64, device=device)
        parts = torch.empty(
            columns.shards * tokens * PART, dtype=torch.int64, device=device
        )
        nll = torch.empty(tokens, dtype=torch.float32, device=device)
        step.loss_part(own, labels, columns, part, channel=channel)
        _all_gather(parts, part, group=process_group)
        step.loss_columns(
            own,
            labels,
            columns,
            parts,
            weights,
            channel=channel,
            gradient=None if whole is None else whole[..., : columns.width],
            nll=nll,
        )
        ctx.step = step
        ctx.save_for_backward(whole)
        return tally.torch.total_of(step, channel, nll, weights)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_total: torch.Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        grad = tally.torch.times(gradient, ctx.step, grad_total)
        return grad, None, None, None, None, None, None


def vocab_parallel_cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    step: _Step,
    *,
    process_group: Optional[dist.ProcessGroup] = None,
    weights: Optional[torch.Tensor] = None,
    channel: int = 0,
) -> torch.Tensor:
    """tally.torch.balanced_cross_entropy of logits that are spread over the ranks
    of a process group, which have the same labels. Each of them calls it, with a
    step of its own, in the group of the data-parallel ranks of its place.

    logits: this rank's columns, [..., width], of equal width, which may be more
        than is left of the vocabulary at the last ones; or a DTensor that is
        sharded in its last dimension, which says who has the others.

    Returns the loss of whole rows, the same at all of them.
    """
    vocab = step.channels[channel].vocab
    local, columns, ranks = _local(logits, vocab, process_group)
    return _Loss.apply(  # type: ignore[no-any-return,no-untyped-call]
        local, labels, weights, step, channel, columns, ranks
    )


class VocabParallelLoss(tally.torch.TallyLoss):
    """tally.torch.TallyLoss of such logits.

    vocab: of all ranks, without padding.
    process_group: the tensor-parallel ranks; None: the logits are DTensors.
    """

    def __init__(
        self,
        vocab: int,
        group: Group,
        process_group: Optional[dist.ProcessGroup] = None,
        **settings: Any,
    ) -> None:
        super().__init__(vocab, group, **settings)
        self.process_group = process_group

    def forward(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        weights: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        return vocab_parallel_cross_entropy(
            logits,
            labels,
            self.step,
            process_group=self.process_group,
            weights=weights,
        )
