# SPDX-License-Identifier: BSD-3-Clause
"""How long torchft takes to the next commit after one of its groups is killed:
    python bench/replicas_torchft.py GROUPS HEARTBEAT_TIMEOUT_MS KILLS
prints JSON: milliseconds from each kill to the next commit of each survivor.
HEARTBEAT_TIMEOUT_MS 0: the lighthouse's default."""

import json
import logging
import os
import signal
import subprocess
import sys
import time


COMMITS_BEFORE = 20
PATIENCE_S = 60


def train(index, lighthouse):
    """One replica group of one process, until it is killed: each commit's time
    is a line."""
    import torch
    import torch.distributed as dist
    from torchft import Manager, ProcessGroupGloo

    logging.disable(logging.CRITICAL)
    store = dist.TCPStore("localhost", 0, is_master=True,
                          wait_for_workers=False)
    state = {"model": torch.zeros(4)}
    manager = Manager(
        pg=ProcessGroupGloo(),
        load_state_dict=state.update,
        state_dict=lambda: state,
        min_replica_size=1,
        rank=0,
        world_size=1,
        store_addr="localhost",
        store_port=store.port,
        lighthouse_addr=lighthouse,
        replica_id=f"replica_{index}",
        hostname="localhost",
    )
    while True:
        manager.start_quorum()
        manager.allreduce(torch.ones(4)).wait()
        if manager.should_commit():
            print(time.monotonic_ns(), manager.num_participants(), flush=True)
        time.sleep(0.005)


def commits_of(process):
    """Times and participants of the commits until now."""
    with open(process.commits, encoding="ascii") as lines:
        text = lines.read()
    rows = (line.split() for line in text[:text.rfind("\n") + 1].splitlines())
    return [(int(row[0]), int(row[1])) for row in rows if len(row) == 2]


def until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("torchft makes no progress")
        time.sleep(0.002)


def start(index, lighthouse, folder):
    path = os.path.join(folder, f"commits.{index}")
    with open(path, "wb") as out, open(os.devnull, "wb") as nowhere:
        process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "--train", str(index),
             lighthouse], stdout=out, stderr=nowhere)
    process.commits = path
    return process


def kill_one(groups, lighthouse, folder):
    """Milliseconds to the next commit, of each survivor."""
    processes = [start(i, lighthouse, folder) for i in range(groups)]
    try:
        until(lambda: all(
            len([1 for _, size in commits_of(p) if size == groups])
            >= COMMITS_BEFORE for p in processes))
        killed_ns = time.monotonic_ns()
        processes[-1].send_signal(signal.SIGKILL)
        survivors = processes[:-1]

        def after(process):
            return [at for at, size in commits_of(process)
                    if at > killed_ns and size < groups]

        until(lambda: all(after(p) for p in survivors))
        return [(after(p)[0] - killed_ns) / 1e6 for p in survivors]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main(groups, timeout_ms, kills):
    import tempfile

    from torchft.coordination import LighthouseServer

    settings = {"heartbeat_timeout_ms": timeout_ms} if timeout_ms else {}
    times = []
    for _ in range(kills):
        lighthouse = LighthouseServer(bind="localhost:0", min_replicas=1,
                                      **settings)
        with tempfile.TemporaryDirectory() as folder:
            times += kill_one(groups, lighthouse.address(), folder)
        lighthouse.shutdown()
    print(json.dumps({"commit_ms": times}))


if __name__ == "__main__":
    if sys.argv[1] == "--train":
        train(int(sys.argv[2]), sys.argv[3])
    else:
        main(*map(int, sys.argv[1:]))
