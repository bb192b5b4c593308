#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Reads what every rank of a job of replica groups logged, and computes again
what must have been decided: no token is counted twice, none of a replica that
counts is lost, and all ranks say the same. An index may be decided again in a
later lineage, so what is decided is known by both. It knows nothing of Tally."""

import collections
import glob
import os
import sys


class Wrong(SystemExit):
    pass


class Life:
    """One process: a rank of one start of a replica."""

    def __init__(self, path):
        _, replica, rank, _ = os.path.basename(path).split(".")
        self.replica, self.rank = int(replica), int(rank)
        self.counted = {}  # lineage, index: tokens of this rank
        self.unmatched = []  # tokens that were offered, with no word of a count
        self.held = {}  # lineage, index: the state after it
        self.lines = []
        with open(path) as log:
            for line in log.read().split("\n")[:-1]:  # a last one may be cut
                self.lines.append(line.split())


def named(words):
    """The lineage and the index of a decision."""
    return int(words[1]), int(words[2])


def same(table, key, value, what, life):
    if table.setdefault(key, value) != value:
        raise Wrong(f"{what} {key}: replica {life.replica} rank {life.rank} "
                    f"has {value}, others have {table[key]}")


class Job:
    def __init__(self):
        self.counts = {}  # lineage, index: (members, digest, total)
        self.applies = {}  # the same: (attempt, members, digest, total)
        self.parameters = {}  # index, digest of the state: what the model is
        self.ends = {}
        self.appliers = collections.defaultdict(set)

    def take(self, life):
        offered = None
        applied = (0, 0)
        for words in life.lines:
            word = words[0]
            if word == "offer":
                if offered is not None:
                    life.unmatched.append(offered)
                offered = int(words[1])
            elif word == "counted":
                index, members = named(words), int(words[4], 16)
                if int(words[7]) != offered:
                    raise Wrong(f"counted {index} without an offer")
                if not members >> life.replica & 1:
                    raise Wrong(f"replica {life.replica} is told that it is "
                                f"counted in {index}, and is not")
                if index in life.counted:
                    raise Wrong(f"replica {life.replica} is counted twice in "
                                f"{index}")
                life.counted[index] = offered
                offered = None
                same(self.counts, index, (members, words[5], int(words[6])),
                     "count", life)
            elif word == "applied":
                index = named(words)
                same(self.applies, index,
                     (int(words[3]), int(words[4], 16), words[5],
                      int(words[6])), "apply", life)
                if index <= applied:
                    raise Wrong(f"replica {life.replica} applies {index} after "
                                f"{applied}")
                applied = index
                if index not in life.counted:
                    raise Wrong(f"applied {index}, which was not counted")
                self.appliers[index].add((life.replica, life.rank))
            elif word in ("parameters", "restored"):
                state = int(words[1]), words[2]
                if word == "parameters":
                    life.held[applied] = state
                if state[0] > 0:
                    same(self.parameters, state, words[3], "parameters", life)
            elif word == "end":
                self.ends[life.replica, life.rank] = (words[1], words[2])
        if offered is not None:
            life.unmatched.append(offered)


def choices(lives, replica, rank, index):
    """The tokens that a rank may have had in an index."""
    mine = [l for l in lives if (l.replica, l.rank) == (replica, rank)]
    known = [l.counted[index] for l in mine if index in l.counted]
    if len(known) > 1:
        raise Wrong(f"two starts of replica {replica} are counted in {index}")
    return known or [tokens for l in mine for tokens in l.unmatched]


def sums(lists):
    possible = {0}
    for values in lists:
        possible = {a + b for a in possible for b in values}
        if len(possible) > 2000000:
            return None
    return possible


def check_total(lives, ranks, index, members, total, what):
    lists = [choices(lives, replica, rank, index)
             for replica in range(64) if members >> replica & 1
             for rank in range(ranks)]
    possible = sums(lists)
    if possible is not None and total not in possible:
        raise Wrong(f"{what} {index} over {members:x}: the total is {total}, "
                    f"the ranks had {lists}")
    return all(len(values) == 1 for values in lists)


def check(folder, replicas, ranks):
    lives = [Life(path) for path in sorted(
        glob.glob(os.path.join(folder, "log.*")))]
    job = Job()
    for life in lives:
        job.take(life)
    exact = 0
    for index, (members, _, total) in job.counts.items():
        exact += check_total(lives, ranks, index, members, total, "count")
    retried = 0
    for index, (attempt, members, _, total) in job.applies.items():
        counted = job.counts[index][0]
        retried += attempt > 1
        if members & ~counted:
            raise Wrong(f"apply {index}: {members:x} of {counted:x}")
        check_total(lives, ranks, index, members, total, "apply")
        for replica, rank in job.appliers[index]:
            if not members >> replica & 1:
                raise Wrong(f"replica {replica} applied {index} and is not "
                            "among those who do")
    states = {}
    for life in lives:
        for index, state in life.held.items():
            same(states, index, state, "state", life)
    missing = [index for index in job.applies if index not in states]
    if missing:
        raise Wrong(f"no parameters of {missing}")
    if len(set(job.ends.values())) > 1:
        raise Wrong(f"they end with {job.ends}")
    if len(job.ends) != replicas * ranks:
        raise Wrong(f"{len(job.ends)} ranks of {replicas * ranks} ended")
    lineages = len({lineage for lineage, _ in job.counts})
    smaller = sum(bin(m).count("1") < replicas for m, _, _ in
                  job.counts.values())
    return (f"{len(lives)} processes, {len(job.counts)} counts "
            f"{f'in {lineages} lineages ' if lineages > 1 else ''}({exact} with "
            f"every rank's word, {smaller} without a replica), "
            f"{len(job.applies)} applied ({retried} over a smaller set than "
            f"counted): no token twice, none lost, all equal")


if __name__ == "__main__":
    print(check(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
