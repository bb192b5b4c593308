# SPDX-License-Identifier: BSD-3-Clause
"""tally.vocab_parallel: ranks as processes, each with some columns of the logits,
against a loss that has whole rows; in pairs of tensor-parallel ranks, two of which
have other tokens."""

import tempfile
import unittest

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

import tally.torch
from tally.conformance import forks
from tally.errors import InvalidError
from tally.torch import IGNORE_INDEX, TallyLoss
from tally.vocab_parallel import VocabParallelLoss, vocab_parallel_cross_entropy

TOKENS = 6
SHAPES = {}, {"label_smoothing": 0.1, "z_loss": 1e-3, "soft_cap": 9.0}


def batch_of(replica, vocab, dtype):
    generator = torch.Generator().manual_seed(replica)
    logits = 4 * torch.randn(2, TOKENS, vocab, generator=generator)
    labels = torch.randint(0, vocab, (2, TOKENS), generator=generator)
    labels[0, : replica + 1] = IGNORE_INDEX
    weights = torch.rand(2, TOKENS, generator=generator) + 0.5
    return logits.to(dtype).requires_grad_(), labels, weights


def run_step(loss, logits, labels, weights=None, follows=1.0):
    """Returns the value, with the gradient in logits.grad, and the totals."""
    loss.begin([labels], None if weights is None else [weights])
    value = loss(logits, labels, weights)
    (value * follows).backward()
    loss.end()
    (totals,) = loss.result(wait=True).channels
    return value.detach(), totals


class Ranks:
    """Four ranks: tensor-parallel 0 and 1, 2 and 3; data-parallel 0 and 2, 1 and
    3, as Megatron and torchtitan have them."""

    def __init__(self):
        self.mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
        self.tp = self.mesh.get_group("tp")
        self.tally = tally.torch.open()
        self.group = tally.torch.group(self.tally, self.mesh.get_group("dp"))
        self.replica = dist.get_rank(self.mesh.get_group("dp"))
        self.place = dist.get_rank(self.tp)

    def close(self):
        self.group.close()
        self.tally.close()


def assert_near(got, want, dtype):
    digits = {torch.float32: 1e-5, torch.bfloat16: 2**-7, torch.float16: 2**-10}
    torch.testing.assert_close(
        got.double(), want.double(), rtol=digits[dtype], atol=1e-7
    )


def compare(ranks, vocab, dtype, shape, as_tensors):
    """Columns of a vocabulary that is padded to an even number."""
    whole = TallyLoss(vocab, ranks.group, **shape)
    logits, labels, weights = batch_of(ranks.replica, vocab, dtype)
    want, wanted = run_step(whole, logits, labels, weights, 0.5)
    width = -(-vocab // 2)
    begin = ranks.place * width
    padded = torch.nn.functional.pad(
        logits.detach(), (0, 2 * width - vocab), value=1000.0
    )
    loss = VocabParallelLoss(
        vocab, ranks.group, None if as_tensors else ranks.tp, **shape
    )
    if as_tensors:
        mine = distribute_tensor(
            logits.detach(), ranks.mesh["tp"], [Shard(2)]
        ).requires_grad_()
    else:
        mine = padded[..., begin : begin + width].clone().requires_grad_()
    value, totals = run_step(loss, mine, labels, weights, 0.5)
    assert_near(value, want, torch.float32)
    assert totals.count == wanted.count and totals.weight == wanted.weight
    assert abs(totals.loss_sum - wanted.loss_sum) < 1e-5 * wanted.loss_sum
    grad = mine.grad.to_local() if as_tensors else mine.grad
    columns = min(width, vocab - begin)
    assert_near(
        grad[..., :columns], logits.grad[..., begin : begin + columns], dtype
    )
    assert not grad[..., columns:].any()
    # The same bits at all tensor-parallel ranks.
    values = [torch.empty_like(value) for _ in range(2)]
    dist.all_gather(values, value, group=ranks.tp)
    assert torch.equal(values[0], values[1])
    loss.close()
    whole.close()


def compare_all(ranks):
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for shape in SHAPES:
            for vocab in (64, 101):
                for as_tensors in (False, True):
                    compare(ranks, vocab, dtype, shape, as_tensors)


def refuse(ranks):
    loss = VocabParallelLoss(8, ranks.group)
    labels = torch.zeros(4, dtype=torch.int64)
    loss.begin([labels])
    try:
        for logits in (
            torch.zeros(4, 4),
            distribute_tensor(torch.zeros(4, 8), ranks.mesh["tp"], [Shard(0)]),
            distribute_tensor(
                torch.zeros(4, 8), ranks.mesh, [Shard(0), Shard(1)]
            ),
        ):
            try:
                loss(logits, labels)
            except InvalidError:
                continue
            raise AssertionError("taken")
        # Of no use, but not wrong: nothing asks for a gradient.
        local = torch.zeros(4, 4)
        value = vocab_parallel_cross_entropy(
            local, labels, loss.step, process_group=ranks.tp
        )
        assert not value.requires_grad and value > 0
    finally:
        loss.end()
    loss.close()


def as_rank(rank, folder, work):
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=4
    )
    ranks = Ranks()
    work(ranks)
    ranks.close()
    dist.destroy_process_group()


class VocabParallelTest(unittest.TestCase):
    def run_ranks(self, work):
        with tempfile.TemporaryDirectory() as folder:
            children = [
                forks.fork(as_rank, rank, folder, work) for rank in range(4)
            ]
            self.assertEqual(forks.told(forks.wait(children)), "")

    def test_columns_give_what_whole_rows_give(self):
        self.run_ranks(compare_all)

    def test_logits_of_another_kind_are_refused(self):
        self.run_ranks(refuse)


if __name__ == "__main__":
    unittest.main()
