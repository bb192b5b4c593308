#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Measures replica groups and writes this machine's section of bench/REPLICAS.md;
those of other machines stay:
    bench/replicas.py [BUILD [TORCHFT_PYTHON]]
BUILD: the build folder (build). TORCHFT_PYTHON: an interpreter that has torchft,
which is measured beside it then. KILLS: how many of each kind (30);
TORCHFT_KILLS: of torchft (3); STEPS: of each group that is timed (3000, else more
than 200). With 0 that part is left out. DOCUMENT: another file than
bench/REPLICAS.md; COMMIT: what is measured, where git does not tell."""

import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import replicas_document
import report

BENCH = pathlib.Path(__file__).resolve().parent
PATIENCE_S = 120
WARMUP = 200
PACE_US = 2000  # as of a trainer that computes in between
KILLS = int(os.environ.get("KILLS", "30"))
TORCHFT_KILLS = int(os.environ.get("TORCHFT_KILLS", "3"))
STEPS = int(os.environ.get("STEPS", "3000"))

TCP = {
    "ucx": {"TALLY_UCX_TLS": "tcp", "TALLY_UCX_NET_DEVICES": "lo"},
    "ofi": {"TALLY_OFI_PROVIDER": "tcp;ofi_rxm", "TALLY_OFI_DOMAIN": "lo"},
}


def environment(**settings):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TALLY_")}
    return dict(clean, **settings)


def percentile(values, permille):
    """The nearest rank, as tools/perf/samples.h has it."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * permille // 1000) - 1)]


def until(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"replicas.py: no end of waiting: {what}")
        time.sleep(0.002)


class Decision:
    """One line of bench/replicas."""

    def __init__(self, words):
        self.kind = words[0]
        self.begin_ns, self.end_ns, self.index, self.attempt = map(int, words[1:5])
        self.members = int(words[5], 16)
        self.status = " ".join(words[6:])


class Process:
    def __init__(self, command, build, path, settings):
        self.path = path
        with open(path, "wb") as out, open(f"{path}.errors", "wb") as errors:
            self.process = subprocess.Popen(
                command, cwd=build, env=environment(**settings), stdout=out,
                stderr=errors, stdin=subprocess.DEVNULL)

    def lines(self):
        text = pathlib.Path(self.path).read_text(encoding="ascii")
        return [line.split() for line in text.split("\n")[:-1]]

    def says(self, word):
        if self.process.poll() not in (None, 0):
            errors = pathlib.Path(f"{self.path}.errors").read_text("utf-8")
            raise SystemExit(f"replicas.py: bench/replicas ended:\n{errors}")
        return any(words[0] == word for words in self.lines())

    def decisions(self):
        return [Decision(words) for words in self.lines()
                if words[0] in ("count", "apply")]

    def gone_ns(self, peer):
        """When it first thought so of that peer; None: never."""
        return next((int(words[1]) for words in self.lines()
                     if words[0] == "gone" and int(words[2], 16) >> peer & 1),
                    None)


class Job:
    """Replica groups of one rank each; plain: one group without the path."""

    def __init__(self, build, replicas, transport, steps, pace_us, plain=False,
                 before=()):
        self.folder = tempfile.mkdtemp()
        settings = dict(TCP[transport], TALLY_LOG="info",
                        TALLY_LOCAL_SIZE=str(replicas))
        program = [str(build / "bench/replicas")]
        if plain:
            settings.update(TALLY_TRANSPORT=transport, TALLY_NODE_SHM="0",
                            TALLY_WORLD_SIZE=str(replicas),
                            TALLY_ROOT=f"127.0.0.1:{free_port()}")
            program.append("--plain")
        else:
            settings.update(TALLY_REPLICAS=str(replicas),
                            TALLY_REPLICA_TRANSPORT=transport,
                            TALLY_REPLICA_FOLDER=f"{self.folder}/members",
                            TALLY_RANK="0", TALLY_WORLD_SIZE="1")
        program += [str(steps), str(pace_us)]
        who = "TALLY_RANK" if plain else "TALLY_REPLICA"
        self.processes = [
            Process([*(before if i == replicas - 1 else ()), *program], build,
                    f"{self.folder}/{i}", dict(settings, **{who: str(i)}))
            for i in range(replicas)]

    def __enter__(self):
        try:
            until(lambda: all(p.says("begin") for p in self.processes), "begin")
        except BaseException:
            self.close()
            raise
        return self

    def close(self):
        for each in self.processes:
            each.process.kill()
            each.process.wait()
        shutil.rmtree(self.folder)

    def __exit__(self, *_):
        self.close()


def free_port():
    import socket
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def to_the_end(job):
    """The decisions of each process, when all have done their steps."""
    until(lambda: all(p.says("end") for p in job.processes), "end")
    return [p.decisions() for p in job.processes]


