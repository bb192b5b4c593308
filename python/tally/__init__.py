# SPDX-License-Identifier: BSD-3-Clause
"""Tally from Python: the balanced token reduction. No compiler, no dependency;
tally.torch has the loss for PyTorch."""

from tally._abi import IGNORE_INDEX, Convention, DType, Flag, Order
from tally._library import library as _library
from tally.errors import TallyError
from tally.group import Group, GroupInfo, Tally
from tally.step import PART, Channel, ChannelResult, Columns, Result, Step

__all__ = [
    "IGNORE_INDEX",
    "Channel",
    "ChannelResult",
    "Columns",
    "Convention",
    "DType",
    "Flag",
    "Group",
    "GroupInfo",
    "Order",
    "PART",
    "Result",
    "Step",
    "Tally",
    "TallyError",
    "library_path",
    "library_version",
]

__version__ = "0.1.0"


def library_version() -> str:
    """The version of the libtally.so in use."""
    return _library().version()


def library_path() -> str:
    """Where that libtally.so was found."""
    return _library().path
