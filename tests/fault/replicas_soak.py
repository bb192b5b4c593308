#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A thousand faults in replica groups (replicas.py), in jobs of 25 each, over each
transport, with a witness and without, in turns; what was seen goes into a document
between two marks:
    tests/fault/replicas_soak.py FOLDER DOCUMENT
Runs in the build folder. FAULTS: how many (1000); MINUTES: ends after the job in
which so many have passed, whatever was reached. It stops at the first violation,
whose job's logs stay in FOLDER."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
FAULTS_A_JOB = 25
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
        """One job; returns whether all held."""
        log = folder.with_suffix(".log")
        with open(log, "wb") as out:
            subprocess.run(
                [sys.executable, HERE / "replicas.py", folder, "--faults",
                 str(faults), "--seed", str(seed), *self.options], stdout=out,
                stderr=out, check=False)
        found = REPORT.search(log.read_text("utf-8"))
        if found is None:
            self.violations += 1
            return False
        self.faults += faults
        self.sums = [a + int(b) for a, b in zip(self.sums, found.groups())]
        shutil.rmtree(folder)
        log.unlink()
        return True

    def row(self):
        processes, counts, _, without, applied, smaller = self.sums
        return (self.text, self.faults, processes, counts, without, applied,
                smaller, self.violations)


def scenes():
    made = []
    for name, text in (("ucx", "UCX tcp"), ("ofi", "libfabric tcp;ofi_rxm")):
        if not pathlib.Path(f".libs/libtally-{name}.so").exists():
            continue
        made.append(Scene(f"3 replicas of 2 ranks, {text}", "--transport", name))
        made.append(Scene(f"2 replicas of 2 ranks and a witness, {text}",
                          "--transport", name, "--replicas", "2",
                          "--witnesses", "1"))
    return made


def write(document, rows):
    headings = ("run", "faults", "processes", "counts", "without some replica",
                "applied", "over a smaller set than counted", "violations")
    lines = ["| " + " | ".join(map(str, row)) + " |"
             for row in (headings, *rows)]
    lines.insert(1, "|" + "---|" * len(headings))
    before, rest = document.read_text("utf-8").split(BEGIN)
    after = rest.split(END)[1]
    document.write_text("\n".join([before + BEGIN, *lines, END + after]), "utf-8")


def main():
    folder = pathlib.Path(sys.argv[1])
    document = pathlib.Path(sys.argv[2])
    wanted = int(os.environ.get("FAULTS", "1000"))
    end = time.monotonic() + 60 * float(os.environ.get("MINUTES", "inf"))
    folder.mkdir(exist_ok=True)
    every = scenes()
    done = 0
    seed = int(os.environ.get("SEED", "1"))
    held = True
    while done < wanted and held and time.monotonic() < end:
        scene = every[seed % len(every)]
        faults = min(FAULTS_A_JOB, wanted - done)
        held = scene.run(folder / str(seed), faults, seed)
        done += faults if held else 0
        seed += 1
        write(document, [each.row() for each in every])
        print(f"{done} faults of {wanted}", flush=True)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