def latencies_us(all_decisions, kind):
    """From the last that asked to each that was told."""
    by_index = {}
    for decisions in all_decisions:
        for each in decisions:
            if each.kind == kind and each.status in ("counted", "apply", "none"):
                by_index.setdefault(each.index, []).append(each)
    values = []
    for index in sorted(by_index)[WARMUP:]:
        rows = by_index[index]
        if len(rows) == len(all_decisions):
            begin = max(row.begin_ns for row in rows)
            values += [(row.end_ns - begin) / 1e3 for row in rows]
    return values


def step_times_us(all_decisions):
    """From one count's begin to the next, of the first process."""
    begins = [each.begin_ns for each in all_decisions[0] if each.kind == "count"]
    begins = begins[WARMUP:]
    return [(b - a) / 1e3 for a, b in zip(begins, begins[1:])]


# -------------------------------------------------------------------- measures


def one_way_us(build, transport):
    """The library by itself, half of a round trip of 64 bytes."""
    done = subprocess.run(
        ["tools/tally_run", "--no-prefix", "-n", "2", "tools/tally_perf",
         "--json", "--transports", transport, "--iters", "20000", "--compare",
         "pingpong"], cwd=build, stdout=subprocess.PIPE, check=True,
        env=environment(**TCP[transport], TALLY_TRANSPORT=transport,
                        TALLY_NODE_SHM="0"))
    return json.loads(done.stdout)["peer_p50_us"]


def shard_reduce_us(build, transport):
    """A group of one rank without the path."""
    with Job(build, 1, transport, STEPS, 0, plain=True) as job:
        return statistics.median(latencies_us(to_the_end(job), "count"))


def fast_path(build, transports):
    if not STEPS:
        return replicas_document.NOT_MEASURED
    rows = []
    for transport in transports:
        shard = shard_reduce_us(build, transport)
        for replicas in (2, 3, 5):
            for pace_us in (0, PACE_US):
                one_way = one_way_us(build, transport)
                with Job(build, replicas, transport, STEPS, pace_us) as job:
                    decisions = to_the_end(job)
                counts = latencies_us(decisions, "count")
                applies = latencies_us(decisions, "apply")
                above = statistics.median(counts) - shard
                ratio = above / (2 * one_way)
                rows.append((
                    transport, str(replicas),
                    f"{pace_us / 1000:g} ms" if pace_us else "none",
                    report.microseconds(one_way), report.microseconds(shard),
                    report.microseconds(statistics.median(counts)),
                    report.microseconds(percentile(counts, 990)),
                    report.microseconds(statistics.median(applies)),
                    report.figure(ratio, 1), report.verdict(ratio, 2.5)))
                print("fast path", rows[-1], flush=True)
    headings = ("transport", "replicas", "pause", "one way us", "shard us",
                "count p50 us", "p99 us", "apply p50 us", "ratio",
                "at most 2.5")
    return report.table(headings, rows)


def steady_cost(build, transports):
    if not STEPS:
        return replicas_document.NOT_MEASURED
    rows = []
    for transport in transports:
        for ranks in (2, 3):
            times = []
            for plain in (True, False):
                with Job(build, ranks, transport, STEPS, 0, plain) as job:
                    times.append(step_times_us(to_the_end(job)))
            medians = [statistics.median(each) for each in times]
            rows.append((transport, str(ranks), *map(report.microseconds, medians),
                         report.microseconds(medians[1] - medians[0]),
                         report.figure(medians[1] / medians[0], 1)))
            print("steady", rows[-1], flush=True)
    headings = ("transport", "ranks", "one group, step p50 us",
                "replica groups, step p50 us", "more us", "ratio")
    return report.table(headings, rows)


class Loss:
    """What the survivors saw of one that is gone, in milliseconds."""

    def __init__(self, survivors, victim, begin_ns):
        known = [each.gone_ns(victim) for each in survivors]
        left = [[each for each in survivor.decisions()
                 if each.end_ns > begin_ns and not each.members >> victim & 1
                 and each.status in ("counted", "apply", "retry")]
                for survivor in survivors]
        index = left[0][0].index
        firsts = [rows[0] for rows in left]
        # Decided once it is known, and all who are left have asked.
        due = max(*(at for at in known if at is not None),
                  *(each.begin_ns for each in firsts if each.index == index))
        self.known_ms = [(at - begin_ns) / 1e6 for at in known
                         if at is not None]
        self.decided_ms = [max(0.0, (each.end_ns - due) / 1e6)
                           for each in firsts if each.index == index]
        self.applied_ms = [
            (next(each.end_ns for each in rows if each.status == "apply")
             - begin_ns) / 1e6 for rows in left]


