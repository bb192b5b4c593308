# SPDX-License-Identifier: BSD-3-Clause
"""What MegatronLoss gives a schedule, by Megatron's own arithmetic."""

import unittest

import torch

import tally
from tally.integrations.megatron import MegatronLoss


class MegatronTest(unittest.TestCase):
    def test_micro_batches_add_up_to_the_mean_over_all_tokens(self):
        masks = [torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([[0.0, 0.5, 0.0]])]
        losses = [
            torch.tensor([[3.0, 99.0, 5.0]], requires_grad=True),
            torch.tensor([[99.0, 4.0, 99.0]], requires_grad=True),
        ]
        with tally.Tally() as opened, tally.Group(opened) as group:
            function = MegatronLoss(group)
            function.begin(masks)
            parts = [
                function(output, loss_mask=mask)
                for output, mask in zip(losses, masks)
            ]
            function.end()
            function.step.close()
        total = sum(loss for loss, _, _ in parts)
        self.assertAlmostEqual(total.item(), 10 / 2.5, places=6)
        total.backward()
        self.assertEqual(losses[0].grad.tolist()[0][1], 0)
        self.assertAlmostEqual(losses[1].grad[0, 1].item(), 0.2, places=6)
        # Megatron divides by the total of these only if it is more than 0.
        self.assertEqual(sum(count for _, count, _ in parts).item(), 0)
        report = sum(report["lm loss"] for _, _, report in parts)
        self.assertEqual(report.tolist(), [10.0, 2.5])

    def test_a_step_without_tokens_is_zero(self):
        with tally.Tally() as opened, tally.Group(opened) as group:
            function = MegatronLoss(group)
            mask = torch.zeros(1, 3)
            function.begin([mask])
            loss, _, _ = function(torch.ones(1, 3), mask)
            function.end()
            function.step.close()
        self.assertEqual(loss.item(), 0)
