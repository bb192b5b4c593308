# SPDX-License-Identifier: BSD-3-Clause
"""Replica groups from Python: replicas are threads of one rank each, over the real
transport on the loopback. Kills are tests/python/test_conformance.py's."""

import array
import logging
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

import tally
from tally import _membership, errors, replica
from tally.replica import (
    Member,
    Membership,
    ReplicaGroup,
    ReplicaStep,
    Status,
    Witness,
)

SOURCE = Path(__file__).resolve().parents[2]
PATIENCE_S = 60
# Workers are opened in turn: UCX minds threads that do so at once.
open_lock = threading.Lock()


class Labels:
    def __init__(self, count):
        self.values = array.array("q", [1] * count)
        self.__array_interface__ = {
            "typestr": "<i8",
            "shape": (count,),
            "data": (self.values.buffer_info()[0], False),
            "strides": None,
        }


class Store:
    """A membership of the trainer's own."""

    def __init__(self):
        self.members = {}
        self.announced = []
        self.withdrawn = []

    def of(self, number, **functions):
        def announce(member):
            self.announced.append(member)
            self.members = {**self.members, member.peer: member}

        def withdraw():
            self.withdrawn.append(number)
            self.members = {
                peer: each for peer, each in self.members.items() if peer != number
            }

        known = {
            "announce": announce,
            "look": lambda: self.members.values(),
            "withdraw": withdraw,
            **functions,
        }
        return Membership(**known)


