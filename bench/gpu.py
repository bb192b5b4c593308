#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Makes bench/GPU.md from what bench/gpu.cu printed, or bench/GPU_STEPS.md from
what bench/gpu_steps.c did, and from the file as it was: a table for each card, of
which this one's is new."""
import datetime
import json
import re
import sys

HEAD = """\
# The kernels on a GPU

Written by `bench/gpu.sh`, which replaces the table of the card that it runs on. GB/s
counts each logit's bytes read and each gradient's written, of ignored rows too. The
limit in the same run is a kernel that only reads for the loss, and the driver's copy
on the device for gradients; a ratio is time over the limit's. `copy` is a kernel that
only copies.

A peer's call is loss and gradient, of bf16, scaled by a factor in device memory, unless it
says otherwise; `bench/gpu_peers.py` has them. Beside it stands what ours takes for the
same: `loss`, or `loss_grad`. GiB: what the call holds at its peak beyond its logits;
ours holds the gradient, or nothing in place. MiB: how much less of the device's memory
is free when all kernels of these rows have run, `loss_grad in place` last; the first
ones' code is in it.

The aims are those of an H200. Of rows that all count, but where it says otherwise; what
is not reached is **bold**, and doc/kernels.md says why and what comes next.
"""

# What; its aim, at most where it is a time in ms; of which time over which other, or
# of which alone; with how many rows ignored.
AIMS = [
    ("loss, of the speed of reading", 0.97, "read", "loss", 0),
    ("loss and gradient, of that of copying", 0.95, "memcpy", "loss_grad", 0),
    ("the same in place", 0.95, "memcpy", "loss_grad in place", 0),
    ("loss, 70 % ignored, ms at V = 128256", 0.20, None, "loss", 70),
    ("loss and gradient, the same", 0.66, None, "loss_grad", 70),
    ("eager formula, times ours", 11, "eager formula", "loss_grad", 0),
    ("torch.compile, times ours", 2.5, "torch.compile", "loss_grad", 0),
    ("Liger, times ours", 2.8, "Liger", "loss_grad", 0),
]

STEPS_HEAD = """\
# What the order on a stream costs

Written by `bench/gpu_steps.sh` (or `make bench-gpu-steps`), which replaces the table of
the card that it runs on: a step of one channel, with 4096 labels and a MAX lane. One
rank, for each `TALLY_STREAM_WAIT`: the reduction itself takes nothing, and what is left
is the way to the host and back. Two ranks, where there are two GPUs, on one each: over
shared memory, or NCCL with a communicator of Tally's own and with the trainer's.
Microseconds, medians (90th percentiles). In a graph: a replay of 20 steps, over 20.
Behind 50 ms: a kernel runs for so long, and a step or nothing is enqueued behind, seen
by the stream's events; after it: the host waits for the stream, then makes the calls.
The difference is what is exposed of a step of 50 ms; several ranks begin it together,
as a step in front lets them go. The floor, in the same run: NCCL alone, by the trainer's
communicator, `ncclAllReduce` of 8 integers of 64 bits, and the three of a step (8, 1
and 8). The network: these three, else nothing.
"""

# What is measured; of which rows; what it is to be at most.
STEPS_ROWS = [
    ("host: `begin`", "host, begin", None, None),
    ("host: `count`", "host, count", None, None),
    ("host: `reduce`", "host, reduce", None, None),
    ("host: `wait`", "host, wait", None, None),
    ("host: `end`", "host, end", None, None),
    ("host: the five calls", "host, five calls", None, 10),
    ("a step, launch-bound", "launch-bound", None, None),
    ("graph: a step", "graph, a step", None, None),
    ("graph: `count` alone", "graph, count", None, None),
    ("graph: four times `count`", "graph, four counts", None, None),
    ("graph: a step without labels", "graph, a step without labels", None, None),
    ("graph: `count` and the network", "graph, count and network", None, None),
    ("graph: a step less these two", "graph, a step", "graph, count and network", 5),
    ("exposed behind 50 ms", "behind 50 ms, a step", "behind 50 ms, nothing", 50),
    ("exposed after 50 ms", "after 50 ms, a step", "after 50 ms, nothing", 50),
    ("NCCL alone, one, launch-bound", "launch-bound, one all-reduce", None, None),
    ("NCCL alone, three, launch-bound", "launch-bound, three all-reduces", None, None),
    ("graph: NCCL alone, one", "graph, one all-reduce", None, None),
    ("graph: NCCL alone, three", "graph, three all-reduces", None, None),
    ("NCCL alone, three, exposed behind 50 ms", "behind 50 ms, three all-reduces",
     "behind 50 ms, nothing", None),
    ("NCCL alone, three, exposed after 50 ms", "after 50 ms, three all-reduces",
     "after 50 ms, nothing", None),
]


def steps_table(rows):
    notes = [r["note"] for r in rows if "note" in r]
    rows = [r for r in rows if "what" in r]
    times = {(r["way"], r["what"]): r for r in rows}
    ways = list(dict.fromkeys(r["way"] for r in rows))

    def cell(way, what, less):
        row, other = times.get((way, what)), times.get((way, less))
        if row is None or (less and other is None):
            return ""
        if less:
            return "%.1f" % (row["p50_us"] - other["p50_us"])
        return "%.1f (%.1f)" % (row["p50_us"], row["p90_us"])

    lines = ["| | %s | aim |" % " | ".join(ways),
             "|---|%s---:|" % ("---:|" * len(ways))]
    for name, what, less, aim in STEPS_ROWS:
        if not any((way, what) in times for way in ways):
            continue
        lines.append("| %s | %s | %s |"
                     % (name, " | ".join(cell(way, what, less) for way in ways),
                        aim if aim else ""))
    return "\n".join(lines + [""] + notes) + "\n"


