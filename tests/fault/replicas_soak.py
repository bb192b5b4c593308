#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A thousand faults in replica groups (replicas.py), in jobs of at most 25 each,
over each transport, with a witness, without, and with five acceptors, in turns; what
was seen goes into a document between two marks:
    tests/fault/replicas_soak.py FOLDER DOCUMENT
Runs in the build folder. FAULTS: how many (1000); JOBS: of how many jobs at a time
(1), each with a folder and ports of its own; MINUTES: no job begins once so many
have passed, whatever was reached. It stops at the first violation, whose job's logs
stay in FOLDER. A transport that is not built is named: its faults are not done."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
from concurrent import futures

HERE = pathlib.Path(__file__).resolve().parent
FAULTS_A_JOB = 25
# Below those that the kernel gives out; a job's are free again when its range is
# another's turn.
FIRST_PORT, PORTS_A_JOB, PORT_RANGES = 10000, 100, 200
REPORT = re.compile(
    r"(\d+) processes, (\d+) counts \((\d+) with every rank's word, (\d+) without "
    r"a replica\), (\d+) applied \((\d+) over a smaller set")
BEGIN = "<!-- fault-soak: begin, written by tests/fault/replicas_soak.py -->"
END = "<!-- fault-soak: end -->"


class Scene:
    def __init__(self, text, *options):
        self.text = text
        self.options = options
        self.faults = 0
        self.violations = 0
        self.sums = [0, 0, 0, 0, 0, 0]

    def run(self, folder, faults, seed):
        """One job, of a thread of its own; what it reports, None: of a violation."""
        log = folder.with_suffix(".log")
        ports = FIRST_PORT + seed % PORT_RANGES * PORTS_A_JOB
        with open(log, "wb") as out:
            subprocess.run(
                [sys.executable, HERE / "replicas.py", folder, "--faults",
                 str(faults), "--seed", str(seed), "--ports", str(ports),
                 str(PORTS_A_JOB), *self.options], stdout=out, stderr=out,
                check=False)
        found = REPORT.search(log.read_text("utf-8"))
        if found is None:
            return None
        shutil.rmtree(folder)
        log.unlink()
        return found.groups()

    def add(self, faults, report):
        if report is None:
            self.violations += 1
            return
        self.faults += faults
        self.sums = [a + int(b) for a, b in zip(self.sums, report)]

    def row(self):
        processes, counts, _, without, applied, smaller = self.sums
        return (self.text, self.faults, processes, counts, without, applied,
                smaller, self.violations)


def scenes():
    """What can be run here, and the transports that cannot."""
    made, missing = [], []
    for name, text in (("ucx", "UCX tcp"), ("ofi", "libfabric tcp;ofi_rxm")):
        if not pathlib.Path(f".libs/libtally-{name}.so").exists():
            missing.append(text)
            continue
        made.append(Scene(f"3 replicas of 2 ranks, {text}", "--transport", name))
        made.append(Scene(f"2 replicas of 2 ranks and a witness, {text}",
                          "--transport", name, "--replicas", "2",
                          "--witnesses", "1"))
        made.append(Scene(f"5 replicas of 2 ranks, all acceptors, {text}",
                          "--transport", name, "--replicas", "5",
                          "--acceptors", "5"))
    return made, missing


def write(document, rows, remarks):
    headings = ("run", "faults", "processes", "counts", "without some replica",
                "applied", "over a smaller set than counted", "violations")
    lines = ["| " + " | ".join(map(str, row)) + " |"
             for row in (headings, *rows)]
    lines.insert(1, "|" + "---|" * len(headings))
    before, rest = document.read_text("utf-8").split(BEGIN)
    after = rest.split(END)[1]
    document.write_text("\n".join([before + BEGIN, *lines, "", *remarks,
                                   END + after]), "utf-8")


class Soak:
    """The jobs that are left to begin, and what was seen of those that ended."""

    def __init__(self, every, wanted, jobs, seed):
        self.every = every
        self.left = wanted
        self.a_job = max(1, min(FAULTS_A_JOB, -(-wanted // jobs)))
        self.seed = seed
        self.done = 0
        self.held = True

    def begin(self, pool, folder):
        scene = self.every[self.seed % len(self.every)]
        faults = min(self.a_job, self.left)
        job = pool.submit(scene.run, folder / str(self.seed), faults, self.seed)
        self.left -= faults
        self.seed += 1
        return job, (scene, faults)

    def ended(self, scene, faults, report):
        scene.add(faults, report)
        if report is None:
            self.held = False
        else:
            self.done += faults


def main():
    folder = pathlib.Path(sys.argv[1])
    document = pathlib.Path(sys.argv[2])
    wanted = int(os.environ.get("FAULTS", "1000"))
    jobs = int(os.environ.get("JOBS", "1"))
    end = time.monotonic() + 60 * float(os.environ.get("MINUTES", "inf"))
    every, missing = scenes()
    if not every:
        raise SystemExit("replicas_soak.py: there is no transport between replicas")
    remarks = [f"{jobs} at a time, on {len(os.sched_getaffinity(0))} cores."]
    remarks += [f"Not done, as it was not built: {text}." for text in missing]
    print(*remarks, sep="\n", flush=True)
    folder.mkdir(exist_ok=True)
    soak = Soak(every, wanted, jobs, int(os.environ.get("SEED", "1")))
    running = {}
    with futures.ThreadPoolExecutor(jobs) as pool:
        while True:
            while (len(running) < jobs and soak.left and soak.held
                   and time.monotonic() < end):
                running.update([soak.begin(pool, folder)])
            if not running:
                break
            for job in futures.wait(running, None, futures.FIRST_COMPLETED).done:
                soak.ended(*running.pop(job), job.result())
            write(document, [each.row() for each in every], remarks)
            print(f"{soak.done} faults of {wanted}", flush=True)
    return 0 if soak.held else 1


if __name__ == "__main__":
    sys.exit(main())
