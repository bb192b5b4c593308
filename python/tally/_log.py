# SPDX-License-Identifier: BSD-3-Clause
"""Log lines that threads of the library give to a function of Python, even if nobody
holds the object any more that it was given to."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from ctypes import c_void_p
from typing import Any

from tally import _abi
from tally._library import library

Log = Callable[[int, str], None]


class Host(_abi.Host):
    """tally_host_t whose `log` is a function of Python: from keep() to forget() the
    library may call it."""

    free = ""  # the function of the library that ends what has it
    process = 0
    handle = 0

    def takes(self, log: Log) -> None:
        self.log = _abi.LogCallback(
            lambda _context, level, line: _take(log, level, line)
        )

    def keep(self, free: str, handle: c_void_p) -> None:
        self.free, self.process = free, os.getpid()
        self.handle = handle.value or 0
        _in_use[self.handle] = self

    def forget(self) -> None:
        _in_use.pop(self.handle, None)


_in_use: dict[int, Host] = {}
_ending = False
_forever = threading.Lock()


def _take(log: Log, level: int, line: bytes) -> None:
    if _ending and threading.current_thread() is not threading.main_thread():
        _forever.acquire()
    log(level, line.decode(errors="replace"))


@atexit.register
def _end() -> None:
    """C may not call an interpreter that is gone. What has groups cannot be closed:
    its threads stay in their next call. The library puts them to rest by itself, but
    in exit(), when the interpreter is gone already."""
    global _ending
    for host in list(_in_use.values()):
        if host.process == os.getpid():  # no threads come along a fork
            if getattr(library(), host.free)(c_void_p(host.handle)) == 0:
                host.forget()
    _forever.acquire()
    _ending = True
