#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Makes bench/GPU.md from what bench/gpu.cu printed and from the file as it
was: a table for each card, of which this one's is new."""
import json
import re
import sys

HEAD = """\
# The kernels on a GPU

Written by `bench/gpu.sh`, which replaces the table of the card that it runs on. GB/s
counts each logit's bytes read and each gradient's written, of ignored rows too. The
limit in the same run is a kernel that only reads for the loss, and the driver's copy
on the device for gradients; a ratio is time over the limit's.
"""


def table(head, rows):
    limits = {(r["kernel"], r["vocab"]): r["ms"] for r in rows
              if r["kernel"] in ("read", "memcpy")}
    lines = ["T = %d, %s; medians of %d runs."
             % (head["tokens"], head["type"], head["runs"]), "",
             "| V | ignored | kernel | ms | GB/s | ratio | limit |",
             "|---:|---:|---|---:|---:|---:|---|"]
    for row in rows:
        name = row["kernel"]
        limit = "read" if name.startswith("loss") and "grad" not in name \
            else "memcpy"
        time = limits.get((limit, row["vocab"]))
        if time is None or name in ("read", "memcpy"):
            ratio, limit = "", ""
        else:
            ratio = "%.3f" % (row["ms"] / time)
        gbps = "%d" % row["gbps"] if name != "count" else ""
        vocab = row["vocab"] if name != "count" else ""
        lines.append("| %s | %d %% | %s | %.4f | %s | %s | %s |"
                     % (vocab, row["ignored"], name, row["ms"], gbps, ratio,
                        limit))
    return "\n".join(lines) + "\n"


def main():
    head, *rows = [json.loads(line) for line in open(sys.argv[1])]
    before = re.split(r"^## (.*)\n\n", open(sys.argv[2]).read(), flags=re.M)
    cards = dict(zip(before[1::2], before[2::2]))
    cards[head["device"]] = table(head, rows)
    print(HEAD)
    print("\n".join("## %s\n\n%s" % (card, cards[card].strip() + "\n")
                    for card in sorted(cards)), end="")


main()
