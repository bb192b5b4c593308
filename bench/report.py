#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes bench/README.md (to stdout) from the JSON that bench/run.sh kept.

    bench/report.py RESULTS

A file is NAME.json, or NAME.1.json, NAME.2.json, ... of repeats: figures are
medians over repeats. What was not measured is said to be missing.
"""
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys


class Results:
    """The files of a folder, by name, all repeats."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def runs(self, name):
        paths = sorted(self.folder.glob(name + ".[0-9].json"))
        single = self.folder / (name + ".json")
        if single.exists():
            paths.append(single)
        return [json.loads(path.read_text(encoding="utf-8")) for path in paths]

    def median(self, name, *keys):
        """The median over repeats of runs[...][key][key]; None if missing."""
        values = []
        for value in self.runs(name):
            for key in keys:
                value = value.get(key) if isinstance(value, dict) else None
            if isinstance(value, (int, float)):
                values.append(value)
        return statistics.median(values) if values else None


def figure(value, decimals):
    return "-" if value is None else f"{value:,.{decimals}f}"


def microseconds(value):
    return figure(value, 1 if value is not None and value >= 100 else 2)


def divide(a, b):
    return None if a is None or not b else a / b


def verdict(value, limit):
    """Whether an aim (at most `limit`) was reached."""
    if value is None:
        return "not measured"
    return "reached" if value <= limit else "**not reached**"


