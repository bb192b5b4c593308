#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Replica groups of which more than f acceptors are lost: those that are left
force a lineage where there is a register (etcd), by themselves or by the
operator's word; where there is none they stop and say how to go on. Whoever was
stopped and is continued must be fenced. Then check_logs.py reads the logs."""

import argparse
import base64
import glob
import json
import os
import re
import signal
import sys
import time
import urllib.request

import check_logs
import replicas

STANDS_S = 3  # how long nothing may be decided, where nothing should


class Wrong(SystemExit):
    pass


def ask_etcd(path, **fields):
    """Keys and values go as base64. Not by a proxy of the web."""
    body = {name: base64.b64encode(text).decode()
            for name, text in fields.items()}
    request = urllib.request.Request(
        os.environ["TALLY_ETCD_ENDPOINTS"] + "/v3/kv/" + path,
        json.dumps(body).encode(), {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as answer:
        return json.load(answer)


def key_of(name):
    return (f"{os.environ['TALLY_ETCD_PREFIX']}/{os.environ['TALLY_JOB']}/"
            f"{name}").encode()


def say_by_operator(lineage):
    """etcdctl put PREFIX/JOB/force LINEAGE"""
    ask_etcd("put", key=key_of("force"), value=str(lineage).encode())


def await_text(path, pattern, failure):
    """Until the file has a line that matches."""
    deadline = time.monotonic() + replicas.PROGRESS_S
    while True:
        with open(path, encoding="utf-8") as file:
            if re.search(pattern, file.read(), re.M):
                return
        if time.monotonic() > deadline:
            raise Wrong(failure)
        time.sleep(0.05)


def await_line(job, peer, text):
    """Until a coordinator has said so."""
    await_text(job.errors_of(f"{peer}.0"), re.escape(text),
               f"replica {peer} does not say: {text}")


def await_end(job, peer):
    """All ranks of it must end by themselves."""
    for process in job.processes[peer]:
        if process.wait(timeout=replicas.PROGRESS_S) == 0:
            raise Wrong(f"replica {peer} ended well")
    await_line(job, peer, "fenced")


def stand_still(job):
    """What was decided before may have to be heard first."""
    time.sleep(1)
    before = job.applied()
    time.sleep(STANDS_S)
    if job.applied() != before:
        raise Wrong(f"without a quorum {before} became {job.applied()}")


def lose(job, victims, number):
    for peer in victims:
        job.signal(peer, number)
    for peer in victims if number == signal.SIGKILL else ():
        job.end(peer)


def go_on(job, survivors):
    job.await_progress(survivors, 5, revive=False)
    for peer in survivors:
        await_line(job, peer, " of lineage 2, ")


def come_back(job, victims, number):
    """As others: whoever was stopped is of a lineage that is over."""
    for peer in victims:
        if number == signal.SIGSTOP:
            job.signal(peer, signal.SIGCONT)
            await_end(job, peer)
        job.end(peer)
        job.start(peer)
    job.await_progress(replicas.replicas_of(job), 5)


def survivors_of(job, victims):
    return [p for p in replicas.replicas_of(job) if p not in victims]


def by_itself(job, victims, number):
    lose(job, victims, number)
    go_on(job, survivors_of(job, victims))
    come_back(job, victims, number)


def by_word(job, victims):
    """The word counts for one lineage, which is not over before it is said."""
    lose(job, victims, signal.SIGSTOP)
    for peer in survivors_of(job, victims):
        await_line(job, peer, "etcdctl put PREFIX/JOB/force 1")
    say_by_operator(2)
    stand_still(job)
    say_by_operator(1)
    go_on(job, survivors_of(job, victims))
    come_back(job, victims, signal.SIGSTOP)


def registered(peer):
    """What it has announced; its lease may just be over."""
    deadline = time.monotonic() + replicas.PROGRESS_S
    while time.monotonic() < deadline:
        answer = ask_etcd("range", key=key_of(f"member/{peer}"))
        if "kvs" in answer:
            return base64.b64decode(answer["kvs"][0]["value"])
        time.sleep(0.05)
    raise Wrong(f"replica {peer} is not announced")


def with_leases(job, victims):
    """Who is not heard but is there for etcd may go on with others."""
    members = {peer: registered(peer) for peer in victims}
    lose(job, victims, signal.SIGSTOP)
    for peer, value in members.items():  # of no lease: it does not end
        ask_etcd("put", key=key_of(f"member/{peer}"), value=value)
    for peer in survivors_of(job, victims):
        await_line(job, peer, "nothing can be decided")
    stand_still(job)
    for peer in victims:
        ask_etcd("deleterange", key=key_of(f"member/{peer}"))
    go_on(job, survivors_of(job, victims))
    come_back(job, victims, signal.SIGSTOP)


def all_stopped(job):
    """A machine that sleeps: for those that wake first nobody is gone."""
    everybody = list(replicas.replicas_of(job))
    lose(job, everybody, signal.SIGSTOP)
    time.sleep(int(os.environ["TALLY_ETCD_LEASE"]) +
               int(os.environ["TALLY_REPLICA_FORCE"]) + 1)
    for peer in everybody:
        job.signal(peer, signal.SIGCONT)
    job.await_progress(everybody, 5, revive=False)


def without_register(job, victims):
    lose(job, victims, signal.SIGSTOP)
    for peer in survivors_of(job, victims):
        await_line(job, peer, "start them from the newest checkpoint")
    stand_still(job)
    for peer in victims:
        job.signal(peer, signal.SIGCONT)
    job.await_progress(replicas.replicas_of(job), 5)


def await_published(job, peer):
    """Until a checkpoint is, by one of its ranks as they are now."""
    name = f"log.{peer}.0.{job.processes[peer][0].pid}"
    await_text(os.path.join(job.folder, name), r"^published \d+ ok$",
               f"replica {peer} publishes no checkpoint")


def below_a_checkpoint(job, behind, others):
    """Nobody goes on from before what was published. That is said once; and who
    holds it may go on, with who does not. Heartbeats are slow: it is counted no
    more, and a member still, when the others are lost."""
    refusal = "or end all and start them from that checkpoint"
    job.signal(behind, signal.SIGSTOP)
    job.await_progress(others, 2, revive=False)
    lose(job, others, signal.SIGSTOP)
    for kind in "snapshot", "checkpoint":  # their hosts are out of reach too
        for path in glob.glob(os.path.join(job.folder, kind + ".*[0-9]")):
            os.unlink(path)  # what is being written stays for its writer
    job.signal(behind, signal.SIGCONT)
    await_line(job, behind, refusal)
    stand_still(job)
    time.sleep(STANDS_S)
    with open(job.errors_of(f"{behind}.0"), encoding="utf-8") as errors:
        said = errors.read().count(refusal)
    if said != 1:
        raise Wrong(f"replica {behind} says {said} times: {refusal}")
    back, away = others[:-1], others[-1:]
    for peer in back:
        job.signal(peer, signal.SIGCONT)
    go_on(job, [behind, *back])
    come_back(job, away, signal.SIGSTOP)


def started_again(job, victims):
    """All of them, after a lineage that was forced: they begin the next, with the
    checkpoint that was published."""
    everybody = list(replicas.replicas_of(job))
    by_itself(job, victims, signal.SIGKILL)
    for peer in everybody:
        await_published(job, peer)
    lose(job, everybody, signal.SIGKILL)
    for peer in everybody:
        job.start(peer)
    await_line(job, 0, "they begin lineage 3 with the checkpoint of index ")
    job.await_progress(everybody, 5, revive=False)


# What is not as always.
SETTINGS = {"below": {"TALLY_HEARTBEAT_US": "2000000", "TALLY_TIMEOUT": "60",
                      "TALLY_REPLICA_PATIENCE": "0.3",
                      "TALLY_REPLICA_GRADIENT_PATIENCE": "1",
                      "PUBLISH_EVERY": "1"}}

# Replicas, lineages that there must be, and what happens.
SCENES = {
    "killed": (3, 2, lambda job: by_itself(job, [0, 1], signal.SIGKILL)),
    "killed-of-four": (4, 2,
                       lambda job: by_itself(job, [0, 1], signal.SIGKILL)),
    "stopped": (3, 2, lambda job: by_itself(job, [1, 2], signal.SIGSTOP)),
    "leases": (3, 2, lambda job: with_leases(job, [1, 2])),
    "word": (3, 2, lambda job: by_word(job, [0, 2])),
    "all-stopped": (3, 1, all_stopped),
    "below": (3, 2, lambda job: below_a_checkpoint(job, 0, [1, 2])),
    "started-again": (3, 3, lambda job: started_again(job, [0, 1])),
    "static": (3, 1, lambda job: without_register(job, [1, 2])),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("scene", choices=SCENES)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--transport", default="ucx")
    parser.add_argument("--rank", default="tests/fault/replica_rank")
    options = parser.parse_args()
    options.replicas, lineages, scene = SCENES[options.scene]
    options.witnesses, options.acceptors = 0, 3
    options.nodes, options.log = None, "info"
    options.ports = None
    job = replicas.Job(options, options.folder)
    job.environment.update(SETTINGS.get(options.scene, {}))
    os.makedirs(job.members)
    try:
        for peer in replicas.replicas_of(job):
            job.start(peer)
        job.await_progress(replicas.replicas_of(job), 5)
        scene(job)
        replicas.finish(job)
    finally:
        for peer in job.processes:
            job.end(peer)
    report = check_logs.check(options.folder, options.replicas, options.ranks)
    if lineages != int((re.findall(r"in (\d+) lineages", report) or [1])[0]):
        raise Wrong(f"{lineages} lineages are expected: {report}")
    print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
