# SPDX-License-Identifier: BSD-3-Clause
"""What the calls of a step cost from Python, and what importing costs. Writes
bench/PYTHON.md:
    TALLY_LIBRARY=build/.libs/libtally.so PYTHONPATH=python \\
        python3 bench/python_calls.py"""

import array
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import tally

ROUNDS = 20000
IMPORTS = 21
STEP_AIM_US = 25.0
IMPORT_AIM_MS = 50.0


class Labels:
    """A micro-batch of one token."""

    def __init__(self):
        self.values = array.array("q", [1])
        self.__array_interface__ = {
            "typestr": "<i8",
            "shape": (1,),
            "data": (self.values.buffer_info()[0], False),
        }


def call_times(step, labels, rounds, after=lambda: None):
    """Nanoseconds of each call of a step, and of the five together, by name: one
    a round, and `after` each."""
    calls = {
        "begin": step.begin,
        "count": lambda: step.count(labels),
        "reduce": step.reduce,
        "wait": step.wait,
        "end": step.end,
    }
    marks = []
    for _ in range(rounds):
        times = [time.perf_counter_ns()]
        for call in calls.values():
            call()
            times.append(time.perf_counter_ns())
        marks.append(times)
        after()
    rows = {
        name: [mark[index + 1] - mark[index] for mark in marks]
        for index, name in enumerate(calls)
    }
    rows["all five"] = [mark[-1] - mark[0] for mark in marks]
    return rows


def calls_us(labels):
    """p50 and p99 of each call of a step, and of the five together."""
    with tally.Tally() as opened, tally.Group(opened) as group:
        with tally.Step(group, 8) as step:
            rows = call_times(step, labels, ROUNDS)
    return {name: percentiles(values) for name, values in rows.items()}


def percentiles(values):
    values.sort()
    return values[len(values) // 2] / 1e3, values[len(values) * 99 // 100] / 1e3


def python_ms(code):
    """Processor time of an interpreter, the median of several: other programs do
    not count."""
    times = []
    for _ in range(IMPORTS):
        child = os.posix_spawn(
            sys.executable, [sys.executable, "-c", code], os.environ
        )
        _, status, usage = os.wait4(child, 0)
        if status != 0:
            raise RuntimeError(f"{code!r} failed")
        times.append((usage.ru_utime + usage.ru_stime) * 1e3)
    return statistics.median(times)


def reached(value, aim):
    return "reached" if value <= aim else "**not reached**"


def main():
    kinds = {"an object with `__array_interface__`": Labels()}
    try:
        import torch
    except ImportError:
        pass
    else:
        kinds[f"a tensor of PyTorch {torch.__version__}"] = torch.ones(
            1, dtype=torch.int64
        )
    importing = python_ms("import tally") - python_ms("pass")
    text = [
        "# Measured: Python",
        "",
        "Written by `bench/python_calls.py`; do not edit. One rank, one token, "
        f"{ROUNDS} steps;",
        f"Python {platform.python_version()}, Tally {tally.library_version()}. "
        "The clock is read between calls, which adds to each.",
    ]
    for kind, labels in kinds.items():
        text += [
            "",
            f"Labels are {kind}:",
            "",
            "| call | p50 us | p99 us | aim |  |",
            "|---|---|---|---|---|",
        ]
        for name, (p50, p99) in calls_us(labels).items():
            whole = name == "all five"
            text.append(
                f"| {name} | {p50:.2f} | {p99:.2f} | "
                + (f"at most {STEP_AIM_US:.0f} | {reached(p50, STEP_AIM_US)} |"
                   if whole else " |  |")
            )
    text += [
        "",
        f"`import tally` takes {importing:.1f} ms of processor time more than an "
        f"interpreter that does nothing (aim: at most {IMPORT_AIM_MS:.0f} ms, "
        f"{reached(importing, IMPORT_AIM_MS)}); it loads neither PyTorch nor "
        "the library.",
        "",
    ]
    report = Path(__file__).parent / "PYTHON.md"
    _, gpu, measured = report.read_text().partition("## On a GPU")
    report.write_text("\n".join(text) + (f"\n{gpu}{measured}" if gpu else ""))
    print("\n".join(text))


if __name__ == "__main__":
    main()