def lose(build, transport, replicas, how, before=()):
    victim = replicas - 1
    with Job(build, replicas, transport, 10**9, PACE_US, before=before) as job:
        time.sleep(0.3)
        begin_ns = time.monotonic_ns()
        job.processes[victim].process.send_signal(how)
        survivors = job.processes[:victim]
        until(lambda: all(each.gone_ns(victim) for each in survivors), "gone")
        time.sleep(0.3)
        for each in survivors:
            each.process.send_signal(signal.SIGTERM)
        until(lambda: all(each.says("end") for each in survivors), "its end")
        return Loss(survivors, victim, begin_ns)


IN_NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child")


def has_namespaces():
    try:
        return subprocess.run([*IN_NAMESPACE, "true"], check=False,
                              stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False  # no unshare


def faults(build, transport):
    """The table, and the medians to the next step that torchft compares to."""
    if not KILLS:
        return replicas_document.NOT_MEASURED, {}
    kinds = [("killed, same host", signal.SIGKILL, ()),
             ("silent: its host is gone", signal.SIGSTOP, ())]
    elsewhere = "killed, as on another host"
    missing = ""
    if has_namespaces():
        kinds.insert(1, (elsewhere, signal.SIGKILL, IN_NAMESPACE))
    else:
        missing = f"\n\nNot measured, without namespaces: {elsewhere}."
    rows = []
    next_ms = {}
    for name, how, before in kinds:
        losses = [lose(build, transport, 3, how, before) for _ in range(KILLS)]
        known = [ms for each in losses for ms in each.known_ms]
        decided = [ms for each in losses for ms in each.decided_ms]
        applied = [ms for each in losses for ms in each.applied_ms]
        next_ms[name] = statistics.median(applied)
        rows.append((
            name, str(len(losses)), report.figure(statistics.median(known), 1),
            report.figure(percentile(known, 990), 1),
            report.verdict(percentile(known, 990), 400),
            report.figure(statistics.median(decided), 2),
            report.figure(percentile(decided, 990), 2),
            report.verdict(percentile(decided, 990), 5),
            report.figure(statistics.median(applied), 1),
            report.figure(percentile(applied, 990), 1)))
        print("fault", rows[-1], flush=True)
    headings = ("what", "times", "known p50 ms", "p99 ms", "at most 400",
                "then decided p50 ms", "p99 ms", "at most 5",
                "next step p50 ms", "p99 ms")
    return report.table(headings, rows) + missing, next_ms


def torchft(python, next_ms):
    if python is None:
        return "Not measured: there is no torchft.", "not there"
    if not TORCHFT_KILLS:
        return replicas_document.NOT_MEASURED, "not measured"
    version = report.command_line(
        python, "-c", "import importlib.metadata as m; print(m.version('torchft'))")
    rows = []
    for groups, timeout_ms in ((2, 0), (2, 1000), (3, 0), (3, 1000)):
        done = subprocess.run(
            [python, BENCH / "replicas_torchft.py", str(groups),
             str(timeout_ms), str(TORCHFT_KILLS)], check=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        times = json.loads(done.stdout)["commit_ms"]
        half = statistics.median(times)
        rows.append((
            str(groups), f"{timeout_ms / 1000:g} s" if timeout_ms else "5 s",
            str(TORCHFT_KILLS), report.figure(half, 0),
            report.figure(max(times), 0),
            *(report.figure(half / ms, 1) for ms in next_ms.values())))
        print("torchft", rows[-1], flush=True)
    headings = ("groups", "heartbeat timeout", "times", "next commit p50 ms",
                "slowest ms", *(f"over Tally, {name}" for name in next_ms))
    return report.table(headings, rows), f"{version}"


def machine(build, torchft_version):
    """The table of bench/README.md, and who is measured beside."""
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/info.json", "wb") as out:
            subprocess.run(["tools/tally_info", "--json", "-v", "-t"], cwd=build,
                           stdout=out, check=True, env=environment())
        text = report.machine(report.Results(folder))
    rows = [row for row in text.splitlines() if "Open MPI" not in row]
    load = os.getloadavg()[0]
    rows.append(f"| load | {load:.1f} runnable processes at the end, these "
                "included |")
    return "\n".join([*rows, f"| torchft | {torchft_version} |"])


def main():
    build = pathlib.Path(sys.argv[1] if len(sys.argv) > 1
                         else BENCH.parent / "build").resolve()
    python = sys.argv[2] if len(sys.argv) > 2 else None
    transports = [name for name in TCP
                  if (build / f".libs/libtally-{name}.so").exists()]
    fast = fast_path(build, transports)
    steady = steady_cost(build, transports)
    lost, next_ms = faults(build, transports[0])
    peer, version = torchft(python, next_ms)
    parts = [("Decisions while nobody is lost", fast),
             ("The whole step", steady),
             ("One of three is lost", lost),
             ("One is lost, torchft", peer)]
    path = pathlib.Path(os.environ.get("DOCUMENT", BENCH / "REPLICAS.md"))
    replicas_document.replace_section(
        path, f"{report.processor()}, {report.cores()} cores",
        machine(build, version), parts)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
