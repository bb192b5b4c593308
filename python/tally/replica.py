# SPDX-License-Identifier: BSD-3-Clause
"""Replica groups, of which any may vanish: the calls of include/tally/replica.h.
doc/fault.md says how a step goes. Not bound: a commit vote and a membership of
the trainer's own, and witnesses (the tool tally_witness is one).

    group = ReplicaGroup(tally, replica=0, replicas=3)
    step = ReplicaStep(group, vocab)
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_int, c_int32, c_uint32, c_uint64, c_void_p
from enum import IntEnum
from typing import Any, NamedTuple, Optional

from tally import _abi
from tally._library import library
from tally.errors import ReplicaError
from tally.group import Allgather, Group, Tally
from tally.step import Step


class Status(IntEnum):
    """What became of a step, as far as this replica knows: see
    tally_replica_status_t."""

    NONE = 0
    COUNTED = 1
    RETRY = 2
    APPLY = 3
    EXCLUDED = 4
    ABORTED = 5
    DISCARDED = 6
    WAITING = 7
    IN_DOUBT = 8
    LAGGING = 9
    FENCED = 10


class Vote(IntEnum):
    """What a rank says of its gradient: see tally_replica_vote_t."""

    READY = 0
    UNREADY = 1
    OUT = 2
    VETO = 3


class State(NamedTuple):
    """What the model's parameters follow from."""

    lineage: int
    index: int  # type: ignore[assignment]  # not the tuple's method
    digest: int


class Count(NamedTuple):
    """What became of an epoch's count. members: the replicas that are counted.
    digest: equal at all of them, and of no other count."""

    status: Status
    index: int  # type: ignore[assignment]
    members: tuple[int, ...]
    digest: int


class Verdict(NamedTuple):
    """What becomes of the gradient; state: see replica.h."""

    status: Status
    index: int  # type: ignore[assignment]
    attempt: int
    members: tuple[int, ...]
    state: State


class _Params(_abi._Struct):
    _fields_ = _abi._HEAD + [
        ("replica", c_int32),
        ("replicas", c_int32),
        ("witnesses", c_int32),
        ("minimum", c_int32),
        ("commit", c_void_p),
        ("context", c_void_p),
        ("membership", c_void_p),
    ]


class _GroupParams(_abi.GroupParams):
    _fields_ = [("nccl_comm", c_void_p), ("replica", POINTER(_Params))]


class _Result(_abi.StepResult):
    _fields_ = [
        ("replica_status", c_int),
        ("replica_lineage", c_uint32),
        ("replica_epoch", c_uint32),
        ("replica_attempt", c_uint32),
        ("replica_index", c_uint64),
        ("replica_members", c_uint64),
        ("replica_digest", c_uint64),
    ]


class _State(_abi._Struct):
    _fields_ = _abi._HEAD + [
        ("lineage", c_uint32),
        ("index", c_uint64),
        ("digest", c_uint64),
    ]


class _Verdict(_abi._Struct):
    _fields_ = _abi._HEAD + [
        ("status", c_int),
        ("lineage", c_uint32),
        ("epoch", c_uint32),
        ("attempt", c_uint32),
        ("index", c_uint64),
        ("members", c_uint64),
        ("digest", c_uint64),
    ] + [("state", _State)]


_SIGNATURES: dict[str, list[Any]] = {
    "replica_ready": [c_void_p, c_int],
    "replica_apply": [c_void_p, POINTER(_Verdict)],
    "replica_state": [c_void_p, POINTER(_State)],
    "replica_restored": [c_void_p, POINTER(_State)],
}


def _set_of(mask: int) -> tuple[int, ...]:
    return tuple(bit for bit in range(64) if mask >> bit & 1)


def _state_of(found: _State) -> State:
    return State(found.lineage, found.index, found.digest)


class ReplicaGroup(Group):
    """The ranks of one replica, among several; a job of its own. Its step (it has
    one, a ReplicaStep) is decided among the replicas. Making one is collective
    over the ranks; the replicas find each other by TALLY_QUORUM.

    replica: the number of this one; -1: TALLY_REPLICA. replicas, witnesses,
        minimum: 0: TALLY_REPLICAS, TALLY_WITNESSES, TALLY_REPLICA_MIN.
    """

    def __init__(
        self,
        tally: Tally,
        *,
        replica: int = -1,
        replicas: int = 0,
        witnesses: int = 0,
        minimum: int = 0,
        average_ranks: int = 0,
        key: str = "",
        allgather: Optional[Allgather] = None,
    ) -> None:
        self._replica = _Params(
            replica=replica,
            replicas=replicas,
            witnesses=witnesses,
            minimum=minimum,
        )
        super().__init__(
            tally, average_ranks=average_ranks, key=key, allgather=allgather
        )

    def _params(self) -> _abi.GroupParams:
        return _GroupParams(replica=ctypes.pointer(self._replica))


class ReplicaStep(Step):
    """A Step whose count, and then whose gradient, is decided among replicas.
    wait(), and what implies it, raise ReplicaError where this one is not counted:
    end() the epoch all the same, and ask counted()."""

    def __init__(self, group: ReplicaGroup, *arguments: Any, **named: Any) -> None:
        for name, signature in _SIGNATURES.items():
            library().bind(name, signature)
        super().__init__(group, *arguments, **named)

    def end(self, stream: Optional[int] = None) -> None:
        """Ends the epoch, counted or not."""
        try:
            super().end(stream)
        except ReplicaError:
            pass

    def counted(self) -> Count:
        """What became of the latest epoch's count; waits for it. After end().
        Raises what went wrong, but not ReplicaError."""
        result = _Result()
        status = library().step_result(
            self.handle, 0, _abi.RESULT_WAIT, result
        )
        if status not in (0, ReplicaError.status):
            library().fail(status)
        return Count(
            Status(result.replica_status),
            result.replica_index,
            _set_of(result.replica_members),
            result.replica_digest,
        )

    def ready(self, vote: Vote = Vote.READY) -> None:
        """What this rank says of the gradient, reduced over the members that were
        counted; after end() of a COUNTED epoch, and after RETRY. Does not
        block."""
        self._call("replica_ready", vote)

    def apply(self) -> Verdict:
        """Waits for the verdict. APPLY: step the optimizer. RETRY: reduce the
        gradient again over its members, times new scale / old scale, and say
        ready(). IN_DOUBT: keep the gradient and ask again. Else drop it."""
        found = _Verdict(state=_State())
        self._call("replica_apply", found)
        return Verdict(
            Status(found.status),
            found.index,
            found.attempt,
            _set_of(found.members),
            _state_of(found.state),
        )

    def state(self) -> State:
        """The state that the model must hold."""
        found = _State()
        self._call("replica_state", found)
        return _state_of(found)

    def restored(self, state: State) -> None:
        """The model now holds this state, copied from a replica that does. By
        all ranks, when all hold it, between epochs."""
        self._call("replica_restored", _State(**state._asdict()))

    def _call(self, name: str, argument: Any) -> None:
        status = getattr(library(), name)(self.handle, argument)
        if status:
            library().fail(status)
