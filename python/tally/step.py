# SPDX-License-Identifier: BSD-3-Clause
"""The step object: counts, the scale, losses and their totals. Each method is
one call of step.h, where the order of calls is described."""

from __future__ import annotations

import ctypes
import itertools
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional, Union

from tally import _abi, _arrays, _cuda
from tally._abi import Convention, DType, Flag, Order
from tally._library import library
from tally.errors import InvalidError
from tally.group import Group, Tally, _Owned


class Channel(NamedTuple):
    """One named loss over a vocabulary; labels count if they are in [0, vocab).

    Of logits x: y = soft_cap * tanh(x / soft_cap) / temperature, and the loss is
    (1 - label_smoothing) * nll + label_smoothing * (lse - mean of y)
    + z_loss * lse**2, where lse is the logarithm of the sum of exp(y). A soft_cap
    of 0 is none. They are taken as float32; ranges are step.h's.
    """

    vocab: int
    name: str = ""
    ignore_index: int = _abi.IGNORE_INDEX
    coefficient: float = 1.0
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    soft_cap: float = 0.0
    temperature: float = 1.0


class Columns(NamedTuple):
    """A rank's columns of logits that are spread over `shards` ranks: `width` of
    them, of which the first has the label `begin`."""

    shards: int
    begin: int
    width: int


# Of int64, what loss_part() writes of a token.
PART = 3


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


# Steps by number, for operators, which take numbers. A step that nobody else holds
# any more is gone from here.
BY_NUMBER: weakref.WeakValueDictionary[int, Step] = weakref.WeakValueDictionary()
_next_number = itertools.count(1)


