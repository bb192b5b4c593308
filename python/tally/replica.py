# SPDX-License-Identifier: BSD-3-Clause
"""Replica groups, of which any may vanish: the calls of include/tally/replica.h.
doc/fault.md says how a step goes.

    group = ReplicaGroup(tally, replica=0, replicas=3)
    step = ReplicaStep(group, vocab)

A Witness votes and has no model.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from ctypes import POINTER, c_int, c_uint32, c_uint64, c_void_p
from enum import IntEnum
from typing import Any, NamedTuple, Optional

from tally import _abi, _log
from tally._library import library
from tally._membership import (
    Callbacks,
    Commit,
    Member,
    Membership,
    Params,
)
from tally.errors import ReplicaError
from tally.group import Allgather, Group, Tally, _Owned
from tally.step import Step

__all__ = [
    "Commit",
    "Count",
    "Member",
    "Membership",
    "ReplicaGroup",
    "ReplicaStep",
    "State",
    "Status",
    "Verdict",
    "Vote",
    "Witness",
]


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


class _GroupParams(_abi.GroupParams):
    _fields_ = [("nccl_comm", c_void_p), ("replica", POINTER(Params))]


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
    commit: a vote of the trainer's own: commit(index, ready) is called by ready()
        at each rank, and says whether the step may be applied. Where any rank
        says no, or raises, the step is discarded everywhere.
    membership: at rank 0, with TALLY_QUORUM=callback.
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
        commit: Optional[Commit] = None,
        membership: Optional[Membership] = None,
    ) -> None:
        self._replica = Params(
            replica=replica,
            replicas=replicas,
            witnesses=witnesses,
            minimum=minimum,
        )
        self.callbacks = Callbacks(commit, membership)
        self.callbacks.fill(self._replica)
        super().__init__(
            tally, average_ranks=average_ranks, key=key, allgather=allgather
        )

    def _params(self) -> _abi.GroupParams:
        return _GroupParams(replica=ctypes.pointer(self._replica))

    @property
    def membership_error(self) -> Optional[BaseException]:
        """What the membership raised when it was last asked; None: nothing. It is
        the cause of an error of the step, too."""
        return self.callbacks.membership_error


class ReplicaStep(Step):
    """A Step whose count, and then whose gradient, is decided among replicas.
    wait(), and what implies it, raise ReplicaError where this one is not counted:
    end() the epoch all the same, and ask counted()."""

    def __init__(self, group: ReplicaGroup, *arguments: Any, **named: Any) -> None:
        for name, signature in _SIGNATURES.items():
            library().bind(name, signature)
        self._callbacks = group.callbacks
        self._callbacks.open()
        try:
            with self._callbacks.explained():
                super().__init__(group, *arguments, **named)
        except BaseException:
            self._callbacks.close()
            raise

    def close(self) -> None:
        super().close()
        self._callbacks.close()

    def wait(self, stream: Any = None) -> None:
        """As Step's. ReplicaError: this replica is not counted."""
        with self._callbacks.explained():
            super().wait(stream)

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
            with self._callbacks.explained():
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
        block. Raises what the group's commit raised: the vote was a veto then,
        and apply() says so."""
        self._call("replica_ready", vote)
        self._callbacks.raise_commit_error()

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
            with self._callbacks.explained():
                library().fail(status)


class Witness(_Owned):
    """Votes on what replica groups decide, by threads of its own, and has no ranks
    and no model; close() ends it, and the groups lose its vote. A process of one,
    or beside another job: the tool tally_witness is one.

    number: at least the number of replicas; -1: TALLY_REPLICA. replicas,
        witnesses, minimum: as of the groups. Membership is by TALLY_QUORUM, but
        not callback.
    """

    _free = "witness_close"

    def __init__(
        self,
        *,
        number: int = -1,
        replicas: int = 0,
        witnesses: int = 0,
        minimum: int = 0,
        log: Optional[Callable[[int, str], None]] = None,
    ) -> None:
        super().__init__()
        found = library()
        found.bind("witness_open", [POINTER(_abi.Host), POINTER(c_void_p)])
        found.bind("witness_close", [c_void_p])
        given = {
            "TALLY_REPLICA": number if number >= 0 else None,
            "TALLY_REPLICAS": replicas or None,
            "TALLY_WITNESSES": witnesses or None,
            "TALLY_REPLICA_MIN": minimum or None,
        }
        host = _log.Host()
        if log is not None:
            host.takes(log)
        settings = {
            name: str(value) for name, value in given.items() if value is not None
        }
        # Without any, the library reads the environment itself, and names
        # variables that are misspelt.
        if settings:
            host.get_env = _environment_with(settings)
        status = found.witness_open(host, self._handle)
        if status:
            found.fail(status)
        host.keep("witness_close", self._handle)
        self._host = host

    def close(self) -> None:
        super().close()
        self._host.forget()


def _environment_with(settings: dict[str, str]) -> Any:
    """get_env of tally_host_t: these settings, and the environment."""
    # They must stay while they are read.
    values = {
        os.fsencode(name): ctypes.create_string_buffer(os.fsencode(value))
        for name, value in {**os.environ, **settings}.items()
    }

    def get(_context: Any, name: bytes) -> Optional[int]:
        value = values.get(name)
        return None if value is None else ctypes.addressof(value)

    return _abi.EnvCallback(get)
