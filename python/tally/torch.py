# SPDX-License-Identifier: BSD-3-Clause
"""Tally for PyTorch: the loss as an autograd function and a custom operator, and
a module that drives a step; on the host or on a CUDA device. Nothing here reads a
tensor on the host or waits for a stream.

The operator is torch.ops.tally.cross_entropy: under torch.compile it stands in
the graph as one node; begin, count, reduce and end are called outside of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Optional

import torch
import torch.distributed as dist
import torch.nn.functional as functional

from tally._abi import IGNORE_INDEX, Convention, Order
from tally import _cuda
from tally._arrays import HostScales
from tally.errors import InvalidError
from tally.group import Group, Tally
from tally.step import BY_NUMBER, Channel, Result
from tally.step import Step as _Step

__all__ = [
    "IGNORE_INDEX",
    "Step",
    "TallyLoss",
    "balanced_cross_entropy",
    "group",
    "open",
    "scale_gradients",
    "scales",
]


# ---------------------------------------------------------- groups of processes


def _allgather(process_group: Optional[dist.ProcessGroup]) -> Any:
    """An all-gather of bytes over a process group, in the order of world ranks.
    Used while groups and steps are made, never within a step."""
    ranks = dist.get_process_group_ranks(process_group)
    order = sorted(range(len(ranks)), key=ranks.__getitem__)

    def gather(part: bytes) -> list[bytes]:
        backend = dist.get_backend(process_group)
        device = "cuda" if backend == "nccl" else "cpu"  # the current one
        mine = torch.frombuffer(bytearray(part), dtype=torch.uint8).to(device)
        parts = [torch.empty_like(mine) for _ in ranks]
        dist.all_gather(parts, mine, group=process_group)
        return [bytes(parts[index].tolist()) for index in order]

    return gather


def open() -> Tally:
    """Opens Tally; the ranks are those of torch.distributed, and meet through
    it. Collective. Without torch.distributed: by the launcher's variables."""
    if not dist.is_initialized():
        return Tally()
    return Tally(
        allgather=_allgather(None),
        rank=dist.get_rank(),
        world_size=dist.get_world_size(),
    )


def group(
    tally: Tally,
    process_group: Optional[dist.ProcessGroup] = None,
    *,
    average_ranks: int = 0,
    key: str = "",
) -> Group:
    """The ranks of a process group as a group of Tally. Collective over them.

    process_group: of the ranks that hold *different* tokens: data and context
        parallel. Tensor-parallel ranks hold the same tokens: each has the group
        of its own data-parallel peers. None: all ranks.
    """
    if process_group is None:
        return Group(tally, average_ranks=average_ranks, key=key)
    return Group(
        tally,
        sorted(dist.get_process_group_ranks(process_group)),
        average_ranks=average_ranks,
        key=key,
        allgather=_allgather(process_group),
    )


# ------------------------------------------------------------ steps and streams


class Step(_Step):
    """A tally.Step whose calls go to PyTorch's current stream of its device, where
    they are not told another."""

    def _stream(self, stream: Any) -> Optional[int]:
        if stream is None and self.ordinal != _cuda.HOST:
            # What torch.cuda.current_stream().cuda_stream takes 2 us for.
            return torch._C._cuda_getCurrentRawStream(self.ordinal)
        return super()._stream(stream)


def _index(device: Any) -> Any:
    """"cuda" is PyTorch's current device, which a context may not know yet."""
    named = torch.device("cpu" if device is None else device)
    if named.type == "cuda" and named.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return named


# ------------------------------------------------------------------ the operator

def scales(step: _Step) -> torch.Tensor:
    """The step's scales, float32 [K], in the memory where Tally writes them:
    valid between wait and the next begin, on the stream that waited."""
    if isinstance(step.scale, HostScales):
        return torch.frombuffer(step.scale.host_buffer(), dtype=torch.float32)
    return torch.as_tensor(step.scale, device=f"cuda:{step.ordinal}")


def _loss(
    step: _Step,
    logits: torch.Tensor,
    labels: torch.Tensor,
    weights: Optional[torch.Tensor],
    channel: int,
    gradient: Optional[torch.Tensor],
) -> torch.Tensor:
    """Runs the fused loss. Returns what backward() with 1 has `gradient` of."""
    nll = torch.empty(
        labels.numel(), dtype=torch.float32, device=logits.device
    )
    step.loss(
        logits, labels, weights, channel=channel, gradient=gradient, nll=nll
    )
    return total_of(step, channel, nll, weights)


def total_of(
    step: _Step,
    channel: int,
    nll: torch.Tensor,
    weights: Optional[torch.Tensor],
) -> torch.Tensor:
    """What a loss returns of its tokens' nll, which it overwrites."""
    if weights is not None:
        # Where a token does not count, its weight may be anything.
        nll.mul_(weights.reshape(-1).masked_fill(nll == 0, 0))
    total = nll.sum()
    if step.order == Order.COUNT_FIRST:
        total = total * scales(step)[channel]
    return total


