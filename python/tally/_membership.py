# SPDX-License-Identifier: BSD-3-Clause
"""What a trainer answers to replica groups: a commit vote, and a membership of its
own. Nothing that it raises crosses C, and nothing is lost."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from ctypes import (
    CFUNCTYPE,
    POINTER,
    c_int,
    c_int32,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

from tally import _abi
from tally.errors import (
    InvalidError,
    OrderError,
    SystemCallError,
    TallyError,
)

ADDRESS_MAX = 4096
PEERS_MAX = 64
PARKING_S = 10  # at most, for a thread that comes several times a second

_log = logging.getLogger("tally")


class Member(NamedTuple):
    """A coordinator of a replica, or a witness: see tally_member_t.

    peer: replicas and witnesses share one numbering, 0 to 63.
    incarnation: greater at every start of a peer than at all before.
    address: Tally's; to be handed on as it is.
    """

    peer: int
    incarnation: int
    address: bytes


@dataclass(frozen=True)
class Membership:
    """A membership that the trainer has already, for TALLY_QUORUM=callback. The
    functions are called by a thread of Tally, one at a time; they return soon and
    call nothing of Tally. What one raises is logged (the logger "tally") and kept,
    ReplicaGroup.membership_error, and it is called again.

    announce: makes this process known to the others.
    look: all that are there now, this one or not; a few times a second.
    withdraw: takes back what was announced.
    incarnation: of this start of this peer; 0: the clock's.
    """

    announce: Callable[[Member], None]
    look: Callable[[], Iterable[Member]]
    withdraw: Optional[Callable[[], None]] = None
    incarnation: int = 0


# Called at each rank by ready(): the index, and whether the rank is ready. Whether
# the step may be applied.
Commit = Callable[[int, bool], bool]


class _Member(_abi._Struct):
    _fields_ = _abi._HEAD + [
        ("peer", c_uint32),
        ("incarnation", c_uint64),
        ("address", c_void_p),
        ("address_bytes", c_size_t),
    ]


_Tell = CFUNCTYPE(None, c_void_p, POINTER(_Member))
_Announce = CFUNCTYPE(c_int, c_void_p, POINTER(_Member))
_Look = CFUNCTYPE(c_int, c_void_p, _Tell, c_void_p)
_Withdraw = CFUNCTYPE(None, c_void_p)
_Commit = CFUNCTYPE(c_int, c_void_p, c_uint64, c_int)


class _Membership(_abi._Struct):
    _fields_ = _abi._HEAD + [
        ("context", c_void_p),
        ("incarnation", c_uint64),
        ("announce", _Announce),
        ("look", _Look),
        ("withdraw", _Withdraw),
    ]


class Params(_abi._Struct):
    """tally_replica_params_t."""

    _fields_ = _abi._HEAD + [
        ("replica", c_int32),
        ("replicas", c_int32),
        ("witnesses", c_int32),
        ("minimum", c_int32),
        ("commit", _Commit),
        ("context", c_void_p),
        ("membership", POINTER(_Membership)),
    ]


def _struct_of(member: Member) -> _Member:
    """The C form, which keeps the address."""
    peer, incarnation, address = member
    if not 0 <= peer < PEERS_MAX or not 0 < incarnation < 1 << 64:
        raise InvalidError(
            f"a member is peer {peer} of incarnation {incarnation}: peers are 0 "
            f"to {PEERS_MAX - 1}, incarnations greater than 0"
        )
    if len(address) > ADDRESS_MAX:
        raise InvalidError(
            f"peer {peer} has an address of {len(address)} bytes, more than "
            f"{ADDRESS_MAX}"
        )
    struct = _Member(
        peer=peer, incarnation=incarnation, address_bytes=len(address)
    )
    struct.kept = ctypes.create_string_buffer(address, len(address))
    struct.address = ctypes.addressof(struct.kept)
    return struct


# Of steps that are not closed: a thread of Tally calls them even if nobody holds
# the step any more.
_in_use: set[Callbacks] = set()
_ending = False
_forever = threading.Lock()


@atexit.register
def _park() -> None:
    """C may not call an interpreter that is gone: its threads stay in their next
    call. Who closes groups at exit has done so: that comes first."""
    global _ending
    _ending = True
    _forever.acquire()
    for each in list(_in_use):
        if each.process == os.getpid():  # no threads come along a fork
            each.parked.wait(PARKING_S)


class Callbacks:
    """The functions of a trainer in the form that C calls, from open() to close()
    in a thread of its own."""

    def __init__(
        self, commit: Optional[Commit], membership: Optional[Membership]
    ) -> None:
        self.membership_error: Optional[BaseException] = None
        self._commit_error: Optional[BaseException] = None
        self.parked = threading.Event()
        self.process = 0
        self._commit = commit
        self._membership = membership

    def fill(self, params: Params) -> None:
        """Fills in the functions, whose C form `params` keeps."""
        self._params = params
        given = self._membership
        if self._commit is not None:
            params.commit = _Commit(self._vote)
        if given is None:
            return
        struct = _Membership(
            incarnation=given.incarnation,
            announce=_Announce(self._announce),
            look=_Look(self._look),
        )
        if given.withdraw is not None:
            struct.withdraw = _Withdraw(self._withdraw)
        params.membership = ctypes.pointer(struct)

    def open(self) -> None:
        """From here on a thread of Tally may call."""
        if self._membership is not None:
            self.process = os.getpid()
            _in_use.add(self)

    def close(self) -> None:
        _in_use.discard(self)

    def raise_commit_error(self) -> None:
        """In the thread that asked for the vote, once."""
        error, self._commit_error = self._commit_error, None
        if error is not None:
            raise error

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """An error of the library within it, unless it is the caller's own, has as
        its cause what the membership raised when it was last asked, if it did."""
        try:
            yield
        except TallyError as error:
            own = isinstance(error, (InvalidError, OrderError))
            if own or self.membership_error is None:
                raise
            raise error from self.membership_error

    def _vote(self, _context: Any, index: int, ready: int) -> int:
        assert self._commit is not None
        try:
            return 1 if self._commit(index, bool(ready)) else 0
        except BaseException as error:  # must not cross C
            self._commit_error = error
            return 0

    def _ask(self, what: str, function: Callable[[], None]) -> int:
        if _ending:
            self.parked.set()
            _forever.acquire()
        try:
            function()
        except BaseException as error:  # must not cross C
            # Asked several times a second: said once.
            if self.membership_error is None:
                _log.error("membership: %s raised", what, exc_info=error)
            self.membership_error = error
            return SystemCallError.status
        self.membership_error = None
        return 0

    def _announce(self, _context: Any, member: Any) -> int:
        found = member.contents
        address = ctypes.string_at(found.address, found.address_bytes)
        given = self._membership
        assert given is not None
        self_ = Member(found.peer, found.incarnation, address)
        return self._ask("announce", lambda: given.announce(self_))

    def _look(self, _context: Any, tell: Any, tally: Any) -> int:
        given = self._membership
        assert given is not None

        def look() -> None:
            # All are looked at before one is told.
            for struct in [_struct_of(each) for each in given.look()]:
                tell(tally, struct)

        return self._ask("look", look)

    def _withdraw(self, _context: Any) -> None:
        given = self._membership
        assert given is not None and given.withdraw is not None
        self._ask("withdraw", given.withdraw)