class Replica:
    """One of a scene."""

    def __init__(self, number, replicas, **options):
        self.number = number
        self.tally = tally.Tally(
            allgather=lambda part: [part], rank=0, world_size=1
        )
        self.group = ReplicaGroup(
            self.tally, replica=number, replicas=replicas, **options
        )
        try:
            with open_lock:
                self.step = ReplicaStep(self.group, 7)
        except errors.TallyError:
            self.group.close()
            self.tally.close()
            raise

    def count(self):
        """Until an epoch is counted. Replica r has r + 1 tokens."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            self.step.begin()
            self.step.count(Labels(self.number + 1))
            self.step.reduce()
            try:
                self.step.wait()
            except errors.ReplicaError:
                pass
            self.step.end()
            count = self.step.counted()
            if count.status == Status.COUNTED:
                return count
        raise TimeoutError("nothing was counted")

    def verdict(self):
        verdict = self.step.apply()
        while verdict.status == Status.IN_DOUBT:
            verdict = self.step.apply()
        return verdict

    def run(self):
        """One step, whatever becomes of it."""
        self.count()
        self.step.ready()
        return self.verdict()

    def run_until_applied_by(self, members):
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            verdict = self.run()
            while verdict.status == Status.RETRY:
                self.step.ready()
                verdict = self.verdict()
            if (verdict.status, verdict.members) == (Status.APPLY, members):
                return verdict
        raise TimeoutError(f"nothing was applied by {members}")

    def close(self):
        with open_lock:
            self.step.close()
        self.group.close()
        self.tally.close()


class ReplicaTest(unittest.TestCase):
    quorum = "callback"

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.settings = {
            "TALLY_QUORUM": self.quorum,
            "TALLY_REPLICA_FOLDER": folder.name,
            "TALLY_REPLICA_DEADLINE": "20",
            # A busy machine is no death.
            "TALLY_HEARTBEAT_MISSES": "50",
            "TALLY_REPLICA_PATIENCE": "15",
            "TALLY_UCX_TLS": "tcp,self",
            "TALLY_OFI_PROVIDER": "tcp;ofi_rxm",
            "TALLY_PLUGIN_PATH": str(Path(tally.library_path()).parent),
        }
        os.environ.update(self.settings)
        self.store = Store()

    def tearDown(self):
        for name in self.settings:
            del os.environ[name]

    def together(self, main, options=lambda number: {}, replicas=2):
        """main(replica) in a thread for each; what they returned."""
        said = [None] * replicas
        # The last decision may be asked for: nobody leaves before all have it.
        barrier = threading.Barrier(replicas)

        def run(number):
            try:
                each = Replica(number, replicas, **options(number))
                said[number] = main(each)
                barrier.wait(PATIENCE_S)
                each.close()
            except BaseException as failure:
                said[number] = failure
                barrier.abort()

        threads = [
            threading.Thread(target=run, args=(number,))
            for number in range(replicas)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for each in said:
            if isinstance(each, errors.TransportError):
                self.skipTest(str(each))
            if isinstance(each, BaseException):
                raise each
        return said

    def says(self, code, text):
        """What a process of its own says, which ends well."""
        run = subprocess.run(
            [sys.executable, "-c", code, str(Path(__file__).parent)],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        # Others may say more at their end.
        if run.stdout.startswith("skip\n"):
            self.skipTest("there is no transport between replicas")
        self.assertEqual((run.stdout, run.returncode), (text, 0), run.stderr)


class MembershipTest(ReplicaTest):
    def test_replicas_meet_by_the_trainers_membership(self):
        said = self.together(
            lambda each: each.run_until_applied_by((0, 1)),
            lambda number: {"membership": self.store.of(number)},
        )
        self.assertEqual(said[0].state, said[1].state)
        self.assertEqual({each.peer for each in self.store.announced}, {0, 1})
        for each in self.store.announced:
            self.assertIsInstance(each.address, bytes)
            self.assertGreater(each.incarnation, 0)
        self.assertEqual(sorted(self.store.withdrawn), [0, 1])
        self.assertEqual(_membership._in_use, set())

    def test_the_incarnation_is_the_trainers(self):
        def options(number):
            return {"membership": self.store.of(number, incarnation=40 + number)}

        self.together(lambda each: each.run_until_applied_by((0, 1)), options)
        found = {each.peer: each.incarnation for each in self.store.announced}
        self.assertEqual(found, {0: 40, 1: 41})

    def test_what_a_membership_raises_is_said_once_and_it_is_asked_again(self):
        failure = ConnectionError("the store is away")
        away = threading.Event()
        asked = []

        def look():
            asked.append(away.is_set())
            if away.is_set():
                raise failure
            return self.store.members.values()

        def until(condition):
            deadline = time.monotonic() + PATIENCE_S
            while not condition() and time.monotonic() < deadline:
                time.sleep(0.01)

        def main(each):
            each.run_until_applied_by((0, 1))
            if each.number == 0:
                away.set()
                until(lambda: asked[-3:] == [True] * 3)
            while_away = each.group.membership_error
            each.run_until_applied_by((0, 1))  # who was there still is
            away.clear()
            until(lambda: each.group.membership_error is None)
            return while_away, each.group.membership_error

        def options(number):
            functions = {"look": look} if number == 0 else {}
            return {"membership": self.store.of(number, **functions)}

        with self.assertLogs("tally", logging.ERROR) as logs:
            said = self.together(main, options)
        self.assertEqual(said, [(failure, None), (None, None)])
        self.assertEqual(len(logs.records), 1)
        self.assertIs(logs.records[0].exc_info[1], failure)

    def test_a_member_that_cannot_be_is_an_error_of_the_membership(self):
        for member, sentence in (
            (Member(64, 1, b""), "peer 64"),
            (Member(0, 0, b""), "incarnation 0"),
            (Member(0, 1, b"x" * 4097), "4097 bytes"),
        ):
            with self.assertRaisesRegex(errors.InvalidError, sentence):
                _membership._struct_of(member)

    def test_a_membership_that_is_missing_is_named(self):
        with self.assertRaisesRegex(errors.ConfigError, "membership"):
            self.together(lambda each: None)

    def test_a_group_that_nobody_holds_or_closes_breaks_nothing(self):
        code = """
import gc, sys, time
sys.path.insert(0, sys.argv[1])
from test_replica import Replica, Store, errors
store, looked = Store(), []
look = lambda: looked.append(1) or store.members.values()
try:
    alone = Replica(0, 2, membership=store.of(0, look=look))
except errors.TransportError:
    sys.exit(print("skip"))
del alone
gc.collect()
there = len(looked)
while len(looked) < there + 5:
    time.sleep(0.01)
print("looked")
"""
        self.says(code, "looked\n")

    def test_at_exit_threads_stay_in_their_next_call(self):
        code = """
import atexit, sys, time
sys.path.insert(0, sys.argv[1])
from tally import _membership
looked = []
def late():
    print([each.parked.is_set() for each in _membership._in_use])
    there = len(looked)
    time.sleep(1)  # they come several times a second
    print("stay" if len(looked) == there else "go on")
    sys.stdout.flush()
# The other way round than they are called.
atexit.unregister(_membership._park)
atexit.register(late)
atexit.register(_membership._park)
from test_replica import Replica, Store, errors
store = Store()
look = lambda: looked.append(1) or store.members.values()
try:
    alone = Replica(0, 2, membership=store.of(0, look=look))
except errors.TransportError:
    sys.exit(print("skip"))
while len(looked) < 2:
    time.sleep(0.01)