# A step's order of calls is kept on the host, which a replay would pass by: a
# graph of the compiler's own must not hold the operator (PyTorch 2.9 and later;
# a graph of a whole step, by torch.cuda.graph, may).
_TAGS = [
    tag for name, tag in vars(torch.Tag).items() if name == "cudagraph_unsafe"
]


@torch.library.custom_op("tally::cross_entropy", mutates_args=(), tags=_TAGS)
def _cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    weights: Optional[torch.Tensor],
    step: int,
    channel: int,
    differentiate: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    gradient = torch.empty_like(
        logits, memory_format=torch.contiguous_format
    ) if differentiate else logits.new_empty(0)
    total = _loss(
        BY_NUMBER[step],
        logits,
        labels,
        weights,
        channel,
        gradient if differentiate else None,
    )
    return total, gradient


@_cross_entropy.register_fake
def _(
    logits: torch.Tensor,
    labels: torch.Tensor,
    weights: Optional[torch.Tensor],
    step: int,
    channel: int,
    differentiate: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    total = logits.new_empty((), dtype=torch.float32)
    if not differentiate:
        return total, logits.new_empty(0)
    return total, torch.empty_like(
        logits, memory_format=torch.contiguous_format
    )


def _multiply(
    gradient: torch.Tensor, step: Optional[_Step], factor: torch.Tensor
) -> None:
    """Times what follows the loss; if that is 1, without touching the gradient."""
    if step is None or step.closed or not gradient.is_contiguous():
        gradient.mul_(factor)
    else:
        step.multiply(gradient, factor)


def _keeps_graph() -> bool:
    """Whether this backward may be followed by another one."""
    return bool(torch._C._autograd._get_current_graph_task_keep_graph())


def _is_traced(tensor: torch.Tensor) -> bool:
    """Whether a compiler looks on, and there is no memory. Not every release says
    so while it differentiates, but it then has tensors of its own."""
    return torch.compiler.is_compiling() or type(tensor) is not torch.Tensor


def times(
    gradient: torch.Tensor, step: Optional[_Step], factor: torch.Tensor
) -> torch.Tensor:
    """A gradient that a backward has kept, times what follows the loss."""
    if _is_traced(gradient) or _keeps_graph():
        return gradient * factor.to(gradient.dtype)
    # Nobody has it beside this graph, which ends here.
    product = gradient.detach()
    _multiply(product, step, factor)
    return product


def _keep_gradient(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.step = inputs[3]
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad_total: Any, _grad_gradient: Any) -> Any:
    (gradient,) = ctx.saved_tensors
    if grad_total is None:
        return None, None, None, None, None, None
    grad_logits = times(gradient, BY_NUMBER.get(ctx.step), grad_total)
    return grad_logits, None, None, None, None, None


_cross_entropy.register_autograd(_backward, setup_context=_keep_gradient)


class _InPlace(torch.autograd.Function):
    """The same, with the gradient where the logits were."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        labels: torch.Tensor,
        weights: Optional[torch.Tensor],
        step: _Step,
        channel: int,
    ) -> torch.Tensor:
        total = _loss(step, logits, labels, weights, channel, logits)
        # Whoever saved the logits for its own backward must find out.
        torch.autograd.graph.increment_version(logits)
        ctx.gradient, ctx.step = logits.detach(), step
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_total: torch.Tensor) -> Any:
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:
            raise RuntimeError(
                "the gradient of an in-place balanced_cross_entropy is gone "
                "after the first backward(): it cannot run twice"
            )
        step, ctx.step = ctx.step, None
        _multiply(gradient, step, grad_total)
        return gradient, None, None, None, None


def balanced_cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    step: _Step,
    *,
    weights: Optional[torch.Tensor] = None,
    channel: int = 0,
    inplace: bool = False,
) -> torch.Tensor:
    """The fused cross entropy of one micro-batch, between step.reduce() and
    step.end() (SCALE_LATE: between begin and reduce).

    logits: [..., V], float32, bfloat16 or float16, rows at one distance.
    labels: [...], int32 or int64; step's ignore_index does not count.
    weights: [...], float32, or None for 1 each.
    inplace: the gradient takes the logits' memory, which nobody may need any
        more; if autograd does, backward() raises. Not under torch.compile.

    Returns a float32 scalar, this rank's part: scale * sum(weight * nll), or
    without the scale for SCALE_LATE; nll is the channel's loss of a token. Run it
    once a micro-batch: a checkpointed function that recomputes it would count
    twice, and raises OrderError.
    """
    if inplace and logits.requires_grad and torch.is_grad_enabled():
        if logits.is_leaf:
            raise InvalidError("a leaf that requires grad cannot be overwritten")
        return _InPlace.apply(  # type: ignore[no-any-return,no-untyped-call]
            logits, labels, weights, step, channel
        )
    total, _ = _cross_entropy(
        logits,
        labels,
        weights,
        step.number,
        channel,
        logits.requires_grad and torch.is_grad_enabled(),
    )
    return total  # type: ignore[no-any-return]


def scale_gradients(
    parameters: Iterable[torch.Tensor], step: _Step, channel: int = 0
) -> None:
    """SCALE_LATE, after step.wait() and the framework's reduction of gradients:
    multiplies them by the scale."""
    gradients = []
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is not None:
            to_local = getattr(gradient, "to_local", None)
            gradients.append(to_local() if to_local else gradient)
    if gradients:
        torch._foreach_mul_(gradients, scales(step)[channel])


# -------------------------------------------------------------------- the module


class TallyLoss(torch.nn.Module):
    """A step with one channel, as a loss: this rank's sum of cross entropies of
    labels != IGNORE_INDEX, times the scale.

        loss_fn.begin([batch["labels"] for batch in micro_batches])
        for batch in micro_batches:
            loss_fn(model(batch["inputs"]), batch["labels"]).backward()
        loss_fn.end()

    group: of the ranks with different tokens; its R says over how many ranks
        the framework averages gradients.
    convention: see tally.Convention; AVERAGE is what DDP and FSDP do.
    device: of the labels and logits, such as "cuda:1" or a torch.device; None: the
        host.
    fused: True: Tally's own kernel, which also totals the loss. False: PyTorch's
        cross entropy times Tally's scale; for logits of another kind, and for
        losses of your own (`scale`). Logits that are spread over the vocabulary
        are vocab_parallel.py's.
    label_smoothing, z_loss, soft_cap, temperature: see tally.Channel.
    """

    def __init__(
        self,
        vocab: int,
        group: Group,
        *,
        convention: Convention = Convention.AVERAGE,
        divisor: float = 1.0,
        fused: bool = True,
        inplace: bool = False,
        device: Any = None,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        soft_cap: float = 0.0,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.channel = Channel(
            vocab,
            label_smoothing=label_smoothing,
            z_loss=z_loss,
            soft_cap=soft_cap,
            temperature=temperature,
        )
        self.step = Step(
            group,
            self.channel,
            convention=convention,
            divisor=divisor,
            device=_index(device),
        )
        self.fused = fused
        self.inplace = inplace

    def begin(
        self,
        labels: Sequence[Optional[torch.Tensor]],
        weights: Optional[Sequence[Optional[torch.Tensor]]] = None,
    ) -> None:
        """Counts the labels of all micro-batches of a step, and posts their
        reduction. None: no tokens. Does not block."""
        self.step.begin(len(labels))
        for index, each in enumerate(labels):
            self.step.count(each, weights[index] if weights else None)
        self.step.reduce()

    @property
    def scale(self) -> torch.Tensor:
        """The scale of this step, a scalar; waits for the reduction. A copy:
        autograd may keep it beyond the step."""
        self.step.wait()
        return scales(self.step)[0].clone()

    def forward(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        weights: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        if self.fused:
            return balanced_cross_entropy(
                logits,
                labels,
                self.step,
                weights=weights,
                inplace=self.inplace,
            )
        total = sum_cross_entropy(logits, labels, weights, self.channel)
        return total * self.scale.to(total.device, non_blocking=True)

    def end(self) -> None:
        """Ends the step; totals follow in result()."""
        self.step.end()

    def abandon(self) -> None:
        """Ends a step that an exception has left."""
        self.step.abandon()

    def result(self, *, wait: bool = False) -> Optional[Result]:
        """The totals of the latest step; None while they are on their way."""
        return self.step.result(wait=wait)

    def close(self) -> None:
        self.step.close()


def _is_shaped(channel: Channel) -> bool:
    given = (channel.label_smoothing, channel.z_loss, channel.soft_cap)
    return any(given) or channel.temperature != 1


def _shaped(logits: torch.Tensor, channel: Channel) -> torch.Tensor:
    """What the channel makes of logits, in float32 as the kernels do."""
    values = logits.float()
    if channel.soft_cap > 0:
        capped = channel.soft_cap * torch.tanh(values / channel.soft_cap)
        values = torch.where(values == -torch.inf, values, capped)
    return values / channel.temperature


def sum_cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    weights: Optional[torch.Tensor] = None,
    channel: Optional[Channel] = None,
) -> torch.Tensor:
    """PyTorch's own cross entropy, summed over the tokens that count; with what a
    channel says of label smoothing, z-loss, soft-cap and temperature."""
    values, labels = logits.flatten(0, -2), labels.flatten()
    smoothing = 0.0
    if channel is not None and _is_shaped(channel):
        values = _shaped(values, channel)
        smoothing = channel.label_smoothing
    nll = functional.cross_entropy(
        values,
        labels,
        ignore_index=IGNORE_INDEX,
        reduction="sum" if weights is None else "none",
        label_smoothing=smoothing,
    )
    if channel is not None and channel.z_loss > 0:
        z_loss = channel.z_loss * torch.logsumexp(values, -1) ** 2
        z_loss = z_loss.masked_fill(labels == IGNORE_INDEX, 0)
        nll = nll + (z_loss.sum() if weights is None else z_loss)
    # loss_parallel gives a DTensor that is whole on each rank.
    full = getattr(nll, "full_tensor", None)
    nll = full() if full else nll
    return nll if weights is None else (nll * weights.flatten()).sum()
