#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Replica groups as real processes that are killed, stopped and started again;
then the logs of all ranks are checked from outside (check_logs.py)."""

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import time

import check_logs

PROGRESS_S = 60  # generous: nothing is measured here
ORPHAN = 3  # a rank's exit status when its step failed
SUPPRESSIONS = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                            "../harness/tsan.supp")


def free_port(ports):
    """Of the job's own, if it has some; else none that the kernel gives out by
    itself: it would to others, soon."""
    for port in ports or random.sample(range(10000, 29000), 100):
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return listener.getsockname()[1]
    raise SystemExit("no port of the job's is free")


class Ports:
    """In turns, so that one that was in use a moment ago comes last."""

    def __init__(self, first, count):
        self.first, self.count, self.turn = first, count, 0

    def __iter__(self):
        for _ in range(self.count):
            self.turn = (self.turn + 1) % self.count
            yield self.first + self.turn


class Job:
    def __init__(self, options, folder):
        self.options = options
        self.folder = folder
        self.members = os.path.join(folder, "members")
        self.processes = {}
        self.nodes = options.nodes  # of each peer, a process in it
        self.ports = Ports(*options.ports) if options.ports else None
        self.said_before = {}  # bytes of a witness's errors at its start
        self.environment = dict(
            os.environ,
            TALLY_REPLICAS=str(options.replicas),
            TALLY_WITNESSES=str(options.witnesses),
            TALLY_REPLICA_FOLDER=self.members,
            TALLY_REPLICA_ACCEPTORS=str(options.acceptors),
            TALLY_REPLICA_TRANSPORT=options.transport,
            TALLY_REPLICA_DEADLINE="2",
            TALLY_REPLICA_PATIENCE="1",
            TALLY_REPLICA_GRADIENT_PATIENCE="3",
            TALLY_TIMEOUT="10",
            TALLY_UCX_TLS="tcp,self",
            TALLY_OFI_PROVIDER="tcp;ofi_rxm",
            TALLY_LOG=options.log,
            TALLY_LOCAL_SIZE="64",
            TSAN_OPTIONS=os.environ.get("TSAN_OPTIONS", "") +
            " suppressions=" + SUPPRESSIONS,
        )
        if self.nodes:
            self.environment.update(TALLY_UCX_NET_DEVICES="eth0",
                                    TALLY_OFI_DOMAIN="eth0")

    def in_node(self, peer, *command):
        """A command in the namespaces of a peer, if it has some of its own."""
        if not self.nodes:
            return list(command)
        return ["nsenter", f"--wd={os.getcwd()}", "--target", self.nodes[peer],
                "--net", "--mount", "--ipc", *command]

    def ip(self, peer, *words):
        subprocess.run(self.in_node(peer, "ip", *words), check=True)

    def spawn(self, command, name, **variables):
        with open(os.path.join(self.folder, "errors." + name), "ab") as errors:
            return subprocess.Popen(
                command, env=dict(self.environment, **variables),
                stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)

    def errors_of(self, witness):
        return os.path.join(self.folder, f"errors.{witness}")

    def start(self, peer):
        """A replica with all its ranks, or a witness."""
        if peer >= self.options.replicas:
            path = self.errors_of(peer)
            self.said_before[peer] = (os.path.getsize(path)
                                      if os.path.exists(path) else 0)
            self.processes[peer] = [self.spawn(
                self.in_node(peer, self.options.witness), f"{peer}",
                TALLY_REPLICA=str(peer))]
            return
        root = f"127.0.0.1:{free_port(self.ports)}"
        self.processes[peer] = [
            self.spawn(self.in_node(peer, self.options.rank, self.folder,
                                    str(peer), "1000000000"),
                       f"{peer}.{rank}", TALLY_RANK=str(rank),
                       TALLY_WORLD_SIZE=str(self.options.ranks),
                       TALLY_ROOT=root)
            for rank in range(self.options.ranks)]

    def signal(self, peer, number, ranks=None):
        """Whoever is stopped does nothing any more once this returns."""
        told = [process for rank, process in enumerate(self.processes[peer])
                if ranks is None or rank in ranks]
        for process in told:
            process.send_signal(number)
        for process in told if number == signal.SIGSTOP else ():
            if process.returncode is None:
                os.waitid(os.P_PID, process.pid,
                          os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def end(self, peer):
        """What is left of it is killed."""
        self.signal(peer, signal.SIGKILL)
        for process in self.processes[peer]:
            process.wait()

    def dead(self, peer):
        return [p for p in self.processes[peer] if p.poll() is not None]

    def revive(self):
        """Starts those again of which some rank has ended by itself."""
        for peer in list(self.processes):
            if self.dead(peer):
                self.end(peer)
                self.start(peer)

    def applied(self):
        """The index that each replica has applied last, in its present life."""
        last = {}
        for peer, processes in self.processes.items():
            if peer >= self.options.replicas:
                continue
            path = os.path.join(self.folder, f"log.{peer}.0.{processes[0].pid}")
            last[peer] = 0
            try:
                with open(path, "rb") as log:
                    log.seek(max(0, os.path.getsize(path) - 20000))
                    for line in log.read().split(b"\n")[:-1]:
                        words = line.split()
                        if words and words[0] == b"applied":
                            last[peer] = int(words[2])
            except (OSError, ValueError, IndexError):
                pass
        return last

    def await_progress(self, peers, steps, revive=True):
        """Until each of them has applied so many steps past the furthest."""
        begin = max(self.applied().values(), default=0)
        deadline = time.monotonic() + PROGRESS_S
        while True:
            if revive:
                self.revive()
            last = self.applied()
            if all(last.get(peer, 0) >= begin + steps for peer in peers):
                return
            if time.monotonic() > deadline:
                raise SystemExit(f"no progress: {last} after {begin}")
            time.sleep(0.01)


    def await_named(self, witness):
        """Until an epoch names a witness that was started again: until then it
        counts as lost. It says of which epoch it hears first, then of that."""
        deadline = time.monotonic() + PROGRESS_S
        while True:
            with open(self.errors_of(witness), encoding="utf-8") as errors:
                errors.seek(self.said_before[witness])
                if errors.read().count(": epoch ") >= 2:
                    return
            if time.monotonic() > deadline:
                raise SystemExit(f"witness {witness} is not named")
            time.sleep(0.01)


def replicas_of(job):
    return range(job.options.replicas)


def others(job, victim):
    return [peer for peer in replicas_of(job) if peer != victim]


def kill_and_restart(job, victim, ranks):
    """The whole replica, or some ranks, are killed. Meanwhile the other replicas
    go on."""
    job.signal(victim, signal.SIGKILL, ranks)
    job.await_progress(others(job, victim), 3, revive=False)
    if ranks is not None:
        await_end_of_orphans(job, victim, ranks)
    restart(job, victim)


def await_end_of_orphans(job, victim, killed):
    """Their shard is gone, whoever it was, the coordinator too: nobody takes
    over, they end by themselves and say why."""
    deadline = time.monotonic() + PROGRESS_S
    while len(job.dead(victim)) < job.options.ranks:
        if time.monotonic() > deadline:
            raise SystemExit(f"ranks of replica {victim} live on without "
                             f"{killed}")
        time.sleep(0.01)
    for rank, process in enumerate(job.processes[victim]):
        if rank in killed:
            continue
        with open(os.path.join(job.folder, f"errors.{victim}.{rank}"),
                  encoding="utf-8") as errors:
            said = errors.read()
        if process.returncode != ORPHAN or not any(
                f"rank {each} died" in said for each in killed):
            raise SystemExit(f"rank {rank} of replica {victim} ended with "
                             f"{process.returncode}, said {said[-500:]}")


def kill_two(job, victim):
    """At once: as many as five acceptors may lose."""
    victims = (victim, (victim + 1) % job.options.replicas)
    for each in victims:
        job.signal(each, signal.SIGKILL)
    job.await_progress([peer for peer in replicas_of(job)
                        if peer not in victims], 3, revive=False)
    for each in victims:
        restart(job, each)


def go_on_without(job, victim):
    job.await_progress(others(job, victim), 3, revive=False)
    restart(job, victim)


def restart(job, victim):
    job.end(victim)
    job.start(victim)
    if victim >= job.options.replicas:
        job.await_named(victim)


def kill_joiner(job, victim):
    """It is killed again on its way back, each time a little later."""
    job.signal(victim, signal.SIGKILL)
    job.await_progress(others(job, victim), 3, revive=False)
    for seconds in (0.02, 0.1, 0.3):
        restart(job, victim)
        time.sleep(seconds)
    go_on_without(job, victim)


def die_between(job, victim):
    """Between the count and the commit of one step."""
    path = os.path.join(job.folder, f"die.{victim}.0")
    with open(path, "w"):
        pass
    deadline = time.monotonic() + PROGRESS_S
    while not job.dead(victim):
        if time.monotonic() > deadline:
            raise SystemExit("it does not die")
        time.sleep(0.005)
    go_on_without(job, victim)


def stop(job, victim, seconds):
    job.signal(victim, signal.SIGSTOP)
    time.sleep(seconds)
    job.signal(victim, signal.SIGCONT)


def stop_most(job, victim, seconds):
    """More than f: nobody decides, all are in doubt; then they go on."""
    peers = [peer for peer in job.processes if peer != victim]
    for peer in peers:
        job.signal(peer, signal.SIGSTOP)
    time.sleep(seconds)
    for peer in peers:
        job.signal(peer, signal.SIGCONT)


def stop_rank(job, victim, seconds):
    job.signal(victim, signal.SIGSTOP, [job.options.ranks - 1])
    time.sleep(seconds)
    job.signal(victim, signal.SIGCONT)


def unplug(job, victim):
    job.ip(victim, "link", "set", "dev", "eth0", "down")


def plug(job, victim):
    job.ip(victim, "link", "set", "dev", "eth0", "up")


def mute(job, victim):
    """What it sends goes to nobody; what others send arrives."""
    for peer in job.processes:
        if peer != victim:
            job.ip(victim, "neighbour", "replace", f"10.0.0.{peer + 1}",
                   "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud",
                   "permanent")


def unmute(job, victim):
    job.ip(victim, "neighbour", "flush", "dev", "eth0", "nud", "permanent")


def cut_short(job, victim, cut, mend):
    cut(job, victim)
    time.sleep(0.1)
    mend(job, victim)


def cut_long(job, victim, cut, mend):
    """Longer than any deadline; meanwhile the others go on."""
    cut(job, victim)
    job.await_progress(others(job, victim), 3, revive=False)
    time.sleep(3)
    last = job.applied()
    if last.get(victim, -1) >= max(last.values()):
        raise SystemExit(f"replica {victim} is cut off, yet applies: {last}")
    mend(job, victim)


# With namespaces for each peer (--nodes, as tests/cluster/net.sh makes them).
LINK_FAULTS = {
    "unplug short": lambda job, v: cut_short(job, v, unplug, plug),
    "unplug long": lambda job, v: cut_long(job, v, unplug, plug),
    "mute short": lambda job, v: cut_short(job, v, mute, unmute),
    "mute long": lambda job, v: cut_long(job, v, mute, unmute),
}

FAULTS = {
    "kill replica": lambda job, v: kill_and_restart(job, v, None),
    "kill two": kill_two,
    "kill coordinator": lambda job, v: kill_and_restart(job, v, [0]),
    "kill rank": lambda job, v: kill_and_restart(job, v,
                                                 [job.options.ranks - 1]),
    "kill between": die_between,
    "kill joiner": kill_joiner,
    "stop short": lambda job, v: stop(job, v, 0.15),
    "stop long": lambda job, v: stop(job, v, 1.5),
    "stop most": lambda job, v: stop_most(job, v, 2.5),
    "stop rank": lambda job, v: stop_rank(job, v, 0.6),
}


def strike(job, random_, number):
    peers = job.options.replicas + job.options.witnesses
    victim = random_.randrange(peers)
    faults = LINK_FAULTS if job.nodes else FAULTS
    names = [name for name in faults
             if name != "kill two" or job.options.acceptors >= 5]
    name = names[number % len(names)]
    if job.options.fault:
        name = job.options.fault
    if not job.nodes and victim >= job.options.replicas and name not in (
            "stop short", "stop long", "stop most"):
        name = "kill replica"
    time.sleep(random_.random() * 0.05)
    print(f"{number}: {name} {victim} at {job.applied()}", flush=True)
    faults[name](job, victim)
    job.await_progress(replicas_of(job), 3)


def finish(job):
    last = max(job.applied().values()) + 50
    path = os.path.join(job.folder, "stop")
    with open(path + ".new", "w") as file:
        file.write(f"{last}\n")
    os.rename(path + ".new", path)
    for peer in replicas_of(job):
        for process in job.processes[peer]:
            if process.wait(timeout=PROGRESS_S) != 0:
                raise SystemExit(f"replica {peer} ended with "
                                 f"{process.returncode}")
    for peer in list(job.processes):
        if peer >= job.options.replicas:
            job.processes[peer][0].send_signal(signal.SIGTERM)
            if job.processes[peer][0].wait(timeout=PROGRESS_S) != 0:
                raise SystemExit("the witness did not end well")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--witnesses", type=int, default=0)
    parser.add_argument("--acceptors", type=int, default=3)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--fault", choices=FAULTS)
    parser.add_argument("--nodes", nargs="+", metavar="PID")
    parser.add_argument("--ports", nargs=2, type=int, metavar=("FIRST", "COUNT"),
                        help="of this job alone (any that is free)")
    parser.add_argument("--transport", default="ucx")
    parser.add_argument("--seed", type=int, default=os.getpid())
    parser.add_argument("--log", default="info")
    parser.add_argument("--rank", default="tests/fault/replica_rank")
    parser.add_argument("--witness", default="tools/tally_witness")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    random_ = random.Random(options.seed)
    job = Job(options, options.folder)
    os.makedirs(job.members)
    try:
        for peer in range(options.replicas + options.witnesses):
            job.start(peer)
        job.await_progress(replicas_of(job), 5)
        for number in range(options.faults):
            strike(job, random_, number)
        finish(job)
    finally:
        for peer in job.processes:
            job.end(peer)
    report = check_logs.check(options.folder, options.replicas, options.ranks)
    print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
