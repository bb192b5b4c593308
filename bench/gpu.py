#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Makes the table of bench/GPU.md from what bench/gpu.cu printed."""
import json
import sys


def main():
    lines = [json.loads(line) for line in open(sys.argv[1])]
    head, rows = lines[0], lines[1:]
    limits = {(r["kernel"], r["vocab"]): r["ms"] for r in rows
              if r["kernel"] in ("read", "memcpy")}
    print("# The kernels on a GPU\n")
    print("Written by `bench/gpu.sh`. %s; T = %d, %s; medians of %d runs. GB/s"
          " counts each\nlogit's bytes read and each gradient's written, of"
          " ignored rows too. The limit in\nthe same run is a kernel that only"
          " reads for the loss, and the driver's copy on the\ndevice for"
          " gradients; a ratio is time over the limit's.\n"
          % (head["device"], head["tokens"], head["type"], head["runs"]))
    print("| V | ignored | kernel | ms | GB/s | ratio | limit |")
    print("|---:|---:|---|---:|---:|---:|---|")
    for row in rows:
        name = row["kernel"]
        limit = "read" if name.startswith("loss") and "grad" not in name \
            else "memcpy"
        time = limits.get((limit, row["vocab"]))
        if name in ("read", "memcpy"):
            ratio, limit = "", ""
        elif time is None:
            ratio, limit = "", ""
        else:
            ratio = "%.3f" % (row["ms"] / time)
        gbps = "%d" % row["gbps"] if name != "count" else ""
        vocab = row["vocab"] if name != "count" else ""
        print("| %s | %d %% | %s | %.4f | %s | %s | %s |"
              % (vocab, row["ignored"], name, row["ms"], gbps, ratio, limit))


main()
