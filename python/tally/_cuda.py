# SPDX-License-Identifier: BSD-3-Clause
"""Which memory a step works in: the host's, or a CUDA device's, whose context is
made current while the step is made. The driver is loaded at the first step that
asks for a device; nothing here waits for one."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Iterator
from typing import Any

from tally.errors import InvalidError, UnsupportedError

HOST = -1  # beside the ordinals of CUDA devices


@functools.lru_cache(maxsize=None)
def _driver() -> Any:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as reason:
        raise UnsupportedError(f"there is no CUDA driver: {reason}") from None
    _must(driver.cuInit(0), "cuInit")
    return driver


def _must(error: int, what: str) -> None:
    if error:
        raise UnsupportedError(f"{what}: CUDA error {error}")


def _current() -> int:
    """The ordinal of the current context's device; HOST if there is none."""
    context, ordinal = ctypes.c_void_p(), ctypes.c_int()
    _must(_driver().cuCtxGetCurrent(ctypes.byref(context)), "cuCtxGetCurrent")
    if not context:
        return HOST
    _must(_driver().cuCtxGetDevice(ctypes.byref(ordinal)), "cuCtxGetDevice")
    return ordinal.value


@functools.lru_cache(maxsize=None)
def _primary(ordinal: int) -> ctypes.c_void_p:
    """The context that frameworks share, kept for the life of the process."""
    device, context = ctypes.c_int(), ctypes.c_void_p()
    _must(
        _driver().cuDeviceGet(ctypes.byref(device), ordinal), f"cuda:{ordinal}"
    )
    _must(
        _driver().cuDevicePrimaryCtxRetain(ctypes.byref(context), device),
        f"the context of cuda:{ordinal}",
    )
    return context


def ordinal_of(device: Any) -> int:
    """None, "cpu", "cuda", "cuda:1", or what str() makes one of these, such as a
    torch.device. "cuda": the current context's device, or the first."""
    name = "cpu" if device is None else str(device)
    kind, _, index = name.partition(":")
    odd = (index and not index.isdecimal()) or name[-1:] == ":"
    if kind == "cpu" and not odd:
        return HOST  # of which PyTorch may number the first
    if kind != "cuda" or odd:
        raise InvalidError(
            f'the device of a step is "cpu", "cuda" or "cuda:0", not "{name}"'
        )
    return int(index) if index else max(_current(), 0)


def name_of(ordinal: int) -> str:
    return "the host" if ordinal == HOST else f"cuda:{ordinal}"


@contextlib.contextmanager
def current(ordinal: int) -> Iterator[None]:
    """Within it the thread's context is one of that device."""
    if ordinal == HOST or _current() == ordinal:
        yield
        return
    _must(_driver().cuCtxPushCurrent_v2(_primary(ordinal)), "cuCtxPushCurrent")
    try:
        yield
    finally:
        _driver().cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))


def handle_of(stream: Any) -> int:
    """The CUstream of an object that stands for one."""
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is not None:
        return int(protocol()[1])
    handle = getattr(stream, "cuda_stream", None)  # PyTorch's
    if handle is None:
        raise InvalidError(
            f"{type(stream).__name__} is no stream: Tally takes a CUstream as "
            "int, and what has __cuda_stream__ or cuda_stream"
        )
    return int(handle)
