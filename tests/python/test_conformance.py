# SPDX-License-Identifier: BSD-3-Clause
"""The conformance suite: Tally passes every case, and the known wrong ways fail
where they are wrong, and only there."""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import torch
import torch.distributed as dist

from tally.conformance import data, kills, suite
from tally.conformance.gpt import GPT, GptTensor
from tally.conformance.losses import Loss, find
from tally.conformance.megatron import MEGATRON
from tally.conformance.titan import TITAN
from tally.replica import Count, Status


class FailsOnOneRank(Loss):
    def begin(self, labels, weights):
        pass

    def __call__(self, logits, labels, weights):
        return logits.sum() * 0

    def end(self, parameters, members):
        if dist.get_rank() == 2:
            raise RuntimeError("rank 2 has no way on")


class EndsOneRank(FailsOnOneRank):
    def end(self, parameters, members):
        if dist.get_rank() == 2:
            os.kill(os.getpid(), signal.SIGKILL)


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "tally.conformance", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,  # where the losses of this file are found
    )


def failed(cases):
    return {
        (case.layout, case.scenario, case.micro_batches)
        for case in cases
        if not case.passed
    }


class ConformanceTest(unittest.TestCase):
    def test_tally_passes_every_case(self):
        cases = suite.run(["tally"])
        skipped = [case for case in cases if case.skipped]
        cases = [case for case in cases if not case.skipped]
        self.assertEqual(failed(cases), set())
        layouts = len(suite.LAYOUT_NAMES) - len(skipped)
        without_weights = {
            kind.name for kind in suite.WAYS if not kind.takes_weights
        } - {case.layout for case in skipped}
        rows = layouts * len(data.SCENARIOS) - len(without_weights)
        self.assertEqual(len(cases), rows * 2)
        self.assertEqual({case.reason for case in cases}, {""})
        for case in skipped:
            # Only a build without UCX and libfabric has no kills.
            known = "is not installed"
            if case.layout == kills.NAME:
                known = "no transport between replica groups"
            self.assertIn(known, case.reason)

    def test_the_mean_of_rank_means_fails_where_ranks_are_uneven(self):
        cases = suite.run(["local-mean"], ["DDP"])
        wrong = failed(cases)
        for scenario in ("uneven", "silent rank", "empty step", "packed"):
            self.assertIn(("DDP", scenario, 1), wrong)
        self.assertNotIn(("DDP", "even", 1), wrong)
        nans = [case for case in cases if math.isinf(case.error)]
        self.assertTrue(nans)  # 0 / 0 on a rank without tokens

    def test_the_mean_of_micro_batch_means_fails_with_several(self):
        wrong = failed(suite.run(["micro-batch-means"], ["FSDP2"]))
        self.assertIn(("FSDP2", "uneven", 3), wrong)
        self.assertNotIn(("FSDP2", "uneven", 1), wrong)
        self.assertNotIn(("FSDP2", "even", 3), wrong)

    def test_a_count_over_the_world_fails_under_tensor_parallelism(self):
        layouts = ["DDP", "TP 2, DP 2"]
        if not GptTensor.missing():
            layouts.append(GptTensor.name)
        wrong = failed(suite.run(["count-over-world"], layouts, ["even"]))
        for layout in layouts[1:]:
            self.assertIn((layout, "even", 1), wrong)
        self.assertNotIn(("DDP", "even", 1), wrong)

    def test_a_count_with_the_dead_in_it_fails_when_a_replica_dies(self):
        lost = "replica 2 of 2 dies"
        wrong = failed(suite.run(["count-of-the-dead"], ["DDP", lost]))
        for scenario in ("uneven", "silent rank", "packed", "weights"):
            self.assertIn((lost, scenario, 3), wrong)
        # Equal shares of a mean: here the wrong way is right by chance.
        self.assertNotIn((lost, "even", 1), wrong)
        self.assertFalse([each for each in wrong if each[0] == "DDP"])

    def test_a_count_with_the_dead_in_it_fails_where_a_replica_is_killed(self):
        cases = suite.run(
            ["count-of-the-dead"], [kills.NAME], ["even", "silent rank", "empty step"]
        )
        if cases[0].skipped:
            self.skipTest(cases[0].reason)
        self.assertEqual({case.reason for case in cases}, {""})
        wrong = {case.scenario: case.error for case in cases if not case.passed}
        # Also where all have as many tokens: a quarter of them is gone.
        self.assertEqual(set(wrong), {"even", "silent rank"})
        self.assertTrue(all(error > 0.1 for error in wrong.values()))

    def test_megatron_divides_by_the_count_of_each_micro_batch_if_nothing_is_set(self):
        means = "tally.conformance.peers:MegatronMeans"
        layouts = [kind.name for kind in (*MEGATRON, *GPT)]
        scenarios = ["even", "uneven", "silent rank", "packed"]
        cases = suite.run([means], [*layouts, "DDP"], scenarios)
        if cases[0].skipped:
            self.skipTest(cases[0].reason)
        self.assertEqual({case.reason for case in cases}, {""})
        # Of another trainer it has no rows.
        self.assertEqual({case.layout for case in cases}, set(layouts))
        right = {case.scenario for case in cases if case.passed}
        self.assertEqual(right, {"even"})
        self.assertEqual(len(failed(cases)), len(layouts) * 3 * 2)

    def test_torchtitans_own_loss_is_not_a_number_in_an_empty_step_alone(self):
        layouts = [kind.name for kind in TITAN]
        cases = suite.run(
            ["tally.conformance.peers:Torchtitan"], layouts, ["uneven", "empty step"]
        )
        if cases[0].skipped:
            self.skipTest(cases[0].reason)
        self.assertEqual({case.reason for case in cases}, {""})
        wrong = [case for case in cases if not case.passed]
        self.assertEqual({case.scenario for case in wrong}, {"empty step"})
        self.assertTrue(all(math.isinf(case.error) for case in wrong))
        self.assertEqual(len(wrong), len(layouts) * 2)

    def test_a_loss_that_knows_no_replica_groups_has_no_rows_of_kills(self):
        self.assertEqual(suite.run(["local-mean"], [kills.NAME]), [])

    def test_what_a_survivor_sums_without_waiting_for_the_dead(self):
        count = Count(Status.COUNTED, 7, (0, 1, 2), 0xABC)
        gradients = {"weight": torch.ones(2)}
        with tempfile.TemporaryDirectory() as folder:
            shares = [kills.Share(Path(folder), replica) for replica in range(3)]
            for share in shares[:2]:
                share.offer(count, gradients)
            shares[2].leave()
            self.assertEqual(shares[0].sum(count, (0, 1, 2)), {})
            total = shares[0].sum(count, (0, 1))["weight"]
            self.assertEqual(total.tolist(), [2.0, 2.0])
            for share in shares[:2]:
                share.leave()

    def test_the_command_says_by_its_status_what_it_found(self):
        for loss, status in (("local-mean", 1), ("tally", 0)):
            run = command("--loss", loss, "--layout", "DDP", "--scenario", "uneven")
            self.assertEqual(run.returncode, status, run.stdout + run.stderr)
            self.assertEqual(run.stdout.count(" uneven "), 2)

    def test_the_command_writes_what_any_parser_reads(self):
        with tempfile.TemporaryDirectory() as folder:
            file, table = Path(folder, "cases.json"), Path(folder, "table.md")
            run = command(
                *("--loss", "local-mean", "--layout", "DDP"),
                *("--scenario", "even", "--scenario", "silent rank"),
                *("--json", str(file), "--markdown", str(table)),
            )
            self.assertEqual(run.returncode, 1, run.stdout + run.stderr)

            def refuse(word):
                self.fail(f"{word} is no JSON")

            cases = json.loads(file.read_text("utf-8"), parse_constant=refuse)
            self.assertEqual(
                [(case["passed"], case["error"] is None) for case in cases],
                [(True, False)] * 2 + [(False, True)] * 2,
            )
            self.assertIn("| DDP | 1 |", table.read_text("utf-8"))

    def test_what_the_command_writes_to_stdout_comes_before_the_totals(self):
        one = ("--loss", "local-mean", "--layout", "DDP", "--scenario", "even")
        run = command(*one, "--json", "-", "--markdown", "-")
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        start = run.stdout.index("[\n")
        cases, end = json.JSONDecoder().raw_decode(run.stdout[start:])
        self.assertEqual([case["passed"] for case in cases], [True] * 2)
        rest = run.stdout[start + end :]
        self.assertIn("| DDP | 1 |", rest)
        self.assertTrue(rest.endswith("\n2 passed, 0 failed, 0 skipped\n"))

    def test_what_an_earlier_run_wrote_stays_if_this_one_has_no_end(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "cases.json")
            file.write_text("earlier", "utf-8")
            for loss, said in (
                ("no.such.module:loss", "No module named 'no'"),
                ("test_conformance:EndsOneRank", "SIGKILL"),
            ):
                run = command(
                    *("--loss", loss, "--layout", "DDP", "--scenario", "even"),
                    *("--json", str(file)),
                )
                self.assertIn(said, run.stderr)
                self.assertEqual(file.read_text("utf-8"), "earlier")

    def test_what_cannot_be_written_or_found_is_said_at_once(self):
        for wrong, said in (
            (["--json", "/no/such/folder/cases.json"], "No such file"),
            (["--loss", "no.such.module:loss"], "No module named 'no'"),
            (["--loss", "math:no_such_loss"], "no attribute 'no_such_loss'"),
        ):
            run = command(*wrong)
            self.assertEqual((run.returncode, run.stdout), (2, ""))
            self.assertIn(said, run.stderr)
            self.assertNotIn("Traceback", run.stderr)

    def test_a_loss_that_raises_on_one_rank_is_a_row_and_not_the_end(self):
        # Where no framework waits for it: else the suite ends, with the reason.
        layouts = ["DDP", "replica 2 of 2 dies"]
        cases = suite.run(["test_conformance:FailsOnOneRank"], layouts)
        self.assertEqual(len(cases), 2)
        self.assertTrue(all(case.reason for case in cases))

    def test_a_rank_that_is_ended_ends_the_suite_by_name(self):
        with self.assertRaisesRegex(RuntimeError, "EndsOneRank, DDP: .*2: SIGKILL"):
            suite.run(["test_conformance:EndsOneRank"], ["DDP"], ["even"])

    def test_a_loss_that_cannot_be_found_is_named(self):
        with self.assertRaisesRegex(ValueError, "no-such.*local-mean"):
            find("no-such")