def table(headings, rows):
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def command_line(*words):
    """The first line that a command prints; "" if it does not run."""
    try:
        done = subprocess.run(words, capture_output=True, text=True,
                              timeout=30, check=False)
    except OSError:
        return ""
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0].strip() if lines else ""


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def memory_gib():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def cores():
    """Those that these processes may use, or as many as their share makes."""
    count = len(os.sched_getaffinity(0))
    try:
        share = pathlib.Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(count, int(share[0]) // int(share[1])))
    except (OSError, ValueError, IndexError):
        return count  # no share, or "max"


def revision():
    root = pathlib.Path(__file__).resolve().parent.parent
    if "COMMIT" in os.environ:
        return os.environ["COMMIT"]
    if not (root / ".git").exists():  # else that of a tree around it
        return "a release"
    try:
        done = subprocess.run(["git", "-C", root, "describe", "--always",
                               "--dirty"], capture_output=True, text=True,
                              timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return "of an unknown commit"
    return done.stdout.strip()


def machine(results):
    info = (results.runs("info") or [{}])[0]
    build = info.get("build", {})
    backends = [t["version"] for t in info.get("transports", []) if t["loaded"]]
    now = datetime.datetime.now(datetime.timezone.utc)
    rows = [
        ("date", now.strftime("%Y-%m-%d %H:%M UTC")),
        ("Tally", f"{info.get('version', '?')}, {revision()}"),
        ("processor", f"{processor()}, {cores()} cores for these processes"),
        ("memory", f"{memory_gib():.1f} GiB"),
        ("system", f"{platform.system()} {platform.release()}"),
        ("compiler", f"{build.get('compiler', '?')}, {build.get('flags', '?')}"),
        ("backends", ", ".join(backends) or "none"),
        ("Open MPI", command_line("mpirun", "--version") or "not there"),
    ]
    return table(("", ""), rows)


def allreduce_rows(results, prefix, aims):
    rows = []
    for ranks in (2, 4, 8):
        name = f"{prefix}.{ranks}"
        ratio = results.median(name, "ratio")
        aim, limit = aims[ranks]
        rows.append((
            str(ranks),
            microseconds(results.median(name, "p50_us")),
            microseconds(results.median(name, "p99_us")),
            microseconds(results.median(name, "peer_p50_us")),
            figure(ratio, 2),
            aim,
            verdict(ratio, limit),
            figure(results.median(name, "wrong"), 0),
        ))
    return rows


ALLREDUCE_HEADINGS = ("ranks", "Tally p50 us", "p99 us", "Open MPI p50 us",
                      "ratio", "aim", "", "wrong")


def shared_memory(results):
    aims = {2: ("at most 1", 1.0), 4: ("below 1", 1.0), 8: ("below 1", 1.0)}
    return f"""## All-reduce in shared memory

One record (64 bytes, K = 1), from `tally_step_reduce` to the return of
`tally_step_wait`, seen by rank 0. The peer is Open MPI's `MPI_Allreduce` of 8
int64 (`MPI_SUM`, btl self,vader) in the same invocation, in turns. With more
ranks than cores, what counts is that latency does not collapse.

{table(ALLREDUCE_HEADINGS, allreduce_rows(results, "shm", aims))}
"""


def against_library(results, name, library):
    """Two ranks next to what is below them, in turns in one invocation."""
    rows = []
    texts = (("pingpong", f"{library} by itself, one way", "at most 1.1", 1.1),
             ("exchange", f"{library} by itself, both send, then both receive",
              "", None))
    for peer, text, aim, limit in texts:
        ratio = results.median(f"{name}.{peer}", "ratio")
        rows.append((
            text,
            microseconds(results.median(f"{name}.{peer}", "peer_p50_us")),
            microseconds(results.median(f"{name}.{peer}", "p50_us")),
            figure(ratio, 2), aim,
            verdict(ratio, limit) if limit is not None else ""))
    return rows


LIBRARY_HEADINGS = ("", "p50 us", "Tally, 2 ranks, p50 us", "ratio", "aim", "")


def over_ucx(results):
    aims = {n: ("below 1", 1.0) for n in (2, 4, 8)}
    return f"""## All-reduce over UCX, TCP on the loopback

Every message goes through UCX (`TALLY_TRANSPORT=ucx TALLY_NODE_SHM=0
TALLY_UCX_TLS=tcp TALLY_UCX_NET_DEVICES=lo`); the peer is Open MPI over btl
self,tcp on the loopback.

{table(ALLREDUCE_HEADINGS, allreduce_rows(results, "ucx", aims))}

Next to UCX alone with the same message, in turns in the same invocation. An
all-reduce of two ranks is an exchange: both send at once, which the kernel's
loopback does not do in the time of one message.

{table(LIBRARY_HEADINGS, against_library(results, "ucx", "UCX"))}
"""


def fi_pingpong_row(results, name, fi_pingpong):
    theirs = results.median(fi_pingpong, "p50_us")
    ours = results.median(f"{name}.pingpong", "p50_us")
    ratio = divide(ours, theirs)
    return ("`fi_pingpong`, a transfer (mean)", microseconds(theirs),
            microseconds(ours), figure(ratio, 2), "at most 1.1",
            verdict(ratio, 1.1))


def over_ofi(results):
    aims = {2: ("at most 1", 1.0), 4: ("at most 1", 1.0), 8: ("at most 1", 1.0)}
    tcp = against_library(results, "ofi", "libfabric, tcp;ofi_rxm,")
    tcp.append(fi_pingpong_row(results, "ofi", "fi_pingpong"))
    shm = against_library(results, "ofi_shm", "libfabric, shm,")
    shm.append(fi_pingpong_row(results, "ofi_shm", "fi_pingpong_shm"))
    return f"""## All-reduce over libfabric, TCP on the loopback, and shm

The same with `TALLY_TRANSPORT=ofi TALLY_OFI_PROVIDER=tcp;ofi_rxm
TALLY_OFI_DOMAIN=lo`, next to Open MPI as above.

{table(ALLREDUCE_HEADINGS, allreduce_rows(results, "ofi", aims))}

Next to libfabric alone with the same message, in turns in the same invocation,
and to its own `fi_pingpong` with 64 bytes, run after it.

{table(LIBRARY_HEADINGS, tcp + shm)}
"""


NODE_COUNTS = (2, 3, 4, 8)


def across_nodes(results):
    rows = []
    for name in ("ucx", "ofi"):
        one_way = results.median(f"{name}.oneway", "p50_us")
        for ranks in NODE_COUNTS:
            ours = results.median(f"{name}.nodes.{ranks}", "p50_us")
            rounds = results.median("rounds", str(ranks))
            ratio = divide(ours, one_way * rounds if one_way and rounds
                           else None)
            rows.append((name, str(ranks), microseconds(one_way),
                         figure(rounds, 0), microseconds(ours),
                         figure(ratio, 2), "at most 1.2", verdict(ratio, 1.2),
                         figure(results.median(f"{name}.nodes.{ranks}",
                                               "wrong"), 0)))
    headings = ("transport", "nodes", "one way us", "rounds", "Tally p50 us",
                "ratio", "aim", "", "wrong")
    cores = len(os.sched_getaffinity(0))
    return f"""## Across nodes

A rank a node; a node is a network namespace, joined to the others by a bridge,
all on this machine's {cores} cores. One way: UCX or libfabric alone between two
of them, half of a round trip. Rounds: of messages, one after the other, as the
schedule has it (`bench/rounds`). Where nodes outnumber cores they take turns,
and a round is more than one message's time.

{table(headings, rows)}
"""


def spread(results):
    rows = []
    named = [("shared memory, 2 ranks", "shm.2")]
    for name in ("ucx", "ofi"):
        named.append((f"{name}, loopback, 2 ranks", f"{name}.exchange"))
        named.append((f"{name}, 2 nodes", f"{name}.nodes.2"))
    for text, name in named:
        half = results.median(name, "p50_us")
        most = results.median(name, "p99_us")
        ratio = divide(most, half)
        theirs = divide(results.median(name, "peer_p99_us"),
                        results.median(name, "peer_p50_us"))
        rows.append((text, microseconds(half), microseconds(most),
                     figure(ratio, 1), "at most 3", verdict(ratio, 3),
                     figure(theirs, 1) if name.endswith("exchange") else ""))
    headings = ("", "p50 us", "p99 us", "p99 / p50", "aim", "",
                "the library by itself")
    return f"""## Spread

The last column is p99 / p50 of an exchange of the same message by UCX or
libfabric alone, in turns in the same invocation.

{table(headings, rows)}
"""


def processor_time(results):
    rows = []
    for name in ("shm", "ucx", "ofi"):
        row = [name]
        for key in ("cpu_idle", "cpu_wait"):
            cost = results.median(f"cpu.{name}", key)
            row += [figure(None if cost is None else 100 * cost, 2),
                    verdict(cost, 0.01)]
        rows.append(row)
    headings = ("transport", "idle %", "at most 1", "waiting %", "at most 1")
    return f"""## Processor time

What a rank takes of one core while its group is there and nobody calls (the two
seconds after a reduction), and while it waits in `tally_step_wait` for a rank
that is a second late.

{table(headings, rows)}
"""


CALLS = ("clock", "begin", "count", "reduce", "wait", "end", "result")


def step_calls(results):
    rows = []
    for call in CALLS:
        row = [f"`tally_step_{call}`" if call != "clock"
               else "nothing (taking the time)"]
        for ranks in (1, 2):
            for key in ("p50_ns", "p99_ns"):
                row.append(figure(
                    results.median(f"calls.{ranks}", "calls", call, key), 0))
        rows.append(row)
    reduce_ns = results.median("calls.2", "calls", "reduce", "p50_ns")
    headings = ("call", "1 rank p50 ns", "p99 ns", "2 ranks p50 ns", "p99 ns")
    return f"""## What the calls of a step cost

A rank without tokens, in shared memory; `wait` waits for the other rank,
`result` is the read without waiting just after `end`.

{table(headings, rows)}

Aim: `tally_step_reduce` returns in under 1 us (p50, 2 ranks):
{figure(reduce_ns, 0)} ns, {verdict(reduce_ns, 999)}.
"""


def host_loss(results):
    runs = results.runs("host_loss")
    if not runs:
        return "## Loss on the host device\n\nNot measured.\n"
    read_gbs = results.median("host_loss", "read_gbs")
    rows = []
    reached = "not measured"
    for i, case in enumerate(runs[0]["cases"]):
        gbs = statistics.median(run["cases"][i]["gbs"] for run in runs)
        fraction = divide(gbs, read_gbs)
        aim = ""
        if case["name"] == "forward" and case["vocab"] == 128256 \
                and case["type"] == "bf16" and fraction is not None:
            aim = "at least 0.60"
            reached = "reached" if fraction >= 0.6 else "**not reached**"
            aim += ", " + reached
        rows.append((case["name"], case["type"], f"{case['vocab']:,}",
                     figure(gbs, 2), figure(fraction, 2), aim))
    headings = ("kernel", "logits", "V", "GB/s", "of read bandwidth", "aim")
    return f"""## Loss on the host device

{runs[0]["threads"]} threads, kernels {runs[0]["isa"]}; this machine reads
{figure(read_gbs, 2)} GB/s, measured in the same run.

{table(headings, rows)}
"""


def bootstrap(results):
    rows = []
    for ranks in (2, 16, 64, 256, 1000):
        slowest = results.median(f"bootstrap.{ranks}", "max_s")
        aim = f"under 2 s, {verdict(slowest, 2)}" if ranks == 64 else ""
        rows.append((str(ranks),
                     figure(results.median(f"bootstrap.{ranks}", "p50_s"), 3),
                     figure(slowest, 3), aim,
                     figure(results.median(f"bootstrap.{ranks}", "root_kib")
                            / 1024, 1),
                     figure(results.median(f"bootstrap.{ranks}",
                                           "root_connections"), 0)))
    return f"""## Coming up

Real processes on this machine, from before the first is started to the return
of each one's `tally_open`; and what it costs rank 0, to which all come: resident
memory, and connections, both the most at any time.

{table(("ranks", "half of them s", "all s", "aim", "rank 0 MiB",
        "its connections"), rows)}
"""


def elsewhere(_):
    return """## What other scripts measure

* [GPU.md](GPU.md): the kernels on each GPU that was there, and PyTorch's, Liger's and
  quack's beside them (`bench/gpu.sh`).
* [GPU_STEPS.md](GPU_STEPS.md): what the order on a stream costs (`bench/gpu_steps.sh`).
* [REPLICAS.md](REPLICAS.md): decisions of replica groups, and how soon a lost one is
  missed (`bench/replicas.py`).
* [PYTHON.md](PYTHON.md): the calls of a step from Python (`bench/python_calls.py`,
  `bench/python_cuda.py`).
"""


def main():
    results = Results(sys.argv[1])
    repeats = max(len(results.runs("shm.2")), 1)
    print(f"""# Measured

Written by `bench/run.sh`; do not edit. To repeat: `./dev bench`. Each figure is
the median of {repeats} runs. Machines are noisy: compare the ratios, which are
of peers measured in turns in the same run.

{machine(results)}
""")
    sections = (shared_memory, over_ucx, over_ofi, across_nodes, spread,
                processor_time, step_calls, host_loss, bootstrap,
                elsewhere)
    print("\n".join(section(results) for section in sections), end="")


if __name__ == "__main__":
    main()
