# SPDX-License-Identifier: BSD-3-Clause
"""Processes of the suite. Forked, so that PyTorch is imported once."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable

import torch


def share_what_is_there() -> None:
    """Before the first fork: children do not look for garbage in what was imported,
    which would copy its pages, too."""
    gc.collect()
    gc.freeze()


def fork(main: Callable[..., None], *arguments: object) -> int:
    """A process that runs main and nothing else; its id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    # What the parent would do at its end is the parent's.
    status = 1
    try:
        # A trainer's fault in C ends a process without a word otherwise.
        faulthandler.enable()
        torch.set_num_threads(1)
        os.environ.setdefault("TALLY_HOST_THREADS", "1")
        main(*arguments)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(children: list[int]) -> list[int]:
    """What they ended with: an exit status, or less than 0 the signal."""
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def told(statuses: list[int]) -> str:
    """The same in words, of those that did not end well."""
    return ", ".join(
        f"{index}: {signal.Signals(-status).name if status < 0 else status}"
        for index, status in enumerate(statuses)
        if status
    )
