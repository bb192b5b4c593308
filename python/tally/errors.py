# SPDX-License-Identifier: BSD-3-Clause
"""One exception a status code; the text is the library's own sentence."""

from __future__ import annotations


class TallyError(RuntimeError):
    """A call of the library failed. `status` is its tally_status_t."""

    status = 0


class InvalidError(TallyError, ValueError):
    status = -1


class OutOfMemoryError(TallyError, MemoryError):
    status = -2


class SystemCallError(TallyError):
    status = -3


class ConfigError(TallyError):
    status = -4


class AbiError(TallyError):
    status = -5


class TransportError(TallyError):
    status = -6


class BootstrapError(TallyError):
    status = -7


class DeadlineError(TallyError, TimeoutError):
    status = -8


class PeerError(TallyError):
    status = -9


class OrderError(TallyError):
    status = -10


class MismatchError(TallyError):
    status = -11


class SumOverflowError(TallyError, OverflowError):
    status = -12


class DeadGroupError(TallyError):
    status = -13


class BusyError(TallyError):
    status = -14


class OverwrittenError(TallyError):
    status = -15


class UnsupportedError(TallyError):
    status = -16


class ReplicaError(TallyError):
    """This replica group is not counted in this step; the group lives."""

    status = -17


class LibraryNotFoundError(TallyError, ImportError):
    """libtally.so is nowhere, or what was found is not libtally.so."""


BY_STATUS: dict[int, type[TallyError]] = {
    kind.status: kind
    for kind in TallyError.__subclasses__()
    if kind.status < 0
}
