# SPDX-License-Identifier: BSD-3-Clause
"""What Tally must know of an array, whoever made it: a PyTorch tensor, or what
speaks __cuda_array_interface__, __array_interface__ or DLPack. Nothing is copied
and no device is waited for."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple, Optional

from tally import _dlpack
from tally._abi import DType
from tally._cuda import HOST
from tally.errors import InvalidError, UnsupportedError

_TYPES = {
    "torch.float32": DType.F32,
    "torch.bfloat16": DType.BF16,
    "torch.float16": DType.F16,
    "torch.int32": DType.I32,
    "torch.int64": DType.I64,
    "<f4": DType.F32,
    "<f2": DType.F16,
    "<i4": DType.I32,
    "<i8": DType.I64,
    "float32": DType.F32,  # DLPack's
    "bfloat16": DType.BF16,
    "float16": DType.F16,
    "int32": DType.I32,
    "int64": DType.I64,
}
_BYTES = {DType.F32: 4, DType.BF16: 2, DType.F16: 2, DType.I32: 4, DType.I64: 8}
_INTERFACES = (("__cuda_array_interface__", None), ("__array_interface__", HOST))
# torch.dtype objects, which are singletons, as they are met: str() is dear.
_MET: dict[Any, DType] = {}


class Array(NamedTuple):
    """`strides` are in elements. `ordinal`: of the CUDA device, or HOST; None: a
    CUDA device of which the array does not say which."""

    address: int
    type: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    ordinal: Optional[int]


def describe(array: Any) -> Array:
    """Where an array lies, and how."""
    if hasattr(array, "data_ptr"):
        kind = _MET.get(array.dtype)
        if kind is None:
            kind = _MET[array.dtype] = _type_of(str(array.dtype))
        if array.is_cuda:
            ordinal = array.get_device()
        elif array.is_cpu:
            ordinal = HOST
        else:
            raise _elsewhere(array.device)
        return Array(
            array.data_ptr(), kind, array.shape, array.stride(), ordinal
        )
    speaks_dlpack = hasattr(array, "__dlpack_device__")
    for name, ordinal in _INTERFACES:
        interface = getattr(array, name, None)
        # Only DLPack has a name for bfloat16.
        if interface is not None and (
            interface["typestr"] in _TYPES or not speaks_dlpack
        ):
            return _of_interface(interface, ordinal)
    if speaks_dlpack:
        return _of_dlpack(array)
    raise InvalidError(
        f"{type(array).__name__} is no array: Tally takes PyTorch tensors and "
        "what has __cuda_array_interface__, __array_interface__ or __dlpack__"
    )


def _elsewhere(device: object) -> UnsupportedError:
    return UnsupportedError(
        f"an array lies on {device}: Tally works in the memory of the host and "
        "of CUDA devices"
    )


def _type_of(name: str) -> DType:
    kind = _TYPES.get(name)
    if kind is None:
        raise InvalidError(
            f"arrays of {name} are not taken: logits are float32, bfloat16 or "
            "float16, labels int32 or int64, weights float32"
        )
    return kind


def _of_dlpack(array: Any) -> Array:
    try:
        view = _dlpack.look(array)
    except ValueError as device:
        raise _elsewhere(device) from None
    return Array(
        view.address,
        _type_of(view.type),
        view.shape,
        dense_strides(view.shape) if view.strides is None else view.strides,
        HOST if view.ordinal is None else view.ordinal,
    )


def _of_interface(interface: dict[str, Any], ordinal: Optional[int]) -> Array:
    kind = _type_of(interface["typestr"])
    shape = tuple(interface["shape"])
    strides = interface.get("strides")
    if strides is None:
        return Array(
            interface["data"][0], kind, shape, dense_strides(shape), ordinal
        )
    return Array(
        interface["data"][0],
        kind,
        shape,
        tuple(stride // _BYTES[kind] for stride in strides),
        ordinal,
    )


def dense_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides = []
    stride = 1
    for extent in reversed(shape):
        strides.append(stride)
        stride *= extent
    return tuple(reversed(strides))


def dense(what: str, array: Array) -> int:
    """The number of elements of an array that has no gaps."""
    expected = 1
    for extent, stride in zip(reversed(array.shape), reversed(array.strides)):
        if extent != 1 and stride != expected and 0 not in array.shape:
            raise InvalidError(f"{what} must be contiguous")
        expected *= extent
    return expected


def rows(what: str, array: Array, columns: int) -> tuple[int, int]:
    """The number of rows of `columns` elements, and the stride between them."""
    if not array.shape or array.shape[-1] != columns:
        raise InvalidError(
            f"the last dimension of {what} is the vocabulary, {columns}; its "
            f"shape is {list(array.shape)}"
        )
    if columns > 1 and array.strides[-1] != 1:
        raise InvalidError(f"{what}: a row must be contiguous")
    count = 1
    stride = 0  # of no consequence to a single row
    for extent, step in zip(
        reversed(array.shape[:-1]), reversed(array.strides[:-1])
    ):
        if extent == 1:
            continue
        if extent > 1 and (
            step < columns if stride == 0 else step != stride * count
        ):
            raise InvalidError(
                f"{what}: rows must lie at one distance, without overlap"
            )
        stride = stride or step
        count *= extent
    return count, stride


class Scales:
    """The scales of a step: float32 [K] at an address that stays, as an array
    that others take without a copy; HostScales or CudaScales."""

    def __init__(self, address: int, channels: int, owner: object) -> None:
        self.address = address
        self.shape = (channels,)
        self._owner = owner  # the memory is the step's

    def _interface(self, version: int) -> dict[str, Any]:
        return {
            "version": version,
            "typestr": "<f4",
            "shape": self.shape,
            "strides": None,
            "data": (self.address, False),
        }


class HostScales(Scales):
    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self._interface(3)

    def host_buffer(self) -> Any:
        """The same memory by the buffer protocol."""
        kind: Any = type(
            "_Buffer", (ctypes.c_float * self.shape[0],), {"owner": self._owner}
        )
        return kind.from_address(self.address)


class CudaScales(Scales):
    """Whoever reads it does so on the stream that waited, or on one behind it."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        # Version 3 with a stream of None, which says: nothing to wait for.
        return {**self._interface(3), "stream": None}
