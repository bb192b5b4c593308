# SPDX-License-Identifier: BSD-3-Clause
"""What MegatronLoss gives a schedule, by Megatron's own arithmetic."""

import unittest
from functools import partial
from types import SimpleNamespace

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

    def test_a_schedule_runs_the_forward_steps_of_the_guide(self):
        batches = [
            SimpleNamespace(
                tokens=torch.zeros(1, 2),
                labels=torch.zeros(1, 2),
                loss_mask=torch.tensor(mask),
            )
            for mask in ([[1.0, 0.0]], [[1.0, 1.0]])
        ]
        weight = torch.tensor(3.0, requires_grad=True)

        def model(tokens, labels):
            return weight + tokens + labels  # the loss of each token

        with tally.Tally() as opened, tally.Group(opened) as group:
            loss_fn = MegatronLoss(group)  # data x context parallel ranks

            def forward_step(iterator, model):
                batch = next(iterator)
                output = model(batch.tokens, labels=batch.labels)
                return output, partial(loss_fn, loss_mask=batch.loss_mask)

            loss_fn.begin([batch.loss_mask for batch in batches])
            iterator = iter(batches)
            for _ in batches:  # as a schedule does
                output, function = forward_step(iterator, model)
                loss, _, _ = function(output)
                loss.backward()
            loss_fn.end()
            loss_fn.step.close()
        self.assertAlmostEqual(weight.grad.item(), 1, places=6)
