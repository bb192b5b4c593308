# SPDX-License-Identifier: BSD-3-Clause
"""One case of the suite, and how far a gradient is from the reference."""

from __future__ import annotations

from dataclasses import dataclass

import torch

Gradients = dict[str, torch.Tensor]


@dataclass
class Case:
    """One row: the worst rank's error, or why there is none."""

    loss: str
    layout: str
    scenario: str
    micro_batches: int
    error: float  # relative; not finite: not a number came out
    passed: bool
    reason: str = ""
    skipped: bool = False

    @classmethod
    def left_out(cls, loss: str, layout: str, reason: str) -> Case:
        """A layout that cannot be gone here, as a row that says why."""
        return cls(loss, layout, "all", 0, float("inf"), False, reason, True)

    def line(self) -> str:
        if self.skipped:
            return f"skipped: {self.layout}: {self.reason}"
        outcome = "pass" if self.passed else "FAIL"
        what = self.reason or f"error {self.error:.1e}"
        return (
            f"{outcome}  {self.loss:<18} {self.layout:<30} {self.scenario:<12} "
            f"M={self.micro_batches}  {what}"
        )


def error_of(got: Gradients, want: Gradients) -> float:
    """The largest relative error of a parameter; what must be 0 is compared
    with 1."""
    worst = 0.0
    for name, gradient in got.items():
        size = want[name].norm()
        distance = (gradient.double() - want[name]).norm()
        error = (distance / size if size > 0 else distance).item()
        # Not a number is larger than anything.
        worst = max(worst, error if error == error else float("inf"))
    return worst
