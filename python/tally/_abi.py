# SPDX-License-Identifier: BSD-3-Clause
"""The structs and constants of include/tally, for ctypes; no behaviour."""

from __future__ import annotations

import ctypes
from ctypes import (
    CFUNCTYPE,
    POINTER,
    c_char_p,
    c_double,
    c_float,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from enum import IntEnum, IntFlag
from typing import Any

ABI = 1
CHANNELS_MAX = 64
MAX_LANES_MAX = 14
NOT_YET = 1
RESULT_WAIT = 1

# The label of tokens that do not count: TALLY_IGNORE_INDEX, and the only place
# in this package that says so.
IGNORE_INDEX = -100


class Order(IntEnum):
    """When the scale is known: see tally_order_t."""

    COUNT_FIRST = 0
    SCALE_LATE = 1


class Convention(IntEnum):
    """What the framework does with gradients: see tally_convention_t."""

    SUM = 0
    AVERAGE = 1
    AVERAGE_ALL = 2
    SCHEDULE = 3


class Device(IntEnum):
    """tally_device_t."""

    HOST = 0
    CUDA = 1


class Flag(IntFlag):
    """What a result says besides its totals: TALLY_STEP_*."""

    EMPTY = 0x1
    NONFINITE = 0x2
    BAD_LABELS = 0x4
    NO_LOSS = 0x8
    OTHER_TOKENS = 0x10


class DType(IntEnum):
    """tally_dtype_t."""

    F32 = 1
    BF16 = 2
    F16 = 3
    I32 = 4
    I64 = 5


_HEAD: list[Any] = [("size", c_size_t), ("abi", c_uint32)]

LogCallback = CFUNCTYPE(None, c_void_p, c_int, c_char_p)
EnvCallback = CFUNCTYPE(c_void_p, c_void_p, c_char_p)
AllgatherCallback = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_size_t)


class _Struct(ctypes.Structure):
    """A struct that begins with its size and ABI, as TALLY_INIT fills them."""

    def __init__(self, **fields: object) -> None:
        super().__init__(size=ctypes.sizeof(type(self)), abi=ABI, **fields)


class Host(_Struct):
    _fields_ = _HEAD + [
        ("context", c_void_p),
        ("log", LogCallback),
        ("get_env", EnvCallback),
        ("allgather", AllgatherCallback),
        ("rank", c_int32),
        ("world_size", c_int32),
    ]


class GroupParams(_Struct):
    _fields_ = _HEAD + [
        ("ranks", POINTER(c_int32)),
        ("rank_count", c_int32),
        ("average_ranks", c_int32),
        ("key", c_char_p),
        ("allgather", AllgatherCallback),
        ("context", c_void_p),
    ]


class GroupInfo(_Struct):
    _fields_ = _HEAD + [
        ("rank", c_int32),
        ("ranks", c_int32),
        ("nodes", c_int32),
        ("local_ranks", c_int32),
        ("transport", c_char_p),
    ]


class ChannelParams(_Struct):
    _fields_ = _HEAD + [
        ("name", c_char_p),
        ("vocab", c_int64),
        ("ignore_index", c_int64),
        ("coefficient", c_double),
        ("label_smoothing", c_double),
        ("z_loss", c_double),
        ("soft_cap", c_double),
        ("temperature", c_double),
    ]


class StepParams(_Struct):
    _fields_ = _HEAD + [
        ("order", c_int),
        ("convention", c_int),
        ("channels", POINTER(ChannelParams)),
        ("channel_count", c_uint32),
        ("max_lanes", c_uint32),
        ("schedule_divisor", c_double),
        ("device", c_int),
    ]


class Labels(_Struct):
    _fields_ = _HEAD + [
        ("type", c_int),
        ("values", c_void_p),
        ("tokens", c_int64),
        ("weights", c_void_p),
    ]


class Logits(_Struct):
    _fields_ = _HEAD + [
        ("type", c_int),
        ("values", c_void_p),
        ("row_stride", c_int64),
    ]


class Columns(_Struct):
    _fields_ = _HEAD + [
        ("shards", c_int32),
        ("begin", c_int64),
        ("width", c_int64),
    ]


class LossOutputs(_Struct):
    _fields_ = _HEAD + [
        ("gradient", c_void_p),
        ("gradient_stride", c_int64),
        ("nll", c_void_p),
        ("grad_scale", c_void_p),
    ]


class ChannelResult(_Struct):
    _fields_ = _HEAD + [
        ("flags", c_uint32),
        ("scale", c_float),
        ("loss_hi", c_int64),
        ("loss_lo", c_int64),
        ("weight_hi", c_int64),
        ("weight_lo", c_int64),
        ("count", c_int64),
        ("nonfinite", c_int64),
        ("bad_labels", c_int64),
        ("loss_sum", c_double),
        ("weight_sum", c_double),
        ("mean", c_double),
    ]


class StepResult(_Struct):
    _fields_ = _HEAD + [
        ("flags", c_uint32),
        ("epoch", c_uint64),
        ("status", c_int),
        ("failed_rank", c_int32),
        ("members", c_int32),
        ("channel_capacity", c_uint32),
        ("channels", POINTER(ChannelResult)),
        ("max", c_float * MAX_LANES_MAX),
    ]


# Every function that returns a status, with its arguments.
SIGNATURES: dict[str, list[Any]] = {
    "open": [POINTER(Host), POINTER(c_void_p)],
    "close": [c_void_p],
    "rank": [c_void_p, POINTER(c_int32), POINTER(c_int32)],
    "group_create": [c_void_p, POINTER(GroupParams), POINTER(c_void_p)],
    "group_free": [c_void_p],
    "group_describe": [c_void_p, POINTER(GroupInfo)],
    "step_create": [c_void_p, POINTER(StepParams), POINTER(c_void_p)],
    "step_free": [c_void_p],
    "step_begin": [c_void_p, c_int32, c_void_p],
    "step_count": [c_void_p, c_uint32, POINTER(Labels), c_void_p],
    "step_reduce": [c_void_p, c_void_p],
    "step_wait": [c_void_p, c_void_p],
    "step_loss": [
        c_void_p,
        c_uint32,
        POINTER(Logits),
        POINTER(Labels),
        POINTER(LossOutputs),
        c_void_p,
    ],
    "step_loss_part": [
        c_void_p,
        c_uint32,
        POINTER(Logits),
        POINTER(Labels),
        POINTER(Columns),
        c_void_p,
        c_void_p,
    ],
    "step_loss_columns": [
        c_void_p,
        c_uint32,
        POINTER(Logits),
        POINTER(Labels),
        POINTER(Columns),
        c_void_p,
        POINTER(LossOutputs),
        c_void_p,
    ],
    "step_multiply": [c_void_p, c_int, c_void_p, c_int64, c_void_p, c_void_p],
    "step_max": [c_void_p, c_uint32, c_void_p, c_void_p],
    "step_end": [c_void_p, c_void_p],
    "step_abandon": [c_void_p, c_void_p],
    "step_scale": [c_void_p, POINTER(c_void_p)],
    "step_result": [c_void_p, c_uint64, c_uint32, POINTER(StepResult)],
}
