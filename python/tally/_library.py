# SPDX-License-Identifier: BSD-3-Clause
"""Finds libtally.so, loads it once a process, and turns statuses into
exceptions. It does not know what the calls mean."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from tally import _abi
from tally.errors import BY_STATUS, LibraryNotFoundError, TallyError

_VARIABLE = "TALLY_LIBRARY"
_SONAME = "libtally.so.1"


def _candidates() -> list[str]:
    """The files to try, in order; an operator's choice stands alone."""
    chosen = os.environ.get(_VARIABLE)
    if chosen:
        return [chosen]
    beside = Path(__file__).parent / "lib" / _SONAME
    return [str(beside), _SONAME] if beside.exists() else [_SONAME]


class Library:
    """The functions of one loaded libtally.so."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._dll = ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_LOCAL)
        for name in ("version", "last_error"):
            self._function(name).restype = ctypes.c_char_p
        self._function("status_string").restype = ctypes.c_char_p
        self._function("status_string").argtypes = [ctypes.c_int]
        for name, arguments in _abi.SIGNATURES.items():
            self.bind(name, arguments)

    def bind(self, name: str, arguments: list[Any]) -> None:
        """Makes tally_<name>, which returns a status, a method `name`."""
        function = self._function(name)
        function.argtypes = arguments
        function.restype = ctypes.c_int
        setattr(self, name, function)

    def _function(self, name: str) -> Any:
        return getattr(self._dll, "tally_" + name)

    def __getattr__(self, name: str) -> Callable[..., int]:
        # For type checkers: __init__ sets what SIGNATURES lists.
        raise AttributeError(name)

    def version(self) -> str:
        return ctypes.string_at(self._dll.tally_version()).decode()

    def fail(self, status: int) -> NoReturn:
        """Raises what a status other than TALLY_OK means."""
        sentence = self._dll.tally_last_error().decode(errors="replace")
        name = self._dll.tally_status_string(status).decode()
        raise BY_STATUS.get(status, TallyError)(sentence or name)


@functools.lru_cache(maxsize=None)
def library() -> Library:
    """The library of this process, loaded at the first call."""
    reasons = []
    for path in _candidates():
        try:
            return Library(path)
        except (OSError, AttributeError) as reason:
            reasons.append(f"{path}: {reason}")
    raise LibraryNotFoundError(
        "libtally.so cannot be loaded (" + "; ".join(reasons) + "). "
        f"Set {_VARIABLE} to its path, or install Tally or its wheel."
    )
