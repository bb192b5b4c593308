# SPDX-License-Identifier: BSD-3-Clause
"""What a loss makes of what an engine, or an Accelerator, says of itself."""

import math
import os
import tempfile
import unittest
from types import SimpleNamespace
from unittest import mock

import torch
import torch.distributed as dist

from torch.distributed.device_mesh import init_device_mesh
from transformers import PretrainedConfig, TrainingArguments
from transformers.trainer_pt_utils import LabelSmoother

import tally.torch
from tally.errors import InvalidError, OrderError
from tally.integrations.accelerate import AccelerateLoss
from tally.integrations.deepspeed import DeepSpeedLoss
from tally.integrations.torchft import ReplicaLoss
from tally.integrations.torchtitan import TallyLoss, TallyStep
from tally.integrations.transformers import TallyTrainer


class Engine:
    """An engine of one rank, as far as a loss asks it."""

    device = "cpu"
    sequence_parallel_size = 1
    gradient_average = True

    def __init__(self):
        self.seq_data_parallel_group = dist.group.WORLD
        self.steps = 3

    def gradient_accumulation_steps(self):
        return self.steps


class Accelerator:
    """Of one rank, in two dimensions that hold different tokens."""

    device = torch.device("cpu:0")
    gradient_accumulation_steps = 4

    def __init__(self):
        names = ("dp_shard", "cp")
        mesh = init_device_mesh("cpu", (1, 1), mesh_dim_names=names)
        mesh[names]._flatten("dp_cp")
        self.torch_device_mesh = mesh


class Manager:
    """torchft's: averages over the groups that take part; after an error gives back
    what it was given."""

    def __init__(self, others, failed=False):
        self.others, self.failed = others, failed

    def allreduce(self, tensor):
        assert tensor.is_floating_point()  # as torchft's asks
        if not self.failed:
            tensor.add_(sum(self.others)).div_(1 + len(self.others))
        return self

    def wait(self):
        pass


class Dims:
    """torchtitan's of one rank, which has no mesh of several."""

    pp_enabled = cp_enabled = False

    def get_optional_mesh(self, name):
        self.asked = name


class Trainer:
    """torchtitan's, of one rank and two micro-batches a step, as far as TallyStep
    and a loss see it."""

    device = torch.device("cpu")
    gradient_accumulation_steps = 2
    num_pipeline_parallel_microbatches = 1
    closed = False

    def __init__(self, config):
        self.parallel_dims = Dims()
        self.loss_fn = config.loss.build()
        self.config = config

    def train(self):
        self.total = self.train_step(iter(self.batches))

    def close(self):
        self.closed = True

    def train_step(self, data_iterator):
        total = 0
        for _ in range(self.gradient_accumulation_steps):
            logits, labels = next(data_iterator)
            loss, _ = self.loss_fn(logits, labels, global_valid_tokens=99)
            loss.backward()
            total += loss.item()
        return total


class MyTrainer(TallyStep, Trainer):
    pass


def titan_config(vocab=8):
    training = SimpleNamespace(disable_cuda_graphs=True)
    return SimpleNamespace(training=training, loss=TallyLoss.Config(vocab=vocab))


def titan_batches():
    """The two micro-batches of its step, with four tokens."""
    return [
        (torch.zeros(1, 3, 8, requires_grad=True), torch.tensor(labels))
        for labels in ([[1, -100, -100]], [[1, 2, 3]])
    ]


class Bigrams(torch.nn.Module):
    """As much of a causal language model as transformers' Trainer asks for."""

    def __init__(self):
        super().__init__()
        self.rows = torch.nn.Embedding(8, 8)
        self.config = PretrainedConfig()

    def forward(self, input_ids, labels=None, **_):
        return {"logits": self.rows(input_ids)}


class ContextRank:
    """Of two that share sequences: parallel_dims, and its mesh."""

    cp_enabled = True

    def __init__(self, rank):
        self.rank = rank

    def get_mesh(self, name):
        return {"cp": self}[name]

    def get_local_rank(self):
        return self.rank

    def size(self):
        return 2


class EngineLossTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        store = os.path.join(cls.folder.name, "store")
        dist.init_process_group(
            "gloo", init_method=f"file://{store}", rank=0, world_size=1
        )
        cls.opened = tally.torch.open()

    @classmethod
    def tearDownClass(cls):
        cls.opened.close()
        dist.destroy_process_group()
        cls.folder.cleanup()

    def test_the_scale_undoes_the_division_by_micro_batches(self):
        engine = Engine()
        loss_fn = DeepSpeedLoss(engine, 8, self.opened)
        for engine.steps in (3, 1):  # a batch size may change in a run
            labels = torch.tensor([1, 2, 3, 4, 5])
            loss_fn.begin([labels] + [None] * (engine.steps - 1))
            self.assertAlmostEqual(loss_fn.scale.item(), engine.steps / 5)
            loss_fn.end()
        loss_fn.close()

    def test_another_number_of_micro_batches_is_refused(self):
        loss_fn = DeepSpeedLoss(Engine(), 8, self.opened)
        with self.assertRaisesRegex(InvalidError, "2 micro-batches.*steps = 3"):
            loss_fn.begin([None, None])
        loss_fn.close()

    def test_accelerate_divides_a_short_step_by_as_many(self):
        loss_fn = AccelerateLoss(Accelerator(), 8, self.opened)
        loss_fn.begin([torch.tensor([1, 2, 3, 4, 5]), None])
        self.assertAlmostEqual(loss_fn.scale.item(), 4 / 5)
        loss_fn.end()
        loss_fn.close()

    def torchft_factor(self, labels, manager):
        group = tally.torch.group(self.opened)
        loss_fn = ReplicaLoss(manager, tally.torch.TallyLoss(8, group))
        loss_fn.begin([torch.tensor(labels)])
        factor = loss_fn.factor.item()
        # The mean over this group's tokens, each of which has ln 8.
        logits = torch.zeros(1, len(labels), 8, requires_grad=True)
        loss = loss_fn(logits, torch.tensor([labels]))
        mean = math.log(8) if any(each >= 0 for each in labels) else 0
        self.assertAlmostEqual(loss.item(), factor * mean, places=5)
        loss_fn.end()
        loss_fn.loss.close()
        group.close()
        return factor

    def test_torchfts_groups_weigh_by_their_tokens(self):
        # Averaged over both groups, the sum over four tokens by four.
        factor = self.torchft_factor([1, 2, 3], Manager([1.0]))
        self.assertAlmostEqual(factor / 2, 3 / 4)
        self.assertEqual(self.torchft_factor([-100, -100], Manager([4.0])), 0)
        self.assertEqual(self.torchft_factor([-100], Manager([0.0])), 0)

    def test_after_an_error_of_torchft_a_group_has_its_own_mean(self):
        # Which should_commit() discards: but nothing is NaN until then.
        self.assertEqual(self.torchft_factor([1, 2, 3], Manager([1.0], True)), 1)

    def transformers_evaluation(self, devices, average, smoothing=0.0):
        """Of four sequences at once, over the devices of nn.DataParallel; and what
        it should be."""
        model, group = Bigrams(), tally.torch.group(self.opened)
        none = [-100] * 3
        labels = torch.tensor([[0, 1, -100, 3], [4, *none], [5, *none], [0, 1, 2, 3]])
        inputs = labels.abs() % 8
        rows = [
            {"input_ids": inputs[row], "labels": labels[row]} for row in range(4)
        ]
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                use_cpu=True,
                per_device_eval_batch_size=4 // devices,
                average_tokens_across_devices=average,
                label_smoothing_factor=smoothing,
                report_to=[],
                disable_tqdm=True,
            )
            # DataParallel without a GPU gives the model all that it has.
            arguments._n_gpu = devices
            trainer = TallyTrainer(model=model, args=arguments, vocab=8, group=group)
            found = trainer.evaluate(rows)["eval_loss"]
        self.assertEqual(trainer.tally_loss.channel.label_smoothing, smoothing)
        trainer.tally_loss.close()
        group.close()
        smoother = LabelSmoother(epsilon=smoothing)
        mean = smoother({"logits": model.rows(inputs)}, labels, shift_labels=True)
        return found, mean.item()

    def test_transformers_evaluates_on_several_devices_as_on_one(self):
        for devices in (1, 2):
            for average in (True, False):
                with self.subTest(devices=devices, average=average):
                    found, mean = self.transformers_evaluation(devices, average)
                    self.assertAlmostEqual(found, mean, places=5)

    def test_transformers_label_smoothing_is_what_it_was(self):
        plain, _ = self.transformers_evaluation(1, True)
        found, mean = self.transformers_evaluation(1, True, 0.25)
        self.assertAlmostEqual(found, mean, places=5)
        self.assertGreater(abs(found - plain), 1e-3)

    def test_torchtitans_step_counts_all_micro_batches_first(self):
        config = SimpleNamespace(training=SimpleNamespace())
        config.loss = TallyLoss.Config(vocab=8)
        config.training.disable_cuda_graphs = True
        trainer = MyTrainer(config)
        trainer.batches = titan_batches()
        trainer.train()
        # Each of four tokens weighs a quarter.
        self.assertAlmostEqual(trainer.total, math.log(8), places=6)
        for logits, _ in trainer.batches:
            at = logits.grad[0, 0, 1].item()
            self.assertAlmostEqual(at, (1 / 8 - 1) / 4, places=6)
        self.assertEqual(trainer.parallel_dims.asked, "loss")
        trainer.close()
        self.assertTrue(trainer.closed and trainer.loss_fn.loss.step.closed)

    def test_an_error_in_torchtitans_step_is_not_replaced_by_tallys(self):
        def fail(_gradient):
            raise MemoryError("of the device")

        trainer = MyTrainer(titan_config())
        (first, _), second = batches = titan_batches()
        first.register_hook(fail)
        with self.assertRaisesRegex(MemoryError, "of the device"):
            trainer.train_step(iter(batches))
        # That step is over.
        trainer.train_step(iter(titan_batches()))
        self.assertEqual(trainer.loss_fn.loss.result(wait=True).epoch, 2)
        trainer.loss_fn.begin([second[1]])
        # As torchtitan's main does: what is its own is closed.
        with self.assertLogs("tally", "WARNING") as logged:
            trainer.close()
        self.assertIn("epoch 3 has not ended", logged.output[0])
        self.assertTrue(trainer.closed)
        trainer.loss_fn.abandon()
        trainer.close()
        self.assertTrue(trainer.loss_fn.loss.step.closed)

    def test_what_torchtitans_first_step_opened_is_closed_if_it_cannot_go_on(self):
        opened = tally.torch.open()
        with mock.patch("tally.torch.open", return_value=opened):
            with self.assertRaises(InvalidError):
                MyTrainer(titan_config(-1)).train_step(iter(titan_batches()))
        self.assertTrue(opened.closed)

    def test_torchtitans_own_trainer_does_not_train_without_tallys_step(self):
        trainer = Trainer(titan_config())  # what config.build() makes
        with self.assertRaisesRegex(OrderError, "TallyStep"):
            trainer.train_step(iter(titan_batches()))

    def test_torchtitan_validates_by_sums_and_its_own_count(self):
        loss_fn = titan_config().loss.build()
        _, (logits, labels) = titan_batches()
        with torch.no_grad():  # as its validator does
            total, _ = loss_fn(logits, labels)
            mean, _ = loss_fn(logits, labels, torch.tensor(3))
        self.assertAlmostEqual(total.item(), 3 * math.log(8), places=5)
        self.assertAlmostEqual(mean.item(), math.log(8), places=6)

    def test_torchtitans_graphs_are_refused(self):
        config = SimpleNamespace(training=SimpleNamespace())
        config.loss = TallyLoss.Config(vocab=8)
        config.training.disable_cuda_graphs = False
        with self.assertRaisesRegex(InvalidError, "disable_cuda_graphs"):
            MyTrainer(config).train_step(iter([]))

    def test_torchtitans_context_ranks_count_each_label_once(self):
        labels = [torch.arange(10).view(2, 5), torch.arange(10, 14).view(1, 4)]
        counted = []
        for rank in range(2):
            step = TallyStep()
            step.parallel_dims = ContextRank(rank)
            for each in step._own(labels):
                self.assertTrue(each.is_contiguous())
                counted += each.flatten().tolist()
        self.assertEqual(sorted(counted), list(range(14)))
