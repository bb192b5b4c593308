# SPDX-License-Identifier: BSD-3-Clause
"""A process's membership of a job, and the groups of ranks that share one
optimizer step."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Optional

from tally import _abi, _log
from tally._library import library

# Takes this rank's bytes, returns those of all ranks, in their order.
Allgather = Callable[[bytes], Sequence[bytes]]


class _Owned:
    """A handle of the library that is freed once, by close() or `with`."""

    _free = ""

    def __init__(self) -> None:
        self._handle = ctypes.c_void_p()

    @property
    def handle(self) -> ctypes.c_void_p:
        if not self._handle:
            raise ValueError(f"this {type(self).__name__} is closed")
        return self._handle

    @property
    def closed(self) -> bool:
        return not self._handle

    def close(self) -> None:
        """Frees it; a second call does nothing. BusyError while in use."""
        if not self._handle:
            return
        status = getattr(library(), self._free)(self._handle)
        if status:
            library().fail(status)
        self._handle = ctypes.c_void_p()

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if error is None:
            self.close()
            return
        # The error on its way says more than that an object is still in use.
        try:
            self.close()
        except RuntimeError:
            pass


def _callback(allgather: Optional[Allgather], failures: list[BaseException]) -> Any:
    """The C form of an all-gather; what it raises is kept in `failures`."""
    if allgather is None:
        return _abi.AllgatherCallback()

    def call(_context: Any, send: int, receive: int, count: int) -> int:
        try:
            parts = allgather(ctypes.string_at(send, count))
            joined = b"".join(parts)
            ctypes.memmove(receive, joined, len(joined))
        except BaseException as failure:  # must not cross C
            failures.append(failure)
            return -1
        return 0

    return _abi.AllgatherCallback(call)


class Tally(_Owned):
    """What tally_open gives: one a process.

    Without arguments the ranks find each other by the variables of the launcher
    (README.md, "Running on a cluster"). With `allgather` they do by that, as
    `rank` of `world_size`.
    """

    _free = "close"

    def __init__(
        self,
        *,
        allgather: Optional[Allgather] = None,
        rank: int = 0,
        world_size: int = 0,
        log: Optional[Callable[[int, str], None]] = None,
    ) -> None:
        super().__init__()
        failures: list[BaseException] = []
        host = _log.Host(rank=rank, world_size=world_size)
        host.allgather = _callback(allgather, failures)
        if log is not None:
            host.takes(log)
        self._host = host
        status = library().open(host, self._handle)
        if status:
            _raise(status, failures)
        if log is not None:
            host.keep("close", self._handle)
        found, size = ctypes.c_int32(), ctypes.c_int32()
        status = library().rank(self._handle, found, size)
        if status:
            library().fail(status)
        self.rank: int = found.value
        self.world_size: int = size.value
        # Of all steps in the memory of a CUDA device.
        self.cuda_ordinal: Optional[int] = None

    def close(self) -> None:
        super().close()
        self._host.forget()


def _raise(status: int, failures: list[BaseException]) -> None:
    """The library's error, caused by what a callback raised, if one did."""
    try:
        library().fail(status)
    except RuntimeError as error:
        raise error from (failures.pop() if failures else None)


class GroupInfo(NamedTuple):
    rank: int
    ranks: int
    nodes: int
    local_ranks: int
    transport: str


class Group(_Owned):
    """The ranks that share one optimizer step. Making one is collective.

    ranks: world ranks, ascending, the caller's among them; None: all.
    average_ranks: R, the number of ranks that the framework averages gradients
        over; 0: all of `ranks`.
    key: tells apart groups of the same ranks that exist at the same time.
    allgather: over `ranks` in their order; needed for some of the ranks of a
        Tally that was opened with an all-gather of its own.
    """

    _free = "group_free"

    def __init__(
        self,
        tally: Tally,
        ranks: Optional[Sequence[int]] = None,
        *,
        average_ranks: int = 0,
        key: str = "",
        allgather: Optional[Allgather] = None,
    ) -> None:
        super().__init__()
        failures: list[BaseException] = []
        params = self._params()
        params.average_ranks = average_ranks
        params.key = key.encode()
        params.allgather = _callback(allgather, failures)
        if ranks is not None:
            params.ranks = (ctypes.c_int32 * len(ranks))(*ranks)
            params.rank_count = len(ranks)
        self.tally = tally
        self._kept = (params, allgather, failures)
        status = library().group_create(tally.handle, params, self._handle)
        if status:
            _raise(status, failures)

    def _params(self) -> _abi.GroupParams:
        """The struct for this kind of group."""
        return _abi.GroupParams()

    def describe(self) -> GroupInfo:
        info = _abi.GroupInfo()
        status = library().group_describe(self.handle, info)
        if status:
            library().fail(status)
        return GroupInfo(
            info.rank,
            info.ranks,
            info.nodes,
            info.local_ranks,
            info.transport.decode(),
        )
