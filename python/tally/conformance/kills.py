# SPDX-License-Identifier: BSD-3-Clause
"""A kill among replica groups: four processes, each a replica, decide by Tally's
replica path who is counted; one is killed between a count and its gradient. Each
survivor's gradient, before, in and after that step, is compared with that of one
process on the tokens of just those replicas that apply it.

How gradients get from one replica to another is the framework's; here it is by
files, which can be read again over fewer replicas."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import torch

import tally
import tally.torch
from tally.conformance import data, forks
from tally.conformance.case import Case, Gradients, error_of
from tally.conformance.losses import Loss, find
from tally.replica import Count, ReplicaGroup, ReplicaStep, Status, Vote

NAME = "4 replicas, 1 is killed"
REPLICAS = 4
VICTIM = 2
STEPS_BEFORE = 1  # applied by all
STEPS_AFTER = 1  # applied by the survivors, after the one that lost a gradient
PATIENCE_S = 120  # of a replica that waits for another, before it gives up

# A busy machine is no death; that of a process of this host is seen at once.
SETTINGS = {
    "TALLY_HEARTBEAT_MISSES": "50",
    "TALLY_REPLICA_PATIENCE": "10",
    "TALLY_REPLICA_DEADLINE": "60",
    "TALLY_UCX_TLS": "tcp,self",
}


def _until(what: str, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come in {PATIENCE_S} s")
        time.sleep(0.002)


class Share:
    """What one replica offers to the others, in a folder."""

    def __init__(self, folder: Path, replica: int) -> None:
        self.folder = folder
        self.replica = replica
        # The kernel lets go of the lock when the process dies.
        self._alive = open(folder / f"alive.{replica}", "w", encoding="utf-8")
        fcntl.flock(self._alive, fcntl.LOCK_EX)

    def leave(self) -> None:
        """As death does."""
        self._alive.close()

    def meet(self, name: str, replicas: Sequence[int]) -> None:
        """Waits until all these replicas have come here."""
        (self.folder / f"{name}.{self.replica}").touch()
        for each in replicas:
            _until(name, (self.folder / f"{name}.{each}").exists)

    def offer(self, count: Count, gradients: Gradients) -> None:
        written = self.folder / f"part.{self.replica}"
        torch.save(gradients, written)
        written.rename(self._path(count, self.replica))

    def sum(self, count: Count, members: Sequence[int]) -> Gradients:
        """Over the members; empty if one of them died before its offer."""
        total: Gradients = {}
        for each in members:
            path = self._path(count, each)
            _until(path.name, lambda: path.exists() or self._is_dead(each))
            if not path.exists():
                return {}
            for name, gradient in torch.load(path).items():
                total[name] = total[name] + gradient if name in total else gradient
        return total

    def _path(self, count: Count, replica: int) -> Path:
        return self.folder / f"gradient.{count.index}.{count.digest:x}.{replica}"

    def _is_dead(self, replica: int) -> bool:
        with open(self.folder / f"alive.{replica}", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True


class Replica:
    """One process: the same step again and again, without an optimizer, so that
    all gradients have one reference."""

    def __init__(
        self, folder: Path, replica: int, loss: Loss, scenario: str, count: int
    ) -> None:
        self.share = Share(folder, replica)
        self.replica = replica
        self.loss = loss
        self.scenario = scenario
        self.parts = data.batches(scenario, replica, count)
        self.model = data.model()
        # Each replica is a job of its own, of one rank.
        self.tally = tally.Tally(
            allgather=lambda part: [part], rank=0, world_size=1
        )
        self.group = ReplicaGroup(
            self.tally, replica=replica, replicas=REPLICAS
        )
        self.step = ReplicaStep(
            self.group, data.VOCAB, convention=tally.Convention.SUM
        )

    def run(self) -> dict[str, float]:
        """Until the survivors have gone on without the victim."""
        everybody = tuple(range(REPLICAS))
        worst, applied, lost, after = 0.0, 0, 0, 0
        while after <= STEPS_AFTER:
            count = self.count()
            if count.status != Status.COUNTED:
                if count.status in (Status.LAGGING, Status.FENCED):
                    raise RuntimeError(f"a survivor is {count.status.name}")
                continue  # the same step again
            if self.replica == VICTIM and applied >= STEPS_BEFORE:
                self.die()
            gradients, members = self.gradient(count)
            if not gradients:
                continue
            want = data.reference(self.scenario, list(members), len(self.parts))
            worst = max(worst, error_of(gradients, want))
            applied += members == everybody
            lost += VICTIM in count.members and VICTIM not in members
            after += VICTIM not in members
        survivors = [each for each in everybody if each != VICTIM]
        # Who closes takes its votes along.
        self.share.meet("end", survivors)
        return {"error": worst, "applied": applied, "lost": lost}

    def count(self) -> Count:
        """Counts, and computes the gradient of what was counted."""
        self.model.zero_grad(set_to_none=True)
        self.step.begin(len(self.parts))
        for part in self.parts:
            self.step.count(part.labels, part.weights)
        self.step.reduce()
        try:
            self.step.wait()
        except tally.errors.ReplicaError:
            pass
        else:
            self.scale = tally.torch.scales(self.step)[0].clone()
            for part in self.parts:
                tally.torch.balanced_cross_entropy(
                    self.model(part.inputs),
                    part.labels,
                    self.step,
                    weights=part.weights,
                ).backward()  # type: ignore[no-untyped-call]
        self.step.end()
        return self.step.counted()

    def die(self) -> NoReturn:
        """As by a fault: nothing is closed, nobody is told."""
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("a killed process went on")

    def gradient(self, count: Count) -> tuple[Gradients, tuple[int, ...]]:
        """The gradient that is applied, and over which replicas; empty if none
        is."""
        self.share.offer(
            count,
            {
                name: parameter.grad
                for name, parameter in self.model.named_parameters()
                if parameter.grad is not None
            },
        )
        members = count.members
        while True:
            total = self.share.sum(count, members)
            self.step.ready(Vote.READY if total else Vote.UNREADY)
            verdict = self.step.apply()
            while verdict.status == Status.IN_DOUBT:
                verdict = self.step.apply()
            if verdict.status == Status.APPLY:
                decided = tally.torch.scales(self.step)[0]
                factor = self.loss.replica_factor(self.scale, decided)
                scaled = {name: each * factor for name, each in total.items()}
                return scaled, verdict.members
            if verdict.status != Status.RETRY:
                return {}, ()
            members = verdict.members

    def close(self) -> None:
        self.step.close()
        self.group.close()
        self.tally.close()
        self.share.leave()


def _replica_main(
    folder: str, replica: int, name: str, scenario: str, count: int
) -> None:
    os.environ["TALLY_REPLICA_FOLDER"] = f"{folder}/members"
    for setting, value in SETTINGS.items():
        os.environ.setdefault(setting, value)
    try:
        found = Replica(Path(folder), replica, find(name), scenario, count)
    except tally.errors.TransportError as failure:  # there is none for replicas
        said: dict[str, object] = {"skipped": str(failure)}
    else:
        said = dict(found.run())
        found.close()
    with open(f"{folder}/said.{replica}", "w", encoding="utf-8") as file:
        json.dump(said, file)


def _run_case(name: str, scenario: str, count: int, tolerance: float) -> Case:
    with tempfile.TemporaryDirectory() as folder:
        children = [
            forks.fork(_replica_main, folder, replica, name, scenario, count)
            for replica in range(REPLICAS)
        ]
        statuses = forks.wait(children)
        said = [
            json.loads(path.read_text("utf-8"))
            for path in sorted(Path(folder).glob("said.*"))
        ]
    case = Case(name, NAME, scenario, count, float("inf"), False)
    killed = [-signal.SIGKILL if each == VICTIM else 0 for each in range(REPLICAS)]
    if len(said) == REPLICAS and all("skipped" in each for each in said):
        return Case.left_out(name, NAME, said[0]["skipped"])
    if statuses != killed:
        case.reason = f"replicas did not end as they should: {forks.told(statuses)}"
        return case
    case.error = max(each["error"] for each in said)
    if not all(each["applied"] and each["lost"] for each in said):
        case.reason = f"the kill was not between count and gradient: {said}"
    case.passed = case.error <= tolerance and not case.reason
    return case


def run(
    name: str,
    scenarios: Sequence[str],
    micro_batches: Sequence[int],
    tolerance: float,
) -> list[Case]:
    """The cases of one loss; none if it knows nothing of replica groups."""
    if not find(name).in_replicas:
        return []
    cases: list[Case] = []
    for scenario in scenarios:
        for count in micro_batches:
            cases.append(_run_case(name, scenario, count, tolerance))
            print(cases[-1].line(), flush=True)
            if cases[-1].skipped:
                return cases
    return cases
