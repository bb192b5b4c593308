# SPDX-License-Identifier: BSD-3-Clause
"""Runs the cases: four processes, one world, each loss in turn; then kills."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta

import torch
import torch.distributed as dist

from tally.conformance import data, forks, kills
from tally.conformance.case import Case, error_of
from tally.conformance.engines import ENGINES
from tally.conformance.gpt import GPT
from tally.conformance.layouts import LAYOUTS, WORLD, Layout
from tally.conformance.losses import Loss, find
from tally.conformance.megatron import MEGATRON
from tally.conformance.titan import TITAN

TOLERANCE = 1e-6  # of the gradient's norm, float32 against float64
MICRO_BATCHES = (1, 3)
WAYS = (*LAYOUTS, *ENGINES, *MEGATRON, *GPT, *TITAN)
LAYOUT_NAMES = (*(kind.name for kind in WAYS), kills.NAME)
PATIENCE_S = 60  # of a rank that waits for another, before it gives up


def _worst_of_ranks(error: float, broke_off: bool) -> tuple[float, bool]:
    """The largest error, and whether any rank broke off."""
    worst = torch.tensor([error, float(broke_off)], dtype=torch.float64)
    dist.all_reduce(worst, op=dist.ReduceOp.MAX)
    return worst[0].item(), bool(worst[1])


def _run_layout(
    name: str,
    loss: Loss,
    kind: type[Layout],
    scenarios: Sequence[str],
    tolerance: float,
) -> list[Case]:
    if loss.of_trainer not in ("", kind.trainer):
        return []
    missing = kind.missing()
    if missing:
        return [Case.left_out(name, kind.name, missing)]
    layout = kind()
    cases: list[Case] = []
    for scenario in scenarios:
        weighs = loss.takes_weights and kind.takes_weights
        if scenario == "weights" and not weighs:
            continue
        for count in MICRO_BATCHES:
            want = data.reference(
                scenario, layout.data_ranks, count, kind.kind
            )
            error, reason = float("inf"), ""
            try:
                if not cases and layout.holds_logits():
                    loss.open(layout.setting())
                error = error_of(layout.step(loss, scenario, count), want)
            except FloatingPointError:
                pass  # the worst error, on all ranks at once
            except Exception as failure:  # a row of the table, not the end
                reason = f"{type(failure).__name__}: {failure}".splitlines()[0]
                # At once: others may wait for this rank in vain.
                print(
                    f"rank {layout.rank}, {kind.name}, {scenario}: {reason}",
                    file=sys.stderr,
                    flush=True,
                )
            worst, broke_off = _worst_of_ranks(error, bool(reason))
            passed = worst <= tolerance
            if broke_off:
                reason = reason or "another rank broke off"
            cases.append(
                Case(name, kind.name, scenario, count, worst, passed, reason)
            )
            if broke_off:
                # Ranks may not be where each other is; this way is done.
                return cases
    if layout.holds_logits():
        loss.close()
    return cases


def _rank_main(
    rank: int,
    store: str,
    name: str,
    layout: str,
    scenarios: Sequence[str],
    tolerance: float,
    out: str,
) -> None:
    # FSDP2 and DTensor have advice that is of no use to a model this small.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module")
    logging.getLogger("torch.distributed.tensor").setLevel(logging.ERROR)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=WORLD,
        timeout=timedelta(seconds=PATIENCE_S),
    )
    loss = find(name)
    loss.start()
    kind = next(each for each in WAYS if each.name == layout)
    cases = _run_layout(name, loss, kind, scenarios, tolerance)
    if rank == 0:
        for case in cases:
            print(case.line(), flush=True)
        with open(out, "w", encoding="utf-8") as file:
            json.dump([asdict(case) for case in cases], file)
    dist.barrier()
    dist.destroy_process_group()


def run(
    names: Sequence[str],
    layouts: Sequence[str] = (),
    scenarios: Sequence[str] = data.SCENARIOS,
    tolerance: float = TOLERANCE,
) -> list[Case]:
    """Runs every case of the losses named. Forks: call it before any work with
    tensors."""
    for name in names:
        find(name)  # what cannot be found is said once, here
    layouts = layouts or LAYOUT_NAMES
    cases = []
    for kind in WAYS:
        if kind.name in layouts and not kind.missing():
            kind.prepare()
    forks.share_what_is_there()
    for name in names:
        for kind in WAYS:
            if kind.name in layouts:
                cases += _run_world(name, kind.name, scenarios, tolerance)
    if kills.NAME in layouts:
        for name in names:
            cases += kills.run(name, scenarios, MICRO_BATCHES, tolerance)
    return cases


def _run_world(
    name: str,
    layout: str,
    scenarios: Sequence[str],
    tolerance: float,
) -> list[Case]:
    """A world of its own, which no rank leaves: a trainer's process groups end with
    their processes, and each of gloo's has threads that wake all the time."""
    with tempfile.TemporaryDirectory() as folder:
        store, out = os.path.join(folder, "store"), os.path.join(folder, "out")
        children = [
            forks.fork(
                _rank_main, rank, store, name, layout, scenarios, tolerance, out
            )
            for rank in range(WORLD)
        ]
        statuses = forks.wait(children)
        if any(statuses):
            raise RuntimeError(
                f"{name}, {layout}: ranks did not end well: {forks.told(statuses)}"
            )
        with open(out, encoding="utf-8") as file:
            return [Case(**case) for case in json.load(file)]