def versions_table(versions: dict[str, str]) -> str:
    if not versions:
        return ""
    return ("| | version |\n|---|---|\n"
            + "".join("| %s | %s |\n" % of for of in versions.items()) + "\n")


def table(head, rows):
    extra = {(r["type"], r["vocab"], r["ignored"]): r["extra_mib"] for r in rows
             if "extra_mib" in r}
    rows = [r for r in rows if "kernel" in r]
    limits = {(r["kernel"], r["type"], r["vocab"]): r["ms"] for r in rows
              if r["kernel"] in ("read", "memcpy")}
    lines = ["T = %d; medians of %d runs." % (head["tokens"], head["runs"]), "",
             "| logits | V | ignored | kernel | ms | GB/s | ratio | limit | MiB |",
             "|---|---:|---:|---|---:|---:|---:|---|---:|"]
    for row in (r for r in rows if not r.get("peer")):
        name = row["kernel"]
        limit = "read" if name.startswith("loss") and "grad" not in name \
            else "memcpy"
        time = limits.get((limit, row["type"], row["vocab"]))
        if time is None or name in ("read", "memcpy"):
            ratio, limit = "", ""
        else:
            ratio = "%.3f" % (row["ms"] / time)
        if name == "count":
            lines.append("| | | | count | %.4f | | | | |" % row["ms"])
            continue
        mib = extra.get((row["type"], row["vocab"], row["ignored"])) \
            if name == "loss_grad in place" else None
        lines.append("| %s | %d | %d %% | %s | %.4f | %d | %s | %s | %s |"
                     % (row["type"], row["vocab"], row["ignored"], name,
                        row["ms"], row["gbps"], ratio, limit,
                        "" if mib is None else "%.1f" % mib))
    return "\n".join(lines) + "\n"


def aims_table(rows):
    times = {(r["kernel"], r["vocab"], r["ignored"]): r["ms"] for r in rows
             if "kernel" in r and (r.get("peer") or r["type"] == "bf16")}
    vocabs = sorted({v for _, v, _ in times if v > 0})
    lines = ["| of bf16 | aim | %s |" % " | ".join("V = %d" % v for v in vocabs),
             "|---|---:|%s" % ("---:|" * len(vocabs))]

    def cell(aim, over, what, ignored, vocab):
        time, other = (times.get((name, vocab, ignored)) for name in (what, over))
        if time is None or (over and other is None) or \
                (not over and vocab != 128256):
            return ""
        found = other / time if over else time
        reached = found >= aim if over else found <= aim
        return ("%.3f" if reached else "**%.3f**") % found

    for name, aim, *of in AIMS:
        lines.append("| %s | %s | %s |" % (
            name, aim, " | ".join(cell(aim, *of, v) for v in vocabs)))
    return "\n".join(lines) + "\n"


def peers_table(rows):
    ours = {(r["kernel"], r["vocab"], r["ignored"]): r["ms"] for r in rows
            if "kernel" in r and r.get("type") == "bf16"}
    lines = ["| V | ignored | peer | ms | GiB | ours ms | times ours |",
             "|---:|---:|---|---:|---:|---:|---:|"]
    for row in (r for r in rows if r.get("peer")):
        name = "loss" if row["kernel"].endswith("loss alone") else "loss_grad"
        time = ours.get((name, row["vocab"], row["ignored"]))
        lines.append("| %d | %d %% | %s | %.3f | %.2f | %s | %s |"
                     % (row["vocab"], row["ignored"], row["kernel"], row["ms"],
                        row["extra_gib"], "%.3f" % time if time else "",
                        "%.1f" % (row["ms"] / time) if time else ""))
    if len(lines) == 2:
        return ""
    missed = {}
    for row in (r for r in rows if "missed" in r):
        missed.setdefault(row["missed"], row)
    return "\n".join(lines) + "\n" + "".join(
        "\nNot measured, or not all: %s, from V = %d on: `%s`.\n"
        % (name, of["vocab"], of["why"]) for name, of in missed.items())


def main():
    head, *rows = [json.loads(line) for line in open(sys.argv[1])]
    versions = {name: version for r in rows
                for name, version in r.get("versions", {}).items()}
    rows = [r for r in rows if "versions" not in r]
    before = re.split(r"^## (.*)\n\n", open(sys.argv[2]).read(), flags=re.M)
    cards = dict(zip(before[1::2], before[2::2]))
    of_steps = any("what" in row or "note" in row for row in rows)
    cards[head["device"]] = "Measured %s%s.\n%s" % (
        datetime.date.today(), head.get("how", ""),
        "\n" + steps_table(rows) if of_steps
        else "\n%s%s\n%s\n%s" % (versions_table(versions), aims_table(rows),
                               table(head, rows), peers_table(rows)))
    print(STEPS_HEAD if of_steps else HEAD)
    print("\n".join("## %s\n\n%s" % (card, cards[card].strip() + "\n")
                    for card in sorted(cards)), end="")


main()