class Step(_Owned):
    """One optimizer step's reduction, reused for the whole run. Making one is
    collective over the group.

    channels: a vocabulary size, a Channel, or several.
    divisor: S of Convention.SCHEDULE.
    device: "cpu", "cuda:0" and so on, or a torch.device: where all arrays and the
        scales are. "cuda" is the current context's device, or the first. All
        CUDA steps of a Tally are on one device; ranks may differ in it.

    Arrays are PyTorch tensors, or have __cuda_array_interface__,
    __array_interface__ or __dlpack__. They must stay until the stream has passed,
    and be ready on it: whoever passes them orders the streams.

    stream: a CUstream as int, or an object with __cuda_stream__ or cuda_stream;
        None is CUDA's default stream, and all there is on the host. Calls on a
        CUDA device only enqueue: the host waits in result(wait=True) and close()
        alone.
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
        device: Any = None,
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
        self.ordinal = _take_device(group.tally, device)
        params = _abi.StepParams(
            order=self.order,
            convention=self.convention,
            channel_count=len(self.channels),
            max_lanes=max_lanes,
            schedule_divisor=divisor,
            device=_abi.Device.HOST
            if self.ordinal == _cuda.HOST
            else _abi.Device.CUDA,
        )
        params.channels = (_abi.ChannelParams * len(self.channels))(
            *(_channel_params(channel) for channel in self.channels)
        )
        with _cuda.current(self.ordinal):
            status = library().step_create(group.handle, params, self._handle)
        if status:
            library().fail(status)
        self.number = next(_next_number)
        BY_NUMBER[self.number] = self
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
        kind = (
            _arrays.HostScales
            if self.ordinal == _cuda.HOST
            else _arrays.CudaScales
        )
        self.scale = kind(address.value or 0, len(self.channels), self)
        self._totals = (_abi.ChannelResult * len(self.channels))(
            *(_abi.ChannelResult() for _ in self.channels)
        )
        self._result = _abi.StepResult(
            channel_capacity=len(self.channels), channels=self._totals
        )

    def begin(self, micro_batches: int = 1, stream: Any = None) -> None:
        """Begins the next epoch. Does not block."""
        status = self._begin(
            self.handle, micro_batches, self._stream(stream)
        )
        if status:
            self._raise(status)

    def count(
        self,
        labels: Any,
        weights: Any = None,
        *,
        channel: int = 0,
        stream: Any = None,
    ) -> None:
        """Counts one micro-batch (COUNT_FIRST). Does not block. None: a rank
        without tokens."""
        self._take_labels(labels, weights)
        status = self._count(
            self.handle, channel, self._labels, self._stream(stream)
        )
        if status:
            self._raise(status)

    def reduce(self, stream: Any = None) -> None:
        """Posts the reduction and returns at once."""
        status = self._reduce(self.handle, self._stream(stream))
        if status:
            self._raise(status)

    def wait(self, stream: Any = None) -> None:
        """Makes the stream wait for the scale; on the host device, the caller."""
        status = self._wait(self.handle, self._stream(stream))
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
        stream: Any = None,
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
            self._stream(stream),
        )
        if status:
            self._raise(status)

    def loss_part(
        self,
        logits: Any,
        labels: Any,
        columns: Columns,
        parts: Any,
        *,
        channel: int = 0,
        stream: Any = None,
    ) -> None:
        """Of logits [..., width], some columns of rows that other ranks have the
        others of: what they have of each row, into `parts`, int64
        [tokens * PART], for an all-gather. No part of an epoch."""
        self._take_labels(labels, None)
        self._take_logits(logits, columns.width)
        status = library().step_loss_part(
            self.handle,
            channel,
            self._logits,
            self._labels,
            _abi.Columns(**columns._asdict()),
            self._parts(parts, 1),
            self._stream(stream),
        )
        if status:
            self._raise(status)

    def loss_columns(
        self,
        logits: Any,
        labels: Any,
        columns: Columns,
        parts: Any,
        weights: Any = None,
        *,
        channel: int = 0,
        gradient: Any = None,
        nll: Any = None,
        grad_scale: Any = None,
        stream: Any = None,
    ) -> None:
        """In place of loss(), with the `parts` of all shards in the order of
        columns, int64 [shards * tokens * PART], which are overwritten: the loss of
        whole rows, and the gradient of these columns."""
        self._take_labels(labels, weights)
        self._take_logits(logits, columns.width)
        self._take_outputs(gradient, nll, grad_scale, columns.width)
        status = library().step_loss_columns(
            self.handle,
            channel,
            self._logits,
            self._labels,
            _abi.Columns(**columns._asdict()),
            self._parts(parts, columns.shards),
            self._outputs,
            self._stream(stream),
        )
        if status:
            self._raise(status)

    def multiply(self, gradient: Any, factor: Any, stream: Any = None) -> None:
        """Multiplies a contiguous gradient by `factor`, one float32, which is read
        where it lies. Where it is 1, the gradient is neither read nor written.
        No part of an epoch: at any time, by any thread."""
        array = self._here("gradient", _arrays.describe(gradient))
        status = library().step_multiply(
            self.handle,
            array.type,
            array.address,
            _arrays.dense("gradient", array),
            self._input("factor", factor, DType.F32, 1),
            self._stream(stream),
        )
        if status:
            self._raise(status)

    def offer_max(
        self, value: Any, lane: int = 0, stream: Any = None
    ) -> None:
        """Offers one float32 for the maximum over all ranks."""
        address = self._input("value", value, DType.F32, 1)
        status = library().step_max(
            self.handle, lane, address, self._stream(stream)
        )
        if status:
            self._raise(status)

    def end(self, stream: Any = None) -> None:
        """Ends the epoch; the totals follow in result()."""
        status = self._end(self.handle, self._stream(stream))
        if status:
            self._raise(status)

    def abandon(self, stream: Any = None) -> None:
        """Ends an epoch in which calls are missing, as after an exception in the
        model: what was counted so far is reduced, and no other rank waits in vain.
        Without an epoch it does nothing."""
        status = library().step_abandon(self.handle, self._stream(stream))
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

    def _stream(self, stream: Any) -> Optional[int]:
        """The handle that a call goes to."""
        if stream is None or stream.__class__ is int:
            return stream
        return _cuda.handle_of(stream)

    def _here(self, what: str, array: _arrays.Array) -> _arrays.Array:
        """The array, which must lie where the step is."""
        if array.ordinal != self.ordinal and (
            array.ordinal is not None or self.ordinal == _cuda.HOST
        ):
            there = (
                "a CUDA device"
                if array.ordinal is None
                else _cuda.name_of(array.ordinal)
            )
            raise InvalidError(
                f"{what}: on {there}, but the step is on "
                f"{_cuda.name_of(self.ordinal)} (its device=)"
            )
        return array

    def _input(
        self, what: str, array: Any, kind: DType, elements: int
    ) -> Optional[int]:
        """The address of a contiguous array of `elements` elements; None of
        None."""
        if array is None:
            return None
        found = self._here(what, _arrays.describe(array))
        if found.type != kind or _arrays.dense(what, found) != elements:
            raise InvalidError(
                f"{what} must be {elements} elements of {kind.name}, not "
                f"{list(found.shape)} of {found.type.name}"
            )
        return found.address

    def _parts(self, parts: Any, shards: int) -> Optional[int]:
        elements = shards * self._labels.tokens * PART
        return self._input("parts", parts, DType.I64, elements)

    def _take_labels(self, labels: Any, weights: Any) -> None:
        taken = self._labels
        if labels is None:
            taken.type, taken.values, taken.tokens = DType.I64, None, 0
            taken.weights = None
            return
        array = self._here("labels", _arrays.describe(labels))
        taken.type = array.type
        taken.values = array.address
        taken.tokens = _arrays.dense("labels", array)
        taken.weights = self._input("weights", weights, DType.F32, taken.tokens)

    def _take_logits(self, logits: Any, vocab: int) -> None:
        taken = self._logits
        tokens = self._labels.tokens
        if logits is None and tokens == 0:
            taken.type, taken.values, taken.row_stride = DType.F32, None, 0
            return
        array = self._here("logits", _arrays.describe(logits))
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
            array = self._here("gradient", _arrays.describe(gradient))
            count, taken.gradient_stride = _arrays.rows(
                "gradient", array, vocab
            )
            if count != tokens or array.type != self._logits.type:
                raise InvalidError(
                    "gradient must have the shape and type of the logits"
                )
            taken.gradient = array.address
        taken.nll = self._input("nll", nll, DType.F32, tokens)
        taken.grad_scale = self._input("grad_scale", grad_scale, DType.F32, 1)


def _take_device(tally: Tally, device: Any) -> int:
    """The ordinal of a step's device, which all CUDA steps of a Tally share."""
    ordinal = _cuda.ordinal_of(device)
    if ordinal == _cuda.HOST:
        return ordinal
    if tally.cuda_ordinal not in (None, ordinal):
        raise InvalidError(
            f"this Tally has steps on cuda:{tally.cuda_ordinal}, and none can be "
            f"on cuda:{ordinal}: a rank works on one device"
        )
    tally.cuda_ordinal = ordinal
    return ordinal


def _channel_params(channel: Channel) -> _abi.ChannelParams:
    # 0 is how a C caller says "the default", so it cannot be asked for.
    if 0 in (channel.coefficient, channel.ignore_index, channel.temperature):
        raise InvalidError(
            "a coefficient, ignore_index or temperature of 0 is not possible"
        )
    return _abi.ChannelParams(
        name=channel.name.encode() or None,
        vocab=channel.vocab,
        ignore_index=channel.ignore_index,
        coefficient=channel.coefficient,
        label_smoothing=channel.label_smoothing,
        z_loss=channel.z_loss,
        soft_cap=channel.soft_cap,
        temperature=channel.temperature,
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
