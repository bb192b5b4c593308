# SPDX-License-Identifier: BSD-3-Clause
"""tally.torch on CUDA tensors: against float64 on the GPU, on streams, compiled,
in CUDA graphs, and without a wait of the host. Needs a GPU and PyTorch; under
torchrun the ranks share the GPU."""

import os
import unittest
import warnings

import torch
import torch.distributed as dist
import torch.nn.functional as functional

import tally
import tally.torch
from tally.torch import TallyLoss, balanced_cross_entropy, scales

T, V = 64, 1000
RANKS = int(os.environ.get("WORLD_SIZE", "1"))


def waits(caught):
    """The waits of the host that PyTorch has warned of."""
    return sum(
        "called a synchronizing" in str(each.message) for each in caught
    )


@unittest.skipUnless(torch.cuda.is_available(), "there is no GPU")
class Gpu(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if RANKS > 1:
            dist.init_process_group("gloo")
        torch.cuda.set_device(0)
        cls.tally = tally.torch.open()
        cls.group = tally.torch.group(cls.tally)

    @classmethod
    def tearDownClass(cls):
        cls.group.close()
        cls.tally.close()
        if RANKS > 1:
            dist.destroy_process_group()

    def setUp(self):
        torch.manual_seed(7)  # the same data at all ranks
        self.logits = (
            torch.randn(T, V, device="cuda", dtype=torch.bfloat16) * 2
        ).requires_grad_()
        self.labels = torch.randint(0, V, (T,), device="cuda")
        self.labels[: T // 4] = tally.IGNORE_INDEX
        self.weights = torch.rand(T, device="cuda") + 0.5

    def reference(self, logits, weights=None):
        """Of one rank with all the data, as every rank has the same."""
        wide = logits.detach().double().requires_grad_()
        nll = functional.cross_entropy(wide, self.labels, reduction="none")
        each = torch.ones_like(nll) if weights is None else weights.double()
        counts = self.labels != tally.IGNORE_INDEX
        loss = (nll * each).sum() / each[counts].sum()
        loss.backward()
        return loss.detach(), wide.grad

    def assert_near(self, got, want, relative):
        error = (got.double() - want).norm() / want.norm()
        self.assertLessEqual(error.item(), relative)

    def module_step(self, module, forward=None, weights=None):
        forward = forward or module
        self.logits.grad = None
        module.begin([self.labels], [weights])
        loss = forward(self.logits * 1, self.labels, weights)
        loss.backward()
        module.end()
        return loss.detach()

    def check_step(self, module, forward=None, weights=None):
        loss = self.module_step(module, forward, weights)
        value, gradient = self.reference(self.logits, weights)
        self.assert_near(loss, value, 1e-6)
        self.assert_near(self.logits.grad, gradient, 4e-3)
        totals = module.result(wait=True).channels[0]
        self.assertEqual(totals.count, RANKS * 3 * T // 4)
        self.assertAlmostEqual(totals.mean, value.item(), places=5)

    def module(self, **options):
        module = TallyLoss(V, self.group, device="cuda", **options)
        self.addCleanup(module.close)
        return module

    def test_value_gradient_and_totals_are_those_of_float64(self):
        for options in ({}, {"inplace": True}, {"fused": False}):
            with self.subTest(options):
                module = self.module(**options)
                if options.get("fused", True):
                    self.check_step(module)
                    self.check_step(module, weights=self.weights)
                else:
                    loss = self.module_step(module)
                    value, gradient = self.reference(self.logits)
                    self.assert_near(loss, value, 1e-2)
                    self.assert_near(self.logits.grad, gradient, 1e-2)

    def test_float32_gradients_are_within_a_millionth(self):
        self.logits = self.logits.detach().float().requires_grad_()
        module = self.module()
        self.module_step(module)
        self.assert_near(
            self.logits.grad, self.reference(self.logits)[1], 2e-6
        )

    def test_it_follows_the_current_stream(self):
        module = self.module()
        with torch.cuda.stream(torch.cuda.Stream()):
            torch.cuda._sleep(50_000_000)
            self.logits = (self.logits.detach() + 1).requires_grad_()
            self.check_step(module)

    def test_the_scale_is_tallys_own_memory(self):
        module = self.module()
        module.begin([self.labels])
        module.step.wait()
        found = scales(module.step)
        self.assertEqual(found.data_ptr(), module.step.scale.address)
        self.assertAlmostEqual(
            found[0].item(), 1 / (3 * T // 4), places=6
        )
        module.end()

    def test_compiled_it_is_the_same(self):
        module = self.module()

        def forward(logits, labels, weights):
            return balanced_cross_entropy(logits, labels, module.step)

        for mode in ("default", "reduce-overhead"):
            torch._dynamo.reset()
            compiled = torch.compile(forward, mode=mode, fullgraph=True)
            for _ in range(4):
                self.check_step(module, compiled)

    def test_a_whole_step_is_replayed_from_a_graph(self):
        module = self.module()
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            self.module_step(module)
        side.synchronize()
        graph = torch.cuda.CUDAGraph()
        self.logits.grad = None
        with torch.cuda.graph(graph, stream=side):
            module.begin([self.labels])
            loss = balanced_cross_entropy(
                self.logits, self.labels, module.step
            )
            (gradient,) = torch.autograd.grad(loss, self.logits)
            module.end()
        for _ in range(3):
            with torch.no_grad():
                self.logits += 0.25 * torch.randn_like(self.logits)
            graph.replay()
            torch.cuda.synchronize()
            value, wanted = self.reference(self.logits)
            self.assert_near(loss.detach(), value, 1e-6)
            self.assert_near(gradient, wanted, 4e-3)

    def test_the_host_waits_for_nothing_in_a_step(self):
        module = self.module()
        self.module_step(module, weights=self.weights)
        torch.cuda.synchronize()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            torch.cuda._sleep(2_000_000_000)  # about a second
            held = torch.cuda.Event()
            held.record()
            self.module_step(module, weights=self.weights)
            module.result()
            behind = not held.query()
            self.assertEqual(waits(caught), 0)
            self.labels[0].item()  # the audit can fail
            torch.cuda.set_sync_debug_mode("default")
            self.assertGreater(waits(caught), 0)
        self.assertTrue(behind, "the calls took until the stream had come by")
        torch.cuda.set_sync_debug_mode("error")
        try:
            self.module_step(module)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def test_arrays_of_others_are_taken(self):
        try:
            import cupy
        except ImportError:
            self.skipTest("there is no CuPy")
        labels = cupy.asarray(self.labels)
        with tally.Step(self.group, V, device="cuda:0") as step:
            step.begin()
            step.count(labels)
            step.reduce()
            step.end()
            totals = step.result(wait=True).channels[0]
            self.assertEqual(totals.count, RANKS * 3 * T // 4)
