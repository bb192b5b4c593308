# SPDX-License-Identifier: BSD-3-Clause
"""The model, the batches of every rank, and the reference gradient. All of it is
made anew from a seed by each rank, so nothing is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Optional

import torch
import torch.nn.functional as functional
from torch import nn

from tally._abi import IGNORE_INDEX
from tally.torch import sum_cross_entropy

VOCAB = 32
HIDDEN = 16
INNER = 24
HEADS = 2
ROWS = 2
LENGTH = 8

# How the labels of a step are spread.
SCENARIOS = ("even", "uneven", "silent rank", "empty step", "packed", "weights")


class MicroBatch(NamedTuple):
    inputs: torch.Tensor
    labels: torch.Tensor
    weights: Optional[torch.Tensor]

    def columns(self, part: torch.Tensor) -> MicroBatch:
        """A part of the sequence, by its positions."""
        weights = self.weights[:, part] if self.weights is not None else None
        return MicroBatch(
            self.inputs[:, part].contiguous(),
            self.labels[:, part].contiguous(),
            None if weights is None else weights.contiguous(),
        )

    def rows(self) -> list[MicroBatch]:
        """A micro-batch a row, as pipelines take them."""
        return [
            MicroBatch(
                self.inputs[row : row + 1],
                self.labels[row : row + 1],
                None if self.weights is None else self.weights[row : row + 1],
            )
            for row in range(self.inputs.shape[0])
        ]


class Model(nn.Module):
    """Small enough for a hundred cases, with every kind of sharding in it."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, HIDDEN)
        self.up = nn.Linear(HIDDEN, INNER)
        self.down = nn.Linear(INNER, HIDDEN, bias=False)
        self.head = nn.Linear(HIDDEN, VOCAB, bias=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.last(self.first(inputs))
        return logits

    def first(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.embedding(inputs)
        inner: torch.Tensor = self.down(torch.tanh(self.up(hidden)))
        return hidden + inner

    def last(self, hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(hidden)
        return logits


class AttentionModel(Model):
    """Tokens of a sequence see those before them."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.Linear(HIDDEN, 3 * HIDDEN, bias=False)
        self.attend = causal_attention

    def first(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = super().first(inputs)
        rows, length, _ = hidden.shape
        parts = self.attention(hidden).view(rows, length, 3, HEADS, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # [rows, heads, ...]
        seen = self.attend(query, key, value).transpose(1, 2)
        return hidden + seen.reshape(hidden.shape)


def causal_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> torch.Tensor:
    return functional.scaled_dot_product_attention(
        query, key, value, is_causal=True
    )


def model(kind: Callable[[], Any] = Model) -> Any:
    """The same on every rank."""
    torch.manual_seed(1234)
    return kind()


def batches(scenario: str, data_rank: int, count: int) -> list[MicroBatch]:
    """The micro-batches of one data-parallel rank."""
    found = []
    for index in range(count):
        seed = 1000 * SCENARIOS.index(scenario) + 10 * data_rank + index
        source = torch.Generator().manual_seed(seed)
        shape = (ROWS, LENGTH)
        inputs = torch.randint(0, VOCAB, shape, generator=source)
        labels = torch.randint(0, VOCAB, shape, generator=source)
        weights = None
        _ignore(scenario, data_rank, index, labels)
        if scenario == "weights":
            weights = torch.rand(shape, generator=source) * 2
        found.append(MicroBatch(inputs, labels, weights))
    return found


def _ignore(
    scenario: str, data_rank: int, index: int, labels: torch.Tensor
) -> None:
    """Takes labels out, in place."""
    tokens = labels.numel()
    flat = labels.view(-1)
    if scenario in ("uneven", "weights", "silent rank"):
        # No two ranks and no two micro-batches are alike.
        keep = 1 + (tokens - 1) * (1 + data_rank + 3 * index) // 14 % tokens
        flat[keep:] = IGNORE_INDEX
    if scenario == "empty step" or (
        scenario == "silent rank" and data_rank == 1
    ):
        flat[:] = IGNORE_INDEX
    if scenario == "packed":
        # Documents of a length of their own, each with a prompt, end to end.
        length = 3 + data_rank + index
        for start in range(0, tokens, length):
            flat[start : start + 1 + data_rank] = IGNORE_INDEX


def reference(
    scenario: str,
    data_ranks: list[int],
    count: int,
    kind: Callable[[], Any] = Model,
) -> dict[str, torch.Tensor]:
    """The gradient of the mean over all tokens, in float64, on one process."""
    whole = model(kind).double()
    total = torch.zeros((), dtype=torch.float64)
    weight = torch.zeros((), dtype=torch.float64)
    for data_rank in data_ranks:
        for batch in batches(scenario, data_rank, count):
            weights = batch.weights
            if weights is not None:
                weights = weights.double()
            total = total + sum_cross_entropy(
                whole(batch.inputs), batch.labels, weights
            )
            counts = batch.labels != IGNORE_INDEX
            each = torch.ones_like(counts) if weights is None else weights
            weight = weight + each[counts].sum()
    loss = total / weight if weight > 0 else total * 0
    loss.backward()  # type: ignore[no-untyped-call]
    return {
        name: parameter.grad
        for name, parameter in whole.named_parameters()
        if parameter.grad is not None
    }
