# SPDX-License-Identifier: BSD-3-Clause
"""tally.torch on one rank: values and gradients against float64, the operator's
own checks, torch.compile."""

import unittest

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import tally
import tally.torch
from tally.torch import (
    IGNORE_INDEX,
    TallyLoss,
    balanced_cross_entropy,
    scale_gradients,
    scales,
)

V = 13


class TorchTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tally = tally.Tally()
        cls.group = tally.Group(cls.tally)

    @classmethod
    def tearDownClass(cls):
        cls.group.close()
        cls.tally.close()

    def setUp(self):
        torch.manual_seed(7)
        self.step = tally.Step(self.group, V)
        self.logits = torch.randn(2, 5, V, requires_grad=True)
        self.labels = torch.randint(0, V, (2, 5))
        self.labels[0, :2] = IGNORE_INDEX
        self.weights = torch.rand(2, 5) + 0.5

    def tearDown(self):
        self.step.close()

    def reduced(self, labels, weights=None, step=None):
        step = step or self.step
        step.begin()
        step.count(labels, weights)
        step.reduce()

    def reference(self, logits, weights=None):
        wide = logits.detach().double().requires_grad_()
        nll = torch.nn.functional.cross_entropy(
            wide.reshape(-1, V),
            self.labels.reshape(-1),
            ignore_index=IGNORE_INDEX,
            reduction="none",
        )
        each = torch.ones_like(self.weights) if weights is None else weights
        each = each.double().reshape(-1)
        counts = self.labels.reshape(-1) != IGNORE_INDEX
        loss = (nll * each).sum() / each[counts].sum()
        loss.backward()
        return loss.detach(), wide.grad

    def assert_near(self, got, want, relative=1e-6):
        error = (got.double() - want).norm() / want.norm()
        self.assertLessEqual(error.item(), relative)

    def test_value_and_gradient_are_those_of_float64(self):
        for weights in (None, self.weights):
            with self.subTest(weights=weights is not None):
                self.logits.grad = None
                self.reduced(self.labels, weights)
                loss = balanced_cross_entropy(
                    self.logits, self.labels, self.step, weights=weights
                )
                loss.backward()
                self.step.end()
                value, gradient = self.reference(self.logits, weights)
                self.assert_near(loss.detach(), value)
                self.assert_near(self.logits.grad, gradient)
                result = self.step.result(wait=True)
                self.assertEqual(result.channels[0].count, 8)
                self.assertAlmostEqual(
                    result.channels[0].mean, value.item(), places=5
                )

    def test_the_gradient_follows_what_comes_after_the_loss(self):
        self.reduced(self.labels)
        loss = balanced_cross_entropy(self.logits, self.labels, self.step)
        (loss * 3).backward()
        self.step.end()
        self.assert_near(self.logits.grad, 3 * self.reference(self.logits)[1])

    def test_a_backward_that_begins_at_the_loss_takes_the_gradient_as_it_is(self):
        logits = self.logits * 1
        given = []
        logits.register_hook(lambda gradient: given.append(gradient.data_ptr()))
        self.reduced(self.labels)
        loss = balanced_cross_entropy(logits, self.labels, self.step)
        address = loss.grad_fn.saved_tensors[0].data_ptr()
        loss.backward()
        self.step.end()
        self.assertEqual(given, [address])
        self.assert_near(self.logits.grad, self.reference(self.logits)[1])

    def test_a_factor_is_multiplied_in_float32(self):
        for kind in (torch.float32, torch.bfloat16, torch.float16):
            gradient = torch.randn(3, V).to(kind)
            for factor in (1.0, 1 / 3, 0.0, float("inf")):
                got, by = gradient.clone(), torch.tensor(factor)
                self.step.multiply(got, by)
                want = (gradient.float() * by).to(kind)
                self.assertTrue(torch.equal(got, want), (kind, factor))
        with self.assertRaisesRegex(tally.TallyError, "contiguous"):
            self.step.multiply(gradient.t(), by)
        with self.assertRaisesRegex(tally.TallyError, "float32|F32"):
            self.step.multiply(gradient, by.double())

    def test_a_backward_after_the_step_is_closed_is_multiplied_as_well(self):
        for inplace in (False, True):
            logits = self.logits * 1
            logits.retain_grad()
            with tally.Step(self.group, V) as step:
                self.reduced(self.labels, step=step)
                loss = balanced_cross_entropy(
                    logits, self.labels, step, inplace=inplace
                )
                step.end()
            (loss * 3).backward()
            self.assert_near(logits.grad, 3 * self.reference(self.logits)[1])

    def test_in_place_the_gradient_takes_the_memory_of_the_logits(self):
        logits = self.logits * 1
        address = logits.data_ptr()
        self.reduced(self.labels)
        loss = balanced_cross_entropy(
            logits, self.labels, self.step, inplace=True
        )
        (loss * 3).backward()
        self.step.end()
        self.assert_near(self.logits.grad, 3 * self.reference(self.logits)[1])
        self.assertEqual(logits.data_ptr(), address)
        self.assertFalse(torch.equal(logits, self.logits))
        with self.assertRaisesRegex(RuntimeError, "second time|twice"):
            loss.backward()

    def test_logits_that_backward_needs_are_not_overwritten_unseen(self):
        logits = self.logits.tanh()  # tanh's backward reads its output
        self.reduced(self.labels)
        loss = balanced_cross_entropy(
            logits, self.labels, self.step, inplace=True
        )
        self.step.end()
        with self.assertRaisesRegex(RuntimeError, "modified by an inplace"):
            loss.backward()

    def test_by_default_the_logits_stay_as_they_are(self):
        before = self.logits.detach().clone()
        self.reduced(self.labels)
        loss = 3 * balanced_cross_entropy(
            self.logits, self.labels, self.step
        )
        loss.backward(retain_graph=True)
        once = self.logits.grad.clone()
        loss.backward()
        self.step.end()
        self.assertTrue(torch.equal(self.logits, before))
        self.assertTrue(torch.equal(self.logits.grad, 2 * once))

    def test_finite_differences_agree(self):
        # In float32 with a step of 1e-2: an error of 1e-3 is what is left.
        self.reduced(self.labels)
        balanced_cross_entropy(self.logits, self.labels, self.step).backward()
        self.step.end()
        for index in [(0, 3, 4), (1, 0, 0), (1, 4, 12), (0, 0, 1)]:
            values = []
            for change in (1e-2, -1e-2):
                moved = self.logits.detach().clone()
                moved[index] += change
                self.reduced(self.labels)
                values.append(
                    balanced_cross_entropy(moved, self.labels, self.step)
                )
                self.step.end()
            slope = ((values[0] - values[1]) / 2e-2).item()
            self.assertAlmostEqual(
                slope, self.logits.grad[index].item(), places=3
            )

    def test_scaled_late_the_result_is_the_same(self):
        with tally.Step(self.group, V, order=tally.Order.SCALE_LATE) as late:
            late.begin()
            loss = balanced_cross_entropy(
                self.logits, self.labels, late, weights=self.weights
            )
            loss.backward()
            late.reduce()
            late.wait()
            parameter = torch.nn.Parameter(self.logits.detach())
            parameter.grad = self.logits.grad
            scale_gradients([parameter], late)
            late.end()
        _, gradient = self.reference(self.logits, self.weights)
        self.assert_near(parameter.grad, gradient)

    def test_bfloat16_and_float16_are_taken(self):
        for kind, relative in ((torch.bfloat16, 1e-2), (torch.float16, 2e-3)):
            narrow = self.logits.detach().to(kind).requires_grad_()
            self.reduced(self.labels)
            balanced_cross_entropy(narrow, self.labels, self.step).backward()
            self.step.end()
            self.assertEqual(narrow.grad.dtype, kind)
            self.assert_near(
                narrow.grad, self.reference(narrow)[1], relative
            )

    def test_a_step_without_tokens_gives_zeros_and_says_so(self):
        self.labels[:] = IGNORE_INDEX
        self.reduced(self.labels)
        loss = balanced_cross_entropy(self.logits, self.labels, self.step)
        loss.backward()
        self.step.end()
        self.assertEqual(loss.item(), 0.0)
        self.assertEqual(self.logits.grad.abs().sum().item(), 0.0)
        self.assertTrue(self.step.result(wait=True).empty)

    def test_the_operator_passes_its_own_checks(self):
        # The schema, the fake implementation, and autograd under tracing. Each
        # runs the loss several times, which a step of late scale allows.
        with tally.Step(self.group, V, order=tally.Order.SCALE_LATE) as late:
            from tally.torch import _cross_entropy

            late.begin(1000)
            torch.library.opcheck(
                _cross_entropy,
                (
                    self.logits,
                    self.labels,
                    self.weights,
                    late.number,
                    0,
                    True,
                ),
                test_utils=(
                    "test_schema",
                    "test_autograd_registration",
                    "test_faketensor",
                ),
            )
            self._finish(late)

    def _finish(self, late):
        """Gives the micro-batches that are left, without tokens."""
        while True:
            try:
                late.loss(None, None)
            except tally.TallyError:
                break
        late.reduce()
        late.end()

    def test_it_stands_in_a_compiled_graph_without_a_break(self):
        def forward(hidden, labels):
            return balanced_cross_entropy(hidden * 1.5, labels, self.step)

        compiled = torch.compile(forward, backend="aot_eager", fullgraph=True)
        for _ in range(2):
            self.logits.grad = None
            self.reduced(self.labels)
            loss = compiled(self.logits, self.labels)
            loss.backward()
            self.step.end()
            value, gradient = self.reference(self.logits * 1.5)
            self.assert_near(loss.detach(), value)
            self.assert_near(self.logits.grad, 1.5 * gradient)

    def test_the_module_runs_a_step_with_and_without_the_kernel(self):
        for fused in (True, False):
            module = TallyLoss(V, self.group, fused=fused)
            self.logits.grad = None
            module.begin([self.labels[:1], self.labels[1:]])
            for part in (slice(0, 1), slice(1, 2)):
                module(self.logits[part], self.labels[part]).backward()
            module.end()
            self.assert_near(
                self.logits.grad, self.reference(self.logits)[1]
            )
            no_loss = bool(module.result(wait=True).flags & tally.Flag.NO_LOSS)
            self.assertEqual(no_loss, not fused)
            module.close()

    def shaped_reference(self, by, weights):
        wide = self.logits.detach().double().requires_grad_()
        values = wide.reshape(-1, V)
        if by.get("soft_cap"):
            values = by["soft_cap"] * torch.tanh(values / by["soft_cap"])
        values = values / by.get("temperature", 1)
        lse = torch.logsumexp(values, -1)
        labels = self.labels.reshape(-1)
        counts = labels != IGNORE_INDEX
        own = values.gather(1, labels.clamp(min=0)[:, None])[:, 0]
        smoothing = by.get("label_smoothing", 0)
        each = (1 - smoothing) * (lse - own) + smoothing * (lse - values.mean(-1))
        each = (each + by.get("z_loss", 0) * lse**2)[counts]
        weight = weights.double().reshape(-1)[counts]
        loss = (each * weight).sum() / weight.sum()
        loss.backward()
        return loss.detach(), wide.grad

    def test_a_shaped_loss_is_the_same_with_and_without_the_kernel(self):
        all_of_them = dict(
            label_smoothing=0.2, z_loss=1e-2, soft_cap=1.5, temperature=0.7
        )
        for by in [{name: all_of_them[name]} for name in all_of_them] + [all_of_them]:
            for fused in (True, False):
                for weights in (None, self.weights):
                    with self.subTest(by=by, fused=fused, weighted=weights is not None):
                        module = TallyLoss(V, self.group, fused=fused, **by)
                        self.logits.grad = None
                        module.begin([self.labels], [weights])
                        loss = module(self.logits, self.labels, weights)
                        loss.backward()
                        module.end()
                        module.close()
                        ones = torch.ones_like(self.weights)
                        value, gradient = self.shaped_reference(
                            by, ones if weights is None else weights
                        )
                        self.assert_near(loss.detach(), value)
                        self.assert_near(self.logits.grad, gradient)

    def test_under_a_cap_a_masked_logit_stays_so(self):
        with torch.no_grad():
            self.logits[..., 3] = -torch.inf
        self.labels[self.labels == 3] = 4
        losses, gradients = [], []
        for fused in (True, False):
            module = TallyLoss(V, self.group, fused=fused, soft_cap=1.5)
            self.logits.grad = None
            module.begin([self.labels])
            loss = module(self.logits, self.labels)
            loss.backward()
            module.end()
            module.close()
            losses.append(loss.detach())
            gradients.append(self.logits.grad)
            self.assertFalse(self.logits.grad[..., 3].any())
        self.assert_near(losses[0], losses[1].double())
        self.assert_near(gradients[0], gradients[1].double())

    def test_a_backward_after_the_step_has_the_scale_of_that_step(self):
        for fused in (True, False):
            module = TallyLoss(V, self.group, fused=fused)
            self.logits.grad = None
            module.begin([self.labels])
            loss = module(self.logits, self.labels)
            module.end()
            module.begin([None])
            module.scale  # 0 now
            loss.backward()
            module.end()
            module.close()
            self.assert_near(
                self.logits.grad, self.reference(self.logits)[1]
            )

    def test_the_scale_is_tallys_own_memory(self):
        self.reduced(self.labels)
        self.step.wait()
        scale = scales(self.step)
        self.assertEqual(scale.data_ptr(), self.step.scale.address)
        self.assertAlmostEqual(scale[0].item(), 1 / 8)
        self.step.end()

    def test_a_recomputed_loss_is_refused(self):
        self.reduced(self.labels)
        balanced_cross_entropy(self.logits, self.labels, self.step)
        with self.assertRaises(tally.errors.OrderError):
            balanced_cross_entropy(self.logits, self.labels, self.step)
        self.step.end()

    def test_the_host_has_several_names(self):
        for name in (None, "cpu", torch.device("cpu"), torch.device("cpu:0")):
            with tally.torch.Step(self.group, V, device=name) as step:
                self.assertEqual(step.ordinal, tally._cuda.HOST)
        for name in ("cpu:", "cpu:x", "tpu:0"):
            with self.assertRaisesRegex(tally.errors.InvalidError, name):
                tally.torch.Step(self.group, V, device=name)

    def test_a_device_that_is_not_driven_is_refused_with_reason(self):
        self.step.begin()
        with self.assertRaisesRegex(tally.TallyError, "lies on meta"):
            self.step.count(torch.empty(1, dtype=torch.int64, device="meta"))
        self.reduced_rest()

    def reduced_rest(self):
        self.step.count(None)
        self.step.reduce()
        self.step.end()


