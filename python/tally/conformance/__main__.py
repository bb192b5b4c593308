# SPDX-License-Identifier: BSD-3-Clause
"""The command line of the suite."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tally.conformance import data, suite
from tally.conformance.case import Case
from tally.conformance.losses import BUILT_IN, find

_STDOUT = "-"


def markdown(cases: Sequence[Case]) -> str:
    """A table: a row a layout and M, a column a scenario, for each loss."""
    text = []
    for loss in dict.fromkeys(case.loss for case in cases):
        own = [case for case in cases if case.loss == loss and not case.skipped]
        scenarios = list(dict.fromkeys(case.scenario for case in own))
        text += [
            f"### {loss}",
            "",
            "| | M | " + " | ".join(scenarios) + " |",
            "|---|---|" + "---|" * len(scenarios),
        ]
        cells = {
            (case.layout, case.micro_batches, case.scenario): _cell(case)
            for case in own
        }
        for layout, count in dict.fromkeys(
            (case.layout, case.micro_batches) for case in own
        ):
            row = [cells.get((layout, count, each), "") for each in scenarios]
            text.append(f"| {layout} | {count} | " + " | ".join(row) + " |")
        rest = " |" * (len(scenarios) - 1)
        text += [
            f"| {case.layout} | | skipped: {case.reason} |{rest}"
            for case in cases
            if case.loss == loss and case.skipped
        ]
        text.append("")
    return "\n".join(text)


def _cell(case: Case) -> str:
    if case.reason:
        return "**error**"
    if math.isinf(case.error):
        return "**NaN**"
    return f"{case.error:.0e}" if case.passed else f"**{case.error:.1e}**"


def _row(case: Case) -> dict[str, Any]:
    """JSON knows only finite numbers."""
    error = case.error if math.isfinite(case.error) else None
    return {**asdict(case), "error": error}


def _see_that_opens(path: str) -> None:
    """What is there stays."""
    if path != _STDOUT:
        open(path, "a", encoding="utf-8").close()


def _write(path: str, text: str) -> None:
    if path == _STDOUT:
        print(text)
        return
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tally.conformance",
        description="Compares each rank's gradient with that of one process on "
        "all the data in float64. Needs PyTorch; four processes on this host.",
        epilog="losses that are built in: "
        + ", ".join(BUILT_IN)
        + "; all but tally are wrong, for comparison",
    )
    parser.add_argument(
        "--loss",
        action="append",
        metavar="NAME",
        help="package.module:name or a built-in one; may be repeated",
    )
    parser.add_argument(
        "--layout",
        action="append",
        default=[],
        choices=suite.LAYOUT_NAMES,
        help="only this way to spread the model",
    )
    parser.add_argument(
        "--scenario",
        action="append",
        choices=data.SCENARIOS,
        help="only this spread of labels",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=suite.TOLERANCE,
        help="largest relative error of a parameter's gradient (%(default)s)",
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="writes the cases; an error of null is not a number. - is standard "
        "output, after a line each",
    )
    parser.add_argument("--markdown", metavar="FILE", help="writes a table")
    options = parser.parse_args()
    for name in options.loss or []:
        try:
            find(name)
        except ValueError as reason:
            parser.error(str(reason))
    # Before the cases run, which takes minutes.
    for path in filter(None, (options.json, options.markdown)):
        try:
            _see_that_opens(path)
        except OSError as failure:
            parser.error(str(failure))
    cases = suite.run(
        options.loss or ["tally"],
        options.layout,
        options.scenario or data.SCENARIOS,
        options.tolerance,
    )
    if options.json:
        _write(options.json, json.dumps([_row(case) for case in cases], indent=1))
    if options.markdown:
        _write(options.markdown, markdown(cases))
    skipped = sum(case.skipped for case in cases)
    failed = sum(not case.passed for case in cases) - skipped
    passed = len(cases) - failed - skipped
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not cases else 0


sys.exit(main())
