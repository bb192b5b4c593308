# SPDX-License-Identifier: BSD-3-Clause
"""The conformance suite: Tally passes every case, and the known wrong ways fail
where they are wrong, and only there."""

import math
import subprocess
import sys
import unittest

import torch.distributed as dist

from tally.conformance import data, suite
from tally.conformance.layouts import LAYOUTS
from tally.conformance.losses import Loss, find


class FailsOnOneRank(Loss):
    def begin(self, labels, weights):
        pass

    def __call__(self, logits, labels, weights):
        return logits.sum() * 0

    def end(self, parameters, members):
        if dist.get_rank() == 2:
            raise RuntimeError("rank 2 has no way on")


def failed(cases):
    return {
        (case.layout, case.scenario, case.micro_batches)
        for case in cases
        if not case.passed
    }


class ConformanceTest(unittest.TestCase):
    def test_tally_passes_every_case(self):
        cases = suite.run(["tally"])
        self.assertEqual(failed(cases), set())
        self.assertEqual(len(cases), len(LAYOUTS) * len(data.SCENARIOS) * 2)
        self.assertEqual({case.reason for case in cases}, {""})

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
        wrong = failed(suite.run(["count-over-world"], layouts, ["even"]))
        self.assertIn(("TP 2, DP 2", "even", 1), wrong)
        self.assertNotIn(("DDP", "even", 1), wrong)

    def test_a_count_with_the_dead_in_it_fails_when_a_replica_dies(self):
        lost = "replica 2 of 2 dies"
        wrong = failed(suite.run(["count-of-the-dead"], ["DDP", lost]))
        for scenario in ("uneven", "silent rank", "packed", "weights"):
            self.assertIn((lost, scenario, 3), wrong)
        # Equal shares of a mean: here the wrong way is right by chance.
        self.assertNotIn((lost, "even", 1), wrong)
        self.assertFalse([each for each in wrong if each[0] == "DDP"])

    def test_the_command_says_by_its_status_what_it_found(self):
        for loss, status in (("local-mean", 1), ("tally", 0)):
            run = subprocess.run(
                [sys.executable, "-m", "tally.conformance", "--loss", loss]
                + ["--layout", "DDP", "--scenario", "uneven"],
                capture_output=True,
                text=True,
                check=False,
            )
            self.assertEqual(run.returncode, status, run.stdout + run.stderr)
            self.assertEqual(run.stdout.count(" uneven "), 2)

    def test_a_loss_that_raises_on_one_rank_is_a_row_and_not_the_end(self):
        # Where no framework waits for it: else the suite ends, with the reason.
        layouts = ["DDP", "replica 2 of 2 dies"]
        cases = suite.run(["test_conformance:FailsOnOneRank"], layouts)
        self.assertEqual(len(cases), 2)
        self.assertTrue(all(case.reason for case in cases))

    def test_a_loss_that_cannot_be_found_is_named(self):
        with self.assertRaisesRegex(ValueError, "no-such.*local-mean"):
            find("no-such")