class ScalarReads(TorchDispatchMode):
    """Notes each read of a tensor by the host: .item(), bool(), tolist()."""

    def __init__(self):
        super().__init__()
        self.reads = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            self.reads += 1
        return function(*args, **(kwargs or {}))


class SyncAudit(unittest.TestCase):
    def run_a_step(self, device):
        with tally.Tally() as opened, tally.Group(opened) as group:
            module = TallyLoss(V, group, device=device)
            hidden = torch.randn(4, V, device=device, requires_grad=True)
            labels = torch.randint(0, V, (4,), device=device)
            module.begin([labels])
            module(hidden * 1, labels, None).backward()
            module.end()
            module.result()
            module.close()

    def test_a_step_reads_no_tensor_on_the_host(self):
        with ScalarReads() as mode:
            self.run_a_step("cpu")
            self.assertEqual(mode.reads, 0)
            torch.ones(1).item()  # the audit can fail
            self.assertEqual(mode.reads, 1)

    def test_a_step_synchronises_no_stream(self):
        if not torch.cuda.is_available():
            self.skipTest("there is no GPU, whose debug mode this needs")
        torch.cuda.set_sync_debug_mode("error")
        try:
            self.run_a_step("cuda")
        finally:
            torch.cuda.set_sync_debug_mode("default")
