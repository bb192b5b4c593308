# SPDX-License-Identifier: BSD-3-Clause
"""The step object: counts, the scale, losses and their totals. Each method is
one call of tally.h, where the order of calls is described."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional, Union

from tally import _abi, _arrays
from tally._abi import Convention, DType, Flag, Order
from tally._library import library
from tally.errors import InvalidError, UnsupportedError
from tally.group import Group, _Owned


class Channel(NamedTuple):
    """One named loss over a vocabulary; labels count if they are in [0, vocab)."""

    vocab: int
    name: str = ""
    ignore_index: int = _abi.IGNORE_INDEX
    coefficient: float = 1.0


class ChannelResult(NamedTuple):
    """Totals of one channel over the group. The pairs are the exact sums,
    (hi * 2**32 + lo) * 2**-40; `loss_sum` and `weight_sum` the nearest floats."""

    flags: Flag
    scale: float
    loss: tuple[int, int]
    weight: tuple[int, int]
    count: int  # type: ignore[assignment]  # not the tuple's method
    nonfinite: int
    bad_labels: int
    loss_sum: float
    weight_sum: float
    mean: float


class Result(NamedTuple):
    """What became of one epoch."""

    epoch: int
    flags: Flag
    members: int
    channels: tuple[ChannelResult, ...]
    max: tuple[float, ...]

    @property
    def empty(self) -> bool:
        """No token of the group counted: scale and gradients are 0."""
        return bool(self.flags & Flag.EMPTY)


class Step(_Owned):
    """One optimizer step's reduction, reused for the whole run. Making one is
    collective over the group.

    channels: a vocabulary size, a Channel, or several.
    divisor: S of Convention.SCHEDULE.

    Arrays are PyTorch tensors or have __array_interface__ or
    __cuda_array_interface__. They must stay until the stream has passed.
    """

    _free = "step_free"

    def __init__(
        self,
        group: Group,
        channels: Union[int, Channel, Sequence[Channel]],
        *,
        order: Order = Order.COUNT_FIRST,
        convention: Convention = Convention.AVERAGE,
        divisor: float = 1.0,
        max_lanes: int = 0,
    ) -> None:
        super().__init__()
        if isinstance(channels, int):
            channels = [Channel(channels)]
        elif isinstance(channels, Channel):
            channels = [channels]
        self.group = group
        self.channels = tuple(channels)
        self.order = Order(order)
        self.convention = Convention(convention)
        self.max_lanes = max_lanes
        params = _abi.StepParams(
            order=self.order,
            convention=self.convention,
            channel_count=len(self.channels),
            max_lanes=max_lanes,
            schedule_divisor=divisor,
        )
        params.channels = (_abi.ChannelParams * len(self.channels))(
            *(_channel_params(channel) for channel in self.channels)
        )
        status = library().step_create(group.handle, params, self._handle)
        if status:
            library().fail(status)
        self._prepare_calls()

    def _prepare_calls(self) -> None:
        """What the calls of every step share, so that they make nothing new."""
        found = library()
        self._begin, self._count = found.step_begin, found.step_count
        self._reduce, self._wait = found.step_reduce, found.step_wait
        self._loss, self._end = found.step_loss, found.step_end
        self._raise = found.fail
        self._labels = _abi.Labels()
        self._logits = _abi.Logits()
        self._outputs = _abi.LossOutputs()
        address = ctypes.c_void_p()
        status = found.step_scale(self._handle, address)
        if status:
            found.fail(status)
        self.scale = _arrays.Scales(
            address.value or 0, len(self.channels), self
        )
        self._totals = (_abi.ChannelResult * len(self.channels))(
            *(_abi.ChannelResult() for _ in self.channels)
        )
        self._result = _abi.StepResult(
            channel_capacity=len(self.channels), channels=self._totals
        )

    def begin(self, micro_batches: int = 1, stream: Optional[int] = None) -> None:
        """Begins the next epoch. Does not block."""
        status = self._begin(self.handle, micro_batches, stream)
        if status:
            self._raise(status)

    def count(
        self,
        labels: Any,
        weights: Any = None,
        *,
        channel: int = 0,
        stream: Optional[int] = None,
    ) -> None:
        """Counts one micro-batch (COUNT_FIRST). Does not block. None: a rank
        without tokens."""
        self._take_labels(labels, weights)
        status = self._count(self.handle, channel, self._labels, stream)
        if status:
            self._raise(status)

    def reduce(self, stream: Optional[int] = None) -> None:
        """Posts the reduction and returns at once."""
        status = self._reduce(self.handle, stream)
        if status:
            self._raise(status)

    def wait(self, stream: Optional[int] = None) -> None:
        """Makes the stream wait for the scale; on the host device, the caller."""
        status = self._wait(self.handle, stream)
        if status:
            self._raise(status)

    def loss(
        self,
        logits: Any,
        labels: Any,
        weights: Any = None,
        *,
        channel: int = 0,
        gradient: Any = None,
        nll: Any = None,
        grad_scale: Any = None,
        stream: Optional[int] = None,
    ) -> None:
        """The fused loss of one micro-batch; `gradient` (which may be the logits
        themselves) and `nll` are written."""
        self._take_labels(labels, weights)
        vocab = self.channels[channel].vocab
        self._take_logits(logits, vocab)
        self._take_outputs(gradient, nll, grad_scale, vocab)
        status = self._loss(
            self.handle,
            channel,
            self._logits,
            self._labels,
            self._outputs,
            stream,
        )
        if status:
            self._raise(status)

    def offer_max(
        self, value: Any, lane: int = 0, stream: Optional[int] = None
    ) -> None:
        """Offers one float32 for the maximum over all ranks."""
        address = _input("value", value, DType.F32, 1)
        status = library().step_max(self.handle, lane, address, stream)
        if status:
            self._raise(status)

    def end(self, stream: Optional[int] = None) -> None:
        """Ends the epoch; the totals follow in result()."""
        status = self._end(self.handle, stream)
        if status:
            self._raise(status)

    def result(self, epoch: int = 0, *, wait: bool = False) -> Optional[Result]:
        """The totals of an epoch (0: the latest reduced); None if they are not
        known yet, which cannot be with `wait`. Never synchronises a stream.
        Raises what went wrong in the epoch, if anything did. One thread at a
        time."""
        flags = _abi.RESULT_WAIT if wait else 0
        status = library().step_result(
            self.handle, epoch, flags, self._result
        )
        if status == _abi.NOT_YET:
            return None
        if status:
            self._raise(status)
        return Result(
            epoch=self._result.epoch,
            flags=Flag(self._result.flags),
            members=self._result.members,
            channels=tuple(_channel_result(each) for each in self._totals),
            max=tuple(self._result.max[: self.max_lanes]),
        )

    def _take_labels(self, labels: Any, weights: Any) -> None:
        taken = self._labels
        if labels is None:
            taken.type, taken.values, taken.tokens = DType.I64, None, 0
            taken.weights = None
            return
        array = _on_host("labels", _arrays.describe(labels))
        taken.type = array.type
        taken.values = array.address
        taken.tokens = _arrays.dense("labels", array)
        taken.weights = _input("weights", weights, DType.F32, taken.tokens)

    def _take_logits(self, logits: Any, vocab: int) -> None:
        taken = self._logits
        tokens = self._labels.tokens
        if logits is None and tokens == 0:
            taken.type, taken.values, taken.row_stride = DType.F32, None, 0
            return
        array = _on_host("logits", _arrays.describe(logits))
        count, taken.row_stride = _arrays.rows("logits", array, vocab)
        if count != tokens:
            raise InvalidError(f"{count} rows of logits for {tokens} labels")
        taken.type = array.type
        taken.values = array.address

    def _take_outputs(
        self, gradient: Any, nll: Any, grad_scale: Any, vocab: int
    ) -> None:
        taken = self._outputs
        tokens = self._labels.tokens
        taken.gradient, taken.gradient_stride = None, 0
        if gradient is not None:
            array = _on_host("gradient", _arrays.describe(gradient))
            count, taken.gradient_stride = _arrays.rows(
                "gradient", array, vocab
            )
            if count != tokens or array.type != self._logits.type:
                raise InvalidError(
                    "gradient must have the shape and type of the logits"
                )
            taken.gradient = array.address
        taken.nll = _input("nll", nll, DType.F32, tokens)
        taken.grad_scale = _input("grad_scale", grad_scale, DType.F32, 1)


def _on_host(what: str, array: _arrays.Array) -> _arrays.Array:
    if array.cuda:
        raise UnsupportedError(
            f"{what} lie on a CUDA device, and this binding drives the host "
            "device only"
        )
    return array


def _input(what: str, array: Any, kind: DType, elements: int) -> Optional[int]:
    """The address of a contiguous array of `elements` elements; None of None."""
    if array is None:
        return None
    found = _on_host(what, _arrays.describe(array))
    if found.type != kind or _arrays.dense(what, found) != elements:
        raise InvalidError(
            f"{what} must be {elements} elements of {kind.name}, not "
            f"{list(found.shape)} of {found.type.name}"
        )
    return found.address


def _channel_params(channel: Channel) -> _abi.ChannelParams:
    # 0 is how a C caller says "the default", so it cannot be asked for.
    if channel.coefficient == 0 or channel.ignore_index == 0:
        raise InvalidError("a coefficient or ignore_index of 0 is not possible")
    return _abi.ChannelParams(
        name=channel.name.encode() or None,
        vocab=channel.vocab,
        ignore_index=channel.ignore_index,
        coefficient=channel.coefficient,
    )


def _channel_result(totals: _abi.ChannelResult) -> ChannelResult:
    return ChannelResult(
        flags=Flag(totals.flags),
        scale=totals.scale,
        loss=(totals.loss_hi, totals.loss_lo),
        weight=(totals.weight_hi, totals.weight_lo),
        count=totals.count,
        nonfinite=totals.nonfinite,
        bad_labels=totals.bad_labels,
        loss_sum=totals.loss_sum,
        weight_sum=totals.weight_sum,
        mean=totals.mean,
    )
