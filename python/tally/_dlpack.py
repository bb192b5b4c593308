# SPDX-License-Identifier: BSD-3-Clause
"""Looks into a DLPack capsule, without taking it: what owned the array still
does, and frees it when the capsule goes. No stream is made to wait."""

from __future__ import annotations

import ctypes
from ctypes import c_int32, c_int64, c_uint8, c_uint16, c_uint64, c_void_p
from typing import Any, NamedTuple, Optional

_HOST_MEMORY = (1, 3)  # plain, or pinned by CUDA
_CUDA_MEMORY = (2, 13)  # plain, or managed
_KINDS = {0: "int", 1: "uint", 2: "float", 4: "bfloat"}
_NO_WAIT = -1  # for __dlpack__(stream=...)
_CAPSULE = b"dltensor"


class _Tensor(ctypes.Structure):
    """DLTensor, with which DLManagedTensor begins."""

    _fields_ = [
        ("data", c_void_p),
        ("device_type", c_int32),
        ("device_id", c_int32),
        ("dimensions", c_int32),
        ("kind", c_uint8),
        ("bits", c_uint8),
        ("lanes", c_uint16),
        ("shape", ctypes.POINTER(c_int64)),
        ("strides", ctypes.POINTER(c_int64)),
        ("byte_offset", c_uint64),
    ]


class View(NamedTuple):
    """`strides` are in elements; None: no gaps. `ordinal` counts CUDA devices,
    and is None where the memory is the host's."""

    address: int
    type: str
    shape: tuple[int, ...]
    strides: Optional[tuple[int, ...]]
    ordinal: Optional[int]


def _pointer(capsule: Any) -> int:
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(get(capsule, _CAPSULE))


def _type_name(tensor: _Tensor) -> str:
    kind = _KINDS.get(tensor.kind, f"kind {tensor.kind} of ")
    lanes = f"x{tensor.lanes}" if tensor.lanes != 1 else ""
    return f"{kind}{tensor.bits}{lanes}"


def look(array: Any) -> View:
    """What the array's __dlpack__ says. ValueError: it lies on a device that is
    neither the host nor CUDA."""
    device, ordinal = array.__dlpack_device__()
    on_cuda = device in _CUDA_MEMORY
    if not on_cuda and device not in _HOST_MEMORY:
        raise ValueError(f"DLPack's device {int(device)}")
    capsule = array.__dlpack__(stream=_NO_WAIT) if on_cuda else array.__dlpack__()
    tensor = _Tensor.from_address(_pointer(capsule))
    count = tensor.dimensions
    return View(
        (tensor.data or 0) + tensor.byte_offset,
        _type_name(tensor),
        tuple(tensor.shape[:count]),
        tuple(tensor.strides[:count]) if tensor.strides else None,
        int(ordinal) if on_cuda else None,
    )