"""
        self.says(code, "[True]\nstay\n")

    def test_who_waits_in_vain_hears_what_the_membership_raised(self):
        failure = KeyError("no such job")

        def look():
            raise failure

        os.environ["TALLY_REPLICA_DEADLINE"] = "1"
        with self.assertLogs("tally", logging.ERROR):
            try:
                alone = Replica(0, 2, membership=self.store.of(0, look=look))
            except errors.TransportError as reason:
                self.skipTest(str(reason))
            alone.step.begin()
            alone.step.count(None)
            alone.step.reduce()
            with self.assertRaises(errors.ReplicaError) as caught:
                alone.step.wait()
            self.assertIs(caught.exception.__cause__, failure)
            with self.assertRaises(errors.OrderError) as caught:
                alone.step.begin()  # nobody's fault but the caller's
            self.assertIsNone(caught.exception.__cause__)
            alone.step.end()
            self.assertEqual(alone.step.counted().status, Status.WAITING)
            alone.close()


class CommitTest(ReplicaTest):
    def options(self, commit):
        """Replica 1 has this vote."""

        def of(number):
            found = {"membership": self.store.of(number)}
            if number == 1:
                found["commit"] = commit
            return found

        return of

    def test_a_commit_is_asked_by_index(self):
        asked = []

        def commit(index, ready):
            asked.append((index, ready))
            return True

        said = self.together(Replica.run, self.options(commit))
        self.assertEqual([each.status for each in said], [Status.APPLY] * 2)
        self.assertEqual(asked, [(said[1].index, True)])

    def test_where_one_says_no_the_step_is_discarded_everywhere(self):
        said = self.together(
            Replica.run, self.options(lambda index, ready: False)
        )
        self.assertEqual([each.status for each in said], [Status.DISCARDED] * 2)

    def test_a_commit_that_raises_is_a_no_and_ready_raises_it(self):
        failure = ZeroDivisionError("a vote")
        votes = iter([failure, True])

        def commit(index, ready):
            vote = next(votes)
            if vote is failure:
                raise vote
            return vote

        def main(each):
            each.count()
            raised = None
            try:
                each.step.ready()
            except ZeroDivisionError as error:
                raised = error
            discarded = each.verdict()
            return raised, discarded.status, each.run().status

        said = self.together(main, self.options(commit))
        self.assertEqual(said[0], (None, Status.DISCARDED, Status.APPLY))
        self.assertEqual(said[1], (failure, Status.DISCARDED, Status.APPLY))


class WitnessTest(ReplicaTest):
    quorum = "folder"

    def witness(self, **options):
        with open_lock:
            try:
                found = Witness(**options)
            except errors.TransportError as failure:
                self.skipTest(str(failure))
        self.addCleanup(found.close)
        return found

    def test_with_a_witness_one_of_two_goes_on(self):
        witness = self.witness(number=2, replicas=2, witnesses=1)

        def leave():
            other = Replica(1, 2, witnesses=1)
            other.run_until_applied_by((0, 1))
            time.sleep(0.5)  # replica 0 has its decision
            other.close()

        thread = threading.Thread(target=leave)
        thread.start()
        first = Replica(0, 2, witnesses=1)
        first.run_until_applied_by((0, 1))
        thread.join()
        first.run_until_applied_by((0,))
        first.close()
        witness.close()
        self.assertTrue(witness.closed)

    def test_a_witness_with_the_number_of_a_replica_is_refused(self):
        with self.assertRaisesRegex(errors.TallyError, "TALLY_REPLICA"):
            self.witness(number=1, replicas=2, witnesses=1)


class Abi(unittest.TestCase):
    """The Python side says what the header says."""

    header = re.sub(
        r"//.*", "", (SOURCE / "include/tally/replica.h").read_text("utf-8")
    )

    def test_structs_have_the_members_of_the_header_in_their_order(self):
        for name, struct in {
            "tally_member": _membership._Member,
            "tally_membership": _membership._Membership,
            "tally_replica_params": _membership.Params,
            "tally_replica_state": replica._State,
            "tally_replica_verdict": replica._Verdict,
        }.items():
            body = re.search(
                rf"typedef struct {name} {{(.*?)\n}} {name}_t;", self.header, re.S
            )[1]
            members = [
                re.search(r"\(\*(\w+)\)\(|(\w+)\s*$", each.strip())
                for each in re.sub(r"\((?!\*)[^()]*\)", "()", body).split(";")
                if each.strip()
            ]
            names = [each[1] or each[2] for each in members]
            self.assertEqual([each[0] for each in struct._fields_], names, name)
