#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Makes bench/GPU.md from what bench/gpu.cu printed and from the file as it
was: a table for each card, of which this one's is new."""
import datetime
import json
import re
import sys

HEAD = """\
# The kernels on a GPU

Written by `bench/gpu.sh`, which replaces the table of the card that it runs on. GB/s
counts each logit's bytes read and each gradient's written, of ignored rows too. The
limit in the same run is a kernel that only reads for the loss, and the driver's copy
on the device for gradients; a ratio is time over the limit's.

A peer's call is loss and gradient, of bf16, scaled by a factor in device memory, unless it
says otherwise; `bench/gpu_peers.py` has them. Beside it stands what ours takes for the
same: `loss`, or `loss_grad`. GiB: what the call holds at its peak beyond its logits;
ours holds the gradient, or nothing in place.
"""


def table(head, rows):
    limits = {(r["kernel"], r["type"], r["vocab"]): r["ms"] for r in rows
              if r["kernel"] in ("read", "memcpy")}
    lines = ["T = %d; medians of %d runs." % (head["tokens"], head["runs"]), "",
             "| logits | V | ignored | kernel | ms | GB/s | ratio | limit |",
             "|---|---:|---:|---|---:|---:|---:|---|"]
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
            lines.append("| | | | count | %.4f | | | |" % row["ms"])
            continue
        lines.append("| %s | %d | %d %% | %s | %.4f | %d | %s | %s |"
                     % (row["type"], row["vocab"], row["ignored"], name,
                        row["ms"], row["gbps"], ratio, limit))
    return "\n".join(lines) + "\n"


def peers_table(rows):
    ours = {(r["kernel"], r["vocab"], r["ignored"]): r["ms"] for r in rows
            if r.get("type") == "bf16"}
    lines = ["| V | ignored | peer | ms | GiB | ours ms | times ours |",
             "|---:|---:|---|---:|---:|---:|---:|"]
    for row in (r for r in rows if r.get("peer")):
        name = "loss" if row["kernel"].endswith("loss alone") else "loss_grad"
        time = ours.get((name, row["vocab"], row["ignored"]))
        lines.append("| %d | %d %% | %s | %.3f | %.2f | %s | %s |"
                     % (row["vocab"], row["ignored"], row["kernel"], row["ms"],
                        row["extra_gib"], "%.3f" % time if time else "",
                        "%.1f" % (row["ms"] / time) if time else ""))
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""


def main():
    head, *rows = [json.loads(line) for line in open(sys.argv[1])]
    before = re.split(r"^## (.*)\n\n", open(sys.argv[2]).read(), flags=re.M)
    cards = dict(zip(before[1::2], before[2::2]))
    cards[head["device"]] = "Measured %s.\n%s\n%s" % (
        datetime.date.today(), table(head, rows), peers_table(rows))
    print(HEAD)
    print("\n".join("## %s\n\n%s" % (card, cards[card].strip() + "\n")
                    for card in sorted(cards)), end="")


main()
