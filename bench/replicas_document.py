# SPDX-License-Identifier: BSD-3-Clause
"""bench/REPLICAS.md: what its figures mean, and a section for each machine, of
which bench/replicas.py, which measures them, replaces that of its own."""

import os
import re

NOT_MEASURED = "Not measured."

HEAD = """\
# Measured: replica groups

Written by `bench/replicas.py`, which replaces the section of the machine that it
runs on; do not edit. Each is one machine, over TCP on the loopback, replica groups
of one rank, settings as they are by default.

**Decisions while nobody is lost.** Count: from the last replica's
`tally_step_reduce` to the return of each one's `tally_step_wait`. Shard: the same
of one rank without the replica path. One way: the library by itself, half of a
round trip. Ratio: count p50 less shard, over twice one way (a contribution, a
vote). Apply: from the last `tally_replica_ready` to the return of each
`tally_replica_apply`. A pause between steps is as in a trainer that computes: then
all threads sleep when the count begins. Two replicas have one acceptor, more have
three. Where replicas outnumber the cores they take turns, and what is measured is
the scheduler too.

**The whole step,** one after the other, without a model. One group: the same ranks,
one reduction and no decision over replicas. A replica group does two decisions.

**One of three is lost.** Known: from the signal until a survivor thinks it gone.
Then decided: from when all survivors know and have asked, to each one's decision
without it. Next step: from the signal to `APPLY` without it.

**One is lost, torchft:** the same of torchft, with its lighthouse on the same
machine and `min_replicas` 1, all else as by default (`LighthouseServer` waits 0.1 s
for who does not come, if more than half have): from the signal to the next commit
of each survivor.
"""


def sections_of(text):
    """Machine to section, in their order."""
    words = re.split(r"^## (.*)\n\n", text, flags=re.M)
    return dict(zip(words[1::2], (each.strip() for each in words[2::2])))


def replace_section(path, name, machine, parts):
    """The section of one machine: its table, and (title, text) of each part."""
    sections = sections_of(path.read_text("utf-8")) if path.exists() else {}
    sections[name] = "\n\n".join(
        [machine, *(f"### {title}\n\n{text}" for title, text in parts)])
    text = "\n".join([HEAD, *(f"## {each}\n\n{section}\n"
                              for each, section in sections.items())])
    new = path.with_name(path.name + ".new")
    new.write_text(text, "utf-8")
    os.replace(new, path)
